"""The rows that describe a scene: primitives and materials as tuples of numbers, and what each column means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .domain import Colour

Vector = tuple[float, float, float]
Row = tuple[float, ...]

# Kinds of primitive; the order is the order in which they are intersected.
CONE, ELLIPSOID, BOX, FRUSTUM, RING = range(5)

# What a pixel shows. The numbers are written into part masks: never reuse one.
BACKGROUND, HEAD, HAIR, TORSO, ARM, LEG, SHOE, BAG, HAT, OCCLUDER, OTHER, SCENERY = range(12)
PART_NAMES = ("background", "head", "hair", "torso", "arms", "legs", "shoes", "bag", "hat", "occluder")
PART_NAMES += ("other person", "scenery")

FIGURE = range(HEAD, HAT + 1)
"""The parts of the person whom an image shows, and of what they wear and carry."""

_PATTERNS = "plain stripes vertical checks dots print halves diagonal side open face belt"
PATTERNS: dict[str, int] = {name: number for number, name in enumerate(_PATTERNS.split())}
STRAPS: dict[str, int] = {"none": 0, "backpack": 1, "shoulder": 2}

# Columns of a primitive's row.
KIND, MATERIAL, PART = 0, 1, 2
A, B, HINT = slice(3, 6), slice(6, 9), slice(9, 12)
SX, SZ, R0, R1, U0, V0 = range(12, 18)
COLUMNS = 18

# Columns of a material's row.
M_FIRST, M_SECOND, M_STRAP = 0, 3, 6
M_PATTERN, M_N0, M_N1, M_N2, M_SIDE, M_STRAPS, M_FOLDS = range(9, 16)


def add(p: Vector, q: Vector, scale: float = 1.0) -> Vector:
    """p + scale q."""
    return (p[0] + scale * q[0], p[1] + scale * q[1], p[2] + scale * q[2])


def scaled_colour(colour: Colour, factor: float) -> Colour:
    """A darker colour of the same hue."""
    return (factor * colour[0], factor * colour[1], factor * colour[2])


def primitive(
    kind: int,
    part: int,
    material: int,
    a: Vector,
    b: Vector,
    r0: float,
    r1: float,
    *,
    hint: Vector = (1.0, 0.0, 0.0),
    sx: float = 1.0,
    sz: float = 1.0,
    u0: float = 0.0,
    v0: float = 0.0,
) -> Row:
    """One primitive.

    kind            CONE: two spheres of radius `r0` at `a` and `r1` at `b` and what lies between, stretched sideways by
                    `sx`, `sz`. FRUSTUM: the same with flat ends. ELLIPSOID and BOX: centre `a`, half sizes `sx`, `r0`
                    (towards `b`), `sz`. RING: flat, centre `a`, facing `b`, from radius `r0` to `r1`, stretched by both
    part, material  what it shows (see `PART_NAMES`) and the row of its material
    hint            its sideways direction, as nearly as its axis allows
    u0, v0          where its texture starts, metres
    """
    return (kind, material, part, *a, *b, *hint, sx, sz, r0, r1, u0, v0)


def solid(kind: int, part: int, material: int, middle: Vector, up: Vector, half: Vector, **more: Any) -> Row:
    """An ELLIPSOID or BOX about `middle`, its half sizes sideways, along `up`, and across both; `hint` and `v0`."""
    sx, r0, sz = half
    return primitive(kind, part, material, middle, add(middle, up), r0, 0.0, sx=sx, sz=sz, **more)


def material(
    first: Colour,
    second: Colour | None = None,
    pattern: str = "plain",
    numbers: Sequence[float] = (0.1, 0.5, 0.0),
    *,
    side: float = 1.0,
    straps: str = "none",
    strap: Colour = (0.1, 0.1, 0.1),
    folds: float = 0.12,
) -> Row:
    """One material: two colours and a pattern between them, a strap across it, and the depth of its folds."""
    return (*first, *(second or first), *strap, PATTERNS[pattern], *numbers, side, STRAPS[straps], folds)
