"""Checks of a built book: all pages there, no dead link, nothing loaded from another host, banners where needed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from reidlib.spec import ReidError

EXECUTED = "results/notebooks/"  #: the pages made from executed notebooks
STAND_IN_PAGES = f"{EXECUTED}stand-in/"
MADE_BY_SPHINX = {"index", "genindex", "search", "py-modindex"}
SOURCE_CODE = "_modules/"  #: Pages and source code that Sphinx makes, although `_toc.yml` does not name them

LOADED = ("src", "srcset", "poster", "data")
"""The attributes whose address a browser fetches when it opens a page, whatever the element."""

LOADED_LINKS = {"stylesheet", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch", "icon", "manifest"}

HIGHLIGHTED = re.compile(r'<span class="\w+">|</span>')
"""Colours of code: most tags of a page with source code, and of no matter here."""

CSS_URL = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")
OTHER_HOST = re.compile(r"(https?:)?//", re.IGNORECASE)


def of_no_table(page: str) -> bool:
    """Whether a page is executed and belongs to no table: a page of the study, or the method of a paper. It may show
    any images, so each states whose."""
    return page.startswith(EXECUTED) and len(page.split("/")) == 4


def check(html: Path, *, pages: Sequence[str]) -> None:
    """Raises ReidError unless the folder `html` contains exactly the pages (names in `_toc.yml`), all without fault."""
    faults = list(_faults(html.resolve(), pages))
    if faults:
        shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
        remedy = "Correct the source of the page, or run `make clean` if it is not in _toc.yml, and build again"
        raise ReidError(f"the book in {html} has {len(faults)} fault(s): {shown}. {remedy}")


class _Page(HTMLParser):
    """The anchors and links of one page, and the addresses of what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.anchors: set[str] = set()
        self.classes: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self._inside = ""
        self.feed(HIGHLIGHTED.sub("", text))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._inside = tag
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        self.classes |= set(values.get("class", "").split())
        if tag in ("a", "area") and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and LOADED_LINKS & set(values.get("rel", "").lower().split()):
            self.loaded.append(values.get("href", ""))
        if tag in ("image", "use"):  # of SVG
            self.loaded += [values[name] for name in ("href", "xlink:href") if values.get(name)]
        for name in LOADED:
            several = values.get(name, "").split(",") if name == "srcset" else [values.get(name, "")]
            self.loaded += [one.split()[0] for one in several if one.strip()]
        self.loaded += _addresses_in_css(values.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.loaded += _addresses_in_css(data)
        elif self._inside == "script":
            # A script that contains the address of another host will fetch from it, at once or on a click.
            self.loaded += re.findall(r"https?://(?!www\.w3\.org/)[^\s\"'`]+", data)


def _addresses_in_css(text: str) -> list[str]:
    return [(url or imported).strip() for url, imported in CSS_URL.findall(text)]


def _faults(html: Path, pages: Sequence[str]) -> Iterator[str]:
    files = {path.relative_to(html).with_suffix("").as_posix(): path for path in html.rglob("*.html")}
    found = {name: path for name, path in files.items() if not name.startswith("_") or name.startswith(SOURCE_CODE)}
    yield from (f"page {page} is missing" for page in pages if page not in found)
    for page in sorted(found.keys() - {*pages, *MADE_BY_SPHINX}):
        if not page.startswith(SOURCE_CODE):
            yield f"page {page} is stale: it is not in _toc.yml"
    index = html / "searchindex.js"
    index_text = index.read_text(encoding="utf-8") if index.is_file() else ""
    yield from (f"page {page} is not in the search index" for page in pages if f'"{page}"' not in index_text)

    parsed = {path: _Page(path.read_text(encoding="utf-8")) for path in found.values()}
    for page, path in sorted(found.items()):
        for address in dict.fromkeys(parsed[path].loaded):
            if OTHER_HOST.match(address):
                yield f"page {page} loads {address} from another host"
            else:
                yield from _dead(html, page, path, address, parsed)
        for address in dict.fromkeys(parsed[path].links):
            yield from _dead(html, page, path, address, parsed)
        if page.startswith(STAND_IN_PAGES) and "standin-banner" not in parsed[path].classes:
            yield f"page {page} has numbers from stand-in images and no banner (class standin-banner)"
        if of_no_table(page) and not {"standin-banner", "real-banner"} & parsed[path].classes:
            yield f"page {page} does not say whose images its numbers come from (class standin-banner or real-banner)"
    for sheet in sorted(html.rglob("*.css")):
        for address in _addresses_in_css(sheet.read_text(encoding="utf-8")):
            if OTHER_HOST.match(address):
                yield f"style sheet {sheet.relative_to(html).as_posix()} loads {address} from another host"


def _dead(html: Path, page: str, path: Path, address: str, parsed: dict[Path, _Page]) -> Iterator[str]:
    """A fault if an address inside the book has no target. Links to other hosts are for the reader to follow."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc or address in ("", "#"):
        if parts.scheme == "file":
            yield f"page {page} links to a file of this machine: {address}"
        return
    target = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
    if target.is_dir():
        target = target / "index.html"
    if html not in target.parents or not target.is_file():
        yield f"page {page} links to {address}, which is not in the book"
    elif parts.fragment and target in parsed and unquote(parts.fragment) not in parsed[target].anchors:
        yield f"page {page} links to {address}, and there is no such place on that page"
