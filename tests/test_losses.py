"""Each loss against a slow loop over images, written from its formula; then the criterion that adds them up."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck

from reidlib import losses
from reidlib.losses import Centre, Criterion
from reidlib.models.output import Output
from reidlib.spec import Assumed, Loss, ReidError, Stated

LABELS = torch.tensor([0, 0, 2, 2, 2, 1, 1])
SEEDS = st.integers(0, 2**32)


def output(count=7, classes=4, widths=(5, 3), seed=0, dtype=torch.float64, **more) -> Output:
    """A random output with two classifiers and one vector for each width; everything wants a gradient."""
    generator = torch.Generator().manual_seed(seed)

    def draw(width):
        return torch.randn(count, width, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    return Output(draw(2), [draw(classes), draw(classes)], [draw(width) for width in widths], {}, **more)


# ------------------------------------------------------------------------------------------------ identity loss


def slow_cross_entropy(logits, labels, smoothing):
    classes = logits.shape[1]
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        normaliser = math.log(sum(math.exp(entry) for entry in row))
        for k in range(classes):
            target = smoothing / classes + (1 - smoothing if k == label else 0)
            total -= target * (row[k] - normaliser)
    return total / len(labels)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.floats(0, 1), st.lists(st.floats(0, 2), min_size=2, max_size=2))
def test_cross_entropy_is_the_weighted_sum_over_classifiers(seed, smoothing, shares):
    out = output(seed=seed, shares=shares)
    first, second = (slow_cross_entropy(logits, LABELS, smoothing) for logits in out.logits)
    expected = shares[0] * first + shares[1] * second
    assert losses.cross_entropy(out, LABELS, smoothing=smoothing).item() == pytest.approx(expected)


def test_cross_entropy_by_hand():
    even = Output(torch.zeros(2, 1), [torch.zeros(2, 4)], [], {})
    assert losses.cross_entropy(even, torch.tensor([0, 3])).item() == pytest.approx(math.log(4))
    # one logit of ln 3 in two classes: probabilities 3/4 and 1/4
    sure = Output(torch.zeros(1, 1), [torch.tensor([[math.log(3), 0.0]])], [], {})
    target = 0.95 * -math.log(3 / 4) + 0.05 * -math.log(1 / 4)  # ε = 0.1 of two classes
    assert losses.cross_entropy(sure, torch.tensor([0]), smoothing=0.1).item() == pytest.approx(target)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_options_cross_entropy_is_to_the_bit_what_it_was(dtype):
    out = output(dtype=dtype)
    before = torch.stack([nn.functional.cross_entropy(logits.float(), LABELS) for logits in out.logits]).sum()
    after = Criterion({"cross_entropy": Loss(losses.cross_entropy)}, 5, [])(out, LABELS)["cross_entropy"]
    assert torch.equal(before, after)
    old, new = (torch.autograd.grad(loss, out.logits) for loss in (before, after))
    assert all(map(torch.equal, old, new))


def test_shares_of_one_are_the_plain_sum_and_a_wrong_number_is_named():
    out = output()
    assert torch.equal(losses.cross_entropy(out, LABELS), losses.cross_entropy(replace(out, shares=(1, 1)), LABELS))
    with pytest.raises(ReidError, match="3 shares for 2 classifiers"):
        losses.cross_entropy(replace(out, shares=(1, 1, 1)), LABELS)


# ------------------------------------------------------------------------------------------------------ triplet


def slow_triplet(vectors, labels, margin, reduction):
    vectors, labels = vectors.tolist(), labels.tolist()
    hinges = []
    for a, anchor in enumerate(vectors):
        farthest, nearest = -math.inf, math.inf
        for b, other in enumerate(vectors):
            distance = math.dist(anchor, other)
            if a != b and labels[a] == labels[b]:
                farthest = max(farthest, distance)
            if labels[a] != labels[b]:
                nearest = min(nearest, distance)
        hinges.append(max(0.0, farthest - nearest + margin))
    return sum(hinges) / (len(hinges) if reduction == "mean" else 1)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.floats(0, 3), st.sampled_from(["mean", "sum"]), st.permutations(LABELS.tolist()))
def test_triplet_is_the_loop_over_anchors(seed, margin, reduction, labels):
    out, labels = output(seed=seed), torch.tensor(labels)
    first, second = (slow_triplet(vectors, labels, margin, reduction) for vectors in out.features)
    both = losses.triplet(out, labels, margin=margin, reduction=reduction)
    assert both.item() == pytest.approx((first + second) / 2)
    one = losses.triplet(replace(out, features=out.features[1:]), labels, margin=margin, reduction=reduction)
    assert one.item() == pytest.approx(second)


def test_triplet_by_hand():
    """On a line: identity 0 at 0 and 3, identity 1 at 4 and 4. Hinges with margin 1: 3−4+1, 3−1+1, 0−1+1, 0−1+1."""
    out = Output(torch.zeros(4, 1), [], [torch.tensor([[0.0], [3.0], [4.0], [4.0]], requires_grad=True)], {})
    labels = torch.tensor([0, 0, 1, 1])
    assert losses.triplet(out, labels, margin=1.0, reduction="sum").item() == 3
    loss = losses.triplet(out, labels, margin=1.0)
    assert loss.item() == 0.75
    (gradient,) = torch.autograd.grad(loss, out.features[0])
    # the one active hinge |f1 − f0| − |f1 − f2|: −1 on f0, +2 on f1, −1 on one of the two equal ones; a quarter each
    assert gradient[:2].flatten().tolist() == [-0.25, 0.5]
    assert sorted(gradient[2:].flatten().tolist()) == [-0.25, 0.0]


def test_the_gradient_is_that_of_all_distances_at_once():
    out, labels = output(seed=3), LABELS
    vectors = out.features[0]
    distances = (vectors[:, None] - vectors[None]).square().sum(2).add(1e-30).sqrt()
    same = labels[:, None] == labels[None]
    hardest = distances.masked_fill(~same, -1).amax(1) - distances.masked_fill(same, 1e9).amin(1)
    (expected,) = torch.autograd.grad((hardest + 1.0).relu().mean(), vectors)
    (found,) = torch.autograd.grad(losses.triplet(replace(out, features=[vectors]), labels, margin=1.0), vectors)
    torch.testing.assert_close(found, expected)


def test_triplet_passes_gradcheck_and_lives_at_distance_zero():
    out = output(seed=1)

    def loss(*vectors):
        return losses.triplet(replace(out, features=list(vectors)), LABELS, margin=1.0)

    assert gradcheck(loss, out.features)
    for vectors in (torch.zeros(4, 3, requires_grad=True), torch.ones(4, 3, requires_grad=True)):
        equal = losses.triplet(replace(out, features=[vectors]), torch.tensor([0, 0, 1, 1]), margin=0.3)
        assert equal.item() == pytest.approx(0.3)
        assert torch.autograd.grad(equal, vectors)[0].tolist() == torch.zeros(4, 3).tolist()


def test_close_vectors_far_from_zero_are_told_apart():
    """|a|² + |b|² − 2ab in float32 would lose all of a distance of 0.01 between vectors of length 7000."""
    vectors = torch.full((4, 4), 4000.0)
    vectors[:, 0] = torch.tensor([0.0, 0.01, 0.05, 0.09])
    loss = losses.triplet(replace(output(), features=[vectors]), torch.tensor([0, 0, 1, 1]), margin=0.05)
    assert loss.item() == pytest.approx((0.01 + 0.02 + 0.05 + 0.01) / 4, rel=1e-4)


@pytest.mark.parametrize("labels, words", [
    ([0, 0, 1, 1, 3, 2, 2], "identity 3 has one in this batch of 7: set per_identity to 2"),
    ([5] * 7, "these 7 images show identity 5 alone: use a batch larger"),
])  # fmt: skip
def test_a_batch_without_triplets_is_refused(labels, words):
    with pytest.raises(ReidError, match=words):
        losses.triplet(output(), torch.tensor(labels), margin=0.3)


def test_no_loss_looks_at_numbers_on_the_device():
    """A tensor on "meta" has none to show: it stands for a GPU, which such a look would wait for."""
    out = Output(
        torch.empty(7, 2, device="meta"),
        [torch.empty(7, 4, device="meta", requires_grad=True)],
        [torch.empty(7, 5, device="meta", requires_grad=True)],
        {},
        reference=torch.empty(7, 4, device="meta"),
    )
    terms = {
        "identity": Loss(losses.cross_entropy, options=dict(smoothing=0.1)),
        "triplet": Loss(losses.triplet, options=dict(margin=0.3)),
        "ranking": Loss(losses.ranking, options=dict(margin=0.1)),
        "centre": Loss(Centre, 0.01, dict(rate=0.5)),
    }
    criterion = Criterion(terms, 4, [5]).to("meta")
    sum(criterion(out, LABELS.to("meta")).values()).backward()
    assert out.features[0].grad.shape == (7, 5)


def test_labels_can_be_checked_before_they_are_sent():
    criterion = Criterion({"triplet": ALL["triplet"]}, 4, [])
    with pytest.raises(ReidError, match="identity 3 has one in this batch of 7: set per_identity to 2"):
        criterion.check(torch.tensor([0, 0, 1, 1, 3, 2, 2]))
    criterion.check(LABELS)
    Criterion({"identity": Loss(losses.cross_entropy)}, 4, []).check(torch.tensor([5]))


def test_options_that_mean_nothing_are_named():
    with pytest.raises(ValueError, match="reduction must be 'mean' or 'sum', not 'max'"):
        losses.triplet(output(), LABELS, margin=0.3, reduction="max")
    with pytest.raises(ValueError, match="reduction must be 'mean' or 'sum', not 'none'"):
        Centre(3, [2], rate=0.5, reduction="none")
    for loss in (lambda o: losses.triplet(o, LABELS, margin=0.3), lambda o: Centre(3, [], rate=0.5)):
        with pytest.raises(ReidError, match="no vectors to compare"):
            loss(output(widths=()))


# ------------------------------------------------------------------------------------------------------ ranking


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.floats(0, 0.5))
def test_ranking_is_equation_5_of_fmn(seed, margin):
    out = output(seed=seed)
    reference = torch.randn(7, 4, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    total = 0.0
    for ours, theirs, label in zip(out.logits[0].tolist(), reference.tolist(), LABELS.tolist(), strict=True):
        local, whole = (math.exp(p[label]) / sum(math.exp(entry) for entry in p) for p in (ours, theirs))
        total += max(0.0, whole - local + margin)
    found = losses.ranking(replace(out, reference=reference), LABELS, margin=margin)
    assert found.item() == pytest.approx(total / 7)


def test_ranking_by_hand_and_no_gradient_into_the_reference():
    ours = torch.tensor([[0.0, 0.0], [0.0, 0.0]], requires_grad=True)  # 1/2 each
    theirs = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]], requires_grad=True)  # 3/4 and 1/4 on class 0
    out = Output(torch.zeros(2, 1), [ours], [], {}, reference=theirs)
    loss = losses.ranking(out, torch.tensor([0, 0]), margin=0.05)
    assert loss.item() == pytest.approx((0.3 + 0) / 2)
    loss.backward()
    assert theirs.grad is None and ours.grad[0, 0] < 0 and not ours.grad[1].any()
    with pytest.raises(ReidError, match="frozen reference network, and this model's output has none"):
        losses.ranking(replace(out, reference=None), torch.tensor([0, 0]), margin=0.05)


def test_ranking_passes_gradcheck():
    out = replace(output(seed=2), reference=output(seed=5).logits[1].detach())
    assert gradcheck(lambda logits: losses.ranking(replace(out, logits=[logits]), LABELS, margin=0.1), out.logits[0])


# ------------------------------------------------------------------------------------------------------- centre


@pytest.mark.parametrize("reduction, share", [("mean", 1 / 7), ("sum", 1)])
def test_centre_is_half_the_squared_distance(reduction, share):
    out, loss = output(seed=4), Centre(4, [5, 3], rate=0.5, reduction=reduction).double()
    total = 0.0
    for vectors, centres in zip(out.features, loss.centres, strict=True):
        for vector, label in zip(vectors.tolist(), LABELS.tolist(), strict=True):
            total += 0.5 * math.dist(vector, centres[label].tolist()) ** 2
    assert loss(out, LABELS).item() == pytest.approx(total / 2 * share)


def test_a_step_of_the_centre_moves_it_towards_its_images():
    loss = Centre(3, [1], rate=0.5).double()
    with torch.no_grad():
        loss.centres[0].copy_(torch.tensor([[0.0], [10.0], [7.0]]))
    vectors = torch.tensor([[2.0], [4.0], [14.0], [14.0]], dtype=torch.float64)
    out, labels = Output(vectors, [], [vectors], {}), torch.tensor([0, 0, 1, 1])
    assert loss(out, labels).item() == (2 + 8 + 8 + 8) / 4
    loss(out, labels).backward()
    torch.optim.SGD(loss.parameters(), lr=loss.rate).step()
    # rate/B · Σ offsets: 0.5/4 · 6 and 0.5/4 · 8; an identity outside the batch stays
    assert loss.centres[0].flatten().tolist() == [0.75, 11.0, 7.0]


def test_centre_passes_gradcheck_for_features_and_centres():
    out, loss = output(seed=6), Centre(4, [5, 3], rate=0.5).double()

    def value(first, second, *centres):
        named = {f"centres.{i}": centre for i, centre in enumerate(centres)}
        return torch.func.functional_call(loss, named, (replace(out, features=[first, second]), LABELS))

    assert gradcheck(value, (*out.features, *loss.parameters()))


def test_the_centres_depend_on_their_seed_alone():
    torch.manual_seed(1)
    first = Centre(500, [8], rate=0.5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second, other = Centre(500, [8], rate=0.5), Centre(500, [8], rate=0.5, seed=1)
    assert torch.equal(torch.get_rng_state(), state), "the model's own draws are left alone"
    assert torch.equal(first.centres[0], second.centres[0]) and not torch.equal(first.centres[0], other.centres[0])
    assert abs(first.centres[0].mean()) < 0.05 and abs(first.centres[0].std() - 1) < 0.05


def test_centres_for_another_model_are_refused():
    with pytest.raises(ReidError, match=r"centres have widths \[5, 4\], the model's features \[5, 3\]"):
        Centre(4, [5, 4], rate=0.5)(output(), LABELS)


# ---------------------------------------------------------------------------------------------------- criterion

ALL = {
    "identity": Loss(losses.cross_entropy, options={"smoothing": 0.1}),
    "triplet": Loss(losses.triplet, 2.0, {"margin": 0.3}),
    "centre": Loss(Centre, Stated(0.0005, where="L550"), {"rate": 0.5}),
    "ranking": Loss(losses.ranking, Assumed(0.5, because="a test"), {"margin": 0.1}),
}


def test_the_criterion_names_weighs_and_keeps_the_order():
    out = output(reference=output(seed=1).logits[0].detach())
    found = Criterion(ALL, 4, [5, 3]).double()(out, LABELS)
    centre = Centre(4, [5, 3], rate=0.5).double()
    expected = {
        "identity": losses.cross_entropy(out, LABELS, smoothing=0.1),
        "triplet": 2.0 * losses.triplet(out, LABELS, margin=0.3),
        "centre": 0.0005 * centre(out, LABELS),
        "ranking": 0.5 * losses.ranking(out, LABELS, margin=0.1),
    }
    assert list(found) == list(expected)
    assert {name: value.item() for name, value in found.items()} == {k: v.item() for k, v in expected.items()}


@pytest.mark.parametrize("weight", [0.0005, 3.0])
def test_a_weight_scales_the_networks_gradient_and_not_the_centres(weight):
    out = output(seed=7)
    criterion = Criterion({"centre": Loss(Centre, weight, {"rate": 0.5})}, 4, [5, 3]).double()
    plain = Centre(4, [5, 3], rate=0.5).double()
    plain(out, LABELS).backward()
    unweighted = [vectors.grad.clone() for vectors in out.features]
    for vectors in out.features:
        vectors.grad = None
    criterion(out, LABELS)["centre"].backward()
    for vectors, gradient in zip(out.features, unweighted, strict=True):
        torch.testing.assert_close(vectors.grad, weight * gradient)
    for ours, theirs in zip(criterion.parameters(), plain.parameters(), strict=True):
        assert theirs.grad.any() and torch.equal(ours.grad, theirs.grad)


def test_own_groups_hold_the_parameters_of_the_losses_with_their_rates():
    criterion = Criterion(ALL, 4, [5, 3])
    (group,) = criterion.own_groups()
    assert group["lr"] == 0.5
    assert [weight.shape for weight in group["params"]] == [(4, 5), (4, 3)]
    assert {id(weight) for weight in group["params"]} == {id(weight) for weight in criterion.parameters()}
    torch.optim.SGD(criterion.own_groups())
    assert sorted(criterion.state_dict()) == ["stateful.centre.centres.0", "stateful.centre.centres.1"]
    assert Criterion({"identity": Loss(losses.cross_entropy)}, 4, []).own_groups() == []


def test_half_precision_features_are_measured_in_float32_under_autocast_too():
    reference = output(seed=1, dtype=torch.bfloat16).logits[0].detach()
    out = output(dtype=torch.bfloat16, reference=reference)
    logits, features = ([x.float() for x in tensors] for tensors in (out.logits, out.features))
    wide = Output(out.embedding.float(), logits, features, {}, reference=reference.float())
    criterion = Criterion(ALL, 4, [5, 3])
    expected = criterion(wide, LABELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = criterion(out, LABELS)
    for name, value in found.items():
        assert value.dtype == torch.float32 and torch.equal(value, expected[name]), name
    sum(found.values()).backward()
    assert all(vectors.grad.isfinite().all() and vectors.grad.any() for vectors in (*out.features, *out.logits))


def test_a_loss_that_is_not_a_number_stays_visible():
    out = output()
    broken = replace(out, features=[torch.full((7, 5), torch.nan, dtype=torch.float64), out.features[1]])
    criterion = Criterion({name: ALL[name] for name in ("triplet", "centre")}, 4, [5, 3]).double()
    assert all(value.isnan() for value in criterion(broken, LABELS).values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_gpu_computes_the_same_losses():
    out = output(dtype=torch.float32, reference=output(seed=1, dtype=torch.float32).logits[0].detach())
    logits, features = ([x.cuda() for x in tensors] for tensors in (out.logits, out.features))
    moved = Output(out.embedding.cuda(), logits, features, {}, reference=out.reference.cuda())
    cpu, gpu = (Criterion(ALL, 4, [5, 3]).to(device) for device in ("cpu", "cuda"))
    for name, value in gpu(moved, LABELS.cuda()).items():
        torch.testing.assert_close(value.cpu(), cpu(out, LABELS)[name])
