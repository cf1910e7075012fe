"""Records on their way between machines: what arrives is what was sent, and nothing else gets in."""

import io
import json
import os
import re
import shutil
import stat
import subprocess
import zipfile
from pathlib import Path

import made_up
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reidlib.runs import archive, records
from reidlib.runs.run import runs_of
from reidlib.spec import ReidError


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The results folder of one machine, with three records and a failed one."""
    monkeypatch.setenv("REID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REID_RESULTS", str(tmp_path / "here"))
    runs = runs_of("safenet/table5", budget="smoke")[:4]
    for run in runs[:3]:
        made_up.write(run)
    made_up.write(runs[3], status="failed")
    return tmp_path / "here"


@pytest.fixture
def there(here, tmp_path, monkeypatch):
    """An archive of it, and then the empty results folder of another machine."""
    archive.pack(tmp_path / "packed.zip")
    monkeypatch.setenv("REID_RESULTS", str(tmp_path / "there"))
    return tmp_path / "there"


def draw(run, **arrays) -> Path:
    """Puts arrays beside the record of a run, as a figure does."""
    whole = {"whose": np.array("the record's own training")} | records.read_maps(run.record_file, run.record()) | arrays
    records.write_maps(run.record_file, run.record(), whole)
    return records.maps_of(run.record_file)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refused(file: Path, results: Path, words: str) -> None:
    before = content(results)
    with pytest.raises(ReidError, match=words) as fault:
        archive.merge(file)
    assert str(fault.value).isprintable() and file.name in str(fault.value)
    assert content(results) == before, "nothing was taken in"


# --- pack -------------------------------------------------------------------------------------------------------------


def test_round_trip(here, there, tmp_path):
    merged = archive.merge(tmp_path / "packed.zip")
    failed = [name for name, data in content(here).items() if b'"failed"' in data]
    assert content(there) == {name: data for name, data in content(here).items() if name not in failed}
    assert len(merged.added) == 3 and str(merged) == "3 added"
    again = archive.merge(tmp_path / "packed.zip")
    assert str(again) == "0 added\n3 skipped (there already)" and len(again.skipped) == 3


def test_equal_records_give_an_equal_archive(here, tmp_path):
    packed = archive.pack(tmp_path / "one.zip")
    for file in here.rglob("*.json"):
        os.utime(file, (1, 1))
    assert archive.pack(tmp_path / "two.zip") == packed == sorted(packed)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    archive.pack(tmp_path / "one.zip")  # its own archive is replaced
    assert sorted(file.name for file in tmp_path.glob("*.zip*")) == ["one.zip", "two.zip"]


def git(folder, *words):
    line = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@x", *words]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()


def test_only_what_a_commit_does_not_have_is_packed(here, tmp_path):
    files = [file for file in sorted(here.rglob("*.json")) if records.read(file).ok]
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", str(files[0]), str(files[0].with_suffix(".npz")))
    git(tmp_path, "commit", "-qm", "one")
    first = git(tmp_path, "rev-parse", "HEAD")
    file = tmp_path / "packed.zip"
    assert archive.pack(file) == files[1:], "untracked"
    git(tmp_path, "add", str(here))
    git(tmp_path, "commit", "-qm", "all")
    before = file.read_bytes()
    assert archive.pack(file) == [] and file.read_bytes() == before, "nothing to pack, nothing written"
    assert archive.pack(file, since=first) == files[1:]
    changed = json.loads(files[0].read_text(encoding="utf-8")) | {"seconds": 7.5}
    files[0].write_text(json.dumps(changed), encoding="utf-8")
    assert archive.pack(file) == files[:1], "changed since"
    for unknown in ("no-such-commit", "--output=x"):
        with pytest.raises(ReidError, match=f"commit '{unknown}': .*name a commit of the checkout"):
            archive.pack(file, since=unknown)


def test_a_damaged_or_misplaced_record_is_left_out_and_named(here, tmp_path):
    good, cut, elsewhere = (file for file in sorted(here.rglob("*.json")) if records.read(file).ok)
    cut.with_suffix(".npz").write_bytes(b"")
    for place in (elsewhere, elsewhere.with_suffix(".npz")):
        target = here / "records/real/market1501/smoke/safenet" / place.name
        target.parent.mkdir(parents=True, exist_ok=True)
        place.rename(target)
    said = []
    assert archive.pack(tmp_path / "packed.zip", log=said.append) == [good]
    assert len(said) == 2 and any(cut.stem in line for line in said) and any("belongs at" in line for line in said)


def test_another_file_is_not_overwritten(here, tmp_path):
    stream = io.BytesIO()
    zipfile.ZipFile(stream, "w").close()
    for foreign in (b"my thesis", stream.getvalue()):
        file = tmp_path / "thesis.zip"
        file.write_bytes(foreign)
        with pytest.raises(ReidError, match="exists and was not written by `reid pack`"):
            archive.pack(file)
        assert file.read_bytes() == foreign


def test_a_full_disk_leaves_no_part_of_an_archive(here, tmp_path, monkeypatch):
    def full(stream):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReidError, match="packed.zip: cannot be written .No space left"):
        archive.pack(tmp_path / "packed.zip")
    assert not list(tmp_path.glob("packed*"))


def test_what_figures_keep_is_packed_with_its_record(here, tmp_path):
    """That of a record which was replaced since, and a damaged one, stay behind; their records do not."""
    drawn, old, damaged = runs_of("safenet/table5", budget="smoke")[:3]
    file = draw(drawn, stage=np.ones((2, 3), np.float16))
    draw(old)
    made_up.write(old, made_up.arrays((9, 9)))
    draw(damaged).write_bytes(b"PK cut")
    said = []
    assert len(archive.pack(tmp_path / "packed.zip", log=said.append)) == 3
    names = zipfile.ZipFile(tmp_path / "packed.zip").namelist()
    assert [name for name in names if "maps" in name] == [file.relative_to(here).as_posix()]
    assert len(said) == 1 and "left out" in said[0] and f"{damaged.key}.maps.npz is damaged" in said[0]


# --- merge ------------------------------------------------------------------------------------------------------------


def test_another_record_of_the_same_key_is_kept_beside_and_named(here, there, tmp_path):
    run = runs_of("safenet/table5", budget="smoke")[0]
    own = made_up.write(run, made_up.arrays((9, 9)), seconds=1.0)
    for _ in range(2):
        merged = archive.merge(tmp_path / "packed.zip")
        assert run.record() == own, "never overwritten"
        aside = run.record_file.with_name(f"{run.key}.json.other")
        assert merged.conflicting == [aside] and aside.name in str(merged)
        assert aside.read_bytes() == (here / run.record_file.relative_to(there)).read_bytes()
        assert aside.with_name(f"{run.key}.npz.other").is_file()
    assert len(list(there.rglob("*.other*"))) == 2, "not kept twice"


def test_a_failed_or_unreadable_record_makes_room(there, tmp_path):
    failed, damaged, _ = runs_of("safenet/table5", budget="smoke")[:3]
    made_up.write(failed, status="failed")
    damaged.record_file.write_text("{", encoding="utf-8")
    assert len(archive.merge(tmp_path / "packed.zip").added) == 3
    assert failed.record().ok and damaged.record().ok
    assert damaged.record_file.with_name(f"{damaged.key}.json.unreadable").read_text(encoding="utf-8") == "{"


@pytest.fixture
def drawn(here, tmp_path, monkeypatch):
    """An archive with a map beside one record, that record's run, and the empty results folder of another machine."""
    run = runs_of("safenet/table5", budget="smoke")[0]
    draw(run, stage=np.arange(3.0))
    archive.pack(tmp_path / "packed.zip")
    monkeypatch.setenv("REID_RESULTS", str(tmp_path / "there"))
    return run


