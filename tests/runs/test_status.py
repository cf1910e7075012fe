"""What there is of runs, and what the cache holds: counted right, and nothing of others removed."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import made_up
import pytest

from reidlib import cli, paths, training
from reidlib.runs import locks, records, status
from reidlib.runs.run import Run, runs_of
from reidlib.spec import ReidError


@dataclass(frozen=True)
class Planned:
    """The part of a plan that `status` reads: one table on its first data set."""

    runs: tuple[Run, ...]
    tables: dict
    budget: str = "smoke"
    source: str = "stand-in"


def planned(slug="safenet/table5", **asked):
    runs = tuple(runs_of(slug, **{"budget": "smoke"} | asked))
    return Planned(runs, {(slug, runs[0].dataset): tuple(run.record_file for run in runs)})


@pytest.fixture
def house(tmp_path, monkeypatch):
    """An empty results folder and a cache that reid has created."""
    monkeypatch.setenv("REID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REID_RESULTS", str(tmp_path / "results"))
    records.prepare_cache()
    return tmp_path / "results"


def test_done_running_failed_and_missing(house):
    plan = planned("fmn/table2")
    one, two, three = plan.runs
    made_up.write(one)
    made_up.write(two, status="failed", error="because\nof \x1b[31mthis")
    found = [status.state(run) for run in plan.runs]
    assert [state.what for state in found] == ["done", "failed", "missing"]
    assert found[0].line().endswith(" --again"), "the one that is done can be repeated"
    assert found[1].line().startswith("failed  fmn/table2 'FMN' market1501 seed 0  because of \ufffd[31mthis\n")
    assert f"reid train fmn/table2 --row {three.row.label}" in found[2].line()
    (line,) = status.overview(plan, found)
    assert "1 done    0 running    1 failed    1 missing" in line
    two.log_file.parent.mkdir(parents=True)
    two.log_file.write_text("epoch 1\nepoch 2\x1b[2J\n", encoding="utf-8")
    with locks.locked(two.work_folder / "lock"):
        busy = status.state(two)
        assert busy.what == "running" and busy.more == f"process {os.getpid()}: epoch 2\ufffd[2J"
    three.work_folder.mkdir(parents=True, exist_ok=True)
    (three.work_folder / training.CHECKPOINT).touch()
    assert status.state(three).more == "has a checkpoint"


def test_a_record_that_cannot_be_read_is_a_failed_run(house):
    run = planned().runs[0]
    made_up.write(run)
    run.record_file.with_suffix(".npz").unlink()
    assert status.state(run).what == "failed" and "npz: missing" in status.state(run).more


def test_a_record_of_another_version_is_found_and_not_used(house, monkeypatch):
    table = "mros/table1"
    run = planned(table).runs[0]
    with monkeypatch.context() as patch:
        patch.setattr(records, "RESULTS_VERSION", 0)
        old = planned(table).runs[0]
        made_up.write(old)
    made_up.write(planned(table, seeds=(5,)).runs[0])
    made_up.write(planned("mros/table2").runs[1])  # of the same paper, in the same folder
    made_up.write(planned("hamr/table3").runs[0])  # in another one
    damaged = run.record_file.with_name("0123456789abcdef.json")
    damaged.write_text("{", encoding="utf-8")
    assert old.record_file != run.record_file and run.state() == "missing"
    orphans = sorted([old.record_file, damaged])
    assert status.orphans(planned(table)) == orphans, "another seed or table may ask for the others"


# --- clean ------------------------------------------------------------------------------------------------------------


def filled(run):
    run.work_folder.mkdir(parents=True)
    for name in (training.CHECKPOINT, training.WEIGHTS, "weights.corrupt"):
        (run.work_folder / name).write_bytes(b"x" * 2**20)


def standin():
    folder = paths.cache() / "stand-in" / "market1501-x"
    folder.mkdir(parents=True)
    (folder / "standin.json").write_bytes(b"x" * 2**20)
    return folder


def test_clean_removes_what_is_asked_for_and_spares_running_runs(house, capsys):
    idle, busy = planned("hamr/table3").runs
    for run in (idle, busy):
        filled(run)
    folder, images = standin(), paths.cache() / "images" / "a.npy"
    images.parent.mkdir()
    images.write_bytes(b"x" * 2**20)
    with locks.locked(busy.work_folder / "lock"):
        assert status.clean(["stand-ins", "logs", "images"]) == {"stand-ins": 0, "logs": 0, "images": 0}
        assert folder.exists() and images.exists(), "a running run may need them"
        assert cli.main(["clean", "checkpoints", "weights"]) == 0
    assert capsys.readouterr().out == "checkpoints: 1 MiB removed\nweights: 2 MiB removed\n"
    assert [file.name for file in idle.work_folder.iterdir()] == []
    assert (busy.work_folder / training.WEIGHTS).exists()
    assert status.clean(["all"])["images"] == 1 and not folder.exists() and not images.exists()
    with pytest.raises(ReidError, match="unknown kind 'records'"):
        status.clean(["records"])


def test_the_list_of_kinds_has_a_line_for_each(house, capsys):
    assert cli.main(["clean"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {kind}" in shown for kind in status.KEPT) and set(status.kept()) == set(status.KEPT)


@pytest.mark.parametrize("after_a_run", [False, True])
def test_a_folder_that_reid_did_not_create_is_left_alone(tmp_path, monkeypatch, capsys, after_a_run):
    """REID_CACHE=. in a project that has its own runs/ and logs/."""
    mine = [tmp_path / "runs" / "one" / "weights.pt", tmp_path / "logs" / "mine.log", tmp_path / "images" / "me.png"]
    for file in mine:
        file.parent.mkdir(parents=True)
        file.write_text("mine", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REID_CACHE", ".")
    if after_a_run:
        records.check_writable(tmp_path / "results")  # what every run does first
    assert cli.main(["clean", "all"]) == 1
    said = capsys.readouterr().err
    assert ".reid-cache" in said and "was not created by reid" in said and said.count("\n") == 1
    assert all(file.read_text(encoding="utf-8") == "mine" for file in mine)


def test_a_cache_is_marked_when_it_is_created(tmp_path, monkeypatch):
    for name in ("new/deep", "empty"):
        monkeypatch.setenv("REID_CACHE", str(tmp_path / name))
        (tmp_path / "empty").mkdir(exist_ok=True)
        records.prepare_cache()
        records.prepare_cache()
        assert [file.name for file in (tmp_path / name).iterdir()] == [records.CACHE_MARKER]
    monkeypatch.setenv("REID_CACHE", str(tmp_path / "none"))
    assert set(status.clean(["all"]).values()) == {0}, "no cache, nothing to remove"


def test_the_cache_of_a_checkout_is_its_own(tmp_path, monkeypatch):
    """One that an earlier version made has no marker."""
    monkeypatch.setenv("REID_CACHE", str(tmp_path / ".cache"))
    standin()
    with pytest.raises(ReidError, match="was not created by reid"):
        status.clean(["all"])
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "reported.tsv").touch()
    assert status.clean(["stand-ins"]) == {"stand-ins": 1}


def test_a_lock_is_the_first_thing_in_a_new_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_CACHE", str(tmp_path / "cache"))
    with locks.locked(paths.cache() / "notebooks" / "lock"):
        assert (paths.cache() / records.CACHE_MARKER).is_file()


def test_links_are_not_followed(house, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "weights.safetensors").write_bytes(b"x" * 2**20)
    cache = paths.cache()
    (cache / "runs").mkdir()
    (cache / "runs" / "one-again").symlink_to(outside)
    (cache / "logs").symlink_to(outside)
    assert status.clean(["repeats", "logs"]) == pytest.approx({"repeats": 0, "logs": 0}, abs=0.001)
    assert not (cache / "logs").is_symlink() and (outside / "weights.safetensors").exists()
    shutil.rmtree(cache / "runs")
    (cache / "runs").symlink_to(tmp_path / "all")
    (tmp_path / "all").mkdir()
    outside.rename(tmp_path / "all" / "one")
    with pytest.raises(ReidError, match="is a link that leads out of the cache; remove what it holds by hand"):
        status.clean(["all"])
    assert (tmp_path / "all" / "one" / "weights.safetensors").exists()


def test_what_cannot_be_removed_or_written_is_one_line(house, monkeypatch, tmp_path):
    standin()

    def denied(*given, **options):
        raise PermissionError(13, "Permission denied", "of-another-user")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", denied)
        with pytest.raises(ReidError, match="of-another-user: cannot be removed .Permission denied.; fix"):
            status.clean(["stand-ins"])
    with monkeypatch.context() as patch:
        patch.setattr(locks, "holder_of", denied)
        assert status.state(planned().runs[0]).what == "failed"
        (paths.cache() / "runs" / "x").mkdir(parents=True)
        (paths.cache() / "runs" / "x" / "lock").touch()
        assert status.running() and set(status.clean(["all"]).values()) == {0}, "who knows whether it is running"
    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(ReidError, match="cache folder cannot be written .Permission denied.*REID_CACHE"):
        records.prepare_cache()
