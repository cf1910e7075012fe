"""MSGWDP: non-local ResNet-50, a multi-scale global branch, weight-driven part fusion, two supervised stages.

Paper: the one that `reidlib.papers.msgwdp` names; lines of its text (Lnnn) are given because its copy has lost every
formula, table and figure. So most of what is built here is an assumption (`ASSUMED`); where the authors' released file
says something, that is the assumption taken.

As released: no Non-local, no tiny spatial attention, no sum with the stage-4 map, average pooling alone, four parts
whose fusion is computed and then overwritten by the plain parts. `RELEASED` is that computation, without its idle
layers. Its multi-scale branch has nothing non-linear before its average pooling, so that, borders apart, all its paths
together are one linear map of the pooled stage-4 vector; the attention is what makes the scales matter.

Shapes: B images, K identities, P parts; 256×128 gives 16×8 maps for stage 3 (1024 channels) and stage 4 (2048).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlib.models.backbone import CHANNELS, Backbone, stage_size
from reidlib.models.initialisation import initialise_classifiers, initialise_head
from reidlib.models.output import Output
from reidlib.models.pooling import adaptive_average
from reidlib.spec import Assumed

PATHS = ("1x1", "5x5", "3x3", "average", "maximum")
"""Paths of the multi-scale global branch; the first four are the released file's, the last is ours (table 6)."""

C_P2 = ("1x1", "5x5", "3x3", "average")
"""The form of the branch that L55 calls C-P2, read as the one that was released."""

FUSIONS = ("adaptive", "adaptive by channel", "fixed", "plain")
"""What becomes of a part and its remainder part: learned weights, 0.8 and 0.2, or the part alone."""

FIXED_WEIGHTS = (0.8, 0.2)
"""Weights of the part and of its remainder part in the released file."""

PATH_WIDTH, REDUCED_WIDTH = 1024, 512
HEAD_WIDTH, PART_WIDTH = 512, 256

RELEASED = dict(nonlocal_after=(), tsa=False, residual=False, pooling="average", parts=4, fusion="plain")
"""The computation of the released file as options of `MSGWDP`."""

