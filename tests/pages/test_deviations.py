"""Nothing assumed may be missing from the page, whatever file declares it; and the verdicts of "Claims" add up."""

import importlib
import re
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass

import pandas as pd
import pytest
from markupsafe import escape
from scipy import stats

from reidlib import papers, paths
from reidlib.evaluation.statistics import Interval
from reidlib.pages import banners, claims, deviations, render
from reidlib.pages.claims import Decision
from reidlib.pages.declared import all_settings
from reidlib.pages.formatting import in_order
from reidlib.pages.tables import NOT_RUN
from reidlib.spec import Assumed, Claim, ReidError, Stated, Table

NAMES = list(dict.fromkeys(table.paper for table in papers.tables().values()))


def facts(name):
    return pd.read_csv(paths.home() / "results" / name, sep="\t", dtype=str, keep_default_na=False, quoting=3)


CONFLICTS, CHOSEN = facts("conflicts.tsv"), facts("deviations.tsv")


def module(name):
    return importlib.import_module(f"reidlib.papers.{name}")


def marked(value, kind, seen):
    """Every `Assumed` or `Stated` that can be reached from a value, by no knowledge of what holds it."""
    if isinstance(value, kind):
        yield value
    elif id(value) in seen:
        return
    elif isinstance(value, Mapping):
        seen.add(id(value))
        for name, entry in value.items():
            if name != "smoke":  # the budget of the tests, which no page shows
                yield from marked(entry, kind, seen)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from marked(entry, kind, seen)
    elif is_dataclass(value) and not isinstance(value, type):
        seen.add(id(value))
        for part in fields(value):
            yield from marked(getattr(value, part.name), kind, seen)


def others(name):
    """What a paper's module holds of other papers' tables: they are on the pages of those."""
    return {id(table) for table in papers.tables().values() if table.paper != name}


def behind(name):
    """The module of a paper and those of the models that its rows build."""
    tables = [value for value in vars(module(name)).values() if isinstance(value, Table)]
    models = {settings.model.__module__ for table in tables for settings in all_settings(table)}
    return [module(name), *(sys.modules[model] for model in models)]


@pytest.mark.parametrize("name", NAMES)
def test_every_assumption_of_a_paper_is_on_the_page(name):
    shown = deviations.section(deviations.gather(module(name), CONFLICTS), CHOSEN).html()
    declared = [
        value
        for source in behind(name)
        for variable, content in vars(source).items()
        if variable != "SMOKE"
        for value in marked(content, Assumed, others(name))
    ]
    assert declared
    assert [value for value in declared if escape(value.because) not in shown] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_stated_value_is_on_the_page(name):
    shown = deviations.section(deviations.gather(module(name), CONFLICTS), CHOSEN).html()
    assert [
        value for value in marked(vars(module(name)), Stated, others(name)) if escape(value.where) not in shown
    ] == []


def test_a_stated_value_that_a_budget_changes_is_shown_as_such():
    found = deviations.gather(module("safenet"), CONFLICTS)
    published = next(said for name, said, budget, _ in found.lines["budgets"] if (name, budget) == ("epochs", "small"))
    assert published == "80" and published.note == "stated (§4.1: 80 epochs)"
    stated = deviations.section(found, CHOSEN).tables()[1].frame
    assert set(stated["changed by a budget"][stated["where"] == "§4.1: 80 epochs"]) == {"small, medium"}


def test_rows_as_released_say_what_they_change():
    found = deviations.gather(module("hamr"), CONFLICTS)
    differs = {variant: changed for variant, _, changed, _ in found.lines["released"]}
    assert differs["as-released: mirror image added"] == "test: mirror: off → yes"
    assert "nothing" not in differs.values()
    rows = [row for table in papers.tables().values() if table.paper == "hamr" for row in table.rows]
    assert {row.variant for row in rows if row.variant.startswith("as-released")} == set(differs)


def test_the_overview_counts_what_the_sections_list():
    found = [deviations.gather(module(name), CONFLICTS) for name in in_order(NAMES)]
    for paper, (name, *numbers) in zip(found, deviations.counts(found).lines(), strict=True):
        section = deviations.section(paper, CHOSEN)
        ten = [10] if paper.name in set(CHOSEN["paper"]) else []  # not of the study's own tables
        assert [*ten, *filter(None, numbers)] == [len(view.frame) for view in section.tables()]
        assert section.pieces[0].values["anchor"] == f"deviations-{paper.name}"
        assert name.address == f"#deviations-{paper.name}"


