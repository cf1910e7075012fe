"""The renderer of the stand-ins: what it plans, that its bits depend on the seed alone, and that it resumes."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reidlib import standin
from reidlib.spec import ReidError
from reidlib.standin import body, geometry, parts, raycast, rendering, scene, write
from reidlib.standin.identity import draw_person
from reidlib.standin.layouts import QUERY, TEST, TIGHT, TRAIN
from reidlib.standin.plan import plan

NAME = re.compile(r"(-1|\d{4})_c([1-6])s([1-6])_(\d{6})_(\d\d)\.jpg")
TINY = 0.002
MARKET1501 = standin.DOMAINS["market1501"]
FOLDERS = MARKET1501.layout.folders


def bytes_of(folder):
    """Every file of a stand-in, by its path within it."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def scenes():
    """A few images of every kind, as numbers: people, junk, distractors."""
    specs = plan(MARKET1501, 0.02, 5)
    some = [spec for spec in specs if spec.kind == "person"][::90]
    some += [spec for spec in specs if spec.kind == "junk"][::25] + [s for s in specs if s.kind == "distractor"][::20]
    return [scene.compose(MARKET1501, 5, spec) for spec in some]


# What is planned


def test_scale_one_has_the_published_sizes(planned):
    specs = planned(MARKET1501, 1.0, 0)
    people = [spec for spec in specs if spec.kind == "person"]
    assert Counter(spec.folder for spec in specs) == {TRAIN: 12936, TEST: 19732, QUERY: 3368, TIGHT: 25259}
    assert Counter(spec.kind for spec in specs if spec.folder == TEST) == {
        "person": 13115,
        "junk": 3819,
        "distractor": 2798,
    }
    assert len({spec.identity for spec in people if spec.folder == TRAIN}) == 751
    assert len({spec.identity for spec in people if spec.folder == TEST}) == 750
    assert len({spec.identity for spec in people if spec.folder == QUERY}) == 750


@pytest.mark.parametrize("scale, seed", [(0.001, 0), (0.05, 1), (0.3, 2), (1.0, 0)])
def test_every_plan_is_a_sound_data_set(planned, scale, seed):
    specs = planned(MARKET1501, scale, seed)
    assert len({(spec.folder, spec.name) for spec in specs}) == len(specs)
    cameras = defaultdict(set)
    for spec in specs:
        identity, camera, *_, box = NAME.fullmatch(spec.name).groups()
        assert (int(identity), int(camera)) == (spec.identity, spec.camera)
        assert (box == "00") == spec.tight == (spec.folder in (QUERY, TIGHT))
        if spec.kind == "person":
            cameras[spec.folder, spec.identity].add(spec.camera)
    people = {folder: {i for f, i in cameras if f == folder} for folder in FOLDERS}
    assert not people[TRAIN] & people[TEST]
    assert people[QUERY] == people[TEST]
    assert people[TIGHT] == people[TRAIN] | people[TEST]
    assert all(len(seen) >= 2 for seen in cameras.values())
    queries = [(spec.identity, spec.camera) for spec in specs if spec.folder == QUERY]
    assert len(set(queries)) == len(queries), "one query for each identity and camera"
    for identity, camera in queries:
        assert cameras[TEST, identity] - {camera}, "a query without a match in another camera"


def test_a_plan_depends_on_its_seed():
    assert plan(MARKET1501, 0.01, 0) == plan(MARKET1501, 0.01, 0)
    assert plan(MARKET1501, 0.01, 0) != plan(MARKET1501, 0.01, 1)


def test_the_digest_speaks_for_parameters_and_not_for_bytes():
    one = standin.digest("market1501", scale=0.05, seed=0)
    assert one == standin.digest("market1501", scale=0.05, seed=0)
    assert one != standin.digest("market1501", scale=0.05, seed=1)
    assert one != standin.digest("market1501", scale=0.1, seed=0)


# The frozen set: committed records carry its digest, so neither it nor an image may ever change

