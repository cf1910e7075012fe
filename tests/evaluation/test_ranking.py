"""The evaluator against values by hand, a slow obvious loop, and the real identities and cameras of Market-1501."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat

from reidlib.evaluation.protocols import MARKET1501_SINGLE_QUERY, PROTOCOLS, Protocol, protocol
from reidlib.evaluation.ranking import TIE, average_precision, evaluate, evaluate_distances
from reidlib.spec import ReidError

METADATA = Path(__file__).parents[1] / "metadata"
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def slow(distances, query_ids, query_cameras, gallery_ids, gallery_cameras):
    """The rules of Market-1501, image by image. Rows of (ap, trapezoid, inp, first hit), None for an excluded query."""
    results = []
    for row, identity, camera in zip(distances, query_ids, query_cameras, strict=True):
        right, wrong = [], []
        for distance, other, seen in zip(row, gallery_ids, gallery_cameras, strict=True):
            if other == -1 or (other == identity and seen == camera and identity > 0):
                continue
            (right if other == identity and identity > 0 else wrong).append(distance)
        if not right:
            results.append(None)
            continue
        # a wrong image that is tied with a match stands before it
        wrong = np.array(wrong)
        ranks = [k + int((wrong <= distance + TIE).sum()) for k, distance in enumerate(sorted(right), 1)]
        plain = trapezoid = recall = 0.0
        found, precision_before = 0, 1.0
        for rank in range(1, ranks[-1] + 1):
            found += rank in ranks
            precision = found / rank
            if rank in ranks:
                plain += precision / len(right)
            trapezoid += (found / len(right) - recall) * (precision_before + precision) / 2
            recall, precision_before = found / len(right), precision
        results.append((plain, trapezoid, len(right) / ranks[-1], ranks[0]))
    return results


def squared_distances(queries, gallery):
    """2 − 2 cos in float64; a zero vector has cosine 0 to everything."""

    def unit(features):
        norms = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
        return features / np.where(norms == 0, 1, norms)

    return 2 - 2 * unit(queries) @ unit(gallery).T


def agree(ranking, expected):
    assert ranking.valid.tolist() == [row is not None for row in expected]
    for name, column in (("ap", 0), ("ap_trapezoid", 1), ("inp", 2), ("first_hit", 3)):
        wanted = np.array([row[column] for row in expected if row is not None])
        np.testing.assert_allclose(getattr(ranking, name)[ranking.valid], wanted, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    "hits, plain, trapezoid",
    [
        ([1, 0, 1], (1 + 2 / 3) / 2, (1 + (1 / 2 + 2 / 3) / 2) / 2),
        ([0, 1], 1 / 2, 1 / 4),
        ([1, 1], 1, 1),
        ([0, 0, 1], 1 / 3, 1 / 6),
    ],
)
def test_average_precision_by_hand(hits, plain, trapezoid):
    assert average_precision(hits) == pytest.approx(plain)
    assert average_precision(hits, rule="trapezoid") == pytest.approx(trapezoid)
    distances = torch.arange(1.0, len(hits) + 1)[None]
    ranking = evaluate_distances(distances, [7], [1], [7 if hit else 8 for hit in hits], [2] * len(hits))
    assert ranking.metrics()["mAP"] == pytest.approx(100 * plain)
    assert ranking.metrics()["mAP_trapezoid"] == pytest.approx(100 * trapezoid)


def test_summary_counts_and_percent():
    """Two valid queries, first hits at rank 1 and 2, and one without a match, which enters no mean."""
    distances = torch.tensor([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]])
    metrics = evaluate_distances(distances, [1, 2, 9], [1, 1, 1], [1, 2, 0], [2, 2, 2]).metrics()
    assert metrics == {
        "rank1": 50.0, "rank5": 100.0, "rank10": 100.0, "rank20": 100.0, "mAP": 75.0, "mAP_trapezoid": 62.5,
        "mINP": 75.0, "queries": 2, "excluded_queries": 1,
    }  # fmt: skip


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_tie_ranks_the_wrong_image_first(order):
    ids = np.array([1, 2])[order]
    for gap, first in ((0.0, 2), (0.9e-6, 2), (1.1e-6, 1)):
        distances = torch.where(torch.from_numpy(ids) == 1, 0.5, 0.5 + gap).double()[None]
        assert evaluate_distances(distances, [1], [1], ids, [2, 2]).first_hit[0] == first


@st.composite
def small_sets(draw):
    """Small sets full of junk, distractors, same cameras, duplicates, zero vectors and near ties."""
    size, queries, gallery = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 24))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    coarse = draw(st.booleans())  # few values: many exact ties

    def features(count):
        values = generator.integers(-1, 2, (count, size)) if coarse else generator.normal(size=(count, size))
        return values.astype(np.float32)

    bank = features(queries + gallery)
    near = generator.random(len(bank)) < 0.3
    bank[near] = bank[0] + (generator.normal(size=(near.sum(), size)) * draw(st.sampled_from([0, 1e-4, 1e-3])))
    ids = generator.integers(-1, 4, queries + gallery)
    cameras = generator.integers(1, 4, queries + gallery)
    parts = [(array[:queries], array[queries:]) for array in (bank, ids, cameras)]
    return parts[0] + (parts[1][0], parts[2][0], parts[1][1], parts[2][1])


@settings(max_examples=300, deadline=None)
@given(small_sets(), st.integers(1, 7))
def test_ranking_equals_the_slow_loop(sets, block):
    query, gallery, *labels = sets
    expected = slow(squared_distances(query, gallery), *labels)
    if not any(expected):
        with pytest.raises(ReidError, match="true match"):
            evaluate(torch.from_numpy(query), torch.from_numpy(gallery), *labels)
        return
    ranking = evaluate(torch.from_numpy(query), torch.from_numpy(gallery), *labels, block=block)
    agree(ranking, expected)
    given_distances = torch.from_numpy(squared_distances(query, gallery))
    agree(evaluate_distances(given_distances, *labels, block=block), expected)


def many(queries=60, gallery=900, size=256, *, spread, seed=0):
    """Clustered features of a size where float32 rounding and the tie rule meet."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(20, size, generator=generator)
    ids = torch.randint(-1, 20, (queries + gallery,), generator=generator)
    features = centres[ids.clamp(min=0)] + spread * torch.randn(queries + gallery, size, generator=generator)
    cameras = torch.randint(1, 7, (queries + gallery,), generator=generator)
    labels = ids[:queries], cameras[:queries], ids[queries:], cameras[queries:]
    return features[:queries].contiguous(), features[queries:].contiguous(), *labels


