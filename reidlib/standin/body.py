"""From a person and a pose to primitives, in the person's own space: x to the side, y up, z ahead, metres."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from . import parts
from .identity import Person
from .parts import BOX, CONE, ELLIPSOID, FRUSTUM, RING, Row, Vector, add, material, primitive, scaled_colour, solid

Spine = Callable[[float], Vector]
UP: Vector = (0.0, 1.0, 0.0)
SIZES: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
cone, frustum = partial(primitive, CONE), partial(primitive, FRUSTUM)

# Rows of a person's materials.
SKIN, FACE, HAIR, UPPER, SLEEVE_L, SLEEVE_R, LOWER_L, LOWER_R, HIPS, SHOE, BAG, HAT, CARRIED, INNER, BAG2 = range(15)


@dataclass(frozen=True)
class Pose:
    """A moment of the walk: phase (radians), how far the stride is taken (0 stands), the head's turn (radians)."""

    phase: float
    stride: float
    head_turn: float = 0.0
    arm_bend: float = 0.25


def _along(angle: float) -> Vector:
    """The direction of a limb that hangs down at angle 0 and swings ahead as the angle grows."""
    return (0.0, -math.cos(angle), math.sin(angle))


@lru_cache(maxsize=4096)
def materials(person: Person) -> np.ndarray:
    """The person's materials, in the order of the constants above."""
    upper, lower = person.upper, person.lower
    straps = person.bag if person.bag in parts.STRAPS else "none"
    # Only an open jacket shows what is under it; its pattern is then the opening.
    jacket, polo = ("open", (0.045 + 0.04 * upper.numbers[1], 0.0, 0.0)), ("belt", (0.40, 0.0, 0.0))
    front = {"jacket": jacket, "polo": polo}.get(upper.cut, (upper.pattern, upper.numbers))
    second = person.inner if upper.cut == "jacket" else upper.second
    outer = {"straps": straps, "strap": person.bag_colour, "side": float(person.side), "folds": 0.16}
    repeats = upper.pattern in ("stripes", "checks", "dots", "vertical") and upper.cut not in ("jacket", "polo")
    sleeve = upper.pattern if repeats or upper.pattern == "side" else "plain"
    raglan = upper.second if upper.pattern == "print" and upper.numbers[0] > 0.11 else upper.colour
    leg = lower.pattern if lower.pattern not in ("print", "diagonal") else "plain"
    hips = "plain" if leg in ("side", "halves") else leg
    rows = [
        material(person.skin, folds=0.04),
        material(person.skin, scaled_colour(person.skin, 0.45), "face", folds=0.03),
        material(person.hair_colour, folds=0.3),
        material(upper.colour, second, *front, **outer),
        *(material(raglan, upper.second, sleeve, upper.numbers, side=side, folds=0.16) for side in (1.0, -1.0)),
        *(material(lower.colour, lower.second, leg, lower.numbers, side=side, folds=0.14) for side in (1.0, -1.0)),
        material(lower.colour, lower.second, hips, lower.numbers, folds=0.14),
        material(person.shoes, folds=0.1),
        material(person.bag_colour, person.bag_second, "belt", (0.0, 0.0, 0.0), folds=0.1),
        material(person.hat_colour, folds=0.08),
        material(person.carried_colour, folds=0.2),
        material(person.inner, folds=0.1),
        material(scaled_colour(person.bag_colour, 0.75), folds=0.1),
    ]
    return np.array(rows)


