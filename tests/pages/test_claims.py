"""Verdicts: from records that no run has made, with differences that are known."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import made_up
import numpy as np
import pytest

from reidlib import cli, papers
from reidlib.book import frame
from reidlib.evaluation import statistics
from reidlib.pages import claims, figures, tables
from reidlib.pages.formatting import change, interval
from reidlib.papers import standins
from reidlib.runs.estimates import chance
from reidlib.runs.run import recorded_seeds, runs_of
from reidlib.spec import Claim

T5, MARKET = "safenet/table5", "market1501"
GOOD, EQUAL, BAD = "g4,g3,g2", "g4,g3", "g4"
CHANCE = {"epoch": 1, "loss": 1.0, "images": 32, "seconds": 3.0}


def claim(better, worse, table="table5", **changes):
    plain = dict(paper="safenet", table=table, better=better, worse=worse, metric="mAP", quote="q", where="§1")
    return Claim(**plain | changes)


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_RESULTS", str(tmp_path))
    return tmp_path


def write(label, mean, seeds=(0, 1, 2), slug=T5, dataset=MARKET, **changes):
    """Records of a row with this share of first matches at rank 1: 60 queries of 30 persons, no two seeds alike."""
    for seed in seeds:
        run = runs_of(slug, budget="small", dataset=dataset, rows=[label], seeds=[seed])[0]
        draw = np.random.default_rng(seed + 10 * len(label))
        ranks = np.where(draw.random(60) < mean, 1, 4 + draw.integers(0, 3, 60))
        made_up.write(run, made_up.arrays(ranks.tolist()), device_kind="cpu", **changes)


def verdicts(*stated, **where):
    """Of these claims of SafeNet, by comparison."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(papers, "claims", lambda paper="": [one for one in stated if paper in ("", one.paper)])
        found = claims.decisions("safenet", budget="small")
    return {(one.claim.better, one.claim.worse, one.dataset): one for one in found}


