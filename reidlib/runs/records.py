"""Records: one JSON file for each finished (or failed) run, with the per-query numbers in an .npz beside it.

They are the only source of every number in the book. A record's name is its key (`keys_of`); labels and the commit are
no part of it. `read` and `write` check it by the same rules (`check`). A field or array that is added later needs a new
`SCHEMA`."""

import hashlib
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from reidlib import paths
from reidlib.paths import atomic
from reidlib.spec import ReidError, printable

RESULTS_VERSION = 1
"""Raised by a person when a change of code alters results; every record made before is then missing, not stale."""
SCHEMA = 3  #: Version of the fields of a record, and of its arrays (3: whom each query shows); others are not read
CACHE_MARKER = ".reid-cache"  #: in a cache folder that reid created: `reid clean` removes nothing from any other
WHOSE = ", whose"  #: after the name of an array of `parse_maps`: the name of the text that says whose weights it shows
LARGEST = {".json": 4 * 2**20, ".npz": 32 * 2**20}  #: Bytes of these files, far above what any run writes
_ARRAY_BYTES = 256 * 2**20  #: of an .npz unpacked
_AGAIN = "delete it and run its row again"


class OtherSchema(ReidError):
    """A record that is sound, perhaps, but of a later schema: a reason to update the code, not to run again."""


def keys_of(content: dict[str, Any]) -> tuple[str, str]:
    """Key of a run and key of its network, from the fields settings, tested, start_digest, data and seed of its record.
    A key is the first 16 hex digits of the SHA-256 of these and the results version (default today's), as canonical
    JSON. The network of a cross-domain pair depends on the data set that is trained on (data.train_digest)."""

    def key_of(**parts: Any) -> str:
        parts["results_version"] = content.get("results_version", RESULTS_VERSION)
        return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]

    data, start = content["data"], content["start_digest"] or "scratch"
    learnt = data.get("train_digest", data["digest"])
    network = key_of(trained=content["settings"], start=start, data=learnt, seed=content["seed"])
    other = {"tested_on": data["digest"]} if "train_digest" in data else {}
    return key_of(network=network, tested=content["tested"], **other), network


@dataclass(frozen=True)
class Record:
    """What a run leaves behind. Text fields hold printable characters only; numbers are finite."""

    key: str
    network: str  #: key of the trained network that it tested
    status: str  #: "finished" or "failed" ("started" only in memory)
    made_for: dict[str, str]  #: paper, table, row and variant it ran for; another row may share the record
    budget: str
    seed: int  #: of its weights and batches
    settings: dict[str, Any]  #: what the key of its network is made from
    tested: dict[str, Any]  #: the settings of its test, in its key only
    data: dict[str, Any]
    """name, source ("stand-in" or "real") and digest of the data set; train_digest: of the data set that is trained on,
    where another is tested; identities, images: sizes; renderer: its version"""
    start: str = ""  #: where the weights start: "scratch", "start" or "imagenet"
    start_digest: str = ""  #: of the file of those weights, "" for scratch; "missing" where it was not there
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    """{protocol: {name: value}}, one protocol. Names that end in "queries" are counts, all others percent"""
    held_out: dict[str, float] = field(default_factory=dict)
    """the same names, on images of training identities that were kept from training; empty where none"""
    tie_rule: str = ""  #: which gallery images counted as equally close to a query
    curve: list[dict[str, float]] = field(default_factory=list)
    """one point for each epoch of this run's own network: epoch (from 1), losses, accuracy, rate, seconds"""
    seconds: float = 0.0  #: of training, the frozen stage before it included
    overhead_seconds: dict[str, float] = field(default_factory=dict)  #: beside training: render, decode, build, test, …
    images_per_second: float = 0.0  #: mean of its own epochs
    peak_memory_mb: float = 0.0  #: of the device (GPU), or of the process (CPU), in MiB
    device: str = ""  #: as people read it; never parsed
    device_kind: str = ""  #: "cpu" or "cuda"
    threads: int = 0  #: of torch in this run (0: not known)
    runs_at_once: int = 0  #: runs that shared the device, this one included (0: not known)
    precision: str = ""  #: what products were computed in: "bf16", "fp32" or "bf16 imitated"
    step: str = ""  #: how a training step ran: "eager" or "cuda graph"; "" where nothing was trained
    deterministic: bool = False  #: whether torch's deterministic algorithms were on
    versions: dict[str, str] = field(default_factory=dict)  #: of the libraries
    commit: str = ""  #: of the code ("+": with changes; "unknown": no checkout)
    finished: str = ""  #: time of the end, ISO 8601
    error: str = ""  #: why a run failed, one line
    notes: list[str] = field(default_factory=list)  #: what else a reader of its numbers must know, a sentence each
    per_query_sha256: str = ""  #: of the .npz beside the record; "" for a failed run
    results_version: int = field(default_factory=lambda: RESULTS_VERSION)  #: when it was made: part of both keys
    schema: int = SCHEMA

    @property
    def ok(self) -> bool:
        return self.status == "finished"

    @property
    def place(self) -> Path:
        """Where the record belongs below a results folder."""
        folder = Path("records", self.data["source"], self.data["name"], self.budget, self.made_for["paper"])
        return folder / f"{self.key}.json"


