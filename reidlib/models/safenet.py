"""SafeNet: scale normalisation and anchor-based features over the four stages of one ResNet.

Paper: "SafeNet: Scale-normalization and Anchor-based Feature Extraction Network for Person Re-identification",
IJCAI 2018; §3.2 (global branch, eq. S.1), §3.3 (anchors, eq. S.2, Table 1), §3.4 (fused, bottleneck, classifier, eq.
S.3). S.1 to S.3 are the paper's equations (1) to (3). No code was released. Where the text is silent, open-reid
(Cysu/open-reid, 2017) is the guide: its crop has the very constants of §4.1. Lnnn is a line of our copy of the text.
Shapes: B images, C channels after normalisation, K identities; a 256×128 input gives stage maps of 64×32, 32×16, 16×8
and 8×4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reidlib.models.backbone import CHANNELS, Backbone, check_stages, stage_size
from reidlib.models.initialisation import initialise_classifiers
from reidlib.models.output import Output
from reidlib.spec import require, require_one_of

ANCHOR_KERNELS = {
    "small": {"horizontal": (2, 4), "vertical": (4, 2), "square": (3, 3)},
    "middle": {"horizontal": (4, 8), "vertical": (8, 4), "square": (6, 6)},
    "large": {"horizontal": (6, 12), "vertical": (12, 6), "square": (9, 9)},
}
"""Height and width of each anchor: "middle" is Table 1; the other two sets are named in §4.3."""

ANCHOR_STRIDE = 2

DESCRIPTORS = ("global", "fused", "bottleneck", "classifier")
"""The four candidates of §4.3, "Choice of Final Pedestrian Descriptor", in the order of the network."""

AFTER_BOTTLENECK = ("ReLU, dropout", "nothing")
"""What may stand between the bottleneck's BatchNorm and the classifier; see safenet.toml, "bottleneck"."""


