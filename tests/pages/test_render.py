"""The renderer: headings, merged cells, escaping, the CSV beside a table; and that no other module writes HTML."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reidlib import pages
from reidlib.evaluation.statistics import Interval, Spread
from reidlib.pages import banners
from reidlib.pages.render import (
    Banner,
    Cell,
    Code,
    Column,
    Page,
    Strong,
    Text,
    bullets,
    caption,
    heading,
    legend,
    state,
    table,
    terms,
)

NASTY = "<script>\"&'</script>"
VIEW = table(
    [Column("row", "label"), Column("R1", group="paper", reported=True), Column("mAP", group="paper", reported=True)]
    + [Column("R1", group="here"), Column("mAP", group="here")],
    [
        [Cell("a", note="first"), 81.25, np.nan, 12.345678, Interval(1.0, 1.095, 4, 3)],
        ["b", *state("lost", 2), *state("lost", 2)],
        [Cell("over all", across=True), "", "", "", ""],
        ["c", 1.0, 2.0, Spread(5.0, 1.26, 3), Cell("−0.1", grey=True)],
    ],
    "A caption: of rows & <numbers>",
    below=["A note."],
)


class Cells(HTMLParser):
    """(element, attributes, text) of every cell, line by line."""

    def __init__(self, html):
        super().__init__()
        self.lines = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.lines.append([])
        if tag in ("td", "th"):
            self.lines[-1].append([tag, dict(attributes), ""])

    def handle_data(self, data):
        if self.lines and self.lines[-1]:
            self.lines[-1][-1][2] += data.strip()


def cells(view):
    return Cells(view.html().split('<p class="table-csv">')[0]).lines


def test_headings_have_scopes_and_groups_span_their_columns():
    first, second = cells(VIEW)[:2]
    assert [(c[2], c[1]["scope"], c[1].get("colspan"), c[1].get("rowspan")) for c in first] == [
        ("row", "col", None, "2"),
        ("paper", "colgroup", "2", None),
        ("here", "colgroup", "2", None),
    ]
    assert [c[2] for c in second] == ["R1", "mAP", "R1", "mAP"] and {c[1]["scope"] for c in second} == {"col"}
    assert ["reported" in c[1]["class"] for c in first] == [False, True, False]
    assert all(line[0][0] == "th" and line[0][1]["scope"] == "row" for line in cells(VIEW)[2:])


def test_numbers_states_and_wide_cells_are_shown_as_meant():
    a, b, over, c = cells(VIEW)[2:]
    assert [cell[2] for cell in a] == ["afirst", "81.2", "–", "12.3", "[−2.0, 4.0]"]
    assert [(cell[2], cell[1].get("colspan")) for cell in b] == [("b", None), ("lost", "2"), ("lost", "2")]
    assert [(cell[2], cell[1].get("colspan")) for cell in over] == [("over all", "5")]
    assert c[3][2] == "5.0 ± 1.3" and "inside-spread" in c[4][1]["class"]
    assert [cell[1]["class"].split()[0] for cell in a] == ["label"] + ["number"] * 4
    assert VIEW.texts()[1] == ["b"] + ["lost"] * 4 and VIEW.texts()[2] == ["over all"]


def test_a_first_column_can_stand_over_its_lines_and_is_one_of_the_csv_file():
    lines = [[Cell("a", note="n", address="a.html"), "x", 1], [Cell("a", note="n"), "y", 2], ["b", "x", 3]]
    view = table([Column("row", "label"), Column("on", "text"), "n"], lines, "t", over=True)
    html = view.html()
    assert re.findall(r"<th scope=\"col\"[^>]*>(.*?)</th>", html) == ["on", "n"]
    shown = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)[1:]]
    named = '<span><a href="a.html">a</a><br><small>n</small></span>'
    spans = [[f"<span>{text}</span>" for text in cells] for cells in (["x", "1"], ["y", "2"], ["b"], ["x", "3"])]
    assert shown == [[named], *spans]
    assert html.count('colspan="2"') == 2 == html.count("label across")
    assert base64.b64decode(view.csv_base64()).decode() == "row,on,n\na (n),x,1\na (n),y,2\nb,x,3\n"


def test_equal_first_cells_are_merged_downwards():
    view = table(
        [Column("x", "label"), Column("y", "label"), "n"], [["a", "b", 1], ["a", "b", 2], ["a", "c", 3]], "t", merged=2
    )
    lines = cells(view)[1:]
    assert [len(line) for line in lines] == [3, 1, 3]
    assert [cell[1].get("rowspan") for cell in lines[0]] == ["2", "2", None]
    assert lines[0][0][1]["scope"] == "rowgroup" and lines[2][0][1]["scope"] == "row"
    assert [line[0] for line in view.texts()] == ["a", "a", "a"], "the data keep every value"


def test_the_csv_beside_a_table_holds_its_numbers():
    name, code = re.search(
        r'download="([^"]+)" href="data:text/csv;charset=utf-8;base64,([^"]+)"', VIEW.html()
    ).groups()
    assert name == "a-caption-of-rows-numbers.csv"
    frame = pd.read_csv(io.BytesIO(base64.b64decode(code)))
    assert frame.columns.tolist() == ["row", "paper: R1", "paper: mAP", "here: R1", "here: mAP"]
    assert frame["row"].tolist() == ["a (first)", "b", "over all", "c"]
    assert frame["here: R1"].tolist()[:2] == ["12.3457", "lost"] and frame["here: mAP"][3] == "-0.1"
    assert np.isnan(frame["paper: mAP"].iloc[[0]].astype(float)).all()


def test_every_text_is_escaped():
    view = table(
        [Column(NASTY, "label"), Column(NASTY, group=NASTY)], [[Cell(NASTY, note=NASTY, address=NASTY), 1]], NASTY
    )
    texts = [Text(NASTY, Strong(NASTY), Code(NASTY)), Banner("real", NASTY), heading(NASTY, NASTY), caption(NASTY)]
    page = Page([view, *texts, bullets([Text(NASTY)], NASTY), terms({NASTY: NASTY}), legend({NASTY: (1, 2, 3)})])
    html = page.html()
    assert "<script>" not in html and html.count("&lt;script&gt;") > 15
    assert "<strong>&lt;script" in html and "<code>&lt;script" in html
    assert NASTY in str(page) and len(repr(page)) < 90


@pytest.mark.parametrize("source, css", [("stand-in", "standin-banner"), ("real", "real-banner")])
def test_a_banner_has_the_class_that_the_books_check_looks_for(source, css):
    assert banners.hours(source).html().startswith(f'<div class="{css}">')


def test_no_module_writes_html_and_only_the_renderer_fills_in_templates():
    markup = re.compile(
        r"</?(table|thead|tbody|tr|td|th|div|span|p|ul|ol|li|dl|dt|dd|h\d|a|br|small|strong|code)\b[^\n]*>"
    )
    files = sorted(Path(pages.__file__).parent.glob("*.py"))
    wrong = {file.name: found[0] for file in files if (found := markup.search(file.read_text(encoding="utf-8")))}
    assert not wrong
    assert [f.name for f in files if re.search(r"^import html\b|^from html\b|jinja2", f.read_text(), re.MULTILINE)] == [
        "render.py"
    ]
