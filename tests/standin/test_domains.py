"""The stand-ins of DukeMTMC-reID, CUHK03 and MSMT17: published counts, real names, sound splits, the same bits."""

import hashlib
import io
import json
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from scipy.io import loadmat

from reidlib import standin
from reidlib.spec import ReidError
from reidlib.standin import DOMAINS, layouts, rendering, scene, write
from reidlib.standin.plan import plan

DUKEMTMC, CUHK03, MSMT17 = DOMAINS["dukemtmc"], DOMAINS["cuhk03"], DOMAINS["msmt17"]

DUKE_NAME = re.compile(r"(\d{4})_c([1-8])_f\d{7}\.jpg")
CUHK_NAME = re.compile(r"(\d{4})_c([12])_([1-5])\.jpg")
MSMT_NAME = re.compile(r"(\d{4})/\1_(\d{3})_(0[1-9]|1[0-5])_\d{4}(morning|noon|afternoon)_\d{4}_0\.jpg")
TINY = {"dukemtmc": 0.002, "cuhk03": 0.004, "msmt17": 0.001}
SCALES = [(0.001, 0), (0.03, 1), (1.0, 0)]


def check_matches(queries, gallery):
    """Every (identity, camera) of `queries` is unique, and has a match in another camera of `gallery`."""
    assert len(set(queries)) == len(queries), "one query for each identity and camera"
    cameras = defaultdict(set)
    for identity, camera in gallery:
        cameras[identity].add(camera)
    for identity, camera in queries:
        assert cameras[identity] - {camera}, "a query without a match in another camera"


@pytest.mark.parametrize("scale, seed", SCALES)
def test_duke(planned, scale, seed):
    specs = planned(DUKEMTMC, scale, seed)
    assert len({spec.path for spec in specs}) == len(specs)
    by = defaultdict(list)
    for spec in specs:
        identity, camera = map(int, DUKE_NAME.fullmatch(spec.name).groups())
        assert (identity, camera) == (spec.identity, spec.camera) and identity > 0
        by[spec.folder].append((identity, camera))
    train, gallery, query = ({identity for identity, _ in by[folder]} for folder in DUKEMTMC.layout.folders)
    assert not train & (query | gallery)
    strangers = gallery - query
    cameras = Counter(identity for identity, _ in set(by[layouts.TEST]))
    assert strangers and all(cameras[identity] == 1 for identity in strangers), "seen by one camera, and not asked for"
    check_matches(by["query"], by[layouts.TEST])
    if scale == 1:
        assert {folder: len(some) for folder, some in by.items()} == {
            "bounding_box_train": 16522,
            "query": 2228,
            "bounding_box_test": 17661,
        }
        assert (len(train), len(query), len(gallery), len(strangers)) == (702, 702, 702 + 408, 408)


