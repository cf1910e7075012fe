"""A Sphinx extension that shows reidlib in the book: its docstrings as an API reference, and whole files of code.

A page asks for it in a line of its own. `(modules of data)` becomes a section for each module of `reidlib.data`;
`(exports of standin)` what `reidlib.standin` itself offers; `(code of models.safenet)` the whole file, with a section
for each class, function and large constant.
"""

from __future__ import annotations

import ast
import pkgutil
import re
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

from sphinx.ext.autodoc import DataDocumenter

import reidlib

MARK = re.compile(r"^\((modules|exports|code) of ([\w.]+)\)$", re.MULTILINE)

LIBRARY = Path(reidlib.__file__).parent

LONG = 100  #: Characters up to which the value of a constant is shown

LARGE = 8  #: Lines from which a constant has a section of its own

ITEM = re.compile(r"^(\S(?:.*?\S)??)(?: {2,}|\n +)(\S.*(?:\n +.*)*)|^(\S.* : .*)$", re.MULTILINE)
"""An entry of a list of parameters: a name, then its text in a column beside or below it; or a name and its type."""

NO_LITERAL = re.compile(r"<(?:[^<>]|<[^<>]*>)*>")

UNDERLINED = re.compile(r"^(\S.*)\n-{3,}\n")


def modules(room: str) -> list[str]:
    """The public modules of a room, as "data" or "data.images". The package itself counts if it defines anything."""
    package = import_module(f"reidlib.{room}")
    if not hasattr(package, "__path__"):
        return [room]
    below = sorted(found.name for found in pkgutil.iter_modules(package.__path__) if not found.name.startswith("_"))
    own = [value for value in vars(package).values() if getattr(value, "__module__", "") == package.__name__]
    return [*([room] if own else []), *(f"{room}.{name}" for name in below)]


def page(text: str) -> str:
    """The source of a page with its marks filled in."""
    return MARK.sub(lambda found: _code(found[2]) if found[1] == "code" else _sections(found[1], found[2]), text)


def plain(lines: list[str]) -> list[str]:
    """The reStructuredText that shows a docstring as it was written: paragraphs, lists, parameters and code."""
    made: list[str] = []
    for block in "\n".join(lines).strip("\n").split("\n\n"):
        block = block.strip("\n")
        if heading := UNDERLINED.match(block):
            made += [f"**{_escaped(heading[1])}**", ""]
            block = block[heading.end() :]
        columns = re.search(r"^\s", block, re.MULTILINE)
        block = textwrap.dedent(block)
        if block.startswith("- ") or not (columns or ITEM.match(block)):
            made += _escaped(block).splitlines()
        elif not ITEM.sub("", block).strip():
            for name, text, typed in ITEM.findall(block):
                words = f": {' '.join(_escaped(text).split())}" if text else ""
                made.append(f"- ``{name or typed}``{words}")
        else:
            made += [f".. code-block:: {_language(block)}", "", *textwrap.indent(block, "   ").splitlines()]
        made.append("")
    return made


def _sections(kind: str, room: str) -> str:
    names = [room] if kind == "exports" else modules(room)
    option = "imported-members" if kind == "exports" else "ignore-module-all"
    block = "## `reidlib.{0}`\n\n```{{eval-rst}}\n.. automodule:: reidlib.{0}\n   :members:\n   :{1}:\n```"
    return "\n\n".join(block.format(name, option) for name in names)


def _code(name: str) -> str:
    """The file of a module as blocks of code, cut before each public class, function and large constant."""
    file = import_module(f"reidlib.{name}").__file__ or ""
    text = Path(file).read_text(encoding="utf-8")
    cuts = [(1, "")]
    for node in ast.parse(text).body:
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
        match node:
            case ast.ClassDef(name=title) | ast.FunctionDef(name=title):
                pass
            case ast.Assign(targets=[ast.Name(id=title)]) if (node.end_lineno or 0) - first + 1 >= LARGE:
                pass
            case _:
                continue
        if not title.startswith("_"):
            cuts.append((first, title))
    lines, made = text.splitlines(), []
    for (first, title), (end, _) in zip(cuts, [*cuts[1:], (len(lines) + 1, "")], strict=True):
        block = "\n".join(lines[first - 1 : end - 1]).rstrip()
        made.append(f"### `{title}`" if title else "")
        made.append(f"`````{{code-block}} python\n:lineno-start: {first}\n\n{block}\n`````")
    return "\n\n".join(made)


def _language(block: str) -> str:
    try:
        ast.parse(block)
    except SyntaxError:
        return "text"
    return "python"


def _escaped(text: str) -> str:
    """Text in which only `code` has a meaning for reStructuredText, as double backticks."""
    parts = re.split(r"`+([^`\n]+)`+", text)
    parts[::2] = [re.sub(r"[\\*|`_]", r"\\\g<0>", part) for part in parts[::2]]
    parts[1::2] = [f"``{part.strip()}``" for part in parts[1::2]]
    # Code must not touch a letter; reStructuredText does not show an escaped space.
    for place in range(1, len(parts), 2):
        if parts[place - 1][-1:].isalnum():
            parts[place - 1] += "\\ "
        if parts[place + 1][:1].isalnum():
            parts[place + 1] = "\\ " + parts[place + 1]
    return "".join(parts)


def _read(app: Any, name: str, source: list[str]) -> None:
    if MARK.search(source[0]):  # a default or a type may stand in any other module
        for file in LIBRARY.rglob("*.py"):
            app.env.note_dependency(str(file))
    source[0] = page(source[0])


def _process(app: Any, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    own = what != "method" or getattr(found, "__doc__", None)  # else it is that of the method of a base, often torch's
    lines[:] = plain(lines) if own else []


def _signature(app: Any, what: str, name: str, found: object, options: object, text: str, gives: str) -> Any:
    """A default without a literal, such as a function, as "...": Sphinx cannot read a signature that has it."""
    return NO_LITERAL.sub("...", text or "") or text, gives


def _source_of(app: Any, module: str, name: str) -> str:
    """The module whose source code is shown for a name: one of reidlib, even if the value is of a foreign type. A value
    that is neither a class nor a function, such as the default of a field, stands where it is documented."""
    value: Any = import_module(module)
    for part in name.split("."):
        value = getattr(value, part, None)
    defined = (hasattr(value, "__qualname__") and value.__module__) or ""
    return defined if defined.startswith("reidlib") else module


class _Data(DataDocumenter):
    """A constant, without a value that nobody reads: longer than a line, or with a path of this machine."""

    def should_suppress_value_header(self) -> bool:
        shown = repr(self.object)
        here = any(place in shown for place in (str(LIBRARY), sys.prefix))
        return super().should_suppress_value_header() or len(shown) > LONG or here


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_autodocumenter(_Data, override=True)
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _process)
    app.connect("autodoc-process-signature", _signature)
    app.connect("viewcode-follow-imported", _source_of)
    return {"parallel_read_safe": True}
