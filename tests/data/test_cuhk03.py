"""The loader of CUHK03: a tiny cuhk-03.mat of the release's structure, the published config files, the NP folders."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from reidlib.data import cuhk03
from reidlib.data.cuhk03 import CONFIG, VARIANTS, load
from reidlib.data.images import decode
from reidlib.data.table import describe
from reidlib.spec import ReidError

METADATA = Path(__file__).parents[1] / "metadata"
PERSONS = (4, 2, 2, 1, 1)
PAIR_PERSON = [(pair, person) for pair, many in enumerate(PERSONS, 1) for person in range(1, many + 1)]
NUMBERS = (1, 5, 6, 10)  # of the ten places of a person, those that hold an image here; 1 to 5 are the first camera's
ALONE = (3, 2)  # seen by the first camera only


def pixels(boxes, pair, person, number):
    """H×W×3, of another size for every image, no two alike, no symmetry."""
    random = np.random.default_rng([len(boxes), pair, person, number])
    return random.integers(0, 256, (12 + person, 5 + number, 3), dtype=np.uint8)


def numbers_of(pair, person):
    return [number for number in NUMBERS if (pair, person) != ALONE or number <= 5]


def release(folder, tests=None):
    """A cuhk-03.mat as MATLAB 7.3 writes it: cells are arrays of references, every array transposed."""
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "cuhk-03.mat", "w") as file:
        store = file.create_group("#refs#")

        def put(array, **attributes):
            item = store.create_dataset(str(len(store)), data=array)
            item.attrs.update(attributes)
            return item.ref

        def cell(references):
            return np.array(references, dtype=object).astype(h5py.ref_dtype)

        for boxes in ("labeled", "detected"):
            pairs = []
            for pair, many in enumerate(PERSONS, 1):
                references = np.empty((10, many), dtype=object)
                for person in range(1, many + 1):
                    for number in range(1, 11):
                        if number in numbers_of(pair, person):
                            reference = put(pixels(boxes, pair, person, number).T)
                        else:
                            reference = put(np.zeros(2, dtype=np.uint64), MATLAB_empty=1)
                        references[number - 1, person - 1] = reference
                pairs.append(put(cell(references)))
            file.create_dataset(boxes, data=cell([pairs]))  # 1×5
        tests = tests or twenty_sets()
        file.create_dataset("testsets", data=cell([[put(np.array(rows, dtype=float).T) for rows in tests]]))
    return folder


def twenty_sets():
    """Twenty test sets of three persons, all different in their first; the second of set 2 is of the fourth pair."""
    sets = [[PAIR_PERSON[i % 8], PAIR_PERSON[(i + 1) % 8], PAIR_PERSON[(i + 3) % 8]] for i in range(20)]
    sets[1][1] = (4, 1)
    return sets


def identity(pair, person):
    return sum(PERSONS[: pair - 1]) + person


def config(file, boxes="labeled", **change):
    """A config file of the published structure over the tiny release: persons 1 and 2 of the first pair are tested."""
    entries = [(pair, person, number) for pair, person in PAIR_PERSON for number in numbers_of(pair, person)]
    names = [f"{pair}_{person:03d}_{1 + (number > 5)}_{number:02d}.png" for pair, person, number in entries]
    tested = [i for i, entry in enumerate(entries) if entry[:2] in ((1, 1), (1, 2))]
    query = [i for i in tested if entries[i][2] in (1, 6)]
    content = {
        "filelist": np.array([[name] for name in names], dtype=object),
        "labels": np.array([[identity(pair, person)] for pair, person, _ in entries], dtype=np.uint16),
        "camId": np.array([[1 + (number > 5)] for *_, number in entries], dtype=np.uint8),
        "train_idx": np.array([i + 1 for i in range(len(entries)) if i not in tested], dtype=np.uint16),
        "query_idx": np.array([i + 1 for i in query], dtype=np.uint16),
        "gallery_idx": np.array([i + 1 for i in tested if i not in query], dtype=np.uint16),
    }
    savemat(file / CONFIG.format(boxes=boxes), content | change)


def folders(root, *, suffix=".png", boxes=("labeled", "detected")):
    """CUHK03-NP folders of the same persons: 1 and 2 are tested."""
    for kind in boxes:
        for pair, person in PAIR_PERSON:
            for number in numbers_of(pair, person):
                name = f"{identity(pair, person):04d}_c{1 + (number > 5)}_{number}{suffix}"
                tested = "query" if number in (1, 6) else "bounding_box_test"
                folder = tested if (pair, person) in ((1, 1), (1, 2)) else "bounding_box_train"
                (root / kind / folder).mkdir(parents=True, exist_ok=True)
                (root / kind / folder / name).write_bytes(b"x")
    return root


def list_test_sets(root, sets=None, **more):
    cells = np.empty((20, 1), dtype=object)
    for row, rows in zip(cells, sets or twenty_sets(), strict=True):
        row[0] = np.array(rows, dtype=float)
    savemat(root / "testsets.mat", {"testsets": cells, "persons": np.array([PERSONS], dtype=float)} | more)


@pytest.fixture
def root(tmp_path):
    """The release with both config files, as unpacked: cuhk03/cuhk03_release/cuhk-03.mat."""
    root = release(tmp_path / "cuhk03" / "cuhk03_release")
    for boxes in ("labeled", "detected"):
        config(root, boxes)
    return root


@pytest.fixture
def np_root(tmp_path):
    root = folders(tmp_path / "sets" / "CUHK03-NP")
    list_test_sets(root)
    return root


# --- the published config files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("boxes, train, gallery", [("labeled", 7_368, 5_328), ("detected", 7_365, 5_332)])
def test_the_published_config_files_give_the_published_counts(monkeypatch, tmp_path, boxes, train, gallery):
    """All but the pixels: the release's images are stood for by the config's own list of them."""
    (tmp_path / "cuhk-03.mat").write_bytes(b"not opened")
    (tmp_path / CONFIG.format(boxes=boxes)).write_bytes((METADATA / CONFIG.format(boxes=boxes)).read_bytes())
    names = [str(cell[0]) for cell in cuhk03._read_mat(METADATA / CONFIG.format(boxes=boxes))["filelist"].ravel()]
    lines = [f"{name}\t1\t1" for name in names]
    extracted = tmp_path / "cuhk-03.images"
    (extracted / boxes).mkdir(parents=True)
    for name in names:
        (extracted / boxes / name).write_bytes(b"x")
    (extracted / f"{boxes}.tsv").write_text("\n".join([f"10\t843,440,77,58,49\t{len(lines)}", *lines]))

    data = load(f"cuhk03-np-{boxes}", tmp_path)
    assert {split: len(data.split(split)) for split in ("train", "query", "gallery")} == {
        "train": train, "query": 1_400, "gallery": gallery,
    }  # fmt: skip
    assert all(check.ok for check in data.checks), describe(data)
    assert len(data.identities) == 767 and set(data.table["camera"]) == {1, 2}
    assert data.table["identity"].min() == 1 and data.table["identity"].max() == 1_467

    # the numbering of all persons, pair after pair, is the one of the published labels
    images, persons, _ = cuhk03._extracted(tmp_path / "cuhk-03.mat", boxes, extracted)
    both = images.merge(data.table, on="path", suffixes=("", "_published"))
    assert len(both) == len(names) and persons == cuhk03.PERSONS
    assert (both["identity"] == both["identity_published"]).all() and (both["camera"] == both["camera_published"]).all()

    # both readings of the classic protocol, from one hundred persons of the first three pairs
    random = np.random.default_rng(0)
    first_three = [(pair, person) for pair in (1, 2, 3) for person in range(1, cuhk03.PERSONS[pair - 1] + 1)]
    tests = np.array(first_three)[random.permutation(len(first_three))[:100]]
    monkeypatch.setattr(cuhk03, "_test_sets", lambda root, split, persons: (tests, persons))
    for protocol, identities in (("classic", 1_367), ("classic3", 1_260)):
        data = load(f"cuhk03-{protocol}-{boxes}-01", tmp_path)
        assert all(check.ok for check in data.checks), describe(data)
        assert len(data.identities) == identities and data.split("gallery")["identity"].nunique() == 100


# --- the release ------------------------------------------------------------------------------------------------------


def test_the_new_protocol_from_the_release(root):
    data = load("cuhk03-np-labeled", root)
    assert (data.name, data.source, data.root) == ("cuhk03-np-labeled", "real", root / "cuhk-03.images")
    assert data.split("query").to_dict("list") == {
        "path": [f"labeled/1_00{p}_{c}_0{n}.png" for p in (1, 2) for c, n in ((1, 1), (2, 6))],
        "identity": [1, 1, 2, 2], "camera": [1, 2, 1, 2], "split": ["query"] * 4,
    }  # fmt: skip
    assert data.identities.tolist() == [3, 4, 5, 6, 7, 8, 9, 10] and len(data.split("gallery")) == 4
    assert "DIFFERS  train images: 30 (expected 7,368)" in describe(data)


@pytest.mark.parametrize("boxes", ["labeled", "detected"])
def test_pixels_come_out_as_they_went_in(root, boxes):
    data = load(f"cuhk03-np-{boxes}", root)
    assert len(list((data.root / boxes).iterdir())) == 38
    for pair, person in PAIR_PERSON:
        for number in numbers_of(pair, person):
            file = data.root / boxes / f"{pair}_{person:03d}_{1 + (number > 5)}_{number:02d}.png"
            assert (np.asarray(Image.open(file)) == pixels(boxes, pair, person, number)).all()
    frame = data.split("query").iloc[:1]
    whole = pixels(boxes, 1, 1, 1)
    assert (decode(data, frame, size=whole.shape[:2])[0].permute(1, 2, 0).numpy() == whole).all()


def test_only_the_boxes_that_were_asked_for_are_extracted_and_only_once(root):
    load("cuhk03-classic-detected-01", root)
    assert not (root / "cuhk-03.images" / "labeled").exists()
    files = {file: file.stat().st_mtime_ns for file in (root / "cuhk-03.images" / "detected").iterdir()}
    load("cuhk03-np-detected", root)
    assert {file: file.stat().st_mtime_ns for file in (root / "cuhk-03.images" / "detected").iterdir()} == files


def test_an_extraction_that_was_interrupted_goes_on_where_it_stopped(root, monkeypatch):
    saved, save = [], cuhk03._save

    def stop(file, write):
        if len(saved) == 7:
            raise KeyboardInterrupt
        saved.append(file)
        save(file, write)

    monkeypatch.setattr(cuhk03, "_save", stop)
    with pytest.raises(KeyboardInterrupt):
        load("cuhk03-np-labeled", root)
    assert not (root / "cuhk-03.images" / "labeled.tsv").exists()
    monkeypatch.setattr(cuhk03, "_save", lambda file, write: (saved.append(file), save(file, write)))
    data = load("cuhk03-np-labeled", root)
    assert len(saved) == len(set(saved)) == 39  # 38 images, each written once, and the index
    (data.root / "labeled" / "1_001_1_01.png").unlink()  # lost later
    (data.root / "labeled" / "1_001_1_05.png").write_bytes(b"")  # emptied by a crash of the machine
    assert load("cuhk03-np-labeled", root).digest == data.digest
    assert [file.name for file in saved[39:]] == ["1_001_1_01.png", "1_001_1_05.png", "labeled.tsv"]


def test_a_folder_that_cannot_be_written(root, tmp_path, monkeypatch):
    monkeypatch.setattr(cuhk03.os, "access", lambda *_: False)
    monkeypatch.setenv("REID_CACHE", str(tmp_path / "cache"))
    assert load("cuhk03-np-labeled", root).root == tmp_path / "cache" / "cuhk-03.images"


def test_a_place_that_is_taken_by_a_file(root):
    (root / "cuhk-03.images").write_text("")
    with pytest.raises(ReidError, match="images/labeled/1_001_1_01.png cannot be written .*; make space or fix"):
        load("cuhk03-np-labeled", root)


@pytest.mark.parametrize("change", [
    lambda text: text.replace("1_001", "x_001", 1), lambda text: text.replace("\t", "\tten", 1),
    lambda text: text.replace("1_001_1", "9_001_1", 1), lambda text: "\0" + text,
])  # fmt: skip
def test_an_odd_index_of_extracted_images_is_written_again(root, change):
    before = load("cuhk03-np-labeled", root)
    index = before.root / "labeled.tsv"
    written = index.read_text()
    index.write_text(change(written))
    assert load("cuhk03-np-labeled", root).digest == before.digest and index.read_text() == written


def test_images_of_another_release_are_not_taken_for_this_one(root):
    load("cuhk03-np-labeled", root)
    with (root / "cuhk-03.mat").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ReidError, match="cuhk-03.images holds the images of another cuhk-03.mat than .*; remove that"):
        load("cuhk03-np-labeled", root)


# --- the classic protocol ---------------------------------------------------------------------------------------------


def persons(data, split):
    return set(data.split(split)["identity"])


@pytest.mark.parametrize("split", [1, 2, 20])
def test_the_classic_protocol_takes_the_persons_of_its_test_set(root, split):
    data = load(f"cuhk03-classic-labeled-{split:02d}", root)
    tested = {identity(*row) for row in twenty_sets()[split - 1]}
    assert persons(data, "gallery") == tested
    assert persons(data, "train") == set(range(1, 11)) - tested
    assert f"classic protocol, split {split} of 20, labeled boxes" in describe(data)


def test_the_other_reading_takes_the_first_three_pairs_only(root):
    five, three = (load(f"cuhk03-{protocol}-labeled-01", root) for protocol in ("classic", "classic3"))
    assert persons(five, "gallery") == persons(three, "gallery") == {1, 2, 4}
    assert persons(five, "train") == {3, 5, 6, 7, 8, 9, 10} and persons(three, "train") == {3, 5, 6, 7, 8}
    assert "all five camera pairs" in describe(five) and "the first three camera pairs" in describe(three)
    lost = {check.what: check for check in load("cuhk03-classic3-labeled-02", root).checks}["test persons with images"]
    assert (lost.expected, lost.found, lost.ok) == ("3", "2", False)  # one of this set is of the fourth pair


def test_query_and_gallery_hold_all_images_of_the_test_persons(root):
    data = load("cuhk03-classic-labeled-01", root)
    assert data.split("query")["path"].tolist() == data.split("gallery")["path"].tolist()
    assert len(data.split("query")) == 12
    # set 8 tests the person whom only one camera saw: no query can ask for her, but she can be a wrong answer
    data = load("cuhk03-classic-labeled-08", root)
    alone = identity(*ALONE)
    assert alone in persons(data, "gallery") and alone not in persons(data, "query")
    check = {check.what: check for check in data.checks}["test persons seen by one camera, in the gallery only"]
    assert check.found == "1"


def test_every_name_is_a_table_of_its_own(root):
    load("cuhk03-np-labeled", root), load("cuhk03-np-detected", root)
    names = [name for name in VARIANTS if not name.endswith(tuple(f"-{split:02d}" for split in range(9, 21)))]
    digests = {name: load(name, root).digest for name in names}
    assert len(VARIANTS) == 2 + 2 * 2 * 20
    assert len(set(digests.values())) == len(digests) == 2 + 2 * 2 * 8
    with pytest.raises(ReidError, match="no table 'cuhk03-classic-labeled-21'; choose of cuhk03-np-labeled"):
        load("cuhk03-classic-labeled-21", root)


def test_the_digest_is_of_the_content_not_of_the_png_files(root, tmp_path):
    before = load("cuhk03-np-labeled", root).digest
    Image.open(root / "cuhk-03.images/labeled/1_001_1_01.png").save(
        root / "cuhk-03.images/labeled/1_001_1_01.png", compress_level=0
    )
    assert load("cuhk03-np-labeled", root).digest == before
    (root / "cuhk-03.images").rename(tmp_path / "before")
    assert load("cuhk03-np-labeled", root).digest == before


# --- CUHK03-NP folders and the stand-in -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cuhk03-np-labeled", "cuhk03-np-detected", "cuhk03-classic-labeled-01",
                                  "cuhk03-classic3-detected-08"])  # fmt: skip
def test_folders_and_release_give_the_same_persons_cameras_and_splits(root, np_root, name):
    def content(data):
        return sorted(zip(data.table["split"], data.table["identity"], data.table["camera"], strict=True))

    one, two = load(name, root), load(name, np_root)
    assert content(one) == content(two) and one.source == two.source == "real"
    assert two.root == np_root and all((np_root / path).is_file() for path in two.table["path"])


@pytest.mark.parametrize("name", ["cuhk03-np-detected", "cuhk03-classic-labeled-03", "cuhk03-classic3-labeled-03"])
def test_a_stand_in(tmp_path, name):
    root = folders(tmp_path / "set", suffix=".jpg")
    list_test_sets(root)
    counts = {
        f"{boxes}/{folder}": len(list((root / boxes / folder).iterdir()))
        for boxes in ("labeled", "detected")
        for folder in ("bounding_box_train", "query", "bounding_box_test")
    }
    manifest = dict(name="cuhk03", version=1, scale=0.05, seed=0, digest="0123456789abcdef", counts=counts)
    (root / "standin.json").write_text(json.dumps(manifest))
    data = load(name, root)
    assert data.source == "stand-in" and all(check.ok for check in data.checks)
    assert data.digest == cuhk03.standin_digest(name, "0123456789abcdef")
    assert data.digest != load("cuhk03-np-labeled", root).digest
    (root / "detected/query/0001_c1_1.jpg").unlink()
    with pytest.raises(ReidError, match="not whole: 3 images in detected/query, its manifest says 4.*render cuhk03"):
        load(name, root)


def test_folders_without_test_sets(np_root):
    (np_root / "testsets.mat").unlink()
    assert len(load("cuhk03-np-labeled", np_root).split("query")) == 4
    with pytest.raises(ReidError, match="holds neither cuhk-03.mat nor testsets.mat, which list the 20 test sets"):
        load("cuhk03-classic-labeled-01", np_root)


def test_labeled_alone_is_enough_for_labeled(tmp_path):
    root = folders(tmp_path / "CUHK03-NP", boxes=("labeled",))
    assert len(load("cuhk03-np-labeled", root).split("query")) == 4
    with pytest.raises(ReidError, match="holds none of detected/bounding_box_train, .*cuhk-03.mat"):
        load("cuhk03-np-detected", root)


@pytest.mark.parametrize("level", [("labeled",), ("labeled", "query"), ("..",), ("..", "..")])
def test_folders_too_deep_and_too_shallow_are_found(np_root, level):
    data = load("cuhk03-np-labeled", np_root.joinpath(*level))
    assert data.root == np_root and "found from root" in describe(data)


def test_the_release_is_found_and_the_config_one_level_up_too(root, monkeypatch):
    for boxes in ("labeled", "detected"):
        (root / CONFIG.format(boxes=boxes)).rename(root.parent / CONFIG.format(boxes=boxes))
    assert len(load("cuhk03-np-labeled", root.parent).split("query")) == 4
    monkeypatch.setenv("REID_DATA", str(root.parent.parent))
    assert len(load("cuhk03-np-labeled").split("query")) == 4
    monkeypatch.setenv("REID_DATA", str(root.parent))
    assert len(load("cuhk03-classic-labeled-01").split("gallery")) == 12


def test_each_protocol_takes_the_form_that_suits_it(root, np_root, tmp_path, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(tmp_path))  # it holds both
    assert load("cuhk03-np-labeled").root == np_root
    assert load("cuhk03-classic-labeled-01").root == root / "cuhk-03.images"


# --- faults -----------------------------------------------------------------------------------------------------------


def cut(name, size):
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:size])


def without(key):
    def fault(root):
        with h5py.File(root / "cuhk-03.mat", "a") as file:
            del file[key]

    return fault


def four_pairs(root):
    with h5py.File(root / "cuhk-03.mat", "a") as file:
        kept = file["labeled"][()][:, :4]
        del file["labeled"]
        file.create_dataset("labeled", data=kept)


def wrong_test_set(root):
    sets = twenty_sets()
    sets[0][0] = (5, 2)  # the fifth pair saw one person
    release(root, sets)


NEW, CLASSIC = "cuhk03-np-labeled", "cuhk03-classic-labeled-01"


@pytest.mark.parametrize("name, fault, words", [
    (NEW, cut("cuhk-03.mat", 5_000), r"cuhk-03.mat \(5,000 bytes\) is cut short or has not the structure .*copy it ag"),
    (NEW, cut("cuhk-03.mat", 0), r"cuhk-03.mat \(0 bytes\) is cut short"),
    (NEW, lambda root: savemat(root / "cuhk-03.mat", {"labeled": 1}), "cuhk-03.mat .* has not the structure of"),
    (NEW, without("labeled"), "cuhk-03.mat .* has not the structure of the release .*labeled"),
    (CLASSIC, without("testsets"), "cuhk-03.mat .* has not the structure of the release .*testsets"),
    (NEW, four_pairs, "labeled is not five cells of persons × 10 images.*; copy it again"),
    (CLASSIC, lambda root: release(root, twenty_sets()[:19]), "cuhk-03.mat lists 19 test sets instead of 20; copy it"),
    (CLASSIC, wrong_test_set, r"test set 1 of .*cuhk-03.mat is no list of \(pair 1 to 5, person\).*: copy it again"),
    (NEW, lambda root: (root / CONFIG.format(boxes="labeled")).unlink(),
     "cuhk03_new_protocol_config_labeled.mat is missing in .*; put this published file of the new protocol beside"),
    (NEW, cut(CONFIG.format(boxes="labeled"), 300), "config_labeled.mat cannot be read as a MATLAB file .*; copy it"),
    (NEW, lambda root: config(root, camId=np.ones((1, 1))), "has not the structure of the published config.*copy it"),
    (NEW, lambda root: config(root, train_idx=np.array([0])), "no whole numbers from 1 to .*; copy it again"),
    (NEW, lambda root: config(root, gallery_idx=np.array([1.5])), "no whole numbers from 1 to .*; copy it again"),
    (NEW, lambda root: config(root, labels=np.full((39, 1), 1e19)), "no whole numbers from 1 to 1,467.*copy it again"),
    (NEW, lambda root: config(root, camId=np.array(["x"])), "no whole numbers from 1 to 2.*copy it again"),
    (NEW, lambda root: config(root, train_idx=np.array([9_999])), "has not the structure of the published config file"),
    (NEW, lambda root: (root / CONFIG.format(boxes="labeled")).write_bytes(
        (METADATA / CONFIG.format(boxes="labeled")).read_bytes()),
     r"config_labeled.mat lists 1_001_1_02.png, which cuhk-03.mat does not hold \(14,0\d\d such\); copy both again"),
    (NEW, lambda root: config(root, gallery_idx=np.array([2, 6])),
     r"query .*1_001_1_01.png \(identity 1, camera 1\) has no match from another camera in the gallery"),
    (NEW, lambda root: (root / "standin.unfinished.json").write_text("{}"), "holds a half-rendered stand-in"),
])  # fmt: skip
def test_faults_of_the_release_are_named_with_their_remedy(root, name, fault, words):
    fault(root)
    with pytest.raises(ReidError, match=words) as error:
        load(name, root)
    assert len(str(error.value).splitlines()) == 1


def put(name):
    return lambda root: (root / name).write_bytes(b"x")


@pytest.mark.parametrize("name, fault, words", [
    (NEW, put("labeled/query/0000_c1_1.png"),
     "1 of 5 names in .*labeled/query are not CUHK03's, first 0000_c1_1.png; expected .* identities from 1 and cam"),
    (NEW, put("labeled/query/0001_c3_1.png"), "first 0001_c3_1.png; expected the form 0001_c1_1.png"),
    (NEW, put("labeled/query/0009_c1_1.png"), r"0009_c1_1.png \(identity 9, camera 1\) has no match from another cam"),
    (NEW, lambda root: (root / "labeled/query").rename(root / "query"), "folder labeled/query is missing in .*CUHK03"),
    (CLASSIC, put("labeled/bounding_box_train/0011_c1_1.png"),
     "identity 11 is among the images, but the test sets are of 10 persons; .* two different sets"),
    (CLASSIC, lambda root: list_test_sets(root, persons=np.array([[1.0, 2.0]])),
     r"test set 1 of .*testsets.mat is no list of \(pair 1 to 5, person\); pairs of \[1, 2\] persons"),
    (CLASSIC, lambda root: list_test_sets(root, persons=np.array(["one"])),
     "testsets.mat has values that are no whole numbers from 0 to 1,467 as the persons of each pair; copy it again"),
    (CLASSIC, lambda root: list_test_sets(root, persons=np.array([[1e300, 1, 1, 1, 1]])), "no whole numbers from 0"),
    (CLASSIC, lambda root: list_test_sets(root, testsets=np.array([["a"]] * 20, dtype=object)),
     r"test set 1 of .*testsets.mat is no list of \(pair 1 to 5, person\)"),
    (CLASSIC, lambda root: savemat(root / "testsets.mat", {"other": 1}), "testsets.mat lists 0 test sets instead of"),
    (CLASSIC, cut("testsets.mat", 200), "testsets.mat cannot be read as a MATLAB file .*copy it again"),
])  # fmt: skip
def test_faults_of_the_folders_are_named_with_their_remedy(np_root, name, fault, words):
    fault(np_root)
    with pytest.raises(ReidError, match=words) as error:
        load(name, np_root)
    assert len(str(error.value).splitlines()) == 1


def test_splits_of_a_protocol_are_known_by_any_of_them():
    names = cuhk03.splits("cuhk03-classic3-detected-07")
    assert len(names) == 20 and names[0] == "cuhk03-classic3-detected-01" and names[-1] == "cuhk03-classic3-detected-20"
    assert {cuhk03.all_splits(name) for name in names} == {"cuhk03-classic3-detected-01 … -20"}
    assert cuhk03.splits("cuhk03-np-labeled") == ["cuhk03-np-labeled"]
    assert cuhk03.splits("market1501") == [cuhk03.all_splits("market1501")] == ["market1501"]
