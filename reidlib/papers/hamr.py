"""HAMR: what this study retrains of the hybrid-attention network with multiple resolution features.

Labels are the paper's own words; they join results/reported.tsv. A row without a variant is as published, with the
assumptions marked here and in `reidlib.models.hamr`; where the text is silent and the released code is not, the code's
value is taken and says so. What the released code does otherwise than the text stands in rows of its own: all of it in
"as-released", and each difference by itself in Table 2, except the warm-up, which only budget full has in epochs.
Another reading of the text is a variant of its row.

Figures without numbers need no row here: Figure 7 ranks gallery images for four queries of DukeMTMC-reID (the network
of Table 3), Figure 8 shows activation maps at stage 4 (Table 6, "+ CAM" against "Baseline").
"""

from functools import partial
from typing import Any

from reidlib import losses, papers
from reidlib.models.hamr import HAMR
from reidlib.models.ide import IDE
from reidlib.spec import OURS, Assumed, Loss, Recipe, Row, Settings, Stated, Table

RECIPE = Recipe(
    start=Stated("imagenet", where="§4.1, L576: ResNet-50 with weights pre-trained on ImageNet"),
    size=Stated((384, 128), where="§4.1, L574: all images are resized to 384×128"),
    flip=Assumed(0.5, because="§4.1 names horizontal flipping without a probability; the released code's"),
    pad=Assumed(
        10,
        because="§4.1 names random cropping without a size, and the released code has none; ten pixels of border is "
        "the field's usual form of it",
    ),
    erasing=Assumed(0.5, because="§4.1 names random erasing without a probability; the released code's"),
    erasing_area=Assumed(
        (0.02, 0.4), because="not stated; random erasing's own default (the released file is missing)"
    ),
    erasing_ratio=Assumed((0.3, 3.33), because="not stated; random erasing's own default"),
    epochs=Stated(150, where="§4.1, L598: 150 epochs"),
    batch=Stated(64, where="§4.1, L594: mini-batch of 64"),
    per_identity=Assumed(4, because="not stated; the released code draws 16 identities with 4 images each"),
    rates=Stated({"rest": 0.01}, where="§4.1, L600 and eq. (5): 0.01, and no other rate is named"),
    momentum=Stated(0.9, where="§4.1, L596: SGD with a momentum of 0.9"),
    nesterov=Assumed(True, because="not stated; the released code's"),
    weight_decay=Stated(5e-4, where="§4.1, L598: weight decay 0.0005"),
    schedule=Stated("step", where="eq. (5)"),
    milestones=Stated((60, 90, 120), where="eq. (5): the rate changes behind epochs 60, 90 and 120"),
    decay=Stated(0.5, where="eq. (5): 0.01, 0.005, 0.0025, 0.00125"),
    warmup_epochs=Stated(10, where="eq. (5): e ≤ 10"),
    warmup_from=Stated(0.0, where="eq. (5): 3·10⁻⁴·e/10, which is 0 at e = 0"),
    warmup_to=Stated(
        0.03, where="eq. (5): 3·10⁻⁴ at e = 10, 0.03 of the base rate; the next epoch is at 0.01, a jump of 33 times"
    ),
    precision=Assumed("bf16", because="not stated; bf16 autocast halves the time"),
)

SMOKE = papers.SMOKE | dict(
    pad=Assumed(3, because="a third of the input's height has a third of the border"),
    warmup_epochs=Assumed(0, because="one epoch has no room for ten"),
)

SMALL = papers.SMALL | dict(
    pad=Assumed(5, because="half the input's size, half the border"),
    epochs=Assumed(12, because="after eight the loss of the full model had fallen by a fifth only"),
    batch=Assumed(16, because="a batch of 64 would leave ten steps an epoch; 4 identities with 4 images each"),
    rates=Assumed(
        {"backbone": 0.001, "rest": 0.01},
        because="the paper's own rate for the new layers, a tenth of it for the backbone: of four pairs the one with "
        "the highest mAP among training identities held out, in three of four rows",
    ),
    warmup_epochs=Assumed(0, because="twelve epochs have no room for ten; `warmup` takes their place"),
    warmup=Assumed(0.1, because="the trick of eq. (5) as a share of the steps, to the full rate, without the jump"),
)

