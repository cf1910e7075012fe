"""Test descriptors of many images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.inference_mode()
def extract(model: nn.Module, batches: Iterable[Tensor], *, bf16: bool = False) -> Tensor:
    """The embeddings of all batches, N × D, float32 on the CPU, in order.

    model: any network of the study, put into evaluation mode here. batches: B × 3 × H × W, normalised, on the model's
    device. bf16: run the network in bf16 autocast, as it was trained; the embedding is returned in float32.
    """
    model.eval()
    embeddings = []
    for images in batches:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
            output = model(images.contiguous(memory_format=torch.channels_last))
        embeddings.append(output.embedding.float().cpu())
    return torch.cat(embeddings)
