"""Runs the workflow, one driver at a time; all arguments go on to Snakemake.

    pip install .[batch]
    python workflow/run.py --cores 8 --config budget=medium 'seeds=0,1,2'                     # this machine
    python workflow/run.py --profile workflow/profiles/slurm --config budget=medium           # or local, kubernetes
    python workflow/run.py --cores 1 --config budget=smoke tables=safenet/table5 -n        # only say what would run

It can be stopped at any time and called again: finished runs stay, a training that was cut off goes on from its
checkpoint. The Snakefile beside this file lists the config. A job that fails does not stop the others; each is named
with its log.

The driver holds a lock that the kernel frees when it dies. A driver that gets it therefore knows that a lock of
Snakemake's own, which is a file, was left by a driver that was killed, and removes it. (A driver started by the plain
`snakemake` command does not hold this lock: use one or the other.)
"""

import fcntl
import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

from reidlib import paths

HERE = Path(__file__).resolve().parent
FOLDER = paths.cache() / "workflow"
SNAKEMAKE = [sys.executable, "-m", "snakemake"]


def hold(file: Path) -> None:
    """Takes the lock for this process, and for Snakemake, which this process becomes; ends here where it is held."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 200).decode().strip() or "another process"
        sys.exit(f"error: {holder} drives the batch already (lock {file}); wait for it, or stop that process")
    os.truncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
    os.set_inheritable(descriptor, True)


def main(given: list[str]) -> None:
    if not importlib.util.find_spec("snakemake"):
        sys.exit(f"error: {sys.executable} has no Snakemake; install it: pip install '.[batch]'")
    if not {"-n", "--dry-run", "--dryrun"} & set(given):
        hold(FOLDER / "driver.lock")
        for folder in (FOLDER, HERE.parent):  # Snakemake works in one of them: see the Snakefile
            if any((folder / ".snakemake" / "locks").glob("*")):
                unlock = ["--unlock", "--quiet", "all", "--directory", str(folder), "--snakefile", os.devnull]
                subprocess.run([*SNAKEMAKE, *unlock], check=True)
    os.execv(sys.executable, [*SNAKEMAKE, "--snakefile", str(HERE / "Snakefile"), *given])


if __name__ == "__main__":
    main(sys.argv[1:])
