"""The tables and figures of a chapter, against runs whose numbers were made up by hand."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from reidlib import losses, papers
from reidlib.evaluation import statistics
from reidlib.models.ide import IDE
from reidlib.models.safenet import SafeNet
from reidlib.pages import claims, declared, figures, tables
from reidlib.pages.chapter import Chapter, against, ladder, variants
from reidlib.pages.render import TableView
from reidlib.runs.run import read_runs, reported_numbers
from reidlib.spec import OURS, Assumed, Claim, FrozenStage, Loss, Recipe, Row, Settings, Stated, Table

PROTOCOL = "market1501-single-query"
CROSS_ENTROPY = Loss(losses.cross_entropy)


@dataclass
class Run:
    table: Table
    row: Row
    ap: np.ndarray | None
    seed: int = 0
    budget: str = "small"
    dataset: str = "market1501"
    source: str = "stand-in"
    protocol: str = PROTOCOL

    @property
    def key(self):
        return f"{self.row.label}/{self.row.variant}/{self.seed}"

    @property
    def network(self):
        return self.key

    def state(self):
        return "missing" if self.ap is None else "finished"

    @property
    def settings(self):
        return self.table.settings(self.row, self.budget)

    def identities(self):
        return np.arange(len(self.ap)) // 2

    def per_query(self, name):
        return {"ap": self.ap, "ap_trapezoid": self.ap - 0.02, "rank1": (self.ap > 0.5).astype(float)}[name]

    def command(self):
        return ["reid", "train", self.table.slug, "--row", self.row.label, "--variant", self.row.variant]

    def record(self):
        metrics = {name: 0.0 for name in ("rank1", "rank5", "rank10", "rank20")}
        metrics |= {"mAP": 100 * self.ap.mean(), "mAP_trapezoid": 100 * self.ap.mean() - 2}
        data = dict(name="m", source="s", digest="d", images={"train": 160}, identities=5)
        plain = dict(
            device="a machine",
            device_kind="cpu",
            commit="c",
            versions={},
            images_per_second=1.0,
            start="scratch",
            status="finished",
            ok=True,
        )
        curve = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": self.ap.mean()}]
        made = dict(seconds=60.0 * (2 + self.seed), network=f"{self.key}", data=data, curve=curve)
        return SimpleNamespace(metrics={PROTOCOL: metrics}, **made, **plain)


class Runs:
    def __init__(self, table, scores, seeds=(0,)):
        """scores: mean AP by (label, variant); rows without one are missing."""
        spread = 0.05 * np.linspace(-1, 1, 41)
        made = [(row, scores.get((row.label, row.variant))) for row in table.rows]
        self.table = table
        self.runs = [Run(table, row, None if ap is None else ap + spread, seed) for row, ap in made for seed in seeds]

    def records(self):
        return [(run, run.record()) for run in self.runs if run.ap is not None]

    def repeated(self):
        return []

    def frame(self):
        lines = []
        for run in self.runs:
            line = {"row": run.row.label, "variant": run.row.variant, "seed": run.seed, "key": run.key}
            line["state"] = run.state()
            lines.append(line | (run.record().metrics[PROTOCOL] if run.ap is not None else {}))
        return pd.DataFrame(lines)


def declare(*rows, **changes):
    base = Settings(model=IDE, recipe=Recipe(epochs=Stated(80, where="§1")), losses={"cross_entropy": CROSS_ENTROPY})
    plain = dict(paper="p", name="table1", title="t", datasets=("market1501",), protocol=PROTOCOL, printed_as="")
    budgets = {"small": dict(epochs=Assumed(2, because="short"), batch=Assumed(16, because="small")), "full": {}}
    return Table(**{**plain, "ap": "plain", "budgets": budgets, "base": base, "rows": rows, **changes})


def printed(**numbers):
    return pd.DataFrame({"mAP": {label.replace("_", " "): value for label, value in numbers.items()}}, dtype=float)


OURS_ROW, RELEASED, OTHER = (
    Row("Ours"),
    Row("Ours", dict(stripes=2), variant="as-released"),
    Row("Plain", dict(depth=101)),
)
SCORES = {("Ours", "as-published"): 0.60, ("Ours", "as-released"): 0.40, ("Plain", "as-published"): 0.30}


@pytest.fixture
def two():
    """One label in two variants beside another row."""
    return Runs(declare(OTHER, OURS_ROW, RELEASED), SCORES)


# Rows are labels with variants ----------------------------------------------------------------------------------------


def test_two_variants_of_a_label_are_never_pooled(two):
    assert tables.pooled(two, ("Ours", "as-released")).mean == pytest.approx(40)
    assert tables.pooled(two, "Ours").mean == tables.pooled(two, ("Ours", "as-published")).mean == pytest.approx(60)
    lines = tables.comparison(two, printed(Plain=31, Ours=61)).texts()
    assert [line[:2] for line in lines] == [["Plain", "31.0"], ["Ours", "61.0"], ["Ours (as-released)", "–"]]
    assert [line[-2] for line in lines] == ["30.0", "60.0", "40.0"]
    assert lines[2][-1].startswith("[38")


def test_a_difference_between_two_variants_of_one_label(two):
    assert variants(two.table) == [(("Ours", "as-released"), ("Ours", "as-published"))]
    steps = ladder(two.table)
    assert steps == [("Ours", "Plain"), *variants(two.table)] == against(two.table, "Plain")
    lines = tables.differences(two, printed(Plain=31, Ours=61), steps).texts()
    assert lines[0] == ["Ours", "Plain", "+30.0", "+30.0", "[+30.0, +30.0]"]
    assert lines[1] == ["Ours (as-released)", "Ours", "–", "−20.0", "[−20.0, −20.0]"]


def test_a_label_alone_is_the_row_as_published_or_the_only_one():
    runs = Runs(declare(OURS_ROW, RELEASED, Row("PCB", dict(depth=101), variant="under our recipe")), SCORES)
    assert tables.row_of(runs, "Ours") is OURS_ROW and tables.row_of(runs, ("Ours", "as-released")) is RELEASED
    assert tables.row_of(runs, "PCB").variant == "under our recipe"
    assert tables.row_of(runs, "unknown") is None and tables.row_of(runs, ("Ours", "unknown")) is None


def test_seeds_are_pooled_within_a_variant():
    runs = Runs(declare(OURS_ROW, RELEASED), SCORES, seeds=(0, 1))
    exact = statistics.difference([runs.runs[0].ap] * 2, [runs.runs[2].ap] * 2, runs.runs[0].identities())
    assert tables.paired(runs, "Ours", ("Ours", "as-released")) == exact and exact.seeds == 2
    runs.runs[3].ap = None
    assert tables.paired(runs, "Ours", ("Ours", "as-released")).seeds == 1, "the seeds of the two are independent"
    runs.runs[2].ap = None
    assert tables.paired(runs, "Ours", ("Ours", "as-released")) is None


def test_figures_keep_variants_apart(two):
    figure = figures.ablation(two, printed(Plain=31, Ours=61))
    left, right = figure.axes
    assert [text.get_text() for text in left.texts] == ["Plain", "Ours", "Ours (as-released)"]
    dots = [[line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"] for axes in figure.axes]
    assert dots[0] == [31, 61], "no number is printed for what the released code does"
    assert dots[1] == pytest.approx([30, 60, 40])
    words = figure._repr_svg_()
    assert "Plain: paper 31.0, here 30.0" in words and "Ours (as-released): here 40.0" in words
    panels = Chapter(two).curves().axes
    assert [axes.get_title() for axes in panels] == ["as published", "variants"]
    assert [line.get_ydata()[-1] for axes in panels for line in axes.lines] == pytest.approx([0.3, 0.6, 0.4])
    seeds = Runs(declare(OURS_ROW), SCORES, seeds=(0, 1))
    seeds.runs[1].ap = seeds.runs[1].ap - 0.4
    (axes,) = Chapter(seeds).curves().axes
    assert axes.lines[0].get_ydata() == pytest.approx([2, 0.4]) and axes.get_legend().get_title().get_text()
    band = axes.collections[0].get_paths()[0].vertices
    assert sorted({round(y, 6) for x, y in band if x == 2}) == [0.2, 0.6], "from the lowest seed to the highest"
    assert len(figures.ablation(two, pd.DataFrame()).axes) == 1, "nothing printed: no panel for it"
    (only,) = figures.ablation(Runs(two.table, {("Plain", "as-published"): 0.3}), pd.DataFrame()).axes
    assert [text.get_text() for text in only.texts].count("not run") == 2, "a line without a mark says why"


# What the paper prints ------------------------------------------------------------------------------------------------


def test_rows_of_others_stand_in_the_papers_order(monkeypatch):
    table, others = declare(OURS_ROW, RELEASED), {"A": "why not", "Plain": "why not", "elsewhere": "why not"}
    monkeypatch.setattr(tables.papers, "not_retrained", lambda asked: others if asked is table else {})
    view = tables.comparison(Runs(table, SCORES), printed(A=10, Ours=61, Plain=33))
    lines = view.texts()
    rows = [["A", "10.0"], ["Ours", "61.0"], ["Ours (as-released)", "–"], ["Plain", "33.0"]]
    assert [line[:2] for line in lines] == rows
    assert set(lines[0][2:]) == set(lines[3][2:]) == {"not retrained"}
    assert view.below[0] == "Not retrained, 2 of them: why not." and view.below[1].startswith("Floors"), (
        "a row that this data set's table does not print is not counted"
    )


def test_a_label_of_others_may_be_retrained_as_a_variant(monkeypatch):
    monkeypatch.setattr(tables.papers, "not_retrained", lambda asked: {"PCB": "of another recipe"})
    mine = Row("PCB", dict(depth=101), variant="under our recipe")
    table = declare(OURS_ROW, mine)
    runs = Runs(table, SCORES | {("PCB", "under our recipe"): 0.2})
    lines = tables.comparison(runs, printed(PCB=30, Ours=61)).texts()
    assert [line[:2] for line in lines][:2] == [["PCB", "30.0"], ["PCB (under our recipe)", "–"]]
    assert lines[1][-2] == "20.0" and lines[0][-1] == "not retrained"
    (difference,) = tables.differences(runs, printed(PCB=30, Ours=61), [("Ours", "PCB")]).texts()
    assert difference[2:4] == ["–", "+40.0"], "the printed number is not that of the row trained here"


def test_lost_numbers_are_called_lost():
    lost = f"{OURS}: the printed table is lost"
    runs = Runs(declare(Row("Ours", note=lost), Row("Plain", dict(depth=101)), numbers_lost=True), SCORES)
    view = tables.comparison(runs, pd.DataFrame())
    assert [line[1] for line in view.texts()] == ["lost with the table"] * 2
    assert view.below[0] == f"Ours: {lost}." and view.frame["row"][0].note == ""
    assert tables.differences(runs, pd.DataFrame(), [("Ours", "Plain")]).texts()[0][2] == "lost"
    silent = Runs(declare(Row("Ours", note="label of L9")), SCORES)
    assert tables.comparison(silent, pd.DataFrame()).texts()[0][1] == "no number found"


def test_a_column_that_the_paper_prints_is_measured_too():
    runs = Runs(declare(OURS_ROW, OTHER), SCORES)
    frame = pd.DataFrame({"rank20": {"Ours": 97.0}, "minutes": {"Ours": 100.0, "Plain": 60.0}})
    view = tables.comparison(runs, frame)
    names = [column.name for column in view.columns[1:]]
    assert names == ["R20", "minutes", "R1", "R5", "R10", "R20", "mAP", "minutes", "mAP, 95 % interval"]
    assert view.texts()[0][-2] == "2.0", "sixty seconds twice"


def test_a_difference_is_grey_until_it_decides_something():
    scores = {("Ours", "as-published"): 0.6, ("Plain", "as-published"): 0.3, ("Ours", "as-released"): 0.6}
    steps = [("Ours", "Plain"), (("Ours", "as-released"), "Ours")]
    for seeds, grey in {(0,): [True, True], (0, 1, 2): [False, True]}.items():
        view = tables.differences(Runs(declare(OURS_ROW, OTHER, RELEASED), scores, seeds), printed(Ours=61), steps)
        assert [line[-1].grey for line in view.lines()] == grey


def test_one_note_of_several_rows_is_written_once():
    runs = Runs(declare(*(Row(name, note="label of ours") for name in "AB"), Row("C", note="another")), {})
    assert tables.comparison(runs, pd.DataFrame()).below[:2] == ("A; B: label of ours.", "C: another.")


def test_floors_follow_the_rule_of_the_table():
    """From the committed records; FMN's mAP is that of the trapezoids."""
    place = dict(budget="small", dataset="market1501")
    plain, trapezoids = (tables.floors(read_runs(slug, **place).runs[0]) for slug in ("safenet/table5", "fmn/table1"))
    made = tables.recorded_runs("standins/difficulty", **place, source="stand-in", rows=[tables.standins.STARTED])
    for found, rule in ((plain, "mAP"), (trapezoids, "mAP_trapezoid")):
        by_hand = np.mean([run.record().metrics[run.protocol][rule] for run in made])
        assert found[tables.standins.STARTED] == pytest.approx(by_hand)
    assert plain[tables.standins.STARTED] > trapezoids[tables.standins.STARTED]


