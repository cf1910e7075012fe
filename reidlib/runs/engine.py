"""The engine: trains what is missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

from reidlib.runs import records
from reidlib.runs.run import Run, Runs, runs_of
from reidlib.spec import Busy, ReidError


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
    wanted = runs_of(slug, rows=rows, **asked)
    repeats = [run for run in runs_of(slug, rows=again, again=again, **asked) if again]
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
    return Runs(tuple(runs_of(slug, **asked)), tuple(repeats))


def train_in_a_process(run: Run, log: Callable[[str], None] = print) -> None:
    """Trains one run in a process of its own and passes its lines on; the whole log stays in the work folder."""
    records.check_writable(run.record_file.parent)
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
