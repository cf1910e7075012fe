"""What runs will take, before they start: seconds, memory, disk.

Operations are counted (`models.cost`). How many of them a device does in a second depends on the kind of network and is
measured on the device itself: a few steps of one network of each kind, in a process of its own, beside as many others
as share the device. What runs then really took is written down too and counts for more. All of it lies in the cache,
one file a device.

    python -m reidlib.runs.prediction safenet/table5 --row g4 --budget small    # measures that row's kind, prints JSON
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from reidlib import paths, training
from reidlib.data import cross_domain, cuhk03, dukemtmc, market1501, msmt17
from reidlib.data.images import normalise, read_image
from reidlib.runs import datasets, devices, worker
from reidlib.runs.devices import PROCESSOR, VISIBLE, Device, cores
from reidlib.runs.run import Run
from reidlib.spec import ReidError, Settings, value_of
from reidlib.standin.plan import plan as shots_of
from reidlib.standin.rendering import pixels
from reidlib.standin.scene import compose
from reidlib.standin.write import BATCH, DOMAINS, PICTURES_A_WORKER
from reidlib.training.cost import StepCost, step_cost

FORMAT = 2
"""Of a device's file; raised when what it holds changes."""

STEPS = 3
"""Timed steps of a measurement, after one that is not."""

REMEMBERED = 9
"""How many of the last runs of a kind count."""

CONTEXT_MB = 600
"""What CUDA keeps on a GPU for a process beside its tensors; torch does not count it. A guess, on the high side."""

IMAGE_MB = 0.0046
"""A stand-in's image on disk with its truth: 14 MB for 3,065 of them."""

SHARES = (1, 2, 3)
"""How many runs are tried on one device at once, to see whether sharing it is faster."""

UNTRAINED = 15.0
"""Seconds of a run that trains nothing: imports, images and a test. A guess, of no weight in any sum."""

WORTH = 1.1
"""Sharing a device must be faster by this factor: it takes memory, and each single run takes longer."""


@dataclass(frozen=True)
class Need:
    """What one run takes: seconds, peak memory on its device, and what it leaves on the disk.

    measured: the seconds by measurement alone, without what past runs taught; 0 where that is nothing to learn from.
    """

    seconds: float
    memory_mb: float
    disk_mb: float
    measured: float


@dataclass(frozen=True)
class Speed:
    """How a device trains one kind of network, each of the runs that share it.

    operations: a second, a multiply-add for two. start: seconds from the start of the process to the end of its first
    step. decoded: images a second. base_mb, peak_mb: memory before the first step, and at most. activations: bytes of
    memory for each byte of them that is counted.
    """

    operations: float
    start: float
    decoded: float
    base_mb: float
    peak_mb: float
    activations: float


# --- counted ----------------------------------------------------------------------------------------------------------


def images(dataset: str, source: str, budget: str) -> dict[str, int]:
    """Images of each split, and training identities: as published, or the budget's share of them for a stand-in."""
    scale = 1.0 if source == "real" else datasets.STANDIN_SCALE[budget]
    pair = cross_domain.PAIRS.get(dataset)
    if pair:
        learnt, tested = (images(part, source, budget) for part in pair)
        return tested | {name: learnt[name] for name in ("train", "identities")}
    protocol, boxes, *_ = cuhk03.VARIANTS.get(dataset, ("", ""))
    if protocol.startswith("classic"):
        printed = cuhk03.PUBLISHED[protocol, boxes]
        learnt, tested = printed["train identities"], printed["gallery identities"]
        each = cuhk03.IMAGES[protocol, boxes] / (learnt + tested)
        counts = {"train": each * learnt, "query": each * tested, "gallery": each * tested, "identities": learnt}
    else:
        own = {part.NAME: part.PUBLISHED for part in (market1501, dukemtmc, msmt17)}
        printed = own[dataset] if dataset in own else cuhk03.PUBLISHED[protocol, boxes]
        counts = {split: printed[f"{split} images"] for split in ("train", "query", "gallery")}
        counts["identities"] = printed["train identities"]
    return {name: max(1, round(count * scale)) for name, count in counts.items()}


def kind(settings: Settings) -> str:
    """Networks of one kind differ little in how well they use a device."""
    recipe = settings.recipe.resolved()
    return f"{settings.model.__name__} {recipe['size'][0]}x{recipe['size'][1]} {recipe['precision']}"


# --- measured ---------------------------------------------------------------------------------------------------------


_measured: dict[tuple[Path, str, str], Any] = {}
"""What this process has measured, by file, part and name. Beside other work it is good for this plan alone."""


