"""IDE: ResNet-50 as a plain identity classifier, the field's first baseline, with the stripes of PCB as an option.

Zheng et al. 2016, "Person Re-identification: Past, Present and Future", §3.2 ("ID-discriminative embedding"). Stripes:
Sun et al. 2018, "Beyond Part Models", §3.1, without the reduction of their channels. Shapes: B images, K identities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reidlib.models.backbone import CHANNELS, Backbone, stage_size
from reidlib.models.initialisation import initialise_classifiers
from reidlib.models.output import Output
from reidlib.models.pooling import adaptive_average


class IDE(nn.Module):
    """The last map, averaged as a whole or in equal horizontal stripes, each with a classifier of its own.

    size: input height and width; its last map must have a row for each stripe. depth: 50 or 101. last_stride: of stage
    4. stripes: 1 for the whole image.
    """

    def __init__(
        self,
        identities: int,
        *,
        size: tuple[int, int] = (256, 128),
        depth: int = 50,
        last_stride: int = 2,
        stripes: int = 1,
    ) -> None:
        super().__init__()
        rows = stage_size(size, 4 if last_stride == 2 else 3)[0]
        if not 1 <= stripes <= rows:
            raise ValueError(f"stripes must be from 1 to {rows}, the rows of the last map at {size}, not {stripes}")
        self.stripes = stripes
        self.backbone = Backbone(depth, last_stride=last_stride)
        self.classifiers = nn.ModuleList(nn.Linear(CHANNELS[4], identities) for _ in range(stripes))
        initialise_classifiers(self.classifiers, std=0.01)

    def forward(self, images: Tensor) -> Output:
        map_ = self.backbone(images)[4]  # B × 2048 × h × w
        pooled = adaptive_average(map_, (self.stripes, 1))[..., 0].unbind(2)  # stripes of B × 2048
        logits = [classify(stripe) for classify, stripe in zip(self.classifiers, pooled, strict=True)]
        return Output(torch.cat(pooled, dim=1), logits, features=list(pooled), maps={"stage4": map_})
