"""From an image's specification to numbers: who stands where, what the camera sees, the light, the box."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np

from . import body, geometry, parts, props
from .domain import Camera, Domain, Thing
from .identity import Person, between, draw_person, pick, spread
from .plan import ImageSpec

CASTERS = 3
ALIKE = 8

Window = tuple[float, float, float, float]


@dataclass
class Scene:
    """One image as numbers, ready for the ray caster. Arrays of real numbers are float32.

    packed, kind, material, part, pixels   its primitives, see `geometry.pack`
    materials  (M, parts.MATERIAL_LENGTH)
    surfaces   (4, 24): ground, far ground, two walls
    ray        (9,), direction of the window's corner, and its change per column and per row (world)
    place      (4,), eye height; the line between the two grounds (sine, cosine, distance)
    walls      (6,), the same three numbers of each wall
    light      (9,), direction to the sun, its colour, the sky's colour
    shadows    (CASTERS, 4), feet (x, z) of those who cast a shadow, and the shadow's end
    look       (9,), gains, contrast, saturation, exposure, blur, coarse, noise
    seed       of the noise
    quality    JPEG's
    factors    everything that was drawn for it; see `groundtruth.FACTORS`
    """

    packed: np.ndarray
    kind: np.ndarray
    material: np.ndarray
    part: np.ndarray
    pixels: np.ndarray
    materials: np.ndarray
    surfaces: np.ndarray
    ray: np.ndarray
    place: np.ndarray
    walls: np.ndarray
    light: np.ndarray
    shadows: np.ndarray
    look: np.ndarray
    seed: int
    quality: int
    factors: dict[str, Any]


@dataclass(frozen=True)
class Walker:
    """A person at a moment: who, the pose, the heading (radians) and the place on the ground (metres)."""

    person: Person
    pose: body.Pose
    heading: float
    x: float
    z: float


@functools.lru_cache(maxsize=4096)
def person_of(domain: Domain, seed: int, key: str) -> Person:
    """The person behind an identity (or a passer-by); the same in every image."""
    person, share = draw_person(domain.stream(seed, "person", key), domain), domain.variant.same_clothes
    if not share or not key.isdigit() or domain.stream(seed, "alike", key).random() >= share:
        return person
    streams = (domain.stream(seed, "alike", int(key) // ALIKE, number) for number in itertools.count())
    others = (draw_person(stream, domain) for stream in streams)
    other = next(other for other in others if other.woman == person.woman)
    return replace(person, **{name: getattr(other, name) for name in ("upper", "inner", "lower", "length", "shoes")})


@functools.lru_cache(maxsize=64)
def _scenery(domain: Domain, camera: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and materials of a camera's fixed things."""
    rows: list[parts.Row] = []
    materials: list[parts.Row] = []
    for thing in domain.cameras[camera - 1].things:
        more, own = props.build(thing, parts.SCENERY, len(materials))
        rows += more
        materials += own
    return np.array(rows), np.array(materials)


@functools.lru_cache(maxsize=64)
def _surfaces(domain: Domain, camera: int) -> np.ndarray:
    view = domain.cameras[camera - 1]
    kinds = (view.ground, view.far_ground, view.walls[0].surface, view.walls[1].surface)
    names = ("base", "line", "alt", "plinth_colour", "top_colour", "cell", "joint", "vary", "alt_share")
    names += ("grain", "grain_size", "plinth", "top")
    return np.array([np.hstack([getattr(kind, name) for name in names]) for kind in kinds], dtype=np.float32)


