"""The data model of the study: recipes, settings, rows, tables, claims. Frozen, self-checking, standard library only.

Everything that a run depends on is in its `Settings`; `Settings.trained()` and `Settings.tested()` are the plain
dictionaries that are hashed into its keys. A value may be given bare, as `Stated` or as `Assumed`. The fields hold the
bare, typed value, and `sources` beside them holds what was given as `Stated` or `Assumed`.
"""

from __future__ import annotations

import inspect
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from functools import cache, cached_property
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, ClassVar, Literal, Self, get_args

OURS = "label of ours"  #: How the note of a row begins whose label or number the paper does not print


def printable(text: str) -> str:
    """The text in one line, without control characters."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))


class ReidError(Exception):
    """An error that the user can fix. The message is one printable line: what is wrong, where, and the remedy."""

    status = 1  # exit status of a command that ends with it

    def __str__(self) -> str:
        return printable(super().__str__())


class Busy(ReidError):
    """Another process is doing the same work now: try again later."""

    status = 75  # EX_TEMPFAIL of sysexits.h, which batch systems take as a reason to try again


@dataclass(frozen=True)
class Assumed:
    """A value that the paper does not state, with one sentence that gives the reason for our choice."""

    value: Any
    because: str

    def __post_init__(self) -> None:
        if not self.because.strip():
            raise ValueError(f"Assumed({self.value!r}) needs a reason")


@dataclass(frozen=True)
class Stated:
    """A value that the paper states, with the place where it does so (section or line of the text)."""

    value: Any
    where: str


def unsaid(module: ModuleType) -> dict[str, Assumed]:
    """What a paper leaves unsaid, by detail: the TOML file beside its module in `papers` or `models`, if any."""
    own = getattr(module, "__file__", None)  # a notebook has none
    file = Path(own).with_suffix(".toml") if own else None
    listed = tomllib.loads(file.read_text(encoding="utf-8")) if file and file.is_file() else {}
    return {detail: Assumed(**choice) for detail, choice in listed.items()}


def value_of(setting: Any) -> Any:
    """The bare value of a setting that may be given as `Assumed` or `Stated`."""
    return setting.value if isinstance(setting, Assumed | Stated) else setting


def _separate(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Stated | Assumed]]:
    """The bare values by name, and the sources of those that have one."""
    sources = {name: value for name, value in given.items() if isinstance(value, Assumed | Stated)}
    return {name: value_of(value) for name, value in given.items()}, sources


class _Declared:
    """Base of dataclasses whose fields may be given as `Stated` or `Assumed`."""

    sources: dict[str, Stated | Assumed]  #: what was given so, by the field's name; "field.entry" in a dictionary
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    ALWAYS_IN_KEY: ClassVar[Sequence[str]] = ()
    """Fields in the key whatever their value: they are older than the rule of `key`."""
    NAME_IN_KEY: ClassVar[dict[str, str]] = {}
    """Fields that the first records know by another name, which is the one that is hashed."""

    def __init__(self, **given: Any) -> None:
        defaults = _defaults(type(self))
        if unknown := given.keys() - defaults.keys():
            raise TypeError(f"{type(self).__name__} has no {min(unknown)!r}; choose from {', '.join(defaults)}")
        values, sources = _separate(given)
        for name, default in defaults.items():
            value = values.get(name, default)
            require(_fits(value, default), name, value, f"of the kind of {default!r}")
            if isinstance(value, dict):
                value, own = _separate(value)
                sources |= {f"{name}.{entry}": source for entry, source in own.items()}
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        object.__setattr__(self, "sources", sources)
        self._check()

    def _check(self) -> None:
        """Raises ValueError for a value out of range."""

    def given(self) -> dict[str, Any]:
        """The values with their sources, as the constructor takes them."""
        found = {f.name: self.sources.get(f.name, getattr(self, f.name)) for f in fields(self)}
        for name, value in found.items():
            if isinstance(value, dict):
                found[name] = {entry: self.sources.get(f"{name}.{entry}", bare) for entry, bare in value.items()}
        return found

    def but(self, **changes: Any) -> Self:
        """These values with some of them changed; an unknown name is a TypeError."""
        return type(self)(**(self.given() | changes)) if changes else self

    def resolved(self) -> dict[str, Any]:
        """Bare values, as JSON would give them back."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    def key(self) -> dict[str, Any]:
        """What is hashed. Values at their default are left out: a new field whose default is off keeps old keys."""
        default = _defaults(type(self))
        values = self.resolved().items()
        kept = {n: v for n, v in values if n in self.ALWAYS_IN_KEY or v != _plain(default[n])}
        return {self.NAME_IN_KEY.get(name, name): value for name, value in kept.items()}


