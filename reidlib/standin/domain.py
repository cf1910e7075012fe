"""What a domain is: everything that makes one stand-in look different from another, as frozen data.

The values are in `domains/*.toml`, which `catalogue.py` reads; the names there are the names here.
Colours are display values from 0 to 1, lengths are metres, angles are degrees.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from reidlib.spec import ReidError

if TYPE_CHECKING:
    from .plan import ImageSpec

Colour = tuple[float, float, float]
Range = tuple[float, float]
T = TypeVar("T")
Weighted = tuple[tuple[T, float], ...]
"""What is drawn, and how often."""

What = Literal["box", "bin", "pole", "bike", "car", "tree", "bare", "bench", "pillar", "rail"]
Occluder = Literal["bike", "pole", "box", "bench", "rail", "person"]
Pattern = Literal["plain", "stripes", "vertical", "checks", "dots", "print", "halves", "diagonal", "side"]
Hair = Literal["short", "bald", "long", "bun", "ponytail", "bob"]


@dataclass(frozen=True)
class Surface:
    """A flat piece of the background: tiles or panels with joints, tiles that differ, and grain.

    `cell` is the width and height of a tile; `joint` the width of the line between tiles; `vary` how much tiles differ
    in brightness; `alt_share` the share of tiles in the colour `alt`; `grain` and `grain_size` the strength and the
    size of the cloudy noise; below `plinth` (walls only) the colour is `plinth_colour`, above `top` it is `top_colour`.
    """

    base: Colour
    line: Colour
    alt: Colour
    cell: tuple[float, float] = (0.6, 0.6)
    joint: float = 0.02
    vary: float = 0.05
    alt_share: float = 0.0
    grain: float = 0.1
    grain_size: float = 0.3
    plinth: float = -1.0
    plinth_colour: Colour = (0.3, 0.3, 0.3)
    top: float = 99.0
    top_colour: Colour = (0.8, 0.85, 0.9)


@dataclass(frozen=True)
class Wall:
    """A vertical plane: it passes `distance` metres in front of the camera's foot, turned by `yaw` degrees."""

    distance: float
    yaw: float
    surface: Surface


@dataclass(frozen=True)
class Thing:
    """A fixed object: what it is, where it stands (x to the right, z ahead), its yaw, its size and its colour."""

    what: What
    x: float
    z: float
    yaw: float = 0.0
    size: float = 1.0
    colour: Colour = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Light:
    """A time of day, or the lamps of a room.

    `height` is the range of the sun's height over the horizon; `turn` is added to the direction in which a camera has
    the sun; `sunny` and `overcast` are the strengths of sun and sky in either weather; `warm` and `cool` the ranges of
    the sun's red over the sky's blue, in sun and under clouds; `tint` multiplies red, green and blue of all light.
    Lamps are a sun without weather or shadows.
    """

    name: str = "day"
    height: Range = (35.0, 62.0)
    turn: float = 0.0
    sunny: tuple[float, float] = (0.72, 0.62)
    overcast: tuple[float, float] = (0.38, 0.78)
    warm: Range = (0.0, 0.04)
    cool: Range = (0.0, 0.03)
    tint: Colour = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Camera:
    """One camera: its place, what it sees, how it renders colours.

    `height` and `pitch` place it; people walk between `near` and `far` metres, at most `spread` times their distance
    to the side, in the directions `headings` (0 is away from the camera, 180 towards it, 90 to the right).
    `gains` multiply red, green and blue; `contrast` and `saturation` are 1 for no change; `blur` and `coarse` (0 to 1)
    soften by one and by two pixels (a `coarse` below 0 is a fine sensor, on which distance costs less); `noise` is the
    standard deviation of the sensor's noise; `quality` is the range of JPEG's. `sun` is the direction of the sun,
    `sun_share` how often it shines, `popularity` the relative number of people who pass. `lamps` light a camera
    indoors, at any time of day.
    """

    height: float
    pitch: float
    near: float
    far: float
    spread: float
    headings: tuple[float, ...]
    ground: Surface
    far_ground: Surface
    ground_line: tuple[float, float]
    walls: tuple[Wall, Wall]
    things: tuple[Thing, ...]
    gains: Colour
    contrast: float
    saturation: float
    exposure: float
    blur: float
    coarse: float
    noise: float
    quality: tuple[int, int]
    sun: float
    sun_share: float
    popularity: float
    lamps: Light | None = None


@dataclass(frozen=True)
class Palette:
    """Named colours, and how often each garment has them; `jitter` is the spread about a colour."""

    colours: tuple[tuple[str, Colour], ...]
    upper: Weighted[str]
    lower: Weighted[str]
    shoes: Weighted[str]
    bags: Weighted[str]
    hats: Weighted[str]
    hair: Weighted[Colour]
    skin: Weighted[Colour]
    jitter: float


@dataclass(frozen=True)
class Wardrobe:
    """How often people wear each cut, pattern and thing."""

    upper: Weighted[Literal["tee", "sleeveless", "long", "jacket", "hoodie", "coat", "polo"]]
    upper_pattern: Weighted[Pattern]
    lower_man: Weighted[Literal["trousers", "shorts", "wide"]]
    lower_woman: Weighted[Literal["trousers", "shorts", "wide", "skirt", "dress", "tights"]]
    lower_pattern: Weighted[Pattern]
    hair_man: Weighted[Hair]
    hair_woman: Weighted[Hair]
    hat: Weighted[Literal["none", "cap", "beanie", "sunhat"]]
    bag: Weighted[Literal["none", "backpack", "shoulder", "handbag"]]
    carried: Weighted[Literal["none", "plastic", "books", "bottle", "umbrella"]]


