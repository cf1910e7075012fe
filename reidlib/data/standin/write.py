"""Rendering to disk: folders, workers, resuming, and the manifest that is written last.

A picture gets its final name only when its file is complete, and the manifest appears only when every picture has its
name; so a set that was interrupted is never mistaken for a whole one, and the next call goes on where it stopped.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from reidlib.spec import ReidError

from .domain import Domain
from .market1501 import MARKET1501
from .plan import FOLDERS, Shot, plan
from .rendering import pixels
from .scene import compose

VERSION = 1
MANIFEST = "standin.json"
UNFINISHED = "standin.unfinished.json"
TEMPORARY = ".part"
BATCH = 8
PICTURES_A_WORKER = 400

DOMAINS: dict[str, Domain] = {MARKET1501.name: MARKET1501}


def domain(name: str) -> Domain:
    """The domain of a stand-in, by the data set's name."""
    if name not in DOMAINS:
        raise ReidError(f"no stand-in is called {name!r}; known: {', '.join(sorted(DOMAINS))}")
    return DOMAINS[name]


def digest(name: str, *, scale: float, seed: int) -> str:
    """A short hash of renderer version, the domain's parameters, scale and seed; never of bytes."""
    words = {"version": VERSION, "domain": asdict(domain(name)), "scale": float(scale), "seed": int(seed)}
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:16]


def is_complete(folder: Path) -> bool:
    """Whether the folder holds a whole stand-in: a manifest, and as many pictures as it counts."""
    manifest = _read(Path(folder) / MANIFEST)
    if not manifest or not isinstance(manifest.get("counts"), dict):
        return False
    return all(len(_pictures(Path(folder) / part)) == manifest["counts"].get(part) for part in FOLDERS)


def render(
    name: str,
    *,
    scale: float,
    seed: int,
    out: Path,
    workers: int | None = None,
    device: str = "cpu",
    progress: bool = True,
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

    Returns
    -------
    Path
        `out`, complete.
    """
    chosen = domain(name)
    if not 0 < scale <= 1:
        raise ReidError(f"scale {scale} of the stand-in {name!r} is not between 0 and 1; choose for example 0.05")
    _check_device(device)
    out = Path(out)
    shots = plan(chosen, scale, seed)
    head = {
        "name": name,
        "version": VERSION,
        "scale": float(scale),
        "seed": int(seed),
        "digest": digest(name, scale=scale, seed=seed),
    }
    try:
        _prepare(out, head, shots)
        with _alone(out):
            _complete(chosen, head, shots, out, workers, device, progress)
    except OSError as error:
        raise _readable(error, out) from error
    return out


def _complete(
    chosen: Domain, head: dict, shots: list[Shot], out: Path, workers: int | None, device: str, progress: bool
) -> None:
    """Render what is missing, then write the manifest."""
    todo = _missing(out, shots)
    if not todo and _read(out / MANIFEST):
        return
    # From here until the end the set is marked as unfinished.
    (out / MANIFEST).unlink(missing_ok=True)
    _save(out / UNFINISHED, head)
    for part in FOLDERS:
        for path in (out / part).glob("*" + TEMPORARY):
            path.unlink()
    count = _workers(workers, len(todo))
    bar = tqdm(
        total=len(shots),
        initial=len(shots) - len(todo),
        unit="image",
        desc=f"render {chosen.name}",
        disable=not (progress and sys.stderr.isatty()),
    )
    with bar:
        done = _here(chosen, head["seed"], out, todo, device) if count == 1 else _spread(head, out, count, device)
        for number in done:
            bar.update(number)
    left = _missing(out, shots)
    if left:
        raise ReidError(f"{len(left)} pictures of {out} are still missing; call render again to finish it")
    counts = Counter(shot.folder for shot in shots)
    _save(out / MANIFEST, {**head, "counts": {part: counts[part] for part in FOLDERS}})
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


def draw(chosen: Domain, seed: int, out: Path, shots: Sequence[Shot], device: str, batch: int = BATCH) -> Iterator[int]:
    """Render and write pictures, batch by batch; yields how many were written."""
    for start in range(0, len(shots), batch):
        some = shots[start : start + batch]
        pictures = [compose(chosen, seed, shot) for shot in some]
        images, _ = pixels(pictures, device)
        for shot, picture, image in zip(some, pictures, images.cpu().numpy(), strict=True):
            path = out / shot.folder / shot.name
            part = path.with_suffix(TEMPORARY)
            Image.fromarray(image).save(part, format="JPEG", quality=picture.quality)
            os.replace(part, path)
        yield len(some)


def _here(chosen: Domain, seed: int, out: Path, todo: list[Shot], device: str) -> Iterator[int]:
    """Render in this process, with one thread: more would only wait for each other on such small pieces."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from draw(chosen, seed, out, todo, device)
    finally:
        torch.set_num_threads(threads)


def _spread(head: dict, out: Path, count: int, device: str) -> Iterator[int]:
    """Render in `count` processes of their own, each with its share of what is missing.

    They are started by command line, not forked: a fork of a process whose torch has run threads may hang, and a
    spawned pool would import the caller's main module again.
    """
    root = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    processes = []
    try:
        for number in range(count):
            words = {
                "name": head["name"],
                "scale": head["scale"],
                "seed": head["seed"],
                "out": str(out),
                "number": number,
                "count": count,
                "device": device,
            }
            command = [sys.executable, "-m", "reidlib.data.standin.worker", json.dumps(words)]
            processes.append(
                subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            )
        yield from _reports(processes, out)
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


def _prepare(out: Path, head: dict, shots: Sequence[Shot]) -> None:
    """Make the folders; refuse a folder that holds anything but this very stand-in."""
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
    expected = {part: {shot.name for shot in shots if shot.folder == part} for part in FOLDERS}
    out.mkdir(parents=True, exist_ok=True)
    for entry in sorted(os.listdir(out)):
        if entry not in (*FOLDERS, MANIFEST, UNFINISHED, MANIFEST + TEMPORARY, UNFINISHED + TEMPORARY):
            raise ReidError(f"{out / entry} is not part of the stand-in; move it away or give another folder")
    for part in FOLDERS:
        (out / part).mkdir(exist_ok=True)
        for entry in sorted(os.listdir(out / part)):
            picture = entry.removesuffix(TEMPORARY) + ".jpg" if entry.endswith(TEMPORARY) else entry
            if picture not in expected[part]:
                raise ReidError(
                    f"{out / part / entry} is not part of the stand-in; move it away or give another folder"
                )


def _missing(out: Path, shots: Sequence[Shot]) -> list[Shot]:
    there = {part: _pictures(out / part) for part in FOLDERS}
    return [shot for shot in shots if shot.name not in there[shot.folder]]


def _pictures(folder: Path) -> set[str]:
    """Names of the JPEG files that are not empty (a crash of the machine can leave empty ones)."""
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.name.endswith(".jpg") and entry.stat().st_size}


def _read(path: Path) -> dict | None:
    try:
        words = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return words if isinstance(words, dict) else None


def _save(path: Path, words: dict) -> None:
    part = path.with_name(path.name + TEMPORARY)
    part.write_text(json.dumps(words, indent=2) + "\n")
    os.replace(part, path)


def _readable(error: OSError, out: Path) -> ReidError:
    if error.errno == errno.ENOSPC:
        return ReidError(
            f"the disk of {out} is full; free some space and call render again, it goes on where it stopped"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ReidError(f"{error.filename or out} cannot be written; give another folder or change its permissions")
    return ReidError(
        f"writing the stand-in to {out} failed ({error.strerror or error}); mend that and call render again"
    )
