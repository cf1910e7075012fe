"""Real workers: what a run leaves, whatever ran before it; nothing is lost or made twice when they are killed."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from warm import FAULTS

from reidlib import paths, training
from reidlib.runs import batch, devices, engine, locks, records, status, worker
from reidlib.runs.devices import Device, Place
from reidlib.runs.run import runs_of
from reidlib.spec import ReidError

CPU = Device("cpu", devices.processor(), devices.memory_mb())
TABLE, ROW = "hamr/table10", "stage 1"
"""The smallest network of the study."""
SHARED = "mros/table3"
"""Two rows that share one network: the second only re-ranks."""


def small(**changes):
    return runs_of(TABLE, **{"budget": "smoke", "rows": [ROW]} | changes)[0]


def reid(*words, faults=None, **options):
    """A command in a process of its own."""
    environment = os.environ | {"PYTHONPATH": f"{FAULTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    environment |= {"REID_FAULTS": str(faults or ""), devices.VISIBLE: ""}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return subprocess.Popen([sys.executable, "-m", "reidlib.cli", *words], env=environment, **pipes, **options)


def said(process, timeout=300):
    text, _ = process.communicate(timeout=timeout)
    return text


def outcome(results):
    """Every record's metrics and per-query numbers, by name: what two batches must agree on to the bit."""
    found = {}
    for file in sorted(results.glob("records/**/*.json")):
        record = records.read(file)
        with np.load(file.with_suffix(".npz")) as arrays:
            numbers = {name: arrays[name].tobytes() for name in arrays.files}
        losses = [{name: value for name, value in point.items() if name != "seconds"} for point in record.curve]
        found[file.relative_to(results)] = (record.status, record.metrics, losses, record.threads, numbers)
    return found


def elsewhere(monkeypatch, folder):
    """A cache with the images of the present one, and no results."""
    shutil.copytree(paths.cache() / "stand-in", folder / "cache" / "stand-in", copy_function=os.link)
    monkeypatch.setenv("REID_CACHE", str(folder / "cache"))
    monkeypatch.setenv("REID_RESULTS", str(folder / "results"))
    return folder / "results"


def run_here(run, **options):
    return worker.execute(run, log=lambda text: None, **options)


# --- one run equals another -------------------------------------------------------------------------------------------


FIRST, SECOND = "another model", "bf16 imitated, and a network built on another"
OTHERS = {FIRST: [("safenet/table5", "g4")], SECOND: [("standins/precision", None), ("fmn/table2", "FMN")]}


@pytest.mark.parametrize(
    "others", [next(iter(OTHERS)), *(pytest.param(o, marks=pytest.mark.all) for o in [*OTHERS][1:])]
)
def test_a_run_after_others_equals_one_in_a_fresh_worker_bit_for_bit(house, tmp_path, monkeypatch, others):
    before = [
        runs_of(table, budget="smoke", dataset="market1501", rows=[row] if row else (), seeds=(3,))[-1]
        for table, row in OTHERS[others]
    ]
    jobs = batch.jobs_of([*before, small()])
    result = engine.train(jobs, [Place(CPU, 1)], say=lambda text: None)
    assert len(result.made) == len(jobs), result.failed
    assert (small().record().threads, small().record().device_kind) == (1, "cpu")
    busy = outcome(house)
    alone = elsewhere(monkeypatch, tmp_path / "alone")
    engine.train_runs([small()], [Place(CPU, 1)], log=lambda text: None)
    (file,) = found = outcome(alone)
    assert found[file] == busy[file]


def test_what_the_machine_refuses_has_its_remedy(house, monkeypatch):
    """Such as the lock of another user in a shared cache."""
    lock = small().work_folder / "lock"
    lock.mkdir(parents=True)
    with pytest.raises(OSError) as refused:
        run_here(small())
    said = worker._said(refused.value)
    assert said.startswith(f"{lock}: ") and said.endswith("or set REID_CACHE and REID_RESULTS to your own folders")