def test_contradictions_name_papers_and_tables_that_exist():
    for line in CONFLICTS.itertuples():
        known = {table.name for table in papers.tables().values() if table.paper == line.paper} | {"recipe"}
        assert known > {"recipe"} and set(line.tables.split()) <= known
        assert re.fullmatch(r"L\d+", line.line) and line.what.endswith(".") and line.here.endswith(".")


def test_ten_of_each_paper_come_first_and_each_has_its_entry():
    assert set(CHOSEN["paper"]) == {name for name in NAMES if name != "standins"}
    for name, chosen in CHOSEN.groupby("paper"):
        found = deviations.gather(module(name), CONFLICTS)
        assert len(chosen) == 10 and not chosen.duplicated(["kind", "detail"]).any()
        view, *_ = deviations.section(found, CHOSEN).tables()
        assert list(view.frame["what it can change"]) == list(chosen["why"])
        assert all(view.frame["here"].str.len())
        changed = {str(line[0]) for line in found.lines["budgets"]}
        assert set(chosen["detail"][chosen["kind"] == "budgets"]) <= changed
        lines = CONFLICTS["line"][CONFLICTS["paper"] == name]
        for detail in chosen["detail"][chosen["kind"] == "contradicted"]:
            assert list(lines).count(detail) == 1, detail


def test_the_reasons_of_the_ten_are_short_sentences_of_their_own():
    assert CHOSEN["why"].is_unique and CHOSEN["why"].str.len().max() <= 150
    assert CHOSEN["why"].str.fullmatch(r"[A-Z].*\.").all() and set(CHOSEN["kind"]) <= set(deviations.KINDS)


def test_an_entry_that_is_gone_is_said(found_of_hamr):
    with pytest.raises(ReidError, match="results/deviations.tsv: hamr has no entry 'gone'"):
        found_of_hamr.entry("assumed", "gone")


def test_an_entry_of_each_kind_says_what_is_done_here(found_of_hamr):
    def here(kind, detail):
        return found_of_hamr.entry(kind, detail)[1]

    assert here("budgets", "epochs") == "150 → small: 12; medium: 8"
    assert here("assumed", "recipe: pad") == "10"
    assert here("released", "as-released: mirror image added") == "test: mirror: off → yes"
    assert here("contradicted", "L1033").endswith("the IDE is a variant.")
    assert deviations.gather(module("hamr"), CONFLICTS, ["full"]).entry("budgets", "epochs")[1] == "as in the paper"


@pytest.fixture(scope="module")
def found_of_hamr():
    return deviations.gather(module("hamr"), CONFLICTS)


def test_the_box_filters_the_lines_of_the_tables_below_it(in_browser):
    """All words, in any order, small or capital, those of the caption too; not above it, nor where cells are merged."""

    def view(name, lines, **more):
        return render.table(["row", "value"], lines, name, **more).html()

    above = view("above", [["alpha", "1"]])
    two = view("First", [["alpha", "10"], ["Beta", render.Cell("20", note="alpha")]])
    two += render.Page([render.table(["row", "value"], [["gamma", "1"]], "Second")], "folded: 1").html()
    merged = view("merged", [["gamma", "1"], ["gamma", "2"]], merged=1)
    script = (paths.home() / "book" / "_static" / "filter.js").read_text(encoding="utf-8")
    press = """addEventListener("DOMContentLoaded", function () {
      const box = document.querySelector("div.filter input");
      const shown = e => !e.closest("[hidden], details:not([open])");
      const said = [document.querySelector("label").control === box];
      for (const words of ["", "ALPHA", "alpha  20", "second", "first gamma", ""]) {
        box.value = words;
        box.dispatchEvent(new Event("input"));
        said.push([document.querySelector("output").value,
                   Array.from(document.querySelectorAll("tbody tr")).filter(shown).map(e => e.cells[0].innerText),
                   Array.from(document.querySelectorAll(".table-csv")).filter(shown).length]);
      }
      document.body.innerText = JSON.stringify(said);
    });"""
    tables = f"{above}{render.row_filter().html()}{two}{merged}"
    labelled, *found = in_browser(f"{tables}<script>{script}</script><script>{press}</script>")
    every = ["3 of 3 lines", ["alpha", "alpha", "Beta", "gamma", "2"], 3]  # as at first: the second table is folded
    rest = ["gamma", "2"]
    assert labelled is True
    assert found == [
        every,
        ["2 of 3 lines", ["alpha", "alpha", "Beta", *rest], 3],
        ["1 of 3 lines", ["alpha", "Beta", *rest], 3],
        ["1 of 3 lines", ["alpha", "gamma", *rest], 3],
        ["0 of 3 lines", ["alpha", *rest], 2],
        every,
    ]