MEDIUM = dict(
    start=papers.START,
    epochs=Assumed(8, because=f"about a nineteenth of the paper's 150, {papers.MEDIUM_LIMIT}"),
    rates=Assumed({"backbone": 0.001, "rest": 0.01}, because="those of budget small; never run yet"),
    milestones=Assumed((3, 5, 6), because="about a nineteenth of eq. (5)'s"),
    warmup_epochs=Assumed(0, because="ten of 150 epochs are half an epoch of eight; `warmup` takes their place"),
    warmup=Assumed(
        0.067,
        because="the trick of eq. (5) as a share of the steps, to the full rate, without the jump; as published and as "
        "released warm up alike here",
    ),
)

SMOOTHED = Loss(
    losses.cross_entropy,
    options=dict(smoothing=Assumed(0.1, because="§4.1 names label smoothing without ε; the released code's")),
)
TRIPLET = Loss(losses.triplet, options=dict(margin=Stated(1.0, where="§4.1, L586: margin 1.0")))

FULL = Settings(
    model=HAMR,
    recipe=RECIPE,
    options=dict(stages=(1, 2, 3, 4), order="S+©+C", parts="MGO", extractor="MPFE"),
    losses={"cross_entropy": SMOOTHED, "triplet": TRIPLET},
)

BASELINE = dict(stages=(4,), order="©", parts="global", extractor="average")
"""ResNet-50's last map, pooled as a whole, one vector of 512."""

IDE_STRIDE = Stated(2, where="§4.1, L608: the model takes longer because it cancels the last halving of the map")

WITHOUT_TRICKS: dict[str, Any] = dict(
    recipe=dict(erasing=0.0, warmup_epochs=0, warmup=0.0), losses={"cross_entropy": Loss(losses.cross_entropy)}
)
"""§4.4, L1007: the bag of tricks is random erasing, label smoothing and the warm-up."""

BASELINES = (
    Row("Baseline", options=BASELINE, **WITHOUT_TRICKS),
    Row(
        "Baseline",
        model=IDE,
        options=dict(last_stride=IDE_STRIDE),
        recipe=WITHOUT_TRICKS["recipe"],
        losses={**WITHOUT_TRICKS["losses"], "triplet": None},
        variant="IDE of §4.1",
        note="the ResNet-50 (IDE) that §4.1 sets against the model: stride 2, identity loss alone, no 512-d layer, no "
        "DropBlock",
    ),
    Row(
        "Baseline",
        options=BASELINE | dict(dropblock_share=0),
        variant="without DropBlock",
        note="§4.1 has DropBlock in its model; the tricks of §4.4 do not count it",
        **WITHOUT_TRICKS,
    ),
)
"""The start of Tables 6 to 8 in three readings."""

RELEASED_MODEL = dict(order="©", activation="LeakyReLU", dropblock_share=0, triplet="after BN")
RELEASED_RECIPE = dict(
    pad=0,
    fresh_momentum=True,
    warmup_from=Assumed(
        -0.067, because="the release counts epochs from 0 and begins at 3e-4: with e from 1 that is −0.067 + 0.097 e"
    ),
    warmup_to=Assumed(
        0.903, because="its eleventh epoch has the full rate; the file that holds the shape is missing, read as a line"
    ),
)

AS_RELEASED = Row(
    "Ours",
    options=RELEASED_MODEL,
    recipe=RELEASED_RECIPE,
    testing=dict(flip=True),
    variant="as-released",
    note="no attention, LeakyReLU, triplet after the last BN, no crop, no DropBlock, a warm-up that begins at 3e-4, a "
    "new optimiser every epoch, features of the mirror image added",
)
OWN_ROWS = (Row("Ours"), AS_RELEASED)

STAGES = {
    "stage 1": (1,),
    "stage 2": (2,),
    "stage 3": (3,),
    "stage 4": (4,),
    "stage 1-2": (1, 2),
    "stage 1-3": (1, 2, 3),
    "stage 2-4": (2, 3, 4),
}

