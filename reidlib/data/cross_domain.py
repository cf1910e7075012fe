"""Cross-domain pairs: train on one data set, test on another, as one checked table."""

from __future__ import annotations

import os
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

from reidlib.data import dukemtmc, market1501, msmt17
from reidlib.data.table import DISTRACTOR, Dataset, combined_digest, joined
from reidlib.spec import ReidError, check_choice

if TYPE_CHECKING:
    import pandas as pd

SETS = {"market": market1501, "duke": dukemtmc, "msmt17": msmt17}
"""The data sets that pair by name, under the words of the papers' tables; `join` takes any two."""

PAIRS = {f"{train}-to-{test}": (SETS[train].NAME, SETS[test].NAME) for train, test in permutations(SETS, 2)}
"""Name of the pair -> the data set it trains on, the data set it is tested on."""


def load(name: str, root: Path | str | None = None) -> Dataset:
    """The two data sets of one of PAIRS, joined; root: the folder that holds both (None: REID_DATA)."""
    check_choice("cross-domain", "pair of data sets", name, list(PAIRS))
    loaders = {part.NAME: part.load for part in SETS.values()}
    return join(name, *(loaders[part](root) for part in PAIRS[name]))


def join(name: str, train: Dataset, test: Dataset) -> Dataset:
    """The training split of `train` with the other splits of `test`, as the data set `name`.

    Persons and cameras of `test` are numbered on from the highest training number, junk and distractors keep theirs.
    Paths are relative to the nearest folder that holds both. Raises ReidError for two data sets that are the same, or
    of which one is a stand-in and the other real."""
    if train.source != test.source:
        kinds = f"{train.name} is {train.source} and {test.name} is {test.source}"
        raise ReidError(f"{name}: {kinds}; their numbers never mix: give two of one kind")
    if train.name == test.name:
        raise ReidError(f"{name}: {train.name} is both trained and tested; a cross-domain pair needs two data sets")
    root = Path(os.path.commonpath([train.root.resolve(), test.root.resolve()]))
    learnt = _below(root, train)[train.table["split"] == "train"]
    tested = _below(root, test)[test.table["split"] != "train"]
    persons = tested["identity"] > DISTRACTOR
    tested = tested.assign(
        identity=tested["identity"] + persons * learnt["identity"].max(),
        camera=tested["camera"] + learnt["camera"].max(),
    )
    checks = tuple(check._replace(what=f"{part.name}: {check.what}") for part in (train, test) for check in part.checks)
    note = f"trained on {train.name}, tested on {test.name}, whose persons and cameras are numbered on from it"
    table, digest = joined([learnt, tested]), combined_digest(train.digest, test.digest)
    return Dataset(name, root, train.source, table, digest, checks, (note, *train.notes, *test.notes))


def _below(root: Path, part: Dataset) -> pd.DataFrame:
    """The table of `part`, its paths relative to `root`."""
    inner = part.root.resolve().relative_to(root)
    return part.table.assign(path=[(inner / path).as_posix() for path in part.table["path"]])
