"""Where things are: the checkout, the records, the cache, real data sets, ImageNet weights; and how files appear there.

Each place has an environment variable. An empty one is not set. Relative values are made absolute when this module is
imported, in the environment itself, so that child processes in other working directories use the same places.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from reidlib.spec import ReidError

VARIABLES = ("REID_HOME", "REID_RESULTS", "REID_CACHE", "REID_DATA", "REID_WEIGHTS")

_PARENT = Path(__file__).resolve().parents[1]  # a checkout, or where the wheel is installed

try:
    _START = os.getcwd()
except OSError:  # the working directory was removed; absolute values still work
    _START = os.sep


def home(instead: str = "") -> Path:
    """The checkout: `REID_HOME`, else the folder that holds this package; a ReidError where that is none.

    instead: what else the user can do then, for the message."""
    if found := checkout():
        return found
    what = f"reidlib is installed in {_PARENT}, which is no checkout of the study (no results/reported.tsv)"
    raise ReidError(f"{what}; set REID_HOME to a checkout{instead}")


def checkout() -> Path | None:
    """As `home`, or None where the library is installed outside a checkout and `REID_HOME` is not set."""
    folder = _given("REID_HOME")
    if (folder or _PARENT).joinpath("results", "reported.tsv").is_file():
        return folder or _PARENT
    if folder:
        what = f"REID_HOME={folder} is no checkout of the study (no results/reported.tsv)"
        raise ReidError(f"{what}; set REID_HOME to a checkout")
    return None


def has_results() -> bool:
    """Whether it is known where the records are."""
    return bool(_folder("REID_RESULTS") or checkout())


def results() -> Path:
    """The folder of records: `REID_RESULTS`, else results/ in the checkout. A ReidError where it is no folder."""
    return _folder("REID_RESULTS") or home(", or REID_RESULTS to the folder of records") / "results"


def cache() -> Path:
    """Stand-ins, checkpoints and decoded images, all of which can be made again: `REID_CACHE`, else .cache there.

    Raises ReidError where it is no folder."""
    return _folder("REID_CACHE") or home(", or REID_CACHE to a folder for what reid makes") / ".cache"


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


@contextmanager
def atomic(file: Path) -> Generator[Path]:
    """A name to write to, which becomes `file` at the end, complete and on the disk. After an error nothing is left."""
    partial = file.with_name(f"{file.name}.partial")
    try:
        yield partial
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())  # before the rename: after a power cut the name must not stand for an empty file
        partial.replace(file)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


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
