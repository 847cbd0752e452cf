"""Reads images in a zip, a tar, a folder or an HDF5 file of the book's layout in place: nothing is unpacked to disk.

Names of members are never used as paths. Links, devices and pipes aren't followed, archives inside aren't opened.
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
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast

import h5py
import numpy as np

from gan_lab.core.command_line import command, setting
from gan_lab.core.errors import LabError
from gan_lab.core.terminal import printable
from gan_lab.data import hdf5_safety
from gan_lab.data.layout import FORMAT, MAX_PIXELS
from gan_lab.pack.decoding import MAX_BYTES, SUFFIXES
from gan_lab.pack.names import (
    LANGUAGES,
    MAX_PATH,
    TEXT_ENCODINGS,
    ZIP_ENCODINGS,
    decode_names,
    nfc,
    to_bytes,
    tool_name,
)

ARCHIVE_SUFFIXES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"}
MAX_UNFOLDING = 200  # a compressed tar may be so many times larger inside,
MIN_UNFOLDED_BOUND = 2**30  # and a small one may have a GiB in any case
MAX_TAR_HEADER = 2**20  # bytes of a tar's extended header, which tarfile reads in one call
MAX_FOLDERS = 32  # around an image; no data set has more
HASH_BLOCK = 2**20  # bytes per read for a checksum
UTF8_NAME = 0x800  # of a zip entry's flags
UNICODE_PATH = 0x7075  # Info-ZIP's extra field with a name in UTF-8

# By suffix, what isn't packed although it holds pictures, and what to do about it.
CONVERTIBLE = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC photographs: convert them to JPEG, as by heif-convert"),
    **dict.fromkeys((".avif", ".jxl"), "images that this Pillow doesn't read: convert them to PNG"),
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf"), "raw photographs: convert them to JPEG"),
    **dict.fromkeys((".dcm", ".nii", ".mha", ".nrrd", ".czi", ".nd2"), "volumes: convert them to PNG or TIFF"),
    **dict.fromkeys((".svg", ".pdf", ".eps", ".ps", ".ai"), "drawings of lines: convert them to PNG"),
    **dict.fromkeys((".npy", ".npz", ".mat", ".pt", ".pkl"), "arrays: save an image file for each picture"),
    **dict.fromkeys((".parquet", ".arrow", ".tfrecord", ".lmdb"), "tables of records: save an image file for each"),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv", ".webm"), "videos: save their frames as images"),
}
# By their first bytes, files that are taken for archives, and what to do about them.
NO_ARCHIVES = {
    b"7z\xbc\xaf\x27\x1c": "It is a 7z archive: unpack it and name the folder.",
    b"Rar!": "It is a RAR archive: unpack it and name the folder.",
    b"\x28\xb5\x2f\xfd": "It is compressed with zstd: unpack it and name the folder.",
    b"\x93NUMPY": "It is a NumPy array: save an image file for each picture and name their folder.",
    b"MATLAB": "It is a MATLAB file: save an image file for each picture and name their folder.",
    b"PAR1": "It is a Parquet table: save an image file for each picture and name their folder.",
    b"version https://git-lfs": "It is a pointer of Git LFS: get the file itself by git lfs pull.",
    b"<!DOCTYPE": "It is a web page, perhaps of a download that asks for confirmation: open it in a browser.",
    b"<!doctype": "It is a web page, perhaps of a download that asks for confirmation: open it in a browser.",
    b"<html": "It is a web page, perhaps of a download that asks for confirmation: open it in a browser.",
    b"\xff\xd8\xff": "It is a single image: name the folder or the archive that it is in.",
    b"\x89PNG": "It is a single image: name the folder or the archive that it is in.",
}

# What zipfile, tarfile, h5py and the modules that they decompress with raise for damaged files.
READ_ERRORS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    LookupError,
    OverflowError,
    TypeError,
)


class Member(NamedTuple):
    """A file in a source that is an image by its name.

    Attributes:
        name: `printable`, with its folders, in Unicode's form NFC; if several differ only in their form, each has its
            own.
        handle: how its source finds it.
    """

    name: str
    handle: Any


Content = bytes | np.ndarray  # of a member: an image file, or pixels


class Source(ABC):
    """An archive, folder or file that can be packed. Making one lists its members.

    Args:
        path: where it is.
        key: the configuration key that names it, for messages.

    Attributes:
        path: where it is.
        key: the configuration key that names it.
        left_out: what is in it but isn't packed: a description, and how often.
        notes: sentences about its names, for the user.

    Raises:
        LabError: if it is damaged or can't be used.
    """

    _encodings: Sequence[str] = TEXT_ENCODINGS  # in which its names may be

    def __init__(self, path: Path, key: str):
        self.path = path
        self.key = key
        self.left_out: Counter[str] = Counter()
        self.notes: list[str] = []
        # Names as bytes don't say how they are encoded.
        self._files: list[tuple[str | bytes, Any]] = []
        self._handles: dict[str, Any] = {}
        # Closes what `_list` has opened.
        self._open_files = ExitStack()
        try:
            self._list()
            self._find_images()
        except READ_ERRORS as error:
            self.close()
            raise LabError(
                f"{key}={path} can't be read: {str(error) or type(error).__name__}.",
                _hint_for_unreadable(path),
                code="damaged",
                key=key,
            ) from error
        except BaseException:
            self.close()
            raise

    @property
    def members(self) -> list[Member]:
        """The images, in natural order of their names (2.jpg before 10.jpg); all names are different."""
        forms = Counter(map(nfc, self._handles))
        members = []
        for name, handle in self._handles.items():
            composed = nfc(name)
            members.append(Member(composed if forms[composed] == 1 else name, handle))
        return sorted(members, key=lambda member: (natural_key(nfc(member.name)), member.name))

    def read(self, members: Sequence[Member]) -> Iterator[tuple[Member, Content | Exception]]:
        """Gives each member with its content, or with the error of reading it, in the order that is fastest."""
        for member in members:
            try:
                yield member, self._content(member.handle)
            except READ_ERRORS as error:
                yield member, error

    def sha256(self) -> str:
        """Returns the checksum of the file; see `_Folder.sha256` for a folder."""
        with self.path.open("rb") as file:
            return _sha256(file)

    def close(self) -> None:
        """Closes its file."""
        self._open_files.close()

    @abstractmethod
    def _list(self) -> None:
        """Opens the source, and calls `_add` or `_leave_out_link` for each thing in it."""

    @abstractmethod
    def _content(self, handle: Any) -> Content:
        """Reads a member, `MAX_BYTES` + 1 bytes at most: one more than allowed shows that it is too large."""

    def _add(self, name: str | bytes, handle: Any) -> None:
        """Adds a regular file; a name as bytes is in an encoding that isn't known."""
        self._files.append((name, handle))

    def _find_images(self) -> None:
        """Decodes the names of all files, and makes members of those that are images by their names."""
        undeclared = [name for name, _ in self._files if isinstance(name, bytes)]
        decoded, encoding = decode_names(undeclared, self._encodings)
        decoded_names = iter(decoded)
        for name, handle in self._files:
            text = next(decoded_names) if isinstance(name, bytes) else name
            text = self._with_slashes(text)
            # Of a folder whose name ended with a backslash.
            if not text.endswith("/"):
                self._sort_in(text, handle)
        self._files.clear()
        example = next((name for name in self._handles if not name.isascii()), "")
        if encoding is not None and example:
            self.notes.append(
                f"Its names don't say how they are encoded; they were read as {LANGUAGES[encoding]}, "
                f"such as {example[:80]}. "
                "If that is wrong, unpack it with a program that shows them rightly, and pack the folder."
            )
        twins = len(self._handles) - len(set(map(nfc, self._handles)))
        if twins:
            self.notes.append(f"{twins:,} names come again in another Unicode form (NFD, of macOS): both are packed.")

    def _with_slashes(self, name: str) -> str:
        """Returns a name with slashes between its folders, whatever the source writes."""
        return name

    def _sort_in(self, name: str, handle: Any) -> None:
        """Adds a file to the members if its name is one of an image, else counts it as left out."""
        path = PurePosixPath(name)
        name = printable(path.as_posix())
        suffix = path.suffix.lower()
        tool = tool_name(path)
        if tool is not None:
            place = f"in {printable(tool)[:40]}" if tool != path.name else "hidden files"
            self.left_out[f"{place}: of the system or a tool"] += 1
        elif len(name) > MAX_PATH or len(path.parts) > MAX_FOLDERS:
            self.left_out["of a name that is longer or deeper than any file system's"] += 1
        elif suffix in ARCHIVE_SUFFIXES:
            self.left_out["archives inside, which aren't opened"] += 1
        elif suffix not in SUFFIXES:
            kind = printable(suffix)[:12] or "without a suffix"
            self.left_out[f"{kind}: {CONVERTIBLE.get(suffix, 'no images, by their names')}"] += 1
        else:
            if name in self._handles:
                self.left_out["of a name that comes again: the last one counts"] += 1
            self._handles[name] = handle

    def _leave_out_link(self) -> None:
        self.left_out["links, devices or pipes, which aren't followed"] += 1


