"""The book: gathers its sources, has Jupyter Book build them with warnings as errors, and checks the pages.

Only the pages of `_toc.yml` are gathered, into `build/book-source/`, so that nothing else in the checkout (environment,
images, records) is looked at. A book is put in place only after it passed every check; a failed one leaves the last
good one where it was.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

from reidlib.spec import ReidError

EXECUTED = Path("results/notebooks")
STAND_IN_PAGES = "results/notebooks/stand-in/"
STUDY_PAGES = "results/notebooks/study/"
"""Pages that belong to no table; they read records of any images, so they carry the banner of those they read."""

MADE_BY_SPHINX = {"index", "genindex", "search"}
"""Pages that are in every book without standing in `_toc.yml`."""

LOADED_ATTRIBUTES = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "track": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "input": ("src",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
"""What a browser fetches by itself when it opens a page; `link` is decided by its `rel`."""

LOADED_LINKS = {"stylesheet", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch", "icon", "manifest"}

CSS_URL = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")
OTHER_HOST = re.compile(r"(https?:)?//", re.IGNORECASE)
COLOUR_CODES = re.compile(r"\x1b\[[0-9;]*m")


def build(*, root: Path, stale: Callable[[Path], str | None] = lambda copy: None) -> Path:
    """Builds the book of the checkout at `root` if anything changed, checks it, and returns its first page.

    stale: says why an executed notebook no longer stands for the records and the code (`execution.stale`), or None.
    """
    started = time.perf_counter()
    pages = _pages_of_toc(root)
    for page, source in pages.items():
        if source.suffix == ".ipynb":
            _check_notebook(root, page, source)
            if reason := stale(source):
                raise ReidError(f"{source} is stale: {reason}{_remedy(page)}")

    html = root / "book" / "_build" / "html"
    stamp = html.parent / "sources.sha256"
    sources = _sources(root, pages.values())
    digest = _digest(root, sources)
    if stamp.is_file() and stamp.read_text() == digest and html.is_dir():
        check(html, pages=list(pages))
        print(f"book: nothing changed, {len(pages)} pages checked")
        return html / "index.html"

    fresh = _run_jupyter_book(root, _gather(root, sources))
    check(fresh, pages=list(pages))
    stamp.unlink(missing_ok=True)
    shutil.rmtree(html, ignore_errors=True)
    html.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(fresh, html)
    stamp.write_text(digest)
    print(f"book: {len(pages)} pages built and checked in {time.perf_counter() - started:.0f} s")
    return html / "index.html"


def check(html: Path, *, pages: Sequence[str]) -> None:
    """Raises `ReidError` unless `html` holds exactly the named pages and each of them is whole.

    pages: the names in `_toc.yml`, without suffix.
    """
    faults = list(_faults(html.resolve(), pages))
    if faults:
        shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
        raise ReidError(
            f"the book in {html} has {len(faults)} fault(s): {shown}. Mend the source of the page, or run "
            "`make clean` if the page is not in _toc.yml, and build again"
        )


def chapters(root: Path) -> list[dict[str, str]]:
    """The executed chapters that `_toc.yml` names: source, dataset, budget and slug ("paper/table") of each."""
    names = [re.sub(r"\.ipynb$", "", name) for name in _names_in_toc(yaml.safe_load((root / "_toc.yml").read_text()))]
    below = [Path(name).relative_to(EXECUTED).parts for name in names if Path(name).is_relative_to(EXECUTED)]
    keys = ("source", "dataset", "budget", "slug")
    return [dict(zip(keys, (*parts[:3], "/".join(parts[3:])), strict=True)) for parts in below if len(parts) == 5]


# Sources -----------------------------------------------------------------------------------------------------------


def _pages_of_toc(root: Path) -> dict[str, Path]:
    """The pages of `_toc.yml` in order, with the file behind each."""
    toc = root / "_toc.yml"
    if not toc.is_file():
        raise ReidError(f"{toc} is missing: run from the root of the checkout, or restore it with git")
    pages = {}
    for name in _names_in_toc(yaml.safe_load(toc.read_text(encoding="utf-8"))):
        page = re.sub(r"\.(md|ipynb)$", "", name)
        found = [root / f"{page}{suffix}" for suffix in (".md", ".ipynb") if (root / f"{page}{suffix}").is_file()]
        if not found:
            raise ReidError(f"the page {page} of _toc.yml has no file{_remedy(page)}")
        pages[page] = found[0]
    return pages


def _names_in_toc(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("root", "file"):
                yield value
            else:
                yield from _names_in_toc(value)
    elif isinstance(node, list):
        for item in node:
            yield from _names_in_toc(item)


def _remedy(page: str) -> str:
    """How to make the page: a hand-written one by hand, an executed notebook by its run."""
    parts = Path(page).parts
    if page.startswith(STUDY_PAGES):
        return f": `reid book` makes it from {_template(page)}; write that, or take the page out of _toc.yml"
    if not page.startswith(f"{EXECUTED.as_posix()}/") or len(parts) < 7:
        return ": write it, or take it out of _toc.yml"
    dataset, budget, table = parts[3], parts[4], "/".join(parts[5:])
    return f": make it with `reid run {table} --budget {budget} --dataset {dataset}`, or take it out of _toc.yml"


def _template(page: str) -> Path:
    """The notebook from which an executed one is made, relative to the root."""
    below = Path(page).relative_to(EXECUTED).parts
    return Path("notebooks", *(below if page.startswith(STUDY_PAGES) else below[3:])).with_suffix(".ipynb")


def _check_notebook(root: Path, page: str, source: Path) -> None:
    """An executed copy is shown only when it is whole and was made from the present template."""
    try:
        notebook = json.loads(source.read_text(encoding="utf-8"))
        cells, metadata = notebook["cells"], notebook["metadata"]
    except (ValueError, KeyError) as fault:
        raise ReidError(f"{source} is not a notebook ({fault!r}){_remedy(page)}") from fault
    for number, cell in enumerate(cells, start=1):
        if cell["cell_type"] != "code":
            continue
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                raise ReidError(f"cell {number} of {source} failed with {output['ename']}{_remedy(page)}")
        if "".join(cell["source"]).strip() and cell["execution_count"] is None:
            raise ReidError(f"cell {number} of {source} was never executed{_remedy(page)}")
    if not page.startswith(f"{EXECUTED.as_posix()}/"):
        return
    template = root / _template(page)
    if not template.is_file():
        raise ReidError(
            f"{source} was made from {template}, which is gone: restore it, or take the page out of _toc.yml"
        )
    if metadata.get("reid", {}).get("template_sha256") != hashlib.sha256(template.read_bytes()).hexdigest():
        raise ReidError(f"{source} is stale: {template} has changed since it was executed{_remedy(page)}")


def _sources(root: Path, pages: Iterable[Path]) -> list[Path]:
    """Every file that the book is made from, relative to the root."""
    pages = list(pages)
    files = {root / "_config.yml", root / "_toc.yml", *pages}
    for page in pages:  # code that a page shows
        shown = re.findall(r"^`{3,}\{literalinclude\}\s+(\S+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        files |= {(page.parent / name).resolve() for name in shown}
    files |= set((root / "book").glob("*.bib"))
    files |= {path for path in (root / "book" / "_static").rglob("*") if path.is_file()}
    return sorted(path.relative_to(root) for path in files)


def _digest(root: Path, sources: Sequence[Path]) -> str:
    """Changes when a source, this file or a tool that makes the pages changes."""
    digest = hashlib.sha256()
    tools = ("jupyter-book", "sphinx", "myst-nb", "sphinx-book-theme", "pydata-sphinx-theme")
    digest.update(json.dumps({tool: version(tool) for tool in tools}).encode())
    digest.update(Path(__file__).read_bytes())
    for path in sources:
        content = (root / path).read_bytes()
        digest.update(f"{path.as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _gather(root: Path, sources: Sequence[Path]) -> Path:
    """Copies the sources to a folder of their own, under the same paths, so that links between them hold."""
    folder = root / "build" / "book-source"
    shutil.rmtree(folder, ignore_errors=True)
    for path in sources:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, folder / path)
    return folder


def _run_jupyter_book(root: Path, source: Path) -> Path:
    """Builds the gathered sources from nothing; returns the folder of the pages."""
    output = root / "build" / "book"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    code = "from jupyter_book.cli.main import main; main()"  # the console script of this very environment
    command = [sys.executable, "-c", code, "build", str(source), "--path-output", str(output), "-W", "--keep-going"]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    log = root / "build" / "book.log"
    text = COLOUR_CODES.sub("", run.stdout).replace(f"{source}/", "")
    log.write_text(text, encoding="utf-8")
    html = output / "_build" / "html"
    # Jupyter Book has ended with 0 without building anything: the first page must be there.
    if run.returncode != 0 or not (html / "index.html").is_file():
        words = [line.strip() for line in text.splitlines() if re.search(r"\b(WARNING|ERROR|Error|error)\b", line)]
        cause = words[0] if words else f"exit status {run.returncode}"
        raise ReidError(f"Jupyter Book did not build the book: {cause} ({len(words)} such line(s); all in {log})")
    return html


# Pages -------------------------------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """What a check needs of one page: its anchors, its links, and what it loads from where."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.anchors: set[str] = set()
        self.classes: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self._inside = tag
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        self.classes |= set(values.get("class", "").split())
        if tag in ("a", "area") and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and LOADED_LINKS & set(values.get("rel", "").lower().split()):
            self.loaded.append(values.get("href", ""))
        for name in LOADED_ATTRIBUTES.get(tag, ()):
            if name == "srcset":
                self.loaded += [
                    candidate.split()[0] for candidate in values.get(name, "").split(",") if candidate.strip()
                ]
            elif values.get(name):
                self.loaded.append(values[name])
        self.loaded += _addresses_in_css(values.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.loaded += _addresses_in_css(data)
        elif self._inside == "script":
            # A script that carries the address of another host means to fetch from it, now or on a click.
            self.loaded += re.findall(r"https?://(?!www\.w3\.org/)[^\s\"'`]+", data)


def _addresses_in_css(text: str) -> list[str]:
    return [(url or imported).strip() for url, imported in CSS_URL.findall(text)]


def _faults(html: Path, pages: Sequence[str]) -> Iterator[str]:
    wanted = {*pages, *MADE_BY_SPHINX}
    found = {
        path.relative_to(html).with_suffix("").as_posix(): path
        for path in html.rglob("*.html")
        if not path.relative_to(html).parts[0].startswith("_")
    }
    yield from (f"page {page} is missing" for page in pages if page not in found)
    yield from (f"page {page} is stale: it is not in _toc.yml" for page in sorted(found.keys() - wanted))
    index = html / "searchindex.js"
    index_text = index.read_text(encoding="utf-8") if index.is_file() else ""
    yield from (f"page {page} is not in the search index" for page in pages if f'"{page}"' not in index_text)

    parsed = {path: _Page(path.read_text(encoding="utf-8")) for path in found.values()}
    for page, path in sorted(found.items()):
        for address in parsed[path].loaded:
            if OTHER_HOST.match(address):
                yield f"page {page} loads {address} from another host"
            else:
                yield from _dead(html, page, path, address, parsed)
        for address in parsed[path].links:
            yield from _dead(html, page, path, address, parsed)
        if page.startswith(STAND_IN_PAGES) and "standin-banner" not in parsed[path].classes:
            yield f"page {page} has numbers from stand-in images and no banner (class standin-banner)"
        if page.startswith(STUDY_PAGES) and not {"standin-banner", "real-banner"} & parsed[path].classes:
            yield f"page {page} does not say whose images its numbers come from (class standin-banner or real-banner)"
    for sheet in sorted(html.rglob("*.css")):
        for address in _addresses_in_css(sheet.read_text(encoding="utf-8")):
            if OTHER_HOST.match(address):
                yield f"style sheet {sheet.relative_to(html).as_posix()} loads {address} from another host"


def _dead(html: Path, page: str, path: Path, address: str, parsed: dict[Path, _Page]) -> Iterator[str]:
    """A fault if an address inside the book leads nowhere; addresses of other hosts are the reader's own click."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc or address in ("", "#"):
        if parts.scheme == "file":
            yield f"page {page} links to a file of this machine: {address}"
        return
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target = target / "index.html"
    if html not in target.parents or not target.is_file():
        yield f"page {page} links to {address}, which is not in the book"
        return
    if parts.fragment and target in parsed and unquote(parts.fragment) not in parsed[target].anchors:
        yield f"page {page} links to {address}, and there is no such place on that page"
