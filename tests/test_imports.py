"""Imports run one way through the house, read from the files themselves."""

import ast
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "reidlib"
FILES = sorted(HOUSE.rglob("*.py"))

LEVELS = (
    {"spec", "paths"},
    {"data", "models", "losses", "evaluation", "standin"},
    {"training"},
    {"papers"},
    {"runs"},
    {"pages"},
    {"book"},
    {"cli"},
)
EXCEPTIONS = {("losses", "models"), ("paths", "spec")}  # the models' output contract; ReidError


def level(part: str) -> int:
    return next(number for number, parts in enumerate(LEVELS) if part in parts)


def part_of(file: Path) -> str:
    return file.relative_to(HOUSE).parts[0].removesuffix(".py")


def imports(file: Path) -> list[str]:
    """The parts of reidlib that a file imports; functions count too, for a late import is still an import."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "reidlib":
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("reidlib."):
            found.append(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found += [alias.name.split(".")[1] for alias in node.names if alias.name.startswith("reidlib.")]
    return found


@pytest.mark.parametrize("file", [f for f in FILES if f.parent != HOUSE or f.name != "__init__.py"], ids=part_of)
def test_imports_run_one_way(file):
    own = part_of(file)
    for other in imports(file):
        allowed = own == other or level(other) < level(own) or (own, other) in EXCEPTIONS
        assert allowed, f"{file.relative_to(HOUSE)} may not import reidlib.{other}"


def test_spec_needs_the_standard_library_alone():
    import sys

    names = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(ast.parse((HOUSE / "spec.py").read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert names <= sys.stdlib_module_names


@pytest.mark.parametrize("file", FILES, ids=part_of)
def test_no_star_imports(file):
    names = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.ImportFrom)]
    assert not any(alias.name == "*" for node in names for alias in node.names)
