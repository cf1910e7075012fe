"""SafeNet's parts against slow loops and the paper's own numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from reidlib.models.backbone import CHANNELS, Backbone, imagenet_file, stage_size
from reidlib.models.safenet import AFTER_BOTTLENECK, ANCHOR_KERNELS, DESCRIPTORS, Anchors, SafeNet, ScaleNormalisation
from reidlib.spec import ReidError

SIZE = (128, 64)


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(256, 128), (192, 64), (128, 64)])
def test_stage_maps_have_the_strides_of_section_3_2(size):
    with torch.inference_mode():
        maps = Backbone().eval()(torch.rand(1, 3, *size))
    for stage, stride in {1: 4, 2: 8, 3: 16, 4: 32}.items():
        assert maps[stage].shape == (1, CHANNELS[stage], size[0] // stride, size[1] // stride)
        assert stage_size(size, stage) == maps[stage].shape[2:]


def test_an_anchor_is_the_sum_over_channels_of_equation_s2():
    """lk = Σn ln ⊗ anchor_kn, written out pixel by pixel, then l = lh + lv + ls."""
    torch.manual_seed(0)
    anchors = Anchors(3, ANCHOR_KERNELS["middle"]).double()
    map_ = torch.rand(3, 8, 4, dtype=torch.double)
    expected = torch.zeros(4, 2, dtype=torch.double)
    for name, (high, wide) in ANCHOR_KERNELS["middle"].items():
        weight = anchors.get_submodule(name).weight[0]
        pad_y, pad_x = {"horizontal": (1, 3), "vertical": (3, 1), "square": (2, 2)}[name]  # Table 1
        for y in range(4):
            for x in range(2):
                total = torch.zeros((), dtype=torch.double)
                for n in range(3):
                    for j in range(high):
                        for i in range(wide):
                            row, column = 2 * y + j - pad_y, 2 * x + i - pad_x
                            if 0 <= row < 8 and 0 <= column < 4:
                                total = total + map_[n, row, column] * weight[n, j, i]
                expected[y, x] += total
    assert torch.allclose(anchors(map_[None])[0, 0], expected)


@given(
    height=st.integers(1, 16).map(lambda n: 2 * n),
    width=st.integers(1, 16).map(lambda n: 2 * n),
    size=st.sampled_from(["small", "middle", "large"]),
)
@settings(max_examples=30, deadline=None)
def test_all_anchors_halve_every_even_map(height, width, size):
    for name, kernel in ANCHOR_KERNELS[size].items():
        padding = tuple((side - 1) // 2 for side in kernel)
        if height + 2 * padding[0] >= kernel[0] and width + 2 * padding[1] >= kernel[1]:
            map_ = Anchors(1, {name: kernel})(torch.zeros(1, 1, height, width))
            assert map_.shape[2:] == (height // 2, width // 2)


def test_scale_normalisation_is_trunk_plus_shortcut_and_nothing_after():
    torch.manual_seed(0)
    module = ScaleNormalisation(8, 4).eval()
    g = torch.randn(2, 8, 6, 3)
    assert torch.allclose(module(g), module.trunk(g) + module.shortcut(g))
    assert (module(g) < 0).any(), "eq. (S.1) ends with the sum: no ReLU may follow"
    assert [tuple(m.kernel_size) for m in module.trunk if isinstance(m, nn.Conv2d)] == [(1, 1), (3, 3), (1, 1)]


def test_lengths_of_the_final_model_at_the_papers_input():
    """4C global entries, and one map an anchor: 512 and 128 local entries for l1 and l2 at 256×128."""
    model = SafeNet(751, size=(256, 128))
    assert model.bottleneck[0].in_features == 4 * 256 + 512 + 128
    assert model.bottleneck[0].out_features == 1024
    assert model.classifier.out_features == 751


@pytest.mark.parametrize("descriptor", DESCRIPTORS)
def test_the_descriptor_is_what_its_name_says(images, descriptor):
    torch.manual_seed(0)
    model = SafeNet(5, size=SIZE, descriptor=descriptor).eval()
    with torch.inference_mode():
        output = model(images)
        length = {"global": 1024, "fused": 1024 + 128 + 32, "bottleneck": 1024, "classifier": 5}[descriptor]
        assert output.embedding.shape == (2, length)
        if descriptor == "classifier":
            assert torch.equal(output.embedding, output.logits[0])
        if descriptor == "bottleneck":
            assert torch.allclose(model.classifier(output.embedding), output.logits[0])
        if descriptor == "fused":
            assert torch.allclose(model.bottleneck(output.embedding), output.features[0])


@pytest.mark.parametrize("after", AFTER_BOTTLENECK)
def test_the_block_of_two_layers_is_open_reids_or_linear(images, after):
    """Linear → BatchNorm → ReLU → dropout 0.5 → classifier, or without the two in the middle."""
    torch.manual_seed(0)
    model = SafeNet(5, size=SIZE, after_bottleneck=after).eval()
    with torch.inference_mode():
        fused = torch.randn(4, 1024 + 128 + 32)
        linear = model.bottleneck[:2](fused)
        assert torch.equal(model.bottleneck(fused), linear.relu() if after == "ReLU, dropout" else linear)
        dropped = model.train().bottleneck(fused)
    zeros = float((dropped == 0).double().mean())
    assert zeros == pytest.approx(0.75 if after == "ReLU, dropout" else 0, abs=0.03)


def test_untrained_local_entries_vary_about_three_times_as_much_as_pooled_ones():
    """The reason given for "fusion": nothing before the bottleneck brings the two to one scale."""
    torch.manual_seed(0)
    model = SafeNet(5, size=SIZE, descriptor="fused").train()
    with torch.inference_mode():
        fused = model(torch.randn(16, 3, *SIZE)).embedding
    pooled, local = fused[:, :1024].std(0).mean(), fused[:, 1024:].std(0).mean()
    assert 2 < local / pooled < 5


def test_how_new_layers_start():
    """Fan out but for the anchors: there it would give weights some forty times as large as torch's default."""
    torch.manual_seed(0)
    model = SafeNet(751, size=(256, 128)).requires_grad_(False)
    horizontal = model.anchors["1"].horizontal.weight
    assert horizontal.std() == pytest.approx((1 / (3 * 256 * 4 * 8)) ** 0.5, rel=0.05)
    assert (2 / (4 * 8)) ** 0.5 / horizontal.std() == pytest.approx(40, rel=0.1)
    assert model.global_normalisation["1"].shortcut.weight.std() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    assert model.bottleneck[0].weight.std() == pytest.approx((2 / 1024) ** 0.5, rel=0.02)
    assert model.classifier.weight.std() == pytest.approx(0.001, rel=0.02)
    assert not model.bottleneck[0].bias.any() and not model.classifier.bias.any()


