"""The road to real data at full size: each data set with the published counts and file names, and any pixels.

    python benchmarks/full_size.py                            # all four
    python benchmarks/full_size.py market1501 --folder /big   # one of them; the files go below this folder
    python benchmarks/full_size.py msmt17 --steps read check

The sets are written first: names and numbers of Market-1501 and CUHK03 are those of tests/metadata, those of
DukeMTMC-reID and MSMT17 are made up in the same form. A few images stand for all: their files are hard links. CUHK03
has all three forms: cuhk-03.mat with both config files, and the CUHK03-NP folders.

Each step is a process of its own, as a user would start it:

    read      `reid data NAME`
    check     `reid data NAME --images`, which decodes every image file
    decode    all splits at a row's size of budget full into the cache (a split's file is deleted before the next)
    train     one batch of that row: decoded, augmented, forwards, backwards, weights updated; one batch of the test
    evaluate  `reid evaluate` on synthetic features, 2,048-d float32, with the set's own identities and cameras

Times are of the whole process. LIMITS are of the processor's seconds, summed over the cores, which do not depend on
what else a machine does: where two cores are free, the wall time is between half of it and all of it. Peak memory is
the system's figure, mapped files included. Measured, with one thread:

                              read            check           decode            train         evaluate
    Market-1501            4 s, 0.67 GiB  16 s            57 s              32 s, 3.0 GiB   11 s, 1.31 GiB
    DukeMTMC-reID          4 s, 0.67 GiB  13 s, 0.70 GiB  50 s, 0.87 GiB    45 s, 3.97 GiB   9 s, 1.28 GiB
    CUHK03, cuhk-03.mat   38 s, 0.73 GiB  12 s, 0.69 GiB  29 s, 0.88 GiB    65 s, 3.85 GiB   5 s, 0.82 GiB
    MSMT17                 6 s, 0.68 GiB  65 s, 0.85 GiB  242 s, 0.89 GiB   50 s, 4.09 GiB  107 s, 3.82 GiB
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from reidlib.data import cuhk03, dukemtmc, msmt17  # no more: what this process holds counts as its children's peak

METADATA = Path(__file__).parents[1] / "tests" / "metadata"
STEPS = ("read", "check", "decode", "train", "evaluate")
LIMITS = {
    "read": (120, 1.0),  # most with cuhk-03.mat, whose images are extracted once
    "check": (300, 1.0),
    "decode": (900, 1.5),
    "train": (180, 8.0),
    "evaluate": (600, 6.0),
}
"""Seconds of the processor and GiB that a step may take with the largest set."""

TABLES = {
    "market1501": "msgwdp/table2",
    "dukemtmc": "msgwdp/table10",
    "msmt17": "msgwdp/table11",
    "cuhk03-np-labeled": "fmn/table4",
}
"""Whose first row gives the network, its batch and the size of its input at budget full."""

SETS = {
    "market1501": ("market1501",),
    "dukemtmc": ("dukemtmc",),
    "msmt17": ("msmt17",),
    "cuhk03": ("cuhk03-np-labeled", "cuhk03-np-detected", "cuhk03-classic-labeled-01", "cuhk03-classic3-detected-20"),
}
"""What is written -> its tables. All of them are read and checked, the first is decoded, trained on and evaluated."""

KINDS = 16  #: different images; a file system allows some 65,000 links to each


# --- the sets ---------------------------------------------------------------------------------------------------------


class Links:
    """Writes files that share a few contents: images of random blocks, as wide and high as those of the set."""

    def __init__(self, root: Path, height: int, width: int, suffix: str = ".jpg"):
        self.root, self.written = root, 0
        self.kinds = [root.parent / f"{root.name}-{kind}{suffix}" for kind in range(KINDS)]
        root.mkdir(parents=True)
        for kind, file in enumerate(self.kinds):
            Image.fromarray(pixels(kind, height, width)).save(file)

    def write(self, names: Iterable[str]) -> None:
        for name in names:
            file = self.root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            os.link(self.kinds[self.written % KINDS], file)
            self.written += 1


def pixels(kind: int, height: int, width: int) -> np.ndarray:
    blocks = np.random.default_rng(kind).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(blocks).resize((width, height), Image.Resampling.BILINEAR))


def spread(count: int, people: int, cameras: int, first: int = 1) -> list[tuple[int, int, int]]:
    """(identity, camera, number of the image) of images that are shared out evenly; cameras from 1."""
    return [(first + i % people, 1 + (i // people + i) % cameras, i // people) for i in range(count)]


def write_market1501(root: Path) -> None:
    links = Links(root, 128, 64)
    train = (METADATA / "market1501_train_filenames.txt").read_text(encoding="utf-8").split()
    links.write(f"bounding_box_train/{name}" for name in train)
    for folder, part in (("query", "query"), ("bounding_box_test", "test")):
        ids, cameras = (_column(METADATA / f"{part}{what}.mat") for what in ("ID", "Cam"))
        people = (f"{one:04d}" if one >= 0 else "-1" for one in ids)
        names = (
            f"{who}_c{camera}s1_{i:06d}_00.jpg" for i, (who, camera) in enumerate(zip(people, cameras, strict=True))
        )
        links.write(f"{folder}/{name}" for name in names)
        (root / folder / "Thumbs.db").write_bytes(b"as in the release")


def _column(file: Path) -> list[int]:
    return next(value for name, value in cuhk03._read_mat(file).items() if not name.startswith("__")).ravel().tolist()


def write_dukemtmc(root: Path) -> None:
    links = Links(root, 200, 80)
    sizes = dukemtmc.PUBLISHED
    parts = {
        "bounding_box_train": spread(sizes["train images"], sizes["train identities"], 8),
        "query": spread(sizes["query images"], sizes["query identities"], 8, first=1001),
        "bounding_box_test": spread(sizes["gallery images"], sizes["gallery identities"], 8, first=1001),
    }
    for folder, rows in parts.items():
        links.write(f"{folder}/{who:04d}_c{camera}_f{number:07d}.jpg" for who, camera, number in rows)


def write_msmt17(root: Path) -> None:
    links = Links(root, 256, 112)
    sizes, val = msmt17.PUBLISHED, 2_373
    train = spread(sizes["train images"], sizes["train identities"], 15, first=0)
    query = spread(sizes["query images"], sizes["query identities"], 15, first=0)
    gallery = spread(sizes["gallery images"], sizes["gallery identities"], 15, first=0)
    lists = {
        "list_train.txt": ("train", train[val:], 0),
        "list_val.txt": ("train", train[:val], 0),
        "list_query.txt": ("test", query, 500),
        "list_gallery.txt": ("test", gallery, 0),
    }
    for file, (folder, rows, start) in lists.items():
        names = [f"{who:04d}/{who:04d}_{start + n:03d}_{cam:02d}_0303morning_{n:04d}_0.jpg" for who, cam, n in rows]
        links.write(f"{folder}/{name}" for name in names)
        lines = (f"{name} {who}\n" for name, (who, _, _) in zip(names, rows, strict=True))
        (root / file).write_text("".join(lines), encoding="utf-8")


def write_cuhk03(root: Path) -> None:
    """Two sets in one folder: the release, and the CUHK03-NP folders."""
    release, folders = root / "cuhk03_release", Links(root / "CUHK03-NP", 160, 64, ".png")
    release.mkdir()
    with h5py.File(release / cuhk03.MAT, "w") as content:
        shown = [content.create_dataset(f"refs/{kind}", data=pixels(kind, 160, 64).T) for kind in range(KINDS)]
        empty = content.create_dataset("refs/empty", data=np.zeros(2, np.uint64))
        for boxes in cuhk03.BOXES:
            config = METADATA / cuhk03.CONFIG.format(boxes=boxes)
            shutil.copy(config, release)
            listed = cuhk03._read_mat(config)
            names = [str(np.ravel(cell)[0]) for cell in listed["filelist"].ravel()]
            cells = []
            for pair, persons in enumerate(cuhk03.PERSONS, 1):
                cell = np.full((cuhk03.IMAGES_A_PERSON, persons), empty.ref, dtype=h5py.ref_dtype)
                for i, name in enumerate(names):
                    of, person, _, number = (int(word) for word in name.removesuffix(".png").split("_"))
                    if of == pair:  # every image has a copy of its own, as in the release
                        own = content.create_dataset(f"refs/{boxes}{i}", data=shown[i % KINDS][()])
                        cell[number - 1, person - 1] = own.ref
                cells.append(content.create_dataset(f"refs/{boxes}-{pair}", data=cell).ref)
            content.create_dataset(boxes, data=np.array([cells], dtype=h5py.ref_dtype))
            for split, folder in cuhk03.FOLDERS.items():
                for i in listed[f"{split}_idx"].ravel() - 1:
                    who, camera = listed["labels"].ravel()[i], listed["camId"].ravel()[i]
                    folders.write([f"{boxes}/{folder}/{who:04d}_c{camera}_{i}.png"])
        random, tests = np.random.default_rng(0), []
        for number in range(cuhk03.TEST_SETS_PUBLISHED):
            # persons of the first three pairs, as the two readings of the protocol have 100 test persons each
            chosen = random.choice(sum(cuhk03.PERSONS[:3]), 100, replace=False)
            starts = np.cumsum([0, *cuhk03.PERSONS])
            pairs = np.searchsorted(starts, chosen, side="right")
            rows = np.stack([pairs, chosen - starts[pairs - 1] + 1]).astype(np.float64)
            tests.append(content.create_dataset(f"refs/test{number}", data=rows).ref)
        content.create_dataset("testsets", data=np.array([tests], dtype=h5py.ref_dtype))


WRITERS = {
    "market1501": write_market1501,
    "dukemtmc": write_dukemtmc,
    "msmt17": write_msmt17,
    "cuhk03": write_cuhk03,
}


# --- the steps, each in a process of its own --------------------------------------------------------------------------


def decode(name: str, root: str) -> None:
    from reidlib.runs import datasets

    data, size = datasets.LOADERS[name](root), _row(name).recipe.size
    for split in data.table["split"].unique():
        datasets.decoded(data, split, size)
        datasets.decoded_file(data, split, size).unlink()


def train(name: str, root: str) -> None:
    import torch

    from reidlib import training
    from reidlib.data import images
    from reidlib.data.sampling import epoch_batches, identity_batches
    from reidlib.evaluation.features import extract
    from reidlib.runs import datasets
    from reidlib.runs.worker import EVALUATION_BATCH
    from reidlib.training.step import augmented, on_device

    data, settings = datasets.LOADERS[name](root), _row(name)
    recipe, labels = settings.recipe, torch.from_numpy(data.train_labels())
    generator = torch.Generator().manual_seed(0)
    if recipe.per_identity:
        chosen = identity_batches(labels, recipe.batch, recipe.per_identity, generator)[0]
    else:
        chosen = epoch_batches(len(labels), recipe.batch, generator)[0]
    decoded = images.decode(data, data.split("train").iloc[chosen.numpy()], recipe.size)
    model, _ = training.build(settings, len(data.identities), 0)
    loop = training.Loop.of(settings, on_device(model, torch.device("cpu")), len(data.identities))
    loop.train_mode()
    terms, _ = loop.step(augmented(decoded, recipe, generator), labels[chosen])
    tested = images.decode(data, data.split("gallery")[: EVALUATION_BATCH["cpu"]], recipe.size)
    found = extract(loop.model, [images.normalise(tested)])
    print(f"{settings.model.__name__}, batch {len(chosen)}, loss {float(sum(terms.values())):.2f}, test {found.shape}")


def features(name: str, root: str, file: str) -> None:
    """Features of both sets, clusters around one point for each identity; prints the protocol of their test."""
    from reidlib import papers
    from reidlib.runs import datasets

    data, random, arrays = datasets.LOADERS[name](root), np.random.default_rng(0), {}
    people = np.unique(data.table["identity"])
    centres = random.standard_normal((len(people), 2048), dtype=np.float32)
    for split in ("query", "gallery"):
        part = data.split(split)
        vectors = 4 * random.standard_normal((len(part), 2048), dtype=np.float32)
        vectors += centres[np.searchsorted(people, part["identity"])]
        arrays |= {f"{split}_features": vectors, f"{split}_ids": part["identity"].to_numpy()}
        arrays[f"{split}_cameras"] = part["camera"].to_numpy()
    np.savez(file, **arrays)
    print(papers.table(TABLES[name]).protocol_of(name))


def _row(name: str):
    from reidlib import papers

    table = papers.table(TABLES[name])
    return table.settings(table.rows[0], "full")


def command(step: str, name: str, root: Path, scratch: Path) -> list[str]:
    own, reid = [sys.executable, __file__, "--one"], [sys.executable, "-m", "reidlib.cli"]
    if step == "evaluate":
        file = str(scratch / "features.npz")
        line = [*own, "features", name, str(root), file]
        protocol = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout
        return [*reid, "evaluate", file, "--protocol", protocol.strip()]
    if step in ("read", "check"):
        return [*reid, "data", name, "--root", str(root), *["--images"] * (step == "check")]
    return [*own, step, name, str(root)]


def measured(line: list[str]) -> tuple[float, float, float, list[str]]:
    """Wall seconds, processor seconds, peak GiB of a command, and the lines that it prints."""
    started = time.perf_counter()
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read().splitlines()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"error: {' '.join(line)} failed")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20, said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", choices=[[], *SETS], metavar="SET", help=f"default: {', '.join(SETS)}")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--folder", type=Path, help="default: the folder for temporary files; MSMT17 takes 13 GB there")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        {"decode": decode, "train": train, "features": features}[given.one[0]](*given.one[1:])
        return
    print(f"{'':<38}{'wall':>9}{'processor':>11}{'peak':>11}   limit")
    too_much = 0
    for written in given.sets or SETS:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            scratch, root = Path(folder), Path(folder) / "set"
            os.environ["REID_CACHE"] = str(scratch / "cache")
            started = time.perf_counter()
            WRITERS[written](root)
            files = sum(len(names) for _, _, names in os.walk(root))
            print(f"{written}: {files:,} files written in {time.perf_counter() - started:.0f} s", flush=True)
            roots = [root / part for part in ("cuhk03_release", "CUHK03-NP")] if written == "cuhk03" else [root]
            for number, name in enumerate(SETS[written]):
                for place in roots[: 2 if "-np-" in name else 1]:
                    for step in (
                        given.steps if not number and place == roots[0] else set(given.steps) & {"read", "check"}
                    ):
                        seconds, busy, peak, said = measured(command(step, name, place, scratch))
                        most, room = LIMITS[step]
                        over = busy > most or peak > room
                        too_much += over
                        numbers = f"{seconds:>7.1f} s{busy:>9.1f} s{peak:>7.2f} GiB"
                        where = f"{name} {step}" if len(roots) == 1 else f"{name} {step}, {place.name}"
                        limit = f"{most} s, {room:g} GiB{'; over it' if over else ''}"
                        print(f"{where:<38}{numbers}   {limit}", flush=True)
                        differs = [line.strip() for line in said if line.strip().startswith("DIFFERS")]
                        found = next((line for line in said if "mAP" in line), "".join(said[-1:]))
                        print("".join(f"    {line.strip()}\n" for line in (*differs, found)), end="", flush=True)
                        too_much += len(differs)
    if too_much:
        raise SystemExit(f"{too_much} steps are over their limits, or found other counts than the published ones")


if __name__ == "__main__":
    main()
