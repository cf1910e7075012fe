"""The tables of a chapter: reported against reproduced, differences, floors, repeats, recipe, provenance.

A row is its label and its variant together: a table may train one printed row in several ways. `title` is the name
under which it is shown. Where a function takes the name of a row, a label alone means the row as published or the only
row with that label; (label, variant) means any.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reidlib import papers, paths
from reidlib.data import cross_domain
from reidlib.evaluation import statistics
from reidlib.evaluation.protocols import protocol
from reidlib.evaluation.statistics import Interval, Spread
from reidlib.pages import declared
from reidlib.pages.formatting import difference, interval, number, plural
from reidlib.pages.render import Cell, Column, Page, Piece, TableView, Text, state, table, terms
from reidlib.papers import standins
from reidlib.runs import estimates
from reidlib.runs.records import Record
from reidlib.runs.run import Run, Runs, recorded_seeds, runs_of
from reidlib.spec import ReidError, Row, Table

NOT_RUN = "not run"
DID_NOT_LEARN = "did not learn"
PRINTED = {"rank1": "R1", "rank5": "R5", "rank10": "R10", "rank20": "R20", "mAP": "mAP", "minutes": "minutes"}
"""What papers print; of this study's numbers `METRICS` always have a column, others where the paper has one."""
METRICS = {metric: PRINTED[metric] for metric in ("rank1", "rank5", "rank10", "mAP")}

PAPER = "paper, real images"
OWN_ROW = "Your own row: no part of the study, of its records or of its claims"
PUBLISHED = "as-published"
Name = str | tuple[str, str] | Row
"""A row, its label, or (label, variant)."""


# --- reported and reproduced ------------------------------------------------------------------------------------------


def comparison(runs: Runs, reported: pd.DataFrame, own: Sequence[Run] = ()) -> TableView:
    """What the paper prints, and what the same rows reach here; a real and a stand-in number never share a column.

    Rows of other methods stand where the paper has them, marked "not retrained". own: the runs of a row of the reader's
    own, which stands below the others under a line that says so.
    """
    declared_lines = _lines(runs, reported)
    runs = Runs((*runs.runs, *own)) if own else runs
    minutes = {run.key: record.seconds / 60 for run, record in runs.records()}
    frame = runs.frame().assign(minutes=lambda lines: lines["key"].map(minutes))
    printed = _printed(reported)
    measured = {metric: name for metric, name in PRINTED.items() if metric in METRICS or metric in printed}
    own_rows = runs.table.paper == "standins" and not printed  # a table of the study's own
    here = f"here, {runs.runs[0].source} images"
    here += f" ({seeds_in_words(runs)})" if runs.records() else ""
    columns = [Column("row", "label"), *([] if own_rows else _paper_columns(printed))]
    columns += [Column(name, group=here) for name in (*measured.values(), "mAP, 95 % interval")]
    lines, lost, known = [], [], floors(runs.runs[0])
    notes: dict[str, list[str]] = {}
    for label, row in [*declared_lines, *((run.row.label, run.row) for run in own[:1])]:
        if own and row is own[0].row:
            lines.append([Cell(OWN_ROW, across=True), *[""] * (len(columns) - 1)])
        learned = not row or not did_not_learn(finished(runs, row), known)
        cells: list[Any] = [Cell(title(runs, row) if row else label, note="" if learned else DID_NOT_LEARN)]
        if row and row.note:
            notes.setdefault(row.note, []).append(title(runs, row))
        lost += [] if learned or row is None else [title(runs, row)]
        cells += [] if own_rows else _paper_cells(runs.table, label, row, reported, printed)
        part = frame[(frame["row"] == label) & (frame["variant"] == (row.variant if row else ""))]
        if row is None:
            cells += state("not retrained", len(measured) + 1)
        elif (part["state"] != "finished").all():
            cells += state(", ".join(sorted(set(part["state"].replace("missing", NOT_RUN)))), len(measured) + 1)
        else:
            part = part.reindex(columns=[in_record(runs.table, metric) for metric in measured])
            cells += [mean_of(part[name]) for name in part] + [pooled(runs, row)]
        lines.append(cells)
    whose = "our numbers" if own_rows else "the paper's numbers and ours"
    unit = "" if "minutes" in measured else ", in percent"
    caption = f"{runs.table.slug}: {whose} on {runs.runs[0].dataset}{unit}"
    below = [f"{'; '.join(names)}: {note}." for note, names in notes.items()]
    below += [*_why_not_retrained(runs, reported), floors_sentence(runs.runs[0])]
    if lost:
        below.append(f"Below a floor, or with a training loss of guesses ({DID_NOT_LEARN}): {', '.join(lost)}.")
    below += _below_the_start(runs, known)
    return table(columns, lines, caption, below=[*below, *_other_starts(runs), *_trained_apart(runs)])