FROZEN = (
    # name, noise seed, quality, primitives seen, sum of their screen boxes, sum of their numbers, mean colour
    ("bounding_box_test/-1_c1s4_000201_06.jpg", 505400461, 84, 45, 6542, 2030.6, (110.94, 104.78, 100.76)),
    ("bounding_box_test/0000_c6s2_000526_08.jpg", 447741624, 71, 22, 3827, 1130.0, (87.21, 87.67, 82.42)),
    ("bounding_box_test/0020_c6s1_033751_03.jpg", 950183457, 64, 35, 6249, 1587.6, (89.02, 88.19, 87.45)),
    ("bounding_box_test/0038_c1s4_043976_04.jpg", 854887473, 81, 24, 4423, 1168.0, (99.41, 97.45, 92.67)),
    ("bounding_box_train/0013_c2s1_031751_02.jpg", 566900243, 79, 50, 8458, 2045.4, (76.73, 74.3, 69.25)),
    ("bounding_box_train/0024_c5s6_025301_03.jpg", 264470487, 80, 41, 5845, 1718.5, (100.72, 101.88, 100.86)),
    ("gt_bbox/0002_c4s6_053426_00.jpg", 632266156, 80, 43, 8461, 1873.3, (124.83, 106.68, 104.99)),
    ("gt_bbox/0008_c4s4_033151_00.jpg", 954908619, 77, 34, 6255, 1609.6, (144.0, 138.71, 133.33)),
    ("gt_bbox/0017_c2s2_068176_00.jpg", 779312530, 74, 24, 3678, 1081.7, (102.37, 102.4, 99.25)),
    ("gt_bbox/0025_c1s6_070826_00.jpg", 464756510, 80, 25, 3956, 980.1, (97.91, 94.2, 93.64)),
    ("gt_bbox/0034_c5s5_055851_00.jpg", 142435745, 70, 40, 6157, 1928.0, (95.62, 92.97, 95.63)),
    ("query/0008_c4s4_033176_00.jpg", 669573735, 84, 52, 9641, 2757.8, (137.48, 134.91, 132.42)),
    ("query/0038_c3s6_020926_00.jpg", 266160468, 85, 49, 6002, 2371.3, (108.42, 100.58, 98.0)),
)


def test_the_digest_of_the_committed_records_stands():
    assert standin.digest("market1501", scale=0.05, seed=0) == "60fbfc09b6a92f82"
    assert standin.digest("market1501", scale=0.05, seed=0, variant=standin.Variant()) == "60fbfc09b6a92f82"
    assert standin.VERSION == 3


def test_the_names_of_the_frozen_set_stand():
    names = "\n".join(spec.path for spec in plan(MARKET1501, 0.05, 0))
    assert hashlib.sha256(names.encode()).hexdigest()[:16] == "7905aef6c8c46a7d"


def test_the_images_of_the_frozen_set_stand():
    specs = plan(MARKET1501, 0.01, 0)[::50]
    scenes = [scene.compose(MARKET1501, 0, spec) for spec in specs]
    images = rendering.pixels(scenes).images
    for spec, composed, image, frozen in zip(specs, scenes, images, FROZEN, strict=True):
        name, seed, quality, primitives, boxes, numbers, colour = frozen
        assert (spec.path, composed.seed, composed.quality) == (name, seed, quality)
        assert (len(composed.kind), int(composed.pixels.sum())) == (primitives, boxes)
        assert np.abs(composed.packed).sum() == pytest.approx(numbers, abs=0.1)
        # Mathematical libraries differ in the last place; a mean over 8,192 pixels does not show it.
        assert image.double().mean((0, 1)).tolist() == pytest.approx(colour, abs=1.0)


# Pixels


