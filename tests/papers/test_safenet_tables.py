"""Which tables of SafeNet share networks, and which printed numbers stand beside which of them."""

import pytest

from reidlib import papers
from reidlib.data import cuhk03
from reidlib.papers import safenet
from reidlib.runs.run import reported_numbers, runs_of

VARIANTS = ("as-published", "joined vector")
TABLES = [table for table in papers.tables().values() if table.paper == "safenet"]


def settings(table, label):
    (row,) = (row for row in table.rows if row.label == label and row.variant == VARIANTS[0])
    return table.settings(row, "small")


def networks(*tables):
    """The distinct ones at budget small, whatever the data set."""
    return {str(table.settings(row, "small").trained()) for table in tables for row in table.rows}


@pytest.mark.parametrize(
    "label, ablation",
    [
        ("Single scale", "g4"),
        ("Multiple scales (Global only)", "g4,g3,g2,g1"),
        ("SafeNet (ResNet-50)", "multi-global (C=256) + l1, l2"),
    ],
)
def test_table_3_has_the_networks_of_table_5_and_their_printed_numbers(label, ablation):
    assert settings(safenet.TABLE_3, label).trained() == settings(safenet.TABLE_5, ablation).trained()
    here, there = (reported_numbers(table, "market1501") for table in (safenet.TABLE_3, safenet.TABLE_5))
    for metric in ("rank1", "mAP"):
        assert here.loc[label, metric] == there.loc[ablation, metric]


def test_multi_query_is_another_test_of_the_same_networks():
    single, multi = (
        runs_of(f"safenet/{table.name}", budget="smoke") for table in (safenet.TABLE_3, safenet.TABLE_3_MULTI_QUERY)
    )
    assert [run.network for run in single][:4] == [run.network for run in multi]
    assert not {run.key for run in single} & {run.key for run in multi}
    assert {run.protocol for run in multi} == {"market1501-multi-query"}
    assert reported_numbers(safenet.TABLE_3_MULTI_QUERY, "market1501").loc["SafeNet (ResNet-50)", "mAP"] == 81.6


def test_the_descriptors_of_figure_5b_are_of_one_network():
    assert len(networks(safenet.FIGURE_5B)) == 1
    assert networks(safenet.FIGURE_5B) < networks(safenet.TABLE_5)


def test_the_networks_of_all_tables():
    """Eleven of Table 5; then ResNet-101, two variants, two anchor sizes, four dimensions, three anchors left out."""
    assert len(networks(safenet.TABLE_5)) == 11
    assert len(networks(*TABLES)) == 11 + 1 + 2 + 2 + 4 + 3


def test_the_joined_vector_is_another_test_of_table_5s_networks():
    table = safenet.TABLE_5_JOINED_VECTOR
    settings = [[table.settings(row, "small") for row in table.rows if row.variant == word] for word in VARIANTS]
    assert [s.trained() for s in settings[0]] == [s.trained() for s in settings[1]]
    assert networks(table) < networks(safenet.TABLE_5)
    assert {s.options.get("descriptor", "bottleneck") for s in settings[1]} == {"global"}
    printed = [reported_numbers(t, "market1501") for t in (table, safenet.TABLE_5)]
    assert printed[0].equals(printed[1].iloc[:7])


@pytest.mark.parametrize(
    "table, label",
    [
        (safenet.FIGURE_5A, "middle"),
        (safenet.FIGURE_5B, "bottleneck"),
        (safenet.FIGURE_5C, "1024"),
        (safenet.LEAVE_ONE_ANCHOR_OUT, "all three anchors"),
    ],
)
def test_the_final_model_has_its_printed_number_wherever_it_stands(table, label):
    assert settings(table, label).trained() == settings(safenet.TABLE_5, safenet.LAST).trained()
    printed = reported_numbers(table, "market1501")
    assert printed.loc[label, ["rank1", "rank5", "rank10", "mAP"]].tolist() == [90.2, 96.2, 97.5, 72.7]


@pytest.mark.parametrize("table", [safenet.TABLE_2, safenet.TABLE_2_FIVE_PAIRS], ids=lambda table: table.name)
def test_table_2_is_twenty_splits_of_each_kind_of_boxes(table):
    identities = {"table2": 1_260, "table2-five-pairs": 1_367}[table.name]
    splits = [cuhk03.VARIANTS[name] for name in table.datasets]
    assert len(splits) == len(set(splits)) == 40
    for name, (protocol, boxes, _) in zip(table.datasets, splits, strict=True):
        assert cuhk03.PUBLISHED[protocol, boxes]["train identities"] == identities
        assert table.printed_of(name) == (boxes,)
    rank1 = [reported_numbers(table, table.datasets[i]).loc["SafeNet (ResNet-50)", "rank1"] for i in (0, -1)]
    assert rank1 == [86.3, 84.0]


def test_all_tables_have_the_budgets_of_table_5():
    assert all(table.budgets is safenet.TABLE_5.budgets for table in TABLES)
