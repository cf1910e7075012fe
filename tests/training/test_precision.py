"""bf16 or float32: what is chosen where, and an imitation that gives the numbers of the real thing."""

import pytest
import torch
from torch import nn

from reidlib.evaluation.features import extract
from reidlib.models.output import Output
from reidlib.spec import Recipe
from reidlib.training import precision

CPU = torch.device("cpu")
IMITATED = Recipe(precision="bf16 imitated")


def test_bf16_is_for_devices_that_multiply_it(monkeypatch):
    recipe = Recipe(precision="bf16")
    for known, wanted in (
        ({"avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({}, True),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=known: known, raising=False)
        assert precision.in_bf16(recipe, CPU) is wanted
        assert not precision.in_bf16(Recipe(precision="fp32"), CPU)
        assert precision.in_bf16(IMITATED, CPU)


def test_a_product_rounds_its_factors_and_its_sum_and_nothing_between():
    row = torch.tensor([[1.0 + 2**-9, 256.0, 1.0]])  # the first is 1 in bf16
    column = torch.tensor([[1.0], [1.0], [-1.0]])
    with precision.products(IMITATED), torch.autocast("cpu", dtype=torch.bfloat16):
        product = row @ column
    assert product.dtype == torch.bfloat16
    assert product.item() == 256  # 1 + 256 is no bf16 number: a sum rounded on the way would end at 255
    assert (row @ column).item() == 256 + 2**-9


class Layers(nn.Module):
    """Every kind of product the networks have, one after the other."""

    def __init__(self):
        super().__init__()
        self.grouped = nn.Conv2d(8, 8, 3, groups=4, bias=False)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.linear = nn.Linear(8, 5)

    def forward(self, images):
        maps = self.grouped(self.first(images).relu())
        flat = maps.flatten(2)
        affinity = torch.einsum("bci,bcj->bij", flat, flat).softmax(-1)
        vectors = (flat @ affinity.transpose(1, 2)).mean(2)
        return Output(vectors, [self.linear(vectors)], [vectors], {})


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return Layers().to(memory_format=torch.channels_last)


@pytest.fixture
def images():
    return torch.randn(4, 3, 12, 8, generator=torch.Generator().manual_seed(1))


LAYERS = {
    "convolution": lambda maps, weights: nn.functional.conv2d(maps, weights[:288].view(8, 4, 3, 3)),
    "with stride": lambda maps, weights: nn.functional.conv2d(maps, weights[:32].view(8, 4, 1, 1), stride=2),
    "in groups": lambda maps, weights: nn.functional.conv2d(maps, weights[:72].view(4, 2, 3, 3), groups=2),
    "linear": lambda maps, weights: nn.functional.linear(maps, weights[:40].view(5, 8), weights[40:45]),
    "matrix product": lambda maps, weights: maps[0, 0] @ weights[:48].view(8, 6),
    "einsum": lambda maps, weights: torch.einsum("bchw,bcvw->bhv", maps, weights[:768].view(2, 4, 12, 8)),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
def test_imitated_products_are_exact_until_they_are_rounded(layer):
    """Against the same products of the rounded factors in float64, rounded once. (The processor's own bf16 is no truth
    for gradients: without the instructions, torch adds up those of a convolution in bf16.)"""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 4, 12, 8, generator=generator, requires_grad=True)
    weights = torch.randn(768, generator=generator, requires_grad=True)
    with precision.products(IMITATED), torch.autocast("cpu", dtype=torch.bfloat16):
        product = layer(maps, weights)
    slope = torch.randn(product.shape, generator=generator).bfloat16()
    with precision.products(IMITATED):
        imitated = [product, *torch.autograd.grad(product, (maps, weights), slope)]

    factors = [tensor.detach().bfloat16().double().requires_grad_() for tensor in (maps, weights)]
    exact = layer(*factors)
    exact = [exact, *torch.autograd.grad(exact, factors, slope.double())]
    assert product.dtype == torch.bfloat16
    for ours, truth in zip(imitated, exact, strict=True):
        rounded = truth.bfloat16()
        assert torch.allclose(ours.double(), rounded.double(), rtol=2**-7, atol=1e-6)  # float32's sum: to the neighbour
        assert (ours.bfloat16() == rounded).double().mean() > 0.99


def test_imitated_features_are_those_of_bf16(layers, images):
    """In inference mode, where whole layers come to the mode instead of their products."""
    native = extract(layers, [images], bf16=True)
    with precision.products(IMITATED):
        imitated = extract(layers, [images], bf16=True)
    assert torch.allclose(imitated, native, rtol=2**-8, atol=0)
    assert not torch.equal(imitated, extract(layers, [images], bf16=False))