@pytest.mark.parametrize("name, features", [
    ("clustered", lambda x: x),
    ("all nearly the same", lambda x: 1 + 1e-3 * x),
    ("all the same but for ties", lambda x: 1 + 1e-4 * x),
    ("positive", torch.relu),
    ("duplicates", lambda x: x.round().clamp(-1, 1)[:, :3]),
])  # fmt: skip
def test_every_image_near_a_tie_is_decided_as_in_float64(name, features):
    query, gallery, *labels = many(spread=4.0)
    query, gallery = features(query), features(gallery)
    expected = slow(squared_distances(query.numpy(), gallery.numpy()), *labels)
    agree(evaluate(query, gallery, *labels), expected)


@pytest.mark.parametrize("spread", [1.0, 5.0])
def test_order_of_the_gallery_and_block_size_change_nothing(spread):
    query, gallery, query_ids, query_cameras, ids, cameras = many(spread=spread)
    gallery[100:200] = gallery[:100]  # duplicates under other identities
    query[:10] = gallery[:10]
    whole = evaluate(query, gallery, query_ids, query_cameras, ids, cameras)
    order = torch.randperm(len(gallery), generator=torch.Generator().manual_seed(1))
    turned = evaluate(query, gallery[order], query_ids, query_cameras, ids[order], cameras[order])
    blocks = [evaluate(query, gallery, query_ids, query_cameras, ids, cameras, block=block) for block in (1, 7, 60)]
    for other in (turned, *blocks):
        assert other.metrics() == pytest.approx(whole.metrics(), abs=1e-9)
        np.testing.assert_array_equal(other.first_hit, whole.first_hit)


