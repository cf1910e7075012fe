"""The stand-in for Market-1501: a summer campus, six cameras around the square before a supermarket."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .domain import Camera, Domain, Layout, Palette, Rates, Sizes, Surface, Thing, Wall, Wardrobe
from .plan import Pair, Shot, apportion, moment_of, population, scaled

TRAIN, TEST, QUERY, TIGHT = "bounding_box_train", "bounding_box_test", "query", "gt_bbox"
FOLDERS = (TRAIN, TEST, QUERY, TIGHT)


@dataclass(frozen=True)
class MarketSizes(Sizes):
    """Besides: junk and distractors in the gallery's folder, and hand-drawn boxes of all people."""

    junk_images: int
    distractor_images: int
    tight_images: int


def shots(domain: Domain, scale: float, seed: int) -> list[Shot]:
    """The pictures of all four folders."""
    sizes, people = domain.sizes, population(domain, scale, seed)
    both = people.train | people.test
    tight = apportion(list(both.values()), scaled(sizes.tight_images, scale, len(both)))
    tight_share = dict(zip(both, tight, strict=True))
    listed = []
    for folder, shares in ((TRAIN, people.train), (TEST, people.test), (TIGHT, tight_share)):
        listed += [
            _person(domain, seed, pair, moment, folder) for pair, many in shares.items() for moment in range(many)
        ]
    # The query is a moment of its own, so that it is never a second cut of a picture in the gallery.
    listed += [_person(domain, seed, pair, max(many, tight_share[pair]), QUERY) for pair, many in people.test.items()]
    for kind, identity, total in (("junk", -1, sizes.junk_images), ("distractor", 0, sizes.distractor_images)):
        listed += [_stray(domain, seed, kind, identity, moment) for moment in range(scaled(total, scale, 4))]
    return listed


def _person(domain: Domain, seed: int, pair: Pair, moment: int, folder: str) -> Shot:
    identity, camera = pair
    tight, when = folder in (QUERY, TIGHT), moment_of(domain, seed, pair, moment)
    box = 0 if tight else 1 + Random(f"{seed}/box/{identity}/{camera}/{moment}").randrange(4)
    name = f"{identity:04d}_c{camera}s{when.film}_{when.frame:06d}_{box:02d}.jpg"
    return Shot(folder, name, "person", identity, camera, moment, when.walk, when.film, tight)


def _stray(domain: Domain, seed: int, kind: str, identity: int, moment: int) -> Shot:
    random = Random(f"{seed}/{kind}/{moment}")
    camera = 1 + random.randrange(len(domain.cameras))
    film = 1 + random.randrange(domain.sequences)
    label = "-1" if identity < 0 else f"{identity:04d}"
    name = f"{label}_c{camera}s{film}_{151 + 25 * moment:06d}_{1 + random.randrange(9):02d}.jpg"
    return Shot(TEST, name, kind, identity, camera, moment, 0, film, False)


