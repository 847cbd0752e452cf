"""Images in a zip, a tar, a folder or an HDF5 file of the book's layout, read in place: nothing is unpacked to disk.

Names are only names here, none is used as a path. Links, devices and pipes aren't followed, archives inside not opened.
"""

import bz2
import gzip
import hashlib
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast

import h5py
import numpy as np

from gan_lab.core.errors import LabError
from gan_lab.core.terminal import printable
from gan_lab.data import hdf5_safety
from gan_lab.data.layout import FORMAT, MAX_PIXELS
from gan_lab.pack.decoding import MAX_BYTES, SUFFIXES

ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"}
UNFOLDED = 200  # a compressed tar may be so many times larger inside; small ones may have a GiB in any case
HEADER = 2**20  # bytes of a tar's extended header, which tarfile reads at once

# What zipfile, tarfile, h5py and what they unfold with raise on damage.
DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, struct.error),
    *(OSError, EOFError, NotImplementedError, RuntimeError, ValueError, LookupError, OverflowError, TypeError),
)


class Member(NamedTuple):
    """What is an image by its name; `handle` is how its source finds it."""

    name: str
    handle: Any


class Source:
    """What can be packed.

    Attributes:
        path: where it lies.
        left_out: what is in it beside images, and how often.
    """

    def __init__(self, path: Path):
        self.path = path
        self.left_out: Counter[str] = Counter()
        self._found: dict[str, Any] = {}
        try:
            self._list()
        except BaseException as error:
            self.close()
            if not isinstance(error, DAMAGE):
                raise
            raise LabError(
                f"source={path} can't be read: {str(error) or type(error).__name__}.",
                "It may have been cut off on its way here: get it anew. Zip, tar, folder and HDF5 can be read.",
            ) from error

    @property
    def members(self) -> list[Member]:
        """Images, in natural order of their names (2.jpg before 10.jpg); no name comes twice."""
        return [Member(name, self._found[name]) for name in sorted(self._found, key=natural)]

    def read(self, members: Sequence[Member]) -> Iterator[tuple[Member, bytes | np.ndarray | Exception]]:
        """Each member with its bytes (of HDF5: its pixels) or with what went wrong, in the source's quickest order."""
        for member in members:
            try:
                yield member, self._content(member.handle)
            except DAMAGE as error:
                yield member, error

    def sha256(self) -> str:
        """Of the file; of a folder, of a list of its images as the command sha256sum writes it, sorted by name."""
        with self.path.open("rb") as file:
            return _sha256(file)

    def close(self) -> None:
        """Closes its file."""

    def _list(self) -> None:
        raise NotImplementedError

    def _content(self, handle: Any) -> bytes | np.ndarray:
        raise NotImplementedError

    def _add(self, name: str, handle: Any) -> None:
        name = printable(name)
        path = PurePosixPath(name)
        suffix = path.suffix.lower()
        if suffix in ARCHIVES:
            self.left_out["archives inside, which aren't opened"] += 1
        elif suffix not in SUFFIXES or path.name.startswith("._") or "__MACOSX" in path.parts:
            kind = "macOS's own" if suffix in SUFFIXES else suffix[:12] or "without a suffix"
            self.left_out[f"{kind}: no images, by their names"] += 1
        else:
            self.left_out["of a name that comes again: the last one counts"] += name in self._found
            self._found[name] = handle

    def _leave_link(self) -> None:
        self.left_out["links, devices or pipes, which aren't followed"] += 1


def open_source(path: Path) -> Source:
    """A zip, a tar (plain or compressed), a folder, or an HDF5 file with a dataset per image; told by its first bytes.

    Raises:
        LabError: if it is none of them, damaged or encrypted.
    """
    if path.is_dir():
        return _Folder(path)
    if not path.is_file():
        raise LabError(f"source={path} is no file and no folder.", "Name an archive, a folder or an HDF5 file.")
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"\x89HDF"):
        return _Book(path)
    return _Zip(path) if start.startswith(b"PK") else _Tar(path)


class _Zip(Source):
    def _list(self) -> None:
        self.archive = zipfile.ZipFile(self.path)
        for entry in self.archive.infolist():
            mode = stat.S_IFMT(entry.external_attr >> 16)
            if entry.is_dir():
                continue
            if mode not in (0, stat.S_IFREG):
                self._leave_link()
                continue
            self._add(entry.filename, entry)
            if entry.flag_bits & 1:
                raise LabError(f"source={self.path} is encrypted.", "Unpack it with its password and pack the folder.")

    def _content(self, handle: zipfile.ZipInfo) -> bytes:
        if handle.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile unfolds those whole
            raise NotImplementedError("its compression isn't the usual one (deflate)")
        with self.archive.open(handle) as file:
            return file.read(MAX_BYTES + 1)

    def close(self) -> None:
        if hasattr(self, "archive"):
            self.archive.close()


