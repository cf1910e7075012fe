"""The Snakemake workflow: what it makes of a plan, and what it survives.

In most tests a small program takes the place of `reid` (FAKE below): it trains nothing and notes how it was called.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reidlib import paths
from reidlib.runs import locks
from reidlib.runs.run import runs_of

ROOT = Path(__file__).resolve().parents[2]
ODD = 'it\'s "odd" (1 + 2), $HOME {x}; `y` \\ ©'

FAKE = """
import fcntl, json, os, sys, time
from pathlib import Path

HOUSE = Path(os.environ["FAKE_HOUSE"])
command, *words = sys.argv[1:]


def note(*what):
    with (HOUSE / "calls").open("a") as stream:
        stream.write(json.dumps(what) + "\\n")


if command == "reproduce":
    plan = json.loads((HOUSE / "plan.json").read_text())
    plan["jobs"] = [job for job in plan["jobs"] if not Path(job["records"][0]).exists()]
    left = {job["id"] for job in plan["jobs"]}
    for entry in (*plan["jobs"], *plan["chapters"]):
        entry["after"] = [name for name in entry["after"] if name in left]
    note("plan", *words)
    print(json.dumps(plan))
elif command == "run":
    note("chapter", *words)
elif command == "train":
    row = words[words.index("--row") + 1]
    record = HOUSE / f"{words[0].replace('/', '-')}-{row}.json"
    with (HOUSE / f"{record.name}.lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if record.exists():
            sys.exit(0)
        note("start", row, os.getpid(), words[-2:])
        if row == "breaks":
            sys.exit("error: broken on purpose")
        while not (HOUSE / "go").exists():
            time.sleep(0.05)
        record.write_text("{}")
        note("end", row)
"""


def job(house: Path, row: str, after: tuple[str, ...] = (), table: str = "fake/table1") -> dict:
    command = ["reid", "train", table, "--row", row]
    record = house / f"{table.replace('/', '-')}-{row}.json"
    need = {"seconds": 600.0, "memory_mb": 1000.0, "disk_mb": 100.0}
    own = {"id": f"{table.replace('/', '-')}-{row.split()[0].strip(chr(39))}", "table": table, "after": list(after)}
    return own | {"records": [str(record)], "log": str(house / "logs" / f"{row[:2]}.log"), "command": command} | need


def chapter(slug: str, after: tuple[str, ...]) -> dict:
    return {"slug": slug, "dataset": "market1501", "command": ["reid", "run", slug], "after": list(after)}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A folder where the stand-in for `reid` writes; it stands in for every process started from here."""
    (tmp_path / "reidlib").mkdir()
    (tmp_path / "reidlib" / "__init__.py").touch()
    (tmp_path / "reidlib" / "cli.py").write_text(FAKE)
    house = tmp_path / "house"
    house.mkdir()
    places = dict(PYTHONPATH=tmp_path, FAKE_HOUSE=house, REID_CACHE=house / "cache", REID_RESULTS=house / "results")
    for name, value in places.items():
        monkeypatch.setenv(name, str(value))
    (house / "go").touch()  # without it trainings do not end
    monkeypatch.chdir(tmp_path)  # Snakemake keeps a log where it is called
    return house


def write_plan(house: Path, jobs: list[dict], chapters: list[dict] | None = None) -> None:
    plan = {"budget": "smoke", "source": "stand-in", "jobs": jobs, "chapters": chapters or []}
    (house / "plan.json").write_text(json.dumps(plan))


def calls(house: Path, word: str) -> list[list]:
    file = house / "calls"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [rest for first, *rest in lines if first == word]


def driver(*given: str, config: tuple[str, ...] = ("gpu=0",)) -> list[str]:
    line = [sys.executable, str(ROOT / "workflow" / "run.py"), *given]
    return [*line, "--config", "budget=smoke", *config]


def call(*given: str, **more) -> subprocess.CompletedProcess:
    return subprocess.run(driver(*given, **more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(what, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.1)


def test_a_batch_survives_the_end_of_its_driver_and_of_a_job(fake):
    rows = ["first", ODD, "third", "fourth"]
    jobs = [job(fake, row) for row in rows]
    jobs[3]["after"] = [jobs[1]["id"]]
    write_plan(fake, jobs, [chapter("fake/table1", tuple(job["id"] for job in jobs))])
    (fake / "go").unlink()
    process = subprocess.Popen(driver("--cores", "2"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(calls(fake, "start")) == 2)
        second = call("--cores", "1")
    finally:
        process.kill()
        process.wait()
    assert second.returncode == 1 and second.stdout.count("\n") == 1
    assert f"error: process {process.pid} on " in second.stdout and "wait for it, or stop that process" in second.stdout
    os.kill(calls(fake, "start")[-1][1], signal.SIGKILL)  # the other one goes on, an orphan
    (fake / "go").touch()

    again = call("--cores", "2")
    assert again.returncode == 0, again.stdout
    ended = [row for (row,) in calls(fake, "end")]
    assert sorted(ended) == sorted(rows), "every run is made, none twice"
    assert ended.index("fourth") > ended.index(ODD)
    assert len(calls(fake, "start")) == 5, "only the job that was killed starts twice"
    assert calls(fake, "chapter") == [["fake/table1"]]
    assert all(placed == ["--at-once", "1"] for *_, placed in calls(fake, "start"))

    third = call("--cores", "2")
    assert third.returncode == 0 and "Nothing to be done" in third.stdout
    assert len(calls(fake, "start")) == 5 and len(calls(fake, "chapter")) == 1


def test_a_job_that_fails_stops_no_other(fake):
    broken = job(fake, "breaks")
    jobs = [
        broken,
        job(fake, "hangs on it", (broken["id"],)),
        job(fake, "good"),
        job(fake, "last", table="other/table1"),
    ]
    needs = [tuple(j["id"] for j in jobs if j["table"] == table) for table in ("fake/table1", "other/table1")]
    write_plan(fake, jobs, [chapter("fake/table1", needs[0]), chapter("other/table1", needs[1])])
    config = ("gpu=1", "per_gpu=2", "retries=1", "seeds=0,1", "tables=[fake/table1,other]", "datasets=a")
    done = call("--cores", "2", config=config)
    assert done.returncode == 1
    asked = "fake/table1 other --budget smoke --seeds 0,1 --dataset a --dry-run --json"
    assert calls(fake, "plan") == [shlex.split(asked)], "planned once"
    started = [row for row, *_ in calls(fake, "start")]
    assert sorted(started) == ["breaks", "breaks", "good", "last"]
    assert all(placed == ["--per-gpu", "2"] for *_, placed in calls(fake, "start"))
    order = [what for what, *_ in (json.loads(line) for line in (fake / "calls").read_text().splitlines())]
    ends = [number for number, what in enumerate(order) if what == "end"]
    assert order[ends[0] - 1] == "start" and calls(fake, "chapter") == [["other/table1"]], "GPU jobs go one by one"
    assert f"error: broken on purpose\nfake-table1-breaks failed; its log: {broken['log']}" in done.stdout


@pytest.mark.parametrize(
    "config, words",
    [(("tabels=x",), "config 'tabels' is unknown; choose from budget, "), (("budget=",), "config names no budget")],
)
def test_a_config_that_cannot_be_is_named(fake, config, words):
    write_plan(fake, [])
    answer = call("--cores", "1", config=config)
    assert answer.returncode == 1 and words in answer.stdout


@pytest.mark.parametrize(
    "profile, words",
    [
        ("local", ["gpu=1", "runtime=25", "mem_mb=3500"]),
        ("slurm", ["gpu=1", "runtime=720", "mem_mb=3500"]),
        ("kubernetes", ["gpu=1", "runtime=25", "gpu_manufacturer=nvidia", "scale=0"]),
    ],
)
def test_snakemake_knows_what_the_profiles_say(fake, profile, words):
    """A dry run: every option is read, those of the executor's plugin too, and the resources are resolved."""
    write_plan(fake, [job(fake, ODD)])
    flag = fake / "cache" / "workflow" / "done" / "fake-table1-it's"
    flag.parent.mkdir(parents=True)
    flag.touch()
    os.utime(flag, (0, 0))
    shown = call("--profile", str(ROOT / "workflow" / "profiles" / profile), "-n", config=("gpu=1",))
    assert shown.returncode == 0, shown.stdout
    assert not flag.exists(), "its record is gone: the records decide what is done"
    (line,) = (line for line in shown.stdout.splitlines() if "gpu=" in line)
    assert [word for word in words if word not in line.replace(",", "").split()] == []


SLURM = """#!{python}
import json, os, subprocess, sys, time
from pathlib import Path

house, program, words = Path(os.environ["FAKE_HOUSE"]), Path(sys.argv[0]).name, sys.argv[1:]
if program == "sbatch":
    number = next(n for n in range(1, 99) if not (house / f"{{n}}.job").exists())
    (wrapped,) = (word.removeprefix("--wrap=") for word in words if word.startswith("--wrap="))
    (house / f"{{number}}.job").write_text(json.dumps(words))
    line = f"({{wrapped}}) > {{house}}/{{number}}.out 2>&1; echo $? > {{house}}/{{number}}.status"
    subprocess.Popen(["sh", "-c", line], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print(number)
elif program == "srun":
    first = next(n for n, word in enumerate(words) if not word.startswith("-"))
    os.execv(words[first], words[first:])
elif program == "sacct":
    for file in house.glob("*.job"):
        # The plugin asks again after 11 seconds, then after 21: this answer comes when the job has ended.
        until, end = time.monotonic() + 60, file.with_suffix(".status")
        while not (status := end.read_text().strip() if end.exists() else "") and time.monotonic() < until:
            time.sleep(0.05)
        print(file.stem, {{"": "RUNNING", "0": "COMPLETED"}}.get(status, "FAILED"), sep="|")
elif program == "sacctmgr":
    print("fill-in")
"""


def test_jobs_of_a_cluster_run_from_the_driver_s_plan(fake, monkeypatch):
    """SLURM's programs are replaced; Snakemake, its plugin and the profile are the real ones."""
    for program in ("sbatch", "srun", "sacct", "sacctmgr", "sinfo", "squeue", "scancel", "scontrol"):
        file = fake / "bin" / program
        file.parent.mkdir(exist_ok=True)
        file.write_text(SLURM.format(python=sys.executable))
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake / 'bin'}:{os.environ['PATH']}")
    first = job(fake, ODD)
    write_plan(fake, [first], [chapter("fake/table1", (first["id"],))])
    quick = ["--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1"]
    done = call("--profile", str(ROOT / "workflow" / "profiles" / "slurm"), *quick, config=("gpu=1",))
    assert done.returncode == 0, done.stdout
    assert [row for (row,) in calls(fake, "end")] == [ODD]
    assert calls(fake, "chapter") == [["fake/table1"]]
    assert len(calls(fake, "plan")) == 1, "a job must not plan again"
    assert [placed for *_, placed in calls(fake, "start")] == [["--per-gpu", "1"]]
    asked = json.loads((fake / "1.job").read_text())
    options = {word: asked[asked.index(word) + 1] for word in ("-A", "-p", "-t", "--mem")}
    assert options == {"-A": "FILL-IN", "-p": "FILL-IN", "-t": "720", "--mem": "3500"} and "--gpus=1" in asked


def held() -> list[Path]:
    """Locks of networks that a process holds."""
    return [file for file in paths.cache().glob("runs/*/lock") if locks.holder_of(file)]


@pytest.mark.all
def test_the_study_s_own_runs_survive_too(house, tmp_path, monkeypatch):
    """Two runs that share a network, and their notebook: the driver is killed while the network is trained."""
    monkeypatch.chdir(tmp_path)
    config = ("gpu=0", "tables=mros/table3", "datasets=market1501")
    process = subprocess.Popen(driver("--cores", "2", config=config))
    try:
        wait_for(held, 300)
    finally:
        process.kill()
        process.wait()
    os.kill(int(locks.holder_of(held()[0])), signal.SIGKILL)  # the job goes on in a new worker
    again = call("--cores", "2", config=config)
    assert again.returncode == 0, again.stdout
    runs = runs_of("mros/table3", budget="smoke")
    assert [run.state() for run in runs] == ["finished"] * 2 and len({run.network for run in runs}) == 1
    assert len(list(house.glob("records/**/*.json"))) == 2
    said = "".join(run.log_file.read_text() for run in runs)
    assert said.count("epoch 1/1") == 1 and said.count("trained already") == 1
    assert len(list(house.glob("notebooks/**/table3.ipynb"))) == 1
    third = call("--cores", "2", config=config)
    assert third.returncode == 0 and "Nothing to be done" in third.stdout
