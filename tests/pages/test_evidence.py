"""The pages of calibration and of the agreement of order: without records, and with made-up ones."""

import made_up
import numpy as np
import pytest

from reidlib.evaluation import calibration as rule
from reidlib.pages import agreement, calibration, difficulty
from reidlib.papers import standins
from reidlib.runs.run import read_runs, runs_of

T5, MARKET = "safenet/table5", "market1501"


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_RESULTS", str(tmp_path))
    return tmp_path


def write(slug, label, share, seeds, persons=20):
    """Records of a row with this share of first matches at rank 1, of two queries a person."""
    for seed in seeds:
        run = runs_of(slug, budget="small", rows=[label], seeds=[seed])[0]
        draw = np.random.default_rng([seed, len(label)])
        ranks = np.where(draw.random(2 * persons) < share, 1, 4)
        made_up.write(run, made_up.arrays(ranks.tolist()))


def test_without_records_the_pages_say_what_is_missing():
    said = str(calibration.page("small"))
    assert "no headline table has two rows with two seeds" in said and "No configuration has 10 seeds" in said
    assert "No table has three rows" in str(agreement.page("small"))


def test_calibration_reads_components_and_all_splits():
    for label, share in (("g4", 0.5), ("g4,g3", 0.6)):
        write(T5, label, share, range(2))
    write("standins/precision", "float32", 0.5, range(10))
    ((name, many, side, answer), *_) = found = list(calibration.splits("small"))
    assert name.startswith("standins/precision: float32") and [line[2] for line in found] == [1, 2, 3]
    made = runs_of("standins/precision", budget="small", rows=["float32"], seeds=range(10))
    sides = [run.per_query("ap_trapezoid" if run.table.ap == "trapezoid" else "ap") for run in made]
    assert (many, side) == (10, 1) and answer == rule.splits(sides, made[0].identities(), 1)
    ((rows, pair),) = calibration.pairs("small").items()
    assert rows == f"{T5}: g4,g3 against g4" and pair.persons == 20
    first, second = (runs_of(T5, budget="small", rows=[label], seeds=(0, 1)) for label in ("g4,g3", "g4"))
    name = "ap" if first[0].table.ap == "plain" else "ap_trapezoid"
    exact = rule.components(*([run.per_query(name) for run in side] for side in (first, second)), np.arange(40) // 2)
    assert pair == exact
    whole = calibration.together([pair])
    assert (whole.seed, whole.person) == pytest.approx((exact.seed, exact.person))
    simulated = next(view for view in calibration.page("small", draws=50).tables() if "Simulated" in view.caption)
    assert [line[0] for line in simulated.texts()] == [str(seeds) for seeds in calibration.SEEDS]


def test_a_control_is_seen_not_seen_or_open():
    strong, six = standins.STRONG.label, standins.STRONG_SIX
    for label, share in (("Standard baseline", 0.2), ("+Warmup", 0.9), (strong, 0.5), (six, 0.5)):
        write("standins/controls", label, share, range(3), persons=60)
    write("standins/controls", standins.STRONG_LARGER, 0.9, range(2), persons=60)
    runs = read_runs("standins/controls", budget="small", seeds=(0, 1, 2))
    steps = [("+Warmup", "Standard baseline"), (six, strong), (standins.STRONG_LARGER, strong), ("+BNNeck", strong)]
    lines = difficulty.controls([runs], steps, "c").texts()
    assert lines[0][:2] == ["+Warmup against Standard baseline", "Market-1501"] and lines[0][-1] == "+1.2"
    assert [line[3] for line in lines] == ["seen", "not seen", "too few seeds", "not run"]


def test_tau_is_that_of_the_rows_with_a_record():
    """The printed order of SafeNet's first four rows, kept in seed 0 and with its ends exchanged in seed 1."""
    own = runs_of(T5, budget="small")[0].table
    labels = ["g4", "g4,g3", "g4,g3,g2", "g4,g3,g2,g1"]
    printed = agreement._printed(own, MARKET)["mAP"][labels]
    order = list(printed.sort_values().index)
    assert printed.is_unique
    for seed, names in ((0, order), (1, [order[3], *order[1:3], order[0]])):
        for place, label in enumerate(names):
            run = runs_of(T5, budget="small", rows=[label], seeds=[seed])[0]
            made_up.write(run, made_up.arrays([1] * (place + 1) + [4] * (8 - place)))
    (line,) = (texts for texts in agreement.page("small").texts() if texts[0] == T5)  # others share its records
    assert line[:3] == [T5, MARKET, f"{(1 - 4 / 6) / 2:.2f}"], "five of six pairs are exchanged"
    assert line[3] == "–", "two seeds have no interval"
    assert line[5:] == ["mAP", "4", "2"]
    apart = runs_of(T5, budget="small", rows=["gC4,gC3,gC2,gC1 (C=128)"], seeds=[0, 1])
    for run in apart:
        made_up.write(run, made_up.arrays([1] * 2 + [4] * 7), start="another")
    assert line in agreement.page("small").texts(), "a row that began from other weights is not compared"
    for run in apart:
        made_up.write(run, made_up.arrays([1] * 2 + [4] * 7))
    assert ["5", "2"] in [texts[6:] for texts in agreement.page("small").texts() if texts[0] == T5]


def test_all_splits_of_the_committed_seeds_hold_the_promise(monkeypatch):
    """No two groups of one row differ: from three seeds a side at most 6 % may be called different, each row once."""
    monkeypatch.delenv("REID_RESULTS")
    found = list(calibration.splits("small"))
    assert len({(name, side) for name, _, side, _ in found}) == len(found) >= 3
    assert any("safenet/table5: g4, " in name and many == 10 for name, many, _, _ in found)
    assert all(answer.found <= 6 for _, _, side, answer in found if side >= 3)


def test_the_committed_seeds_of_one_configuration_agree_on_two_kinds_of_device(monkeypatch):
    monkeypatch.delenv("REID_RESULTS")
    (found,) = [line for line in calibration.devices("small") if line[0].startswith("safenet/table5: g4, ")]
    runs = runs_of(T5, budget="small", rows=["g4"], seeds=range(10))
    means = {"cpu": [], "cuda": []}
    for run in runs:
        record = run.record()
        means[record.device_kind].append(record.metrics[run.protocol]["mAP"])
    assert found[1:3] == ("cpu against cuda", "7/3") and [len(side) for side in means.values()] == [7, 3]
    assert found[3].mean == pytest.approx(np.mean(means["cpu"]) - np.mean(means["cuda"]), abs=0.01)
    assert found[3].holds_zero
