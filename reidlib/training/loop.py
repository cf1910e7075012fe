"""The training loop. Every epoch draws its order, its crops and any dropout from seeds made of the run's seed and the
epoch's number. So an interrupted run equals another, bit for bit on a CPU with the same number of threads."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from reidlib.data.images import sent
from reidlib.data.sampling import epoch_batches, identity_batches
from reidlib.spec import ReidError, Settings
from reidlib.training import checkpoint, graph
from reidlib.training.checkpoint import CHECKPOINT, WEIGHTS, Curve
from reidlib.training.schedule import epoch_seed, rate_factor
from reidlib.training.step import Loop, augmented, build, on_device

LINE = (  # of an epoch, in the log
    "epoch {epoch}/{epochs}  loss {loss:.3f}  accuracy {accuracy:.1f} %  rate {rate:.4f}  "
    "{images_per_second:.0f} images/s  {seconds:.0f} s  ETA {eta:.0f} s"
)


@dataclass(frozen=True)
class TrainingImages:
    """The training set on its device."""

    images: Tensor  #: N × 3 × H × W, uint8, already at the recipe's input size
    labels: Tensor  #: N, 0..K−1
    files: Sequence[str]  #: N names, for messages

    @property
    def identities(self) -> int:
        return int(self.labels.max()) + 1


@dataclass
class Trained:
    """A finished training: the network (in evaluation mode) and what the record keeps of it."""

    model: nn.Module
    start: str
    curve: Curve = field(default_factory=list)
    step: str = ""  #: how its steps ran: "eager" or "cuda graph"; "" where nothing was trained
    why: str = ""  #: why eagerly on a GPU, a sentence

    @property
    def seconds(self) -> float:
        """Wall time of all epochs, in whatever process they ran."""
        return sum(epoch["seconds"] for epoch in self.curve)

    @property
    def images_per_second(self) -> float:
        return sum(epoch["images"] for epoch in self.curve) / self.seconds if self.curve else 0.0


def train(
    settings: Settings,
    data: TrainingImages,
    *,
    seed: int,
    folder: Path,
    first: nn.Module | None = None,
    log: Callable[[str], None] = print,
    checkpoint_every: float = 60.0,
    on_epoch: Callable[[dict[str, float]], None] = lambda point: None,
) -> Trained:
    """Trains to the end, from the checkpoint in `folder` if there is one, and leaves the weights there. If they are
    there already, nothing is trained. Zero epochs leave the network as it was drawn.

    first: the network that `settings.first` asks for, trained before. checkpoint_every: seconds between checkpoints
    (written only between epochs). on_epoch: called after each epoch and its checkpoint with the point of `run_epoch`
    and also epochs (of the whole training), images_per_second and eta (seconds left). Raises ReidError when a loss
    stops being finite, or when the training set does not fill a batch."""
    recipe, device = settings.recipe, data.images.device
    model, start = build(settings, data.identities, seed, first)
    model = on_device(model, device)
    if not recipe.epochs:
        return Trained(model.eval(), start)
    folder.mkdir(parents=True, exist_ok=True)
    if (done := checkpoint.finished(folder / WEIGHTS, model)) is not None:
        log(f"trained already: {folder / WEIGHTS}")
        return Trained(model.eval(), start, *done)
    loop = Loop.of(settings, model, data.identities)
    del model  # a graph has its own
    curve, why = checkpoint.resume(folder, loop, log), ""
    if device.type in graph.DEVICES and len(curve) < recipe.epochs:
        loop, why = graph.recorded(loop, *_some_batch(loop, data, seed))
        log(why or "the step is a CUDA graph")
    step = "cuda graph" if isinstance(loop, graph.GraphLoop) else "eager"
    saved = time.monotonic()
    for epoch in range(len(curve), recipe.epochs):
        curve.append(run_epoch(loop, data, seed=seed, epoch=epoch))
        point, left = curve[-1], recipe.epochs - len(curve)
        speed, eta = point["images"] / point["seconds"], left * sum(one["seconds"] for one in curve) / len(curve)
        point = point | {"epochs": recipe.epochs, "images_per_second": speed, "eta": eta}
        log(LINE.format(**point))
        if time.monotonic() - saved >= checkpoint_every:
            checkpoint.save_checkpoint(folder / CHECKPOINT, loop, curve)
            saved = time.monotonic()
        on_epoch(point)
    how = {"curve": json.dumps(curve), "step": step, "why": why}
    checkpoint.write_tensors(folder / WEIGHTS, loop.model.eval().state_dict(), how)
    return Trained(loop.model, start, curve, step, why)


def run_epoch(loop: Loop, data: TrainingImages, *, seed: int, epoch: int) -> dict[str, float]:
    """One pass over the training images (epoch from 0); returns one point of the curve: epoch from 1, loss and its
    terms, accuracy in percent, rate, images, seconds."""
    recipe, device = loop.recipe, data.images.device
    started = time.perf_counter()
    torch.manual_seed(epoch_seed(seed, epoch))  # dropout and whatever else a model draws
    generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
    labels = data.labels.cpu()
    batches = _batches(loop, labels, generator)
    if recipe.fresh_momentum:
        loop.forget()
    loop.train_mode()
    for chosen in batches:
        loop.criterion.check(labels[chosen])  # on the CPU: a check of the labels on a GPU would wait for its work
    order = [(sent(chosen, device), sent(labels[chosen], device)) for chosen in batches]
    names: list[str] = []
    history: list[Tensor] = []  # read once, at the end: to read a loss at once would make a GPU wait for its step
    for number, (chosen, identities) in enumerate(order):
        factor = rate_factor(recipe, epoch * len(batches) + number, len(batches))
        loop.set_rates(factor)
        terms, hits = loop.step(augmented(data.images[chosen], recipe, generator), identities)
        names = list(terms)
        history.append(torch.stack([value.float() for value in (*terms.values(), hits)]))
    values = torch.stack(history).double().cpu()
    for number, term in (~values.isfinite()).nonzero().tolist():
        files = ", ".join(data.files[i] for i in batches[number][:4].tolist())
        what = f"loss {names[term]!r} is {values[number, term]:g} in epoch {epoch + 1}, batch {number + 1}"
        raise ReidError(f"{what} ({recipe.batch} images: {files}, …); lower the rate or look at these files")
    seen = len(batches) * recipe.batch
    means = dict(zip(names, values.mean(0).tolist(), strict=False))
    return {
        "epoch": epoch + 1,
        **means,
        "loss": sum(means.values()),
        "accuracy": 100 * float(values[:, -1].sum()) / seen,
        "rate": max(group["initial_rate"] * factor for group in loop.optimiser.param_groups),
        "images": seen,
        "seconds": time.perf_counter() - started,
    }


def _batches(loop: Loop, labels: Tensor, generator: torch.Generator) -> list[Tensor]:
    """The images of each batch of one epoch. labels: of all images, on the CPU."""
    recipe = loop.recipe
    if recipe.per_identity:
        return identity_batches(labels, recipe.batch, recipe.per_identity, generator)
    return epoch_batches(len(labels), recipe.batch, generator)


def _some_batch(loop: Loop, data: TrainingImages, seed: int) -> tuple[Tensor, Tensor]:
    """Augmented images and labels of a batch as the training has them: the first one of its first epoch."""
    generator = torch.Generator().manual_seed(epoch_seed(seed, 0))
    chosen = sent(_batches(loop, data.labels.cpu(), generator)[0], data.images.device)
    return augmented(data.images[chosen], loop.recipe, generator), data.labels[chosen]