_LOST = "the sentence or formula is cut off in the text"
ASSUMED = {
    "stages: count": Assumed(
        "stage 1 to 4 are ResNet's four groups of blocks, behind the stem",
        because="L13 has a stage 0 before them, with the first convolution and pooling",
    ),
    "stride of stage 4": Assumed(1, because="not in the text; the released code has 1"),
    "Non-local: form": Assumed(
        "embedded Gaussian: softmax over all positions of θᵀφ, applied to g, then a 1×1 convolution, BN, and the sum "
        "with the input; θ, φ and g have half the channels and no bias",
        because="L17 describes three identical convolutions giving maps of one size (so nothing is sub-sampled) and is "
        "cut off there; the rest is the usual form of the module it cites; a bias of φ or g would have no effect",
    ),
    "Non-local: start": Assumed(
        "scale of its BN at 0.1",
        because="not in the text; the cited work starts at 0, the identity, where θ, φ and g have no gradient at "
        "first; 0.1 stays near the identity",
    ),
    "Non-local: place": Assumed(
        "after the last unit of the stage, before the next stage", because="L13: 'after stage1 and stage2 respectively'"
    ),
    "multi-scale branch: paths": Assumed(
        "(a) 1×1, (b) 1×1 to 512 then 5×5, (c) 1×1 to 512 then 3×3 twice, (d) 3×3 average pooling then 1×1; each of "
        "1024 channels, joined, then 1×1 to 2048; no BN and no ReLU",
        because=f"{_LOST} after 'branch 1 (' (L21); this is the released code",
    ),
    "multi-scale branch: first 3×3": Assumed(
        "512 to 1024 channels",
        because="lost; released code",
    ),
    "multi-scale branch: C-P2": Assumed("those four paths", because="L55 names it without a description that survives"),
    "multi-scale branch: sum with stage 4": Assumed(
        "after the attention, before pooling",
        because="L27 sums the branch's map with the stage-4 map, so both still are maps; the released code has no sum",
    ),
    "multi-scale branch: head": Assumed(
        "average pooling, ReLU, then a head like that of the stages with weights of its own",
        because=f"{_LOST}; L39 gives it the cross-entropy alone; released code: average pooling, ReLU, the 512-d head",
    ),
    "TSA: operations": Assumed(
        "mean over channels (0), 3×3 convolution of stride 2 without bias (9), bilinear resize (0), 1×1 scaling "
        "convolution without bias (1), sigmoid; nothing between them",
        because="L24 states four operations, ten parameters and the first operation, then is cut off; these are the "
        "four of HA-CNN's spatial attention, whose wording it has, and they have ten parameters",
    ),
    "TSA: place": Assumed(
        "its mask, taken from the stage-4 map as the paths are, multiplies the 2048-channel map of the joined paths",
        because="L24 adds it to the multi-scale module and the place is in a lost figure; the caption of table 3 (L55) "
        "names it among the branches; the joined map has no ReLU, so that its mean over channels is near zero and a "
        "mask taken from it stayed at 0.500 everywhere in the first steps of a trial",
    ),
    "parts: pooling": Assumed(
        "adaptive average pooling of the stage-4 map: rows shared by two parts where their number does not divide",
        because="the text says nothing; released code: average pooling; six parts do not divide the 16 rows of 256×128",
    ),
    "parts: remainder": Assumed(
        "the plain sum of one or two neighbours",
        because="L30 says sum; the two inner neighbours are not averaged",
    ),
    "parts: adaptive weights": Assumed(
        "one number in (0, 1) for each part and for each remainder part, from FC to 1/16 of the channels, ReLU, FC, "
        "sigmoid; the two FC layers are shared by all parts and by both sets",
        because="L30 and L32: two FC layers and a sigmoid give two sets of weights, in place of weights set by hand, "
        "which in the released code are single numbers; without the ReLU the two layers would be one; weights by "
        "channel are the other reading and have a row of their own",
    ),
    "parts: fusion": Assumed(
        "w_part · part + w_remainder · remainder, the two weights not tied to a sum of 1",
        because=f"{_LOST} (L33); the released code's 0.8 and 0.2 act so, and two sigmoids need not sum to 1",
    ),
    "parts: head": Assumed(
        "one for each part: dropout 0.5, linear to 256 without bias, BN, dropout 0.5, classifier",
        because="lost; released code (a bias before the BN would have no effect)",
    ),
    "stages: head": Assumed(
        "BN, LeakyReLU(0.1), linear to 512 without bias, BN, classifier",
        because="L34 says only FC layer; released code",
    ),
    "classifiers": Assumed(
        "linear; with bias for the parts, without for the stages and the branch",
        because="lost; released code",
    ),
    "losses' shares": Assumed(
        "cross-entropy: 1 for the branch, 1/2 each stage, 1/P each part; triplet: mean over its vectors",
        because="Eq. (9) is lost; released code: means over the stages, over the parts and over the triplets",
    ),
    "triplet: vectors": Assumed(
        "raw average- and maximum-pooled vectors of both stages",
        because="L34 takes it on both poolings; the released code, which has one, takes it before the head",
    ),
    "descriptor": Assumed(
        "512-d vectors after the last BN of the stage-3 and stage-4 heads, joined; neither the branch nor the parts",
        because="L42 begins with the pooled sums of stage 3 and is cut off; the released code joins the two 512-d "
        "vectors",
    ),
    "descriptor: side of BN": Assumed("after the BN", because="lost; released code"),
    "initialisation": Assumed(
        "linear layers of the heads: Kaiming by their outputs; BatchNorm scales there: normal (1, 0.02); classifiers: "
        "normal (0, 0.001); the rest torch's own",
        because="not known of the text; released code",
    ),
}
"""What the text does not tell about the network, and what is built here. The book lists these."""


