"""The page "The five compared": the five systems beside simple descriptors and baselines, with one test for all.

Twice: each system with its own recipe (the headline tables), and all with one common recipe (`standins.COMMON`). All
numbers are mAP and rank-1 by the plain sum, whatever rule a paper's own table has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reidlib import papers
from reidlib.evaluation import statistics
from reidlib.evaluation.statistics import FEWEST_SEEDS, Interval, Spread
from reidlib.models.untrained import ColourHistogram, RandomFeatures
from reidlib.pages import agreement, declared, figures, progress
from reidlib.pages.formatting import change, number, plural
from reidlib.pages.render import Cell, Code, Column, Strong, TableView, Text, state, table
from reidlib.pages.tables import DID_NOT_LEARN, PAPER, did_not_learn, difference_of, mean_of, recorded_runs
from reidlib.papers import standins
from reidlib.runs import estimates
from reidlib.runs.records import Record
from reidlib.runs.run import Run, Runs, reported_numbers
from reidlib.spec import Settings
from reidlib.training import cost

NOT_YET = "not run yet"
OWN, COMMON = "own recipe", "common recipe"
FEWEST_ROWS = 4
"""Rows with a printed and a measured number from which a table is in the figure of orders."""

DIFFICULTY, CONTROLS, SHARED, BASELINES = (
    own.slug for own in (standins.DIFFICULTY, standins.CONTROLS, standins.COMMON, standins.COMMON_BASELINES)
)
SIMPLE = (standins.CHANCE, standins.STRIPES, standins.UNTRAINED, standins.STARTED)
Place = tuple[str, str]
"""A row: slug of its table, label."""


@dataclass(frozen=True)
class Entry:
    """One line of the comparison: a row's runs, those of its own baseline and those of the plain ResNet-50.

    baseline: empty for what is no system of a paper.
    """

    name: str
    runs: tuple[Run, ...]
    baseline: tuple[Run, ...]
    plain: tuple[Run, ...]

    @property
    def settings(self) -> Settings:
        return self.runs[0].settings

    @property
    def is_system(self) -> bool:
        return self.name in standins.SYSTEMS

    @cached_property
    def made(self) -> list[tuple[Run, Record]]:
        return Runs(self.runs).records()

    @property
    def trained(self) -> bool:
        """Whether there is a finished run of a network that was trained."""
        return bool(self.made and self.settings.recipe.epochs)

    @cached_property
    def mean(self) -> float:
        """mAP, in percent, over the seeds."""
        return float(np.mean(self.scores("mAP")))

    @cached_property
    def learned(self) -> bool:
        """Whether there are finished runs that have learned, or nothing was to be learned."""
        return bool(self.made) and not did_not_learn([run for run, _ in self.made])

    def scores(self, metric: str) -> list[float]:
        """In percent, one a seed."""
        return [record.metrics[run.protocol][metric] for run, record in self.made]

    @cached_property
    def gain(self) -> Interval | None:
        """In mAP over its own baseline; None where one of both has no run or did not learn."""
        return self._over(self.baseline)

    @cached_property
    def over_plain(self) -> Interval | None:
        """The same over the plain ResNet-50; None for that one itself."""
        return None if self.plain == self.runs else self._over(self.plain)

    def _over(self, others: tuple[Run, ...]) -> Interval | None:
        held = [run for run, _ in Runs(others).records()]
        lost = not (held and self.learned) or did_not_learn(held)
        return None if lost else difference_of([run for run, _ in self.made], held, "ap")


def own_recipes(budget: str, dataset: str, source: str = "stand-in") -> list[Entry]:
    """Each system with its own recipe, from the tables of the papers; a table without the data set has no line."""
    plain = (DIFFICULTY, standins.TRAINED)
    rows: dict[str, tuple[Place, Place | None]] = {name: ((DIFFICULTY, name), None) for name in SIMPLE}
    rows[standins.PLAIN_BASELINE] = (plain, None)
    rows[standins.STRONG_BASELINE] = ((CONTROLS, standins.STRONG.label), None)
    for name, ((held, baseline), (whole, final)) in standins.SYSTEMS.items():
        rows[name] = ((whole.slug, final), (held.slug, baseline))
    return _entries(rows, plain, budget, dataset, source)


def common_recipe(budget: str, dataset: str, source: str = "stand-in") -> list[Entry]:
    """All of them with the common recipe. FMN's own baseline is the plain ResNet-50 then."""
    plain = (SHARED, standins.PLAIN_BASELINE)
    kept = {row.label for row in standins.COMMON_BASELINES.rows}
    rows: dict[str, tuple[Place, Place | None]] = {
        row.label: ((SHARED, row.label), None) for row in standins.COMMON.rows
    }
    rows |= {name: ((SHARED, name), (BASELINES, name) if name in kept else plain) for name in standins.SYSTEMS}
    return _entries(rows, plain, budget, dataset, source)


