"""The plan of a batch: the runs behind the tables asked for, each network once, and what they will take here.

    plan = batch.estimated(batch.plan(["safenet/table5"], budget="small"), devices.places())

`engine.train` carries it out; `workflow/Snakefile` has a cluster do it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from reidlib import papers, paths, training
from reidlib.data import cuhk03
from reidlib.runs import datasets as data_sets
from reidlib.runs import estimates
from reidlib.runs.devices import Device, Place, cores, many
from reidlib.runs.estimates import Estimate
from reidlib.runs.run import Run, columns, runs_of
from reidlib.spec import ReidError, check_choice

MOST_PER_GPU = 14
"""Runs that share a GPU at most, where nobody says it. So many trained 2,980 images a second on an H200 with 16 cores,
one run alone 1,240 (IDE, batch 32, without CUDA graphs). With graphs, on the same kind of machine, 11 at once ended in
48 s, or in 32 s under CUDA's MPS; 16 at once under it made 375 runs of `small` in 470 s. Other numbers of runs at once
were not compared with graphs."""


@dataclass(frozen=True)
class Job:
    """A run without a finished record."""

    run: Run
    after: tuple[Path, ...] = ()  #: record files of the jobs that make a network which this one shares
    trains: bool = True  #: whether its own network is still to be trained when it starts
    firsts: bool = True  #: whether the one trained before it is
    estimate: Estimate = estimates.UNKNOWN  #: of `estimated`


@dataclass(frozen=True)
class Part:
    """What a name stands for: the rows of a table (all where empty) on these data sets."""

    name: str
    table: str
    datasets: tuple[str, ...]
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What is behind the names asked for."""

    budget: str
    source: str
    seeds: tuple[int, ...]
    parts: tuple[Part, ...]  #: what was asked for
    runs: tuple[Run, ...]  #: one a record
    jobs: tuple[Job, ...]  #: what has to be done
    tables: dict[tuple[str, str], tuple[Path, ...]]  #: records of each name and data set; names may share some
    left_out: dict[str, str]  #: data sets that are not found here, with the reason

    @property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(run.dataset for run in self.runs))

    def again(self, repeats: Sequence[Run]) -> Plan:
        runs = [job.run for job in self.jobs] + list({run.record_file: run for run in repeats}.values())
        return replace(self, jobs=tuple(jobs_of(runs)))


def plan(
    asked: Sequence[str] = (),
    *,
    budget: str,
    source: str = "stand-in",
    seeds: Sequence[int] = (0,),
    datasets: Sequence[str] = (),
    figures: Sequence[Part] = (),
) -> Plan:
    """The runs behind papers, tables and figures ("hamr", "hamr/table6"; all where empty), each network once.

    datasets: only these; all of each table where empty. figures: names beside those of the tables. CUHK03's twenty
    splits take the place of seeds: they are run with the first seed alone."""
    check_choice("batch", "source", source, data_sets.SOURCES)
    check_choice("batch", "budget", budget, list(data_sets.STANDIN_SCALE))
    known = {slug: Part(slug, slug, table.datasets) for slug, table in papers.tables().items()}
    known |= {figure.name: figure for figure in figures}
    slugs = [slug for name in asked or ("",) for slug in _named("table" if "/" in name else "paper", name, known)]
    # A table without this budget is an error where it is asked for by name, and left out where its paper is.
    parts = [known[s] for s in dict.fromkeys(slugs) if s in asked or budget in papers.table(known[s].table).budgets]
    offered = list(dict.fromkeys(dataset for part in parts for dataset in part.datasets))
    chosen = [split for name in datasets for split in _named("data set", name, offered)] or offered
    runs: dict[Path, Run] = {}
    left_out: dict[str, str] = {}
    shown: dict[tuple[str, str], tuple[Path, ...]] = {}
    for part in parts:
        for dataset in part.datasets:
            if dataset in left_out or dataset not in chosen:
                continue
            of: dict[str, Any] = dict(budget=budget, source=source, dataset=dataset, rows=part.rows)
            try:
                found = runs_of(part.table, seeds=seeds_of(dataset, seeds), **of)
            except ReidError as fault:
                if source != "real":
                    raise
                left_out[dataset] = str(fault)
                continue
            name, of_file = (part.name, cuhk03.all_splits(dataset)), {run.record_file: run for run in found}
            shown[name] = (*shown.get(name, ()), *of_file)
            runs |= {file: run for file, run in of_file.items() if file not in runs}
    if not runs and left_out:
        raise ReidError("none of the real data sets is found here: " + next(iter(left_out.values())))
    jobs = jobs_of([run for run in runs.values() if not run.is_made()])
    return Plan(budget, source, tuple(seeds), tuple(parts), tuple(runs.values()), tuple(jobs), shown, left_out)


