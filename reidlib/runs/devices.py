"""The devices of this machine, and the places on them where runs are trained."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from reidlib.spec import ReidError

VISIBLE = "CUDA_VISIBLE_DEVICES"

USE_CPU = f"set {VISIBLE}= (empty) to use the CPU"


@dataclass(frozen=True)
class Device:
    """One GPU, or the CPU.

    id: what CUDA_VISIBLE_DEVICES calls a GPU; "cpu" for the CPU. name: as its maker calls it. memory_mb: all of it,
    0 where it is not known.
    """

    id: str
    name: str
    memory_mb: float

    @property
    def is_gpu(self) -> bool:
        return self.id != "cpu"

    @property
    def kind(self) -> str:
        """ "cpu" or "cuda", as torch and the records say it."""
        return "cuda" if self.is_gpu else "cpu"


@dataclass(frozen=True)
class Place:
    """Where one worker trains: a device or a share of one, with so many CPU threads. sharing: places on the device."""

    device: Device
    threads: int
    sharing: int = 1


def places(gpus: str = "all", *, per_gpu: int = 1, threads: int | None = None) -> list[Place]:
    """All places of this machine: `per_gpu` on each GPU; without a GPU one for each `threads` cores.

    threads: CPU threads of each place. None: 1 on a CPU, where two runs with one thread each are faster than one run
    with two (README); beside GPUs an equal share of the cores.
    """
    found = devices(gpus)
    if found[0].is_gpu:
        own = threads or max(1, cores() // (len(found) * per_gpu))
        return [Place(device, own, per_gpu) for _ in range(per_gpu) for device in found]
    many = max(1, cores() // (threads or 1))
    return [Place(found[0], threads or 1, many)] * many


def devices(asked: str = "all") -> list[Device]:
    """The GPUs asked for ("all", or numbers such as "0,1" as nvidia-smi counts them); the CPU where there is none.

    Where a scheduler has given this process some GPUs (CUDA_VISIBLE_DEVICES), "all" means those.
    """
    given = os.environ.get(VISIBLE) if asked == "all" else None
    names = [name.strip() for name in (given or "").split(",") if name.strip()]
    found = _gpus() if names or given is None else []  # an empty variable helps where nvidia-smi fails
    if names:
        known = {str(number): device for number, device in enumerate(found)} | {device.id: device for device in found}
        memory = found[0].memory_mb if found else 0.0
        # nvidia-smi lists no slices, and no short forms of a name. Other words (-1, NoDevFiles) mean none.
        unlisted = {name: Device(name, "GPU", memory) for name in names if name.startswith(("MIG-", "GPU-"))}
        found = [(unlisted | known)[name] for name in names if name in unlisted | known]
    elif asked != "all":
        numbers = list(dict.fromkeys(number.strip() for number in asked.split(",")))
        known = {str(number): device for number, device in enumerate(found)}
        for number in numbers:
            if number not in known:
                listed = ", ".join(f"{n} ({device.name})" for n, device in known.items()) or "none"
                raise ReidError(f"--gpus {asked}: no GPU {number!r} on this machine; it has {listed}")
        found = [known[number] for number in numbers]
    return found or [Device("cpu", processor(), memory_mb())]


def _gpus() -> list[Device]:
    """What nvidia-smi lists. Torch would open the driver in this process, and keep memory on the first GPU."""
    line = ["nvidia-smi", "--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits"]
    if not shutil.which(line[0]):
        return []
    try:
        asked = subprocess.run(line, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as fault:
        raise ReidError(f"nvidia-smi fails ({fault}); repair the driver, or {USE_CPU}") from None
    said = asked.stdout
    if asked.returncode and "No devices were found" not in said + asked.stderr:
        words = (said + asked.stderr).strip().splitlines() or [f"it ended with {asked.returncode}"]
        raise ReidError(f"nvidia-smi fails ({words[0]}); repair the driver, or {USE_CPU}")
    rows = [[word.strip() for word in row.split(",")] for row in said.splitlines() if row.count(",") == 2]
    # Machines whose CPU and GPU share their memory may print no number.
    return [Device(uuid, name, float(memory) if memory.isdigit() else 0.0) for uuid, name, memory in rows]


def check_usable(device: Device) -> None:
    """Refuses a GPU that torch cannot use, with the reason. This opens CUDA in the process."""
    import torch  # here, so that a list of devices does not wait for it

    if not device.is_gpu or torch.cuda.is_available():
        return
    try:
        torch.cuda.init()
        reason = "it finds no GPU"
    except (RuntimeError, AssertionError) as fault:
        reason = str(fault).splitlines()[0]
    raise ReidError(
        f"{device.name} ({device.id}): torch {torch.__version__} cannot use it ({reason}); update the driver, "
        f"install a torch for this driver, or {USE_CPU}"
    )


def processor() -> str:
    """The CPU as its maker calls it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            return next(line.split(":", 1)[1].strip() for line in stream if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cores() -> int:
    """CPU cores that this process may use: those it may run on, or fewer where a container has a share of them."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return max(1, min(count, round(int(quota) / int(period))))
    except (OSError, ValueError):  # ValueError: "max", no limit
        return count


def memory_mb() -> float:
    """This machine's memory, or what a container is allowed of it."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    try:
        allowed = Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
    except OSError:
        return whole
    return min(whole, int(allowed) / 2**20) if allowed.isdigit() else whole
