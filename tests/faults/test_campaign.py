"""Bad input by the hundred, drawn anew in each call: whatever is wrong, a command ends in one line and changes nothing.

The line says what is wrong, where, and what to do. hypothesis draws the damage and prints the example that it found.
"""

import copy
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import made_up
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from scipy.io import savemat

from reidlib import cli, paths, training
from reidlib.book import notebooks
from reidlib.runs import archive, records
from reidlib.runs.run import runs_of

pytestmark = pytest.mark.all

HOME = Path(__file__).parents[2]
REMEDIES = (
    "give choose use set unset delete remove rename copy fix save write render unpack convert move add extract look",
    "call restore run train install pack update fetch complete make invalid required expected allowed unrecognized",
)
SETS = ("market1501", "dukemtmc", "msmt17", "cuhk03-np-labeled", "cuhk03-classic-labeled-01")


def drawn(count):
    slow = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture]
    return settings(max_examples=count, deadline=None, database=None, suppress_health_check=slow)


# --- a command, and what must hold at its end -------------------------------------------------------------------------


def called(line):
    """Exit status, stdout and stderr of a command in this process."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict", write_through=True) for _ in range(2)]
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        try:
            status = cli.main([str(word) for word in line])
        except SystemExit as end:
            status = end.code
    return status, *(stream.buffer.getvalue().decode("utf-8") for stream in streams)


def everything_in(*folders):
    """Every file and folder, with size, time of change and number: equal only if nothing was written."""
    found = {}
    for top in folders:
        for folder, below, names in os.walk(top):
            for name in (*below, *names):
                file = os.path.join(folder, name)
                seen = os.lstat(file)
                found[file] = (seen.st_mode, seen.st_size, seen.st_mtime_ns, seen.st_ino)
    return found


def check_line(status, said, *where):
    """One line, after argparse's usage where the words themselves are wrong."""
    lines = said.splitlines()
    assert status in (1, 2) and lines, (status, said)
    assert status == 2 or len(lines) == 1, said
    last = lines[-1]
    assert last.startswith(("error: ", "reid")) and "Traceback" not in said, said
    assert last.isprintable(), ascii(last)
    assert any(word in last for word in " ".join(REMEDIES).split()), f"no remedy: {last}"
    assert not where or any(str(one) in last for one in where), f"none of {where}: {last}"


def fails(line, *where, unchanged=()):
    before = everything_in(*unchanged)
    status, out, said = called(line)
    check_line(status, f"{said}" or f"nothing on stderr, but: {out}", *where)
    assert everything_in(*unchanged) == before


def fails_or_equals(line, good, unchanged=()):
    """For damage that a format cannot show: the command fails in one line, or says what it says of the good file."""
    before = everything_in(*unchanged)
    status, out, said = called(line)
    if status:
        check_line(status, said)
    else:
        assert out == good and not said
    assert everything_in(*unchanged) == before


# --- damage -----------------------------------------------------------------------------------------------------------

ODD_TEXT = st.text(min_size=1, max_size=12) | st.sampled_from(
    [
        "é",
        "２",
        "\x1b[31mred",
        "a\nb",
        "-1",
        "9" * 40,
        "../..",
        "NaN",
        "inf",
        "1e999",
        "x" * 400,
        "%s",
        "{}",
        "\u202e",
        "*",
    ]
)


@st.composite
def damage(draw, content):
    """The bytes of a file: cut, zeroed, swapped, changed, or replaced."""
    size = len(content)
    at, end = sorted(draw(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))))
    kind = draw(st.sampled_from(["cut", "zeroed", "swapped", "changed", "replaced", "begun later"]))
    changed = {
        "cut": content[:at],
        "begun later": content[end:],
        "zeroed": content[:at] + bytes(end - at) + content[end:],
        "swapped": content[at:end] + content[:at] + content[end:],
        "changed": content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :],
        "replaced": draw(st.binary(max_size=200) | ODD_TEXT.map(lambda text: text.encode("utf-8", "surrogatepass"))),
    }[kind]
    assume(changed != content)
    return changed


