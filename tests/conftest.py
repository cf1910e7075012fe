"""What several tests share: a results folder and a cache of their own, a rendered stand-in, quicker ResNets.

What loads torch is imported where it is used: the process that only hands out tests to workers does without.
"""

import copy
import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import warm

from reidlib.runs import devices

SLOWEST = (
    "runs/test_worker.py",
    "book/test_notebooks.py",
    "papers/test_declared_rows.py",
    "runs/test_workflow.py",
    "runs/test_runs.py",
    "pages/test_figures.py",
    "standin/test_standin.py",
    "pages/test_standins_page.py",
    "pages/test_study_pages.py",
    "book/test_book.py",
    "runs/test_own.py",
    "book/test_kernel.py",
)
"""Files that start before all others: then no worker waits at the end for a long file that another began last."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """One more than cores: many tests wait for a process that starts or for one that ends. None: xdist decides."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else devices.cores() + 1


def pytest_collection_modifyitems(items):
    order = {Path(__file__).parent / file: place for place, file in enumerate(SLOWEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """A cache that holds the smoke stand-in; rendered once a session."""
    from reidlib.runs import datasets

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


@cache
def initialised(builder):
    """As from seed 0, whichever test asks first."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return builder()


@pytest.fixture
def one_resnet(request, monkeypatch):
    """Networks copy one initialised ResNet of each depth: initialising it takes most of the time of a small test."""
    import torch
    import torchvision

    if "imagenet" in request.node.name:
        return  # here a loaded network has to differ from one that is as it was initialised
    for name, builder in [(name, getattr(torchvision.models, name)) for name in ("resnet50", "resnet101")]:

        def build(weights=None, builder=builder):
            on_cpu = torch.empty(0).device.type == "cpu"
            return copy.deepcopy(initialised(builder)) if on_cpu else builder()

        monkeypatch.setattr(torchvision.models, name, build)


@pytest.fixture
def narrow(monkeypatch):
    """Small ResNets: for tests of what is done with a network, in this process, whichever network it is."""
    warm.narrow(monkeypatch.setattr)


@pytest.fixture
def narrow_everywhere(monkeypatch):
    """As `narrow`, in all processes: a third of the time of a command goes into the networks otherwise."""
    warm.narrow_everywhere(monkeypatch)


@pytest.fixture(scope="session")
def forks():
    server = warm.Server()
    yield server
    server.close()


@pytest.fixture
def warm_kernel(forks, monkeypatch):
    """A notebook's kernel is a fork of a process that has imported the libraries: 2 s instead of 10 s for a chapter.
    Kernels that start as those of users do are in the tests of `reid run`, `reid reproduce` and of kernels."""
    monkeypatch.setattr("jupyter_client.provisioning.local_provisioner.launch_kernel", forks.launch_kernel)


@pytest.fixture
def in_browser(tmp_path):
    """What a page with this body has as its text, as JSON, when a browser has run its scripts."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser here")

    def run(body):
        page = tmp_path / "page.html"
        page.write_text(f"<!doctype html><meta charset='utf-8'>{body}", encoding="utf-8")
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
        made = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
        return json.loads(re.search("<body>(.*)</body>", made.stdout).group(1))

    return run
