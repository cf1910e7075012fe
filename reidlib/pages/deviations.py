"""The page "Deviations": what each paper states, leaves open or contradicts, and what its released code does otherwise.

Nothing is listed by hand here. A paper's module is walked: its tables with all their rows, its ASSUMED, and the ASSUMED
of every model that a row builds. What a paper contradicts is data, results/conflicts.tsv.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType

import pandas as pd

from reidlib.pages.declared import ASSUMED, BEFORE, STATED, Value, assumptions, differences, values, written
from reidlib.pages.formatting import paper_title
from reidlib.pages.render import Cell, Column, Page, Piece, TableView, Text, caption, heading, table
from reidlib.spec import Table

PUBLISHED, RELEASED = "as-published", "as-released"

KINDS = {
    "stated": "Stated by the paper",
    "assumed": "Assumed, for the paper does not say",
    "contradicted": "Contradicted within the paper",
    "released": "Different in the released code",
    "others": "Rows of ours beside the printed ones",
    "budgets": "Changed by a budget, not by the paper",
}


@dataclass(frozen=True)
class Item:
    """One value, and the tables and rows that have it; no places: every table has it."""

    of: Value
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """What a budget makes of a value of the recipe."""

    published: Value
    budget: str
    here: Value
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """A row that is trained beside the printed one: how it differs from its table's base, and its note."""

    name: str
    label: str
    differs: str
    note: str
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Paper:
    """All that one paper's module declares, by kind."""

    name: str
    tables: list[Table]
    stated: list[Item]
    assumed: list[Item]
    released: list[Variant]
    others: list[Variant]
    budgets: list[Change]


def gather(module: ModuleType, budgets: Sequence[str] = ("small", "medium", "full")) -> Paper:
    """What a module of `reidlib.papers` declares, with the changes of these budgets (tests have one of their own)."""
    name = module.__name__.rpartition(".")[2]
    tables = list({value.slug: value for value in vars(module).values() if isinstance(value, Table)}.values())
    items = _items(name, tables)
    return Paper(
        name=name,
        tables=tables,
        stated=[item for item in items if item.of.kind == STATED],
        assumed=[item for item in items if item.of.kind == ASSUMED],
        released=_variants(tables, released=True),
        others=_variants(tables, released=False),
        budgets=_changes(tables, budgets),
    )


def _items(paper: str, tables: Sequence[Table]) -> list[Item]:
    """Every stated or assumed value, each once, with the places that have it."""
    met: dict[Value, list[str]] = {}

    def add(value: Value, place: str) -> None:
        value = replace(value, value=written(value.value))
        plain = replace(value, name=value.name.removeprefix(BEFORE))
        if value.kind not in (STATED, ASSUMED) or (plain != value and plain in met):
            return  # what is trained first has it from the same recipe
        places = met.setdefault(value, [])
        if place and place not in places:
            places.append(place)

    for value in assumptions(paper, tables).values():
        add(value, "")
    for own in tables:
        for value in values(own.base):
            add(value, own.name)
        for row in own.rows:
            for value in values(row):
                add(value, f"{own.name}: {row.label}")
    names = [own.name for own in tables]
    return [Item(value, _shortened(places, names)) for value, places in met.items()]


def _shortened(places: Sequence[str], tables: Sequence[str]) -> tuple[str, ...]:
    """Nothing where every table has it; rows of a table that has it as a whole are left out."""
    whole = [place for place in places if place in tables]
    if set(whole) == set(tables):
        return ()
    return tuple(place for place in places if place in whole or place.split(": ")[0] not in whole)


def _changes(tables: Sequence[Table], budgets: Sequence[str]) -> list[Change]:
    met: dict[Change, list[str]] = {}
    for own in tables:
        for budget in budgets:
            for name, declared in own.budgets.get(budget, {}).items():
                pair = Value.of(name, own.base.recipe.given()[name]), Value.of(name, declared)
                published, here = (replace(value, value=written(value.value)) for value in pair)
                published = replace(published, why=published.why if published.kind == STATED else "")
                met.setdefault(Change(published, budget, here), []).append(own.name)
    names = [own.name for own in tables]
    found = [replace(change, places=_shortened(places, names)) for change, places in met.items()]
    return sorted(found, key=lambda change: change.published.name)


