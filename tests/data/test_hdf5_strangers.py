"""HDF5 files of strangers: none runs code, waits, reads another file, crashes, or fills memory."""

import json
import math
import multiprocessing
import os
import re
import struct
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import make_packed_file, refused

from gan_lab.core.errors import LabError
from gan_lab.data import hdf5_safety
from gan_lab.data.hdf5 import celeba, images
from gan_lab.data.hdf5_writer import ImageBuffer, Origin, write_packed
from gan_lab.data.layout import FORMAT, MAX_CLASSES, MAX_NAME, VERSION
from gan_lab.pack.archives import open_source

resource = pytest.importorskip("resource")  # Windows has no limits of memory, no pipes and no fork

PIXELS = np.random.default_rng(0).integers(256, size=(7, 5, 4, 3), dtype=np.uint8)
IMAGE = (5, 4, 3)
SIZE = math.prod(IMAGE)
LABELS = np.array([0, 1, 2, 0, 1, 2, 2])
FORK = multiprocessing.get_context("fork")


def outcome(read: Callable[[Path], object], path: Path, megabytes: int = 150) -> str:
    """Reads a file in another process, which has a minute and so many MB of memory more than this one has now.

    Returns:
        "read: <result>", "out of memory", or "<code> <key>: <message>" of a LabError.
    """
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_read_in_process, args=(read, path, megabytes, sender))
    process.start()
    sender.close()
    process.join(60)
    if process.is_alive():
        process.kill()
        pytest.fail("it hangs")
    assert process.exitcode == 0, "it crashes"
    return receiver.recv()


def _read_in_process(read, path, megabytes, sender):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        sender.send(f"read: {read(path)}")
    except MemoryError:
        sender.send("out of memory")
    except LabError as error:
        sender.send(f"{error.code} {error.key}: {error}")


