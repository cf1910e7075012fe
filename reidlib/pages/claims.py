"""What the records say of the papers' claims: on the page of each table, on the page "Claims", and in `reid claims`.

A claim is tested on each data set of its table by `statistics.difference`, over seeds and identities. All claims of one
paper at one budget are decided together, wherever they are shown: they are the family of Holm's correction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from reidlib import papers
from reidlib.data import cross_domain, cuhk03
from reidlib.evaluation import statistics
from reidlib.evaluation.statistics import Interval
from reidlib.pages import contents, tables
from reidlib.pages.formatting import change, difference, in_order, interval, number, p_value, paper_title, plural
from reidlib.pages.render import Cell, Code, Page, Piece, Strong, TableView, Text, bullets, heading, table
from reidlib.papers import standins
from reidlib.runs.datasets import exists
from reidlib.runs.run import Run, Runs
from reidlib.spec import Claim

VERDICTS = (*statistics.VERDICTS, tables.NOT_RUN)
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
        better, worse = (
            kinds.replace(", ", " and ").replace("cuda", "GPU").replace("cpu", "CPU") for kinds in self.devices
        )
        said = [f"ran on {better} against {worse}"] if better and worse and better != worse else []
        said += ["the two began from different weights"] if tables.began_apart(self.better, self.worse) else []
        control = f"its control, {standins.effect(self.claim.control)},"
        if self.control == tables.NOT_RUN:
            said.append(f"{control} has no record on these images")
        elif self.control not in ("", "supported"):
            why = "" if self.control == "undecided" else f" ({self.control})"
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
    read = cache(partial(_recorded, budget=budget, source=source))
    asked = []
    for claim in papers.claims(paper):
        own = papers.table(f"{paper}/{claim.table}")
        places = (one for one in own.datasets if claim.of(own.slug, one) and exists(one, source))
        asked += [(claim, dataset, read(own.slug, dataset)) for dataset in places]
    return _with_controls(decide(asked), budget, source)


def _recorded(slug: str, dataset: str, budget: str, source: str) -> Runs | None:
    """The runs of a table from all seeds that have a record; None where the table does not have the budget."""
    return Runs(tables.recorded_runs(slug, budget, dataset, source)) if budget in papers.table(slug).budgets else None


def decide(asked: Sequence[tuple[Claim, str, Runs | None]]) -> list[Decision]:
    """These claims on these data sets, decided together. Runs: of the claim's table there; None where it has none."""
    known: dict[
        tuple[str, str], dict[str, float]
    ] = {}  # reading the floors again for every claim would take most of the time

    def lost(side: Sequence[Run]) -> bool:
        if (place := (side[0].dataset, side[0].table.ap)) not in known:
            known[place] = tables.floors(side[0])
        return tables.did_not_learn(side, known[place])

    found = [_compared(claim, dataset, runs, lost) for claim, dataset, runs in asked]
    tested = {place: one.here for place, one in enumerate(found) if one.here and one.verdict in TESTED}
    for (place, here), p in zip(tested.items(), statistics.holm([here.p for here in tested.values()]), strict=True):
        found[place] = replace(found[place], p=p, verdict=statistics.verdict(here, p))
    return found


def _compared(claim: Claim, dataset: str, runs: Runs | None, lost: Callable[[Sequence[Run]], bool]) -> Decision:
    """Its difference and its verdict before the correction. lost: whether a row did not learn."""
    if runs is None:
        return Decision(claim, dataset, statistics.verdict(None) if claim.untestable else tables.NOT_RUN)
    if claim.untestable or not {claim.better, claim.worse} <= {run.row.label for run in runs.runs}:
        return Decision(claim, dataset, statistics.verdict(None))
    better, worse = (tuple(tables.finished(runs, label)) for label in (claim.better, claim.worse))
    here = tables.difference_of(better, worse, tables.stored(runs, claim.metric))
    if here is None:
        return Decision(claim, dataset, tables.NOT_RUN, better=better, worse=worse)
    if lost(better) or lost(worse):
        said = tables.DID_NOT_LEARN
    else:
        said = statistics.verdict(None if tables.began_apart(better, worse) else here)
    return Decision(claim, dataset, said, here, better=better, worse=worse)


def effects(runs: Runs, steps: Sequence[tuple[str, str]]) -> list[Decision]:
    """Positive controls of one table on one data set in mAP, each a row and the row it is held against, decided
    together."""
    plain: dict[str, Any] = dict(paper=runs.table.paper, table=runs.table.name, metric="mAP")
    stated = [Claim(**plain, better=label, worse=other, quote="", where=label) for label, other in steps]
    return decide([(claim, runs.runs[0].dataset, runs) for claim in stated])


def _with_controls(found: Sequence[Decision], budget: str, source: str) -> list[Decision]:
    """Adds, where there is a difference, the verdict on the control that the claim rests on."""
    rest = {one.dataset for one in found if one.claim.control and one.here}
    seen = {dataset: _controls(dataset, budget, source) for dataset in rest}
    return [
        replace(one, control=seen[one.dataset].get(one.claim.control, tables.NOT_RUN))
        if one.claim.control and one.here
        else one
        for one in found
    ]


