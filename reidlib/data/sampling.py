"""Which images make a batch."""

import torch

from reidlib.spec import ReidError


def epoch_batches(n: int, batch: int, generator: torch.Generator) -> list[torch.Tensor]:
    """One epoch over `n` images in a new random order: int64 index tensors of `batch` images each (on CPU).

    The last n mod `batch` images (others each epoch) are left out, so that batch norm sees full batches only."""
    if batch < 1 or n < batch:
        raise ReidError(f"{n} training images do not fill one batch of {batch}; use a smaller batch or a larger set")
    return list(torch.randperm(n, generator=generator).split(batch)[: n // batch])


def identity_batches(
    labels: torch.Tensor, batch: int, per_identity: int, generator: torch.Generator
) -> list[torch.Tensor]:
    """One epoch in batches of P identities with K images each: int64 index tensors of P·K images (on CPU), by identity.

    labels: N, the identity of each training image; `batch` is P·K, `per_identity` K. The field's P×K sampling (Hermans
    et al. 2017, §2; the papers leave the bookkeeping open): each identity's images are shuffled and cut into groups of
    K, and the rest is left out of this epoch. Fewer than K images are one group, in which each comes once before any
    comes again. Batches take one group each of P identities drawn from those that have some left, until fewer do.
    Raises ReidError when K does not divide the batch, or there are fewer than P identities."""
    if batch < 1 or per_identity < 1 or batch % per_identity:
        raise ReidError(f"batch of {batch} is not made of {per_identity} images an identity; make it a multiple")
    labels = labels.cpu()
    wanted = batch // per_identity  # P
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]  # by identity, in a random order inside each
    counts = labels.unique(return_counts=True)[1].tolist()
    if len(counts) < wanted:
        what = f"a batch of {batch} with {per_identity} images an identity needs {wanted} identities"
        raise ReidError(f"{what}; there are {len(counts)}: use a smaller batch or more images an identity")
    groups = [_groups(images, per_identity, generator) for images in order.split(counts)]
    batches = []
    while len(groups) >= wanted:
        chosen = torch.randperm(len(groups), generator=generator)[:wanted].tolist()
        batches.append(torch.cat([groups[identity].pop() for identity in chosen]))
        groups = [left for left in groups if left]
    return batches


def _groups(images: torch.Tensor, size: int, generator: torch.Generator) -> list[torch.Tensor]:
    """One identity's shuffled images in full groups; too few of them are repeated, in a new order each time."""
    if len(images) >= size:
        return list(images[: len(images) // size * size].split(size))
    rounds = [images]
    while sum(map(len, rounds)) < size:
        rounds.append(images[torch.randperm(len(images), generator=generator)])
    return [torch.cat(rounds)[:size]]
