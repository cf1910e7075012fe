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


def number(value: float, *, sign: bool = False, digits: int = 1) -> str:
    """One decimal or more, a true minus sign; "–" where there is no value."""
    return "–" if np.isnan(value) else f"{value:{'+' if sign else ''}z,.{digits}f}".replace("-", "−")


def count(value: int | None) -> str:
    """A whole number with commas; "–" where there is none."""
    return "–" if value is None else f"{value:,}"


def _decimals(difference: Interval) -> int:
    """Up to three where an end would be shown as zero: on what side of it an end lies is what counts."""
    ends, digits = (difference.low, difference.high), 1
    while digits < 3 and any(end and round(end, digits) == 0 for end in ends):
        digits += 1
    return digits


def interval(value: Interval, *, sign: bool = False) -> str:
    """Its ends. sign: it is one of a difference."""
    digits = _decimals(value) if sign else 1
    return f"[{', '.join(number(end, sign=sign, digits=digits) for end in (value.low, value.high))}]"


def difference(value: Interval) -> str:
    """A difference alone, with as many decimals as the ends of its interval."""
    return number(value.mean, sign=True, digits=_decimals(value))


def change(value: Interval) -> str:
    """A difference with its interval."""
    return f"{difference(value)} {interval(value, sign=True)}"


def spread(value: Spread) -> str:
    """The mean, with the standard deviation where there are several values."""
    return number(value.mean) + (f" ± {value.sd:.1f}" if value.n > 1 else "")


def p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def plural(number_: int, word: str) -> str:
    """ "1 seed", "2 seeds"."""
    return f"{number_} {word}{'' if number_ == 1 else 's'}"