class ScaleNormalisation(nn.Module):
    """Brings one stage map to C channels: g^C = F(g, {W_t}) + W_s g (eq. S.1)."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, kernel in ((inputs, 1), (channels, 3), (channels, 1)):
            layers += [
                nn.Conv2d(before, channels, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
        self.trunk = nn.Sequential(*layers)
        self.shortcut = nn.Conv2d(inputs, channels, 1, bias=False)

    def forward(self, g: Tensor) -> Tensor:
        return self.trunk(g) + self.shortcut(g)  # B × C × h × w


class Anchors(nn.Module):
    """The anchors at one scale: one linear map an anchor, summed: l = l_h + l_v + l_s (eq. S.2)."""

    def __init__(self, channels: int, kernels: dict[str, tuple[int, int]]) -> None:
        super().__init__()
        for name, kernel in kernels.items():
            padding = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2)
            self.add_module(name, nn.Conv2d(channels, 1, kernel, stride=ANCHOR_STRIDE, padding=padding, bias=False))

    def forward(self, normalised: Tensor) -> Tensor:
        return sum(anchor(normalised) for anchor in self.children())  # B × 1 × h/2 × w/2


class SafeNet(nn.Module):
    """SafeNet with every switch that its tables, Figure 5 and the leave-one-anchor-out text turn.

    identities:    K, the training identities.
    size:          input height and width; the flattened local maps depend on it.
    depth:         50 or 101.
    global_scales: stages of the global branch, in the order in which they are concatenated.
    channels:      C of the scale normalisation; None leaves the stage maps as they are (Table 5, upper rows).
    local_scales:  stages of the local branch; () builds none.
    anchors:       which of "horizontal", "vertical", "square".
    anchor_size:   "small", "middle" (Table 1) or "large".
    bottleneck:    width of the bottleneck (Figure 5(c)).
    after_bottleneck: one of `AFTER_BOTTLENECK`.
    descriptor:    which of `DESCRIPTORS` is the test descriptor (Figure 5(b)); training does not depend on it.
    """

    EVALUATION_OPTIONS = ("descriptor",)

    def __init__(
        self,
        identities: int,
        *,
        size: tuple[int, int] = (256, 128),
        depth: int = 50,
        global_scales: Sequence[int] = (4, 3, 2, 1),
        channels: int | None = 256,
        local_scales: Sequence[int] = (1, 2),
        anchors: Sequence[str] = ("horizontal", "vertical", "square"),
        anchor_size: str = "middle",
        bottleneck: int = 1024,
        after_bottleneck: str = "ReLU, dropout",
        descriptor: str = "bottleneck",
    ) -> None:
        super().__init__()
        check_stages("global_scales", global_scales)
        check_stages("local_scales", local_scales, needed=False)
        require_one_of("anchor_size", anchor_size, ANCHOR_KERNELS)
        require_one_of("after_bottleneck", after_bottleneck, AFTER_BOTTLENECK)
        require_one_of("descriptor", descriptor, DESCRIPTORS)
        known = anchors and set(anchors) <= set(ANCHOR_KERNELS["middle"])
        require(known or not local_scales, "anchors", tuple(anchors), f"some of {sorted(ANCHOR_KERNELS['middle'])}")
        if local_scales and channels is None:
            raise ValueError("the local branch works on normalised maps: give channels (C) together with local_scales")
        self.descriptor = descriptor
        self.global_scales, self.local_scales = tuple(global_scales), tuple(local_scales)
        kernels = {name: ANCHOR_KERNELS[anchor_size][name] for name in anchors}

        self.backbone = Backbone(depth)
        width = channels or 0  # 0: no map is normalised
        self.global_normalisation = _normalisations(global_scales if width else (), width)
        self.local_normalisation = _normalisations(local_scales, width)
        self.anchors = nn.ModuleDict({str(scale): Anchors(width, kernels) for scale in local_scales})
        global_length = sum(width or CHANNELS[scale] for scale in global_scales)
        local_length = sum(_anchor_map_length(stage_size(size, scale), kernels) for scale in local_scales)

        linear = nn.Linear(global_length + local_length, bottleneck)
        after = (nn.ReLU(), nn.Dropout(0.5)) if after_bottleneck == "ReLU, dropout" else ()
        self.bottleneck = nn.Sequential(linear, nn.BatchNorm1d(bottleneck), *after)
        self.classifier = nn.Linear(bottleneck, identities)
        self._initialise()

    def forward(self, images: Tensor) -> Output:
        g = self.backbone(images)  # {stage: B × channels × h × w}
        local_maps = {
            f"l{scale}": self.anchors[str(scale)](self.local_normalisation[str(scale)](g[scale]))
            for scale in self.local_scales
        }
        pooled = [self._normalised(scale, g[scale]).mean((2, 3)) for scale in self.global_scales]  # B × C each
        global_ = torch.cat(pooled, dim=1)  # B × 4C
        local = [map_.flatten(1) for map_ in local_maps.values()]  # B × h/2·w/2 each
        fused = torch.cat([global_, *local], dim=1)
        bottleneck = self.bottleneck(fused)  # B × 1024
        logits = self.classifier(bottleneck)  # B × K
        descriptors = {"global": global_, "fused": fused, "bottleneck": bottleneck, "classifier": logits}
        return Output(embedding=descriptors[self.descriptor], logits=[logits], features=[bottleneck], maps=local_maps)

    def _normalised(self, scale: int, g: Tensor) -> Tensor:
        return self.global_normalisation[str(scale)](g) if self.global_normalisation else g

    def _initialise(self) -> None:
        for part in (self.global_normalisation, self.local_normalisation, self.bottleneck):
            for layer in part.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)
        initialise_classifiers(self.classifier)


def _normalisations(scales: Sequence[int], channels: int) -> nn.ModuleDict:
    return nn.ModuleDict({str(scale): ScaleNormalisation(CHANNELS[scale], channels) for scale in scales})


def _anchor_map_length(size: tuple[int, int], kernels: dict[str, tuple[int, int]]) -> int:
    """Entries of l at one scale. All anchors must give maps of one size, or the sum of eq. (S.2) has no meaning."""
    sizes = {
        tuple((side + 2 * ((k - 1) // 2) - k) // ANCHOR_STRIDE + 1 for side, k in zip(size, kernel, strict=True))
        for kernel in kernels.values()
    }
    if len(sizes) != 1 or min(min(sizes)) < 1:
        raise ValueError(f"anchors {kernels} do not share one output size on a map of {size}: {sizes}; use an even map")
    height, width = sizes.pop()
    return height * width