def test_a_difference_of_rows_that_began_apart_or_did_not_learn_is_grey(monkeypatch):
    runs, pair = Runs(declare(OURS_ROW, OTHER), SCORES, seeds=(0, 1, 2)), [("Ours", "Plain")]

    def grey():
        (line,) = tables.differences(runs, printed(Ours=61), pair).lines()
        return [cell.grey for cell in line[3:]]

    assert grey() == [False, False], "the interval is far above zero"
    monkeypatch.setattr(tables, "floors", lambda run: {tables.standins.FLOORS[0]: 31.0})
    assert grey() == [True, True], "Plain is below a floor"
    monkeypatch.undo()
    record = Run.record
    monkeypatch.setattr(Run, "record", lambda run: SimpleNamespace(**vars(record(run)) | {"start": run.row.label}))
    assert grey() == [True, True], "each began from weights of its own"


def test_a_row_below_the_weights_from_which_it_began_is_named(monkeypatch):
    monkeypatch.setattr(tables, "floors", lambda run: {tables.standins.STARTED: 50.0})
    runs = Runs(declare(OURS_ROW, OTHER), SCORES)
    begun = [(run, SimpleNamespace(**vars(record) | {"start": "start"})) for run, record in runs.records()]
    assert not any("Lower mAP than the start" in line for line in tables.comparison(runs, printed(Ours=61)).below)
    monkeypatch.setattr(runs, "records", lambda: begun)
    assert (
        tables.comparison(runs, printed(Ours=61)).below[-1]
        == "Lower mAP than the start, the weights from which they began: Plain."
    )


