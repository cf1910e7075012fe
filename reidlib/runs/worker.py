"""One run, in this process: data, training, evaluation, record. Called as `reid train` and by `engine.ensure`."""

from __future__ import annotations

import argparse
import datetime
import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch

from reidlib import paths, standin, training
from reidlib.data import images as pictures
from reidlib.data.table import Dataset
from reidlib.evaluation import Draws, Features, Ranking, evaluate, features, protocols
from reidlib.evaluation.reranking import reranking
from reidlib.runs import datasets, devices, locks, records
from reidlib.runs.records import Record
from reidlib.runs.run import Run, runs_of, start_of
from reidlib.spec import ReidError, Settings, value_of
from reidlib.training import precision

EVALUATION_BATCH = 64
TIE_RULE = "squared distance within 1e-6"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What names one run, for the parser of `reid train` and of this module."""
    parser.add_argument("table", help="paper and table, such as safenet/table5")
    parser.add_argument("--row", default=None, help="label of the row, in the paper's words; default all")
    parser.add_argument("--variant", default="as-published")
    parser.add_argument("--dataset", default=None)
    parser.add_argument("--source", default="stand-in")
    parser.add_argument("--budget", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="repeat a record; the repeat goes into the cache")
    parser.add_argument("--lease", action="store_true", help="first wait for a free place on a device of this machine")
    parser.add_argument("--gpus", default="all", help="with --lease: which GPUs, all or 0,1; default all")
    parser.add_argument("--per-gpu", type=int, default=1, metavar="N", help="with --lease: runs that share a device")
    deterministic(parser)


def deterministic(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--deterministic", action="store_true", help="the same bits on every run of one machine, a GPU's too; slower"
    )


def start(given: argparse.Namespace, log: Callable[[str], None] = print) -> Record:
    """One run as the command line asks for it: its device first, then `execute`."""
    run = run_of(given)
    with ExitStack() as held:
        if given.lease and not run.is_made():
            device = held.enter_context(devices.lease(devices.devices(given.gpus), given.per_gpu, log))
            devices.demand_usable(device)
        if given.deterministic:
            training.deterministic()
        return execute(run, log)


def run_of(given: argparse.Namespace) -> Run:
    """The one run that the arguments name."""
    if not given.row:
        raise ReidError(f"{given.table}: name the row to train (--row); `reid list` shows them")
    runs = runs_of(
        given.table,
        budget=given.budget,
        dataset=given.dataset,
        source=given.source,
        seeds=(given.seed,),
        rows=(given.row,),
        again=(given.row,) if given.again else (),
    )
    chosen = [run for run in runs if run.row.variant == given.variant]
    if not chosen:
        known = ", ".join(run.row.variant for run in runs)
        raise ReidError(f"{given.table} {given.row!r}: unknown variant {given.variant!r}; choose one of {known}")
    return chosen[0]


def execute(run: Run, log: Callable[[str], None] = print) -> Record:
    """Trains and tests one run and writes its record. A failure leaves a record that says so, and is raised.

    A run that is finished already is not run again; one that failed is. A record that cannot be read is set aside.
    """
    records.check_writable(run.record_file.parent)
    if run.is_made():
        log(f"finished already: {run.record_file}")
        return run.record()
    with locks.locked(run.work_folder / "lock", holder=f"{run.table.slug} {run.row.label!r} (run {run.key})"):
        _set_aside(run, log)
        record = _header(run)
        try:
            record = replace(record, **_described_device(run))
            if datasets.is_to_be_rendered(run.dataset, run.source, run.budget):
                log(f"rendering {run.dataset}, or waiting for the process that renders it")
            data = datasets.load(run.dataset, run.source, run.budget)
            record = replace(record, data=_describe(data) | _train_digest(run))
            record, per_query = _train_and_test(run, data, record, log)
        except Exception as fault:
            why = str(fault) or type(fault).__name__
            if _is_full(fault):  # training says more, and raises a ReidError
                why = f"{record.device} ran out of memory beside training ({_first(why)}); {_FEWER}"
            fail(run, why, record)
            if _is_full(fault):
                raise ReidError(why) from fault
            raise
        records.write(run.record_file, record, per_query)
    log(f"record {run.record_file}")
    return record


def _set_aside(run: Run, log: Callable[[str], None]) -> None:
    try:
        run.record()
    except ReidError as fault:
        log(f"{fault}; set aside as {records.set_aside(run.record_file).name}, the row is run again")


def fail(run: Run, why: str, record: Record | None = None) -> None:
    """Leaves a record that says why a run failed; where not even that can be written, the fault itself must do."""
    if run.is_made():  # by another process, meanwhile
        return
    with suppress(ReidError):
        records.write(run.record_file, replace(record or _header(run), status="failed", error=why, finished=_now()))


def _train_and_test(run: Run, data: Dataset, record: Record, log: Callable[[str], None]) -> tuple[Record, dict]:
    device = torch.device(record.device_kind)
    before, trained = _trained(run, data, device, log)
    answer = _test(run, trained.model, data, device)
    metrics = answer.metrics()
    log("  ".join(f"{name} {metrics[name]:.1f}" for name in ("rank1", "rank5", "rank10", "mAP")))
    record = replace(
        record,
        status="finished",
        start=trained.start,
        tie_rule=TIE_RULE,
        step="eager" if trained.curve else "",
        metrics={run.protocol: metrics},
        curve=trained.curve,
        seconds=trained.seconds + (before.seconds if before else 0),
        images_per_second=trained.images_per_second,
        peak_memory_mb=training.peak_memory_mb(device),
        finished=_now(),
    )
    return record, answer.per_query()


def _trained(
    run: Run, data: Dataset, device: torch.device, log: Callable[[str], None]
) -> tuple[training.Trained | None, training.Trained]:
    """What is trained before, and the run's own. The training images leave the device with this call."""
    frame = data.split("train")
    images = training.TrainingImages(
        images=pictures.decode(data, frame, tuple(run.settings.recipe.resolved()["size"]), device),
        labels=torch.from_numpy(data.train_labels()).to(device),
        files=frame["path"].tolist(),
    )
    first = run.settings.first
    before = _train(run, first.settings, images, log) if first else None
    return before, _train(run, run.settings, images, log, before.model if before else None)


