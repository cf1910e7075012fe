"""Things: fixed objects of a place, and what may stand in front of a pedestrian."""

from __future__ import annotations

import math

from .domain import Colour, Thing
from .parts import BOX, CONE, ELLIPSOID, FRUSTUM, RING, Row, Vector, material, primitive, scaled_colour

UP: Vector = (0.0, 1.0, 0.0)

REACH = {"bike": 0.3, "pole": 0.16, "box": 0.35, "bench": 0.3, "rail": 0.3}
"""How far to the side of a person's middle a thing may stand and still hide part of them, metres."""


def build(thing: Thing, part: int, first_material: int) -> tuple[list[Row], list[Row]]:
    """Primitives (world coordinates) and materials of a thing; its materials start at row `first_material`."""
    local, materials = MAKERS[thing.what](thing.size, thing.colour)
    turn = math.radians(thing.yaw)
    cos, sin = math.cos(turn), math.sin(turn)

    def place(p: Vector) -> Vector:
        return (thing.x + p[0] * cos + p[2] * sin, p[1], thing.z - p[0] * sin + p[2] * cos)

    rows = []
    for kind, which, a, b, r0, r1, sx, sz in local:
        rows.append(
            primitive(
                kind, part, first_material + which, place(a), place(b), r0, r1, hint=(cos, 0.0, -sin), sx=sx, sz=sz
            )
        )
    return rows, materials


def _box(size: float, colour: Colour):
    dark = scaled_colour(colour, 0.7)
    low, high = (0.0, 0.32 * size, 0.0), (0.06, 0.84 * size, 0.0)
    rows = [
        (BOX, 0, low, (0.0, 1.0, 0.0), 0.32 * size, 0.0, 0.42 * size, 0.3),
        (BOX, 1, high, (0.06, 2.0, 0.0), 0.2 * size, 0.0, 0.3 * size, 0.25),
    ]
    return rows, [material(colour, dark, "belt", (0.0, 0.0, 0.0)), material(dark, colour, "checks", (0.25, 0.5, 0.0))]


def _bin(size: float, colour: Colour):
    rows = [
        (FRUSTUM, 0, (0.0, 0.02, 0.0), (0.0, 0.8 * size, 0.0), 0.22, 0.26, 1.0, 1.0),
        (CONE, 1, (0.0, 0.8 * size, 0.0), (0.0, 0.86 * size, 0.0), 0.27, 0.23, 1.0, 1.0),
    ]
    return rows, [material(colour), material(scaled_colour(colour, 0.6))]


def _pole(size: float, colour: Colour):
    rows = [(FRUSTUM, 0, (0.0, 0.0, 0.0), (0.0, 4.5 * size, 0.0), 0.075, 0.06, 1.0, 1.0)]
    return rows, [material(colour, folds=0.05)]


def _bike(size: float, colour: Colour):
    hub, front, back = 0.33 * size, (0.0, 0.33 * size, 0.52), (0.0, 0.33 * size, -0.52)
    seat, head, crank = (0.0, 0.86, -0.2), (0.0, 0.84, 0.36), (0.0, 0.32, -0.06)
    rows = [
        (RING, 1, front, (1.0, hub, 0.52), hub - 0.045, hub, 1.0, 1.0),
        (RING, 1, back, (1.0, hub, -0.52), hub - 0.045, hub, 1.0, 1.0),
    ]
    tubes = (
        (front, head, 0.018, 0),
        (back, seat, 0.014, 0),
        (crank, seat, 0.018, 0),
        (crank, head, 0.020, 0),
        ((0.0, 0.74, -0.17), (0.0, 0.76, 0.37), 0.019, 0),
        (crank, back, 0.014, 0),
        (head, (0.0, 0.98, 0.32), 0.016, 2),
        ((-0.26, 0.99, 0.26), (0.26, 0.99, 0.26), 0.016, 2),
    )
    rows += [(CONE, which, a, b, radius, radius, 1.0, 1.0) for a, b, radius, which in tubes]
    rows.append((ELLIPSOID, 2, (0.0, 0.92, -0.22), (0.0, 0.92, 1.0), 0.14, 0.0, 0.075, 0.045))
    rows.append((BOX, 2, (0.0, 0.72, 0.58), (0.0, 2.0, 0.58), 0.12, 0.0, 0.16, 0.11))
    return rows, [material(colour, folds=0.02), material((0.12, 0.12, 0.12), folds=0.02), material((0.25, 0.25, 0.26))]


