"""What the papers say of sizes, beside what is counted; the data files, beside the loaders."""

import re

import pandas as pd
import pytest

from reidlib import papers, paths
from reidlib.pages import systems as page
from reidlib.training.cost import Cost


def facts(name):
    return pd.read_csv(paths.home() / "results" / name, sep="\t", dtype=str, keep_default_na=False, quoting=3)


SAID, PRINTED = facts("system-statistics.tsv"), facts("dataset-statistics.tsv")


@pytest.fixture
def listed():
    return page.systems(papers.tables(), [("safenet/table5", "g4")])


def test_every_paper_and_every_model_class_is_counted(listed):
    declared = {
        (table.paper, (row.model or (row.base or table.base).model).__name__)
        for table in papers.tables().values()
        for row in table.rows
        if row.recipe.get("epochs") != 0 and "full" in table.budgets
    }
    assert {(system.paper, system.settings.model.__name__) for system in listed} == declared
    names = [system.name for system in listed if system.paper == "safenet"]
    assert names == ["SafeNet", "table5: g4"]


def test_the_page_sets_the_papers_number_beside_the_counted_one(listed, monkeypatch):
    monkeypatch.setattr(page, "cost", lambda settings, identities: Cost(30_000_000, 5_000_000, 3_850_000_000, 1024))
    shown = page.costs(listed, SAID, 751)
    lines, name = {}, ""
    for line in shown.texts():
        name = name if line[0].startswith("The paper: ") else line[0]
        lines[name] = lines.get(name, "") + " ".join(line)  # what the paper says follows the line of its system
    assert "= descriptor 1,024, stated (L672)" in lines["SafeNet"]
    assert "30.00 M" in lines["SafeNet"] and "25.00 M" in lines["SafeNet"] and "3.85 G" in lines["SafeNet"]
    assert "descriptor 1,024," not in lines["table5: g4"], "the paper's number is of the whole system"
    grn = next(line for name, line in lines.items() if name.startswith("GRN"))
    assert "≠ descriptor 2,048" in grn and "≈ 3.8 G multiply-adds" in grn


def test_what_the_papers_say_is_about_systems_that_are_declared(listed):
    known = {(system.paper, system.settings.model.__name__) for system in listed}
    assert set(zip(SAID["paper"], SAID["model"], strict=True)) <= known
    assert set(SAID["quantity"]) <= set(Cost._fields)
    assert set(SAID["kind"]) == {"stated", "implied"}


def test_published_counts_of_the_data_sets_by_hand():
    counts = page.published()
    assert counts["market1501"]["images"] == 32_668
    assert counts["market1501"]["identities"] == 1_501
    assert counts["dukemtmc"]["images"] == 36_411
    assert counts["dukemtmc"]["identities, distractors counted"] == 1_812
    assert counts["dukemtmc"]["identities, distractors left out"] == 1_404
    assert counts["msmt17"]["images"] == 126_441 and counts["msmt17"]["identities"] == 4_101
    assert counts["cuhk03"]["identities"] == 1_467 and counts[page.THREE_PAIRS]["identities"] == 1_360
    assert [counts[name]["cameras"] for name in ("market1501", "dukemtmc", "msmt17")] == [6, 8, 15]


def test_the_known_disagreements_and_no_others():
    counts = page.published()
    differ = [
        (line.paper, line.dataset, line.quantity, line.value)
        for line in PRINTED.itertuples()
        if line.value != str(counts[line.dataset].get(line.quantity, line.value))
    ]
    assert differ == [
        ("safenet", "market1501", "images", "32368"),
        ("fmn", "market1501", "images", "32688"),
        ("hamr", "cuhk03", "images, detected boxes", "13164"),
        ("safenet", page.THREE_PAIRS, "images, detected boxes", "12164"),
    ]


def test_every_printed_count_is_on_the_page():
    shown = page.datasets(PRINTED)
    assert set(PRINTED["dataset"]) <= set(page.published())
    assert all(re.fullmatch(r"L\d+", line.line) and line.words for line in PRINTED.itertuples())
    cells = [cell for line in shown.lines() for cell in line[3:]]
    assert sum("≠" in cell for cell in cells) == 4
    assert sum(len(re.findall(r"\bL\d+", cell.note)) for cell in cells) == len(PRINTED)
    assert [cell.note for cell in cells if cell == "32,368 ≠"] == ["L432"]
