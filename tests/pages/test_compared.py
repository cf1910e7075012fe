"""The page "The five compared": without records, with one seed, with several; the sorting of its tables."""

import shlex

import made_up
import numpy as np
import pytest
from matplotlib.figure import Figure

from reidlib import cli, paths
from reidlib.evaluation import statistics
from reidlib.pages import compared
from reidlib.pages.compared import CONTROLS, DIFFICULTY
from reidlib.pages.render import Cell, TableView, Text
from reidlib.papers import standins
from reidlib.runs.run import runs_of
from reidlib.training.cost import Cost

PLACE = ("small", "market1501")
STRONG = standins.STRONG_BASELINE


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_RESULTS", str(tmp_path))
    monkeypatch.setattr(compared, "cost_of", lambda settings: Cost(30_000_000, 5_000_000, 3_850_000_000, 1024))


def write(slug, label, share, seeds=range(3), persons=30, dataset="market1501"):
    """Records of a row with this share of first matches at rank 1, of two queries a person."""
    for seed in seeds:
        run = runs_of(slug, budget="small", rows=[label], seeds=[seed], dataset=dataset)[0]
        ranks = np.where(np.random.default_rng([seed, len(label)]).random(2 * persons) < share, 1, 4)
        made_up.write(run, made_up.arrays(ranks.tolist()))


def line(view: TableView, name: str) -> dict[str, str]:
    return dict(zip(view.header(), next(texts for texts in view.texts() if texts[0] == name), strict=True))


def test_without_a_record_a_command_stands_in_the_place_of_a_table(shown_by):
    shown = shown_by("study/compared")
    assert not any(isinstance(thing, Figure | TableView) for thing in shown)
    texts = [str(thing) for thing in shown if type(thing) is Text]
    assert "none of the 5 systems has a record" in texts[0]
    commands = [line.partition(" fills the table: reid ")[2].strip(".") for line in texts if "fills the table" in line]
    plans = [cli.parser().parse_args(shlex.split(line)) for line in commands]
    assert [plan.dataset for plan in plans] == [["market1501"], ["market1501"], ["dukemtmc"]]
    assert plans[2].tables == ["standins/common", "standins/common-baselines"]
    assert {DIFFICULTY, CONTROLS, *standins.HEADLINES} - set(plans[0].tables) == {"fmn/table5"}, "its Table 2 is meant"
    assert all((plan.budget, plan.seeds) == ("small", [0, 1, 2]) for plan in plans)


def test_one_record_brings_the_whole_table_back(shown_by):
    write("standins/common", standins.PLAIN_BASELINE, 0.4, seeds=[0], dataset="dukemtmc")
    shown = shown_by("study/compared")
    (view,) = (thing for thing in shown if isinstance(thing, TableView))
    assert view.caption.endswith("common recipe, dukemtmc, budget small") and 'class="study sortable"' in view.html()
    assert {*compared.SIMPLE, standins.PLAIN_BASELINE, STRONG, *standins.SYSTEMS} == set(view.frame["row", ""])
    unrun = [texts[0] for texts in view.texts() if texts.count(compared.NOT_YET) == 6]
    assert len(unrun) == len(view.texts()) - 1 and standins.PLAIN_BASELINE not in unrun
    assert "layout of market1501, dukemtmc" in str(shown[0])


def test_a_table_of_own_recipes_has_the_printed_numbers():
    write(DIFFICULTY, standins.TRAINED, 0.4, seeds=[0])
    write("standins/common", standins.PLAIN_BASELINE, 0.4, seeds=[0])
    own = compared.comparison(compared.own_recipes(*PLACE), compared.OWN)
    common = compared.comparison(compared.common_recipe(*PLACE), compared.COMMON)
    assert "paper, real images: mAP" in own.header() and "paper, real images: mAP" not in common.header()


def test_one_seed_has_a_gain_without_an_interval():
    for label, share in (("g4", 0.3), (standins.SYSTEMS["SafeNet"][1][1], 0.9)):
        write("safenet/table5", label, share, seeds=[0])
    entries = compared.own_recipes(*PLACE)
    found = line(compared.comparison(entries, compared.OWN), "SafeNet")
    gain = next(entry for entry in entries if entry.name == "SafeNet").gain
    assert found["gain in mAP over: own baseline"] == f"+{gain.mean:.1f}"
    assert found["here, stand-in images: mAP, 95 %"] == "–"
    assert found["gain in mAP over: plain ResNet-50"] == compared.NOT_YET
    sets = {compared.OWN: entries, compared.COMMON: compared.common_recipe(*PLACE)}
    words = [text.get_text() for text in compared.gains(sets).axes[0].texts]
    assert f"+{gain.mean:.1f}, own" in words and not any("common" in word for word in words)


