"""From a person and a pose to primitives, in the person's own space: x to the side, y up, z ahead, metres."""

from __future__ import annotations

import math
from dataclasses import dataclass

from . import parts
from .identity import Person
from .parts import BOX, CONE, ELLIPSOID, FRUSTUM, RING, Row, Vector, material, primitive

# Rows of a person's materials.
SKIN, FACE, HAIR, UPPER, SLEEVE_L, SLEEVE_R, LOWER_L, LOWER_R, HIPS, SHOE, BAG, HAT, CARRIED, INNER, BAG2 = range(15)


@dataclass(frozen=True)
class Pose:
    """A moment of the walk: phase (radians), how far the stride is taken (0 stands), the head's turn (radians)."""

    phase: float
    stride: float
    head_turn: float = 0.0
    arm_bend: float = 0.25


def _add(p: Vector, q: Vector, scale: float = 1.0) -> Vector:
    return (p[0] + scale * q[0], p[1] + scale * q[1], p[2] + scale * q[2])


def _along(angle: float) -> Vector:
    """The direction of a limb that hangs down at angle 0 and swings ahead as the angle grows."""
    return (0.0, -math.cos(angle), math.sin(angle))


def materials(person: Person) -> list[Row]:
    """The person's materials, in the order of the constants above."""
    upper, lower = person.upper, person.lower
    straps = person.bag if person.bag in parts.STRAPS else "none"
    outer = {"straps": straps, "strap": person.bag_colour, "side": float(person.side), "folds": 0.16}
    # Only an open jacket shows what is under it; its pattern is then the opening.
    if upper.cut == "jacket":
        torso = material(upper.colour, person.inner, "open", (0.045 + 0.04 * upper.numbers[1], 0.0, 0.0), **outer)
    elif upper.cut == "polo":
        torso = material(upper.colour, upper.second, "belt", (0.40, 0.0, 0.0), **outer)
    else:
        torso = material(upper.colour, upper.second, upper.pattern, upper.numbers, **outer)
    repeats = upper.pattern in ("stripes", "checks", "dots", "vertical") and upper.cut not in ("jacket", "polo")
    sleeve = "side" if upper.pattern == "side" else upper.pattern if repeats else "plain"
    raglan = upper.second if upper.pattern == "print" and upper.numbers[0] > 0.11 else upper.colour
    leg = lower.pattern if lower.pattern not in ("print", "diagonal") else "plain"
    dark = tuple(0.75 * part for part in person.bag_colour)
    return [
        material(person.skin, folds=0.04),
        material(person.skin, tuple(0.45 * part for part in person.skin), "face", folds=0.03),
        material(person.hair_colour, folds=0.3),
        torso,
        material(raglan, upper.second, sleeve, upper.numbers, side=1.0, folds=0.16),
        material(raglan, upper.second, sleeve, upper.numbers, side=-1.0, folds=0.16),
        material(lower.colour, lower.second, leg, lower.numbers, side=1.0, folds=0.14),
        material(lower.colour, lower.second, leg, lower.numbers, side=-1.0, folds=0.14),
        material(lower.colour, lower.second, "plain" if leg in ("side", "halves") else leg, lower.numbers, folds=0.14),
        material(person.shoes, folds=0.1),
        material(person.bag_colour, person.bag_second, "belt", (0.0, 0.0, 0.0), folds=0.1),
        material(person.hat_colour, folds=0.08),
        material(person.carried_colour, folds=0.2),
        material(person.inner, folds=0.1),
        material(dark, folds=0.1),
    ]


