"""Test protocols by name: which gallery images a query is ranked against, and what counts as right.

A protocol is data; `ranking.evaluate` obeys it, records and captions print its `title`. A new one is a new object here.
"""

from __future__ import annotations

from dataclasses import dataclass

from reidlib.spec import ReidError

METRICS = ("euclidean on L2-normalised",)


@dataclass(frozen=True)
class Protocol:
    """The rules of one test.

    name                what the command line and the records call it
    title               what captions print
    metric              how two descriptors are compared (one of METRICS)
    junk                identities whose gallery images are ignored for every query: neither right nor wrong
    distractors         identities whose gallery images are wrong answers for every query
    ignore_same_camera  ignore a gallery image of the query's own identity and camera (the same moment, too easy)
    """

    name: str
    title: str
    metric: str = METRICS[0]
    junk: tuple[int, ...] = (-1,)
    distractors: tuple[int, ...] = (0,)
    ignore_same_camera: bool = True

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ReidError(f"protocol {self.name}: metric {self.metric!r} is unknown; choose of {', '.join(METRICS)}")
        if both := set(self.junk) & set(self.distractors):
            raise ReidError(f"protocol {self.name}: identity {min(both)} is both junk and distractor; choose one")


MARKET1501_SINGLE_QUERY = Protocol(
    name="market1501-single-query",
    title="Market-1501, single query: junk (−1) and the query's own camera ignored, distractors (0) wrong",
)

PROTOCOLS = {protocol.name: protocol for protocol in (MARKET1501_SINGLE_QUERY,)}


def protocol(name: str) -> Protocol:
    """The protocol called `name`. Raises ReidError for an unknown one."""
    if name not in PROTOCOLS:
        raise ReidError(f"protocol {name!r} is unknown; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
