"""HAMR's parts against slow loops, and against the numbers of the paper and of its released code."""

import itertools
import math

import pytest
import torch

from reidlib import losses
from reidlib.models.backbone import CHANNELS, Backbone
from reidlib.models.hamr import CAM, HAMR, LEVELS, MPFE, POOLS, SAM, drop_block
from reidlib.papers.hamr import AS_RELEASED, RECIPE, TABLE_2
from reidlib.training import rate_factor

SIZE = (128, 64)
LIGHT = dict(parts="global", extractor="average")  # for tests that end at the fused map
ORDERS = ("©", "S+©", "C+©", "©+S", "©+C", "©+C+S", "C+S+©", "C+©+S", "©+S+C", "S+C+©", "S+©+C")


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def network(size=SIZE, **options):
    torch.manual_seed(0)
    return HAMR(5, size=size, **options)


def random_map(channels, height, width):
    return torch.randn(2, channels, height, width, dtype=torch.double, generator=torch.Generator().manual_seed(3))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_spatial_attention_is_equation_1():
    """σ(f([Avg ← Max])): both pools over the channels of a position, then a 7×7 window with zeros outside."""
    torch.manual_seed(0)
    sam = SAM().double()
    weight = sam.f.weight[0].tolist()  # 2 × 7 × 7
    map_ = random_map(3, 5, 4)
    mask = sam(map_).detach()
    assert mask.shape == (2, 1, 5, 4)
    for image, y, x in itertools.product(range(2), range(5), range(4)):
        total = 0.0
        for j, i in itertools.product(range(7), range(7)):
            row, column = y + j - 3, x + i - 3
            if 0 <= row < 5 and 0 <= column < 4:
                values = [float(map_[image, c, row, column]) for c in range(3)]
                total += weight[0][j][i] * sum(values) / 3 + weight[1][j][i] * max(values)
        assert float(mask[image, 0, y, x]) == pytest.approx(sigmoid(total))


@pytest.mark.parametrize("pooling", ["sum", "mean", "separate"])
def test_channel_attention_is_equation_2_or_another_reading(pooling):
    torch.manual_seed(0)
    cam = CAM(32, pooling=pooling).double()
    first, second = cam.f_multi[0].weight.tolist(), cam.f_multi[2].weight.tolist()
    assert len(first) == 32 // 16

    def perceptron(vector):
        hidden = [max(0.0, sum(w * v for w, v in zip(row, vector, strict=True))) for row in first]
        return [sum(w * h for w, h in zip(row, hidden, strict=True)) for row in second]

    map_ = random_map(32, 3, 2)
    mask = cam(map_).detach()
    assert mask.shape == (2, 32, 1, 1)
    for image in range(2):
        positions = [map_[image, c].flatten().tolist() for c in range(32)]
        average, largest = [sum(values) / 6 for values in positions], [max(values) for values in positions]
        if pooling != "separate":
            share = {"sum": 1.0, "mean": 0.5}[pooling]
            expected = perceptron([share * (a + m) for a, m in zip(average, largest, strict=True)])
        else:
            expected = [a + m for a, m in zip(perceptron(average), perceptron(largest), strict=True)]
        assert mask[image, :, 0, 0].tolist() == pytest.approx([sigmoid(value) for value in expected])


def test_the_channel_attentions_differ():
    torch.manual_seed(0)
    ours, map_ = CAM(32), random_map(32, 3, 2).float()
    for pooling in ("mean", "separate"):
        other = CAM(32, pooling=pooling)
        other.load_state_dict(ours.state_dict())
        assert not torch.allclose(ours(map_), other(map_))


