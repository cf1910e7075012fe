"""Market-1501 (Zheng et al., ICCV 2015): the real folder and its stand-in, by one loader.

Layout: bounding_box_train (751 identities), query (750 others) and bounding_box_test, the gallery, which also holds
junk (−1) and distractors (0); optionally gt_bbox, hand-drawn boxes, from which multi-query takes the images of the
query identities. Names: 0002_c1s1_000451_03.jpg = identity 2, camera 1, sequence 1, frame 451, box 3.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd

from reidlib.data.table import (
    DISTRACTOR,
    JUNK,
    Check,
    Dataset,
    files_digest,
    list_images,
    queries_without_match,
    read_manifest,
    unfinished,
)
from reidlib.spec import ReidError

NAME = "market1501"
VARIABLE = "REID_DATA"
ROOT_NAMES = ("Market-1501-v15.09.15", "Market-1501", "market1501")
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
MULTI_QUERY_FOLDER = "gt_bbox"

PUBLISHED = {
    "train images": 12_936,
    "train identities": 751,
    "query images": 3_368,
    "query identities": 750,
    "gallery images": 19_732,
}
"""Split sizes as the paper and the data set's page give them; the gallery counts junk and distractors too."""

NAME_PATTERN = re.compile(r"(-1|\d{4})_c([1-6])s\d_\d{6}_\d{2}(?:\.jpe?g)+", re.IGNORECASE)
RENDER = "`reid render market1501 --scale 0.05 --seed 0 --out DIR`"


def parse_name(name: str) -> tuple[int, int]:
    """Identity (junk −1, distractor 0) and camera (1 to 6) of an image, from its file name.

    Raises ReidError when the name is not of Market-1501's form.
    """
    match = NAME_PATTERN.fullmatch(name)
    if match is None:
        raise ReidError(f"{name} is no Market-1501 name; expected the form 0002_c1s1_000451_03.jpg, cameras 1 to 6")
    return int(match[1]), int(match[2])


def load(root: Path | str | None = None) -> Dataset:
    """Read Market-1501 or its stand-in from `root` and check it.

    root  the folder that holds bounding_box_train, query and bounding_box_test. One level too deep, or one or two
          levels too shallow, is mended and noted in the checks. None: looked for under the folder named by the
          environment variable REID_DATA.

    Split sizes of a real set that differ from the published ones are shown in the checks (cut-down copies are in use).
    Raises ReidError, one line, for everything that would make a number wrong: folders missing or empty, names that do
    not parse, junk or distractors among the training images, a query without a match in another camera, a stand-in
    that is not whole.
    """
    folder, note = _find(root)
    manifest = read_manifest(folder, NAME)
    table = _read_table(folder)
    checks = [note, *_sizes(table, folder, manifest), *_consistency(table, folder)]
    digest = manifest["digest"] if manifest else files_digest(folder, table["path"])
    return Dataset(NAME, folder, "stand-in" if manifest else "real", table, digest, tuple(checks))


def describe(dataset: Dataset) -> str:
    """The text that `reid data market1501` prints: split sizes, then the checks."""
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
    return "\n".join(lines)


# --- finding the folder -----------------------------------------------------------------------------------------------


def _find(root: Path | str | None) -> tuple[Path, Check]:
    """The folder that holds the layout, and the note on how it was found."""
    if root is None:
        base = os.environ.get(VARIABLE)
        if not base:
            raise ReidError(
                f"no folder given for {NAME} and {VARIABLE} is not set; set {VARIABLE} to the folder that holds "
                f"{ROOT_NAMES[0]} (or {', '.join(ROOT_NAMES[1:])}), or render the stand-in: {RENDER} and give DIR"
            )
        given, asked = Path(base), f"{VARIABLE}={base}"
    else:
        given, asked = Path(root), f"root {root}"
    if not given.is_dir():
        raise ReidError(f"{asked} is no folder; give the folder of the data set, or render the stand-in: {RENDER}")
    try:
        found = _search(given.resolve(), asked, names_only=root is None)
    except PermissionError as error:
        raise ReidError(f"{asked}: {error.filename} cannot be read; mend its permissions") from None
    as_given = root is None or found == given.resolve()
    return found, Check("folder", str(given), str(found) if as_given else f"{found}, found from {asked}", True)


