"""From a row of a table to its record: plan the runs, train what is missing, read what is there.

    runs = study.ensure("safenet", "table5", budget="cpu")

Each run trains in a process of its own (`reidlib.worker`): memory is given back and a crash takes nothing along.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reidlib import papers, records
from reidlib.data import cross_domain, cuhk03, dukemtmc, market1501, msmt17, standin
from reidlib.data.table import Dataset, combined_digest
from reidlib.models.backbone import file_digest, imagenet_file
from reidlib.records import Record
from reidlib.spec import Busy, ReidError, Row, Settings, Table

STANDIN_SCALE = {"smoke": 0.005, "cpu": 0.05, "gpu": 0.25, "paper": 1.0}
"""Size of the stand-in at each budget, as a share of the real data set. Budgets are named here and nowhere else."""

STANDIN_SEED = 0
SOURCES = ("stand-in", "real")
LOADERS = {"market1501": market1501.load, "dukemtmc": dukemtmc.load, "msmt17": msmt17.load}
LOADERS |= {name: partial(cuhk03.load, name) for name in cuhk03.VARIANTS}
LOADERS |= {name: partial(cross_domain.load, name) for name in cross_domain.PAIRS}
"""Every name of a checked table -> its loader, called with the root or, for REID_DATA, with nothing."""


LOOKS = 4
"""How often a lock is tried before it counts as held: who only looks whether it is (`holder_of`) has it for a blink."""


def home() -> Path:
    """The checkout: where results/ and notebooks/ lie."""
    return Path(os.environ.get("REID_HOME", Path(__file__).resolve().parents[1]))


def results() -> Path:
    """The folder of records; `REID_RESULTS` puts it elsewhere."""
    return Path(os.environ.get("REID_RESULTS", home() / "results"))


def cache() -> Path:
    """Stand-ins, checkpoints and weights: all of it can be made again; `REID_CACHE` puts it elsewhere."""
    return Path(os.environ.get("REID_CACHE", home() / ".cache"))


@dataclass(frozen=True)
class Run:
    """One network to be trained and tested: a row at a budget, on a data set, from a seed.

    again: the run repeats a record on this machine; its own record goes into the cache, never over the committed one.
    train_digest: of the data set that is trained on, where another is tested (a cross-domain pair).
    """

    table: Table
    row: Row
    dataset: str
    source: str
    budget: str
    seed: int
    data_digest: str
    again: bool = False
    train_digest: str = ""

    @cached_property
    def settings(self) -> Settings:
        return self.table.settings(self.row, self.budget)

    @cached_property
    def network(self) -> str:
        """Key of the trained network; rows that differ only in what is tested share it."""
        return self.network_of(self.settings)

    def network_of(self, settings: Settings) -> str:
        """Key of a network trained on this run's data from its seed: its own, or the one trained before it."""
        data = self.train_digest or self.data_digest
        start = _start_of(settings)
        return records.key_of({"trained": settings.trained(), "start": start, "data": data, "seed": self.seed})

    @cached_property
    def key(self) -> str:
        other = {"tested_on": self.data_digest} if self.train_digest else {}
        return records.key_of({"network": self.network, "tested": self.settings.tested(), **other})

    @property
    def protocol(self) -> str:
        """Name of the protocol of its test."""
        name = self.table.protocol_of(self.dataset)
        if self.settings.testing.multi_query:
            return name.replace("single-query", "multi-query")
        return name

    @property
    def record_file(self) -> Path:
        folder = cache() / "again" if self.again else results()
        return folder / "records" / self.source / self.dataset / self.budget / self.table.paper / f"{self.key}.json"

    @property
    def work_folder(self) -> Path:
        """Checkpoint, weights and lock of the network."""
        return self.folder_of(self.network)

    def folder_of(self, network: str) -> Path:
        """Where this run keeps a network: its own, or the one trained before it."""
        return cache() / "runs" / (f"{network}-again" if self.again else network)

    def record(self) -> Record | None:
        """The record if there is one, failed or not."""
        return records.read(self.record_file) if self.record_file.exists() else None

    def per_query(self, name: str = "ap") -> np.ndarray:
        """One number a query (0 to 1) from beside the record, AP or "rank1" (CMC at 1); excluded queries are left out.

        A record of a whole gallery keeps the rank of the first match, from which CMC at every rank follows.
        """
        file = self.record_file.with_suffix(".npz")
        try:
            with np.load(file) as arrays:
                if name.startswith("rank") and name not in arrays:
                    values = (arrays["first_hit"] <= int(name.removeprefix("rank"))).astype(np.float64)
                else:
                    values = arrays[name]
                return values[arrays["valid"]]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as fault:
            raise ReidError(
                f"{file}: per-query numbers missing or cut short; delete the record and run it again"
            ) from fault

    def state(self) -> str:
        """ "finished", "failed" or "missing"."""
        record = self.record()
        return record.status if record else "missing"

    def is_made(self) -> bool:
        """Whether it has a finished record. One that cannot be read is none: the run is made again."""
        try:
            return self.state() == "finished"
        except ReidError:
            return False

    def command(self) -> list[str]:
        """The exact command line that makes this one run again."""
        line = ["reid", "train", self.table.slug, "--row", self.row.label, "--variant", self.row.variant]
        line += ["--dataset", self.dataset, "--source", self.source, "--budget", self.budget, "--seed", str(self.seed)]
        return [*line, "--again"] if self.again else line


