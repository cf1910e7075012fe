"""The stand-in for Market-1501: a summer campus, six cameras around the square before a supermarket."""

from __future__ import annotations

from .domain import Camera, Domain, Palette, Rates, Sizes, Surface, Thing, Wall, Wardrobe

PAVING = Surface(
    base=(0.60, 0.58, 0.55), line=(0.42, 0.41, 0.40), alt=(0.55, 0.46, 0.42), cell=(0.55, 0.55), joint=0.03, vary=0.07,
    alt_share=0.18, grain=0.10, grain_size=0.7,
)
ASPHALT = Surface(
    base=(0.44, 0.44, 0.45), line=(0.40, 0.40, 0.41), alt=(0.44, 0.44, 0.45), cell=(5.0, 5.0), joint=0.05, vary=0.02,
    grain=0.14, grain_size=0.35,
)
BRICK_PATH = Surface(
    base=(0.60, 0.47, 0.41), line=(0.45, 0.38, 0.35), alt=(0.52, 0.42, 0.38), cell=(0.40, 0.20), joint=0.02, vary=0.10,
    alt_share=0.3, grain=0.08, grain_size=0.5,
)
LIGHT_SLABS = Surface(
    base=(0.68, 0.68, 0.66), line=(0.52, 0.52, 0.51), alt=(0.62, 0.62, 0.61), cell=(0.9, 0.9), joint=0.035, vary=0.05,
    alt_share=0.25, grain=0.09, grain_size=0.8,
)
GRASS = Surface(
    base=(0.36, 0.45, 0.24), line=(0.33, 0.42, 0.23), alt=(0.42, 0.48, 0.28), cell=(0.25, 0.25), joint=0.0, vary=0.22,
    alt_share=0.3, grain=0.35, grain_size=0.12,
)
SHOP = Surface(
    base=(0.34, 0.38, 0.42), line=(0.74, 0.74, 0.72), alt=(0.62, 0.52, 0.38), cell=(1.3, 2.3), joint=0.12, vary=0.18,
    alt_share=0.35, grain=0.45, grain_size=0.45, plinth=0.35, plinth_colour=(0.45, 0.42, 0.40), top=2.5,
    top_colour=(0.68, 0.22, 0.18),
)
BRICK_WALL = Surface(
    base=(0.58, 0.40, 0.33), line=(0.62, 0.56, 0.50), alt=(0.52, 0.35, 0.30), cell=(0.5, 0.16), joint=0.02, vary=0.10,
    alt_share=0.3, grain=0.10, grain_size=0.8, plinth=0.4, plinth_colour=(0.46, 0.45, 0.43),
)
HEDGE = Surface(
    base=(0.24, 0.34, 0.17), line=(0.16, 0.24, 0.12), alt=(0.33, 0.43, 0.22), cell=(0.16, 0.13), joint=0.015, vary=0.30,
    alt_share=0.35, grain=0.55, grain_size=0.25, plinth=0.25, plinth_colour=(0.36, 0.32, 0.26), top=1.9,
    top_colour=(0.62, 0.68, 0.70),
)
PANELS = Surface(
    base=(0.78, 0.77, 0.73), line=(0.60, 0.60, 0.58), alt=(0.45, 0.52, 0.58), cell=(1.1, 1.5), joint=0.05, vary=0.06,
    alt_share=0.3, grain=0.10, grain_size=1.0, plinth=0.5, plinth_colour=(0.55, 0.50, 0.46),
)
KIOSK = Surface(
    base=(0.30, 0.48, 0.52), line=(0.80, 0.80, 0.76), alt=(0.75, 0.66, 0.36), cell=(0.8, 0.9), joint=0.06, vary=0.12,
    alt_share=0.3, grain=0.3, grain_size=0.3, plinth=0.9, plinth_colour=(0.70, 0.70, 0.68), top=2.3,
    top_colour=(0.86, 0.86, 0.82),
)
FENCE = Surface(
    base=(0.50, 0.56, 0.50), line=(0.26, 0.30, 0.29), alt=(0.44, 0.52, 0.42), cell=(0.22, 1.3), joint=0.05, vary=0.10,
    alt_share=0.4, grain=0.4, grain_size=0.6, plinth=0.3, plinth_colour=(0.52, 0.50, 0.47), top=2.6,
    top_colour=(0.42, 0.50, 0.36),
)

