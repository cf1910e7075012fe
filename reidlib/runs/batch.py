"""The plan of a batch: the runs behind the asked tables, each network once, and what they will take on this machine.

    plan = batch.plan(["safenet/table5"], budget="small")
    plan = batch.predicted(plan, machine, log=print)

`runner` carries it out, `workflow/Snakefile` has a cluster do it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reidlib import papers, paths, training
from reidlib.book import notebooks
from reidlib.data import cuhk03
from reidlib.pages import networks
from reidlib.runs import datasets, prediction
from reidlib.runs.devices import Device, cores
from reidlib.runs.prediction import Book, Need
from reidlib.runs.run import Run, runs_of
from reidlib.spec import ReidError, check_choice


@dataclass(frozen=True)
class Job:
    """A run without a finished record.

    after: keys of the jobs that make a network which this one shares. trains, firsts: whether its own network, and the
    one trained before it, are still to be trained when its turn comes. need: predicted.
    """

    run: Run
    after: tuple[str, ...] = ()
    trains: bool = True
    firsts: bool = True
    need: Need | None = None

    @property
    def name(self) -> str:
        run = self.run
        variant = "" if run.row.variant == "as-published" else f" ({run.row.variant})"
        return f"{run.table.slug} {run.row.label!r}{variant} {run.dataset} seed {run.seed}"

    @property
    def log(self) -> Path:
        run = self.run
        return paths.cache() / "logs" / run.source / run.dataset / run.budget / run.table.paper / f"{run.key}.log"


@dataclass(frozen=True)
class Chapter:
    """A notebook, with the parameters that it gets."""

    slug: str
    dataset: str
    parameters: dict[str, Any]

    def missing(self) -> list[str]:
        """The runs that it needs and that have no finished record, in words."""
        return notebooks.made_from(self.slug, notebooks.with_defaults(self.slug, self.parameters))["missing"]

    def needs(self) -> set[Path]:
        """The records of the runs that it shows, of whatever table they are, and of those that it repeats."""
        return {run.record_file for run in (*self.shows(), *self.repeats())}

    def shows(self) -> list[Run]:
        """All of its table, or what a figure of pictures draws."""
        asked = {name: self.parameters[name] for name in ("budget", "source", "seeds")}
        rows = _drawn(self.slug).get("rows", ())
        return runs_of(notebooks.table_of(self.slug), dataset=self.dataset, rows=rows, **asked)

    def repeats(self) -> list[Run]:
        """The runs that a figure needs again: there is a record, and the cache has no weights to draw."""
        if not _drawn(self.slug) or notebooks.is_current(self.slug, self.parameters):
            return []
        return [replace(run, again=True) for run in self.shows() if run.is_made() and not networks.has_weights(run)]

    def command(self) -> list[str]:
        line = ["reid", "run", self.slug]
        for name, value in self.parameters.items():
            line += [f"--{name}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
        return line


@dataclass(frozen=True)
class Plan:
    """What is behind the asked tables.

    runs: one a record. tables: the records of each table and data set; tables share some. left_out: data sets that are
    not at hand, with the reason.
    """

    budget: str
    source: str
    runs: tuple[Run, ...]
    jobs: tuple[Job, ...]
    chapters: tuple[Chapter, ...]
    tables: dict[tuple[str, str], tuple[Path, ...]]
    left_out: dict[str, str]


def plan(
    asked: Sequence[str] = (),
    *,
    budget: str,
    source: str = "stand-in",
    seeds: Sequence[int] = (0,),
    datasets: Sequence[str] = (),
) -> Plan:
    """The runs behind papers, tables and figures ("hamr", "hamr/table6"; all where empty), each network once.

    datasets: only these; all of each table where empty. The twenty splits of CUHK03's classic protocol stand for
    seeds: they are run from the first seed alone.
    """
    check_choice("batch", "source", source, datasets.SOURCES)
    check_choice("batch", "budget", budget, list(datasets.STANDIN_SCALE))
    slugs = list(dict.fromkeys(slug for name in asked or ("",) for slug in _slugs(name)))
    known = list(dict.fromkeys(dataset for slug in slugs for dataset in _datasets(slug)))
    chosen = [split for name in datasets for split in _with_splits(name, known)]
    runs: dict[Path, Run] = {}
    left_out: dict[str, str] = {}
    shown: dict[tuple[str, str], tuple[Path, ...]] = {}
    for slug in slugs:
        table, rows = notebooks.table_of(slug), _drawn(slug).get("rows", ())
        for dataset in _datasets(slug):
            if dataset in left_out or (chosen and dataset not in chosen):
                continue
            try:
                of = dict(dataset=dataset, source=source, seeds=_seeds(dataset, seeds))
                found = runs_of(table, budget=budget, rows=rows, **of)
            except ReidError as fault:
                if source != "real":
                    raise
                left_out[dataset] = str(fault)
                continue
            name = (slug, cuhk03.all_splits(dataset))
            shown[name] = (*shown.get(name, ()), *(run.record_file for run in found))
            for run in found:
                runs.setdefault(run.record_file, run)
    if not runs and left_out:
        raise ReidError("none of the real data sets is at hand: " + next(iter(left_out.values())))
    at_hand = {run.dataset for run in runs.values()}
    place = dict(budget=budget, source=source)
    chapters = [chapter for slug in slugs for chapter in _chapters(slug, at_hand, place, seeds)]
    repeats = {run.record_file: run for chapter in chapters for run in chapter.repeats()}
    jobs = _jobs([*(run for run in runs.values() if not run.is_made()), *repeats.values()])
    return Plan(budget, source, tuple(runs.values()), tuple(jobs), tuple(chapters), shown, left_out)


def _slugs(asked: str) -> list[str]:
    """Tables and figures of pictures by a paper's name, a table's or figure's, or nothing at all."""
    known = [*papers.tables(), *notebooks.image_figures()]
    if "/" not in asked:
        found = [slug for slug in known if asked in ("", slug.partition("/")[0])]
        if not found:
            check_choice("batch", "paper", asked, list(dict.fromkeys(slug.partition("/")[0] for slug in known)))
        return found
    check_choice("batch", "table", asked, known)
    return [asked]


