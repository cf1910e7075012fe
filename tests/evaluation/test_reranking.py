"""Re-ranking against slow, literal implementations of the papers' formulas, in float64, image by image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidlib.evaluation import ECN, Features, KReciprocal, evaluate
from reidlib.evaluation.distances import TIE
from reidlib.spec import ReidError

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def squared(everyone, metric):
    """Squared distances N×N; under cosine 2 − 2·cos, where a zero vector has cosine 0 to everything."""
    everyone = everyone.astype(np.float64)
    if metric == "cosine":
        lengths = np.linalg.norm(everyone, axis=1)
        everyone = everyone / np.where(lengths == 0, 1, lengths)[:, None]
        return 2 - 2 * everyone @ everyone.T
    return ((everyone[:, None] - everyone) ** 2).sum(2)


def unit_of(everyone, metric):
    """What a tie of 1e-6 is measured in: the spread, the median squared distance of the images from their median."""
    everyone = everyone.astype(np.float64)
    if metric == "cosine":
        lengths = np.linalg.norm(everyone, axis=1)
        everyone = everyone / np.where(lengths == 0, 1, lengths)[:, None]
    middle = (len(everyone) - 1) // 2
    apart = np.sort(((everyone - np.sort(everyone, axis=0)[middle]) ** 2).sum(1))
    return apart[middle] or apart[-1] or 1.0


def rank_lists(distances, unit):
    """All images by distance in steps of a tie, then by number; the image itself first."""
    steps = np.round(distances / unit / TIE)
    np.fill_diagonal(steps, -1)
    return np.argsort(steps, axis=1, kind="stable")


def literal_k_reciprocal(query, gallery, k1, k2, lambda_, metric):
    """Zhong et al. 2017, §3, as the code they released reads it."""
    everyone = np.concatenate((query, gallery))
    total, queries = len(everyone), len(query)
    distances = squared(everyone, metric)
    lists = rank_lists(distances, unit_of(everyone, metric))
    farthest = distances.max(axis=1, keepdims=True)
    same = farthest < TIE / 2 * unit_of(everyone, metric)  # all images are one: what is left is rounding
    distances = np.where(same, 0, distances / np.where(same, 1, farthest))

    def nearest(image, k):
        return [int(other) for other in lists[image][: k + 1]]  # itself and k more

    def reciprocal(image, k):
        return {other for other in nearest(image, k) if image in nearest(other, k)}

    encodings = np.zeros((total, total))
    for image in range(total):
        expanded = set(reciprocal(image, k1))
        for candidate in reciprocal(image, k1):
            theirs = reciprocal(candidate, round(k1 / 2))
            if len(theirs & reciprocal(image, k1)) > 2 / 3 * len(theirs):
                expanded |= theirs
        weights = {other: np.exp(-distances[image, other]) for other in expanded}
        for other, weight in weights.items():
            encodings[image, other] = weight / sum(weights.values())
    encodings = np.stack([encodings[lists[image][:k2]].mean(axis=0) for image in range(total)])
    answer = np.zeros((queries, total - queries))
    for i in range(queries):
        for j in range(queries, total):
            smaller, larger = (f(encodings[i], encodings[j]).sum() for f in (np.minimum, np.maximum))
            answer[i, j - queries] = (1 - lambda_) * (1 - smaller / larger) + lambda_ * distances[i, j]
    return answer


def literal_ecn(query, gallery, k, t, q, distance, metric):
    """Sarfraz et al. 2018, with their rank-list similarity, as released."""
    everyone = np.concatenate((query, gallery))
    total, queries = len(everyone), len(query)
    unit = unit_of(everyone, metric)
    original = squared(everyone, metric) / 2 / unit
    lists = rank_lists(2 * original * unit, unit)
    places = np.argsort(lists, axis=1)

    def similarity(a, b):
        return sum(max(0, k - places[a, c]) * max(0, k - places[b, c]) for c in range(total))

    def between(a, b):
        return -similarity(a, b) if distance == "rank-list" else original[a, b]

    def around(image):
        first = [int(other) for other in lists[image][1 : t + 1]]
        return first + [int(other) for one in first for other in lists[one][1 : q + 1]]

    answer = np.zeros((queries, total - queries))
    for i in range(queries):
        for j in range(queries, total):
            pairs = [(a, j) for a in around(i)] + [(b, i) for b in around(j)]
            mean = np.mean([between(a, b) for a, b in pairs])
            answer[i, j - queries] = original[i, j] if distance == "rank-list" and mean == 0 else mean
    return answer


@st.composite
def small_sets(draw):
    """Queries and gallery, sometimes full of ties, duplicates and zero vectors, sometimes far from the origin."""
    size = draw(st.integers(1, 12))
    queries, gallery = draw(st.integers(1, 8)), draw(st.integers(3, 26))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["spread", "clusters", "coarse", "duplicates", "close"]))
    everyone = generator.normal(size=(queries + gallery, size))
    if kind == "clusters":
        everyone = everyone[generator.integers(0, 4, len(everyone))] + 0.3 * everyone
    elif kind == "coarse":
        everyone = generator.integers(-1, 2, everyone.shape)
    elif kind == "duplicates":
        everyone = everyone[generator.integers(0, len(everyone) // 2, len(everyone))]
    elif kind == "close":
        everyone = 5 + 0.01 * everyone
    everyone = everyone.astype(np.float32)
    return everyone[:queries], everyone[queries:]


SETS = small_sets()
METRIC = st.sampled_from(["euclidean", "cosine"])
BLOCK = st.sampled_from([None, 1, 3, 1000])


@settings(max_examples=120, deadline=None)
@given(SETS, st.data(), METRIC, BLOCK)
def test_k_reciprocal_equals_the_formulas(sets, data, metric, block):
    query, gallery = sets
    total = len(query) + len(gallery)
    k1 = data.draw(st.integers(1, min(20, total - 1)), "k1")
    k2 = data.draw(st.integers(1, min(6, total)), "k2")
    lambda_ = data.draw(st.sampled_from([0.0, 0.3, 1.0]), "lambda")
    expected = literal_k_reciprocal(query, gallery, k1, k2, lambda_, metric)
    rerank = KReciprocal(k1=k1, k2=k2, lambda_=lambda_)
    answer = rerank.distances(torch.from_numpy(query), torch.from_numpy(gallery), metric=metric, block=block)
    np.testing.assert_allclose(answer.numpy(), expected, atol=1e-5)


@settings(max_examples=120, deadline=None)
@given(SETS, st.data(), METRIC, st.sampled_from(["rank-list", "original"]), BLOCK)
def test_ecn_equals_the_formulas(sets, data, metric, distance, block):
    query, gallery = sets
    total = len(query) + len(gallery)
    k, t, q = (data.draw(st.integers(1, min(most, total - 1)), name) for most, name in ((25, "k"), (3, "t"), (8, "q")))
    expected = literal_ecn(query, gallery, k, t, q, distance, metric)
    rerank = ECN(k=k, t=t, q=q, distance=distance)
    answer = rerank.distances(torch.from_numpy(query), torch.from_numpy(gallery), metric=metric, block=block)
    np.testing.assert_allclose(answer.numpy(), expected, atol=1e-5, rtol=1e-5)


def many(queries=40, gallery=700, size=64, *, spread=1.5, seed=0):
    """Clustered features with duplicates, of a size where rounding could displace neighbours."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(40, size, generator=generator)
    ids = torch.randint(0, 40, (queries + gallery,), generator=generator)
    everyone = centres[ids] + spread * torch.randn(queries + gallery, size, generator=generator)
    everyone[100:130] = everyone[130:160]
    cameras = torch.randint(1, 7, (queries + gallery,), generator=generator)
    parts = slice(0, queries), slice(queries, None)
    return tuple(Features(everyone[part], ids[part] + 1, cameras[part]) for part in parts)


