"""IDE: ResNet-50 as a plain identity classifier, the field's first baseline, with the stripes of PCB as an option.

Zheng et al. 2016, "Person Re-identification: Past, Present and Future", §3.2 ("ID-discriminative embedding"). Stripes:
Sun et al. 2018, "Beyond Part Models", §3.1, without the reduction of their channels. Neck: Luo et al. 2019, "Bag of
Tricks", §3.5. Shapes: B images, K identities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reidlib.models.backbone import CHANNELS, Backbone, stage_size
from reidlib.models.initialisation import initialise_classifiers
from reidlib.models.output import Output
from reidlib.models.pooling import adaptive_average
from reidlib.spec import require


class IDE(nn.Module):
    """The last map, averaged as a whole or in equal horizontal stripes, each with a classifier of its own.

    size: input height and width; its last map must have a row for each stripe. depth: 50 or 101. last_stride: of stage
    4. stripes: 1 for the whole image. neck: whether a BatchNorm without shift stands before each classifier, which then
    has no bias; metric losses read what goes into it, and what comes out is tested.
    """

    def __init__(
        self,
        identities: int,
        *,
        size: tuple[int, int] = (256, 128),
        depth: int = 50,
        last_stride: int = 2,
        stripes: int = 1,
        neck: bool = False,
    ) -> None:
        super().__init__()
        rows = stage_size(size, 4 if last_stride == 2 else 3)[0]
        require(1 <= stripes <= rows, "stripes", stripes, f"from 1 to {rows}, the rows of the last map at {size}")
        self.stripes = stripes
        self.backbone = Backbone(depth, last_stride=last_stride)
        self.necks = nn.ModuleList(nn.BatchNorm1d(CHANNELS[4]) for _ in range(stripes * neck))
        for layer in self.necks:
            layer.bias.requires_grad_(False)
        self.classifiers = nn.ModuleList(nn.Linear(CHANNELS[4], identities, bias=not neck) for _ in range(stripes))
        initialise_classifiers(self.classifiers, std=0.01)

    def forward(self, images: Tensor) -> Output:
        map_ = self.backbone(images)[4]  # B × 2048 × h × w
        pooled = adaptive_average(map_, (self.stripes, 1))[..., 0].unbind(2)  # stripes of B × 2048
        vectors = [layer(stripe) for layer, stripe in zip(self.necks, pooled, strict=True)] if self.necks else pooled
        logits = [classify(vector) for classify, vector in zip(self.classifiers, vectors, strict=True)]
        return Output(torch.cat(list(vectors), dim=1), logits, features=list(pooled), maps={"stage4": map_})
