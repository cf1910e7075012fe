"""The stand-in for CUHK03: covered walkways of a campus in mild weather, five pairs of cameras, two views a person.

The same moments are cut twice: by hand (`labeled`) and by a detector (`detected`), which misses a few.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from scipy.io import savemat

from .domain import Camera, Domain, Layout, Light, Palette, Rates, Sizes, Surface, Thing, Wall, Wardrobe
from .plan import Pair, Shot, apportion, moment_of, scaled

LABELED, DETECTED = "labeled", "detected"
TRAIN, QUERY, TEST = "bounding_box_train", "query", "bounding_box_test"
TESTSETS = "testsets.mat"
MOST_A_VIEW = 5
CLASSIC_PAIRS = 3


@dataclass(frozen=True)
class CuhkSizes(Sizes):
    """`persons` each pair of cameras saw; how many moments of train and gallery have no box of one kind or the other.

    `classic_sets` test sets of the classic protocol hold `classic_test` persons each.
    """

    persons: tuple[int, ...]
    train_undetected: int
    gallery_unlabeled: int
    classic_sets: int
    classic_test: int


def persons(domain: Domain, scale: float) -> list[int]:
    """How many persons each pair of cameras saw; they are numbered pair after pair."""
    sizes = domain.sizes
    total = scaled(sizes.train_identities, scale, 8) + scaled(sizes.test_identities, scale, 4)
    # At scale 1 the numbers themselves: `apportion` gives one person each, then the rest by these weights.
    return apportion([many - 1 for many in sizes.persons], total)


def shots(domain: Domain, scale: float, seed: int) -> list[Shot]:
    """The pictures of all six folders: five moments a view, or a few less."""
    sizes, random = domain.sizes, Random(f"{seed}/plan")
    cameras = [(2 * pair + 1, 2 * pair + 2) for pair, many in enumerate(persons(domain, scale)) for _ in range(many)]
    identities = list(range(1, len(cameras) + 1))
    random.shuffle(identities)
    many = scaled(sizes.train_identities, scale, 8)
    train, test = (
        [(identity, camera) for identity in sorted(part) for camera in cameras[identity - 1]]
        for part in (identities[:many], identities[many:])
    )
    known = _moments(random, train, 0, MOST_A_VIEW, scaled(sizes.train_images, scale))
    # The first moment of a test view is the query.
    gallery = _moments(random, test, 1, MOST_A_VIEW - 1, scaled(sizes.gallery_images, scale))
    unlabeled = _some(random, gallery, scaled(sizes.gallery_unlabeled, scale))
    undetected = _some(random, known, scaled(sizes.train_undetected, scale))
    return [
        _shot(domain, seed, pair, moment, folder, boxes)
        for boxes, without in ((LABELED, unlabeled), (DETECTED, undetected))
        for folder, moments in ((TRAIN, known), (QUERY, [(pair, 0) for pair in test]), (TEST, gallery))
        for pair, moment in moments
        if (pair, moment) not in without
    ]


def _moments(random: Random, views: list[Pair], first: int, most: int, total: int) -> list[tuple[Pair, int]]:
    """Moments of all views, `total` of them if they can be so many: `most` a view, or a few less, but two at least."""
    shares = dict.fromkeys(views, most)
    spare = [view for view in views for _ in range(most - 2)]
    for view in random.sample(spare, min(len(spare), max(0, most * len(views) - total))):
        shares[view] -= 1
    return [(view, first + moment) for view, share in shares.items() for moment in range(share)]


def _some(random: Random, moments: list[tuple[Pair, int]], many: int) -> set[tuple[Pair, int]]:
    """A few moments, never the first two of a view."""
    late = [(view, moment) for view, moment in moments if moment > 1]
    return set(random.sample(late, min(len(late), many)))


def _shot(domain: Domain, seed: int, pair: Pair, moment: int, folder: str, boxes: str) -> Shot:
    identity, camera = pair
    when = moment_of(domain, seed, pair, moment)
    name = f"{identity:04d}_c{(camera - 1) % 2 + 1}_{moment + 1}.jpg"
    return Shot(f"{boxes}/{folder}", name, "person", identity, camera, moment, when.walk, when.film, boxes == LABELED)


def files(domain: Domain, scale: float, seed: int) -> dict[str, bytes]:
    """The classic protocol's test sets: rows (pair, person), of the first three pairs; and the persons of each pair."""
    sizes, many = domain.sizes, persons(domain, scale)
    everyone = [(pair + 1, person + 1) for pair in range(CLASSIC_PAIRS) for person in range(many[pair])]
    # Half the people at most, so that there is something left to train on at any scale.
    size = min(scaled(sizes.classic_test, scale, 2), len(everyone) // 2)
    sets = np.empty((sizes.classic_sets, 1), dtype=object)
    for number in range(sizes.classic_sets):
        random = Random(f"{seed}/classic/{number}")
        sets[number, 0] = np.array(sorted(random.sample(everyone, size)), dtype=np.float64)
    content = io.BytesIO()
    savemat(content, {"testsets": sets, "persons": np.array([many], dtype=np.float64)})
    # The file begins with 116 bytes of free text, in which scipy writes the time of day: the same set, the same bytes.
    return {TESTSETS: b"MATLAB 5.0 MAT-file".ljust(116) + content.getvalue()[116:]}


TILES = Surface(
    base=(0.62, 0.60, 0.58),
    line=(0.48, 0.46, 0.45),
    alt=(0.55, 0.50, 0.48),
    cell=(0.30, 0.30),
    joint=0.012,
    vary=0.05,
    alt_share=0.3,
    grain=0.07,
    grain_size=1.2,
)
PINK_TILES = Surface(
    base=(0.60, 0.52, 0.50),
    line=(0.52, 0.46, 0.45),
    alt=(0.52, 0.45, 0.44),
    cell=(0.40, 0.40),
    joint=0.015,
    vary=0.05,
    alt_share=0.4,
    grain=0.07,
    grain_size=1.0,
)
WET_CONCRETE = Surface(
    base=(0.48, 0.51, 0.53),
    line=(0.40, 0.43, 0.45),
    alt=(0.45, 0.48, 0.50),
    cell=(2.2, 2.2),
    joint=0.03,
    vary=0.04,
    alt_share=0.3,
    grain=0.16,
    grain_size=0.9,
)
PALE_FLOOR = Surface(
    base=(0.72, 0.73, 0.72),
    line=(0.60, 0.61, 0.61),
    alt=(0.68, 0.69, 0.69),
    cell=(0.60, 0.60),
    joint=0.012,
    vary=0.03,
    alt_share=0.2,
    grain=0.06,
    grain_size=1.4,
)
PLASTER = Surface(
    base=(0.70, 0.71, 0.69),
    line=(0.60, 0.61, 0.60),
    alt=(0.66, 0.67, 0.66),
    cell=(2.4, 1.6),
    joint=0.02,
    vary=0.03,
    alt_share=0.2,
    grain=0.10,
    grain_size=1.5,
    plinth=1.1,
    plinth_colour=(0.48, 0.55, 0.55),
)
MOSAIC = Surface(
    base=(0.60, 0.65, 0.66),
    line=(0.72, 0.74, 0.74),
    alt=(0.52, 0.59, 0.62),
    cell=(0.20, 0.20),
    joint=0.02,
    vary=0.08,
    alt_share=0.35,
    grain=0.08,
    grain_size=0.8,
    plinth=0.3,
    plinth_colour=(0.45, 0.45, 0.45),
)
TROPIC = Surface(
    base=(0.25, 0.33, 0.24),
    line=(0.18, 0.25, 0.18),
    alt=(0.33, 0.42, 0.28),
    cell=(0.20, 0.26),
    joint=0.02,
    vary=0.26,
    alt_share=0.35,
    grain=0.40,
    grain_size=0.35,
    plinth=0.7,
    plinth_colour=(0.60, 0.60, 0.57),
    top=3.0,
    top_colour=(0.80, 0.83, 0.85),
)
WINDOWS = Surface(
    base=(0.42, 0.49, 0.52),
    line=(0.72, 0.74, 0.73),
    alt=(0.55, 0.62, 0.64),
    cell=(0.9, 1.3),
    joint=0.08,
    vary=0.12,
    alt_share=0.4,
    grain=0.18,
    grain_size=0.6,
    plinth=0.9,
    plinth_colour=(0.66, 0.66, 0.64),
)
NOTICES = Surface(
    base=(0.66, 0.62, 0.53),
    line=(0.72, 0.71, 0.68),
    alt=(0.58, 0.44, 0.42),
    cell=(0.45, 0.60),
    joint=0.06,
    vary=0.22,
    alt_share=0.3,
    grain=0.16,
    grain_size=0.2,
    plinth=0.9,
    plinth_colour=(0.60, 0.58, 0.55),
    top=2.1,
    top_colour=(0.70, 0.70, 0.68),
)

STEEL, STONE, GREEN = (0.62, 0.64, 0.65), (0.66, 0.66, 0.63), (0.27, 0.38, 0.27)
SHADE = Light("day", (45.0, 70.0), sunny=(0.50, 0.70), overcast=(0.22, 0.86), warm=(0.0, 0.03), cool=(0.0, 0.04))

ONE = Camera(  # 1: people come up the walkway
    height=2.6,
    pitch=10.0,
    near=4.0,
    far=7.0,
    spread=0.17,
    headings=(180.0, 165.0, 195.0),
    ground=TILES,
    far_ground=TILES,
    ground_line=(20.0, 0.0),
    walls=(Wall(15.0, -4.0, TROPIC), Wall(5.5, 62.0, PLASTER)),
    things=(
        Thing("pillar", -2.0, 8.2, 0, 0.9, STONE),
        Thing("rail", 1.9, 8.4, 80, 1.0, STEEL),
    ),
    gains=(0.96, 1.00, 1.05),
    contrast=0.90,
    saturation=0.84,
    exposure=1.08,
    blur=0.9,
    coarse=0.10,
    noise=0.009,
    quality=(84, 93),
    sun=-40.0,
    sun_share=0.25,
    popularity=1.0,
)
OTHER = replace(  # 2: the same people from the side, before the wall
    ONE,
    height=2.2,
    pitch=7.0,
    near=4.5,
    far=7.0,
    headings=(90.0, 75.0, 105.0),
    ground_line=(6.6, 3.0),
    far_ground=WET_CONCRETE,
    walls=(Wall(8.6, 3.0, PLASTER), Wall(16.0, -52.0, TROPIC)),
    things=(Thing("pillar", 1.4, 8.0, 0, 0.9, STONE), Thing("bin", -1.6, 7.9, colour=(0.50, 0.40, 0.32))),
    gains=(1.06, 1.00, 0.92),
    contrast=0.98,
    saturation=0.92,
    exposure=0.92,
    blur=0.7,
    coarse=0.0,
    noise=0.012,
    sun=130.0,
    sun_share=0.15,
)
CAMERAS = (
    ONE,
    OTHER,
    replace(  # 3: the stairs' landing
        ONE,
        height=3.1,
        pitch=14.0,
        near=4.5,
        far=7.5,
        headings=(0.0, 15.0, 345.0),
        ground=PINK_TILES,
        far_ground=TILES,
        ground_line=(8.2, -12.0),
        walls=(Wall(12.0, -10.0, MOSAIC), Wall(9.0, 55.0, WINDOWS)),
        things=(Thing("rail", -1.7, 8.6, 70, 1.0, STEEL), Thing("tree", 2.6, 10.5, 0, 0.8, GREEN)),
        gains=(1.00, 1.01, 0.99),
        exposure=1.02,
    ),
    replace(  # 4: and its other side
        OTHER,
        headings=(270.0, 285.0, 255.0),
        ground=PINK_TILES,
        far_ground=PINK_TILES,
        walls=(Wall(9.0, -6.0, NOTICES), Wall(12.0, 48.0, WINDOWS)),
        things=(Thing("box", -1.2, 8.2, 0, 0.9, (0.50, 0.48, 0.44)), Thing("pillar", 1.7, 8.3, 0, 0.8, STONE)),
        gains=(0.95, 1.00, 1.04),
        exposure=0.84,
        saturation=0.80,
        coarse=0.25,
    ),
    replace(  # 5: the lift lobby
        ONE,
        near=3.8,
        far=6.0,
        headings=(225.0, 210.0, 240.0),
        ground=PALE_FLOOR,
        far_ground=PALE_FLOOR,
        walls=(Wall(8.6, 10.0, WINDOWS), Wall(9.0, -50.0, MOSAIC)),
        things=(Thing("pillar", 1.5, 7.4, 5, 1.0, STONE), Thing("bin", -1.4, 7.2, colour=STEEL)),
        gains=(0.98, 1.02, 0.98),
        exposure=1.02,
        contrast=0.86,
        saturation=0.76,
        sun_share=0.0,
    ),
    replace(OTHER, headings=(135.0, 120.0, 150.0), ground=PALE_FLOOR, walls=(Wall(8.8, 0.0, MOSAIC), OTHER.walls[1])),
    replace(ONE, ground=WET_CONCRETE, headings=(150.0, 180.0, 210.0), walls=(Wall(13.0, 6.0, WINDOWS), ONE.walls[1])),
    replace(OTHER, headings=(60.0, 90.0, 45.0), ground=WET_CONCRETE, gains=(1.02, 1.01, 0.96), exposure=0.98),
    replace(ONE, ground=PINK_TILES, headings=(0.0, 30.0, 330.0), exposure=0.96, gains=(1.03, 1.00, 0.97)),
    replace(OTHER, headings=(300.0, 270.0, 315.0), ground=TILES, walls=(Wall(8.4, -3.0, NOTICES), OTHER.walls[1])),
)

PALETTE = Palette(
    colours=(
        ("white", (0.88, 0.88, 0.88)),
        ("off white", (0.80, 0.79, 0.75)),
        ("light grey", (0.67, 0.67, 0.68)),
        ("grey", (0.49, 0.49, 0.50)),
        ("dark grey", (0.31, 0.31, 0.33)),
        ("black", (0.15, 0.15, 0.16)),
        ("navy", (0.19, 0.22, 0.33)),
        ("blue", (0.28, 0.38, 0.56)),
        ("sky", (0.60, 0.70, 0.80)),
        ("denim", (0.33, 0.40, 0.51)),
        ("light denim", (0.51, 0.58, 0.67)),
        ("pink", (0.80, 0.62, 0.66)),
        ("rose", (0.64, 0.33, 0.40)),
        ("red", (0.60, 0.22, 0.24)),
        ("mint", (0.58, 0.70, 0.63)),
        ("green", (0.31, 0.44, 0.36)),
        ("beige", (0.69, 0.62, 0.52)),
        ("brown", (0.40, 0.31, 0.26)),
        ("lilac", (0.60, 0.53, 0.68)),
        ("yellow", (0.78, 0.72, 0.45)),
    ),
    upper=(
        ("white", 24),
        ("grey", 13),
        ("black", 15),
        ("light grey", 10),
        ("navy", 10),
        ("sky", 9),
        ("dark grey", 8),
        ("off white", 7),
        ("blue", 6),
        ("pink", 6),
        ("rose", 3),
        ("lilac", 3),
        ("mint", 2),
        ("beige", 4),
        ("red", 2),
        ("green", 2),
        ("brown", 2),
        ("yellow", 1.5),
    ),
    lower=(
        ("denim", 28),
        ("black", 20),
        ("navy", 13),
        ("dark grey", 13),
        ("light denim", 11),
        ("beige", 8),
        ("grey", 6),
        ("brown", 3),
        ("white", 2),
    ),
    shoes=(("white", 26), ("black", 28), ("grey", 16), ("brown", 12), ("beige", 7), ("navy", 6), ("rose", 3)),
    bags=(
        ("black", 30),
        ("navy", 10),
        ("brown", 12),
        ("dark grey", 12),
        ("beige", 8),
        ("rose", 5),
        ("blue", 6),
        ("off white", 6),
        ("green", 4),
        ("red", 4),
    ),
    hats=(("white", 5), ("black", 6), ("beige", 5), ("navy", 4)),
    hair=(((0.10, 0.09, 0.10), 74), ((0.17, 0.12, 0.10), 18), ((0.32, 0.20, 0.13), 6), ((0.50, 0.49, 0.48), 2)),
    skin=(((0.86, 0.69, 0.58), 44), ((0.80, 0.62, 0.51), 38), ((0.70, 0.52, 0.42), 14), ((0.52, 0.38, 0.30), 3)),
    jitter=0.026,
)

WARDROBE = Wardrobe(
    upper=(("tee", 34), ("long", 26), ("polo", 15), ("jacket", 12), ("hoodie", 7), ("sleeveless", 4), ("coat", 2)),
    upper_pattern=(
        ("plain", 46),
        ("stripes", 16),
        ("print", 14),
        ("checks", 8),
        ("vertical", 6),
        ("dots", 4),
        ("halves", 3),
        ("side", 3),
    ),
    lower_man=(("trousers", 74), ("shorts", 22), ("wide", 4)),
    lower_woman=(("trousers", 46), ("shorts", 18), ("skirt", 14), ("dress", 10), ("tights", 10), ("wide", 2)),
    lower_pattern=(("plain", 88), ("side", 4), ("checks", 3), ("dots", 2), ("stripes", 2)),
    hair_man=(("short", 94), ("bald", 3), ("long", 2), ("bun", 1)),
    hair_woman=(("long", 44), ("ponytail", 28), ("bob", 20), ("bun", 8)),
    hat=(("none", 95), ("cap", 4), ("sunhat", 1)),
    bag=(("none", 26), ("backpack", 34), ("shoulder", 28), ("handbag", 12)),
    carried=(("none", 66), ("books", 14), ("bottle", 8), ("plastic", 7), ("umbrella", 5)),
)

CUHK03 = Domain(
    name="cuhk03",
    sizes=CuhkSizes(
        train_identities=767,
        train_images=7368,
        train_pairs=1534,
        test_identities=700,
        query_images=1400,
        gallery_images=5332,
        persons=(843, 440, 77, 58, 49),
        train_undetected=3,
        gallery_unlabeled=4,
        classic_sets=20,
        classic_test=100,
    ),
    cameras=CAMERAS,
    palette=PALETTE,
    wardrobe=WARDROBE,
    rates=Rates(
        occluded=0.05,
        company=0.16,
        standing=0.06,
        shift=0.045,
        grow=(0.92, 1.14),
        heading_track=10.0,
        heading_image=8.0,
        light=0.13,
        second_walk=0.0,
        patch=0.0,
    ),
    sequences=8,
    layout=Layout(
        tuple(f"{boxes}/{folder}" for boxes in (LABELED, DETECTED) for folder in (TRAIN, QUERY, TEST)),
        shots,
        (TESTSETS,),
        files,
    ),
    lights=(SHADE,),
    occluders=("person", "pole", "person", "rail", "box"),
)
