"""Images packed into one HDF5 file (laid out as `gan_lab.data.layout` says), without opening a file for each.

What fits is held in memory. What doesn't is read as it is asked for, by `pread` at an image's place in the file: with a
warm cache half as fast as a memory map (which is no matter beside the conversion to float), with a cold one six times
faster, and the pages read never count as this process's memory. docs/performance.md has the figures.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from gan_lab.data import Dataset, FlippedPart, Labelled, Part, Samples
from gan_lab.data.layout import FORMAT, VERSION
from gan_lab.errors import LabError, RunError

PACK = "python scripts/pack.py source=<zip or folder> target=<file.h5>"
BLOCK = 1_000  # images read in one go while a part is put into memory


def images(path: str | None, flip: bool = False, memory: int = 1000) -> Dataset:
    """The images of a packed file.

    Args:
        flip: the train part also has each image's mirror image, as a sample of its own.
        memory: MB. The images are held in memory if all of them need no more, else read as they are asked for.

    Raises:
        LabError: if there is no such file, or it isn't whole and laid out as `gan_lab.data.layout` says.
    """
    if path is None:
        raise LabError("dataset=images reads a packed file, and none is named.", f"Pack one: {PACK}\nSay data.path=…")
    with _opened(Path(path)) as file:
        classes = _classes(file)
        packed = [PackedPart(path, file, group, classes) for group in ("train", "holdout")]
    train, heldout = packed
    if train.shape != heldout.shape:
        raise LabError(f"{path}: train images are {_by(train.shape)}, holdout images {_by(heldout.shape)}.", _again())
    if (train.labels is None) != (heldout.labels is None):
        raise LabError(f"{path}: only one of train and holdout has labels.", _again())
    if train.labels is not None and heldout.labels is not None and not classes:
        classes = [str(n) for n in range(1 + int(max(train.labels.max(), heldout.labels.max())))]
    fits = train.bytes + heldout.bytes <= memory * 10**6
    parts: list[Samples] = [part.held() if fits else part for part in packed]
    first = FlippedPart(parts[0]) if flip else parts[0]
    return Dataset(first, parts[1], classes=classes if train.labels is not None else [])


def celeba(data_dir: str, path: str | None = None, flip: bool = False, memory: int = 1000) -> Dataset:
    """CelebA's 202,599 faces (Liu et al. 2015) as `scripts/pack.py` packed them; arguments as for `images`.

    Args:
        path: None stands for `<data_dir>/celeba.h5`.
    """
    file = Path(data_dir) / "celeba.h5" if path is None else Path(path)
    if not file.is_file():
        raise LabError(
            f"CelebA isn't packed: there is no {file}.",
            "Get img_align_celeba.zip (https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html) and pack it, here with the\n"
            f"book's crop: python scripts/pack.py source=img_align_celeba.zip target={file} crop=128x128 size=64",
        )
    return images(str(file), flip, memory)


class PackedPart(Labelled):
    """Images of a packed file, read as they are asked for; each process opens the file by itself.

    Args:
        file: the open file at `path`.
        group: `train` or `holdout`.
        classes: their names; none where labels count up to whatever there is.

    Attributes:
        shape: an image's, `(C, H, W)`.
        labels: `(N,)` int64, or None.
        bytes: how many the images are.

    Raises:
        LabError: if the group isn't laid out as `gan_lab.data.layout` says.
    """

    def __init__(self, path: str | Path, file: h5py.File, group: str, classes: list[str]):
        self.path, self.name = Path(path), f"{group}/images"
        found = file.get(self.name)
        if not isinstance(found, h5py.Dataset) or found.file != file:  # a link can lead to another file
            raise LabError(f"{path} has no {self.name}.", _again())
        if found.dtype != np.uint8 or found.ndim != 4 or found.shape[3] not in (1, 3) or 0 in found.shape[1:]:
            what = f"{found.dtype} of {_by(found.shape)}"
            raise LabError(f"{path}: {self.name} is {what}, not uint8 of N × H × W × 1 or 3.", _again())
        self._n, height, width, channels = found.shape
        if not self._n:
            mend = f"{_again()} holdout=0.1" if group == "holdout" else _again()
            raise LabError(f"{path}: there is nothing in {self.name}.", mend)
        self.shape = channels, height, width
        self.bytes, self._size = found.size, height * width * channels
        plain = found.chunks is None and found.external is None and not found.is_virtual
        self._offset = found.id.get_offset() if plain and hasattr(os, "preadv") else None  # Windows has no preadv
        if self._offset is not None and self.path.stat().st_size < self._offset + self.bytes:
            raise LabError(f"{path} is cut short.", _again())
        self.labels = self._labels(file, f"{group}/labels", len(classes))
        self._handle: tuple[int, Any] | None = None  # whose, and the open file or dataset
        try:
            self.read(torch.tensor([0, self._n - 1]))
        except RunError as error:
            raise LabError(str(error), _again()) from error

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Images `(n, C, H, W)` as float32 at the indices `(n,)`."""
        values = torch.from_numpy(self.read(indices)).movedim(-1, 1)
        return torch.empty(len(indices), *self.shape).copy_(values).div_(255)

    def read(self, indices: Tensor) -> np.ndarray:
        """Images as they lie in the file, uint8 `(n, H, W, C)`, at the indices `(n,)`.

        Raises:
            RunError: if the file has become shorter, or is damaged there.
        """
        channels, height, width = self.shape
        values = np.empty((len(indices), height, width, channels), np.uint8)
        source = self._source()
        try:
            for row, index in zip(values, indices.tolist(), strict=True):
                if self._offset is None:
                    row[:] = source[index]
                elif os.preadv(source.fileno(), (row,), self._offset + index * self._size) != self._size:
                    raise OSError("it is cut short")
        except OSError as error:
            raise RunError(f"{self.path}: {self.name} can't be read: {error}.") from error
        return values

    def on(self, device: torch.device) -> "PackedPart":
        return self

    def held(self) -> Part:
        """The same, held in memory."""
        values = torch.empty(self._n, *self.shape, dtype=torch.uint8)
        for indices in torch.arange(self._n).split(BLOCK):
            values[indices[0] : indices[-1] + 1] = torch.from_numpy(self.read(indices)).movedim(-1, 1)
        return Part(values, self.labels)

    def _source(self) -> Any:
        """This process's own open file, or dataset."""
        if self._handle is None or self._handle[0] != os.getpid():
            plain = self._offset is not None
            opened = self.path.open("rb", buffering=0) if plain else h5py.File(self.path)[self.name]
            self._handle = os.getpid(), opened
        return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def _labels(self, file: h5py.File, name: str, classes: int) -> Tensor | None:
        if name not in file:
            return None
        found = file[name]
        if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "iu" or found.shape != (self._n,):
            what = f"{found.dtype} of {_by(found.shape)}" if isinstance(found, h5py.Dataset) else "no dataset"
            raise LabError(f"{self.path}: {name} is {what}, not int64 of {self._n:,}, one for each image.", _again())
        labels = torch.from_numpy(found[:].astype(np.int64))
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or (classes and high >= classes):
            raise LabError(f"{self.path}: {name} go from {low} to {high}, but there are {classes} classes.", _again())
        return labels


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file of our layout.

    Raises:
        LabError: if it isn't one. Whatever h5py makes of a damaged file becomes one, too.
    """
    if not path.is_file():
        raise LabError(f"There is no file {path}.", f"Pack images first: {PACK}")
    try:
        if not h5py.is_hdf5(path):
            path.open("rb").close()  # says so if it can't be read at all
            raise LabError(f"{path} is not an HDF5 file.", f"data.path names what was packed by {PACK}")
        with h5py.File(path) as file:
            if _text(file.attrs.get("format")) != FORMAT:
                raise LabError(
                    f"{path} is HDF5, but not as gan_lab packs images.",
                    f"Pack it, be it as the book makes them: python scripts/pack.py source={path} target=<file.h5>",
                )
            version = file.attrs.get("format_version")
            if not isinstance(version, np.integer) or version < 1:
                raise LabError(f"{path} doesn't say which version of its format it has.", _again())
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
        raise LabError(f"{path} is cut short." if short else f"{path} can't be read: {error}.", _again()) from error
    except Exception as error:  # what a damaged file makes h5py raise has many types
        raise LabError(f"{path} can't be read: {error}.", _again()) from error


def _classes(file: h5py.File) -> list[str]:
    found = np.atleast_1d(file.attrs.get("classes", []))
    return [_text(name) for name in found.tolist()]


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _by(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _again() -> str:
    return f"Pack it anew: {PACK}"
