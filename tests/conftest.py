"""What several tests share: a results folder and a cache of their own, and one rendered stand-in."""

import shutil

import pytest

from reidlib.runs import datasets


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """A cache that holds the smoke stand-in; rendered once a session."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_CACHE", str(cache))
        datasets.load("market1501", "stand-in", "smoke")
    return cache


@pytest.fixture
def house(rendered, tmp_path, monkeypatch):
    """An empty results folder and a fresh cache that shares the rendered images; returns the results folder."""
    cache, results = tmp_path / "cache", tmp_path / "results"
    shutil.copytree(rendered / "stand-in", cache / "stand-in", copy_function=shutil.os.link)
    monkeypatch.setenv("REID_CACHE", str(cache))
    monkeypatch.setenv("REID_RESULTS", str(results))
    return results
