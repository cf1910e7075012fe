"""The study's own tables: how hard the stand-ins are, what networks start from, and what bf16 costs in accuracy.

No paper prints them, so nothing here joins results/reported.tsv. The goal of the first was set before the runs (issue
and page "The stand-ins"): the trained network beats the best histogram by far and leaves room above it, and a network
trained on one stand-in drops clearly on another.
"""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

from reidlib import losses, papers
from reidlib.data import cross_domain
from reidlib.models.ide import IDE
from reidlib.models.untrained import ColourHistogram, RandomFeatures
from reidlib.papers import fmn, hamr, mros, msgwdp, safenet
from reidlib.spec import Assumed, Loss, Recipe, Row, Settings, Stated, Table

PUBLISHED = "as-published"
OURS = "the study's own choice; no paper has this table"

RECIPE = Recipe(
    start=Assumed("imagenet", because="all five papers start there; a run with other weights says so"),
    size=Assumed((192, 64), because="the images have 128×64 pixels; one row asks whether a larger input helps"),
    crop_scale=Assumed((0.64, 1.0), because="SafeNet's interval; " + OURS),
    epochs=Assumed(60, because=OURS),
    batch=Assumed(32, because=OURS),
    rates=Assumed({"classifiers": 0.1, "rest": 0.01}, because="new layers learn ten times as fast, the field's custom"),
    momentum=Assumed(0.9, because="the field's value"),
    weight_decay=Assumed(5e-4, because="the field's value"),
    schedule=Assumed("step", because="the field's custom"),
    milestones=Assumed((40,), because=OURS),
    precision=Assumed("bf16", because="bf16 autocast halves the time"),
)

SMOKE = papers.SMOKE | dict(
    size=Assumed((192, 64), because="the smallest input whose last map has six rows, for the stripes")
)

SMALL = papers.SMALL | dict(
    epochs=Assumed(8, because="as the systems; the loss is near zero at its end"),
    batch=Assumed(16, because="small sets leave few steps an epoch"),
    rates=Assumed({"classifiers": 0.001, "rest": 0.01}, because="SafeNet's rates, ten to one"),
)

MEDIUM = papers.MEDIUM | dict(
    size=Assumed((192, 64), because="as at budget small, so that the row with the larger input asks the same question"),
    rates=Assumed({"classifiers": 0.001, "rest": 0.01}, because="those of budget small; never run yet"),
    schedule=Assumed("cosine", because="no steps to be chosen"),
)

TRAINED = "ResNet-50, trained"
WHOLE, STRIPES = "colour histogram, whole image", "colour histogram, six stripes"
UNTRAINED, CHANCE = "ResNet-50, untrained", "random features"
STARTED = "ResNet-50, the start, not trained further"
FLOORS = (CHANCE, WHOLE, STRIPES)
"""Rows that a trained network has to beat before anything is said of it."""
LARGER, SIX, ERASED = f"{TRAINED}, input 256×128", f"{TRAINED}, six stripes", f"{TRAINED}, random erasing"
STEPS = (
    (STRIPES, WHOLE),
    (STARTED, UNTRAINED),
    (TRAINED, STARTED),
    (TRAINED, STRIPES),
    (SIX, TRAINED),
    (LARGER, TRAINED),
    (ERASED, TRAINED),
)
"""Differences that the page shows: a descriptor and the one it is held against."""


NO_LOSS: dict[str, Loss | None] = {"cross_entropy": None}


def _untrained(label: str, model: type, **options) -> Row:
    return Row(label, model=model, options=options, recipe=dict(start="scratch", epochs=0), losses=NO_LOSS)


table = partial(
    Table,
    paper="standins",
    base=Settings(model=IDE, recipe=RECIPE, losses={"cross_entropy": Loss(losses.cross_entropy)}),
    protocol=papers.PROTOCOLS,
    printed_as="",
    ap="plain",
    budgets={"smoke": SMOKE, "small": SMALL, "medium": MEDIUM, "full": {}},
)
"""What all tables but the last share."""

DIFFICULTY = table(
    name="difficulty",
    title="How hard the stand-ins are",
    datasets=("market1501", "dukemtmc", "cuhk03-np-detected", "msmt17"),
    rows=(
        _untrained(CHANCE, RandomFeatures),
        _untrained(WHOLE, ColourHistogram),
        _untrained(STRIPES, ColourHistogram, stripes=6),
        _untrained(UNTRAINED, IDE),
        Row(STARTED, recipe=dict(epochs=0), losses=NO_LOSS),
        Row(TRAINED),
        Row(SIX, options=dict(stripes=6)),
        Row(LARGER, recipe=dict(size=(256, 128))),
        Row(ERASED, recipe=dict(erasing=0.5)),
    ),
)

