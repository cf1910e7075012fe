"""The stand-ins of DukeMTMC-reID, CUHK03 and MSMT17, and the start: counts, names, sound splits, the same bits."""

import hashlib
import io
import itertools
import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from scipy.io import loadmat

from reidlib import standin
from reidlib.data import start
from reidlib.runs import datasets
from reidlib.spec import ReidError
from reidlib.standin import DOMAINS, Variant, layouts, rendering, scene, write
from reidlib.standin import domain as domains
from reidlib.standin import plan as plans
from reidlib.standin.plan import plan

DUKEMTMC, CUHK03, MSMT17, START = (DOMAINS[name] for name in ("dukemtmc", "cuhk03", "msmt17", "start"))

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


@pytest.mark.parametrize("scale, seed", [(0.0005, 0), (0.05, 1)])
def test_the_start(planned, scale, seed):
    specs = planned(START, scale, seed)
    by = defaultdict(list)
    for spec in specs:
        found = start.LAYOUT.pattern.fullmatch(spec.name)
        assert found and (int(found[1]), int(found[2])) == (spec.identity, spec.camera)
        by[spec.folder].append((spec.identity, spec.camera))
    train, query, gallery = ({who for who, _ in by[f]} for f in (layouts.TRAIN, layouts.QUERY, layouts.TEST))
    assert query == gallery and not train & query
    check_matches(by[layouts.QUERY], by[layouts.TEST])
    if scale == 0.05:
        assert (len(train), len(by[layouts.TRAIN]), len(query)) == (500, 6000, 150)
        assert {camera for _, camera in by[layouts.TRAIN]} == set(range(1, len(START.cameras) + 1))
        assert {spec.film for spec in specs} == set(range(1, len(START.lights) + 1)), "a film in every light"


def test_the_start_is_read_back_and_is_never_a_real_set(tmp_path):
    out = standin.render("start", scale=0.0005, seed=0, out=tmp_path / "set", workers=1, truth=False)
    data = datasets.LOADERS["start"](out)
    assert (data.name, data.source) == ("start", "stand-in")
    counted = {split: data.split(split)["identity"].nunique() for split in ("train", "query", "gallery")}
    folders = json.loads((out / standin.MANIFEST).read_text(encoding="utf-8"))["identities"]
    assert list(counted.values()) == [folders[folder] for folder in start.LAYOUT.forms[0]]
    (out / standin.MANIFEST).unlink()
    for root in (None, out):
        with pytest.raises(ReidError, match="start exists only as a set that this study renders: `reid render start"):
            datasets.LOADERS["start"](root)


# The sizes of the test part

SETS = {"market1501": 38, "dukemtmc": 35, "cuhk03": 38, "msmt17": 52, "start": 500}
"""Training identities at scale 0.05: a twentieth of the published ones."""


@pytest.mark.parametrize("name", SETS)
def test_a_small_set_tests_150_identities_in_at_most_1100_images(planned, name):
    specs = planned(DOMAINS[name], 0.05, 0)
    people, images = defaultdict(set), Counter()
    for spec in specs:
        if not spec.folder.startswith(("labeled/", layouts.TIGHT)):  # the same moments in other boxes
            part = "train" if spec.folder.endswith("train") else "test"
            images[part] += 1
            people[part] |= {spec.identity} if spec.kind == "person" else set()
    sizes = DOMAINS[name].sizes
    assert len(people["train"]) == SETS[name] == round(0.05 * sizes.train_identities)
    assert images["train"] == pytest.approx(0.05 * sizes.train_images, abs=0.6)
    strangers = len(people["test"]) - 150  # DukeMTMC-reID's are numbered as everybody else
    assert (0 < strangers < 30 if name == "dukemtmc" else strangers == 0) and images["test"] <= 1100
    known = plans.counts(sizes, 0.05)
    assert (known["identities"], known["train"], known["tested identities"]) == (SETS[name], images["train"], 150)
    assert known["query"] + known["gallery"] == images["test"]


