"""Times: how long the distances of a test take by length of the descriptor, and how much longer one row trains.

Seconds belong to a machine and to whatever else ran on it, a ratio less so. Both tables name the machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize

from reidlib.data.market1501 import PUBLISHED
from reidlib.evaluation.distances import Vectors
from reidlib.evaluation.ranking import blocks
from reidlib.pages.formatting import number, plural
from reidlib.pages.render import Column, Page, TableView, Text, state, table
from reidlib.pages.tables import NOT_RUN, PAPER
from reidlib.runs.run import Runs

MARKET = (PUBLISHED["query images"], PUBLISHED["gallery images"] - 3_819)
"""Queries and gallery of Market-1501's test, without the images of junk, which are never compared."""

REFERENCE = 1024
"""The length of the descriptor whose time is 1."""


def distances(
    lengths: Sequence[int], size: tuple[int, int], device: torch.device, machine: str, *, rounds: int = 5
) -> Page:
    """Measures now, and shows a line for each length of the descriptor: its time as a multiple of the reference's.

    size: queries and gallery. machine: name of the device. rounds: how often each length is timed.
    """
    seconds = measure(lengths, size, device, rounds=rounds)
    middle = seconds.median()
    lines = []
    for length in lengths:
        span = " to ".join(map(_seconds, (seconds[length].min(), seconds[length].max())))
        lines.append([str(length), _times(middle[length] / middle[REFERENCE]), _seconds(middle[length]), span])
    words = (
        f"Measured while this page was made, on {machine}: the distances of {size[0]:,} queries to a gallery of "
        f"{size[1]:,}, as this study's evaluator computes them. The vectors are synthetic, random directions from seed "
        "0; no network has a part in it. Our copy of the paper has no numbers of the figure."
    )
    columns = ["length", f"time, {REFERENCE} = 1", f"seconds, median of {rounds}", "fastest to slowest"]
    return Page([Text(words), table(columns, lines, "Time of all distances by length of the descriptor")])


def measure(lengths: Sequence[int], size: tuple[int, int], device: torch.device, *, rounds: int = 5) -> pd.DataFrame:
    """Seconds for all distances between two sets of random unit vectors, float32: a line a round, a column a length.

    The lengths take turns, so that a machine that slows down for a while slows all of them. A first round is not
    counted.
    """
    draw = torch.Generator().manual_seed(0)
    points = {}
    for length in lengths:
        query, gallery = (normalize(torch.randn(n, length, generator=draw)).to(device) for n in size)
        others = Vectors.of(gallery, "cosine")
        points[length] = Vectors.of(query, "cosine", like=others), others
    turns = [{length: _elapsed(*points[length], device) for length in lengths} for _ in range(1 + rounds)]
    return pd.DataFrame(turns[1:])


def _elapsed(query: Vectors, gallery: Vectors, device: torch.device) -> float:
    """Seconds for the float64 distances of the evaluator, block by block. Preparing the vectors is work of each image,
    not of each pair, and is not timed."""
    wait = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    for rows in blocks(len(query), len(gallery)):
        query.squared_distances(rows, gallery)
    wait()
    return time.perf_counter() - started


def ratio(runs: Runs, reported: pd.DataFrame, row: str, other: str) -> TableView:
    """How many times as long one row trains as another: by the paper's minutes, and by the seconds in our records.

    reported: of `reported_numbers`, with a column "minutes". Means over the seeds that both rows have. There is no
    ratio where a row has no record, or where the records come from different devices.
    """
    labels = [other, row]
    found = [(run.row.label, run.seed, one.seconds, one.images_per_second, one.device) for run, one in runs.records()]
    made = pd.DataFrame(found, columns=["row", "seed", "seconds", "rate", "device"])
    made = made[made["row"].isin(labels)].sort_values("seed")
    both = made[made.groupby("seed")["row"].transform("nunique") == 2]
    printed = reported.get("minutes", pd.Series(dtype=float)).reindex(labels)
    lines, why = [], ""
    for label in labels:
        own, shared = made[made["row"] == label], both[both["row"] == label]
        cells: Sequence[str] = state(NOT_RUN, 3)
        if len(own):
            seconds = (own if shared.empty else shared)["seconds"].mean()
            cells = [f"{seconds:,.0f}", ", ".join(map(number, own["rate"])), "; ".join(sorted(set(own["device"])))]
        lines.append([label, printed[label], *cells])
    if missing := [label for label in labels if label not in set(made["row"])]:
        why = f"{' and '.join(missing)} {NOT_RUN}"
    elif both.empty:
        why = "the two rows have no seed in common"
    elif both["device"].nunique() > 1:
        why = "the records come from different devices"
    means = both.groupby("row")["seconds"].mean()
    cells = state(f"no ratio: {why}", 3) if why else [_times(means[row] / means[other]), "", ""]
    lines.append([f"{row} / {other}", _times(printed[row] / printed[other]), *cells])
    here = f"here, {runs.runs[0].source} images"
    here += f" ({plural(both['seed'].nunique(), 'seed')})" if len(both) else ""
    columns = [Column("row", "label"), Column("minutes", group=PAPER, reported=True), Column("seconds", group=here)]
    columns += [Column("images/s, by seed", group=here), Column("device", "text", group=here)]
    return table(columns, lines, f"Time of training, {row} against {other}")


def _times(value: float) -> str:
    """A multiple, to two places."""
    return "–" if np.isnan(value) else f"{value:.2f}"


def _seconds(value: float) -> str:
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")
