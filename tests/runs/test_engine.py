"""The engine's decisions, with workers that only speak its protocol: what is started where, and what ends a run."""

import json
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from reidlib.runs import batch, engine, locks, status
from reidlib.runs.devices import Device, Place
from reidlib.runs.run import runs_of
from reidlib.spec import ReidError

TABLE = "hamr/table10"
"""Rows that share no network."""

PLACE = Place(Device("cpu", "a processor", 8192.0), 1)

WORKER = """
import json, os, sys, time

script = json.loads(open(os.environ["FAKE_SCRIPT"]).read())
notes = os.environ["FAKE_SCRIPT"] + ".notes"


def send(event, **fields):
    os.write(int(sys.argv[1]), json.dumps({"event": event, **fields}).encode() + b"\\n")


for line in sys.stdin:
    task = json.loads(line)
    row = task["run"]["row"]
    before = [json.loads(note) for note in open(notes)] if os.path.exists(notes) else []
    attempts = script.get(row, [["finish"]])
    steps = attempts[min(sum(note["row"] == row for note in before), len(attempts) - 1)]
    with open(notes, "a") as stream:
        note = {"row": row, "pid": os.getpid(), "threads": task["threads"], "at": time.time()}
        stream.write(json.dumps(note) + "\\n")
    send("started")
    for step in steps:
        word, _, rest = step.partition(" ")
        if word == "sleep":
            time.sleep(float(rest))
        elif word == "finish":
            send("finished", metrics={"rank1": 50.0, "mAP": 25.0}, seconds=1.0)
        elif word == "fail":
            send("failed", reason=f"{rest} on purpose", kind=rest)
        elif word == "die":
            os.kill(os.getpid(), 9)
        else:
            send(word, text=rest)
"""


