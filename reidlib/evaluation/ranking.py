"""From distances to ranks to numbers: CMC, both average precisions and mINP, query by query.

A query's numbers depend only on the rank of each of its true matches, and that rank is a count: the k-th closest match
has rank k + (wrong images closer than it, or tied).

Ties. Two gallery images are tied when their squared distances differ by at most `distances.TIE_RULE`, and in a tie the
wrong image ranks first. Distances are float64, so metrics agree between block sizes, gallery orders and devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from reidlib.evaluation.distances import TIE, Vectors, blocks, tolerance
from reidlib.evaluation.features import Features, as_tensor, check_labels
from reidlib.evaluation.protocols import MARKET1501_SINGLE_QUERY, Protocol
from reidlib.evaluation.statistics import over_seeds
from reidlib.spec import ReidError

Numbers = Sequence[int] | np.ndarray | torch.Tensor

CUTS = (1, 5, 10, 20)  #: The ranks at which CMC is reported
_PRECISIONS = ("ap", "ap_trapezoid", "inp")


@dataclass(frozen=True, eq=False)
class Ranking:
    """Results query by query, in the order of the queries. Arrays of length Q."""

    protocol: Protocol  #: the rules that held
    ap: np.ndarray  #: average precision, plain sum, 0 to 1; as the next two NaN for an excluded query
    ap_trapezoid: np.ndarray  #: average precision by the rule of Market-1501's MATLAB code
    inp: np.ndarray  #: true matches / rank of the last of them, 0 to 1
    first_hit: np.ndarray  #: rank of the first true match, from 1 (0 for an excluded query)
    matches: np.ndarray  #: how many true matches the gallery holds under the protocol
    valid: np.ndarray  #: False for an excluded query: one without any true match, which enters no mean
    ties: np.ndarray  #: how many of the true matches were tied with a wrong image, which was ranked first

    @classmethod
    def excluded(cls, protocol: Protocol, queries: int) -> Ranking:
        """Every query is excluded: results are written into it."""
        numbers = {name: np.full(queries, np.nan) for name in _PRECISIONS}
        counts = {name: np.zeros(queries, np.int64) for name in ("first_hit", "matches", "ties")}
        return cls(protocol, **numbers, **counts, valid=np.zeros(queries, bool))

    def cmc(self, k: int) -> np.ndarray:
        """1 for each query whose first true match has rank k or better, else 0 (NaN for an excluded query)."""
        return np.where(self.valid, (self.first_hit <= k).astype(np.float64), np.nan)

    def per_query(self) -> dict[str, np.ndarray]:
        """The arrays that are stored beside a record."""
        return {name: getattr(self, name) for name in (*_PRECISIONS, "first_hit", "valid")}

    def metrics(self) -> dict[str, float | int]:
        """Means over the valid queries, in percent, and how many queries are valid and excluded; ties: percent of the
        true matches whose rank a tie decided."""
        values = {f"rank{k}": self.cmc(k) for k in CUTS}
        values |= {"mAP": self.ap, "mAP_trapezoid": self.ap_trapezoid, "mINP": self.inp}
        counts = {"queries": int(self.valid.sum()), "excluded_queries": int((~self.valid).sum())}
        means = {name: 100.0 * float(np.mean(value[self.valid])) for name, value in values.items()}
        return means | counts | {"ties": 100.0 * float(self.ties.sum() / self.matches.sum())}


@dataclass(eq=False)
class Draws:
    """The same queries ranked against galleries drawn at random; arrays as in `Ranking`, means over the draws."""

    rankings: tuple[Ranking, ...]

    def __post_init__(self) -> None:
        self.protocol, self.valid = self.rankings[0].protocol, self.rankings[0].valid
        means = (np.mean([getattr(one, name) for one in self.rankings], axis=0) for name in _PRECISIONS)
        self.ap, self.ap_trapezoid, self.inp = means

    def cmc(self, k: int) -> np.ndarray:
        """Share of the draws in which each query's match has rank k or better (NaN for an excluded query)."""
        return np.mean([ranking.cmc(k) for ranking in self.rankings], axis=0)

    def per_query(self) -> dict[str, np.ndarray]:
        """As `Ranking.per_query`, with CMC in place of the rank of the first match."""
        kept = {name: getattr(self, name) for name in (*_PRECISIONS, "valid")}
        return kept | {f"rank{k}": self.cmc(k) for k in CUTS}

    def metrics(self) -> dict[str, float | int]:
        """Means over draws and valid queries, in percent, and how many queries that are."""
        each = [ranking.metrics() for ranking in self.rankings]
        counts = {name: each[0][name] for name in ("queries", "excluded_queries")}
        return {name: float(np.mean([one[name] for one in each])) for name in each[0]} | counts

    def spread(self) -> dict[str, float]:
        """Standard deviation of each metric over the draws, in points."""
        each = [ranking.metrics() for ranking in self.rankings]
        names = [name for name in each[0] if not name.endswith("queries")]
        return {name: over_seeds([one[name] for one in each]).sd for name in names}


