"""Things: fixed objects of a place, and what may stand in front of a pedestrian. Their shapes are in `props.toml`."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

from . import parts
from .domain import Colour, Thing
from .parts import Row, Vector, material, primitive, scaled_colour

SHAPES: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def build(thing: Thing, part: int, first_material: int) -> tuple[list[Row], list[Row]]:
    """Primitives (world coordinates) and materials of a thing; its materials start at row `first_material`."""
    shape, turn = SHAPES[thing.what], math.radians(thing.yaw)
    cos, sin = math.cos(turn), math.sin(turn)

    def number(value: str | float) -> float:
        """A number of the file: itself, or "0.33s-0.045" for a thing of size s."""
        if not isinstance(value, str):
            return value
        factor, _, rest = value.partition("s")
        return float(factor) * thing.size + float(rest or 0)

    def place(point: list) -> Vector:
        x, y, z = map(number, point)
        return (thing.x + x * cos + z * sin, y, thing.z - x * sin + z * cos)

    def colour(value: Any) -> Colour:
        return scaled_colour(thing.colour, value) if isinstance(value, float) else value

    def made(first: Any, second: Any = None, **more: Any) -> Row:
        return material(colour(first), colour(second or first), **more)

    rows = []
    for kind, which, a, b, *sizes in shape["primitives"]:
        (r0, r1, sx, sz), own = map(number, sizes), first_material + which
        hint = (cos, 0.0, -sin)
        rows.append(primitive(getattr(parts, kind), part, own, place(a), place(b), r0, r1, hint=hint, sx=sx, sz=sz))
    return rows, [made(**words) for words in shape["materials"]]
