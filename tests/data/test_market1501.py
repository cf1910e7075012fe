"""The loader of Market-1501 on its real file names, on small folders of its layout, and on every fault it names."""

import json
from pathlib import Path

import numpy as np
import pytest

from reidlib.data import market1501
from reidlib.data.market1501 import LAYOUT, PUBLISHED, load
from reidlib.data.table import describe
from reidlib.spec import ReidError

METADATA = Path(__file__).parents[1] / "metadata"

NAMES = {
    "bounding_box_train": ["0002_c1s1_000451_03.jpg", "0002_c2s1_000301_01.jpg", "0007_c3s3_077419_03.jpg"],
    "query": ["0001_c1s1_001051_00.jpg", "0003_c4s6_015641_00.jpg"],
    "bounding_box_test": [
        "-1_c1s1_000401_03.jpg", "0000_c5s1_000151_01.jpg", "0001_c1s1_001051_03.jpg", "0001_c6s1_009601_02.jpg",
        "0003_c1s6_015971_02.jpg",
    ],
    "gt_bbox": ["0001_c1s1_001051_00.jpg", "0002_c1s1_000451_00.jpg"],
}  # fmt: skip
COUNTS = {folder: len(names) for folder, names in NAMES.items()}
SIZES = {"train images": 3, "train identities": 2, "query images": 2, "query identities": 2, "gallery images": 5}


def manifest(**change):
    base = dict(name="market1501", version=1, scale=0.05, seed=0, digest="0123456789abcdef", counts=COUNTS)
    return json.dumps({**base, **change})


@pytest.fixture
def root(tmp_path):
    """A folder of Market-1501's layout; the loader looks at names and sizes only, so the files hold one byte each."""
    root = tmp_path / "sets" / "Market-1501-v15.09.15"
    for folder, names in NAMES.items():
        (root / folder).mkdir(parents=True)
        for name in names:
            (root / folder / name).write_bytes(b"x")
    return root


def parsed(name):
    """Identity and camera of a file name; None where it is not of Market-1501's form."""
    match = LAYOUT.pattern.fullmatch(name)
    return match and (int(match[1]), int(match[2]))


def lines(error):
    return str(error.value).splitlines()


def test_real_names_parse_to_the_published_counts():
    names = (METADATA / "market1501_train_filenames.txt").read_text().split()
    found = [parsed(name) for name in names]
    assert len(found) == PUBLISHED["train images"] == 12_936
    assert len({identity for identity, _ in found}) == PUBLISHED["train identities"] == 751
    assert {camera for _, camera in found} == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("name, expected", [
    ("-1_c1s1_000401_03.jpg", (-1, 1)), ("0000_c5s1_000151_01.jpg", (0, 5)), ("1501_c6s4_001902_00.jpg", (1501, 6)),
])  # fmt: skip
def test_junk_distractors_and_persons(name, expected):
    assert parsed(name) == expected


@pytest.mark.parametrize("name", ["0002_c7s1_000451_03.jpg", "0005_c2_f0046985.jpg", "2_c1s1_000451_03.jpg", "a.jpg"])
def test_a_name_of_another_form_is_refused(root, name):
    assert parsed(name) is None
    (root / "query" / name).write_bytes(b"x")
    with pytest.raises(ReidError, match=f"1 of 3 names in .*query are not Market-1501's, first {name}; expected the"):
        load(root)


def test_the_table(root):
    for stray in ("Thumbs.db", "._0002_c1s1_000451_03.jpg", "readme.txt"):
        (root / "bounding_box_test" / stray).write_bytes(b"")
    data = load(root)
    assert (data.name, data.source, data.root) == ("market1501", "real", root)
    assert data.table.dtypes[["identity", "camera"]].tolist() == [np.int64, np.int64]
    assert {split: len(data.split(split)) for split in data.table["split"].unique()} == {
        "train": 3, "query": 2, "gallery": 5, "multi-query": 1,     # gt_bbox also shows a training identity
    }  # fmt: skip
    assert data.split("query").to_dict("list") == {
        "path": ["query/0001_c1s1_001051_00.jpg", "query/0003_c4s6_015641_00.jpg"],
        "identity": [1, 3], "camera": [1, 4], "split": ["query", "query"],
    }  # fmt: skip
    assert data.split("gallery")["identity"].tolist() == [-1, 0, 1, 1, 3]
    assert data.identities.tolist() == [2, 7] and data.train_labels().tolist() == [0, 0, 1]
    assert all((root / path).is_file() for path in data.table["path"])
    with pytest.raises(ReidError, match="no split 'test'; choose one of train, query, gallery, multi-query"):
        data.split("test")


