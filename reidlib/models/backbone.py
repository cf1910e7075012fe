"""The one ResNet of the study (He et al. 2016): torchvision's, cut into its four stages.

Where ImageNet weights are not on this machine, a run starts from scratch and says so in its record.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from reidlib import paths
from reidlib.spec import ReidError

CHANNELS = {1: 256, 2: 512, 3: 1024, 4: 2048}
"""Channels of the four stages of a ResNet with bottleneck units (ResNet-50, -101)."""

WEIGHTS = {50: "resnet50-0676ba61.pth", 101: "resnet101-63fe2227.pth"}
"""File names of torchvision's ImageNet weights (IMAGENET1K_V1) by depth."""


class Backbone(nn.Module):
    """ResNet without its pooling and classifier. depth: 50 or 101. last_stride: of stage 4, 2 (He et al.) or 1."""

    def __init__(self, depth: int = 50, *, last_stride: int = 2) -> None:
        super().__init__()
        if depth not in WEIGHTS:
            raise ValueError(f"depth must be one of {sorted(WEIGHTS)}, not {depth}")
        if last_stride not in (1, 2):
            raise ValueError(f"last_stride must be 1 or 2, not {last_stride}")
        from torchvision.models import resnet50, resnet101  # takes two seconds: not for those who only list rows

        whole = {50: resnet50, 101: resnet101}[depth](weights=None)
        if last_stride == 1:
            whole.layer4[0].conv2.stride = (1, 1)
            whole.layer4[0].downsample[0].stride = (1, 1)
        self.depth = depth
        self.stem = nn.Sequential(whole.conv1, whole.bn1, whole.relu, whole.maxpool)
        self.stage1, self.stage2, self.stage3, self.stage4 = whole.layer1, whole.layer2, whole.layer3, whole.layer4

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Maps B × 3 × H × W to {stage: B × channels × H/stride × W/stride}, strides 4, 8, 16, 32."""
        maps = {}
        x = self.stem(images)
        for stage in CHANNELS:
            maps[stage] = x = getattr(self, f"stage{stage}")(x)
        return maps

    def load_imagenet(self, file: Path) -> None:
        """Loads a torchvision ResNet state dict, without its classifier; any other file is a ReidError."""
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises a dozen kinds; all mean the file is not a state dict
            raise ReidError(f"{file}: not a torch state dict ({type(error).__name__}); fetch it again") from error
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise ReidError(f"{file}: not a torch state dict (it holds a {type(state).__name__}); fetch it again")
        names = {"conv1": "stem.0", "bn1": "stem.1", **{f"layer{stage}": f"stage{stage}" for stage in (1, 2, 3, 4)}}
        renamed = {}
        for name, tensor in state.items():
            head, _, rest = name.partition(".")
            if head != "fc":
                renamed[f"{names.get(head, head)}.{rest}"] = tensor
        try:
            self.load_state_dict(renamed)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            what = f"not the weights of a torchvision ResNet-{self.depth}: {first[:160]}"
            raise ReidError(f"{file}: {what}; fetch it again") from error


def stage_size(size: tuple[int, int], stage: int) -> tuple[int, int]:
    """Height and width of a stage's map for an input of `size` (H, W): each halving rounds up, as ResNet's do."""
    height, width = size
    for _ in range(stage + 1):
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width


def imagenet_file(depth: int) -> Path | None:
    """The file of ImageNet weights: in the folder `REID_WEIGHTS`, else in torchvision's cache, else None."""
    places = [Path(torch.hub.get_dir()) / "checkpoints"]
    if folder := paths.weights():
        places.insert(0, folder)
    return next((place / WEIGHTS[depth] for place in places if (place / WEIGHTS[depth]).is_file()), None)


def file_digest(file: Path) -> str:
    """First 16 hex digits of the file's SHA-256: what the key of a run keeps of its start."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