def load(path: Path, memory: int = 1000) -> str:
    """Opens a packed file, reads the image in the middle, and returns its first value."""
    train = images(str(path), memory=memory).train
    image = train[torch.tensor([len(train) // 2])]
    return str(int(image.mul(255)[0, 0, 0, 0]))


def put(place: str, make: Callable[[h5py.Group, str], object]) -> Callable[[h5py.File], None]:
    """Returns a change of a packed file that replaces what is at a place, e.g. at `train/images`."""

    def change(file: h5py.File) -> None:
        if place in file:
            del file[place]
        group, _, name = place.rpartition("/")
        make(file.require_group(group) if group else file, name)

    return change


def dataset(**options) -> Callable[[h5py.Group, str], h5py.Dataset]:
    return lambda group, name: group.create_dataset(name, **options)


def link(target: object) -> Callable[[h5py.Group, str], None]:
    return lambda group, name: group.__setitem__(name, target)


def chunks(stored: bytes, mask: int = 0, places: tuple[int, ...] = tuple(range(7))):
    """Gzipped images, each of which these stored bytes stand for."""

    def make(group: h5py.Group, name: str) -> None:
        values = group.create_dataset(name, (7, *IMAGE), np.uint8, chunks=(1, *IMAGE), compression="gzip")
        for place in places:
            values.id.write_direct_chunk((place, 0, 0, 0), stored, mask)

    return make


def virtual(source: str, unlimited: bool = False) -> Callable[[h5py.Group, str], None]:
    def make(group: h5py.Group, name: str) -> None:
        most = (None, *IMAGE) if unlimited else None
        layout = h5py.VirtualLayout((7, *IMAGE), np.uint8, maxshape=most)
        origin = h5py.VirtualSource(source, "train/images", (7, *IMAGE), np.uint8, maxshape=most)
        if unlimited:
            layout[0 : h5py.h5s.UNLIMITED] = origin[0 : h5py.h5s.UNLIMITED]
        else:
            layout[:] = origin
        group.create_virtual_dataset(name, layout)

    return make


def attribute(name: str, value: object, **options) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.create(name, value, **options)


def compact(group: h5py.Group, name: str) -> None:
    """Images in the header of their dataset."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(PIXELS.shape)
    h5py.h5d.create(group.id, name.encode(), h5py.h5t.STD_U8LE, space, plan).write(h5py.h5s.ALL, h5py.h5s.ALL, PIXELS)


def stranger(folder: Path, *changes: Callable[[h5py.File], None], **options) -> Path:
    """A packed file, changed; in its folder are a pipe and another packed file that it can point to."""
    os.mkfifo(folder / "pipe")
    make_packed_file(folder / "other.h5", PIXELS, labels=LABELS)
    path = make_packed_file(folder / "a.h5", PIXELS, **options)
    with h5py.File(path, "r+", libver="latest") as file:
        for change in changes:
            change(file)
    return path


PIPE, OTHER = "pipe", "other.h5"

REFUSED = {
    # What a packed file must not be.
    "external storage": (put("train/images", dataset(shape=(7, *IMAGE), dtype="u1", external=OTHER)), "in other files"),
    "a pipe as storage": (put("train/images", dataset(shape=(7, *IMAGE), dtype="u1", external=PIPE)), "in other files"),
    "virtual": (put("train/images", virtual(OTHER)), "lie in other files"),
    "labels in another file": (put("train/labels", link(h5py.ExternalLink(OTHER, "train/labels"))), "labels .* a link"),
    "one giant chunk": (
        put("train/images", dataset(shape=(7, *IMAGE), dtype="u1", chunks=(7, *IMAGE), compression="gzip")),
        "lies in chunks of 7 × 5 × 4 × 3, not an image each, 1 × 5 × 4 × 3",
    ),
    # Links and other files.
    "virtual, a pipe tells its shape": (put("holdout/images", virtual(PIPE, unlimited=True)), "in other files"),
    "virtual, its own file": (put("train/images", virtual(".")), "lie in other files"),
    "a link to a pipe": (put("train/images", link(h5py.ExternalLink(PIPE, "x"))), "images in /train is a link"),
    "a group in a pipe": (put("holdout", link(h5py.ExternalLink(PIPE, "x"))), "holdout in / is a link"),
    "a group in another file": (put("holdout", link(h5py.ExternalLink(OTHER, "holdout"))), "holdout in / is a link"),
    "a soft link to a group": (put("holdout", link(h5py.SoftLink("/train"))), "holdout in / is a link"),
    "a soft link": (put("holdout/images", link(h5py.SoftLink("/train/images"))), "images in /holdout is a link"),
    "a soft link to itself": (put("train", link(h5py.SoftLink("/train"))), "train in / is a link"),
    "labels stored in a pipe": (put("train/labels", dataset(shape=(7,), dtype="i8", external=PIPE)), "in other files"),
    # Filters and chunks.
    "in the header": (put("train/images", compact), "lie in its header"),
    "lzf": (put("train/images", dataset(data=PIXELS, chunks=(1, *IMAGE), compression="lzf")), "filter"),
    "shuffled": (put("train/images", dataset(data=PIXELS, chunks=(1, *IMAGE), shuffle=True)), "filter"),
    "scaled": (put("train/images", dataset(data=PIXELS, chunks=(1, *IMAGE), scaleoffset=4)), "filter"),
    "checksums": (put("train/images", dataset(data=PIXELS, chunks=(1, *IMAGE), fletcher32=True)), "filter"),
    "chunks of two": (put("train/images", dataset(data=PIXELS, chunks=(2, *IMAGE))), "in chunks of 2 × 5 × 4 × 3"),
    "chunks of rows": (put("train/images", dataset(data=PIXELS, chunks=(1, 1, 4, 3))), "in chunks of 1 × 1 × 4 × 3"),
    "a chunk that inflates": (put("train/images", chunks(zlib.compress(bytes(10**6)))), "unfolds to more"),
    "a chunk too short": (put("train/images", chunks(zlib.compress(bytes(SIZE - 1)))), "has 59 bytes, not 60"),
    "a chunk cut off": (put("train/images", chunks(zlib.compress(bytes(SIZE))[:-4])), "isn't whole"),
    "a chunk and more": (put("train/images", chunks(zlib.compress(bytes(SIZE)) + b"more")), "unfolds to more"),
    "a huge chunk": (put("train/images", chunks(bytes(10**7), mask=1, places=(0,))), "only 1120 bytes, 10000000"),
    "a chunk stored too long": (put("train/images", chunks(bytes(SIZE + 1), mask=1)), "has 61 bytes, not 60"),
    "no chunks": (put("train/images", chunks(b"", places=())), "images can't be read"),
    "a chunk missing": (put("train/images", chunks(zlib.compress(bytes(SIZE)), places=(0, 1, 2, 4, 5, 6))), "be read"),
    # Sizes.
    "never written": (put("train/images", dataset(shape=(7, *IMAGE), dtype="u1")), "were never written"),
    "too many": (put("train/images", dataset(shape=(2**40, *IMAGE), dtype="u1")), "more than 134,217,728 images of"),
    "too many in chunks": (
        put("train/images", dataset(shape=(2**27, 1, 1, 1), dtype="u1", chunks=(1, 1, 1, 1))),
        "fewer than 134,217,728 images",
    ),
    "too large": (put("train/images", dataset(shape=(7, 2**14, 2**14, 3), dtype="u1")), "images of 89,478,485 pixels"),
    "far too large": (put("train/images", dataset(shape=(16, 2**30, 2**28, 1), dtype="u1")), "images of 89,478,485"),
    # Labels.
    "labels in chunks": (
        put("train/labels", dataset(shape=(7,), dtype="i8", chunks=(7,), compression="gzip")),
        "int64 of 7, in chunks, not int64 of 7",
    ),
    "labels never written": (put("train/labels", dataset(shape=(7,), dtype="i8")), "labels were never written"),
    "labels of no shape": (put("train/labels", dataset(data=h5py.Empty("i8"))), "not int64 of 7"),
    "virtual labels": (put("train/labels", virtual(PIPE, unlimited=True)), "in other files"),
    "labels without end": (
        lambda file: [put(f"{name}/labels", dataset(data=LABELS + 2**62))(file) for name in ("train", "holdout")],
        "but there are at most 65,536 classes",
    ),
    "labels beyond int64": (put("train/labels", dataset(data=np.full(7, 2**64 - 1, np.uint64))), "at most 65,536"),
}

ODD = {
    # Types and shapes.
    "no dataspace": (put("train/images", dataset(data=h5py.Empty("u1"))), "not uint8 of N"),
    "no dimensions": (put("train/images", dataset(data=np.uint8(1))), "not uint8 of N"),
    "compound": (put("train/images", dataset(shape=(7, *IMAGE), dtype=[("a", "u1"), ("b", "u1")])), "not uint8 of N"),
    "an enumeration": (put("train/images", dataset(data=PIXELS, dtype=h5py.enum_dtype({"a": 1}, "u1"))), "not uint8"),
    "texts": (put("train/images", dataset(shape=(7, *IMAGE), dtype=h5py.string_dtype())), "not uint8 of N"),
    "references": (put("train/images", dataset(shape=(7, *IMAGE), dtype=h5py.ref_dtype)), "not uint8 of N"),
    "a group": (put("train/images", lambda group, name: group.create_group(name)), "has no train/images"),
    "a type": (put("train/images", link(np.dtype("u1"))), "has no train/images"),
    "a dataset as group": (put("train", dataset(data=PIXELS)), "has no train/images"),
    # Attributes.
    "a list as format": (attribute("format", [FORMAT] * 3, dtype=h5py.string_dtype()), "format isn't one text"),
    "a number as format": (attribute("format", 3), "format isn't one text"),
    "no value as format": (attribute("format", h5py.Empty("S5")), "format isn't one text"),
    "versions": (attribute("format_version", [VERSION] * 3), "format_version isn't one whole number"),
    "a fraction as version": (attribute("format_version", 2.0), "format_version isn't one whole number"),
    "settings without end": (attribute("settings", "x" * 10_001), "settings is longer than 10,000"),
    "settings of a fixed length": (attribute("settings", np.bytes_(b"x" * 40_001)), "settings is longer than 10,000"),
    "a checksum that is a list": (attribute("source_sha256", ["a", "b"]), "source_sha256 isn't one text"),
    "classes of version 1": (attribute("classes", ["cat", "dog"]), "classes isn't one text"),
    "classes that aren't JSON": (attribute("classes", "cat, dog"), "can't be read"),
    "classes without end": (attribute("classes", json.dumps(["a"] * (MAX_CLASSES + 1))), "aren't a list of at most"),
    "a class's name too long": (attribute("classes", json.dumps(["a" * (MAX_NAME + 1)])), "texts of at most 200"),
    "classes that are numbers": (attribute("classes", "[1, 2]"), "texts of at most 200"),
    "classes in a table": (attribute("classes", '{"a": 1}'), "aren't a list"),
    "classes nested without end": (attribute("classes", "[" * 10**6), "can't be read"),
    "a number without end": (attribute("classes", f"[{'1' * 10**6}]"), "can't be read"),
}


# One code stands for all damage, so the reason shows which check refused a file, and that none came too late.


@pytest.mark.parametrize(("change", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_laid_out_otherwise_is_refused(tmp_path, monkeypatch, change, reason):
    monkeypatch.chdir(tmp_path)
    path = stranger(tmp_path, change)
    answer = outcome(load, path)
    assert answer.startswith("damaged a.h5: ")
    assert str(path) in answer
    assert re.search(f"(?s){reason}.*Pack it anew", answer), answer


@pytest.mark.parametrize(("change", "reason"), ODD.values(), ids=ODD)
def test_odd_types_and_attributes_are_refused(tmp_path, change, reason):
    path = stranger(tmp_path, change)
    with refused("damaged", "a.h5") as error:
        load(path)
    assert re.search(f"(?s){path}.*{reason}.*Pack it anew", str(error.value))


def test_what_a_chunk_unfolds_to_is_bounded_while_it_unfolds(tmp_path):
    """100 MB in 100 kB, where an image has 270 kB."""
    bomb, shape = zlib.compress(bytes(10**8)), (1, 300, 300, 3)
    path = make_packed_file(tmp_path / "a.h5", np.zeros(shape, np.uint8), chunks=shape, compression="gzip")
    with h5py.File(path, "r+") as file:
        file["train/images"].id.write_direct_chunk((0, 0, 0, 0), bomb)
    assert "a chunk isn't whole, or unfolds to more than it has to" in outcome(load, path, megabytes=50)


def test_names_of_classes_that_lie_in_the_same_bytes_do_not_add_up(tmp_path):
    """Version 1 had a text for each, and all may be one: 3,000 times 1 MB."""
    path = make_packed_file(tmp_path / "a.h5", PIXELS)
    with h5py.File(path, "r+") as file:
        text = h5py.string_dtype()
        file.attrs.create("classes", np.array(["x" * 10**6, *["y"] * 2999], object), dtype=text)
    raw = path.read_bytes()
    first = raw.index(struct.pack("<I", 10**6))  # length, address of the heap, number in it: 16 bytes for each name
    path.write_bytes(raw[:first] + raw[first : first + 16] * 3000 + raw[first + 16 * 3000 :])
    assert "classes isn't one text" in outcome(load, path)


@pytest.mark.parametrize("count", [7, 7 * 10**6])
def test_a_shape_that_is_larger_than_what_is_there_is_refused(tmp_path, count):
    """A number changed in a file without checksums; 7 is as it was."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver=("earliest", "v108")) as file:
        file.attrs.update({"format": FORMAT, "format_version": VERSION})
        file["train/images"] = file["holdout/images"] = PIXELS
    raw = path.read_bytes()
    assert raw.count(struct.pack("<4Q", *PIXELS.shape))
    path.write_bytes(raw.replace(struct.pack("<4Q", *PIXELS.shape), struct.pack("<4Q", count, *IMAGE)))
    answer = outcome(load, path)
    assert answer.startswith("read: " if count == 7 else "damaged a.h5: ")


def test_values_have_to_end_within_the_file(tmp_path):
    """HDF5 2.0 tells a file that was cut by itself."""
    path = make_packed_file(tmp_path / "a.h5", PIXELS)
    with h5py.File(path) as file:
        start = file["train/images"].id.get_offset()
        assert hdf5_safety.offset_of(file["train/images"], start + PIXELS.size) == start
        with pytest.raises(ValueError, match="the values of /train/images are cut short"):
            hdf5_safety.offset_of(file["train/images"], start + PIXELS.size - 1)


@pytest.mark.skipif(h5py.version.hdf5_version_tuple < (2, 0, 0), reason="older HDF5 may not tell a circle")
@pytest.mark.parametrize("memory", [0, 1000])
def test_an_index_of_chunks_that_goes_round_in_a_circle_is_refused(tmp_path, memory):
    """To count the chunks would crash the process."""
    many = np.zeros((200, 2, 2, 1), np.uint8)
    path = make_packed_file(tmp_path / "a.h5", many, chunks=(1, 2, 2, 1), compression="gzip")
    raw = bytearray(path.read_bytes())
    key, level = 48, 5  # bytes of a key of five dimensions, of which one is the type's size; place of a node's level
    nodes = [place for place in range(len(raw)) if raw[place : place + 5] == b"TREE\x01" and raw[place + level] > 0]
    assert len(nodes) == 2, "of train and holdout"
    for node in nodes:
        for child in range(struct.unpack_from("<H", raw, node + 6)[0]):
            struct.pack_into("<Q", raw, node + 24 + key + child * (key + 8), node)
    path.write_bytes(raw)
    assert "train/images can't be read: Can't" in outcome(lambda path: load(path, memory), path)


def test_what_is_no_file_is_neither_waited_for_nor_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        assert f"There is no file {path}, but a folder, a pipe or a device." in outcome(load, path)
        assert str(path) in outcome(lambda path: celeba("data", str(path)), path)


def test_a_file_of_holes_costs_nothing(tmp_path):
    path = make_packed_file(tmp_path / "a.h5", PIXELS)
    for content, answer in ((b"", "is not an HDF5 file"), (path.read_bytes(), f"read: {PIXELS[3, 0, 0, 0]}")):
        with (tmp_path / "holes.h5").open("wb") as file:
            file.write(content)
            file.truncate(2**40)
        assert answer in outcome(load, tmp_path / "holes.h5")


# What is as it has to be is read, however odd.


@pytest.mark.parametrize("memory", [0, 1000])
def test_good_files_of_other_tools_are_read(tmp_path, memory):
    """Chunks that gzip left as they are, texts of a fixed length, labels of another width and order of bytes."""
    path = stranger(
        tmp_path,
        put("train/images", chunks(bytes(SIZE), mask=1)),
        lambda file: file["train/images"].id.write_direct_chunk((3, 0, 0, 0), zlib.compress(PIXELS[3].tobytes())),
        put("holdout/images", dataset(data=PIXELS, chunks=(1, *IMAGE))),
        put("train/labels", dataset(data=LABELS.astype(">u2"))),
        put("holdout/labels", dataset(data=LABELS.astype(np.int8))),
        attribute("format", np.bytes_(FORMAT)),
        attribute("format_version", np.uint8(VERSION)),
        attribute("classes", np.bytes_('["cat", "dog", "K\\u00e4fer\\u202e"]')),
        attribute("source_sha256", "0f"),
        attribute("settings", '{"size": 5}'),
    )
    dataset_read = images(str(path), memory=memory)
    train = dataset_read.train
    heldout = dataset_read.heldout
    assert (train[torch.tensor([3])] * 255).round()[0].movedim(0, -1).tolist() == PIXELS[3].tolist()
    assert not train[torch.tensor([2])].any()
    assert (heldout[torch.arange(7)] * 255).round().movedim(1, -1).tolist() == PIXELS.tolist()
    assert train.labels.tolist() == heldout.labels.tolist() == LABELS.tolist()
    assert dataset_read.classes == ["cat", "dog", "Käfer\\u202e"], "without what turns a line of text round"
    assert dataset_read.source == f'{VERSION}\n0f\n{{"size": 5}}'


def test_a_file_without_a_header_has_a_version_at_least(tmp_path):
    packed = images(str(make_packed_file(tmp_path / "a.h5", PIXELS)), memory=0)
    assert packed.train.header == packed.source == f"{VERSION}\n\n"


@pytest.mark.parametrize(
    ("classes", "code"),
    [
        (["a"] * (MAX_CLASSES + 1), "unsupported"),
        (["a", "b" * 201], "invalid"),
    ],
)
def test_the_packer_writes_nothing_that_is_refused_later(tmp_path, classes, code):
    with ImageBuffer(tmp_path / "t.h5", 1) as buffer:
        buffer.put(0, np.zeros(IMAGE, np.uint8))
        origin = Origin("", "", {})
        with refused(code, "labels"):
            write_packed(buffer, np.arange(1), np.zeros(1, bool), ["a"], np.zeros(1, int), classes, origin, False)
    assert not list(tmp_path.iterdir())


# The book's layout, which scripts/pack.py reads.


def book(folder: Path, *changes: Callable[[h5py.File], None]) -> Path:
    """Two good images, `g/1.jpg` and `g/2.jpg`, and whatever is added."""
    (folder / "pipe").exists() or os.mkfifo(folder / "pipe")
    path = folder / "book.h5"
    with h5py.File(path, "w", libver="latest") as file:
        for name in ("1.jpg", "2.jpg"):
            file.create_dataset(f"g/{name}", data=PIXELS[0], compression="gzip")
        for change in changes:
            change(file)
    return path


def contents(path: Path) -> dict[str, object]:
    with closing(open_source(path)) as source:
        return {member.name: content for member, content in source.read(source.members)}


def summary(path: Path) -> str:
    """Returns the names of a source's images, each with "good" or why it can't be read."""
    lines = []
    for name, content in contents(path).items():
        good = isinstance(content, np.ndarray) and np.array_equal(content, PIXELS[0])
        lines.append(f"{name}: {'good' if good else content}")
    return "; ".join(lines)


GOOD = "g/1.jpg: good; g/2.jpg: good"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (2, 3, 2)},
        {"compression": "gzip"},
        {"chunks": (3, 4, 1), "compression": "gzip", "shuffle": True},
        {"chunks": (8, 8, 3), "maxshape": (None, None, 3), "compression": "gzip", "compression_opts": 9},
    ],
    ids=str,
)
@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_good_datasets_of_the_book_are_read(tmp_path, options, version):
    with h5py.File(tmp_path / "book.h5", "w", libver=version) as file:
        file.create_dataset("g/1.jpg", data=PIXELS[0], **options)
    assert np.array_equal(contents(tmp_path / "book.h5")["g/1.jpg"], PIXELS[0])


