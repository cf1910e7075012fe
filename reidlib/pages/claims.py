"""The page "Claims": every declared claim, the comparison that decides it, and what the records say of it today."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reidlib.data import cuhk03
from reidlib.evaluation.statistics import verdict
from reidlib.pages.deviations import in_order, title
from reidlib.pages.protocols import _caption
from reidlib.pages.tables import NOT_RUN, Decision, Page, _cell, _interval, _line, _number, _p, _table, decide
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


def decided(declared: Sequence[Claim], read: Mapping[str, Sequence]) -> list[Decided]:
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


def banner(read: Mapping[str, Sequence]) -> Page:
    """Whose images the verdicts come from, and which of them have any record."""
    every = [runs for sets in read.values() for runs in sets]
    first = every[0].runs[0]
    used = list(dict.fromkeys(runs.runs[0].dataset for runs in every if runs.records()))
    layouts = f"in the layout of {', '.join(used)}" if used else "of which no record is here yet"
    if first.source == "real":
        return Page(f'<div class="real-banner">Real images {html.escape(layouts)}, budget {first.budget}.</div>')
    return Page(
        '<div class="standin-banner"><strong>Stand-in images.</strong> Every verdict on this page comes from rendered '
        f"figures {html.escape(layouts)}, at budget <code>{first.budget}</code>. It says how rows compare on those "
        "images. It does not say whether the paper was right on photographs.</div>"
    )


def counts(found: Sequence[Decided]) -> Page:
    """Verdicts by paper; a claim counts once for each data set of its table."""
    body = []
    names = in_order([entry.claim.paper for entry in found])
    for name in (*names, ""):
        own = [entry for entry in found if name in ("", entry.claim.paper)]
        verdicts = Counter(entry.verdict for entry in own)
        claims = len({entry.claim for entry in own})
        numbers = [claims, len(own), *(verdicts[word] for word in VERDICTS)]
        cells = [_cell(title(name) if name else "all", css="label"), *(_cell(str(number)) for number in numbers)]
        body.append(_line(cells))
    head = ("", "claims", "comparisons", *VERDICTS)
    return _table([_line([_cell(text) for text in head])], body, css="comparison")


def summary(found: Sequence[Decided]) -> Page:
    """The counts in one sentence."""
    verdicts = Counter(entry.verdict for entry in found)
    ran = len(found) - verdicts[NOT_YET] - verdicts[VERDICTS[3]]
    claims = len({entry.claim for entry in found})
    said = ", ".join(f"{verdicts[word]} {word}" for word in VERDICTS[:3])
    return Page(
        f"<p><strong>{claims} claims, {len(found)} comparisons</strong> (a claim is tested on each data set of its "
        f"table). Of the {ran} whose runs are finished: {said}. {verdicts[NOT_YET]} {NOT_YET}.</p>"
    )


def section(name: str, found: Sequence[Decided]) -> Page:
    """The claims of one paper, table by table: words, comparison, and a line for each data set."""
    own = [entry for entry in found if entry.claim.paper == name]
    pieces = [f'<h2 id="claims-{html.escape(name)}">{html.escape(title(name))}</h2>']
    for table in dict.fromkeys(entry.claim.table for entry in own):
        entries = [entry for entry in own if entry.claim.table == table]
        body = []
        for claim in dict.fromkeys(entry.claim for entry in entries):
            body += _lines(claim, [entry for entry in entries if entry.claim == claim])
        head = ("the paper's words", "tested as", "on", "Δ here", "p", "verdict")
        pieces.append(_caption(f"{title(name)}, {table}"))
        pieces.append(_table([_line([_cell(text) for text in head])], body, css="claims"))
    return Page("".join(pieces))


def _lines(claim: Claim, entries: Sequence[Decided]) -> list[str]:
    """A line for each data set with a record, and one for all others together."""
    ran = [entry for entry in entries if entry.decision.here is not None]
    rest: dict[str, list[str]] = {}
    for entry in entries:
        if entry.decision.here is None:
            rest.setdefault(entry.verdict, []).append(entry.dataset)
    tails = []
    for entry in ran:
        here = entry.decision.here
        shown = f"{claim.metric} {_number(here.mean, sign=True)} {_interval(here, sign=True)}"
        tails.append([_cell(entry.dataset), _cell(shown), _cell(_p(entry.decision.p)), _cell(entry.verdict)])
    for word, sets in rest.items():
        names = ", ".join(dict.fromkeys(map(cuhk03.all_splits, sets)))
        tails.append([_cell(names, css="label"), _cell(word, colspan=3, css="state")])
    size = len(tails)
    first = [
        _cell(f"“{claim.quote}” ({claim.where})", css="quote", rowspan=size),
        _cell(f"{claim.better} against {claim.worse}, {claim.metric}", css="label", rowspan=size),
    ]
    return [_line([*(first if number == 0 else []), *tail]) for number, tail in enumerate(tails)]
