"""The page "Status": what has run of every table, with how many seeds and on what, and what the rest takes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from reidlib import papers, paths
from reidlib.data import cuhk03
from reidlib.pages import contents
from reidlib.pages.formatting import in_order, paper_title, plural
from reidlib.pages.render import Cell, Code, Column, Page, Piece, TableView, Text, heading, state, table
from reidlib.pages.tables import NOT_RUN
from reidlib.runs import batch, estimates
from reidlib.runs.devices import Device, Place
from reidlib.runs.records import Record
from reidlib.runs.run import STUDY, Run, recorded_seeds, runs_of
from reidlib.spec import Table

PLACES = {"core": Place(Device("cpu", "", 0.0), 1), "GPU": Place(Device("any", "", 0.0), 1)}
"""Where the expected times are for: one core of the processors, and one GPU, that the records name; else a guess."""


@dataclass(frozen=True)
class Part:
    """A table on one data set (on all splits of one) at a budget.

    seeds: those asked for. What has run from other seeds counts where all rows have it.
    """

    table: Table
    datasets: tuple[str, ...]
    budget: str
    source: str
    seeds: tuple[int, ...]

    @property
    def images(self) -> str:
        return cuhk03.all_splits(self.datasets[0])

    def _runs(self, seeds: Sequence[int] | None = None) -> Iterator[Run]:
        for dataset in self.datasets:
            place = dict(budget=self.budget, dataset=dataset, source=self.source)
            yield from runs_of(self.table.slug, seeds=seeds or recorded_seeds(self.table.slug, **place), **place)

    @cached_property
    def made(self) -> list[tuple[Run, Record]]:
        """The finished runs, of whatever seed, with their records (without the numbers of each query)."""
        found = ((run, run.record(arrays=False)) for run in self._runs())
        return [(run, record) for run, record in found if record and record.ok]

    @cached_property
    def missing(self) -> list[Run]:
        """What is left to do from the seeds asked for; of twenty splits, from the first of them."""
        made = {run.name for run, _ in self.made}
        asked = self._runs(batch.seeds_of(self.datasets[0], self.seeds))
        return [run for run in asked if run.name not in made]

    def command(self) -> str:
        others = len(set(map(cuhk03.all_splits, self.table.datasets))) > 1
        return command([self.table.slug], self.budget, self.source, self.seeds, self.images if others else "")


def command(slugs: Sequence[str], budget: str, source: str, seeds: Sequence[int], dataset: str = "") -> str:
    """The command line that trains what these tables lack, on one data set or on all of theirs."""
    line = ["reid", "reproduce", *slugs, "--budget", budget]
    line += ["--source", source] if source != "stand-in" else []
    line += ["--dataset", dataset] if dataset else []
    return shlex.join([*line, "--seeds", ",".join(map(str, seeds))])


def seconds(missing: Sequence[Run], place: Place) -> float:
    """What these runs are expected to take on this place, one after the other, if nothing else is trained."""
    known: set[str] = set()
    total = 0.0
    for run in missing:
        first = run.settings.first
        networks = [run.network, *([run.network_of(first.settings)] if first else [])]
        trains, *firsts = [network not in known for network in networks]
        total += estimates.estimate(run, place, trains=trains, firsts=any(firsts)).seconds
        known.update(networks)
    return total


def parts(*, budget: str, source: str, seeds: Sequence[int]) -> list[Part]:
    """Every table of the five papers, then the study's own, on every data set, that has this budget."""
    known = papers.tables().values()
    found = []
    for paper in in_order([own.paper for own in known]):
        for own in (own for own in known if own.paper == paper and budget in own.budgets):
            for images in dict.fromkeys(map(cuhk03.all_splits, own.datasets)):
                splits = tuple(name for name in own.datasets if cuhk03.all_splits(name) == images)
                found.append(Part(own, splits, budget, source, tuple(seeds)))
    return found


def summary(found: Sequence[Part]) -> Text:
    """How far all of it is, in one sentence."""
    of = {part.table.slug: part for part in reversed(found) if part.table.paper != STUDY}  # on its first data set
    done, begun = sum(not part.missing for part in of.values()), sum(bool(part.made) for part in of.values())
    seeds = plural(len(found[0].seeds), "seed")
    words = f"{done} of {plural(len(of), 'table')} and figures with numbers are complete on their first data set: "
    words += f"every row has a finished run from {seeds} at budget {found[0].budget}."
    return Text(words + (f" {begun - done} more are begun." if begun > done else ""))


