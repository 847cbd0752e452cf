"""Which class an image is of: by its folder, or by a CSV file."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from gan_lab.core.errors import LabError
from gan_lab.core.io import MAX_TEXT, read_bytes
from gan_lab.core.terminal import printable
from gan_lab.pack.archives import Member, natural


def label(members: Sequence[Member], by: str) -> tuple[list[Member], list[str] | None, list[str]]:
    """The members to pack, the name of each one's class (None: nothing is known), and notes for the user.

    Args:
        by: "folders", each image's last folder; "none"; or a CSV file, UTF-8, with a header line and two columns, file
            name and label. A file name may leave out folders. Images that it doesn't name are left out.

    Raises:
        LabError: for an image in no folder; for a CSV file that can't be read, contradicts itself, or names no image.
    """
    if by == "none":
        folders = {PurePosixPath(member.name).parent for member in members}
        hint = [f"They lie in {len(folders):,} folders; labels=folders would make classes of them."]
        return list(members), None, hint * (len(folders) > 1)
    if by == "folders":
        if bare := [member.name for member in members if "/" not in member.name.strip("/")]:
            raise LabError(f"labels=folders, but {bare[0]} lies in no folder.", "Say labels=none, or name a CSV file.")
        return list(members), [PurePosixPath(member.name).parent.name for member in members], []
    table = _table(Path(by))
    chosen, labels = [], []
    used: dict[str, str] = {}
    for member in members:
        parts = member.name.split("/")
        row = next((end for n in range(len(parts)) if (end := "/".join(parts[n:])) in table), None)
        if row is None:
            continue
        if row in used:
            raise LabError(
                f"{by}: {row} may be {used[row]} or {member.name}.",
                "Write names with their folders, as the source does.",
            )
        used[row] = member.name
        chosen.append(member)
        labels.append(table[row])
    if members and not chosen:
        raise LabError(f"{by} names none of the images, as {members[0].name}.", "Its first column has to hold names.")
    missing, unknown = len(members) - len(chosen), len(table) - len(used)
    notes = [f"{missing:,} without a label in {by} are left out."] * bool(missing)
    return chosen, labels, notes + [f"{unknown:,} rows of {by} name no image."] * bool(unknown)


def hold_out(names: Sequence[str], labels: Sequence[str] | None, share: float) -> np.ndarray:
    """Which images are held out, `(N,)` bool: the share of each class, by SHA-256 of the names, whatever their order.

    A class of two or more has at least one image on either side; a single image is trained on.
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(labels or [""] * len(names)):
        places.setdefault(name, []).append(place)
    held = np.zeros(len(names), dtype=bool)
    for members in places.values():
        count = min(max(1, round(share * len(members))), len(members) - 1)
        members.sort(key=lambda place: hashlib.sha256(names[place].encode()).digest())
        held[members[:count]] = True
    return held


def classes_of(labels: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The classes' names in natural order, and each image's class number `(N,)`, int64."""
    classes = sorted(set(labels), key=natural)
    numbers = {name: number for number, name in enumerate(classes)}
    return classes, np.array([numbers[name] for name in labels], dtype=np.int64)


def _table(path: Path) -> dict[str, str]:
    """Labels by file name."""
    if not path.is_file():
        raise LabError(f"labels={path} is no file.", "Say labels=folders, labels=none, or name a CSV file.")
    raw = read_bytes(path, MAX_TEXT)
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabError(f"{path} can't be read: {error}.", "Save it as CSV in UTF-8, commas between columns.") from error
    table: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != 2 or not all(cell.strip() for cell in row):
            raise LabError(
                f"{path}, row {number}: {len(row)} columns, where two filled ones have to be.",
                "Its columns are file name and label, with a comma between, below a header line.",
            )
        name, value = (printable(cell.strip()) for cell in row)
        if table.setdefault(name.removeprefix("./"), value) != value:
            raise LabError(f"{path}, row {number}: {name} had another label before.", "Leave one of the rows out.")
    if not table:
        raise LabError(f"{path} has no rows below its header.", "Its columns are file name and label.")
    return table


def counted(labels: Sequence[str], most: int = 10) -> str:
    """The classes and how many images each has, the first ones of them."""
    counts = Counter(labels)
    shown = [f"{name} {counts[name]:,}" for name in sorted(counts, key=natural)[:most]]
    return ", ".join([*shown, "…"] if len(counts) > most else shown)
