"""NumPy files of strangers: what is read is what is there, and nothing runs, crashes or fills memory."""

import io
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import refused

from gan_lab.core.errors import LabError
from gan_lab.pack.arrays import is_array_file, stored_arrays
from gan_lab.pack.sample_request import SampleRequest
from gan_lab.pack.samples import read_samples

IMAGES = np.random.default_rng(0).integers(256, size=(40, 5, 4, 3), dtype=np.uint8)
LABELS = np.arange(40) % 10


def header(shape: object, descr: object = "|u1", fortran: object = False, version: tuple[int, int] = (1, 0)) -> bytes:
    """Returns the beginning of an .npy file that claims this form."""
    text = repr({"descr": descr, "fortran_order": fortran, "shape": shape}).encode() + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text


def write_npz(path: Path, method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["|u1", "<i8", ">f4", "<f2", "<f8"])
def test_rows_are_read_from_wherever_they_are(tmp_path, monkeypatch, save, order, dtype):
    monkeypatch.setattr("gan_lab.pack.arrays.BLOCK_BYTES", 300)
    values = np.asarray(IMAGES, dtype=dtype, order=order)
    save(tmp_path / "a.npz", values, LABELS)
    np.save(tmp_path / "a.npy", values)
    rows = np.array([0, 1, 17, 39])
    for path in (tmp_path / "a.npz", tmp_path / "a.npy"):
        assert is_array_file(path)
        read = stored_arrays(path, "generated")[0].read(rows)
        assert read.dtype == (np.float32 if values.dtype.kind == "f" else values.dtype)
        np.testing.assert_array_equal(read, values[rows].astype(read.dtype))


def test_a_file_of_the_second_version_of_the_format(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(header((2, 3), version=(2, 0)) + bytes(range(6)))
    np.testing.assert_array_equal(stored_arrays(path, "generated")[0].read(np.array([1])), [[3, 4, 5]])


def test_which_files_are_arrays(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text.npy").write_text("1 2 3")
    with zipfile.ZipFile(tmp_path / "mixed.npz", "w") as archive:
        archive.writestr("a.npy", npy(LABELS))
        archive.writestr("a.png", b"")
    write_npz(tmp_path / "no.npz")
    for name in ("empty", "text.npy", "mixed.npz", "no.npz", "nowhere", "."):
        assert not is_array_file(tmp_path / name), name


class Evil:
    def __reduce__(self):
        return os.mkdir, ("ran",)


WRONG = {
    "objects": npy(np.array([Evil(), 1], dtype=object)),
    "fields": npy(np.zeros(3, dtype=[("a", "u1"), ("b", "f4")])),
    "texts": npy(np.array(["a", "b"])),
    "complex": npy(np.zeros((3, 2), dtype=complex)),
    "times": npy(np.zeros((3, 2), dtype="M8[s]")),
    "more than there is": header((10**9, 32, 32, 3)) + bytes(100),
    "more than any computer has": header((10**30, 2)) + bytes(100),
    "negative": header((-4, 2)) + bytes(100),
    "many axes": header((1,) * 40) + bytes(100),
    "no tuple": header([3, 2]) + bytes(100),
    "no order": header((3, 2), fortran="perhaps") + bytes(100),
    "a type that is code": header((3, 2), descr="__import__('os').mkdir('ran')") + bytes(100),
    "a type within types": header((3, 2), descr=[("a", [("b", "|O")])]) + bytes(100),
    "wide values": header((3, 2), descr="|S1000000000") + bytes(100),
    "nested": b"\x93NUMPY\1\0" + struct.pack("<H", 9000) + b"(" * 9000,
    "signs": b"\x93NUMPY\1\0" + struct.pack("<H", 9000) + b"-" * 8999 + b"1",
    "a header of 4 GiB": b"\x93NUMPY\2\0\xff\xff\xff\xff" + b" " * 100_000,
    "a future version": b"\x93NUMPY\7\0\x10\0" + bytes(100),
    "only the beginning": b"\x93NUMPY",
    "nothing after it": header((3, 2)),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("file", ["a.npy", "a.npz"])
def test_what_is_no_array_of_numbers_is_refused(tmp_path, monkeypatch, kind, file):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / file
    if file == "a.npy":
        path.write_bytes(WRONG[kind])
    else:
        write_npz(path, arr_0=WRONG[kind])
    with refused("damaged", "generated"):
        read_samples(SampleRequest(path, "generated"))
    assert [entry.name for entry in tmp_path.iterdir()] == [file], "nothing ran"


def test_a_bomb_is_not_unfolded(tmp_path):
    """20 MB of zeros in 20 kB, whose headers promise 3 TB, or a billion labels."""
    zeros = bytes(20_000_000)
    huge = write_npz(tmp_path / "huge.npz", arr_0=header((10**9, 32, 32, 3)) + zeros)
    header_bomb = write_npz(tmp_path / "header.npz", arr_0=b"\x93NUMPY\2\0\xff\xff\xff\x7f" + zeros)
    labels = write_npz(tmp_path / "labels.npz", arr_0=npy(IMAGES), arr_1=header((10**9,), "<i8") + zeros)
    stretched = write_npz(tmp_path / "lies.npz", zipfile.ZIP_STORED, arr_0=npy(IMAGES))
    content = stretched.read_bytes()
    size = struct.pack("<I", len(npy(IMAGES)))
    stretched.write_bytes(content.replace(size, b"\xff\xff\xff\x7f"))
    tracemalloc.start()
    for path in (huge, header_bomb, labels, stretched):
        with pytest.raises(LabError) as error:
            read_samples(SampleRequest(path, "generated"))
        assert error.value.code in ("damaged", "conflict")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_bomb_that_keeps_its_promise_is_no_sample(tmp_path):
    bomb = write_npz(tmp_path / "wide.npz", arr_0=header((2, 10_000, 10_000)) + bytes(1000))
    with refused("unsupported", "generated"):
        read_samples(SampleRequest(bomb, "generated"))


def test_many_arrays_and_an_odd_compression_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "many.npz", "w") as archive:
        for number in range(1_001):
            archive.writestr(f"{number}.npy", b"")
    for path in (tmp_path / "many.npz", write_npz(tmp_path / "lzma.npz", zipfile.ZIP_LZMA, arr_0=npy(IMAGES))):
        with refused("damaged", "generated"):
            read_samples(SampleRequest(path, "generated"))


@pytest.mark.parametrize("file", ["a.npy", "a.npz"])
def test_damage_anywhere_is_refused_or_harmless(tmp_path, file):
    path = tmp_path / file
    if file == "a.npy":
        path.write_bytes(npy(IMAGES))
    else:
        write_npz(path, arr_0=npy(IMAGES), arr_1=npy(LABELS))
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(100):
        damaged = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            # Headers and directories are where damage does most.
            place = rng.integers(len(content)) if rng.random() < 0.3 else rng.choice([1, -1]) * rng.integers(1, 200)
            damaged[place] = rng.integers(256)
        if rng.random() < 0.2:
            damaged = damaged[: rng.integers(len(damaged))]
        path.write_bytes(bytes(damaged))
        try:
            samples = read_samples(SampleRequest(path, "generated"))
        except LabError as error:
            assert "\x1b" not in str(error)
        else:
            assert samples.total < 10_000
