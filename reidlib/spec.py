"""The words of the study: settings, recipes, rows, tables, claims. Frozen, self-checking, standard library only.

A row of a paper's table is data: it says how it differs from the table's base. Everything a run depends on is in its
`Settings`, and `Settings.resolved()` is the plain dictionary that is hashed into the key of the run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

OURS = "label of ours"
"""How the note of a row begins whose label or number the paper does not print."""


class ReidError(Exception):
    """A fault a person can mend. The message is one line: what is wrong, where, and the remedy."""

    status = 1
    """Exit status of a command that ends in it."""


class Busy(ReidError):
    """Another process is making the same thing just now: try again later."""

    status = 75
    """EX_TEMPFAIL of sysexits.h, which batch systems take for a reason to try again."""


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
    epochs, batch: whole passes over the training images (0: the network is tested as it was drawn), and images a step.
    per_identity:  images of each identity in a batch; 0: any images, each once an epoch.
    optimiser:     "sgd" or "adam" (with torch's own betas, which are those of its authors).
    rates:         learning rate by submodule name of the model; the name "rest" holds all others.
    schedule:      "constant", "step" (multiply by `decay` after each epoch in `milestones`) or "cosine" (to zero).
    warmup:        share of all steps during which the rate rises linearly from zero.
    warmup_epochs, warmup_from, warmup_to: a warm-up in whole epochs instead: epoch e (from 1) of the first
                   `warmup_epochs` has the rate times from + (to − from) · e / warmup_epochs, and the schedule has no
                   say before they are over.
    fresh_momentum: whether the optimiser forgets its state after every epoch (HAMR as released).
    pad:           pixels of black border on each side, from which a window of the input's size is cut at random.
    erasing:       probability that a rectangle is erased (to the ImageNet mean); `erasing_area` is its share of the
                   image, `erasing_ratio` its height/width.
    precision:     "bf16" (autocast, where the device has it), "fp32", or "bf16 imitated" (its numbers on any device).
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
    optimiser: Any = "sgd"
    per_identity: Any = 0
    warmup_epochs: Any = 0
    warmup_from: Any = 0.0
    warmup_to: Any = 1.0
    fresh_momentum: Any = False
    pad: Any = 0
    erasing: Any = 0.0
    erasing_area: Any = (0.02, 0.4)
    erasing_ratio: Any = (0.3, 3.33)

    def __post_init__(self) -> None:
        value = {f.name: value_of(getattr(self, f.name)) for f in fields(self)}
        _demand(value["start"] in ("imagenet", "scratch"), "start", value["start"], "'imagenet' or 'scratch'")
        _demand(value["schedule"] in ("constant", "step", "cosine"), "schedule", value["schedule"], "a known schedule")
        known = ("bf16", "fp32", "bf16 imitated")
        _demand(value["precision"] in known, "precision", value["precision"], f"one of {known}")
        _demand(value["optimiser"] in ("sgd", "adam"), "optimiser", value["optimiser"], "'sgd' or 'adam'")
        _demand("rest" in value["rates"], "rates", value["rates"], "a dictionary with the name 'rest'")
        _demand(
            isinstance(value["batch"], int) and value["batch"] > 0, "batch", value["batch"], "a positive whole number"
        )
        for name in ("epochs", "per_identity", "warmup_epochs", "pad"):
            _demand(isinstance(value[name], int) and value[name] >= 0, name, value[name], "a whole number from 0")
        for name in ("mirror", "warmup", "erasing"):
            _demand(0 <= value[name] <= 1, name, value[name], "a share between 0 and 1")
        one_warmup = not (value["warmup"] and value["warmup_epochs"])
        _demand(one_warmup, "warmup", value["warmup"], "0 where warmup_epochs is given")
        for name in ("crop_scale", "stretch", "erasing_area", "erasing_ratio"):
            low, high = value[name]
            _demand(0 < low <= high, name, value[name], "a range (low, high) with 0 < low ≤ high")

    def but(self, **changes: Any) -> Recipe:
        """This recipe with some fields changed; an unknown name is a TypeError."""
        return replace(self, **changes)

    def resolved(self) -> dict[str, Any]:
        """Bare values only, as JSON would give them back."""
        return {f.name: _plain(value_of(getattr(self, f.name))) for f in fields(self)}

    def keyed(self) -> dict[str, Any]:
        """What is hashed: the resolved values, without later fields that are off: a new switch keeps the old keys."""
        value = self.resolved()
        off = {f.name: _plain(f.default) for f in fields(self) if f.name in _LATER}
        if not value["erasing"]:
            value |= {name: off[name] for name in ("erasing_area", "erasing_ratio")}
        if not value["warmup_epochs"]:
            value |= {name: off[name] for name in ("warmup_from", "warmup_to")}
        return {name: entry for name, entry in value.items() if name not in off or entry != off[name]}

    def assumptions(self) -> dict[str, Assumed]:
        return {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Assumed)}

    def stated(self) -> dict[str, Stated]:
        return {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Stated)}


_LATER = (
    "optimiser",
    "per_identity",
    "warmup_epochs",
    "warmup_from",
    "warmup_to",
    "fresh_momentum",
    "pad",
    "erasing",
    "erasing_area",
    "erasing_ratio",
)
"""Recipe fields that came after the first records."""


@dataclass(frozen=True)
class Loss:
    """One term of the training loss: a function or class of `reidlib.losses`, its weight, and its own options.

    Options are bound to the signature here: a typo is a TypeError when the paper's file is imported.
    """

    function: Callable[..., Any]
    weight: Any = 1.0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        inspect.signature(self.function).bind(None, None, **self.bare_options())

    def bare_options(self) -> dict[str, Any]:
        return {name: value_of(value) for name, value in self.options.items()}

    def keyed(self) -> Any:
        """What is hashed: the weight alone where there are no options."""
        weight = value_of(self.weight)
        if not self.options:
            return weight
        return {"function": self.function.__name__, "weight": weight, **_plain(self.bare_options())}


@dataclass(frozen=True)
class Testing:
    """What is done when a trained network is tested.

    mirror:      whether the features of the image and of its mirror image are added.
    reranking:   "" (none) or a name of `reidlib.evaluation.reranking`, with its options.
    multi_query: whether a query's features are the mean of those of all its identity's images in its camera.
    """

    mirror: Any = False
    reranking: Any = ""
    reranking_options: dict[str, Any] = field(default_factory=dict)
    multi_query: Any = False

    def __post_init__(self) -> None:
        known = ("", "k-reciprocal", "ECN")
        _demand(value_of(self.reranking) in known, "reranking", value_of(self.reranking), f"one of {known}")

    def keyed(self) -> dict[str, Any]:
        """What is hashed: whatever is not off."""
        value = {f.name: _plain(value_of(getattr(self, f.name))) for f in fields(self)}
        value["reranking_options"] = {name: value_of(option) for name, option in self.reranking_options.items()}
        return {name: entry for name, entry in value.items() if entry}


@dataclass(frozen=True)
class First:
    """A training that goes before: its network becomes the submodule `into`, frozen from then on."""

    settings: Settings
    into: str


@dataclass(frozen=True)
class Settings:
    """A model class with its options, its losses, a recipe and a way of testing: everything but data and seed.

    options: keyword options of the model. Those named in the model's `EVALUATION_OPTIONS` only choose what is tested:
             rows that differ in nothing else, or in `testing` alone, share one trained network.
    losses:  the terms of the training loss by name.
    first:   a training that goes before this one; None for most.
    Options are bound to the model's signature here, so that a typo is a TypeError when the paper's file is imported.
    """

    model: type
    recipe: Recipe
    losses: dict[str, Loss]
    options: dict[str, Any] = field(default_factory=dict)
    testing: Testing = field(default_factory=Testing)
    first: First | None = None

    def __post_init__(self) -> None:
        inspect.signature(self.model).bind(1, size=(1, 1), **self.bare_options())
        _demand(all(isinstance(loss, Loss) for loss in self.losses.values()), "losses", self.losses, "Loss(…) by name")
        _demand(bool(self.losses) or value_of(self.recipe.epochs) == 0, "losses", self.losses, "at least one Loss")

    def but(self, row: Row) -> Settings:
        """These settings as a row changes them; a row with a model of its own starts from no options."""
        losses = {**self.losses, **row.losses}
        return replace(
            self,
            model=row.model or self.model,
            options=dict(row.options) if row.model else {**self.options, **row.options},
            recipe=self.recipe.but(**row.recipe),
            losses={name: loss for name, loss in losses.items() if loss is not None},
            testing=replace(self.testing, **row.testing),
            first=self.first if row.first == "as in the base" else row.first,
        )

    def bare_options(self) -> dict[str, Any]:
        return {name: value_of(value) for name, value in self.options.items()}

    def trained(self) -> dict[str, Any]:
        """The plain dictionary behind the key of a trained network; defaults of the model's options included."""
        key = {
            "model": f"{self.model.__module__}.{self.model.__qualname__}",
            "options": {name: value for name, value in self._all_options().items() if name not in self._tested_names()},
            "losses": {name: loss.keyed() for name, loss in self.losses.items()},
            "recipe": self.recipe.keyed(),
        }
        if self.first:
            key["first"] = {"into": self.first.into, **self.first.settings.trained()}
        return key

    def tested(self) -> dict[str, Any]:
        """The options that only choose what is tested, and how it is tested where that is not the plain way."""
        chosen = {name: value for name, value in self._all_options().items() if name in self._tested_names()}
        return {**chosen, **({"testing": self.testing.keyed()} if self.testing.keyed() else {})}

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
    """One row of a table: its label in the paper's own words, and how it differs from the table's base.

    losses: terms added or replaced, by name; None takes a term away. model: another model class, whose options start
    empty. first: another training before it, or None for none.
    """

    label: str
    options: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    losses: dict[str, Loss | None] = field(default_factory=dict)
    testing: dict[str, Any] = field(default_factory=dict)
    model: type | None = None
    first: First | None | str = "as in the base"
    variant: str = "as-published"
    note: str = ""

    @property
    def changes(self) -> bool:
        """Whether the row differs from its base at all."""
        own_first = self.first != "as in the base"
        return bool(self.options or self.recipe or self.losses or self.testing or self.model or own_first)


