"""What figures of trained networks show: images that a rule chose, maps and ranked lists of networks on them.

drawn = trained.select(engine.ensure("safenet", "table5", budget="small", rows=rows), rows)
networks, chosen = network_figures.Networks(drawn), network_figures.images(drawn)
heatmaps.panel(chosen.raw, networks.maps(chosen, {rows[0]: looks}), chosen.labels, masks=chosen.masks)

What was drawn of a network is kept beside its record, as KEY.maps.npz: small arrays, from which the same figure can be
drawn again where the cache has no weights, and what is to be said of those weights.
"""

from __future__ import annotations

import hashlib
import io
import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from reidlib import standin, training
from reidlib.data import images as pixels
from reidlib.data.table import DISTRACTOR, MANIFEST, Dataset
from reidlib.evaluation import protocols
from reidlib.evaluation.reranking import reranking
from reidlib.pages import heatmaps, part_shares, retrieval
from reidlib.pages.render import Code, Fragment, Text, bullets
from reidlib.runs import datasets, records, trained, worker
from reidlib.runs.run import Run, Runs, read_runs
from reidlib.spec import ReidError
from reidlib.standin.catalogue import domain
from reidlib.standin.geometry import HEIGHT, WIDTH
from reidlib.standin.plan import plan
from reidlib.standin.rendering import pixels as rendered
from reidlib.standin.scene import compose

BATCH = 16
"""Images of which maps are made at a time."""

HALF = 6e4
"""Largest value that is kept in half precision, which ends at 65504."""

Look = Callable[[nn.Module, Tensor], Tensor]
"""From a network and a few images to their maps: a function of `heatmaps` with its other arguments filled in."""


def weights(runs: Runs) -> Fragment:
    """Whose weights were drawn, a line for each network of which a figure has drawn anything."""
    items = []
    for run in runs.runs:
        if whose := list(dict.fromkeys(records.origins(_kept(run)).values())):
            name = f"{run.table.slug}, {run.row.label}, seed {run.seed}: network "
            several = f"drawn from {len(whose)} trainings of it: " if len(whose) > 1 else ""
            items.append(Text(name, Code(run.network), f", {several}{'; '.join(whose)}"))
    words = " (mAP in percent, by the plain sum; what was trained again elsewhere has another mAP than its record)"
    again = any("mAP" in str(item) for item in items)
    return bullets(items, f"{'Networks' if len(items) > 1 else 'Network'} drawn{words if again else ''}:")


def _whose(run: Run) -> str:
    """Whose weights `trained.load` takes, in words."""
    whose, source = trained.origin(run)
    if whose == trained.REPEAT:
        found = (one.record() for one in (source, run))
        here, there = (one.metrics[run.protocol]["mAP"] if one else np.nan for one in found)
        return f"trained again from its settings, data and seed: mAP {here:.1f}, the record has {there:.1f}"
    if whose == trained.OTHER:
        return "weights of another training than the record's, with the same settings, data and seed"
    return "weights of the record's own training"


def _with_code(message: str) -> Text:
    """A message of an error, what stands between its backticks as code."""
    return Text(*(Code(part) if place % 2 else part for place, part in enumerate(message.split("`"))))


# --- images -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Images:
    """Images that a rule chose, as a network sees them.

    frame: their rows of the data set's table; a column "role", where there is one, says what each is there for.
    raw:   uint8, N × 3 × H × W, at the network's input size.
    masks: uint8, N × 128 × 64, the renderer's part masks (`standin.parts`); None for photographs, which have none.
    """

    frame: pd.DataFrame
    raw: Tensor
    masks: Tensor | None

    @property
    def labels(self) -> list[str]:
        """Role, identity and camera of each."""
        roles = self.frame["role"] if "role" in self.frame else [""] * len(self.frame)
        lines = zip(roles, self.frame["identity"], self.frame["camera"], strict=True)
        return [f"{role}\nid {identity}\ncamera {camera}".strip() for role, identity, camera in lines]

    @property
    def mark(self) -> str:
        """Names these images at this size, 12 hex digits."""
        roles = self.frame["role"].tolist() if "role" in self.frame else []
        content = json.dumps([self.frame["path"].tolist(), roles, list(self.raw.shape)])
        return hashlib.sha256(content.encode() + self.raw[:1].numpy().tobytes()).hexdigest()[:12]


def images(runs: Runs, n: int = 4) -> Images:
    """The n queries that every figure of this data set and budget shows: one per person, drawn by seed 0."""
    queries = _data(runs).split("query")
    people = queries.loc[queries["identity"] > DISTRACTOR, "identity"].nunique()
    return images_of(runs, heatmaps.choose(queries, min(n, people)))


