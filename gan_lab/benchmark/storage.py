"""Storage (S15): the same images in files, archives and HDF5 files of several layouts, read in random order.

All are read by one process, with a warm cache as after a first epoch; archives and HDF5 files are kept open.
"""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from gan_lab.benchmark.timing import Benchmark, Candidate, Facts
from gan_lab.core.rng import make_generator
from gan_lab.data.color import patches
from gan_lab.data.dataset import Part
from gan_lab.data.hdf5 import PackedPart, images
from gan_lab.data.layout import FORMAT, VERSION
from gan_lab.pack.packer import PackSettings, pack

# Pixels of a side.
SIZE = 64
BATCH = 64
# Random indices, which are used again and again.
INDICES = 4096

FOLDER = "folder of PNGs"
ZIP = "zip of PNGs"
BOOK = "HDF5, the book's"
PACKED = "HDF5 packed"
GZIP = "HDF5 packed, gzip"
STREAMED = "HDF5 packed, read as needed"
IN_MEMORY = "HDF5 packed, held in memory"
H5PY = "HDF5 packed, by h5py"
MAPPED = "HDF5 packed, memory map"
NPY = ".npy memory map"
ARRAY = "array in memory"
BASELINES = (FOLDER, ZIP, NPY)

# From an index, or a tensor of indices, to an image or a batch.
Read = Callable[[Any], Any]


@dataclass(frozen=True)
class Readers:
    """The functions that read each layout, by its name.

    Attributes:
        single: from an index to an image `(H, W, 3)`, uint8; those in `by_tensor` from indices `(1,)` to a batch.
        batch: from indices `(B,)` to a batch, uint8.
        training_batch: from indices `(B,)` to a batch as training gets it, `(B, 3, H, W)`, float32 in [0, 1].
        by_tensor: the layouts that gan_lab reads, which takes tensors of indices only.
    """

    single: Mapping[str, Read]
    batch: Mapping[str, Read]
    training_batch: Mapping[str, Read]
    by_tensor: Sequence[str] = (STREAMED, GZIP, IN_MEMORY)


def benchmarks(folder: Path, cfg: DictConfig, _: Callable[..., DictConfig]) -> tuple[list[Benchmark], Facts]:
    """Returns benchmarks of reading single images, batches, and batches for training, and of packing; sizes on disk.

    There are `cfg.images` images, patches of two photographs.
    """
    pixels = example_images(cfg.images)
    sizes = write_layouts(folder, pixels)
    readers = open_readers(folder, pixels)
    indices = torch.randint(len(pixels), (INDICES,), generator=make_generator(0, "benchmark"))
    single = {}
    for name, read in readers.single.items():
        arguments: Sequence[Any] = indices.tolist()
        if name in readers.by_tensor:
            arguments = indices.split(1)
        single[name] = _single_reads(read, arguments)
    batches = indices.split(BATCH)
    as_bytes = {name: _batch_reads(read, batches) for name, read in readers.batch.items()}
    for_training = {name: _batch_reads(read, batches) for name, read in readers.training_batch.items()}
    one_worker = "1 worker"
    packing = {one_worker: _packing(folder, 1), "2 workers": _packing(folder, 2)}
    bytes_title = f"Random batches of {BATCH}, as bytes"
    training_title = f"Random batches of {BATCH}, as training gets them (float32, channels first)"
    cases = [
        Benchmark("Random single images", "images", single, BASELINES),
        Benchmark(bytes_title, "images", as_bytes, BASELINES, multiple=BATCH),
        Benchmark(training_title, "images", for_training, BASELINES, multiple=BATCH),
        Benchmark("Packing the zip", "images", packing, (one_worker,), multiple=len(pixels)),
    ]
    megabytes = {name: size / 10**6 for name, size in sizes.items()}
    return cases, {"Size on disk, MB": megabytes}


def _single_reads(read: Read, arguments: Sequence[Any]) -> Candidate:
    """Returns a candidate that reads images one by one; the arguments are used again and again."""

    def candidate(images_to_read: int) -> None:
        # The last round may be a partial one.
        for start in range(0, images_to_read, len(arguments)):
            for argument in arguments[: images_to_read - start]:
                read(argument)

    return candidate