def open_source(path: Path, key: str = "source") -> Source:
    """Opens a zip, a tar (plain or compressed), a folder, or an HDF5 file with one dataset per image.

    Files are recognised by their first bytes, not by their name.

    Args:
        path: where it is.
        key: the configuration key that names it, for messages.

    Raises:
        LabError: if it is none of them, damaged or encrypted.
    """
    if path.is_dir():
        return _Folder(path, key)
    if not path.is_file():
        raise LabError(
            f"{key}={path} is no file and no folder.",
            "Name an archive, a folder or an HDF5 file.",
            code="missing",
            key=key,
        )
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"\x89HDF"):
        return _BookHDF5(path, key)
    if start.startswith(b"PK"):
        return _Zip(path, key)
    return _Tar(path, key)


class _Zip(Source):
    _encodings = ZIP_ENCODINGS

    def _list(self) -> None:
        self.archive = self._open_files.enter_context(zipfile.ZipFile(self.path))
        for entry in self.archive.infolist():
            if entry.is_dir():
                continue
            # The upper half has the file's mode under Unix; 0 if it was packed elsewhere.
            file_type = stat.S_IFMT(entry.external_attr >> 16)
            if file_type not in (0, stat.S_IFREG):
                self._leave_out_link()
                continue
            self._add(_zip_name(entry), entry)
            if entry.flag_bits & 1:
                raise LabError(
                    f"{self.key}={self.path} is encrypted.",
                    "Unpack it with its password and name the folder.",
                    code="unsupported",
                    key=self.key,
                )

    def _with_slashes(self, name: str) -> str:
        """Replaces the backslashes that PowerShell and old .NET programs write."""
        return name.replace("\\", "/")

    def _content(self, handle: zipfile.ZipInfo) -> bytes:
        # The other methods are unfolded as a whole, whatever one asks for.
        if handle.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise NotImplementedError("its compression isn't the usual one (deflate)")
        with self.archive.open(handle) as file:
            return file.read(MAX_BYTES + 1)


