"""The figures of a chapter, drawn from records: the ablation as dots, and the training curves."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from reidlib.pages.tables import Name, pooled, printed_number, row_of, rows_of, title
from reidlib.runs.run import Runs

DPI = 120


def ablation(runs: Runs, reported: pd.DataFrame, metric: str = "mAP") -> Figure:
    """Two panels with one line a row: the paper's numbers (real images), ours with their intervals (these images).

    Where the paper prints none of them, the first panel is left out.
    """
    rows = rows_of(runs)
    names = [(row.label, row.variant) for row in rows]
    made = {(run.row.label, run.row.variant) for run, _ in runs.records()}
    printed = [printed_number(runs, reported, name, metric) for name in names]
    panels = 2 if np.isfinite(printed).any() else 1
    heights = np.arange(len(names))[::-1]
    with sns.axes_style("whitegrid"):
        figure, axes = plt.subplots(
            1, panels, figsize=(9, 0.38 * len(names) + 1.3), sharey=True, layout="constrained", squeeze=False
        )
    left, right = axes[0][0], axes[0][-1]
    if panels == 2:
        left.plot(printed, heights, "o", color="0.35")
        left.set(title="paper, real images", xlabel=f"{metric} (%)")
    for height, name in zip(heights, names, strict=True):
        if name in made:
            span = pooled(runs, name)
            right.plot([span.low, span.high], [height, height], "-", color="C0", linewidth=2, alpha=0.5)
            right.plot(span.mean, height, "o", color="C0")
    source = runs.runs[0].source
    right.set(title=f"here, {source} images, 95 % interval over queries", xlabel=f"{metric} (%)")
    left.set(yticks=heights, yticklabels=[fill(title(runs, name), 44) for name in names])
    if panels == 2:
        right.tick_params(labelleft=False)
    for panel in axes[0]:
        panel.grid(axis="y", visible=False)
    return finished(figure)


def curves(runs: Runs, groups: dict[str, Sequence[Name]]) -> Figure:
    """Training loss by epoch, one panel a group of rows (title: their names), all on one scale.

    Rows that test one trained network share its curve, drawn once under the first of them.
    """
    made = {}
    for run, record in runs.records():
        made.setdefault((run.row.label, run.row.variant), []).append(record)
    with sns.axes_style("whitegrid"):
        figure, panels = plt.subplots(
            1, len(groups), figsize=(9, 3.4), sharey=True, layout="constrained", squeeze=False
        )
    for axes, (heading, names) in zip(panels[0], groups.items(), strict=True):
        drawn = set()
        for colour, name in zip(sns.color_palette("colorblind", len(names)), names, strict=True):
            row = row_of(runs, name)
            records = made.get((row.label, row.variant), []) if row else []
            fresh = [record for record in records if record.network not in drawn]
            for number, record in enumerate(fresh):
                drawn.add(record.network)
                epochs = [point["epoch"] for point in record.curve]
                losses = [point["loss"] for point in record.curve]
                label = title(runs, name) if number == 0 else None
                axes.plot(epochs, losses, ".-", color=colour, label=label)
        axes.set(title=heading, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.lines:
            axes.legend(fontsize=7, frameon=False)
    panels[0][0].set_ylabel("training loss")
    return finished(figure)


def finished(figure: Figure) -> Figure:
    """Fixed resolution; closed, so that a notebook shows the figure once, as the value of its cell."""
    figure.set_dpi(DPI)
    plt.close(figure)
    return figure
