"""A run: one row of a table at a budget, on a data set, with a seed; and all runs of a table as they stand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reidlib import papers, paths
from reidlib.data import cross_domain, cuhk03
from reidlib.models import backbone
from reidlib.runs import records
from reidlib.runs.datasets import SOURCES, data_digest
from reidlib.runs.records import Record
from reidlib.spec import ReidError, Row, Settings, Table, check_choice

if TYPE_CHECKING:  # `reid list` need not wait for it
    import pandas as pd

STUDY = "standins"  #: The paper of the study's own tables
LARGEST_SEED = 10**12  #: The seeds of its epochs still fit into 64 bits


@dataclass(frozen=True)
class Run:
    """One network to be trained and tested: a row at a budget, on a data set, with a seed. again: the run repeats a
    record on this machine; its own record goes into the cache and never replaces that record. train_digest: of the data
    set that is trained on, where another one is tested (a cross-domain pair)."""

    table: Table
    row: Row
    dataset: str
    source: str
    budget: str
    seed: int
    data_digest: str
    again: bool = False
    train_digest: str = ""

    @classmethod
    def of_task(cls, table: str, row: str, variant: str, **plain: Any) -> Run:
        """The run that `task` describes; no digest is computed again."""
        found = papers.table(table)
        return cls(found, next(one for one in found.rows if (one.label, one.variant) == (row, variant)), **plain)

    def task(self) -> dict[str, Any]:
        """The run as plain data, for another process."""
        names = ("dataset", "source", "budget", "seed", "data_digest", "again", "train_digest")
        own = {"table": self.table.slug, "row": self.row.label, "variant": self.row.variant}
        return own | {name: getattr(self, name) for name in names}

    @property
    def name(self) -> str:
        """The run in one line, for messages."""
        variant = "" if self.row.variant == "as-published" else f" ({self.row.variant})"
        again = ", again" if self.again else ""
        return f"{self.table.slug} {self.row.label!r}{variant} {self.dataset} seed {self.seed}{again}"

    @cached_property
    def settings(self) -> Settings:
        return self.table.settings(self.row, self.budget)

    @property
    def data(self) -> dict[str, Any]:
        """Its data set as its record names it, as far as it is known before the data set is read."""
        named = {"name": self.dataset, "source": self.source, "digest": self.data_digest}
        return named | ({"train_digest": self.train_digest} if self.train_digest else {})

    def made_from(self, settings: Settings) -> dict[str, Any]:
        """The fields of a record from which its keys follow, of this run's own settings or of those of its first."""
        own = {"settings": settings.trained(), "tested": settings.tested(), "start_digest": start_of(settings)}
        return own | {"data": self.data, "seed": self.seed}

    @cached_property
    def key(self) -> str:
        return records.keys_of(self.made_from(self.settings))[0]

    @cached_property
    def network(self) -> str:
        """Key of the trained network; rows that differ only in what is tested share it."""
        return self.network_of(self.settings)

    def network_of(self, settings: Settings) -> str:
        """Key of a network trained on this run's data from its seed: its own, or the one trained before it."""
        return records.keys_of(self.made_from(settings))[1]

    @property
    def protocol(self) -> str:
        """Name of the protocol of its test."""
        name = self.table.protocol_of(self.dataset)
        return name.replace("single-query", "multi-query") if self.settings.testing.multi_query else name

    @property
    def _place(self) -> Path:
        return Path(self.source, self.dataset, self.budget, self.table.paper)

    @property
    def record_folder(self) -> Path:
        root = paths.cache() / "again" if self.again else paths.results()
        return root / "records" / self._place

    @property
    def record_file(self) -> Path:
        """Where its record is written."""
        return self.record_folder / f"{self.key}.json"

    @property
    def found_file(self) -> Path:
        """Where its record is read. A row of the study's own tables can be a row of a paper, run for run: one key, one
        record, that of the paper."""
        own = self.record_file
        if self.table.paper != STUDY or self.again or own.exists():
            return own
        return next(iter(sorted(own.parent.parent.glob(f"*/{own.name}"))), own)

    @property
    def log_file(self) -> Path:
        """What its trainings on this machine printed."""
        return paths.cache() / "logs" / self._place / f"{self.key}.log"

    @property
    def work_folder(self) -> Path:
        """Checkpoint, weights and lock of the network."""
        return self.folder_of(self.network)

    def folder_of(self, network: str) -> Path:
        """Where this run keeps a network: its own, or the one that is trained before it."""
        return paths.cache() / "runs" / (f"{network}-again" if self.again else network)

    def record(self, *, arrays: bool = True) -> Record | None:
        """The record if there is one, failed or not. arrays: False leaves its per-query file unread."""
        folder = self.record_folder.parent if self.table.paper == STUDY else self.record_folder
        if not folder.is_dir():  # most runs of the study: no need to compute their keys
            return None
        file = self.found_file
        return records.read(file, arrays=arrays) if file.exists() else None

    def per_query(self, name: str = "ap") -> np.ndarray:
        """One number a query (0 to 1) from beside the record, AP or "rank1" (CMC at 1, from the rank of the first match
        where the gallery is whole); excluded queries are left out."""
        file = self.found_file
        record = records.read(file, arrays=False)
        arrays = records.read_per_query(file, record)
        if name.startswith("rank") and name not in arrays:
            arrays[name] = (arrays["first_hit"] <= int(name.removeprefix("rank"))).astype(np.float64)
        return arrays[name][arrays["valid"]]

    def identities(self) -> np.ndarray:
        """Whom each query shows (int64), in the order of `per_query`: the queries of one person are one cluster."""
        return self.per_query("identity")

    def state(self, *, arrays: bool = True) -> str:
        """ "finished", "failed" or "missing"."""
        record = self.record(arrays=arrays)
        return record.status if record else "missing"

    def is_made(self) -> bool:
        """Whether it has a finished record. One that cannot be read does not count: the run is made again."""
        try:
            return self.state() == "finished"
        except records.OtherSchema:  # of later code, which may read it
            raise
        except ReidError:
            return False

    def command(self, rows: Sequence[str] | None = None) -> list[str]:
        """The command line that makes this one run, or these rows of its table with its seed (all where empty)."""
        line = ["reid", "train", self.table.slug]
        if rows is None:
            line += ["--row", self.row.label, "--variant", self.row.variant]
        elif rows:
            line += ["--row", *rows]
        line += ["--dataset", self.dataset, "--source", self.source, "--budget", self.budget, "--seed", str(self.seed)]
        return [*line, "--again"] if self.again else line


