"""The command line itself: what it imports, and how it ends."""

import os
import signal
import subprocess
import sys

import pytest

from reidlib import cli

HEAVY = {"torch", "torchvision", "numpy", "pandas", "scipy", "papermill", "nbformat", "PIL"}


@pytest.mark.parametrize("line", [["--help"], ["lst"], ["train"], ["reproduce", "--budget", "smoke", "--per-gpu", "0"]])
def test_help_and_wrong_words_import_nothing_heavy(line):
    code = f"""
import sys
from reidlib import cli
try:
    cli.main({line!r})
except SystemExit:
    pass
print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.splitlines()[-1] == "[]", done.stderr


def ending(monkeypatch, ends):
    """The exit status of a command that ends in this way."""
    monkeypatch.setattr(cli, "list_rows", ends)
    return cli.main(["list"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_command_with_its_own_status_and_one_line(monkeypatch, capsys, number):
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)  # a shell has what it starts in the background ignore some of them
    try:
        status = ending(monkeypatch, lambda given: os.kill(os.getpid(), number))
        assert status == 128 + number and signal.getsignal(number) == usual
    finally:
        signal.signal(number, before)
    assert capsys.readouterr().err == "stopped; the next call goes on from the last checkpoint\n"


def test_nohup_is_respected(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert ending(monkeypatch, lambda given: os.kill(os.getpid(), signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    "target, code, words", [("/dev/full", 1, "error: the output cannot be written"), (None, 1, "")]
)
def test_output_that_cannot_be_written_ends_quietly(target, code, words):
    """A full disk has one line; a pipe whose reader has ended has none."""
    line = "from reidlib import cli; cli.list_rows = lambda given: print('x' * 100_000); exit(cli.main(['list']))"
    if target:
        with open(target, "w") as output:
            done = subprocess.run([sys.executable, "-c", line], stdout=output, stderr=subprocess.PIPE, text=True)
    else:
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run([sys.executable, "-c", line], stdout=write, stderr=subprocess.PIPE, text=True)
        os.close(write)
    assert done.returncode == 1 and done.stderr.startswith(words) and done.stderr.count("\n") == bool(words)


@pytest.mark.parametrize(
    "command", [["list"], ["run", "a/b", "--budget", "smoke"], ["status", "--budget", "smoke"], ["book"]]
)
def test_without_a_checkout_every_command_asks_for_one(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REID_HOME", str(tmp_path))
    assert cli.main(command) == 1
    said = capsys.readouterr().err
    assert str(tmp_path) in said and "set REID_HOME" in said and said.count("\n") == 1
