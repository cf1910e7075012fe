"""From images' specifications to numbers: who stands where, what the camera sees, the light, the box.

What is drawn for an image is decided in Python, image by image; its geometry is computed for many images at once.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from . import body, geometry, parts, props
from .domain import Camera, Domain, Thing
from .geometry import Window
from .identity import Person, between, draw_person, pick, spread
from .plan import ImageSpec

CASTERS = 3
ALIKE = 8

Array = TypeVar("Array")


@dataclass
class Numbers(Generic[Array]):
    """What the ray caster knows of an image: K primitives, M materials. Real numbers are float32.

    Of several images (`raycast.Batch`): those of `packed`, `materials` and `surfaces` are columns, one after another;
    `kind`, `material`, `part` and `pixels` are joined; of the others the images are the last axis.
    """

    packed: Array  # (K, geometry.PACKED); see `geometry.pack`, also for `pixels`
    pixels: Array  # (K, 4) int32
    kind: Array  # (K,) int64, like material and part
    material: Array
    part: Array
    materials: Array  # (M, 16), see `parts.material`
    surfaces: Array  # (4, 25): ground, far ground, two walls; the last number is the seed of tiles and grain
    ray: Array  # (9,), direction of the window's corner, and its change per column and per row (world)
    place: Array  # (4,), eye height; the line between the two grounds (sine, cosine, distance)
    walls: Array  # (6,), the same three numbers of each wall
    light: Array  # (9,), direction to the sun, its colour, the sky's colour
    shadows: Array  # (CASTERS, 4), feet (x, z) of those who cast a shadow, and the shadow's end
    look: Array  # (9,), gains, contrast, saturation, exposure, blur, coarse, noise


@dataclass
class Scene(Numbers[np.ndarray]):
    """One image as numbers: also the seed of its noise, JPEG's quality, and all factors (see `groundtruth.FACTORS`)."""

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
    """The person behind an identity (or a passer-by) of a domain; the same in every image."""
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
        rows, materials = rows + more, materials + own
    return np.array(rows), np.array(materials)


@functools.lru_cache(maxsize=64)
def _site(domain: Domain, camera: int) -> tuple[geometry.Eye, np.ndarray, np.ndarray]:
    """A camera's pinhole, and `place` and `walls` of its images (see `Numbers`)."""
    view = domain.cameras[camera - 1]
    lines = [view.ground_line, *((wall.distance, wall.yaw) for wall in view.walls)]
    turned = [(math.sin(math.radians(turn)), math.cos(math.radians(turn)), away) for away, turn in lines]
    eye = geometry.Eye.at(view.height, math.radians(view.pitch))
    return eye, np.array([view.height, *turned[0]], np.float32), np.array(turned[1:], np.float32).ravel()


@functools.lru_cache(maxsize=64)
def _surfaces(domain: Domain, seed: int, camera: int) -> np.ndarray:
    """The numbers of the four surfaces that a camera sees, colours first, in the order of `Surface`, and their seed."""
    view = domain.cameras[camera - 1]
    kinds = (view.ground, view.far_ground, *(wall.surface for wall in view.walls))
    ordered = (sorted(vars(kind).values(), key=lambda part: np.size(part) < 3) for kind in kinds)
    random = domain.stream(seed, "surfaces", camera)
    return np.array([np.hstack([*numbers, random.randrange(2**20)]) for numbers in ordered], dtype=np.float32)


@functools.lru_cache(maxsize=4096)
def _path(domain: Domain, seed: int, key: str, camera: int, number: int) -> tuple[float, float, float, float, bool]:
    """A walk past a camera: heading (radians), place (x, z), first phase of the step (share), whether they stand."""
    view, rates = domain.cameras[camera - 1], domain.rates
    path = domain.stream(seed, "walk", key, camera, number)
    heading = math.radians(path.choice(view.headings) + spread(path, rates.heading_track))
    z = between(path, view.near + 0.6, view.far - 0.6)
    x = between(path, -0.7, 0.7) * view.spread * z
    return heading, x, z, path.random(), path.random() < rates.standing


