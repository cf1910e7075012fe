"""The checked table that every data set becomes: one row an image, plus what was checked when it was read.

A loader (one file a data set) lists the images, parses their names and returns a `Dataset`. What all loaders share is
here: the table itself, its digest, the stand-in's manifest, the listing of a folder of images.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from reidlib.spec import ReidError

COLUMNS = ("path", "identity", "camera", "split")
SPLITS = ("train", "query", "gallery", "multi-query")
JUNK = -1
"""Identity of a gallery image that takes no part in the test: a bad detection, neither right nor wrong."""
DISTRACTOR = 0
"""Identity of a gallery image of nobody in particular: always a wrong answer."""

MANIFEST = "standin.json"
"""Written last by the renderer, in the root of a stand-in: a folder that has it is a whole stand-in. Keys: name,
version, scale, seed, digest, and counts, the number of images in each folder."""


@dataclass(frozen=True)
class Check:
    """One thing that was checked at the door: `what`, the `expected` and the `found` value in words, and `ok`."""

    what: str
    expected: str
    found: str
    ok: bool


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set as a checked table. The images themselves are read later, by `images.decode`.

    name    what the loader is called ("market1501")
    root    the folder that `path` is relative to
    source  "stand-in" (rendered by this study) or "real"; their numbers never share a column
    table   one row an image: path (str), identity (int64; junk −1, distractor 0), camera (int64, from 1),
            split ("train", "query", "gallery" or "multi-query")
    digest  names the content in the key of a run; a stand-in's comes from its manifest (version, parameters, seed)
    checks  what was checked, in the order in which it is printed
    """

    name: str
    root: Path
    source: str
    table: pd.DataFrame
    digest: str
    checks: tuple[Check, ...]

    def __post_init__(self) -> None:
        if self.source not in ("stand-in", "real"):
            raise ValueError(f"source {self.source!r}: choose 'stand-in' or 'real'")
        missing = [column for column in COLUMNS if column not in self.table.columns]
        unknown = sorted(set(self.table["split"]) - set(SPLITS)) if not missing else []
        if missing or unknown:
            raise ValueError(f"table of {self.name}: columns missing {missing}, splits unknown {unknown}")

    def split(self, name: str) -> pd.DataFrame:
        """The images of one split, in the table's order, with a fresh index from 0."""
        if name not in SPLITS:
            raise ReidError(f"{self.name} has no split {name!r}; choose one of {', '.join(SPLITS)}")
        return self.table[self.table["split"] == name].reset_index(drop=True)

    @property
    def identities(self) -> np.ndarray:
        """The training identities, sorted: int64, K of them. Position in it = label."""
        return np.unique(self.table.loc[self.table["split"] == "train", "identity"].to_numpy(np.int64))

    def train_labels(self) -> np.ndarray:
        """Class labels of `split("train")`, row by row: int64, contiguous 0..K−1, in the order of `identities`."""
        return np.searchsorted(self.identities, self.split("train")["identity"].to_numpy(np.int64))


def list_images(folder: Path, suffixes: tuple[str, ...] = (".jpg", ".jpeg")) -> list[str]:
    """Names of the image files of `folder`, sorted. Everything else (Thumbs.db, hidden files) is passed over.

    Raises ReidError when the folder is missing, cannot be read or holds no image.
    """
    try:
        names = [name for name in os.listdir(folder) if name.lower().endswith(suffixes) and not name.startswith(".")]
    except FileNotFoundError:
        raise ReidError(f"folder {folder} is missing; {_whole(folder)}") from None
    except NotADirectoryError:
        raise ReidError(f"{folder} is a file where a folder of images belongs; {_whole(folder)}") from None
    except OSError as error:
        raise ReidError(f"folder {folder} cannot be read ({error.strerror}); mend its permissions") from None
    if not names:
        raise ReidError(f"folder {folder} holds no {suffixes[0]} file; {_whole(folder)}")
    return sorted(names)


def _whole(folder: Path) -> str:
    return f"unpack the data set again or give the folder that is whole (looked in {folder.parent})"


def files_digest(root: Path, paths: Iterable[str]) -> str:
    """Digest of a real data set: first 16 hex digits of the sha256 over its sorted (relative name, size in bytes).

    Sizes and names, not bytes: it takes a second, not minutes, and tells releases and cut copies apart.
    """
    digest = hashlib.sha256()
    for path in sorted(paths):
        try:
            size = (root / path).stat().st_size
        except OSError as error:
            raise ReidError(f"{root / path} cannot be read ({error.strerror}); copy this file again") from None
        digest.update(f"{path}\t{size}\n".encode())
    return digest.hexdigest()[:16]


def read_manifest(root: Path, name: str) -> dict | None:
    """The manifest of the stand-in of data set `name` in `root`, or None where `root` is no stand-in.

    Raises ReidError for a half-rendered stand-in (its manifest is not there yet), for one of another data set, and for
    a manifest that is cut short.
    """
    again = f"finish it with the same `reid render {name} … --out {root}`, or render into an empty folder"
    path = root / MANIFEST
    if not path.is_file():
        if traces := unfinished(root):
            raise ReidError(f"{root} holds a half-rendered stand-in ({traces[0]}, no {MANIFEST}); {again}")
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found, digest, counts = manifest["name"], manifest["digest"], manifest["counts"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ReidError(f"{path} cannot be read as a manifest ({type(error).__name__}: {error}); {again}") from None
    if found != name or not isinstance(digest, str) or not isinstance(counts, dict):
        raise ReidError(f"{path} describes the stand-in of {found!r}, not of {name!r}; give its folder") from None
    return manifest


def unfinished(root: Path) -> list[str]:
    """Files in `root` that a renderer leaves while it works (standin.unfinished.json and the like)."""
    stem = Path(MANIFEST).stem + "."
    return sorted(
        entry.name for entry in root.iterdir() if entry.name.startswith((stem, f".{stem}")) and entry.name != MANIFEST
    )


def queries_without_match(table: pd.DataFrame) -> pd.DataFrame:
    """The query rows whose identity no gallery image of another camera shows: they could never be answered."""
    queries, gallery = (table[table["split"] == name] for name in ("query", "gallery"))
    gallery = gallery[gallery["identity"] > DISTRACTOR]
    cameras = gallery.groupby("identity")["camera"].agg(["min", "max"])
    seen = cameras.reindex(queries["identity"])
    # another camera exists where the identity is in the gallery and its cameras are not all the query's own
    own = queries["camera"].to_numpy()
    alone = seen["min"].isna().to_numpy() | ((seen["min"].to_numpy() == own) & (seen["max"].to_numpy() == own))
    return queries[alone]