def _below_the_start(runs: Runs, known: Mapping[str, float]) -> list[str]:
    """A sentence where rows end below the network whose weights they began from."""
    if standins.STARTED not in known:
        return []
    began = [run for run, record in runs.records() if record.start == "start" and run.settings.recipe.epochs]
    made = {title(runs, run.row): pooled(runs, run.row).mean for run in began}
    low = [name for name, reached in made.items() if reached < known[standins.STARTED]]
    words = "Lower mAP than the start, the weights from which they began"
    return [f"{words}: {'; '.join(low).rstrip('.')}."] if low else []


def _other_starts(runs: Runs) -> list[str]:
    """A sentence where some rows began their training from other weights than most."""
    starts = {title(runs, run.row): record.start for run, record in runs.records()}
    usual = Counter(starts.values()).most_common(1)
    others: dict[str, list[str]] = {}
    for name, start in starts.items():
        if start != usual[0][0]:
            others.setdefault(start, []).append(name)
    listed = "; ".join(f"{'; '.join(names)} ({start})" for start, names in others.items())
    words = "Began from other weights, so that a difference from the other rows is one of the weights too"
    return [f"{words}: {listed}."] if others else []


def _trained_apart(runs: Runs) -> list[str]:
    """A sentence where rows that could test one trained network are of several trainings of it."""
    trained: dict[tuple[str, int], dict[str, list]] = {}
    for run, record in runs.records():
        trained.setdefault((record.network, run.seed), {})[title(runs, run.row)] = record.curve
    apart = dict.fromkeys(" against ".join(sides) for curves in trained.values() if len(sides := _sides(curves)) > 1)
    words = "The same network, trained for each side on a machine without the weights of the other"
    return [f"{words}: {', and '.join(apart)}. Their difference has the luck of two trainings in it."] if apart else []


def _sides(curves: Mapping[str, list]) -> list[str]:
    """The names of those that share one training, for each training."""
    shared: dict[str, list[str]] = {}
    for name, curve in curves.items():
        shared.setdefault(json.dumps(curve), []).append(name)
    return ["; ".join(names) for names in shared.values()]


def over_splits(splits: Sequence[Runs], reported: pd.DataFrame) -> TableView:
    """Mean and standard deviation over the splits of a protocol, beside the paper's own mean over its splits.

    splits: the runs of one table on each split (`read_runs`). A split counts for a row when all its seeds are finished;
    it enters with the mean over them, so that the deviation is that between splits.
    """
    runs, keys = splits[0], ["row", "variant"]
    frame = pd.concat([split.frame().assign(split=place) for place, split in enumerate(splits)])
    frame = frame.reindex(columns=[*keys, "split", "state", *(in_record(runs.table, metric) for metric in METRICS)])
    done = frame.groupby([*keys, "split"])["state"].transform(lambda states: (states == "finished").all())
    found = frame[done].groupby([*keys, "split"]).mean(numeric_only=True)
    printed = [metric for metric in _printed(reported) if metric in METRICS]
    here = f"here, {runs.runs[0].source} images, mean over splits"
    columns = [Column("row", "label"), *_paper_columns(printed)]
    columns += [Column(name, group=here) for name in (*METRICS.values(), "splits")]
    lines = []
    for row in rows_of(runs):
        own = found[found.index.droplevel("split") == (row.label, row.variant)]
        means = [mean_of(own[name]) for name in own] if len(own) else state(NOT_RUN, len(METRICS))
        cells = _paper_cells(runs.table, row.label, row, reported, printed)
        lines.append([row.label, *cells, *means, f"{len(own)} of {len(splits)}"])
    return table(columns, lines, f"{runs.table.slug}: mean over the splits, in percent")


def _printed(reported: pd.DataFrame) -> list[str]:
    return [metric for metric in PRINTED if metric in reported and reported[metric].notna().any()]


def _paper_columns(printed: Sequence[str]) -> list[Column]:
    names = [PRINTED[metric] for metric in printed] or ["no number"]
    return [Column(name, group=PAPER, reported=True) for name in names]


def _lines(runs: Runs, reported: pd.DataFrame) -> list[tuple[str, Row | None]]:
    """The lines of a comparison in order: (label, row), or (label, None) for one that the paper prints of others. The
    paper's order holds; a row that it does not print follows the one that the table declares before it."""
    rows = rows_of(runs)
    published = {row.label for row in rows if row.variant == PUBLISHED}
    not_retrained = papers.not_retrained(runs.table)
    order = list(reported.index)
    others = [label for label in order if label in not_retrained and label not in published]
    placed: list[tuple[tuple[int, int], str, Row | None]] = [((order.index(label), 0), label, None) for label in others]
    before = -1
    for place, row in enumerate(rows, 1):
        before = order.index(row.label) if others and row.label in order else before
        placed.append(((before, place), row.label, row))
    return [(label, row) for _, label, row in sorted(placed, key=lambda entry: entry[0])]


def _paper_cells(
    own: Table, label: str, row: Row | None, reported: pd.DataFrame, printed: Sequence[str]
) -> list[float] | list[Cell]:
    """What the paper prints for a row; words where the number is known to be lost, or where there never was one."""
    columns = len(printed) or 1
    if row is not None and row.variant != PUBLISHED:
        return [np.nan] * columns
    if printed and label in reported.index:
        return [reported[metric].get(label, np.nan) for metric in printed]
    if row is not None and own.numbers_lost:
        return state(f"lost with the {own.kind}", columns)
    return [np.nan] * columns if printed else state("no number found", columns)


def _why_not_retrained(runs: Runs, reported: pd.DataFrame) -> list[str]:
    reasons = Counter(reason for label, reason in papers.not_retrained(runs.table).items() if label in reported.index)
    counted = "; ".join(f"{many} of them: {reason}" for reason, many in reasons.items())
    return [f"Not retrained, {counted}."] if counted else []


def differences(runs: Runs, reported: pd.DataFrame, steps: Sequence[tuple[Name, Name]]) -> TableView:
    """Steps of the ablation in mAP, each as (row, compared with): Δ in the paper, Δ here with its paired interval.

    A difference that decides nothing is grey: its interval holds zero, it is from too few seeds, a row did not learn,
    or the two began from different weights.
    """
    known = floors(runs.runs[0])
    columns = [Column("row", "label"), Column("compared with", "label"), Column("Δ mAP, paper", reported=True)]
    lines = []
    for row, other in steps:
        apart = printed_map(runs, reported, row) - printed_map(runs, reported, other)
        printed: str = number(apart, sign=True)
        if runs.table.numbers_lost and all(_published(runs, name) for name in (row, other)):
            printed = Cell("lost", state=True)
        here = difference_cells(paired(runs, row, other), grey=_no_comparison(runs, row, other, known))
        lines.append([title(runs, row), title(runs, other), printed, *here])
    caption = f"{runs.table.slug}: differences of mAP between rows, in points"
    return table([*columns, "Δ mAP, here", "95 % interval"], lines, caption)


