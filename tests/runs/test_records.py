"""Records: the reader accepts what the writer wrote and nothing else; each fault is one line with file and remedy."""

import ast
import hashlib
import io
import json
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import made_up
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reidlib import papers
from reidlib.evaluation import TIE_RULE
from reidlib.runs import records
from reidlib.runs.run import runs_of
from reidlib.spec import ReidError

COMMITTED = sorted((Path(__file__).parents[2] / "results" / "records").rglob("*.json"))


@pytest.fixture(scope="module")
def run():
    return runs_of("safenet/table5", budget="smoke", rows=["g4"])[0]


@pytest.fixture(scope="module")
def file(run, tmp_path_factory):
    """A good record in a folder of its own."""
    file = tmp_path_factory.mktemp("good") / f"{run.key}.json"
    records.write(file, made_up.record(run, made_up.arrays(excluded=1)), made_up.arrays(excluded=1))
    return file


@pytest.fixture
def copy(file, tmp_path):
    """A copy of it, to be damaged."""
    for place in (file, file.with_suffix(".npz")):
        shutil.copy(place, tmp_path)
    return tmp_path / file.name


def refused(file, words="", **options):
    """The one line with which the reader refuses a file; it names the file and is printable."""
    with pytest.raises(ReidError) as fault:
        records.read(file, **options)
    line = str(fault.value)
    assert file.stem in line and line.isprintable() and words in line, line
    return line


def changed(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    return file


# --- reading what was written -----------------------------------------------------------------------------------------


def test_what_is_written_is_read(run, file):
    record = records.read(file)
    assert record.ok and (record.key, record.network) == (run.key, run.network)
    assert record.per_query_sha256 == hashlib.sha256(file.with_suffix(".npz").read_bytes()).hexdigest()
    arrays = records.read_per_query(file, record)
    assert {name: array.tolist() for name, array in arrays.items() if name != "valid"}.keys() == {
        "ap",
        "ap_trapezoid",
        "inp",
        "first_hit",
        "identity",
    }
    assert arrays["identity"].tolist() == [0, 0, 1, 1, 2]
    assert arrays["first_hit"].tolist() == [1, 2, 1, 4, 0] and arrays["valid"].tolist() == [True] * 4 + [False]


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.stem)
def test_every_committed_record_is_accepted(file):
    record = records.read(file)
    assert record.schema == records.SCHEMA and file.as_posix().endswith(record.place.as_posix())
    assert record.tie_rule == TIE_RULE
    assert record.threads in (1, 2) and record.device_kind in ("cpu", "cuda")


def test_a_failed_run_has_a_record_without_numbers(run, tmp_path):
    file = tmp_path / f"{run.key}.json"
    error = "loss is nan\n\x1b[2J at\tstep 3 \x9b31m"
    written = records.write(file, made_up.record(run, status="failed", error=error))
    assert written == records.read(file) and not file.with_suffix(".npz").exists()
    assert written.error == "loss is nan \ufffd[2J at step 3 \ufffd31m", "no control sequence reaches a terminal"
    with pytest.raises(ReidError, match="has no per-query numbers"):
        records.read_per_query(file, written)


def test_other_letters_survive_a_locale_without_them(run, tmp_path, monkeypatch):
    monkeypatch.setattr("locale.getpreferredencoding", lambda *given: "ascii")
    file = tmp_path / f"{run.key}.json"
    records.write(file, made_up.record(run, notes=["Größe × 2, 行人"]), made_up.arrays())
    assert records.read(file).notes == ["Größe × 2, 行人"] and "行人".encode() in file.read_bytes()


