"""The page "Claims": every declared claim, the comparison that decides it, and what the records say of it today."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reidlib.data import cuhk03
from reidlib.evaluation.statistics import verdict
from reidlib.pages.formatting import in_order, paper_title
from reidlib.pages.render import Column, Page, Piece, Strong, TableView, Text, heading, table
from reidlib.pages.tables import NOT_RUN, Decision, decide, decision_cells
from reidlib.runs.run import Runs
from reidlib.spec import Claim

NOT_YET = f"{NOT_RUN} yet"
VERDICTS = ("supported", "contradicted", "not distinguishable", verdict(None), NOT_YET)
"""The columns of the count, in their order."""


@dataclass(frozen=True)
class Decided:
    """A claim on one data set, with what the records say of it."""

    claim: Claim
    dataset: str
    decision: Decision

    @property
    def verdict(self) -> str:
        return NOT_YET if self.decision.verdict == NOT_RUN else self.decision.verdict


def decided(declared: Sequence[Claim], read: Mapping[str, Sequence[Runs]]) -> list[Decided]:
    """Every claim on every data set of its table, claim by claim.

    read: the runs of each table by its slug, one `Runs` a data set. The claims of one table on one data set are
    decided together: they are the family of Holm's correction.
    """
    found: dict[tuple[int, str], Decided] = {}
    for slug, sets in read.items():
        for runs in sets:
            dataset = runs.runs[0].dataset
            own = [(place, claim) for place, claim in enumerate(declared) if claim.of(slug, dataset)]
            decisions = decide(runs, [claim for _, claim in own])
            for (place, claim), decision in zip(own, decisions, strict=True):
                found[place, dataset] = Decided(claim, dataset, decision)
    return [found[key] for key in sorted(found, key=lambda key: key[0])]


def counts(found: Sequence[Decided]) -> TableView:
    """Verdicts by paper; a claim counts once for each data set of its table."""
    lines: list[list[Any]] = []
    for name in (*in_order([entry.claim.paper for entry in found]), ""):
        own = [entry for entry in found if name in ("", entry.claim.paper)]
        verdicts = Counter(entry.verdict for entry in own)
        numbers = [len({entry.claim for entry in own}), len(own), *(verdicts[word] for word in VERDICTS)]
        lines.append([paper_title(name) if name else "all", *numbers])
    return table([Column("paper", "label"), "claims", "comparisons", *VERDICTS], lines, "Verdicts by paper")


def summary(found: Sequence[Decided]) -> Text:
    """The counts in one sentence."""
    verdicts = Counter(entry.verdict for entry in found)
    ran = len(found) - verdicts[NOT_YET] - verdicts[VERDICTS[3]]
    said = ", ".join(f"{verdicts[word]} {word}" for word in VERDICTS[:3])
    return Text(
        Strong(f"{len({entry.claim for entry in found})} claims, {len(found)} comparisons"),
        f" (a claim is tested on each data set of its table). Of the {ran} whose runs are finished: {said}. "
        f"{verdicts[NOT_YET]} {NOT_YET}.",
    )


def section(name: str, found: Sequence[Decided]) -> Page:
    """The claims of one paper, table by table: words, comparison, and a line for each data set."""
    own = [entry for entry in found if entry.claim.paper == name]
    columns = [Column("the paper's words", "quote"), Column("tested as", "label"), Column("on", "label")]
    columns += [Column("Δ here"), Column("p"), Column("verdict", "text")]
    pieces: list[Piece] = [heading(paper_title(name), f"claims-{name}")]
    for own_table in dict.fromkeys(entry.claim.table for entry in own):
        entries = [entry for entry in own if entry.claim.table == own_table]
        lines = []
        for claim in dict.fromkeys(entry.claim for entry in entries):
            lines += _lines(claim, [entry for entry in entries if entry.claim == claim])
        pieces.append(table(columns, lines, f"{paper_title(name)}, {own_table}", merged=2))
    return Page(pieces)


def _lines(claim: Claim, entries: Sequence[Decided]) -> list[list[str]]:
    """A line for each data set with a record, and one for all others together."""
    first = [f"“{claim.quote}” ({claim.where})", claim.comparison]
    ran = [entry for entry in entries if entry.decision.here is not None]
    lines = [[*first, entry.dataset, *decision_cells(claim, entry.decision)] for entry in ran]
    rest: dict[str, list[str]] = {}
    for entry in entries:
        if entry.decision.here is None:
            rest.setdefault(entry.verdict, []).append(entry.dataset)
    for word, sets in rest.items():
        names = ", ".join(dict.fromkeys(map(cuhk03.all_splits, sets)))
        lines.append([*first, names, *decision_cells(claim, Decision(None, float("nan"), word))])
    return lines
