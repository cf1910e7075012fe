"""What a paper declares, walked value by value: what is stated, what is assumed, and what follows from neither.

The only module of the pages that looks at `Stated` and `Assumed`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pandas as pd

from reidlib.spec import Assumed, Recipe, Row, Settings, Stated, Table, unsaid

STATED, ASSUMED, DEFAULT = "stated", "assumed", "default of the study"

BEFORE = "trained first: "
"""Precedes the name of a value of the training that goes before another."""


@dataclass(frozen=True)
class Value:
    """A value of the settings, by name ("recipe: epochs", "network: stripes", "loss triplet: margin", "test: mirror").

    kind: `STATED`, `ASSUMED` or `DEFAULT`. why: the place where the paper states it, or the reason for the assumption.
    """

    name: str
    value: Any
    kind: str
    why: str

    @classmethod
    def of(cls, name: str, declared: Any) -> Value:
        if isinstance(declared, Stated):
            return cls(name, declared.value, STATED, declared.where)
        if isinstance(declared, Assumed):
            return cls(name, declared.value, ASSUMED, declared.because)
        return cls(name, declared, DEFAULT, "")

    def cells(self) -> list[str]:
        return [self.name, str(self.value), self.kind, self.why]


def values(of: Settings | Row, before: str = "") -> Iterator[Value]:
    """Every value that settings declare, or that a row changes, and those of a training that goes before."""
    if isinstance(of, Settings):
        parts = {"recipe": of.recipe.given(), "network": of.given(), "test": of.testing.given()}
    else:
        parts = {"recipe": of.recipe, "network": of.options, "test": of.testing}
    parts |= {f"loss {name}": loss.given() for name, loss in of.losses.items() if loss is not None}
    if options := parts["test"].get("reranking_options"):
        parts["re-ranking"] = options
    for part, entries in parts.items():
        for name, entry in entries.items():
            if name != "reranking_options":
                yield Value.of(f"{before}{part}: {name}", entry)
    if of.first is not None and not isinstance(of.first, str):
        yield from values(of.first.settings, before + BEFORE)


def recipe_values(used: Recipe, paper: Recipe, changed: Iterable[str], like: Recipe | None = None) -> list[Value]:
    """The recipe at a budget, a value a field, without those that its schedule does not read.

    changed: names of the fields that the budget changes; where the paper states another value, it is named in `why`.
    like:    leave out what is as in this recipe.
    """
    found = []
    for name in (name for name in read_fields(used) if not like or getattr(used, name) != getattr(like, name)):
        value, published = (Value.of(name, recipe.given()[name]) for recipe in (used, paper))
        if name in changed and published.kind == STATED:
            why = f"{value.why} (paper: {published.value}, {published.why})"
            value = Value(name, value.value, "changed for the budget", why)
        found.append(value)
    return found


def read_fields(recipe: Recipe) -> list[str]:
    """The fields of a recipe that its schedule reads."""
    unread = () if recipe.schedule == "step" else ("milestones", "decay")
    return [name for name in recipe.given() if name not in unread]


def assumptions(paper: str, tables: Iterable[Table]) -> dict[str, Value]:
    """What is assumed about the networks of these tables, then about the paper's training, by detail. A detail of a
    network that another paper's module declares carries the name of its class."""
    models = dict.fromkeys(settings.model for table in tables for settings in all_settings(table))
    found: dict[str, Value] = {}
    for model in models:
        prefix = "" if model.__module__.rpartition(".")[2] == paper else f"{model.__name__}, "
        details = unsaid(sys.modules[model.__module__])
        found |= {f"{prefix}{name}": Value.of(f"{prefix}{name}", assumed) for name, assumed in details.items()}
    module = sys.modules.get(f"reidlib.papers.{paper}")
    training = unsaid(module) if module else {}
    return found | {name: Value.of(name, assumed) for name, assumed in training.items()}


def all_settings(table: Table) -> Iterator[Settings]:
    """Those of the base and of every row for the paper, and of the trainings that go before them."""
    for settings in (table.base, *((row.base or table.base).but(row) for row in table.rows)):
        while settings is not None:
            yield settings
            settings = settings.first.settings if settings.first else None


def differences(table: Table, row: Row) -> str:
    """How a row differs from its table's base at the paper's own budget, setting by setting."""
    base, own = (_flat(settings) for settings in (table.base, (row.base or table.base).but(row)))
    if base["model"] != own["model"]:
        return f"model: {base['model']} → {own['model']}"
    names = [name for name in {**base, **own} if base.get(name) != own.get(name)]
    return "; ".join(f"{name}: {written(base.get(name, 'off'))} → {written(own.get(name, 'off'))}" for name in names)


def settings(table: Table, budget: str) -> pd.DataFrame:
    """The rows as data: a line a row, a column for each setting in which some row differs from the others.

    The first line has what the rows share ("the common settings": the table's base at this budget), and a row only what
    it changes; "–" is what its model or its training does not have. Where all rows are alike, the model stands alone.
    """
    base = _flat(table.settings(Row("base"), budget))
    rows = {}
    for row in table.rows:
        name = row.label if row.variant == "as-published" else f"{row.label} ({row.variant})"
        rows[name] = _flat(table.settings(row, budget))
    known = dict.fromkeys(chain(base, *rows.values()))
    names = [name for name in known if any(own.get(name) != base.get(name) for own in rows.values())] or ["model"]
    lines = [[_as_data(base, name) for name in names]]
    for own in rows.values():
        lines.append(["" if own.get(name) == base.get(name) else _as_data(own, name) for name in names])
    return pd.DataFrame(lines, index=["common settings", *rows], columns=names)


def _as_data(own: Mapping[str, Any], name: str) -> Any:
    """A value in a DataFrame: a dictionary as text, for such a cell is cut where it is long."""
    value = own.get(name, "–")
    return written(value) if isinstance(value, Mapping) else value


def _flat(settings: Settings) -> dict[str, Any]:
    """Everything a run is computed from, by name."""
    trained, tested = settings.trained(), settings.tested()
    found = {"model": settings.model.__name__, **trained["options"]}
    found |= {f"loss {name}": loss for name, loss in trained["losses"].items()}
    found |= {f"test: {name}": value for name, value in tested.pop("testing", {}).items()}
    return found | settings.recipe.resolved() | tested


def written(value: Any) -> str:
    """A value as a reader writes it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {written(entry)}" for name, entry in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(written(entry) for entry in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(
        float(f"{value:.12g}") if isinstance(value, float) else value
    )  # a product without its last digit's noise