def places(value, way=()):
    """The ways to all values inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield (*way, name)
        yield from places(one, (*way, name))


WRONG = {
    str: [5, None, [], {}, True, "\x1b[31m", "a\nb", "\u202e"],
    bool: [5, "yes", None, []],
    int: ["12", None, [], {}, float("nan"), float("inf"), 10**30, "NaN"],
    float: ["1.5", None, [], {}, float("nan"), float("-inf"), 10**30],
    list: [{}, "x", 5, None],
    dict: [[], "x", 5, None],
}


@st.composite
def wrong_json(draw, content):
    """A JSON value in which one value is of another type, or out of every range."""
    changed = copy.deepcopy(content)
    *way, last = draw(st.sampled_from(list(places(content))))
    inner = changed
    for name in way:
        inner = inner[name]
    inner[last] = draw(st.sampled_from(WRONG.get(type(inner[last]), [5])))
    return changed


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with results and a cache of its own, named by the environment."""
    top = tmp_path_factory.mktemp("campaign")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RESULTS", "CACHE"):
            (top / name.lower()).mkdir()
            patch.setenv(f"REID_{name}", str(top / name.lower()))
        patch.delenv("REID_DATA", raising=False)
        patch.chdir(top)
        yield top


def written(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    file.write_bytes(content)
    return file


# --- words and environment --------------------------------------------------------------------------------------------

TABLE = ("safenet/table5", "--budget", "smoke")
WORDS = {
    "list": lambda word: ("list", word),
    "run": lambda word: ("run", word, "--budget", "smoke"),
    "run a row": lambda word: ("run", *TABLE, "--rows", word),
    "train": lambda word: ("train", word, "--budget", "smoke"),
    "train a row": lambda word: ("train", *TABLE, "--row", word),
    "train a variant": lambda word: ("train", *TABLE, "--row", "g4", f"--variant={word}"),
    "train at a budget": lambda word: ("train", TABLE[0], f"--budget={word}"),
    "train on a set": lambda word: ("train", *TABLE, f"--dataset={word}"),
    "train from a source": lambda word: ("train", *TABLE, f"--source={word}"),
    "reproduce": lambda word: ("reproduce", word, "--budget", "smoke", "--dry-run"),
    "reproduce on GPUs": lambda word: ("reproduce", *TABLE, "--dry-run", f"--gpus={word}"),
    "reproduce on a set": lambda word: ("reproduce", *TABLE, "--dry-run", f"--dataset={word}"),
    "status": lambda word: ("status", word, "--budget", "smoke"),
    "claims": lambda word: ("claims", word),
    "clean": lambda word: ("clean", word),
    "show": lambda word: ("show", word),
    "export": lambda word: ("export", word),
    "merge": lambda word: ("merge", word),
    "data": lambda word: ("data", word),
    "data in a folder": lambda word: ("data", "market1501", f"--root={word}"),
    "render": lambda word: ("render", word, "--out", "nowhere"),
    "render boxes": lambda word: ("render", "market1501", f"--boxes={word}", "--out", "nowhere"),
    "render on a device": lambda word: ("render", "market1501", f"--device={word}", "--out", "nowhere"),
    "evaluate": lambda word: ("evaluate", word, "gallery.npz"),
    "evaluate by": lambda word: ("evaluate", "query.npz", "gallery.npz", f"--protocol={word}"),
    "a command": lambda word: (word,),
    "an option": lambda word: ("list", f"--{word}"),
}
NUMBERS = {
    **{f"--{name}": ("reproduce", *TABLE, "--dry-run") for name in ("seeds", "threads", "per-gpu", "at-once", "for")},
    "--time-limit": ("reproduce", *TABLE, "--dry-run"),
    "--seed": ("train", *TABLE, "--row", "g4"),
    **{f"--{name}": ("render", "market1501", "--out", "nowhere") for name in ("scale", "workers", "occlusion")},
    "--resolution": ("render", "market1501", "--out", "nowhere"),
    "--same-clothes": ("render", "market1501", "--out", "nowhere"),
    **{f"--{name}": ("evaluate", "q.npz", "g.npz", "--rerank", "k-reciprocal") for name in ("k1", "k2", "lambda")},
    **{f"--{name}": ("evaluate", "q.npz", "g.npz", "--rerank", "ecn") for name in ("k", "t", "q")},
}


def is_some_word(word):
    """Whether a drawn word could be right, or ask for the help text."""
    plain = word.strip().lower()
    return "\0" in word or plain[:2] in ("-h", "--") or plain in ("", "all", ".", "/", "0", "cpu", "meta", "-1")


@drawn(90)
@given(st.sampled_from(sorted(WORDS)), ODD_TEXT)
def test_words(place, command, word):
    assume(not is_some_word(word) and not Path(word[:200]).exists() and not "help".startswith(word.strip("-")))
    assume(not (command == "an option" and "json".startswith(word.partition("=")[0])))
    fails(WORDS[command](word), unchanged=[place])


@drawn(60)
@given(
    st.sampled_from(sorted(NUMBERS)), ODD_TEXT | st.sampled_from(["-5", "nan", "0x10", "1_0", "²", "1,", ",", "--1"])
)
def test_numbers(place, option, word):
    assume("\0" not in word and not word.replace(".", "").strip().isdigit())
    fails((*NUMBERS[option], f"{option}={word}"), unchanged=[place])


VARIABLES = {
    "REID_RESULTS": ["list", "status"],
    "REID_CACHE": ["clean", "status"],
    "REID_HOME": ["list", "status", "book"],
    "REID_WEIGHTS": ["medium"],
    "REID_DATA": ["data"],
}
COMMANDS = {
    "list": ("list", "safenet/table5"),
    "clean": ("clean", "all"),
    "status": ("status", *TABLE),
    "book": ("book",),
    "medium": ("status", TABLE[0], "--budget", "full"),
    "data": ("data", "market1501"),
}


@drawn(40)
@given(st.data())
def test_environment(place, data):
    name = data.draw(st.sampled_from(sorted(VARIABLES)))
    command = COMMANDS[data.draw(st.sampled_from(VARIABLES[name]))]
    top = place / "environment"
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir()
    kind = data.draw(st.sampled_from(["file", "FIFO", "link to itself", "below a file", "nowhere"]))
    value = top / data.draw(st.sampled_from(["x", "é", "a b", "x" * 200, "\x1b[31m", "line\nline"]))
    if kind == "FIFO":
        os.mkfifo(value)
    elif kind == "link to itself":
        value.symlink_to(value.name)
    elif kind == "nowhere":
        assume(name not in ("REID_RESULTS", "REID_CACHE"))  # these are made
    else:
        value.write_text("x", encoding="utf-8")
    if kind == "below a file":
        assume(name not in ("REID_RESULTS", "REID_CACHE"))  # only what writes there can tell
        value = value / "x"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, str(value))
        fails(command, name, unchanged=[place])


