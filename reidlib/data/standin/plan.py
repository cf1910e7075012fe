"""Which pictures a stand-in holds: identities, cameras, names. Nothing is rendered here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from .domain import Domain

TRAIN, TEST, QUERY, TIGHT = "bounding_box_train", "bounding_box_test", "query", "gt_bbox"
FOLDERS = (TRAIN, TEST, QUERY, TIGHT)
MOST_MOMENTS = 40


@dataclass(frozen=True)
class Shot:
    """One picture to make.

    `kind` is person, junk or distractor; `identity` the number in the name (-1 junk, 0 distractor); `camera` counts
    from 1; `moment` is the picture's number within its identity and camera (all junk, all distractors); `walk` the
    walk of the person before the camera it belongs to; `tight` a hand-drawn box instead of a detector's.
    """

    folder: str
    name: str
    kind: str
    identity: int
    camera: int
    moment: int
    walk: int
    tight: bool


def counts(domain: Domain, scale: float) -> dict[str, int]:
    """Pictures and identities of each part at the given scale; scale 1 gives the published numbers exactly."""
    sizes = domain.sizes

    def scaled(number: int, least: int) -> int:
        return max(least, round(number * scale))

    train_ids, test_ids = scaled(sizes.train_identities, 4), scaled(sizes.test_identities, 4)
    train_pairs = max(2 * train_ids, scaled(sizes.train_pairs, 0))
    pairs = max(2 * test_ids, scaled(sizes.query_images, 0))
    train = max(train_pairs, scaled(sizes.train_images, 0))
    matches = max(pairs, scaled(sizes.gallery_images, 0))
    return {
        "train_identities": train_ids,
        "test_identities": test_ids,
        "train_pairs": train_pairs,
        "train": train,
        "query": pairs,
        "matches": matches,
        "junk": scaled(sizes.junk_images, 4),
        "distractors": scaled(sizes.distractor_images, 4),
        "tight": max(train_pairs + pairs, scaled(sizes.tight_images, 0)),
    }


def plan(domain: Domain, scale: float, seed: int) -> list[Shot]:
    """Every picture of the stand-in, in the order of folder and name."""
    number = counts(domain, scale)
    random = Random(f"{seed}/plan")
    identities = list(range(1, number["train_identities"] + number["test_identities"] + 1))
    random.shuffle(identities)
    train, test = identities[: number["train_identities"]], identities[number["train_identities"] :]
    train_pairs = _pairs(random, domain, sorted(train), number["train_pairs"])
    test_pairs = _pairs(random, domain, sorted(test), number["query"])
    train_share = _shares(random, train_pairs, number["train"])
    test_share = _shares(random, test_pairs, number["matches"])
    both = dict(zip(train_pairs + test_pairs, train_share + test_share, strict=True))
    tight_share = _apportion([both[pair] for pair in both], number["tight"])

    shots = []
    for pairs, shares, folder in ((train_pairs, train_share, TRAIN), (test_pairs, test_share, TEST)):
        for pair, share in zip(pairs, shares, strict=True):
            shots += [_person(domain, seed, pair, moment, folder, False) for moment in range(share)]
    for pair, share in zip(both, tight_share, strict=True):
        shots += [_person(domain, seed, pair, moment, TIGHT, True) for moment in range(share)]
    # The query is a moment of its own, so that it is never a second cut of a picture in the gallery.
    shots += [
        _person(domain, seed, pair, max(share, extra), QUERY, True)
        for pair, share, extra in zip(test_pairs, test_share, tight_share[len(train_pairs) :], strict=True)
    ]
    for kind, identity, total in (("junk", -1, number["junk"]), ("distractor", 0, number["distractors"])):
        shots += [_stray(domain, seed, kind, identity, moment) for moment in range(total)]
    return sorted(shots, key=lambda shot: (shot.folder, shot.name))


def _pairs(random: Random, domain: Domain, identities: list[int], total: int) -> list[tuple[int, int]]:
    """(identity, camera) pairs, `total` of them, at least two cameras for each identity."""
    cameras = len(domain.cameras)
    seen = [2] * len(identities)
    total = min(total, cameras * len(identities))
    while sum(seen) < total:
        who = random.randrange(len(seen))
        if seen[who] < cameras:
            seen[who] += 1
    pairs = []
    for identity, many in zip(identities, seen, strict=True):
        # Exponential keys draw without replacement in proportion to the cameras' popularity.
        keys = [-math.log(1.0 - random.random()) / camera.popularity for camera in domain.cameras]
        order = sorted(range(cameras), key=keys.__getitem__)[:many]
        pairs += [(identity, camera + 1) for camera in sorted(order)]
    return pairs


def _shares(random: Random, pairs: list[tuple[int, int]], total: int) -> list[int]:
    """How many pictures each pair gets: at least one, most a few, some many, as in the real set."""
    weights = [0.25 - math.log(1.0 - random.random()) for _ in pairs]
    return _apportion(weights, total)


def _apportion(weights: list[float], total: int) -> list[int]:
    """Whole numbers of at least 1 in proportion to the weights that sum to `total` (largest remainders first)."""
    spare = total - len(weights)
    exact = [spare * weight / sum(weights) for weight in weights]
    shares = [1 + math.floor(part) for part in exact]
    order = sorted(range(len(weights)), key=lambda i: (math.floor(exact[i]) - exact[i], i))
    for i in order[: total - sum(shares)]:
        shares[i] += 1
    return shares


def _person(domain: Domain, seed: int, pair: tuple[int, int], moment: int, folder: str, tight: bool) -> Shot:
    identity, camera = pair
    random = Random(f"{seed}/frames/{identity}/{camera}")
    first_film = random.randrange(domain.sequences)
    second_film = (first_film + 1 + random.randrange(domain.sequences - 1)) % domain.sequences
    starts = [151 + 25 * random.randrange(3500) for _ in range(2)]
    returns, turn = random.random() < domain.rates.second_walk, 2 + random.randrange(6)
    walk = int(returns and moment % MOST_MOMENTS >= turn)
    film = second_film if walk else first_film
    box = 0 if tight else 1 + Random(f"{seed}/box/{identity}/{camera}/{moment}").randrange(4)
    name = f"{identity:04d}_c{camera}s{film + 1}_{starts[walk] + 25 * moment:06d}_{box:02d}.jpg"
    return Shot(folder, name, "person", identity, camera, moment, walk, tight)


def _stray(domain: Domain, seed: int, kind: str, identity: int, moment: int) -> Shot:
    random = Random(f"{seed}/{kind}/{moment}")
    camera = 1 + random.randrange(len(domain.cameras))
    film = 1 + random.randrange(domain.sequences)
    label = "-1" if identity < 0 else f"{identity:04d}"
    name = f"{label}_c{camera}s{film}_{151 + 25 * moment:06d}_{1 + random.randrange(9):02d}.jpg"
    return Shot(TEST, name, kind, identity, camera, moment, 0, False)
