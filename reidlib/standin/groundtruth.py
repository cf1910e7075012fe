"""Truth: what the renderer knows of every image, and no real data set records. One file beside each folder.

While a set is rendered, each worker appends one line for each image to its own log, before the image gets its name.
When all images are there, the lines become one file for each folder, in the order of the names, and the logs are
deleted. A line that a crash cut short is skipped, and its image is rendered again.
"""

from __future__ import annotations

import base64
import json
import os
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from reidlib.spec import ReidError

from .geometry import HEIGHT, WIDTH
from .plan import ImageSpec

LOGS = "truth.*.log"

NUMBER, WHOLE, YES, WORD, COLOUR = "f4", "i4", "?", "U", "3f4"
FACTORS: dict[str, tuple[str, str]] = {
    "kind": (WORD, "person, junk or distractor"),
    "identity": (WHOLE, "the person's number in the domain: -1 junk, 0 distractor"),
    "camera": (WHOLE, "the domain's camera, from 1 (CUHK03: 10 of them, two a pair)"),
    "film": (WHOLE, "the camera's film, from 1: one light, one weather"),
    "moment": (WHOLE, "number of the image within its identity and camera"),
    "time": (WORD, "time of day, or the lamps of a room"),
    "light": (NUMBER, "strength of the light, 1 on average"),
    "sunny": (YES, "the sun casts shadows"),
    "sun_height": (NUMBER, "of the sun over the horizon, degrees"),
    "sun_azimuth": (NUMBER, "direction of the sun, degrees; 0 is where the camera looks, 90 to its right"),
    "phase": (NUMBER, "of the stride, radians from 0 to 2 pi"),
    "stride": (NUMBER, "how far the stride is taken: about 1 walking, 0.12 standing"),
    "viewpoint": (NUMBER, "side seen, degrees from 0 to 360: 0 the back, 180 the front, 90 the right side"),
    "distance": (NUMBER, "along the ground from the camera, metres"),
    "company": (YES, "another person in the image, behind or beside"),
    "occluder": (WORD, "what was put in front of the person: none, bike, pole, box, person, ..."),
    "occlusion": (NUMBER, "share of the figure's pixels within the box that are hidden, 0 to 1"),
    "box_shift_x": (NUMBER, "box's middle right of the figure's, as a share of the box's width"),
    "box_shift_y": (NUMBER, "box's middle below the figure's, as a share of the box's height"),
    "box_scale": (NUMBER, "height of the box over that of the figure"),
    "box_aspect": (NUMBER, "width of the box over its height"),
    "quality": (WHOLE, "JPEG's"),
    "height": (NUMBER, "of the person, metres"),
    "build": (NUMBER, "of the person, 1 is average"),
    "woman": (YES, "the person is a woman"),
    "skin": (COLOUR, "colours are red, green, blue from 0 to 1"),
    "hair": (WORD, "cut"),
    "hair_colour": (COLOUR, ""),
    "hat": (WORD, "none, cap, sunhat, ..."),
    "hat_colour": (COLOUR, "also where no hat is worn"),
    "upper": (WORD, "cut"),
    "upper_colour": (COLOUR, ""),
    "upper_second": (COLOUR, "of the pattern"),
    "upper_pattern": (WORD, ""),
    "lower": (WORD, "cut"),
    "lower_colour": (COLOUR, ""),
    "lower_pattern": (WORD, ""),
    "shoes_colour": (COLOUR, ""),
    "bag": (WORD, "none, backpack, shoulder, handbag"),
    "bag_colour": (COLOUR, "also where there is none"),
    "carried": (WORD, "in the hand"),
}
"""Kind and meaning of every factor. Without a figure, numbers are nan, words "none" and truth values false."""

