"""Packs images from an archive, a folder or the book's HDF5 into one HDF5 file, for fast training (S14 to S16)."""

import itertools
import os
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from gan_lab.core.command_line import command, setting
from gan_lab.core.errors import LabError, refused_by_storage
from gan_lab.core.run_folder import RemovedError, identity
from gan_lab.core.terminal import join_lines, printable, progress_bar
from gan_lab.data.hdf5_writer import ImageBuffer, Origin, megabytes, write_packed
from gan_lab.data.packed_file import format_shape
from gan_lab.pack.archives import Member, Source, natural_key, open_source
from gan_lab.pack.decoding import SUFFIXES, Form, NumberedContent, Result, decode_with
from gan_lab.pack.labelling import Labelling, assign_labels, classes_of, format_class_counts, hold_out

if TYPE_CHECKING:
    from tqdm import tqdm

# What a worker gets per task:
BLOCK_IMAGES = 32  # so many images at most
BLOCK_BYTES = 2**23  # and about so many bytes
MAX_LISTED = 5  # bad images and kinds of other files that the report names


class PackSettings(NamedTuple):
    """The keys of conf/pack.yaml; `gan_lab.config.schema` bounds them."""

    source: str
    target: str
    size: int | None
    crop: str
    limit: int | None
    color: str
    background: str
    labels: str
    column: str | None
    holdout: float
    workers: int
    max_bad: float
    compress: bool


class Pixels(Protocol):
    """What takes decoded images, each at its place, as `gan_lab.data.hdf5_writer.ImageBuffer` does."""

    def put(self, place: int, image: np.ndarray) -> None:
        """Stores an image `(H, W, C)`, uint8."""


class Packed(NamedTuple):
    """What was packed, for the report.

    Attributes:
        images: how many are in the target.
        heldout: how many of them are held out.
        shape: of an image, `(H, W, C)`.
        labels: the name of each one's class, or None.
        classes: number of classes.
        bad: by place among the members, why an image can't be read.
        note: about 16-bit gray, for the user; empty if there is none.
    """

    images: int
    heldout: int
    shape: tuple[int, ...]
    labels: list[str] | None
    classes: int
    bad: dict[int, str]
    note: str


def pack(settings: PackSettings) -> str:
    """Makes the target, whole or not at all.

    The same source and settings give the same file, however many workers there are.

    Returns:
        A report for the user: what was packed, what wasn't, and what to do next.

    Raises:
        LabError: if the source, the labels or the target can't be used, or too many images can't be read.
    """
    started = time.perf_counter()
    form = Form.from_keys(settings.size, settings.crop, settings.color, settings.background)
    target = Path(settings.target).expanduser()
    if target.exists() or target.is_symlink():
        raise LabError(
            f"target={target} is there already.", "Remove it, or choose another name.", code="exists", key="target"
        )
    with closing(open_source(Path(settings.source).expanduser())) as source:
        every_member = source.members
        if not every_member:
            lines = [f"There is no image in {settings.source}.", *left_out_lines(source)]
            raise LabError(
                join_lines(lines),
                f"Images are recognised by the endings of their names: {', '.join(sorted(SUFFIXES))}.",
                code="missing",
                key="source",
            )
        chosen = _first(assign_labels(every_member, settings.labels, settings.column), settings.limit)
        packed = _pack_members(source, chosen, form, settings)
    seconds = time.perf_counter() - started
    lines = [
        f"Packed {packed.images:,} of {len(every_member):,} images from {settings.source}, "
        f"{format_shape(packed.shape)} each: {packed.images - packed.heldout:,} to train on, "
        f"{packed.heldout:,} held out."
    ]
    if packed.labels:
        lines.append(f"Classes: {packed.classes:,} ({format_class_counts(packed.labels)}).")
    lines += [*source.notes, *chosen.notes]
    if packed.note:
        lines.append(packed.note)
    if packed.bad:
        lines.append(f"Can't be read: {len(packed.bad):,}.")
        lines += reasons(packed.bad, chosen.members)
    lines += left_out_lines(source)
    size = megabytes(target.stat().st_size)
    images_per_second = len(chosen.members) / seconds
    lines.append(f"{target}: {size}, in {seconds:.1f} s, {images_per_second:,.0f} images a second.")
    lines.append(f"Train with it: {command('train.py', 'dataset=images', setting('data.path', target))}")
    return join_lines(lines)


