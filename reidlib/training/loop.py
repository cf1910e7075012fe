"""The one training loop: resident images, batched augmentation, schedule, checkpoints with exact resume.

Every epoch draws its order, its crops and any dropout from seeds made of the run's seed and the epoch's number. So a
resumed run needs no generator states: the weights, the momentum buffers and the number of finished epochs are enough,
and interrupted equals uninterrupted, bit for bit on a CPU.
"""

from __future__ import annotations

import json
import math
import os
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from reidlib.data.augment import crop_and_mirror, erase, pad_and_crop
from reidlib.data.images import sent
from reidlib.data.sampling import epoch_batches, identity_batches
from reidlib.losses import Criterion
from reidlib.models.backbone import imagenet_file
from reidlib.runs.records import settle
from reidlib.spec import ReidError, Settings
from reidlib.training import precision

CHECKPOINT = "checkpoint.safetensors"
PREVIOUS = "checkpoint.previous.safetensors"
"""The one before it, for the case that the newest cannot be read."""
WEIGHTS = "weights.safetensors"
FORMAT = "2"
"""Of a checkpoint: one of another format is set aside."""


@dataclass(frozen=True)
class TrainingImages:
    """The training set as it lies on the device.

    images: N × 3 × H × W, uint8, already at the recipe's input size. labels: N, 0..K−1. files: N names, for messages.
    """

    images: Tensor
    labels: Tensor
    files: Sequence[str]

    @property
    def identities(self) -> int:
        return int(self.labels.max()) + 1