table = partial(
    Table,
    paper="hamr",
    base=FULL,
    protocol=papers.PROTOCOLS,
    printed_as="",
    ap="trapezoid",
    budgets={"smoke": SMOKE, "small": SMALL, "medium": MEDIUM, "full": {}},
)
"""What all tables share."""

TABLE_2 = table(
    name="table2",
    title="Comparisons on Market-1501",
    datasets=("market1501",),
    rows=(
        *OWN_ROWS,
        Row("Ours", options=dict(order="©"), variant="as-released: no attention"),
        Row(
            "Ours",
            options=dict(channel_attention="separate"),
            variant="as-released: CBAM's channel attention",
            note="the perceptron of eq. (2) on each pool, then the sum, as the unused CBAM file of the release has it",
        ),
        Row("Ours", options=dict(activation="LeakyReLU"), variant="as-released: LeakyReLU"),
        Row("Ours", options=dict(triplet="after BN"), variant="as-released: triplet after BN"),
        Row("Ours", options=dict(dropblock_share=0), recipe=dict(pad=0), variant="as-released: no crop, no DropBlock"),
        Row("Ours", recipe=dict(fresh_momentum=True), variant="as-released: momentum reset every epoch"),
        Row("Ours", testing=dict(flip=True), variant="as-released: mirror image added"),
        Row(
            "Ours",
            options=dict(triplets_of="parts"),
            variant="a triplet for each part",
            note="M = 21: §3.4 takes the triplet loss on the 512-d vector of a part (L534)",
        ),
        Row(
            "Ours",
            options=dict(channel_attention="mean"),
            variant="mean in eq. (2)",
            note="half the input of CAM's perceptron: the same function, which starts and learns at another scale",
        ),
    ),
)

TABLE_3 = table(name="table3", title="Comparisons on DukeMTMC-reID", datasets=("dukemtmc",), rows=OWN_ROWS)

TABLE_4 = table(
    name="table4",
    title="Comparison results on CUHK03, new protocol, labeled and detected boxes",
    datasets=("cuhk03-np-labeled", "cuhk03-np-detected"),
    printed_as={"cuhk03-np-labeled": "labeled", "cuhk03-np-detected": "detected"},
    rows=OWN_ROWS,
)

TABLE_5 = table(name="table5", title="Comparisons on MSMT17", datasets=("msmt17",), rows=OWN_ROWS)

ADDED_IN_TURN = (
    *BASELINES,
    Row("+ Bag of Tricks", options=BASELINE),
    Row("+ MPFE", options=BASELINE | dict(extractor="MPFE")),
    Row("+ MGO", options=dict(stages=(4,), order="©")),
    Row("+ SAM", options=dict(order="S+©"), note="the fusion of the four stages comes with this row (assumed)"),
    Row("+ CAM", note="the full model"),
)
"""Tables 6 and 8: each row has what stands above it."""

TABLE_6 = table(
    name="table6",
    title="Ablation study on different components, Market-1501 and DukeMTMC-reID",
    datasets=("market1501", "dukemtmc"),
    printed_as={"market1501": "single-query", "dukemtmc": ""},
    rows=(
        *ADDED_IN_TURN,
        Row(
            "+ MGO",
            options=dict(order="©"),
            variant="with the fusion",
            note="the four stages without attention: the paper's first contribution, which no printed row isolates",
        ),
        *(
            Row(
                f"MPFE, {pool} only",
                options=BASELINE | dict(extractor=f"MPFE, {pool} only"),
                variant="one pool",
                note=f"{OURS}; '+ MPFE' without its other pool, to isolate what the abstract credits (L33)",
            )
            for pool in ("average", "maximum")
        ),
    ),
)