def printed_differences(runs: Runs, steps: Sequence[tuple[Name, Name, str, str]]) -> TableView:
    """Differences that the text prints, beside the same here with their paired intervals.

    steps: (row, compared with, metric, name of the difference in the column `table` of results/reported.tsv). A drop is
    printed there without its sign, its name ends in "(drop)". A name that is not there is a ReidError.
    """
    file = paths.home() / "results" / "reported.tsv"
    frame = pd.read_csv(file, sep="\t", keep_default_na=False)
    columns = [Column("row", "label"), Column("metric", "label"), Column("Δ, paper", reported=True)]
    columns += [Column("Δ, here"), Column("95 % interval"), Column("the paper's words", "quote")]
    lines, known = [], floors(runs.runs[0])
    for row, other, metric, name in steps:
        found = frame[(frame["paper"] == runs.table.paper) & (frame["table"] == name) & (frame["metric"] == metric)]
        if len(found) != 1:
            raise ReidError(f"{file}: {len(found)} lines of {name!r} with {metric}; name a difference that has one")
        (printed,) = found.to_dict("records")
        value = float(printed["value"]) * (-1 if printed["row"].endswith("(drop)") else 1)
        here = difference_cells(paired(runs, row, other, metric), grey=_no_comparison(runs, row, other, known))
        named = [f"{row} against {other}", metric.replace("rank", "rank-")]
        lines.append([*named, number(value, sign=True), *here, f"“{printed['quote']}”"])
    caption = f"{runs.table.slug}: differences that the text prints, in points"
    return table(columns, lines, caption, over=True)


def _no_comparison(runs: Runs, row: Name, other: Name, known: Mapping[str, float]) -> bool:
    """Whether a difference of these rows is not one of what they try: one did not learn, or they began apart."""
    sides = [finished(runs, name) for name in (row, other)]
    return began_apart(*sides) or any(did_not_learn(side, known) for side in sides)


def began_apart(better: Sequence[Run], worse: Sequence[Run]) -> bool:
    """Whether the two sides were trained from different weights, as ResNet-101 from scratch where the study has a start
    for ResNet-50 alone: such a difference is that of the starts as well."""
    sides = [{record.start for run in side if (record := run.record())} for side in (better, worse)]
    return all(sides) and sides[0] != sides[1]


def difference_cells(found: Interval | None, *, grey: bool) -> list[Cell]:
    """A difference and its interval; "not run" over both where there is none. grey: whether it decides nothing whatever
    its interval says."""
    if found is None:
        return state(NOT_RUN, 2)
    texts = (difference(found), interval(found, sign=True))
    return [Cell(text, grey=grey or not found.decides) for text in texts]


def printed_map(runs: Runs, reported: pd.DataFrame, name: Name) -> float:
    """The printed mAP of a row as published; NaN for any other row, and where there is none."""
    row = _published(runs, name)
    return reported["mAP"].get(row.label, np.nan) if row and "mAP" in reported else np.nan


def _published(runs: Runs, name: Name) -> Row | None:
    row = row_of(runs, name)
    return row if row and row.variant == PUBLISHED else None


# --- what has learned -------------------------------------------------------------------------------------------------

MARGIN = 0.25
"""By how much (nats, per classifier) the cross-entropy of the last epoch has to be below that of guesses."""


