"""The contract between a network, the losses and the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Output:
    """What every network of the study returns, in training and in evaluation alike.

    embedding: B × D, the test descriptor before L2 normalisation (the protocol normalises).
    logits:    one B × K tensor for each identity classifier, for the identity losses; the accuracy that is logged
               during training is that of the first.
    features:  one B × F tensor for each vector that a metric loss may look at.
    maps:      feature maps by the paper's names, for heat maps; empty unless the model has something to show.
    shares:    weight of each classifier in the identity loss, in the order of `logits`; () means 1 each.
    reference: B × K logits of a frozen network, for the ranking loss (FMN's GRN); None where there is none.
    """

    embedding: Tensor
    logits: list[Tensor]
    features: list[Tensor]
    maps: dict[str, Tensor]
    shares: Sequence[float] = ()
    reference: Tensor | None = None
