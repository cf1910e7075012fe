"""The engine: the only code that has runs trained. Commands, notebooks and the jobs of a cluster all call it.

    runs = engine.ensure("safenet", "table5", budget="small")       # trains what is missing
    result = engine.train(plan.jobs, devices.places())              # the same for a batch

Each place (a device, or a share of one) has a worker, a process of `worker` that takes one run after the other. The
engine knows of a run only what the worker's events say. Nothing that matters is kept in this process: what is finished
is a record, what is half done a checkpoint, what is being done a lock that ends with its process. So a batch can be
killed at any moment and called again, and two batches on one results folder share the work.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from reidlib.runs import batch, datasets, devices, estimates, locks, records
from reidlib.runs.batch import Job, duration
from reidlib.runs.devices import Place
from reidlib.runs.run import Run, Runs, runs_of
from reidlib.spec import ReidError

WORKER = [sys.executable, "-m", "reidlib.runs.worker"]
"""The command of a worker; the number of the descriptor for its events is added."""

RETRIES = 2  #: How often a run whose worker has died is started again, from its checkpoint
QUIET = 30 * 60.0
"""Seconds without an event after which a run counts as hanging; more where ten of its epochs take longer."""

WAITING = 48
"""How many times longer a run may be silent that waits for another process or for a stand-in to be rendered."""

LOOK = 0.2  #: Seconds between two looks at processes that may have died
AGAIN = 2.0  #: Seconds until a run that another process is making is looked at again

Watch = Callable[[Job, dict[str, Any]], None]
"""Called with every event of a worker, and the job that it works on."""


@dataclass
class Result:
    """What became of the jobs: made here, made by another process, failed with the reason, left for another call.

    stopped: those among the left that had begun when the time was over.
    """

    made: list[Job] = field(default_factory=list)
    elsewhere: list[Job] = field(default_factory=list)
    failed: list[tuple[Job, str]] = field(default_factory=list)
    left: list[Job] = field(default_factory=list)
    stopped: list[Job] = field(default_factory=list)

    def count(self) -> int:
        return len(self.made) + len(self.elsewhere) + len(self.failed) + len(self.left)


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
    threads: int | None = None,
    log: Callable[[str], None] = print,
) -> Runs:
    """Trains what is missing among `rows` (all where empty), repeats `again`, and returns all runs of the table.

    threads: CPU threads of each run. A failed run does not stop the others; when all have been tried, the first
    failure is raised.
    """
    asked: dict[str, Any] = dict(budget=budget, dataset=dataset, source=source, seeds=seeds)
    slug = f"{paper}/{table}"
    wanted = runs_of(slug, rows=rows, **asked)
    repeats = runs_of(slug, rows=again, again=again, **asked) if again else []
    if missing := [run for run in (*wanted, *repeats) if not run.is_made()]:
        train_runs(missing, devices.places(threads=threads), log=log)
    return Runs(tuple(runs_of(slug, **asked)), tuple(repeats))


def train_runs(
    runs: Sequence[Run],
    places: Sequence[Place] | None = None,
    *,
    deterministic: bool = False,
    log: Callable[[str], None] = print,
) -> None:
    """Trains those of these runs that have no finished record and logs what they say; raises the first failure.

    places: default all of this machine.
    """
    jobs = batch.jobs_of([run for run in runs if not run.is_made()])
    if not jobs:
        return

    def watch(job: Job, event: dict[str, Any]) -> None:
        if event["event"] == "log":
            log(event["text"] if len(jobs) == 1 else f"{job.run.row.label}, seed {job.run.seed}: {event['text']}")

    result = train(jobs, places or devices.places(), deterministic=deterministic, say=log, watch=watch)
    if result.failed:
        job, why = result.failed[0]
        raise ReidError(f"{job.name}: {why} (log {job.log})")


def train(
    jobs: Sequence[Job],
    places: Sequence[Place],
    *,
    minutes: float | None = None,
    time_limit: float | None = None,
    deterministic: bool = False,
    say: Callable[[str], None] = print,
    watch: Watch | None = None,
) -> Result:
    """Runs all jobs, as many at once as there are places, and waits for those that other processes are making.

    minutes: start nothing that is not expected to end in this time, and stop what has not ended then. time_limit:
    seconds without an event after which a run counts as hanging; None: `QUIET`, or ten expected epochs. say: gets a
    line for each job that ends; watch: gets every event. A job that fails does not stop the others. When this process
    ends, for whatever reason, so do the workers; each run keeps its checkpoint.
    """
    if not jobs:
        return Result()
    for folder in {job.run.record_folder for job in jobs}:
        records.check_writable(folder)
    jobs = batch.estimated(jobs, places)
    places = [replace(place, sharing=min(place.sharing, len(jobs))) for place in places[: len(jobs)]]
    scheduler = _Scheduler(list(places), time_limit, deterministic, say, watch, list(jobs))
    if minutes is not None:
        scheduler.deadline = time.monotonic() + 60 * minutes
    try:
        scheduler.work()
    finally:
        scheduler.stop()
    return scheduler.result


class _Worker:
    """A worker process on its place, and the job that it works on."""

    def __init__(self, place: Place, job: Job, deterministic: bool):
        self.place, self.deterministic = place, deterministic
        self.job: Job | None = None
        self.buffer = b""
        self.events, theirs = os.pipe()
        visible = place.device.id if place.device.is_gpu else ""
        try:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            with job.log.open("ab") as log:  # what it prints before its first task; then it opens each log itself
                self.process = subprocess.Popen(
                    [*WORKER, str(theirs)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=[theirs],
                    env=os.environ | {devices.VISIBLE: visible, "OMP_NUM_THREADS": str(place.threads)},
                    start_new_session=True,
                )
        except OSError:
            os.close(self.events)
            raise
        finally:
            os.close(theirs)
        os.set_blocking(self.events, False)
        assert self.process.stdin is not None  # it is a pipe
        self.tasks = self.process.stdin

    def begin(self, job: Job) -> None:
        """Sends a job. A worker that has died is noticed by `has_ended`."""
        self.job, self.waits = job, False
        self.started = self.heard = time.monotonic()
        how = {"device": self.place.device.kind, "threads": self.place.threads, "at_once": self.place.sharing}
        how["deterministic"] = self.deterministic
        task = {"run": job.run.task(), "key": job.run.key, **how}
        with suppress(BrokenPipeError):
            self.tasks.write(json.dumps(task).encode() + b"\n")
            self.tasks.flush()

    def read(self) -> list[dict[str, Any]]:
        """The events since the last call."""
        with suppress(BlockingIOError):
            while part := os.read(self.events, 65536):
                self.buffer += part
        *lines, self.buffer = self.buffer.split(b"\n")
        found = [json.loads(line) for line in lines]
        if found:
            self.heard = time.monotonic()
            self.waits = found[-1]["event"] == "waiting" or (self.waits and found[-1]["event"] == "log")
        return found

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def silence(self) -> float:
        """Seconds since its last event; those of a run that waits count less."""
        return (time.monotonic() - self.heard) / (WAITING if self.waits else 1)

    def stop(self) -> None:
        """Ends the process and what it has started. Files are moved into place whole, so this is safe at any time."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with suppress(OSError):
            self.tasks.close()
        os.close(self.events)


