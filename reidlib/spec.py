"""The words of the study: settings, recipes, rows, tables, claims. Frozen, self-checking, standard library only.

A row of a paper's table is data: it says how it differs from the table's base. Everything a run depends on is in its
`Settings`, and `Settings.resolved()` is the plain dictionary that is hashed into the key of the run.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, fields, replace
from typing import Any


class ReidError(Exception):
    """A fault a person can mend. The message is one line: what is wrong, where, and the remedy."""


@dataclass(frozen=True)
class Assumed:
    """A value the paper does not state, with the reason for our choice. The book lists every one of them.

    `value` is what the computation uses; `because` is one sentence.
    """

    value: Any
    because: str

    def __post_init__(self) -> None:
        if not self.because.strip():
            raise ValueError(f"Assumed({self.value!r}) needs a reason")


@dataclass(frozen=True)
class Stated:
    """A value the paper states, with the place where it does (section or line of the text)."""

    value: Any
    where: str


def value_of(setting: Any) -> Any:
    """The bare value of a setting that may be wrapped in `Assumed` or `Stated`."""
    return setting.value if isinstance(setting, Assumed | Stated) else setting


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. Any value may be `Stated` or `Assumed`; units stand beside each field.

    start:         "imagenet" (used where the weights are at hand, else from scratch, and the record says which) or
                   "scratch".
    size:          input height and width in pixels.
    stretch:       range of the crop's height/width ratio, as multiples of the input's own ratio.
    crop_scale:    range of the crop's share of the image area; (1, 1) with stretch (1, 1) crops nothing.
    mirror:        probability of a horizontal mirror image.
    epochs, batch: whole passes over the training images, and images a step.
    rates:         learning rate by submodule name of the model; the name "rest" holds all others.
    schedule:      "constant", "step" (multiply by `decay` after each epoch in `milestones`) or "cosine" (to zero).
    warmup:        share of all steps during which the rate rises linearly from zero.
    precision:     "bf16" (autocast) or "fp32".
    """

    start: Any = "imagenet"
    size: Any = (256, 128)
    crop_scale: Any = (1.0, 1.0)
    stretch: Any = (1.0, 1.0)
    mirror: Any = 0.5
    epochs: Any = 60
    batch: Any = 32
    rates: Any = field(default_factory=lambda: {"rest": 0.01})
    momentum: Any = 0.9
    nesterov: Any = False
    weight_decay: Any = 5e-4
    schedule: Any = "constant"
    milestones: Any = ()
    decay: Any = 0.1
    warmup: Any = 0.0
    precision: Any = "bf16"

    def __post_init__(self) -> None:
        value = {f.name: value_of(getattr(self, f.name)) for f in fields(self)}
        _demand(value["start"] in ("imagenet", "scratch"), "start", value["start"], "'imagenet' or 'scratch'")
        _demand(value["schedule"] in ("constant", "step", "cosine"), "schedule", value["schedule"], "a known schedule")
        _demand(value["precision"] in ("bf16", "fp32"), "precision", value["precision"], "'bf16' or 'fp32'")
        _demand("rest" in value["rates"], "rates", value["rates"], "a dictionary with the name 'rest'")
        for name in ("epochs", "batch"):
            _demand(isinstance(value[name], int) and value[name] > 0, name, value[name], "a positive whole number")
        for name in ("mirror", "warmup"):
            _demand(0 <= value[name] <= 1, name, value[name], "a share between 0 and 1")
        for name in ("crop_scale", "stretch"):
            low, high = value[name]
            _demand(0 < low <= high, name, value[name], "a range (low, high) with 0 < low ≤ high")

    def but(self, **changes: Any) -> Recipe:
        """This recipe with some fields changed; an unknown name is a TypeError."""
        return replace(self, **changes)

    def resolved(self) -> dict[str, Any]:
        """Bare values only, as JSON would give them back: what is hashed."""
        return {f.name: _plain(value_of(getattr(self, f.name))) for f in fields(self)}

    def assumptions(self) -> dict[str, Assumed]:
        return {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Assumed)}

    def stated(self) -> dict[str, Stated]:
        return {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Stated)}


