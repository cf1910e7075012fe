"""What the records say of the papers' claims: on the page of each table, on the page "Claims", and in `reid claims`.

A claim is tested on each data set of its table by `statistics.difference`, over seeds and identities. All claims of one
paper at one budget are decided together, wherever they are shown: they are the family of Holm's correction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from reidlib import papers
from reidlib.data import cross_domain, cuhk03
from reidlib.evaluation import statistics
from reidlib.evaluation.statistics import Interval
from reidlib.pages.formatting import change, in_order, interval, number, p_value, paper_title, plural
from reidlib.pages.render import Code, Page, Piece, Strong, TableView, Text, heading, state, table
from reidlib.pages.tables import (
    DID_NOT_LEARN,
    NOT_RUN,
    did_not_learn,
    difference_of,
    finished,
    pooled,
    rows_of,
    stored,
    title,
)
from reidlib.papers import standins
from reidlib.runs.datasets import exists
from reidlib.runs.run import Run, Runs, recorded_seeds, runs_of
from reidlib.spec import Claim, Table

VERDICTS = (*statistics.VERDICTS, NOT_RUN)
"""The columns of the count, in their order."""

TESTED = VERDICTS[:3]
"""The verdicts of a test: all others say why there is none."""


@dataclass(frozen=True)
class Decision:
    """What the records say of one claim on one data set.

    verdict: one of `VERDICTS`. here: the difference; None where there is none. p: after Holm's correction over the
    claims of the paper that are tested; NaN where this one is not. better, worse: the finished runs of its two rows.
    control: the verdict on the positive control that the claim rests on; "" where it rests on none.
    """

    claim: Claim
    dataset: str
    verdict: str
    here: Interval | None = None
    p: float = float("nan")
    better: tuple[Run, ...] = ()
    worse: tuple[Run, ...] = ()
    control: str = ""

    @property
    def devices(self) -> list[str]:
        """On what kinds of device either side ran: "cpu", "cuda" or "cpu, cuda"."""
        sides = ({record.device_kind for run in side if (record := run.record())} for side in (self.better, self.worse))
        return [", ".join(sorted(side)) for side in sides]

    @property
    def note(self) -> str:
        """What a reader of the verdict must know; "" where nothing."""
        better, worse = self.devices
        said = [f"ran on {better} against {worse}"] if better and worse and better != worse else []
        control = f"its control, {standins.effect(self.claim.control)},"
        if self.control == NOT_RUN:
            said.append(f"{control} has no record on these images")
        elif self.control not in ("", "supported"):
            why = "" if self.control == "not distinguishable" else f" ({self.control})"
            said.append(f"{control} is not seen on these images{why}")
        return "; ".join(said)

    @property
    def records(self) -> list[str]:
        """Keys of its records."""
        return [run.key for run in (*self.better, *self.worse)]

    def plain(self) -> dict[str, Any]:
        """As `reid claims --json` prints it: differences in points, null where there is none."""
        claim = self.claim
        words = {name: getattr(claim, name) for name in ("paper", "table", "better", "worse", "metric", "control")}
        found: dict[str, Any] = dict.fromkeys(("difference", "low", "high", "detectable", "p"))
        if here := self.here:
            found |= {"difference": here.mean, "low": here.low, "high": here.high, "detectable": here.detectable}
        if self.verdict in TESTED:
            found["p"] = self.p
        seeds = [len(self.better), len(self.worse)]
        said = {"quote": claim.quote, "where": claim.where, "untestable": claim.untestable, "note": self.note}
        places = {"seeds": seeds, "devices": self.devices, "records": self.records}
        return words | {"dataset": self.dataset, "verdict": self.verdict} | found | places | said


def decisions(paper: str, *, budget: str, source: str = "stand-in") -> list[Decision]:
    """Every claim of a paper on every data set of its table, claim by claim, decided from all records there are."""
    asked: list[tuple[Claim, str, Runs | None]] = []
    read: dict[tuple[str, str], Runs | None] = {}
    for claim in papers.claims(paper):
        own = papers.table(f"{paper}/{claim.table}")
        for dataset in own.datasets:
            if not (claim.of(own.slug, dataset) and exists(dataset, source)):
                continue
            place = (own.slug, dataset)
            if place not in read:
                read[place] = _recorded(own, dataset, budget, source)
            asked.append((claim, dataset, read[place]))
    return _with_controls(decide(asked), budget, source)


def _recorded(own: Table, dataset: str, budget: str, source: str) -> Runs | None:
    """The runs of a table from all seeds that have a record; None where the table does not have the budget."""
    if budget not in own.budgets:
        return None
    where = dict(budget=budget, dataset=dataset, source=source)
    return Runs(tuple(runs_of(own.slug, seeds=recorded_seeds(own.slug, **where), **where)))


def decide(asked: Sequence[tuple[Claim, str, Runs | None]]) -> list[Decision]:
    """These claims on these data sets, decided together. Runs: of the claim's table there; None where it has none."""
    found = [_compared(claim, dataset, runs) for claim, dataset, runs in asked]
    tested = [one.here.p for one in found if one.here and one.verdict in TESTED]
    adjusted = iter(statistics.holm(tested))
    return [_corrected(one, next(adjusted)) if one.verdict in TESTED else one for one in found]


