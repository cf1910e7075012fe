"""The stand-in for MSMT17: a campus in autumn on four days, morning, noon and afternoon; twelve cameras out of doors,
three in a hall.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from random import Random

from .domain import Camera, Domain, Layout, Light, Palette, Rates, Sizes, Surface, Thing, Wall, Wardrobe
from .plan import Pair, Population, Shot, moment_of, plan, population, scaled

TRAIN, TEST = "train", "test"
LISTS = {name: f"list_{name}.txt" for name in ("train", "val", "query", "gallery")}
DAYS = ("0113", "0211", "0302", "0303")

# The sun rises to the right of where most cameras look and sets to the left.
LIGHTS = (
    Light("morning", (12.0, 26.0), 70.0, (0.80, 0.50), (0.28, 0.72), (0.02, 0.06), (0.02, 0.07), (1.00, 0.99, 1.08)),
    Light("noon", (38.0, 52.0), 0.0, (0.92, 0.64), (0.38, 0.88), (0.00, 0.03), (0.00, 0.03)),
    Light("afternoon", (9.0, 22.0), -70.0, (0.70, 0.38), (0.22, 0.60), (0.06, 0.12), (0.00, 0.05), (1.22, 1.00, 0.74)),
)
NEON = Light("lamps", (70.0, 80.0), 0.0, (0.26, 0.74), (0.26, 0.74), (0.0, 0.0), (0.0, 0.0), (0.96, 1.04, 0.98))
BULBS = Light("lamps", (60.0, 75.0), 0.0, (0.40, 0.56), (0.40, 0.56), (0.0, 0.0), (0.0, 0.0), (1.20, 1.00, 0.72))


@dataclass(frozen=True)
class MsmtSizes(Sizes):
    """Besides: how many of the training images the release lists for validation."""

    val_images: int


def shots(domain: Domain, scale: float, seed: int) -> list[Shot]:
    """The pictures of both folders; queries and gallery share one."""
    people = population(domain, scale, seed)
    # The query is a moment of its own, behind those of the gallery.
    seen = {TRAIN: people.train, TEST: {pair: many + 1 for pair, many in people.test.items()}}
    listed = []
    for folder, shares in seen.items():
        labels = _labels(shares)
        numbers: Counter[int] = Counter()
        for pair, many in shares.items():
            for moment in range(many):
                listed.append(_shot(domain, seed, pair, moment, folder, labels[pair[0]], numbers[pair[0]]))
                numbers[pair[0]] += 1
    return listed


def _labels(shares: dict[Pair, int]) -> dict[int, int]:
    """The numbers in names: they count from 0 in either folder."""
    return {identity: label for label, identity in enumerate(sorted({identity for identity, _ in shares}))}


def _shot(domain: Domain, seed: int, pair: Pair, moment: int, folder: str, label: int, number: int) -> Shot:
    identity, camera = pair
    when = moment_of(domain, seed, pair, moment)
    day, time = divmod(when.film - 1, len(LIGHTS))
    name = f"{label:04d}_{number:03d}_{camera:02d}_{DAYS[day]}{LIGHTS[time].name}_{when.frame % 10_000:04d}_0.jpg"
    return Shot(folder, f"{label:04d}/{name}", "person", identity, camera, moment, when.walk, when.film, False)


def files(domain: Domain, scale: float, seed: int) -> dict[str, bytes]:
    """The four lists of the release: lines of a path within train or test, and a label."""
    people, listed = population(domain, scale, seed), plan(domain, scale, seed)
    train = [shot for shot in listed if shot.folder == TRAIN]
    # An identity's first picture is never for validation, so that everybody is trained on.
    spare = [index for index, shot in enumerate(train) if shot.name.split("_")[1] != "000"]
    many = min(len(spare), scaled(domain.sizes.val_images, scale, 1))
    chosen = set(Random(f"{seed}/validation").sample(spare, many))
    lists: dict[str, list[Shot]] = {name: [] for name in LISTS}
    for index, shot in enumerate(train):
        lists["val" if index in chosen else "train"].append(shot)
    for shot in listed:
        if shot.folder == TEST:
            lists["query" if _is_query(people, shot) else "gallery"].append(shot)
    lines = {name: (f"{shot.name} {int(shot.name[:4])}\n" for shot in some) for name, some in lists.items()}
    return {LISTS[name]: "".join(some).encode() for name, some in lines.items()}


def _is_query(people: Population, shot: Shot) -> bool:
    return shot.moment == people.test[shot.identity, shot.camera]


PAVERS = Surface(
    base=(0.55, 0.50, 0.46),
    line=(0.42, 0.39, 0.37),
    alt=(0.49, 0.42, 0.38),
    cell=(0.45, 0.22),
    joint=0.015,
    vary=0.09,
    alt_share=0.35,
    grain=0.12,
    grain_size=0.7,
)
TARMAC = Surface(
    base=(0.42, 0.42, 0.43),
    line=(0.39, 0.39, 0.40),
    alt=(0.44, 0.43, 0.42),
    cell=(4.0, 4.0),
    joint=0.06,
    vary=0.03,
    alt_share=0.3,
    grain=0.14,
    grain_size=0.4,
)
GREY_SLABS = Surface(
    base=(0.58, 0.58, 0.57),
    line=(0.46, 0.46, 0.46),
    alt=(0.53, 0.53, 0.53),
    cell=(0.80, 0.40),
    joint=0.025,
    vary=0.06,
    alt_share=0.3,
    grain=0.10,
    grain_size=0.9,
)
FALLEN = Surface(
    base=(0.58, 0.50, 0.26),
    line=(0.50, 0.43, 0.25),
    alt=(0.66, 0.52, 0.22),
    cell=(0.12, 0.10),
    joint=0.0,
    vary=0.10,
    alt_share=0.35,
    grain=0.30,
    grain_size=0.22,
)
LATE_GRASS = Surface(
    base=(0.44, 0.45, 0.27),
    line=(0.42, 0.43, 0.26),
    alt=(0.50, 0.47, 0.29),
    cell=(0.16, 0.13),
    joint=0.0,
    vary=0.08,
    alt_share=0.3,
    grain=0.28,
    grain_size=0.2,
)
GRANITE = Surface(
    base=(0.68, 0.66, 0.63),
    line=(0.56, 0.54, 0.52),
    alt=(0.56, 0.53, 0.50),
    cell=(0.80, 0.80),
    joint=0.010,
    vary=0.03,
    alt_share=0.2,
    grain=0.05,
    grain_size=1.6,
)
PARQUET = Surface(
    base=(0.58, 0.44, 0.30),
    line=(0.45, 0.34, 0.24),
    alt=(0.64, 0.49, 0.34),
    cell=(0.60, 0.12),
    joint=0.008,
    vary=0.08,
    alt_share=0.4,
    grain=0.06,
    grain_size=1.0,
)
GINKGO = Surface(
    base=(0.62, 0.54, 0.25),
    line=(0.40, 0.36, 0.22),
    alt=(0.48, 0.49, 0.27),
    cell=(0.22, 0.18),
    joint=0.02,
    vary=0.18,
    alt_share=0.4,
    grain=0.38,
    grain_size=0.35,
    plinth=0.6,
    plinth_colour=(0.40, 0.38, 0.28),
    top=3.2,
    top_colour=(0.72, 0.77, 0.83),
)
GREY_BRICK = Surface(
    base=(0.47, 0.47, 0.47),
    line=(0.57, 0.57, 0.56),
    alt=(0.42, 0.43, 0.44),
    cell=(0.40, 0.12),
    joint=0.015,
    vary=0.10,
    alt_share=0.3,
    grain=0.12,
    grain_size=0.7,
    plinth=0.4,
    plinth_colour=(0.55, 0.54, 0.52),
    top=2.8,
    top_colour=(0.50, 0.24, 0.20),
)
OCHRE = Surface(
    base=(0.66, 0.56, 0.42),
    line=(0.54, 0.46, 0.36),
    alt=(0.32, 0.36, 0.40),
    cell=(1.4, 1.9),
    joint=0.10,
    vary=0.07,
    alt_share=0.35,
    grain=0.12,
    grain_size=0.9,
    plinth=0.8,
    plinth_colour=(0.48, 0.44, 0.40),
)
MESH = Surface(
    base=(0.50, 0.55, 0.50),
    line=(0.24, 0.36, 0.28),
    alt=(0.56, 0.54, 0.42),
    cell=(0.18, 0.9),
    joint=0.03,
    vary=0.12,
    alt_share=0.35,
    grain=0.34,
    grain_size=0.5,
    plinth=0.2,
    plinth_colour=(0.45, 0.45, 0.42),
    top=2.4,
    top_colour=(0.58, 0.54, 0.36),
)
HALL = Surface(
    base=(0.76, 0.74, 0.69),
    line=(0.62, 0.60, 0.57),
    alt=(0.44, 0.36, 0.30),
    cell=(1.1, 2.2),
    joint=0.05,
    vary=0.04,
    alt_share=0.25,
    grain=0.06,
    grain_size=1.5,
    plinth=0.2,
    plinth_colour=(0.34, 0.31, 0.29),
)
SHELVES = Surface(
    base=(0.46, 0.34, 0.26),
    line=(0.60, 0.46, 0.34),
    alt=(0.38, 0.44, 0.47),
    cell=(0.16, 0.34),
    joint=0.025,
    vary=0.35,
    alt_share=0.35,
    grain=0.12,
    grain_size=0.3,
    plinth=0.15,
    plinth_colour=(0.35, 0.26, 0.20),
    top=2.2,
    top_colour=(0.78, 0.76, 0.71),
)

YELLOW, GREEN, STEEL, DARK = (0.66, 0.56, 0.20), (0.36, 0.42, 0.24), (0.58, 0.59, 0.60), (0.22, 0.23, 0.24)
MARBLE, BARK, WOOD = (0.70, 0.69, 0.66), (0.32, 0.28, 0.24), (0.52, 0.40, 0.28)
BLUE_BIKE, ORANGE_BIKE, YELLOW_BIKE = (0.16, 0.34, 0.56), (0.74, 0.38, 0.14), (0.78, 0.66, 0.16)

OUT = Camera(  # 1: the avenue of ginkgos
    height=3.2,
    pitch=10.0,
    near=5.5,
    far=11.0,
    spread=0.22,
    headings=(180.0, 0.0, 160.0),
    ground=TARMAC,
    far_ground=FALLEN,
    ground_line=(9.5, -22.0),
    walls=(Wall(14.0, -18.0, GINKGO), Wall(20.0, 42.0, OCHRE)),
    things=(
        Thing("tree", -2.9, 12.5, 0, 0.9, YELLOW),
        Thing("bike", 1.6, 11.8, 74, 1.0, YELLOW_BIKE),
        Thing("bike", 2.3, 12.0, 70, 1.0, ORANGE_BIKE),
    ),
    gains=(1.01, 1.00, 0.99),
    contrast=1.05,
    saturation=1.00,
    exposure=1.06,
    blur=0.55,
    coarse=-0.05,
    noise=0.010,
    quality=(80, 91),
    sun=20.0,
    sun_share=0.65,
    popularity=1.4,
)
IN = replace(  # the hall of the library
    OUT,
    height=2.8,
    pitch=11.0,
    near=4.5,
    far=8.0,
    headings=(180.0, 0.0, 205.0),
    ground=GRANITE,
    far_ground=GRANITE,
    ground_line=(30.0, 0.0),
    walls=(Wall(11.0, 6.0, HALL), Wall(9.0, -55.0, HALL)),
    things=(
        Thing("pillar", -1.8, 9.2, 0, 1.0, MARBLE),
        Thing("box", 1.7, 9.6, 0, 1.0, WOOD),
        Thing("rail", 0.6, 10.0, 5, 1.0, STEEL),
    ),
    gains=(0.99, 1.02, 0.97),
    contrast=0.96,
    saturation=0.90,
    exposure=0.98,
    noise=0.015,
    blur=0.7,
    sun_share=0.0,
    popularity=0.9,
    lamps=NEON,
)
CAMERAS = (
    OUT,
    replace(  # 2: before the teaching block
        OUT,
        headings=(90.0, 270.0, 110.0),
        ground=GREY_SLABS,
        far_ground=PAVERS,
        ground_line=(9.0, 6.0),
        walls=(Wall(12.5, 5.0, GREY_BRICK), Wall(18.0, -50.0, GINKGO)),
        things=(
            Thing("bin", -1.9, 11.2, colour=DARK),
            Thing("bench", 1.2, 11.4, 3, 1.0, WOOD),
            Thing("bike", 2.6, 11.0, 80, 1.0, BLUE_BIKE),
        ),
        gains=(1.03, 1.00, 0.96),
        exposure=1.00,
        sun=-50.0,
        popularity=1.2,
    ),
    replace(  # 3: the bicycle racks
        OUT,
        height=3.6,
        pitch=12.0,
        headings=(0.0, 180.0, 20.0),
        ground=PAVERS,
        far_ground=TARMAC,
        ground_line=(11.5, 8.0),
        walls=(Wall(15.0, 6.0, MESH), Wall(17.0, -48.0, GREY_BRICK)),
        things=tuple(
            Thing("bike", -2.8 + 0.9 * i, 12.4, 60 + 9 * (i % 3), 1.0, colour)
            for i, colour in enumerate((YELLOW_BIKE, BLUE_BIKE, DARK, ORANGE_BIKE, YELLOW_BIKE, STEEL))
        ),
        gains=(0.98, 1.00, 1.02),
        contrast=1.00,
        saturation=0.93,
        sun=100.0,
    ),
    replace(  # 4: the sports ground
        OUT,
        near=7.0,
        far=13.0,
        headings=(225.0, 45.0, 180.0),
        ground=TARMAC,
        far_ground=LATE_GRASS,
        ground_line=(12.0, 14.0),
        walls=(Wall(16.0, 12.0, MESH), Wall(26.0, -40.0, GINKGO)),
        things=(Thing("pole", -1.3, 14.0, colour=STEEL), Thing("tree", 3.2, 15.0, 0, 1.0, GREEN)),
        gains=(0.97, 1.01, 1.02),
        exposure=1.10,
        coarse=0.05,
        sun=60.0,
        sun_share=0.8,
        popularity=0.8,
    ),
    replace(  # 5: the canteen, crowded
        OUT,
        height=2.6,
        pitch=8.0,
        near=4.5,
        far=8.5,
        headings=(270.0, 90.0, 250.0),
        ground=PAVERS,
        far_ground=GREY_SLABS,
        ground_line=(8.0, -6.0),
        walls=(Wall(10.5, -5.0, OCHRE), Wall(15.0, 50.0, GREY_BRICK)),
        things=(
            Thing("box", -1.5, 9.4, 12, 1.0, (0.60, 0.46, 0.28)),
            Thing("bin", 0.4, 9.8, colour=(0.30, 0.40, 0.30)),
            Thing("bike", 2.0, 9.6, 78, 1.0, ORANGE_BIKE),
        ),
        gains=(1.04, 1.00, 0.94),
        saturation=1.05,
        sun=-110.0,
        popularity=1.5,
    ),
    replace(  # 6: the crossing, from a high mast
        OUT,
        height=4.4,
        pitch=15.0,
        near=7.0,
        far=13.0,
        headings=(135.0, 315.0, 90.0),
        ground=TARMAC,
        far_ground=GREY_SLABS,
        ground_line=(11.0, 25.0),
        walls=(Wall(19.0, 15.0, GINKGO), Wall(24.0, -45.0, OCHRE)),
        things=(
            Thing("car", -2.8, 14.5, 80, 1.0, (0.80, 0.80, 0.80)),
            Thing("pole", 0.8, 13.8, colour=DARK),
            Thing("tree", 3.4, 15.5, 0, 0.9, YELLOW),
        ),
        gains=(1.00, 1.00, 1.00),
        coarse=-0.1,
        sun=150.0,
    ),
    replace(  # 7: an old camera at the south gate
        OUT,
        headings=(0.0, 180.0, 345.0),
        ground=GREY_SLABS,
        far_ground=TARMAC,
        walls=(Wall(13.5, 0.0, GREY_BRICK), Wall(15.0, 52.0, MESH)),
        things=(Thing("pillar", -2.4, 11.8, 0, 1.1, (0.48, 0.25, 0.21)), Thing("car", 2.9, 12.4, 95, 1.0, DARK)),
        gains=(1.06, 1.00, 0.91),
        contrast=0.92,
        saturation=0.80,
        blur=1.0,
        coarse=0.35,
        noise=0.018,
        quality=(68, 82),
        sun=0.0,
    ),
    replace(  # 8: its twin at the east gate
        OUT,
        headings=(180.0, 0.0, 195.0),
        ground=PAVERS,
        far_ground=TARMAC,
        walls=(Wall(14.5, 8.0, MESH), Wall(16.0, -50.0, GREY_BRICK)),
        things=(Thing("pole", 1.8, 11.6, colour=STEEL), Thing("bike", -1.7, 11.9, 66, 1.0, BLUE_BIKE)),
        gains=(0.94, 1.01, 1.05),
        contrast=0.94,
        saturation=0.82,
        blur=0.95,
        coarse=0.25,
        noise=0.016,
        quality=(70, 84),
        sun=90.0,
        popularity=0.7,
    ),
    replace(  # 9: under the trees
        OUT,
        headings=(90.0, 270.0, 70.0),
        ground=FALLEN,
        far_ground=LATE_GRASS,
        ground_line=(10.0, 0.0),
        walls=(Wall(15.0, -3.0, GINKGO), Wall(20.0, 50.0, GREY_BRICK)),
        things=(Thing("bare", -2.2, 12.0, 10, 1.0, BARK), Thing("tree", 1.9, 12.8, 0, 0.8, YELLOW)),
        exposure=0.94,
        sun_share=0.4,
        sun=-20.0,
        popularity=0.8,
    ),
    replace(  # 10: the dormitories
        OUT,
        headings=(315.0, 135.0, 270.0),
        ground=GREY_SLABS,
        far_ground=LATE_GRASS,
        ground_line=(9.8, -12.0),
        walls=(Wall(13.0, -10.0, OCHRE), Wall(17.0, 46.0, GINKGO)),
        things=(Thing("bench", -1.4, 11.2, -8, 1.0, WOOD), Thing("tree", 2.5, 12.2, 0, 0.8, GREEN)),
        gains=(1.02, 0.99, 1.00),
        sun=40.0,
    ),
    replace(  # 11: the car park
        OUT,
        height=3.8,
        pitch=12.0,
        near=6.0,
        far=12.0,
        headings=(200.0, 20.0, 180.0),
        ground=TARMAC,
        far_ground=TARMAC,
        walls=(Wall(16.0, 10.0, GREY_BRICK), Wall(18.0, -46.0, GINKGO)),
        things=(
            Thing("car", -2.7, 13.0, 85, 1.0, (0.24, 0.28, 0.36)),
            Thing("car", 0.9, 13.4, 90, 1.0, (0.70, 0.70, 0.68)),
            Thing("car", 4.0, 13.2, 88, 1.0, (0.46, 0.16, 0.15)),
        ),
        gains=(0.98, 1.00, 1.03),
        sun=-150.0,
        popularity=0.7,
    ),
    replace(  # 12: the lake path
        OUT,
        headings=(45.0, 225.0, 0.0),
        ground=PAVERS,
        far_ground=LATE_GRASS,
        ground_line=(8.6, 20.0),
        walls=(Wall(15.5, 14.0, GINKGO), Wall(28.0, -44.0, MESH)),
        things=(Thing("bench", 1.4, 11.2, 20, 1.0, WOOD), Thing("bare", -2.4, 12.0, 0, 0.9, BARK)),
        gains=(0.99, 1.02, 0.98),
        exposure=1.10,
        saturation=1.06,
        sun=-80.0,
        sun_share=0.75,
        popularity=0.9,
    ),
    IN,  # 13
    replace(  # 14: its corridor of shelves, under warm bulbs
        IN,
        headings=(90.0, 270.0, 65.0),
        ground=PARQUET,
        far_ground=PARQUET,
        walls=(Wall(9.4, -4.0, SHELVES), Wall(10.0, 52.0, HALL)),
        things=(Thing("box", -1.4, 8.6, 0, 1.0, WOOD), Thing("bench", 1.4, 8.6, 0, 1.0, WOOD)),
        gains=(1.02, 1.00, 0.97),
        exposure=0.92,
        popularity=0.7,
        lamps=BULBS,
    ),
    replace(  # 15: the turnstiles
        IN,
        height=3.2,
        pitch=13.0,
        headings=(0.0, 180.0, 25.0),
        walls=(Wall(10.5, 0.0, HALL), Wall(9.5, 50.0, SHELVES)),
        things=(Thing("rail", -1.5, 8.8, 85, 0.6, STEEL), Thing("rail", 1.3, 8.8, 85, 0.6, STEEL)),
        gains=(1.01, 1.00, 0.99),
        exposure=1.06,
        noise=0.012,
        popularity=1.1,
    ),
)

PALETTE = Palette(
    colours=(
        ("white", (0.87, 0.87, 0.86)),
        ("cream", (0.80, 0.76, 0.67)),
        ("light grey", (0.63, 0.63, 0.63)),
        ("grey", (0.45, 0.45, 0.46)),
        ("dark grey", (0.28, 0.28, 0.29)),
        ("black", (0.13, 0.13, 0.14)),
        ("navy", (0.17, 0.20, 0.31)),
        ("blue", (0.24, 0.35, 0.54)),
        ("denim", (0.28, 0.35, 0.46)),
        ("light denim", (0.46, 0.53, 0.62)),
        ("red", (0.62, 0.20, 0.20)),
        ("wine", (0.40, 0.17, 0.21)),
        ("rust", (0.58, 0.33, 0.20)),
        ("mustard", (0.70, 0.56, 0.24)),
        ("army", (0.35, 0.37, 0.25)),
        ("bottle green", (0.19, 0.33, 0.27)),
        ("camel", (0.64, 0.51, 0.36)),
        ("brown", (0.35, 0.27, 0.21)),
        ("dusty pink", (0.74, 0.55, 0.55)),
        ("plum", (0.36, 0.25, 0.38)),
    ),
    upper=(
        ("black", 26),
        ("dark grey", 12),
        ("navy", 12),
        ("grey", 9),
        ("army", 8),
        ("white", 8),
        ("camel", 6),
        ("red", 5),
        ("blue", 5),
        ("light grey", 5),
        ("wine", 4),
        ("dusty pink", 5),
        ("cream", 4),
        ("rust", 2.5),
        ("mustard", 2.5),
        ("brown", 3),
        ("bottle green", 2.5),
        ("plum", 2),
    ),
    lower=(
        ("black", 32),
        ("denim", 20),
        ("dark grey", 14),
        ("navy", 12),
        ("light denim", 6),
        ("grey", 5),
        ("camel", 4),
        ("army", 4),
        ("brown", 3),
    ),
    shoes=(
        ("white", 26),
        ("black", 32),
        ("grey", 12),
        ("brown", 10),
        ("camel", 6),
        ("navy", 5),
        ("red", 3),
        ("blue", 3),
    ),
    bags=(
        ("black", 32),
        ("navy", 11),
        ("dark grey", 11),
        ("grey", 8),
        ("red", 6),
        ("blue", 6),
        ("brown", 7),
        ("dusty pink", 5),
        ("army", 5),
        ("cream", 4),
        ("mustard", 3),
    ),
    hats=(("black", 10), ("white", 4), ("grey", 6), ("wine", 3), ("navy", 5), ("mustard", 2), ("red", 2)),
    hair=(((0.10, 0.09, 0.09), 68), ((0.17, 0.12, 0.10), 20), ((0.33, 0.21, 0.13), 8), ((0.46, 0.45, 0.44), 4)),
    skin=(((0.85, 0.67, 0.57), 44), ((0.79, 0.60, 0.49), 34), ((0.69, 0.51, 0.41), 16), ((0.48, 0.34, 0.27), 4)),
    jitter=0.030,
)

WARDROBE = Wardrobe(
    upper=(("jacket", 34), ("long", 22), ("hoodie", 18), ("coat", 14), ("tee", 8), ("polo", 4)),
    upper_pattern=(
        ("plain", 50),
        ("print", 12),
        ("stripes", 9),
        ("checks", 8),
        ("side", 8),
        ("halves", 6),
        ("diagonal", 3),
        ("vertical", 2),
        ("dots", 2),
    ),
    lower_man=(("trousers", 82), ("wide", 10), ("shorts", 8)),
    lower_woman=(("trousers", 50), ("tights", 20), ("skirt", 12), ("dress", 8), ("wide", 8), ("shorts", 2)),
    lower_pattern=(("plain", 82), ("side", 10), ("checks", 3), ("halves", 4), ("stripes", 1)),
    hair_man=(("short", 92), ("bald", 4), ("long", 3), ("bun", 1)),
    hair_woman=(("long", 42), ("ponytail", 30), ("bob", 18), ("bun", 10)),
    hat=(("none", 88), ("cap", 7), ("beanie", 5)),
    bag=(("none", 32), ("backpack", 44), ("shoulder", 15), ("handbag", 9)),
    carried=(("none", 74), ("plastic", 9), ("bottle", 7), ("books", 8), ("umbrella", 2)),
)

MSMT17 = Domain(
    name="msmt17",
    # The training images, those for validation among them; the number of their pairs is not published.
    sizes=MsmtSizes(
        train_identities=1041,
        train_images=32621,
        train_pairs=3966,
        test_identities=3060,
        query_images=11659,
        gallery_images=82161,
        val_images=2373,
    ),
    cameras=CAMERAS,
    palette=PALETTE,
    wardrobe=WARDROBE,
    rates=Rates(
        occluded=0.10,
        company=0.14,
        standing=0.08,
        shift=0.032,
        grow=(0.96, 1.13),
        heading_track=18.0,
        heading_image=7.0,
        light=0.12,
        second_walk=0.45,
        patch=0.0,
    ),
    sequences=len(DAYS) * len(LIGHTS),
    layout=Layout((TRAIN, TEST), shots, tuple(LISTS.values()), files),
    lights=LIGHTS,
    occluders=("bike", "person", "bike", "pole", "box", "person"),
)
