"""Images a second of our loop against the bare step, in one run: `python benchmarks/training.py [--row "g4"]`.

The bare step is the same forward, backward and optimiser step on one fixed, normalised batch: no data, no
augmentation, no log. What the loop loses against it is what data and bookkeeping cost. The two are timed in turns, so
that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from reidlib import papers, training
from reidlib.data.images import normalise
from reidlib.training import TrainingImages


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", default="safenet/table5")
    parser.add_argument("--row", default="g4")
    parser.add_argument("--budget", default="cpu")
    parser.add_argument("--steps", type=int, default=12, help="steps of each kind in a round")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    table = papers.table(given.table)
    settings = table.settings(papers.rows(table, [given.row])[0], given.budget)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = settings.recipe.resolved()
    batch, size = recipe["batch"], tuple(recipe["size"])
    count = batch * given.steps
    images = torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, device=device)
    labels = (torch.arange(count) % 32).to(device)
    data = TrainingImages(images, labels, [str(i) for i in range(count)])

    bare(settings, data, steps=4)  # libraries load and choose their kernels outside the timing
    rates = {"bare step": [], "our loop": []}
    for _ in range(given.rounds):
        rates["bare step"].append(bare(settings, data, given.steps))
        rates["our loop"].append(loop(settings, data))
    middle = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{given.table} {given.row!r}, batch {batch}, {size[0]}×{size[1]}, {recipe['precision']}, {device}")
    for name, values in rates.items():
        print(f"{name:10}  median {middle[name]:7.1f} images/s   rounds {', '.join(f'{v:.1f}' for v in values)}")
    print(f"share of the bare step: {100 * middle['our loop'] / middle['bare step']:.1f} %")


def bare(settings, data: TrainingImages, steps: int) -> float:
    """Images a second of the step alone, on one fixed batch."""
    batch = settings.recipe.resolved()["batch"]
    model, _ = training.build(settings, data.identities, seed=0)
    step = training.Loop.of(settings, model.to(data.images.device, memory_format=torch.channels_last), data.identities)
    step.train_mode()
    images, labels = normalise(data.images[:batch]), data.labels[:batch]
    step.step(images, labels)
    _wait(data)
    started = time.perf_counter()
    for _ in range(steps):
        step.step(images, labels)
    _wait(data)
    return steps * batch / (time.perf_counter() - started)


def loop(settings, data: TrainingImages) -> float:
    """Images a second of the second epoch of the real loop; the first pays for what is made once."""
    changed = replace(settings, recipe=settings.recipe.but(epochs=2))
    with tempfile.TemporaryDirectory() as folder:
        trained = training.train(changed, data, seed=0, folder=Path(folder), log=lambda line: None)
    return trained.curve[1]["images"] / trained.curve[1]["seconds"]


def _wait(data: TrainingImages) -> None:
    if data.images.is_cuda:
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