def _compared(claim: Claim, dataset: str, runs: Runs | None) -> Decision:
    """Its difference and its verdict before the correction."""
    if runs is None:
        return Decision(claim, dataset, statistics.verdict(None) if claim.untestable else NOT_RUN)
    if claim.untestable or not {claim.better, claim.worse} <= {run.row.label for run in runs.runs}:
        return Decision(claim, dataset, statistics.verdict(None))
    better, worse = (tuple(finished(runs, label)) for label in (claim.better, claim.worse))
    here = difference_of(better, worse, stored(runs, claim.metric))
    if here is None:
        return Decision(claim, dataset, NOT_RUN, better=better, worse=worse)
    lost = did_not_learn(better) or did_not_learn(worse)
    return Decision(
        claim, dataset, DID_NOT_LEARN if lost else statistics.verdict(here), here, better=better, worse=worse
    )


def effects(runs: Runs, steps: Sequence[tuple[str, str]], metric: str = "mAP") -> list[Decision]:
    """Positive controls of one table on one data set, each a row and the row it is held against, decided together."""
    plain: dict[str, Any] = dict(paper=runs.table.paper, table=runs.table.name, metric=metric)
    stated = [Claim(**plain, better=label, worse=other, quote="", where=label) for label, other in steps]
    return decide([(claim, runs.runs[0].dataset, runs) for claim in stated])


def _with_controls(found: Sequence[Decision], budget: str, source: str) -> list[Decision]:
    """Adds, where there is a difference, the verdict on the control that the claim rests on."""
    rest = {one.dataset for one in found if one.claim.control and one.here}
    seen = {dataset: _controls(dataset, budget, source) for dataset in rest}
    return [
        replace(one, control=seen[one.dataset].get(one.claim.control, NOT_RUN))
        if one.claim.control and one.here
        else one
        for one in found
    ]


def _controls(dataset: str, budget: str, source: str) -> dict[str, str]:
    """The verdict on each positive control, by its label, on the images on which this data set is tested."""
    images = cross_domain.PAIRS.get(dataset, ("", dataset))[1]
    found: dict[str, str] = {}
    for slug, steps in standins.EFFECTS.items():
        own = papers.table(slug)
        if images in own.datasets and exists(images, source) and (runs := _recorded(own, images, budget, source)):
            found |= {one.claim.better: one.verdict for one in effects(runs, steps)}
    return found


def _corrected(own: Decision, p: float) -> Decision:
    return replace(own, p=p, verdict=statistics.verdict(own.here, p))


# --- on the page of a table -------------------------------------------------------------------------------------------

SAID = {
    "supported": "Yes on these images",
    "contradicted": "No on these images, rather the reverse",
    "not distinguishable": "These runs cannot tell",
    "not testable": "Not testable here",
    DID_NOT_LEARN: "No answer, for a row did not learn",
    "too few seeds": "No answer from so few seeds",
    NOT_RUN: "Not run yet",
}
"""How the answer to a claim begins, by its verdict."""


def answers(runs: Runs, found: Sequence[Decision]) -> list[Piece]:
    """One sentence for each claim, from the records, for the top of a table's page; one for all that wait for runs."""
    if not found:
        return [_no_claim(runs)]
    first, sentences, waiting = runs.runs[0], [], 0
    for one in found:
        if one.verdict == NOT_RUN:
            waiting += 1
            continue
        parts = [Strong(f"{SAID[one.verdict]}."), f" {one.claim.comparison.rstrip('.')}"]
        if one.here is not None:
            parts += [
                f": {number(one.here.mean, sign=True)} points of {one.claim.metric} (95 % interval "
                f"{interval(one.here, sign=True)}) on the {first.source} images of {first.dataset}, budget ",
                Code(first.budget),
                f", {plural(one.here.seeds, 'seed')} a side",
            ]
        if one.note:
            parts.append(f" ({one.note})")
        sentences.append(Text(*parts, "."))
    if waiting:
        words = f" {plural(waiting, 'claim')} of the table below, about rows without a record."
        sentences.append(Text(Strong(f"{SAID[NOT_RUN]}:"), words))
    return sentences


