"""Every declared row must build, train all it declares, differ from its base, and find its printed number.

The subjects are found by walking reidlib.papers: a new row is tested on the day it is written.
"""

import pytest
import torch

from reidlib import papers, study
from reidlib.losses import Criterion
from reidlib.spec import Assumed

TABLES = list(papers.tables().values())
ROWS = [
    pytest.param(table, row, id=f"{table.slug}-{row.label}-{row.variant}") for table in TABLES for row in table.rows
]
SIZE = (128, 64)


def network(settings):
    torch.manual_seed(0)
    return settings.model(5, size=SIZE, **settings.bare_options())


@pytest.mark.parametrize("table, row", ROWS)
def test_nothing_declared_is_idle(table, row):
    """After one backward pass of the row's own loss, each weight that the row trains has a gradient."""
    settings = table.settings(row, "smoke")
    model = network(settings).train()
    output = model(torch.rand(4, 3, *SIZE))
    criterion = Criterion(settings.losses, 5, [vectors.shape[1] for vectors in output.features])
    torch.stack(list(criterion(output, torch.tensor([0, 0, 1, 1])).values())).sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    # A gradient of exact zeros is idle too. A bias before a BatchNorm is the known exception: its gradient is zero
    # up to rounding whatever it does, so "exactly zero" is what is asked here.
    assert [name for name, weight in model.named_parameters() if not weight.grad.any()] == []


@pytest.mark.parametrize("table, row", [case for case in ROWS if case.values[1].changes])
def test_a_switch_changes_what_is_computed(table, row):
    images = torch.rand(2, 3, *SIZE)
    outputs = [network(settings).eval()(images) for settings in (table.base, table.base.but(row))]
    full, changed = (torch.cat([output.embedding, *output.logits], dim=1) for output in outputs)
    assert full.shape != changed.shape or not torch.allclose(full, changed)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.slug)
def test_no_two_rows_train_the_same_thing(table):
    keys = [str((table.settings(row, "cpu").trained(), table.settings(row, "cpu").tested())) for row in table.rows]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.slug)
@pytest.mark.parametrize("dataset", ["market1501"])
def test_rows_and_printed_numbers_join_both_ways(table, dataset):
    printed = set(study.reported(table, dataset).index)
    ours = {row.label for row in table.rows if row.variant == "as-published"}
    assert ours <= printed, "a row whose label the paper does not print"
    assert printed <= ours | set(table.not_retrained), "a printed row neither retrained nor named as not retrained"


def test_the_claims_name_rows_that_exist():
    from reidlib.papers.safenet import CLAIMS

    for claim in CLAIMS:
        labels = {row.label for row in papers.table(f"{claim.paper}/{claim.table}").rows}
        assert {claim.better, claim.worse} <= labels


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.slug)
def test_what_a_budget_changes_is_marked_as_a_guess(table):
    for budget, changes in table.budgets.items():
        for name, value in changes.items():
            assert isinstance(value, Assumed), f"{table.slug}, budget {budget}: {name} needs Assumed(…, because=…)"
