"""The study's own tables: the ladder of the positive controls."""

import pandas as pd

from reidlib import papers, paths
from reidlib.papers import standins
from reidlib.runs.run import reported_numbers, runs_of


def test_each_trick_is_added_to_all_before_it():
    added = {
        "+Warmup": {"recipe"},
        "+Random erasing augmentation": {"recipe"},
        "+Label smoothing": {"losses"},
        "+Last stride=1": {"options"},
        "+BNNeck": {"options"},
        "+Center loss": {"losses"},
    }
    runs = {run.row.label: run for run in runs_of("standins/controls", budget="small")}
    for label, before in standins.CONTROL_STEPS[: len(added)]:
        ours, theirs = (runs[name].settings.trained() for name in (label, before))
        assert {part for part in ours if ours[part] != theirs[part]} == added[label], label
    ranked, strong = (runs[label] for label in ("+Reranking", "+Center loss"))
    assert ranked.network == strong.network and ranked.settings.testing.reranking == "k-reciprocal"
    multi = {run.row.label: run for run in runs_of("standins/controls-multi-query", budget="small")}
    assert {run.network for run in multi.values()} == {strong.network}, "one network is trained for all three"
    assert multi[standins.MULTI].protocol == "market1501-multi-query"


def test_the_ladder_joins_the_printed_numbers_row_by_row():
    file = pd.read_csv(paths.home() / "results" / "controls.tsv", sep="\t")
    for dataset in standins.CONTROLS.datasets:
        printed = reported_numbers(standins.CONTROLS, dataset)
        assert list(printed.index) == [label for label, _ in standins.TRICKS]
        own = file[(file["ladder"] == "bag-of-tricks") & (file["dataset"] == dataset)]
        assert printed["mAP"].to_dict() == own[own["metric"] == "mAP"].set_index("row")["value"].to_dict()
    assert reported_numbers(papers.table("standins/difficulty"), "market1501").empty
