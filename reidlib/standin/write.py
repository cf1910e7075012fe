"""Rendering to disk: folders, workers, resuming, and the manifest that is written last.

A picture gets its final name only when its file is complete, and the manifest appears only when every picture has its
name; so a set that was interrupted is never mistaken for a whole one, and the next call goes on where it stopped.
The truth (see `groundtruth.py`) may be added to a set that is whole without it; its pictures are left alone.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from reidlib.spec import ReidError

from . import groundtruth as truths
from .cuhk03 import CUHK03
from .domain import Domain, Variant, words
from .dukemtmc import DUKEMTMC
from .market1501 import MARKET1501
from .msmt17 import MSMT17
from .plan import Shot, plan
from .rendering import pixels
from .scene import compose

VERSION = 2
MANIFEST = "standin.json"
UNFINISHED = "standin.unfinished.json"
TEMPORARY = ".part"
BATCH, DEVICE_BATCH = 8, 256
PICTURES_A_WORKER = 400

DOMAINS: dict[str, Domain] = {d.name: d for d in (MARKET1501, DUKEMTMC, CUHK03, MSMT17)}


def domain(name: str, variant: Variant | None = None) -> Domain:
    """The domain of a stand-in, by the data set's name, with a factor changed where a variant is given."""
    if name not in DOMAINS:
        raise ReidError(f"no stand-in is called {name!r}; known: {', '.join(sorted(DOMAINS))}")
    return DOMAINS[name] if variant in (None, Variant()) else replace(DOMAINS[name], variant=variant)


def digest(name: str, *, scale: float, seed: int, variant: Variant | None = None) -> str:
    """A short hash of renderer version, the domain's parameters, variant, scale and seed; never of bytes."""
    return _digest(VERSION, domain(name, variant), float(scale), int(seed))


@functools.cache
def _digest(version: int, domain: Domain, scale: float, seed: int) -> str:
    said = {"version": version, "domain": words(domain), "scale": scale, "seed": seed}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Work:
    """One call of `render`: what to make, what the manifest says of it, where, on which device, with truth or not."""

    domain: Domain
    head: dict
    shots: list[Shot]
    out: Path
    device: str
    truth: bool

    def missing(self, truth: bool) -> list[Shot]:
        return missing(self.out, self.domain, self.shots, truth)


def is_complete(folder: Path) -> bool:
    """Whether the folder holds a whole stand-in: a manifest, and as many pictures as it counts. Truth or none."""
    manifest = _read(Path(folder) / MANIFEST)
    if not manifest or manifest.get("name") not in DOMAINS or not isinstance(manifest.get("counts"), dict):
        return False
    folders, counts = DOMAINS[manifest["name"]].layout.folders, manifest["counts"]
    return all(len(_pictures(Path(folder) / part)) == counts.get(part) for part in folders)


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
    """Render a stand-in into `out`, or finish one that was interrupted.

    Parameters
    ----------
    name
        The data set it stands for, such as ``market1501``.
    scale
        1 for the published numbers of identities and images, less for a smaller set.
    seed
        Another seed, other people.
    out
        The folder; made if missing.
    workers
        Processes; by default one a processor core, fewer for few pictures. 1 renders in this process.
    device
        Where the rays are cast: ``cpu``, ``cuda``, ...
    progress
        Show a progress bar where standard error is a terminal.
    variant
        One factor or several changed, everything else as without.
    truth
        Write the truth too; a set that is whole without it gains it, its pictures untouched.

    Returns
    -------
    Path
        `out`, complete.

    Raises
    ------
    ReidError
        Wrong words; a folder that holds anything else, another stand-in, or a stand-in of another version; a disk that
        is full or cannot be written. Each says what to do.
    """
    chosen = domain(name, variant)
    if not 0 < scale <= 1:
        raise ReidError(f"scale {scale} of the stand-in {name!r} is not between 0 and 1; choose for example 0.05")
    _check_device(device)
    out = Path(out)
    head = {
        "name": name,
        "version": VERSION,
        "scale": float(scale),
        "seed": int(seed),
        "digest": digest(name, scale=scale, seed=seed, variant=variant),
    }
    if chosen.variant != Variant():
        head["variant"] = {key: value for key, value in asdict(chosen.variant).items() if value is not None}
    work = _Work(chosen, head, plan(chosen, scale, seed), out, device, truth)
    try:
        _prepare(work)
        with _alone(out):
            _complete(work, workers, progress)
    except OSError as error:
        raise readable(error, out) from error
    return out


