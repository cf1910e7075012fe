"""The one training loop: resident images, batched augmentation, schedule, checkpoints with exact resume.

Every epoch draws its order, its crops and any dropout from seeds made of the run's seed and the epoch's number. So a
resumed run needs no generator states: the weights, the momentum buffers and the number of finished epochs are enough,
and interrupted equals uninterrupted, bit for bit on a CPU.
"""

from __future__ import annotations

import json
import math
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

from reidlib import losses
from reidlib.data.augment import crop_and_mirror
from reidlib.data.sampling import epoch_batches
from reidlib.models.backbone import Backbone, imagenet_file
from reidlib.spec import ReidError, Settings

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"


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
        return sum(epoch["images"] for epoch in self.curve) / self.seconds


def build(settings: Settings, identities: int, seed: int) -> tuple[nn.Module, str]:
    """The network before training, and where it starts: "scratch" or "imagenet".

    The weights drawn depend on the seed alone, not on what was drawn before.
    """
    recipe = settings.recipe.resolved()
    torch.manual_seed(seed)
    model = settings.model(identities, size=tuple(recipe["size"]), **settings.bare_options())
    start = "scratch"
    if recipe["start"] == "imagenet":
        for backbone in (module for module in model.modules() if isinstance(module, Backbone)):
            file = imagenet_file(backbone.depth)
            if file is not None:
                backbone.load_imagenet(file)
                start = "imagenet"
    return model, start