def figure(person: Person, pose: Pose) -> list[Row]:
    """The person's primitives in the given pose, feet on the ground at y = 0, facing +z."""
    height, build = person.height, person.build
    swing = person.stride * pose.stride * math.sin(pose.phase)

    bone = 0.235 * height  # a thigh, or a shin
    legs = []
    for side, phase in ((1, pose.phase), (-1, pose.phase + math.pi)):
        angle = person.stride * pose.stride * math.sin(phase) + 0.04
        legs.append((side, angle, 0.08 + 0.95 * pose.stride * max(0.0, math.cos(phase + 0.25))))
    # The lower of the two feet decides how high the hips are.
    hip_height = max(bone * math.cos(angle) + bone * math.cos(angle - knee) for _, angle, knee in legs) + 0.048 * height
    hip_half = 0.052 * height * person.hips

    up: Vector = (0.0, math.cos(person.lean), math.sin(person.lean))
    ahead: Vector = (0.0, -math.sin(person.lean), math.cos(person.lean))
    crotch: Vector = (0.0, hip_height - 0.02 * height, 0.0)
    twist = -0.18 * pose.stride * math.sin(pose.phase)
    sideways: Vector = (math.cos(twist), 0.0, math.sin(twist))

    def point(rise: float) -> Vector:
        """A point of the spine, by its share of the person's height above the crotch."""
        return add(crotch, up, rise * height)

    rows: list[Row] = []
    for side, angle, knee in legs:
        rows += _leg(person, side, (side * hip_half, hip_height, 0.0), angle, knee, bone)
    rows += _torso(person, point, sideways)
    rows += _skirt(person, point, crotch, abs(swing))
    shoulder_half = 0.101 * height * person.shoulders * (0.85 + 0.15 * build)
    for side in (1, -1):
        joint = add(point(0.325), sideways, side * shoulder_half)
        own = -side * person.swing * pose.stride * math.sin(pose.phase)
        rows += _arm(person, side, joint, own, pose.arm_bend + max(0.0, 0.5 * own), sideways)
    rows += _head(person, point, ahead, pose.head_turn + 0.5 * twist)
    rows += _bag(person, point, ahead, sideways)
    return rows


def _leg(person: Person, side: int, hip: Vector, angle: float, bend: float, bone: float) -> Iterator[Row]:
    height, cut, thick = person.height, person.lower.cut, 0.5 + 0.5 * person.build
    down, back = _along(angle), _along(angle - bend)
    knee = add(hip, down, bone)
    ankle = add(knee, back, bone)
    cloth, bare = LOWER_L if side > 0 else LOWER_R, cut in ("shorts", "skirt", "dress")
    cover, loose = SKIN if bare else cloth, SIZES["loose"].get(cut, 1.0)
    r_hip, r_knee, r_ankle = 0.052 * height * thick, 0.034 * height * thick * loose, 0.023 * height
    # A bare thigh begins below the hips, so that no skin shows through shorts or skirt.
    begin = 0.4 if bare else 0.0
    top, r_top = add(hip, down, begin * bone), r_hip * 1.02 + begin * (r_knee - r_hip * 1.02)
    yield cone(parts.LEG, cover, top, knee, r_top, r_knee, v0=begin * bone)
    yield cone(parts.LEG, cover, knee, ankle, r_knee, r_ankle * loose**1.6, v0=bone)
    if cut == "shorts":
        end, wide = add(hip, down, bone * (0.5 + 0.5 * person.length)), r_hip * 1.04
        yield frustum(parts.LEG, cloth, hip, end, wide, r_hip * 1.0)
        yield primitive(ELLIPSOID, parts.LEG, cloth, hip, end, wide, 0.0, sx=wide, sz=wide)
    # The foot is flat on the ground under the body, and tips as the leg trails.
    tip = 0.1 - 0.55 * min(0.0, angle - bend + 0.35)
    toe = (0.0, -math.sin(tip), math.cos(tip))
    middle = add(add(ankle, toe, 0.042 * height), (0.0, -0.022 * height, 0.0))
    yield solid(ELLIPSOID, parts.SHOE, SHOE, middle, toe, (0.030 * height, 0.078 * height, 0.027 * height))
    if person.length > 0.6 and bare:  # socks
        yield cone(parts.SHOE, SHOE, ankle, add(ankle, back, -0.05 * height), r_ankle * 1.12, r_ankle * 1.2)


