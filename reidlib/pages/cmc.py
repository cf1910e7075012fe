"""SafeNet's Figure 5: rows as CMC curves, and the differences that the text prints where the rows have no number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reidlib import paths
from reidlib.pages.figures import finished, panel
from reidlib.pages.formatting import number
from reidlib.pages.render import Column, TableView, table
from reidlib.pages.tables import Name, difference_cells, paired, title_of
from reidlib.runs.run import Runs
from reidlib.spec import ReidError

RANKS = np.arange(1, 21)


def curves(runs: Runs) -> Figure:
    """CMC at ranks 1 to 20 in percent, a line a row with a record; seeds pooled. All rows are tested on one gallery."""
    hits: dict[str, list[np.ndarray]] = {}
    for run, _ in runs.records():
        hits.setdefault(title_of(runs, run.row), []).append(run.per_query("first_hit"))
    figure, axes = panel(6, 3.6)
    for colour, (label, found) in zip(sns.color_palette("colorblind", len(hits)), hits.items(), strict=True):
        share = (np.concatenate(found)[:, None] <= RANKS).mean(0)
        axes.plot(RANKS, 100 * share, ".-", color=colour, label=label)
    title = f"here, {runs.runs[0].source} images"
    axes.set(title=title, xlabel="rank", ylabel="CMC (%)", xlim=(0.5, RANKS[-1] + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if hits:
        axes.legend(fontsize=8.25, frameon=False, loc="lower right")
    return finished(figure)


def printed_differences(runs: Runs, steps: Sequence[tuple[Name, Name, str, str]]) -> TableView:
    """Differences that the text prints, beside the same here with their paired intervals.

    steps: (row, compared with, metric, name of the difference in the column `table` of results/reported.tsv). A drop is
    printed there without its sign, its name ends in "(drop)". A name that is not there is a ReidError.
    """
    file = paths.home() / "results" / "reported.tsv"
    frame = pd.read_csv(file, sep="\t", keep_default_na=False)
    columns = [Column("row", "label"), Column("compared with", "label"), Column("metric", "label")]
    columns += [Column("Δ, paper", reported=True), Column("the paper's words", "quote")]
    lines = []
    for row, other, metric, name in steps:
        found = frame[(frame["paper"] == runs.table.paper) & (frame["table"] == name) & (frame["metric"] == metric)]
        if len(found) != 1:
            raise ReidError(f"{file}: {len(found)} lines of {name!r} with {metric}; name a difference that has one")
        (printed,) = found.to_dict("records")
        value = float(printed["value"]) * (-1 if printed["row"].endswith("(drop)") else 1)
        here = difference_cells(paired(runs, row, other, metric))
        lines.append([row, other, metric, number(value, sign=True), f"“{printed['quote']}”", *here])
    return table([*columns, "Δ, here", "95 % interval"], lines, f"{runs.table.slug}: differences that the text prints")
