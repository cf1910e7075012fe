"""A sixth paper is three new files, as the page "Reproduce it" says: they are written here, with what its text leaves
unsaid, and the batch is run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]

MODEL = '''
"""A network of our own: one convolution, its map averaged."""

from torch import nn

from reidlib.models.output import Output


class Sixth(nn.Module):
    def __init__(self, identities, *, size=(128, 64), width=8):
        super().__init__()
        self.convolution = nn.Conv2d(3, width, 7, stride=4)
        self.classifier = nn.Linear(width, identities)

    def forward(self, images):
        map_ = self.convolution(images).relu()
        vector = map_.mean((2, 3))
        return Output(vector, [self.classifier(vector)], [vector], {"convolution": map_})
'''

PAPER = '''
"""Its only table."""

from reidlib import losses
from reidlib.models.sixth import Sixth
from reidlib.spec import Assumed, Loss, Recipe, Row, Settings, Stated, Table

RECIPE = Recipe(
    start=Assumed("scratch", because="not stated; it has no ImageNet weights"),
    size=Stated((128, 64), where="§4.1"),
    batch=Stated(8, where="§4.1"),
    epochs=Stated(2, where="§4.1"),
    rates=Assumed({"rest": 0.01}, because="not stated; the field's value"),
)
TABLE_1 = Table(
    paper="sixth",
    name="table1",
    title="Number of channels",
    base=Settings(Sixth, RECIPE, {"cross_entropy": Loss(losses.cross_entropy)}),
    datasets=("market1501",),
    protocol="market1501-single-query",
    printed_as="single-query",
    ap="plain",
    budgets={"smoke": {}},
    rows=(Row("8 channels"), Row("16 channels", options=dict(width=16))),
)
'''

UNSAID = """
[AP]
value = "plain"
because = "not stated; the field's rule"
"""

PRINTED = [("8 channels", "rank1", "80.1"), ("8 channels", "mAP", "60.2"), ("16 channels", "mAP", "61.3")]
CLAIM = dict(better="16 channels", worse="8 channels", metric="mAP", quote="more channels help", where="§5")


def notebook(template):
    """The notebook of HAMR with the first cells changed: question and names."""
    cells = json.dumps(template, ensure_ascii=False)
    for old, new in (("hamr", "sixth"), ("table5", "table1"), ("msmt17", "market1501")):
        cells = cells.replace(old, new)
    changed = json.loads(cells)
    changed["cells"][0]["source"] = "# Table 1: do more channels help?"
    return changed


def add(file, lines):
    """Lines by the names of their columns at the end of a table."""
    text = file.read_text(encoding="utf-8")
    names = text.partition("\n")[0].split("\t")
    rows = ["\t".join(line.get(name, "") for name in names) for line in lines]
    file.write_text(text.rstrip("\n") + "\n" + "\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture
def checkout(house, tmp_path, monkeypatch):
    """A copy of the library with a sixth paper in it, which the `reidlib` of this process does not have."""
    home = tmp_path / "home"
    shutil.copytree(HOME / "reidlib", home / "reidlib", ignore=shutil.ignore_patterns("__pycache__"))
    (home / "notebooks" / "sixth").mkdir(parents=True)
    (home / "results").mkdir()
    for file in (HOME / "results").glob("*.tsv"):
        shutil.copy(file, home / "results")
    (home / "reidlib" / "models" / "sixth.py").write_text(MODEL, encoding="utf-8")
    (home / "reidlib" / "papers" / "sixth.py").write_text(PAPER, encoding="utf-8")
    (home / "reidlib" / "papers" / "sixth.toml").write_text(UNSAID, encoding="utf-8")
    template = json.loads((HOME / "notebooks" / "hamr" / "table5.ipynb").read_text(encoding="utf-8"))
    (home / "notebooks" / "sixth" / "table1.ipynb").write_text(json.dumps(notebook(template)), encoding="utf-8")
    table = dict(paper="sixth", table="table1")
    shared = table | dict(dataset="market1501", variant="single-query")
    add(home / "results" / "reported.tsv", [shared | dict(row=r, metric=m, value=v) for r, m, v in PRINTED])
    add(home / "results" / "claims.tsv", [table | CLAIM])
    (home / "_toc.yml").write_text("root: book/intro\n")
    monkeypatch.setenv("REID_HOME", str(home))
    return home


@pytest.mark.all
def test_three_files_make_a_sixth_paper(checkout, house):
    def reid(*words):
        line = [sys.executable, "-m", "reidlib.cli", *words]
        done = subprocess.run(
            line, env=os.environ | {"PYTHONPATH": str(checkout)}, capture_output=True, text=True, cwd=checkout
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert reid("list", "sixth").count("smoke missing") == 2
    text = reid("reproduce", "sixth", "--budget", "smoke", "--per-gpu", "1")
    assert "2 runs to do, 2 networks to train" in text and text.count("] finished: ") == 2
    assert "notebook: " in text and "add to _toc.yml" in text
    (copy,) = house.rglob("table1.ipynb")
    page = copy.read_text(encoding="utf-8")
    for words in ("do more channels help?", "more channels help", "80.1", "16 channels", "not stated; the field"):
        assert words in page, words
    assert "2 done    0 running" in reid("status", "sixth", "--budget", "smoke")
