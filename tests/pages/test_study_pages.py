"""Pages of the study: when they are executed, what a failure leaves, whose numbers "Protocols and metrics" shows."""

import re
import shutil
from pathlib import Path

import made_up
import nbformat
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from reidlib import cli, paths
from reidlib.book import build as book
from reidlib.book import notebooks
from reidlib.evaluation import PROTOCOLS, Features, evaluate
from reidlib.evaluation.ranking import average_precision
from reidlib.pages import protocols as page
from reidlib.pages.render import Banner, Page, Piece, TableView
from reidlib.runs.run import Runs, runs_of

PAGE = "study/protocols"
MARKET = PROTOCOLS["market1501-single-query"]


def number(text: str) -> float:
    return float(text.replace("−", "-"))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """A results folder with records of FMN's Table 5, whose queries find their first match by chance."""
    results = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_RESULTS", str(results))
        for place, run in enumerate(runs_of("fmn/table5", budget="small")):
            arrays = made_up.arrays(np.random.default_rng(place).geometric(0.3, 200).tolist())
            arrays["ap_trapezoid"] = arrays["ap"] - 0.5 * arrays["ap"] * (1 - arrays["ap"])
            made_up.write(run, arrays)
        yield results


@pytest.fixture(scope="module")
def runs(records):
    return Runs(tuple(runs_of("fmn/table5", budget="small")))


@pytest.fixture(scope="module")
def executed(records, shown_by):
    """What the page shows of those records."""
    notebooks.check_parameters(notebooks.template(PAGE), {})
    return shown_by(PAGE)


