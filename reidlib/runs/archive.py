"""Records on their way between machines: `pack` puts them into one .zip file, `merge` takes them in elsewhere.

A member's name is its place below a results folder (records/SOURCE/DATASET/BUDGET/PAPER/KEY.json, and KEY.npz beside
it; KEY.maps.npz where figures keep what they drew of its network). Equal records give an equal archive, byte for byte.
"""

import hashlib
import re
import stat
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from reidlib import paths
from reidlib.runs import records
from reidlib.spec import ReidError, printable

COMMENT = b"records of reid pack"  #: The end of every archive. Only such a file is merged, or replaced by a later one
OTHER = "other"  #: A record that differs from the one with the same key is kept beside it as KEY.json.other
_MEMBER = re.compile(r"records/(stand-in|real)(/[A-Za-z0-9][A-Za-z0-9._-]*){3}/[0-9a-f]{16}\.(json|npz|maps\.npz)")
_MEMBERS = 200_000


def pack(
    file: Path, *, since: str | None = None, everything: bool = False, log: Callable[[str], None] = print
) -> list[Path]:
    """Writes finished records, their per-query files and their maps into one .zip archive, complete or not at all;
    returns the record files that were packed, sorted. Where there are none, nothing is written.

    since: a commit of the results' checkout; records that it holds unchanged are left out. None: those of HEAD, those
    that came with an archive of `make bundle`, or none where the results are in no checkout. everything: leaves none
    out. A record that cannot be read is left out and logged. Raises ReidError for an unknown commit, and for a `file`
    that exists and is no archive of `pack`."""
    if file.exists() and not (file.is_file() and file.read_bytes().endswith(COMMENT)):
        raise ReidError(f"{file} exists and was not written by `reid pack`; choose another name, or delete it")
    results = paths.results()
    known = {} if everything else _committed(results, since)
    packed, content = [], []
    for path in sorted(results.glob("records/**/*.json")):
        try:
            record = records.read(path)
            if path != results / record.place:
                raise ReidError(f"{path}: belongs at {record.place}; move it there with its per-query file")
            if not record.ok:
                continue
            files = [path, records.arrays_of(path), *_maps_of(path, record, log)]
            parts = [(place.relative_to(results).as_posix(), place.read_bytes()) for place in files]
        except (ReidError, OSError) as fault:
            log(f"left out: {fault}")
            continue
        if not all(_is_committed(data, known.get(name)) for name, data in parts):
            packed.append(path)
            content += parts
    if not packed:
        return []
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with paths.atomic(file) as partial, zipfile.ZipFile(partial, "w") as archive:
            archive.comment = COMMENT
            for name, data in content:
                member = zipfile.ZipInfo(name)  # of 1980: the archive depends on its records alone
                member.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(member, data, zipfile.ZIP_DEFLATED)
    except OSError as fault:
        raise ReidError(f"{file}: cannot be written ({fault.strerror}); choose a folder with free space") from fault
    return packed


def _maps_of(path: Path, record: records.Record, log: Callable[[str], None]) -> list[Path]:
    """The file of what figures have drawn of a record, if it has one; one that is damaged is left out and logged."""
    try:
        return [records.maps_of(path)] if records.read_maps(path, record) else []
    except ReidError as fault:
        log(f"left out: {fault}")
        return []


def _committed(results: Path, since: str | None) -> dict[str, str]:
    """Path below the results folder -> git's digest of its content, in a commit; empty where there is no git."""
    if since is None and (brought := paths.bundled()[1]):
        return _digests(brought)
    line = ["git", "-C", str(results), "ls-tree", "-r", "--end-of-options", since or "HEAD", "records/"]
    try:
        done = subprocess.run(line, capture_output=True, text=True, encoding="utf-8", errors="replace")
        said, found = printable(done.stderr), "" if done.returncode else done.stdout
    except OSError as fault:
        said, found = str(fault), ""
    if said and since:
        raise ReidError(f"commit {since!r}: {said}; name a commit of the checkout that holds {results}")
    return _digests(found)


def _digests(listed: str) -> dict[str, str]:
    """Path -> digest, of lines of `git ls-tree -r`. Names of records need no quoting."""
    entries = (entry.partition("\t") for entry in listed.splitlines())
    return {path: kind.split(" ")[2] for kind, _, path in entries}


def _is_committed(content: bytes, digest: str | None) -> bool:
    """Whether git's digest of a file (SHA-1 or SHA-256) is this one."""
    kind = hashlib.sha256 if digest and len(digest) == 64 else hashlib.sha1
    return kind(b"blob %d\0" % len(content) + content).hexdigest() == digest


@dataclass
class Merged:
    """What became of the records of an archive."""

    added: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)  #: equal to what was there
    drawn: list[Path] = field(default_factory=list)  #: equal, but what figures keep beside them was not there
    conflicting: list[Path] = field(default_factory=list)  #: kept under these names beside others with the same keys
    refused: dict[str, str] = field(default_factory=dict)  #: member -> why the reader does not accept it

    def __str__(self) -> str:
        """One line for each kind that occurs, with its number and what it concerns."""
        beside = f"(another record has the key; this one is kept beside it): {'; '.join(map(str, self.conflicting))}"
        lines = {
            "added": self.added,
            "skipped (there already)": self.skipped,
            "there already, whose maps for figures were added": self.drawn,
            f"conflicting {beside}": self.conflicting,
            f"refused: {'; '.join(self.refused.values())}": self.refused,
        }
        return "\n".join(f"{len(found)} {what}" for what, found in lines.items() if found or found is self.added)


