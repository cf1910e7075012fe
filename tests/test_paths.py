"""Every place is found once, at the start, and whatever is wrong with a variable is said in one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reidlib import paths
from reidlib.spec import ReidError

HOME = Path(__file__).parents[1]
SHOW = "import os, json; from reidlib import paths; os.chdir('/'); print(json.dumps([str(place) for place in (%s)]))"


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in paths.VARIABLES:
        monkeypatch.delenv(name, raising=False)


def asked(places, cwd, package=HOME, **variables):
    """What a fresh process says that starts in `cwd` and then goes elsewhere."""
    environment = {name: value for name, value in os.environ.items() if name not in paths.VARIABLES}
    environment |= {"PYTHONPATH": str(package)} | variables
    done = subprocess.run(
        [sys.executable, "-c", SHOW % places], env=environment, cwd=cwd, capture_output=True, text=True
    )
    return json.loads(done.stdout) if not done.returncode else done.stderr.splitlines()[-1]


def test_without_variables_everything_is_in_the_checkout():
    assert (paths.home(), paths.results(), paths.cache()) == (HOME, HOME / "results", HOME / ".cache")
    assert paths.data() is None and paths.weights() is None


def test_relative_values_are_those_of_the_start_also_for_child_processes(tmp_path):
    (tmp_path / "in").mkdir()
    places = "paths.results(), paths.cache(), paths.data(), os.environ['REID_RESULTS'], os.environ['REID_CACHE']"
    found = asked(places, tmp_path / "in", REID_RESULTS="res", REID_CACHE="../c", REID_DATA=".")
    assert found == [str(tmp_path / name) for name in ("in/res", "c", "in", "in/res", "c")]


def test_empty_is_not_set(monkeypatch):
    for name in paths.VARIABLES:
        monkeypatch.setenv(name, "")
    test_without_variables_everything_is_in_the_checkout()


def test_a_later_change_of_folder_changes_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("REID_CACHE", "cache")
    before = paths.cache()
    monkeypatch.chdir(tmp_path)
    assert paths.cache() == before and before.is_absolute()
    monkeypatch.setenv("REID_CACHE", str(tmp_path / "x" / ".." / "c"))
    assert paths.cache() == tmp_path / "c"


@pytest.mark.parametrize("name, place", [("REID_DATA", paths.data), ("REID_WEIGHTS", paths.weights)])
def test_a_folder_that_does_not_exist_is_named(monkeypatch, tmp_path, name, place):
    monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    with pytest.raises(ReidError, match=f"{name}=.*nowhere is no folder; give .*, or unset {name}"):
        place()


def test_a_home_that_is_no_checkout_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("REID_HOME", str(tmp_path))
    for place in (paths.home, paths.results, paths.cache):
        with pytest.raises(ReidError, match=f"REID_HOME={tmp_path} is no checkout of the study .*; set REID_HOME"):
            place()


def test_an_installed_package_asks_for_the_checkout(tmp_path):
    """As from a wheel: the package stands in a folder without results/."""
    (tmp_path / "reidlib").mkdir()
    for file in ("__init__.py", "paths.py", "spec.py"):
        shutil.copy(HOME / "reidlib" / file, tmp_path / "reidlib")
    said = asked("paths.results(),", tmp_path, tmp_path)
    assert "reidlib is installed in" in said and said.endswith(
        "set REID_HOME to a checkout, or REID_RESULTS to the folder of records"
    )
    assert asked("paths.results(),", tmp_path, tmp_path, REID_HOME=str(HOME)) == [str(HOME / "results")]
    assert asked("paths.results(),", tmp_path, tmp_path, REID_RESULTS="here") == [str(tmp_path / "here")]
