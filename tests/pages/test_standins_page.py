"""The page "The stand-ins": what it draws is what the truth, the plans and the loaders' constants say."""

import io
import json
import re
from collections import Counter

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from reidlib import standin
from reidlib.book import notebooks
from reidlib.data import cuhk03, dukemtmc, market1501, msmt17
from reidlib.pages import standins as page
from reidlib.pages.formatting import DATASETS
from reidlib.pages.render import Banner, Piece, legend
from reidlib.runs import datasets
from reidlib.standin import Variant, parts

SEED = 4
SCALE = {"market1501": 0.002, "cuhk03": 0.001}
VARIANTS = [
    *(Variant(boxes=boxes) for boxes in ("tight", "detected", "shift=0.2")),
    *(Variant(occlusion=share) for share in (0.0, 1.0)),
    Variant(resolution=0.5),
    Variant(same_clothes=1.0),
]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two tiny stand-ins: one with junk and distractors, one in two kinds of boxes."""
    home = tmp_path_factory.mktemp("sets")
    made = []
    for name, scale in SCALE.items():
        standin.render(name, scale=scale, seed=SEED, out=home / name, workers=1)
        made.append(page.read(name, home / name))
    return made


@pytest.fixture(scope="module")
def half(sets, tmp_path_factory):
    """The first of them at half the resolution, with something before everybody."""
    out, variant = tmp_path_factory.mktemp("half") / "set", Variant(resolution=0.5, occlusion=1.0)
    standin.render("market1501", scale=SCALE["market1501"], seed=SEED, out=out, workers=1, variant=variant)
    return page.read("market1501", out)


def people(found) -> list[int]:
    """Places of the pictures of people, found apart from the page: by their file names."""
    names = found.truth.names.tolist()
    if found.name == "cuhk03":
        return [i for i, name in enumerate(names) if name.startswith("detected/")]
    return [
        i
        for i, name in enumerate(names)
        if not name.startswith("gt_bbox/") and not name.split("/")[1].startswith(("-1", "0000"))
    ]


# Which pictures -------------------------------------------------------------------------------------------------------


def test_every_picture_has_its_truth_and_people_are_told_from_the_rest(sets):
    for found in sets:
        on_disk = {file.relative_to(found.folder).as_posix() for file in found.folder.rglob("*.jpg")}
        assert set(found.truth.names) == on_disk
        assert found.people.index.tolist() == people(found)


def test_a_contact_sheet_shows_each_camera_as_many_people_as_it_saw(sets):
    for found in sets:
        identity, camera = found.factor("identity"), found.factor("camera")
        chosen = page.by_camera(found, 3)
        for number, places in chosen.items():
            mine = [place for place in people(found) if camera[place] == number]
            assert len(places) == len(set(places)) == min(3, len(mine)) and set(places) <= set(mine)
            assert len({identity[place] for place in places}) == min(3, len({identity[place] for place in mine}))
        assert chosen == page.by_camera(page.read(found.name, found.folder), 3), "the same seed, the same pictures"


def test_a_sheet_holds_the_files_at_native_size(sets):
    found = sets[0]
    shown = {camera: places for camera, places in page.by_camera(found, 2).items() if places}
    picture = np.asarray(page.cameras(found, 2).image())
    for row, places in enumerate(shown.values()):
        for column, place in enumerate(places):
            y, x = page.Sheet.LINE + row * (128 + page.Sheet.GAP + page.Sheet.LINE), column * (64 + page.Sheet.GAP)
            with Image.open(found.folder / found.truth.names[place]) as file:
                assert np.array_equal(picture[y : y + 128, x : x + 64], np.asarray(file.convert("RGB")))
    with Image.open(io.BytesIO(page.cameras(found, 2)._repr_png_())) as compact:
        assert compact.mode == "P" and compact.size == (picture.shape[1], picture.shape[0])


def test_one_person_is_shown_in_all_cameras_that_fit(sets):
    for found in sets:
        identity, camera = found.factor("identity"), found.factor("camera")
        seen = {
            who: {camera[place] for place in people(found) if identity[place] == who}
            for who in {identity[place] for place in people(found)}
        }
        most = sorted((len(cameras) for cameras in seen.values()), reverse=True)
        assert [len(seen[who]) for who in page.most_seen(found, 3)] == most[:3]
        who = page.most_seen(found, 1)[0]
        places = page.moments_of(found, who, 4)
        assert {identity[place] for place in places} == {who}
        assert len({camera[place] for place in places}) == min(4, len(seen[who]))
        assert [camera[place] for place in places] == sorted(camera[place] for place in places)


def test_cameras_of_cuhk03_are_called_by_pair_and_view():
    assert [page.camera_name("cuhk03", camera) for camera in (1, 2, 3, 10)] == ["1a", "1b", "2a", "5b"]
    assert page.camera_name("msmt17", 10) == "10"


# Parts ----------------------------------------------------------------------------------------------------------------


def test_every_part_has_a_colour_of_its_own_and_stands_in_the_legend():
    assert set(page.COLOURS) == set(parts.PART_NAMES)
    assert len(set(page.COLOURS.values())) == len(parts.PART_NAMES)
    html = legend(page.COLOURS).html()
    for name, colour in page.COLOURS.items():
        assert re.search(re.escape(f"rgb{colour}") + rf'"></span>{name}<', html)


def test_masks_are_painted_in_the_colours_of_the_legend(sets):
    every = np.arange(len(parts.PART_NAMES), dtype=np.uint8)[None]
    assert [tuple(pixel) for pixel in page.painted(every)[0]] == [page.COLOURS[name] for name in parts.PART_NAMES]
    sheet = page.masks(sets, 2)
    with Image.open(io.BytesIO(sheet._repr_png_())) as file:
        picture = np.asarray(file.convert("RGB"))
    for row, found in enumerate(sets):
        for number, place in enumerate(page.rich_in_parts(found, 2)):
            x = (2 * number + 1) * (64 + page.Sheet.GAP)
            y = page.Sheet.LINE + row * (128 + page.Sheet.GAP + page.Sheet.LINE)
            drawn = Counter(map(tuple, picture[y : y + 128, x : x + 64].reshape(-1, 3).tolist()))
            known = Counter(parts.PART_NAMES[part] for part in found.truth.parts[place].ravel())
            assert drawn == {page.COLOURS[name]: many for name, many in known.items()}


def test_the_masks_shown_are_of_different_people_and_cover_what_they_can(sets):
    for found in sets:
        chosen = page.rich_in_parts(found, 3)
        assert len({found.factor("identity")[place] for place in chosen}) == 3
        kinds = [(np.bincount(found.truth.parts[place].ravel(), minlength=12)[1:11] >= 40).sum() for place in chosen]
        best = max((np.bincount(m.ravel(), minlength=12)[1:11] >= 40).sum() for m in found.truth.parts[people(found)])
        assert kinds[0] == best


# Factors --------------------------------------------------------------------------------------------------------------


def test_histograms_hold_the_counts_of_the_truth(sets):
    figure = page.factors(sets)
    for axes, (factor, axis) in zip(figure.axes, page.AXES.items(), strict=False):
        lines = {line.get_label(): line for line in axes.lines}
        for found in sets:
            counts = [0] * (len(axis.edges) - 1)
            for place in people(found):
                value = float(found.factor(factor)[place])
                if axis.above_zero and value == 0:
                    continue
                # the bin whose left edge is the last that is not above the value; what lies outside is in the last
                counts[min(max(sum(edge <= value for edge in axis.edges) - 1, 0), len(counts) - 1)] += 1
            line = lines[found.title]
            assert np.allclose(line.get_xdata()[:-1], axis.edges[:-1])
            assert np.allclose(line.get_ydata()[:-1], 100 * np.array(counts) / sum(counts)), (found.name, factor)
            assert line.get_linestyle() == page.STROKES[found.name]


def test_bars_and_table_tell_the_time_of_day_and_what_hides(sets):
    bars = page.factors(sets).axes[6]
    drawn = [[round(bar.get_width()) for bar in group] for group in bars.containers]
    assert drawn == [[100, 0, 0, 0, 0]] * 2, "both know the day alone"
    lines = {line[0]: line[1:] for line in page.hidden(sets).texts()}
    for found in sets:
        mine = people(found)
        occluded = np.mean([found.factor("occluder")[place] != "none" for place in mine])
        sunny = np.mean([found.factor("sunny")[place] for place in mine])
        assert lines[found.title][0] == str(len(mine))
        assert lines[found.title][1] == f"{100 * occluded:.0f}" and lines[found.title][-1] == f"{100 * sunny:.0f}"


# Variants -------------------------------------------------------------------------------------------------------------


def test_variants_are_compared_picture_by_picture(sets, half):
    own = sets[0]
    names = page.one_person(own, 4)
    place = {name: i for i, name in enumerate(own.truth.names.tolist())}
    assert len({own.factor("identity")[place[name]] for name in names}) == 1
    assert names[0].startswith("query/")
    sheet = page.compared({"own": own, "half": half}, names, splits=True)
    assert [tile.above for tile in sheet.rows["own"]][0] == "query"
    assert {tile.pixels.shape for row in sheet.rows.values() for tile in row} == {(128, 64, 3)}
    with Image.open(half.folder / names[0]) as file:
        assert file.size == (32, 64)
        assert np.array_equal(sheet.rows["half"][0].pixels[::2, ::2], np.asarray(file.convert("RGB")))
    assert len({own.factor("identity")[place[name]] for name in page.one_each(own, 5)}) == 5


def test_the_table_of_changes_counts_pictures(sets, half):
    own = sets[0]
    rows = dict(page.changes(own, {"half": half, "none": own}).texts())
    assert rows["none"] == "none"
    found = {name: int(many) for name, many in re.findall(r"(\w+) \((\d+)\)", rows["half"])}
    assert set(found) == {"occluder", "occlusion"}
    here, there = (one.factor("occluder").tolist() for one in (own, half))
    assert found["occluder"] == sum(a != b for a, b in zip(here, there, strict=True)) > len(here) // 2


# Sizes ----------------------------------------------------------------------------------------------------------------


def test_the_stand_ins_have_the_published_sizes_and_the_table_prints_them():
    made = page.planned(SEED)
    rows = {(name, split): numbers for name, split, *numbers in page.sizes(made).texts()}
    published = {
        "market1501": market1501.PUBLISHED,
        "dukemtmc": dukemtmc.PUBLISHED,
        "msmt17": msmt17.PUBLISHED,
        "cuhk03-np-labeled": cuhk03.PUBLISHED["np", "labeled"],
        "cuhk03-np-detected": cuhk03.PUBLISHED["np", "detected"],
        "cuhk03-classic": cuhk03.PUBLISHED["classic", "detected"],
        "cuhk03-classic3": cuhk03.PUBLISHED["classic3", "detected"],
    }
    assert {name for name, _ in rows} == set(published)
    for name, counts in published.items():
        for what, number in counts.items():
            split, kind = what.split()
            there, here = rows[name, split][:2] if kind == "images" else rows[name, split][2:]
            assert there == here == f"{number:,}", (name, what)


def test_a_size_that_differs_is_marked():
    made = {name: dict(counts) for name, counts in page.PUBLISHED.items()}
    made["dukemtmc"]["query images"] -= 1
    table = str(page.sizes(made))
    assert "2,227 ≠" in table and table.count("≠") == 1


def test_both_parts_of_every_set_are_shown_at_every_budget():
    lines = page.parts_of({"small": 0.05, "full": 1.0}).texts()
    market = market1501.PUBLISHED
    shown = [market[f"train {what}"] for what in ("identities", "images")]
    shown += [market[what] for what in ("query identities", "query images", "gallery images")]
    assert lines[1][1:] == ["full", *(f"{number:,}" for number in shown)]
    assert [line[4] for line in lines if line[1] == "small"] == ["150"] * 5, "test identities of all five"
    assert lines[-1][0] not in DATASETS.values() and "no data set" in str(page.parts_of({"small": 0.05}))


def test_the_table_of_what_lies_on_disk(sets):
    lines = {line[0]: line[1:] for line in page.on_disk(sets).texts()}
    for found in sets:
        files = list(found.folder.rglob("*.jpg"))
        manifest = json.loads((found.folder / standin.MANIFEST).read_text())
        images, truth = page.weight(found)
        assert images == sum(file.stat().st_size for file in files)
        assert truth == sum(file.stat().st_size for file in found.folder.glob("truth_*.npz"))
        scale, many, size, each, _, version, digest = lines[found.title]
        assert (float(scale), int(many), version) == (SCALE[found.name], len(files), str(standin.VERSION))
        assert digest == manifest["digest"]
        assert float(each) == pytest.approx(images / len(files) / 1024, abs=0.051)
        assert float(size) == pytest.approx(images / 2**20, abs=0.051)


# The page -------------------------------------------------------------------------------------------------------------


def test_the_page_runs_on_tiny_sets_and_leaves_them_in_the_cache(tmp_path, shown_by, monkeypatch, capfd):
    """The notebook with tiny scales. What is in the cache is not rendered again."""
    monkeypatch.setenv("REID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REID_RESULTS", str(tmp_path / "results"))
    notebooks.check_parameters(notebooks.template("study/standins"), {})
    shown = shown_by("study/standins", scale=0.0005, msmt17_scale=0.0005, variant_scale=0.0005, seed=SEED)
    assert not "".join(capfd.readouterr())
    assert sum(isinstance(thing, page.Sheet | Figure) for thing in shown) == 9
    assert isinstance(shown[0], Banner) and "legend" in [getattr(thing, "kind", "") for thing in shown]
    said = "\n".join(str(thing) for thing in shown if isinstance(thing, Piece))
    assert "not run" in said.lower()
    assert "≠" not in said and "beats it by at least 10" in said and "trained on ↓, tested on →" in said
    folders = {folder.name for folder in (tmp_path / "cache" / "stand-in").iterdir()}
    assert folders == {
        datasets.standin_folder(name, 0.0005, SEED, variant).name
        for name, variant in [*((name, None) for name in DATASETS), *(("market1501", v) for v in VARIANTS)]
    }
