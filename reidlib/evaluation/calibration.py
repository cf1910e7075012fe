"""Does the rule of `statistics.difference` keep its promise? Equal networks compared, and planted differences.

Two ways to ask. By simulation: the variances of seeds and persons are estimated from real runs, and runs with these
variances are drawn, with or without a difference. By splits: the seeds of one configuration are divided into two groups
in every way; whatever differs between them is not real."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from reidlib.evaluation.statistics import LEVEL, difference
from reidlib.spec import ReidError

DRAWS = 2_000


@dataclass(frozen=True)
class Components:
    """Standard deviations of what varies between runs, as fractions of 1 (0.01 is a point)."""

    seed: float  #: of a seed's mean
    person: float  #: of a person's part of the difference of two rows
    together: float  #: of what one seed does to one person
    persons: int  #: how many there are


@dataclass(frozen=True)
class Share:
    """A share of tests that found a difference, in percent, with its standard error."""

    found: float
    error: float


def components(first: Sequence[np.ndarray], second: Sequence[np.ndarray], identities: np.ndarray) -> Components:
    """The variances behind the runs of two rows, by analysis of variance over seeds and persons; at least two seeds.

    first, second: one array a seed, one value (0 to 1) a query. identities: whom each query shows."""
    if min(len(first), len(second)) < 2:
        raise ReidError("one seed says nothing of the variance between seeds; run at least two a row")
    _, person = np.unique(identities, return_inverse=True)
    counts = np.bincount(person)
    # means over the queries of a person, seeds × persons
    sides = [np.stack([np.bincount(person, weights=one) / counts for one in side]) for side in (first, second)]
    seed, together = [], []
    for side in sides:
        means = side.mean(axis=1, keepdims=True)
        rest = side - means - side.mean(axis=0) + side.mean()
        together.append((rest**2).sum() / ((side.shape[0] - 1) * (side.shape[1] - 1)))
        seed.append(means.var(ddof=1) - together[-1] / side.shape[1])
    both = float(np.mean(together))
    paired = (sides[0].mean(axis=0) - sides[1].mean(axis=0)).var(ddof=1)
    person = paired - both * sum(1 / len(side) for side in sides)
    seeds, persons = max(float(np.mean(seed)), 0.0), max(float(person), 0.0)
    return Components(seeds**0.5, persons**0.5, both**0.5, sides[0].shape[1])


def simulate(own: Components, seeds: int, shift: float = 0.0, draws: int = DRAWS) -> Share:
    """How often rows whose true difference is `shift` points are called different, with `seeds` seeds a side.

    Without a shift this is the share of false positives, which should be at most 5 %; with one it is the power."""
    rng = np.random.default_rng(0)
    identities = np.arange(own.persons)
    found = 0
    for _ in range(draws):
        person = rng.normal(0, own.person, own.persons) + shift / 100
        noise = rng.normal(0, own.seed, (2, seeds, 1)) + rng.normal(0, own.together, (2, seeds, own.persons))
        answer = difference(list(noise[0] + person), list(noise[1]), identities)
        found += answer.p < 1 - LEVEL and (answer.mean > 0 or not shift)
    share = found / draws
    return Share(100 * share, 100 * (share * (1 - share) / draws) ** 0.5)


def splits(seeds: Sequence[np.ndarray], identities: np.ndarray, side: int) -> Share:
    """How often two groups of `side` seeds each of one configuration are called different, over all such splits.

    The splits share their seeds, so the standard error is the jackknife's over seeds. Raises ReidError where there are
    too few seeds to leave one out."""
    number = len(seeds)
    if number < 2 * side + 1:
        raise ReidError(f"{number} seeds do not make two groups of {side} with one left out; run more seeds")
    by_split = [
        (set(first) | set(second), difference([seeds[i] for i in first], [seeds[i] for i in second], identities).p)
        for first, second in _pairs(number, side)
    ]
    shares = [np.mean([p < 1 - LEVEL for used, p in by_split if left not in used]) for left in range(number)]
    error = ((number - 1) * np.mean((shares - np.mean(shares)) ** 2)) ** 0.5
    return Share(100 * float(np.mean([p < 1 - LEVEL for _, p in by_split])), 100 * float(error))


def _pairs(number: int, side: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Every unordered pair of disjoint groups of seeds."""
    for used in combinations(range(number), 2 * side):
        for rest in combinations(used[1:], side - 1):
            first = (used[0], *rest)
            yield first, tuple(sorted(set(used) - set(first)))