def _train(
    run: Run,
    settings: Settings,
    images: training.TrainingImages,
    log: Callable[[str], None],
    first: torch.nn.Module | None = None,
) -> training.Trained:
    """One network of the run: its own, or (without `first`) the one trained before it, which other runs share."""
    folder = run.folder_of(run.network_of(settings))
    own = folder == run.work_folder  # then the run holds the lock already
    if not own:
        log(f"first: {settings.model.__name__}")
        if holder := locks.holder_of(folder / "lock"):
            log(f"waiting for process {holder}, which trains it")
    with nullcontext() if own else locks.locked(folder / "lock", wait=True):
        if run.again:  # a repeat trains anew, whatever an earlier one left
            (folder / training.WEIGHTS).unlink(missing_ok=True)
        try:
            trained = training.train(settings, images, seed=run.seed, folder=folder, first=first, log=log)
        except RuntimeError as fault:
            if not _is_full(fault):
                raise
            full = _first(str(fault))
        else:
            for name in (training.CHECKPOINT, training.PREVIOUS):
                (folder / name).unlink(missing_ok=True)
            return trained
    raise ReidError(_out_of_memory(run, settings, images, first, full))


def _out_of_memory(
    run: Run, settings: Settings, images: training.TrainingImages, first: torch.nn.Module | None, full: str
) -> str:
    """Which device, by which batch, and the batch that fits. Called when what the training held is given back."""
    device, batch = images.images.device, settings.recipe.resolved()["batch"]
    if device.type == "cuda":
        torch.cuda.empty_cache()
    fits = training.batch_that_fits(settings, images.identities, device, first)
    smaller = f"a batch of {fits} fits (recipe in reidlib/papers/{run.table.paper}.py; it makes another network)"
    return (
        f"{device_name()} ran out of memory with a batch of {batch} ({full}); "
        f"{smaller if fits else 'no smaller batch fits'}; or {_FEWER}"
    )


_FEWER = "let fewer runs share the device (--per-gpu)"


def _is_full(fault: Exception) -> bool:
    """Whether a device has no memory left. CUDA's libraries, and CUDA itself, say so in words of their own."""
    words = ("out of memory", "ALLOC_FAILED")
    return isinstance(fault, RuntimeError) and any(word in str(fault) for word in words)


def _first(text: str) -> str:
    return text.splitlines()[0]


