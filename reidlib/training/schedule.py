"""The schedule: learning rates by step and by submodule, and the seed of each epoch. Nothing here keeps a state."""

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from reidlib.spec import Recipe, ReidError


def rate_factor(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The factor on the base rates at this step (from 0), a pure function of the step."""
    epoch = step // steps_per_epoch
    if epoch < recipe.warmup_epochs:
        low, high = recipe.warmup_from, recipe.warmup_to
        return low + (high - low) * (epoch + 1) / recipe.warmup_epochs
    total = recipe.epochs * steps_per_epoch
    warm = recipe.warmup * total
    ramp = min(1.0, (step + 1) / warm) if warm else 1.0
    if recipe.schedule == "cosine":
        return ramp * 0.5 * (1 + math.cos(math.pi * max(0.0, step - warm) / max(1.0, total - warm)))
    if recipe.schedule == "step":
        return ramp * recipe.decay ** sum(epoch >= milestone for milestone in recipe.milestones)
    return ramp


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch (from 0) of a run; distinct for all seeds and epochs below a million."""
    return seed * 1_000_003 + epoch + 1


def parameter_groups(model: nn.Module, rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """One optimiser group for each name in `rates`, without frozen weights.

    rates: learning rate by submodule ("backbone") or by a pattern of the names of weights ("*.bn1.weight"); the first
    name that fits a weight has it, and "rest" holds all others. A name that the model lacks is a ReidError."""
    children, left = dict(model.named_children()), dict(model.named_parameters())
    named = {}
    for name in (*(name for name in rates if name != "rest"), "rest"):
        pattern = {"rest": "*"}.get(name, name if "*" in name else f"{name}.*")
        chosen = [weight for weight in left if fnmatchcase(weight, pattern)]
        if not chosen and name not in ("rest", *children):
            raise ReidError(f"rate for {name!r}: {type(model).__name__} has the submodules {', '.join(children)}")
        named[name] = [weight for weight in map(left.pop, chosen) if weight.requires_grad]
    return [
        {"params": weights, "lr": rates[name], "initial_rate": rates[name]}
        for name, weights in named.items()
        if weights
    ]
