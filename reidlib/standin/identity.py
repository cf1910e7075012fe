"""Who a person is: body, clothes and things, drawn once from (domain, seed, identity) and kept in every image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from .domain import Colour, Domain, T


@dataclass(frozen=True)
class Garment:
    """A piece of clothing: its cut, two colours, its pattern and the pattern's three numbers (metres)."""

    cut: str
    colour: Colour
    second: Colour
    pattern: str
    numbers: tuple[float, float, float]


@dataclass(frozen=True)
class Person:
    """All that identifies a person. Heights in metres; `build` and the widths are relative, 1 is average."""

    height: float
    build: float
    shoulders: float
    hips: float
    woman: bool
    skin: Colour
    hair: str
    hair_colour: Colour
    hat: str
    hat_colour: Colour
    upper: Garment
    inner: Colour
    lower: Garment
    length: float
    shoes: Colour
    bag: str
    bag_colour: Colour
    bag_second: Colour
    bag_size: float
    side: int
    carried: str
    carried_colour: Colour
    stride: float
    swing: float
    lean: float


def pick(random: Random, choices: tuple[tuple[T, float], ...]) -> T:
    """One of the weighted choices, by a single number of the stream."""
    mark = random.random() * sum(weight for _, weight in choices)
    for value, weight in choices:
        mark -= weight
        if mark < 0:
            return value
    return choices[-1][0]


def between(random: Random, low: float, high: float) -> float:
    """A number from `low` to `high`. Built on `random()` alone, whose stream Python promises to keep."""
    return low + (high - low) * random.random()


def spread(random: Random, deviation: float) -> float:
    """A bell-shaped number around 0 (the sum of three uniform ones), never beyond three standard deviations."""
    return deviation * 2.0 * (random.random() + random.random() + random.random() - 1.5)


def jittered(random: Random, colour: Colour, amount: float) -> Colour:
    """The colour, a little brighter or darker and a little off in hue."""
    light = spread(random, amount)
    r, g, b = (min(0.95, max(0.04, part + light + spread(random, amount * 0.5))) for part in colour)
    return r, g, b


def draw_person(random: Random, domain: Domain) -> Person:
    """Draw a person from the domain's palette and wardrobe; the same stream gives the same person."""
    palette, wardrobe = domain.palette, domain.wardrobe
    colours = dict(palette.colours)

    def colour(choices: tuple[tuple[str, float], ...]) -> Colour:
        return jittered(random, colours[pick(random, choices)], palette.jitter)

    def contrasting(first: Colour, choices: tuple[tuple[str, float], ...]) -> Colour:
        # A pattern in the colour of its ground would be no pattern: the most different of three draws.
        draws = [colour(choices) for _ in range(3)]
        return max(draws, key=lambda c: sum(abs(x - y) for x, y in zip(c, first, strict=True)))

    woman = random.random() < 0.46
    skin = jittered(random, pick(random, palette.skin), 0.02)

    cut = pick(random, wardrobe.upper)
    first = colour(palette.upper)
    second = contrasting(first, palette.upper)
    pattern = pick(random, wardrobe.upper_pattern)
    upper = Garment(cut, first, second, pattern, _numbers(random, pattern))

    lower_cut = pick(random, wardrobe.lower_woman if woman else wardrobe.lower_man)
    lower = replace(upper, cut=lower_cut)
    if lower_cut != "dress":
        ground = colour(palette.lower)
        pattern = pick(random, wardrobe.lower_pattern)
        lower = Garment(lower_cut, ground, contrasting(ground, palette.upper), pattern, _numbers(random, pattern))

    bag_colour = colour(palette.bags)
    return Person(
        height=1.64 + spread(random, 0.05) if woman else 1.76 + spread(random, 0.06),
        build=1.0 + spread(random, 0.11),
        shoulders=(0.93 if woman else 1.05) + spread(random, 0.04),
        hips=(1.07 if woman else 0.97) + spread(random, 0.05),
        woman=woman,
        skin=skin,
        hair=pick(random, wardrobe.hair_woman if woman else wardrobe.hair_man),
        hair_colour=jittered(random, pick(random, palette.hair), 0.02),
        hat=pick(random, wardrobe.hat),
        hat_colour=colour(palette.hats),
        upper=upper,
        inner=contrasting(first, palette.upper),
        lower=lower,
        length=random.random(),
        shoes=colour(palette.shoes),
        bag=pick(random, wardrobe.bag),
        bag_colour=bag_colour,
        bag_second=contrasting(bag_colour, palette.bags),
        bag_size=between(random, 0.85, 1.2),
        side=1 if random.random() < 0.5 else -1,
        carried=pick(random, wardrobe.carried),
        carried_colour=colour(palette.upper),
        stride=between(random, 0.36, 0.52),
        swing=between(random, 0.2, 0.5),
        lean=between(random, 0.0, 0.08),
    )


def _numbers(random: Random, pattern: str) -> tuple[float, float, float]:
    """A pattern's numbers in metres: period, share of the second colour, offset (a print: half width, bottom, top)."""
    a, b, c = random.random(), random.random(), random.random()
    special = {
        "print": (0.07 + 0.06 * a, 0.24 + 0.06 * b, 0.42 + 0.05 * c),
        "halves": (0.18 + 0.22 * a, b, c),
        "diagonal": ((0.6 if b < 0.5 else -0.6) * (0.7 + 0.6 * a), 0.3 + 0.06 * c, 0.16 + 0.1 * c),
        "checks": (0.10 + 0.08 * a, b, c),
    }
    return special.get(pattern, (0.065 + 0.065 * a, 0.32 + 0.3 * b, c))