def _car(size: float, colour: Colour):
    rows = [
        (BOX, 0, (0.0, 0.62 * size, 0.0), (0.0, 2.0, 0.0), 0.34 * size, 0.0, 0.85, 2.1),
        (BOX, 1, (0.0, 1.18 * size, -0.15), (0.0, 2.0, -0.15), 0.28 * size, 0.0, 0.72, 1.15),
        (RING, 2, (-0.87, 0.33, 1.3), (-2.0, 0.33, 1.3), 0.0, 0.33, 1.0, 1.0),
        (RING, 2, (-0.87, 0.33, -1.3), (-2.0, 0.33, -1.3), 0.0, 0.33, 1.0, 1.0),
        (RING, 2, (0.87, 0.33, 1.3), (2.0, 0.33, 1.3), 0.0, 0.33, 1.0, 1.0),
        (RING, 2, (0.87, 0.33, -1.3), (2.0, 0.33, -1.3), 0.0, 0.33, 1.0, 1.0),
    ]
    return rows, [
        material(colour, folds=0.02),
        material((0.2, 0.22, 0.25), folds=0.1),
        material((0.1, 0.1, 0.1), folds=0.1),
    ]


def _tree(size: float, colour: Colour):
    rows = [
        (FRUSTUM, 0, (0.0, 0.0, 0.0), (0.0, 2.4 * size, 0.0), 0.17, 0.12, 1.0, 1.0),
        (ELLIPSOID, 1, (0.0, 3.1 * size, 0.0), (0.0, 9.0, 0.0), 1.3 * size, 0.0, 1.25 * size, 1.2),
        (ELLIPSOID, 1, (0.8 * size, 2.5 * size, 0.2), (0.8 * size, 9.0, 0.2), 0.8 * size, 0.0, 0.9 * size, 0.8),
    ]
    return rows, [material((0.32, 0.27, 0.22), folds=0.2), material(colour, folds=0.5)]


def _bare(size: float, colour: Colour):
    fork, high = (0.0, 1.9 * size, 0.0), 4.2 * size
    rows = [(FRUSTUM, 0, (0.0, 0.0, 0.0), fork, 0.18, 0.12, 1.0, 1.0)]
    tips = ((0.9, high, 0.2), (-0.8, high, -0.1), (0.2, high + 0.4, 0.4), (-0.3, high, -0.5))
    rows += [(CONE, 0, fork, (size * x, y, z), 0.09, 0.03, 1.0, 1.0) for x, y, z in tips]
    return rows, [material(colour, folds=0.25)]


def _bench(size: float, colour: Colour):
    rows = [
        (BOX, 0, (0.0, 0.43, 0.0), (0.0, 2.0, 0.0), 0.03, 0.0, 0.8 * size, 0.2),
        (BOX, 0, (0.0, 0.72, 0.2), (0.0, 2.0, 0.2), 0.16, 0.0, 0.8 * size, 0.02),
        (BOX, 1, (-0.65 * size, 0.21, 0.0), (-0.65 * size, 2.0, 0.0), 0.21, 0.0, 0.03, 0.18),
        (BOX, 1, (0.65 * size, 0.21, 0.0), (0.65 * size, 2.0, 0.0), 0.21, 0.0, 0.03, 0.18),
    ]
    return rows, [material(colour, scaled_colour(colour, 0.7), "stripes", (0.09, 0.2, 0.0)), material((0.2, 0.2, 0.2))]


def _pillar(size: float, colour: Colour):
    rows = [
        (BOX, 0, (0.0, 2.0, 0.0), (0.0, 9.0, 0.0), 2.0, 0.0, 0.26 * size, 0.26),
        (BOX, 1, (0.0, 0.25, 0.0), (0.0, 9.0, 0.0), 0.25, 0.0, 0.32 * size, 0.32),
    ]
    return rows, [material(colour, folds=0.06), material(scaled_colour(colour, 0.8), folds=0.06)]


def _rail(size: float, colour: Colour):
    half = 1.2 * size
    rows = [(CONE, 0, (-half, y, 0.0), (half, y, 0.0), 0.022, 0.022, 1.0, 1.0) for y in (1.0, 0.55)]
    rows += [(CONE, 0, (x, 0.0, 0.0), (x, 1.0, 0.0), 0.02, 0.02, 1.0, 1.0) for x in (-half, 0.0, half)]
    return rows, [material(colour, folds=0.02)]


MAKERS = {
    "box": _box,
    "bin": _bin,
    "pole": _pole,
    "bike": _bike,
    "car": _car,
    "tree": _tree,
    "bare": _bare,
    "bench": _bench,
    "pillar": _pillar,
    "rail": _rail,
}
