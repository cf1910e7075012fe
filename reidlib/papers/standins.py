"""The study's own tables: how hard the stand-ins are, what networks start from, and what bf16 costs in accuracy.

No paper prints them, so nothing here joins results/reported.tsv. The goal of the first was set before the runs (issue
and page "The stand-ins"): the trained network beats the best histogram by far and leaves room above it, and a network
trained on one stand-in drops clearly on another.
"""

from dataclasses import replace
from functools import partial

from reidlib import losses, papers
from reidlib.data import cross_domain
from reidlib.models.ide import IDE
from reidlib.models.untrained import ColourHistogram, RandomFeatures
from reidlib.papers import fmn, hamr, mros, msgwdp, safenet
from reidlib.spec import Assumed, Loss, Recipe, Row, Settings, Table

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
