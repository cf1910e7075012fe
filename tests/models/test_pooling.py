"""The form of adaptive pooling for a deterministic GPU against torch's own."""

import pytest
import torch
from torch.nn import functional

from reidlib.models import pooling
from reidlib.models.hamr import HAMR
from reidlib.models.hpm import HPM
from reidlib.models.ide import IDE
from reidlib.models.msgwdp import MSGWDP
from reidlib.models.pooling import adaptive_average, adaptive_maximum, pooled_by_windows

PAIRS = {
    "average": (adaptive_average, functional.adaptive_avg_pool2d, functional.avg_pool2d),
    "maximum": (adaptive_maximum, functional.adaptive_max_pool2d, functional.max_pool2d),
}
CELLS = [
    ((24, 8), (24, 8)),
    ((48, 16), (24, 8)),
    ((12, 4), (8, 1)),
    ((8, 4), (6, 1)),
    ((13, 5), (6, 2)),
    ((25, 9), (13, 5)),
    ((6, 3), (1, 1)),
]


def with_gradient(pool, map_, size):
    map_ = map_.detach().requires_grad_()
    pooled = pool(map_, size)
    weights = torch.arange(1.0, pooled.numel() + 1, dtype=pooled.dtype).view(pooled.shape)  # another one for each cell
    return pooled.detach(), torch.autograd.grad((weights * pooled).sum(), map_)[0]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("given, size", CELLS)
@pytest.mark.parametrize("name", PAIRS)
def test_windows_give_the_values_and_gradients_of_adaptive_pooling(name, given, size, memory_format):
    _, adaptive, plain = PAIRS[name]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 3, *given, dtype=torch.float64, generator=generator)
    for map_ in (noise, noise.round().relu()):  # the second is full of equals, as a map behind a ReLU is
        map_ = map_.contiguous(memory_format=memory_format)
        expected = with_gradient(adaptive, map_, size)
        found = with_gradient(lambda values, cells: pooled_by_windows(values, cells, plain), map_, size)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", PAIRS)
def test_a_processor_keeps_the_bits_of_torchs_own(name, monkeypatch):
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    ours, adaptive, _ = PAIRS[name]
    map_ = torch.randn(2, 5, 8, 4, generator=torch.Generator().manual_seed(0))
    for found, expected in zip(with_gradient(ours, map_, (6, 1)), with_gradient(adaptive, map_, (6, 1)), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "network, options", [(HAMR, {}), (HPM, {}), (MSGWDP, {}), (IDE, dict(stripes=3, last_stride=1))]
)
def test_the_networks_pool_by_windows_on_a_deterministic_gpu(network, options, monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("does not have a deterministic implementation")

    monkeypatch.setattr(pooling, "_on_deterministic_gpu", lambda map_: True)
    for name in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
        monkeypatch.setattr(functional, name, refuse)
    with torch.device("meta"):  # shapes without numbers are enough
        model, images = network(5, size=(192, 64), **options), torch.empty(4, 3, 192, 64)
    output = model(images)
    assert {tuple(logits.shape) for logits in output.logits} == {(4, 5)}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("given, size", CELLS)
@pytest.mark.parametrize("name", PAIRS)
def test_gpu_gives_a_gradient_with_deterministic_algorithms(name, given, size):
    ours, adaptive, _ = PAIRS[name]
    map_ = torch.randn(2, 3, *given, dtype=torch.float64)
    torch.use_deterministic_algorithms(True)
    try:
        gpu = map_.cuda().requires_grad_()
        pooled = ours(gpu, size)
        gpu_gradient = torch.autograd.grad(pooled.square().sum(), gpu)[0]
    finally:
        torch.use_deterministic_algorithms(False)
    map_.requires_grad_()
    expected = adaptive(map_, size)
    torch.testing.assert_close(pooled.cpu(), expected)
    torch.testing.assert_close(gpu_gradient.cpu(), torch.autograd.grad(expected.square().sum(), map_)[0])