def test_a_difference_is_decided_from_three_seeds_and_never_from_two(results):
    write(GOOD, 0.9)
    write(BAD, 0.3)
    write(EQUAL, 0.3, seeds=(0, 1))
    own = dict(datasets=(MARKET,))
    asked = [claim(GOOD, BAD, **own), claim(BAD, GOOD, **own), claim(GOOD, EQUAL, **own), claim("l1", BAD, **own)]
    asked += [claim(GOOD, "g4,g3,g2,g1", **own)]
    found = verdicts(*asked)
    assert {key[:2]: one.verdict for key, one in found.items()} == {
        (GOOD, BAD): "supported",
        (BAD, GOOD): "contradicted",
        (GOOD, EQUAL): "too few seeds",
        ("l1", BAD): "not testable",
        (GOOD, "g4,g3,g2,g1"): tables.NOT_RUN,
    }
    few = found[GOOD, EQUAL, MARKET]
    assert few.here.seeds == 2 and few.here.mean > 0 and math.isnan(few.p), "the number is there, and no verdict"
    runs = {label: runs_of(T5, budget="small", rows=[label], seeds=(0, 1, 2)) for label in (GOOD, BAD)}
    sides = [[run.per_query() for run in runs[label]] for label in (GOOD, BAD)]
    exact = statistics.difference(*sides, np.arange(60) // 2)
    assert found[GOOD, BAD, MARKET].here == exact
    assert found[GOOD, BAD, MARKET].records == [run.key for label in (GOOD, BAD) for run in runs[label]]


def test_all_claims_of_a_paper_are_one_family(results):
    """A second table and a second data set raise p by as much as a second claim of the same table."""
    write(GOOD, 0.6)
    write(BAD, 0.45)
    alone = verdicts(claim(GOOD, BAD, datasets=(MARKET,)))[GOOD, BAD, MARKET]
    other = papers.table("safenet/table4")
    rows = [row.label for row in other.rows][:2]
    for label, mean in zip(rows, (0.5, 0.5), strict=True):
        write(label, mean, slug=other.slug, dataset=other.datasets[0])
    pair = claim(*rows, table="table4", datasets=(other.datasets[0],))
    both = verdicts(claim(GOOD, BAD, datasets=(MARKET,)), pair)
    ps = statistics.holm([one.here.p for one in both.values()])
    assert [one.p for one in both.values()] == ps and alone.p == alone.here.p
    assert both[GOOD, BAD, MARKET].p == pytest.approx(2 * alone.p) or both[GOOD, BAD, MARKET].p == alone.p


def test_a_row_below_a_floor_takes_no_part(results):
    write(GOOD, 0.9)
    write(BAD, 0.3)
    for label in standins.FLOORS:
        write(label, 0.5 if label == standins.STRIPES else 0.1, slug="standins/difficulty", seeds=(0,))
    found = verdicts(claim(GOOD, BAD, datasets=(MARKET,)))[GOOD, BAD, MARKET]
    assert found.verdict == "did not learn" and math.isnan(found.p) and found.here.mean > 0
    runs = claims.Runs(tuple(runs_of(T5, budget="small", rows=[GOOD, BAD], seeds=(0, 1, 2))))
    view = tables.comparison(runs, tables.pd.DataFrame())
    assert standins.STRIPES in view.below[-2] and view.below[-1].endswith(f"({tables.DID_NOT_LEARN}): {BAD}.")
    notes = [line[0].note for line in view.lines()]
    assert [tables.DID_NOT_LEARN in note for note in notes] == [label == BAD for label in (BAD, GOOD)]


def test_a_row_whose_loss_is_that_of_guesses_did_not_learn(results):
    run = runs_of(T5, budget="small", rows=[BAD])[0]
    (name, guess), *_ = chance(run.settings, 30).items()
    data = {**run.data, "identities": 30}
    for loss, lost in ((guess, True), (guess * (1 - 0.2 / math.log(30)), True), (guess * 0.7, False)):
        made_up.write(run, data=data, curve=[{**CHANCE, name: loss}])
        assert tables.did_not_learn([run]) == lost, loss


def test_the_loss_of_guesses_counts_every_classifier():
    for slug in ("mros/table1", "msgwdp/table2", "fmn/table5", "hamr/table6"):
        for run in runs_of(slug, budget="small"):
            assert all(value > 0 for value in chance(run.settings, 30).values()), run.name
    six = runs_of("standins/difficulty", budget="small", rows=[standins.SIX])[0]
    assert chance(six.settings, 30) == {"cross_entropy": pytest.approx(6 * math.log(30))}


def test_other_kinds_of_device_are_named(results):
    write(GOOD, 0.9)
    write(BAD, 0.3)
    run = runs_of(T5, budget="small", rows=[BAD], seeds=[1])[0]
    made_up.write(run, made_up.arrays([1, 4] * 30), device_kind="cuda")
    found = verdicts(claim(GOOD, BAD, datasets=(MARKET,)))[GOOD, BAD, MARKET]
    assert found.devices == ["cpu", "cpu, cuda"] and found.note == "ran on CPU against CPU and GPU"


def test_rows_that_began_from_other_weights_decide_nothing(results):
    write(GOOD, 0.9)
    write(BAD, 0.3, start="imagenet")
    write(EQUAL, 0.3)
    pair, other = claim(GOOD, BAD, datasets=(MARKET,)), claim(GOOD, EQUAL, datasets=(MARKET,))
    one, alone = verdicts(pair, other).values()
    assert one.verdict == "not testable" and one.here.mean > 0 and math.isnan(one.p) and "different weights" in one.note
    assert alone.verdict == "supported" and alone.p == alone.here.p and not alone.note


def test_a_claim_says_that_its_control_is_not_seen(results):
    """The control is asked on the images of the claim, from its own seeds; a seen one is not mentioned."""
    write(GOOD, 0.9)
    write(BAD, 0.3)
    six, plain = standins.STRONG_SIX, standins.STRONG.label
    own = dict(datasets=(MARKET,), control=six)

    def note():
        return verdicts(claim(GOOD, BAD, **own))[GOOD, BAD, MARKET].note

    assert note() == "its control, six stripes, has no record on these images"
    write(plain, 0.4, slug="standins/controls", seeds=(0, 1))
    write(six, 0.9, slug="standins/controls", seeds=(0, 1))
    assert note() == "its control, six stripes, is not seen on these images (too few seeds)"
    for seed in (2, 3):
        write(plain, 0.4, slug="standins/controls", seeds=(seed,))
        write(six, 0.9, slug="standins/controls", seeds=(seed,))
    assert note() == ""
    for label, mean, said in ((six, 0.4, ""), (six, 0.05, " (contradicted)")):
        write(label, mean, slug="standins/controls", seeds=(0, 1, 2, 3))
        assert note() == f"its control, six stripes, is not seen on these images{said}"
    runs = claims.Runs(tuple(runs_of("standins/controls", budget="small", seeds=(0, 1, 2, 3))))
    seen = {one.claim.better: one.verdict for one in claims.effects(runs, standins.CONTROL_STEPS)}
    assert seen[six] == "contradicted" and seen["+Warmup"] == tables.NOT_RUN
    (one,) = verdicts(claim(GOOD, BAD, **own)).values()
    assert "control six stripes: contradicted" in str(claims.view([one])) and one.plain()["control"] == six


def test_a_page_of_claims_answers_first_and_folds_what_has_no_difference(results):
    write(GOOD, 0.9)
    write(BAD, 0.3)
    write(EQUAL, 0.3, seeds=(0, 1))
    own = dict(datasets=(MARKET,))
    asked = [claim(GOOD, "g4,g3,g2,g1", **own), claim(GOOD, EQUAL, **own), claim(BAD, GOOD, **own)]
    asked += [claim(GOOD, BAD, **own, quote="more scales help"), claim("l1", BAD, **own)]
    found = list(verdicts(*asked).values())
    ordered = [one.verdict for one in claims.in_order_of_verdict(found)]
    assert ordered == ["contradicted", "supported", "too few seeds", "not run", "not testable"]
    runs = claims.Runs(tuple(runs_of(T5, budget="small", seeds=(0, 1, 2))))
    said = str(claims.sentence(runs, found))
    assert said.startswith("2 of 5 claims") and "3 seeds a side: 1 supported, 1 contradicted, 0 undecided." in said
    assert said.endswith("Without a test: 1 not run, 1 too few seeds, 1 not testable.")
    shown, rest = claims.view(found).pieces
    lines = list(map(str, shown.pieces[0].values["items"]))
    assert shown.folded == "3 claims with a difference, 2 of them tested, in words and numbers"
    assert lines[0].startswith("✗ contradicted. g4 against ")
    assert lines[1].startswith("✓ supported. ") and "“more scales help” (§1)" in lines[1]
    assert "3 seeds a side" in lines[1] and "[+" in lines[1] and lines[2].startswith("… too few seeds. ")
    assert (
        rest.folded == "Claims without a measured difference: 1 not run, 1 not testable" and "<details" in rest.html()
    )
    figure = figures.forest(found)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["✗ contradicted, mAP", "✓ supported, mAP", "… too few seeds, mAP"]
    drawn = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() in ("o", "D")]
    assert drawn == [one.here.mean for one in claims.in_order_of_verdict(found)[:3]]
    chart = ElementTree.fromstring(figure._repr_svg_())
    assert float(chart.attrib["width"].removesuffix("pt")) <= frame.WIDE, "a phone shows it as a whole"
    title = chart.findtext("{http://www.w3.org/2000/svg}title")
    assert all(f"mAP {change(one.here)} ({claims.signed(one.verdict)})" in title for one in found if one.here)
    assert figures.forest([replace(one, verdict="not testable") for one in found]) is None
    assert figures.forest(found[:1]) is None and "No claim about this table" in str(claims.sentence(runs, found[:1]))