def test_multi_query_images_are_optional(root):
    for name in NAMES["gt_bbox"]:
        (root / "gt_bbox" / name).unlink()
    (root / "gt_bbox").rmdir()
    assert len(load(root).split("multi-query")) == 0


def test_a_real_set_of_another_size_is_shown_not_refused(root):
    data = load(root)
    sizes = {check.what: check for check in data.checks}
    assert (sizes["train images"].expected, sizes["train images"].found) == ("12,936", "3")
    assert not sizes["train images"].ok and sizes["queries with a match in another camera"].ok
    text = describe(data)
    assert "DIFFERS  train images: 3 (expected 12,936)" in text and str(root) in text and "(real)" in text
    assert [line.split() for line in text.splitlines() if line.startswith("gallery ")] == [
        ["gallery", "2", "5", "3", "1", "1"]
    ]


def test_published_sizes_pass(root, monkeypatch):
    monkeypatch.setattr(market1501, "PUBLISHED", SIZES)
    assert all(check.ok for check in load(root).checks)
    assert "DIFFERS" not in describe(load(root))


def test_an_identity_both_trained_and_tested_is_shown(root):
    (root / "bounding_box_train" / "0001_c2s1_000301_01.jpg").write_bytes(b"x")
    shared = {check.what: check for check in load(root).checks}["identities both trained and tested"]
    assert not shared.ok and shared.found == "1"


def test_the_digest_of_a_real_set_sees_names_and_sizes(root):
    before = load(root).digest
    assert before == load(root).digest and len(before) == 16
    image = root / "query" / NAMES["query"][0]
    image.write_bytes(b"y")
    assert load(root).digest == before
    image.write_bytes(b"longer")
    assert load(root).digest != before


def test_a_stand_in_brings_its_own_digest_and_counts(root):
    (root / "standin.json").write_text(manifest())
    data = load(root)
    assert (data.source, data.digest) == ("stand-in", "0123456789abcdef")
    assert all(check.ok for check in data.checks) and "(stand-in)" in describe(data)


# --- where the folder is looked for -----------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [
    ("bounding_box_train",), ("query",), ("..",), ("..", ".."),
])  # fmt: skip
def test_one_too_deep_and_one_or_two_too_shallow_are_found_and_noted(root, level):
    data = load(root.joinpath(*level))
    assert data.root == root
    note = data.checks[0]
    assert note.what == "folder" and "found from root" in note.found and note.ok
    assert "found from root" in describe(data)


def test_the_right_folder_carries_no_note(root):
    assert "found from" not in describe(load(root))


@pytest.mark.parametrize("name", LAYOUT.root_names)
def test_the_variable_names_the_folder_of_all_sets(root, monkeypatch, name):
    named = root.rename(root.with_name(name))
    # another data set with the same three folders must not be taken for this one
    for folder in market1501.FOLDERS.values():
        (root.parent / "DukeMTMC-reID" / folder).mkdir(parents=True)
    monkeypatch.setenv("REID_DATA", str(named.parent))
    assert load().root == named
    monkeypatch.setenv("REID_DATA", str(named))
    assert load().root == named


def test_no_folder_and_no_variable(monkeypatch):
    monkeypatch.delenv("REID_DATA", raising=False)
    with pytest.raises(ReidError, match="REID_DATA is not set; set REID_DATA to .*Market-1501-v15.09.15") as error:
        load()
    assert "reid render market1501 --scale 0.05 --seed 0 --out DIR" in str(error.value) and len(lines(error)) == 1


def test_a_variable_that_leads_nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ReidError, match="REID_DATA=.*nowhere is no folder; give"):
        load()
    (tmp_path / "nowhere").mkdir()
    with pytest.raises(ReidError, match="REID_DATA=.*nowhere holds none of bounding_box_train.*; give the folder"):
        load()


def test_several_sets_below_are_not_guessed_between(root):
    for name in ("one", "two"):
        for folder in market1501.FOLDERS.values():
            (root.parent / "more" / name / folder).mkdir(parents=True)
    with pytest.raises(ReidError, match=r"holds 2 data sets \(one, two\); give one of them"):
        load(root.parent / "more")


# --- faults -----------------------------------------------------------------------------------------------------------


def drop(folder):
    def fault(root):
        (root / folder).rename(root / "elsewhere")

    return fault


def empty(folder):
    def fault(root):
        for image in (root / folder).iterdir():
            image.unlink()
        (root / folder / "Thumbs.db").write_bytes(b"x")

    return fault


