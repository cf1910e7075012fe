"""The page "What it took": device hours of each table, by the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reidlib.data import cuhk03
from reidlib.pages.formatting import paper_title
from reidlib.pages.render import Column, Page, TableView, Text, bullets, state, table
from reidlib.runs.records import Record
from reidlib.runs.run import Run, Runs


@dataclass(frozen=True)
class Spent:
    """What the records of one table on one data set say.

    done, rows: rows with a record, and all of them. seconds: by network and device, each network once.
    kinds: of the devices, "cpu" or "cuda".
    """

    slug: str
    dataset: str
    budget: str
    done: int
    rows: int
    seeds: int
    seconds: dict[tuple[str, str], float]
    memory_mb: float
    kinds: tuple[str, ...]

    @property
    def hours(self) -> float:
        return sum(self.seconds.values()) / 3600


def spent(read: Sequence[Runs]) -> list[Spent]:
    """One entry a table and data set that has a record; `read` holds a `Runs` for each, twenty for twenty splits.

    Rows that share a network have each its whole time in their records; here it counts once.
    """
    together: dict[tuple[str, str, str], list[Run]] = {}
    for runs in read:
        for run in runs.runs:
            together.setdefault((run.table.slug, cuhk03.all_splits(run.dataset), run.budget), []).append(run)
    found = []
    for (slug, dataset, budget), runs in together.items():
        made = [(run, record) for run in runs if run.is_made() and (record := run.record())]
        if made:
            found.append(
                Spent(
                    slug,
                    dataset,
                    budget,
                    done=len({(run.row.label, run.row.variant) for run, _ in made}),
                    rows=len(runs[0].table.rows),
                    seeds=len({run.seed for run, _ in made}),
                    seconds=dict(part for run, record in made for part in _parts(run, record)),
                    memory_mb=max(record.peak_memory_mb for _, record in made),
                    kinds=tuple(sorted({_kind(record) for _, record in made if record.curve})),
                )
            )
    return found


def _parts(run: Run, record: Record) -> list[tuple[tuple[str, str], float]]:
    """The seconds of the record's own network, and of the one trained before it, each by network and device.

    The record has the sum of both; its curve is that of its own.
    """
    own = sum(point["seconds"] for point in record.curve)
    parts = [((record.network, record.device), own)]
    if first := run.settings.first:
        parts.append(((run.network_of(first.settings), record.device), record.seconds - own))
    return parts


def _kind(record: Record) -> str:
    """The kind of its device; records of the first schema have it only as the first word of the device."""
    return record.device_kind or record.device.partition(" ")[0]


def by_table(found: Sequence[Spent]) -> TableView:
    """A line a table and data set."""
    columns = [Column("table", "label"), Column("images", "text"), Column("budget", "text"), "rows with a record"]
    columns += ["seeds", "networks", "device hours", "peak memory, MiB", Column("device", "text")]
    lines = []
    for one in found:
        paper, _, name = one.slug.partition("/")
        cells = [f"{paper_title(paper)} {name}", one.dataset, one.budget, f"{one.done} of {one.rows}", one.seeds]
        cells += [
            sum(map(bool, one.seconds.values())),
            f"{one.hours:.2f}",
            f"{one.memory_mb:,.0f}",
            "; ".join(one.kinds) or "–",
        ]
        lines.append(cells)
    return table(columns, lines, "Device hours by table")


def speed(measured: Mapping[str, Any]) -> Page:
    """What `benchmarks/training.py --json` has written: images a second of three ways to train, a line a network."""
    columns = [Column("network", "label"), "input", "batch", "bare step", "our loop", "of the bare step"]
    columns += ["conventional pipeline", "our loop against it", "peak memory, MiB"]
    lines = []
    for name, case in measured["cases"].items():
        if "error" in case:
            lines.append([name, *state(f"failed: {case['error']}", len(columns) - 1)])
        else:
            cells = ["×".join(map(str, case["size"])), case["batch"], case["bare step"], case["our loop"]]
            cells += [f"{100 * case['share']:.0f} %", case["conventional"], f"{case['ratio']:.2f} ×"]
            lines.append([name, *cells, f"{case['memory_mb']:,.0f}"])
    how = (
        f"Images a second on {measured['device']}, budget {measured['budget']}, torch {measured['torch']}: medians of "
        f"{measured['rounds']} rounds of {measured['steps']} steps each, in turns; {measured['workers']} loading "
        f"processes for the conventional pipeline. Code {measured['commit'][:7]}."
    )
    caption = f"Images a second, budget {measured['budget']}, on {measured['device']}"
    return Page([table(columns, lines, caption), Text(how, css="provenance")])


def together(found: Sequence[Spent]) -> Page:
    """All of it by device, a network that several tables show once."""
    once = {name: seconds for one in found for name, seconds in one.seconds.items() if seconds}
    items = []
    for device in sorted({device for _, device in once}):
        own = [seconds for (_, where), seconds in once.items() if where == device]
        items.append(Text(f"{device}: {len(own)} networks, {sum(own) / 3600:.1f} hours"))
    if not items:
        return Page([Text("No network has been trained yet.")])
    if any("cuda" in one.kinds for one in found):
        return Page([bullets(items)])
    return Page([bullets(items), Text("No GPU hour is among them: no table has been trained on a GPU yet.")])