def _torso(person: Person, point: Spine, sideways: Vector) -> Iterator[Row]:
    height, build, cut = person.height, person.build, person.upper.cut
    wide = height * person.shoulders * (0.6 + 0.4 * build)
    deep = 0.70 * (0.75 + 0.25 * build)
    waist = (0.072 if person.woman else 0.079) * wide * (0.8 + 0.2 * build)
    hips = 0.083 * height * person.hips * (0.75 + 0.25 * build)
    bulk = SIZES["bulk"].get(cut, 1.0)
    hem = SIZES["hem"].get(cut, 0.045 * person.length - 0.005)
    # The texture's v counts metres above the crotch on every part of the torso, so that stripes run on.
    yield cone(parts.LEG, HIPS, point(0.01), point(0.05), hips * 0.96, waist * 0.94, sz=0.70)
    chest = partial(cone, parts.TORSO, UPPER, hint=sideways, sz=deep * bulk, sx=bulk)
    yield chest(point(0.12), point(0.255), waist, 0.090 * wide, v0=0.12 * height)
    belly = partial(frustum, parts.TORSO, UPPER, hint=sideways, sz=0.76 * bulk**0.5, sx=bulk**0.5)
    yield belly(point(hem), point(0.15), hips * 1.06, waist * 1.03, v0=hem * height)
    shoulder_half = 0.094 * height * person.shoulders * (0.85 + 0.15 * build)
    cloth, radii = SKIN if cut == "sleeveless" else UPPER, (0.036 * height * bulk, 0.034 * height * bulk)
    for side in (1, -1):
        ends = add(point(0.345), sideways, side * 0.02 * height), add(point(0.322), sideways, side * shoulder_half)
        yield cone(parts.TORSO, cloth, *ends, *radii, v0=0.345 * height - 0.3, u0=0.3)
    if cut == "hoodie":
        hood, half = add(point(0.36), (0.0, 0.0, -0.045 * height)), (0.06 * height, 0.035 * height, 0.04 * height)
        yield solid(ELLIPSOID, parts.TORSO, SLEEVE_L, hood, UP, half)
    if cut in ("polo", "jacket", "coat"):
        collar, radii = INNER if cut == "jacket" else SLEEVE_L, (0.043 * height, 0.034 * height)
        yield frustum(parts.TORSO, collar, point(0.345), point(0.385), *radii, v0=0.345 * height)


def _skirt(person: Person, point: Spine, crotch: Vector, swing: float) -> Iterator[Row]:
    height, garments = person.height, []
    if person.lower.cut in ("skirt", "dress"):
        flare = (0.105 + 0.05 * person.lower.numbers[2]) * height * person.hips
        cloth, rise = (UPPER, 0.16) if person.lower.cut == "dress" else (HIPS, 0.10)
        garments.append((parts.LEG, cloth, 0.10, rise, flare, 0.073 * height * person.hips, 0.72 + 0.5 * swing))
    if person.upper.cut == "coat":
        flare = 0.118 * height * person.hips
        garments.append((parts.TORSO, UPPER, 0.06, 0.14, flare, 0.083 * height, 0.74 + 0.4 * swing))
    for part, cloth, drop, rise, flare, waist, deep in garments:
        drop = (drop + 0.14 * person.length) * height
        yield frustum(part, cloth, add(crotch, UP, -drop), point(rise), flare, waist, sz=deep, v0=-drop)


def _arm(person: Person, side: int, joint: Vector, angle: float, bend: float, sideways: Vector) -> Iterator[Row]:
    height, thick, cut = person.height, 0.55 + 0.45 * person.build, person.upper.cut
    cloth = SLEEVE_L if side > 0 else SLEEVE_R
    if side == person.side:
        angle, bend = SIZES["held"].get(person.carried, (angle, bend))
    out = 0.10 + 0.06 * person.build
    upper_dir, fore_dir = _along(angle), _along(angle + bend)
    elbow = add(add(joint, upper_dir, 0.168 * height), sideways, side * out * 0.12 * height)
    wrist = add(add(elbow, fore_dir, 0.14 * height), sideways, -side * 0.012 * height)
    hand = add(wrist, fore_dir, 0.035 * height)
    puff = SIZES["puff"].get(cut, 1.0)
    r_top, r_elbow, r_wrist = 0.028 * height * thick * puff, 0.024 * height * thick * puff, 0.018 * height * puff
    limb = cloth if cut in SIZES["puff"] else SKIN
    yield cone(parts.ARM, limb, joint, elbow, r_top, r_elbow)
    yield cone(parts.ARM, limb, elbow, wrist, r_elbow, r_wrist, v0=0.168 * height)
    yield solid(ELLIPSOID, parts.ARM, SKIN, hand, fore_dir, (0.020 * height, 0.042 * height, 0.024 * height))
    if cut in ("tee", "polo"):
        end = add(joint, add(elbow, joint, -1.0), 0.5 + 0.25 * person.upper.numbers[2])
        yield cone(parts.ARM, cloth, joint, end, r_top * 1.08, r_top * 1.18)
    if side == person.side:
        yield from _in_hand(person, hand, elbow, wrist)


