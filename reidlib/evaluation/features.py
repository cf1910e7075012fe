"""Features with their identities and cameras: of our own networks, or from anybody's file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from reidlib.spec import ReidError

FIELDS = ("features", "ids", "cameras")


@dataclass(frozen=True, eq=False)
class Features:
    """N images as the evaluator takes them.

    features  N × D, of any float type, layout and device (numpy arrays are taken too)
    ids       N identities, whole numbers; which of them are junk or distractors is the protocol's word
    cameras   N cameras, whole numbers
    name      what error messages call this set; `read` puts the file here

    Raises ReidError naming the set and the field: an empty set, lengths that differ, NaN or infinite features, ids or
    cameras that are not whole numbers.
    """

    features: Tensor
    ids: Tensor
    cameras: Tensor
    name: str = "features"

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", matrix(self.features, f"{self.name}: features"))
        for field in ("ids", "cameras"):
            object.__setattr__(self, field, integers(getattr(self, field), f"{self.name}: {field}", len(self)))

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
        try:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                raise ReidError(f"{file} is a single array, no .npz; {wanted}")
            with loaded as arrays:
                missing = [field for field in FIELDS if field not in arrays.files]
                if missing:
                    found = ", ".join(arrays.files) or "nothing"
                    raise ReidError(f"{file} has no field {missing[0]!r} (it holds {found}); {wanted}")
                return cls(*(arrays[field] for field in FIELDS), name=str(file))
        except FileNotFoundError:
            raise ReidError(f"{file} is missing; give the .npz file of the features") from None
        except (OSError, ValueError, zipfile.BadZipFile, EOFError) as fault:
            # numpy takes whatever it does not know for a pickle, and advises to load it unsafely
            reason = "no .npz, or it holds objects" if "pickle" in str(fault) else str(fault).splitlines()[0]
            raise ReidError(f"{file} cannot be read ({reason}); {wanted}") from None

    def pooled_for(self, query: Features) -> Features:
        """Multi-query: in place of each query's own features the mean of all features here of its identity and camera.

        Market-1501 (Zheng et al., ICCV 2015) takes these images from gt_bbox. Raises ReidError for a query that has
        none.
        """
        if self.features.shape[1] != query.features.shape[1]:
            raise ReidError(
                f"{self.name}: features have {self.features.shape[1]} dimensions, those of {query.name} "
                f"{query.features.shape[1]}; extract both with the same model and descriptor"
            )
        groups, member = torch.unique(torch.stack((self.ids, self.cameras), 1), dim=0, return_inverse=True)
        number = {tuple(group): place for place, group in enumerate(groups.tolist())}
        wanted = list(zip(query.ids.tolist(), query.cameras.tolist(), strict=True))
        for place, group in enumerate(wanted):
            if group not in number:
                raise ReidError(
                    f"{self.name}: no image of identity {group[0]}, camera {group[1]} (query {place} of {query.name}); "
                    "multi-query needs at least one for every query"
                )
        device = self.features.device
        sums = torch.zeros(len(groups), self.features.shape[1], dtype=torch.float64, device=device)
        sums.index_add_(0, member.to(device), self.features.double())
        means = sums / member.bincount().to(device)[:, None]
        chosen = means[torch.tensor([number[group] for group in wanted], device=device)]
        return replace(query, features=chosen.to(query.features))


@torch.inference_mode()
def extract(model: nn.Module, batches: Iterable[Tensor], *, bf16: bool = False) -> Tensor:
    """The embeddings of all batches, N × D, float32 on the CPU, in order.

    model: any network of the study, put into evaluation mode here. batches: B × 3 × H × W, normalised, on the model's
    device. bf16: run the network in bf16 autocast, as it was trained; the embedding is returned in float32.
    """
    model.eval()
    embeddings = []
    for images in batches:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
            output = model(images.contiguous(memory_format=torch.channels_last))
        embeddings.append(output.embedding.float().cpu())
    return torch.cat(embeddings)


def matrix(values: Tensor | np.ndarray, name: str) -> Tensor:
    """`values` as an N × D tensor of finite floats; anything else is a ReidError that calls them `name`."""
    if not isinstance(values, Tensor):
        values = torch.as_tensor(np.asarray(values))
    values = values.detach()
    if values.ndim != 2 or not values.numel():
        raise ReidError(f"{name} have shape {tuple(values.shape)}; give N×D with at least one row and one column")
    if not values.is_floating_point():
        raise ReidError(f"{name} are {values.dtype}; give a floating point type (float32)")
    # the sum of a row is finite where the row is, unless it overflows: only then is every value looked at
    odd = (~torch.isfinite(values.sum(1))).nonzero()[:, 0]
    bad = odd[~torch.isfinite(values[odd]).all(1)]
    if len(bad):
        raise ReidError(
            f"{name} hold NaN or infinite values in {len(bad)} of {len(values)} rows, first row {int(bad[0])}; "
            "look at that image and at the model"
        )
    return values


def integers(values: Sequence[int] | np.ndarray | Tensor, name: str, length: int) -> Tensor:
    """`values` as int64 of this length on the CPU; anything else is a ReidError that calls them `name`."""
    array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    if array.shape != (length,):
        raise ReidError(f"{name} have shape {array.shape}, but there are {length} images; give one whole number each")
    if array.dtype.kind not in "iu" and not (array.dtype.kind == "f" and np.array_equal(array, np.round(array))):
        raise ReidError(f"{name} are {array.dtype} values that are no whole numbers; give integers")
    return torch.from_numpy(array.astype(np.int64))
