"""The notebooks of a batch: which runs each of them shows, and their execution when those have records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reidlib import paths
from reidlib.book import notebooks
from reidlib.data import cuhk03
from reidlib.runs import batch
from reidlib.runs.batch import Part, Plan
from reidlib.runs.run import Run, runs_of
from reidlib.spec import ReidError


@dataclass(frozen=True)
class Chapter:
    """A notebook with the parameters that it gets."""

    slug: str
    dataset: str
    parameters: dict[str, Any]

    def missing(self) -> list[str]:
        """Names of the runs that it needs and that have no finished record."""
        return notebooks.made_from(self.slug, notebooks.with_defaults(self.slug, self.parameters))["missing"]

    def needs(self) -> set[Path]:
        """The records of the runs that it shows, of whatever table they are, and of those that it repeats."""
        return {run.found_file for run in (*self.shows(), *self.repeats())}

    def shows(self) -> list[Run]:
        """All runs of its table, or those whose networks a figure draws."""
        asked = {name: self.parameters[name] for name in ("budget", "source", "seeds")}
        rows = _drawn(self.slug).get("rows", ())
        return runs_of(notebooks.table_of(self.slug), dataset=self.dataset, rows=rows, **asked)

    def repeats(self) -> list[Run]:
        """The runs that a figure needs again: they have a record, and the cache has no weights to draw."""
        from reidlib.runs.trained import has_weights

        if not _drawn(self.slug) or notebooks.is_current(self.slug, self.parameters):
            return []
        return [replace(run, again=True) for run in self.shows() if run.is_made() and not has_weights(run)]

    def command(self) -> list[str]:
        line = ["reid", "run", self.slug]
        for name, value in self.parameters.items():
            line += [f"--{name}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
        return line


def plan(asked: Sequence[str], **options: Any) -> tuple[Plan, list[Chapter]]:
    """The batch behind papers, tables and figures (`batch.plan`), and its notebooks with the repeats that they need."""
    found = batch.plan(asked, figures=figures(), **options)
    chapters = [chapter for part in found.parts for chapter in _chapters(part, found)]
    repeats = [run for chapter in chapters for run in chapter.repeats()]
    return found.again(repeats) if repeats else found, chapters


def figures() -> list[Part]:
    """The figures that draw networks of a table; each names its data set and its rows itself."""
    drawn = {slug: (table, _drawn(slug)) for slug, table in notebooks.image_figures().items()}
    return [Part(slug, of, (own["dataset"],), tuple(own.get("rows", ()))) for slug, (of, own) in drawn.items()]


def _drawn(slug: str) -> dict[str, Any]:
    """The parameters of a figure that draws networks; {} for the notebook of a table."""
    return notebooks.with_defaults(slug, {}) if notebooks.table_of(slug) != slug else {}


def _chapters(part: Part, found: Plan) -> Iterator[Chapter]:
    """The notebooks of a table, one for each data set (one for all splits of one), or of a figure."""
    if not notebooks.has_template(part.name):
        return  # a table of the study's own, shown on one of its pages
    place = dict(budget=found.budget, source=found.source)
    first: dict[str, str] = {}
    for dataset in part.datasets:
        if dataset in found.datasets:
            first.setdefault(cuhk03.all_splits(dataset), dataset)
    for dataset in first.values():
        if part.table != part.name:
            yield Chapter(part.name, dataset, place | {"seeds": list(found.seeds)})
        else:
            seeds = list(batch.seeds_of(dataset, found.seeds))
            yield Chapter(part.name, dataset, place | {"dataset": dataset, "seeds": seeds})


def as_json(plan: Plan, chapters: Sequence[Chapter]) -> dict[str, Any]:
    """The plan for other programs: groups of runs and notebooks, each with its command and what it waits for."""
    jobs = batch.groups(plan)
    of = {record: job["id"] for job in jobs for record in job["records"]}
    listed = []
    for chapter in chapters:
        after = sorted({of[str(file)] for file in chapter.needs() if str(file) in of})
        listed.append(dict(slug=chapter.slug, dataset=chapter.dataset, command=chapter.command(), after=after))
    return {"budget": plan.budget, "source": plan.source, "jobs": jobs, "chapters": listed}


def write(chapters: Sequence[Chapter], say: Callable[[str], None] = print) -> list[tuple[Chapter, str]]:
    """Executes the notebooks whose runs all have records. Returns those that were not executed, with the reason."""
    left = []
    for chapter in chapters:
        if missing := chapter.missing():
            left.append((chapter, f"{len(missing)} of its runs have no finished record, such as {missing[0]}"))
        elif not notebooks.is_current(chapter.slug, chapter.parameters):
            try:
                say(f"notebook: {_from_home(notebooks.execute(chapter.slug, chapter.parameters, quiet=True))}")
            except ReidError as fault:
                left.append((chapter, str(fault)))
    return left


def not_in_the_book(plan: Plan, chapters: Sequence[Chapter]) -> list[str]:
    """The executed notebooks that the book's table of contents does not name."""
    named = (paths.home() / "_toc.yml").read_text(encoding="utf-8")
    place = dict(source=plan.source, budget=plan.budget)
    copies = [notebooks.executed_copy(one.slug, dataset=one.dataset, **place) for one in chapters]
    names = [_from_home(copy.with_suffix("")) for copy in copies if copy.exists()]
    return [name for name in names if name not in named]


def _from_home(file: Path) -> str:
    return str(file.relative_to(paths.home()) if file.is_relative_to(paths.home()) else file)