# --- features ---------------------------------------------------------------------------------------------------------


def feature_sets():
    draw = np.random.default_rng(0)
    ids = np.arange(12) % 4 + 1
    query = dict(features=draw.standard_normal((4, 3)), ids=ids[:4], cameras=np.ones(4, np.int64))
    return query, dict(features=draw.standard_normal((12, 3)), ids=ids, cameras=np.full(12, 2))


def with_prefix(query, gallery):
    sets = {"query": query, "gallery": gallery}
    return {f"{one}_{field}": sets[one][field] for one in sets for field in sets[one]}


FORMS = {
    "npz": lambda file, content: np.savez(file, **content),
    "compressed.npz": lambda file, content: np.savez_compressed(file, **content),
    "mat": savemat,
    "compressed.mat": lambda file, content: savemat(file, content, do_compression=True),
    "safetensors": lambda file, content: save_file({n: torch.tensor(v) for n, v in content.items()}, file),
}

BAD_VALUES = {
    "features": [
        lambda x: x * np.nan,
        lambda x: x + np.inf,
        lambda x: x[:-1],
        lambda x: x[0],
        lambda x: x[None],
        lambda x: x[:, :0],
        lambda x: x.astype(int),
        lambda x: x > 0,
        lambda x: x.astype(complex),
        lambda x: x.astype("S8"),
        lambda x: np.where(x == x.max(), 1e300, x * 1e-300),
    ],
    "ids": [
        lambda x: x * 0.5,
        lambda x: x * np.nan,
        lambda x: x + 1e30,
        lambda x: x[:-1],
        lambda x: np.stack([x, x]),
        lambda x: x > 2,
        lambda x: x.astype(str),
        lambda x: np.full(len(x), "é"),
        lambda x: x.astype(complex),
        lambda x: x.astype(np.uint64) + np.uint64(2**63),
        lambda x: x - 1,  # counted from 0
        lambda x: x * 0 - 1,
    ],
    "cameras": [
        lambda x: x * np.inf,
        lambda x: x[:0],
        lambda x: x.astype("U2"),
        lambda x: x * 0 + 0.25,
        lambda x: x.astype(">f8") - 1e19,
    ],
}


