"""What `reid status` and `reid clean` know of runs and of the cache."""

import os

from reidlib import cli, paths, training
from reidlib.runs import locks, records, status
from reidlib.runs.batch import plan

TABLE = "mros/table3"


def planned(*asked, **options):
    return plan(asked or (TABLE,), **{"budget": "smoke"} | options)


def written(run, status="finished"):
    """A record of this run, made up: only its place and its state matter here."""
    record = records.Record(
        run.key, run.network, status, {"paper": run.table.paper}, run.budget, run.seed, {}, {}, {}, error="because"
    )
    records.write(run.record_file, record)


def test_status_knows_done_running_failed_and_missing(house, capsys):
    one, two, three = planned("fmn/table2").runs
    written(one)
    written(two, "failed")
    assert cli.main(["status", "fmn/table2", "--budget", "smoke"]) == 0
    text = capsys.readouterr().out
    assert "1 done    0 running    1 failed    1 missing" in text
    assert "failed  fmn/table2 'FMN' market1501 seed 0  because" in text
    assert f"reid train fmn/table2 --row {three.row.label} --variant as-published" in text
    assert text.count(" --again") == 1, "the one that is done can be repeated"
    with locks.locked(two.work_folder / "lock"):
        assert status.state(two).what == "running" and f"process {os.getpid()}" in status.state(two).more


def test_a_record_of_another_version_is_recognised_and_not_used(house, capsys, monkeypatch):
    run = planned().runs[0]
    with monkeypatch.context() as patch:
        patch.setattr(records, "RESULTS_VERSION", 0)
        old = planned().runs[0]
        written(old)
    other = planned(seeds=(5,)).runs[0]
    written(other)
    written(planned("mros/table2").runs[1])  # of the same paper, in the same folder
    assert old.record_file != run.record_file and run.state() == "missing"
    assert status.strangers(planned()) == [old.record_file], "another seed is no stranger, nor another table"
    cli.main(["status", TABLE, "--budget", "smoke"])
    assert f"of another version of the code, never used: {old.record_file}" in capsys.readouterr().out


def test_clean_removes_what_is_asked_for_and_spares_runs_at_work(house, capsys):
    idle, busy = planned("hamr/table3").runs
    for run in (idle, busy):
        run.work_folder.mkdir(parents=True)
        for name in (training.CHECKPOINT, training.WEIGHTS, "weights.corrupt"):
            (run.work_folder / name).write_bytes(b"x" * 2**20)
    assert cli.main(["clean"]) == 0
    assert "checkpoints" in capsys.readouterr().out and (idle.work_folder / training.CHECKPOINT).exists()
    with locks.locked(busy.work_folder / "lock"):
        assert cli.main(["clean"]) == 0
        assert "runs are at work" in capsys.readouterr().out
        assert cli.main(["clean", "stand-ins", "logs"]) == 0
        assert capsys.readouterr().out == "stand-ins: 0 MiB removed\nlogs: 0 MiB removed\n"
        assert list((paths.cache() / "stand-in").glob("*/standin.json")), "who is at work may need them"
        assert cli.main(["clean", "checkpoints", "weights"]) == 0
    assert capsys.readouterr().out == "checkpoints: 1 MiB removed\nweights: 2 MiB removed\n"
    assert [file.name for file in idle.work_folder.iterdir()] == []
    assert (busy.work_folder / training.WEIGHTS).exists()
    assert cli.main(["clean", "stand-ins"]) == 0 and not list((paths.cache() / "stand-in").glob("*/standin.json"))
    assert cli.main(["clean", "records"]) == 1
    assert "unknown kind 'records'" in capsys.readouterr().err
