"""The devices of this machine, and leases on them: a run holds its device as long as its process lives.

A lease is a lock on a file, one a place on a device. The kernel frees it when the process dies, however it dies, so
nothing has to be cleaned up after a crash. The files lie in the machine's folder for temporary files, not in the
cache: two batches with caches of their own still share the devices.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from reidlib.spec import ReidError

VISIBLE = "CUDA_VISIBLE_DEVICES"

PROCESSOR = f"set {VISIBLE}= (empty) to use the processor"

PLACES = 16
"""Places of a device that `alone` looks at; nobody has so many runs share one."""


@dataclass(frozen=True)
class Device:
    """One GPU, or the processor.

    id: what CUDA_VISIBLE_DEVICES calls a GPU; "cpu" for the processor. name: the maker's. memory_mb: in all.
    """

    id: str
    name: str
    memory_mb: float

    @property
    def is_gpu(self) -> bool:
        return self.id != "cpu"


def devices(asked: str = "all") -> list[Device]:
    """The GPUs asked for ("all", or numbers such as "0,1" as nvidia-smi counts them); the processor where none is.

    Where a scheduler has given this process some GPUs (CUDA_VISIBLE_DEVICES), "all" means those.
    """
    given = os.environ.get(VISIBLE) if asked == "all" else None
    names = [name.strip() for name in (given or "").split(",") if name.strip()]
    there = _gpus() if names or given is None else []  # nvidia-smi may fail; no GPUs given is the way round that
    if names:
        known = {str(number): device for number, device in enumerate(there)} | {device.id: device for device in there}
        memory = there[0].memory_mb if there else 0.0
        # nvidia-smi lists no slices, and no short forms of a name. Other words (-1, NoDevFiles) mean none.
        unlisted = {name: Device(name, "GPU", memory) for name in names if name.startswith(("MIG-", "GPU-"))}
        there = [(unlisted | known)[name] for name in names if name in unlisted | known]
    elif asked != "all":
        numbers = [number.strip() for number in asked.split(",")]
        unknown = [number for number in numbers if not number.isdigit() or int(number) >= len(there)]
        if unknown:
            found = ", ".join(f"{n} ({device.name})" for n, device in enumerate(there)) or "none"
            raise ReidError(f"--gpus {asked}: no GPU {unknown[0]!r} on this machine; it has {found}")
        there = [there[int(number)] for number in numbers]
    return there or [Device("cpu", processor(), _memory_mb())]


def _gpus() -> list[Device]:
    """What nvidia-smi lists. Asking torch would open the driver in this process, and keep memory on the first GPU."""
    line = ["nvidia-smi", "--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits"]
    if not shutil.which(line[0]):
        return []
    try:
        asked = subprocess.run(line, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as fault:
        raise ReidError(f"nvidia-smi fails ({fault}); mend the driver, or {PROCESSOR}") from None
    said = asked.stdout
    if asked.returncode and "No devices were found" not in said + asked.stderr:
        words = (said + asked.stderr).strip().splitlines() or [f"it ended with {asked.returncode}"]
        raise ReidError(f"nvidia-smi fails ({words[0]}); mend the driver, or {PROCESSOR}")
    rows = [[word.strip() for word in row.split(",")] for row in said.splitlines() if row.count(",") == 2]
    # Some machines with memory of their own for CPU and GPU print no number.
    return [Device(uuid, name, float(memory) if memory.isdigit() else 0.0) for uuid, name, memory in rows]


def demand_usable(device: Device) -> None:
    """Refuses a GPU that torch cannot use: runs would train on the processor, unseen, while they hold the GPU's place.

    This opens CUDA, so the process must have its device already.
    """
    import torch  # late, and here alone: who only asks what there is need not wait for it

    if not device.is_gpu or torch.cuda.is_available():
        return
    try:
        torch.cuda.init()
        reason = "it finds no GPU"
    except (RuntimeError, AssertionError) as fault:
        reason = str(fault).splitlines()[0]
    raise ReidError(
        f"{device.name} ({device.id}): torch {torch.__version__} cannot use it ({reason}); update the driver, "
        f"install a torch for the driver at hand, or {PROCESSOR}"
    )


def processor() -> str:
    """The maker's name of the processor."""
    try:
        with open("/proc/cpuinfo") as stream:
            return next(line.split(":", 1)[1].strip() for line in stream if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_mb() -> float:
    """This machine's memory, or what a container is allowed of it."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    try:
        allowed = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return whole
    return min(whole, int(allowed) / 2**20) if allowed.isdigit() else whole


@contextmanager
def lease(
    among: Sequence[Device], per_device: int = 1, log: Callable[[str], None] = print, every: float = 0.5
) -> Iterator[Device]:
    """Holds one of `per_device` places on a device, waiting until one is free; emptier devices first.

    A GPU is made the only one that this process sees, so torch must not have opened CUDA before.
    """
    places = [(device, _place(device, number)) for number in range(per_device) for device in among]
    waited = False
    while True:
        for device, file in places:
            stream = _locked(file)
            if not stream:
                continue
            with stream:
                if device.is_gpu:
                    os.environ[VISIBLE] = device.id
                log(f"device: {device.name} ({file.name})")
                yield device
            return
        if not waited:
            log(f"waiting for one of {len(places)} places on {len(among)} devices")
            waited = True
        time.sleep(every)


@contextmanager
def alone(device: Device) -> Iterator[bool]:
    """Whether no run has a place on the device; where none has, none gets one before this ends.

    Whoever else asks this waits: two measurements are not to disturb each other.
    """
    with ExitStack() as held:
        turn = held.enter_context(_place(device, "turn").open("a+"))
        fcntl.flock(turn, fcntl.LOCK_EX)
        places = [held.enter_context(got) for number in range(PLACES) if (got := _locked(_place(device, number)))]
        free = len(places) == PLACES
        if not free:
            for stream in places:
                stream.close()
        yield free


def _place(device: Device, number: int | str) -> Path:
    folder = Path(tempfile.gettempdir()) / f"reid-devices-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{re.sub(r'[^A-Za-z0-9.-]', '-', device.id)}.{number}"  # old names of slices hold a slash


def _locked(file: Path) -> TextIO | None:
    """The file, open and locked; None where another process has locked it."""
    stream = file.open("a+")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return None
    return stream
