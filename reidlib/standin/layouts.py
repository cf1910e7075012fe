"""The layouts of the data sets: folders, file names, which images there are, and the files beside them.

One data set after the other, one entry in `LAYOUTS` at the end.
"""

from __future__ import annotations

import io
from collections import Counter
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

    @property
    def whole_gallery(self) -> int:
        return self.gallery_images + self.junk_images + self.distractor_images


def market_images(domain: Domain[MarketSizes], scale: float, seed: int) -> list[ImageSpec]:
    """The images of all four folders."""
    sizes, people = domain.sizes, population(domain, scale, seed)
    both = people.train | people.test
    shares = apportion(list(both.values()), scaled(sizes.tight_images, scale, len(both)))
    tight = dict(zip(both, shares, strict=True))
    specs = [
        _market_person(domain, seed, pair, moment, folder)
        for folder, parts in ((TRAIN, people.train), (TEST, people.test), (TIGHT, tight))
        for pair, many in parts.items()
        for moment in range(many)
    ]
    # The query is a moment of its own, so that it is never a second box of an image in the gallery.
    specs += [_market_person(domain, seed, pair, max(many, tight[pair]), QUERY) for pair, many in people.test.items()]
    for kind, identity, total in (("junk", -1, sizes.junk_images), ("distractor", 0, sizes.distractor_images)):
        many = scaled(total, tested(sizes, scale).gallery, 4)
        specs += [_market_other(domain, seed, kind, identity, moment) for moment in range(many)]
    return specs


def _market_person(domain: Domain, seed: int, pair: Pair, moment: int, folder: str) -> ImageSpec:
    identity, camera = pair
    tight, (walk, film, frame) = folder in (QUERY, TIGHT), moment_of(domain, seed, pair, moment)
    box = 0 if tight else 1 + domain.stream(seed, "box", identity, camera, moment).randrange(4)
    name = f"{identity:04d}_c{camera}s{film}_{frame:06d}_{box:02d}.jpg"
    return ImageSpec(folder, name, "person", identity, camera, moment, walk, film, tight)


def _market_other(domain: Domain, seed: int, kind: str, identity: int, moment: int) -> ImageSpec:
    random = domain.stream(seed, kind, moment)
    camera = 1 + random.randrange(len(domain.cameras))
    film = 1 + random.randrange(domain.sequences)
    label = "-1" if identity < 0 else f"{identity:04d}"
    name = f"{label}_c{camera}s{film}_{151 + 25 * moment:06d}_{1 + random.randrange(9):02d}.jpg"
    return ImageSpec(TEST, name, kind, identity, camera, moment, 0, film, False)


def people_images(domain: Domain, scale: float, seed: int) -> list[ImageSpec]:
    """Market-1501's names and folders for people alone: no junk, no distractors, no second boxes."""
    people = population(domain, scale, seed)
    specs = [
        _market_person(domain, seed, pair, moment, folder)
        for folder, parts in ((TRAIN, people.train), (TEST, people.test))
        for pair, many in parts.items()
        for moment in range(many)
    ]
    return specs + [_market_person(domain, seed, pair, many, QUERY) for pair, many in people.test.items()]


FILM_FRAMES = 45_000


@dataclass(frozen=True)
class DukeSizes(Sizes):
    """Besides: people of the gallery whom one camera alone saw, numbered like all others and without a query."""

    distractor_identities: int
    distractor_images: int

    @property
    def whole_gallery(self) -> int:
        return self.gallery_images + self.distractor_images


def duke_images(domain: Domain[DukeSizes], scale: float, seed: int) -> list[ImageSpec]:
    """The images of the three folders."""
    sizes, share = domain.sizes, tested(domain.sizes, scale).gallery
    people = population(domain, scale, seed, scaled(sizes.distractor_identities, share, 2))
    random = domain.stream(seed, "strangers")
    strangers = [(identity, 1 + random.randrange(len(domain.cameras))) for identity in sorted(people.others)]
    weights = [0.25 + random.random() for _ in strangers]
    alone = apportion(weights, scaled(sizes.distractor_images, share, len(strangers)))
    gallery = people.test | dict(zip(strangers, alone, strict=True))
    specs = [
        _duke_person(domain, seed, pair, moment, folder)
        for folder, shares in ((TRAIN, people.train), (TEST, gallery))
        for pair, many in shares.items()
        for moment in range(many)
    ]
    return specs + [_duke_person(domain, seed, pair, many, QUERY) for pair, many in people.test.items()]


def _duke_person(domain: Domain, seed: int, pair: Pair, moment: int, folder: str) -> ImageSpec:
    (identity, camera), (walk, film, frame) = pair, moment_of(domain, seed, pair, moment)
    # Frames count through all films of a camera.
    name = f"{identity:04d}_c{camera}_f{FILM_FRAMES * 2 * film + frame:07d}.jpg"
    return ImageSpec(folder, name, "person", identity, camera, moment, walk, film, False)


