"""Whether the rule behind the verdicts keeps its promise, asked of the records: `evaluation.calibration` on real runs.

`benchmarks/calibration.py` prints the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations, pairwise

import numpy as np

from reidlib import papers
from reidlib.evaluation import calibration, statistics
from reidlib.evaluation.calibration import Components, Share
from reidlib.evaluation.statistics import Interval
from reidlib.pages.formatting import change, number
from reidlib.pages.render import Cell, Column, Page, Piece, TableView, Text, table
from reidlib.pages.tables import PUBLISHED, finished, recorded_runs, rows_of, stored, title
from reidlib.papers.standins import HEADLINES
from reidlib.runs.run import Run, Runs, recorded_seeds

MANY = 10
"""Seeds of one configuration, of which all splits into two groups are compared."""

SEEDS = (1, 2, 3, 5, 10)
PLANTED = (1.0, 2.0, 3.0, 5.0)
"""Seeds a side, and true differences in points, that are simulated."""

PARTS = ("seed", "person", "together")
"""What varies, in the order of `Components`."""


def pairs(budget: str, source: str = "stand-in") -> dict[str, Components]:
    """What varies between the runs of each row as published of the headline tables and of the one before it, on the
    table's first data set, where both have at least two seeds."""
    found = {}
    for slug in HEADLINES:
        runs = Runs(recorded_runs(slug, budget, papers.table(slug).datasets[0], source))
        labels = [row.label for row in rows_of(runs) if row.variant == PUBLISHED]
        for before, label in pairwise(labels):
            first, second = finished(runs, label), finished(runs, before)
            if min(len(first), len(second)) > 1:
                own = calibration.components(_values(first), _values(second), first[0].identities())
                found[f"{slug}: {label} against {before}"] = own
    return found


def together(found: Collection[Components]) -> Components:
    """The components of all pairs in one: the root of the mean variance."""
    roots = [float(np.mean([getattr(one, part) ** 2 for one in found]) ** 0.5) for part in PARTS]
    return Components(*roots, round(float(np.mean([one.persons for one in found]))))


def _many(budget: str, source: str) -> Iterator[tuple[str, list[Run]]]:
    """Every configuration with `MANY` finished seeds or more: its name and these runs."""
    seen = set()  # a row can stand in several tables
    for slug, own in sorted(papers.tables().items(), key=lambda item: item[0] not in HEADLINES):
        for dataset in own.datasets if budget in own.budgets else ():
            if len(recorded_seeds(slug, budget=budget, dataset=dataset, source=source)) < MANY:
                continue
            runs = Runs(recorded_runs(slug, budget, dataset, source))
            for row in rows_of(runs):
                made = finished(runs, row)
                if len(made) >= MANY and made[0].key not in seen:
                    seen.add(made[0].key)
                    yield f"{slug}: {title(runs, row)}, {dataset}", made


def splits(budget: str, source: str = "stand-in") -> Iterator[tuple[str, int, int, Share]]:
    """Of each of these configurations its name, its seeds, seeds a side, and how often two groups of these seeds are
    called different."""
    for name, made in _many(budget, source):
        for side in (side for side in SEEDS if 2 * side < len(made)):
            yield name, len(made), side, calibration.splits(_values(made), made[0].identities(), side)


def devices(budget: str, source: str = "stand-in") -> Iterator[tuple[str, str, str, Interval]]:
    """Of each of these configurations that has seeds enough on two kinds of device: its name, the kinds, the seeds on
    either, and the difference between the kinds."""
    for name, made in _many(budget, source):
        sides: dict[str, list[Run]] = {}
        for run, record in Runs(tuple(made)).records():
            sides.setdefault(record.device_kind, []).append(run)
        enough = [(kind, side) for kind, side in sorted(sides.items()) if len(side) >= statistics.FEWEST_SEEDS]
        for (one, first), (other, second) in combinations(enough, 2):
            found = statistics.difference(_values(first), _values(second), made[0].identities())
            yield name, f"{one} against {other}", f"{len(first)}/{len(second)}", found


def page(budget: str, source: str = "stand-in", draws: int = calibration.DRAWS) -> Page:
    """What varies between runs, false positives and power by seeds a side, and all splits; or what they lack."""
    shown: list[Piece] = []
    if found := pairs(budget, source):
        shown += [_components(found), _simulated(together(found.values()), draws)]
    else:
        shown.append(Text("What varies between seeds is not known yet: no headline table has two rows with two seeds."))
    lines = [[name, many, side, _share(answer)] for name, many, side, answer in splits(budget, source)]
    if lines:
        kinds = {"configuration": "label", "seeds": "number", "seeds a side": "number", "called different, %": "number"}
        shown.append(table(kinds, lines, "All splits of the seeds of one configuration: every difference is false"))
    else:
        shown.append(Text(f"No configuration has {MANY} seeds yet, of which all splits could be compared."))
    if lines := [[*said, change(found)] for *said, found in devices(budget, source)]:
        kinds = {"configuration": "label", "devices": "label", "seeds": "number", "Δ mAP": "number"}
        shown.append(table(kinds, lines, "One configuration on two kinds of device"))
    return Page(shown)


def _components(found: Mapping[str, Components]) -> TableView:
    columns = ["rows", "seeds", "persons", "seed with person"]
    lines = [[name, *(number(100 * getattr(own, part)) for part in PARTS)] for name, own in found.items()]
    return table(columns, lines, "What varies: standard deviations of AP between seeds, persons, and both, in points")


def _simulated(own: Components, draws: int) -> TableView:
    columns = [Column("seeds a side", "number"), "false positives, %"]
    columns += [Column(f"{shift:g}", group="found, %, of a true difference of … points") for shift in PLANTED]
    shifts = (0.0, *PLANTED)
    lines = [[side, *(_share(calibration.simulate(own, side, shift, draws)) for shift in shifts)] for side in SEEDS]
    caption = f"Simulated runs with these variances, {own.persons} persons, {draws:,} draws; at most 5 % may be false"
    below = ["From fewer than three seeds there is no verdict: the lines show what it would be worth."]
    return table(columns, lines, caption, below=below)


def _share(answer: Share) -> Cell:
    return Cell(f"{number(answer.found)} ± {answer.error:.1f}")


def _values(made: list[Run]) -> list[np.ndarray]:
    return [run.per_query(stored(Runs(tuple(made)), "mAP")) for run in made]