def train(
    settings: Settings,
    data: TrainingImages,
    *,
    seed: int,
    folder: Path,
    log: Callable[[str], None] = print,
    checkpoint_every: float = 60.0,
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> Trained:
    """Trains to the end, going on from the checkpoint in `folder` if there is one, and leaves the weights there.

    Where they lie there already, nothing is trained: rows that differ only in what is tested share one network.

    checkpoint_every: seconds between checkpoints (written only between epochs). after_epoch: called with the number of
    finished epochs, after the checkpoint. Raises ReidError when a loss stops being finite, or when a batch is larger
    than the training set.
    """
    recipe = settings.recipe.resolved()
    device = data.images.device
    count, batch = len(data.files), recipe["batch"]
    if batch > count:
        raise ReidError(f"batch of {batch} is larger than the training set of {count} images; use a smaller batch")
    model, start = build(settings, data.identities, seed)
    model = model.to(device, memory_format=torch.channels_last)
    folder.mkdir(parents=True, exist_ok=True)
    if (done := _finished(folder / WEIGHTS, model)) is not None:
        log(f"trained already: {folder / WEIGHTS}")
        return Trained(model.eval(), start, done)
    optimiser = torch.optim.SGD(
        parameter_groups(model, recipe["rates"]),
        momentum=recipe["momentum"],
        nesterov=recipe["nesterov"],
        weight_decay=recipe["weight_decay"],
    )
    trained = Trained(model, start)
    trained.curve = load_checkpoint(folder / CHECKPOINT, model, optimiser)
    if trained.curve:
        log(f"resuming after epoch {len(trained.curve)} of {recipe['epochs']} from {folder / CHECKPOINT}")
    saved = time.monotonic()
    for epoch in range(len(trained.curve), recipe["epochs"]):
        trained.curve.append(_epoch(settings, model, optimiser, data, seed=seed, epoch=epoch))
        log(_line(trained.curve, recipe["epochs"]))
        last = epoch + 1 == recipe["epochs"]
        if last or time.monotonic() - saved >= checkpoint_every:
            save_checkpoint(folder / CHECKPOINT, model, optimiser, trained.curve)
            saved = time.monotonic()
        after_epoch(epoch + 1)
    model.eval()
    write_tensors(folder / WEIGHTS, model.state_dict(), {"curve": json.dumps(trained.curve)})
    return trained


def _finished(file: Path, model: nn.Module) -> list[dict] | None:
    """Puts the weights of a finished training in place and returns its curve; None where there are none to be read."""
    try:
        with safetensors.safe_open(file, framework="pt") as stored:
            curve = json.loads(stored.metadata()["curve"])
        model.load_state_dict(safetensors.torch.load_file(file))
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
        return None
    return curve


def parameter_groups(model: nn.Module, rates: dict[str, float]) -> list[dict[str, Any]]:
    """One optimiser group a named submodule, and one for the rest. A name the model lacks is a ReidError."""
    children = dict(model.named_children())
    unknown = set(rates) - set(children) - {"rest"}
    if unknown:
        raise ReidError(f"rate for {sorted(unknown)}: {type(model).__name__} has the submodules {', '.join(children)}")
    named = {name: list(children[name].parameters()) for name in rates if name != "rest"}
    taken = {id(weight) for weights in named.values() for weight in weights}
    named["rest"] = [weight for weight in model.parameters() if id(weight) not in taken]
    return [{"params": weights, "lr": rates[name], "initial_rate": rates[name]} for name, weights in named.items()]


def rate_factor(recipe: dict[str, Any], step: int, steps_per_epoch: int) -> float:
    """What the base rates are multiplied by at this step (0-based): a pure function, so nothing needs to be saved."""
    total = recipe["epochs"] * steps_per_epoch
    warm = recipe["warmup"] * total
    ramp = min(1.0, (step + 1) / warm) if warm else 1.0
    if recipe["schedule"] == "cosine":
        return ramp * 0.5 * (1 + math.cos(math.pi * max(0.0, step - warm) / max(1.0, total - warm)))
    if recipe["schedule"] == "step":
        passed = sum(step // steps_per_epoch >= milestone for milestone in recipe["milestones"])
        return ramp * recipe["decay"] ** passed
    return ramp


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed for each epoch of each run; distinct for all seeds and epochs below a million."""
    return seed * 1_000_003 + epoch + 1


def _epoch(settings, model, optimiser, data: TrainingImages, *, seed: int, epoch: int) -> dict[str, float]:
    """One pass over the training images; returns one point of the curve."""
    recipe = settings.recipe.resolved()
    torch.manual_seed(epoch_seed(seed, epoch))  # dropout and whatever else a model draws
    generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
    batches = epoch_batches(len(data.files), recipe["batch"], generator)
    model.train()
    started = time.perf_counter()
    sums: dict[str, Tensor] = {}
    correct = torch.zeros((), dtype=torch.long, device=data.images.device)
    unchecked: tuple[dict[str, Tensor], Tensor, int] | None = None
    for number, chosen in enumerate(batches):
        factor = rate_factor(recipe, epoch * len(batches) + number, len(batches))
        for group in optimiser.param_groups:
            group["lr"] = group["initial_rate"] * factor
        images = crop_and_mirror(
            data.images[chosen.to(data.images.device)],
            scale=tuple(recipe["crop_scale"]),
            stretch=tuple(recipe["stretch"]),
            mirror=recipe["mirror"],
            size=tuple(recipe["size"]),
            generator=generator,
        )
        labels = data.labels[chosen.to(data.labels.device)]
        terms, hits = step(settings, model, optimiser, images, labels)
        # Checked one step late: on a GPU the look at a loss then never waits for the step in flight.
        if unchecked is not None:
            _demand_finite(*unchecked, epoch=epoch, files=data.files)
        unchecked = (terms, chosen, number)
        correct += hits
        for name, value in terms.items():
            sums[name] = sums.get(name, 0) + value
    if unchecked is not None:
        _demand_finite(*unchecked, epoch=epoch, files=data.files)
    seen = len(batches) * recipe["batch"]
    means = {name: float(total) / len(batches) for name, total in sums.items()}
    return {
        "epoch": epoch + 1,
        **means,
        "loss": sum(means.values()),
        "accuracy": 100 * int(correct) / seen,
        "rate": max(group["lr"] for group in optimiser.param_groups),
        "images": seen,
        "seconds": time.perf_counter() - started,
    }


def step(settings: Settings, model, optimiser, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """One step of the optimiser. images: B × 3 × H × W, float. Returns the loss terms and the number of hits."""
    bf16 = settings.recipe.resolved()["precision"] == "bf16"
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
        output = model(images.contiguous(memory_format=torch.channels_last))
    terms = losses.terms(settings.losses, output, labels)
    optimiser.zero_grad(set_to_none=True)
    torch.stack(list(terms.values())).sum().backward()
    optimiser.step()
    hits = (output.logits[0].detach().argmax(1) == labels).sum()
    return {name: value.detach() for name, value in terms.items()}, hits


def _demand_finite(terms: dict[str, Tensor], chosen: Tensor, number: int, *, epoch: int, files: Sequence[str]) -> None:
    for name, value in terms.items():
        if not torch.isfinite(value):
            shown = ", ".join(files[i] for i in chosen[:4].tolist())
            raise ReidError(
                f"loss {name!r} is {float(value)} in epoch {epoch + 1}, batch {number + 1} "
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


def write_tensors(file: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes a safetensors file under another name and moves it into place: readers see all of it or none of it."""
    partial = file.with_suffix(".partial")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        safetensors.torch.save_file(plain, partial, metadata=metadata)
        partial.replace(file)
    except (OSError, safetensors.SafetensorError) as fault:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ReidError(f"{file}: cannot be written ({fault}); free some space or set REID_CACHE elsewhere") from fault


def save_checkpoint(file: Path, model: nn.Module, optimiser: torch.optim.Optimizer, curve: list[dict]) -> None:
    """Weights, momentum buffers and the curve (whose length is the number of finished epochs), in one file."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        if state.get("momentum_buffer") is not None:
            tensors[f"momentum.{index}"] = state["momentum_buffer"]
    write_tensors(file, tensors, {"curve": json.dumps(curve)})


def load_checkpoint(file: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> list[dict]:
    """Puts a checkpoint back in place and returns its curve; [] where there is none.

    One that cannot be read is set aside and raised as a ReidError: the next start of the run begins anew.
    """
    if not file.exists():
        return []
    try:
        with safetensors.safe_open(file, framework="pt") as stored:
            curve = json.loads(stored.metadata()["curve"])
        tensors = safetensors.torch.load_file(file)
        weights = {name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")}
        model.load_state_dict(weights)
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as fault:
        aside = file.with_suffix(".corrupt")
        file.replace(aside)
        raise ReidError(
            f"{file}: cut short or foreign ({fault}); moved to {aside.name}: start the run again"
        ) from fault
    state = optimiser.state_dict()
    device = next(model.parameters()).device
    state["state"] = {
        int(name[9:]): {"momentum_buffer": tensor.to(device)}
        for name, tensor in tensors.items()
        if name.startswith("momentum.")
    }
    optimiser.load_state_dict(state)
    return curve


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of this process in MiB: of the GPU where one is used, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