def test_every_read_and_write_of_a_text_names_its_encoding():
    for name in ("records", "archive", "status", "datasets"):
        tree = ast.parse(Path(records.__file__).with_name(f"{name}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("read_text", "write_text"):
                assert "encoding" in {word.arg for word in node.keywords}, f"{name}.py line {node.lineno}"


def test_every_label_can_stand_in_a_record():
    labels = [text for table in papers.tables().values() for row in table.rows for text in (row.label, row.variant)]
    assert all(label.isprintable() for label in labels)


def test_keys_follow_from_the_content_of_a_record(file):
    content = json.loads(file.read_text(encoding="utf-8"))
    assert records.keys_of(content) == (content["key"], content["network"])
    for change in ({"seed": 1}, {"start_digest": "0" * 16}, {"settings": {}}, {"results_version": 2}):
        assert records.keys_of(content | change)[0] != content["key"]
    assert records.keys_of(content | {"tested": {"mirror": True}})[1] == content["network"]


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"seed": True}, "seed is True, not a whole number from 0"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"seed": -1}, "seed is -1"),
        ({"seconds": float("nan")}, "seconds is nan, not a finite number"),
        ({"status": "started"}, "status is 'started', not one of finished, failed"),
        ({"status": ["finished"]}, "status is ['finished']"),
        ({"status": "failed"}, "a failed run without an error"),
        ({"error": "\x1b[31mred"}, "error is '\\x1b[31mred', not printable text"),
        ({"notes": ["a\nb"]}, "notes is"),
        ({"commit": "\u202eabc"}, "commit is"),
        ({"metrics": {}}, "metrics of 0 protocols"),
        ({"metrics": {"m": {"mAP": 250.0}}}, "metrics is {'m': {'mAP': 250.0}}, not percentages"),
        ({"metrics": {"m": {"mAP": "50"}}}, "metrics is"),
        ({"metrics": {"m": {"queries": 1.5}}}, "metrics is"),
        ({"metrics": {"m": {"mAP": 1.0, "queries": 4}}}, "metrics without excluded_queries, rank1"),
        ({"held_out": {"mAP": -1.0}}, "held_out is"),
        ({"curve": [{"loss": 1.0}]}, "curve is"),
        ({"curve": [{"epoch": 2}]}, "curve is"),
        ({"curve": {"epoch": 1}}, "curve is"),
        ({"threads": 0}, "a run on a processor without threads"),
        ({"threads": 1.0}, "threads is 1.0"),
        ({"device_kind": "tpu"}, "device_kind is 'tpu', not cpu, cuda or nothing"),
        ({"device_kind": ""}, "a finished run without device_kind"),
        ({"precision": ["bf16"]}, "precision is"),
        ({"tie_rule": ""}, "a finished run without tie_rule"),
        ({"finished": "yesterday"}, "finished is 'yesterday', not a time in ISO 8601"),
        ({"per_query_sha256": "ab"}, "per_query_sha256 is 'ab'"),
        ({"budget": "../small"}, "budget is '../small', not a word"),
        ({"made_for": {"paper": "../x", "table": "t", "row": "r", "variant": "v"}}, "made_for is"),
        ({"data": {"name": "market1501"}}, "data is"),
        ({"settings": {"a": [float("1e308")] * 2}}, "its key does not follow from its settings"),
        ({"seed": 1}, "its key does not follow from its settings, start, data and seed"),
        ({"accuracy": 1}, "'accuracy' unknown"),
        ({"schema": 2}, "schema 2, this code reads 3; delete it and run its row again"),
        ({"schema": 4}, "schema 4, this code reads 3; update the code"),
        ({"schema": "3"}, "schema is '3', not 3"),
        ({"key": "0" * 16}, "key"),
    ],
    ids=str,
)
def test_a_wrong_value_is_named(copy, changes, words):
    line = refused(changed(copy, **changes), words, arrays=False)
    assert "delete it" in line or "rename it" in line


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "cut short or unreadable"),
        (b"[]", "JSON of kind list"),
        (b'{"seed": NaN}', "not a record of this version"),
        (b'{"a": 1, "a": 2}', "a name occurs twice"),
        (b"[" * 100_000, "cut short or unreadable"),
        (b'{"a": ' * 900 + b"1" + b"}" * 900, "not a record of this version"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "cut short or unreadable"),
        (b'{"a": "\xff"}', "cut short or unreadable"),
        (b" " * (4 * 2**20 + 1), "larger than 4 MiB"),
    ],
    ids=["empty", "list", "nan", "twice", "deep list", "deep object", "long number", "latin", "large"],
)
def test_what_is_no_record_is_refused(copy, content, words):
    copy.write_bytes(content)
    refused(copy, words)