LUO = "Luo et al. 2019"

TRICKS: tuple[tuple[str, dict[str, dict[str, Any]]], ...] = (
    ("Standard baseline", {}),
    (
        "+Warmup",
        dict(recipe=dict(warmup=Assumed(0.1, because=f"{LUO}, §3.1: 10 of 120 epochs; as a share at any budget"))),
    ),
    ("+Random erasing augmentation", dict(recipe=dict(erasing=Stated(0.5, where=f"{LUO}, §3.2")))),
    ("+Label smoothing", dict(losses={"cross_entropy": mros.CROSS_ENTROPY})),
    ("+Last stride=1", dict(options=dict(last_stride=Stated(1, where=f"{LUO}, §3.4")))),
    ("+BNNeck", dict(options=dict(neck=Stated(True, where=f"{LUO}, §3.5")))),
    ("+Center loss", dict(losses={"centre": mros.CENTRE})),
    ("+Reranking", dict(testing=msgwdp.K_RECIPROCAL)),
)
"""The bag of tricks under the labels of results/controls.tsv: what each row adds to the one before it."""


def _ladder() -> tuple[Row, ...]:
    """Each trick on top of all before it."""
    rows, so_far = [], Row("")
    for label, adds in TRICKS:
        so_far = replace(so_far, label=label, **{part: getattr(so_far, part) | own for part, own in adds.items()})
        rows.append(so_far)
    return tuple(rows)


LADDER = _ladder()
STRONG = LADDER[-2]
"""The strong plain baseline."""
STRONG_SIX, STRONG_LARGER = f"{STRONG.label}, six stripes", f"{STRONG.label}, input 256×128"

CONTROL_STEPS = (
    *((row.label, before.label) for before, row in pairwise(LADDER)),
    (STRONG_SIX, STRONG.label),
    (STRONG_LARGER, STRONG.label),
)
"""Effects beyond doubt on photographs: a row, and the row it is held against."""

CONTROLS = table(
    name="controls",
    title="Positive controls: effects that are beyond doubt on photographs",
    base=Settings(
        model=IDE,
        recipe=RECIPE.but(
            crop_scale=(1.0, 1.0),
            pad=Stated(10, where=f"{LUO}, §2"),
            optimiser=Stated("adam", where=f"{LUO}, §2"),
            epochs=Stated(120, where=f"{LUO}, §2"),
            batch=Stated(64, where=f"{LUO}, §2: 16 identities"),
            per_identity=Stated(4, where=f"{LUO}, §2"),
            rates=Stated({"rest": 3.5e-4}, where=f"{LUO}, §2"),
            milestones=Stated((40, 70), where=f"{LUO}, §2"),
        ),
        losses={"cross_entropy": Loss(losses.cross_entropy), "triplet": mros.TRIPLET},
    ),
    datasets=("market1501", "dukemtmc"),
    printed_as="bag-of-tricks",
    rows=(
        *LADDER,
        replace(STRONG, label=STRONG_SIX, options=STRONG.options | dict(stripes=6)),
        replace(STRONG, label=STRONG_LARGER, recipe=STRONG.recipe | dict(size=(256, 128))),
    ),
    budgets={
        "smoke": SMOKE,
        "small": mros.SMALL
        | dict(
            epochs=Assumed(12, because="the later tricks of the ladder slow the loss down"),
            warmup=Assumed(0.0, because="a step of the ladder of its own"),
        ),
        "medium": papers.MEDIUM
        | dict(
            size=Assumed((192, 64), because="as at budget small"),
            epochs=Assumed(30, because="a quarter of the 120 of the source; never run yet"),
            warmup=Assumed(0.0, because="a step of the ladder of its own"),
        ),
    },
)
"""No paper of the study has it. An instrument that does not see these effects decides nothing about smaller ones."""

SINGLE, MULTI = "single query", "multi-query"

CONTROLS_MULTI_QUERY = replace(
    CONTROLS,
    name="controls-multi-query",
    title="A positive control of the test: several query images instead of one",
    datasets=("market1501",),
    printed_as="",
    rows=(replace(STRONG, label=SINGLE), replace(STRONG, label=MULTI, testing=dict(multi_query=True))),
)
"""Both rows test the network of the strong baseline."""

