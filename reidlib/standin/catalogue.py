"""The stand-ins there are: reads `domains/*.toml`, and knows digests and manifests. Imports neither torch nor numpy.

A new stand-in is one more TOML file, and a layout in `layouts.py` where its file names are new.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from reidlib.spec import ReidError

from .domain import Camera, Colour, Domain, Light, Surface, Variant
from .layouts import LAYOUTS

VERSION = 3
MANIFEST = "standin.json"
FOLDER = Path(__file__).parent / "domains"


def domain(name: str, variant: Variant | None = None) -> Domain:
    """The domain of a stand-in, by the data set's name, with a factor changed where a variant is given."""
    if name not in DOMAINS:
        raise ReidError(f"no stand-in is called {name!r}; known: {', '.join(DOMAINS)}")
    if variant in (None, Variant()):
        return DOMAINS[name]
    # By all that it says: shares of 0 and of 0.0 are equal, and have different digests.
    return _CHANGED.setdefault((name, repr(variant)), replace(DOMAINS[name], variant=variant))


def digest(name: str, *, scale: float, seed: int, variant: Variant | None = None) -> str:
    """A short hash of renderer version, the domain's parameters, variant, scale and seed; never of bytes."""
    return _digest(domain(name, variant), float(scale), int(seed))


@functools.cache
def _digest(domain: Domain, scale: float, seed: int) -> str:
    parameters = asdict(domain)
    del parameters["layout"]
    content = {"version": VERSION, "domain": parameters, "scale": scale, "seed": seed}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def read_domain(path: Path) -> Domain:
    """Read the file of one domain, named after it.

    The tables of the file are the classes of `domain.py`. Surfaces, lamps and colours of things are given by name, from
    the tables `surfaces`, `lamps` and `colours`; a camera may be `like` an earlier one, by number. Raises ReidError for
    a name that is unknown, missing or of the wrong type; says file and key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReidError(f"{path} cannot be read ({error}); restore it") from error
    reader = _Reader(path)
    layout = reader.named("layout", content.pop("layout", None), LAYOUTS)
    for name, kind in (("surfaces", Surface), ("lamps", Light), ("colours", Colour)):
        table = reader.table(name, content.pop(name, {}))
        reader.names[kind] = {key: reader.value(kind, part, f"{name}.{key}") for key, part in table.items()}
    domain = reader.build(Domain, content, "", {"name": path.stem, "layout": layout}, {"sizes": layout.sizes})
    for garment in ("upper", "lower", "shoes", "bags", "hats"):
        for colour, _ in getattr(domain.palette, garment):
            reader.named(f"palette.{garment}", colour, dict(domain.palette.colours))
    return domain


_hints = functools.cache(get_type_hints)


class _Reader:
    """Turns the tables of one file into dataclasses, by the types of their fields."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: dict[Any, dict[str, Any]] = {}

    def error(self, where: str, problem: str) -> ReidError:
        return ReidError(f"{self.path}: {where} {problem}; correct the file")

    def named(self, where: str, name: Any, known: Mapping[str, Any]) -> Any:
        if not isinstance(name, str) or name not in known:
            raise self.error(where, f"is {name!r}; known: {', '.join(known) or 'none'}")
        return known[name]

    def table(self, where: str, content: Any) -> dict[str, Any]:
        if not isinstance(content, dict):
            raise self.error(where, "is not a table")
        return content

    def build(self, kind: Any, content: Any, where: str, given: dict[str, Any], types: dict[str, Any]) -> Any:
        """One dataclass from its table; `given` are fields from elsewhere, `types` replace the declared ones."""
        prefix, types = where and f"{where}.", _hints(kind) | types
        own = {f.name: f for f in fields(kind) if f.name not in given and f.name != "variant"}
        values = dict(given)
        for name, part in self.table(where, content).items():
            if name not in own:
                raise self.error(prefix + name, f"is unknown; known: {', '.join(own)}")
            values[name] = self.value(types[name], part, prefix + name)
        for name, f in own.items():
            if name not in values and f.default is MISSING:
                raise self.error(prefix + name, "is missing")
        return kind(**values)

    def value(self, kind: Any, content: Any, where: str) -> Any:
        """Content of the file as a value of the type `kind`; lists become tuples, names what they stand for."""
        kinds = get_args(kind)
        if get_origin(kind) is UnionType:
            kind = kinds[0]
        if isinstance(content, str) and kind in self.names:
            return self.named(where, content, self.names[kind])
        if get_origin(kind) is Literal:
            return self.named(where, content, dict(zip(kinds, kinds, strict=True)))
        if is_dataclass(kind):
            return self.build(kind, content, where, {}, {})
        if get_origin(kind) is tuple:
            return self.sequence(kinds, content, where)
        allowed = (int, float) if kind is float else (kind,)
        if type(content) not in allowed:
            raise self.error(where, f"is {content!r}, not of the type {kind.__name__}")
        return content

    def sequence(self, kinds: tuple[Any, ...], content: Any, where: str) -> tuple[Any, ...]:
        if isinstance(content, dict):  # names and values in their order
            content = list(map(list, content.items()))
        if not isinstance(content, list):
            raise self.error(where, f"is {content!r}, not a list")
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(content)
        if len(content) != len(kinds):
            raise self.error(where, f"has {len(content)} values, not {len(kinds)}")
        for i, part in enumerate(content):
            if kinds[i] is Camera and isinstance(part, dict) and "like" in part:
                like = part.pop("like")
                if type(like) is not int or not 1 <= like <= i:
                    raise self.error(f"{where}[{i + 1}].like", f"is {like!r}, not the number of an earlier camera")
                content[i] = content[like - 1] | part
        pairs = zip(kinds, content, strict=True)
        return tuple(self.value(kind, part, f"{where}[{i}]") for i, (kind, part) in enumerate(pairs, 1))


