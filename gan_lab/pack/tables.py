"""Reads tables of labels as people have them: with any separator, with or without a header, and CelebA's own files."""

import csv
import difflib
import io
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from gan_lab.core.errors import LabError
from gan_lab.core.io import MAX_TEXT, read_bytes
from gan_lab.core.terminal import printable
from gan_lab.pack.decoding import SUFFIXES
from gan_lab.pack.names import LANGUAGES, TEXT_ENCODINGS, decode_names, nfc

UTF8_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
# By their first bytes, files that are no tables.
NO_TABLES = {
    b"{": "is JSON",
    b"[": "is JSON",
    b"PK": "is a spreadsheet or an archive",
    b"\xd0\xcf\x11\xe0": "is a spreadsheet of an old Excel",
    b"\x89HDF": "is HDF5",
    b"MATLAB": "is a MATLAB file",
    b"\x93NUMPY": "is a NumPy array",
    b"<": "is a web page or XML",
}
SAMPLE_ROWS = 1000  # in which the column of names is looked for
MAX_LISTED = 10  # columns that a message lists

Row = tuple[int, list[str]]  # its number in the file, from 1, and its cells


class LabelTable(NamedTuple):
    """Labels by file name.

    Attributes:
        labels: by the file name, as it is in the table.
        notes: sentences about how it was read, for the user.
    """

    labels: dict[str, str]
    notes: list[str]


def read_table(path: Path, column: str | None, is_member: Callable[[str], bool]) -> LabelTable:
    """Reads a table of labels.

    Args:
        path: of a text with a row per image, and tabs, semicolons, commas or spaces between columns.
        column: the labels': a name in the header, or a number from 1; None if there is only one besides the file names.
        is_member: returns whether a text names an image of the source.

    Raises:
        LabError: if it can't be read, contradicts itself, or it isn't clear which column is meant.
    """
    if not path.is_file():
        raise LabError(
            f"labels={path} is no file.",
            "Use labels=folders, labels=none, or name a CSV file.",
            code="missing",
            key="labels",
        )
    text, notes = _read_text(path)
    try:
        return _parse(path, _rows(text), column, is_member, notes)
    except csv.Error as error:
        raise _unreadable(path, str(error)) from error


def _unreadable(path: Path, reason: str) -> LabError:
    hint = "Save it as CSV in UTF-8, with commas between columns."
    return LabError(f"{path} can't be read: {reason}.", hint, code="damaged", key="labels")


def _read_text(path: Path) -> tuple[str, list[str]]:
    """Returns a file's text, and a note if it isn't Unicode."""
    raw = read_bytes(path, MAX_TEXT)
    start = raw[:64].removeprefix(UTF8_MARK).lstrip()
    for signature, kind in NO_TABLES.items():
        if start.startswith(signature):
            raise LabError(
                f"{path} {kind}, not a table in a text file.",
                "Save it as CSV in UTF-8, with a file name and a label in each row.",
                code="unsupported",
                key="labels",
            )
    # Spreadsheets write UTF-16 or a byte order mark.
    if raw[:2] in UTF16_MARKS:
        try:
            return raw.decode("utf-16"), []
        except UnicodeDecodeError as error:
            raise _unreadable(path, str(error)) from error
    lines, encoding = decode_names(raw.removeprefix(UTF8_MARK).split(b"\n"), TEXT_ENCODINGS)
    text = "\n".join(lines)
    if encoding is None:
        return text, []
    return text, [
        f"{path} isn't in UTF-8; it was read as {LANGUAGES[encoding]}. If labels look wrong, save it as UTF-8."
    ]


def _rows(text: str) -> Iterator[Row]:
    """Splits a text into rows without empty ones; the first ones decide what separates the columns."""
    lines = io.StringIO(text, newline="")
    first_line = lines.readline()
    number = 1
    stated = re.fullmatch("sep=(.)\\s*", first_line)  # Excel's own
    if stated or re.fullmatch("\\s*[0-9]+\\s*", first_line):
        # CelebA's own files begin with the number of images.
        first_line = lines.readline()
        number = 2
    separator = stated[1] if stated else _separator(first_line)
    if separator is None:
        second_line = lines.readline()
        if len(second_line.split()) == len(first_line.split()) + 1:
            # CelebA's own: nothing stands above the file names.
            first_line = f"image {first_line}"
        rows: Iterator[list[str]] = (line.split() for line in itertools.chain([first_line, second_line], lines))
    else:
        rows = csv.reader(itertools.chain([first_line], lines), delimiter=separator, strict=True)
    for position, row in enumerate(rows, start=number):
        cells = [_clean(cell) for cell in row]
        if any(cells):
            yield position, cells