@pytest.mark.parametrize("left_out", ["horizontal", "vertical", "square"])
def test_leaving_an_anchor_out_leaves_the_others_in_place(images, left_out):
    anchors = [name for name in ANCHOR_KERNELS["middle"] if name != left_out]
    model = SafeNet(5, size=SIZE, anchors=anchors).eval()
    assert [name for name, _ in model.anchors["1"].named_children()] == anchors
    with torch.inference_mode():
        assert model(images).maps["l1"].shape == (2, 1, 16, 8)


@pytest.mark.parametrize("size", ["small", "large"])
def test_the_other_anchor_sizes_give_maps_of_the_same_size(images, size):
    with torch.inference_mode():
        assert SafeNet(5, size=SIZE, anchor_size=size).eval()(images).maps["l1"].shape == (2, 1, 16, 8)


def test_resnet_101_is_deeper():
    assert len(SafeNet(5, size=SIZE, depth=101).backbone.stage3) == 23


@pytest.mark.parametrize(
    "wrong, words",
    [
        (dict(global_scales=()), "one or more"),
        (dict(global_scales=(4, 4)), "distinct stages"),
        (dict(local_scales=(5,)), "distinct stages"),
        (dict(channels=None), "normalised maps"),
        (dict(anchors=()), "anchors must be some of"),
        (dict(anchor_size="huge"), "anchor_size"),
        (dict(descriptor="last"), "descriptor"),
        (dict(after_bottleneck="dropout"), "after_bottleneck must be one of"),
        (dict(depth=34), "depth"),
    ],
)
def test_impossible_switches_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        SafeNet(5, size=SIZE, **wrong)


def test_imagenet_weights_are_found_loaded_and_checked(tmp_path, monkeypatch):
    import torchvision

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "none"))
    monkeypatch.delenv("REID_WEIGHTS", raising=False)
    assert imagenet_file(50) is None
    monkeypatch.setenv("REID_WEIGHTS", str(tmp_path))
    torch.manual_seed(1)
    whole = torchvision.models.resnet50()
    file = tmp_path / torchvision.models.ResNet50_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    torch.save(whole.state_dict(), file)
    assert imagenet_file(50) == file
    backbone = Backbone()
    backbone.load_weights(file)
    images = torch.rand(1, 3, *SIZE)
    with torch.inference_mode():
        x = whole.eval().maxpool(whole.relu(whole.bn1(whole.conv1(images))))
        x = whole.layer4(whole.layer3(whole.layer2(whole.layer1(x))))
        assert torch.equal(backbone.eval()(images)[4], x)
    with pytest.raises(ReidError, match="not the weights of a torchvision ResNet-101"):
        Backbone(101).load_weights(file)
    file.write_bytes(b"no weights")
    with pytest.raises(ReidError, match="not a torch state dict"):
        Backbone().load_weights(file)
