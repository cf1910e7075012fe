"""The stand-in for DukeMTMC-reID: a university campus in winter, eight high cameras over paths and lawns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from .domain import Camera, Domain, Layout, Light, Palette, Rates, Sizes, Surface, Thing, Wall, Wardrobe
from .plan import Pair, Shot, apportion, moment_of, population, scaled

TRAIN, TEST, QUERY = "bounding_box_train", "bounding_box_test", "query"
FILM_FRAMES = 45_000


@dataclass(frozen=True)
class DukeSizes(Sizes):
    """Besides: people of the gallery whom one camera alone saw, with numbers like everybody's and no query."""

    distractor_identities: int
    distractor_images: int


def shots(domain: Domain, scale: float, seed: int) -> list[Shot]:
    """The pictures of the three folders."""
    sizes = domain.sizes
    people = population(domain, scale, seed, scaled(sizes.distractor_identities, scale, 2))
    random = Random(f"{seed}/strangers")
    strangers = [(identity, 1 + random.randrange(len(domain.cameras))) for identity in sorted(people.others)]
    weights = [0.25 + random.random() for _ in strangers]
    alone = apportion(weights, scaled(sizes.distractor_images, scale, len(strangers)))
    gallery = people.test | dict(zip(strangers, alone, strict=True))
    listed = []
    for folder, shares in ((TRAIN, people.train), (TEST, gallery)):
        listed += [_shot(domain, seed, pair, moment, folder) for pair, many in shares.items() for moment in range(many)]
    return listed + [_shot(domain, seed, pair, many, QUERY) for pair, many in people.test.items()]


def _shot(domain: Domain, seed: int, pair: Pair, moment: int, folder: str) -> Shot:
    identity, camera = pair
    when = moment_of(domain, seed, pair, moment)
    # Frames count through all films of a camera.
    name = f"{identity:04d}_c{camera}_f{FILM_FRAMES * 2 * when.film + when.frame:07d}.jpg"
    return Shot(folder, name, "person", identity, camera, moment, when.walk, when.film, False)


