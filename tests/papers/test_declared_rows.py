"""Every declared row must build, train all it declares, differ from its base, and find its printed number.

The subjects are found by walking reidlib.papers: a new row is tested on the day it is written. Rows share networks, so
each distinct network is built and stepped through once, on images of half the width that budget smoke has. ResNets are
small ones; the usual ones get all their gradients in tests/models.
"""

import importlib
import json
from dataclasses import dataclass, replace

import made_up
import pytest
import torch

from reidlib import papers, training
from reidlib.models.safenet import SafeNet
from reidlib.runs.run import reported_numbers
from reidlib.spec import Assumed, Row, unsaid

pytestmark = pytest.mark.usefixtures("narrow")

TABLES = list(papers.tables().values())
ROWS = [
    pytest.param(table, row, id=f"{table.slug}-{row.label}-{row.variant}")
    for table in TABLES
    if "smoke" in table.budgets  # those of budget small alone repeat rows of other tables
    for row in table.rows
]


def small(table, row):
    """The row's settings at budget smoke with a narrower input, even where the row has a size of its own."""
    settings = table.settings(row, "smoke")
    height, width = table.budgets["smoke"]["size"].value
    narrow = width if settings.model is SafeNet else width // 2  # its anchors need the whole width
    return replace(settings, recipe=settings.recipe.but(size=(height, narrow)))


def structure(settings):
    """What decides which weights there are and which gradients they get: all that is trained but the recipe."""
    key = {name: value for name, value in settings.trained().items() if name != "recipe"}
    return json.dumps([key, settings.recipe.size])


def distinct():
    """One row of each network and loss that some row declares: many tables share them."""
    found = {}
    for case in ROWS:
        settings = small(*case.values)
        if settings.losses:  # or else nothing is trained
            found.setdefault(structure(settings), case)
    return list(found.values())


@dataclass
class Seen:
    """What a network shows in training: its outputs and loss terms, and the weights that the losses do not reach."""

    shown: list
    without_gradient: list
    zero_gradient: list


SEEN: dict[str, Seen] = {}


def seen(settings):
    """The first forward and backward pass of a network, on four images of two identities; once for each structure."""
    key = structure(settings)
    if key not in SEEN:
        model = network(settings)
        for layer in model.modules():  # a scale that starts at 0 hides what stands before it in the first pass
            if isinstance(layer, torch.nn.BatchNorm2d) and not layer.weight.any():
                torch.nn.init.ones_(layer.weight)
        loop = training.Loop.of(settings, model, 5)
        loop.train_mode()
        images = torch.rand(4, 3, *settings.recipe.size, generator=torch.Generator().manual_seed(0))
        torch.manual_seed(0)  # dropout and dropped blocks
        output = model(images)
        terms = list(loop.criterion(output, torch.tensor([0, 0, 1, 1])).values())
        torch.stack(terms).sum().backward()
        learnt = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        SEEN[key] = Seen(
            [tensor.detach().clone() for tensor in (output.embedding, *output.logits, *output.features, *terms)],
            [name for name, weight in learnt.items() if weight.grad is None],
            [name for name, weight in learnt.items() if weight.grad is not None and not weight.grad.any()],
        )
    return SEEN[key]


def network(settings):
    """As it is drawn; what was trained before it is drawn too, and frozen."""
    first = network(settings.first.settings) if settings.first else None
    return training.build(settings, 5, 0, first)[0]


@pytest.mark.parametrize("table, row", distinct())
def test_nothing_declared_is_idle(table, row):
    """After one backward pass of the row's own loss, each weight that the row trains has a gradient."""
    found = seen(small(table, row))
    assert found.without_gradient == []
    # A gradient of exact zeros is idle too. A bias before a BatchNorm is the known exception: its gradient is zero
    # up to rounding whatever it does, so "exactly zero" is what is asked here.
    assert found.zero_gradient == []


@pytest.mark.parametrize("table, row", [case for case in ROWS if made_up.changes(case.values[1])])
def test_a_switch_changes_what_is_computed(table, row):
    """In one of the places where a switch can act; what a recipe's switches do is tested in tests/training."""
    base, changed = table.settings(Row("base"), "smoke"), table.settings(row, "smoke")
    if base.trained() == changed.trained():
        assert base.tested() != changed.tested()
        return
    if base.recipe != changed.recipe:
        assert base.recipe.key() != changed.recipe.key()
        return
    if not changed.losses:  # an untrained descriptor in the place of a network
        assert base.model is not changed.model
        return
    assert not same(seen(small(table, Row("base"))).shown, seen(small(table, row)).shown)


def same(before, after):
    alike = (a.shape == b.shape and torch.allclose(a, b) for a, b in zip(before, after, strict=False))
    return len(before) == len(after) and all(alike)


SIZED = [case for case in ROWS if "size" in case.values[1].recipe]


@pytest.mark.parametrize("table, row", SIZED)
def test_another_input_size_makes_the_same_network(table, row):
    """So what is tested above on small images holds for the rows with a size of their own."""
    shapes = []
    for settings in (table.settings(row, list(table.budgets)[-1]), small(table, row)):
        with torch.device("meta"):
            model = settings.model(5, size=settings.recipe.size, **settings.options)
        shapes.append({name: tensor.shape for name, tensor in model.state_dict().items()})
    assert shapes[0] == shapes[1]


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
    assert printed <= ours | set(papers.not_retrained(table)), "a printed row neither retrained nor named otherwise"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.slug)
def test_what_a_budget_changes_is_marked_as_a_guess(table):
    for budget, changes in table.budgets.items():
        for name, value in changes.items():
            assert isinstance(value, Assumed), f"{table.slug}, budget {budget}: {name} needs Assumed(…, because=…)"


@pytest.mark.parametrize("paper", sorted({table.paper for table in TABLES} - {"standins"}))
def test_the_rule_of_average_precision_is_declared_with_its_reason(paper):
    assumed = unsaid(importlib.import_module(f"reidlib.papers.{paper}"))["AP"].value
    assert {table.ap for table in TABLES if table.paper == paper} == {assumed}
