"""The chapter of one table, part by part: every notebook of a table shows these, and text of its own between them.

    page = Chapter(engine.ensure("safenet", "table5", budget="small"))
    display(*page.answer())

The paper's numbers, claims and assumptions are found from the runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from reidlib.pages import banners, claims, declared, figures, progress, tables
from reidlib.pages.claims import Decision
from reidlib.pages.formatting import plural
from reidlib.pages.render import Code, Page, Piece, TableView, Text
from reidlib.pages.tables import PUBLISHED, Name
from reidlib.runs.batch import duration
from reidlib.runs.own import choices
from reidlib.runs.run import Run, Runs, reported_numbers, runs_of
from reidlib.spec import Recipe, Row, Table

INTERVAL = (
    "The interval (95 %) says what other seeds and other persons would give. A grey difference decides nothing: its "
    "interval holds zero, it is from fewer than three seeds, a row did not learn, or the two began from different "
    "weights. Any other stands for itself; the verdicts on claims are corrected for their number."
)


@dataclass(frozen=True)
class Chapter:
    """What one table's page shows. runs: all runs of the table."""

    runs: Runs

    @cached_property
    def reported(self) -> pd.DataFrame:
        """The numbers that the paper prints for this data set."""
        return reported_numbers(self.runs.table, self.runs.runs[0].dataset)

    @cached_property
    def claims(self) -> list[Decision]:
        """The paper's claims about this table and its data set, decided with all others of the paper."""
        first = self.runs.runs[0]
        found = claims.decisions(first.table.paper, budget=first.budget, source=first.source)
        return [one for one in found if (one.claim.table, one.dataset) == (first.table.name, first.dataset)]

    def answer(self) -> list[Piece | Figure]:
        """What images these are; what the records say of the claims in one sentence, as a figure, and one by one."""
        drawn = figures.forest(self.claims)
        said = Page([banners.chapter(self.runs), claims.sentence(self.runs, self.claims)])
        return [said, *([drawn] if drawn else []), *([claims.view(self.claims)] if self.claims else [])]

    def settings(self) -> pd.DataFrame:
        """The rows as data: how each differs from the common settings of the table, at this budget."""
        return declared.settings(self.runs.table, self.runs.runs[0].budget)

    def comparison(self) -> TableView:
        """Reported and reproduced, row by row."""
        return tables.comparison(self.runs, self.reported)

    def ablation(self) -> Figure | Page:
        """The same as dots."""
        return figures.ablation(self.runs, self.reported) or Page([])

    def steps(self, pairs: Sequence[tuple[Name, Name]]) -> Page:
        """Pairs of rows as differences with their intervals: `ladder`, `against` and `variants` make most of them."""
        return Page([Text(INTERVAL), tables.differences(self.runs, self.reported, pairs)] if pairs else [])

    def beside(self, own: Sequence[Run]) -> Page:
        """A row of the reader's own (`runs.own`) under the rows of the table; without one, what it could change."""
        if not own:
            options = f"{choices(self.runs)}; and with recipe=dict(…) the values of the recipe."
            return Page([Text(f"There is no row of your own yet. A row changes {options}")])
        pairs = [((own[0].row.label, own[0].row.variant), name) for name in _published(self.runs.table)]
        against_it = tables.differences(Runs((*self.runs.runs, *own)), self.reported, pairs)
        return Page([tables.comparison(self.runs, self.reported, own), against_it])

    def curves(self, groups: dict[str, Sequence[Name]] | None = None) -> Figure | Text:
        """Training loss by epoch. groups: panels by title; by default the rows as published, then the variants."""
        if not self.runs.records():
            return Text("Without a record there is no training curve.")
        return figures.curves(self.runs, groups or _groups(self.runs))

    def limits(self) -> Page:
        """How far this budget is from the paper's recipe, and what a verdict at it is worth."""
        return Page([_training(self.runs), _worth(self.runs)])

    def sources(self) -> Page:
        """The record behind each number, repeats on this machine, and the recipe with its reasons; folded."""
        repeats = [tables.repeats(self.runs)] if self.runs.repeated() else []
        others = Text("What the paper leaves open, and what was built instead: the page “Deviations”.")
        pieces = [*tables.provenance(self.runs).pieces, *repeats, tables.recipe(self.runs), others]
        return Page(pieces, "Where each number comes from: records, machine, recipe")


def time_needed(paper: str, table: str, *, seeds: Sequence[int], train: bool, **place: Any) -> Page:
    """What executing a notebook will take, as far as it is training. place: budget, dataset, source and rows."""
    runs = runs_of(f"{paper}/{table}", seeds=seeds, **place)
    missing = [run for run in runs if not run.is_made()]
    words = "Executing this notebook trains nothing: it reads records."
    if train and missing:
        words = f"{len(missing)} of {plural(len(runs), 'run')} have no record. They are trained first: "
        words += f"{_times(missing)}."
    each = ([run for run in runs if run.row is row] for row in tables.rows_of(Runs(tuple(runs))))
    longest = max(each, key=lambda of_row: progress.seconds(of_row, progress.PLACES["core"]))
    words += f" A row of your own, from {plural(len(seeds), 'seed')}, takes up to {_times(longest)}."
    return Page([Text(words)], "How long it takes")


