"""Opens a packed file and checks its layout, described in `gan_lab.data.layout`, before anything large is read."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from gan_lab.core.command_line import command, setting
from gan_lab.core.errors import Code, LabError
from gan_lab.core.terminal import printable
from gan_lab.data import hdf5_safety
from gan_lab.data.layout import FORMAT, MAX_CLASSES, MAX_CLASSES_TEXT, MAX_IMAGES, MAX_NAME, MAX_PIXELS, VERSION

PACK = "python scripts/pack.py source=<zip or folder> target=<file.h5>"
PACK_AGAIN = f"Pack it anew: {PACK}"


def refusal(path: Path, what: str, hint: str = PACK_AGAIN, code: Code = "damaged") -> LabError:
    """Returns the error for a packed file that can't be used."""
    return LabError(what, hint, code=code, key=path.name)


@contextmanager
def open_packed(path: Path) -> Iterator[h5py.File]:
    """Opens a packed file for reading.

    Raises:
        LabError: if it isn't one. Whatever h5py raises for a damaged file, also inside the `with`, becomes one.
        OSError: if the system can't read it.
        MemoryError: if there isn't enough.
    """
    if not path.is_file():
        other = ", but a folder, a pipe or a device" if path.exists() else ""
        raise refusal(
            path,
            f"There is no file {path}{other}.",
            f"If it is somewhere else now, say where: data.path=<file.h5>. If there is none yet, pack images: {PACK}",
            code="missing",
        )
    try:
        if not h5py.is_hdf5(path):
            # is_hdf5 also answers no for a file that can't be read: opening it raises what the system says.
            path.open("rb").close()
            raise refusal(path, f"{path} is not an HDF5 file.", f"data.path has to name a file made by {PACK}")
        with h5py.File(path) as file:
            _refuse_other_formats(path, file)
            yield file
    except (LabError, MemoryError):
        raise
    except OSError as error:
        # Errors of the system name the file, those of HDF5 don't.
        if error.filename:
            raise
        if "truncated" in str(error):
            raise refusal(path, f"{path} is cut short.") from error
        raise refusal(path, f"{path} can't be read: {error}.") from error
    except Exception as error:  # for a damaged file h5py raises errors of many types
        raise refusal(path, f"{path} can't be read: {error}.") from error


def _refuse_other_formats(path: Path, file: h5py.File) -> None:
    """Refuses HDF5 files that gan_lab did not pack, or packed in another version of its format."""
    if hdf5_safety.read_text(file, "format") != FORMAT:
        raise refusal(
            path,
            f"{path} is HDF5, but not as gan_lab packs images.",
            "Pack it; HDF5 as the book makes it can be packed, too: "
            + command("pack.py", setting("source", path), "target=<file.h5>"),
            code="format",
        )
    version = hdf5_safety.read_number(file, "format_version")
    if version is None or version < 1:
        raise refusal(path, f"{path} doesn't say which version of its format it has.")
    if version < VERSION:
        raise refusal(
            path,
            f"{path} was packed by an older gan_lab: its format is version {version}, not {VERSION}.",
            code="format",
        )
    if version > VERSION:
        raise refusal(
            path,
            f"{path} was packed by a newer gan_lab: its format is version {version}, this one reads {VERSION}.",
            "Update gan_lab, or pack it anew.",
            code="format",
        )


def find_dataset(file: h5py.File, group: str, name: str) -> h5py.Dataset | None:
    """Returns the dataset with this name in a group of the file; None if there is none.

    Raises:
        ValueError: if the group or the dataset is a link.
    """
    parent = hdf5_safety.open_child(file, group)
    if not isinstance(parent, h5py.Group):
        return None
    child = hdf5_safety.open_child(parent, name)
    return child if isinstance(child, h5py.Dataset) else None


def read_header(file: h5py.File) -> str:
    """Returns what the file says about its origin: the version of its format, its source's SHA-256, and its settings.

    Raises:
        ValueError: if one of them isn't a short text.
    """
    checksum = hdf5_safety.read_text(file, "source_sha256")
    settings = hdf5_safety.read_text(file, "settings")
    return f"{VERSION}\n{checksum}\n{settings}"


