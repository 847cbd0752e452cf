"""Reads samples that any program made: image files, NumPy arrays or packed files, in the form that a dataset has."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import PurePosixPath

import h5py
import numpy as np
import torch
from torch import Tensor

from gan_lab.core.errors import LabError
from gan_lab.core.terminal import join_lines
from gan_lab.data import hdf5_safety
from gan_lab.data.dataset import Dataset, Part
from gan_lab.data.hdf5 import images as packed_images
from gan_lab.data.layout import FORMAT
from gan_lab.data.packed_file import format_shape
from gan_lab.pack.archives import Member, Source, open_source
from gan_lab.pack.array_samples import read_arrays
from gan_lab.pack.arrays import is_array_file
from gan_lab.pack.decoding import SUFFIXES, Form
from gan_lab.pack.labelling import assign_labels, classes_of, hold_out
from gan_lab.pack.packer import decode_members, left_out_lines, reasons
from gan_lab.pack.sample_request import BLOCK, SampleRequest, SampleSet

HELDOUT = 0.2  # share of real samples that are held out
FEWEST_REAL = 10
MAX_LISTED = 5  # classes that a note names


def read_samples(request: SampleRequest) -> SampleSet:
    """Reads samples.

    Raises:
        LabError: if the file is damaged or has none, if they have another form than asked for, or are too many.
    """
    if is_array_file(request.path):
        return read_arrays(request)
    if _is_packed(request):
        return _read_packed(request)
    return _read_images(request)


def read_real(request: SampleRequest) -> tuple[Dataset, list[str]]:
    """Makes a dataset of real samples, of which `HELDOUT` are held out; a packed file has its own held-out part.

    Returns:
        The dataset, with classes if there are several, and sentences for the user.

    Raises:
        LabError: see `read_samples`; if there are fewer than `FEWEST_REAL`, or some aren't finite.
    """
    if _is_packed(request):
        request.refuse_size()
        dataset = packed_images(str(request.path))
        if request.labels == "none" or len(dataset.classes) < 2:
            dataset = replace(dataset, classes=[])
        return dataset, []
    samples = read_samples(request)
    values = samples.values
    if len(values) < FEWEST_REAL:
        raise request.refusal(
            f" has {len(values)} samples, of which nothing can be held out.",
            f"Name {FEWEST_REAL} or more.",
            "unsupported",
        )
    if values.is_floating_point() and not values.isfinite().all():
        raise request.refusal(" has samples that are NaN or infinite.", "Leave them out.", "invalid")
    are_images = values.ndim == 4
    labels = samples.labels if are_images else None
    # One class says nothing about a sample.
    if labels is not None and len(set(labels)) < 2:
        labels = None
    classes: list[str] = []
    numbers = None
    if labels is not None:
        classes, class_numbers = classes_of(labels)
        numbers = torch.from_numpy(class_numbers)
    is_heldout = torch.from_numpy(hold_out(samples.names, labels, HELDOUT))
    parts = []
    for is_in_part in (~is_heldout, is_heldout):
        parts.append(Part(values[is_in_part], None if numbers is None else numbers[is_in_part]))
    note = f"Of {len(values):,} real samples {len(parts[1]):,} are held out, chosen by their names."
    return Dataset(parts[0], parts[1], bounded=are_images, classes=classes), [*samples.notes, note]


def class_numbers_of(samples: SampleSet, classes: Sequence[str], insist: bool) -> tuple[Tensor | None, list[str]]:
    """Returns the classes of generated samples as the data number them.

    Args:
        samples: with or without labels.
        classes: of the data.
        insist: whether labels have to be there and to be classes of the data.

    Returns:
        `(n,)` int64; None if there are no labels, or other ones, and sentences for the user.

    Raises:
        LabError: if labels are insisted on, but some are no classes of the data.
    """
    if samples.labels is None:
        return None, []
    number_of_name = {name.casefold(): number for number, name in enumerate(classes)}
    numbers = []
    for label in samples.labels:
        number = number_of_name.get(label.casefold(), -1)
        # A number stands for a class whose name is another one: T-shirts are 0.
        if number < 0 and label.isdecimal() and len(label) < 6 and int(label) < len(classes):
            number = int(label)
        numbers.append(number)
    if min(numbers) >= 0:
        return torch.tensor(numbers), []
    label = samples.labels[numbers.index(-1)][:80]
    reason = f"{label} is no class of the data" if classes else "the data have no classes"
    if insist:
        raise LabError(
            f"The generated samples have labels, but {reason}.", "Say labels=none.", code="conflict", key="labels"
        )
    return None, [f"The labels of the generated samples aren't used: {reason}."]


def _is_packed(request: SampleRequest) -> bool:
    """Returns whether a file is one that `scripts/pack.py` made."""
    if not request.path.is_file():
        return False
    with request.path.open("rb") as start:
        if start.read(4) != b"\x89HDF":
            return False
    try:
        with h5py.File(request.path) as file:
            return hdf5_safety.read_text(file, "format") == FORMAT
    except (OSError, ValueError, RuntimeError):
        return False


def _read_packed(request: SampleRequest) -> SampleSet:
    """Reads the images of both parts of a packed file."""
    request.refuse_size()
    dataset = packed_images(str(request.path), memory=0)
    request.refuse_other_shape(dataset.shape)
    total = len(dataset.train) + len(dataset.heldout)
    chosen = request.chosen(total)
    request.refuse_too_many(len(chosen), dataset.shape)
    values = torch.empty(len(chosen), *dataset.shape, dtype=torch.uint8)
    numbers = torch.zeros(len(chosen), dtype=torch.int64)
    has_labels = bool(dataset.classes) and request.labels != "none"
    first = 0
    for part in (dataset.train, dataset.heldout):
        is_in_part = (chosen >= first) & (chosen < first + len(part))
        for places in is_in_part.nonzero().flatten().split(BLOCK):
            indices = chosen[places] - first
            values[places] = part.stored(indices)
            if has_labels:
                numbers[places] = part.labels_of(indices)
        first += len(part)
    labels = [dataset.classes[number] for number in numbers.tolist()] if has_labels else None
    return SampleSet(request.with_channels(values), labels, list(map(str, chosen.tolist())), total, [])


class _Images:
    """Decoded images `(H, W, 3)` in memory, each at its place; see `gan_lab.pack.packer.Pixels`."""

    def __init__(self, request: SampleRequest, count: int):
        self.request = request
        self.count = count
        self.values: np.ndarray | None = None

    def put(self, place: int, image: np.ndarray) -> None:
        if self.values is None:
            height, width, channels = image.shape
            self.request.refuse_other_shape((channels, height, width))
            self.request.refuse_too_many(self.count, image.shape)
            self.values = np.empty((self.count, *image.shape), np.uint8)
        shape = self.values.shape[1:]
        if image.shape != shape:
            raise self.request.refusal(
                f": its images have different sizes, {format_shape(shape[:2])} and {format_shape(image.shape[:2])}.",
                "Choose one size for all, for example size=64.",
                "conflict",
                "size",
            )
        self.values[place] = image


def _read_images(request: SampleRequest) -> SampleSet:
    """Reads image files of a folder or an archive, or datasets of the book's HDF5."""
    if request.shape is not None and len(request.shape) != 3:
        raise request.refusal(
            f" would have images, but the data are points of {format_shape(request.shape)} numbers.",
            f"Save the samples as an array of N × {format_shape(request.shape)}, by numpy.save.",
            "conflict",
        )
    with closing(open_source(request.path, request.key)) as source:
        every_member = source.members
        if not every_member:
            raise LabError(
                join_lines([f"There is no image in {request}.", *left_out_lines(source, "read")]),
                f"Images are recognised by the endings of their names: {', '.join(sorted(SUFFIXES))}.",
                code="missing",
                key=request.key,
            )
        members, every_label, notes = _labelled(source, every_member, request)
        chosen = request.chosen(len(members)).tolist()
        chosen_members = [members[place] for place in chosen]
        crop = "none" if request.size is None else "center"
        form = Form(request.size, crop, gray=False, background=(255, 255, 255))
        images = _Images(request, len(chosen))
        bad, note = decode_members(source, chosen_members, form, images, request.max_bad)
        notes += [*source.notes, *left_out_lines(source, "read")]
    if note:
        notes.append(note)
    if bad:
        notes += [f"Can't be read: {len(bad):,}.", *reasons(bad, chosen_members)]
    assert images.values is not None
    good = [place for place in range(len(chosen)) if place not in bad]
    pixels = images.values[good] if bad else images.values
    values = request.with_channels(torch.from_numpy(pixels).movedim(-1, 1).contiguous())
    labels = None if every_label is None else [every_label[chosen[place]] for place in good]
    names = [chosen_members[place].name for place in good]
    return SampleSet(values, labels, names, len(members), notes)


def _labelled(
    source: Source, members: list[Member], request: SampleRequest
) -> tuple[list[Member], list[str] | None, list[str]]:
    """Returns the images that are used, their labels, and sentences for the user."""
    folders = {PurePosixPath(member.name).parent for member in members}
    if request.labels == "none" or (request.labels == "auto" and len(folders) == 1):
        return members, None, []
    try:
        labelling = assign_labels(members, "folders")
    except LabError:
        if request.labels == "folders":
            raise
        return members, None, []
    classes = list(dict.fromkeys(labelling.labels or ()))
    if request.labels == "auto" and (len(classes) < 2 or len(labelling.members) < len(members)):
        return members, None, [f"{request.key}: its folders aren't classes of all images, so they aren't used."]
    names = ", ".join(classes[:MAX_LISTED]) + (", …" if len(classes) > MAX_LISTED else "")
    note = f"{request.key}: its folders are taken for classes ({names}); labels=none ignores them."
    return labelling.members, labelling.labels, [*labelling.notes, note]
