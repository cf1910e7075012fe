"""Which images make a batch."""

from __future__ import annotations

import torch

from reidlib.spec import ReidError


def epoch_batches(n: int, batch: int, generator: torch.Generator, drop_last: bool = True) -> list[torch.Tensor]:
    """One epoch over `n` images in a new random order: a list of int64 index tensors of `batch` images each (on CPU).

    drop_last  leave out the last n mod `batch` images (others each epoch), so that batch norm sees full batches only

    Raises ReidError when not even one batch fits.
    """
    if batch < 1 or n < 1 or (drop_last and n < batch):
        raise ReidError(f"{n} training images do not fill one batch of {batch}; use a smaller batch or a larger set")
    batches = torch.randperm(n, generator=generator).split(batch)
    return [indices for indices in batches if len(indices) == batch or not drop_last]
