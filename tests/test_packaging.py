"""pyproject.toml, requirements.lock, environment.yml, CITATION.cff and CHANGELOG.md agree; the wheel is complete."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import reidlib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def declared() -> dict[str, SpecifierSet]:
    """Every package that pyproject names, extras included, with its bounds."""
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    return {requirement.name: requirement.specifier for requirement in map(Requirement, lines)}


def locked() -> dict[str, list[tuple[Version, list[str]]]]:
    """Each package of the lock with its versions (one for each marker) and their hashes."""
    packages: dict[str, list[tuple[Version, list[str]]]] = {}
    for entry in re.split(r"\n(?=\S)", LOCK.strip()):
        name, version = re.match(r"([a-z0-9._-]+)==([^\s;]+)", entry).groups()
        packages.setdefault(name, []).append((Version(version), re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry)))
    return packages


def test_conda_users_get_the_packages_of_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    (by_pip,) = (line["pip"] for line in environment["dependencies"] if isinstance(line, dict))
    asked = {requirement.name: requirement.specifier for requirement in map(Requirement, by_pip)}
    assert asked == declared()
    assert len(by_pip) == len(asked), "a package stands twice in environment.yml"
    (python,) = (line for line in conda if line.startswith("python "))
    assert SpecifierSet(python.removeprefix("python ")) == SpecifierSet(PROJECT["requires-python"])


@pytest.mark.parametrize("name", sorted(declared()))
def test_lock_pins_every_package_inside_its_bounds(name):
    for version, _ in locked()[name]:
        assert version in declared()[name]


def test_every_pin_has_a_hash():
    assert [name for name, pins in locked().items() for _, hashes in pins if not hashes] == []


def test_lock_holds_no_address_and_no_path():
    words = [word for line in LOCK.splitlines() for word in line.split()]
    strange = [word for word in words if "://" in word or "@" in word or word.startswith(("/", "--index", "--find"))]
    assert strange == []


def test_lock_carries_the_build_tool_of_the_editable_install():
    assert "setuptools" in locked(), "the Makefile installs reidlib without build isolation"


def test_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert reidlib.__version__ == PROJECT["version"] == str(citation["version"])
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[([\d.]+)\]", changelog, re.MULTILINE).group(1) == reidlib.__version__


@pytest.fixture
def wheel(tmp_path):
    """Built without isolation from a copy of what the build reads."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "reidlib", source / "reidlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(tmp_path)!r}))"
    run = subprocess.run([sys.executable, "-c", code], cwd=source, env=os.environ, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (built,) = tmp_path.glob("*.whl")
    return built


def test_the_wheel_has_every_file_of_the_library(wheel):
    """Code and data (JSON, TSV, TOML, NPZ)."""
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("reidlib/")}
    code = (path for path in (ROOT / "reidlib").rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    assert packed == {path.relative_to(ROOT).as_posix() for path in code}


ALL = """
import json, sys
from contextlib import redirect_stderr
from io import StringIO
from reidlib import cli
for line in json.load(sys.stdin):
    with redirect_stderr(StringIO()) as said:
        status = cli.main(line)
    print(json.dumps([line, status, said.getvalue()]))
"""


@pytest.mark.all
def test_installed_from_a_wheel_outside_a_checkout(wheel, tmp_path):
    """`reid evaluate`, `data`, `render` and `list` work; what needs the checkout says so in one line."""
    site, here = tmp_path / "site", tmp_path / "here"
    zipfile.ZipFile(wheel).extractall(site)
    here.mkdir()
    variables = {name: value for name, value in os.environ.items() if not name.startswith("REID_")}
    variables |= {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}

    def python(*words, given="", **more):
        line = [sys.executable, *words]
        return subprocess.run(line, cwd=here, env=variables | more, input=given, capture_output=True, text=True)

    def reid(*words, **more):
        done = python("-m", "reidlib.cli", *words, **more)
        assert done.returncode == 0 and not done.stderr, done.stderr
        return done.stdout

    assert str(site) in python("-c", "import reidlib; print(reidlib.__file__)").stdout
    for name, camera in (("q", 1), ("g", 2)):
        np.savez(here / f"{name}.npz", features=np.eye(2), ids=[1, 2], cameras=[camera] * 2)
    assert "mAP 100.00" in reid("evaluate", "q.npz", "g.npz")
    reid("render", "market1501", "--scale", "0.002", "--out", "Market-1501", "--workers", "1")
    assert "can be read" in reid("data", "market1501", "--root", "Market-1501", "--images")
    listed = reid("list")
    assert "safenet/table5 " in listed and "/" not in re.search(r"smoke (\S+)", listed)[1], "no marks of records"
    assert listed.endswith("Set REID_HOME to a checkout, or REID_RESULTS, to see which rows have a record.\n")
    marks = {state for row in json.loads(reid("list", "safenet/table5", "--json")) for state in row["state"].values()}
    assert marks == {None}
    assert re.search(r"safenet/table5 .* small \d+/\d+ ", reid("list", REID_HOME=str(ROOT)))

    table, budget = "safenet/table5", ("--budget", "smoke")
    lines = [
        ["claims"],
        ["status", *budget],
        ["reproduce", *budget],
        ["run", table, *budget],
        ["train", table, *budget],
    ]
    lines += [["book"], ["pack", "x.zip"], ["merge", "x.zip"], ["export", "0a"], ["show", "0a"], ["clean"]]
    lines += [["render", "market1501", "--scale", "0.002"]]
    done = python("-c", ALL, given=json.dumps(lines))
    assert done.returncode == 0 and not done.stdout.count("Traceback"), done.stderr
    *answers, drawn = map(json.loads, done.stdout.splitlines())
    for line, status, said in (*answers, drawn):
        assert status == 1 and said.count("\n") == 1 and "set REID_HOME to a checkout" in said, (line, said)
    assert "or REID_CACHE to a folder for what reid makes" in drawn[2]
    assert {path.name for path in here.iterdir()} == {"q.npz", "g.npz", "Market-1501"}
    assert not list(site.glob("results")) and not list(site.glob(".cache"))


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda file: file.stem)
def test_a_benchmark_finds_all_that_it_imports(file):
    assert callable(runpy.run_path(str(file))["main"])


def test_citation_has_what_its_format_requires():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["license"] == PROJECT["license"]
    assert all(author.keys() & {"name", "family-names"} for author in citation["authors"])
