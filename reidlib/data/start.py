"""The rendered set in which the networks of the stand-ins start: no published data set, and nobody's photographs.

Folders and names are those of Market-1501, with more cameras, sequences and identities: bounding_box_train, query and
bounding_box_test; 0002_c1s1_000451_03.jpg = identity 2, camera 1, sequence 1, frame 451, box 3. There is neither junk
nor are there distractors."""

import re
from dataclasses import replace
from pathlib import Path

from reidlib.data import market1501
from reidlib.data.table import Dataset, load_folders
from reidlib.spec import ReidError

NAME = "start"
LAYOUT = replace(
    market1501.LAYOUT,
    name=NAME,
    title="The start",
    root_names=(NAME,),
    pattern=re.compile(r"(\d{4,5})_c(\d{1,2})s\d{1,2}_\d{6}_\d{2}\.jpg"),
    expected="the form 0002_c1s1_000451_03.jpg",
)


def load(root: Path | str | None = None) -> Dataset:
    """The rendered set in `root` as a checked table; `table.load_folders` names the errors it raises."""
    notes = ("rendered by this study to train the start of networks on; stands for no published data set",)
    data = None if root is None else load_folders(root, LAYOUT, {}, notes)
    if data is None or data.source == "real":
        raise ReidError(
            f"{NAME} exists only as a set that this study renders: {LAYOUT.render}, and give DIR as the root"
        )
    return data
