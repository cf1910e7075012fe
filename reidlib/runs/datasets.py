"""Data sets by name, source and budget: loaded as checked tables, stand-ins rendered first; digests; decoded images."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import PIL
import torch
from torch import Tensor

from reidlib import paths, standin
from reidlib.data import cross_domain, cuhk03, dukemtmc, images, market1501, msmt17, start
from reidlib.data.table import Dataset, combined_digest
from reidlib.runs import records
from reidlib.runs.locks import locked
from reidlib.spec import ReidError

STANDIN_SCALE = {"smoke": 0.005, "small": 0.05, "medium": 0.25, "full": 1.0}
"""Size of the stand-in at each budget, as a share of the real data set's training part; `standin.plan.tested` says how
large its test part is. Budgets are named here and nowhere else."""
STANDIN_SEED = 0
SOURCES = ("stand-in", "real")
LOADERS: dict[str, Callable[..., Dataset]] = {
    "market1501": market1501.load,
    "dukemtmc": dukemtmc.load,
    "msmt17": msmt17.load,
    **{name: partial(cuhk03.load, name) for name in cuhk03.VARIANTS},
    start.NAME: start.load,
    **{name: partial(cross_domain.load, name) for name in cross_domain.PAIRS},
}
"""Name of a data set -> its loader, called with the root folder or, for REID_DATA, with nothing."""

VARIANTS = {
    "market1501-tight": ("market1501", standin.Variant(boxes="tight")),
    "market1501-shifted": ("market1501", standin.Variant(boxes="shift=0.1")),
}
"""Name of a stand-in with one factor changed -> whose stand-in it is, and the change. There is no real one."""

CHUNK = 1024  #: Images that are decoded before they are written: bounds the memory of a data set that is larger than it


def standin_folder(
    dataset: str, scale: float, seed: int = STANDIN_SEED, variant: standin.Variant | None = None
) -> Path:
    """The folder of a stand-in in the cache. It is named by its digest, so that two renderers never share one."""
    rendered, own = VARIANTS.get(dataset, (dataset, variant))
    digest = standin.digest(rendered, scale=scale, seed=seed, variant=own)
    return paths.cache() / "stand-in" / f"{dataset}-{scale:g}-{digest}"


def load(dataset: str, source: str, budget: str) -> Dataset:
    """The data set as a checked table; a stand-in that is not in the cache is rendered first."""
    if source == "real":
        return _real(dataset)
    if dataset in cross_domain.PAIRS:
        return cross_domain.join(dataset, *(load(part, source, budget) for part in cross_domain.PAIRS[dataset]))
    scale = STANDIN_SCALE[budget]
    folder = standin_folder(rendered_as(dataset), scale)
    rendered, variant = VARIANTS.get(dataset, (rendered_as(dataset), None))
    if not standin.is_complete(folder):
        lock = folder.with_name(f"{folder.name}.lock")
        with records.writing(folder, "stand-in", "REID_CACHE"), locked(lock, wait=True):
            if not standin.is_complete(folder):
                standin.render(rendered, scale=scale, seed=STANDIN_SEED, out=folder, variant=variant)
    return replace(LOADERS[rendered if dataset in VARIANTS else dataset](folder), name=dataset)


def exists(dataset: str, source: str) -> bool:
    """Whether there is such a data set: a stand-in with one factor changed stands for no real one."""
    return source == "stand-in" or dataset not in VARIANTS


def _real(dataset: str) -> Dataset:
    if not exists(dataset, "real"):
        raise ReidError(f"{dataset} is a stand-in with one factor changed; there is no real one: use source stand-in")
    return LOADERS[dataset]()


def is_to_be_rendered(dataset: str, source: str, budget: str) -> bool:
    """Whether `load` has to render a stand-in first."""
    names = map(rendered_as, cross_domain.PAIRS.get(dataset, (dataset,))) if source == "stand-in" else []
    return not all(standin.is_complete(standin_folder(name, STANDIN_SCALE[budget])) for name in names)


def data_digest(dataset: str, source: str, budget: str) -> str:
    """Digest of the data set in the key of a run (16 hex digits); a stand-in's is known before it is rendered."""
    if source == "real":
        return _real(dataset).digest
    if dataset in cross_domain.PAIRS:
        return combined_digest(*(data_digest(part, source, budget) for part in cross_domain.PAIRS[dataset]))
    rendered, variant = VARIANTS.get(dataset, (rendered_as(dataset), None))
    digest = standin.digest(rendered, scale=STANDIN_SCALE[budget], seed=STANDIN_SEED, variant=variant)
    return cuhk03.standin_digest(dataset, digest) if dataset in cuhk03.VARIANTS else digest


def rendered_as(dataset: str) -> str:
    """Name of the stand-in that holds a data set: one rendering of CUHK03 has all its boxes, protocols and splits."""
    return cuhk03.NAME if dataset in cuhk03.VARIANTS else dataset


def decoded(data: Dataset, split: str, size: tuple[int, int], *, log: Callable[[str], None] = print) -> Tensor:
    """The images of one split, decoded and resized: uint8, N × 3 × height × width, on the CPU, in the split's order.

    They are decoded once and kept in the cache; the tensor is a memory map of that file, so that all processes share
    one copy, and writing to it changes this process's copy only. Of several processes one decodes, the others wait. A
    damaged file is made again; where the cache cannot be written, images are decoded into memory, and `log` says it.
    Raises ReidError as `images.decode`."""
    frame = data.split(split)
    shape = (len(frame), 3, *size)
    file = decoded_file(data, split, size)
    found = _mapped(file, shape)
    if found is None and len(frame):
        try:
            records.prepare_cache()
            file.parent.mkdir(parents=True, exist_ok=True)
            if not os.access(file.parent, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), file.parent)
            with locked(file.with_name(f"{file.name}.lock"), wait=True):
                if (found := _mapped(file, shape)) is None:
                    if file.exists():
                        log(f"{file}: damaged, decoded again")
                    with paths.atomic(file) as partial, partial.open("wb") as stream:
                        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                        np.lib.format.write_array_header_1_0(stream, header)
                        for start in range(0, len(frame), CHUNK):
                            stream.write(images.decode(data, frame[start : start + CHUNK], size).numpy().data)
                    found = _mapped(file, shape)
        except OSError as fault:
            log(f"{file}: cannot be written ({fault.strerror}); these images are decoded into memory")
    return images.decode(data, frame, size) if found is None else found


def decoded_file(data: Dataset, split: str, size: tuple[int, int]) -> Path:
    """The file in the cache for a split's decoded images; named by Pillow's version too, which may change a pixel."""
    name = f"{data.name}-{data.source}-{data.digest}-{split}-{size[0]}x{size[1]}-pillow{PIL.__version__}.npy"
    return paths.cache() / "images" / name


def _mapped(file: Path, shape: tuple[int, ...]) -> Tensor | None:
    """The array in this file as a tensor; None where it is missing, cut short or another one."""
    try:
        array = np.lib.format.open_memmap(file, mode="c")  # copy on write: torch warns of a read-only map
    except (OSError, ValueError, EOFError):
        return None
    whole = array.dtype == np.uint8 and array.shape == shape and array.flags.c_contiguous
    return torch.from_numpy(array) if whole and file.stat().st_size == array.offset + array.nbytes else None
