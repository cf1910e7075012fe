"""The tables of a chapter: reported against reproduced, repeats on this machine, assumptions, provenance.

A row is its label and its variant together: a table may train one printed row in several ways. Where a function takes
the name of a row, a label alone means the row as published or the only row with that label, (label, variant) any other.
"""

from __future__ import annotations

import html
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reidlib.evaluation import statistics
from reidlib.evaluation.protocols import protocol
from reidlib.evaluation.statistics import Interval
from reidlib.spec import Assumed, Claim, Recipe, Row, Settings, Stated, value_of

NOT_RUN = "not run"
METRICS = {"rank1": "R1", "rank5": "R5", "rank10": "R10", "mAP": "mAP"}
PRINTED = {"rank1": "R1", "rank5": "R5", "rank10": "R10", "rank20": "R20", "mAP": "mAP", "minutes": "minutes"}
"""The same and whatever else a paper prints; a column of this study appears where the paper has one."""

PUBLISHED = "as-published"
Name = str | tuple[str, str]
"""A row: its label, or (label, variant)."""


class Page(str):
    """A piece of HTML that a notebook shows as it is."""

    def _repr_html_(self) -> str:
        return str(self)


def banner(runs) -> Page:
    """Says on every page made with stand-in images that its images are stand-ins."""
    first = runs.runs[0]
    if first.source == "real":
        return Page(f'<div class="real-banner">Real images of {html.escape(first.dataset)}.</div>')
    return Page(
        '<div class="standin-banner"><strong>Stand-in images.</strong> Everything measured on this page comes from '
        f"rendered figures in the layout of {html.escape(first.dataset)}, at budget <code>{first.budget}</code>. It "
        "says how the rows compare on those images. It says nothing about scores on photographs, and none of it may "
        "be set beside a score of the paper.</div>"
    )


def comparison(runs, reported: pd.DataFrame) -> Page:
    """What the paper prints, and what the same rows reach here; a real and a stand-in number never share a column.

    Rows of other methods stand where the paper has them, marked "not retrained".
    """
    first, seeds = runs.runs[0], len(_seeds(runs))
    minutes = {run.key: record.seconds / 60 for run, record in runs.records()}
    frame = runs.frame().assign(minutes=lambda lines: lines["key"].map(minutes))
    printed = [metric for metric in PRINTED if metric in reported and reported[metric].notna().any()]
    shown = {metric: name for metric, name in PRINTED.items() if metric in METRICS or metric in printed}
    names = len({row.variant for row in rows_of(runs)}) > 1
    head = [_cell("row", rowspan=2)] + [_cell("variant", rowspan=2)] * names
    head.append(_cell("paper, real images", colspan=len(printed) or 1, css="reported"))
    head.append(_cell(f"here, {first.source} images ({seeds} seed{'s' * (seeds > 1)})", colspan=len(shown) + 1))
    second = [_cell(PRINTED[metric], css="reported") for metric in printed] or [_cell("", css="reported")]
    second += [_cell(name) for name in shown.values()] + [_cell("mAP, 95 % interval")]
    body = []
    for label, row in _lines(runs, reported):
        cells = [_cell(label, css="label", note=row.note if row else "")]
        cells += [_cell("" if row is None else row.variant, css="label")] * names
        cells += _reported_cells(label, row, reported, printed)
        if row is None:
            body.append(_line([*cells, _cell("not retrained", colspan=len(shown) + 1, css="state")]))
            continue
        part = frame[(frame["row"] == label) & (frame["variant"] == row.variant)]
        if (part["state"] != "finished").all():
            states = ", ".join(sorted(set(part["state"])))
            cells.append(_cell(states, colspan=len(shown) + 1, css="state"))
        else:
            part = part.reindex(columns=[_column(runs, metric) for metric in shown])
            cells += [_cell(_mean(part[name])) for name in part]
            cells.append(_cell(_interval(_pooled(runs, (label, row.variant)))))
        body.append(_line(cells))
    return Page(_table([_line(head), _line(second)], body, css="comparison") + _why_not_retrained(runs, reported))