def floors(run: Run) -> dict[str, float]:
    """Mean mAP by the rule of the run's table, over the seeds of the records, of what has learned nothing of the images
    on which it is tested: random features, both histograms, and the start. {} where the stand-ins' own table does not
    have them."""
    own, images = papers.table("standins/difficulty"), cross_domain.PAIRS.get(run.dataset, ("", run.dataset))[1]
    if images not in own.datasets or run.budget not in own.budgets:
        return {}
    found: dict[str, list[float]] = {}
    for one in recorded_runs(own.slug, run.budget, images, run.source, rows=[*standins.FLOORS, standins.STARTED]):
        if (record := one.record(arrays=False)) and record.ok:
            found.setdefault(one.row.label, []).append(record.metrics[one.protocol][in_record(run.table, "mAP")])
    return {label: float(np.mean(values)) for label, values in found.items()}


def floors_sentence(run: Run) -> str:
    """The floors under a comparison, or that they are not measured."""
    if not (known := floors(run)):
        return "Floors (random features, colour histograms, the start) have no record on these images at this budget."
    said = "; ".join(f"{label}: {number(value)}\u00a0%" for label, value in known.items())
    return f"Floors, the mAP (by {ap_rule(run.table)}) of what was not trained on these images: {said}."


def did_not_learn(made: Sequence[Run], known: Mapping[str, float] | None = None) -> bool:
    """Whether the finished runs of one row, on average, are not above random features and both histograms, or their
    training loss is not clearly below that of guesses. A row that trains nothing has nothing to learn. known: the
    `floors` of these runs, where the caller has read them."""
    trained = [run for run in made if run.settings.recipe.epochs]
    if not trained:
        return False
    records = [record for run in trained if (record := run.record())]
    rule = in_record(trained[0].table, "mAP")
    reached = np.mean([record.metrics[run.protocol][rule] for run, record in zip(trained, records, strict=True)])
    known = floors(trained[0]) if known is None else known
    if any(reached <= known[label] for label in standins.FLOORS if label in known):
        return True
    points = [record.curve[-1] for record in records if record.curve]
    identities = records[0].data.get("identities", 0)
    guessed = estimates.chance(trained[0].settings, identities) if points and identities > 1 else {}
    terms = {name: value for name, value in guessed.items() if all(name in point for point in points)}
    if not terms:
        return False
    by_guesses, measured = sum(terms.values()), np.mean([sum(point[name] for name in terms) for point in points])
    return bool(measured > by_guesses * (1 - MARGIN / np.log(identities)))


# --- where the numbers come from --------------------------------------------------------------------------------------


def repeats(runs: Runs) -> Piece:
    """How close this machine came to the committed records it repeated."""
    if not (pairs := runs.repeated()):
        return Text("No row was trained again on the machine that built this page.")
    names = [in_record(runs.table, metric) for metric in METRICS]
    lines: list[list[Any]] = []
    for run, *records in pairs:
        label, scores = title(runs, run.row), [record.metrics[run.protocol] for record in records]
        for name, record, found in zip(("committed record", "this machine"), records, scores, strict=True):
            speed = [record.device, f"{record.images_per_second:.0f}", record.seconds / 60]
            lines.append([label, name, *(found[metric] for metric in names), *speed])
        apart = [number(scores[1][metric] - scores[0][metric], sign=True) for metric in names]
        lines.append([label, "difference", *apart, "", "", ""])
    kinds = {"row": "label", "run": "text", **dict.fromkeys(METRICS.values(), "number"), "device": "text"}
    kinds |= {"images/s": "number", "minutes": "number"}
    return table(kinds, lines, f"{runs.table.slug}: rows trained again on this machine")