def test_gains_are_those_of_the_statistics_and_by_the_plain_sum():
    for label, share in ((standins.PLAIN_BASELINE, 0.4), (STRONG, 0.8), ("MSGWDP", 0.9), ("FMN", 0.6)):
        write("standins/common", label, share)
    write("standins/common-baselines", "MSGWDP", 0.5)
    entries = {entry.name: entry for entry in compared.common_recipe(*PLACE)}
    one = entries["MSGWDP"]
    sides = [[run.per_query("ap") for run, _ in compared.Runs(side).records()] for side in (one.runs, one.baseline)]
    assert one.gain == statistics.difference(*sides, one.runs[0].identities())
    assert entries["FMN"].gain == entries["FMN"].over_plain, "its own baseline is the plain network"
    assert entries[standins.PLAIN_BASELINE].over_plain is None and entries["HAMR"].gain is None
    said = str(compared.answer({compared.COMMON: list(entries.values())}))
    assert "MSGWDP has the highest mAP of 2 systems" in said and "1 of 2 is above the strong plain baseline" in said


def test_what_did_not_learn_is_called_so():
    for label in standins.FLOORS:
        write("standins/difficulty", label, 0.7)
    write("standins/common", standins.PLAIN_BASELINE, 0.9)
    write("standins/common", "FMN", 0.1)
    entries = compared.common_recipe(*PLACE)
    view = compared.comparison(entries, compared.COMMON)
    assert line(view, "FMN")["gain in mAP over: own baseline"] == compared.DID_NOT_LEARN
    notes = {str(cells[0]): cells[0].note for cells in view.lines() if isinstance(cells[0], Cell)}
    assert notes["FMN"] == compared.DID_NOT_LEARN and not notes[standins.PLAIN_BASELINE]


def test_the_matrix_counts_pairs_of_seeds():
    for label, share in ((standins.PLAIN_BASELINE, 0.5), (STRONG, 0.6), ("FMN", 0.9)):
        write("standins/common", label, share)
    entries = compared.common_recipe(*PLACE)
    found = compared.beats(entries)
    scores = {entry.name: entry.scores("mAP") for entry in entries if entry.made}
    for row in scores:
        for other in scores:
            if row != other:
                pairs = [(a, b) for a in scores[row] for b in scores[other]]
                assert found.loc[row, other] == sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs)
    assert list(found.index)[0] == "FMN" and (found + found.T).stack().dropna().eq(1).all()
    assert isinstance(compared.matrix(entries, compared.COMMON), Figure)
    drawn = compared.efficiency(entries, compared.COMMON)
    assert {text.get_text() for text in drawn.axes[0].texts} == set(scores)


def test_a_press_on_a_heading_sorts(in_browser):
    """By number with what has none at the end, then the other way round, then as it was; names by letters."""
    for label, share in ((standins.PLAIN_BASELINE, 0.4), (STRONG, 0.8), ("FMN", 0.6)):
        write("standins/common", label, share)
    view = compared.comparison(compared.common_recipe(*PLACE), compared.COMMON)
    script = (paths.home() / "book" / "_static" / "sort.js").read_text(encoding="utf-8")
    press = """addEventListener("DOMContentLoaded", function () {
      const lines = document.getElementsByTagName("tbody")[0].rows;
      const rows = () => Array.from(lines).map(r => r.cells[0].innerText.split("\\n")[0]);
      const buttons = Array.from(document.querySelectorAll("button.sort"));
      const find = name => buttons.find(b => b.innerText.trim() === name);
      const said = [rows()];
      for (const name of ["mAP", "mAP", "mAP", "row", "mAP, 95 %"]) {
        find(name).click();
        said.push([rows(), find(name).closest("th").getAttribute("aria-sort")]);
      }
      document.body.innerText = JSON.stringify(said);
    });"""
    original, down, up, again, names, interval = in_browser(
        f"{view.html()}<script>{script}</script><script>{press}</script>"
    )
    order = [STRONG, "FMN", standins.PLAIN_BASELINE]
    assert (down[0][:3], down[1]) == (order, "descending")
    assert (interval[0][:3], interval[1]) == (order, "descending"), "by its lower end"
    assert (up[0][:3], up[1]) == (order[::-1], "ascending")
    assert again == [original, "none"] and names == [sorted(original, key=str.lower), "ascending"]
