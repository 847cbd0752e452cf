"""Archives, folders and the book's HDF5, good and evil: images are found and read in place, the rest is told."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import stat
import struct
import subprocess
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import refused

from gan_lab.core.errors import LabError
from gan_lab.core.terminal import printable
from gan_lab.pack import archives
from gan_lab.pack.archives import natural_key, open_source

CONTENTS = {"b/10.png": b"ten", "b/2.png": b"two", "a/x.JPG": b"x", "readme.txt": b"no image", "c/": b""}
FOUND = {"a/x.JPG": b"x", "b/2.png": b"two", "b/10.png": b"ten"}


def make_zip(path: Path, contents=CONTENTS, compression=zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, contents=CONTENTS, mode="w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.size = len(content)
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            archive.addfile(entry, io.BytesIO(content))
    return path


def make_folder(path: Path, contents=CONTENTS) -> Path:
    for name, content in contents.items():
        place = path / name
        (place if name.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            place.write_bytes(content)
    return path


def read(path: Path) -> dict:
    with closing(open_source(path)) as source:
        contents = {member.name: content for member, content in source.read(source.members)}
        names = sorted(contents, key=natural_key)
        assert [member.name for member in source.members] == names
        return {name: contents[name] for name in names}


def left_out(path: Path) -> dict[str, int]:
    with closing(open_source(path)) as source:
        return {what: count for what, count in source.left_out.items() if count}


MAKE = {
    "zip": make_zip,
    "stored": lambda path: make_zip(path, compression=zipfile.ZIP_STORED),
    "folder": make_folder,
    **{f"tar{kind}": lambda path, kind=kind: make_tar(path, mode=f"w{kind}") for kind in ("", ":gz", ":bz2", ":xz")},
}


@pytest.mark.parametrize("kind", MAKE)
def test_the_same_is_found_in_every_kind(tmp_path, kind):
    path = MAKE[kind](tmp_path / "source")  # told by its first bytes, not by its name
    assert list(read(path).items()) == list(FOUND.items())
    assert left_out(path) == {".txt: no images, by their names": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["source"], "nothing is unpacked"
    if kind == "folder":
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in FOUND.items()}
        text = "".join(f"{hashes[name]}  {name}\n" for name in sorted(FOUND)).encode()
    else:
        text = path.read_bytes()
    with closing(open_source(path)) as source:
        assert source.sha256() == hashlib.sha256(text).hexdigest()


def test_the_books_hdf5(tmp_path):
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    with h5py.File(tmp_path / "book.h5", "w") as file:
        group = file.create_group("img_align_celeba")
        for name in ("10.jpg", "2.jpg"):
            group.create_dataset(name, data=pixels, compression="gzip", compression_opts=9)
        group.create_dataset("0.jpg", data=pixels.astype(float))
        group.create_dataset("1.jpg", data=pixels[..., :2])
        group["3.jpg"] = h5py.ExternalLink("other.h5", "/x")
        (tmp_path / "secret").write_bytes(bytes(24))
        group.create_dataset("4.jpg", (4, 2, 3), np.uint8, external=[(str(tmp_path / "secret"), 0, 24)])
    contents = read(tmp_path / "book.h5")
    assert list(contents) == ["img_align_celeba/2.jpg", "img_align_celeba/10.jpg"]
    assert all((content == pixels).all() for content in contents.values())
    assert sum(left_out(tmp_path / "book.h5").values()) == 3


def test_damaged_hdf5_is_refused_whatever_h5py_makes_of_it(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "book.h5", "w") as file:
        file.create_dataset("g/1.jpg", data=np.zeros((4, 2, 3), np.uint8))
    (tmp_path / "cut.h5").write_bytes((tmp_path / "book.h5").read_bytes()[:-100])
    with refused("damaged", "source"):
        open_source(tmp_path / "cut.h5")
    for error in (KeyError("bad version number"), TypeError("No NumPy equivalent"), RuntimeError("wrong B-tree")):
        monkeypatch.setattr(
            archives.hdf5_safety, "iterate_datasets", lambda *_, error=error: (_ for _ in ()).throw(error)
        )
        with refused("damaged", "source") as refusal:
            open_source(tmp_path / "book.h5")
        assert str(error) in str(refusal.value)


def test_natural_order():
    names = ["10.jpg", "2.jpg", "a/1", "a10b2", "a10b10", "a9", "02.jpg", "b" + "9" * 5000]
    order = ["02.jpg", "2.jpg", "10.jpg", "a9", "a10b2", "a10b10", "a/1", "b" + "9" * 5000]
    assert sorted(names, key=natural_key) == order


def test_names_are_only_names(tmp_path):
    """Nothing is unpacked, so that ../ can't lead anywhere; what would steer a terminal is escaped."""
    names = ["../../evil.png", "/etc/evil.png", "C:\\evil.png", "\x1b[2Jevil.png", "a\u202egnp.png", "ü.png"]
    path = make_zip(tmp_path / "z.zip", dict.fromkeys(names, b"1"))
    escaped = {"../../evil.png", "/etc/evil.png", "\\x1b[2Jevil.png", "a\\u202egnp.png", "ü.png"}
    assert set(read(path)) == {*escaped, "C:/evil.png"}
    assert set(read(make_tar(tmp_path / "t.tar", dict.fromkeys(names, b"1")))) == {*escaped, "C:\\evil.png"}
    assert {entry.name for entry in tmp_path.iterdir()} == {"z.zip", "t.tar"}
    assert printable(os.fsdecode(b"a\xff\n")) == "a\\udcff\\n"