@dataclass
class _Scheduler:
    """The state of one call of `train`; all of it can be lost."""

    places: list[Place]  # those without a worker
    time_limit: float | None
    deterministic: bool
    say: Callable[[str], None]
    watch: Watch | None
    waiting: list[Job]
    workers: list[_Worker] = field(default_factory=list)
    result: Result = field(default_factory=Result)
    busy: dict[Any, float] = field(default_factory=dict)  # record of a run that another process makes -> when to look
    deaths: dict[Any, int] = field(default_factory=dict)
    deadline: float = float("inf")

    def __post_init__(self) -> None:
        self.selector = selectors.DefaultSelector()

    def working(self) -> list[Job]:
        return [worker.job for worker in self.workers if worker.job]

    def work(self) -> None:
        while self.waiting or self.working():
            self.begin()
            if self.working():
                for key, _ in self.selector.select(LOOK):
                    self.take_in(key.data)
            elif self.waiting:
                time.sleep(LOOK)
            self.check()

    def begin(self) -> None:
        """Starts what may start: what it shares is made or given up, and no other process is making it."""
        unmade = {job.run.record_file for job in (*self.waiting, *self.working())}
        left = {job.run.record_file for job in self.result.left}
        for job in list(self.waiting):
            if not self.places and len(self.working()) == len(self.workers):
                return
            file, now = job.run.record_file, time.monotonic()
            if unmade.intersection(job.after) - left or now < self.busy.get(file, 0.0):
                continue
            if job.run.is_made():
                self.waiting.remove(job)
                self.result.elsewhere.append(job)
                self.line("made by another process", job)
            elif left.intersection(job.after) or now + self.expected(job) > self.deadline:
                self.waiting.remove(job)
                self.result.left.append(job)
                left.add(file)
            elif holder := locks.holder_of(job.run.work_folder / "lock"):
                self.is_busy(job, f"process {holder}")
            else:
                self.waiting.remove(job)
                try:
                    self.free_worker(job).begin(job)
                except OSError as fault:
                    self.fail(job, f"cannot be started ({fault}); free some space or memory and call again")

    def expected(self, job: Job) -> float:
        """Seconds until a job would end that starts now; a worker that must start and images to render are counted."""
        seconds, run = job.estimate.seconds, job.run
        if self.deadline < float("inf"):
            seconds += 0.0 if len(self.working()) < len(self.workers) else estimates.WORKER_SECONDS
            if datasets.is_to_be_rendered(run.dataset, run.source, run.budget):
                names = {datasets.rendered_as(part) for part in datasets.parts_of(run.dataset)}
                seconds += sum(estimates.rendering(name, run.budget)[0] for name in names)
        return seconds

    def is_busy(self, job: Job, who: str) -> None:
        if job.run.record_file not in self.busy:
            self.line("waiting", job, f"{who} is making it")
        self.busy[job.run.record_file] = time.monotonic() + AGAIN

    def free_worker(self, job: Job) -> _Worker:
        """A worker without a job; a new one where a place has none."""
        for worker in [worker for worker in self.workers if not worker.job]:
            if not worker.has_ended():
                return worker
            self.drop(worker)
        worker = _Worker(self.places[0], job, self.deterministic)
        del self.places[0]
        self.workers.append(worker)
        self.selector.register(worker.events, selectors.EVENT_READ, worker)
        return worker

    def drop(self, worker: _Worker) -> None:
        """Stops a worker; its place is free for a new one."""
        self.workers.remove(worker)
        self.places.append(worker.place)
        self.selector.unregister(worker.events)
        worker.stop()

    def take_in(self, worker: _Worker) -> None:
        for event in worker.read():
            job = worker.job
            if not job:
                continue
            if self.watch:
                self.watch(job, event)
            if event["event"] == "finished":
                worker.job = None
                self.result.made.append(job)
                numbers, took = event["metrics"], duration(time.monotonic() - worker.started)
                expected = duration(job.estimate.seconds)
                shown = f"R1 {numbers['rank1']:.1f} mAP {numbers['mAP']:.1f} in {took} (expected {expected})"
                self.line("finished", job, shown)
            elif event["event"] == "failed":
                worker.job = None
                if event["kind"] == "busy":
                    self.waiting.append(job)
                    self.is_busy(job, "another process")
                else:
                    self.fail(job, event["reason"])
                if event["kind"] == "memory":
                    self.drop(worker)
                    return

    def check(self) -> None:
        """Looks for workers that have died or hang, and at the deadline."""
        for worker in list(self.workers):
            if worker.has_ended():
                self.take_in(worker)  # what it said last
                if worker.job:
                    self.died(worker, worker.job)
                elif worker in self.workers:
                    self.drop(worker)
            elif not worker.job:
                continue
            elif worker.silence() > self.limit(worker.job):
                job, quiet = worker.job, duration(time.monotonic() - worker.heard)
                self.drop(worker)
                self.give_up(job, f"no sign of life for {quiet}: it counts as hanging and was stopped")
            elif time.monotonic() > self.deadline:
                job = worker.job
                self.drop(worker)
                self.result.left.append(job)
                self.result.stopped.append(job)
                self.line("stopped", job, "the time is over; its checkpoint is kept")

    def died(self, worker: _Worker, job: Job) -> None:
        code = worker.process.returncode
        self.drop(worker)
        file = job.run.record_file
        self.deaths[file] = self.deaths.get(file, 0) + 1
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"its process ended with {code}"
        if self.deaths[file] <= RETRIES:
            self.waiting.insert(0, job)
            self.line(how, job, "starting it again, from its checkpoint")
        else:
            why = " (as the kernel does when memory runs out)" if code == -signal.SIGKILL else ""
            self.give_up(job, f"{how}{why} {self.deaths[file]} times")

    def limit(self, job: Job) -> float:
        epochs = max(1, job.run.settings.recipe.resolved()["epochs"])
        return self.time_limit or max(QUIET, 10 * job.estimate.seconds / epochs)

    def give_up(self, job: Job, why: str) -> None:
        """Fails a job whose worker could not say so itself."""
        from reidlib.runs import worker  # here alone: it imports all that training needs

        why += "; its checkpoint is kept"
        worker.fail(job.run, why)
        self.fail(job, why)

    def fail(self, job: Job, why: str) -> None:
        self.result.failed.append((job, why))
        self.line("failed", job, f"{why} (log {job.log})")

    def line(self, what: str, job: Job, more: str = "") -> None:
        done = self.result.count()
        whole = done + len(self.waiting) + len(self.working())
        self.say(f"[{done}/{whole}] {what}: {job.name}" + (f": {more}" if more else ""))

    def stop(self) -> None:
        for worker in list(self.workers):
            self.drop(worker)
        self.selector.close()
