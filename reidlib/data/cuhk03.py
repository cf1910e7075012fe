"""CUHK03 (Li et al., CVPR 2014): the release, the CUHK03-NP folders and the stand-in, by one loader.

Names of the tables:

    cuhk03-np-labeled, cuhk03-np-detected             new protocol (Zhong et al., CVPR 2017): 767/700 identities
    cuhk03-classic-labeled-01 … -20, …-detected-…     classic protocol, split 1 to 20: 1,367/100, all five camera pairs
    cuhk03-classic3-labeled-01 … -20, …-detected-…    the other reading: 1,260/100, the first three camera pairs only

"labeled" boxes were drawn by hand, "detected" ones come from a detector. Every person was seen by one pair of cameras.

Forms on disk, whichever is found:

    cuhk-03.mat     the release (MATLAB v7.3, which is HDF5): `labeled` and `detected`, each five cells (one a camera
                    pair) of persons × 10 images, the first five from the pair's first camera; `testsets`, 20 lists of
                    (pair, person). Its images are extracted once, without loss, to PNG files. The new protocol also
                    reads its published cuhk03_new_protocol_config_{labeled,detected}.mat beside it.
    labeled, detected   CUHK03-NP: each with bounding_box_train, query and bounding_box_test; 0001_c1_1.png = identity
                    1, camera 1, image 1. The classic protocol needs `testsets.mat` beside them: `testsets`, a 20×1
                    cell of n×2 (pair, person), both from 1, and `persons`, 1×5, how many persons each pair saw.

A stand-in has the second form, with JPEG files.

Identities count from 1 to 1,467, pair after pair (`PERSONS`), as the published config files number them, so a person
has one identity in every form and none is 0 (the table's distractor). Cameras are 1 and 2, the view within the pair, as
the config's camId and the NP names have it: which of the campus's six cameras stand in a pair was never published."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from tqdm import tqdm

from reidlib import paths
from reidlib.data import table
from reidlib.data.table import FOLDERS, Check, Dataset, Layout, shown
from reidlib.spec import ReidError

if TYPE_CHECKING:
    import pandas as pd

NAME = "cuhk03"
MAT, TEST_SETS, EXTRACTED = "cuhk-03.mat", "testsets.mat", "cuhk-03.images"
CONFIG = "cuhk03_new_protocol_config_{boxes}.mat"
BOXES = ("labeled", "detected")
PERSONS = (843, 440, 77, 58, 49)  #: Persons that each of the five camera pairs saw
PAIRS = {"classic": 5, "classic3": 3}  #: How many of the camera pairs each reading of the classic protocol takes
TEST_SETS_PUBLISHED = 20
IMAGES_A_PERSON, IMAGES_A_CAMERA = 10, 5
READINGS = {  # in the notes of a classic table
    "classic": "all five camera pairs (1,367/100 identities); cuhk03-classic3-… takes the first three (1,260/100)",
    "classic3": "the first three camera pairs (1,260/100 identities); cuhk03-classic-… takes all five (1,367/100)",
}
LAYOUT = Layout(
    name=NAME,
    title="CUHK03",
    root_names=("cuhk03_release", "CUHK03-NP", "cuhk03-np", "CUHK03", "cuhk03"),
    forms=(),  # they depend on the protocol and the boxes
    pattern=re.compile(r"(?!0000)(\d{4})_c([12])_\d+\.(?:png|jpe?g)", re.IGNORECASE),
    expected="the form 0001_c1_1.png with identities from 1 and cameras 1 and 2",
    suffixes=(".png", ".jpg", ".jpeg"),
)

VARIANTS = {f"{NAME}-np-{boxes}": ("np", boxes, 0) for boxes in BOXES} | {
    f"{NAME}-{protocol}-{boxes}-{split:02d}": (protocol, boxes, split)
    for protocol in PAIRS
    for boxes in BOXES
    for split in range(1, TEST_SETS_PUBLISHED + 1)
}
"""Name of the table -> protocol, boxes, split (1 to 20; 0 where the protocol has one split)."""


def all_splits(name: str) -> str:
    """The name under which the twenty splits of one protocol are shown together; any other data set's name as it is."""
    split = VARIANTS.get(name, ("", "", 0))[2]
    return f"{name.rpartition('-')[0]}-01 … -{TEST_SETS_PUBLISHED}" if split else name


def splits(name: str) -> list[str]:
    """All twenty splits of a data set's protocol and boxes, itself among them; any other name alone."""
    return [other for other in VARIANTS if all_splits(other) == all_splits(name)] or [name]