def test_every_global_is_put_back():
    before = torch.get_num_threads()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("medium")
    worker.reset(1, deterministic=False)
    first = (random.random(), np.random.rand(), torch.rand(1).item())
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
    assert torch.get_float32_matmul_precision() == "highest" and torch.get_num_threads() == 1
    worker.reset(2, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled() and torch.get_num_threads() == 2
    worker.reset(before, deterministic=False)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == first


def test_a_network_keeps_the_number_of_threads_that_began_it(tmp_path):
    lines = []
    worker._keep_threads(tmp_path, 2, worker.CPU, lines.append)
    assert torch.get_num_threads() == 2 and not lines
    training.write_tensors(tmp_path / training.CHECKPOINT, {"weight": torch.zeros(1)}, {})
    worker._keep_threads(tmp_path, 1, worker.CPU, lines.append)
    assert lines == ["this network was begun with 2 CPU threads, and goes on with 2 instead of 1"]
    assert torch.get_num_threads() == 2
    worker.reset(1, deterministic=False)


# --- what ends a run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault, words",
    [
        (MemoryError("Unable to allocate 9.9 GiB"), "Unable to allocate 9.9 GiB"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), "out of memory beside training (CUDA"),
    ],
)
def test_whatever_ends_a_run_is_in_its_record(house, narrow, monkeypatch, fault, words):
    def fails(*given):
        raise fault

    monkeypatch.setattr(worker, "_train", fails)
    with pytest.raises(worker.OutOfMemory if "CUDA" in str(fault) else type(fault)):
        run_here(small())
    assert small().state() == "failed" and words in small().record().error


def test_a_device_that_runs_out_of_memory_is_named_with_the_batch_that_fits(house, narrow, monkeypatch):
    step = training.Loop.step

    def little(loop, images, labels):
        if len(images) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return step(loop, images, labels)

    monkeypatch.setattr(training.Loop, "step", little)
    run = runs_of("fmn/table2", budget="smoke")[0]
    with pytest.raises(worker.OutOfMemory) as caught:
        run_here(run)
    said = str(caught.value)
    batch_size = run.settings.recipe.resolved()["batch"]
    assert f"ran out of memory with a batch of {batch_size} (CUDA out of memory" in said
    assert "a batch of 4 fits" in said and devices.processor() in said and "--per-gpu" in said
    assert run.record().error in said


def test_a_record_says_how_the_steps_ran_and_why(house, narrow, monkeypatch):
    """A step that cannot be recorded as a CUDA graph ends no run. On a processor nobody tries."""

    def fails(step):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(training.graph, "record", fails)
    plain = run_here(small())
    assert (plain.step, plain.notes) == ("eager", [])
    monkeypatch.setattr(training.graph, "DEVICES", ("cpu",))
    tried = run_here(small(again=[ROW]))
    assert tried.ok and tried.step == "eager" and tried.metrics == plain.metrics
    assert "cannot be recorded (operation not permitted" in tried.notes[0]
    assert records.read(small(again=[ROW]).record_file).notes == tried.notes


def test_a_run_that_an_odd_record_or_another_process_holds(house):
    run, lines = runs_of("standins/difficulty", budget="smoke")[0], []
    run.record_file.parent.mkdir(parents=True)
    run.record_file.write_text('{"key": "cut short')
    with locks.locked(run.work_folder / "lock"), pytest.raises(ReidError, match="is being made by process"):
        run_here(run)
    record = worker.execute(run, log=lines.append)
    assert record.ok and f"set aside as {run.key}.json.unreadable" in lines[0]
    assert "cut short" in run.record_file.with_suffix(".json.unreadable").read_text()
    before = run.record_file.read_bytes()
    assert run_here(run) == record and run.record_file.read_bytes() == before, "it is not made again"


def test_events_say_what_a_run_does(house, narrow):
    events = []
    worker.execute(small(), log=lambda text: None, event=lambda name, **fields: events.append((name, fields)))
    (epoch,) = [fields for name, fields in events if name == "epoch"]
    assert (epoch["epoch"], epoch["epochs"], epoch["eta"]) == (1, 1, 0.0) and epoch["images_per_second"] > 0
    assert [name for name, _ in events] == ["epoch", "testing"]