def figure(person: Person, pose: Pose) -> list[Row]:
    """The person's primitives in the given pose, feet on the ground at y = 0, facing +z."""
    height, build = person.height, person.build
    rows: list[Row] = []
    swing = person.stride * pose.stride * math.sin(pose.phase)

    # Legs first: the lower of the two feet decides how high the hips are.
    thigh, shin, ankle = 0.235 * height, 0.235 * height, 0.048 * height
    legs = []
    for side, phase in ((1, pose.phase), (-1, pose.phase + math.pi)):
        hip_angle = person.stride * pose.stride * math.sin(phase) + 0.04
        knee = 0.08 + 0.95 * pose.stride * max(0.0, math.cos(phase + 0.25))
        legs.append((side, hip_angle, knee, thigh * math.cos(hip_angle) + shin * math.cos(hip_angle - knee)))
    hip_height = max(reach for *_, reach in legs) + ankle
    hip_half = 0.052 * height * person.hips

    up: Vector = (0.0, math.cos(person.lean), math.sin(person.lean))
    ahead: Vector = (0.0, -math.sin(person.lean), math.cos(person.lean))
    crotch: Vector = (0.0, hip_height - 0.02 * height, 0.0)
    twist = -0.18 * pose.stride * math.sin(pose.phase)
    side_ways: Vector = (math.cos(twist), 0.0, math.sin(twist))

    def torso_point(rise: float) -> Vector:
        return _add(crotch, up, rise * height)

    for side, hip_angle, knee, _ in legs:
        hip = (side * hip_half, hip_height, 0.0)
        _leg(rows, person, side, hip, hip_angle, knee, thigh, shin)

    _torso(rows, person, torso_point, side_ways)
    _skirt(rows, person, torso_point, crotch, abs(swing))

    shoulder_half = 0.101 * height * person.shoulders * (0.85 + 0.15 * build)
    shoulder = torso_point(0.325)
    for side in (1, -1):
        joint = _add(shoulder, side_ways, side * shoulder_half)
        own = -side * person.swing * pose.stride * math.sin(pose.phase)
        _arm(rows, person, side, joint, own, pose.arm_bend + max(0.0, 0.5 * own), side_ways)
    _head(rows, person, torso_point, ahead, pose.head_turn + 0.5 * twist)
    _bag(rows, person, torso_point, ahead, side_ways)
    return rows


def _leg(
    rows: list[Row], person: Person, side: int, hip: Vector, angle: float, bend: float, thigh: float, shin: float
) -> None:
    height, lower, thick = person.height, person.lower, 0.5 + 0.5 * person.build
    cloth = LOWER_L if side > 0 else LOWER_R
    knee = _add(hip, _along(angle), thigh)
    ankle = _add(knee, _along(angle - bend), shin)
    bare = lower.cut in ("shorts", "skirt", "dress")
    loose = {"wide": 1.45, "trousers": 1.18, "tights": 1.0}.get(lower.cut, 1.0)
    skin_or_cloth = SKIN if bare else cloth
    r_hip, r_knee, r_ankle = 0.052 * height * thick, 0.034 * height * thick, 0.023 * height
    # A bare thigh begins below the hips, so that no skin shows through shorts or skirt.
    begin = 0.4 if bare else 0.0
    top, r_top = _add(hip, _along(angle), begin * thigh), r_hip * 1.02 + begin * (r_knee * loose - r_hip * 1.02)
    rows.append(primitive(CONE, parts.LEG, skin_or_cloth, top, knee, r_top, r_knee * loose, v0=begin * thigh))
    rows.append(primitive(CONE, parts.LEG, skin_or_cloth, knee, ankle, r_knee * loose, r_ankle * loose**1.6, v0=thigh))
    if lower.cut == "shorts":
        share = 0.5 + 0.5 * person.length
        end = _add(hip, _along(angle), thigh * share)
        rows.append(primitive(FRUSTUM, parts.LEG, cloth, hip, end, r_hip * 1.04, r_hip * 1.0))
        rows.append(
            primitive(ELLIPSOID, parts.LEG, cloth, hip, end, r_hip * 1.04, 0.0, sx=r_hip * 1.04, sz=r_hip * 1.04)
        )
    # The foot is flat on the ground under the body, and tips as the leg trails.
    tip = 0.1 - 0.55 * min(0.0, angle - bend + 0.35)
    toe = (0.0, -math.sin(tip), math.cos(tip))
    middle = _add(_add(ankle, toe, 0.042 * height), (0.0, -0.022 * height, 0.0))
    rows.append(
        primitive(
            ELLIPSOID,
            parts.SHOE,
            SHOE,
            middle,
            _add(middle, toe),
            0.078 * height,
            0.0,
            sx=0.030 * height,
            sz=0.027 * height,
        )
    )
    if person.length > 0.6 and bare:  # socks
        top = _add(ankle, _along(angle - bend), -0.05 * height)
        rows.append(primitive(CONE, parts.SHOE, SHOE, ankle, top, r_ankle * 1.12, r_ankle * 1.2))


