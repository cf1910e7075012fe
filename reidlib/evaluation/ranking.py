"""From distances to ranks to numbers: CMC, both average precisions and mINP, query by query.

No row is sorted with its indices and no Q×G matrix is kept. A query's numbers depend only on the rank of each of its
true matches, and that rank is a count: the k-th closest match has rank k + (wrong images closer than it, or tied).

Ties. Two gallery images are tied when their squared distances differ by at most 1e-6 (`points.TIE`), and in a tie the
wrong image ranks first. A count that rounding could change (an image near the edge of a match's tie) is decided in
float64, so metrics agree between block sizes, gallery orders and devices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from reidlib.evaluation.features import Features, integers
from reidlib.evaluation.points import TIE, Points, full_precision
from reidlib.evaluation.protocols import MARKET1501_SINGLE_QUERY, Protocol
from reidlib.spec import ReidError

CUTS = (1, 5, 10, 20)
"""The ranks at which CMC is reported."""

_FEW = 256
"""Doubtful images of one query up to which float64 cosines are computed one by one; measured, 2,048 dimensions."""

_BLOCK_BYTES = 64 * 2**20
"""Memory for one block of similarities where the caller states no block size."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Results query by query, in the order of the queries. Arrays of length Q.

    protocol      the rules that held
    ap            average precision, plain sum, 0 to 1 (NaN for an excluded query)
    ap_trapezoid  average precision by the rule of Market-1501's MATLAB code (NaN for an excluded query)
    inp           true matches / rank of the last of them, 0 to 1 (NaN for an excluded query)
    first_hit     rank of the first true match, from 1 (0 for an excluded query)
    matches       how many true matches the gallery holds under the protocol
    valid         False for an excluded query: one without any true match, which enters no mean
    """

    protocol: Protocol
    ap: np.ndarray
    ap_trapezoid: np.ndarray
    inp: np.ndarray
    first_hit: np.ndarray
    matches: np.ndarray
    valid: np.ndarray

    @classmethod
    def excluded(cls, protocol: Protocol, queries: int) -> Ranking:
        """The ranking in which every query is excluded: where results are filled in."""
        ap, trapezoid, inp = (np.full(queries, np.nan) for _ in range(3))
        hit, matches = np.zeros(queries, np.int64), np.zeros(queries, np.int64)
        return cls(protocol, ap, trapezoid, inp, hit, matches, np.zeros(queries, bool))

    def cmc(self, k: int) -> np.ndarray:
        """1 for each query whose first true match stands at rank k or before, else 0 (NaN for an excluded query)."""
        return np.where(self.valid, (self.first_hit <= k).astype(np.float64), np.nan)

    def per_query(self) -> dict[str, np.ndarray]:
        """The arrays that are kept beside a record."""
        return {name: getattr(self, name) for name in ("ap", "ap_trapezoid", "inp", "first_hit", "valid")}

    def metrics(self) -> dict[str, float | int]:
        """Means over the valid queries, in percent as papers print them, and how many queries that are."""
        values = {**{f"rank{k}": self.cmc(k) for k in CUTS}, "mAP": self.ap}
        values |= {"mAP_trapezoid": self.ap_trapezoid, "mINP": self.inp}
        counts = {"queries": int(self.valid.sum()), "excluded_queries": int((~self.valid).sum())}
        return {name: 100.0 * float(np.mean(value[self.valid])) for name, value in values.items()} | counts


@dataclass(frozen=True, eq=False)
class Draws:
    """The same queries ranked against galleries drawn at random: the means over the draws, query by query.

    rankings  one a draw, in order
    """

    rankings: tuple[Ranking, ...]

    @property
    def protocol(self) -> Protocol:
        return self.rankings[0].protocol

    @property
    def valid(self) -> np.ndarray:
        return self.rankings[0].valid

    @property
    def ap(self) -> np.ndarray:
        return np.mean([ranking.ap for ranking in self.rankings], axis=0)

    @property
    def ap_trapezoid(self) -> np.ndarray:
        return np.mean([ranking.ap_trapezoid for ranking in self.rankings], axis=0)

    @property
    def inp(self) -> np.ndarray:
        return np.mean([ranking.inp for ranking in self.rankings], axis=0)

    def cmc(self, k: int) -> np.ndarray:
        """Share of the draws in which each query's match stands at rank k or before (NaN for an excluded query)."""
        return np.mean([ranking.cmc(k) for ranking in self.rankings], axis=0)

    def per_query(self) -> dict[str, np.ndarray]:
        """The arrays that are kept beside a record: as `Ranking`'s, CMC in place of the rank of the first match."""
        kept = {name: getattr(self, name) for name in ("ap", "ap_trapezoid", "inp", "valid")}
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
        return {name: float(np.std([one[name] for one in each], ddof=1)) if len(each) > 1 else 0.0 for name in names}


