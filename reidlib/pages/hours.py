"""The page "What it took": device hours of each table, by the records."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reidlib.data import cuhk03
from reidlib.pages.deviations import title
from reidlib.pages.tables import Page, _cell, _line, _table


@dataclass(frozen=True)
class Spent:
    """What the records of one table on one data set say.

    done, rows: rows with a record, and all of them. seconds: by network and device, each network once.
    """

    slug: str
    dataset: str
    budget: str
    done: int
    rows: int
    seeds: int
    seconds: dict[tuple[str, str], float]
    memory_mb: float

    @property
    def hours(self) -> float:
        return sum(self.seconds.values()) / 3600


def spent(read: Sequence) -> list[Spent]:
    """One entry a table and data set that has a record; `read` holds a `Runs` for each, twenty for twenty splits.

    Rows that share a network have each its whole time in their records; here it counts once.
    """
    together: dict[tuple[str, str, str], list] = {}
    for runs in read:
        for run in runs.runs:
            together.setdefault((run.table.slug, cuhk03.all_splits(run.dataset), run.budget), []).append(run)
    found = []
    for place, runs in together.items():
        made = [(run, run.record()) for run in runs if run.is_made()]
        if made:
            seconds = dict(part for run, record in made for part in _parts(run, record))
            memory = max(record.peak_memory_mb for _, record in made)
            done = {(run.row.label, run.row.variant) for run, _ in made}
            counts = (len(done), len(runs[0].table.rows), len({run.seed for run, _ in made}))
            found.append(Spent(*place, *counts, seconds, memory))
    return found


def _parts(run, record) -> list[tuple[tuple[str, str], float]]:
    """The seconds of the record's own network, and of the one trained before it, each by network and device.

    The record has the sum of both; its curve is that of its own.
    """
    own = sum(point["seconds"] for point in record.curve)
    parts = [((record.network, record.device), own)]
    if first := run.settings.first:
        parts.append(((run.network_of(first.settings), record.device), record.seconds - own))
    return parts


def banner(source: str) -> Page:
    """Whose images the networks were trained on."""
    if source == "real":
        return Page('<div class="real-banner">Hours of trainings on real images.</div>')
    return Page(
        '<div class="standin-banner">Hours of trainings on rendered stand-in images, as many as each budget has; '
        "the real sets take longer.</div>"
    )


def by_table(found: Sequence[Spent]) -> Page:
    """A line a table and data set."""
    names = (
        "table",
        "images",
        "budget",
        "rows with a record",
        "seeds",
        "networks",
        "device hours",
        "peak memory, MiB",
        "device",
    )
    body = []
    for one in found:
        paper, _, name = one.slug.partition("/")
        devices = "; ".join(sorted({device.split(" ")[0] for (_, device), seconds in one.seconds.items() if seconds}))
        cells = [_cell(f"{title(paper)} {name}", css="label"), _cell(one.dataset), _cell(one.budget)]
        cells += [
            _cell(f"{one.done} of {one.rows}"),
            _cell(str(one.seeds)),
            _cell(str(sum(map(bool, one.seconds.values())))),
        ]
        cells += [_cell(f"{one.hours:.2f}"), _cell(f"{one.memory_mb:,.0f}"), _cell(devices or "–")]
        body.append(_line(cells))
    return _table([_line([_cell(text) for text in names])], body)


def speed(measured: Mapping[str, Any]) -> Page:
    """What `benchmarks/training.py --json` has written: images a second of three ways to train, a line a network."""
    names = ("network", "input", "batch", "bare step", "our loop", "of the bare step")
    names += ("conventional pipeline", "our loop against it", "peak memory, MiB")
    body = []
    for name, case in measured["cases"].items():
        cells = [_cell(name, css="label")]
        if "error" in case:
            cells.append(_cell(f"failed: {case['error']}", colspan=len(names) - 1, css="state"))
        else:
            texts = ["×".join(map(str, case["size"])), str(case["batch"])]
            texts += [f"{case['bare step']:.1f}", f"{case['our loop']:.1f}", f"{100 * case['share']:.0f} %"]
            texts += [f"{case['conventional']:.1f}", f"{case['ratio']:.2f} ×", f"{case['memory_mb']:,.0f}"]
            cells += [_cell(text) for text in texts]
        body.append(_line(cells))
    how = (
        f"Images a second on {measured['device']}, budget {measured['budget']}, torch {measured['torch']}: medians of "
        f"{measured['rounds']} rounds of {measured['steps']} steps each, in turns; {measured['workers']} loading "
        f"processes for the conventional pipeline. Code {measured['commit'][:7]}."
    )
    table = _table([_line([_cell(text) for text in names])], body)
    return Page(f'{table._repr_html_()}<p class="provenance">{html.escape(how)}</p>')


def together(found: Sequence[Spent]) -> Page:
    """All of it by device, a network that several tables show once."""
    once = {name: seconds for one in found for name, seconds in one.seconds.items() if seconds}
    lines = []
    for device in sorted({device for _, device in once}):
        own = [seconds for (_, where), seconds in once.items() if where == device]
        lines.append(f"<li>{html.escape(device)}: {len(own)} networks, {sum(own) / 3600:.1f} hours</li>")
    if not lines:
        return Page("<p>No network has been trained yet.</p>")
    gpus = any(device.startswith("cuda") for _, device in once)
    said = "" if gpus else "<p>No GPU hour is among them: nothing has run on a GPU yet.</p>"
    return Page(f"<ul>{''.join(lines)}</ul>{said}")