@drawn(70)
@given(st.data())
def test_values_of_features(place, data):
    form = data.draw(st.sampled_from(["npz", "compressed.npz", "mat", "compressed.mat"]))
    field = data.draw(st.sampled_from(sorted(BAD_VALUES)))
    query, gallery = feature_sets()
    query[field] = data.draw(st.sampled_from(BAD_VALUES[field]))(query[field])
    file, other = place / "features" / f"q.{form}", place / "features" / "g.npz"
    file.parent.mkdir(exist_ok=True)
    FORMS[form](file, query)
    np.savez(other, **gallery)
    more = data.draw(
        st.sampled_from([(), ("--metric", "cosine"), ("--rerank", "k-reciprocal", "--k1", "3"), ("--json",)])
    )
    fails(("evaluate", file, other, *more), file, unchanged=[place])


@drawn(80)
@given(st.data())
def test_damaged_files_of_features(place, data):
    form = data.draw(st.sampled_from(sorted(FORMS)))
    file = place / "features" / f"both.{form}"
    file.parent.mkdir(exist_ok=True)
    FORMS[form](file, with_prefix(*feature_sets()))
    content = file.read_bytes()
    line = ("evaluate", file, "--json")
    _, good, _ = called(line)
    file.write_bytes(data.draw(damage(content)))
    before = everything_in(place)
    status, out, said = called(line)
    if status:
        check_line(status, said, file)
    else:  # a changed value where the format has no checksum, or a byte that says nothing
        found, expected = json.loads(out), json.loads(good)
        assert found.keys() == expected.keys() and not said
        if form.endswith("npz"):
            assert {**found, "seconds": 0} == {**expected, "seconds": 0}
    assert everything_in(place) == before


# --- data sets --------------------------------------------------------------------------------------------------------

NAMES = {
    "market1501": "{:04}_c{}s1_000001_00.jpg",
    "dukemtmc": "{:04}_c{}_f0000001.jpg",
    "cuhk03": "{:04}_c{}_1.png",
    "msmt17": "{0:04}/{0:04}_000_{1:02}_0303morning_0001_0.jpg",
}
PARTS = ("bounding_box_train", "query", "bounding_box_test")
PICTURE = {}
for kind in ("JPEG", "PNG"):
    PICTURE[kind] = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 8, 3), dtype=np.uint8)).save(PICTURE[kind], kind)
    PICTURE[kind] = PICTURE[kind].getvalue()


def real_set(top, name):
    """A small folder of a data set's own layout; returns the root, and the files that it needs."""
    shutil.rmtree(top, ignore_errors=True)
    own = name.partition("-")[0]
    content = PICTURE["PNG" if own == "cuhk03" else "JPEG"]
    if own == "msmt17":
        for folder, persons in (("train", (0, 1)), ("test", (0, 1))):
            for person in persons:
                for camera in (1, 2):
                    written(top / folder / NAMES[own].format(person, camera), content)
        (top / "train" / NAMES[own].format(0, 2)).unlink()  # no list names it
        lines = {"list_train": (0, 1, 1), "list_val": (1, 1, 2), "list_query": (0, 1, 1), "list_gallery": (0, 1, 2)}
        for stem, (first, last, camera) in lines.items():
            text = "".join(f"{NAMES[own].format(one, camera)} {one}\n" for one in range(first, last + 1))
            written(top / f"{stem}.txt", text.encode())
    else:
        below = top / "labeled" if own == "cuhk03" else top
        for part in PARTS:
            for person in (1, 2) if part != "bounding_box_train" else (3, 4):
                for camera in (1,) if part == "query" else (1, 2):
                    written(below / part / NAMES[own].format(person, camera), content)
        if own == "cuhk03":
            sets = np.empty((20, 1), object)
            sets[:, 0] = [np.array([[1, 1], [1, 2]], np.float64) for _ in range(20)]
            savemat(top / "testsets.mat", {"testsets": sets, "persons": np.array([[4, 1, 1, 1, 1]])})
    return top, sorted(file for file in top.rglob("*") if file.is_file())


