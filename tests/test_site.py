"""`make site`: the folder for a static host, and the release archive."""

import hashlib
import runpy
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
site = SimpleNamespace(**runpy.run_path(str(ROOT / "tools" / "site.py")))


@pytest.fixture
def html(tmp_path):
    folder = tmp_path / "html"
    (folder / "_static").mkdir(parents=True)
    (folder / "index.html").write_text("first page")
    (folder / ".buildinfo").write_text("of Sphinx")
    with zipfile.ZipFile(folder / "_static" / "records.zip", "w") as packed:
        packed.writestr("records/stand-in/market1501/small/safenet/0123456789abcdef.json", "{}")
    return folder


def test_the_folder_is_the_book_as_a_whole(html, tmp_path):
    for _ in range(2):
        site.site(html, tmp_path / "out" / "site")
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert names == {"site/.nojekyll", "site/index.html", "site/_static/records.zip"}


def test_the_archive_has_book_records_and_citation_and_is_the_same_each_time(html, tmp_path):
    made = []
    for name in ("one", "two"):
        target = tmp_path / name / "reid-study-0.2.0.zip"
        target.parent.mkdir()
        sums = site.release(html, html / "_static" / "records.zip", target)
        made.append(target.read_bytes())
    assert made[0] == made[1]
    own = {"book/index.html", "CITATION.cff", "LICENSE", "results/reported.tsv", "results/claims.tsv"}
    assert own | {"results/records/stand-in/market1501/small/safenet/0123456789abcdef.json"} <= sums.keys()
    with zipfile.ZipFile(target) as archive:
        for name, digest in sums.items():
            assert hashlib.sha256(archive.read(f"reid-study-0.2.0/{name}")).hexdigest() == digest
        assert f"{sums['LICENSE']}  LICENSE" in archive.read("reid-study-0.2.0/SHA256SUMS").decode()


def test_a_doi_is_the_doi_alone(tmp_path):
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    (tmp_path / "CITATION.cff").write_text(text.replace("# doi: ", "doi: "))
    assert site.citation(tmp_path)["doi"].startswith("10.")
    (tmp_path / "CITATION.cff").write_text(text.replace("# doi: ", "doi: https://doi.org/"))
    with pytest.raises(SystemExit, match="is no DOI alone"):
        site.citation(tmp_path)