@pytest.mark.parametrize("batch, threads", [(1, 1), (5, 1), (6, 2)])
def test_bits_depend_neither_on_the_batch_nor_on_threads(scenes, batch, threads):
    # With two threads only as many images as torch needs to divide the work: waiting threads are slow.
    some = scenes[: 12 if threads == 1 else batch]
    expected = rendering.pixels(some)
    try:
        torch.set_num_threads(threads)
        pieces = [rendering.pixels(some[i : i + batch]) for i in range(0, len(some), batch)]
    finally:
        torch.set_num_threads(1)
    for name in ("images", "parts", "hidden"):
        assert torch.equal(torch.cat([getattr(piece, name) for piece in pieces]), getattr(expected, name))


def test_culling_changes_nothing(scenes):
    """Every primitive is tried on every pixel, beside where it may be."""
    culled = rendering.pixels(scenes[::5])
    whole = np.array([0, 0, geometry.WIDTH, geometry.HEIGHT], np.int32)
    everything = rendering.pixels([replace(one, pixels=np.tile(whole, (len(one.kind), 1))) for one in scenes[::5]])
    for name in ("images", "parts", "hidden"):
        assert torch.equal(getattr(culled, name), getattr(everything, name))


def test_a_query_shows_a_person_from_head_to_foot():
    specs = [spec for spec in plan(MARKET1501, 0.01, 0) if spec.folder == QUERY]
    rendered = rendering.pixels([scene.compose(MARKET1501, 0, spec) for spec in specs])
    images, masks = rendered.images, rendered.parts
    assert images.shape == (len(specs), 128, 64, 3) and images.dtype == torch.uint8
    figure = (masks >= parts.HEAD) & (masks <= parts.HAT)
    assert figure.float().mean((1, 2)).median() > 0.15
    for part in (parts.TORSO, parts.LEG, parts.SHOE):
        assert ((masks == part).sum((1, 2)) > 0).float().mean() > 0.9
    head = ((masks == parts.HEAD) | (masks == parts.HAIR) | (masks == parts.HAT)).sum((1, 2)) > 0
    assert head.float().mean() > 0.9
    # Heads are above torsos, torsos above shoes.
    rows = torch.arange(128.0)[None, :, None]
    heights = [
        ((masks == p) * rows).sum() / (masks == p).sum() for p in (parts.HEAD, parts.TORSO, parts.LEG, parts.SHOE)
    ]
    assert heights == sorted(heights)


def test_feet_are_on_the_ground_in_every_pose():
    for number in range(20):
        person = draw_person(Random(f"test/{number}"), MARKET1501)
        for phase in np.linspace(0, 6.2, 7):
            rows = np.array(body.figure(person, body.Pose(phase, 1.0)))
            lowest = geometry.Solids(rows).corners()[..., 1].min()
            assert -0.12 < lowest < 0.06


# Intersections against a slow search along each ray


def inside(kind, p, length, r0, r1):
    """Whether points (..., 3) lie in a primitive, from its definition."""
    x, y, z = p[..., 0], p[..., 1], p[..., 2]
    across = np.hypot(x, z)
    if kind == parts.ELLIPSOID:
        return x * x + y * y + z * z <= 1
    if kind == parts.BOX:
        return np.abs(p).max(-1) <= 1
    if kind == parts.FRUSTUM:
        return (y >= 0) & (y <= length) & (across <= r0 + (r1 - r0) * y / length)
    share = np.linspace(0, 1, 600)
    spheres = (r0 + (r1 - r0) * share) ** 2 - (across[..., None] ** 2 + (y[..., None] - share * length) ** 2)
    return spheres.max(-1) >= 0


