"""Where things are: the checkout, the records, the cache."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The checkout: where results/ and notebooks/ lie."""
    return Path(os.environ.get("REID_HOME", Path(__file__).resolve().parents[1]))


def results() -> Path:
    """The folder of records; `REID_RESULTS` puts it elsewhere."""
    return Path(os.environ.get("REID_RESULTS", home() / "results"))


def cache() -> Path:
    """Stand-ins, checkpoints and weights: all of it can be made again; `REID_CACHE` puts it elsewhere."""
    return Path(os.environ.get("REID_CACHE", home() / ".cache"))
