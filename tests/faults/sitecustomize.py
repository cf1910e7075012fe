"""Kills or delays processes of the study at chosen moments: on PYTHONPATH, every Python reads this file as it starts.

The folder REID_FAULTS holds one file a fault, each used up once, by whichever process meets its moment first. A file
says EVENT END: the name of one of Python's audit events, and how the path in it ends ("os.rename .json.partial").
"call FILE:FUNCTION:N" is the N-th call of a function of reidlib in the main thread of a process. The process kills
itself with SIGKILL: nothing can be tidied up. "hold FILE:FUNCTION:N" has it sleep there, and its file moves beside
REID_FAULTS. Where REID_NARROW is set, every ResNet-50 is the narrow one of warm.py.
"""

import functools
import itertools
import os
import signal
import sys
import threading
import time
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path

FAULTS = Path(os.environ["REID_FAULTS"]) if os.environ.get("REID_FAULTS") else None


def _meets(fault: Path) -> None:
    """Uses up the fault, if no other process has, and dies of it."""
    try:
        fault.unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _watch(event: str, arguments: tuple) -> None:
    if event not in ("open", "os.rename"):
        return
    paths = [str(path) for path in arguments[:2] if isinstance(path, str | os.PathLike)]
    writes = event == "os.rename" or any(letter in str(arguments[1]) for letter in "wax+")
    if writes and not any(path.startswith(str(FAULTS)) for path in paths):
        for fault, (name, end) in list(MOMENTS.items()):
            if name == event and any(path.endswith(end) for path in paths):
                _meets(fault)


def _watched(function, counted: dict[int, Path]):
    """The function, which meets its moment at the calls that are named."""
    seen = itertools.count(1)

    @functools.wraps(function)
    def call(*given, **named):
        main = threading.current_thread() is threading.main_thread()
        if main and (fault := counted.get(next(seen))) and fault.exists():
            if MOMENTS[fault][0] == "call":
                _meets(fault)
            else:
                fault.rename(FAULTS.with_name(fault.name))
                time.sleep(600)
        return function(*given, **named)

    return call


class _Loader(SourceFileLoader):
    """Watches functions of a module from its import on; a profiler would make every import twice as slow."""

    def exec_module(self, module) -> None:
        super().exec_module(module)
        for function, counted in CALLS[module.__name__].items():
            setattr(module, function, _watched(getattr(module, function), counted))


class _Narrow(SourceFileLoader):
    """Of torchvision.models.resnet."""

    def exec_module(self, module) -> None:
        super().exec_module(module)
        module.resnet50 = lambda weights=None: module.ResNet(module.Bottleneck, [1, 1, 1, 1], width_per_group=8)


class _Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        found = super().find_spec(name, path, target) if name in LOADERS else None
        if found:
            found.loader = LOADERS[name](name, found.origin)
        return found


LOADERS = {"torchvision.models.resnet": _Narrow} if os.environ.get("REID_NARROW") else {}
if FAULTS and FAULTS.is_dir():
    MOMENTS = {file: file.read_text().split() for file in sorted(FAULTS.iterdir())}
    sys.addaudithook(_watch)
    CALLS = {}
    for fault, (kind, end) in MOMENTS.items():
        if kind in ("call", "hold"):
            file, function, number = end.split(":")
            module = "reidlib." + file.removesuffix(".py").replace("/", ".")
            CALLS.setdefault(module, {}).setdefault(function, {})[int(number)] = fault
    LOADERS |= dict.fromkeys(CALLS, _Loader)
if LOADERS:
    sys.meta_path.insert(0, _Finder)