def over_splits(splits: Sequence, reported: pd.DataFrame) -> Page:
    """Mean and standard deviation over the splits of a protocol, beside the paper's own mean over its splits.

    splits: the runs of one table on each split, from `study.read`. A split counts for a row when all its seeds are
    finished; it enters with the mean over them, so that the deviation is that between splits.
    """
    runs, printed = splits[0], [metric for metric in METRICS if metric in reported and reported[metric].notna().any()]
    keys = ["row", "variant"]
    lines = []
    for split in splits:
        frame = split.frame()
        done = frame.groupby(keys)["state"].transform(lambda states: (states == "finished").all())
        lines.append(frame[done].groupby(keys).mean(numeric_only=True))
    found = pd.concat(lines)
    head = [_cell("row", rowspan=2), _cell("paper, real images", colspan=len(printed) or 1, css="reported")]
    head.append(_cell(f"here, {runs.runs[0].source} images, mean over splits", colspan=len(METRICS) + 1))
    second = [_cell(METRICS[metric], css="reported") for metric in printed] or [_cell("", css="reported")]
    second += [_cell(name) for name in (*METRICS.values(), "splits")]
    body = []
    for row in rows_of(runs):
        cells = [_cell(row.label, css="label"), *_reported_cells(row.label, row, reported, printed)]
        own = found[found.index == (row.label, row.variant)]
        if own.empty:
            cells.append(_cell(NOT_RUN, colspan=len(METRICS), css="state"))
        else:
            cells += [_cell(_mean(own[_column(runs, metric)])) for metric in METRICS]
        body.append(_line([*cells, _cell(f"{len(own)} of {len(splits)}")]))
    return _table([_line(head), _line(second)], body, css="comparison")


def _lines(runs, reported: pd.DataFrame) -> list[tuple[str, Row | None]]:
    """The lines of a comparison in order: (label, row), or (label, None) for one that the paper prints of others.

    The paper's order holds; a row that it does not print follows the one that the table declares before it.
    """
    rows = rows_of(runs)
    published = {row.label for row in rows if row.variant == PUBLISHED}
    lines = [(label, None) for label in reported.index if label in runs.table.not_retrained and label not in published]
    if not lines:
        return [(row.label, row) for row in rows]
    order = list(reported.index)
    place, before = {}, -1
    for number, row in enumerate(rows):
        before = order.index(row.label) if row.label in order else before
        place[row.label, row.variant] = (before, 1 + number)
    lines += [(row.label, row) for row in rows]
    return sorted(lines, key=lambda line: place[line[0], line[1].variant] if line[1] else (order.index(line[0]), 0))


def _reported_cells(label: str, row: Row | None, reported: pd.DataFrame, printed: Sequence[str]) -> list[str]:
    """What the paper prints for a row; where it is known to be lost, or there never was a number, words say so."""
    if row is not None and row.variant != PUBLISHED:
        return [_cell(_number(np.nan), css="reported")] * (len(printed) or 1)
    if printed and label in reported.index:
        return [_cell(_number(reported[metric].get(label, np.nan)), css="reported") for metric in printed]
    word = "lost with the table" if "lost" in row.note else "no number at hand" if not printed else _number(np.nan)
    return [_cell(word, colspan=len(printed) or 1, css="reported state" if " " in word else "reported")]


def _why_not_retrained(runs, reported: pd.DataFrame) -> str:
    reasons = [reason for label, reason in runs.table.not_retrained.items() if label in reported.index]
    counted = [f"{reasons.count(reason)} of them: {html.escape(reason)}" for reason in dict.fromkeys(reasons)]
    return f"<p><small>Not retrained, {'; '.join(counted)}.</small></p>" if counted else ""