CAMERAS = (
    Camera(  # 1: the shop front, seen from under its lamp
        height=2.7, pitch=9.0, near=5.0, far=10.0, spread=0.22, headings=(90.0, 270.0, 60.0),
        ground=PAVING, far_ground=LIGHT_SLABS, ground_line=(9.5, 8.0), walls=(Wall(12.5, 8.0, SHOP), Wall(30.0, -50.0, HEDGE)),
        things=(
            Thing("bin", -2.6, 10.6, colour=(0.25, 0.42, 0.30)), Thing("box", 1.6, 11.3, 10, 1.2, (0.70, 0.35, 0.25)),
            Thing("pole", 0.3, 11.2, colour=(0.55, 0.55, 0.56)), Thing("box", -0.9, 11.4, 5, 0.8, (0.85, 0.80, 0.55)),
        ),
        gains=(1.04, 1.00, 0.95), contrast=1.05, saturation=1.00, exposure=1.00, blur=0.75, coarse=0.05, noise=0.012,
        quality=(82, 92), sun=-60.0, sun_share=0.5, popularity=1.15,
    ),
    Camera(  # 2: along the hedge
        height=2.4, pitch=7.0, near=5.0, far=9.5, spread=0.2, headings=(180.0, 0.0, 150.0),
        ground=ASPHALT, far_ground=GRASS, ground_line=(11.0, -20.0), walls=(Wall(14.5, -25.0, HEDGE), Wall(17.0, 40.0, FENCE)),
        things=(
            Thing("bike", -2.2, 11.0, 70, 1.0, (0.55, 0.15, 0.15)), Thing("bike", -1.5, 11.2, 75, 1.0, (0.2, 0.2, 0.25)),
            Thing("pole", 2.2, 11.0, colour=(0.35, 0.35, 0.36)), Thing("bike", -0.7, 11.5, 70, 1.0, (0.15, 0.3, 0.5)),
        ),
        gains=(0.95, 1.01, 1.04), contrast=0.95, saturation=0.88, exposure=0.95, blur=0.8, coarse=0.1, noise=0.016,
        quality=(78, 90), sun=40.0, sun_share=0.4, popularity=0.85,
    ),
    Camera(  # 3: the brick wall of the canteen
        height=3.0, pitch=12.0, near=5.5, far=10.5, spread=0.22, headings=(270.0, 90.0, 225.0),
        ground=BRICK_PATH, far_ground=ASPHALT, ground_line=(10.5, 0.0), walls=(Wall(13.0, 0.0, BRICK_WALL), Wall(15.5, 55.0, PANELS)),
        things=(
            Thing("bin", 2.4, 12.0, colour=(0.30, 0.36, 0.50)), Thing("car", -3.0, 11.6, 90, 1.0, (0.72, 0.73, 0.74)),
            Thing("pole", -0.4, 12.0, colour=(0.70, 0.68, 0.60)),
        ),
        gains=(1.00, 0.99, 1.02), contrast=1.10, saturation=1.08, exposure=1.06, blur=0.65, coarse=0.0, noise=0.010,
        quality=(84, 93), sun=120.0, sun_share=0.6, popularity=1.1,
    ),
    Camera(  # 4: the kiosk, close
        height=2.3, pitch=8.0, near=4.5, far=7.5, spread=0.2, headings=(135.0, 315.0, 180.0),
        ground=LIGHT_SLABS, far_ground=PAVING, ground_line=(7.8, 15.0), walls=(Wall(9.5, 12.0, KIOSK), Wall(16.0, -45.0, PANELS)),
        things=(
            Thing("box", -1.8, 8.6, 15, 1.0, (0.50, 0.40, 0.28)), Thing("box", 1.9, 8.9, 0, 1.1, (0.80, 0.82, 0.84)),
            Thing("bin", 0.7, 9.0, colour=(0.45, 0.45, 0.42)),
        ),
        gains=(1.02, 1.01, 0.97), contrast=0.92, saturation=0.92, exposure=1.10, blur=0.7, coarse=0.05, noise=0.013,
        quality=(80, 92), sun=-130.0, sun_share=0.4, popularity=0.65,
    ),
    Camera(  # 5: the parked bicycles
        height=3.2, pitch=12.0, near=6.0, far=11.5, spread=0.22, headings=(0.0, 180.0, 30.0),
        ground=PAVING, far_ground=ASPHALT, ground_line=(12.0, 5.0), walls=(Wall(15.0, -5.0, PANELS), Wall(18.0, 50.0, HEDGE)),
        things=tuple(
            Thing("bike", -3.0 + 0.85 * i, 12.8 + 0.1 * (i % 2), 20 + 7 * (i % 3), 1.0, colour)
            for i, colour in enumerate((
                (0.2, 0.2, 0.22), (0.45, 0.12, 0.14), (0.5, 0.5, 0.52), (0.15, 0.22, 0.40), (0.2, 0.35, 0.25),
                (0.25, 0.25, 0.25), (0.6, 0.5, 0.2),
            ))
        ),
        gains=(0.97, 1.00, 1.02), contrast=1.00, saturation=0.95, exposure=0.98, blur=0.8, coarse=0.15, noise=0.015,
        quality=(78, 90), sun=10.0, sun_share=0.5, popularity=1.0,
    ),
    Camera(  # 6: the old camera of low resolution at the gate
        height=2.8, pitch=9.0, near=5.5, far=11.0, spread=0.22, headings=(180.0, 0.0, 210.0),
        ground=ASPHALT, far_ground=PAVING, ground_line=(10.0, -10.0), walls=(Wall(14.0, -12.0, FENCE), Wall(15.0, 45.0, BRICK_WALL)),
        things=(
            Thing("car", 3.2, 12.4, 80, 1.0, (0.30, 0.32, 0.36)), Thing("pole", -1.6, 11.5, colour=(0.45, 0.45, 0.42)),
            Thing("bin", 0.9, 12.0, colour=(0.55, 0.30, 0.22)),
        ),
        gains=(1.05, 1.00, 0.92), contrast=0.90, saturation=0.82, exposure=0.96, blur=1.0, coarse=0.5, noise=0.022,
        quality=(68, 84), sun=70.0, sun_share=0.3, popularity=1.2,
    ),
)

