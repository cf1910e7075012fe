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
    epochs=Assumed(14, because="the four stand-ins in about an hour on two cores"),
    batch=Assumed(16, because="small sets leave few steps an epoch"),
    rates=Assumed(
        {"classifiers": 0.002, "rest": 0.02},
        because="SafeNet's rates of this budget, ten to one; with 0.02 for all, the loss on Market-1501 rose "
        "to 6.1 in the second epoch, and the mAP after 16 was 25.2",
    ),
)

MEDIUM = papers.MEDIUM | dict(
    size=Assumed((192, 64), because="as at budget small, so that the row with the larger input asks the same question"),
    rates=Assumed({"classifiers": 0.005, "rest": 0.05}, because="the ratio of budget small; never run yet"),
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
        "small": mros.SMALL | dict(warmup=Assumed(0.0, because="a step of the ladder of its own")),
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
            epochs=Assumed(8, because="48,000 images pass, more than twice as many as for the networks of DIFFICULTY"),
            batch=Assumed(16, because="as the networks of DIFFICULTY, for which the rates were chosen"),
        ),
    },
)
"""Trained once, at budget small, on images of no other set. Its loss is the plain cross-entropy of DIFFICULTY."""

FLOAT32, BF16 = "float32", "bf16, imitated"

HEADLINES = ("safenet/table5", "mros/table1", "msgwdp/table2", "fmn/table5", "hamr/table6")
"""The table of each paper that its abstract rests on: what its parts add, step by step."""

SCRATCH = "from scratch"


def _at_small(own: Table, label: str, variant: str) -> Row:
    """A row as published with all that its own table and budget `small` say of it, as it is or from scratch."""
    settings = own.settings(next(row for row in own.rows if (row.label, row.variant) == (label, PUBLISHED)), "small")
    changes = {"start": Assumed("scratch", because=OURS)} if variant == SCRATCH else {}
    first = settings.first
    if first:
        first = replace(first, settings=replace(first.settings, recipe=first.settings.recipe.but(**changes)))
    return Row(
        f"{own.slug}: {label}",
        options=settings.given(),
        recipe=settings.recipe.given() | changes,
        losses=NO_LOSS | settings.losses,
        testing=settings.testing.given(),
        model=settings.model,
        first=first,
        variant=variant,
    )


def _ends(own: Table) -> tuple[str, str]:
    labels = [row.label for row in own.rows if row.variant == PUBLISHED]
    return labels[0], labels[-1]


FROM_SCRATCH = table(
    name="from-scratch",
    title="What the start changes: first and last rows of the headline tables",
    datasets=("market1501",),
    rows=tuple(
        _at_small(own, label, variant)
        for own in (safenet.TABLE_5, mros.TABLE_1, msgwdp.TABLE_2, fmn.TABLE_5, hamr.TABLE_6)  # those of HEADLINES
        for label in _ends(own)
        for variant in (PUBLISHED, SCRATCH)
    ),
    budgets={"small": {}},
)
"""Its rows as published are networks of the papers' own tables, not trained again where the cache has them."""

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
