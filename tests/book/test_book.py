"""The checks of the book: each fault of a page is found, and a sound book passes."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from reidlib import paths
from reidlib.book import build
from reidlib.book import check as checker
from reidlib.spec import ReidError

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = "results/notebooks/stand-in/market1501/small/safenet/table5"
PAGES = ["book/intro", "book/data"]


def page(body: str = "", head: str = "") -> str:
    return f"<!DOCTYPE html><html><head>{head}</head><body><h1 id='top'>A page</h1>{body}</body></html>"


@pytest.fixture
def html(tmp_path: Path) -> Path:
    """A small sound book of two pages."""
    (tmp_path / "book").mkdir()
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "study.css").write_text("body { background: url(paper.png) }")
    (tmp_path / "_static" / "a picture.png").write_bytes(b"png")
    links = (
        '<a href="data.html#top">x</a> <a href="#">up</a> <a href="https://example.org/">out</a> <a href="#top">y</a>'
    )
    picture = '<img src="../_static/a%20picture.png"><img src="data:image/png;base64,AAAA">'
    head = '<link rel="stylesheet" href="../_static/study.css?v=1"><link rel="canonical" href="https://example.org/">'
    (tmp_path / "book" / "intro.html").write_text(page(links + picture, head))
    (tmp_path / "book" / "data.html").write_text(page('<a href="../book/">up</a><a href="intro.html">back</a>'))
    (tmp_path / "book" / "index.html").write_text(page())
    (tmp_path / "index.html").write_text(page('<a href="book/intro.html">in</a>'))
    (tmp_path / "searchindex.js").write_text('Search.setIndex({"docnames": ["book/intro", "book/data", "book/index"]})')
    return tmp_path


def check(html: Path, *more: str) -> None:
    checker.check(html, pages=[*PAGES, "book/index", *more])


def add(html: Path, body: str = "", head: str = "") -> None:
    (html / "book" / "data.html").write_text(page(body, head))


def test_the_chapters_of_the_table_of_contents(tmp_path):
    executed = [STAND_IN, "results/notebooks/study/claims", "results/notebooks/real/dukemtmc/full/fmn/table3.ipynb"]
    chapters = [{"file": name} for name in ("book/data", *executed)]
    (tmp_path / "_toc.yml").write_text(json.dumps({"root": "book/intro", "parts": [{"chapters": chapters}]}))
    assert build.chapters(tmp_path) == [
        {"source": "stand-in", "dataset": "market1501", "budget": "small", "slug": "safenet/table5"},
        {"source": "real", "dataset": "dukemtmc", "budget": "full", "slug": "fmn/table3"},
    ]


def test_a_sound_book_passes(html):
    check(html)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ('<a href="gone.html">x</a>', "gone.html, which is not in the book"),
        ('<a href="intro.html#nowhere">x</a>', "no such place"),
        ('<a href="#nowhere">x</a>', "no such place"),
        ('<a href="../../outside.html">x</a>', "not in the book"),
        ('<a href="file:///home/somebody/page.html">x</a>', "a file of this machine"),
        ('<img src="gone.png">', "gone.png, which is not in the book"),
        ('<img src="https://example.org/a.png">', "from another host"),
        ('<img src="//example.org/a.png">', "from another host"),
        ('<img srcset="../_static/a%20picture.png 1x, https://example.org/a.png 2x">', "from another host"),
        ('<script src="http://example.org/a.js"></script>', "from another host"),
        ('<script>const where = "https://example.org/lib.js"</script>', "from another host"),
        ('<iframe src="https://example.org/"></iframe>', "from another host"),
        ('<video><source src="https://example.org/a.mp4"></video>', "from another host"),
        ('<object data="https://example.org/a.svg"></object>', "from another host"),
        ("<p style=\"background: url('https://example.org/a.png')\">x</p>", "from another host"),
        ("<style>@import 'https://example.org/a.css';</style>", "from another host"),
    ],
)
def test_faults_of_a_body_are_found(html, body, word):
    add(html, body)
    with pytest.raises(ReidError, match=word):
        check(html)


@pytest.mark.parametrize("rel", ["stylesheet", "preload", "icon", "preconnect"])
def test_links_that_load_from_another_host_are_found(html, rel):
    add(html, head=f'<link rel="{rel}" href="https://example.org/a">')
    with pytest.raises(ReidError, match="from another host"):
        check(html)


def test_a_font_from_another_host_is_found(html):
    (html / "_static" / "study.css").write_text("@font-face { src: url('https://example.org/a.woff2') }")
    with pytest.raises(ReidError, match="style sheet _static/study.css loads"):
        check(html)


def test_a_missing_page_is_found(html):
    (html / "book" / "data.html").unlink()
    with pytest.raises(ReidError, match="page book/data is missing"):
        check(html)


def test_a_stale_page_is_found(html):
    (html / "book" / "old.html").write_text(page())
    with pytest.raises(ReidError, match="page book/old is stale"):
        check(html)


def test_source_code_needs_no_entry_in_the_table_of_contents_but_is_checked(html):
    (html / "_modules").mkdir()
    code = html / "_modules" / "losses.html"
    code.write_text(page('<a href="../book/intro.html#top">docs</a><p id="triplet">def</p>'))
    add(html, '<a href="../_modules/losses.html#triplet">source</a>')
    check(html)
    add(html, '<a href="../_modules/losses.html#gone">source</a>')
    with pytest.raises(ReidError, match="no such place"):
        check(html)
    add(html)
    code.write_text(page('<a href="gone.html">x</a>'))
    with pytest.raises(ReidError, match="page _modules/losses links to gone.html"):
        check(html)


def test_a_page_that_search_does_not_know_is_found(html):
    (html / "searchindex.js").write_text('Search.setIndex({"docnames": ["book/intro", "book/index"]})')
    with pytest.raises(ReidError, match="book/data is not in the search index"):
        check(html)


def test_a_stand_in_page_without_a_banner_is_found(html):
    place = html / f"{STAND_IN}.html"
    place.parent.mkdir(parents=True)
    (html / "searchindex.js").write_text(f'["book/intro", "book/data", "book/index", "{STAND_IN}"]')
    place.write_text(page('<div class="standin-banner">rendered</div>'))
    check(html, STAND_IN)
    place.write_text(page())
    with pytest.raises(ReidError, match="no banner"):
        check(html, STAND_IN)


def test_a_page_of_the_study_without_a_banner_is_found(html):
    name = "results/notebooks/study/protocols"
    place = html / f"{name}.html"
    place.parent.mkdir(parents=True)
    (html / "searchindex.js").write_text(f'["book/intro", "book/data", "book/index", "{name}"]')
    for banner in ("standin-banner", "real-banner"):
        place.write_text(page(f'<div class="{banner}">whose images</div>'))
        check(html, name)
    place.write_text(page())
    with pytest.raises(ReidError, match="does not say whose images"):
        check(html, name)


# The whole way, from sources to pages --------------------------------------------------------------------------------


def executed(template: Path, **changes) -> dict:
    """A notebook as `reid run` leaves it: executed, with the digest of its template."""
    shown = {
        "output_type": "display_data",
        "metadata": {},
        "data": {"text/html": '<div class="standin-banner">x</div>'},
    }
    code = {
        "cell_type": "code",
        "id": "b",
        "metadata": {},
        "source": "show()",
        "execution_count": 1,
        "outputs": [shown],
    }
    title = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# A table\n\nSee [data](DATA)."}
    title["source"] = title["source"].replace("DATA", "../../../../../../book/data.md")
    digest = hashlib.sha256(template.read_bytes()).hexdigest()
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "reid": {"template_sha256": digest}}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": [title, code | changes]}


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A checkout with a book of three pages: the real settings, two short pages and an executed notebook."""
    root = tmp_path / "checkout"
    (root / "book").mkdir(parents=True)
    shutil.copy(ROOT / "_config.yml", root)
    shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
    shutil.copy(ROOT / "book" / "references.bib", root / "book")
    chapters = [{"file": "book/data"}, {"file": STAND_IN}]
    (root / "_toc.yml").write_text(json.dumps({"format": "jb-book", "root": "book/intro", "chapters": chapters}))
    (root / "book" / "intro.md").write_text("# First\n\nAn equation, $a^2$, and [data](data.md).\n\n(cite)=\n## Cite\n")
    (root / "book" / "data.md").write_text("# Data\n\nWords.\n")
    template = root / "notebooks" / "safenet" / "table5.ipynb"
    template.parent.mkdir(parents=True)
    template.write_text("{}")
    notebook = root / f"{STAND_IN}.ipynb"
    notebook.parent.mkdir(parents=True)
    notebook.write_text(json.dumps(executed(template)))
    return root


