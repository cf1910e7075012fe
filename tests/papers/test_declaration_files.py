"""results/claims.tsv and results/not-retrained.tsv: every line names what exists, and a bad line is named."""

import pytest

from reidlib import papers
from reidlib.papers import standins
from reidlib.runs.run import reported_numbers
from reidlib.spec import ReidError

TABLES = papers.tables()
CLAIM = ("safenet", "table5", "g4,g3", "g4", "mAP", "", "more is better", "§5", "", "")
COLUMNS = ("paper", "table", "better", "worse", "metric", "datasets", "quote", "where", "untestable", "control")


def test_every_claim_compares_two_rows_of_a_declared_table():
    claims = papers.claims()
    assert len({(c.paper, c.table, c.better, c.worse, c.metric, c.datasets, c.quote) for c in claims}) == len(claims), (
        "one twice"
    )
    for claim in claims:
        table = TABLES[f"{claim.paper}/{claim.table}"]
        if not claim.untestable:
            assert {claim.better, claim.worse} <= {row.label for row in table.rows}, claim
            assert claim.better != claim.worse, claim
        assert set(claim.datasets) <= set(table.datasets), claim


def test_claims_about_testing_rest_on_the_control_of_that_test():
    """Where two rows differ in re-ranking or in the number of query images, the line names that control."""
    asked = 0
    for claim in papers.claims():
        if claim.untestable:
            continue
        table = TABLES[f"{claim.paper}/{claim.table}"]
        sides = [next(row for row in table.rows if row.label == label) for label in (claim.better, claim.worse)]
        better, worse = (table.settings(row, "full").testing for row in sides)
        if better.multi_query != worse.multi_query:
            assert claim.control == standins.MULTI, claim
        elif better.reranking != worse.reranking:
            assert claim.control == standins.LADDER[-1].label, claim
        else:
            assert claim.control not in (standins.MULTI, standins.LADDER[-1].label), claim
            continue
        asked += 1
    assert asked


def test_every_paper_has_claims_and_all_claims_are_of_papers():
    declared = {table.paper for table in TABLES.values()} - {"standins"}
    assert {claim.paper for claim in papers.claims()} == declared
    assert sum((papers.claims(paper) for paper in sorted(declared)), []) == papers.claims()
    assert papers.claims("standins") == []


def test_every_row_that_is_not_retrained_is_printed():
    lines = papers._read("not-retrained.tsv", ("paper", "table", "row", "reason"))
    assert {(line["paper"], line["table"]) for _, line in lines} <= {(t.paper, t.name) for t in TABLES.values()}
    for table in TABLES.values():
        named = papers.not_retrained(table)
        if named:
            printed = set().union(*(reported_numbers(table, dataset).index for dataset in table.datasets))
            assert set(named) <= printed, table.slug
    assert len(lines) == len({(line["paper"], line["table"], line["row"]) for _, line in lines}), "one twice"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes lines of results/claims.tsv of another checkout, under the right header."""
    monkeypatch.setenv("REID_HOME", str(tmp_path))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "reported.tsv").write_text("", encoding="utf-8")  # makes it a checkout

    def write(*lines, columns=COLUMNS):
        text = "".join("\t".join(line) + "\n" for line in (columns, *lines))
        (tmp_path / "results" / "claims.tsv").write_text(text, encoding="utf-8")

    return write


def test_a_line_is_read_as_it_stands(write):
    write(CLAIM, (*CLAIM[:5], "market1501,msmt17", *CLAIM[6:]))
    everywhere, two = papers.claims("safenet")
    assert (everywhere.better, everywhere.quote, everywhere.datasets) == ("g4,g3", "more is better", ())
    assert two.datasets == ("market1501", "msmt17") and papers.claims("hamr") == []


@pytest.mark.parametrize(
    "line, why",
    [
        (CLAIM[:-1], "line 2: 9 columns, not 10"),
        ((*CLAIM, "more"), "line 2: 11 columns, not 10"),
        ((*CLAIM[:4], "map", *CLAIM[5:]), "line 2: unknown metric 'map'; choose one of rank1, rank5"),
        ((*CLAIM[:6], " ", *CLAIM[7:]), "line 2: nothing in column 'quote'"),
        ((*CLAIM[:9], "+Sunshine"), "line 2: unknown control .*Sunshine.*; choose one of .*Reranking"),
        ((*CLAIM[:2], "", "", "", *CLAIM[5:8], "no such images", "+Reranking"), "line 2: §5: .* rests on no control"),
        ((*CLAIM[:8], "no such images", ""), "line 2: §5: a claim names two rows and a metric, or the reason"),
        ((*CLAIM[:3], "", *CLAIM[4:]), "line 2: §5: a claim names two rows and a metric, or the reason"),
    ],
)
def test_a_bad_line_is_named(write, line, why):
    write(line)
    with pytest.raises(ReidError, match=f"claims.tsv, {why}"):
        papers.claims()


def test_a_claim_may_be_declared_not_testable(write):
    write((*CLAIM[:2], "", "", "", *CLAIM[5:8], "the images are not public", ""))
    (claim,) = papers.claims("safenet")
    assert claim.comparison == claim.untestable == "the images are not public"


def test_another_header_and_a_missing_file_are_named(write):
    write(columns=COLUMNS[:-1])
    with pytest.raises(ReidError, match="claims.tsv: columns .* restore the file"):
        papers.claims()
    with pytest.raises(ReidError, match="not-retrained.tsv: cannot be read .*; set REID_HOME to a checkout"):
        papers.not_retrained(TABLES["safenet/table5"])