def average_precision(hits: Sequence[int], *, rule: str = "plain") -> float:
    """`mean_precision` of one ranked list, best first: 1 = true match, 0 = wrong."""
    ranks = np.flatnonzero(np.asarray(hits)) + 1
    if rule not in ("plain", "trapezoid") or not len(ranks):
        raise ReidError(f"rule {rule!r}, {len(ranks)} true matches; choose 'plain' or 'trapezoid' and a list with a 1")
    return float(mean_precision(ranks, rule=rule))


def mean_precision(ranks: np.ndarray, *, rule: str = "plain") -> np.ndarray:
    """Average precision of each query from the ranks of its true matches: B×M (or M), ascending, inf for padding.

    rule: "plain", the mean over the true matches of the precision at their rank; or "trapezoid", Market-1501's MATLAB
    rule, the mean of (precision at the rank before + precision at the rank) / 2, where that before rank 1 is 1. NaN for
    a query without a true match."""
    found = np.arange(1, ranks.shape[-1] + 1)  # the k-th true match: k images found so far are right
    precision = found / ranks
    if rule == "trapezoid":
        before = np.where(ranks > 1, (found - 1) / np.maximum(ranks - 1, 1), 1.0)
        precision = (precision + before) / 2
    matches = np.isfinite(ranks).sum(-1)
    return np.divide(precision.sum(-1), matches, out=np.full(matches.shape, np.nan), where=matches > 0)


