"""Intervals over seeds and identities: by hand where it can be, by simulation where it must."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reidlib.evaluation.statistics import (
    Interval,
    Spread,
    difference,
    holm,
    interval,
    kendall,
    over_seeds,
    verdict,
)
from reidlib.spec import ReidError


def simulated(rng, shift=0.0, seeds=3, persons=60, queries=3, by_seed=0.02, by_person=0.1, together=0.08):
    """Two rows of equal networks but for `shift`: (first, second, identities); values as in a record, seeds × queries.

    by_seed, by_person: standard deviations of a seed's mean and of what a person's queries have in common between the
    rows; together: of what one seed does to one person.
    """
    identities = np.repeat(np.arange(persons), queries)
    hard = rng.normal(0.5, 0.2, persons)
    sides = []
    for own in (shift, 0.0):
        person = hard + own + rng.normal(0, by_person / 2**0.5, persons)
        values = person + rng.normal(0, by_seed, (seeds, 1)) + rng.normal(0, together, (seeds, persons))
        sides.append(list(values[:, identities] + rng.normal(0, 0.05, (seeds, persons * queries))))
    return *sides, identities


def test_one_query_a_person_and_one_seed_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 40))
    found, expected = difference([first], [second], np.arange(40)), stats.ttest_rel(first, second)
    bounds = expected.confidence_interval()
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((100 * bounds.low, 100 * bounds.high))
    assert (found.freedom, found.seeds) == (pytest.approx(39), 1)


def test_many_persons_without_a_spread_leave_welchs_test_over_seeds():
    first, second = np.array([0.4, 0.5, 0.45]), np.array([0.3, 0.36, 0.31, 0.33])
    sides = [[np.full(50, value) for value in side] for side in (first, second)]
    found, expected = difference(*sides, np.arange(50)), stats.ttest_ind(first, second, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue) and found.freedom == pytest.approx(expected.df)
    assert found.mean == pytest.approx(100 * (first.mean() - second.mean())) and found.seeds == 3


def test_networks_that_are_tested_twice_are_the_paired_t_test_over_seeds():
    first, second = np.array([0.72, 0.81, 0.76]), np.array([0.66, 0.76, 0.70])
    sides = [[np.full(50, value) for value in side] for side in (first, second)]
    found, expected = difference(*sides, np.arange(50), same_networks=True), stats.ttest_rel(first, second)
    assert found.p == pytest.approx(expected.pvalue) and found.freedom == pytest.approx(2) and found.seeds == 3
    assert found.error < 0.2 * difference(*sides, np.arange(50)).error
    with pytest.raises(ReidError, match="2 and 3 seeds are not of the same networks"):
        difference(sides[0][:2], sides[1], np.arange(50), same_networks=True)


def test_equal_tests_of_the_same_networks_are_called_different_in_at_most_6_of_100():
    found = []
    for number in range(1000):
        rng = np.random.default_rng(number)
        first, second, identities = simulated(rng, by_seed=0.002)
        common = rng.normal(0, 0.05, (3, 1))  # what a network does to both tests
        found.append(difference(first + common, second + common, identities, same_networks=True).p < 0.05)
    assert np.mean(found) <= 0.06 + 2 * (0.06 * 0.94 / 1000) ** 0.5


def test_the_standard_error_by_a_slow_loop():
    first, second, identities = simulated(np.random.default_rng(3), seeds=4, persons=5)
    mean = np.mean([a.mean() for a in first]) - np.mean([b.mean() for b in second])
    squared = 0.0
    for side in (first, second):
        means = [values.mean() for values in side]
        squared += sum((value - np.mean(means)) ** 2 for value in means) / 3 / 4
    persons = 0.0
    for person in range(5):
        total = 0.0
        for query in np.flatnonzero(identities == person):
            total += np.mean([a[query] for a in first]) - np.mean([b[query] for b in second]) - mean
        persons += (total / len(identities)) ** 2
    squared += persons * 5 / 4
    assert difference(first, second, identities).error == pytest.approx(100 * squared**0.5)


def test_a_query_more_of_the_same_person_is_no_new_evidence():
    first, second, identities = simulated(np.random.default_rng(5))
    twice = [[np.repeat(values, 2) for values in side] for side in (first, second)]
    once, doubled = difference(first, second, identities), difference(*twice, np.repeat(identities, 2))
    assert (doubled.mean, doubled.error) == pytest.approx((once.mean, once.error))


def test_seeds_that_differ_widen_the_interval():
    rng = np.random.default_rng(6)
    calm, wild = (simulated(rng, by_seed=size) for size in (0.001, 0.1))
    assert difference(*wild).error > 2 * difference(*calm).error


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("parts", [{}, {"by_seed": 0.04}, {"by_seed": 0.002}, {"by_person": 0.01, "together": 0.01}])
def test_equal_networks_are_called_different_in_at_most_6_of_100(seeds, parts):
    found = [difference(*simulated(np.random.default_rng(number), seeds=seeds, **parts)) for number in range(1000)]
    share = np.mean([entry.p < 0.05 for entry in found])
    assert share <= 0.06 + 2 * (0.06 * 0.94 / 1000) ** 0.5


def test_what_is_called_detectable_is_found_four_times_in_five():
    wanted = np.median([difference(*simulated(np.random.default_rng(n), seeds=5)).detectable for n in range(100)])
    found = [difference(*simulated(np.random.default_rng(n), shift=wanted / 100, seeds=5)) for n in range(1000, 1400)]
    assert 0.72 <= np.mean([entry.p < 0.05 and entry.mean > 0 for entry in found]) <= 0.92


def test_values_that_do_not_vary():
    persons = np.arange(9)
    same = interval([np.full(9, 0.25)] * 3, persons)
    assert (same.mean, same.low, same.high) == (25, 25, 25)
    assert difference([np.full(9, 0.25)] * 3, [np.full(9, 0.25)] * 3, persons).p == 1
    assert verdict(difference([np.full(9, 0.5)] * 3, [np.full(9, 0.25)] * 3, persons)) == "supported"


def test_what_cannot_be_compared_is_an_error():
    with pytest.raises(ReidError, match=r"tested on \[3, 4\] queries"):
        difference([np.zeros(3)], [np.zeros(4)], np.arange(4))
    with pytest.raises(ReidError, match="NaN"):
        interval([np.array([0.1, np.nan])], np.arange(2))
    with pytest.raises(ReidError, match="one identity"):
        interval([np.array([0.1, 0.2])], np.zeros(2))
    with pytest.raises(ReidError, match="no value"):
        over_seeds([])


def test_mean_and_spread_by_hand():
    assert over_seeds([1.0, 2.0, 3.0]) == Spread(2.0, 1.0, 3)
    assert over_seeds([7.0]) == Spread(7.0, 0.0, 1)


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
    "mean, seeds, adjusted, word",
    [
        (3.0, 3, None, "supported"),
        (-3.0, 3, None, "contradicted"),
        (1.0, 3, None, "undecided"),
        (3.0, 3, 0.06, "undecided"),
        (3.0, 2, None, "too few seeds"),
    ],
)
def test_the_verdict(mean, seeds, adjusted, word):
    assert verdict(Interval(mean, 1.0, 50, seeds), adjusted) == word


def test_no_difference_is_no_test():
    assert verdict(None) == "not testable"


def test_orders_by_hand():
    """Of six pairs all agree, none does, and one is swapped: (5 − 1) / 6."""
    printed = [1.0, 2.0, 3.0, 4.0]
    assert kendall(printed, [printed, printed]) == Spread(1.0, 0.0, 2)
    assert kendall(printed, [printed[::-1]]).mean == -1
    assert kendall(printed, [[1.0, 2.0, 4.0, 3.0]]).mean == pytest.approx(4 / 6)
    with pytest.raises(ReidError, match="three rows"):
        kendall([1.0, 2.0], [[1.0, 2.0]])
    with pytest.raises(ReidError, match="no order"):
        kendall(printed, [[1.0] * 4])
