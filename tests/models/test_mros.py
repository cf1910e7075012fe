"""MROS's stripes against slow loops, its settings I to IV against what Table 1 says they change."""

import pytest
import torch
from torch import nn

from reidlib import losses
from reidlib.models.mros import MROS
from reidlib.models.output import Output

SIZE = (128, 64)
RESNET_50 = 23_508_032  # weights of ResNet-50 without its classifier
STAGE_4 = 14_964_736  # of these, the weights of its last stage

SETTINGS = {
    "I": dict(stages=(4,), overlapping=False, global_features=False),
    "II": dict(stages=(4,), global_features=False),
    "III": dict(stages=(4,)),
    "IV": {},
}
LABELS = torch.tensor([0, 0, 1, 1])


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def build(size=SIZE, **options):
    torch.manual_seed(0)
    return MROS(5, size=size, **options)


def slow_stripes(tensor, stripes, overlapping):
    """Every row that a stripe, or a pair of adjacent stripes, touches; then the mean of its pixels, one by one."""
    count, channels, height, width = tensor.shape
    vectors = []
    for stripe in range(stripes - overlapping):
        total, pixels = torch.zeros(count, channels, dtype=tensor.dtype), 0
        for y in range(height):
            # Row y spans [y, y + 1) of the height, a stripe [i, i + 1) · height / stripes: they touch if both hold.
            top, bottom = stripe * height, (stripe + 1 + overlapping) * height
            if (y + 1) * stripes > top and y * stripes < bottom:
                for x in range(width):
                    total += tensor[:, :, y, x]
                    pixels += 1
        vectors.append(total / pixels)
    return vectors


@pytest.mark.parametrize("overlapping", [True, False])
@pytest.mark.parametrize("height", [24, 16, 12, 8])
def test_stripes_and_pairs_against_a_slow_loop(height, overlapping):
    """Heights of the maps at 384×128, 256×128 (which six does not divide), 192×64 and 128×64."""
    tensor = torch.rand(2, 3, height, 4, dtype=torch.double)
    model = build(overlapping=overlapping)
    ours, slow = model._stripe_vectors(tensor), slow_stripes(tensor, 6, overlapping)
    assert len(ours) == len(slow) == (5 if overlapping else 6)
    assert all(torch.allclose(a, b) for a, b in zip(ours, slow, strict=True))


def test_at_the_papers_input_a_pair_is_eight_rows_and_moves_by_four():
    tensor = torch.arange(24.0).view(1, 1, 24, 1).expand(1, 1, 24, 8)
    assert [float(vector) for vector in build()._stripe_vectors(tensor)] == [3.5, 7.5, 11.5, 15.5, 19.5]
    single = build(overlapping=False)._stripe_vectors(tensor)
    assert [float(vector) for vector in single] == [1.5, 5.5, 9.5, 13.5, 17.5, 21.5]
    means = [(float(a) + float(b)) / 2 for a, b in zip(single, single[1:], strict=False)]
    assert means == [3.5, 7.5, 11.5, 15.5, 19.5], "equal stripes: a pair is the mean of its two"


@pytest.mark.parametrize("size, rows", [((384, 128), (24, 8)), ((256, 128), (16, 8))])
def test_the_complete_model_at_two_sizes(size, rows):
    with torch.inference_mode():
        output = MROS(751, size=size).eval()(torch.rand(1, 3, *size))
    assert output.maps["T3"].shape == (1, 1024, *rows)
    assert output.maps["T4"].shape == (1, 2048, *rows)
    assert output.embedding.shape == (1, 15_360)  # 5 × 1024 + 5 × 2048
    assert [logits.shape for logits in output.logits] == [(1, 751)] * 10


@pytest.mark.parametrize(
    "setting, heads, length, features",
    [
        ("I", [2048] * 6, 12_288, [2048] * 6),
        ("II", [2048] * 5, 10_240, [2048] * 5),
        ("III", [2048] * 5, 10_240, [10_240]),
        ("IV", [1024] * 5 + [2048] * 5, 15_360, [15_360]),
    ],
)
def test_what_each_setting_of_table_1_has(images, setting, heads, length, features):
    model = build(**SETTINGS[setting]).eval()
    assert [bn.num_features for bn in model.bn] == heads
    assert [fc.in_features for fc in model.fc] == heads
    with torch.inference_mode():
        output = model(images)
    assert output.embedding.shape == (4, length)
    assert [vectors.shape[1] for vectors in output.features] == features
    assert [logits.shape for logits in output.logits] == [(4, 5)] * len(heads)
    assert output.shares == pytest.approx([1 / len(heads)] * len(heads)), "eq. (4): a mean"
    assert list(output.maps) == (["T3", "T4"] if setting == "IV" else ["T4"])


