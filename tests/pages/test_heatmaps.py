"""Heat maps against the formula by hand, and every trap of Grad-CAM on embeddings with a network that falls into it."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import colormaps
from torch import nn

from reidlib.models.output import Output
from reidlib.models.safenet import SafeNet
from reidlib.pages import heatmaps
from reidlib.pages.heatmaps import activation, choose, grad_cam, output_map, panel, partners
from reidlib.spec import ReidError
from reidlib.standin.parts import BAG, HEAD, OTHER

CLASSES = 5


class Tiny(nn.Module):
    """Convolution, average over places, two linear classifiers: linear, so that Grad-CAM can be written out."""

    def __init__(self, after: nn.Module | None = None) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, stride=2)
        self.after = after or nn.Identity()
        self.first, self.second = nn.Linear(4, CLASSES), nn.Linear(4, CLASSES)

    def forward(self, images):
        map_ = self.after(self.convolution(images))
        pooled = map_.mean((2, 3))
        return Output(pooled, [self.first(pooled), self.second(pooled)], [pooled], {"mask": map_})


@pytest.fixture
def images():
    return torch.randn(4, 3, 13, 9, generator=torch.Generator().manual_seed(1))


def tiny(after: nn.Module | None = None) -> Tiny:
    torch.manual_seed(0)
    return Tiny(after)


# --- which pictures ---------------------------------------------------------------------------------------------------


def table(identities) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "path": [f"query/{who:04}_c{camera}.jpg" for who in identities for camera in (1, 2, 3)],
            "identity": [who for who in identities for _ in range(3)],
            "camera": [camera for _ in identities for camera in (1, 2, 3)],
            "split": "query",
        }
    )


def test_pictures_are_chosen_by_the_seed_one_a_person():
    frame = table([-1, 0, *range(1, 30)])
    chosen = choose(frame, 6, seed=3)
    assert chosen["identity"].nunique() == 6 and chosen["identity"].min() > 0
    assert choose(frame.sample(frac=1, random_state=1), 6, seed=3).equals(chosen)
    assert choose(frame, 4, seed=3).equals(chosen[:4])
    assert not choose(frame, 6, seed=4).equals(chosen)
    assert len({tuple(choose(frame, 1, seed=seed)["camera"]) for seed in range(20)}) == 3
    some = frame[frame["identity"].isin([*chosen["identity"][2:4], 28, 29])]
    order = [who for who in choose(some, 4, seed=3)["identity"] if who in set(chosen["identity"])]
    assert [who for who in chosen["identity"] if who in order] == order
    with pytest.raises(ReidError, match="30 images .* 29 people"):
        choose(frame, 30)


def test_a_partner_is_the_same_person_in_another_camera():
    frame = table(range(1, 10))
    chosen = choose(frame, 9)
    found = partners(chosen, frame)
    assert (found["identity"] == chosen["identity"]).all() and (found["camera"] != chosen["camera"]).all()
    assert partners(chosen, frame).equals(found)
    with pytest.raises(ReidError, match="no image from another camera"):
        partners(chosen, frame[frame["camera"] == 1])


# --- activations ------------------------------------------------------------------------------------------------------


def test_an_activation_is_the_manual_forward(images):
    model = tiny(nn.ReLU())
    assert torch.allclose(activation(model, images, "convolution"), model.convolution(images).mean(1))
    assert torch.allclose(activation(model, images, "after"), model.convolution(images).relu().mean(1))
    energy = model.convolution(images).square().mean(1).sqrt()
    assert torch.allclose(activation(model, images, "convolution", channels="energy"), energy)
    assert torch.allclose(heatmaps.output_map(model, images, "mask"), model(images).maps["mask"].mean(1))
    with pytest.raises(ReidError, match="no map 'musk'; choose one of mask"):
        heatmaps.output_map(model, images, "musk")
    with pytest.raises(ReidError, match="after has one value a channel for the whole image"):
        activation(tiny(nn.AdaptiveAvgPool2d(1)), images, "after")
    with pytest.raises(ReidError, match="way to join channels 'maximum'; choose one of mean, energy"):
        activation(model, images, "after", channels="maximum")


def test_the_three_anchors_of_safenet_sum_up_to_its_local_map():
    torch.manual_seed(0)
    model = SafeNet(4, size=(128, 64), channels=8, bottleneck=8, local_scales=(1,)).eval()
    images = torch.randn(2, 3, 128, 64)
    maps = [activation(model, images, f"anchors.1.{name}") for name in ("horizontal", "vertical", "square")]
    with torch.inference_mode():
        assert torch.allclose(sum(maps), model(images).maps["l1"][:, 0], atol=1e-5)


@pytest.mark.parametrize("ask", [activation, lambda *given: grad_cam(*given, [0] * 4)], ids=["activation", "cam"])
def test_errors_name_what_to_ask_for(ask, images):
    model = tiny(nn.Sequential(nn.ReLU(), nn.ReLU()))
    with pytest.raises(ReidError, match="no submodule 'convolutoin'; nearest: convolution"):
        ask(model, images, "convolutoin")
    with pytest.raises(ReidError, match=r"first gives no B×C×h×w map but shape \(4, 5\); try one of convolution"):
        ask(model, images, "first")
    model.groups = nn.ModuleDict({"1": nn.ReLU()})
    with pytest.raises(ReidError, match=r"groups does not run .* try one of groups.1"):
        ask(model, images, "groups")
    model.after[1] = model.after[0]
    with pytest.raises(ReidError, match="after.0 runs 2 times") as fault:
        ask(model, images, "after.0")
    # while the fault is kept, so is everything that it went through
    assert fault and not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ReidError, match="uint8"):
        ask(model, images.to(torch.uint8), "after")
    assert all(weight.requires_grad for weight in model.parameters()) and model.training


# --- Grad-CAM: the formula --------------------------------------------------------------------------------------------


def test_grad_cam_of_a_linear_network_is_the_formula(images):
    """Score = Σ w_k · mean of A_k + b: the mean gradient of channel k is w_k / places."""
    model, labels = tiny(), [0, 3, 1, 1]
    activations = model.convolution(images).detach()  # 4 × 4 × 6 × 4
    weights = (model.first.weight + model.second.weight)[labels].detach() / 2  # mean over the two classifiers
    signed = torch.einsum("bk,bkyx->byx", weights, activations) / (6 * 4)
    found = grad_cam(model, images, "convolution", labels)
    assert found.shape == (4, 6, 4) and found.dtype == torch.float32
    assert torch.allclose(found, signed.clamp(min=0), atol=1e-7)
    score = torch.stack([logits[range(4), labels] for logits in model(images).logits]).mean(0)
    bias = (model.first.bias + model.second.bias)[labels] / 2
    assert torch.allclose(signed.sum((1, 2)), score - bias, atol=1e-6)


def test_without_labels_the_class_with_the_largest_mean_logit_is_asked_for(images):
    """By hand: one channel, two places, two classes: scores 2·(1 + 3)/2 and −(1 + 3)/2, gradient 2/2 at each."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.classify = nn.Identity(), nn.Linear(1, 2, bias=False)
            self.classify.weight.data = torch.tensor([[-1.0], [2.0]])

        def forward(self, images):
            map_ = self.layer(images.mean(1, keepdim=True))
            return Output(map_.mean((2, 3)), [self.classify(map_.mean((2, 3)))], [], {})

    two = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert torch.allclose(grad_cam(Two(), two, "layer"), torch.tensor([[[1.0, 3.0]]]))
    assert torch.equal(grad_cam(Two(), two, "layer", [0]), torch.zeros(1, 1, 2))
    model = tiny(nn.ReLU())
    best = torch.stack(model(images).logits).mean(0).argmax(1).tolist()
    assert torch.equal(grad_cam(model, images, "after"), grad_cam(model, images, "after", best))


