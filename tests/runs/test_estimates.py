"""What runs are expected to take: committed counts, rates of past records, and defaults that are called guesses."""

import random

import made_up
import pytest

from reidlib.runs import datasets, estimates
from reidlib.runs.devices import Device, Place
from reidlib.runs.estimates import IDENTITIES
from reidlib.runs.run import runs_of
from reidlib.training.cost import StepCost, step_cost

CPU = Device("cpu", "a processor", 8192.0)
GPU = Device("GPU-1", "NVIDIA H100", 80_000.0)


@pytest.fixture(autouse=True)
def no_memory(house):
    """What one test has read from records is not known to the next."""
    for known in (estimates._past, estimates._counts):
        known.cache_clear()
    yield
    estimates._past.cache_clear()


def run_of(table="safenet/table5", row="g4", budget="smoke", **changes):
    return runs_of(table, budget=budget, rows=[row], **changes)[0]


def test_every_declared_network_has_its_count_and_no_other():
    assert set(estimates.declared()) == set(estimates._counts()), "`python -m reidlib.runs.estimates` renews them"


def recounted(many):
    declared = estimates.declared()
    for name in random.Random(0).sample(sorted(declared), many):
        assert step_cost(declared[name], IDENTITIES) == estimates._counts()[name], declared[name].model


def test_a_sample_of_the_counts_is_right():
    recounted(3)


@pytest.mark.all
def test_a_larger_sample_of_the_counts_is_right():
    recounted(30)


def test_a_count_holds_for_any_number_of_identities():
    settings = run_of().settings
    known = estimates.counted(settings)
    for identities in (8, 1041):
        step = step_cost(settings, identities)
        assert known.parameters + (identities - IDENTITIES) * known.per_identity == step.parameters
        assert known.multiply_adds == pytest.approx(step.multiply_adds, rel=0.01)
        assert known.activations == pytest.approx(step.activations, rel=0.01)


def test_a_network_that_has_no_count_is_counted_once(monkeypatch):
    seen = []
    monkeypatch.setattr(estimates, "_counts", dict)
    one = dict()
    monkeypatch.setattr(estimates, "_counts", lambda: one)
    monkeypatch.setattr(estimates, "step_cost", lambda *asked: seen.append(asked) or StepCost(1, 1, 1, 1, 1.0))
    for _ in range(2):
        estimates.counted(run_of().settings)
    assert len(seen) == 1


def made(run, rate, device, threads):
    kind = device.partition(" ")[0]
    made_up.write(run, images_per_second=rate, device=device, device_kind=kind, threads=threads)


def test_rates_are_those_of_past_records_of_this_device():
    known = estimates.counted(run_of().settings)
    for seed, rate in enumerate((10.0, 20.0, 40.0)):
        made(run_of(seeds=[seed]), rate, "cpu (a processor, 1 thread)", 1)
    made(run_of(seeds=[3]), 999.0, "cpu (a processor, 2 threads)", 2)
    made(run_of(seeds=[4]), 999.0, "cuda (NVIDIA H100)", 4)
    made(run_of("hamr/table10", "stage 1"), 1000.0, "cpu (a processor, 1 thread)", 1)
    found = estimates.rates(Place(CPU, 1))
    assert found["reidlib.models.safenet.SafeNet"] == 6 * known.multiply_adds * 20.0
    assert found[""] > found["reidlib.models.safenet.SafeNet"], "the median of all models"
    assert estimates.rates(Place(Device("cpu", "another", 0.0), 1)) == {}
    assert estimates.rates(Place(GPU, 7, 1))[""] == pytest.approx(6 * known.multiply_adds * 999.0)


def test_an_estimate_follows_from_counts_and_rates(monkeypatch):
    monkeypatch.setattr(estimates, "START_SECONDS", {"cpu": 0.0, "cuda": 0.0})
    monkeypatch.setattr(estimates, "DECODED", float("inf"))
    run, place = run_of(), Place(CPU, 1)
    counts, known = estimates.images("market1501", "stand-in", "smoke"), estimates.counted(run.settings)
    guess = estimates.estimate(run, place)
    tested = counts["query"] + counts["gallery"]
    tested /= estimates.FORWARD
    operations = known.multiply_adds * (6 * counts["train"] * run.settings.recipe.resolved()["epochs"] + 2 * tested)
    assert guess.is_guess and guess.seconds == pytest.approx(operations / estimates.DEFAULT_RATES["cpu"])
    assert estimates.estimate(run, Place(CPU, 2)).seconds == pytest.approx(guess.seconds / 2)
    assert estimates.estimate(run, place, trains=False).seconds < guess.seconds / 2
    made(run_of(seeds=[1]), 10.0, "cpu (a processor, 1 thread)", 1)
    estimates._past.cache_clear()
    past = estimates.estimate(run, place)
    assert not past.is_guess and past.seconds == pytest.approx(counts["train"] / 10 + tested / 30)
    weights = known.parameters + (counts["identities"] - IDENTITIES) * known.per_identity
    assert past.disk_mb == pytest.approx(4 * weights / 2**20)
    assert past.memory_mb > 700 + 4 * past.disk_mb
    first = runs_of("fmn/table2", budget="smoke", rows=["FMN"])[0]
    assert estimates.estimate(first, place, firsts=False).seconds < estimates.estimate(first, place).seconds
    learns_nothing = runs_of("standins/difficulty", budget="smoke")[0]
    assert estimates.estimate(learns_nothing, place).disk_mb == 0


def test_images_are_those_of_the_stand_in():
    data = datasets.load("market1501", "stand-in", "smoke")
    counted = estimates.images("market1501", "stand-in", "smoke")
    for split in ("train", "query", "gallery"):
        assert counted[split] == pytest.approx(len(data.split(split)), rel=0.15, abs=3)
    assert estimates.images("market1501", "real", "full") == dict(
        train=12_936, query=3_368, gallery=19_732, identities=751
    )
    pair = estimates.images("market-to-duke", "real", "full")
    assert (pair["train"], pair["identities"], pair["query"]) == (12_936, 751, 2_228)
    assert estimates.images("cuhk03-classic-labeled-07", "real", "full")["train"] == round(14_096 * 1367 / 1467)