def average_precision(hits: Sequence[int], *, rule: str = "plain") -> float:
    """Average precision of one ranked list, best first, 1 = true match, 0 = wrong. Both rules, for checking by hand.

    rule "plain"      the mean over the true matches of the precision at their rank
    rule "trapezoid"  Market-1501's MATLAB rule: the mean of (precision at the rank before + precision at the rank) / 2,
                      where the precision before rank 1 is 1
    """
    ranks = np.flatnonzero(np.asarray(hits)) + 1
    if rule not in ("plain", "trapezoid") or not len(ranks):
        raise ReidError(f"rule {rule!r}, {len(ranks)} true matches; choose 'plain' or 'trapezoid' and a list with a 1")
    plain, trapezoid = _precisions(ranks.astype(np.float64), np.arange(1.0, len(ranks) + 1))
    return float(np.mean(plain if rule == "plain" else trapezoid))


def rank(
    query: Features,
    gallery: Features,
    *,
    protocol: Protocol = MARKET1501_SINGLE_QUERY,
    metric: str = "euclidean",
    block: int | None = None,
    partial: bool = False,
) -> Ranking:
    """Rank the whole gallery for every query by the distance of their features and score it under `protocol`.

    metric  "euclidean" of the features as they are, or "cosine": of the features scaled to length 1; there a zero
            vector is orthogonal to everything
    block   how many queries at a time (None: as many as keep a block of distances within 64 MiB); results do not
            depend on it. The work is done on the device of the queries' features.
    partial a part of a test: here no query needs to have a true match

    Raises ReidError naming the set: dimensions that differ, no query with a true match.
    """
    demand_same_space(query, gallery)
    labels = Labels(protocol, query.ids, query.cameras, gallery.ids, gallery.cameras)
    labels.sets = f"{query.name} and {gallery.name}"
    kept = gallery.features if labels.kept.all() else gallery.features[labels.kept.to(gallery.features.device)]
    device = query.features.device
    if not len(kept):
        raise no_match(protocol, query.ids, query.cameras, labels.sets)
    with full_precision(device):
        others = Points.of(kept.to(device), metric)
        queries = Points.of(query.features, metric, like=others)

        def block_counts(rows: slice, pairs: _Pairs) -> torch.Tensor:
            return _count_refined(queries.closeness(rows, others), pairs, queries, rows, others)

        return _rank(labels, block_counts, block, device, partial)


def rank_distances(
    distances: torch.Tensor,
    query_ids: Sequence[int] | np.ndarray | torch.Tensor,
    query_cameras: Sequence[int] | np.ndarray | torch.Tensor,
    gallery_ids: Sequence[int] | np.ndarray | torch.Tensor,
    gallery_cameras: Sequence[int] | np.ndarray | torch.Tensor,
    *,
    protocol: Protocol = MARKET1501_SINGLE_QUERY,
    block: int | None = None,
    partial: bool = False,
) -> Ranking:
    """As `rank`, for a Q×G matrix of distances that is there already (after re-ranking, or of another metric).

    Entries of one row within 1e-6 are ties; the comparison is made in float64.
    """
    if not isinstance(distances, torch.Tensor):
        distances = torch.as_tensor(np.asarray(distances))
    distances = distances.detach()
    if distances.ndim != 2 or not distances.numel():
        raise ReidError(f"distances have shape {tuple(distances.shape)}; give a Q×G matrix of at least one entry")
    if not torch.isfinite(distances).all():
        raise ReidError("distances hold NaN or infinite values; look at the features they were made from")
    labels = Labels(
        protocol,
        integers(query_ids, "query_ids", distances.shape[0]),
        integers(query_cameras, "query_cameras", distances.shape[0]),
        integers(gallery_ids, "gallery_ids", distances.shape[1]),
        integers(gallery_cameras, "gallery_cameras", distances.shape[1]),
    )
    kept = None if labels.kept.all() else labels.kept.to(distances.device)

    def block_counts(rows: slice, pairs: _Pairs) -> torch.Tensor:
        here = distances[rows] if kept is None else distances[rows][:, kept]
        closeness = here.double().neg_()
        return _count_at_least(closeness, pairs.take(closeness) - TIE)

    return _rank(labels, block_counts, block, distances.device, partial)


