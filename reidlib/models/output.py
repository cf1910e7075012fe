"""The contract between a network, the losses and the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Output:
    """What every network of the study returns, in training and in evaluation alike."""

    embedding: Tensor  #: B × D, the test descriptor before L2 normalisation (the protocol normalises)
    logits: list[Tensor]  #: B × K for each identity classifier; the accuracy that is logged is that of the first
    features: list[Tensor]  #: B × F for each vector that a metric loss may look at
    maps: dict[str, Tensor]  #: feature maps by the paper's names, for heat maps
    shares: Sequence[float] = ()  #: weight of each classifier in the identity loss; () means 1 each
    reference: Tensor | None = None  #: B × K logits of a frozen network, for the ranking loss (FMN's GRN)