def test_what_figures_keep_arrives_with_its_record(drawn, here, tmp_path):
    assert str(archive.merge(tmp_path / "packed.zip")) == "3 added"
    place = records.maps_of(drawn.record_file)
    assert place.read_bytes() == (here / place.relative_to(tmp_path / "there")).read_bytes()
    assert str(archive.merge(tmp_path / "packed.zip")) == "0 added\n3 skipped (there already)"


@pytest.mark.parametrize("there", ["nothing", "damaged", "other map", "same map", "other weights"])
def test_what_figures_keep_is_added_to_a_record_that_is_there(drawn, tmp_path, there):
    archive.merge(tmp_path / "packed.zip")
    place, was = records.maps_of(drawn.record_file), np.full(3, 7.0)
    place.unlink()
    if there == "damaged":
        place.write_bytes(b"PK cut")
    elif there != "nothing":
        draw(drawn, **{"stage" if there == "same map" else "other": was})
    if there == "other weights":
        draw(drawn, whose=np.array("another training"))
    merged = archive.merge(tmp_path / "packed.zip")
    lost = there == "same map"
    assert (merged.added, merged.drawn) == ([], [] if lost else [drawn.record_file]) and not merged.refused
    assert len(merged.skipped) + len(merged.drawn) == 3 and ("maps for figures were added" in str(merged)) != lost
    found = records.read_maps(drawn.record_file, drawn.record())
    wanted = {} if lost else {"stage": np.arange(3.0)}
    wanted |= {"same map": {"stage": was}, "other map": {"other": was}, "other weights": {"other": was}}.get(there, {})
    whose = dict.fromkeys(wanted, "the record's own training")
    assert records.origins(found) == whose | ({"other": "another training"} if there == "other weights" else {})
    assert all(np.array_equal(found[name], array) for name, array in wanted.items())