# --- Grad-CAM: the traps ----------------------------------------------------------------------------------------------


def test_every_image_of_a_batch_has_its_own_map(images):
    """The library pairs targets with images until the first runs out, and leaves the rest blank."""
    model = tiny()
    together = grad_cam(model, images, "convolution", [2] * 4)
    alone = torch.cat([grad_cam(model, image[None], "convolution", [2]) for image in images])
    assert (together.amax((1, 2)) > 0).all() and torch.allclose(together, alone, atol=1e-7)
    with pytest.raises(ReidError, match=r"labels \[0, 1\] for 4 images"):
        grad_cam(model, images, "convolution", [0, 1])


def test_an_unknown_class_is_an_error(images):
    """The library's own block swallows every IndexError."""
    for label in (CLASSES, -1):
        with pytest.raises(ReidError, match="5 classes"):
            grad_cam(tiny(), images, "convolution", [label] * 4)


@pytest.mark.parametrize("ask", [activation, lambda *given: grad_cam(*given, [1] * 4)], ids=["activation", "cam"])
def test_the_network_is_left_as_it_was(ask, images):
    """Training goes on after a map: modes (of a frozen part too), statistics, weights, gradients, hooks."""
    model = tiny(nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(inplace=True)))
    model.after[0].eval()
    model.first.weight.requires_grad_(False)
    torch.stack(model(images).logits).sum().backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    kept = {name: value.clone() for name, value in gradients.items() if value is not None}
    model.after[0].train()
    model.first.eval()
    ask(model, images, "convolution")
    assert model.training and model.after[1].training and not model.first.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for name, weight in model.named_parameters():
        assert weight.grad is gradients[name], name
        assert weight.requires_grad == (name != "first.weight")
        assert weight.grad is None or torch.equal(weight.grad, kept[name])
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("ask", [activation, lambda *given: grad_cam(*given, [1] * 4)], ids=["activation", "cam"])
def test_a_network_in_training_gives_the_map_of_its_test(ask, images):
    """Dropout and the batch's own statistics belong to training."""
    model = tiny(nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 4, 1)))
    assert torch.equal(ask(model.train(), images, "after.2"), ask(model.eval(), images, "after.2"))


