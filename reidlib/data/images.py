"""Image files to one uint8 tensor, which stays on the device for the whole run; and its normalisation."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageFile

from reidlib.data.table import Dataset
from reidlib.spec import ReidError

if TYPE_CHECKING:
    import pandas as pd

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_END_OF_JPEG, _START_OF_SCAN = b"\xff\xd9", b"\xff\xda"


def decode(dataset: Dataset, frame: pd.DataFrame, size: tuple[int, int] = (256, 128)) -> torch.Tensor:
    """The images of `frame` (rows of `dataset.table`), in its order: uint8, N×3×H×W, RGB, on the CPU.

    Each is resized to `size`, (H, W) in pixels, bilinear with antialias, shape not kept. Raises ReidError naming the
    first file (in the order of `frame`) that is missing, cut short or no image."""
    paths = [dataset.root / path for path in frame["path"]]
    pixels = np.empty((len(paths), *size, 3), dtype=np.uint8)  # the order of the decoder; permuted once at the end

    def fill(position: int) -> None:
        pixels[position] = read_image(paths[position], size)

    _at_once(fill, range(len(paths)))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def check(dataset: Dataset) -> int:
    """Decodes every image of a data set and keeps none; how many there are. Raises ReidError as `decode`."""
    paths = [dataset.root / path for path in dict.fromkeys(dataset.table["path"])]
    _at_once(read_image, paths)
    return len(paths)


def _at_once(work: Callable[[Any], Any], items: Iterable[Any]) -> None:
    """Calls `work` with all items, one thread a core; the first error (in their order) stops it and is raised."""
    # Linux: the cores that this process may use, such as a container's share
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        try:
            for _ in pool.map(work, items):
                pass
        except ReidError:
            pool.shutdown(cancel_futures=True)
            raise


def read_image(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """One image: uint8, H×W×3, RGB, resized to `size` = (H, W) unless None; 16-bit grey is scaled to 8 bits.

    Raises ReidError naming a file that is missing, cut short, not an image, or that RGB cannot show faithfully
    (transparent pixels, values out of range)."""
    again = "copy or render this very file again"
    try:
        if path.exists() and not path.is_file():  # opening a FIFO would wait for ever
            raise ReidError(f"image {path} is not a regular file; remove it or {again}")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ReidError(f"image {path} is missing; {again}") from None
    except OSError as error:
        raise ReidError(f"image {path} cannot be read ({error.strerror}); fix its permissions or {again}") from None
    # Pillow fills the rest of a cut file with grey when this switch is on, and other libraries turn it on.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    # Even a strict decoder accepts a file whose tail is zeros (a crash during a copy): look for the end mark.
    cut = data.startswith(b"\xff\xd8") and data.rfind(_END_OF_JPEG) <= data.rfind(_START_OF_SCAN)
    if not data or cut:
        raise ReidError(f"image {path} is cut short ({len(data):,} bytes); {again}")
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            image.load()
            rgb = _rgb(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow's message for an unknown stream holds an address in memory: of no use to a reader
        reason = "not a JPEG or PNG" if "cannot identify" in str(error) else str(error)
        raise ReidError(f"image {path} cannot be decoded ({reason}; {len(data):,} bytes); {again}") from None
    if rgb is None:
        what = f"has transparent pixels, or values (mode {image.mode}) that 8-bit RGB cannot show"
        raise ReidError(f"image {path} {what}; save it as RGB with 8 bits a channel")
    if size is not None and rgb.size != size[::-1]:
        rgb = rgb.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(rgb)


def _rgb(image: Image.Image) -> Image.Image | None:
    """The image as 8-bit RGB; None where that would lose what it shows."""
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N"):  # grey of 16 bits, which `convert` would clip at 255
        grey = np.asarray(image).astype(np.int64)
        if "transparency" in image.info or grey.min() < 0 or grey.max() > 65535:
            return None
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        return None
    return image.convert("RGB") if image.mode in _FAITHFUL else None


_FAITHFUL = ("RGB", "RGBA", "RGBX", "L", "LA", "1", "P", "PA", "CMYK", "YCbCr")
"""Pillow's modes of 8 bits or less, which `convert("RGB")` does not clip."""


def normalise(images: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """uint8 (or float 0 to 255) B×3×H×W to floats of mean 0 and deviation 1 by ImageNet's channel statistics."""
    mean, deviation = _statistics(dtype, images.device)
    return images.to(dtype).sub(mean).div_(deviation)


@lru_cache
def _statistics(dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """ImageNet's mean and deviation of 0 to 255, 3×1×1 each; cached, since a copy to a GPU waits for its work."""
    with torch.inference_mode(False):  # a later caller may want a gradient
        mean, deviation = (torch.tensor(of, dtype=dtype, device=device) for of in (IMAGENET_MEAN, IMAGENET_STD))
        return mean.view(3, 1, 1) * 255, deviation.view(3, 1, 1) * 255


def sent(numbers: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on the device, without waiting for a GPU: copies from pinned memory queue behind its work."""
    return numbers.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else numbers.to(device)
