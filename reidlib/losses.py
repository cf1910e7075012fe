"""The losses, one scalar each from (output, labels), and the criterion that weights them by name.

Features and logits may come as bfloat16: every loss is computed in float32 (float64 stays float64), with no matrix
product that autocast would lower.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from reidlib.models.output import Output
from reidlib.spec import Loss, ReidError


def cross_entropy(output: Output, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Softmax loss, mean over the batch, summed over the classifiers by their shares: Σ_i share_i · CE(logits_i).

    Without shares a plain sum over the classifiers (SafeNet eq. S.3, with the minus sign it lacks). labels: B, 0..K−1.

    smoothing  ε of label smoothing (Szegedy et al. 2016, §7; MROS L454, HAMR L588, MSGWDP eq. 7): the target is
               (1 − ε) on the right class plus ε/K on each of all K classes, the right one among them.
    """
    shares = output.shares or [1.0] * len(output.logits)
    if len(shares) != len(output.logits):
        raise ReidError(f"the model gives {len(shares)} shares for {len(output.logits)} classifiers; give one for each")
    losses = [functional.cross_entropy(_wide(logits), labels, label_smoothing=smoothing) for logits in output.logits]
    return torch.stack([share * loss for share, loss in zip(shares, losses, strict=True)]).sum()


def triplet(output: Output, labels: Tensor, *, margin: float, reduction: str = "mean") -> Tensor:
    """Batch-hard triplet loss (Hermans et al. 2017, eq. 5; MROS eq. 1), averaged over the vectors in `output.features`.

    Each image is an anchor: max(0, margin + distance to the farthest image of its identity − distance to the nearest
    image of another), by the Euclidean distance of the vectors as they come (not squared, not normalised).

    margin     in units of that distance
    reduction  "mean" or "sum" over the anchors of the batch

    Labels on the CPU are checked by `check_triplets`; on a GPU that would wait for all of its work.
    """
    reduce = _reduction(reduction)
    if not output.features:
        raise ReidError("the triplet loss has no vectors to compare; the model gives none in `features`")
    same = labels[:, None] == labels[None, :]  # B × B
    if labels.device.type == "cpu":
        check_triplets(labels)
    return torch.stack([_batch_hard(_wide(vectors), same, margin, reduce) for vectors in output.features]).mean()


