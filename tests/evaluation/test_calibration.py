"""The calibration finds what was put in: variances, false positives of a wrong rule, the power against a difference."""

import numpy as np
import pytest

from reidlib.evaluation import calibration
from reidlib.evaluation.calibration import Components, components, simulate, splits
from reidlib.spec import ReidError

OWN = Components(seed=0.02, person=0.1, together=0.1, persons=200)


def runs(rng, seeds, seed=0.02, together=0.1, persons=200):
    return list(0.5 + rng.normal(0, seed, (seeds, 1)) + rng.normal(0, together, (seeds, persons)))


def test_the_variances_that_were_put_in_are_found():
    rng = np.random.default_rng(0)
    person = rng.normal(0, 0.1, 200)
    found = components([own + person for own in runs(rng, 40)], runs(rng, 40), np.arange(200))
    assert (found.seed, found.person, found.together) == pytest.approx((0.02, 0.1, 0.1), rel=0.25)
    assert found.persons == 200


def test_equal_rows_are_called_different_as_often_as_promised():
    for seeds in (3, 5):
        share = simulate(OWN, seeds, draws=1000)
        assert share.found <= 6 + 2 * share.error


def test_power_grows_with_seeds_and_with_the_difference():
    found = [simulate(OWN, seeds, shift, draws=300).found for seeds, shift in ((3, 3), (3, 10), (5, 10))]
    assert found[0] < found[1] < found[2] and found[2] > 90


def test_a_rule_that_forgets_seeds_fails(monkeypatch):
    """The rule of the first version: seeds averaged away, queries alone drawn."""
    right = calibration.difference

    def forgetful(first, second, identities):
        return right([np.mean(first, axis=0)], [np.mean(second, axis=0)], identities)

    monkeypatch.setattr(calibration, "difference", forgetful)
    assert simulate(Components(0.03, 0.05, 0.05, 200), 3, draws=300).found > 30
    assert splits(runs(np.random.default_rng(1), 8, seed=0.05), np.arange(200), 3).found > 30


def test_splits_of_one_configuration():
    rng = np.random.default_rng(2)
    assert len(list(calibration._pairs(7, 3))) == 70 and len(set(calibration._pairs(7, 3))) == 70
    share = splits(runs(rng, 10, persons=60), np.arange(60), 3)
    assert share.found <= 15 and share.error >= 0
    with pytest.raises(ReidError, match="6 seeds do not make two groups of 3"):
        splits(runs(rng, 6), np.arange(200), 3)
    with pytest.raises(ReidError, match="at least two a row"):
        components(runs(rng, 1), runs(rng, 2), np.arange(200))
