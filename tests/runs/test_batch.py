"""The plan of a batch: what it has trained once, in which order, on which places, and how it is shown."""

import json
from dataclasses import replace
from types import SimpleNamespace

import made_up
import pytest

from reidlib import cli, papers, paths, training
from reidlib.book import chapters
from reidlib.runs import batch, devices
from reidlib.runs.devices import Device, Place
from reidlib.spec import ReidError

PLACE = Place(Device("cpu", "a processor", 8192.0), 1)
TABLE = "mros/table3"
"""Two rows that share one network: the second only re-ranks."""


def planned(*asked, **options):
    plan, _ = chapters.plan(asked or (TABLE,), **{"budget": "smoke"} | options)
    return plan


def notebooks(*asked):
    return chapters.plan(asked, budget="smoke")[1]


def test_a_network_is_trained_once_whatever_tables_share_it(house):
    plan = planned("fmn", "hamr/table6", "hamr/table2", datasets=["market1501"])
    networks = {run.network for run in plan.runs if run.settings.recipe.resolved()["epochs"]}
    assert sum(job.trains for job in plan.jobs) == len(networks) < len(plan.jobs)
    assert len({run.record_file for run in plan.runs}) == len(plan.runs)
    place = {job.run.record_file: number for number, job in enumerate(plan.jobs)}
    for number, job in enumerate(plan.jobs):
        assert all(place[file] < number for file in job.after)
        makers = {plan.jobs[place[file]].run.network for file in job.after}
        first = job.run.settings.first
        wanted = {job.run.network} | ({job.run.network_of(first.settings)} if first else set())
        assert job.trains or job.run.network in makers
        before = [plan.jobs[place[file]].run for file in job.after]
        assert all(run.network in wanted or run.settings.first == first for run in before), "it makes one of the two"
    grn = {job.run.network for job in plan.jobs if not job.run.settings.first}
    after = [job for job in plan.jobs if job.run.settings.first]
    assert {job.run.network_of(job.run.settings.first.settings) for job in after} <= grn, "FMN's first is a row's own"
    assert not any(job.firsts for job in after)


def test_a_plan_leaves_out_what_is_finished_and_what_is_trained(house):
    before = planned()
    run = before.jobs[0].run
    run.work_folder.mkdir(parents=True)
    (run.work_folder / training.WEIGHTS).touch()
    assert [job.trains for job in before.jobs] == [True, False]
    assert [job.trains for job in planned().jobs] == [False, False]
    assert planned().jobs[1].after == (before.jobs[0].run.record_file,), "one at a time: the network has one lock"


