"""Images per second in training: bare step, as a CUDA graph too, our loop and a conventional pipeline, in one run.

    python benchmarks/training.py                            # plain ResNet-50 at two sizes, and the five systems
    python benchmarks/training.py --cases IDE-256 FMN --steps 4
    python benchmarks/training.py --cases --switches HAMR    # no table, but what each switch gains or costs
    python benchmarks/training.py --json results/benchmarks/DEVICE.json    # the book shows what lies there

bare step     forward, losses, backward and optimiser on one fixed, normalised batch.
graph         the same, replayed as a CUDA graph (`training.graph`); on a GPU alone. It, or the bare step where there is
              none, is the limit: what our loop loses against it is what data and bookkeeping cost.
our loop      `training.train`: resident uint8 images, augmentation in batches on the device, checks, log and curve.
conventional  a DataLoader with workers that decodes JPEG files from disk in every epoch and transforms them one by one
              with torchvision, then the bare step.

They take turns, so that a machine that slows down slows all; numbers are medians over the rounds. The images are
random, of Market-1501's size. On a CPU every case runs in a process of its own, so that its peak memory, with that of
the libraries, is its own. On a GPU, where it is the memory of tensors, all cases share a process, and the number of
rounds is made for about ten seconds a case (the column "took").
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from reidlib import papers, training
from reidlib.data.images import IMAGENET_MEAN, IMAGENET_STD, normalise, read_image
from reidlib.data.sampling import epoch_batches, identity_batches
from reidlib.papers.standins import TRAINED
from reidlib.runs import datasets
from reidlib.runs.worker import commit, device_name, peak_memory_mb
from reidlib.spec import ReidError, Settings
from reidlib.training import Loop, TrainingImages, graph, precision
from reidlib.training.step import on_device

PHOTO = (128, 64)
"""Height and width of Market-1501's photographs."""

IDENTITIES = 751
"""Training identities of Market-1501: the classifiers have their real width, however few images there are."""

DISTINCT = 256
"""So many image files are written; a longer epoch reads them again."""

KINDS = ("bare step", "graph", "our loop", "conventional")


@dataclass(frozen=True)
class Case:
    """A row of a declared table, as published; size: the input's, where it is not that of the budget."""

    table: str
    row: str
    size: tuple[int, int] | None = None


CASES = {
    "IDE-256": Case("standins/difficulty", TRAINED, size=(256, 128)),
    "IDE-384": Case("standins/difficulty", TRAINED, size=(384, 128)),
    "SafeNet": Case("safenet/table4", "SafeNet (ResNet-50)"),
    "MROS": Case("mros/table1", "IV Complete MROS"),
    "MSGWDP": Case("msgwdp/table2", "Baseline + NL + MSG + WDP"),
    "FMN": Case("fmn/table1", "FMN"),
    "HAMR": Case("hamr/table2", "Ours"),
}
"""IDE is the plain ResNet-50."""


# --- one case, in its own process -------------------------------------------------------------------------------------


class Workload:
    """What all kinds of a case share: settings, images (as files and resident), and the network trained before."""

    def __init__(self, given: argparse.Namespace, case: str, folder: Path) -> None:
        self.settings = _settings(CASES[case], given)
        self.recipe = self.settings.recipe.resolved()
        self.batch, self.steps, self.workers = self.recipe["batch"], given.steps, given.workers
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        count = self.batch * self.steps
        files = _write_photos(folder, min(count, DISTINCT))
        which = [number % len(files) for number in range(count)]
        self.files = [files[number] for number in which]
        self.labels = _labels(count, self.batch, self.recipe["per_identity"])
        pixels = np.stack([read_image(file, tuple(self.recipe["size"])) for file in files])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().to(self.device)[which]
        self.data = TrainingImages(images, self.labels.to(self.device), [file.name for file in self.files])
        self.first: nn.Module | None = None
        if self.settings.first is not None:  # its weights do not matter here: as they are drawn
            self.first, _ = training.build(self.settings.first.settings, self.data.identities, seed=0)

    def loop(self) -> Loop:
        """A new network with its losses and optimiser, ready to step."""
        model, _ = training.build(self.settings, self.data.identities, seed=0, first=self.first)
        loop = Loop.of(self.settings, on_device(model, self.device), self.data.identities)
        loop.train_mode()
        return loop

    def rate(self, step: Callable[[], Any]) -> float:
        """Images a second of `steps` calls. A GPU works behind the calls: it is waited for before the clock is read."""
        self.wait()
        started = time.perf_counter()
        for _ in range(self.steps):
            step()
        self.wait()
        return self.steps * self.batch / (time.perf_counter() - started)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def _settings(case: Case, given: argparse.Namespace) -> Settings:
    """Those of the table at the budget, for as many epochs as there are rounds, and one before them to warm up."""
    table = papers.table(case.table)
    settings = table.settings(papers.rows(table, [case.row])[0], given.budget)
    changes: dict[str, Any] = {"epochs": given.rounds + 1}
    # Random images may make a loss diverge at its real rate; the rate has no influence on the speed.
    changes["rates"] = {name: 1e-3 * rate for name, rate in settings.recipe.resolved()["rates"].items()}
    changes |= {"size": case.size} if case.size else {}
    changes |= {"batch": given.batch} if given.batch else {}
    return replace(settings, recipe=settings.recipe.but(**changes))


