"""The evaluator against values by hand, a slow obvious loop, and the real identities and cameras of Market-1501."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat

from reidlib.evaluation import Features, Protocol, evaluate
from reidlib.evaluation.distances import TIE
from reidlib.evaluation.ranking import average_precision, rank_distances
from reidlib.spec import ReidError

METADATA = Path(__file__).parents[1] / "metadata"
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def slow(distances, query_ids, query_cameras, gallery_ids, gallery_cameras, tie=TIE):
    """The rules of Market-1501, image by image. Rows of (ap, trapezoid, inp, first hit, ties), None for an excluded
    query."""
    results = []
    for row, identity, camera in zip(distances, query_ids, query_cameras, strict=True):
        right, wrong = [], []
        for distance, other, seen in zip(row, gallery_ids, gallery_cameras, strict=True):
            if other == -1 or (other == identity and seen == camera):
                continue
            (right if other == identity else wrong).append(distance)
        if not right:
            results.append(None)
            continue
        # a wrong image that is tied with a match stands before it
        wrong = np.array(wrong)
        ranks = [k + int((wrong <= distance + tie).sum()) for k, distance in enumerate(sorted(right), 1)]
        ties = sum(bool((np.abs(wrong - distance) <= tie).any()) for distance in right)
        plain = trapezoid = recall = 0.0
        found, precision_before = 0, 1.0
        for place in range(1, ranks[-1] + 1):
            found += place in ranks
            precision = found / place
            if place in ranks:
                plain += precision / len(right)
            trapezoid += (found / len(right) - recall) * (precision_before + precision) / 2
            recall, precision_before = found / len(right), precision
        results.append((plain, trapezoid, len(right) / ranks[-1], ranks[0], ties))
    return results


def score(query, gallery, query_ids, query_cameras, ids, cameras, **options):
    """`evaluate` of bare arrays, by cosine unless told otherwise."""
    sets = Features(query, query_ids, query_cameras, "query"), Features(gallery, ids, cameras, "gallery")
    return evaluate(*sets, **{"metric": "cosine", **options})


def squared_distances(queries, gallery, metric="cosine", ids=None):
    """float64, in units of the spread: the median squared distance of the gallery images that are no junk from their
    median. Under cosine of features of length 1, where a zero vector has cosine 0 to everything."""
    queries, gallery = np.asarray(queries, np.float64), np.asarray(gallery, np.float64)
    zero = 0
    if metric == "cosine":
        sets = queries, gallery
        lengths = [np.linalg.norm(f, axis=1) for f in sets]
        zero = (lengths[0] == 0)[:, None] * 1.0 + (lengths[1] == 0)
        queries, gallery = (
            f / np.where(n == 0, 1, n)[:, None] for f, n in zip((queries, gallery), lengths, strict=True)
        )
    kept = gallery if ids is None else gallery[np.asarray(ids) != -1]
    spread = 1.0
    if len(kept):
        middle = (len(kept) - 1) // 2
        apart = np.sort(((kept - np.sort(kept, axis=0)[middle]) ** 2).sum(1))
        spread = apart[middle] or apart[-1] or 1.0
    return (np.array([((query - gallery) ** 2).sum(1) for query in queries]) + zero) / spread


def agree(ranking, expected):
    assert ranking.valid.tolist() == [row is not None for row in expected]
    for name, column in (("ap", 0), ("ap_trapezoid", 1), ("inp", 2), ("first_hit", 3), ("ties", 4)):
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
    ranking = rank_distances(distances, [7], [1], [7 if hit else 8 for hit in hits], [2] * len(hits))
    assert ranking.metrics()["mAP"] == pytest.approx(100 * plain)
    assert ranking.metrics()["mAP_trapezoid"] == pytest.approx(100 * trapezoid)


def test_summary_counts_and_percent():
    """Two valid queries, first hits at rank 1 and 2, and one without a match, which enters no mean."""
    distances = torch.tensor([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]])
    metrics = rank_distances(distances, [1, 2, 9], [1, 1, 1], [1, 2, 0], [2, 2, 2]).metrics()
    assert metrics == {
        "rank1": 50.0, "rank5": 100.0, "rank10": 100.0, "rank20": 100.0, "mAP": 75.0, "mAP_trapezoid": 62.5,
        "mINP": 75.0, "queries": 2, "excluded_queries": 1, "ties": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_tie_ranks_the_wrong_image_first(order):
    ids = np.array([1, 2])[order]
    for gap, first in ((0.0, 2), (0.9e-6, 2), (1.1e-6, 1)):
        for unit in (1e-9, 1.0, 1e9):  # a tie is a share of the typical distance
            distances = unit * torch.where(torch.from_numpy(ids) == 1, 1.0, 1.0 + gap).double()[None]
            ranking = rank_distances(distances, [1], [1], ids, [2, 2])
            assert ranking.first_hit[0] == first
            assert ranking.metrics()["ties"] == (100 if first == 2 else 0)


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
    ids[:queries] = generator.integers(1, 4, queries)
    cameras = generator.integers(1, 4, queries + gallery)
    parts = [(array[:queries], array[queries:]) for array in (bank, ids, cameras)]
    return parts[0] + (parts[1][0], parts[2][0], parts[1][1], parts[2][1])


@settings(max_examples=300, deadline=None)
@given(small_sets(), st.integers(1, 7), st.sampled_from(["euclidean", "cosine"]))
def test_ranking_equals_the_slow_loop(sets, block, metric):
    query, gallery, *labels = sets
    distances = squared_distances(query, gallery, metric, labels[2])
    expected = slow(distances, *labels)
    if not any(expected):
        with pytest.raises(ReidError, match="true match"):
            score(query, gallery, *labels)
        return
    agree(score(query, gallery, *labels, block=block, metric=metric), expected)
    tie = TIE * (np.sort(distances, axis=None)[(distances.size - 1) // 2] or distances.max())
    agree(rank_distances(distances, *labels, block=block), slow(distances, *labels, tie=tie))


def many(queries=60, gallery=900, size=256, *, spread, seed=0):
    """Clustered features of a size where float32 rounding and the tie rule meet."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(20, size, generator=generator)
    ids = torch.randint(-1, 20, (queries + gallery,), generator=generator)
    ids[:queries] = ids[:queries].clamp(min=1)
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
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_every_image_near_a_tie_is_decided_as_in_float64(name, features, metric):
    query, gallery, *labels = many(20, 500, spread=4.0)
    query, gallery = features(query), features(gallery)
    expected = slow(squared_distances(query, gallery, metric, labels[2]), *labels)
    agree(score(query, gallery, *labels, metric=metric), expected)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_features_close_together_are_ranked_as_finely_as_others(metric):
    """All cosines above 0.9999, as an untrained network has them: an absolute tolerance made ties of most matches."""
    query, gallery, *labels = many(spread=1.0)
    near = [1 + 1e-3 * each.double() for each in (query, gallery)]
    cosines = torch.nn.functional.normalize(near[0]) @ torch.nn.functional.normalize(near[1]).T
    assert cosines.min() > 0.9999
    ranking = score(*near, *labels, metric=metric)
    plain = score(query, gallery, *labels, metric="euclidean")
    assert ranking.metrics()["mAP"] == pytest.approx(plain.metrics()["mAP"], abs=2) and plain.metrics()["mAP"] > 70
    agree(ranking, slow(squared_distances(*near, metric, labels[2]), *labels))
    assert ranking.metrics()["ties"] < 1


