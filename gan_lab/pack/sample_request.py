"""What is asked of a file with samples: which form they have to have, and how many of them are read."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from gan_lab.core.command_line import command, setting
from gan_lab.core.errors import Code, LabError
from gan_lab.core.rng import make_generator
from gan_lab.data.packed_file import format_shape

MAX_VALUES = 2**29  # of all samples that are read: 2 GiB as float32
GRAY_TOLERANCE = 0.02  # mean difference of colour channels up to which an image is gray, as after JPEG
BLOCK = 1_000  # images that are looked at, or changed, at once


class SampleSet(NamedTuple):
    """Samples of a file or folder.

    Attributes:
        values: `(n, *shape)`; images `(n, C, H, W)` as uint8, 0 to 255, or float32.
        labels: of each one, the name or the number of its class, as texts; None if they aren't known.
        names: of each one; in an array, its number.
        total: how many there are in the file.
        notes: sentences for the user.
    """

    values: Tensor
    labels: list[str] | None
    names: list[str]
    total: int
    notes: list[str]


class SampleRequest(NamedTuple):
    """Which samples are read, and what they have to be.

    Attributes:
        path: a folder, a zip or a tar with images, an .npy or .npz file, or HDF5 as gan_lab or the book packs it.
        key: the configuration key that names it, for messages.
        size: pixels per side to which images are resized; None keeps them.
        labels: "auto", those that the file has; "none"; or "folders", which insists on classes.
        max_bad: share of image files that may be unreadable.
        shape: that a sample has to have, `(C, H, W)` or `(dims,)`; None: any.
        limit: how many are read at most, chosen at random, since files may be sorted by class; None: all.
    """

    path: Path
    key: str
    size: int | None = None
    labels: str = "auto"
    max_bad: float = 0.01
    shape: tuple[int, ...] | None = None
    limit: int | None = None

    def __str__(self) -> str:
        return f"{self.key}={self.path}"

    def chosen(self, total: int) -> Tensor:
        """Returns the indices of the samples that are read, `(n,)`: all in their order, or `limit` at random."""
        if self.limit is None or self.limit >= total:
            return torch.arange(total)
        return torch.randperm(total, generator=make_generator(0, "samples/chosen"))[: self.limit]

    def refusal(self, what: str, hint: str, code: Code, key: str = "") -> LabError:
        """Returns the error for a file that can't be used."""
        return LabError(f"{self}{what}", hint, code=code, key=key or self.key)

    def refuse_too_many(self, count: int, shape: Sequence[int]) -> None:
        """Raises a LabError for more values than memory may have for them."""
        if count * math.prod(shape) <= MAX_VALUES:
            return
        hint = f"Take fewer, samples={MAX_VALUES // math.prod(shape)}, or make them smaller: size=64, for example."
        if self.key == "real":
            pack = command("pack.py", setting("source", self.path), "target=real.h5")
            hint = f"Pack them, then they are read as they are needed: {pack}"
        what = f": {count:,} samples of {format_shape(shape)} are more than {MAX_VALUES:,} values."
        raise self.refusal(what, hint, "unsupported")

    def refuse_other_shape(self, actual: Sequence[int]) -> None:
        """Raises a LabError for samples of another shape; images `(C, H, W)` may differ in their channels."""
        if self.shape is None or tuple(actual) == self.shape:
            return
        are_images = len(actual) == len(self.shape) == 3
        if are_images and tuple(actual[1:]) == self.shape[1:]:
            return
        if not are_images:
            what = f": its samples have {format_shape(actual)} numbers, those of the data {format_shape(self.shape)}."
            raise self.refusal(
                what, f"Save them as an array of N × {format_shape(self.shape)}, by numpy.save.", "conflict"
            )
        height, width = self.shape[1:]
        hint = f"Resize them to {height} × {width} before."
        if height == width and self.size is None:
            hint = f"size={height} resizes them."
        what = f": its images have {format_shape(actual[1:])} pixels, those of the data {height} × {width}."
        raise self.refusal(what, hint, "conflict", "size")

    def refuse_size(self) -> None:
        """Raises a LabError if images are to be resized whose file can't be read otherwise than it is."""
        if self.size is not None:
            raise self.refusal(
                " is packed, and its images keep their size.",
                f"Pack them anew, with size={self.size}.",
                "conflict",
                "size",
            )

    def with_channels(self, images: Tensor) -> Tensor:
        """Returns images `(n, C, H, W)` with as many channels as asked for; if any will do, one if all are gray.

        Raises:
            LabError: for images in colour where the data are gray.
        """
        channels = None if self.shape is None else self.shape[0]
        if images.shape[1] == channels:
            return images
        if images.shape[1] == 1:
            return images.expand(-1, channels or 1, -1, -1)
        if all(_are_gray(block) for block in images.split(BLOCK)):
            return images[:, :1].contiguous()
        if channels is None:
            return images
        raise self.refusal(" has images in colour, the data are gray.", "Convert them to gray before.", "conflict")


def _are_gray(images: Tensor) -> bool:
    """Returns whether the channels of each image `(n, 3, H, W)` are the same, or nearly, as a JPEG of gray has them."""
    values = images.float()
    if images.dtype == torch.uint8:
        values /= 255
    differences = (values[:, 1:] - values[:, :1]).abs().flatten(1).mean(1)
    return bool((differences[differences.isfinite()] <= GRAY_TOLERANCE).all())
