"""A batch of scenes to pixels: joins their arrays, casts, shades."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .geometry import HEIGHT, WIDTH
from .parts import FIGURE
from .raycast import PIXELS, Batch, cast
from .scene import Scene
from .shade import backgrounds, finished, shaded


class Rendered(NamedTuple):
    """Images as tensors on the device.

    images  (B, 128, 64, 3) uint8
    parts   (B, 128, 64) uint8: what each pixel shows; see `parts.PART_NAMES`
    hidden  (B,) float32: share of the figure's pixels, within the box, that something stands before; 0 without a figure
    """

    images: Tensor
    parts: Tensor
    hidden: Tensor


def joined(scenes: Sequence[Scene], device: str = "cpu") -> Batch:
    """The numbers of several images as one batch on the device."""

    def one(arrays: Iterable[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate(list(arrays))).to(device)

    def every(name: str) -> Tensor:
        return one(getattr(p, name) for p in scenes)

    def last(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(p, name) for p in scenes], axis=-1)).to(device)

    first = np.cumsum([0] + [len(p.materials) for p in scenes[:-1]])
    return Batch(
        material=one(p.material + f for p, f in zip(scenes, first, strict=True)),
        images=len(scenes),
        image=one(np.full(len(p.kind), number) for number, p in enumerate(scenes)),
        own=every("material"),
        order=one(np.arange(len(p.kind)) for p in scenes),
        **{name: every(name) for name in ("pixels", "kind", "part")},
        **{name: every(name).T.contiguous() for name in ("packed", "materials", "surfaces")},
        **{name: last(name) for name in ("ray", "place", "walls", "light", "shadows", "look", "seed")},
    )


@torch.inference_mode()
def pixels(scenes: Sequence[Scene], device: str = "cpu") -> Rendered:
    """Render images. Their bits depend neither on each other nor, on one machine, on the number of threads."""
    batch = joined(scenes, device)
    linear = torch.empty(3, batch.images * PIXELS, device=device)
    mask = torch.zeros(batch.images * PIXELS, dtype=torch.uint8, device=device)
    figure, free = torch.zeros_like(mask, dtype=torch.bool), torch.ones_like(mask, dtype=torch.bool)
    if len(batch.kind):
        shown, pixel, primitive, *rest = cast(batch)
        linear.index_copy_(1, pixel, shaded(batch, primitive, *rest))
        mask[pixel] = batch.part[primitive].to(torch.uint8)
        figure[shown], free[pixel] = True, False
    behind = torch.nonzero(free).flatten()
    linear.index_copy_(1, behind, backgrounds(batch, behind))
    seen = (figure & (mask >= FIGURE[0]) & (mask <= FIGURE[-1])).reshape(batch.images, -1).sum(1)
    whole = figure.reshape(batch.images, -1).sum(1)
    hidden = (whole - seen) / torch.clamp(whole, min=1)
    return Rendered(finished(linear, batch), mask.reshape(batch.images, HEIGHT, WIDTH), hidden)