def piece(stored: bytes, shape=IMAGE, steps=IMAGE, places=((0, 0, 0),)):
    """A gzipped dataset of chunks of this shape, each of which these stored bytes stand for."""

    def make(group: h5py.Group, name: str) -> None:
        most = (None, None, 3)
        values = group.create_dataset(name, shape, np.uint8, chunks=steps, maxshape=most, compression="gzip")
        for place in places:
            values.id.write_direct_chunk(place, stored)

    return make


def nested(deep: int) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        group: h5py.Group = file
        for _ in range(deep):
            group = group.create_group("d")
        group["3.jpg"] = PIXELS[0]

    return change


ZEROS = zlib.compress(bytes(SIZE))

ADDED = {
    "lzf": (put("g/3.jpg", dataset(data=PIXELS[0], compression="lzf")), "3.jpg: .* a filter other than gzip"),
    "checksums": (put("g/3.jpg", dataset(data=PIXELS[0], fletcher32=True)), "3.jpg: .* a filter other than gzip"),
    "a chunk that inflates": (put("g/3.jpg", piece(zlib.compress(bytes(10**6)))), "3.jpg: .* unfolds to more"),
    "a chunk too large": (put("g/3.jpg", piece(bytes(10**7))), "3.jpg: out buffer is only"),
    "chunks larger than they need be": (
        put("g/3.jpg", piece(ZEROS, steps=(2**14, 2**14, 1))),
        "3.jpg: it has more than 268,435,455 values",
    ),
    "so many chunks": (put("g/3.jpg", piece(ZEROS, (4, 2**14, 3), (2**13, 1, 1))), "3.jpg: it has more than"),
    "huge, never written": (
        put("g/3.jpg", piece(b"", (3000, 3000, 3), (3000, 3, 1), ())),
        "3.jpg: (Can't get storage|out buffer is only)",
    ),
    "a chunk missing": (
        put("g/3.jpg", piece(ZEROS, (10, 4, 3), IMAGE)),
        "3.jpg: (Can't get storage|out buffer is only)",
    ),
    "never written": (put("g/3.jpg", dataset(shape=(9000, 9000, 3), dtype="u1")), "3.jpg: .* were never written"),
    "far too large": (put("g/3.jpg", dataset(shape=(2**30, 2**30, 3), dtype="u1")), "3.jpg: it has more than"),
    "without values": (put("g/3.jpg", dataset(shape=(0, 4, 3), dtype="u1")), "3.jpg: it has no values"),
    "virtual, a pipe tells its shape": (put("g/3.jpg", virtual(PIPE, unlimited=True)), "$"),
    "stored in a pipe": (put("g/3.jpg", dataset(shape=IMAGE, dtype="u1", external=PIPE)), "$"),
    "links to a pipe and around": (
        lambda file: [
            put("g/3.jpg", link(h5py.ExternalLink(PIPE, "x")))(file),
            put("g/4.jpg", link(h5py.SoftLink("/g/1.jpg")))(file),
            put("h", link(h5py.SoftLink("/")))(file),
        ],
        "$",
    ),
    "circles": (lambda file: [put("g/h", link(file))(file), put("g/3.jpg", link(file["g/1.jpg"]))(file)], "$"),
    "no dataspace": (put("g/3.jpg", dataset(data=h5py.Empty("u1"))), "$"),
    "compound": (put("g/3.jpg", dataset(shape=IMAGE, dtype=[("a", "u1")])), "$"),
    "an odd attribute": (attribute("format", [FORMAT] * 3, dtype=h5py.string_dtype()), "$"),
    "a large attribute": (attribute("format", np.bytes_(b"x" * 50_000)), "$"),
}


