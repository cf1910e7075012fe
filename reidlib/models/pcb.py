"""PCB: one small head and one classifier for each horizontal stripe of the last map, and no global feature.

Paper: Sun, Zheng, Yang, Tian and Wang, "Beyond Part Models: Person Retrieval with Refined Part Pooling (and a Strong
Convolutional Baseline)", ECCV 2018, §3 (without its refined part pooling). The authors' code is public
(github.com/syfafterzy/PCB_RPP_for_reID); what the paper leaves unsaid is taken from there and marked below.
A baseline of MROS and MSGWDP. Shapes: B images, p stripes, K identities; a 384×128 input gives a map T of 24×8.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlib.models.backbone import CHANNELS, Backbone, stage_size
from reidlib.models.initialisation import initialise_classifiers
from reidlib.models.output import Output
from reidlib.spec import require, require_one_of

DESCRIPTORS = ("G", "H")  #: G joins the pooled vectors g, H the reduced vectors h: the paper tests both


class PCB(nn.Module):
    """The part-based convolutional baseline.

    size: input height and width. depth: 50 or 101. last_stride: of stage 4; 1 in the paper. stripes: p. width: channels
    of the reduced vectors h. descriptor: "G" (p × 2048 entries) or "H" (p × width); training does not depend on it.
    """

    EVALUATION_OPTIONS = ("descriptor",)

    def __init__(
        self,
        identities: int,
        *,
        size: tuple[int, int] = (384, 128),
        depth: int = 50,
        last_stride: int = 1,
        stripes: int = 6,
        width: int = 256,
        descriptor: str = "G",
    ) -> None:
        super().__init__()
        require(width >= 1, "width", width, "1 or more")
        require_one_of("descriptor", descriptor, DESCRIPTORS)
        check_stripes(size, (4,), last_stride, stripes)
        self.stripes, self.descriptor = stripes, descriptor

        self.backbone = Backbone(depth, last_stride=last_stride)
        reduction = nn.Conv2d(CHANNELS[4], width, 1, bias=False)
        self.reduction = nn.Sequential(reduction, nn.BatchNorm2d(width), nn.ReLU())
        self.classifiers = nn.ModuleList(nn.Linear(width, identities) for _ in range(stripes))
        nn.init.kaiming_normal_(reduction.weight, mode="fan_out", nonlinearity="relu")
        initialise_classifiers(self.classifiers)

    def forward(self, images: Tensor) -> Output:
        map_ = self.backbone(images)[4]  # B × 2048 × 24 × 8
        g = [rows_mean(map_, top, end) for top, end in stripe_rows(map_.shape[2], self.stripes)]  # p of B × 2048
        columns = torch.stack(g, dim=2).unsqueeze(3)  # B × 2048 × p × 1
        h = self.reduction(columns).squeeze(3).unbind(2)  # p of B × 256
        logits = [classifier(vector) for classifier, vector in zip(self.classifiers, h, strict=True)]  # p of B × K
        vectors = {"G": g, "H": h}[self.descriptor]
        embedding = torch.cat([functional.normalize(vector.float()) for vector in vectors], dim=1)
        return Output(embedding=embedding, logits=logits, features=g, maps={"T": map_})


def stripe_rows(height: int, stripes: int) -> list[tuple[int, int]]:
    """First row of each stripe and the row behind its last, for a map of `height` rows cut into equal stripes.

    Where `stripes` does not divide the height a stripe takes in every row it touches (as adaptive pooling does).
    """
    return [(i * height // stripes, -(-(i + 1) * height // stripes)) for i in range(stripes)]


def rows_mean(map_: Tensor, top: int, end: int) -> Tensor:
    """Global average pooling over some rows of a map: B × C × h × w to B × C, rows top … end − 1."""
    return map_[:, :, top:end].mean((2, 3))


def check_stripes(size: tuple[int, int], stages: tuple[int, ...], last_stride: int, stripes: int) -> None:
    """Raises ValueError where a stage's map for an input of `size` has fewer rows than there are stripes."""
    require(stripes >= 1, "stripes", stripes, "1 or more")
    for stage in stages:
        # A last stage of stride 1 has the map size of the stage before it.
        rows = stage_size(size, 3 if stage == 4 and last_stride == 1 else stage)[0]
        if rows < stripes:
            where = f"stage {stage} has {rows} at size={tuple(size)}, last_stride={last_stride}"
            raise ValueError(f"stripes={stripes} need as many rows; the map of {where}")