@pytest.mark.parametrize("scale, seed", SCALES)
def test_cuhk(planned, scale, seed):
    specs = planned(CUHK03, scale, seed)
    assert len({spec.path for spec in specs}) == len(specs)
    by, pairs = defaultdict(list), defaultdict(set)
    for spec in specs:
        identity, view, number = map(int, CUHK_NAME.fullmatch(spec.name).groups())
        assert (identity, view, number) == (spec.identity, (spec.camera - 1) % 2 + 1, spec.moment + 1)
        assert spec.tight == spec.folder.startswith("labeled/")
        pairs[identity].add((spec.camera - 1) // 2)
        by[spec.folder].append((identity, view))
    assert all(len(seen) == 1 for seen in pairs.values()), "one pair of cameras saw a person"
    assert sorted(pairs) == list(range(1, len(pairs) + 1))
    for boxes in ("labeled", "detected"):
        train, query, gallery = (
            {i for i, _ in by[f"{boxes}/{f}"]} for f in ("bounding_box_train", "query", "bounding_box_test")
        )
        assert query == gallery and not train & query and train | query == set(pairs)
        check_matches(by[f"{boxes}/query"], by[f"{boxes}/bounding_box_test"])
    if scale == 1:
        assert {folder: len(some) for folder, some in by.items()} == {
            "labeled/bounding_box_train": 7368,
            "labeled/query": 1400,
            "labeled/bounding_box_test": 5328,
            "detected/bounding_box_train": 7365,
            "detected/query": 1400,
            "detected/bounding_box_test": 5332,
        }
        assert (len({i for i, _ in by["labeled/bounding_box_train"]}), len({i for i, _ in by["labeled/query"]})) == (
            767,
            700,
        )


@pytest.mark.parametrize("scale", [0.001, 0.02, 1.0])
def test_cuhk_test_sets_of_the_classic_protocol(scale):
    (name, content), *rest = CUHK03.layout.files(CUHK03, scale, 0).items()
    assert name == "testsets.mat" and not rest
    assert content == CUHK03.layout.files(CUHK03, scale, 0)[name], "no time of day in it"
    read = loadmat(io.BytesIO(content))
    persons = read["persons"][0].astype(int).tolist()
    assert read["persons"].shape == (1, 5) and min(persons) >= 1
    assert sum(persons) == len({spec.identity for spec in plan(CUHK03, scale, 0)})
    assert read["testsets"].shape == (20, 1)
    for (rows,) in read["testsets"]:
        assert rows.dtype == np.float64 and len(rows) >= 2
        assert len({tuple(row) for row in rows}) == len(rows) < sum(persons[:3])
        assert all(1 <= pair <= 3 and 1 <= person <= persons[int(pair) - 1] for pair, person in rows)
    assert len({rows.tobytes() for (rows,) in read["testsets"]}) > 10
    if scale == 1:
        assert persons == [843, 440, 77, 58, 49] and all(rows.shape == (100, 2) for (rows,) in read["testsets"])


def test_cuhk_boxes_of_one_moment_differ_in_the_box_alone():
    specs = {spec.path: spec for spec in plan(CUHK03, 0.02, 0)}
    some = [path for path in specs if path.startswith("labeled/") and path.replace("labeled", "detected") in specs][::9]
    for path in some:
        labeled, detected = (scene.compose(CUHK03, 0, specs[p]) for p in (path, path.replace("labeled", "detected")))
        assert differing(labeled.factors, detected.factors) <= {
            "box_shift_x",
            "box_shift_y",
            "box_scale",
            "box_aspect",
            "quality",
        }
        assert np.array_equal(labeled.light, detected.light)
    assert any(
        abs(scene.compose(CUHK03, 0, specs[p.replace("labeled", "detected")]).factors["box_shift_x"]) > 0.02
        for p in some
    )


def differing(one, other):
    """Names of the factors in which two images differ."""
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


@pytest.mark.parametrize("scale, seed", SCALES)
def test_msmt(planned, scale, seed):
    specs = planned(MSMT17, scale, seed)
    assert len({spec.path for spec in specs}) == len(specs)
    people, labels = defaultdict(set), defaultdict(set)
    for spec in specs:
        label, _, camera, time = MSMT_NAME.fullmatch(spec.name).groups()
        assert int(camera) == spec.camera
        assert time == MSMT17.lights[(spec.film - 1) % 3].name
        people[spec.folder].add(spec.identity)
        labels[spec.folder].add(int(label))
    assert not people["train"] & people["test"]
    for folder in ("train", "test"):
        assert labels[folder] == set(range(len(people[folder]))), "labels count from 0 in either folder"
    lists = {
        name: [line.split(" ") for line in content.decode().splitlines()]
        for name, content in MSMT17.layout.files(MSMT17, scale, seed).items()
    }
    assert all(path.startswith(f"{int(label):04d}/") for lines in lists.values() for path, label in lines)
    for folder, names in (("train", ("train", "val")), ("test", ("query", "gallery"))):
        listed = [path for name in names for path, _ in lists[f"list_{name}.txt"]]
        assert sorted(listed) == sorted(spec.name for spec in specs if spec.folder == folder), "each image in one list"
    query, gallery = (
        [(label, path.split("_")[2]) for path, label in lists[f"list_{name}.txt"]] for name in ("query", "gallery")
    )
    check_matches(query, gallery)
    assert {label for _, label in lists["list_train.txt"]} == {str(label) for label in labels["train"]}
    if scale == 1:
        assert {name: len(lines) for name, lines in lists.items()} == {
            "list_train.txt": 30248,
            "list_val.txt": 2373,
            "list_query.txt": 11659,
            "list_gallery.txt": 82161,
        }
        assert (len(people["train"]), len(people["test"])) == (1041, 3060)


def test_msmt_has_rooms_and_times_of_day():
    rooms = [number for number, camera in enumerate(MSMT17.cameras, 1) if camera.lamps]
    assert len(MSMT17.cameras) == 15 and len(rooms) == 3
    for spec in plan(MSMT17, 0.01, 0)[::9]:
        factors = scene.compose(MSMT17, 0, spec).factors
        if spec.camera in rooms:
            assert factors["time"] == "lamps" and not factors["sunny"]
        else:
            assert factors["time"] in spec.name


@pytest.mark.parametrize("domain", [DUKEMTMC, CUHK03, MSMT17], ids=lambda domain: domain.name)
def test_bits_do_not_depend_on_the_batch(domain):
    specs = plan(domain, 0.02, 4)
    scenes = [scene.compose(domain, 4, spec) for spec in specs[:: len(specs) // 9]]
    whole = rendering.pixels(scenes)
    for number, one in enumerate(scenes):
        alone = rendering.pixels([one])
        assert torch.equal(alone.images[0], whole.images[number]) and torch.equal(alone.parts[0], whole.parts[number])


def test_the_four_domains_look_different():
    """Their mean colours, and the spread over their images, would tell them apart."""
    means = {}
    for name, domain in DOMAINS.items():
        specs = [spec for spec in plan(domain, 0.02, 0) if spec.kind == "person"]
        images = rendering.pixels([scene.compose(domain, 0, spec) for spec in specs[:: len(specs) // 24]]).images
        means[name] = images.double().mean((0, 1, 2))
    names = sorted(means)
    for one in names:
        for other in names[names.index(one) + 1 :]:
            assert (means[one] - means[other]).abs().max() > 4, (one, other)


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A tiny set of each domain, rendered without disturbance."""
    root = tmp_path_factory.mktemp("sets")
    return {name: standin.render(name, scale=TINY[name], seed=1, out=root / name, workers=1) for name in TINY}


@pytest.mark.parametrize("name", TINY)
def test_what_is_on_disk(sets, name):
    folder, domain = sets[name], DOMAINS[name]
    specs = plan(domain, TINY[name], 1)
    manifest = json.loads((folder / standin.MANIFEST).read_text(encoding="utf-8"))
    counts = Counter(spec.folder for spec in specs)
    assert manifest["counts"] == {part: counts[part] for part in domain.layout.folders}
    assert manifest["digest"] == standin.digest(name, scale=TINY[name], seed=1)
    truths = {"truth_" + part.replace("/", "_") + ".npz" for part in domain.layout.folders}
    assert set(files_of(folder)) == {spec.path for spec in specs} | truths | {standin.MANIFEST, *domain.layout.names}
    assert set(domain.layout.files(domain, TINY[name], 1)) == set(domain.layout.names)
    assert standin.is_complete(folder)


@pytest.mark.parametrize("name", TINY)
def test_an_interrupted_render_resumes_to_the_same_bits(sets, tmp_path, monkeypatch, name):
    saved = []

    def interrupted(*words):
        saved.append(words)
        if len(saved) == 50:
            raise KeyboardInterrupt
        return real(*words)

    real = write._write_image
    monkeypatch.setattr(write, "_write_image", interrupted)
    # Another size of the batches, too.
    monkeypatch.setattr(write, "BATCH", 5)
    with pytest.raises(KeyboardInterrupt):
        standin.render(name, scale=TINY[name], seed=1, out=tmp_path, workers=1)
    monkeypatch.setattr(write, "_write_image", real)
    assert not standin.is_complete(tmp_path) and not (tmp_path / standin.MANIFEST).exists()
    standin.render(name, scale=TINY[name], seed=1, out=tmp_path, workers=1)
    assert files_of(tmp_path) == files_of(sets[name])


def test_a_lost_list_is_written_again(sets, monkeypatch):
    before = files_of(sets["msmt17"])
    (sets["msmt17"] / "list_val.txt").unlink()
    monkeypatch.setattr(write, "draw", lambda *_: pytest.fail("rendered again"))
    standin.render("msmt17", scale=TINY["msmt17"], seed=1, out=sets["msmt17"], workers=1)
    assert files_of(sets["msmt17"]) == before


@pytest.mark.parametrize("where", ["train/0000/mine.jpg", "train/9999/0000.jpg", "list_mine.txt", "labeled/notes.txt"])
def test_a_foreign_file_is_refused(tmp_path, where):
    (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / where).write_text("mine", encoding="utf-8")
    with pytest.raises(ReidError, match="is not part of the stand-in; move it away or give another folder"):
        standin.render("msmt17", scale=0.001, seed=1, out=tmp_path, workers=1)
    assert (tmp_path / where).read_text(encoding="utf-8") == "mine"


# The frozen sets: committed records carry their digests, so neither they nor an image may ever change

FROZEN = {
    "dukemtmc": (
        "db1b5fab403a167a",
        "872c491a91ac76b0",
        (
            ("bounding_box_test/0003_c2_f0240576.jpg", 950528267, 89, 25, 4431, 1651.0, (84.5, 69.67, 66.1)),
            ("bounding_box_test/0007_c1_f0139451.jpg", 828552020, 88, 25, 4141, 1254.3, (108.05, 101.31, 89.38)),
            ("bounding_box_test/0012_c6_f0399551.jpg", 541274616, 90, 26, 4103, 1527.4, (120.49, 128.79, 143.98)),
            ("bounding_box_train/0002_c3_f0110576.jpg", 943278963, 89, 30, 4408, 1402.9, (98.15, 92.51, 86.44)),
            ("bounding_box_train/0016_c5_f0334451.jpg", 360869283, 92, 26, 4260, 1323.5, (112.29, 106.31, 104.47)),
        ),
    ),
    "cuhk03": (
        "1d702944e09b883b",
        "9f10f51b4919e101",
        (
            ("detected/bounding_box_test/0003_c1_2.jpg", 431433756, 89, 24, 4319, 1276.0, (141.65, 141.39, 145.03)),
            ("detected/bounding_box_train/0001_c1_4.jpg", 384827404, 90, 21, 3632, 942.5, (121.6, 122.12, 123.92)),
            ("detected/bounding_box_train/0013_c1_4.jpg", 393300611, 86, 34, 6348, 1669.8, (122.97, 123.98, 121.73)),
            ("labeled/bounding_box_test/0009_c1_5.jpg", 224953932, 85, 21, 3756, 948.1, (128.8, 114.06, 118.1)),
            ("labeled/bounding_box_train/0005_c1_4.jpg", 312526310, 88, 24, 3995, 1011.4, (138.57, 137.33, 137.64)),
        ),
    ),
    "msmt17": (
        "b5870b2a8b188cde",
        "78e0ef31394df594",
        (
            ("test/0000/0000_000_04_0303morning_8201_0.jpg", 603444888, 82, 25, 4027, 1338.8, (89.38, 93.01, 86.49)),
            (
                "test/0007/0007_032_14_0302afternoon_3776_0.jpg",
                1044850382,
                88,
                28,
                4591,
                1515.0,
                (111.21, 79.38, 55.11),
            ),
            ("test/0015/0015_032_11_0211morning_5676_0.jpg", 557444868, 86, 28, 4428, 1400.1, (77.23, 72.61, 72.85)),
            ("test/0025/0025_019_09_0303noon_9101_0.jpg", 268586656, 90, 22, 3860, 1061.7, (125.16, 105.93, 69.83)),
            (
                "train/0002/0002_026_06_0211afternoon_6851_0.jpg",
                882310104,
                90,
                27,
                4208,
                1340.2,
                (136.0, 119.43, 99.56),
            ),
        ),
    ),
}
"""Digest at scale 0.05 and seed 0, hash of the names, and five images of scale 0.01: name, noise seed, quality,
primitives seen, sum of their screen boxes, sum of their numbers, mean colour."""


@pytest.mark.parametrize("name", FROZEN)
def test_the_digest_the_names_and_the_images_of_the_frozen_sets_stand(name):
    digest, names, frozen = FROZEN[name]
    chosen = write.domain(name)
    assert (standin.VERSION, standin.digest(name, scale=0.05, seed=0)) == (2, digest)
    paths = "\n".join(spec.path for spec in plan(chosen, 0.05, 0))
    assert hashlib.sha256(paths.encode()).hexdigest()[:16] == names
    specs = plan(chosen, 0.01, 0)
    specs = specs[:: len(specs) // 5][:5]
    scenes = [scene.compose(chosen, 0, spec) for spec in specs]
    images = rendering.pixels(scenes).images
    for spec, made, image, known in zip(specs, scenes, images, frozen, strict=True):
        path, seed, quality, primitives, boxes, numbers, colour = known
        assert (spec.path, made.seed, made.quality) == (path, seed, quality)
        assert (len(made.kind), int(made.pixels.sum())) == (primitives, boxes)
        assert np.abs(made.packed).sum() == pytest.approx(numbers, abs=0.1)
        # Mathematical libraries differ in the last place; a mean over 8,192 pixels does not show it.
        assert image.double().mean((0, 1)).tolist() == pytest.approx(colour, abs=1.0)