def walk(domain: Domain, seed: int, key: str, camera: int, number: int, moment: int) -> tuple[Walker, Random]:
    """The person `key` at a moment of a walk past a camera, and the random stream of that one image."""
    view, rates = domain.cameras[camera - 1], domain.rates
    path = domain.stream(seed, "walk", key, camera, number)
    heading = math.radians(path.choice(view.headings) + spread(path, rates.heading_track))
    z = between(path, view.near + 0.6, view.far - 0.6)
    x = between(path, -0.7, 0.7) * view.spread * z
    first_phase, standing = path.random(), path.random() < rates.standing
    image = domain.stream(seed, "image", key, camera, moment)
    # Along the path and back, so that long walks stay in view.
    along = 0.55 * (abs((moment + 4.0 * first_phase) % 8.0 - 4.0) - 2.0)
    x += math.sin(heading) * along + spread(image, 0.08)
    z += math.cos(heading) * along + spread(image, 0.08)
    z = min(view.far, max(view.near, z))
    phase = 2.0 * math.pi * (first_phase + 0.37 * moment + 0.2 * image.random())
    stride = 0.12 if standing else between(image, 0.85, 1.1)
    pose = body.Pose(phase, stride, spread(image, 0.25), between(image, 0.15, 0.4))
    heading += math.radians(spread(image, rates.heading_image))
    return Walker(person_of(domain, seed, key), pose, heading, x, z), image


class _Stage:
    """Collects the rows and materials of one image."""

    def __init__(self, domain: Domain, camera: int) -> None:
        self.view: Camera = domain.cameras[camera - 1]
        self.eye = geometry.Eye(self.view.height, math.radians(self.view.pitch))
        rows, materials = _scenery(domain, camera)
        self.rows, self.materials = [rows], [materials]
        self.count = len(materials)
        self.feet: list[tuple[float, float, float]] = []
        self.company, self.occluder = False, "none"

    def person(self, walker: Walker, part: int | None = None) -> Window:
        """Put a person on the stage; returns the tight box as tangents. `part` overrides all part numbers."""
        rows = geometry.place(np.array(body.figure(walker.person, walker.pose)), walker.heading, walker.x, walker.z)
        boxes, _ = geometry.extents(geometry.Solids(rows), self.eye)
        figure = boxes[rows[:, parts.PART] != parts.BAG]
        if part is not None:
            rows[:, parts.PART] = part
        self._add(rows, body.materials(walker.person))
        self.feet.append((walker.x, walker.z, walker.person.height))
        return (*figure[:, :2].min(0).tolist(), *figure[:, 2:].max(0).tolist())

    def thing(self, thing: Thing) -> None:
        rows, materials = props.build(thing, parts.OCCLUDER, 0)
        self._add(np.array(rows), materials)

    def _add(self, rows: np.ndarray, materials: list[parts.Row]) -> None:
        rows[:, parts.MATERIAL] += self.count
        self.rows.append(rows)
        self.materials.append(np.array(materials))
        self.count += len(materials)


def compose(domain: Domain, seed: int, spec: ImageSpec) -> Scene:
    """Everything about one image except its pixels. Depends on (domain, seed, spec) alone."""
    stage = _Stage(domain, spec.camera)
    if spec.kind == "person":
        walker, random = walk(domain, seed, str(spec.identity), spec.camera, spec.walk, spec.moment)
        window, box = _framed(domain, seed, spec, stage, random, walker)
    elif spec.kind == "junk":
        window, random, walker, box = _junk(domain, seed, stage, spec)
    else:
        window, random, walker, box = _distractor(domain, seed, stage, spec)
    scene = _finish(domain, seed, spec, stage, random, window)
    scene.factors |= {name: getattr(spec, name) for name in ("kind", "identity", "camera", "film", "moment")}
    scene.factors |= {"company": stage.company, "occluder": stage.occluder}
    scene.factors |= (_seen(walker) if box else {}) | _boxed(box, window)
    return scene


def _framed(
    domain: Domain, seed: int, spec: ImageSpec, stage: _Stage, random: Random, walker: Walker
) -> tuple[Window, Window]:
    """The person on the stage, with others and things; the image's box, and the person's."""
    box = stage.person(walker)
    _others(domain, seed, spec, stage, random, walker)
    return _cut(domain, seed, spec, random, box), box