def merge(file: Path) -> Merged:
    """Takes the records of an archive of `pack` into the results folder, each checked as `records.read` checks it. A
    record that is there already is never overwritten, but one that failed, or cannot be read, makes room. Raises
    ReidError, with nothing taken in, for a file that is no such archive: cut short, of foreign content, with paths that
    lead elsewhere, or of absurd size."""
    if not file.is_file():
        raise ReidError(f"{file}: {'not a regular file' if file.exists() else 'missing'}; give a file of `reid pack`")
    merged = Merged()
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.comment != COMMENT:
                raise zipfile.BadZipFile("it has not the comment that ends such an archive")
            members = _members(file, archive)
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"member {damaged} is damaged")
            for name in members:
                if name.endswith(".json"):
                    places = [beside(Path(name)).as_posix() for beside in (records.arrays_of, records.maps_of)]
                    arrays, maps = (archive.read(place) if place in members else b"" for place in places)
                    _take(name, archive.read(name), arrays, maps, merged)
    except ReidError:
        raise
    except Exception as fault:  # a damaged archive raises a dozen types
        why = printable(str(fault))
        raise ReidError(f"{file}: not an archive of `reid pack`, or cut short ({why}); copy it again") from None
    return merged


def _members(file: Path, archive: zipfile.ZipFile) -> list[str]:
    """The names of the members, sorted: each a plain file of acceptable name and size."""
    infos, found = archive.infolist(), set()
    remedy = "take an archive that `reid pack` wrote; nothing was taken in"
    if len(infos) > _MEMBERS:
        raise ReidError(f"{file}: {len(infos):,} members, more than {_MEMBERS:,}; {remedy}")
    for info in infos:
        name = info.orig_filename
        if not _MEMBER.fullmatch(name) or stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise ReidError(f"{file}: member {name[:80]!r} is no record; {remedy}")
        if info.file_size > records.LARGEST[PurePosixPath(name).suffix]:
            raise ReidError(f"{file}: member {name} has {info.file_size:,} bytes, too many for a record; {remedy}")
        if name in found:
            raise ReidError(f"{file}: member {name} occurs twice; {remedy}")
        found.add(name)
    keys = {_key_of(name) for name in found if name.endswith(".json")}
    if not keys:
        raise ReidError(f"{file}: holds no record; {remedy}")
    if alone := sorted(name for name in found if _key_of(name) not in keys):
        raise ReidError(f"{file}: member {alone[0]} has no record beside it; {remedy}")
    return sorted(found)


def _key_of(name: str) -> str:
    """The name of a member without its suffixes: the same for all files of a record."""
    return name[: name.index(".", name.rindex("/"))]


def _take(name: str, content: bytes, arrays: bytes, maps: bytes, merged: Merged) -> None:
    """One record of an archive into the results folder, or into the list of those that were not taken."""
    target, drawn = paths.results() / name, {}
    try:
        record = records.parse(content, name)
        if record.place != Path(name):
            raise ReidError(f"{name}: belongs at {record.place}; pack it again from there")
        if (version := record.results_version) != (own := records.RESULTS_VERSION):
            raise ReidError(f"{name}: results version {version}, this code makes {own}; run its row again")
        if record.ok:
            records.parse_per_query(arrays, record, records.arrays_of(Path(name)))
            place = records.maps_of(Path(name))
            if maps and not (drawn := records.parse_maps(maps, record, place)):
                raise ReidError(f"{place}: drawn for another record than {record.key}.json beside it; pack it again")
        elif arrays or maps:
            raise ReidError(f"{name}: a failed run has no per-query file and no maps; pack it again")
        if not target.resolve().is_relative_to(paths.results().resolve() / "records"):
            raise ReidError(f"{name}: {target.parent} leads out of the results folder; remove that link")
    except ReidError as fault:
        merged.refused[name] = str(fault)
        return
    try:
        there = records.read(target) if target.exists() else None
    except ReidError:
        records.set_aside(target)
        there = None
    if there is None or (record.ok and not there.ok):
        records.write_bytes(target, content, arrays, maps)
        merged.added.append(target)
    elif there == record:
        (merged.drawn if _add_drawn(target, record, drawn) else merged.skipped).append(target)
    else:
        merged.conflicting.append(_beside(target, content, arrays, maps))


def _add_drawn(target: Path, record: records.Record, drawn: dict[str, np.ndarray]) -> bool:
    """Adds to a record that is there what figures have drawn of it elsewhere alone. Whether there was any such."""
    try:
        own = records.read_maps(target, record)
    except ReidError:  # damaged: it makes room
        own = {}
        if drawn:
            records.maps_of(target).unlink()
    lacking = {name: whose for name, whose in records.origins(drawn).items() if name not in own}
    added = {name: drawn[name] for name in lacking}
    added |= {f"{name}{records.WHOSE}": np.array(whose) for name, whose in lacking.items()}
    if added:
        records.write_maps(target, record, {"whose": drawn["whose"], **own, **added})
    return bool(added)


def _beside(target: Path, content: bytes, arrays: bytes, maps: bytes) -> Path:
    """Where a record that differs from `target` is kept; one that is kept already is not kept twice."""
    for kept in target.parent.glob(f"{target.name}.{OTHER}*"):
        if kept.is_file() and kept.read_bytes() == content:
            return kept
    aside = records.free_name(target, OTHER)
    records.write_bytes(aside, content, arrays, maps)
    return aside
