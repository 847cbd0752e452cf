"""Reads a stranger's HDF5 file: what lies in that file itself, as much as is really there, and no more.

HDF5 would also follow links into other files, take values from any file or wait for a pipe (external storage, virtual
datasets), and unfold a chunk without end. Nothing here does. Nor does anything count a dataset's chunks: HDF5 2.0
crashes where their index goes round in a circle, and never ends where its branches meet again; to look up one is safe.

What is wrong is a ValueError, whose text says where and what. HDF5's own errors have many types.
"""

import itertools
import math
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import h5py
import numpy as np
from h5py import h5a, h5d, h5l, h5o, h5s, h5t, h5z

SHORT = 10_000  # characters of a usual text
DEEPEST = 10  # groups in each other
LONGEST = 255  # bytes of a name, as in a file system


class Storage(NamedTuple):
    """How a dataset's values lie in its file.

    Attributes:
        chunked: or else contiguous.
        gzip: bit of a chunk's filter mask that says that this chunk isn't compressed; 0 where none is.
    """

    chunked: bool
    gzip: int


def text(file: h5py.File, name: str, most: int = SHORT) -> str:
    """Reads an attribute of the file that is one text; "" if there is none.

    Args:
        most: characters that it may have.

    Raises:
        ValueError: if it is something else, or longer.
    """
    if not _is_there(file, name, h5t.TypeStringID):
        return ""
    value = file.attrs[name]  # one text has no more bytes than the file
    words = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    if len(words) > most:
        raise ValueError(f"the attribute {name} is longer than {most:,} characters")
    return words


def number(file: h5py.File, name: str) -> int | None:
    """Reads an attribute of the file that is one whole number; None if there is none.

    Raises:
        ValueError: if it is something else.
    """
    return int(file.attrs[name]) if _is_there(file, name, h5t.TypeIntegerID) else None


