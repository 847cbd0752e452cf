"""Datasets of images packed into one HDF5 file, whose layout is in `gan_lab.data.layout`.

Images that fit are held in memory. Larger data are read as they are needed, by `pread` at an image's place in the file.
Compared with a memory map this is half as fast with a warm cache, which doesn't matter next to the conversion to float,
and six times as fast with a cold one; and the pages that were read never count as this process's memory.
docs/performance.md has the figures.
"""

import os
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from gan_lab.core.command_line import command, setting
from gan_lab.core.declare import declares
from gan_lab.core.errors import LabError, RunError
from gan_lab.data import hdf5_safety
from gan_lab.data.dataset import Dataset, FlippedPart, LabelledSamples, Part, Samples
from gan_lab.data.packed_file import (
    PACK,
    checked_image_shape,
    find_dataset,
    format_shape,
    open_packed,
    read_class_names,
    read_header,
    read_labels,
    refusal,
)

BLOCK_BYTES = 2**24  # bytes per read while a part is put into memory
MEGABYTE = 10**6
# What reading a damaged file raises.
READ_ERRORS = (OSError, ValueError, RuntimeError, LookupError, zlib.error)


def images(path: str | None, flip: bool = False, memory: int = 1000) -> Dataset:
    """Makes a dataset of the images in a packed file.

    Args:
        path: of the file; None if the user named none.
        flip: whether the train part also has each image's mirror image, as a sample of its own.
        memory: in MB. If all images need no more, they are held in memory, else they are read as they are needed.

    Raises:
        LabError: if there is no such file, or it isn't whole and laid out as `gan_lab.data.layout` says.
    """
    if path is None:
        raise LabError(
            "dataset=images reads a packed file, and none is named.",
            f"Pack one: {PACK}\nThen name it: data.path=<file.h5>",
            code="missing",
            key="data.path",
        )
    file_path = Path(path)
    with open_packed(file_path) as file:
        classes = read_class_names(file)
        train = PackedPart(file_path, file, "train", classes)
        heldout = PackedPart(file_path, file, "holdout", classes)
    if train.shape != heldout.shape:
        shapes = f"train images are {format_shape(train.shape)}, holdout images {format_shape(heldout.shape)}"
        raise refusal(file_path, f"{path}: {shapes}.")
    if (train.labels is None) != (heldout.labels is None):
        raise refusal(file_path, f"{path}: only one of train and holdout has labels.")
    if train.labels is None or heldout.labels is None:
        classes = []
    elif not classes:
        highest = max(int(train.labels.max()), int(heldout.labels.max()))
        classes = [str(number) for number in range(highest + 1)]
    train_samples: Samples = train
    heldout_samples: Samples = heldout
    if train.bytes + heldout.bytes <= memory * MEGABYTE:
        try:
            train_samples = train.load_into_memory()
            heldout_samples = heldout.load_into_memory()
        except RunError as error:
            # No run has begun, so it is a mistake before one.
            raise refusal(file_path, str(error)) from error
    if flip:
        train_samples = FlippedPart(train_samples)
    return Dataset(train_samples, heldout_samples, classes=classes, source=train.header)


@declares(
    licence="non-commercial research only, copies may not be passed on: see mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
)
def celeba(data_dir: str, path: str | None = None, flip: bool = False, memory: int = 1000) -> Dataset:
    """Makes a dataset of CelebA's 202,599 faces (Liu et al. 2015) as `scripts/pack.py` packed them.

    Args:
        data_dir: the folder of celeba.h5, if `path` is None.
        path: of the packed file.
        flip, memory: see `images`.

    Raises:
        LabError: see `images`.
    """
    file = Path(data_dir) / "celeba.h5" if path is None else Path(path)
    if not file.is_file():
        arguments = ("source=img_align_celeba.zip", setting("target", file), "crop=128x128", "size=64")
        pack_celeba = command("pack.py", *arguments)
        raise LabError(
            f"CelebA isn't packed: there is no {file}.",
            "Get img_align_celeba.zip (https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html) and pack it, here with the\n"
            f"book's crop: {pack_celeba}",
            code="missing",
            key="data.path",
        )
    return images(str(file), flip, memory)