@dataclass
class Trained:
    """A finished training: the network (in evaluation mode) and what the record keeps of it."""

    model: nn.Module
    start: str
    curve: list[dict[str, float]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Wall time of all epochs, whichever process ran them."""
        return sum(epoch["seconds"] for epoch in self.curve)

    @property
    def images_per_second(self) -> float:
        """0 where nothing was trained."""
        return sum(epoch["images"] for epoch in self.curve) / self.seconds if self.curve else 0.0


def build(settings: Settings, identities: int, seed: int, first: nn.Module | None = None) -> tuple[nn.Module, str]:
    """The network before training, and where it starts: "scratch" or "imagenet".

    first: the network trained before it, where the settings ask for one; its weights are taken over and frozen. The
    weights drawn depend on the seed alone, not on what was drawn before.
    """
    recipe = settings.recipe.resolved()
    torch.manual_seed(seed)
    model = settings.model(identities, size=tuple(recipe["size"]), **settings.bare_options())
    start = "scratch"
    if recipe["start"] == "imagenet":
        for part in (module for module in model.modules() if hasattr(module, "load_imagenet")):
            file = imagenet_file(part.depth)
            if file is not None:
                part.load_imagenet(file)
                start = "imagenet"
    if settings.first is not None:
        if first is None:
            raise ValueError(
                f"{settings.model.__name__} goes on from a trained {settings.first.into}: give it as first"
            )
        frozen = model.get_submodule(settings.first.into)
        frozen.load_state_dict(first.state_dict())
        frozen.requires_grad_(False)
    return model, start


def train(
    settings: Settings,
    data: TrainingImages,
    *,
    seed: int,
    folder: Path,
    first: nn.Module | None = None,
    log: Callable[[str], None] = print,
    checkpoint_every: float = 60.0,
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> Trained:
    """Trains to the end, going on from the checkpoint in `folder` if there is one, and leaves the weights there.

    Where they lie there already, nothing is trained: rows that differ only in what is tested share one network. Zero
    epochs leave the network as it was drawn.

    first: the network that `settings.first` asks for, trained before. checkpoint_every: seconds between checkpoints
    (written only between epochs). after_epoch: called with the number of finished epochs, after the checkpoint. Raises
    ReidError when a loss stops being finite, or when a batch is larger than the training set.
    """
    recipe = settings.recipe.resolved()
    device = data.images.device
    count, batch = len(data.files), recipe["batch"]
    if batch > count:
        raise ReidError(f"batch of {batch} is larger than the training set of {count} images; use a smaller batch")
    model, start = build(settings, data.identities, seed, first)
    model = model.to(device, memory_format=torch.channels_last)
    if not recipe["epochs"]:
        return Trained(model.eval(), start)
    folder.mkdir(parents=True, exist_ok=True)
    if (done := finished(folder / WEIGHTS, model)) is not None:
        log(f"trained already: {folder / WEIGHTS}")
        return Trained(model.eval(), start, done)
    loop = Loop.of(settings, model, data.identities)
    trained = Trained(model, start)
    trained.curve = resume(folder, loop, log)
    saved = time.monotonic()
    for epoch in range(len(trained.curve), recipe["epochs"]):
        trained.curve.append(_epoch(loop, data, seed=seed, epoch=epoch))
        log(_line(trained.curve, recipe["epochs"]))
        last = epoch + 1 == recipe["epochs"]
        if last or time.monotonic() - saved >= checkpoint_every:
            save_checkpoint(folder / CHECKPOINT, loop, trained.curve)
            saved = time.monotonic()
        after_epoch(epoch + 1)
    model.eval()
    write_tensors(folder / WEIGHTS, model.state_dict(), {"curve": json.dumps(trained.curve)})
    return trained


@dataclass
class Loop:
    """What one training keeps in hand: all of its state is in the network, the criterion and the optimiser.

    own: the optimiser of the losses' own parameters (centres); its rates never change and it keeps no state.
    """

    settings: Settings
    recipe: dict[str, Any]
    model: nn.Module
    criterion: Criterion
    optimiser: torch.optim.Optimizer
    own: torch.optim.Optimizer | None

    @classmethod
    def of(cls, settings: Settings, model: nn.Module, identities: int) -> Loop:
        """The loop of a network that lies on its device."""
        recipe = settings.recipe.resolved()
        device = next(model.parameters()).device
        criterion = Criterion(settings.losses, identities, _widths(settings, model, tuple(recipe["size"]), device))
        criterion = criterion.to(device)
        groups = parameter_groups(model, recipe["rates"])
        if recipe["optimiser"] == "adam":
            optimiser = torch.optim.Adam(groups, weight_decay=recipe["weight_decay"])
        else:
            optimiser = torch.optim.SGD(
                groups,
                momentum=recipe["momentum"],
                nesterov=recipe["nesterov"],
                weight_decay=recipe["weight_decay"],
            )
        own = torch.optim.SGD(criterion.own_groups()) if criterion.own_groups() else None
        return cls(settings, recipe, model, criterion, optimiser, own)

    def train_mode(self) -> None:
        """Training mode, but for what was trained before: its BatchNorm keeps its statistics."""
        self.model.train()
        if self.settings.first is not None:
            self.model.get_submodule(self.settings.first.into).eval()

    def step(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """One step of the optimiser. images: B × 3 × H × W, float. Returns the loss terms and the number of hits."""
        with precision.products(self.recipe):
            return self._step(images, labels)

    def _step(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        bf16 = precision.in_bf16(self.recipe, images.device)
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
            output = self.model(images.contiguous(memory_format=torch.channels_last))
        terms = self.criterion(output, labels)
        self.optimiser.zero_grad(set_to_none=True)
        if self.own:
            self.own.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        self.optimiser.step()
        if self.own:
            self.own.step()
        hits = (output.logits[0].detach().argmax(1) == labels).sum()
        return {name: value.detach() for name, value in terms.items()}, hits


def _widths(settings: Settings, model: nn.Module, size: tuple[int, int], device: torch.device) -> list[int]:
    """Lengths of the vectors that metric losses look at; looked up only where a loss has parameters of their size."""
    if not any(isinstance(loss.function, type) for loss in settings.losses.values()):
        return []
    with torch.inference_mode():
        return [vectors.shape[1] for vectors in model.eval()(torch.zeros(1, 3, *size, device=device)).features]


def finished(file: Path, model: nn.Module) -> list[dict] | None:
    """Puts the weights of a finished training in place and returns its curve; None where there are none to be read."""
    try:
        with safetensors.safe_open(file, framework="pt") as stored:
            curve = json.loads(stored.metadata()["curve"])
        weights = safetensors.torch.load_file(file)
        _demand_same(weights, model)
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError):
        return None
    model.load_state_dict(weights)
    return curve


def parameter_groups(model: nn.Module, rates: dict[str, float]) -> list[dict[str, Any]]:
    """One optimiser group a named submodule, and one for the rest, frozen weights left out.

    A name the model lacks is a ReidError.
    """
    children = dict(model.named_children())
    unknown = set(rates) - set(children) - {"rest"}
    if unknown:
        raise ReidError(f"rate for {sorted(unknown)}: {type(model).__name__} has the submodules {', '.join(children)}")
    named = {name: list(children[name].parameters()) for name in rates if name != "rest"}
    taken = {id(weight) for weights in named.values() for weight in weights}
    named["rest"] = [weight for weight in model.parameters() if id(weight) not in taken]
    learnt = {name: [weight for weight in weights if weight.requires_grad] for name, weights in named.items()}
    return [
        {"params": weights, "lr": rates[name], "initial_rate": rates[name]}
        for name, weights in learnt.items()
        if weights
    ]


def rate_factor(recipe: dict[str, Any], step: int, steps_per_epoch: int) -> float:
    """What the base rates are multiplied by at this step (0-based): a pure function, so nothing needs to be saved."""
    epoch = step // steps_per_epoch
    if epoch < recipe["warmup_epochs"]:
        low, high = recipe["warmup_from"], recipe["warmup_to"]
        return low + (high - low) * (epoch + 1) / recipe["warmup_epochs"]
    total = recipe["epochs"] * steps_per_epoch
    warm = recipe["warmup"] * total
    ramp = min(1.0, (step + 1) / warm) if warm else 1.0
    if recipe["schedule"] == "cosine":
        return ramp * 0.5 * (1 + math.cos(math.pi * max(0.0, step - warm) / max(1.0, total - warm)))
    if recipe["schedule"] == "step":
        passed = sum(epoch >= milestone for milestone in recipe["milestones"])
        return ramp * recipe["decay"] ** passed
    return ramp


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed for each epoch of each run; distinct for all seeds and epochs below a million."""
    return seed * 1_000_003 + epoch + 1


def _epoch(loop: Loop, data: TrainingImages, *, seed: int, epoch: int) -> dict[str, float]:
    """One pass over the training images; returns one point of the curve."""
    recipe = loop.recipe
    started = time.perf_counter()
    torch.manual_seed(epoch_seed(seed, epoch))  # dropout and whatever else a model draws
    generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
    labels = data.labels.cpu()
    if recipe["per_identity"]:
        batches = identity_batches(labels, recipe["batch"], recipe["per_identity"], generator)
    else:
        batches = epoch_batches(len(data.files), recipe["batch"], generator)
    if recipe["fresh_momentum"]:
        loop.optimiser.state.clear()
    loop.train_mode()
    shown = [labels[chosen] for chosen in batches]
    for batch in shown:
        loop.criterion.demand(batch)  # here, where they can be looked at: in the step a GPU would be waited for
    order = [sent(chosen, data.images.device) for chosen in batches]
    named = [sent(batch, data.images.device) for batch in shown]
    history: list[Tensor] = []  # read once, at the end: a look at a loss would make a GPU wait for the step in flight
    for number, chosen in enumerate(order):
        factor = rate_factor(recipe, epoch * len(batches) + number, len(batches))
        for group in loop.optimiser.param_groups:
            group["lr"] = group["initial_rate"] * factor
        terms, hits = loop.step(_augmented(data.images[chosen], recipe, generator), named[number])
        history.append(torch.stack([value.float() for value in (*terms.values(), hits)]))
    values = torch.stack(history).double().cpu()
    for number, row in enumerate(values):
        _demand_finite(dict(zip(terms, row.tolist(), strict=False)), batches[number], number, epoch, data.files)
    seen = len(batches) * recipe["batch"]
    means = dict(zip(terms, values.mean(0).tolist(), strict=False))
    return {
        "epoch": epoch + 1,
        **means,
        "loss": sum(means.values()),
        "accuracy": 100 * float(values[:, -1].sum()) / seen,
        "rate": max(group["lr"] for group in loop.optimiser.param_groups),
        "images": seen,
        "seconds": time.perf_counter() - started,
    }


def _augmented(images: Tensor, recipe: dict[str, Any], generator: torch.Generator) -> Tensor:
    """B × 3 × H × W, uint8, to float, normalised. What is switched off draws nothing from the generator."""
    if recipe["pad"]:
        images = pad_and_crop(images, pad=recipe["pad"], generator=generator)
    augmented = crop_and_mirror(
        images,
        scale=tuple(recipe["crop_scale"]),
        stretch=tuple(recipe["stretch"]),
        mirror=recipe["mirror"],
        size=tuple(recipe["size"]),
        generator=generator,
    )
    if not recipe["erasing"]:
        return augmented
    area, ratio = tuple(recipe["erasing_area"]), tuple(recipe["erasing_ratio"])
    return erase(augmented, probability=recipe["erasing"], area=area, ratio=ratio, generator=generator)


def _demand_finite(terms: dict[str, float], chosen: Tensor, number: int, epoch: int, files: Sequence[str]) -> None:
    for name, value in terms.items():
        if not math.isfinite(value):
            shown = ", ".join(files[i] for i in chosen[:4].tolist())
            raise ReidError(
                f"loss {name!r} is {value} in epoch {epoch + 1}, batch {number + 1} "
                f"({len(chosen)} images: {shown}, …); lower the rate or look at these files"
            )


def _line(curve: list[dict[str, float]], epochs: int) -> str:
    """The one log line of an epoch."""
    point = curve[-1]
    left = (epochs - len(curve)) * sum(p["seconds"] for p in curve) / len(curve)
    speed = point["images"] / point["seconds"]
    return (
        f"epoch {len(curve)}/{epochs}  loss {point['loss']:.3f}  accuracy {point['accuracy']:.1f} %  "
        f"rate {point['rate']:.4f}  {speed:.0f} images/s  {point['seconds']:.0f} s  ETA {left:.0f} s"
    )


def write_tensors(
    file: Path, tensors: dict[str, Tensor], metadata: dict[str, str], previous: Path | None = None
) -> None:
    """Writes a safetensors file under another name and moves it into place: readers see all of it or none of it.

    previous: where the file that was there before goes. A process that dies between the two moves leaves that one.
    """
    partial = file.with_suffix(".partial")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        safetensors.torch.save_file(plain, partial, metadata=metadata)
        with partial.open("rb+") as stream:
            settle(stream)
        if previous is not None and file.exists():
            file.replace(previous)
        partial.replace(file)
    except (OSError, safetensors.SafetensorError) as fault:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ReidError(f"{file}: cannot be written ({fault}); free some space or set REID_CACHE elsewhere") from fault


def save_checkpoint(file: Path, loop: Loop, curve: list[dict]) -> None:
    """Weights, state of the optimiser and the curve (whose length is the number of finished epochs), in one file."""
    tensors = {f"model.{name}": tensor for name, tensor in loop.model.state_dict().items()}
    tensors |= {f"criterion.{name}": tensor for name, tensor in loop.criterion.state_dict().items()}
    for index, state in loop.optimiser.state_dict()["state"].items():
        kept = {name: value for name, value in state.items() if value is not None}
        tensors |= {f"optimiser.{index}.{name}": value for name, value in kept.items()}
    write_tensors(file, tensors, {"curve": json.dumps(curve), "format": FORMAT}, file.with_name(PREVIOUS))


def resume(folder: Path, loop: Loop, log: Callable[[str], None] = print) -> list[dict]:
    """Puts the newest checkpoint that can be read back in place and returns its curve; [] where there is none.

    One that cannot be read is set aside under the ending .corrupt and named in the log; the loop is as it was.
    """
    for file in (folder / CHECKPOINT, folder / PREVIOUS):
        if not file.exists():
            continue
        try:
            curve = load_checkpoint(file, loop)
        except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as fault:
            aside = file.with_suffix(".corrupt")
            file.replace(aside)
            log(f"{file}: cut short or foreign ({fault}); set aside as {aside.name}")
        else:
            log(f"resuming after epoch {len(curve)} of {loop.recipe['epochs']} from {file}")
            return curve
    return []


def load_checkpoint(file: Path, loop: Loop) -> list[dict]:
    """Puts a checkpoint back in place and returns its curve. All of it is checked before anything is touched."""
    with safetensors.safe_open(file, framework="pt") as stored:
        metadata = stored.metadata()
    curve = json.loads(metadata["curve"])
    if metadata["format"] != FORMAT:
        raise ValueError(f"format {metadata['format']}, not {FORMAT}")
    tensors = safetensors.torch.load_file(file)
    parts = {name: _under(f"{name}.", tensors) for name in ("model", "criterion", "optimiser")}
    _demand_same(parts["model"], loop.model)
    _demand_same(parts["criterion"], loop.criterion)
    loop.model.load_state_dict(parts["model"])
    loop.criterion.load_state_dict(parts["criterion"])
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimiser"].items():
        index, _, entry = name.partition(".")
        state.setdefault(int(index), {})[entry] = tensor
    loop.optimiser.load_state_dict({**loop.optimiser.state_dict(), "state": state})  # moves each to its weight's device
    return curve


def _demand_same(stored: dict[str, Tensor], module: nn.Module) -> None:
    """Names and shapes as the module has them; else a ValueError. (Torch would fill a module half before it fails.)"""
    wanted = {name: tensor.shape for name, tensor in module.state_dict().items()}
    found = {name: tensor.shape for name, tensor in stored.items()}
    if found != wanted:
        odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise ValueError(f"another network's: {odd[0]}")


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def deterministic() -> None:
    """From now on the same bits on every run of one machine, a GPU's too; an operation that cannot is an error.

    On a processor the loop gives them without it. cuBLAS reads its variable when CUDA is first used.
    """
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)


