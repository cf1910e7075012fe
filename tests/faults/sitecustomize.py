"""Kills or delays processes of the study at chosen moments: on PYTHONPATH, every Python reads this file as it starts.

The folder REID_FAULTS holds one file a fault, each used up once, by whichever process meets its moment first. A file
says EVENT END: the name of one of Python's audit events, and how the path in it ends ("os.rename checkpoint.partial").
"call FILE:FUNCTION:N" is the N-th call of a function in the main thread of a process. The process kills itself with
SIGKILL: nothing can be tidied up. "hold FILE:FUNCTION:N" has it sleep there, and its file moves beside REID_FAULTS.
"""

import os
import signal
import sys
import time
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


def _count(frame, event: str, argument: object) -> None:
    """Of every call in the main thread: kills or holds the process when the call is one that a fault names."""
    code = frame.f_code
    if event != "call" or code.co_name not in CALLS:
        return
    file, seen = CALLS[code.co_name]
    if code.co_filename.endswith(file):
        CALLS[code.co_name] = (file, seen + 1)
        for fault, (name, end) in MOMENTS.items():
            if end == f"{file}:{code.co_name}:{seen + 1}":
                if name == "call":
                    _meets(fault)
                elif fault.exists():
                    sys.setprofile(None)
                    fault.rename(FAULTS.with_name(fault.name))
                    time.sleep(600)


if FAULTS and FAULTS.is_dir():
    MOMENTS = {file: file.read_text().split() for file in sorted(FAULTS.iterdir())}
    sys.addaudithook(_watch)
    named = [end.split(":") for name, end in MOMENTS.values() if name in ("call", "hold")]
    if CALLS := {function: (file, 0) for file, function, _ in named}:
        sys.setprofile(_count)