def gone(pid, seconds=20.0):
    """Whether a process ends within this time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    "number, code",
    [
        (signal.SIGKILL, -9),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.all),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.all),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.all),
    ],
)
def test_however_the_command_ends_no_worker_trains_on(house, number, code):
    process = reid("train", TABLE, "--row", ROW, "--budget", "smoke")
    lock, until = small().work_folder / "lock", time.monotonic() + 120
    while (holder := locks.holder_of(lock)) in (None, "?") and time.monotonic() < until:  # "?": its number comes next
        time.sleep(0.02)
    process.send_signal(number)
    text = said(process)
    assert process.returncode == code and "Traceback" not in text, text
    assert number == signal.SIGKILL or text.endswith("stopped; the next call goes on from the last checkpoint\n")
    assert gone(int(holder)) and not small().record_file.exists()


TERM, INT = signal.SIGTERM, signal.SIGINT
STAGES = {
    "estimating": "runs/estimates.py:estimate:1",
    "rendering": "standin/write.py:draw:1",
    "decoding": "data/images.py:decode:1",
    "training": "data/augment.py:crop_and_flip:3",
    "testing": "evaluation/evaluator.py:evaluate:1",
    "notebooks": "pages/chapter.py:time_needed:1",
}
"""Where a process of `reid reproduce` is held, in the order in which a batch comes there (the last one is a kernel).
Workers and kernels have process groups of their own and get no signal."""


@pytest.mark.all
def test_a_stop_at_any_stage_leaves_no_process(narrow_everywhere, tmp_path, monkeypatch):
    """SIGTERM to the command, or Ctrl-C, which a terminal sends to its whole group."""
    for name in ("cache", "results"):
        monkeypatch.setenv(f"REID_{name.upper()}", str(tmp_path / name))
    faults = tmp_path / "points"
    faults.mkdir()
    for stage, number in product(STAGES, (TERM, INT)):
        held = f"{stage}-{number}"
        (faults / held).write_text(f"hold {STAGES[stage]}")
        process = reid("reproduce", SHARED, "--budget", "smoke", faults=faults, start_new_session=True)
        until = time.monotonic() + 900
        while not (tmp_path / held).exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        assert (tmp_path / held).exists(), f"{held}: not reached"
        (os.killpg if number == INT else os.kill)(process.pid, number)
        text = said(process)
        assert process.returncode == 128 + number and "Traceback" not in text, (held, text)
        assert text.endswith("stopped; the next call goes on from the last checkpoint\n"), (held, text)
        assert all(gone(one) for one in processes_in(tmp_path)), held
    assert len(outcome(tmp_path / "results")) == 2
    copies = [file.name for file in (tmp_path / "results").rglob("*.ipynb")]
    assert copies == ["table3.partial.ipynb"], "what was not finished is no copy; the next call writes over it"


def processes_in(folder):
    """The processes whose environment names a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # of another user, or gone
            if str(folder).encode() in (place / "environ").read_bytes():
                found.append(int(place.name))
    return [one for one in found if one != os.getpid()]


# --- whole batches ----------------------------------------------------------------------------------------------------


def log_of(number):
    return batch.plan((SHARED,), budget="smoke").runs[number].log_file.read_text()


@pytest.mark.all
def test_a_batch_trains_what_is_missing_and_a_second_call_does_nothing(house, capsys):
    first = reid("reproduce", SHARED, "--budget", "smoke")
    text = said(first)
    assert first.returncode == 0, text
    assert text.count("] finished: ") == 2 and "notebook: " in text and "add to _toc.yml" in text
    assert "trained already" in log_of(1), "the second row shares the first one's network"
    before = {file: file.stat().st_mtime_ns for file in house.rglob("*") if file.is_file()}
    second = reid("reproduce", SHARED, "--budget", "smoke")
    text = said(second)
    assert second.returncode == 0 and "All 2 runs have their records" in text and "finished: " not in text
    assert {file: file.stat().st_mtime_ns for file in house.rglob("*") if file.is_file()} == before
    assert {one.what for one in map(status.state, batch.plan((SHARED,), budget="smoke").runs)} == {"done"}