def _seen(walker: Walker) -> dict[str, Any]:
    """The factors of the person and the moment."""
    person, pose = walker.person, walker.pose
    same = ["height", "build", "woman", "skin", "hair", "hair_colour", "hat", "hat_colour", "bag", "bag_colour"]
    return {name: getattr(person, name) for name in (*same, "carried")} | {
        "phase": pose.phase % (2.0 * math.pi),
        "stride": pose.stride,
        "viewpoint": math.degrees(walker.heading - math.atan2(walker.x, walker.z)) % 360.0,
        "distance": math.hypot(walker.x, walker.z),
        "upper": person.upper.cut,
        "upper_colour": person.upper.colour,
        "upper_second": person.upper.second,
        "upper_pattern": person.upper.pattern,
        "lower": person.lower.cut,
        "lower_colour": person.lower.colour,
        "lower_pattern": person.lower.pattern,
        "shoes_colour": person.shoes,
    }


def _boxed(box: Window | None, window: Window) -> dict[str, float]:
    """The factors of the box: its position and size relative to the figure."""
    wide, high = window[2] - window[0], window[3] - window[1]
    aspect = {"box_aspect": wide / high}
    if box is None:
        return aspect
    return aspect | {
        "box_shift_x": 0.5 * (window[0] + window[2] - box[0] - box[2]) / wide,
        "box_shift_y": 0.5 * (window[1] + window[3] - box[1] - box[3]) / high,
        "box_scale": high / (box[3] - box[1]),
    }


def _others(domain: Domain, seed: int, spec: ImageSpec, stage: _Stage, random: Random, walker: Walker) -> None:
    """Company behind or beside the person, and things in front of them."""
    rates, share = domain.rates, domain.variant.occlusion
    if random.random() < rates.company:
        passer = _passer(domain, seed, random)
        x = walker.x + random.choice((-1.0, 1.0)) * between(random, 0.45, 0.8)
        stage.person(replace(passer, x=x, z=walker.z + between(random, 0.5, 2.5)), parts.OTHER)
        stage.company = True
    mark = random.random()
    hides = mark < (rates.occluded if share is None else share)
    if mark < rates.occluded:
        _occluder(domain, seed, stage if hides else None, random, walker)
    elif hides:
        # The image's own stream stays where it would be without the variant.
        own = domain.stream(seed, "occluder", spec.kind, spec.identity, spec.camera, spec.moment)
        _occluder(domain, seed, stage, own, walker)


def _passer(domain: Domain, seed: int, random: Random, camera: int = 1) -> Walker:
    """Somebody else, at a moment of a walk past a camera."""
    return walk(domain, seed, f"passer/{random.randrange(400)}", camera, 0, random.randrange(8))[0]


def _occluder(domain: Domain, seed: int, stage: _Stage | None, random: Random, walker: Walker) -> None:
    """Draw what stands in front of the person, and put it on the stage if there is one."""
    nearer = between(random, 0.7, 1.6)
    z = walker.z - nearer
    x = walker.x * z / walker.z
    what = random.choice(domain.occluders)
    side = random.choice((-1.0, 1.0))
    if what == "person":
        passer = _passer(domain, seed, random)
        other = replace(passer, heading=walker.heading, x=x + side * between(random, 0.38, 0.5), z=z)
        if stage:
            stage.person(other, parts.OTHER)
    else:
        shift = props.REACH[what] * side * between(random, 0.4, 1.0)
        tone = between(random, 0.15, 0.6)
        colour = (tone, tone * between(random, 0.7, 1.0), tone * between(random, 0.6, 1.0))
        thing = Thing(what, x + shift, z, between(random, 60.0, 120.0), 1.0, colour)
        if stage:
            stage.thing(thing)
    if stage:
        stage.occluder = what


def _cut(domain: Domain, seed: int, spec: ImageSpec, random: Random, box: Window) -> Window:
    """The image's box. The image's own stream advances as it does for the domain's own kind of box."""
    variant, rates = domain.variant, domain.rates
    tight = spec.tight if variant.boxes is None else variant.boxes == "tight"
    if spec.tight and tight:
        return _tight(box)
    if spec.tight:
        random = domain.stream(seed, "detector", spec.identity, spec.camera, spec.moment)
    detected = _detected(rates.grow, rates.shift if variant.shift is None else variant.shift, random, box)
    return _tight(box) if tight else detected