def differences(runs, reported: pd.DataFrame, steps: Sequence[tuple[Name, Name]], metric: str = "mAP") -> Page:
    """Steps of the ablation, each as (row, compared with): Δ in the paper, Δ here with its paired interval.

    A difference whose interval holds zero is grey: the images at hand cannot tell the two rows apart.
    """
    head = [
        _cell(text) for text in ("row", "compared with", f"Δ {metric}, paper", f"Δ {metric}, here", "95 % interval")
    ]
    body = []
    for row, other in steps:
        here = paired(runs, row, other, metric)
        names = [_cell(title(runs, name), css="label") for name in (row, other)]
        if all(_lost(runs, name) for name in (row, other)):
            cells = [*names, _cell("lost", css="reported state")]
        else:
            printed = _printed(runs, reported, row, metric) - _printed(runs, reported, other, metric)
            cells = [*names, _cell(_number(printed, sign=True), css="reported")]
        if here is None:
            cells.append(_cell("not run", colspan=2, css="state"))
        else:
            grey = "inside-spread" if here.holds_zero else ""
            cells += [_cell(_number(here.mean, sign=True), css=grey), _cell(_interval(here, sign=True), css=grey)]
        body.append(_line(cells))
    return _table([_line(head)], body, css="differences")


def _printed(runs, reported: pd.DataFrame, name: Name, metric: str) -> float:
    """The printed number of a row as published; NaN for any other row, and where there is none."""
    row = row_of(runs, name)
    if row is None or row.variant != PUBLISHED or metric not in reported:
        return np.nan
    return reported[metric].get(row.label, np.nan)


def _lost(runs, name: Name) -> bool:
    row = row_of(runs, name)
    return row is not None and row.variant == PUBLISHED and "lost" in row.note


def claims(runs, declared: Sequence[Claim]) -> Page:
    """Each claim of the paper with what these runs say of it; p is corrected for their number (Holm)."""
    head = [_cell(text) for text in ("the paper's words", "tested as", "Δ here", "p", "on these images")]
    body = []
    for claim, found in zip(declared, decide(runs, declared), strict=True):
        quote = f"“{claim.quote}” ({claim.where})"
        cells = [_cell(quote, css="quote"), _cell(f"{claim.better} against {claim.worse}", css="label")]
        if found.here is None:
            cells.append(_cell(found.verdict, colspan=3, css="state"))
        else:
            shown = f"{claim.metric} {_number(found.here.mean, sign=True)} {_interval(found.here, sign=True)}"
            cells += [_cell(shown), _cell(_p(found.p)), _cell(found.verdict)]
        body.append(_line(cells))
    return _table([_line(head)], body, css="claims")


def answers(runs, declared: Sequence[Claim]) -> Page:
    """One sentence a claim for the top of the page, drawn from the records."""
    said = {
        "supported": "Yes on these images",
        "contradicted": "No on these images, rather the reverse",
        "not distinguishable": "These runs cannot tell",
        "not testable": "Not testable here",
        NOT_RUN: "Not run yet",
    }
    first, seeds = runs.runs[0], len(_seeds(runs))
    if not declared:
        return _standing(runs)
    sentences = []
    for claim, found in zip(declared, decide(runs, declared), strict=True):
        sentence = f"<strong>{said[found.verdict]}.</strong> {html.escape(claim.better)} against "
        sentence += html.escape(claim.worse)
        if found.here is not None:
            sentence += (
                f": {_number(found.here.mean, sign=True)} points of {claim.metric} (95 % interval "
                f"{_interval(found.here, sign=True)}) on the {first.source} images of {html.escape(first.dataset)}, "
                f"budget <code>{first.budget}</code>, {seeds} seed{'s' * (seeds > 1)}"
            )
        sentences.append(f"<p>{sentence}.</p>")
    return Page("".join(sentences))


def _standing(runs) -> Page:
    """What stands in the place of an answer where the paper claims nothing that rows of this table decide."""
    first, rows = runs.runs[0], rows_of(runs)
    finished = {(run.row.label, run.row.variant) for run, _ in runs.records()}
    sentence = "<strong>No claim to decide.</strong> The paper says nothing of this table that its rows could decide. "
    sentence += f"{len(finished)} of {len(rows)} row{'s' * (len(rows) > 1)} run at budget <code>{first.budget}</code>"
    if finished:
        reached = {name: _pooled(runs, name) for name in finished}
        best = max(reached, key=lambda name: reached[name].mean)
        sentence += f"; the highest mAP, {_number(reached[best].mean)} {_interval(reached[best])}, is that of "
        sentence += html.escape(title(runs, best))
    return Page(f"<p>{sentence}.</p>")


