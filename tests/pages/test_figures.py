"""Figures of pictures: whose weights they draw, on which pictures, what is measured, and the notebooks themselves.

No network is trained here: records and weights of untrained networks are put where a training would leave them.
"""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import made_up
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from reidlib import papers, training
from reidlib.book import notebooks
from reidlib.models.output import Output
from reidlib.pages import heatmaps, network_figures, retrieval
from reidlib.pages.render import Piece
from reidlib.runs import datasets, engine, trained, worker
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


# Whose weights --------------------------------------------------------------------------------------------------------


def test_a_network_comes_with_the_weights_of_its_record(home, monkeypatch):
    monkeypatch.setattr(engine, "train_runs", lambda *given, **more: pytest.fail("trained again"))
    run = run_of()
    before = pretend(run)
    model = trained.load(run)
    assert not model.training and next(model.parameters()).dtype == torch.float32
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert "weights of the record" in str(network_figures.weights(Runs((run,))))
    other = [{"epoch": 1, "loss": 1.0, "seconds": 2.5}]
    training.write_tensors(run.work_folder / training.WEIGHTS, before, {"curve": json.dumps(other)})
    assert "another training than the record's" in str(network_figures.weights(Runs((run,))))


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
        str(network_figures.weights(Runs((run,))))


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
    page = str(network_figures.weights(Runs((run,))))
    assert "trained again on the machine that made this page: mAP 100.0, the record has 100.0" in page


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
    assert pictures.normalised.dtype == torch.float32 and len(pictures.labels) == 4


def test_bodies_are_the_renderers(home):
    pictures = network_figures.measured(Runs((run_of(),)))
    root = datasets.load("market1501", "stand-in", "smoke").root
    truth = network_figures.standin.truth(root, "query", pictures.frame["path"].tolist())
    assert pictures.bodies.dtype == torch.bool and pictures.bodies.shape == truth.parts.shape
    assert np.array_equal(pictures.bodies.numpy(), (truth.parts >= 1) & (truth.parts <= 8))


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


def test_on_body_counts_pairs_of_pixels():
    draw = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 5, (3, 6, 4), generator=draw).float()  # many ties
    bodies = torch.rand(3, 6, 4, generator=draw) > 0.6
    for map_, body, share in zip(maps, bodies, heatmaps.on_body(maps, bodies), strict=True):
        pairs = map_[body][:, None] - map_[~body][None]
        assert share == pytest.approx(float((pairs > 0).float().mean() + (pairs == 0).float().mean() / 2))
    assert heatmaps.on_body(bodies.float(), bodies).tolist() == [1, 1, 1]
    assert heatmaps.on_body(torch.ones(3, 6, 4), bodies).tolist() == [0.5] * 3
    assert heatmaps.on_body(7 - 3 * bodies.float(), bodies).tolist() == [0, 0, 0]
    with pytest.raises(ReidError, match="2 maps, 3 bodies"):
        heatmaps.on_body(maps[:2], bodies)


def test_a_map_of_a_fixed_place_gains_nothing_over_another_persons_outline():
    bodies = torch.zeros(2, 8, 4, dtype=torch.bool)
    bodies[0, 2:6, :2], bodies[1, 2:6, 2:] = True, True
    fixed = torch.zeros(2, 8, 4)
    fixed[:, 2:6] = 1
    view = heatmaps.bodies_table({"fixed": fixed, "seeing": bodies.float()}, bodies)
    assert [line[:4] for line in view.texts()][0] == ["fixed", "83.3", "83.3", "+0.0"]
    assert view.texts()[1][1] == "100.0"
    assert [line[3].grey for line in view.lines()] == [line[4].grey for line in view.lines()] == [True, False]
    assert "only the stand-ins" in str(heatmaps.bodies_table({}, None))


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


@pytest.mark.parametrize("slug", FIGURES)
def test_a_figures_notebook_draws_from_records_and_weights(home, shown_by, monkeypatch, slug):
    """Every code cell, in this process, on untrained networks of its rows."""
    monkeypatch.setattr(engine, "train_runs", lambda *given, **more: pytest.fail("trained"))
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
        assert len(panels) == 1 + (slug == "hamr/figure8")
        assert "images, one per person" in page