class Book:
    """What is known of one device: counted steps, measured speeds, the pace of past runs. A file in the cache.

    share: how many runs are on the device at once; speeds and paces are those of one among so many.
    """

    def __init__(self, device: Device, threads: int, share: int = 1):
        name = f"{device.name} {threads} threads" if not device.is_gpu else device.name
        self.device, self.threads, self.share = device, threads, share
        slug = re.sub(r"[^A-Za-z0-9]+", "-", f"{name} torch {torch.__version__} format {FORMAT}").strip("-")
        self.file = paths.cache() / "predictions" / f"{slug}.json"
        try:
            self.known: dict[str, dict[str, Any]] = json.loads(self.file.read_text())
        except (OSError, ValueError):
            self.known = {}

    def get(self, part: str, name: str, make: Callable[[], Any]) -> Any:
        """An entry, made and kept where it is not there yet."""
        entries = self.known.setdefault(part, {})
        if name not in entries:
            entries[name] = make()
            self.save()
        return entries[name]

    def measured(self, part: str, name: str, make: Callable[[], Any]) -> Any:
        """The same, but kept only where no run was on the device meanwhile; this process has it either way."""
        mark, kept = (self.file, part, name), self.known.setdefault(part, {})
        if name not in kept and mark not in _measured:
            with devices.alone(self.device) as alone:
                _measured[mark] = make()
            if alone:
                kept[name] = _measured[mark]
                self.save()
        return kept[name] if name in kept else _measured[mark]

    def save(self) -> None:
        partial = self.file.with_suffix(f".{os.getpid()}")
        with suppress(OSError):  # predictions can be made again: a full disk is no reason to lose runs over them
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                partial.write_text(json.dumps(self.known, indent=1))
                partial.replace(self.file)
            finally:
                partial.unlink(missing_ok=True)

    def counted(self, settings: Settings, identities: int) -> StepCost:
        """What a step of these settings costs; each network is counted once."""
        recipe = settings.recipe.resolved()
        words = [settings.model.__name__, settings.trained()["options"], recipe["size"], recipe["batch"], identities]
        name = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]
        return StepCost(**self.get("counted", name, lambda: asdict(step_cost(settings, identities))))

    def name(self, settings: Settings) -> str:
        """Of a speed and a pace: the kind, and how many share the device."""
        return kind(settings) + (f", one of {self.share}" if self.share > 1 else "")

    def trial(self, run: Run, log: Callable[[str], None]) -> dict[str, float]:
        """How fast runs of this kind train here, measured where it is not known; ReidError where they have no room."""

        def make() -> dict[str, float]:
            many = f"{self.share} at once of " if self.share > 1 else ""
            log(f"measuring {many}{kind(run.settings)} on {self.device.name}, some seconds")
            answers = measure([run] * self.share, self.device, self.threads)
            return {name: statistics.mean(answer[name] for answer in answers) for name in answers[0]}

        return self.measured("speed", self.name(run.settings), make)

    def speed(self, run: Run, log: Callable[[str], None]) -> Speed:
        """The same; where so many cannot be measured at once, from one alone, as if each got its part of the device."""
        try:
            return Speed(**self.trial(run, log))
        except ReidError as fault:
            if self.share == 1:
                raise
            log(f"{fault}; predicted from one run alone")
        alone = Book(self.device, self.threads).speed(run, log)
        guess = replace(alone, operations=alone.operations / self.share)
        _measured[self.file, "speed", self.name(run.settings)] = asdict(guess)
        return guess

    def keeps(self, run: Run) -> bool:
        """Whether the speed of this kind was measured undisturbed."""
        return self.name(run.settings) in self.known.get("speed", {})

    def pace(self, name: str) -> float:
        """How the last runs of a kind compare with what was predicted from the measurement: 1.2 is a fifth longer."""
        return statistics.median(self.known.get("pace", {}).get(name, [1.0]))

    def took(self, run: Run, need: Need, seconds: float) -> None:
        """Remembers what a run took beside what the measurement alone said."""
        if not need.measured:
            return
        paces = self.known.setdefault("pace", {}).setdefault(self.name(run.settings), [])
        paces.append(seconds / need.measured)
        del paces[:-REMEMBERED]
        self.save()


