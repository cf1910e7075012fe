"""Where things are: the checkout, the records, the cache, real data sets, ImageNet weights.

Each place has an environment variable. An empty one is not set. Relative values are made absolute when this module is
imported, in the environment itself, so that child processes in other working directories use the same places.
"""

from __future__ import annotations

import os
from pathlib import Path

from reidlib.spec import ReidError

_CHECKOUT = Path(__file__).resolve().parents[1]
VARIABLES = ("REID_HOME", "REID_RESULTS", "REID_CACHE", "REID_DATA", "REID_WEIGHTS")

try:
    _START = os.getcwd()
except OSError:  # the working directory was removed; absolute values still work
    _START = os.sep


def home() -> Path:
    """The checkout: `REID_HOME`, else the folder that holds this package; a ReidError where that is none."""
    folder = _given("REID_HOME")
    checkout = folder or _CHECKOUT
    if not (checkout / "results" / "reported.tsv").is_file():
        what = f"REID_HOME={folder} is" if folder else f"reidlib is installed in {checkout}, which is"
        raise ReidError(f"{what} no checkout of the study (no results/reported.tsv); set REID_HOME to a checkout")
    return checkout


def results() -> Path:
    """The folder of records: `REID_RESULTS`, else results/ in the checkout. A ReidError where it is no folder."""
    return _folder("REID_RESULTS") or home() / "results"


def cache() -> Path:
    """Stand-ins, checkpoints and decoded images, all of which can be made again: `REID_CACHE`, else .cache there.

    Raises ReidError where it is no folder."""
    return _folder("REID_CACHE") or home() / ".cache"


def data() -> Path | None:
    """The folder of the real data sets, `REID_DATA`, or None. Raises ReidError where it does not exist."""
    return _existing("REID_DATA", "the folder that holds the real data sets")


def weights() -> Path | None:
    """The folder of ImageNet weights, `REID_WEIGHTS`, or None. Raises ReidError where it does not exist."""
    return _existing("REID_WEIGHTS", "the folder that holds torchvision's ImageNet weights")


def bundled() -> tuple[str, str]:
    """The commit of a checkout that came without git (`make bundle`), and git's list of the records that came with it:
    a line for each, as `git ls-tree -r` prints them in results/. Both are empty in any other checkout."""
    file = home() / "COMMIT"
    commit, _, listed = file.read_text(encoding="utf-8").partition("\n") if file.is_file() else ("", "", "")
    return commit, listed


def _given(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(os.path.normpath(os.path.join(_START, os.path.expanduser(value)))) if value else None


def _folder(name: str) -> Path | None:
    folder = _given(name)
    if folder and os.path.lexists(folder) and not folder.is_dir():
        raise ReidError(f"{name}={folder} is no folder; give a folder, which is made where it is missing")
    return folder


def _existing(name: str, what: str) -> Path | None:
    folder = _given(name)
    if folder and not folder.is_dir():
        raise ReidError(f"{name}={folder} is no folder; give {what}, or unset {name}")
    return folder


for _name in VARIABLES:
    if _place := _given(_name):
        os.environ[_name] = str(_place)