def walk(domain: Domain, seed: int, key: str, camera: int, number: int, moment: int) -> tuple[Walker, Random]:
    """The person `key` at a moment of a walk past a camera, and the random stream of that one image."""
    view = domain.cameras[camera - 1]
    heading, x, z, first_phase, standing = _path(domain, seed, key, camera, number)
    image = domain.stream(seed, "image", key, camera, moment)
    # Along the path and back, so that long walks stay in view.
    along = 0.55 * (abs((moment + 4.0 * first_phase) % 8.0 - 4.0) - 2.0)
    x += math.sin(heading) * along + spread(image, 0.08)
    z += math.cos(heading) * along + spread(image, 0.08)
    z = min(view.far, max(view.near, z))
    phase = 2.0 * math.pi * (first_phase + 0.37 * moment + 0.2 * image.random())
    stride = 0.12 if standing else between(image, 0.85, 1.1)
    pose = body.Pose(phase, stride, spread(image, 0.25), between(image, 0.15, 0.4))
    heading += math.radians(spread(image, domain.rates.heading_image))
    return Walker(person_of(domain, seed, key), pose, heading, x, z), image


class Group(NamedTuple):
    """Rows of one person or thing on a stage: how many, their first material, the part that all show, their place."""

    count: int
    material: int
    part: int = parts.BACKGROUND  # each row's own
    cos: float = 1.0  # of the heading
    sin: float = 0.0
    x: float = 0.0
    z: float = 0.0


