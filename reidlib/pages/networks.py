"""Trained networks of a table's rows, for the figures that show pictures: their weights, and what they are shown on.

    runs = engine.ensure("safenet", "table5", budget="small", rows=rows)
    drawn = networks.drawn(runs, rows)
    models = networks.load_all(drawn)

Weights are not committed: they lie in the cache, in the work folder of their training. A record that came with the
checkout has none there, so its run is repeated first; `weights` says on the page whose weights were drawn.
"""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import safetensors
import torch
from torch import Tensor, nn

from reidlib import standin, training
from reidlib.data import images as pixels
from reidlib.data.table import DISTRACTOR, MANIFEST, Dataset
from reidlib.evaluation import protocols
from reidlib.evaluation.reranking import reranking
from reidlib.pages import heatmaps, retrieval
from reidlib.pages.tables import Page
from reidlib.runs import datasets, engine, worker
from reidlib.runs.run import Run, Runs
from reidlib.spec import ReidError, value_of
from reidlib.standin import parts

MEASURED = 100
"""On how many pictures, at most, maps are held against the truth; one a person."""

BATCH = 16
"""Images of which maps are made at a time."""

Look = Callable[[nn.Module, Tensor], Tensor]
"""From a network and a few images to their maps: a function of `heatmaps` with its other arguments filled in."""


# --- networks ---------------------------------------------------------------------------------------------------------


def drawn(runs: Runs, rows: Sequence[str]) -> Runs:
    """The runs of the rows that a figure draws, in the order of `rows`: of a label with several variants, the first."""
    chosen = []
    for label in rows:
        named = [run for run in runs.runs if run.row.label == label]
        if not named:
            known = "; ".join(dict.fromkeys(run.row.label for run in runs.runs))
            raise ReidError(f"{runs.table.slug}: unknown row {label!r}; choose from: {known}")
        chosen += [run for run in named if run.row.variant == named[0].row.variant]
    if not chosen:
        raise ReidError(f"{runs.table.slug}: no row to draw; name at least one in rows")
    return Runs(tuple(chosen), runs.repeats)


def load_all(runs: Runs, device: torch.device | str = "cpu") -> dict[tuple[str, int], nn.Module]:
    """The network of every run, by row label and seed."""
    return {(run.row.label, run.seed): load(run, device) for run in runs.runs}


def fastest() -> torch.device:
    """A GPU where there is one: for whole galleries. Maps of a few pictures need none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(
    run: Run, device: torch.device | str = "cpu", *, train: bool = True, log: Callable[[str], None] = print
) -> nn.Module:
    """The trained network of a run, in evaluation mode, float32, with the descriptor of its row.

    Its weights are those in its work folder, or else those of its repeat (`reid train … --again`). Where there are
    neither, the run is trained first, in a process of its own: as a repeat where its record is there, so that no record
    of results/ is touched. train=False raises a ReidError with the command instead.
    """
    model = _model(run)
    if model is None:
        finished = run.state() == "finished"
        wanted = replace(run, again=True) if finished else run
        why = "the cache has no weights of its network" if finished else "it has no finished record"
        command = shlex.join(wanted.command())
        # A repeat whose weights are gone too still has its record, counts as finished, and would not train.
        hollow = finished and wanted.record_file.exists()
        if not train:
            first = f"delete {wanted.record_file} and " if hollow else ""
            raise ReidError(f"{_name(run)}: {why}; {first}run `{command}`")
        log(f"{_name(run)}: {why}; training it now (`{command}`)")
        if hollow:
            wanted.record_file.unlink()
        engine.train_in_a_process(wanted, log)
        model = _model(run)
        if model is None:
            raise ReidError(f"{_name(run)}: its training left no weights in {wanted.work_folder}; empty that folder")
    return model.to(device, memory_format=torch.channels_last).eval()


def has_weights(run: Run) -> bool:
    """Whether `load` would find them, without training."""
    return bool(_kept(run))


def weights(runs: Runs) -> Page:
    """Whose weights were drawn, a line a network. Raises ReidError where there are none; nothing is trained here."""
    lines = []
    for run in runs.runs:
        if not (kept := _kept(run)):
            raise ReidError(f"{_name(run)}: the cache has no weights of its network; load it first")
        words = "weights of the record's own training"
        if kept[0].again and not run.again:
            here, there = (one.record().metrics[run.protocol]["mAP"] for one in (kept[0], run))
            words = f"trained again on the machine that made this page: mAP {here:.1f}, the record has {there:.1f}"
        elif _curve(run) != run.record().curve:  # left by a row that shares the network; seconds tell trainings apart
            words = "weights of another training than the record's, with the same settings, data and seed"
        label = html.escape(run.row.label)
        lines.append(f"<li>{label}, seed {run.seed}: network <code>{run.network}</code>, {words}</li>")
    return Page(f"<p>The networks that were drawn:</p><ul>{''.join(lines)}</ul>")


def _model(run: Run) -> nn.Module | None:
    """The run's network with its weights; None where there are none. A file that cannot be read is set aside."""
    for trained in _kept(run):
        settings, identities = trained.settings, trained.record().data["identities"]
        recipe, file = settings.recipe.resolved(), trained.work_folder / training.WEIGHTS
        if not recipe["epochs"]:
            return training.build(settings, identities, run.seed)[0]
        # A network trained before it and frozen is a submodule, so this file holds it too.
        model = settings.model(identities, size=tuple(recipe["size"]), **settings.bare_options())
        if training.finished(file, model) is not None:
            return model
        file.replace(file.with_suffix(".corrupt"))
    return None