@pytest.mark.parametrize("ask", [activation, lambda *given: grad_cam(*given, [1] * 4)], ids=["activation", "cam"])
def test_an_in_place_relu_behind_the_layer_changes_nothing(ask, images):
    """The library keeps the layer's own tensor on the CPU, and the ReLU writes into it."""
    found = ask(tiny(nn.ReLU(inplace=True)), images, "convolution")
    assert torch.equal(found, ask(tiny(nn.ReLU()), images, "convolution"))
    assert not torch.allclose(found, ask(tiny(nn.ReLU()), images, "after"), atol=1e-4)


def test_frozen_weights_have_maps_too(images):
    """FMN's global network is frozen; without any weight that learns the library finds no gradient."""
    model = tiny()
    expected = grad_cam(model, images, "convolution", [0] * 4)
    model.requires_grad_(False)
    assert torch.equal(grad_cam(model, images, "convolution", [0] * 4), expected)
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            assert torch.equal(grad_cam(model, images.clone(), "convolution", [0] * 4), expected)


@pytest.mark.parametrize("ask", [activation, lambda *given: grad_cam(*given, [1] * 4)], ids=["activation", "cam"])
def test_maps_are_computed_in_full_precision(ask, images):
    expected = ask(tiny(), images, "convolution")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ask(tiny(), images, "convolution"), expected)


