"""Files that are whole or not there: written beside, flushed, renamed; locks and checksums."""

import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

HALF = ".half."  # files of this prefix are being written, or were when their process was killed


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what was written there becomes `path` at once and whole, or not at all.

    Raises:
        OSError: with `filename` set to `path`, if the disk is full, read-only …
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{HALF}{path.stem}.", suffix=path.suffix)
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
def alone(path: Path, doing: str) -> Iterator[bool]:
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
            print(f"Waiting for another process, which is {doing}.", file=sys.stderr)
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


def damage(path: Path) -> str | None:
    """What is wrong with a file that torch saved, by the checksums that are in it; None if it is whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                return "it isn't as torch writes it"  # nor must it unpack to more than it is
            bad = archive.testzip()
    except Exception as error:  # zipfile tells damage by errors of many types
        return str(error) or type(error).__name__
    return f"the checksum of {bad} is wrong" if bad else None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
