"""HAMR (Hybrid Attention, Multiple Resolution): all four stages on one grid, two attentions, 21 overlapping parts.

Paper: the hybrid-attention guided network with multiple resolution features for person re-identification; §3.1
(fusion), §3.2 (SAM, eq. 1; CAM, eq. 2), §3.3 (MGO, eq. 3), §3.4 (MPFE), §3.5 (losses, eq. 4), §4.1 (sizes). The name
HAMR is this study's; the paper gives none.
As released: no attention, LeakyReLU(0.1) in MPFE, the triplet after the last BN, no DropBlock. `order="©"`,
`activation="LeakyReLU"`, `triplet="after BN"`, `dropblock_share=0` is that file; `channel_attention="separate"` is the
CAM of the CBAM file beside it.
Shapes: B images, C channels of the fused map (3840 for four stages), K identities. A 384×128 input gives maps of 96×32,
48×16, 24×8 and 24×8, and six stripes of four rows each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reidlib.models.backbone import CHANNELS, Backbone, check_stages, stage_size
from reidlib.models.initialisation import initialise_classifiers, initialise_head
from reidlib.models.output import Output
from reidlib.models.pcb import stripe_rows
from reidlib.models.pooling import adaptive_maximum
from reidlib.spec import require, require_one_of

STRIPES = 6
"""§4.1: six parts. Every window of the three divisions below is made of whole stripes."""

REDUCED = 256
"""Channels behind the 1×1 convolution of MPFE; the text gives no number, the released file has 256."""

LENGTH = 512
"""§3.4: length of the vector of one part."""

LEVELS: dict[str, list[list[tuple[int, int]]]] = {
    "MGO": [[(first, first + STRIPES + 1 - k) for first in range(k)] for k in range(1, STRIPES + 1)],
    "PCB": [[(first, first + 1) for first in range(STRIPES)]],
    "global": [[(0, STRIPES)]],
}
"""Name of a division -> its levels -> their windows as (first stripe, stripe behind the last). Level k of MGO has the k
windows of 7 − k stripes (eq. 3): the whole map at the top, single stripes at the bottom, 21 in all."""

DROPPED_FROM = 4
"""Rows from which DropBlock acts on a window: those of a single stripe at 384×128, the smallest window there."""

ACTIVATIONS = {"ReLU": nn.ReLU, "LeakyReLU": lambda: nn.LeakyReLU(0.1)}
POOLS = {"maximum": lambda window: window.amax((2, 3)), "average": lambda window: window.mean((2, 3))}
EXTRACTORS = {"MPFE": tuple(POOLS), **{f"MPFE, {pool} only": (pool,) for pool in POOLS}, "average": ()}
"""Name of an extractor -> the pools of its MPFE; "average" is the head of the rows without MPFE."""
CHANNEL_ATTENTIONS = ("sum", "mean", "separate")
TRIPLETS = ("before BN", "after BN")
TRIPLETS_OF = ("levels", "parts")


class SAM(nn.Module):
    """Spatial attention (eq. 1): M_SAM(F) = σ(f([AvgPool(F), MaxPool(F)])), both pools over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, map_: Tensor) -> Tensor:
        pooled = torch.cat([map_.mean(1, keepdim=True), map_.amax(1, keepdim=True)], dim=1)  # B × 2 × h × w
        return torch.sigmoid(self.f(pooled))  # B × 1 × h × w


class CAM(nn.Module):
    """Channel attention (eq. 2): M_CAM(F) = σ(f_multi(AvgPool(F) + MaxPool(F))), both pools over the positions.

    pooling: "sum", as eq. (2) has it; "mean", half of it; or "separate", as released:
    σ(f_multi(AvgPool(F)) + f_multi(MaxPool(F))).
    """

    def __init__(self, channels: int, *, pooling: str = "sum", reduction: int = 16) -> None:
        super().__init__()
        self.pooling = pooling
        self.f_multi = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels, bias=False),
        )

    def forward(self, map_: Tensor) -> Tensor:
        average, largest = map_.mean((2, 3)), map_.amax((2, 3))  # B × C each
        if self.pooling == "separate":
            confidence = self.f_multi(average) + self.f_multi(largest)
        else:
            confidence = self.f_multi((average + largest) * (0.5 if self.pooling == "mean" else 1.0))
        return torch.sigmoid(confidence)[:, :, None, None]  # B × C × 1 × 1


