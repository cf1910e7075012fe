"""The loader of DukeMTMC-reID on small folders of its layout."""

import json

import pytest

from reidlib.data import dukemtmc, market1501
from reidlib.data.dukemtmc import PUBLISHED, load
from reidlib.data.table import describe
from reidlib.spec import ReidError

NAMES = {
    "bounding_box_train": ["0001_c2_f0046182.jpg", "0001_c5_f0051341.jpg", "0008_c8_f0036962.jpg"],
    "query": ["0005_c2_f0046985.jpg", "0033_c1_f0057706.jpg"],
    "bounding_box_test": [
        "0002_c1_f0044158.jpg", "0005_c2_f0046985.jpg", "0005_c5_f0051781.jpg", "0033_c6_f0045755.jpg",
    ],  # 2 is a distractor: an ordinary number, no query
}  # fmt: skip


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "sets" / "DukeMTMC-reID"
    for folder, names in NAMES.items():
        (root / folder).mkdir(parents=True)
        for name in names:
            (root / folder / name).write_bytes(b"x")
    return root


def test_the_table(root):
    data = load(root)
    assert (data.name, data.source, data.root) == ("dukemtmc", "real", root)
    assert data.split("query").to_dict("list") == {
        "path": ["query/0005_c2_f0046985.jpg", "query/0033_c1_f0057706.jpg"],
        "identity": [5, 33], "camera": [2, 1], "split": ["query", "query"],
    }  # fmt: skip
    assert data.identities.tolist() == [1, 8]
    assert sorted(set(data.split("gallery")["identity"]) - set(data.split("query")["identity"])) == [2]


def test_sizes_that_differ_are_shown(root, monkeypatch):
    text = describe(load(root))
    assert "DIFFERS  gallery identities: 3 (expected 1,110)" in text  # 702 of the test and 408 distractors
    assert "DIFFERS  train images: 3 (expected 16,522)" in text
    small = [3, 2, 2, 2, 4, 3]
    monkeypatch.setattr(dukemtmc, "PUBLISHED", dict(zip(PUBLISHED, small, strict=True)))
    assert all(check.ok for check in load(root).checks)


def test_it_says_that_its_authors_withdrew_it_and_offers_no_download(root):
    text = describe(load(root))
    assert "withdrawn by its authors in 2019; this study never offers a download" in text
    assert "withdrew the data set in 2019" in dukemtmc.__doc__
    assert "http" not in text + dukemtmc.__doc__


def test_a_stand_in(root):
    counts = {folder: len(names) for folder, names in NAMES.items()}
    manifest = dict(name="dukemtmc", version=1, scale=0.05, seed=0, digest="0123456789abcdef", counts=counts)
    (root / "standin.json").write_text(json.dumps(manifest))
    data = load(root)
    assert (data.source, data.digest) == ("stand-in", "0123456789abcdef") and all(check.ok for check in data.checks)
    (root / "query" / "0033_c1_f0057706.jpg").unlink()
    with pytest.raises(ReidError, match="not whole: 1 images in query, its manifest says 2; render .*render dukemtmc"):
        load(root)


@pytest.mark.parametrize("level", [("query",), ("..",), ("..", "..")])
def test_too_deep_and_too_shallow_are_found(root, level):
    assert load(root.joinpath(*level)).root == root


def test_below_the_variable_only_its_own_folder_counts(root, monkeypatch):
    for folder in NAMES:
        (root.parent / "Market-1501-v15.09.15" / folder).mkdir(parents=True)
    monkeypatch.setenv("REID_DATA", str(root.parent))
    assert load().root == root
    root.rename(root.with_name("a copy"))
    with pytest.raises(
        ReidError, match=r"REID_DATA=.* holds none of bounding_box_train, .*\(DukeMTMC-reID, .* are looked"
    ):
        load()
    monkeypatch.delenv("REID_DATA")
    with pytest.raises(ReidError, match="set REID_DATA to the folder that holds DukeMTMC-reID .*reid render dukemtmc"):
        load()


def test_market_and_duke_are_not_taken_for_each_other(root, tmp_path):
    with pytest.raises(ReidError) as error:
        market1501.load(root)
    assert str(error.value) == (
        f"3 of 3 names in {root}/bounding_box_train are not Market-1501's, first 0001_c2_f0046182.jpg, "
        "0001_c5_f0051341.jpg, 0008_c8_f0036962.jpg; expected the form 0002_c1s1_000451_03.jpg with cameras 1 to 6: "
        "this is another data set, give the folder of Market-1501"
    )
    for folder in NAMES:
        (tmp_path / "market" / folder).mkdir(parents=True)
        (tmp_path / "market" / folder / "0002_c1s1_000451_03.jpg").write_bytes(b"x")
    with pytest.raises(ReidError, match="are not DukeMTMC-reID's, first 0002_c1s1.*: this is another data set"):
        load(tmp_path / "market")


@pytest.mark.parametrize("name, words", [
    ("0009_c9_f0046182.jpg", "1 of 3 names in .*query are not DukeMTMC-reID's, first 0009_c9_f0046182.jpg; expected"),
    ("0009_c2_f0046182.jpg", r"query .*0009_c2.* \(identity 9, camera 2\) has no match from another camera"),
])  # fmt: skip
def test_faults_in_the_query(root, name, words):
    (root / "query" / name).write_bytes(b"x")
    with pytest.raises(ReidError, match=words):
        load(root)