CONCRETE = Surface(
    base=(0.63, 0.62, 0.59),
    line=(0.50, 0.49, 0.47),
    alt=(0.60, 0.58, 0.55),
    cell=(1.5, 1.5),
    joint=0.03,
    vary=0.04,
    alt_share=0.25,
    grain=0.10,
    grain_size=0.9,
)
RED_BRICK = Surface(
    base=(0.52, 0.36, 0.31),
    line=(0.58, 0.52, 0.48),
    alt=(0.46, 0.31, 0.28),
    cell=(0.24, 0.12),
    joint=0.012,
    vary=0.14,
    alt_share=0.35,
    grain=0.10,
    grain_size=0.6,
)
DRY_LAWN = Surface(
    base=(0.52, 0.48, 0.35),
    line=(0.50, 0.46, 0.33),
    alt=(0.48, 0.46, 0.33),
    cell=(0.18, 0.14),
    joint=0.0,
    vary=0.07,
    alt_share=0.3,
    grain=0.3,
    grain_size=0.22,
)
LEAVES = Surface(
    base=(0.47, 0.40, 0.31),
    line=(0.40, 0.33, 0.25),
    alt=(0.54, 0.42, 0.29),
    cell=(0.13, 0.10),
    joint=0.0,
    vary=0.12,
    alt_share=0.3,
    grain=0.3,
    grain_size=0.25,
)
ROAD = Surface(
    base=(0.36, 0.37, 0.39),
    line=(0.34, 0.35, 0.37),
    alt=(0.36, 0.37, 0.39),
    cell=(6.0, 6.0),
    joint=0.10,
    vary=0.02,
    grain=0.12,
    grain_size=0.4,
)
SNOW = Surface(
    base=(0.82, 0.84, 0.88),
    line=(0.70, 0.72, 0.76),
    alt=(0.80, 0.82, 0.86),
    cell=(0.8, 0.5),
    joint=0.0,
    vary=0.02,
    alt_share=0.0,
    grain=0.12,
    grain_size=0.7,
)
FIELDSTONE = Surface(
    base=(0.52, 0.49, 0.43),
    line=(0.63, 0.61, 0.56),
    alt=(0.45, 0.45, 0.44),
    cell=(0.42, 0.22),
    joint=0.03,
    vary=0.20,
    alt_share=0.4,
    grain=0.14,
    grain_size=0.5,
    plinth=0.5,
    plinth_colour=(0.60, 0.58, 0.54),
    top=4.2,
    top_colour=(0.40, 0.40, 0.42),
)
GOTHIC = Surface(
    base=(0.53, 0.50, 0.44),
    line=(0.66, 0.64, 0.58),
    alt=(0.24, 0.26, 0.30),
    cell=(1.0, 2.6),
    joint=0.18,
    vary=0.10,
    alt_share=0.45,
    grain=0.16,
    grain_size=0.4,
    plinth=0.9,
    plinth_colour=(0.58, 0.56, 0.51),
)
BRICK_HALL = Surface(
    base=(0.47, 0.32, 0.28),
    line=(0.57, 0.51, 0.47),
    alt=(0.42, 0.29, 0.26),
    cell=(0.44, 0.14),
    joint=0.018,
    vary=0.12,
    alt_share=0.3,
    grain=0.10,
    grain_size=0.8,
    plinth=0.6,
    plinth_colour=(0.64, 0.62, 0.58),
    top=3.4,
    top_colour=(0.68, 0.66, 0.61),
)
BARE_WOOD = Surface(
    base=(0.44, 0.40, 0.36),
    line=(0.29, 0.26, 0.24),
    alt=(0.56, 0.56, 0.57),
    cell=(0.30, 2.0),
    joint=0.07,
    vary=0.22,
    alt_share=0.3,
    grain=0.34,
    grain_size=0.25,
    plinth=0.5,
    plinth_colour=(0.44, 0.38, 0.29),
    top=3.6,
    top_colour=(0.76, 0.81, 0.88),
)
GLASS_FRONT = Surface(
    base=(0.34, 0.41, 0.48),
    line=(0.78, 0.78, 0.77),
    alt=(0.46, 0.54, 0.62),
    cell=(1.2, 1.6),
    joint=0.09,
    vary=0.12,
    alt_share=0.35,
    grain=0.18,
    grain_size=0.9,
    plinth=0.4,
    plinth_colour=(0.55, 0.55, 0.55),
)

SILVER, RED, WHITE, NIGHT = (0.68, 0.69, 0.71), (0.52, 0.14, 0.14), (0.82, 0.82, 0.82), (0.16, 0.17, 0.22)
BARK, IRON, WOOD = (0.33, 0.28, 0.24), (0.18, 0.19, 0.20), (0.46, 0.36, 0.27)

