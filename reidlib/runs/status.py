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
from reidlib.runs.run import Run, runs_of
from reidlib.spec import ReidError, check_choice

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


# --- status -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """The state of one run. what: one of `STATES`. more: the reason of a failure, or how far a run is."""

    run: Run
    what: str
    more: str = ""

    def line(self) -> str:
        """The state, and the command that makes this run, or repeats it beside its record."""
        more = f"  {self.more}" if self.more else ""
        command = [*self.run.command(), *(["--again"] if self.what == "done" else [])]
        return f"{self.what:<8}{self.run.name}{more}\n        {shlex.join(command)}"


def states(plan: Plan) -> list[State]:
    """The state of every run of a plan, in its order."""
    return [state(run) for run in plan.runs]


def state(run: Run) -> State:
    """A run whose lock is held is running; if it only waits for a device or renders, its log says so."""
    try:
        holder, record = locks.holder_of(run.work_folder / "lock"), run.record()
    except ReidError as fault:
        return State(run, "failed", str(fault))
    except OSError as fault:  # a lock or a folder of another user
        return State(run, "failed", f"{fault.filename}: cannot be read ({fault.strerror}); fix its permissions")
    if record and record.ok:
        return State(run, "done")
    if holder:
        return State(run, "running", f"process {holder}{_last_line(run)}")
    if record:
        return State(run, "failed", record.error)
    begun = any((run.work_folder / name).exists() for name in (training.CHECKPOINT, training.PREVIOUS))
    return State(run, "missing", "has a checkpoint" if begun else "")


def _last_line(run: Run) -> str:
    with suppress(OSError):
        lines = run.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return f": {records.printable(lines[-1])}" if lines else ""
    return ""


def overview(plan: Plan, found: Iterable[State]) -> list[str]:
    """One line for each table and data set: how many of its runs are in which state. Shared runs count in each."""
    what = {one.run.record_file: one.what for one in found}
    widths = [max(map(len, column)) for column in zip(*plan.tables, strict=True)]
    lines = []
    for (slug, dataset), files in plan.tables.items():
        counts = Counter(what[file] for file in files)
        words = "  ".join(f"{counts[state]:>3} {state}" for state in STATES)
        lines.append(f"{slug:<{widths[0]}}  {dataset:<{widths[1]}}  {words}")
    return lines


def orphans(plan: Plan) -> list[Path]:
    """Records in the folders of the plan that no row of their paper asks for, whatever the seed.

    They come from another version of the code: other settings, other images, or an older RESULTS_VERSION. Their keys
    differ, so they are never used. A record that cannot be read counts as one, unless the plan asks for it.
    """
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


# --- clean ------------------------------------------------------------------------------------------------------------


def kept() -> dict[str, list[Path]]:
    """What is in the cache, by the kinds of `KEPT`. What belongs to a running run is left out.

    Which stand-in, image, log or repeat a run needs is not known here: all are left out until none is running.
    """
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
    """Removes these kinds from the cache; MiB freed by kind. Records and notebooks are never touched.

    Raises ReidError for an unknown kind, for a cache folder that reid did not create, for a link in it that leads out
    of it, and for what cannot be removed.
    """
    for kind in kinds:
        check_choice("reid clean", "kind", kind, [*KEPT, "all"])
    check_own_cache()
    found = kept()
    chosen = {kind: found[kind] for kind in (KEPT if "all" in kinds else kinds)}
    cache = paths.cache().resolve()
    for place in (place for places in chosen.values() for place in places):
        if not place.parent.resolve().is_relative_to(cache):
            raise ReidError(f"{place.parent} is a link that leads out of the cache; remove what it holds by hand")
    freed = {kind: size_mb(places) for kind, places in chosen.items()}
    for place in (place for places in chosen.values() for place in places):
        try:
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
        except OSError as fault:
            where = fault.filename or place
            raise ReidError(f"{where}: cannot be removed ({fault.strerror}); fix its permissions") from fault
    return freed


def check_own_cache() -> None:
    """Raises ReidError for a cache folder that reid did not create: neither marked so, nor a checkout's own .cache."""
    cache = paths.cache()
    marker = cache / records.CACHE_MARKER
    if not cache.exists() or marker.is_file():
        return
    if cache.name == ".cache" and (cache.parent / "results" / "reported.tsv").is_file():
        return
    raise ReidError(
        f"{cache} was not created by reid (no file {marker.name} in it) and may hold files of others; nothing was "
        f"removed: set REID_CACHE to another folder, or create {marker} if all in it is reid's"
    )
