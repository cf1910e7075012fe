"""HPM: horizontal pyramid matching, one classifier for every bin of a pyramid of stripes.

Fu et al., AAAI 2019: a model that `msgwdp` compares itself with (its Fig. 9). No text of that paper is among ours, so
all of this is what the field knows it as (hpm.toml). Shapes: B images, K identities, N = 15 bins.
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
from reidlib.spec import require, require_one_of


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
        known = pyramid and len(set(pyramid)) == len(pyramid) and all(1 <= bins <= rows for bins in pyramid)
        require(known, "pyramid", pyramid, f"distinct levels of 1 to {rows} bins at {tuple(size)}")
        require_one_of("pooling", pooling, ("average+maximum", "average", "maximum"))
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
