"""Opens a packed file and checks that it is laid out as `gan_lab.data.layout` says, before anything large is read."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from gan_lab.core.errors import LabError
from gan_lab.core.terminal import printable
from gan_lab.data import hdf5_safety
from gan_lab.data.layout import FORMAT, MAX_CLASSES, MAX_CLASSES_TEXT, MAX_IMAGES, MAX_NAME, MAX_PIXELS, VERSION

PACK = "python scripts/pack.py source=<zip or folder> target=<file.h5>"


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file of our layout.

    Raises:
        LabError: if it isn't one. Whatever h5py makes of a damaged file becomes one, too.
    """
    if path.exists() and not path.is_file():
        raise LabError(f"There is no file {path}, but a folder, a pipe or a device.", f"Pack images first: {PACK}")
    if not path.is_file():
        raise LabError(f"There is no file {path}.", f"Pack images first: {PACK}")
    try:
        if not h5py.is_hdf5(path):
            path.open("rb").close()  # says so if it can't be read at all
            raise LabError(f"{path} is not an HDF5 file.", f"data.path names what was packed by {PACK}")
        with h5py.File(path) as file:
            if hdf5_safety.text(file, "format") != FORMAT:
                raise LabError(
                    f"{path} is HDF5, but not as gan_lab packs images.",
                    f"Pack it, be it as the book makes them: python scripts/pack.py source={path} target=<file.h5>",
                )
            version = hdf5_safety.number(file, "format_version")
            if version is None or version < 1:
                raise LabError(f"{path} doesn't say which version of its format it has.", again())
            if version < VERSION:
                raise LabError(
                    f"{path} was packed by an older gan_lab: its format is version {version}, not {VERSION}.", again()
                )
            if version > VERSION:
                raise LabError(
                    f"{path} was packed by a newer gan_lab: its format is version {version}, this one reads {VERSION}.",
                    "Update gan_lab, or pack it anew.",
                )
            yield file
    except (LabError, MemoryError):
        raise
    except OSError as error:
        if error.filename:
            raise
        short = "truncated" in str(error)
        raise LabError(f"{path} is cut short." if short else f"{path} can't be read: {error}.", again()) from error
    except Exception as error:  # what a damaged file makes h5py raise has many types
        raise LabError(f"{path} can't be read: {error}.", again()) from error


def dataset(file: h5py.File, group: str, name: str) -> h5py.Dataset | None:
    """What lies in the file by this name, if it is a dataset.

    Raises:
        ValueError: if there is a link on the way.
    """
    folder = hdf5_safety.child(file, group)
    found = hdf5_safety.child(folder, name) if isinstance(folder, h5py.Group) else None
    return found if isinstance(found, h5py.Dataset) else None


def header(file: h5py.File) -> str:
    """What the file says of itself: the version of its format, its source's SHA-256, and its settings.

    Raises:
        ValueError: if one of them isn't a short text.
    """
    texts = [hdf5_safety.text(file, name) for name in ("source_sha256", "settings")]
    return "\n".join([str(VERSION), *texts])


def class_names(file: h5py.File) -> list[str]:
    """The names of classes, none where the file names none.

    Raises:
        ValueError: if they aren't a list of short texts, as JSON.
    """
    names = json.loads(hdf5_safety.text(file, "classes", MAX_CLASSES_TEXT) or "[]")
    if not isinstance(names, list) or len(names) > MAX_CLASSES:
        raise ValueError(f"its classes aren't a list of at most {MAX_CLASSES:,}")
    if not all(isinstance(name, str) and len(name) <= MAX_NAME for name in names):
        raise ValueError(f"the names of its classes aren't texts of at most {MAX_NAME} characters")
    return [printable(name) for name in names]


def image_shape(path: Path, group: str, found: h5py.Dataset) -> tuple[int, int, int, int]:
    """The shape `(N, H, W, C)` of a dataset of images.

    Raises:
        LabError: if they aren't images, or more or larger ones than `gan_lab.data.layout` allows.
    """
    name = f"{group}/images"
    shape: tuple[int, ...] = found.shape or ()  # None where there is no shape
    of_bytes = found.dtype == np.uint8 and isinstance(found.id.get_type(), h5py.h5t.TypeIntegerID)
    if not of_bytes or len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape[1:]:
        what = f"{found.dtype} of {by(shape)}"
        raise LabError(f"{path}: {name} is {what}, not uint8 of N × H × W × 1 or 3.", again())
    if not shape[0]:
        mend = f"{again()} holdout=0.1" if group == "holdout" else again()
        raise LabError(f"{path}: there is nothing in {name}.", mend)
    if shape[0] > MAX_IMAGES or shape[1] * shape[2] > MAX_PIXELS:
        most = f"{MAX_IMAGES:,} images of {MAX_PIXELS:,} pixels"
        raise LabError(f"{path}: {name} is {by(shape)}, more than {most}.", again())
    return shape[0], shape[1], shape[2], shape[3]


def labels_of(path: Path, file: h5py.File, group: str, count: int, classes: int) -> Tensor | None:
    """The class numbers `(count,)`, int64, of a part; None if it has none.

    Args:
        classes: how many there are; 0 where that isn't said.

    Raises:
        LabError, ValueError: if they aren't whole numbers from 0 to below `classes`, all there.
    """
    name = f"{group}/labels"
    found = dataset(file, group, "labels")
    if found is None:
        return None
    chunked, _ = hdf5_safety.storage(found)
    whole = isinstance(found.id.get_type(), h5py.h5t.TypeIntegerID)
    if not whole or found.shape != (count,) or chunked:
        what = f"{found.dtype} of {by(found.shape or ())}{', in chunks' * chunked}"
        raise LabError(f"{path}: {name} is {what}, not int64 of {count:,}, one for each image.", again())
    hdf5_safety.offset(found, path.stat().st_size)
    values = np.empty(count, np.int64)
    found.read_direct(values)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= (classes or MAX_CLASSES):
        most = f"{classes}" if classes else f"at most {MAX_CLASSES:,}"
        raise LabError(f"{path}: {name} go from {low} to {high}, but there are {most} classes.", again())
    return torch.from_numpy(values)


def by(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def again() -> str:
    return f"Pack it anew: {PACK}"
