"""Adaptive pooling, which a GPU computes with the same bits every time where that is asked for.

Cell i of n has every row it touches, from ⌊ih/n⌋ to ⌈(i + 1)h/n⌉, and the same across. torch's own pooling refuses a
gradient on a GPU under `use_deterministic_algorithms`; there, and only there, the cells are pooled as plain windows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from reidlib.models.pcb import stripe_rows


def adaptive_average(map_: Tensor, size: tuple[int, int]) -> Tensor:
    """The mean of each cell: B × C × h × w to B × C × n × m, for size (n, m)."""
    if _on_deterministic_gpu(map_):
        return pooled_by_windows(map_, size, functional.avg_pool2d)
    return functional.adaptive_avg_pool2d(map_, size)


def adaptive_maximum(map_: Tensor, size: tuple[int, int]) -> Tensor:
    """The maximum of each cell, whose gradient goes to the first of equals; shapes as in `adaptive_average`."""
    if _on_deterministic_gpu(map_):
        return pooled_by_windows(map_, size, functional.max_pool2d)
    return functional.adaptive_max_pool2d(map_, size)


def pooled_by_windows(map_: Tensor, size: tuple[int, int], pool: Callable[..., Tensor]) -> Tensor:
    """Adaptive pooling made of `pool(map, window size)`: one call where the cells are alike, else one for each cell."""
    height, width = map_.shape[2:]
    if height % size[0] == 0 and width % size[1] == 0:
        return pool(map_, (height // size[0], width // size[1]))
    bands = []
    for top, end in stripe_rows(height, size[0]):
        cells = [map_[:, :, top:end, left:right] for left, right in stripe_rows(width, size[1])]
        bands.append(torch.cat([pool(cell, tuple(cell.shape[2:])) for cell in cells], dim=3))  # B × C × 1 × m
    return torch.cat(bands, dim=2)


def _on_deterministic_gpu(map_: Tensor) -> bool:
    return map_.is_cuda and torch.are_deterministic_algorithms_enabled()