PAVING = Surface(
    base=(0.57, 0.57, 0.54),
    line=(0.44, 0.44, 0.43),
    alt=(0.53, 0.48, 0.45),
    cell=(0.55, 0.55),
    joint=0.03,
    vary=0.07,
    alt_share=0.18,
    grain=0.10,
    grain_size=0.7,
)
ASPHALT = Surface(
    base=(0.46, 0.46, 0.46),
    line=(0.43, 0.43, 0.43),
    alt=(0.46, 0.46, 0.46),
    cell=(5.0, 5.0),
    joint=0.05,
    vary=0.02,
    grain=0.14,
    grain_size=0.35,
)
BRICK_PATH = Surface(
    base=(0.57, 0.48, 0.46),
    line=(0.46, 0.42, 0.40),
    alt=(0.51, 0.45, 0.42),
    cell=(0.40, 0.20),
    joint=0.02,
    vary=0.10,
    alt_share=0.3,
    grain=0.08,
    grain_size=0.5,
)
LIGHT_SLABS = Surface(
    base=(0.64, 0.64, 0.63),
    line=(0.52, 0.52, 0.52),
    alt=(0.59, 0.59, 0.59),
    cell=(0.9, 0.9),
    joint=0.035,
    vary=0.05,
    alt_share=0.25,
    grain=0.09,
    grain_size=0.8,
)
GRASS = Surface(
    base=(0.40, 0.46, 0.34),
    line=(0.38, 0.44, 0.33),
    alt=(0.45, 0.49, 0.37),
    cell=(0.25, 0.25),
    joint=0.0,
    vary=0.15,
    alt_share=0.3,
    grain=0.22,
    grain_size=0.12,
)
SHOP = Surface(
    base=(0.38, 0.41, 0.44),
    line=(0.68, 0.68, 0.68),
    alt=(0.58, 0.52, 0.44),
    cell=(1.3, 2.3),
    joint=0.12,
    vary=0.18,
    alt_share=0.35,
    grain=0.30,
    grain_size=0.45,
    plinth=0.35,
    plinth_colour=(0.46, 0.45, 0.44),
    top=2.5,
    top_colour=(0.59, 0.32, 0.29),
)
BRICK_WALL = Surface(
    base=(0.54, 0.43, 0.39),
    line=(0.59, 0.55, 0.52),
    alt=(0.50, 0.40, 0.36),
    cell=(0.5, 0.16),
    joint=0.02,
    vary=0.10,
    alt_share=0.3,
    grain=0.10,
    grain_size=0.8,
    plinth=0.4,
    plinth_colour=(0.47, 0.47, 0.46),
)
HEDGE = Surface(
    base=(0.32, 0.38, 0.27),
    line=(0.25, 0.31, 0.23),
    alt=(0.38, 0.45, 0.31),
    cell=(0.16, 0.13),
    joint=0.015,
    vary=0.30,
    alt_share=0.35,
    grain=0.35,
    grain_size=0.25,
    plinth=0.25,
    plinth_colour=(0.40, 0.37, 0.33),
    top=1.9,
    top_colour=(0.60, 0.64, 0.64),
)
PANELS = Surface(
    base=(0.71, 0.71, 0.68),
    line=(0.58, 0.58, 0.57),
    alt=(0.47, 0.52, 0.55),
    cell=(1.1, 1.5),
    joint=0.05,
    vary=0.06,
    alt_share=0.3,
    grain=0.10,
    grain_size=1.0,
    plinth=0.5,
    plinth_colour=(0.54, 0.51, 0.48),
)
KIOSK = Surface(
    base=(0.37, 0.49, 0.50),
    line=(0.73, 0.73, 0.70),
    alt=(0.67, 0.62, 0.45),
    cell=(0.8, 0.9),
    joint=0.06,
    vary=0.12,
    alt_share=0.3,
    grain=0.3,
    grain_size=0.3,
    plinth=0.9,
    plinth_colour=(0.65, 0.65, 0.65),
    top=2.3,
    top_colour=(0.77, 0.77, 0.76),
)
FENCE = Surface(
    base=(0.52, 0.54, 0.52),
    line=(0.33, 0.35, 0.35),
    alt=(0.46, 0.52, 0.45),
    cell=(0.22, 1.3),
    joint=0.05,
    vary=0.10,
    alt_share=0.4,
    grain=0.4,
    grain_size=0.6,
    plinth=0.3,
    plinth_colour=(0.51, 0.51, 0.48),
    top=2.6,
    top_colour=(0.45, 0.50, 0.41),
)

