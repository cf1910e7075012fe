"""The one ResNet of the study (He et al. 2016): torchvision's, cut into its four stages, and where its weights start.

The papers start from ImageNet weights. Where they are not on this machine, a run starts from the study's own start, a
ResNet-50 trained on a rendered set of its own (`standins/start`), or from scratch; its record says which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from reidlib import paths
from reidlib.spec import ReidError, require, require_one_of

CHANNELS = {1: 256, 2: 512, 3: 1024, 4: 2048}
"""Channels of the four stages of a ResNet with bottleneck units (ResNet-50, -101)."""

WEIGHTS = {50: "resnet50-0676ba61.pth", 101: "resnet101-63fe2227.pth"}
"""File names of torchvision's ImageNet weights (IMAGENET1K_V1) by depth."""


class Backbone(nn.Module):
    """ResNet without its pooling and classifier.

    depth: 50 or 101. last_stride: of stage 4, 2 (He et al.) or 1. last: the stage behind which none is built.
    """

    def __init__(self, depth: int = 50, *, last_stride: int = 2, last: int = 4) -> None:
        super().__init__()
        require_one_of("depth", depth, WEIGHTS)
        require_one_of("last_stride", last_stride, (1, 2))
        from torchvision.models import resnet50, resnet101  # takes two seconds: not for those who only list rows

        whole = {50: resnet50, 101: resnet101}[depth](weights=None)
        if last_stride == 1:
            whole.layer4[0].conv2.stride = (1, 1)
            whole.layer4[0].downsample[0].stride = (1, 1)
        self.depth, self.last = depth, last
        self.stem = nn.Sequential(whole.conv1, whole.bn1, whole.relu, whole.maxpool)
        for stage in range(1, last + 1):
            self.add_module(f"stage{stage}", getattr(whole, f"layer{stage}"))

    def forward(self, images: Tensor, behind: nn.ModuleDict | None = None) -> dict[int, Tensor]:
        """Maps B × 3 × H × W to {stage: B × channels × H/stride × W/stride}, strides 4, 8, 16, 32.

        behind: modules by a stage's number, through which its map passes before the next stage.
        """
        maps = {}
        x = self.stem(images)
        for stage in range(1, self.last + 1):
            x = getattr(self, f"stage{stage}")(x)
            if behind is not None and str(stage) in behind:
                x = behind[str(stage)](x)
            maps[stage] = x
        return maps

    def load_weights(self, file: Path) -> None:
        """Loads the stages that are built from a torchvision ResNet state dict, or from a .safetensors file with the
        names of this class, in whatever precision; any other file is a ReidError."""
        ours = file.suffix == ".safetensors"
        try:
            state = safetensors.torch.load_file(file) if ours else torch.load(file, "cpu", weights_only=True)
        except Exception as error:  # torch raises a dozen kinds; all mean the file is not a state dict
            raise ReidError(f"{file}: not a torch state dict ({type(error).__name__}); fetch it again") from error
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise ReidError(f"{file}: not a torch state dict (it holds a {type(state).__name__}); fetch it again")
        state = state if ours else _renamed(state)
        absent = tuple(f"stage{stage}." for stage in range(self.last + 1, 5))
        try:  # casts to float32
            self.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith(absent)})
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            what = f"not the weights of a torchvision ResNet-{self.depth}: {first[:160]}"
            raise ReidError(f"{file}: {what}; fetch it again") from error


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's names as those of `Backbone`, without the classifier."""
    names = {"conv1": "stem.0", "bn1": "stem.1", **{f"layer{stage}": f"stage{stage}" for stage in (1, 2, 3, 4)}}
    parts = ((name.partition("."), tensor) for name, tensor in state.items())
    return {f"{names.get(head, head)}.{rest}": tensor for (head, _, rest), tensor in parts if head != "fc"}


def check_stages(name: str, stages: Sequence[int], *, needed: bool = True) -> None:
    """Raises ValueError where these are not distinct stages of the backbone, or are none and one is needed."""
    right = set(stages) <= set(CHANNELS) and len(set(stages)) == len(stages) >= needed
    require(right, name, tuple(stages), f"{'one or more ' if needed else ''}distinct stages of {sorted(CHANNELS)}")


def stage_size(size: tuple[int, int], stage: int) -> tuple[int, int]:
    """Height and width of a stage's map for an input of `size` (H, W): each halving rounds up, as ResNet's do."""
    height, width = size
    for _ in range(stage + 1):
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width


