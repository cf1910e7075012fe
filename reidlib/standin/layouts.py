"""The layouts of the data sets: folders, file names, which images there are, and the files beside them.

One data set after the other, one entry in `LAYOUTS` at the end.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from .domain import Domain, Layout, Sizes
from .plan import ImageSpec, Pair, apportion, moment_of, plan, population, scaled, tested

TRAIN, TEST, QUERY, TIGHT = "bounding_box_train", "bounding_box_test", "query", "gt_bbox"


@dataclass(frozen=True)
class MarketSizes(Sizes):
    """Besides: junk and distractors in the gallery's folder, and hand-drawn boxes of all people."""

    junk_images: int
    distractor_images: int
    tight_images: int


def market_images(domain: Domain[MarketSizes], scale: float, seed: int) -> list[ImageSpec]:
    """The images of all four folders."""
    sizes, people = domain.sizes, population(domain, scale, seed)
    both = people.train | people.test
    shares = apportion(list(both.values()), scaled(sizes.tight_images, scale, len(both)))
    tight = dict(zip(both, shares, strict=True))

    def other(kind: str, identity: int, label: str, moment: int) -> ImageSpec:
        random = domain.stream(seed, kind, moment)
        camera, film = 1 + random.randrange(len(domain.cameras)), 1 + random.randrange(domain.sequences)
        name = f"{label}_c{camera}s{film}_{151 + 25 * moment:06d}_{1 + random.randrange(9):02d}.jpg"
        return ImageSpec(TEST, name, kind, identity, camera, moment, 0, film, False)

    boxes, share = {TRAIN: people.train, TEST: people.test, TIGHT: tight}, tested(sizes, scale).gallery
    junk, distractors = (scaled(total, share, 4) for total in (sizes.junk_images, sizes.distractor_images))
    return [
        *(_market_person(domain, seed, *shot) for shot in _shots(boxes)),
        # The query is a moment of its own, so that it is never a second box of an image in the gallery.
        *(_market_person(domain, seed, QUERY, pair, max(many, tight[pair])) for pair, many in people.test.items()),
        *(other("junk", -1, "-1", moment) for moment in range(junk)),
        *(other("distractor", 0, "0000", moment) for moment in range(distractors)),
    ]


def people_images(domain: Domain, scale: float, seed: int) -> list[ImageSpec]:
    """Market-1501's names and folders for people alone: no junk, no distractors, no second boxes."""
    people = population(domain, scale, seed)
    shots = _shots({TRAIN: people.train, TEST: people.test})
    queries = ((QUERY, pair, many) for pair, many in people.test.items())
    return [_market_person(domain, seed, *shot) for shot in (*shots, *queries)]


def _market_person(domain: Domain, seed: int, folder: str, pair: Pair, moment: int) -> ImageSpec:
    tight, (walk, film, frame) = folder in (QUERY, TIGHT), moment_of(domain, seed, pair, moment)
    box = 0 if tight else 1 + domain.stream(seed, "box", *pair, moment).randrange(4)
    name = f"{pair[0]:04d}_c{pair[1]}s{film}_{frame:06d}_{box:02d}.jpg"
    return ImageSpec(folder, name, "person", *pair, moment, walk, film, tight)


def _shots(shares: dict[str, dict[Pair, int]]) -> Iterator[tuple[str, Pair, int]]:
    """Folder, (identity, camera) and moment of every image, from the number of images of each folder and pair."""
    for folder, own in shares.items():
        for pair, many in own.items():
            yield from ((folder, pair, moment) for moment in range(many))


@dataclass(frozen=True)
class DukeSizes(Sizes):
    """Besides: people of the gallery whom one camera alone saw, numbered like all others and without a query."""

    distractor_identities: int
    distractor_images: int