@dataclass(frozen=True)
class Settings:
    """A model class with its options, a loss, and a recipe: everything but data and seed.

    options: keyword options of the model. Those named in the model's `EVALUATION_OPTIONS` only choose what is tested:
             rows that differ in nothing else share one trained network.
    losses:  weight of each loss by its name in `reidlib.losses`.
    Options are bound to the model's signature here, so that a typo is a TypeError when the paper's file is imported.
    """

    model: type
    recipe: Recipe
    options: dict[str, Any] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0})

    def __post_init__(self) -> None:
        inspect.signature(self.model).bind(1, size=(1, 1), **self.bare_options())

    def but(self, row: Row) -> Settings:
        """These settings as a row changes them."""
        return replace(
            self,
            options={**self.options, **row.options},
            recipe=self.recipe.but(**row.recipe),
            losses={**self.losses, **row.losses},
        )

    def bare_options(self) -> dict[str, Any]:
        return {name: value_of(value) for name, value in self.options.items()}

    def trained(self) -> dict[str, Any]:
        """The plain dictionary behind the key of a trained network; defaults of the model's options included."""
        return {
            "model": f"{self.model.__module__}.{self.model.__qualname__}",
            "options": {name: value for name, value in self._all_options().items() if name not in self._tested_names()},
            "losses": _plain(self.losses),
            "recipe": self.recipe.resolved(),
        }

    def tested(self) -> dict[str, Any]:
        """The options that only choose what is tested."""
        return {name: value for name, value in self._all_options().items() if name in self._tested_names()}

    def _tested_names(self) -> tuple[str, ...]:
        return getattr(self.model, "EVALUATION_OPTIONS", ())

    def _all_options(self) -> dict[str, Any]:
        defaults = {
            name: parameter.default
            for name, parameter in inspect.signature(self.model).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "size"
        }
        return _plain({**defaults, **self.bare_options()})


@dataclass(frozen=True)
class Row:
    """One row of a table: its label in the paper's own words, and how it differs from the table's base."""

    label: str
    options: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    variant: str = "as-published"
    note: str = ""

    @property
    def changes(self) -> bool:
        """Whether the row differs from its base at all."""
        return bool(self.options or self.recipe or self.losses)


@dataclass(frozen=True)
class Table:
    """A table (or figure) of a paper: its base, its rows, and where its numbers are tested.

    name:         "table5"; joins the `table` column of results/reported.tsv.
    protocol:     name of the protocol in `reidlib.evaluation.protocols`, or one for each data set.
    printed_as:   what the `variant` column of results/reported.tsv calls that protocol.
    ap:           "plain" or "trapezoid": the AP rule of the column that is compared with the paper.
    budgets:      recipe changes by budget name, the same for all rows; every value a guess is an `Assumed`.
    not_retrained: printed rows that are not retrained, with the reason.
    """

    paper: str
    name: str
    title: str
    base: Settings
    rows: tuple[Row, ...]
    datasets: tuple[str, ...]
    protocol: str | dict[str, str]
    printed_as: str
    ap: str
    budgets: dict[str, dict[str, Any]]
    not_retrained: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _demand(self.ap in ("plain", "trapezoid"), "ap", self.ap, "'plain' or 'trapezoid'")
        for dataset in self.datasets if isinstance(self.protocol, dict) else ():
            _demand(dataset in self.protocol, "protocol", self.protocol, f"one that names {dataset}")
        seen = [(row.label, row.variant) for row in self.rows]
        _demand(len(set(seen)) == len(seen), "rows", seen, "labels that differ")
        for row in self.rows:
            for budget in self.budgets:
                self.settings(row, budget)

    @property
    def slug(self) -> str:
        return f"{self.paper}/{self.name}"

    def protocol_of(self, dataset: str) -> str:
        """Name of the protocol by which this data set is tested."""
        return self.protocol if isinstance(self.protocol, str) else self.protocol[dataset]

    def settings(self, row: Row, budget: str) -> Settings:
        """What this row trains at this budget: base, then the budget's changes, then the row's own."""
        if budget not in self.budgets:
            raise ReidError(f"{self.slug}: no budget {budget!r}; choose one of {', '.join(self.budgets)}")
        return replace(self.base, recipe=self.base.recipe.but(**self.budgets[budget])).but(row)


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper that a comparison of two rows decides.

    better, worse: labels of rows of `table`; metric: "rank1" or "mAP"; quote: the paper's words.
    """

    paper: str
    table: str
    better: str
    worse: str
    metric: str
    quote: str
    where: str


def _demand(holds: bool, name: str, value: Any, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {wanted}, not {value!r}")


def _plain(value: Any) -> Any:
    """Tuples as lists, keys as strings: the form that survives a round trip through JSON."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
