"""MROS (arXiv 1910.12322): what this study retrains. Labels are the paper's own words; they join results/reported.tsv.

No code was released, so every row is as published, with the assumptions marked here and in `reidlib.models.mros`. Two
references guide what the text leaves open:

- [6], Luo et al., "bag of tricks": its released code (github.com/michuanhaohao/reid-strong-baseline,
  softmax_triplet_with_center.yml) has the border of 10 pixels, erasing at 0.5, Adam, the warm-up by 0.01 in 10 epochs,
  four images an identity and the centre loss at 0.0005, all as the text. The model was most likely built on it.
- [14], Fan et al., SphereReID, which the text names for the warm-up: Adam at 0.001, after a linear rise from 0.00005
  over 20 epochs; a tenth after 80 and after 100 of 140 epochs; 16 identities of 4 images. The rate of 0.001 is its own,
  where [6] has 0.00035.
"""

from functools import partial

from reidlib import losses, papers
from reidlib.models.mros import MROS
from reidlib.models.pcb import PCB
from reidlib.spec import OURS, Assumed, Loss, Recipe, Row, Settings, Stated, Table

RECIPE = Recipe(
    start=Stated("imagenet", where="§2.1, L277: ResNet-50 trained on ImageNet"),
    size=Assumed(
        (384, 128),
        because="not stated; PCB's, which the model extends. Its maps have 24 rows, which six equal stripes need; at "
        "the 256×128 of [6] and [14] they have 16",
    ),
    pad=Stated(10, where="§3.1, L526: zero padding with 10 pixels, random cropping (to the input's size: assumed)"),
    flip=Stated(0.5, where="§3.1, L526: horizontal flipping with 0.5 probability"),
    erasing=Stated(0.5, where="§3.1, L532: random erasing with 0.5 probability, filled with ImageNet's mean"),
    erasing_area=Assumed((0.02, 0.4), because="not stated; those of [6] and of random erasing's own authors"),
    erasing_ratio=Assumed((0.3, 3.33), because="not stated; those of [6] and of random erasing's own authors"),
    optimiser=Stated("adam", where="§3.1, L536: Adam"),
    epochs=Assumed(
        120, because="not stated; four steps of the 30-epoch staircase, and the number of [6]; [14] has 140"
    ),
    batch=Stated(128, where="§3.1, L544: batch size 128"),
    per_identity=Stated(4, where="§3.1, L544: P = 32, K = 4"),
    rates=Stated({"rest": 0.001}, where="§3.1, L540: 0.001, the rate of [14]; no other rate is named"),
    weight_decay=Assumed(5e-4, because="not stated; the value of [6]"),
    schedule=Stated("step", where="§3.1, L542: a staircase"),
    milestones=Assumed((30, 60, 90), because="§3.1 lowers the rate after every 30 epochs; counted from the first"),
    decay=Stated(0.1, where="§3.1, L542: by a factor of 0.1"),
    warmup_epochs=Stated(10, where="§3.1, L540: warm-up with 10 period epochs"),
    warmup_from=Assumed(
        0.01,
        because="§3.1 gives a coefficient of 0.01; read as in [6], the share of the rate where the rise begins ([14], "
        "which §3.1 cites, begins at 0.05 of it and takes 20 epochs)",
    ),
    warmup_to=Assumed(1.0, because="not stated; the rise ends at the rate itself, as in [6]"),
    precision=Assumed("bf16", because="not stated; bf16 autocast halves the time"),
)

SMOKE = papers.SMOKE | dict(
    size=Assumed((192, 64), because="the smallest input whose T4 has six rows at stride 2"),
    pad=Assumed(5, because="half the input's size, half the border"),
    warmup_epochs=Assumed(0, because="one epoch has no room for ten"),
)

SMALL = papers.SMALL | dict(
    size=Assumed((192, 64), because="the input that two cores train in minutes; 12 rows make six equal stripes"),
    pad=Assumed(5, because="half the input's size, half the border"),
    epochs=Assumed(8, because=f"the 120 assumed for the paper {papers.SMALL_LIMIT}"),
    batch=Assumed(16, because="a batch of 128 would leave five steps an epoch; 4 identities with 4 images each"),
    rates=Assumed(
        {"rest": 3.5e-4},
        because="the rate of [6]; at the paper's own, 1e-3, the complete model had a lower mAP among training "
        "identities held out after as many epochs",
    ),
    schedule=Assumed("cosine", because="a schedule this short has no room for steps"),
    warmup_epochs=Assumed(0, because="eight epochs have no room for ten; `warmup` takes their place"),
    warmup=Assumed(0.1, because="the first steps of Adam are the least certain"),
)

