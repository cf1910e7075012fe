"""Commands and code in README.md, CONTRIBUTING.md and the book exist and work."""

import ast
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from reidlib import cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "book").rglob("*.md"))]
PAGES = {page: page.read_text(encoding="utf-8") for page in FILES if "_build" not in page.parts}


def fenced_commands(text: str) -> list[str]:
    """Lines of the shell blocks, without comments."""
    blocks = re.findall(r"^```(?:shell|bash|sh)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def fenced_code(text: str) -> list[str]:
    """The Python blocks."""
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def all_commands(word: str) -> list[str]:
    found = {line for text in PAGES.values() for line in fenced_commands(text) if line.split()[0] == word}
    return sorted(found)


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_readme_opens_with_its_two_commands():
    commands = fenced_commands(README)
    assert [shlex.split(line, comments=True) for line in commands[:2]] == [["make", "book"], ["make", "test"]]
    assert README.index("make book") < README.index("\n## ")


def test_make_targets_exist():
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)\b(?=`|\s+#|\n)", README))
    assert {"book", "test", "test-all", "lint", "lock", "clean"} <= named <= make_targets()


@pytest.mark.parametrize("line", all_commands("reid"))
def test_reid_commands_parse(line):
    words = shlex.split(line, comments=True)
    try:
        cli.parser().parse_args(words[1:])
    except SystemExit:
        pytest.fail(f"`{line}` is not a command of reid")


def test_shell_blocks_hold_known_programs():
    known = {"make", "reid", "source", "export", "pip", "python", "pre-commit", "tar", "bash"}
    known |= {"nvidia-cuda-mps-control", "echo"}
    strange = {line for text in PAGES.values() for line in fenced_commands(text)}
    assert {line for line in strange if line.split()[0] not in known} == set()


@pytest.mark.parametrize("line", all_commands("python"))
def test_scripts_exist(line):
    first, *rest = shlex.split(line, comments=True)[1:]
    if first == "-m":
        assert import_module(rest[0]) and all((ROOT / word).exists() for word in rest[1:] if "/" in word)
    else:
        assert (ROOT / first).is_file()


def test_ci_runs_the_commands_of_the_readme():
    called = [
        line for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines() if line.startswith("make ")
    ]
    assert called == ["make test", "make test-all", "make book", "make lint"]


def test_files_named_in_the_readme_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    words = re.findall(r"`([\w./-]+/|[\w./-]+\.(?:yml|lock|cff|md)|LICENSE)`", README)
    assert [path for path in [*links, *words] if not (ROOT / path).exists()] == []


def test_the_example_of_the_readme_runs(rendered, capsys):
    (code,) = fenced_code(README)
    (market,) = (path for path in (rendered / "stand-in").glob("market1501-*") if path.is_dir())
    place = "/path/to/Market-1501-v15.09.15"
    assert place in code
    exec(compile(code.replace(place, str(market)), "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert "torch.Size([2, 1024])" in printed and "'mAP': " in printed


@pytest.mark.parametrize(
    "page", [page for page, text in PAGES.items() if fenced_code(text)], ids=lambda page: page.name
)
def test_code_imports_names_that_exist(page):
    for code in fenced_code(PAGES[page]):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                module = import_module(node.module)
                assert all(
                    hasattr(module, alias.name) or import_module(f"{node.module}.{alias.name}") for alias in node.names
                )
