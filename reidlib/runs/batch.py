"""The plan of a batch: the runs behind the tables asked for, each network once, and what they will take here.

    plan = batch.estimated(batch.plan(["safenet/table5"], budget="small"), devices.places())

`engine.train` carries it out; `workflow/Snakefile` has a cluster do it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reidlib import papers, paths, training
from reidlib.data import cuhk03
from reidlib.runs import datasets as data_sets
from reidlib.runs import estimates
from reidlib.runs.devices import Place
from reidlib.runs.estimates import Estimate
from reidlib.runs.run import Run, runs_of
from reidlib.spec import ReidError, check_choice


@dataclass(frozen=True)
class Job:
    """A run without a finished record.

    after: record files of the jobs that make a network which this one shares. trains, firsts: whether its own network,
    and the one trained before it, are still to be trained when it starts. estimate: of `estimated`.
    """

    run: Run
    after: tuple[Path, ...] = ()
    trains: bool = True
    firsts: bool = True
    estimate: Estimate = estimates.UNKNOWN

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def log(self) -> Path:
        return self.run.log_file


@dataclass(frozen=True)
class Part:
    """What a name stands for: the rows of a table (all where empty) on these data sets."""

    name: str
    table: str
    datasets: tuple[str, ...]
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What is behind the names asked for.

    parts: what was asked for. runs: one a record. jobs: what has to be done. tables: the records of each name and data
    set; names may share some. left_out: data sets that are not found here, with the reason.
    """

    budget: str
    source: str
    seeds: tuple[int, ...]
    parts: tuple[Part, ...]
    runs: tuple[Run, ...]
    jobs: tuple[Job, ...]
    tables: dict[tuple[str, str], tuple[Path, ...]]
    left_out: dict[str, str]

    @property
    def datasets(self) -> list[str]:
        """The data sets of its runs."""
        return list(dict.fromkeys(run.dataset for run in self.runs))

    def again(self, repeats: Sequence[Run]) -> Plan:
        """This plan and these repeats of records."""
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

    datasets: only these; all of each table where empty. figures: names beside those of the tables. The twenty splits of
    CUHK03's classic protocol take the place of seeds: they are run with the first seed alone.
    """
    check_choice("batch", "source", source, data_sets.SOURCES)
    check_choice("batch", "budget", budget, list(data_sets.STANDIN_SCALE))
    known = {slug: Part(slug, slug, table.datasets) for slug, table in papers.tables().items()}
    known |= {figure.name: figure for figure in figures}
    slugs = dict.fromkeys(slug for name in asked or ("",) for slug in _slugs(name, known))
    # A table without this budget is an error where it is asked for by name, and left out where its paper is.
    parts = [known[slug] for slug in slugs if slug in asked or budget in papers.table(known[slug].table).budgets]
    offered = list(dict.fromkeys(dataset for part in parts for dataset in part.datasets))
    chosen = [split for name in datasets for split in _with_splits(name, offered)] or offered
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


def _slugs(asked: str, known: dict[str, Part]) -> list[str]:
    """Tables and figures by a paper's name, by their own, or all for an empty name."""
    if "/" in asked:
        check_choice("batch", "table", asked, list(known))
        return [asked]
    found = [slug for slug in known if asked in ("", slug.partition("/")[0])]
    if not found:
        check_choice("batch", "paper", asked, list(dict.fromkeys(slug.partition("/")[0] for slug in known)))
    return found


def _with_splits(name: str, known: Sequence[str]) -> list[str]:
    """The data sets of a name; `cuhk03.all_splits` has one for twenty of them."""
    found = [dataset for dataset in known if name in (dataset, cuhk03.all_splits(dataset))]
    if not found:
        check_choice("batch", "data set", name, list(dict.fromkeys(map(cuhk03.all_splits, known))))
    return found


def seeds_of(dataset: str, seeds: Sequence[int]) -> Sequence[int]:
    """The seeds with which a data set is run."""
    return seeds[:1] if len(cuhk03.splits(dataset)) > 1 else seeds


def jobs_of(missing: Sequence[Run]) -> list[Job]:
    """One job a run, in this order; a run that shares a network comes after the job that makes it."""
    maker: dict[Path, Path] = {}  # folder of a network -> record of the run that trains it
    jobs = []
    for run in missing:
        first = run.folder_of(run.network_of(run.settings.first.settings)) if run.settings.first else None
        folders = [first, run.work_folder] if first else [run.work_folder]
        after = tuple(dict.fromkeys(maker[folder] for folder in folders if folder in maker))
        made = {folder: folder in maker or (folder / training.WEIGHTS).exists() for folder in folders}
        for folder in folders:
            maker.setdefault(folder, run.record_file)
        jobs.append(Job(run, after, trains=not made[run.work_folder], firsts=first is not None and not made[first]))
    return jobs


# --- what the plan will take ------------------------------------------------------------------------------------------


def estimated(jobs: Sequence[Job], places: Sequence[Place]) -> list[Job]:
    """The jobs with what each of them takes on these places."""

    def estimate(job: Job) -> Estimate:
        return estimates.estimate(job.run, places[0], trains=job.trains, firsts=job.firsts)

    return [job if job.estimate != estimates.UNKNOWN else replace(job, estimate=estimate(job)) for job in jobs]


def makespan(jobs: Sequence[Job], places: int) -> float:
    """Expected seconds until the last job ends, when each starts in its turn, after those whose network it shares."""
    place = {job.run.record_file: number for number, job in enumerate(jobs)}
    after = [[place[file] for file in job.after if file in place] for job in jobs]
    return estimates.makespan([job.estimate.seconds for job in jobs], places, after)


