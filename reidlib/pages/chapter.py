"""The chapter of one table, part by part: every notebook of a table shows these, and text of its own between them.

    page = Chapter(engine.ensure("safenet", "table5", budget="small"))
    page.comparison()

The paper's numbers, claims and assumptions are found from the runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import pandas as pd
from matplotlib.figure import Figure

from reidlib.pages import banners, claims, declared, figures, tables
from reidlib.pages.claims import Decision
from reidlib.pages.formatting import paper_title, plural
from reidlib.pages.render import Code, Page, Piece, TableView, Text
from reidlib.pages.tables import PUBLISHED, Name
from reidlib.runs.run import Runs, reported_numbers
from reidlib.spec import Recipe, Row, Table

INTERVAL = (
    "The interval (95 %) says what other seeds and other persons would give: both rows rank the same queries, whose "
    "persons are drawn, and so are the seeds of either row. Where it holds zero the difference is grey: these runs "
    "cannot tell the two rows apart. From fewer than three seeds the interval decides nothing."
)
CORRECTED = (
    " The claims of the paper are decided together, on all data sets of all its tables and from all seeds that have a "
    "record: their p is corrected for their number (Holm), and below 0.05 a claim counts as supported or contradicted, "
    "by its sign."
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

    def answer(self) -> Page:
        """What images these are, and what the records say of each claim."""
        return Page([banners.chapter(self.runs), *claims.answers(self.runs, self.claims)])

    def comparison(self) -> TableView:
        """Reported and reproduced, row by row."""
        return tables.comparison(self.runs, self.reported)

    def ablation(self) -> Figure:
        """The same as dots."""
        return figures.ablation(self.runs, self.reported)

    def steps(self, pairs: Sequence[tuple[Name, Name]]) -> Page:
        """Pairs of rows as differences with their intervals, then the paper's claims with their verdicts.

        `ladder`, `against` and `variants` make the pairs that most tables need.
        """
        shown: list[Piece] = [Text(INTERVAL + (CORRECTED if self.claims else ""))]
        if pairs:
            shown.append(tables.differences(self.runs, self.reported, pairs))
        if self.claims:
            shown.append(claims.view(self.claims, f"{self.runs.table.slug}: the paper's claims"))
        return Page(shown)

    def curves(self, groups: dict[str, Sequence[Name]] | None = None) -> Figure:
        """Training loss by epoch. groups: panels by title; by default the rows as published, then the variants."""
        return figures.curves(self.runs, groups or _groups(self.runs))

    def limits(self) -> Page:
        """How far this budget is from the paper's recipe, and what a verdict at it is worth."""
        return Page([_training(self.runs), _worth(self.runs)])

    def sources(self) -> Page:
        """Repeats on this machine, the record behind each number, the recipe and the assumptions with their reasons."""
        own = self.runs.table
        assumed = tables.assumptions(declared.assumptions(own.paper, [own]), paper_title(own.paper))
        records = tables.provenance(self.runs).pieces
        return Page([tables.repeats(self.runs), *records, tables.recipe(self.runs), assumed])


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
    names = [(row.label, row.variant) for row in tables.rows_of(runs)]
    published = [name for name in names if name[1] == PUBLISHED]
    others = [name for name in names if name[1] != PUBLISHED]
    return {"as published": published, "variants": others} if published and others else {"": names}


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
        text += ", which is the recipe of the paper, stated or assumed as the last tables say."
    else:
        text += f". The recipe of the paper, stated or assumed as the last tables say, has {other}."
    if base.first:
        text += f" The {base.first.settings.model.__name__} is trained before it, for as long."
    return Text("At budget ", Code(first.budget), text)


def _words(recipe: Recipe, starts: Sequence[str]) -> str:
    value = recipe.resolved()
    height, width = value["size"]
    names = {"imagenet": "ImageNet weights", "start": "the study's own start"}
    start = " or ".join(names.get(start, start) for start in starts)
    return f"{plural(value['epochs'], 'epoch')} in batches of {value['batch']} at {height}×{width}, from {start}"


SMOKE = "This budget shows that the code runs from the images to this page, and nothing else."
ENOUGH = (
    "That is enough to see that every switch is wired as described, whether each network learns, and how far the rows "
    "lie apart under equal conditions."
)


def _worth(runs: Runs) -> Text:
    """What a verdict on this page is worth, by budget, seeds and images."""
    first, seeds = runs.runs[0], len(tables.seeds_of(runs))
    if not runs.records():
        return Text("No row is finished at this budget: this page shows what would be compared, and nothing else.")
    said = [SMOKE if first.budget == "smoke" else ENOUGH]
    if first.source != "real":
        said.append("It is not enough to confirm or refute the paper: rendered people are not photographs.")
    elif first.budget != "full":
        said.append("It is not enough to confirm or refute the paper, for the training is not the paper's.")
    of_seeds = "One seed hides the" if seeds == 1 else f"{seeds} seeds show a part of the"
    said.append(f"{of_seeds} spread between seeds.")
    if missing := len({(run.row.label, run.row.variant) for run in runs.runs if run.state() != "finished"}):
        rows = len(tables.rows_of(runs))
        said.append(f"{missing} of the {rows} rows are not finished at this budget, and nothing is said of them.")
    from_seeds = "this seed" if seeds == 1 else "these seeds"
    said.append(f"A verdict on this page is a verdict on these images, at this budget and from {from_seeds}.")
    others = [name for name in runs.table.budgets if name not in ("smoke", "small", first.budget)]
    if first.budget not in ("smoke", "small") or not others:
        return Text(" ".join(said))
    named = [part for name in others for part in (" and ", Code(name))][1:]
    return Text(" ".join(said), " Budgets ", *named, " lift these limits one by one; the table keeps its shape.")
