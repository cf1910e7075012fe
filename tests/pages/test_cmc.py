"""SafeNet's Figure 5: curves from records made by hand, and printed differences beside ours."""

import made_up
import numpy as np
import pytest

from reidlib.pages import figures, tables
from reidlib.runs.run import Runs, runs_of
from reidlib.spec import ReidError


@pytest.fixture
def runs(house):
    """Figure 5(b) with a record for two of its rows: of four queries the first matches have these ranks."""
    found = runs_of("safenet/figure5b", budget="smoke")
    for run in found:
        if run.row.label in ("fused", "bottleneck"):
            ranks = {"fused": (1, 2, 5, 30), "bottleneck": (1, 1, 1, 20)}[run.row.label]
            made_up.write(run, made_up.arrays(ranks, excluded=1))
    return Runs(tuple(found))


def test_a_curve_is_the_share_of_queries_with_a_match_by_each_rank(runs):
    (axes,) = figures.cmc(runs).axes
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert list(lines) == ["fused", "bottleneck"], "rows without a record have no curve"
    expected = [100 * np.mean([hit <= rank for hit in (1, 2, 5, 30)]) for rank in range(1, 21)]
    assert lines["fused"].tolist() == expected
    assert lines["bottleneck"][[0, 18, 19]].tolist() == [75, 75, 100]


def test_printed_differences_stand_beside_ours_a_drop_below_zero(runs):
    steps = [
        ("bottleneck", "fused", "rank1", "text-delta-bottleneck"),
        ("classifier", "bottleneck", "mAP", "text-delta-classifier"),
    ]
    gain, drop = tables.printed_differences(runs, steps).texts()
    assert gain[:4] == ["bottleneck against fused", "rank-1", "+1.9", "+50.0"]
    assert "improvement by 1.9% on R1" in gain[-1]
    assert drop[2:4] == ["−1.6", "not run"]
    with pytest.raises(ReidError, match="0 lines of 'text-delta-none' with mAP"):
        tables.printed_differences(runs, [("fused", "global", "mAP", "text-delta-none")])
