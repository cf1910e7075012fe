"""Kernels and workers that begin as forks of one process: what they import is imported once, and not by each of them.

Each has a process, a session and an environment of its own; papermill and the engine talk to it as to any other.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

IMPORTED = ("torch", "torchvision", "pandas", "matplotlib.pyplot", "reidlib.pages.chapter", "reidlib.runs.worker")
"""Beside what a kernel itself imports. None of it reads the environment while it is imported."""

FAULTS = Path(__file__).parent / "faults"


def narrow(put=setattr) -> None:
    """ResNets with the stages and the maps of the usual ones. A stage has one unit, narrow inside; the third of the
    deeper ResNet has two."""
    import torchvision  # takes two seconds
    from torchvision.models.resnet import Bottleneck, ResNet

    for name, units in {"resnet50": [1, 1, 1, 1], "resnet101": [1, 1, 2, 1]}.items():
        small = partial(ResNet, Bottleneck, units, width_per_group=8)
        put(torchvision.models, name, lambda weights=None, small=small: small())


def narrow_everywhere(patch) -> None:
    """In this process, and in those that it starts: `faults/sitecustomize.py` reads the variable, or a fork does."""
    narrow(patch.setattr)
    patch.setenv("PYTHONPATH", f"{FAULTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    patch.setenv("REID_NARROW", "1")


class Forked:
    """A kernel or a worker: the part of `subprocess.Popen` that jupyter_client and the engine use."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int):
        self.pid, self.returncode = pid, None
        self._end = os.pidfd_open(pid)

    def poll(self, seconds: float | None = 0) -> int | None:
        if self.returncode is None and select.select([self._end], [], [], seconds)[0]:
            self.returncode = 0  # only its parent, the server, could know
            os.close(self._end)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        return self.poll(timeout)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Server:
    """The process of which these are forks. It ends with the one that has started it, and its kernels with it."""

    def __init__(self):
        self._socket, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        backend = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # as a kernel sets it
        command, number = [sys.executable, __file__], theirs.fileno()
        self._process = subprocess.Popen(
            [*command, str(number)], env=os.environ | backend, pass_fds=[number], stdin=subprocess.DEVNULL
        )
        theirs.close()
        self.subprocess = SimpleNamespace(PIPE=subprocess.PIPE, Popen=self._launch_worker)  # in place of the engine's

    def _fork(self, what: str, files: list[int], argv: list[str], env: dict[str, str], cwd: str | None) -> Forked:
        asked = dict(what=what, argv=argv, env=dict(env), cwd=cwd or os.getcwd())
        socket.send_fds(self._socket, [json.dumps(asked).encode()], files)
        return Forked(int(self._socket.recv(20)))

    def launch_kernel(self, cmd: list[str], env: dict[str, str], cwd: str | None = None, **more) -> Forked:
        """In place of `jupyter_client.launcher.launch_kernel`."""
        return self._fork("kernel", [2], cmd, env, cwd)

    def _launch_worker(self, line: list[str], *, stdout, pass_fds: list[int], env: dict[str, str], **more) -> Forked:
        theirs, tasks = os.pipe()
        worker = self._fork("worker", [stdout.fileno(), theirs, *pass_fds], line, env, None)
        os.close(theirs)
        worker.stdin = os.fdopen(tasks, "wb")
        return worker

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


def become_kernel(argv: list[str]) -> None:
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=argv[argv.index("-f") :])


def become_worker(argv: list[str], tasks: int, events: int) -> None:
    from reidlib.runs import worker

    if "REID_NARROW" in os.environ:
        narrow()
    os.dup2(tasks, 0)
    worker.main(events)


def become(says: int, *files: int, what: str, argv: list[str], env: dict[str, str], cwd: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for number in (1, 2):
        os.dup2(says, number)
    sys.argv = argv
    {"kernel": become_kernel, "worker": become_worker}[what](argv, *files)


def serve(asked: socket.socket) -> None:
    del sys.path[0]  # the folder of this file, which no kernel has
    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # read while ipykernel is imported: a kernel ends with its parent
    for module in ("ipykernel.kernelapp", *IMPORTED):
        __import__(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody has to wait for a kernel that has ended
    while True:
        message, files, *_ = socket.recv_fds(asked, 2**20, 4)
        if not message:
            return
        if not os.fork():
            try:
                os.setsid()
                asked.send(str(os.getpid()).encode())
                asked.close()
                become(*files, **json.loads(message))
            finally:
                os._exit(0)
        for file in files:
            os.close(file)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
