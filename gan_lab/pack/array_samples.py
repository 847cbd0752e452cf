"""Finds samples and labels among the arrays of an .npy or .npz file, in any of the usual forms."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from gan_lab.data.layout import MAX_CLASSES, MAX_PIXELS
from gan_lab.data.packed_file import format_shape
from gan_lab.pack.archives import READ_ERRORS
from gan_lab.pack.arrays import StoredArray, stored_arrays, unreadable
from gan_lab.pack.sample_request import BLOCK, MAX_VALUES, SampleRequest, SampleSet

# Names under which programs store samples and labels in .npz files: numpy's for unnamed arrays (guided-diffusion, EDM),
# x and y (BigGAN, StudioGAN), and plain words.
SAMPLE_NAMES = ("arr_0", "x", "samples", "images")
LABEL_NAMES = ("arr_1", "y", "labels", "label")

# Floating-point values that belong to [0, 1] or [-1, 1]: a generator without a last sigmoid goes a little beyond.
SLACK = 0.05
CLEARLY_NEGATIVE = -0.5


def read_arrays(request: SampleRequest) -> SampleSet:
    """Reads samples, and labels if there are some, of an .npy or .npz file.

    Images are `(N, H, W, C)`, `(N, C, H, W)` or `(N, H, W)`: uint8, or floating-point in [0, 1] or [-1, 1]. Points are
    `(N, dims)`.

    Raises:
        LabError: see `gan_lab.pack.samples.read_samples`.
    """
    if request.labels == "folders":
        raise request.refusal(" is no folder, but labels=folders.", "Leave labels out.", "conflict", "labels")
    arrays = stored_arrays(request.path, request.key)
    array = _array_of_samples(arrays, request)
    label_array = None if request.labels == "none" else _array_of_labels(arrays, array, request)
    shape, channels_last = _shape(array, request)
    if request.size is None or len(shape) != 3:
        request.refuse_other_shape(shape)
    chosen = request.chosen(array.shape[0])
    request.refuse_too_many(len(chosen), shape)
    rows, position = chosen.sort()
    try:
        numbers = _as_numbers(array.read(rows.numpy()), len(shape) == 3)
        label_texts = None if label_array is None else _label_texts(label_array.read(rows.numpy()))
    except READ_ERRORS as error:
        raise unreadable(request.path, request.key, array.name, error) from error
    values = torch.from_numpy(numbers)
    if channels_last:
        values = values.movedim(-1, 1)
    notes = _notes(arrays, array, label_array, request)
    if len(shape) == 3:
        values, range_notes = _as_images(values.reshape(-1, *shape), request)
        notes += range_notes
    # Back into the order in which they were chosen.
    place = position.argsort()
    labels = None if label_texts is None else [label_texts[i] for i in place.tolist()]
    return SampleSet(values[place], labels, list(map(str, chosen.tolist())), array.shape[0], notes)


def _array_of_samples(arrays: Sequence[StoredArray], request: SampleRequest) -> StoredArray:
    """Returns the array with the samples: of a usual name, or the only one with several axes."""
    candidates = [array for array in arrays if len(array.shape) > 1]
    named = [array for name in SAMPLE_NAMES for array in candidates if array.name == name]
    if not named and len(candidates) != 1:
        described = ", ".join(f"{array.name or 'one'} ({format_shape(array.shape)})" for array in arrays[:5])
        raise request.refusal(
            f": which array has the samples isn't clear; it has {described or 'none'}.",
            f"Call it {SAMPLE_NAMES[0]}, N × height × width × 3 or N × dims, and the labels {LABEL_NAMES[0]}.",
            "unsupported",
        )
    array = (named or candidates)[0]
    if 0 in array.shape:
        raise request.refusal(f" has no sample: {format_shape(array.shape)}.", "Name another file.", "missing")
    return array


def _array_of_labels(arrays: Sequence[StoredArray], samples: StoredArray, request: SampleRequest) -> StoredArray | None:
    """Returns the array with the labels, `(N,)` or one-hot `(N, classes)`; None if there is none."""
    named = [array for name in LABEL_NAMES for array in arrays if array.name == name and array is not samples]
    if not named:
        return None
    array = named[0]
    count = samples.shape[0]
    width = math.prod(array.shape[1:])
    is_label = array.shape[:1] == (count,) and len(array.shape) <= 2 and 0 < width <= MAX_CLASSES
    if not is_label or width * count > MAX_VALUES:
        raise request.refusal(
            f": {array.name} is {format_shape(array.shape)}, not a label for each of {count:,} samples.",
            "Leave the labels out: labels=none.",
            "conflict",
            "labels",
        )
    return array


def _shape(array: StoredArray, request: SampleRequest) -> tuple[tuple[int, ...], bool]:
    """Returns the shape of a sample, `(C, H, W)` or `(dims,)`, and whether the channels come last in the array."""
    axes = array.shape[1:]
    candidates: list[tuple[tuple[int, ...], bool]] = []
    if len(axes) == 1:
        candidates.append((axes, False))
    if len(axes) == 2:
        candidates.append(((1, *axes), False))
    if len(axes) == 3 and axes[2] in (1, 3):
        candidates.append(((axes[2], axes[0], axes[1]), True))
    if len(axes) == 3 and axes[0] in (1, 3):
        candidates.append((axes, False))
    candidates = [candidate for candidate in candidates if math.prod(candidate[0][1:]) <= MAX_PIXELS]
    if not candidates:
        raise request.refusal(
            f": {format_shape(array.shape)} are no images and no points.",
            "Images are N × height × width × 3 or 1, or N × 3 or 1 × height × width; points are N × dims.",
            "unsupported",
        )
    # Of images of 3 pixels per side either axis may be the channels.
    for candidate in candidates:
        if request.shape is not None and candidate[0][1:] == request.shape[1:]:
            return candidate
    return candidates[0]


def _notes(
    arrays: Sequence[StoredArray], samples: StoredArray, labels: StoredArray | None, request: SampleRequest
) -> list[str]:
    """Returns sentences about which arrays were read, if there are several."""
    if len(arrays) == 1:
        return []
    others = [array.name for array in arrays if array is not samples and array is not labels]
    note = f"{request.key}: the samples are {samples.name}"
    if labels is not None:
        note += f", their labels {labels.name}"
    if others:
        note += f"; not read: {', '.join(others[:5])}"
    return [f"{note}."]


def _as_numbers(values: np.ndarray, are_images: bool) -> np.ndarray:
    """Returns images as uint8 or float32, and points as float32.

    Raises:
        ValueError: for images of whole numbers beyond 0 to 255.
    """
    if not are_images or values.dtype.kind in "fb":
        return values.astype(np.float32)
    if values.dtype != np.uint8 and (values.min() < 0 or values.max() > 255):
        raise ValueError(f"its whole numbers go from {values.min()} to {values.max()}, not from 0 to 255")
    return values.astype(np.uint8)


def _label_texts(values: np.ndarray) -> list[str]:
    """Returns labels `(n,)` or one-hot `(n, classes)` as the numbers of classes, as texts.

    Raises:
        ValueError: if they aren't whole numbers from 0.
    """
    are_numbers = np.isfinite(values).all()
    if are_numbers and values.ndim == 2 and values.shape[1] > 1:
        are_numbers = ((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all()
        values = values.argmax(1)
    if not are_numbers or values.min() < 0 or values.max() >= MAX_CLASSES or (values != np.floor(values)).any():
        raise ValueError("its labels are no numbers of classes; labels=none leaves them out")
    return list(map(str, values.reshape(-1).astype(np.int64).tolist()))


def _as_images(images: Tensor, request: SampleRequest) -> tuple[Tensor, list[str]]:
    """Returns images `(n, C, H, W)` in the range, the size and the channels asked for, and sentences for the user."""
    images, notes = _in_unit_range(images, request)
    if request.size is not None:
        images = _resized(images, request.size)
        request.refuse_other_shape(images.shape[1:])
    return request.with_channels(images), notes


def _in_unit_range(images: Tensor, request: SampleRequest) -> tuple[Tensor, list[str]]:
    """Returns floating-point images in [0, 1], from [0, 1] or [-1, 1], and says so if they changed.

    Raises:
        LabError: for values that belong to neither.
    """
    if images.dtype == torch.uint8:
        return images, []
    finite = images[images.isfinite()]
    if not len(finite):
        return images, []
    low = finite.min().item()
    high = finite.max().item()
    if low >= -SLACK and high <= 1 + SLACK:
        return images, []
    if -1 - SLACK <= low <= CLEARLY_NEGATIVE and high <= 1 + SLACK:
        note = f"{request.key}: values from {low:.2f} to {high:.2f} were taken for [-1, 1]."
        return (images + 1) / 2, [note]
    raise request.refusal(
        f": its values go from {low:.4g} to {high:.4g}.",
        "Save images as uint8, 0 to 255, or as floating-point numbers in [0, 1] or [-1, 1].",
        "invalid",
    )


def _resized(images: Tensor, size: int) -> Tensor:
    """Returns the centred square of images, resized as image files are (bicubic, with antialiasing)."""
    height, width = images.shape[2:]
    side = min(height, width)
    top = (height - side) // 2
    left = (width - side) // 2
    images = images[:, :, top : top + side, left : left + side]
    if side == size:
        return images
    blocks = []
    for block in images.split(BLOCK):
        resized = F.interpolate(block.float(), (size, size), mode="bicubic", antialias=True)
        if images.dtype == torch.uint8:
            resized = resized.round().clamp(0, 255).to(torch.uint8)
        blocks.append(resized)
    return torch.cat(blocks)
