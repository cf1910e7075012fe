"""Features with their identities and cameras, of our own networks or from any file; every array is checked here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlib.evaluation.files import read_fields
from reidlib.spec import ReidError


@dataclass(frozen=True, eq=False)
class Features:
    """N images as the evaluator takes them, given as tensors or arrays.

    Raises ReidError naming the set and the field: an empty set, lengths that differ, NaN or infinite features, ids or
    cameras that are not whole numbers within int64, or that their float type may have rounded."""

    features: Tensor  #: N × D, on any device, of any float type
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
    def read(cls, file: Path | str, part: str = "", *, joint: bool = False) -> Features:
        """From an .npz, .npy, .mat or .safetensors file; what it has to hold, and the options: `files.read_fields`."""
        return cls(*read_fields(file, part, joint=joint), name=f"{file} ({part})" if joint else str(file))

    def pooled_for(self, query: Features, *, unit: bool = False) -> Features:
        """Multi-query: each query becomes the mean of the features here of its identity and camera; none: ReidError.

        unit: each vector is scaled to length 1 before the mean."""
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
    """A tensor (on its device), an array or lists as a dense tensor of numbers; else a ReidError with `name`."""
    if isinstance(values, Tensor):
        if values.layout != torch.strided or values.is_quantized or values.is_complex() or values.dtype == torch.bool:
            raise ReidError(f"{name} are a sparse, quantised, complex or bool tensor; give a dense one of numbers")
        return values
    try:
        array = np.asarray(values)
    except ValueError:
        raise ReidError(f"{name} are rows of different lengths; give a full array") from None
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:  # numpy's long double, which torch has not
        with np.errstate(over="ignore"):  # infinite values are named later
            array = array.astype(np.float64)
    if array.dtype.kind not in "fiu":
        what = "structured" if array.dtype.names else array.dtype.name
        raise ReidError(f"{name} are {what} values; give numbers of at most 64 bits (float32, int64)")
    # torch warns of arrays that it could not write to, such as a column of a table
    return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"])).reshape(array.shape)


def check_features(values: Any, name: str) -> Tensor:
    """`values` as an N × D tensor of finite floats; anything else is a ReidError with `name`."""
    tensor = as_tensor(values, name).detach()
    if tensor.ndim != 2 or not tensor.numel():
        raise ReidError(f"{name} have shape {tuple(tensor.shape)}; give N×D with at least one row and one column")
    if not tensor.is_floating_point():
        raise ReidError(f"{name} are {tensor.dtype}; give a floating point type (float32)")
    if tensor.dtype.itemsize == 1:  # the kinds of float8, in which torch computes nothing
        tensor = tensor.float()
    # the sum of a row is finite where the row is, unless it overflows: only then is every value looked at
    odd = (~torch.isfinite(tensor.sum(1))).nonzero()[:, 0]
    bad = odd[~torch.isfinite(tensor[odd]).all(1)]
    if len(bad):
        problem = f"{name} hold NaN or infinite values in {len(bad)} of {len(tensor)} rows, first row {int(bad[0])}"
        raise ReidError(f"{problem}; look at that image and at the model")
    return tensor


def check_labels(values: Any, name: str, length: int) -> Tensor:
    """`values`, whole numbers of any type that holds them exactly, as int64 of this length; else a ReidError."""
    tensor = as_tensor(values, name).detach().cpu()
    if tensor.shape != (length,):
        problem = f"{name} have shape {tuple(tensor.shape)}, but there are {length} images"
        raise ReidError(f"{problem}; give one whole number each")
    whole, problem = tensor.to(torch.int64), "no whole numbers within int64"
    if tensor.is_floating_point():
        most, kind, tensor = 2 / torch.finfo(tensor.dtype).eps, tensor.dtype, tensor.double()
        bad = (whole != tensor) | (tensor >= 2.0**63)  # 2^63 itself is a float64, but the largest int64 is one less
        if not bad.any():
            bad, problem = tensor.abs() >= most, f"{kind}, in which whole numbers from {most:.0f} on are rounded"
    else:
        bad = (whole < 0) & (tensor.dtype == torch.uint64)
    if bad.any():
        first = int(bad.nonzero()[0])
        raise ReidError(f"{name} are {problem}, first {tensor[first].item()!r} in row {first}; give integers")
    return whole
