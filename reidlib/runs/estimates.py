"""What runs will take, before they start: seconds, memory, disk. Nothing is measured for it.

Operations are counted, and the counts are committed in `step_costs.json`. How many of them a device does in a second is
read from the records that were made on it; where there are none, a default stands in and the plan says so.

    python -m reidlib.runs.estimates      # renews the counts; for a new model, or new options or sizes of one"""

import hashlib
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from reidlib import losses, papers, paths
from reidlib.data import cross_domain, cuhk03, dukemtmc, market1501, msmt17
from reidlib.runs import datasets, records
from reidlib.runs.devices import Place, cores
from reidlib.runs.run import Run
from reidlib.spec import ReidError, Settings
from reidlib.standin import DOMAINS, plan
from reidlib.training.cost import StepCost, step_cost

COUNTS = Path(__file__).with_name("step_costs.json")

DEFAULT_RATES = {"cpu": 5e10, "cuda": 3e13}
"""Operations a second of a CPU's thread, or a GPU: a guess for devices that no record was made on."""
START_SECONDS = {"cpu": 1.0, "cuda": 2.0}
"""What a run costs beside images, steps and test, in a worker at work (benchmarks/overhead.py)."""
WORKER_SECONDS = 6.0  #: Until a new worker has imported its libraries
DECODED = 1500.0  #: Images a second that one core decodes and resizes
FORWARD = 4.0  #: How many times faster than in training a processor is in a forward pass without gradients
FEATURES = 1000.0  #: Images a second whose features one core computes without a network, as of a colour histogram
RENDERED = 60.0  #: Images a second that one core renders
PROCESS_MB = {"cpu": 700.0, "cuda": 600.0}  #: Memory without a network: of a process, or of the context of a GPU
IMAGE_MB = 0.0046  #: A stand-in's image on disk with its truth: 14 MB for 3,065 of them
IDENTITIES = 751  #: Training identities of the counted networks; the count of another number differs by its classifiers


@dataclass(frozen=True)
class Estimate:
    """What one run takes, and leaves on the disk. is_guess: no record of this device says how fast it is."""

    seconds: float
    memory_mb: float
    disk_mb: float
    is_guess: bool = False


UNKNOWN = Estimate(0.0, 0.0, 0.0, is_guess=True)  #: Of a run that nothing was estimated for yet


def digest(trained: dict[str, Any]) -> str:
    """Names a count: by model, options and input size of `Settings.trained()`, as records hold it too."""
    words = [trained["model"], trained["options"], list(trained["recipe"]["size"])]
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:16]


@cache
def _counts() -> dict[str, StepCost]:
    return {name: StepCost(**entry) for name, entry in json.loads(COUNTS.read_text(encoding="utf-8")).items()}


def counted(settings: Settings) -> StepCost:
    """The committed count; a network that has none (a new row) is counted now, once a process."""
    name = digest(settings.trained())
    if name not in _counts():
        _counts()[name] = step_cost(settings, IDENTITIES)
    return _counts()[name]


def chance(settings: Settings, identities: int) -> dict[str, float]:
    """What each cross-entropy of these settings is while all identities are equally probable: its weight times the
    classifiers' shares times ln K, by the name of the loss."""
    terms = {name: loss for name, loss in settings.losses.items() if loss.function is losses.cross_entropy}
    return {name: loss.weight * counted(settings).shares * math.log(identities) for name, loss in terms.items()}


def declared() -> dict[str, Settings]:
    """Settings that stand for every network that the study trains, by digest."""
    tables = papers.tables().values()
    own = [table.settings(row, budget) for table in tables for row in table.rows for budget in table.budgets]
    firsts = [settings.first.settings for settings in own if settings.first]
    return {digest(one.trained()): one for one in (*own, *firsts) if one.recipe.epochs}


@cache
def _past() -> list[tuple[str, int, str, float]]:
    """Of every finished record: device, threads, model, operations a second."""
    found = []
    for folder in (paths.results(), paths.cache() / "again"):
        for file in sorted(folder.glob("records/**/*.json")):
            try:
                record = records.read(file, arrays=False)
            except ReidError:
                continue
            if known := _counts().get(digest(record.settings)) if record.images_per_second else None:
                rate = _operations(known, 1) * record.images_per_second
                found.append((record.device, record.threads, record.settings["model"], rate))
    return found


def rates(place: Place) -> dict[str, float]:
    """Operations a second on this place, by model, and of all models together under ""; {} where no record says it."""
    of: dict[str, list[float]] = defaultdict(list)
    for device, threads, model, rate in _past():
        same = place.device.is_gpu or threads in (0, place.threads)  # 0: records of before did not say it
        if same and device.startswith(f"{place.device.kind} ({place.device.name}"):
            of[model].append(rate)
            of[""].append(rate)
    return {model: statistics.median(found) for model, found in of.items()}