@settings(max_examples=25, deadline=None)
@given(small_sets(), st.floats(-12, 12), st.sampled_from(["euclidean", "cosine"]))
def test_another_unit_changes_nothing(sets, exponent, metric):
    query, gallery, *labels = sets
    try:
        plain = score(query.astype(np.float64), gallery.astype(np.float64), *labels, metric=metric)
    except ReidError:
        return  # no query with a match
    scale = 10.0**exponent
    scaled = score(query * scale, gallery * scale, *labels, metric=metric)
    assert scaled.metrics() == pytest.approx(plain.metrics(), abs=1e-9)


def test_a_rotation_of_the_space_and_extreme_units_change_nothing():
    query, gallery, *labels = many(spread=4.0)
    gallery[100:200] = gallery[:100]
    turn = torch.linalg.qr(torch.randn(256, 256, generator=torch.Generator().manual_seed(3), dtype=torch.float64))[0]
    for metric in ("euclidean", "cosine"):
        plain = score(query, gallery, *labels, metric=metric)
        # the median of each dimension, and so the spread, turns with the axes: a tie may be a little wider or narrower
        turned = score(query.double() @ turn, gallery.double() @ turn, *labels, metric=metric)
        assert turned.metrics()["mAP"] == pytest.approx(plain.metrics()["mAP"], abs=1e-3)
        for factor in (1e-200, 1e200):
            far = score(query.double() * factor, gallery.double() * factor, *labels, metric=metric)
            assert far.metrics() == pytest.approx(plain.metrics(), abs=1e-9)


