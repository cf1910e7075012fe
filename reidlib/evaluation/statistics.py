"""Is a difference larger than what another draw of queries would give? Bootstrap over queries, Holm, and the verdict.

The rule was fixed before the runs: "A beats B" is decided by the paired bootstrap over queries of A − B, seeds pooled,
at 95 %, with Holm's correction over all claims that are put to one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from reidlib.spec import ReidError

RESAMPLES = 9_999
LEVEL = 0.95
VERDICTS = ("supported", "contradicted", "not distinguishable", "not testable")


@dataclass(frozen=True)
class Interval:
    """A mean over queries with its 95 % percentile bootstrap interval, in percent (points for a difference).

    p: two-sided, of the hypothesis that the mean is 0; of use for a difference.
    """

    mean: float
    low: float
    high: float
    p: float

    @property
    def holds_zero(self) -> bool:
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n − 1; 0 for a single value) of one number over n seeds, splits or draws."""

    mean: float
    sd: float
    n: int


def interval(*seeds: np.ndarray) -> Interval:
    """Interval of a single row's mean: its values query by query, one array a seed (AP, or CMC at 1: 0 to 1).

    The queries of all seeds are the same, so a query is drawn together with its values of every seed: seeds make each
    query's value steadier, they do not make more queries.
    """
    return _bootstrap(_by_query(seeds))


def difference(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> Interval:
    """Interval of "first − second", paired query by query, seeds pooled: one array a seed on either side.

    Raises ReidError where the two were not tested on the same queries.
    """
    return _bootstrap(_by_query(first) - _by_query(second, like=_by_query(first)))


def over_seeds(values: Sequence[float]) -> Spread:
    """Mean and spread of one metric over seeds, CUHK03's splits, or draws."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        raise ReidError("no value to average; run at least one seed")
    return Spread(float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0, len(array))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p of a family of tests, in their order (Holm 1979): the chance of even one false finding stays bounded.

    The smallest p is multiplied by the number of tests, the next by one less, and so on; never falling, at most 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1))
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted.tolist()


def verdict(claimed: Interval | None, p: float | None = None) -> str:
    """One of VERDICTS for the claim that a difference is above 0.

    claimed: None where nothing can test it. p: adjusted over the table's claims; None for a claim on its own.
    """
    if claimed is None:
        return "not testable"
    if (claimed.p if p is None else p) >= 1 - LEVEL:
        return "not distinguishable"
    return "supported" if claimed.mean > 0 else "contradicted"


def _by_query(seeds: Sequence[np.ndarray], like: np.ndarray | None = None) -> np.ndarray:
    """One value a query: the mean over its seeds."""
    arrays = [np.asarray(values, dtype=np.float64) for values in seeds]
    sizes = {len(array) for array in arrays} | ({len(like)} if like is not None else set())
    if len(sizes) != 1 or 0 in sizes:
        problem = f"seeds or rows were tested on {sorted(sizes)} queries"
        raise ReidError(f"{problem}; compare runs of one data set and protocol")
    values = np.mean(arrays, axis=0)
    if not np.isfinite(values).all():
        raise ReidError("a query without a match (NaN) is among the values; leave excluded queries out")
    return values


def _bootstrap(values: np.ndarray) -> Interval:
    values = 100 * values
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, -100.0, 100.0, 1.0)  # one query says nothing of others
    if np.ptp(values) == 0:
        return Interval(mean, mean, mean, 1.0 if mean == 0 else 2 / (RESAMPLES + 1))
    how = dict(n_resamples=RESAMPLES, confidence_level=LEVEL, method="percentile", batch=256)
    drawn = stats.bootstrap((values,), np.mean, rng=np.random.default_rng(0), **how)
    means = drawn.bootstrap_distribution
    # The share of resamples on the far side of 0, the data themselves counted as one of them: never exactly 0.
    p = 2 * (1 + min((means <= 0).sum(), (means >= 0).sum())) / (RESAMPLES + 1)
    bounds = drawn.confidence_interval
    return Interval(mean, float(bounds.low), float(bounds.high), min(1.0, float(p)))
