"""Imports run one way through the rooms of `reidlib.ROOMS`, which the page "Architecture" prints."""

import ast
import re
import sys
from pathlib import Path

import pytest

from reidlib import ALLOWED, ROOMS

HOUSE = Path(__file__).parents[1] / "reidlib"
PAGE = HOUSE.parent / "book" / "architecture.md"
FILES = sorted(HOUSE.rglob("*.py"))


def level(part: str) -> int:
    return next(number for number, parts in enumerate(ROOMS) if part in parts)


def part_of(file: Path) -> str:
    return file.relative_to(HOUSE).parts[0].removesuffix(".py")


def imports(file: Path) -> list[str]:
    """The parts of reidlib that a file imports; functions count too, for a late import is still an import."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "reidlib":
            found += [alias.name for alias in node.names if not alias.name.isupper()]  # not ROOMS itself
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("reidlib."):
            found.append(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found += [alias.name.split(".")[1] for alias in node.names if alias.name.startswith("reidlib.")]
    return found


def test_page_list_and_files_name_the_same_rooms():
    text = PAGE.read_text(encoding="utf-8")
    levels = re.findall(r"^\| \d+ \| (.+) \|$", text, re.MULTILINE)
    assert tuple(tuple(re.findall(r"`(\w+)`", names)) for names in levels) == ROOMS
    rooms = [room for level in ROOMS for room in level]
    assert re.findall(r"^\| `(\w+)` \| .+ \|$", text, re.MULTILINE) == rooms
    assert sorted({part_of(file) for file in FILES} - {"__init__"}) == sorted(rooms)


@pytest.mark.parametrize("file", [f for f in FILES if f.parent != HOUSE or f.name != "__init__.py"], ids=part_of)
def test_imports_run_one_way(file):
    own = part_of(file)
    for other in imports(file):
        allowed = own == other or level(other) < level(own) or (own, other) in ALLOWED
        assert allowed, f"{file.relative_to(HOUSE)} may not import reidlib.{other}"


def test_spec_needs_the_standard_library_alone():
    names = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(ast.parse((HOUSE / "spec.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert names <= sys.stdlib_module_names


@pytest.mark.parametrize("file", FILES, ids=part_of)
def test_no_star_imports(file):
    names = [n for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(n, ast.ImportFrom)]
    assert not any(alias.name == "*" for node in names for alias in node.names)
