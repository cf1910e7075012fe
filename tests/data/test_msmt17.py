"""The loader of MSMT17 on small folders of both versions."""

import json

import pytest

from reidlib.data import msmt17
from reidlib.data.msmt17 import PUBLISHED, load
from reidlib.data.table import describe
from reidlib.spec import ReidError

LINES = {
    "list_train.txt": ["0000/0000_000_01_0303morning_0008_0.jpg 0", "0001/0001_003_15_0114noon_0017_2.jpg 1"],
    "list_val.txt": ["0000/0000_005_04_0302afternoon_1439_1.jpg 0"],
    "list_query.txt": ["0000/0000_000_01_0303morning_0015_0.jpg 0", "3059/3059_001_14_0113noon_0238_6.jpg 3059"],
    "list_gallery.txt": [
        "0000/0000_001_06_0303morning_0015_0.jpg 0", "0002/0002_000_01_0303morning_0022_1.jpg 2",
        "3059/3059_002_13_0113noon_0239_6.jpg 3059",
    ],
}  # fmt: skip
VERSIONS = {"MSMT17_V1": ("train", "test"), "MSMT17_V2": ("mask_train_v2", "mask_test_v2")}


def build(root, train, test):
    for name, lines in LINES.items():
        for line in lines:
            image = root / (train if name in ("list_train.txt", "list_val.txt") else test) / line.split()[0]
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(b"x")
        (root / name).write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def root(tmp_path):
    return build(tmp_path / "sets" / "MSMT17_V1", "train", "test")


@pytest.mark.parametrize("name", VERSIONS)
def test_the_table_of_both_versions(tmp_path, name):
    train, test = VERSIONS[name]
    data = load(build(tmp_path / name, train, test))
    assert (data.name, data.source) == ("msmt17", "real")
    assert data.split("train").to_dict("list") == {
        "path": [f"{train}/{line.split()[0]}" for line in LINES["list_train.txt"] + LINES["list_val.txt"]],
        "identity": [1, 2, 1], "camera": [1, 15, 4], "split": ["train"] * 3,
    }  # fmt: skip
    assert data.split("gallery")["path"].str.startswith(f"{test}/").all()
    assert all((data.root / path).is_file() for path in data.table["path"])
    assert f"({train}, {test})" in describe(data)


def test_label_0_of_training_and_label_0_of_the_test_are_two_real_persons(root):
    data = load(root)
    assert data.identities.tolist() == [1, 2] and data.train_labels().tolist() == [0, 1, 0]
    assert data.split("query")["identity"].tolist() == [1042, 4101]  # 1,041 + 3,060 = 4,101 persons
    assert data.split("gallery")["identity"].tolist() == [1042, 1044, 4101]
    assert not set(data.identities) & set(data.split("gallery")["identity"])
    row = next(line for line in describe(data).splitlines() if line.startswith("gallery "))
    assert row.split() == ["gallery", "3", "3", "3", "0", "0"]  # identities, images, cameras, no junk, no distractors


def test_published_sizes(root, monkeypatch):
    assert PUBLISHED["train images"] == 30_248 + 2_373
    assert "DIFFERS  gallery images: 3 (expected 82,161)" in describe(load(root))
    monkeypatch.setattr(msmt17, "PUBLISHED", dict(zip(PUBLISHED, [3, 2, 2, 2, 3, 3], strict=True)))
    assert all(check.ok for check in load(root).checks)


def test_it_says_that_train_and_val_are_joined(root):
    assert "the training split is list_train and list_val together" in describe(load(root))


@pytest.mark.parametrize("level", [("train",), ("..",), ("..", "..")])
def test_too_deep_and_too_shallow_are_found(root, level):
    data = load(root.joinpath(*level))
    assert data.root == root and "found from root" in describe(data)


def test_the_variable(root, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(root.parent))
    assert load().root == root
    build(root.parent / "MSMT17_V2", "mask_train_v2", "mask_test_v2")
    with pytest.raises(ReidError, match=r"holds 2 data sets \(MSMT17_V1, MSMT17_V2\); give one of them as the root"):
        load()


def test_the_digest_sees_sizes_and_lists(root):
    before = load(root).digest
    (root / "list_val.txt").write_text("")
    with pytest.raises(ReidError, match="list_val.txt is empty; unpack it again"):
        load(root)
    (root / "list_val.txt").write_text(LINES["list_val.txt"][0].replace(" 0", " 1"))  # the same files, another person
    other = load(root).digest
    assert other != before and len(other) == 16
    (root / "list_val.txt").write_text(LINES["list_val.txt"][0] + "\r\n")
    assert load(root).digest == before
    (root / "train" / LINES["list_val.txt"][0].split()[0]).write_bytes(b"longer")
    assert load(root).digest != before


