"""What a network finds: the ranked list of a query as data and as a row of images, under the evaluator's rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from reidlib.data.images import read_image
from reidlib.evaluation import ECN, Features, KReciprocal, Protocol
from reidlib.evaluation.distances import TIE, Vectors
from reidlib.evaluation.evaluator import drawn_galleries
from reidlib.evaluation.features import check_same_dimensions
from reidlib.evaluation.ranking import Labels
from reidlib.pages.figures import PHOTOGRAPHS, finished
from reidlib.pages.render import Column, TableView, table
from reidlib.runs.run import Runs
from reidlib.spec import ReidError

FRAMES = {True: "#1a9641", False: "#d7191c"}
"""Colours of right and wrong answers."""

SIGNS = {True: "✓", False: "✗"}
"""Colour is never the only sign."""

SHOWN_SIZE = (192, 96)
"""Height and width in pixels to which every image of a panel is brought; boxes of real sets differ in shape."""


def ranked_list(
    query: Features,
    gallery: Features,
    query_paths: Sequence[str],
    gallery_paths: Sequence[str],
    *,
    protocol: Protocol,
    metric: str = "cosine",
    rerank: KReciprocal | ECN | None = None,
    which: Sequence[int] | None = None,
    n: int | None = 10,
) -> pd.DataFrame:
    """The gallery as each query ranks it, nearest first, as the evaluator counts ranks: a line an answer.

    query, gallery: all images of both splits (re-ranking looks at all of them), with their paths in the same order.
    which:          positions of the queries wanted; None: all.
    n:              how many answers of each; None: the whole gallery.

    Columns: query (path), query_identity, query_camera, rank (from 1), gallery (path), identity, camera, distance,
    right, rights (how many right answers the gallery holds: more cannot be found). Images that the protocol ignores
    have no rank and no line. In a tie (distances as the evaluator ties them) wrong answers come first. distance: 1 −
    cosine, the Euclidean distance, or what re-ranking makes of it.

    A protocol that draws its gallery at random has a list for every draw; this is the evaluator's first, by its seed.

    Raises ReidError where lengths differ.
    """
    for features, paths, name in ((query, query_paths, "query"), (gallery, gallery_paths, "gallery")):
        if len(features) != len(paths):
            raise ReidError(f"{len(paths)} {name} paths for {len(features)} features of {features.name}; give one each")
    check_same_dimensions(query, gallery)
    wanted = torch.arange(len(query)) if which is None else torch.as_tensor(which, dtype=torch.int64)
    if protocol.draws:
        return _first_draw(query, gallery, query_paths, gallery_paths, protocol, metric, rerank, wanted, n)
    labels = Labels(protocol, query.ids, query.cameras, gallery.ids, gallery.cameras)
    kept = labels.kept.nonzero()[:, 0]  # junk is gone for every query
    shown, compared = _distances(query, gallery[kept], wanted, metric, rerank)
    lines = []
    for row, place in enumerate(wanted.tolist()):
        pairs = labels.pairs(slice(place, place + 1))
        own, right = np.zeros(len(kept), dtype=bool), np.zeros(len(kept), dtype=bool)
        own[pairs.columns[pairs.present].numpy()] = True
        right[pairs.columns[pairs.match].numpy()] = True
        # the evaluator puts a right answer behind every wrong one up to a tie's width beyond it
        order = np.lexsort((right, compared[row] + TIE * right))
        order = order[(right | ~own)[order]][:n]  # own without right: ignored for this query
        lines.append(
            pd.DataFrame(
                {
                    "query": query_paths[place],
                    "query_identity": int(query.ids[place]),
                    "query_camera": int(query.cameras[place]),
                    "rank": np.arange(1, len(order) + 1),
                    "gallery": [gallery_paths[number] for number in kept[order].tolist()],
                    "identity": gallery.ids[kept[order]].numpy(),
                    "camera": gallery.cameras[kept[order]].numpy(),
                    "distance": shown[row][order],
                    "right": right[order],
                    "rights": int(right.sum()),
                }
            )
        )
    return pd.concat(lines, ignore_index=True)


def _first_draw(query, gallery, query_paths, gallery_paths, protocol, metric, rerank, which, n) -> pd.DataFrame:
    """Each query's list from the gallery that the evaluator draws first for its camera."""
    rules, lists = replace(protocol, draws=0), []
    galleries = drawn_galleries(query, gallery, torch.Generator().manual_seed(0))
    for place in which.tolist():
        camera = int(query.cameras[place])
        asked, drawn = (query.cameras == camera).nonzero()[:, 0], galleries.get(camera, torch.arange(0))
        paths = [query_paths[i] for i in asked.tolist()], [gallery_paths[i] for i in drawn.tolist()]
        own = (asked == place).nonzero()[:, 0]
        asking = dict(protocol=rules, metric=metric, rerank=rerank, which=own, n=n)
        lists.append(ranked_list(query[asked], gallery[drawn], *paths, **asking))
    return pd.concat(lists, ignore_index=True)