def _clean(cell: str) -> str:
    text = cell.strip()
    # Most are numbers: of 40 columns of 200,000 rows.
    return text if text.isascii() and text.isprintable() else nfc(printable(text))


def _separator(line: str) -> str | None:
    """Returns what separates the columns of a line; None for spaces."""
    unquoted = re.sub('"[^"]*"', "", line)
    for separator in "\t;,":
        if separator in unquoted:
            return separator
    return None


def _parse(
    path: Path, rows: Iterator[Row], column: str | None, is_member: Callable[[str], bool], notes: list[str]
) -> LabelTable:
    """Reads rows; see `read_table`."""
    sample = list(itertools.islice(rows, SAMPLE_ROWS))
    header = None
    if sample and not _is_of_an_image(sample[0][1], is_member):
        header = sample.pop(0)[1]
    elif sample:
        notes.append(f"{path} has no header: its first row is of an image.")
    if not sample:
        raise LabError(
            f"{path} has no rows below its header.",
            "Its columns are file name and label.",
            code="missing",
            key="labels",
        )
    width = len(header or sample[0][1])
    if width < 2:
        raise LabError(
            f"{path}, row {sample[0][0]}: 1 columns, where two have to be.",
            "Its columns are file name and label, with a comma between.",
            code="invalid",
            key="labels",
        )
    names = _name_column([cells for _, cells in sample], width, is_member)
    values = _label_column(path, header, width, names, column)
    labels: dict[str, str] = {}
    for number, cells in itertools.chain(sample, rows):
        name, label = _name_and_label(path, number, cells, width, names, values)
        if labels.setdefault(name, label) != label:
            raise LabError(
                f"{path}, row {number}: {name} had another label before.",
                "Leave one of the rows out.",
                code="conflict",
                key="labels",
            )
    title = header[values] if header else ""
    if width > 2:
        notes.append(f"Labels are column {values + 1}{f', {title},' if title else ''} of {path}.")
    if title and set(labels.values()) == {"1", "-1"}:
        words = {"1": title, "-1": f"not {title}"}
        labels = {name: words[label] for name, label in labels.items()}
    return LabelTable(labels, notes)


def _is_of_an_image(cells: Sequence[str], is_member: Callable[[str], bool]) -> bool:
    """Returns whether a row is about an image, so that it can't be a header."""
    return is_member(cells[0]) or any(PurePosixPath(cell).suffix.lower() in SUFFIXES for cell in cells)


def _name_column(rows: Sequence[Sequence[str]], width: int, is_member: Callable[[str], bool]) -> int:
    """Returns the column that names images in the most rows; if none does, the first one."""
    matches = [sum(len(cells) > column and is_member(cells[column]) for cells in rows) for column in range(width)]
    return matches.index(max(matches))


def _label_column(path: Path, header: list[str] | None, width: int, names: int, column: str | None) -> int:
    """Returns the place of the column with the labels.

    Raises:
        LabError: if there is no such column, or none is named and there are several.
    """
    # Columns without a title, as pandas writes its index, are no labels.
    possible = [place for place in range(width) if place != names and (header is None or header[place])]
    titles = [header[place] if header else str(place + 1) for place in possible]
    listed = ", ".join(titles[:MAX_LISTED]) + (", …" if len(titles) > MAX_LISTED else "")
    if column is None:
        if len(possible) == 1:
            return possible[0]
        raise LabError(
            f"{path} has {len(possible)} columns that may be the labels: {listed}.",
            f"Name one of them: column={titles[0] if titles else '…'}.",
            code="missing",
            key="column",
        )
    if nfc(column) in titles:
        return possible[titles.index(nfc(column))]
    if column.isascii() and column.isdecimal() and int(column[:6]) - 1 in possible:
        return int(column[:6]) - 1
    similar = difflib.get_close_matches(nfc(column), titles, n=1, cutoff=0.5)
    hint = f"Did you mean {similar[0]}? It has {listed}." if similar else f"It has {listed}."
    raise LabError(f"{path} has no column {column} with labels.", hint, code="unknown", key="column")


def _name_and_label(path: Path, number: int, cells: list[str], width: int, names: int, values: int) -> tuple[str, str]:
    """Returns the file name and the label of a row.

    Raises:
        LabError: if it has too few or too many cells, or one of the two is empty.
    """
    # Spreadsheets write empty cells at the end.
    if len(cells) < width or any(cells[width:]) or not cells[names] or not cells[values]:
        columns = "two filled ones" if width == 2 else f"{width} with a name and a label"
        raise LabError(
            f"{path}, row {number}: {len(cells)} columns, where {columns} have to be.",
            "Put cells that contain the separator into quotation marks, or leave the row out.",
            code="invalid",
            key="labels",
        )
    return cells[names].replace("\\", "/").removeprefix("./"), cells[values]