def _torso(rows: list[Row], person: Person, point, side_ways: Vector) -> None:
    height, build = person.height, person.build
    wide = height * person.shoulders * (0.6 + 0.4 * build)
    deep = 0.70 * (0.75 + 0.25 * build)
    waist = (0.072 if person.woman else 0.079) * wide * (0.8 + 0.2 * build)
    hips = 0.083 * height * person.hips * (0.75 + 0.25 * build)
    bulk = {"coat": 1.14, "jacket": 1.12, "hoodie": 1.12, "long": 1.03}.get(person.upper.cut, 1.0)
    loose = {"hint": side_ways, "sz": deep * bulk, "sx": bulk}
    upper = UPPER
    # The texture's v counts metres above the crotch on every part of the torso, so that stripes run on.
    rows.append(primitive(CONE, parts.LEG, HIPS, point(0.01), point(0.05), hips * 0.96, waist * 0.94, sz=0.70))
    rows.append(
        primitive(CONE, parts.TORSO, upper, point(0.12), point(0.255), waist, 0.090 * wide, v0=0.12 * height, **loose)
    )
    hem = {"coat": 0.07, "jacket": 0.03, "hoodie": 0.015}.get(person.upper.cut, 0.045 * person.length - 0.005)
    rows.append(
        primitive(
            FRUSTUM,
            parts.TORSO,
            upper,
            point(hem),
            point(0.15),
            hips * 1.06,
            waist * 1.03,
            v0=hem * height,
            hint=side_ways,
            sz=0.76 * bulk**0.5,
            sx=bulk**0.5,
        )
    )
    shoulder_half = 0.094 * height * person.shoulders * (0.85 + 0.15 * build)
    for side in (1, -1):
        inner = _add(point(0.345), side_ways, side * 0.02 * height)
        outer = _add(point(0.322), side_ways, side * shoulder_half)
        rows.append(
            primitive(
                CONE,
                parts.TORSO,
                SKIN if person.upper.cut == "sleeveless" else upper,
                inner,
                outer,
                0.036 * height * bulk,
                0.034 * height * bulk,
                v0=0.345 * height - 0.3,
                u0=0.3,
            )
        )
    if person.upper.cut == "hoodie":
        hood = _add(point(0.36), (0.0, 0.0, -0.045 * height))
        rows.append(
            primitive(
                ELLIPSOID,
                parts.TORSO,
                SLEEVE_L,
                hood,
                _add(hood, (0.0, 1.0, 0.0)),
                0.035 * height,
                0.0,
                sx=0.06 * height,
                sz=0.04 * height,
            )
        )
    if person.upper.cut in ("polo", "jacket", "coat"):
        rows.append(
            primitive(
                FRUSTUM,
                parts.TORSO,
                INNER if person.upper.cut == "jacket" else SLEEVE_L,
                point(0.345),
                point(0.385),
                0.043 * height,
                0.034 * height,
                v0=0.345 * height,
            )
        )


def _skirt(rows: list[Row], person: Person, point, crotch: Vector, swing: float) -> None:
    height = person.height
    if person.lower.cut in ("skirt", "dress"):
        drop = 0.10 + 0.14 * person.length
        flare = (0.105 + 0.05 * person.lower.numbers[2]) * height * person.hips
        cloth, waist_line = (UPPER, 0.16) if person.lower.cut == "dress" else (HIPS, 0.10)
        hem = (crotch[0], crotch[1] - drop * height, crotch[2])
        rows.append(
            primitive(
                FRUSTUM,
                parts.LEG,
                cloth,
                hem,
                point(waist_line),
                flare,
                0.073 * height * person.hips,
                sz=0.72 + 0.5 * swing,
                v0=-drop * height,
            )
        )
    if person.upper.cut == "coat":
        drop = 0.06 + 0.14 * person.length
        hem = (crotch[0], crotch[1] - drop * height, crotch[2])
        rows.append(
            primitive(
                FRUSTUM,
                parts.TORSO,
                UPPER,
                hem,
                point(0.14),
                0.118 * height * person.hips,
                0.083 * height,
                sz=0.74 + 0.4 * swing,
                v0=-drop * height,
            )
        )


