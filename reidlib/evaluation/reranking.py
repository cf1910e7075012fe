"""Re-ranking in plain torch, on CPU or GPU, in blocks: k-reciprocal encoding and expanded cross neighbourhood.

Both start from the nearest neighbours of all N = Q + G images, queries and gallery together. An image is its own
nearest neighbour; squared distances are compared in steps of 1e-6 of the spread of all N images (`distances.TIE_RULE`),
and images in the same step stand in the order of their numbers (queries first). Distances are float64, so that neither
block size nor device changes a result.

Memory: the N × D features as given and in float64, the Q×G answer in float32, 12 bytes a neighbour, and six blocks of
distances; a block holds `block` × N of them (where no block is given: 128 MiB, at least 512 images). N × N is never
held. Each pair of images is compared once: half of the products.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from reidlib.evaluation.distances import TIE, Vectors
from reidlib.evaluation.features import check_features
from reidlib.spec import ReidError

torch.sparse.check_sparse_tensor_invariants.disable()  # torch warns on a GPU where this is not chosen

_BLOCK_BYTES = 128 * 2**20
"""Memory for one block of distances where the caller states no block size."""

_FEWEST = 512
"""Images compared at once where the caller states no block size, at least: merging many small lists takes long."""

_PIECE = 2**21
"""Entries worked on at once where lists are joined: about 100 MiB."""


@dataclass(frozen=True)
class KReciprocal:
    """k-reciprocal encoding (Zhong, Zheng, Cao and Li, CVPR 2017).

    k1       size of the neighbourhood (their §3.2)
    k2       neighbours over which an encoding is averaged: local query expansion (§3.4); 1 for none
    lambda_  weight of the original distance in the answer, 0 to 1 (§3.5)

    As released: squared distances, each row divided by its largest; a neighbour's half-size set joins when MORE than
    two thirds of it are shared (the text, §3.2, says at least two thirds); k1/2 is rounded to the even neighbour.
    """

    k1: int = 20
    k2: int = 6
    lambda_: float = 0.3

    metric = "euclidean"
    """What the authors start from, where the caller names none."""

    def __post_init__(self) -> None:
        _check_counts(k1=self.k1, k2=self.k2)
        if not isinstance(self.lambda_, Real) or not 0 <= self.lambda_ <= 1:
            raise ReidError(f"re-ranking: lambda={self.lambda_}; give a number from 0 to 1")

    def __str__(self) -> str:
        return f"k-reciprocal, k1 {self.k1}, k2 {self.k2}, λ {self.lambda_:g}"

    def distances(
        self, query: Tensor, gallery: Tensor, *, metric: str | None = None, block: int | None = None
    ) -> Tensor:
        """Re-ranked distances Q×G, float32, on the query's device: (1 − λ)·Jaccard + λ·original.

        query Q×D and gallery G×D, without junk; metric "euclidean" (as given) or "cosine" (scaled to length 1); block:
        how many images are compared with all others at a time. Raises ReidError when the set is smaller than k1 or k2.
        """
        everyone = _together(query, gallery, k1=self.k1 + 1, k2=self.k2)
        with _full_precision(everyone.device):
            points = Vectors.of(everyone, metric or self.metric)
            # more neighbours than the sets need: their distances will not have to be computed a second time
            stored = min(len(points), max(2 * self.k1 + 2, self.k2))
            near = _neighbours(points, stored, len(query), block)
            encoding = self._encode(points, near)
            if self.k2 > 1:
                first = near.images[:, : self.k2]
                average = _sparse(first, torch.full(first.shape, 1 / self.k2, device=first.device), len(points))
                encoding = _product(average, encoding)
            answer = near.original.div_(near.farthest[: len(query), None]).mul_(self.lambda_)
            for rows, shared in _shared(encoding, answer):
                # |R_p ∩ R_g| / |R_p ∪ R_g|: each encoding sums to 1, so the union is 2 − the shared part (§3.3)
                answer[rows] += (1 - self.lambda_) * (1 - shared / (2 - shared))
        return answer

    def _encode(self, points: Vectors, near: _Near) -> Tensor:
        """Gaussian weights of the expanded k-reciprocal neighbours (§3.2 and 3.3), sparse N × N, rows that sum to 1."""
        half = round(self.k1 / 2) + 1  # the image itself counts
        wide, narrow = near.images[:, : self.k1 + 1], near.images[:, :half]
        total = len(points)
        rows, columns, distances = [], [], []
        for piece in torch.arange(total, device=wide.device).split(max(1, _PIECE // (half * (self.k1 + 1)))):
            mine = _mutual(wide, piece)  # b × (k1+1), N where not mutual
            candidate = torch.where(mine < total, mine, 0)
            theirs = _mutual(narrow, candidate.flatten()).view(*mine.shape, half)
            theirs = theirs.masked_fill((mine == total)[:, :, None], total)
            known = torch.sort(mine, dim=1).values
            place = torch.searchsorted(known, theirs.flatten(1)).clamp(max=known.shape[1] - 1)
            shared = (known.gather(1, place).view_as(theirs) == theirs) & (theirs < total)
            joins = 3 * shared.sum(2) > 2 * (theirs < total).sum(2)
            theirs = theirs.masked_fill(~joins[:, :, None], total).flatten(1)
            union = torch.sort(torch.cat((mine, theirs), dim=1), dim=1).values
            union[:, 1:].masked_fill_(union[:, 1:] == union[:, :-1], total)
            row, position = (union < total).nonzero(as_tuple=True)
            rows.append(piece[row])
            columns.append(union[row, position])
            distances.append(near.distances_to(points, piece[row], columns[-1]))
        row, column = torch.cat(rows), torch.cat(columns)
        weight = torch.exp(-torch.cat(distances) / near.farthest[row])
        weight /= torch.zeros(total, device=weight.device).index_add_(0, row, weight)[row]
        places = torch.stack((row, column))
        return torch.sparse_coo_tensor(places, weight, (total, total), is_coalesced=True, check_invariants=False)


@dataclass(frozen=True)
class ECN:
    """Expanded cross neighbourhood distance (Sarfraz, Schumann, Eberle and Stiefelhagen, CVPR 2018), as released.

    k         length of the rank lists that are compared
    t, q      an image is expanded by its t nearest neighbours and the q nearest of each of those, t + t·q in all
    distance  between a neighbour and the image on the other side: "rank-list" (minus the rank-list similarity) or
              "original"
    """

    k: int = 25
    t: int = 3
    q: int = 8
    distance: str = "rank-list"

    metric = "cosine"
    """What the authors start from, where the caller names none."""

    def __post_init__(self) -> None:
        _check_counts(k=self.k, t=self.t, q=self.q)
        if self.distance not in ("rank-list", "original"):
            raise ReidError(f"re-ranking: distance={self.distance}; give 'rank-list' or 'original'")

    def __str__(self) -> str:
        return f"ECN, k {self.k}, t {self.t}, q {self.q}, {self.distance} distance"

    def distances(
        self, query: Tensor, gallery: Tensor, *, metric: str | None = None, block: int | None = None
    ) -> Tensor:
        """Expanded cross distances Q×G, float32, on the query's device; rank-list distances are negative.

        Arguments and errors as `KReciprocal.distances`. The original distance is half the squared one in units of the
        spread; where the mean of the rank-list distances is exactly 0 it replaces them.
        """
        ranked = self.distance == "rank-list"
        needed = {"k": self.k if ranked else 1, "t": self.t + 1, "q": self.q + 1}
        everyone = _together(query, gallery, **needed)
        with _full_precision(everyone.device):
            points = Vectors.of(everyone, metric or self.metric)
            near = _neighbours(points, max(needed.values()), len(query), block)
            answer = near.original.div_(2)
            # how often each image is among the expanded neighbours of each: sparse N × N, rows that sum to t + t·q
            first = near.images[:, 1 : self.t + 1]
            expanded = torch.cat((first, near.images[:, 1 : self.q + 1][first].flatten(1)), dim=1)
            around = _sparse(expanded, torch.ones(expanded.shape, device=first.device), len(points))
            if ranked:
                self._by_rank_lists(answer, near.images, around)
            else:
                self._by_original(answer, points, around)
        return answer

    def _by_rank_lists(self, answer: Tensor, images: Tensor, around: Tensor) -> None:
        """Similarity of two lists: Σ over the images in both of (k − place)·(k − place). Whole numbers, so exact."""
        weight = torch.arange(self.k, 0, -1, device=images.device, dtype=torch.float32)
        lists = _sparse(images[:, : self.k], weight.expand(len(images), -1), len(images))
        expanded = _product(around, lists)
        queries, (total, count) = len(answer), (len(images), 2 * (self.t + self.t * self.q))
        similarity = torch.empty_like(answer)
        of_queries, of_gallery = (_rows(lists, part) for part in (slice(0, queries), slice(queries, total)))
        for rows in _blocks(queries, total, total):
            columns = slice(rows.start - queries, rows.stop - queries)
            similarity[:, columns] = _product(of_queries, _rows(expanded, rows).to_dense().T)
        for rows in _blocks(0, queries, total):
            both = similarity[rows] + _product(of_gallery, _rows(expanded, rows).to_dense().T).T
            answer[rows] = torch.where(both > 0, both / -count, answer[rows])

    def _by_original(self, answer: Tensor, points: Vectors, around: Tensor) -> None:
        """Mean of |a − b|²/2 over the a around p and a fixed b: from the mean of the a and of their squares."""
        count, queries = self.t + self.t * self.q, len(answer)
        around = around.double()
        means = _product(around, points.points) / count
        squares = _product(around, points.square[:, None])[:, 0] / count
        for rows in _blocks(0, queries, 2 * len(points)):
            cross = means[rows] @ points.points[queries:].T + points.points[rows] @ means[queries:].T
            square = (squares[rows] + points.square[rows])[:, None] + (squares + points.square)[queries:]
            answer[rows] = (square / 2 - cross) / 2


RERANKINGS = {"k-reciprocal": KReciprocal, "ecn": ECN}


def reranking(name: str | None, **options: Any) -> KReciprocal | ECN | None:
    """The re-ranking called `name` with those of `options` that are not None; None for no re-ranking.

    Raises ReidError for an option that the re-ranking does not have.
    """
    chosen = {option: value for option, value in options.items() if value is not None}
    known = [field.name for field in fields(RERANKINGS[name])] if name else []
    for option in chosen:
        if option not in known:
            of = f"re-ranking {name}" if name else "a test without re-ranking"
            has = f"it has {', '.join(known)}" if name else f"choose one of {', '.join(RERANKINGS)}"
            raise ReidError(f"{of} has no option {option.rstrip('_')!r}; {has.replace('lambda_', 'lambda')}")
    return RERANKINGS[name](**chosen) if name else None


@dataclass(frozen=True, eq=False)
class _Near:
    """The neighbours of N images.

    images     N × K numbers, nearest first, the image itself at position 0
    distances  N × K squared distances, float32
    farthest   N, the largest squared distance to any image; infinite where even that is a tie with 0
    original   Q × G, squared distances between queries and gallery
    """

    images: Tensor
    distances: Tensor
    farthest: Tensor
    original: Tensor

    def distances_to(self, points: Vectors, rows: Tensor, columns: Tensor) -> Tensor:
        """Squared distances of P pairs, rows in ascending order: looked up among the neighbours, else computed."""
        first, place = torch.unique_consecutive(rows, return_inverse=True)
        known, order = torch.sort(self.images[first], dim=1)
        total = len(points)
        # one sorted list for all rows: row · N + image
        keys = (known + torch.arange(len(first), device=rows.device)[:, None] * total).flatten()
        wanted = columns + place * total
        found = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        distances = self.distances[first].gather(1, order).flatten()[found]
        unknown = (keys[found] != wanted).nonzero()[:, 0]
        for piece in unknown.split(max(1, _PIECE * 4 // points.points.shape[1])):
            distances[piece] = points.squared_distances_of_pairs(rows[piece], points, columns[piece]).float()
        return distances


def _neighbours(points: Vectors, count: int, queries: int, block: int | None) -> _Near:
    """The `count` nearest images of every image, ties in the order of their numbers.

    Block by block, a block of rows is compared with itself and all later images; the same distances then serve the
    later images as theirs to this block.
    """
    if block is not None and block < 1:
        raise ReidError(f"block={block} is no number of images; give 1 or more, or None")
    total, device = len(points), points.points.device
    block = min(block or max(_FEWEST, _BLOCK_BYTES // (8 * total)), total)
    # one whole number orders by (distance in steps of a tie, number of the image): no two candidates are equal
    keys = torch.full((total, count), torch.iinfo(torch.int64).max, device=device)
    distances = torch.full((total, count), torch.inf, device=device)
    farthest = torch.zeros(total, dtype=torch.float64, device=device)
    original = torch.empty(queries, total - queries, device=device)

    def merge(rows: slice, found: Tensor, candidates: Tensor) -> None:
        nearest, places = candidates.topk(min(count, candidates.shape[1]), dim=1, largest=False, sorted=False)
        keys[rows], order = torch.cat((keys[rows], nearest), 1).topk(count, dim=1, largest=False)
        distances[rows] = torch.cat((distances[rows], found.gather(1, places).float()), 1).gather(1, order)
        farthest[rows] = torch.maximum(farthest[rows], found.amax(1))

    for start in range(0, total, block):
        stop = min(start + block, total)
        here = points.squared_distances(slice(start, stop), points.rows(slice(start, total)))
        asked = slice(start, min(stop, queries))
        if start < queries:
            original[asked] = here[: asked.stop - start, queries - start :]
        numbers = torch.arange(start, total, device=device)
        steps = (here / TIE).round_().clamp_(max=2**62 // total).long().mul_(total)
        candidates = steps + numbers
        candidates.fill_diagonal_(-1)  # the image itself comes first, before its duplicates
        merge(slice(start, stop), here, candidates)
        if stop < total:
            later = slice(stop - start, None)
            merge(slice(stop, total), here[:, later].T, steps[:, later].T + numbers[: stop - start])
    images = keys % total
    images[:, 0] = torch.arange(total, device=device)
    distances[:, 0] = 2 * points.zero  # a zero vector under cosine is orthogonal to itself too
    farthest[farthest < TIE / 2] = torch.inf  # all images are one and the same: as shares of it all distances are 0
    return _Near(images, distances, farthest.float(), original)


def _mutual(near: Tensor, rows: Tensor) -> Tensor:
    """k-reciprocal neighbours (§3.2): the images near each of `rows` that have it among theirs; N for the others."""
    images = near[rows]
    return images.masked_fill(~(near[images] == rows[:, None, None]).any(2), len(near))


def _sparse(columns: Tensor, values: Tensor, total: int) -> Tensor:
    """Sparse N × `total` with `values` N × K at `columns` N × K; what meets is added."""
    rows = torch.arange(len(columns), device=columns.device)[:, None].expand_as(columns)
    indices = torch.stack((rows.flatten(), columns.flatten()))
    matrix = torch.sparse_coo_tensor(indices, values.flatten(), (len(columns), total), check_invariants=False)
    return matrix.coalesce()


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right for sparse `left`. By rows, since torch multiplies those with dense matrices on all cores."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        if right.is_sparse:
            return torch.sparse.mm(left, right)
        return left.to_sparse_csr() @ right


def _rows(matrix: Tensor, rows: slice) -> Tensor:
    """Some rows of a sparse matrix, as a matrix of their own."""
    (row, column), values = matrix.indices(), matrix.values()
    begin, end = torch.searchsorted(row, torch.tensor([rows.start, rows.stop], device=row.device)).tolist()
    places = torch.stack((row[begin:end] - rows.start, column[begin:end]))
    shape = (rows.stop - rows.start, matrix.shape[1])
    return torch.sparse_coo_tensor(places, values[begin:end], shape, is_coalesced=True, check_invariants=False)


def _blocks(begin: int, end: int, width: int) -> Iterator[slice]:
    """The rows from `begin` to `end` in blocks of 128 MiB, where a row is `width` numbers."""
    step = max(1, _BLOCK_BYTES // (4 * width))
    for start in range(begin, end, step):
        yield slice(start, min(start + step, end))


def _shared(encoding: Tensor, like: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Σ over all columns of the smaller of two encodings' entries, each query with each gallery image.

    encoding: sparse N × N. like: Q×G, for size and device. Yields (rows, B×G float32) for blocks of queries. Only
    columns in which both have an entry are looked at: the gallery is sorted by column.
    """
    queries, gallery = like.shape
    (row, column), value = encoding.indices(), encoding.values()
    behind = int(torch.searchsorted(row, queries))
    held, order = torch.sort(column[behind:], stable=True)
    holder, weight = row[behind:][order] - queries, value[behind:][order]
    first = torch.searchsorted(held, torch.arange(encoding.shape[1] + 1, device=row.device))
    for rows in _blocks(0, queries, 2 * gallery):
        found = torch.zeros(rows.stop - rows.start, gallery, device=like.device)
        begin, end = torch.searchsorted(row, torch.tensor([rows.start, rows.stop], device=row.device)).tolist()
        for piece in _pieces((first[1:] - first[:-1])[column[begin:end]]):
            entries = slice(begin + piece.start, begin + piece.stop)
            start, stop = first[column[entries]], first[column[entries] + 1]
            source = torch.repeat_interleave(stop - start)
            place = torch.arange(len(source), device=like.device)
            place += (start - (stop - start).cumsum(0) + (stop - start))[source]
            smaller = torch.minimum(value[entries][source], weight[place])
            found.view(-1).index_add_(0, (row[entries] - rows.start)[source] * gallery + holder[place], smaller)
        yield rows, found


