"""Writes images of one shape, more than fit in memory, into an HDF5 file of the layout in `gan_lab.data.layout`."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gan_lab import __version__
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic
from gan_lab.data.layout import FORMAT, MAX_CLASSES, MAX_CLASSES_TEXT, MAX_IMAGES, MAX_NAME, VERSION

BLOCK = 2**24  # bytes that are copied at once


class Rows:
    """Images in a nameless file beside the target, each at a place of its own, whichever comes first.

    How many are good, and of what shape, is known only when all are decoded, and contiguous HDF5 datasets don't grow.
    The file is gone when it is closed, however that happens.

    Attributes:
        shape: of an image, `(H, W, C)`, once there is one.
    """

    def __init__(self, target: Path, count: int):
        self.target, self.count = target, count
        self.shape: tuple[int, ...] | None = None
        self.file = tempfile.TemporaryFile(dir=target.parent)  # noqa: SIM115

    def put(self, place: int, image: np.ndarray) -> None:
        """Keeps an image `(H, W, C)`, uint8.

        Raises:
            LabError: if the first one was of another shape, or all together won't fit on the disk.
        """
        if self.shape is None:
            self.shape = image.shape
            free, needed = shutil.disk_usage(self.target.parent).free, self.needed
            if free < needed:
                raise LabError(
                    f"{self.target.parent} has {megabytes(free)} free, but packing takes {megabytes(needed)}.",
                    "Make room, choose another target, or take a smaller size or limit.",
                )
        if image.shape != self.shape:
            shapes = " and ".join(f"{h} × {w}" for h, w, _ in (self.shape, image.shape))
            raise LabError(f"Images of different sizes, {shapes}, where size=null keeps them.", "Say size=64.")
        self.file.seek(place * image.size)
        self.file.write(np.ascontiguousarray(image).data)

    @property
    def needed(self) -> int:
        """Bytes at most, these and the target together."""
        return 2 * self.count * int(np.prod(self.shape or 0)) + 2**16

    def copy(self, places: np.ndarray, dataset: h5py.Dataset) -> None:
        """Copies the images of these places, ascending, into a dataset `(N, H, W, C)`, block by block."""
        assert self.shape is not None
        size = int(np.prod(self.shape))
        many = max(1, BLOCK // size)
        done = 0
        for start in range(0, self.count, many):
            wanted = places[(places >= start) & (places < start + many)] - start
            if len(wanted):
                self.file.seek(start * size)
                block = np.frombuffer(self.file.read(size * (int(wanted[-1]) + 1)), np.uint8).reshape(-1, *self.shape)
                dataset[done : done + len(wanted)] = block[wanted]
                done += len(wanted)

    def __enter__(self) -> "Rows":
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()


def write(
    rows: Rows,
    places: np.ndarray,
    held: np.ndarray,
    names: Sequence[str],
    labels: np.ndarray | None,
    about: Mapping[str, Any],
    compress: bool,
) -> None:
    """Makes the target of `rows`.

    Args:
        places: of the images to take, `(N,)`, ascending.
        held: which of them are held out, `(N,)` bool.
        names: each one's name.
        labels: each one's class number, `(N,)` int64, or None.
        about: the attributes `source`, `source_sha256`, `settings` (a dict) and `classes` (a list of texts).
        compress: gzip, a chunk per image, instead of contiguous.

    Raises:
        LabError: for more images or classes, or longer names of classes, than `gan_lab.data.layout` allows.
        OSError: if the disk is full …; then there is no target.
    """
    assert rows.shape is not None
    classes = _classes(about["classes"])
    if len(places) > MAX_IMAGES:
        raise LabError(f"{len(places):,} images are more than {MAX_IMAGES:,}.", f"Say limit={MAX_IMAGES}.")
    text = h5py.string_dtype()
    # v108: any HDF5 since 2008 reads it
    with atomic(rows.target) as half, h5py.File(half, "w", libver=("v108", "v108")) as file:
        file.attrs.update(format=FORMAT, format_version=VERSION, created_by=f"gan_lab {__version__}")
        file.attrs.update(source=about["source"], source_sha256=about["source_sha256"])
        file.attrs["settings"] = json.dumps(about["settings"], sort_keys=True)
        file.attrs["classes"] = classes
        for part, chosen in (("train", np.flatnonzero(~held)), ("holdout", np.flatnonzero(held))):
            group, shape = file.create_group(part), (len(chosen), *rows.shape)
            packed = {"chunks": (1, *rows.shape), "compression": "gzip"} if compress else {}
            rows.copy(places[chosen], group.create_dataset("images", shape, np.uint8, **packed))
            if labels is not None:
                group.create_dataset("labels", data=labels[chosen])
            group.create_dataset("names", data=np.array([names[n] for n in chosen.tolist()], dtype=object), dtype=text)


def _classes(names: Sequence[str]) -> str:
    """Classes' names as JSON."""
    longest = max(names, key=len, default="")
    text = json.dumps(list(names), ensure_ascii=False)
    if len(names) > MAX_CLASSES or len(text) > MAX_CLASSES_TEXT:
        raise LabError(f"{len(names):,} classes are more than {MAX_CLASSES:,}.", "Say labels=none, or label by fewer.")
    if len(longest) > MAX_NAME:
        raise LabError(f"The name of a class is longer than {MAX_NAME} characters: {longest[:50]}…", "Shorten it.")
    return text


def megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"
