"""FMN: a mask predicted from the global vector of one network re-weighs the local features of a second one.

Paper: "Let Features Decide for Themselves: Feature Mask Network for Person Re-identification", arXiv 1711.07155, §3.1
(GRN, MN, LAN), §3.2 (the mask, eq. F.1 to F.3), §3.3 (Algorithm 1, eq. F.4 and F.5), §3.4 (descriptor, eq. F.6), Table
5 (which layer is masked). F.1 to F.6 are the paper's equations (1) to (6); Lnnn is a line of our copy of the text. No
code was released.
Two stages: the GRN is trained by itself; then it is held fixed inside an FMN, whose MN and LAN are trained.
Shapes: B images, K identities, c × h × w the map f that is masked: 64 × 56 × 56 for Pool1 and an input of 224×224.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlib.models.backbone import CHANNELS, Backbone, stage_size
from reidlib.models.initialisation import initialise_classifiers
from reidlib.models.output import Output
from reidlib.spec import require, require_one_of

DEPTH = 50
"""§3.1: "a total of 50 parameter layers"."""

WIDTH = CHANNELS[4]
"""Length of g and of l, 2048: the column "dim" of Table 1."""

MASKED = {"Pool1": 0, "Res2": 1, "Res3": 2, "Res4": 3}
"""The layers of Table 5 whose output may be masked -> stages of the backbone that lie before the mask."""

DESCRIPTORS = ("GRN", "LAN", "FMN")
"""The rows of Table 1: g, l, and their join (eq. F.6)."""

LARGEST_EXPONENT = 30.0
"""m′ is cut here before exp; see fmn.toml, "mask: overflow"."""


class GRN(nn.Module):
    """Global representation network: a ResNet-50 with an identity classifier (§3.1), the baseline of Tables 1 to 4.

    identities: K. size: input height and width; any size will do. dropout: share of g that is dropped before the
    classifier, in training.
    """

    @staticmethod
    def unread(options: Mapping[str, Any]) -> set[str]:
        """No dropout, which the first records do not name."""
        return set() if options["dropout"] else {"dropout"}

    def __init__(self, identities: int, *, size: tuple[int, int] = (224, 224), dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = Backbone(DEPTH)
        self.dropout = nn.Dropout(dropout)
        self.classifier = _classifier(identities)

    def forward(self, images: Tensor) -> Output:
        """The embedding is g; the maps are the layers by the names of Table 5, and Res5."""
        x = self.backbone.stem(images)  # B × 64 × H/4 × W/4
        maps = {"Pool1": x}
        for stage in CHANNELS:
            x = getattr(self.backbone, f"stage{stage}")(x)
            maps[f"Res{stage + 1}"] = x
        g = x.mean((2, 3))  # B × 2048
        return Output(embedding=g, logits=[self.classifier(self.dropout(g))], features=[g], maps=maps)


class MN(nn.Module):
    """Mixing network: predicts a mask from g and multiplies every channel of f by it (eq. F.1 to F.3).

    size: h and w, height and width of f.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.fc = nn.Linear(WIDTH, size[0] * size[1], bias=False)  # W of eq. (F.1), times √2048
        nn.init.normal_(self.fc.weight, std=0.05)

    def mask(self, g: Tensor) -> Tensor:
        """m (eq. F.1 and F.2) from g, B × 2048: float32, B × 1 × h × w, every entry at least 1."""
        height, width = self.size
        kind = "cpu" if g.is_meta else g.device.type  # where networks are counted; it has no autocast
        with torch.autocast(kind, enabled=False):  # an exponent in bf16 would be off by up to 1 part in 256
            transitional = functional.relu(self.fc(g.float() / WIDTH**0.5))  # m′: B × hw
        columns = transitional.clamp(max=LARGEST_EXPONENT).exp().view(-1, width, height)  # k runs down a column first
        return columns.transpose(1, 2).unsqueeze(1)

    def forward(self, g: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        """The mask m, B × 1 × h × w, and o (eq. F.3), B × c × h × w like f."""
        m = self.mask(g)
        return m, f * m


class LAN(nn.Module):
    """Locally attentive network: the stages of a second ResNet-50 behind the mask (§3.1).

    before: stages that lie before the mask and are not built, 0 to 3.
    """

    def __init__(self, *, before: int) -> None:
        super().__init__()
        self.depth = DEPTH
        whole = Backbone(DEPTH)
        names = [f"stage{stage}" for stage in CHANNELS if stage > before]
        self.blocks = nn.Sequential(OrderedDict((name, getattr(whole, name)) for name in names))

    def forward(self, o: Tensor) -> Tensor:
        """The last map, Res5: B × 2048 × H/32 × W/32."""
        return self.blocks(o)

    def load_weights(self, file: Path) -> None:
        """Its stages from the weights of a ResNet-50 (Algorithm 1: θo → θl), as `Backbone.load_weights`."""
        whole = Backbone(self.depth)
        whole.load_weights(file)
        for name, block in self.blocks.named_children():
            block.load_state_dict(getattr(whole, name).state_dict())


class FMN(nn.Module):
    """Feature mask network: a finished GRN, and the MN and LAN that are trained beside it.

    No gradient goes into the GRN. Its weights and BatchNorm statistics stay as the first stage left them only if the
    caller loads them and keeps `grn` in evaluation mode, as training does with a `FrozenStage(…, into="grn")`.

    identities: K.
    size:       input height and width; the mask has one weight for each place of the masked map.
    masked:     the layer whose output is masked, one of `MASKED` (Table 5).
    descriptor: which row of Table 1 is tested, one of `DESCRIPTORS`; training does not depend on it.
    alpha:      share α of the GRN in the join of eq. (F.6), 0 to 1; only the descriptor "FMN" looks at it.
    dropout:    share of l that is dropped before the LAN's classifier, in training.
    """

    EVALUATION_OPTIONS = ("descriptor", "alpha")
    unread = GRN.unread

    def __init__(
        self,
        identities: int,
        *,
        size: tuple[int, int] = (224, 224),
        masked: str = "Pool1",
        descriptor: str = "FMN",
        alpha: float = 0.5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_one_of("masked", masked, MASKED)
        require_one_of("descriptor", descriptor, DESCRIPTORS)
        require(0 <= alpha <= 1, "alpha", alpha, "a share between 0 and 1")
        self.masked, self.descriptor, self.alpha = masked, descriptor, alpha
        before = MASKED[masked]
        self.grn = GRN(identities, size=size)
        self.mn = MN(stage_size(size, max(before, 1)))  # stage 1 keeps the size of Pool1
        self.lan = LAN(before=before)
        self.dropout = nn.Dropout(dropout)
        self.classifier = _classifier(identities)  # the LAN's; here, so that a recipe names it as it does the GRN's

    def forward(self, images: Tensor) -> Output:
        """The logits are the LAN's, the reference is the GRN's; maps: the mask m, and Res5 of GRN and LAN."""
        with torch.no_grad():  # Algorithm 1, second loop: θg is fixed, the GRN only feeds forward
            grn = self.grn(images)
        g = grn.embedding  # B × 2048
        m, o = self.mn(g, grn.maps[self.masked])
        res5 = self.lan(o)  # B × 2048 × H/32 × W/32
        l = res5.mean((2, 3))  # noqa: E741 (the paper's letter): B × 2048
        descriptors = {"GRN": g, "LAN": l, "FMN": join(g, l, self.alpha)}
        return Output(
            embedding=descriptors[self.descriptor],
            logits=[self.classifier(self.dropout(l))],
            features=[l],
            maps={"m": m, "GRN": grn.maps["Res5"], "LAN": res5},
            reference=grn.logits[0],
        )


def join(g: Tensor, l: Tensor, alpha: float) -> Tensor:  # noqa: E741
    """D = [α g/‖g‖, (1 − α) l/‖l‖] (eq. F.6), in float32. g and l: B × 2048; D: B × 4096."""
    g, l = (functional.normalize(vector.float(), dim=1) for vector in (g, l))  # noqa: E741
    return torch.cat([alpha * g, (1 - alpha) * l], dim=1)


def _classifier(identities: int) -> nn.Linear:
    """One unit an identity (§4.2), started small so that the first softmax is flat."""
    classifier = nn.Linear(WIDTH, identities)
    initialise_classifiers(classifier, std=0.01)
    return classifier