@pytest.mark.parametrize("name", SETS)
def test_the_small_sets_are_right(place, name):
    root, _ = real_set(place / "set", name)
    status, out, said = called(("data", name, "--root", root, "--images"))
    assert status == 0 and "can be read" in out, said


@drawn(60)
@given(st.data())
def test_folders(place, data):
    name = data.draw(st.sampled_from(SETS))
    root, files = real_set(place / "set", name)
    images = [file for file in files if file.suffix in (".jpg", ".png")]
    file = data.draw(st.sampled_from(images))
    kind = data.draw(st.sampled_from(["name", "gone", "a file for a folder", "empty folder", "junk to train"]))
    if name == "msmt17":
        assume(kind != "junk to train")
    if kind == "name":  # a name that no image of this set has
        word = data.draw(ODD_TEXT.filter(lambda text: "/" not in text and "\0" not in text and len(text) < 100))
        try:
            file.rename(file.with_name(f"{word} x{file.suffix}"))
        except UnicodeEncodeError:
            assume(False)
        assume(not word.startswith("."))
    elif kind == "gone":
        file = next(one for one in images if one.parent.name == "query") if name != "msmt17" else file
        shutil.rmtree(file.parent)
    elif kind == "a file for a folder":
        shutil.rmtree(file.parent)
        file.parent.write_text("x", encoding="utf-8")
    elif kind == "empty folder":
        shutil.rmtree(file.parent)
        file.parent.mkdir()
    else:
        train = next(one for one in images if one.parent.name == PARTS[0])
        train.rename(train.with_name(train.name.replace(train.name[:4], "0000" if "cuhk" not in name else "0000")))
    fails(("data", name, "--root", root), root, root.name, unchanged=[place])


@drawn(40)
@given(st.data())
def test_lists_of_data_sets(place, data):
    name, lists = data.draw(st.sampled_from([("msmt17", "list_*.txt"), ("cuhk03-classic-labeled-01", "testsets.mat")]))
    root, _ = real_set(place / "set", name)
    file = data.draw(st.sampled_from(sorted(root.glob(lists))))
    _, good, _ = called(("data", name, "--root", root))
    file.write_bytes(data.draw(damage(file.read_bytes())))
    before = everything_in(place)
    status, out, said = called(("data", name, "--root", root))
    if status:
        check_line(status, said, file, root)
    else:  # other people are in a split now: a valid list, which is another data set
        assert out.splitlines()[1] != good.splitlines()[1] or out == good
    assert everything_in(place) == before


MANIFEST = {"name": "market1501", "version": 3, "scale": 0.05, "seed": 0, "digest": "0123456789abcdef"}
MANIFEST |= {"counts": {"bounding_box_train": 4, "query": 2, "bounding_box_test": 4}}


@drawn(30)
@given(st.data())
def test_manifests(place, data):
    root, _ = real_set(place / "set", "market1501")
    changed = data.draw(wrong_json(MANIFEST))
    assume({**changed, "version": 0, "scale": 0, "seed": 0} != {**MANIFEST, "version": 0, "scale": 0, "seed": 0})
    written(root / "standin.json", json.dumps(changed).encode())
    fails(("data", "market1501", "--root", root), root, unchanged=[place])


