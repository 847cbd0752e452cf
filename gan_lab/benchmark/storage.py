"""Storage (S15): the same images in files, archives and HDF5 files of several layouts, read in random order.

All are read with a warm cache, as after a first epoch, and by one process; archives and HDF5 files are held open.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gan_lab.benchmark.contest import Contest
from gan_lab.core.rng import make_generator
from gan_lab.data.color import patches
from gan_lab.data.hdf5 import PackedPart, images
from gan_lab.data.layout import FORMAT, VERSION
from gan_lab.pack.packer import PackSettings, pack

SIZE = 64  # pixels of a side
BATCH = 64
DRAWS = 4096  # random indices, used again and again
FOLDER, ZIP, BOOK = "folder of PNGs", "zip of PNGs", "HDF5, the book's"
GZIP, STREAMED, HELD = "HDF5 packed, gzip", "HDF5 packed, read as needed", "HDF5 packed, held in memory"
H5PY, MAPPED = "HDF5 packed, by h5py", "HDF5 packed, memory map"
NPY, ARRAY = ".npy memory map", "array in memory"
ONE, TWO = "1 worker", "2 workers"

Read = Callable[[Any], Any]


def contests(folder: Path, asked: Any, _: Any) -> tuple[list[Contest], dict[str, dict[str, float]]]:
    """Contests of reading single images, batches, batches as training gets them, and of packing; the sizes on disk.

    `asked.images` are read, half of them patches of each of two photographs.
    """
    number = asked.images
    pixels = patches(SIZE, number).train.values.movedim(1, -1).contiguous().numpy()  # type: ignore[attr-defined]
    sizes = _written(folder, pixels)
    one, many, floats = _readers(folder, pixels)
    draws = torch.randint(number, (DRAWS,), generator=make_generator(0, "benchmark"))
    numbers, batches = draws.tolist(), draws.split(BATCH)
    tensors = list(draws.split(1))

    def singles(read: Read, kind: list[Any]) -> Callable[[int], None]:
        def play(n: int) -> None:
            for start in range(0, n, DRAWS):
                for index in kind[: n - start]:
                    read(index)

        return play

    def in_batches(read: Read) -> Callable[[int], None]:
        def play(n: int) -> None:
            for start in range(n // BATCH):
                read(batches[start % len(batches)])

        return play

    against = (FOLDER, ZIP, NPY)
    by_tensor = (STREAMED, GZIP, HELD)
    return [
        Contest(
            "Random single images",
            "images",
            {name: singles(read, tensors if name in by_tensor else numbers) for name, read in one.items()},
            against,
        ),
        Contest(
            f"Random batches of {BATCH}, as bytes",
            "images",
            {name: in_batches(read) for name, read in many.items()},
            against,
            step=BATCH,
        ),
        Contest(
            f"Random batches of {BATCH}, as training gets them (float32, channels first)",
            "images",
            {name: in_batches(read) for name, read in floats.items()},
            against,
            step=BATCH,
        ),
        Contest("Packing the zip", "images", {ONE: _packer(folder, 1), TWO: _packer(folder, 2)}, (ONE,), step=number),
    ], {"Size on disk, MB": {name: size / 10**6 for name, size in sizes.items()}}


def _written(folder: Path, pixels: np.ndarray) -> dict[str, int]:
    """The images in each layout; how many bytes each is."""
    (folder / "png").mkdir()
    for n, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "png" / f"{n}.png")
    with zipfile.ZipFile(folder / "png.zip", "w") as archive:  # stored: PNGs are compressed
        for n in range(len(pixels)):
            archive.write(folder / "png" / f"{n}.png", f"{n}.png")
    with h5py.File(folder / "book.h5", "w") as file:  # as Rashid (2020) has it
        for n, image in enumerate(pixels):
            name = f"img_align_celeba/{n}.jpg"
            file.create_dataset(name, data=image, compression="gzip", compression_opts=9)
    _packed(folder / "packed.h5", pixels)
    _packed(folder / "gzip.h5", pixels, chunks=(1, *pixels.shape[1:]), compression="gzip")
    np.save(folder / "images.npy", pixels)
    return {
        FOLDER: sum(path.stat().st_size for path in (folder / "png").iterdir()),
        **{
            name: (folder / file).stat().st_size
            for name, file in ((ZIP, "png.zip"), (BOOK, "book.h5"), ("HDF5 packed", "packed.h5"))
        },
        GZIP: (folder / "gzip.h5").stat().st_size,
        ".npy": (folder / "images.npy").stat().st_size,
    }


def _packed(path: Path, pixels: np.ndarray, **options: Any) -> None:
    """All images into the train part, in their order; the packer would hold some out."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": FORMAT, "format_version": VERSION})
        file.create_dataset("train/images", data=pixels, **options)
        file["holdout/images"] = pixels[:1]


