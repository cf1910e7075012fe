"""The figures of a chapter, drawn from records: claims, the ablation as dots, and the training curves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from io import StringIO
from itertools import cycle, product
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator
from matplotlib.transforms import blended_transform_factory

from reidlib.evaluation.statistics import Interval
from reidlib.pages.claims import CONTRADICTED, NOT_TESTABLE, SUPPORTED, Decision, in_order_of_verdict, signed
from reidlib.pages.formatting import change, interval, number
from reidlib.pages.tables import NOT_RUN, PAPER, Name, pooled, printed_map, row_of, rows_of, title
from reidlib.runs.run import Runs

DPI, PHOTOGRAPHS = 100, 200
"""Dots per inch of curves, and of photographs, which a screen of high resolution shows at twice its pixels."""

RANKS = np.arange(1, 21)
"""Of a CMC curve."""

PHONE = 3.55
"""Inches: the width of a figure that a phone shows as a whole."""

SMOOTH = "photograph"
"""Begins the names of images that a browser enlarges smoothly."""

LOOKS = {SUPPORTED: ("#0173b2", "o", "#0173b2"), CONTRADICTED: ("#b04a00", "D", "#b04a00")}
"""Colour, mark and its filling by verdict; every other verdict is grey with an empty mark."""


def forest(found: Sequence[Decision]) -> Figure | None:
    """The differences of these claims with their intervals: a line a claim, beside its verdict as symbol and word.

    Claims about the same two rows stand together under the names of these, decided ones first. A difference that is
    not testable is left out: beside a large one no other could be read. None where no difference is left.
    """
    pairs: dict[str, list[tuple[Decision, Interval]]] = {}
    for one in in_order_of_verdict(found):
        if one.here and one.verdict != NOT_TESTABLE:
            pairs.setdefault(fill(f"{one.claim.better} against {one.claim.worse}", 42), []).append((one, one.here))
    if not pairs:
        return None
    for own in pairs.values():
        own.sort(key=lambda pair: pair[0].claim.measure)  # mAP first, as everywhere
    lines = sum(len(own) + 1.2 + name.count("\n") for name, own in pairs.items())
    with sns.axes_style("white"):
        figure, axes = plt.subplots(figsize=(PHONE, 0.24 * lines + 1.1), layout="constrained")
    axes.axvline(0, color="0.4", linewidth=1, zorder=0)
    place, labels, said = 0.0, {}, []
    for name, own in pairs.items():
        place = _named(axes, place, name)
        for one, here in own:
            place += 1
            labels[place] = f"{signed(one.verdict)}, {one.claim.measure}"
            colour, mark, filling = LOOKS.get(one.verdict, ("0.4", "o", "white"))
            axes.plot([here.low, here.high], [place] * 2, "-", color=colour, linewidth=2.5, alpha=0.6)
            axes.plot(here.mean, place, mark, color=colour, mfc=filling, markersize=7)
        found_here = ", ".join(f"{one.claim.measure} {change(here)} ({signed(one.verdict)})" for one, here in own)
        said.append(f"{' '.join(name.split())}: {found_here}")
        place += 1.2
    below = "difference in points, 95 % interval of each claim alone;\n"
    below += "verdicts are corrected for all claims of the paper"
    figure.supxlabel(below, fontsize=9)
    axes.set(yticks=list(labels), yticklabels=list(labels.values()))
    axes.set_ylim(place - 0.6, -0.7)
    axes.tick_params(labelsize=9.5)
    sns.despine(ax=axes, left=True)
    return finished(figure, words=f"Differences in points. {'; '.join(said)}.")


def ablation(runs: Runs, reported: pd.DataFrame) -> Figure | None:
    """Two panels with one line a row, under its name: mAP in the paper (real images), ours with its interval (these
    images). One that would be empty is left out; None where both would be."""
    names: list[Name] = [(row.label, row.variant) for row in rows_of(runs)]
    made = {(run.row.label, run.row.variant) for run, _ in runs.records()}
    printed = [printed_map(runs, reported, name) for name in names]
    has_printed = bool(np.isfinite(printed).any())
    if not (has_printed or made):
        return None
    titles = [fill(title(runs, name), 42) for name in names]
    lines = sum(1.9 + words.count("\n") for words in titles)
    figure, axes = panels(PHONE, 0.22 * lines + 1.0, has_printed + bool(made))
    left, right, place, said = axes[0], axes[-1], 0.0, []
    for name, words, value in zip(names, titles, printed, strict=True):
        place = _named(left, place, words) + 0.8
        for each in axes:
            each.axhline(place, color="0.9", zorder=0)
        found = []
        if np.isfinite(value):
            left.plot(value, place, "o", color="0.35")
            found.append(f"paper {number(value)}")
        if name in made:
            span = pooled(runs, name)
            found.append(f"here {number(span.mean)} {interval(span)}")
            right.plot([span.low, span.high], [place, place], "-", color="C0", linewidth=2, alpha=0.5)
            right.plot(span.mean, place, "o", color="C0")
        elif made:
            within = right.get_yaxis_transform()
            look = dict(
                va="center",
                fontsize=9,
                style="italic",
                color="0.35",
                bbox=dict(facecolor="white", edgecolor="none", pad=1),
            )
            right.text(0.02, place, NOT_RUN, transform=within, **look)
        said.append(f"{' '.join(words.split())}: {', '.join(found) or 'no number'}")
        place += 1.1
    if has_printed:
        left.set(title=PAPER, xlabel="mAP (%)")
    if made:
        right.set(title=f"here, {runs.runs[0].source} images", xlabel="mAP (%), 95 % interval")
    left.set(yticks=[], ylim=(place - 0.5, -0.8), zorder=1)  # names reach over the other panel
    figure.set_layout_engine("constrained", w_pad=0.12)  # keeps the numbers of the two axes apart
    for each in axes:
        each.xaxis.set_major_locator(MaxNLocator(4))
        each.title.set_fontsize(9.5)
        each.tick_params(labelsize=9)
        sns.despine(ax=each, left=True)
    return finished(figure, words=f"mAP (%), in the paper and here with its 95 % interval. {'; '.join(said)}.")


def _named(axes: Axes, place: float, words: str) -> float:
    """Writes the name of what stands below it from the left edge of the figure; the place of its last line."""
    left = blended_transform_factory(axes.figure.transFigure, axes.transData)
    place += words.count("\n") / 2
    text = axes.text(0.01, place, words, transform=left, va="center", fontsize=9, fontweight="bold")
    text.set_in_layout(False)
    text.set_bbox(dict(facecolor="white", edgecolor="none", pad=1))
    return place + words.count("\n") / 2


def curves(runs: Runs, groups: dict[str, Sequence[Name]]) -> Figure:
    """Training loss by epoch, one panel below the other for each group of rows (title: their names), each on its own
    scale: losses have different terms. A line is the mean over seeds, with the range of the seeds around it. Rows that
    test one trained network share its curve, drawn once under the first of them. A group without a record has none."""
    rows = [run.row for run, _ in runs.records()]
    made_of = {heading: names for heading, names in groups.items() if any(row_of(runs, name) in rows for name in names)}
    groups, several = made_of or groups, len({run.seed for run, _ in runs.records()}) > 1
    looks = list(product((".-", ".--"), sns.color_palette("colorblind")))
    with sns.axes_style("whitegrid"):
        size = (PHONE, sum(2.6 + 0.15 * len(names) for names in groups.values()))
        figure, axes_ = plt.subplots(len(groups), figsize=size, layout="constrained", squeeze=False)
    for axes, (heading, names) in zip(axes_[:, 0], groups.items(), strict=True):
        drawn: set[str] = set()
        for name, (style, colour) in zip(names, cycle(looks), strict=False):
            row = row_of(runs, name)
            made = {record.network: record.curve for run, record in runs.records() if run.row == row}
            if seeds := [curve for network, curve in made.items() if curve and network not in drawn]:
                drawn |= made.keys()
                points = pd.concat([pd.DataFrame(curve, columns=["epoch", "loss"]) for curve in seeds])
                line = points.groupby("epoch")["loss"].agg(["mean", "min", "max"])
                axes.plot(line.index, line["mean"], style, color=colour, label=title(runs, name))
                axes.fill_between(line.index, line["min"], line["max"], color=colour, alpha=0.2, linewidth=0)
        axes.set(title=fill(heading, 42), xlabel="epoch", ylabel="training loss")
        axes.xaxis.get_major_locator().set_params(integer=True)
        _named_below(axes, "mean over seeds, and their range" if several else "")
    figure.set_layout_engine("constrained", h_pad=0.12)  # keeps the names below one panel off the title of the next
    return finished(figure)


def _named_below(axes: Axes, words: str = "") -> None:
    """The names of the lines, below the panel, where they cover none of them. words: above the names."""
    if axes.lines:
        drawn = dict(fontsize=8.25, title_fontsize=8.25, frameon=False)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=5, title=words, **drawn)


def cmc(runs: Runs) -> Figure:
    """CMC at ranks 1 to 20 in percent, a line a row with a record; seeds pooled. All rows are tested on one gallery."""
    hits: dict[str, list[np.ndarray]] = {}
    for run, _ in runs.records():
        hits.setdefault(title(runs, run.row), []).append(run.per_query("first_hit"))
    figure, axes = panel(PHONE, 2.8 + 0.15 * len(hits))
    for colour, (label, found) in zip(sns.color_palette("colorblind", len(hits)), hits.items(), strict=True):
        share = (np.concatenate(found)[:, None] <= RANKS).mean(0)
        axes.plot(RANKS, 100 * share, ".-", color=colour, label=label)
    axes.set(xlabel="rank", ylabel="CMC (%)", xlim=(0.5, RANKS[-1] + 0.5))
    axes.set_title(f"here, {runs.runs[0].source} images")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _named_below(axes)
    return finished(figure)


def panels(width: float, height: float, many: int) -> tuple[Figure, np.ndarray]:
    """Panels beside each other with one vertical axis; width and height in inches."""
    with sns.axes_style("whitegrid"):
        figure, found = plt.subplots(1, many, figsize=(width, height), sharey=True, layout="constrained", squeeze=False)
    return figure, found[0]


def panel(width: float, height: float) -> tuple[Figure, Axes]:
    """A single one."""
    figure, (axes,) = panels(width, height, 1)
    return figure, axes


def finished(figure: Figure, dpi: int = DPI, words: str = "") -> Figure:
    """Fixed resolution; closed, so that a notebook shows the figure once, as the value of its cell. A figure of lines
    and letters is shown as SVG, and so is one of images and maps that has words of its own for those who cannot see
    it; any other with images as PNG."""
    plt.close(figure)  # sets the resolution back
    figure.set_dpi(dpi)
    if words or not any(axes.images for axes in figure.axes):
        vars(figure)["_repr_svg_"] = partial(_svg, figure, words)  # IPython looks for it at every value of a cell
    return figure


def _svg(figure: Figure, words: str) -> str:
    """The same each time, without a date or random names. An image drawn in its own pixels (interpolation "none") shows
    them as squares, unless its name (gid) begins with SMOOTH."""
    text = StringIO()
    with plt.rc_context({"svg.hashsalt": "reid"}):
        metadata = {"Date": None, "Title": words or in_words(figure)}
        figure.savefig(text, format="svg", bbox_inches="tight", metadata=metadata)
    squares = ' style="image-rendering:crisp-edges;image-rendering:pixelated"'
    smooth = re.sub(rf'<image [^>]*id="{SMOOTH}[^>]*>', lambda image: image[0].replace(squares, ""), text.getvalue())
    # Hundredths of a point are enough for a line.
    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), smooth)


def in_words(figure: Figure) -> str:
    """What a chart shows, for those who cannot see it: of each panel its title, its axes and the rows that it names."""
    panels = []
    for axes in figure.axes:
        words = [axes.get_title(), " over ".join(filter(None, [axes.get_ylabel(), axes.get_xlabel()]))]
        if isinstance(axes.yaxis.get_major_locator(), FixedLocator):
            words.append(", ".join(filter(None, (label.get_text() for label in axes.get_yticklabels()))))
        panels.append(": ".join(filter(None, words)))
    return "Chart. " + "; ".join(filter(None, dict.fromkeys(panels)))