PUBLISHED = {
    ("np", "labeled"): table.published(7_368, 767, 1_400, 700, 5_328),
    ("np", "detected"): table.published(7_365, 767, 1_400, 700, 5_332),
} | {
    (protocol, boxes): {"train identities": persons, "gallery identities": 100}
    for protocol, persons in (("classic", 1_367), ("classic3", 1_260))
    for boxes in BOXES
}
"""Split sizes. New protocol: its page and config files. Classic: the release has test sets of 100 persons; the rest of
its 1,467, or of the 1,360 of the first three pairs (the 1,260 that SafeNet's text trains on), are for training."""

IMAGES = {("classic", "labeled"): 14_096, ("classic", "detected"): 14_097}
IMAGES |= {("classic3", "labeled"): 13_163, ("classic3", "detected"): 13_164}
"""Images of training and test together, counted in the file lists of the published config files."""


def load(name: str, root: Path | str | None = None) -> Dataset:
    """One of VARIANTS ("cuhk03-np-labeled"), of CUHK03 or its stand-in, as a checked table; root as in `find_root`.

    The images of cuhk-03.mat are kept as PNG files (about 0.5 GB) in cuhk-03.images beside it, or in the cache where
    that folder cannot be written. Classic protocol: query and gallery both hold all images of the test persons, as
    published toolkits give them; persons whom only one camera saw are in the gallery alone.

    Raises ReidError as `table.load_folders`, and for a .mat cut short or of another structure."""
    if name not in VARIANTS:
        raise ReidError(f"CUHK03 has no table {name!r}; choose of cuhk03-np-labeled, cuhk03-classic-detected-01, …")
    protocol, boxes, split = VARIANTS[name]
    folders = {part: f"{boxes}/{lies}" for part, lies in FOLDERS.items()}
    form = tuple(folders.values())
    layout = replace(LAYOUT, forms=(form, (MAT,)) if protocol == "np" else ((MAT,), (*form, TEST_SETS)))
    folder, note = table.find_root(root, layout)
    manifest = table.read_manifest(folder, NAME)
    release = MAT in (layout.form_in(folder) or ())
    checks, persons, home = [note], PERSONS, folder
    if release:
        home = _extraction_folder(folder / MAT, boxes)
        images, persons, base = _extracted(folder / MAT, boxes, home)
        checks.append(Check("images extracted to", str(home), str(home), True))
    else:
        images = table.read_folders(folder, folders, layout)
        base = "" if manifest else table.files_digest(folder, images["path"])
    if protocol == "np":
        more, notes = [], [f"new protocol (767/700 identities), {boxes} boxes"]
        if release:
            images = _new(images, folder, boxes)
    else:
        tests, persons = _test_sets(folder, split, persons)
        images, more = _classic(images, tests, persons, PAIRS[protocol])
        if not manifest:
            total, wanted = images["path"].nunique(), IMAGES[protocol, boxes]
            more.append(Check("images in all", f"{wanted:,}", f"{total:,}", total == wanted))
        of = f"classic protocol, split {split} of {TEST_SETS_PUBLISHED}, {boxes} boxes"
        notes = [f"{of}; results are means over the splits", READINGS[protocol]]
    checks += table.sizes(images, home, manifest, PUBLISHED[protocol, boxes], layout)
    checks += [*more, *table.consistency(images, home)]
    notes.append("cameras 1 and 2 are the two views of the pair that saw the person")
    digest = standin_digest(name, manifest["digest"]) if manifest else table.rows_digest(base, images)
    return Dataset(name, home, "stand-in" if manifest else "real", images, digest, tuple(checks), tuple(notes))


def standin_digest(name: str, digest: str) -> str:
    """Digest of the table `name` of a stand-in whose manifest says `digest`: one rendering holds many tables."""
    return table.combined_digest(digest, name)