class Guided(Tiny):
    """As FMN: a guide without gradients, layers behind its mask; and a layer that nothing depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.guide, self.late, self.idle = tiny(), nn.Conv2d(4, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, images):
        with torch.no_grad():
            mask = self.guide(images).maps["mask"]
        self.idle(images)
        pooled = self.late(mask).mean((2, 3))
        return Output(pooled, [self.first(pooled)], [pooled], {"mask": mask})


def test_a_layer_behind_one_without_gradients_has_a_map(images):
    torch.manual_seed(0)
    model = Guided()
    late = model.late(model.guide(images).maps["mask"]).detach()
    expected = torch.einsum("k,bkyx->byx", model.first.weight[2].detach(), late).clamp(min=0) / (6 * 4)
    assert torch.allclose(grad_cam(model, images, "late", [2] * 4), expected, atol=1e-7)


def test_a_layer_without_part_in_the_score_is_an_error(images):
    """The library would stop with a NoneType, or take the gradient of another layer."""
    model = Guided()
    for layer in ("idle", "guide.convolution"):
        with pytest.raises(ReidError, match=f"no gradient of the score reaches {layer}: .* as the model"):
            grad_cam(model, images, layer, [0] * 4)
    assert grad_cam(model.guide, images, "convolution", [0] * 4).max() > 0


@pytest.mark.parametrize("place", ["pixel", "weight", "classifier"])
def test_a_value_that_is_no_number_is_no_map(images, place):
    """It used to give a map of zeros, which says that nothing in the image speaks for the class."""
    model = tiny()
    holder = {"pixel": images, "weight": model.convolution.weight.data, "classifier": model.second.weight.data}[place]
    holder.view(-1)[0] = torch.nan
    with pytest.raises(ReidError, match="holds NaN or infinite values; look at the weights"):
        grad_cam(model, images, "convolution", [0] * 4)
    if place != "classifier":
        with pytest.raises(ReidError, match="convolution holds NaN or infinite values"):
            activation(model, images, "convolution")
        with pytest.raises(ReidError, match="mask holds NaN"):
            output_map(model, images, "mask")


def test_nothing_positive_stays_zero(images):
    model = tiny(nn.ReLU())
    for layer in (model.first, model.second):
        layer.weight.data = -layer.weight.data.abs()
    assert (grad_cam(model, images, "after", [0] * 4) == 0).all()


def test_what_cancels_is_not_stretched_to_a_finding(images):
    """Two channels say the same and are counted against each other: what is left is rounding."""
    model = tiny()
    for layer, share in ((model.first, 1.0), (model.second, 0.0)):
        layer.weight.data = share * torch.tensor([[1.0, -1 / 3, 0, 0]]).expand(CLASSES, -1)
    model.convolution.weight.data[1] = 3 * model.convolution.weight[0]
    model.convolution.bias.data[1] = 3 * model.convolution.bias[0]
    assert (grad_cam(model, images, "convolution", [0] * 4) == 0).all()


def test_strength_is_kept_from_image_to_image(images):
    """The library stretches every map to 1; here a map of half the weights is half as strong."""
    model, half = tiny(), tiny()
    for layer in (half.first, half.second):
        layer.weight.data /= 2
    strong, weak = (grad_cam(network, images, "convolution", [1] * 4) for network in (model, half))
    assert torch.allclose(weak, strong / 2) and strong.amax((1, 2)).unique().numel() == 4


# --- pictures ---------------------------------------------------------------------------------------------------------


def blank(n: int, size=(50, 50)) -> torch.Tensor:
    return torch.zeros(n, 3, *size, dtype=torch.uint8)


def drawn(figure, place: int):
    """The one map in a panel's axes, and how its values become colours."""
    (image,) = figure.axes[place].images
    return image


def test_a_map_is_shown_bare_in_its_own_cells_over_the_whole_image():
    """No image below it: bright clothes change no colour. The first cell is the upper left one."""
    maps = torch.arange(8.0).reshape(1, 4, 2)
    shown = drawn(panel(blank(1), {"a": maps}), 1)
    assert np.array_equal(shown.get_array(), maps[0].numpy()) and shown.get_interpolation() == "none"
    assert shown.get_extent() == [0, 1, 1, 0] and shown.get_alpha() is None