@drawn(60)
@given(st.data())
def test_image_files(place, data):
    name = data.draw(st.sampled_from(SETS))
    root, files = real_set(place / "set", name)
    file = data.draw(st.sampled_from([file for file in files if file.suffix in (".jpg", ".png")]))
    content = file.read_bytes()
    other = io.BytesIO()
    Image.new("RGBA", (4, 4), (1, 2, 3, 4)).save(
        other, data.draw(st.sampled_from(["GIF", "PNG", "BMP", "TIFF", "WEBP"]))
    )
    at = data.draw(st.integers(0, len(content) - 24))
    bad = [content[:at], content[:at] + bytes(len(content) - at), other.getvalue(), b"", "é".encode(), content[::-1]]
    file.write_bytes(data.draw(st.sampled_from(bad)))
    fails(("data", name, "--root", root, "--images"), file.name, unchanged=[place])


# --- records, archives, weights ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(place):
    """A record on the disk, and its archive."""
    run = runs_of("safenet/table5", budget="smoke")[0]
    made_up.write(run)
    archive.pack(place / "good.zip", everything=True)
    return run


@drawn(80)
@given(st.data())
def test_records(place, made, data):
    content = json.loads(made.record_file.read_bytes())
    shutil.copy(records.arrays_of(made.record_file), written(place / "other" / f"{made.key}.npz", b""))
    file = place / "other" / made.record_file.name
    file.write_text(json.dumps(data.draw(wrong_json(content))), encoding="utf-8")
    fails(("show", file), file, unchanged=[place])


@drawn(50)
@given(st.data())
def test_bytes_of_records(place, made, data):
    file, arrays = (place / "other" / f"{made.key}.{suffix}" for suffix in ("json", "npz"))
    good = {file: made.record_file.read_bytes(), arrays: records.arrays_of(made.record_file).read_bytes()}
    for one, content in good.items():
        written(one, content)
    one = data.draw(st.sampled_from([file, arrays]))
    one.write_bytes(data.draw(damage(good[one])))
    before = everything_in(place)
    status, _, said = called(("show", file))
    assert status or one == file, "the digest of the arrays shows every change"
    if status:
        check_line(status, said, one)
    assert everything_in(place) == before


@drawn(40)
@given(st.data())
def test_archives(place, made, data):
    file = place / "other.zip"
    good = (place / "good.zip").read_bytes()
    if data.draw(st.booleans()):
        file.write_bytes(data.draw(damage(good)))
    else:
        with zipfile.ZipFile(place / "good.zip") as source, zipfile.ZipFile(file, "w") as target:
            target.comment = source.comment
            for name in source.namelist():
                content = source.read(name)
                if name.endswith(".json"):
                    content = json.dumps(data.draw(wrong_json(json.loads(content)))).encode()
                target.writestr(name, content)
    status, out, said = called(("merge", file))
    if status:
        check_line(status, said, file)
    else:
        assert "1 skipped (there already)" in out
    assert [one.name for one in sorted(paths.results().rglob("*")) if one.is_file()] == sorted(
        place.name for place in (made.record_file, records.arrays_of(made.record_file))
    )


@drawn(40)
@given(st.data())
def test_weights(place, made, data):
    """`reid export` reads the weights of a run; without a ResNet-50 in them it fails in any case."""
    file = made.work_folder / training.WEIGHTS
    file.parent.mkdir(parents=True, exist_ok=True)
    training.write_tensors(file, {"backbone.stem.0.weight": torch.ones(3), "x": torch.ones(2)}, {"curve": "[]"})
    file.write_bytes(data.draw(damage(file.read_bytes())))
    fails(("export", made.record_file, place / "start.safetensors"), file, "start.safetensors", unchanged=[place])


