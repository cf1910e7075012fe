"""A kernel prints no warning, and ends with the process that executes a notebook in it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import reidlib

EXECUTE = """
from pathlib import Path
from reidlib.book import kernel
kernel.execute(Path("template.ipynb"), Path("copy.ipynb"), {"seconds": SECONDS}, cwd=Path.cwd())
"""


@pytest.fixture
def execution(tmp_path):
    """Starts a process that executes a notebook, which prints the process id of its kernel and sleeps."""
    parameters = nbformat.v4.new_code_cell("seconds = 0", metadata={"tags": ["parameters"]})
    body = nbformat.v4.new_code_cell("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(seconds)")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[parameters, body], metadata=kernel), tmp_path / "template.ipynb")

    def start(seconds: int) -> subprocess.Popen:
        code = EXECUTE.replace("SECONDS", str(seconds))
        environment = os.environ | {"PYTHONPATH": str(Path(reidlib.__file__).parents[1])}
        environment.pop("PYDEVD_DISABLE_FILE_VALIDATION", None)
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, **pipes)

    return start


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_kernel_prints_no_warning(execution):
    process = execution(0)
    printed, warnings = process.communicate()
    assert process.returncode == 0 and int(printed) > 0
    assert warnings == ""


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(other, marks=pytest.mark.all) for other in (signal.SIGHUP, signal.SIGINT))],
)
def test_a_signal_ends_the_kernel_with_its_process(execution, number):
    process = execution(600)
    kernel = int(process.stdout.readline())
    process.send_signal(number)
    _, printed = process.communicate(timeout=30)
    assert not is_alive(kernel)
    if number == signal.SIGINT:
        assert printed.strip().endswith("KeyboardInterrupt"), "which `reid` answers with one line"
    else:
        assert process.returncode == 128 + number and printed == ""