@pytest.mark.parametrize("pools", [tuple(POOLS), ("maximum",), ("average",)], ids="+".join)
@pytest.mark.parametrize("activation, slope", [("ReLU", 0.0), ("LeakyReLU", 0.1)])
def test_the_extractor_is_its_pools_reduction_normalisation_activation_and_512(activation, slope, pools):
    torch.manual_seed(0)
    extractor = MPFE(3, activation, pools).double().eval()
    torch.nn.init.normal_(extractor.normalise.running_mean)
    window = random_map(3, 4, 2)
    vectors = extractor(window).detach()
    assert vectors.shape == (2, 512)
    bn = extractor.normalise
    for image in range(2):
        positions = [window[image, c].flatten().tolist() for c in range(3)]
        by_pool = {"maximum": [max(values) for values in positions], "average": [sum(v) / 8 for v in positions]}
        pooled = [value for pool in pools for value in by_pool[pool]]
        hidden = []
        for unit, row in enumerate(extractor.reduce.weight.tolist()):
            value = sum(w * p for w, p in zip(row, pooled, strict=True))
            value = (value - float(bn.running_mean[unit])) / math.sqrt(float(bn.running_var[unit]) + bn.eps)
            value = value * float(bn.weight[unit].detach()) + float(bn.bias[unit].detach())
            hidden.append(value if value > 0 else slope * value)
        assert len(hidden) == 256
        expected = extractor.fc.weight @ torch.tensor(hidden, dtype=torch.double)
        assert torch.allclose(vectors[image], expected)


def test_the_21_windows_of_the_24_rows_by_hand():
    by_hand = [
        (0, 24),
        *((0, 20), (4, 24)),
        *((0, 16), (4, 20), (8, 24)),
        *((0, 12), (4, 16), (8, 20), (12, 24)),
        *((0, 8), (4, 12), (8, 16), (12, 20), (16, 24)),
        *((0, 4), (4, 8), (8, 12), (12, 16), (16, 20), (20, 24)),
    ]
    model = network(size=(384, 128), stages=(1,), order="©", extractor="average")
    assert model.rows == by_hand
    assert model.compared == [1, 2, 3, 4, 5, 6]
    assert network(size=(384, 128), stages=(1,), parts="PCB").rows == by_hand[15:]
    assert network(size=(384, 128), stages=(1,), parts="global").rows == by_hand[:1]


@pytest.mark.parametrize(
    "size, stripes",
    [
        ((192, 64), [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (10, 12)]),
        ((128, 64), [(0, 2), (1, 3), (2, 4), (4, 6), (5, 7), (6, 8)]),  # 8 rows: neighbours share what does not divide
    ],
)
def test_stripes_of_smaller_inputs(size, stripes):
    assert network(size=size, stages=(1,), parts="PCB").rows == stripes


@pytest.mark.parametrize("size, map_size", [((384, 128), (24, 8)), ((192, 64), (12, 4)), ((128, 64), (8, 4))])
def test_four_stages_make_3840_channels_on_the_grid_of_the_last(size, map_size):
    model = network(size=size, **LIGHT).eval()
    with torch.inference_mode():
        maps = model(torch.rand(1, 3, *size)).maps
    assert maps["F"].shape == (1, 3840, *map_size)
    assert maps["MSAM stage 1"].shape == (1, 1, *map_size)
    assert maps["MCAM"].shape == (1, 3840, 1, 1)


def test_the_fusion_takes_the_maximum_of_the_pixels_that_share_a_place(images):
    model = network(stages=(1, 2), order="©", **LIGHT).eval()
    with torch.inference_mode():
        g, fused = model.backbone(images), model(images).maps["F"]
    for y, x in itertools.product(range(8), range(4)):
        assert torch.equal(fused[:, :256, y, x], g[1][:, :, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].amax((2, 3)))
        assert torch.equal(fused[:, 256:, y, x], g[2][:, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].amax((2, 3)))


def test_lengths_of_the_full_model(images):
    model = network().eval()
    with torch.inference_mode():
        output = model(images)
    assert output.embedding.shape == (4, 10752)
    assert [logits.shape for logits in output.logits] == [(4, 5)] * 21
    assert [vectors.shape[1] for vectors in output.features] == [512, 1024, 1536, 2048, 2560, 3072]
    assert [extractor.reduce.in_features for extractor in model.extractors] == [2 * 3840] * 21
    assert output.shares == (1 / 21,) * 21


def test_the_descriptor_joins_the_last_bn_of_every_window(images):
    model = network(stages=(2,)).eval()
    for neck in model.necks:
        torch.nn.init.normal_(neck.running_mean)
    with torch.inference_mode():
        output = model(images)
        for part, (top, bottom) in enumerate(model.rows):
            vector = model.necks[part](model.extractors[part](output.maps["F"][:, :, top:bottom]))  # B × 512
            assert torch.allclose(output.embedding[:, 512 * part : 512 * (part + 1)], vector, atol=1e-6)
            assert torch.allclose(output.logits[part], vector @ model.classifiers[part].weight.T, atol=1e-6)


