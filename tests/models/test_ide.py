"""The plain baseline and the descriptors that learn nothing."""

import colorsys

import numpy as np
import pytest
import torch

from reidlib.data.images import normalise
from reidlib.models.ide import IDE
from reidlib.models.untrained import ColourHistogram, RandomFeatures


def test_stripes_are_the_means_of_equal_bands_of_the_last_map():
    torch.manual_seed(0)
    model = IDE(5, size=(192, 64), stripes=6).eval()
    with torch.inference_mode():
        output = model(torch.rand(2, 3, 192, 64))
        map_ = output.maps["stage4"]
        assert map_.shape == (2, 2048, 6, 2) and output.embedding.shape == (2, 6 * 2048)
        for stripe in range(6):
            expected = map_[:, :, stripe].mean(2)
            assert torch.allclose(output.features[stripe], expected)
            assert torch.allclose(output.logits[stripe], model.classifiers[stripe](expected))


def test_the_whole_image_is_one_stripe_and_a_stride_of_one_doubles_the_map():
    with torch.inference_mode():
        output = IDE(5, size=(128, 64), last_stride=1).eval()(torch.rand(1, 3, 128, 64))
    assert output.maps["stage4"].shape[2:] == (8, 4)
    assert torch.allclose(output.embedding, output.maps["stage4"].mean((2, 3)), atol=1e-6)


def test_a_neck_normalises_what_is_tested_and_classified_and_not_what_is_compared():
    torch.manual_seed(0)
    model = IDE(5, size=(128, 64), stripes=2, neck=True).train()
    output = model(torch.rand(4, 3, 128, 64))
    first = output.features[0]
    expected = (first - first.mean(0)) / (first.var(0, unbiased=False) + model.necks[0].eps).sqrt()
    assert torch.allclose(output.embedding[:, :2048], expected, atol=1e-4)
    assert torch.allclose(output.logits[0], expected @ model.classifiers[0].weight.T, atol=1e-4)
    output.logits[0].sum().backward()
    assert model.necks[0].bias.grad is None and model.necks[0].weight.grad is not None
    assert not IDE(5, size=(128, 64)).necks


@pytest.mark.parametrize("wrong", [dict(stripes=0), dict(stripes=5), dict(last_stride=1, stripes=9)])
def test_more_stripes_than_rows_are_named(wrong):
    with pytest.raises(ValueError, match="stripes must be from 1 to"):
        IDE(5, size=(128, 64), **wrong)


def test_a_histogram_against_a_loop_over_pixels():
    images = torch.randint(0, 256, (2, 3, 6, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[0, :, :2] = 77  # grey has no hue
    made = ColourHistogram(5, size=(6, 4), stripes=3)(normalise(images)).embedding
    for image, vector in zip(images, made.reshape(2, 3, -1), strict=True):
        for stripe in range(3):
            counts = np.zeros((12, 4, 6))
            for pixel in image[:, 2 * stripe : 2 * stripe + 2].flatten(1).T.tolist():
                h, s, v = colorsys.rgb_to_hsv(*(channel / 255 for channel in pixel))
                counts[min(int(h * 12), 11), min(int(s * 4), 3), min(int(v * 6), 5)] += 1
            # a pixel on the very edge of a cell may fall to either side of it
            assert np.abs(vector[stripe].numpy() ** 2 - counts.ravel() / 8).sum() <= 2 / 8 + 1e-6


def test_a_histogram_does_not_see_where_a_colour_is_but_its_stripes_do():
    image = torch.zeros(1, 3, 6, 4, dtype=torch.uint8)
    image[:, 0, :2] = 200
    turned = image.flip(2)
    whole, striped = ColourHistogram(5, size=(6, 4)), ColourHistogram(5, size=(6, 4), stripes=3)
    assert torch.equal(whole(normalise(image)).embedding, whole(normalise(turned)).embedding)
    assert not torch.equal(striped(normalise(image)).embedding, striped(normalise(turned)).embedding)
    with pytest.raises(ValueError, match="divides the height"):
        ColourHistogram(5, size=(128, 64), stripes=6)


def test_random_features_follow_the_seed_and_not_the_image():
    drawn = []
    for seed, value in ((0, 0.0), (0, 1.0), (1, 0.0)):
        torch.manual_seed(seed)
        drawn.append(RandomFeatures(5)(torch.full((3, 3, 8, 4), value)).embedding)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert drawn[0].shape == (3, 128)
