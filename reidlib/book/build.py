"""The book's build: the pages of `_toc.yml` are gathered, built by Jupyter Book with warnings as errors, and checked.

A new book replaces the old one only after it has passed every check.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reidlib.book.check import EXECUTED, check, of_no_table
from reidlib.pages import contents
from reidlib.pages.glance import ARCHIVE, CITATION
from reidlib.runs import archive
from reidlib.runs.devices import cores
from reidlib.spec import ReidError

LIBRARY = Path(__file__).resolve().parents[1]
"""The folder of reidlib, whose code and docstrings pages show (`reidlib.book.api`)."""

CHAPTER = re.compile(rf"{EXECUTED}(?P<source>[^/]+)/(?P<dataset>[^/]+)/(?P<budget>[^/]+)/(?P<slug>[^/]+/[^/]+)")
COLOUR_CODES = re.compile(r"\x1b\[[0-9;]*m")


def build(*, root: Path, stale: Callable[[Path], str | None]) -> Path:
    """Builds the book of the checkout at `root` if anything has changed, checks it, and returns its first page.

    stale: for an executed notebook, the reason why it does not fit today's template, records and code, or None
    (`notebooks.stale`). Raises ReidError if a page is missing or stale, if Sphinx warns, or if a check fails.
    """
    started = time.perf_counter()
    pages = _pages_of_toc(root)
    for page, source in pages.items():
        if source.suffix == ".ipynb":
            _check_notebook(page, source)
            if reason := stale(source):
                raise ReidError(f"{source} is stale: {reason}{_remedy(page)}")

    html = root / "book" / "_build" / "html"
    stamp = html.parent / "sources.sha256"
    sources = _sources(root, pages.values())
    digest = _digest(root, sources)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest and html.is_dir():
        check(html, pages=list(pages))
        print(f"book: nothing changed, {len(pages)} pages checked")
        return html / "index.html"

    fresh = _run_jupyter_book(root, _gather(root, sources))
    check(fresh, pages=list(pages))
    stamp.unlink(missing_ok=True)
    shutil.rmtree(html, ignore_errors=True)
    html.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(fresh, html)
    stamp.write_text(digest, encoding="utf-8")
    print(f"book: {len(pages)} pages built and checked in {time.perf_counter() - started:.0f} s")
    return html / "index.html"


def chapters(root: Path) -> list[dict[str, str]]:
    """The executed chapters that `_toc.yml` names: source, dataset, budget and slug ("paper/table") of each."""
    return [found.groupdict() for name in contents.names(root) if (found := CHAPTER.fullmatch(name))]


def _pages_of_toc(root: Path) -> dict[str, Path]:
    """The pages of `_toc.yml` in order, each with its file."""
    pages = {}
    for page in contents.names(root):
        found = [root / f"{page}{suffix}" for suffix in (".md", ".ipynb") if (root / f"{page}{suffix}").is_file()]
        if not found:
            raise ReidError(f"the page {page} of _toc.yml has no file{_remedy(page)}")
        pages[page] = found[0]
    return pages


def _remedy(page: str) -> str:
    """How to make the page: an executed notebook with its command, any other page by hand."""
    if of_no_table(page):
        template = f"notebooks/{page.removeprefix(EXECUTED)}.ipynb"
        return f": `reid book` makes it from {template}; write that, or take the page out of _toc.yml"
    if not (chapter := CHAPTER.fullmatch(page)):
        return ": write it, or take it out of _toc.yml"
    made = "`reid run {slug} --budget {budget} --dataset {dataset}`".format(**chapter.groupdict())
    return f": make it with {made}, or take it out of _toc.yml"


def _check_notebook(page: str, source: Path) -> None:
    """Raises ReidError unless every cell was executed without an error."""
    try:
        cells = json.loads(source.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError) as error:
        raise ReidError(f"{source} is not a notebook ({error!r}){_remedy(page)}") from error
    for number, cell in enumerate(cells, start=1):
        if cell["cell_type"] != "code":
            continue
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                raise ReidError(f"cell {number} of {source} failed with {output['ename']}{_remedy(page)}")
        if "".join(cell["source"]).strip() and cell["execution_count"] is None:
            raise ReidError(f"cell {number} of {source} was never executed{_remedy(page)}")


def _sources(root: Path, pages: Iterable[Path]) -> list[Path]:
    """Every file that the book is made from, relative to the root."""
    files = {root / "_config.yml", root / "_toc.yml", *pages, *(root / "book").glob("*.bib")}
    files |= {path for path in (root / "book" / "_static").rglob("*") if path.is_file()}
    return sorted(path.relative_to(root) for path in files)


def _digest(root: Path, sources: Sequence[Path]) -> str:
    """A digest of the sources, of reidlib (which pages show) and of the tools used."""
    digest = hashlib.sha256(_tools())
    code = (path for suffix in ("py", "jinja") for path in LIBRARY.rglob(f"*.{suffix}"))
    for path in [*(root / path for path in sources), *sorted(code)]:
        content = path.read_bytes()
        digest.update(f"{path} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _tools() -> bytes:
    tools = ("jupyter-book", "sphinx", "myst-nb", "sphinx-book-theme", "pydata-sphinx-theme")
    return json.dumps({tool: version(tool) for tool in tools}).encode()


def _gather(root: Path, sources: Sequence[Path]) -> Path:
    """Copies the sources to a folder of their own, under the same relative paths, so that links between them work.

    Beside them it puts what the pages offer for download: all finished records, and how to cite the study. A file that
    is there already keeps its time, by which Sphinx knows which pages it has read.
    """
    folder = root / "build" / "book-source"
    for file in folder.rglob("*"):
        if file.is_file() and file.relative_to(folder) not in sources:
            file.unlink()
    for path in sources:
        if not (folder / path).is_file() or not filecmp.cmp(root / path, folder / path, shallow=False):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / path, folder / path)
    archive.pack(folder / "book" / ARCHIVE, everything=True)
    if (root / "CITATION.cff").is_file():
        shutil.copyfile(root / "CITATION.cff", folder / "book" / CITATION)
    return folder


def _run_jupyter_book(root: Path, source: Path) -> Path:
    """Builds the gathered sources and returns the folder of the pages.

    All pages are written again. Those whose source and code have not changed since the last sound build are not read
    again, unless the last build failed or something changes on which every page depends.
    """
    output = root / "build" / "book"
    html, kept = output / "_build" / "html", output / "read-with.sha256"
    shutil.rmtree(html, ignore_errors=True)
    for_all = [source / "_config.yml", source / "_toc.yml", *source.glob("book/*.bib"), LIBRARY / "book" / "api.py"]
    modules = str(sorted(LIBRARY.rglob("*.py"))).encode()
    read_with = hashlib.sha256(_tools() + modules + b"".join(file.read_bytes() for file in for_all)).hexdigest()
    if not kept.is_file() or kept.read_text(encoding="utf-8") != read_with:
        shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    kept.unlink(missing_ok=True)
    # The console script of this environment, on several cores, for which it has no option.
    code = "import functools, jupyter_book.sphinx as used; "
    code += f"used.build_sphinx = functools.partial(used.build_sphinx, jobs={cores()}); "
    code += "from jupyter_book.cli.main import main; main()"
    search = os.pathsep.join([str(LIBRARY.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", code, "build", str(source), "--path-output", str(output), "-W", "--keep-going"]
    how: dict[str, Any] = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
    run = subprocess.run(command, env=os.environ | {"PYTHONPATH": search}, check=False, **how)
    log = root / "build" / "book.log"
    text = COLOUR_CODES.sub("", run.stdout).replace(f"{source}/", "")
    log.write_text(text, encoding="utf-8")
    # Jupyter Book can exit with 0 without having built anything, so the first page is looked for.
    if run.returncode != 0 or not (html / "index.html").is_file():
        words = [line.strip() for line in text.splitlines() if re.search(r"\b(WARNING|ERROR|Error|error)\b", line)]
        cause = words[0] if words else f"exit status {run.returncode}"
        raise ReidError(f"Jupyter Book did not build the book: {cause} ({len(words)} such line(s); all in {log})")
    kept.write_text(read_with, encoding="utf-8")
    return html