def test_map_follows_the_rule_of_the_table():
    runs = Runs(declare(OURS_ROW, ap="trapezoid"), SCORES)
    (line,) = tables.comparison(runs, printed(Ours=61)).texts()
    assert line[-2] == "58.0" and line[-1].startswith("[5"), "mean and interval are of one rule"


# Recipe ---------------------------------------------------------------------------------------------------------------


def recipe_of(table):
    return {line[0]: line[1:] for line in tables.recipe(Runs(table, {})).texts()}


def test_the_mean_over_splits_takes_each_split_once(two):
    """60, 50 and 70 by hand: 60 ± 10; a split whose second seed is missing is left out."""
    table = declare(OTHER, OURS_ROW)
    by_split = [{("Ours", "as-published"): ap} for ap in (0.6, 0.5, 0.7)]
    splits = [Runs(table, scores, seeds=(0, 1)) for scores in by_split] + [Runs(table, {}, seeds=(0, 1))]
    half = Runs(table, by_split[0], seeds=(0, 1))
    half.runs[-1].ap = None
    lines = tables.over_splits([*splits, half], printed(Plain=31, Ours=61)).texts()
    assert lines[0] == ["Plain", "31.0", *["not run"] * 4, "0 of 5"]
    assert (lines[1][:2], lines[1][-2:]) == (["Ours", "61.0"], ["60.0 ± 10.0", "3 of 5"])