def _zip_name(entry: zipfile.ZipInfo) -> str | bytes:
    """Returns an entry's name if its encoding is stated, by the flag or by Info-ZIP's extra field, else its bytes."""
    # As in zipfile, a zero byte ends a name.
    name = entry.orig_filename.partition("\0")[0]
    if name.isascii() or entry.flag_bits & UTF8_NAME:
        return name
    raw = name.encode("cp437")  # with which zipfile has decoded it
    end = 0
    while end + 4 <= len(entry.extra):
        kind, size = struct.unpack_from("<HH", entry.extra, end)
        field = entry.extra[end + 4 : end + 4 + size]
        end += 4 + size
        # Version 1, and the checksum of the name that it belongs to: other programs may have changed that one.
        if kind == UNICODE_PATH and field[:5] == struct.pack("<BL", 1, zlib.crc32(raw)):
            with suppress(UnicodeDecodeError):
                return field[5:].decode()
    return raw


class _BoundedFile:
    """A file for tarfile that never reads further, nor more in one call, than is allowed.

    Args:
        file: the tar, decompressed while it is read.
        max_position: bytes from its beginning that may be read.

    Attributes:
        max_read: bytes that may be read in one call.
    """

    def __init__(self, file: BinaryIO, max_position: int):
        self.file = file
        self.max_position = max_position
        self.max_read = MAX_TAR_HEADER

    def read(self, size: int) -> bytes:
        if size > self.max_read or self.tell() > self.max_position:
            raise ValueError("what is in it has no end")
        return self.file.read(size)

    def seek(self, position: int) -> int:
        if position > self.max_position:
            raise ValueError(f"it unfolds to more than {self.max_position:,} bytes")
        return self.file.seek(position)

    def tell(self) -> int:
        return self.file.tell()

    def seekable(self) -> bool:
        return self.file.seekable()

    def close(self) -> None:
        self.file.close()


class _Tar(Source):
    def _list(self) -> None:
        size = self.path.stat().st_size
        file = cast(BinaryIO, self._open_files.enter_context(_open_decompressed(self.path)))
        self.file = _BoundedFile(file, max(MAX_UNFOLDING * size, MIN_UNFOLDED_BOUND))
        # Its file is closed. Bytes that aren't UTF-8 become surrogates, whatever the system's encoding is.
        self.archive = tarfile.open(  # noqa: SIM115
            fileobj=cast(Any, self.file), mode="r:", encoding="utf-8", errors="surrogateescape"
        )
        previous_offset = -1
        for entry in self.archive:
            # A damaged size could lead back to an earlier header.
            if entry.offset_data <= previous_offset:
                raise ValueError("its headers go round in circles")
            previous_offset = entry.offset_data
            if entry.isreg():
                self._add(to_bytes(entry.name), entry)
            elif not entry.isdir():
                self._leave_out_link()
        self._refuse_missing_end()
        # Headers are read; from now on members are.
        self.file.max_read = max(MAX_TAR_HEADER, MAX_BYTES + 1)

    def _refuse_missing_end(self) -> None:
        """Refuses an archive that was cut off: tarfile takes any end for the end."""
        self.file.seek(self.archive.offset)
        if self.file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise ValueError("its end is missing")
        # Reading on to the very end checks the checksum of compressed files.
        while self.file.read(MAX_TAR_HEADER):
            pass

    def read(self, members: Sequence[Member]) -> Iterator[tuple[Member, Content | Exception]]:
        """Gives members in the order of the file: a compressed one would be unfolded anew for each step back."""
        in_file_order = sorted(members, key=lambda member: member.handle.offset)
        yield from super().read(in_file_order)

    def _content(self, handle: tarfile.TarInfo) -> bytes:
        file = self.archive.extractfile(handle)
        assert file is not None  # every regular member has one
        return file.read(MAX_BYTES + 1)


