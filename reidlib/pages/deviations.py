"""The page "Deviations": what each paper states, leaves open or contradicts, and what its released code does otherwise.

Nothing is listed by hand here. A paper's module is walked: its tables with all their rows, the TOML file beside it, and
those beside the models that its rows build. What a paper contradicts is data, results/conflicts.tsv, and so are the ten
deviations of each paper that most likely change the result, results/deviations.tsv.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pandas as pd

from reidlib.pages.declared import ASSUMED, BEFORE, STATED, Value, assumptions, differences, values, written
from reidlib.pages.formatting import paper_title
from reidlib.pages.render import Cell, Page, Piece, TableView, Text, caption, heading, table
from reidlib.spec import ReidError, Table

PUBLISHED, RELEASED = "as-published", "as-released"

KINDS = {
    STATED: "Stated by the paper",
    ASSUMED: "Assumed, for the paper does not say",
    "contradicted": "Contradicted within the paper",
    "released": "Different in the released code",
    "others": "Rows of ours beside the printed ones",
    "budgets": "Changed by a budget, not by the paper",
}

_ROWS = {"variant": "label", "row": "label", "settings that differ": "quote", "note": "reason"}
_WHAT = "what does not agree, and what is done here"
COLUMNS = {
    STATED: {"detail": "label", "value": "quote", "where": "reason", "changed by a budget": "text", "in": "label"},
    ASSUMED: {"detail": "label", "value here": "quote", "because": "reason", "in": "label"},
    "contradicted": {"rows, between": "label", _WHAT: "reason", "the paper's words": "quote"},
    "released": _ROWS,
    "others": _ROWS,
    "budgets": {"recipe": "label", "for the paper": "quote", "budget": "text", "value, because": "reason"},
}
"""The columns of each kind's table, with their kinds."""

FIRST = {"deviation": "label", "what it can change": "quote", "here": "reason"}
"""The columns of the table that comes first in a section."""

NONE = {
    "contradicted": "None that touches a row of this study.",
    "released": "None: no row of a released code is declared.",
}
"""What stands in the place of an empty table."""


@dataclass(frozen=True)
class Paper:
    """All that one paper's module declares: the lines of each table of the page, by kind."""

    name: str
    lines: dict[str, list[list[Any]]]

    @property
    def anchor(self) -> str:
        return f"deviations-{self.name}"

    def entry(self, kind: str, detail: str) -> tuple[str, str]:
        """(name, what is done here) of one entry.

        detail: the first cell of its line, or both first cells; of what the paper contradicts, the line of the text.
        Raises ReidError where there is no such entry. A budget that is not shown changes nothing.
        """
        if kind == "contradicted":
            for where, what, words in self.lines[kind]:
                if words.endswith(f"({detail})"):
                    return f"{where.note} ({detail})", f"{what} {what.note}"
        found = [cells for cells in self.lines.get(kind, []) if detail in (cells[0], ", ".join(cells[:2]))]
        if kind == "budgets":
            changed = {budget: here for _, _, budget, here in reversed(found)}
            here = "; ".join(f"{budget}: {changed[budget]}" for budget in reversed(changed))
            return detail, f"{found[0][1]} → {here}" if found else "as in the paper"
        if not found:
            remedy = "correct the line, or delete it"
            raise ReidError(f"results/deviations.tsv: {self.name} has no entry {detail!r} ({kind}); {remedy}")
        return found[0][0], found[0][1 if kind == ASSUMED else 2]