def test_a_shared_scale_compares_and_a_scale_for_each_does_not():
    maps = torch.tensor([[[0.0, 1.0]], [[0.0, 0.1]]])
    shared, each = (panel(blank(2), {"a": maps}, scale=scale) for scale in ("shared", "each"))
    assert drawn(shared, 1).norm.vmax == drawn(shared, 3).norm.vmax == 1
    assert drawn(each, 1).norm.vmax == 1 and drawn(each, 3).norm.vmax == pytest.approx(0.1)
    with pytest.raises(ReidError, match="unknown scale 'both'; choose one of each, shared"):
        panel(blank(2), {"a": maps}, scale="both")


@pytest.mark.parametrize("scale", ["shared", "each"])
def test_rounding_has_no_colour(scale):
    maps = torch.stack([torch.rand(4, 2), 1e-8 * torch.rand(4, 2), torch.zeros(4, 2)])
    figure = panel(blank(3), {"a": maps}, scale=scale)
    assert [len(axes.images) for axes in figure.axes[1:6:2]] == [1, 0, 0]
    still = panel(blank(1), {"a": torch.full((1, 4, 2), -3.0) + 1e-7 * torch.rand(1, 4, 2)}, scale=scale)
    assert not still.axes[1].images and still.axes[1].texts[0].get_text() == "no\ncontrast"


def test_colours_reach_from_the_lowest_to_the_highest_value():
    """Not from zero: a map between 0.4 and 0.5 would be of one colour."""
    maps = torch.tensor([[[0.4, 0.5]], [[0.1, 0.5]]])
    assert heatmaps._spans(maps, "shared") == [pytest.approx((0.1, 0.5))] * 2
    assert heatmaps._spans(maps, "each")[0] == pytest.approx((0.4, 0.5))
    with pytest.raises(ReidError, match="NaN"):
        panel(blank(1), {"a": torch.full((1, 2, 2), float("nan"))})


@pytest.mark.parametrize("scale", ["shared", "each"])
def test_zero_is_white_in_maps_of_both_signs(scale):
    figure = panel(blank(2), {"a": torch.tensor([[[-1.0, 0.0]], [[0.0, 4.0]]])}, scale=scale)
    for place, value in ((1, 0.0), (3, 0.0)):
        image = drawn(figure, place)
        assert image.norm.vmin == -image.norm.vmax
        assert min(image.cmap(image.norm(value))[:3]) > 0.95
    low, high = (drawn(figure, place).cmap(drawn(figure, place).norm(value)) for place, value in ((1, -1.0), (3, 4.0)))
    assert low[2] > low[0] and high[0] > high[2]  # blue below, red above


@pytest.mark.parametrize("colours, signs", [(heatmaps.COLOURS, [1]), (heatmaps.SIGNED, [1, -1])])
def test_lightness_changes_evenly_with_the_value(colours, signs):
    """CIE lightness of the colours: rising, or rising to the middle and falling behind it."""
    shown = torch.tensor(colormaps[colours](np.linspace(0, 1, 257)))[:, :3].T
    linear = torch.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
    y = (linear * torch.tensor([[0.2126], [0.7152], [0.0722]])).sum(0)
    lightness = torch.where(y > 0.008856, 116 * y ** (1 / 3) - 16, 903.3 * y)[::16].diff()
    for part, sign in zip(lightness.chunk(len(signs)), signs, strict=True):
        assert (sign * part > 1).all() and part.abs().max() < 16  # the rainbow's rises and falls
    assert len(lightness) == 16


def test_a_deviation_has_a_mean_of_zero_in_each_image():
    maps = torch.rand(2, 4, 3) + torch.tensor([1.0, -5.0])[:, None, None]
    assert torch.allclose(heatmaps.deviation(maps).mean((1, 2)), torch.zeros(2), atol=1e-6)
    assert torch.allclose(heatmaps.deviation(maps).diff(dim=2), maps.diff(dim=2), atol=1e-6)