EFFECTS = {CONTROLS.slug: CONTROL_STEPS, CONTROLS_MULTI_QUERY.slug: ((MULTI, SINGLE),)}
"""All positive controls, by table. Claims name the control that they rest on by the label of its row."""


def effect(label: str) -> str:
    """What the row of a positive control adds, in a few words: of "+Center loss, six stripes", "six stripes"."""
    return label.rpartition(", ")[2].removeprefix("+")


PAIRS = tuple(cross_domain.PAIRS.values())
"""(trained on, tested on) in the order of TRANSFER's data sets."""

DOMAINS = tuple(dict.fromkeys(source for source, _ in PAIRS))

TRANSFER = table(
    name="transfer",
    title="From one stand-in to another",
    datasets=tuple(cross_domain.PAIRS),
    protocol={name: name for name in cross_domain.PAIRS},
    rows=(Row(TRAINED),),
)

HELD_OUT = (
    "of six recipes (Adam at 1e-3 and 3.5e-4, SGD at 0.02, 0.05 and 0.1, 10 and 20 epochs) the one with the highest "
    "mAP among a quarter of the training identities, held out"
)

START = table(
    name="start",
    title="The start: ResNet-50 on a rendered set of its own",
    datasets=("start",),
    rows=(Row("ResNet-50"),),
    budgets={
        "smoke": SMOKE,
        "small": SMALL
        | dict(
            start=Assumed("scratch", because="it is the start of other networks"),
            epochs=Assumed(20, because="about an hour on two cores; the loss is near zero at its end"),
            batch=Assumed(64, because="identities are many; 94 steps an epoch"),
            optimiser=Assumed("adam", because=HELD_OUT),
            rates=Assumed({"rest": 1e-3}, because=HELD_OUT),
        ),
    },
)
"""Trained once, at budget small, on images of no other set. Its loss is the plain cross-entropy of DIFFICULTY."""

FLOAT32, BF16 = "float32", "bf16, imitated"

HEADLINES = ("safenet/table5", "mros/table1", "msgwdp/table2", "fmn/table5", "hamr/table6")
"""The table of each paper that its abstract rests on: what its parts add, step by step."""

SYSTEMS = {
    "SafeNet": ((safenet.TABLE_5, "g4"), (safenet.TABLE_5, safenet.LAST)),
    "MROS": ((mros.TABLE_1, mros.TABLE_1.rows[0].label), (mros.TABLE_1, "IV Complete MROS")),
    "MSGWDP": ((msgwdp.TABLE_2, "Baseline"), (msgwdp.TABLE_2, "Baseline + NL + MSG + WDP")),
    "FMN": ((fmn.TABLE_2, "Basel."), (fmn.TABLE_2, "FMN")),
    "HAMR": ((hamr.TABLE_6, "Baseline"), (hamr.TABLE_6, "+ CAM")),
}
"""The five systems: each one's own baseline and its final model, as table and label of a row as published."""

SCRATCH, HALF = "from scratch", "half the epochs"


def _published(own: Table, label: str) -> Row:
    return next(row for row in own.rows if (row.label, row.variant) == (label, PUBLISHED))


