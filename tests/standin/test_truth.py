"""Truth: what the renderer knows of its images, written beside them and read back."""

import json
import math
import shutil

import numpy as np
import pytest

from reidlib import standin
from reidlib.spec import ReidError
from reidlib.standin import groundtruth, parts, rendering, scene, write
from reidlib.standin.layouts import QUERY, TEST, TRAIN
from reidlib.standin.plan import plan

SCALE, SEED = 0.002, 3
MARKET1501 = standin.DOMAINS["market1501"]
FOLDERS = MARKET1501.layout.folders


@pytest.fixture
def root(whole):
    return whole


def test_every_image_has_its_truth(root):
    for folder in FOLDERS:
        truth = standin.truth(root, folder)
        assert truth.names.tolist() == sorted(f"{folder}/{path.name}" for path in (root / folder).iterdir())
        assert truth.parts.shape == (len(truth.names), 128, 64) and truth.parts.dtype == np.uint8
        assert truth.parts.max() < len(parts.PART_NAMES)
        assert set(truth.factors) == set(standin.FACTORS)
        for name, (kind, _) in standin.FACTORS.items():
            values = truth.factors[name]
            assert len(values) == len(truth.names), name
            assert values.dtype.kind == {"3f4": "f", "f4": "f", "i4": "i", "?": "b", "U": "U"}[kind], name


def test_it_is_the_truth(root):
    specs = [spec for spec in plan(MARKET1501, SCALE, SEED) if spec.folder == TEST]
    truth = standin.truth(root, TEST)
    scenes = [scene.compose(MARKET1501, SEED, spec) for spec in specs]
    rendered = rendering.pixels(scenes)
    assert np.array_equal(truth.parts, rendered.parts.numpy())
    assert np.allclose(truth.factors["occlusion"], rendered.hidden.numpy())
    for row, (spec, made) in enumerate(zip(specs, scenes, strict=True)):
        assert truth.names[row] == spec.path
        assert set(made.factors) <= set(standin.FACTORS)
        for name, value in made.factors.items():
            assert (
                truth.factors[name][row] == pytest.approx(value)
                if not isinstance(value, str)
                else (truth.factors[name][row] == value)
            )


def test_the_factors_are_plausible(root):
    truth = standin.truth(root, TRAIN)
    known = truth.factors
    assert set(known["kind"]) == {"person"} and (known["identity"] > 0).all()
    assert ((known["phase"] >= 0) & (known["phase"] <= 2 * math.pi)).all()
    assert ((known["viewpoint"] >= 0) & (known["viewpoint"] <= 360)).all()
    assert ((known["box_scale"] > 0.8) & (known["box_scale"] < 1.3)).all()
    assert ((known["occlusion"] >= 0) & (known["occlusion"] < 1)).all()
    figure = np.isin(truth.parts, parts.FIGURE).mean((1, 2))
    assert np.median(figure) > 0.12
    for name, part in (("bag", parts.BAG), ("hat", parts.HAT)):
        if name == "bag" and (known["carried"] != "none").any():
            continue
        absent = known[name] == "none"
        assert not (truth.parts[absent] == part).any()
    tight = standin.truth(root, QUERY).factors
    assert np.abs(tight["box_shift_x"]).max() < 1e-5 and tight["box_scale"] == pytest.approx(1.015)
    # One identity, the same attributes everywhere.
    for identity in np.unique(known["identity"]):
        own = known["identity"] == identity
        for name in ("height", "woman", "upper", "upper_colour", "bag"):
            assert (known[name][own] == known[name][own][0]).all()


def test_a_false_alarm_shows_nobody(root):
    truth = standin.truth(root, TEST)
    known = truth.factors
    nobody = (known["kind"] == "distractor") & np.isnan(known["phase"])
    assert nobody.any() and (known["upper"][nobody] == "none").all() and np.isnan(known["skin"][nobody]).all()
    assert not np.isin(truth.parts[nobody], parts.FIGURE).any()


def test_occlusion_is_what_stands_before_the_person():
    specs = [spec for spec in plan(MARKET1501, 0.02, 0) if spec.kind == "person"]
    scenes = [scene.compose(MARKET1501, 0, spec) for spec in specs]
    hidden = [s for s in scenes if s.factors["occluder"] != "none"][:12]
    free = [s for s in scenes if s.factors["occluder"] == "none" and not s.factors["company"]][:12]
    assert rendering.pixels(free).hidden.max() == 0
    shares = rendering.pixels(hidden).hidden
    assert shares.mean() > 0.03 and shares.max() < 1


def test_some_names_in_their_order(root):
    everything = standin.truth(root, TRAIN)
    some = everything.names[[5, 2, 9]]
    chosen = standin.truth(root, TRAIN, names=some)
    assert chosen.names.tolist() == some.tolist()
    assert np.array_equal(chosen.parts, everything.parts[[5, 2, 9]])
    assert np.array_equal(chosen.factors["upper_colour"], everything.factors["upper_colour"][[5, 2, 9]])
    with pytest.raises(ReidError, match="does not hold train/no.jpg .1 such names."):
        standin.truth(root, TRAIN, names=["train/no.jpg"])


def test_a_whole_set_gains_it_and_its_images_are_left_alone(root, tmp_path):
    out = tmp_path / "set"
    shutil.copytree(root, out)
    for file in out.glob("truth_*.npz"):
        file.unlink()
    assert standin.is_complete(out), "images alone make a set complete"
    with pytest.raises(ReidError, match="is missing; call `reid render` with the same arguments again"):
        standin.truth(out, QUERY)
    lasting = next((out / QUERY).iterdir())
    lasting.write_bytes(b"as it was")
    manifest = (out / standin.MANIFEST).stat().st_mtime_ns
    standin.render("market1501", scale=SCALE, seed=SEED, out=out, workers=1, truth=False)
    assert not list(out.glob("truth_*"))
    standin.render("market1501", scale=SCALE, seed=SEED, out=out, workers=1)
    assert lasting.read_bytes() == b"as it was" and (out / standin.MANIFEST).stat().st_mtime_ns == manifest
    for folder in FOLDERS:
        name = groundtruth.file_of(folder)
        assert (out / name).read_bytes() == (root / name).read_bytes()


def test_one_lost_file_is_made_again(root, tmp_path):
    out = tmp_path / "set"
    shutil.copytree(root, out)
    (out / groundtruth.file_of(QUERY)).unlink()
    standin.render("market1501", scale=SCALE, seed=SEED, out=out, workers=1)
    assert (out / groundtruth.file_of(QUERY)).read_bytes() == (root / groundtruth.file_of(QUERY)).read_bytes()
    assert not list(out.glob("*.log"))


def test_without_truth_there_are_only_images(tmp_path):
    out = standin.render("dukemtmc", scale=0.001, seed=0, out=tmp_path / "set", workers=1, truth=False)
    assert standin.is_complete(out) and not list(out.glob("truth*"))


def test_a_log_that_a_crash_cut_short(tmp_path):
    line = json.dumps(["train/a.jpg", "", {}]).encode()
    (tmp_path / "truth.0.log").write_bytes(b"\n" + line + b"\n" + line.replace(b"a.jpg", b"b.jpg")[:-4])
    (tmp_path / "truth.1.log").write_bytes(b"\n" + line.replace(b"a.jpg", b"c.jpg"))
    assert groundtruth.noted(tmp_path) == {"train/a.jpg", "train/c.jpg"}
    with (tmp_path / groundtruth.LOGS.replace("*", "0")).open("ab") as log:
        log.write(b"\n" + line.replace(b"a.jpg", b"b.jpg"))
    assert groundtruth.noted(tmp_path) == {"train/a.jpg", "train/b.jpg", "train/c.jpg"}


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"x" * 100])
def test_a_file_cut_short_is_named(root, tmp_path, damage):
    data = (root / groundtruth.file_of(QUERY)).read_bytes()
    (tmp_path / groundtruth.file_of(QUERY)).write_bytes(damage(data))
    with pytest.raises(ReidError, match="truth_query.npz is damaged .*; delete it and call `reid render`"):
        standin.truth(tmp_path, QUERY)


def test_a_full_disk_while_truth_is_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(groundtruth, "gathered", full)
    with pytest.raises(ReidError, match="disk of .* is full; free some space and call render again"):
        standin.render("dukemtmc", scale=0.001, seed=0, out=tmp_path, workers=1)
    assert not standin.is_complete(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(write, "draw", lambda *_: pytest.fail("rendered again"))
    standin.render("dukemtmc", scale=0.001, seed=0, out=tmp_path, workers=1)
    assert standin.is_complete(tmp_path)