class _Stage:
    """Collects the rows and materials of one image, and what is known of it. `random` is the image's own stream.

    First `fill` it, then ask for the window with `framed`, then for the `scene`.
    """

    def __init__(self, domain: Domain, seed: int, spec: ImageSpec) -> None:
        self.domain, self.seed, self.spec = domain, seed, spec
        self.stream = functools.partial(domain.stream, seed)
        self.view: Camera = domain.cameras[spec.camera - 1]
        self.eye, self.place, self.walls = _site(domain, spec.camera)
        self.rows: list[parts.Row] = []
        self.groups: list[Group] = []
        self.materials = [_scenery(domain, spec.camera)[1]]
        self.feet: list[tuple[float, float, float]] = []
        self.company, self.occluder, self.junk = False, "none", ""
        key, number = str(spec.identity), spec.walk
        if spec.kind != "person":
            key, number = f"{spec.kind}/{self.stream(f'{spec.kind}-who', spec.moment).randrange(600)}", 0
        self.walker, self.random = walk(domain, seed, key, spec.camera, number, spec.moment)

    def person(self, walker: Walker, part: int = parts.BACKGROUND) -> None:
        """Put a person on the stage. `part` overrides all part numbers."""
        turn = np.cos(walker.heading), np.sin(walker.heading), walker.x, walker.z
        self.add(body.figure(walker.person, walker.pose), body.materials(walker.person), part, *turn)
        self.feet.append((walker.x, walker.z, walker.person.height))

    def add(self, rows: list[parts.Row], materials: np.ndarray, part: int = parts.BACKGROUND, *place: float) -> None:
        self.groups.append(Group(len(rows), sum(map(len, self.materials)), part, *place))
        self.rows += rows
        self.materials.append(materials)

    def passer(self, random: Random, camera: int = 1) -> Walker:
        """Somebody else, at a moment of a walk past a camera."""
        key = f"passer/{random.randrange(400)}"
        return walk(self.domain, self.seed, key, camera, 0, random.randrange(8))[0]

    def fill(self) -> None:
        """Put on the stage what the image shows besides the fixed things."""
        if self.spec.kind == "distractor" and self.random.random() < self.domain.rates.patch:
            return
        self.person(self.walker)
        if self.spec.kind == "junk":
            self.crowd()
        else:
            self.others()

    def framed(self, box: Window | None) -> Window:
        """The image's box, from that of the figure if there is one."""
        if box is None:
            return self.false_alarm()
        return self.useless(box) if self.spec.kind == "junk" else self.cut(box)

    def others(self) -> None:
        """Company behind or beside the person, and things in front of them."""
        random, walker, rates, share = self.random, self.walker, self.domain.rates, self.domain.variant.occlusion
        if random.random() < rates.company:
            passer = self.passer(random)
            x = walker.x + random.choice((-1.0, 1.0)) * between(random, 0.45, 0.8)
            self.person(replace(passer, x=x, z=walker.z + between(random, 0.5, 2.5)), parts.OTHER)
            self.company = True
        mark = random.random()
        hides = mark < (rates.occluded if share is None else share)
        if mark < rates.occluded:
            self.occlude(random, hides)
        elif hides:
            # The image's own stream stays where it would be without the variant.
            spec = self.spec
            self.occlude(self.stream("occluder", spec.kind, spec.identity, spec.camera, spec.moment), True)

    def occlude(self, random: Random, hides: bool) -> None:
        """Draw what stands in front of the person, and put it on the stage if it `hides` them."""
        z = self.walker.z - between(random, 0.7, 1.6)
        x = self.walker.x * z / self.walker.z
        what = random.choice(self.domain.occluders)
        side = random.choice((-1.0, 1.0))
        if what == "person":
            passer = self.passer(random)
            other = replace(passer, heading=self.walker.heading, x=x + side * between(random, 0.38, 0.5), z=z)
            if hides:
                self.person(other, parts.OTHER)
        else:
            x += props.SHAPES[what]["reach"] * side * between(random, 0.4, 1.0)
            tone = between(random, 0.15, 0.6)
            colour = (tone, tone * between(random, 0.7, 1.0), tone * between(random, 0.6, 1.0))
            thing = Thing(what, x, z, between(random, 60.0, 120.0), 1.0, colour)
            if hides:
                rows, materials = props.build(thing, parts.OCCLUDER, 0)
                self.add(rows, np.array(materials))
        if hides:
            self.occluder = what

    def cut(self, box: Window) -> Window:
        """The box around a figure: as a person draws it, or as a detector gives it.

        The image's own stream advances as it does for the domain's own kind of box.
        """
        spec, variant, rates, random = self.spec, self.domain.variant, self.domain.rates, self.random
        x, y, high = _middle(box)
        tight = spec.tight if variant.boxes is None else variant.boxes == "tight"
        # All of the figure, and never much narrower than high.
        drawn = _window(x, y, max(1.04 * (box[2] - box[0]), 0.35 * high), 1.015 * high)
        if spec.tight and tight:
            return drawn
        if spec.tight:
            random = self.stream("detector", spec.identity, spec.camera, spec.moment)
        # A part detector's: a fixed shape, shifted and scaled.
        shift = rates.shift if variant.shift is None else variant.shift
        high *= between(random, *rates.grow)
        wide = high * between(random, 0.37, 0.44)
        x += spread(random, shift) * wide * 1.5
        y += spread(random, shift) * high
        return drawn if tight else _window(x, y, wide, high)

    def crowd(self) -> None:
        """Junk: draw its sort, and put several people at once on the stage where it is a crowd."""
        random, walker = self.random, self.walker
        self.junk = pick(random, (("part", 4.0), ("half", 3.0), ("crowd", 3.0), ("wide", 1.5)))
        if self.junk == "crowd":
            for side in (-1.0, 1.0)[: 1 + random.randrange(2)]:
                other = self.passer(random, self.spec.camera)
                beside = walker.x + side * between(random, 0.3, 0.5)
                self.person(replace(other, x=beside, z=walker.z + between(random, -0.6, 0.9)), parts.OTHER)
            self.company = True

    def useless(self, box: Window) -> Window:
        """Junk: a box about part of a person, one that is too wide, or one about several people at once."""
        random, sort = self.random, self.junk
        x, y, high = _middle(box)
        if sort == "part":
            high *= between(random, 0.3, 0.55)
            x += spread(random, 0.05) * high
            y += spread(random, 0.25) * high
        elif sort == "half":
            x += random.choice((-1.0, 1.0)) * between(random, 0.16, 0.24) * high
            y += random.choice((-1.0, 0.0, 1.0)) * between(random, 0.2, 0.4) * high
        else:
            high *= between(random, 1.6, 2.1) if sort == "wide" else between(random, 0.95, 1.2)
            x += spread(random, 0.1) * high
        wide = between(random, 0.42, 0.6) if sort == "crowd" else 0.45
        return _window(x, y, wide * high, high)

    def false_alarm(self) -> Window:
        """A box about a piece of the background."""
        random = self.random
        if random.random() < 0.6:
            thing = random.choice(self.view.things)
            x, z = thing.x + spread(random, 0.3), thing.z
        else:
            x, z = self.walker.x * 1.4, self.walker.z
        side, y, _ = self.eye.project(np.array([x, between(random, 0.4, 1.1), z]))
        high = between(random, 0.8, 1.8) / z
        return _window(float(side), float(y), 0.45 * high, high)

    def factors(self, window: Window, box: Window | None) -> dict[str, Any]:
        """What was drawn for the image, the person and the moment, and the box relative to the figure."""
        wide, high = window[2] - window[0], window[3] - window[1]
        known = {name: getattr(self.spec, name) for name in ("kind", "identity", "camera", "film", "moment")}
        known |= {"company": self.company, "occluder": self.occluder, "box_aspect": wide / high}
        if box is None:
            return known
        walker, person, pose = self.walker, self.walker.person, self.walker.pose
        for name in ("upper", "lower"):
            garment = getattr(person, name)
            known |= {name: garment.cut, f"{name}_colour": garment.colour, f"{name}_pattern": garment.pattern}
        same = "height build woman skin hair hair_colour hat hat_colour bag bag_colour carried"
        known |= {name: getattr(person, name) for name in same.split()}
        return known | {
            "upper_second": person.upper.second,
            "shoes_colour": person.shoes,
            "phase": pose.phase % (2.0 * math.pi),
            "stride": pose.stride,
            "viewpoint": math.degrees(walker.heading - math.atan2(walker.x, walker.z)) % 360.0,
            "distance": math.hypot(walker.x, walker.z),
            "box_shift_x": 0.5 * (window[0] + window[2] - box[0] - box[2]) / wide,
            "box_shift_y": 0.5 * (window[1] + window[3] - box[1] - box[3]) / high,
            "box_scale": high / (box[3] - box[1]),
        }

    def scene(self, window: Window, box: Window | None, **seen: np.ndarray) -> Scene:
        """The scene, from the image's box, the figure's, and what the camera has `seen` of the stage."""
        view, spec, (left, _, right, _) = self.view, self.spec, window
        light, (shade_x, shade_z), factors = _light(self.domain, self.seed, spec.camera, spec.film)
        shadows = [(x, z, x + shade_x * height, z + shade_z * height) for x, z, height in self.feet[:CASTERS]]
        shadows += [(1e4, 1e4, 1e4, 1e4)] * (CASTERS - len(shadows))
        # A person far away covers fewer of the sensor's pixels before the box is resized; a fine sensor has a
        # coarseness below 0 to take from that.
        coarse = max(0.0, min(1.0, view.coarse + 0.35 * max(0.0, (right - left) ** -1 * 0.075 - 0.6)))
        exposure = view.exposure * factors["light"]
        look = (*view.gains, view.contrast, view.saturation, exposure, view.blur, coarse, view.noise)
        noise = self.random.randrange(2**30)
        quality = view.quality[0] + self.random.randrange(view.quality[1] - view.quality[0] + 1)
        return Scene(
            **seen,
            materials=np.concatenate(self.materials).astype(np.float32),
            surfaces=_surfaces(self.domain, self.seed, spec.camera),
            place=self.place,
            walls=self.walls,
            light=light,
            shadows=np.array(shadows, dtype=np.float32),
            look=np.array(look, dtype=np.float32),
            seed=noise,
            quality=quality,
            factors=self.factors(window, box) | factors | {"quality": quality},
        )


