"""Images packed into one HDF5 file (laid out as `gan_lab.data.layout` says), without opening a file for each.

What fits is held in memory. What doesn't is read as it is asked for, by `pread` at an image's place in the file: with a
warm cache half as fast as a memory map (which is no matter beside the conversion to float), with a cold one six times
faster, and the pages read never count as this process's memory. docs/performance.md has the figures.
"""

import os
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from gan_lab.core.errors import LabError, RunError
from gan_lab.data import hdf5_safety
from gan_lab.data.dataset import Dataset, FlippedPart, Labelled, Part, Samples
from gan_lab.data.packed_file import PACK, again, by, class_names, dataset, header, image_shape, labels_of, opened

BLOCK = 2**24  # bytes read in one go while a part is put into memory


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
    with opened(Path(path)) as file:
        classes = class_names(file)
        packed = [PackedPart(path, file, group, classes) for group in ("train", "holdout")]
    train, heldout = packed
    if train.shape != heldout.shape:
        raise LabError(f"{path}: train images are {by(train.shape)}, holdout images {by(heldout.shape)}.", again())
    if (train.labels is None) != (heldout.labels is None):
        raise LabError(f"{path}: only one of train and holdout has labels.", again())
    if train.labels is not None and heldout.labels is not None and not classes:
        classes = [str(n) for n in range(1 + int(max(train.labels.max(), heldout.labels.max())))]
    fits = train.bytes + heldout.bytes <= memory * 10**6
    try:
        parts: list[Samples] = [part.held() if fits else part for part in packed]
    except RunError as error:  # no run yet
        raise LabError(str(error), again()) from error
    first = FlippedPart(parts[0]) if flip else parts[0]
    return Dataset(first, parts[1], classes=classes if train.labels is not None else [], source=train.header)


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
        header: what the file says of itself: the version of its format, its source's SHA-256, and its settings.

    Raises:
        LabError, ValueError: if the group isn't laid out as `gan_lab.data.layout` says. `opened` makes one of both.
    """

    def __init__(self, path: str | Path, file: h5py.File, group: str, classes: list[str]):
        self.path, self.group, self.name = Path(path), group, f"{group}/images"
        self.header = header(file)
        found = dataset(file, group, "images")
        if found is None:
            raise LabError(f"{path} has no {self.name}.", again())
        self._chunked, self._gzip = hdf5_safety.storage(found)  # before its shape
        self._n, height, width, channels = image_shape(self.path, group, found)
        self.shape = channels, height, width
        self._size = height * width * channels
        self.bytes = self._n * self._size
        self._offset = self._checked_place(found)
        self.labels = labels_of(self.path, file, group, self._n, len(classes))
        self._handle: tuple[int, Any] | None = None  # whose, and the open file or dataset
        try:
            self.read(torch.tensor([0]))
            self.read(torch.tensor([self._n - 1]))
        except RunError as error:
            raise LabError(str(error), again()) from error

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Images `(n, C, H, W)` as float32 at the indices `(n,)`."""
        return torch.empty(len(indices), *self.shape).copy_(self.stored(indices)).div_(255)

    def stored(self, indices: Tensor) -> Tensor:
        """Images `(n, C, H, W)`, uint8, at the indices `(n,)`: what `__getitem__` divides by 255."""
        return torch.from_numpy(self.read(indices)).movedim(-1, 1)

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
                self._fill(row, source, index)
        except (OSError, ValueError, RuntimeError, LookupError, zlib.error) as error:
            raise RunError(f"{self.path}: {self.name} can't be read: {error}.") from error
        return values

    def _fill(self, row: np.ndarray, source: Any, index: int) -> None:
        """Reads an image into a row `(H, W, C)`."""
        if self._offset is not None:
            if os.preadv(source.fileno(), [row.data], self._offset + index * self._size) != self._size:
                raise OSError("it is cut short")
        elif self._chunked:
            pixels = hdf5_safety.chunk(source, (index, 0, 0, 0), self._size, self._gzip)
            row.reshape(-1)[:] = np.frombuffer(pixels, np.uint8)
        else:
            row[:] = source[index]

    def on(self, device: torch.device) -> "PackedPart":
        return self

    def held(self) -> Part:
        """The same, held in memory."""
        values = torch.empty(self._n, *self.shape, dtype=torch.uint8)
        for indices in torch.arange(self._n).split(max(1, BLOCK // self._size)):
            values[indices[0] : indices[-1] + 1] = self.stored(indices)
        return Part(values, self.labels)

    def _source(self) -> Any:
        """This process's own open file, or dataset."""
        if self._handle is None or self._handle[0] != os.getpid():
            plain = self._offset is not None
            opened: Any = self.path.open("rb", buffering=0) if plain else self._reopened()
            self._handle = os.getpid(), opened
        return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def _reopened(self) -> h5py.Dataset:
        found = dataset(h5py.File(self.path), self.group, "images")
        if found is None:
            raise OSError("it is gone")
        return found

    def _checked_place(self, found: h5py.Dataset) -> int | None:
        """Where the images begin in the file, if they are to be read without HDF5.

        Raises:
            LabError, ValueError: if there are fewer of them, or they lie in chunks of another shape than an image's.
        """
        size = self.path.stat().st_size
        channels, height, width = self.shape
        if self._chunked:
            if found.chunks != (1, height, width, channels):
                what = f"{self.name} lies in chunks of {by(found.chunks)}"
                raise LabError(f"{self.path}: {what}, not an image each, 1 × {height} × {width} × {channels}.", again())
            if self._n > size:  # each chunk takes a byte and more
                raise LabError(f"{self.path}: there are fewer than {self._n:,} images in {self.name}.", again())
            return None
        start = hdf5_safety.offset(found, size)
        return start if hasattr(os, "preadv") else None  # Windows has no preadv