class MPFE(nn.Module):
    """Multi-pool feature extractor of one window, up to the vector that the triplet loss sees (§3.4).

    pools: both, or one of `POOLS` to measure what the other adds.
    """

    def __init__(self, channels: int, activation: str = "ReLU", pools: Sequence[str] = tuple(POOLS)) -> None:
        super().__init__()
        self.pools = pools
        # A 1×1 convolution on a pooled window of one position is a linear layer.
        self.reduce = nn.Linear(len(pools) * channels, REDUCED, bias=False)
        self.normalise = nn.BatchNorm1d(REDUCED)
        self.activation = ACTIVATIONS[activation]()
        self.fc = nn.Linear(REDUCED, LENGTH, bias=False)
        initialise_head(nn.ModuleList([self.normalise, self.fc]))  # `reduce` is a convolution there, left to torch

    def forward(self, window: Tensor) -> Tensor:
        pooled = torch.cat([POOLS[pool](window) for pool in self.pools], dim=1)  # B × 2C
        return self.fc(self.activation(self.normalise(self.reduce(pooled))))  # B × 512


class AverageExtractor(nn.Module):
    """In the place of MPFE, in the rows without it: the mean over the window and the same last layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, LENGTH, bias=False)
        initialise_head(self.fc)

    def forward(self, window: Tensor) -> Tensor:
        return self.fc(window.mean((2, 3)))  # B × 512


class HAMR(nn.Module):
    """The network of Figure 2 with every switch that Tables 6 to 10 and the released code turn.

    identities:        K, the training identities.
    size:              input height and width; the fused map has its stage-4 size, and needs at least six rows.
    stages:            which stages are fused, in the order of concatenation.
    order:             Table 9's notation: S (SAM), C (CAM) and © (concatenation) joined by "+"; what stands before ©
                       is applied to each stage, what stands behind it to the fused map. "©" alone has no attention.
    channel_attention: "sum" (eq. 2), "mean" (half of it) or "separate" (released).
    parts:             "MGO" (21 windows), "PCB" (6 stripes) or "global" (the whole map).
    extractor:         a name of `EXTRACTORS`.
    activation:        of MPFE, "ReLU" (paper) or "LeakyReLU" (released, slope 0.1).
    dropblock_share:   share of a window's rows that training leaves out where it has `DROPPED_FROM` or more; 0: none.
    triplet:           "before BN" (paper) or "after BN" (released): where the triplet loss takes its vectors.
    triplets_of:       "levels" (the vectors of a level joined, M = 6) or "parts" (each vector alone, M = 21).

    Features: one vector a triplet loss. Logits: one a part, the whole map first, each with a share of 1 / parts
    (eq. 4). Embedding: the parts' outputs of the last BN, concatenated: 21 · 512 = 10,752 entries with MGO.
    """

    drawn: Tensor | None = None  #: what `draw` has drawn for this step, on the device; None: the step draws it itself

    def __init__(
        self,
        identities: int,
        *,
        size: tuple[int, int] = (384, 128),
        stages: Sequence[int] = (1, 2, 3, 4),
        order: str = "S+©+C",
        channel_attention: str = "sum",
        parts: str = "MGO",
        extractor: str = "MPFE",
        activation: str = "ReLU",
        dropblock_share: float = 0.3,
        triplet: str = "before BN",
        triplets_of: str = "levels",
    ) -> None:
        super().__init__()
        check_stages("stages", stages)
        letters = order.split("+")
        known = "©" in letters and set(letters) <= {"S", "C", "©"} and len(set(letters)) == len(letters)
        require(known, "order", order, "© and, once each, S and C joined by '+', as in 'S+©+C'")
        require_one_of("channel_attention", channel_attention, CHANNEL_ATTENTIONS)
        require_one_of("parts", parts, LEVELS)
        require_one_of("extractor", extractor, EXTRACTORS)
        require_one_of("activation", activation, ACTIVATIONS)
        require_one_of("triplet", triplet, TRIPLETS)
        require_one_of("triplets_of", triplets_of, TRIPLETS_OF)
        require(0 <= dropblock_share < 1, "dropblock_share", dropblock_share, "a share of the rows, from 0 to below 1")
        if channel_attention != "sum" and "C" not in letters:
            raise ValueError(f"channel_attention {channel_attention!r} needs a C in order, which is {order!r}")
        if activation != "ReLU" and not EXTRACTORS[extractor]:
            raise ValueError(f"activation {activation!r} needs extractor 'MPFE': {extractor!r} has none")
        self.map_size = stage_size(size, 3)  # stage 4 keeps the size of stage 3
        if self.map_size[0] < STRIPES:
            raise ValueError(f"size {size} gives a map of {self.map_size[0]} rows; six stripes need at least {STRIPES}")
        self.stages, self.dropblock_share, self.triplet = tuple(stages), dropblock_share, triplet
        levels = LEVELS[parts]
        windows = [window for level in levels for window in level]
        self.compared = [len(level) for level in levels] if triplets_of == "levels" else [1] * len(windows)
        stripes = stripe_rows(self.map_size[0], STRIPES)
        self.rows = [(stripes[first][0], stripes[end - 1][1]) for first, end in windows]
        channels = sum(CHANNELS[stage] for stage in stages)
        fusion = letters.index("©")

        self.backbone = Backbone(50, last_stride=1, last=max(stages))
        self.stage_attention = nn.ModuleDict(
            {str(stage): _attention(letters[:fusion], CHANNELS[stage], channel_attention) for stage in stages}
        )
        self.fused_attention = _attention(letters[fusion + 1 :], channels, channel_attention)
        self.extractors = nn.ModuleList(
            MPFE(channels, activation, pools) if (pools := EXTRACTORS[extractor]) else AverageExtractor(channels)
            for _ in windows
        )
        self.necks = nn.ModuleList(nn.BatchNorm1d(LENGTH) for _ in windows)
        self.classifiers = nn.ModuleList(nn.Linear(LENGTH, identities, bias=False) for _ in windows)
        initialise_head(self.necks)
        initialise_classifiers(self.classifiers)

    def forward(self, images: Tensor) -> Output:
        g = self.backbone(images)  # {stage: B × channels × h × w}
        maps: dict[str, Tensor] = {}
        aligned = []
        for stage in self.stages:
            map_ = adaptive_maximum(g[stage], self.map_size)  # B × channels × 24 × 8
            aligned.append(_attend(self.stage_attention[str(stage)], map_, maps, where=f" stage {stage}"))
        fused = _attend(self.fused_attention, torch.cat(aligned, dim=1), maps)  # B × C × 24 × 8
        maps["F"] = fused

        share = self.dropblock_share if self.training else 0.0
        bands = [None] * len(self.rows) if self.drawn is None else self.drawn.unbind()
        cut = zip(self.rows, bands, strict=True)
        windows = [drop_block(fused[:, :, top:bottom], share, band) for (top, bottom), band in cut]
        vectors = [extract(window) for extract, window in zip(self.extractors, windows, strict=True)]  # B × 512 each
        normalised = [neck(vector) for neck, vector in zip(self.necks, vectors, strict=True)]
        logits = [classify(vector) for classify, vector in zip(self.classifiers, normalised, strict=True)]
        looked_at = iter(vectors if self.triplet == "before BN" else normalised)
        features = [torch.cat([next(looked_at) for _ in range(k)], dim=1) for k in self.compared]  # B × 512·k each
        return Output(
            embedding=torch.cat(normalised, dim=1),
            logits=logits,
            features=features,
            maps=maps,
            shares=(1 / len(logits),) * len(logits),
        )

    def draw(self) -> Tensor:
        """What `drop_block` draws in a training step, in its order: the top row of each window's band (0 for a window
        that stays whole), int64, on the CPU."""
        return torch.tensor([_drawn_top(bottom - top, self.dropblock_share) for top, bottom in self.rows])


def drop_block(window: Tensor, share: float, top: Tensor | None = None) -> Tensor:
    """The window (B × C × h × w) without a band of `share` of its rows at a random height, one for the whole batch.

    A window of fewer than `DROPPED_FROM` rows stays whole; at least one row stays. top: first row of the band as a
    tensor on the device, which is not read back; None: it is drawn.
    """
    height, band = window.shape[2], _band(window.shape[2], share)
    if band == 0:
        return window
    if top is None:
        first = _drawn_top(height, share)
        return torch.cat([window[:, :, :first], window[:, :, first + band :]], dim=2)  # B × C × (h − band) × w
    rows = torch.arange(height - band, device=window.device)
    left = window.permute(0, 2, 3, 1).index_select(1, rows + band * (rows >= top))  # so, it stays channels_last
    return left.permute(0, 3, 1, 2)


def _band(height: int, share: float) -> int:
    return min(round(share * height), height - 1) if height >= DROPPED_FROM else 0


def _drawn_top(height: int, share: float) -> int:
    band = _band(height, share)
    return int(torch.randint(height - band + 1, ())) if band else 0


def _attend(attention: nn.Module, map_: Tensor, maps: dict[str, Tensor], where: str = "") -> Tensor:
    """The map under its attentions one after the other; their masks join `maps` ("MSAM stage 1", "MCAM")."""
    for name, mask_of in attention.named_children():
        mask = mask_of(map_)
        maps[f"M{name}{where}"] = mask
        map_ = map_ * mask
    return map_


def _attention(letters: Sequence[str], channels: int, pooling: str) -> nn.ModuleDict:
    """The attentions of one map in their order, by the paper's names."""
    build = {"S": ("SAM", SAM), "C": ("CAM", lambda: CAM(channels, pooling=pooling))}
    return nn.ModuleDict({name: make() for name, make in (build[letter] for letter in letters)})
