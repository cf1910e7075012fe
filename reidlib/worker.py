"""One run, in this process: data, training, evaluation, record. Called as `reid train` and by `study.ensure`."""

from __future__ import annotations

import argparse
import datetime
import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch

from reidlib import records, study, training
from reidlib.data import images as pictures
from reidlib.data import standin
from reidlib.data.table import Dataset
from reidlib.evaluation import Draws, Features, Ranking, evaluate, features, protocols
from reidlib.evaluation.reranking import reranking
from reidlib.records import Record
from reidlib.spec import ReidError, Settings, value_of
from reidlib.study import Run

EVALUATION_BATCH = 64


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


def run_of(given: argparse.Namespace) -> Run:
    """The one run that the arguments name."""
    if not given.row:
        raise ReidError(f"{given.table}: name the row to train (--row); `reid list` shows them")
    runs = study.plan(
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

    A run that is finished already is not run again; one that failed is.
    """
    records.demand_writable(run.record_file.parent)
    if (done := run.record()) and done.ok:
        log(f"finished already: {run.record_file}")
        return done
    with study.locked(run.work_folder / "lock", holder=f"{run.table.slug} {run.row.label!r} (run {run.key})"):
        record = _header(run)
        try:
            data = study.load(run.dataset, run.source, run.budget)
            record = replace(record, data=_describe(data))
            record, per_query = _train_and_test(run, data, record, log)
        except (ReidError, torch.OutOfMemoryError, RuntimeError) as fault:
            records.write(run.record_file, replace(record, status="failed", error=str(fault), finished=_now()))
            raise
        records.write(run.record_file, record, per_query)
    log(f"record {run.record_file}")
    return record


def _train_and_test(run: Run, data: Dataset, record: Record, log: Callable[[str], None]) -> tuple[Record, dict]:
    size, device = tuple(run.settings.recipe.resolved()["size"]), torch.device(record.device.split(" ")[0])
    frame = data.split("train")
    training_images = training.TrainingImages(
        images=pictures.decode(data, frame, size, device),
        labels=torch.from_numpy(data.train_labels()).to(device),
        files=frame["path"].tolist(),
    )
    first = run.settings.first
    before = _train(run, first.settings, training_images, log) if first else None
    trained = _train(run, run.settings, training_images, log, before.model if before else None)
    answer = _test(run, trained.model, data, device)
    metrics = answer.metrics()
    log("  ".join(f"{name} {metrics[name]:.1f}" for name in ("rank1", "rank5", "rank10", "mAP")))
    record = replace(
        record,
        status="finished",
        start=trained.start,
        metrics={run.protocol: metrics},
        curve=trained.curve,
        seconds=trained.seconds + (before.seconds if before else 0),
        images_per_second=trained.images_per_second,
        peak_memory_mb=training.peak_memory_mb(device),
        finished=_now(),
    )
    return record, answer.per_query()


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
    with nullcontext() if own else study.locked(folder / "lock", wait=True):
        if run.again:  # a repeat trains anew, whatever an earlier one left
            (folder / training.WEIGHTS).unlink(missing_ok=True)
        trained = training.train(settings, images, seed=run.seed, folder=folder, first=first, log=log)
        (folder / training.CHECKPOINT).unlink(missing_ok=True)
    return trained


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
    bf16 = recipe["precision"] == "bf16"
    found = features.extract(model, (pictures.normalise(batch) for batch in batches), bf16=bf16)
    if value_of(run.settings.testing.mirror):
        found = found + features.extract(model, (pictures.normalise(batch.flip(3)) for batch in batches), bf16=bf16)
    return Features(found, frame["identity"].to_numpy(), frame["camera"].to_numpy(), name=f"{data.name} {split}")


def _header(run: Run) -> Record:
    """What is known before training."""
    return Record(
        key=run.key,
        network=run.network,
        status="started",
        made_for={"paper": run.table.paper, "table": run.table.name, "row": run.row.label, "variant": run.row.variant},
        budget=run.budget,
        seed=run.seed,
        settings=run.settings.trained(),
        tested=run.settings.tested(),
        data={"name": run.dataset, "source": run.source, "digest": run.data_digest},
        device=device_name(),
        versions={"python": platform.python_version()}
        | {name: version(name) for name in ("reidlib", "torch", "torchvision", "numpy", "pillow")},
        commit=_commit(),
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


def device_name() -> str:
    """What trainings run on here, as records keep it: the GPU, or the processor and torch's threads."""
    if torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name()})"
    return f"cpu ({_processor()}, {torch.get_num_threads()} threads)"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as stream:
            return next(line.split(":", 1)[1].strip() for line in stream if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str:
    """The commit of the code, with a plus where files it tracks have changed; "unknown" outside a git checkout."""
    git = ["git", "-C", str(study.home())]
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
        execute(run_of(parser.parse_args(line)), log=lambda text: print(text, flush=True))
    except ReidError as fault:
        print(f"error: {fault}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
