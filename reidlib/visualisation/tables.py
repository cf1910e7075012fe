"""The tables of a chapter: reported against reproduced, repeats on this machine, assumptions, provenance."""

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
from reidlib.spec import Assumed, Claim, Stated, value_of

NOT_RUN = "not run"
METRICS = {"rank1": "R1", "rank5": "R5", "rank10": "R10", "mAP": "mAP"}


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
    """What the paper prints, and what the same rows reach here; a real and a stand-in number never share a column."""
    source = runs.runs[0].source
    seeds = len({run.seed for run in runs.runs})
    frame = runs.frame()
    for metric in METRICS:
        if metric not in frame:
            frame[metric] = np.nan
    head = [_cell("row", rowspan=2), _cell("paper, real images", colspan=len(METRICS), css="reported")]
    head.append(_cell(f"here, {source} images ({seeds} seed{'s' * (seeds > 1)})", colspan=len(METRICS) + 1))
    names = [_cell(name, css="reported") for name in METRICS.values()] + [_cell(name) for name in METRICS.values()]
    body = []
    for label, part in frame.groupby("row", sort=False):
        printed = [reported[metric].get(label, np.nan) if metric in reported else np.nan for metric in METRICS]
        cells = [_cell(label, css="label")] + [_cell(_number(value), css="reported") for value in printed]
        if (part["state"] != "finished").all():
            states = ", ".join(sorted(set(part["state"])))
            cells.append(_cell(states, colspan=len(METRICS) + 1, css="state"))
        else:
            cells += [_cell(_mean(part[metric])) for metric in METRICS] + [_cell(_interval(_pooled(runs, label)))]
        body.append(_line(cells))
    names.append(_cell("mAP, 95 % interval"))
    return _table([_line(head), _line(names)], body, css="comparison")


def differences(runs, reported: pd.DataFrame, steps: Sequence[tuple[str, str]], metric: str = "mAP") -> Page:
    """Steps of the ablation, each as (row, compared with): Δ in the paper, Δ here with its paired interval.

    A difference whose interval holds zero is grey: the images at hand cannot tell the two rows apart.
    """
    head = [
        _cell(text) for text in ("row", "compared with", f"Δ {metric}, paper", f"Δ {metric}, here", "95 % interval")
    ]
    body = []
    for row, other in steps:
        here = paired(runs, row, other)
        printed = reported[metric].get(row, np.nan) - reported[metric].get(other, np.nan)
        cells = [_cell(row, css="label"), _cell(other, css="label"), _cell(_number(printed, sign=True), css="reported")]
        if here is None:
            cells.append(_cell("not run", colspan=2, css="state"))
        else:
            grey = "inside-spread" if here.holds_zero else ""
            cells += [_cell(_number(here.mean, sign=True), css=grey), _cell(_interval(here, sign=True), css=grey)]
        body.append(_line(cells))
    return _table([_line(head)], body, css="differences")


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
    first, seeds = runs.runs[0], len({run.seed for run in runs.runs})
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
            cells = [_cell(run.row.label, css="label"), _cell(name)] + [_cell(_number(metrics[m])) for m in METRICS]
            cells += [
                _cell(record.device),
                _cell(f"{record.images_per_second:.0f}"),
                _cell(f"{record.seconds / 60:.1f}"),
            ]
            body.append(_line(cells))
        pair = [record.metrics[run.protocol] for record in (there, here)]
        apart = [_cell(_number(pair[1][m] - pair[0][m], sign=True)) for m in METRICS]
        body.append(_line([_cell(run.row.label, css="label"), _cell("difference"), *apart, _cell("", colspan=3)]))
    return _table([_line(head)], body, css="repeats")


def recipe(runs) -> Page:
    """Every value of the recipe at this budget, with where the paper states it or why it was assumed."""
    settings = runs.runs[0].table.base
    budget = runs.runs[0].table.budgets[runs.runs[0].budget]
    used = settings.recipe.but(**budget)
    body = []
    unread = () if value_of(used.schedule) == "step" else ("milestones", "decay")
    for name in used.__dataclass_fields__:
        if name in unread:
            continue
        value = getattr(used, name)
        published = getattr(settings.recipe, name)
        kind, why = "default of the study", ""
        if isinstance(value, Stated):
            kind, why = "stated", value.where
        elif isinstance(value, Assumed):
            kind, why = "assumed", value.because
        if name in budget and isinstance(published, Stated):
            kind, why = "changed for the budget", f"{why} (paper: {value_of(published)}, {published.where})"
        cells = [_cell(name, css="label"), _cell(str(value_of(value))), _cell(kind), _cell(why, css="quote why")]
        body.append(_line(cells))
    return _table([_line([_cell(text) for text in ("recipe", "value here", "source", "where or why")])], body)


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
                _cell(run.row.label, css="label"),
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


def paired(runs, row: str, other: str, metric: str = "mAP") -> Interval | None:
    """Interval of the difference, query by query, seeds pooled; None where a run is missing."""
    pairs = [(_of(runs, row, seed), _of(runs, other, seed)) for seed in sorted({run.seed for run in runs.runs})]
    if any(run is None or run.state() != "finished" for pair in pairs for run in pair):
        return None
    first, second = ([run.per_query(_stored(runs, metric)) for run in side] for side in zip(*pairs, strict=True))
    return statistics.difference(first, second)


def _pooled(runs, row: str) -> Interval:
    finished = [run for run in runs.runs if run.row.label == row and run.state() == "finished"]
    return statistics.interval(*(run.per_query(_stored(runs, "mAP")) for run in finished))


def _stored(runs, metric: str) -> str:
    """What a metric is query by query, as it is kept beside a record; mAP by the rule of the table's column."""
    if metric == "mAP":
        return "ap" if runs.table.ap == "plain" else "ap_trapezoid"
    return metric


def _of(runs, row: str, seed: int):
    return next((run for run in runs.runs if run.row.label == row and run.seed == seed), None)


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


def _cell(text: str, *, css: str = "", colspan: int = 1, rowspan: int = 1) -> str:
    spans = "".join(f' {name}="{size}"' for name, size in (("colspan", colspan), ("rowspan", rowspan)) if size > 1)
    style = f' class="{css}"' if css else ""
    return f"<td{style}{spans}>{html.escape(text)}</td>"


def _line(cells: Sequence[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _table(head: Sequence[str], body: Sequence[str], css: str = "") -> Page:
    """A table in a box that scrolls by itself, so that a phone's page does not."""
    top = "".join(head).replace("<td", "<th").replace("</td>", "</th>")
    return Page(
        f'<div class="table-scroll"><table class="study {css}"><thead>{top}</thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )
