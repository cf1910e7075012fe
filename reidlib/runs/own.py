"""A row of the reader's own: trained like the rows of a table, with its record and its weights in the cache alone.

    mine = own.train(runs, Row("mine", options=dict(channels=128)))

Nothing else reads those records: no claim, no page of the book, no other run."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from reidlib import paths
from reidlib.runs import devices, worker
from reidlib.runs.run import Run, Runs
from reidlib.spec import ReidError, Row

VARIANT = "your own"


@dataclass(frozen=True)
class OwnRun(Run):
    """A run of a row that the table does not declare."""

    @property
    def record_folder(self) -> Path:
        return paths.cache() / "own" / "records" / self._place

    def folder_of(self, network: str) -> Path:
        return paths.cache() / "own" / "runs" / network


def train(runs: Runs, row: Row | None, log: Callable[[str], None] = print) -> tuple[Run, ...]:
    """Trains and tests a row on the images, at the budget and from the seeds of these runs, in this process: on a GPU
    where there is one, else on all cores. What has a record already is read. None: no row, nothing to train.

    Raises ReidError for an option or a value that the table's model or recipe does not take."""
    if row is None:
        return ()
    first, own = runs.runs[0], replace(row, variant=VARIANT)
    try:
        first.table.settings(own, first.budget)
    except (TypeError, ValueError) as fault:
        raise ReidError(f"row {row.label!r}: {fault}; {choices(runs)}") from fault
    names = ("table", "dataset", "source", "budget", "data_digest", "train_digest")
    place = {name: getattr(first, name) for name in names}
    made = tuple(OwnRun(row=own, seed=seed, **place) for seed in sorted({run.seed for run in runs.runs}))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for run in made:
        worker.execute(run, log, device=device, threads=devices.cores())
    return made


def choices(runs: Runs) -> str:
    """The options of the model of a table's base, with their values there."""
    base = runs.table.base
    said = ", ".join(f"{name}={value!r}" for name, value in base.all_options().items())
    return f"options of {base.model.__name__}: {said}"