def duke_images(domain: Domain[DukeSizes], scale: float, seed: int) -> list[ImageSpec]:
    """The images of the three folders."""
    sizes, share = domain.sizes, tested(domain.sizes, scale).gallery
    people = population(domain, scale, seed, scaled(sizes.distractor_identities, share, 2))
    random = domain.stream(seed, "strangers")
    strangers = [(identity, 1 + random.randrange(len(domain.cameras))) for identity in sorted(people.others)]
    weights = [0.25 + random.random() for _ in strangers]
    alone = apportion(weights, scaled(sizes.distractor_images, share, len(strangers)))
    gallery = people.test | dict(zip(strangers, alone, strict=True))

    def person(folder: str, pair: Pair, moment: int) -> ImageSpec:
        walk, film, frame = moment_of(domain, seed, pair, moment)
        # Frames count through all films of a camera.
        name = f"{pair[0]:04d}_c{pair[1]}_f{90_000 * film + frame:07d}.jpg"
        return ImageSpec(folder, name, "person", *pair, moment, walk, film, False)

    queries = ((QUERY, pair, many) for pair, many in people.test.items())
    return [person(*shot) for shot in (*_shots({TRAIN: people.train, TEST: gallery}), *queries)]


LABELED, DETECTED = "labeled", "detected"
CUHK_FOLDERS = tuple(f"{boxes}/{folder}" for boxes in (LABELED, DETECTED) for folder in (TRAIN, QUERY, TEST))
TESTSETS = "testsets.mat"


@dataclass(frozen=True)
class CuhkSizes(Sizes):
    """Besides: how many `persons` each pair of cameras saw; moments of train and gallery without a box of one kind.

    `classic_sets` test sets of the classic protocol hold `classic_test` persons each.
    """

    persons: tuple[int, ...]
    train_undetected: int
    gallery_unlabeled: int
    classic_sets: int
    classic_test: int


def cuhk_persons(domain: Domain[CuhkSizes], scale: float) -> list[int]:
    """How many persons each pair of cameras saw; they are numbered pair after pair."""
    sizes = domain.sizes
    total = scaled(sizes.train_identities, scale, 8) + tested(sizes, scale).identities
    # At scale 1 the numbers themselves: `apportion` gives one person each, then the rest by these weights.
    return apportion([many - 1 for many in sizes.persons], total)


def cuhk_images(domain: Domain[CuhkSizes], scale: float, seed: int) -> list[ImageSpec]:
    """The images of all six folders: five moments of each view, or a few less."""
    sizes, random = domain.sizes, domain.stream(seed, "plan")
    counts = cuhk_persons(domain, scale)
    cameras = [(2 * pair + 1, 2 * pair + 2) for pair, many in enumerate(counts) for _ in range(many)]
    identities = list(range(1, len(cameras) + 1))
    random.shuffle(identities)
    many = scaled(sizes.train_identities, scale, 8)
    train, test = (
        [(identity, camera) for identity in sorted(part) for camera in cameras[identity - 1]]
        for part in (identities[:many], identities[many:])
    )
    known = _cuhk_moments(random, train, range(5), scaled(sizes.train_images, scale))
    # The first moment of a test view is the query.
    gallery = _cuhk_moments(random, test, range(1, 5), scaled(sizes.gallery_images, tested(sizes, scale).gallery))
    specs = []
    for boxes, moments, few in ((LABELED, gallery, sizes.gallery_unlabeled), (DETECTED, known, sizes.train_undetected)):
        late = [shot for shot in moments if shot[1] > 1]  # never the first two of a view
        missing = set(random.sample(late, min(len(late), scaled(few, scale))))
        for folder, shots in ((TRAIN, known), (QUERY, [(pair, 0) for pair in test]), (TEST, gallery)):
            for pair, moment in (shot for shot in shots if shot not in missing):
                walk, film, _ = moment_of(domain, seed, pair, moment)
                name = f"{pair[0]:04d}_c{(pair[1] - 1) % 2 + 1}_{moment + 1}.jpg"
                place = f"{boxes}/{folder}"
                specs.append(ImageSpec(place, name, "person", *pair, moment, walk, film, boxes == LABELED))
    return specs


def _cuhk_moments(random: Random, views: list[Pair], moments: range, total: int) -> list[tuple[Pair, int]]:
    """Moments of all views, `total` of them if they can be so many: all of a view, or a few less, but two at least."""
    most = len(moments)
    shares = dict.fromkeys(views, most)
    spare = [view for view in views for _ in range(most - 2)]
    for view in random.sample(spare, min(len(spare), max(0, most * len(views) - total))):
        shares[view] -= 1
    return [(view, moment) for view, share in shares.items() for moment in moments[:share]]