def _start_of(settings: Settings) -> str:
    """ "scratch", or the digest of the ImageNet file at hand: other weights make another run."""
    if settings.recipe.resolved()["start"] == "scratch":
        return "scratch"
    file = imagenet_file(settings.bare_options().get("depth", 50))
    return file_digest(file) if file else "scratch"


def standin_folder(
    dataset: str, scale: float, seed: int = STANDIN_SEED, variant: standin.Variant | None = None
) -> Path:
    """Where a stand-in lies in the cache: its folder carries its digest, so that two renderers never share one."""
    digest = standin.digest(dataset, scale=scale, seed=seed, variant=variant)
    return cache() / "stand-in" / f"{dataset}-{scale:g}-{digest}"


def load(dataset: str, source: str, budget: str) -> Dataset:
    """The data set as a checked table; a stand-in is rendered first where it is not there yet."""
    if source == "real":
        return LOADERS[dataset]()
    if dataset in cross_domain.PAIRS:
        return cross_domain.join(dataset, *(load(part, source, budget) for part in cross_domain.PAIRS[dataset]))
    drawn = rendered_as(dataset)
    folder = standin_folder(drawn, STANDIN_SCALE[budget])
    with locked(folder.with_name(f"{folder.name}.lock"), wait=True):
        if not standin.is_complete(folder):
            standin.render(drawn, scale=STANDIN_SCALE[budget], seed=STANDIN_SEED, out=folder)
    return LOADERS[dataset](folder)


def is_to_be_rendered(dataset: str, source: str, budget: str) -> bool:
    """Whether `load` has a stand-in to render first."""
    names = [rendered_as(part) for part in parts_of(dataset)] if source == "stand-in" else []
    return not all(standin.is_complete(standin_folder(name, STANDIN_SCALE[budget])) for name in names)


def data_digest(dataset: str, source: str, budget: str) -> str:
    """What the key keeps of the data; for a stand-in it is known before anything is rendered."""
    if source == "real":
        return LOADERS[dataset]().digest
    if dataset in cross_domain.PAIRS:
        return combined_digest(*(data_digest(part, source, budget) for part in cross_domain.PAIRS[dataset]))
    digest = standin.digest(rendered_as(dataset), scale=STANDIN_SCALE[budget], seed=STANDIN_SEED)
    return cuhk03.standin_digest(dataset, digest) if dataset in cuhk03.VARIANTS else digest