FIRST = Camera(  # 1: the crossing before the brick hall
    height=4.6,
    pitch=14.0,
    near=8.0,
    far=14.5,
    spread=0.20,
    headings=(180.0, 0.0, 135.0),
    ground=CONCRETE,
    far_ground=DRY_LAWN,
    ground_line=(13.0, 10.0),
    walls=(Wall(21.0, 6.0, BRICK_HALL), Wall(32.0, -48.0, BARE_WOOD)),
    things=(
        Thing("bare", -3.4, 15.5, 20, 1.0, BARK),
        Thing("bench", 2.6, 15.2, 12, 1.0, WOOD),
        Thing("pole", 1.0, 16.0, colour=IRON),
    ),
    gains=(1.00, 1.00, 1.01),
    contrast=1.06,
    saturation=0.94,
    exposure=1.0,
    blur=0.45,
    coarse=-0.25,
    noise=0.007,
    quality=(86, 94),
    sun=-70.0,
    sun_share=0.6,
    popularity=1.0,
)
CAMERAS = (
    FIRST,
    replace(  # 2: across the brick plaza
        FIRST,
        height=5.2,
        pitch=15.0,
        near=9.0,
        far=16.0,
        headings=(90.0, 270.0, 45.0),
        ground=RED_BRICK,
        far_ground=CONCRETE,
        ground_line=(15.5, 0.0),
        walls=(Wall(24.0, 0.0, GOTHIC), Wall(30.0, 50.0, BARE_WOOD)),
        things=(
            Thing("bench", -2.8, 17.4, 5, 1.0, WOOD),
            Thing("pole", 0.4, 18.0, colour=IRON),
            Thing("bin", 2.9, 17.0, colour=(0.20, 0.30, 0.24)),
        ),
        gains=(1.02, 1.00, 0.97),
        saturation=0.98,
        sun=30.0,
        popularity=1.3,
    ),
    replace(  # 3: the path through the lawn
        FIRST,
        height=4.0,
        pitch=12.0,
        near=8.0,
        far=14.0,
        headings=(0.0, 180.0, 200.0),
        ground=CONCRETE,
        far_ground=LEAVES,
        ground_line=(11.5, -24.0),
        walls=(Wall(25.0, -20.0, BARE_WOOD), Wall(28.0, 38.0, FIELDSTONE)),
        things=(
            Thing("bare", -2.2, 14.8, 50, 1.1, BARK),
            Thing("bare", 2.7, 16.5, 10, 0.9, BARK),
            Thing("bike", 0.7, 15.4, 70, 1.0, (0.30, 0.12, 0.12)),
        ),
        gains=(0.98, 1.00, 1.03),
        exposure=0.95,
        contrast=1.06,
        sun=120.0,
        sun_share=0.5,
        popularity=0.7,
    ),
    replace(  # 4: the kerb where cars park
        FIRST,
        height=4.8,
        pitch=15.0,
        near=8.5,
        far=13.5,
        headings=(270.0, 90.0, 300.0),
        ground=CONCRETE,
        far_ground=ROAD,
        ground_line=(12.0, 4.0),
        walls=(Wall(22.0, 4.0, FIELDSTONE), Wall(30.0, -55.0, BARE_WOOD)),
        things=(
            Thing("car", -3.0, 15.5, 86, 1.0, SILVER),
            Thing("car", 2.4, 15.8, 92, 1.0, RED),
            Thing("pole", 0.1, 14.4, colour=IRON),
        ),
        gains=(1.00, 1.00, 1.00),
        exposure=1.02,
        sun=-20.0,
        popularity=0.6,
    ),
    replace(  # 5: the stone arcade, in its shade
        FIRST,
        height=3.8,
        pitch=12.0,
        near=7.0,
        far=11.5,
        headings=(135.0, 315.0, 90.0),
        ground=RED_BRICK,
        far_ground=CONCRETE,
        ground_line=(11.0, 18.0),
        walls=(Wall(15.0, 10.0, FIELDSTONE), Wall(22.0, -40.0, GOTHIC)),
        things=(
            Thing("pillar", -1.9, 13.0, 10, 1.0, (0.58, 0.55, 0.49)),
            Thing("pillar", 1.9, 12.4, 10, 1.0, (0.55, 0.53, 0.48)),
            Thing("bin", 0.4, 12.6, colour=(0.22, 0.24, 0.28)),
        ),
        gains=(0.98, 1.00, 1.04),
        exposure=0.88,
        contrast=1.03,
        noise=0.010,
        sun=170.0,
        sun_share=0.2,
        popularity=0.9,
    ),
    replace(  # 6: the snowed square
        FIRST,
        height=5.4,
        pitch=16.0,
        near=9.0,
        far=15.0,
        headings=(180.0, 0.0, 225.0),
        ground=ROAD,
        far_ground=SNOW,
        ground_line=(12.5, -8.0),
        walls=(Wall(26.0, -8.0, GLASS_FRONT), Wall(30.0, 44.0, BARE_WOOD)),
        things=(
            Thing("bare", 3.2, 17.0, 70, 1.0, BARK),
            Thing("bench", -2.2, 16.4, 0, 1.0, IRON),
            Thing("pole", -0.6, 17.5, colour=SILVER),
        ),
        gains=(0.97, 1.00, 1.05),
        exposure=0.90,
        saturation=0.86,
        sun=80.0,
        popularity=1.1,
    ),
    replace(  # 7: the glass entrance
        FIRST,
        height=4.2,
        pitch=13.0,
        near=7.5,
        far=12.5,
        headings=(0.0, 180.0, 330.0),
        ground=CONCRETE,
        far_ground=RED_BRICK,
        ground_line=(12.0, 14.0),
        walls=(Wall(17.0, 12.0, GLASS_FRONT), Wall(26.0, -46.0, BRICK_HALL)),
        things=(
            Thing("rail", 1.2, 13.4, 80, 1.0, SILVER),
            Thing("bike", -2.3, 13.8, 64, 1.0, NIGHT),
            Thing("bin", 2.5, 14.0, colour=(0.18, 0.25, 0.40)),
        ),
        gains=(1.03, 1.00, 0.96),
        exposure=1.04,
        saturation=0.96,
        sun=-140.0,
        sun_share=0.45,
        popularity=0.8,
    ),
    replace(  # 8: the far end of the lawn, small figures
        FIRST,
        height=5.8,
        pitch=14.0,
        near=11.0,
        far=18.0,
        headings=(225.0, 45.0, 180.0),
        ground=CONCRETE,
        far_ground=DRY_LAWN,
        ground_line=(16.0, -14.0),
        walls=(Wall(30.0, -12.0, GOTHIC), Wall(34.0, 46.0, BARE_WOOD)),
        things=(
            Thing("bare", -3.8, 20.0, 40, 1.2, BARK),
            Thing("bare", 0.6, 21.5, 90, 1.1, BARK),
            Thing("car", 3.6, 21.0, 85, 1.0, WHITE),
        ),
        gains=(1.01, 1.00, 0.99),
        coarse=-0.15,
        blur=0.5,
        noise=0.009,
        sun=10.0,
        sun_share=0.7,
        popularity=1.1,
    ),
)

