"""Writes what a machine without network and git needs to run the study: `make bundle [HAVE=FILE]`.

The archive holds run.sh, the code at the commit of HEAD, and a wheel of each package that the runs and the notebooks
need beside torch, torchvision and numpy, for Python 3.12 on x86-64 Linux. The weights that networks start from are a
second file. The versions are those of requirements.lock. FILE is what `pip list` prints on that machine: what it has is
left out, and versions that do not go with what it has are replaced.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[1]
START = "results/start/resnet50.safetensors"
THERE = ("torch", "torchvision", "numpy")  #: the machine has them
NOT_NEEDED = ("jupyter", "jupyter-book")  #: of the extra `book`: no page is built there
KERNEL = "ipykernel"  #: which `jupyter` would bring
SOURCE = ("grad-cam",)  #: distributed as source alone, all of it Python; its wheel is built here
PYTHON = "3.12"
#: glibc 2.28, and the names of older ones
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
LARGEST_MIB = {False: 220, True: 48}  #: without and with HAVE: what such machines accept


def listed(text: str) -> dict[str, Version]:
    """Packages and versions that `pip list` (or `pip freeze`) has printed."""
    lines = re.findall(r"^([A-Za-z0-9][\w.-]*)(?:==|[ \t]+)(\d\S*)", text, re.MULTILINE)
    found = {}
    for name, version in lines:
        try:
            found[canonicalize_name(name)] = Version(version)
        except InvalidVersion:  # of another packager: not known to an index either
            continue
    return found


def needed(pyproject: str) -> list[Requirement]:
    """What pyproject.toml asks for to run the study and its notebooks; no page is built on that machine."""
    project = tomllib.loads(pyproject)["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["book"], KERNEL]
    return [one for one in map(Requirement, lines) if one.name not in NOT_NEEDED]


def pins(text: str) -> dict[str, list[str]]:
    """Name -> its entries in a file of pinned requirements: several where the version depends on a marker."""
    found: dict[str, list[str]] = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        found.setdefault(entry.partition("==")[0], []).append(entry)
    return found


def resolve(requirements: list[Requirement], lock: str, have: dict[str, Version], folder: Path) -> dict[str, str]:
    """Name -> pinned entry with hashes, of all that is needed and not there.

    Versions that the machine has are preferred, then those of the lock. torch and torchvision take no part.
    """
    (folder / "asked.in").write_text("\n".join(map(str, requirements)), encoding="utf-8")
    (folder / "left-out.in").write_text("\n".join(f"{name}; python_version < '0'" for name in THERE[:2]))
    (folder / "fixed.in").write_text(f"numpy=={have['numpy']}" if "numpy" in have else "")
    how = f"--python-version {PYTHON} --python-platform x86_64-{PLATFORMS[0].removesuffix('_x86_64')} --generate-hashes"
    how += " --quiet --no-annotate --no-header --no-emit-index-url --no-emit-find-links"
    files = "asked.in --overrides left-out.in --constraints fixed.in --output-file pins.txt"
    line = [Path(sys.executable).with_name("uv"), "pip", "compile", *how.split(), *files.split()]

    def resolved(own: dict[str, Version]) -> dict[str, str]:
        """uv keeps the versions that it finds in its output file, as far as they go together."""
        preferred = pins(lock) | {name: [f"{name}=={version}"] for name, version in own.items()}
        text = "\n".join(entry for entries in preferred.values() for entry in entries)
        (folder / "pins.txt").write_text(text, encoding="utf-8")
        call(line, folder)
        found = pins((folder / "pins.txt").read_text(encoding="utf-8"))
        return {name: entry for name, (entry,) in found.items()}

    def is_there(name: str, entry: str) -> bool:
        return have.get(name) == Version(re.split(r"==|[\s;\\]+", entry)[1])

    found = resolved(have)
    if have:  # again without the versions that do not fit, in whose place come those of the lock
        found = resolved({name: have[name] for name, entry in found.items() if is_there(name, entry)})
    return {name: entry for name, entry in found.items() if name != "numpy" and not is_there(name, entry)}


def download(entries: dict[str, str], folder: Path) -> list[Path]:
    """The wheels of these entries, each with one of the hashes of its entry."""
    wheels = folder / "wheels"
    wheels.mkdir()
    built = [entry for name, entry in entries.items() if name in SOURCE]
    ready = [entry for name, entry in entries.items() if name not in SOURCE]
    (folder / "ready.txt").write_text("\n".join(ready))
    (folder / "built.txt").write_text("\n".join(built))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    same = ["--no-deps", "--require-hashes"]
    tags = ["--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"]
    tags += [word for abi in ("cp312", "abi3", "none") for word in ("--abi", abi)]
    tags += [word for platform in PLATFORMS for word in ("--platform", platform)]
    if ready:
        call([*pip, "download", *same, *tags, "--dest", wheels, "--requirement", folder / "ready.txt"], folder)
    if built:
        own = ["--no-build-isolation", "--no-binary", ",".join(SOURCE), "--wheel-dir", wheels]
        call([*pip, "wheel", *same, *own, "--requirement", folder / "built.txt"], folder)
    return sorted(wheels.iterdir())


def code(folder: Path, root: Path = ROOT) -> Path:
    """The checkout at HEAD without the start weights, with its commit and git's list of its records in COMMIT."""
    head = output(["git", "rev-parse", "HEAD"], root)
    (folder / "COMMIT").write_bytes(head + output(["git", "ls-tree", "-r", "HEAD:results", "records/"], root))
    file = folder / "study.tar.gz"
    line = ["git", "archive", "--format=tar.gz", "--prefix=study/", f"--add-file={folder / 'COMMIT'}"]
    file.write_bytes(output([*line, "HEAD", "--", ".", f":(exclude){START}"], root))
    return file