def _complete(work: _Work, workers: int | None, progress: bool) -> None:
    """Render what is missing, gather the truth, then write the manifest."""
    out, layout = work.out, work.domain.layout
    todo = work.missing(work.truth)
    whole = all((out / name).exists() for name in (MANIFEST, *layout.names)) and not work.missing(truth=False)
    if not whole:
        # From here until the end the set is marked as unfinished.
        (out / MANIFEST).unlink(missing_ok=True)
        _save(out / UNFINISHED, work.head)
    for path in out.rglob("*" + TEMPORARY):
        path.unlink()
    if todo:
        count = _workers(workers, len(todo))
        bar = tqdm(
            total=len(work.shots),
            initial=len(work.shots) - len(todo),
            unit="image",
            desc=f"render {work.domain.name}",
            disable=not (progress and sys.stderr.isatty()),
        )
        with bar:
            for number in _here(work, todo) if count == 1 else _spread(work, count):
                bar.update(number)
    left = work.missing(work.truth)
    if left:
        raise ReidError(f"{len(left)} pictures of {out} are still missing; call render again to finish it")
    if work.truth:
        for folder in layout.folders:
            if not (out / truths.file_of(folder)).exists():
                truths.gathered(out, folder, [shot for shot in work.shots if shot.folder == folder], TEMPORARY)
        for log in out.glob(truths.LOGS):
            log.unlink()
    if not whole:
        for name, content in layout.files(work.domain, work.head["scale"], work.head["seed"]).items():
            _replace(out / name, content)
        counts = Counter(shot.folder for shot in work.shots)
        _save(out / MANIFEST, {**work.head, "counts": {folder: counts[folder] for folder in layout.folders}})
        (out / UNFINISHED).unlink(missing_ok=True)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other renders out of the folder; one that comes second waits here, then finds the work done."""
    folder = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ReidError(f"device {device!r} cannot be used to render ({reason}); use cpu") from error


def draw(
    chosen: Domain, seed: int, out: Path, shots: Sequence[Shot], device: str, truth: bool, number: int = 0
) -> Iterator[int]:
    """Render and write pictures and, in the log of worker `number`, their truth; yields how many, batch by batch.

    A picture that is there already keeps its file.
    """
    batch = BATCH if device == "cpu" else DEVICE_BATCH
    with truths.open_log(out, number) if truth else nullcontext() as log:
        for start in range(0, len(shots), batch):
            some = shots[start : start + batch]
            pictures = [compose(chosen, seed, shot) for shot in some]
            rendered = pixels(pictures, device)
            if log:
                masks, hidden = rendered.parts.cpu().numpy(), rendered.hidden.tolist()
                lines = (
                    truths.line_of(shot, {**picture.factors, "occlusion": share}, mask)
                    for shot, picture, share, mask in zip(some, pictures, hidden, masks, strict=True)
                )
                log.write(b"".join(lines))
                log.flush()
            for shot, picture, image in zip(some, pictures, rendered.images.cpu().numpy(), strict=True):
                _write_picture(out / shot.path, image, picture.quality, chosen.variant.resolution)
            yield len(some)


def _write_picture(path: Path, pixels: np.ndarray, quality: int, resolution: float | None) -> None:
    if path.exists() and path.stat().st_size:
        return
    image = Image.fromarray(pixels)
    if resolution is not None:
        size = tuple(max(1, round(resolution * side)) for side in image.size)
        image = image.resize(size, Image.Resampling.BOX)
    part = path.with_suffix(TEMPORARY)
    image.save(part, format="JPEG", quality=quality, optimize=True)  # an eighth smaller, the same pixels
    os.replace(part, path)


def _here(work: _Work, todo: list[Shot]) -> Iterator[int]:
    """Render in this process, with one thread: more would only wait for each other on such small pieces."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from draw(work.domain, work.head["seed"], work.out, todo, work.device, work.truth)
    finally:
        torch.set_num_threads(threads)


def _spread(work: _Work, count: int) -> Iterator[int]:
    """Render in `count` processes of their own, each with its share of what is missing.

    They are started by command line, not forked: a fork of a process whose torch has run threads may hang, and a
    spawned pool would import the caller's main module again.
    """
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    processes = []
    try:
        for number in range(count):
            share = {
                **{key: work.head[key] for key in ("name", "scale", "seed")},
                "variant": asdict(work.domain.variant),
                "out": str(work.out),
                "number": number,
                "count": count,
                "device": work.device,
                "truth": work.truth,
            }
            command = [sys.executable, "-m", "reidlib.standin.worker", json.dumps(share)]
            processes.append(
                subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            )
        yield from _reports(processes, work.out)
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
            process.wait()
            process.stdout.close()


