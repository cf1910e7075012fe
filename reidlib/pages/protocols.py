"""The page "Protocols and metrics": a ranked list as boxes, its AP term by term, and both rules on our own rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reidlib.evaluation import Draws, Features, Protocol, Ranking
from reidlib.evaluation.distances import TIE
from reidlib.evaluation.ranking import average_precision
from reidlib.pages import render
from reidlib.pages.figures import PHONE, finished, panel
from reidlib.pages.formatting import number, plural
from reidlib.pages.render import Code, Fragment, Piece, Strong, TableView, Text, table
from reidlib.runs.run import Runs

SHOWN = {
    "rank1": "rank-1",
    "rank5": "rank-5",
    "rank10": "rank-10",
    "rank20": "rank-20",
    "mAP": "mAP, plain sum",
    "mAP_trapezoid": "mAP, trapezoids",
    "mINP": "mINP",
    "queries": "queries",
    "excluded_queries": "excluded",
}
"""What the evaluator calls a metric, and what this page does."""

MARKS = {"query": "?", "right": "✓", "wrong": "✗", "ignored": "–"}
"""Colour is never the only sign."""


# --- worked examples --------------------------------------------------------------------------------------------------


def verdicts(query: Features, gallery: Features, protocol: Protocol) -> list[tuple[int, str]]:
    """The gallery of one query, nearest first: (its number, "right", "wrong" or "ignored"). In a tie wrong comes first.
    Written apart from the evaluator, which never sorts a list; a test holds the two against each other."""
    points = gallery.features.double()
    spread = (points - points.median(0).values).square().sum(1).median()
    distance = (points - query.features.double()).square().sum(1) / (spread or 1)
    person = gallery.ids == query.ids
    nobody = torch.tensor(protocol.distractors, dtype=torch.int64)
    ignored = torch.isin(gallery.ids, torch.tensor(protocol.junk, dtype=torch.int64))
    if protocol.ignore_same_camera:
        ignored |= person & (gallery.cameras == query.cameras)
    right = person & ~ignored & ~torch.isin(gallery.ids, nobody)
    order = np.lexsort((right.numpy(), np.round(distance.numpy() / TIE)))
    words = np.where(ignored.numpy(), "ignored", np.where(right.numpy(), "right", "wrong"))
    return [(int(place), str(words[place])) for place in order]


def hits(query: Features, gallery: Features, protocol: Protocol) -> list[int]:
    """The ranked list of one query as the metrics see it: 1 right, 0 wrong, ignored images gone."""
    return [int(word == "right") for _, word in verdicts(query, gallery, protocol) if word != "ignored"]


def ranked_list(caption: str, query: Features, gallery: Features, protocol: Protocol) -> Fragment:
    """One query and its gallery, nearest first, as a strip of boxes with identity, camera and the rank that counts."""

    def box(verdict: str, image: Features, place: int, under: str) -> dict[str, str]:
        identity = int(image.ids[place])
        who = {-1: "junk", 0: "distractor"}.get(identity, f"id {identity}")
        camera = f"cam {int(image.cameras[place])}"
        return dict(verdict=verdict, sign=MARKS[verdict], identity=who, camera=camera, rank=under)

    boxes, rank = [box("query", query, 0, "query")], 0
    for place, word in verdicts(query, gallery, protocol):
        rank += word != "ignored"
        boxes.append(box(word, gallery, place, "ignored" if word == "ignored" else f"rank {rank}"))
    return render.ranked_list(caption, boxes)


def terms(caption: str, ranked: Sequence[int]) -> TableView:
    """Average precision of one ranked list by both rules, term by term, and the library's values under them."""
    ranks = [place for place, right in enumerate(ranked, 1) if right]
    lines, sums = [], np.zeros(2)
    for n, rank in enumerate(ranks, 1):
        at, before = n / rank, (n - 1) / (rank - 1) if rank > 1 else 1.0
        sums += at, (before + at) / 2
        earlier = f"{n - 1}/{rank - 1} = {before:.3f}" if rank > 1 else f"{before:.3f}"
        lines.append([f"match at rank {rank}", earlier, f"{n}/{rank} = {at:.3f}", f"{(before + at) / 2:.3f}"])
    lines.append(["mean of the terms", "", *(f"{value:.3f}" for value in sums / len(ranks))])
    library = [f"{average_precision(ranked, rule=rule):.3f}" for rule in ("plain", "trapezoid")]
    lines.append(["average_precision(…)", "", *library])
    return table(["term", "before it", "at it: plain term", "mean of both: trapezoid term"], lines, caption)


