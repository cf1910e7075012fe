"""Kernels that begin as forks of one process: what notebooks import is imported once, and not once a notebook.

Such a kernel has a process, a session and an environment of its own, and papermill talks to it as to any other.
"""

import json
import os
import select
import signal
import subprocess
import sys

IMPORTED = ("torch", "torchvision", "pandas", "matplotlib.pyplot", "reidlib.pages.chapter")
"""Beside what a kernel itself imports. None of it reads the environment while it is imported."""


class Forked:
    """A kernel as jupyter_client wants it: the part of `subprocess.Popen` that it uses."""

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
    """The process of which kernels are forks. It ends with the one that has started it, and its kernels with it."""

    def __init__(self):
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        backend = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # as a kernel sets it
        self._process = subprocess.Popen([sys.executable, __file__], env=os.environ | backend, **pipes)

    def launch_kernel(self, cmd: list[str], env: dict[str, str], cwd: str | None = None, **more) -> Forked:
        """In place of `jupyter_client.launcher.launch_kernel`."""
        asked = json.dumps(dict(argv=cmd, env=env, cwd=cwd or os.getcwd()))
        os.write(self._process.stdin.fileno(), asked.encode() + b"\n")
        return Forked(int(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def become_kernel(argv: list[str], env: dict[str, str], cwd: str) -> None:
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    os.write(1, f"{os.getpid()}\n".encode())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    sys.argv = argv
    IPKernelApp.launch_instance(argv=argv[argv.index("-f") :])


def serve() -> None:
    del sys.path[0]  # the folder of this file, which no kernel has
    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # read while ipykernel is imported: a kernel ends with its parent
    for module in ("ipykernel.kernelapp", *IMPORTED):
        __import__(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody has to wait for a kernel that has ended
    for line in sys.stdin:
        if not os.fork():
            try:
                become_kernel(**json.loads(line))
            finally:
                os._exit(0)


if __name__ == "__main__":
    serve()