PALETTE = Palette(
    colours=(
        ("white", (0.86, 0.86, 0.86)),
        ("light grey", (0.60, 0.60, 0.61)),
        ("grey", (0.43, 0.43, 0.45)),
        ("charcoal", (0.25, 0.25, 0.27)),
        ("black", (0.12, 0.12, 0.13)),
        ("navy", (0.15, 0.18, 0.29)),
        ("royal blue", (0.16, 0.27, 0.50)),
        ("denim", (0.27, 0.34, 0.45)),
        ("dark denim", (0.18, 0.22, 0.31)),
        ("faded denim", (0.44, 0.51, 0.60)),
        ("burgundy", (0.37, 0.14, 0.19)),
        ("red", (0.60, 0.18, 0.18)),
        ("forest", (0.18, 0.29, 0.23)),
        ("olive", (0.34, 0.34, 0.24)),
        ("camel", (0.60, 0.48, 0.34)),
        ("khaki", (0.56, 0.50, 0.40)),
        ("brown", (0.31, 0.23, 0.18)),
        ("purple", (0.32, 0.22, 0.40)),
        ("teal", (0.20, 0.40, 0.43)),
        ("cream", (0.78, 0.74, 0.66)),
    ),
    upper=(
        ("black", 30),
        ("navy", 16),
        ("charcoal", 14),
        ("grey", 11),
        ("light grey", 6),
        ("royal blue", 4),
        ("olive", 6),
        ("burgundy", 4),
        ("red", 3.5),
        ("forest", 3.5),
        ("camel", 4),
        ("brown", 4),
        ("purple", 2),
        ("teal", 2.5),
        ("white", 3),
        ("cream", 3),
    ),
    lower=(
        ("denim", 28),
        ("dark denim", 24),
        ("black", 22),
        ("faded denim", 8),
        ("khaki", 8),
        ("charcoal", 6),
        ("grey", 4),
        ("olive", 2),
        ("navy", 4),
    ),
    shoes=(
        ("black", 30),
        ("brown", 22),
        ("camel", 8),
        ("grey", 14),
        ("white", 12),
        ("navy", 5),
        ("red", 2),
        ("teal", 1),
    ),
    bags=(
        ("black", 34),
        ("navy", 14),
        ("charcoal", 12),
        ("grey", 10),
        ("royal blue", 6),
        ("red", 6),
        ("forest", 5),
        ("brown", 6),
        ("teal", 4),
        ("purple", 4),
    ),
    hats=(
        ("black", 10),
        ("grey", 8),
        ("navy", 7),
        ("royal blue", 6),
        ("burgundy", 4),
        ("white", 3),
        ("red", 4),
        ("forest", 3),
    ),
    hair=(
        ((0.13, 0.10, 0.09), 34),
        ((0.26, 0.17, 0.11), 30),
        ((0.42, 0.29, 0.18), 16),
        ((0.64, 0.51, 0.32), 14),
        ((0.45, 0.20, 0.11), 3),
        ((0.60, 0.59, 0.58), 4),
    ),
    skin=(((0.88, 0.72, 0.64), 50), ((0.80, 0.61, 0.50), 18), ((0.60, 0.43, 0.33), 12), ((0.38, 0.27, 0.21), 20)),
    jitter=0.028,
)