def test_junk_changes_nothing_and_a_distractor_never_helps():
    query, gallery, query_ids, query_cameras, ids, cameras = many(spread=3.0)
    before = evaluate(query, gallery, query_ids, query_cameras, ids, cameras)
    more = torch.cat((gallery, query)), torch.cat((cameras, torch.ones(len(query), dtype=torch.int64)))
    for identity in (-1, 0):
        more_ids = torch.cat((ids, torch.full((len(query),), identity)))
        after = evaluate(query, more[0], query_ids, query_cameras, more_ids, more[1])
        if identity == -1:
            assert after.metrics() == before.metrics()
        else:  # a copy of the query itself stands first
            assert (after.ap[after.valid] <= before.ap[before.valid]).all()
            assert (after.first_hit[after.valid] > before.first_hit[before.valid]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_float_types_and_layouts(dtype):
    query, gallery, *labels = many(spread=1.0, size=64)
    plain = evaluate(query.to(dtype).float(), gallery.to(dtype).float(), *labels)
    wide = torch.stack((gallery, gallery), dim=2).to(dtype)[:, :, 0]
    assert not wide.is_contiguous()
    assert evaluate(query.to(dtype), wide, *labels).metrics() == pytest.approx(plain.metrics(), abs=0.2)
    doubled = evaluate(query.to(dtype).numpy(), gallery.to(dtype).numpy(), *[label.tolist() for label in labels])
    assert doubled.metrics() == evaluate(query.to(dtype), wide, *labels).metrics()


def test_features_out_of_float32_range_keep_their_direction():
    query, gallery, *labels = many(spread=1.0, size=64)
    plain = evaluate(query.double(), gallery.double(), *labels).metrics()
    for factor in (1e-30, 1e30):
        assert evaluate(query.double() * factor, gallery.double() * factor, *labels).metrics() == pytest.approx(plain)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def test_a_low_precision_that_training_switched_on_is_not_used(device):
    query, gallery, *labels = many(spread=4.0)
    query, gallery = query.to(device), gallery.to(device)
    plain = evaluate(query, gallery, *labels).metrics()
    with torch.autocast(device, dtype=torch.bfloat16):
        assert evaluate(query, gallery, *labels).metrics() == plain
    switch, value = (torch.backends.cuda, "tf32") if device == "cuda" else (torch.backends.mkldnn, "bf16")
    before = switch.matmul.fp32_precision
    try:
        switch.matmul.fp32_precision = value
        assert evaluate(query, gallery, *labels).metrics() == plain
        assert switch.matmul.fp32_precision == value
    finally:
        switch.matmul.fp32_precision = before


def test_features_of_inference_mode_are_taken():
    query, gallery, *labels = many(spread=4.0)
    with torch.inference_mode():
        frozen = query * 1, gallery * 1
        inside = evaluate(*frozen, *labels).metrics()
    assert inside == evaluate(*frozen, *labels).metrics() == evaluate(query, gallery, *labels).metrics()


@NEEDS_GPU
def test_gpu_equals_cpu():
    query, gallery, *labels = many(spread=4.0)
    cpu, gpu = evaluate(query, gallery, *labels), evaluate(query.cuda(), gallery.cuda(), *labels)
    assert gpu.metrics() == pytest.approx(cpu.metrics(), abs=1e-9)


def test_market_metadata_as_witness():
    """The published identities and cameras with random features: counts, and chance-level numbers."""
    query_ids, query_cameras, ids, cameras = (
        loadmat(METADATA / f"{name}.mat")[field].ravel().astype(np.int64)
        for name, field in zip(
            ("queryID", "queryCam", "testID", "testCam"), ("queryID", "queryCAM", "testID", "testCAM"), strict=True
        )
    )
    assert (len(query_ids), len(ids), (ids == -1).sum(), (ids == 0).sum()) == (3368, 19732, 3819, 2798)
    generator = torch.Generator().manual_seed(0)
    query, gallery = (torch.randn(len(array), 32, generator=generator) for array in (query_ids, ids))
    ranking = evaluate(query, gallery, query_ids, query_cameras, ids, cameras)
    metrics = ranking.metrics()
    assert (metrics["queries"], metrics["excluded_queries"]) == (3368, 0)
    # chance: the share of matches among the images that take part, about 0.1 %
    true = (ids == query_ids[:, None]) & (cameras != query_cameras[:, None])
    assert ranking.matches.tolist() == true.sum(1).tolist()
    assert metrics["mAP"] < 0.5 and metrics["rank1"] < 1 and metrics["mAP_trapezoid"] < metrics["mAP"]
    some = slice(0, 3368, 400)
    expected = slow(squared_distances(query[some].numpy(), gallery.numpy()), query_ids[some], query_cameras[some],
                    ids, cameras)  # fmt: skip
    for name, column in (("ap", 0), ("first_hit", 3)):
        np.testing.assert_allclose(getattr(ranking, name)[some], [row[column] for row in expected], atol=1e-12)


GOOD = dict(
    query_features=torch.eye(2), gallery_features=torch.eye(2), query_ids=[1, 2], query_cameras=[1, 1],
    gallery_ids=[1, 2], gallery_cameras=[2, 2],
)  # fmt: skip


@pytest.mark.parametrize("change, words", [
    (dict(query_features=torch.tensor([[1.0, 0.0], [float("nan"), 1.0]])), "query_features holds NaN.*first row 1"),
    (dict(gallery_features=torch.tensor([[1.0, 0.0], [float("nan"), 1.0]]), gallery_ids=[-1, 2]), "NaN.*first row 1"),
    (dict(gallery_features=torch.tensor([[float("inf"), 0.0], [0.0, 1.0]])), "gallery_features holds NaN.*row 0"),
    (dict(gallery_features=torch.eye(3)[:2]), "2 dimensions, gallery_features 3; extract both"),
    (dict(query_features=torch.ones(2)), r"query_features has shape \(2,\); give N×D"),
    (dict(query_features=torch.ones(0, 2)), r"query_features has shape \(0, 2\); give"),
    (dict(gallery_features=torch.ones(0, 2)), r"gallery_features has shape \(0, 2\); give"),
    (dict(query_features=torch.ones(2, 2, dtype=torch.int64)), "query_features holds torch.int64; give a floating"),
    (dict(query_ids=[1]), r"query_ids has shape \(1,\), but there are 2 queries; give one"),
    (dict(gallery_cameras=[1, 2, 3]), r"gallery_cameras has shape \(3,\), but there are 2 gallery images; give"),
    (dict(gallery_ids=[1.5, 2.0]), "gallery_ids holds float64 values that are no whole numbers; give integers"),
    (dict(query_cameras=[2, 2]), "none of the 2 queries has a true match.*identity 1, camera 2.*check that"),
    (dict(gallery_ids=[-1, -1]), "none of the 2 queries has a true match"),
    (dict(query_ids=[0, 0], gallery_ids=[0, 0]), "none of the 2 queries has a true match"),
    (dict(block=0), "block=0 is no number of queries; give 1"),
])  # fmt: skip
def test_bad_input_is_named(change, words):
    with pytest.raises(ReidError, match=words) as caught:
        evaluate(**{**GOOD, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("distances", [torch.ones(3), torch.ones(0, 2), torch.tensor([[1.0, float("nan")]])])
def test_bad_distances_are_named(distances):
    with pytest.raises(ReidError, match="distances .*; (give|look)"):
        evaluate_distances(distances, [1], [1], [1, 2], [2, 2])


def test_protocols_by_name():
    assert protocol("market1501-single-query") is MARKET1501_SINGLE_QUERY
    assert all(name == each.name and each.title for name, each in PROTOCOLS.items())
    with pytest.raises(ReidError, match="'market' is unknown; choose one of market1501-single-query"):
        protocol("market")
    with pytest.raises(ReidError, match="metric 'hamming' is unknown"):
        Protocol("x", "x", metric="hamming")
    with pytest.raises(ReidError, match="identity 0 is both junk and distractor"):
        Protocol("x", "x", junk=(-1, 0))


def test_a_protocol_that_keeps_the_same_camera():
    same = Protocol("any-camera", "all cameras", ignore_same_camera=False)
    distances = torch.tensor([[0.1, 0.2, 0.3]])
    assert evaluate_distances(distances, [1], [1], [1, 2, 1], [1, 2, 2], protocol=same).first_hit[0] == 1
    assert evaluate_distances(distances, [1], [1], [1, 2, 1], [1, 2, 2]).first_hit[0] == 2
