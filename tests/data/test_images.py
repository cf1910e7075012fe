"""Decoding: every pixel once, in order, and no cut or foreign file passes."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageFile

from reidlib.data.images import IMAGENET_MEAN, IMAGENET_STD, _statistics, decode, normalise, read_image
from reidlib.data.table import Dataset
from reidlib.spec import ReidError


def picture(seed, height=32, width=16):
    noise = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(seed, **options):
    stream = io.BytesIO()
    picture(seed).save(stream, "JPEG", **{"quality": 95, **options})
    return stream.getvalue()


@pytest.fixture
def dataset(tmp_path):
    names = [f"image-{seed}.jpg" for seed in range(12)]
    for seed, name in enumerate(names):
        (tmp_path / name).write_bytes(jpeg(seed))
    table = pd.DataFrame({"path": names, "identity": 1, "camera": 1, "split": "train"})
    return Dataset("small", tmp_path, "real", table, "0", ())


@pytest.mark.parametrize("workers", [None, 1, 5])
def test_pixels_arrive_once_and_in_order(dataset, workers):
    frame = dataset.split("train").iloc[::-1]
    images = decode(dataset, frame, (32, 16), workers=workers)
    assert images.dtype == torch.uint8 and images.shape == (12, 3, 32, 16) and images.is_contiguous()
    for image, name in zip(images, frame["path"], strict=True):
        expected = np.asarray(Image.open(dataset.root / name).convert("RGB"))
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_resizing_is_bilinear_with_antialias(dataset):
    image = decode(dataset, dataset.split("train").iloc[:1], (12, 10))[0]
    full = decode(dataset, dataset.split("train").iloc[:1], (32, 16)).float()
    expected = torch.nn.functional.interpolate(full, (12, 10), mode="bilinear", antialias=True)[0]
    assert (image.float() - expected).abs().max() <= 1  # two libraries round to whole values


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_every_image_becomes_rgb(tmp_path, mode):
    picture(0).convert(mode).save(tmp_path / "one.jpg")
    assert read_image(tmp_path / "one.jpg").shape == (32, 16, 3)


def test_a_png_is_read_too(tmp_path):
    picture(0).save(tmp_path / "one.png")
    np.testing.assert_array_equal(read_image(tmp_path / "one.png"), np.asarray(picture(0)))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_file_cut_anywhere_is_refused(tmp_path, options):
    """Every proper beginning of a JPEG, down to the last byte, also when another library has made Pillow lenient."""
    whole, path = jpeg(0, **options), tmp_path / "cut.jpg"
    path.write_bytes(whole)
    read_image(path)
    for length in range(len(whole)):
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        path.write_bytes(whole[:length])
        with pytest.raises(ReidError, match="cut.jpg (is cut short|cannot be decoded)"):
            read_image(path)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_tail_of_zeros_is_refused(tmp_path):
    """What a crash during a copy leaves: the right size, no content."""
    whole, path = jpeg(0), tmp_path / "zeros.jpg"
    path.write_bytes(whole[: len(whole) // 2].ljust(len(whole), b"\0"))
    with pytest.raises(ReidError, match="zeros.jpg is cut short"):
        read_image(path)


@pytest.mark.parametrize("content, words", [
    (None, "is missing; copy or render this very file again"),
    (b"", r"is cut short \(0 bytes\); copy or render this very file again"),
    (b"<html>not found</html>", r"cannot be decoded \(not a JPEG or PNG; 22 bytes\); copy or render"),
    (jpeg(0)[:300], r"is cut short \(300 bytes\); copy"),
    (jpeg(0)[:20] + b"\xff\xda\xff\xd9", "cannot be decoded"),
])  # fmt: skip
def test_the_first_bad_file_is_named(dataset, content, words):
    for position in (7, 3):
        path = dataset.root / f"image-{position}.jpg"
        path.unlink()
        if content is not None:
            path.write_bytes(content)
    with pytest.raises(ReidError, match="image-3.jpg " + words) as error:
        decode(dataset, dataset.split("train"), (32, 16))
    assert "\n" not in str(error.value) and "0x" not in str(error.value)


def test_normalise():
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    values = normalise(images)
    assert values.dtype == torch.float32 and values.shape == (2, 3, 2, 2)
    for channel in range(3):
        mean, deviation = IMAGENET_MEAN[channel], IMAGENET_STD[channel]
        assert values[:, channel, 0, 0].tolist() == pytest.approx([-mean / deviation, (1 - mean) / deviation], rel=1e-5)
    assert normalise(images, torch.bfloat16).dtype == torch.bfloat16
    assert images.dtype == torch.uint8 and images[1].eq(255).all()  # the caller's batch is left alone


def test_normalise_gives_a_gradient_after_a_first_call_without():
    _statistics.cache_clear()
    with torch.inference_mode():
        normalise(torch.full((1, 3, 2, 2), 7.0))
    images = torch.full((1, 3, 2, 2), 7.0, requires_grad=True)
    normalise(images).sum().backward()
    assert images.grad[0, :, 0, 0].tolist() == pytest.approx([1 / (255 * deviation) for deviation in IMAGENET_STD])


def test_normalise_leaves_floats_alone():
    images = torch.full((1, 3, 2, 2), 7.0)
    normalise(images)
    assert images.eq(7.0).all()
