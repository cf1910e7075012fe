"""Re-ranking against slow, literal implementations of the papers' formulas, in float64, image by image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidlib.evaluation import ECN, KReciprocal
from reidlib.evaluation.points import TIE

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def squared(everyone, metric):
    """Squared distances N×N; under cosine 2 − 2·cos, where a zero vector has cosine 0 to everything."""
    everyone = everyone.astype(np.float64)
    if metric == "cosine":
        lengths = np.linalg.norm(everyone, axis=1)
        everyone = everyone / np.where(lengths == 0, 1, lengths)[:, None]
        return 2 - 2 * everyone @ everyone.T
    return ((everyone[:, None] - everyone) ** 2).sum(2)


def unit_of(gallery, metric):
    """What a tie of 1e-6 is measured in: under euclidean the square of the typical length."""
    if metric == "cosine":
        return 1.0
    lengths = np.linalg.norm(gallery.astype(np.float64), axis=1)
    lower = np.sort(lengths)[(len(lengths) - 1) // 2]
    return (lower or lengths.max() or 1.0) ** 2


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
    distances = distances / np.maximum(distances.max(axis=1, keepdims=True), 1e-30)

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
    """Sarfraz et al. 2018, Eq. 2 and 3, with the rank-list similarity of their §3.2, as released."""
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
