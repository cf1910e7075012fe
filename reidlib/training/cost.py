"""What a network costs: its weights, its multiply-adds for one image, the length of its descriptor.

All is counted on torch's meta device, where tensors have shapes and no values; a step over memory, where what it keeps
for its backward pass is measured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from reidlib.spec import Settings

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode


class Cost(NamedTuple):
    """What one network costs."""

    parameters: int  #: all weights, those of a frozen part too; running statistics are none
    classifiers: int  #: those among them that exist once for each training identity
    multiply_adds: int  #: of one image through the whole network as it is tested, classifiers included
    embedding: int  #: length D of the test descriptor


_known: dict[str, Cost] = {}


def cost(settings: Settings, identities: int) -> Cost:
    """What the network of these settings costs at the recipe's input size, for this many training identities; each is
    counted once a process."""
    key = json.dumps([settings.trained(), settings.tested(), identities])
    if key not in _known:
        network, everything, one_more = _on_meta(settings, identities)
        counted, output = multiply_adds(network, settings.recipe.size)
        _known[key] = Cost(everything, identities * one_more, counted, output.embedding.shape[1])
    return _known[key]


class StepCost(NamedTuple):
    """What one image of a training batch costs."""

    multiply_adds: int  #: of its forward pass, auxiliary branches included
    activations: int  #: bytes that a float32 forward pass keeps for the backward pass, each tensor once
    parameters: int  #: all weights
    per_identity: int  #: those of one identity's classifiers
    shares: float  #: of its classifiers in a cross-entropy, together


def step_cost(settings: Settings, identities: int) -> StepCost:
    """What a step of these settings costs at the recipe's size: counted on two images, in about a second."""
    kept: dict[int, torch.UntypedStorage] = {}  # by identity; holding them keeps the identities apart

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[id(tensor.untyped_storage())] = tensor.untyped_storage()
        return tensor.detach()  # with its history it would hold the graph, and the graph it

    network, total, per_identity = _on_meta(settings, identities)
    network = network.to_empty(device="cpu").train()
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.zero_()  # whatever lay in memory may be slow to compute with
    weights = {id(weight.untyped_storage()) for weight in network.parameters()}
    images = torch.zeros(2, 3, *settings.recipe.size)
    with _counting() as counter, torch.no_grad():  # beside a graph it would keep that alive
        output = network(images)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(images)
    activations = sum(storage.nbytes() for number, storage in kept.items() if number not in weights)
    shares = float(sum(output.shares or [1.0] * len(output.logits)))
    return StepCost(counter.get_total_flops() // 4, activations // 2, total, per_identity, round(shares, 6))


def _on_meta(settings: Settings, identities: int) -> tuple[nn.Module, int, int]:
    """The network for this many identities, its weights, and those of one identity's classifiers."""
    with torch.device("meta"):
        sizes = (identities, identities + 1)
        network, larger = (settings.model(count, size=settings.recipe.size, **settings.options) for count in sizes)
    return network, parameters(network), parameters(larger) - parameters(network)


def parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def multiply_adds(network: nn.Module, size: tuple[int, int]) -> tuple[int, Any]:
    """Multiply-adds of one image of this height and width, half of what torch's FlopCounterMode counts, and the output.

    The counter sees convolutions and matrix products; all else is left out, as in the figures that papers print."""
    device = next((weight.device for weight in network.parameters()), None)
    with _counting() as counter, torch.no_grad():
        output = network.eval()(torch.zeros(1, 3, *size, device=device))
    return counter.get_total_flops() // 2, output


def _counting() -> FlopCounterMode:
    """Its module loads triton, which a process that counts nothing does without."""
    from torch.utils.flop_counter import FlopCounterMode

    return FlopCounterMode(display=False)
