"""Checkpoints and weights: written whole or not at all, checked before anything is loaded."""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from reidlib.models.backbone import save_tensors
from reidlib.paths import atomic
from reidlib.spec import ReidError
from reidlib.training.step import Loop

CHECKPOINT = "checkpoint.safetensors"
PREVIOUS = "checkpoint.previous.safetensors"  #: The checkpoint before it, in case the newest cannot be read
WEIGHTS = "weights.safetensors"
FORMAT = "2"  #: Of a checkpoint; one of another format is set aside

Curve = list[dict[str, float]]  #: One point for each finished epoch

_UNREADABLE = (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError, RecursionError)


def write_tensors(
    file: Path, tensors: dict[str, Tensor], metadata: dict[str, str], previous: Path | None = None
) -> None:
    """Writes a safetensors file whole or not at all, with its digest and the number of torch's threads in its metadata.

    previous: where the file that was there before goes; if the process dies between the two moves, that one remains."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    own = {"threads": str(torch.get_num_threads()), "sha256": _digest(plain)}
    try:
        with atomic(file) as partial:
            save_tensors(plain, partial, own | metadata)
            if previous is not None and file.exists():
                file.replace(previous)
    except (OSError, safetensors.SafetensorError) as fault:
        raise ReidError(f"{file}: cannot be written ({fault}); free some space or set REID_CACHE elsewhere") from fault


def finished(file: Path, model: nn.Module) -> tuple[Curve, str, str] | None:
    """Loads the weights of a finished training; returns its curve, how its steps ran, and why eagerly on a GPU (files
    of before know eager steps alone). None where the file is missing or unreadable."""
    with suppress(*_UNREADABLE):
        weights, metadata = read_tensors(file)
        curve = _curve(metadata)
        _check_same(weights, model)
        model.load_state_dict(weights)
        return curve, metadata.get("step", "eager"), metadata.get("why", "")
    return None


def save_checkpoint(file: Path, loop: Loop, curve: Curve) -> None:
    """Weights, state of the optimiser and the curve (its length is the number of finished epochs), in one file."""
    tensors = {f"model.{name}": tensor for name, tensor in loop.model.state_dict().items()}
    tensors |= {f"criterion.{name}": tensor for name, tensor in loop.criterion.state_dict().items()}
    for index, state in loop.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items() if value is not None}
    write_tensors(file, tensors, {"curve": json.dumps(curve), "format": FORMAT}, file.with_name(PREVIOUS))


def resume(folder: Path, loop: Loop, log: Callable[[str], None] = print) -> Curve:
    """Loads the newest readable checkpoint and returns its curve; [] for none. Unreadable ones are set aside."""
    for file in (folder / CHECKPOINT, folder / PREVIOUS):
        if not file.exists():
            continue
        try:
            curve = load_checkpoint(file, loop)
        except _UNREADABLE as fault:
            aside = file.with_suffix(".corrupt")
            file.replace(aside)
            log(f"{file}: cut short or foreign ({fault}); set aside as {aside.name}")
        else:
            log(f"resuming after epoch {len(curve)} of {loop.recipe.epochs} from {file}")
            return curve
    return []


def load_checkpoint(file: Path, loop: Loop) -> Curve:
    """Loads a checkpoint and returns its curve. All of it is checked before anything is changed."""
    tensors, metadata = read_tensors(file)
    curve = _curve(metadata)
    if metadata["format"] != FORMAT or len(curve) > loop.recipe.epochs:
        raise ValueError(f"format {metadata['format']}, not {FORMAT}, or of {len(curve)} epochs")
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "criterion": {}, "optimiser": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    _check_same(parts["model"], loop.model)
    _check_same(parts["criterion"], loop.criterion)
    moved = dict(enumerate(weight for group in loop.optimiser.param_groups for weight in group["params"]))
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimiser"].items():
        index, _, entry = name.partition(".")
        if tensor.shape not in ((), moved[int(index)].shape):
            raise ValueError(f"another optimiser's: {name}")
        state.setdefault(int(index), {})[entry] = tensor
    loop.model.load_state_dict(parts["model"])
    loop.criterion.load_state_dict(parts["criterion"])
    loop.optimiser.load_state_dict({**loop.optimiser.state_dict(), "state": state})  # each goes to its weight's device
    return curve


def checkpoint_threads(folder: Path) -> int | None:
    """torch's threads in the training in this folder, which a resumed one has to use; None where no file tells it."""
    for name in (WEIGHTS, CHECKPOINT, PREVIOUS):
        with suppress(*_UNREADABLE):
            return int(_metadata(folder / name)["threads"])
    return None


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata of a file of `write_tensors`. Raises one of half a dozen kinds of error for a file
    that is damaged, or whose tensors are not those that were written."""
    metadata = _metadata(file)
    tensors = safetensors.torch.load_file(file)
    if metadata.get("sha256", found := _digest(tensors)) != found:  # earlier files have none
        raise ValueError("its content has changed since it was written")
    return tensors, metadata


def _metadata(file: Path) -> dict[str, Any]:
    if not file.is_file():  # opening a FIFO would wait for ever
        raise FileNotFoundError(f"{file} is no file")
    if not os.access(file, os.R_OK):  # it is not damaged, so it is not set aside
        remedy = "have its owner permit it (chmod g+r), or set REID_CACHE to a folder of your own"
        raise ReidError(f"{file}: cannot be read (Permission denied); {remedy}")
    with safetensors.safe_open(file, framework="pt") as stored:
        return stored.metadata() or {}


def _digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _curve(metadata: dict[str, Any]) -> Curve:
    """The curve in the metadata: a point for each epoch, from 1."""
    curve = json.loads(metadata["curve"])
    if [point["epoch"] for point in curve] != list(range(1, len(curve) + 1)):
        raise ValueError("its curve does not have one point for each epoch")
    return curve


def _check_same(stored: dict[str, Tensor], module: nn.Module) -> None:
    """Raises ValueError unless names and shapes are those of the module. (Torch would load half before it fails.)"""
    wanted = {name: tensor.shape for name, tensor in module.state_dict().items()}
    found = {name: tensor.shape for name, tensor in stored.items()}
    if found != wanted:
        odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise ValueError(f"another network's: {odd[0]}")