# A ray within 1e-9 of a plane is moved off it: no smaller steps than 1e-6.
number = st.floats(-1, 1, width=32).map(lambda v: v if abs(v) > 1e-6 else 0.0)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from([parts.CONE, parts.ELLIPSOID, parts.BOX, parts.FRUSTUM]),
    way=st.tuples(number, number, number).filter(lambda v: np.linalg.norm(v) > 0.2),
    aim=st.tuples(number, number, number),
    length=st.floats(0.3, 1.5),
    radii=st.tuples(st.floats(0.05, 0.7), st.floats(0.05, 0.7)),
)
def test_intersections_agree_with_a_search_along_the_ray(kind, way, aim, length, radii):
    r0, r1 = radii
    if abs(r0 - r1) > 0.8 * length:
        r1 = r0
    origin = np.array(aim) * 0.7 + 5 * np.array(way) / np.linalg.norm(way)
    ray = (np.array(aim) * 0.7 - origin) * 0.3
    o, d = (torch.tensor(vector, dtype=torch.float32)[:, None] for vector in (origin, ray))
    shape = [torch.tensor([v], dtype=torch.float32) for v in (length, r0, r1)]
    t = raycast.INTERSECT[kind](o, d, *shape)
    steps = np.linspace(0, 8, 4001)
    found = np.flatnonzero(inside(kind, origin + steps[:, None] * ray, length, r0, r1))
    hit = bool(torch.isfinite(t))
    if not hit:
        assert len(found) <= 12, "a ray that goes well through the primitive misses it"
        return
    if len(found) > 1:
        assert abs(float(t) - steps[found[0]]) < 0.004
    point = o + t * d
    normal = np.array([float(n) for n in raycast.unit(raycast.normals(kind, point, d, *shape))])
    assert np.linalg.norm(normal) == pytest.approx(1, abs=1e-5)
    at = np.array([float(p) for p in point])
    assert not inside(kind, at + 3e-3 * normal, length, r0, r1), "the normal points outward"
    # Off edges and rims the other side of the surface is inside; a point on an edge has no single normal.
    if kind in (parts.CONE, parts.ELLIPSOID):
        assert inside(kind, at - 3e-3 * normal, length, r0, r1), "the point lies on the surface"
    else:
        assert inside(
            kind, at * 0.99 + 0.01 * np.array([0, length / 2 if kind == parts.FRUSTUM else 0, 0]), length, r0, r1
        )
    assert float(normal @ ray) <= 1e-3, "the surface that is met first faces the ray"


def test_a_ring_has_a_hole():
    one = torch.ones(3)
    o, d = (torch.tensor([0.0, 0.5, 2.0]), one, 0 * one), (0 * one, -one, 0 * one)
    t = raycast.ring(o, d, one, 0.3 * one, 0.8 * one)
    assert t.tolist() == [float("inf"), 1.0, float("inf")]


# Files


def test_the_folders_are_complete_and_the_manifest_counts_them(whole):
    manifest = json.loads((whole / standin.MANIFEST).read_text(encoding="utf-8"))
    assert standin.is_complete(whole)
    truths = [f"truth_{folder}.npz" for folder in FOLDERS]
    assert sorted(os.listdir(whole)) == sorted([*FOLDERS, *truths, standin.MANIFEST])
    assert (manifest["name"], manifest["scale"], manifest["seed"]) == ("market1501", TINY, 3)
    assert manifest["version"] == standin.VERSION
    assert manifest["digest"] == standin.digest("market1501", scale=TINY, seed=3)
    for folder in FOLDERS:
        assert manifest["counts"][folder] == len(os.listdir(whole / folder)) > 0
        with Image.open(next((whole / folder).iterdir())) as image:
            assert (image.size, image.format) == ((64, 128), "JPEG")


def test_files_are_equal_for_any_number_of_workers(tmp_path):
    """And workers render the variant; without one, a variant that changes nothing reaches them."""
    assert write.domain("market1501", standin.Variant()) is MARKET1501
    words = dict(scale=0.001, seed=0, variant=standin.Variant(boxes="shift=0.2", occlusion=0.6, same_clothes=0.5))
    one, two = (standin.render("market1501", out=tmp_path / str(count), workers=count, **words) for count in (1, 2))
    assert bytes_of(two) == bytes_of(one)