def measured(runs: Runs) -> Images:
    """All queries of the test part, to measure maps on."""
    return images_of(runs, _data(runs).split("query"))


def views(runs: Runs, n: int = 3) -> Images:
    """The same person under two views: the first n of `images`, each followed by one of another camera, by seed 0."""
    chosen = images(runs, n).frame
    others = heatmaps.partners(chosen, _data(runs).split("gallery"))
    return images_of(runs, pd.concat([chosen, others]).sort_index(kind="stable").reset_index(drop=True))


def boxes(runs: Runs, n: int = 3, shift: float = 0.15) -> Images | None:
    """The first n of `images` rendered again, each in a tight box and in a shifted one; None for photographs.

    shift: standard deviation of the shift, a share of the box's height (`standin.Variant`). Nothing else changes but
    the box, and that these images were never compressed to JPEG.
    """
    run, chosen = runs.runs[0], images(runs, n).frame
    if run.source != "stand-in" or datasets.rendered_as(run.dataset) not in standin.DOMAINS:
        return None
    scale, seed = datasets.STANDIN_SCALE[run.budget], datasets.STANDIN_SEED
    size, drawn = run.settings.recipe.resolved()["size"], {}
    for role, box in (("tight box", "tight"), ("shifted box", f"shift={shift:g}")):
        place = domain(datasets.rendered_as(run.dataset), standin.Variant(boxes=box))
        specs = {spec.path: spec for spec in plan(place, scale, seed)}
        drawn[role] = rendered([compose(place, seed, specs[path]) for path in chosen["path"]])
    frame = pd.concat([chosen.assign(role=role) for role in drawn]).sort_index(kind="stable").reset_index(drop=True)
    order = [(role, place) for place in range(len(chosen)) for role in drawn]
    files = (Image.fromarray(drawn[role].images[place].numpy()) for role, place in order)
    raw = np.stack([np.asarray(file.resize(size[::-1], Image.Resampling.BILINEAR)) for file in files])  # `data.images`
    masks = torch.stack([drawn[role].parts[place] for role, place in order])
    return Images(frame, torch.from_numpy(raw).permute(0, 3, 1, 2).contiguous(), masks)


def images_of(runs: Runs, frame: pd.DataFrame) -> Images:
    """These rows of the data set's table, as the first network sees them."""
    run, data = runs.runs[0], _data(runs)
    return Images(frame, pixels.decode(data, frame, tuple(run.settings.recipe.resolved()["size"])), _masks(data, frame))


def _data(runs: Runs) -> Dataset:
    run = runs.runs[0]
    return datasets.load(run.dataset, run.source, run.budget)


def _masks(data: Dataset, frame: pd.DataFrame) -> Tensor | None:
    if data.source != "stand-in" or not (data.root / MANIFEST).is_file():
        return None
    masks = torch.empty(len(frame), HEIGHT, WIDTH, dtype=torch.uint8)
    for folder in json.loads((data.root / MANIFEST).read_text(encoding="utf-8"))["counts"]:
        inside = frame["path"].str.startswith(f"{folder}/").to_numpy().nonzero()[0]
        if len(inside):
            known = standin.truth(data.root, folder, frame["path"].iloc[inside].tolist())
            masks[inside] = torch.from_numpy(known.parts)
    return masks


# --- networks ---------------------------------------------------------------------------------------------------------