RERANKINGS = [KReciprocal(), KReciprocal(k1=5, k2=1), ECN(), ECN(distance="original")]


@pytest.mark.parametrize("rerank", RERANKINGS, ids=str)
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_block_size_float_type_and_layout_change_no_metric(rerank, metric):
    query, gallery = many()
    options = dict(rerank=rerank, metric=metric)
    whole = evaluate(query, gallery, **options)
    for block in (1, 100, 333):
        assert evaluate(query, gallery, block=block, **options).metrics() == pytest.approx(whole.metrics(), abs=1e-6)
    wide = torch.stack((gallery.features, gallery.features), dim=2).double()[:, :, 0]
    assert not wide.is_contiguous()
    double = Features(query.features.double(), query.ids, query.cameras), Features(wide, gallery.ids, gallery.cameras)
    assert evaluate(*double, **options).metrics() == pytest.approx(whole.metrics(), abs=1e-6)
    half = Features(query.features.half(), query.ids, query.cameras)
    assert evaluate(half, gallery, **options).metrics() == pytest.approx(whole.metrics(), abs=2)


@pytest.mark.parametrize("rerank", RERANKINGS[:3], ids=str)
def test_features_that_are_nearly_all_the_same_keep_their_neighbours(rerank):
    query, gallery = many()
    near = (Features(1 + 1e-4 * each.features.double(), each.ids, each.cameras) for each in (query, gallery))
    plain = evaluate(query, gallery, rerank=rerank, metric="euclidean").metrics()
    assert evaluate(*near, rerank=rerank, metric="euclidean").metrics() == pytest.approx(plain, abs=1e-3)


