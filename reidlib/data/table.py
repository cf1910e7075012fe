"""The checked table that every data set becomes: one row an image, plus what was checked when it was read."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reidlib import paths
from reidlib.spec import ReidError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("path", "identity", "camera", "split")
SPLITS = ("train", "query", "gallery", "multi-query")
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
"""Where Market-1501 and the data sets after it keep each split."""
JUNK = -1  #: identity of a gallery image that takes no part in the test: a bad detection, neither right nor wrong
DISTRACTOR = 0  #: identity of a gallery image of nobody in particular: always a wrong answer

MANIFEST = "standin.json"
"""Written last by the renderer, in the root of a stand-in: a folder that has it is a whole stand-in. Keys: name,
version, scale, seed, digest, counts, the number of images in each folder and below it, and identities, the number of
people in them."""


def published(*sizes: int) -> dict[str, int]:
    """Published images and identities in training, of the queries, and of the gallery, as far as given."""
    names = (f"{split} {kind}" for split in ("train", "query", "gallery") for kind in ("images", "identities"))
    return dict(zip(names, sizes, strict=False))


class Check(NamedTuple):
    """One thing that was checked, the values as text."""

    what: str
    expected: str
    found: str
    ok: bool


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set as a checked table. The images themselves are read later, by `images.decode`."""

    name: str  #: what the loader is called ("market1501")
    root: Path  #: the folder that `path` is relative to
    source: str  #: "stand-in" (rendered by this study) or "real"; their numbers never share a column
    table: pd.DataFrame
    """one row an image: path (str), identity (int64; junk −1, distractor 0), camera (int64, from 1), split ("train",
    "query", "gallery" or "multi-query")"""
    digest: str  #: names the content in the key of a run; a stand-in's comes from its manifest
    checks: tuple[Check, ...]  #: what was checked, in the order in which it is printed
    notes: tuple[str, ...] = ()  #: what a reader of numbers must know of this data set, a sentence each

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