def _arm(
    rows: list[Row], person: Person, side: int, joint: Vector, angle: float, bend: float, side_ways: Vector
) -> None:
    height, thick, cut = person.height, 0.55 + 0.45 * person.build, person.upper.cut
    cloth = SLEEVE_L if side > 0 else SLEEVE_R
    if person.carried == "books" and side == person.side:
        angle, bend = 0.15, 1.5
    if person.carried == "umbrella" and side == person.side:
        angle, bend = 0.35, 1.7
    if person.carried == "bottle" and side == person.side:
        angle, bend = 0.1, 0.9
    out = 0.10 + 0.06 * person.build
    upper_dir, fore_dir = _along(angle), _along(angle + bend)
    elbow = _add(_add(joint, upper_dir, 0.168 * height), side_ways, side * out * 0.12 * height)
    wrist = _add(_add(elbow, fore_dir, 0.14 * height), side_ways, -side * 0.012 * height)
    hand = _add(wrist, fore_dir, 0.035 * height)
    covered = cut in ("long", "jacket", "hoodie", "coat")
    puff = {"long": 1.12, "jacket": 1.28, "hoodie": 1.28, "coat": 1.3}.get(cut, 1.0)
    r_top, r_elbow, r_wrist = 0.028 * height * thick * puff, 0.024 * height * thick * puff, 0.018 * height * puff
    limb = cloth if covered else SKIN
    rows.append(primitive(CONE, parts.ARM, limb, joint, elbow, r_top, r_elbow))
    rows.append(primitive(CONE, parts.ARM, limb, elbow, wrist, r_elbow, r_wrist, v0=0.168 * height))
    rows.append(
        primitive(
            ELLIPSOID,
            parts.ARM,
            SKIN,
            hand,
            _add(hand, fore_dir),
            0.042 * height,
            0.0,
            sx=0.020 * height,
            sz=0.024 * height,
        )
    )
    if cut in ("tee", "polo"):
        share = 0.5 + 0.25 * person.upper.numbers[2]
        end = tuple(j + share * (e - j) for j, e in zip(joint, elbow, strict=True))
        rows.append(primitive(CONE, parts.ARM, cloth, joint, end, r_top * 1.08, r_top * 1.18))
    if side == person.side:
        _in_hand(rows, person, hand, elbow, wrist)


def _in_hand(rows: list[Row], person: Person, hand: Vector, elbow: Vector, wrist: Vector) -> None:
    """What the person holds in the hand of their side."""
    height, down = person.height, (0.0, -1.0, 0.0)
    if person.carried == "plastic":
        middle = _add(hand, down, 0.17)
        rows.append(primitive(ELLIPSOID, parts.BAG, CARRIED, middle, _add(middle, down), 0.17, 0.0, sx=0.09, sz=0.13))
    elif person.carried == "books":
        middle = _add(wrist, (-0.02 * person.side, 0.03, 0.02))
        rows.append(
            primitive(BOX, parts.BAG, CARRIED, middle, _add(middle, (0.0, 1.0, 0.2)), 0.14, 0.0, sx=0.105, sz=0.03)
        )
    elif person.carried == "bottle":
        rows.append(primitive(CONE, parts.BAG, CARRIED, hand, _add(hand, (0.0, 0.14, 0.0)), 0.036, 0.03))
    elif person.carried == "umbrella":
        top = _add(hand, (-0.10 * person.side, 1.02 * height - hand[1] + 0.16, 0.0))
        rows.append(primitive(FRUSTUM, parts.BAG, CARRIED, _add(top, down, 0.2), top, 0.46, 0.03))
        rows.append(primitive(CONE, parts.BAG, BAG2, hand, top, 0.012, 0.011))
    if person.bag == "handbag":
        size = person.bag_size
        if person.carried in ("books", "umbrella", "plastic"):  # that hand is taken: it hangs from the elbow
            hand = _add(elbow, (0.02 * person.side, 0.05, 0.0))
        middle = _add(hand, down, 0.20 * size + 0.06)
        rows.append(
            primitive(
                BOX,
                parts.BAG,
                BAG,
                middle,
                _add(middle, (0.0, 1.0, 0.0)),
                0.125 * size,
                0.0,
                sx=0.055,
                sz=0.17 * size,
                v0=-0.05,
            )
        )
        for z in (-0.09, 0.09):
            low = _add(middle, (0.0, 0.12 * size, z * size))
            rows.append(primitive(CONE, parts.BAG, BAG2, low, hand, 0.012, 0.010))


