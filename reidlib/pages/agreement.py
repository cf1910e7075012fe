"""Do the rows of a table come in the paper's order? Kendall's τ between printed and measured numbers.

Beside it stands τ between the numbers that the paper prints for its own data sets: as much as one set of photographs
says of the order on another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from scipy import stats

from reidlib import papers
from reidlib.data import cuhk03
from reidlib.evaluation import statistics
from reidlib.evaluation.statistics import Spread
from reidlib.pages.formatting import in_order
from reidlib.pages.render import Column, Piece, Text, table
from reidlib.pages.tables import PRINTED, PUBLISHED, did_not_learn, floors, in_record, recorded_runs
from reidlib.runs.run import reported_numbers
from reidlib.spec import ReidError, Table


@dataclass(frozen=True)
class Agreement:
    """Of one table and data set. rows: those compared. between: τ of its printed numbers and those of other sets."""

    slug: str
    dataset: str
    metric: str
    rows: int
    tau: Spread
    between: list[float]

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's, over seeds, τ itself ends at −1 and 1. None from fewer than three seeds."""
        if self.tau.n < statistics.FEWEST_SEEDS:
            return None
        reach = float(stats.t.ppf(0.5 + statistics.LEVEL / 2, self.tau.n - 1) * self.tau.sd / self.tau.n**0.5)
        return max(self.tau.mean - reach, -1.0), min(self.tau.mean + reach, 1.0)

    def cells(self) -> list:
        reach, between = self.interval, self.between
        shown = f"[{_tau(reach[0])}, {_tau(reach[1])}]" if reach else "–"
        others = _tau(sum(between) / len(between)) if between else "–"
        others += f" ({_tau(min(between))} to {_tau(max(between))})" if len(between) > 1 else ""
        taus = [_tau(self.tau.mean), shown, others]
        return [self.slug, self.dataset, *taus, PRINTED[self.metric], self.rows, self.tau.n]


def _tau(value: float) -> str:
    """Two decimals, a true minus sign, no minus before zero."""
    return f"{value:z.2f}".replace("-", "−")


def page(budget: str, source: str = "stand-in") -> Piece:
    """One line for each table and data set that has three rows or more with both a printed and a measured number."""
    if not (lines := [one.cells() for one in found(budget, source)]):
        return Text("No table has three rows with both a printed number and a record yet.")
    columns = [Column("table", "label"), Column("data set", "label"), "τ, paper and here", "95 %, seeds"]
    columns += ["τ, between the paper's data sets", "metric", "rows", "seeds"]
    below = ["τ is 1 where two orders are the same, 0 where one says nothing of the other, −1 where one is reversed."]
    below += ["Rows that did not learn, or began from other weights than most of their table, are left out."]
    return table(columns, lines, "Agreement of order between printed and measured rows", over=True, below=below)


def found(budget: str, source: str = "stand-in") -> list[Agreement]:
    """Each table and data set with three rows or more that have both numbers, of mAP or else rank-1."""
    known = [own for own in papers.tables().values() if budget in own.budgets]
    order = in_order([own.paper for own in known])
    known.sort(key=lambda own: order.index(own.paper))
    return [one for own in known for one in _of_table(own, budget, source)]


def _of_table(own: Table, budget: str, source: str) -> Iterator[Agreement]:
    printed = {dataset: numbers for dataset in own.datasets if not (numbers := _printed(own, dataset)).empty}
    for dataset, numbers in printed.items():
        for metric in (name for name in ("mAP", "rank1") if name in numbers):
            labels = list(numbers[metric].dropna().index)
            measured = _measured(own, dataset, budget, source, metric, labels)
            if measured.empty:
                continue
            try:
                tau = statistics.kendall(numbers[metric][measured.index].tolist(), measured.T.to_numpy().tolist())
            except ReidError:  # fewer than three rows, or no order among them
                continue
            others = [other for name, other in printed.items() if name != dataset and not other.equals(numbers)]
            name, between = cuhk03.all_splits(dataset), _between(numbers, others, metric)
            yield Agreement(own.slug, name, metric, len(measured), tau, between)
            break


def _printed(own: Table, dataset: str) -> pd.DataFrame:
    """What the paper prints for the rows as published. None where all of them repeat rows of other tables: their order
    is compared there."""
    labels = [row.label for row in own.rows if row.variant == PUBLISHED]
    numbers, repeats = reported_numbers(own, dataset), own.same_as.keys() >= set(labels)
    return numbers.loc[[label for label in labels if label in numbers.index and not repeats]]


def _measured(own: Table, dataset: str, budget: str, source: str, metric: str, labels: list[str]) -> pd.DataFrame:
    """Measured numbers, a line a row and a column a seed: the seeds with most rows, and what rows they share. Without
    rows that did not learn, or that began from other weights than most: these stand where they do for that reason."""
    runs = recorded_runs(own.slug, budget, dataset, source, rows=labels) if labels else ()
    published = [(run, run.record(arrays=False)) for run in runs if run.row.variant == PUBLISHED]
    made = [(run, record) for run, record in published if record and record.ok]
    if not made:
        return pd.DataFrame()
    ((usual, _),) = Counter(record.start for _, record in made).most_common(1)
    known = floors(made[0][0])
    of_row = {label: [run for run, _ in made if run.row.label == label] for label in labels}
    learned = [label for label, own_runs in of_row.items() if own_runs and not did_not_learn(own_runs, known)]
    found = pd.DataFrame({run.seed: {} for run, _ in made}, index=labels, dtype=float)
    for run, record in made:
        if record.start == usual and run.row.label in learned:
            found.loc[run.row.label, run.seed] = record.metrics[run.protocol][in_record(own, metric)]
    found = found.dropna(how="all").dropna(axis=1, how="all")
    return found.loc[:, found.count() == found.count().max()].dropna()


def _between(numbers: pd.DataFrame, others: list[pd.DataFrame], metric: str) -> list[float]:
    """τ between the numbers printed for this data set and for each other that has three rows or more of them."""
    found = []
    for other in others:
        if metric in other:
            both = pd.concat([numbers[metric], other[metric]], axis=1).dropna().to_numpy().T
            if both.shape[1] >= 3 and (value := stats.kendalltau(*both).statistic) == value:
                found.append(float(value))
    return found
