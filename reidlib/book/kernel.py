"""Execution of one notebook by papermill, in a kernel that prints no warning and ends with its process."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any


def execute(source: Path, target: Path, parameters: dict[str, Any], *, cwd: Path, quiet: bool = False) -> None:
    """Executes the notebook `source` with these parameters in the folder `cwd`, and writes the result to `target`.

    quiet: what the cells print is not repeated. The kernel ends with this call, also on a signal. Raises
    PapermillExecutionError if a cell fails, RuntimeError if the kernel dies.
    """
    import papermill
    from traitlets.config import Config

    # The debugger that the kernel imports would warn about Python's frozen modules. Nobody debugs these notebooks.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    # The kernel warns about a connection without encryption, so it is encrypted.
    config = Config({"KernelManager": {"transport_encryption": "auto"}})
    try:
        with termination_raises():
            papermill.execute_notebook(
                source,
                target,
                parameters=parameters,
                kernel_name="python3",  # the Python of this process, whatever other kernels are installed
                cwd=str(cwd),
                progress_bar=False,
                log_output=False,
                stdout_file=None if quiet else sys.stdout,
                stderr_file=None if quiet else sys.stderr,
                config=config,
                shutdown_kernel="immediate",  # a kernel that still executes a cell would not answer a polite request
            )
    except (KeyboardInterrupt, SystemExit):
        # The client's task still waits for a kernel that was ended on purpose; asyncio would print its traceback.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise


@contextmanager
def termination_raises() -> Generator[None]:
    """SIGTERM and SIGHUP raise SystemExit inside this block, so that what a process has started ends before itself. A
    handler that the program has installed stays, and so does nohup's. Python allows handlers only in the main thread.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    main = threading.current_thread() is threading.main_thread()
    numbers = [one for one in (signal.SIGTERM, signal.SIGHUP) if main and signal.getsignal(one) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
