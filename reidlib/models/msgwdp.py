"""MSGWDP: non-local ResNet-50, a multi-scale global branch, weight-driven part fusion, two supervised stages.

Paper: the one that `reidlib.papers.msgwdp` names; lines of its text (Lnnn) are given because its copy has lost every
formula, table and figure. So most of what is built here is assumed (msgwdp.toml); where the authors' released code
says something, that is the assumption taken. Equations (W.n) are those of the book's page on the method.

The code was released twice in 2022, in two states: in June with Non-local modules and a tiny spatial attention (TSA),
in July without either. Both have four parts, whose fusion is computed and then overwritten by the plain parts, average
pooling alone, and no sum with the stage-4 map. `RELEASED` (July) and `RELEASED_JUNE` are their computations, without
the layers whose results they drop.

Shapes: B images, K identities, P parts; 384×128 gives 24×8 maps for stage 3 (1024 channels) and stage 4 (2048).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlib.models.backbone import CHANNELS, Backbone, check_stages, stage_size
from reidlib.models.initialisation import initialise_classifiers, initialise_head
from reidlib.models.output import Output
from reidlib.models.pooling import adaptive_average
from reidlib.spec import require, require_one_of

PATHS = ("1x1", "5x5", "3x3", "average", "maximum")
"""Paths of the multi-scale global branch; the first four are the released file's, the last is ours (Table 6)."""

C_P2 = ("1x1", "5x5", "3x3", "average")
"""The form of the branch that L55 calls C-P2, read as the one that was released."""

NON_LOCAL = ("dot product", "embedded Gaussian", "one channel")
"""Forms of the Non-local module; the last is the dot product at an inner width of 1 (released in June)."""

ATTENTION = ("every path", "ten weights", "without 3x3")
"""Forms of the TSA: a mask for each path; the same of exactly ten weights; none for the 3×3 path, whose last
convolution acts a second time in its place (released in June)."""

FUSIONS = ("adaptive", "adaptive by channel", "fixed", "plain")
"""What becomes of a part and its remainder part: learned weights, 0.8 and 0.2, or the part alone."""

FIXED_WEIGHTS = (0.8, 0.2)
"""Weights of the part and of its remainder part in the released files."""

PATH_WIDTH, REDUCED_WIDTH = 1024, 512
HEAD_WIDTH, PART_WIDTH = 512, 256

RELEASED = dict(nonlocal_after=(), tsa=False, residual=False, pooling="average", parts=4, fusion="plain")
"""The computation of the file released in July 2022 (2ee6d6d, the repository's last state) as options of `MSGWDP`."""

RELEASED_JUNE = RELEASED | dict(nonlocal_after=(1, 2), non_local="one channel", tsa=True, attention="without 3x3")
"""The same of the file released in June 2022 (b9c8a5d)."""


