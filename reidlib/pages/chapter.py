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

from reidlib import papers
from reidlib.pages import banners, declared, figures, tables
from reidlib.pages.formatting import paper_title
from reidlib.pages.render import Code, Page, Piece, TableView, Text
from reidlib.pages.tables import PUBLISHED, Name
from reidlib.runs.run import Runs, reported_numbers
from reidlib.spec import Claim, Recipe, Row, Table

INTERVAL = (
    "The interval is a paired bootstrap over the queries (95 %): where it holds zero the difference is grey, and these "
    "images cannot tell the two rows apart. It covers the draw of queries, not the draw of seeds."
)
CORRECTED = (
    " The claims below are decided together: their p is corrected for their number (Holm), and below 0.05 a claim "
    "counts as supported or contradicted, by its sign."
)

START = {"imagenet": "ImageNet weights", "scratch": "scratch"}


@dataclass(frozen=True)
class Chapter:
    """What one table's page shows. runs: all runs of the table."""

    runs: Runs

    @cached_property
    def reported(self) -> pd.DataFrame:
        """The numbers that the paper prints for this data set."""
        return reported_numbers(self.runs.table, self.runs.runs[0].dataset)

    @cached_property
    def claims(self) -> list[Claim]:
        """The paper's claims about this table and its data set."""
        first = self.runs.runs[0]
        return [claim for claim in papers.claims() if claim.of(first.table.slug, first.dataset)]

    def answer(self) -> Page:
        """What images these are, and what the records say of each claim."""
        return Page([banners.chapter(self.runs), *tables.answers(self.runs, self.claims)])

    def comparison(self) -> TableView:
        """Reported and reproduced, row by row."""
        return tables.comparison(self.runs, self.reported)

    def ablation(self, metric: str = "mAP") -> Figure:
        """The same as dots."""
        return figures.ablation(self.runs, self.reported, metric)

    def steps(self, pairs: Sequence[tuple[Name, Name]]) -> Page:
        """Pairs of rows as differences with their intervals, then the paper's claims with their verdicts.

        `ladder`, `against` and `variants` make the pairs that most tables need.
        """
        shown: list[Piece] = [Text(INTERVAL + (CORRECTED if self.claims else ""))]
        if pairs:
            shown.append(tables.differences(self.runs, self.reported, pairs))
        if self.claims:
            shown.append(tables.claims(self.runs, self.claims))
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
    labels = [row.label for row in table.rows if row.variant == PUBLISHED]
    return [(row, other) for other, row in pairwise(labels)] + variants(table)


def against(table: Table, reference: Name) -> list[tuple[Name, Name]]:
    """Every other row as published against one row, then the variants against their published row."""
    labels = [row.label for row in table.rows if row.variant == PUBLISHED]
    return [(label, reference) for label in labels if label != reference] + variants(table)


def variants(table: Table) -> list[tuple[Name, Name]]:
    """Every other variant of a row against the row as published; one whose label has no such row is left out."""
    labels = {row.label for row in table.rows if row.variant == PUBLISHED}
    others = [row for row in table.rows if row.variant != PUBLISHED and row.label in labels]
    return [((row.label, row.variant), (row.label, PUBLISHED)) for row in others]


def _groups(runs: Runs) -> dict[str, Sequence[Name]]:
    rows = tables.rows_of(runs)
    groups: dict[str, Sequence[Name]] = {
        "as published": [(row.label, row.variant) for row in rows if row.variant == PUBLISHED],
        "variants": [(row.label, row.variant) for row in rows if row.variant != PUBLISHED],
    }
    filled = {heading: names for heading, names in groups.items() if names}
    return filled if len(filled) > 1 else {"": next(iter(filled.values()))}


def _training(runs: Runs) -> Text:
    """What a row's training is at this budget, and what the paper's recipe is."""
    first, made = runs.runs[0], runs.records()
    base, paper = runs.table.settings(Row("base"), first.budget), runs.table.base.recipe
    starts = sorted({record.start for _, record in made}) or [base.recipe.resolved()["start"]]
    here = f"{_words(base.recipe)}, from {' or '.join(START[start] for start in starts)}"
    other = f"{_words(paper)}, from {START[paper.resolved()['start']]}"
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


def _worth(runs: Runs) -> Text:
    """What a verdict on this page is worth, by budget, seeds and images."""
    first, seeds = runs.runs[0], len(tables.seeds_of(runs))
    if not runs.records():
        return Text("No row is finished at this budget: this page shows what would be compared, and nothing else.")
    if first.budget == "smoke":
        text = "This budget shows that the code runs from the images to this page, and nothing else. "
    else:
        text = "That is enough to see that every switch is wired as described, whether each network learns, and how "
        text += "far the rows lie apart under equal conditions. "
    if first.source != "real":
        text += "It is not enough to confirm or refute the paper: rendered people are not photographs. "
    elif first.budget != "full":
        text += "It is not enough to confirm or refute the paper, for the training is not the paper's. "
    if seeds == 1:
        text += "One seed hides the spread between seeds. "
    else:
        text += f"{seeds} seeds show a part of the spread between seeds. "
    missing = len({(run.row.label, run.row.variant) for run in runs.runs if run.state() != "finished"})
    if missing:
        rows = len(tables.rows_of(runs))
        text += f"{missing} of the {rows} rows are not finished at this budget, and nothing is said of them. "
    text += "A verdict on this page is a verdict on these images, at this budget and from "
    parts: list[str] = [text + ("this seed" if seeds == 1 else "these seeds")]
    others = [name for name in runs.table.budgets if name not in ("smoke", "small", first.budget)]
    if first.budget in ("smoke", "small") and others:
        named = [part for name in others for part in (" and ", Code(name))][1:]
        parts += [". Budgets ", *named, " lift these limits one by one; the table keeps its shape"]
    return Text(*parts, ".")


def _words(recipe: Recipe) -> str:
    value = recipe.resolved()
    height, width = value["size"]
    epochs = f"{value['epochs']} epoch{'s' * (value['epochs'] != 1)}"
    return f"{epochs} in batches of {value['batch']} at {height}×{width}"