DOMAINS: dict[str, Domain] = {path.stem: read_domain(path) for path in sorted(FOLDER.glob("*.toml"))}
"""All stand-ins, by the data set's name."""
_CHANGED: dict[tuple[str, str], Domain] = {}


def is_complete(folder: Path) -> bool:
    """Whether the folder holds a whole stand-in: a manifest, and as many images as it counts, with or without truth."""
    try:
        manifest = read_manifest(Path(folder) / MANIFEST)
    except ReidError:
        return False
    if manifest is None:
        return False
    counts, folders = manifest.get("counts", {}), DOMAINS[manifest["name"]].layout.folders
    return all(len(image_names(Path(folder) / part)) == counts.get(part) for part in folders)


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of a set, or the note about an unfinished one; None where there is no such file.

    Raises ReidError where it cannot be read, or an entry has the wrong type; says file, entry and what to do.
    """

    def error(problem: str) -> ReidError:
        return ReidError(f"{path} {problem}; delete the folder {path.parent} or give another one")

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as reason:
        raise error("is not readable as JSON") from reason
    if not isinstance(content, dict):
        raise error("is not a manifest of a stand-in")
    for key, kinds in {"name": str, "version": int, "scale": (int, float), "seed": int, "digest": str}.items():
        if not isinstance(content.get(key), kinds) or isinstance(content[key], bool):
            raise error(f"has no valid {key} ({json.dumps(content.get(key))})")
    if content["name"] not in DOMAINS:
        raise error(f"names the unknown stand-in {content['name']!r}")
    counts = content.get("counts", {})
    if not isinstance(counts, dict) or any(type(many) is not int or many < 0 for many in counts.values()):
        raise error(f"has counts that are no numbers of images ({json.dumps(counts)[:80]})")
    return content


def image_names(folder: Path) -> set[str]:
    """Names, from `folder`, of the JPEG files that are not empty (a crash of the machine can leave empty ones)."""
    found = set()
    for where, _, names in os.walk(folder, followlinks=True):
        below = os.path.relpath(where, folder) + "/"
        images = [name for name in names if name.endswith(".jpg") and os.path.getsize(f"{where}/{name}")]
        found |= {(below + name).removeprefix("./") for name in images}
    return found
