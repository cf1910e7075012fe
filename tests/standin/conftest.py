"""What the tests of the renderer share: a rendered set, plans (seconds each at scale 1), and one thread."""

import functools

import pytest
import torch

from reidlib import standin
from reidlib.standin.plan import plan


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in the renderer's own workers: several threads only wait for each other on pieces this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def planned():
    """`plan`, which answers a second time at once."""
    return functools.cache(plan)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A tiny stand-in of Market-1501, scale 0.002 and seed 3, rendered in this process; not to be changed."""
    return standin.render("market1501", scale=0.002, seed=3, out=tmp_path_factory.mktemp("whole") / "set", workers=1)
