"""Descriptors as points in space, and the squared distances between them: fast in float32, exact in float64.

Both metrics are a squared Euclidean distance. `euclidean` takes the features as they are; `cosine` scales each to
length 1 first, then |a − b|² = 2 − 2·cos(a, b). The squared distance is what ties are measured by: its rounding error
is about the same everywhere, while that of the distance itself grows without bound towards 0 (3e-4 for a duplicate in
float32).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from reidlib.spec import ReidError

METRICS = ("euclidean", "cosine")

TIE = 1e-6
"""Squared distances this close are equal. The unit is the typical length of a feature: 1 under `cosine`; under
`euclidean` the median length in the gallery, so that metres or millimetres give the same ranking."""

_FARTHEST = 1e15
"""Times the typical length beyond which squared distances would leave float32."""

_ROWS = 1024
"""Rows that are held in float64 at once."""


@dataclass(frozen=True, eq=False)
class Points:
    """N features prepared for comparison.

    given    N × D, float32 or float64: the features as the caller gave them
    metric   one of METRICS
    divisor  N, float64: what each row is divided by; its length under `cosine`, else the typical length of the gallery
    zero     N, 1 for a zero vector under `cosine`, else 0: there it is orthogonal to everything, itself too
    origin   D, float64: what is taken away before single-precision products, so that features which are nearly all
             the same (an untrained network) keep the digits that tell them apart; distances do not change
    single   N × D, float32: given / divisor − origin
    square   N, float32: |single|² + zero; the squared distance of two rows is square + square − 2·single·single
    """

    given: Tensor
    metric: str
    divisor: Tensor
    zero: Tensor
    origin: Tensor
    single: Tensor
    square: Tensor

    @classmethod
    def of(cls, features: Tensor, metric: str, like: Points | None = None) -> Points:
        """Prepares features N × D. `like`: take unit and origin from there, as distances between two sets need."""
        if metric not in METRICS:
            raise ReidError(f"metric {metric!r} is unknown; choose one of {', '.join(METRICS)}")
        given = features if features.dtype == torch.float64 else features.float()
        lengths = torch.cat([_lengths(part.double()) for part in given.split(_ROWS)])
        zero = (lengths == 0).float()
        divisor = lengths + zero
        if metric == "euclidean":
            zero = torch.zeros_like(zero)
            typical = _typical(lengths) if like is None else float(like.divisor[0])
            if lengths.max() > _FARTHEST * typical:
                raise ReidError(
                    f"row {int(lengths.argmax())} of {len(given)} features has length {float(lengths.max()):.1e} where "
                    f"{typical:.1e} is typical; look at that image, or compare by cosine"
                )
            divisor = torch.full_like(lengths, typical)
        parts = list(zip(given.split(_ROWS), divisor.split(_ROWS), strict=True))
        if like is None:
            usual = (lengths / divisor <= 100).double()  # one image far off does not move the origin
            weights = (usual / usual.sum() / divisor).split(_ROWS)
            origin = sum(weight @ part.double() for weight, part in zip(weights, given.split(_ROWS), strict=True))
        else:
            origin = like.origin
        single = torch.cat([(part.double() / by[:, None]).sub_(origin).float() for part, by in parts])
        square = torch.cat([part.double().square().sum(1).float() for part in single.split(_ROWS)]) + zero
        return cls(given, metric, divisor, zero, origin, single, square)

    def __len__(self) -> int:
        return len(self.given)

    @cached_property
    def reach(self) -> float:
        """The largest length about the origin."""
        return float(self.square.max()) ** 0.5

    @cached_property
    def half(self) -> Tensor:
        """N, float32: −square / 2."""
        return self.square / -2

    def closeness(self, rows: slice, others: Points) -> Tensor:
        """float32, R × len(others): the squared distance of some rows here to all of `others` is square[rows] − 2 · it.

        Within a row it falls as the distance grows, so ranks can be counted without the distance itself.
        """
        return torch.addmm(others.half, self.single[rows], others.single.T)

    def exact_distances(self, rows: Tensor, others: Points) -> Tensor:
        """float64 squared distances of R rows to all of `others`: R × len(others)."""
        own, square = self._exact(rows)
        numbers = torch.arange(len(others), device=rows.device).split(4 * _ROWS)
        parts = [others._exact(some) for some in numbers]
        return torch.cat([square[:, None] + other - 2 * (own @ part.T) for part, other in parts], dim=1).clamp_(min=0)

    def exact_pairs(self, rows: Tensor, others: Points, columns: Tensor) -> Tensor:
        """float64 squared distances of P pairs: row rows[p] of these to row columns[p] of `others`."""
        found = [torch.empty(0, dtype=torch.float64, device=self.given.device)]
        for row, column in zip(rows.split(256), columns.split(256), strict=True):
            apart = self.given[row].double() / self.divisor[row, None]
            apart -= others.given[column].double() / others.divisor[column, None]
            found.append(torch.linalg.vecdot(apart, apart) + self.zero[row] + others.zero[column])
        return torch.cat(found)

    def error(self, square: Tensor, distance: Tensor) -> Tensor:
        """How far a float32 squared distance to one of these points may be off.

        square, distance: the squared length of the other point about the origin and the squared distance. Both lengths
        are needed; that of the point here is at most `reach`, and within the triangle. Products of two vectors that
        point the same way lose more digits, since all their terms have one sign. The factors stand above all errors
        seen at 3 to 15,360 dimensions.
        """
        square, distance = square.clamp(min=0), distance.clamp(min=0)
        length, apart = square.sqrt(), distance.sqrt()
        longest = (length + apart).clamp(max=self.reach)
        product = torch.maximum((square + longest**2 - distance).abs() / 2, length * (length - apart).abs())
        one_sign = 1e-6 + 2e-10 * self.single.shape[1]
        return 4e-7 * length * longest + one_sign * product + 2.5e-7 * (square + longest**2 + distance)

    def _exact(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """float64 points of R rows, about the origin (R × D), and their squared lengths with `zero` (R)."""
        points = (self.given[rows].double() / self.divisor[rows, None]).sub_(self.origin)
        return points, torch.linalg.vecdot(points, points) + self.zero[rows]


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
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


def _lengths(features: Tensor) -> Tensor:
    """Lengths of float64 rows. Squares may leave even float64's range, so each row is divided by its largest value."""
    largest = torch.linalg.vector_norm(features, ord=torch.inf, dim=1)
    safe = (largest > 1e-100) & (largest < 1e100)
    if safe.all():
        return torch.linalg.vector_norm(features, dim=1)
    return largest * torch.linalg.vector_norm(features / torch.where(largest == 0, 1.0, largest)[:, None], dim=1)


def _typical(lengths: Tensor) -> float:
    """The median length; where half of the features are zero, the largest; 1 where all are."""
    return float(lengths.median()) or float(lengths.max()) or 1.0