def fresh(copy: Path) -> None:
    """No executed copy is stale."""


def test_book_is_built_once_and_then_only_checked(sources, capsys):
    first = build.build(root=sources, stale=fresh)
    assert first == sources / "book" / "_build" / "html" / "index.html"
    assert "MathJax" in (first.parent / "book" / "intro.html").read_text()
    assert "mathjax/tex-svg.js" in (first.parent / "book" / "intro.html").read_text()
    before = first.stat().st_mtime_ns
    build.build(root=sources, stale=fresh)
    assert "nothing changed" in capsys.readouterr().out
    assert first.stat().st_mtime_ns == before

    # A warning fails the build, and the last good book stays.
    (sources / "book" / "data.md").write_text("# Data\n\n[nowhere](gone.md)\n")
    with pytest.raises(ReidError, match=r"did not build the book: book/data\.md:3: WARNING.*gone"):
        build.build(root=sources, stale=fresh)
    assert first.stat().st_mtime_ns == before


def test_a_page_without_a_file_names_the_command_that_makes_it(sources):
    (sources / f"{STAND_IN}.ipynb").unlink()
    with pytest.raises(ReidError, match="reid run safenet/table5 --budget small --dataset market1501"):
        build.build(root=sources, stale=fresh)


def test_a_stale_copy_is_refused(sources):
    with pytest.raises(ReidError, match="table5.ipynb is stale: its template changed: make it with `reid run safenet"):
        build.build(root=sources, stale=lambda copy: "its template changed")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        (
            {"outputs": [{"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}]},
            "failed with ValueE",
        ),
        ({"execution_count": None, "outputs": []}, "never executed"),
    ],
)
def test_a_notebook_that_did_not_run_through_is_refused(sources, changes, word):
    template = sources / "notebooks" / "safenet" / "table5.ipynb"
    (sources / f"{STAND_IN}.ipynb").write_text(json.dumps(executed(template, **changes)))
    with pytest.raises(ReidError, match=word):
        build.build(root=sources, stale=fresh)


def test_a_notebook_cut_short_is_refused(sources):
    (sources / f"{STAND_IN}.ipynb").write_text('{"cells": [')
    with pytest.raises(ReidError, match="is not a notebook"):
        build.build(root=sources, stale=fresh)


def test_the_book_does_not_execute_notebooks_or_fetch_mathjax():
    settings = (ROOT / "_config.yml").read_text()
    assert 'execute_notebooks: "off"' in settings
    assert (ROOT / "book" / "_static" / "mathjax" / "tex-svg.js").stat().st_size > 1_000_000


def test_paper_has_the_light_colours(in_browser):
    script = (paths.home() / "book" / "_static" / "print.js").read_text(encoding="utf-8")
    asked = """const shown = document.documentElement.dataset, said = [];
      shown.theme = "dark";
      for (const name of ["beforeprint", "afterprint"]) { dispatchEvent(new Event(name)); said.push(shown.theme); }
      document.body.innerText = JSON.stringify(said);"""
    assert in_browser(f"<p><script>{script}</script><script>{asked}</script>") == ["light", "dark"]