@functools.lru_cache(maxsize=1024)
def _light(domain: Domain, seed: int, camera: int, film: int) -> tuple[np.ndarray, tuple[float, float], dict[str, Any]]:
    """Sun and sky of one film of one camera, the shadow of one metre, and all this as factors."""
    view = domain.cameras[camera - 1]
    kind = view.lamps or domain.lights[(film - 1) % len(domain.lights)]
    random = domain.stream(seed, "light", camera, film)
    azimuth = math.radians(view.sun + kind.turn + spread(random, 20.0))
    height = math.radians(between(random, *kind.height))
    towards = (math.cos(height) * math.sin(azimuth), math.sin(height), math.cos(height) * math.cos(azimuth))
    strength = 1.0 + spread(random, domain.rates.light)
    sunny = random.random() < view.sun_share
    sun, sky = kind.sunny if sunny else kind.overcast
    warm = between(random, *kind.warm) if sunny else -between(random, *kind.cool)
    bright = (sun * (1 + warm), sun, sun * (1 - warm)), (sky * (1 - 0.4 * warm), sky, sky * (1 + 0.7 * warm))
    light = (*towards, *(part * tint for source in bright for part, tint in zip(source, kind.tint, strict=True)))
    reach = -1.0 / math.tan(height) if sunny else 0.0
    factors = {"time": kind.name, "light": strength, "sunny": sunny, "sun_height": math.degrees(height)}
    factors["sun_azimuth"] = math.degrees(azimuth) % 360.0
    return np.array(light, np.float32), (reach * math.sin(azimuth), reach * math.cos(azimuth)), factors