class NonLocal(nn.Module):
    """Each position gathers from all positions: x + BN(W · softmax(θ(x)ᵀ φ(x)) · g(x)) (L17, Fig. 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.theta = nn.Conv2d(channels, inner, 1, bias=False)
        self.phi = nn.Conv2d(channels, inner, 1, bias=False)
        self.g = nn.Conv2d(channels, inner, 1, bias=False)
        self.out = nn.Conv2d(inner, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.constant_(self.norm.weight, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        theta, phi, g = (
            layer(x).flatten(2).transpose(1, 2) for layer in (self.theta, self.phi, self.g)
        )  # B × hw × C/2
        # The library's attention never holds the hw × hw weights: 2048 × 2048 an image after stage 1 at 256×128.
        gathered = functional.scaled_dot_product_attention(theta, phi, g, scale=1.0)  # B × hw × C/2
        gathered = gathered.transpose(1, 2).unflatten(2, x.shape[2:])  # B × C/2 × h × w
        return x + self.norm(self.out(gathered))  # B × C × h × w


class TinySpatialAttention(nn.Module):
    """A mask in (0, 1) from ten parameters (L24). Takes B × C × h × w, gives B × 1 × h × w."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False)
        self.scale = nn.Conv2d(1, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)  # B × 1 × h × w
        coarse = self.conv(mean)  # B × 1 × h/2 × w/2
        resized = functional.interpolate(coarse, size=x.shape[2:], mode="bilinear", align_corners=False)
        return torch.sigmoid(self.scale(resized))


class MultiScale(nn.Module):
    """Parallel paths over the stage-4 map, joined by concatenation and brought back to its 2048 channels (L21)."""

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__()
        self.paths = nn.ModuleDict({name: _path(name) for name in paths})
        self.join = nn.Conv2d(PATH_WIDTH * len(paths), CHANNELS[4], 1)

    def forward(self, stage4: Tensor) -> Tensor:
        return self.join(torch.cat([path(stage4) for path in self.paths.values()], dim=1))  # B × 2048 × h × w


