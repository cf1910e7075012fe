"""Intervals over queries: is a difference larger than what another draw of queries would give?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 9_999
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its percentile bootstrap interval over queries, all three in percent."""

    mean: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        return self.low <= 0 <= self.high


def interval(per_query: np.ndarray, *, seed: int = 0) -> Interval:
    """95 % interval of a mean over queries. per_query: Q values between −1 and 1, without NaN.

    For a single row give its AP; for "A against B" give A − B query by query (paired, seeds pooled one after another).
    """
    values = 100 * np.asarray(per_query, dtype=np.float64)
    if len(values) < 2 or np.ptp(values) == 0:
        return Interval(float(values.mean()), float(values.mean()), float(values.mean()))
    drawn = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
        batch=256,
    ).confidence_interval
    return Interval(float(values.mean()), float(drawn.low), float(drawn.high))


def verdict(difference: Interval) -> str:
    """The rule fixed before the runs: a claim "A beats B" by the paired 95 % interval of A − B."""
    if difference.holds_zero:
        return "not distinguishable"
    return "supported" if difference.low > 0 else "contradicted"