def test_one_feature_far_away_disturbs_no_other():
    query, gallery, *labels = many(spread=4.0)
    before = score(query, gallery, *labels, metric="euclidean")
    labels[2], labels[3] = torch.cat((labels[2], torch.tensor([0]))), torch.cat((labels[3], torch.tensor([1])))
    more = torch.cat((gallery, torch.full((1, 256), 1e12))).double()
    for far in (1e3, 1e12, 1e30):
        more[-1] = far
        assert score(query, more, *labels, metric="euclidean").metrics()["mAP"] == pytest.approx(
            before.metrics()["mAP"], abs=1e-3
        )
    more[-1] = 1e200
    with pytest.raises(ReidError, match=r"row \d+ of \d+ features is 1.6e\+201 away from .* is typical; look"):
        score(query, more, *labels, metric="euclidean")
    assert score(query, more, *labels, metric="cosine").metrics()["queries"] == before.metrics()["queries"]


@pytest.mark.parametrize("spread", [1.0, 5.0])
def test_order_of_the_gallery_and_block_size_change_nothing(spread):
    query, gallery, query_ids, query_cameras, ids, cameras = many(spread=spread)
    gallery[100:200] = gallery[:100]  # duplicates under other identities
    query[:10] = gallery[:10]
    whole = score(query, gallery, query_ids, query_cameras, ids, cameras)
    order = torch.randperm(len(gallery), generator=torch.Generator().manual_seed(1))
    turned = score(query, gallery[order], query_ids, query_cameras, ids[order], cameras[order])
    blocks = [score(query, gallery, query_ids, query_cameras, ids, cameras, block=block) for block in (1, 7, 60)]
    for other in (turned, *blocks):
        assert other.metrics() == pytest.approx(whole.metrics(), abs=1e-9)
        np.testing.assert_array_equal(other.first_hit, whole.first_hit)
        np.testing.assert_array_equal(other.ties, whole.ties)


