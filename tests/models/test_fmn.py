"""FMN's parts against slow loops and the paper's own numbers."""

import math

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from reidlib import losses
from reidlib.models.backbone import Backbone
from reidlib.models.fmn import DESCRIPTORS, FMN, GRN, LAN, LARGEST_EXPONENT, MASKED, MN, join
from reidlib.papers import fmn as paper
from reidlib.spec import ReidError
from reidlib.training import parameter_groups

SIZE = (128, 64)
STAGES = {"Pool1": [1, 2, 3, 4], "Res2": [2, 3, 4], "Res3": [3, 4], "Res4": [4]}


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def fmn(**options):
    torch.manual_seed(0)
    return FMN(5, size=SIZE, **options)


def in_training(model):
    """As the second stage runs it: everything trains but the GRN."""
    model.train().grn.eval()
    return model


def test_mask_and_product_are_equations_f1_to_f3_written_out():
    torch.manual_seed(0)
    height, width, channels = 4, 3, 2
    mn = MN((height, width))
    torch.nn.init.normal_(mn.fc.weight)
    g, f = torch.rand(2, 2048), torch.randn(2, channels, height, width)
    with torch.inference_mode():
        m, o = mn(g, f)
    weight = (mn.fc.weight / 2048**0.5).tolist()  # W^T: the layer keeps it larger, for its steps
    for b in range(2):
        for k in range(height * width):
            total = sum(weight[k][q] * float(g[b, q]) for q in range(2048))  # W^T g, no bias
            j = k // height + 1
            i = k - height * (j - 1) + 1
            expected = math.exp(max(0.0, total))
            assert float(m[b, 0, i - 1, j - 1]) == pytest.approx(expected, rel=1e-4)
            for channel in range(channels):
                product = float(f[b, channel, i - 1, j - 1]) * expected
                assert float(o[b, channel, i - 1, j - 1]) == pytest.approx(product, rel=1e-4)
    assert m.min() == 1 and m.max() > 1, "relu then exp: no weight below 1, and some of these above"


def test_the_mask_is_filled_column_by_column():
    """Eq. F.2: k counts down the first column, then down the second."""
    mn = MN((3, 2))
    with torch.no_grad():
        mn.fc.weight.zero_()
        mn.fc.weight[:, 0] = 2048**0.5 * torch.arange(1.0, 7).log()  # m' of place k: log(k + 1)
    g = torch.zeros(1, 2048)
    g[0, 0] = 1
    expected = torch.tensor([[1.0, 4], [2, 5], [3, 6]])
    assert torch.allclose(mn.mask(g)[0, 0], expected)


def test_the_mask_has_full_precision_under_autocast_and_never_overflows():
    torch.manual_seed(0)
    mn = MN((8, 4))
    torch.nn.init.normal_(mn.fc.weight)
    g = 4 * torch.rand(2, 2048).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        m = mn.mask(g)
    assert m.dtype == torch.float32
    assert torch.equal(m, mn.mask(g.float()))
    assert m.log().max() < LARGEST_EXPONENT, "an ordinary mask is not cut"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, o = mn(1000 * g, torch.rand(2, 3, 8, 4).bfloat16())
    assert torch.isfinite(o).all()
    assert torch.isfinite(o.square().sum()), "the next BatchNorm squares and adds"


def test_the_join_is_equation_f6():
    joined = join(torch.tensor([[3.0, 4]]), torch.tensor([[0.0, 2]]), 0.25)
    assert torch.allclose(joined, torch.tensor([[0.25 * 0.6, 0.25 * 0.8, 0, 0.75]]))


