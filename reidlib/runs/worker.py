"""A process that trains one run after the other; `engine` starts it and sends it the runs.

    python -m reidlib.runs.worker 7      # tasks: JSON lines on stdin; events: JSON lines on descriptor 7

Between runs it keeps the libraries, the device's context and the tables of data sets, and nothing that could change a
number: a run here equals the same run in a fresh process, bit for bit. It ends when stdin ends, which is when the
engine's process ends, for whatever reason; then a training that is under way leaves its last checkpoint.

Events: started; log (text); waiting (why); epoch (epoch, epochs, images_per_second, eta); testing; finished (metrics,
seconds); failed (reason, kind). A kind is "busy" (another process makes this run), "memory" or "error"."""

import gc
import json
import os
import platform
import queue
import random
import resource
import shlex
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import reidlib
from reidlib import paths, standin, training
from reidlib.data import images as pictures
from reidlib.data.table import Dataset
from reidlib.evaluation import TIE_RULE, Draws, Features, Ranking, evaluate, features, protocols
from reidlib.evaluation.reranking import reranking
from reidlib.runs import datasets, devices, locks, records
from reidlib.runs.devices import many
from reidlib.runs.records import Record
from reidlib.runs.run import Run
from reidlib.spec import Busy, ReidError, Settings, printable
from reidlib.training import TrainingImages, precision

EVALUATION_BATCH = {"cpu": 64, "cuda": 256}  #: images in one forward pass of a test: enough to fill a GPU
CPU = torch.device("cpu")
EPOCH_FIELDS = ("epoch", "epochs", "loss", "accuracy", "images_per_second", "eta")
FEWER = "let fewer runs share the device (--per-gpu)"

VERSIONS = {name: version(name) for name in ("torch", "torchvision", "numpy", "pillow")}
VERSIONS |= {"python": platform.python_version(), "reidlib": reidlib.__version__}  # which need not be installed

Log = Callable[[str], None]
Event = Callable[..., None]


class OutOfMemory(ReidError):
    """A device has no memory left for a run."""


def execute(
    run: Run,
    log: Log = print,
    *,
    device: torch.device = CPU,
    threads: int = 1,
    at_once: int = 0,
    deterministic: bool = False,
    event: Event = lambda event, **fields: None,
) -> Record:
    """Trains and tests one run in this process and writes its record. A finished run is not run again; a failed one is.
    A record that cannot be read is set aside. A failure leaves a record that says so, and is raised. at_once: how many
    runs share the device (0: not known)."""
    records.check_writable(run.record_file.parent)
    reset(threads, deterministic, device)
    with locks.locked(run.work_folder / "lock", holder=f"{run.table.slug} {run.row.label!r} (run {run.key})"):
        if run.is_made() and (made := run.record()):
            log(f"finished already: {run.found_file}")
            return made
        try:
            run.record()
        except ReidError as fault:
            log(f"{fault}; set aside as {records.set_aside(run.found_file).name}, the row is run again")
        record = replace(_header(run), runs_at_once=at_once)
        try:
            record = replace(record, **_how(run, device))
            record, per_query = _train_and_test(run, _data(run, log, event), record, device, threads, log, event)
        except Exception as fault:
            why = _said(fault)
            if full := _full(fault):  # beside training: that says more, and raises OutOfMemory itself
                why = f"{record.device} ran out of memory beside training ({full}); {FEWER}"
            fail(run, why, replace(record, threads=torch.get_num_threads()))
            if full:
                raise OutOfMemory(why) from fault
            raise
        record = records.write(run.record_file, record, per_query)
    log(f"record {run.record_file}")
    return record


