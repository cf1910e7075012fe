"""The batch with real processes: what it plans, and that nothing is lost or made twice, whatever is killed."""

import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import made_up
import numpy as np
import pytest
from reidlib.runs.prediction import Book, Need

from reidlib import cli, papers, paths, training
from reidlib.runs import batch, datasets, devices, locks, prediction, records, runner, status, worker
from reidlib.runs.batch import Machine
from reidlib.runs.devices import Device
from reidlib.spec import ReidError
from reidlib.training.cost import step_cost

FAULTS = Path(__file__).parents[1] / "faults"
CPU = Device("cpu", "a processor", 8192.0)
NEED = Need(seconds=5.0, memory_mb=100.0, disk_mb=10.0, measured=5.0)
TABLE = "mros/table3"
"""Two rows that share one network: the second only re-ranks."""


def planned(*asked, **options):
    """A plan that was given its needs, not measured ones."""
    plan = batch.plan(asked or (TABLE,), **{"budget": "smoke"} | options)
    return replace(plan, jobs=tuple(replace(job, need=NEED) for job in plan.jobs))


@pytest.fixture
def machine(house, monkeypatch, tmp_path):
    """One place on the processor, one thread; its speed counts as measured, and its leases are its own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return known(Machine((CPU,)))


def known(machine, *asked):
    """Writes down the speed of every kind of network, so that no test waits for a measurement."""
    for device in (machine.devices[0], *devices.devices()):
        for threads in {1, devices.cores(), machine.threads}:
            for book in (Book(device, threads, share) for share in (1, 2)):
                for run in batch.plan((), budget="smoke", datasets=["market1501"]).runs:
                    book.known.setdefault("speed", {})[book.name(run.settings)] = dict(
                        operations=2e10, start=6.0, decoded=1000.0, base_mb=900.0, peak_mb=1000.0, activations=2.0
                    )
                    book.known.setdefault("share", {})[prediction.kind(run.settings)] = [1, 1.0]
                book.save()
    return machine


def reproduce(*words, faults=None, table=TABLE, **options):
    """`reid reproduce` in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(FAULTS), "REID_FAULTS": str(faults or "")}
    line = [sys.executable, "-m", "reidlib.cli", "reproduce", table, "--budget", "smoke", *words]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return subprocess.Popen(line, env=environment, **pipes, **options)


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
        found[file.relative_to(results)] = (record.status, record.metrics, losses, numbers)
    return found


def copied(cache, folder):
    """A cache of its own with the rendered images and the measured speeds of another."""
    for part in ("stand-in", "predictions"):
        shutil.copytree(cache / part, folder / part, copy_function=os.link)
    return folder


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_a_network_is_trained_once_whatever_tables_share_it(house):
    plan = planned("fmn", "hamr/table6", "hamr/table2", datasets=["market1501"])
    networks = {run.network for run in plan.runs if run.settings.recipe.resolved()["epochs"]}
    assert sum(job.trains for job in plan.jobs) == len(networks) < len(plan.jobs)
    assert len({run.record_file for run in plan.runs}) == len(plan.runs)
    place = {job.run.key: number for number, job in enumerate(plan.jobs)}
    for number, job in enumerate(plan.jobs):
        assert all(place[key] < number for key in job.after)
        makers = {plan.jobs[place[key]].run.network for key in job.after}
        first = job.run.settings.first
        wanted = {job.run.network} | ({job.run.network_of(first.settings)} if first else set())
        assert job.trains or job.run.network in makers
        before = [plan.jobs[place[key]].run for key in job.after]
        assert all(run.network in wanted or run.settings.first == first for run in before), "it makes one of the two"
    grn = {job.run.network for job in plan.jobs if not job.run.settings.first}
    after = [job for job in plan.jobs if job.run.settings.first]
    assert {job.run.network_of(job.run.settings.first.settings) for job in after} <= grn, "FMN's first is a row's own"
    assert not any(job.firsts for job in after)