def _tight(box: Window) -> Window:
    """The box a person would draw: all of the figure, and never much narrower than high."""
    left, top, right, bottom = box
    high = bottom - top
    wide = max(1.04 * (right - left), 0.35 * high)
    return _window(0.5 * (left + right), 0.5 * (top + bottom), wide, 1.015 * high)


def _detected(grow: tuple[float, float], shift: float, random: Random, box: Window) -> Window:
    """The box a part detector would give: a fixed shape, shifted and scaled."""
    left, top, right, bottom = box
    high = (bottom - top) * between(random, *grow)
    wide = high * between(random, 0.37, 0.44)
    x = 0.5 * (left + right) + spread(random, shift) * wide * 1.5
    y = 0.5 * (top + bottom) + spread(random, shift) * high
    return _window(x, y, wide, high)


def _window(x: float, y: float, wide: float, high: float) -> Window:
    return x - 0.5 * wide, y - 0.5 * high, x + 0.5 * wide, y + 0.5 * high


def _junk(domain: Domain, seed: int, stage: _Stage, spec: ImageSpec) -> tuple[Window, Random, Walker, Window]:
    """A useless box: part of a person, one that is too wide, or several people at once."""
    choice = domain.stream(seed, "junk-who", spec.moment)
    walker, random = walk(domain, seed, f"junk/{choice.randrange(600)}", spec.camera, 0, spec.moment)
    box = stage.person(walker)
    left, top, right, bottom = box
    high, x, y = bottom - top, 0.5 * (left + right), 0.5 * (top + bottom)
    sort = pick(random, (("part", 4.0), ("half", 3.0), ("crowd", 3.0), ("wide", 1.5)))
    wide = 0.45
    if sort == "part":
        high *= between(random, 0.3, 0.55)
        x += spread(random, 0.05) * high
        y += spread(random, 0.25) * high
    elif sort == "wide":
        high *= between(random, 1.6, 2.1)
        x += spread(random, 0.1) * high
    elif sort == "half":
        side = random.choice((-1.0, 1.0))
        x += side * between(random, 0.16, 0.24) * high
        y += random.choice((-1.0, 0.0, 1.0)) * between(random, 0.2, 0.4) * high
    else:
        for number in range(1 + random.randrange(2)):
            other = _passer(domain, seed, random, spec.camera)
            x_other = walker.x + (1.0 if number else -1.0) * between(random, 0.3, 0.5)
            stage.person(replace(other, x=x_other, z=walker.z + between(random, -0.6, 0.9)), parts.OTHER)
        stage.company = True
        high *= between(random, 0.95, 1.2)
        x += spread(random, 0.1) * high
        wide = between(random, 0.42, 0.6)
    return _window(x, y, wide * high, high), random, walker, box


def _distractor(
    domain: Domain, seed: int, stage: _Stage, spec: ImageSpec
) -> tuple[Window, Random, Walker, Window | None]:
    """A false alarm on the background (then no figure's box), or a person who is no query."""
    choice = domain.stream(seed, "distractor-who", spec.moment)
    walker, random = walk(domain, seed, f"distractor/{choice.randrange(600)}", spec.camera, 0, spec.moment)
    if random.random() >= domain.rates.patch:
        window, box = _framed(domain, seed, spec, stage, random, walker)
        return window, random, walker, box
    if random.random() < 0.6:
        thing = random.choice(stage.view.things)
        x, z = thing.x + spread(random, 0.3), thing.z
    else:
        x, z = walker.x * 1.4, walker.z
    wide, y, _ = stage.eye.project(np.array([x, between(random, 0.4, 1.1), z]))
    high = between(random, 0.8, 1.8) / z
    return _window(float(wide), float(y), 0.45 * high, high), random, walker, None