class Networks:
    """The networks of a figure, each loaded when it is first needed, and what is drawn of them.

    runs:  of `trained.select`.
    train: whether a network without weights is trained; False: a ReidError that names the command.
    """

    def __init__(self, runs: Runs, *, train: bool = True) -> None:
        self.runs, self.train = runs, train
        self._models: dict[tuple[str, int, bool], nn.Module] = {}

    def run(self, row: str, seed: int = 0) -> Run:
        return next(run for run in self.runs.runs if (run.row.label, run.seed) == (row, seed))

    def model(self, row: str, seed: int = 0) -> nn.Module:
        """The trained network, in evaluation mode, on the fastest device."""
        if (row, seed, True) not in self._models:
            device = trained.fastest_device()
            self._models[row, seed, True] = trained.load(self.run(row, seed), device, train=self.train)
        return self._models[row, seed, True]

    def untrained(self, row: str, seed: int = 0) -> nn.Module:
        """The same network before its first step, but for a part that was trained before it and frozen (FMN's GRN)."""
        if (row, seed, False) not in self._models:
            run, own = self.run(row, seed), self.model(row, seed)
            first = own.get_submodule(run.settings.first.into) if run.settings.first else None
            identities = len(_data(self.runs).identities)
            model, _ = training.build(run.settings, identities, run.seed, first)
            self._models[row, seed, False] = model.to(next(own.parameters()).device).eval()
        return self._models[row, seed, False]

    def maps(
        self, chosen: Images, looks: Mapping[str, Mapping[str, Look]], seed: int = 0, *, untrained: bool = False
    ) -> dict[str, Tensor]:
        """Title: maps B × h × w, as `heatmaps.panel` takes them, of one network or several; in half precision.

        looks: row: title: how to look at that row's network.
            looks = {"FMN": {"mask m": partial(heatmaps.output_map, name="m")}}
        """
        kept = self._measured(_half, chosen, chosen.mark, looks, seed, untrained)
        return {title: torch.from_numpy(map_).float() for title, map_ in kept.items()}

    def shares(
        self, chosen: Images, looks: Mapping[str, Mapping[str, Look]], seed: int = 0, *, untrained: bool = False
    ) -> dict[str, np.ndarray]:
        """Title: the shares of the parts (`part_shares.measure`) of the same maps; nothing for photographs."""
        if chosen.masks is None:
            return {}
        measure = partial(part_shares.measure, masks=chosen.masks)
        return self._measured(measure, chosen, f"{chosen.mark} shares", looks, seed, untrained)

    def ranked_list(
        self, row: str, chosen: pd.DataFrame, seed: int = 0, *, n: int = 10, part: str = ""
    ) -> pd.DataFrame:
        """`ranked_list` of a network, or of a part of it that is a network itself (FMN's "grn")."""
        run, asked = self.run(row, seed), hashlib.sha256(json.dumps(chosen["path"].tolist()).encode()).hexdigest()[:12]

        def made() -> np.ndarray:
            lists = ranked_list(run, self.model(row, seed).get_submodule(part), chosen, n)
            return np.array(lists.to_csv(index=False, float_format="%.6f"))

        (text,) = self._arrays({(row, f"first {n} {part}".strip()): made}, f"{asked} list", seed).values()
        return pd.read_csv(io.StringIO(str(text)))

    def lists(self, chosen: pd.DataFrame, seed: int = 0) -> tuple[dict[str, pd.DataFrame], list[Text]]:
        """Row: `ranked_list`, of every row of this seed whose list or network is there, and one line for all others."""
        lists, faults = {}, {}
        for run in (run for run in self.runs.runs if run.seed == seed):
            try:
                lists[run.row.label] = self.ranked_list(run.row.label, chosen, seed)
            except ReidError as fault:
                faults[run.row.label] = f"No list is drawn: {fault}"
        if not faults:
            return lists, []
        first, *others = faults
        return lists, [_with_code(faults[first] + (f" (nor of {', '.join(others)})" if others else ""))]

    def _measured(
        self,
        measure: Callable[[Tensor], np.ndarray],
        chosen: Images,
        mark: str,
        looks: Mapping[str, Mapping[str, Look]],
        seed: int,
        untrained: bool,
    ) -> dict[str, np.ndarray]:
        """Title: what is measured of the maps of these images. mark: names the images and what is measured."""

        def made(row: str, look: Look) -> np.ndarray:
            model = (self.untrained if untrained else self.model)(row, seed)
            device = next(model.parameters()).device
            batches = (pixels.normalise(batch.to(device)) for batch in chosen.raw.split(BATCH))
            return measure(torch.cat([look(model, batch) for batch in batches]))

        after = ",\nuntrained" if untrained else ""
        asked = [(row, title, look) for row, wanted in looks.items() for title, look in wanted.items()]
        return self._arrays({(row, title + after): partial(made, row, look) for row, title, look in asked}, mark, seed)

    def _arrays(
        self, make: Mapping[tuple[str, str], Callable[[], np.ndarray]], mark: str, seed: int
    ) -> dict[str, np.ndarray]:
        """Title: array, for (row, title): how to make it. Read from beside the records, or made and written there."""
        found = {}
        for row in dict.fromkeys(row for row, _ in make):
            run = self.run(row, seed)
            names = {title: f"{mark} {' '.join(title.split())}" for own, title in make if own == row}
            kept = _kept(run)
            if any(name not in kept for name in names.values()):
                self.model(row, seed)
                same = {name for name, whose in records.origins(kept).items() if whose == _whose(run)}
                kept = _keep(run, {name: make[row, title]() for title, name in names.items() if name not in same})
            found |= {title: kept[name] for title, name in names.items()}
        return found


