"""A row of the reader's own: trained at budget smoke, kept in the cache, and never beside the study's records."""

from pathlib import Path

import nbformat
import pytest

from reidlib import paths
from reidlib.book import notebooks
from reidlib.pages import chapter
from reidlib.runs import devices, own, records
from reidlib.runs.run import read_runs, recorded_seeds, runs_of
from reidlib.spec import ReidError, Row

SLUG, PLACE = "safenet/table5", dict(budget="smoke", dataset="market1501")


def files(folder: Path) -> set[Path]:
    return {file for file in folder.rglob("*") if file.is_file()}


def test_the_cell_of_a_notebook_trains_a_row_beside_those_of_the_table(house, narrow, monkeypatch, capsys):
    """As a reader would: the one line is edited, and the cell runs. With a thread on each core, it would wait for the
    tests beside it."""
    monkeypatch.setattr(devices, "cores", lambda: 1)
    cells = nbformat.read(notebooks.template(SLUG), as_version=4).cells
    source = next(cell.source for cell in cells if cell.id == "own")
    lines = source.splitlines()
    lines[1] = 'mine = Row("mine", options=dict(global_scales=(4,), channels=None, local_scales=()))'
    runs = read_runs(SLUG, **PLACE)
    names = {"Row": Row, "own": own, "runs": runs, "page": chapter.Chapter(runs)}
    exec("\n".join(lines[:-1]), names)
    shown = eval(lines[-1], names)
    last = shown.tables()[0].texts()[-1]
    assert last[0] == "mine (your own)" and 0 < float(last[-2]) < 100, "its mAP"
    assert not files(house), "no record of the study"
    (record,) = (file for file in files(paths.cache() / "own") if file.suffix == ".json" and "records" in file.parts)
    same = runs_of(SLUG, rows=["g4"], **PLACE)[0]
    assert record.stem == same.key and same.state() == "missing", "the same settings, and yet no record of that row"
    assert records.read(record).threads == 1, "one on each core"
    assert not same.work_folder.exists() and recorded_seeds(SLUG, **PLACE) == [0]
    capsys.readouterr()
    eval(lines[-1], names)
    assert "finished already" in capsys.readouterr().out


def test_what_a_model_does_not_take_is_named_with_what_it_takes(house):
    runs = read_runs(SLUG, **PLACE)
    with pytest.raises(ReidError, match=r"row 'mine': .*'scales'.*; options of SafeNet: .*global_scales=\(4, 3, 2"):
        own.train(runs, Row("mine", options=dict(scales=(4,))))
    assert own.train(runs, None) == () and not files(house)