def _times(runs: Sequence[Run]) -> str:
    """What runs are expected to take, from the records, one after the other."""
    times = {name: duration(progress.seconds(runs, place)) for name, place in progress.PLACES.items()}
    return " or ".join(f"{time} on one {name}" for name, time in times.items())


def ladder(table: Table) -> list[tuple[Name, Name]]:
    """Each row as published against the one above it, then the variants against their published row."""
    return [(row, other) for other, row in pairwise(_published(table))] + variants(table)


def against(table: Table, reference: Name) -> list[tuple[Name, Name]]:
    """Every other row as published against one row, then the variants against their published row."""
    return [(label, reference) for label in _published(table) if label != reference] + variants(table)


def variants(table: Table) -> list[tuple[Name, Name]]:
    """Every other variant of a row against the row as published; one whose label has no such row is left out."""
    labels = _published(table)
    others = [row for row in table.rows if row.variant != PUBLISHED and row.label in labels]
    return [((row.label, row.variant), (row.label, PUBLISHED)) for row in others]


def _published(table: Table) -> list[str]:
    return [row.label for row in table.rows if row.variant == PUBLISHED]


def _groups(runs: Runs) -> dict[str, Sequence[Name]]:
    groups: dict[str, list[Name]] = {"as published": [], "variants": []}
    for row in tables.rows_of(runs):
        groups["as published" if row.variant == PUBLISHED else "variants"].append((row.label, row.variant))
    return dict(groups) if all(groups.values()) else {"": sum(groups.values(), [])}


def _training(runs: Runs) -> Text:
    """What a row's training is at this budget, and what the paper's recipe is."""
    first, made = runs.runs[0], runs.records()
    base, paper = runs.table.settings(Row("base"), first.budget), runs.table.base.recipe
    starts = sorted({record.start for _, record in made}) or [base.recipe.resolved()["start"]]
    here, other = _words(base.recipe, starts), _words(paper, [paper.resolved()["start"]])
    text = f" a row is trained for {here}"
    if made:
        value, images = base.recipe.resolved(), made[0][1].data["images"]["train"]
        text += f": about {value['epochs'] * (images // value['batch']):,} steps"
    if here == other:
        text += ", which is the recipe of the paper, stated or assumed as the recipe at the foot says."
    else:
        text += f". The recipe of the paper, stated or assumed as the recipe at the foot says, has {other}."
    if own := sorted({run.settings.recipe.size for run in runs.runs} - {base.recipe.size}):
        text += f" Rows with an input of their own keep it: {', '.join(f'{high}×{wide}' for high, wide in own)}."
    if base.first and runs.table.base.first:
        before, printed = (first.settings.recipe.resolved()["epochs"] for first in (base.first, runs.table.base.first))
        text += f" The {base.first.settings.model.__name__} is trained before it, here for {plural(before, 'epoch')}"
        text += "." if before == printed else f", in the recipe of the paper for {printed}."
    return Text("At budget ", Code(first.budget), text)


def _words(recipe: Recipe, starts: Sequence[str]) -> str:
    value = recipe.resolved()
    height, width = value["size"]
    names = {"imagenet": "ImageNet weights", "start": "the study's own start"}
    start = " or ".join(names.get(start, start) for start in starts)
    return f"{plural(value['epochs'], 'epoch')} in batches of {value['batch']} at {height}×{width}, from {start}"


def _worth(runs: Runs) -> Text:
    """What a verdict on this page is worth, by budget, seeds and images."""
    first, seeds = runs.runs[0], tables.seeds_in_words(runs)
    if not runs.records():
        return Text("No row of this table is finished at this budget.")
    said = [
        "This budget shows that the code runs from the images to this page, and nothing else."
        if first.budget == "smoke"
        else "That is enough to see that every switch is wired as described, whether each network learns, and how far "
        "the rows lie apart here."
    ]
    if first.source != "real":
        said.append("It is not enough to confirm or refute the paper: rendered people are not photographs.")
    elif first.budget != "full":
        said.append("It is not enough to confirm or refute the paper, for the training is not the paper's.")
    said.append(f"{'One seed hides the' if seeds == '1 seed' else f'{seeds} show a part of the'} spread between seeds.")
    rows = len(tables.rows_of(runs))
    if missing := rows - len({(run.row.label, run.row.variant) for run, _ in runs.records()}):
        said.append(f"{missing} of the {rows} rows are not finished at this budget, and nothing is said of them.")
    from_seeds = "this seed" if seeds == "1 seed" else "these seeds"
    said.append(f"A verdict on this page is a verdict on these images, at this budget and from {from_seeds}.")
    others = [name for name in runs.table.budgets if name not in ("smoke", "small")]
    if first.budget in others or not others:
        return Text(" ".join(said))
    named = [part for name in others for part in (" and ", Code(name))][1:]
    return Text(" ".join(said), " Budgets ", *named, " lift these limits one by one; the table keeps its shape.")