CAMERAS = (
    Camera(  # 1: the shop front, seen from under its lamp
        height=2.7,
        pitch=9.0,
        near=5.0,
        far=10.0,
        spread=0.22,
        headings=(90.0, 270.0, 60.0),
        ground=PAVING,
        far_ground=LIGHT_SLABS,
        ground_line=(9.5, 8.0),
        walls=(Wall(12.5, 8.0, SHOP), Wall(30.0, -50.0, HEDGE)),
        things=(
            Thing("bin", -2.6, 10.6, colour=(0.34, 0.42, 0.37)),
            Thing("box", 1.6, 11.3, 10, 1.2, (0.55, 0.46, 0.40)),
            Thing("pole", 0.3, 11.2, colour=(0.55, 0.55, 0.56)),
            Thing("box", -0.9, 11.4, 5, 0.8, (0.68, 0.66, 0.58)),
        ),
        gains=(1.02, 1.00, 0.98),
        contrast=1.02,
        saturation=1.00,
        exposure=1.00,
        blur=0.75,
        coarse=0.05,
        noise=0.011,
        quality=(74, 84),
        sun=-60.0,
        sun_share=0.5,
        popularity=1.15,
    ),
    Camera(  # 2: along the hedge
        height=2.4,
        pitch=7.0,
        near=5.0,
        far=9.5,
        spread=0.2,
        headings=(180.0, 0.0, 150.0),
        ground=ASPHALT,
        far_ground=GRASS,
        ground_line=(11.0, -20.0),
        walls=(Wall(14.5, -25.0, HEDGE), Wall(17.0, 40.0, FENCE)),
        things=(
            Thing("bike", -2.2, 11.0, 70, 1.0, (0.55, 0.15, 0.15)),
            Thing("bike", -1.5, 11.2, 75, 1.0, (0.2, 0.2, 0.25)),
            Thing("pole", 2.2, 11.0, colour=(0.35, 0.35, 0.36)),
            Thing("bike", -0.7, 11.5, 70, 1.0, (0.15, 0.3, 0.5)),
        ),
        gains=(0.98, 1.00, 1.02),
        contrast=0.98,
        saturation=0.93,
        exposure=0.98,
        blur=0.8,
        coarse=0.1,
        noise=0.013,
        quality=(70, 82),
        sun=40.0,
        sun_share=0.4,
        popularity=0.85,
    ),
    Camera(  # 3: the brick wall of the canteen
        height=3.0,
        pitch=12.0,
        near=5.5,
        far=10.5,
        spread=0.22,
        headings=(270.0, 90.0, 225.0),
        ground=BRICK_PATH,
        far_ground=ASPHALT,
        ground_line=(10.5, 0.0),
        walls=(Wall(13.0, 0.0, BRICK_WALL), Wall(15.5, 55.0, PANELS)),
        things=(
            Thing("bin", 2.4, 12.0, colour=(0.30, 0.36, 0.50)),
            Thing("car", -3.0, 11.6, 90, 1.0, (0.72, 0.73, 0.74)),
            Thing("pole", -0.4, 12.0, colour=(0.70, 0.68, 0.60)),
        ),
        gains=(1.00, 0.99, 1.01),
        contrast=1.04,
        saturation=1.03,
        exposure=1.03,
        blur=0.65,
        coarse=0.0,
        noise=0.010,
        quality=(76, 85),
        sun=120.0,
        sun_share=0.6,
        popularity=1.1,
    ),
    Camera(  # 4: the kiosk, close
        height=2.3,
        pitch=8.0,
        near=4.5,
        far=7.5,
        spread=0.2,
        headings=(135.0, 315.0, 180.0),
        ground=LIGHT_SLABS,
        far_ground=PAVING,
        ground_line=(7.8, 15.0),
        walls=(Wall(9.5, 12.0, KIOSK), Wall(16.0, -45.0, PANELS)),
        things=(
            Thing("box", -1.8, 8.6, 15, 1.0, (0.50, 0.40, 0.28)),
            Thing("box", 1.9, 8.9, 0, 1.1, (0.80, 0.82, 0.84)),
            Thing("bin", 0.7, 9.0, colour=(0.45, 0.45, 0.42)),
        ),
        gains=(1.01, 1.00, 0.98),
        contrast=0.97,
        saturation=0.95,
        exposure=1.05,
        blur=0.7,
        coarse=0.05,
        noise=0.012,
        quality=(72, 84),
        sun=-130.0,
        sun_share=0.4,
        popularity=0.65,
    ),
    Camera(  # 5: the parked bicycles
        height=3.2,
        pitch=12.0,
        near=6.0,
        far=11.5,
        spread=0.22,
        headings=(0.0, 180.0, 30.0),
        ground=PAVING,
        far_ground=ASPHALT,
        ground_line=(12.0, 5.0),
        walls=(Wall(15.0, -5.0, PANELS), Wall(18.0, 50.0, HEDGE)),
        things=tuple(
            Thing("bike", -3.0 + 0.85 * i, 12.8 + 0.1 * (i % 2), 20 + 7 * (i % 3), 1.0, colour)
            for i, colour in enumerate(
                (
                    (0.2, 0.2, 0.22),
                    (0.45, 0.12, 0.14),
                    (0.5, 0.5, 0.52),
                    (0.15, 0.22, 0.40),
                    (0.2, 0.35, 0.25),
                    (0.25, 0.25, 0.25),
                    (0.6, 0.5, 0.2),
                )
            )
        ),
        gains=(0.985, 1.00, 1.01),
        contrast=1.00,
        saturation=0.97,
        exposure=0.99,
        blur=0.8,
        coarse=0.15,
        noise=0.012,
        quality=(70, 82),
        sun=10.0,
        sun_share=0.5,
        popularity=1.0,
    ),
    Camera(  # 6: the old camera of low resolution at the gate
        height=2.8,
        pitch=9.0,
        near=5.5,
        far=11.0,
        spread=0.22,
        headings=(180.0, 0.0, 210.0),
        ground=ASPHALT,
        far_ground=PAVING,
        ground_line=(10.0, -10.0),
        walls=(Wall(14.0, -12.0, FENCE), Wall(15.0, 45.0, BRICK_WALL)),
        things=(
            Thing("car", 3.2, 12.4, 80, 1.0, (0.30, 0.32, 0.36)),
            Thing("pole", -1.6, 11.5, colour=(0.45, 0.45, 0.42)),
            Thing("bin", 0.9, 12.0, colour=(0.48, 0.40, 0.36)),
        ),
        gains=(1.03, 1.00, 0.96),
        contrast=0.95,
        saturation=0.88,
        exposure=1.00,
        blur=1.0,
        coarse=0.4,
        noise=0.016,
        quality=(60, 76),
        sun=70.0,
        sun_share=0.3,
        popularity=1.2,
    ),
)