LABELED, DETECTED = "labeled", "detected"
CUHK_FOLDERS = tuple(f"{boxes}/{folder}" for boxes in (LABELED, DETECTED) for folder in (TRAIN, QUERY, TEST))
TESTSETS = "testsets.mat"
MOST_PER_VIEW = 5
CLASSIC_PAIRS = 3
Moments = list[tuple[Pair, int]]


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
    known = _cuhk_moments(random, train, 0, MOST_PER_VIEW, scaled(sizes.train_images, scale))
    # The first moment of a test view is the query.
    gallery = _cuhk_moments(
        random, test, 1, MOST_PER_VIEW - 1, scaled(sizes.gallery_images, tested(sizes, scale).gallery)
    )
    missing = []
    for boxes, moments, few in ((LABELED, gallery, sizes.gallery_unlabeled), (DETECTED, known, sizes.train_undetected)):
        late = [(view, moment) for view, moment in moments if moment > 1]  # never the first two of a view
        missing.append((boxes, set(random.sample(late, min(len(late), scaled(few, scale))))))
    return [
        _cuhk_person(domain, seed, pair, moment, folder, boxes)
        for boxes, without in missing
        for folder, moments in ((TRAIN, known), (QUERY, [(pair, 0) for pair in test]), (TEST, gallery))
        for pair, moment in moments
        if (pair, moment) not in without
    ]


def _cuhk_moments(random: Random, views: list[Pair], first: int, most: int, total: int) -> Moments:
    """Moments of all views, `total` of them if they can be so many: `most` a view, or a few less, but two at least."""
    shares = dict.fromkeys(views, most)
    spare = [view for view in views for _ in range(most - 2)]
    for view in random.sample(spare, min(len(spare), max(0, most * len(views) - total))):
        shares[view] -= 1
    return [(view, first + moment) for view, share in shares.items() for moment in range(share)]


def _cuhk_person(domain: Domain, seed: int, pair: Pair, moment: int, folder: str, boxes: str) -> ImageSpec:
    (identity, camera), (walk, film, _) = pair, moment_of(domain, seed, pair, moment)
    name = f"{identity:04d}_c{(camera - 1) % 2 + 1}_{moment + 1}.jpg"
    return ImageSpec(f"{boxes}/{folder}", name, "person", identity, camera, moment, walk, film, boxes == LABELED)


def cuhk_files(domain: Domain[CuhkSizes], scale: float, seed: int) -> dict[str, bytes]:
    """The classic protocol's test sets: rows (pair, person), of the first three pairs; and the persons of each pair."""
    import numpy as np
    from scipy.io import savemat

    sizes, counts = domain.sizes, cuhk_persons(domain, scale)
    everyone = [(pair + 1, person + 1) for pair in range(CLASSIC_PAIRS) for person in range(counts[pair])]
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
    people = population(domain, scale, seed)
    # The query is a moment of its own, after those of the gallery.
    seen = {MSMT_TRAIN: people.train, MSMT_TEST: {pair: many + 1 for pair, many in people.test.items()}}
    specs = []
    for folder, shares in seen.items():
        # The numbers in names count from 0 in either folder.
        labels = {identity: label for label, identity in enumerate(sorted({identity for identity, _ in shares}))}
        numbers: Counter[int] = Counter()
        for pair, many in shares.items():
            for moment in range(many):
                specs.append(_msmt_person(domain, seed, pair, moment, folder, labels[pair[0]], numbers[pair[0]]))
                numbers[pair[0]] += 1
    return specs


def _msmt_person(domain: Domain, seed: int, pair: Pair, moment: int, folder: str, label: int, number: int) -> ImageSpec:
    (identity, camera), (walk, film, frame) = pair, moment_of(domain, seed, pair, moment)
    day, time = divmod(film - 1, len(domain.lights))
    name = f"{label:04d}_{number:03d}_{camera:02d}_{DAYS[day]}{domain.lights[time].name}_{frame % 10_000:04d}_0.jpg"
    return ImageSpec(folder, f"{label:04d}/{name}", "person", identity, camera, moment, walk, film, False)


def msmt_files(domain: Domain[MsmtSizes], scale: float, seed: int) -> dict[str, bytes]:
    """The four lists of the release: lines of a path within train or test, and a label."""
    people, specs = population(domain, scale, seed), plan(domain, scale, seed)
    train = [spec for spec in specs if spec.folder == MSMT_TRAIN]
    # An identity's first image is never for validation, so that every identity is trained on.
    spare = [index for index, spec in enumerate(train) if spec.name.split("_")[1] != "000"]
    many = min(len(spare), scaled(domain.sizes.val_images, scale, 1))
    chosen = set(domain.stream(seed, "validation").sample(spare, many))
    lines: dict[str, list[str]] = {file: [] for file in LISTS.values()}
    for index, spec in enumerate(train + [spec for spec in specs if spec.folder == MSMT_TEST]):
        if index < len(train):
            name = "val" if index in chosen else "train"
        else:
            name = "query" if spec.moment == people.test[spec.identity, spec.camera] else "gallery"
        lines[LISTS[name]].append(f"{spec.name} {int(spec.name[:4])}\n")
    return {file: "".join(some).encode() for file, some in lines.items()}


LAYOUTS: dict[str, Layout] = {
    "market1501": Layout(MarketSizes, (TRAIN, TEST, QUERY, TIGHT), market_images),
    "people": Layout(Sizes, (TRAIN, TEST, QUERY), people_images),
    "dukemtmc": Layout(DukeSizes, (TRAIN, TEST, QUERY), duke_images),
    "cuhk03": Layout(CuhkSizes, CUHK_FOLDERS, cuhk_images, (TESTSETS,), cuhk_files),
    "msmt17": Layout(MsmtSizes, (MSMT_TRAIN, MSMT_TEST), msmt_images, tuple(LISTS.values()), msmt_files),
}
"""The `layout` of a domain's file."""
