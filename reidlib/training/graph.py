"""The training step as a CUDA graph: a GPU launches the kernels of a whole step at once, instead of one after another.

A graph repeats what it was recorded from, on the same memory. So all that changes from step to step is a tensor that it
reads: images and labels, the learning rates, and what a network draws in Python (`draw`, as HAMR's bands). Dropout's
masks follow torch's seed in a graph, too. A graph is used only where one step of it equals an eager one from the same
state, but for rounding."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from reidlib.data.images import sent
from reidlib.spec import printable
from reidlib.training import precision
from reidlib.training.step import Loop

DEVICES = ("cuda",)  #: kinds of device on which steps are recorded
WARM_UP = 3  #: steps on a side stream before the recording, as torch's documentation asks for

ROUNDING = {True: math.sqrt(50) * 2**-8, False: math.sqrt(50) * 2**-11}
"""By how much losses, gradients and statistics may differ, as a share of their length; True: in bf16.

A number is rounded by at most 2⁻⁸ of itself in bf16, and by 2⁻¹¹ in TF32, in which a GPU computes the convolutions of
float32. Some 50 layers round one after the other, and errors of random sign add up as their square root: 2.8 % and
0.35 %. Another batch, mask of dropout or band changes a gradient by a tenth of its length and more."""

STORED = 2**-23  #: by how much weights may differ, as a share of their length: each of two ways rounds to float32


class GraphLoop(Loop):
    """A loop whose step replays a graph. What `step` returns is overwritten by the next step."""

    images: Tensor
    labels: Tensor
    drawing: list[Any]  #: the parts of the network that draw in Python
    replay: Callable[[], None]
    written: tuple[dict[str, Tensor], Tensor]

    @classmethod
    def of_loop(cls, loop: Loop, images: Tensor, labels: Tensor) -> GraphLoop:
        """The graph of this loop's step on batches of this shape, in the loop's state; the loop stays as it is. It is
        recorded on a grey batch with labels in reverse, and rates and draws of 0: what it kept of these would show."""
        copy = cls(loop.settings, *_copied(loop))
        device = images.device
        copy.images, copy.labels = torch.zeros_like(images), labels.flip(0)
        copy.drawing = [module for module in copy.model.modules() if hasattr(module, "draw")]
        for module in copy.drawing:
            module.drawn = torch.zeros_like(module.draw(), device=device)
        on_gpu = device.type == "cuda"
        fused = {"fused": True, "foreach": False, "capturable": True} if on_gpu else {}  # these read rates on the GPU
        for group in copy.optimiser.param_groups:
            group.update({name: value for name, value in fused.items() if name in group})
        copy.optimiser.load_state_dict(copy.optimiser.state_dict())  # Adam's counts of steps go to the GPU
        for group in copy.optimiser.param_groups:
            group["lr"] = torch.zeros((), device=device, dtype=torch.float32 if on_gpu else torch.float64)
        copy.replay, copy.written = record(lambda: Loop.step(copy, copy.images, copy.labels))
        copy.rewind(loop)
        return copy

    def step(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        self.images.copy_(images)
        self.labels.copy_(labels)
        for module in self.drawing:
            module.drawn.copy_(sent(module.draw(), self.images.device))
        self.replay()
        return self.written

    def set_rates(self, factor: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"].fill_(group["initial_rate"] * factor)

    def forget(self) -> None:
        """Zeros are what an optimiser without a state begins with; the graph needs them where they are."""
        for state in self.optimiser.state.values():
            for value in filter(torch.is_tensor, state.values()):
                value.zero_()

    def rewind(self, loop: Loop) -> None:
        """Takes over the state of another loop, into the memory of this one."""
        self.model.load_state_dict(loop.model.state_dict())
        self.criterion.load_state_dict(loop.criterion.state_dict())
        self.forget()
        for ours, theirs in zip(_weights(self), _weights(loop), strict=True):
            for name, value in loop.optimiser.state.get(theirs, {}).items():
                if torch.is_tensor(value):
                    self.optimiser.state[ours][name].copy_(value)


def recorded(loop: Loop, images: Tensor, labels: Tensor) -> tuple[Loop, str]:
    """The loop to go on with, in the state that `loop` has now, and why it is the eager one ("" for a graph). Whatever
    goes wrong here leaves the eager loop. images: B × 3 × H × W, float, augmented, and labels: B, as it will see."""
    loop.train_mode()
    try:
        graph = GraphLoop.of_loop(loop, images, labels)
        problem = difference(loop, graph, images, labels)
        graph.rewind(loop)
    except Exception as fault:  # of a dozen kinds; an eager step raises again what is wrong with the run itself
        line = str(fault).strip().partition("\n")[0] or type(fault).__name__
        problem = f"it cannot be recorded ({printable(line)[:300]})"
    return (loop, f"The step ran eagerly, not as a CUDA graph: {problem}.") if problem else (graph, "")


def difference(loop: Loop, graph: Loop, images: Tensor, labels: Tensor) -> str:
    """What differs by more than rounding after a step of `graph` and one of `loop` (of copies of it), as text; or "".
    Weights are compared after both optimisers have had the graph's gradients: Adam makes a step of full length of a
    gradient that is nothing but rounding."""
    eager, same = (Loop(loop.settings, *_copied(loop)) for _ in range(2))
    losses, hits = [], []
    for way in (eager, graph):
        torch.manual_seed(0)
        way.set_rates(1.0)
        terms, right = way.step(images, labels)
        losses.append([torch.stack([*terms.values()])])
        hits.append(int(right))
    bf16 = precision.in_bf16(loop.recipe, images.device)
    ways = {
        "losses": losses,
        "gradients": [[one.grad for one in _weights(way) if one.grad is not None] for way in (eager, graph)],
        "statistics": [[one for one in way.model.buffers() if one.is_floating_point()] for way in (eager, graph)],
    }
    for name, (right, its) in ways.items():
        if problem := _apart(name, right, its, ROUNDING[bf16] * _length(right)):
            return problem
    if abs(hits[1] - hits[0]) > max(1.0, ROUNDING[bf16] * len(images)):
        return f"it counts {hits[1]} hits instead of {hits[0]}"
    before = [weight.detach().clone() for weight in _weights(same)]
    for weight, other in zip(_weights(same), _weights(graph), strict=True):
        weight.grad = other.grad
    same.set_rates(1.0)
    same.update()
    after = _weights(same)
    moved = _length(new.detach() - old for new, old in zip(after, before, strict=True))
    return _apart("weights", after, _weights(graph), ROUNDING[False] * moved + STORED * _length(after))


def record(step: Callable[[], tuple[dict[str, Tensor], Tensor]]) -> tuple[Callable[[], None], tuple]:
    """A function that repeats on the GPU all that `step` launches, and the tensors that it writes each time."""
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    spare = generator.clone_state()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(side), warnings.catch_warnings(category=UserWarning, action="ignore"):  # of a prototype
            for number in range(WARM_UP):
                # What waits for the GPU cannot be recorded: the last step shows it, before anything is under way.
                torch.cuda.set_sync_debug_mode("error" if number == WARM_UP - 1 else "default")
                step()
        torch.cuda.set_sync_debug_mode("default")
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            written = step()
    except BaseException:
        generator.graphsafe_set_state(spare)  # a recording that is broken off leaves the generator in its mode
        raise
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return graph.replay, written


def _copied(loop: Loop) -> tuple:
    """Network, criterion and optimisers, copied together: the optimisers move the weights of the copies."""
    return deepcopy((loop.model, loop.criterion, loop.optimiser, loop.own))


def _weights(loop: Loop) -> list[Tensor]:
    return [*loop.model.parameters(), *loop.criterion.parameters()]


def _apart(name: str, right: list[Tensor], its: list[Tensor], allowed: float) -> str:
    """What is wrong where two lists of tensors are farther apart than that, or not numbers; else ""."""
    if len(right) != len(its):
        return f"it has {name} of {len(its)} weights instead of {len(right)}"
    distance = _length(one.detach().double() - other for one, other in zip(right, its, strict=True))
    return "" if distance <= allowed else f"its {name} differ by {distance:.2g}, more than rounding ({allowed:.2g})"


def _length(tensors: Iterable[Tensor]) -> float:
    """The Euclidean length of all numbers in them together."""
    lengths = [tensor.detach().double().norm() for tensor in tensors]
    return float(torch.stack(lengths).norm()) if lengths else 0.0
