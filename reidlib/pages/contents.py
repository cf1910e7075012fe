"""The pages that the book has, by `_toc.yml`, and the addresses by which one of them links to another."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import yaml

from reidlib.spec import ReidError

STUDY = "results/notebooks/study"
"""The folder of the study's pages, from which they link."""


def names(root: Path) -> list[str]:
    """The names of the pages in `_toc.yml`, in order, without suffix."""
    toc = root / "_toc.yml"
    if not toc.is_file():
        raise ReidError(f"{toc} is missing: set REID_HOME to the folder of the checkout, or restore the file with git")
    found, left = [], [yaml.safe_load(toc.read_text(encoding="utf-8"))]
    while left:
        node = left.pop(0)
        if isinstance(node, dict):
            found += [re.sub(r"\.(md|ipynb)$", "", node[key]) for key in ("root", "file") if key in node]
            node = list(node.values())
        left[:0] = node if isinstance(node, list) else []
    return found


def address(page: str) -> str:
    """The address of a page ("book/data") or a file ("_static/study.css"), relative to the study's pages."""
    target = page if PurePosixPath(page).suffix else f"{page}.html"
    return Path(os.path.relpath(target, STUDY)).as_posix()


def page_of(slug: str, known: Sequence[str], *, budget: str, source: str) -> str:
    """The name of a table's or figure's page at a budget, on whatever data set the book has it; "" if it has none.

    known: of `names`.
    """
    place = re.compile(rf"results/notebooks/{re.escape(source)}/[^/]+/{re.escape(budget)}/{re.escape(slug)}")
    return next((name for name in known if place.fullmatch(name)), "")
