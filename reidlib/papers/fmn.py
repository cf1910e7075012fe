"""FMN (2017): what this study retrains. Labels are the paper's own words; they join results/reported.tsv.

No code was released, so every row is as published, with the assumptions marked here and in `reidlib.models.fmn`. Where
the text is silent, the code of its reference [43] (PAN, MatConvNet as here; layumi/Pedestrian_Alignment) is a guide:
crop, weight decay of the first stage, the epochs after each drop of the rate, and the rule of AP. What it has and FMN's
text does not name is in rows of its own: `TABLE_1_VARIANTS`. Lnnn is a line of our copy of the text.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from reidlib import losses, papers
from reidlib.models.fmn import FMN, GRN, WIDTH
from reidlib.spec import OURS, Assumed, FrozenStage, Loss, Recipe, Row, Settings, Stated, Table

GRN_RECIPE = Recipe(
    start=Stated("imagenet", where="§4.2: pre-trained on ImageNet; Algorithm 1: θo → θg, θo → θl"),
    size=Assumed(
        (224, 224), because="not stated; Table 5 gives a 56×56 mask at Pool1, which ResNet's stem makes of 224×224"
    ),
    crop_scale=Assumed(
        (0.7225, 1.0), because="L585 says cropping and no sizes; PAN's code crops sides of 0.85 to 1 of the image's"
    ),
    aspect_ratio=Assumed(
        (1.0, 1.0),
        because="not stated; PAN's code makes every image a square of 256×256 and crops squares of that, which is a "
        "crop of the image's own shape",
    ),
    flip=Assumed(0.5, because="L586 says horizontal flipping and no probability"),
    epochs=Assumed(
        25,
        because="L583 trains until the network converges; PAN's first stage has this rate, this drop after 20 epochs, "
        "and ends five epochs later",
    ),
    batch=Assumed(
        64,
        because="not stated; PAN's code has 16 and 32, but lets its pre-trained layers learn at a small share of the "
        "rate; with one rate of 0.1 for all layers a larger batch keeps the steps steady",
    ),
    rates=Stated({"rest": 0.1}, where="§4.2: initial learning rate of 0.1, the same for GRN, MN and LAN"),
    momentum=Stated(0.9, where="§4.2: 0.9 momentum"),
    nesterov=Assumed(False, because="L584 says momentum and no more; PAN's code has it on"),
    weight_decay=Assumed(1e-4, because="not stated; PAN's first stage"),
    schedule=Stated("step", where="§4.2: the rate is reduced once"),
    milestones=Stated((20,), where="§4.2: the GRN's rate is reduced after 20 epochs"),
    decay=Stated(0.1, where="§4.2: from 0.1 to 0.01"),
    precision=Assumed("bf16", because="not stated; bf16 autocast halves the time"),
)

FMN_RECIPE = GRN_RECIPE.but(
    epochs=Assumed(
        45, because="L583 trains until the network converges; PAN's second stage goes on for ten epochs after its drop"
    ),
    weight_decay=Assumed(1e-4, because="not stated; as in the first stage. PAN's second stage has 0.0005"),
    milestones=Stated((35,), where="§4.2: the rate of MN and LAN is reduced after 35 epochs"),
)

OUR_RATES = {"classifier": 0.002, "rest": 0.02}

SMOKE = papers.SMOKE | dict(
    rates=Assumed(
        OUR_RATES,
        because="with 0.02 in the classifiers too, which read an unscaled g of length 40, the loss of the GRN rose in "
        "its first steps",
    )
)

SMALL = papers.SMALL | dict(
    epochs=Assumed(8, because=f"25 and 45 epochs {papers.SMALL_LIMIT}"),
    batch=Assumed(16, because="a batch of 64 would leave ten steps an epoch; 16 leaves 40"),
    rates=Assumed(OUR_RATES, because="of three pairs the one with the highest mAP among training identities held out"),
)

MEDIUM = papers.MEDIUM | dict(
    epochs=Assumed(8, because=f"25 and 45 epochs shortened alike {papers.MEDIUM_LIMIT}"),
    rates=Assumed(OUR_RATES, because="those of budget small, where they were chosen; never run yet"),
)

CLASSIFICATION = {"cross_entropy": Loss(losses.cross_entropy)}

GRN_SETTINGS = Settings(model=GRN, recipe=GRN_RECIPE, losses=CLASSIFICATION)
"""The first stage of Algorithm 1, and the baseline of every table: the network is shared, not trained again."""

FULL = Settings(
    model=FMN,
    recipe=FMN_RECIPE,
    options=dict(
        masked=Stated("Pool1", where="Table 5: its row has the numbers of the full system"),
        alpha=Stated(0.5, where="§3.4: α = 0.5"),
    ),
    losses={
        **CLASSIFICATION,
        "ranking": Loss(
            losses.ranking,
            weight=Assumed(1.0, because="Algorithm 1 uses both losses and gives neither a weight"),
            options=dict(
                margin=Assumed(
                    0.05, because="not stated; RA-CNN (Fu et al. 2017), whose ranking loss has this form, uses 0.05"
                )
            ),
        ),
    },
    first=FrozenStage(GRN_SETTINGS, into="grn"),
)
"""The second stage: MN and LAN beside the finished GRN."""

PAN_LAYERS = {"*.bn?.weight": 1e-4, "*.downsample.1.weight": 1e-4, "rest": 0.002}
"""0.1 times the multipliers of PAN's pre-trained layers: 0.001 for the scales of BatchNorm, 0.02 for all else."""