class Fake:
    """Says what the workers do with each row, attempt by attempt, and knows what they have done."""

    def __init__(self, folder: Path):
        self.file = folder / "script"
        self.does()

    def does(self, **rows: list[list[str]]) -> None:
        self.file.write_text(
            json.dumps({row.replace("_", " ").replace("0", "-"): steps for row, steps in rows.items()})
        )

    def notes(self) -> list[dict]:
        file = Path(f"{self.file}.notes")
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def fake(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REID_RESULTS", str(tmp_path / "results"))
    code = tmp_path / "worker.py"
    code.write_text(WORKER)
    fake = Fake(tmp_path)
    monkeypatch.setenv("FAKE_SCRIPT", str(fake.file))
    monkeypatch.setattr(engine, "WORKER", [sys.executable, "-S", str(code)])
    monkeypatch.setattr(engine, "LOOK", 0.02)
    monkeypatch.setattr(engine, "AGAIN", 0.1)
    return fake


def jobs(*rows, table=TABLE):
    return batch.jobs_of(runs_of(table, budget="smoke", rows=rows))


def train(these, places=1, **options):
    """The result, and the lines that were said."""
    lines: list[str] = []
    return engine.train(these, [PLACE] * places, say=lines.append, **options), lines


def labels(found):
    return [job.run.row.label for job in found]


def test_a_worker_takes_one_run_after_the_other(fake):
    rows = ["stage 3", "stage 1", "stage 2"]
    result, lines = train(jobs(*rows))
    assert labels(result.made) == ["stage 1", "stage 2", "stage 3"], "in the table's order"
    assert len({note["pid"] for note in fake.notes()}) == 1
    assert lines[-1].startswith("[3/3] finished: hamr/table10 'stage 3' market1501 seed 0: R1 50.0 mAP 25.0 in ")
    assert {note["threads"] for note in fake.notes()} == {1}


def test_each_place_has_a_worker(fake):
    fake.does(stage_1=[["sleep 0.5", "finish"]], stage_2=[["sleep 0.5", "finish"]], stage_3=[["sleep 0.5", "finish"]])
    result, _ = train(jobs("stage 1", "stage 2", "stage 3"), places=3)
    notes = fake.notes()
    assert len(result.made) == 3 and len({note["pid"] for note in notes}) == 3
    assert max(note["at"] for note in notes) - min(note["at"] for note in notes) < 0.5, "all at once"


def test_a_run_waits_for_the_network_that_it_shares(fake):
    pair = jobs(table="mros/table3")
    assert pair[1].after == (pair[0].run.record_file,) and not pair[1].trains
    fake.does(**{"Proposed MROS": [["sleep 0.3", "finish"]]})
    train(pair, places=2)
    first, second = fake.notes()
    assert second["at"] - first["at"] >= 0.3


def test_a_failed_run_does_not_stop_the_others_and_is_named(fake):
    fake.does(stage_1=[["fail error"]])
    result, lines = train(jobs("stage 1", "stage 2"))
    assert [(job.run.row.label, why) for job, why in result.failed] == [("stage 1", "error on purpose")]
    assert labels(result.made) == ["stage 2"]
    assert lines[0].startswith("[1/2] failed: hamr/table10 'stage 1' market1501 seed 0: error on purpose (log ")
    with pytest.raises(ReidError, match=r"hamr/table10 'stage 1' .*: error on purpose \(log .*\.log\)"):
        engine.ensure("hamr", "table10", budget="smoke", rows=["stage 1", "stage 2"], log=lines.append)


def test_a_log_that_cannot_be_written_is_the_reason(fake):
    """Two people, one cache: the log is the other one's. A folder in its place stands for that, also for root."""
    (job,) = jobs("stage 1")
    job.run.log_file.mkdir(parents=True)
    result, _ = train([job])
    ((_, why),) = result.failed
    assert "cannot be started" in why and str(job.run.log_file) in why and "set REID_CACHE to another folder" in why


def test_a_dead_worker_takes_only_its_run_along_which_goes_on_in_another(fake):
    fake.does(stage_1=[["die"], ["finish"]])
    result, lines = train(jobs("stage 1", "stage 2"))
    assert sorted(labels(result.made)) == ["stage 1", "stage 2"] and not result.failed
    assert "killed by SIGKILL" in lines[0] and "starting it again, from its checkpoint" in lines[0]
    assert len({note["pid"] for note in fake.notes()}) == 2


def test_a_run_that_dies_again_and_again_is_given_up(fake):
    fake.does(stage_1=[["die"]])
    (job, other) = jobs("stage 1", "stage 2")
    result, lines = train([job, other])
    assert labels(result.made) == ["stage 2"]
    ((_, why),) = result.failed
    assert why == "killed by SIGKILL (as the kernel does when memory runs out) 3 times; its checkpoint is kept"
    assert status.state(job.run).what == "failed" and "killed by SIGKILL" in status.state(job.run).more


def test_a_silent_run_is_stopped_and_named(fake, monkeypatch):
    fake.does(stage_1=[["sleep 60"]])
    (job,) = jobs("stage 1")
    monkeypatch.setattr("time.time", lambda: pytest.fail("the clock of the wall may jump"))
    result, lines = train([job], time_limit=0.5)
    monkeypatch.undo()
    assert "no sign of life for" in result.failed[0][1] and "[1/1] failed" in lines[0]


@pytest.mark.parametrize("word", ["epoch", "waiting", "log"])
def test_a_run_that_speaks_or_waits_does_not_hang(fake, word):
    steps = ["waiting", "sleep 1.2"] if word == "waiting" else [f"{word} x", "sleep 0.4"] * 3
    fake.does(stage_1=[[*steps, "finish"]])
    result, _ = train(jobs("stage 1"), time_limit=0.8)
    assert labels(result.made) == ["stage 1"]


def test_after_a_device_ran_out_of_memory_the_worker_is_replaced(fake):
    fake.does(stage_1=[["fail memory"]])
    result, _ = train(jobs("stage 1", "stage 2", "stage 3"))
    assert len(result.failed) == 1 and len(result.made) == 2
    first, second, third = (note["pid"] for note in fake.notes())
    assert first != second == third


def test_a_run_that_another_process_makes_is_waited_for(fake):
    fake.does(stage_1=[["fail busy"], ["finish"]])
    result, lines = train(jobs("stage 1", "stage 2"))
    assert labels(result.made) == ["stage 2", "stage 1"] and "waiting: " in lines[0]
    (job,) = jobs("stage 3")
    with locks.locked(job.run.work_folder / "lock"):
        scheduler = engine._Scheduler([PLACE], None, False, lines.append, None, batch.estimated([job], [PLACE]))
        scheduler.begin()
        assert scheduler.waiting and not scheduler.workers and "is making it" in lines[-1]


def test_nothing_is_started_that_is_not_expected_to_end_in_time(fake, monkeypatch):
    seconds = {"stage 1": 30.0, "stage 2": 3000.0, "stage 3": 30.0}
    estimate = batch.Estimate(0.0, 100.0, 10.0)

    def known(run, place, **how):
        return batch.replace(estimate, seconds=seconds[run.row.label])

    monkeypatch.setattr("reidlib.runs.estimates.estimate", known)
    monkeypatch.setattr("reidlib.runs.estimates.WORKER_SECONDS", 0.0)
    monkeypatch.setattr("reidlib.runs.datasets.is_to_be_rendered", lambda *run: False)
    result, _ = train(jobs(*seconds), minutes=1.0)
    assert labels(result.made) == ["stage 1", "stage 3"] and labels(result.left) == ["stage 2"]
    assert not result.stopped
    fake.does(stage_1=[["sleep 60"]])
    seconds["stage 1"] = 0.1
    result, lines = train(jobs("stage 1"), minutes=0.5 / 60)
    assert labels(result.stopped) == labels(result.left) == ["stage 1"] and lines[-1].startswith("[1/1] stopped")
    monkeypatch.setattr("reidlib.runs.estimates.WORKER_SECONDS", 60.0)
    assert labels(train(jobs("stage 1"), minutes=1.0)[0].left) == ["stage 1"], "a worker needs its time to start"
    assert "the time is over; its checkpoint is kept" in lines[-1]


def test_a_run_that_cannot_be_started_does_not_stop_the_others(fake, monkeypatch):
    start, seen = engine.subprocess.Popen, []

    def full(*given, **options):
        seen.append(given)
        if len(seen) == 1:
            raise OSError(28, "No space left on device")
        return start(*given, **options)

    monkeypatch.setattr(engine.subprocess, "Popen", full)
    result, _ = train(jobs("stage 1", "stage 2"))
    assert len(result.failed) == 1 and "No space left on device" in result.failed[0][1]
    assert labels(result.made) == ["stage 2"]


def test_every_worker_ends_when_the_engine_is_stopped(fake):
    fake.does(stage_1=[["log begun", "sleep 60"]], stage_2=[["sleep 60"]])

    def stop(job, event):
        if event["event"] == "log":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(jobs("stage 1", "stage 2"), places=2, watch=stop)
    for note in fake.notes():
        assert not Path(f"/proc/{note['pid']}").exists()


@pytest.mark.parametrize("way", ["by a signal", "by the clock"])
def test_all_workers_are_killed_before_one_is_waited_for(fake, monkeypatch, way):
    """Under CUDA's MPS the end of one process is an error in the others, which would write it into their records."""
    fake.does(stage_1=[["sleep 60"]], stage_2=[["sleep 0.3", "log begun", "sleep 60"]])
    done, kill, wait = [], engine.os.killpg, engine.subprocess.Popen.wait
    monkeypatch.setattr(engine.os, "killpg", lambda *given: (done.append("kill"), kill(*given)))
    monkeypatch.setattr(engine.subprocess.Popen, "wait", lambda process: (done.append("wait"), wait(process))[1])
    monkeypatch.setattr(engine._Scheduler, "expected", lambda scheduler, job: 0.0)

    def stop(job, event):
        if way == "by a signal" and event["event"] == "log":
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        result, _ = train(jobs("stage 1", "stage 2"), places=2, watch=stop, minutes=0.02)
        assert labels(result.stopped) == labels(result.left) == ["stage 1", "stage 2"] and not result.failed
    assert done.index("wait") >= 2, done