def compose(domain: Domain, seed: int, spec: ImageSpec) -> Scene:
    """Everything about one image except its pixels. Depends on (domain, seed, spec) alone."""
    return compose_all(domain, seed, [spec])[0]


def compose_all(domain: Domain, seed: int, specs: Sequence[ImageSpec]) -> list[Scene]:
    """Several images; each scene is what `compose` gives."""
    stages = [_Stage(domain, seed, spec) for spec in specs]
    for stage in stages:
        stage.fill()
    rows, image = _gathered(stages)
    eyes = geometry.Eye(*np.stack([stage.eye for stage in stages], axis=-1))
    solids, eye = geometry.Solids(rows), eyes.chosen(image)
    boxes, nearest = geometry.extents(solids, eye)
    figures = _figures(rows[:, parts.PART], boxes, image)
    windows = [stage.framed(figures.get(number)) for number, stage in enumerate(stages)]
    window = np.array(windows).T
    kept, packed, pixels = geometry.pack(solids, eye, boxes, nearest, window[:, image])
    kind, rays = solids.kind[kept], np.concatenate(eyes.rays(window)).astype(np.float32)
    material, part = rows[kept][:, [parts.MATERIAL, parts.PART]].astype(np.int64).T
    ends = np.searchsorted(image[kept], np.arange(len(stages) + 1)).tolist()
    scenes = []
    for number, (stage, (begin, end)) in enumerate(zip(stages, itertools.pairwise(ends), strict=True)):
        own = slice(begin, end)
        seen = dict(packed=packed[own], pixels=pixels[own], kind=kind[own], material=material[own], part=part[own])
        scenes.append(stage.scene(windows[number], figures.get(number), ray=rays[:, number], **seen))
    return scenes


def _gathered(stages: list[_Stage]) -> tuple[np.ndarray, np.ndarray]:
    """Rows (P, 18) of all that stands on the stages, in the world, and the number of each row's stage (P,)."""
    fixed = [_scenery(stage.domain, stage.spec.camera)[0] for stage in stages]
    flat = itertools.chain.from_iterable(itertools.chain.from_iterable(stage.rows for stage in stages))
    moved = np.fromiter(flat, np.float64).reshape(-1, parts.COLUMNS)
    groups = [(number, *group) for number, stage in enumerate(stages) for group in stage.groups]
    each = np.array(groups).reshape(-1, 1 + len(Group._fields))
    number, _, first, part, *turn = np.repeat(each, each[:, 1].astype(int), axis=0).T
    geometry.place(moved, *turn)
    moved[:, parts.MATERIAL] += first
    moved[:, parts.PART] = np.where(part == parts.BACKGROUND, moved[:, parts.PART], part)
    image = np.concatenate([np.repeat(np.arange(len(stages)), [len(rows) for rows in fixed]), number.astype(np.int64)])
    order = np.argsort(image, kind="stable")
    return np.concatenate([*fixed, moved])[order], image[order]


def _figures(part: np.ndarray, boxes: np.ndarray, image: np.ndarray) -> dict[int, Window]:
    """The boxes of the figures, without their bags, by the number of the image, from all primitives' boxes (4, P)."""
    own = np.flatnonzero((part >= parts.FIGURE[0]) & (part <= parts.FIGURE[-1]) & (part != parts.BAG))
    numbers, begins = np.unique(image[own], return_index=True)
    least, most = (reduce.reduceat(boxes[:, own], begins, axis=1) for reduce in (np.minimum, np.maximum))
    return dict(zip(numbers.tolist(), zip(*least[:2].tolist(), *most[2:].tolist(), strict=True), strict=True))


def _window(x: float, y: float, wide: float, high: float) -> Window:
    return x - 0.5 * wide, y - 0.5 * high, x + 0.5 * wide, y + 0.5 * high


def _middle(box: Window) -> tuple[float, float, float]:
    """The middle of a box (x, y), and its height."""
    left, top, right, bottom = box
    return 0.5 * (left + right), 0.5 * (top + bottom), bottom - top