def _finish(domain: Domain, seed: int, spec: ImageSpec, stage: _Stage, random: Random, window: Window) -> Scene:
    view, eye = stage.view, stage.eye
    rows = np.concatenate(stage.rows)
    solids = geometry.Solids(rows)
    kept, packed, pixels = geometry.pack(solids, eye, window)
    left, top, right, bottom = window
    steps = (right - left) / geometry.WIDTH * eye.right, (bottom - top) / geometry.HEIGHT * eye.down
    ray = np.concatenate([eye.ahead + left * eye.right + top * eye.down, *steps])
    light, shade_length, exposure, factors = _light(domain, seed, spec)
    shadows = np.full((CASTERS, 4), 1e4)
    for caster, (x, z, height) in enumerate(stage.feet[:CASTERS]):
        shadows[caster] = (x, z, x + shade_length[0] * height, z + shade_length[1] * height)
    line = math.radians(view.ground_line[1])
    turns = [math.radians(wall.yaw) for wall in view.walls]
    walls = [(math.sin(turn), math.cos(turn), wall.distance) for turn, wall in zip(turns, view.walls, strict=True)]
    # A person far away covers fewer of the sensor's pixels before the box is resized; a fine sensor has a coarseness
    # below 0 to take from that.
    coarse = max(0.0, min(1.0, view.coarse + 0.35 * max(0.0, (right - left) ** -1 * 0.075 - 0.6)))
    look = (*view.gains, view.contrast, view.saturation, view.exposure * exposure, view.blur, coarse, view.noise)
    noise = random.randrange(2**30)
    quality = view.quality[0] + random.randrange(view.quality[1] - view.quality[0] + 1)
    return Scene(
        packed=packed,
        kind=solids.kind[kept],
        material=rows[kept, parts.MATERIAL].astype(np.int64),
        part=rows[kept, parts.PART].astype(np.int64),
        pixels=pixels,
        materials=np.concatenate(stage.materials).astype(np.float32),
        surfaces=_surfaces(domain, spec.camera),
        ray=ray.astype(np.float32),
        place=np.array([view.height, math.sin(line), math.cos(line), view.ground_line[0]], dtype=np.float32),
        walls=np.array(walls, dtype=np.float32).ravel(),
        light=light,
        shadows=shadows.astype(np.float32),
        look=np.array(look, dtype=np.float32),
        seed=noise,
        quality=quality,
        factors=factors | {"quality": quality},
    )


def _light(domain: Domain, seed: int, spec: ImageSpec) -> tuple[np.ndarray, tuple[float, float], float, dict[str, Any]]:
    """Sun and sky of one film of one camera, the shadow of one metre, the exposure, and all this as factors."""
    view = domain.cameras[spec.camera - 1]
    kind = view.lamps or domain.lights[(spec.film - 1) % len(domain.lights)]
    random = domain.stream(seed, "light", spec.camera, spec.film)
    azimuth = math.radians(view.sun + kind.turn + spread(random, 20.0))
    height = math.radians(between(random, *kind.height))
    towards = (math.cos(height) * math.sin(azimuth), math.sin(height), math.cos(height) * math.cos(azimuth))
    strength = 1.0 + spread(random, domain.rates.light)
    sunny = random.random() < view.sun_share
    sun, sky = kind.sunny if sunny else kind.overcast
    warm = between(random, *kind.warm) if sunny else -between(random, *kind.cool)
    bright = (sun * (1 + warm), sun, sun * (1 - warm)), (sky * (1 - 0.4 * warm), sky, sky * (1 + 0.7 * warm))
    light = (*towards, *(part * tint for source in bright for part, tint in zip(source, kind.tint, strict=True)))
    reach = -1.0 / math.tan(height)
    shadow = (reach * math.sin(azimuth), reach * math.cos(azimuth)) if sunny else (0.0, 0.0)
    factors = {
        "time": kind.name,
        "light": strength,
        "sunny": sunny,
        "sun_height": math.degrees(height),
        "sun_azimuth": math.degrees(azimuth) % 360.0,
    }
    return np.array(light, dtype=np.float32), shadow, strength, factors