def _new(images: pd.DataFrame, root: Path, boxes: str) -> pd.DataFrame:
    """The table of the new protocol from its published config file and the release's images."""
    name = CONFIG.format(boxes=boxes)
    file = next((folder / name for folder in (root, root.parent) if (folder / name).is_file()), None)
    if file is None:
        remedy = f"put this published file of the new protocol beside {MAT}, or give the CUHK03-NP folders"
        raise ReidError(f"{name} is missing in {root} and in {root.parent}; {remedy}")
    config, parts = _read_mat(file), []
    try:
        names = np.array([f"{boxes}/{np.ravel(cell)[0]}" for cell in config["filelist"].ravel()])
        labels = _whole_numbers(config["labels"], 1, sum(PERSONS), len(names))
        cameras = _whole_numbers(config["camId"], 1, 2, len(names))
        for split in FOLDERS:
            index = _whole_numbers(config[f"{split}_idx"], 1, len(names)) - 1  # MATLAB counts from 1
            parts.append(table.rows(names[index].tolist(), labels[index], cameras[index], split))
    except (KeyError, IndexError, ValueError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ReidError(f"{file} has not the structure of the published config file ({why}); copy it again") from None
    listed = table.joined(parts)
    absent = listed.loc[~listed["path"].isin(images["path"]), "path"]
    if len(absent):
        first = shown([Path(absent.iloc[0]).name])
        raise ReidError(f"{file} lists {first}, which {MAT} does not hold ({len(absent):,} such); copy both again")
    return listed


def _whole_numbers(values: object, least: int, most: int, count: int | None = None) -> np.ndarray:
    """`values` of a .mat file as int64, flat. Raises ValueError unless all are whole numbers from `least` to `most`."""
    numbers = np.ravel(np.asarray(values))
    if numbers.dtype.kind not in "iuf" or not ((numbers >= least) & (numbers <= most) & (numbers % 1 == 0)).all():
        raise ValueError(f"values that are no whole numbers from {least} to {most:,}")
    if count is not None and len(numbers) != count:
        raise ValueError(f"{len(numbers):,} values for {count:,} images")
    return numbers.astype(np.int64)


def _read_mat(file: Path) -> dict:
    from scipy.io import loadmat

    try:
        return loadmat(file)
    except Exception as error:  # a cut or foreign file raises a dozen types, struct.error and zlib.error among them
        raise ReidError(f"{file} cannot be read as a MATLAB file ({error}); copy it again") from None


def _test_sets(root: Path, split: int, persons: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, ...]]:
    """The test persons of one split, n×2 (pair, person), both from 1; and how many persons each pair saw."""
    file = root / (MAT if (root / MAT).is_file() else TEST_SETS)
    if not file.is_file():
        what = f"{root} holds neither {MAT} nor {TEST_SETS}, which list the 20 test sets of the classic protocol"
        raise ReidError(f"{what}; give the folder of the release, or render the stand-in: {LAYOUT.render}")
    if file.name == MAT:
        with _open(file) as content:
            sets = [content[ref][()].T for ref in content["testsets"][()].ravel()]
    else:
        content = _read_mat(file)
        sets = list(content.get("testsets", np.empty(0, object)).ravel())
        try:
            persons = tuple(_whole_numbers(content.get("persons", persons), 0, sum(PERSONS)).tolist())
        except ValueError as error:
            raise ReidError(f"{file} has {error} as the persons of each pair; copy it again") from None
    if len(sets) != TEST_SETS_PUBLISHED:
        raise ReidError(f"{file} lists {len(sets)} test sets instead of {TEST_SETS_PUBLISHED}; copy it again")
    with suppress(ValueError, IndexError):
        tests = _whole_numbers(sets[split - 1], 1, sum(persons)).reshape(-1, 2)
        whole = np.shape(sets[split - 1])[1:] == (2,) and len(persons) == len(PERSONS) and len(tests)
        if whole and (tests[:, 1] <= np.asarray(persons)[tests[:, 0] - 1]).all():
            return tests, persons
    what = f"test set {split} of {file} is no list of (pair 1 to 5, person)"
    raise ReidError(f"{what}; pairs of {list(persons)} persons were found: copy it again")


def _classic(
    images: pd.DataFrame, tests: np.ndarray, persons: tuple[int, ...], pairs: int
) -> tuple[pd.DataFrame, list[Check]]:
    """The table of one classic split, from all images and the (pair, person) of its test persons."""
    before = np.cumsum([0, *persons])  # persons of all earlier pairs
    if images["identity"].max() > before[-1]:
        one = f"identity {images['identity'].max()} is among the images"
        other = f"the test sets are of {before[-1]:,} persons"
        raise ReidError(f"{one}, but {other}; they are of two different sets: give a folder that is whole")
    images = images[images["identity"] <= before[pairs]]
    tested = images["identity"].isin(before[tests[:, 0] - 1] + tests[:, 1])
    test = images[tested]
    cameras = test.groupby("identity")["camera"].transform("nunique")
    alone = test.loc[cameras == 1, "identity"].nunique()
    parts = {"train": images[~tested], "query": test[cameras > 1], "gallery": test}
    whole = table.joined(part.assign(split=split) for split, part in parts.items())
    found = test["identity"].nunique()
    return whole, [
        Check("test persons with images", f"{len(tests)}", f"{found}", found == len(tests)),
        Check("test persons seen by one camera, in the gallery only", f"{alone}", f"{alone}", True),
    ]


@contextmanager
def _open(mat: Path) -> Generator:
    """The release file, read as HDF5; anything wrong with its content is a ReidError."""
    import h5py

    try:
        with h5py.File(mat, "r") as content:
            yield content
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        what = f"{mat} ({mat.stat().st_size:,} bytes) is cut short or has not the structure of the release"
        raise ReidError(f"{what} ({' '.join(str(error).split())}); copy it again") from None


