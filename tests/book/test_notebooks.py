"""Templates without outputs; executions of one notebook for each paper, or of all, at budget `smoke`."""

import os
import shlex
import subprocess
import sys
import time
from collections import Counter
from html import unescape
from pathlib import Path

import made_up
import nbformat
import pytest
import torch
import warm

from reidlib import cli, papers, paths
from reidlib.book import notebooks
from reidlib.runs import engine, records, worker
from reidlib.runs.run import reported_numbers, runs_of
from reidlib.spec import Busy, ReidError, Row

TEMPLATES = sorted((paths.home() / "notebooks").rglob("*.ipynb"))
ASKED = {"dataset": "market1501", "source": "stand-in", "budget": "smoke", "seeds": [0], "rows": [], "again": []}


ONE_A_PAPER = {
    "mros/table1": ("I s Non-Overlapping Stripes", "II s− 1 Overlapping Stripes (OS)"),
    "msgwdp/table2": ("Baseline", "Baseline + NL"),
    "fmn/table1": ("GRN", "LAN"),
    "hamr/table6": ("+ MGO",),  # two rows: one label, two variants
}
"""Tables whose notebooks `make test` executes, with the rows that have records; SafeNet's Table 5 has its own tests."""


TABLES = {slug: table for slug, table in papers.tables().items() if table.paper != "standins"}


