"""What the campaign and its forerunners found, each with the line that it ends in now."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import made_up
import numpy as np
import pytest
import torch
from PIL import Image

from reidlib import cli, training
from reidlib.runs import archive, records
from reidlib.runs.run import runs_of

HOME = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """Results, a cache and a working directory of this test."""
    for name in ("results", "cache"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"REID_{name.upper()}", str(tmp_path / name))
    monkeypatch.chdir(tmp_path)


def error(capsys, *line):
    """The one line on stderr of a command that fails."""
    assert cli.main([str(word) for word in line]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    return said.strip()


@pytest.mark.parametrize("line, words", [
    (("status", "", "--budget", "smoke"), "argument '' is empty; give it a value, or leave it out"),
    (("train", "a/b", "--budget", "smoke", "--variant="), "argument '--variant=' is empty"),
    (("status", "--budget", "smoke", "--seeds", "1_0"), "'1_0' is not a list of whole numbers; give one such as 0,1,2"),
    (("train", "a/b", "--budget", "smoke", "--seed", "٣"), "'٣' is not a whole number"),
    (("reproduce", "--budget", "smoke", "--per-gpu", "9" * 30), "is not a whole number from 1 to 1024"),
    (("render", "market1501", "--scale", "nan"), "'nan' is not a number; give one such as 0.5"),
    (("list", "--\x1b[31m\nx"), "unrecognized arguments: --\ufffd[31m x"),
    (("reproduce", "--budget", "smoke", "--for", "9" * 5000), f"'{'9' * 80}…' is not a number of minutes above 0"),
])  # fmt: skip
def test_words(capsys, line, words):
    with pytest.raises(SystemExit, match="2"):
        cli.main(line)
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_claims_at_an_unknown_budget(capsys):
    """It used to say "not run" of every claim."""
    assert "reid claims: unknown budget 'huge'; choose one of smoke, small" in error(
        capsys, "claims", "--budget", "huge"
    )


def test_seeds_given_twice_are_one():
    given = cli.parser().parse_args(["status", "--budget", "smoke", "--seeds", "1,0,1"])
    assert given.seeds == [1, 0]


@pytest.mark.parametrize("name", ["RESULTS", "CACHE"])
@pytest.mark.parametrize("kind", ["file", "link to itself"])
def test_a_place_that_is_no_folder(capsys, monkeypatch, tmp_path, name, kind):
    """It used to count as empty: `reid list` said that nothing has a record."""
    place = tmp_path / "x"
    place.write_text("") if kind == "file" else place.symlink_to("x")
    monkeypatch.setenv(f"REID_{name}", str(place))
    assert f"REID_{name}={place} is no folder; give a folder" in error(capsys, "clean" if name == "CACHE" else "list")


@pytest.mark.parametrize("word", ["file", "folder", "*", "line\nline", "[0-9]"])
def test_what_is_no_record(capsys, tmp_path, word):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for command in ("show", "export"):
        said = error(capsys, command, word)
        assert (
            "is no .json file, and 0 records under" in said and "give the file of a record, or more of its key" in said
        )


@pytest.mark.parametrize("fault, words", [
    (PermissionError(13, "Permission denied", "/x\n/y"), "error: /x /y: Permission denied; fix its permissions, free"),
    (OSError(28, "No space left on device", "/x"), "error: /x: No space left on device; fix its permissions, free"),
    (MemoryError("Unable to allocate 9 GiB"), "error: reid list: memory has run out (Unable to allocate 9 GiB); give"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "error: reid list: memory has run out (Default"),
])  # fmt: skip
def test_what_the_machine_refuses(capsys, monkeypatch, fault, words):
    def fails(given):
        raise fault

    monkeypatch.setattr(cli, "list_rows", fails)
    assert error(capsys, "list").startswith(words)


def test_a_terminal_without_our_signs(tmp_path):
    """The minus sign of a protocol's title is in no encoding of one byte a letter."""
    features = dict(features=np.eye(2), ids=[1, 2], cameras=[1, 1])
    np.savez(tmp_path / "q.npz", **features)
    np.savez(tmp_path / "g.npz", **features | {"cameras": [2, 2]})
    environment = os.environ | {"PYTHONPATH": str(HOME), "PYTHONIOENCODING": "ascii"}
    line = [sys.executable, "-m", "reidlib.cli", "evaluate", "q.npz", "g.npz"]
    done = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "junk (\\u22121)" in done.stdout and "mAP 100.00" in done.stdout, done.stderr


def test_an_image_far_from_all_others_is_named_with_its_file(capsys, tmp_path):
    np.savez(tmp_path / "q.npz", features=[[1e300, 0], [0, 1]], ids=[1, 2], cameras=[1, 1])
    np.savez(tmp_path / "g.npz", features=np.eye(2), ids=[1, 2], cameras=[2, 2])
    said = error(capsys, "evaluate", "q.npz", "g.npz")
    assert said.startswith("error: q.npz and g.npz: row 0 of 2 features is 1.0e+300 away from the others")