def _open_decompressed(path: Path) -> Any:
    """Opens a file that may be compressed, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"\x1f\x8b"):
        return gzip.open(path, "rb")
    if start.startswith(b"BZh"):
        return bz2.open(path, "rb")
    if start.startswith(b"\xfd7zXZ\0"):
        return lzma.open(path, "rb")
    return path.open("rb")


class _Folder(Source):
    def _list(self) -> None:
        for folder, subfolders, files in os.walk(self.path, onerror=_raise):
            for name in (*subfolders, *files):
                path = Path(folder, name)
                # lstat looks at a link itself, not at what it leads to; os.walk doesn't follow links either.
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode):
                    self._add(to_bytes(path.relative_to(self.path).as_posix()), path)
                elif not stat.S_ISDIR(mode):
                    self._leave_out_link()

    def _content(self, handle: Path) -> bytes:
        with handle.open("rb") as file:
            return file.read(MAX_BYTES + 1)

    def sha256(self) -> str:
        """Returns the checksum of a list of the images, sorted by name, as the command sha256sum writes it."""
        listing = hashlib.sha256()
        for name in sorted(self._handles):
            with self._handles[name].open("rb") as file:
                listing.update(f"{_sha256(file)}  {name}\n".encode())
        return listing.hexdigest()


class _BookHDF5(Source):
    """HDF5 as in the book: groups with a dataset `(H, W, 3)` of bytes per image."""

    def _list(self) -> None:
        self.size = self.path.stat().st_size
        self.file = self._open_files.enter_context(h5py.File(self.path, "r"))
        if self._is_packed():
            raise LabError(
                f"source={self.path} is packed already.",
                f"Train with it: {command('train.py', 'dataset=images', setting('data.path', self.path))}",
                code="exists",
                key="source",
            )
        for name, dataset in hdf5_safety.iterate_datasets(self.file):
            creation_list = dataset.id.get_create_plist()
            # Before its type and shape, for which HDF5 would open the other files.
            if creation_list.get_layout() == h5py.h5d.VIRTUAL or creation_list.get_external_count():
                self._leave_out_link()
            elif dataset.dtype != np.uint8 or dataset.ndim != 3 or dataset.shape[2] != 3:
                self.left_out["datasets that aren't (height, width, 3) of uint8"] += 1
            else:
                # The name, not the dataset: an open one needs 14 kB.
                self._add(to_bytes(name), name)

    def _is_packed(self) -> bool:
        try:
            return hdf5_safety.read_text(self.file, "format") == FORMAT
        except ValueError:
            # Someone else's attribute of the same name.
            return False

    def _content(self, handle: str) -> np.ndarray:
        return hdf5_safety.read_whole(self.file[handle], 3 * MAX_PIXELS, self.size)


def _hint_for_unreadable(path: Path) -> str:
    """Returns what to do about a source that isn't what it should be; its first bytes may tell what it is."""
    start = b""
    with suppress(OSError), path.open("rb") as file:
        start = file.read(32).lstrip()
    for signature, hint in NO_ARCHIVES.items():
        if start.startswith(signature):
            return hint
    return "It may have been cut off on its way here: get it anew. Zip, tar, folder and HDF5 can be read."


def natural_key(name: str) -> tuple[Any, ...]:
    """Returns a key to sort names by in natural order: as texts, but the numbers in them as numbers."""
    # Texts and digits alternate, beginning with a text.
    parts: list[Any] = re.split("([0-9]+)", name)
    for position in range(1, len(parts), 2):
        digits = parts[position].lstrip("0")
        # Not int(digits): of thousands of digits Python refuses to make a number.
        parts[position] = (len(digits), digits)
    return (*parts, name)


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(HASH_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _raise(error: OSError) -> None:
    raise error