def _first(labelling: Labelling, limit: int | None) -> Labelling:
    """Returns the first images up to the limit, with a note about what is left out."""
    members, labels, notes = labelling
    if limit is None or limit >= len(members):
        return labelling
    kept_labels = None
    lost_classes: list[str] = []
    if labels is not None:
        kept_labels = labels[:limit]
        lost_classes = sorted(set(labels) - set(kept_labels), key=natural_key)
    note = f"limit={limit} leaves out {len(members) - limit:,} images"
    if lost_classes:
        names = lost_classes[:MAX_LISTED]
        if len(lost_classes) > MAX_LISTED:
            names.append("…")
        note += f", all of {', '.join(names)} among them"
    note += "; limit=null takes all."
    return Labelling(members[:limit], kept_labels, [*notes, note])


def _pack_members(source: Source, chosen: Labelling, form: Form, settings: PackSettings) -> Packed:
    """Decodes the images and writes the target.

    Raises:
        LabError: if too many images can't be read, none can be held out, or the target can't be written.
    """
    members = chosen.members
    target = Path(settings.target).expanduser()
    origin = Origin(printable(source.path.absolute().name), source.sha256(), _shaping_settings(settings))
    with _target_folder(target), ImageBuffer(target, len(members)) as images:
        bad, note = decode_members(source, members, form, images, settings.max_bad, settings.workers)
        good_places = np.array([place for place in range(len(members)) if place not in bad])
        names = [members[place].name for place in good_places]
        labels = None
        classes: list[str] = []
        numbers = None
        if chosen.labels is not None:
            labels = [chosen.labels[place] for place in good_places]
            classes, numbers = classes_of(labels)
        is_heldout = hold_out(names, labels, settings.holdout)
        if not is_heldout.any():
            raise LabError(
                "None can be held out: no class has two images.",
                "Pack more, or use labels=none.",
                code="conflict",
                key="holdout",
            )
        write_packed(images, good_places, is_heldout, names, numbers, classes, origin, settings.compress)
    assert images.shape is not None
    return Packed(len(good_places), int(is_heldout.sum()), images.shape, labels, len(classes), bad, note)


def decode_members(
    source: Source, members: Sequence[Member], form: Form, images: Pixels, max_bad: float, workers: int = 0
) -> tuple[dict[int, str], str]:
    """Fills `images`.

    16-bit gray is read twice: which value is white is known when all images were seen.

    Args:
        source: has the members.
        members: the images.
        form: what they become.
        images: where they go, each to the place that its member has among the members.
        max_bad: share of images that may be unreadable.
        workers: number of processes; 0 and 1: in this one.

    Returns:
        The places of images that can't be read, each with the reason, in the order of the places; and a note about
        16-bit gray, empty if there is none.

    Raises:
        LabError: if the share of bad ones is larger than `max_bad`, or none can be read.
    """
    bad: dict[int, str] = {}
    whites: dict[int, int] = {}
    note = ""
    with progress_bar("reading images", len(members), "image") as bar:
        results = _read_and_decode(source, dict(enumerate(members)), form, workers)
        _sort_results(results, source, members, max_bad, images, bad, whites, bar)
        if whites:
            white = max(whites.values())
            deep_members = {place: members[place] for place in sorted(whites)}
            results = _read_and_decode(source, deep_members, form._replace(white=white), workers)
            _sort_results(results, source, members, max_bad, images, bad, {}, bar)
            note = (
                f"{len(whites):,} images are 16-bit gray, with values of {white.bit_length()} bits: "
                f"{white:,} becomes white in all of them."
            )
    return dict(sorted(bad.items())), note


def _read_and_decode(
    source: Source, members: Mapping[int, Member], form: Form, workers: int
) -> Generator[Result, None, None]:
    """Gives the places of images, each with its pixels or what `decode_with` says instead; those not read come late."""
    places = {member.name: place for place, member in members.items()}
    unread: list[Result] = []

    def contents() -> Iterator[NumberedContent]:
        for member, content in source.read(list(members.values())):
            place = places[member.name]
            if isinstance(content, Exception):
                unread.append((place, str(content) or type(content).__name__))
            else:
                yield place, content

    for result in decode_with(workers, _blocks(contents()), form):
        yield result
        yield from unread
        unread.clear()
    yield from unread


