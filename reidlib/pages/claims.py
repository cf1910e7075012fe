"""The page "Claims": every declared claim, the comparison that decides it, and what the records say of it today."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reidlib.data import cuhk03
from reidlib.evaluation import statistics
from reidlib.pages.formatting import in_order, paper_title
from reidlib.pages.render import Page, Piece, Strong, TableView, Text, heading, table
from reidlib.pages.tables import NOT_RUN, Decision, claim_cells, decide
from reidlib.runs.run import Runs
from reidlib.spec import Claim

VERDICTS = (*statistics.VERDICTS, NOT_RUN)
"""The columns of the count, in their order."""


@dataclass(frozen=True)
class Decided:
    """A claim on one data set, with what the records say of it."""

    claim: Claim
    dataset: str
    decision: Decision


def decided(declared: Sequence[Claim], read: Mapping[str, Sequence[Runs]]) -> list[Decided]:
    """Every claim on every data set of its table, claim by claim.

    read: the runs of each table by its slug, one `Runs` a data set. The claims of one table on one data set are
    decided together: they are the family of Holm's correction.
    """
    found = []
    for slug, sets in read.items():
        for runs in sets:
            dataset = runs.runs[0].dataset
            own = [claim for claim in declared if claim.of(slug, dataset)]
            found += [Decided(claim, dataset, said) for claim, said in zip(own, decide(runs, own), strict=True)]
    return sorted(found, key=lambda entry: declared.index(entry.claim))


def counts(found: Sequence[Decided]) -> TableView:
    """Verdicts by paper; a claim counts once for each data set of its table."""
    papers = in_order([entry.claim.paper for entry in found])
    parts = {paper_title(name): [entry for entry in found if entry.claim.paper == name] for name in papers}
    lines = []
    for title, own in {**parts, "all": found}.items():
        verdicts = Counter(entry.decision.verdict for entry in own)
        lines.append([title, len({entry.claim for entry in own}), len(own), *(verdicts[word] for word in VERDICTS)])
    return table(["paper", "claims", "comparisons", *VERDICTS], lines, "Verdicts by paper")


def summary(found: Sequence[Decided]) -> Text:
    """The counts in one sentence."""
    verdicts = Counter(entry.decision.verdict for entry in found)
    said = ", ".join(f"{verdicts[word]} {word}" for word in VERDICTS[:3])
    return Text(
        Strong(f"{len({entry.claim for entry in found})} claims, {len(found)} comparisons"),
        f" (a claim is tested on each data set of its table). Of the {sum(verdicts[word] for word in VERDICTS[:3])} "
        f"whose runs are finished: {said}. {verdicts[NOT_RUN]} {NOT_RUN} yet.",
    )


def section(name: str, found: Sequence[Decided]) -> Page:
    """The claims of one paper, table by table: words, comparison, and a line for each data set."""
    own = [entry for entry in found if entry.claim.paper == name]
    kinds = {"the paper's words": "quote", "tested as": "label", "on": "label"}
    kinds |= {"Δ here": "number", "p": "number", "verdict": "text"}
    pieces: list[Piece] = [heading(paper_title(name), f"claims-{name}")]
    for own_table in dict.fromkeys(entry.claim.table for entry in own):
        claims = dict.fromkeys(entry.claim for entry in own if entry.claim.table == own_table)
        lines = [line for claim in claims for line in _lines([entry for entry in own if entry.claim == claim])]
        pieces.append(table(kinds, lines, f"{paper_title(name)}, {own_table}", merged=2))
    return Page(pieces)


def _lines(entries: Sequence[Decided]) -> list[list[str]]:
    """Of one claim: a line for each data set with a record, then one for all others of the same verdict together."""
    sets: dict[tuple[str, ...], list[str]] = {}
    for entry in sorted(entries, key=lambda entry: entry.decision.here is None):
        sets.setdefault(tuple(claim_cells(entry.claim, entry.decision)), []).append(cuhk03.all_splits(entry.dataset))
    return [[words, tested, ", ".join(dict.fromkeys(on)), *said] for (words, tested, *said), on in sets.items()]