def describe(plan: Plan, places: Sequence[Place]) -> list[str]:
    """The plan, a line for each table and data set, then the sums."""
    lines, widths = [], [max(map(len, column)) for column in zip(*plan.tables, strict=True)]
    todo = {job.run.record_file: job for job in plan.jobs}
    counted: set[Path] = set()  # a run of several tables is counted with the first of them
    for (slug, dataset), files in plan.tables.items():
        jobs = [todo[file] for file in files if file in todo]
        own = [todo[file] for file in files if file in todo and file not in counted]
        counted.update(files)
        text = f"{slug:<{widths[0]}}  {dataset:<{widths[1]}}  {len(files) - len(jobs)} of {len(files)} done"
        if own:
            seconds = sum(job.estimate.seconds for job in own)
            text += f", {many(sum(job.trains for job in own), 'network')} to train in {duration(seconds)}"
        elif jobs:
            text += ", the others are counted with tables above"
        lines.append(text)
    lines += [f"{dataset}: left out: {why}" for dataset, why in plan.left_out.items()]
    if not plan.jobs:
        return [*lines, f"All {len(plan.runs)} runs have their records."]
    return [*lines, *_sums(plan, places)]


def _sums(plan: Plan, places: Sequence[Place]) -> list[str]:
    jobs, place = plan.jobs, places[0]
    devices = dict.fromkeys(place.device for place in places)
    where = ", ".join(dict.fromkeys(device.name for device in devices))
    threads = f", {many(place.threads, 'CPU thread')} each"
    lines = [
        f"{many(len(jobs), 'run')} to do, {many(sum(job.trains for job in jobs), 'network')} to train, "
        f"{len(places)} at once on {where}{f' (× {len(devices)})' if len(devices) > 1 else ''}{threads}:"
    ]
    if repeats := sum(job.run.again for job in jobs):
        lines.append(f"  again   {many(repeats, 'run')}, for a figure draws weights that the cache does not have")
    total = sum(job.estimate.seconds for job in jobs)
    guess = ""
    if any(job.estimate.is_guess for job in jobs):
        guess = "; a guess, for no record says how fast this device is"
    lines.append(f"  time    {duration(makespan(jobs, len(places)))} (one after the other {duration(total)}){guess}")
    rendering, rendered_mb = _rendering(plan)
    if rendering:
        seconds = sum(rendering.values())
        lines.append(f"          and to render stand-ins ({', '.join(rendering)}) first, about {duration(seconds)}")
    memory, room = max(job.estimate.memory_mb for job in jobs), min(device.memory_mb for device in devices)
    known = f", of {room / 1024:.1f} GiB on each device" if room else ""
    lines.append(f"  memory  {memory / 1024:.1f} GiB a run at most{known}")
    if room and memory * place.sharing > room:
        lines.append("          too little for so many at once: choose a smaller --per-gpu, or more --threads")
    weights = [job.estimate.disk_mb for job in jobs if job.trains]
    disk = (sum(weights) + rendered_mb + 4 * len(places) * max(weights, default=0.0)) / 1024  # two checkpoints each
    free = shutil.disk_usage(_existing(paths.cache())).free / 2**30
    short = "; too little" if disk > free else ""
    lines.append(f"  disk    {disk:.1f} GiB in the cache, {free:.0f} GiB free{short}")
    return lines


def _rendering(plan: Plan) -> tuple[dict[str, float], float]:
    """Seconds for each stand-in that has to be rendered first, and the MB of all of them."""
    needed = {data_sets.rendered_as(part) for job in plan.jobs for part in data_sets.parts_of(job.run.dataset)}
    folders = {name: data_sets.standin_folder(name, data_sets.STANDIN_SCALE[plan.budget]) for name in sorted(needed)}
    missing = [name for name, folder in folders.items() if plan.source == "stand-in" and not folder.is_dir()]
    found = {name: estimates.rendering(name, plan.budget) for name in missing}
    return {name: seconds for name, (seconds, _) in found.items()}, sum(size for _, size in found.values())


def duration(seconds: float) -> str:
    """As people write it: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def many(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())


# --- for other programs -----------------------------------------------------------------------------------------------


def groups(plan: Plan) -> list[dict[str, Any]]:
    """The jobs of a plan by table, data set and seed, each group one command: what `workflow/Snakefile` reads.

    after: ids of the groups that make records or networks which this one shares; all of them come before it.
    """
    found: dict[str, list[Job]] = {}
    for job in plan.jobs:
        found.setdefault(_group(job.run), []).append(job)
    maker = {job.run.record_file: name for name, jobs in found.items() for job in jobs}
    listed = []
    for name, jobs in found.items():
        run, shared = jobs[0].run, [file for job in jobs for file in job.after]
        line = ["reid", "train", run.table.slug, "--dataset", run.dataset, "--source", run.source]
        line += ["--budget", run.budget, "--seed", str(run.seed)]
        if run.again or len(jobs) < len(run.table.rows):
            line += ["--row", *dict.fromkeys(job.run.row.label for job in jobs), *(["--again"] if run.again else [])]
        listed.append(
            {
                "id": name,
                "table": run.table.slug,
                "dataset": run.dataset,
                "seed": run.seed,
                "runs": [job.name for job in jobs],
                "records": [str(job.run.record_file) for job in jobs],
                "log": str(run.log_file.parent / f"{name}.log"),
                "command": line,
                "after": [other for other in dict.fromkeys(maker[file] for file in shared) if other != name],
                "seconds": sum(job.estimate.seconds for job in jobs),
                "memory_mb": max(job.estimate.memory_mb for job in jobs),
                "disk_mb": sum(job.estimate.disk_mb for job in jobs),
            }
        )
    return listed


def _group(run: Run) -> str:
    again = "-again" if run.again else ""
    return f"{run.table.paper}-{run.table.name}-{run.dataset}-{run.source}-{run.budget}-{run.seed}{again}"