def blocks(queries: int, gallery: int, block: int | None = None) -> Iterator[slice]:
    """The queries in turn, `block` at a time; None: as many as keep a block of similarities within 64 MiB."""
    if block is not None and block < 1:
        raise ReidError(f"block={block} is no number of queries; give 1 or more, or None")
    block = block or max(1, _BLOCK_BYTES // (4 * gallery))
    return (slice(start, min(start + block, queries)) for start in range(0, queries, block))


def no_match(
    protocol: Protocol, query_ids: torch.Tensor, query_cameras: torch.Tensor, sets: str = "both sets"
) -> ReidError:
    """The error for the case that no query has a true match; `sets` names the two."""
    return ReidError(
        f"none of the {len(query_ids)} queries has a true match in the gallery under {protocol.name} (first query: "
        f"identity {int(query_ids[0])}, camera {int(query_cameras[0])}); check that ids and cameras "
        f"of {sets} are counted alike and that the cameras differ"
    )


def demand_same_space(query: Features, gallery: Features) -> None:
    """Raises ReidError when the two sets have another number of dimensions."""
    if query.features.shape[1] != gallery.features.shape[1]:
        raise ReidError(
            f"{query.name}: features have {query.features.shape[1]} dimensions, those of {gallery.name} "
            f"{gallery.features.shape[1]}; extract both with the same model and descriptor"
        )


# --- labels -----------------------------------------------------------------------------------------------------------


class Labels:
    """Identities and cameras, checked, with the gallery grouped by identity. Junk leaves the gallery here.

    kept  which gallery images take part (bool, G). Column numbers from here on count these only.
    """

    sets = "both sets"
    """What an error calls them."""

    def __init__(self, protocol, query_ids, query_cameras, ids, cameras) -> None:
        self.protocol, self.query_ids, self.query_cameras = protocol, query_ids, query_cameras
        self.kept = ~torch.isin(ids, torch.tensor(protocol.junk, dtype=torch.int64))
        self.gallery_cameras = cameras[self.kept]
        sorted_ids, self.order = torch.sort(ids[self.kept], stable=True)
        # the images of identity i are order[start : end]; a distractor or junk identity matches nobody, ever
        self.start = torch.searchsorted(sorted_ids, self.query_ids)
        self.end = torch.searchsorted(sorted_ids, self.query_ids, right=True)
        nobody = torch.isin(self.query_ids, torch.tensor(protocol.junk + protocol.distractors, dtype=torch.int64))
        self.end[nobody] = self.start[nobody]

    def pairs(self, rows: slice) -> _Pairs:
        """The gallery images of each query's own identity, for a block of queries, padded to the longest list."""
        start, end = self.start[rows, None], self.end[rows, None]
        position = start + torch.arange(max(1, int((end - start).max())))
        present = position < end
        columns = self.order[position.clamp(max=len(self.order) - 1)] if len(self.order) else position * 0
        match = present.clone()
        if self.protocol.ignore_same_camera and len(self.order):
            match &= self.gallery_cameras[columns] != self.query_cameras[rows, None]
        return _Pairs(columns, present, match)


@dataclass
class _Pairs:
    """For a block of B queries: gallery columns of the same identity (B×M, padded).

    present  the entry is no padding
    match    it is a true match under the protocol; present without match = ignored (same camera)
    """

    columns: torch.Tensor
    present: torch.Tensor
    match: torch.Tensor

    def to(self, device: torch.device) -> _Pairs:
        return _Pairs(self.columns.to(device), self.present.to(device), self.match.to(device))

    def take(self, closeness: torch.Tensor) -> torch.Tensor:
        """The true matches' closeness (B×M, +inf elsewhere); takes every image of the identity out of `closeness`."""
        values = closeness.gather(1, self.columns).masked_fill(~self.match, torch.inf)
        row, _ = self.present.nonzero(as_tuple=True)
        closeness[row, self.columns[self.present]] = -torch.inf
        return values


# --- counting ---------------------------------------------------------------------------------------------------------


def _count_at_least(closeness: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    """How many entries of each row (B×G) are ≥ each of its thresholds (B×T): int64, B×T. Sorts `closeness` in place."""
    if closeness.device.type == "cpu":
        # numpy sorts by vector instructions, ten times as fast as torch does; rows are shared out to the same threads
        rows = closeness.numpy()
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(lambda part: part.sort(axis=1), np.array_split(rows, torch.get_num_threads())))
    else:
        closeness = closeness.sort(dim=1).values
    return closeness.shape[1] - torch.searchsorted(closeness, thresholds.contiguous())


def _count_refined(
    closeness: torch.Tensor, pairs: _Pairs, queries: Points, rows: slice, others: Points
) -> torch.Tensor:
    """Wrong images at least as close as each match, or tied with it: int64, B×M, as if all were float64.

    closeness  float32, B×G: (square of the query − squared distance) / 2 for the queries `rows` and all of `others`.
               Counted at both edges of the band where rounding may decide; where the two counts differ, the images
               between them are compared again in float64, from the features as given.
    """
    matches = pairs.take(closeness)
    edge = matches - TIE / 2
    square = queries.square[rows, None]
    band = others.error(square, square - 2 * matches)  # of the match and of the other image, each half of it
    both = _count_at_least(closeness.clone(), torch.cat((edge + band, edge - band), dim=1))
    counts, possible = both.tensor_split(2, dim=1)
    doubtful = (possible - counts).masked_fill(~pairs.match, 0)
    # A few doubtful images in a row: compute those. Many (features nearly all the same): the whole row, by matmul.
    many = doubtful.sum(1) > _FEW
    row, position = doubtful.masked_fill(many[:, None], 0).nonzero(as_tuple=True)
    if len(row):
        match, column = _within(closeness, row, (edge - band)[row, position], (edge + band)[row, position])
        exact = queries.exact_pairs(row + rows.start, others, pairs.columns[row, position]) + TIE
        closer = queries.exact_pairs(row[match] + rows.start, others, column) <= exact[match]
        counts.index_put_((row[match], position[match]), closer.long(), accumulate=True)
    for some in many.nonzero()[:, 0].split(_FEW) if many.any() else ():
        exact = queries.exact_distances(some + rows.start, others).neg_()
        part = _Pairs(pairs.columns[some], pairs.present[some], pairs.match[some])
        counts[some] = _count_at_least(exact, part.take(exact) - TIE)
    return counts


def _within(
    closeness: torch.Tensor, row: torch.Tensor, low: torch.Tensor, high: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each (row, low, high) the columns of that row with low ≤ closeness < high: (number of the three, column)."""
    # pieces that stay in a core's cache; a GPU wants large ones
    step = max(1, 2 ** (19 if closeness.device.type == "cpu" else 25) // closeness.shape[1])
    found = []
    for start in range(0, len(row), step):
        piece = slice(start, start + step)
        here = closeness[row[piece]]
        inside = ((here >= low[piece, None]) & (here < high[piece, None])).flatten()
        if inside.device.type == "cpu":  # numpy skips zeros by the word
            inside = torch.from_numpy(np.flatnonzero(inside.numpy()))
        else:
            inside = inside.nonzero()[:, 0]
        found.append(torch.stack((inside // here.shape[1] + start, inside % here.shape[1])))
    return torch.cat(found, dim=1).unbind(0)


def _rank(labels: Labels, block_counts, block: int | None, device: torch.device, partial: bool) -> Ranking:
    """Counts to ranks to metrics, block by block."""
    total, gallery = len(labels.query_ids), max(1, len(labels.order))
    answer = Ranking.excluded(labels.protocol, total)
    for rows in blocks(total, gallery, block):
        pairs = labels.pairs(rows)
        number = pairs.match.sum(1)
        answer.matches[rows] = number
        answer.valid[rows] = number > 0
        if not len(labels.order) or not number.any():
            continue
        wrong = block_counts(rows, pairs.to(device)).cpu()
        # padding behind every match; within a query the counts grow with the matches' distance
        wrong = wrong.masked_fill(~pairs.match, gallery).sort(dim=1).values
        order = torch.arange(1, wrong.shape[1] + 1)
        ranks = (wrong + order).double().numpy()
        inside = (order <= number[:, None]).numpy()
        has, count = (number > 0).numpy(), np.maximum(number.numpy(), 1)
        plain, trapezium = _precisions(ranks, order.double().numpy())
        answer.ap[rows] = np.where(has, (plain * inside).sum(1) / count, np.nan)
        answer.ap_trapezoid[rows] = np.where(has, (trapezium * inside).sum(1) / count, np.nan)
        last = ranks[np.arange(len(ranks)), count - 1]
        answer.inp[rows] = np.where(has, count / last, np.nan)
        answer.first_hit[rows] = np.where(has, ranks[:, 0], 0)
    if not answer.valid.any() and not partial:
        raise no_match(labels.protocol, labels.query_ids, labels.query_cameras, labels.sets)
    return answer


def _precisions(ranks: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Contribution of the match number `order` (from 1) found at `ranks`, by the plain and by the trapezoid rule."""
    precision = order / ranks
    before = np.where(ranks > 1, (order - 1) / np.maximum(ranks - 1, 1), 1.0)
    return precision, (precision + before) / 2
