"""Reads a stranger's HDF5 file: only what is in that file itself, and no more than is really there.

HDF5 by itself would also follow links into other files, take values from any file or wait for a pipe (external storage,
virtual datasets), and unfold a chunk without end. Nothing here does. Nor does anything count a dataset's chunks: HDF5
2.0 crashes if the index of chunks contains a circle, and never ends if its branches meet again. Looking up one chunk is
safe.

Functions raise ValueError for what is wrong; its text says where and what. HDF5's own errors have many types.
"""

import itertools
import math
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import h5py
import numpy as np
from h5py import h5a, h5d, h5l, h5o, h5s, h5t, h5z

MAX_TEXT = 10_000  # characters of an attribute
MAX_DEPTH = 10  # groups in each other
MAX_NAME = 255  # bytes of a name, as in a file system


class Storage(NamedTuple):
    """How a dataset's values are stored in its file.

    Attributes:
        chunked: True for chunks, False for contiguous values.
        gzip: the bit of a chunk's filter mask that says that this chunk isn't compressed; 0 if no chunk is.
    """

    chunked: bool
    gzip: int


def read_text(file: h5py.File, name: str, max_characters: int = MAX_TEXT) -> str:
    """Reads an attribute of the file that is one text; returns "" if there is none.

    Raises:
        ValueError: if it is something else, or longer than `max_characters`.
    """
    if not _has_attribute(file, name, h5t.TypeStringID):
        return ""
    # Reading it is safe: a single text has no more bytes than the file.
    value = file.attrs[name]
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    if len(text) > max_characters:
        raise ValueError(f"the attribute {name} is longer than {max_characters:,} characters")
    return text


def read_number(file: h5py.File, name: str) -> int | None:
    """Reads an attribute of the file that is one whole number; returns None if there is none.

    Raises:
        ValueError: if it is something else.
    """
    if not _has_attribute(file, name, h5t.TypeIntegerID):
        return None
    return int(file.attrs[name])