def test_what_is_left_out_is_counted(tmp_path):
    names = [
        "__MACOSX/a.png",
        "d/._a.png",
        ".DS_Store",
        "Thumbs.db",
        "in.zip",
        "in.tar.gz",
        "x/in.TAR",
        "a.csv",
        "a.png",
    ]
    path = make_zip(tmp_path / "z.zip", dict.fromkeys(names, b"1"))
    assert left_out(path) == {
        "in __MACOSX: of the system or a tool": 1,
        "hidden files: of the system or a tool": 3,
        ".csv: no images, by their names": 1,
        "archives inside, which aren't opened": 3,
    }


TOOLS = [
    "cat/.ipynb_checkpoints/1-checkpoint.png",
    "cat/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg",
    "$RECYCLE.BIN/$R1.png",
    ".git/1.png",
    "lost+found/1.png",
    "System Volume Information/1.png",
    "#recycle/1.png",
]


@pytest.mark.parametrize("make", [make_zip, make_tar, make_folder])
def test_what_tools_leave_behind_is_no_image(tmp_path, make):
    path = make(tmp_path / "source", dict.fromkeys([*TOOLS, "cat/1.png"], b"1"))
    assert list(read(path)) == ["cat/1.png"]
    assert left_out(path)["in @eaDir: of the system or a tool"] == 1
    assert sum(left_out(path).values()) == len(TOOLS)


def test_images_that_no_one_reads_are_named_with_a_way_out(tmp_path):
    names = ["1.HEIC", "2.cr2", "3.dcm", "4.npy", "5.svg", "6.mp4"]
    counts = left_out(make_zip(tmp_path / "z.zip", dict.fromkeys(names, b"1")))
    assert len(counts) == 6
    assert any("heic: HEIC photographs: convert" in kind for kind in counts)


@pytest.mark.parametrize(
    ("start", "phrase"),
    [
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"Rar!\x1a\x07", "RAR"),
        (b"\x93NUMPY\x01", "NumPy"),
        (b"MATLAB 5.0 MAT-file", "MATLAB"),
        (b"<!DOCTYPE html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"\xff\xd8\xff\xe0", "single image"),
    ],
)
def test_what_is_no_archive_is_named(tmp_path, start, phrase):
    (tmp_path / "a.zip").write_bytes(start + bytes(600))
    with refused("damaged", "source") as error:
        open_source(tmp_path / "a.zip")
    assert phrase in str(error.value)


