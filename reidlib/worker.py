"""One run, in this process: data, training, evaluation, record. Called as `reid train` and by `study.ensure`."""

from __future__ import annotations

import argparse
import datetime
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch

from reidlib import records, study, training
from reidlib.data import images as pictures
from reidlib.data.table import Dataset
from reidlib.evaluation import Features, evaluate, features, protocols
from reidlib.records import Record
from reidlib.spec import ReidError
from reidlib.study import Run

EVALUATION_BATCH = 64


def arguments(parser: argparse.ArgumentParser) -> None:
    """What names one run, for the parser of `reid train` and of this module."""
    parser.add_argument("table", help="paper and table, such as safenet/table5")
    parser.add_argument("--row", required=True, help="label of the row, in the paper's words")
    parser.add_argument("--variant", default="as-published")
    parser.add_argument("--dataset", default=None)
    parser.add_argument("--source", default="stand-in")
    parser.add_argument("--budget", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="repeat a record; the repeat goes into the cache")


def run_of(given: argparse.Namespace) -> Run:
    """The one run that the arguments name."""
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
            if run.again:  # a repeat trains anew, whatever an earlier one left
                (run.work_folder / training.WEIGHTS).unlink(missing_ok=True)
            data = study.load(run.dataset, run.source, run.budget)
            record = replace(record, data=_describe(data))
            record, per_query = _train_and_test(run, data, record, log)
        except (ReidError, torch.OutOfMemoryError, RuntimeError) as fault:
            records.write(run.record_file, replace(record, status="failed", error=str(fault), finished=_now()))
            raise
        records.write(run.record_file, record, per_query)
        (run.work_folder / training.CHECKPOINT).unlink(missing_ok=True)
    log(f"record {run.record_file}")
    return record


def _train_and_test(run: Run, data: Dataset, record: Record, log: Callable[[str], None]) -> tuple[Record, dict]:
    recipe = run.settings.recipe.resolved()
    size, device = tuple(recipe["size"]), torch.device(record.device.split(" ")[0])
    frame = data.split("train")
    trained = training.train(
        run.settings,
        training.TrainingImages(
            images=pictures.decode(data, frame, size, device),
            labels=torch.from_numpy(data.train_labels()).to(device),
            files=frame["path"].tolist(),
        ),
        seed=run.seed,
        folder=run.work_folder,
        log=log,
    )
    query, gallery = (_features(trained.model, data, split, recipe, device) for split in ("query", "gallery"))
    answer = evaluate(query, gallery, protocol=protocols.protocol(run.protocol), metric="cosine")
    metrics = answer.metrics()
    log("  ".join(f"{name} {metrics[name]:.1f}" for name in ("rank1", "rank5", "rank10", "mAP")))
    record = replace(
        record,
        status="finished",
        start=trained.start,
        metrics={run.protocol: metrics},
        curve=trained.curve,
        seconds=trained.seconds,
        images_per_second=trained.images_per_second,
        peak_memory_mb=training.peak_memory_mb(device),
        finished=_now(),
    )
    return record, answer.per_query()


def _features(model, data: Dataset, split: str, recipe: dict[str, Any], device: torch.device) -> Features:
    """The embeddings of one split with its identities and cameras."""
    frame = data.split(split)
    images = pictures.decode(data, frame, tuple(recipe["size"]), device)
    batches = (pictures.normalise(batch) for batch in images.split(EVALUATION_BATCH))
    embeddings = features.extract(model, batches, bf16=recipe["precision"] == "bf16")
    return Features(embeddings, frame["identity"].to_numpy(), frame["camera"].to_numpy(), name=f"{data.name} {split}")


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
        device=_device(),
        versions={"python": platform.python_version()}
        | {name: version(name) for name in ("reidlib", "torch", "torchvision", "numpy", "pillow")},
        commit=_commit(),
    )


def _describe(data: Dataset) -> dict[str, Any]:
    sizes = {split: len(data.split(split)) for split in ("train", "query", "gallery")}
    return {
        "name": data.name,
        "source": data.source,
        "digest": data.digest,
        "identities": len(data.identities),
        "images": sizes,
    }


def _device() -> str:
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
