"""Decides which class an image is of, by its folder or by a CSV file, and which images are held out."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from gan_lab.core.errors import LabError
from gan_lab.core.io import MAX_TEXT, read_bytes
from gan_lab.core.terminal import printable
from gan_lab.pack.archives import Member, natural_key

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Labelling(NamedTuple):
    """The images to pack, with their classes.

    Attributes:
        members: the images.
        labels: the name of each one's class; None if nothing is known.
        notes: sentences for the user.
    """

    members: list[Member]
    labels: list[str] | None
    notes: list[str]


def assign_labels(members: Sequence[Member], labels: str) -> Labelling:
    """Labels the images of a source.

    Args:
        members: the images.
        labels: the configuration's key: "folders", each image's last folder; "none"; or the path of a CSV file, UTF-8,
            with a header line and two columns, file name and label. A file name may leave out folders at its beginning.
            Images that the file doesn't name are left out.

    Raises:
        LabError: for an image in no folder; for a CSV file that can't be read, contradicts itself, or names no image.
    """
    if labels == "none":
        return _without_labels(members)
    if labels == "folders":
        return _by_folder(members)
    return _by_table(members, labels)


def _without_labels(members: Sequence[Member]) -> Labelling:
    folders = {PurePosixPath(member.name).parent for member in members}
    notes = []
    if len(folders) > 1:
        notes.append(f"They lie in {len(folders):,} folders; labels=folders would make classes of them.")
    return Labelling(list(members), None, notes)


def _by_folder(members: Sequence[Member]) -> Labelling:
    class_names = []
    for member in members:
        if "/" not in member.name.strip("/"):
            raise LabError(
                f"labels=folders, but {member.name} lies in no folder.",
                "Use labels=none, or name a CSV file.",
                code="conflict",
                key="labels",
            )
        class_names.append(PurePosixPath(member.name).parent.name)
    return Labelling(list(members), class_names, [])


def _by_table(members: Sequence[Member], table_path: str) -> Labelling:
    table = _read_table(Path(table_path))
    labelled_members = []
    class_names = []
    member_of_row: dict[str, str] = {}
    for member in members:
        row = _matching_row(member.name, table)
        if row is None:
            continue
        if row in member_of_row:
            raise LabError(
                f"{table_path}: {row} may be {member_of_row[row]} or {member.name}.",
                "Write names with their folders, as the source does.",
                code="conflict",
                key="labels",
            )
        member_of_row[row] = member.name
        labelled_members.append(member)
        class_names.append(table[row])
    if members and not labelled_members:
        raise LabError(
            f"{table_path} names none of the images, as {members[0].name}.",
            "Its first column has to hold names.",
            code="conflict",
            key="labels",
        )
    notes = []
    unlabelled = len(members) - len(labelled_members)
    if unlabelled:
        notes.append(f"{unlabelled:,} without a label in {table_path} are left out.")
    unused_rows = len(table) - len(member_of_row)
    if unused_rows:
        notes.append(f"{unused_rows:,} rows of {table_path} name no image.")
    return Labelling(labelled_members, class_names, notes)


def _matching_row(name: str, table: dict[str, str]) -> str | None:
    """Returns the longest ending of a member's name, without some of its folders, that the table has; None if none."""
    parts = name.split("/")
    for first in range(len(parts)):
        ending = "/".join(parts[first:])
        if ending in table:
            return ending
    return None


def hold_out(names: Sequence[str], labels: Sequence[str] | None, fraction: float) -> np.ndarray:
    """Chooses the images that are held out.

    Args:
        names: of all images. Images are ordered by the SHA-256 of their names, so that the choice doesn't depend on the
            order of the source.
        labels: the name of each one's class, or None for one class.
        fraction: of each class, between 0 and 1. A class of two or more images has at least one image on either side; a
            class of one image is trained on.

    Returns:
        Which are held out, `(N,)` bool.
    """
    places_of_class: dict[str, list[int]] = {}
    for place, class_name in enumerate(labels or [""] * len(names)):
        places_of_class.setdefault(class_name, []).append(place)
    is_heldout = np.zeros(len(names), dtype=bool)
    for places in places_of_class.values():
        count = min(max(1, round(fraction * len(places))), len(places) - 1)
        places.sort(key=lambda place: hashlib.sha256(names[place].encode()).digest())
        is_heldout[places[:count]] = True
    return is_heldout


def classes_of(labels: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Returns the names of the classes in natural order, and the class number of each image, `(N,)` int64."""
    classes = sorted(set(labels), key=natural_key)
    numbers = {name: number for number, name in enumerate(classes)}
    return classes, np.array([numbers[name] for name in labels], dtype=np.int64)


def _read_table(path: Path) -> dict[str, str]:
    """Reads labels by file name from a CSV file.

    Raises:
        LabError: if it can't be read, or contradicts itself.
    """
    if not path.is_file():
        raise LabError(
            f"labels={path} is no file.",
            "Use labels=folders, labels=none, or name a CSV file.",
            code="missing",
            key="labels",
        )
    raw = read_bytes(path, MAX_TEXT)
    # Spreadsheets write UTF-16 or a byte order mark.
    encoding = "utf-16" if raw[:2] in UTF16_MARKS else "utf-8-sig"
    try:
        text = raw.decode(encoding)
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabError(
            f"{path} can't be read: {error}.",
            "Save it as CSV in UTF-8, with commas between columns.",
            code="damaged",
            key="labels",
        ) from error
    table: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != 2 or not all(cell.strip() for cell in row):
            raise LabError(
                f"{path}, row {number}: {len(row)} columns, where two filled ones have to be.",
                "Its columns are file name and label, with a comma between, below a header line.",
                code="invalid",
                key="labels",
            )
        name = printable(row[0].strip())
        label = printable(row[1].strip())
        if table.setdefault(name.removeprefix("./"), label) != label:
            raise LabError(
                f"{path}, row {number}: {name} had another label before.",
                "Leave one of the rows out.",
                code="conflict",
                key="labels",
            )
    if not table:
        raise LabError(
            f"{path} has no rows below its header.",
            "Its columns are file name and label.",
            code="missing",
            key="labels",
        )
    return table


def format_class_counts(labels: Sequence[str], max_classes: int = 10) -> str:
    """Returns the first classes and how many images each has: "cat 20, dog 10"."""
    counts = Counter(labels)
    names = sorted(counts, key=natural_key)
    texts = [f"{name} {counts[name]:,}" for name in names[:max_classes]]
    if len(names) > max_classes:
        texts.append("…")
    return ", ".join(texts)