def _write_photos(folder: Path, count: int) -> list[Path]:
    """Random JPEG files: smooth patches with a little noise, which take as many bytes as a photograph of this size."""
    random = np.random.default_rng(0)
    files = [folder / f"{number:06}.jpg" for number in range(count)]
    for file in files:
        patches = Image.fromarray(random.integers(0, 256, (8, 4, 3), dtype=np.uint8))
        smooth = np.asarray(patches.resize(PHOTO[::-1], Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = smooth + random.normal(0, 5, smooth.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=90)
    return files


def _labels(count: int, batch: int, per_identity: int) -> Tensor:
    """As many identities as one batch holds, so that an epoch has whole batches only; spread over 0 to 750."""
    identities = batch // per_identity if per_identity else min(batch, 32)
    return torch.linspace(0, IDENTITIES - 1, identities).long()[torch.arange(count) % identities]


class BareStep:
    """The step alone, on one fixed batch; `loop` may replay it as a graph."""

    def __init__(self, work: Workload, loop: Loop) -> None:
        self.work, self.loop = work, loop
        self.images, self.labels = normalise(work.data.images[: work.batch]), work.data.labels[: work.batch]
        for _ in range(2):  # libraries load and choose their kernels outside the timing
            self._step()

    def rate(self) -> float:
        return self.work.rate(self._step)

    def _step(self) -> None:
        self.loop.step(self.images, self.labels)


class Photos(Dataset):
    """Image files, decoded and transformed one by one whenever they are asked for."""

    def __init__(self, files: list[Path], labels: list[int], transform: Callable[[Image.Image], Tensor]) -> None:
        self.files, self.labels, self.transform = files, labels, transform

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.files[index]) as image:
            return self.transform(image.convert("RGB")), self.labels[index]


class Conventional:
    """The field's usual pipeline before the same step."""

    def __init__(self, work: Workload, loop: Loop) -> None:
        self.work, self.loop = work, loop
        self.loader = DataLoader(
            Photos(work.files, work.labels.tolist(), usual_transforms(work.recipe)),
            batch_sampler=_endless_batches(work),
            num_workers=work.workers,
            pin_memory=work.device.type == "cuda",
        )

    def rate(self) -> float:
        """In the middle of an epoch: its workers start before the clock, and end before the others' turns."""
        stream = iter(self.loader)
        # What they lay up at the start would be a gift, an empty queue a fine: take that away, then let two steps pass.
        for _ in range(self.work.workers * (self.loader.prefetch_factor or 0)):
            next(stream)
        for _ in range(2):
            self._step(stream)
        return self.work.rate(lambda: self._step(stream))

    def _step(self, stream: Iterator[tuple[Tensor, Tensor]]) -> None:
        images, labels = next(stream)
        device = self.work.device
        self.loop.step(images.to(device, non_blocking=True), labels.to(device, non_blocking=True))


def usual_transforms(recipe: dict[str, Any]) -> v2.Compose:
    """The recipe's augmentation as torchvision has it, for one PIL image at a time."""
    size, pad = tuple(recipe["size"]), recipe["pad"]
    steps: list[nn.Module] = [v2.Resize(size), v2.Pad(pad), v2.RandomCrop(size)] if pad else []
    (smallest, largest), (low, high) = recipe["crop_scale"], recipe["aspect_ratio"]
    if (smallest, largest, low, high) != (1, 1, 1, 1):
        height, width = size if pad else PHOTO
        ratio = (width / height / high, width / height / low)  # width/height, where ours is height/width
        steps.append(v2.RandomResizedCrop(size, scale=(smallest, largest), ratio=ratio))
    elif not pad:
        steps.append(v2.Resize(size))
    steps += [v2.RandomHorizontalFlip(recipe["flip"]), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
    steps.append(v2.Normalize(IMAGENET_MEAN, IMAGENET_STD))
    if recipe["erasing"]:
        area, ratio = tuple(recipe["erasing_area"]), tuple(recipe["erasing_ratio"])
        steps.append(v2.RandomErasing(recipe["erasing"], scale=area, ratio=ratio))
    return v2.Compose(steps)


def _endless_batches(work: Workload) -> Iterator[list[int]]:
    """The batches of one epoch after the other, drawn as our loop draws them."""
    generator = torch.Generator().manual_seed(0)
    while True:
        if work.recipe["per_identity"]:
            batches = identity_batches(work.labels, work.batch, work.recipe["per_identity"], generator)
        else:
            batches = epoch_batches(len(work.files), work.batch, generator)
        yield from (batch.tolist() for batch in batches)


class Turns:
    """Called after each epoch of our loop: measures the others. The first epoch warms up and shows the memory."""

    def __init__(self, work: Workload) -> None:
        self.work = work
        self.others: dict[str, BareStep | Conventional] = {}
        self.rates: dict[str, list[float]] = {}

    def __call__(self, point: dict[str, float]) -> None:
        if point["epoch"] > 1:
            for kind, other in self.others.items():
                self.rates.setdefault(kind, []).append(other.rate())
            return
        self.memory_mb = peak_memory_mb(self.work.device)  # before another network is there
        loop = self.work.loop()
        self.others = {"bare step": BareStep(self.work, loop), "conventional": Conventional(self.work, loop)}
        if self.work.device.type in graph.DEVICES:
            batch = normalise(self.work.data.images[: self.work.batch]), self.work.data.labels[: self.work.batch]
            recorded, _ = graph.recorded(loop, *batch)
            if recorded is not loop:
                self.others["graph"] = BareStep(self.work, recorded)
        self.work.wait()  # else the next epoch of our loop would pay for the steps that these have begun


def measure_case(given: argparse.Namespace, case: str) -> dict[str, Any]:
    """One line of the table: images a second of each kind in each round, the peak memory of our loop in MiB, how its
    steps ran, and the seconds that all of it has taken."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        work = Workload(given, case, Path(folder))
        if work.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        turns = Turns(work)
        trained = training.train(
            work.settings,
            work.data,
            seed=0,
            folder=Path(folder) / "run",
            first=work.first,
            log=lambda line: None,
            checkpoint_every=math.inf,
            on_epoch=turns,
        )
    ours = [epoch["images"] / epoch["seconds"] for epoch in trained.curve[1:]]
    rates = {"our loop": ours, **turns.rates}
    rounds = {kind: rates[kind] for kind in KINDS if kind in rates}
    shown = {name: work.recipe[name] for name in ("size", "batch", "optimiser")}
    shown["precision"] = "bf16" if precision.in_bf16(work.settings.recipe, work.device) else "fp32"
    how = {"step": trained.step, "why": trained.why, "seconds": time.perf_counter() - started}
    medians = {kind: median(values) for kind, values in rounds.items()}
    return {**shown, "memory_mb": turns.memory_mb, **how, "rounds": rounds, **medians}


# --- switches: one thing of our loop changed, against the plain loop --------------------------------------------------


def other_precision(loop: Loop) -> str:
    """Also where the plain loop declines bf16, because the processor would only imitate it."""
    device = _device(loop)
    bf16 = precision.in_bf16(loop.recipe, device)
    # The innermost autocast decides, so it goes around the network, inside that of the step.
    other = torch.autocast(device.type, dtype=torch.bfloat16, enabled=not bf16)
    loop.model.forward = other(loop.model.forward)
    return "fp32 for bf16" if bf16 else "bf16 for fp32"


def foreach_optimiser(loop: Loop) -> str:
    if _device(loop).type == "cuda":
        raise ReidError("the plain loop has it already: torch's own choice on a GPU")
    _set_groups(loop, foreach=True)
    return "optimiser foreach=True for one weight at a time"


def fused_optimiser(loop: Loop) -> str:
    _set_groups(loop, foreach=False, fused=True)
    return f"optimiser fused=True for {'foreach' if _device(loop).type == 'cuda' else 'one weight at a time'}"


def contiguous_layout(loop: Loop) -> str:
    loop.model.to(memory_format=torch.contiguous_format)
    # The step hands over channels_last images; turning them back costs one copy of the batch and no more.
    loop.model.register_forward_pre_hook(lambda model, inputs: (inputs[0].contiguous(),))
    return "contiguous for channels_last"


def deterministic_algorithms(loop: Loop) -> str:
    step = loop.step

    def switched(images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        torch.use_deterministic_algorithms(True)
        try:
            return step(images, labels)
        finally:  # the setting is global: the plain loop's turn comes next
            torch.use_deterministic_algorithms(False)

    loop.step = switched
    return "deterministic algorithms on for off"


def benchmarked_kernels(loop: Loop) -> str:
    """Each kernel of cuDNN is timed at the first step, and the fastest taken.

    A thread keeps the kernel of a shape, whatever the setting says later: in the plain loop's thread nothing would be
    timed any more. So these steps have a thread of their own, the backward pass included.
    """
    if _device(loop).type != "cuda":
        raise ReidError("cudnn.benchmark needs a GPU")
    step, thread = loop.step, ThreadPoolExecutor(1)

    def switched(images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        torch.backends.cudnn.benchmark = True
        try:
            with torch.autograd.set_multithreading_enabled(False):
                return step(images, labels)
        finally:  # the setting is global: the plain loop's turn comes next
            torch.backends.cudnn.benchmark = False

    loop.step = lambda images, labels: thread.submit(switched, images, labels).result()
    return "cudnn.benchmark on for off"


def compiled(loop: Loop) -> str:
    loop.model.compile()
    return "torch.compile of the network for eager"


def _device(loop: Loop) -> torch.device:
    return next(loop.model.parameters()).device


def _set_groups(loop: Loop, **options: bool) -> None:
    """Options of the optimisers, where they have them, before the first step."""
    for optimiser in filter(None, (loop.optimiser, loop.own)):
        for group in optimiser.param_groups:
            group.update({name: value for name, value in options.items() if name in group})


SWITCHES = {
    "precision": other_precision,
    "foreach": foreach_optimiser,
    "fused": fused_optimiser,
    "layout": contiguous_layout,
    "deterministic": deterministic_algorithms,
    "cudnn.benchmark": benchmarked_kernels,
    "compile": compiled,
}
"""Each changes a loop that has not stepped yet, and says what stands for what."""


def measure_switch(given: argparse.Namespace, case: str, switch: str) -> dict[str, Any]:
    """Images a second of the plain loop and of the switched one; start-up: what its first epoch takes too long."""
    with tempfile.TemporaryDirectory() as folder:
        work = Workload(given, case, Path(folder))
    plain, switched = work.loop(), work.loop()

    def epoch(loop: Loop, number: int) -> dict[str, float]:
        return training.run_epoch(loop, work.data, seed=0, epoch=number)

    epoch(plain, 0)  # libraries load in the plain loop, not in the start-up of the switched one
    started = time.perf_counter()
    words = SWITCHES[switch](switched)
    epoch(switched, 0)
    first = time.perf_counter() - started
    rounds: dict[str, list[float]] = {"plain": [], "switched": []}
    for number in range(1, given.rounds + 1):
        for name, loop in (("plain", plain), ("switched", switched)):
            point = epoch(loop, number)
            rounds[name].append(point["images"] / point["seconds"])
    rates = {name: median(values) for name, values in rounds.items()}
    start_up = max(0.0, first - work.batch * work.steps / rates["switched"])
    saved = work.batch / rates["plain"] - work.batch / rates["switched"]  # seconds a step
    pays = start_up / saved if saved > 0 else None
    return {"words": words, **rates, "start_up_seconds": start_up, "pays_after_steps": pays, "rounds": rounds}


# --- all of them ------------------------------------------------------------------------------------------------------


def apart(given: argparse.Namespace, case: str, switch: str = "") -> dict[str, Any]:
    """What a process of its own measures; {"error": one line} where it ends in a fault."""
    line = [sys.executable, __file__, "--one", case, switch]
    options = {name: vars(given)[name] for name in ("budget", "batch", "steps", "rounds", "workers")}
    line += [f"--{name}={value}" for name, value in options.items() if value is not None]
    # cuBLAS is deterministic only with a workspace of fixed size, to be asked for before CUDA starts.
    fixed = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"} if switch == "deterministic" else {}
    done = subprocess.run(line, env=os.environ | fixed, capture_output=True, text=True)
    if done.returncode:
        return {"error": _fault(done.stderr) or f"process ended with {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def _fault(text: str) -> str:
    """The one line that tells most: the first exception (later ones follow from it), else the last line."""
    lines = text.strip().splitlines()
    return next((line for line in lines if re.match(r"[\w.]+(Error|Exception|Failed): ", line)), "".join(lines[-1:]))


def table_of(given: argparse.Namespace) -> dict[str, dict]:
    """Measures and prints the cases, one line each."""
    columns = f"{'input':>9}{'batch':>6}{'bare step':>11}{'graph':>9}{'our loop':>10}{'share':>7}{'conventional':>14}"
    print(f"\n{'':<9}{columns}{'ratio':>7}{'memory':>11}{'took':>7}")
    found = {}
    for case in given.cases:
        found[case] = row = _measured(given, case)
        if "error" in row:
            print(f"{case:<9} failed: {row['error']}", flush=True)
            continue
        ours, usual, limit = row["our loop"], row["conventional"], row.get("graph", row["bare step"])
        row |= {"share": ours / limit, "ratio": ours / usual}
        graphed = f"{row['graph']:.1f}" if "graph" in row else "-"
        print(
            f"{case:<9}{'×'.join(map(str, row['size'])):>9}{row['batch']:>6}{row['bare step']:>11.1f}{graphed:>9}"
            f"{ours:>10.1f}{100 * row['share']:>5.0f} %{usual:>14.1f}{row['ratio']:>6.2f}×"
            f"{row['memory_mb']:>7.0f} MiB{row['seconds']:>5.1f} s",
            flush=True,
        )
        if row["why"]:
            print(f"          {row['why']}", flush=True)
    goal = "goal: 90 % or more" if torch.cuda.is_available() else "goal: 95 % or more"
    print(f"images/s; share: our loop of the limit, which is the graph or else the bare step ({goal});")
    print("ratio: our loop to the conventional one; took: seconds of the whole case")
    return found


def _measured(given: argparse.Namespace, case: str) -> dict[str, Any]:
    """A case in this process, where a GPU's libraries are loaded once for all of them; on a CPU in one of its own."""
    if not torch.cuda.is_available():
        return apart(given, case)
    try:
        return measure_case(given, case)
    except (ReidError, RuntimeError) as fault:
        return {"error": str(fault).partition("\n")[0]}


def switches_of(given: argparse.Namespace) -> dict[str, dict]:
    """Measures and prints what each switch changes in the chosen case, one line each."""
    print(f"\n{given.switches + ', switched':<49}{'plain':>9}{'switched':>10}{'ratio':>7}{'start-up':>10}  pays after")
    found = {}
    for switch in SWITCHES:
        found[switch] = row = apart(given, given.switches, switch)
        if "error" in row:
            print(f"{switch:<49} left out: {row['error']}", flush=True)
            continue
        row["ratio"] = row["switched"] / row["plain"]
        pays = "never" if row["pays_after_steps"] is None else f"{row['pays_after_steps']:.0f} steps"
        print(
            f"{row['words']:<49}{row['plain']:>9.1f}{row['switched']:>10.1f}{row['ratio']:>6.2f}×"
            f"{row['start_up_seconds']:>8.1f} s  {pays}",
            flush=True,
        )
    return found


def arguments() -> argparse.Namespace:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--switches", choices=CASES, metavar="NAME", help="measure every switch on this case, too")
    parser.add_argument("--budget", choices=datasets.STANDIN_SCALE, default="medium" if on_gpu else "small")
    parser.add_argument("--batch", type=_positive, help="images a step; default: the recipe's at the budget")
    parser.add_argument("--steps", type=_positive, default=12, help="steps of each kind in a round")
    parser.add_argument("--rounds", type=_positive, default=1 if on_gpu else 3)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of the conventional pipeline")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all numbers, round by round")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no positive whole number")
    return number


def main() -> int:
    given = arguments()
    if given.one:
        case, switch = given.one
        try:
            print(json.dumps(measure_switch(given, case, switch) if switch else measure_case(given, case)))
        except ReidError as fault:
            sys.exit(str(fault))
        return 0
    settings = {name: vars(given)[name] for name in ("budget", "steps", "rounds", "workers")}
    about = {"device": device_name(), "torch": torch.__version__, "commit": commit(), **settings}
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    cases = table_of(given) if given.cases else {}
    switches = switches_of(given) if given.switches else {}
    if given.json:
        found = {**about, "cases": cases, "switches": {given.switches: switches} if switches else {}}
        given.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return int(any("error" in row for row in cases.values()))


if __name__ == "__main__":
    sys.exit(main())