def read_class_names(file: h5py.File) -> list[str]:
    """Returns the names of the classes, `printable`; [] if the file names none.

    Raises:
        ValueError: if they aren't a list of short texts, as JSON.
    """
    text = hdf5_safety.read_text(file, "classes", MAX_CLASSES_TEXT)
    names = json.loads(text or "[]")
    if not isinstance(names, list) or len(names) > MAX_CLASSES:
        raise ValueError(f"its classes aren't a list of at most {MAX_CLASSES:,}")
    if not all(isinstance(name, str) and len(name) <= MAX_NAME for name in names):
        raise ValueError(f"the names of its classes aren't texts of at most {MAX_NAME} characters")
    return [printable(name) for name in names]


def checked_image_shape(path: Path, group: str, dataset: h5py.Dataset) -> tuple[int, int, int, int]:
    """Returns the shape `(N, H, W, C)` of a dataset of images.

    Args:
        path: of the file, for messages.
        group: `train` or `holdout`, for messages.
        dataset: one whose storage `hdf5_safety.storage_of` has checked.

    Raises:
        LabError: if they aren't images, or more or larger ones than `gan_lab.data.layout` allows.
    """
    name = f"{group}/images"
    shape: tuple[int, ...] = dataset.shape or ()  # None for an empty dataspace
    # An enumeration of bytes has the same dtype as bytes, but another type of HDF5.
    is_bytes = dataset.dtype == np.uint8 and isinstance(dataset.id.get_type(), h5py.h5t.TypeIntegerID)
    if not is_bytes or len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape[1:]:
        actual = f"{dataset.dtype} of {format_shape(shape)}"
        raise refusal(path, f"{path}: {name} is {actual}, not uint8 of N × H × W × 1 or 3.")
    if not shape[0]:
        hint = f"{PACK_AGAIN} holdout=0.1" if group == "holdout" else PACK_AGAIN
        raise refusal(path, f"{path}: there is nothing in {name}.", hint)
    if shape[0] > MAX_IMAGES or shape[1] * shape[2] > MAX_PIXELS:
        bound = f"{MAX_IMAGES:,} images of {MAX_PIXELS:,} pixels"
        raise refusal(path, f"{path}: {name} is {format_shape(shape)}, more than {bound}.")
    return shape[0], shape[1], shape[2], shape[3]


def read_labels(path: Path, file: h5py.File, group: str, count: int, classes: int) -> Tensor | None:
    """Returns the class numbers `(count,)`, int64, of a part; None if it has none.

    Args:
        path: of the file.
        file: the open file.
        group: `train` or `holdout`.
        count: number of images in the group.
        classes: how many classes there are; 0 if the file doesn't say.

    Raises:
        LabError, ValueError: if they aren't `count` whole numbers from 0 to below `classes`, or not all are there.
    """
    name = f"{group}/labels"
    dataset = find_dataset(file, group, "labels")
    if dataset is None:
        return None
    chunked, _ = hdf5_safety.storage_of(dataset)
    is_whole_numbers = isinstance(dataset.id.get_type(), h5py.h5t.TypeIntegerID)
    if not is_whole_numbers or dataset.shape != (count,) or chunked:
        actual = f"{dataset.dtype} of {format_shape(dataset.shape or ())}"
        if chunked:
            actual += ", in chunks"
        raise refusal(path, f"{path}: {name} is {actual}, not int64 of {count:,}, one for each image.")
    hdf5_safety.offset_of(dataset, path.stat().st_size)
    values = np.empty(count, np.int64)
    dataset.read_direct(values)
    low = int(values.min())
    high = int(values.max())
    if low < 0 or high >= (classes or MAX_CLASSES):
        number = f"{classes}" if classes else f"at most {MAX_CLASSES:,}"
        raise refusal(path, f"{path}: {name} go from {low} to {high}, but there are {number} classes.")
    return torch.from_numpy(values)


def format_shape(shape: Sequence[int]) -> str:
    """Returns a shape as people write it: 64 × 64 × 3."""
    return " × ".join(map(str, shape))