def executions():
    """The notebook of each table once; those of ONE_A_PAPER in `make test`, the others in `make test-all`."""
    for slug in TABLES:
        yield pytest.param(slug, id=slug, marks=[] if slug in ONE_A_PAPER else [pytest.mark.all])


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)
def test_a_template_has_no_outputs_and_few_cells(file):
    cells = nbformat.read(file, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert len(cells) <= (32 if file.stem == notebooks.METHOD else 16)
    notebooks.check_parameters(file, {})


SHAPE = {
    "title": None,
    "parameters": ["parameters", "hide-input"],
    "setup": ["hide-input"],
    "run": ["remove-stdout"],
    "labels": None,
    "rows": [],
    "numbers": [],
    "steps-text": None,
    "steps": [],
    "own-text": None,
    "own": [],
    "limits-text": None,
    "limits": ["hide-input"],
}
"""The cells of a table's notebook by id, with the tags of the code: only set-up and provenance are folded. A few tables
have cells of their own besides, whose ids begin with "extra"."""

SAME = ("setup", "run", "rows", "own-text", "limits")
"""The cells that are the same in all of them."""


@pytest.mark.parametrize("slug", TABLES)
def test_all_notebooks_of_tables_have_one_shape(slug):
    cells = {cell.id: cell for cell in nbformat.read(notebooks.template(slug), as_version=4).cells}
    own = {name: cell for name, cell in cells.items() if not name.startswith("extra")}
    tags = {name: cell.metadata.get("tags", []) if cell.cell_type == "code" else None for name, cell in own.items()}
    assert list(tags.items()) == list(SHAPE.items())
    first = nbformat.read(notebooks.template("safenet/table5"), as_version=4).cells
    assert [own[cell.id].source for cell in first if cell.id in SAME] == [c.source for c in first if c.id in SAME]
    assert "page.comparison()" in own["numbers"].source
    assert "pip install -e" in own["title"].source and f"notebooks/{slug}.ipynb" in own["title"].source
    paper, table = slug.split("/")
    assert own["parameters"].source.startswith(f'paper = "{paper}"\ntable = "{table}"\n')


@pytest.mark.parametrize("slug", TABLES)
def test_the_row_that_a_notebook_offers_fits_its_table(slug):
    example, mine, _ = next(
        cell.source for cell in nbformat.read(notebooks.template(slug), as_version=4).cells if cell.id == "own"
    ).splitlines()
    names: dict = {"Row": Row}
    exec(example, names)
    assert mine.startswith("mine = None ") and made_up.changes(names["example"])
    for budget in TABLES[slug].budgets:
        settings = TABLES[slug].settings(names["example"], budget)
        with torch.device("meta"):
            settings.model(4, size=tuple(settings.recipe.resolved()["size"]), **settings.options)


def test_every_table_has_its_notebook():
    """The study's own tables stand on the page about the stand-ins."""
    assert {notebooks.template(slug) for slug in TABLES} <= set(TEMPLATES)


@pytest.mark.parametrize(
    "cells, given, words",
    [
        (
            [("budget = 'smoke'", ["parameters"]), ("budget", [])],
            {"bugdet": "small"},
            "unknown parameter 'bugdet'.*budget",
        ),
        ([("budget = 'smoke'", ["parameters"]), ("1", [])], {}, "'budget' is never read"),
        ([("a, b = 1, 2", ["parameters"]), ("a + b", [])], {}, "one plain assignment a line"),
        ([("budget = 'smoke'", []), ("budget", [])], {}, "0 cells are tagged"),
    ],
)
def test_parameters_are_checked_before_anything_runs(tmp_path, cells, given, words):
    made = [nbformat.v4.new_code_cell(source, metadata={"tags": tags}) for source, tags in cells]
    file = tmp_path / "chapter.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=made), file)
    with pytest.raises(ReidError, match=words):
        notebooks.check_parameters(file, given)


def test_an_image_figure_needs_the_rows_that_it_draws(house):
    assert notebooks.table_of("safenet/table5") == "safenet/table5"
    assert notebooks.table_of("hamr/figure8") == "hamr/table6"
    assert notebooks.table_of("safenet/none") == "safenet/none"
    asked = ASKED | {"rows": ["+ MPFE", "+ CAM"]}
    made = notebooks.made_from("hamr/figure8", asked)
    assert made["missing"] == ["+ MPFE (seed 0)", "+ CAM (seed 0)"]


def test_a_method_depends_on_the_code_of_a_training_and_on_no_record(house, monkeypatch):
    assert "safenet/method" in notebooks.methods() and "safenet/method" not in notebooks.image_figures()
    assert notebooks.copy_of("safenet/method", {}) == house / "notebooks" / "safenet" / "method.ipynb"
    before = notebooks.made_from("safenet/method", {})
    assert before["missing"] == []
    (house / "records").mkdir(parents=True)
    (house / "records" / "one.json").write_text("{}")
    assert notebooks.made_from("safenet/method", {}) == before
    read = []
    digest = notebooks.digest
    monkeypatch.setattr(notebooks, "digest", lambda file: read.append(file) or digest(file))
    notebooks.made_from("safenet/method", {})
    read = {str(file.relative_to(paths.home())) for file in read}
    own = {"spec.py", "losses.py", "models/safenet.py", "data/images.py", "evaluation/ranking.py", "pages/method.py"}
    assert {f"reidlib/{name}" for name in own} | {"results/start/resnet50.sha256"} <= read
    assert not any(name.startswith(("reidlib/papers", "reidlib/book", "reidlib/pages/tables")) for name in read)


@pytest.mark.all
@pytest.mark.parametrize("slug", notebooks.methods())
def test_a_method_runs(slug, rendered, warm_kernel, tmp_path, monkeypatch):
    monkeypatch.setenv("REID_CACHE", str(rendered))
    monkeypatch.setenv("REID_RESULTS", str(tmp_path))
    copy = notebooks.execute(slug, {"budget": "smoke"}, quiet=True)
    assert notebooks.is_current(slug, {"budget": "smoke"}) and notebooks.stale(copy) is None
    assert "standin-banner" in texts(copy)
    outputs = [o for cell in nbformat.read(copy, as_version=4).cells for o in cell.get("outputs", [])]
    assert any(output.get("name") == "stdout" for output in outputs), "the shapes are kept"
    assert sum("image/svg+xml" in output.get("data", {}) for output in outputs) >= 2, "the maps and the loss"


def test_the_book_refreshes_chapters_without_training_and_no_image_figure(house, monkeypatch):
    place = dict(source="stand-in", dataset="market1501", budget="smoke")
    found = []
    monkeypatch.setattr(notebooks, "execute", lambda slug, parameters, quiet: found.append((slug, parameters)))
    notebooks.refresh("hamr/figure8", **place)
    notebooks.refresh("safenet/table5", **place)
    asked = place | {"seeds": [0], "train": False, "again": []}
    assert found == [("safenet/table5", asked)]
    monkeypatch.setattr(notebooks, "recorded_seeds", lambda slug, **place: [0, 1, 2])
    made_up.write(runs_of("safenet/table5", again=["g4"], rows=["g4"], seeds=[1], budget="smoke")[0])
    notebooks.refresh("safenet/table5", **place)
    assert found[1] == ("safenet/table5", asked | {"seeds": [0, 1, 2], "again": ["g4"]})


def test_a_copy_with_missing_rows_is_current_only_where_nothing_is_to_be_trained(house, monkeypatch):
    made = {"missing": ["g4 (seed 0)"]}
    monkeypatch.setattr(notebooks, "made_from", lambda slug, parameters: made)
    monkeypatch.setattr(notebooks, "_was_made_from", lambda copy: made)
    assert not notebooks.is_current("safenet/table5", ASKED)
    assert notebooks.is_current("safenet/table5", ASKED | {"train": False})
    made["missing"] = []
    assert notebooks.is_current("safenet/table5", ASKED)


def test_a_change_of_the_code_makes_chapters_stale_and_no_image_figure(house, monkeypatch):
    """Image figures are drawn from weights that no checkout contains, so their executed copies are committed."""
    slugs = ("safenet/table5", "study/claims", "hamr/figure8")
    before = {slug: notebooks.made_from(slug, ASKED)["inputs_sha256"] for slug in slugs}
    digest = notebooks.digest
    monkeypatch.setattr(notebooks, "digest", lambda file: f"{digest(file)}{' changed' * (file.suffix == '.py')}")
    after = {slug: notebooks.made_from(slug, ASKED)["inputs_sha256"] for slug in slugs}
    assert [slug for slug in slugs if before[slug] == after[slug]] == ["hamr/figure8"]


def test_a_copy_depends_on_the_code_that_its_notebook_imports_and_on_no_other_page():
    used = {str(file.relative_to(paths.home())) for file in notebooks.imported(notebooks.template("safenet/table5"))}
    own = {
        "pages/chapter.py",
        "pages/tables.py",
        "runs/engine.py",
        "papers/hamr.py",
        "models/safenet.py",
        "__init__.py",
    }
    own |= {"standin/scene.py", "standin/domains/market1501.toml", "evaluation/protocols.toml", "runs/step_costs.json"}
    assert {f"reidlib/{name}" for name in own} <= used
    assert not {"reidlib/pages/standins.py", "reidlib/pages/glance.py", "reidlib/cli.py"} & used


@pytest.mark.all
@pytest.mark.parametrize("slug", ["safenet/table5", "study/standins", "study/compared"])
def test_a_copy_depends_on_every_file_that_its_imports_load(slug):
    cells = nbformat.read(notebooks.template(slug), as_version=4).cells
    lines = [line for cell in cells for line in cell.source.splitlines() if line.startswith(("from ", "import "))]
    lines.append("import sys; print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'reidlib'))")
    run = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) <= set(map(str, notebooks.imported(notebooks.template(slug))))


