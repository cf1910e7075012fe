"""The words of a domain: everything that makes one stand-in look different from another, as frozen data.

A new data set is one more file with one `Domain` in it (see `market1501.py`); no other file changes.
Colours are display values from 0 to 1, lengths are metres, angles are degrees.
"""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[float, float, float]
Weighted = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Surface:
    """A flat piece of the background: tiles or panels with joints, cells that differ, and grain.

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
    """A fixed object of the place: what it is, where it stands (x, z), how it is turned, its size and its colour."""

    what: str
    x: float
    z: float
    yaw: float = 0.0
    size: float = 1.0
    colour: Colour = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Camera:
    """One camera: where it hangs, what it sees, how it renders colours.

    `height` and `pitch` place it; people walk between `near` and `far` metres, at most `spread` times their distance
    to the side, heading `headings` (0 walks away from the camera, 180 towards it, 90 to the right).
    `gains` multiply red, green and blue; `contrast` and `saturation` are 1 for no change; `blur` and `coarse` (0 to 1)
    soften by one and by two pixels; `noise` is the standard deviation of the sensor's noise; `quality` is JPEG's.
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


@dataclass(frozen=True)
class Palette:
    """Named colours, and how often each garment has them."""

    colours: tuple[tuple[str, Colour], ...]
    upper: Weighted
    lower: Weighted
    shoes: Weighted
    bags: Weighted
    hats: Weighted
    hair: tuple[tuple[Colour, float], ...]
    skin: tuple[tuple[Colour, float], ...]
    jitter: float


@dataclass(frozen=True)
class Wardrobe:
    """How often people wear each cut, pattern and thing."""

    upper: Weighted
    upper_pattern: Weighted
    lower_man: Weighted
    lower_woman: Weighted
    lower_pattern: Weighted
    hair_man: Weighted
    hair_woman: Weighted
    hat: Weighted
    bag: Weighted
    carried: Weighted


@dataclass(frozen=True)
class Rates:
    """How often, and how strongly, an image is made hard.

    `occluded`: something stands before the person; `company`: another person in the picture; `standing`: no stride;
    `shift` and `grow`: the detector's error as a share of the box (standard deviation of the shift; range of the
    growth); `heading_track` and `heading_image`: standard deviations in degrees of the heading of a walk and of one
    image of it; `light`: relative spread of the light's strength between sequences; `second_walk`: share of
    (identity, camera) pairs filmed in two walks; `patch`: share of distractors that show no person at all.
    """

    occluded: float
    company: float
    standing: float
    shift: float
    grow: tuple[float, float]
    heading_track: float
    heading_image: float
    light: float
    second_walk: float
    patch: float


@dataclass(frozen=True)
class Sizes:
    """What scale 1 holds: identities and images a split, and (identity, camera) pairs."""

    train_identities: int
    train_images: int
    train_pairs: int
    test_identities: int
    query_images: int
    gallery_images: int
    junk_images: int
    distractor_images: int
    tight_images: int


@dataclass(frozen=True)
class Domain:
    """One stand-in: its name, sizes, cameras, clothes and difficulty. `sequences` is the number of films a camera."""

    name: str
    sizes: Sizes
    cameras: tuple[Camera, ...]
    palette: Palette
    wardrobe: Wardrobe
    rates: Rates
    sequences: int