def _drawn(slug: str) -> dict[str, Any]:
    """The parameters of a figure of pictures, which names its data set and rows itself; nothing for a table."""
    return notebooks.with_defaults(slug, {}) if notebooks.table_of(slug) != slug else {}


def _datasets(slug: str) -> tuple[str, ...]:
    drawn = _drawn(slug)
    return (drawn["dataset"],) if drawn else papers.table(slug).datasets


def _with_splits(name: str, known: Sequence[str]) -> list[str]:
    """The data sets of a name; `cuhk03.all_splits` has one for twenty of them."""
    found = [dataset for dataset in known if name in (dataset, cuhk03.all_splits(dataset))]
    if not found:
        check_choice("batch", "data set", name, list(dict.fromkeys(map(cuhk03.all_splits, known))))
    return found


def _seeds(dataset: str, seeds: Sequence[int]) -> Sequence[int]:
    return seeds[:1] if len(cuhk03.splits(dataset)) > 1 else seeds


def _chapters(slug: str, datasets: set[str], place: dict, seeds: Sequence[int]) -> Iterator[Chapter]:
    """The notebooks of a table, one a data set (one for all splits of one), or of a figure of pictures."""
    if not notebooks.has_template(slug):
        return  # a table of the study's own, shown on one of its pages
    if notebooks.table_of(slug) != slug:
        (dataset,) = _datasets(slug)
        if dataset in datasets:
            yield Chapter(slug, dataset, place | {"seeds": list(seeds)})
        return
    shown = set()
    for dataset in papers.table(slug).datasets:
        if dataset in datasets and cuhk03.all_splits(dataset) not in shown:
            shown.add(cuhk03.all_splits(dataset))
            yield Chapter(slug, dataset, place | {"dataset": dataset, "seeds": list(_seeds(dataset, seeds))})


def _jobs(missing: Sequence[Run]) -> Iterator[Job]:
    """One job a run, in the order asked; who shares a network comes after the job that makes it."""
    maker: dict[Path, str] = {}
    for run in missing:
        first = run.settings.first and run.folder_of(run.network_of(run.settings.first.settings))
        folders = [folder for folder in (first, run.work_folder) if folder]
        # Two papers may share a key, each with a record of its own: neither waits for itself.
        others = (maker[folder] for folder in folders if maker.get(folder, run.key) != run.key)
        after = tuple(dict.fromkeys(others))
        made = {folder: folder in maker or (folder / training.WEIGHTS).exists() for folder in folders}
        for folder in folders:
            maker.setdefault(folder, run.key)
        yield Job(run, after, trains=not made[run.work_folder], firsts=bool(first) and not made[first])