def _head(rows: list[Row], person: Person, point, ahead: Vector, turn: float) -> None:
    height = person.height
    face: Vector = (math.sin(turn), 0.0, math.cos(turn))
    hint: Vector = (math.cos(turn), 0.0, -math.sin(turn))
    top: Vector = (0.0, 1.0, 0.0)
    rows.append(primitive(CONE, parts.HEAD, SKIN, point(0.34), point(0.40), 0.031 * height, 0.028 * height))
    head = _add(point(0.447), ahead, 0.012 * height)
    size = {"sx": 0.044 * height, "sz": 0.054 * height}

    def ellipsoid(part: int, mat: int, shift: tuple[float, float], ry: float, rx: float, rz: float) -> None:
        middle = _add(_add(head, top, shift[0] * height), face, shift[1] * height)
        rows.append(
            primitive(
                ELLIPSOID,
                part,
                mat,
                middle,
                _add(middle, top),
                ry * height,
                0.0,
                hint=hint,
                sx=rx * height,
                sz=rz * height,
            )
        )

    rows.append(primitive(ELLIPSOID, parts.HEAD, FACE, head, _add(head, top), 0.066 * height, 0.0, hint=hint, **size))
    if person.hair != "bald":
        ellipsoid(parts.HAIR, HAIR, (0.016, -0.012), 0.060, 0.0485, 0.0535)
    if person.hair == "bob":
        ellipsoid(parts.HAIR, HAIR, (-0.022, -0.020), 0.058, 0.054, 0.044)
    elif person.hair == "long":
        low = _add(_add(head, top, -0.125 * height), face, -0.052 * height)
        high = _add(head, face, -0.024 * height)
        rows.append(
            primitive(CONE, parts.HAIR, HAIR, high, low, 0.049 * height, 0.036 * height, hint=hint, sz=0.7, sx=1.15)
        )
    elif person.hair == "ponytail":
        high = _add(_add(head, top, 0.02 * height), face, -0.062 * height)
        low = _add(_add(head, top, -0.085 * height), face, -0.085 * height)
        rows.append(primitive(CONE, parts.HAIR, HAIR, high, low, 0.022 * height, 0.014 * height))
    elif person.hair == "bun":
        ellipsoid(parts.HAIR, HAIR, (0.055, -0.042), 0.026, 0.028, 0.026)
    if person.hat == "cap":
        ellipsoid(parts.HAT, HAT, (0.036, -0.006), 0.044, 0.053, 0.061)
        middle = _add(_add(head, top, 0.036 * height), face, 0.058 * height)
        rows.append(
            primitive(
                ELLIPSOID,
                parts.HAT,
                HAT,
                middle,
                _add(middle, top),
                0.007 * height,
                0.0,
                hint=hint,
                sx=0.040 * height,
                sz=0.040 * height,
            )
        )
    elif person.hat == "beanie":
        ellipsoid(parts.HAT, HAT, (0.034, -0.010), 0.050, 0.052, 0.057)
    elif person.hat == "sunhat":
        ellipsoid(parts.HAT, HAT, (0.040, -0.004), 0.046, 0.053, 0.060)
        middle = _add(head, top, 0.036 * height)
        rows.append(primitive(RING, parts.HAT, HAT, middle, _add(middle, top), 0.0, 0.098 * height, hint=hint))


def _bag(rows: list[Row], person: Person, point, ahead: Vector, side_ways: Vector) -> None:
    height, size = person.height, person.bag_size
    up = _add(point(1.0), point(0.0), -1.0)
    if person.bag == "backpack":
        middle = _add(point(0.235), ahead, -(0.095 * height * person.build**0.5 + 0.04))
        tall, wide = 0.20 * size, 0.145 * size
        rows.append(
            primitive(
                BOX,
                parts.BAG,
                BAG,
                middle,
                _add(middle, up),
                tall * 0.86,
                0.0,
                hint=side_ways,
                sx=wide * 0.92,
                sz=0.075 * size,
                v0=-0.03,
            )
        )
        rows.append(
            primitive(
                ELLIPSOID,
                parts.BAG,
                BAG,
                middle,
                _add(middle, up),
                tall * 1.12,
                0.0,
                hint=side_ways,
                sx=wide * 1.08,
                sz=0.11 * size,
                v0=-0.03,
            )
        )
        pocket = _add(_add(middle, up, -0.05), ahead, -0.085 * size)
        rows.append(
            primitive(
                BOX,
                parts.BAG,
                BAG2,
                pocket,
                _add(pocket, up),
                0.085 * size,
                0.0,
                hint=side_ways,
                sx=0.10 * size,
                sz=0.035,
            )
        )
    elif person.bag == "shoulder":
        middle = _add(_add(point(0.02), side_ways, person.side * (0.100 * height * person.hips + 0.05)), ahead, -0.02)
        rows.append(
            primitive(
                BOX,
                parts.BAG,
                BAG,
                middle,
                _add(middle, up),
                0.13 * size,
                0.0,
                hint=side_ways,
                sx=0.05,
                sz=0.17 * size,
                v0=-0.03,
            )
        )