PALETTE = Palette(
    colours=(
        ("white", (0.90, 0.90, 0.88)),
        ("cream", (0.84, 0.80, 0.70)),
        ("light grey", (0.66, 0.66, 0.66)),
        ("grey", (0.46, 0.46, 0.47)),
        ("dark grey", (0.28, 0.28, 0.29)),
        ("black", (0.14, 0.14, 0.15)),
        ("navy", (0.18, 0.20, 0.31)),
        ("blue", (0.25, 0.36, 0.55)),
        ("light blue", (0.57, 0.68, 0.79)),
        ("denim", (0.29, 0.36, 0.46)),
        ("light denim", (0.48, 0.55, 0.64)),
        ("red", (0.63, 0.23, 0.23)),
        ("dark red", (0.41, 0.18, 0.21)),
        ("pink", (0.81, 0.60, 0.65)),
        ("orange", (0.77, 0.49, 0.29)),
        ("yellow", (0.83, 0.76, 0.40)),
        ("green", (0.30, 0.46, 0.34)),
        ("light green", (0.63, 0.73, 0.52)),
        ("olive", (0.38, 0.38, 0.28)),
        ("khaki", (0.61, 0.55, 0.45)),
        ("brown", (0.36, 0.28, 0.23)),
        ("purple", (0.41, 0.30, 0.47)),
    ),
    upper=(
        ("white", 26),
        ("black", 20),
        ("grey", 10),
        ("light grey", 9),
        ("dark grey", 8),
        ("navy", 9),
        ("blue", 7),
        ("light blue", 6),
        ("red", 5),
        ("dark red", 3),
        ("pink", 4),
        ("orange", 1.5),
        ("yellow", 2.5),
        ("green", 2.5),
        ("light green", 2),
        ("purple", 2.5),
        ("khaki", 3),
        ("cream", 5),
        ("olive", 2),
        ("brown", 2),
    ),
    lower=(
        ("black", 26),
        ("denim", 22),
        ("navy", 13),
        ("dark grey", 14),
        ("light denim", 8),
        ("grey", 6),
        ("khaki", 7),
        ("white", 3),
        ("cream", 2),
        ("olive", 2),
        ("brown", 2),
        ("red", 0.7),
        ("pink", 0.7),
        ("light blue", 1.5),
    ),
    shoes=(
        ("white", 28),
        ("black", 30),
        ("grey", 14),
        ("brown", 10),
        ("navy", 7),
        ("red", 3),
        ("blue", 4),
        ("cream", 5),
        ("pink", 2),
        ("yellow", 1),
    ),
    bags=(
        ("black", 26),
        ("dark grey", 10),
        ("navy", 10),
        ("blue", 8),
        ("red", 8),
        ("brown", 9),
        ("khaki", 6),
        ("grey", 8),
        ("pink", 5),
        ("purple", 4),
        ("green", 4),
        ("cream", 4),
        ("orange", 2),
        ("white", 3),
    ),
    hats=(("white", 8), ("black", 8), ("red", 4), ("blue", 5), ("khaki", 5), ("cream", 5), ("pink", 3), ("grey", 3)),
    hair=(
        ((0.10, 0.09, 0.09), 62),
        ((0.17, 0.12, 0.10), 22),
        ((0.30, 0.20, 0.13), 10),
        ((0.45, 0.44, 0.43), 5),
        ((0.52, 0.40, 0.24), 2),
    ),
    skin=(((0.84, 0.66, 0.56), 40), ((0.78, 0.59, 0.48), 34), ((0.68, 0.50, 0.40), 18), ((0.50, 0.36, 0.29), 7)),
    jitter=0.03,
)

