"""Primitives in numbers the ray caster can use: local spaces, screen boxes, local rays. Double precision.

All functions work on the P primitives of several images at once. Points and directions are arrays (3, ...) whose last
axis, if there is one, counts primitives or images. Only additions and products of single elements are used (no matrix
routine), so that the numbers of an image do not depend on what else is computed at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .parts import BOX, CONE, ELLIPSOID, HINT, KIND, R0, R1, RING, SX, SZ, U0, V0, A, B

Window = tuple[float, float, float, float]
"""Left, top, right, bottom as tangents."""

WIDTH, HEIGHT = 64, 128
NEAREST = 0.4

# Columns of a packed primitive (32-bit floats): the local ray, the shape, the local axes, the texture.
START, RAY, RAY_U, RAY_V, DEPTH, LENGTH, RADIUS0, RADIUS1 = 0, 3, 6, 9, 12, 13, 14, 15
AXES, TEX_U, TEX_U0, TEX_V0, TEX_V = 16, 25, 26, 27, 28
PACKED = 29

_CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=bool).T[..., None]


def dot(p: Sequence[np.ndarray] | np.ndarray, q: np.ndarray) -> np.ndarray:
    """Dot product over the first axis of size 3, term by term."""
    return p[0] * q[0] + p[1] * q[1] + p[2] * q[2]


def place(rows: np.ndarray, cos: np.ndarray, sin: np.ndarray, x: np.ndarray, z: np.ndarray) -> None:
    """Turn rows (P, 18) about the vertical, by the cosine and sine of a heading, and move them to (x, z) on the ground.

    Changes the rows; the other arguments are (P,).
    """
    for columns, right, forward in ((A, x, z), (B, x, z), (HINT, 0.0, 0.0)):
        side, up, ahead = rows[:, columns].T
        rows[:, columns] = np.stack([side * cos + ahead * sin + right, up, ahead * cos - side * sin + forward], axis=1)


class Solids:
    """The local spaces of P primitives, float64.

    columns    (18, P), the columns of their rows
    origin     (3, P), where the local space begins, metres
    axes       (3, 3, P), coordinates of the unit axes: sideways, along, and their cross product
    scale      (3, P), metres of a local unit on each axis
    low, high  (3, P), the primitive's bounding box in its local space
    """

    def __init__(self, rows: np.ndarray) -> None:
        self.columns = columns = np.ascontiguousarray(rows.T)
        self.kind = kind = columns[KIND].astype(np.int64)
        self.origin = columns[A]
        along = columns[B] - self.origin
        length = np.sqrt(dot(along, along))
        y = along / length
        hint = columns[HINT]
        x = hint - dot(hint, y) * y
        lost = dot(x, x) < 1e-6  # the hint runs along the axis: any other direction serves
        x = np.where(lost, np.cross(y, [0.0, 0.0, 1.0], axis=0) + [[0.0], [1e-3], [0.0]], x)
        x = x - dot(x, y) * y
        x /= np.sqrt(dot(x, x))
        self.axes = np.stack([x, y, np.cross(x, y, axis=0)], axis=1)

        r0, r1 = columns[R0], columns[R1]
        solid = (kind == ELLIPSOID) | (kind == BOX)
        self.scale = np.stack([columns[SX], np.where(solid, r0, 1.0), columns[SZ]])
        self.height = height = np.where(kind == RING, 0.0, length)
        wide = np.where(solid, 1.0, np.maximum(r0, r1))
        bottom = np.where(kind == CONE, np.minimum(-r0, height - r1), np.where(solid, -1.0, 0.0))
        top = np.where(kind == CONE, np.maximum(height + r1, r0), np.where(solid, 1.0, height))
        self.low, self.high = np.stack([-wide, bottom, -wide]), np.stack([wide, top, wide])
        if np.any((kind == CONE) & (np.abs(r0 - r1) >= 0.98 * length)):
            raise ValueError("a cone's one end swallows the other; use an ellipsoid")

    def corners(self) -> np.ndarray:
        """World corners of the primitives' boxes, (P, 8, 3)."""
        local = np.where(_CORNERS, self.high[:, None], self.low[:, None]) * self.scale[:, None]
        x, y, z = (local[i] * self.axes[:, i, None] for i in range(3))
        return (self.origin[:, None] + x + y + z).T