_ABSENT = {NUMBER: np.nan, WHOLE: -1, YES: False, WORD: "none", COLOUR: (np.nan,) * 3}


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of N images.

    Attributes
    ----------
    names : (N,) str
        Their paths from the set's root, as in the `path` column of the loader's table.
    parts : (N, 128, 64) uint8
        What each pixel shows: position in `parts.PART_NAMES` (0 background, 1 head, 2 hair, 3 torso, 4 arms, 5 legs,
        6 shoes, 7 bag, 8 hat, 9 occluder, 10 other person, 11 scenery). Always of the size that was rendered.
    factors : dict of arrays whose first axis is N
        One for each of `FACTORS`: float32, int32, bool or str; colours are (N, 3) float32.
    """

    names: np.ndarray
    parts: np.ndarray
    factors: dict[str, np.ndarray]


def truth(folder: Path | str, split: str, names: Sequence[str] | None = None) -> Truth:
    """The truth of one folder of a stand-in.

    Parameters
    ----------
    folder
        The stand-in's root.
    split
        The folder of images within it, such as ``bounding_box_train``, ``labeled/query`` or ``test``.
    names
        Only these images, in this order (paths from the root); default all, in the order of their names.
        A part mask takes 8 KiB of memory for each image.

    Raises
    ------
    ReidError
        There is no such file, it is damaged, or it does not hold a name; says what to do.
    """
    path = Path(folder) / file_of(split)
    try:
        with np.load(path) as file:
            known, masks, ends = file["names"], file["masks"].tobytes(), file["ends"]
            factors = {key: file["factor " + key] for key in FACTORS}
        which = np.arange(len(known)) if names is None else _positions(path, known.tolist(), names)
        begins = np.concatenate([[0], ends[:-1]])
        parts = np.empty((len(which), HEIGHT, WIDTH), dtype=np.uint8)
        for row, i in enumerate(which):
            mask = zlib.decompress(masks[begins[i] : ends[i]])
            parts[row] = np.frombuffer(mask, np.uint8).reshape(HEIGHT, WIDTH)
        return Truth(known[which], parts, {key: values[which] for key, values in factors.items()})
    except FileNotFoundError:
        raise ReidError(
            f"{path} is missing; call `reid render` with the same arguments again, it adds the truth to the set"
        ) from None
    except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ReidError(
            f"{path} is damaged ({type(error).__name__}); delete it and call `reid render` with the same arguments "
            "again"
        ) from error


def _positions(path: Path, known: Sequence[str], names: Sequence[str]) -> np.ndarray:
    position = {name: i for i, name in enumerate(known)}
    unknown = [name for name in names if name not in position]
    if unknown:
        raise ReidError(
            f"{path} does not hold {unknown[0]} ({len(unknown)} such names); give paths of images in its folder"
        )
    return np.array([position[name] for name in names], dtype=np.int64)


def file_of(split: str) -> str:
    """Name of the file that holds the truth of a folder."""
    return f"truth_{split.replace('/', '_')}.npz"


def line_of(spec: ImageSpec, factors: Mapping[str, Any], parts: np.ndarray) -> bytes:
    """An image's line of the log. It begins with the line's end, so that it never continues one that was cut short."""
    mask = base64.b64encode(zlib.compress(parts.tobytes(), 6)).decode()
    return b"\n" + json.dumps([spec.path, mask, factors]).encode()


def open_log(out: Path, number: int) -> BinaryIO:
    """The log of worker `number`, to append to."""
    return open(out / LOGS.replace("*", str(number)), "ab")


def noted(out: Path) -> set[str]:
    """Paths of the images whose truth is in the logs."""
    return {path for path, *_ in _lines(out)}


def gathered(out: Path, folder: str, specs: Sequence[ImageSpec], temporary: str) -> None:
    """Write the truth of one folder, whose images are `specs`, from the logs."""
    wanted = {spec.path: i for i, spec in enumerate(specs)}
    masks: list[bytes] = [b""] * len(specs)
    factors: list[dict] = [{}] * len(specs)
    for path, mask, known in _lines(out, wanted):
        masks[wanted[path]], factors[wanted[path]] = base64.b64decode(mask), known
    columns: dict[str, Any] = {
        "factor " + key: _column(kind, [f.get(key) for f in factors]) for key, (kind, _) in FACTORS.items()
    }
    target = out / file_of(folder)
    part = target.with_suffix(temporary)
    with open(part, "wb") as file:
        np.savez_compressed(
            file,
            names=np.array(list(wanted)),
            masks=np.frombuffer(b"".join(masks), np.uint8),
            ends=np.cumsum([len(mask) for mask in masks]),
            **columns,
        )
    os.replace(part, target)


def _column(kind: str, values: list) -> np.ndarray:
    return np.array([_ABSENT[kind] if value is None else value for value in values], dtype=kind.removeprefix("3"))


def _lines(out: Path, wanted: Collection[str] | None = None) -> Iterator[tuple[str, str, dict]]:
    """The whole lines of all logs: path, mask, factors."""
    for log in sorted(out.glob(LOGS)):
        with open(log, "rb") as file:
            for line in file:
                try:
                    path, mask, factors = json.loads(line)
                except ValueError:  # empty, or cut short
                    continue
                if wanted is None or path in wanted:
                    yield path, mask, factors
