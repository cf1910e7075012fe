"""Which images a stand-in holds: people, cameras, moments. Names and folders are in `layouts.py`."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from .domain import Domain, Sizes

MOST_MOMENTS = 40
Pair = tuple[int, int]


class ImageSpec(NamedTuple):
    """One image to make."""

    folder: str
    name: str  # within the folder
    kind: str  # person, junk or distractor
    identity: int  # the person's number in the domain; -1 junk, 0 distractor
    camera: int  # from 1, as film
    moment: int  # number of the image within its identity and camera (all junk, all distractors)
    walk: int  # number of the person's walk past the camera
    film: int
    tight: bool  # a hand-drawn box instead of a detector's

    @property
    def path(self) -> str:
        """The image's path from the root."""
        return f"{self.folder}/{self.name}"


class Population(NamedTuple):
    """Who passes which camera how often: images of each (identity, camera) pair; `others` are in neither split."""

    train: dict[Pair, int]
    test: dict[Pair, int]
    others: list[int]


def plan(domain: Domain, scale: float, seed: int) -> list[ImageSpec]:
    """Every image of the stand-in, in the order of folder and name."""
    return sorted(domain.layout.images(domain, scale, seed), key=lambda spec: (spec.folder, spec.name))


def scaled(number: int, scale: float, least: int = 0) -> int:
    """A published number at a scale; at scale 1 the number itself."""
    return max(least, round(number * scale))


TESTED_IDENTITIES, TESTED_IMAGES = 3_000, 22_000
"""Size of the test part below scale 1, to be multiplied by the scale: 150 identities and 1,100 images at 0.05.

A difference between two rows varies from identity to identity, so the number of identities decides how small a
difference can be seen; the number of images decides how long a test takes. 1,100 images take a ResNet-50 at 256x128
less than 60 s on one processor core (about 20 images a second in bf16).
"""
MOST_QUERIES = 0.3
"""Share of the images of a test part that may be queries, unless two for each identity are more."""


class Tested(NamedTuple):
    """The test part at a scale: its identities, its queries, and the share of the published gallery."""

    identities: int
    queries: int
    gallery: float


def tested(sizes: Sizes, scale: float) -> Tested:
    """How large the test part is: as published at scale 1, below that with fewer images of more identities.

    Its gallery keeps the published shares of people, junk and distractors.
    """
    if scale >= 1:
        return Tested(sizes.test_identities, sizes.query_images, 1.0)
    identities = min(sizes.test_identities, scaled(TESTED_IDENTITIES, scale, 4))
    images = scaled(TESTED_IMAGES, scale)
    published = scaled(sizes.query_images, identities / sizes.test_identities)
    queries = max(2 * identities, min(published, scaled(images, MOST_QUERIES)))
    return Tested(identities, queries, min(1.0, max(0.0, (images - queries) / sizes.whole_gallery)))


def counts(sizes: Sizes, scale: float) -> dict[str, int]:
    """Images of both parts at a scale, with "identities" and "tested identities": what `plan` lists, nearly.

    The hand-drawn second boxes of a set are not counted.
    """
    part = tested(sizes, scale)
    return {
        "identities": scaled(sizes.train_identities, scale, 4),
        "train": scaled(sizes.train_images, scale, 4),
        "tested identities": part.identities,
        "query": part.queries,
        "gallery": scaled(sizes.whole_gallery, part.gallery, part.queries),
    }


def population(domain: Domain, scale: float, seed: int, others: int = 0) -> Population:
    """Draw who belongs to which split and passes which cameras.

    Every test identity has one query in each of its cameras and at least one gallery image there, and every identity
    at least two cameras; so each query has a match in another one, at any scale. Identities are numbered from 1,
    in no order of split.
    """
    sizes = domain.sizes
    train_many, (test_many, queries, gallery) = scaled(sizes.train_identities, scale, 4), tested(sizes, scale)
    random = domain.stream(seed, "plan")
    identities = list(range(1, train_many + test_many + others + 1))
    random.shuffle(identities)
    train, test = sorted(identities[:train_many]), sorted(identities[train_many : train_many + test_many])
    train_pairs = _pairs(random, domain, train, scaled(sizes.train_pairs, scale, 2 * train_many))
    test_pairs = _pairs(random, domain, test, queries)
    split = []
    parts = ((train_pairs, sizes.train_images, scale), (test_pairs, sizes.gallery_images, gallery))
    for pairs, images, share in parts:
        # At least one image for each pair; most get a few, some many, as in the real sets.
        weights = [0.25 - math.log(1.0 - random.random()) for _ in pairs]
        split.append(dict(zip(pairs, apportion(weights, scaled(images, share, len(pairs))), strict=True)))
    return Population(*split, identities[train_many + test_many :])


def _pairs(random: Random, domain: Domain, identities: list[int], total: int) -> list[Pair]:
    """(identity, camera) pairs, `total` of them, at least two cameras for each identity."""
    cameras = len(domain.cameras)
    seen = [2] * len(identities)
    missing = min(total, cameras * len(identities)) - sum(seen)
    while missing > 0:
        who = random.randrange(len(seen))
        if seen[who] < cameras:
            seen[who] += 1
            missing -= 1
    pairs = []
    for identity, many in zip(identities, seen, strict=True):
        # Exponential keys draw without replacement in proportion to the cameras' popularity.
        keys = [-math.log(1.0 - random.random()) / camera.popularity for camera in domain.cameras]
        order = sorted(range(cameras), key=keys.__getitem__)[:many]
        pairs += [(identity, camera + 1) for camera in sorted(order)]
    return pairs


def apportion(weights: Sequence[float], total: int) -> list[int]:
    """Whole numbers of at least 1 in proportion to the weights that sum to `total` (largest remainders first)."""
    spare, whole = total - len(weights), sum(weights)
    exact = [spare * weight / whole for weight in weights]
    shares = [1 + math.floor(part) for part in exact]
    order = sorted(range(len(weights)), key=lambda i: (math.floor(exact[i]) - exact[i], i))
    for i in order[: total - sum(shares)]:
        shares[i] += 1
    return shares


def moment_of(domain: Domain, seed: int, pair: Pair, moment: int) -> tuple[int, int, int]:
    """When (identity, camera) is filmed for the `moment`-th time: number of the walk (0 or 1), film (from 1), frame."""
    films, starts, turn = _visits(domain, seed, pair)
    walk = int(moment % MOST_MOMENTS >= turn)
    return walk, films[walk] + 1, starts[walk] + 25 * moment


@functools.lru_cache(maxsize=1024)
def _visits(domain: Domain, seed: int, pair: Pair) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Films and first frames of a person's two walks past a camera, and the moment at which the second begins."""
    identity, camera = pair
    random = domain.stream(seed, "frames", identity, camera)
    first = random.randrange(domain.sequences)
    second = (first + 1 + random.randrange(domain.sequences - 1)) % domain.sequences
    starts = (151 + 25 * random.randrange(3500), 151 + 25 * random.randrange(3500))
    returns, turn = random.random() < domain.rates.second_walk, 2 + random.randrange(6)
    return (first, second), starts, turn if returns else MOST_MOMENTS
