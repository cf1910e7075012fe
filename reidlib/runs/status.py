"""Status of runs (done, running, failed, missing), and what is in the cache and can be removed."""

from __future__ import annotations

import os
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reidlib import papers, paths, training
from reidlib.runs import locks, records
from reidlib.runs.run import Run, columns, runs_of
from reidlib.spec import ReidError, check_choice, printable

if TYPE_CHECKING:
    from reidlib.runs.batch import Plan

KEPT = {
    "checkpoints": "of unfinished runs: they would start from the beginning",
    "weights": "of trained networks: needed by rows that share one, and by figures of images",
    "repeats": "records and weights of `--again`",
    "stand-ins": "rendered images",
    "images": "decoded images: decoded again when needed",
    "logs": "of runs",
}
"""What is in the cache: the kinds that `reid clean` removes."""
STATES = ("done", "running", "failed", "missing")


@dataclass(frozen=True)
class State:
    """The state of one run. what: one of `STATES`. more: the reason of a failure, or how far a run is."""

    run: Run
    what: str
    more: str = ""

    def line(self) -> str:
        """The state, and the command that makes this run, or repeats it beside its record."""
        command = self.run.command() + (["--again"] if self.what == "done" else [])
        return f"{self.what:<8}{self.run.name}{'  ' * bool(self.more)}{self.more}\n        {shlex.join(command)}"


def state(run: Run) -> State:
    """A run whose lock is held is running; if it only waits for a device or renders, its log says so."""
    try:
        holder, record = locks.holder_of(run.work_folder / "lock"), run.record()
        log = run.log_file.read_text(encoding="utf-8", errors="replace") if holder and run.log_file.exists() else ""
    except ReidError as fault:
        return State(run, "failed", str(fault))
    except OSError as fault:  # a lock or a folder of another user
        return State(run, "failed", f"{fault.filename}: cannot be read ({fault.strerror}); fix its permissions")
    if record and record.ok:
        return State(run, "done")
    if holder:
        return State(run, "running", ": ".join([f"process {holder}", *map(printable, log.splitlines()[-1:])]))
    if record:
        return State(run, "failed", record.error)
    begun = any((run.work_folder / name).exists() for name in (training.CHECKPOINT, training.PREVIOUS))
    return State(run, "missing", "has a checkpoint" if begun else "")


def overview(plan: Plan, found: Iterable[State]) -> list[str]:
    """One line for each table and data set: how many of its runs are in which state. Shared runs count in each."""
    what = {one.run.record_file: one.what for one in found}
    counts = [Counter(what[file] for file in files) for files in plan.tables.values()]
    texts = ["  ".join(f"{one[state]:>3} {state}" for state in STATES) for one in counts]
    return columns([(*name, text) for name, text in zip(plan.tables, texts, strict=True)])


def orphans(plan: Plan) -> list[Path]:
    """Records in the folders of the plan that no row of their paper asks for, whatever the seed: of other settings,
    images, or an older RESULTS_VERSION. An unreadable record counts as one, unless the plan asks for it."""
    files = {file for run in plan.runs for file in run.record_file.parent.glob("*.json")}
    unknown, seeds = files - {run.record_file for run in plan.runs}, set()
    for file in unknown:
        with suppress(ReidError):
            seeds.add(records.read(file, arrays=False).seed)
    known = set()
    for paper, dataset in {(run.table.paper, run.dataset) for run in plan.runs} if seeds else ():
        place = dict(budget=plan.budget, source=plan.source, dataset=dataset)
        for table in papers.tables().values():
            if table.paper == paper and dataset in table.datasets and plan.budget in table.budgets:
                known |= {run.record_file for run in runs_of(table.slug, seeds=sorted(seeds), **place)}
    return sorted(unknown - known)


def kept() -> dict[str, list[Path]]:
    """What is in the cache, by the kinds of `KEPT`, without what belongs to a running run: its own folder, and all
    repeats, stand-ins, images and logs, of which it may need any."""
    cache, busy = paths.cache(), running()
    runs = [folder for folder in _entries(cache / "runs") if folder not in busy]
    again = [folder for folder in runs if folder.name.endswith("-again")]
    own = [folder for folder in runs if folder not in again]
    partial = [file for folder in own for file in (*folder.glob("checkpoint*"), *folder.glob("*.partial"))]
    rendered = [folder for folder in _entries(cache / "stand-in") if folder.is_dir()]
    shared = {
        "repeats": [cache / "again", *again],
        "stand-ins": [folder for folder in rendered if not _is_held(folder.with_name(f"{folder.name}.lock"))],
        "images": [cache / "images"],
        "logs": [cache / "logs"],
    }
    return {
        "checkpoints": partial,
        "weights": [file for folder in own for file in folder.glob("weights*") if file not in partial],
        **{kind: [] if busy else places for kind, places in shared.items()},
    }


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted; nothing where the folder is missing or cannot be read."""
    with suppress(OSError):
        return sorted(folder.iterdir())
    return []


def running() -> set[Path]:
    """The work folders of networks that a process trains or tests now."""
    return {file.parent for file in (paths.cache() / "runs").glob("*/lock") if _is_held(file)}


def _is_held(lock: Path) -> bool:
    """Whether a process holds a lock; one that cannot be read (of another user) counts as held."""
    try:
        return locks.holder_of(lock) is not None
    except OSError:
        return True


def size_mb(places: Iterable[Path]) -> float:
    """MiB of files and of all below folders; links are not followed, what disappears meanwhile is not counted."""
    total = 0
    for place in places:
        files = [place]
        if place.is_dir() and not place.is_symlink():
            files = [Path(folder, name) for folder, _, names in os.walk(place) for name in names]
        for file in files:
            with suppress(OSError):
                total += file.lstat().st_size
    return total / 2**20


def clean(kinds: Sequence[str]) -> dict[str, float]:
    """Removes these kinds from the cache; MiB freed by kind. Records and notebooks are never touched. Raises ReidError
    for a cache folder that reid did not create, and for a link in it that leads out of it."""
    for kind in kinds:
        check_choice("reid clean", "kind", kind, [*KEPT, "all"])
    cache, marker = paths.cache(), paths.cache() / records.CACHE_MARKER
    of_checkout = cache.name == ".cache" and (cache.parent / "results" / "reported.tsv").is_file()
    if cache.exists() and not marker.is_file() and not of_checkout:
        why = f"was not created by reid (no file {marker.name} in it) and may hold files of others; nothing was removed"
        remedy = f"set REID_CACHE to another folder, or create {marker} if all in it is reid's"
        raise ReidError(f"{cache} {why}: {remedy}")
    found = kept()
    chosen = {kind: found[kind] for kind in (KEPT if "all" in kinds else kinds)}
    places = [place for places in chosen.values() for place in places]
    for place in places:
        if not place.parent.resolve().is_relative_to(cache.resolve()):
            raise ReidError(f"{place.parent} is a link that leads out of the cache; remove what it holds by hand")
    freed = {kind: size_mb(of_kind) for kind, of_kind in chosen.items()}
    for place in places:
        try:
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
        except OSError as fault:
            where = place / (fault.filename or "")  # of what is in a folder, the bare name
            raise ReidError(f"{where}: cannot be removed ({fault.strerror}); fix its permissions") from fault
    return freed
