"""The one evaluator: from features, identities and cameras to CMC, both average precisions and mINP, query by query.

No row is sorted with its indices and no Q×G matrix is kept. A query's numbers depend only on the rank of each of its
true matches, and that rank is a count: the k-th closest match has rank k + (wrong images closer than it, or tied).

Ties. Two gallery images are tied when their squared distances |a − b|² = 2 − 2·cos(a, b) differ by at most 1e-6, and in
a tie the wrong image ranks first. The squared distance is taken because its rounding error in float32 is near 1e-7
everywhere; the error of the plain distance grows without bound towards 0 (3e-4 for a duplicate). A count that rounding
could change (an image near the edge of a match's tie) is decided in float64, so metrics agree between block sizes,
gallery orders and devices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from reidlib.evaluation.protocols import MARKET1501_SINGLE_QUERY, Protocol
from reidlib.spec import ReidError

TIE = 1e-6
"""Squared distances of L2-normalised features (or entries of a given matrix) this close are equal."""

_BAND, _BAND_RELATIVE = 2e-7, 1e-6
"""Half width, in cosine, of the zone round the edge of a tie where float32 does not decide: a part that holds near 0
and one that grows with the match's closeness. Above the errors seen at 64 to 8,192 dimensions (1.5e-7 and 1e-6)."""

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

    def metrics(self) -> dict[str, float | int]:
        """Means over the valid queries, in percent as papers print them, and how many queries that are."""
        hit = self.first_hit[self.valid]
        return {
            **{f"rank{k}": 100.0 * float(np.mean(hit <= k)) for k in (1, 5, 10, 20)},
            "mAP": 100.0 * float(np.mean(self.ap[self.valid])),
            "mAP_trapezoid": 100.0 * float(np.mean(self.ap_trapezoid[self.valid])),
            "mINP": 100.0 * float(np.mean(self.inp[self.valid])),
            "queries": int(self.valid.sum()),
            "excluded_queries": int((~self.valid).sum()),
        }


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


def evaluate(
    query_features: torch.Tensor,
    gallery_features: torch.Tensor,
    query_ids: Sequence[int] | np.ndarray | torch.Tensor,
    query_cameras: Sequence[int] | np.ndarray | torch.Tensor,
    gallery_ids: Sequence[int] | np.ndarray | torch.Tensor,
    gallery_cameras: Sequence[int] | np.ndarray | torch.Tensor,
    *,
    protocol: Protocol = MARKET1501_SINGLE_QUERY,
    block: int | None = None,
) -> Ranking:
    """Rank the gallery for every query by the distance of their features and score it under `protocol`.

    Features are Q×D and G×D, of any float type and layout; they are L2-normalised here. A zero vector has cosine 0 to
    everything. The work is done on the device of `query_features`, `block` queries at a time (None: as many as keep a
    block of similarities within 64 MiB); results do not depend on it.

    Raises ReidError naming the argument: empty sets, lengths or dimensions that differ, NaN or infinite features, ids
    that are not whole numbers, and when no query has a true match.
    """
    query, gallery = _features(query_features, "query_features"), _features(gallery_features, "gallery_features")
    if query.shape[1] != gallery.shape[1]:
        raise ReidError(
            f"query_features have {query.shape[1]} dimensions, gallery_features {gallery.shape[1]}; "
            "extract both with the same model and descriptor"
        )
    labels = _Labels(protocol, len(query), len(gallery), query_ids, query_cameras, gallery_ids, gallery_cameras)
    if not labels.kept.all():
        gallery = gallery[labels.kept.to(gallery.device)]
    gallery = gallery.to(query.device)
    query_unit = _unit_rows(query, "query_features")
    gallery_unit = _unit_rows(gallery, "gallery_features", labels.kept.nonzero()[:, 0])
    # cos(a, b) = (a − m)·(b − m) + m·(b − m) + a part that is one for the whole row. About the mean m, features that
    # are nearly all the same (an untrained network) keep the digits that tell them apart.
    mean = gallery_unit.mean(dim=0)
    query_unit -= mean
    gallery_unit -= mean

    def block_counts(rows: slice, pairs: _Pairs) -> torch.Tensor:
        closeness = torch.addmm(gallery_unit @ mean, query_unit[rows], gallery_unit.T)
        return _count_refined(closeness, pairs, query[rows], gallery)

    with _full_precision(query.device):
        return _rank(labels, block_counts, block, query.device)


