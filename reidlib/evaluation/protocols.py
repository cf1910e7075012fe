"""Test protocols by name (`protocols.toml`): which gallery images a query is ranked against, and what is right."""

import tomllib
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

from reidlib.spec import ReidError, check_choice


@dataclass(frozen=True)
class Protocol:
    """The rules of one test.

    draws: 0 for the whole gallery. Else: for every camera that queries come from, one gallery image of each identity is
    drawn at random among those of the other cameras; repeated so often and averaged."""

    name: str  #: what the command line and the records call it
    title: str  #: what captions print
    junk: tuple[int, ...] = ()  #: identities whose gallery images are ignored for every query: neither right nor wrong
    distractors: tuple[int, ...] = ()  #: identities whose gallery images are wrong answers for every query
    ignore_same_camera: bool = True  #: ignore an image of the query's own identity and camera (the same moment)
    multi_query: bool = False  #: each query is the mean of the features of its identity in its camera
    draws: int = 0

    def __post_init__(self) -> None:
        for name in ("junk", "distractors"):  # lists in the file
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if both := set(self.junk) & set(self.distractors):
            raise ReidError(f"protocol {self.name}: identity {min(both)} is both junk and distractor; choose one")
        if self.draws < 0:
            raise ReidError(f"protocol {self.name}: draws={self.draws}; give 0 (the whole gallery) or more")


_FILE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
_PLAIN = {name: Protocol(name, **given) for name, given in _FILE.items()}
MARKET1501_SINGLE_QUERY, MARKET1501_MULTI_QUERY = _PLAIN["market1501-single-query"], _PLAIN["market1501-multi-query"]

DOMAINS = {
    "market": ("Market-1501", MARKET1501_SINGLE_QUERY),
    "duke": ("DukeMTMC-reID", _PLAIN["dukemtmc-single-query"]),
    "cuhk03": ("CUHK03", _PLAIN["cuhk03-new"]),
    "msmt17": ("MSMT17", _PLAIN["msmt17"]),
}
"""The short names of which cross-domain pairs are made (`market-to-duke`), as results/reported.tsv writes them."""


_PAIRS = (
    replace(rules, name=f"{source}-to-{target}", title=f"trained on {title}, tested on {rules.title}")
    for (source, (title, _)), (target, (_, rules)) in permutations(DOMAINS.items(), 2)
)
PROTOCOLS = _PLAIN | {pair.name: pair for pair in _PAIRS}
"""All protocols by name; a cross-domain one has the rules of the data set that is tested."""


def protocol(name: str) -> Protocol:
    """The protocol of this name, else a ReidError."""
    check_choice("evaluation", "protocol", name, list(PROTOCOLS))
    return PROTOCOLS[name]