class NonLocal(nn.Module):
    """Each position gathers from all N positions: x + BN(W · g(x) · weights) (W.1; L17, Fig. 3). Keeps B × C × h × w.

    form: one of `NON_LOCAL`. The weights are θ(x)ᵀφ(x) / N, or their softmax for the embedded Gaussian (Wang et al.
    2018, §3.2).
    """

    def __init__(self, channels: int, form: str) -> None:
        super().__init__()
        self.gaussian = form == "embedded Gaussian"
        inner = 1 if form == "one channel" else channels // 2
        self.theta, self.phi, self.g = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.out = nn.Conv2d(inner, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        theta, phi, g = (layer(x).flatten(2).transpose(1, 2) for layer in (self.theta, self.phi, self.g))  # B × N × C/2
        # Neither form holds the N × N weights: 3072 × 3072 an image after stage 1 at 384×128.
        if self.gaussian:
            gathered = functional.scaled_dot_product_attention(theta, phi, g, scale=1.0)
        else:
            gathered = theta @ (phi.transpose(1, 2) @ g / g.shape[1])
        return x + self.norm(self.out(gathered.transpose(1, 2).unflatten(2, x.shape[2:])))


class TinySpatialAttention(nn.Module):
    """A mask of one number a position (W.3; L24). Takes B × C × h × w, gives B × 1 × h × w.

    bare: two convolutions of ten weights and nothing behind them, instead of BN and ReLU behind each.
    """

    def __init__(self, *, bare: bool = False) -> None:
        super().__init__()

        def convolution(kernel: int, stride: int) -> nn.Sequential:
            layers = [nn.Conv2d(1, 1, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(1), nn.ReLU()]
            return nn.Sequential(*layers[: 1 if bare else 3])

        self.coarse, self.scale = convolution(3, 2), convolution(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        coarse = self.coarse(x.mean(1, keepdim=True))  # B × 1 × h/2 × w/2
        resized = functional.interpolate(coarse, size=x.shape[2:], mode="bilinear", align_corners=True)
        return torch.sigmoid(self.scale(resized))


class MultiScale(nn.Module):
    """Parallel paths over the stage-4 map, joined by concatenation and brought back to its 2048 channels (W.2; L21).

    attention: "", or one of `ATTENTION`. Gives B × 2048 × h × w, and the mask of each path that has one, by its name.
    """

    def __init__(self, paths: Sequence[str], attention: str = "") -> None:
        super().__init__()
        self.paths = nn.ModuleDict({name: _path(name) for name in paths})
        self.twice = attention == "without 3x3"
        masked = [name for name in paths if attention and not (self.twice and name == "3x3")]
        self.masks = nn.ModuleDict({name: TinySpatialAttention(bare=attention == "ten weights") for name in masked})
        self.join = nn.Conv2d(PATH_WIDTH * len(paths), CHANNELS[4], 1)

    def forward(self, stage4: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        outputs, masks = [], {}
        for name, path in self.paths.items():
            map_ = path(stage4)  # B × 1024 × h × w
            if name in self.masks:
                masks[name] = self.masks[name](map_)
                map_ = masks[name] * map_
            elif self.twice:
                map_ = list(path.children())[-1](map_)
            outputs.append(map_)
        return self.join(torch.cat(outputs, dim=1)), masks


class AdaptiveWeights(nn.Module):
    """Two FC layers and a sigmoid: weights in (0, 1) for parts or remainder parts (W.4; L30–32).

    Takes B × P × C; gives B × P × 1, or B × P × C with `by_channel`.
    """

    def __init__(self, channels: int, *, by_channel: bool) -> None:
        super().__init__()
        self.first = nn.Linear(channels, channels // 16)
        self.second = nn.Linear(channels // 16, channels if by_channel else 1)

    def forward(self, parts: Tensor) -> Tensor:
        return torch.sigmoid(self.second(functional.relu(self.first(parts))))


class Head(nn.Module):
    """BN, LeakyReLU(0.1), linear to 512, BN; then the classifier (W.5). Takes B × C; gives B × 512 and B × K."""

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
    non_local:      one of `NON_LOCAL`.
    stages:         supervised stages, whose vectors are the descriptor: (3, 4), or (4,) without the intermediate one.
    pooling:        "average+maximum", summed, or "average": for the heads of the stages.
    paths:          paths of the multi-scale global branch, some of `PATHS`; () builds no branch.
    tsa:            whether the tiny spatial attention masks the branch's paths.
    attention:      one of `ATTENTION`: how it does.
    residual:       whether the stage-4 map is added to the branch's map.
    parts:          P; 0 builds no parts.
    fusion:         one of `FUSIONS`.
    remainder:      "neighbours" (L30) or "others" (released).
    descriptor:     "heads" (512 entries a stage) or "pooled" (the head's input, 1024 + 2048); training does not depend
                    on it.
    """

    EVALUATION_OPTIONS = ("descriptor",)

    @staticmethod
    def unread(options: Mapping[str, Any]) -> set[str]:
        """Options that the others leave without effect; and "heads", which the first records do not name."""
        effect = dict(non_local=options["nonlocal_after"], attention=options["tsa"])
        found = {name for name, read in effect.items() if not read}
        return found | ({"descriptor"} if options["descriptor"] == "heads" else set())

    def __init__(
        self,
        identities: int,
        *,
        size: tuple[int, int] = (384, 128),
        nonlocal_after: Sequence[int] = (1, 2),
        non_local: str = "dot product",
        stages: Sequence[int] = (3, 4),
        pooling: str = "average+maximum",
        paths: Sequence[str] = C_P2,
        tsa: bool = True,
        attention: str = "every path",
        residual: bool = True,
        parts: int = 6,
        fusion: str = "adaptive",
        remainder: str = "neighbours",
        descriptor: str = "heads",
    ) -> None:
        super().__init__()
        for name, value, choices in (
            ("non_local", non_local, NON_LOCAL),
            ("attention", attention, ATTENTION),
            ("pooling", pooling, ("average+maximum", "average")),
            ("fusion", fusion, FUSIONS),
            ("remainder", remainder, ("neighbours", "others")),
            ("descriptor", descriptor, ("heads", "pooled")),
        ):
            require_one_of(name, value, choices)
        check_stages("nonlocal_after", nonlocal_after, needed=False)
        require_one_of("stages", tuple(stages), ((3, 4), (4,)))
        known = set(paths) <= set(PATHS) and len(set(paths)) == len(paths)
        require(known, "paths", tuple(paths), f"distinct ones out of {PATHS}")
        for name, switch in (("tsa", tsa), ("residual", residual)):
            if switch and not paths:
                raise ValueError(f"{name} belongs to the multi-scale branch: without paths it must be False")
        _check_parts(parts, fusion, remainder, size)
        self.stages, self.pooling, self.residual = tuple(stages), pooling, residual
        self.fusion, self.remainder, self.parts, self.descriptor = fusion, remainder, parts, descriptor

        self.backbone = Backbone(50, last_stride=1)
        self.non_local = nn.ModuleDict({str(stage): NonLocal(CHANNELS[stage], non_local) for stage in nonlocal_after})
        self.stage_heads = nn.ModuleDict({str(stage): Head(CHANNELS[stage], identities) for stage in stages})
        self.multi_scale = MultiScale(paths, attention if tsa else "") if paths else None
        self.global_head = Head(CHANNELS[4], identities) if paths else None
        adaptive, by_channel = fusion.startswith("adaptive"), fusion == "adaptive by channel"
        self.part_weights = AdaptiveWeights(CHANNELS[4], by_channel=by_channel) if adaptive else None
        # Empty without parts, but there: a recipe may give the part heads a rate of their own in every row.
        self.part_heads = nn.ModuleList(_part_head(identities) for _ in range(parts))

    def forward(self, images: Tensor) -> Output:
        maps = {f"stage{stage}": map_ for stage, map_ in self.backbone(images, self.non_local).items()}
        logits, shares, vectors, tested = [], [], [], []
        for stage in sorted(self.stages, reverse=True):  # stage 4 first: its accuracy is the one that is logged
            pooled = self._pooled(maps[f"stage{stage}"])  # one or two of B × C
            vectors += pooled
            summed = sum(pooled)
            vector, scores = self.stage_heads[str(stage)](summed)
            tested.append(vector if self.descriptor == "heads" else summed)
            logits.append(scores)
            shares.append(1 / len(self.stages))
        stage4 = maps["stage4"]
        if self.multi_scale is not None and self.global_head is not None:
            map_, masks = self.multi_scale(stage4)
            map_ = map_ + stage4 if self.residual else map_
            maps |= {f"TSA {name}": mask for name, mask in masks.items()} | {"multi-scale global": map_}
            logits.append(self.global_head(functional.relu(map_.mean((2, 3))))[1])
            shares.append(1.0)
        if self.parts:
            fused = self.fused_parts(stage4).unbind(1)  # P of B × 2048
            logits += [head(part) for head, part in zip(self.part_heads, fused, strict=True)]
            shares += [1 / self.parts] * self.parts
        embedding = torch.cat(tested[::-1], dim=1)  # B × 1024 or 3072: stage 3, then stage 4
        return Output(embedding=embedding, logits=logits, features=vectors, maps=maps, shares=tuple(shares))

    def fused_parts(self, stage4: Tensor) -> Tensor:
        """Each part with its share of the remainder part (W.4). Takes B × 2048 × h × w, gives B × P × 2048."""
        parts = adaptive_average(stage4, (self.parts, 1)).squeeze(3).transpose(1, 2)
        if self.fusion == "plain":
            return parts
        remainders = remainder_parts(parts, self.remainder)
        if self.part_weights is None:
            return FIXED_WEIGHTS[0] * parts + FIXED_WEIGHTS[1] * remainders
        return self.part_weights(parts) * parts + self.part_weights(remainders) * remainders

    def _pooled(self, map_: Tensor) -> list[Tensor]:
        pooled = [map_.mean((2, 3))]
        return [*pooled, map_.amax((2, 3))] if self.pooling == "average+maximum" else pooled


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


def _check_parts(parts, fusion, remainder, size) -> None:
    require(isinstance(parts, int) and parts >= 0, "parts", parts, "a whole number from 0")
    if fusion != "plain" and parts < 2:
        raise ValueError(f"fusion needs two parts or more, not parts={parts}; give fusion='plain'")
    if fusion == "plain" and remainder != "neighbours":
        raise ValueError("remainder has no meaning with fusion='plain': leave it out")
    rows = stage_size(size, 3)[0]  # stage 4 has stride 1
    if parts > rows:
        raise ValueError(f"parts={parts} do not fit the {rows} rows of the stage-4 map at size {tuple(size)}")