def market(root, counts=None, **manifest):
    for folder, cameras in (("bounding_box_train", (1, 2)), ("query", (1,)), ("bounding_box_test", (1, 2))):
        (root / folder).mkdir(parents=True)
        for camera in cameras:
            person = 2 if folder == "bounding_box_train" else 1
            Image.new("RGB", (8, 16)).save(root / folder / f"{person:04}_c{camera}s1_000001_00.jpg")
    if manifest:
        counts = {"bounding_box_train": 2, "query": 1, "bounding_box_test": 2}
        (root / "standin.json").write_text(json.dumps(dict(name="market1501", counts=counts) | manifest))
    return root


def test_every_image_is_read_when_asked(capsys, tmp_path):
    root = market(tmp_path / "Market-1501")
    assert cli.main(["data", "market1501", "--root", str(root), "--images"]) == 0
    assert "images  all 5 can be read" in capsys.readouterr().out
    bad = root / "query" / "0001_c1s1_000001_00.jpg"
    bad.write_bytes(bad.read_bytes()[:-20])
    assert cli.main(["data", "market1501", "--root", str(root)]) == 0, "names and sizes alone are looked at"
    capsys.readouterr()
    assert cli.main(["data", "market1501", "--root", str(root), "--images"]) == 1
    assert f"image {bad} is cut short" in capsys.readouterr().err


@pytest.mark.parametrize("digest", ["\x1b[31m", "x", "0" * 15, 5, None])
def test_the_digest_of_a_manifest_is_a_digest(capsys, tmp_path, digest):
    """It goes into keys of runs, into names of files, and to the terminal."""
    root = market(tmp_path / "Market-1501", digest=digest)
    assert "standin.json cannot be read as a manifest" in error(capsys, "data", "market1501", "--root", root)


def test_an_archive_with_a_record_that_is_refused_is_a_failure(capsys, tmp_path):
    run = runs_of("safenet/table5", budget="smoke")[0]
    made_up.write(run)
    content = json.loads(run.record_file.read_bytes())
    archive.pack(tmp_path / "good.zip", everything=True)
    changed = run.record_file.with_name("0" * 16 + ".json")
    shutil.copy(records.arrays_of(run.record_file), records.arrays_of(changed))
    name = changed.relative_to(tmp_path / "results").as_posix()
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as target:
        target.comment = archive.COMMENT
        target.writestr(name, json.dumps(content | {"seed": 5}))
    said = error(capsys, "merge", tmp_path / "bad.zip")
    assert "1 of its records were refused, as said above; pack them again" in said
    assert cli.main(["merge", str(tmp_path / "good.zip")]) == 0


def test_nothing_to_pack_is_a_failure(capsys, tmp_path):
    said = error(capsys, "pack", tmp_path / "x.zip")
    assert f"x.zip is not written: no finished record in {tmp_path / 'results'} that is not in commit HEAD" in said
    assert not (tmp_path / "x.zip").exists()


def test_damaged_weights_are_not_exported(capsys, tmp_path):
    run = runs_of("safenet/table5", budget="smoke")[0]
    made_up.write(run)
    file = run.work_folder / training.WEIGHTS
    file.parent.mkdir(parents=True)
    training.write_tensors(file, {"backbone.stem.0.weight": torch.ones(3)}, {"curve": "[]"})
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    for damaged in (bytes(content), bytes(content[:50]), b"text"):
        file.write_bytes(damaged)
        said = error(capsys, "export", run.record_file, tmp_path / "start.safetensors")
        assert said.startswith(f"error: {file}: damaged (") and "delete it and train its row again" in said
    assert not (tmp_path / "start.safetensors").exists()


@pytest.mark.parametrize("change, words", [
    (lambda text: text[: len(text) // 2], "table5.ipynb: no notebook, or a damaged one (JSONDecodeError"),
    (lambda text: "[]", "no notebook, or a damaged one (TypeError"),
    (lambda text: text.replace('"cells"', '"cell"', 1), "no notebook, or a damaged one (KeyError"),
    (lambda text: text.replace("budget = ", "budget = = "), "its code cannot be read"),
    (lambda text: text.replace('"parameters"', '"parameter"'), "0 cells are tagged 'parameters'; tag exactly one"),
])  # fmt: skip
def test_a_damaged_notebook(capsys, monkeypatch, tmp_path, change, words):
    home = tmp_path / "home"
    shutil.copytree(HOME / "notebooks", home / "notebooks")
    (home / "results").symlink_to(HOME / "results")
    monkeypatch.setenv("REID_HOME", str(home))
    file = home / "notebooks" / "safenet" / "table5.ipynb"
    file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")
    said = error(capsys, "run", "safenet/table5", "--budget", "smoke")
    assert str(file) in said and words in said