def rendered_as(dataset: str) -> str:
    """The stand-in that holds a data set: one rendering of CUHK03 has all its boxes, protocols and splits."""
    return cuhk03.NAME if dataset in cuhk03.VARIANTS else dataset


def parts_of(dataset: str) -> tuple[str, ...]:
    """The two data sets of a cross-domain pair; any other alone."""
    return cross_domain.PAIRS.get(dataset, (dataset,))


def plan(
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
    demand_choice(slug, "budget", budget, table.budgets)
    demand_choice(slug, "source", source, SOURCES)
    dataset = dataset or table.datasets[0]
    demand_choice(slug, "data set", dataset, table.datasets)
    if not seeds or any(not isinstance(seed, int) or seed < 0 for seed in seeds):
        raise ReidError(f"{slug}: seeds {list(seeds)} must be whole numbers from 0, at least one")
    papers.rows(table, list(again))
    digest = data_digest(dataset, source, budget)
    pair = cross_domain.PAIRS.get(dataset)
    learnt = data_digest(pair[0], source, budget) if pair else ""
    return [
        Run(table, row, dataset, source, budget, seed, digest, row.label in again, learnt)
        for row in papers.rows(table, list(rows))
        for seed in seeds
    ]


def ensure(
    paper: str,
    table: str,
    *,
    budget: str,
    dataset: str | None = None,
    source: str = "stand-in",
    seeds: Sequence[int] = (0,),
    rows: Sequence[str] = (),
    again: Sequence[str] = (),
    log: Callable[[str], None] = print,
) -> Runs:
    """Trains what is missing among `rows` (all where empty), repeats `again`, and returns all runs of the table.

    A failed run does not stop the others; when all have been tried, the first failure is raised, naming its log.
    """
    asked = dict(budget=budget, dataset=dataset, source=source, seeds=seeds)
    slug = f"{paper}/{table}"
    wanted = plan(slug, rows=rows, **asked)
    repeats = [run for run in plan(slug, rows=again, again=again, **asked) if again]
    missing = [run for run in (*wanted, *repeats) if not run.is_made()]
    failures = []
    for number, run in enumerate(missing, 1):
        repeat = " (again, on this machine)" if run.again else ""
        log(f"[{number}/{len(missing)}] {run.table.slug} {run.row.label!r} seed {run.seed}, {run.budget}{repeat}")
        try:
            train_in_a_process(run, log)
        except ReidError as fault:
            log(f"failed: {fault}")
            failures.append(fault)
    if failures:
        raise failures[0]
    return Runs(tuple(plan(slug, **asked)), tuple(repeats))


def read(slug: str, **asked: Any) -> Runs:
    """All runs of a table as they stand, nothing trained; `asked` as for `plan`."""
    return Runs(tuple(plan(slug, **asked)))


def train_in_a_process(run: Run, log: Callable[[str], None] = print) -> None:
    """Trains one run in a process of its own and passes its lines on; the whole log stays in the work folder."""
    records.demand_writable(run.record_file.parent)
    line = [sys.executable, "-u", "-m", "reidlib.worker", *run.command()[2:]]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    last = ""
    try:
        for text in process.stdout:
            last = text.rstrip() or last
            log(text.rstrip())
    finally:
        if process.poll() is None and sys.exc_info()[0] is not None:
            process.terminate()
        process.wait()
    if process.returncode:
        kind = Busy if process.returncode == Busy.status else ReidError
        raise kind(last.removeprefix("error: ") or f"{' '.join(run.command())} ended with {process.returncode}")


@contextmanager
def locked(file: Path, *, wait: bool = False, holder: str = "") -> Iterator[None]:
    """Holds a lock that the kernel frees when the process dies. Without `wait`, a held lock is a ReidError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as stream:
        tries = 1 if wait else LOOKS
        for left in reversed(range(tries)):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                break
            except BlockingIOError:
                if left:
                    time.sleep(0.05)
                    continue
                stream.seek(0)
                raise Busy(
                    f"{holder or file.name} is being made by process {stream.read().strip() or '?'} (lock {file}); "
                    "wait for it, or stop that process"
                ) from None
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def holder_of(file: Path) -> str | None:
    """The number of the process that holds a lock ("?" where it has not said); None where nobody does."""
    try:
        with file.open() as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return stream.read().strip() or "?"
    except FileNotFoundError:
        pass
    return None


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
        lines = []
        for run in self.runs:
            record = run.record()
            line = {"row": run.row.label, "variant": run.row.variant, "seed": run.seed, "key": run.key}
            line["state"] = record.status if record else "missing"
            lines.append(line | (record.metrics.get(run.protocol, {}) if record else {}))
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


def reported(table: Table, dataset: str) -> pd.DataFrame:
    """The numbers the paper prints for this table and data set: one line a row label, one column a metric.

    Its list has one name for a data set whatever its boxes or its split.
    """
    file = home() / "results" / "reported.tsv"
    frame = pd.read_csv(file, sep="\t", dtype={"value": float}, keep_default_na=False)
    printed = dataset
    if dataset in cuhk03.VARIANTS:
        printed = "cuhk03-np" if cuhk03.VARIANTS[dataset][0] == "np" else "cuhk03"
    place = {"paper": table.paper, "table": table.printed_in or table.name, "dataset": printed}
    chosen = frame[(frame[list(place)] == pd.Series(place)).all(axis=1)]
    chosen = chosen[chosen["variant"].isin(table.printed_of(dataset))]
    return chosen.pivot(index="row", columns="metric", values="value").reindex(chosen["row"].unique())


def overview(asked: str = "") -> list[dict[str, Any]]:
    """Every row of every table with its state by budget, on the stand-in: what `reid list` shows.

    asked: a paper or a table ("hamr", "hamr/table6"); all where empty.
    """
    if "/" in asked:
        chosen = [papers.table(asked)]
    else:
        chosen = [table for table in papers.tables().values() if asked in ("", table.paper)]
    if not chosen:
        known = dict.fromkeys(table.paper for table in papers.tables().values())
        demand_choice("reid list", "paper or table", asked, list(known))
    lines = []
    for table in chosen:
        for dataset in table.datasets:
            states = {
                budget: {
                    (run.row.label, run.row.variant): run.state()
                    for run in plan(table.slug, budget=budget, dataset=dataset)
                }
                for budget in table.budgets
            }
            for row in table.rows:
                line = {"paper": table.paper, "table": table.name, "row": row.label, "variant": row.variant}
                line |= {"dataset": dataset, "state": {b: states[b][row.label, row.variant] for b in table.budgets}}
                lines.append(line)
    return lines


def demand_choice(where: str, what: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ReidError(f"{where}: unknown {what} {value!r}; choose one of {', '.join(choices)}")


def show(file: Path) -> str:
    """A record as a person reads it; `file` is a path, or a key or the beginning of one."""
    if not file.exists():
        found = sorted(results().glob(f"records/**/{file.name}*.json"))
        if len(found) != 1:
            raise ReidError(f"{file}: {len(found)} records begin so under {results()}; give a path or a longer key")
        file = found[0]
    record = records.read(file)
    lines = [f"{record.key}  {record.status}  {json.dumps(record.made_for, ensure_ascii=False)}"]
    lines += [f"  {protocol}: {json.dumps(metrics)}" for protocol, metrics in record.metrics.items()]
    for name in ("budget", "seed", "start", "device", "commit", "finished", "error"):
        lines.append(f"  {name}: {getattr(record, name)}")
    lines.append(f"  training: {record.seconds:.0f} s, {record.images_per_second:.1f} images/s")
    lines.append(f"  data: {json.dumps(record.data)}")
    lines.append(f"  settings: {json.dumps(record.settings)}")
    return "\n".join(lines)
