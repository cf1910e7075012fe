"""`make bundle`: which wheels it brings, what is in the archive, and what run.sh does. No index is asked."""

import hashlib
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "tools" / "run.sh"
bundle = SimpleNamespace(**runpy.run_path(str(ROOT / "tools" / "bundle.py")))
pytestmark = pytest.mark.all


def test_reads_what_pip_prints():
    table = "Package  Version     Editable project location\n-------- ----------- ----\nNumPy    2.3.0\n"
    table += "torch    2.11.0+cu130\nmy_tool  1.0         /a/folder\nodd      ubuntu-1\n"
    found = {"numpy": Version("2.3.0"), "torch": Version("2.11.0+cu130"), "my-tool": Version("1.0")}
    assert bundle.listed(table) == found
    assert bundle.listed("numpy==2.3.0\ntorch==2.11.0+cu130\nmy.tool==1.0\nlocal @ file:///x\n") == found


def test_needs_what_runs_and_notebooks_need():
    names = [one.name for one in bundle.needed((ROOT / "pyproject.toml").read_text(encoding="utf-8"))]
    assert {"pandas", "torch", "matplotlib", "papermill", "ipykernel"} <= set(names)
    assert not {"jupyter-book", "snakemake", "pytest"} & set(names)
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert [name for name in names if f"\n{name}==" not in lock] == []