@pytest.mark.parametrize(
    "line, given",
    [
        (["safenet/table5"], {"dataset": "market1501"}),
        (["safenet/table5", "--rows", "g4"], {"dataset": "market1501", "rows": ["g4"]}),
        (["hamr/figure7"], {}),
        (["hamr/figure7", "--dataset", "dukemtmc", "--again", "+ CAM"], {"dataset": "dukemtmc", "again": ["+ CAM"]}),
    ],
)
def test_what_a_command_leaves_out_stands_in_the_notebook(house, monkeypatch, line, given):
    found = []
    monkeypatch.setattr(engine, "ensure", lambda *table, **asked: None)
    monkeypatch.setattr(notebooks, "execute", lambda slug, parameters: found.append((slug, parameters)))
    assert cli.main(["run", *line, "--budget", "smoke"]) == 0
    assert found == [(line[0], {"budget": "smoke", "source": "stand-in", "seeds": [0]} | given)]


@pytest.fixture(scope="module")
def executed(rendered, forks, tmp_path_factory):
    """Table 5's notebook at smoke: two rows trained by it, one of them repeated; the rest stay missing. Its kernel
    starts as those of users do, its workers are forks."""
    results = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        warm.narrow_everywhere(patch)
        patch.setattr(engine, "subprocess", forks.subprocess)
        patch.setenv("REID_CACHE", str(rendered))
        patch.setenv("REID_RESULTS", str(results))
        line = ["run", "safenet/table5", "--budget", "smoke", "--rows", "g4", "g4,g3,g2,g1", "--again", "g4"]
        assert cli.main(line) == 0
        return notebooks.executed_copy("safenet/table5", source="stand-in", dataset="market1501", budget="smoke")