def imagenet_file(depth: int) -> Path | None:
    """The file of ImageNet weights: in the folder `REID_WEIGHTS`, else in torchvision's cache, else None.

    Raises ReidError where that folder holds no such weights at all, for networks would start elsewhere in silence.
    """
    places = [Path(torch.hub.get_dir()) / "checkpoints"]
    if folder := paths.weights():
        if not any((folder / name).is_file() for name in WEIGHTS.values()):
            what = f"REID_WEIGHTS={folder} holds none of {', '.join(WEIGHTS.values())}"
            raise ReidError(f"{what}; give the folder of torchvision's ImageNet weights, or unset REID_WEIGHTS")
        places.insert(0, folder)
    return next((place / WEIGHTS[depth] for place in places if (place / WEIGHTS[depth]).is_file()), None)


def file_digest(file: Path) -> str:
    """First 16 hex digits of the file's SHA-256: what the key of a run keeps of its start."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


@dataclass(frozen=True)
class Start:
    """Where the weights of a ResNet come from."""

    kind: str  #: as the record says it: "imagenet", "start" or "scratch"
    digest: str = ""  #: of the file, part of the key of the run; "missing" where the start is not made yet
    file: Path | None = None

    def check(self) -> None:
        """Raises ReidError where the start is wanted and is not there, or is not the file whose digest is known."""
        if self.kind != "start" or self.file is None:
            return
        how = "train it with `reid train standins/start --budget small` and write it with `reid export`"
        known = self.file.with_suffix(".sha256")
        if self.digest == MISSING or not self.file.is_file():
            absent = known if self.digest == MISSING else self.file
            raise ReidError(f"{absent}: missing, and networks start from it; fetch it with the checkout, or {how}")
        if (found := file_digest(self.file)) != self.digest:
            what = f"its digest is {found}, and {known} says {self.digest}"
            raise ReidError(f"{self.file}: {what}; restore both, or {how}")


MISSING = "missing"


def start_of(asked: str, depth: int = 50) -> Start:
    """Where a network starts whose recipe asks for "imagenet", "start" or "scratch".

    "imagenet" falls back to the start, and that to scratch where it is not made yet. Of depth 101 there is no start.
    """
    if asked == "imagenet" and (file := imagenet_file(depth)):
        return Start("imagenet", file_digest(file), file)
    if asked == "scratch" or depth != 50:
        return Start("scratch")
    digest = ""
    with suppress(ReidError, OSError, ValueError):  # installed without a checkout, or not made yet
        digest = start_file().with_suffix(".sha256").read_text(encoding="utf-8").strip()
    if digest or asked == "start":
        return Start("start", digest or MISSING, start_file())
    return Start("scratch")


def start_file() -> Path:
    """The half-precision weights of the start in the checkout; its digest lies beside it as text, so that the keys of
    runs are known without it."""
    return paths.home() / "results" / "start" / "resnet50.safetensors"


def save_tensors(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file with the permissions of any new file. By itself safetensors makes one that its owner
    alone may read, also in a cache that a group shares."""
    file.touch()
    mode = file.stat().st_mode
    safetensors.torch.save_file(tensors, file, metadata=metadata)
    file.chmod(mode)


def write_start(weights: dict[str, Tensor], file: Path) -> str:
    """Writes weights of a `Backbone` in half precision, and their digest as text beside them; returns the digest.

    Raises ReidError for other weights, and for values that half precision cannot hold.
    """
    wanted = {name: tensor.shape for name, tensor in Backbone().state_dict().items()}
    if {name: tensor.shape for name, tensor in weights.items()} != wanted:
        raise ReidError(f"{file}: not written: the network has no ResNet-50 as its backbone; export one that has")
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    if odd := [name for name, tensor in half.items() if not tensor.isfinite().all()]:
        why = f"half precision cannot hold {odd[0]}: the network has not learned"
        raise ReidError(f"{file}: not written: {why}; export one that was trained for longer, at budget small")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with paths.atomic(file) as partial:
            save_tensors({name: tensor.contiguous() for name, tensor in half.items()}, partial)
        digest = file_digest(file)
        file.with_suffix(".sha256").write_text(f"{digest}\n", encoding="utf-8")
    except (OSError, safetensors.SafetensorError) as error:
        raise ReidError(f"{file}: cannot be written ({error}); free some space or give another place") from None
    return digest
