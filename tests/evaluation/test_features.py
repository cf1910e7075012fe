"""Sets of features: what is taken, what is refused with which words, and the means of multi-query."""

import json
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.io import savemat

from reidlib import cli
from reidlib.evaluation import PROTOCOLS, Features, evaluate
from reidlib.spec import ReidError

GOOD = dict(features=np.eye(3, dtype=np.float32), ids=[1, 2, 3], cameras=[1, 1, 2])


@pytest.mark.parametrize("change, words", [
    (dict(features=np.array([[1.0, 0], [np.nan, 1], [0, np.inf]])), "features hold NaN.*in 2 of 3 rows, first row 1"),
    (dict(features=np.ones(3)), r"features have shape \(3,\); give N×D with at least one row"),
    (dict(features=np.ones((0, 3)), ids=[], cameras=[]), r"features have shape \(0, 3\); give"),
    (dict(features=np.ones((3, 0))), r"features have shape \(3, 0\); give"),
    (dict(features=np.eye(3, dtype=int)), "features are torch.int64; give a floating point type"),
    (dict(ids=[1]), r"ids have shape \(1,\), but there are 3 images; give one whole number each"),
    (dict(cameras=[[1, 2, 3]]), r"cameras have shape \(1, 3\), but there are 3 images"),
    (dict(ids=[1.5, 2, 3]), "ids are no whole numbers within int64, first 1.5 in row 0; give integers"),
    (dict(ids=[1, np.inf, 3]), "ids are no whole numbers within int64, first inf in row 1"),
    (dict(ids=[1, 2, np.nan]), "ids are no whole numbers within int64, first nan in row 2"),
    (dict(ids=[1e19, 2, 3]), r"ids are no whole numbers within int64, first 1e\+19 in row 0"),
    (dict(cameras=[2.0**63, 2, 3]), "cameras are no whole numbers within int64, first 9.2"),
    (dict(ids=np.array([1, 2, 2**63], np.uint64)), "ids are no whole numbers within int64, first 9223372036854775808"),
    (dict(ids=np.array([1, 2, 2049], np.float16)), "ids are torch.float16, in which whole numbers from 2048 on"),
    (dict(cameras=np.array([-(2.0**24), 1, 2], "f4")), "cameras are torch.float32, .* 16777216 on .*, first -1677"),
    (dict(ids=[1, 2, 2.0**53]), "ids are torch.float64, in which whole numbers from 9007199254740992 on are rounded"),
    (dict(ids=np.ones(3, bool)), "ids are bool values; give numbers"),
    (dict(cameras=["a", "b", "c"]), "cameras are str32 values; give numbers of at most 64 bits"),
    (dict(features=np.full((3, 2), np.longdouble("1e4000"))), "features hold NaN or infinite"),
    (dict(features=np.eye(3, dtype=complex)), "features are complex128 values; give numbers"),
    (dict(ids=np.ones(3, complex)), "ids are complex128 values"),
    (dict(ids=np.zeros(3, [("a", int)])), "ids are structured values"),
    (dict(features=np.zeros((3, 2), "S4")), "features are bytes32 values"),
])  # fmt: skip
def test_bad_sets_are_named_by_file_and_field(tmp_path, change, words):
    with pytest.raises(ReidError, match="features: " + words):
        Features(**{**GOOD, **change})
    file = tmp_path / "query.npz"
    np.savez(file, **{**GOOD, **change})
    with pytest.raises(ReidError, match=f"{file}: {words}") as caught:
        Features.read(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8", ">f4", ">f8"])
def test_every_byte_order_and_layout_is_read(tmp_path, kind):
    features = np.arange(12, dtype=kind).reshape(4, 3)
    for layout in (features, features[::-1], features[:, ::-1], np.asfortranarray(features), features[::2]):
        labels = np.arange(len(layout))[::-1].astype(">i2"), np.ones(len(layout), ">f8")
        np.savez(tmp_path / "q.npz", features=layout, ids=labels[0], cameras=labels[1])
        for read in (Features(layout, *labels), Features.read(tmp_path / "q.npz")):
            assert read.features.tolist() == layout.tolist() and read.ids.tolist() == labels[0].tolist()
    long = Features(np.eye(2, dtype=np.longdouble), np.array([1, 2], np.longdouble), [1, 2])
    assert long.features.dtype == torch.float64 and long.ids.tolist() == [1, 2]
    assert Features(torch.eye(2).to(torch.float8_e4m3fn), [1, 2], [1, 2]).features.tolist() == torch.eye(2).tolist()
    bare = Features(
        torch.eye(2, dtype=torch.bfloat16), torch.tensor([1.0, 2.0]).half(), torch.tensor([1, 2]).to(torch.uint8)
    )
    assert bare.ids.tolist() == [1, 2]
    with pytest.raises(ReidError, match="features: features are a sparse"):
        Features(torch.eye(2).to_sparse(), [1, 2], [1, 2])
    with pytest.raises(ReidError, match="features: features are rows of different lengths"):
        Features([[1.0], [1.0, 2.0]], [1, 2], [1, 2])


def test_huge_finite_values_are_no_fault():
    big = np.full((1, 4), 3e38, dtype=np.float32)  # their sum is infinite
    assert len(Features(big, [1], [1])) == 1


def test_a_file_is_read_as_it_was_written(tmp_path):
    np.savez(tmp_path / "q.npz", **GOOD)
    read = Features.read(tmp_path / "q.npz")
    assert read.features.tolist() == np.eye(3).tolist()
    assert (read.ids.tolist(), read.cameras.tolist()) == ([1, 2, 3], [1, 1, 2])
    assert read.ids.dtype == read.cameras.dtype == torch.int64


def members(file, **content):
    """An archive with the good fields, some of them replaced by these bytes."""
    np.savez_compressed(file, **GOOD)
    with zipfile.ZipFile(file) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    kept |= {f"{name}.npy": value for name, value in content.items()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in kept.items():
            archive.writestr(name, value)


def npy(shape):
    """A .npy file of three int64 whose header says another shape."""
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(24)


def damaged(file):
    """The compressed bytes of every member overwritten."""
    np.savez_compressed(file, **GOOD)
    with zipfile.ZipFile(file) as archive:
        data = bytearray(file.read_bytes())
        for part in archive.infolist():
            start = part.header_offset + 30 + len(part.filename)
            data[start : start + part.compress_size // 2] = b"\xff" * (part.compress_size // 2)
    return bytes(data)


def locked(file):
    """The flag of encryption set in every header."""
    np.savez(file, **GOOD)
    data = bytearray(file.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(mark)
        while place >= 0:
            data[place + offset] |= 1
            place = data.find(mark, place + 4)
    return bytes(data)


def bomb(file):
    """A directory that promises 2^44 bytes of one member."""
    np.savez(file, **GOOD)
    data = bytearray(file.read_bytes())
    place = data.find(b"PK\x01\x02")
    extra = b"\x01\x00\x08\x00" + (2**44).to_bytes(8, "little")
    name = int.from_bytes(data[place + 28 : place + 30], "little")
    data[place + 24 : place + 28] = b"\xff" * 4
    data[place + 30 : place + 32] = len(extra).to_bytes(2, "little")
    data[place + 46 + name : place + 46 + name] = extra
    end = data.find(b"PK\x05\x06")
    size = int.from_bytes(data[end + 12 : end + 16], "little") + len(extra)
    data[end + 12 : end + 16] = size.to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize("name, write, words", [
    ("no.npz", None, "is missing; give"),
    ("half.npz", lambda f: f.write_bytes(b"PK\x03\x04 cut"), "cannot be read .*write it with numpy.savez"),
    ("text.npz", lambda f: f.write_text("hello"), "no .npz, or it holds objects.*must hold features, ids, cameras"),
    ("part.npz", lambda f: np.savez(f, features=np.eye(2), ids=[1, 2]), "has no field 'cameras' .it holds 'feat"),
    ("object.npz", lambda f: np.savez(f, **{**GOOD, "ids": np.array([None, 1, 2])}), "holds objects"),
    ("deflate.npz", lambda f: f.write_bytes(damaged(f)), "cannot be read .*write it with numpy.savez"),
    ("empty.npz", lambda f: members(f, ids=b""), "cannot be read"),
    ("header.npz", lambda f: members(f, ids=npy("(9999999999999,)")), "cannot be read"),
    ("shape.npz", lambda f: members(f, ids=npy("(99999999999999999999999,)")), "cannot be read"),
    ("words.npz", lambda f: members(f, ids=npy("(open('x'),)")), "cannot be read"),
    ("locked.npz", lambda f: f.write_bytes(locked(f)), "cannot be read .*(encrypted|password)"),
    ("bomb.npz", lambda f: f.write_bytes(bomb(f)), "unpacks to .* GiB, this machine has"),
    ("folder.npz", lambda f: f.mkdir(), "is not a regular file"),
    ("single.npy", lambda f: np.save(f, np.eye(2)), "single_ids.npy is missing: .*single.npy holds features alone"),
    ("single.npz", lambda f: np.save(f.open("wb"), np.eye(2)), "is a single array, no .npz; call it NAME.npy"),
    ("cut.mat", lambda f: f.write_bytes(mat(f)[:300]), "has no field 'cameras'"),
    ("text.mat", lambda f: f.write_text("hello"), "cannot be read"),
    ("other.mat", lambda f: savemat(f, {"a": 1}), "has no field 'features' .it holds 'a'.; it must hold features, ids"),
    ("cells.mat", lambda f: savemat(f, {**GOOD, "ids": np.array(["b", "a", 1], object)}), "ids are object values"),
    ("flags.safetensors", lambda f: save_file({n: torch.ones(3, 3) > 0 for n in GOOD}, f), "complex or bool tensor"),
    ("cut.safetensors", lambda f: f.write_bytes(b"\x10\0\0\0\0\0\0\0{"), "cannot be read"),
])  # fmt: skip
def test_files_that_hold_no_features(tmp_path, name, write, words):
    file = tmp_path / name
    if write:
        write(file)
    with pytest.raises(ReidError, match=words) as caught:
        Features.read(file)
    assert str(file.with_suffix("")) in str(caught.value) and "unsafe" not in str(caught.value)


@pytest.mark.parametrize("write, words", [
    (lambda f: np.save(f, np.array([1, None])), "it holds objects, or no array"),
    (lambda f: f.write_bytes(b""), "No data left in file"),
    (lambda f: np.savez(f.open("wb"), ids=[1, 2]), "a field is not an array"),
])  # fmt: skip
def test_of_several_npy_files_the_damaged_one_is_named(tmp_path, write, words):
    for name in ("q", "q_ids", "q_cameras"):
        np.save(tmp_path / f"{name}.npy", np.eye(2))
    write(tmp_path / "q_ids.npy")
    with pytest.raises(ReidError, match=f"q_ids.npy cannot be read .*{words}.*; write one array with numpy.save"):
        Features.read(tmp_path / "q.npy")


def mat(file):
    savemat(file, GOOD)
    return file.read_bytes()


BOTH = {"query_f": [[1.0, 0], [0, 1]], "query_label": [1, 2], "query_cam": [1, 1]}
BOTH |= {"gallery_f": [[1.0, 0.25], [0.25, 1], [9, 9]], "gallery_label": [1, 2, -1], "gallery_cam": [2, 2, 2]}


def hdf5(file, content):
    """As MATLAB 7.3 writes it: arrays transposed, a list as a row."""
    import h5py

    with h5py.File(file, "w", userblock_size=512) as stream:
        for name, values in content.items():
            stream[name] = np.atleast_2d(np.asarray(values)).T
    with file.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


WRITERS = {
    "npz": lambda file, content: np.savez(file, **content),
    "mat": savemat,
    "hdf5.mat": hdf5,
    "safetensors": lambda file, content: save_file({n: torch.tensor(v) for n, v in content.items()}, file),
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_one_file_may_hold_both_sets(tmp_path, capsys, suffix):
    """With the names of layumi's baseline, whose file this is."""
    file = tmp_path / f"pytorch_result.{suffix}"
    WRITERS[suffix](file, BOTH)
    query, gallery = (Features.read(file, part, joint=True) for part in ("query", "gallery"))
    assert query.features.tolist() == BOTH["query_f"] and gallery.ids.tolist() == [1, 2, -1]
    assert query.name == f"{file} (query)"
    assert cli.main(["evaluate", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mAP"] == 100
    WRITERS[suffix](file, {name: values for name, values in BOTH.items() if name != "gallery_cam"})
    assert cli.main(["evaluate", str(file)]) == 1
    assert f"{file} has no field 'gallery_cam'" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [*WRITERS, "npy"])
def test_two_files_of_any_kind(tmp_path, suffix):
    file = tmp_path / f"query.{suffix}"
    content = dict(features=[[1.0, 0], [0, 1], [2, 2]], ids=[4, 5, 6], cameras=[1, 2, 1])
    if suffix == "npy":
        np.save(file, content["features"])
        for name in ("ids", "cameras"):
            np.save(tmp_path / f"query_{name}.npy", content[name])
    else:
        WRITERS[suffix](file, content)
    read = Features.read(file)
    assert [read.features.tolist(), read.ids.tolist(), read.cameras.tolist()] == list(content.values())


def test_a_set_of_one_is_not_taken_for_its_own_gallery(tmp_path, capsys):
    np.savez(tmp_path / "q.npz", **GOOD)
    assert cli.main(["evaluate", str(tmp_path / "q.npz")]) == 1
    assert "has no field 'query_f'" in (said := capsys.readouterr().err) and "give the file of the gallery too" in said


def test_ties_are_counted_and_said(tmp_path, capsys):
    """All images at one point: whatever the order, the wrong image comes first."""
    same = BOTH | {"query_f": np.ones((2, 2)), "gallery_f": np.ones((3, 2)), "gallery_label": [1, 2, 0]}
    np.savez(tmp_path / "same.npz", **same)
    assert cli.main(["evaluate", str(tmp_path / "same.npz")]) == 0
    said = capsys.readouterr().out
    assert "R1 0.00" in said and "100.0 % of the true matches are tied with a wrong image" in said


def test_some_of_the_images():
    whole = Features(torch.arange(8.0).view(4, 2), [1, 2, 3, 4], [1, 2, 1, 2])
    for rows in (torch.tensor([True, False, True, False]), torch.tensor([0, 2]), slice(0, 4, 2)):
        assert whole[rows].ids.tolist() == [1, 3] and whole[rows].features[:, 0].tolist() == [0, 4]


def test_multi_query_is_the_mean_of_identity_and_camera():
    query = Features(torch.zeros(2, 2), [1, 2], [1, 1], "query")
    several = Features(
        [[1.0, 0.0], [3.0, 0.0], [9.0, 9.0], [0.0, 5.0]], [1, 1, 1, 2], [1, 1, 2, 1], "multi"
    )  # the third is another camera's
    pooled = several.pooled_for(query)
    assert pooled.features.tolist() == [[2, 0], [0, 5]]
    assert (pooled.ids.tolist(), pooled.cameras.tolist(), pooled.name) == ([1, 2], [1, 1], "query")


def test_multi_query_at_unit_length_gives_a_long_vector_no_more_weight():
    query, long = Features(torch.zeros(1, 2), [1], [1]), Features([[100.0, 0.0], [0.0, 1.0]], [1, 1], [1, 1])
    assert long.pooled_for(query, unit=True).features.tolist() == [[0.5, 0.5]]
    gallery = Features([[1.0, 1.0], [2.0, 0.0]], [1, 2], [2, 2])
    protocol = PROTOCOLS["market1501-multi-query"]
    for metric, rank1 in {"cosine": 100, "euclidean": 0}.items():
        assert evaluate(query, gallery, protocol=protocol, multi=long, metric=metric).metrics()["rank1"] == rank1


def test_multi_query_without_images_for_a_query_or_of_other_dimensions():
    query = Features(torch.zeros(2, 2), [1, 2], [1, 1], "query")
    with pytest.raises(ReidError, match=r"multi: no image of identity 2, camera 1 \(query 1 of query\)"):
        Features(torch.ones(2, 2), [1, 2], [1, 2], "multi").pooled_for(query)
    with pytest.raises(ReidError, match="multi: features have 3 dimensions, those of query 2"):
        Features(torch.ones(2, 3), [1, 2], [1, 1], "multi").pooled_for(query)