@dataclass(frozen=True)
class Decision:
    """What the runs say of one claim: the interval of its difference (None where there is none), its p after Holm's
    correction over the claims tested together, and the verdict, or NOT_RUN."""

    here: Interval | None
    p: float
    verdict: str


def decide(runs, declared: Sequence[Claim]) -> list[Decision]:
    """The claims of one table, decided together. A claim about rows that the table does not retrain is not testable."""
    rows = {run.row.label for run in runs.runs}
    testable = [{claim.better, claim.worse} <= rows and claim.metric in METRICS for claim in declared]
    here = [
        paired(runs, claim.better, claim.worse, claim.metric) if possible else None
        for claim, possible in zip(declared, testable, strict=True)
    ]
    adjusted = iter(statistics.holm([found.p for found in here if found is not None]))
    decisions = []
    for found, possible in zip(here, testable, strict=True):
        if found is None:
            decisions.append(Decision(None, float("nan"), NOT_RUN if possible else statistics.verdict(None)))
        else:
            p = next(adjusted)
            decisions.append(Decision(found, p, statistics.verdict(found, p)))
    return decisions


def repeats(runs) -> Page:
    """How close this machine came to the committed records it repeated."""
    pairs = runs.repeated()
    if not pairs:
        return Page("<p>No row was trained again on the machine that built this page.</p>")
    head = [_cell(text) for text in ("row", "run", *METRICS.values(), "device", "images/s", "minutes")]
    body = []
    for run, there, here in pairs:
        for name, record in (("committed record", there), ("this machine", here)):
            metrics = record.metrics[run.protocol]
            cells = [_cell(_title(runs, run.row), css="label"), _cell(name)]
            cells += [_cell(_number(metrics[_column(runs, metric)])) for metric in METRICS]
            cells += [
                _cell(record.device),
                _cell(f"{record.images_per_second:.0f}"),
                _cell(f"{record.seconds / 60:.1f}"),
            ]
            body.append(_line(cells))
        pair = [record.metrics[run.protocol] for record in (there, here)]
        apart = [_cell(_number(pair[1][m] - pair[0][m], sign=True)) for m in (_column(runs, m) for m in METRICS)]
        cells = [_cell(_title(runs, run.row), css="label"), _cell("difference"), *apart]
        body.append(_line([*cells, _cell("", colspan=3)]))
    return _table([_line(head)], body, css="repeats")


def recipe(runs) -> Page:
    """Every value of the recipe at this budget, with where the paper states it or why it was assumed.

    Below it stand the values of the model's options, of the losses and of testing that have such a source, those of
    single rows too, and what a training that goes before does otherwise.
    """
    table, budget = runs.table, runs.runs[0].budget
    base = table.settings(Row("base"), budget)
    body = _recipe_lines(base.recipe, table.base.recipe, table.budgets[budget])
    if base.first:
        body += _first_lines(table, base, budget)
    said = set()
    for row in (None, *table.rows):
        settings = table.settings(row, budget) if row else base
        for name, value in _sourced(settings, row).items():
            if (name, str(value)) not in said:
                said.add((name, str(value)))
                body.append(_recipe_line(f"{name} ({_title(runs, row)})" if row else name, value))
    return _table([_line([_cell(text) for text in ("recipe", "value here", "source", "where or why")])], body)


def _recipe_lines(used: Recipe, paper: Recipe, budget: dict[str, object], like: Recipe | None = None) -> list[str]:
    """One line a field, without those that the schedule does not read, or that are as in the recipe `like`."""
    unread = () if value_of(used.schedule) == "step" else ("milestones", "decay")
    names = [name for name in used.__dataclass_fields__ if name not in unread]
    if like:
        names = [name for name in names if value_of(getattr(used, name)) != value_of(getattr(like, name))]
    return [_recipe_line(name, getattr(used, name), getattr(paper, name) if name in budget else None) for name in names]


