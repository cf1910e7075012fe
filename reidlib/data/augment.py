"""Augmentation in batches, on the device that holds the images; every random number comes from one CPU generator, so
that runs of one seed see the same images on all devices. Wrong images, options or generators are ReidErrors."""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from reidlib.data.images import normalise, sent
from reidlib.spec import ReidError

Interval = tuple[float, float]

CANDIDATES = 10  #: How often the size of a crop or of an erased rectangle is drawn until it fits the image


def crop_and_flip(
    images: Tensor,
    *,
    scale: Interval = (0.64, 1.0),
    aspect_ratio: Interval = (1.0, 1.5),
    flip: float = 0.5,
    size: tuple[int, int] | None = None,
    generator: Generator,
) -> Tensor:
    """SafeNet's augmentation: a random crop, mirrored or not, resized: uint8 B×3×H×W to float B×3×H'×W', normalised.

    scale         the crop's share of the image's area, drawn uniformly (SafeNet L397: [0.64, 1.0])
    aspect_ratio  the crop's height/width in multiples of the image's own, drawn uniformly, so that it means the same
                  crop of the person at any input shape. SafeNet's [2, 3] at 256×128 is [1.0, 1.5]
    flip          probability of a left–right flip
    size          (H', W') in pixels, None: as the images come. Bilinear without antialias: not made for shrinking

    An image takes five random numbers, and 18 more where the intervals hold boxes that do not fit. Such a box is drawn
    again, ten times at most; then the whole image is taken. SafeNet does not state this rule; it is that of
    RandomSizedRectCrop in Cysu/open-reid, whose constants are SafeNet's two intervals (48 % of the draws fit)."""
    _check_images(images, images.dtype == torch.uint8, *DECODED)
    boxes = crop_boxes(len(images), scale=scale, aspect_ratio=aspect_ratio, flip=flip, generator=generator)
    return normalise(cut(images, boxes, size or (images.shape[2], images.shape[3])))


def crop_boxes(count: int, *, scale: Interval, aspect_ratio: Interval, flip: float, generator: Generator) -> Tensor:
    """`count` boxes (top, left, height, width, sign) in parts of the image; sign −1 is mirrored. float32, count×5."""
    _check_options("scale", scale, "the crop's share of the image's area", share=True)
    _check_options("aspect_ratio", aspect_ratio, "height/width in multiples of the image's own")
    _check_probability("flip", flip)
    draws = _drawn(5, count, generator)
    first = draws[:2, None]  # 2 × 1 × count: the draw of area and ratio, and where one may not fit nine more
    if scale[1] * aspect_ratio[1] > 1 or scale[1] > aspect_ratio[0]:
        first = torch.cat((first, _drawn(2 * (CANDIDATES - 1), count, generator).view(2, -1, count)), dim=1)
    area, ratio = _between(scale, first[0]), _between(aspect_ratio, first[1])
    height, width, fits = _first_that_fits((area * ratio).sqrt(), (area / ratio).sqrt(), (1, 1))
    height, width = height.where(fits, 1), width.where(fits, 1)
    top, left = (1 - height) * draws[2], (1 - width) * draws[3]
    sign = torch.where(draws[4] < flip, -1.0, 1.0)
    return torch.stack((top, left, height, width, sign), dim=1).float()