def _at_small(own: Table, label: str, variant: str) -> Row:
    """A row as published with all that its own table and budget `small` say of it, as it is or changed in one thing."""
    settings = own.settings(_published(own, label), "small")
    halved = Assumed(settings.recipe.epochs // 2, because=OURS)
    changes = {SCRATCH: {"start": Assumed("scratch", because=OURS)}, HALF: {"epochs": halved}}
    settings = settings.with_recipe(changes.get(variant, {}))
    return Row(
        f"{own.slug}: {label}",
        options=settings.given(),
        recipe=settings.recipe.given(),
        losses=NO_LOSS | settings.losses,
        testing=settings.testing.given(),
        model=settings.model,
        first=settings.first,
        variant=variant,
    )


at_small = partial(table, datasets=("market1501",), budgets={"small": {}})
"""Their rows as published are networks of the papers' own tables, not trained again where the cache has them."""

FROM_SCRATCH = at_small(
    name="from-scratch",
    title="What the start changes: baselines and final models of the five systems",
    rows=tuple(
        _at_small(own, label, variant)
        for ends in SYSTEMS.values()
        for own, label in ends
        for variant in (PUBLISHED, SCRATCH)
    ),
)

SHORTER = at_small(
    name="shorter",
    title="What half the epochs cost: final models of the five systems",
    rows=tuple(_at_small(*final, variant) for _, final in SYSTEMS.values() for variant in (PUBLISHED, HALF)),
)
"""The schedules of `small` are longer than five minutes a row on one core, in the median; half of them are not."""

PLAIN_BASELINE, STRONG_BASELINE = "plain ResNet-50", "strong plain baseline"

COMMON_RECIPE = Recipe(
    start=RECIPE.given()["start"],
    size=Assumed((384, 128), because="its 24 rows divide into the six parts of MROS, MSGWDP and HAMR"),
    pad=Assumed(10, because=f"{LUO}, §2; MROS and HAMR crop so too"),
    flip=Assumed(0.5, because="all five papers mirror images"),
    erasing=Assumed(0.0, because="of the five, MROS and HAMR alone erase; short schedules have no room for it"),
    epochs=Assumed(120, because=f"{LUO}, §2"),
    batch=Assumed(64, because=f"{LUO}, §2: 16 identities"),
    per_identity=Assumed(4, because="three of the five have a triplet loss, which needs several images an identity"),
    optimiser=Assumed(
        "adam", because="its steps do not depend on the scale of a system's loss, so that one rate can serve all"
    ),
    rates=Assumed({"rest": 3.5e-4}, because=f"{LUO}, §2; none of the five trains by this rate"),
    weight_decay=Assumed(5e-4, because="the field's value"),
    schedule=Assumed("cosine", because="no steps to be chosen, which could suit one system more than another"),
    warmup=Assumed(0.1, because=f"{LUO}, §3.1: 10 of 120 epochs; as a share at any budget"),
    precision=Assumed("bf16", because="bf16 autocast halves the time"),
)
"""None of the five's own: nearest to the recipe of the strong plain baseline, without random erasing."""


def _common(name: str, own: Table, label: str) -> Row:
    """A row as published with its own network and losses; recipe and test are those of the table."""
    row = _published(own, label)
    settings = (row.base or own.base).but(row)
    first = settings.first
    if first:
        first = replace(first, settings=replace(first.settings, recipe=COMMON_RECIPE))
    return Row(
        name,
        model=settings.model,
        options=settings.given(),
        losses=NO_LOSS | settings.losses,
        first=first,
        note=f"network and losses of {own.slug}: {label}",
    )


COMMON = table(
    name="common",
    title="The five systems with one common recipe",
    base=Settings(model=IDE, recipe=COMMON_RECIPE, losses={"cross_entropy": Loss(losses.cross_entropy)}),
    datasets=("market1501", "dukemtmc"),
    rows=(
        *(row for row in DIFFICULTY.rows if row.label in (CHANCE, STRIPES, UNTRAINED, STARTED)),
        Row(PLAIN_BASELINE),
        _common(STRONG_BASELINE, CONTROLS, STRONG.label),
        *(_common(name, *final) for name, (_, final) in SYSTEMS.items()),
    ),
    budgets={
        "smoke": SMOKE,
        "small": papers.SMALL
        | dict(
            pad=Assumed(5, because="half the input's size, half the border"),
            epochs=Assumed(12, because="more than any of the five has at this budget, for the recipe is tuned to none"),
            batch=Assumed(16, because="small sets leave few steps an epoch; 4 identities of 4 images"),
        ),
        "medium": papers.MEDIUM
        | dict(
            size=Assumed((192, 64), because="as at budget small; six parts do not divide the 16 rows of 256×128"),
            pad=Assumed(5, because="half the input's size, half the border"),
            epochs=Assumed(12, because="a tenth of the 120 of the recipe; never run yet"),
        ),
    },
)
"""Differences of its rows are those of networks and losses: input, batches, optimiser, schedule and test are shared."""

COMMON_BASELINES = replace(
    COMMON,
    name="common-baselines",
    title="The own baselines of the five systems with the same common recipe",
    rows=tuple(_common(name, *baseline) for name, (baseline, _) in SYSTEMS.items() if name != "FMN"),
)
"""What each system's gain is measured from under the common recipe. FMN's GRN is the plain ResNet-50 of COMMON."""

PRECISION = replace(
    msgwdp.TABLE_2,
    paper="standins",
    name="precision",
    title="What bf16 costs in accuracy: MSGWDP's baseline in both arithmetics",
    base=msgwdp.TABLE_2.base.but(msgwdp.TABLE_2.rows[0]),
    printed_as="",
    ap="plain",
    rows=(
        Row(FLOAT32, recipe=dict(precision=Assumed("fp32", because=OURS))),
        Row(BF16, recipe=dict(precision=Assumed("bf16 imitated", because="the same numbers on every device"))),
    ),
)
"""Its network learns well for the time it takes: many seeds of it can be trained."""