def _named(what: str, name: str, known: Iterable[str]) -> list[str]:
    """Tables and figures by their own name, a paper's, or all for an empty one; data sets by their own name, or twenty
    splits by the one of `cuhk03.all_splits`."""
    shared = {"table": str, "paper": lambda slug: slug.partition("/")[0], "data set": cuhk03.all_splits}[what]
    found = [one for one in known if name in (one, shared(one), "")]
    if not found:
        check_choice("batch", what, name, list(dict.fromkeys(map(shared, known))))
    return found


def seeds_of(dataset: str, seeds: Sequence[int]) -> Sequence[int]:
    return seeds[:1] if len(cuhk03.splits(dataset)) > 1 else seeds


def jobs_of(missing: Sequence[Run]) -> list[Job]:
    """One job a run, in this order; a run that shares a network comes after the job that makes it."""
    maker: dict[Path, Path] = {}  # folder of a network -> record of the run that trains it
    jobs = []
    for run in missing:
        folders = [run.work_folder]
        if first := run.settings.first:
            folders.append(run.folder_of(run.network_of(first.settings)))
        after = tuple(dict.fromkeys(maker[folder] for folder in folders if folder in maker))
        trains, *firsts = [folder not in maker and not (folder / training.WEIGHTS).exists() for folder in folders]
        jobs.append(Job(run, after, trains, any(firsts)))
        for folder in folders:
            maker.setdefault(folder, run.record_file)
    return jobs


def estimated(jobs: Sequence[Job], places: Sequence[Place]) -> list[Job]:
    """The jobs with what each of them takes on these places; what was estimated before stays."""

    def of(job: Job) -> Estimate:
        return estimates.estimate(job.run, places[0], trains=job.trains, firsts=job.firsts)

    return [replace(job, estimate=of(job)) if job.estimate == estimates.UNKNOWN else job for job in jobs]


