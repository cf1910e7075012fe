"""The losses by name, and their weighted sum. Each takes (output, labels) and returns one scalar."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from reidlib.models.output import Output


def cross_entropy(output: Output, labels: Tensor) -> Tensor:
    """Softmax loss, mean over the batch, summed over the classifiers (SafeNet eq. 3, with the minus sign it lacks)."""
    return torch.stack([functional.cross_entropy(logits.float(), labels) for logits in output.logits]).sum()


LOSSES: dict[str, Callable[[Output, Tensor], Tensor]] = {"cross_entropy": cross_entropy}


def terms(weights: dict[str, float], output: Output, labels: Tensor) -> dict[str, Tensor]:
    """Each weighted loss under its own name, so that a log and a NaN report can name it. labels: B, 0..K−1."""
    return {name: weight * LOSSES[name](output, labels) for name, weight in weights.items()}
