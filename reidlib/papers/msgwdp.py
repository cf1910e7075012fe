"""MSGWDP (AI Communications, 2022): what this study retrains.

Tang, Yan, Chen, Shao, Wang and Wang, "Person re-identification based on multi-scale global feature and weight-driven
part feature", doi 10.3233/AIC-210258. Our copy of the text has lost its tables, formulas and section on the
implementation; Lnnn is a line of that copy. So:

- Four printed numbers of the multi-query test survive (`TABLE_8`). All other tables are declared from their captions:
  rows and labels are ours, which every such row says in its note, and no printed number stands beside them.
- Table numbers are counted from the captions, in order; the text names the first alone.
- No value of the recipe survives. Each is that of the released code, other states of the work: `Assumed`.

Where the two released states (`reidlib.models.msgwdp`) agree, "released" is both. train.py, re_ranking.py, evaluate.py
and demo.py came with the second, in July 2022.
"""

from functools import partial

from reidlib import losses, papers
from reidlib.models.hpm import HPM
from reidlib.models.msgwdp import C_P2, MSGWDP, RELEASED, RELEASED_JUNE
from reidlib.models.pcb import PCB
from reidlib.spec import Assumed, Loss, Recipe, Row, Settings, Table, TestSettings

OURS = "label of ours: the printed numbers are lost"
"""Begins the note of every row whose printed label and numbers are not known."""

_LOST = "paper-lost; released code: "

RECIPE = Recipe(
    start=Assumed("imagenet", because="paper-lost; the field's start, and that of the other four papers"),
    size=Assumed(
        (384, 128),
        because="L58 tries several sizes and the chosen one is lost; six equal parts need the 24 rows of this one. The "
        "released code has 256×128, whose 16 rows its four parts divide, and six do not",
    ),
    flip=Assumed(0.5, because=f"{_LOST}mirrored with probability 0.5"),
    erasing=Assumed(0.0, because=f"{_LOST}random erasing is an option, off by default"),
    pad=Assumed(0, because=f"{_LOST}crops after a border of 10 pixels only with its part branch switched off"),
    epochs=Assumed(100, because=f"{_LOST}100 epochs"),
    batch=Assumed(32, because=f"{_LOST}32 images"),
    per_identity=Assumed(4, because=f"{_LOST}4 images of each identity in a batch"),
    optimiser=Assumed("sgd", because=f"{_LOST}SGD"),
    rates=Assumed(
        {"part_heads": 0.05, "rest": 0.005},
        because=f"{_LOST}0.05 for the whole part heads, which it calls classifiers, and 0.005 for the rest",
    ),
    momentum=Assumed(0.9, because=f"{_LOST}0.9"),
    nesterov=Assumed(True, because=f"{_LOST}Nesterov momentum"),
    weight_decay=Assumed(5e-4, because=f"{_LOST}5e-4"),
    schedule=Assumed("step", because=f"{_LOST}×0.1 every 40 epochs, no warm-up known"),
    milestones=Assumed((40, 80), because=f"{_LOST}×0.1 every 40 of its 100 epochs"),
    decay=Assumed(0.1, because=f"{_LOST}×0.1 every 40 epochs"),
    precision=Assumed("bf16", because="not stated; bf16 autocast halves the time"),
)

IDENTITY = Loss(
    losses.cross_entropy,
    options=dict(smoothing=Assumed(0.1, because=f"L36 states label smoothing, Eq. (7) with its ε is lost; {_LOST}0.1")),
)
TRIPLET = Loss(
    losses.triplet,
    options=dict(margin=Assumed(0.3, because=f"L37 states the loss, Eq. (8) with its margin is lost; {_LOST}0.3")),
)
"""Both with weight 1: the weights of Eq. (9) are lost, the released code adds the two up."""

SMALL = papers.SMALL | dict(
    epochs=Assumed(8, because=f"the released 100 epochs {papers.SMALL_LIMIT}"),
    batch=Assumed(16, because="four identities of four images: smaller batches give the short schedule more steps"),
    rates=Assumed(
        {"backbone": 0.001, "rest": 0.01},
        because="the new layers have to learn in 300 steps, and at their rate the backbone lost what the start knows: "
        "mAP among training identities held out fell with 0.01 and 0.02 for all",
    ),
)

MEDIUM = papers.MEDIUM | dict(
    epochs=Assumed(6, because=f"the released 100 epochs shortened {papers.MEDIUM_LIMIT}"),
    batch=Assumed(64, because="32 leave a large GPU idle; 16 identities of 4 images"),
    rates=Assumed(
        {"backbone": 0.002, "rest": 0.02},
        because="twice those of budget small for a batch four times as large; never run yet",
    ),
)

BUDGETS = {"smoke": papers.SMOKE, "small": SMALL, "medium": MEDIUM, "full": {}}

FULL = Settings(
    model=MSGWDP,
    recipe=RECIPE,
    losses={"cross_entropy": IDENTITY, "triplet": TRIPLET},
    testing=TestSettings(flip=Assumed(True, because=f"{_LOST}features of the image and of its mirror image are added")),
)