@pytest.mark.parametrize(
    "lines", ["numpy 2.3.0\ntorchvision 0.29.0\n", "numpy 2.3.0\ntorchvision 0.29.0\ntorch 2.13.0"]
)
def test_a_machine_without_a_fitting_torch_gets_no_bundle(tmp_path, lines):
    (tmp_path / "have.txt").write_text(lines, encoding="utf-8")
    wanted = bundle.needed((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    with pytest.raises(SystemExit, match=r"have.txt: lists torch (none|2.13.0), and the study needs torch"):
        bundle.read_have(tmp_path / "have.txt", wanted)


def wheel(folder: Path, name: str, version: str, *requires: str) -> str:
    """Writes a wheel with one module; returns its hash."""
    file, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    metadata = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
        *(f"Requires-Dist: {one}" for one in requires),
    ]
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels as the only source of packages; returns a lock of two of them and of numpy."""
    folder = tmp_path / "index"
    folder.mkdir()
    app = wheel(folder, "app", "1.0", "base>=1", "numpy>=2", "torch")
    base = {version: wheel(folder, "base", version) for version in ("0.5", "1.0", "2.0", "3.0")}
    for version in ("2.0", "2.1"):
        wheel(folder, "numpy", version)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "UV_INDEX_URL", "UV_INDEX", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name, raising=False)
    for tool in ("PIP", "UV"):
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    pins = [f"app==1.0 \\\n    --hash=sha256:{app}", f"base==2.0 \\\n    --hash=sha256:{base['2.0']}", "numpy==2.0"]
    return "\n".join(pins) + "\n"


@pytest.mark.parametrize(
    ("have", "brought"),
    [
        ("", ["app-1.0", "base-2.0"]),  # neither the newest, nor numpy and torch
        ("base 1.0", ["app-1.0"]),
        ("app 1.0\nbase 3.0\nsomething-else 4", []),
        ("base 0.5\nnumpy 2.1", ["app-1.0", "base-2.0"]),  # too old for app
    ],
)
def test_brings_what_the_lock_says_and_the_machine_lacks(index, tmp_path, have, brought):
    asked = [Requirement("app"), Requirement("torch>=2"), Requirement("numpy")]
    entries = bundle.resolve(asked, index, bundle.listed(have), tmp_path)
    wheels = bundle.download(entries, tmp_path)
    assert [file.name for file in wheels] == [f"{name}-py3-none-any.whl" for name in brought]


def test_a_wheel_with_another_hash_is_refused(index, tmp_path):
    entries = bundle.resolve([Requirement("app")], index, {}, tmp_path)
    wheel(tmp_path / "index", "app", "1.0", "base>=1")
    with pytest.raises(SystemExit):
        bundle.download(entries, tmp_path)


def git(folder: Path, *words: str) -> str:
    line = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@x", *words]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()


CLI = """
import json, os, sys
from pathlib import Path
import tool

def main():
    with (Path(__file__).parents[2] / "calls").open("a") as log:
        print(*sys.argv[1:], tool.version, file=log)
    for name in ("MPLCONFIGDIR", "IPYTHONDIR"):  # as notebooks do, which else write into the user's folder
        Path(os.environ[name]).mkdir(exist_ok=True)
    if sys.argv[1] == "pack":
        Path(sys.argv[2]).write_text("records")
    if "--json" in sys.argv:
        chapters = [{"command": ["reid", "run", name, "--seeds", "0"], "after": after} for name, after in
            (("one/now", []), ("one/later", ["a-run"]), ("two/now with space", []))]
        print(json.dumps({"chapters": chapters}))
    sys.exit(sys.argv[1] == "run" and "two" in sys.argv[2])
"""


@pytest.fixture
def brought(tmp_path):
    """The unpacked archive of a made-up study; its start weights are beside it."""
    study = tmp_path / "checkout"
    weights = study / "results" / "start" / "resnet50.safetensors"
    for file, content in {
        study / "reidlib" / "__init__.py": "",
        study / "reidlib" / "cli.py": CLI,
        study / "results" / "records" / "a.json": "{}",
        study / "results" / "notebooks" / "one.ipynb": "{}",
        weights: "weights",
        weights.with_suffix(".sha256"): hashlib.sha256(b"weights").hexdigest()[:16] + "\n",
    }.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    git(study, "init", "-q")
    git(study, "add", ".")
    git(study, "commit", "-qm", "x")
    (study / "reidlib" / "cli.py").write_text("not committed", encoding="utf-8")
    wheel(tmp_path, "tool", "7")
    parts = [RUN, bundle.code(tmp_path, study)]
    bundle.write(tmp_path / "reid-x.tar", parts, sorted(tmp_path.glob("*.whl")))
    shutil.copy(weights, tmp_path)
    with tarfile.open(tmp_path / "reid-x.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "reid-x"


def test_the_archive_holds_the_commit_and_not_the_weights(brought, tmp_path):
    files = {str(file.relative_to(brought)) for file in brought.rglob("*")}
    assert files == {"run.sh", "study.tar.gz", "wheels", "wheels/tool-7-py3-none-any.whl"}
    with tarfile.open(brought / "study.tar.gz") as study:
        names = {member.name for member in study if member.isfile()}
        commit = study.extractfile("study/COMMIT").read().decode()
        assert study.extractfile("study/reidlib/cli.py").read().decode() == CLI
    folder = "study/results"
    assert names == {
        "study/COMMIT",
        "study/reidlib/__init__.py",
        "study/reidlib/cli.py",
        f"{folder}/records/a.json",
        f"{folder}/notebooks/one.ipynb",
        f"{folder}/start/resnet50.sha256",
    }
    blob = git(tmp_path / "checkout", "rev-parse", "HEAD:results/records/a.json")
    head = git(tmp_path / "checkout", "rev-parse", "HEAD")
    assert commit == f"{head}\n100644 blob {blob}\trecords/a.json\n"


def run_it(brought: Path, *words: str, **variables: str) -> subprocess.CompletedProcess:
    """run.sh with this Python, which is taken for a suitable one."""
    python = brought.parent / "a python"
    python.write_text(f'#!/bin/sh\ncase "$2" in *version_info*) exit 0 ;; esac\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    environment = os.environ | {"PYTHON": str(python), "PIP_NO_INDEX": "1"} | variables
    line = ["bash", str(brought / "run.sh"), *words]
    return subprocess.run(line, env=environment, cwd=brought.parent, capture_output=True, text=True)


def test_run_sh_installs_trains_executes_and_packs(brought):
    done = run_it(brought, "5", "hamr", "--budget", "smoke")
    assert done.returncode == 123 and done.stderr == "", "a notebook failed; what there is was packed all the same"
    calls = (brought / "calls").read_text(encoding="utf-8").splitlines()
    first = ["reproduce hamr --budget smoke --for 5 7", "reproduce hamr --budget smoke --dry-run --json 7"]
    assert calls[:2] == first
    assert sorted(calls[2:4]) == ["run one/now --seeds 0 7", "run two/now with space --seeds 0 7"]
    assert calls[4:] == [f"pack {brought / 'records.zip'} 7"]
    with tarfile.open(brought / "notebooks.tar.gz") as archive:
        assert "results/notebooks/one.ipynb" in archive.getnames()
    assert {file.name for file in brought.iterdir()} == {
        *("run.sh", "study.tar.gz", "wheels", "study", "packages", "bin"),
        *("calls", "records.zip", "notebooks.tar.gz", ".settings"),
    }
    assert {file.name for file in (brought / ".settings").iterdir()} == {"matplotlib", "ipython"}
    (brought / "study" / "kept").write_text("")
    assert run_it(brought, "5").returncode == 123 and (brought / "study" / "kept").exists(), "it continues"
    again = subprocess.run([brought / "bin" / "reid", "status"], cwd="/", capture_output=True, text=True)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        ((), {}, "say for how many minutes"),
        (("--budget", "small"), {}, "say for how many minutes"),
        (("5",), {"PYTHON": "no-such-python"}, "no Python 3.12 with torch, torchvision, numpy and pip"),
        (("5",), {"START": "/no/such/file"}, "/no/such/file: missing; put resnet50.safetensors there"),
        (("5",), {"START": str(RUN)}, "run.sh: not the file that belongs to this code"),
    ],
)
def test_run_sh_says_what_is_wrong(brought, words, variables, said):
    done = run_it(brought, *words, **variables)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and said in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (brought / "calls").exists()
    assert list(brought.glob(".new*")) == []


def test_records_and_pack_know_the_commit_that_came_along(brought, tmp_path, monkeypatch):
    from reidlib import paths
    from reidlib.runs import archive, worker

    assert worker.commit.__wrapped__() != "unknown" or not (ROOT / ".git").exists()
    with tarfile.open(brought / "study.tar.gz") as study:
        study.extractall(tmp_path, filter="data")
    (tmp_path / "study" / "results" / "reported.tsv").write_text("")
    monkeypatch.setenv("REID_HOME", str(tmp_path / "study"))
    monkeypatch.delenv("REID_RESULTS", raising=False)
    head = git(tmp_path / "checkout", "rev-parse", "HEAD")
    assert worker.commit.__wrapped__() == paths.bundled()[0] == head
    known = archive._committed(paths.results(), None)
    assert known == {"records/a.json": git(tmp_path / "checkout", "rev-parse", "HEAD:results/records/a.json")}
