"""Images from an archive, a folder or the book's HDF5 into one HDF5 file, which training reads fast (S14 to S16)."""

import itertools
import os
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from gan_lab.core.errors import LabError, refused_by_storage
from gan_lab.core.terminal import join_lines, printable
from gan_lab.data.hdf5_writer import Rows, megabytes, write
from gan_lab.pack.archives import Member, Source, natural, open_source
from gan_lab.pack.decoding import SUFFIXES, Content, Form, decode_with
from gan_lab.pack.labelling import classes_of, counted, hold_out, label

BLOCK = 32  # images, at most, that a worker gets at once,
BLOCK_BYTES = 2**23  # and about so many bytes
LISTED = 5  # bad images and kinds of other files that the report names


class PackSettings(NamedTuple):
    """What is asked for; the keys of conf/pack.yaml, bounded by gan_lab.config.schema."""

    source: str
    target: str
    size: int | None
    crop: str
    limit: int | None
    color: str
    background: str
    labels: str
    holdout: float
    workers: int
    max_bad: float
    compress: bool


def pack(request: PackSettings) -> str:
    """Makes the target, whole or not at all, and says what is in it, what isn't, and what to do next.

    The same source and settings give the same file, however many workers there are.

    Raises:
        LabError: if the source, the labels or the target can't be used, or too many images can't be read.
    """
    started = time.perf_counter()
    form = Form.of(request.size, request.crop, request.color, request.background)
    source_path, target = Path(request.source), Path(request.target)
    if target.exists() or target.is_symlink():
        raise LabError(f"target={target} is there already.", "Remove it, or choose another name.")
    with closing(open_source(source_path)) as source:
        found = source.members
        if not found:
            raise LabError(
                join_lines([f"There is no image in {source_path}.", *_other_lines(source)]),
                f"Images are told by the endings of their names: {', '.join(sorted(SUFFIXES))}.",
            )
        members, labels, notes = label(found, request.labels)
        notes += _limit_notes(members, labels, request.limit)
        members, labels = members[: request.limit], labels and labels[: request.limit]
        about = {
            "source": printable(source_path.absolute().name),
            "source_sha256": source.sha256(),
            "settings": _settings(request),
        }
        with _storing(target), Rows(target, len(members)) as rows:
            bad = _decode(source, members, form, request, rows)
            good = np.array([place for place in range(len(members)) if place not in bad])
            names = [members[place].name for place in good]
            labels = labels and [labels[place] for place in good]
            classes, numbers = classes_of(labels) if labels else ([], None)
            held = hold_out(names, labels, request.holdout)
            if not held.any():
                raise LabError("None can be held out: no class has two images.", "Pack more, or say labels=none.")
            write(rows, good, held, names, numbers, {**about, "classes": classes}, request.compress)
    assert rows.shape is not None
    seconds = time.perf_counter() - started
    size, pace = megabytes(target.stat().st_size), len(members) / seconds
    lines = [
        f"Packed {len(good):,} of {len(found):,} images from {source_path}, {' × '.join(map(str, rows.shape))} each: "
        f"{sum(~held):,} to train on, {sum(held):,} held out.",
        *([f"Classes: {len(classes):,} ({counted(labels)})."] if labels else []),
        *notes,
        *([f"Can't be read: {len(bad):,}.", *_reasons(bad, members)] if bad else []),
        *_other_lines(source),
        f"{target}: {size}, in {seconds:.1f} s, {pace:,.0f} images a second.",
        f"Train with it: python train.py dataset=images {shlex.quote(f'data.path={target}')}",
    ]
    return join_lines(lines)


def _decode(source: Source, members: Sequence[Member], form: Form, request: PackSettings, rows: Rows) -> dict[int, str]:
    """Fills `rows`; gives the places of images that can't be read, each with the reason.

    Raises:
        LabError: if their share is past `max_bad`, or none can be read.
    """
    places = {member.name: place for place, member in enumerate(members)}
    bad: dict[int, str] = {}

    def contents() -> Iterator[Content]:
        for member, content in source.read(members):
            if isinstance(content, Exception):
                bad[places[member.name]] = printable(str(content) or type(content).__name__)
                bar.update()
            else:
                yield places[member.name], content

    with tqdm(total=len(members), desc="packing", unit="image", disable=None) as bar:
        for place, result in decode_with(request.workers, _blocks(contents()), form):
            bar.update()
            if isinstance(result, str):
                bad[place] = printable(result)
            else:
                rows.put(place, result)
            if len(bad) > request.max_bad * len(members):
                break
    if len(bad) == len(members):
        raise LabError(join_lines([f"None of {len(bad):,} images can be read:", *_reasons(bad, members)]))
    if len(bad) > request.max_bad * len(members):
        share = f"More than max_bad={request.max_bad:g} of {len(members):,} images can't be read:"
        raise LabError(join_lines([share, *_reasons(bad, members)]), "If that is as it should be: a larger max_bad=…")
    return dict(sorted(bad.items()))


def _blocks(contents: Iterable[Content]) -> Iterator[list[Content]]:
    block: list[Content] = []
    size = 0
    for place, content in contents:
        block.append((place, content))
        size += len(content) if isinstance(content, bytes) else content.nbytes
        if len(block) == BLOCK or size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


@contextmanager
def _storing(target: Path) -> Iterator[None]:
    """Makes the target's folder, removes it again if there is no target, and tells what the disk refuses."""
    made = list(itertools.takewhile(lambda folder: not folder.exists(), target.absolute().parents))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError) and refused_by_storage(error):
            raise LabError(f"target={target} can't be written: {os.strerror(error.errno or 0)}.") from error
        raise


def _settings(request: PackSettings) -> dict[str, Any]:
    """The keys that shape what is packed."""
    shaping = ("size", "crop", "limit", "color", "background", "holdout")
    by = request.labels if request.labels in ("none", "folders") else printable(Path(request.labels).name)
    return {**{key: getattr(request, key) for key in shaping}, "labels": by}


def _limit_notes(members: Sequence[Member], labels: Sequence[str] | None, limit: int | None) -> list[str]:
    if limit is None or limit >= len(members):
        return []
    lost = sorted(set(labels or ()) - set((labels or ())[:limit]), key=natural)
    classes = f", all of {', '.join([*lost[:LISTED], *['…'] * (len(lost) > LISTED)])} among them" * bool(lost)
    return [f"limit={limit} leaves out {len(members) - limit:,} images{classes}; limit=null takes all."]


def _reasons(bad: dict[int, str], members: Sequence[Member]) -> list[str]:
    lines = [f"  {members[place].name[:80]}: {reason[:120]}" for place, reason in sorted(bad.items())[:LISTED]]
    return [*lines, *["  …"] * (len(bad) > LISTED)]


def _other_lines(source: Source) -> list[str]:
    return [f"Not packed: {count:,} {what}." for what, count in source.left_out.most_common(LISTED) if count]