def packed_maps(**arrays) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **{"record": np.array("0" * 64), "whose": np.array("x"), **arrays})
    return stream.getvalue()


@pytest.mark.parametrize(
    "maps, words",
    [
        (packed_maps(), "drawn for another record"),
        (b"PK cut", "maps.npz is damaged"),
        (packed_maps(record=np.zeros(3)), "maps.npz is damaged .*no text"),
        (packed_maps(stage=np.array([None])), "maps.npz is damaged .*pickle"),
    ],
    ids=["another", "cut", "numbers", "objects"],
)
def test_maps_that_are_none_of_the_record_are_refused_with_it(drawn, tmp_path, maps, words):
    file = rewritten(tmp_path / "packed.zip", lambda name, data: (name, maps if "maps" in name else data))
    merged = archive.merge(file)
    (why,) = merged.refused.values()
    assert len(merged.added) == 2 and re.search(words, why) and why.isprintable() and not drawn.record_file.exists()


def test_maps_without_a_record_are_refused(drawn, tmp_path):
    gone = f"{drawn.key}.json"
    refused(
        rewritten(tmp_path / "packed.zip", lambda name, data: None if gone in name else (name, data)),
        tmp_path / "there",
        "has no record beside it",
    )


def rewritten(file: Path, change) -> Path:
    """The archive with each member (name, content) as `change` returns it; None leaves it out."""
    with zipfile.ZipFile(file) as old:
        members = [(info.filename, old.read(info)) for info in old.infolist()]
    target = file.with_name("changed.zip")
    with zipfile.ZipFile(target, "w") as new:
        new.comment = archive.COMMENT
        for member in filter(None, (change(*member) for member in members)):
            new.writestr(*member)
    return target


def first_json(change):
    """`change` on the content of the first record of an archive, as a dictionary."""
    done = []

    def apply(name, data):
        if name.endswith(".json") and not done:
            done.append(name)
            return name, json.dumps(json.loads(data) | change).encode()
        return name, data

    return apply


@pytest.mark.parametrize(
    "change, words",
    [
        ({"seed": 3}, "does not follow from its settings"),
        ({"settings": {"model": "mine"}}, "does not follow from its settings"),
        ({"metrics": {"market1501-single-query": {"rank1": 99.0, "mAP": 99.0, "queries": 4, "excluded_queries": 0}}},
         "mean of mAP"),
        ({"per_query_sha256": "0" * 64}, "SHA-256 differs"),
        ({"error": "\x1b[2J"}, "not printable"),
        ({"budget": "full"}, "belongs at"),
        ({"status": "failed", "error": "x"}, "a failed run has no per-query file"),
    ],
    ids=["seed", "settings", "metrics", "digest", "escape", "place", "status"],
)  # fmt: skip
def test_a_tampered_record_is_refused_and_the_others_are_taken(there, tmp_path, change, words):
    merged = archive.merge(rewritten(tmp_path / "packed.zip", first_json(change)))
    assert len(merged.added) == 2 and len(merged.refused) == 1
    (why,) = merged.refused.values()
    assert words in why and why in str(merged).splitlines()[-1] and why.isprintable()
    assert len(list(there.rglob("*.json"))) == len(list(there.rglob("*.npz"))) == 2