def _no_claim(runs: Runs) -> Text:
    """What stands in the place of an answer where the paper claims nothing that rows of this table decide."""
    made = dict.fromkeys((run.row.label, run.row.variant) for run, _ in runs.records())
    parts = [Strong("No claim to decide."), " The paper says nothing of this table that its rows could decide. "]
    parts += [f"{len(made)} of {plural(len(rows_of(runs)), 'row')} run at budget ", Code(runs.runs[0].budget)]
    if made:
        best = max(made, key=lambda name: pooled(runs, name).mean)
        reached = pooled(runs, best)
        highest = f"{number(reached.mean)} {interval(reached)}"
        parts.append(f"; the highest mAP, {highest}, is that of {title(runs, best)}")
    return Text(*parts, ".")


def view(found: Sequence[Decision], caption: str) -> TableView:
    """Each claim of a table's page with what the records say of it."""
    kinds = {"the paper's words": "quote", "tested as": "label", **CELLS}
    return table(kinds, [_cells(one) for one in found], caption)


CELLS = {"Δ here": "number", "p": "number", "seeds": "number", "finds from": "number", "verdict": "text"}
"""What is said of a comparison. "finds from": the true difference that these seeds would find with a chance of 80 %."""


def _cells(one: Decision) -> list[str]:
    """Words, comparison, and `CELLS`; the verdict over all of these where there is no difference."""
    said: list[str] = [*state(one.verdict, len(CELLS))]
    if one.here is not None:
        p = p_value(one.p) if one.verdict in TESTED else "–"
        seeds = "/".join(map(str, dict.fromkeys((len(one.better), len(one.worse)))))
        verdict = f"{one.verdict} ({one.note})" if one.note else one.verdict
        said = [f"{one.claim.metric} {change(one.here)}", p, seeds, number(one.here.detectable), verdict]
    return [f"“{one.claim.quote}” ({one.claim.where})", one.claim.comparison, *said]


# --- the page "Claims" ------------------------------------------------------------------------------------------------


def counts(found: Sequence[Decision]) -> TableView:
    """Verdicts by paper; a claim counts once for each data set of its table."""
    names = in_order([one.claim.paper for one in found])
    parts = {paper_title(name): [one for one in found if one.claim.paper == name] for name in names}
    lines = []
    for name, own in {**parts, "all": found}.items():
        verdicts = Counter(one.verdict for one in own)
        lines.append([name, len({one.claim for one in own}), len(own), *(verdicts[word] for word in VERDICTS)])
    return table(["paper", "claims", "comparisons", *VERDICTS], lines, "Verdicts by paper")


def summary(found: Sequence[Decision]) -> Text:
    """The counts in one sentence."""
    verdicts = Counter(one.verdict for one in found)
    said = ", ".join(f"{verdicts[word]} {word}" for word in TESTED)
    others = ", ".join(f"{verdicts[word]} {word}" for word in VERDICTS[3:] if verdicts[word])
    return Text(
        Strong(f"{len({one.claim for one in found})} claims, {len(found)} comparisons"),
        f" (a claim is tested on each data set of its table). Of the {sum(verdicts[word] for word in TESTED)} that "
        f"could be tested: {said}. Without a test: {others or 'none'}.",
    )


def section(name: str, found: Sequence[Decision]) -> Page:
    """The claims of one paper, table by table: words, comparison, and a line for each data set."""
    own = [one for one in found if one.claim.paper == name]
    kinds = {"the paper's words": "quote", "tested as": "label", "on": "label", **CELLS, "records": "code"}
    pieces: list[Piece] = [heading(paper_title(name), f"claims-{name}")]
    for own_table in dict.fromkeys(one.claim.table for one in own):
        claims = dict.fromkeys(one.claim for one in own if one.claim.table == own_table)
        lines = [line for claim in claims for line in _lines([one for one in own if one.claim == claim])]
        pieces.append(table(kinds, lines, f"{paper_title(name)}, {own_table}", merged=2))
    return Page(pieces)


def _lines(found: Sequence[Decision]) -> list[list[str]]:
    """Of one claim: a line for each data set with a record, then one for all others of the same verdict together."""
    sets: dict[tuple[str, ...], list[str]] = {}
    for one in sorted(found, key=lambda one: one.here is None):
        sets.setdefault((*_cells(one), " ".join(one.records)), []).append(cuhk03.all_splits(one.dataset))
    return [[words, tested, ", ".join(dict.fromkeys(on)), *said] for (words, tested, *said), on in sets.items()]