class Eye(NamedTuple):
    """Pinholes that look ahead: places and unit directions, (3,) of one or (3, N) of several."""

    point: np.ndarray
    ahead: np.ndarray
    right: np.ndarray
    down: np.ndarray

    @classmethod
    def at(cls, height: float, pitch: float) -> Eye:
        """A pinhole at (0, height, 0) that looks along +z, `pitch` radians down."""
        cos, sin = np.cos(pitch), np.sin(pitch)
        return cls(*np.array([[0.0, height, 0.0], [0.0, -sin, cos], [1.0, 0.0, 0.0], [0.0, -cos, -sin]]))

    def chosen(self, which: np.ndarray) -> Eye:
        """One of several pinholes for each number of `which`."""
        return Eye(*(part[:, which] for part in self))

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Horizontal and vertical tangents (right and down are positive) and depths of points (3, ...)."""
        away = [p - q for p, q in zip(points, self.point, strict=True)]
        depth = dot(away, self.ahead)
        safe = np.maximum(depth, 1e-3)
        return dot(away, self.right) / safe, dot(away, self.down) / safe, depth

    def rays(self, window: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Direction of the corner of a window (4, ...), and its change for each column and for each row of pixels."""
        left, top, right, bottom = window
        corner = self.ahead + left * self.right + top * self.down
        return corner, (right - left) / WIDTH * self.right, (bottom - top) / HEIGHT * self.down


def extents(solids: Solids, eye: Eye) -> tuple[np.ndarray, np.ndarray]:
    """Screen boxes (4, P) of the primitives as tangents (left, top, right, bottom), and their least depths (P,)."""
    x, y, depth = eye.project(solids.corners().T)
    return np.stack([x.min(0), y.min(0), x.max(0), y.max(0)]), depth.min(0)


def pack(
    solids: Solids, eye: Eye, boxes: np.ndarray, nearest: np.ndarray, window: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The numbers that the ray caster needs of the primitives in their windows (4, P), from all and their `extents`.

    kept    (K,) int64, which primitives are in the window
    packed  (K, PACKED) float32. A pixel (u, v) looks along the local direction `RAY + u RAY_U + v RAY_V` from the local
            point `START + DEPTH (u RAY_U + v RAY_V)`, which lies near the primitive: single precision then suffices
    pixels  (K, 4) int32: first column, first row, last column + 1, last row + 1 of the pixels it may cover
    """
    corner, size = window[:2], np.array([[WIDTH], [HEIGHT]])
    step = (window[2:] - corner) / size
    # Pixel centres are at +0.5; a hundredth of a pixel is added against rounding.
    first = np.ceil((boxes[:2] - corner) / step - 0.51)
    last = np.floor((boxes[2:] - corner) / step - 0.49) + 1
    pixels = np.clip(np.concatenate([first, last]), 0, np.concatenate([size, size])).astype(np.int32)
    kept = np.flatnonzero((pixels[2] > pixels[0]) & (pixels[3] > pixels[1]) & (nearest > NEAREST))

    eye, height = eye.chosen(kept), solids.height[kept]
    columns, origin, scale = (part[:, kept] for part in (solids.columns, solids.origin, solids.scale))
    axes = solids.axes[..., kept]
    depth = dot(origin + 0.5 * height * axes[:, 1] - eye.point, eye.ahead)
    axes = axes / scale
    ray, ray_u, ray_v = (dot(axes, part) for part in eye.rays(window[:, kept]))
    start = dot(axes, eye.point - origin) + depth * ray
    local = (start, ray, ray_u, ray_v, [depth, height], columns[[R0, R1]], axes.swapaxes(0, 1).reshape(9, -1))
    packed = np.concatenate([*local, columns[[SX, U0, V0]], scale[1:2]])
    return kept, packed.T.astype(np.float32), pixels[:, kept].T
