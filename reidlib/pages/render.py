"""Turns what the pages return into HTML. All markup is in templates.jinja, and only this module fills it in.

A function of `reidlib.pages` returns a `TableView` (a DataFrame with its caption and the kinds of its columns), one of
the small pieces of text below, a `Page` of several pieces, or a Matplotlib figure. A notebook shows a piece as the
value of a cell. `str(piece)` is its plain text. All texts are escaped.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import jinja2
import pandas as pd
from markupsafe import Markup

from reidlib.evaluation.statistics import Interval, Spread
from reidlib.pages.formatting import count, interval, number, spread

KINDS = ("number", "text", "label", "quote", "reason", "code")
"""Kinds of columns: numbers are aligned on the right; text and labels on the left, and only labels wrap; quotes and
reasons (the last column of a table) are sentences; code is a key or a command line."""


class Strong(str):
    """Words of a sentence that are set in bold."""


class Code(str):
    """Words of a sentence that are code: the name of a budget, a key."""


class Link(str):
    """Words of a sentence that lead to an address."""

    address: str

    def __new__(cls, text: str, address: str) -> Link:
        link = super().__new__(cls, text)
        link.address = address
        return link


@dataclass(eq=False, repr=False)
class Cell(str):
    """The text of a cell with something besides it.

    note:    a smaller line below the text.
    grey:    for a difference that cannot be told from zero.
    state:   says why there is no value ("not run"); see `state`.
    across:  this cell covers the rest of the row.
    address: where it links to: another page, or "#" and the id of a heading on the same one.
    """

    text: InitVar[str]
    _: KW_ONLY
    note: str = ""
    grey: bool = False
    state: bool = False
    across: bool = False
    address: str = ""

    def __new__(cls, text: str, **_: Any) -> Cell:
        return super().__new__(cls, text)


def state(text: str, columns: int) -> list[Cell]:
    """One state for several columns of a row, which are shown as one wide cell."""
    return [Cell(text, state=True)] * columns


@dataclass(frozen=True)
class Column:
    """A column of a table.

    kind:     one of `KINDS`.
    group:    heading above this column and its neighbours of the same group.
    reported: the paper prints these numbers. They were measured on other images and stand on grey.
    """

    name: str
    kind: str = "number"
    group: str = ""
    reported: bool = False


class Piece:
    """A part of a page. Subclasses name their template."""

    template: ClassVar[str]

    def html(self) -> str:
        return _filled(self.template, piece=self)

    def _repr_html_(self) -> str:
        return self.html()

    def __str__(self) -> str:
        return Markup(self.html().replace("<", " <")).striptags()

    def __repr__(self) -> str:
        """Short: a notebook keeps this text beside the HTML."""
        return f"<{type(self).__name__}: {' '.join(str(self).split())[:60]}>"


# --- tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class TableView(Piece):
    """A DataFrame and how it is shown.

    frame:   one row a line of the table. Its values are numbers, text, `Cell`, `Interval` or `Spread`.
    columns: one for each column of the frame.
    merged:  where neighbouring lines agree in this many first columns, these are shown once for all of them.
    over:    the first column has no place of its own: what neighbouring lines share of it stands above them, over the
             whole width. The CSV file has it as a column.
    below:   paragraphs under the table.
    sortable: whether the reader can sort it by a column, which book/_static/sort.js does; without merged cells only.
    """

    frame: pd.DataFrame
    columns: tuple[Column, ...]
    caption: str
    merged: int = 0
    over: bool = False
    below: tuple[str, ...] = ()
    sortable: bool = False
    template: ClassVar[str] = "table"

    def __str__(self) -> str:
        lines = ["\t".join(texts) for texts in (self.header(), *self.texts())]
        return "\n".join([self.caption, *lines, *self.below])

    def header(self) -> list[str]:
        return [": ".join(filter(None, (column.group, column.name))) for column in self.columns]

    def texts(self) -> list[list[str]]:
        """The cells as they are shown, without notes, line by line; the state of several columns is repeated."""
        return [[shown(value) for value in (line[:1] if _is(line[0], "across") else line)] for line in self.lines()]

    def lines(self) -> list[tuple]:
        return list(self.frame.itertuples(index=False, name=None))

    # What the template reads.

    def head(self) -> list[list[_Shown]]:
        """One line of headings, or two where there are groups."""
        columns_ = self.columns[self.over :]
        grouped = any(column.group for column in columns_)
        first: list[_Shown] = []
        for group, columns in groupby(columns_, key=lambda column: (column.group, column.reported)):
            if group[0]:
                css = f"group{' reported' * group[1]}"
                first.append(_Shown(group[0], css, scope="colgroup", columns=len(list(columns))))
            else:
                first += [_Shown(column.name, _css(column), rows=1 + grouped, scope="col") for column in columns]
        second = [_Shown(column.name, _css(column), scope="col") for column in columns_ if column.group]
        return [first, second] if grouped else [first]

    def body(self) -> Iterator[list[_Shown]]:
        """The cells of each line, without those that another one covers."""
        shared = self.merged or int(self.over)
        for _, group in groupby(enumerate(self.lines()), key=lambda entry: entry[1][:shared] or entry[0]):
            lines = [line for _, line in group]
            if self.over:
                name = _Shown.of(lines[0][0], self.columns[0], heads=True)
                yield [replace(name, css=f"{name.css} across", columns=len(self.columns) - 1)]
                lines = [line[1:] for line in lines]
            for place, line in enumerate(lines):
                cells: list[_Shown] = []
                for column, value, before in zip(self.columns[self.over :], line, (None, *line), strict=False):
                    if _is(value, "state") and value is before:
                        cells[-1].columns += 1
                        continue
                    cells.append(_Shown.of(value, column, heads=not cells))
                    if _is(value, "across"):
                        cells[-1].columns = len(line)
                        break
                for cell in cells[: self.merged]:
                    cell.rows = len(lines)
                yield cells[self.merged :] if place else cells

    @property
    def file_name(self) -> str:
        """Of the CSV file: the caption in lower-case letters, digits and hyphens."""
        return re.sub(r"[^a-z0-9]+", "-", self.caption.lower()).strip("-")[:80].rstrip("-") + ".csv"

    def csv_base64(self) -> str:
        """The table as CSV: numbers with six digits, merged cells repeated, notes in brackets."""
        lines = [[_plain(value) for value in line] for line in self.lines()]
        csv = pd.DataFrame(lines, columns=self.header(), dtype=object).to_csv(index=False, lineterminator="\n")
        return base64.b64encode(csv.encode()).decode()


def table(
    columns: Sequence[Column | str] | Mapping[str, str],
    lines: Iterable[Sequence[Any]],
    caption: str,
    *,
    merged: int = 0,
    over: bool = False,
    below: Sequence[str] = (),
    sortable: bool = False,
) -> TableView:
    """A table from its lines.

    columns: a kind by name, or one entry a column. An entry that is only a name holds numbers, the first one labels.
    """
    if isinstance(columns, Mapping):
        made = [Column(name, kind) for name, kind in columns.items()]
    else:
        kinds = ["label", *["number"] * len(columns)]
        made = [Column(c, kind) if isinstance(c, str) else c for c, kind in zip(columns, kinds, strict=False)]
    names: Any = [column.name for column in made]
    if any(column.group for column in made):
        names = pd.MultiIndex.from_tuples([(c.group, c.name) if c.group else (c.name, "") for c in made])
    frame = pd.DataFrame([list(line) for line in lines], columns=names, dtype=object)
    return TableView(frame, tuple(made), caption, merged, over, tuple(below), sortable)


def shown(value: Any) -> str:
    """A value as its cell shows it."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Interval):
        return interval(value)
    if isinstance(value, Spread):
        return spread(value)
    return number(value) if isinstance(value, float) else count(value)


