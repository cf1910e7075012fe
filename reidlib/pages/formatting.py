"""How pages write numbers, and the names of papers and data sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reidlib.evaluation.statistics import Interval, Spread

PAPERS = {
    "safenet": "SafeNet",
    "mros": "MROS",
    "msgwdp": "MSGWDP",
    "fmn": "FMN",
    "hamr": "HAMR",
    "standins": "The study's own tables",
}
"""Papers in the order of the book; one that is not here comes after them under its own name."""

DATASETS = {"market1501": "Market-1501", "dukemtmc": "DukeMTMC-reID", "cuhk03": "CUHK03", "msmt17": "MSMT17"}


def paper_title(name: str) -> str:
    return PAPERS.get(name, name)


def in_order(names: Sequence[str]) -> list[str]:
    """Names of papers in the order of the book, each once."""
    places = list(PAPERS)
    return sorted(dict.fromkeys(names), key=lambda name: places.index(name) if name in places else len(places))


def number(value: float, *, sign: bool = False) -> str:
    """One decimal, a true minus sign; "–" where there is no value."""
    return "–" if np.isnan(value) else f"{value:{'+' if sign else ''}z,.1f}".replace("-", "−")


def count(value: int | None) -> str:
    """A whole number with commas; "–" where there is none."""
    return "–" if value is None else f"{value:,}"


def interval(value: Interval, *, sign: bool = False) -> str:
    """Its ends; one of a difference that would be shown as zero has a decimal more, which says on what side it lies."""
    low, high = (
        f"{end:+z.3f}".rstrip("0").replace("-", "−") if sign and 0.0005 < abs(end) < 0.05 else number(end, sign=sign)
        for end in (value.low, value.high)
    )
    return f"[{low}, {high}]"


def change(value: Interval) -> str:
    """A difference with its interval."""
    return f"{number(value.mean, sign=True)} {interval(value, sign=True)}"


def spread(value: Spread) -> str:
    """The mean, with the standard deviation where there are several values."""
    return number(value.mean) + (f" ± {value.sd:.1f}" if value.n > 1 else "")


def p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def plural(number_: int, word: str) -> str:
    """ "1 seed", "2 seeds"."""
    return f"{number_} {word}{'' if number_ == 1 else 's'}"