def describe(dataset: Dataset) -> str:
    """The text that `reid data NAME` prints: where it lies, split sizes, checks, notes."""
    lines = [f"{dataset.name} ({dataset.source}) in {dataset.root}", f"digest {dataset.digest}", ""]
    lines.append(f"{'split':<12}{'identities':>11}{'images':>9}{'cameras':>9}{'junk':>7}{'distractors':>13}")
    for name, part in dataset.table.groupby("split", sort=False):
        known = part.loc[part["identity"] > DISTRACTOR, "identity"].nunique()
        junk, distractors = (int((part["identity"] == kind).sum()) for kind in (JUNK, DISTRACTOR))
        lines.append(f"{name:<12}{known:>11,}{len(part):>9,}{part['camera'].nunique():>9}{junk:>7,}{distractors:>13,}")
    lines += ["", "checks"]
    for check in dataset.checks:
        wanted = "" if check.ok else f" (expected {check.expected})"
        lines.append(f"  {'ok     ' if check.ok else 'DIFFERS'}  {check.what}: {check.found}{wanted}")
    if dataset.notes:
        lines += ["", "notes", *(f"  {note}" for note in dataset.notes)]
    return "\n".join(lines)


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk, and what messages call it."""

    name: str  #: in `reid render` and in the manifest of its stand-in ("market1501")
    title: str  #: as people write it ("Market-1501")
    root_names: tuple[str, ...]  #: of the root folder, the release's first; only these are looked for below REID_DATA
    forms: tuple[tuple[str, ...], ...]  #: best first: the folders, and the files (with a suffix), that make it whole
    pattern: re.Pattern  #: of the file names: group 1 is the identity, group 2 the camera
    expected: str  #: the pattern in words
    suffixes: tuple[str, ...] = (".jpg", ".jpeg")  #: of the image files, in lower case

    @property
    def render(self) -> str:
        """The command that makes a stand-in, for messages."""
        return f"`reid render {self.name} --scale 0.05 --seed 0 --out DIR`"

    def form_in(self, folder: Path) -> tuple[str, ...] | None:
        """The best form that is whole in `folder`, or None."""
        return next((form for form in self.forms if all(_has(folder, form))), None)


def _has(folder: Path, form: Iterable[str]) -> list[bool]:
    """Which entries of a form are in `folder`."""
    return [(folder / entry).is_file() if Path(entry).suffix else (folder / entry).is_dir() for entry in form]


def _begun(folder: Path, form: Iterable[str]) -> bool:
    """Whether `folder` holds anything of this form, or a stand-in that is being rendered."""
    return any(_has(folder, form)) or bool(unfinished(folder))


def find_root(root: Path | str | None, layout: Layout) -> tuple[Path, Check]:
    """The folder that holds the layout, and the note on how it was found; none or more than one is a ReidError.

    root: the folder itself, one too deep, or one or two levels too shallow; None: looked for under REID_DATA."""
    given = paths.data() if root is None else Path(root)
    render = f"or render the stand-in: {layout.render}"
    if given is None:
        names = f"{layout.root_names[0]} (or {', '.join(layout.root_names[1:])})"
        remedy = f"set REID_DATA to the folder that holds {names}, {render} and give DIR"
        raise ReidError(f"no folder given for {layout.name} and REID_DATA is not set; {remedy}")
    asked = f"REID_DATA={given}" if root is None else f"root {root}"
    if not given.is_dir():
        raise ReidError(f"{asked} is no folder; give the folder of the data set, {render}")
    try:
        found = _search(given.resolve(), asked, layout, names_only=root is None)
    except PermissionError as error:
        raise ReidError(f"{asked}: {error.filename} cannot be read; fix its permissions") from None
    as_given = root is None or found == given.resolve()
    return found, Check("folder", str(given), str(found) if as_given else f"{found}, found from {asked}", True)


def _search(given: Path, asked: str, layout: Layout, *, names_only: bool) -> Path:
    """`given` itself, a folder above it, or the one folder up to two levels below that has the layout. names_only: of
    those below, only folders under one of the root names count, since data sets may have equal folders."""
    entries = dict.fromkeys(entry for form in layout.forms for entry in form)
    if _begun(given, entries):
        return given
    for parent in given.parents[: max(entry.count("/") + 1 for entry in entries)]:
        if layout.form_in(parent):
            return parent
    below = [path for pattern in ("*", "*/*") for path in sorted(given.glob(pattern)) if path.is_dir()]
    for form in layout.forms:
        found = [path for path in below if path.name in layout.root_names and _begun(path, form)]
        if not (found or names_only):
            found = [path for path in below if all(_has(path, form))]
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(str(path.relative_to(given)) for path in found[:4])
            raise ReidError(f"{asked} holds {len(found)} data sets ({listed}); give one of them as the root")
    names = f"({', '.join(layout.root_names)} are looked for)"
    what = f"{asked} holds none of {', '.join(entries)}, nor does a folder up to two levels below it {names}"
    raise ReidError(f"{what}; give the folder that holds them, or render the stand-in: {layout.render}")


def load_folders(
    root: Path | str | None,
    layout: Layout,
    published: Mapping[str, int],
    notes: tuple[str, ...] = (),
    multi_query: str = "",
) -> Dataset:
    """A data set of three folders, those of the layout's one form: training, query, gallery, in this order.

    root: as in `find_root`. multi_query: the folder with more images of the query identities, which a copy may lack.
    Raises ReidError for everything that would make a number wrong: folders missing or empty, names that do not parse,
    junk or distractors in training, a query without a match in another camera, a stand-in that is not whole. Sizes of a
    real set other than the `published` ones are shown in the checks alone: cut-down copies are in use."""
    folder, note = find_root(root, layout)
    manifest = read_manifest(folder, layout.name)
    folders = dict(zip(SPLITS, layout.forms[0], strict=False))
    if multi_query and (folder / multi_query).is_dir():
        folders["multi-query"] = multi_query
    table = read_folders(folder, folders, layout)
    asked = table.loc[table["split"] == "query", "identity"]
    table = table[(table["split"] != "multi-query") | table["identity"].isin(asked)].reset_index(drop=True)
    checks = (note, *sizes(table, folder, manifest, published, layout), *consistency(table, folder))
    digest = manifest["digest"] if manifest else files_digest(folder, table["path"])
    return Dataset(layout.name, folder, "stand-in" if manifest else "real", table, digest, checks, notes)


def read_folders(root: Path, folders: Mapping[str, str], layout: Layout) -> pd.DataFrame:
    """The images of each split's own folder (`folders`: split to folder); files that are no images are skipped."""
    return joined(_read(root, folder, split, layout) for split, folder in folders.items())


