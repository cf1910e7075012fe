"""Features from the files that people have: .npz, .npy, .mat, .safetensors. Nothing in them is executed (no pickles).

A file holds `features` (N×D), `ids` and `cameras` (N). One file may hold both sets of a test, as the .mat file of
layumi's baseline does: query_f, query_label, query_cam, gallery_f, … (or query_features, query_ids, query_cameras, …),
and mquery_… for multi-query. A .npy file is one array, so NAME.npy has NAME_ids.npy and NAME_cameras.npy beside it."""

import math
import os
import zipfile
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from reidlib.spec import ReidError

FIELDS = ("features", "ids", "cameras")
SHORT = ("f", "label", "cam")  #: the names of FIELDS in the files of layumi's baseline, each behind the set and "_"
PREFIXES = {"query": ("query",), "gallery": ("gallery",), "multi": ("mquery", "multi")}
_Content = Generator[tuple[list[str], Callable[[str], Any]]]
"""An open file: the names of its arrays, and a function that reads one of them."""
_MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**63


def read_fields(file: Path | str, part: str = "", *, joint: bool = False) -> list[Any]:
    """The arrays or tensors of `FIELDS`, unchecked. part: which set of a file with several, one of `PREFIXES`. joint:
    the file has to hold several. Raises ReidError naming a file that is missing, damaged or of another content."""
    file = Path(file)
    prefixed = [tuple(f"{one}_{name}" for name in names) for one in PREFIXES.get(part, ()) for names in (SHORT, FIELDS)]
    forms = prefixed if joint else [FIELDS, *prefixed]
    wanted = f"it must hold {' or '.join(', '.join(form) for form in forms[:2])}; write it with numpy.savez"
    if joint:
        wanted += ", or give the file of the gallery too"
    try:
        if not file.is_file():
            problem = "not a regular file" if file.exists() and file.name else "missing"
            raise ReidError(
                f"{str(file)!r} is {problem}; give the file of the features (.npz, .npy, .mat, .safetensors)"
            )
        with _READERS.get(file.suffix.lower(), _npz)(file) as (names, get):
            found = max(forms, key=lambda form: len(set(form) & set(names)))
            if missing := [name for name in found if name not in names]:
                held = ", ".join(names) or "nothing"
                raise ReidError(f"{file} has no field {missing[0]!r} (it holds {held[:300]!a}); {wanted}")
            return [get(name) for name in found]
    except ReidError:
        raise
    except Exception as error:  # a damaged or hostile file raises a dozen kinds: zlib's, struct's, MemoryError, …
        # numpy takes whatever it does not know for a pickle, and advises to load it unsafely
        reason = "no .npz, or it holds objects" if "pickle" in str(error) else str(error) or type(error).__name__
        raise ReidError(f"{file} cannot be read ({reason.splitlines()[0][:160]}); {wanted}") from None


@contextmanager
def _npz(file: Path) -> _Content:
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            _check_size(file, sum(part.file_size for part in archive.infolist()))
    loaded = np.load(file, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        remedy = "call it NAME.npy, with NAME_ids.npy and NAME_cameras.npy beside it"
        raise ReidError(f"{file} is a single array, no .npz; {remedy}")
    with loaded:
        yield loaded.files, lambda name: _array(loaded[name])


@contextmanager
def _npy(file: Path) -> _Content:
    """One array, and those of its images' identities and cameras in two files beside it."""
    beside = {name: file.with_name(f"{file.stem}_{name}{file.suffix}") for name in FIELDS[1:]}
    if absent := [str(place) for place in beside.values() if not place.is_file()]:
        raise ReidError(f"{absent[0]} is missing: {file} holds features alone; write it with numpy.save")
    places = {"features": file} | beside
    yield list(places), lambda name: _single(places[name])


@contextmanager
def _mat(file: Path) -> _Content:
    """MATLAB's form, up to version 7.2 or of version 7.3 (which is HDF5, its arrays transposed)."""
    from scipy.io import loadmat, whosmat

    try:
        sizes = {name: shape for name, shape, _ in whosmat(file)}
    except NotImplementedError:
        import h5py

        with h5py.File(file, "r") as content:
            arrays = {name: one for name, one in content.items() if isinstance(one, h5py.Dataset)}
            _check_size(file, _largest(one.shape for one in arrays.values()))
            yield list(arrays), lambda name: _flat(name, arrays[name][()].T)
    else:
        _check_size(file, _largest(sizes.values()))
        yield list(sizes), lambda name: _flat(name, loadmat(file, variable_names=[name])[name])


@contextmanager
def _safetensors(file: Path) -> _Content:
    from safetensors.torch import load_file

    tensors = load_file(file)
    yield list(tensors), tensors.__getitem__


_READERS = {".npy": _npy, ".mat": _mat, ".safetensors": _safetensors}


def _largest(shapes: Iterable[tuple[int, ...]]) -> int:
    """Bytes of the largest of these arrays of MATLAB."""
    return max((8 * math.prod(shape) for shape in shapes), default=0)


def _single(file: Path) -> np.ndarray:
    try:
        return _array(np.load(file, allow_pickle=False))
    except (ValueError, EOFError, OSError) as error:
        reason = "it holds objects, or no array" if "pickle" in str(error) else str(error)
        raise ReidError(f"{file} cannot be read ({reason[:160]!a}); write one array with numpy.save") from None


def _array(value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        raise ValueError("a field is not an array")
    return value


def _flat(name: str, values: Any) -> Any:
    """A row or a column of labels, which MATLAB keeps as a matrix, as a list; features as they are."""
    features = name.endswith(("features", "_f"))
    return values if features or 1 not in getattr(values, "shape", ()) else values.ravel()


def _check_size(file: Path, size: int) -> None:
    """Raises ReidError for a file that would unpack to more than the machine's memory."""
    if size > _MEMORY:
        problem = f"{file} unpacks to {size / 2**30:,.0f} GiB, this machine has {_MEMORY / 2**30:,.0f} GiB of memory"
        raise ReidError(f"{problem}; give fewer images or float32")
