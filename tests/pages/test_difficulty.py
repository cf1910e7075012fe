"""The tables of the stand-ins' difficulty, against runs whose numbers were made up by hand."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from reidlib.evaluation import statistics
from reidlib.pages import difficulty
from reidlib.spec import ReidError

LABELS = ("whole", "stripes", "trained")


@dataclass
class Run:
    row: SimpleNamespace
    dataset: str
    ap: np.ndarray | None
    budget: str = "small"
    seed: int = 0

    @property
    def network(self):
        return (self.row.label, self.dataset, self.seed)

    def identities(self):
        return np.arange(len(self.ap)) // 2 + (100 if "-to-" in self.dataset else 0)  # a pair numbers persons on

    def state(self):
        return "missing" if self.ap is None else "finished"

    def per_query(self, name):
        assert name == "ap"
        return self.ap


class Runs:
    def __init__(self, dataset, seeds=(0,), **ap):
        rows = [SimpleNamespace(label=label, variant="as-published") for label in LABELS]
        self.runs = [Run(row, dataset, ap.get(row.label), seed=seed) for row in rows for seed in seeds]
        self.table = SimpleNamespace(rows=rows)

    def frame(self):
        lines = []
        for run in self.runs:
            line = {"row": run.row.label, "seed": run.seed, "state": run.state()}
            if run.ap is not None:
                line |= {"rank1": 100 * (run.ap == 1).mean(), "mAP": 100 * run.ap.mean()}
            lines.append(line)
        return pd.DataFrame(lines)


def aps(mean, spread=0.05):
    return mean + spread * np.linspace(-1, 1, 41)


@pytest.fixture
def market():
    return Runs("market1501", whole=aps(0.10), stripes=aps(0.16), trained=aps(0.30))


def test_scores_name_what_was_not_run(market):
    view = difficulty.scores([market, Runs("cuhk03-np-detected", whole=aps(0.05))], "c")
    assert view.frame.columns.get_level_values(0).tolist() == ["row", *["Market-1501"] * 2, *["CUHK03"] * 2]
    lines = view.texts()
    assert lines[0] == ["whole", "0.0", "10.0", "0.0", "5.0"]
    assert lines[2] == ["trained", "0.0", "30.0", "not run", "not run"]


@pytest.mark.parametrize("trained, first, second", [(0.30, "yes", "yes"), (0.259, "no", "yes"), (0.91, "yes", "no")])
def test_the_goals_are_held_against_the_better_histogram(trained, first, second):
    runs = Runs("market1501", whole=aps(0.10), stripes=aps(0.16), trained=aps(trained))
    (line,) = difficulty.goals([runs], "trained", ("whole", "stripes")).texts()
    assert line[:2] == ["Market-1501", "stripes: 16.0"]
    assert [text.split()[0] for text in line[2:]] == [first, second]
    assert f"+{100 * trained - 16:.1f}" in line[2]


def test_the_goals_of_a_set_that_was_not_run_are_open(market):
    lines = difficulty.goals([market, Runs("msmt17", whole=aps(0.1))], "trained", ("whole", "stripes")).texts()
    assert lines[1] == ["MSMT17", *["not run"] * 3]


def test_a_step_is_grey_where_its_interval_holds_zero_or_is_from_too_few_seeds(market):
    other = dict(trained=aps(0.3), stripes=np.flip(aps(0.301, 0.3)))
    apart = dict(trained=aps(0.3), stripes=aps(0.16))
    sets = [Runs("dukemtmc", seeds=(0, 1, 2), **scores) for scores in (other, apart)]
    view = difficulty.steps([market, *sets], [("trained", "stripes")], "c")
    (line,) = view.lines()
    exact = statistics.difference([aps(0.30)], [aps(0.16)], np.arange(41) // 2)
    assert line[0].note == "against stripes"
    assert line[1] == f"+{exact.mean:.1f} [+{exact.low:.1f}, +{exact.high:.1f}]" == "+14.0 [+14.0, +14.0]"
    assert [cell.grey for cell in line[1:]] == [True, True, False]
    assert "fewer than three seeds" in view.html(), "why the first is grey, whose interval leaves out zero"


def test_transfer_holds_a_network_against_the_one_trained_at_home(market):
    duke = Runs("dukemtmc", trained=aps(0.25))
    away = {
        ("market1501", "dukemtmc"): Runs("market-to-duke", trained=aps(0.08)),
        ("dukemtmc", "market1501"): Runs("duke-to-market"),
    }
    lines = difficulty.transfer({"market1501": market, "dukemtmc": duke}, away, "trained", "c").texts()
    assert lines[0] == ["Market-1501", "30.0", "8.0 (−17.0 [−17.0, −17.0])"]
    assert lines[1] == ["DukeMTMC-reID", "not run", "25.0"]


def test_other_persons_are_not_compared(market):
    duke, away = Runs("dukemtmc", trained=aps(0.25)), Runs("market-to-duke", trained=aps(0.08))
    tested = next(run for run in away.runs if run.ap is not None)
    tested.identities = lambda: np.arange(41) // 3
    for run in (*duke.runs, *away.runs):
        run.name = run.dataset
    with pytest.raises(ReidError, match="market-to-duke and dukemtmc: tested on other queries"):
        difficulty.transfer(
            {"market1501": market, "dukemtmc": duke}, {("market1501", "dukemtmc"): away}, "trained", "c"
        )