WARDROBE = Wardrobe(
    upper=(("tee", 46), ("sleeveless", 7), ("long", 17), ("jacket", 14), ("hoodie", 7), ("coat", 5), ("polo", 9)),
    upper_pattern=(
        ("plain", 38),
        ("stripes", 12),
        ("vertical", 5),
        ("checks", 6),
        ("dots", 6),
        ("print", 16),
        ("halves", 6),
        ("diagonal", 4),
        ("side", 7),
    ),
    lower_man=(("trousers", 56), ("shorts", 36), ("wide", 8)),
    lower_woman=(("trousers", 34), ("shorts", 22), ("skirt", 16), ("dress", 15), ("tights", 9), ("wide", 4)),
    lower_pattern=(("plain", 74), ("side", 9), ("checks", 3), ("stripes", 2), ("dots", 2), ("halves", 5)),
    hair_man=(("short", 84), ("bald", 7), ("long", 2), ("bun", 1)),
    hair_woman=(("long", 36), ("ponytail", 32), ("bun", 11), ("bob", 21)),
    hat=(("none", 88), ("cap", 8), ("sunhat", 4)),
    bag=(("none", 40), ("backpack", 32), ("shoulder", 17), ("handbag", 11)),
    carried=(("none", 72), ("plastic", 14), ("books", 6), ("bottle", 5), ("umbrella", 3)),
)

MARKET1501 = Domain(
    name="market1501",
    sizes=MarketSizes(
        train_identities=751,
        train_images=12936,
        train_pairs=3262,
        test_identities=750,
        query_images=3368,
        gallery_images=13115,
        junk_images=3819,
        distractor_images=2798,
        tight_images=25259,
    ),
    cameras=CAMERAS,
    palette=PALETTE,
    wardrobe=WARDROBE,
    rates=Rates(
        occluded=0.07,
        company=0.10,
        standing=0.08,
        shift=0.035,
        grow=(0.95, 1.12),
        heading_track=16.0,
        heading_image=6.0,
        light=0.10,
        second_walk=0.2,
        patch=0.45,
    ),
    sequences=6,
    layout=Layout(FOLDERS, shots),
)