def evaluate_distances(
    distances: torch.Tensor,
    query_ids: Sequence[int] | np.ndarray | torch.Tensor,
    query_cameras: Sequence[int] | np.ndarray | torch.Tensor,
    gallery_ids: Sequence[int] | np.ndarray | torch.Tensor,
    gallery_cameras: Sequence[int] | np.ndarray | torch.Tensor,
    *,
    protocol: Protocol = MARKET1501_SINGLE_QUERY,
    block: int | None = None,
) -> Ranking:
    """As `evaluate`, for a Q×G matrix of distances that is there already (after re-ranking, or of another metric).

    Entries of one row within 1e-6 are ties; the comparison is made in float64.
    """
    if not isinstance(distances, torch.Tensor):
        distances = torch.as_tensor(np.asarray(distances))
    distances = distances.detach()
    if distances.ndim != 2 or not distances.numel():
        raise ReidError(f"distances have shape {tuple(distances.shape)}; give a Q×G matrix of at least one entry")
    if not torch.isfinite(distances).all():
        raise ReidError("distances hold NaN or infinite values; look at the features they were made from")
    labels = _Labels(protocol, *distances.shape, query_ids, query_cameras, gallery_ids, gallery_cameras)
    kept = labels.kept.to(distances.device)

    def block_counts(rows: slice, pairs: _Pairs) -> torch.Tensor:
        closeness = distances[rows][:, kept].double().neg_()
        matches = pairs.take(closeness)
        return _count_at_least(closeness, matches - TIE)

    return _rank(labels, block_counts, block, distances.device)


# --- labels -----------------------------------------------------------------------------------------------------------


class _Labels:
    """Identities and cameras, checked, with the gallery grouped by identity. Junk leaves the gallery here.

    kept  which gallery images take part (bool, G). Column numbers from here on count these only.
    """

    def __init__(self, protocol, queries, gallery, query_ids, query_cameras, gallery_ids, gallery_cameras) -> None:
        self.protocol = protocol
        self.query_ids = _integers(query_ids, "query_ids", queries, "queries")
        self.query_cameras = _integers(query_cameras, "query_cameras", queries, "queries")
        ids = _integers(gallery_ids, "gallery_ids", gallery, "gallery images")
        cameras = _integers(gallery_cameras, "gallery_cameras", gallery, "gallery images")
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


def _count_refined(closeness: torch.Tensor, pairs: _Pairs, query: torch.Tensor, gallery: torch.Tensor) -> torch.Tensor:
    """Wrong images at least as close as each match, or tied with it: int64, B×M, as if all were float64.

    closeness  float32 cosines plus a constant of the row, B×G. Counted at both edges of the band where rounding may
               decide; where the two counts differ, the images between them are compared again in float64, from the
               features as given (`query` B×D, `gallery` G×D).
    """
    matches = pairs.take(closeness)
    edge = matches - TIE / 2  # a difference in |a − b|² is twice one in cosine
    band = _BAND + _BAND_RELATIVE * matches.abs()
    both = _count_at_least(closeness.clone(), torch.cat((edge + band, edge - band), dim=1))
    counts, possible = both.tensor_split(2, dim=1)
    doubtful = (possible - counts).masked_fill(~pairs.match, 0)
    # A few doubtful images in a row: compute those. Many (features nearly all the same): the whole row, by matmul.
    many = doubtful.sum(1) > _FEW
    row, position = doubtful.masked_fill(many[:, None], 0).nonzero(as_tuple=True)
    if len(row):
        match, column = _within(closeness, row, (edge - band)[row, position], (edge + band)[row, position])
        exact = _cosine_of_pairs(query, gallery, row, pairs.columns[row, position]) - TIE / 2
        closer = _cosine_of_pairs(query, gallery, row[match], column) >= exact[match]
        counts.index_put_((row[match], position[match]), closer.long(), accumulate=True)
    if many.any():
        rows = many.nonzero()[:, 0]
        exact = _cosines(query[rows], gallery)
        part = _Pairs(pairs.columns[rows], pairs.present[rows], pairs.match[rows])
        counts[rows] = _count_at_least(exact, part.take(exact) - TIE / 2)
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
        inside = ((here >= low[piece, None]) & (here < high[piece, None])).nonzero()
        inside[:, 0] += start
        found.append(inside)
    return torch.cat(found).unbind(1)