@pytest.mark.all
def test_two_batches_at_once_share_the_work(house):
    both = [reid("reproduce", SHARED, "--budget", "smoke") for _ in range(2)]
    texts = [said(process) for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert sum(text.count("] finished: ") for text in texts) == 2, texts
    assert sum("epoch 1/" in line for number in (0, 1) for line in log_of(number).splitlines()) == 1
    assert len(outcome(house)) == 2
    assert not list(house.rglob("*.partial*"))


@pytest.mark.all
def test_a_killed_worker_is_replaced_and_the_batch_goes_on(house, narrow_everywhere, tmp_path):
    faults = tmp_path / "points"
    faults.mkdir()
    (faults / "1").write_text("os.rename weights.safetensors.partial")
    (faults / "2").write_text("open .json.partial")
    process = reid("train", TABLE, "--row", ROW, "--budget", "smoke", faults=faults)
    text = said(process)
    assert process.returncode == 0, text
    assert text.count("killed by SIGKILL") == 2 and not list(faults.iterdir())
    log = small().log_file.read_text()
    assert log.count("epoch 1/1") == 2, "killed before its weights were in place: the minute since a checkpoint is lost"
    assert log.count("trained already") == 1, "killed before its record was in place: nothing is trained again"
    assert [status for status, *_ in outcome(house).values()] == ["finished"]


MOMENTS = (
    *[f"call data/augment.py:crop_and_flip:{step}" for step in (1, 2, 3, 4, 5)],  # in the middle of an epoch
    *["os.rename weights.safetensors.partial"] * 6,
    *["open .npz.partial", "os.rename .npz.partial"],
    *["open .json.partial", "open .json.partial", "os.rename .json.partial"],
    *["open .partial.ipynb"] * 2,
    *["os.rename .partial.ipynb"] * 2,
)


@pytest.mark.all
def test_twenty_kills_lose_nothing_and_make_nothing_twice(house, narrow_everywhere, tmp_path, monkeypatch):
    table = "fmn/table2"  # three rows, two networks, one of them trained before the other
    with monkeypatch.context() as patch:
        undisturbed = elsewhere(patch, tmp_path / "undisturbed")
        engine.train_runs(runs_of(table, budget="smoke"), [Place(CPU, 1)], log=lambda text: None)
    faults = tmp_path / "points"
    faults.mkdir()
    moments = list(MOMENTS)
    random.Random(0).shuffle(moments)
    for number, moment in enumerate(moments):
        (faults / f"{number:02}").write_text(moment)
    assert len(moments) == 20
    for _ in range(20):
        process = reid("reproduce", table, "--budget", "smoke", faults=faults)
        said(process)
        if process.returncode == 0 and not list(faults.iterdir()):
            break
        if process.returncode == 0:  # all is made: have the moments that are left come again
            again(house)
    assert not list(faults.iterdir()), [file.read_text() for file in faults.iterdir()]
    process = reid("reproduce", table, "--budget", "smoke")
    assert "finished: " not in said(process) and process.returncode == 0
    found, wanted = outcome(house), outcome(undisturbed)
    assert found == wanted and len(found) == 3
    left = [file for file in house.rglob("*partial*")]
    assert len(left) <= 3, left  # what was being written when its process died; a name that is written over next time


def again(results):
    """Takes one record, its network and the notebook away."""
    run = batch.plan(("fmn/table2",), budget="smoke").runs[1]
    for file in (run.record_file, run.record_file.with_suffix(".npz"), *results.rglob("table2.ipynb")):
        file.unlink(missing_ok=True)
    shutil.rmtree(run.work_folder)


@pytest.mark.all
def test_a_full_disk_is_named_and_loses_nothing(house, tmp_path, monkeypatch):
    def little():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    line = ["train", TABLE, "--row", ROW, "--budget", "smoke"]
    full = reid(*line, preexec_fn=little)
    last = said(full).splitlines()[-1]
    assert full.returncode == 1 and "cannot be written" in last and "free some space" in last
    assert not list(small().work_folder.glob("*.partial")), "half a checkpoint would keep the disk full"
    said(reid(*line))
    kept = outcome(house)
    roomy = elsewhere(monkeypatch, tmp_path / "roomy")
    said(reid(*line))
    assert outcome(roomy) == kept and len(kept) == 1