def read(file: Path, *, arrays: bool = True) -> Record:
    """The record in this file, checked: fields, types, ranges, its key, and the per-query file of a finished run.
    arrays: False leaves the per-query file unread. Raises ReidError naming the file, the field and the remedy."""
    record = parse(_content(file), file)
    if record.key != file.stem:
        raise ReidError(f"{file}: holds the record {record.key}; rename it to {record.key}.json, or delete it")
    if arrays and record.ok:
        read_per_query(file, record)
    return record


@lru_cache(maxsize=4096)  # pages read each record for many claims
def parse(content: bytes, name: Path | str) -> Record:
    """The record in the bytes of a JSON file, checked but for its per-query file; `name` stands in messages. It is
    shared by all who read these bytes: nobody changes it."""
    try:
        found = json.loads(content.decode("utf-8"), object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as fault:
        raise ReidError(f"{name}: record cut short or unreadable ({_short(fault)}); {_AGAIN}") from None
    if not isinstance(found, dict):
        raise ReidError(f"{name}: not a record, but JSON of kind {type(found).__name__}; {_AGAIN}")
    schema = found.get("schema", 1 if "key" in found else SCHEMA)
    if schema != SCHEMA and isinstance(schema, int):
        what = f"{name}: record of schema {_short(schema)}, this code reads {SCHEMA}"
        if schema > SCHEMA:
            raise OtherSchema(f"{what}; update the code, or {_AGAIN}")
        raise ReidError(f"{what}; {_AGAIN}")
    check(found, name)
    return Record(**found)


def read_per_query(file: Path, record: Record) -> dict[str, np.ndarray]:
    """The per-query arrays beside a finished record, one entry for each query, in the order of the data set.

    ap, ap_trapezoid, inp: float64, 0 to 1. valid: bool, False for a query without a match, whose other values mean
    nothing. identity: int64, whom each query shows. first_hit: int64, rank of the first match (from 1); or, where the
    gallery is drawn at random, rank1, rank5, rank10, rank20: float64, 0 to 1."""
    file = file.with_suffix(".npz")
    if not record.ok:
        raise ReidError(f"{file}: a failed run has no per-query numbers ({record.error}); {_AGAIN}")
    return parse_per_query(_content(file), record, file)


def parse_per_query(content: bytes, record: Record, name: Path | str) -> dict[str, np.ndarray]:
    """The arrays in the bytes of a per-query file, checked against the digest and the numbers of the record."""
    remedy = "delete the record and run it again"
    if hashlib.sha256(content).hexdigest() != record.per_query_sha256:
        raise ReidError(f"{name}: not the per-query numbers of its record (SHA-256 differs); {remedy}")
    try:
        arrays = dict(_arrays(content))
    except Exception as fault:  # a damaged .npz raises a dozen types
        raise ReidError(f"{name}: per-query numbers unreadable ({_short(fault)}); {remedy}") from None
    if problem := _arrays_problem(arrays, record):
        raise ReidError(f"{name}: per-query numbers: {problem}; {remedy}")
    return arrays


def read_maps(file: Path, record: Record) -> dict[str, np.ndarray]:
    """The arrays in KEY.maps.npz beside a finished record, as `parse_maps`; empty, too, where the file is missing."""
    file = maps_of(file)
    return parse_maps(_content(file), record, file) if file.is_file() else {}


def parse_maps(content: bytes, record: Record, name: Path | str) -> dict[str, np.ndarray]:
    """What figures have drawn of a record's network, by name, from the bytes of such a file; beside it `record` (its
    per_query_sha256) and `whose` (whose weights were drawn, as of `trained.origin`, where no text by an array's name
    and `WHOSE` says it of that array). Empty where the file belongs to a record with this key that has been replaced
    since."""
    try:
        arrays = _unpacked(content)
        if any(arrays[own].dtype.kind != "U" or arrays[own].ndim for own in ("record", "whose")):
            raise ValueError("record or whose is no text")
    except Exception as fault:  # a damaged .npz raises a dozen types
        raise ReidError(f"{name} is damaged ({_short(fault)}); delete it, the figure makes it again") from None
    return arrays if str(arrays["record"]) == record.per_query_sha256 else {}


def origins(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Whose weights each of the arrays that figures keep beside a record was drawn from, by its name."""
    names = [name for name in arrays if name not in ("record", "whose") and not name.endswith(WHOSE)]
    return {name: str(arrays.get(f"{name}{WHOSE}", arrays["whose"])) for name in names}


def write_maps(file: Path, record: Record, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Writes KEY.maps.npz beside a record; returns all that it holds then."""
    whole = dict(arrays) | {"record": np.array(record.per_query_sha256)}
    with writing(maps_of(file), "maps", "REID_RESULTS"), atomic(maps_of(file)) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **whole)
    return whole


@lru_cache(maxsize=4096)
def _arrays(content: bytes) -> dict[str, np.ndarray]:
    """`_unpacked`, once for the same bytes; the arrays are read-only, because they are shared."""
    arrays = _unpacked(content)
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def _unpacked(content: bytes) -> dict[str, np.ndarray]:
    """The arrays in the bytes of an .npz, by name. Raises whatever numpy and zipfile raise for a damaged one."""
    size = sum(member.file_size for member in zipfile.ZipFile(io.BytesIO(content)).infolist())
    if size > _ARRAY_BYTES:
        raise ValueError(f"{size:,} bytes unpacked")
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _content(file: Path) -> bytes:
    limit = LARGEST[file.suffix]
    try:
        if not file.is_file():  # opening a FIFO would wait for ever
            raise ReidError(f"{file}: {'not a regular file' if file.exists() else 'missing'}; {_AGAIN}")
        if file.stat().st_size > limit:
            raise ReidError(f"{file}: larger than {limit >> 20} MiB, which no record is; {_AGAIN}")
        return file.read_bytes()
    except OSError as fault:
        raise ReidError(f"{file}: cannot be read ({fault.strerror}); fix its permissions, or {_AGAIN}") from None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a name occurs twice")
    return content


def check(content: dict[str, Any], name: Path | str) -> None:
    """Checks a record, as a dictionary, by every rule of its schema. Raises ReidError for the first broken rule."""
    if odd := sorted(set(content) ^ _RULES.keys()):
        kinds = [f"{_short(one)} {'unknown' if one in content else 'missing'}" for one in odd[:3]]
        raise ReidError(f"{name}: not a record of this version ({', '.join(kinds)}); {_AGAIN}")
    for one, (wanted, shape) in _RULES.items():
        if not (_plain(content[one]) and _fits(content[one], shape)):
            raise ReidError(f"{name}: {one} is {_short(content[one])}, not {wanted}; {_AGAIN}")
    if problem := _contradiction(content):
        raise ReidError(f"{name}: {problem}; {_AGAIN}")


def _plain(value: Any, depth: int = 16) -> bool:
    """JSON values, nested at most `depth` levels: finite numbers within int64, and printable text, so that no record
    sends control sequences to a terminal."""
    if isinstance(value, dict | list):
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        return depth > 0 and all(_plain(one, depth - 1) for one in inner)
    if isinstance(value, int):
        return abs(value) < 2**63
    if isinstance(value, str):
        return value.isprintable()
    return value is None or (isinstance(value, float) and math.isfinite(value))


def _fits(value: Any, shape: Any) -> bool:
    """Whether a plain value has this shape: a type (int and float: a number from 0), a pattern of text, one of several
    words (a tuple), a list of one shape, a mapping (of names to their shapes, where "name?" may be missing; "*" stands
    for any name), or a test."""
    if shape in (int, float):
        return type(value) in (int, shape) and value >= 0
    match shape:
        case type():
            return isinstance(value, shape)
        case str():
            return isinstance(value, str) and re.fullmatch(shape, value) is not None
        case tuple():
            return value in shape
        case [inner]:
            return isinstance(value, list) and all(_fits(one, inner) for one in value)
        case {"*": inner}:
            return isinstance(value, dict) and all(_fits(one, inner) for one in value.values())
        case dict():
            needed, known = {name for name in shape if name[-1] != "?"}, {name.rstrip("?") for name in shape}
            whole = isinstance(value, dict) and needed <= value.keys() <= known
            return whole and all(_fits(value[name], shape.get(name, shape.get(f"{name}?"))) for name in value)
    return shape(value)


def _metrics(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _fits(one, int) if name.endswith("queries") else _fits(one, float) and one <= 100 for name, one in value.items()
    )


def _curve(value: Any) -> bool:
    whole = _fits(value, [{"*": lambda number: type(number) in (int, float)}])
    return whole and [point.get("epoch") for point in value] == list(range(1, len(value) + 1))


def _time(value: Any) -> bool:
    with suppress(ValueError, TypeError):
        return value == "" or bool(datetime.fromisoformat(value))
    return False


_HEX, _WORD = "[0-9a-f]{16}", r"[A-Za-z0-9][A-Za-z0-9._-]*"
_DATA = {
    "name": _WORD, "source": ("stand-in", "real"), "digest": _HEX, "train_digest?": _HEX,
    "renderer?": int, "identities?": int, "images?": {"*": int},
}  # fmt: skip

_RULES: dict[str, tuple[str, Any]] = {
    "schema": (str(SCHEMA), lambda value: type(value) is int and value == SCHEMA),
    **dict.fromkeys(("key", "network"), ("16 hex digits", _HEX)),
    **dict.fromkeys(("settings", "tested"), ("plain settings, printable and finite", dict)),
    **dict.fromkeys(("results_version", "seed", "threads", "runs_at_once"), ("a whole number from 0", int)),
    **dict.fromkeys(("seconds", "images_per_second", "peak_memory_mb"), ("a finite number from 0", float)),
    **dict.fromkeys(("start", "tie_rule", "device", "commit", "error"), ("printable text", str)),
    "status": ("one of finished, failed", ("finished", "failed")),
    "made_for": ("paper, table, row and variant", {"paper": _WORD, "table": str, "row": str, "variant": str}),
    "budget": ("a word", _WORD),
    "data": ("name, source, digest and sizes of a data set", _DATA),
    "start_digest": ("16 hex digits, missing or nothing", f"({_HEX}|missing)?"),
    "metrics": ("percentages from 0 to 100 by protocol and name", {"*": _metrics}),
    "held_out": ("percentages from 0 to 100 by name", _metrics),
    "curve": ("finite numbers for epochs 1, 2, …", _curve),
    "overhead_seconds": ("finite numbers from 0 by name", {"*": float}),
    "device_kind": ("cpu, cuda or nothing", ("", "cpu", "cuda")),
    "precision": ("bf16, fp32, bf16 imitated or nothing", ("", "bf16", "fp32", "bf16 imitated")),
    "step": ("eager, cuda graph or nothing", ("", "eager", "cuda graph")),
    "deterministic": ("true or false", bool),
    "versions": ("printable text by name", {"*": str}),
    "finished": ("a time in ISO 8601", _time),
    "notes": ("a list of printable sentences", [str]),
    "per_query_sha256": ("64 hex digits or nothing", "([0-9a-f]{64})?"),
}
"""What each field must be, beyond plain and printable: as text for messages, and as `_fits` reads it."""
assert _RULES.keys() == {one.name for one in fields(Record)}, "every field has a rule"


def _contradiction(content: dict[str, Any]) -> str:
    """What contradicts itself in a record, as text; "" where nothing."""
    if content["status"] == "failed":
        return "" if content["error"] else "a failed run without an error"
    for name in ("start", "device", "device_kind", "precision", "finished", "tie_rule", "per_query_sha256"):
        if not content[name]:
            return f"a finished run without {name}"
    if content["error"]:
        return "a finished run with an error"
    if content["device_kind"] == "cpu" and not content["threads"]:
        return "a run on a processor without threads"
    if len(content["metrics"]) != 1:
        return f"a finished run with the metrics of {len(content['metrics'])} protocols, not one"
    if lacks := sorted({"rank1", "mAP", "queries", "excluded_queries"} - set(*map(set, content["metrics"].values()))):
        return f"metrics without {', '.join(lacks)}"
    for name, found in zip(("key", "network"), keys_of(content), strict=True):
        if content[name] != found:
            return f"its {name} does not follow from its settings, start, data and seed, which give {found}"
    return ""


def _arrays_problem(arrays: dict[str, np.ndarray], record: Record) -> str:
    """What is wrong with the per-query arrays of a record, as text; "" where nothing."""
    kinds = {"valid": (np.bool_, 0, 1), "first_hit": (np.int64, 1, 2**62), "identity": (np.int64, 0, 2**62)}
    if lacks := sorted({"ap", "ap_trapezoid", "identity", "inp", "valid"} - arrays.keys()):
        return f"{', '.join(lacks)} missing"
    if not {"first_hit", "rank1"} & arrays.keys():
        return "neither first_hit nor rank1"
    valid = arrays["valid"]
    for name, array in arrays.items():
        kind = np.dtype(kinds.get(name, (np.float64,))[0])
        if array.dtype != kind or array.shape != (valid.size,):
            return f"{_short(name)} is {array.dtype} of shape {array.shape}, not {kind} of ({valid.size},)"
    (metrics,) = record.metrics.values()
    if (int(valid.sum()), int((~valid).sum())) != (metrics["queries"], metrics["excluded_queries"]):
        return f"{int(valid.sum())} of {len(valid)} queries valid, the record says {metrics['queries']}"
    for name, array in arrays.items():
        _, low, high = kinds.get(name, (np.float64, 0, 1))
        if not ((array[valid] >= low) & (array[valid] <= high)).all():
            return f"{_short(name)} outside {low} to {high}"
    rank1 = arrays["first_hit"] <= 1 if "first_hit" in arrays else arrays["rank1"]
    for name, array in (("mAP", arrays["ap"]), ("rank1", rank1)):
        mean = 100 * float(array[valid].mean()) if valid.any() else 0.0
        if abs(mean - metrics[name]) > 1e-6:
            return f"mean of {name} {mean:.3f}, the record says {metrics[name]:.3f}"
    return ""


def _short(value: Any) -> str:
    """A value (a fault as it is, others quoted) in a message: printable and at most 60 characters long."""
    try:
        text = printable(str(value) if isinstance(value, Exception) else repr(value))
    except (ValueError, RecursionError):  # a number of thousands of digits
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}…"


