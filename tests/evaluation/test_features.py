"""Sets of features: what is taken, what is refused with which words, and the means of multi-query."""

import numpy as np
import pytest
import torch

from reidlib.evaluation import Features
from reidlib.spec import ReidError

GOOD = dict(features=np.eye(3, dtype=np.float32), ids=[1, 2, 3], cameras=[1, 1, 2])


@pytest.mark.parametrize("change, words", [
    (dict(features=np.array([[1.0, 0], [np.nan, 1], [0, np.inf]])), "features hold NaN.*in 2 of 3 rows, first row 1"),
    (dict(features=np.ones(3)), r"features have shape \(3,\); give N×D with at least one row"),
    (dict(features=np.ones((0, 3)), ids=[], cameras=[]), r"features have shape \(0, 3\); give"),
    (dict(features=np.ones((3, 0))), r"features have shape \(3, 0\); give"),
    (dict(features=np.eye(3, dtype=int)), "features are torch.int64; give a floating point type"),
    (dict(ids=[1]), r"ids have shape \(1,\), but there are 3 images; give one whole number each"),
    (dict(cameras=[[1, 2, 3]]), r"cameras have shape \(1, 3\), but there are 3 images"),
    (dict(ids=[1.5, 2, 3]), "ids are float64 values that are no whole numbers; give integers"),
    (dict(cameras=["a", "b", "c"]), "cameras are <U1 values that are no whole numbers"),
])  # fmt: skip
def test_bad_sets_are_named_by_file_and_field(tmp_path, change, words):
    with pytest.raises(ReidError, match="features: " + words):
        Features(**{**GOOD, **change})
    file = tmp_path / "query.npz"
    np.savez(file, **{**GOOD, **change})
    with pytest.raises(ReidError, match=f"{file}: {words}") as caught:
        Features.read(file)
    assert "\n" not in str(caught.value)


def test_huge_finite_values_are_no_fault():
    big = np.full((1, 4), 3e38, dtype=np.float32)  # their sum is infinite
    assert len(Features(big, [1], [1])) == 1


def test_a_file_is_read_as_it_was_written(tmp_path):
    np.savez(tmp_path / "q.npz", **GOOD)
    read = Features.read(tmp_path / "q.npz")
    assert read.features.tolist() == np.eye(3).tolist()
    assert (read.ids.tolist(), read.cameras.tolist()) == ([1, 2, 3], [1, 1, 2])
    assert read.ids.dtype == read.cameras.dtype == torch.int64


@pytest.mark.parametrize("name, write, words", [
    ("no.npz", None, "is missing; give"),
    ("half.npz", lambda f: f.write_bytes(b"PK\x03\x04 cut"), "cannot be read .*write it with numpy.savez"),
    ("text.npz", lambda f: f.write_text("hello"), "no .npz, or it holds objects.*must hold features, ids, cameras"),
    ("part.npz", lambda f: np.savez(f, features=np.eye(2), ids=[1, 2]), "has no field 'cameras' .it holds feat"),
    ("object.npz", lambda f: np.savez(f, **{**GOOD, "ids": np.array([None, 1, 2])}), "holds objects"),
    ("single.npy", lambda f: np.save(f, np.eye(2)), "is a single array, no .npz"),
])  # fmt: skip
def test_files_that_hold_no_features(tmp_path, name, write, words):
    file = tmp_path / name
    if write:
        write(file)
    with pytest.raises(ReidError, match=words) as caught:
        Features.read(file)
    assert str(file) in str(caught.value) and "unsafe" not in str(caught.value)


def test_some_of_the_images():
    whole = Features(torch.arange(8.0).view(4, 2), [1, 2, 3, 4], [1, 2, 1, 2])
    for rows in (torch.tensor([True, False, True, False]), torch.tensor([0, 2]), slice(0, 4, 2)):
        assert whole[rows].ids.tolist() == [1, 3] and whole[rows].features[:, 0].tolist() == [0, 4]


def test_multi_query_is_the_mean_of_identity_and_camera():
    query = Features(torch.zeros(2, 2), [1, 2], [1, 1], "query")
    several = Features(
        [[1.0, 0.0], [3.0, 0.0], [9.0, 9.0], [0.0, 5.0]], [1, 1, 1, 2], [1, 1, 2, 1], "multi"
    )  # the third is another camera's
    pooled = several.pooled_for(query)
    assert pooled.features.tolist() == [[2, 0], [0, 5]]
    assert (pooled.ids.tolist(), pooled.cameras.tolist(), pooled.name) == ([1, 2], [1, 1], "query")


def test_multi_query_without_images_for_a_query_or_of_other_dimensions():
    query = Features(torch.zeros(2, 2), [1, 2], [1, 1], "query")
    with pytest.raises(ReidError, match=r"multi: no image of identity 2, camera 1 \(query 1 of query\)"):
        Features(torch.ones(2, 2), [1, 2], [1, 2], "multi").pooled_for(query)
    with pytest.raises(ReidError, match="multi: features have 3 dimensions, those of query 2"):
        Features(torch.ones(2, 3), [1, 2], [1, 1], "multi").pooled_for(query)
