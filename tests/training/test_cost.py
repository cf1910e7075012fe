"""Counting held against numbers made by hand, and against torchvision's own ResNet-50."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet50

from reidlib import losses, papers
from reidlib.models.output import Output
from reidlib.spec import Loss, Recipe, Settings
from reidlib.training import cost


class Small(nn.Module):
    """3×3 convolution to 4 channels without bias, BatchNorm, mean over the map, classifier with bias."""

    def __init__(self, identities, *, size=(8, 6)):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.classifier = nn.Linear(4, identities)

    def forward(self, images):
        pooled = self.norm(self.convolution(images)).mean((2, 3))
        return Output(pooled, [self.classifier(pooled)], features=[pooled], maps={})


def test_a_small_network_by_hand():
    counted = cost.cost(Settings(Small, Recipe(size=(8, 6)), {"cross_entropy": Loss(losses.cross_entropy)}), 10)
    assert counted.classifiers == 10 * 4 + 10
    assert counted.parameters == 3 * 3 * 3 * 4 + 2 * 4 + counted.classifiers
    assert counted.multiply_adds == 8 * 6 * 4 * 3 * 3 * 3 + 4 * 10, "places × outputs × inputs, then the classifier"
    assert counted.embedding == 4


def test_resnet50_has_the_numbers_that_torchvision_prints():
    network = resnet50()
    assert cost.parameters(network) == 25_557_032
    counted, scores = cost.multiply_adds(network, (224, 224))
    assert counted == pytest.approx(4.09e9, rel=1e-3)
    assert scores.shape == (1, 1000)


def test_the_stride_explains_the_older_number_of_resnet50():
    """3.8 billion is printed of a ResNet-50 that halves its maps in the first convolution of a stage."""
    network = resnet50()
    for stage in (network.layer2, network.layer3, network.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    counted, _ = cost.multiply_adds(network, (224, 224))
    assert counted == pytest.approx(3.86e9, rel=2e-3)


def test_a_network_keeps_its_weights():
    network = Small(3)
    before = network.classifier.weight.clone()
    cost.multiply_adds(network, (8, 6))
    assert torch.equal(network.classifier.weight, before)


def test_settings_are_counted_at_the_papers_own_input():
    """SafeNet: the frame of its descriptor, and one classifier of 1024 entries and a bias for each identity."""
    table = papers.table("safenet/table5")
    counted = cost.cost(table.base, 751)
    assert (counted.embedding, counted.classifiers) == (1024, 751 * 1025)
    assert cost.cost(table.base, 752).parameters == counted.parameters + 1025, "counted once for each number"
