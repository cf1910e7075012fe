"""The API reference: every public module stands on exactly one page, and docstrings are shown as they are written."""

import pkgutil
import re
from pathlib import Path

import pytest

import reidlib
from reidlib.book import api

ROOT = Path(__file__).resolve().parents[2]
PAGES = {page: page.read_text(encoding="utf-8") for page in (ROOT / "book").rglob("*.md") if "_build" not in page.parts}
LEFT_OUT = {"cli", "papers"}
"""The command line has its own help; the papers are data, which the pages "in code" show whole."""


def test_every_room_is_in_the_reference_once():
    marks = [mark for text in PAGES.values() for mark in api.MARK.findall(text)]
    rooms = [room for kind, room in marks if kind != "code"]
    assert sorted(rooms) == sorted({room for level in reidlib.ROOMS for room in level} - LEFT_OUT)


def test_every_model_and_paper_is_shown_as_code():
    shown = {name for text in PAGES.values() for kind, name in api.MARK.findall(text) if kind == "code"}
    papers = {f"papers.{found.name}" for found in pkgutil.iter_modules([str(ROOT / "reidlib" / "papers")])}
    assert shown >= papers - {"papers.standins"}
    assert shown >= {name.replace("papers", "models") for name in papers - {"papers.standins"}}


def test_a_room_becomes_a_section_for_each_module():
    assert api.modules("losses") == ["losses"]
    assert {"evaluation.ranking", "evaluation.statistics"} <= set(api.modules("evaluation"))
    made = api.page("# Title\n\n(modules of losses)\n\n(exports of standin)\n")
    assert re.findall(r"^## `(.+)`$", made, re.MULTILINE) == ["reidlib.losses", "reidlib.standin"]
    assert ":ignore-module-all:" in made and ":imported-members:" in made


def test_code_is_shown_whole_with_its_line_numbers():
    made = api.page("(code of papers.standins)")
    file = (ROOT / "reidlib" / "papers" / "standins.py").read_text(encoding="utf-8")
    blocks = re.findall(r"`````{code-block} python\n:lineno-start: (\d+)\n\n(.*?)\n`````", made, re.DOTALL)
    for first, block in blocks:
        lines = block.split("\n")
        assert file.split("\n")[int(first) - 1 :][: len(lines)] == lines
    assert "".join("".join(block.split()) for _, block in blocks) == "".join(file.split())
    assert {"effect", "DIFFICULTY"} <= set(re.findall(r"^### `(.+)`$", made, re.MULTILINE))


@pytest.mark.parametrize(
    "text, shown",
    [
        ("Plain `code` and *stars*, x_i|.", "Plain ``code`` and \\*stars\\*, x\\_i\\|."),
        ("the `n`th, 2`c`", "the ``n``\\ th, 2\\ ``c``"),
        ("- one\n- two `x`", "- one\n- two ``x``"),
        ("size   (H, W) of `images`\nworkers  threads;\n         None: all", None),
        ("Parameters\n----------\nsize : int\n    Of the image.", "**Parameters**\n\n- ``size : int``: Of the image."),
        ("    query = read()", ".. code-block:: python\n\n   query = read()"),
        ("    a -> b", ".. code-block:: text\n\n   a -> b"),
        ("    a = 1\n    b = 2", ".. code-block:: python\n\n   a = 1\n   b = 2"),
    ],
)
def test_docstrings_are_shown_as_they_are_written(text, shown):
    shown = shown or "- ``size``: (H, W) of ``images``\n- ``workers``: threads; None: all"
    made = api.plain(text.split("\n"))
    assert "\n".join(made).strip() == shown and not any("\n" in line for line in made), "autodoc indents each line"


def test_a_class_is_shown_where_it_is_defined_and_a_field_where_it_is_documented():
    assert api._source_of(None, "reidlib.evaluation", "Features") == "reidlib.evaluation.features"
    assert api._source_of(None, "reidlib.runs.batch", "Job.estimate") == "reidlib.runs.batch"


def test_a_default_without_a_literal_does_not_hide_the_types():
    shown, _ = api._signature(
        None, "", "", None, None, "(say: ~typing.Any = <function <lambda> at 0x7f>, n: int = 1)", ""
    )
    assert shown == "(say: ~typing.Any = ..., n: int = 1)" and api._signature(*[None] * 7) == (None, None)


def test_a_method_does_not_show_what_a_base_of_another_library_says():
    from torch import nn

    class Own(nn.Module):
        def forward(self, images):
            return images

    lines = ["Define the computation performed at every call."]
    api._process(None, "method", "Own.forward", Own.forward, None, lines)
    assert lines == []
