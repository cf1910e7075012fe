"""Kills or delays processes of the study at chosen moments: on PYTHONPATH, every Python reads this file as it starts.

The folder REID_FAULTS holds one file a fault, each used up once, by whichever process meets its moment first. A file
says EVENT END: the name of one of Python's audit events, and how the path in it ends ("os.rename checkpoint.partial").
"after SECONDS" is a moment in a worker of the batch. The process kills itself with SIGKILL: nothing can be tidied up.
"""

import os
import signal
import sys
import threading
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


if FAULTS and FAULTS.is_dir():
    MOMENTS = {file: file.read_text().split() for file in sorted(FAULTS.iterdir())}
    sys.addaudithook(_watch)
    if "reidlib.runs.worker" in sys.orig_argv:
        for file, (name, value) in MOMENTS.items():
            if name == "after":
                clock = threading.Timer(float(value), _meets, [file])
                clock.daemon = True
                clock.start()
                break
