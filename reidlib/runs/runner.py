"""The batch at work: each run of a plan in a process of its own, then the notebooks.

    result = runner.train(plan, machine)
    runner.write_chapters(plan)

Nothing that matters is kept in this process. What is finished is a record, what is half done a checkpoint, what is
being done a lock that dies with its process. So a batch can be killed at any moment and called again, and two batches
on one results folder share the work.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from reidlib import paths
from reidlib.book import notebooks
from reidlib.runs import locks, records, worker
from reidlib.runs.batch import Chapter, Job, Machine, Plan, duration
from reidlib.spec import Busy, ReidError

RETRIES = 2
"""How often a run that something outside has killed is started again, from its checkpoint."""

QUIET = 30 * 60.0
"""Seconds without a line in its log after which a run counts as hanging; more where ten of its epochs take longer."""

LOOK = 0.2
"""Seconds between two looks at the processes."""

AGAIN = 5.0
"""Seconds until a run that another process is making is looked at again."""


@dataclass
class Result:
    """What became of the jobs: made here, made by another process, failed with the reason."""

    made: list[Job] = field(default_factory=list)
    elsewhere: list[Job] = field(default_factory=list)
    failed: list[tuple[Job, str]] = field(default_factory=list)


@dataclass
class Working:
    """A job whose process runs. begins: where its part of the log begins."""

    job: Job
    process: subprocess.Popen
    begins: int
    started: float = field(default_factory=time.time)

    @classmethod
    def of(cls, job: Job, machine: Machine) -> Working:
        """Starts it. It takes its device by itself, and writes into its log, not to us: it can outlive us."""
        line = [sys.executable, "-u", "-m", "reidlib.runs.worker", *job.run.command()[2:], "--lease"]
        line += ["--gpus", machine.asked, "--per-gpu", str(machine.per_device)]
        line += ["--deterministic"] if machine.deterministic else []
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("a") as stream:
            stream.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(job.run.command())}\n")
            stream.flush()
            process = subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=os.environ | {"OMP_NUM_THREADS": str(machine.threads)},
                start_new_session=True,
            )
            return cls(job, process, stream.tell())

    def lines(self) -> list[str]:
        """Its log so far; nothing where somebody has removed it."""
        with suppress(OSError), self.job.log.open(errors="replace") as stream:
            stream.seek(self.begins)
            return [line.rstrip() for line in stream if line.strip()]
        return []

    def hangs(self, limit: float | None) -> str:
        """The reason to stop it; "" while it works or has just ended."""
        if limit is None:
            epochs = max(1, self.job.run.settings.recipe.resolved()["epochs"])
            limit = max(QUIET, 10 * self.job.need.seconds / epochs)
        written = self.started
        with suppress(OSError):
            written = max(written, self.job.log.stat().st_mtime)
        quiet = time.time() - written
        if self.process.poll() is not None or quiet < limit:
            return ""
        if (self.lines() or [""])[-1].startswith(("waiting for ", "rendering ")):  # perhaps for another batch
            return ""
        return f"no line in its log for {duration(quiet)}: taken for hanging and stopped; its checkpoint is kept"

    def stop(self) -> None:
        """Asks it to end, and kills it when it does not."""
        for way in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, way)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
                return

    def reason(self) -> str:
        """Why it failed, by its record, its last line or its exit status."""
        code, said = self.process.returncode, (self.lines() or [""])[-1]
        if code < 0:
            name = signal.Signals(-code).name
            why = " (as the kernel does when memory runs out)" if name == "SIGKILL" else ""
            return f"killed by {name}{why} {RETRIES + 1} times; its checkpoint is kept"
        return self.error() or said.removeprefix("error: ") or f"ended with {code}"

    def error(self) -> str:
        """The first line of what its failed record says; "" where it has left none."""
        file = self.job.run.record_file
        with suppress(ReidError, OSError, AttributeError):  # AttributeError: there is no record
            if file.stat().st_mtime >= self.started:
                return self.job.run.record().error.partition("\n")[0]
        return ""


def say(text: str) -> None:
    """A line above the live table, and at once in a file that it is redirected to."""
    tqdm.write(text)
    sys.stdout.flush()


def train(plan: Plan, machine: Machine, *, time_limit: float | None = None, say: Callable[[str], None] = say) -> Result:
    """Runs every job of the plan, as many at once as the machine has places, and waits for those of other batches.

    time_limit: seconds without a line after which a run counts as hanging; None: `QUIET`, or ten predicted epochs.
    A job that fails does not stop the others. When this process is stopped, so are its runs, and each keeps its
    checkpoint. When it is killed outright, the runs at work go on to their ends, and the next batch waits for them.
    """
    for folder in {job.run.record_file.parent for job in plan.jobs}:
        records.check_writable(folder)
    batch = _Batch(machine, time_limit, say, list(plan.jobs))
    with _stopping(batch.working), Table(machine.places, len(plan.jobs)) as table:
        while batch.waiting or batch.working:
            batch.begin()
            time.sleep(LOOK)
            batch.end()
            table.show(batch)
    return batch.result


@dataclass
class _Batch:
    """The state of one call of `train`; all of it can be lost."""

    machine: Machine
    time_limit: float | None
    say: Callable[[str], None]
    waiting: list[Job]
    working: list[Working] = field(default_factory=list)
    result: Result = field(default_factory=Result)
    busy: dict[str, float] = field(default_factory=dict)  # key of a run that another process makes -> when seen
    kills: dict[str, int] = field(default_factory=dict)

    def begin(self) -> None:
        """Starts what may start: what it shares is made or given up, and nobody else was found making it."""
        unmade = {job.run.key for job in self.waiting} | {one.job.run.key for one in self.working}
        for job in list(self.waiting):
            if len(self.working) >= self.machine.places:
                return
            if unmade.intersection(job.after) or time.time() - self.busy.get(job.run.key, 0.0) < AGAIN:
                continue
            if job.run.is_made():
                self.waiting.remove(job)
                self.result.elsewhere.append(job)
                self.line("made by another process", job)
            elif locks.holder_of(job.run.work_folder / "lock"):
                self.busy[job.run.key] = time.time()
            else:
                self.waiting.remove(job)
                try:
                    self.working.append(Working.of(job, self.machine))
                except OSError as fault:
                    self.fail(job, f"cannot be started ({fault}); free some space or memory and call again")

    def end(self) -> None:
        """Takes in what has ended, and stops what hangs."""
        for one in list(self.working):
            why = one.hangs(self.time_limit)
            if why:
                one.stop()
            elif one.process.poll() is None:
                continue
            self.working.remove(one)
            self._take_in(one, why)

    def _take_in(self, one: Working, why: str) -> None:
        job, code, key = one.job, one.process.returncode, one.job.run.key
        if not why and code == 0 and job.run.is_made():
            self.result.made.append(job)
            self.line("finished", job, self._metrics(one))
        elif not why and code == Busy.status:
            self.busy[key] = time.time()
            self.waiting.append(job)
        elif not why and code < 0 and self.kills.get(key, 0) < RETRIES:
            self.kills[key] = self.kills.get(key, 0) + 1
            self.waiting.insert(0, job)
            self.line(f"killed by {signal.Signals(-code).name}", job, "starting it again, from its checkpoint")
        else:
            why = why or one.reason()
            if not one.error():  # it could not say so itself: `reid status` shall know
                worker.fail(job.run, why)
            self.fail(job, why, f" (log {job.log})")

    def fail(self, job: Job, why: str, more: str = "") -> None:
        self.result.failed.append((job, why))
        self.line("failed", job, why + more)

    def _metrics(self, one: Working) -> str:
        """Its numbers and its time; a run that went through in one piece teaches the next prediction."""
        job, took, said = one.job, time.time() - one.started, one.lines()
        if not any(line.startswith(("resuming", "waiting", "rendering", "finished already")) for line in said):
            self.machine.book().took(job.run, job.need, took)
        numbers = job.run.record().metrics[job.run.protocol]
        return f"R1 {numbers['rank1']:.1f} mAP {numbers['mAP']:.1f} in {duration(took)} ({duration(job.need.seconds)})"

    def line(self, what: str, job: Job, more: str = "") -> None:
        done = len(self.result.made) + len(self.result.elsewhere) + len(self.result.failed)
        whole = done + len(self.waiting) + len(self.working)
        self.say(f"[{done}/{whole}] {what}: {job.name}" + (f": {more}" if more else ""))


@contextmanager
def _stopping(working: list[Working]) -> Iterator[None]:
    """When this process is asked to stop, so are the runs; they are not left to work on unseen.

    A closed terminal asks, too, unless `nohup` has said that it does not.
    """

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    asks = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in asks}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for one in working:
            with suppress(ProcessLookupError):
                os.killpg(one.process.pid, signal.SIGTERM)
        for one in working:
            one.stop()


class Table:
    """What runs just now, in a terminal: a line a place, and one for the whole. Elsewhere nothing."""

    def __init__(self, places: int, jobs: int):
        plain = not sys.stdout.isatty()
        form = dict(leave=False, disable=plain, file=sys.stdout, dynamic_ncols=True)
        whole = "{l_bar}{bar}| {n_fmt}/{total_fmt} runs, {elapsed}{postfix}"
        self.whole = tqdm(total=jobs, bar_format=whole, **form)
        lines = range(min(places, jobs))
        self.lines = [tqdm(total=0, position=place + 1, bar_format="{desc}", **form) for place in lines]

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *fault: object) -> None:
        for bar in (*self.lines, self.whole):
            bar.close()

    def show(self, batch: _Batch) -> None:
        if self.whole.disable:
            return
        result = batch.result
        self.whole.n = len(result.made) + len(result.elsewhere) + len(result.failed)
        self.whole.set_postfix(failed=len(result.failed), elsewhere=len(batch.busy))
        texts = [f"  {one.job.name}  {(one.lines() or ['starting'])[-1]}" for one in batch.working]
        for bar, text in zip(self.lines, texts + [""] * len(self.lines), strict=False):
            bar.set_description_str(text)


# --- notebooks --------------------------------------------------------------------------------------------------------


def write_chapters(plan: Plan, say: Callable[[str], None] = print) -> list[tuple[Chapter, str]]:
    """Executes the notebooks whose runs all have their records. Returns those that were not, with the reason."""
    left = []
    for chapter in plan.chapters:
        if missing := chapter.missing():
            left.append((chapter, f"{len(missing)} of its runs have no finished record, such as {missing[0]}"))
            continue
        if notebooks.is_current(chapter.slug, chapter.parameters):
            continue
        try:
            say(f"notebook: {_from_home(notebooks.execute(chapter.slug, chapter.parameters, quiet=True))}")
        except ReidError as fault:
            left.append((chapter, str(fault)))
    return left


def pages(plan: Plan) -> list[str]:
    """The executed notebooks of the plan that the book's table of contents does not name."""
    named = (paths.home() / "_toc.yml").read_text()
    copies = [
        notebooks.executed_copy(chapter.slug, source=plan.source, dataset=chapter.dataset, budget=plan.budget)
        for chapter in plan.chapters
    ]
    names = [_from_home(copy.with_suffix("")) for copy in copies if copy.exists()]
    return [name for name in names if name not in named]


def _from_home(file: Path) -> str:
    home = paths.home()
    return str(file.relative_to(home) if file.is_relative_to(home) else file)