def _extraction_folder(mat: Path, boxes: str) -> Path:
    beside = mat.with_name(EXTRACTED)
    writable = os.access(beside if beside.is_dir() else mat.parent, os.W_OK)
    return beside if writable or (beside / f"{boxes}.tsv").is_file() else paths.cache() / EXTRACTED


def _extracted(mat: Path, boxes: str, folder: Path) -> tuple[pd.DataFrame, tuple[int, ...], str]:
    """All images of one kind of boxes, extracted first where they are not yet: rows (split empty), the persons of each
    pair, and a digest of names and sizes in pixels, since a PNG's bytes depend on the library that wrote it."""
    index = _read_index(folder / f"{boxes}.tsv")
    if index is None or not {line.split("\t")[0] for line in index[1:]} <= _present(folder / boxes):
        index = _extract(mat, boxes, folder)
    size, many, _ = index[0].split("\t")
    if size != str(mat.stat().st_size):
        raise ReidError(f"{folder} holds the images of another {MAT} than {mat}; remove that folder to extract again")
    persons, names = tuple(map(int, many.split(","))), [line.split("\t")[0] for line in index[1:]]
    fields = np.array([name.split("_")[:3] for name in names], dtype=np.int64)  # pair, person, camera
    identities = np.cumsum([0, *persons])[fields[:, 0] - 1] + fields[:, 1]
    rows = table.rows([f"{boxes}/{name}" for name in names], identities, fields[:, 2], "")
    return rows, persons, table.combined_digest(*index[0].split("\t"), *index[1:])


def _read_index(file: Path) -> list[str] | None:
    """Size of the .mat, persons of each pair, number of images; then name, height, width. None: not whole."""
    try:
        head, *lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    fits = re.fullmatch(rf"\d{{1,15}}\t\d{{1,5}}(,\d{{1,5}}){{4}}\t{len(lines)}", head, re.ASCII)
    image = re.compile(r"[1-5]_\d{1,5}_[12]_\d{1,5}\.png\t\d{1,5}\t\d{1,5}", re.ASCII)
    return [head, *lines] if fits and all(map(image.fullmatch, lines)) else None


def _present(folder: Path) -> set[str]:
    """Names of the images that are not empty (a crash of the machine can leave empty files)."""
    return {file.name for file in folder.glob("*.png") if file.stat().st_size}


def _extract(mat: Path, boxes: str, folder: Path) -> list[str]:
    """Write the images that are not there yet, and last the index, so that an interrupted extraction goes on."""
    done, lines = _present(folder / boxes), []
    with _open(mat) as content:
        cells = [content[reference][()] for reference in content[boxes][()].ravel()]  # each 10 × persons, of references
        if len(cells) != len(PERSONS) or any(cell.ndim != 2 or len(cell) != IMAGES_A_PERSON for cell in cells):
            raise ValueError(f"{boxes} is not five cells of persons × {IMAGES_A_PERSON} images")
        persons = [(pair, person) for pair, cell in enumerate(cells, 1) for person in range(1, cell.shape[1] + 1)]
        for pair, person in tqdm(persons, desc=f"extract {boxes}", unit="person", disable=not sys.stderr.isatty()):
            for number, reference in enumerate(cells[pair - 1][:, person - 1], 1):
                image = content[reference]  # 3×W×H, for MATLAB writes columns first
                if image.ndim != 3:
                    continue  # an empty cell: this person has fewer than ten images
                camera = 1 if number <= IMAGES_A_CAMERA else 2
                name = f"{pair}_{person:03d}_{camera}_{number:02d}.png"  # as the config files list them
                lines.append(f"{name}\t{image.shape[2]}\t{image.shape[1]}")
                if name not in done:
                    pixels = Image.fromarray(np.ascontiguousarray(image[()].T))
                    _save(folder / boxes / name, lambda file, pixels=pixels: pixels.save(file, format="PNG"))
    many = ",".join(str(cell.shape[1]) for cell in cells)
    index = [f"{mat.stat().st_size}\t{many}\t{len(lines)}", *lines]
    _save(folder / f"{boxes}.tsv", lambda file: file.write_text("\n".join([*index, ""]), encoding="utf-8"))
    return index


def _save(file: Path, write: Callable[[Path], object]) -> None:
    """Writes to a temporary file of this process, then gives it its name."""
    part = file.with_name(f".{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        part.replace(file)
    except OSError as error:
        remedy = "make space or fix its permissions, or unpack the release elsewhere"
        raise ReidError(f"{file} cannot be written ({error.strerror or error}); {remedy}") from None
