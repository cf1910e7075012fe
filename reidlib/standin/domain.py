"""What a domain is: everything that makes one stand-in look different from another, as frozen data.

The values are in `domains/*.toml`, which `catalogue.py` reads; the names there are the names here.
Colours are display values from 0 to 1, lengths are metres, angles are degrees.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

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
    """A flat piece of the background: tiles or panels with joints, tiles that differ, and grain."""

    base: Colour  # of a tile
    line: Colour  # of the joints
    alt: Colour  # of other tiles
    cell: tuple[float, float] = (0.6, 0.6)  # width and height of a tile
    joint: float = 0.02  # width of the line between tiles
    vary: float = 0.05  # how much tiles differ in brightness
    alt_share: float = 0.0  # share of tiles in the colour `alt`
    grain: float = 0.1  # strength of the cloudy noise
    grain_size: float = 0.3
    plinth: float = -1.0  # below this height a wall has the colour `plinth_colour`
    plinth_colour: Colour = (0.3, 0.3, 0.3)
    top: float = 99.0  # above this height it has the colour `top_colour`
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
    """A time of day, or the lamps of a room: a sun without weather or shadows."""

    name: str = "day"
    height: Range = (35.0, 62.0)  # of the sun over the horizon
    turn: float = 0.0  # added to the direction in which a camera has the sun
    sunny: tuple[float, float] = (0.72, 0.62)  # strengths of sun and sky in sunshine
    overcast: tuple[float, float] = (0.38, 0.78)  # and under clouds
    warm: Range = (0.0, 0.04)  # the sun's red over the sky's blue in sunshine
    cool: Range = (0.0, 0.03)  # the sky's blue over the sun's red under clouds
    tint: Colour = (1.0, 1.0, 1.0)  # multiplies red, green and blue of all light


@dataclass(frozen=True)
class Camera:
    """One camera: its place, what it sees, how it renders colours."""

    height: float
    pitch: float  # down from the horizon
    near: float  # people walk between `near` and `far`
    far: float
    spread: float  # at most this share of their distance to the side
    headings: tuple[float, ...]  # 0 is away from the camera, 180 towards it, 90 to the right
    ground: Surface
    far_ground: Surface
    ground_line: tuple[float, float]  # distance of the line where the far ground begins, and its turn
    walls: tuple[Wall, Wall]
    things: tuple[Thing, ...]
    gains: Colour  # of red, green and blue
    contrast: float  # 1 for no change; likewise saturation and exposure
    saturation: float
    exposure: float
    blur: float  # softening by one pixel, 0 to 1
    coarse: float  # softening by two pixels, 0 to 1; below 0 a fine sensor, on which distance costs less
    noise: float  # standard deviation of the sensor's noise; 1 is white
    quality: tuple[int, int]  # JPEG's, lowest and highest
    sun: float  # its direction, to the right of the view
    sun_share: float  # how often it shines
    popularity: float  # relative number of people who pass
    lamps: Light | None = None  # light a camera indoors, at any time of day


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
    """How often, and how strongly, an image is made hard. Shares from 0 to 1; spreads are standard deviations."""

    occluded: float  # share of images with something in front of the person
    company: float  # share with another person
    standing: float  # share of walks without a stride
    shift: float  # of a detected box, as a share of its height and of 1.5 widths
    grow: Range  # height of a detected box over the figure's
    heading_track: float  # of the heading of a walk
    heading_image: float  # of the heading in one image of it
    light: float  # of the light's strength between films, relative
    second_walk: float  # share of (identity, camera) pairs filmed in two walks
    patch: float  # share of distractors that show no person


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
        """Images of the gallery with those that nobody asks for, where a set has any."""
        return self.gallery_images + sum(getattr(self, name, 0) for name in ("junk_images", "distractor_images"))


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
        if self.boxes not in (None, "tight", "detected") and not _SHIFT.fullmatch(str(self.boxes)):
            known = "tight, detected, or shift=0.2 (any share up to 1)"
            raise ReidError(f"boxes {self.boxes!r} are unknown; choose {known}")
        for name in ("occlusion", "resolution", "same_clothes"):
            share = getattr(self, name)
            if share is not None and not (0 <= share <= 1 and (share or name != "resolution")):
                words = f"{name.replace('_', ' ')} {share:g}"
                raise ReidError(f"{words} is not a share from 0 to 1; choose for example 0.5")

    @property
    def shift(self) -> float | None:
        """The standard deviation that "shift=S" asks for."""
        match = _SHIFT.fullmatch(str(self.boxes))
        return float(match[1]) if match else None


_SHIFT = re.compile(r"shift=(0?\.\d+|0|1(?:\.0*)?)")
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
    """One stand-in. Two domains are equal only where they are the same object."""

    name: str
    sizes: SizesT
    cameras: tuple[Camera, ...]
    palette: Palette
    wardrobe: Wardrobe
    rates: Rates
    sequences: int  # films of each camera
    layout: Layout[SizesT]
    lights: tuple[Light, ...] = (Light(),)  # they take turns, film by film
    occluders: tuple[Occluder, ...] = ("bike", "pole", "bike", "person", "box")  # may stand in front of a person
    variant: Variant = Variant()

    def stream(self, seed: int, *purpose: object) -> Random:
        """The random numbers for one purpose, the same on every call.

        All randomness of the renderer comes from here. A stream begins with the name of its domain, so that no two
        domains share a person, a pose or any other draw; the variants of a domain have its streams.
        """
        return Random("/".join(map(str, (self.name, seed, *purpose))))