def texts(file: Path) -> str:
    outputs = [output for cell in nbformat.read(file, as_version=4).cells for output in cell.get("outputs", [])]
    return "\n".join(str(output.get("data", {}).get("text/html", "")) for output in outputs)


def test_the_executed_notebook_shows_what_was_run_and_what_was_not(executed):
    page = texts(executed)
    assert "standin-banner" in page
    assert "59.8" in page, "the paper's mAP of g4"
    assert compared(page, "safenet/table5").count(">not run<") == 9, "rows not run are shown as such, never as blanks"
    assert "committed record" in page and "this machine" in page
    assert "reid train safenet/table5 --row g4 " in page
    outputs = [o for cell in nbformat.read(executed, as_version=4).cells for o in cell.get("outputs", [])]
    assert sum("image/svg+xml" in output.get("data", {}) for output in outputs) == 3
    assert not any("image/png" in output.get("data", {}) for output in outputs), "each figure once"
    assert "Claims without a measured difference: " in page and "Executing this notebook trains nothing" in page


def test_the_executed_notebook_names_its_template_and_no_path_of_this_machine(executed):
    notebook = nbformat.read(executed, as_version=4)
    assert notebook.metadata["reid"]["template_sha256"] == notebooks.digest(notebooks.template("safenet/table5"))
    results = executed.parents[5]
    assert str(paths.home()) not in str(notebook) and str(results) not in str(notebook)
    assert not list(executed.parent.glob("*.partial*"))


DRAWS = "msgwdp/figure9"
"""The table whose notebook loads its networks: it also draws ranked lists. All others read records alone."""


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A cache that all workers of a session share: no network is trained twice, and no images are rendered twice."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared-cache"


@pytest.fixture(scope="session")
def labels():
    """The rows shown of each table: those of ONE_A_PAPER, else one whose network many tables share."""
    found = {slug: runs_of(slug, budget="smoke", dataset=table.datasets[0]) for slug, table in TABLES.items()}
    tables = Counter(network for runs in found.values() for network in {run.network for run in runs})
    shared = {slug: max(runs, key=lambda run: tables[run.network]).row.label for slug, runs in found.items()}
    return {slug: ONE_A_PAPER.get(slug, (label,)) for slug, label in shared.items()}


def make(run):
    """Trains and tests a run in this process; waits where another worker trains the same network."""
    while True:
        try:
            return worker.execute(run, log=lambda line: None)
        except Busy:
            time.sleep(0.2)


def compared(page, slug):
    """The table of a page that compares the paper's numbers with ours."""
    after = page[page.index(f"<span>{slug}: the paper&#39;s numbers") :]
    return after[: after.index("</table>")]