def test_the_recipe_shows_the_source_of_every_value():
    before = Settings(IDE, Recipe(epochs=Stated(40, where="§2")), {"cross_entropy": CROSS_ENTROPY})
    base = Settings(
        model=IDE,
        recipe=Recipe(epochs=Stated(80, where="§1")),
        options=dict(stripes=Assumed(2, because="two")),
        losses={
            "cross_entropy": Loss(
                losses.cross_entropy,
                weight=Stated(1.0, where="§3"),
                options=dict(smoothing=Assumed(0.1, because="usual")),
            )
        },
        first=FrozenStage(before, into="grn"),
    )
    ranked = Row(
        "re-ranked",
        testing=dict(reranking="k-reciprocal", reranking_options=dict(k1=Assumed(20, because="default"))),
        recipe=dict(size=Assumed((192, 64), because="lost")),
    )
    lines = recipe_of(declare(Row("Ours"), ranked, base=base))
    assert lines["epochs"] == ["2", "changed for the budget", "short (paper: 80, §1)"]
    assert lines["network: stripes"] == ["2", "assumed", "two"]
    assert lines["loss cross_entropy: weight"] == ["1.0", "stated", "§3"]
    assert lines["loss cross_entropy: smoothing"] == ["0.1", "assumed", "usual"]
    assert lines["re-ranking: k1 (re-ranked)"] == ["20", "assumed", "default"]
    assert lines["size (re-ranked)"] == ["(192, 64)", "assumed", "lost"]
    assert any("IDE is trained first" in name and "grn" in name for name in lines)


