"""What the notebooks that explain a method share: a few people of a data set, and what a network makes of them."""

from __future__ import annotations

import pandas as pd
from torch import Tensor, nn

from reidlib.data.images import decode, normalise
from reidlib.data.table import DISTRACTOR, Dataset
from reidlib.evaluation.features import Features, extract

BATCH = 32
"""Images that pass through a network at a time in a test."""


def people(data: Dataset, split: str, identities: int) -> pd.DataFrame:
    """The images of a split that show the first `identities` people, junk and distractors left out."""
    frame = data.split(split)
    known = sorted(who for who in set(frame["identity"]) if who > DISTRACTOR)
    return frame[frame["identity"].isin(known[:identities])].reset_index(drop=True)


def features(model: nn.Module, data: Dataset, split: str, identities: int, size: tuple[int, int]) -> Features:
    """The descriptors of these people's images, read at `size` (H, W), as `evaluate` takes them."""
    frame = people(data, split, identities)
    batches = normalise(decode(data, frame, size)).split(BATCH)
    return Features(extract(model, batches), frame["identity"].to_numpy(), frame["camera"].to_numpy(), name=split)


def shapes(**tensors: Tensor) -> None:
    """Prints the shape of each tensor beside its name."""
    width = max(map(len, tensors))
    for name, tensor in tensors.items():
        print(f"{name:<{width}}  {' × '.join(map(str, tensor.shape))}")