def write(target: Path, parts: list[Path], wheels: list[Path]) -> None:
    """One archive of a folder of its name with all files, the wheels in wheels/; it appears complete or not at all."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        member.mode = 0o755 if member.name.endswith(".sh") else 0o644
        return member

    partial = target.with_suffix(".partial")
    with tarfile.open(partial, "w") as archive:
        for place, files in (("", parts), ("wheels/", wheels)):
            for file in files:
                archive.add(file, f"{target.stem}/{place}{file.name}", filter=plain)
    partial.replace(target)


def call(line: list, folder: Path) -> None:
    if subprocess.run(list(map(str, line)), cwd=folder).returncode:
        sys.exit(f"error: `{Path(line[0]).name}` failed (see above); it needs a package index, and `make lock` its uv")


def output(line: list[str], folder: Path) -> bytes:
    try:
        return subprocess.run(line, cwd=folder, check=True, stdout=subprocess.PIPE).stdout
    except (OSError, subprocess.CalledProcessError) as fault:
        sys.exit(f"error: {fault}; call this in a git checkout of the study")


def read_have(file: Path, requirements: list[Requirement]) -> dict[str, Version]:
    """The packages of that machine; ends here where the three that the archive does not bring are not among them."""
    try:
        have = listed(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as fault:
        sys.exit(f"error: {file}: {fault}; give what `pip list` prints on the machine without network")
    for one in requirements:
        if one.name in THERE and not (one.name in have and one.specifier.contains(have[one.name], prereleases=True)):
            found = have.get(one.name, "none")
            sys.exit(f"error: {file}: lists {one.name} {found}, and the study needs {one}; install it on that machine")
    return have


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--have", type=Path, metavar="FILE", help="what `pip list` prints on that machine")
    given = parser.parse_args()
    requirements = needed((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    have = read_have(given.have, requirements) if given.have else {}
    if output(["git", "status", "--porcelain", "--untracked-files=no"], ROOT):
        print("Changes that are not committed are not in the bundle.")
    out = ROOT / "build" / "bundle"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as made:
        folder = Path(made)
        lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
        wheels = download(resolve(requirements, lock, have, folder), folder)
        study = code(folder)
        commit = (folder / "COMMIT").read_text(encoding="utf-8")
        target = out / f"reid-{commit[:12]}.tar"
        write(target, [ROOT / "tools" / "run.sh", study], wheels)
    weights = out / Path(START).name
    weights.write_bytes(output(["git", "show", f"HEAD:{START}"], ROOT))
    size = target.stat().st_size / 2**20
    print(f"{target.relative_to(ROOT)}: {size:.0f} MiB, {len(wheels)} wheels")
    print(f"{weights.relative_to(ROOT)}: {weights.stat().st_size / 2**20:.0f} MiB, to be put beside it")
    if size > (limit := LARGEST_MIB[bool(have)]):
        print(f"It is larger than {limit} MiB; what that machine lacks takes the room: see `tar tvf`.")


if __name__ == "__main__":
    main()