KOREAN = ["고양이/1.png", "강아지/2.png", "토끼/3.png"]


def raw_zip(path: Path, names: list[bytes], extra=lambda _: b"", system: int = 0) -> Path:
    """Makes a zip of names as bytes, without the flag for UTF-8, as Windows' Explorer does."""
    locals_, centrals = b"", b""
    for name in names:
        field = extra(name)
        common = struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 33, zlib.crc32(b"1"), 1, 1, len(name), len(field))
        centrals += b"PK\1\2" + bytes([20, system]) + common + struct.pack("<HHHII", 0, 0, 0, 0, len(locals_))
        centrals += name + field
        locals_ += b"PK\3\4" + common + name + field + b"1"
    count = len(names)
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, len(centrals), len(locals_), 0)
    path.write_bytes(locals_ + centrals + end)
    return path


def names_and_notes(path: Path) -> tuple[set[str], list[str]]:
    with closing(open_source(path)) as source:
        assert all(content == b"1" for _, content in source.read(source.members))
        return {member.name for member in source.members}, source.notes


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("cp949", KOREAN),
        ("cp932", ["表/1.png", "ソフト/2.png", "うさぎ/3.png"]),  # whose second bytes are backslashes
        ("gbk", ["猫/1.png", "狗/2.png", "兔子/3.png"]),
        ("cp437", ["Löwe/1.png", "Hündin/2.png", "café/3.png"]),
        ("cp866", ["кошка/1.png", "собака/2.png"]),
    ],
)
@pytest.mark.parametrize("slash", ["/", "\\"])
def test_zips_of_windows(tmp_path, encoding, names, slash):
    raw = [slash.join(name.split("/")).encode(encoding) for name in names]
    found, notes = names_and_notes(raw_zip(tmp_path / "z.zip", raw))
    assert found == set(names)
    assert encoding in notes[0]


def test_only_names_of_images_are_worth_a_note(tmp_path):
    path = raw_zip(tmp_path / "z.zip", ["설명서.txt".encode("cp949"), b"cat/1.png"])
    assert names_and_notes(path) == ({"cat/1.png"}, [])


def test_names_that_state_their_encoding(tmp_path):
    """UTF-8 without the flag, as of macOS; Info-ZIP's field, if it belongs to the name; the flag."""
    assert names_and_notes(raw_zip(tmp_path / "u.zip", [name.encode() for name in KOREAN], system=3)) == (
        set(KOREAN),
        [],
    )
    ascii_names = {name.encode("cp949"): name for name in KOREAN}

    def unicode_path(name: bytes, checksum_of: bytes | None = None) -> bytes:
        data = struct.pack("<BL", 1, zlib.crc32(name if checksum_of is None else checksum_of))
        data += ascii_names[name].encode()
        return struct.pack("<HH", 0x7075, len(data)) + data

    single = [KOREAN[0].encode("cp949")]
    assert names_and_notes(raw_zip(tmp_path / "x.zip", single, unicode_path)) == ({KOREAN[0]}, [])
    ascii_names = dict.fromkeys(ascii_names, "wrong.png")
    found, notes = names_and_notes(
        raw_zip(tmp_path / "y.zip", list(ascii_names), lambda name: unicode_path(name, b"other"))
    )
    assert (found, len(notes)) == (set(KOREAN), 1)
    assert names_and_notes(make_zip(tmp_path / "f.zip", dict.fromkeys(KOREAN, b"1"))) == (set(KOREAN), [])