def write(file: Path, record: Record, per_query: dict[str, np.ndarray] | None = None) -> Record:
    """Writes a record and its per-query arrays, each moved into place whole; returns what was written. Sets `finished`
    and `per_query_sha256`; `error` becomes a printable line. Raises ReidError for what `read` refuses."""
    stream = io.BytesIO()
    if record.ok:
        np.savez_compressed(stream, allow_pickle=False, **(per_query or {}))
    arrays = stream.getvalue()
    digest = hashlib.sha256(arrays).hexdigest() if arrays else ""
    finished = record.finished or datetime.now(UTC).isoformat(timespec="seconds")
    record = replace(record, finished=finished, per_query_sha256=digest, error=printable(record.error)[:4000])
    check(asdict(record), file)
    if arrays:
        parse_per_query(arrays, record, file.with_suffix(".npz"))
    write_bytes(file, as_json(asdict(record)), arrays)
    return record


def as_json(content: dict[str, Any]) -> bytes:
    """The bytes of a record's file."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def write_bytes(file: Path, record: bytes, arrays: bytes = b"", maps: bytes = b"") -> None:
    """A record and the files beside it, as they are, in place: the record last; of what is empty no file is written.
    Raises ReidError where that fails."""
    with writing(file, "record", "REID_RESULTS"):
        file.parent.mkdir(parents=True, exist_ok=True)
        for place, content in ((arrays_of(file), arrays), (maps_of(file), maps), (file, record)):
            if content:
                with atomic(place) as partial:
                    partial.write_bytes(content)


@contextmanager
def writing(place: Path, what: str, variable: str) -> Generator[None]:
    """Makes a ReidError of an OSError meanwhile. variable: names the folder in the environment."""
    try:
        yield
    except OSError as fault:
        remedy = f"fix its permissions or free some space, or set {variable} to another folder"
        raise ReidError(f"{place}: {what} cannot be written ({fault.strerror or fault}); {remedy}") from fault


def set_aside(file: Path) -> Path:
    """Renames a record that cannot be read, with the files beside it; returns its new name. Nothing is written over."""
    aside = free_name(file, "unreadable")
    for beside in (arrays_of, maps_of):
        if beside(file).exists():
            beside(file).replace(beside(aside))
    return file.replace(aside)


def arrays_of(file: Path) -> Path:
    """The per-query file of a record file, also of one that was set aside."""
    return file.with_name(file.name.replace(".json", ".npz", 1))


def maps_of(file: Path) -> Path:
    """The file beside a record file, also of one that was set aside, that keeps what figures have drawn."""
    return file.with_name(file.name.replace(".json", ".maps.npz", 1))


def free_name(file: Path, word: str) -> Path:
    """KEY.json.WORD, or the first of KEY.json.WORD-2, -3, … that does not exist yet."""
    names = (file.with_name(f"{file.name}.{word}{f'-{number}' if number > 1 else ''}") for number in count(1))
    return next(name for name in names if not name.exists())


def check_writable(folder: Path) -> None:
    """Fails before hours of training where the results folder or the cache cannot be written, or 1 MiB is too much."""
    prepare_cache()
    cache = paths.cache()
    for place in (folder, cache):
        what, variable = ("cache", "REID_CACHE") if place.is_relative_to(cache) else ("results", "REID_RESULTS")
        probe = place / f".writable-{os.getpid()}"
        with writing(place, f"{what} folder", variable):
            place.mkdir(parents=True, exist_ok=True)
            with atomic(probe) as partial:
                partial.write_bytes(bytes(2**20))
            probe.unlink()


def prepare_cache() -> None:
    """Creates the cache folder where it is missing, and marks it as reid's own where nothing (of others) is in it."""
    cache = paths.cache()
    with writing(cache, "cache folder", "REID_CACHE"):
        cache.mkdir(parents=True, exist_ok=True)
        if not any(cache.iterdir()):
            (cache / CACHE_MARKER).write_text("made by reid; `reid clean` removes what is in it\n", encoding="utf-8")
