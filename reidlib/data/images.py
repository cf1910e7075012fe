"""Images in memory: every file decoded once, to one uint8 tensor that stays on the device for the whole run."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageFile

from reidlib.data.table import Dataset
from reidlib.spec import ReidError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_END_OF_JPEG, _START_OF_SCAN = b"\xff\xd9", b"\xff\xda"


def decode(
    dataset: Dataset,
    frame: pd.DataFrame,
    size: tuple[int, int] = (256, 128),
    device: torch.device | str = "cpu",
    workers: int | None = None,
) -> torch.Tensor:
    """The images of `frame` (rows of `dataset.table`), in its order: uint8, N×3×H×W, RGB, on `device`.

    size     (H, W) in pixels; each image is resized to it, bilinear with antialias, shape not kept
    workers  decoding threads; None: one a core this process may use. The result does not depend on it.

    Raises ReidError naming the first file (in the order of `frame`) that is missing, cut short or no image.
    """
    height, width = size
    paths = [dataset.root / path for path in frame["path"]]
    # filled as N×H×W×3, the order the decoder writes, and turned once at the end
    pixels = np.empty((len(paths), height, width, 3), dtype=np.uint8)

    def fill(position: int) -> None:
        pixels[position] = read_image(paths[position], size)

    with ThreadPoolExecutor(workers or _cores()) as pool:
        try:
            for _ in pool.map(fill, range(len(paths))):
                pass
        except ReidError:
            pool.shutdown(cancel_futures=True)
            raise
    # turned here: on the device it would lie in both orders at once, and take twice the memory
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().to(device)


def _cores() -> int:
    """Cores this process may use; a container's share where the system tells it (Linux)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_image(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """One image: uint8, H×W×3, RGB, resized to `size` = (H, W) unless None. Raises ReidError naming the file."""
    again = "copy or render this very file again"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ReidError(f"image {path} is missing; {again}") from None
    except OSError as error:
        raise ReidError(f"image {path} cannot be read ({error.strerror}); mend its permissions or {again}") from None
    # Pillow fills the rest of a cut file with grey when this switch is on, and other libraries turn it on.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    # Even a strict decoder passes over a file whose tail is zeros (a crash while copying): look for the end mark.
    cut = data.startswith(b"\xff\xd8") and data.rfind(_END_OF_JPEG) <= data.rfind(_START_OF_SCAN)
    if not data or cut:
        raise ReidError(f"image {path} is cut short ({len(data):,} bytes); {again}")
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            image.load()
            image = image.convert("RGB")
            if size is not None and image.size != (size[1], size[0]):
                image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow's own words for a stream it cannot name hold an address in memory: of no use to a reader
        reason = "not a JPEG or PNG" if "cannot identify" in str(error) else str(error)
        raise ReidError(f"image {path} cannot be decoded ({reason}; {len(data):,} bytes); {again}") from None


def normalise(images: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """uint8 (or float 0 to 255) B×3×H×W to floats of mean 0 and deviation 1 by ImageNet's channel statistics."""
    mean, deviation = _statistics(dtype, images.device)
    return images.to(dtype).sub(mean).div_(deviation)


@lru_cache
def _statistics(dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """ImageNet's mean and deviation of 0 to 255, 3×1×1 each; kept, as a GPU would be waited for to make them anew."""
    with torch.inference_mode(False):  # whoever asks first, a later caller may want a gradient
        mean, deviation = (torch.tensor(of, dtype=dtype, device=device) for of in (IMAGENET_MEAN, IMAGENET_STD))
        return mean.view(3, 1, 1) * 255, deviation.view(3, 1, 1) * 255


def sent(numbers: torch.Tensor, device: torch.device) -> torch.Tensor:
    """On the device, without making a GPU wait: copies from pinned memory queue up behind its work."""
    return numbers.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else numbers.to(device)
