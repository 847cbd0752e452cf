"""Writes images of one shape, more than fit in memory, into an HDF5 file of the layout in `gan_lab.data.layout`."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import h5py
import numpy as np

from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic
from gan_lab.core.run_folder import RemovedError, identity
from gan_lab.core.version import __version__
from gan_lab.data.layout import FORMAT, MAX_CLASSES, MAX_CLASSES_TEXT, MAX_IMAGES, MAX_NAME, VERSION

BLOCK_BYTES = 2**24  # bytes copied per write
HDF5_OVERHEAD = 2**16  # bytes of an HDF5 file that are not images, roughly


class Origin(NamedTuple):
    """What a packed file says about where its images come from; see `gan_lab.data.layout`.

    Attributes:
        source: the name of what was packed.
        source_sha256: its checksum.
        settings: the configuration keys that shaped the pixels.
    """

    source: str
    source_sha256: str
    settings: dict[str, Any]


class ImageBuffer:
    """Decoded images in a nameless temporary file in the target's folder, each at its own place, in any order.

    How many images are good, and what shape they have, is known only when all are decoded, and contiguous HDF5 datasets
    can't grow. So the images are collected here first. The file disappears when it is closed, also if the process is
    killed.

    Args:
        target: the HDF5 file that will be written.
        count: number of places.

    Attributes:
        shape: of an image, `(H, W, C)`; None until there is one.
    """

    def __init__(self, target: Path, count: int):
        self.target = target
        self.count = count
        self.shape: tuple[int, ...] | None = None
        self._folder = identity(target.parent)
        self.file = tempfile.TemporaryFile(dir=target.parent)  # noqa: SIM115, closed by `__exit__`

    def put(self, place: int, image: np.ndarray) -> None:
        """Stores an image `(H, W, C)`, uint8, at a place.

        Raises:
            LabError: if the first image had another shape, or all together won't fit on the disk.
            RemovedError: see `refuse_if_removed`.
        """
        self.refuse_if_removed()
        if self.shape is None:
            self.shape = image.shape
            self._refuse_too_small_disk()
        if image.shape != self.shape:
            shapes = " and ".join(f"{height} × {width}" for height, width, _ in (self.shape, image.shape))
            raise LabError(
                f"The images have different sizes, {shapes}, and size=null keeps them.",
                "Choose one size for all, for example size=64.",
                code="conflict",
                key="size",
            )
        self.file.seek(place * image.size)
        self.file.write(np.ascontiguousarray(image).data)

    def refuse_if_removed(self) -> None:
        """Raises RemovedError if the target's folder was removed or replaced since."""
        if identity(self.target.parent) != self._folder:
            raise RemovedError(self.target.parent)

    def _refuse_too_small_disk(self) -> None:
        folder = self.target.parent
        free = shutil.disk_usage(folder).free
        # The images here and the target together.
        needed = 2 * self.count * int(np.prod(self.shape or 0)) + HDF5_OVERHEAD
        if free < needed:
            raise LabError(
                f"{folder} has {megabytes(free)} free, but {self.count:,} images take {megabytes(needed)}.",
                "Make room, choose another folder, or take fewer or smaller ones.",
                code="storage",
                key="target",
            )

    def copy_to(self, dataset: h5py.Dataset, places: np.ndarray) -> None:
        """Copies images into a dataset `(N, H, W, C)`, block by block.

        Args:
            dataset: where.
            places: of the images, `(N,)`, ascending.
        """
        assert self.shape is not None
        image_size = int(np.prod(self.shape))
        images_per_block = max(1, BLOCK_BYTES // image_size)
        copied = 0
        for start in range(0, self.count, images_per_block):
            in_block = places[(places >= start) & (places < start + images_per_block)] - start
            if not len(in_block):
                continue
            self.file.seek(start * image_size)
            # The last images of a block may be bad ones, for which nothing was written.
            read_size = image_size * (int(in_block[-1]) + 1)
            block = np.frombuffer(self.file.read(read_size), np.uint8).reshape(-1, *self.shape)
            dataset[copied : copied + len(in_block)] = block[in_block]
            copied += len(in_block)

    def __enter__(self) -> "ImageBuffer":
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.file.close()


def write_packed(
    images: ImageBuffer,
    places: np.ndarray,
    is_heldout: np.ndarray,
    names: Sequence[str],
    labels: np.ndarray | None,
    classes: Sequence[str],
    origin: Origin,
    compress: bool,
) -> None:
    """Writes the target of `images`.

    Args:
        images: all that were decoded.
        places: of those to write, `(N,)`, ascending.
        is_heldout: which of these are held out, `(N,)` bool.
        names: of these, N.
        labels: class numbers of these, `(N,)` int64, or None.
        classes: the name of each class.
        origin: see `Origin`.
        compress: True for gzip with one chunk per image, False for contiguous values.

    Raises:
        LabError: for more images or classes, or longer names of classes, than `gan_lab.data.layout` allows.
        RemovedError: see `ImageBuffer.refuse_if_removed`.
        OSError: if the disk is full, read-only or broken; then there is no target.
    """
    images.refuse_if_removed()
    assert images.shape is not None
    classes_json = _classes_json(classes)
    if len(places) > MAX_IMAGES:
        raise LabError(
            f"{len(places):,} images are more than {MAX_IMAGES:,}.",
            f"Take fewer: limit={MAX_IMAGES}.",
            code="unsupported",
            key="limit",
        )
    groups = {"train": np.flatnonzero(~is_heldout), "holdout": np.flatnonzero(is_heldout)}
    storage: dict[str, Any] = {}
    if compress:
        storage = {"chunks": (1, *images.shape), "compression": "gzip"}
    # Version 1.8 of the format can be read by any HDF5 since 2008.
    with atomic(images.target) as temporary, h5py.File(temporary, "w", libver=("v108", "v108")) as file:
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = VERSION
        file.attrs["created_by"] = f"gan_lab {__version__}"
        file.attrs["source"] = origin.source
        file.attrs["source_sha256"] = origin.source_sha256
        file.attrs["settings"] = json.dumps(origin.settings, sort_keys=True)
        file.attrs["classes"] = classes_json
        for group_name, chosen in groups.items():
            group = file.create_group(group_name)
            dataset = group.create_dataset("images", (len(chosen), *images.shape), np.uint8, **storage)
            images.copy_to(dataset, places[chosen])
            if labels is not None:
                group.create_dataset("labels", data=labels[chosen])
            group_names = np.array([names[number] for number in chosen.tolist()], dtype=object)
            group.create_dataset("names", data=group_names, dtype=h5py.string_dtype())


def _classes_json(classes: Sequence[str]) -> str:
    """Returns the names of classes as JSON.

    Raises:
        LabError: if there are too many, or one is too long.
    """
    longest = max(classes, key=len, default="")
    text = json.dumps(list(classes), ensure_ascii=False)
    if len(classes) > MAX_CLASSES or len(text) > MAX_CLASSES_TEXT:
        raise LabError(
            f"{len(classes):,} classes are more than {MAX_CLASSES:,}.",
            "Use labels=none, or a CSV file with fewer labels.",
            code="unsupported",
            key="labels",
        )
    if len(longest) > MAX_NAME:
        raise LabError(
            f"The name of a class is longer than {MAX_NAME} characters: {longest[:50]}…",
            "Shorten it.",
            code="invalid",
            key="labels",
        )
    return text


def megabytes(size: float) -> str:
    """Returns a number of bytes as text, in MB."""
    return f"{size / 1e6:,.1f} MB"
