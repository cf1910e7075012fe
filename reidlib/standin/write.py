"""Rendering to disk: folders, worker processes, resuming, and the manifest that is written last.

An image gets its final name only when its file is complete, and the manifest appears only when every image has its
name; so an interrupted set is never mistaken for a complete one, and the next call continues it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pickle
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path, PurePosixPath
from subprocess import DEVNULL, Popen

import numpy as np

from reidlib.spec import ReidError

from . import groundtruth as truths
from .catalogue import MANIFEST, VERSION, digest, domain, image_names, read_manifest
from .domain import Domain, Variant
from .plan import ImageSpec, plan

UNFINISHED = "standin.unfinished.json"
TEMPORARY = ".part"
BATCH, DEVICE_BATCH = 16, 256
IMAGES_PER_WORKER = 400


@dataclass(frozen=True)
class Job:
    """What one call of `render` makes, where, on which device, with truth or without; every worker has its own."""

    name: str
    scale: float
    seed: int
    out: Path
    device: str
    truth: bool
    variant: Variant | None

    @cached_property
    def domain(self) -> Domain:
        return domain(self.name, self.variant)

    @cached_property
    def specs(self) -> list[ImageSpec]:
        return plan(self.domain, self.scale, self.seed)

    @property
    def head(self) -> dict:
        """What the manifest says of the set, apart from the number of its images."""
        head = {"name": self.name, "version": VERSION, "scale": self.scale, "seed": self.seed}
        head["digest"] = digest(self.name, scale=self.scale, seed=self.seed, variant=self.variant)
        if self.variant not in (None, Variant()):
            head["variant"] = {key: value for key, value in asdict(self.variant).items() if value is not None}
        return head

    @property
    def sizes(self) -> dict:
        """What the manifest says of the number of images in each folder, and of the people in them."""
        images = Counter(spec.folder for spec in self.specs)
        people = Counter(folder for folder, _ in {(s.folder, s.identity) for s in self.specs if s.kind == "person"})
        kinds = {"counts": images, "identities": people}
        return {kind: {folder: of[folder] for folder in self.domain.layout.folders} for kind, of in kinds.items()}

    def missing(self, truth: bool, share: slice = slice(None)) -> list[ImageSpec]:
        """The images of the share that are not there, and with `truth` also those whose truth has not been noted."""
        there = {folder: image_names(self.out / folder) for folder in self.domain.layout.folders}
        unknown = {folder for folder in there if truth and not (self.out / truths.file_of(folder)).exists()}
        noted = truths.noted(self.out) if unknown else set()
        return [
            spec
            for spec in self.specs[share]
            if spec.name not in there[spec.folder] or (spec.folder in unknown and spec.path not in noted)
        ]


def render(
    name: str,
    *,
    scale: float,
    seed: int,
    out: Path,
    workers: int | None = None,
    device: str = "cpu",
    progress: bool = True,
    variant: Variant | None = None,
    truth: bool = True,
) -> Path:
    """Render a stand-in into `out`, or finish one that was interrupted. Returns `out`, complete.

    name      the data set it stands for, such as `market1501`
    scale     1 for the published numbers of identities and images, less for a smaller set
    seed      another seed, other people
    out       the folder; created if missing
    workers   processes; None: one for each processor core, fewer for few images; 1 renders in this process
    device    where the rays are cast: `cpu`, `cuda`, ...
    progress  show a progress bar if standard error is a terminal
    variant   one factor or several changed, everything else the same
    truth     write the truth too; it is added to a set that is complete without it, whose images stay as they are

    Raises ReidError for wrong arguments; a folder that holds anything else, another stand-in, or a stand-in of another
    version; a disk that is full or cannot be written. Each says what to do.
    """
    if workers is not None and workers < 1:
        raise ReidError(f"workers is {workers}; give at least 1")
    domain(name)  # an unknown name is reported before a wrong scale
    if not 0 < scale <= 1:
        raise ReidError(f"scale {scale} of the stand-in {name!r} is not between 0 and 1; choose for example 0.05")
    job = Job(name, float(scale), int(seed), Path(out), device, truth, variant)
    if device != "cpu":  # this process need not load torch for workers on the processor
        try:
            import torch

            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ReidError(f"device {device!r} cannot be used to render ({reason}); use cpu") from error
    try:
        _prepare(job)
        folder = os.open(job.out, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)  # a second render waits here, then finds the work done
            _complete(job, workers, progress)
        finally:
            os.close(folder)
    except OSError as error:
        raise readable(error, job.out) from error
    return job.out


def _complete(job: Job, workers: int | None, progress: bool) -> None:
    """Render what is missing, gather the truth, then write the manifest."""
    from tqdm import tqdm

    out, layout = job.out, job.domain.layout
    todo = job.missing(job.truth)
    whole = all((out / name).exists() for name in (MANIFEST, *layout.names)) and not job.missing(truth=False)
    if not whole:
        # From here until the end the set is marked as unfinished.
        (out / MANIFEST).unlink(missing_ok=True)
        _save(out / UNFINISHED, job.head)
    for path in out.rglob("*" + TEMPORARY):
        path.unlink()
    if todo:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        count = max(1, min(cores, len(todo) // IMAGES_PER_WORKER) if workers is None else min(workers, len(todo)))
        total, hidden = len(job.specs), not (progress and sys.stderr.isatty())
        words = dict(unit="image", desc=f"render {job.name}", disable=hidden)
        with tqdm(total=total, initial=total - len(todo), **words) as bar:
            for number in draw(job, todo) if count == 1 else _in_workers(job, count):
                bar.update(number)
    if left := job.missing(job.truth):
        raise ReidError(f"{len(left)} images of {out} are still missing; call render again to finish it")
    if job.truth:
        for folder in layout.folders:
            if not (file := out / truths.file_of(folder)).exists():
                _save(file, truths.gathered(out, folder, [s.path for s in job.specs if s.folder == folder]))
        for log in out.glob(truths.LOGS):
            log.unlink()
    if not whole:
        for name, content in layout.files(job.domain, job.scale, job.seed).items():
            _save(out / name, content)
        _save(out / MANIFEST, job.head | job.sizes)
        (out / UNFINISHED).unlink(missing_ok=True)


def draw(job: Job, specs: Sequence[ImageSpec], number: int = 0) -> Iterator[int]:
    """Render and write images and, in the log of worker `number`, their truth; yields how many, batch by batch.

    An image that is there already keeps its file. One thread works: several would only wait for each other on pieces
    this small.
    """
    import torch

    from .rendering import pixels
    from .scene import compose_all

    batch = BATCH if job.device == "cpu" else DEVICE_BATCH
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        log = stack.enter_context(open(job.out / truths.LOGS.replace("*", str(number)), "ab")) if job.truth else None
        for start in range(0, len(specs), batch):
            some = specs[start : start + batch]
            scenes = compose_all(job.domain, job.seed, some)
            rendered = pixels(scenes, job.device)
            if log:
                masks, hidden = rendered.parts.cpu().numpy(), rendered.hidden.tolist()
                for spec, scene, share, mask in zip(some, scenes, hidden, masks, strict=True):
                    log.write(truths.line_of(spec, {**scene.factors, "occlusion": share}, mask))
                log.flush()
            for spec, scene, image in zip(some, scenes, rendered.images.cpu().numpy(), strict=True):
                _write_image(job.out / spec.path, image, scene.quality, job.domain.variant.resolution)
            yield len(some)


def _write_image(path: Path, pixels: np.ndarray, quality: int, resolution: float | None) -> None:
    from PIL import Image

    if path.exists() and path.stat().st_size:
        return
    image = Image.fromarray(pixels)
    if resolution is not None:
        width, height = (max(1, round(resolution * side)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    part = path.with_suffix(TEMPORARY)
    image.save(part, format="JPEG", quality=quality, optimize=True)  # an eighth smaller, the same pixels
    os.replace(part, path)


def _in_workers(job: Job, count: int) -> Iterator[int]:
    """Render in `count` processes, each with its share of what is missing.

    They are started by command line, not forked: a fork of a process whose torch has run threads may hang, and a
    spawned pool would import the caller's main module again.
    """
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}
    start = "import sys; from reidlib.standin.write import work; sys.exit(work(sys.argv[1]))"
    read, write = os.pipe()
    with ExitStack() as stack, open(read, encoding="utf-8") as lines:
        workers = []
        with open(write, "wb") as end:
            for number in range(count):
                share = pickle.dumps((replace(job), number, count)).hex()  # without what the job has worked out
                command = [sys.executable, "-P", "-c", start, share]
                workers.append(stack.enter_context(Popen(command, env=environment, stdin=DEVNULL, stdout=end)))
                stack.callback(workers[-1].terminate)  # does nothing to a process that has ended
        for line in lines:  # of all workers, until the last one ends
            if line.strip().isdigit():
                yield int(line)
            elif line.startswith("stop "):
                raise ReidError(line[5:].strip())
        for worker in workers:
            if worker.wait() != 0:
                problem = f"a worker rendering {job.out} ended with {worker.returncode}"
                raise ReidError(f"{problem}; call render again to go on")


def work(share: str) -> int:
    """Render the share of one process; report each batch as a number on a line."""
    job, number, count = pickle.loads(bytes.fromhex(share))
    # The share is cut before what is there is left out: other workers are already writing.
    mine = job.missing(job.truth, slice(number, None, count))
    try:
        for done in draw(job, mine, number):
            print(done, flush=True)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # else the parent is gone
            print("stop", readable(error, job.out), flush=True)
        return 1
    return 0


def _prepare(job: Job) -> None:
    """Make the folders; refuse a folder that holds anything but this very stand-in."""
    out, head, layout = job.out, job.head, job.domain.layout
    if out.exists() and not out.is_dir():
        raise ReidError(f"{out} is a file, not a folder; give another folder with --out")
    for name in (MANIFEST, UNFINISHED):
        there = read_manifest(out / name) or head
        for key in ("name", "version", "scale", "seed", "digest"):
            if there[key] != head[key]:
                problem = f"{out} holds another stand-in ({key} {there[key]}, asked for {head[key]})"
                raise ReidError(f"{problem}; delete it or give another folder")
    known = {MANIFEST, UNFINISHED, *map(truths.file_of, layout.folders), *layout.names}
    known |= {spec.path for spec in job.specs}
    known |= {path.rpartition(".")[0] + TEMPORARY for path in known}
    folders = {os.path.dirname(spec.path) for spec in job.specs}
    known |= folders | {str(parent) for folder in folders for parent in PurePosixPath(folder).parents}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if name not in known and not fnmatchcase(name, truths.LOGS):
            raise ReidError(f"{path} is not part of the stand-in; move it away or give another folder")
    for folder in folders:
        (out / folder).mkdir(parents=True, exist_ok=True)


def _save(path: Path, content: bytes | dict) -> None:
    """Write a file (a dictionary as JSON) whole or not at all."""
    part = path.with_suffix(TEMPORARY)
    part.write_bytes(content if isinstance(content, bytes) else (json.dumps(content, indent=2) + "\n").encode())
    os.replace(part, path)


def readable(error: OSError, out: Path) -> ReidError:
    """An error of the file system in one line, with its remedy."""
    if error.errno == errno.ENOSPC:
        return ReidError(f"the disk of {out} is full; free some space and call render again to continue")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ReidError(f"{error.filename or out} cannot be written; give another folder or change its permissions")
    reason = error.strerror or error
    return ReidError(f"writing the stand-in to {out} failed ({reason}); remove the cause and call render again")
