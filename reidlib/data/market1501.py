"""Market-1501 (Zheng et al., ICCV 2015): the real folder and its stand-in, by one loader.

Layout: bounding_box_train (751 identities), query (750 others) and bounding_box_test, the gallery, which also holds
junk (−1) and distractors (0); optionally gt_bbox, hand-drawn boxes, from which multi-query takes the images of the
query identities. Names: 0002_c1s1_000451_03.jpg = identity 2, camera 1, sequence 1, frame 451, box 3.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from reidlib.data.table import (
    Dataset,
    Layout,
    consistency,
    files_digest,
    find_root,
    read_folder,
    read_folders,
    read_manifest,
    sizes,
)
from reidlib.spec import ReidError

NAME = "market1501"
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

LAYOUT = Layout(
    name=NAME,
    title="Market-1501",
    root_names=("Market-1501-v15.09.15", "Market-1501", "market1501"),
    forms=(tuple(FOLDERS.values()),),
    pattern=re.compile(r"(-1|\d{4})_c([1-6])s\d_\d{6}_\d{2}(?:\.jpe?g)+", re.IGNORECASE),
    expected="the form 0002_c1s1_000451_03.jpg with cameras 1 to 6",
)


def parse_name(name: str) -> tuple[int, int]:
    """Identity (junk −1, distractor 0) and camera (1 to 6) of an image, from its file name.

    Raises ReidError when the name is not of Market-1501's form.
    """
    match = LAYOUT.pattern.fullmatch(name)
    if match is None:
        raise ReidError(f"{name} is no Market-1501 name; expected {LAYOUT.expected}")
    return int(match[1]), int(match[2])


def load(root: Path | str | None = None) -> Dataset:
    """Read Market-1501 or its stand-in from `root` and check it.

    root  the folder that holds bounding_box_train, query and bounding_box_test. One level too deep, or one or two
          levels too shallow, is corrected and noted in the checks. None: looked for under the folder named by the
          environment variable REID_DATA.

    Split sizes of a real set that differ from the published ones are shown in the checks (cut-down copies are in use).
    Raises ReidError, one line, for everything that would make a number wrong: folders missing or empty, names that do
    not parse, junk or distractors among the training images, a query without a match in another camera, a stand-in
    that is not whole.
    """
    folder, note = find_root(root, LAYOUT)
    manifest = read_manifest(folder, NAME)
    table = read_folders(folder, FOLDERS, LAYOUT)
    if (folder / MULTI_QUERY_FOLDER).is_dir():
        multi = read_folder(folder, MULTI_QUERY_FOLDER, "multi-query", LAYOUT)
        known = table.loc[table["split"] == "query", "identity"]
        table = pd.concat([table, multi[multi["identity"].isin(known)]], ignore_index=True)
    checks = (note, *sizes(table, folder, manifest, PUBLISHED, LAYOUT), *consistency(table, folder))
    digest = manifest["digest"] if manifest else files_digest(folder, table["path"])
    return Dataset(NAME, folder, "stand-in" if manifest else "real", table, digest, checks)