WITHOUT_NL = dict(nonlocal_after=())
WITHOUT_MSG = dict(paths=(), tsa=False, residual=False)
WITHOUT_WDP = dict(parts=0, fusion="plain")
JULY, JUNE = "as-released", "as-released, June 2022"
RELEASED_NOTES = {
    JULY: "what the repository's last model file (July 2022) computes, without the layers whose results it drops",
    JUNE: "the same of its first (June 2022), with Non-local modules and TSA",
}


def released(label: str, note: str = OURS, **more) -> tuple[Row, ...]:
    """Both released states beside the row as published, at the released input size where the budget has none."""
    more |= dict(recipe=dict(size=Assumed((256, 128), because=f"{_LOST}256×128")), yields=("size",))
    return tuple(
        Row(label, variant=name, options=options, note=f"{note}; {RELEASED_NOTES[name]}", **more)
        for name, options in {JULY: RELEASED, JUNE: RELEASED_JUNE}.items()
    )


table = partial(
    Table,
    paper="msgwdp",
    base=FULL,
    datasets=("market1501",),
    protocol=papers.PROTOCOLS,
    printed_as="single-query",
    ap="trapezoid",
    budgets=BUDGETS,
    numbers_lost=True,
)
"""What all tables on Market-1501 share. The captions of tables 2 to 5 name no data set: Market-1501 is assumed."""

TABLE_2 = table(
    name="table2",
    title="Modules: NL (Non-local), MSG (multi-scale global), WDP (weight-driven parts). L53; rows are ours",
    rows=(
        Row("Baseline", options={**WITHOUT_NL, **WITHOUT_MSG, **WITHOUT_WDP}, note=OURS),
        Row("Baseline + NL", options={**WITHOUT_MSG, **WITHOUT_WDP}, note=OURS),
        Row(
            "Baseline + NL",
            variant="embedded Gaussian",
            options={**WITHOUT_MSG, **WITHOUT_WDP, "non_local": "embedded Gaussian"},
            note=f"{OURS}; the usual form of the module that L16 cites: softmax in the place of the division by N",
        ),
        Row("Baseline + MSG", options={**WITHOUT_NL, **WITHOUT_WDP}, note=OURS),
        Row("Baseline + WDP", options={**WITHOUT_NL, **WITHOUT_MSG}, note=OURS),
        Row("Baseline + NL + MSG + WDP", note=OURS),
        *released("Baseline + NL + MSG + WDP"),
    ),
)

TABLE_3 = table(
    name="table3",
    title="Paths of the multi-scale branch C-P2, and TSA, each left out once. L55; rows are ours",
    rows=(
        *(
            Row(f"C-P2 without {name}", options=dict(paths=tuple(one for one in C_P2 if one != path)), note=OURS)
            for name, path in {"1×1": "1x1", "5×5": "5x5", "3×3": "3x3", "pooling": "average"}.items()
        ),
        Row("C-P2 without TSA", options=dict(tsa=False), note=f"{OURS}; the caption explains TSA"),
        Row("C-P2", note=OURS),
        Row(
            "C-P2",
            variant=JULY,
            options=dict(tsa=False, residual=False),
            note=f"{OURS}; the branch of July in the whole model: no attention, no sum with stage 4",
        ),
        Row(
            "C-P2",
            variant=JUNE,
            options=dict(attention="without 3x3", residual=False),
            note=f"{OURS}; the branch of June in the whole model: no TSA on the 3×3 path, no sum with stage 4",
        ),
    ),
)

TABLE_4 = table(
    name="table4",
    title="What the tiny spatial attention (TSA) adds to the multi-scale branch. L56; rows are ours",
    rows=(
        Row("MSG without TSA", options=dict(tsa=False), note=OURS),
        Row("MSG with TSA", note=OURS),
        Row(
            "MSG with TSA",
            variant="ten weights",
            options=dict(attention="ten weights"),
            note=f"{OURS}; the ten parameters of L24 to the letter: no BN, no ReLU",
        ),
    ),
)

TABLE_5 = table(
    name="table5",
    title="What the weight-driven fusion of a part with its remainder part adds. L57; rows are ours",
    rows=(
        Row("parts without fusion", options=dict(fusion="plain"), note=OURS),
        Row(
            "parts without fusion",
            variant="as-released",
            options=dict(parts=4, fusion="plain"),
            note=f"{OURS}; four parts: the released files fuse them and overwrite the result by the plain parts",
        ),
        Row("fixed weights 0.8 and 0.2", options=dict(fusion="fixed"), note=OURS),
        Row(
            "fixed weights 0.8 and 0.2",
            variant="as-released",
            options=dict(parts=4, fusion="fixed", remainder="others"),
            note=f"{OURS}; the released fusion as it would act if it were not overwritten: 0.2 of all other parts",
        ),
        Row(
            "adaptive weights by channel",
            options=dict(fusion="adaptive by channel"),
            note=f"{OURS}; the other reading of L30, with a weight for each channel",
        ),
        Row("adaptive weights", note=OURS),
    ),
)