def _is(value: Any, what: str) -> bool:
    """Whether a value of a table is a `Cell` with this mark."""
    return isinstance(value, Cell) and getattr(value, what)


def _plain(value: Any) -> str:
    """A value in a CSV file."""
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    if isinstance(value, int):
        return str(value)
    note = f" ({value.note})" if isinstance(value, Cell) and value.note else ""
    return re.sub(r"−(?=\d)", "-", shown(value)) + note


@dataclass
class _Shown:
    """One cell of a table for the template."""

    text: str
    css: str = ""
    note: str = ""
    address: str = ""
    scope: str = ""
    columns: int = 1
    rows: int = 1

    @classmethod
    def of(cls, value: Any, column: Column, *, heads: bool) -> _Shown:
        cell = value if isinstance(value, Cell) else Cell(shown(value))
        css = _css(column) + " state" * cell.state + " inside-spread" * cell.grey + " across" * cell.across
        return cls(str(cell), css, cell.note, cell.address, scope="row" if heads else "")


def _css(column: Column) -> str:
    assert column.kind in KINDS, column
    return f"{column.kind}{' reported' * column.reported}"


# --- text -------------------------------------------------------------------------------------------------------------


class Text(Piece):
    """A paragraph. parts: str, `Strong`, `Code` or `Link`. css: "lead", "caption", "note" or nothing."""

    template: ClassVar[str] = "text"

    def __init__(self, *parts: str, css: str = "") -> None:
        self.parts, self.css = parts, css

    def __str__(self) -> str:
        return "".join(self.parts)