def lines_of(shown: list) -> dict[str, list[str]]:
    """The lines of all tables by their first cell."""
    return {line[0]: line[1:] for view in shown if isinstance(view, TableView) for line in view.texts()}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A checkout with one page of one line, and records that are a file; returns the template."""
    home = tmp_path / "home"
    (home / "notebooks" / "study").mkdir(parents=True)
    (home / "results" / "records").mkdir(parents=True)
    (home / "reidlib").symlink_to(paths.home() / "reidlib")
    shutil.copy(paths.home() / "results" / "reported.tsv", home / "results")
    (home / "results" / "records" / "one.json").write_text("{}")
    (home / "_toc.yml").write_text("format: jb-book\nroot: results/notebooks/study/short\n")
    monkeypatch.setattr(paths, "home", lambda instead="": home)
    monkeypatch.delenv("REID_RESULTS", raising=False)
    return home / "notebooks" / "study" / "short.ipynb"


def write(template: Path, source: str) -> None:
    made = [nbformat.v4.new_code_cell("budget = 'small'", metadata={"tags": ["parameters"]})]
    made.append(nbformat.v4.new_code_cell(source))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=kernel), template)


# When a page is executed ----------------------------------------------------------------------------------------------


def test_a_page_is_executed_once_and_again_after_each_change(small, monkeypatch):
    ran = []

    def papermill(source, target, **given):
        ran.append(given["parameters"])
        notebook = nbformat.read(source, as_version=4)
        for number, cell in enumerate(notebook.cells):
            cell.execution_count = number
        nbformat.write(notebook, target)

    monkeypatch.setattr("papermill.execute_notebook", papermill)
    write(small, "budget")
    assert notebooks.pages() == ["study/short"]

    def execute():
        copy = notebooks.execute("study/short", {}, quiet=True)
        assert copy == notebooks.copy_of("study/short", {}) and notebooks.stale(copy) is None
        return copy

    copy = execute()
    execute()
    assert ran == [{"budget": "small"}]
    records = paths.results() / "records"
    (records / "one.json").write_text("{ }")
    assert notebooks.stale(copy) == "inputs changed since it was executed"
    execute()
    (records / "one.npz").write_bytes(b"per query")
    assert notebooks.stale(copy) == "inputs changed since it was executed"
    execute()
    write(small, "budget * 2")
    assert notebooks.stale(copy) == "template changed since it was executed"
    execute()
    copy.write_text("{")
    execute()
    assert len(ran) == 5


def test_a_failing_page_is_kept_apart_and_reported(small, capsys):
    write(small, "raise ValueError('broken on purpose', budget)")
    copy = notebooks.copy_of("study/short", {})
    copy.parent.mkdir(parents=True)
    copy.write_text("the copy from before")
    assert cli.main(["book"]) == 1, "the book is not built over a failing page"
    assert re.search(r"error: ValueError.*broken on purpose.*the failed notebook is", capsys.readouterr().err)
    assert copy.read_text() == "the copy from before"
    assert (copy.parent / "failed" / copy.name).exists()
    assert not list(copy.parent.glob("*.partial*"))


def test_a_page_that_lacks_a_record_says_how_to_make_it(records, runs):
    gone = runs.runs[3]
    kept = gone.record_file.rename(gone.record_file.with_suffix(".kept"))
    try:
        (said,) = page.on_records(runs)
        words = f"Not run yet: fmn/table5, {gone.row.label}, seed 0 has no finished record; make it with"
        assert words in str(said) and "reid run fmn/table5 --budget small" in str(said)
    finally:
        kept.rename(gone.record_file)


def test_the_book_names_the_template_of_a_page_that_is_missing():
    assert "`reid book` makes it from notebooks/study/protocols.ipynb" in book._remedy(f"results/notebooks/{PAGE}")


# "Protocols and metrics" ----------------------------------------------------------------------------------------------


def test_the_page_shows_the_records_by_both_rules(executed, runs):
    assert isinstance(executed[0], Banner) and executed[1].kind == "ranked_list"
    lines = lines_of(executed)
    for run in runs.runs:
        with np.load(run.record_file.with_suffix(".npz")) as arrays:
            ap, trapezoid = arrays["ap"][arrays["valid"]], arrays["ap_trapezoid"][arrays["valid"]]
        queries, *numbers = lines[run.row.label]
        want = [100 * np.mean(ap), 100 * np.mean(trapezoid)]
        want += [want[1] - want[0], 100 * np.min(trapezoid - ap)]
        assert int(queries.replace(",", "")) == len(ap)
        assert [number(text) for text in numbers] == pytest.approx(want, abs=0.051)
        metrics = run.record().metrics[run.protocol]
        assert number(numbers[0]) == pytest.approx(metrics["mAP"], abs=0.051)
        assert number(numbers[1]) == pytest.approx(metrics["mAP_trapezoid"], abs=0.051)
    assert sum(isinstance(thing, Figure) for thing in executed) == 2


def test_the_page_names_every_protocol_and_its_examples_hold(executed):
    lines = lines_of(executed)
    assert set(PROTOCOLS) <= set(lines)
    by_hand = [(1 / 2 + 2 / 3 + 3 / 6) / 3, ((0 + 1 / 2) / 2 + (1 / 2 + 2 / 3) / 2 + (2 / 5 + 3 / 6) / 2) / 3]
    for label in ("mean of the terms", "average_precision(…)"):
        assert [number(text) for text in lines[label][-2:]] == pytest.approx(by_hand, abs=6e-4)
    assert lines["match stored first"] == ["100.0", "50.0"]
    assert lines["wrong image stored first"] == ["50.0", "50.0"]
    assert lines["here"] == ["100.0", "100.0", "1", "1"], "one query without a match, counted and left out"
    assert lines["cosine"] == lines["Euclidean, scaled to length 1"] != lines["Euclidean, as they are"]
    assert number(lines["multi-query, at the mean, 2"][0]) > number(lines["single query, at 0"][0])
    assert lines["msmt17"][-1] != "", "identity 0 is a person there"


def test_figures_hold_the_numbers_of_the_records(runs):
    arrays = [np.load(run.record_file.with_suffix(".npz")) for run in runs.runs]
    plain = np.concatenate([a["ap"][a["valid"]] for a in arrays])
    trapezoid = np.concatenate([a["ap_trapezoid"][a["valid"]] for a in arrays])
    first = np.concatenate([a["first_hit"][a["valid"]] for a in arrays])
    points = page.both_rules(runs).axes[0].collections[0].get_offsets()
    assert np.allclose(points, 100 * np.stack((plain, plain - trapezoid), axis=1))
    axes = page.by_first_hit(runs).axes[0]
    names = [text.get_text() for text in axes.get_xticklabels()]
    assert names[1] == f"2\n({(first == 2).sum():,})"
    counts = [int(name.split("(")[1].rstrip(")").replace(",", "")) for name in names]
    assert sum(counts) == len(plain), "every ranking stands in one group"
    medians = [line.get_ydata()[0] for line in axes.lines if line.get_color() == "C0"]
    assert medians[1] == pytest.approx(100 * np.median((plain - trapezoid)[first == 2]))


def test_the_sentence_about_the_gap_counts_pairs(monkeypatch):
    made = {"a": (0.50, 0.40), "b": (0.45, 0.42), "c": (0.10, 0.05)}
    monkeypatch.setattr(
        page, "_by_row", lambda runs: {k: tuple(np.array([v]) for v in pair) for k, pair in made.items()}
    )
    said = str(page.gap(None))
    assert "3.0 to 10.0 points below" in said and "Of 3 pairs of rows, one changes order" in said
    assert "turns in 1 of them" in said, "a by trapezoids (40) stands below b by the plain sum (45)"


@pytest.mark.parametrize("name", ["market1501-single-query", "msmt17"])
@pytest.mark.parametrize("seed", range(5))
def test_the_strip_and_the_evaluator_agree(name, seed):
    """The strip sorts one list and judges each image; the evaluator counts. Distances are tied often here."""
    draw = np.random.default_rng(seed)
    gallery = Features(
        torch.from_numpy(draw.integers(1, 6, (30, 1)).astype(np.float32)),
        ids=np.append(draw.integers(-1, 4, 29), 2),
        cameras=np.append(draw.integers(1, 4, 29), 2),
    )
    query = Features(torch.zeros(1, 1), ids=[2], cameras=[1])
    ranked = page.hits(query, gallery, PROTOCOLS[name])
    ranking = evaluate(query, gallery, protocol=PROTOCOLS[name])
    assert average_precision(ranked) == pytest.approx(ranking.ap[0])
    assert average_precision(ranked, rule="trapezoid") == pytest.approx(ranking.ap_trapezoid[0])
    assert ranked.index(1) + 1 == ranking.first_hit[0] and sum(ranked) == ranking.matches[0]


def test_the_strip_draws_what_it_judges():
    query = Features(torch.zeros(1, 1), ids=[7], cameras=[1])
    gallery = Features(torch.tensor([[2.0], [1.0], [3.0], [4.0]]), ids=[7, -1, 0, 7], cameras=[2, 2, 2, 1])
    strip = page.ranked_list("a list", query, gallery, MARKET)
    boxes = re.findall(r'<li class="(\w+)">.*?<span class="rank">(.*?)</span>', strip.html())
    assert boxes == [(box["verdict"], box["rank"]) for box in strip.values["boxes"]]
    assert boxes == [
        ("query", "query"),
        ("ignored", "ignored"),
        ("right", "rank 1"),
        ("wrong", "rank 2"),
        ("ignored",) * 2,
    ]


def test_a_crowd_has_a_match_for_every_query():
    query, gallery = page.crowd(identities=5, cameras=2, images=3)
    assert (len(query), len(gallery)) == (10, 30)
    ranking = evaluate(query, gallery, protocol=PROTOCOLS["cuhk03-new"])
    assert ranking.valid.all() and (ranking.matches == 3).all()


# Before the runs ------------------------------------------------------------------------------------------------------


OWN_TEST = {"study/standins", "study/glance", "study/status"}
"""Pages that the test of their module executes without a record."""


@pytest.mark.parametrize("slug", [slug for slug in notebooks.pages() if slug not in OWN_TEST])
def test_a_page_without_any_record_runs_and_says_so(slug, shown_by, tmp_path, monkeypatch):
    monkeypatch.setenv("REID_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("REID_CACHE", str(tmp_path / "cache"))
    shown = shown_by(slug)
    assert any(isinstance(thing, Banner) for thing in shown)
    if slug not in ("study/systems", "study/deviations"):  # these two show no run
        assert "not run" in "\n".join(str(thing) for thing in shown if isinstance(thing, Piece)).lower()


@pytest.mark.parametrize("slug", ["safenet/table5", "mros/table1", "msgwdp/table2", "fmn/table5", "hamr/boxes"])
def test_a_chapter_without_any_record_runs_and_says_so(slug, shown_by, tmp_path, monkeypatch):
    monkeypatch.setenv("REID_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("REID_CACHE", str(tmp_path / "cache"))
    shown = shown_by(slug, budget="small", train=False)
    first, last = next(piece for piece in shown if isinstance(piece, Page) and not piece.folded), shown[-1]
    assert "Stand-in images" in str(first) and "Not run yet" in str(last)
    assert "not run" in str(shown[2])  # the answer stands above the table