def guesses() -> Text:
    """Whether the expected times rest on records."""
    known = [name for name, place in PLACES.items() if estimates.rates(place)]
    words = "Times are expected ones, for the runs of a line alone: operations are counted, and "
    words += f"how many a {' or a '.join(known)} does in a second is read from the records. " if known else ""
    if others := [name for name in PLACES if name not in known]:
        words += f"how fast a {' or a '.join(others)} is, is a guess until a record says it. "
    return Text(words, Code("reid reproduce --dry-run"), " says it for your machine.")


def elsewhere(found: Sequence[Part]) -> Piece:
    """What has run at another budget; a sentence where nothing has."""
    budget = found[0].budget
    if not (begun := [part for part in found if part.made]):
        return Text(f"Nothing has run at budget {budget}.")
    lines = [[f"{paper_title(part.table.paper)} {part.table.name}", part.images, *_state(part)] for part in begun]
    kinds = {"table": "label", "on": "label", "rows run": "number", "seeds": "number", "device": "text"}
    return table(kinds, lines, f"What has run at budget {budget}")


def section(paper: str, found: Sequence[Part], known: Sequence[str]) -> Page:
    """The tables of one paper. known: the names of the book's pages."""
    own = [part for part in found if part.table.paper == paper]
    columns = [Column("table", "label"), Column("on", "label"), "rows run", "seeds", Column("device", "text")]
    left = f"left, {plural(len(own[0].seeds), 'seed')}"
    columns += [Column("runs", group=left), *[Column(f"on one {name}", group=left) for name in PLACES]]
    columns += [Column("command", "code")]
    lines: list[list[Cell | str | int]] = []
    for slug, same in groupby(own, key=lambda part: part.table.slug):
        page = contents.page_of(slug, known, budget=own[0].budget, source=own[0].source)
        about = papers.table(slug)
        name = _name(f"{about.name}: {about.title}", page)
        lines += [[name, *_line(part)] for part in same]
    view = table(columns, lines, f"{paper_title(paper)} at budget {own[0].budget}", over=True)
    return Page([heading(paper_title(paper), f"status-{paper}"), view])


def _line(part: Part) -> list[Cell | str | int]:
    """A table on one data set: what has run of it, and the command for the rest."""
    said = _state(part)
    if not part.missing:
        return [part.images, *said, *state("nothing", 1 + len(PLACES)), ""]
    times = [batch.duration(seconds(part.missing, place)) for place in PLACES.values()]
    return [part.images, *said, len(part.missing), *times, part.command()]


def _state(part: Part) -> list[Cell | str | int]:
    """Rows run, the fewest and the most seeds of one of them, kinds of device."""
    if not part.made:
        return [*state(NOT_RUN, 3)]
    seeds: dict[tuple[str, str], set[int]] = {}
    for run, _ in part.made:
        seeds.setdefault((run.row.label, run.row.variant), set()).add(run.seed)
    fewest, most = min(map(len, seeds.values())), max(map(len, seeds.values()))
    kinds = ", ".join(sorted({record.device_kind for _, record in part.made}))
    return [f"{len(seeds)} of {len(part.table.rows)}", f"{fewest} to {most}" if fewest < most else most, kinds]


def pictures(drawn: Mapping[str, str], known: Sequence[str], *, budget: str, source: str) -> TableView:
    """The figures that draw images from trained networks: which have a page, and the command for the others.

    drawn: their notebooks, each with the table whose networks it draws (`book.notebooks.image_figures`).
    """
    lines = []
    for slug, of in drawn.items():
        # Not with nbformat, whose import takes every kernel as long as that of torch.
        notebook = json.loads((paths.home() / "notebooks" / f"{slug}.ipynb").read_text(encoding="utf-8"))
        title = "".join(notebook["cells"][0]["source"]).splitlines()[0].lstrip("# ")
        page = contents.page_of(slug, known, budget=budget, source=source)
        command = f"reid run {slug} --budget {budget}"
        lines.append([_name(title, page), of.partition("/")[2], "drawn" if page else NOT_RUN, command])
    kinds = {"figure": "label", "draws networks of": "label", "state": "text", "command": "code"}
    return table(kinds, lines, "Figures of images", over=True)


def _name(name: str, page: str) -> Cell:
    """The name of what a line is about, with a link to its page."""
    return Cell(name, address=contents.address(page) if page else "")
