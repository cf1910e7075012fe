"""MSMT17 (Wei et al., CVPR 2018): version 1, version 2 (faces masked) and the stand-in, by one loader.

Four lists in the root say what belongs to which split: list_train.txt, list_val.txt, list_query.txt, list_gallery.txt.
Their lines, such as "0000/0000_000_01_0303morning_0008_0.jpg 0", hold a path below the folder of training or test
images and a label. The folders are train and test in version 1, mask_train_v2 and mask_test_v2 in version 2. Names:
identity, number, camera (01 to 15), date and time of day, frame, box.

Labels count from 0 twice, once for training and once for the test, and 0 is a real person. In the table the identity
is label + 1 for training and label + 1,042 for the test, so that no person is a distractor (0) and none is both trained
and tested. A stand-in has the layout of version 1."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from reidlib.data import table
from reidlib.data.table import Check, Dataset, Layout
from reidlib.spec import ReidError

if TYPE_CHECKING:
    import pandas as pd

NAME = "msmt17"
LISTS = {"list_train.txt": "train", "list_val.txt": "train", "list_query.txt": "query", "list_gallery.txt": "gallery"}
FOLDERS = {
    "version 1": {"train": "train", "test": "test"},
    "version 2": {"train": "mask_train_v2", "test": "mask_test_v2"},
}
TRAIN_IDENTITIES = 1_041

PUBLISHED = table.published(32_621, TRAIN_IDENTITIES, 11_659, 3_060, 82_161, 3_060)
"""Split sizes as the paper and the released lists give them; train is list_train and list_val."""

LAYOUT = Layout(
    name=NAME,
    title="MSMT17",
    root_names=("MSMT17_V1", "MSMT17_V2", "MSMT17", "msmt17"),
    forms=(tuple(LISTS),),
    pattern=re.compile(r"(?:\d+/)?(\d{4})_\d+_(0[1-9]|1[0-5])_\w+\.jpe?g", re.IGNORECASE),
    expected="the form 0000/0000_000_01_0303morning_0008_0.jpg with cameras 01 to 15",
)


def load(root: Path | str | None = None) -> Dataset:
    """MSMT17 or its stand-in as a checked table; root and errors as in `table.load_folders`.

    Also raises ReidError for lists missing, a line that does not parse, an image that is listed but not there or twice.
    """
    folder, note = table.find_root(root, LAYOUT)
    manifest = table.read_manifest(folder, NAME)
    if missing := [name for name in LISTS if not (folder / name).is_file()]:
        raise ReidError(f"{missing[0]} is missing in {folder}; unpack the data set again, or render: {LAYOUT.render}")
    version = next((one for one in FOLDERS if all((folder / part).is_dir() for part in FOLDERS[one].values())), None)
    if version is None:
        wanted = " nor ".join(" and ".join(folders.values()) for folders in FOLDERS.values())
        raise ReidError(f"{folder} has the lists of MSMT17, but neither {wanted}; unpack the images beside the lists")
    folders = FOLDERS[version]
    images = table.joined(_read_list(folder / name, split, folders) for name, split in LISTS.items())
    twice = images.loc[images["path"].duplicated(), "path"]
    if len(twice):
        raise ReidError(f"{twice.iloc[0]} stands twice in the lists of {folder} ({len(twice)} such); unpack them again")
    files = table.files_digest(folder, images["path"])  # also finds every image that is listed but not there
    matches, _ = table.consistency(images, folder)  # the other check is true by construction here
    walked = [name for part in folders.values() for _, _, names in os.walk(folder / part) for name in names]
    on_disk = sum(LAYOUT.pattern.fullmatch(name) is not None for name in walked)
    checks = (
        note,
        Check("folders", version, f"{version} ({', '.join(folders.values())})", True),
        *table.sizes(images, folder, manifest, PUBLISHED, LAYOUT),
        matches,
        Check("images that no list names", "0", f"{on_disk - len(images):,}", on_disk == len(images)),
    )
    # file names do not tell train from val or query from gallery
    digest = manifest["digest"] if manifest else table.rows_digest(files, images)
    notes = (
        "the training split is list_train and list_val together, as users of the published protocol train",
        f"identity = label + 1 in training, label + {TRAIN_IDENTITIES + 1:,} in the test: the lists count both from 0",
    )
    return Dataset(NAME, folder, "stand-in" if manifest else "real", images, digest, checks, notes)


def _read_list(file: Path, split: str, folders: dict[str, str]) -> pd.DataFrame:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ReidError(f"{file} cannot be read ({error}); unpack it again") from None
    part, offset = ("train", 1) if split == "train" else ("test", 1 + TRAIN_IDENTITIES)
    paths, identities, cameras = [], [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition(" ")
        match = LAYOUT.pattern.fullmatch(path)
        where, again = f"line {number} of {file}", "unpack the list again"
        if match is None or not re.fullmatch("[0-9]{1,6}", label):
            raise ReidError(f"{where} is {line!r}; expected {LAYOUT.expected}, a space and a label: {again}")
        if split == "train" and int(label) >= TRAIN_IDENTITIES:
            raise ReidError(f"{where} has label {label}, but training labels end at {TRAIN_IDENTITIES - 1:,}; {again}")
        paths.append(f"{folders[part]}/{path}")
        identities.append(int(label) + offset)
        cameras.append(int(match[2]))
    if not paths:
        raise ReidError(f"{file} is empty; unpack it again")
    return table.rows(paths, identities, cameras, split)