def measure(runs: Sequence[Run], device: Device, threads: int) -> list[dict[str, float]]:
    """Speeds of these runs, all at once on the device, each in a process of its own with so many threads."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)} | ({VISIBLE: device.id} if device.is_gpu else {})
    lines = [[sys.executable, "-m", "reidlib.runs.prediction", *run.command()[2:]] for run in runs]
    # None may time its steps before all are ready: each says so, then reads until this end is closed, which is for all.
    wait, go = os.pipe()
    pipes = dict(stdin=wait, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        processes = [subprocess.Popen([*line, "--started", str(time.time())], **pipes) for line in lines]
        for process in processes:
            process.stdout.readline()
    finally:
        os.close(go)
        os.close(wait)
    answers = [process.communicate() for process in processes]
    for process, (_, said) in zip(processes, answers, strict=True):
        if process.returncode:
            last = (said.strip().splitlines() or [f"ended with {process.returncode}"])[-1]
            if last.startswith("error: "):  # of ours, with its remedy
                raise ReidError(last.removeprefix("error: "))
            many = f"the speed of {len(runs)} runs at once" if len(runs) > 1 else "its speed"
            room = "free some memory there (nvidia-smi shows who holds it), choose other GPUs (--gpus)"
            mend = f"{room} or {PROCESSOR}" if device.is_gpu else f"`{shlex.join(lines[0])}` shows the whole fault"
            raise ReidError(f"{device.name}: {many} cannot be measured ({last}); {mend}")
    return [json.loads(printed.splitlines()[-1]) for printed, _ in answers]


def timed(run: Run, started: float, ready: Callable[[], None] = lambda: None) -> Speed:
    """The measurement, in this process, on grey images; `started` is when the process was.

    ready: called before the timed steps; returns when they may begin.
    """
    devices.demand_usable(devices.devices()[0])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    counts, settings = images(run.dataset, run.source, run.budget), run.settings
    recipe, cost = settings.recipe.resolved(), step_cost(settings, counts["identities"])
    first = settings.first and training.build(settings.first.settings, counts["identities"], 0)[0]
    model, _ = training.build(settings, counts["identities"], 0, first)
    loop = training.Loop.of(settings, model.to(device, memory_format=torch.channels_last), counts["identities"])
    loop.train_mode()
    base = training.peak_memory_mb(device)
    labels = torch.arange(recipe["batch"], device=device) // (recipe["per_identity"] or 1) % counts["identities"]
    batch = normalise(torch.full((recipe["batch"], 3, *recipe["size"]), 100, dtype=torch.uint8, device=device))
    _steps(loop, batch, labels, 1)
    start = time.time() - started
    ready()
    seconds = _steps(loop, batch, labels, STEPS) / STEPS
    peak = training.peak_memory_mb(device)
    activations = (peak - base) * 2**20 / max(1, cost.activations)
    operations = _trained(cost, recipe["batch"]) / seconds
    return Speed(operations, start, _decoded(tuple(recipe["size"])), base, peak, activations)


def _steps(loop: training.Loop, batch: torch.Tensor, labels: torch.Tensor, many: int) -> float:
    started = time.perf_counter()
    for _ in range(many):
        loop.step(batch, labels)
    if batch.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _decoded(size: tuple[int, int], many: int = 64) -> float:
    """Images a second that all cores of this process decode and resize; one of Market-1501's size stands for all."""
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        Image.effect_noise((64, 128), 40).convert("RGB").save(file, format="JPEG")
        file.flush()
        started = time.perf_counter()
        for _ in range(many):
            read_image(Path(file.name), size)
        return cores() * many / (time.perf_counter() - started)


def _trained(cost: StepCost, images: int) -> float:
    """Operations of training on so many images: two a multiply-add, forward once and backward twice."""
    return 6.0 * cost.multiply_adds * images


# --- predicted --------------------------------------------------------------------------------------------------------


def need(run: Run, book: Book, log: Callable[[str], None], *, trains: bool = True, firsts: bool = True) -> Need:
    """What a run will take on the device of `book`.

    trains: whether its network is still to be trained, or only tested. firsts: the same of the one trained before it.
    """
    counts, settings = images(run.dataset, run.source, run.budget), run.settings
    recipe, first = settings.recipe.resolved(), settings.first.settings if settings.first else None
    tested = sum(counts[split] for split in ("query", "gallery"))
    decoding, image_mb = tested + counts["train"], 3 * recipe["size"][0] * recipe["size"][1] / 2**20
    # One split at a time lies on the device: training images leave it before the test, queries before the gallery.
    # Decoding has it twice, in the decoder's order and in the network's; both in the processor's memory.
    times = 1 if book.device.is_gpu else 2
    decoded_mb = times * image_mb * max(counts[split] for split in ("train", "query", "gallery"))
    if not recipe["epochs"]:
        return Need(UNTRAINED, CONTEXT_MB + decoded_mb, 0.0, UNTRAINED)
    cost = book.counted(settings, counts["identities"])
    speed = book.speed(run, log)
    operations = _trained(cost, counts["train"] * recipe["epochs"]) if trains else 0.0
    if first and firsts:
        before = book.counted(first, counts["identities"])
        operations += _trained(before, counts["train"] * first.recipe.resolved()["epochs"])
    operations += 2.0 * cost.multiply_adds * tested * (2 if value_of(settings.testing.mirror) else 1)
    seconds = speed.start + decoding / speed.decoded + operations / speed.operations
    training_mb = counts["train"] * image_mb + speed.activations * cost.activations / 2**20
    memory = speed.base_mb + max(training_mb, decoded_mb) + (CONTEXT_MB if book.device.is_gpu else 0)
    measured = seconds if book.keeps(run) else 0.0
    return Need(seconds * book.pace(book.name(settings)), memory, 4 * cost.parameters / 2**20, measured)