def _kept(run: Run) -> list[Run]:
    """The run and its repeat, as far as they have a finished record and weights (which zero epochs do not leave)."""
    needs_file = bool(run.settings.recipe.resolved()["epochs"])
    return [
        one
        for one in (run, replace(run, again=True))
        if one.is_made() and (not needs_file or (one.work_folder / training.WEIGHTS).is_file())
    ]


def _curve(run: Run) -> list[dict]:
    """The curve that lies in a run's file of weights; none where nothing was trained."""
    if not run.settings.recipe.resolved()["epochs"]:
        return []
    with safetensors.safe_open(run.work_folder / training.WEIGHTS, framework="pt") as stored:
        return json.loads(stored.metadata()["curve"])


def _name(run: Run) -> str:
    return f"{run.table.slug} {run.row.label!r} seed {run.seed}, {run.budget}"


# --- what they are shown on -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures that a rule chose, as a network sees them.

    frame:      their rows of the data set's table. raw: uint8, N × 3 × H × W, at the network's input size.
    images:     the same normalised, float32. bodies: N × 128 × 64, true where the person is, from the renderer's truth;
                None for photographs, which have none.
    """

    frame: pd.DataFrame
    raw: Tensor
    images: Tensor
    bodies: Tensor | None

    @property
    def labels(self) -> list[str]:
        """Identity and camera of each."""
        pairs = zip(self.frame["identity"], self.frame["camera"], strict=True)
        return [f"id {identity}\ncamera {camera}" for identity, camera in pairs]


def pictures(runs: Runs, n: int = 4) -> Pictures:
    """The n queries that every figure of this data set and budget shows: one a person, drawn by seed 0, not by eye."""
    return _pictures(runs, n)


def measured(runs: Runs) -> Pictures:
    """Queries to measure maps on: one of every person, at most `MEASURED`, by the same draw as `pictures`."""
    return _pictures(runs, MEASURED)


def _pictures(runs: Runs, n: int) -> Pictures:
    run = runs.runs[0]
    data = datasets.load(run.dataset, run.source, run.budget)
    queries = data.split("query")
    people = queries.loc[queries["identity"] > DISTRACTOR, "identity"].nunique()
    frame = heatmaps.choose(queries, min(n, people))
    raw = pixels.decode(data, frame, tuple(run.settings.recipe.resolved()["size"]))
    return Pictures(frame, raw, pixels.normalise(raw), _bodies(data, frame))


def _bodies(data: Dataset, frame: pd.DataFrame) -> Tensor | None:
    """Where the renderer drew the person, what they wear and what they carry; None for photographs."""
    if data.source != "stand-in" or not (data.root / MANIFEST).is_file():
        return None
    masks = []
    for folder in json.loads((data.root / MANIFEST).read_text())["counts"]:
        inside = frame["path"].str.startswith(f"{folder}/")
        if inside.any():
            found = standin.truth(data.root, folder, frame["path"][inside].tolist())
            masks.append(pd.Series(list(np.isin(found.parts, parts.FIGURE)), index=frame.index[inside]))
    return torch.from_numpy(np.stack(pd.concat(masks).loc[frame.index].tolist()))


def maps(
    models: Mapping[tuple[str, int], nn.Module], seed: int, images: Tensor, looks: Mapping[str, Mapping[str, Look]]
) -> dict[str, Tensor]:
    """Title: maps B × h × w, as `heatmaps.panel` takes them, of one network or several.

    models: of `load_all`. looks: row: title: how to look at that row's network.
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

    model: of `load`, on any device. chosen: rows of the query split. Columns as of `retrieval.ranked_list`.
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
