"""How the released code of MSGWDP and of HAMR draws its new layers; both files have the same two rules."""

from __future__ import annotations

import math

from torch import nn


def initialise_head(head: nn.Module) -> None:
    """Linear layers of `head`: normal, standard deviation √(2 / outputs) (Kaiming, fan out); scales of its BatchNorm
    layers: normal (1, 0.02), their shifts 0."""
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.out_features))
        elif isinstance(layer, nn.BatchNorm1d):
            nn.init.normal_(layer.weight, mean=1.0, std=0.02)
            nn.init.zeros_(layer.bias)


def initialise_classifier(classifier: nn.Linear) -> None:
    """Weights normal (0, 0.001); a bias, where there is one, 0 (the released files leave it to torch)."""
    nn.init.normal_(classifier.weight, std=0.001)
    if classifier.bias is not None:
        nn.init.zeros_(classifier.bias)
