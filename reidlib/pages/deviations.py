"""The page "Deviations": what each paper states, leaves open or contradicts, and what its released code does otherwise.

Nothing is listed by hand here. A paper's module is walked: its tables with all their rows, its ASSUMED, and the ASSUMED
of every model that a row builds. What a paper contradicts is data, results/conflicts.tsv.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pandas as pd

from reidlib.pages.protocols import _caption
from reidlib.pages.tables import Page, _cell, _line, _table
from reidlib.spec import Assumed, Row, Settings, Stated, Table, value_of

TITLES = {
    "safenet": "SafeNet",
    "mros": "MROS",
    "msgwdp": "MSGWDP",
    "fmn": "FMN",
    "hamr": "HAMR",
    "standins": "The study's own tables",
}
"""Papers in the order of the book; one that is not here comes after them under its own name."""

PUBLISHED, RELEASED = "as-published", "as-released"

BEFORE = "trained first: "
"""Marks a value of the training that goes before another."""


def in_order(names: Sequence[str]) -> list[str]:
    """Names of papers in the order of the book, each once."""
    places = list(TITLES)
    return sorted(dict.fromkeys(names), key=lambda name: places.index(name) if name in places else len(places))


def title(name: str) -> str:
    return TITLES.get(name, name)


@dataclass(frozen=True)
class Item:
    """One value: what it is of, the value, where it is stated or why it was assumed, and the rows that have it."""

    of: str
    value: str
    why: str
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """What a budget makes of a value of the recipe. `kind`: whether the paper's value is stated, assumed or default."""

    of: str
    published: str
    kind: str
    where: str
    budget: str
    value: str
    why: str
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """A row that is trained beside the printed one: how it differs from its table's base, in words and as options."""

    name: str
    label: str
    differs: str
    note: str
    places: tuple[str, ...] = ()


@dataclass
class Paper:
    """All that one paper's module declares, by kind."""

    name: str
    tables: list[Table]
    stated: list[Item] = field(default_factory=list)
    assumed: list[Item] = field(default_factory=list)
    released: list[Variant] = field(default_factory=list)
    others: list[Variant] = field(default_factory=list)
    budgets: list[Change] = field(default_factory=list)


def gather(module: ModuleType, budgets: Sequence[str] = ("small", "medium", "full")) -> Paper:
    """What a module of `reidlib.papers` declares, with the changes of these budgets (tests have one of their own)."""
    tables = list({value.slug: value for value in vars(module).values() if isinstance(value, Table)}.values())
    found = _Found([table.name for table in tables])
    for of, value in getattr(module, "ASSUMED", {}).items():
        found.add(of, value, "")
    for model in dict.fromkeys(settings.model for table in tables for settings in _all_settings(table)):
        for of, value in getattr(sys.modules[model.__module__], "ASSUMED", {}).items():
            shared = model.__module__.rpartition(".")[2] != module.__name__.rpartition(".")[2]
            found.add(f"{model.__name__}, {of}" if shared else of, value, "")
    for table in tables:
        for of, value in _of_settings(table.base):
            found.add(of, value, table.name)
        for row in table.rows:
            for of, value in _of_row(row):
                found.add(of, value, f"{table.name}: {row.label}")
    return Paper(
        name=module.__name__.rpartition(".")[2],
        tables=tables,
        stated=found.items(Stated),
        assumed=found.items(Assumed),
        released=_variants(tables, released=True),
        others=_variants(tables, released=False),
        budgets=_changes(tables, budgets),
    )


class _Found:
    """Values met on the walk, each once, with the places where it was met."""

    def __init__(self, tables: Sequence[str]) -> None:
        self.tables = tables
        self.met: dict[tuple[type, str, str, str], list[str]] = {}

    def add(self, of: str, value: Assumed | Stated, place: str) -> None:
        why = value.because if isinstance(value, Assumed) else value.where
        if (type(value), of.removeprefix(BEFORE), _shown(value.value), why) in self.met and of.startswith(BEFORE):
            return  # what is trained first has it from the same recipe
        places = self.met.setdefault((type(value), of, _shown(value.value), why), [])
        if place and place not in places:
            places.append(place)

    def items(self, kind: type) -> list[Item]:
        return [
            Item(of, value, why, _shortened(places, self.tables))
            for (found, of, value, why), places in self.met.items()
            if found is kind
        ]


def _shortened(places: Sequence[str], tables: Sequence[str]) -> tuple[str, ...]:
    """Nothing where every table has it; rows of a table that has it as a whole are left out."""
    whole = [place for place in places if place in tables]
    if set(whole) == set(tables):
        return ()
    return tuple(place for place in places if place in whole or place.split(": ")[0] not in whole)