@pytest.mark.parametrize("slug", list(executions()))
def test_the_notebook_of_a_table_runs(slug, labels, shared, request, tmp_path, monkeypatch):
    """It reads what was made before: one row is trained, the records of the others are made up from it."""
    width = "usual" if slug == DRAWS else "narrow"
    if width == "narrow":
        request.getfixturevalue(width)
        request.getfixturevalue("warm_kernel")
    monkeypatch.setenv("REID_CACHE", str(shared / width))
    monkeypatch.setenv("REID_RESULTS", str(tmp_path))
    table, rows = TABLES[slug], labels[slug]
    dataset = table.datasets[0]
    first, *others = runs_of(slug, budget="smoke", dataset=dataset, rows=rows)
    real = make(first)
    for run in others:
        arrays = records.read_per_query(first.record_file, real)
        made_up.write(run, arrays, data=real.data, curve=real.curve, start=real.start)
    asked = ASKED | {"dataset": dataset, "rows": list(rows)}
    copy = notebooks.execute(slug, asked, quiet=True)
    page = texts(copy)
    trained = [row for row in table.rows if row.label in rows]
    assert compared(page, slug).count(">not run<") == len(table.rows) - len(trained)
    others = set(papers.not_retrained(table)) & set(reported_numbers(table, dataset).index)
    published = {row.label for row in table.rows if row.variant == "as-published"}
    assert page.count(">not retrained<") == len(others - published)
    for row in trained:
        assert f"--row {shlex.quote(row.label)} --variant {shlex.quote(row.variant)}" in unescape(page)
    assert "standin-banner" in page and "paper, real images" in page
    outputs = [o for cell in nbformat.read(copy, as_version=4).cells for o in cell.get("outputs", [])]
    claims = "in words and numbers</summary>" in page
    kinds = {"image/svg+xml", "image/png"}
    assert sum(bool(kinds & output.get("data", {}).keys()) for output in outputs) == 2 + (slug == DRAWS) + claims


def test_a_failing_notebook_is_kept_apart_and_the_copy_from_before_stays(house, tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / "notebooks" / "safenet").mkdir(parents=True)
    for folder in ("reidlib", "results"):
        (home / folder).symlink_to(paths.home() / folder)
    names = list(ASKED)
    parameters = nbformat.v4.new_code_cell(
        "\n".join(f"{name} = {value!r}" for name, value in ASKED.items()), metadata={"tags": ["parameters"]}
    )
    broken = nbformat.v4.new_code_cell(f"raise ValueError('broken on purpose', {', '.join(names)})")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    template = home / "notebooks" / "safenet" / "table5.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[parameters, broken], metadata=kernel), template)
    monkeypatch.setattr(paths, "home", lambda instead="": home)
    copy = notebooks.executed_copy("safenet/table5", source="stand-in", dataset="market1501", budget="smoke")
    copy.parent.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(), copy)
    before = copy.read_bytes()
    with pytest.raises(ReidError, match="ValueError.*broken on purpose.*the failed notebook is"):
        notebooks.execute("safenet/table5", ASKED, quiet=True)
    assert copy.read_bytes() == before
    assert (copy.parent / "failed" / copy.name).exists()


def test_an_unknown_budget_stops_before_a_kernel_starts(house, monkeypatch):
    monkeypatch.setattr("papermill.execute_notebook", lambda *given, **options: pytest.fail("it ran"))
    with pytest.raises(ReidError, match="unknown budget 'nano'"):
        notebooks.execute("safenet/table5", ASKED | {"budget": "nano"}, quiet=True)


def test_an_executed_copy_that_no_longer_stands_for_its_records_is_stale(executed, rendered, monkeypatch):
    monkeypatch.setenv("REID_CACHE", str(rendered))
    monkeypatch.setenv("REID_RESULTS", str(executed.parents[5]))
    assert notebooks.stale(executed) is None, "rows without a record are shown as missing"
    made = nbformat.read(executed, as_version=4)
    made.metadata["reid"]["inputs_sha256"] = "0" * 64
    other = executed.with_name("other.ipynb")
    nbformat.write(made, other)
    assert notebooks.stale(other) == "inputs changed since it was executed"
    other.write_text("{")
    assert "does not say what it was made from" in notebooks.stale(other)