def per_gpu(jobs: Sequence[Job], found: Sequence[Device], threads: int = 1) -> int:
    """How many of these jobs share each GPU found where nobody says it: as many as there are cores for, `MOST_PER_GPU`
    at most, and no more than the memory holds of the largest of them; 1 where that is not known."""
    least = min(device.memory_mb for device in found)
    if not (jobs and found[0].is_gpu and least):
        return 1
    largest = max(job.estimate.memory_mb for job in estimated(jobs, [Place(found[0], threads)]))
    fair = -(-len(jobs) // len(found))
    return max(1, min(MOST_PER_GPU, fair, cores() // (len(found) * threads), int(least // largest)))


def makespan(jobs: Sequence[Job], places: int) -> float:
    """Expected seconds until the last job ends. A free place takes the first job that waits for no other."""
    waiting = {job.run.record_file: job for job in jobs}
    working: list[tuple[float, Path]] = []  # (when it ends, its record)
    now = 0.0
    while waiting or working:
        undone = {*waiting, *(file for _, file in working)}
        ready = [file for file, job in waiting.items() if not undone.intersection(job.after)]
        for file in ready[: places - len(working)]:
            heappush(working, (now + waiting.pop(file).estimate.seconds, file))
        now, _ = heappop(working)
    return now


def describe(plan: Plan, places: Sequence[Place]) -> list[str]:
    """The plan, a line for each table and data set, then the sums."""
    lines: list[tuple[str, ...]] = []
    todo = {job.run.record_file: job for job in plan.jobs}
    counted: set[Path] = set()  # a run of several tables is counted with the first of them
    for name, files in plan.tables.items():
        jobs = [todo[file] for file in files if file in todo]
        own = [todo[file] for file in files if file in todo and file not in counted]
        counted.update(files)
        text = f"{len(files) - len(jobs)} of {len(files)} done"
        if own:
            seconds = sum(job.estimate.seconds for job in own)
            text += f", {many(sum(job.trains for job in own), 'network')} to train in {duration(seconds)}"
        elif jobs:
            text += ", the others are counted with tables above"
        lines.append((*name, text))
    left_out = [f"{dataset}: left out: {why}" for dataset, why in plan.left_out.items()]
    sums = _sums(plan, places) if plan.jobs else [f"All {len(plan.runs)} runs have their records."]
    return [*columns(lines), *left_out, *sums]


def _sums(plan: Plan, places: Sequence[Place]) -> list[str]:
    jobs, place = plan.jobs, places[0]
    devices = dict.fromkeys(place.device for place in places)
    where = ", ".join(dict.fromkeys(device.name for device in devices))
    where += f" (× {len(devices)})" if len(devices) > 1 else ""
    work = f"{many(len(jobs), 'run')} to do, {many(sum(job.trains for job in jobs), 'network')} to train"
    lines = [f"{work}, {len(places)} at once on {where}, {many(place.threads, 'CPU thread')} each:"]
    if repeats := sum(job.run.again for job in jobs):
        lines.append(f"  again   {many(repeats, 'run')}, for a figure draws weights that the cache does not have")
    total = sum(job.estimate.seconds for job in jobs)
    guesses = any(job.estimate.is_guess for job in jobs)
    guess = "; a guess, for no record says how fast this device is" if guesses else ""
    lines.append(f"  time    {duration(makespan(jobs, len(places)))} (one after the other {duration(total)}){guess}")
    if rendering := estimates.renderings([job.run for job in jobs]):
        seconds = sum(seconds for seconds, _ in rendering.values())
        lines.append(f"          and to render stand-ins ({', '.join(rendering)}) first, about {duration(seconds)}")
    memory, room = max(job.estimate.memory_mb for job in jobs), min(device.memory_mb for device in devices)
    known = f", of {room / 1024:.1f} GiB on each device" if room else ""
    lines.append(f"  memory  {memory / 1024:.1f} GiB a run at most{known}")
    if room and memory * place.sharing > room:
        lines.append("          too little for so many at once: choose a smaller --per-gpu, or more --threads")
    weights = [job.estimate.disk_mb for job in jobs if job.trains]
    checkpoints = 4 * len(places) * max(weights, default=0.0)  # two each, with the optimiser's state
    disk = (sum(weights) + checkpoints + sum(size for _, size in rendering.values())) / 1024
    cache = paths.cache()
    free = shutil.disk_usage(next(place for place in (cache, *cache.parents) if place.exists())).free / 2**30
    lines.append(f"  disk    {disk:.1f} GiB in the cache, {free:.0f} GiB free{'; too little' if disk > free else ''}")
    return lines


def duration(seconds: float) -> str:
    """As people write it: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def groups(plan: Plan) -> list[dict[str, Any]]:
    """The jobs of a plan by table, data set and seed, each group one command: what `workflow/Snakefile` reads. after:
    ids of the groups that make records or networks which this one shares; all of them come before it."""
    found: dict[str, list[Job]] = {}
    for job in plan.jobs:
        run = job.run
        words = (run.table.paper, run.table.name, run.dataset, run.source, run.budget, str(run.seed))
        found.setdefault("-".join((*words, "again") if run.again else words), []).append(job)
    maker = {job.run.record_file: name for name, jobs in found.items() for job in jobs}
    listed = []
    for name, jobs in found.items():
        run, shared = jobs[0].run, [file for job in jobs for file in job.after]
        whole = not run.again and len(jobs) == len(run.table.rows)
        listed.append(
            {
                "id": name,
                "runs": [job.run.name for job in jobs],
                "records": [str(job.run.record_file) for job in jobs],
                "log": str(run.log_file.parent / f"{name}.log"),
                "command": run.command([] if whole else list(dict.fromkeys(job.run.row.label for job in jobs))),
                "after": [other for other in dict.fromkeys(maker[file] for file in shared) if other != name],
                "seconds": sum(job.estimate.seconds for job in jobs),
                "memory_mb": max(job.estimate.memory_mb for job in jobs),
                "disk_mb": sum(job.estimate.disk_mb for job in jobs),
            }
        )
    return listed