def _all_settings(table: Table) -> Iterator[Settings]:
    for settings in (table.base, *(table.base.but(row) for row in table.rows)):
        while settings is not None:
            yield settings
            settings = settings.first.settings if settings.first else None


def _of_settings(settings: Settings, before: str = "") -> Iterator[tuple[str, Assumed | Stated]]:
    """(what it is of, value) for each marked value of these settings, and of the training that goes before them."""
    recipe = {name: getattr(settings.recipe, name) for name in settings.recipe.__dataclass_fields__}
    testing = {name: getattr(settings.testing, name) for name in settings.testing.__dataclass_fields__}
    parts = {"recipe": recipe, "network": settings.options, "losses": settings.losses, "test": testing}
    yield from _marked(parts, before)
    if settings.first:
        yield from _of_settings(settings.first.settings, f"{before}{BEFORE}")


def _of_row(row: Row) -> Iterator[tuple[str, Assumed | Stated]]:
    yield from _marked({"recipe": row.recipe, "network": row.options, "losses": row.losses, "test": row.testing}, "")
    if row.first is not None and not isinstance(row.first, str):
        yield from _of_settings(row.first.settings, BEFORE)


def _marked(parts: Mapping[str, Mapping[str, Any]], before: str) -> Iterator[tuple[str, Assumed | Stated]]:
    for part, values in parts.items():
        for name, value in values.items():
            if part == "losses" and value is not None:
                pieces = {f"{name}: weight": value.weight} | {f"{name}: {of}": v for of, v in value.options.items()}
            elif name == "reranking_options":
                pieces = {f"re-ranking: {of}": option for of, option in value.items()}
            else:
                pieces = {name: value}
            word = "loss" if part == "losses" else part
            for of, piece in pieces.items():
                if isinstance(piece, Assumed | Stated):
                    yield f"{before}{word}, {of}", piece


def _changes(tables: Sequence[Table], budgets: Sequence[str]) -> list[Change]:
    met: dict[Change, list[str]] = {}
    for table in tables:
        for budget in budgets:
            for of, value in table.budgets.get(budget, {}).items():
                published = getattr(table.base.recipe, of)
                kind, where = "default of the study", ""
                if isinstance(published, Stated):
                    kind, where = "stated", published.where
                elif isinstance(published, Assumed):
                    kind = "assumed"
                why = value.because if isinstance(value, Assumed) else ""
                shown = _shown(value_of(published)), _shown(value_of(value))
                change = Change(of, shown[0], kind, where, budget, shown[1], why)
                met.setdefault(change, []).append(table.name)
    names = [table.name for table in tables]
    return [
        Change(**{**vars(change), "places": _shortened(places, names)})
        for change, places in sorted(met.items(), key=lambda item: item[0].of)
    ]


def _variants(tables: Sequence[Table], *, released: bool) -> list[Variant]:
    met: dict[tuple[str, str, str, str], list[str]] = {}
    for table in tables:
        for row in table.rows:
            if row.variant != PUBLISHED and row.variant.startswith(RELEASED) == released:
                met.setdefault((row.variant, row.label, differences(table, row), row.note), []).append(table.name)
    return [Variant(*key, places=tuple(places)) for key, places in met.items()]


def differences(table: Table, row: Row) -> str:
    """How a row differs from its table's base at the paper's own budget, setting by setting."""
    base, own = (_flat(settings) for settings in (table.base, table.base.but(row)))
    if base["model"] != own["model"]:
        return f"model: {base['model']} → {own['model']}"
    names = [name for name in {**base, **own} if base.get(name) != own.get(name)]
    return "; ".join(f"{name}: {_shown(base.get(name, 'off'))} → {_shown(own.get(name, 'off'))}" for name in names)


def _flat(settings: Settings) -> dict[str, Any]:
    """Everything a run is computed from, by name."""
    trained, tested = settings.trained(), settings.tested()
    values = {"model": settings.model.__name__, **trained["options"]}
    values |= {f"loss {name}": loss for name, loss in trained["losses"].items()}
    values |= {f"test: {name}": value for name, value in tested.pop("testing", {}).items()}
    return values | settings.recipe.resolved() | tested