def first_answers(runs: Runs, row: str, other: str) -> TableView:
    """From the records: for how many queries the first answer of either network is right, seed by seed.

    A figure that shows only queries which one network gets right and the other does not shows one of these numbers.
    """
    lines, queries = [], 0
    for seed in sorted({run.seed for run in runs.runs}):
        own = {run.row.label: run.per_query("rank1") > 0.5 for run in runs.runs if run.seed == seed}
        first, second = own[row], own[other]
        counts = [first & second, first & ~second, ~first & second, ~first & ~second]
        lines.append([str(seed), *(int(part.sum()) for part in counts)])
        queries = len(first)
    columns = [Column("seed", "label"), "both right", f"only {row}", f"only {other}", "neither"]
    return table(columns, lines, f"First answers of {row} and {other}, {queries} queries")


def cases(right: pd.DataFrame, wrong: pd.DataFrame, n: int, *, seed: int = 0) -> pd.DataFrame:
    """Queries whose first answer is right in one ranked list and wrong in another: n of them, drawn by the seed.

    Both are lists of the same queries (of `ranked_list`, n=1 is enough). A line for each image, three for each query:
    role ("query", "wrong answer", "right answer"), path, identity, camera. Fewer where there are fewer such queries.
    """
    first, other = (frame[frame["rank"] == 1].set_index("query") for frame in (right, wrong))
    if set(first.index) != set(other.index):
        raise ReidError("the two lists were asked different queries; rank the same ones")
    wanted = [query for query in first.index if first["right"][query] and not other["right"][query]]
    lines = []
    for query in sorted(wanted, key=lambda query: Random(f"{seed}/{query}").random())[:n]:
        asked = first.loc[query]
        lines.append(("query", query, asked["query_identity"], asked["query_camera"]))
        for role, frame in (("wrong answer", other), ("right answer", first)):
            lines.append((role, *frame.loc[query][["gallery", "identity", "camera"]]))
    return pd.DataFrame(lines, columns=["role", "path", "identity", "camera"])


def write(lists: pd.DataFrame, file: Path) -> None:
    """A ranked list as CSV, to lie beside its figure: six digits of each distance, line ends alike everywhere."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lists.to_csv(file, index=False, float_format="%.6f", lineterminator="\n")


def panel(lists: Mapping[str, pd.DataFrame], root: Path, *, n: int = 10) -> Figure:
    """A row for each query and network: the query, then its first n answers, right ones green ✓, wrong ones red ✗.

    lists: label: a ranked list (of `ranked_list`, or read back from its CSV); of several networks on the same queries
           each query stands once for each label, one below the other.
    root:  folder of the data set, to which the paths are relative.

    Raises ReidError where two networks were asked different queries.
    """
    if not lists:
        raise ReidError("no ranked list to draw; give at least one")
    asked = {label: list(dict.fromkeys(frame["query"])) for label, frame in lists.items()}
    first, *others = asked
    for other in others:
        if asked[other] != asked[first]:
            raise ReidError(f"{first!r} and {other!r} were asked different queries; rank the same ones")
    rows = [(query, label) for query in asked[first] for label in lists]
    high = 0.78 * SHOWN_SIZE[0] / SHOWN_SIZE[1]  # inches; an image is 0.78 wide
    layout = ConstrainedLayoutEngine(w_pad=0.035, h_pad=0.02, wspace=0.02, hspace=0.02)
    figure, panels = plt.subplots(
        len(rows), 1 + n, figsize=(1.0 + 0.78 * (1 + n), (high + 0.3) * len(rows)), squeeze=False, layout=layout
    )
    for line, (query, label) in zip(panels, rows, strict=True):
        answers = lists[label][lists[label]["query"] == query].nsmallest(n, "rank")
        asking = answers.iloc[0]
        _draw(line[0], root / query, "black", 1.0)
        line[0].set_title(f"query {asking['query_identity']}, c{asking['query_camera']}", fontsize=7, pad=2)
        words = f"{label}\n{asking['rights']} to find".strip()
        line[0].set_ylabel(words, fontsize=8, rotation=0, ha="right", va="center")
        for axes, answer in zip(line[1:], answers.to_dict("records"), strict=False):
            right = bool(answer["right"])
            _draw(axes, root / answer["gallery"], FRAMES[right], 2.5)
            axes.set_title(f"{answer['rank']} {SIGNS[right]}", color=FRAMES[right], fontsize=9, pad=3)
        for axes in line[1 + len(answers) :]:  # a gallery of fewer than n
            axes.axis("off")
    return finished(figure, PHOTOGRAPHS)


def _draw(axes: Axes, file: Path, frame: str, width: float) -> None:
    axes.imshow(read_image(file, SHOWN_SIZE))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(edgecolor=frame, linewidth=width)


def _distances(
    query: Features, gallery: Features, which: torch.Tensor, metric: str, rerank: KReciprocal | ECN | None
) -> tuple[np.ndarray, np.ndarray]:
    """Queries wanted × gallery, float64: the distances to show, and those that the evaluator measures ties by."""
    if rerank is not None:
        distances = rerank.distances(query.features, gallery.features, metric=metric)[which].double().cpu().numpy()
        return distances, distances
    device = query.features.device
    others = Vectors.of(gallery.features.to(device), metric)
    asking = Vectors.of(query.features, metric, like=others)
    squares = asking.squared_distances(which.to(device), others).cpu().numpy()
    if metric == "cosine":
        return squares * others.unit**2 / 2, squares
    return np.sqrt(squares) * others.unit, squares