def test_absurd_depth_in_the_settings_is_refused(copy):
    deep: object = 1
    for _ in range(400):
        deep = [deep]
    refused(changed(copy, settings={"options": deep}), "settings is")


def test_a_missing_field_or_another_name_is_refused(copy):
    content = json.loads(copy.read_text(encoding="utf-8"))
    del content["threads"]
    copy.write_text(json.dumps(content), encoding="utf-8")
    refused(copy, "'threads' missing")
    content["threads"] = 1
    other = copy.with_name("0" * 16 + ".json")
    other.write_text(json.dumps(content), encoding="utf-8")
    refused(other, f"rename it to {content['key']}.json", arrays=False)


def test_a_pipe_or_a_folder_instead_of_a_record_does_not_hang(tmp_path):
    pipe, folder = tmp_path / "a.json", tmp_path / "b.json"
    os.mkfifo(pipe)
    folder.mkdir()
    for place in (pipe, folder):
        refused(place, "not a regular file")
    refused(tmp_path / "c.json", "missing")


OTHER = made_up.arrays((4, 1, 2, 1), excluded=1)  # the same mean, of other queries


def stored(arrays) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "missing"),
        (b"", "SHA-256 differs"),
        (stored(OTHER), "SHA-256 differs"),
    ],
    ids=["missing", "empty", "of another run"],
)
def test_a_per_query_file_that_is_not_its_own_is_refused(copy, content, words):
    arrays = copy.with_suffix(".npz")
    arrays.unlink()
    if content is not None:
        arrays.write_bytes(content)
    assert arrays.name in refused(copy, words) and records.read(copy, arrays=False).ok


GOOD = made_up.arrays(excluded=1)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"no archive", "unreadable"),
        (stored(GOOD)[:-30], "unreadable"),
        (stored({"ap": GOOD["ap"]}), "ap_trapezoid, identity, inp, valid missing"),
        (stored(GOOD | {"ap": GOOD["ap"].astype(np.float32)}), "'ap' is float32 of shape (5,), not float64"),
        (stored(GOOD | {"ap": GOOD["ap"][:4]}), "'ap' is float64 of shape (4,)"),
        (stored(GOOD | {"ap": GOOD["ap"].reshape(5, 1)}), "'ap' is float64 of shape (5, 1)"),
        (stored(GOOD | {"valid": np.ones(5, dtype=bool)}), "5 of 5 queries valid, the record says 4"),
        (stored(GOOD | {"valid": np.array(True)}), "not float64 of (1,)"),
        (stored(GOOD | {"inp": GOOD["ap"] * 3}), "'inp' outside 0 to 1"),
        (stored(GOOD | {"inp": np.full(5, np.nan)}), "'inp' outside 0 to 1"),
        (stored(GOOD | {"ap": GOOD["ap"] / 2}), "mean of mAP 34.375, the record says 68.750"),
        (stored(GOOD | {"first_hit": GOOD["first_hit"] + 1}), "mean of rank1 0.000, the record says 50.000"),
        (stored(GOOD | {"identity": GOOD["identity"][:4]}), "'identity' is int64 of shape (4,)"),
        (stored(GOOD | {"identity": GOOD["ap"]}), "'identity' is float64 of shape (5,), not int64"),
        (stored(GOOD | {"extra": np.array([object()] * 5)}), "unreadable"),
    ],
    ids=range(15),
)
def test_per_query_numbers_that_contradict_their_record_are_refused(copy, content, words):
    """Even under the right digest."""
    copy.with_suffix(".npz").write_bytes(content)
    refused(changed(copy, per_query_sha256=hashlib.sha256(content).hexdigest()), words)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.floats(), max_size=2), st.just(10**400), st.just("\x1b]0;x\x07"),
)  # fmt: skip
FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FAST
@given(data=st.data())
def test_any_damage_is_one_line_or_harmless(file, data):
    """Cut, a byte changed, or a value of another kind: refused by name, or what is read is still a valid record."""
    whole = file.read_bytes()
    kind = data.draw(st.sampled_from(["cut", "byte", "value", "inner value"]))
    if kind == "cut":
        damaged = whole[: data.draw(st.integers(0, len(whole) - 2))]
    elif kind == "byte":
        place = data.draw(st.integers(0, len(whole) - 1))
        damaged = whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :]
    else:
        content = json.loads(whole)
        name = data.draw(st.sampled_from(sorted(content)))
        if kind == "value" or not isinstance(content[name], dict) or not content[name]:
            content[name] = data.draw(VALUES)
        else:
            content[name][data.draw(st.sampled_from(sorted(content[name])))] = data.draw(VALUES)
        damaged = json.dumps(content).encode()
    try:
        record = records.parse(damaged, file)
    except ReidError as fault:
        assert file.name in str(fault) and str(fault).isprintable()
    else:
        records.check(json.loads(damaged), file)
        assert 0 <= record.seed < 2**63 and all(text.isprintable() for text in (record.error, record.start))