def _half(maps: Tensor) -> np.ndarray:
    """In half precision, where that holds them."""
    return (maps.half() if maps.abs().max() < HALF else maps).numpy()


# --- networks of several tables ---------------------------------------------------------------------------------------


class Gallery:
    """Maps of networks of several tables on the images of the first n people, as far as they are there. Nothing is
    trained.

    looks: name: table, row, and title: how to look at that row's network. asked: budget, source, dataset, seeds (one),
    as of `read_runs`.

    maps, untrained: title: B × h × w, of the trained networks and of the same before their training.
    shares:          title: the shares of the parts on all queries (`part_shares.measure`): of a map, then of the same
                     before the training.
    runs:            whose networks were drawn. lacking: a line for each that has neither maps beside its record nor
                     weights in the cache, with the command that makes it.
    """

    def __init__(self, looks: Mapping[str, tuple[str, str, Mapping[str, Look]]], n: int, **asked: Any) -> None:
        self.maps: dict[str, Tensor] = {}
        self.untrained: dict[str, Tensor] = {}
        self.shares: dict[str, np.ndarray] = {}
        self.runs: tuple[Run, ...] = ()
        self.lacking: list[Text] = []
        self._images: list[Images] = []
        for name, (table, row, own) in looks.items():
            runs = trained.select(read_runs(table, rows=[row], **asked), [row])
            (run,) = runs.runs
            if run.state() != "finished":
                self.lacking.append(Text(f"{run.name}: not run yet; ", Code(shlex.join(run.command()))))
                continue
            networks, shown, everything = Networks(runs, train=False), images(runs, n), measured(runs)
            try:
                for found, before in ((self.maps, False), (self.untrained, True)):
                    for title, map_ in networks.maps(shown, {row: own}, run.seed, untrained=before).items():
                        found[f"{name},\n{title}"] = map_
                    for title, share in networks.shares(everything, {row: own}, run.seed, untrained=before).items():
                        self.shares[f"{name}, {' '.join(title.split())}"] = share
            except ReidError as fault:
                self.lacking.append(_with_code(str(fault)))
                continue
            self.runs = (*self.runs, run)
            self._images.append(shown)

    def panel(self, *, untrained: bool = False) -> Figure | None:
        """The images side by side, a row for each map below them; None where there is no map."""
        if not self._images:
            return None
        chosen, maps = self._images[0], self.untrained if untrained else self.maps
        return heatmaps.panel(chosen.raw, maps, chosen.labels, masks=chosen.masks, across=True)


# --- what is kept beside a record -------------------------------------------------------------------------------------


def _kept(run: Run) -> dict[str, np.ndarray]:
    """The arrays by name; none where nothing is kept of this record."""
    record = run.record()
    return records.read_maps(run.record_file, record) if record else {}


def _keep(run: Run, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Adds arrays to those beside the record, with the weights that they were drawn from; returns all that is there."""
    record = run.record()
    assert record is not None, "weights come with a finished record"
    whose = np.array(_whose(run))
    own = {f"{name}{records.WHOSE}": whose for name in arrays}
    return records.write_maps(run.record_file, record, {"whose": whose, **_kept(run), **arrays, **own})


# --- ranked lists -----------------------------------------------------------------------------------------------------


def ranked_list(run: Run, model: nn.Module, chosen: pd.DataFrame, n: int = 10) -> pd.DataFrame:
    """The first n answers of the whole gallery to some queries, by the run's own protocol and way of testing.

    model: of `trained.load`, on any device. chosen: rows of the query split. Columns as of `retrieval.ranked_list`.
    """
    data, device = datasets.load(run.dataset, run.source, run.budget), next(model.parameters()).device
    rules, testing = protocols.protocol(run.protocol), run.settings.testing
    query, gallery = (worker.embeddings(run, model, data, split, device) for split in ("query", "gallery"))
    if rules.multi_query:
        query = worker.embeddings(run, model, data, "multi-query", device).pooled_for(query, unit=True)
    rerank = reranking(testing.reranking.lower(), **testing.reranking_options)
    paths = [data.split(split)["path"].tolist() for split in ("query", "gallery")]
    which = [paths[0].index(path) for path in chosen["path"]]
    return retrieval.ranked_list(query, gallery, *paths, protocol=rules, rerank=rerank, which=which, n=n)
