"""Reads and writes files safely: atomic writes, bounded reads, locks and checksums."""

import io
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from gan_lab.core.errors import LabError
from gan_lab.core.interrupts import undoing
from gan_lab.core.terminal import say

# Upper bounds, in bytes, for files that may come from strangers.
MAX_TEXT = 2**26  # a summary or another text; ours have some thousand bytes
MAX_YAML = 2**16  # a configuration: parsing YAML takes about a second for 10,000 bytes
MAX_TABLE = 2**31  # a metrics.csv
UNKNOWN_MEMORY = 2**40  # the bound where the system doesn't tell how much memory it has

# Files with this prefix are being written, or were when their process was killed.
TMP_PREFIX = ".half."


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Gives a temporary path in the folder of `path`; at the end the file there becomes `path`, whole or not at all.

    Raises:
        OSError: with `filename` set to `path`, if the disk is full, read-only or broken.
    """
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{TMP_PREFIX}{path.stem}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            with undoing(partial(temporary.unlink, missing_ok=True)):
                yield temporary
                sync(temporary)
                # mkstemp lets only this user read; a normal file follows the umask.
                temporary.chmod(0o666 & ~_umask())
                os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Gives a temporary folder beside `path`, which doesn't exist; at the end it becomes `path`, whole or not at all.

    Raises:
        OSError: with `filename` set to `path`, if the disk is full, read-only or broken.
    """
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{TMP_PREFIX}{path.name}."))
        try:
            with undoing(partial(shutil.rmtree, temporary, ignore_errors=True)):
                yield temporary
                sync(temporary)
                # mkdtemp lets only this user read; a normal folder follows the umask.
                temporary.chmod(0o777 & ~_umask())
                os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync(path.parent)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Makes an OSError name `path`: an error while writing names no file, or the temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextmanager
def file_lock(path: Path, description: str) -> Iterator[bool]:
    """Lets one process at a time make the file `path`, and gives whether it had to wait for another one.

    Where no lock can be had, in a read-only folder for example, every process continues.

    Args:
        path: the file that is made; the lock is a file next to it with the suffix .lock.
        description: what the other process does, for the message: "training the classifier".
    """
    had_to_wait = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"Waiting for another process, which is {description}.", stderr=True)
            lock.acquire()
            had_to_wait = True
    except OSError:
        yield False
        return
    try:
        yield had_to_wait
    finally:
        lock.release()


def sync(path: Path) -> None:
    """Waits until a file's content, or a folder's list of files, is on the disk."""
    is_folder = path.is_dir()
    # Windows cannot open folders.
    if is_folder and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_bytes(path: Path, max_bytes: int | None = None) -> bytes:
    """Reads a whole regular file.

    A pipe or a device is refused without waiting for it: reading one could block, or never end.

    Args:
        path: the file.
        max_bytes: how large it may be; None: as large as this machine's memory.

    Raises:
        OSError: if the system can't read it. That says nothing about the content, which may be whole.
        LabError: if it is no regular file, or too large.
    """
    bound = memory_of_this_machine() if max_bytes is None else max_bytes
    # Not every system has these flags. O_NONBLOCK: opening a pipe doesn't wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise LabError(
                f"{path} is not a file but a folder, pipe or device.",
                "Put the file itself there.",
                code="invalid",
                key=path.name,
            )
        if about.st_size > bound:
            raise LabError(
                f"{path} has {about.st_size:,} bytes; at most {bound:,} can be read.", code="invalid", key=path.name
            )
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(about.st_size)
    finally:
        os.close(handle)


def read_text(path: Path, max_bytes: int = MAX_TEXT) -> str:
    """Reads a small UTF-8 file.

    Raises:
        OSError, LabError: see `read_bytes`.
        UnicodeDecodeError: if it isn't UTF-8.
    """
    return read_bytes(path, max_bytes).decode("utf-8")


def relative_path(path: Path) -> Path:
    """Returns a path relative to the working directory if it lies below it, else the absolute path."""
    path = path.absolute()
    if path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd())
    return path


def memory_of_this_machine() -> int:
    """Returns the bytes of this machine's memory; 2 ** 40 where the system doesn't tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return UNKNOWN_MEMORY


def corruption(content: bytes) -> str | None:
    """Returns what is wrong with a file that `torch.save` wrote, by its own checksums; None if it is whole.

    Args:
        content: the file's bytes. Reading them comes before, so that an error of the disk isn't taken for damage.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            # torch compresses nothing. Refusing compression also bounds what testzip unpacks.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                return "it isn't as torch writes it"
            if sum(entry.file_size for entry in entries) > len(content):
                return "its parts overlap"
            bad_entry = archive.testzip()
    except Exception as error:  # zipfile reports damage by errors of many types
        return str(error) or type(error).__name__
    if bad_entry:
        return f"the checksum of {bad_entry} is wrong"
    return None


def _umask() -> int:
    # The umask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