# --- the machine, and what the plan will take -------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """Where a batch runs: devices, and how many runs share each; a processor's threads are divided among them."""

    devices: tuple[Device, ...]
    per_device: int = 1
    asked: str = "all"
    deterministic: bool = False

    @property
    def places(self) -> int:
        return len(self.devices) * self.per_device

    @property
    def threads(self) -> int:
        """Of each run."""
        shared = self.per_device if not self.devices[0].is_gpu else self.places
        return max(1, cores() // shared)

    @property
    def room_mb(self) -> float:
        """Memory of the smallest device; 0 where it is not known."""
        return min(device.memory_mb for device in self.devices)

    def book(self) -> Book:
        return Book(self.devices[0], self.threads, self.per_device)

    def holds(self, memory_mb: float) -> bool:
        """Whether runs of this size have room on a device beside each other."""
        return not self.room_mb or memory_mb * self.per_device <= self.room_mb


def shared(plan: Plan, machine: Machine, log: Callable[[str], None]) -> Machine:
    """The machine with as many runs on a device as are fastest there, by the commonest kind of network.

    Fewer where the largest run has no room beside others, and one where there is a device for each.
    """
    training_jobs = [job for job in plan.jobs if job.trains and job.run.settings.recipe.resolved()["epochs"]]
    if not training_jobs or len(plan.jobs) <= len(machine.devices):
        return machine
    kinds = [prediction.kind(job.run.settings) for job in training_jobs]
    most = max(kinds, key=kinds.count)
    run = next(job.run for job in training_jobs if prediction.kind(job.run.settings) == most)
    share, gain = prediction.best_share(run, machine.devices[0], log)
    if share > 1:
        log(f"{share} runs that share a device are together {gain:.2f} times as fast as one alone")
    while share > 1 and not _has_room(plan, replace(machine, per_device=share), log):
        share -= 1
        log(f"the largest of these runs has no room beside so many: {share} at once on a device")
    return replace(machine, per_device=share)


def _has_room(plan: Plan, machine: Machine, log: Callable[[str], None]) -> bool:
    """Whether every kind can be measured so many at once, and the largest run fits so often on a device."""
    book = machine.book()
    try:
        for job in plan.jobs:
            if job.run.settings.recipe.resolved()["epochs"]:
                book.trial(job.run, log)
    except ReidError as fault:
        log(str(fault))
        return False
    return machine.holds(_memory_mb(predicted(plan, machine, log)))


def predicted(plan: Plan, machine: Machine, log: Callable[[str], None]) -> Plan:
    """The plan with what each of its jobs needs on this machine; measures the machine where it is not known yet."""
    book = machine.book()
    needs = (prediction.need(job.run, book, log, trains=job.trains, firsts=job.firsts) for job in plan.jobs)
    return replace(plan, jobs=tuple(replace(job, need=need) for job, need in zip(plan.jobs, needs, strict=True)))


def describe(plan: Plan, machine: Machine) -> list[str]:
    """The plan in words, a line a table and data set, then the sums."""
    lines, widths = [], [max(map(len, column)) for column in zip(*plan.tables, strict=True)]
    counted: set[Path] = set()  # what tables share is to be done once, for the first of them
    for (slug, dataset), files in plan.tables.items():
        jobs = [job for job in plan.jobs if job.run.record_file in files]
        own = [job for job in jobs if job.run.record_file not in counted]
        counted.update(files)
        text = f"{slug:<{widths[0]}}  {dataset:<{widths[1]}}  {len(files) - len(jobs)} of {len(files)} done"
        if own:
            text += f", {_many(sum(job.trains for job in own), 'network')} to train in {duration(sum(_seconds(own)))}"
        elif jobs:
            text += ", the others stand in tables above"
        lines.append(text)
    lines += [f"{dataset}: left out: {why}" for dataset, why in plan.left_out.items()]
    names = [f"{device.name}" for device in machine.devices]
    where = f"{machine.places} at once on {', '.join(dict.fromkeys(names))}"
    if len(names) > 1:
        where += f" (× {len(names)})"
    if not plan.jobs:
        return [*lines, f"All {len(plan.runs)} runs have their records; {_many(len(plan.chapters), 'notebook')}."]
    trained = sum(job.trains for job in plan.jobs)
    lines.append(f"{_many(len(plan.jobs), 'run')} to do, {_many(trained, 'network')} to train, {where}:")
    if repeats := sum(job.run.again for job in plan.jobs):
        lines.append(f"  again   {_many(repeats, 'run')}, for a figure draws weights that the cache does not have")
    lines.append(
        f"  time    {duration(makespan(plan, machine))} (one after the other {duration(sum(_seconds(plan.jobs)))})"
    )
    if unrendered := _unrendered(plan):
        seconds = sum(prediction.rendering_seconds(name, plan.budget) for name in unrendered)
        lines.append(f"          and to render stand-ins ({', '.join(unrendered)}) first, about {duration(seconds)}")
    memory, room = _memory_mb(plan), machine.room_mb
    known = f", of {room / 1024:.1f} GiB on each device" if room else ""
    lines.append(f"  memory  {memory / 1024:.1f} GiB a run at most{known}")
    if not machine.holds(memory):
        many = f"{machine.per_device} such runs may not fit at once; choose a smaller --per-gpu"
        one = "such a run may not fit; choose a device with more memory, or a smaller batch in its recipe"
        lines.append("          " + (many if machine.per_device > 1 else one))
    free = shutil.disk_usage(_existing(paths.cache())).free / 2**30
    disk = disk_mb(plan, machine) / 1024
    lines.append(
        f"  disk    {disk:.1f} GiB in the cache, {free:.0f} GiB free" + ("; too little" if disk > free else "")
    )
    return lines


def makespan(plan: Plan, machine: Machine) -> float:
    """Predicted seconds until the last job ends, when each starts in its turn, after those whose network it shares."""
    place = {job.run.key: number for number, job in reversed([*enumerate(plan.jobs)])}  # of equal keys the first
    after = [[place[key] for key in job.after] for job in plan.jobs]
    return prediction.makespan(_seconds(plan.jobs), machine.places, after)


def disk_mb(plan: Plan, machine: Machine) -> float:
    """Weights of what is trained, images not rendered yet, and two checkpoints with momentum of what runs at once."""
    weights = [job.need.disk_mb for job in plan.jobs if job.trains]
    images = sum(prediction.standin_mb(name, plan.budget) for name in _unrendered(plan))
    return sum(weights) + images + 4 * machine.places * max(weights, default=0.0)


def _unrendered(plan: Plan) -> list[str]:
    """The stand-ins that the jobs need and that are not there yet."""
    needed = {datasets.rendered_as(part) for job in plan.jobs for part in datasets.parts_of(job.run.dataset)}
    folders = {name: datasets.standin_folder(name, datasets.STANDIN_SCALE[plan.budget]) for name in sorted(needed)}
    return [name for name, folder in folders.items() if plan.source == "stand-in" and not folder.is_dir()]


def _memory_mb(plan: Plan) -> float:
    """Of the largest run."""
    return max(job.need.memory_mb for job in plan.jobs)


def _seconds(jobs: Sequence[Job]) -> list[float]:
    return [job.need.seconds for job in jobs]


def duration(seconds: float) -> str:
    """In words: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan for programs: what `workflow/Snakefile` reads."""
    jobs = [
        {
            "key": job.run.key,
            "network": job.run.network,
            "table": job.run.table.slug,
            "row": job.run.row.label,
            "variant": job.run.row.variant,
            "dataset": job.run.dataset,
            "seed": job.run.seed,
            "record": str(job.run.record_file),
            "log": str(job.log),
            "command": job.run.command(),
            "after": list(job.after),
            "seconds": job.need.seconds,
            "memory_mb": job.need.memory_mb,
            "disk_mb": job.need.disk_mb,
        }
        for job in plan.jobs
    ]
    chapters = [
        {
            "slug": chapter.slug,
            "dataset": chapter.dataset,
            "command": chapter.command(),
            "after": [job.run.key for job in plan.jobs if job.run.record_file in chapter.needs()],
        }
        for chapter in plan.chapters
    ]
    return {"budget": plan.budget, "source": plan.source, "jobs": jobs, "chapters": chapters}
