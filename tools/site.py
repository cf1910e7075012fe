"""Writes what is published of a built book: `make site`.

build/site/ is for any static host: the pages, all addresses relative, nothing loaded from elsewhere. Beside it is a
release archive with the book, the printed numbers and claims, all finished records, and how to cite the study.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
BESIDE = ("CITATION.cff", "CHANGELOG.md", "LICENSE", "README.md", "results/*.tsv")
SUMS = "SHA256SUMS"
PLAIN_DOI = re.compile(r"10\.\d{4,9}/\S+")
EARLIEST = (1980, 1, 1, 0, 0, 0)  #: the time of every member, so that equal files give an equal archive


def site(html: Path, folder: Path) -> None:
    """Puts the pages there as a whole. Without .nojekyll, a host with Jekyll leaves out folders such as _static."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent))
    shutil.copytree(html, partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".buildinfo"))
    (partial / ".nojekyll").touch()
    partial.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def release(folder: Path, records: Path, target: Path, root: Path = ROOT) -> dict[str, str]:
    """Writes the archive, complete or not at all, and returns the SHA-256 of each member.

    records: an archive of `reid pack`, whose members keep their places.
    """
    members = {f"book/{file.relative_to(folder)}": file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    members |= {str(file.relative_to(root)): file.read_bytes() for one in BESIDE for file in root.glob(one)}
    with zipfile.ZipFile(records) as packed:
        members |= {f"results/{name}": packed.read(name) for name in packed.namelist()}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(members.items())}
    members[SUMS] = "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()
    partial = target.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(members.items()):
            member = zipfile.ZipInfo(f"{target.stem}/{name}", EARLIEST)
            member.external_attr, member.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(member, content)
    partial.replace(target)
    return sums


def citation(root: Path = ROOT) -> dict:
    """CITATION.cff; ends here where its DOI is none."""
    said = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    if "doi" in said and not PLAIN_DOI.fullmatch(str(said["doi"])):
        sys.exit(f"error: CITATION.cff: doi {said['doi']!r} is no DOI alone, such as 10.5281/zenodo.1234; correct it")
    return said


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    said, html = citation(), ROOT / "book" / "_build" / "html"
    records = html / "_static" / "records.zip"
    if not ((html / "index.html").is_file() and records.is_file()):
        sys.exit(f"error: {html} holds no book with records; build it with `make book`")
    out = ROOT / "build"
    site(html, out / "site")
    target = out / f"reid-study-{said['version']}.zip"
    files = release(out / "site", records, target)
    size = target.stat().st_size / 2**20
    print(f"{(out / 'site').relative_to(ROOT)}: the book, for any static host")
    print(f"{target.relative_to(ROOT)}: {size:.0f} MiB, {len(files)} files; DOI: {said.get('doi', 'none yet')}")


if __name__ == "__main__":
    main()
