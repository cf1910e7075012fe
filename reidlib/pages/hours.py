"""The page "What it took": device hours of each table, by the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reidlib.data import cuhk03
from reidlib.pages.formatting import paper_title, plural
from reidlib.pages.render import Page, TableView, Text, bullets, state, table
from reidlib.runs.run import STUDY, Runs


def spent(read: Sequence[Runs]) -> pd.DataFrame:
    """A line for each network behind a finished run, its own and the one trained before it, with its seconds.

    read: a `Runs` for each table and data set, twenty for twenty splits. Rows that share a network have each its whole
    time in their records, and so in these lines: `once` takes each network once.
    """
    names = ("slug", "images", "budget", "row", "rows", "seed", "device", "kind", "memory_mb", "network", "seconds")
    lines = []
    for run in (run for runs in read for run in runs.runs):
        if (record := run.record(arrays=False)) and record.ok:
            row, images = (run.row.label, run.row.variant), cuhk03.all_splits(run.dataset)
            line: list[Any] = [run.table.slug, images, run.budget, row, len(run.table.rows), run.seed]
            line += [record.device, record.device_kind, record.peak_memory_mb]
            own = sum(point["seconds"] for point in record.curve)
            lines.append([*line, record.network, own])
            if first := run.settings.first:  # the record's seconds are the sum of both, its curve that of its own
                lines.append([*line, run.network_of(first.settings), record.seconds - own])
    return pd.DataFrame(lines, columns=list(names))


def once(found: pd.DataFrame) -> pd.DataFrame:
    """The lines of `spent` that took time, each network of a device once."""
    return found[found["seconds"] > 0].drop_duplicates(["network", "device"], keep="last")


def by_table(found: pd.DataFrame) -> TableView:
    """A line a table, data set and budget that has a record."""
    lines, place = [], ["slug", "images", "budget"]
    for _, own in found.groupby(place, sort=False):
        slug, images, budget = own[place].iloc[0]
        paper, _, name = slug.partition("/")
        networks = once(own)
        whose = paper_title(paper)
        cells = [f"{whose}{':' * (paper == STUDY)} {name}", images, _hours(networks["seconds"].sum()), len(networks)]
        cells += [own["seed"].nunique(), f"{own['row'].nunique()} of {own['rows'].iloc[0]}", budget]
        cells += ["; ".join(sorted(set(networks["kind"]))) or "–", f"{own['memory_mb'].max():,.0f}"]
        lines.append(cells)
    kinds = {"table": "label", "images": "label", "device hours": "number", "networks": "number", "seeds": "number"}
    kinds |= {"rows": "number", "budget": "text", "device": "text", "peak memory, MiB": "number"}
    below = ["Rows: those with a record, of all rows of the table."]
    return table(kinds, lines, "Device hours by table", over=True, below=below)


def _hours(seconds: float) -> str:
    """With two decimals; what would be shown as none says so."""
    return "< 0.01" if 0 < seconds < 18 else f"{seconds / 3600:.2f}"


def together(found: pd.DataFrame) -> Page:
    """All of it by device, a network that several tables show once."""
    networks = once(found)
    if networks.empty:
        return Page([Text("Not run yet: no network has been trained.")])
    hours = networks.groupby("device")["seconds"].agg(["size", "sum"]).itertuples(name=None)
    listed = bullets([Text(f"{device}: {plural(n, 'network')}, {s / 3600:.2f} hours") for device, n, s in hours])
    none = Text("No GPU hour is among them: no table has been trained on a GPU yet.")
    return Page([listed] if "cuda" in set(networks["kind"]) else [listed, none])


def speed(measured: Mapping[str, Any]) -> Page:
    """What `benchmarks/training.py --json` has written: images a second of the ways to train, a line a network. The
    step as a CUDA graph, where it was measured, is the limit of which our loop reaches a share."""
    graphs = any("graph" in case for case in measured["cases"].values())
    columns = ["network", "input", "batch", "bare step", *["as a graph"] * graphs, "our loop"]
    columns += [f"of the {'graph' if graphs else 'bare step'}", "conventional pipeline", "our loop against it"]
    columns += ["peak memory, MiB"]
    lines = []
    for name, case in measured["cases"].items():
        if "error" in case:
            lines.append([name, *state(f"failed: {case['error']}", len(columns) - 1)])
        else:
            cells = ["×".join(map(str, case["size"])), case["batch"], case["bare step"]]
            cells += [*[case.get("graph", "")] * graphs, case["our loop"], f"{100 * case['share']:.0f} %"]
            cells += [case["conventional"], f"{case['ratio']:.2f} ×", f"{case['memory_mb']:,.0f}"]
            lines.append([name, *cells])
    how = (
        f"Images a second on {measured['device']}, budget {measured['budget']}, torch {measured['torch']}: medians of "
        f"{plural(measured['rounds'], 'round')} of {measured['steps']} steps each, in turns; {measured['workers']} "
        f"loading processes for the conventional pipeline. Code {measured['commit'][:7]}."
    )
    if note := measured.get("note"):  # written into the file by hand
        how = f"{how} {note}"
    caption = f"Images a second, budget {measured['budget']}, on {measured['device']}"
    return Page([table(columns, lines, caption), Text(how, css="provenance")])
