"""The engine: the only code that has runs trained. Commands, notebooks and the jobs of a cluster all call it.

    runs = engine.ensure("safenet", "table5", budget="small")       # trains what is missing
    result = engine.train(plan.jobs, devices.places())              # the same for a batch

Each place (a device, or a share of one) has a worker, a process of `worker` that takes one run after the other. The
engine knows of a run only what the worker's events say. Nothing that matters is kept in this process: what is finished
is a record, what is half done a checkpoint, what is being done a lock that ends with its process. So a batch can be
killed at any moment and called again, and two batches on one results folder share the work."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reidlib.runs import batch, devices, estimates, locks, records
from reidlib.runs.batch import Job, duration
from reidlib.runs.devices import Place
from reidlib.runs.run import Run, Runs, runs_of
from reidlib.spec import ReidError

WORKER = [sys.executable, "-m", "reidlib.runs.worker"]  #: and the number of the descriptor for its events
RETRIES = 2  #: How often a run whose worker has died is started again, from its checkpoint
QUIET = 30 * 60.0  #: Seconds without an event after which a run counts as hanging; more where ten epochs take longer
WAITING = 48  #: How many times longer a run may be silent that waits for another process or a stand-in's rendering
CANNOT_START = "free some space or memory, or, where files are another user's, set REID_CACHE to another folder"
LOOK = 0.2  #: Seconds between two looks at processes that may have died
AGAIN = 2.0  #: Seconds until a run that another process is making is looked at again

Watch = Callable[[Job, dict[str, Any]], None]  #: gets the job of a worker and each of its events


@dataclass
class Result:
    """What became of the jobs."""

    made: list[Job] = field(default_factory=list)
    elsewhere: list[Job] = field(default_factory=list)  #: made by another process
    failed: list[tuple[Job, str]] = field(default_factory=list)  #: with the reason
    left: list[Job] = field(default_factory=list)  #: for another call
    stopped: list[Job] = field(default_factory=list)  #: those among the left that had begun when the time was over


def ensure(
    paper: str,
    table: str,
    *,
    rows: Sequence[str] = (),
    again: Sequence[str] = (),
    train: bool = True,
    threads: int | None = None,
    log: Callable[[str], None] = print,
    **asked: Any,
) -> Runs:
    """Trains what is missing among `rows` (all where empty), repeats `again`, and returns all runs of the table. asked:
    budget, dataset, source and seeds, as for `runs_of`. train: False trains and repeats nothing. threads: CPU threads
    of each run. A failed run does not stop the others; when all have been tried, the first failure is raised."""
    slug = f"{paper}/{table}"
    wanted = runs_of(slug, rows=rows, **asked)
    repeats = runs_of(slug, rows=again, again=again, **asked) if again else []
    if train and (missing := [run for run in (*wanted, *repeats) if not run.is_made()]):
        train_runs(missing, devices.places(threads=threads), log=log)
    return Runs(tuple(runs_of(slug, **asked)), tuple(repeats))


def train_runs(
    runs: Sequence[Run],
    places: Sequence[Place] | None = None,
    *,
    deterministic: bool = False,
    log: Callable[[str], None] = print,
) -> None:
    """Trains those of these runs that have no finished record, on all places of this machine or on these; logs what
    they say, and raises the first failure."""
    jobs = batch.jobs_of([run for run in runs if not run.is_made()])

    def watch(job: Job, event: dict[str, Any]) -> None:
        if event["event"] == "log":
            log(event["text"] if len(jobs) == 1 else f"{job.run.row.label}, seed {job.run.seed}: {event['text']}")

    result = train(jobs, places or devices.places(), deterministic=deterministic, say=log, watch=watch)
    if result.failed:
        job, why = result.failed[0]
        raise ReidError(f"{job.run.name}: {why} (log {job.run.log_file})")


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
    """Runs all jobs, as many at once as there are places, and waits for those that other processes are making. A job
    that fails does not stop the others. When this process ends, for whatever reason, so do the workers; each run keeps
    its checkpoint.

    minutes: start nothing that is not expected to end in this time, and stop what has not ended then. time_limit:
    seconds without an event after which a run counts as hanging; None: `QUIET`, or ten expected epochs. say: gets a
    line for each job that ends."""
    if not jobs:
        return Result()
    for folder in {job.run.record_folder for job in jobs}:
        records.check_writable(folder)
    places = [replace(place, sharing=min(place.sharing, len(jobs))) for place in places[: len(jobs)]]
    scheduler = _Scheduler(places, time_limit, deterministic, say, watch, batch.estimated(jobs, places))
    scheduler.deadline = float("inf") if minutes is None else time.monotonic() + 60 * minutes
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
        line, pipe = [*WORKER, str(theirs)], subprocess.PIPE
        environment = os.environ | {devices.VISIBLE: visible, "OMP_NUM_THREADS": str(place.threads)}
        try:
            job.run.log_file.parent.mkdir(parents=True, exist_ok=True)
            with job.run.log_file.open("ab") as log:  # until its first task; then it opens each log itself
                self.process = subprocess.Popen(
                    line, stdin=pipe, stdout=log, stderr=log, pass_fds=[theirs], env=environment, start_new_session=True
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
        """Sends a job. That a worker has died is noticed later."""
        self.job, self.waits = job, False
        self.patience = max(QUIET, 10 * job.estimate.seconds / max(1, job.run.settings.recipe.epochs))
        self.started = self.heard = time.monotonic()
        how = {"device": self.place.device.kind, "threads": self.place.threads, "at_once": self.place.sharing}
        task = {"run": job.run.task(), "key": job.run.key, "deterministic": self.deterministic, **how}
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

    def silence(self) -> float:
        """Seconds since its last event; those of a run that waits count less."""
        return (time.monotonic() - self.heard) / (WAITING if self.waits else 1)

    def kill(self) -> None:
        """Ends the process and what it has started. Files are moved into place whole, so this is safe at any time."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def stop(self) -> None:
        self.kill()
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
    busy: dict[Path, float] = field(default_factory=dict)  # record of a run that another process makes -> when to look
    deaths: Counter[Path] = field(default_factory=Counter)  # of workers, by the record of the run they made
    deadline: float = float("inf")
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def working(self) -> list[Job]:
        return [worker.job for worker in self.workers if worker.job]

    def work(self) -> None:
        while self.waiting or self.working():
            self.begin()
            for key, _ in self.selector.select(LOOK):
                self.take_in(key.data)
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
                    self.fail(job, f"cannot be started ({fault}); {CANNOT_START}")

    def expected(self, job: Job) -> float:
        """Seconds until a job would end that starts now; a worker that must start and images to render are counted."""
        if self.deadline == float("inf"):
            return 0.0
        start = 0.0 if len(self.working()) < len(self.workers) else estimates.WORKER_SECONDS
        rendered = sum(seconds for seconds, _ in estimates.renderings([job.run]).values())
        return job.estimate.seconds + start + rendered

    def is_busy(self, job: Job, who: str) -> None:
        if job.run.record_file not in self.busy:
            self.line("waiting", job, f"{who} is making it")
        self.busy[job.run.record_file] = time.monotonic() + AGAIN

    def free_worker(self, job: Job) -> _Worker:
        """A worker without a job; a new one where a place has none."""
        for worker in [worker for worker in self.workers if not worker.job]:
            if worker.process.poll() is None:
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
                numbers = "R1 {rank1:.1f} mAP {mAP:.1f}".format(**event["metrics"])
                took, expected = duration(time.monotonic() - worker.started), duration(job.estimate.seconds)
                self.line("finished", job, f"{numbers} in {took} (expected {expected})")
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
        """Looks at the deadline, and for workers that have died or hang."""
        if time.monotonic() > self.deadline:
            self.time_is_over()
        for worker in list(self.workers):
            if worker.process.poll() is not None:
                self.take_in(worker)  # what it said last
                if worker.job:
                    self.died(worker, worker.job)
                elif worker in self.workers:
                    self.drop(worker)
            elif not worker.job:
                continue
            elif worker.silence() > (self.time_limit or worker.patience):
                job, quiet = worker.job, duration(time.monotonic() - worker.heard)
                self.drop(worker)
                self.give_up(job, f"no sign of life for {quiet}: it counts as hanging and was stopped")

    def time_is_over(self) -> None:
        self.kill()
        for worker in list(self.workers):
            self.take_in(worker)  # what it said last
            if worker not in self.workers:
                continue
            job = worker.job
            self.drop(worker)
            if job:
                self.result.left.append(job)
                self.result.stopped.append(job)
                self.line("stopped", job, "the time is over; its checkpoint is kept")

    def died(self, worker: _Worker, job: Job) -> None:
        code = worker.process.returncode
        self.drop(worker)
        file = job.run.record_file
        self.deaths[file] += 1
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"its process ended with {code}"
        if self.deaths[file] <= RETRIES:
            self.waiting.insert(0, job)
            self.line(how, job, "starting it again, from its checkpoint")
        else:
            why = " (as the kernel does when memory runs out)" if code == -signal.SIGKILL else ""
            self.give_up(job, f"{how}{why} {self.deaths[file]} times")

    def give_up(self, job: Job, why: str) -> None:
        """Fails a job whose worker could not say so itself."""
        from reidlib.runs import worker  # here alone: it imports all that training needs

        why += "; its checkpoint is kept"
        worker.fail(job.run, why)
        self.fail(job, why)

    def fail(self, job: Job, why: str) -> None:
        self.result.failed.append((job, why))
        self.line("failed", job, f"{why} (log {job.run.log_file})")

    def line(self, what: str, job: Job, more: str = "") -> None:
        done = sum(map(len, (self.result.made, self.result.elsewhere, self.result.failed, self.result.left)))
        whole = done + len(self.waiting) + len(self.working())
        self.say(f"[{done}/{whole}] {what}: {job.run.name}" + (f": {more}" if more else ""))

    def kill(self) -> None:
        """Ends all workers before any of them is waited for: the end of a process that shares a GPU through CUDA's MPS
        is an error in the others, of which they would leave records."""
        for worker in self.workers:
            worker.kill()

    def stop(self) -> None:
        self.kill()
        for worker in list(self.workers):
            self.drop(worker)
        self.selector.close()