def _records(source: str, dataset: str, budget: str, paper: str) -> Path:
    return paths.results().joinpath("records", source, dataset, budget, paper)


def start_of(settings: Settings) -> str:
    """The digest of the weights from which a network starts here (others make another run); "" for from scratch."""
    return backbone.start_of(settings.recipe.start, settings.options.get("depth", 50)).digest


def runs_of(
    slug: str,
    *,
    budget: str,
    dataset: str | None = None,
    source: str = "stand-in",
    seeds: Sequence[int] = (0,),
    rows: Sequence[str] = (),
    again: Sequence[str] = (),
) -> list[Run]:
    """The runs behind a table: every row in `rows` (all where empty) with every seed; those in `again` are repeats."""
    table = papers.table(slug)
    check_choice(slug, "budget", budget, list(table.budgets))
    check_choice(slug, "source", source, SOURCES)
    dataset = dataset or table.datasets[0]
    check_choice(slug, "data set", dataset, table.datasets)
    if not seeds or any(not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED for seed in seeds):
        what = f"seeds {list(seeds)} must be whole numbers from 0 to {LARGEST_SEED}, at least one"
        raise ReidError(f"{slug}: {what}; give such as 0 or 0,1,2")
    papers.rows(table, list(again))
    digest, pair = data_digest(dataset, source, budget), cross_domain.PAIRS.get(dataset)
    learnt = data_digest(pair[0], source, budget) if pair else ""
    return [
        Run(table, row, dataset, source, budget, seed, digest, row.label in again, learnt)
        for row in papers.rows(table, list(rows))
        for seed in seeds
    ]


def read_runs(slug: str, **asked: Any) -> Runs:
    """All runs of a table as they stand, nothing trained; `asked` as for `plan`."""
    return Runs(tuple(runs_of(slug, **asked)))