def test_an_end_that_is_not_zero_is_not_shown_as_zero():
    def shown(low, high, **how):
        return interval(SimpleNamespace(low=low, high=high), **how)

    assert shown(-1.26, 2.0, sign=True) == "[−1.3, +2.0]"
    assert shown(0.034, 1.6, sign=True) == "[+0.03, +1.60]" and shown(-0.4, -0.0012, sign=True) == "[−0.400, −0.001]"
    assert shown(0.0, 1.0, sign=True) == "[+0.0, +1.0]" and shown(0.034, 1.6) == "[0.0, 1.6]", "a share has no sides"
    assert shown(-np.inf, 0.00001, sign=True) == "[−inf, +0.000]"


def test_the_seeds_of_both_sides_are_told(results):
    write(GOOD, 0.9, seeds=(0, 1, 2, 3))
    write(BAD, 0.3)
    (found,) = verdicts(claim(GOOD, BAD, datasets=(MARKET,))).values()
    assert claims.seeds_a_side([found]) == "3 to 4 seeds" and claims.seeds_a_side([]) == ""


def test_a_control_is_mentioned_only_beside_a_difference(results):
    own = dict(datasets=(MARKET,), control=standins.MULTI)
    assert verdicts(claim(GOOD, BAD, **own))[GOOD, BAD, MARKET].note == ""
    assert [standins.effect(label) for label in (standins.STRONG_LARGER, standins.MULTI, "+Warmup")] == [
        "input 256×128",
        "multi-query",
        "Warmup",
    ]


