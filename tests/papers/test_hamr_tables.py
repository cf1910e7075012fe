"""HAMR's rows: which networks the readings of the text are, and which tables share them."""

import pytest

from reidlib import losses, papers
from reidlib.models.ide import IDE
from reidlib.papers import hamr
from reidlib.runs import datasets
from reidlib.runs.run import runs_of


def settings(table, label, variant="as-published", budget="full"):
    (row,) = (row for row in table.rows if (row.label, row.variant) == (label, variant))
    return table.settings(row, budget)


@pytest.mark.parametrize("table", [hamr.TABLE_6, hamr.TABLE_7, hamr.TABLE_8], ids=lambda table: table.name)
def test_the_baseline_of_4_1_is_a_plain_classifier_of_stride_2(table):
    ide = settings(table, "Baseline", "IDE of §4.1")
    assert (ide.model, ide.options) == (IDE, {"last_stride": 2})
    assert [(name, loss.function, loss.options) for name, loss in ide.losses.items()] == [
        ("cross_entropy", losses.cross_entropy, {})
    ]
    assert (ide.recipe.erasing, ide.recipe.warmup_epochs, ide.recipe.flip, ide.recipe.pad) == (0.0, 0, 0.5, 10)
    plain, without = settings(table, "Baseline"), settings(table, "Baseline", "without DropBlock")
    assert (plain.model, plain.recipe, plain.options | {"dropblock_share": 0}) == (
        without.model,
        without.recipe,
        without.options,
    )


def test_the_two_ides_of_the_training_time_differ_in_their_stride_alone():
    two, one = (
        settings(hamr.TRAINING_TIME, label, variant)
        for label, variant in (
            ("ResNet-50 (IDE)", "as-published"),
            ("ResNet-50 (IDE), stride 1", "the cause in the text"),
        )
    )
    assert (two.options, one.options) == ({"last_stride": 2}, {"last_stride": 1})
    assert (two.model, two.recipe, two.losses) == (one.model, one.recipe, one.losses)


def test_tables_6_to_8_share_their_networks():
    six = {run.network for run in runs_of("hamr/table6", budget="smoke", dataset="dukemtmc")}
    assert {run.network for run in runs_of("hamr/table8", budget="smoke", dataset="duke-to-market")} < six
    seven = {run.network for run in runs_of("hamr/table7", budget="smoke")}
    assert len(six & seven) == 5, "three baselines, the tricks, and the full model"


@pytest.mark.parametrize("budget", ["smoke", "small", "medium"])
def test_the_boxes_are_other_images_of_the_same_networks(budget):
    tight, shifted = (runs_of("hamr/boxes", budget=budget, dataset=name) for name in hamr.BOXES.datasets)
    plain = runs_of("hamr/table6", budget=budget, rows=["+ CAM"])
    assert [run.settings for run in tight] == [run.settings for run in shifted]
    assert tight[0].settings.trained() == plain[0].settings.trained()
    assert len({run.network for run in (*tight, *shifted, *plain)}) == 7


def test_every_data_set_of_a_table_is_known():
    known = {*datasets.LOADERS, *datasets.VARIANTS}
    assert all(set(table.datasets) <= known for table in papers.tables().values())