@dataclass(frozen=True)
class Runs:
    """All runs of a table at one budget, in the table's order, and the repeats made on this machine."""

    runs: tuple[Run, ...]
    repeats: tuple[Run, ...] = ()

    @property
    def table(self) -> Table:
        return self.runs[0].table

    def frame(self) -> pd.DataFrame:
        """One line a run: row, variant, seed, state, key, and the metrics of the table's protocol (NaN where none)."""
        import pandas as pd

        lines = []
        for run in self.runs:
            metrics = record.metrics.get(run.protocol, {}) if (record := run.record()) else {}
            line = {"row": run.row.label, "variant": run.row.variant, "seed": run.seed, "key": run.key}
            lines.append(line | {"state": record.status if record else "missing"} | metrics)
        return pd.DataFrame(lines)

    def records(self) -> list[tuple[Run, Record]]:
        """The finished ones."""
        return [(run, record) for run in self.runs if (record := run.record()) and record.ok]

    def repeated(self) -> list[tuple[Run, Record, Record]]:
        """(run, its record in results/, the record of its repeat on this machine) for every finished repeat."""
        first = {run.key: run for run in self.runs}
        pairs = ((run, first[run.key].record(), run.record()) for run in self.repeats)
        return [(run, there, here) for run, there, here in pairs if there and there.ok and here and here.ok]

    def missing(self) -> list[Run]:
        return [run for run in self.runs if run.state() != "finished"]


def recorded_seeds(slug: str, *, budget: str, dataset: str, source: str = "stand-in") -> list[int]:
    """The seeds of the records that a paper's tables have on a data set at a budget, sorted; [0] where there are none.
    Not every row has a record from each of them."""
    found = set()
    for file in _records(source, dataset, budget, slug.partition("/")[0]).glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):  # who reads the record says what is wrong with it
            found.add(int(json.loads(file.read_bytes())["seed"]))
    return sorted(seed for seed in found if 0 <= seed <= LARGEST_SEED) or [0]


def reported_numbers(table: Table, dataset: str) -> pd.DataFrame:
    """The numbers the paper prints for this table and data set: a line for each row label, a column for each metric. A
    row that is the `same_as` one of another table has that one's number."""
    import pandas as pd

    own = table.paper == STUDY  # what others print for the study's own tables
    file = paths.home() / "results" / ("controls.tsv" if own else "reported.tsv")
    frame = pd.read_csv(file, sep="\t", dtype={"value": float}, keep_default_na=False)
    if own:
        frame = frame.rename(columns={"ladder": "variant"}).assign(paper=STUDY, table=table.name)
    printed = dataset  # one name for a data set, whatever its boxes or its split
    if dataset in cuhk03.VARIANTS:
        printed = "cuhk03-np" if cuhk03.VARIANTS[dataset][0] == "np" else "cuhk03"
    of_paper = frame[(frame["paper"] == table.paper) & (frame["dataset"] == printed)]

    def printed_in(name: str, protocols: tuple[str, ...]) -> pd.DataFrame:
        return of_paper[(of_paper["table"] == name) & of_paper["variant"].isin(protocols)]

    parts = [printed_in(table.printed_in or table.name, table.printed_of(dataset))]
    for label, (other, row) in table.same_as.items():
        of_other = printed_in(other, papers.table(f"{table.paper}/{other}").printed_of(dataset))
        parts.append(of_other[of_other["row"] == row].assign(row=label))
    chosen = pd.concat(parts)
    return chosen.pivot(index="row", columns="metric", values="value").reindex(chosen["row"].unique())


def overview(asked: str = "") -> list[dict[str, Any]]:
    """Every row of a paper, a table or ("") all, with its state by budget, on the stand-in: what `reid list` shows. The
    states are None where the records are not known: installed outside a checkout."""
    tables = papers.tables().values()
    chosen = [papers.table(asked)] if "/" in asked else [table for table in tables if asked in ("", table.paper)]
    if not chosen:
        check_choice("reid list", "paper or table", asked, list(dict.fromkeys(table.paper for table in tables)))
    lines, known = [], paths.has_results()
    for table in chosen:
        for dataset in table.datasets:
            states = {budget: ["missing" if known else None] * len(table.rows) for budget in table.budgets}
            for budget in table.budgets:
                if known and _records("stand-in", dataset, budget, table.paper).is_dir():
                    runs = runs_of(table.slug, budget=budget, dataset=dataset)
                    states[budget] = [run.state(arrays=False) for run in runs]
            for number, row in enumerate(table.rows):
                line = {"paper": table.paper, "table": table.name, "row": row.label, "variant": row.variant}
                state = {budget: found[number] for budget, found in states.items()}
                lines.append(line | {"dataset": dataset, "state": state})
    return lines


def columns(lines: Sequence[Sequence[str]]) -> list[str]:
    """Words below each other, two spaces between columns; the last column is not filled up."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(f"{word:<{width}}" for word, width in zip(line, widths, strict=True)).rstrip() for line in lines]
