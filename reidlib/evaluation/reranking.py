"""Re-ranking in plain torch, on CPU or GPU, in blocks: k-reciprocal encoding and expanded cross neighbourhood.

Both start from the nearest neighbours of all N = Q + G images, queries and gallery together. An image is its own
nearest neighbour; squared distances are compared in steps of 1e-6 of the spread of all N images (`distances.TIE_RULE`),
and images in the same step stand in the order of their numbers (queries first). All is float64, so that neither block
size nor device changes a result. N × N is never held, only blocks of it."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from reidlib.evaluation.distances import TIE, Vectors, blocks
from reidlib.evaluation.features import check_features
from reidlib.spec import ReidError

torch.sparse.check_sparse_tensor_invariants.disable()  # torch warns on a GPU where this is not chosen

_PIECE = 2**21  #: Entries worked on at once where lists are joined: about 100 MiB


@dataclass(frozen=True)
class KReciprocal:
    """k-reciprocal encoding (Zhong, Zheng, Cao and Li, CVPR 2017).

    As released: squared distances, each row divided by its largest; a neighbour's half-size set joins when MORE than
    two thirds of it are shared (the text, §3.2, says at least two thirds); k1/2 is rounded to the even neighbour."""

    k1: int = 20  #: size of the neighbourhood (their §3.2)
    k2: int = 6  #: neighbours over which an encoding is averaged: local query expansion (§3.4); 1 for none
    lambda_: float = 0.3  #: weight of the original distance in the answer, 0 to 1 (§3.5)

    metric = "euclidean"  #: what the authors start from, where the caller names none

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

        query Q×D and gallery G×D, without junk; metric and block as in `evaluate`. A set smaller than k1 or k2 is a
        ReidError."""
        points = Vectors.of(_together(query, gallery, k1=self.k1 + 1, k2=self.k2), metric or self.metric)
        images, farthest, answer = _neighbours(points, max(self.k1 + 1, self.k2), len(query), block)
        encoding = self._encode(points, images, farthest)
        if self.k2 > 1:
            encoding = _product(_sparse(images[:, : self.k2], 1 / self.k2), encoding)
        answer.div_(farthest[: len(query), None]).mul_(self.lambda_)
        for rows, shared in _shared(encoding, answer):
            # |R_p ∩ R_g| / |R_p ∪ R_g|: each encoding sums to 1, so the union is 2 − the shared part (§3.3)
            answer[rows] += (1 - self.lambda_) * (1 - shared / (2 - shared))
        return answer

    def _encode(self, points: Vectors, images: Tensor, farthest: Tensor) -> Tensor:
        """Gaussian weights of the expanded k-reciprocal neighbours (§3.2 and 3.3), sparse N × N, rows that sum to 1."""
        half = round(self.k1 / 2) + 1  # the image itself counts
        wide, narrow = images[:, : self.k1 + 1], images[:, :half]
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
        row, column = torch.cat(rows), torch.cat(columns)
        for piece in torch.arange(len(row), device=row.device).split(max(1, 4 * _PIECE // points.points.shape[1])):
            distances.append(points.squared_distances_of_pairs(row[piece], points, column[piece]))
        weight = torch.exp(-torch.cat(distances) / farthest[row])
        weight /= weight.new_zeros(total).index_add_(0, row, weight)[row]
        places = torch.stack((row, column))
        return torch.sparse_coo_tensor(places, weight, (total, total), is_coalesced=True, check_invariants=False)


@dataclass(frozen=True)
class ECN:
    """Expanded cross neighbourhood distance (Sarfraz, Schumann, Eberle and Stiefelhagen, CVPR 2018), as released."""

    k: int = 25  #: length of the rank lists that are compared
    t: int = 3  #: an image is expanded by its t nearest neighbours
    q: int = 8  #: and the q nearest of each of those, t + t·q in all
    distance: str = "rank-list"  #: of a neighbour to the image on the other side: minus the similarity, or "original"

    metric = "cosine"  #: what the authors start from, where the caller names none

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

        The original distance is half the squared one in units of the spread; where the mean of the rank-list distances
        is exactly 0 it replaces them."""
        ranked = self.distance == "rank-list"
        needed = {"k": self.k if ranked else 1, "t": self.t + 1, "q": self.q + 1}
        points = Vectors.of(_together(query, gallery, **needed), metric or self.metric)
        images, _, answer = _neighbours(points, max(needed.values()), len(query), block)
        answer.div_(2)
        # how often each image is among the expanded neighbours of each: sparse N × N, rows that sum to t + t·q
        first = images[:, 1 : self.t + 1]
        around = _sparse(torch.cat((first, images[:, 1 : self.q + 1][first].flatten(1)), dim=1), 1)
        if ranked:
            self._by_rank_lists(answer, images, around)
        else:
            self._by_original(answer, points, around)
        return answer

    def _by_rank_lists(self, answer: Tensor, images: Tensor, around: Tensor) -> None:
        """Similarity of two lists: Σ over the images in both of (k − place)·(k − place). Whole numbers, so exact."""
        lists = _sparse(images[:, : self.k], torch.arange(self.k, 0, -1, device=images.device))
        expanded = _product(around, lists)
        queries, gallery = answer.shape
        of_queries, around_queries = (matrix.narrow_copy(0, 0, queries) for matrix in (lists, expanded))
        of_gallery, around_gallery = (matrix.narrow_copy(0, queries, gallery) for matrix in (lists, expanded))
        both = _similarity(of_queries, around_gallery).add_(_similarity(of_gallery, around_queries).T)
        torch.where(both > 0, both.div_(-2 * (self.t + self.t * self.q)), answer, out=answer)

    def _by_original(self, answer: Tensor, points: Vectors, around: Tensor) -> None:
        """Mean of |a − b|²/2 over the a around p and a fixed b: from the mean of the a and of their squares."""
        count, queries = self.t + self.t * self.q, len(answer)
        means = _product(around, points.points) / count
        squares = _product(around, points.square[:, None])[:, 0] / count
        for rows in blocks(queries, 2 * len(points)):
            cross = means[rows] @ points.points[queries:].T + points.points[rows] @ means[queries:].T
            square = (squares[rows] + points.square[rows])[:, None] + (squares + points.square)[queries:]
            answer[rows] = (square / 2 - cross) / 2


RERANKINGS = {"k-reciprocal": KReciprocal, "ecn": ECN}


def reranking(name: str | None, **options: Any) -> KReciprocal | ECN | None:
    """The re-ranking called `name` (None: none) with those of `options` that are not None; unknown is a ReidError."""
    chosen = {option: value for option, value in options.items() if value is not None}
    known = [field.name for field in fields(RERANKINGS[name])] if name else []
    for option in chosen:
        if option not in known:
            of = f"re-ranking {name}" if name else "a test without re-ranking"
            has = f"it has {', '.join(known)}" if name else f"choose one of {', '.join(RERANKINGS)}"
            raise ReidError(f"{of} has no option {option.rstrip('_')!r}; {has.replace('lambda_', 'lambda')}")
    return RERANKINGS[name](**chosen) if name else None


def _neighbours(points: Vectors, count: int, queries: int, block: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest images of every image, and two kinds of squared distances.

    images    N × `count` numbers, nearest first, the image itself at position 0, ties in the order of their numbers
    farthest  N, float64, the largest distance to any image; infinite where even that is a tie with 0
    original  Q × G, float32, between queries and gallery"""
    total, device = len(points), points.points.device
    images = torch.empty(total, count, dtype=torch.int64, device=device)
    farthest = torch.empty(total, dtype=torch.float64, device=device)
    original = torch.empty(queries, total - queries, device=device)
    numbers = torch.arange(total, device=device)
    for rows in blocks(total, total, block):
        here = points.squared_distances(rows, points)
        farthest[rows] = here.amax(1)
        original[rows] = here[: max(0, queries - rows.start), queries:]
        # one whole number orders by (distance in steps of a tie, number of the image): no two are equal
        keys = (here / TIE).round_().clamp_(max=2**62 // total).long().mul_(total).add_(numbers)
        keys[numbers[: len(keys)], numbers[rows]] = -1  # the image itself comes first, before its duplicates
        images[rows] = keys.topk(count, dim=1, largest=False).values % total
    images[:, 0] = numbers
    farthest[farthest < TIE / 2] = torch.inf  # all images are one and the same: as shares of it all distances are 0
    return images, farthest, original


def _mutual(near: Tensor, rows: Tensor) -> Tensor:
    """k-reciprocal neighbours (§3.2): the images near each of `rows` that have it among theirs; N for the others."""
    images = near[rows]
    return images.masked_fill(~(near[images] == rows[:, None, None]).any(2), len(near))


def _sparse(columns: Tensor, values: Tensor | float) -> Tensor:
    """Sparse N × N, float64, with `values` at `columns` N × K; what meets is added."""
    total = len(columns)
    rows = torch.arange(total, device=columns.device)[:, None].expand_as(columns)
    spread = torch.as_tensor(values, dtype=torch.float64, device=columns.device).expand(columns.shape)
    indices = torch.stack((rows.flatten(), columns.flatten()))
    return torch.sparse_coo_tensor(indices, spread.flatten(), (total, total), check_invariants=False).coalesce()


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right for sparse `left`; a dense `right` by rows, since torch multiplies those on all cores."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse.mm(left, right) if right.is_sparse else left.to_sparse_csr() @ right


def _similarity(lists: Tensor, expanded: Tensor) -> Tensor:
    """lists @ expandedᵀ, float32, A × B, of two sparse matrices A × N and B × N."""
    answer = torch.empty(len(lists), len(expanded), device=lists.device)
    for rows in blocks(*expanded.shape):
        part = expanded.narrow_copy(0, rows.start, rows.stop - rows.start).to_dense()
        answer[:, rows] = _product(lists, part.T).float()
    return answer


def _shared(encoding: Tensor, like: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Σ over all columns of the smaller of two encodings' entries, each query with each gallery image.

    encoding: sparse N × N. like: Q×G, for size and device. Yields (rows, B×G float32) for blocks of queries. Only
    columns in which both have an entry are looked at: the gallery is sorted by column."""
    queries, gallery = like.shape
    (row, column), value = encoding.indices(), encoding.values().float()
    behind = int(torch.searchsorted(row, queries))
    held, order = torch.sort(column[behind:], stable=True)
    holder, weight = row[behind:][order] - queries, value[behind:][order]
    first = torch.searchsorted(held, torch.arange(encoding.shape[1] + 1, device=row.device))
    for rows in blocks(queries, 2 * gallery):
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