def rank(
    query: Features,
    gallery: Features,
    *,
    protocol: Protocol = MARKET1501_SINGLE_QUERY,
    metric: str = "euclidean",
    block: int | None = None,
) -> Ranking:
    """Ranks the whole gallery for every query by the distance of their features; options as in `evaluate`."""
    labels = Labels(protocol, query.ids, query.cameras, gallery.ids, gallery.cameras)
    kept = gallery.features if labels.kept.all() else gallery.features[labels.kept.to(gallery.features.device)]
    device = query.features.device
    if not len(kept):
        return Ranking.excluded(protocol, len(query))
    others = Vectors.of(kept.to(device), metric)
    queries = Vectors.of(query.features, metric, like=others)

    def distances(rows: slice, pairs: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
        tie = tolerance(queries.square[rows, None], others.square[pairs.columns])
        return queries.squared_distances(rows, others), tie

    return _rank(labels, distances, block, device)


def rank_distances(
    distances: torch.Tensor | np.ndarray,
    query_ids: Numbers,
    query_cameras: Numbers,
    gallery_ids: Numbers,
    gallery_cameras: Numbers,
    *,
    protocol: Protocol = MARKET1501_SINGLE_QUERY,
    block: int | None = None,
) -> Ranking:
    """As `rank`, for a Q×G matrix of distances that is there already (after re-ranking, or of another metric).

    Entries are tied that differ by at most 1e-6 of the median of all, or of the largest where that is 0."""
    matrix = as_tensor(distances, "distances").detach()
    if matrix.ndim != 2 or not matrix.numel():
        raise ReidError(f"distances have shape {tuple(matrix.shape)}; give a Q×G matrix of at least one entry")
    if not torch.isfinite(matrix).all():
        raise ReidError("distances hold NaN or infinite values; look at the features they were made from")
    queries, images = matrix.shape
    asked = {"query_ids": query_ids, "query_cameras": query_cameras}
    shown = {"gallery_ids": gallery_ids, "gallery_cameras": gallery_cameras}
    sets = (asked, queries), (shown, images)
    labels = Labels(protocol, *(check_labels(part[name], name, count) for part, count in sets for name in part))
    kept = None if labels.kept.all() else labels.kept.to(matrix.device)
    tie = TIE * (float(matrix.abs().median()) or float(matrix.abs().max()))

    def taken(rows: slice, pairs: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
        here = matrix[rows] if kept is None else matrix[rows][:, kept]
        here = here.to(torch.float64, copy=True)
        return here, here.new_full(pairs.columns.shape, tie)

    return _rank(labels, taken, block, matrix.device)


def check_queries(protocol: Protocol, ids: torch.Tensor, sets: str = "both sets") -> None:
    """Raises ReidError for a query whose identity the protocol declares junk or distractor."""
    odd = torch.isin(ids, torch.tensor(protocol.junk + protocol.distractors, dtype=torch.int64)).nonzero()[:, 0]
    if len(odd):
        identity = int(ids[odd[0]])
        kind = "junk" if identity in protocol.junk else "distractors"
        raise ReidError(
            f"query {int(odd[0])} of {sets} has identity {identity} ({len(odd)} such), but under {protocol.name} "
            f"{identity} marks {kind} in the gallery, which no query shows; if your identities count from 0, add 1 to "
            "those of both sets, or choose a protocol in which 0 is a person, such as msmt17"
        )


@dataclass
class Labels:
    """Identities and cameras of both sets, the gallery grouped by identity."""

    protocol: Protocol
    query_ids: torch.Tensor
    query_cameras: torch.Tensor
    ids: torch.Tensor
    cameras: torch.Tensor

    def __post_init__(self) -> None:
        check_queries(self.protocol, self.query_ids)
        # which gallery images take part (bool, G): column numbers from here on count these only
        self.kept = ~torch.isin(self.ids, torch.tensor(self.protocol.junk, dtype=torch.int64))
        self.kept_cameras = self.cameras[self.kept]
        sorted_ids, self.order = torch.sort(self.ids[self.kept], stable=True)
        # the images of identity i are order[start : end]
        self.start = torch.searchsorted(sorted_ids, self.query_ids)
        self.end = torch.searchsorted(sorted_ids, self.query_ids, right=True)

    def pairs(self, rows: slice) -> Pairs:
        """The gallery images of each query's own identity, for a block of queries, padded to the longest list."""
        start, end = self.start[rows, None], self.end[rows, None]
        position = start + torch.arange(max(1, int((end - start).max())))
        present = position < end
        columns = self.order[position.clamp(max=len(self.order) - 1)] if len(self.order) else position * 0
        match = present.clone()
        if self.protocol.ignore_same_camera and len(self.order):
            match &= self.kept_cameras[columns] != self.query_cameras[rows, None]
        return Pairs(columns, present, match)


class Pairs(NamedTuple):
    """For a block of B queries: gallery columns of the same identity (B×M, padded)."""

    columns: torch.Tensor
    present: torch.Tensor  #: the entry is no padding
    match: torch.Tensor  #: it is a true match under the protocol; present without match = ignored (same camera)


Distances = Callable[[slice, Pairs], tuple[torch.Tensor, torch.Tensor]]
"""For a block of B queries their distances to the gallery (float64, B×G) and the width of a tie at each match (B×M)."""


def _rank(labels: Labels, distances: Distances, block: int | None, device: torch.device) -> Ranking:
    """Distances to counts to ranks to metrics, block by block."""
    total, gallery = len(labels.query_ids), max(1, len(labels.order))
    answer = Ranking.excluded(labels.protocol, total)
    for rows in blocks(total, gallery, block):
        pairs = labels.pairs(rows)
        answer.matches[rows] = number = pairs.match.sum(1).numpy()
        answer.valid[rows] = found = number > 0
        if not found.any():
            continue
        here = Pairs(*(part.to(device) for part in pairs))
        wrong, tied = (counts.cpu() for counts in _wrong_images(*distances(rows, here), here))
        # within a query the counts grow with the distance of the matches; padding goes to the end
        ranks = wrong.double().masked_fill(~pairs.match, torch.inf).sort(dim=1).values.numpy()
        ranks += np.arange(1, ranks.shape[1] + 1)
        answer.ap[rows] = mean_precision(ranks)
        answer.ap_trapezoid[rows] = mean_precision(ranks, rule="trapezoid")
        last = ranks[np.arange(len(ranks)), np.maximum(number, 1) - 1]
        answer.inp[rows] = np.where(found, number / last, np.nan)
        answer.first_hit[rows] = np.where(found, ranks[:, 0], 0)
        answer.ties[rows] = (tied & pairs.match).sum(1)
    return answer


def _wrong_images(distances: torch.Tensor, tie: torch.Tensor, pairs: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
    """How many wrong images stand before each match, and whether a tie has a part in it: B×M each.

    distances: float64, B×G, changed in place. tie: B×M, two images are tied whose distances differ by at most this."""
    match = distances.gather(1, pairs.columns)
    row, _ = pairs.present.nonzero(as_tuple=True)
    distances[row, pairs.columns[pairs.present]] = torch.inf  # true matches and ignored images are not wrong
    if distances.device.type == "cpu":
        # numpy sorts by vector instructions, ten times as fast as torch does; one part of the rows for each thread
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda part: part.sort(axis=1), np.array_split(distances.numpy(), threads)))
    else:
        distances = distances.sort(dim=1).values
    closer = torch.searchsorted(distances, match - tie)
    closer_or_tied = torch.searchsorted(distances, match + tie, right=True)
    return closer_or_tied, closer_or_tied > closer