def _batch_reads(read: Read, batches: Sequence[Tensor]) -> Candidate:
    """Returns a candidate that reads batches of indices `(BATCH,)`, again and again."""

    def candidate(images_to_read: int) -> None:
        for number in range(images_to_read // BATCH):
            read(batches[number % len(batches)])

    return candidate


def _packing(folder: Path, workers: int) -> Candidate:
    """Returns a candidate that packs the zip until enough images are packed."""
    target = folder / "again.h5"
    settings = PackSettings(
        source=str(folder / "png.zip"),
        target=str(target),
        size=SIZE,
        crop="center",
        limit=None,
        color="rgb",
        background="white",
        labels="none",
        column=None,
        holdout=0.1,
        workers=workers,
        max_bad=0.01,
        compress=False,
    )

    def candidate(images_to_pack: int) -> None:
        packed = 0
        while packed < images_to_pack:
            pack(settings)
            with h5py.File(target) as file:
                packed += len(file["train/images"]) + len(file["holdout/images"])
            target.unlink()

    return candidate


def example_images(number: int) -> np.ndarray:
    """Returns images `(number, SIZE, SIZE, 3)`, uint8, half of them from each of two photographs."""
    train = patches(SIZE, number).train
    assert isinstance(train, Part)
    return train.values.movedim(1, -1).contiguous().numpy()


def write_layouts(folder: Path, pixels: np.ndarray) -> dict[str, int]:
    """Writes images `(N, H, W, 3)` in each layout.

    Returns:
        The sizes on disk in bytes, by the layouts' names.
    """
    pngs = folder / "png"
    pngs.mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(pngs / f"{index}.png")
    # Uncompressed, as PNGs already are compressed.
    with zipfile.ZipFile(folder / "png.zip", "w") as archive:
        for index in range(len(pixels)):
            archive.write(pngs / f"{index}.png", f"{index}.png")
    # As in Rashid (2020): a dataset for each image.
    with h5py.File(folder / "book.h5", "w") as file:
        for index, image in enumerate(pixels):
            name = f"img_align_celeba/{index}.jpg"
            file.create_dataset(name, data=image, compression="gzip", compression_opts=9)
    _write_packed(folder / "packed.h5", pixels)
    _write_packed(folder / "gzip.h5", pixels, chunks=(1, *pixels.shape[1:]), compression="gzip")
    np.save(folder / "images.npy", pixels)
    return {
        FOLDER: sum(path.stat().st_size for path in pngs.iterdir()),
        ZIP: (folder / "png.zip").stat().st_size,
        BOOK: (folder / "book.h5").stat().st_size,
        PACKED: (folder / "packed.h5").stat().st_size,
        GZIP: (folder / "gzip.h5").stat().st_size,
        ".npy": (folder / "images.npy").stat().st_size,
    }


def _write_packed(path: Path, pixels: np.ndarray, **options: Any) -> None:
    """Writes all images into the training part, in their order; the packer would hold some out."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": FORMAT, "format_version": VERSION})
        file.create_dataset("train/images", data=pixels, **options)
        file["holdout/images"] = pixels[:1]


def open_readers(folder: Path, pixels: np.ndarray) -> Readers:
    """Opens the files that `write_layouts` wrote of these images `(N, H, W, 3)`."""
    archive = zipfile.ZipFile(folder / "png.zip")
    book = h5py.File(folder / "book.h5")["img_align_celeba"]
    packed = h5py.File(folder / "packed.h5")["train/images"]

    def read_png(index: int) -> np.ndarray:
        with Image.open(folder / "png" / f"{index}.png") as image:
            return np.asarray(image)

    def read_zip(index: int) -> np.ndarray:
        with archive.open(f"{index}.png") as file, Image.open(file) as image:
            return np.asarray(image)

    def read_book(index: int) -> np.ndarray:
        return np.array(book[f"{index}.jpg"])

    def read_h5py(index: int) -> np.ndarray:
        return packed[index]

    # What can only read single images makes a batch of them.
    single: dict[str, Read] = {FOLDER: read_png, ZIP: read_zip, BOOK: read_book, H5PY: read_h5py}
    batch = {name: _stack(read) for name, read in single.items()}

    streamed_part = images(str(folder / "packed.h5"), memory=0).train
    gzip_part = images(str(folder / "gzip.h5"), memory=0).train
    memory_part = images(str(folder / "packed.h5")).train
    assert isinstance(streamed_part, PackedPart)
    assert isinstance(gzip_part, PackedPart)
    assert isinstance(memory_part, Part)
    by_gan_lab = {GZIP: gzip_part.read, STREAMED: streamed_part.read, IN_MEMORY: memory_part.stored}
    single |= by_gan_lab
    batch |= by_gan_lab

    arrays = {
        MAPPED: np.memmap(folder / "packed.h5", np.uint8, "r", packed.id.get_offset(), pixels.shape),
        NPY: np.load(folder / "images.npy", mmap_mode="r"),
        ARRAY: pixels,
    }
    for name, array in arrays.items():
        single[name] = _copy(array)
        batch[name] = _gather(array)

    training_batch: dict[str, Read] = {name: _convert(read) for name, read in batch.items()}
    # gan_lab's own parts give batches for training by themselves.
    training_batch |= {
        GZIP: gzip_part.__getitem__,
        STREAMED: streamed_part.__getitem__,
        IN_MEMORY: memory_part.__getitem__,
    }
    return Readers(single, batch, training_batch)


def _copy(array: np.ndarray) -> Read:
    """Reads an image as a copy: a view of a memory map has not read anything yet."""
    return lambda index: np.array(array[index])


def _gather(array: np.ndarray) -> Read:
    """Reads a batch from an array in one call."""
    return lambda indices: array[indices.numpy()]


def _stack(read: Read) -> Read:
    """Reads a batch image by image."""
    return lambda indices: np.stack([read(index) for index in indices.tolist()])


def _convert(read: Read) -> Read:
    """Converts batches `(B, H, W, C)` of bytes into `(B, C, H, W)`, float32 in [0, 1], as fast as packed parts do."""

    def read_converted(indices: Tensor) -> Tensor:
        pixels = read(indices)
        n, height, width, channels = pixels.shape
        return torch.empty(n, channels, height, width).copy_(torch.from_numpy(pixels).movedim(-1, 1)).div_(255)

    return read_converted
