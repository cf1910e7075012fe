"""Truth: what the renderer knows of every image, and no real data set records. One file beside each folder.

While a set is rendered, each worker appends one line for each image to its own log, before the image gets its name.
When all images are there, the lines become one file for each folder, in the order of the names, and the logs are
deleted. A line that a crash cut short is skipped, and its image is rendered again.
"""

from __future__ import annotations

import base64
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reidlib.spec import ReidError

from .geometry import HEIGHT, WIDTH
from .plan import ImageSpec

LOGS = "truth.*.log"
_AGAIN = "call `reid render` with the same arguments again"
NUMBER, WHOLE, YES, WORD, COLOUR = "f4", "i4", "?", "U", "3f4"
_LINES = Path(__file__).with_name("factors.tsv").read_text(encoding="utf-8").splitlines()[1:]
FACTORS: dict[str, tuple[str, ...]] = {name: tuple(known) for name, *known in (line.split("\t") for line in _LINES)}
"""Kind and meaning of every factor. Without a figure, numbers are nan, words "none" and truth values false."""

_ABSENT = {NUMBER: np.nan, WHOLE: -1, YES: False, WORD: "none", COLOUR: (np.nan,) * 3}


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of N images.

    names    (N,) str, their paths from the set's root, as in the `path` column of the loader's table
    parts    (N, 128, 64) uint8, what each pixel shows: position in `parts.PART_NAMES` (0 background, 1 head, 2 hair,
             3 torso, 4 arms, 5 legs, 6 shoes, 7 bag, 8 hat, 9 occluder, 10 other person, 11 scenery); always of the
             size that was rendered
    factors  an array for each of `FACTORS`, of first axis N: float32, int32, bool or str; colours are (N, 3) float32
    """

    names: np.ndarray
    parts: np.ndarray
    factors: dict[str, np.ndarray]


def truth(folder: Path | str, split: str, names: Sequence[str] | None = None) -> Truth:
    """The truth of one folder of a stand-in.

    folder  the stand-in's root
    split   the folder of images within it, such as `bounding_box_train`, `labeled/query` or `test`
    names   only these images, in this order (paths from the root); None: all, in the order of their names. A part mask
            takes 8 KiB of memory for each image.

    Raises ReidError where there is no such file, it is damaged, or it does not hold a name; says what to do.
    """
    path = Path(folder) / file_of(split)
    try:
        with np.load(path) as file:
            known, masks, ends = file["names"], file["masks"].tobytes(), file["ends"]
            factors = {key: file["factor " + key] for key in FACTORS}
        position = {name: i for i, name in enumerate(known.tolist())}
        chosen = position if names is None else names
        if unknown := [name for name in chosen if name not in position]:
            problem = f"{path} does not hold {unknown[0]} ({len(unknown)} such names)"
            raise ReidError(f"{problem}; give paths of images in its folder")
        which = np.array([position[name] for name in chosen], dtype=np.int64)
        begins = np.concatenate([[0], ends[:-1]])
        parts = np.empty((len(which), HEIGHT, WIDTH), dtype=np.uint8)
        for row, i in enumerate(which):
            mask = zlib.decompress(masks[begins[i] : ends[i]])
            parts[row] = np.frombuffer(mask, np.uint8).reshape(HEIGHT, WIDTH)
        return Truth(known[which], parts, {key: values[which] for key, values in factors.items()})
    except FileNotFoundError:
        raise ReidError(f"{path} is missing; {_AGAIN}, it adds the truth to the set") from None
    except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ReidError(f"{path} is damaged ({type(error).__name__}); delete it and {_AGAIN}") from error


def file_of(split: str) -> str:
    """Name of the file that holds the truth of a folder."""
    return f"truth_{split.replace('/', '_')}.npz"


def line_of(spec: ImageSpec, factors: Mapping[str, Any], parts: np.ndarray) -> bytes:
    """An image's line of the log. It begins with the line's end, so that it never continues one that was cut short."""
    mask = base64.b64encode(zlib.compress(parts.tobytes(), 6)).decode()
    return b"\n" + json.dumps([spec.path, mask, factors]).encode()


def noted(out: Path) -> set[str]:
    """Paths of the images whose truth is in the logs."""
    return {path for path, *_ in _lines(out)}


def gathered(out: Path, folder: str, paths: Sequence[str]) -> bytes:
    """Content of the file with the truth of one folder, whose images are `paths`, from the logs."""
    wanted = set(paths)
    lines = {path: (mask, known) for path, mask, known in _lines(out, folder) if path in wanted}
    masks = [base64.b64decode(lines[path][0]) for path in paths]
    columns: dict[str, Any] = {"names": np.array(paths), "masks": np.frombuffer(b"".join(masks), np.uint8)}
    columns["ends"] = np.cumsum([len(mask) for mask in masks])
    for key, (kind, _) in FACTORS.items():
        values = (lines[path][1].get(key) for path in paths)
        found = [_ABSENT[kind] if value is None else value for value in values]
        columns["factor " + key] = np.array(found, dtype=kind.removeprefix("3"))
    content = io.BytesIO()
    np.savez_compressed(content, **columns)
    return content.getvalue()


def _lines(out: Path, folder: str = "") -> Iterator[tuple[str, str, dict]]:
    """The whole lines of all logs, or those of one folder: path, mask, factors."""
    begin = f'["{folder}'.encode()
    for log in sorted(out.glob(LOGS)):
        with open(log, "rb") as file:
            for line in file:
                if line.startswith(begin):
                    with suppress(ValueError):  # cut short
                        yield tuple(json.loads(line))
