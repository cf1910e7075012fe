"""Does a row learn with this recipe? Trained without some training identities, and tested on them alone.

    python benchmarks/recipes.py safenet/table5 --rows g4 --change epochs=8 --change 'rates={"rest": 0.01}'

For each row one line: the terms of the loss in the last epoch beside ln K, the training accuracy, rank-1 and mAP among
the identities held out, the same for the two colour histograms and for the network before training. The recipes of the
budgets `small` and `medium` were chosen with this: it never reads the test part of a data set. Networks go into a
temporary folder.
"""

from __future__ import annotations

import argparse
import ast
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from reidlib import papers, training
from reidlib.data import images
from reidlib.evaluation import Features, evaluate, features
from reidlib.evaluation.protocols import protocol
from reidlib.models import backbone
from reidlib.models.untrained import ColourHistogram
from reidlib.runs import datasets
from reidlib.runs.run import Run, runs_of
from reidlib.training import precision

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
HeldOut = tuple[np.ndarray, np.ndarray, torch.Tensor]  #: identities, cameras and images


def parts(run: Run, share: float) -> tuple[training.TrainingImages, HeldOut]:
    """Training images without the identities held out; the others' identities, cameras and images."""
    data = datasets.load(run.dataset, run.source, run.budget)
    frame, labels = data.split("train"), data.train_labels()
    decoded = datasets.decoded(data, "train", run.settings.recipe.size)
    number = int(labels.max()) + 1
    chosen = np.random.default_rng(0).permutation(number)[: round(share * number)]
    held = np.isin(labels, chosen)
    _, kept = np.unique(labels[~held], return_inverse=True)
    files = frame["path"][~held].tolist()
    training_images = training.TrainingImages(decoded[torch.from_numpy(~held)], torch.from_numpy(kept), files)
    return training_images, (labels[held], frame["camera"].to_numpy()[held], decoded[torch.from_numpy(held)])


def retrieval(run: Run, model: torch.nn.Module, ids: np.ndarray, cameras: np.ndarray, shown: torch.Tensor) -> str:
    """Rank-1 and mAP of each image held out among those of other cameras."""
    bf16 = precision.in_bf16(run.settings.recipe, DEVICE)
    with precision.products(run.settings.recipe):
        batches = (images.normalise(part) for part in shown.to(DEVICE).split(64))
        found = features.extract(model.to(DEVICE), batches, bf16=bf16)
    everyone = Features(found, torch.from_numpy(ids), torch.from_numpy(cameras))
    metrics = evaluate(everyone, everyone, protocol=protocol("market1501-single-query"), metric="cosine").metrics()
    return f"{metrics['rank1']:.1f}/{metrics['mAP']:.1f}"


def trial(run: Run, share: float, keep: Path | None = None) -> str:
    """Trains one row without the identities held out, and says how far it came. keep: where its backbone is written,
    as a start of other rows."""
    settings = run.settings
    data, held = parts(run, share)
    data = replace(data, images=data.images.to(DEVICE), labels=data.labels.to(DEVICE))
    untrained, _ = training.build(settings, data.identities, run.seed) if not settings.first else (None, "")
    before = retrieval(run, untrained, *held) if untrained else "-"
    started, first = time.monotonic(), None
    with tempfile.TemporaryDirectory() as folder:
        if settings.first:
            first = training.train(settings.first.settings, data, seed=run.seed, folder=Path(folder, "first")).model
        trained = training.train(settings, data, seed=run.seed, folder=Path(folder, "own"), first=first)
    if keep:
        own = trained.model.get_submodule("backbone").state_dict()
        backbone.write_start({name: tensor.cpu() for name, tensor in own.items()}, keep)
    last = trained.curve[-1]
    known = ("epoch", "loss", "accuracy", "rate", "images", "seconds")
    terms = "  ".join(f"{name} {value:.2f}" for name, value in last.items() if name not in known)
    return (
        f"{run.row.label}: {terms} (ln K {math.log(data.identities):.2f})  accuracy {last['accuracy']:.0f} %  "
        f"held out {retrieval(run, trained.model, *held)}  before {before}  {time.monotonic() - started:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("--rows", nargs="*", default=[])
    parser.add_argument("--variant", default="as-published", help="of the rows")
    parser.add_argument("--dataset")
    parser.add_argument("--budget", default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", type=float, default=0.25, help="share of the training identities")
    parser.add_argument("--change", action="append", default=[], metavar="NAME=VALUE", help="of the recipe")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="writes the backbone there, as `reid export` does")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    changes = {name: ast.literal_eval(value) for name, value in (each.split("=", 1) for each in given.change)}
    runs = runs_of(given.table, budget=given.budget, dataset=given.dataset, seeds=(given.seed,), rows=given.rows)
    runs = [run for run in runs if run.row.variant == given.variant]
    _, held = parts(runs[0], given.held_out)
    size = runs[0].settings.recipe.size
    for stripes in (1, 4 if size[0] % 6 else 6):
        histogram = ColourHistogram(1, size=size, stripes=stripes)
        print(f"colour histogram, {stripes} stripes: held out {retrieval(runs[0], histogram, *held)}", flush=True)
    base = papers.table(given.table)
    table = replace(base, budgets={**base.budgets, given.budget: {**base.budgets[given.budget], **changes}})
    for run in runs:
        print(trial(replace(run, table=table), given.held_out, given.keep), flush=True)


if __name__ == "__main__":
    main()
