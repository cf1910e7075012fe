"""Trained networks for figures: the weights of a run, from its training or from a repeat on this machine.

    runs = engine.ensure("safenet", "table5", budget="small", rows=rows)
    models = [trained.load(run) for run in trained.select(runs, rows).runs]

Weights are not committed. They are in the cache, in the work folder of their training. A record that came with the
checkout has none there, so its run is repeated first; `origin` says whose weights were loaded."""

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import safetensors
import torch
from torch import nn

from reidlib import paths, training
from reidlib.models import backbone
from reidlib.runs import engine
from reidlib.runs.records import Record
from reidlib.runs.run import Run, Runs
from reidlib.spec import ReidError

OWN, REPEAT, OTHER = "the record's own training", "a repeat on this machine", "another training"


def select(runs: Runs, labels: Sequence[str]) -> Runs:
    """The runs of the rows with these labels, in this order: of a label with several variants, the first."""
    if not labels:
        raise ReidError(f"{runs.table.slug}: no row to draw; name at least one in rows")
    chosen = []
    for label in labels:
        named = [run for run in runs.runs if run.row.label == label]
        if not named:
            known = "; ".join(dict.fromkeys(run.row.label for run in runs.runs))
            raise ReidError(f"{runs.table.slug}: unknown row {label!r}; choose from: {known}")
        chosen += [run for run in named if run.row.variant == named[0].row.variant]
    return Runs(tuple(chosen), runs.repeats)


def fastest_device() -> torch.device:
    """A GPU where there is one: for whole galleries. Maps of a few images need none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(
    run: Run, device: torch.device | str = "cpu", *, train: bool = True, log: Callable[[str], None] = print
) -> nn.Module:
    """The trained network of a run, in evaluation mode, float32, with the descriptor of its row.

    Its weights are those in its work folder, or else those of its repeat (`reid train … --again`). Where there are
    neither, the run is trained first: as a repeat where its record is there, so that no record of results/ changes.
    train=False raises a ReidError with the command instead."""
    model = _model(run)
    if model is None:
        finished = run.state() == "finished"
        wanted = replace(run, again=True) if finished else run
        why = "the cache has no weights of its network" if finished else "it has no finished record"
        command = shlex.join(wanted.command())
        # A repeat that has lost its weights still has its record, counts as finished, and would not train.
        alone = finished and wanted.record_file.exists()
        if not train:
            raise ReidError(f"{run.name}: {why}; {f'delete {wanted.record_file} and ' if alone else ''}run `{command}`")
        log(f"{run.name}: {why}; training it now (`{command}`)")
        if alone:
            wanted.record_file.unlink()
        engine.train_runs([wanted], log=log)
        model = _model(run)
        if model is None:
            raise ReidError(f"{run.name}: its training left no weights in {wanted.work_folder}; empty that folder")
    return model.to(device).to(memory_format=torch.channels_last).eval()


def has_weights(run: Run) -> bool:
    """Whether `load` finds them, without training."""
    return bool(_with_weights(run))


def origin(run: Run) -> tuple[str, Run]:
    """Whose weights `load` takes, `OWN`, `REPEAT` or `OTHER` (of a row that shares the network), and the run that has
    left them. Raises ReidError where there are none."""
    kept = _with_weights(run)
    if not kept:
        raise ReidError(f"{run.name}: the cache has no weights of its network; load it first")
    if kept[0].again and not run.again:
        return REPEAT, kept[0]
    record, curve = run.record(), []
    if _is_trained(run):
        with safetensors.safe_open(run.work_folder / training.WEIGHTS, framework="pt") as stored:
            curve = json.loads(stored.metadata()["curve"])
    same = record is not None and curve == record.curve  # the seconds of its epochs tell two trainings apart
    return OWN if same else OTHER, kept[0]


def export(record: Record, file: Path) -> str:
    """Writes the backbone of a finished run as a start of other networks: half-precision safetensors, and its digest as
    text beside it. Returns the digest. Raises ReidError where the cache has no weights of the run's network."""
    folders = [paths.cache() / "runs" / f"{record.network}{again}" for again in ("", "-again")]
    kept = [folder / training.WEIGHTS for folder in folders if (folder / training.WEIGHTS).is_file()]
    if not kept:
        remedy = "train its row again (`reid train … --again`)"
        raise ReidError(f"{folders[0]}: no weights of record {record.key}; {remedy}")
    try:
        tensors, _ = training.read_tensors(kept[0])
    except ReidError:
        raise
    except Exception as fault:  # a damaged file raises half a dozen kinds
        raise ReidError(f"{kept[0]}: damaged ({fault}); delete it and train its row again") from None
    prefix = "backbone."
    weights = {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
    return backbone.write_start(weights, file)


def _model(run: Run) -> nn.Module | None:
    """The run's network with its weights; None where there are none. A file that cannot be read is set aside."""
    for kept in _with_weights(run):
        settings, record = kept.settings, kept.record()
        assert record is not None, "a run with weights has a finished record"
        identities, file = record.data["identities"], kept.work_folder / training.WEIGHTS
        if not _is_trained(run):
            return training.build(settings, identities, run.seed)[0]
        # A network trained before it and frozen is a submodule, so this file holds it too.
        model = settings.model(identities, size=settings.recipe.size, **settings.options)
        if training.finished(file, model) is not None:
            return model
        file.replace(file.with_suffix(".corrupt"))
    return None


def _with_weights(run: Run) -> list[Run]:
    """The run and its repeat, as far as they have a finished record and weights (which zero epochs do not leave)."""
    made = [one for one in (run, replace(run, again=True)) if one.is_made()]
    return [one for one in made if not _is_trained(run) or (one.work_folder / training.WEIGHTS).is_file()]


def _is_trained(run: Run) -> bool:
    return bool(run.settings.recipe.epochs)
