"""What all loaders share, and the command that prints a table of any of them."""

import numpy as np
import pandas as pd
import pytest

from reidlib import cli
from reidlib.data import table
from reidlib.data.table import Check, Dataset, combined_digest, describe, queries_without_match, rows, rows_digest
from reidlib.runs import datasets

SETS = {
    "Market-1501-v15.09.15": {
        "bounding_box_train": ["0002_c1s1_000451_03.jpg"],
        "query": ["0001_c1s1_001051_00.jpg"],
        "bounding_box_test": ["0001_c6s1_009601_02.jpg"],
    },
    "DukeMTMC-reID": {
        "bounding_box_train": ["0001_c2_f0046182.jpg"],
        "query": ["0002_c2_f0046985.jpg"],
        "bounding_box_test": ["0002_c5_f0051781.jpg"],
    },
    "CUHK03-NP": {
        f"{boxes}/{folder}": names
        for boxes in ("labeled", "detected")
        for folder, names in (
            ("bounding_box_train", ["0002_c1_1.png"]),
            ("query", ["0001_c1_1.png"]),
            ("bounding_box_test", ["0001_c2_6.png"]),
        )
    },
    "MSMT17_V2": {
        "mask_train_v2/0000": ["0000_000_01_0303morning_0008_0.jpg", "0000_001_01_0303morning_0009_0.jpg"],
        "mask_test_v2/0000": ["0000_000_01_0303morning_0015_0.jpg", "0000_001_02_0303morning_0015_0.jpg"],
    },
}
LISTS = {
    "list_train.txt": "0000/0000_000_01_0303morning_0008_0.jpg 0",
    "list_val.txt": "0000/0000_001_01_0303morning_0009_0.jpg 0",
    "list_query.txt": "0000/0000_000_01_0303morning_0015_0.jpg 0",
    "list_gallery.txt": "0000/0000_001_02_0303morning_0015_0.jpg 0",
}


@pytest.fixture
def everything(tmp_path, monkeypatch):
    """A folder of all real data sets, as REID_DATA names it, with the classic test sets of CUHK03."""
    from scipy.io import savemat

    for root, folders in SETS.items():
        for folder, names in folders.items():
            (tmp_path / root / folder).mkdir(parents=True)
            for name in names:
                (tmp_path / root / folder / name).write_bytes(b"x")
    for name, line in LISTS.items():
        (tmp_path / "MSMT17_V2" / name).write_text(line + "\n")
    sets = np.empty((20, 1), dtype=object)
    for row in sets:
        row[0] = np.array([[1.0, 1.0]])
    savemat(tmp_path / "CUHK03-NP" / "testsets.mat", {"testsets": sets})
    monkeypatch.setenv("REID_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", [name for name in datasets.LOADERS if name != "start"])  # which is never real
def test_reid_data_prints_every_table_there_is(everything, capsys, name):
    assert cli.main(["data", name]) == 0
    under_the_variable = capsys.readouterr().out
    assert under_the_variable.startswith(f"{name} (real) in {everything}")
    assert [line.split()[0] for line in under_the_variable.splitlines()[3:7]] == ["split", "train", "query", "gallery"]
    assert "DIFFERS" in under_the_variable
    assert cli.main(["data", name, "--root", str(everything)]) == 0  # a level too shallow, or the folder of both
    digest = under_the_variable.splitlines()[1]
    assert digest in capsys.readouterr().out


def test_an_unknown_name_lists_what_there_is_in_one_short_line(capsys):
    assert cli.main(["data", "viper"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: reid data: unknown data set 'viper'; choose one of market1501, dukemtmc, msmt17, ")
    assert "cuhk03-np-labeled" in error and "cuhk03-classic3-detected-01 … -20" in error and "duke-to-market" in error
    assert len(error.splitlines()) == 1 and len(error) < 500 and "-02" not in error


def test_a_fault_is_one_line_on_stderr(tmp_path, capsys):
    assert cli.main(["data", "cuhk03-classic-labeled-01", "--root", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: root {tmp_path} holds none of cuhk-03.mat, ") and len(error.splitlines()) == 1


def toy(checks=(), notes=(), source="real"):
    part = rows(["a", "b"], [3, 3], [1, 2], "train")
    return Dataset("toy", table.Path("/toy"), source, part, "0" * 16, checks, notes)


def test_the_text_of_a_table():
    checks = (Check("images", "2", "2", True), Check("cameras", "6", "2", False))
    assert describe(toy(checks, ("A remark.",))).splitlines() == [
        "toy (real) in /toy",
        "digest 0000000000000000",
        "",
        "split        identities   images  cameras   junk  distractors",
        "train                 1        2        2      0            0",
        "",
        "checks",
        "  ok       images: 2",
        "  DIFFERS  cameras: 2 (expected 6)",
        "",
        "notes",
        "  A remark.",
    ]
    assert "notes" not in describe(toy())


def test_a_table_checks_itself():
    with pytest.raises(ValueError, match="source 'both': choose 'stand-in' or 'real'"):
        toy(source="both")
    with pytest.raises(ValueError, match=r"columns missing \['camera'\]"):
        Dataset("toy", table.Path("/toy"), "real", toy().table.drop(columns="camera"), "0", ())
    with pytest.raises(ValueError, match=r"splits unknown \['test'\]"):
        Dataset("toy", table.Path("/toy"), "real", toy().table.assign(split="test"), "0", ())


def test_digests_see_order_borders_and_splits():
    assert len({combined_digest(*parts) for parts in (("a", "b"), ("b", "a"), ("ab",), ("a", "b", ""))}) == 4
    part = toy().table
    changes = [part.assign(split="query"), part.assign(identity=4), part.assign(camera=1), part.assign(path="c")]
    assert len({rows_digest("x", one) for one in (part, *changes)} | {rows_digest("y", part)}) == 6
    assert rows_digest("x", part) == rows_digest("x", part.copy())


def test_queries_without_match_as_a_slow_loop_finds_them():
    random = np.random.default_rng(0)
    for _ in range(20):
        parts = [
            rows([f"{split}{i}" for i in range(12)], random.integers(-1, 6, 12), random.integers(1, 4, 12), split)
            for split in ("query", "gallery")
        ]
        both = pd.concat(parts, ignore_index=True)
        gallery = parts[1]
        alone = [
            query.path
            for query in parts[0].itertuples()
            if query.identity <= 0
            or not ((gallery["identity"] == query.identity) & (gallery["camera"] != query.camera)).any()
        ]
        assert queries_without_match(both)["path"].tolist() == alone