PALETTE = Palette(
    colours=(
        ("white", (0.90, 0.90, 0.88)), ("cream", (0.85, 0.80, 0.68)), ("light grey", (0.66, 0.66, 0.66)),
        ("grey", (0.46, 0.46, 0.47)), ("dark grey", (0.28, 0.28, 0.29)), ("black", (0.14, 0.14, 0.15)),
        ("navy", (0.17, 0.20, 0.34)), ("blue", (0.23, 0.36, 0.60)), ("light blue", (0.55, 0.68, 0.82)),
        ("denim", (0.28, 0.36, 0.49)), ("light denim", (0.46, 0.55, 0.66)), ("red", (0.70, 0.20, 0.20)),
        ("dark red", (0.45, 0.16, 0.20)), ("pink", (0.85, 0.58, 0.64)), ("orange", (0.82, 0.48, 0.22)),
        ("yellow", (0.85, 0.76, 0.32)), ("green", (0.27, 0.48, 0.33)), ("light green", (0.62, 0.74, 0.48)),
        ("olive", (0.38, 0.38, 0.26)), ("khaki", (0.62, 0.55, 0.42)), ("brown", (0.38, 0.27, 0.21)),
        ("purple", (0.42, 0.29, 0.50)),
    ),
    upper=(
        ("white", 20), ("black", 14), ("grey", 8), ("light grey", 7), ("dark grey", 6), ("navy", 7), ("blue", 8),
        ("light blue", 6), ("red", 7), ("dark red", 3), ("pink", 5), ("orange", 2.5), ("yellow", 4), ("green", 3.5),
        ("light green", 2.5), ("purple", 3), ("khaki", 2.5), ("cream", 4), ("olive", 2), ("brown", 1.5),
    ),
    lower=(
        ("black", 20), ("denim", 18), ("navy", 10), ("dark grey", 11), ("light denim", 9), ("grey", 6), ("khaki", 8),
        ("white", 4), ("cream", 3), ("olive", 3), ("brown", 3), ("red", 1.5), ("pink", 1.5), ("light blue", 2),
    ),
    shoes=(
        ("white", 22), ("black", 24), ("grey", 12), ("brown", 10), ("navy", 6), ("red", 5), ("blue", 5), ("cream", 6),
        ("pink", 3), ("yellow", 2),
    ),
    bags=(
        ("black", 26), ("dark grey", 10), ("navy", 10), ("blue", 8), ("red", 8), ("brown", 9), ("khaki", 6), ("grey", 8),
        ("pink", 5), ("purple", 4), ("green", 4), ("cream", 4), ("orange", 2), ("white", 3),
    ),
    hats=(("white", 8), ("black", 8), ("red", 4), ("blue", 5), ("khaki", 5), ("cream", 5), ("pink", 3), ("grey", 3)),
    hair=(((0.10, 0.09, 0.09), 62), ((0.17, 0.12, 0.10), 22), ((0.30, 0.20, 0.13), 10), ((0.45, 0.44, 0.43), 5), ((0.52, 0.40, 0.24), 2)),
    skin=(((0.84, 0.66, 0.56), 40), ((0.78, 0.59, 0.48), 34), ((0.68, 0.50, 0.40), 18), ((0.50, 0.36, 0.29), 7)),
    jitter=0.035,
)