def test_settings_ii_and_iii_differ_only_in_what_the_metric_losses_see(images):
    """The same weights give the same descriptor and logits; G is the join of the g, so its distances add up."""
    second, third = (build(**SETTINGS[setting]).eval() for setting in ("II", "III"))
    with torch.inference_mode():
        local, joined = second(images), third(images)
    assert torch.equal(local.embedding, joined.embedding)
    assert all(torch.equal(a, b) for a, b in zip(local.logits, joined.logits, strict=True))
    assert torch.equal(torch.cat(local.features, dim=1), joined.features[0])
    apart, together = (losses.triplet(output, LABELS, margin=0.3) for output in (local, joined))
    assert not torch.allclose(apart, together)


def test_the_fourth_setting_adds_the_third_level_in_front(images):
    third, fourth = build(**SETTINGS["III"]).eval(), build().eval()
    fourth.backbone.load_state_dict(third.backbone.state_dict())
    with torch.inference_mode():
        less, more = third(images), fourth(images)
    assert torch.equal(more.embedding[:, 5 * 1024 :], less.embedding)
    assert torch.allclose(more.embedding[:, :1024], more.maps["T3"][:, :, 0:3].mean((2, 3)))  # rows of stripes 1 and 2


def test_the_head_is_bn_then_fc_and_the_descriptor_stands_before_bn(images):
    model = build(descriptor="H").train()
    with torch.inference_mode():
        output = model(images)
        g = output.features[0].split([1024] * 5 + [2048] * 5, dim=1)
        h = output.embedding.split([1024] * 5 + [2048] * 5, dim=1)
        for before, after, logits, fc in zip(g, h, output.logits, model.fc, strict=True):
            varies = before.var(0, correction=0) > 1e-2  # where BN's ε does not show
            assert torch.allclose(after.mean(0), torch.zeros_like(after[0]), atol=1e-4)
            assert torch.allclose(after.var(0, correction=0)[varies], torch.ones(()), atol=2e-3)
            assert torch.allclose(fc(after), logits, atol=1e-6)
    assert torch.equal(build(descriptor="G").eval()(images).features[0], build().eval()(images).embedding)


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_weight_gets_a_gradient_from_the_losses_of_equation_5(images, setting):
    model = build(**SETTINGS[setting]).train()
    output = model(images)
    centre = losses.Centre(5, [vectors.shape[1] for vectors in output.features], rate=1.0)
    by_name = {
        "triplet": losses.triplet(output, LABELS, margin=0.3),
        "centre": 0.0005 * centre(output, LABELS),
        "cross_entropy": losses.cross_entropy(output, LABELS, smoothing=0.1),
    }
    mean = torch.stack([nn.functional.cross_entropy(x, LABELS, label_smoothing=0.1) for x in output.logits]).mean()
    assert torch.allclose(by_name["cross_entropy"], mean), "eq. (4)"
    sum(by_name.values()).backward()
    idle = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_weight_is_built_that_the_cross_entropy_alone_would_leave_idle(images, setting):
    """The metric losses reach the backbone alone; the heads learn from the cross-entropy."""
    model = build(**SETTINGS[setting]).train()
    losses.triplet(model(images), LABELS, margin=0.3).backward()
    reached = {name.split(".")[0] for name, weight in model.named_parameters() if weight.grad is not None}
    assert reached == {"backbone"}
    model.zero_grad()
    losses.cross_entropy(model(images), LABELS).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())


def test_the_weights_of_the_complete_model_counted_by_hand():
    """ResNet-50; 2 a channel in each BN; (channels + 1) × K in each FC."""
    count = sum(weight.numel() for weight in build().parameters())
    assert count == RESNET_50 + 5 * 2 * (1024 + 2048) + 5 * 5 * (1025 + 2049)


def test_the_weights_of_the_first_setting_counted_by_hand():
    assert sum(weight.numel() for weight in build(**SETTINGS["I"]).parameters()) == RESNET_50 + 6 * (4096 + 5 * 2049)


def test_a_model_of_block_3_alone_and_the_stride_of_block_4(images):
    """Sub-switches that no row of the tables turns."""
    with torch.inference_mode():
        halved = MROS(5, size=(256, 64), stripes=4, last_stride=2).eval()(torch.rand(1, 3, 256, 64))
    assert halved.maps["T3"].shape[2:] == (16, 4)
    assert halved.maps["T4"].shape[2:] == (8, 2)
    assert halved.embedding.shape == (1, 3 * (1024 + 2048))
    with torch.inference_mode():
        assert not torch.equal(build().eval()(images).embedding, build(overlapping=False).eval()(images).embedding)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (dict(stages=()), "stages"),
        (dict(stages=(4, 4)), "stages must be one or more distinct"),
        (dict(stages=(5,)), "stages"),
        (dict(stripes=1), "overlapping needs two stripes"),
        (dict(stripes=0, overlapping=False), "stripes must be 1 or more"),
        (dict(stripes=9), "stripes=9 need as many rows; the map of stage 3 has 8"),
        (dict(last_stride=2), "the map of stage 4 has 4 at size=\\(128, 64\\), last_stride=2"),
        (dict(descriptor="g"), "descriptor"),
        (dict(depth=34), "depth"),
    ],
)
def test_impossible_switches_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        build(**wrong)


def test_what_it_returns_is_the_contract(images):
    assert isinstance(build().eval()(images), Output)