def batch_that_fits(settings: Settings, identities: int, device: torch.device, first: nn.Module | None = None) -> int:
    """The largest half, quarter, … of the recipe's batch of which a step fits on the device now; 0 where none does."""
    recipe = settings.recipe.resolved()
    same = recipe["per_identity"] or 1
    least = 2 * same  # one identity alone makes no triplets, one image no batch statistics
    batch = recipe["batch"]
    while batch > least:
        batch = max(least, batch // 2 // same * same)
        try:
            _one_step(settings, identities, device, first, batch)
            return batch
        except torch.OutOfMemoryError:
            pass
        if device.type == "cuda":  # outside the except clause, where the fault still holds what was allocated
            torch.cuda.empty_cache()
    return 0


def _one_step(settings: Settings, identities: int, device: torch.device, first: nn.Module | None, batch: int) -> None:
    """One step on a grey batch, in which each identity has as many images as the recipe asks for."""
    model, _ = build(settings, identities, 0, first)
    loop = Loop.of(settings, model.to(device, memory_format=torch.channels_last), identities)
    loop.train_mode()
    labels = torch.arange(batch) // (loop.recipe["per_identity"] or 1) % identities
    loop.criterion.demand(labels)
    loop.step(torch.zeros(batch, 3, *loop.recipe["size"], device=device), sent(labels, device))


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of this process in MiB: of the GPU where one is used, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