def test_the_triplet_looks_before_the_last_bn_or_after_it(images):
    published, released = network(stages=(1,)).eval(), network(stages=(1,), triplet="after BN").eval()
    for neck in (*published.necks, *released.necks):
        torch.nn.init.constant_(neck.running_mean, 0.5)
    with torch.inference_mode():
        before, after = published(images), released(images)
        assert torch.equal(before.embedding, after.embedding)
        assert torch.equal(torch.cat(after.features, dim=1), after.embedding)
        vectors = torch.cat(before.features, dim=1).split(512, dim=1)
        normalised = [neck(vector) for neck, vector in zip(published.necks, vectors, strict=True)]
        assert torch.allclose(torch.cat(normalised, dim=1), before.embedding)
        assert not torch.allclose(torch.cat(before.features, dim=1), before.embedding)


def test_a_triplet_for_each_part_compares_the_same_vectors_one_by_one(images):
    levels, parts = network(stages=(1,)).eval(), network(stages=(1,), triplets_of="parts").eval()
    with torch.inference_mode():
        joined, alone = levels(images), parts(images)
    assert [vectors.shape[1] for vectors in alone.features] == [512] * 21
    assert torch.equal(torch.cat(joined.features, dim=1), torch.cat(alone.features, dim=1))
    assert torch.equal(joined.embedding, alone.embedding)


def test_the_losses_are_the_means_of_equation_4(images):
    """1/N of the sum of N = 21 label-smoothed losses, plus 1/M of the sum of M = 6 triplets of margin 1."""
    labels = torch.tensor([0, 0, 1, 1])
    model = network(stages=(1,)).eval()
    with torch.inference_mode():
        output = model(images)
    identity = 0.0
    for logits in output.logits:
        for scores, label in zip(logits.tolist(), labels.tolist(), strict=True):
            total = math.log(sum(math.exp(score) for score in scores))
            target = [0.1 / 5 + (0.9 if k == label else 0.0) for k in range(5)]
            identity += sum(share * (total - score) for share, score in zip(target, scores, strict=True)) / (4 * 21)
    assert float(losses.cross_entropy(output, labels, smoothing=0.1)) == pytest.approx(identity, rel=1e-5)
    metric = 0.0
    for vectors in output.features:
        for a, p in ((0, 1), (1, 0), (2, 3), (3, 2)):
            positive = math.dist(vectors[a].tolist(), vectors[p].tolist())
            negatives = [
                math.dist(vectors[a].tolist(), vectors[n].tolist()) for n in range(4) if labels[n] != labels[a]
            ]
            metric += max(0.0, positive - min(negatives) + 1.0) / (4 * 6)
    assert float(losses.triplet(output, labels, margin=1.0)) == pytest.approx(metric, rel=1e-4)


def test_the_schedule_is_equation_5():
    """lr(e) for every epoch e = 1 … 150: 3·10⁻⁴·e/10 up to 10, then 0.01, halved behind epochs 60, 90 and 120."""
    recipe = RECIPE
    rates = {e: 0.01 * rate_factor(recipe, 3 * (e - 1) + step, 3) for e in range(1, 151) for step in range(3)}
    by_hand = {1: 3e-5, 2: 6e-5, 5: 1.5e-4, 9: 2.7e-4, 10: 3e-4, 11: 0.01, 60: 0.01, 61: 0.005, 90: 0.005}
    by_hand |= {91: 0.0025, 120: 0.0025, 121: 0.00125, 150: 0.00125}
    assert {e: rates[e] for e in by_hand} == pytest.approx(by_hand)
    for e, rate in rates.items():
        expected = 3e-4 * e / 10 if e <= 10 else 0.01 / 2 ** sum(e > behind for behind in (60, 90, 120))
        assert rate == pytest.approx(expected), f"epoch {e}"
    for e in range(1, 151):
        steps = {rate_factor(recipe, 3 * (e - 1) + step, 3) for step in range(3)}
        assert len(steps) == 1, f"the rate of epoch {e} moves inside the epoch"


