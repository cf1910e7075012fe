"""The devices of this machine, and the places on them where runs are trained."""

import os
import platform
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reidlib.spec import ReidError

VISIBLE = "CUDA_VISIBLE_DEVICES"
USE_CPU = f"set {VISIBLE}= (empty) to use the CPU"


@dataclass(frozen=True)
class Device:
    """One GPU, or the CPU."""

    id: str  #: what CUDA_VISIBLE_DEVICES calls a GPU; "cpu" for the CPU
    name: str  #: as its maker calls it
    memory_mb: float  #: all of it, 0 where it is not known

    @property
    def is_gpu(self) -> bool:
        return self.id != "cpu"

    @property
    def kind(self) -> str:
        """ "cpu" or "cuda", as torch and the records say it."""
        return "cuda" if self.is_gpu else "cpu"


@dataclass(frozen=True)
class Place:
    """Where one worker trains: a device or a share of one."""

    device: Device
    threads: int  #: of the CPU
    sharing: int = 1  #: places on the device


def many(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def places(gpus: str = "all", *, per_gpu: int = 1, threads: int | None = None) -> list[Place]:
    """All places of this machine: `per_gpu` on each GPU; without a GPU one for each `threads` cores. threads: CPU
    threads of each place. None: 1 on a CPU, where two runs with one thread each are faster than one run with two
    (README); beside GPUs an equal share of the cores."""
    found = devices(gpus)
    if not found[0].is_gpu:
        at_once = max(1, cores() // (threads or 1))
        return [Place(found[0], threads or 1, at_once)] * at_once
    own = threads or max(1, cores() // (len(found) * per_gpu))
    return [Place(device, own, per_gpu) for _ in range(per_gpu) for device in found]


def devices(asked: str = "all") -> list[Device]:
    """The GPUs asked for ("all", or numbers such as "0,1" as nvidia-smi counts them); the CPU where there is none.

    Where a scheduler has given this process some GPUs (CUDA_VISIBLE_DEVICES), "all" means those."""
    given = os.environ.get(VISIBLE) if asked == "all" else asked
    words = [word.strip() for word in given.split(",")] if given is not None else []
    names = list(dict.fromkeys(word for word in words if word or asked != "all"))
    found = _gpus() if names or given is None else []  # an empty variable helps where nvidia-smi fails
    known = {str(number): device for number, device in enumerate(found)}
    if asked != "all" and (unknown := [name for name in names if name not in known]):
        listed = ", ".join(f"{number} ({device.name})" for number, device in known.items()) or "none"
        what = f"no GPU {unknown[0]!r} on this machine, which has {listed}"
        raise ReidError(f"--gpus {asked}: {what}; give numbers of these, or leave it out")
    if names:
        memory = found[0].memory_mb if found else 0.0
        # nvidia-smi lists no slices, and no short forms of a name. Other words (-1, NoDevFiles) mean none.
        unlisted = {name: Device(name, "GPU", memory) for name in names if name.startswith(("MIG-", "GPU-"))}
        known = unlisted | known | {device.id: device for device in found}
        found = [known[name] for name in names if name in known]
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
    reason = "it finds no GPU"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as fault:
        reason = str(fault).splitlines()[0]
    remedy = f"update the driver, install a torch for this driver, or {USE_CPU}"
    raise ReidError(f"{device.name} ({device.id}): torch {torch.__version__} cannot use it ({reason}); {remedy}")


def processor() -> str:
    """The CPU as its maker calls it."""
    with suppress(OSError, StopIteration), open("/proc/cpuinfo", encoding="utf-8") as stream:
        return next(line.split(":", 1)[1].strip() for line in stream if line.startswith("model name"))
    return platform.processor() or platform.machine()


def cores() -> int:
    """CPU cores that this process may use: those it may run on, or fewer where a container has a share of them."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # ValueError: "max", no limit
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return max(1, min(count, round(int(quota) / int(period))))
    return count


def memory_mb() -> float:
    """This machine's memory, or what a container is allowed of it."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    with suppress(OSError, ValueError):
        return min(whole, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")) / 2**20)
    return whole