def caption(text: str) -> Text:
    """A line above a sheet of images or a list that says what it shows. A table has a caption of its own."""
    return Text(text, css="example")


class Banner(Text):
    """Opens a page: says whose images its numbers come from. source: "real" or "stand-in"."""

    template: ClassVar[str] = "banner"

    def __init__(self, source: str, *parts: str) -> None:
        super().__init__(*parts, css="real-banner" if source == "real" else "standin-banner")


@dataclass(frozen=True, repr=False)
class Fragment(Piece):
    """A piece made by one of the functions below. kind: the name of its template. values: what that takes."""

    kind: str
    values: Mapping[str, Any]

    def html(self) -> str:
        return _filled(self.kind, **self.values)


def heading(text: str, anchor: str) -> Fragment:
    """The heading of a section. anchor: the id to which links lead."""
    return Fragment("heading", {"text": text, "anchor": anchor})


def bullets(items: Sequence[Text], before: str = "") -> Fragment:
    """A list, with a paragraph before it."""
    return Fragment("bullets", {"items": items, "before": before})


def terms(entries: Mapping[str, str]) -> Fragment:
    """Names and what stands for each: what all lines of a table share."""
    return Fragment("terms", {"entries": entries})


def ranked_list(caption: str, boxes: Sequence[Mapping[str, str]]) -> Fragment:
    """A query and the images found for it, as a strip of boxes.

    boxes: verdict ("query", "right", "wrong" or "ignored"), sign, identity, camera and rank of each image.
    """
    return Fragment("ranked_list", {"caption": caption, "boxes": boxes})


def legend(colours: Mapping[str, tuple[int, int, int]]) -> Fragment:
    """Colours (red, green, blue) with their names."""
    return Fragment("legend", {"colours": colours})


def tiles(entries: Mapping[str, str]) -> Fragment:
    """Numbers in large print, each with what it counts below it."""
    return Fragment("tiles", {"entries": entries})


def buttons(links: Sequence[Link]) -> Fragment:
    """Where a reader may go from here."""
    return Fragment("buttons", {"links": links})


def cards(entries: Sequence[Mapping[str, Any]]) -> Fragment:
    """Pages in short, beside each other, below each other on a phone.

    entries: title, picture (the address of an image), alt (what it shows), body (`Text`s) and link (a `Link`) of each.
    """
    return Fragment("cards", {"cards": entries})


def row_filter() -> Fragment:
    """The place of a box that filters the lines of all tables below it, which book/_static/filter.js makes."""
    return Fragment("row_filter", {})


def listing(text: str) -> Fragment:
    """Lines to be copied as they are."""
    return Fragment("listing", {"text": text})


def description(text: str) -> str:
    """What a page is about, for search engines, in its head."""
    return _filled("description", text=text)


@dataclass(frozen=True, repr=False)
class Page(Piece):
    """Several pieces, one below the other. folded: words that are shown in their place until the reader opens them."""

    pieces: Sequence[Piece]
    folded: str = ""

    def html(self) -> str:
        body = "\n".join(piece.html() for piece in self.pieces)
        return _filled("folded", summary=self.folded, body=Markup(body)) if self.folded else body

    def __str__(self) -> str:
        return "\n".join(filter(None, [self.folded, *map(str, self.pieces)]))

    def tables(self) -> list[TableView]:
        """Those of folded pieces too."""
        own = [[piece] if isinstance(piece, TableView) else getattr(piece, "tables", list)() for piece in self.pieces]
        return sum(own, [])


# --- templates --------------------------------------------------------------------------------------------------------


def _marked(parts: Iterable[str]) -> list[tuple[str, str, str]]:
    """(element or nothing, text, address or nothing) of each part of a sentence."""
    elements = {Strong: "strong", Code: "code", Link: "a"}
    return [(elements.get(type(part), ""), str(part), getattr(part, "address", "")) for part in parts]


_TEMPLATES = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
_TEMPLATES.filters["marked"] = _marked
_MACROS = _TEMPLATES.from_string(
    Path(__file__).with_name("templates.jinja").read_text(encoding="utf-8").replace("\n", "")
).module


def _filled(macro: str, **values: Any) -> str:
    return str(getattr(_MACROS, macro)(**values))
