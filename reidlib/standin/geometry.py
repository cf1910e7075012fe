"""Primitives in numbers the ray caster can use: local spaces, screen boxes, local rays. Double precision, per image.

Only additions and products of single elements are used (no matrix routine), so that the numbers of an image do not
depend on what else is computed at the same time.
"""

from __future__ import annotations

import numpy as np

from .parts import BOX, CONE, ELLIPSOID, HINT, KIND, R0, R1, RING, SX, SZ, U0, V0, A, B

Window = tuple[float, float, float, float]

WIDTH, HEIGHT = 64, 128
NEAREST = 0.4

# Columns of a packed primitive (32-bit floats): the local ray, the shape, the local axes, the texture.
START, RAY, RAY_U, RAY_V, DEPTH, LENGTH, RADIUS0, RADIUS1 = 0, 3, 6, 9, 12, 13, 14, 15
AXES, TEX_U, TEX_U0, TEX_V0, TEX_V = 16, 25, 26, 27, 28
PACKED = 29

_CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=bool)


def dot(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Dot product over the last axis of size 3, term by term."""
    return p[..., 0] * q[..., 0] + p[..., 1] * q[..., 1] + p[..., 2] * q[..., 2]


def place(rows: np.ndarray, heading: float, x: float, z: float) -> np.ndarray:
    """Rows of a person turned by `heading` (radians) about the vertical and moved to (x, z) on the ground."""
    cos, sin = np.cos(heading), np.sin(heading)
    placed = rows.copy()
    for columns, shift in ((A, (x, 0.0, z)), (B, (x, 0.0, z)), (HINT, (0.0, 0.0, 0.0))):
        side, up, ahead = rows[:, columns].T
        placed[:, columns] = np.stack([side * cos + ahead * sin, up, ahead * cos - side * sin], axis=1) + shift
    return placed


class Solids:
    """The local spaces of the P primitives of one image, float64.

    origin     (P, 3), where the local space begins, metres
    axes       (P, 3, 3), unit axes: sideways, along, and their cross product
    scale      (P, 3), metres of a local unit on each axis
    low, high  (P, 3), the primitive's bounding box in its local space
    """

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        self.kind = rows[:, KIND].astype(np.int64)
        self.origin = rows[:, A]
        along = rows[:, B] - self.origin
        length = np.sqrt(dot(along, along))
        y = along / length[:, None]
        hint = rows[:, HINT]
        x = hint - dot(hint, y)[:, None] * y
        lost = dot(x, x) < 1e-6  # the hint runs along the axis: any other direction serves
        x = np.where(lost[:, None], np.cross(y, np.array([0.0, 0.0, 1.0])) + np.array([0.0, 1e-3, 0.0]), x)
        x = x - dot(x, y)[:, None] * y
        x /= np.sqrt(dot(x, x))[:, None]
        self.axes = np.stack([x, y, np.cross(x, y)], axis=1)

        kind, r0, r1 = self.kind, rows[:, R0], rows[:, R1]
        solid = (kind == ELLIPSOID) | (kind == BOX)
        self.scale = np.stack([rows[:, SX], np.where(solid, r0, 1.0), rows[:, SZ]], axis=1)
        self.height = height = np.where(kind == RING, 0.0, length)
        wide = np.where(solid, 1.0, np.maximum(r0, r1))
        bottom = np.where(kind == CONE, np.minimum(-r0, height - r1), np.where(solid, -1.0, 0.0))
        top = np.where(kind == CONE, np.maximum(height + r1, r0), np.where(solid, 1.0, height))
        self.low = np.stack([-wide, bottom, -wide], axis=1)
        self.high = np.stack([wide, top, wide], axis=1)
        if np.any((kind == CONE) & (np.abs(r0 - r1) >= 0.98 * length)):
            raise ValueError("a cone's one end swallows the other; use an ellipsoid")

    def corners(self) -> np.ndarray:
        """World corners of the primitives' boxes, (P, 8, 3)."""
        local = np.where(_CORNERS[None], self.high[:, None], self.low[:, None]) * self.scale[:, None]
        x, y, z = (local[..., i, None] * self.axes[:, None, i] for i in range(3))
        return self.origin[:, None] + x + y + z


class Eye:
    """A pinhole at (0, height, 0) that looks along +z, `pitch` radians down."""

    def __init__(self, height: float, pitch: float) -> None:
        cos, sin = np.cos(pitch), np.sin(pitch)
        self.point = np.array([0.0, height, 0.0])
        self.ahead = np.array([0.0, -sin, cos])
        self.right = np.array([1.0, 0.0, 0.0])
        self.down = np.array([0.0, -cos, -sin])

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Horizontal and vertical tangents (right and down are positive) and depths of points (..., 3)."""
        away = points - self.point
        depth = dot(away, self.ahead)
        safe = np.maximum(depth, 1e-3)
        return dot(away, self.right) / safe, dot(away, self.down) / safe, depth


def extents(solids: Solids, eye: Eye) -> tuple[np.ndarray, np.ndarray]:
    """Screen boxes (P, 4) of the primitives as tangents (left, top, right, bottom), and their least depths (P,)."""
    x, y, depth = eye.project(solids.corners())
    return np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1), depth.min(1)


def pack(solids: Solids, eye: Eye, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The numbers that the ray caster needs of the primitives in the window (left, top, right, bottom as tangents).

    kept    (K,) int64, which primitives are in the window
    packed  (K, PACKED) float32. A pixel (u, v) looks along the local direction `RAY + u RAY_U + v RAY_V` from the local
            point `START + DEPTH (u RAY_U + v RAY_V)`, which lies near the primitive: single precision then suffices
    pixels  (K, 4) int32: first column, first row, last column + 1, last row + 1 of the pixels it may cover
    """
    left, top, right, bottom = window
    boxes, nearest = extents(solids, eye)
    step_x, step_y = (right - left) / WIDTH, (bottom - top) / HEIGHT
    # Pixel centres are at +0.5; a hundredth of a pixel is added against rounding.
    first = np.ceil((boxes[:, :2] - (left, top)) / (step_x, step_y) - 0.51)
    last = np.floor((boxes[:, 2:] - (left, top)) / (step_x, step_y) - 0.49) + 1
    pixels = np.clip(np.hstack([first, last]), 0, [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(np.int32)
    seen = (pixels[:, 2] > pixels[:, 0]) & (pixels[:, 3] > pixels[:, 1]) & (nearest > NEAREST)
    kept = np.flatnonzero(seen)

    axes = solids.axes[kept] / solids.scale[kept][:, :, None]
    centre = solids.origin[kept] + 0.5 * solids.height[kept][:, None] * solids.axes[kept][:, 1]
    depth = dot(centre - eye.point, eye.ahead)
    corner = eye.ahead + left * eye.right + top * eye.down
    ray, ray_u, ray_v = dot(axes, corner), dot(axes, step_x * eye.right), dot(axes, step_y * eye.down)
    start = dot(axes, (eye.point - solids.origin[kept])[:, None, :]) + depth[:, None] * ray
    rows = solids.rows[kept]
    local = (start, ray, ray_u, ray_v, depth, solids.height[kept], rows[:, [R0, R1]], axes.reshape(-1, 9))
    packed = np.column_stack([*local, rows[:, [SX, U0, V0]], solids.scale[kept, 1]])
    return kept, packed.astype(np.float32), pixels[kept]