def _pieces(lengths: Tensor) -> Iterator[slice]:
    """Cuts a row of lists into runs of about _PIECE entries in all."""
    begin = 0
    for count in torch.unique_consecutive(lengths.cumsum(0) // _PIECE, return_counts=True)[1].tolist():
        yield slice(begin, begin + count)
        begin += count


def _together(query: Tensor, gallery: Tensor, **needed: int) -> Tensor:
    """All features, checked: one size, and as many images as each option needs at least."""
    query, gallery = check_features(query, "query features"), check_features(gallery, "gallery features")
    if query.shape[1] != gallery.shape[1]:
        problem = f"query features have {query.shape[1]} dimensions, gallery features {gallery.shape[1]}"
        raise ReidError(f"{problem}; extract both with the same model and descriptor")
    total = len(query) + len(gallery)
    for name, least in needed.items():
        if least > total:
            problem = f"{name} needs at least {least} images, but queries and gallery without junk are {total}"
            raise ReidError(f"re-ranking: {problem}; give a smaller {name}")
    kind = torch.promote_types(query.dtype, gallery.dtype)
    return torch.cat((query.to(kind), gallery.to(query.device, kind)))


def _check_counts(**counts: object) -> None:
    for name, value in counts.items():
        if not isinstance(value, Integral) or value < 1:
            raise ReidError(f"re-ranking: {name}={value}; give a whole number, 1 or more")


@contextmanager
def _full_precision(device: torch.device) -> Generator[None, None, None]:
    """Matrix products in full float32, whatever training switched on: TF32, bfloat16 and autocast are off by 1e-3."""
    # `matmul` is set on the module at run time
    switches = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # ty: ignore[missing-attribute]
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value