def _test(run: Run, model: torch.nn.Module, data: Dataset, device: torch.device) -> Ranking | Draws:
    """The run's protocol on the run's features; distances are those of features scaled to length 1."""
    testing, rules = run.settings.testing, protocols.protocol(run.protocol)
    query, gallery = (embeddings(run, model, data, split, device) for split in ("query", "gallery"))
    multi = embeddings(run, model, data, "multi-query", device) if rules.multi_query else None
    rerank = None
    if name := value_of(testing.reranking):
        options = {option: value_of(value) for option, value in testing.reranking_options.items()}
        rerank = reranking(name.lower(), **options)
    return evaluate(query, gallery, protocol=rules, multi=multi, metric="cosine", rerank=rerank)


def embeddings(run: Run, model: torch.nn.Module, data: Dataset, split: str, device: torch.device) -> Features:
    """The embeddings of one split with its identities and cameras."""
    recipe, frame = run.settings.recipe.resolved(), data.split(split)
    if not len(frame):
        raise ReidError(f"{run.dataset}: no {split} images, which {run.protocol} needs (Market-1501: folder gt_bbox)")
    batches = pictures.decode(data, frame, tuple(recipe["size"]), device).split(EVALUATION_BATCH)
    bf16 = precision.in_bf16(recipe, device)
    with precision.products(recipe):
        found = features.extract(model, (pictures.normalise(batch) for batch in batches), bf16=bf16)
        if value_of(run.settings.testing.mirror):
            found = found + features.extract(model, (pictures.normalise(batch.flip(3)) for batch in batches), bf16=bf16)
    return Features(found, frame["identity"].to_numpy(), frame["camera"].to_numpy(), name=f"{data.name} {split}")


def _header(run: Run) -> Record:
    """What is known before a device is touched."""
    return Record(
        key=run.key,
        network=run.network,
        status="started",
        made_for={"paper": run.table.paper, "table": run.table.name, "row": run.row.label, "variant": run.row.variant},
        budget=run.budget,
        seed=run.seed,
        settings=run.settings.trained(),
        tested=run.settings.tested(),
        data={"name": run.dataset, "source": run.source, "digest": run.data_digest} | _train_digest(run),
        start_digest="" if (digest := start_of(run.settings)) == "scratch" else digest,
        versions={"python": platform.python_version()}
        | {name: version(name) for name in ("reidlib", "torch", "torchvision", "numpy", "pillow")},
        commit=commit(),
    )


def _describe(data: Dataset) -> dict[str, Any]:
    sizes = {split: len(data.split(split)) for split in ("train", "query", "gallery")}
    renderer = {"renderer": standin.VERSION} if data.source == "stand-in" else {}
    return {
        "name": data.name,
        "source": data.source,
        "digest": data.digest,
        **renderer,
        "identities": len(data.identities),
        "images": sizes,
    }


def _train_digest(run: Run) -> dict[str, str]:
    return {"train_digest": run.train_digest} if run.train_digest else {}


def _described_device(run: Run) -> dict[str, Any]:
    """The fields of a record that say on what, and how, its network was computed."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    asked = value_of(run.settings.recipe.precision)
    return {
        "device": device_name(),
        "device_kind": device.type,
        "threads": torch.get_num_threads(),
        "precision": "fp32" if asked == "bf16" and not precision.multiplies_bf16(device) else asked,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def device_name() -> str:
    """What trainings run on here, as records keep it: the GPU, or the processor and torch's threads.

    Also what changes their numbers: no bf16 on this device, deterministic operations.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = torch.get_num_threads()
    words = [f"{devices.processor()}, {threads} thread{'s' * (threads > 1)}"]
    if device.type == "cuda":
        words = [torch.cuda.get_device_name()]
    if not precision.multiplies_bf16(device):
        words.append("fp32 for bf16")
    if torch.are_deterministic_algorithms_enabled():
        words.append("deterministic")
    return f"{device.type} ({', '.join(words)})"


def commit() -> str:
    """The commit of the code, with a plus where files it tracks have changed; "unknown" outside a git checkout."""
    git = ["git", "-C", str(paths.home())]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        code = ["--", "reidlib", "pyproject.toml", "requirements.lock"]
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", *code], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+" if changed else head


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def main(line: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="reid train")
    arguments(parser)
    try:
        start(parser.parse_args(line), log=_say)
    except ReidError as fault:
        _say(f"error: {fault}")
        return fault.status
    return 0


def _say(text: str) -> None:
    """A line of the log. A disk too full for it is no reason to stop: what matters is a record, and that will tell."""
    with suppress(OSError):
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
