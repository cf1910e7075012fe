"""The tests of the networks copy one initialised ResNet of each depth: initialising it takes most of their time."""

import copy
from functools import cache

import pytest
import torch
import torchvision

BUILDERS = {name: getattr(torchvision.models, name) for name in ("resnet50", "resnet101")}


@cache
def initialised(name):
    """As from seed 0, whichever test asks first."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BUILDERS[name]()


@pytest.fixture(autouse=True)
def one_resnet(request, monkeypatch):
    if "imagenet" in request.node.name:
        return  # here a loaded network has to differ from one that is as it was initialised
    for name, builder in BUILDERS.items():

        def build(weights=None, name=name, builder=builder):
            on_cpu = torch.empty(0).device.type == "cpu"
            return copy.deepcopy(initialised(name)) if on_cpu else builder()

        monkeypatch.setattr(torchvision.models, name, build)