@cache
def _defaults(declared: type[_Declared]) -> dict[str, Any]:
    """The value of each field where none is given."""
    return {f.name: f.default_factory() if callable(f.default_factory) else f.default for f in fields(declared)}


Start = Literal["imagenet", "start", "scratch"]
Schedule = Literal["constant", "step", "cosine"]
Precision = Literal["bf16", "fp32", "bf16 imitated"]
Optimiser = Literal["sgd", "adam"]
Reranking = Literal["", "k-reciprocal", "ECN"]
Range = tuple[float, float]


@dataclass(frozen=True, init=False)
class Recipe(_Declared):
    """How a network is trained. Any value may be given as `Stated` or `Assumed`; units stand beside each field."""

    start: Start = "imagenet"  #: or "start" (the study's own) or "scratch"; see `models.backbone.start_of`
    size: tuple[int, int] = (256, 128)  #: input height and width in pixels
    crop_scale: Range = (1.0, 1.0)  #: the crop's share of the image area; (1, 1), and below too, crops nothing
    aspect_ratio: Range = (1.0, 1.0)  #: the crop's height/width ratio, as multiples of the input's own ratio
    flip: float = 0.5  #: probability of a horizontal flip
    epochs: int = 60  #: whole passes over the training images; 0: the network is tested as it was drawn
    batch: int = 32  #: images a step
    rates: dict[str, float] = field(default_factory=lambda: {"rest": 0.01})
    """learning rate by submodule, or by a pattern of names of weights ("*.bn1.weight"): the first that fits counts; the
    name "rest" holds all others"""
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: Schedule = "constant"  #: or "step" (times `decay` after each of `milestones`) or "cosine" (to zero)
    milestones: tuple[int, ...] = ()  #: epochs
    decay: float = 0.1
    warmup: float = 0.0  #: share of all steps during which the rate rises linearly from zero
    precision: Precision = "bf16"  #: autocast, where the device has it; "fp32"; or "bf16 imitated" on any device
    ALWAYS_IN_KEY: ClassVar = tuple(__annotations__)  # the fields above
    optimiser: Optimiser = "sgd"  #: or "adam" (with torch's own betas, which are those of its authors)
    per_identity: int = 0  #: images of each identity in a batch; 0: any images, each once an epoch
    warmup_epochs: int = 0  #: a warm-up in whole epochs instead; the schedule acts only after them
    warmup_from: float = 0.0  #: in epoch e (from 1) of these the rate is times from + (to − from) · e / warmup_epochs
    warmup_to: float = 1.0
    fresh_momentum: bool = False  #: whether the optimiser forgets its state after every epoch (HAMR as released)
    pad: int = 0  #: pixels of black border on each side, from which a window of the input's size is cut at random
    erasing: float = 0.0  #: probability that a rectangle is erased (to the ImageNet mean)
    erasing_area: Range = (0.02, 0.4)  #: share of the image
    erasing_ratio: Range = (0.3, 3.33)  #: height/width

    NAME_IN_KEY: ClassVar = {"aspect_ratio": "stretch", "flip": "mirror"}

    def _check(self) -> None:
        for name, words in dict(start=Start, schedule=Schedule, precision=Precision, optimiser=Optimiser).items():
            require_one_of(name, getattr(self, name), get_args(words))
        require(len(self.size) == 2 and min(self.size) > 0, "size", self.size, "(height, width) in pixels")
        require("rest" in self.rates, "rates", self.rates, "a dictionary with the name 'rest'")
        require(self.batch > 0, "batch", self.batch, "a positive whole number")
        for name in ("epochs", "per_identity", "warmup_epochs", "pad"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "a whole number from 0")
        for name in ("flip", "warmup", "erasing"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a share between 0 and 1")
        require(not (self.warmup and self.warmup_epochs), "warmup", self.warmup, "0 where warmup_epochs is given")
        for name in ("crop_scale", "aspect_ratio", "erasing_area", "erasing_ratio"):
            low, high = getattr(self, name)
            require(0 < low <= high, name, (low, high), "a range (low, high) with 0 < low ≤ high")

    def key(self) -> dict[str, Any]:
        """Without what this recipe does not read."""
        unread = () if self.erasing else ("erasing_area", "erasing_ratio")
        unread += () if self.warmup_epochs else ("warmup_from", "warmup_to")
        return {name: value for name, value in super().key().items() if name not in unread}


@dataclass(frozen=True, init=False)
class TestSettings(_Declared):
    """What is done when a trained network is tested."""

    flip: bool = False  #: whether the features of the image and of its mirror image are added
    reranking: Reranking = ""  #: none, or a name of `reidlib.evaluation.reranking`, with its options
    reranking_options: dict[str, Any] = field(default_factory=dict)
    multi_query: bool = False  #: whether a query is the mean over all its identity's images in its camera

    NAME_IN_KEY: ClassVar = {"flip": "mirror"}

    def _check(self) -> None:
        require_one_of("reranking", self.reranking, get_args(Reranking))


@dataclass(frozen=True, init=False)
class Loss:
    """One term of the training loss: a function or class of `reidlib.losses`, its weight, and its own options.

    `sources` has weight and options by name. A misspelt option is a TypeError when the paper's file is imported.
    """

    function: FunctionType | type
    weight: float
    options: dict[str, Any]
    sources: dict[str, Stated | Assumed] = field(compare=False)

    def __init__(
        self, function: FunctionType | type, weight: Any = 1.0, options: Mapping[str, Any] | None = None
    ) -> None:
        bare, sources = _separate({**(options or {}), "weight": weight})
        weight = bare.pop("weight")
        inspect.signature(function).bind(None, None, **bare)
        for name, value in dict(function=function, weight=weight, options=bare, sources=sources).items():
            object.__setattr__(self, name, value)

    def given(self) -> dict[str, Any]:
        """Weight and options by name, with their sources."""
        return {"weight": self.weight, **self.options, **self.sources}

    def key(self) -> Any:
        """What is hashed: the weight alone where there are no options."""
        if not self.options:
            return self.weight
        return {"function": self.function.__name__, "weight": self.weight, **_plain(self.options)}


@dataclass(frozen=True)
class FrozenStage:
    """A training that goes before: its network becomes the submodule `into` and stays frozen."""

    settings: Settings
    into: str


@dataclass(frozen=True)
class Settings:
    """A model class with its options, its losses, a recipe and test settings: everything but data and seed.

    options: keyword options of the model, each bare, `Stated` or `Assumed`. Those named in the model's
    `EVALUATION_OPTIONS` only choose what is tested: rows that differ in nothing else, or in `testing` alone, share one
    trained network. Those that the model's `unread(options)` names are left out of the keys. A misspelt one is a
    TypeError when the paper's file is imported.
    """

    model: type
    recipe: Recipe
    losses: dict[str, Loss]  #: the terms of the training loss by name
    options: dict[str, Any] = field(default_factory=dict)
    testing: TestSettings = field(default_factory=TestSettings)
    first: FrozenStage | None = None  #: a training that goes before this one
    sources: dict[str, Stated | Assumed] = field(default_factory=dict, compare=False)  #: of the options

    def __post_init__(self) -> None:
        bare, sources = _separate(self.options)
        kept = {name: source for name, source in self.sources.items() if name in bare and bare[name] == source.value}
        object.__setattr__(self, "options", bare)
        object.__setattr__(self, "sources", kept | sources)
        _signature(self.model).bind(1, size=(1, 1), **bare)
        require(all(isinstance(loss, Loss) for loss in self.losses.values()), "losses", self.losses, "Loss(…) by name")
        require(bool(self.losses) or self.recipe.epochs == 0, "losses", self.losses, "at least one Loss")

    def but(self, row: Row) -> Settings:
        """These settings as a row changes them; a row with a model of its own starts from no options."""
        losses = {**self.losses, **row.losses}
        return Settings(
            model=row.model or self.model,
            recipe=self.recipe.but(**row.recipe),
            losses={name: loss for name, loss in losses.items() if loss is not None},
            options=row.options if row.model else {**self.given(), **row.options},
            testing=self.testing.but(**row.testing),
            first=self.first if isinstance(row.first, str) else row.first,
        )

    def with_recipe(self, changes: Mapping[str, Any]) -> Settings:
        """These settings with some values of their recipe changed, and of that of a training that goes before."""
        first = self.first and replace(self.first, settings=self.first.settings.with_recipe(changes))
        return replace(self, recipe=self.recipe.but(**changes), first=first)

    def given(self) -> dict[str, Any]:
        """The options with their sources."""
        return {**self.options, **self.sources}

    def trained(self) -> dict[str, Any]:
        """The plain dictionary behind the key of a trained network; defaults of the model's options included."""
        key: dict[str, Any] = {
            "model": f"{self.model.__module__}.{self.model.__qualname__}",
            "options": self._options(tested=False),
            "losses": {name: loss.key() for name, loss in self.losses.items()},
            "recipe": self.recipe.key(),
        }
        if self.first:
            key["first"] = {"into": self.first.into, **self.first.settings.trained()}
        return key

    def tested(self) -> dict[str, Any]:
        """The options that only choose what is tested, and the test settings that are not at their default."""
        testing = self.testing.key()
        return self._options(tested=True) | ({"testing": testing} if testing else {})

    def all_options(self) -> dict[str, Any]:
        """The options of the model, those that are not given at their default."""
        known = _signature(self.model).parameters.values()
        defaults = {one.name: one.default for one in known if one.kind is one.KEYWORD_ONLY and one.name != "size"}
        return defaults | self.options

    def _options(self, *, tested: bool) -> dict[str, Any]:
        """All options of the model that only choose what is tested, or all others; none that it does not read."""
        chosen, values = getattr(self.model, "EVALUATION_OPTIONS", ()), self.all_options()
        unread = getattr(self.model, "unread", lambda options: ())(values)
        kept = {name: value for name, value in values.items() if name not in unread}
        return {name: _plain(value) for name, value in kept.items() if (name in chosen) == tested}


@dataclass(frozen=True)
class Row:
    """One row of a table: how it differs from the table's base. Values are given bare, as `Stated` or as `Assumed`."""

    label: str  #: in the paper's own words
    options: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    losses: dict[str, Loss | None] = field(default_factory=dict)  #: terms added or replaced; None takes a term away
    testing: dict[str, Any] = field(default_factory=dict)
    model: type | None = None  #: another model class, whose options start empty
    first: FrozenStage | None | Literal["as in the base"] = "as in the base"  #: None: no training goes before
    base: Settings | None = None  #: settings that the budget and all of these change, in place of the table's base
    variant: str = "as-published"
    note: str = ""
    yields: tuple[str, ...] = ()  #: names in `recipe` where a budget's own value goes before the row's


@dataclass(frozen=True)
class Table:
    """A table (or figure) of a paper: its base, its rows, and where its numbers are tested."""

    paper: str
    name: str  #: "table5"; joins the `table` column of results/reported.tsv
    title: str
    base: Settings
    rows: tuple[Row, ...]
    datasets: tuple[str, ...]
    protocol: str | dict[str, str]  #: its name in `reidlib.evaluation.protocols`, or one for each data set
    printed_as: str | tuple[str, ...] | Mapping[str, str | tuple[str, ...]]
    """what the `variant` column of results/reported.tsv calls the protocol: a word, several, or either by data set"""
    ap: Literal["plain", "trapezoid"]  #: the AP rule of the column that is compared with the paper
    budgets: dict[str, dict[str, Any]]  #: recipe changes by budget name, the same for all rows
    printed_in: str = ""  #: what the `table` column of results/reported.tsv calls it, where that is not the name
    same_as: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """rows whose number stands in another table of the paper: label -> (table, label there)"""
    numbers_lost: bool = False  #: whether our copy of the paper has lost the numbers that it prints

    def __post_init__(self) -> None:
        require(set(self.same_as) <= {row.label for row in self.rows}, "same_as", self.same_as, "labels of rows")
        require_one_of("ap", self.ap, ("plain", "trapezoid"))
        for name in ("protocol", "printed_as"):
            named = getattr(self, name)
            for dataset in self.datasets if isinstance(named, Mapping) else ():
                require(dataset in named, name, named, f"one that names {dataset}")
        seen = [(row.label, row.variant) for row in self.rows]
        require(len(set(seen)) == len(seen), "rows", seen, "labels that differ")
        for row in self.rows:
            for budget in self.budgets:
                self.settings(row, budget)

    @property
    def slug(self) -> str:
        return f"{self.paper}/{self.name}"

    @property
    def kind(self) -> str:
        """What to call it in a sentence: "table" or "figure"."""
        return "figure" if self.name.startswith("figure") else "table"

    def protocol_of(self, dataset: str) -> str:
        return self.protocol if isinstance(self.protocol, str) else self.protocol[dataset]

    def printed_of(self, dataset: str) -> tuple[str, ...]:
        """The words in the `variant` column of results/reported.tsv under which this data set's numbers stand."""
        words = self.printed_as[dataset] if isinstance(self.printed_as, Mapping) else self.printed_as
        return (words,) if isinstance(words, str) else words

    def settings(self, row: Row, budget: str) -> Settings:
        """What this row trains at this budget: base, then the budget's changes, then the row's own (but `Row.yields`).

        A training that goes before has the budget's changes too, on its own recipe.
        """
        check_choice(self.slug, "budget", budget, list(self.budgets))
        changes = self.budgets[budget]
        own = {name: value for name, value in row.recipe.items() if name not in changes or name not in row.yields}
        base = row.base.with_recipe(changes) if row.base else self._bases[budget]
        settings = base.but(replace(row, recipe=own))
        if settings.first is None:
            return settings
        return replace(settings, first=replace(settings.first, settings=settings.first.settings.with_recipe(changes)))

    @cached_property
    def _bases(self) -> dict[str, Settings]:
        """The base at each budget, which most rows start from."""
        return {budget: self.base.with_recipe(changes) for budget, changes in self.budgets.items()}


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper that a comparison of two rows decides.

    better, worse: labels of rows of `table`. metric: of the evaluation, in percent. quote: the paper's words; where:
    their place. datasets: those that the paper says it of; () all of the table's. untestable: why nothing here can test
    it; then better, worse and metric are empty. control: the positive control whose effect it rests on, by the label of
    its row in the study's own tables; "" where none.
    """

    paper: str
    table: str
    better: str
    worse: str
    metric: Literal["rank1", "rank5", "rank10", "rank20", "mAP", ""]
    quote: str
    where: str
    datasets: tuple[str, ...] = ()
    untestable: str = ""
    control: str = ""

    def __post_init__(self) -> None:
        compared = bool(self.better), bool(self.worse), bool(self.metric)
        if any(compared) == bool(self.untestable) or len(set(compared)) == 2:
            raise ValueError(f"{self.where}: a claim names two rows and a metric, or the reason why it is not testable")
        if self.control and self.untestable:
            raise ValueError(f"{self.where}: a claim that is not testable rests on no control")

    @property
    def comparison(self) -> str:
        """What is compared, or why nothing is."""
        return self.untestable or f"{self.better} against {self.worse}, {self.measure}"

    @property
    def measure(self) -> str:
        """The metric as it is read: "rank-1"."""
        return self.metric.replace("rank", "rank-")

    def of(self, slug: str, dataset: str) -> bool:
        """Whether it is about this table and this data set."""
        return f"{self.paper}/{self.table}" == slug and (not self.datasets or dataset in self.datasets)


def check_choice(where: str, what: str, value: str, choices: Sequence[str]) -> None:
    """Raises a ReidError that names the choices when `value` is none of them."""
    if value not in choices:
        raise ReidError(f"{where}: unknown {what} {value!r}; choose one of {', '.join(choices)}")


def require(holds: object, name: str, value: Any, wanted: str) -> None:
    """Raises a ValueError that names the value and what is wanted where that does not hold."""
    if not holds:
        raise ValueError(f"{name} must be {wanted}, not {value!r}")


def require_one_of(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raises a ValueError that names the choices when `value` is none of them."""
    require(value in choices, name, value, f"one of {tuple(choices)}")


def _fits(value: Any, example: Any) -> bool:
    """Whether a value is of the kind of the example: a truth value, a whole number, a number, numbers, text, names."""
    if isinstance(example, tuple):
        return isinstance(value, tuple | list) and all(_fits(entry, 0.0) for entry in value)
    if isinstance(value, bool) or isinstance(example, bool):
        return isinstance(value, bool) and isinstance(example, bool)
    return isinstance(value, int | float if isinstance(example, float) else type(example))


_signature = cache(inspect.signature)


def _plain(value: Any) -> Any:
    """Tuples as lists, keys as strings."""
    return value if isinstance(value, str | float | int) else json.loads(json.dumps(value))