def _packer(folder: Path, workers: int) -> Callable[[int], None]:
    """Packs the zip so often that so many images are packed."""
    target = folder / "again.h5"
    request = PackSettings(
        source=str(folder / "png.zip"),
        target=str(target),
        size=SIZE,
        crop="center",
        limit=None,
        color="rgb",
        background="white",
        labels="none",
        holdout=0.1,
        workers=workers,
        max_bad=0.01,
        compress=False,
    )

    def play(n: int) -> None:
        done = 0
        while done < n:
            pack(request)
            with h5py.File(target) as file:
                done += sum(len(file[part]["images"]) for part in ("train", "holdout"))
            target.unlink()

    return play


def _readers(folder: Path, pixels: np.ndarray) -> tuple[dict[str, Read], dict[str, Read], dict[str, Read]]:
    """For each layout a function from an index to an image, from indices to a batch, and to a batch for training."""
    archive = zipfile.ZipFile(folder / "png.zip")
    book = h5py.File(folder / "book.h5")["img_align_celeba"]
    streamed, gzipped = (images(str(folder / f"{name}.h5"), memory=0).train for name in ("packed", "gzip"))
    held = images(str(folder / "packed.h5")).train
    assert isinstance(streamed, PackedPart)
    assert isinstance(gzipped, PackedPart)
    dataset = h5py.File(folder / "packed.h5")["train/images"]
    mapped = np.memmap(folder / "packed.h5", np.uint8, "r", dataset.id.get_offset(), pixels.shape)
    npy = np.load(folder / "images.npy", mmap_mode="r")

    def png(n: int) -> np.ndarray:
        with Image.open(folder / "png" / f"{n}.png") as image:
            return np.asarray(image)

    def zipped(n: int) -> np.ndarray:
        with archive.open(f"{n}.png") as file, Image.open(file) as image:
            return np.asarray(image)

    alone: dict[str, Read] = {
        FOLDER: png,
        ZIP: zipped,
        BOOK: lambda n: np.array(book[f"{n}.jpg"]),
        H5PY: lambda n: dataset[n],
    }
    arrays = {MAPPED: mapped, NPY: npy, ARRAY: pixels}
    parts: dict[str, Read] = {
        GZIP: gzipped.read,
        STREAMED: streamed.read,
        HELD: lambda indices: held.values.index_select(0, indices),  # type: ignore[attr-defined]
    }
    one = {**alone, **parts, **{name: _copy(array) for name, array in arrays.items()}}
    many = {
        **{name: _stack(read) for name, read in alone.items()},
        **parts,
        **{name: _gather(array) for name, array in arrays.items()},
    }
    floats = {name: _for_training(read) for name, read in many.items()}
    floats |= {GZIP: gzipped.__getitem__, STREAMED: streamed.__getitem__, HELD: held.__getitem__}
    return one, many, floats


def _copy(array: np.ndarray) -> Read:
    return lambda n: np.array(array[n])


def _gather(array: np.ndarray) -> Read:
    return lambda indices: array[indices.numpy()]


def _stack(read: Read) -> Read:
    return lambda indices: np.stack([read(n) for n in indices.tolist()])


def _for_training(read: Read) -> Read:
    return lambda indices: _converted(read(indices))


def _converted(batch: np.ndarray) -> Tensor:
    """The quickest way that was found, the packed part's own."""
    n, height, width, channels = batch.shape
    return torch.empty(n, channels, height, width).copy_(torch.from_numpy(batch).movedim(-1, 1)).div_(255)