def _variants(tables: Sequence[Table], *, released: bool) -> list[Variant]:
    met: dict[Variant, list[str]] = {}
    for own in tables:
        for row in own.rows:
            if row.variant != PUBLISHED and row.variant.startswith(RELEASED) == released:
                variant = Variant(row.variant, row.label, differences(own, row), row.note)
                met.setdefault(variant, []).append(own.name)
    return [replace(variant, places=tuple(places)) for variant, places in met.items()]


# --- the page ---------------------------------------------------------------------------------------------------------


def counts(papers: Sequence[Paper], conflicts: pd.DataFrame) -> TableView:
    """How many entries each paper has of each kind, with a link to its section."""
    columns = [Column("paper", "label"), *(words.split(",")[0] for words in KINDS.values())]
    lines = []
    for paper in papers:
        found = [
            len(conflicts[conflicts["paper"] == paper.name] if kind == "contradicted" else getattr(paper, kind))
            for kind in KINDS
        ]
        lines.append([Cell(paper_title(paper.name), anchor=_anchor(paper)), *found])
    return table(columns, lines, "Entries by paper and kind")


def section(paper: Paper, conflicts: pd.DataFrame) -> Page:
    """All of one paper, a table a kind."""
    shown: list[Piece] = [heading(paper_title(paper.name), _anchor(paper))]
    made = {
        "stated": _values(paper.stated, ("value", "where", "changed by a budget"), paper.budgets),
        "assumed": _values(paper.assumed, ("value here", "because")),
        "contradicted": _conflicts(conflicts[conflicts["paper"] == paper.name]),
        "released": _rows(paper.released),
        "others": _rows(paper.others),
        "budgets": _budgets(paper.budgets),
    }
    none = {"contradicted": "None that touches a row of this study."}
    none["released"] = "None: no row of a released code is declared."
    for kind, (columns, lines) in made.items():
        title = f"{paper_title(paper.name)}: {KINDS[kind][0].lower()}{KINDS[kind][1:]}"
        if lines:
            shown.append(table(columns, lines, title))
        elif kind != "others":
            shown += [caption(title), Text(none.get(kind, "None."))]
    return Page(shown)


def _anchor(paper: Paper) -> str:
    return f"deviations-{paper.name}"


_Listed = tuple[list[Column], list[list[str]]]
"""The columns and the lines of a table."""


def _values(items: Sequence[Item], head: Sequence[str], changes: Sequence[Change] = ()) -> _Listed:
    kinds = dict(zip(head, ("quote", "reason", "text"), strict=False))
    columns = [Column("detail", "label"), *(Column(*pair) for pair in kinds.items()), Column("in", "label")]
    lines = []
    for item in items:
        cells = [item.of.name, item.of.value, item.of.why]
        if "changed by a budget" in head:
            budgets = [change.budget for change in changes if f"recipe: {change.published.name}" == item.of.name]
            cells.append(", ".join(dict.fromkeys(budgets)) or "no")
        lines.append([*cells, "; ".join(item.places) or "every table"])
    return columns, lines


def _conflicts(found: pd.DataFrame) -> _Listed:
    columns = [Column("rows, between", "label"), Column("what does not agree, and what is done here", "reason")]
    lines = []
    for line in found.to_dict("records"):
        where = line["tables"].replace("recipe", "the recipe").replace(" table", ", table")
        words = (f"“{line['words']}” " if len(line["words"]) > 3 else "") + f"({line['line']})"
        lines.append([Cell(where, note=line["kind"]), Cell(line["what"], note=f"Here: {line['here']}"), words])
    return [*columns, Column("the paper's words", "quote")], lines


def _rows(variants: Sequence[Variant]) -> _Listed:
    kinds = {"variant": "label", "row": "label", "settings that differ": "quote", "note": "reason"}
    lines = [
        [variant.name, f"{', '.join(variant.places)}: {variant.label}", variant.differs or "nothing", variant.note]
        for variant in variants
    ]
    return [Column(*pair) for pair in kinds.items()], lines


def _budgets(changes: Sequence[Change]) -> _Listed:
    kinds = {"recipe": "label", "for the paper": "quote", "budget": "text", "value, because": "reason"}
    lines = []
    for change in changes:
        published, here = change.published, change.here
        source = f"{published.kind} ({published.why})" if published.kind == STATED else published.kind
        name, value = Cell(published.name, note="; ".join(change.places)), Cell(published.value, note=source)
        lines.append([name, value, change.budget, Cell(here.value, note=here.why if here.kind == ASSUMED else "")])
    return [Column(*pair) for pair in kinds.items()], lines