def test_the_outline_is_the_edge_of_the_person_on_every_image_of_the_row():
    """Head and bag of the masks; scenery and other people are no part of it."""
    masks = torch.zeros(1, 8, 4, dtype=torch.uint8)
    masks[0, 2:6, 1:3], masks[0, 2, 1], masks[0, 7, 0] = HEAD, BAG, OTHER
    figure = panel(blank(1), {"a": torch.rand(1, 4, 2), "b": torch.rand(1, 4, 2) - 0.5}, masks=masks)
    for axes in figure.axes[:3]:
        (line,) = axes.collections
        (path,) = line.get_paths()
        low, high = path.vertices.min(0), path.vertices.max(0)
        assert np.allclose(low, [1 / 4, 2 / 8], atol=1e-3) and np.allclose(high, [3 / 4, 6 / 8], atol=1e-3)
    assert not any(axes.collections for axes in panel(blank(1), {"a": torch.rand(1, 4, 2)}).axes[:2])


def test_the_panel_shows_the_image_unchanged_beside_its_maps():
    pictures = torch.randint(0, 256, (2, 3, 32, 16), dtype=torch.uint8)
    maps = torch.stack([torch.rand(4, 2), torch.zeros(4, 2)])
    figure = panel(pictures, {"global": maps, "mask": torch.rand(2, 8, 4) - 0.5}, ["one", "two"])
    grid = np.array(figure.axes[:6]).reshape(2, 3)
    for axes, picture, label in zip(grid[:, 0], pictures, ("one", "two"), strict=True):
        assert np.array_equal(axes.images[0].get_array(), picture.permute(1, 2, 0).numpy())
        assert axes.get_ylabel() == label
    assert [axes.get_title() for axes in grid[0]] == ["image\n", "global\n4×2 cells", "mask\n8×4 cells"]
    assert [[text.get_text() for text in axes.texts] for axes in grid[:, 1]] == [[], ["no\ncontrast"]]
    first, second = ([text.get_text() for text in bar.get_xticklabels()] for bar in figure.axes[6:])
    low, high = (float(text) for text in first)
    assert low == pytest.approx(float(maps.min()), abs=0.01) and high == pytest.approx(float(maps.max()), rel=0.05)
    assert second[1] == "0" and float(second[2]) == -float(second[0].replace("−", "-")) > 0
    assert not plt.fignum_exists(figure.number)


def test_a_panel_says_which_ranges_its_colours_have():
    pictures, maps = blank(2), torch.tensor([[[0.0, 0.5]], [[0.0, 2e-4]]])
    each = panel(pictures, {"a": maps}, scale="each")
    assert [axes.get_xlabel() for axes in each.axes[:4]] == ["", "0 to 0.5", "", "0 to 2.0·10⁻⁴"]
    with pytest.raises(ReidError, match="1 labels of rows for 2 images"):
        panel(pictures, {"a": maps}, ["one"])
    with pytest.raises(ReidError, match="give uint8"):
        panel(pictures.float(), {"a": maps})


def test_images_may_stand_side_by_side():
    maps = torch.rand(2, 4, 2)
    figure = panel(blank(2), {"a": maps}, ["one", "two"], across=True)
    top, below = figure.axes[:2], figure.axes[2:4]
    assert [axes.get_title() for axes in top] == ["one", "two"] and below[0].get_ylabel() == "a\n4×2 cells"
    for axes, map_ in zip(below, maps, strict=True):
        ends = [float(end) for end in axes.get_xlabel().split(" to ")]
        assert ends == pytest.approx([float(map_.min()), float(map_.max())], rel=0.06)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_map(images):
    """The library copies from a GPU and not on the CPU, which is where in-place layers would tell them apart."""
    model = tiny(nn.ReLU(inplace=True))
    here = grad_cam(model, images, "convolution", [1] * 4)
    there = grad_cam(model.cuda(), images.cuda(), "convolution", [1] * 4)
    assert there.device.type == "cpu" and torch.allclose(here, there, atol=1e-4)
