"""MSGWDP's parts against slow loops, and the released computation against what is known of it."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from reidlib.models.msgwdp import (
    C_P2,
    FIXED_WEIGHTS,
    MSGWDP,
    RELEASED,
    AdaptiveWeights,
    MultiScale,
    NonLocal,
    TinySpatialAttention,
    remainder_parts,
)

SIZE = (128, 64)
WITHOUT_BRANCH = dict(paths=(), tsa=False, residual=False)
WITHOUT_PARTS = dict(parts=0, fusion="plain")


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def built(**options):
    torch.manual_seed(0)
    return MSGWDP(5, size=SIZE, **options)


def test_the_tiny_spatial_attention_has_ten_parameters():
    """L24 states the number."""
    assert sum(weight.numel() for weight in TinySpatialAttention().parameters()) == 10


def test_the_tiny_spatial_attention_is_one_mask_for_all_channels():
    """Its four operations one by one, the convolution as a loop."""
    attention = TinySpatialAttention().double()
    x = torch.rand(1, 3, 8, 4, dtype=torch.double)
    mask = attention(x)
    assert mask.shape == (1, 1, 8, 4)
    assert torch.equal(mask, attention(x.mean(1, keepdim=True).expand_as(x))), "only the mean over channels counts"
    coarse = torch.zeros(4, 2, dtype=torch.double)
    for y in range(4):
        for column in range(2):
            for j in range(3):
                for i in range(3):
                    row, place = 2 * y + j - 1, 2 * column + i - 1
                    if 0 <= row < 8 and 0 <= place < 4:
                        coarse[y, column] += attention.conv.weight[0, 0, j, i].detach() * x[0, :, row, place].mean()
    resized = functional.interpolate(coarse[None, None], size=(8, 4), mode="bilinear", align_corners=False)
    assert torch.allclose(mask, torch.sigmoid(attention.scale.weight * resized))


def test_the_non_local_module_is_the_weighted_mean_over_all_positions():
    """Its attention written as a loop over pairs of positions, then BN and the sum with the input."""
    torch.manual_seed(0)
    module = NonLocal(8).double().eval()
    module.norm.running_mean.normal_()
    module.norm.running_var.uniform_(0.5, 2)
    x = torch.randn(1, 8, 3, 2, dtype=torch.double)
    theta, phi, g = (layer(x)[0].flatten(1).detach() for layer in (module.theta, module.phi, module.g))  # 4 × 6
    gathered = torch.zeros_like(g)
    for i in range(6):
        weights = torch.tensor([torch.exp(theta[:, i] @ phi[:, j]) for j in range(6)], dtype=torch.double)
        for j in range(6):
            gathered[:, i] += weights[j] / weights.sum() * g[:, j]
    expected = x + module.norm(module.out(gathered.reshape(1, 4, 3, 2)))
    assert torch.allclose(module(x), expected)


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_the_remainder_part_is_the_sum_of_the_neighbours(parts):
    """L30: one or two neighbours."""
    x = torch.randn(2, parts, 7)
    remainders = remainder_parts(x)
    for part in range(parts):
        neighbours = [x[:, other] for other in (part - 1, part + 1) if 0 <= other < parts]
        assert torch.equal(remainders[:, part], sum(neighbours))


def test_the_parts_at_both_ends_have_one_neighbour():
    x = torch.randn(2, 6, 7)
    assert torch.equal(remainder_parts(x)[:, 0], x[:, 1])
    assert torch.equal(remainder_parts(x)[:, 5], x[:, 4])


def test_the_released_remainder_is_the_sum_of_all_other_parts():
    x = torch.randn(2, 4, 7, dtype=torch.double)
    for part in range(4):
        others = sum(x[:, other] for other in range(4) if other != part)
        assert torch.allclose(remainder_parts(x, "others")[:, part], others)


@pytest.mark.parametrize("by_channel, width", [(False, 1), (True, 32)])
def test_adaptive_weights_are_sigmoids_of_two_layers(by_channel, width):
    weights = AdaptiveWeights(32, by_channel=by_channel)
    given = weights(torch.randn(2, 6, 32))
    assert given.shape == (2, 6, width)
    assert (given > 0).all() and (given < 1).all()
    assert len([module for module in weights.modules() if isinstance(module, nn.Linear)]) == 2


def test_the_adaptive_fusion_weighs_each_part_and_its_remainder():
    model = built().eval()
    stage4 = torch.rand(2, 2048, 12, 4)
    fused = model.fused_parts(stage4)
    parts = [stage4[:, :, 2 * part : 2 * part + 2].mean((2, 3)) for part in range(6)]
    for part in range(6):
        remainder = sum(parts[other] for other in (part - 1, part + 1) if 0 <= other < 6)
        expected = model.part_weights(parts[part]) * parts[part] + model.part_weights(remainder) * remainder
        assert torch.allclose(fused[:, part], expected, atol=1e-6)


def test_the_fixed_fusion_has_the_released_weights():
    stage4 = torch.rand(2, 2048, 8, 4)
    model = built(parts=4, fusion="fixed", remainder="others")
    parts = stage4.unflatten(2, (4, 2)).mean((3, 4)).transpose(1, 2)  # B × 4 × 2048
    expected = FIXED_WEIGHTS[0] * parts + FIXED_WEIGHTS[1] * remainder_parts(parts, "others")
    assert torch.allclose(model.fused_parts(stage4), expected, atol=1e-6)


def test_no_part_of_the_released_computation_sees_another():
    """The released file overwrites its fused parts: its fusion weights reach no classifier, and are not built here."""
    model = built(**RELEASED).eval()
    assert model.part_weights is None
    stage4 = torch.rand(1, 2048, 8, 4)
    changed = stage4.clone()
    changed[:, :, 6:] += 100  # the last of four parts
    before, after = model.fused_parts(stage4), model.fused_parts(changed)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])
    fixed = built(parts=4, fusion="fixed", remainder="others").eval()
    assert not torch.allclose(fixed.fused_parts(stage4)[:, 0], fixed.fused_parts(changed)[:, 0])


def test_the_released_branch_sees_no_arrangement_of_the_map():
    """All its layers are linear up to the pooling, so that away from the border places do not count; the TSA's mask
    makes them count."""
    torch.manual_seed(0)
    branch, attention = MultiScale(C_P2), TinySpatialAttention()
    inner = torch.rand(1, 2048, 4, 3) + torch.rand(1, 1, 4, 3)  # places that differ in the mean over channels
    shuffled = inner.flatten(2)[:, :, torch.randperm(12)].reshape(inner.shape)
    with torch.inference_mode():
        maps = [functional.pad(values, (3, 3, 3, 3)) for values in (inner, shuffled)]
        plain = [branch(map_).mean((2, 3)) for map_ in maps]
        masked = [(attention(map_) * branch(map_)).mean((2, 3)) for map_ in maps]
    assert torch.allclose(*plain, atol=1e-6)
    assert not torch.allclose(*masked, atol=1e-4)


def test_the_branch_ends_in_its_masked_map_plus_stage_4(images):
    with torch.inference_mode():
        model = built().eval()
        maps = model(images).maps
        mask = model.tsa(maps["stage4"])
        expected = mask * model.multi_scale(maps["stage4"]) + maps["stage4"]
    assert torch.equal(maps["TSA"], mask)
    assert torch.allclose(maps["multi-scale global"], expected, atol=1e-5)
    assert maps["TSA"].shape == (4, 1, 8, 4)


def test_shapes_shares_and_features_of_the_whole_model(images):
    with torch.inference_mode():
        output = built().eval()(images)
    assert output.embedding.shape == (4, 1024)
    assert [tuple(logits.shape) for logits in output.logits] == [(4, 5)] * 9
    assert output.shares == pytest.approx((1 / 2, 1 / 2, 1, *[1 / 6] * 6))
    assert [vector.shape[1] for vector in output.features] == [2048, 2048, 1024, 1024]
    assert output.maps["stage3"].shape == (4, 1024, 8, 4)


def test_shapes_shares_and_features_as_released(images):
    with torch.inference_mode():
        model = built(**RELEASED).eval()
        output = model(images)
    assert output.embedding.shape == (4, 1024)
    assert output.shares == pytest.approx((1 / 2, 1 / 2, 1, *[1 / 4] * 4))
    for vector, stage in zip(output.features, ("stage4", "stage3"), strict=True):
        assert torch.allclose(vector, output.maps[stage].mean((2, 3)))
    assert model.multi_scale.join.in_channels == 4096


def test_a_head_sees_the_sum_of_both_poolings(images):
    with torch.inference_mode():
        model = built(**WITHOUT_BRANCH, **WITHOUT_PARTS).eval()
        output = model(images)
        map_ = output.maps["stage4"]
        embedded, logits = model.stage_heads["4"](map_.mean((2, 3)) + map_.amax((2, 3)))
    assert torch.allclose(output.logits[0], logits)
    assert torch.allclose(output.embedding[:, 512:], embedded)


@pytest.mark.parametrize("stages, length", [((3, 4), 1024), ((4,), 512)])
def test_without_branch_and_parts_the_stages_remain(images, stages, length):
    with torch.inference_mode():
        output = built(**WITHOUT_BRANCH, **WITHOUT_PARTS, nonlocal_after=(), stages=stages).eval()(images)
    assert output.embedding.shape == (4, length)
    assert output.shares == (1 / len(stages),) * len(stages)


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        RELEASED,
        dict(fusion="adaptive by channel"),
        dict(paths=("1x1", "5x5", "3x3", "maximum"), **WITHOUT_PARTS),
        dict(**WITHOUT_BRANCH, nonlocal_after=(), stages=(4,), parts=4, fusion="fixed", remainder="others"),
    ],
    ids=["whole", "as released", "by channel", "maximum path, no parts", "no branch, fixed fusion"],
)
def test_every_weight_gets_a_gradient(images, options):
    model = built(**options).train()
    output = model(images)
    labels = torch.tensor([0, 0, 1, 1])
    identity = sum(
        share * functional.cross_entropy(logits, labels)
        for share, logits in zip(output.shares, output.logits, strict=True)
    )
    (identity + sum(vector.pow(2).mean() for vector in output.features)).backward()
    idle = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []


@pytest.mark.parametrize("size, parts", [((192, 64), 6), ((256, 128), 6), ((128, 64), 8)])
def test_every_budgets_size_can_be_cut_into_the_parts(size, parts):
    with torch.inference_mode():
        output = MSGWDP(3, size=size, parts=parts).eval()(torch.rand(1, 3, *size))
    assert len(output.logits) == 3 + parts


@pytest.mark.parametrize(
    "wrong, words",
    [
        (dict(nonlocal_after=(1, 1)), "nonlocal_after"),
        (dict(nonlocal_after=(5,)), "nonlocal_after"),
        (dict(stages=(3,)), "stages"),
        (dict(pooling="maximum"), "pooling"),
        (dict(paths=("7x7",)), "paths"),
        (dict(paths=("1x1", "1x1")), "paths"),
        (dict(paths=(), residual=False), "tsa belongs"),
        (dict(paths=(), tsa=False), "residual belongs"),
        (dict(fusion="learned"), "fusion must be"),
        (dict(remainder="both"), "remainder must be"),
        (dict(parts=-1, fusion="plain"), "parts must be"),
        (dict(parts=0), "needs two parts"),
        (dict(parts=1), "needs two parts"),
        (dict(fusion="plain", remainder="others"), "no meaning"),
        (dict(parts=9), "8 rows"),
    ],
)
def test_impossible_switches_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        MSGWDP(5, size=SIZE, **wrong)
