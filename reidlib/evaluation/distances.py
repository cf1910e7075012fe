"""Squared distances between features, in float64, and the rule that says which of them are equal.

Both metrics are a squared Euclidean distance. `euclidean` takes the features as they are; `cosine` scales each to
length 1 first, then |a − b|² = 2 − 2·cos(a, b)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from reidlib.spec import ReidError, check_choice

METRICS = ("euclidean", "cosine")

TIE = 1e-6  #: Squared distances this close are equal; 1 is the spread of the gallery (see `TIE_RULE`)

TIE_RULE = "squared distances within 1e-6 of the gallery's spread"
"""The rule in words, as a record keeps it. The spread is the median squared distance of the gallery images from their
median (the median of each dimension), which a few images far away do not move.

A tolerance is needed because copies of one image get features that differ by rounding, from one batch or device to
another. It follows the spread: moving or scaling all features changes no rank."""

ROUNDING = 1e-12  #: share of the squared lengths by which a squared distance may be off: a tie is never narrower


@dataclass(frozen=True, eq=False)
class Vectors:
    """N features prepared for comparison: the gallery's centre is the origin, its spread is 1. All float64."""

    points: Tensor  #: N × D
    square: Tensor  #: N: |points|², 1 / unit² more for a zero vector under `cosine`: it is orthogonal to everything
    centre: Tensor  #: D, in the features' own unit (under `cosine` that of length 1)
    unit: float  #: length of 1 in the features' own unit

    @classmethod
    def of(cls, features: Tensor, metric: str, like: Vectors | None = None) -> Vectors:
        """Prepares features N × D, of a gallery or (with `like`, the prepared gallery) of the queries."""
        check_choice("evaluation", "metric", metric, METRICS)
        points = features.to(torch.float64, copy=True)
        zero = points.new_zeros(len(points))
        if metric == "cosine":
            lengths = _lengths(points)
            zero[lengths == 0] = 1
            points /= (lengths + zero)[:, None]
        centre = like.centre if like else points.median(0).values
        points -= centre
        lengths = _lengths(points)
        # where half of the images are at one point, the farthest; where all are, any unit will do
        unit = like.unit if like else float(lengths.median()) or float(lengths.max()) or 1.0
        if float(lengths.max()) / unit > 1e150:
            row = f"row {int(lengths.argmax())} of {len(points)} features is {float(lengths.max()):.1e} away from the"
            raise ReidError(f"{row} others, where {unit:.1e} is typical; look at that image, or compare by cosine")
        points /= unit
        zero = zero / unit / unit  # the square of an extreme unit leaves float64
        return cls(points, torch.linalg.vecdot(points, points) + zero, centre, unit)

    def __len__(self) -> int:
        return len(self.points)

    def squared_distances(self, rows: slice | Tensor, others: Vectors) -> Tensor:
        """Squared distances of R rows to all of `others`: float64, R × len(others), in units of the spread."""
        product = torch.addmm(others.square, self.points[rows], others.points.T, alpha=-2)
        return product.add_(self.square[rows, None]).clamp_(min=0)

    def squared_distances_of_pairs(self, rows: Tensor, others: Vectors, columns: Tensor) -> Tensor:
        """Squared distances of P pairs, row rows[p] of these to row columns[p] of `others`: float64, P."""
        product = torch.linalg.vecdot(self.points[rows], others.points[columns])
        return (self.square[rows] + others.square[columns] - 2 * product).clamp_(min=0)


def tolerance(square: Tensor, other: Tensor) -> Tensor:
    """Half the width of a tie around the squared distance of two vectors, from their `square`."""
    return (ROUNDING * (square + other)).clamp_(min=TIE)


def blocks(count: int, width: int, block: int | None = None) -> Iterator[slice]:
    """The rows from 0 to `count`, `block` at a time; None: as many as `width` float64 each keep within 64 MiB."""
    if block is not None and block < 1:
        raise ReidError(f"block={block} is no number of images; give 1 or more, or None")
    step = block or max(1, 2**23 // width)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _lengths(vectors: Tensor) -> Tensor:
    """Lengths of the rows. Squares may leave even float64's range, so each row is divided by its largest value."""
    largest = torch.linalg.vector_norm(vectors, ord=torch.inf, dim=1)
    safe = torch.where(largest == 0, 1.0, largest)
    return largest * torch.linalg.vector_norm(vectors / safe[:, None], dim=1)