def cuhk_files(domain: Domain[CuhkSizes], scale: float, seed: int) -> dict[str, bytes]:
    """The classic protocol's test sets: rows (pair, person), of the first three pairs; and the persons of each pair."""
    import numpy as np
    from scipy.io import savemat

    sizes, counts = domain.sizes, cuhk_persons(domain, scale)
    everyone = [(pair, 1 + person) for pair in (1, 2, 3) for person in range(counts[pair - 1])]
    # Half the people at most, so that there is something left to train on at any scale.
    size = min(sizes.classic_test, len(everyone) // 2)
    sets = np.empty((sizes.classic_sets, 1), dtype=object)
    for number in range(sizes.classic_sets):
        random = domain.stream(seed, "classic", number)
        sets[number, 0] = np.array(sorted(random.sample(everyone, size)), dtype=np.float64)
    content = io.BytesIO()
    savemat(content, {"testsets": sets, "persons": np.array([counts], dtype=np.float64)})
    # The file begins with 116 bytes of free text, in which scipy writes the time of day: the same set, the same bytes.
    return {TESTSETS: b"MATLAB 5.0 MAT-file".ljust(116) + content.getvalue()[116:]}


MSMT_TRAIN, MSMT_TEST = "train", "test"
LISTS = {name: f"list_{name}.txt" for name in ("train", "val", "query", "gallery")}
DAYS = ("0113", "0211", "0302", "0303")


@dataclass(frozen=True)
class MsmtSizes(Sizes):
    """Besides: how many of the training images the release lists for validation."""

    val_images: int


def msmt_images(domain: Domain[MsmtSizes], scale: float, seed: int) -> list[ImageSpec]:
    """The images of both folders; queries and gallery share one."""
    people, specs = population(domain, scale, seed), []
    # The query is a moment of its own, after those of the gallery.
    seen = {MSMT_TRAIN: people.train, MSMT_TEST: {pair: many + 1 for pair, many in people.test.items()}}
    # The numbers in names count from 0 in either folder.
    labels = {folder: {who: i for i, who in enumerate(sorted({who for who, _ in seen[folder]}))} for folder in seen}
    numbers: Counter[tuple[str, int]] = Counter()
    for folder, (identity, camera), moment in _shots(seen):
        walk, film, frame = moment_of(domain, seed, (identity, camera), moment)
        label, number = labels[folder][identity], numbers[folder, identity]
        day, time = divmod(film - 1, len(domain.lights))
        taken = f"{DAYS[day]}{domain.lights[time].name}_{frame % 10_000:04d}"
        name = f"{label:04d}/{label:04d}_{number:03d}_{camera:02d}_{taken}_0.jpg"
        specs.append(ImageSpec(folder, name, "person", identity, camera, moment, walk, film, False))
        numbers[folder, identity] += 1
    return specs


def msmt_files(domain: Domain[MsmtSizes], scale: float, seed: int) -> dict[str, bytes]:
    """The four lists of the release: lines of a path within train or test, and a label."""
    people, specs = population(domain, scale, seed), plan(domain, scale, seed)
    # An identity's first image is never for validation, so that every identity is trained on.
    spare = [spec for spec in specs if spec.folder == MSMT_TRAIN and spec.name.split("_")[1] != "000"]
    many = min(len(spare), scaled(domain.sizes.val_images, scale, 1))
    chosen = set(domain.stream(seed, "validation").sample(spare, many))
    lines: dict[str, list[str]] = {name: [] for name in LISTS}
    for spec in specs:
        if spec.folder == MSMT_TRAIN:
            name = "val" if spec in chosen else "train"
        else:
            name = "query" if spec.moment == people.test[spec.identity, spec.camera] else "gallery"
        lines[name].append(f"{spec.name} {int(spec.name[:4])}\n")
    return {LISTS[name]: "".join(some).encode() for name, some in lines.items()}


LAYOUTS: dict[str, Layout] = {
    "market1501": Layout(MarketSizes, (TRAIN, TEST, QUERY, TIGHT), market_images),
    "people": Layout(Sizes, (TRAIN, TEST, QUERY), people_images),
    "dukemtmc": Layout(DukeSizes, (TRAIN, TEST, QUERY), duke_images),
    "cuhk03": Layout(CuhkSizes, CUHK_FOLDERS, cuhk_images, (TESTSETS,), cuhk_files),
    "msmt17": Layout(MsmtSizes, (MSMT_TRAIN, MSMT_TEST), msmt_images, tuple(LISTS.values()), msmt_files),
}
"""The `layout` of a domain's file."""