def test_a_second_call_renders_nothing(whole, monkeypatch):
    monkeypatch.setattr(write, "draw", lambda *_: pytest.fail("rendered again"))
    standin.render("market1501", scale=TINY, seed=3, out=whole, workers=1)


def test_an_interrupted_render_resumes_to_the_same_bits(whole, tmp_path, monkeypatch):
    out = tmp_path / "set"
    replace, written = os.replace, []

    def interrupted(source, target):
        if str(target).endswith(".jpg"):
            written.append(target)
            if len(written) == 40:
                raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        standin.render("market1501", scale=TINY, seed=3, out=out, workers=1)
    monkeypatch.undo()
    # A crash may also cut the last line of the log of truths short.
    log = out / "truth.0.log"
    log.write_bytes(log.read_bytes()[:-100])
    assert not (out / standin.MANIFEST).exists()
    assert not standin.is_complete(out)
    assert len(list(out.rglob("*.jpg"))) == 39 and list(out.rglob("*.part"))
    standin.render("market1501", scale=TINY, seed=3, out=out, workers=1)
    assert bytes_of(out) == bytes_of(whole)


def test_a_lost_image_is_noticed_and_rendered_again(whole, tmp_path):
    out = tmp_path / "set"
    shutil.copytree(whole, out)
    lost = sorted((out / QUERY).iterdir())[0]
    lost.unlink()
    assert not standin.is_complete(out)
    standin.render("market1501", scale=TINY, seed=3, out=out, workers=1)
    assert bytes_of(out) == bytes_of(whole)


def refused(out, words, **changes):
    call = {"name": "market1501", "scale": TINY, "seed": 3, "out": out, "workers": 1, **changes}
    with pytest.raises(ReidError) as error:
        standin.render(call.pop("name"), **call)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


@pytest.mark.parametrize("where", ["notes.txt", f"{TRAIN}/holiday.jpg", f"{QUERY}/other.part"])
def test_a_foreign_file_is_refused(tmp_path, where):
    path = tmp_path / "set" / where
    path.parent.mkdir(parents=True)
    path.write_text("mine", encoding="utf-8")
    refused(tmp_path / "set", [str(path), "move it away"])
    assert path.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("key, value", [("version", 0), ("scale", 0.5), ("seed", 4), ("digest", "0")])
@pytest.mark.parametrize("file", [standin.MANIFEST, write.UNFINISHED])
def test_another_stand_in_is_refused(tmp_path, file, key, value):
    head = {"name": "market1501", "version": standin.VERSION, "scale": TINY, "seed": 3}
    head["digest"] = standin.digest("market1501", scale=TINY, seed=3)
    (tmp_path / file).write_text(json.dumps({**head, key: value}), encoding="utf-8")
    refused(tmp_path, [str(tmp_path), key, "delete it"])


def test_a_broken_manifest_is_refused(tmp_path):
    (tmp_path / standin.MANIFEST).write_text('{"name": ', encoding="utf-8")
    assert not standin.is_complete(tmp_path)
    refused(tmp_path, [standin.MANIFEST, "delete"])


def test_wrong_calls_say_what_to_do(tmp_path):
    refused(tmp_path / "set", ["'imagenet'", "market1501"], name="imagenet")
    refused(tmp_path / "set", ["scale 0"], scale=0)
    refused(tmp_path / "set", ["workers"], workers=0)
    refused(tmp_path / "set", ["device 'toaster'"], device="toaster")
    (tmp_path / "file").write_text("", encoding="utf-8")
    refused(tmp_path / "file", ["is a file"])


@pytest.mark.parametrize("code, words", [(errno.ENOSPC, "full"), (errno.EACCES, "written"), (errno.EIO, "failed")])
def test_a_disk_that_refuses_is_named(tmp_path, monkeypatch, code, words):
    def broken(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Image.Image, "save", broken)
    refused(tmp_path / "set", [str(tmp_path), words])
    assert not standin.is_complete(tmp_path / "set")