def child(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """Opens what is in a group under this name; None if there is nothing.

    Raises:
        ValueError: if the name is a link to another place, which may be another file, or a pipe that is waited for.
    """
    key = name.encode()
    if not group.id.links.exists(key):
        return None
    if group.id.links.get_info(key).type != h5l.TYPE_HARD:
        raise ValueError(f"{name} in {group.name} is a link to another place")
    found = group[name]
    return found if isinstance(found, h5py.Group | h5py.Dataset) else None


def datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Gives each dataset once, with its full name. Links to other places are left out.

    h5py's own `visititems` takes time by the square of the depth, and keeps going where names are without end.

    Raises:
        ValueError: if groups lie deeper in each other than `DEEPEST`, or a name is longer than `LONGEST`.
    """
    seen = {h5o.get_info(file.id).addr}
    waiting = [""]  # full names of groups: open ones would need more memory
    while waiting:
        path = waiting.pop()
        group = file[path] if path else file
        for name in _names(group):
            link = group.id.links.get_info(name.encode(errors="surrogateescape"))
            if link.type != h5l.TYPE_HARD or link.u in seen:  # the address: by another name, or round in a circle
                continue
            seen.add(link.u)
            found = group[name]
            full = f"{path}/{name}" if path else name
            if isinstance(found, h5py.Dataset):
                yield full, found
            elif isinstance(found, h5py.Group):
                if full.count("/") == DEEPEST:
                    raise ValueError(f"its groups lie more than {DEEPEST} deep in each other")
                waiting.append(full)


def storage(dataset: h5py.Dataset, shuffle: bool = False) -> Storage:
    """Says how the values lie in the file. To be asked first: a virtual dataset opens other files to tell its shape.

    Args:
        shuffle: values may have gone through HDF5's shuffle, too; of single bytes it changes none.

    Raises:
        ValueError: if they lie in other files, or in chunks that aren't plain or gzipped.
    """
    plan = dataset.id.get_create_plist()
    layout = plan.get_layout()
    if layout == h5d.VIRTUAL or plan.get_external_count():
        raise ValueError(f"the values of {dataset.name} lie in other files")
    if layout not in (h5d.CONTIGUOUS, h5d.CHUNKED):
        raise ValueError(f"the values of {dataset.name} lie in its header")
    gzip = 0
    for place in range(plan.get_nfilters()):
        code, _, values, _ = plan.get_filter(place)
        if code == h5z.FILTER_DEFLATE and not gzip:
            gzip = 1 << place
        elif not (shuffle and code == h5z.FILTER_SHUFFLE and values == (1,)):
            raise ValueError(f"{dataset.name} went through a filter that isn't gzip alone")
    return Storage(layout == h5d.CHUNKED, gzip)


def offset(dataset: h5py.Dataset, size: int) -> int:
    """Where the values of a contiguous dataset begin, in bytes from the file's beginning.

    Args:
        size: bytes of the file.

    Raises:
        ValueError: if they weren't written, or not all of them are in the file.
    """
    start = dataset.id.get_offset()
    if start is None:
        raise ValueError(f"the values of {dataset.name} were never written")
    if start + math.prod(dataset.shape) * dataset.id.get_type().get_size() > size:
        raise ValueError(f"the values of {dataset.name} are cut short")
    return int(start)


def chunk(dataset: h5py.Dataset, place: tuple[int, ...], size: int, gzip: int) -> bytes | memoryview:
    """Reads one chunk of a dataset of bytes, without HDF5's filters, which unfold whatever is there.

    Args:
        place: index of the chunk's first value.
        size: bytes that it has to unfold to.
        gzip: of `Storage`.

    Raises:
        ValueError, RuntimeError, OSError, zlib.error: if it isn't there, damaged, or of another size.
    """
    buffer = np.empty(2 * size + 1000, np.uint8)  # gzip adds far less to noise; h5py refuses to read what is longer
    skipped, stored = dataset.id.read_direct_chunk(place, out=buffer)
    if gzip and not skipped & gzip:
        stream = zlib.decompressobj()
        stored = stream.decompress(stored, size + 1)
        if not stream.eof or stream.unused_data:
            raise ValueError("a chunk isn't whole, or unfolds to more than it has to")
    if len(stored) != size:
        raise ValueError(f"a chunk has {len(stored):,} bytes, not {size:,}")
    return stored


def whole(dataset: h5py.Dataset, most: int, size: int) -> np.ndarray:
    """Reads all values of a dataset of bytes.

    Args:
        most: values that it may have, those included by which chunks reach over its edges.
        size: bytes of the file.

    Raises:
        ValueError, RuntimeError, OSError, zlib.error: if there are more, or they aren't all there.
    """
    chunked, gzip = storage(dataset, shuffle=True)
    shape = dataset.shape
    steps = dataset.chunks if chunked else shape
    if 0 in shape:
        raise ValueError("it has no values")
    starts = [range(0, side, step) for side, step in zip(shape, steps, strict=True)]
    if math.prod(map(len, starts)) * math.prod(steps) > most:
        raise ValueError(f"it has more than {most:,} values")
    if not chunked:
        offset(dataset, size)
        return dataset[()]
    values = np.empty(shape, np.uint8)
    for place in itertools.product(*starts):
        tile = np.frombuffer(chunk(dataset, place, math.prod(steps), gzip), np.uint8).reshape(steps)
        ends = [start + step for start, step in zip(place, steps, strict=True)]
        part = values[tuple(map(slice, place, ends))]
        part[:] = tile[tuple(map(slice, part.shape))]
    return values


def _is_there(file: h5py.File, name: str, kind: type) -> bool:
    """Whether there is such an attribute, which has to be a single value of this kind. It isn't read."""
    if not h5a.exists(file.id, name.encode()):
        return False
    attribute = h5a.open(file.id, name.encode())
    single = attribute.get_space().get_simple_extent_type() == h5s.SCALAR
    if not single or not isinstance(attribute.get_type(), kind):
        words = "one text" if kind is h5t.TypeStringID else "one whole number"
        raise ValueError(f"the attribute {name} isn't {words}")
    return True


def _names(group: h5py.Group) -> list[str]:
    """The names in a group. Many of them can lie in the same bytes of the file, so their length is bounded."""
    names: list[str] = []
    odd: list[bytes] = []

    def note(key: bytes) -> bool:
        """Takes a name and says whether to stop: an error must not pass through HDF5."""
        if len(key) > LONGEST or b"/" in key:  # which would lead on through another name
            odd.append(key[:LONGEST])
        else:
            names.append(key.decode(errors="surrogateescape"))
        return bool(odd)

    group.id.links.iterate(note)
    if odd:
        raise ValueError(f"a name in {group.name} is longer than {LONGEST} bytes, or has a / in it")
    return names