class _Bounded:
    """A file that tarfile reads, which is never read further, nor by more at once, than is allowed."""

    def __init__(self, file: BinaryIO, most: int):
        self.file, self.most, self.once = file, most, HEADER
        self.tell, self.seekable, self.close = file.tell, file.seekable, file.close

    def read(self, size: int) -> bytes:
        if size > self.once or self.tell() > self.most:
            raise ValueError("what is in it has no end")
        return self.file.read(size)

    def seek(self, position: int) -> int:
        if position > self.most:
            raise ValueError(f"it unfolds to more than {self.most:,} bytes")
        return self.file.seek(position)


class _Tar(Source):
    def _list(self) -> None:
        with self.path.open("rb") as file:
            start = file.read(6)
        kinds: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
        opener = next((opener for sign, opener in kinds.items() if start.startswith(sign)), open)
        size = self.path.stat().st_size
        self.file = _Bounded(opener(self.path, "rb"), max(UNFOLDED * size, 2**30))
        self.archive = tarfile.open(fileobj=cast(Any, self.file), mode="r:")  # noqa: SIM115
        before = -1
        for entry in self.archive:
            if entry.offset_data <= before:
                raise ValueError("its headers go round in circles")
            before = entry.offset_data
            if entry.isreg():
                self._add(entry.name, entry)
            elif not entry.isdir():
                self._leave_link()
        self.file.seek(self.archive.offset)
        if self.file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes any end for the end
            raise ValueError("its end is missing")
        while self.file.read(HEADER):  # up to the checksum of what was compressed
            pass
        self.file.once = max(HEADER, MAX_BYTES + 1)

    def read(self, members: Sequence[Member]) -> Iterator[tuple[Member, bytes | np.ndarray | Exception]]:
        yield from super().read(sorted(members, key=lambda member: member.handle.offset))  # unfolds once, not anew

    def _content(self, handle: tarfile.TarInfo) -> bytes:
        file = self.archive.extractfile(handle)
        assert file is not None  # as of every regular member
        return file.read(MAX_BYTES + 1)

    def close(self) -> None:
        if hasattr(self, "file"):
            self.file.close()


class _Folder(Source):
    def _list(self) -> None:
        for folder, names, files in os.walk(self.path, onerror=_raise):
            for name in (*names, *files):
                path = Path(folder, name)
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode):
                    self._add(path.relative_to(self.path).as_posix(), path)
                elif not stat.S_ISDIR(mode):
                    self._leave_link()

    def _content(self, handle: Path) -> bytes:
        with handle.open("rb") as file:
            return file.read(MAX_BYTES + 1)

    def sha256(self) -> str:
        lines = hashlib.sha256()
        for name in sorted(self._found):
            with self._found[name].open("rb") as file:
                lines.update(f"{_sha256(file)}  {name}\n".encode())
        return lines.hexdigest()


class _Book(Source):
    """HDF5 as in the book: in a group, a dataset `(H, W, 3)` of bytes per image."""

    def _list(self) -> None:
        self.size = self.path.stat().st_size
        self.file = h5py.File(self.path, "r")
        if self._is_packed():
            raise LabError(
                f"source={self.path} is packed already.", f"python train.py dataset=images data.path={self.path}"
            )
        for name, dataset in hdf5_safety.datasets(self.file):
            plan = dataset.id.get_create_plist()
            if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
                self._leave_link()
            elif dataset.dtype != np.uint8 or dataset.ndim != 3 or dataset.shape[2] != 3:
                self.left_out["datasets that aren't (height, width, 3) of uint8"] += 1
            else:
                self._add(name, name)  # an open dataset needs 14 kB

    def _is_packed(self) -> bool:
        try:
            return hdf5_safety.text(self.file, "format") == FORMAT
        except ValueError:  # someone else's attribute
            return False

    def _content(self, handle: str) -> np.ndarray:
        return hdf5_safety.whole(self.file[handle], 3 * MAX_PIXELS, self.size)

    def close(self) -> None:
        if hasattr(self, "file"):
            self.file.close()


def natural(name: str) -> tuple[Any, ...]:
    """A key to sort names by: as texts, but the numbers in them as numbers."""
    parts: list[Any] = re.split("([0-9]+)", name)
    for place in range(1, len(parts), 2):
        digits = parts[place].lstrip("0")
        parts[place] = (len(digits), digits)
    return (*parts, name)


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def _raise(error: OSError) -> None:
    raise error