MEDIUM = dict(
    start=papers.START,
    epochs=Assumed(10, because=f"a twelfth of the 120 assumed for the paper, {papers.MEDIUM_LIMIT}"),
    rates=Assumed({"rest": 3.5e-4}, because="that of budget small, where it was chosen; never run yet"),
    schedule=Assumed("cosine", because="a shortened schedule"),
    warmup_epochs=Assumed(1, because="about a twelfth of the paper's ten"),
)

CROSS_ENTROPY = Loss(
    losses.cross_entropy,
    options=dict(smoothing=Assumed(0.1, because="§2.2, L454 names label smoothing without ε; the value of [6]")),
)
MEAN = Assumed("mean", because="eq. (1) to (3) are all sums over the batch; their mean keeps the proportion")
TRIPLET = Loss(
    losses.triplet,
    weight=Stated(1.0, where="§2.2, L462 and eq. (5): as much as the cross-entropy"),
    options=dict(margin=Assumed(0.3, because="§2.2 names α and no value; that of [6]"), reduction=MEAN),
)
CENTRE = Loss(
    losses.Centre,
    weight=Stated(0.0005, where="§3.1, L550: β = 0.0005"),
    options=dict(
        rate=Assumed(
            1.0,
            because="not stated; [6] moves its centres by SGD at 0.5 on a loss without the ½ of eq. (2), which is this "
            "step",
        ),
        reduction=MEAN,
    ),
)

FULL = Settings(
    model=MROS,
    recipe=RECIPE,
    options=dict(
        stages=Stated((3, 4), where="§2.1, L287: the output of the last two conv blocks"),
        stripes=Stated(6, where="§2.1, L291: s = 6"),
        overlapping=Stated(True, where="§2.1, L291: adjacent stripes in pairs; L297: s − 1 = 5 of them"),
        global_features=Stated(True, where="§2.2, L331 and L372: triplet and centre loss on G"),
    ),
    losses={"cross_entropy": CROSS_ENTROPY, "triplet": TRIPLET, "centre": CENTRE},
)

ECN = papers.reranked(
    Stated("ECN", where="§3.1, L550: ECN [21] as re-ranking method"),
    "not stated; the default of its authors' code",
    k=25,
    t=3,
    q=8,
    distance="rank-list",
)

table = partial(
    Table,
    paper="mros",
    base=FULL,
    datasets=("market1501",),
    protocol=papers.PROTOCOLS,
    printed_as="single-query",
    ap="plain",
    budgets={"smoke": SMOKE, "small": SMALL, "medium": MEDIUM, "full": {}},
)
"""What the three tables share: the paper has one data set."""

TABLE_1 = table(
    name="table1",
    title="Comparison of the settings on Market-1501 (its caption counts three, the table has four)",
    rows=(
        Row(
            "I s Non-Overlapping Stripes",
            options=dict(stages=(4,), overlapping=False, global_features=False),
            note="the baseline: six stripes of T4, all losses on each of them",
        ),
        Row(
            "II s− 1 Overlapping Stripes (OS)",
            options=dict(stages=(4,), global_features=False),
            note="five pairs of stripes of T4, all losses on each of them",
        ),
        Row(
            "III OS with Global Features, G",
            options=dict(stages=(4,)),
            note="II, with triplet and centre loss on the five vectors joined",
        ),
        Row(
            "III OS with Global Features, G",
            variant="stride 2",
            options=dict(stages=(4,), last_stride=2),
            note="T4 of 12 × 4: beside IV at stride 2, so that the step to two resolutions is seen at that stride too",
        ),
        Row("IV Complete MROS", note="III, with T3: the network of Tables 2 and 3"),
        Row(
            "IV Complete MROS",
            variant="stride 2",
            options=dict(last_stride=2),
            note="T3 of 24 × 8 and T4 of 12 × 4: the levels of different resolution of L197",
        ),
        Row(
            "all four levels",
            options=dict(stages=(1, 2, 3, 4)),
            note=f"{OURS}; IV with T1 and T2, every level, of which L245 to L251 say that two are cheaper and better",
        ),
    ),
)

TABLE_2 = table(
    name="table2",
    title="Comparison on Market-1501 without re-ranking",
    rows=(
        Row("Proposed MROS", note="IV of Table 1"),
        Row(
            "PCB [1]",
            model=PCB,
            losses={"cross_entropy": Loss(losses.cross_entropy), "triplet": None, "centre": None},
            variant="under MROS's recipe",
            note="the model that MROS extends, trained as MROS is; the printed number is of PCB's own recipe",
        ),
    ),
)

TABLE_3 = table(
    name="table3",
    title="Comparison on Market-1501 with re-ranking",
    printed_as="re-ranked",
    rows=(
        Row("Proposed MROS", testing=ECN, note="the network of Table 2, re-ranked"),
        Row(
            "Proposed MROS, not re-ranked",
            note="Table 2's row under a label of ours, beside which the claim is decided",
        ),
    ),
    same_as={"Proposed MROS, not re-ranked": ("table2", "Proposed MROS")},
)