def recipe(runs: Runs) -> TableView:
    """Every value of the recipe at this budget, with where the paper states it or why it was assumed.

    Below it stand the values of the model's options, of the losses and of testing that have such a source, those of
    single rows too, and what a training that goes before does otherwise.
    """
    own, budget = runs.table, runs.runs[0].budget
    base, changed = own.settings(Row("base"), budget), own.budgets[budget]
    lines = [value.cells() for value in declared.recipe_values(base.recipe, own.base.recipe, changed)]
    if base.first and own.base.first:
        before, paper = base.first.settings, own.base.first.settings.recipe
        other = declared.recipe_values(before.recipe, paper, changed, like=base.recipe)
        words = f"{before.model.__name__} is trained first, then held fixed as “{base.first.into}”: with the values "
        words += "above but for these:" if other else "above."
        lines += [[Cell(words, across=True), "", "", ""], *(value.cells() for value in other)]
    known = set()
    for row in (None, *own.rows):
        settings = own.settings(row, budget) if row else base
        read = declared.read_fields(settings.recipe)
        for value in declared.values(settings):
            field = value.name.removeprefix("recipe: ")
            is_above = field.startswith(f"{declared.BEFORE}recipe: ") or (
                field != value.name and not (row and field in row.recipe and field in read)
            )
            key = (value.name, *value.cells()[1:])
            if value.kind != declared.DEFAULT and not is_above and key not in known:
                known.add(key)
                lines.append([f"{field} ({title(runs, row)})" if row else field, *key[1:]])
    kinds = {"recipe": "label", "value here": "text", "source": "text", "where or why": "reason"}
    return table(kinds, lines, f"{own.slug}: recipe at budget {budget}")


def provenance(runs: Runs) -> Page:
    """Which record each number comes from, and the command that makes it again. What all records share stands above the
    table; a column shows what differs."""
    if not (made := runs.records()):
        return Page([Text("Not run yet: there is no record.")])
    facts = {"start": [record.start for _, record in made], "device": [record.device for _, record in made]}
    facts["code"] = [record.commit[:9] + "+" * record.commit.endswith("+") for _, record in made]
    shared = {name: found[0] for name, found in facts.items() if len(set(found)) == 1}
    differ = {name: found for name, found in facts.items() if name not in shared}
    lines = [
        [title(runs, run.row), run.seed, run.key, *(found[place] for found in differ.values()), record.seconds / 60]
        + [f"{record.images_per_second:.0f}", shlex.join(run.command())]
        for place, (run, record) in enumerate(made)
    ]
    run, first = made[0]
    data = first.data
    images = ", ".join(f"{many:,} {split}" for split, many in data["images"].items())
    together = {
        "data": f"{data['name']}, {data['source']}, digest {data['digest']}, {images} images, "
        f"{data['identities']} training identities",
        "protocol": f"{protocol(run.protocol).title} ({run.protocol}); descriptors compared by cosine; AP compared "
        f"with the paper: {ap_rule(runs.table)}",
        **shared,
        "hours": machines([record for _, record in made])["hours"],
        "versions": ", ".join(f"{name} {version}" for name, version in first.versions.items()),
    }
    kinds = {"row": "label", "seed": "number", "record": "code", **dict.fromkeys(differ, "text"), "minutes": "number"}
    kinds |= {"images/s": "number", "command": "code"}
    return Page([terms(together), table(kinds, lines, f"{runs.table.slug}: the record behind each number")])


def machines(records: Sequence[Record]) -> dict[str, str]:
    """On what, how long and with which code these were trained; a network that several rows share counts once."""
    seconds = {record.network: record.seconds for record in records}
    return {
        "devices": "; ".join(sorted({record.device for record in records})),
        "hours": f"{sum(seconds.values()) / 3600:.2f} of training",
        "code": "; ".join(sorted({record.commit for record in records})) + " (a plus marks uncommitted changes)",
    }


# --- rows by name -----------------------------------------------------------------------------------------------------


def recorded_runs(slug: str, budget: str, dataset: str, source: str, rows: Sequence[str] = ()) -> tuple[Run, ...]:
    """The runs of a table's rows (all where empty) from every seed that has a record."""
    place: dict[str, Any] = dict(budget=budget, dataset=dataset, source=source)
    return tuple(runs_of(slug, rows=rows, seeds=recorded_seeds(slug, **place), **place))


def paired(runs: Runs, row: Name, other: Name, metric: str = "mAP") -> Interval | None:
    """Interval of the difference, over seeds and identities; None where one of the rows has no finished run."""
    return difference_of(finished(runs, row), finished(runs, other), stored(runs, metric))