def _controls(dataset: str, budget: str, source: str) -> dict[str, str]:
    """The verdict on each positive control, by its label, on the images on which this data set is tested."""
    images = cross_domain.PAIRS.get(dataset, ("", dataset))[1]
    found: dict[str, str] = {}
    for slug, steps in standins.EFFECTS.items():
        known = images in papers.table(slug).datasets and exists(images, source)
        if known and (runs := _recorded(slug, images, budget, source)):
            found |= {one.claim.better: one.verdict for one in effects(runs, steps)}
    return found


# --- on the page of a table -------------------------------------------------------------------------------------------

SUPPORTED, CONTRADICTED, UNDECIDED = TESTED
NOT_TESTABLE = "not testable"
SIGNS = {SUPPORTED: "✓", CONTRADICTED: "✗", UNDECIDED: "≈", NOT_TESTABLE: "∅"}


def signed(verdict: str) -> str:
    """A verdict as symbol and word; "…" stands before those that say why there is none."""
    return f"{SIGNS.get(verdict, '…')} {verdict}"


def in_order_of_verdict(found: Sequence[Decision]) -> list[Decision]:
    """The decided claims first, then those with a difference and no decision, then those without a difference."""
    return sorted(found, key=lambda one: 0 if one.verdict in (SUPPORTED, CONTRADICTED) else 1 if one.here else 2)


def sentence(runs: Runs, found: Sequence[Decision]) -> Text:
    """What the records say of the claims about a table, in one sentence."""
    if not found:
        return _no_claim(runs)
    verdicts, images = Counter(one.verdict for one in found), f"{runs.runs[0].source} images of {runs.runs[0].dataset}"
    others = ", ".join(f"{many} {word}" for word, many in verdicts.items() if word not in TESTED)
    if not (span := seeds_a_side([one for one in found if one.verdict in TESTED])):
        return Text(f"No claim about this {runs.table.kind} is decided on the {images}: {others}.", css="lead")
    said = ", ".join(f"{verdicts[word]} {word}" for word in TESTED)
    about = f"{plural(len(found), 'claim')} about this {runs.table.kind}"
    tested = f"{sum(verdicts[word] for word in TESTED)} of {about} were tested"
    after = f" Without a test: {others}." if others else ""
    return Text(f"{tested} on the {images} with {span} a side: ", Strong(said), f".{after}", css="lead")


def seeds_a_side(found: Sequence[Decision]) -> str:
    """From how many seeds the sides of these claims are; "" where there is no claim."""
    seeds = sorted({len(side) for one in found for side in (one.better, one.worse)})
    return f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else "".join(plural(many, "seed") for many in seeds)


def _no_claim(runs: Runs) -> Text:
    """Of a table about which the paper claims nothing that its rows decide."""
    made = dict.fromkeys((run.row.label, run.row.variant) for run, _ in runs.records())
    nothing = f" The paper says nothing of this {runs.table.kind} that its rows could decide. "
    parts: list[Any] = [Strong("No claim to decide."), nothing]
    parts += [f"{len(made)} of {plural(len(tables.rows_of(runs)), 'row')} run at budget ", Code(runs.runs[0].budget)]
    if made:
        reached, best = max(((tables.pooled(runs, name), name) for name in made), key=lambda pair: pair[0].mean)
        highest = f"{number(reached.mean)} {interval(reached)}"
        parts.append(f"; the highest mAP, {highest}, is that of {tables.title(runs, best)}")
    return Text(*parts, ".", css="lead")


CORRECTED = (
    "Intervals (95 %) are over seeds and persons. The claims of the paper are decided together, on all data sets of "
    "all its tables and from all seeds that have a record: their p is corrected for their number (Holm), and below "
    "0.05 a claim counts as supported or contradicted, by its sign. L9 is line 9 of our copy of the paper's text."
)


def view(found: Sequence[Decision]) -> Page:
    """The claims of a table's page one by one, folded: those with a difference, then the others, verdict first."""
    ordered = in_order_of_verdict(found)
    pieces = []
    if shown := [one for one in ordered if one.here]:
        tested = sum(one.verdict in TESTED for one in shown)
        some = f", {tested} of them tested" if tested < len(shown) else ""
        summary = f"{plural(len(shown), 'claim')} with a difference{some}, in words and numbers"
        pieces.append(Page([bullets(list(map(_item, shown)), CORRECTED)], summary))
    if rest := [one for one in ordered if not one.here]:
        pieces.append(Page([bullets(list(map(_item, rest)))], _without(rest)))
    return Page(pieces)


