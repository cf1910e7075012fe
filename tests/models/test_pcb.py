"""PCB's parts against slow loops and against lengths counted by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from reidlib import losses
from reidlib.models.pcb import DESCRIPTORS, PCB, rows_mean, stripe_rows

SIZE = (128, 64)
RESNET_50 = 23_508_032  # weights of ResNet-50 without its classifier


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return PCB(5, size=SIZE).eval()


@given(height=st.integers(1, 60), stripes=st.integers(1, 12))
def test_stripes_are_equal_where_they_can_be_and_never_leave_a_row_out(height, stripes):
    rows = stripe_rows(height, stripes)
    assert len(rows) == stripes
    assert rows[0][0] == 0 and rows[-1][1] == height
    assert all(below[0] <= above[1] for above, below in zip(rows, rows[1:], strict=False))  # no gap
    assert all(top < end for top, end in rows)
    if height % stripes == 0:
        assert rows == [(i * height // stripes, (i + 1) * height // stripes) for i in range(stripes)]


@pytest.mark.parametrize("height, rows", [(24, [(0, 4), (4, 8), (8, 12), (12, 16), (16, 20), (20, 24)]),
                                          (16, [(0, 3), (2, 6), (5, 8), (8, 11), (10, 14), (13, 16)])])  # fmt: skip
def test_the_six_stripes_of_the_papers_input_and_of_one_that_six_does_not_divide(height, rows):
    assert stripe_rows(height, 6) == rows


@pytest.mark.parametrize("height", [24, 16, 12, 8])
def test_a_stripe_is_the_mean_of_its_pixels(height):
    """Against a loop over the pixels, and against torch's adaptive pooling, at the heights of the study's inputs."""
    map_ = torch.rand(2, 3, height, 4, dtype=torch.double)
    pooled = torch.stack([rows_mean(map_, *rows) for rows in stripe_rows(height, 6)], dim=2)
    for stripe, (top, end) in enumerate(stripe_rows(height, 6)):
        total = torch.zeros(2, 3, dtype=torch.double)
        for y in range(top, end):
            for x in range(4):
                total += map_[:, :, y, x]
        assert torch.allclose(pooled[:, :, stripe], total / ((end - top) * 4))
    assert torch.allclose(pooled, functional.adaptive_avg_pool2d(map_, (6, 1))[..., 0])


def test_the_map_and_the_vectors_have_the_sizes_of_the_paper():
    with torch.inference_mode():
        output = PCB(751).eval()(torch.rand(1, 3, 384, 128))
    assert output.maps["T"].shape == (1, 2048, 24, 8)
    assert output.embedding.shape == (1, 12288)
    assert [vector.shape for vector in output.features] == [(1, 2048)] * 6
    assert [logits.shape for logits in output.logits] == [(1, 751)] * 6
    assert not output.shares, "the loss is the plain sum over the stripes"


def test_each_classifier_sees_its_own_stripe_through_the_shared_convolution(model, images):
    with torch.inference_mode():
        output = model(images)
        for g, logits, classifier in zip(output.features, output.logits, model.classifiers, strict=True):
            h = model.reduction(g[:, :, None, None]).flatten(1)
            assert (h >= 0).all()
            assert torch.allclose(classifier(h), logits, atol=1e-6)


@pytest.mark.parametrize("descriptor", DESCRIPTORS)
def test_the_descriptor_joins_unit_vectors_one_a_stripe(model, images, descriptor):
    torch.manual_seed(0)
    other = PCB(5, size=SIZE, descriptor=descriptor).eval()
    with torch.inference_mode():
        embedding = other(images).embedding
        length = {"G": 2048, "H": 256}[descriptor]
        assert embedding.shape == (4, 6 * length)
        assert torch.allclose(embedding.view(4, 6, length).norm(dim=2), torch.ones(4, 6))
        if descriptor == "G":
            assert torch.allclose(embedding[:, :2048], functional.normalize(model(images).features[0]))


def test_the_weights_counted_by_hand():
    """ResNet-50; 2048 × 256 and 2 × 256 in the shared reduction; six classifiers of 256 × 5 + 5."""
    count = sum(weight.numel() for weight in PCB(5, size=SIZE).parameters())
    assert count == RESNET_50 + 2048 * 256 + 2 * 256 + 6 * (256 * 5 + 5)


def test_every_weight_gets_a_gradient_from_the_sum_of_the_cross_entropies(images):
    torch.manual_seed(0)
    model = PCB(5, size=SIZE).train()
    output, labels = model(images), torch.tensor([0, 0, 1, 1])
    loss = losses.cross_entropy(output, labels)
    by_hand = sum(functional.cross_entropy(logits, labels) for logits in output.logits)
    assert torch.allclose(loss, by_hand)
    loss.backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_other_numbers_of_stripes_and_widths(images):
    with torch.inference_mode():
        output = PCB(5, size=SIZE, stripes=4, width=32, descriptor="H").eval()(images)
    assert output.embedding.shape == (4, 4 * 32)
    assert len(output.logits) == 4


@pytest.mark.parametrize(
    "wrong, words",
    [
        (dict(stripes=0), "stripes must be 1 or more"),
        (dict(stripes=9), "stripes=9 need as many rows; the map of stage 4 has 8 at size=\\(128, 64\\), last_stride=1"),
        (dict(last_stride=2), "stripes=6 need as many rows; the map of stage 4 has 4"),
        (dict(width=0), "width"),
        (dict(descriptor="g"), "descriptor"),
        (dict(last_stride=3), "last_stride"),
        (dict(depth=34), "depth"),
    ],
)
def test_impossible_switches_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        PCB(5, size=SIZE, **wrong)