@pytest.mark.parametrize("format_", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_tars_in_another_encoding(tmp_path, format_, monkeypatch):
    monkeypatch.setattr(tarfile.TarFile, "encoding", "latin-1")  # of the system that reads
    for encoding in ("cp949", "utf-8"):
        with tarfile.open(tmp_path / encoding, "w", format=format_, encoding=encoding) as archive:
            for name in [*KOREAN, f"{'가' * 40}/긴 이름.png"]:
                entry = tarfile.TarInfo(name)
                entry.size = 1
                archive.addfile(entry, io.BytesIO(b"1"))
        found, notes = names_and_notes(tmp_path / encoding)
        assert set(KOREAN) < found
        assert len(notes) == (encoding == "cp949" and format_ != tarfile.PAX_FORMAT)


def test_folders_in_another_encoding(tmp_path):
    for name in KOREAN:
        path = os.path.join(os.fsencode(tmp_path / "f"), name.encode("cp949"))
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            Path(os.fsdecode(path)).write_bytes(b"1")
        except OSError:
            pytest.skip("this file system has only Unicode names")
    assert names_and_notes(tmp_path / "f")[0] == set(KOREAN)


def test_backslashes_of_powershell(tmp_path):
    names = ["cat\\", "cat\\1.png", "dog\\a\\2.png", ".\\3.png", "./4.png", "cat//5.png"]
    path = make_zip(tmp_path / "z.zip", dict.fromkeys(names, b"1"))
    assert set(read(path)) == {"cat/1.png", "dog/a/2.png", "3.png", "4.png", "cat/5.png"}
    assert left_out(path) == {}


def test_names_in_two_unicode_forms(tmp_path):
    composed, decomposed = "caf\u00e9/1.png", "cafe\u0301/1.png"
    for make in (make_zip, make_tar, make_folder):
        path = make(tmp_path / make.__name__, {decomposed: b"1", "b/1.png": b"1"})
        assert names_and_notes(path) == ({composed, "b/1.png"}, [])
        both = make(tmp_path / f"{make.__name__}2", {decomposed: b"1", composed: b"1", "cafz/1.png": b"1"})
        with closing(open_source(both)) as source:
            assert [member.name for member in source.members] == ["cafz/1.png", decomposed, composed]
            assert "1 names" in source.notes[0]


def test_of_names_that_come_twice_the_last_counts(tmp_path):
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("a.png", b"first")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.png", b"second")
    assert read(tmp_path / "z.zip") == {"a.png": b"second"}
    assert sum(left_out(tmp_path / "z.zip").values()) == 1


def test_links_devices_and_pipes_are_not_followed(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    folder = make_folder(tmp_path / "folder", {"a.png": b"1"})
    (folder / "link.png").symlink_to(secret)
    (folder / "up").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.png")
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            entry = tarfile.TarInfo(f"{kind.decode()}.png")
            entry.type, entry.linkname = kind, str(secret)
            archive.addfile(entry)
        archive.add(folder / "a.png", "a.png")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        entry = zipfile.ZipInfo("link.png")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, str(secret))
        archive.writestr("a.png", b"1")
    for path, links in ((folder, 3), (tmp_path / "t.tar", 4), (tmp_path / "z.zip", 1)):
        assert read(path) == {"a.png": b"1"}
        assert left_out(path) == {"links, devices or pipes, which aren't followed": links}


def test_a_member_that_unfolds_without_end_is_read_no_further_than_is_stated(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 1000)
    bomb = {"a.png": bytes(10**7), "b.png": b"good"}
    for path in (
        make_zip(tmp_path / "z.zip", bomb),
        make_tar(tmp_path / "t.tgz", bomb, "w:gz"),
        make_folder(tmp_path / "f", bomb),
    ):
        contents = read(path)
        assert len(contents["a.png"]) == 1001, "one more, so that it is known to be too many"
        assert contents["b.png"] == b"good"


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_zipfile_would_unfold_whole_is_refused(tmp_path, compression):
    path = make_zip(tmp_path / "z.zip", {"a.png": bytes(10**7)}, compression)
    tracemalloc.start()
    assert "deflate" in str(read(path)["a.png"])
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_tar_that_unfolds_without_end_is_refused(tmp_path, compress):
    header = tarfile.TarInfo("a.png")
    header.size = 10**13
    (tmp_path / "t").write_bytes(compress(header.tobuf() + bytes(10**6)))
    with refused("damaged", "source") as error:
        open_source(tmp_path / "t")
    assert "unfolds to more than" in str(error.value), "for no other reason"


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_name_that_unfolds_without_end_is_refused(tmp_path, kind):
    header = tarfile.TarInfo("a.png")
    header.size, header.type = 10**8, kind
    (tmp_path / "t").write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(10**8), 1))
    tracemalloc.start()
    with refused("damaged", "source") as error:
        open_source(tmp_path / "t")
    assert "has no end" in str(error.value), "for no other reason"
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_names_without_end_are_left_out_and_counted(tmp_path):
    """So that neither accents nor folders without end take time or memory."""
    names = ["a" + "\u0301\u0323" * 15_000 + ".png", "a/" * 30_000 + "1.png", "cat/1.png"]
    for make in (make_zip, make_tar):
        path = make(tmp_path / make.__name__, dict.fromkeys(names, b"1"))
        started = time.process_time()
        assert list(read(path)) == ["cat/1.png"]
        assert left_out(path) == {"of a name that is longer or deeper than any file system's": 2}
        assert time.process_time() - started < 2