def test_junk_changes_nothing_and_a_distractor_never_helps():
    query, gallery, query_ids, query_cameras, ids, cameras = many(spread=3.0)
    before = score(query, gallery, query_ids, query_cameras, ids, cameras)
    more = torch.cat((gallery, query)), torch.cat((cameras, torch.ones(len(query), dtype=torch.int64)))
    for identity in (-1, 0):
        more_ids = torch.cat((ids, torch.full((len(query),), identity)))
        after = score(query, more[0], query_ids, query_cameras, more_ids, more[1])
        if identity == -1:
            assert after.metrics() == before.metrics()
        else:  # a copy of the query itself stands first
            assert (after.ap[after.valid] <= before.ap[before.valid]).all()
            assert (after.first_hit[after.valid] > before.first_hit[before.valid]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_float_types_and_layouts(dtype):
    query, gallery, *labels = many(spread=1.0, size=64)
    plain = score(query.to(dtype).float(), gallery.to(dtype).float(), *labels)
    wide = torch.stack((gallery, gallery), dim=2).to(dtype)[:, :, 0]
    assert not wide.is_contiguous()
    assert score(query.to(dtype), wide, *labels).metrics() == pytest.approx(plain.metrics(), abs=0.2)
    doubled = score(query.to(dtype).numpy(), gallery.to(dtype).numpy(), *[label.tolist() for label in labels])
    assert doubled.metrics() == score(query.to(dtype), wide, *labels).metrics()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def test_a_low_precision_that_training_switched_on_is_not_used(device):
    query, gallery, *labels = many(spread=4.0)
    query, gallery = query.to(device), gallery.to(device)
    plain = score(query, gallery, *labels).metrics()
    with torch.autocast(device, dtype=torch.bfloat16):
        assert score(query, gallery, *labels).metrics() == plain
    switch, value = (torch.backends.cuda, "tf32") if device == "cuda" else (torch.backends.mkldnn, "bf16")
    before = switch.matmul.fp32_precision
    try:
        switch.matmul.fp32_precision = value
        assert score(query, gallery, *labels).metrics() == plain
        assert switch.matmul.fp32_precision == value
    finally:
        switch.matmul.fp32_precision = before


def test_features_of_inference_mode_are_taken():
    query, gallery, *labels = many(spread=4.0)
    with torch.inference_mode():
        frozen = query * 1, gallery * 1
        inside = score(*frozen, *labels).metrics()
    assert inside == score(*frozen, *labels).metrics() == score(query, gallery, *labels).metrics()


@NEEDS_GPU
def test_gpu_equals_cpu():
    query, gallery, *labels = many(spread=4.0)
    cpu, gpu = score(query, gallery, *labels), score(query.cuda(), gallery.cuda(), *labels)
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
    ranking = score(query, gallery, query_ids, query_cameras, ids, cameras)
    metrics = ranking.metrics()
    assert (metrics["queries"], metrics["excluded_queries"]) == (3368, 0)
    # chance: the share of matches among the images that take part, about 0.1 %
    true = (ids == query_ids[:, None]) & (cameras != query_cameras[:, None])
    assert ranking.matches.tolist() == true.sum(1).tolist()
    assert metrics["mAP"] < 0.5 and metrics["rank1"] < 1 and metrics["mAP_trapezoid"] < metrics["mAP"]
    some = slice(0, 3368, 1200)
    expected = slow(squared_distances(query[some].numpy(), gallery.numpy()), query_ids[some], query_cameras[some],
                    ids, cameras)  # fmt: skip
    for name, column in (("ap", 0), ("first_hit", 3)):
        np.testing.assert_allclose(getattr(ranking, name)[some], [row[column] for row in expected], atol=1e-12)


@pytest.mark.parametrize("distances", [torch.ones(3), torch.ones(0, 2), torch.tensor([[1.0, float("nan")]])])
def test_bad_distances_are_named(distances):
    with pytest.raises(ReidError, match="distances .*; (give|look)"):
        rank_distances(distances, [1], [1], [1, 2], [2, 2])


def test_bad_labels_of_distances_are_named():
    with pytest.raises(ReidError, match=r"query_ids have shape \(2,\), but there are 1 images; give one"):
        rank_distances(torch.ones(1, 2), [1, 1], [1], [1, 2], [2, 2])
    with pytest.raises(ReidError, match="block=0 is no number of images; give 1"):
        rank_distances(torch.ones(1, 2), [1], [1], [1, 2], [2, 2], block=0)
    with pytest.raises(ReidError, match="unknown metric 'hamming'; choose one of euclidean, cosine"):
        score(torch.eye(2), torch.eye(2), [1, 2], [1, 1], [1, 2], [2, 2], metric="hamming")


def test_a_query_that_is_junk_or_distractor_is_explained():
    """Identities that count from 0, under rules in which 0 marks distractors."""
    for identity, kind in ((0, "distractors"), (-1, "junk")):
        words = f"query 1 of query and gallery has identity {identity} .1 such.*{identity} marks {kind}.*such as msmt17"
        with pytest.raises(ReidError, match=words):
            score(torch.eye(2), torch.eye(2), [1, identity], [1, 1], [1, identity], [2, 2])


def test_a_protocol_that_keeps_the_same_camera():
    same = Protocol("any-camera", "all cameras", ignore_same_camera=False)
    distances = torch.tensor([[0.1, 0.2, 0.3]])
    assert rank_distances(distances, [1], [1], [1, 2, 1], [1, 2, 2], protocol=same).first_hit[0] == 1
    assert rank_distances(distances, [1], [1], [1, 2, 1], [1, 2, 2]).first_hit[0] == 2