# Claims ---------------------------------------------------------------------------------------------------------------


def interval(mean):
    """A mean with an interval of one point on either side, from three seeds."""
    return Interval(mean, 1 / stats.t.ppf(0.975, 10), 10.0, 3)


@pytest.fixture
def found():
    first = Claim("hamr", "table6", better="a", worse="b", metric="mAP", quote="a is better", where="§4")
    second = Claim("hamr", "table6", better="c", worse="d", metric="rank1", quote="c is better", where="§4")
    third = Claim("safenet", "table5", better="a", worse="b", metric="mAP", quote="a wins", where="§4")
    return [
        Decision(first, "market1501", "supported", interval(2), 0.01),
        Decision(first, "dukemtmc", NOT_RUN),
        Decision(second, "market1501", "contradicted", interval(-2), 0.01),
        Decision(second, "dukemtmc", NOT_RUN),
        Decision(third, "market1501", "did not learn", interval(0.5)),
    ]


def test_verdicts_of_the_claims_add_up(found):
    view = claims.counts(found)
    assert view.header()[1:-2] == [*claims.VERDICTS] and claims.VERDICTS[-1] == NOT_RUN
    assert view.texts() == [
        ["SafeNet", "0", "0", "0", "0", "1", "0", "0", "1", "1"],
        ["HAMR", "1", "1", "0", "0", "0", "0", "2", "4", "2"],
        ["all", "1", "1", "0", "0", "1", "0", "2", "5", "3"],
    ]
    said = str(claims.summary(found))
    assert "3 claims, 5 comparisons" in said and "Of the 2 that could be tested: 1 supported, 1 contradicted" in said
    assert "Without a test: 1 did not learn, 2 not run" in said


def test_a_claim_stands_with_its_verdict_first_and_what_has_not_run_is_folded(found):
    home = "results/notebooks/stand-in/market1501/small/hamr/table6"
    page = claims.section("hamr", found, [home], budget="small", source="stand-in")
    (shown,) = page.tables()
    (first, *line), second = shown.lines()
    assert (first, first.note) == ("table6: a against b, mAP", "“a is better” (§4)")
    assert line[:3] == ["✓ supported", "+2.0", "0.010"]
    assert [cell.note for cell in line[:2]] == ["market1501", "[+1.0, +3.0]"]
    assert second[:3] == ("table6: c against d, rank-1", "✗ contradicted", "−2.0")
    assert first.address == "../stand-in/market1501/small/hamr/table6.html", "to the records behind it"
    rest = list(map(str, page.pieces[-1].pieces[0].values["items"]))
    assert rest[0] == f"… not run. {first}; dukemtmc. {first.note}" and len(rest) == 2
    assert page.html().count("<details") == 1 and "Claims without a measured difference: 2 not run" in page.html()


def test_every_declared_claim_is_on_the_page_whether_run_or_not(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_RESULTS", str(tmp_path))
    declared = papers.claims()
    found = [one for name in NAMES for one in claims.decisions(name, budget="small")]
    listed = [one.claim for one in found if one.dataset == first_dataset(one.claim)]
    assert sorted(listed, key=declared.index) == declared
    assert {one.verdict for one in found} <= {NOT_RUN, "not testable"}
    shown = "".join(claims.section(name, found, [], budget="small", source="stand-in").html() for name in NAMES)
    assert [claim for claim in declared if f"“{escape(claim.quote)}”" not in shown] == []
    assert "no record is here yet" in str(banners.claims("stand-in", "small", []))


def first_dataset(claim):
    return (claim.datasets or papers.table(f"{claim.paper}/{claim.table}").datasets)[0]