def _entries(
    rows: dict[str, tuple[Place, Place | None]], plain: Place, budget: str, dataset: str, source: str
) -> list[Entry]:
    def runs(place: Place | None) -> tuple[Run, ...]:
        if place is None or dataset not in papers.table(place[0]).datasets:
            return ()
        found = recorded_runs(place[0], budget, dataset, source, rows=[place[1]])
        return tuple(run for run in found if run.row.variant == standins.PUBLISHED)

    entries = [Entry(name, runs(place), runs(baseline), runs(plain)) for name, (place, baseline) in rows.items()]
    return [entry for entry in entries if entry.runs]


# --- the table --------------------------------------------------------------------------------------------------------


def begun(entries: Sequence[Entry]) -> bool:
    """Whether any of them has a finished run."""
    return any(entry.made for entry in entries)


def comparison(entries: Sequence[Entry], recipe: str) -> TableView | Text:
    """One line an entry; a reader sorts it by any column. Where none has a finished run: the command that makes them.

    recipe: `OWN` or `COMMON`.
    """
    first = entries[0].runs[0]
    if not begun(entries):
        slugs = dict.fromkeys(run.table.slug for entry in entries for run in (*entry.runs, *entry.baseline))
        line = progress.command(list(slugs), first.budget, first.source, range(FEWEST_SEEDS), first.dataset)
        return Text(f"{recipe.capitalize()}, {first.dataset}: {NOT_YET}. This fills the table: ", Code(line), ".")
    group = f"here, {first.source} images"
    columns = [Column("row", "label")]
    columns += [Column(name, group=PAPER, reported=True) for name in ("R1", "mAP") if recipe == OWN]
    columns += [Column(name, group=group) for name in ("seeds", "R1", "mAP", "mAP, 95 %")]
    columns += [Column(name, group="gain in mAP over") for name in ("own baseline", "plain ResNet-50")]
    columns += [Column(name, group="cost") for name in ("weights, M", "multiply-adds, G", "descriptor", "minutes")]
    columns += [Column(name, group="settings") for name in ("stated", "assumed")]
    lines = []
    for entry in entries:
        lost = bool(entry.made) and not entry.learned
        cells: list[Any] = [Cell(entry.name, note=DID_NOT_LEARN if lost else "")]
        cells += _printed(entry) if recipe == OWN else ()
        if entry.made:
            means = [mean_of(pd.Series(entry.scores(metric))) for metric in ("rank1", "mAP")]
            queries = [run.per_query("ap") for run, _ in entry.made]
            here = statistics.interval(queries, entry.made[0][0].identities()) if len(queries) > 1 else "–"
            cells += [len(queries), *means, here]
            cells += [_gain(entry, entry.gain, entry.baseline), _gain(entry, entry.over_plain, entry.plain)]
        else:
            cells += state(NOT_YET, 6)
        cells += _costs(entry.settings)
        minutes = [record.seconds / 60 for _, record in entry.made]
        cells += [float(np.mean(minutes)) if minutes and entry.settings.recipe.epochs else "–"]
        lines.append([*cells, *_sources(entry, recipe)])
    caption = f"The five systems and their baselines, {recipe}, {first.dataset}, budget {first.budget}"
    below = [
        "R1 and mAP: percent, mean over seeds ± standard deviation; AP is the plain sum for all. Intervals are over "
        f"seeds and persons. A gain is grey where its interval holds zero or has fewer than {FEWEST_SEEDS} seeds; one "
        "seed has no interval.",
        "Weights leave out the classifiers. Multiply-adds are those of the test of one image at this input size, twice "
        "where the mirror image is added. Minutes include the network trained before; those of a processor and of a "
        "GPU cannot be compared.",
        "Stated and assumed settings: those at the paper's own budget with the details that it leaves unsaid, or those "
        "of the common recipe.",
    ]
    if recipe != OWN:
        below = [f"The notes below the table of the {OWN} hold here too."]
    return table(columns, lines, caption, below=below, sortable=True)


