"""Decoding: every pixel once, in order, and no cut or foreign file passes."""

import io
import os
import struct
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageFile

from reidlib.data.images import IMAGENET_MEAN, IMAGENET_STD, _rgb, _statistics, decode, normalise, read_image
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


def test_pixels_arrive_once_and_in_order(dataset):
    frame = dataset.split("train").iloc[::-1]
    images = decode(dataset, frame, (32, 16))
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


def written(path, array, mode=None, **options):
    Image.fromarray(array, mode).save(path, **options)
    return path


def test_grey_of_16_bits_is_scaled_not_clipped(tmp_path):
    grey = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    image = read_image(written(tmp_path / "grey.png", grey))
    assert image.shape == (256, 256, 3) and (image[..., 0] == image[..., 2]).all()
    np.testing.assert_array_equal(image[..., 0], np.round(grey / 257).astype(np.uint8))
    assert image.mean() == pytest.approx(127.5, abs=0.01)
    assert read_image(tmp_path / "grey.png", (8, 4)).shape == (8, 4, 3)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(bits: int, colour: int, row: bytes, *, transparent: bytes = b"", width: int = 1) -> bytes:
    """A PNG of one row, of any bit depth and colour type."""
    header = struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0)
    palette = chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60])) if colour == 3 else b""
    tail = chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + palette
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + tail
    )


@pytest.mark.parametrize(
    "content, pixel",
    [
        (png(1, 0, b"\x80"), (255, 255, 255)),
        (png(2, 0, b"\x40"), (85, 85, 85)),
        (png(4, 0, b"\x70"), (119, 119, 119)),
        (png(8, 0, b"\x77"), (119, 119, 119)),
        (png(16, 0, b"\x77\x77"), (119, 119, 119)),
        (png(16, 2, b"\x11\x11\x22\x22\x33\x33"), (17, 34, 51)),
        (png(8, 3, b"\x01"), (40, 50, 60)),
        (png(8, 3, b"\x01", transparent=b"\x00\xff"), (40, 50, 60)),
        (png(8, 4, b"\x77\xff"), (119, 119, 119)),
        (png(16, 4, b"\x77\x77\xff\xff"), (119, 119, 119)),
        (png(8, 6, b"\x01\x02\x03\xff"), (1, 2, 3)),
        (png(8, 2, b"\x01\x02\x03", transparent=b"\0\1\0\2\0\4"), (1, 2, 3)),
    ],
    ids=["1 bit", "2 bits", "4 bits", "8 bits", "16 bits", "RGB 16", "palette", "palette, other entry transparent",
         "grey, opaque", "grey 16, opaque", "RGBA, opaque", "RGB, other colour transparent"],
)  # fmt: skip
def test_every_kind_of_png_keeps_its_value(tmp_path, content, pixel):
    (tmp_path / "one.png").write_bytes(content)
    assert tuple(read_image(tmp_path / "one.png")[0, 0].tolist()) == pixel


@pytest.mark.parametrize(
    "content",
    [
        png(8, 3, b"\x01", transparent=b"\xff\x00"),
        png(8, 4, b"\x77\x80"),
        png(8, 6, b"\x01\x02\x03\x00"),
        png(8, 0, b"\x77", transparent=b"\0\x77"),
        png(8, 2, b"\x01\x02\x03", transparent=b"\0\1\0\2\0\3"),
        png(16, 0, b"\x77\x77", transparent=b"\x77\x77"),
    ],
    ids=["palette", "grey", "RGBA", "grey value", "colour", "16 bits"],
)
def test_transparent_pixels_are_refused(tmp_path, content):
    (tmp_path / "one.png").write_bytes(content)
    with pytest.raises(ReidError, match="one.png has transparent pixels, or values .mode .*save it as RGB"):
        read_image(tmp_path / "one.png")


@pytest.mark.parametrize("mode", ["F", "HSV", "LAB"])
def test_a_kind_of_image_that_rgb_cannot_show_is_refused(mode):
    """JPEG and PNG have none of these; whatever opens one some day must not clip it."""
    assert _rgb(Image.new(mode, (2, 2))) is None
    assert _rgb(Image.fromarray(np.array([[70_000]], dtype=np.int32))) is None
    assert np.asarray(_rgb(Image.fromarray(np.array([[0x7777]], dtype=np.int32)))).tolist() == [[[119] * 3]]


def test_a_pipe_or_a_folder_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "folder.jpg"):
        with pytest.raises(ReidError, match=f"{name} is not a regular file"):
            read_image(tmp_path / name)


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