def _operations(known: StepCost, images: float) -> float:
    """Operations of training on so many images: two a multiply-add, forward once and backward twice."""
    return 6.0 * known.multiply_adds * images


def estimate(run: Run, place: Place, *, trains: bool = True, firsts: bool = True) -> Estimate:
    """What a run takes on this place. trains, firsts: whether its network, and the one before it, is to be trained."""
    counts, settings, kind = images(run.dataset, run.source, run.budget), run.settings, place.device.kind
    recipe, first = settings.recipe, settings.first.settings if settings.first else None
    tested = counts["query"] + counts["gallery"]
    images_mb = 3 * math.prod(recipe.size) * (counts["train"] + tested) / 2**20
    seconds = START_SECONDS[kind] + (counts["train"] + tested) / (DECODED * place.threads)
    if not recipe.epochs and digest(settings.trained()) not in _counts():  # no network, or one of no products
        return Estimate(seconds + tested / (FEATURES * place.threads), PROCESS_MB[kind] + images_mb, 0.0)
    known = counted(settings)
    operations = _operations(known, counts["train"] * recipe.epochs) if trains else 0.0
    if first and firsts:
        operations += _operations(counted(first), counts["train"] * first.recipe.epochs)
    operations += 2.0 * known.multiply_adds * tested * (2 if settings.testing.flip else 1) / FORWARD
    past = rates(place)
    share = 1 / place.sharing if place.device.is_gpu else place.threads
    model = settings.trained()["model"]
    seconds += operations / past.get(model, past.get("", DEFAULT_RATES[kind] * share))
    weights = known.parameters + (counts["identities"] - IDENTITIES) * known.per_identity
    weights_mb, memory_mb = 4 * weights / 2**20, PROCESS_MB[kind] + images_mb
    if not recipe.epochs:
        return Estimate(seconds, memory_mb + weights_mb, 0.0, not past)
    memory_mb += 4 * weights_mb + known.activations * recipe.batch / 2**20  # gradients and the optimiser's state
    return Estimate(seconds, memory_mb, weights_mb, not past)


def images(dataset: str, source: str, budget: str) -> dict[str, int]:
    """Images of each split, and training identities: as published, or as a stand-in of this budget has them."""
    dataset, _ = datasets.VARIANTS.get(dataset, (dataset, None))
    if pair := cross_domain.PAIRS.get(dataset):
        learnt, tested = (images(part, source, budget) for part in pair)
        return tested | {name: learnt[name] for name in ("train", "identities")}
    protocol, boxes, *_ = cuhk03.VARIANTS.get(dataset, ("", ""))
    splits = ("train", "query", "gallery")
    if source == "stand-in":
        counts = plan.counts(DOMAINS[datasets.rendered_as(dataset)].sizes, datasets.STANDIN_SCALE[budget])
        people = counts["identities"] + counts.pop("tested identities")
        whole = sum(counts[split] for split in splits)
    elif protocol.startswith("classic"):
        people, whole = sum(cuhk03.PUBLISHED[protocol, boxes].values()), cuhk03.IMAGES[protocol, boxes]
    else:
        own = {part.NAME: part.PUBLISHED for part in (market1501, dukemtmc, msmt17)}
        printed = own[dataset] if dataset in own else cuhk03.PUBLISHED[protocol, boxes]
        counts = {split: printed[f"{split} images"] for split in splits}
        counts["identities"] = printed["train identities"]
    if protocol.startswith("classic"):  # queries and gallery are the same images
        tests = min(cuhk03.PUBLISHED[protocol, boxes]["gallery identities"], people // 2)
        learnt, tested = (round(whole / people * persons) for persons in (people - tests, tests))
        return {"train": learnt, "query": tested, "gallery": tested, "identities": people - tests}
    return counts


def renderings(runs: Sequence[Run]) -> dict[str, tuple[float, float]]:
    """The stand-ins that these runs have to render first: seconds until all cores have done it, and MB on the disk."""
    pairs = {(run.dataset, run.budget) for run in runs if run.source == "stand-in"}
    parts = {(part, budget) for name, budget in pairs for part in cross_domain.PAIRS.get(name, (name,))}
    found = {}
    for dataset, budget in sorted(parts):
        if datasets.is_to_be_rendered(dataset, "stand-in", budget):
            counts = images(dataset, "stand-in", budget)
            many = counts["train"] + counts["query"] + counts["gallery"]
            found[datasets.rendered_as(dataset)] = (many / (RENDERED * cores()), many * IMAGE_MB)
    return found


def main() -> None:
    counts = {name: step_cost(one, IDENTITIES)._asdict() for name, one in sorted(declared().items())}
    lines = [f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in counts.items()]
    COUNTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