def add(*names, folder):
    def fault(root):
        for name in names:
            (root / folder / name).write_bytes(b"x")

    return fault


def standin(text, *, name="standin.json"):
    def fault(root):
        (root / name).write_text(text)

    return fault


@pytest.mark.parametrize("fault, words", [
    (drop("query"), "folder query is missing in .*v15.09.15; unpack the data set again"),
    (drop("bounding_box_test"), "folder bounding_box_test is missing in .*; unpack"),
    (empty("bounding_box_train"), "folder .*bounding_box_train holds no .jpg file; unpack"),
    (empty("gt_bbox"), "folder .*gt_bbox holds no .jpg file; unpack"),
    (add("a.jpg", "b.jpg", "c.jpg", "d.jpg", folder="query"),
     "4 of 6 names in .*query are not Market-1501's, first a.jpg, b.jpg, c.jpg; expected the form.*remove or rename"),
    (add("0002_c1s1_000452_01.png", "0002_c1s1_000453_01.jpg.part", folder="bounding_box_train"),
     "2 files in .*bounding_box_train are named as Market-1501's images .*first 0002_c1s1_000452_01.png, .*; convert"),
    (add("0002_c1s1_000452_01.jpg\n", folder="query"), r"1 files in .*query .*first '0002_c1s1_000452_01.jpg\\n'"),
    (add("0002_c1\ns1.jpg", folder="query"), r"1 of 3 names in .*query are not .*first '0002_c1\\ns1.jpg'; expected"),
    (add("0009_c2s1_000301_01.jpg", folder="query"),
     r"query .*0009_c2s1_000301_01.jpg \(identity 9, camera 2\) has no match from another camera.*\(1 .*; complete"),
    (add("0001_c1s1_001051_09.jpg", "0003_c1s6_015971_09.jpg", folder="query"),
     r"query .*0003_c1s6_015971_09.jpg \(identity 3, camera 1\) has no match"),
    (add("-1_c1s1_000401_03.jpg", folder="query"), r"\(identity -1, camera 1\) has no match"),
    (add("0000_c5s1_000151_07.jpg", folder="query"), r"\(identity 0, camera 5\) has no match"),
    (add("-1_c1s1_000401_03.jpg", folder="bounding_box_train"),
     r"bounding_box_train/-1_c1s1_000401_03.jpg .* is a junk or distractor image among.*\(1 such\); move it"),
    (standin("{}", name="standin.unfinished.json"),
     r"half-rendered stand-in \(standin.unfinished.json, no standin.json\); finish it with the same `reid render"),
    (standin(manifest()[:40]), "standin.json cannot be read as a manifest.*; finish it with the same `reid render"),
    (standin(manifest(counts={**COUNTS, "query": "2"})), "standin.json cannot be read as a manifest .*counts are not"),
    (standin(manifest(counts=[1])), "standin.json cannot be read as a manifest"),
    (standin("[" * 100_000), "standin.json cannot be read as a manifest"),
    (standin("[]"), "standin.json cannot be read as a manifest"),
    (standin(manifest(name="dukemtmc")), "describes the stand-in of 'dukemtmc', not of 'market1501'; give its folder"),
    (standin(manifest(counts={**COUNTS, "bounding_box_test": 1234})),
     "is not whole: 5 images in bounding_box_test, its manifest says 1,234; render it again: `reid render market1501"),
    (standin(manifest(counts={**COUNTS, "more": 1})), "is not whole: 0 images in more, its manifest says 1; render it"),
])  # fmt: skip
def test_faults_are_named_with_their_remedy(root, fault, words):
    fault(root)
    with pytest.raises(ReidError, match=words) as error:
        load(root)
    assert len(lines(error)) == 1


def test_a_file_where_the_folder_belongs(root):
    with pytest.raises(ReidError, match="is no folder; give the folder of the data set, or render"):
        load(root / "query" / NAMES["query"][0])


def test_a_render_that_has_not_reached_its_first_folder(tmp_path):
    (tmp_path / "standin.unfinished.json").write_text("{}")
    with pytest.raises(ReidError, match="holds a half-rendered stand-in"):
        load(tmp_path)


def test_images_in_a_folder_inside_a_split_are_not_passed_over(root):
    inside = root / "query" / "more"
    inside.mkdir()
    next((root / "query").glob("*.jpg")).rename(inside / "0001_c1s1_000001_00.jpg")
    (root / "query" / "empty").mkdir()
    with pytest.raises(
        ReidError, match="1 images of Market-1501 lie in folders inside .*first more/0001_c1s1.*move them"
    ):
        market1501.load(root)