TABLE_7 = table(
    name="table7",
    title="Ablation study on different components, each alone, DukeMTMC-reID",
    datasets=("dukemtmc",),
    rows=(
        *BASELINES,
        Row("Baseline+Tricks", options=BASELINE),
        Row("Baseline+MGO (inferred)", options=BASELINE | dict(parts="MGO"), **WITHOUT_TRICKS),
        Row("Baseline+MPFE (inferred)", options=BASELINE | dict(extractor="MPFE"), **WITHOUT_TRICKS),
        Row("Baseline+SAM (inferred)", options=BASELINE | dict(order="S+©"), **WITHOUT_TRICKS),
        Row("Baseline+CAM (inferred)", options=BASELINE | dict(order="©+C"), **WITHOUT_TRICKS),
        Row("Baseline+Tricks+MGO+MPFE+SAM+CAM", note="the full model"),
        Row("Baseline+Tricks+MPFE+SAM+CAM+PCB", options=dict(parts="PCB")),
    ),
)

TABLE_8 = table(
    name="table8",
    title="Ablation study on different components, cross-domain",
    datasets=("duke-to-market", "market-to-duke"),
    rows=ADDED_IN_TURN,
)

_EXCHANGED = "the other reading of the notation (CAM first in S+C+©) exchanges this row's network with that of {}"

TABLE_9 = table(
    name="table9",
    title="The performance of the attention modules and their order",
    datasets=("market1501",),
    printed_as="single-query",
    rows=(
        Row("BaselineBMM", options=dict(stages=(4,), order="©"), note="Table 6's '+ MGO'"),
        Row("BaselineBMM + S", options=dict(stages=(4,), order="S+©"), note="stage 4 only (L1172)"),
        Row("BaselineBMM + C", options=dict(stages=(4,), order="©+C"), note="stage 4 only (L1172)"),
        Row("BaselineBMM + ©+C+S", options=dict(order="©+C+S"), note=_EXCHANGED.format("©+S+C")),
        Row("BaselineBMM + C+S+©", options=dict(order="C+S+©"), note=_EXCHANGED.format("S+C+©")),
        Row("BaselineBMM + C+©+S", options=dict(order="C+©+S")),
        Row("BaselineBMM + ©+S+C", options=dict(order="©+S+C"), note=_EXCHANGED.format("©+C+S")),
        Row("BaselineBMM + S+C+©", options=dict(order="S+C+©"), note=_EXCHANGED.format("C+S+©")),
        Row("BaselineBMM + S+©+C", note="the full model"),
    ),
)

TABLE_10 = table(
    name="table10",
    title="Results with multiple stages, Market-1501 and DukeMTMC-reID",
    datasets=("market1501", "dukemtmc"),
    printed_as={"market1501": "single-query", "dukemtmc": ""},
    rows=(
        *(Row(label, options=dict(stages=stages)) for label, stages in STAGES.items()),
        Row("All stage", note="the full model"),
    ),
)

TRAINING_TIME = table(
    name="training-time",
    printed_in="text-training-time",
    title="Minutes of training on Market-1501, compared as a ratio: 100/180 in the text (§4.1)",
    datasets=("market1501",),
    rows=(
        Row(
            "ResNet-50 (IDE)",
            model=IDE,
            options=dict(last_stride=IDE_STRIDE),
            losses={"triplet": None},
            note="the text prints its minutes alone; rank-1 and mAP come with the run",
        ),
        Row(
            "ResNet-50 (IDE), stride 1",
            model=IDE,
            options=dict(last_stride=1),
            losses={"triplet": None},
            variant="the cause in the text",
            note=f"{OURS}; L610 gives the stride as the main cause of the longer training",
        ),
        Row("our model", note="the full model"),
    ),
)
"""Not a printed table: one sentence of §4.1. Its rows have to run on the same machine."""

BOXES = table(
    name="boxes",
    title="Overlapping parts and attention on tight and on shifted boxes",
    datasets=("market1501-shifted", "market1501-tight"),
    protocol=papers.PROTOCOLS["market1501"],
    rows=(
        Row("MGO with attention", note=f"{OURS}; the full model"),
        Row("PCB with attention", options=dict(parts="PCB"), note=f"{OURS}; six stripes in place of the 21 windows"),
        Row("MGO without attention", options=dict(order="©"), note=f"{OURS}; neither SAM nor CAM"),
    ),
)
"""Not a printed table: the abstract (L27 to L31) credits attention and MGO for irregular boxes, and no row tests it."""