def test_a_larger_part_of_the_original_distance_ends_at_the_original_ranking():
    query, gallery = many()
    plain = evaluate(query, gallery).metrics()
    whole = evaluate(query, gallery, rerank=KReciprocal(lambda_=1.0)).metrics()
    assert whole.pop("ties") == pytest.approx(plain["ties"], abs=1)  # measured in re-ranked distances
    assert whole == pytest.approx({name: plain[name] for name in whole}, abs=0.05)
    assert evaluate(query, gallery, rerank=KReciprocal(lambda_=0.0)).metrics()["mAP"] > plain["mAP"] + 5


@NEEDS_GPU
@pytest.mark.parametrize("rerank", RERANKINGS, ids=str)
def test_gpu_equals_cpu(rerank):
    query, gallery = many()
    gpu = evaluate(query.to("cuda"), gallery.to("cuda"), rerank=rerank)
    assert gpu.metrics() == pytest.approx(evaluate(query, gallery, rerank=rerank).metrics(), abs=1e-6)


@pytest.mark.parametrize("make, words", [
    (lambda: KReciprocal(k1=0), "re-ranking: k1=0; give a whole number, 1 or more"),
    (lambda: KReciprocal(k2=0), "k2=0; give a whole"),
    (lambda: KReciprocal(k1=20.5), "k1=20.5; give a whole number"),
    (lambda: ECN(t="3"), "t=3; give a whole number"),
    (lambda: KReciprocal(lambda_=float("nan")), "lambda=nan; give a number from 0 to 1"),
    (lambda: KReciprocal(lambda_=1.5), "lambda=1.5; give a number from 0 to 1"),
    (lambda: ECN(k=0), "k=0; give a whole"),
    (lambda: ECN(distance="other"), "distance=other; give 'rank-list' or 'original'"),
    (lambda: KReciprocal().distances(torch.eye(4), torch.eye(4)), "k1 needs at least 21 images.*are 8; give a smaller"),
    (lambda: KReciprocal(k1=2, k2=9).distances(torch.eye(4), torch.eye(4)), "k2 needs at least 9 images"),
    (lambda: ECN(k=5, q=8).distances(torch.eye(4), torch.eye(4)), "q needs at least 9 images"),
    (lambda: KReciprocal(1, 1).distances(torch.eye(4), torch.eye(5)), "have 4 dimensions, gallery features 5"),
    (lambda: KReciprocal(1, 1).distances(torch.eye(4) / 0, torch.eye(4)), "query features hold NaN or infinite"),
    (lambda: KReciprocal(1, 1).distances(torch.eye(4), torch.eye(4), metric="l1"), "unknown metric 'l1'"),
    (lambda: KReciprocal(1, 1).distances(torch.eye(4), torch.eye(4), block=0), "block=0 is no number of images"),
])  # fmt: skip
def test_bad_input_is_named(make, words):
    with pytest.raises(ReidError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