@pytest.mark.parametrize("name", SETS)
def test_the_test_part_grows_with_the_scale_up_to_the_published_one(name):
    sizes = DOMAINS[name].sizes
    found = [plans.tested(sizes, scale) for scale in (0.0001, 0.001, 0.01, 0.05, 0.25, 0.6, 0.99, 1.0)]
    assert found[-1] == (sizes.test_identities, sizes.query_images, 1.0)
    for one, other in itertools.pairwise(found):
        assert all(low <= high for low, high in zip(one, other, strict=True))
    for part in found:
        assert 2 * part.identities <= part.queries <= sizes.query_images and 0 <= part.gallery <= 1
    parts = (sizes.junk_images, sizes.distractor_images) if name == "market1501" else ()
    more = (sizes.distractor_images,) if name == "dukemtmc" else parts
    assert sizes.whole_gallery == sizes.gallery_images + sum(more)


# Strangers: no domain shares a draw with another


def drawn_by(monkeypatch, name, out):
    """The name of every random stream that is opened while a tiny set is planned, rendered and written."""
    opened = []

    class Recorded(Random):
        def __init__(self, key):
            opened.append(key)
            super().__init__(key)

    with monkeypatch.context() as patch:
        patch.setattr(domains, "Random", Recorded)
        variant = Variant("tight", 0.5, None, 0.5)  # which draws from every stream that there is
        standin.render(name, scale=0.0005, seed=77, out=out, workers=1, variant=variant, truth=False)
    return set(opened)


def test_no_random_stream_is_shared_by_two_domains(tmp_path, monkeypatch):
    opened = {name: drawn_by(monkeypatch, name, tmp_path / name) for name in DOMAINS}
    for one, other in itertools.combinations(opened, 2):
        assert not opened[one] & opened[other]
    for name, streams in opened.items():
        assert len(streams) > 100 and all(stream.startswith(f"{name}/77/") for stream in streams)
        purposes = {stream.split("/")[2] for stream in streams}
        assert {"plan", "frames", "person", "walk", "image", "light", "surfaces", "alike"} <= purposes, name


def test_all_randomness_comes_from_the_streams():
    """Nothing in the room makes a generator but `Domain.stream`."""
    makers = re.compile(r"\b(Random\(|random\.seed|default_rng|np\.random|torch\.(?:manual_seed|rand)|import random\b)")
    found = {
        file.name: makers.findall(file.read_text(encoding="utf-8"))
        for file in Path(domains.__file__).parent.glob("*.py")
    }
    assert {name: calls for name, calls in found.items() if calls} == {"domain.py": ["Random("]}


def test_people_of_the_same_number_are_strangers_across_domains():
    for number in range(1, 60):
        people = [scene.person_of(domain, 0, str(number)) for domain in DOMAINS.values()]
        walks = [scene.walk(domain, 0, str(number), 1, 0, 0)[0] for domain in DOMAINS.values()]
        for name in ("height", "build", "stride", "swing", "skin", "bag_size"):
            assert len({getattr(person, name) for person in people}) == len(DOMAINS), (number, name)
        assert len({(walk.pose, walk.x) for walk in walks}) == len({walk.pose.phase for walk in walks}) == len(DOMAINS)
    tall = np.array([[scene.person_of(d, 0, str(n)).height for n in range(1, 200)] for d in DOMAINS.values()])
    assert np.abs(np.corrcoef(tall) - np.eye(len(tall))).max() < 0.3


def test_msmt_has_rooms_and_times_of_day():
    rooms = [number for number, camera in enumerate(MSMT17.cameras, 1) if camera.lamps]
    assert len(MSMT17.cameras) == 15 and len(rooms) == 3
    for spec in plan(MSMT17, 0.01, 0)[::9]:
        factors = scene.compose(MSMT17, 0, spec).factors
        if spec.camera in rooms:
            assert factors["time"] == "lamps" and not factors["sunny"]
        else:
            assert factors["time"] in spec.name


