"""One step of a training: the network with its losses and optimisers, and the augmentation of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reidlib.data.augment import crop_and_flip, erase, pad_and_crop
from reidlib.data.images import sent
from reidlib.losses import Criterion
from reidlib.models.backbone import start_of
from reidlib.spec import Recipe, Settings
from reidlib.training import precision
from reidlib.training.schedule import parameter_groups


def build(settings: Settings, identities: int, seed: int, first: nn.Module | None = None) -> tuple[nn.Module, str]:
    """The network before training, drawn from the seed alone, and where it starts: "imagenet", "start" or "scratch".

    first: the network trained before it, where the settings ask for one; its weights are copied and frozen."""
    recipe = settings.recipe
    torch.manual_seed(seed)
    model = settings.model(identities, size=recipe.size, **settings.options)
    start = "scratch"
    for part in (module for module in model.modules() if hasattr(module, "load_weights")):
        found = start_of(recipe.start, part.depth)
        found.check()
        if found.file is not None:
            part.load_weights(found.file)
            start = found.kind
    if settings.first is not None:
        if first is None:
            what = f"{settings.model.__name__} continues from a trained {settings.first.into}"
            raise ValueError(f"{what}: give it as first")
        frozen = model.get_submodule(settings.first.into)
        frozen.load_state_dict(first.state_dict())
        frozen.requires_grad_(False)
    return model, start


@dataclass
class Loop:
    """The state of one training: all of it is in the network, the criterion and the optimiser."""

    settings: Settings
    model: nn.Module
    criterion: Criterion
    optimiser: torch.optim.Optimizer
    own: torch.optim.Optimizer | None  #: of the losses' own parameters (centres), without a state or a schedule

    @property
    def recipe(self) -> Recipe:
        return self.settings.recipe

    @classmethod
    def of(cls, settings: Settings, model: nn.Module, identities: int) -> Loop:
        """The loop of a network that is on its device already."""
        recipe = settings.recipe
        device = next(model.parameters()).device
        criterion = Criterion(settings.losses, identities, _widths(settings, model, device)).to(device)
        groups = parameter_groups(model, recipe.rates)
        decay = recipe.weight_decay
        if recipe.optimiser == "adam":
            optimiser = torch.optim.Adam(groups, weight_decay=decay)
        else:
            optimiser = torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=recipe.nesterov, weight_decay=decay)
        own = torch.optim.SGD(criterion.own_groups()) if criterion.own_groups() else None
        return cls(settings, model, criterion, optimiser, own)

    def train_mode(self) -> None:
        """Training mode, except for a part that was trained before: its BatchNorm keeps its statistics."""
        self.model.train()
        if self.settings.first is not None:
            self.model.get_submodule(self.settings.first.into).eval()

    def set_rates(self, factor: float) -> None:
        """Learning rates of the next steps: this factor times the base rates."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_rate"] * factor

    def forget(self) -> None:
        """From now on the optimiser is as before its first step."""
        self.optimiser.state.clear()

    def step(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """One step of the optimiser. images: B × 3 × H × W, float. Returns the loss terms and the number of hits."""
        bf16 = precision.in_bf16(self.recipe, images.device)
        with precision.products(self.recipe):
            with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
                output = self.model(images.contiguous(memory_format=torch.channels_last))
            terms = self.criterion(output, labels)
            for optimiser in filter(None, (self.optimiser, self.own)):
                optimiser.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            self.update()
            hits = (output.logits[0].detach().argmax(1) == labels).sum()
        return {name: value.detach() for name, value in terms.items()}, hits

    def update(self) -> None:
        """Moves the weights by their gradients."""
        for optimiser in filter(None, (self.optimiser, self.own)):
            optimiser.step()


def on_device(model: nn.Module, device: torch.device) -> nn.Module:
    """The network on this device, in the memory layout of a step."""
    return model.to(device).to(memory_format=torch.channels_last)


def augmented(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """B × 3 × H × W, uint8, to float, normalised. What is switched off draws nothing from the generator."""
    if recipe.pad:
        images = pad_and_crop(images, pad=recipe.pad, generator=generator)
    scale, ratio, size = recipe.crop_scale, recipe.aspect_ratio, recipe.size
    images = crop_and_flip(images, scale=scale, aspect_ratio=ratio, flip=recipe.flip, size=size, generator=generator)
    if recipe.erasing:
        area, ratio = recipe.erasing_area, recipe.erasing_ratio
        images = erase(images, probability=recipe.erasing, area=area, ratio=ratio, generator=generator)
    return images


def batch_that_fits(settings: Settings, identities: int, device: torch.device, first: nn.Module | None = None) -> int:
    """The largest half, quarter, … of the recipe's batch of which a step fits on the device now; 0 where none does."""
    same = settings.recipe.per_identity or 1
    least = 2 * same  # one identity alone makes no triplets, one image no batch statistics
    batch = settings.recipe.batch
    while batch > least:
        batch = max(least, batch // 2 // same * same)
        try:
            _one_step(settings, identities, device, first, batch)
            return batch
        except torch.OutOfMemoryError:
            pass
        if device.type == "cuda":  # outside the except clause, where the exception still holds what was allocated
            torch.cuda.empty_cache()
    return 0


def _one_step(settings: Settings, identities: int, device: torch.device, first: nn.Module | None, batch: int) -> None:
    """One step on a grey batch, in which each identity has as many images as the recipe asks for."""
    model, _ = build(settings, identities, 0, first)
    loop = Loop.of(settings, on_device(model, device), identities)
    loop.train_mode()
    labels = torch.arange(batch) // (loop.recipe.per_identity or 1) % identities
    loop.criterion.check(labels)
    loop.step(torch.zeros(batch, 3, *loop.recipe.size, device=device), sent(labels, device))


def _widths(settings: Settings, model: nn.Module, device: torch.device) -> list[int]:
    """Lengths of the vectors that metric losses read; asked for only where a loss has parameters of their size."""
    if not any(isinstance(loss.function, type) for loss in settings.losses.values()):
        return []
    with torch.inference_mode():
        images = torch.zeros(1, 3, *settings.recipe.size, device=device)
        return [vectors.shape[1] for vectors in model.eval()(images).features]