def standin_images(name: str, budget: str) -> int:
    sizes = asdict(DOMAINS[name].sizes)
    many = sum(count for what, count in sizes.items() if what.endswith("_images"))
    return round(many * datasets.STANDIN_SCALE[budget])


def standin_mb(name: str, budget: str) -> float:
    """Room that a stand-in takes on the disk at this budget's scale."""
    return IMAGE_MB * standin_images(name, budget)


def rendering_seconds(name: str, budget: str) -> float:
    """Until a stand-in is rendered by all cores; one core's rate is measured once, on a domain that stands for all."""

    def make() -> float:
        domain, threads = DOMAINS["market1501"], torch.get_num_threads()
        shots = shots_of(domain, datasets.STANDIN_SCALE["smoke"], datasets.STANDIN_SEED)[: 3 * BATCH]
        torch.set_num_threads(1)  # as the renderer has it
        for first in range(0, len(shots), BATCH):  # the first are slower; the last one's rate stays
            started = time.perf_counter()
            pixels([compose(domain, datasets.STANDIN_SEED, shot) for shot in shots[first : first + BATCH]], "cpu")
        torch.set_num_threads(threads)
        return BATCH / (time.perf_counter() - started)

    book = Book(Device("cpu", devices.processor(), 0.0), 1)
    rate = book.measured("rendered", "images a second", make)
    many = standin_images(name, budget)
    return many / rate / max(1, min(cores(), many // PICTURES_A_WORKER))


def makespan(seconds: Sequence[float], places: int, after: Sequence[Collection[int]] = ()) -> float:
    """Seconds until the last of these runs ends. A free place takes the first run that waits for no other.

    after: for each run the positions of those that it waits for, all before its own; () where none waits.
    """
    waiting = {run: set(after[run]) if after else set() for run in range(len(seconds))}
    working: list[tuple[float, int]] = []  # (when it ends, run)
    now = 0.0
    while waiting or working:
        for run in [run for run, others in waiting.items() if not others][: places - len(working)]:
            del waiting[run]
            heapq.heappush(working, (now + seconds[run], run))
        now, ended = heapq.heappop(working)
        for others in waiting.values():
            others.discard(ended)
    return now


def best_share(run: Run, device: Device, log: Callable[[str], None]) -> tuple[int, float]:
    """How many runs like this one should share the device, and how much faster it then is than one alone.

    Measured once a device and kind. A processor's threads are divided among the runs.
    """
    book, name = Book(device, cores()), kind(run.settings)
    if name in book.known.get("share", {}):
        share, gain = book.known["share"][name]
        return int(share), gain
    rates, kept = [], True
    for share in SHARES:
        if not device.is_gpu and share > cores():
            break
        there = Book(device, max(1, cores() // share), share)
        try:
            speed = there.trial(run, log)
        except ReidError as fault:
            if share == 1:
                raise
            log(f"{fault}; not more than {share - 1} at once")
            kept = False  # what fills the device may be another's
            break
        kept = kept and there.keeps(run)
        rates.append(share * speed["operations"])
        if share > 1 and rates[-1] < rates[-2] * WORTH:
            rates.pop()
            break
        each = speed["peak_mb"] + (CONTEXT_MB if device.is_gpu else 0)
        if device.memory_mb and (share + 1) * each > 0.9 * device.memory_mb:
            break
    found = [len(rates), rates[-1] / rates[0]]
    if kept:
        book.get("share", name, lambda: found)
    return found[0], found[1]


def main(line: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reidlib.runs.prediction")
    worker.arguments(parser)
    parser.add_argument("--started", type=float, default=None, help="when `measure` started it; it waits then")
    given = parser.parse_args(line)

    def ready() -> None:
        if given.started:
            print("ready", flush=True)
            sys.stdin.read()

    try:
        print(json.dumps(asdict(timed(worker.run_of(given), given.started or time.time(), ready))))
    except ReidError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
