"""HPM: horizontal pyramid matching, one classifier for every bin of a pyramid of stripes.

Fu et al., AAAI 2019: a model that `msgwdp` compares itself with (its Fig. 9). No text of that paper is among ours, so
all of this is what the field knows it as (`ASSUMED`). Shapes: B images, K identities, N = 15 bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from reidlib.models.backbone import CHANNELS, Backbone, stage_size
from reidlib.models.initialisation import initialise_classifiers
from reidlib.models.output import Output
from reidlib.models.pooling import adaptive_average, adaptive_maximum
from reidlib.spec import Assumed

_FIELD = "no text of HPM is among the study's; the field's usual reading"
ASSUMED = {
    "HPM: backbone": Assumed("ResNet-50, stage 4 with stride 1", because=_FIELD),
    "HPM: bins": Assumed(
        "adaptive pooling, so that rows are shared by two bins where 8 does not divide the map's height",
        because="at HPM's own 384×128 the 24 rows divide; the smaller inputs of the budgets have 8 or 12",
    ),
    "HPM: pooling": Assumed("average and maximum of a bin, summed", because=_FIELD),
    "HPM: bin head": Assumed(
        "one for each bin: linear to 256 without bias, BN, ReLU, classifier with bias",
        because=f"{_FIELD}; on a pooled bin a 1×1 convolution is a linear layer",
    ),
    "HPM: loss": Assumed("sum of the bins' cross-entropies, without label smoothing or triplet", because=_FIELD),
    "HPM: descriptor": Assumed("the bins' 256-d vectors after the ReLU, joined: 3840-d", because=_FIELD),
    "HPM: initialisation": Assumed("PyTorch's own; normal (0.01) for classifiers", because=_FIELD),
}
"""What is built here on no text of the study's. The book lists these."""


class HPM(nn.Module):
    """Horizontal pyramid matching.

    size: input height and width, only checked against the finest pyramid level. pyramid: number of bins at each level.
    pooling: "average+maximum", summed, or one of the two. width: length of a bin's vector.
    """

    def __init__(
        self,
        identities: int,
        *,
        size: tuple[int, int] = (384, 128),
        pyramid: Sequence[int] = (1, 2, 4, 8),
        pooling: str = "average+maximum",
        width: int = 256,
    ) -> None:
        super().__init__()
        rows = stage_size(size, 3)[0]  # stage 4 has stride 1
        if not pyramid or len(set(pyramid)) != len(pyramid) or not all(1 <= bins <= rows for bins in pyramid):
            raise ValueError(f"pyramid must be distinct levels of 1 to {rows} bins at {tuple(size)}, not {pyramid}")
        if pooling not in ("average+maximum", "average", "maximum"):
            raise ValueError(f"pooling must be 'average+maximum', 'average' or 'maximum', not {pooling!r}")
        self.pyramid, self.pooling = tuple(pyramid), pooling
        self.backbone = Backbone(50, last_stride=1)
        count = sum(pyramid)
        self.embed = nn.ModuleList(
            nn.Sequential(nn.Linear(CHANNELS[4], width, bias=False), nn.BatchNorm1d(width), nn.ReLU())
            for _ in range(count)
        )
        self.classifiers = nn.ModuleList(nn.Linear(width, identities) for _ in range(count))
        initialise_classifiers(self.classifiers, std=0.01)

    def forward(self, images: Tensor) -> Output:
        stages = self.backbone(images)
        bins = self.bins(stages[4]).unbind(1)  # N of B × 2048
        vectors = [embed(bin_) for embed, bin_ in zip(self.embed, bins, strict=True)]  # N of B × 256
        logits = [classifier(vector) for classifier, vector in zip(self.classifiers, vectors, strict=True)]
        maps = {f"stage{stage}": map_ for stage, map_ in stages.items()}
        return Output(embedding=torch.cat(vectors, dim=1), logits=logits, features=[], maps=maps)

    def bins(self, map_: Tensor) -> Tensor:
        """Pooled bins, coarse levels first and each level from top to bottom. B × C × h × w to B × N × C."""
        known = {"average": adaptive_average, "maximum": adaptive_maximum}
        pools = [pool for name, pool in known.items() if name in self.pooling]
        # each level B × C × bins × 1
        levels = [reduce(torch.add, [pool(map_, (bins, 1)) for pool in pools]) for bins in self.pyramid]
        return torch.cat(levels, dim=2).squeeze(3).transpose(1, 2)