class PackedPart(LabelledSamples):
    """Images of a packed file, read as they are needed. Each process opens the file for itself.

    Args:
        path: of the file.
        file: the open file at `path`.
        group: `train` or `holdout`.
        classes: their names; [] if labels may be any number.

    Attributes:
        shape: of an image, `(C, H, W)`.
        labels: `(N,)` int64, or None.
        bytes: how many bytes all images have.
        header: what the file says about its origin; see `gan_lab.data.packed_file.read_header`.

    Raises:
        LabError, ValueError: if the group isn't laid out as `gan_lab.data.layout` says. `open_packed` turns the second
            into the first.
    """

    def __init__(self, path: Path, file: h5py.File, group: str, classes: list[str]):
        self.path = path
        self.group = group
        self.name = f"{group}/images"
        self.header = read_header(file)
        dataset = find_dataset(file, group, "images")
        if dataset is None:
            raise refusal(path, f"{path} has no {self.name}.")
        # Before its shape, which a virtual dataset would look up in other files.
        self._chunked, self._gzip = hdf5_safety.storage_of(dataset)
        self._count, height, width, channels = checked_image_shape(path, group, dataset)
        self.shape = (channels, height, width)
        self._image_bytes = height * width * channels
        self.bytes = self._count * self._image_bytes
        self._offset = self._checked_offset(dataset)
        self.labels = read_labels(path, file, group, self._count, len(classes))
        # An open file (or dataset) belongs to the process that opened it: a fork would share its position.
        self._open_file: Any = None
        self._opened_by_process = 0
        try:
            self.read(torch.tensor([0]))
            self.read(torch.tensor([self._count - 1]))
        except RunError as error:
            raise refusal(path, str(error)) from error

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Returns the images `(n, C, H, W)`, float32 in [0, 1], at the indices `(n,)`."""
        return torch.empty(len(indices), *self.shape).copy_(self.stored(indices)).div_(255)

    def stored(self, indices: Tensor) -> Tensor:
        """Returns the images `(n, C, H, W)`, uint8, at the indices `(n,)`."""
        return torch.from_numpy(self.read(indices)).movedim(-1, 1)

    def read(self, indices: Tensor) -> np.ndarray:
        """Reads images as they are in the file, `(n, H, W, C)` uint8, at the indices `(n,)`.

        Raises:
            RunError: if the file has become shorter, or is damaged there.
        """
        channels, height, width = self.shape
        values = np.empty((len(indices), height, width, channels), np.uint8)
        source = self._source()
        try:
            for row, index in zip(values, indices.tolist(), strict=True):
                self._read_image(source, index, row)
        except READ_ERRORS as error:
            raise RunError(
                f"{self.path}: {self.name} can't be read: {error}.", code="damaged", key=self.path.name
            ) from error
        return values

    def _read_image(self, source: Any, index: int, row: np.ndarray) -> None:
        """Reads an image into a row `(H, W, C)`."""
        if self._offset is not None:
            start = self._offset + index * self._image_bytes
            if os.preadv(source.fileno(), [row.data], start) != self._image_bytes:
                raise OSError("it is cut short")
        elif self._chunked:
            pixels = hdf5_safety.read_chunk(source, (index, 0, 0, 0), self._image_bytes, self._gzip)
            row.reshape(-1)[:] = np.frombuffer(pixels, np.uint8)
        else:
            row[:] = source[index]

    def to(self, device: torch.device) -> "PackedPart":
        """Returns itself: the images stay in their file."""
        return self

    def load_into_memory(self) -> Part:
        """Reads all images.

        Raises:
            RunError: see `read`.
        """
        values = torch.empty(self._count, *self.shape, dtype=torch.uint8)
        images_per_block = max(1, BLOCK_BYTES // self._image_bytes)
        for indices in torch.arange(self._count).split(images_per_block):
            values[indices[0] : indices[-1] + 1] = self.stored(indices)
        return Part(values, self.labels)

    def _source(self) -> Any:
        """Returns this process's own open file, or dataset where HDF5 has to read it."""
        process = os.getpid()
        if self._opened_by_process != process:
            if self._offset is not None:
                self._open_file = self.path.open("rb", buffering=0)
            else:
                self._open_file = self._reopen_dataset()
            self._opened_by_process = process
        return self._open_file

    def __getstate__(self) -> dict[str, Any]:
        """Returns what is pickled for a worker process: everything but the open file."""
        return {**self.__dict__, "_open_file": None, "_opened_by_process": 0}

    def _reopen_dataset(self) -> h5py.Dataset:
        dataset = find_dataset(h5py.File(self.path), self.group, "images")
        if dataset is None:
            raise OSError("it is gone")
        return dataset

    def _checked_offset(self, dataset: h5py.Dataset) -> int | None:
        """Returns where the images begin in the file, in bytes; None if they have to be read with HDF5.

        Raises:
            LabError, ValueError: if there are fewer of them, or their chunks have another shape than an image.
        """
        file_size = self.path.stat().st_size
        channels, height, width = self.shape
        if self._chunked:
            if dataset.chunks != (1, height, width, channels):
                actual = format_shape(dataset.chunks)
                expected = format_shape((1, height, width, channels))
                raise refusal(
                    self.path, f"{self.path}: {self.name} lies in chunks of {actual}, not an image each, {expected}."
                )
            # Each chunk takes a byte at least.
            if self._count > file_size:
                raise refusal(self.path, f"{self.path}: there are fewer than {self._count:,} images in {self.name}.")
            return None
        offset = hdf5_safety.offset_of(dataset, file_size)
        # Windows has no preadv.
        return offset if hasattr(os, "preadv") else None