def _in_hand(person: Person, hand: Vector, elbow: Vector, wrist: Vector) -> Iterator[Row]:
    """What the person holds in the hand of their side."""
    height, down = person.height, (0.0, -1.0, 0.0)
    if person.carried == "plastic":
        yield solid(ELLIPSOID, parts.BAG, CARRIED, add(hand, down, 0.17), down, (0.09, 0.17, 0.13))
    elif person.carried == "books":
        middle = add(wrist, (-0.02 * person.side, 0.03, 0.02))
        yield solid(BOX, parts.BAG, CARRIED, middle, (0.0, 1.0, 0.2), (0.105, 0.14, 0.03))
    elif person.carried == "bottle":
        yield cone(parts.BAG, CARRIED, hand, add(hand, (0.0, 0.14, 0.0)), 0.036, 0.03)
    elif person.carried == "umbrella":
        top = add(hand, (-0.10 * person.side, 1.02 * height - hand[1] + 0.16, 0.0))
        yield frustum(parts.BAG, CARRIED, add(top, down, 0.2), top, 0.46, 0.03)
        yield cone(parts.BAG, BAG2, hand, top, 0.012, 0.011)
    if person.bag == "handbag":
        size = person.bag_size
        if person.carried in ("books", "umbrella", "plastic"):  # that hand is taken: it hangs from the elbow
            hand = add(elbow, (0.02 * person.side, 0.05, 0.0))
        middle = add(hand, down, 0.20 * size + 0.06)
        yield solid(BOX, parts.BAG, BAG, middle, UP, (0.055, 0.125 * size, 0.17 * size), v0=-0.05)
        for z in (-0.09, 0.09):
            low = add(middle, (0.0, 0.12 * size, z * size))
            yield cone(parts.BAG, BAG2, low, hand, 0.012, 0.010)


def _head(person: Person, point: Spine, ahead: Vector, turn: float) -> Iterator[Row]:
    height = person.height
    face: Vector = (math.sin(turn), 0.0, math.cos(turn))
    hint: Vector = (math.cos(turn), 0.0, -math.sin(turn))
    head = add(point(0.447), ahead, 0.012 * height)

    def at(rise: float, forward: float) -> Vector:
        return add(add(head, UP, rise * height), face, forward * height)

    def ellipsoid(part: int, mat: int, middle: Vector, *half: float) -> Row:
        rx, ry, rz = (share * height for share in half)
        return solid(ELLIPSOID, part, mat, middle, UP, (rx, ry, rz), hint=hint)

    yield cone(parts.HEAD, SKIN, point(0.34), point(0.40), 0.031 * height, 0.028 * height)
    yield ellipsoid(parts.HEAD, FACE, head, 0.044, 0.066, 0.054)
    for rise, forward, *half in SIZES["round"][person.hair]:
        yield ellipsoid(parts.HAIR, HAIR, at(rise, forward), *half)
    if person.hair == "long":
        radii = 0.049 * height, 0.036 * height
        yield cone(parts.HAIR, HAIR, at(0.0, -0.024), at(-0.125, -0.052), *radii, hint=hint, sz=0.7, sx=1.15)
    elif person.hair == "ponytail":
        yield cone(parts.HAIR, HAIR, at(0.02, -0.062), at(-0.085, -0.085), 0.022 * height, 0.014 * height)
    for rise, forward, *half in SIZES["round"][person.hat]:
        yield ellipsoid(parts.HAT, HAT, at(rise, forward), *half)
    if person.hat == "sunhat":
        middle = at(0.036, 0.0)
        yield primitive(RING, parts.HAT, HAT, middle, add(middle, UP), 0.0, 0.098 * height, hint=hint)


def _bag(person: Person, point: Spine, ahead: Vector, sideways: Vector) -> Iterator[Row]:
    height, size = person.height, person.bag_size
    up = add(point(1.0), point(0.0), -1.0)
    if person.bag == "backpack":
        middle = add(point(0.235), ahead, -(0.095 * height * person.build**0.5 + 0.04))
        tall, wide = 0.20 * size, 0.145 * size
        box, bulge = (wide * 0.92, tall * 0.86, 0.075 * size), (wide * 1.08, tall * 1.12, 0.11 * size)
        yield solid(BOX, parts.BAG, BAG, middle, up, box, hint=sideways, v0=-0.03)
        yield solid(ELLIPSOID, parts.BAG, BAG, middle, up, bulge, hint=sideways, v0=-0.03)
        pocket = add(add(middle, up, -0.05), ahead, -0.085 * size)
        yield solid(BOX, parts.BAG, BAG2, pocket, up, (0.10 * size, 0.085 * size, 0.035), hint=sideways)
    elif person.bag == "shoulder":
        middle = add(add(point(0.02), sideways, person.side * (0.100 * height * person.hips + 0.05)), ahead, -0.02)
        yield solid(BOX, parts.BAG, BAG, middle, up, (0.05, 0.13 * size, 0.17 * size), hint=sideways, v0=-0.03)