def test_exchanged_per_query_files_are_refused(there, tmp_path):
    """Each is a good file; none belongs to its record."""
    names = sorted(name for name in zipfile.ZipFile(tmp_path / "packed.zip").namelist() if name.endswith(".npz"))
    other = zipfile.ZipFile(tmp_path / "packed.zip").read(names[0]) + b" "
    merged = archive.merge(
        rewritten(tmp_path / "packed.zip", lambda name, data: (name, other if name == names[1] else data))
    )
    assert len(merged.added) == 2 and "SHA-256 differs" in next(iter(merged.refused.values()))


def test_a_record_without_its_per_query_file_is_refused(there, tmp_path):
    merged = archive.merge(rewritten(tmp_path / "packed.zip", lambda n, d: None if n.endswith(".npz") else (n, d)))
    assert not merged.added and len(merged.refused) == 3 and not there.exists()


GOOD = "records/stand-in/market1501/smoke/safenet/0123456789abcdef.json"


@pytest.mark.parametrize(
    "name",
    ["/etc/cron.d/x", "../../x.json", GOOD.replace("market1501", ".."), f"x/../{GOOD}", "records/x.json", "notes.txt",
     GOOD.replace("0123", "\x1b[2J"), f"{GOOD}/", GOOD.replace("/", "\\"), GOOD + "\n", GOOD.replace("json", "pkl")],
    ids=repr,
)  # fmt: skip
def test_a_path_that_is_no_place_of_a_record_is_refused(there, tmp_path, name):
    file = rewritten(tmp_path / "packed.zip", lambda *member: member)
    with zipfile.ZipFile(file, "a") as changed:
        changed.writestr(name, b"")
    refused(file, there, "is no record; take an archive that `reid pack` wrote; nothing was taken in")


def made_of(file, *members, **options):
    """An archive of these members (name or ZipInfo, content)."""
    with zipfile.ZipFile(file, "w", **options) as made:
        made.comment = archive.COMMENT
        for member in members:
            made.writestr(*member)
    return file


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_link_a_twin_and_a_bomb_are_refused(there, tmp_path):
    file, arrays = tmp_path / "bad.zip", GOOD.replace("json", "npz")
    link = zipfile.ZipInfo(GOOD)
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused(made_of(file, (link, "/etc/passwd")), there, "is no record")
    refused(made_of(file, (GOOD, "{}"), (GOOD, "{}")), there, "occurs twice")
    bomb = made_of(file, (GOOD, bytes(2**23)), compression=zipfile.ZIP_DEFLATED)
    refused(bomb, there, "8,388,608 bytes, too many")
    refused(made_of(file, (arrays, b"")), there, "holds no record")
    refused(made_of(file), there, "holds no record")
    refused(made_of(file, (arrays, b""), (GOOD.replace("0123", "9999"), b"")), there, "has no record beside it")


def test_a_foreign_file_is_refused(there, tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as other:
        other.writestr("notes.txt", "of another program")
    foreign = {"text.zip": b"text", "empty.zip": b"", "image.zip": b"\x89PNG\r\n\x1a\n" + bytes(100)}
    foreign["other.zip"] = stream.getvalue()
    for name, data in foreign.items():
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, there, "not an archive of `reid pack`, or cut short")
    os.mkfifo(tmp_path / "pipe.zip")
    refused(tmp_path / "pipe.zip", there, "not a regular file")
    refused(tmp_path / "none.zip", there, "missing")


def test_a_link_in_the_results_folder_is_not_followed(there, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (there / "records").mkdir(parents=True)
    (there / "records" / "stand-in").symlink_to(outside)
    merged = archive.merge(tmp_path / "packed.zip")
    assert not merged.added and len(merged.refused) == 3 and not list(outside.iterdir())
    assert all("leads out of the results folder" in why for why in merged.refused.values())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_truncated_or_changed_archive_is_one_line_or_takes_good_records(there, tmp_path, data):
    whole = (tmp_path / "packed.zip").read_bytes()
    place = data.draw(st.integers(0, len(whole) - 2))
    cut = data.draw(st.booleans())
    damaged = whole[:place] if cut else whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
    file = tmp_path / "damaged.zip"
    file.write_bytes(damaged)
    shutil.rmtree(there, ignore_errors=True)
    try:
        archive.merge(file)
    except ReidError as fault:
        assert "damaged.zip" in str(fault) and str(fault).isprintable()
        assert not there.exists()
    else:
        assert not cut
        for record in there.rglob("*.json"):
            assert records.read(record).ok