_PAN = "PAN's code"

PAN_GRN = replace(
    GRN_SETTINGS,
    recipe=GRN_RECIPE.but(
        rates=Assumed(
            {"classifier": 0.1, "*.stem.0.weight": 1e-5, "*.stem.1.weight": 1e-4, **PAN_LAYERS},
            because=f"{_PAN}, with 0.1 times 0.0001 for the first convolution",
        ),
        nesterov=Assumed(True, because=_PAN),
        batch=Assumed(16, because=f"{_PAN}, first stage"),
    ),
    options=dict(dropout=Assumed(0.75, because=f"{_PAN}, first stage")),
)

PAN_TEST: dict[str, Any] = dict(
    testing=dict(flip=Assumed(True, because=f"{_PAN} adds the features of image and mirror image")),
    variant="as in PAN",
    note="rates of layers that are pre-trained; a smaller budget has its own in the first stage",
)

PAN_FMN: dict[str, Any] = dict(
    recipe=dict(
        rates=Assumed(
            {"classifier": 0.1, "mn": 0.1 * 1e-5 * WIDTH, **PAN_LAYERS},
            because=f"{_PAN}: 0.1 for new layers, 0.1 times 0.00001 for the layer that predicts the transformation, "
            "here the mask (W is held times √2048, so its rate is times 2048)",
        ),
        nesterov=Assumed(True, because=_PAN),
        batch=Assumed(32, because=f"{_PAN}, second stage"),
        weight_decay=Assumed(5e-4, because=f"{_PAN}, second stage"),
        crop_scale=Assumed((0.765625, 1.0), because=f"{_PAN}, second stage: sides of 0.875 to 1"),
    ),
    first=FrozenStage(PAN_GRN, into="grn"),
    **PAN_TEST,
)
"""What PAN's code has and FMN's text does not name; lengths and drops stay FMN's."""

PAN_DROPOUT = dict(dropout=Assumed(0.9, because=f"{_PAN}, second stage"))

RERANKED = papers.reranked("k-reciprocal", "§3.5 gives no parameters; the default of [45]", k1=20, k2=6, lambda_=0.3)

table = partial(
    Table,
    paper="fmn",
    base=FULL,
    protocol=papers.PROTOCOLS,
    ap="trapezoid",
    budgets={"smoke": SMOKE, "small": SMALL, "medium": MEDIUM, "full": {}},
)
"""What all tables share."""

TABLE_1 = table(
    name="table1",
    title="The two branches and their join",
    datasets=("market1501", "dukemtmc", "cuhk03-np-labeled", "cuhk03-np-detected"),
    printed_as={"market1501": "", "dukemtmc": "", "cuhk03-np-labeled": "labeled", "cuhk03-np-detected": "detected"},
    rows=(
        Row("GRN", base=GRN_SETTINGS, note="the first stage by itself: the network that the other rows hold fixed"),
        Row("LAN", options=dict(descriptor="LAN"), note="the descriptor l of the network of row FMN"),
        Row("FMN"),
    ),
)

TABLE_1_VARIANTS = replace(
    TABLE_1,
    name="table1-variants",
    printed_in="table1",
    title="The two branches and their join: what PAN's code has, and the second stage without its ranking loss",
    datasets=("market1501",),
    rows=(
        *TABLE_1.rows,
        Row(
            "FMN without the ranking loss",
            losses={"ranking": None},
            note=f"{OURS}: the multi-task objective is claimed and no row of the paper tests it",
        ),
        Row("FMN", testing=dict(flip=True), variant="mirror image added", note="the network of row FMN"),
        Row("GRN", base=PAN_GRN, **PAN_TEST),
        Row("LAN", options=dict(descriptor="LAN", **PAN_DROPOUT), **PAN_FMN),
        Row("FMN", options=PAN_DROPOUT, **PAN_FMN),
    ),
)

TABLE_2 = table(
    name="table2",
    title="Comparison on Market-1501",
    datasets=("market1501",),
    printed_as=("", "re-ranked"),
    rows=(
        Row("Basel.", base=GRN_SETTINGS, note="the GRN of Table 1 (§4.3)"),
        Row("FMN"),
        Row("FMN+re-rank", testing=RERANKED),
    ),
)
"""As Tables 3 and 4. Printed names of rows have one word without re-ranking, and one with it."""

TABLE_3 = replace(TABLE_2, name="table3", title="Comparison on DukeMTMC-reID", datasets=("dukemtmc",))

TABLE_4 = replace(
    TABLE_2,
    name="table4",
    title="Comparison on CUHK03, new protocol",
    datasets=("cuhk03-np-detected", "cuhk03-np-labeled"),
    printed_as={
        "cuhk03-np-detected": ("detected", "detected+re-ranked"),
        "cuhk03-np-labeled": ("labeled", "labeled+re-ranked"),
    },
)

TABLE_5 = table(
    name="table5",
    title="Which layer is masked",
    datasets=("market1501",),
    printed_as="",
    rows=(
        Row("Pool1", note="the full system: FMN of Tables 1 and 2"),
        *(Row(layer, options=dict(masked=layer)) for layer in ("Res2", "Res3", "Res4")),
    ),
)