@pytest.mark.parametrize("domain", [DUKEMTMC, CUHK03, MSMT17, START], ids=lambda domain: domain.name)
def test_bits_do_not_depend_on_the_batch(domain):
    specs = plan(domain, 0.02, 4)
    scenes = [scene.compose(domain, 4, spec) for spec in specs[:: len(specs) // 9]]
    whole = rendering.pixels(scenes)
    for number, one in enumerate(scenes):
        alone = rendering.pixels([one])
        assert torch.equal(alone.images[0], whole.images[number]) and torch.equal(alone.parts[0], whole.parts[number])


def test_the_four_domains_look_different():
    """Their mean colours would tell them apart."""
    means = {}
    for name, domain in DOMAINS.items():
        if domain is START:
            continue
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
    for part, many in manifest["identities"].items():
        assert many == len({spec.identity for spec in specs if spec.folder == part and spec.kind == "person"})
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
        "19a9f614aa561166",
        "0ed8ea3e31fba96f",
        (
            ("bounding_box_test/0001_c1_f0462901.jpg", 226809655, 93, 26, 4319, 1425.4, (86.88, 86.02, 78.33)),
            ("bounding_box_test/0021_c1_f0152201.jpg", 646605790, 91, 44, 7226, 2285.7, (79.35, 80.94, 70.35)),
            ("bounding_box_train/0005_c4_f0097001.jpg", 607581859, 87, 27, 4478, 1362.8, (53.19, 45.57, 49.23)),
            ("bounding_box_train/0015_c8_f0393176.jpg", 560364283, 88, 25, 4456, 1484.0, (114.33, 107.08, 80.09)),
            ("bounding_box_train/0039_c1_f0262226.jpg", 839559348, 88, 20, 3793, 1082.0, (107.73, 104.68, 95.57)),
        ),
    ),
    "cuhk03": (
        "0338ba13bba71897",
        "81ea28896e723d6a",
        (
            ("detected/bounding_box_test/0002_c1_2.jpg", 818730129, 84, 24, 4242, 1047.8, (131.93, 133.53, 135.62)),
            ("detected/bounding_box_test/0029_c2_4.jpg", 753430621, 92, 29, 5647, 1235.6, (105.76, 94.16, 92.6)),
            ("detected/query/0002_c1_1.jpg", 106939967, 89, 29, 5022, 1391.1, (129.08, 130.94, 132.98)),
            ("labeled/bounding_box_test/0015_c1_2.jpg", 468895442, 84, 25, 4305, 1147.1, (130.56, 129.85, 131.23)),
            ("labeled/bounding_box_train/0010_c2_3.jpg", 93543154, 86, 26, 4627, 1255.5, (112.03, 113.45, 110.38)),
        ),
    ),
    "msmt17": (
        "6aca447b1f0d8d03",
        "74f8907023ae4664",
        (
            ("test/0000/0000_000_03_0303afternoon_4676_0.jpg", 457587635, 81, 38, 5188, 1738.4, (94.73, 78.95, 66.29)),
            ("test/0016/0016_002_02_0302afternoon_9751_0.jpg", 960680191, 89, 25, 4103, 1294.2, (99.14, 84.5, 69.31)),
            (
                "test/0029/0029_005_15_0113afternoon_2426_0.jpg",
                1033221312,
                81,
                22,
                3706,
                938.1,
                (116.87, 113.59, 103.13),
            ),
            ("train/0004/0004_021_11_0113morning_5001_0.jpg", 378132608, 82, 27, 4487, 1289.7, (90.68, 85.57, 86.21)),
            ("train/0008/0008_020_07_0113morning_8976_0.jpg", 1027369602, 73, 32, 5216, 1541.0, (81.17, 82.46, 80.35)),
        ),
    ),
    "start": (
        "2ed393cd05762249",
        "6fbe966b2a0487a4",
        (
            ("bounding_box_test/0002_c18s1_044251_02.jpg", 1063244981, 65, 24, 4298, 1076.2, (107.23, 99.84, 92.21)),
            ("bounding_box_train/0014_c20s5_030676_02.jpg", 224434183, 84, 25, 3994, 1153.4, (124.31, 121.39, 107.42)),
            ("bounding_box_train/0043_c9s4_043826_04.jpg", 652019854, 70, 26, 3853, 1266.7, (146.25, 129.86, 139.29)),
            ("bounding_box_train/0079_c17s1_018726_04.jpg", 177455464, 83, 29, 5345, 1584.0, (109.63, 106.71, 111.16)),
            ("bounding_box_train/0107_c17s12_019601_03.jpg", 866480154, 84, 30, 4505, 1706.0, (99.76, 99.28, 99.82)),
        ),
    ),
}
"""Digest at scale 0.05 and seed 0, hash of the names, and five images of scale 0.01: name, noise seed, quality,
primitives seen, sum of their screen boxes, sum of their numbers, mean colour."""


@pytest.mark.parametrize("name", FROZEN)
def test_the_digest_the_names_and_the_images_of_the_frozen_sets_stand(name):
    digest, names, frozen = FROZEN[name]
    chosen = write.domain(name)
    assert (standin.VERSION, standin.digest(name, scale=0.05, seed=0)) == (3, digest)
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