def _recipe_line(name: str, value: object, published: object = None) -> str:
    """published: the recipe's own value where the budget has replaced it."""
    kind, why = "default of the study", ""
    if isinstance(value, Stated):
        kind, why = "stated", value.where
    elif isinstance(value, Assumed):
        kind, why = "assumed", value.because
    if isinstance(published, Stated):
        kind, why = "changed for the budget", f"{why} (paper: {value_of(published)}, {published.where})"
    return _line([_cell(name, css="label"), _cell(str(value_of(value))), _cell(kind), _cell(why, css="quote why")])


def _first_lines(table, base: Settings, budget: str) -> list[str]:
    """The training that goes before: what its recipe has otherwise than the one above."""
    before = base.first.settings
    paper = table.base.first.settings.recipe
    own = _recipe_lines(before.recipe, paper, table.budgets[budget], like=base.recipe)
    words = f"{before.model.__name__} is trained first, then held fixed as “{base.first.into}”: "
    words += "with the values above but for these:" if own else "with the values above."
    return [_line([_cell(words, css="label", colspan=4)]), *own]


def _sourced(settings: Settings, row: Row | None) -> dict[str, Stated | Assumed]:
    """Every value of the settings, other than the base's recipe, that is stated somewhere or assumed for a reason."""
    values = {f"option: {name}": value for name, value in settings.options.items()}
    for name, loss in settings.losses.items():
        values[f"loss {name}: weight"] = loss.weight
        values |= {f"loss {name}: {option}": value for option, value in loss.options.items()}
    testing = settings.testing
    values |= {f"test: {name}": getattr(testing, name) for name in ("mirror", "reranking", "multi_query")}
    values |= {f"re-ranking: {name}": value for name, value in testing.reranking_options.items()}
    if settings.first:
        values |= {f"first, {name}": value for name, value in _sourced(settings.first.settings, None).items()}
    values |= row.recipe if row else {}
    unread = () if value_of(settings.recipe.schedule) == "step" else ("milestones", "decay")
    return {n: value for n, value in values.items() if isinstance(value, Stated | Assumed) and n not in unread}


def assumptions(declared: dict[str, Assumed]) -> Page:
    """What the paper leaves unsaid about the network, what was built, and why."""
    head = [_cell(text) for text in ("detail", "built here", "because")]
    body = [
        _line(
            [_cell(name, css="label"), _cell(str(assumed.value), css="quote"), _cell(assumed.because, css="quote why")]
        )
        for name, assumed in declared.items()
    ]
    return _table([_line(head)], body)


def provenance(runs) -> Page:
    """Which record each number comes from, and the command that makes it again."""
    made = runs.records()
    if not made:
        return Page("<p>No record yet.</p>")
    head = [_cell(text) for text in ("row", "seed", "record", "start", "minutes", "images/s", "command")]
    body = [
        _line(
            [
                _cell(_title(runs, run.row), css="label"),
                _cell(str(run.seed)),
                _cell(run.key, css="key"),
                _cell(record.start),
                _cell(f"{record.seconds / 60:.1f}"),
                _cell(f"{record.images_per_second:.0f}"),
                _cell(shlex.join(run.command()), css="key"),
            ]
        )
        for run, record in made
    ]
    first = made[0][1]
    together = {
        "data": f"{first.data['name']}, {first.data['source']}, digest {first.data['digest']}, "
        + ", ".join(f"{count:,} {split}" for split, count in first.data["images"].items())
        + f" images, {first.data['identities']} training identities",
        "protocol": f"{protocol(made[0][0].protocol).title} ({made[0][0].protocol}); descriptors compared by cosine; "
        f"AP compared with the paper: {'plain sum' if runs.table.ap == 'plain' else 'trapezoids'}",
        "devices": "; ".join(sorted({record.device for _, record in made})),
        "hours": f"{sum(record.seconds for _, record in made) / 3600:.2f} of training",
        "code": "; ".join(sorted({record.commit for _, record in made})) + " (a plus marks uncommitted changes)",
        "versions": ", ".join(f"{name} {version}" for name, version in first.versions.items()),
    }
    items = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in together.items())
    return Page(f'<dl class="provenance">{items}</dl>{_table([_line(head)], body)}')


