"""Intervals over queries: by hand where it can be, by simulation where it must."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidlib.evaluation import statistics
from reidlib.evaluation.statistics import Interval, Spread, difference, holm, interval, over_seeds, verdict
from reidlib.spec import ReidError


def test_an_interval_holds_the_mean_in_percent_and_narrows_with_queries():
    rng = np.random.default_rng(0)
    few, many = (interval(rng.random(size)) for size in (30, 3000))
    for value in (few, many):
        assert value.low < value.mean < value.high
    assert many.high - many.low < 0.2 * (few.high - few.low)
    assert many.mean == pytest.approx(50, abs=2)


def test_an_interval_is_near_the_normal_one_for_many_queries():
    values = np.random.default_rng(4).beta(2, 3, 2000)
    half = 100 * 1.96 * values.std() / np.sqrt(2000)
    found = interval(values)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.1 * half)


def test_values_that_do_not_vary_and_a_single_query():
    same = interval(np.full(9, 0.25))
    assert (same.mean, same.low, same.high) == (25, 25, 25)
    assert difference([np.full(9, 0.25)], [np.full(9, 0.25)]) == Interval(0, 0, 0, 1)
    assert verdict(difference([np.full(9, 0.5)], [np.full(9, 0.25)])) == "supported"
    assert verdict(difference([np.array([0.9])], [np.array([0.1])])) == "not distinguishable", "one query says nothing"


def test_the_same_values_give_the_same_interval():
    values = np.random.default_rng(1).random(40)
    assert interval(values) == interval(values)


def test_p_by_exact_enumeration():
    """Three queries with differences 1, 1, −1: all 27 resamples are counted."""
    values = np.array([1.0, 1.0, -1.0])
    means = [(a + b + c) / 3 for a in values for b in values for c in values]
    exact = 2 * min(np.mean([m <= 0 for m in means]), np.mean([m >= 0 for m in means]))
    assert difference([values / 2], [-values / 2]).p == pytest.approx(exact, abs=0.02)


@pytest.fixture
def fewer_resamples(monkeypatch):
    """Enough for what is simulated hundreds of times; a single interval has ten times as many."""
    monkeypatch.setattr(statistics, "RESAMPLES", 999)


def coverage(draw, truth, times=300):
    """Share of intervals that hold the truth; its binomial spread at 95 % and 300 times is 1.3 points."""
    found = [draw(np.random.default_rng(number)) for number in range(times)]
    return np.mean([each.low <= 100 * truth <= each.high for each in found])


def test_a_single_interval_covers_the_truth_about_95_times_in_100(fewer_resamples):
    """60 queries from a skewed law with mean 1/3."""
    assert 0.91 <= coverage(lambda rng: interval(rng.beta(1, 2, size=60)), 1 / 3) <= 0.985


def test_a_paired_interval_covers_the_truth_with_seeds_pooled(fewer_resamples):
    """100 queries, each hard or easy for both rows in all seeds; the true difference is 0.05, a query's own varies."""

    def draw(rng):
        hard = rng.beta(2, 2, 100)
        own = rng.normal(0.05, 0.2, 100)  # how much the better row gains on this query, in every seed
        rows = [[hard + shift + rng.normal(0, 0.1, 100) for _ in range(3)] for shift in (own, 0)]
        return difference(*rows)

    assert 0.91 <= coverage(draw, 0.05) <= 0.985


def test_rank_1_differences_are_covered_too(fewer_resamples):
    """Hits are 0 or 1: 200 queries, 0.6 against 0.5 right, independent."""
    assert 0.91 <= coverage(lambda rng: difference([rng.random(200) < 0.6], [rng.random(200) < 0.5]), 0.1) <= 0.985


def test_p_is_uniform_where_nothing_differs(fewer_resamples):
    """Under no difference a p below 0.05 is found about 5 times in 100, below 0.5 half the time."""
    found = [np.random.default_rng(number) for number in range(300)]
    p = np.array([difference([rng.random(80)], [rng.random(80)]).p for rng in found])
    assert 0.02 <= (p < 0.05).mean() <= 0.09
    assert 0.41 <= (p < 0.5).mean() <= 0.59


def test_p_below_5_percent_is_an_interval_without_zero():
    for number in range(40):
        rng = np.random.default_rng(number)
        found = difference([rng.normal(0.03, 0.1, 50)], [np.zeros(50)])
        if abs(found.p - 0.05) > 0.003:
            assert (found.p < 0.05) == (not found.holds_zero)


def test_seeds_of_one_query_are_not_new_queries():
    rng = np.random.default_rng(5)
    values = rng.random(50)
    once, thrice = interval(values), interval(values, values, values)
    assert thrice == once


def test_pairing_sees_a_difference_that_two_separate_intervals_hide():
    rng = np.random.default_rng(3)
    easy = rng.random(100)
    better = np.clip(easy + 0.03 + 0.01 * rng.standard_normal(100), 0, 1.1)
    apart = interval(better), interval(easy)
    assert apart[0].low < apart[1].high, "taken apart the two overlap"
    assert verdict(difference([better], [easy])) == "supported"
    assert verdict(difference([easy], [better])) == "contradicted"


def test_mean_and_spread_by_hand():
    assert over_seeds([1.0, 2.0, 3.0]) == Spread(2.0, 1.0, 3)
    assert over_seeds([7.0]) == Spread(7.0, 0.0, 1)
    with pytest.raises(ReidError, match="no value"):
        over_seeds([])


def test_holm_by_hand():
    """Four tests: 0.01·4, 0.02·3, 0.03·2 (not below the one before), 0.5·1."""
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_step_down_procedure(p_values):
    """At every level it rejects just what the step-down rule rejects."""
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.2):
        order, rejected = sorted(range(len(p_values)), key=p_values.__getitem__), set()
        for step, test in enumerate(order):
            if p_values[test] * (len(order) - step) > level:
                break
            rejected.add(test)
        assert {number for number, value in enumerate(adjusted) if value <= level} == rejected


@pytest.mark.parametrize(
    "mean, p, adjusted, word",
    [
        (1.0, 0.01, None, "supported"),
        (-1.0, 0.01, None, "contradicted"),
        (1.0, 0.06, None, "not distinguishable"),
        (1.0, 0.01, 0.06, "not distinguishable"),
        (1.0, 0.01, 0.04, "supported"),
    ],
)
def test_the_rule(mean, p, adjusted, word):
    assert verdict(Interval(mean, mean - 1, mean + 1, p), adjusted) == word


def test_what_nothing_can_test():
    assert verdict(None) == "not testable"


def test_bad_values_are_named():
    with pytest.raises(ReidError, match=r"tested on \[3, 4\] queries; compare runs of one"):
        difference([np.ones(3)], [np.ones(4)])
    with pytest.raises(ReidError, match="without a match"):
        interval(np.array([0.5, np.nan]))