def cut(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The boxes of `crop_boxes`, cut from B×3×H×W and resized bilinearly: float32, B×3×H'×W', values 0 to 255.

    The pixel rule is that of `interpolate(mode="bilinear", align_corners=False)`; the border repeats its last pixel."""
    top, left, height, width, sign = sent(boxes, images.device).unbind(1)
    # The sampling grid counts from −1 (the image's first edge) to 1 (its last); a box maps its pixel centres into that.
    rows = (2 * top + height - 1)[:, None] + height[:, None] * _centres(size[0], images.device)  # B × H'
    columns = (2 * left + width - 1)[:, None] + (sign * width)[:, None] * _centres(size[1], images.device)  # B × W'
    shape = (len(images), *size)
    grid = torch.stack((columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)), dim=3)  # B × H' × W' × 2
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)


def _centres(count: int, device: torch.device) -> Tensor:
    """Centres of `count` pixels between −1 and 1, symmetric to the last bit: a mirrored crop is a flipped one."""
    return (2 * torch.arange(count, device=device, dtype=torch.float32) + 1 - count) / count


def pad_and_crop(images: Tensor, *, pad: int, generator: Generator) -> Tensor:
    """A black border of `pad` pixels, then a crop of the images' own size: uint8 B×3×H×W to the same (MROS L526).

    pad: pixels on each side; 0 gives the images back. The crop's top and left are uniform in 0..2·pad: two random
    numbers an image."""
    _check_images(images, images.dtype == torch.uint8, *DECODED)
    if pad < 0:
        raise ReidError(f"pad={pad} is no border; give a number of pixels, 0 for none")
    draws = _drawn(2, len(images), generator)
    if pad == 0:
        return images
    top, left = sent((draws * (2 * pad + 1)).long(), images.device)  # B each
    which, channel, row, column = (torch.arange(size, device=images.device) for size in images.shape)
    rows = (top[:, None] + row)[:, None, :, None]  # B × 1 × H × 1
    columns = (left[:, None] + column)[:, None, None, :]  # B × 1 × 1 × W
    return F.pad(images, (pad, pad, pad, pad))[which[:, None, None, None], channel[:, None, None], rows, columns]


def erase(
    images: Tensor,
    *,
    probability: float,
    area: Interval = (0.02, 0.4),
    ratio: Interval = (0.3, 3.33),
    generator: Generator,
) -> Tensor:
    """Random erasing (Zhong et al. 2020): one rectangle filled with 0, in float B×3×H×W normalised, to the same.

    0 after normalisation is ImageNet's mean colour. The batch given is left alone; with probability 0 it comes back.

    probability  of an image to lose a rectangle
    area         the rectangle's share of the image's area, drawn uniformly
    ratio        its height/width in pixels, drawn log-uniformly: (r, 1/r) is tall as often as wide

    Zhong et al. draw the ratio uniformly and draw again until the rectangle fits (their code: 100 times at most). Here
    ten sizes are drawn at once (23 random numbers an image) and the first that fits is taken; an image for which none
    fits stays as it is. The place is uniform. Sides are rounded to whole pixels, at least one."""
    _check_images(images, images.is_floating_point(), "erase from", "floats of shape B×3×H×W, normalised")
    size = images.shape[2], images.shape[3]
    boxes = erasing_boxes(len(images), size, probability=probability, area=area, ratio=ratio, generator=generator)
    if probability == 0:
        return images
    top, left, height, width = sent(boxes, images.device)[:, :, None].unbind(1)  # B × 1 each
    rows, columns = (torch.arange(side, device=images.device) for side in size)
    erased_rows = (rows >= top) & (rows < top + height)  # B × H
    erased_columns = (columns >= left) & (columns < left + width)  # B × W
    return images.masked_fill((erased_rows[:, :, None] & erased_columns[:, None, :])[:, None], 0)


def erasing_boxes(
    count: int, size: tuple[int, int], *, probability: float, area: Interval, ratio: Interval, generator: Generator
) -> Tensor:
    """`count` rectangles (top, left, height, width) in pixels of an image of `size` = (H, W), height and width 0 where
    nothing is erased: int64, count×4, on CPU. Options as in `erase`."""
    _check_probability("probability", probability)
    _check_options("area", area, "the erased share of the image's area", share=True)
    _check_options("ratio", ratio, "the rectangle's height/width")
    draws = _drawn(3 + 2 * CANDIDATES, count, generator)
    chance, down, across = draws[:3]  # count each
    pixels = size[0] * size[1] * _between(area, draws[3::2])  # candidates × count
    shape = _between((math.log(ratio[0]), math.log(ratio[1])), draws[4::2]).exp()  # candidates × count
    height = (pixels * shape).sqrt().round().clamp(min=1)
    width = (pixels / shape).sqrt().round().clamp(min=1)
    height, width, fits = _first_that_fits(height, width, size)
    top, left = (down * (size[0] - height + 1)).floor(), (across * (size[1] - width + 1)).floor()
    erased = (chance < probability) & fits
    return (torch.stack((top, left, height, width), dim=1) * erased[:, None]).long()


def _first_that_fits(height: Tensor, width: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Of candidates × count sides the first of each image that lie within `size`, and whether any do: count each."""
    fits = (height <= size[0]) & (width <= size[1])
    first = fits.int().argmax(0, keepdim=True)  # 1 × count; 0 where none fits
    return height.gather(0, first)[0], width.gather(0, first)[0], fits.any(0)


DECODED = "augment", "uint8 of shape B×3×H×W as decoded, not yet normalised"


def _check_images(images: Tensor, right: bool, purpose: str, wanted: str) -> None:
    if not right or images.ndim != 4 or images.shape[1] != 3:
        raise ReidError(f"images to {purpose} are {images.dtype} of shape {tuple(images.shape)}; give {wanted}")


def _check_options(name: str, interval: Interval, meaning: str, *, share: bool = False) -> None:
    if not 0 < interval[0] <= interval[1] or (share and interval[1] > 1):
        raise ReidError(f"{name}={interval} is no interval {'inside (0, 1]' if share else 'above 0'}; it is {meaning}")


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ReidError(f"{name}={value} is no probability; give a number from 0 to 1")


def _drawn(numbers: int, count: int, generator: Generator) -> Tensor:
    """`numbers` uniform numbers for each of `count` images: float64, numbers × count, on CPU."""
    if generator.device.type != "cpu":
        raise ReidError(f"the generator of the augmentation is on {generator.device}; give a CPU one")
    return torch.rand(numbers, count, generator=generator, dtype=torch.float64)


def _between(interval: Interval, draws: Tensor) -> Tensor:
    return interval[0] + (interval[1] - interval[0]) * draws