def scores(caption: str, results: Mapping[str, Ranking | Draws], show: Sequence[str]) -> TableView:
    """A line for each result, a column for each metric of `show`, in percent; queries are counted."""
    lines = [[label, *map(result.metrics().get, show)] for label, result in results.items()]
    return table(["result", *(SHOWN[name] for name in show)], lines, caption)


def columns(caption: str, results: Mapping[str, Ranking | Draws], show: Sequence[str]) -> TableView:
    """The same with a column for each result: a re-ranked number never stands in the column of one that is not."""
    lines = [[SHOWN[name], *(result.metrics()[name] for result in results.values())] for name in show]
    return table(["metric", *results], lines, caption)


def crowd(
    identities: int, cameras: int, images: int, *, spread: float = 0.6, seed: int = 0
) -> tuple[Features, Features]:
    """Made-up descriptors, 16-d, of (query, gallery): a cloud of points for each person, shifted by camera.

    images: of each person in each camera; the first of each is the query of that person and camera. They are all in
    the gallery too, as in CUHK03, where the rule on the query's own camera takes it out again. spread: the size of a
    person's cloud, where people lie about 1 apart in each dimension. Lengths vary, so that scaling them matters.
    """
    draw = torch.Generator().manual_seed(seed)
    people = torch.randn(identities, 1, 1, 16, generator=draw)
    places = torch.randn(1, cameras, 1, 16, generator=draw) / 2
    clouds = people + places + spread * torch.randn(identities, cameras, images, 16, generator=draw)
    clouds = clouds * torch.exp(0.3 * torch.randn(identities, cameras, images, 1, generator=draw))
    ids = torch.arange(1, identities + 1)[:, None, None].expand(-1, cameras, images)
    seen = torch.arange(1, cameras + 1)[None, :, None].expand(identities, -1, images)
    gallery = Features(clouds.reshape(-1, 16), ids.reshape(-1), seen.reshape(-1), name="gallery")
    first = torch.arange(0, len(gallery), images)
    return gallery[first], gallery


def named(protocols: Mapping[str, Protocol]) -> TableView:
    """Every protocol that `--protocol` takes, with its rules."""
    lines = []
    for name, rules in protocols.items():
        ids = [", ".join(map(str, ids)).replace("-", "−") or "none" for ids in (rules.junk, rules.distractors)]
        own, asked = "ignored" if rules.ignore_same_camera else "counts", "mean" if rules.multi_query else "one image"
        lines.append([name, *ids, own, asked, f"{rules.draws} draws" if rules.draws else "whole", rules.title])
    kinds = dict.fromkeys(("ignored ids", "wrong ids", "own camera", "query", "gallery"), "text")
    return table({"name": "label", **kinds, "as captions print it": "reason"}, lines, "The named protocols")


# --- both rules on our own rankings -----------------------------------------------------------------------------------


def on_records(runs: Runs) -> list[Piece | Figure]:
    """Both rules on the rankings of the records; one sentence where a run has none yet, for a page trains nothing."""
    if not (missing := runs.missing()):
        return [gap(runs), two_rules(runs), both_rules(runs), by_first_hit(runs)]
    run = missing[0]
    lacks = f" {run.table.slug}, {run.row.label}, seed {run.seed} has no finished record; make it with "
    return [Text(Strong("Not run yet:"), lacks, Code(f"reid run {run.table.slug} --budget {run.budget}"), ".")]