@FAST
@given(data=st.data())
def test_any_damage_of_the_per_query_file_is_noticed(file, data):
    record, whole = records.read(file), file.with_suffix(".npz").read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(st.sampled_from([whole[:place], whole[:place] + b"\xff\x00" + whole[place + 2 :]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            own = replace(record, per_query_sha256=hashlib.sha256(damaged).hexdigest())
            arrays = records.parse_per_query(damaged, own, file)
        except ReidError as fault:
            assert file.name in str(fault)
        else:
            assert made_up.metrics(arrays)["mAP"] == pytest.approx(68.75)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_the_writer_refuses_what_the_reader_would(run, tmp_path):
    file, good = tmp_path / f"{run.key}.json", made_up.record(run)
    for record, arrays, words in [
        (good, None, "per-query numbers: ap, ap_trapezoid, identity, inp, valid missing"),
        (replace(good, seconds=float("nan")), made_up.arrays(), "seconds is nan"),
        (replace(good, threads=0), made_up.arrays(), "without threads"),
        (good, made_up.arrays((9, 9)), "2 of 2 queries valid"),
    ]:
        with pytest.raises(ReidError, match=words):
            records.write(file, record, arrays)
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_written_whole_or_not_at_all(run, tmp_path, monkeypatch):
    file = tmp_path / f"{run.key}.json"
    records.write(file, made_up.record(run), made_up.arrays())
    before = {place.name: place.read_bytes() for place in tmp_path.iterdir()}

    def full(stream):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReidError, match="record cannot be written .No space left.*REID_RESULTS"):
        records.write(file, made_up.record(run, seconds=9.0), made_up.arrays())
    assert {place.name: place.read_bytes() for place in tmp_path.iterdir()} == before


def test_what_is_set_aside_stays_when_the_next_is(copy):
    for number in (1, 2, 3):
        copy.write_text(f"damage {number}", encoding="utf-8")
        copy.with_suffix(".npz").write_bytes(b"arrays %d" % number)
        if number == 2:
            records.maps_of(copy).write_bytes(b"maps")
        records.set_aside(copy)
    found = {place.name.removeprefix(copy.stem): place.read_text(encoding="utf-8") for place in copy.parent.iterdir()}
    assert found == {
        ".json.unreadable": "damage 1",
        ".json.unreadable-2": "damage 2",
        ".json.unreadable-3": "damage 3",
        ".maps.npz.unreadable-2": "maps",
        ".npz.unreadable": "arrays 1",
        ".npz.unreadable-2": "arrays 2",
        ".npz.unreadable-3": "arrays 3",
    }


def test_a_full_disk_is_noticed_before_training(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "results"
    records.check_writable(folder)
    assert list(folder.iterdir()) == []
    sizes: list[int] = []

    def full(descriptor):
        sizes.append(os.fstat(descriptor).st_size)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReidError, match="results folder cannot be written .No space left.*free some space"):
        records.check_writable(folder)
    assert sizes == [2**20] and list(folder.iterdir()) == [], "as much as a record takes, and nothing is left"


@pytest.mark.parametrize("place, variable", [("results", "REID_RESULTS"), ("cache/again/records", "REID_CACHE")])
def test_the_variable_of_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, place, variable):
    monkeypatch.setenv("REID_CACHE", str(tmp_path / "cache"))
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text("a file where the folder should be")
    with pytest.raises(ReidError, match=f"{place}: .* folder cannot be written .*set {variable} to another"):
        records.check_writable(tmp_path / place)
