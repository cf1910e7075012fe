"""What runs that share a device will take: measured so many at once, kept only where nothing else was at work."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reidlib.runs import batch, devices, prediction
from reidlib.runs.batch import Machine
from reidlib.runs.devices import Device
from reidlib.runs.prediction import Book, Need
from reidlib.spec import ReidError

GPU = Device("GPU-1", "a GPU", 80_000.0)
MEASURED = dict(operations=1e12, start=6.0, decoded=1000.0, base_mb=900.0, peak_mb=1000.0, activations=2.0)
TABLE = "mros/table2"
"""Two networks, of two kinds."""


@pytest.fixture(autouse=True)
def leases(house, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv(devices.VISIBLE, raising=False)


@pytest.fixture
def tried(monkeypatch):
    """Measurements that are made up: together two runs do 1.2 times what one does, three do 1.5 times that."""
    tried = []

    def measure(runs, device, threads):
        tried.append(len(runs))
        return [MEASURED | {"operations": 1e12 * (1.0, 1.2, 1.5)[len(runs) - 1] / len(runs)}] * len(runs)

    monkeypatch.setattr(prediction, "measure", measure)
    return tried


def failing(monkeypatch, share):
    """So many runs, and more, do not fit."""
    measure = prediction.measure

    def fails(runs, device, threads):
        if len(runs) >= share:
            raise ReidError("a GPU: out of memory")
        return measure(runs, device, threads)

    monkeypatch.setattr(prediction, "measure", fails)


def planned(table=TABLE):
    return batch.plan((table,), budget="smoke", datasets=["market1501"])


def quiet(text):
    pass


def seconds(plan, share, log=quiet):
    machine = Machine((GPU,), share)
    return batch.makespan(batch.predicted(plan, machine, log), machine)


# --- sharing ----------------------------------------------------------------------------------------------------------


def test_runs_that_share_a_device_are_measured_together(tried, monkeypatch):
    monkeypatch.setattr(prediction, "_trained", lambda cost, images: 1e15)  # so that nothing else matters
    plan = planned()
    assert len(plan.jobs) == 2
    one, two = seconds(plan, 1), seconds(plan, 2)
    assert two / one == pytest.approx(1 / 1.2, abs=0.02) and set(tried) == {1, 2}


def test_a_pace_belongs_to_its_share(tried):
    run = planned().jobs[0].run
    need = Need(seconds=5.0, memory_mb=100.0, disk_mb=10.0, measured=5.0)
    Book(GPU, 1, 2).took(run, need, 10.0)
    assert [book.pace(book.name(run.settings)) for book in (Book(GPU, 1), Book(GPU, 1, 2))] == [1.0, 2.0]


@pytest.mark.parametrize("share, best", [(2, 1), (3, 2)])
def test_a_share_that_fails_is_not_taken(tried, monkeypatch, share, best):
    failing(monkeypatch, share)
    lines = []
    found, gain = prediction.best_share(planned().jobs[0].run, GPU, lines.append)
    assert found == best and gain == (1.0, 1.2)[best - 1]
    assert lines[-1] == f"a GPU: out of memory; not more than {best} at once"
    assert not Book(GPU, devices.cores()).known.get("share"), "what fills the device may be gone the next time"


def test_a_share_is_lowered_until_the_largest_run_fits(tried):
    plan = planned()
    need = batch.predicted(plan, Machine((GPU,)), quiet)
    largest = max(job.need.memory_mb for job in need.jobs)
    assert batch.shared(plan, Machine((GPU,)), quiet).per_device == 3
    tight = replace(GPU, memory_mb=2.5 * largest)
    prediction.Book(tight, devices.cores()).get("share", prediction.kind(plan.jobs[0].run.settings), lambda: [3, 1.5])
    machine = batch.shared(plan, Machine((tight,)), quiet)
    assert machine.per_device == 2
    text = "\n".join(batch.describe(batch.predicted(plan, machine, quiet), machine))
    assert "may not fit" not in text


def test_a_share_is_lowered_where_another_kind_cannot_be_measured(tried, monkeypatch):
    plan = planned()
    Book(GPU, devices.cores()).get("share", prediction.kind(plan.jobs[0].run.settings), lambda: [3, 1.5])
    failing(monkeypatch, 2)
    assert batch.shared(plan, Machine((GPU,)), quiet).per_device == 1


def test_sharing_is_not_measured_where_each_run_has_a_device(tried):
    one = planned("hamr/table2")
    one = replace(one, jobs=one.jobs[:1])
    assert batch.shared(one, Machine((GPU,)), quiet).per_device == 1
    two = Machine((GPU, replace(GPU, id="GPU-2")))
    assert batch.shared(planned(), two, quiet) == two and not tried


def test_a_stated_share_is_only_warned_about(tried, monkeypatch):
    failing(monkeypatch, 2)
    plan, small, lines = planned(), replace(GPU, memory_mb=2_000.0), []
    machine = Machine((small,), 2)
    plan = batch.predicted(plan, machine, lines.append)
    assert "a GPU: out of memory; predicted from one run alone" in lines
    assert {job.need.measured for job in plan.jobs} == {0.0}, "nothing to learn from"
    assert "2 such runs may not fit at once; choose a smaller --per-gpu" in "\n".join(batch.describe(plan, machine))
    alone = Machine((replace(GPU, memory_mb=100.0),))
    text = "\n".join(batch.describe(plan, alone))
    assert "such a run may not fit; choose a device with more memory" in text and "--per-gpu" not in text


# --- measuring --------------------------------------------------------------------------------------------------------


def test_what_is_measured_beside_another_run_is_not_kept(tried):
    run = planned().jobs[0].run
    with devices.lease([GPU], log=quiet):
        need = prediction.need(run, Book(GPU, 1), quiet)
        again = prediction.need(run, Book(GPU, 1), quiet)
        assert prediction.best_share(run, GPU, quiet)[0] == 3
    assert tried == [1, 2, 3] and again == need, "once a process"
    book = Book(GPU, 1)
    assert not book.known.get("speed") and not book.known.get("share")
    book.took(run, need, 100.0)
    assert need.measured == 0.0 and book.pace(book.name(run.settings)) == 1.0
    prediction._measured.clear()
    assert prediction.need(run, Book(GPU, 1), quiet).measured > 0 and Book(GPU, 1).keeps(run)


def instead_of_python(monkeypatch, folder, *lines):
    script = folder / "python"
    script.write_text("\n".join(("#!/bin/sh", f"cd {folder}", *lines)))
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def test_no_step_is_timed_before_all_are_ready(monkeypatch, tmp_path):
    late = "mkdir first 2>/dev/null || sleep 1"
    instead_of_python(monkeypatch, tmp_path, late, "echo >>all", "echo ready", "cat >/dev/null", "wc -l <all")
    run = planned().jobs[0].run
    assert prediction.measure([run] * 2, GPU, 1) == [2, 2]


@pytest.mark.parametrize(
    "device, said, words",
    [
        (
            GPU,
            "CUDA out of memory",
            r"speed of 2 runs at once .*CUDA out of memory.*nvidia-smi shows .*--gpus.* or set ",
        ),
        (
            Device("cpu", "a processor", 0.0),
            "boom",
            r"a processor: .*\(boom\); `.*reidlib.runs.prediction .*` shows the whole",
        ),
        (GPU, "error: mend the driver", "^mend the driver$"),
    ],
)
def test_a_measurement_that_fails_says_what_to_do(monkeypatch, tmp_path, device, said, words):
    instead_of_python(monkeypatch, tmp_path, f"echo '{said}' >&2", "exit 1")
    with pytest.raises(ReidError, match=words):
        prediction.measure([planned().jobs[0].run] * 2, device, 1)


def test_a_gpu_that_torch_cannot_use_is_not_measured_as_the_processor(monkeypatch):
    monkeypatch.setattr(devices, "devices", lambda: [GPU])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ReidError, match="a GPU .*cannot use it"):
        prediction.timed(planned().jobs[0].run, 0.0)


def test_a_full_disk_ends_no_batch(tried, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    run, book = planned().jobs[0].run, Book(GPU, 1)
    need = prediction.need(run, book, quiet)
    book.took(run, need, 5.0)
    assert not book.file.exists() and not list(book.file.parent.iterdir())


# --- memory and images ------------------------------------------------------------------------------------------------


def test_memory_is_that_of_training_or_of_the_largest_split(tried, monkeypatch):
    run = planned().jobs[0].run
    height, width = run.settings.recipe.resolved()["size"]
    image_mb = 3 * height * width / 2**20
    counts = dict(train=100, query=50, gallery=100, identities=8)
    monkeypatch.setattr(prediction, "images", lambda *words: counts)
    small = prediction.need(run, Book(GPU, 1), quiet).memory_mb
    training = small - 900 - prediction.CONTEXT_MB
    assert training > 100 * image_mb, "activations, and training images"
    counts |= dict(gallery=100_000)
    big = prediction.need(run, Book(GPU, 1), quiet).memory_mb
    assert big == pytest.approx(900 + prediction.CONTEXT_MB + 100_000 * image_mb)
    processor = prediction.need(run, Book(Device("cpu", "a processor", 0.0), 1), quiet).memory_mb
    assert processor == pytest.approx(900 + 200_000 * image_mb), "while it is decoded it is there twice"


def test_images_that_are_to_be_rendered_take_their_time(monkeypatch):
    monkeypatch.setattr(prediction, "cores", lambda: 4)
    rate = 100.0
    Book(Device("cpu", devices.processor(), 0.0), 1).get("rendered", "images a second", lambda: rate)
    many = prediction.standin_images("msmt17", "full")
    assert prediction.rendering_seconds("msmt17", "full") == pytest.approx(many / rate / 4)
    plan = batch.plan(("hamr/table5",), budget="smoke")
    need = Need(seconds=5.0, memory_mb=100.0, disk_mb=10.0, measured=5.0)
    plan = replace(plan, jobs=tuple(replace(job, need=need) for job in plan.jobs))
    machine = Machine((GPU,))
    expected = batch.duration(prediction.standin_images("msmt17", "smoke") / rate)
    assert f"render stand-ins (msmt17) first, about {expected}" in "\n".join(batch.describe(plan, machine))
    there = planned()
    there = replace(there, jobs=tuple(replace(job, need=need) for job in there.jobs))
    assert "render" not in "\n".join(batch.describe(there, machine))


def test_the_rate_of_rendering_is_measured():
    assert 0.05 < prediction.rendering_seconds("market1501", "smoke") < 600
    book = Book(Device("cpu", devices.processor(), 0.0), 1)
    assert book.known["rendered"]["images a second"] > 0