def reset(threads: int, deterministic: bool, device: torch.device = CPU) -> None:
    """Puts every global that a run could read back to where a fresh process has it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.set_float32_matmul_precision("highest")
    torch.set_flush_denormal(False)
    torch.clear_autocast_cache()
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = False
    torch.backends.cudnn.allow_tf32 = True
    if deterministic:
        training.deterministic()
    gc.collect()  # what the last run left may hold memory of the device
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak that `peak_memory_mb` reads


def fail(run: Run, why: str, record: Record | None = None) -> None:
    """Leaves a record that says why a run failed, where one can be written; the error itself says it in any case."""
    if run.is_made():  # by another process, meanwhile
        return
    with suppress(ReidError):
        records.write(run.record_file, replace(record or _header(run), status="failed", error=why))


def _train_and_test(
    run: Run, data: Dataset, record: Record, device: torch.device, threads: int, log: Log, event: Event
) -> tuple[Record, dict]:
    started = time.monotonic()
    decoded = datasets.decoded(data, "train", run.settings.recipe.size, log=log).to(device)
    decoding = time.monotonic() - started
    labels, files = torch.from_numpy(data.train_labels()).to(device), data.split("train")["path"].tolist()
    images = TrainingImages(decoded, labels, files)
    first = run.settings.first
    before = _train(run, first.settings, images, threads, log, event) if first else None
    trained = _train(run, run.settings, images, threads, log, event, before.model if before else None)
    event("testing")
    started = time.monotonic()
    answer = _test(run, trained.model, data, device)
    testing = time.monotonic() - started
    metrics = answer.metrics()
    log("  ".join(f"{name} {metrics[name]:.1f}" for name in ("rank1", "rank5", "rank10", "mAP")))
    record = replace(
        record,
        status="finished",
        data=run.data | _describe(data),
        start=trained.start,
        tie_rule=TIE_RULE,
        step=trained.step,
        notes=list(dict.fromkeys(one.why for one in (before, trained) if one and one.why)),
        metrics={run.protocol: metrics},
        curve=trained.curve,
        seconds=trained.seconds + (before.seconds if before else 0),
        overhead_seconds={"decode": decoding, "test": testing},
        images_per_second=trained.images_per_second,
        peak_memory_mb=peak_memory_mb(device),
        **_how(run, device),
    )
    return record, answer.per_query() | {"identity": data.split("query")["identity"].to_numpy(np.int64)}


def _train(
    run: Run, settings: Settings, images: TrainingImages, threads: int, log: Log, event: Event, first: Any = None
) -> training.Trained:
    """One network of the run: its own, or (without `first`) the one trained before it, which other runs share."""
    folder = run.folder_of(run.network_of(settings))
    own = folder == run.work_folder  # then the run holds the lock already
    if not own:
        log(f"first: {settings.model.__name__}")
        if holder := locks.holder_of(folder / "lock"):
            log(f"waiting for process {holder}, which trains it")
            event("waiting", why="another process trains the network that is trained first")
    with nullcontext() if own else locks.locked(folder / "lock", wait=True):
        if run.again:  # a repeat trains anew, whatever an earlier one left
            (folder / training.WEIGHTS).unlink(missing_ok=True)
        _keep_threads(folder, threads, images.images.device, log)

        how: dict[str, Any] = dict(seed=run.seed, folder=folder, first=first, log=log)
        how["on_epoch"] = lambda point: event("epoch", **{name: point[name] for name in EPOCH_FIELDS})
        try:
            trained = training.train(settings, images, **how)
        except RuntimeError as fault:
            if not (full := _full(fault)):
                raise
        else:
            for name in (training.CHECKPOINT, training.PREVIOUS):
                (folder / name).unlink(missing_ok=True)
            return trained
    # The memory of the training is free again.
    device, batch = images.images.device, settings.recipe.batch
    if device.type == "cuda":
        torch.cuda.empty_cache()
    smaller = "no smaller batch fits"
    if fits := training.batch_that_fits(settings, images.identities, device, first):
        smaller = f"a batch of {fits} fits (recipe in reidlib/papers/{run.table.paper}.py; it makes another network)"
    where = f"{device_name(device)} ran out of memory with a batch of {batch} ({full})"
    raise OutOfMemory(f"{where}; {smaller}; or {FEWER}")


def _keep_threads(folder: Path, threads: int, device: torch.device, log: Log) -> None:
    """Sets the number of CPU threads; a network that was begun keeps its own, which its last digits depend on."""
    kept = (training.checkpoint_threads(folder) if device.type == "cpu" else None) or threads
    if kept != threads:
        log(f"this network was begun with {kept} CPU threads, and goes on with {kept} instead of {threads}")
    torch.set_num_threads(kept)


def _full(fault: Exception) -> str:
    """The first line of a fault that says that a device has no memory left (CUDA's libraries differ); "" of others."""
    full = isinstance(fault, RuntimeError) and any(word in str(fault) for word in ("out of memory", "ALLOC_FAILED"))
    return str(fault).partition("\n")[0] if full else ""


def _test(run: Run, model: torch.nn.Module, data: Dataset, device: torch.device) -> Ranking | Draws:
    """The run's protocol on the run's features; distances are those of features scaled to length 1."""
    testing, rules = run.settings.testing, protocols.protocol(run.protocol)
    query, gallery = (embeddings(run, model, data, split, device) for split in ("query", "gallery"))
    multi = embeddings(run, model, data, "multi-query", device) if rules.multi_query else None
    rerank = reranking(testing.reranking.lower(), **testing.reranking_options)
    return evaluate(query, gallery, protocol=rules, multi=multi, metric="cosine", rerank=rerank)


def embeddings(run: Run, model: torch.nn.Module, data: Dataset, split: str, device: torch.device) -> Features:
    """The embeddings of one split with its identities and cameras."""
    recipe, frame = run.settings.recipe, data.split(split)
    if not len(frame):
        raise ReidError(f"{run.dataset}: no {split} images, which {run.protocol} needs (Market-1501: folder gt_bbox)")
    batches = datasets.decoded(data, split, recipe.size).to(device).split(EVALUATION_BATCH[device.type])
    bf16 = precision.in_bf16(recipe, device)
    with precision.products(recipe):
        found = features.extract(model, (pictures.normalise(batch) for batch in batches), bf16=bf16)
        if run.settings.testing.flip:
            found = found + features.extract(model, (pictures.normalise(batch.flip(3)) for batch in batches), bf16=bf16)
    return Features(found, frame["identity"].to_numpy(), frame["camera"].to_numpy(), name=f"{data.name} {split}")


_tables: dict[tuple[str, str, str, str], Dataset] = {}  #: checked, by data set, source, budget and digest


def _data(run: Run, log: Log, event: Event) -> Dataset:
    """The run's data set; a stand-in is rendered first where it is missing."""
    mark = (run.dataset, run.source, run.budget, run.data_digest)
    data = _tables.get(mark)
    if data is None or not data.root.is_dir():
        if datasets.is_to_be_rendered(run.dataset, run.source, run.budget):
            log(f"rendering {run.dataset}, or waiting for the process that renders it")
            event("waiting", why="a stand-in is rendered")
        data = _tables[mark] = datasets.load(run.dataset, run.source, run.budget)
    return data


def _header(run: Run) -> Record:
    """What is known before a device is used."""
    return Record(
        key=run.key,
        network=run.network,
        status="started",
        made_for={"paper": run.table.paper, "table": run.table.name, "row": run.row.label, "variant": run.row.variant},
        budget=run.budget,
        **run.made_from(run.settings),
        versions=VERSIONS,
        commit=commit(),
    )


def _describe(data: Dataset) -> dict[str, Any]:
    named = {"name": data.name, "source": data.source, "digest": data.digest}
    renderer = {"renderer": standin.VERSION} if data.source == "stand-in" else {}
    sizes = {split: len(data.split(split)) for split in ("train", "query", "gallery")}
    return named | renderer | {"identities": len(data.identities), "images": sizes}


def _how(run: Run, device: torch.device) -> dict[str, Any]:
    """The fields of a record that say on what, and how, its network was computed."""
    asked = run.settings.recipe.precision
    return {
        "device": device_name(device),
        "device_kind": device.type,
        "threads": torch.get_num_threads(),
        "precision": "fp32" if asked == "bf16" and not precision.multiplies_bf16(device) else asked,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def device_name(device: torch.device | None = None) -> str:
    """A device (default: a GPU where torch finds one) as records describe it, with what changes numbers on it."""
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cpu = f"{devices.processor()}, {many(torch.get_num_threads(), 'thread')}"
    words = [torch.cuda.get_device_name(device) if device.type == "cuda" else cpu]
    if not precision.multiplies_bf16(device):
        words.append("fp32 for bf16")
    if torch.are_deterministic_algorithms_enabled():
        words.append("deterministic")
    return f"{device.type} ({', '.join(words)})"


@cache
def commit() -> str:
    """The commit of the code, with a plus where tracked files of it have changed; "unknown" outside a checkout. Changes
    to an archive of `make bundle`, which brings its commit along, are not seen."""
    if brought := paths.bundled()[0]:
        return brought
    git = ["git", "-C", str(paths.home())]
    try:
        head = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True, stderr=subprocess.DEVNULL).strip()
        code = ["--", "reidlib", "pyproject.toml", "requirements.lock"]
        changed = subprocess.check_output([*git, "status", "--porcelain", "--untracked-files=no", *code])
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+" if changed else head


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of this run in MiB: on the GPU, or of this process since `reset` (where the kernel tells it)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError, IndexError, ValueError):
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(descriptor: int) -> None:
    """Serves the engine until stdin ends. A run that fails leaves its reason in its record and in the event."""
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin.buffer:
            tasks.put(line)
        _end()

    threading.Thread(target=listen, daemon=True).start()
    gc.freeze()  # the libraries' objects stay: `reset` need not look through them for garbage
    while True:
        task = json.loads(tasks.get())

        def send(event: str, **fields: Any) -> None:
            try:
                os.write(descriptor, json.dumps({"event": event, **fields}).encode() + b"\n")
            except OSError:
                _end()

        def log(text: str) -> None:
            with suppress(OSError):  # a disk too full for the log: the record or the event will say so
                print(text, flush=True)
            send("log", text=text)

        send("started")
        try:
            run = Run.of_task(**task["run"])
            _log_into(run)
            if run.key != task["key"]:
                raise ReidError(f"{run.name}: its settings have changed since the batch began; call again")
            device = torch.device(task["device"])
            if device.type == "cuda":
                devices.check_usable(devices.devices()[0])
            how = {name: task[name] for name in ("threads", "at_once", "deterministic")}
            record = execute(run, log, device=device, event=send, **how)
        except Exception as fault:
            if not isinstance(fault, ReidError):
                traceback.print_exc()
            memory = isinstance(fault, OutOfMemory | MemoryError)
            kind = "busy" if isinstance(fault, Busy) else "memory" if memory else "error"
            reason = _said(fault)
            with suppress(OSError):
                print(f"error: {reason}", flush=True)
            send("failed", reason=reason, kind=kind)
        else:
            send("finished", metrics=record.metrics[run.protocol], seconds=record.seconds)


def _said(fault: Exception) -> str:
    """Why a run failed, in one line; of a file that the machine refuses, with what to do."""
    if isinstance(fault, OSError) and fault.filename is not None:
        what = printable(f"{fault.filename}: {fault.strerror or fault}")
        return f"{what}; fix its permissions or free some space, or set REID_CACHE and REID_RESULTS to your own folders"
    return str(fault).partition("\n")[0] or type(fault).__name__


def _end() -> None:
    """Ends this process at once, with the renderers that it may have started. Files are moved into place whole."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)


def _log_into(run: Run) -> None:
    """From now on what this process prints goes into the run's log file, its libraries' words too."""
    with records.writing(run.log_file, "log", "REID_CACHE"):
        run.log_file.parent.mkdir(parents=True, exist_ok=True)
        with run.log_file.open("ab") as stream:
            stream.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(run.command())}\n".encode())
            stream.flush()
            for descriptor in (1, 2):
                os.dup2(stream.fileno(), descriptor)


if __name__ == "__main__":
    main(int(sys.argv[1]))
