"""What a run costs beside its training steps and its test, when runs follow each other in one worker.

    python benchmarks/overhead.py                              # ten rows of safenet/table5 at budget smoke
    python benchmarks/overhead.py hamr/table6 --budget small --runs 5

The cost is what passes between the end of one run and the end of the next, less the seconds of its epochs and of its
test. It holds the network's construction, its files (checkpoint, weights, record), and what the engine does in between.
The first run also starts the worker and decodes the images; it is printed apart. Records and weights go into a
temporary folder; images come from the cache.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from typing import Any

from reidlib import paths
from reidlib.runs import batch, datasets, devices, engine
from reidlib.runs.batch import Job
from reidlib.runs.run import runs_of


def measure(jobs: list[Job], place: devices.Place) -> list[tuple[Job, float, float, float]]:
    """Of each run: the job, seconds in all, of its training and of its test."""
    ended, test, measured = time.perf_counter(), 0.0, []
    testing: float | None = None

    def watch(job: Job, event: dict[str, Any]) -> None:
        nonlocal ended, testing, test
        now = time.perf_counter()
        if event["event"] == "testing":
            testing = now
        elif event["event"] == "log" and testing is not None:  # the numbers, first thing after the test
            test, testing = now - testing, None
        elif event["event"] == "finished":
            measured.append((job, now - ended, event["seconds"], test))
            ended = now

    result = engine.train(jobs, [place], say=lambda text: None, watch=watch)
    if result.failed:
        raise SystemExit(f"error: {result.failed[0][1]}")
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?", default="safenet/table5")
    parser.add_argument("--budget", default="smoke")
    parser.add_argument("--runs", type=int, default=10)
    given = parser.parse_args()
    first = runs_of(given.table, budget=given.budget)[0]
    datasets.load(first.dataset, "stand-in", given.budget)
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(paths.cache().resolve() / "stand-in", f"{folder}/stand-in")
        os.environ |= {"REID_CACHE": folder, "REID_RESULTS": f"{folder}/results"}
        jobs = batch.jobs_of(runs_of(given.table, budget=given.budget)[: given.runs])
        measured = measure(jobs, devices.places()[0])
    print(f"{'row':<40} {'all':>7} {'train':>7} {'test':>7} {'beside':>7}   seconds")
    costs = []
    for job, whole, training, test in measured:
        costs.append(whole - training - test)
        print(f"{job.run.row.label:<40} {whole:7.2f} {training:7.2f} {test:7.2f} {costs[-1]:7.2f}")
    others = statistics.median(costs[1:] or costs)
    print(f"the first, with start-up and decoding: {costs[0]:.2f} s; the others, median: {others:.2f} s")


if __name__ == "__main__":
    main()