def _rank(labels: _Labels, block_counts, block: int | None, device: torch.device) -> Ranking:
    """Counts to ranks to metrics, block by block."""
    total, gallery = len(labels.query_ids), max(1, len(labels.order))
    if block is not None and block < 1:
        raise ReidError(f"block={block} is no number of queries; give 1 or more, or None")
    block = block or max(1, _BLOCK_BYTES // (4 * gallery))
    ap, trapezoid, inp = (np.full(total, np.nan) for _ in range(3))
    first_hit, matches = np.zeros(total, np.int64), np.zeros(total, np.int64)
    for start in range(0, total, block):
        rows = slice(start, min(start + block, total))
        pairs = labels.pairs(rows)
        number = pairs.match.sum(1)
        matches[rows] = number
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
        ap[rows] = np.where(has, (plain * inside).sum(1) / count, np.nan)
        trapezoid[rows] = np.where(has, (trapezium * inside).sum(1) / count, np.nan)
        last = ranks[np.arange(len(ranks)), count - 1]
        inp[rows] = np.where(has, count / last, np.nan)
        first_hit[rows] = np.where(has, ranks[:, 0], 0)
    valid = matches > 0
    if not valid.any():
        raise ReidError(
            f"none of the {total} queries has a true match in the gallery under {labels.protocol.name} (first query: "
            f"identity {int(labels.query_ids[0])}, camera {int(labels.query_cameras[0])}); check that identities and "
            "cameras of both sets are counted alike and that the cameras differ"
        )
    return Ranking(labels.protocol, ap, trapezoid, inp, first_hit, matches, valid)


def _precisions(ranks: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Contribution of the match number `order` (from 1) found at `ranks`, by the plain and by the trapezoid rule."""
    precision = order / ranks
    before = np.where(ranks > 1, (order - 1) / np.maximum(ranks - 1, 1), 1.0)
    return precision, (precision + before) / 2


# --- features ---------------------------------------------------------------------------------------------------------


def _unit_rows(features: torch.Tensor, name: str, numbers: torch.Tensor | None = None) -> torch.Tensor:
    """Rows N×D scaled to length 1, in float32, a new tensor; a zero row stays zero. Refuses NaN and infinite values.

    numbers  the caller's number of each row, for the message; None: 0 to N−1
    """
    single = features.float()
    norms = torch.linalg.vector_norm(single, dim=1, keepdim=True)
    unit = single / norms
    # zeros, values whose squares leave float32's range, NaN: again in float64, and only these rows
    odd = (~((norms > 1e-15) & (norms < 1e15)))[:, 0].nonzero()[:, 0]
    if len(odd):
        again = features[odd].double()
        bad = ~torch.isfinite(again).all(dim=1)
        if bad.any():
            first = int(odd[bad][0])
            raise ReidError(
                f"{name} holds NaN or infinite values in {int(bad.sum())} of {len(features)} rows, first row "
                f"{first if numbers is None else int(numbers[first])}; look at that image and at the model"
            )
        unit[odd] = _unit(again).float()
    return unit


def _unit(features: torch.Tensor) -> torch.Tensor:
    norms = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / norms.masked_fill(norms == 0, 1.0)


def _cosine_of_pairs(
    query: torch.Tensor, gallery: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    """float64 cosines of P pairs (query row, gallery column)."""
    parts = [torch.empty(0, dtype=torch.float64, device=query.device)]
    for row, column in zip(rows.split(256), columns.split(256), strict=True):
        parts.append((_unit(query[row].double()) * _unit(gallery[column].double())).sum(1))
    return torch.cat(parts)


def _cosines(query: torch.Tensor, gallery: torch.Tensor) -> torch.Tensor:
    """float64 cosines of all query rows with all gallery rows: B×G."""
    own = _unit(query.double())
    return torch.cat([own @ _unit(part.double()).T for part in gallery.split(4096)], dim=1)


def _features(features: torch.Tensor, name: str) -> torch.Tensor:
    if not isinstance(features, torch.Tensor):
        features = torch.as_tensor(np.asarray(features))
    if features.ndim != 2 or not features.numel():
        raise ReidError(f"{name} has shape {tuple(features.shape)}; give N×D with at least one row and one column")
    if not features.is_floating_point():
        raise ReidError(f"{name} holds {features.dtype}; give a floating point type (float32)")
    return features.detach()


def _integers(values, name: str, length: int, of: str) -> torch.Tensor:
    array = np.asarray(values.cpu() if isinstance(values, torch.Tensor) else values)
    if array.shape != (length,):
        raise ReidError(f"{name} has shape {array.shape}, but there are {length} {of}; give one whole number for each")
    if array.dtype.kind not in "iu" and not (array.dtype.kind == "f" and np.array_equal(array, np.round(array))):
        raise ReidError(f"{name} holds {array.dtype} values that are no whole numbers; give integers")
    return torch.from_numpy(array.astype(np.int64))


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Matrix products in full float32, whatever training switched on: TF32, bfloat16 and autocast are off by 1e-3."""
    switches = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value
