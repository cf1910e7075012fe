"""Augmentation in batches, on the device that holds the images; every random number comes from one CPU generator."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from reidlib.data.images import normalise
from reidlib.spec import ReidError


def crop_and_mirror(
    images: torch.Tensor,
    *,
    scale: tuple[float, float] = (0.64, 1.0),
    stretch: tuple[float, float] = (1.0, 1.5),
    mirror: float = 0.5,
    size: tuple[int, int] | None = None,
    generator: torch.Generator,
) -> torch.Tensor:
    """SafeNet's augmentation: a random crop, mirrored or not, resized: uint8 B×3×H×W to float B×3×H'×W', normalised.

    scale      the crop's share of the image's area, drawn uniformly from this interval (SafeNet L397: [0.64, 1.0])
    stretch    the crop's height/width in multiples of the image's own, drawn log-uniformly. SafeNet prints the ratio
               itself, [2, 3], for images of 256×128, whose own is 2: as multiples [1.0, 1.5]. So written, it means the
               same crop of the person at any input shape (at 192×64 a literal [2, 3] would cut the sides alone).
    mirror     probability of a left–right flip
    size       (H', W') in pixels, None: as the images come. Bilinear without antialias: made for enlarging a crop, so
               keep the images at the size wanted rather than shrink them here.
    generator  a CPU generator, so that CPU and GPU runs of one seed see the same crops. Each image takes five numbers
               whatever the options are, so a change of one option leaves the other draws alone.

    Ours, as the paper states none of it: the log-uniform draw, the uniform place, and that a crop that does not fit the
    image is clamped to its border, not drawn again. With the paper's intervals half of the draws are too tall and
    become full-height crops of width sqrt(area/stretch); both quantities stay inside their intervals.

    Raises ReidError for images that are not uint8 B×3×H×W, options out of range, and a generator on another device.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ReidError(
            f"images to augment are {images.dtype} of shape {tuple(images.shape)}; give uint8 of shape B×3×H×W as "
            "decoded, not yet normalised"
        )
    boxes = crop_boxes(len(images), scale=scale, stretch=stretch, mirror=mirror, generator=generator)
    return normalise(cut(images, boxes, size or tuple(images.shape[2:])))


def crop_boxes(
    count: int, *, scale: tuple[float, float], stretch: tuple[float, float], mirror: float, generator: torch.Generator
) -> torch.Tensor:
    """`count` random boxes (top, left, height, width, sign) in parts of the image: float32, count×5, on CPU.

    0 ≤ top, top + height ≤ 1, the same across; sign −1 asks for the mirrored crop. Options as in `crop_and_mirror`.
    """
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ReidError(f"scale={scale} is no interval inside (0, 1]; it is the crop's share of the image's area")
    if not 0 < stretch[0] <= stretch[1]:
        raise ReidError(f"stretch={stretch} is no interval above 0; it is height/width in multiples of the image's own")
    if not 0 <= mirror <= 1:
        raise ReidError(f"mirror={mirror} is no probability; give a number from 0 to 1")
    if generator.device.type != "cpu":
        raise ReidError(f"the generator of the crops is on {generator.device}; give a CPU one, equal on all devices")
    draws = torch.rand(5, count, generator=generator, dtype=torch.float64)
    area = scale[0] + (scale[1] - scale[0]) * draws[0]
    low, high = math.log(stretch[0]), math.log(stretch[1])
    ratio = torch.exp(low + (high - low) * draws[1])
    height, width = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    top, left = (1 - height) * draws[2], (1 - width) * draws[3]
    sign = torch.where(draws[4] < mirror, -1.0, 1.0)
    return torch.stack((top, left, height, width, sign), dim=1).float()


def cut(images: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The boxes of `crop_boxes`, cut from B×3×H×W and resized bilinearly: float32, B×3×H'×W', values 0 to 255.

    The pixel rule is that of `interpolate(mode="bilinear", align_corners=False)`; the border repeats its last pixel.
    """
    top, left, height, width, sign = boxes.to(images.device).unbind(1)
    # The sampling grid counts from −1 (the image's first edge) to 1 (its last); a box maps its pixel centres into that.
    rows = (2 * top + height - 1)[:, None] + height[:, None] * _centres(size[0], images.device)  # B × H'
    columns = (2 * left + width - 1)[:, None] + (sign * width)[:, None] * _centres(size[1], images.device)  # B × W'
    shape = (len(images), *size)
    grid = torch.stack((columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)), dim=3)  # B × H' × W' × 2
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)


def _centres(count: int, device: torch.device) -> torch.Tensor:
    """Centres of `count` pixels between −1 and 1, symmetric to the last bit: a mirrored crop is a flipped one."""
    return (2 * torch.arange(count, device=device, dtype=torch.float32) + 1 - count) / count
