"""Settings that check themselves: a typo never becomes a number."""

import pytest

from reidlib import papers
from reidlib.models.safenet import SafeNet
from reidlib.spec import Assumed, Recipe, ReidError, Row, Settings

TABLE = papers.table("safenet/table5")


def test_an_unknown_option_stops_at_the_settings():
    with pytest.raises(TypeError, match="chanels"):
        Settings(model=SafeNet, recipe=Recipe(), options=dict(chanels=128))


def test_an_unknown_recipe_name_stops_at_the_row():
    with pytest.raises(TypeError, match="erasng"):
        TABLE.base.but(Row("typo", recipe=dict(erasng=0.5)))


@pytest.mark.parametrize(
    "wrong",
    [dict(schedule="steps"), dict(batch=0), dict(mirror=1.5), dict(crop_scale=(0.9, 0.5)), dict(rates={"backbone": 1})],
)
def test_a_value_out_of_range_stops_at_the_recipe(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Recipe(**wrong)


def test_an_assumption_needs_a_reason():
    with pytest.raises(ValueError, match="reason"):
        Assumed(1, because=" ")


def test_a_wrapped_value_and_a_bare_one_make_the_same_key():
    bare, wrapped = Recipe(epochs=7), Recipe(epochs=Assumed(7, because="test"))
    assert bare.resolved() == wrapped.resolved()
    assert wrapped.assumptions().keys() == {"epochs"}


def test_defaults_written_out_make_the_same_key_as_defaults_left_out():
    short = Settings(model=SafeNet, recipe=Recipe())
    long = Settings(model=SafeNet, recipe=Recipe(), options=dict(channels=256, local_scales=(1, 2)))
    assert short.trained() == long.trained()


def test_rows_that_differ_only_in_the_descriptor_share_a_network():
    other = TABLE.base.but(Row("fused", options=dict(descriptor="fused")))
    assert other.trained() == TABLE.base.trained()
    assert other.tested() != TABLE.base.tested()


def test_every_budget_of_a_table_changes_all_rows_alike():
    for budget in TABLE.budgets:
        recipes = [TABLE.settings(row, budget).recipe for row in TABLE.rows]
        assert all(recipe == recipes[0] for recipe in recipes)


def test_an_unknown_budget_table_and_row_name_the_known_ones():
    with pytest.raises(ReidError, match="no budget 'huge'.*smoke"):
        TABLE.settings(TABLE.rows[0], "huge")
    with pytest.raises(ReidError, match="unknown table 'safenet/table9'.*safenet/table5"):
        papers.table("safenet/table9")
    with pytest.raises(ReidError, match="unknown row 'g5'.*g4,g3"):
        papers.rows(TABLE, ["g5"])
