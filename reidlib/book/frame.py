"""A Sphinx extension: a page's description for search engines, its footer, and the words of its charts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from docutils import nodes

import reidlib
from reidlib import paths
from reidlib.pages import render

LONGEST = 160  #: Characters of a description, about what search engines show
WIDE = 270  #: Points; on a phone the letters of a wider chart would be too small


def description(doctree: nodes.document) -> str:
    """The first paragraph of a page, cut after a whole word."""
    first = next((node for node in doctree.findall(nodes.paragraph) if len(node.astext()) > 30), None)
    words = " ".join(first.astext().split()) if first is not None else ""
    return words if len(words) <= LONGEST else words[: LONGEST - 1].rpartition(" ")[0] + "…"


@cache
def version() -> str:
    """Of the library, with the commit and its day where the checkout has them."""
    line = ["git", "-C", str(paths.home()), "log", "-1", "--format=commit %h of %cs"]
    try:
        said = subprocess.run(line, capture_output=True, text=True, encoding="utf-8", check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        said = ""
    return ", ".join(filter(None, [f"Version {reidlib.__version__}", said]))


def footer(cite: str) -> str:
    """Version, commit, day, licence, and the way to the citation. cite: its address."""
    return render.Text(f"{version()}. MIT licence. ", render.Link("How to cite", cite), ".").html()


def _frame(app: Any, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    pathto: Callable[..., str] = context["pathto"]
    cite = pathto(app.config.root_doc).removesuffix("#") + "#cite"  # of itself it is "#"
    context["theme_extra_footer"] = footer(cite)
    if doctree is not None and (text := description(doctree)):
        context["metatags"] = context.get("metatags", "") + render.description(text)


def _charts(app: Any, doctree: nodes.document) -> None:
    """A chart has the words that its SVG file has as a title, and a wide one scrolls on a phone."""
    for image in doctree.findall(nodes.image):
        file = Path(app.srcdir) / image["uri"].lstrip("/")
        if file.suffix == ".svg" and file.is_file():
            chart = ElementTree.parse(file).getroot()
            if title := chart.findtext("{http://www.w3.org/2000/svg}title"):
                image.setdefault("alt", title)
            if chart.get("width", "").endswith("pt") and float(chart.attrib["width"].removesuffix("pt")) > WIDE:
                image["classes"].append("wide")


def _read_in_parallel(app: Any) -> None:
    """Says that several processes may read pages beside two extensions that declare nothing about it. One numbers
    chapters when all pages have been read, the other writes LaTeX, which the book does not."""
    for name in {"sphinx_multitoc_numbering", "sphinx_jupyterbook_latex"} & app.extensions.keys():
        app.extensions[name].parallel_read_safe = True


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("html-page-context", _frame)
    app.connect("builder-inited", _read_in_parallel)
    app.connect("doctree-read", _charts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
