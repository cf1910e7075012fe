"""DukeMTMC-reID (Ristani et al., ECCV workshops 2016; Zheng et al., ICCV 2017): the real folder and its stand-in.

Its authors withdrew the data set in 2019. This study never offers a download: it reads a copy that a person already
has and may use, and its own stand-in.

Layout: bounding_box_train, query and bounding_box_test, the gallery, which has 408 distractor identities beside those
of the queries. Names: 0001_c2_f0046182.jpg = identity 1, camera 2, frame 46,182. The distractors have ordinary numbers
here (not 0, as in Market-1501) and are wrong answers for every query without any rule of their own."""

import re
from pathlib import Path

from reidlib.data.table import FOLDERS, Dataset, Layout, load_folders, published

NAME = "dukemtmc"
WITHDRAWN = "DukeMTMC-reID was withdrawn by its authors in 2019; this study never offers a download of it"

PUBLISHED = published(16_522, 702, 2_228, 702, 17_661, 1_110)
"""Split sizes as Zheng et al. (ICCV 2017) give them; gallery identities: 702 of the test and 408 distractors."""

LAYOUT = Layout(
    name=NAME,
    title="DukeMTMC-reID",
    root_names=("DukeMTMC-reID", "dukemtmc-reid", "DukeMTMC", "dukemtmc"),
    forms=(tuple(FOLDERS.values()),),
    pattern=re.compile(r"(\d{4})_c([1-8])_f\d+(?:\.jpe?g)+", re.IGNORECASE),
    expected="the form 0001_c2_f0046182.jpg with cameras 1 to 8",
)


def load(root: Path | str | None = None) -> Dataset:
    """DukeMTMC-reID or its stand-in as a checked table; root and errors as in `table.load_folders`."""
    return load_folders(root, LAYOUT, PUBLISHED, notes=(WITHDRAWN,))