def _reports(processes: list[subprocess.Popen], out: Path) -> Iterator[int]:
    """The workers' lines, in turn: a number of pictures, or why a worker stopped."""
    alive = list(processes)
    while alive:
        for process in list(alive):
            line = process.stdout.readline()
            if line.strip().isdigit():
                yield int(line)
            elif line.startswith("stop "):
                raise ReidError(line[5:].strip())
            elif not line:
                alive.remove(process)
                if process.wait() != 0:
                    raise ReidError(
                        f"a worker rendering {out} ended with {process.returncode}; call render again to go on"
                    )


def _workers(asked: int | None, pictures: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if asked is None:
        return max(1, min(cores, pictures // PICTURES_A_WORKER))
    if asked < 1:
        raise ReidError(f"workers is {asked}; give at least 1")
    return max(1, min(asked, pictures))


def _prepare(work: _Work) -> None:
    """Make the folders; refuse a folder that holds anything but this very stand-in."""
    out, head, layout, shots = work.out, work.head, work.domain.layout, work.shots
    if out.exists() and not out.is_dir():
        raise ReidError(f"{out} is a file, not a folder; give another folder with --out")
    for name in (MANIFEST, UNFINISHED):
        path = out / name
        if not path.exists():
            continue
        there = _read(path)
        if there is None:
            raise ReidError(f"{path} is not readable as JSON; delete the folder {out} or give another one")
        for key in ("name", "version", "scale", "seed", "digest"):
            if there.get(key) != head[key]:
                raise ReidError(
                    f"{out} holds another stand-in ({key} {there.get(key)}, asked for {head[key]}); "
                    "delete it or give another folder"
                )
    out.mkdir(parents=True, exist_ok=True)
    files = [MANIFEST, UNFINISHED, *map(truths.file_of, layout.folders), *layout.names]
    expected = {shot.path for shot in shots} | set(files)
    expected |= {path.rpartition(".")[0] + TEMPORARY for path in expected}
    folders = {str(PurePosixPath(shot.path).parent) for shot in shots}
    parents = folders | {str(parent) for path in folders for parent in PurePosixPath(path).parents}
    for where, inner, names in os.walk(out):
        below = Path(where).relative_to(out)
        strange = [name for name in inner if (below / name).as_posix() not in parents]
        strange += [
            name
            for name in names
            if (below / name).as_posix() not in expected and not fnmatchcase((below / name).as_posix(), truths.LOGS)
        ]
        if strange:
            raise ReidError(
                f"{out / below / min(strange)} is not part of the stand-in; move it away or give another folder"
            )
    for path in folders:
        (out / path).mkdir(parents=True, exist_ok=True)


def missing(out: Path, chosen: Domain, shots: Sequence[Shot], truth: bool) -> list[Shot]:
    """The pictures that are not there, and with `truth` also those of which nothing is noted yet."""
    there = {folder: _pictures(out / folder) for folder in chosen.layout.folders}
    unknown = {folder for folder in there if truth and not (out / truths.file_of(folder)).exists()}
    noted = truths.noted(out) if unknown else set()
    return [
        shot
        for shot in shots
        if shot.name not in there[shot.folder] or (shot.folder in unknown and shot.path not in noted)
    ]


def _pictures(folder: Path) -> set[str]:
    """Names, from `folder`, of the JPEG files that are not empty (a crash of the machine can leave empty ones)."""
    found, inner = set(), [""]
    while inner:
        below = inner.pop()
        if not (folder / below).is_dir():
            continue
        with os.scandir(folder / below) as entries:
            for entry in entries:
                name = below + entry.name
                if entry.is_dir():
                    inner.append(name + "/")
                elif name.endswith(".jpg") and entry.stat().st_size:
                    found.add(name)
    return found


def _read(path: Path) -> dict | None:
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def _save(path: Path, said: dict) -> None:
    _replace(path, (json.dumps(said, indent=2) + "\n").encode())


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_suffix(TEMPORARY)
    part.write_bytes(content)
    os.replace(part, path)


def readable(error: OSError, out: Path) -> ReidError:
    """An error of the file system in one line, with its remedy."""
    if error.errno == errno.ENOSPC:
        return ReidError(
            f"the disk of {out} is full; free some space and call render again, it goes on where it stopped"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ReidError(f"{error.filename or out} cannot be written; give another folder or change its permissions")
    return ReidError(
        f"writing the stand-in to {out} failed ({error.strerror or error}); mend that and call render again"
    )
