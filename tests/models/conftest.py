"""Every test of the networks copies initialised ResNets (`one_resnet`)."""

import pytest


@pytest.fixture(autouse=True)
def copied(one_resnet):
    pass
