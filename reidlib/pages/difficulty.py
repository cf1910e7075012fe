"""How hard the stand-ins are, drawn from records: descriptors against each other, and networks away from home."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reidlib.evaluation import statistics
from reidlib.evaluation.statistics import Interval
from reidlib.pages.standins import TITLES
from reidlib.pages.tables import NOT_RUN, Page, _cell, _interval, _line, _mean, _number, _of, _table

GOAL = {"small": 10.0, "medium": 25.0}
"""Points of mAP by which the trained network has to beat the best histogram at a budget; set before the runs."""

CEILING = 90.0
"""The mAP below which the trained network has to stay, so that there is room above a baseline."""


def scores(tables: Sequence) -> Page:
    """One line a descriptor, rank-1 and mAP on each stand-in: mean over seeds, ± s.d. where there are several."""
    head = [_cell("", rowspan=2)] + [_cell(_title(runs), colspan=2) for runs in tables]
    names = [_cell(name) for _ in tables for name in ("R1", "mAP")]
    body = []
    for label in (row.label for row in tables[0].table.rows):
        cells = [_cell(label, css="label")]
        for runs in tables:
            frame = _finished(runs, label)
            if frame.empty:
                cells.append(_cell(NOT_RUN, colspan=2, css="state"))
            else:
                cells += [_cell(_mean(frame[name])) for name in ("rank1", "mAP")]
        body.append(_line(cells))
    return _table([_line(head), _line(names)], body, css="comparison")


def steps(tables: Sequence, pairs: Sequence[tuple[str, str]]) -> Page:
    """Differences of mAP between pairs of descriptors on each stand-in, with their paired 95 % intervals."""
    head = [_cell(""), _cell("against")] + [_cell(_title(runs)) for runs in tables]
    body = []
    for label, other in pairs:
        cells = [_cell(label, css="label"), _cell(other, css="label")]
        for runs in tables:
            here = _between(runs, label, runs, other)
            if here is None:
                cells.append(_cell(NOT_RUN, css="state"))
            else:
                grey = "inside-spread" if here.holds_zero else ""
                cells.append(_cell(f"{_number(here.mean, sign=True)} {_interval(here, sign=True)}", css=grey))
        body.append(_line(cells))
    return _table([_line(head)], body, css="differences")


def goals(tables: Sequence, trained: str, simple: Sequence[str]) -> Page:
    """Whether the goals that were set before the runs are reached: one line a stand-in.

    trained: label of the trained network; simple: those of the histograms, of which the best on each set counts.
    """
    goal = GOAL[tables[0].runs[0].budget]
    head = ["", "best histogram", f"trained network beats it by at least {goal:g}", f"and stays below {CEILING:g}"]
    body = []
    for runs in tables:
        reached = {label: _finished(runs, label)["mAP"].mean() for label in (trained, *simple)}
        cells = [_cell(_title(runs), css="label")]
        if any(np.isnan(value) for value in reached.values()):
            cells.append(_cell(NOT_RUN, colspan=3, css="state"))
        else:
            best = max(simple, key=reached.get)
            ahead = reached[trained] - reached[best]
            cells += [_cell(f"{best}: {_number(reached[best])}")]
            cells += [_cell(f"{'yes' if ahead >= goal else 'no'} ({_number(ahead, sign=True)})")]
            cells += [_cell(f"{'yes' if reached[trained] < CEILING else 'no'} ({_number(reached[trained])})")]
        body.append(_line(cells))
    return _table([_line([_cell(text) for text in head])], body, css="comparison")


def transfer(at_home: Mapping[str, object], away: Mapping[tuple[str, str], object], label: str) -> Page:
    """mAP of one network trained on each line's stand-in and tested on each column's.

    at_home: runs by data set, tested where they were trained; away: runs by (trained on, tested on). Under a score away
    from home stands what is lost against the network trained at home, on the same queries.
    """
    head = [_cell("trained on ↓, tested on →")] + [_cell(TITLES[name]) for name in at_home]
    body = []
    for source in at_home:
        cells = [_cell(TITLES[source], css="label")]
        for target, home in at_home.items():
            runs = home if source == target else away[source, target]
            frame = _finished(runs, label)
            lost = None if source == target else _between(runs, label, home, label)
            shown = NOT_RUN if frame.empty else _mean(frame["mAP"])
            if lost is not None:
                shown += f" ({_number(lost.mean, sign=True)} {_interval(lost, sign=True)})"
            cells.append(_cell(shown, css="state" if frame.empty else ""))
        body.append(_line(cells))
    return _table([_line(head)], body, css="comparison")


def provenance(tables: Sequence) -> Page:
    """Where the numbers come from: budget, images, device, hours and code of all finished runs."""
    made = [(run, record) for runs in tables for run, record in runs.records()]
    if not made:
        return Page("<p>No record yet.</p>")
    devices = sorted({record.device for _, record in made})
    commits = sorted({record.commit[:7] for _, record in made})
    trained = {record.network: record.seconds for _, record in made}
    digests = dict(pair for runs in tables for pair in _digests(runs))
    said = [
        f"Budget {made[0][0].budget}, {len({run.seed for run, _ in made})} seed(s), {len(made)} records",
        f"{sum(trained.values()) / 3600:.2f} hours of training on {'; '.join(devices)}",
        f"code {', '.join(commits)} (a plus marks uncommitted changes)",
        "stand-ins: " + ", ".join(f"{name} {digest}" for name, digest in digests.items()),
    ]
    return Page(f'<p class="provenance">{". ".join(said)}.</p>')


def _digests(runs) -> list[tuple[str, str]]:
    return [(run.dataset, run.data_digest) for run in runs.runs[:1]]


def _title(runs) -> str:
    name = runs.runs[0].dataset
    return TITLES[name.split("-np-")[0]]


def _finished(runs, label: str):
    frame = runs.frame()
    chosen = frame[(frame["row"] == label) & (frame["state"] == "finished")]
    return chosen.reindex(columns=list(dict.fromkeys([*frame.columns, "rank1", "mAP"])))


def _between(runs, label: str, others, other: str) -> Interval | None:
    """Interval of `label` of one table minus `other` of another over the same queries; None where a run is missing."""
    seeds = sorted({run.seed for run in runs.runs})
    pairs = [(_of(runs, label, seed), _of(others, other, seed)) for seed in seeds]
    if any(run is None or run.state() != "finished" for pair in pairs for run in pair):
        return None
    first, second = ([run.per_query("ap") for run in side] for side in zip(*pairs, strict=True))
    return statistics.difference(first, second)
