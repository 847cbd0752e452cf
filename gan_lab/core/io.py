"""Files that are whole or not there: written beside, flushed, renamed; bounded reading, locks and checksums."""

import io
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gan_lab.core.errors import LabError
from gan_lab.core.terminal import say

MAX_TEXT = 2**26  # bytes of a summary and its like; ours have some thousands
MAX_YAML = 2**16  # of a configuration: YAML takes a second for 10,000
MAX_TABLE = 2**31  # of a metrics.csv
TMP_PREFIX = ".half."  # files of this prefix are being written, or were when their process was killed


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what was written there becomes `path` at once and whole, or not at all.

    Raises:
        OSError: with `filename` set to `path`, if the disk is full, read-only …
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{TMP_PREFIX}{path.stem}.", suffix=path.suffix)
        os.close(handle)
        half = Path(name)
        try:
            yield half
            sync(half)
            half.chmod(0o666 & ~_umask())
            os.replace(half, path)
        finally:
            half.unlink(missing_ok=True)
        sync(path.parent)
    except OSError as error:
        if error.errno:  # writing names no file, or a temporary one
            error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def file_lock(path: Path, doing: str) -> Iterator[bool]:
    """Lets one process at a time do what makes `path`, and tells whether it had to wait for one that did.

    Where no lock can be had (a read-only folder, say) all go on.
    """
    waited = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"Waiting for another process, which is {doing}.", stderr=True)
            lock.acquire()
            waited = True
    except OSError:
        yield False
        return
    try:
        yield waited
    finally:
        lock.release()


def sync(path: Path) -> None:
    """Waits until a file, or what a folder lists, is on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """Reads a regular file as a whole; a pipe, which would be waited for, and a device have no place here.

    Args:
        most: bytes that it may have; None: as many as this machine has memory.

    Raises:
        OSError: if the system can't read it. That says nothing about the file's content: it may be whole.
        LabError: if it is no regular file, or too large.
    """
    bound = memory_of_this_machine() if most is None else most
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode) or about.st_size > bound:
        os.close(handle)
        if not stat.S_ISREG(about.st_mode):
            raise LabError(f"{path} is no file but a folder, pipe or device.", "Put the file itself there.")
        raise LabError(f"{path} has {about.st_size:,} bytes; {bound:,} are the most that can be read.")
    with os.fdopen(handle, "rb") as file:
        return file.read(about.st_size)


def read_text(path: Path, most: int = MAX_TEXT) -> str:
    """Reads a small UTF-8 file.

    Raises:
        OSError, LabError: see `read_bytes`.
        UnicodeDecodeError: if it isn't UTF-8.
    """
    return read_bytes(path, most).decode("utf-8")


def memory_of_this_machine() -> int:
    """Returns how many bytes of memory there are; where the system doesn't say, 2 ** 40."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return 2**40


def corruption(content: bytes) -> str | None:
    """Says what is wrong with a file that torch saved, by the checksums that are in it; None if it is whole.

    Args:
        content: of the file, read before: an error while reading isn't damage.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                return "it isn't as torch writes it"  # nor must it unpack to more than it is
            if sum(entry.file_size for entry in entries) > len(content):
                return "its parts overlap"
            bad = archive.testzip()
    except Exception as error:  # zipfile tells damage by errors of many types
        return str(error) or type(error).__name__
    return f"the checksum of {bad} is wrong" if bad else None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