def _gain(entry: Entry, found: Interval | None, held: tuple[Run, ...]) -> Cell:
    if found is not None:
        return Cell(number(found.mean, sign=True) if found.seeds < 2 else change(found), grey=not found.decides)
    if not held or held == entry.runs:
        return Cell("–")
    return Cell(DID_NOT_LEARN if entry.made and Runs(held).records() else NOT_YET, state=True)


def _printed(entry: Entry) -> list[Any]:
    """What the paper prints for the row; "lost" where our copy has lost it."""
    run = entry.runs[0]
    if run.table.numbers_lost:
        return state("lost", 2)
    numbers = reported_numbers(run.table, run.dataset)
    return [numbers[metric].get(run.row.label, np.nan) if metric in numbers else np.nan for metric in ("rank1", "mAP")]


def _costs(settings: Settings) -> list[Any]:
    found = cost_of(settings)
    times = 2 if settings.testing.flip else 1
    weights = (found.parameters - found.classifiers) / 1e6
    return [f"{weights:.2f}", f"{times * found.multiply_adds / 1e9:.2f}", found.embedding]


def cost_of(settings: Settings) -> cost.Cost:
    """As `training.cost.cost`, also of a descriptor without weights."""
    if settings.model not in (RandomFeatures, ColourHistogram):
        return cost.cost(settings, estimates.IDENTITIES)
    network = settings.model(1, size=settings.recipe.size, **settings.options)
    counted, output = cost.multiply_adds(network, settings.recipe.size)
    return cost.Cost(0, 0, counted, output.embedding.shape[1])


def _sources(entry: Entry, recipe: str) -> list[Any]:
    """How many settings are stated and assumed, with what the paper leaves unsaid; or those of the common recipe."""
    if not entry.settings.recipe.epochs:
        return ["–", "–"]
    run = entry.runs[0]
    own = run.table.settings(run.row, "full" if "full" in run.table.budgets else run.budget)
    kinds = [value.kind for value in declared.values(own)]
    if recipe == OWN and entry.is_system:
        kinds += [value.kind for value in declared.assumptions(run.table.paper, [run.table]).values()]
    return [kinds.count(declared.STATED), kinds.count(declared.ASSUMED)]


# --- in words ---------------------------------------------------------------------------------------------------------


def answer(sets: dict[str, Sequence[Entry]]) -> Text:
    """What the records say, one sentence a recipe."""
    parts: list[str] = []
    for recipe, entries in sets.items():
        systems = [entry for entry in entries if entry.is_system]
        done = [entry for entry in systems if entry.learned]
        parts.append(Strong(f"{recipe.capitalize()}: "))
        if not done:
            parts.append(f"none of the {len(systems)} systems has a record of a network that has learned yet. ")
            continue
        best = max(done, key=lambda entry: entry.mean)
        parts.append(f"{best.name} has the highest mAP of {plural(len(done), 'system')} ({number(best.mean)}); ")
        gains = [entry.gain for entry in done if entry.gain and entry.gain.seeds >= FEWEST_SEEDS]
        if gains:
            above = sum(gain.low > 0 for gain in gains)
            parts.append(
                f"in {above} of {len(gains)} the gain over its own baseline is above zero with its whole interval; "
            )
        strong = next((entry for entry in entries if entry.name == standins.STRONG_BASELINE and entry.made), None)
        if strong:
            ahead = sum(entry.mean > strong.mean for entry in done)
            verb = "is" if ahead == 1 else "are"
            parts.append(f"{ahead} of {len(done)} {verb} above the strong plain baseline ({number(strong.mean)}). ")
        else:
            parts.append(f"the strong plain baseline is {NOT_YET}. ")
    return Text(*parts)


