"""Data sets by name, source and budget: loaded as checked tables, stand-ins rendered first; their digests."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import Tensor

from reidlib import paths, standin
from reidlib.data import cross_domain, cuhk03, dukemtmc, images, market1501, msmt17
from reidlib.data.table import Dataset, combined_digest
from reidlib.runs.locks import locked

STANDIN_SCALE = {"smoke": 0.005, "small": 0.05, "medium": 0.25, "full": 1.0}
"""Size of the stand-in at each budget, as a share of the real data set. Budgets are named here and nowhere else."""
STANDIN_SEED = 0
SOURCES = ("stand-in", "real")
LOADERS = {"market1501": market1501.load, "dukemtmc": dukemtmc.load, "msmt17": msmt17.load}
LOADERS |= {name: partial(cuhk03.load, name) for name in cuhk03.VARIANTS}
LOADERS |= {name: partial(cross_domain.load, name) for name in cross_domain.PAIRS}
"""Every name of a checked table -> its loader, called with the root or, for REID_DATA, with nothing."""


def standin_folder(
    dataset: str, scale: float, seed: int = STANDIN_SEED, variant: standin.Variant | None = None
) -> Path:
    """Where a stand-in lies in the cache: its folder carries its digest, so that two renderers never share one."""
    digest = standin.digest(dataset, scale=scale, seed=seed, variant=variant)
    return paths.cache() / "stand-in" / f"{dataset}-{scale:g}-{digest}"


def load(dataset: str, source: str, budget: str) -> Dataset:
    """The data set as a checked table; a stand-in is rendered first where it is not there yet."""
    if source == "real":
        return LOADERS[dataset]()
    if dataset in cross_domain.PAIRS:
        return cross_domain.join(dataset, *(load(part, source, budget) for part in cross_domain.PAIRS[dataset]))
    drawn = rendered_as(dataset)
    folder = standin_folder(drawn, STANDIN_SCALE[budget])
    with locked(folder.with_name(f"{folder.name}.lock"), wait=True):
        if not standin.is_complete(folder):
            standin.render(drawn, scale=STANDIN_SCALE[budget], seed=STANDIN_SEED, out=folder)
    return LOADERS[dataset](folder)


def decoded(data: Dataset, split: str, size: tuple[int, int]) -> Tensor:
    """The images of one split, decoded and resized: uint8, N × 3 × height × width, on the CPU, in the split's order."""
    return images.decode(data, data.split(split), size)


def is_to_be_rendered(dataset: str, source: str, budget: str) -> bool:
    """Whether `load` has a stand-in to render first."""
    names = [rendered_as(part) for part in parts_of(dataset)] if source == "stand-in" else []
    return not all(standin.is_complete(standin_folder(name, STANDIN_SCALE[budget])) for name in names)


def data_digest(dataset: str, source: str, budget: str) -> str:
    """What the key keeps of the data; for a stand-in it is known before anything is rendered."""
    if source == "real":
        return LOADERS[dataset]().digest
    if dataset in cross_domain.PAIRS:
        return combined_digest(*(data_digest(part, source, budget) for part in cross_domain.PAIRS[dataset]))
    digest = standin.digest(rendered_as(dataset), scale=STANDIN_SCALE[budget], seed=STANDIN_SEED)
    return cuhk03.standin_digest(dataset, digest) if dataset in cuhk03.VARIANTS else digest


def rendered_as(dataset: str) -> str:
    """The stand-in that holds a data set: one rendering of CUHK03 has all its boxes, protocols and splits."""
    return cuhk03.NAME if dataset in cuhk03.VARIANTS else dataset


def parts_of(dataset: str) -> tuple[str, ...]:
    """The two data sets of a cross-domain pair; any other alone."""
    return cross_domain.PAIRS.get(dataset, (dataset,))
