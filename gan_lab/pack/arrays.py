"""Reads arrays of a stranger's .npy or .npz file: no more than is asked for and really there; nothing is unpickled."""

import io
import math
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from gan_lab.core.errors import LabError
from gan_lab.core.terminal import printable
from gan_lab.pack.archives import MAX_UNFOLDING, MIN_UNFOLDED_BOUND, READ_ERRORS

MAGIC = b"\x93NUMPY"
MAX_HEADER = 2**16  # bytes in which an array's header has to end
MAX_ARRAYS = 1000  # in an .npz file
MAX_AXES = 5
BLOCK_BYTES = 2**24  # bytes per read
MAX_FORTRAN = 2**30  # bytes of an array in Fortran's order, whose samples don't lie one after the other


class StoredArray(NamedTuple):
    """An array in a file.

    Attributes:
        path: of the file.
        member: of an .npz file, where it is in it; None in an .npy file.
        name: in the file, `printable`; "" in an .npy file.
        shape: `(N, …)`.
        dtype: of its values.
        fortran_order: whether the first axis varies fastest.
        offset: bytes before its values.
    """

    path: Path
    member: zipfile.ZipInfo | None
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool
    offset: int

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Reads rows of the array, `(n, …)`, at the ascending indices `(n,)`; floating-point ones as float32.

        Raises:
            ValueError and what else `READ_ERRORS` has: if they aren't there.
        """
        with _opened(self.path, self.member) as file:
            file.seek(self.offset)
            if self.fortran_order:
                return self._all_values(file)[rows].astype(self._read_dtype, copy=False)
            return self._rows(file, rows)

    @property
    def _read_dtype(self) -> np.dtype:
        return np.dtype(np.float32) if self.dtype.kind == "f" else self.dtype

    def _rows(self, file: BinaryIO, rows: np.ndarray) -> np.ndarray:
        row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])
        rows_per_block = max(1, BLOCK_BYTES // row_bytes)
        values = np.empty((len(rows), *self.shape[1:]), self._read_dtype)
        for start in range(0, self.shape[0], rows_per_block):
            first, last = np.searchsorted(rows, [start, start + rows_per_block])
            size = min(rows_per_block, self.shape[0] - start) * row_bytes
            if first == last:
                file.seek(size, io.SEEK_CUR)
                continue
            block = np.frombuffer(_read_exactly(file, size), self.dtype).reshape(-1, *self.shape[1:])
            values[first:last] = block[rows[first:last] - start]
        return values

    def _all_values(self, file: BinaryIO) -> np.ndarray:
        size = self.dtype.itemsize * math.prod(self.shape)
        if size > MAX_FORTRAN:
            raise ValueError("its values are in Fortran's order; save it by numpy.ascontiguousarray(…)")
        return np.frombuffer(_read_exactly(file, size), self.dtype).reshape(self.shape, order="F")


def is_array_file(path: Path) -> bool:
    """Returns whether a file is an .npy or an .npz file, by its content."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(len(MAGIC))
    if start == MAGIC:
        return True
    if not start.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except READ_ERRORS:
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def stored_arrays(path: Path, key: str) -> list[StoredArray]:
    """Returns the arrays of an .npy or .npz file, without their values.

    Args:
        path: of the file; see `is_array_file`.
        key: the configuration key that names it, for messages.

    Raises:
        LabError: if the file is damaged, claims more values than it can have, or holds something other than numbers.
    """
    name = ""
    try:
        members: list[zipfile.ZipInfo | None] = [None]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                members = list(archive.infolist())
        if len(members) > MAX_ARRAYS:
            raise ValueError(f"it has more than {MAX_ARRAYS:,} arrays")
        arrays = []
        for member in members:
            name = "" if member is None else printable(member.filename.removesuffix(".npy"))[:80]
            arrays.append(_stored_array(path, member, name))
        return arrays
    except READ_ERRORS as error:
        raise unreadable(path, key, name, error) from error


def unreadable(path: Path, key: str, name: str, error: BaseException) -> LabError:
    """Returns the error for an array that can't be read."""
    array = f", array {name}," if name else ""
    return LabError(
        f"{key}={path}{array} can't be read: {printable(str(error))[:200] or type(error).__name__}.",
        "Save it by numpy.save or numpy.savez, as uint8 or float32.",
        code="damaged",
        key=key,
    )


def _stored_array(path: Path, member: zipfile.ZipInfo | None, name: str) -> StoredArray:
    with _opened(path, member) as file:
        # Read first: numpy would read a header as long as the file claims.
        header = io.BytesIO(file.read(MAX_HEADER))
    shape, fortran_order, dtype = _parse_header(header)
    array = StoredArray(path, member, name, shape, dtype, fortran_order and len(shape) > 1, header.tell())
    if dtype.kind not in "buif":
        raise ValueError(f"its values are {printable(str(dtype))[:40]}, not numbers")
    if len(shape) > MAX_AXES or any(side < 0 for side in shape):
        raise ValueError("it has no possible shape")
    size = dtype.itemsize * math.prod(shape)
    if member is None and array.offset + size > path.stat().st_size:
        raise ValueError(f"it is cut short: {size:,} bytes are missing, at least in part")
    if member is not None and size > max(MAX_UNFOLDING * member.compress_size, MIN_UNFOLDED_BOUND):
        raise ValueError(f"it unfolds to {size:,} bytes, far more than an array of samples would")
    return array


def _parse_header(header: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Returns the shape, whether the first axis varies fastest, and the type; the header is read to its end.

    Raises:
        ValueError: if it isn't whole.
    """
    try:
        version = np.lib.format.read_magic(header)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return readers[version](header)
    except Exception as error:  # numpy reports damage by errors of many types
        raise ValueError("its header is damaged, or of another version than arrays of numbers have") from error


@contextmanager
def _opened(path: Path, member: zipfile.ZipInfo | None) -> Iterator[BinaryIO]:
    if member is None:
        with path.open("rb") as file:
            yield file
        return
    # The other methods are unfolded as a whole, whatever one asks for.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NotImplementedError("its compression isn't the usual one (deflate)")
    with zipfile.ZipFile(path) as archive, archive.open(member) as content:
        yield cast(BinaryIO, content)


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) != size:
        raise ValueError("it is cut short")
    return content