@dataclass(frozen=True)
class Rates:
    """How often, and how strongly, an image is made hard.

    `occluded`: something stands in front of the person; `company`: another person in the image; `standing`: no stride;
    `shift` and `grow`: the detector's error as a share of the box (standard deviation of the shift; range of the
    growth); `heading_track` and `heading_image`: standard deviations in degrees of the heading of a walk and of one
    image of it; `light`: relative spread of the light's strength between films; `second_walk`: share of
    (identity, camera) pairs filmed in two walks; `patch`: share of distractors that show no person.
    """

    occluded: float
    company: float
    standing: float
    shift: float
    grow: Range
    heading_track: float
    heading_image: float
    light: float
    second_walk: float
    patch: float


@dataclass(frozen=True)
class Sizes:
    """Numbers at scale 1: identities and images of each split, and the (identity, camera) pairs of the images."""

    train_identities: int
    train_images: int
    train_pairs: int
    test_identities: int
    query_images: int
    gallery_images: int

    @property
    def whole_gallery(self) -> int:
        """Images of the gallery with those that nobody asks for."""
        return self.gallery_images


@dataclass(frozen=True)
class Variant:
    """One factor of a stand-in changed on purpose, everything else left as it is; None is the domain's own.

    boxes         "tight": every box as a person would draw it. "detected": as a detector gives it. "shift=S": the same,
                  with a shift of standard deviation S (a share of the box's height, and of 1.5 widths)
    occlusion     share of images with something in front of the person, 0 to 1; what a lower share occludes stays so
    resolution    width and height of the images as a share of 64 x 128, above 0 to 1
    same_clothes  share of identities that wear, from neck to shoes, what a few others of their group wear, 0 to 1; what
                  they carry, their bodies, heads and ways of walking stay their own
    """

    boxes: str | None = None
    occlusion: float | None = None
    resolution: float | None = None
    same_clothes: float | None = None

    def __post_init__(self) -> None:
        _ = self.shift  # an error where `boxes` is unknown
        for name in ("occlusion", "resolution", "same_clothes"):
            share = getattr(self, name)
            if share is not None and not (0 <= share <= 1 and (share or name != "resolution")):
                words = f"{name.replace('_', ' ')} {share:g}"
                raise ReidError(f"{words} is not a share from 0 to 1; choose for example 0.5")

    @property
    def shift(self) -> float | None:
        """The standard deviation that "shift=S" asks for."""
        if self.boxes in (None, "tight", "detected"):
            return None
        match = re.fullmatch(r"shift=(0?\.\d+|0|1(?:\.0*)?)", str(self.boxes))
        if match is None:
            known = "tight, detected, or shift=0.2 (any share up to 1)"
            raise ReidError(f"boxes {self.boxes!r} are unknown; choose {known}")
        return float(match[1])


SizesT = TypeVar("SizesT", bound=Sizes)


@dataclass(frozen=True)
class Layout(Generic[SizesT]):
    """How a data set is arranged on disk: `sizes` is the class of its numbers, `folders` hold the images.

    `images(domain, scale, seed)` lists every image; `files(domain, scale, seed)` gives the content of the other files
    in the root, whose `names` are these.
    """

    sizes: type[SizesT]
    folders: tuple[str, ...]
    images: Callable[[Domain[SizesT], float, int], list[ImageSpec]]
    names: tuple[str, ...] = ()
    files: Callable[[Domain[SizesT], float, int], dict[str, bytes]] = lambda domain, scale, seed: {}


@dataclass(frozen=True, eq=False)
class Domain(Generic[SizesT]):
    """One stand-in: its name, sizes, cameras, clothes, difficulty, and how it is arranged on disk.

    `sequences` is the number of films of each camera; the `lights` take turns, film by film. `occluders` are the things
    that may stand in front of a person. Two domains are equal only where they are the same object.
    """

    name: str
    sizes: SizesT
    cameras: tuple[Camera, ...]
    palette: Palette
    wardrobe: Wardrobe
    rates: Rates
    sequences: int
    layout: Layout[SizesT]
    lights: tuple[Light, ...] = (Light(),)
    occluders: tuple[Occluder, ...] = ("bike", "pole", "bike", "person", "box")
    variant: Variant = Variant()

    def stream(self, seed: int, *purpose: object) -> Random:
        """The random numbers for one purpose, the same on every call.

        All randomness of the renderer comes from here. A stream begins with the name of its domain, so that no two
        domains share a person, a pose or any other draw; the variants of a domain have its streams.
        """
        return Random("/".join(map(str, (self.name, seed, *purpose))))


def parameters(value: Any) -> Any:
    """A domain as plain lists and dictionaries, for its digest: everything but its layout."""
    if is_dataclass(value):
        return {f.name: parameters(getattr(value, f.name)) for f in fields(value) if f.name != "layout"}
    return [parameters(part) for part in value] if isinstance(value, tuple) else value