def test_the_released_warm_up_begins_at_3e4_and_its_eleventh_epoch_has_the_full_rate():
    recipe = TABLE_2.settings(AS_RELEASED, "full").recipe
    for e in range(1, 12):
        assert 0.01 * rate_factor(recipe, e - 1, 1) == pytest.approx(3e-4 + (0.01 - 3e-4) * (e - 1) / 10)


def test_at_medium_the_warm_up_rises_step_by_step():
    recipe = TABLE_2.settings(AS_RELEASED, "medium").recipe
    steps = [rate_factor(recipe, step, 50) for step in range(400)]
    warm = round(400 * 10 / 150)
    assert steps[0] < 0.05 and all(a < b for a, b in zip(steps[:warm], steps[1:warm], strict=False))
    assert steps[warm : 3 * 50] == [1.0] * (3 * 50 - warm) and steps[3 * 50] == 0.5


def test_every_order_computes_what_it_says_and_something_else_than_the_others(images):
    """The fused map of each order, multiplied together by hand; one backbone, and one SAM and CAM for each map."""
    torch.manual_seed(0)
    backbone = HAMR(5, size=SIZE, stages=(1, 2), **LIGHT).backbone
    sams = {where: SAM().eval() for where in ("1", "2", "all")}
    widths = {"1": CHANNELS[1], "2": CHANNELS[2], "all": CHANNELS[1] + CHANNELS[2]}
    cams = {where: CAM(width).eval() for where, width in widths.items()}
    found = {}
    for order in ORDERS:
        model = HAMR(5, size=SIZE, stages=(1, 2), order=order, **LIGHT).eval()
        model.backbone.load_state_dict(backbone.state_dict())
        for where, attention in (*model.stage_attention.items(), ("all", model.fused_attention)):
            for name, module in attention.items():
                module.load_state_dict((sams if name == "SAM" else cams)[where].state_dict())
        with torch.inference_mode():
            found[order] = model(images).maps["F"]
            g = model.backbone(images)
            maps = {"1": g[1].unflatten(2, (8, 4)).unflatten(4, (4, 4)).amax((3, 5))}
            maps["2"] = g[2].unflatten(2, (8, 2)).unflatten(4, (4, 2)).amax((3, 5))
            for letter in order.split("+"):
                if letter == "©":
                    maps = {"all": torch.cat([maps["1"], maps["2"]], dim=1)}
                else:
                    masks = sams if letter == "S" else cams
                    maps = {where: map_ * masks[where](map_) for where, map_ in maps.items()}
            assert torch.allclose(found[order], maps["all"], atol=1e-6), order
    for one, other in itertools.combinations(ORDERS, 2):
        assert not torch.allclose(found[one], found[other]), f"{one} and {other} compute the same"


def test_dropblock_leaves_out_one_band_of_rows_for_the_whole_batch():
    window = torch.arange(24.0)[None, None, :, None].expand(3, 2, 24, 8)
    torch.manual_seed(0)
    tops = set()
    for _ in range(300):
        left = drop_block(window, 0.3)
        assert left.shape == (3, 2, 17, 8)
        rows = left[0, 0, :, 0].tolist()
        missing = sorted(set(range(24)) - set(rows))
        assert missing == list(range(missing[0], missing[0] + 7)) and rows == sorted(rows)
        assert torch.equal(left, left[:1, :1, :, :1].expand(3, 2, 17, 8))
        tops.add(missing[0])
    assert tops == set(range(18)), "every height must be possible, the edges among them"
    assert drop_block(window, 0.0) is window
    assert drop_block(window[:, :, :4], 0.99).shape[2] == 1, "a window must keep a row"
    heights = {1: 1, 2: 2, 3: 3, 4: 3, 6: 4, 8: 6, 10: 7, 12: 8, 16: 11, 20: 14}
    assert {height: drop_block(window[:, :, :height], 0.3).shape[2] for height in heights} == heights