def difference_of(first: Sequence[Run], second: Sequence[Run], name: str) -> Interval | None:
    """Interval of "first − second" between the finished runs of two rows; None where there are none of one.

    Both rank the same queries; their seeds need not be the same. Where they test the same networks, only seeds that
    both have are compared, in pairs. name: of the numbers in `Run.per_query`.
    """
    networks = [{run.network: run for run in side} for side in (first, second)]
    if both := [network for network in networks[0] if network in networks[1]]:
        first, second = ([of[network] for network in both] for of in networks)
    if not (first and second):
        return None
    # Numbers may be shifted by a constant: a cross-domain pair numbers the persons of its test on from its training.
    identities = [(numbers := run.identities()) - numbers[:1] for run in (*first, *second)]
    if any(not np.array_equal(identities[0], other) for other in identities[1:]):
        raise ReidError(f"{first[0].name} and {second[0].name}: tested on other queries; run both again")
    sides = [[run.per_query(name) for run in side] for side in (first, second)]
    return statistics.difference(*sides, identities[0], same_networks=bool(both))


def finished(runs: Runs, name: Name) -> list[Run]:
    """The finished runs of a row, one a seed."""
    row = row_of(runs, name)
    found = [run for run in runs.runs if run.row == row and run.state() == "finished"]
    return sorted(found, key=lambda run: run.seed)


def pooled(runs: Runs, name: Name) -> Interval:
    """Interval of a row's mAP over seeds and identities, from its finished seeds."""
    made = finished(runs, name)
    return statistics.interval([run.per_query(stored(runs, "mAP")) for run in made], made[0].identities())


def mean_of(values: pd.Series) -> Spread | float:
    """Mean and standard deviation of the values that there are; NaN where there are none."""
    values = values.dropna()
    return np.nan if values.empty else statistics.over_seeds(values.tolist())


def rows_of(runs: Runs) -> list[Row]:
    """The rows behind the runs, in the table's order."""
    return list({(run.row.label, run.row.variant): run.row for run in runs.runs}.values())


def row_of(runs: Runs, name: Name) -> Row | None:
    """The row of this name; None where the table does not retrain it."""
    if isinstance(name, Row):
        return name
    label, variant = (name, None) if isinstance(name, str) else name
    found = [row for row in rows_of(runs) if row.label == label]
    if variant is None and len(found) < 2:
        return found[0] if found else None
    return next((row for row in found if row.variant == (variant or PUBLISHED)), None)


def title(runs: Runs, name: Name) -> str:
    """A row as figures and lists call it: its label, with its variant where the table has several."""
    if (row := row_of(runs, name)) is None:
        return name[0] if isinstance(name, tuple) else str(name)
    several = len({run.row.variant for run in runs.runs}) > 1
    return f"{row.label} ({row.variant})" if several and row.variant != PUBLISHED else row.label


def seeds_in_words(runs: Runs) -> str:
    """From how many seeds its finished rows are: "1 seed", "3 seeds", "3 to 10 seeds"."""
    counts = Counter((run.row.label, run.row.variant) for run, _ in runs.records()).values()
    few, most = min(counts, default=0), max(counts, default=0)
    return plural(most, "seed") if few == most else f"{few} to {plural(most, 'seed')}"


def stored(runs: Runs, metric: str) -> str:
    """What a metric is query by query, as it is kept beside a record."""
    return in_record(runs.table, metric).replace("mAP", "ap")


def in_record(own: Table, metric: str) -> str:
    """What a metric is called in a record; mAP by the rule of the table's column."""
    return "mAP_trapezoid" if metric == "mAP" and own.ap == "trapezoid" else metric


def ap_rule(own: Table) -> str:
    """By which rule the AP is computed that is compared with the table's, in words."""
    return "the plain sum" if own.ap == "plain" else "trapezoids"