def _search(given: Path, asked: str, *, names_only: bool) -> Path:
    """`given` itself, its parent, or the one folder up to two levels below that has the layout.

    names_only: below `given`, only folders under one of ROOT_NAMES count. REID_DATA holds other data sets too, and
    DukeMTMC-reID has the same three folders.
    """
    if _folders_in(given) or unfinished(given):
        return given
    if len(_folders_in(given.parent)) == len(FOLDERS):
        return given.parent
    below = [path for pattern in ("*", "*/*") for path in sorted(given.glob(pattern)) if path.is_dir()]
    named = [path for path in below if path.name in ROOT_NAMES and (_folders_in(path) or unfinished(path))]
    candidates = named or ([] if names_only else [path for path in below if len(_folders_in(path)) == len(FOLDERS)])
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        listed = ", ".join(str(path.relative_to(given)) for path in candidates[:4])
        raise ReidError(f"{asked} holds {len(candidates)} data sets ({listed}); give one of them as the root")
    raise ReidError(
        f"{asked} holds none of {', '.join(FOLDERS.values())}, nor does a folder up to two levels below it "
        f"({', '.join(ROOT_NAMES)} are looked for); give the folder that holds them, or render the stand-in: {RENDER}"
    )


def _folders_in(folder: Path) -> list[str]:
    return [name for name in FOLDERS.values() if (folder / name).is_dir()]


# --- reading and checking ---------------------------------------------------------------------------------------------


def _read_table(root: Path) -> pd.DataFrame:
    missing = [name for name in FOLDERS.values() if not (root / name).is_dir()]
    if missing:
        raise ReidError(f"folder {missing[0]} is missing in {root}; unpack the data set again, or render: {RENDER}")
    parts = [_read_split(root, split, folder) for split, folder in FOLDERS.items()]
    train, query, _ = parts
    wrong = train[train["identity"] <= DISTRACTOR]
    if len(wrong):
        raise ReidError(
            f"{wrong['path'].iloc[0]} in {root} is a junk or distractor image among the training images "
            f"({len(wrong)} such); move it to {FOLDERS['gallery']} or remove it"
        )
    if (root / MULTI_QUERY_FOLDER).is_dir():
        multi = _read_split(root, "multi-query", MULTI_QUERY_FOLDER)
        parts.append(multi[multi["identity"].isin(query["identity"])])
    return pd.concat(parts, ignore_index=True)


def _read_split(root: Path, split: str, folder: str) -> pd.DataFrame:
    names = list_images(root / folder)
    matches = [NAME_PATTERN.fullmatch(name) for name in names]
    bad = [name for name, match in zip(names, matches, strict=True) if match is None]
    if bad:
        raise ReidError(
            f"{len(bad)} of {len(names)} names in {root / folder} are not Market-1501's, first {', '.join(bad[:3])}; "
            "expected the form 0002_c1s1_000451_03.jpg with cameras 1 to 6: remove or rename them"
        )
    return pd.DataFrame(
        {
            "path": [f"{folder}/{name}" for name in names],
            "identity": pd.array([int(match[1]) for match in matches], dtype="int64").to_numpy(),
            "camera": pd.array([int(match[2]) for match in matches], dtype="int64").to_numpy(),
            "split": split,
        }
    )


def _sizes(table: pd.DataFrame, root: Path, manifest: dict | None) -> list[Check]:
    """Split sizes: shown against the published ones for a real set, required to equal the manifest's for a stand-in."""
    if manifest:
        return [_whole(root, folder, size, manifest) for folder, size in manifest["counts"].items()]
    counts = {}
    for split in FOLDERS:
        identities = table.loc[table["split"] == split, "identity"]
        counts[f"{split} images"] = len(identities)
        counts[f"{split} identities"] = identities[identities > DISTRACTOR].nunique()
    return [Check(what, f"{size:,}", f"{counts[what]:,}", counts[what] == size) for what, size in PUBLISHED.items()]


def _whole(root: Path, folder: str, size: int, manifest: dict) -> Check:
    found = len(list_images(root / folder)) if (root / folder).is_dir() else 0
    if found != size:
        raise ReidError(
            f"stand-in {root} is not whole: {found:,} images in {folder}, its manifest says {size:,}; render it again: "
            f"`reid render {NAME} --scale {manifest.get('scale')} --seed {manifest.get('seed')} --out {root}`"
        )
    return Check(f"images in {folder}", f"{size:,}", f"{found:,}", True)


def _consistency(table: pd.DataFrame, root: Path) -> list[Check]:
    alone = queries_without_match(table)
    if len(alone):
        first = alone.iloc[0]
        raise ReidError(
            f"query {root / first['path']} (identity {first['identity']}, camera {first['camera']}) has no match from "
            f"another camera in {FOLDERS['gallery']} ({len(alone)} such queries); complete the gallery or remove them"
        )
    queries = int((table["split"] == "query").sum())
    train = set(table.loc[table["split"] == "train", "identity"])
    shared = sorted(train & set(table.loc[table["split"] == "query", "identity"]))
    return [
        Check("queries with a match in another camera", f"all {queries:,}", f"all {queries:,}", True),
        Check("identities both trained and tested", "0", f"{len(shared):,}", not shared),
    ]