def two_rules(runs: Runs) -> TableView:
    """mAP of every row by both rules, what lies between, and the most that one query loses."""
    head = ["row", "queries", "mAP, plain sum", "mAP, trapezoids", "difference", "largest of one query"]
    lines = []
    for label, (plain, trapezoid) in _by_row(runs).items():
        apart = 100 * (trapezoid - plain)
        means = [float(100 * plain.mean()), float(100 * trapezoid.mean())]
        lines.append([label, len(plain), *means, number(apart.mean(), sign=True), number(apart.min(), sign=True)])
    first, seeds = runs.runs[0], plural(len({run.seed for run in runs.runs}), "seed")
    caption = f"{runs.table.slug}, {first.source} images, budget {first.budget}, {seeds}: the same rankings by both "
    return table(head, lines, f"{caption}rules (%)")


def gap(runs: Runs) -> Text:
    """From the records: how far the rules lie apart, whether the rows keep their order, and what mixing does."""
    means = [(100 * plain.mean(), 100 * trapezoid.mean()) for plain, trapezoid in _by_row(runs).values()]
    apart = [plain - trapezoid for plain, trapezoid in means]
    pairs = [sorted(pair) for pair in combinations(means, 2)]  # the row with the smaller plain mAP first
    swapped = sum(low[1] > high[1] for low, high in pairs)
    mixed = sum(low[0] > high[1] for low, high in pairs)
    order = {0: "none changes", 1: "one changes"}.get(swapped, f"{swapped} change")
    return Text(
        Strong(f"The trapezoids lie {number(min(apart))} to {number(max(apart))} points below the plain sum"),
        f" in the {len(means)} rows. Of {len(pairs)} pairs of rows, {order} order between the rules. But take the "
        f"better row by trapezoids and the other by the plain sum, and the order turns in {mixed} of them. Differences "
        "are taken before rounding.",
    )


def both_rules(runs: Runs) -> Figure:
    """Every query of every row as a point: its AP by the plain sum, and what the trapezoids take off it."""
    plain, trapezoid = (100 * np.concatenate(values) for values in zip(*_by_row(runs).values(), strict=True))
    figure, axes = _panel(f"{len(plain):,} rankings, {runs.runs[0].source} images")
    axes.scatter(plain, plain - trapezoid, s=9, alpha=0.35, color="C0", linewidth=0)
    axes.set(xlabel="AP of a query, plain sum (%)", ylim=(-0.2, None))
    return finished(figure)


FIRST_HITS = {"1": 1, "2": 2, "3": 3, "4–5": 5, "6–10": 10, "11–20": 20, "> 20": np.inf}
"""Groups of queries by the rank of their first right image: the last rank of each."""


def by_first_hit(runs: Runs) -> Figure:
    """What the trapezoids take off, for queries grouped by the rank of their first right image."""
    values = _by_row(runs, ("ap", "ap_trapezoid", "first_hit")).values()
    plain, trapezoid, first = (np.concatenate(each) for each in zip(*values, strict=True))
    lost = 100 * (plain - trapezoid)
    group = pd.cut(first, [0, *FIRST_HITS.values()], labels=list(FIRST_HITS))
    groups = {f"{name}\n({sum(group == name):,})": lost[group == name] for name in FIRST_HITS}
    figure, axes = _panel("box: middle half, whiskers: middle 90 %")
    look: dict[str, Any] = dict(showfliers=False, whis=(5, 95), medianprops={"color": "C0", "linewidth": 2})
    axes.boxplot(list(groups.values()), tick_labels=list(groups), **look)
    axes.set(xlabel="rank of the first right image (rankings)", ylim=(0, None))
    axes.grid(axis="x", visible=False)
    return finished(figure)


def _panel(title: str) -> tuple[Figure, Axes]:
    figure, axes = panel(PHONE, 3)
    axes.set_title(title, fontsize=10)
    axes.set_ylabel("points of AP taken off")
    axes.tick_params(labelsize=8)
    return figure, axes


def _by_row(runs: Runs, names: Sequence[str] = ("ap", "ap_trapezoid")) -> dict[str, list[np.ndarray]]:
    """Row label -> AP of its queries by the plain sum and by trapezoids, seeds one after another."""
    found: dict[str, list[np.ndarray]] = {}
    for label in dict.fromkeys(run.row.label for run in runs.runs):
        own = [run for run in runs.runs if run.row.label == label]
        found[label] = [np.concatenate([run.per_query(name) for run in own]) for name in names]
    return found
