"""Test protocols by name: which gallery images a query is ranked against, and what counts as right.

A protocol is data; the evaluator obeys it, records and captions print its `title`. A new one is a new object here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from reidlib.spec import ReidError


@dataclass(frozen=True)
class Protocol:
    """The rules of one test.

    name                what the command line and the records call it
    title               what captions print
    junk                identities whose gallery images are ignored for every query: neither right nor wrong
    distractors         identities whose gallery images are wrong answers for every query
    ignore_same_camera  ignore a gallery image of the query's own identity and camera (the same moment, too easy)
    multi_query         each query is the mean of the features of its identity in its camera
    draws               0: the whole gallery. Else: for every camera that queries come from, one gallery image of each
                        identity is drawn at random among those of the other cameras; repeated so often and averaged
    """

    name: str
    title: str
    junk: tuple[int, ...] = ()
    distractors: tuple[int, ...] = ()
    ignore_same_camera: bool = True
    multi_query: bool = False
    draws: int = 0

    def __post_init__(self) -> None:
        if both := set(self.junk) & set(self.distractors):
            raise ReidError(f"protocol {self.name}: identity {min(both)} is both junk and distractor; choose one")
        if self.draws < 0:
            raise ReidError(f"protocol {self.name}: draws={self.draws}; give 0 (the whole gallery) or more")


MARKET1501_SINGLE_QUERY = Protocol(
    name="market1501-single-query",
    title="Market-1501, single query: junk (−1) and the query's own camera ignored, distractors (0) wrong",
    junk=(-1,),
    distractors=(0,),
)
"""Zheng et al., ICCV 2015."""

MARKET1501_MULTI_QUERY = replace(
    MARKET1501_SINGLE_QUERY,
    name="market1501-multi-query",
    title="Market-1501, multi-query: mean of the features of the query's identity in its camera; else as single query",
    multi_query=True,
)

# In the next three no identity is junk or a distractor by number: −1 does not occur, and where identities count from 0
# (MSMT17's lists), 0 is a person. DukeMTMC-reID's 408 distractor identities are ordinary ones that nobody asks for.

DUKEMTMC_SINGLE_QUERY = Protocol(
    name="dukemtmc-single-query",
    title="DukeMTMC-reID, single query: the query's own camera ignored, identities without a query wrong",
)
"""Zheng et al., ICCV 2017."""

CUHK03_NEW = Protocol(
    name="cuhk03-new",
    title="CUHK03, new protocol (767/700): whole gallery, the query's own camera ignored",
)
"""Zhong et al., CVPR 2017."""

MSMT17 = Protocol(name="msmt17", title="MSMT17: whole gallery, the query's own camera ignored")
"""Wei et al., CVPR 2018."""

CUHK03_CLASSIC = Protocol(
    name="cuhk03-classic",
    title="CUHK03, classic protocol (one of 20 splits, 100 test identities): one image of each identity from the other "
    "camera, drawn 100 times and averaged",
    # Assumed: the papers say "repeated"; 10 draws are usual in code, and 100 cost nothing and vary a third as much.
    draws=100,
)
"""Li et al., CVPR 2014. The mean and spread over the 20 splits is taken where splits are, among the runs."""

DOMAINS = {
    "market": ("Market-1501", MARKET1501_SINGLE_QUERY),
    "duke": ("DukeMTMC-reID", DUKEMTMC_SINGLE_QUERY),
    "cuhk03": ("CUHK03", CUHK03_NEW),
    "msmt17": ("MSMT17", MSMT17),
}
"""The short names of which cross-domain pairs are made (`market-to-duke`), as results/reported.tsv writes them."""


def cross_domain(source: str, target: str) -> Protocol:
    """Trained on one data set, tested on another under the other's rules. Raises ReidError for an unknown data set."""
    for name in (source, target):
        if name not in DOMAINS:
            raise ReidError(f"data set {name!r} is unknown; choose one of {', '.join(DOMAINS)}")
    if source == target:
        raise ReidError(f"a cross-domain test needs two data sets, not {source!r} twice; name another target")
    rules = DOMAINS[target][1]
    title = f"trained on {DOMAINS[source][0]}, tested on {rules.title}"
    return replace(rules, name=f"{source}-to-{target}", title=title)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        MARKET1501_SINGLE_QUERY,
        MARKET1501_MULTI_QUERY,
        DUKEMTMC_SINGLE_QUERY,
        CUHK03_CLASSIC,
        CUHK03_NEW,
        MSMT17,
        *(cross_domain(source, target) for source in DOMAINS for target in DOMAINS if source != target),
    )
}


def protocol(name: str) -> Protocol:
    """The protocol called `name`. Raises ReidError for an unknown one."""
    if name not in PROTOCOLS:
        plain = [known for known in PROTOCOLS if "-to-" not in known]
        pairs = f"or a pair such as market-to-duke (of {', '.join(DOMAINS)})"
        raise ReidError(f"protocol {name!r} is unknown; choose one of {', '.join(plain)}, {pairs}")
    return PROTOCOLS[name]