@pytest.mark.parametrize(("change", "reason"), ADDED.values(), ids=ADDED)
def test_bad_datasets_of_the_book_do_not_hide_the_good_ones(tmp_path, monkeypatch, change, reason):
    monkeypatch.chdir(tmp_path)
    answer = outcome(summary, book(tmp_path, change))
    assert re.search(f"^read: {GOOD}(; g/)?{reason}", answer), answer


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (nested(2000), "its groups lie more than 10 deep in each other"),
        (lambda file: file.create_group("g" * 256), "a name in / is longer than 255 bytes"),
    ],
    ids=["deep", "long"],
)
def test_names_without_end_are_refused(tmp_path, change, reason):
    """h5py's own walk takes minutes for some thousand groups in each other."""
    answer = outcome(summary, book(tmp_path, change))
    assert answer.startswith(f"damaged source: source={tmp_path / 'book.h5'} can't be read: {reason}")


def test_a_name_that_is_a_path_leads_nowhere(tmp_path):
    """Its own part before the / could be a link to a pipe."""
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "book.h5"
    with h5py.File(path, "w", libver=("earliest", "v108")) as file:
        file["a.b.jpg"] = PIXELS[0]
        file["a"] = h5py.ExternalLink(str(tmp_path / "pipe"), "x")
    path.write_bytes(path.read_bytes().replace(b"a.b.jpg", b"a/b.jpg"))
    assert "or has a / in it" in outcome(summary, path)


def test_groups_may_lie_in_each_other(tmp_path):
    assert f"{GOOD}; {'d/' * 10}3.jpg: good" not in outcome(summary, book(tmp_path, nested(11)))
    answer = outcome(summary, book(tmp_path, nested(10)))
    assert set(answer.removeprefix("read: ").split("; ")) == {*GOOD.split("; "), f"{'d/' * 10}3.jpg: good"}


def test_what_chunks_of_the_book_unfold_to_is_bounded_while_they_unfold(tmp_path):
    shape = (300, 300, 3)
    path = book(tmp_path, put("g/3.jpg", piece(zlib.compress(bytes(10**8)), shape, shape)))
    assert "unfolds to more" in outcome(summary, path, megabytes=50)