@pytest.mark.parametrize(
    "line, words",
    [
        (["nobody", "--budget", "smoke"], "unknown paper 'nobody'; choose one of fmn, hamr"),
        (["hamr/table66", "--budget", "smoke"], "unknown table 'hamr/table66'"),
        (["hamr", "--budget", "huge"], "unknown budget 'huge'"),
        (["hamr", "--budget", "smoke", "--source", "dreams"], "unknown source 'dreams'"),
        (["hamr", "--budget", "smoke", "--dataset", "imagenet"], "unknown data set 'imagenet'"),
        (["hamr", "--budget", "smoke", "--gpus", "7"], "no GPU '7' on this machine"),
        (["hamr", "--budget", "smoke", "--gpus", "²"], "no GPU '²' on this machine"),
        (["hamr", "--budget", "smoke", "--seeds", "9999999999999"], "must be whole numbers from 0 to 1000000000000"),
        (["hamr", "--budget", "full", "--source", "real"], "none of the real data sets is found here"),
    ],
)
def test_unknown_words_name_the_known_ones(line, words, house, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("REID_DATA", str(tmp_path))
    assert cli.main(["reproduce", *line]) == 1
    assert words in capsys.readouterr().err


def test_a_figure_is_planned_as_it_is_drawn(house):
    plan = planned("safenet/figure3")
    assert [run.row.label for run in plan.runs] == ["multi-global (C=256) + l1, l2"]
    assert [slug for slug, _ in plan.tables] == ["safenet/figure3"]
    assert notebooks("safenet/figure3")[0].needs() == {plan.runs[0].record_file}
    with pytest.raises(ReidError, match="unknown data set 'dukemtmc'; choose one of market1501$"):
        planned("safenet/figure3", datasets=["dukemtmc"])
    both = planned("safenet/table5", "safenet/figure3")
    assert len(both.runs) == len(papers.table("safenet/table5").rows), "its network is one of the table"


def test_a_figure_whose_weights_are_gone_is_planned_with_their_repeat(house):
    run = planned("safenet/figure3").runs[0]
    made_up.write(run)
    plan = planned("safenet/figure3")
    (job,) = plan.jobs
    assert job.run.again and job.trains and job.run.command()[-1] == "--again"
    assert notebooks("safenet/figure3")[0].needs() == {run.record_file, job.run.record_file}
    plan = replace(plan, jobs=tuple(batch.estimated(plan.jobs, [PLACE])))
    assert "  again   1 run, for a figure draws weights" in "\n".join(batch.describe(plan, [PLACE]))
    run.work_folder.mkdir(parents=True)
    (run.work_folder / training.WEIGHTS).touch()
    assert not planned("safenet/figure3").jobs


def test_two_papers_that_share_a_key_wait_for_each_other(house):
    run = planned().runs[0]
    other = replace(run, table=replace(run.table, paper="another"))
    assert other.key == run.key and other.record_file != run.record_file
    first, second = batch.jobs_of([run, other])
    assert (first.after, second.after) == ((), (run.record_file,)) and not second.trains


def test_a_table_without_the_budget_is_left_out_unless_it_is_asked_for_by_name(house):
    def tables(budget):
        return {part.table for part in batch.plan(["standins"], budget=budget).parts}

    only_small = {f"standins/{name}" for name in ("start", "from-scratch", "shorter")}
    assert tables("small") - tables("medium") == only_small
    with pytest.raises(ReidError, match="standins/start: unknown budget 'medium'; choose one of smoke, small"):
        batch.plan(["standins/start"], budget="medium")


def test_the_splits_of_cuhk03_stand_for_seeds(house):
    plan = planned("safenet/table2-five-pairs", seeds=(0, 1, 2))
    assert len(plan.runs) == 40 and {run.seed for run in plan.runs} == {0}
    assert [chapter.dataset[-3:] for chapter in notebooks("safenet/table2-five-pairs")] == ["-01", "-01"]
    asked = planned("safenet/table2-five-pairs", datasets=["cuhk03-classic-detected-01 … -20"])
    assert len(asked.runs) == 20
    assert {run.seed for run in planned("hamr/table5", seeds=(0, 1, 2)).runs} == {0, 1, 2}


@pytest.fixture
def cpu(monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, "")
    monkeypatch.setattr(devices, "cores", lambda: 4)


def test_the_plan_is_shown_before_it_starts(cpu, house, capsys):
    assert cli.main(["reproduce", "hamr/table5", "--budget", "smoke", "--threads", "2", "--dry-run"]) == 0
    text = capsys.readouterr().out
    for words in (
        "hamr/table5",
        "msmt17",
        "0 of 2 done, 2 networks to train",
        "2 runs to do",
        "2 at once on ",
        "2 CPU threads each",
        "time ",
        "a guess, for no record says how fast this device is",
        "memory ",
        "disk ",
        "GiB free",
    ):
        assert words in text
    assert not (paths.cache() / "logs").exists() and not paths.results().exists()


def test_the_plan_for_programs_has_one_command_for_a_table_a_data_set_and_a_seed(cpu, house, capsys):
    tables = [TABLE, "fmn/table1", "fmn/table2"]
    assert cli.main(["reproduce", *tables, "--budget", "smoke", "--seeds", "0,1", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    jobs = {job["id"]: job for job in plan["jobs"]}
    first = jobs["mros-table3-market1501-stand-in-smoke-0"]
    assert first["command"] == [
        *["reid", "train", TABLE, "--dataset", "market1501", "--source", "stand-in"],
        *["--budget", "smoke", "--seed", "0"],
    ]
    assert len(first["records"]) == len(first["runs"]) == 2 and first["seconds"] > 1 and first["after"] == []
    places = list(jobs)
    for number, job in enumerate(jobs.values()):
        assert all(places.index(other) < number for other in job["after"]), "no two wait for each other"
    shared = jobs["fmn-table2-market1501-stand-in-smoke-1"]
    assert shared["after"] == ["fmn-table1-market1501-stand-in-smoke-1"]
    chapter = next(chapter for chapter in plan["chapters"] if chapter["slug"] == TABLE)
    assert chapter["after"] == sorted(f"mros-table3-market1501-stand-in-smoke-{seed}" for seed in (0, 1))
    for command in (*(job["command"] for job in jobs.values()), chapter["command"]):
        cli.parser().parse_args(command[1:])
    runs = planned(*tables, seeds=(0, 1)).runs
    assert sorted(file for job in jobs.values() for file in job["records"]) == sorted(str(r.record_file) for r in runs)


def test_rows_that_have_records_are_left_out_of_a_command(cpu, house, capsys):
    made_up.write(planned().runs[0])
    assert cli.main(["reproduce", TABLE, "--budget", "smoke", "--dry-run", "--json"]) == 0
    (job,) = json.loads(capsys.readouterr().out)["jobs"]
    assert job["command"][3:5] == ["--row", planned().runs[1].row.label]


def test_runs_share_a_gpu_as_far_as_cores_and_memory_go(monkeypatch):
    monkeypatch.setattr(batch, "cores", lambda: 32)
    jobs = jobs_of([1.0] * 40)  # of 1000 MB each
    gpu, small = Device("GPU-a", "NVIDIA H100", 80_000.0), Device("GPU-b", "another", 3_500.0)
    assert batch.per_gpu(jobs, [gpu]) == batch.MOST_PER_GPU
    assert batch.per_gpu(jobs, [gpu], threads=8) == 4, "cores"
    assert batch.per_gpu(jobs, [gpu, gpu, gpu, gpu]) == 8, "cores"
    assert batch.per_gpu(jobs, [gpu, small]) == 3, "memory of the smallest"
    assert batch.per_gpu(jobs[:5], [gpu, gpu]) == 3, "no more than there are jobs"
    assert batch.per_gpu(jobs, [replace(small, memory_mb=900.0)]) == 1
    for unknown in (replace(gpu, memory_mb=0.0), PLACE.device):
        assert batch.per_gpu(jobs, [unknown]) == 1
    assert batch.per_gpu([], [gpu]) == 1


def jobs_of(seconds, after=()):
    """Jobs that take so long; after: for each the numbers of those that it waits for."""
    made = [SimpleNamespace(run=SimpleNamespace(record_file=number), after=()) for number in range(len(seconds))]
    for number, job in enumerate(made):
        job.estimate = batch.Estimate(seconds[number], 1000.0, 0.0)
        job.after = after[number] if after else ()
    return made


@pytest.mark.parametrize("seconds, places", [([3, 1, 1, 1], 2), ([5], 3), ([], 2), ([1, 2, 3, 4, 5, 6], 3)])
def test_makespan_against_a_slow_clock(seconds, places):
    waiting, left, clock = list(seconds), [], 0
    while waiting or left:
        while waiting and len(left) < places:
            left.append(waiting.pop(0))
        clock += 1
        left = [each - 1 for each in left if each > 1]
    assert batch.makespan(jobs_of(seconds), places) == clock


@pytest.mark.parametrize(
    "places, after, ends", [(2, [[], [0], []], 9), (2, [[], [0], [0]], 11), (1, [[], [0], []], 15)]
)
def test_makespan_of_runs_that_wait_for_each_other(places, after, ends):
    """Of 5, 4 and 6 seconds: 0 then 1 beside 2; 0, then both; one after the other."""
    assert batch.makespan(jobs_of([5, 4, 6], after), places) == ends


def test_a_plan_waits_for_the_network_that_its_rows_share(house):
    estimate = batch.Estimate(5.0, 100.0, 10.0)
    jobs = [replace(job, estimate=estimate) for job in planned().jobs]
    assert batch.makespan(jobs, places=2) == 10.0


def test_what_a_command_cannot_use_is_refused(capsys):
    assert cli.main(["train", TABLE, "--budget", "smoke", "--again"]) == 1
    assert "--again repeats the rows named by --row" in capsys.readouterr().err
    assert cli.main(["reproduce", TABLE, "--budget", "smoke", "--json"]) == 1
    assert "add --dry-run" in capsys.readouterr().err
    for words in (["--per-gpu", "0"], ["--threads", "²"], ["--for", "inf"], ["--time-limit", "-1"]):
        with pytest.raises(SystemExit):
            cli.main(["reproduce", TABLE, "--budget", "smoke", *words])
        assert "is not a" in capsys.readouterr().err


def test_without_papermill_there_are_no_notebooks_and_the_plan_is_the_same(cpu, house, monkeypatch, capsys):
    for job in planned("hamr/table5").jobs:
        made_up.write(job.run)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["reproduce", "hamr/table5", "--budget", "smoke"]) == 0
    text = capsys.readouterr().out
    assert "2 of 2 done" in text and "papermill is not installed" in text


def test_a_kernel_that_dies_does_not_stop_the_other_notebooks(house, monkeypatch):
    for run in planned("hamr/table5", "hamr/table3").runs:
        made_up.write(run)

    def dies(*given, **options):
        raise RuntimeError("Kernel died")

    monkeypatch.setattr("reidlib.book.kernel.execute", dies)
    left = chapters.write(notebooks("hamr/table5", "hamr/table3"))
    assert len(left) == 2 and all("Kernel died" in why for _, why in left)
    missing = planned("hamr/table3").runs[0].record_file
    missing.unlink()
    ((chapter, why),) = chapters.write(notebooks("hamr/table3"))
    assert chapter.slug == "hamr/table3" and "1 of its runs have no finished record" in why
