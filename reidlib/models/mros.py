"""MROS: overlapping pairs of stripes at two resolutions; a global vector for the metric losses, local ones beside it.

Paper: "Multi-Resolution Overlapping Stripes Network for Person Re-Identification", arXiv 1910.12322; §2.1
(architecture, Fig. 1), §2.2 (losses, eq. 1 to 5), §3.2 (settings I to IV of Table 1). It extends PCB, [1] in its list
(`reidlib.models.pcb`); [6] is the strong baseline of Luo et al. No code was released. Equations (M.n) are those of the
book's page on the method, eq. (n) those of the paper. Shapes: B images, s stripes, K identities; a 384×128 input gives
T3 of 1024 × 24 × 8 and T4 of 2048 × 24 × 8.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reidlib.models.backbone import CHANNELS, Backbone, check_stages
from reidlib.models.initialisation import initialise_classifiers
from reidlib.models.output import Output
from reidlib.models.pcb import DESCRIPTORS, check_stripes, rows_mean, stripe_rows
from reidlib.spec import require_one_of


class MROS(nn.Module):
    """MROS with the switches of Table 1; the defaults are setting IV, the complete model.

    identities:      K, the training identities.
    size:            input height and width.
    depth:           50 or 101.
    last_stride:     stride of block 4.
    stages:          conv blocks whose output T is cut into stripes: (3, 4) in IV, (4,) in I to III; any of 1 to 4.
    stripes:         s.
    overlapping:     whether stripes are pooled in adjacent pairs (s − 1 vectors g a level) or one by one (s vectors).
    global_features: whether the metric losses look at G, the join of all g, or at each g by itself.
    descriptor:      "G" (all g joined) or "H" (all h joined); training does not depend on it.
    """

    EVALUATION_OPTIONS = ("descriptor",)

    def __init__(
        self,
        identities: int,
        *,
        size: tuple[int, int] = (384, 128),
        depth: int = 50,
        last_stride: int = 1,
        stages: Sequence[int] = (3, 4),
        stripes: int = 6,
        overlapping: bool = True,
        global_features: bool = True,
        descriptor: str = "G",
    ) -> None:
        super().__init__()
        check_stages("stages", stages)
        if overlapping and stripes < 2:
            raise ValueError(f"overlapping needs two stripes for a pair, not stripes={stripes}")
        require_one_of("descriptor", descriptor, DESCRIPTORS)
        check_stripes(size, tuple(stages), last_stride, stripes)
        self.stages, self.stripes = tuple(stages), stripes
        self.overlapping, self.global_features, self.descriptor = overlapping, global_features, descriptor
        heads = [CHANNELS[stage] for stage in stages for _ in range(stripes - overlapping)]

        self.backbone = Backbone(depth, last_stride=last_stride)
        self.bn = nn.ModuleList(nn.BatchNorm1d(channels) for channels in heads)
        self.fc = nn.ModuleList(nn.Linear(channels, identities) for channels in heads)
        initialise_classifiers(self.fc)

    def forward(self, images: Tensor) -> Output:
        maps = self.backbone(images)
        tensors = {f"T{stage}": maps[stage] for stage in self.stages}  # B × 1024 × 24 × 8, B × 2048 × 24 × 8
        g = [vector for tensor in tensors.values() for vector in self._stripe_vectors(tensor)]  # B × 1024 or 2048 each
        h = [bn(vector) for bn, vector in zip(self.bn, g, strict=True)]
        logits = [fc(vector) for fc, vector in zip(self.fc, h, strict=True)]  # B × K each
        global_ = torch.cat(g, dim=1)  # G (M.2): B × 15360
        return Output(
            embedding=global_ if self.descriptor == "G" else torch.cat(h, dim=1),
            logits=logits,
            features=[global_] if self.global_features else g,
            maps=tensors,
            shares=[1 / len(logits)] * len(logits),  # (M.6), eq. (4)
        )

    def _stripe_vectors(self, tensor: Tensor) -> list[Tensor]:
        """The vectors g of one level (M.1), top to bottom: s − 1 pairs of adjacent stripes, or s single stripes."""
        rows = stripe_rows(tensor.shape[2], self.stripes)
        if self.overlapping:
            rows = [(upper[0], lower[1]) for upper, lower in zip(rows, rows[1:], strict=False)]
        return [rows_mean(tensor, top, end) for top, end in rows]