# --- figures ----------------------------------------------------------------------------------------------------------

MARKS = {OWN: ("o", "#0072B2"), COMMON: ("s", "#D55E00")}
"""Shape and colour; the colours are of Okabe and Ito, whom colour-blind readers can tell apart."""


def gains(sets: dict[str, Sequence[Entry]]) -> Figure | Text:
    """Forest plot: each system's gain in mAP over its own baseline, by each recipe with which any system has run; no
    interval from one seed."""
    systems_of = {recipe: [entry for entry in entries if entry.is_system] for recipe, entries in sets.items()}
    sets = {recipe: systems for recipe, systems in systems_of.items() if begun(systems)}
    if not sets:
        return Text(f"No gain can be drawn: the systems are {NOT_YET}.")
    figure, axes = _axes(0.62 * len(standins.SYSTEMS) + 1.1)
    names = list(standins.SYSTEMS)[::-1]
    axes.axvline(0, color="0.3", linewidth=1)
    said = []
    for offset, (recipe, systems) in zip((0.17, -0.17), sets.items(), strict=False):
        mark, colour = MARKS[recipe]
        look: dict[str, Any] = dict(textcoords="offset points", va="center", color=colour, size=9)
        look["bbox"] = dict(facecolor="w", edgecolor="none", pad=0.5)  # words on the line at zero stay legible
        for entry in systems:
            height = names.index(entry.name) + offset
            if (found := entry.gain) is None:
                words = f"{recipe}: {DID_NOT_LEARN if entry.made and Runs(entry.baseline).records() else NOT_YET}"
                axes.annotate(words, (0, height), (4, 0), **look)
                continue
            right = found.mean
            if found.seeds > 1:
                axes.plot([found.low, found.high], [height, height], "-", color=colour, linewidth=2)
                right = found.high
            axes.plot(found.mean, height, mark, color=colour)
            said.append(
                f"{entry.name} {change(found) if found.seeds > 1 else number(found.mean, sign=True)} ({recipe})"
            )
            words = f"{number(found.mean, sign=True)}, {recipe.removesuffix(' recipe')}"
            axes.annotate(words, (right, height), (6, 0), **look)
    label = "gain in mAP over own baseline, points;\nown and common recipe"
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel=label)
    axes.set_ylim(-0.6, len(names) - 0.4)
    low, high = axes.get_xlim()
    axes.set_xlim(low, high + 0.5 * (high - low))  # room for the words beside the dots
    return figures.finished(figure, words=f"Gains in mAP over the own baseline: {'; '.join(said)}.")


def beats(entries: Sequence[Entry]) -> pd.DataFrame:
    """How often a seed of the line's entry has a higher mAP than one of the column's, over all pairs; ties are half.
    Best first. Only what was trained and has a finished run; empty where that is fewer than two entries."""
    done = sorted((entry for entry in entries if entry.trained), key=lambda entry: -entry.mean)
    found = pd.DataFrame(index=[e.name for e in done], columns=[e.name for e in done], dtype=float)
    for one in done:
        for other in (other for other in done if other is not one):
            apart = np.subtract.outer(one.scores("mAP"), other.scores("mAP"))
            found.loc[one.name, other.name] = np.mean((apart > 0) + 0.5 * (apart == 0))
    return found if len(done) > 1 else found.iloc[:0, :0]


def matrix(entries: Sequence[Entry], recipe: str) -> Figure | Text:
    """`beats` as a grid of percentages."""
    if (found := beats(entries)).empty:
        return Text(f"{recipe.capitalize()}: seeds cannot be compared before two rows have a record.")
    figure, axes = plt.subplots(figsize=(figures.PHONE, 0.3 * len(found) + 1.7), layout="constrained")
    shown = found.map(lambda share: "" if share != share else f"{100 * share:.0f}")
    look: dict[str, Any] = dict(
        cmap="PuOr", vmin=-0.6, vmax=1.6, cbar=False, linewidths=1, annot_kws={"size": 8.5, "color": "black"}
    )
    sns.heatmap(found, annot=shown, fmt="", ax=axes, **look)
    axes.set_title(f"% of pairs of seeds, {recipe}", fontsize=9.5, loc="right")
    axes.set_facecolor("0.93")
    axes.set_xticklabels(axes.get_xticklabels(), rotation=90)
    axes.tick_params(labelsize=9, length=0)
    return figures.finished(figure)


