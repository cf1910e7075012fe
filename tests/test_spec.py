"""Settings that check themselves: a typo never becomes a number."""

from dataclasses import fields, replace

import pytest

from reidlib import losses, papers, spec
from reidlib.models.safenet import SafeNet
from reidlib.spec import Assumed, FrozenStage, Loss, Recipe, ReidError, Row, Settings, Stated, value_of

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
        dict(flip=1.5),
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


@pytest.mark.parametrize(
    "wrong",
    [dict(epochs=1.5), dict(batch=True), dict(nesterov=1), dict(size=128), dict(size=(1, 2, 3)), dict(pad="10")],
)
def test_a_value_of_another_type_stops_at_the_recipe(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Recipe(**wrong)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Recipe(**{name: Assumed(value, because="test") for name, value in wrong.items()})


def test_fields_are_bare_and_their_sources_stand_beside_them():
    why, where = Assumed(7, because="test"), Stated((32, 16), where="§4.1")
    bare, sourced = Recipe(epochs=7, size=(32, 16)), Recipe(epochs=why, size=where)
    assert (sourced.epochs, sourced.size) == (7, (32, 16)) and bare == sourced
    assert bare.resolved() == sourced.resolved() and bare.key() == sourced.key()
    assert sourced.sources == {"epochs": why, "size": where} and bare.sources == {}
    assert Recipe(**sourced.given()).sources == sourced.sources
    assert sourced.but(epochs=7).sources == {"size": where}, "a bare value has no source, even an equal one"
    assert sourced.but(epochs=Stated(8, where="§5")).sources == {"epochs": Stated(8, where="§5"), "size": where}
    assert value_of(sourced.epochs) == value_of(why) == 7


def test_options_of_models_losses_and_tests_have_sources_too():
    width, margin, k = (Assumed(value, because="test") for value in (128, 0.3, 25))
    loss = Loss(losses.triplet, weight=Stated(2.0, where="eq. 5"), options=dict(margin=margin))
    assert (loss.weight, loss.options) == (2.0, {"margin": 0.3})
    assert loss.sources == loss.given() == {"weight": Stated(2.0, where="eq. 5"), "margin": margin}
    settings = Settings(SafeNet, Recipe(), {"triplet": loss}, options=dict(channels=width))
    assert settings.options == {"channels": 128} and settings.given() == {"channels": width}
    assert settings.but(Row("as it is")).sources == settings.sources
    assert replace(settings, recipe=Recipe(epochs=1)).sources == settings.sources
    assert settings.but(Row("bare", options=dict(channels=64))).sources == {}
    assert settings.but(Row("own", model=SafeNet, options=dict(depth=k.value))).sources == {}
    ranked = settings.but(Row("ranked", testing=dict(reranking="ECN", reranking_options=dict(k=k)))).testing
    assert ranked.reranking_options == {"k": 25} and ranked.sources == {"reranking_options.k": k}
    assert ranked.but(flip=True).sources == ranked.sources


def test_defaults_written_out_make_the_same_key_as_defaults_left_out():
    short = Settings(model=SafeNet, recipe=Recipe(), losses=LOSSES)
    long = Settings(model=SafeNet, recipe=Recipe(), losses=LOSSES, options=dict(channels=256, local_scales=(1, 2)))
    assert short.trained() == long.trained()


def test_rows_that_differ_only_in_the_descriptor_share_a_network():
    other = TABLE.base.but(Row("fused", options=dict(descriptor="fused")))
    assert other.trained() == TABLE.base.trained()
    assert other.tested() != TABLE.base.tested()


FIRST_KEY = {
    "start": "imagenet",
    "size": [256, 128],
    "crop_scale": [1.0, 1.0],
    "stretch": [1.0, 1.0],
    "mirror": 0.5,
    "epochs": 60,
    "batch": 32,
    "rates": {"rest": 0.01},
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 5e-4,
    "schedule": "constant",
    "milestones": [],
    "decay": 0.1,
    "warmup": 0.0,
    "precision": "bf16",
}
"""What the key of the first records holds, whatever fields a recipe has today."""

OTHER = dict(optimiser="adam", per_identity=4, warmup_epochs=2, fresh_momentum=True, pad=10, erasing=0.5)
READ_WITH = {"warmup_from": dict(warmup_epochs=2), "warmup_to": dict(warmup_epochs=2)} | {
    name: dict(erasing=0.5) for name in ("erasing_area", "erasing_ratio")
}


def test_a_field_at_its_default_is_not_in_the_key():
    """So a new field whose default is off orphans no record."""
    assert Recipe().key() == FIRST_KEY
    assert Settings(SafeNet, Recipe(), LOSSES).trained()["losses"] == {"cross_entropy": 1.0}
    assert spec.TestSettings().key() == {}


def test_every_field_of_a_recipe_is_in_the_key_when_it_is_used():
    hashed = {Recipe.NAME_IN_KEY.get(f.name, f.name) for f in fields(Recipe)}
    assert FIRST_KEY.keys() | OTHER.keys() | READ_WITH.keys() == hashed
    for name, value in OTHER.items():
        assert Recipe(**{name: value}).key() == FIRST_KEY | {name: value}
    for name, switch in READ_WITH.items():
        value = (0.1, 0.2) if "erasing" in name else 0.5
        assert Recipe(**{name: value}).key() == FIRST_KEY, "what is not read changes nothing"
        on = Recipe(**switch, **{name: value}).key()
        assert on == FIRST_KEY | switch | {name: list(value) if isinstance(value, tuple) else value}


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
    for testing in (dict(flip=True), dict(reranking="ECN", reranking_options=dict(k=25)), dict(multi_query=True)):
        other = TABLE.base.but(Row("other", testing=testing))
        hashed = {"mirror": True} if "flip" in testing else testing
        assert other.trained() == TABLE.base.trained()
        assert other.tested() == TABLE.base.tested() | {"testing": hashed}
    with pytest.raises(ValueError, match="reranking"):
        spec.TestSettings(reranking="magic")


def test_a_training_before_is_in_the_key_and_has_the_changes_of_the_budget():
    first = FrozenStage(TABLE.base, into="backbone")
    row = Row("after another", first=first)
    assert TABLE.base.but(row).trained()["first"] == {"into": "backbone", **TABLE.base.trained()}
    at_cpu = TABLE.settings(row, "small")
    assert at_cpu.first.settings == TABLE.settings(Row("base"), "small")


def test_a_row_with_a_model_of_its_own_starts_from_no_options():
    class Other(SafeNet):
        pass

    assert TABLE.base.but(Row("other", model=Other)).options == {}


def test_a_row_with_a_base_of_its_own_has_the_changes_of_the_budget_and_then_its_own():
    other = Settings(SafeNet, Recipe(epochs=7, batch=3), LOSSES, options=dict(channels=64))
    row = Row("other", base=other, recipe=dict(flip=0.0))
    found = TABLE.settings(row, "small")
    assert found.options == {"channels": 64} and found.recipe.flip == 0.0
    assert found.recipe.epochs == value_of(TABLE.budgets["small"]["epochs"])
    assert TABLE.settings(row, "full").recipe == other.recipe.but(flip=0.0)


def test_an_option_that_is_not_read_is_not_in_the_key():
    class Later(SafeNet):
        @staticmethod
        def unread(options):
            return {"depth"} if options["depth"] == 50 else set()

    def options(**given):
        return Settings(Later, Recipe(), LOSSES, options=given).trained()["options"]

    assert options() == options(depth=50) and "depth" not in options() and options(depth=101)["depth"] == 101
    assert options(channels=128)["channels"] == 128


def test_a_number_of_another_table_belongs_to_a_row_of_this_one():
    with pytest.raises(ValueError, match="same_as must be labels of rows"):
        replace(TABLE, same_as={"no such row": ("table3", "g4")})


def test_every_budget_of_a_table_changes_all_rows_alike():
    for budget in TABLE.budgets:
        recipes = [TABLE.settings(row, budget).recipe for row in TABLE.rows]
        assert all(recipe == recipes[0] for recipe in recipes)


def test_a_row_may_leave_a_value_to_the_budgets_that_have_one():
    own = dict(size=(256, 128), batch=7)
    row, yielding = Row("a", recipe=own), Row("b", recipe=own, yields=("size",))
    table = replace(
        TABLE, budgets={"small": dict(size=Assumed((192, 64), because="less"), batch=2), "full": {}}, rows=()
    )
    sizes = {
        (one.label, budget): table.settings(one, budget).recipe for one in (row, yielding) for budget in table.budgets
    }
    assert {place: recipe.size for place, recipe in sizes.items()} == {
        ("a", "small"): (256, 128),
        ("a", "full"): (256, 128),
        ("b", "small"): (192, 64),
        ("b", "full"): (256, 128),
    }
    assert {recipe.batch for recipe in sizes.values()} == {7}


def test_an_unknown_budget_table_and_row_name_the_known_ones():
    with pytest.raises(ReidError, match="unknown budget 'huge'.*smoke"):
        TABLE.settings(TABLE.rows[0], "huge")
    with pytest.raises(ReidError, match="unknown table 'safenet/table9'.*safenet/table5"):
        papers.table("safenet/table9")
    with pytest.raises(ReidError, match="unknown row 'g5'.*g4,g3"):
        papers.rows(TABLE, ["g5"])
