"""Locks between processes, which the kernel frees when their holder dies."""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from reidlib.runs import records
from reidlib.spec import Busy

TRIES = 4  #: How often a lock is tried before it counts as held: `holder_of` holds it briefly to test it


@contextmanager
def locked(file: Path, *, wait: bool = False, holder: str = "") -> Generator[None]:
    """Holds a lock that the kernel frees when the process dies. Without `wait`, a held lock raises Busy."""
    if not file.parent.is_dir():  # the first thing that is made in a new cache
        records.prepare_cache()
        file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", encoding="utf-8") as stream:
        for left in reversed(range(TRIES)):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                break
            except BlockingIOError:
                if not left:
                    stream.seek(0)
                    who = f"is being made by process {stream.read().strip() or '?'} (lock {file})"
                    raise Busy(f"{holder or file.name} {who}; wait for it, or stop that process") from None
                time.sleep(0.05)
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def holder_of(file: Path) -> str | None:
    """The number of the process that holds a lock ("?" where it is unknown); None where no process holds it."""
    with suppress(FileNotFoundError), file.open(encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return stream.read().strip() or "?"
    return None
