"""Figures of pictures: whose weights they draw, on which pictures, what is measured, and the notebooks themselves.

No network is trained here: records and weights of untrained networks are put where a training would leave them.
"""

import json
import shutil
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import made_up
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from reidlib import papers, training
from reidlib.book import notebooks
from reidlib.models.output import Output
from reidlib.pages import heatmaps, network_figures, retrieval
from reidlib.pages.render import Piece
from reidlib.runs import datasets, engine, records, trained, worker
from reidlib.runs.run import Runs, runs_of
from reidlib.spec import ReidError

FIGURES = {
    "safenet/figure3": "safenet/table5",
    "safenet/figure4": "safenet/table2",
    "fmn/figure4": "fmn/table1",
    "hamr/figure7": "hamr/table6",
    "hamr/figure8": "hamr/table6",
    "msgwdp/figure8": "msgwdp/figure9",
}
"""Slug of each notebook: the table whose networks it draws."""

LISTS = {"safenet/figure4": "cuhk03-classic3-labeled-01", "hamr/figure7": "dukemtmc"}
"""Those that draw ranked lists, with their data set; the others draw maps."""

ROW = "g4"

pytestmark = pytest.mark.usefixtures("narrow")


@pytest.fixture(scope="module")
def all_rendered(rendered):
    """The smoke stand-ins of every data set that the figures show."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_CACHE", str(rendered))
        for dataset in LISTS.values():
            datasets.load(dataset, "stand-in", "smoke")
    return rendered


@pytest.fixture
def home(all_rendered, tmp_path, monkeypatch):
    """Empty results, a fresh cache with the rendered images."""
    cache = tmp_path / "cache"
    shutil.copytree(all_rendered / "stand-in", cache / "stand-in", copy_function=shutil.os.link)
    monkeypatch.setenv("REID_CACHE", str(cache))
    monkeypatch.setenv("REID_RESULTS", str(tmp_path / "results"))
    return tmp_path


def run_of(slug="safenet/table5", row=ROW, **changes):
    return runs_of(slug, **{"budget": "smoke", "rows": [row]} | changes)[0]


def network_of(run) -> nn.Module:
    """Untrained, but different from what another seed draws."""
    torch.manual_seed(run.seed)
    size = tuple(run.settings.recipe.resolved()["size"])
    identities = len(datasets.load(run.dataset, run.source, run.budget).identities)
    return run.settings.model(identities, size=size, **run.settings.options)


def write_weights(run) -> dict:
    model = network_of(run)
    run.work_folder.mkdir(parents=True, exist_ok=True)
    training.write_tensors(run.work_folder / training.WEIGHTS, model.state_dict(), {"curve": "[]"})
    return model.state_dict()


def write_record(run, right=(True,)) -> None:
    data = datasets.load(run.dataset, run.source, run.budget)
    first = np.where(np.resize(right, len(data.split("query"))), 1, 2)
    made_up.write(run, made_up.arrays(first), data=worker._describe(data), curve=[])


def pretend(run) -> dict:
    write_record(run)
    return write_weights(run)


LOOK = {ROW: {"stage 1": partial(heatmaps.activation, module="backbone.stage1")}}


def drawn_from(run) -> str:
    """What a page says of the weights when a map of the first query has been drawn."""
    runs = Runs((run,))
    network_figures.Networks(runs).maps(network_figures.images(runs, 1), LOOK)
    return str(network_figures.weights(runs))


# Whose weights --------------------------------------------------------------------------------------------------------


def test_a_network_comes_with_the_weights_of_its_record(home, monkeypatch):
    monkeypatch.setattr(engine, "train_runs", lambda *given, **more: pytest.fail("trained again"))
    run = run_of()
    before = pretend(run)
    model = trained.load(run)
    assert not model.training and next(model.parameters()).dtype == torch.float32
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert "weights of the record" in drawn_from(run)
    other = [{"epoch": 1, "loss": 1.0, "seconds": 2.5}]
    training.write_tensors(run.work_folder / training.WEIGHTS, before, {"curve": json.dumps(other)})
    assert "weights of the record" in drawn_from(run), "what was drawn is not drawn again"
    records.maps_of(run.record_file).unlink()
    assert "another training than the record's" in drawn_from(run)


def test_a_frozen_first_network_is_inside_the_weights(home):
    run = run_of("fmn/table1", "FMN")
    before = pretend(run)
    model = trained.load(run, train=False)
    assert any(name.startswith("grn.") for name in before)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_without_weights_or_record_the_command_is_named(home):
    run = run_of()
    command = f"reid train safenet/table5 --row {ROW} --variant as-published --dataset market1501 --source stand-in"
    command += " --budget smoke --seed 0"
    with pytest.raises(ReidError, match=f"it has no finished record; run `{command}`$"):
        trained.load(run, train=False)
    write_record(run)
    with pytest.raises(ReidError, match=f"no weights of its network; run `{command} --again`$"):
        trained.load(run, train=False)
    repeat = replace(run, again=True)
    write_record(repeat)
    with pytest.raises(ReidError, match=f"delete {repeat.record_file} and run `{command} --again`$"):
        trained.load(run, train=False)
    with pytest.raises(ReidError, match="no weights of its network; load it first"):
        trained.origin(run)
    assert "network " not in str(network_figures.weights(Runs((run,))))


@pytest.mark.parametrize("hollow", [False, True], ids=["cache lost", "weights of the repeat lost too"])
def test_a_record_without_weights_is_repeated_and_the_record_stays(home, monkeypatch, hollow):
    run, repeats, said = run_of(), [], []
    write_record(run)
    if hollow:
        write_record(replace(run, again=True))
    before = run.record_file.read_bytes()

    def train(runs, log):
        (wanted,) = runs
        assert wanted.again and wanted.state() == "missing", "a finished repeat would not train"
        repeats.append(wanted)
        pretend(wanted)

    monkeypatch.setattr(engine, "train_runs", train)
    for _ in range(2):
        trained.load(run, log=said.append)
    assert len(repeats) == 1 and run.record_file.read_bytes() == before
    assert len(said) == 1 and "training it now (`reid train" in said[0]
    page = drawn_from(run)
    assert "trained again from its settings, data and seed: mAP 100.0, the record has 100.0" in page
    assert records.maps_of(run.record_file).is_file(), "beside the record, which can be committed"


def test_a_run_without_a_record_is_trained_as_itself(home, monkeypatch):
    repeats = []

    def train(runs, log):
        (wanted,) = runs
        repeats.append(wanted.again)
        pretend(wanted)

    monkeypatch.setattr(engine, "train_runs", train)
    trained.load(run_of(), log=lambda text: None)
    assert repeats == [False]


def test_weights_cut_short_are_set_aside(home, monkeypatch):
    run = run_of()
    pretend(run)
    file = run.work_folder / training.WEIGHTS
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ReidError, match="no weights"):
        trained.load(run, train=False)
    assert file.with_suffix(".corrupt").exists() and not file.exists()


def test_drawn_rows_come_in_the_order_asked_and_once(home):
    runs = Runs(tuple(runs_of("hamr/table6", budget="smoke")))
    labels = [run.row.label for run in trained.select(runs, ["+ CAM", "+ MGO"]).runs]
    assert labels == ["+ CAM", "+ MGO"], "of the label with two variants, the first"
    with pytest.raises(ReidError, match="unknown row 'MGO'; choose from: Baseline"):
        trained.select(runs, ["MGO"])
    with pytest.raises(ReidError, match="name at least one"):
        trained.select(runs, [])


# On which pictures ----------------------------------------------------------------------------------------------------


def test_every_figure_of_a_data_set_shows_the_same_pictures(home):
    shown = [
        network_figures.images(Runs((run,)))
        for run in (run_of(), run_of("fmn/table1", "FMN"), run_of("hamr/table6", "Baseline"))
    ]
    first, *others = [pictures.frame["path"].tolist() for pictures in shown]
    assert all(other == first for other in others) and len(first) == 4
    pictures = shown[0]
    assert pictures.frame["identity"].nunique() == 4 and pictures.raw.shape == (4, 3, 128, 64)
    assert pictures.raw.dtype == torch.uint8 and len(pictures.labels) == 4


def test_masks_are_the_renderers_for_all_queries(home):
    pictures = network_figures.measured(Runs((run_of(),)))
    data = datasets.load("market1501", "stand-in", "smoke")
    assert pictures.frame["path"].tolist() == data.split("query")["path"].tolist()
    truth = network_figures.standin.truth(data.root, "query", pictures.frame["path"].tolist())
    assert np.array_equal(pictures.masks.numpy(), truth.parts)


def test_views_show_a_person_twice_and_boxes_the_same_moment(home):
    runs = Runs((run_of(),))
    views = network_figures.views(runs, 2)
    frame, first = views.frame, network_figures.images(runs, 2)
    assert frame["identity"].tolist() == [who for who in first.frame["identity"] for _ in range(2)]
    assert (frame["camera"][0::2].to_numpy() != frame["camera"][1::2].to_numpy()).all()
    boxes = network_figures.boxes(runs, 2)
    assert boxes.frame["path"].tolist() == [path for path in first.frame["path"] for _ in range(2)]
    assert [label.split("\n")[0] for label in boxes.labels] == ["tight box", "shifted box"] * 2
    person = torch.isin(boxes.masks, torch.tensor(range(1, 9))).float()
    rows, columns = torch.arange(128.0)[:, None], torch.arange(64.0)
    middles = torch.stack([(person * where).sum((1, 2)) / person.sum((1, 2)) for where in (rows, columns)], dim=1)
    assert (middles[0::2] - middles[1::2]).abs().amax(1).min() > 2, "pixels between tight and shifted"
    assert boxes.raw.shape == (4, 3, 128, 64) and boxes.mark != views.mark


def test_what_was_drawn_is_drawn_again_without_weights(home, monkeypatch):
    """From beside the record, until that record is another one."""
    run = run_of()
    pretend(run)
    drawn = Runs((run,))
    chosen, everything = network_figures.images(drawn), network_figures.measured(drawn)
    looks, queries = LOOK, chosen.frame

    def all_of(networks):
        maps = networks.maps(chosen, looks) | networks.maps(chosen, looks, untrained=True)
        return maps, networks.shares(everything, looks), networks.ranked_list(ROW, queries, n=3)

    networks = network_figures.Networks(drawn)
    maps, shares, lists = all_of(networks)
    model = networks.model(ROW)
    exact = heatmaps.activation(model, network_figures.pixels.normalise(chosen.raw), "backbone.stage1")
    assert torch.allclose(maps["stage 1"], exact, rtol=1e-3, atol=1e-3)
    other = maps["stage 1,\nuntrained"]
    assert torch.allclose(other, exact, rtol=1e-2, atol=1e-2), "the weights of this run are untrained ones of its seed"
    direct = network_figures.ranked_list(run, model, queries, n=3)
    pd.testing.assert_frame_equal(lists, direct, atol=1e-6)
    words, file = str(network_figures.weights(drawn)), records.maps_of(run.record_file)
    assert file.name == f"{run.key}.maps.npz" and file.stat().st_size < 2**20

    (run.work_folder / training.WEIGHTS).unlink()
    monkeypatch.setattr(trained, "load", lambda *given, **more: pytest.fail("loaded"))
    again = all_of(network_figures.Networks(drawn))
    assert all(torch.equal(maps[title], again[0][title]) for title in maps)
    assert np.array_equal(shares["stage 1"], again[1]["stage 1"], equal_nan=True) and lists.equals(again[2])
    assert str(network_figures.weights(drawn)) == words

    write_record(run, right=(True, False))
    with pytest.raises(pytest.fail.Exception, match="loaded"):
        network_figures.Networks(drawn).maps(chosen, looks)
    file.write_bytes(b"PK cut")
    with pytest.raises(ReidError, match="maps.npz is damaged .*delete it"):
        network_figures.Networks(drawn).maps(chosen, looks)


def test_maps_of_other_weights_stand_beside_those_there(home):
    """With other weights everything that is asked for is drawn again; all else stays, and each says whose it is."""
    run = run_of()
    before, runs = pretend(run), Runs((run,))
    chosen, networks = network_figures.images(runs, 1), network_figures.Networks(runs)
    first = networks.maps(chosen, LOOK)["stage 1"]
    untrained = networks.maps(chosen, LOOK, untrained=True)
    other = {name: tensor + 1 if name.endswith("bias") else tensor for name, tensor in before.items()}
    curve = json.dumps([{"epoch": 1, "loss": 1.0, "seconds": 2.5}])
    training.write_tensors(run.work_folder / training.WEIGHTS, other, {"curve": curve})
    again = {ROW: LOOK[ROW] | {"stage 2": partial(heatmaps.activation, module="backbone.stage2")}}
    maps = network_figures.Networks(runs).maps(chosen, again)
    assert set(maps) == {"stage 1", "stage 2"} and not torch.equal(maps["stage 1"], first)
    (run.work_folder / training.WEIGHTS).unlink()
    kept = network_figures.Networks(runs, train=False).maps(chosen, LOOK, untrained=True)
    assert kept.keys() == untrained.keys() and all(torch.equal(kept[title], untrained[title]) for title in kept)
    said = str(network_figures.weights(runs))
    assert "weights of the record's own training" in said and "weights of another training" in said


def test_the_gallery_shows_what_is_there_and_names_the_rest(home):
    """The networks of several tables on the same people; a run without record or weights comes with its command."""
    run, other, third = run_of(), run_of("fmn/table1", "FMN"), run_of("hamr/table6", "Baseline")
    pretend(run)
    write_record(other)
    looks = {
        name: (one.table.slug, one.row.label, LOOK[ROW]) for name, one in zip("ABC", (run, other, third), strict=True)
    }
    asked = dict(budget="smoke", source="stand-in", dataset="market1501", seeds=[0])
    found = network_figures.Gallery(looks, 2, **asked)
    assert found.runs == (run,) and list(found.maps) == ["A,\nstage 1"]
    assert list(found.untrained) == ["A,\nstage 1,\nuntrained"]
    assert list(found.shares) == ["A, stage 1", "A, stage 1, untrained"]
    assert [len(axes.images) for axes in found.panel().axes[:4]] == [1] * 4
    first, second = map(str, found.lacking)
    assert first.startswith("fmn/table1 'FMN'") and first.endswith("--again") and "`" not in first
    assert "<code>reid train fmn/table1" in found.lacking[0].html()
    assert "hamr/table6 'Baseline'" in second and "not run yet; reid train hamr/table6" in second
    nothing = network_figures.Gallery({"C": looks["C"]}, 2, **asked)
    assert nothing.panel() is None and nothing.panel(untrained=True) is None


def test_a_list_that_nobody_can_draw_names_the_command(home):
    run = run_of()
    networks = network_figures.Networks(Runs((run,)), train=False)
    lists, lacking = networks.lists(network_figures.images(Runs((run,))).frame)
    assert not lists and "No list is drawn" in str(lacking[0]) and "reid train" in str(lacking[0])


def test_the_untrained_network_keeps_the_frozen_part(home):
    run = run_of("fmn/table1", "FMN")
    pretend(run)
    networks = network_figures.Networks(Runs((run,)))
    model = networks.model("FMN")
    with torch.no_grad():
        for weight in model.parameters():  # as a training would: the weights here are those of the seed
            weight += 1
    own, before = model.state_dict(), networks.untrained("FMN").state_dict()
    for name in own:
        learned = name in dict(model.named_parameters()) and not name.startswith("grn.")
        assert torch.equal(own[name], before[name]) == (not learned), name


def test_the_lists_of_a_classic_split_are_those_of_the_first_draw_of_the_runs_own_test(home):
    run = run_of("safenet/table2", "SafeNet (ResNet-50)", dataset=LISTS["safenet/figure4"])
    pretend(run)
    model, data = trained.load(run, train=False), datasets.load(run.dataset, run.source, run.budget)
    lists = network_figures.ranked_list(run, model, data.split("query"))
    first = worker._test(run, model, data, torch.device("cpu")).rankings[0]
    assert lists.loc[lists["right"], "rank"].tolist() == first.first_hit.tolist()
    assert (lists["camera"] != lists["query_camera"]).all()


def test_the_ranked_lists_are_those_of_the_runs_own_test(home):
    run = run_of()
    pretend(run)
    model, data = trained.load(run), datasets.load(run.dataset, run.source, run.budget)
    queries = data.split("query")
    lists = network_figures.ranked_list(run, model, queries, n=1)
    metrics = worker._test(run, model, data, torch.device("cpu")).metrics()
    found = lists[lists["rights"] > 0]
    assert 100 * found["right"].mean() == pytest.approx(metrics["rank1"])
    some = network_figures.ranked_list(run, model, queries.iloc[[5, 2]], n=10)
    assert list(dict.fromkeys(some["query"])) == queries["path"].iloc[[5, 2]].tolist()


# What is measured -----------------------------------------------------------------------------------------------------


class Masked(nn.Module):
    """A network that hands out one mask of each kind."""

    def forward(self, images):
        mask = images.mean((2, 3), keepdim=True)  # B × 3 × 1 × 1
        return Output(mask.flatten(1), [], [], {"MCAM": mask, "MSAM": images[:, :1]})


def test_a_mask_of_channels_is_a_curve_and_not_a_map():
    images = torch.randn(4, 3, 8, 6)
    masks = heatmaps.channel_mask(Masked(), images, "MCAM")
    assert torch.allclose(masks, images.mean((2, 3)))
    with pytest.raises(ReidError, match="places, not one weight a channel"):
        heatmaps.channel_mask(Masked(), images, "MSAM")
    axes = heatmaps.channels_figure(masks, {"stage 1": 2, "stage 2": 1}, "CAM").axes[0]
    first, second = (line.get_ydata() for line in axes.lines if line.get_color() == "C0")
    assert np.allclose(first, sorted(masks.mean(0)[:2].tolist(), reverse=True))
    assert np.allclose(second, masks.mean(0)[2:])
    with pytest.raises(ReidError, match="4 channels, the mask has 3"):
        heatmaps.channels_figure(masks, {"stage 1": 4}, "CAM")


def test_first_answers_are_counted_all_four_ways():
    hits = {"FMN": [1, 1, 0, 0, 0], "GRN": [1, 0, 1, 1, 0]}
    runs = [
        SimpleNamespace(
            row=SimpleNamespace(label=label), seed=3, per_query=lambda name, values=values: np.array(values, float)
        )
        for label, values in hits.items()
    ]
    view = retrieval.first_answers(SimpleNamespace(runs=runs), "FMN", "GRN")
    assert view.texts() == [["3", "1", "1", "2", "1"]] and "5 queries" in view.caption


# The notebooks --------------------------------------------------------------------------------------------------------


def parameters_of(slug: str) -> dict:
    return notebooks.with_defaults(slug, {})


@pytest.mark.parametrize("slug, table", FIGURES.items())
def test_a_figure_names_rows_of_a_declared_table(slug, table):
    given = parameters_of(slug)
    assert f"{given['paper']}/{given['table']}" == table and slug not in papers.tables()
    assert papers.rows(papers.table(table), given["rows"]) and given["dataset"] in papers.table(table).datasets


SHAPE = {
    "title": None,
    "parameters": ["parameters", "hide-input"],
    "setup": ["hide-input"],
    "run": ["remove-stdout"],
    "figure-text": None,
    "figure": [],
    "measured-text": None,
    "measured": [],
    "limits-text": None,
    "limits": ["hide-input"],
}
"""The cells of an image figure's notebook by id, with the tags of the code: only set-up and provenance are folded. Some
have cells of their own besides, whose ids begin with "extra"."""


@pytest.mark.parametrize("slug", FIGURES)
def test_all_notebooks_of_image_figures_have_one_shape(slug):
    assert set(FIGURES) == set(notebooks.image_figures())
    cells = nbformat.read(notebooks.template(slug), as_version=4).cells
    own = {cell.id: cell for cell in cells if not cell.id.startswith("extra")}
    tags = {name: cell.metadata.get("tags", []) if cell.cell_type == "code" else None for name, cell in own.items()}
    assert list(tags.items()) == list(SHAPE.items())
    first = {cell.id: cell.source for cell in nbformat.read(notebooks.template("safenet/figure3"), as_version=4).cells}
    assert all(own[name].source == first[name] for name in ("run", "limits"))
    title, shows, question, *_ = own["title"].source.split("\n\n")
    assert title.startswith("# ") and shows.startswith("This page shows ") and shows.count(". ") == 0
    assert question.startswith("**The question.** ") and question.endswith("?") or "lost in our copy" in question
    assert "pip install -e" in own["title"].source and f"notebooks/{slug}.ipynb" in own["title"].source
    for cell in cells:
        if "panel(" in cell.source:
            image = cell.metadata["mystnb"]["image"]
            assert image["classes"] == "wide" and len(image["alt"].split()) > 8
    if slug not in LISTS:
        drawing = [cell.source for cell in cells if "heatmaps.panel(" in cell.source]
        assert all("masks=" in source for source in drawing) and any("untrained=True" in source for source in drawing)


@pytest.mark.parametrize("slug", FIGURES)
def test_a_figures_notebook_draws_from_records_and_weights(home, shown_by, monkeypatch, slug):
    """Every code cell, in this process, on untrained networks of its rows; maps are measured on eight queries."""
    monkeypatch.setattr(engine, "train_runs", lambda *given, **more: pytest.fail("trained"))
    measured, of = network_figures.measured, network_figures.images_of
    monkeypatch.setattr(network_figures, "measured", lambda runs: of(runs, measured(runs).frame[:8]))
    given = parameters_of(slug)
    for run in runs_of(FIGURES[slug], budget="smoke", dataset=given["dataset"], rows=given["rows"]):
        pretend(run)
    said = shown_by(slug)
    page = "\n".join(thing.html() for thing in said if isinstance(thing, Piece))
    assert "standin-banner" in page and "network <code>" in page and "reid train" in page
    if slug in LISTS:
        place = dict(source="stand-in", dataset=LISTS[slug], budget="smoke")
        frame = pd.read_csv(notebooks.executed_copy(slug, **place).with_suffix(".csv"))
        people = datasets.load(LISTS[slug], "stand-in", "smoke").split("query")["identity"].nunique()
        one_each = LISTS[slug].startswith("cuhk03-classic")
        assert frame["query"].nunique() == min(4, people)
        assert frame["rank"].max() == (min(10, people) if one_each else 10)
        assert (frame["rights"] == 1).all() or not one_each
    else:
        panels = [thing for thing in said if type(thing).__name__ == "Figure"]
        cases = sum("is right (seed" in str(thing) and ": 0 of" not in str(thing) for thing in said)
        wanted = {"safenet/figure3": 2, "fmn/figure4": 1 + cases, "msgwdp/figure8": 2, "hamr/figure8": 4}
        assert len(panels) == wanted[slug]
        assert "On which parts the maps lie" in page and "against" in page


def test_the_lists_of_four_networks_stand_in_a_chapter(home, shown_by, monkeypatch):
    """MSGWDP's Figure 9: drawn where the cache has the weights, and never trained for."""
    monkeypatch.setattr(engine, "train_runs", lambda *given, **more: pytest.fail("trained"))
    runs = runs_of("msgwdp/figure9", budget="smoke")
    for run in runs:
        (write_record if run.row.label == "HPM" else pretend)(run)
    said = shown_by("msgwdp/figure9")
    labels = [axes.get_ylabel().split("\n")[0] for thing in said if isinstance(thing, Figure) for axes in thing.axes]
    drawn = [run.row.label for run in runs if run.row.label != "HPM"]
    assert [label for label in labels if label in drawn] == drawn * 2
    assert "No list is drawn: msgwdp/figure9 'HPM'" in "\n".join(map(str, said))
