"""From a row to its record, and every fault a person can meet on the way: one line, what, where, remedy."""

import json
import re
import shutil
from dataclasses import replace

import made_up
import numpy as np
import pytest
import warm

from reidlib import cli, papers, standin, training
from reidlib.papers import standins
from reidlib.runs import datasets, engine, locks, records, worker
from reidlib.runs.engine import Result
from reidlib.runs.run import runs_of
from reidlib.spec import ReidError

TABLE, ROW = "safenet/table5", "g4"


def plan(**changes):
    return runs_of(TABLE, **{"budget": "smoke", "rows": [ROW]} | changes)


def fails(capsys, *line):
    """Runs a command that must fail; returns its one line."""
    status = cli.main([str(word) for word in line])
    captured = capsys.readouterr()
    assert status == 1
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err


@pytest.fixture(scope="module")
def finished(rendered, tmp_path_factory):
    """One finished smoke run through `reid train`, whose worker is a process of its own; its results folder."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        warm.narrow_everywhere(patch)
        patch.setenv("REID_CACHE", str(rendered))
        patch.setenv("REID_RESULTS", str(folder))
        assert cli.main(["train", TABLE, "--row", ROW, "--budget", "smoke"]) == 0
        return folder, plan()[0].record_file


def test_a_run_ends_in_a_record_that_says_everything(finished, monkeypatch):
    folder, file = finished
    monkeypatch.setenv("REID_RESULTS", str(folder))
    run, record = plan()[0], records.read(file)
    assert record.ok and record.key == run.key and record.start == "scratch"
    metrics = record.metrics["market1501-single-query"]
    assert 0 <= metrics["rank1"] <= metrics["rank5"] <= metrics["rank10"] <= 100
    assert metrics["queries"] == record.data["images"]["query"] == len(run.per_query())
    assert (
        run.identities().tolist()
        == datasets.load("market1501", "stand-in", "smoke").split("query")["identity"].tolist()
    )
    assert 100 * run.per_query().mean() == pytest.approx(metrics["mAP"])
    assert 100 * run.per_query("ap_trapezoid").mean() == pytest.approx(metrics["mAP_trapezoid"])
    assert record.curve[0]["images"] > 0 and record.images_per_second > 0 and record.peak_memory_mb > 0
    assert record.data["digest"] == run.data_digest
    assert record.settings == json.loads(json.dumps(run.settings.trained()))
    assert "torch" in record.versions and record.device.startswith(("cpu (", "cuda ("))


def test_show_finds_a_record_by_the_beginning_of_its_key(finished, monkeypatch, capsys):
    folder, file = finished
    monkeypatch.setenv("REID_RESULTS", str(folder))
    assert cli.main(["show", file.stem[:6]]) == 0
    assert file.stem in capsys.readouterr().out
    assert "is no .json file, and 0 records under" in fails(capsys, "show", "ffffffffffff")


def test_what_is_finished_is_not_trained_again(finished, monkeypatch):
    folder, file = finished
    monkeypatch.setenv("REID_RESULTS", str(folder))
    monkeypatch.setattr(engine, "train", lambda *given, **options: pytest.fail("trained again"))
    runs = engine.ensure("safenet", "table5", budget="smoke", rows=[ROW], log=lambda text: None)
    frame = runs.frame()
    assert len(frame) == 11 and list(frame["row"]) == [row.label for row in runs.table.rows]
    assert frame["state"].tolist() == ["finished"] + ["missing"] * 10


def test_the_key_follows_what_matters_and_nothing_else(house, monkeypatch):
    key = plan()[0].key
    assert plan()[0].key == key
    assert plan(seeds=[1])[0].key != key
    assert plan(budget="small")[0].key != key
    assert plan(rows=["g4,g3"])[0].key != key
    assert plan(again=[ROW])[0].key == key
    assert replace(plan()[0], data_digest="other").key != key
    monkeypatch.setattr(records, "RESULTS_VERSION", records.RESULTS_VERSION + 1)
    assert plan()[0].key != key


def test_a_repeat_goes_into_the_cache_and_stands_beside_the_record(finished, rendered, narrow_everywhere, monkeypatch):
    folder, file = finished
    monkeypatch.setenv("REID_CACHE", str(rendered))
    monkeypatch.setenv("REID_RESULTS", str(folder))
    before = file.read_bytes()
    ask = dict(budget="smoke", rows=[ROW], again=[ROW], log=lambda text: None)
    pairs = engine.ensure("safenet", "table5", **ask).repeated()
    assert file.read_bytes() == before
    ((run, there, here),) = pairs
    assert run.record_file != file and there.key == here.key
    # The same machine, the same seed: the repeat is the record, bit for bit.
    assert here.metrics == there.metrics
    assert [p["loss"] for p in here.curve] == [p["loss"] for p in there.curve]


def test_list_shows_every_row_with_its_state(finished, monkeypatch, capsys):
    monkeypatch.setenv("REID_RESULTS", str(finished[0]))
    assert cli.main(["list", "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    assert len(lines) == sum(len(table.rows) * len(table.datasets) for table in papers.tables().values())
    (line,) = (line for line in lines if line["table"] == "table5" and line["row"] == ROW)
    assert line["state"] == {"smoke": "finished", "small": "missing", "medium": "missing", "full": "missing"}
    assert cli.main(["list", TABLE]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == len(papers.table(TABLE).rows)
    assert [text for text in shown if "finished" in text] == [text for text in shown if f" {ROW} " in text]
    assert cli.main(["list", "safenet"]) == 0
    assert " cuhk03-classic3-labeled-01 … -20 " in capsys.readouterr().out, "twenty splits are one line"
    assert cli.main(["list"]) == 0
    shown = capsys.readouterr().out
    assert re.search(rf"{TABLE} +market1501 +smoke 1/11 +small 0/11", shown)
    assert re.search(r"hamr/figure8 +.* hamr/table6", shown), "figures of pictures name the table whose rows they draw"


@pytest.mark.parametrize(
    "line, words",
    [
        (
            ["run", "safenet/table9", "--budget", "small"],
            "unknown table 'safenet/table9'; choose one of safenet/table2, ",
        ),
        (["run", TABLE, "--budget", "small", "--rows", "g5"], "unknown row 'g5'; choose from: g4; g4,g3"),
        (["run", TABLE, "--budget", "huge"], "unknown budget 'huge'; choose one of smoke, small, medium, full"),
        (
            ["run", TABLE, "--budget", "small", "--dataset", "viper"],
            "unknown data set 'viper'; choose one of market1501",
        ),
        (["run", TABLE, "--budget", "small", "--source", "web"], "unknown source 'web'; choose one of stand-in, real"),
        (["run", TABLE, "--budget", "small", "--seeds=-1"], "seeds [-1] must be whole numbers from 0 to"),
        (["run", TABLE, "--budget", "small", "--again", "g5"], "unknown row 'g5'"),
        (
            ["train", TABLE, "--row", ROW, "--budget", "smoke", "--variant", "x"],
            "unknown variant 'x'; choose one of as-",
        ),
        (["render", "viper"], "viper"),
        (["list", "viper"], "unknown paper or table 'viper'; choose one of fmn, hamr"),
        (["list", "fmn/table9"], "unknown table 'fmn/table9'; choose one of fmn/table1"),
        (["data", "viper"], "unknown data set 'viper'; choose one of market1501"),
        (["data", "market1501"], "REID_DATA"),
    ],
)
def test_unknown_words_name_the_known_ones(line, words, capsys, monkeypatch):
    monkeypatch.delenv("REID_DATA", raising=False)
    assert words in fails(capsys, *line)


def test_a_record_cut_short_is_named_with_its_remedy(finished, house):
    run = plan()[0]
    run.record_file.parent.mkdir(parents=True)
    whole = finished[1].read_text()
    run.record_file.write_text(whole[: len(whole) // 2])
    with pytest.raises(ReidError, match=f"{run.record_file.name}: record cut short.*delete it"):
        run.state()
    assert not run.is_made(), "it is made again"


def test_an_unwritable_results_folder_is_found_before_training(house, capsys, monkeypatch):
    house.write_text("a file where the folder should be")
    monkeypatch.setattr(training, "train", lambda *given, **options: pytest.fail("trained before looking"))
    said = fails(capsys, "train", TABLE, "--row", ROW, "--budget", "smoke")
    assert str(house) in said and "REID_RESULTS" in said


def test_what_another_process_makes_is_waited_for(house, monkeypatch):
    run, lines = runs_of("standins/difficulty", budget="smoke")[0], []
    monkeypatch.setattr(engine, "AGAIN", 0.1)
    holder = locks.locked(run.work_folder / "lock")
    holder.__enter__()

    def said(text):
        lines.append(text)
        if "waiting" in text:  # the other process has finished
            made_up.write(run, curve=[], seconds=0.0, step="")
            holder.__exit__(None, None, None)

    engine.train_runs([run], log=said)
    assert "is making it" in lines[0] and "made by another process" in lines[1] and len(lines) == 2


def test_a_failed_run_leaves_a_record_that_says_why(house, monkeypatch):
    def explode(*given, **options):
        raise ReidError("loss 'cross_entropy' is nan in epoch 1, batch 2")

    monkeypatch.setattr(training, "train", explode)
    run = plan()[0]
    with pytest.raises(ReidError):
        worker.execute(run, log=lambda text: None)
    record = run.record()
    assert record.status == "failed" and "is nan in epoch 1" in record.error
    assert run.state() == "failed"


def test_a_corrupt_image_stops_the_run_and_is_named(house, capsys):
    run = plan()[0]
    data = datasets.load(run.dataset, run.source, run.budget)
    path = data.root / data.split("train")["path"][0]
    whole = path.read_bytes()
    path.unlink()  # the file is shared with other tests by a hard link
    path.write_bytes(whole[: len(whole) // 2])
    said = fails(capsys, "train", TABLE, "--row", ROW, "--budget", "smoke")
    assert path.name in said
    assert run.record().status == "failed"


def test_the_digest_of_a_stand_in_is_known_before_it_is_rendered(tmp_path, monkeypatch):
    """Each of these stand-ins is rendered once, where it is loaded first."""
    monkeypatch.setenv("REID_CACHE", str(tmp_path))
    names = ("dukemtmc", "cuhk03-np-detected", "cuhk03-classic3-labeled-07", "duke-to-market")
    known = {name: datasets.data_digest(name, "stand-in", "smoke") for name in names}
    assert not (tmp_path / "stand-in").exists()
    for name, digest in known.items():
        loaded = datasets.load(name, "stand-in", "smoke")
        assert (loaded.name, loaded.source, loaded.digest) == (name, "stand-in", digest)
        assert all(check.ok for check in loaded.checks), name
        assert {"train", "query", "gallery"} <= set(loaded.table["split"])
        assert (loaded.root / loaded.table["path"].iloc[0]).is_file()


def test_a_network_tested_on_another_data_set_is_not_trained_again(rendered, narrow, tmp_path, monkeypatch):
    """Market alone, then Market to Duke: one network, two records, each under its own protocol."""
    monkeypatch.setenv("REID_CACHE", str(rendered))
    monkeypatch.setenv("REID_RESULTS", str(tmp_path))
    own = {"market1501": "market1501-single-query", "market-to-duke": "market-to-duke"}
    wider = replace(papers.table(TABLE), datasets=tuple(own), protocol=own)
    monkeypatch.setattr(papers, "table", lambda slug: wider)
    home, away = (plan(dataset=dataset, seeds=[7])[0] for dataset in own)  # a seed that no other test has trained
    assert home.network == away.network and home.key != away.key
    lines = []
    records = [worker.execute(run, log=lines.append) for run in (home, away)]
    assert sum(line.startswith("trained already") for line in lines) == 1
    assert [list(record.metrics) for record in records] == [[name] for name in own.values()]
    assert records[0].curve == records[1].curve and records[1].data["name"] == "market-to-duke"
    with pytest.raises(ValueError, match="one that names market-to-duke"):
        replace(wider, protocol={"market1501": "market1501-single-query"})


def test_train_without_a_row_trains_every_row_that_has_no_record(house, monkeypatch):
    asked = []

    def train(jobs, places, **options):
        asked.extend((job.run.row.label, job.run.seed, options["deterministic"]) for job in jobs)
        return Result()

    monkeypatch.setattr(engine, "train", train)
    assert cli.main(["train", TABLE, "--budget", "smoke", "--seed", "4", "--deterministic"]) == 0
    assert asked == [(row.label, 4, True) for row in papers.table(TABLE).rows]


@pytest.mark.parametrize("row", [standins.CHANCE, standins.STRIPES])
def test_a_row_that_learns_nothing_has_a_record_without_a_curve(house, row):
    """Its descriptor is tested by the same protocol as a network, and differs from image to image or does not."""
    run = runs_of("standins/difficulty", budget="smoke", rows=[row])[0]
    record = worker.execute(run, log=lambda line: None)
    assert (record.ok, record.curve, record.seconds, record.images_per_second) == (True, [], 0, 0)
    assert record.data["renderer"] == standin.VERSION
    assert not (run.work_folder / training.WEIGHTS).exists()
    assert 0 < record.metrics[run.protocol]["mAP"] < 100


@pytest.mark.parametrize(
    "testing",
    [
        dict(flip=True),
        dict(multi_query=True),
        dict(reranking="k-reciprocal", reranking_options=dict(k1=5, k2=2)),
        dict(reranking="ECN", reranking_options=dict(k=10, t=2, q=3)),
    ],
    ids=lambda testing: next(iter(testing)) + testing.get("reranking", ""),
)
def test_what_is_done_at_test_time_changes_the_record_and_not_the_network(
    finished, rendered, narrow, monkeypatch, testing
):
    folder, file = finished
    monkeypatch.setenv("REID_CACHE", str(rendered))
    monkeypatch.setenv("REID_RESULTS", str(folder))
    table = papers.table(TABLE)
    wider = replace(table, rows=(*table.rows, replace(table.rows[0], label="other test", testing=testing)))
    monkeypatch.setattr(papers, "table", lambda slug: wider)
    run, other = plan()[0], plan(rows=["other test"])[0]
    assert run.network == other.network and run.key != other.key
    lines = []
    record = worker.execute(other, log=lines.append)
    assert lines[0].startswith("trained already")
    before = records.read(file)
    assert record.tested["testing"] == {"mirror" if name == "flip" else name: on for name, on in testing.items()}
    assert record.metrics.keys() == (
        {run.protocol.replace("single", "multi")} if "multi_query" in testing else {run.protocol}
    )
    assert list(record.metrics.values()) != list(before.metrics.values())


def test_a_row_that_repeats_one_of_a_paper_reads_its_record_and_is_not_trained_again(tmp_path, monkeypatch, capsys):
    """Of the committed records, copied: what stands in the paper's folder is not written into the study's."""
    own = runs_of("safenet/table5", budget="small", rows=["g4"])[0]
    repeated = runs_of("standins/from-scratch", budget="small", rows=["safenet/table5: g4"])
    same, scratch = sorted(repeated, key=lambda run: run.row.variant)
    assert (same.row.variant, scratch.row.variant) == ("as-published", standins.SCRATCH)
    there = own.record_file
    monkeypatch.setenv("REID_RESULTS", str(tmp_path))
    own.record_folder.mkdir(parents=True)
    for suffix in (".json", ".npz"):
        shutil.copy(there.with_suffix(suffix), own.record_folder)
    assert same.record() == own.record() and same.is_made() and same.record_file != own.record_file
    assert np.array_equal(same.per_query(), own.per_query())
    assert not scratch.is_made()
    line = "train standins/from-scratch --budget small --row"
    cli.main([*line.split(), same.row.label, "--variant", "as-published"])
    assert f"finished already: {own.record_file}" in capsys.readouterr().out and not same.record_file.exists()