def _sort_results(
    results: Generator[Result, None, None],
    source: Source,
    members: Sequence[Member],
    max_bad: float,
    images: Pixels,
    bad: dict[int, str],
    whites: dict[int, int],
    bar: "tqdm[Any]",
) -> None:
    """Puts pixels into `images`, and into `bad` and `whites` what comes instead of them, by place.

    Raises:
        LabError: if the share of bad ones is larger than `max_bad`, or none can be read.
    """
    # Closed here, since it may end early: worker processes end with it.
    with closing(results):
        for place, result in results:
            if isinstance(result, int):
                whites[place] = result
                continue
            bar.update()
            if not isinstance(result, str):
                images.put(place, result)
                continue
            bad[place] = printable(result)
            if len(bad) > max_bad * len(members):
                break
    if len(bad) == len(members):
        lines = [f"None of {len(bad):,} images can be read:", *reasons(bad, members)]
        raise LabError(join_lines(lines), code="damaged", key=source.key)
    if len(bad) > max_bad * len(members):
        first_line = f"More than max_bad={max_bad:g} of {len(members):,} images can't be read:"
        raise LabError(
            join_lines([first_line, *reasons(bad, members)]),
            "If you want to use the others, allow more: a larger max_bad=…",
            code="damaged",
            key="max_bad",
        )


def _blocks(contents: Iterable[NumberedContent]) -> Iterator[list[NumberedContent]]:
    """Groups images into blocks, each for one call of a worker."""
    block: list[NumberedContent] = []
    size = 0
    for place, content in contents:
        block.append((place, content))
        size += len(content) if isinstance(content, bytes) else content.nbytes
        if len(block) == BLOCK_IMAGES or size >= BLOCK_BYTES:
            yield block
            block = []
            size = 0
    if block:
        yield block


@contextmanager
def _target_folder(target: Path) -> Iterator[None]:
    """Makes the target's folder, and removes what it made again if there is an error.

    Raises:
        LabError: for what the disk refuses.
        RemovedError: if the folder was removed meanwhile.
    """
    made = None
    missing_folders = list(itertools.takewhile(lambda folder: not folder.exists(), target.absolute().parents))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = identity(target.parent)
        yield
    except BaseException as error:
        is_removed = made is not None and made != identity(target.parent)
        for folder in missing_folders:
            with suppress(OSError):
                folder.rmdir()
        if is_removed and isinstance(error, OSError):
            raise RemovedError(target.parent) from error
        if isinstance(error, OSError) and refused_by_storage(error):
            reason = os.strerror(error.errno or 0)
            raise LabError(f"target={target} can't be written: {reason}.", code="storage", key="target") from error
        raise


def _shaping_settings(settings: PackSettings) -> dict[str, Any]:
    """Returns the keys that shape what is packed; of the path to a CSV file only its name."""
    labels = settings.labels
    if labels not in ("none", "folders"):
        labels = printable(Path(labels).name)
    return {
        "size": settings.size,
        "crop": settings.crop,
        "limit": settings.limit,
        "color": settings.color,
        "background": settings.background,
        "holdout": settings.holdout,
        "labels": labels,
        "column": settings.column,
    }


def reasons(bad: dict[int, str], members: Sequence[Member]) -> list[str]:
    """Returns a line for each of the first images that can't be read."""
    lines = []
    for place, reason in sorted(bad.items())[:MAX_LISTED]:
        lines.append(f"  {members[place].name[:80]}: {reason[:120]}")
    if len(bad) > MAX_LISTED:
        lines.append("  …")
    return lines


def left_out_lines(source: Source, verb: str = "packed") -> list[str]:
    """Returns a line for each of the most frequent kinds of things that aren't packed, or read."""
    kinds = source.left_out.most_common()
    lines = [f"Not {verb}: {count:,} {description}." for description, count in kinds[:MAX_LISTED]]
    others = sum(count for _, count in kinds[MAX_LISTED:])
    if others:
        lines.append(f"Not {verb}: {others:,} of {len(kinds) - MAX_LISTED:,} other kinds.")
    return lines