def test_a_training_before_shows_what_it_has_otherwise():
    before = Settings(IDE, Recipe(momentum=Stated(0.8, where="§2")), {"cross_entropy": CROSS_ENTROPY})
    base = Settings(IDE, Recipe(), {"cross_entropy": CROSS_ENTROPY}, first=FrozenStage(before, into="grn"))
    lines = tables.recipe(Runs(declare(Row("Ours"), base=base), {})).texts()
    heading = next(number for number, line in enumerate(lines) if "is trained first" in line[0])
    assert lines[heading + 1] == ["momentum", "0.8", "stated", "§2"] and len(lines) == heading + 2


# Chapter --------------------------------------------------------------------------------------------------------------


def test_a_chapter_answers_only_for_its_own_table_and_data_set(two, monkeypatch):
    own, other = (Claim("p", name, "Ours", "Plain", metric="mAP", quote="q", where="w") for name in ("table1", "x"))
    asked = []

    def decided(paper, **where):
        asked.append((paper, where))
        return claims.decide([(own, "market1501", two), (own, "dukemtmc", None), (other, "market1501", None)])

    monkeypatch.setattr(claims, "decisions", decided)
    page = Chapter(two)
    assert [(one.claim, one.dataset) for one in page.claims] == [(own, "market1501")]
    head, forest, one_by_one = page.answer()
    assert "No claim about this table is decided" in str(head) and "1 too few seeds" in str(head)
    assert len(forest.axes[0].get_yticks()) == 1 and str(one_by_one).count("too few seeds") == 1
    assert asked == [("p", {"budget": "small", "source": "stand-in"})]
    monkeypatch.setattr(claims, "decisions", lambda paper, **where: [])
    (alone,) = Chapter(two).answer()
    assert "No claim to decide" in str(alone) and "60.0" in str(alone)


def test_a_chapter_finds_what_its_paper_prints_and_claims():
    runs = read_runs("safenet/table5", budget="small")
    page = Chapter(runs)
    assert page.reported.equals(reported_numbers(runs.table, "market1501")) and len(page.reported)
    stated = [claim for claim in papers.claims("safenet") if claim.table == "table5"]
    assert [one.claim for one in page.claims] == stated


