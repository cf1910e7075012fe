"""Market-1501 (Zheng et al., ICCV 2015): the real folder and its stand-in, by one loader.

Layout: bounding_box_train (751 identities), query (750 others) and bounding_box_test, the gallery, which also holds
junk (−1) and distractors (0); optionally gt_bbox, hand-drawn boxes, from which multi-query takes the images of the
query identities. Names: 0002_c1s1_000451_03.jpg = identity 2, camera 1, sequence 1, frame 451, box 3."""

import re
from pathlib import Path

from reidlib.data.table import FOLDERS, Dataset, Layout, load_folders, published

NAME = "market1501"
PUBLISHED = published(12_936, 751, 3_368, 750, 19_732)
"""Split sizes as the paper and the data set's page give them; the gallery counts junk and distractors too."""

LAYOUT = Layout(
    name=NAME,
    title="Market-1501",
    root_names=("Market-1501-v15.09.15", "Market-1501", "market1501"),
    forms=(tuple(FOLDERS.values()),),
    pattern=re.compile(r"(-1|\d{4})_c([1-6])s\d_\d{6}_\d{2}(?:\.jpe?g)+", re.IGNORECASE),
    expected="the form 0002_c1s1_000451_03.jpg with cameras 1 to 6",
)


def load(root: Path | str | None = None) -> Dataset:
    """Market-1501 or its stand-in as a checked table; root and errors as in `table.load_folders`."""
    return load_folders(root, LAYOUT, PUBLISHED, multi_query="gt_bbox")