def _batch_hard(vectors: Tensor, same: Tensor, margin: float, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    """vectors: B × F; same: B × B, whether two images show one identity."""
    with torch.no_grad():
        # The hardest pairs are found first, then measured again with a gradient: this keeps B × F numbers instead of
        # B × B × F, and has no cancellation as in |a|² + |b|² − 2ab when two vectors are close.
        distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")  # B × B
        positive = distances.masked_fill(~same, -torch.inf).argmax(1)  # B; the anchor itself only if all are at 0
        negative = distances.masked_fill(same, torch.inf).argmin(1)  # B
    # vector_norm, unlike a square root of squares, has the gradient 0 (not NaN) for a vector of zeros
    to_positive = torch.linalg.vector_norm(vectors - vectors[positive], dim=1)  # B
    to_negative = torch.linalg.vector_norm(vectors - vectors[negative], dim=1)  # B
    return reduce(functional.relu(to_positive - to_negative + margin))


def check_triplets(labels: Tensor) -> None:
    """Raises ReidError when an identity has a single image in the batch, or the batch shows one identity only."""
    identities, counts = labels.unique(return_counts=True)
    if len(identities) == 1:
        shown = f"these {len(labels)} images show identity {int(labels[0])} alone: use a batch larger than per_identity"
        raise ReidError(f"the triplet loss needs two identities in a batch; {shown}")
    if len(lonely := identities[counts == 1]):
        shown = f"identity {int(lonely[0])} has one in this batch of {len(labels)}: set per_identity to 2 or more"
        raise ReidError(f"the triplet loss needs two images of each identity; {shown}")


def ranking(output: Output, labels: Tensor, *, margin: float) -> Tensor:
    """max(0, p_G − p_L + margin), mean over the batch (FMN eq. F.5): be surer of the right class than a reference.

    p_L and p_G are the softmax probabilities of the right class, from `output.logits[0]` and from `output.reference`;
    no gradient goes into the reference. margin is a difference of probabilities. labels: B, 0..K−1.
    """
    if output.reference is None:
        raise ReidError("the ranking loss compares with a frozen reference network, and this model's output has none")
    ours, theirs = (
        _wide(logits).softmax(1).gather(1, labels[:, None])[:, 0]  # B
        for logits in (output.logits[0], output.reference.detach())
    )
    return functional.relu(theirs - ours + margin).mean()


class Centre(nn.Module):
    """Centre loss (Wen et al. 2016, eq. 2; MROS eq. 2): ½ ‖f − c_y‖², averaged over the vectors in `output.features`.

    The centres are parameters, learned by gradient descent of their own rate: a centre moves by rate/B · Σ offsets of
    its own images, as in the field's later code; Wen et al. divide by the number of its images plus one (their eq. 4).

    identities  K, number of classes
    widths      F of each vector in `output.features`
    rate        learning rate of the centres, by plain SGD on the loss before it is weighted
    reduction   "mean" or "sum" over the batch; the two papers print the sum, whose size grows with the batch
    seed        the centres start from a standard normal of this seed alone
    """

    def __init__(
        self, identities: int, widths: Sequence[int], *, rate: float, reduction: str = "mean", seed: int = 0
    ) -> None:
        super().__init__()
        if not widths:
            raise ReidError("the centre loss has no vectors to compare; the model gives none in `features`")
        generator = torch.Generator().manual_seed(seed)
        self.centres = nn.ParameterList(torch.randn(identities, width, generator=generator) for width in widths)
        self.rate, self.reduce = rate, _reduction(reduction)

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        """One scalar, with gradients for features and centres alike. labels: B, 0..K−1."""
        widths, own = [f.shape[1] for f in output.features], [c.shape[1] for c in self.centres]
        if widths != own:
            raise ReidError(f"the centres have widths {own}, the model's features {widths}; build them for this model")
        pairs = zip(output.features, self.centres, strict=True)
        offsets = [_wide(vectors) - centres[labels] for vectors, centres in pairs]  # B × F each
        return torch.stack([self.reduce(0.5 * offset.square().sum(1)) for offset in offsets]).mean()


class Criterion(nn.Module):
    """The named, weighted losses of one training; those with parameters of their own (Centre) are submodules.

    losses: functions are called with (output, labels, **options), classes built once with (identities, widths,
    **options) and called with (output, labels). identities: K. widths: F of each vector in `output.features`.

    A loss's weight scales its gradient for the network. The loss's own parameters get that of the unweighted loss, so
    that `rate` alone sets their step, whatever the weight (0.0005 for MROS's centre loss).
    """

    def __init__(self, losses: Mapping[str, Loss], identities: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.losses = dict(losses)
        own = {name: loss for name, loss in losses.items() if inspect.isclass(loss.function)}
        built = {name: loss.function(identities, widths, **loss.options) for name, loss in own.items()}
        self.stateful = nn.ModuleDict(built)

    def forward(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        """Each weighted loss under its own name, in the order given; their sum is the total. labels: B, 0..K−1."""
        return {name: self._term(name, loss, output, labels) for name, loss in self.losses.items()}

    def check(self, labels: Tensor) -> None:
        """Raises the ReidError of a loss that cannot work on a batch of these labels. labels: B, on the CPU."""
        if any(loss.function is triplet for loss in self.losses.values()):
            check_triplets(labels)

    def own_groups(self) -> list[dict[str, Any]]:
        """One optimiser group for each loss that has parameters: {"params": …, "lr": its rate}; [] where none has."""
        return [{"params": list(loss.parameters()), "lr": loss.rate} for loss in self.stateful.values()]

    def _term(self, name: str, loss: Loss, output: Output, labels: Tensor) -> Tensor:
        if name not in self.stateful:
            return loss.weight * loss.function(output, labels, **loss.options)
        own = self.stateful[name]
        fixed = {key: weight.detach() for key, weight in own.named_parameters()}
        for_network = loss.weight * functional_call(own, fixed, (output, labels))
        logits, features = ([part.detach() for part in parts] for parts in (output.logits, output.features))
        detached = replace(output, embedding=output.embedding.detach(), logits=logits, features=features)
        for_itself = own(detached, labels)
        return for_network + (for_itself - for_itself.detach())  # the bracket has the value 0, and a gradient


def _wide(values: Tensor) -> Tensor:
    """bfloat16 and half as float32; float32 and float64 as they are."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _reduction(name: str) -> Callable[[Tensor], Tensor]:
    if name not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', not {name!r}")
    return getattr(torch, name)