@pytest.mark.parametrize("size, whole", [((384, 128), 0), ((192, 64), 6)])
def test_dropblock_takes_a_quarter_to_a_third_of_a_window_or_leaves_it_whole(size, whole):
    """A stripe of two rows would lose a half, and no window does at 384×128: see hamr.toml."""
    rows = network(size=size, stages=(1,), order="©", extractor="average").rows
    heights = [bottom - top for top, bottom in rows]
    lost = [1 - drop_block(torch.zeros(1, 1, height, 1), 0.3).shape[2] / height for height in heights]
    assert sum(share == 0 for share in lost) == whole
    assert all(0.25 <= share <= 0.34 for share in lost if share)


def test_dropblock_acts_in_training_only(images):
    model = network(stages=(1,), order="©", **LIGHT)
    with torch.no_grad():
        torch.manual_seed(1)
        draws = [model(images).features[0] for _ in range(6)]
        assert not all(torch.equal(draws[0], draw) for draw in draws)
        model.dropblock_share = 0.0
        without = [model(images).features[0] for _ in range(2)]
        assert torch.equal(*without) and not torch.equal(without[0], draws[0])
        model.dropblock_share = 0.3
        model.eval()
        assert torch.equal(model(images).embedding, model(images).embedding)


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(order="©", activation="LeakyReLU", dropblock_share=0, triplet="after BN"),
        dict(channel_attention="separate", order="C+S+©", parts="PCB"),
        dict(stages=(4,), order="©", parts="global", extractor="average"),
        dict(stages=(4,), order="©", extractor="average"),
        dict(stages=(1,), extractor="MPFE, maximum only", channel_attention="mean", triplets_of="parts"),
        dict(stages=(1,), extractor="MPFE, average only", parts="global"),
        dict(stages=(1,), order="©+C+S"),
        dict(stages=(2, 3)),
    ],
    ids=str,
)
def test_every_weight_gets_a_gradient(images, options):
    model = network(**options).train()
    output, labels = model(images), torch.tensor([0, 0, 1, 1])
    (losses.cross_entropy(output, labels, smoothing=0.1) + losses.triplet(output, labels, margin=1.0)).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


@pytest.mark.parametrize("last", [1, 3, 4])
def test_stages_that_nothing_reads_are_not_built_and_imagenet_still_loads(tmp_path, images, last):
    import torchvision

    torch.manual_seed(1)
    file = tmp_path / "resnet50.pth"
    torch.save(torchvision.models.resnet50().state_dict(), file)
    model = network(stages=(last,), order="©", **LIGHT)
    assert [stage for stage in (1, 2, 3, 4) if hasattr(model.backbone, f"stage{stage}")] == list(range(1, last + 1))
    model.backbone.load_weights(file)
    whole = Backbone(last_stride=1)
    whole.load_weights(file)
    with torch.inference_mode():
        expected, got = whole.eval()(images), model.backbone.eval()(images)
    assert list(got) == list(range(1, last + 1))
    assert all(torch.equal(got[stage], expected[stage]) for stage in got)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (dict(stages=()), "stages"),
        (dict(stages=(4, 4)), "stages"),
        (dict(stages=(0, 1)), "stages"),
        (dict(order="S+C"), "order"),
        (dict(order="S+©+S"), "order"),
        (dict(order=""), "order"),
        (dict(order="S©C"), "order"),
        (dict(channel_attention="difference"), "channel_attention"),
        (dict(order="S+©", channel_attention="separate"), "needs a C"),
        (dict(parts="stripes"), "parts"),
        (dict(extractor="GeM"), "extractor"),
        (dict(activation="GELU"), "activation"),
        (dict(extractor="average", activation="LeakyReLU"), "needs extractor"),
        (dict(dropblock_share=1.0), "dropblock_share"),
        (dict(dropblock_share=-0.1), "dropblock_share"),
        (dict(triplet="both"), "triplet"),
        (dict(triplets_of="batches"), "triplets_of"),
        (dict(size=(64, 32)), "six stripes"),
    ],
    ids=str,
)
def test_impossible_switches_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        HAMR(5, **{"size": SIZE, **wrong})


def test_the_levels_are_named_as_the_papers_do():
    assert {name: sum(map(len, levels)) for name, levels in LEVELS.items()} == {"MGO": 21, "PCB": 6, "global": 1}
