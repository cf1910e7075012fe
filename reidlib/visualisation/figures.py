"""The figures of a chapter, drawn from records: the ablation as dots, and the training curves."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from reidlib.visualisation.tables import _pooled

DPI = 120


def ablation(runs, reported: pd.DataFrame, metric: str = "mAP") -> Figure:
    """Two panels with one line a row: the paper's numbers (real images), ours with their intervals (these images)."""
    labels = list(dict.fromkeys(run.row.label for run in runs.runs))
    finished = {run.row.label for run, _ in runs.records()}
    source = runs.runs[0].source
    heights = np.arange(len(labels))[::-1]
    with sns.axes_style("whitegrid"):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(9, 0.38 * len(labels) + 1.3), sharey=True, layout="constrained"
        )
    left.plot([reported[metric].get(label, np.nan) for label in labels], heights, "o", color="0.35")
    left.set(title="paper, real images", xlabel=f"{metric} (%)", yticks=heights, yticklabels=labels)
    for height, label in zip(heights, labels, strict=True):
        if label in finished:
            span = _pooled(runs, label)
            right.plot([span.low, span.high], [height, height], "-", color="C0", linewidth=2, alpha=0.5)
            right.plot(span.mean, height, "o", color="C0")
    right.set(title=f"here, {source} images, 95 % interval over queries", xlabel=f"{metric} (%)")
    right.tick_params(labelleft=False)
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
    return _finished(figure)


def curves(runs, groups: dict[str, Sequence[str]]) -> Figure:
    """Training loss by epoch, one panel a group of rows (title: labels), all on one scale."""
    made = {}
    for run, record in runs.records():
        made.setdefault(run.row.label, []).append(record.curve)
    with sns.axes_style("whitegrid"):
        figure, panels = plt.subplots(
            1, len(groups), figsize=(9, 3.4), sharey=True, layout="constrained", squeeze=False
        )
    for axes, (title, labels) in zip(panels[0], groups.items(), strict=True):
        for colour, label in zip(sns.color_palette("colorblind"), labels, strict=False):
            for seed, curve in enumerate(made.get(label, [])):
                epochs = [point["epoch"] for point in curve]
                losses = [point["loss"] for point in curve]
                axes.plot(epochs, losses, ".-", color=colour, label=label if seed == 0 else None)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.lines:
            axes.legend(fontsize=7, frameon=False)
    panels[0][0].set_ylabel("training loss")
    return _finished(figure)


def _finished(figure: Figure) -> Figure:
    """Fixed resolution; closed, so that a notebook shows the figure once, as the value of its cell."""
    figure.set_dpi(DPI)
    plt.close(figure)
    return figure
