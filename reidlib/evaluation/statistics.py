"""Is a difference larger than what other seeds and other persons would give? Standard errors, Holm, and the verdict.

Two things vary that a claim is not about: the seed from which a network is trained, and the persons whose images are
the queries. Both rows of a difference rank the same queries, so persons are paired; their seeds are independent. With
n seeds a side and I identities the squared standard error of a difference is the sum of three parts:

- for each side, the variance of its seeds' means (n − 1), divided by n;
- the variance over identities of the difference, averaged over seeds (the queries of one person are one cluster).

Where both rows test the same networks, as with and without re-ranking, seeds are paired, too: one part, the variance of
the seeds' differences, takes the place of the two of the sides.

Each part has its degrees of freedom (n − 1, n − 1, I − 1); the sum has those of Welch and Satterthwaite, and Student's
t gives interval and p. A bootstrap has no degrees of freedom to correct for three seeds with, where its variance is too
small by a third. What a seed and an identity have together is in both parts, so the rule errs on the side of caution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from reidlib.spec import ReidError

LEVEL = 0.95
FEWEST_SEEDS = 3  #: A side with fewer has no verdict: their variance cannot be known
VERDICTS = ("supported", "contradicted", "undecided", "not testable", "did not learn", "too few seeds")


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, in percent (points for a difference)."""

    mean: float
    error: float  #: standard error
    freedom: float  #: degrees of freedom
    seeds: int  #: the fewest on a side; where it is 1, the interval is of other persons alone

    @property
    def low(self) -> float:
        return self.mean - self._reach

    @property
    def high(self) -> float:
        return self.mean + self._reach

    @property
    def p(self) -> float:
        """Two-sided, of the hypothesis that the mean is 0."""
        if self.error == 0:
            return float(self.mean == 0)
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.freedom))

    @property
    def holds_zero(self) -> bool:
        return self.low <= 0 <= self.high

    @property
    def decides(self) -> bool:
        """Whether it says that two rows differ: it does not hold zero, and is from enough seeds."""
        return not self.holds_zero and self.seeds >= FEWEST_SEEDS

    @property
    def detectable(self) -> float:
        """The true difference that these seeds and identities find with a chance of 80 %, in points."""
        return self._reach + float(self.error * stats.t.ppf(0.8, self.freedom))

    @property
    def _reach(self) -> float:
        return float(self.error * stats.t.ppf(0.5 + LEVEL / 2, self.freedom))


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n − 1; 0 for a single value) of one number over n seeds, splits or draws."""

    mean: float
    sd: float
    n: int


def interval(seeds: Sequence[np.ndarray], identities: np.ndarray) -> Interval:
    """Interval of one row's mean: its values query by query, one array a seed (AP, or CMC at a rank: 0 to 1).

    identities: whom each query shows. Raises ReidError where the arrays are not of the same queries."""
    values = _matrix(seeds, identities)
    return _interval(float(values.mean()), [values.mean(axis=1)], values.mean(axis=0), identities)


def difference(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], identities: np.ndarray, *, same_networks: bool = False
) -> Interval:
    """Interval of "first − second" on the same queries; one array a seed on either side.

    identities: whom each query shows. same_networks: both sides test the same networks, in this order, so that seeds
    are paired. Raises ReidError where the two were not tested on the same queries, or on as many networks."""
    sides = [_matrix(side, identities) for side in (first, second)]
    paired = sides[0].mean(axis=0) - sides[1].mean(axis=0)
    means = [side.mean(axis=1) for side in sides]
    if same_networks:
        if len(first) != len(second):
            raise ReidError(f"{len(first)} and {len(second)} seeds are not of the same networks")
        means = [means[0] - means[1]]
    return _interval(float(paired.mean()), means, paired, identities)


def over_seeds(values: Sequence[float]) -> Spread:
    """Mean and spread of one metric over seeds, CUHK03's splits, or draws."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        raise ReidError("no value to average; run at least one seed")
    return Spread(float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0, len(array))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p of a family of tests, in their order (Holm 1979): the chance of even one false finding stays bounded.

    The smallest p is multiplied by the number of tests, the next by one less, and so on; never falling, at most 1."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1))
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted.tolist()


def verdict(claimed: Interval | None, p: float | None = None) -> str:
    """One of VERDICTS for the claim that a difference is above 0.

    claimed: None where nothing can test it. p: adjusted over the paper's claims; None for a claim on its own."""
    if claimed is None:
        return "not testable"
    if claimed.seeds < FEWEST_SEEDS:
        return "too few seeds"
    if (claimed.p if p is None else p) >= 1 - LEVEL:
        return "undecided"
    return "supported" if claimed.mean > 0 else "contradicted"


def kendall(printed: Sequence[float], measured: Sequence[Sequence[float]]) -> Spread:
    """Agreement of two orders of the same rows: Kendall's τ-b of the printed numbers and each seed's, over seeds.

    printed: R numbers. measured: one list of R numbers a seed. τ is 1 for the same order, −1 for the reverse. Raises
    ReidError for fewer than three rows, or rows without an order."""
    if len(printed) < 3 or any(len(seed) != len(printed) for seed in measured):
        sizes = [len(printed), *map(len, measured)]
        raise ReidError(f"an order needs the same three rows or more on both sides, not {sizes}")
    found = [float(stats.kendalltau(printed, seed).statistic) for seed in measured]
    if not np.isfinite(found).all():
        raise ReidError("all rows of one side have the same number, so they have no order; leave the table out")
    return over_seeds(found)


def _matrix(seeds: Sequence[np.ndarray], identities: np.ndarray) -> np.ndarray:
    """Values as seeds × queries, checked."""
    sizes = {len(values) for values in seeds} | {len(identities)}
    if len(sizes) != 1 or 0 in sizes:
        problem = f"seeds or rows were tested on {sorted(sizes)} queries"
        raise ReidError(f"{problem}; compare runs of one data set and protocol")
    values = np.asarray(seeds, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ReidError("a query without a match (NaN) is among the values; leave excluded queries out")
    return values


def _interval(mean: float, sides: Sequence[np.ndarray], paired: np.ndarray, identities: np.ndarray) -> Interval:
    """sides: the seeds' means of each side. paired: one value a query, averaged over seeds."""
    _, person = np.unique(identities, return_inverse=True)
    sums = np.bincount(person, weights=paired - mean)
    number = len(sums)
    if number == 1:
        raise ReidError("all queries show one identity, which says nothing of others; test at least two")
    parts = [(number / (number - 1) * np.sum((sums / len(paired)) ** 2), number - 1)]
    parts += [(side.var(ddof=1) / len(side), len(side) - 1) for side in sides if len(side) > 1]
    total = sum(part for part, _ in parts)
    freedom = total**2 / sum(part**2 / own for part, own in parts) if total > 0 else float(number - 1)
    return Interval(100 * mean, 100 * float(total**0.5), float(freedom), min(map(len, sides)))