def test_the_limits_are_those_of_budget_seeds_and_images(two):
    said = str(Chapter(two).limits())
    assert "2 epochs in batches of 16 at 256×128, from scratch: about 20 steps" in said
    assert "80 epochs in batches of 32 at 256×128, from ImageNet weights" in said
    assert "One seed hides the spread" in said and "rendered people are not photographs" in said
    two.runs[0].ap = None
    assert "1 of the 3 rows" in str(Chapter(two).limits())
    assert "2 seeds show" in str(Chapter(Runs(two.table, SCORES, seeds=(0, 1))).limits())


def test_rows_with_an_input_of_their_own_are_said():
    larger = Row("Larger", recipe=dict(size=Assumed((384, 128), because="larger")))
    said = [str(Chapter(Runs(declare(*rows), {})).limits()) for rows in ((OTHER,), (OTHER, larger))]
    assert ["input of their own keep it: 384×128." in one for one in said] == [False, True]


def test_the_sources_are_folded_and_a_column_says_what_differs_between_records(two):
    page = Chapter(two).sources()
    assert page.html().startswith("<details") and "Ours (as-released)" in str(page)
    assert "--variant as-released" in str(page) and "device a machine" in str(page)
    assert "\ndevice\t" not in str(page) and "\tdevice\t" not in str(page)
    made = [(run, run.record()) for run in two.runs]
    made[1][1].device = "another one"
    two.records = lambda: made
    page = Chapter(two).sources()
    records = next(piece for piece in page.pieces if isinstance(piece, TableView))
    assert records.frame["device"].tolist() == ["a machine", "another one", "a machine"]
    assert "device a machine" not in str(page)


def test_rows_that_began_from_other_weights_are_named_below_the_table(two):
    reported, words = printed(Ours=90), "Began from other weights"
    assert words not in str(tables.comparison(two, reported))
    made = [(run, run.record()) for run in two.runs]
    made[0][1].start = "start"
    two.records = lambda: made
    said = f"{words}, so that a difference from the other rows is one of the weights too: Plain (start)."
    assert said in str(tables.comparison(two, reported))


def test_rows_of_two_trainings_of_one_network_are_named_below_the_table(two):
    made, words = [(run, run.record()) for run in two.runs], "The same network, trained for each"
    two.records = lambda: made
    for _, record in made[:2]:
        record.network, record.curve = "one", made[0][1].curve
    assert words not in str(tables.comparison(two, printed(Ours=90)))
    made[1][1].curve = [{"epoch": 1, "loss": 2.5}]
    said = str(tables.comparison(two, printed(Ours=90)))
    assert f"{words} side on a machine without the weights of the other: Plain against Ours." in said


def test_the_rows_as_data_have_what_each_changes():
    table = declare(OURS_ROW, RELEASED, OTHER, Row("Short", recipe=dict(batch=8)))
    frame = declared.settings(table, "small")
    assert frame.columns.tolist() == ["depth", "stripes", "batch"]
    assert frame.index.tolist() == ["common settings", "Ours", "Ours (as-released)", "Plain", "Short"]
    assert frame.to_numpy().tolist() == [
        [50, 1, 16],
        ["", "", ""],
        ["", 2, ""],
        [101, "", ""],
        ["", "", 8],
    ]
    other = declare(Row("Ours"), Row("SafeNet", model=SafeNet))
    frame = declared.settings(other, "small")
    assert frame.loc["SafeNet", "stripes"] == "–" and frame.loc["common settings", "channels"] == "–"


def test_a_row_of_ones_own_stands_apart_below_the_others(two):
    own = Run(two.table, Row("Ours", dict(stripes=4), variant="your own"), 0.5 + 0.05 * np.linspace(-1, 1, 41))
    comparison, against_others = Chapter(two).beside([own]).tables()
    lines = comparison.texts()
    assert lines[-2] == [tables.OWN_ROW] and lines[-1][:2] == ["Ours (your own)", "–"] and lines[-1][-2] == "50.0"
    assert lines[:-2] == tables.comparison(two, Chapter(two).reported).texts()
    assert [line[:2] for line in against_others.texts()] == [["Ours (your own)", name] for name in ("Plain", "Ours")]
    assert [line[3] for line in against_others.texts()] == ["+20.0", "−10.0"]
    assert "options of IDE: depth=50" in str(Chapter(two).beside(()))