# --- notebooks --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(place):
    """A checkout whose notebooks may be damaged."""
    (place / "home").mkdir()
    shutil.copytree(HOME / "notebooks", place / "home" / "notebooks")
    for name in ("results", "_toc.yml", "CITATION.cff", "reidlib"):
        (place / "home" / name).symlink_to(HOME / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_HOME", str(place / "home"))
        yield place / "home"


@drawn(40)
@given(st.data())
def test_templates(place, home, data):
    """A damaged template is named; one whose damage does not show is stopped by the unknown data set."""
    file = home / "notebooks" / "safenet" / "table5.ipynb"
    good = file.read_bytes()
    try:
        file.write_bytes(data.draw(damage(good)))
        fails(("run", *TABLE, "--dataset", "nowhere"), file, "nowhere", unchanged=[place])
    finally:
        file.write_bytes(good)


@drawn(40)
@given(st.data())
def test_metadata_of_executed_copies(place, home, data):
    """Whatever an executed copy says of itself, the answer is a reason to execute it again."""
    good = {"slug": "safenet/table5", "parameters": {"budget": "smoke", "dataset": "market1501", "source": "stand-in"}}
    good["parameters"] |= {"seeds": [0], "rows": ["g4"], "again": [], "train": False}
    good |= {"template_sha256": "0" * 64, "inputs_sha256": "0" * 64, "missing": []}
    metadata = data.draw(wrong_json({"reid": good}))
    whole = {"cells": [], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    content = json.dumps(whole).encode()
    if data.draw(st.booleans()):
        content = data.draw(damage(content))
    file = written(place / "copy.ipynb", content)
    try:
        assert notebooks.stale(file)
    except cli.ReidError as fault:
        check_line(1, f"error: {fault}")


# --- forty as real commands -------------------------------------------------------------------------------------------

REAL = {
    "no command": "",
    "unknown command": "lst",
    "empty word": "list ''",
    "no budget": "train safenet/table5",
    "unknown budget": "train safenet/table5 --budget huge",
    "unknown table": "run safenet/table99 --budget smoke",
    "unknown row": "train safenet/table5 --budget smoke --row nothing",
    "unknown variant": "train safenet/table5 --budget smoke --variant nothing",
    "again without a row": "train safenet/table5 --budget smoke --again",
    "unknown set": "data market",
    "no data": "data market1501",
    "root is a file": "data market1501 --root FILE",
    "root is empty": "data msmt17 --root EMPTY",
    "seed of text": "train safenet/table5 --budget smoke --seed x",
    "seed below 0": "train safenet/table5 --budget smoke --row g4 --seed -1",
    "seeds": "status --budget smoke --seeds 0;1",
    "no GPU": "reproduce safenet/table5 --budget smoke --gpus 7 --dry-run",
    "no threads": "reproduce --budget smoke --threads 0",
    "minutes": "reproduce --budget smoke --for never",
    "plan as JSON": "reproduce safenet/table5 --budget smoke --json",
    "no real data": "reproduce safenet/table5 --budget smoke --source real --dry-run",
    "show nothing": "show 0000",
    "show a folder": "show EMPTY",
    "show a file": "show FILE",
    "show a pipe": "show PIPE.json",
    "export nothing": "export 0000",
    "merge nothing": "merge nowhere.zip",
    "merge text": "merge FILE",
    "pack over a file": "pack FILE",
    "pack since nothing": "pack out.zip --since nothing",
    "clean nonsense": "clean everything",
    "claims of nobody": "claims nobody",
    "evaluate nothing": "evaluate a.npz b.npz",
    "evaluate text": "evaluate FILE FILE",
    "evaluate a pipe": "evaluate PIPE PIPE",
    "evaluate with a rule": "evaluate FILE FILE --protocol mine",
    "render too much": "render market1501 --scale 2 --out OUT",
    "render into a file": "render market1501 --scale 0.005 --out FILE",
    "render nobody": "render viper --out OUT",
    "render by none": "render market1501 --workers 0 --out OUT",
}


@pytest.mark.parametrize("case", REAL)
def test_real_commands(tmp_path, case):
    (tmp_path / "FILE").write_text("x", encoding="utf-8")
    (tmp_path / "EMPTY").mkdir()
    for name in ("PIPE", "PIPE.json"):
        os.mkfifo(tmp_path / name)
    for name in ("results", "cache"):
        (tmp_path / name).mkdir()
    own = {"PYTHONPATH": str(HOME), "REID_RESULTS": str(tmp_path / "results"), "REID_CACHE": str(tmp_path / "cache")}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REID_")} | own
    before = everything_in(tmp_path)
    line = [sys.executable, "-m", "reidlib.cli", *shlex.split(REAL[case])]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    check_line(done.returncode, done.stderr)
    assert everything_in(tmp_path) == before and len(REAL) == 40
