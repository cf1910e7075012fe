"""What figures of trained networks show: images that a rule chose, maps and ranked lists of networks on them.

drawn = trained.select(engine.ensure("safenet", "table5", budget="small", rows=rows), rows)
chosen = network_figures.images(drawn)
maps = network_figures.maps(trained.load_all(drawn), 0, chosen.normalised, looks)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from reidlib import standin
from reidlib.data import images as pixels
from reidlib.data.table import DISTRACTOR, MANIFEST, Dataset
from reidlib.evaluation import protocols
from reidlib.evaluation.reranking import reranking
from reidlib.pages import heatmaps, retrieval
from reidlib.pages.render import Code, Fragment, Text, bullets
from reidlib.runs import datasets, trained, worker
from reidlib.runs.run import Run, Runs
from reidlib.spec import value_of
from reidlib.standin import parts

MEASURED = 100
"""On how many images, at most, maps are compared with the truth; one per person."""

BATCH = 16
"""Images of which maps are made at a time."""

Look = Callable[[nn.Module, Tensor], Tensor]
"""From a network and a few images to their maps: a function of `heatmaps` with its other arguments filled in."""


def weights(runs: Runs) -> Fragment:
    """Whose weights were drawn, a line a network. Raises ReidError where there are none; nothing is trained here."""
    items = []
    for run in runs.runs:
        whose, source = trained.origin(run)
        words = "weights of the record's own training"
        if whose == trained.REPEAT:
            here, there = (_map_of(one) for one in (source, run))
            words = f"trained again on the machine that made this page: mAP {here:.1f}, the record has {there:.1f}"
        elif whose == trained.OTHER:
            words = "weights of another training than the record's, with the same settings, data and seed"
        items.append(Text(f"{run.row.label}, seed {run.seed}: network ", Code(run.network), f", {words}"))
    return bullets(items, "The networks that were drawn:")


def _map_of(run: Run) -> float:
    record = run.record()
    return record.metrics[run.protocol]["mAP"] if record else float("nan")


@dataclass(frozen=True, eq=False)
class Images:
    """Images that a rule chose, as a network sees them.

    frame:      their rows of the data set's table. raw: uint8, N × 3 × H × W, at the network's input size.
    normalised: the same, float32. bodies: N × 128 × 64, true where the person is, from the renderer's truth;
                None for photographs, which have none.
    """

    frame: pd.DataFrame
    raw: Tensor
    normalised: Tensor
    bodies: Tensor | None

    @property
    def labels(self) -> list[str]:
        """Identity and camera of each."""
        pairs = zip(self.frame["identity"], self.frame["camera"], strict=True)
        return [f"id {identity}\ncamera {camera}" for identity, camera in pairs]


def images(runs: Runs, n: int = 4) -> Images:
    """The n queries that every figure of this data set and budget shows: one per person, drawn by seed 0."""
    return _chosen(runs, n)


def measured(runs: Runs) -> Images:
    """Queries to measure maps on: one of every person, at most `MEASURED`, by the same draw as `images`."""
    return _chosen(runs, MEASURED)


def _chosen(runs: Runs, n: int) -> Images:
    run = runs.runs[0]
    data = datasets.load(run.dataset, run.source, run.budget)
    queries = data.split("query")
    people = queries.loc[queries["identity"] > DISTRACTOR, "identity"].nunique()
    frame = heatmaps.choose(queries, min(n, people))
    raw = pixels.decode(data, frame, tuple(run.settings.recipe.resolved()["size"]))
    return Images(frame, raw, pixels.normalise(raw), _bodies(data, frame))


def _bodies(data: Dataset, frame: pd.DataFrame) -> Tensor | None:
    """Where the renderer drew the person, what they wear and what they carry; None for photographs."""
    if data.source != "stand-in" or not (data.root / MANIFEST).is_file():
        return None
    masks = []
    for folder in json.loads((data.root / MANIFEST).read_text(encoding="utf-8"))["counts"]:
        inside = frame["path"].str.startswith(f"{folder}/")
        if inside.any():
            found = standin.truth(data.root, folder, frame["path"][inside].tolist())
            masks.append(pd.Series(list(np.isin(found.parts, parts.FIGURE)), index=frame.index[inside]))
    return torch.from_numpy(np.stack(pd.concat(masks).loc[frame.index].tolist()))


def maps(
    models: Mapping[tuple[str, int], nn.Module], seed: int, images: Tensor, looks: Mapping[str, Mapping[str, Look]]
) -> dict[str, Tensor]:
    """Title: maps B × h × w, as `heatmaps.panel` takes them, of one network or several.

    models: of `trained.load_all`. looks: row: title: how to look at that row's network.
        looks = {"FMN": {"mask m": partial(heatmaps.output_map, name="m")}}
    """
    found = {}
    for row, wanted in looks.items():
        model = models[row, seed]
        batches = images.to(next(model.parameters()).device).split(BATCH)
        found |= {title: torch.cat([look(model, batch) for batch in batches]) for title, look in wanted.items()}
    return found


def ranked_list(run: Run, model: nn.Module, chosen: pd.DataFrame, n: int = 10) -> pd.DataFrame:
    """The first n answers of the whole gallery to some queries, by the run's own protocol and way of testing.

    model: of `trained.load`, on any device. chosen: rows of the query split. Columns as of `retrieval.ranked_list`.
    """
    data, device = datasets.load(run.dataset, run.source, run.budget), next(model.parameters()).device
    rules, testing = protocols.protocol(run.protocol), run.settings.testing
    query, gallery = (worker.embeddings(run, model, data, split, device) for split in ("query", "gallery"))
    if rules.multi_query:
        query = worker.embeddings(run, model, data, "multi-query", device).pooled_for(query)
    rerank = None
    if name := value_of(testing.reranking):
        options = {option: value_of(value) for option, value in testing.reranking_options.items()}
        rerank = reranking(name.lower(), **options)
    paths = [data.split(split)["path"].tolist() for split in ("query", "gallery")]
    which = [paths[0].index(path) for path in chosen["path"]]
    return retrieval.ranked_list(query, gallery, *paths, protocol=rules, rerank=rerank, which=which, n=n)