WARDROBE = Wardrobe(
    upper=(("coat", 24), ("jacket", 36), ("hoodie", 26), ("long", 12), ("tee", 2)),
    upper_pattern=(
        ("plain", 52),
        ("print", 16),
        ("halves", 9),
        ("checks", 7),
        ("side", 7),
        ("stripes", 5),
        ("diagonal", 2),
        ("vertical", 2),
    ),
    lower_man=(("trousers", 84), ("wide", 12), ("shorts", 4)),
    lower_woman=(("trousers", 48), ("tights", 38), ("skirt", 5), ("dress", 2), ("wide", 7)),
    lower_pattern=(("plain", 86), ("side", 8), ("checks", 2), ("halves", 4)),
    hair_man=(("short", 85), ("bald", 9), ("long", 4), ("bun", 2)),
    hair_woman=(("long", 50), ("ponytail", 26), ("bun", 10), ("bob", 14)),
    hat=(("none", 74), ("beanie", 18), ("cap", 8)),
    bag=(("none", 24), ("backpack", 58), ("shoulder", 13), ("handbag", 5)),
    carried=(("none", 76), ("bottle", 12), ("books", 7), ("plastic", 3), ("umbrella", 2)),
)

DUKEMTMC = Domain(
    name="dukemtmc",
    # The published counts do not tell how the gallery divides, nor how many pairs there are in training.
    sizes=DukeSizes(
        train_identities=702,
        train_images=16522,
        train_pairs=2211,
        test_identities=702,
        query_images=2228,
        gallery_images=14300,
        distractor_identities=408,
        distractor_images=3361,
    ),
    cameras=CAMERAS,
    palette=PALETTE,
    wardrobe=WARDROBE,
    rates=Rates(
        occluded=0.11,
        company=0.14,
        standing=0.10,
        shift=0.018,
        grow=(1.00, 1.12),
        heading_track=18.0,
        heading_image=7.0,
        light=0.12,
        second_walk=0.25,
        patch=0.0,
    ),
    sequences=5,
    layout=Layout((TRAIN, TEST, QUERY), shots),
    lights=(
        Light("day", (15.0, 33.0), sunny=(0.88, 0.46), overcast=(0.26, 0.84), warm=(0.01, 0.06), cool=(0.01, 0.05)),
    ),
    occluders=("pole", "person", "bike", "person", "bench"),
)