def _shown(value: Any) -> str:
    """A value as a reader writes it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(entry)}" for name, entry in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_shown(entry) for entry in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


# --- the page ---------------------------------------------------------------------------------------------------------

KINDS = {
    "stated": "Stated by the paper",
    "assumed": "Assumed, for the paper does not say",
    "contradicted": "Contradicted within the paper",
    "released": "Different in the released code",
    "others": "Rows of ours beside the printed ones",
    "budgets": "Changed by a budget, not by the paper",
}


def banner() -> Page:
    return Page(
        '<div class="standin-banner"><strong>No measurement.</strong> Everything on this page is read from the '
        "declarations that the runs are made from. The budgets it names train on stand-in images.</div>"
    )


def overview(papers: Sequence[Paper], conflicts: pd.DataFrame) -> Page:
    """How many entries each paper has of each kind, with a link to its section."""
    head = ["", *(words.split(",")[0] for words in KINDS.values())]
    body = []
    for paper in papers:
        link = f'<td class="label"><a href="#{_anchor(paper)}">{html.escape(title(paper.name))}</a></td>'
        counts = [len(getattr(paper, kind)) if kind != "contradicted" else _count(conflicts, paper) for kind in KINDS]
        body.append(_line([link, *(_cell(str(count)) for count in counts)]))
    return _table([_line([_cell(text) for text in head])], body, css="comparison")


def section(paper: Paper, conflicts: pd.DataFrame) -> Page:
    """All of one paper, a table a kind."""
    own = conflicts[conflicts["paper"] == paper.name]
    pieces = {
        "stated": _items(paper.stated, ("detail", "value", "where", "changed by a budget", "in"), paper.budgets),
        "assumed": _items(paper.assumed, ("detail", "value here", "because", "in")),
        "contradicted": _conflicts(own),
        "released": _rows(paper.released, "no row of a released code is declared"),
        "others": _rows(paper.others, ""),
        "budgets": _budgets(paper.budgets),
    }
    name = html.escape(title(paper.name))
    shown = [f'<h2 id="{_anchor(paper)}">{name}</h2>']
    for kind, piece in pieces.items():
        if piece:
            shown.append(f"{_caption(f'{title(paper.name)}: {KINDS[kind][0].lower()}{KINDS[kind][1:]}')}{piece}")
    return Page("".join(shown))


def _anchor(paper: Paper) -> str:
    return f"deviations-{paper.name}"


def _count(conflicts: pd.DataFrame, paper: Paper) -> int:
    return int((conflicts["paper"] == paper.name).sum())


def _items(items: Sequence[Item], head: Sequence[str], changes: Sequence[Change] = ()) -> str:
    if not items:
        return "<p>None.</p>"
    body = []
    for item in items:
        cells = [_cell(item.of, css="label"), _cell(item.value, css="quote"), _cell(item.why, css="quote why")]
        if len(head) == 5:
            touched = [change.budget for change in changes if f"recipe, {change.of}" == item.of]
            cells.append(_cell(", ".join(dict.fromkeys(touched)) or "no"))
        cells.append(_cell("; ".join(item.places) or "every table", css="label"))
        body.append(_line(cells))
    return _table([_line([_cell(text) for text in head])], body)


def _conflicts(found: pd.DataFrame) -> str:
    if found.empty:
        return "<p>None that touches a row of this study.</p>"
    body = [
        _line(
            [
                _cell(
                    line.tables.replace("recipe", "the recipe").replace(" table", ", table"),
                    css="label",
                    note=line.kind,
                ),
                _cell(line.what, css="quote why", note=f"Here: {line.here}"),
                _cell((f"“{line.words}” " if len(line.words) > 3 else "") + f"({line.line})", css="quote"),
            ]
        )
        for line in found.itertuples()
    ]
    head = ("rows, between", "what does not agree, and what is done here", "the paper's words")
    return _table([_line([_cell(text) for text in head])], body)


def _rows(variants: Sequence[Variant], none: str) -> str:
    if not variants:
        return f"<p>None: {none}.</p>" if none else ""
    body = [
        _line(
            [
                _cell(variant.name, css="label"),
                _cell(f"{', '.join(variant.places)}: {variant.label}", css="label"),
                _cell(variant.differs or "nothing", css="quote"),
                _cell(variant.note, css="quote why"),
            ]
        )
        for variant in variants
    ]
    return _table([_line([_cell(text) for text in ("variant", "row", "settings that differ", "note")])], body)


def _budgets(changes: Sequence[Change]) -> str:
    if not changes:
        return "<p>None.</p>"
    body = []
    for change in changes:
        kind = f"{change.kind} ({change.where})" if change.where else change.kind
        cells = [_cell(change.of, css="label", note="; ".join(change.places))]
        cells += [_cell(change.published, css="quote", note=kind), _cell(change.budget)]
        cells.append(_cell(change.value, css="quote why", note=change.why))
        body.append(_line(cells))
    head = ("recipe", "for the paper", "budget", "value, because")
    return _table([_line([_cell(text) for text in head])], body)