def joined(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """These rows below each other, with a fresh index."""
    import pandas as pd  # here: `reid list` need not wait for it

    return pd.concat(parts, ignore_index=True)


def _read(root: Path, folder: str, split: str, layout: Layout) -> pd.DataFrame:
    """The images of one folder, as rows of `split`; identity and camera from the file names."""
    place, again = root / folder, f"unpack the data set again, or render: {layout.render}"
    if not place.is_dir():
        raise ReidError(f"folder {folder} is missing in {root}; {again}")
    try:
        files = sorted(os.listdir(place))
    except OSError as error:
        raise ReidError(f"folder {place} cannot be read ({error.strerror}); fix its permissions") from None
    names = [name for name in files if _is_image(name, layout)]
    if not names:
        raise ReidError(f"folder {place} holds no {layout.suffixes[0]} file; {again}")
    others = set(files) - set(names)
    if named := sorted(name for name in others if layout.pattern.fullmatch(Path(name).stem + layout.suffixes[0])):
        raise ReidError(
            f"{len(named):,} files in {place} are named as {layout.title}'s images but would not be read, since they "
            f"do not end in {' or '.join(layout.suffixes)}, first {shown(named)}; convert them, or move them elsewhere"
        )
    below = [
        f"{name}/{file}" for name in sorted(others) if (place / name).is_dir() for file in os.listdir(place / name)
    ]
    if deep := sorted(name for name in below if layout.pattern.fullmatch(Path(name).name)):
        what = f"{len(deep):,} images of {layout.title} lie in folders inside {place} and would not be read"
        raise ReidError(f"{what}, first {shown(deep)}; move them up, or elsewhere")
    matches = {name: layout.pattern.fullmatch(name) for name in names}
    if bad := [name for name, match in matches.items() if match is None]:
        other = f"this is another data set, give the folder of {layout.title}"
        remedy = other if len(bad) == len(names) else "remove or rename them"
        what = f"{len(bad):,} of {len(names):,} names in {place} are not {layout.title}'s, first {shown(bad)}"
        raise ReidError(f"{what}; expected {layout.expected}: {remedy}")
    known = [match for match in matches.values() if match]
    return rows([f"{folder}/{name}" for name in names], [int(m[1]) for m in known], [int(m[2]) for m in known], split)


def _is_image(name: str, layout: Layout) -> bool:
    return name.lower().endswith(layout.suffixes) and not name.startswith(".")


def rows(paths: list[str], identities: Iterable[int], cameras: Iterable[int], split: str) -> pd.DataFrame:
    """Rows of one split, in the columns and types of a data set's table."""
    import pandas as pd  # here: `reid list` need not wait for it

    numbers = dict(identity=np.asarray(identities, np.int64), camera=np.asarray(cameras, np.int64))
    return pd.DataFrame({"path": paths, **numbers, "split": split})


def shown(names: Iterable[str]) -> str:
    """The first three names for a message of one line: as they are, or quoted where they hold odd characters."""
    return ", ".join(name if name.isprintable() else ascii(name) for name in list(names)[:3])


def files_digest(root: Path, paths: Iterable[str]) -> str:
    """Digest of a real data set (16 hex digits) from names and sizes in bytes, in a second."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        try:
            size = (root / path).stat().st_size
        except OSError as error:
            raise ReidError(f"{root / path} cannot be read ({error.strerror}); copy this file again") from None
        digest.update(f"{path}\t{size}\n".encode())
    return digest.hexdigest()[:16]


def combined_digest(*parts: str) -> str:
    """One digest (16 hex digits) of several digests or words, in their order."""
    return hashlib.sha256("\t".join(parts).encode()).hexdigest()[:16]


def rows_digest(base: str, table: pd.DataFrame) -> str:
    """Digest of `base` (a digest of the files) and of who is in which split, where file names do not tell it."""
    return combined_digest(base, table[list(COLUMNS)].to_csv(index=False, sep="\t", lineterminator="\n"))


def read_manifest(root: Path, name: str) -> dict | None:
    """The manifest of the stand-in in `root`, None where it is none; half rendered, foreign or cut is a ReidError."""
    again = f"finish it with the same `reid render {name} … --out {root}`, or render into an empty folder"
    path = root / MANIFEST
    if not path.is_file():
        if traces := unfinished(root):
            raise ReidError(f"{root} holds a half-rendered stand-in ({traces[0]}, no {MANIFEST}); {again}")
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found, digest, counts = manifest["name"], manifest["digest"], manifest["counts"]
        if not all(type(size) is int and size >= 0 for size in counts.values()):
            raise ValueError("counts are not whole numbers")
        if found == name and not re.fullmatch("[0-9a-f]{16}", digest):
            raise ValueError("its digest is not 16 hex digits")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ReidError(f"{path} cannot be read as a manifest ({type(error).__name__}: {error}); {again}") from None
    if found != name:
        raise ReidError(f"{path} describes the stand-in of {found!r}, not of {name!r}; give its folder") from None
    return manifest


def unfinished(root: Path) -> list[str]:
    """Files in `root` that a renderer leaves while it works (standin.unfinished.json and the like)."""
    stem = Path(MANIFEST).stem + "."
    return sorted(
        entry.name for entry in root.iterdir() if entry.name.startswith((stem, f".{stem}")) and entry.name != MANIFEST
    )


def sizes(
    table: pd.DataFrame, root: Path, manifest: dict | None, published: Mapping[str, int], layout: Layout
) -> list[Check]:
    """Split sizes: shown against the published ones for a real set, required to equal the manifest's for a stand-in.

    published: "train images", "query identities" and so on (junk and distractors are no identities)."""
    checks, rendered = [], manifest or {"counts": {}}
    for folder, size in rendered["counts"].items():
        found = sum(_is_image(name, layout) for _, _, names in os.walk(root / folder) for name in names)
        if found != size:
            again = f"--scale {rendered.get('scale')} --seed {rendered.get('seed')} --out {root}"
            what = f"stand-in {root} is not whole: {found:,} images in {folder}, its manifest says {size:,}"
            raise ReidError(f"{what}; render it again: `reid render {layout.name} {again}`")
        checks.append(Check(f"images in {folder}", f"{size:,}", f"{found:,}", True))
    for what, size in published.items() if not manifest else ():
        split, kind = what.rsplit(" ", 1)
        identities = table.loc[table["split"] == split, "identity"]
        found = len(identities) if kind == "images" else identities[identities > DISTRACTOR].nunique()
        checks.append(Check(what, f"{size:,}", f"{found:,}", found == size))
    return checks


def consistency(table: pd.DataFrame, root: Path) -> list[Check]:
    """What must hold between the splits: a ReidError, but for identities both trained and tested."""
    train, queries = (table[table["split"] == name] for name in ("train", "query"))
    nobody = train[train["identity"] <= DISTRACTOR]
    if len(nobody):
        what = f"is a junk or distractor image among the training images ({len(nobody)} such)"
        raise ReidError(f"{nobody['path'].iloc[0]} in {root} {what}; move it to the gallery's folder or remove it")
    alone = queries_without_match(table)
    if len(alone):
        path, identity, camera, _ = alone[list(COLUMNS)].iloc[0]
        what = f"query {root / path} (identity {identity}, camera {camera}) has no match from another camera"
        raise ReidError(f"{what} in the gallery ({len(alone)} such queries); complete the gallery or remove them")
    shared = set(train["identity"]) & set(queries["identity"])
    return [
        Check("queries with a match in another camera", f"all {len(queries):,}", f"all {len(queries):,}", True),
        Check("identities both trained and tested", "0", f"{len(shared):,}", not shared),
    ]


def queries_without_match(table: pd.DataFrame) -> pd.DataFrame:
    """The query rows whose identity no gallery image of another camera shows: they could never be answered."""
    queries, gallery = (table[table["split"] == name] for name in ("query", "gallery"))
    seen = gallery.loc[gallery["identity"] > DISTRACTOR, ["identity", "camera"]].drop_duplicates()
    pairs = queries.reset_index(names="query").merge(seen, on="identity", suffixes=("", "_seen"))
    return queries[~queries.index.isin(pairs.loc[pairs["camera"] != pairs["camera_seen"], "query"])]