def open_child(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """Opens the group or dataset with this name in a group; returns None if there is none.

    Raises:
        ValueError: if the name is a link to another place, which may be another file, or a pipe that would block.
    """
    key = name.encode()
    if not group.id.links.exists(key):
        return None
    if group.id.links.get_info(key).type != h5l.TYPE_HARD:
        raise ValueError(f"{name} in {group.name} is a link to another place")
    child = group[name]
    return child if isinstance(child, h5py.Group | h5py.Dataset) else None


def iterate_datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Gives each dataset of a file once, with its full name. Links to other places are left out.

    h5py's own `visititems` takes time by the square of the depth, and doesn't stop where there is no end of names.

    Raises:
        ValueError: if groups are nested deeper than `MAX_DEPTH`, or a name is longer than `MAX_NAME`.
    """
    visited_addresses = {h5o.get_info(file.id).addr}
    # Full names of groups that are still to be visited. Open groups would need more memory.
    waiting = [""]
    while waiting:
        path = waiting.pop()
        group = file[path] if path else file
        for name in _names(group):
            link = group.id.links.get_info(name.encode(errors="surrogateescape"))
            # link.u is the address of what a hard link names. A second name, or a circle, leads to a visited one.
            if link.type != h5l.TYPE_HARD or link.u in visited_addresses:
                continue
            visited_addresses.add(link.u)
            child = group[name]
            full_name = f"{path}/{name}" if path else name
            if isinstance(child, h5py.Dataset):
                yield full_name, child
            elif isinstance(child, h5py.Group):
                if full_name.count("/") == MAX_DEPTH:
                    raise ValueError(f"its groups lie more than {MAX_DEPTH} deep in each other")
                waiting.append(full_name)


def storage_of(dataset: h5py.Dataset, allow_shuffle: bool = False) -> Storage:
    """Returns how the values are stored.

    Call this before anything else, even before `dataset.shape`: a virtual dataset opens other files to find its shape.

    Args:
        dataset: of a stranger's file.
        allow_shuffle: whether HDF5's shuffle filter may be used, too; it doesn't change single bytes.

    Raises:
        ValueError: if they are in other files, in the dataset's header, or in chunks that aren't plain or gzipped.
    """
    creation_list = dataset.id.get_create_plist()
    layout = creation_list.get_layout()
    if layout == h5d.VIRTUAL or creation_list.get_external_count():
        raise ValueError(f"the values of {dataset.name} lie in other files")
    if layout not in (h5d.CONTIGUOUS, h5d.CHUNKED):
        raise ValueError(f"the values of {dataset.name} lie in its header")
    gzip = 0
    for position in range(creation_list.get_nfilters()):
        code, _, values, _ = creation_list.get_filter(position)
        # Shuffle regroups the bytes of wider numbers; its value is their width.
        is_harmless_shuffle = allow_shuffle and code == h5z.FILTER_SHUFFLE and values == (1,)
        if code == h5z.FILTER_DEFLATE and not gzip:
            gzip = 1 << position
        elif not is_harmless_shuffle:
            raise ValueError(f"{dataset.name} went through a filter other than gzip")
    return Storage(layout == h5d.CHUNKED, gzip)


def offset_of(dataset: h5py.Dataset, file_size: int) -> int:
    """Returns where the values of a contiguous dataset begin, in bytes from the beginning of the file.

    Args:
        dataset: a contiguous one; see `storage_of`.
        file_size: bytes of the file.

    Raises:
        ValueError: if they were never written, or not all of them are in the file.
    """
    start = dataset.id.get_offset()
    if start is None:
        raise ValueError(f"the values of {dataset.name} were never written")
    size = math.prod(dataset.shape) * dataset.id.get_type().get_size()
    if start + size > file_size:
        raise ValueError(f"the values of {dataset.name} are cut short")
    return int(start)


def read_chunk(dataset: h5py.Dataset, place: tuple[int, ...], size: int, gzip: int) -> bytes | memoryview:
    """Reads one chunk of a dataset of bytes.

    HDF5's own filters aren't used: they unfold whatever is there, without a bound.

    Args:
        dataset: a chunked one; see `storage_of`.
        place: index of the chunk's first value.
        size: bytes that it has to unfold to.
        gzip: see `Storage`.

    Raises:
        ValueError, RuntimeError, OSError, zlib.error: if it isn't there, is damaged, or has another size.
    """
    # gzip makes noise far less than twice as long. h5py refuses a chunk that doesn't fit into the buffer.
    buffer = np.empty(2 * size + 1000, np.uint8)
    skipped_filters, stored = dataset.id.read_direct_chunk(place, out=buffer)
    if gzip and not skipped_filters & gzip:
        stream = zlib.decompressobj()
        stored = stream.decompress(stored, size + 1)
        if not stream.eof or stream.unused_data:
            raise ValueError("a chunk isn't whole, or unfolds to more than it has to")
    if len(stored) != size:
        raise ValueError(f"a chunk has {len(stored):,} bytes, not {size:,}")
    return stored


def read_whole(dataset: h5py.Dataset, max_values: int, file_size: int) -> np.ndarray:
    """Reads all values of a dataset of bytes.

    Args:
        dataset: uint8, of a stranger's file.
        max_values: how many it may have, including those by which its chunks extend over its edges.
        file_size: bytes of the file.

    Raises:
        ValueError, RuntimeError, OSError, zlib.error: if there are more, or they aren't all there.
    """
    chunked, gzip = storage_of(dataset, allow_shuffle=True)
    shape = dataset.shape
    chunk_shape = dataset.chunks if chunked else shape
    if 0 in shape:
        raise ValueError("it has no values")
    chunk_size = math.prod(chunk_shape)
    starts = [range(0, side, step) for side, step in zip(shape, chunk_shape, strict=True)]
    if math.prod(map(len, starts)) * chunk_size > max_values:
        raise ValueError(f"it has more than {max_values:,} values")
    if not chunked:
        offset_of(dataset, file_size)
        return dataset[()]
    values = np.empty(shape, np.uint8)
    for place in itertools.product(*starts):
        stored = read_chunk(dataset, place, chunk_size, gzip)
        tile = np.frombuffer(stored, np.uint8).reshape(chunk_shape)
        # At the edges only a part of the chunk is inside.
        inside = tuple(slice(start, start + step) for start, step in zip(place, chunk_shape, strict=True))
        target = values[inside]
        target[:] = tile[tuple(map(slice, target.shape))]
    return values


def _has_attribute(file: h5py.File, name: str, type_class: type) -> bool:
    """Returns whether there is such an attribute, without reading it.

    Raises:
        ValueError: if it isn't a single value of this type.
    """
    if not h5a.exists(file.id, name.encode()):
        return False
    attribute = h5a.open(file.id, name.encode())
    is_single = attribute.get_space().get_simple_extent_type() == h5s.SCALAR
    if not is_single or not isinstance(attribute.get_type(), type_class):
        expected = "one text" if type_class is h5t.TypeStringID else "one whole number"
        raise ValueError(f"the attribute {name} isn't {expected}")
    return True


def _names(group: h5py.Group) -> list[str]:
    """Returns the names in a group.

    Raises:
        ValueError: if one is longer than `MAX_NAME` or has a / in it. Many names can lie in the same bytes of the file,
            so the size of the file doesn't bound them; a / would lead on through another name.
    """
    names: list[str] = []
    bad_names: list[bytes] = []

    def visit(key: bytes) -> bool:
        """Collects a name, and returns whether to stop. It must not raise: errors can't pass through HDF5."""
        if len(key) > MAX_NAME or b"/" in key:
            bad_names.append(key[:MAX_NAME])
        else:
            names.append(key.decode(errors="surrogateescape"))
        return bool(bad_names)

    group.id.links.iterate(visit)
    if bad_names:
        raise ValueError(f"a name in {group.name} is longer than {MAX_NAME} bytes, or has a / in it")
    return names