SIZES = {
    "256×128": Assumed((256, 128), because="the sizes are lost; the released code's"),
    "384×128": Assumed((384, 128), because="the sizes are lost; the usual one of part models"),
}
FORMS = {"convolutions alone": C_P2[:3], "maximum pooling": (*C_P2[:3], "maximum"), "C-P2": C_P2}

TABLE_6 = table(
    name="table6",
    title="Input sizes, and other forms of the multi-scale branch. L58; rows are ours: sizes and forms are lost",
    rows=tuple(
        Row(
            f"{size}, {form}",
            recipe=dict(size=SIZES[size]),
            options=dict(paths=paths) if paths != C_P2 else {},
            note=f"{OURS}; keeps its size at every budget",
        )
        for size in SIZES
        for form, paths in FORMS.items()
    ),
)

FIGURE_7 = table(
    budgets=BUDGETS
    | {
        "small": SMALL
        | dict(size=Assumed((384, 64), because="24 rows as at budget full, which 2, 4, 6 and 8 parts all divide"))
    },
    name="figure7",
    title="Number of parts. L60 (numbered by its position); rows are ours: the figure and its best number are lost",
    rows=(
        Row("2 parts", options=dict(parts=2), note=OURS),
        Row("4 parts", options=dict(parts=4), note=OURS),
        Row("6 parts", note=f"{OURS}; the number of L30"),
        Row("8 parts", options=dict(parts=8), note=OURS),
    ),
)

K_RECIPROCAL = papers.reranked(
    "k-reciprocal", f"{_LOST}re_ranking.py, the default of Zhong et al. 2017", k1=20, k2=6, lambda_=0.3
)

TABLE_7 = table(
    name="table7",
    title="L2 distance against re-ranking (RK). L61; rows are ours",
    rows=(
        Row("L2 distance", note=OURS),
        Row("RK", testing=K_RECIPROCAL, note=f"{OURS}; read as k-reciprocal encoding"),
    ),
)

MULTI_QUERY = dict(multi_query=True)

TABLE_8 = table(
    printed_as="multi-query",
    name="table8",
    printed_in="text-multi-query",
    title="Single query against multi-query. L62; the text repeats four numbers of the multi-query row (L66)",
    rows=(
        Row("our model, single query", note=OURS),
        Row("our model", testing=MULTI_QUERY, note="multi-query, read as without re-ranking, which L66 leaves open"),
        Row(
            "our model, RK and multi-query",
            testing=K_RECIPROCAL | MULTI_QUERY,
            note=f"{OURS}; L66 names both in one sentence, and its numbers may be of both",
        ),
        *released("our model", "multi-query", testing=MULTI_QUERY),
    ),
)
"""The only table of which printed numbers survive."""

OWN_ROWS = (
    Row("our model", note=OURS),
    Row(
        "our model",
        variant="pooled sums tested",
        options=dict(descriptor="pooled"),
        note=f"{OURS}; the other reading of L42: the pooled sums of both stages, 3072 entries, of the same network",
    ),
    *released("our model"),
)

TABLE_9, TABLE_10, TABLE_11 = (
    table(
        datasets=(dataset,),
        name=name,
        title=f"Own row of the comparison on {of}; the rows of other methods and all numbers are lost",
        rows=OWN_ROWS,
    )
    for name, dataset, of in (
        ("table9", "market1501", "Market-1501. L64"),
        ("table10", "dukemtmc", "DukeMTMC-reID. L67"),
        ("table11", "msmt17", "MSMT17. L68"),
    )
)

BASELINE_RATES = Assumed(
    {"backbone": 0.005, "rest": 0.05},
    because="the text gives no settings of its reproductions; the released rates, with the new layers in the place of "
    "the part heads, which these networks do not have",
)
baseline = partial(Row, recipe=dict(rates=BASELINE_RATES), yields=("rates",))
"""A row with those rates. At budgets small and medium the rates of the budget take their place."""

OWN_LOSS = {"cross_entropy": Loss(losses.cross_entropy), "triplet": None}
"""PCB and HPM as their authors train them: cross-entropies alone, without label smoothing."""

FIGURE_9 = table(
    name="figure9",
    title="The networks of the retrieval lists: ResNet-50, PCB, HPM and the paper's own. L69–78; no numbers printed",
    numbers_lost=False,
    rows=(
        baseline(
            "Resnet50",
            options={**WITHOUT_NL, **WITHOUT_MSG, **WITHOUT_WDP, "stages": (4,), "pooling": "average"},
            note="label of L77; read as the stage-4 head alone, average-pooled, with the losses of the paper",
        ),
        baseline(
            "PCB", model=PCB, losses=OWN_LOSS, note="label of L69; also the model beside which Fig. 8 sets its maps"
        ),
        baseline("HPM", model=HPM, losses=OWN_LOSS, note="label of L74"),
        Row("our model", note="label of L66; the network of the other tables"),
    ),
)
