"""What there is: which runs are done, at work, failed or missing; and what lies in the cache, to be removed."""

from __future__ import annotations

import shlex
import shutil
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reidlib import papers, paths, training
from reidlib.runs import locks, records
from reidlib.runs.batch import Job, Plan
from reidlib.runs.run import Run, runs_of
from reidlib.spec import ReidError, check_choice

KEPT = {
    "checkpoints": "of runs not finished: they would begin anew",
    "weights": "of trained networks: needed by rows that share one, and by figures of pictures",
    "repeats": "records and weights of `--again`",
    "stand-ins": "rendered images",
    "logs": "of the runs of batches",
    "predictions": "measured speeds, and how long runs took",
}
"""What lies in the cache, by the words of `reid clean`."""


# --- status -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """One run as it stands. what: "done", "running", "failed", "missing". more: the reason, or how far it is."""

    run: Run
    what: str
    more: str = ""

    def line(self) -> str:
        """With the command that makes this one cell, or repeats it beside the record."""
        more = f"  {self.more}" if self.more else ""
        command = [*self.run.command(), *(["--again"] if self.what == "done" else [])]
        return f"{self.what:<8}{Job(self.run).name}{more}\n        {shlex.join(command)}"


def states(plan: Plan) -> list[State]:
    return [state(run) for run in plan.runs]


def state(run: Run) -> State:
    """A run whose lock is held is at work; if it only waits for a device or renders, its log says so."""
    holder = locks.holder_of(run.work_folder / "lock")
    try:
        record = run.record()
    except ReidError as fault:
        return State(run, "failed", str(fault))
    if record and record.ok:
        return State(run, "done")
    if holder:
        return State(run, "running", f"process {holder}{_last_line(run)}")
    if record:
        return State(run, "failed", record.error)
    begun = any((run.work_folder / name).exists() for name in (training.CHECKPOINT, training.PREVIOUS))
    return State(run, "missing", "has a checkpoint" if begun else "")


def _last_line(run: Run) -> str:
    log = Job(run).log
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return f": {lines[-1]}" if lines else ""


def overview(plan: Plan, found: list[State]) -> list[str]:
    """A line a table and data set: how many of its runs are in which state. Tables that share a run all count it."""
    what = {one.run.record_file: one.what for one in found}
    widths = [max(map(len, column)) for column in zip(*plan.tables, strict=True)]
    lines = []
    for (slug, dataset), files in plan.tables.items():
        counts = Counter(what[file] for file in files)
        words = "  ".join(f"{counts[state]:>3} {state}" for state in ("done", "running", "failed", "missing"))
        lines.append(f"{slug:<{widths[0]}}  {dataset:<{widths[1]}}  {words}")
    return lines


def strangers(plan: Plan) -> list[Path]:
    """Records in the folders of the plan that no row of their paper asks for, whatever the seed.

    They come from another version of the code: other settings, other images, or an older RESULTS_VERSION. Their keys
    differ, so nothing ever takes them for a record of today.
    """
    files = {file for run in plan.runs for file in run.record_file.parent.glob("*.json")}
    unknown = files - {run.record_file for run in plan.runs}
    known, seeds = set(), set()
    for file in unknown:
        with suppress(ReidError):  # one that cannot be read is a stranger in any case
            seeds.add(records.read(file).seed)
    asked = dict(budget=plan.budget, source=plan.source, seeds=sorted(seeds))
    for paper, dataset in {(run.table.paper, run.dataset) for run in plan.runs} if seeds else ():
        for table in papers.tables().values():
            if table.paper == paper and dataset in table.datasets:
                known |= {run.record_file for run in runs_of(table.slug, dataset=dataset, **asked)}
    return sorted(unknown - known)


# --- clean ------------------------------------------------------------------------------------------------------------


def kept() -> dict[str, list[Path]]:
    """What lies in the cache, by the words of `KEPT`. Whatever belongs to a run at work is left out.

    Which stand-in, log or repeat a run at work needs is not known from outside: all of them stay until none is at work.
    """
    cache = paths.cache()
    busy = at_work()
    idle = not busy
    runs = [folder for folder in sorted((cache / "runs").glob("*")) if folder not in busy]
    own = [folder for folder in runs if not folder.name.endswith("-again")]
    partial = [file for folder in own for file in (*folder.glob("checkpoint*"), *folder.glob("*.partial"))]
    return {
        "checkpoints": partial,
        "weights": [file for folder in own for file in folder.glob("weights*") if file not in partial],
        "repeats": [cache / "again", *(folder for folder in runs if folder.name.endswith("-again"))] if idle else [],
        "stand-ins": [
            folder
            for folder in sorted((cache / "stand-in").glob("*"))
            if idle and folder.is_dir() and not locks.holder_of(folder.with_name(f"{folder.name}.lock"))
        ],
        "logs": [cache / "logs"] if idle else [],
        "predictions": [cache / "predictions"],
    }


def at_work() -> set[Path]:
    """The folders of networks that some process trains or tests just now."""
    return {file.parent for file in (paths.cache() / "runs").glob("*/lock") if locks.holder_of(file)}


def size_mb(paths: list[Path]) -> float:
    files = (file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]))
    return sum(file.stat().st_size for file in files if file.is_file()) / 2**20


def clean(kinds: list[str]) -> dict[str, float]:
    """Removes these kinds from the cache; MiB given back of each. Records and notebooks are never touched."""
    for kind in kinds:
        check_choice("reid clean", "kind", kind, [*KEPT, "all"])
    there = kept()
    given = {}
    for kind in KEPT if "all" in kinds else kinds:
        given[kind] = size_mb(there[kind])
        for path in there[kind]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return given