def _item(one: Decision) -> Text:
    """A claim in a list: verdict, what is compared (or why nothing is), the numbers, the paper's words."""
    parts = [f" {one.claim.comparison.rstrip('.')}"]
    if one.here:
        p, seeds, found_from = _numbers(one)
        said = [f"{change(one.here)} points", f"p {p}" if p != "–" else "", f"{seeds} seeds a side"]
        said += [f"a true difference of {found_from} is found with a chance of 80 %"]
        if one.claim.control:
            said.append(f"control {standins.effect(one.claim.control)}: {one.control}")
        parts.append(f": {', '.join(filter(None, said))}")
        parts.append(f" ({one.note})" if one.note and not one.note.startswith("its control") else "")
    return Text(Strong(f"{signed(one.verdict)}."), *parts, f". {_words(one.claim)}")


def _numbers(one: Decision) -> Sequence[str]:
    """p of a claim with a difference, its seeds, and the true difference that they would find with a chance of 80 %."""
    assert one.here is not None, "without a difference nothing can be said of it"
    p = p_value(one.p) if one.verdict in TESTED else "–"
    seeds = "/".join(map(str, dict.fromkeys((len(one.better), len(one.worse)))))
    return [p, seeds, number(one.here.detectable)]


# --- the page "Claims" ------------------------------------------------------------------------------------------------


def counts(found: Sequence[Decision]) -> TableView:
    """Verdicts by paper; a claim counts once for each data set of its table."""
    names = in_order([one.claim.paper for one in found])
    parts = {paper_title(name): [one for one in found if one.claim.paper == name] for name in names}
    lines = []
    for name, own in {**parts, "all": found}.items():
        verdicts = Counter(one.verdict for one in own)
        lines.append([name, *(verdicts[word] for word in VERDICTS), len(own), len({one.claim for one in own})])
    return table(["paper", *VERDICTS, "comparisons", "claims"], lines, "Verdicts by paper")


def summary(found: Sequence[Decision]) -> Text:
    """The counts in one sentence."""
    verdicts = Counter(one.verdict for one in found)
    said = ", ".join(f"{verdicts[word]} {word}" for word in TESTED)
    others = ", ".join(f"{verdicts[word]} {word}" for word in VERDICTS[3:] if verdicts[word])
    return Text(
        Strong(f"{len({one.claim for one in found})} claims, {len(found)} comparisons"),
        f" (a claim is tested on each data set of its table; the first page counts it once, as undecided where they "
        f"differ). Of the {sum(verdicts[word] for word in TESTED)} that "
        f"could be tested: {said}. Without a test: {others or 'none'}.",
    )


def section(name: str, found: Sequence[Decision], known: Sequence[str], *, budget: str, source: str) -> Page:
    """The claims of one paper, decided ones first: those with a difference, a line a data set below the claim; then the
    others, folded. known: the names of the book's pages, to which the claims lead."""
    title, own = paper_title(name), in_order_of_verdict([one for one in found if one.claim.paper == name])
    shown: dict[Claim, list[Decision]] = {}
    rest: dict[tuple[Claim, str], list[str]] = {}
    for one in own:
        if one.here:
            shown.setdefault(one.claim, []).append(one)
        else:
            rest.setdefault((one.claim, one.verdict), []).append(cuhk03.all_splits(one.dataset))
    pieces: list[Piece] = [heading(title, f"claims-{name}")]
    if shown:
        kinds = {"claim": "label", "verdict": "label", "difference": "number", "p": "number", "seeds": "number"}
        kinds |= {"finds from": "number", "note": "reason"}
        lines: list[list[str]] = []
        for claim, same in shown.items():
            page = contents.page_of(f"{claim.paper}/{claim.table}", known, budget=budget, source=source)
            address = contents.address(page) if page else ""
            asked = Cell(f"{claim.table}: {claim.comparison}", note=_words(claim), address=address)
            lines += [[asked, *_line(one)] for one in same]
        pieces.append(table(kinds, lines, f"{title}: claims with a difference, in points", over=True))
    if rest:
        items = []
        for (claim, verdict), on in rest.items():
            said = f" {claim.table}: {claim.comparison}; {', '.join(dict.fromkeys(on))}. {_words(claim)}"
            items.append(Text(Strong(f"{signed(verdict)}."), said))
        pieces.append(Page([bullets(items)], _without([one for one in own if not one.here])))
    return Page(pieces)


def _line(one: Decision) -> list[str]:
    """A claim on one data set, verdict first."""
    assert one.here is not None, "without a difference it has no line"
    apart = Cell(difference(one.here), note=interval(one.here, sign=True))
    return [Cell(signed(one.verdict), note=one.dataset), apart, *_numbers(one), one.note]


def _without(rest: Sequence[Decision]) -> str:
    """Over the claims without a difference: how many of each verdict."""
    verdicts = ", ".join(f"{many} {word}" for word, many in Counter(one.verdict for one in rest).items())
    return f"Claims without a measured difference: {verdicts}"


def _words(claim: Claim) -> str:
    return f"“{claim.quote}” ({claim.where})"
