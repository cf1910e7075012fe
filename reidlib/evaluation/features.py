"""Features with their identities and cameras, of our own networks or from any file; every array is checked here."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlib.spec import ReidError

FIELDS = ("features", "ids", "cameras")


@dataclass(frozen=True, eq=False)
class Features:
    """N images as the evaluator takes them, given as tensors or arrays.

    Raises ReidError naming the set and the field: an empty set, lengths that differ, NaN or infinite features, ids or
    cameras that are not whole numbers within int64.
    """

    features: Tensor  #: N × D, on any device: float16, bfloat16, float32 or float64
    ids: Tensor  #: N identities, whole numbers; the protocol says which of them are junk or distractors
    cameras: Tensor  #: N cameras, whole numbers
    name: str = "features"  #: what error messages call this set; `read` puts the file here

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", check_features(self.features, f"{self.name}: features"))
        for field in ("ids", "cameras"):
            object.__setattr__(self, field, check_labels(getattr(self, field), f"{self.name}: {field}", len(self)))

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: slice | Tensor) -> Features:
        """Some of the images, by slice, mask or positions."""
        on_device = rows if isinstance(rows, slice) else rows.to(self.features.device)
        return replace(self, features=self.features[on_device], ids=self.ids[rows], cameras=self.cameras[rows])

    def to(self, device: str | torch.device) -> Features:
        """The same with its features on `device`; ids and cameras stay on the CPU."""
        return replace(self, features=self.features.to(device))

    @classmethod
    def read(cls, file: Path | str) -> Features:
        """From an .npz file that holds `features`, `ids` and `cameras`. Nothing in it is executed (no pickles)."""
        wanted = f"it must hold {', '.join(FIELDS)}; write it with numpy.savez"
        if not Path(file).is_file():
            problem = "not a regular file" if str(file) and Path(file).exists() else "missing"
            raise ReidError(f"{str(file)!r} is {problem}; give the .npz file of the features")
        try:
            _check_size(file)
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                raise ReidError(f"{file} is a single array, no .npz; {wanted}")
            with loaded as arrays:
                if missing := [field for field in FIELDS if field not in arrays.files]:
                    found = ", ".join(arrays.files) or "nothing"
                    raise ReidError(f"{file} has no field {missing[0]!r} (it holds {found!a}); {wanted}")
                values = [arrays[field] for field in FIELDS]
            if not all(isinstance(value, np.ndarray) for value in values):
                raise ValueError("a field is not an array")
        except ReidError:
            raise
        except Exception as error:  # a damaged or hostile file raises a dozen kinds: zlib's, struct's, MemoryError, …
            # numpy takes whatever it does not know for a pickle, and advises to load it unsafely
            reason = "no .npz, or it holds objects" if "pickle" in str(error) else str(error) or type(error).__name__
            raise ReidError(f"{file} cannot be read ({reason.splitlines()[0][:160]}); {wanted}") from None
        return cls(*values, name=str(file))

    def pooled_for(self, query: Features, *, unit: bool = False) -> Features:
        """Multi-query: each query becomes the mean of the features here of its identity and camera; none: ReidError.

        unit: each vector is scaled to length 1 before the mean.
        """
        check_same_dimensions(self, query)
        means = []
        for place, (identity, camera) in enumerate(zip(query.ids.tolist(), query.cameras.tolist(), strict=True)):
            same = ((self.ids == identity) & (self.cameras == camera)).to(self.features.device)
            if not same.any():
                what = f"identity {identity}, camera {camera} (query {place} of {query.name})"
                raise ReidError(f"{self.name}: no image of {what}; multi-query needs at least one for every query")
            vectors = self.features[same].double()
            means.append((functional.normalize(vectors) if unit else vectors).mean(0))
        return replace(query, features=torch.stack(means).to(query.features))


def check_same_dimensions(one: Features, other: Features) -> None:
    mine, theirs = one.features.shape[1], other.features.shape[1]
    if mine != theirs:
        problem = f"{one.name}: features have {mine} dimensions, those of {other.name} {theirs}"
        raise ReidError(f"{problem}; extract both with the same model and descriptor")


@torch.inference_mode()
def extract(model: nn.Module, batches: Iterable[Tensor], *, bf16: bool = False) -> Tensor:
    """The embeddings of all batches (B × 3 × H × W, normalised, on the model's device): N × D, float32 on the CPU."""
    model.eval()
    embeddings = []
    for images in batches:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
            output = model(images.contiguous(memory_format=torch.channels_last))
        embeddings.append(output.embedding.float().cpu())
    return torch.cat(embeddings)


def as_tensor(values: Any, name: str) -> Tensor:
    """`values` (a tensor, which stays on its device, an array or lists) as a tensor; else a ReidError with `name`."""
    if isinstance(values, Tensor):
        if values.layout != torch.strided or values.is_quantized or values.is_complex() or values.dtype == torch.bool:
            raise ReidError(f"{name} are a sparse, quantised, complex or bool tensor; give a dense one of numbers")
        return values
    try:
        array = np.asarray(values)
    except ValueError:
        raise ReidError(f"{name} are rows of different lengths; give a full array") from None
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        what = "structured" if array.dtype.names else array.dtype.name
        raise ReidError(f"{name} are {what} values; give numbers of at most 64 bits (float32, int64)")
    # torch warns of arrays that it could not write to, such as a column of a table
    return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"])).reshape(array.shape)


def check_features(values: Any, name: str) -> Tensor:
    """`values` as an N × D tensor of finite floats; anything else is a ReidError with `name`."""
    tensor = as_tensor(values, name).detach()
    if tensor.ndim != 2 or not tensor.numel():
        raise ReidError(f"{name} have shape {tuple(tensor.shape)}; give N×D with at least one row and one column")
    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise ReidError(f"{name} are {tensor.dtype}; give a floating point type (float32)")
    # the sum of a row is finite where the row is, unless it overflows: only then is every value looked at
    odd = (~torch.isfinite(tensor.sum(1))).nonzero()[:, 0]
    bad = odd[~torch.isfinite(tensor[odd]).all(1)]
    if len(bad):
        problem = f"{name} hold NaN or infinite values in {len(bad)} of {len(tensor)} rows, first row {int(bad[0])}"
        raise ReidError(f"{problem}; look at that image and at the model")
    return tensor


def check_labels(values: Any, name: str, length: int) -> Tensor:
    """`values`, whole numbers of any type, as int64 of this length; anything else is a ReidError with `name`."""
    tensor = as_tensor(values, name).detach().cpu()
    if tensor.shape != (length,):
        problem = f"{name} have shape {tuple(tensor.shape)}, but there are {length} images"
        raise ReidError(f"{problem}; give one whole number each")
    whole = tensor.to(torch.int64)
    if tensor.is_floating_point():
        tensor = tensor.double()
        bad = (whole != tensor) | (tensor >= 2.0**63)  # 2^63 itself is a float64, but the largest int64 is one less
    else:
        bad = (whole < 0) & (tensor.dtype == torch.uint64)
    if bad.any():
        first = int(bad.nonzero()[0])
        where = f"first {tensor[first].item()!r} in row {first}"
        raise ReidError(f"{name} are no whole numbers within int64, {where}; give integers")
    return whole


def _check_size(file: Path | str) -> None:
    """Raises ReidError for an archive that would unpack to more than the machine's memory."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        size = sum(part.file_size for part in archive.infolist())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**63
    if size > memory:
        problem = f"{file} unpacks to {size / 2**30:,.0f} GiB, this machine has {memory / 2**30:,.0f} GiB of memory"
        raise ReidError(f"{problem}; give fewer images or float32")