def efficiency(entries: Sequence[Entry], recipe: str) -> Figure | Text:
    """mAP against multiply-adds of the test of one image, with standard deviations over seeds; names at the side."""
    done = [entry for entry in entries if entry.trained]
    if not done:
        what = "accuracy and operations cannot be set against each other without a record"
        return Text(f"{recipe.capitalize()}: {what}.")
    figure, axes = _axes(4.2)
    points = [
        (entry.name, float(_costs(entry.settings)[1]), statistics.over_seeds(entry.scores("mAP"))) for entry in done
    ]
    mark, colour = MARKS[recipe]
    for entry, (_, operations, score) in zip(done, points, strict=True):
        own = colour if entry.is_system else "0.35"
        filling = own if entry.learned else "w"
        axes.errorbar(operations, score.mean, score.sd or None, fmt=mark, color=own, capsize=3, mfc=filling)
    axes.set_xscale("log")
    ticks: list[float] = []
    for tick in sorted({round(operations, 1 if operations < 10 else 0) for _, operations, _ in points}):
        ticks += [tick] if not ticks or tick >= 1.4 * ticks[-1] else []  # apart, so that their numbers can be read
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.margins(x=0.12, y=0.15)
    axes.set(xlabel=f"multiply-adds of the test of one image, G\n(logarithmic; {recipe})", ylabel="mAP (%)")
    _names(axes, points)
    figure.set_layout_engine("constrained", rect=(0, 0, 0.95, 1))
    return figures.finished(figure)


def _names(axes: Axes, points: Sequence[tuple[str, float, Spread]]) -> None:
    """Names in a column on the right, in the order of the dots, each with a thin line to its own."""
    by_height = sorted(points, key=lambda point: point[2].mean)
    places = np.linspace(0.08, 0.92, len(by_height)) if len(by_height) > 1 else [0.5]
    line = dict(arrowstyle="-", color="0.6", linewidth=0.7, shrinkA=0, shrinkB=4)
    for (name, x, score), place in zip(by_height, places, strict=True):
        look: dict[str, Any] = dict(textcoords="axes fraction", va="center", size=9, arrowprops=line)
        axes.annotate(name, (x, score.mean), (1.04, place), **look)


def orders(budget: str, source: str = "stand-in") -> Figure | Text:
    """Kendall's τ of printed and measured rows a table, beside τ between the data sets that the paper prints."""
    found = [one for one in agreement.found(budget, source) if one.rows >= FEWEST_ROWS]
    if not found:
        return Text(f"No table has {FEWEST_ROWS} rows with both a printed number and a record yet.")
    figure, axes = _axes(0.42 * len(found) + 1.6)
    heights = np.arange(len(found))[::-1]
    axes.axvline(0, color="0.3", linewidth=1)
    mark, colour = MARKS[OWN]
    here: str | None = f"paper and here, {source} images\n(line: 95 % over seeds)"
    between: str | None = "between the paper's data sets"
    for height, one in zip(heights, found, strict=True):
        if reach := one.interval:
            axes.plot(reach, [height, height], "-", color=colour, linewidth=2)
        axes.plot(one.tau.mean, height, mark, color=colour, label=here)
        here = None
        if one.between:
            others = [height - 0.2] * len(one.between)
            axes.plot(one.between, others, "D", mfc="none", color="0.35", markersize=5, label=between)
            between = None
    axes.set(xlim=(-1.08, 1.08), ylim=(-0.6, len(found) - 0.4), xlabel="Kendall's τ: 1 same,\n−1 reversed order")
    axes.set_yticks(heights, [f"{one.slug}\n{one.dataset}" for one in found], fontsize=8.5)
    figure.legend(loc="outside upper left", fontsize=8.5, frameon=False)
    return figures.finished(figure)


def _axes(height: float) -> tuple[Figure, Axes]:
    figure, axes = figures.panel(figures.PHONE, height)
    axes.grid(axis="y", visible=False)
    axes.tick_params(labelsize=10)
    return figure, axes