def test_the_three_descriptors_come_from_one_trained_network(images):
    """Table 1: 2048, 2048 and 4096 numbers. α changes nothing but the join."""
    outputs, model = {}, fmn(alpha=0.25).eval()
    with torch.inference_mode():
        for descriptor in DESCRIPTORS:
            model.descriptor = descriptor
            outputs[descriptor] = model(images)
        g = model.grn(images)
    assert torch.equal(outputs["GRN"].embedding, g.embedding)
    assert torch.equal(outputs["LAN"].embedding, outputs["FMN"].features[0])
    assert torch.equal(outputs["FMN"].embedding, join(g.embedding, outputs["LAN"].embedding, 0.25))
    assert {name: out.embedding.shape[1] for name, out in outputs.items()} == {"GRN": 2048, "LAN": 2048, "FMN": 4096}
    assert torch.equal(outputs["FMN"].reference, g.logits[0])
    assert torch.equal(outputs["FMN"].logits[0], outputs["GRN"].logits[0])


def test_dropout_stands_before_the_classifiers_in_training_only(images):
    torch.manual_seed(0)
    for model in (GRN(5, size=SIZE, dropout=0.75), fmn(dropout=0.9)):
        seen = {}
        model.classifier.register_forward_hook(lambda _, given, __, seen=seen: seen.update(given=given[0]))
        with torch.inference_mode():
            vector = (
                in_training(model)(images).features[0] if isinstance(model, FMN) else model.train()(images).features[0]
            )
            kept = seen["given"] != 0
            assert float(kept.double().mean()) == pytest.approx(1 - model.dropout.p, abs=0.02)
            assert torch.allclose(seen["given"][kept], vector[kept] / (1 - model.dropout.p))
            vector = model.eval()(images).features[0]
            assert torch.equal(seen["given"], vector)


@pytest.mark.parametrize("masked", MASKED)
def test_every_layer_of_table_5_can_be_masked_and_nothing_idle_is_built(images, masked):
    """The GRN is left as it is, to the BatchNorm statistics; every other weight gets a gradient from both losses."""
    model = in_training(fmn(masked=masked))
    before = {name: value.clone() for name, value in model.grn.state_dict().items()}
    output = model(images)
    labels = torch.tensor([0, 0, 1, 1])
    (losses.cross_entropy(output, labels) + losses.ranking(output, labels, margin=0.05)).backward()
    weights = dict(model.named_parameters())
    assert [name for name, weight in weights.items() if name.startswith("grn.") and weight.grad is not None] == []
    others = [name for name in weights if not name.startswith("grn.")]
    assert [name for name in others if weights[name].grad is None or not weights[name].grad.any()] == []
    assert all(torch.equal(value, before[name]) for name, value in model.grn.state_dict().items())

    assert [name for name, _ in model.lan.blocks.named_children()] == [f"stage{n}" for n in STAGES[masked]]
    map_size = {"Pool1": (32, 16), "Res2": (32, 16), "Res3": (16, 8), "Res4": (8, 4)}[masked]
    assert output.maps["m"].shape == (4, 1, *map_size)
    assert output.maps["LAN"].shape == output.maps["GRN"].shape == (4, 2048, 4, 2)


def test_every_weight_of_the_grn_trains_in_the_first_stage(images):
    torch.manual_seed(0)
    model = GRN(5, size=SIZE).train()
    losses.cross_entropy(model(images), torch.tensor([0, 0, 1, 1])).backward()
    assert [name for name, w in model.named_parameters() if w.grad is None or not w.grad.any()] == []


@pytest.mark.parametrize("masked", MASKED)
def test_the_lan_sees_the_masked_layer(images, masked):
    """A mask of ones makes the LAN the rest of the GRN, once it has the GRN's weights; any other mask does not."""
    model = fmn(masked=masked).eval()
    model.classifier.load_state_dict(model.grn.classifier.state_dict())
    for name, block in model.lan.blocks.named_children():
        block.load_state_dict(getattr(model.grn.backbone, name).state_dict())
    with torch.inference_mode():
        masked_logits = model(images).logits[0]
        model.mn.fc.weight.zero_()
        output = model(images)
    assert torch.allclose(output.logits[0], output.reference)
    assert not torch.allclose(masked_logits, output.reference)