def test_a_control_of_networks_tested_elsewhere_is_that_of_the_images_they_are_tested_on(results):
    label, other = standins.CONTROL_STEPS[0]
    for one, mean in ((label, 0.9), (other, 0.2)):
        write(one, mean, slug="standins/controls", dataset="dukemtmc")
    for dataset, verdict in (("market-to-duke", "supported"), ("dukemtmc", "supported"), (MARKET, tables.NOT_RUN)):
        assert claims._controls(dataset, "small", "stand-in").get(label) == verdict
    assert claims._controls("msmt17", "small", "stand-in") == claims._controls(MARKET, "full", "stand-in") == {}


def test_seeds_are_those_of_the_records(results):
    assert recorded_seeds(T5, budget="small", dataset=MARKET) == [0]
    write(GOOD, 0.9, seeds=(1, 4))
    assert recorded_seeds(T5, budget="small", dataset=MARKET) == [1, 4]


def test_the_command_prints_every_claim_with_its_records(results, capsys):
    assert cli.main(["claims", "safenet", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {one["verdict"] for one in listed} <= {tables.NOT_RUN, "not testable"}
    stated = next(one for one in papers.claims("safenet") if one.table == "table5" and one.metric == "mAP")
    write(stated.better, 0.9)
    write(stated.worse, 0.3)
    assert cli.main(["claims", "safenet", "--json"]) == 0
    (own,) = (
        one
        for one in json.loads(capsys.readouterr().out)
        if (one["table"], one["dataset"], one["quote"], one["metric"]) == ("table5", MARKET, stated.quote, "mAP")
    )
    assert own["verdict"] == "supported" and own["low"] < own["difference"] < own["high"] and own["p"] < 0.05
    assert own["seeds"] == [3, 3] and own["devices"] == ["cpu", "cpu"] and len(own["records"]) == 6
    assert cli.main(["claims"]) == 0
    assert "supported" in capsys.readouterr().out
    assert cli.main(["claims", "nobody"]) == 1


def test_rows_that_test_the_same_networks_are_compared_network_by_network(results):
    strong, reranked = standins.STRONG.label, "+Reranking"
    write(strong, 0.5, slug="standins/controls", seeds=(0, 1, 2))
    write(reranked, 0.6, slug="standins/controls", seeds=(1, 2, 3))
    asked = dict(budget="small", dataset=MARKET, rows=[strong, reranked], seeds=(0, 1, 2, 3))
    runs = claims.Runs(tuple(runs_of("standins/controls", **asked)))
    here = tables.difference_of(tables.finished(runs, reranked), tables.finished(runs, strong), "ap")
    both = [
        [run.per_query() for run in tables.finished(runs, label) if run.seed in (1, 2)] for label in (reranked, strong)
    ]
    assert here == statistics.difference(*both, np.arange(60) // 2, same_networks=True) and here.seeds == 2