class AdaptiveWeights(nn.Module):
    """Two FC layers and a sigmoid: weights in (0, 1) for parts or remainder parts (L30–32).

    Takes B × P × C; gives B × P × 1, or B × P × C with `by_channel`.
    """

    def __init__(self, channels: int, *, by_channel: bool) -> None:
        super().__init__()
        self.first = nn.Linear(channels, channels // 16)
        self.second = nn.Linear(channels // 16, channels if by_channel else 1)

    def forward(self, parts: Tensor) -> Tensor:
        return torch.sigmoid(self.second(functional.relu(self.first(parts))))


class Head(nn.Module):
    """BN, LeakyReLU(0.1), linear to 512, BN; then the classifier. Takes B × C; gives B × 512 and B × K."""

    def __init__(self, channels: int, identities: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.BatchNorm1d(channels),
            nn.LeakyReLU(0.1),
            nn.Linear(channels, HEAD_WIDTH, bias=False),
            nn.BatchNorm1d(HEAD_WIDTH),
        )
        self.classifier = nn.Linear(HEAD_WIDTH, identities, bias=False)
        initialise_head(self.embed)
        initialise_classifiers(self.classifier)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.embed(pooled)
        return embedded, self.classifier(embedded)


def remainder_parts(parts: Tensor, of: str = "neighbours") -> Tensor:
    """The remainder part of each part. parts: B × P × C, from top to bottom; gives the same shape.

    of: "neighbours" sums the part above and the part below (at either end there is one, L30); "others" sums all other
    parts (released code).
    """
    if of == "others":
        return parts.sum(1, keepdim=True) - parts
    padded = functional.pad(parts, (0, 0, 1, 1))
    return padded[:, :-2] + padded[:, 2:]


class MSGWDP(nn.Module):
    """MSGWDP with every switch that its tables turn.

    identities:     K, the training identities.
    size:           input height and width; only checked against the number of parts.
    nonlocal_after: stages followed by a Non-local module.
    stages:         supervised stages, whose vectors are the descriptor: (3, 4), or (4,) without the intermediate one.
    pooling:        "average+maximum", summed, or "average": for the heads of the stages.
    paths:          paths of the multi-scale global branch, some of `PATHS`; () builds no branch.
    tsa:            whether the tiny spatial attention masks the branch's map.
    residual:       whether the stage-4 map is added to the branch's map.
    parts:          P; 0 builds no parts.
    fusion:         one of `FUSIONS`.
    remainder:      "neighbours" (L30) or "others" (released).
    """

    def __init__(
        self,
        identities: int,
        *,
        size: tuple[int, int] = (256, 128),
        nonlocal_after: Sequence[int] = (1, 2),
        stages: Sequence[int] = (3, 4),
        pooling: str = "average+maximum",
        paths: Sequence[str] = C_P2,
        tsa: bool = True,
        residual: bool = True,
        parts: int = 6,
        fusion: str = "adaptive",
        remainder: str = "neighbours",
    ) -> None:
        super().__init__()
        _check_stages(nonlocal_after, stages, pooling)
        _check_branch(paths, tsa, residual)
        _check_parts(parts, fusion, remainder, size)
        self.stages, self.pooling, self.residual = tuple(stages), pooling, residual
        self.fusion, self.remainder, self.parts = fusion, remainder, parts

        self.backbone = Backbone(50, last_stride=1)
        self.non_local = nn.ModuleDict({str(stage): NonLocal(CHANNELS[stage]) for stage in nonlocal_after})
        self.stage_heads = nn.ModuleDict({str(stage): Head(CHANNELS[stage], identities) for stage in stages})
        self.multi_scale = MultiScale(paths) if paths else None
        self.tsa = TinySpatialAttention() if tsa else None
        self.global_head = Head(CHANNELS[4], identities) if paths else None
        adaptive = fusion in ("adaptive", "adaptive by channel")
        by_channel = fusion == "adaptive by channel"
        self.part_weights = AdaptiveWeights(CHANNELS[4], by_channel=by_channel) if adaptive else None
        # Empty without parts, but there: a recipe may give the part heads a rate of their own in every row.
        self.part_heads = nn.ModuleList(_part_head(identities) for _ in range(parts))

    def forward(self, images: Tensor) -> Output:
        maps = self._stage_maps(images)  # {"stage1": …}
        logits, shares, vectors, embedded = [], [], [], []
        for stage in sorted(self.stages, reverse=True):  # stage 4 first: its accuracy is the one that is logged
            pooled = self._pooled(maps[f"stage{stage}"])  # one or two of B × C
            vectors += pooled
            vector, scores = self.stage_heads[str(stage)](sum(pooled))
            embedded.append(vector)
            logits.append(scores)
            shares.append(1 / len(self.stages))
        stage4 = maps["stage4"]
        if self.global_head is not None:
            map_ = self._global_map(stage4, maps)
            logits.append(self.global_head(functional.relu(map_.mean((2, 3))))[1])
            shares.append(1.0)
        if self.parts:
            fused = self.fused_parts(stage4).unbind(1)  # P of B × 2048
            logits += [head(part) for head, part in zip(self.part_heads, fused, strict=True)]
            shares += [1 / self.parts] * self.parts
        embedding = torch.cat(embedded[::-1], dim=1)  # B × 1024: stage 3, then stage 4
        return Output(embedding=embedding, logits=logits, features=vectors, maps=maps, shares=tuple(shares))

    def fused_parts(self, stage4: Tensor) -> Tensor:
        """Each part with its share of the remainder part. Takes B × 2048 × h × w, gives B × P × 2048."""
        parts = adaptive_average(stage4, (self.parts, 1)).squeeze(3).transpose(1, 2)
        if self.fusion == "plain":
            return parts
        remainders = remainder_parts(parts, self.remainder)
        if self.fusion == "fixed":
            return FIXED_WEIGHTS[0] * parts + FIXED_WEIGHTS[1] * remainders
        assert self.part_weights is not None, "built for the adaptive fusions"
        return self.part_weights(parts) * parts + self.part_weights(remainders) * remainders

    def _stage_maps(self, images: Tensor) -> dict[str, Tensor]:
        """Map of each stage, after its Non-local module where it has one."""
        maps = {}
        x = self.backbone.stem(images)
        for stage in (1, 2, 3, 4):
            x = getattr(self.backbone, f"stage{stage}")(x)
            if str(stage) in self.non_local:
                x = self.non_local[str(stage)](x)
            maps[f"stage{stage}"] = x
        return maps

    def _pooled(self, map_: Tensor) -> list[Tensor]:
        pooled = [map_.mean((2, 3))]
        return [*pooled, map_.amax((2, 3))] if self.pooling == "average+maximum" else pooled

    def _global_map(self, stage4: Tensor, maps: dict[str, Tensor]) -> Tensor:
        """The branch's final map, B × 2048 × h × w; leaves it and the attention's mask in `maps`."""
        assert self.multi_scale is not None, "built together with the head of this branch"
        map_ = self.multi_scale(stage4)
        if self.tsa is not None:
            maps["TSA"] = self.tsa(stage4)  # B × 1 × h × w
            map_ = maps["TSA"] * map_
        if self.residual:
            map_ = map_ + stage4
        maps["multi-scale global"] = map_
        return map_


def _path(name: str) -> nn.Module:
    """A path of the multi-scale branch: B × 2048 × h × w to B × 1024 × h × w."""
    inputs, reduced, width = CHANNELS[4], REDUCED_WIDTH, PATH_WIDTH
    if name == "1x1":
        return nn.Conv2d(inputs, width, 1)
    if name == "5x5":
        return nn.Sequential(nn.Conv2d(inputs, reduced, 1), nn.Conv2d(reduced, width, 5, padding=2))
    if name == "3x3":
        return nn.Sequential(
            nn.Conv2d(inputs, reduced, 1),
            nn.Conv2d(reduced, width, 3, padding=1),
            nn.Conv2d(width, width, 3, padding=1),
        )
    pool = nn.AvgPool2d if name == "average" else nn.MaxPool2d
    return nn.Sequential(pool(3, stride=1, padding=1), nn.Conv2d(inputs, width, 1))


def _part_head(identities: int) -> nn.Sequential:
    head = nn.Sequential(
        nn.Dropout(0.5),
        nn.Linear(CHANNELS[4], PART_WIDTH, bias=False),
        nn.BatchNorm1d(PART_WIDTH),
        nn.Dropout(0.5),
        nn.Linear(PART_WIDTH, identities),
    )
    initialise_head(head[:-1])
    initialise_classifiers(head[-1])
    return head


def _check_stages(nonlocal_after, stages, pooling) -> None:
    if not set(nonlocal_after) <= set(CHANNELS) or len(set(nonlocal_after)) != len(nonlocal_after):
        raise ValueError(
            f"nonlocal_after must be distinct stages out of {sorted(CHANNELS)}, not {tuple(nonlocal_after)}"
        )
    if tuple(stages) not in ((3, 4), (4,)):
        raise ValueError(f"stages must be (3, 4) or (4,), not {tuple(stages)}")
    if pooling not in ("average+maximum", "average"):
        raise ValueError(f"pooling must be 'average+maximum' or 'average', not {pooling!r}")


def _check_branch(paths, tsa, residual) -> None:
    if not set(paths) <= set(PATHS) or len(set(paths)) != len(paths):
        raise ValueError(f"paths must be distinct ones out of {PATHS}, not {tuple(paths)}")
    for name, switch in (("tsa", tsa), ("residual", residual)):
        if switch and not paths:
            raise ValueError(f"{name} belongs to the multi-scale branch: without paths it must be False")


def _check_parts(parts, fusion, remainder, size) -> None:
    if fusion not in FUSIONS:
        raise ValueError(f"fusion must be one of {FUSIONS}, not {fusion!r}")
    if remainder not in ("neighbours", "others"):
        raise ValueError(f"remainder must be 'neighbours' or 'others', not {remainder!r}")
    if not isinstance(parts, int) or parts < 0:
        raise ValueError(f"parts must be a whole number from 0, not {parts!r}")
    if fusion != "plain" and parts < 2:
        raise ValueError(f"fusion needs two parts or more, not parts={parts}; give fusion='plain'")
    if fusion == "plain" and remainder != "neighbours":
        raise ValueError("remainder has no meaning with fusion='plain': leave it out")
    rows = stage_size(size, 3)[0]  # stage 4 has stride 1
    if parts > rows:
        raise ValueError(f"parts={parts} do not fit the {rows} rows of the stage-4 map at size {tuple(size)}")