@pytest.mark.parametrize("masked, side", [("Pool1", 56), ("Res2", 56), ("Res3", 28), ("Res4", 14)])
def test_mask_sizes_of_table_5_at_224(masked, side):
    model = FMN(5, size=(224, 224), masked=masked).eval()
    with torch.inference_mode():
        output = model(torch.rand(1, 3, 224, 224))
    assert output.maps["m"].shape == (1, 1, side, side)
    assert output.maps["LAN"].shape == (1, 2048, 7, 7)
    if masked == "Pool1":
        assert 4 * model.mn.fc.weight.numel() == 2048 * 112 * 112, "§4.3: a quarter of a mask on the map before pooling"


def test_the_grn_costs_what_section_3_1_says():
    """3.8 billion multiply-adds with the stride in the 1×1 convolutions, as in He et al.; 4.1 as torchvision has it."""
    model = GRN(1000).eval()

    def billions():
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model(torch.rand(1, 3, 224, 224))
        return counter.get_total_flops() / 2 / 1e9  # a multiply-add counts as two there

    assert billions() == pytest.approx(4.1, abs=0.05)
    for stage in (model.backbone.stage2, model.backbone.stage3, model.backbone.stage4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    assert billions() == pytest.approx(3.8, abs=0.1)


def test_the_grn_of_the_first_stage_fits_into_the_second(images):
    torch.manual_seed(1)
    first, second = GRN(5, size=SIZE).eval(), fmn().eval()
    second.grn.load_state_dict(first.state_dict())
    with torch.inference_mode():
        output = first(images)
        assert torch.equal(second(images).reference, output.logits[0])
    assert {name: tuple(map_.shape[1:]) for name, map_ in output.maps.items()} == {
        "Pool1": (64, 32, 16),
        "Res2": (256, 32, 16),
        "Res3": (512, 16, 8),
        "Res4": (1024, 8, 4),
        "Res5": (2048, 4, 2),
    }
    assert torch.allclose(output.maps["Res5"].mean((2, 3)), output.embedding)


def test_both_networks_start_from_one_imagenet_file(tmp_path):
    """Algorithm 1: θo → θg, θo → θl."""
    torch.manual_seed(1)
    whole, file = torchvision.models.resnet50(), tmp_path / "resnet50.pth"
    torch.save(whole.state_dict(), file)
    model = fmn(masked="Res3")
    classifier = model.classifier.weight.clone()
    for part in (model.grn.backbone, model.lan):
        assert part.depth == 50
        part.load_weights(file)
    for stage, layer in ((3, whole.layer3), (4, whole.layer4)):
        for network in (model.grn.backbone, model.lan.blocks):
            loaded = getattr(network, f"stage{stage}").state_dict()
            assert all(torch.equal(value, loaded[name]) for name, value in layer.state_dict().items())
    assert torch.equal(model.classifier.weight, classifier)
    file.write_bytes(b"no weights")
    with pytest.raises(ReidError, match="not a torch state dict"):
        model.lan.load_weights(file)


def test_the_lan_shares_no_weight_with_the_grn():
    model = fmn()
    assert {id(weight) for weight in model.grn.parameters()}.isdisjoint(id(weight) for weight in model.lan.parameters())
    assert not any(isinstance(module, Backbone) for module in model.lan.modules()), "only the stages it uses"
    assert len(LAN(before=3).blocks) == 1


@pytest.mark.parametrize(
    "wrong, words",
    [
        (dict(masked="Res1"), "masked must be one of .*Pool1.*not 'Res1'"),
        (dict(masked="Res5"), "masked"),
        (dict(descriptor="fmn"), "descriptor must be one of .*FMN.*not 'fmn'"),
        (dict(alpha=1.5), "alpha must be a share between 0 and 1, not 1.5"),
        (dict(alpha=-0.1), "alpha"),
    ],
)
def test_impossible_switches_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        FMN(5, size=SIZE, **wrong)


@pytest.mark.parametrize("budget", ["smoke", "small", "medium", "full"])
def test_the_baseline_row_is_the_first_stage_of_the_full_system(budget):
    """One GRN is trained: what stands in Table 1 is what the FMN holds fixed, at every budget."""
    for table in (paper.TABLE_1, paper.TABLE_2, paper.TABLE_3, paper.TABLE_4):
        baseline, full = (table.settings(row, budget) for row in (table.rows[0], table.rows[-1]))
        assert baseline.first is None
        assert baseline.trained() == full.first.settings.trained()


def test_descriptors_and_rerankings_share_one_network_and_masked_layers_do_not():
    def networks(table):
        return len({str(table.settings(row, "full").trained()) for row in table.rows})

    assert [networks(table) for table in (paper.TABLE_1, paper.TABLE_2, paper.TABLE_5)] == [2, 2, 4]
    full = {str(t.settings(t.rows[i], "full").trained()) for t, i in ((paper.TABLE_1, 2), (paper.TABLE_5, 0))}
    assert len(full) == 1, "Pool1 of Table 5 is the full system"


def variants(word, budget="full"):
    return [paper.TABLE_1_VARIANTS.settings(row, budget) for row in paper.TABLE_1_VARIANTS.rows if row.variant == word]


def test_the_mirror_image_is_another_test_of_the_full_system():
    (mirror,) = variants("mirror image added")
    full = paper.TABLE_1.settings(paper.TABLE_1.rows[2], "full")
    assert mirror.trained() == full.trained() and mirror.tested() != full.tested()


@pytest.mark.parametrize("budget", ["smoke", "small", "medium", "full"])
def test_rows_as_in_pan_are_one_training_of_each_stage(budget):
    grn, lan, full = variants("as in PAN", budget)
    assert lan.trained() == full.trained() and (lan.options["descriptor"], full.recipe.nesterov) == ("LAN", True)
    assert grn.trained() == full.first.settings.trained()


def test_rows_as_in_pan_have_its_rates():
    """0.1 times 0.02, 0.001 and 0.0001 for pre-trained layers, 0.1 for new ones (resnet52_market.m)."""
    found = variants("as in PAN")
    for settings in found[:2]:
        model = settings.model(5, size=SIZE, **settings.options)
        if settings.first:
            model.grn.requires_grad_(False)
        names = {id(weight): name for name, weight in model.named_parameters()}
        rates = {names[id(w)]: g["lr"] for g in parameter_groups(model, settings.recipe.rates) for w in g["params"]}
        modules = dict(model.named_modules())
        for name, rate in rates.items():
            module = modules[name.rpartition(".")[0]]
            multiplier = 0.001 if isinstance(module, nn.BatchNorm2d) and name.endswith("weight") else 0.02
            multiplier = {"classifier": 1, "mn": 1e-5 * 2048}.get(name.partition(".")[0], multiplier)
            multiplier = 0.0001 if name == "backbone.stem.0.weight" else multiplier
            assert rate == pytest.approx(0.1 * multiplier), name
    assert [settings.recipe.epochs for settings in found] == [25, 45, 45]


def test_a_later_option_at_its_default_leaves_the_key_alone():
    """So that the records made before there was dropout keep their rows."""
    full = paper.TABLE_1.settings(paper.TABLE_1.rows[2], "small").trained()
    assert "dropout" not in full["options"] and "dropout" not in full["first"]["options"]
    assert variants("as in PAN", "small")[1].trained()["options"]["dropout"] == 0.9


@pytest.mark.parametrize("budget", ["small", "medium"])
def test_the_rates_name_submodules_of_both_stages(budget):
    rates = paper.FULL.recipe.but(**paper.TABLE_1.budgets[budget]).rates
    for model in (fmn(), GRN(5)):
        assert set(rates) - {"rest"} <= {name for name, _ in model.named_children()}