def test_an_image_that_no_list_names_is_shown(root):
    checks = {check.what: check for check in load(root).checks}
    assert checks["images that no list names"].ok
    (root / "train" / "0009").mkdir()
    (root / "train" / "0009" / "0009_000_01_0303morning_0008_0.jpg").write_bytes(b"x")
    check = {check.what: check for check in load(root).checks}["images that no list names"]
    assert (check.found, check.ok) == ("1", False)


def test_a_stand_in_counts_its_sub_folders(root):
    manifest = dict(name="msmt17", version=1, scale=0.05, seed=0, digest="0123456789abcdef")
    (root / "standin.json").write_text(json.dumps({**manifest, "counts": {"train": 3, "test": 5}}))
    data = load(root)
    assert (data.source, data.digest) == ("stand-in", "0123456789abcdef") and all(check.ok for check in data.checks)
    (root / "standin.json").write_text(json.dumps({**manifest, "counts": {"train": 3, "test": 6}}))
    with pytest.raises(ReidError, match="not whole: 5 images in test, its manifest says 6; .*reid render msmt17"):
        load(root)


def add(name, line):
    def fault(root):
        with (root / name).open("a") as stream:
            stream.write(line + "\n")

    return fault


def rename(name):
    return lambda root: (root / name).rename(root / "elsewhere")


@pytest.mark.parametrize("fault, words", [
    (rename("list_val.txt"), "list_val.txt is missing in .*MSMT17_V1; unpack the data set again"),
    (rename("test"), "has the lists of MSMT17, but neither train and test nor mask_train_v2 and mask_test_v2; unpack"),
    (add("list_train.txt", "0002/0002_000_16_0303morning_0008_0.jpg 2"),
     "line 3 of .*list_train.txt is '0002/0002_000_16_.* 2'; expected the form .* with cameras 01 to 15, a space"),
    (add("list_query.txt", "0000/0000_000_01_0303morning_0015_0.jpg"), "line 3 of .*list_query.txt is .*; expected"),
    (add("list_query.txt", "0000/0000_000_01_0303morning_0015_0.jpg x"), "line 3 of .*list_query.txt is .*; expected"),
    (add("list_gallery.txt", f"0000/0000_000_01_0303morning_0015_0.jpg {10**19}"), "_gallery.txt is .*a label: unpack"),
    (add("list_gallery.txt", f"0000/0000_000_01_0303morning_0015_0.jpg {'9' * 5000}"), "_gallery.txt is .*a label"),
    (add("list_gallery.txt", "0000/0000_000_01_0303morning_0015_0.jpg \u0663"), "_gallery.txt is .*a label: unpack"),
    (add("list_val.txt", "1041/1041_000_01_0303morning_0008_0.jpg 1041"),
     "line 2 of .*list_val.txt has label 1041, but training labels end at 1,040; unpack the list again"),
    (add("list_train.txt", "0002/0002_000_11_0303morning_0008_0.jpg 2"),
     r"train/0002/0002_000_11_0303morning_0008_0.jpg cannot be read \(No such file or directory\); copy this file"),
    (add("list_gallery.txt", LINES["list_query.txt"][0]),
     "test/0000/0000_000_01_0303morning_0015_0.jpg stands twice in the lists of"),
    (lambda root: (root / "list_gallery.txt").write_text("\n".join(LINES["list_gallery.txt"][:2])),
     r"query .*3059_001_14_0113noon_0238_6.jpg \(identity 4101, camera 14\) has no match from another camera"),
    (lambda root: (root / "list_val.txt").write_bytes(b"\xff\xfe\x00"), "list_val.txt cannot be read .*unpack it"),
    (lambda root: (root / "standin.unfinished.json").write_text("{}"), "holds a half-rendered stand-in"),
])  # fmt: skip
def test_faults_are_named_with_their_remedy(root, fault, words):
    fault(root)
    with pytest.raises(ReidError, match=words) as error:
        load(root)
    assert len(str(error.value).splitlines()) == 1


def test_no_folder(tmp_path):
    with pytest.raises(ReidError, match="holds none of list_train.txt, .*MSMT17_V1, MSMT17_V2.*reid render msmt17"):
        load(tmp_path)