@dataclass(frozen=True)
class Table:
    """A table (or figure) of a paper: its base, its rows, and where its numbers are tested.

    name:         "table5"; joins the `table` column of results/reported.tsv.
    protocol:     name of the protocol in `reidlib.evaluation.protocols`, or one for each data set.
    printed_as:   what the `variant` column of results/reported.tsv calls that protocol: one word, several (where
                  re-ranked rows stand under a word of their own), or either by data set.
    printed_in:   what its `table` column calls this table, where that is not the name.
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
    printed_as: str | tuple[str, ...] | dict[str, str | tuple[str, ...]]
    ap: str
    budgets: dict[str, dict[str, Any]]
    not_retrained: dict[str, str] = field(default_factory=dict)
    printed_in: str = ""

    def __post_init__(self) -> None:
        _demand(self.ap in ("plain", "trapezoid"), "ap", self.ap, "'plain' or 'trapezoid'")
        for name in ("protocol", "printed_as"):
            given = getattr(self, name)
            for dataset in self.datasets if isinstance(given, dict) else ():
                _demand(dataset in given, name, given, f"one that names {dataset}")
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

    def printed_of(self, dataset: str) -> tuple[str, ...]:
        """The words in the `variant` column of results/reported.tsv under which this data set's numbers stand."""
        given = self.printed_as[dataset] if isinstance(self.printed_as, dict) else self.printed_as
        return (given,) if isinstance(given, str) else given

    def settings(self, row: Row, budget: str) -> Settings:
        """What this row trains at this budget: base, then the budget's changes, then the row's own.

        A training that goes before has the budget's changes too, on its own recipe.
        """
        if budget not in self.budgets:
            raise ReidError(f"{self.slug}: no budget {budget!r}; choose one of {', '.join(self.budgets)}")
        changes = self.budgets[budget]
        settings = replace(self.base, recipe=self.base.recipe.but(**changes)).but(row)
        if settings.first is None:
            return settings
        before = settings.first.settings
        before = replace(before, recipe=before.recipe.but(**changes))
        return replace(settings, first=replace(settings.first, settings=before))


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper that a comparison of two rows decides.

    better, worse: labels of rows of `table`; metric: "rank1" or "mAP"; quote: the paper's words. datasets: those of
    which the paper says it; () all of the table's.
    """

    paper: str
    table: str
    better: str
    worse: str
    metric: str
    quote: str
    where: str
    datasets: tuple[str, ...] = ()

    def of(self, slug: str, dataset: str) -> bool:
        """Whether it is about this table and this data set."""
        return f"{self.paper}/{self.table}" == slug and (not self.datasets or dataset in self.datasets)


def check_choice(where: str, what: str, value: str, choices: Sequence[str]) -> None:
    """Raises a ReidError that names the choices when `value` is none of them."""
    if value not in choices:
        raise ReidError(f"{where}: unknown {what} {value!r}; choose one of {', '.join(choices)}")


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
