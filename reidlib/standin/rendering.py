"""A batch of scenes to pixels: gathers their arrays, casts, shades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .parts import FIGURE
from .raycast import PIXELS, Batch, cast
from .scene import Scene
from .shade import Setting, backgrounds, finished, shaded


def gather(scenes: Sequence[Scene], device: str = "cpu") -> tuple[Batch, Setting]:
    """The scenes' arrays joined, materials renumbered, on the device."""

    def joined(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(p, name) for p in scenes])).to(device)

    def stacked(name: str, axes: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(np.stack([getattr(p, name) for p in scenes]).transpose(axes))).to(
            device
        )

    sizes = [len(p.kind) for p in scenes]
    first = np.cumsum([0] + [len(p.materials) for p in scenes[:-1]])
    batch = Batch(
        packed=joined("packed").T.contiguous(),
        kind=joined("kind"),
        image=torch.from_numpy(np.repeat(np.arange(len(scenes)), sizes)).to(device),
        material=torch.from_numpy(np.concatenate([p.material + f for p, f in zip(scenes, first, strict=True)])).to(
            device
        ),
        own=joined("material"),
        part=joined("part"),
        order=torch.from_numpy(np.concatenate([np.arange(size) for size in sizes])).to(device),
        pixels=joined("pixels"),
        images=len(scenes),
    )
    setting = Setting(
        materials=joined("materials").T.contiguous(),
        surfaces=torch.from_numpy(np.ascontiguousarray(np.concatenate([p.surfaces for p in scenes]).T)).to(device),
        ray=stacked("ray", (1, 0)),
        place=stacked("place", (1, 0)),
        walls=stacked("walls", (1, 0)),
        light=stacked("light", (1, 0)),
        shadows=stacked("shadows", (1, 2, 0)),
        look=stacked("look", (1, 0)),
        seed=torch.tensor([p.seed for p in scenes], device=device),
    )
    return batch, setting


@dataclass(frozen=True)
class Rendered:
    """Images as tensors on the device.

    Attributes
    ----------
    images : (B, 128, 64, 3) uint8
    parts : (B, 128, 64) uint8
        What each pixel shows; see `parts.PART_NAMES`.
    hidden : (B,) float32
        Share of the figure's pixels, within the box, that something stands before; 0 where there is no figure.
    """

    images: Tensor
    parts: Tensor
    hidden: Tensor


@torch.inference_mode()
def pixels(scenes: Sequence[Scene], device: str = "cpu", culled: bool = True) -> Rendered:
    """Render images. Their bits depend neither on each other nor, on one machine, on the number of threads."""
    return render_gathered(*gather(scenes, device), culled)


@torch.inference_mode()
def render_gathered(batch: Batch, setting: Setting, culled: bool = True) -> Rendered:
    """The same, of scenes that are gathered on the device already."""
    device = batch.packed.device
    linear = backgrounds(setting, batch.images)
    mask = torch.zeros(batch.images * PIXELS, dtype=torch.uint8, device=device)
    figure = torch.zeros(batch.images * PIXELS, dtype=torch.bool, device=device)
    if len(batch.kind):
        hits = cast(batch, culled)
        linear[:, hits.pixel] = shaded(batch, setting, hits)
        mask[hits.pixel] = batch.part[hits.primitive].to(torch.uint8)
        figure[hits.figure] = True
    seen = (figure & (mask >= FIGURE[0]) & (mask <= FIGURE[-1])).reshape(batch.images, -1).sum(1)
    whole = figure.reshape(batch.images, -1).sum(1)
    return Rendered(
        finished(linear, setting, batch.images),
        mask.reshape(batch.images, 128, 64),
        (whole - seen) / torch.clamp(whole, min=1),
    )
