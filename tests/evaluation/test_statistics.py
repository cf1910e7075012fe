"""Intervals over queries: by hand where it can be, by simulation where it must."""

import numpy as np
import pytest

from reidlib.evaluation.statistics import Interval, interval, verdict


def test_an_interval_holds_the_mean_in_percent_and_narrows_with_queries():
    rng = np.random.default_rng(0)
    few, many = (interval(rng.random(size)) for size in (30, 3000))
    for value in (few, many):
        assert value.low < value.mean < value.high
    assert many.high - many.low < 0.2 * (few.high - few.low)
    assert many.mean == pytest.approx(50, abs=2)


def test_values_that_do_not_vary_have_an_interval_without_width():
    assert interval(np.full(9, 0.25)) == Interval(25, 25, 25)
    assert interval(np.array([0.5])) == Interval(50, 50, 50)


def test_the_same_values_give_the_same_interval():
    values = np.random.default_rng(1).random(40)
    assert interval(values) == interval(values)


def test_the_interval_covers_the_truth_about_95_times_in_100():
    """300 draws of 60 queries from a skewed law with mean 1/3; binomial spread of the share is 1.3 points."""
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(300):
        drawn = interval(rng.beta(1, 2, size=60))
        hits += drawn.low <= 100 / 3 <= drawn.high
    assert 0.90 <= hits / 300 <= 0.985


@pytest.mark.parametrize(
    "low, high, word",
    [
        (0.1, 2.0, "supported"),
        (-2.0, -0.1, "contradicted"),
        (-0.1, 2.0, "not distinguishable"),
        (0.0, 2.0, "not distinguishable"),
    ],
)
def test_the_rule(low, high, word):
    assert verdict(Interval((low + high) / 2, low, high)) == word


def test_pairing_sees_a_difference_that_two_separate_intervals_hide():
    rng = np.random.default_rng(3)
    easy = rng.random(100)
    better = np.clip(easy + 0.03 + 0.01 * rng.standard_normal(100), 0, 1.1)
    apart = interval(better), interval(easy)
    assert apart[0].low < apart[1].high, "taken apart the two overlap"
    assert verdict(interval(better - easy)) == "supported"
