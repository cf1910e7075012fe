"""Every declared row must build, train all it declares, differ from its base, and find its printed number.

The subjects are found by walking reidlib.papers: a new row is tested on the day it is written.
"""

import functools
import json

import pytest
import torch

from reidlib import papers, training
from reidlib.losses import Criterion
from reidlib.runs.run import reported_numbers
from reidlib.spec import Assumed, Row

TABLES = list(papers.tables().values())
ROWS = [
    pytest.param(table, row, id=f"{table.slug}-{row.label}-{row.variant}") for table in TABLES for row in table.rows
]


def distinct():
    """One row of each network and loss that some row declares: many tables share them."""
    found = {}
    for case in ROWS:
        settings = case.values[0].settings(case.values[1], "smoke")
        if settings.losses:  # or else nothing is trained
            key = {name: value for name, value in settings.trained().items() if name != "recipe"}
            found.setdefault(json.dumps([key, settings.recipe.resolved()["size"]]), case)
    return list(found.values())


def network(settings):
    """As it is drawn; what was trained before it is drawn too, and frozen."""
    first = network(settings.first.settings) if settings.first else None
    return training.build(settings, 5, 0, first)[0]


def size(settings):
    return tuple(settings.recipe.resolved()["size"])


@pytest.mark.parametrize("table, row", distinct())
def test_nothing_declared_is_idle(table, row):
    """After one backward pass of the row's own loss, each weight that the row trains has a gradient."""
    settings = table.settings(row, "smoke")
    model = network(settings)
    training.Loop.of(settings, model, 5).train_mode()
    output = model(torch.rand(4, 3, *size(settings)))
    criterion = Criterion(settings.losses, 5, [vectors.shape[1] for vectors in output.features])
    torch.stack(list(criterion(output, torch.tensor([0, 0, 1, 1])).values())).sum().backward()
    learnt = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert [name for name, weight in learnt.items() if weight.grad is None] == []
    # A gradient of exact zeros is idle too. A bias before a BatchNorm is the known exception: its gradient is zero
    # up to rounding whatever it does, so "exactly zero" is what is asked here.
    assert [name for name, weight in learnt.items() if not weight.grad.any()] == []


@pytest.mark.parametrize("table, row", [case for case in ROWS if case.values[1].changes])
def test_a_switch_changes_what_is_computed(table, row):
    """In one of the places where a switch can act; what a recipe's switches do is tested in test_training.py."""
    base, changed = table.settings(Row("base"), "smoke"), table.settings(row, "smoke")
    if base.trained() == changed.trained():
        assert base.tested() != changed.tested()
        return
    if base.recipe != changed.recipe:
        assert base.recipe.key() != changed.recipe.key()
        return
    assert not same(base_of(table.slug), seen(changed))


@functools.cache
def base_of(slug):
    """What the base of a table shows, looked at once."""
    return seen(papers.table(slug).settings(Row("base"), "smoke"))


@torch.no_grad()
def seen(settings):
    """All that a network shows of itself: its outputs when tested, and its losses in training."""
    images = torch.rand(4, 3, *size(settings), generator=torch.Generator().manual_seed(0))
    model = network(settings).eval()
    output = model(images)
    vectors = [output.embedding, *output.logits, *output.features]
    loop = training.Loop.of(settings, model, 5)
    loop.train_mode()
    torch.manual_seed(0)  # dropout and dropped blocks
    return [*vectors, *loop.criterion(model(images), torch.tensor([0, 0, 1, 1])).values()]


def same(before, after):
    alike = (a.shape == b.shape and torch.allclose(a, b) for a, b in zip(before, after, strict=False))
    return len(before) == len(after) and all(alike)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.slug)
def test_no_two_rows_train_the_same_thing(table):
    keys = [str((table.settings(row, "small").trained(), table.settings(row, "small").tested())) for row in table.rows]
    assert len(set(keys)) == len(keys)


JOINED = [pytest.param(table, dataset, id=f"{table.slug}-{dataset}") for table in TABLES for dataset in table.datasets]


@pytest.mark.parametrize("table, dataset", [case for case in JOINED if case.values[0].paper != "standins"])
def test_rows_and_printed_numbers_join_both_ways(table, dataset):
    printed = set(reported_numbers(table, dataset).index)
    # "label of ours", or "label of L77": a name from the text, beside which no number is printed
    ours = {row.label for row in table.rows if row.variant == "as-published" and not row.note.startswith("label of")}
    assert ours <= printed, "a row whose label the paper does not print"
    assert printed <= ours | set(table.not_retrained), "a printed row neither retrained nor named as not retrained"


def test_the_claims_name_rows_that_exist():
    for claim in papers.claims():
        labels = {row.label for row in papers.table(f"{claim.paper}/{claim.table}").rows}
        assert {claim.better, claim.worse} <= labels


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.slug)
def test_what_a_budget_changes_is_marked_as_a_guess(table):
    for budget, changes in table.budgets.items():
        for name, value in changes.items():
            assert isinstance(value, Assumed), f"{table.slug}, budget {budget}: {name} needs Assumed(…, because=…)"
