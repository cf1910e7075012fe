"""How hard the stand-ins are, drawn from records: descriptors against each other, and networks away from home."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reidlib.evaluation.statistics import Interval, Spread
from reidlib.pages.claims import effects
from reidlib.pages.formatting import DATASETS, change, difference, interval, number, plural, spread
from reidlib.pages.render import Cell, Column, Piece, TableView, Text, state, table, terms
from reidlib.pages.tables import NOT_RUN, difference_of, finished, machines, mean_of
from reidlib.runs.run import Runs, reported_numbers

GOAL = {"small": 10.0, "medium": 25.0}
"""Points of mAP by which the trained network has to beat the best histogram at a budget; set before the runs."""

CEILING = 90.0
"""The mAP below which the trained network has to stay, so that there is room above a baseline."""


def scores(sets: Sequence[Runs], caption: str) -> TableView:
    """One line a descriptor, rank-1 and mAP on each stand-in: mean over seeds, ± s.d. where there are several."""
    columns = [Column(name, group=_title(runs)) for runs in sets for name in ("R1", "mAP")]
    lines = []
    for label in (row.label for row in sets[0].table.rows):
        cells: list[Any] = [label]
        for runs in sets:
            frame = _finished(runs, label)
            cells += state(NOT_RUN, 2) if frame.empty else [mean_of(frame[name]) for name in ("rank1", "mAP")]
        lines.append(cells)
    return table([Column("row", "label"), *columns], lines, caption)


def steps(sets: Sequence[Runs], pairs: Sequence[tuple[str, str]], caption: str) -> TableView:
    """Differences of mAP between pairs of descriptors on each stand-in, with their 95 % intervals."""
    columns = ["row", *map(_title, sets)]
    lines = [
        [Cell(label, note=f"against {other}"), *(_change(_between(runs, label, runs, other)) for runs in sets)]
        for label, other in pairs
    ]
    grey = "A grey difference decides nothing: its interval holds zero, or it is from fewer than three seeds."
    return table(columns, lines, caption, below=[grey])


def controls(sets: Sequence[Runs], pairs: Sequence[tuple[str, str]], caption: str) -> TableView:
    """Effects on mAP that are beyond doubt on photographs: which of them each stand-in shows, and from what size.

    One line a data set below each effect. It is seen where its difference is above 0 after Holm's correction over the
    effects on the data set; a row that did not learn, or fewer than three seeds, leaves it open.
    """
    columns = [Column("effect", "label"), Column("on", "label"), Column("Δ"), Column("seen", "text")]
    columns += [Column("finds from"), Column("Δ, photographs", reported=True)]
    found = [(_title(runs), reported_numbers(runs.table, runs.runs[0].dataset), effects(runs, pairs)) for runs in sets]
    lines: list[list[Any]] = []
    for place, (label, other) in enumerate(pairs):
        for images, numbers, seen in found:
            printed = numbers.get("mAP", pd.Series(dtype=float)).reindex([label, other])
            line: list[Any] = [f"{label} against {other}", images]
            verdict, here = seen[place].verdict, seen[place].here
            if here:
                line += [Cell(difference(here), note=interval(here, sign=True))]
                line += [SEEN.get(verdict, verdict), number(here.detectable)]
            else:
                line += state(verdict, 3)
            lines.append([*line, number(printed[label] - printed[other], sign=True)])
    return table(columns, lines, caption, over=True)


SEEN = {"supported": "seen", "contradicted": "reversed", "undecided": "not seen"}


def goals(sets: Sequence[Runs], trained: str, simple: Sequence[str]) -> TableView:
    """Whether the goals that were set before the runs are reached: one line a stand-in.

    trained: label of the trained network; simple: those of the histograms, of which the best on each set counts.
    """
    goal = GOAL[sets[0].runs[0].budget]
    columns = ["stand-in", "best histogram", f"trained network beats it by at least {goal:g}"]
    columns.append(f"and stays below {CEILING:g}")
    lines = []
    for runs in sets:
        reached = {label: _finished(runs, label)["mAP"].mean() for label in (trained, *simple)}
        if any(pd.isna(value) for value in reached.values()):
            lines.append([_title(runs), *state(NOT_RUN, 3)])
            continue
        best = max(simple, key=lambda label: reached[label])
        ahead = reached[trained] - reached[best]
        cells = [f"{best}: {number(reached[best])}", f"{'yes' if ahead >= goal else 'no'} ({number(ahead, sign=True)})"]
        cells.append(f"{'yes' if reached[trained] < CEILING else 'no'} ({number(reached[trained])})")
        lines.append([_title(runs), *cells])
    return table(columns, lines, "Goals that were set before the runs")


def transfer(at_home: Mapping[str, Runs], away: Mapping[tuple[str, str], Runs], label: str, caption: str) -> TableView:
    """mAP of one network trained on each line's stand-in and tested on each column's.

    at_home: runs by data set, tested where they were trained; away: runs by (trained on, tested on). A score away from
    home is followed by what is lost against the network trained at home, on the same queries.
    """
    columns = ["trained on ↓, tested on →", *(DATASETS[name] for name in at_home)]
    lines = []
    for source in at_home:
        cells: list[str] = [DATASETS[source]]
        for target, home in at_home.items():
            runs = home if source == target else away[source, target]
            mean = mean_of(_finished(runs, label)["mAP"])
            lost = None if source == target else _between(runs, label, home, label)
            after = f" ({change(lost)})" if lost else ""
            cells.append(spread(mean) + after if isinstance(mean, Spread) else Cell(NOT_RUN, state=True))
        lines.append(cells)
    return table(columns, lines, caption)


def provenance(sets: Sequence[Runs]) -> Piece:
    """Where the numbers come from: budget, images, device, hours and code of all finished runs."""
    made = [(run, record) for runs in sets for run, record in runs.records()]
    if not made:
        return Text("Not run yet: there is no record.")
    digests = {runs.runs[0].dataset: runs.runs[0].data_digest for runs in sets}
    seeds, records = plural(len({run.seed for run, _ in made}), "seed"), plural(len(made), "record")
    facts = {"runs": f"budget {made[0][0].budget}, {seeds}, {records}", **machines([record for _, record in made])}
    return terms(facts | {"stand-ins": ", ".join(f"{name} {digest}" for name, digest in digests.items())})


def _title(runs: Runs) -> str:
    return DATASETS[runs.runs[0].dataset.split("-np-")[0]]


def _change(found: Interval | None) -> Cell:
    if found is None:
        return Cell(NOT_RUN, state=True)
    return Cell(change(found), grey=not found.decides)


def _finished(runs: Runs, label: str) -> pd.DataFrame:
    """Rank-1 and mAP of a row, a line a finished run."""
    frame = runs.frame()
    return frame[(frame["row"] == label) & (frame["state"] == "finished")].reindex(columns=["rank1", "mAP"])


def _between(runs: Runs, label: str, others: Runs, other: str) -> Interval | None:
    """Interval of `label` of one table minus `other` of another over the same queries; None where a run is missing."""
    return difference_of(finished(runs, label), finished(others, other), "ap")
