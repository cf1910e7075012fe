"""HPM's pyramid against slices of the map."""

import pytest
import torch
from torch.nn import functional

from reidlib.models.hpm import HPM

SIZE = (128, 64)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return HPM(5, size=SIZE)


def test_a_bin_is_the_sum_of_average_and_maximum_of_its_rows(model):
    map_ = torch.randn(2, 7, 8, 4)
    bins = model.bins(map_)  # B × 15 × 7
    assert bins.shape == (2, 15, 7)
    place = 0
    for count in (1, 2, 4, 8):
        rows = 8 // count
        for top in range(0, 8, rows):
            stripe = map_[:, :, top : top + rows]
            assert torch.allclose(bins[:, place], stripe.mean((2, 3)) + stripe.amax((2, 3)), atol=1e-6)
            place += 1


@pytest.mark.parametrize("pooling, reduce", [("average", torch.mean), ("maximum", torch.amax)])
def test_one_pooling_alone(pooling, reduce):
    map_ = torch.randn(2, 7, 8, 4)
    bins = HPM(5, size=SIZE, pyramid=(1,), pooling=pooling).bins(map_)
    assert torch.allclose(bins[:, 0], reduce(map_, (2, 3)), atol=1e-6)


def test_one_classifier_and_256_entries_for_each_of_fifteen_bins(model):
    images = torch.rand(2, 3, *SIZE)
    with torch.inference_mode():
        output = model.eval()(images)
        fourth = model.classifiers[3](output.embedding[:, 3 * 256 : 4 * 256])
    assert output.embedding.shape == (2, 15 * 256)
    assert [tuple(logits.shape) for logits in output.logits] == [(2, 5)] * 15
    assert output.shares == ()
    assert torch.allclose(fourth, output.logits[3], atol=1e-6)


def test_every_weight_gets_a_gradient(model):
    labels = torch.tensor([0, 0, 1, 1])
    output = model.train()(torch.rand(4, 3, *SIZE))
    sum(functional.cross_entropy(logits, labels) for logits in output.logits).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_bins_share_rows_where_eight_does_not_divide_the_height():
    with torch.inference_mode():
        assert HPM(5, size=(192, 64)).eval()(torch.rand(1, 3, 192, 64)).embedding.shape == (1, 3840)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (dict(pyramid=()), "pyramid"),
        (dict(pyramid=(2, 2)), "pyramid"),
        (dict(pyramid=(1, 16)), "pyramid.* 8 bins"),
        (dict(pooling="sum"), "pooling"),
    ],
)
def test_impossible_switches_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        HPM(5, size=SIZE, **wrong)
