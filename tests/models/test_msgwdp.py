"""MSGWDP's parts against slow loops, and the released computation against what is known of it."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from reidlib.models.msgwdp import (
    C_P2,
    FIXED_WEIGHTS,
    MSGWDP,
    NON_LOCAL,
    RELEASED,
    RELEASED_JUNE,
    AdaptiveWeights,
    MultiScale,
    NonLocal,
    TinySpatialAttention,
    remainder_parts,
)
from reidlib.papers import msgwdp
from reidlib.spec import Row

SIZE = (128, 64)
WITHOUT_BRANCH = dict(paths=(), tsa=False, residual=False)
WITHOUT_PARTS = dict(parts=0, fusion="plain")


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def built(**options):
    torch.manual_seed(0)
    return MSGWDP(5, size=SIZE, **options)


@pytest.mark.parametrize("bare, weights", [(True, 10), (False, 14)])
def test_the_tiny_spatial_attention_has_ten_weights_and_four_of_normalisation(bare, weights):
    """L24 states ten."""
    assert sum(weight.numel() for weight in TinySpatialAttention(bare=bare).parameters()) == weights


@pytest.mark.parametrize("bare", [True, False])
def test_the_tiny_spatial_attention_is_one_mask_for_all_channels(bare):
    """Its four operations one by one, the convolution as a loop."""
    torch.manual_seed(0)
    attention = TinySpatialAttention(bare=bare).double().eval()
    for layer in () if bare else (attention.coarse[1], attention.scale[1]):
        nn.init.uniform_(layer.running_mean, -0.1, 0.1)
        nn.init.uniform_(layer.running_var, 0.1, 0.2)
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
                        coarse[y, column] += (
                            attention.coarse[0].weight[0, 0, j, i].detach() * x[0, :, row, place].mean()
                        )
    behind = (nn.Identity(), nn.Identity()) if bare else (attention.coarse[1:], attention.scale[1:])
    resized = functional.interpolate(behind[0](coarse[None, None]), size=(8, 4), mode="bilinear", align_corners=True)
    expected = torch.sigmoid(behind[1](attention.scale[0].weight * resized))
    assert torch.allclose(mask, expected)
    assert bare or (mask.min() >= 0.5 and mask.max() > 0.5)


@pytest.mark.parametrize("form", NON_LOCAL)
def test_the_non_local_module_is_a_weighted_sum_over_all_positions(form):
    """Its attention written as a loop over pairs of positions, then BN and the sum with the input."""
    torch.manual_seed(0)
    module = NonLocal(8, form).double().eval()
    x = torch.randn(1, 8, 3, 2, dtype=torch.double)
    assert torch.equal(module(x), x), "it starts as the identity"
    nn.init.ones_(module.norm.weight)
    module.norm.running_mean.normal_()
    module.norm.running_var.uniform_(0.5, 2)
    theta, phi, g = (layer(x)[0].flatten(1).detach() for layer in (module.theta, module.phi, module.g))  # 4 or 1 × 6
    assert len(theta) == (1 if form == "one channel" else 4)
    gathered = torch.zeros_like(g)
    for i in range(6):
        products = torch.tensor([theta[:, i] @ phi[:, j] for j in range(6)], dtype=torch.double)
        weights = products.exp() / products.exp().sum() if form == "embedded Gaussian" else products / 6
        for j in range(6):
            gathered[:, i] += weights[j] * g[:, j]
    expected = x + module.norm(module.out(gathered.reshape(1, -1, 3, 2)))
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


@pytest.mark.parametrize("attention", ["", "without 3x3", "every path"])
def test_the_branch_released_in_july_sees_no_arrangement_of_the_map(attention):
    """All its layers are linear up to the pooling, so that away from the border places do not count; masks make them
    count."""
    torch.manual_seed(0)
    branch = MultiScale(C_P2, attention)
    inner = torch.rand(1, 2048, 4, 3) + torch.rand(1, 1, 4, 3)  # places that differ in the mean over channels
    shuffled = inner.flatten(2)[:, :, torch.randperm(12)].reshape(inner.shape)
    with torch.inference_mode():
        maps = [functional.pad(values, (4, 4, 4, 4)) for values in (inner, shuffled)]
        pooled = [branch(map_)[0].mean((2, 3)) for map_ in maps]
    assert torch.allclose(*pooled, atol=1e-6) == (attention == "")


def test_each_path_has_a_mask_of_its_own_before_the_join(images):
    with torch.inference_mode():
        model = built().eval()
        maps, branch = model(images).maps, model.multi_scale
        paths = [path(maps["stage4"]) for path in branch.paths.values()]
        masked = [branch.masks[name](path) * path for name, path in zip(C_P2, paths, strict=True)]
        expected = branch.join(torch.cat(masked, dim=1)) + maps["stage4"]
        own = [
            torch.equal(maps[f"TSA {name}"], branch.masks[name](path)) for name, path in zip(C_P2, paths, strict=True)
        ]
    assert all(own)
    assert torch.allclose(maps["multi-scale global"], expected, atol=1e-5)
    assert {maps[f"TSA {name}"].shape for name in C_P2} == {(4, 1, 8, 4)}


def test_the_release_of_june_has_its_last_3x3_twice_in_the_place_of_its_mask():
    torch.manual_seed(0)
    branch, stage4 = MultiScale(C_P2, "without 3x3").eval(), torch.rand(1, 2048, 4, 3)
    with torch.inference_mode():
        found, masks = branch(stage4)
        outputs = {name: path(stage4) for name, path in branch.paths.items()}
        outputs = {name: branch.masks[name](map_) * map_ if name in branch.masks else branch.paths[name][2](map_)
                   for name, map_ in outputs.items()}  # fmt: skip
        assert torch.allclose(found, branch.join(torch.cat(list(outputs.values()), dim=1)), atol=1e-6)
    assert set(masks) == set(C_P2) - {"3x3"}


def test_shapes_shares_and_features_of_the_whole_model(images):
    with torch.inference_mode():
        output = built().eval()(images)
    assert output.embedding.shape == (4, 1024)
    assert [tuple(logits.shape) for logits in output.logits] == [(4, 5)] * 9
    assert output.shares == pytest.approx((1 / 2, 1 / 2, 1, *[1 / 6] * 6))
    assert [vector.shape[1] for vector in output.features] == [2048, 2048, 1024, 1024]
    assert output.maps["stage3"].shape == (4, 1024, 8, 4)


@pytest.mark.parametrize("released", [RELEASED, RELEASED_JUNE], ids=["July", "June"])
def test_shapes_shares_and_features_as_released(images, released):
    with torch.inference_mode():
        model = built(**released).eval()
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


def test_the_pooled_descriptor_is_what_the_heads_take_in(images):
    with torch.inference_mode():
        heads, pooled = built().eval(), built(descriptor="pooled").eval()
        output = pooled(images)
        three, four = (output.maps[f"stage{stage}"] for stage in (3, 4))
        sums = [map_.mean((2, 3)) + map_.amax((2, 3)) for map_ in (three, four)]
        assert torch.allclose(output.embedding, torch.cat(sums, dim=1))
        assert output.embedding.shape == (4, 3072)
        assert torch.equal(output.logits[0], heads(images).logits[0])


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
        RELEASED_JUNE,
        dict(fusion="adaptive by channel", non_local="embedded Gaussian", attention="ten weights"),
        dict(paths=("1x1", "5x5", "3x3", "maximum"), **WITHOUT_PARTS),
        dict(**WITHOUT_BRANCH, nonlocal_after=(), stages=(4,), parts=4, fusion="fixed", remainder="others"),
    ],
    ids=[
        "whole",
        "released in July",
        "in June",
        "the other forms",
        "maximum path, no parts",
        "no branch, fixed fusion",
    ],
)
def test_every_weight_gets_a_gradient(images, options):
    model = built(**options).train()
    for module in model.non_local.values():
        nn.init.ones_(module.norm.weight)  # at its start, 0, nothing before it has a gradient
    output = model(images)
    labels = torch.tensor([0, 0, 1, 1])
    identity = sum(
        share * functional.cross_entropy(logits, labels)
        for share, logits in zip(output.shares, output.logits, strict=True)
    )
    (identity + sum(vector.pow(2).mean() for vector in output.features)).backward()
    idle = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []


@pytest.mark.parametrize(
    "size, parts", [((192, 64), 6), ((384, 128), 6), ((384, 64), 8), ((256, 128), 4), ((128, 64), 8)]
)
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
        (dict(non_local="Gaussian"), "non_local must be"),
        (dict(attention="June"), "attention must be"),
        (dict(descriptor="G"), "descriptor must be"),
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


def test_options_without_effect_are_in_no_key():
    """So the records of networks without Non-local modules and TSA kept theirs when these options came."""
    plain = dict(**WITHOUT_BRANCH, nonlocal_after=())
    base = replace(msgwdp.FULL, options=plain)
    other = replace(msgwdp.FULL, options=plain | dict(non_local="one channel", attention="ten weights"))
    assert base.trained() == other.trained() and "descriptor" not in base.tested()
    keys = [msgwdp.FULL.but(Row("", options=options)) for options in (dict(non_local="one channel"), {})]
    assert keys[0].trained() != keys[1].trained()
    pooled = msgwdp.FULL.but(Row("", options=dict(descriptor="pooled")))
    assert pooled.trained() == msgwdp.FULL.trained() and pooled.tested()["descriptor"] == "pooled"