def paired(runs, row: Name, other: Name, metric: str = "mAP") -> Interval | None:
    """Interval of the difference, query by query, seeds pooled; None where a run is missing."""
    pairs = [(_of(runs, row, seed), _of(runs, other, seed)) for seed in _seeds(runs)]
    if any(run is None or run.state() != "finished" for pair in pairs for run in pair):
        return None
    first, second = ([run.per_query(_stored(runs, metric)) for run in side] for side in zip(*pairs, strict=True))
    return statistics.difference(first, second)


def rows_of(runs) -> list[Row]:
    """The rows behind the runs, in the table's order."""
    return list({(run.row.label, run.row.variant): run.row for run in runs.runs}.values())


def row_of(runs, name: Name) -> Row | None:
    """The row of this name; None where the table does not retrain it."""
    run = _of(runs, name, runs.runs[0].seed)
    return run.row if run else None


def title(runs, name: Name) -> str:
    """A row as figures and lists call it: its label, with its variant where the table has several."""
    row = row_of(runs, name)
    return _title(runs, row) if row else (name if isinstance(name, str) else name[0])


def _title(runs, row: Row) -> str:
    several = len({run.row.variant for run in runs.runs}) > 1
    return f"{row.label} ({row.variant})" if several and row.variant != PUBLISHED else row.label


def _pooled(runs, name: Name) -> Interval:
    found = [_of(runs, name, seed) for seed in _seeds(runs)]
    finished = [run for run in found if run is not None and run.state() == "finished"]
    return statistics.interval(*(run.per_query(_stored(runs, "mAP")) for run in finished))


def _seeds(runs) -> list[int]:
    return sorted({run.seed for run in runs.runs})


def _stored(runs, metric: str) -> str:
    """What a metric is query by query, as it is kept beside a record; mAP by the rule of the table's column."""
    if metric == "mAP":
        return "ap" if runs.table.ap == "plain" else "ap_trapezoid"
    return metric


def _column(runs, metric: str) -> str:
    """What a metric is called in a record; mAP by the rule of the table's column."""
    return "mAP_trapezoid" if metric == "mAP" and runs.table.ap == "trapezoid" else metric


def _of(runs, name: Name, seed: int):
    """The run of a row from a seed; None where there is none."""
    label, variant = (name, None) if isinstance(name, str) else name
    found = [run for run in runs.runs if run.row.label == label and run.seed == seed]
    if variant is None and len(found) < 2:
        return found[0] if found else None
    return next((run for run in found if run.row.variant == (variant or PUBLISHED)), None)


def _mean(values: pd.Series) -> str:
    values = values.dropna()
    if values.empty:
        return _number(np.nan)
    spread = statistics.over_seeds(values.tolist())
    return _number(spread.mean) + (f" ± {spread.sd:.1f}" if spread.n > 1 else "")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _interval(value: Interval, *, sign: bool = False) -> str:
    return f"[{_number(value.low, sign=sign)}, {_number(value.high, sign=sign)}]"


def _number(value: float, *, sign: bool = False) -> str:
    return "–" if np.isnan(value) else f"{value:{'+' if sign else ''}.1f}".replace("-", "−")


def _cell(text: str, *, css: str = "", colspan: int = 1, rowspan: int = 1, note: str = "") -> str:
    spans = "".join(f' {name}="{size}"' for name, size in (("colspan", colspan), ("rowspan", rowspan)) if size > 1)
    style = f' class="{css}"' if css else ""
    small = f"<br><small>{html.escape(note)}</small>" if note else ""
    return f"<td{style}{spans}>{html.escape(text)}{small}</td>"


def _line(cells: Sequence[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _table(head: Sequence[str], body: Sequence[str], css: str = "") -> Page:
    """A table in a box that scrolls by itself, so that a phone's page does not."""
    top = "".join(head).replace("<td", "<th").replace("</td>", "</th>")
    return Page(
        f'<div class="table-scroll"><table class="study {css}"><thead>{top}</thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )
