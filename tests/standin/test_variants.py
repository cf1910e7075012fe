"""Controlled variants: each changes its factor, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from reidlib import cli, standin
from reidlib.spec import ReidError
from reidlib.standin import Variant, rendering, scene
from reidlib.standin.layouts import QUERY, TRAIN
from reidlib.standin.plan import plan

SEED = 2
MARKET1501 = standin.DOMAINS["market1501"]
BOX = {"box_shift_x", "box_shift_y", "box_scale", "box_aspect"}
CLOTHES = {
    "upper",
    "upper_colour",
    "upper_second",
    "upper_pattern",
    "lower",
    "lower_colour",
    "lower_pattern",
    "shoes_colour",
}


@pytest.fixture(scope="module")
def specs():
    """Some images of every folder and kind."""
    everything = plan(MARKET1501, 0.03, SEED)
    people = [spec for spec in everything if spec.kind == "person"]
    return people[::13] + [spec for spec in everything if spec.kind != "person"][::11]


def composed(specs, **changes):
    domain = replace(MARKET1501, variant=Variant(**changes))
    return [scene.compose(domain, SEED, spec) for spec in specs]


@pytest.fixture(scope="module")
def plain(specs):
    return composed(specs)


def differing(one, other):
    """Names of the factors in which two images differ; also anything of camera, light, noise or JPEG."""
    names = {key for key in one.factors.keys() | other.factors.keys() if one.factors.get(key) != other.factors.get(key)}
    if (one.seed, one.quality) != (other.seed, other.quality):
        names.add("noise or quality")
    # The coarseness depends on the box, for a small box covers fewer of the sensor's pixels.
    for name in ("light", "place", "walls", "surfaces"):
        if not np.array_equal(getattr(one, name), getattr(other, name)):
            names.add(name)
    return names


def test_tight_boxes(specs, plain):
    tight = composed(specs, boxes="tight")
    for spec, before, after in zip(specs, plain, tight, strict=True):
        assert differing(before, after) <= BOX
        if spec.tight or spec.kind == "junk":
            assert np.array_equal(before.ray, after.ray)
        elif "phase" in after.factors:
            assert after.factors["box_scale"] == pytest.approx(1.015) and after.factors["box_shift_x"] == pytest.approx(
                0
            )
    assert any(not np.array_equal(before.ray, after.ray) for before, after in zip(plain, tight, strict=True))


def test_detected_boxes(specs, plain):
    detected = composed(specs, boxes="detected")
    for spec, before, after in zip(specs, plain, detected, strict=True):
        assert differing(before, after) <= BOX
        assert np.array_equal(before.ray, after.ray) == (not spec.tight)


def test_shifted_boxes(specs, plain):
    detected, shifted = composed(specs, boxes="detected"), composed(specs, boxes="shift=0.2")
    for spec, before, one, other in zip(specs, plain, detected, shifted, strict=True):
        assert differing(before, other) <= BOX
        if spec.kind == "person":
            ratio = 0.2 / MARKET1501.rates.shift
            assert other.factors["box_shift_x"] == pytest.approx(ratio * one.factors["box_shift_x"], abs=1e-9)
            assert other.factors["box_shift_y"] == pytest.approx(ratio * one.factors["box_shift_y"], abs=1e-9)
            assert other.factors["box_scale"] == pytest.approx(one.factors["box_scale"])
    shifts = [p.factors["box_shift_y"] for spec, p in zip(specs, shifted, strict=True) if spec.kind == "person"]
    assert np.std(shifts) == pytest.approx(0.2, rel=0.25)


def test_occlusion(specs, plain):
    levels = {share: composed(specs, occlusion=share) for share in (0.0, 0.07, 0.4, 1.0)}
    for share, scenes in levels.items():
        for before, after in zip(plain, scenes, strict=True):
            assert differing(before, after) <= {"occluder"}
            assert np.array_equal(before.ray, after.ray)
        people = [p for spec, p in zip(specs, scenes, strict=True) if spec.kind == "person"]
        hidden = sum(p.factors["occluder"] != "none" for p in people) / len(people)
        assert hidden == pytest.approx(share, abs=0.08)
    for low, high in ((0.0, 0.07), (0.07, 0.4), (0.4, 1.0)):
        for one, other in zip(levels[low], levels[high], strict=True):
            assert one.factors["occluder"] in ("none", other.factors["occluder"]), "what is hidden stays hidden"
    assert MARKET1501.rates.occluded == 0.07
    assert all(differing(one, other) == set() for one, other in zip(plain, levels[0.07], strict=True))
    # Where nothing stands in front of the person at either level, the images are the same.
    same = [
        (one, other)
        for one, other in zip(plain, levels[0.4], strict=True)
        if one.factors["occluder"] == other.factors["occluder"]
    ][::6]
    before, after = (rendering.pixels(list(part)) for part in zip(*same, strict=True))
    assert torch.equal(before.images, after.images)


def test_an_occluder_changes_only_what_it_covers(specs):
    # Apart from shadows and the camera's blur, which are soft.
    free, hidden = composed(specs[:24], occlusion=0.0), composed(specs[:24], occlusion=1.0)
    before, after = rendering.pixels(free), rendering.pixels(hidden)
    assert (after.hidden > before.hidden).float().mean() > 0.8
    far = (before.parts == after.parts) & (before.parts != 0)
    change = (before.images.double() - after.images.double()).abs().mean(-1)
    assert change[far].mean() < 6 < change[before.parts != after.parts].mean()


def test_same_clothes(specs, plain):
    none, half, everyone = (composed(specs, same_clothes=share) for share in (0.0, 0.5, 1.0))
    assert all(differing(one, other) == set() for one, other in zip(plain, none, strict=True))
    changed = {0: [], 1: []}
    for spec, before, one, other in zip(specs, plain, half, everyone, strict=True):
        for level, after in enumerate((one, other)):
            assert differing(before, after) <= CLOTHES | BOX
            for name in ("box_scale", "box_shift_x", "box_shift_y"):  # the same about a figure of other clothes
                if name in before.factors:
                    assert after.factors[name] == pytest.approx(before.factors[name], abs=1e-6)
            if spec.kind == "person":
                changed[level].append(bool(differing(before, after) & CLOTHES))
            else:
                assert differing(before, after) == set(), "only those with an identity have look-alikes"
    assert np.mean(changed[1]) > 0.95 and 0.3 < np.mean(changed[0]) < 0.7
    groups = {}
    for spec, after in zip(specs, everyone, strict=True):
        if spec.kind == "person":
            key = (spec.identity // scene.ALIKE, after.factors["woman"])
            outfit = tuple(after.factors[name] for name in sorted(CLOTHES))
            assert groups.setdefault(key, outfit) == outfit
    assert len(groups) > 2


def test_resolution(tmp_path, specs, plain):
    # The image is rendered as without the variant, and written with fewer pixels.
    assert all(
        differing(one, other) == set() for one, other in zip(plain, composed(specs, resolution=0.5), strict=True)
    )
    words = dict(scale=0.001, seed=0, workers=1)
    whole = standin.render("dukemtmc", out=tmp_path / "whole", **words)
    small = standin.render("dukemtmc", out=tmp_path / "small", variant=Variant(resolution=0.5), **words)
    for path in sorted((whole / TRAIN).iterdir())[::5]:
        with Image.open(path) as one, Image.open(small / TRAIN / path.name) as other:
            assert other.size == (32, 64)
            shrunk = one.resize((32, 64), Image.Resampling.BOX)
            # JPEG itself costs a small image a few grey values.
            assert np.abs(np.asarray(shrunk, float) - np.asarray(other, float)).mean() < 8
    one, other = standin.truth(whole, QUERY), standin.truth(small, QUERY)
    assert np.array_equal(one.parts, other.parts)


def test_every_variant_has_a_digest_of_its_own():
    variants = [
        None,
        Variant(boxes="tight"),
        Variant(boxes="detected"),
        Variant(boxes="shift=0.2"),
        Variant(occlusion=0.0),
        Variant(occlusion=0.5),
        Variant(resolution=0.5),
        Variant(same_clothes=0.5),
    ]
    digests = {
        standin.digest(name, scale=0.05, seed=0, variant=variant) for variant in variants for name in standin.DOMAINS
    }
    assert len(digests) == len(variants) * len(standin.DOMAINS)


@pytest.mark.parametrize(
    "words, message",
    [
        ({"boxes": "loose"}, "boxes 'loose' are unknown; choose tight, detected, or shift=0.2"),
        ({"boxes": "shift=2"}, "boxes 'shift=2' are unknown"),
        ({"occlusion": 1.5}, "occlusion 1.5 is not a share from 0 to 1"),
        ({"occlusion": float("nan")}, "occlusion nan is not a share"),
        ({"resolution": 0.0}, "resolution 0 is not a share"),
        ({"same_clothes": -0.1}, "same clothes -0.1 is not a share"),
    ],
)
def test_wrong_words(words, message):
    with pytest.raises(ReidError) as error:
        Variant(**words)
    assert message in str(error.value)


def test_the_command_line(tmp_path, capsys):
    line = ["render", "dukemtmc", "--scale", "0.001", "--workers", "1", "--no-truth", "--out", str(tmp_path / "set")]
    assert (
        cli.main([*line, "--boxes", "tight", "--occlusion", "0.3", "--same-clothes", "0.5", "--resolution", "0.5"]) == 0
    )
    variant = Variant("tight", 0.3, 0.5, 0.5)
    assert standin.digest("dukemtmc", scale=0.001, seed=0, variant=variant) in (
        tmp_path / "set/standin.json"
    ).read_text(encoding="utf-8")
    assert str(tmp_path / "set") in capsys.readouterr().out
    assert cli.main(line) == 1
    assert "holds another stand-in (digest" in capsys.readouterr().err
    assert cli.main([*line, "--boxes", "wide"]) == 1
    assert "boxes 'wide' are unknown" in capsys.readouterr().err