def test_a_plan_leaves_out_what_is_finished_and_what_is_trained(house):
    before = planned()
    run = before.jobs[0].run
    run.work_folder.mkdir(parents=True)
    (run.work_folder / training.WEIGHTS).touch()
    assert [job.trains for job in before.jobs] == [True, False]
    assert [job.trains for job in planned().jobs] == [False, False]
    assert planned().jobs[1].after == (before.jobs[0].run.key,), "one at a time: the network has one lock"


@pytest.mark.parametrize(
    "line, words",
    [
        (["nobody", "--budget", "smoke"], "unknown paper 'nobody'; choose one of fmn, hamr"),
        (["hamr/table66", "--budget", "smoke"], "unknown table 'hamr/table66'"),
        (["hamr", "--budget", "huge"], "unknown budget 'huge'"),
        (["hamr", "--budget", "smoke", "--source", "dreams"], "unknown source 'dreams'"),
        (["hamr", "--budget", "smoke", "--dataset", "imagenet"], "unknown data set 'imagenet'"),
        (["hamr", "--budget", "smoke", "--gpus", "7"], "no GPU '7' on this machine"),
        (["hamr", "--budget", "full", "--source", "real"], "none of the real data sets is at hand"),
    ],
)
def test_unknown_words_name_the_known_ones(line, words, house, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("REID_DATA", str(tmp_path))
    assert cli.main(["reproduce", *line]) == 1
    assert words in capsys.readouterr().err


def test_a_figure_is_planned_as_it_is_drawn(house):
    plan = planned("safenet/figure3")
    assert [run.row.label for run in plan.runs] == ["multi-global (C=256) + l1, l2"]
    assert [slug for slug, _ in plan.tables] == ["safenet/figure3"]
    assert plan.chapters[0].needs() == {plan.runs[0].record_file}
    with pytest.raises(ReidError, match="unknown data set 'dukemtmc'; choose one of market1501$"):
        batch.plan(("safenet/figure3",), budget="smoke", datasets=["dukemtmc"])
    both = planned("safenet/table5", "safenet/figure3")
    assert len(both.runs) == len(papers.table("safenet/table5").rows), "its network is one of the table"


def test_a_figure_whose_weights_are_gone_is_planned_with_their_repeat(house):
    run = planned("safenet/figure3").runs[0]
    made_up.write(run)
    plan = planned("safenet/figure3")
    (job,) = plan.jobs
    assert job.run.again and job.trains and job.run.command()[-1] == "--again"
    assert plan.chapters[0].needs() == {run.record_file, job.run.record_file}
    assert "  again   1 run, for a figure draws weights" in "\n".join(batch.describe(plan, Machine((CPU,))))
    run.work_folder.mkdir(parents=True)
    (run.work_folder / training.WEIGHTS).touch()
    assert not planned("safenet/figure3").jobs


def test_two_papers_that_share_a_key_do_not_wait_for_themselves(house):
    run = planned().runs[0]
    other = replace(run, table=replace(run.table, paper="another"))
    assert other.key == run.key and other.record_file != run.record_file
    first, second = batch._jobs([run, other])
    assert (first.after, second.after) == ((), ()) and not second.trains


def test_the_splits_of_cuhk03_stand_for_seeds(house):
    plan = planned("safenet/table2-five-pairs", seeds=(0, 1, 2))
    assert len(plan.runs) == 40 and {run.seed for run in plan.runs} == {0}
    assert [chapter.dataset[-3:] for chapter in plan.chapters] == ["-01", "-01"]
    asked = planned("safenet/table2-five-pairs", datasets=["cuhk03-classic-detected-01 … -20"])
    assert len(asked.runs) == 20
    assert {run.seed for run in planned("hamr/table5", seeds=(0, 1, 2)).runs} == {0, 1, 2}


def test_the_plan_is_shown_before_it_starts(machine, capsys):
    assert cli.main(["reproduce", "hamr/table5", "--budget", "smoke", "--per-gpu", "1", "--dry-run"]) == 0
    text = capsys.readouterr().out
    for words in (
        "hamr/table5",
        "msmt17",
        "0 of 1 done, 1 network to train",
        "1 run to do",
        "time ",
        "memory ",
        "disk ",
        "GiB free",
    ):
        assert words in text
    assert not (paths.cache() / "logs").exists() and not paths.results().exists()


def test_the_plan_for_programs(machine, capsys):
    assert cli.main(["reproduce", TABLE, "--budget", "smoke", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    first, second = plan["jobs"]
    assert second["after"] == [first["key"]] and second["network"] == first["network"]
    assert first["command"][:3] == ["reid", "train", TABLE] and first["seconds"] > second["seconds"] > 0
    assert plan["chapters"][0]["command"][:3] == ["reid", "run", TABLE]
    assert set(plan["chapters"][0]["after"]) == {first["key"], second["key"]}
    for command in (first["command"], plan["chapters"][0]["command"]):
        cli.parser().parse_args(command[1:])


# --- what it will take ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds, places", [([3, 1, 1, 1], 2), ([5], 3), ([], 2), ([1, 2, 3, 4, 5, 6], 3)])
def test_makespan_against_a_slow_clock(seconds, places):
    waiting, left, clock = list(seconds), [], 0
    while waiting or left:
        while waiting and len(left) < places:
            left.append(waiting.pop(0))
        clock += 1
        left = [each - 1 for each in left if each > 1]
    assert prediction.makespan(seconds, places) == clock


@pytest.mark.parametrize(
    "places, after, ends", [(2, [[], [0], []], 9), (2, [[], [0], [0]], 11), (1, [[], [0], []], 15)]
)
def test_makespan_of_runs_that_wait_for_each_other(places, after, ends):
    """Of 5, 4 and 6 seconds: 0 then 1 beside 2; 0, then both; one after the other."""
    assert prediction.makespan([5, 4, 6], places, after) == ends


def test_a_plan_waits_for_the_network_that_its_rows_share(house):
    assert batch.makespan(planned(), Machine((CPU,), per_device=2)) == 2 * NEED.seconds


def test_images_are_those_of_the_stand_in(house):
    data = datasets.load("market1501", "stand-in", "smoke")
    counted = prediction.images("market1501", "stand-in", "smoke")
    for split in ("train", "query", "gallery"):
        assert counted[split] == pytest.approx(len(data.split(split)), rel=0.15, abs=3)
    assert prediction.images("market1501", "real", "full") == dict(
        train=12_936, query=3_368, gallery=19_732, identities=751
    )
    pair = prediction.images("market-to-duke", "real", "full")
    assert (pair["train"], pair["identities"], pair["query"]) == (12_936, 751, 2_228)
    assert prediction.images("cuhk03-classic-labeled-07", "real", "full")["train"] == round(14_096 * 1367 / 1467)


def test_every_network_of_the_study_can_be_counted(house):
    seen = {}
    for table in papers.tables().values():
        for row in table.rows:
            settings = table.settings(row, "smoke")
            if settings.recipe.resolved()["epochs"]:
                seen.setdefault(settings.model, settings)
    assert len(seen) >= 8
    for model, settings in seen.items():
        cost = step_cost(settings, 8)
        assert cost.multiply_adds > 1e7 and cost.activations > 1e6 and cost.parameters > 1e6, model


def test_a_frozen_pace_is_learnt_from_what_runs_took(house):
    book, run = Book(CPU, 1), planned().runs[0]
    assert book.pace(prediction.kind(run.settings)) == 1.0
    for seconds in (10.0, 6.0, 7.0):
        book.took(run, NEED, seconds)
    assert Book(CPU, 1).pace(prediction.kind(run.settings)) == 7.0 / 5.0


@pytest.mark.parametrize("rates, best", [([10, 10.5, 30], 1), ([10, 19, 20], 2), ([10, 15, 24], 3), ([10, 9, 50], 1)])
def test_a_gpu_is_shared_where_that_is_faster(house, monkeypatch, rates, best):
    tried = []

    def measure(runs, device, threads):
        tried.append(len(runs))
        return [dict(operations=rates[len(runs) - 1] / len(runs), peak_mb=1000.0)] * len(runs)

    monkeypatch.setattr(prediction, "measure", measure)
    gpu, run = Device("GPU-1", "a GPU", 80_000.0), planned().runs[0]
    share, gain = prediction.best_share(run, gpu, lambda text: None)
    assert share == best and gain == pytest.approx(rates[best - 1] / 10)
    again = list(tried)
    assert prediction.best_share(run, gpu, lambda text: None)[0] == best and tried == again, "measured once"
    small = Device("GPU-2", "a small GPU", 1_500.0)
    assert prediction.best_share(run, small, lambda text: None)[0] == 1, "two would not fit"


# --- devices ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """An nvidia-smi that lists two."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'GPU-aaaa, NVIDIA H100, 81559'\necho 'GPU-bbbb, NVIDIA H100, 81559'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv(devices.VISIBLE, raising=False)


def test_devices_are_those_asked_for_and_given(two_gpus, monkeypatch):
    assert [device.id for device in devices.devices()] == ["GPU-aaaa", "GPU-bbbb"]
    assert [device.id for device in devices.devices("1")] == ["GPU-bbbb"]
    monkeypatch.setenv(devices.VISIBLE, "1")
    assert [device.id for device in devices.devices()] == ["GPU-bbbb"]
    monkeypatch.setenv(devices.VISIBLE, "MIG-1234")
    assert [device.id for device in devices.devices()] == ["MIG-1234"]
    monkeypatch.setenv(devices.VISIBLE, "")
    assert [device.id for device in devices.devices()] == ["cpu"]
    with pytest.raises(ReidError, match="no GPU '2' on this machine; it has 0 .NVIDIA H100., 1"):
        devices.devices("0,2")


HOLD = """
import sys, time
from reidlib.runs.devices import Device, lease
with lease([Device("GPU-a", "", 0), Device("GPU-b", "", 0)], int(sys.argv[1]), log=lambda text: None) as device:
    import os
    print(device.id, os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    time.sleep(100)
"""


def test_a_lease_ends_with_its_process(tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}

    def hold(share):
        line = [sys.executable, "-c", HOLD, str(share)]
        return subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment)

    first, second = hold(1), hold(1)
    try:
        taken = sorted(process.stdout.readline() for process in (first, second))
        assert taken == ["GPU-a GPU-a\n", "GPU-b GPU-b\n"], "each has a device of its own"
        third = hold(1)
        time.sleep(1.0)
        assert third.poll() is None
        first.send_signal(signal.SIGKILL)
        assert third.stdout.readline().startswith("GPU-")
        fourth = hold(2)
        assert fourth.stdout.readline().startswith("GPU-"), "a second place on a device"
    finally:
        for process in (first, second, third, fourth):
            process.kill()
            process.communicate()


# --- at work ----------------------------------------------------------------------------------------------------------


def test_a_batch_trains_what_is_missing_and_a_second_call_does_nothing(machine, house, capsys):
    first = reproduce("--per-gpu", "2")
    text = said(first)
    assert first.returncode == 0, text
    assert text.count("] finished: ") == 2 and "notebook: " in text and "add to _toc.yml" in text
    assert "trained already" in planned_log(1), "the second row shares the first one's network"
    before = {file: file.stat().st_mtime_ns for file in house.rglob("*") if file.is_file()}
    second = reproduce("--per-gpu", "2")
    text = said(second)
    assert second.returncode == 0 and "All 2 runs have their records" in text and "finished: " not in text
    assert {file: file.stat().st_mtime_ns for file in house.rglob("*") if file.is_file()} == before
    assert cli.main(["status", TABLE, "--budget", "smoke"]) == 0
    assert "2 done    0 running    0 failed    0 missing" in capsys.readouterr().out


def planned_log(number):
    run = batch.plan((TABLE,), budget="smoke").runs[number]
    return batch.Job(run).log.read_text()


def test_two_batches_at_once_share_the_work(machine, house):
    both = [reproduce("--per-gpu", "2") for _ in range(2)]
    texts = [said(process) for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert sum(text.count("] finished: ") for text in texts) == 2, texts
    assert sum("epoch 1/" in line for number in (0, 1) for line in planned_log(number).splitlines()) == 1
    assert len(outcome(house)) == 2
    assert not list(house.rglob("*.partial*"))


def test_a_killed_worker_is_started_again_and_the_batch_goes_on(machine, house, tmp_path):
    faults = tmp_path / "points"
    faults.mkdir()
    (faults / "1").write_text("os.rename weights.partial")
    (faults / "2").write_text("open .json.partial")
    process = reproduce("--per-gpu", "2", faults=faults)
    text = said(process)
    assert process.returncode == 0, text
    assert text.count("killed by SIGKILL") == 2 and not list(faults.iterdir())
    assert "resuming after epoch 1 of 1" in planned_log(0), "killed before its weights lay in place"
    assert {status for status, *_ in outcome(house).values()} == {"finished"} and len(outcome(house)) == 2


MOMENTS = (
    *["after 1.0", "after 3.0", "after 5.0", "after 7.0", "after 9.0"],
    *["os.rename checkpoint.partial"] * 3,
    *["os.rename weights.partial"] * 3,
    *["open .npz.partial", "os.rename .npz.partial"],
    *["open .json.partial", "open .json.partial", "os.rename .json.partial"],
    *["open .partial.ipynb"] * 2,
    *["os.rename .partial.ipynb"] * 2,
)


@pytest.mark.all
def test_twenty_kills_lose_nothing_and_make_nothing_twice(machine, house, tmp_path, monkeypatch):
    table = "fmn/table2"  # three rows, two networks, one of them trained before the other
    whole = copied(paths.cache(), tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setenv("REID_CACHE", str(whole))
        patch.setenv("REID_RESULTS", str(tmp_path / "undisturbed"))
        process = reproduce("--per-gpu", "2", table=table)
        text = said(process)
        assert process.returncode == 0, text
    faults = tmp_path / "points"
    faults.mkdir()
    moments = list(MOMENTS)
    random.Random(0).shuffle(moments)
    for number, moment in enumerate(moments):
        (faults / f"{number:02}").write_text(moment)
    assert len(moments) == 20
    for _ in range(20):
        process = reproduce("--per-gpu", "2", table=table, faults=faults)
        text = said(process)
        if process.returncode == 0 and not list(faults.iterdir()):
            break
        if process.returncode == 0:  # all is made: have the moments that are left come again, and soon
            again(house)
            for left in faults.iterdir():
                if left.read_text().startswith("after"):
                    left.write_text("after 1.0")
    assert not list(faults.iterdir()), [file.read_text() for file in faults.iterdir()]
    process = reproduce("--per-gpu", "2", table=table)
    assert "finished: " not in said(process) and process.returncode == 0
    found, wanted = outcome(house), outcome(tmp_path / "undisturbed")
    assert found == wanted and len(found) == 3
    left = [file for file in house.rglob("*partial*")]
    assert len(left) <= 3, left  # what was being written when its process died; a name that is written over next time


def again(results):
    """Takes one record, its network and the notebook away."""
    run = batch.plan(("fmn/table2",), budget="smoke").runs[1]
    for file in (run.record_file, run.record_file.with_suffix(".npz"), *results.rglob("table2.ipynb")):
        file.unlink(missing_ok=True)
    shutil.rmtree(run.work_folder)


def test_a_batch_that_is_stopped_stops_its_runs(machine, house):
    process = reproduce("--per-gpu", "1")
    log = batch.Job(batch.plan((TABLE,), budget="smoke").runs[0]).log
    deadline = time.time() + 120
    while time.time() < deadline and not (log.exists() and "device: " in log.read_text()):
        time.sleep(0.1)
    process.terminate()
    text = said(process)
    assert process.returncode == 130 and "the next call goes on" in text
    lock = batch.plan((TABLE,), budget="smoke").runs[0].work_folder / "lock"
    assert locks.holder_of(lock) is None, "its run has ended with it"


def instead_of_workers(monkeypatch, code, word="reidlib.runs.worker"):
    """Python code in the place of the workers whose command line has this word; other processes are what they were."""
    real = subprocess.Popen

    def start(line, *arguments, **options):
        return real([sys.executable, "-c", code] if word in line else line, *arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", start)


def test_a_worker_that_hangs_is_stopped_and_named(machine, house, monkeypatch):
    plan = planned()
    instead_of_workers(monkeypatch, "import time; time.sleep(600)")
    lines = []
    result = runner.train(plan, machine, time_limit=1.0, say=lines.append)
    assert not result.made and len(result.failed) == 2
    assert "taken for hanging and stopped" in lines[0]
    states = [status.state(run) for run in plan.runs]
    assert {one.what for one in states} == {"failed"} and "no line in its log for" in states[0].more
    assert "reid train mros/table3 --row" in states[0].line()


def test_a_worker_that_waits_for_a_device_does_not_hang(machine, house, monkeypatch):
    waits = "import time; print('waiting for one of 1 places', flush=True); time.sleep(5); raise SystemExit('at last')"
    instead_of_workers(monkeypatch, waits)
    plan = planned("hamr/table5")
    ((job, why),) = runner.train(plan, machine, time_limit=2.0, say=lambda text: None).failed
    assert why == "at last"


def test_a_run_that_is_killed_again_and_again_is_given_up(machine, house, monkeypatch):
    instead_of_workers(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    lines = []
    ((job, why),) = runner.train(planned("hamr/table5"), machine, say=lines.append).failed
    assert [line.split(":")[0] for line in lines] == ["[0/1] killed by SIGKILL"] * 2 + ["[1/1] failed"]
    assert "as the kernel does when memory runs out" in why
    assert status.state(job.run).what == "failed" and "killed by SIGKILL" in status.state(job.run).more


def test_a_run_that_cannot_be_started_does_not_stop_the_others(machine, house, monkeypatch):
    plan, start = planned("hamr/table3"), runner.Working.of

    def full(job, machine):
        if job == plan.jobs[0]:
            raise OSError(28, "No space left on device")
        return start(job, machine)

    monkeypatch.setattr(runner.Working, "of", full)
    result = runner.train(plan, machine, say=lambda text: None)
    assert [job for job, _ in result.failed] == [plan.jobs[0]] and result.made == [plan.jobs[1]]
    assert "No space left on device" in result.failed[0][1]


@pytest.mark.parametrize(
    "fault, words",
    [
        (MemoryError("Unable to allocate 9.9 GiB"), "Unable to allocate 9.9 GiB"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), "out of memory beside training (CUDA"),
    ],
)
def test_whatever_ends_a_run_is_in_its_record(house, monkeypatch, fault, words):
    def fails(*given):
        raise fault

    monkeypatch.setattr(worker, "_test", fails)
    run = planned("hamr/table5").runs[0]
    with pytest.raises(ReidError if "CUDA" in str(fault) else type(fault)):
        worker.execute(run, log=lambda text: None)
    assert run.state() == "failed" and words in run.record().error


def test_lines_reach_a_file_at_once(monkeypatch):
    class Output(io.StringIO):
        flushed = ""

        def flush(self):
            self.flushed = self.getvalue()

    monkeypatch.setattr(sys, "stdout", output := Output())
    runner.say("[1/2] finished: one")
    assert output.flushed == "[1/2] finished: one\n"


def test_a_kernel_that_dies_does_not_take_the_other_notebooks_along(machine, house, monkeypatch):
    plan = planned("hamr/table5", "hamr/table3")
    for run in plan.runs:
        made_up.write(run)

    def dies(*given, **options):
        raise RuntimeError("Kernel died")

    monkeypatch.setattr("reidlib.book.kernel.execute", dies)
    left = runner.write_chapters(plan)
    assert len(left) == len(plan.chapters) == 2 and all("Kernel died" in why for _, why in left)


def test_a_failed_run_does_not_stop_the_others(machine, house, monkeypatch, capsys):
    plan = planned("hamr/table3")
    variant = plan.jobs[0].run.row.variant
    instead_of_workers(monkeypatch, "raise SystemExit('error: broken on purpose')", variant)
    lines = []
    result = runner.train(plan, machine, say=lines.append)
    assert [job for job, _ in result.failed] == [plan.jobs[0]] and result.made == [plan.jobs[1]]
    assert "failed: hamr/table3 'Ours'" in lines[0] and "broken on purpose (log " in lines[0]
    ((chapter, why),) = runner.write_chapters(plan)
    assert chapter.slug == "hamr/table3" and "1 of its runs have no finished record" in why


OUT_OF_MEMORY = """
import sys, torch
from reidlib import training
from reidlib.runs import worker
step = training.Loop.step
def small(loop, images, labels):
    if len(images) > 4:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return step(loop, images, labels)
training.Loop.step = small
sys.exit(worker.main(sys.argv[1:]))
"""


def test_a_device_that_runs_out_of_memory_is_named_with_the_batch_that_fits(machine, house):
    run = planned("fmn/table2").runs[0]
    line = [sys.executable, "-c", OUT_OF_MEMORY, *run.command()[2:]]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    last = done.stdout.splitlines()[-1]
    batch_size = run.settings.recipe.resolved()["batch"]
    assert f"ran out of memory with a batch of {batch_size} (CUDA out of memory" in last
    assert "a batch of 4 fits" in last and devices.processor() in last and "--per-gpu" in last
    assert run.record().error in last


def test_a_full_disk_is_named_and_loses_nothing(machine, house, tmp_path, monkeypatch):
    run = planned().runs[0]
    line = [sys.executable, "-m", "reidlib.runs.worker", *run.command()[2:]]

    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    done = subprocess.run(line, capture_output=True, text=True, preexec_fn=small)
    assert done.returncode == 1 and "cannot be written" in done.stdout.splitlines()[-1]
    assert "free some space" in done.stdout.splitlines()[-1]
    assert not list(run.work_folder.glob("*.partial")), "half a checkpoint would keep the disk full"
    subprocess.run(line, check=True, capture_output=True)
    roomy = copied(paths.cache(), tmp_path / "roomy")
    kept = outcome(house)
    monkeypatch.setenv("REID_CACHE", str(roomy))
    monkeypatch.setenv("REID_RESULTS", str(tmp_path / "other"))
    subprocess.run(line, check=True, capture_output=True)
    assert outcome(tmp_path / "other") == kept


def test_a_record_that_cannot_be_read_is_set_aside_and_made_again(machine, house, capsys):
    run = planned("hamr/table5").runs[0]
    run.record_file.parent.mkdir(parents=True)
    run.record_file.write_text('{"key": "of a later version"}')
    foreign = run.record_file.with_name("0123456789abcdef.json")
    foreign.write_text("{")
    assert cli.main(["status", "hamr/table5", "--budget", "smoke"]) == 0
    text = capsys.readouterr().out
    assert "1 failed" in text and f"of another version of the code, never used: {foreign}" in text
    process = reproduce(table="hamr/table5")
    text = said(process)
    assert process.returncode == 0 and text.count("] finished: ") == 1, text
    assert run.record().ok and "later version" in run.record_file.with_suffix(".json.unreadable").read_text()
    assert f"set aside as {run.key}.json.unreadable" in batch.Job(run).log.read_text()


def test_what_a_command_cannot_use_is_refused(capsys):
    assert cli.main(["train", TABLE, "--budget", "smoke", "--lease"]) == 1
    assert "--lease and --deterministic are for one row" in capsys.readouterr().err
    assert cli.main(["reproduce", TABLE, "--budget", "smoke", "--json"]) == 1
    assert "add --dry-run" in capsys.readouterr().err