WARDROBE = Wardrobe(
    upper=(("tee", 46), ("sleeveless", 7), ("long", 17), ("jacket", 14), ("hoodie", 7), ("coat", 5), ("polo", 9)),
    upper_pattern=(
        ("plain", 38), ("stripes", 12), ("vertical", 5), ("checks", 9), ("dots", 6), ("print", 16), ("halves", 6),
        ("diagonal", 4), ("side", 7),
    ),
    lower_man=(("trousers", 56), ("shorts", 36), ("wide", 8)),
    lower_woman=(("trousers", 34), ("shorts", 22), ("skirt", 16), ("dress", 15), ("tights", 9), ("wide", 4)),
    lower_pattern=(("plain", 74), ("side", 9), ("checks", 5), ("stripes", 3), ("dots", 3), ("halves", 6)),
    hair_man=(("short", 84), ("bald", 7), ("long", 2), ("bun", 1)),
    hair_woman=(("long", 36), ("ponytail", 32), ("bun", 11), ("bob", 21)),
    hat=(("none", 88), ("cap", 8), ("sunhat", 4)),
    bag=(("none", 40), ("backpack", 32), ("shoulder", 17), ("handbag", 11)),
    carried=(("none", 72), ("plastic", 14), ("books", 6), ("bottle", 5), ("umbrella", 3)),
)

MARKET1501 = Domain(
    name="market1501",
    sizes=Sizes(
        train_identities=751, train_images=12936, train_pairs=3262, test_identities=750, query_images=3368,
        gallery_images=13115, junk_images=3819, distractor_images=2798, tight_images=25259,
    ),
    cameras=CAMERAS,
    palette=PALETTE,
    wardrobe=WARDROBE,
    rates=Rates(
        occluded=0.07, company=0.10, standing=0.08, shift=0.035, grow=(0.98, 1.16), heading_track=16.0,
        heading_image=6.0, light=0.18, second_walk=0.35, patch=0.45,
    ),
    sequences=6,
)
