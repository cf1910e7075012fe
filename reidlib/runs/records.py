"""Records: one JSON file a finished (or failed) run, with the per-query numbers in an .npz beside it.

They are the only source of every number in the book. A record's name is its key: a hash of the resolved settings, the
data digest, the seed and `RESULTS_VERSION`; never a label, never the commit (which stands inside, as provenance).
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any

import numpy as np

from reidlib.spec import ReidError

RESULTS_VERSION = 1
"""Raised by a person when a change of code alters results; every record made before is then missing, not stale."""


def key_of(parts: dict[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of the parts as canonical JSON, the results version included."""
    text = json.dumps({"results_version": RESULTS_VERSION, **parts}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Record:
    """What a run leaves behind.

    key, network: of the run, and of the trained network it tested. made_for: paper, table, row, variant as asked for
    when it ran (another row may share it). status: "finished" or "failed". settings, tested: resolved. data: name,
    source, digest, root-free counts. metrics: {protocol: {name: value}}, in percent. curve: one point an epoch.
    seconds: of the training; images_per_second: its mean. device, versions, commit: provenance. error: of a failed run.
    """

    key: str
    network: str
    status: str
    made_for: dict[str, str]
    budget: str
    seed: int
    settings: dict[str, Any]
    tested: dict[str, Any]
    data: dict[str, Any]
    start: str = ""
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    images_per_second: float = 0.0
    peak_memory_mb: float = 0.0
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""
    finished: str = ""
    error: str = ""
    schema: int = 1
    per_query_sha256: str = ""
    threads: int = 0
    device_kind: str = ""
    start_digest: str = ""
    held_out: dict[str, float] = field(default_factory=dict)
    tie_rule: str = ""

    @property
    def ok(self) -> bool:
        return self.status == "finished"


def read(file: Path) -> Record:
    """The record in this file. A file cut short, or of another make, is a ReidError that names it and the remedy."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as fault:
        raise ReidError(f"{file}: record cut short or unreadable ({fault}); delete it and run its row again") from fault
    known = {f.name for f in fields(Record)}
    later = {"schema", "per_query_sha256", "threads", "device_kind", "start_digest", "held_out", "tie_rule"}
    if isinstance(content, dict):
        content |= {
            f.name: f.default_factory() if f.name == "held_out" else f.default
            for f in fields(Record)
            if f.name in later - set(content)
        }
    if not isinstance(content, dict) or set(content) != known:
        odd = sorted(set(content) ^ known) if isinstance(content, dict) else type(content).__name__
        raise ReidError(f"{file}: not a record of this version (fields {odd}); delete it and run its row again")
    if content["key"] != file.stem:
        raise ReidError(f"{file}: holds the record {content['key']}; give it back its name, or delete it")
    return Record(**content)


def set_aside(file: Path) -> Path:
    """Gives a record that cannot be read another name, so that its row can be run again. Its numbers are not lost."""
    aside = file.with_suffix(".json.unreadable")
    file.replace(aside)
    return aside


def write(file: Path, record: Record, per_query: dict[str, np.ndarray] | None = None) -> None:
    """Writes the per-query arrays first and the record last, each moved into place whole."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if per_query:
            partial = file.with_suffix(".npz.partial")
            with partial.open("wb") as stream:
                np.savez_compressed(stream, **per_query)
                settle(stream)
            partial.replace(file.with_suffix(".npz"))
        partial = file.with_suffix(".json.partial")
        with partial.open("w") as stream:
            stream.write(json.dumps(asdict(record), indent=1, ensure_ascii=False) + "\n")
            settle(stream)
        partial.replace(file)
    except OSError as fault:
        for leftover in (file.with_suffix(".npz.partial"), file.with_suffix(".json.partial")):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)
        raise ReidError(f"{file}: record cannot be written ({fault.strerror}); {_REMEDY}") from fault


def settle(stream: IO) -> None:
    """On the disk, before it gets its name: after a power cut a name may stand for a file without content."""
    stream.flush()
    os.fsync(stream.fileno())


def demand_writable(folder: Path) -> None:
    """Fails before hours of training, not after, when the results folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as fault:
        raise ReidError(f"{folder}: results folder cannot be written ({fault.strerror}); {_REMEDY}") from fault


_REMEDY = "mend its rights or free some space, or set REID_RESULTS to another folder"
