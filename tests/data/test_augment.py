"""Crop geometry, flip, padding, erasing, determinism; the order of an epoch."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidlib.data.augment import CANDIDATES, crop_and_flip, crop_boxes, cut, erase, erasing_boxes, pad_and_crop
from reidlib.data.images import normalise
from reidlib.data.sampling import epoch_batches
from reidlib.spec import ReidError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=4, height=48, width=24, seed=0):
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=seeded(seed))


def interval(low, high):
    return st.tuples(st.floats(low, high), st.floats(low, high)).map(lambda pair: (min(pair), max(pair)))


@settings(max_examples=50, deadline=None)
@given(interval(0.5, 1.0), interval(1.1, 3.0), st.integers(0, 2**32))
def test_boxes_are_the_loop_that_draws_again_until_one_fits(scale, aspect_ratio, seed):
    """RandomSizedRectCrop: area and ratio uniform, at most ten draws, then the whole image."""
    boxes = crop_boxes(20, scale=scale, aspect_ratio=aspect_ratio, flip=0.5, generator=seeded(seed)).tolist()
    again = seeded(seed)
    once = torch.rand(5, 20, generator=again, dtype=torch.float64).tolist()
    more = torch.rand(18, 20, generator=again, dtype=torch.float64).tolist()  # nine areas, then nine ratios
    for b, found in enumerate(boxes):
        for attempt in range(CANDIDATES):
            draws = (once[0][b], once[1][b]) if attempt == 0 else (more[attempt - 1][b], more[attempt + 8][b])
            area, ratio = (low + (high - low) * u for (low, high), u in zip((scale, aspect_ratio), draws, strict=True))
            height, width = math.sqrt(area * ratio), math.sqrt(area / ratio)
            if height <= 1 and width <= 1:
                break
        else:
            height = width = 1.0
        sign = -1.0 if once[4][b] < 0.5 else 1.0
        expected = [(1 - height) * once[2][b], (1 - width) * once[3][b], height, width, sign]
        assert found == pytest.approx(expected, abs=1e-6)


def test_the_boxes_of_safenets_intervals_have_the_statistics_of_their_rule():
    """Of the draws with area a ≤ 1 and ratio r ≤ 1.5 those with a r ≤ 1 fit; the integrals are done by hand."""
    share = (0.5 * (2 / 3 - 0.64) + math.log(1.5) - 1 / 3) / (0.36 * 0.5)  # 48 % of the draws fit
    mean_area = (0.25 * (4 / 9 - 0.64**2) + 1 / 18) / (0.36 * 0.5) / share  # 0.75
    boxes = crop_boxes(50_000, scale=(0.64, 1.0), aspect_ratio=(1.0, 1.5), flip=0.5, generator=seeded()).double()
    top, left, height, width, sign = boxes.unbind(1)
    whole = (height == 1) & (width == 1)
    assert whole.double().mean() == pytest.approx((1 - share) ** 10, abs=0.0006)
    area, ratio = (height * width)[~whole], (height / width)[~whole]
    assert area.min() >= 0.64 - 1e-6 and ratio.min() >= 1 - 1e-6 and ratio.max() <= 1.5 + 1e-6
    assert area.mean() == pytest.approx(mean_area, abs=0.002)
    assert 0.48 < (sign < 0).double().mean() < 0.52
    free = 1 - width
    assert abs((left / free)[free > 0.01].mean() - 0.5) < 0.01  # placed uniformly


def test_boxes_that_always_fit_take_five_numbers_an_image():
    """So that a crop which needs no second draw, or none at all, sees the numbers that it always saw."""
    for scale in ((1.0, 1.0), (0.7225, 1.0)):
        generator = seeded()
        boxes = crop_boxes(7, scale=scale, aspect_ratio=(1.0, 1.0), flip=0.5, generator=generator)
        again = seeded()
        area = scale[0] + (1 - scale[0]) * torch.rand(5, 7, generator=again, dtype=torch.float64)[0]
        assert torch.equal(boxes[:, 2], area.sqrt().float()) and torch.equal(boxes[:, 2], boxes[:, 3])
        assert torch.equal(generator.get_state(), again.get_state())


def test_a_whole_crop_is_the_image():
    batch = images()
    same = crop_and_flip(batch, scale=(1, 1), aspect_ratio=(1, 1), flip=0, generator=seeded())
    torch.testing.assert_close(same, normalise(batch), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(96, 48), (64, 20), (40, 24)])
def test_a_whole_crop_of_another_size_is_a_plain_resize(size):
    batch = images()
    resized = crop_and_flip(batch, scale=(1, 1), aspect_ratio=(1, 1), flip=0, size=size, generator=seeded())
    plain = torch.nn.functional.interpolate(batch.float(), size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(resized, normalise(plain), atol=1e-3, rtol=0)


def test_a_box_of_whole_pixels_is_cut_out_exactly():
    batch = images(1, 40, 20)
    box = torch.tensor([[10 / 40, 5 / 20, 20 / 40, 10 / 20, 1.0]])
    torch.testing.assert_close(cut(batch, box, (20, 10)), batch[:, :, 10:30, 5:15].float(), atol=1e-2, rtol=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([(48, 24), (47, 23), (33, 50)]))
def test_mirror_flips_exactly(seed, size):
    batch = images()
    straight = crop_and_flip(batch, flip=0.0, size=size, generator=seeded(seed))
    flipped = crop_and_flip(batch, flip=1.0, size=size, generator=seeded(seed))
    assert torch.equal(flipped, straight.flip(3))


def test_the_generator_alone_decides():
    batch = images(8)
    torch.manual_seed(1)
    first = crop_and_flip(batch, generator=seeded(5))
    torch.manual_seed(2)
    assert torch.equal(first, crop_and_flip(batch, generator=seeded(5)))
    assert not torch.equal(first, crop_and_flip(batch, generator=seeded(6)))
    # one generator gives the next batch other crops, and a state taken before gives the same ones again
    generator = seeded(5)
    crop_and_flip(batch, generator=generator)
    state = generator.get_state()
    second = crop_and_flip(batch, generator=generator)
    assert not torch.equal(first, second)
    generator.set_state(state)
    assert torch.equal(second, crop_and_flip(batch, generator=generator))


def test_an_option_leaves_the_other_draws_alone():
    usual = crop_boxes(50, scale=(0.64, 1.0), aspect_ratio=(1.0, 1.5), flip=0.5, generator=seeded())
    unmirrored = crop_boxes(50, scale=(0.64, 1.0), aspect_ratio=(1.0, 1.5), flip=0.0, generator=seeded())
    assert torch.equal(usual[:, :4], unmirrored[:, :4])


def test_the_batch_and_its_images_are_left_alone():
    batch = images()
    before = batch.clone()
    out = crop_and_flip(batch, generator=seeded())
    assert torch.equal(batch, before) and out.dtype == torch.float32 and out.shape == (4, 3, 48, 24)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_gpu_sees_the_same_crops():
    batch = images(8)
    cpu, gpu = crop_and_flip(batch, generator=seeded()), crop_and_flip(batch.cuda(), generator=seeded())
    torch.testing.assert_close(gpu.cpu(), cpu, atol=1e-3, rtol=0)


@pytest.mark.parametrize("change, words", [
    (dict(scale=(0.0, 1.0)), r"scale=\(0.0, 1.0\) is no interval inside"),
    (dict(scale=(0.9, 0.5)), "scale=.* is no interval inside"),
    (dict(scale=(0.5, 1.5)), "scale=.* is no interval inside"),
    (dict(aspect_ratio=(0.0, 1.0)), "aspect_ratio=.* is no interval above 0"),
    (dict(flip=1.5), "flip=1.5 is no probability; give"),
    (dict(images=torch.zeros(2, 3, 8, 4)), "images to augment are torch.float32 of shape .*; give uint8"),
    (dict(images=torch.zeros(3, 8, 4, dtype=torch.uint8)), r"of shape \(3, 8, 4\); give uint8 of shape B×3×H×W"),
])  # fmt: skip
def test_bad_options_are_named(change, words):
    arguments = {"images": images(), "generator": seeded(), **change}
    with pytest.raises(ReidError, match=words):
        crop_and_flip(arguments.pop("images"), **arguments)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 12))
def test_pad_and_crop_is_the_loop_over_pixels(seed, pad):
    batch = images(3, 8, 5, seed)
    found = pad_and_crop(batch, pad=pad, generator=seeded(seed))
    draws = torch.rand(2, 3, generator=seeded(seed), dtype=torch.float64).tolist()
    expected = torch.zeros_like(batch)
    for b in range(3):
        down, across = (math.floor(draws[axis][b] * (2 * pad + 1)) - pad for axis in range(2))
        assert -pad <= down <= pad and -pad <= across <= pad
        for y in range(8):
            for x in range(5):
                if 0 <= y + down < 8 and 0 <= x + across < 5:
                    expected[b, :, y, x] = batch[b, :, y + down, x + across]
    assert found.dtype == torch.uint8 and torch.equal(found, expected)


def test_pad_and_crop_reaches_every_place_equally_often():
    batch = torch.zeros(9000, 3, 5, 4, dtype=torch.uint8)
    batch[:, :, 2, 2] = 255
    moved = pad_and_crop(batch, pad=1, generator=seeded())
    places = moved[:, 0].float().mean(0) / 255
    assert torch.allclose(places[1:4, 1:4], torch.full((3, 3), 1 / 9), atol=0.015)
    assert places.sum().item() == pytest.approx(1)


def test_no_padding_leaves_the_images_and_takes_as_many_draws():
    batch = images()
    before, one, other = batch.clone(), seeded(), seeded()
    assert torch.equal(pad_and_crop(batch, pad=0, generator=one), batch)
    pad_and_crop(batch, pad=7, generator=other)
    assert torch.equal(one.get_state(), other.get_state()) and torch.equal(batch, before)


def slow_erase(batch, *, probability, area, ratio, generator):
    """Image by image, candidate by candidate, pixel by pixel; the numbers drawn in the order of `erasing_boxes`."""
    count, _, high, wide = batch.shape
    draws = torch.rand(23, count, generator=generator, dtype=torch.float64).tolist()
    batch = batch.clone()
    for b in range(count):
        chance, down, across, *sizes = (row[b] for row in draws)
        if chance >= probability:
            continue
        for share, shape in zip(sizes[::2], sizes[1::2], strict=True):
            pixels = (area[0] + share * (area[1] - area[0])) * high * wide
            r = ratio[0] * (ratio[1] / ratio[0]) ** shape
            h, w = max(1, round(math.sqrt(pixels * r))), max(1, round(math.sqrt(pixels / r)))
            if h <= high and w <= wide:
                top, left = math.floor(down * (high - h + 1)), math.floor(across * (wide - w + 1))
                for y in range(top, top + h):
                    for x in range(left, left + w):
                        batch[b, :, y, x] = 0
                break
    return batch


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 1), interval(0.01, 1.0), interval(0.1, 10.0))
def test_erasing_is_the_loop_over_images_candidates_and_pixels(seed, probability, area, ratio):
    batch = normalise(images(6, 12, 7, seed))
    options = dict(probability=probability, area=area, ratio=ratio)
    assert torch.equal(
        erase(batch, **options, generator=seeded(seed)), slow_erase(batch, **options, generator=seeded(seed))
    )


def test_erased_shares_ratios_and_places_are_as_asked():
    size, count = (256, 128), 20_000
    boxes = erasing_boxes(
        count, size, probability=0.5, area=(0.02, 0.4), ratio=(0.3, 3.33), generator=seeded()
    ).double()
    top, left, height, width = boxes.unbind(1)
    erased = height > 0
    assert abs(erased.double().mean() - 0.5) < 0.015
    assert not boxes[~erased].any()
    top, left, height, width = boxes[erased].unbind(1)
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 256).all() and (left + width <= 128).all()
    share, ratio = height * width / (256 * 128), height / width
    assert share.min() > 0.0195 and share.max() < 0.405  # sides are whole pixels
    assert ratio.min() > 0.29 and ratio.max() < 3.4
    assert share.min() < 0.022 and share.max() > 0.38
    # small rectangles all fit: there the two draws show as they are
    boxes = erasing_boxes(count, size, probability=1, area=(0.02, 0.1), ratio=(0.3, 1 / 0.3), generator=seeded())
    top, left, height, width = boxes.double().unbind(1)
    share = height * width / (256 * 128)
    assert abs(share.mean() - 0.06) < 0.001 and abs((share < 0.04).double().mean() - 0.25) < 0.02
    assert abs((height > width).double().mean() - 0.5) < 0.02
    assert abs((top / (256 - height)).mean() - 0.5) < 0.01 and abs((left / (128 - width)).mean() - 0.5) < 0.01


def test_erasing_fills_with_zero_and_touches_nothing_else():
    batch = torch.ones(200, 3, 24, 12) + images(200, 24, 12).float()  # no zero anywhere
    before = batch.clone()
    options = dict(probability=0.5, area=(0.02, 0.4), ratio=(0.3, 3.33))
    found = erase(batch, **options, generator=seeded())
    boxes = erasing_boxes(200, (24, 12), **options, generator=seeded()).tolist()
    assert torch.equal(batch, before) and found.dtype == batch.dtype
    for after, image, (top, left, height, width) in zip(found, before, boxes, strict=True):
        assert not after[:, top : top + height, left : left + width].any()
        assert int((after == 0).sum()) == 3 * height * width
        kept = after != 0
        assert torch.equal(after[kept], image[kept])


def test_no_erasing_leaves_the_images_and_takes_as_many_draws():
    batch = normalise(images())
    one, other = seeded(), seeded()
    assert torch.equal(erase(batch, probability=0.0, generator=one), batch)
    assert not torch.equal(erase(batch, probability=1.0, generator=other), batch)
    assert torch.equal(one.get_state(), other.get_state())


def test_a_rectangle_that_never_fits_erases_nothing():
    batch = normalise(images())
    assert torch.equal(erase(batch, probability=1.0, area=(0.9, 1.0), ratio=(0.1, 0.2), generator=seeded()), batch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_gpu_pads_and_erases_the_same_pixels():
    batch = images(8)
    assert torch.equal(
        pad_and_crop(batch.cuda(), pad=5, generator=seeded()).cpu(), pad_and_crop(batch, pad=5, generator=seeded())
    )
    floats = normalise(batch)
    assert torch.equal(
        erase(floats.cuda(), probability=0.5, generator=seeded()).cpu(),
        erase(floats, probability=0.5, generator=seeded()),
    )


@pytest.mark.parametrize("function, change, words", [
    (pad_and_crop, dict(pad=-1), "pad=-1 is no border; give a number of pixels"),
    (pad_and_crop, dict(images=torch.zeros(2, 3, 8, 4)), "images to augment are torch.float32 .*; give uint8"),
    (erase, dict(probability=-0.1), "probability=-0.1 is no probability; give"),
    (erase, dict(area=(0.0, 0.4)), r"area=\(0.0, 0.4\) is no interval inside"),
    (erase, dict(area=(0.4, 1.2)), "area=.* is no interval inside"),
    (erase, dict(ratio=(3.0, 0.3)), "ratio=.* is no interval above 0"),
    (erase, dict(images=images()), r"images to erase from are torch.uint8 of shape \(4, 3, 48, 24\); give floats"),
    (erase, dict(images=torch.zeros(3, 8, 4)), r"of shape \(3, 8, 4\); give floats of shape B×3×H×W"),
])  # fmt: skip
def test_bad_options_of_padding_and_erasing_are_named(function, change, words):
    usual = (
        dict(images=images(), pad=2) if function is pad_and_crop else dict(images=normalise(images()), probability=1)
    )
    arguments = {**usual, "generator": seeded(), **change}
    with pytest.raises(ReidError, match=words):
        function(arguments.pop("images"), **arguments)


def test_an_epoch_shows_every_image_once_in_a_new_order():
    generator = seeded()
    first, second = (epoch_batches(20, 5, generator) for _ in range(2))
    for epoch in (first, second):
        assert torch.cat(epoch).sort().values.tolist() == list(range(20))
    assert torch.cat(first).tolist() != torch.cat(second).tolist()
    assert torch.cat(first).tolist() == torch.cat(epoch_batches(20, 5, seeded())).tolist()
    full = epoch_batches(23, 5, seeded())
    assert [len(batch) for batch in full] == [5, 5, 5, 5] and len(set(torch.cat(full).tolist())) == 20


@pytest.mark.parametrize("n, batch", [(4, 5), (0, 1), (4, 0)])
def test_an_epoch_without_a_batch_is_refused(n, batch):
    with pytest.raises(ReidError, match=f"{n} training images do not fill one batch of {batch}; use"):
        epoch_batches(n, batch, seeded())
