"""How new layers are initialised: as in the released code of MSGWDP and HAMR (but for a classifier's bias)."""

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


def initialise_classifiers(module: nn.Module, std: float = 0.001) -> None:
    """All linear layers of `module`: weights normal (0, std), so that the first softmax is flat; a bias, if any, 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