def test_an_encrypted_zip_is_refused(tmp_path):
    path = make_zip(tmp_path / "z.zip", {"a.png": b"1"})
    raw = bytearray(path.read_bytes())
    for sign, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(sign) + place] |= 1
    path.write_bytes(raw)
    with refused("unsupported", "source"):
        open_source(path)


@pytest.mark.parametrize("kind", [kind for kind in MAKE if kind != "folder"])
def test_a_truncated_archive_is_refused_wherever_it_was_cut(tmp_path, kind):
    whole = MAKE[kind](tmp_path / "whole").read_bytes()
    end = len(whole.rstrip(b"\0")) if kind == "tar" else len(whole) - 1  # a tar's own end is zeros, some to spare
    cut = tmp_path / "cut"
    for length in sorted({0, *range(1, end, max(1, end // 60)), end - 1, end}):
        cut.write_bytes(whole[:length])
        with refused("damaged", "source"):
            open_source(cut)


@pytest.mark.parametrize("kind", [kind for kind in MAKE if kind != "folder"])
def test_damage_is_found_or_harmless(tmp_path, kind):
    """Whatever bits are flipped: members, an error in their place, or a refusal."""
    whole = MAKE[kind](tmp_path / "whole").read_bytes()
    chance = random.Random(0)
    for _ in range(60):
        raw = bytearray(whole)
        for _ in range(chance.choice([1, 1, 4, 40])):
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        (tmp_path / "bad").write_bytes(raw)
        try:
            contents = read(tmp_path / "bad").values()
        except LabError as error:
            assert error.key == "source"
        else:
            assert all(isinstance(content, (bytes, Exception)) for content in contents)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello" * 500, b"PK\x03\x04" + bytes(99), b"\x89HDF\r\n\x1a\n" + bytes(99), gzip.compress(b"x" * 999)],
    ids=["empty", "text", "like a zip", "like HDF5", "gzip of text"],
)
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with refused("damaged", "source"):
        open_source(tmp_path / "a.zip")


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing.zip", tmp_path / "pipe", Path("/dev/zero")):
        with refused("missing", "source"):
            open_source(path)


def test_a_packed_file_is_not_packed_again(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["format"] = "gan_lab images"
    with refused("exists", "source"):
        open_source(tmp_path / "a.h5")


def test_a_folders_checksum_can_be_made_with_sha256sum(tmp_path):
    folder = make_folder(tmp_path / "folder", FOUND)
    listing = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    completed = subprocess.run(["sh", "-c", listing], cwd=folder, capture_output=True, text=True)
    if completed.returncode:
        pytest.skip("no sha256sum here")
    with closing(open_source(folder)) as source:
        assert source.sha256() == completed.stdout.split()[0]
