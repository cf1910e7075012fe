"""Decoded images in the cache: the same pixels, one copy for all processes, nothing wrong in silence."""

import multiprocessing
import os
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from reidlib import paths
from reidlib.data import images
from reidlib.data.table import Dataset
from reidlib.runs import datasets, records
from reidlib.spec import ReidError

SIZE = (12, 10)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Eleven training images and no query; the cache is new."""
    monkeypatch.setenv("REID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "CHUNK", 4)
    names = [f"{number}.png" for number in range(11)]
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    table = pd.DataFrame({"path": names, "identity": 1, "camera": 1, "split": "train"})
    return Dataset("small", tmp_path, "real", table, "0123456789abcdef", ())


@pytest.fixture
def expected(data):
    return images.decode(data, data.split("train"), SIZE)


def file_of(data):
    return datasets.decoded_file(data, "train", SIZE)


def test_the_same_pixels_from_the_file_and_from_the_cache(data, expected, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of a read-only map
        first = datasets.decoded(data, "train", SIZE)
        monkeypatch.setattr(images, "decode", lambda *given: pytest.fail("decoded again"))
        second = datasets.decoded(data, "train", SIZE)
    for found in (first, second):
        assert found.dtype == torch.uint8 and found.is_contiguous() and found.device.type == "cpu"
        assert torch.equal(found, expected)
    assert sorted(file.name for file in file_of(data).parent.iterdir()) == [
        file_of(data).name,
        f"{file_of(data).name}.lock",
    ]
    assert (paths.cache() / records.CACHE_MARKER).is_file()


def test_writing_to_the_tensor_does_not_change_the_file(data, expected):
    before = datasets.decoded(data, "train", SIZE)
    before.zero_()
    assert torch.equal(datasets.decoded(data, "train", SIZE), expected)


def test_each_data_set_split_size_and_source_has_its_own_file(data):
    names = {
        datasets.decoded_file(Dataset(data.name, data.root, source, data.table, digest, ()), split, size)
        for source in ("real", "stand-in")
        for digest in ("0" * 16, "1" * 16)
        for split in ("train", "query")
        for size in ((12, 10), (10, 12))
    }
    assert len(names) == 16
    assert datasets.decoded(data, "query", SIZE).shape == (0, 3, *SIZE)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1],
        lambda whole: whole + b"\0",
        lambda whole: whole[:60],
        lambda whole: b"",
        lambda whole: bytes(len(whole)),
        lambda whole: b"PK\x03\x04" + whole[4:],
        lambda whole: whole.replace(b"|u1", b"|i1"),
        lambda whole: whole.replace(b"(11, 3", b"(10, 3"),
        lambda whole: whole.replace(b"False", b"True "),
    ],
    ids=["cut", "longer", "header cut", "empty", "zeros", "zip", "type", "shape", "order"],
)
def test_a_damaged_file_is_made_again(data, expected, damage):
    datasets.decoded(data, "train", SIZE)
    file, said = file_of(data), []
    file.write_bytes(damage(file.read_bytes()))
    assert torch.equal(datasets.decoded(data, "train", SIZE, log=said.append), expected)
    assert len(said) == 1 and said[0].endswith("damaged, decoded again")
    assert datasets.decoded(data, "train", SIZE, log=pytest.fail) is not None


@pytest.mark.parametrize("where", ["fsync", "prepare_cache", "access"])
def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(data, expected, monkeypatch, where):
    def full(*given):
        raise OSError(28, "No space left on device")

    if where == "access":
        monkeypatch.setattr(os, "access", lambda *given: False)
    else:
        monkeypatch.setattr(os if where == "fsync" else records, where, full)
    said = []
    assert torch.equal(datasets.decoded(data, "train", SIZE, log=said.append), expected)
    assert len(said) == 1 and "cannot be written" in said[0] and "decoded into memory" in said[0]
    assert not file_of(data).exists() and not list(paths.cache().rglob("*.partial"))


def test_a_bad_image_is_named_and_leaves_nothing(data):
    (data.root / "9.png").write_bytes(b"")
    with pytest.raises(ReidError, match="9.png is cut short"):
        datasets.decoded(data, "train", SIZE)
    assert not file_of(data).exists() and not list(paths.cache().rglob("*.partial"))


def _decode(data, start, decoding, answers):
    decode = images.decode

    def counted(*given):
        decoding.put(os.getpid())
        return decode(*given)

    images.decode = counted
    start.wait()
    answers.put(int(datasets.decoded(data, "train", SIZE).long().sum()))


def test_of_several_processes_one_decodes(data, expected):
    context = multiprocessing.get_context("fork")
    start, decoding, answers = context.Event(), context.Queue(), context.Queue()
    processes = [context.Process(target=_decode, args=(data, start, decoding, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    sums = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert sums == {int(expected.long().sum())}
    decoders = [decoding.get(timeout=5) for _ in range(3)]  # one a chunk
    assert len(set(decoders)) == 1 and decoding.empty()


def test_a_variant_is_a_stand_in_of_its_own_and_has_no_photographs(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_CACHE", str(tmp_path))
    monkeypatch.setitem(datasets.STANDIN_SCALE, "smoke", 0.001)
    names = ("market1501", *datasets.VARIANTS)
    assert len({datasets.data_digest(name, "stand-in", "smoke") for name in names}) == len(names)
    plain, tight = (datasets.load(name, "stand-in", "smoke") for name in names[:2])
    assert (plain.name, tight.name) == names[:2] and plain.root != tight.root
    assert tight.digest == datasets.data_digest("market1501-tight", "stand-in", "smoke") != plain.digest
    assert plain.table.equals(tight.table), "the same people, cameras and moments"
    assert not datasets.is_to_be_rendered("market1501-tight", "stand-in", "smoke")
    for ask in (datasets.load, datasets.data_digest):
        with pytest.raises(ReidError, match="market1501-tight is a stand-in with one factor changed"):
            ask("market1501-tight", "real", "smoke")