def gather(module: ModuleType, conflicts: pd.DataFrame, budgets: Sequence[str] = ("small", "medium", "full")) -> Paper:
    """What a module of `reidlib.papers` declares, with the changes of these budgets (tests have one of their own).

    conflicts: results/conflicts.tsv.
    """
    paper = module.__name__.rpartition(".")[2]
    tables = list({value.slug: value for value in vars(module).values() if isinstance(value, Table)}.values())
    met: dict[str, dict[tuple[str, ...], list[str]]] = {kind: {} for kind in KINDS}

    def add(kind: str, place: str, *entry: str) -> None:
        """Each entry once, with the places that have it."""
        places = met[kind].setdefault(entry, [])
        if place and place not in places:
            places.append(place)

    def add_value(value: Value, place: str) -> None:
        entry = (written(value.value), value.why)
        plain = value.name.removeprefix(BEFORE)
        same = plain != value.name and (plain, *entry) in met.get(value.kind, {})
        if value.kind in (STATED, ASSUMED) and not same:  # what is trained first may have it from the same recipe
            add(value.kind, place, value.name, *entry)

    for value in assumptions(paper, tables).values():
        add_value(value, "")
    for own in tables:
        for value in values(own.base):
            add_value(value, own.name)
        for row in own.rows:
            for value in values(row):
                add_value(value, f"{own.name}: {row.label}")
            if row.variant != PUBLISHED:
                kind = "released" if row.variant.startswith(RELEASED) else "others"
                add(kind, own.name, row.variant, row.label, differences(own, row) or "nothing", row.note)
        for budget in budgets:
            for name, changed in own.budgets.get(budget, {}).items():
                said, here = Value.of(name, own.base.recipe.given()[name]), Value.of(name, changed)
                source = f"{said.kind} ({said.why})" if said.kind == STATED else said.kind
                add("budgets", own.name, name, written(said.value), source, budget, written(here.value), here.why)
    lines = _lines(met, [own.name for own in tables])
    for line in conflicts[conflicts["paper"] == paper].to_dict("records"):
        where = line["tables"].replace("recipe", "the recipe").replace(" table", ", table")
        words = (f"“{line['words']}” " if len(line["words"]) > 3 else "") + f"({line['line']})"
        cells = [Cell(where, note=line["kind"]), Cell(line["what"], note=f"Here: {line['here']}"), words]
        lines["contradicted"].append(cells)
    return Paper(paper, lines)


def _lines(met: dict[str, dict[tuple[str, ...], list[str]]], tables: Sequence[str]) -> dict[str, list[list[Any]]]:
    lines: dict[str, list[list[Any]]] = {kind: [] for kind in met}
    for kind in (STATED, ASSUMED):
        for entry, places in met[kind].items():
            changed = dict.fromkeys(line[3] for line in met["budgets"] if f"recipe: {line[0]}" == entry[0])
            budgets = [", ".join(changed) or "no"] if kind == STATED else []
            lines[kind].append([*entry, *budgets, _shortened(places, tables) or "every table"])
    for kind in ("released", "others"):
        for (variant, label, *others), places in met[kind].items():
            lines[kind].append([variant, f"{', '.join(places)}: {label}", *others])
    for (name, said, source, budget, here, why), places in sorted(met["budgets"].items(), key=lambda item: item[0][0]):
        cells = [Cell(name, note=_shortened(places, tables)), Cell(said, note=source), budget, Cell(here, note=why)]
        lines["budgets"].append(cells)
    return lines


def _shortened(places: Sequence[str], tables: Sequence[str]) -> str:
    """Nothing where every table has it; rows of a table that has it as a whole are left out."""
    whole = [place for place in places if place in tables]
    if set(whole) == set(tables):
        return ""
    return "; ".join(place for place in places if place in whole or place.split(": ")[0] not in whole)


def counts(papers: Sequence[Paper]) -> TableView:
    """How many entries each paper has of each kind, with a link to its section."""
    lines = []
    for paper in papers:
        link = Cell(paper_title(paper.name), address=f"#{paper.anchor}")
        lines.append([link, *(len(paper.lines[kind]) for kind in KINDS)])
    return table(["paper", *(words.split(",")[0] for words in KINDS.values())], lines, "Entries by paper and kind")


def section(paper: Paper, chosen: pd.DataFrame) -> Page:
    """All of one paper: the deviations that most likely change the result, then a table a kind, folded.

    chosen: results/deviations.tsv.
    """
    shown: list[Piece] = [heading(paper_title(paper.name), paper.anchor)]
    first = []
    for line in chosen[chosen["paper"] == paper.name].itertuples():
        name, here = paper.entry(line.kind, line.detail)
        first.append([Cell(name, note=KINDS[line.kind].split(",")[0]), line.why, here])
    if first:
        shown.append(table(FIRST, first, f"{paper_title(paper.name)}: largest expected effect first"))
    for kind, words in KINDS.items():
        title = f"{paper_title(paper.name)}: {words[0].lower()}{words[1:]}"
        if lines := paper.lines[kind]:
            shown.append(Page([table(COLUMNS[kind], lines, title)], f"{words}: {len(lines)}"))
        elif kind != "others":
            shown += [caption(title), Text(NONE.get(kind, "None."))]
    return Page(shown)
