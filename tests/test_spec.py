"""Settings that check themselves: a typo never becomes a number."""

import pytest

from reidlib import losses, papers, spec
from reidlib.models.safenet import SafeNet
from reidlib.spec import Assumed, First, Loss, Recipe, ReidError, Row, Settings

TABLE = papers.table("safenet/table5")
LOSSES = {"cross_entropy": Loss(losses.cross_entropy)}


def test_an_unknown_option_stops_at_the_settings():
    with pytest.raises(TypeError, match="chanels"):
        Settings(model=SafeNet, recipe=Recipe(), losses=LOSSES, options=dict(chanels=128))


def test_an_unknown_recipe_name_stops_at_the_row():
    with pytest.raises(TypeError, match="erasng"):
        TABLE.base.but(Row("typo", recipe=dict(erasng=0.5)))


@pytest.mark.parametrize(
    "wrong",
    [
        dict(schedule="steps"),
        dict(optimiser="lion"),
        dict(batch=0),
        dict(epochs=-1),
        dict(mirror=1.5),
        dict(erasing=2),
        dict(crop_scale=(0.9, 0.5)),
        dict(rates={"backbone": 1}),
        dict(warmup=0.1, warmup_epochs=3),
    ],
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
    short = Settings(model=SafeNet, recipe=Recipe(), losses=LOSSES)
    long = Settings(model=SafeNet, recipe=Recipe(), losses=LOSSES, options=dict(channels=256, local_scales=(1, 2)))
    assert short.trained() == long.trained()


def test_rows_that_differ_only_in_the_descriptor_share_a_network():
    other = TABLE.base.but(Row("fused", options=dict(descriptor="fused")))
    assert other.trained() == TABLE.base.trained()
    assert other.tested() != TABLE.base.tested()


def test_a_switch_that_came_later_and_is_off_keeps_the_key():
    before = Recipe().key()
    assert not {"erasing", "optimiser", "per_identity", "pad", "warmup_epochs", "fresh_momentum"} & before.keys()
    assert Recipe(erasing_area=(0.1, 0.2)).key() == before, "an area of nothing erased changes nothing"
    assert Recipe(erasing=0.5).key() == before | {"erasing": 0.5}
    assert Settings(SafeNet, Recipe(), LOSSES).trained()["losses"] == {"cross_entropy": 1.0}


def test_an_unknown_option_of_a_loss_stops_where_it_is_declared():
    with pytest.raises(TypeError, match="smothing"):
        Loss(losses.cross_entropy, options=dict(smothing=0.1))
    with pytest.raises(ValueError, match="losses"):
        Settings(SafeNet, Recipe(), {"cross_entropy": 1.0})
    with pytest.raises(ValueError, match="at least one Loss"):
        Settings(SafeNet, Recipe(), {})


def test_a_row_adds_replaces_and_takes_away_losses():
    smooth, hard = Loss(losses.cross_entropy, options=dict(smoothing=0.1)), Loss(losses.triplet, options=dict(margin=1))
    base = Settings(SafeNet, Recipe(), LOSSES | {"triplet": hard})
    assert base.but(Row("a", losses={"triplet": None})).losses == LOSSES
    assert base.but(Row("b", losses={"cross_entropy": smooth})).losses == {"cross_entropy": smooth, "triplet": hard}
    assert base.but(Row("b", losses={"cross_entropy": smooth})).trained() != base.trained()


def test_what_is_done_at_test_time_does_not_train_another_network():
    for testing in (dict(mirror=True), dict(reranking="ECN", reranking_options=dict(k=25)), dict(multi_query=True)):
        other = TABLE.base.but(Row("other", testing=testing))
        assert other.trained() == TABLE.base.trained()
        assert other.tested() == TABLE.base.tested() | {"testing": testing}
    with pytest.raises(ValueError, match="reranking"):
        spec.Testing(reranking="magic")


def test_a_training_before_is_in_the_key_and_has_the_changes_of_the_budget():
    first = First(TABLE.base, into="backbone")
    row = Row("after another", first=first)
    assert TABLE.base.but(row).trained()["first"] == {"into": "backbone", **TABLE.base.trained()}
    at_cpu = TABLE.settings(row, "small")
    assert at_cpu.first.settings == TABLE.settings(Row("base"), "small")
    assert Row("none").changes is False and row.changes


def test_a_row_with_a_model_of_its_own_starts_from_no_options():
    class Other(SafeNet):
        pass

    assert TABLE.base.but(Row("other", model=Other)).options == {}


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
