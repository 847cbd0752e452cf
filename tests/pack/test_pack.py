"""The pack command: what is in the file that it makes, and what becomes of sources that won't do."""

import errno
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import yaml
from conftest import ROOT, command_main, refused
from PIL import Image
from test_archives import make_folder, make_tar, make_zip

import gan_lab
from gan_lab.data import hdf5_writer
from gan_lab.data.hdf5_writer import ImageBuffer, Origin, write_packed
from gan_lab.pack import decoding
from gan_lab.pack.packer import PackSettings, pack

KEYS = {
    key: value
    for key, value in yaml.safe_load((ROOT / "conf" / "pack.yaml").read_text()).items()
    if key in PackSettings._fields
}


def png(value: int, size: tuple[int, int] = (3, 2)) -> bytes:
    """An image of one colour, `(value, 0, 255 - value)`; size is width, height."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, 0, 255 - value)).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = {f"{'cat' if n % 3 else 'dog'}/{n}.png": png(n) for n in range(30)}


def packing(source: Path, target: Path, **keys) -> str:
    return pack(PackSettings(**{**KEYS, "source": str(source), "target": str(target), "size": 2, "workers": 0, **keys}))


def content(target: Path) -> dict[str, tuple]:
    """Reads a target: for each image its part, its pixels' one value of red, and its class's name."""
    images = {}
    with h5py.File(target) as file:
        for part in ("train", "holdout"):
            group = file[part]
            labels = group["labels"][()] if "labels" in group else [None] * len(group["names"])
            for name, pixels, number in zip(group["names"].asstr()[()], group["images"][()], labels, strict=True):
                value = int(pixels[0, 0, 0])
                assert (pixels == [value, 0, 255 - value]).all()
                images[name] = (part, value, None if number is None else json.loads(file.attrs["classes"])[number])
    return images


def test_the_layout(tmp_path):
    source = make_zip(tmp_path / "z.zip", IMAGES)
    report = packing(source, tmp_path / "new" / "t.h5", labels="folders")
    with h5py.File(tmp_path / "new" / "t.h5") as file:
        about = dict(file.attrs)
        assert (about["format"], about["format_version"]) == ("gan_lab images", 2)
        assert (about["source"], about["created_by"]) == ("z.zip", f"gan_lab {gan_lab.__version__}")
        assert about["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
        assert json.loads(about["classes"]) == ["cat", "dog"]
        settings = {"size": 2, "crop": "center", "limit": 20000, "color": "rgb", "background": "white"}
        assert json.loads(about["settings"]) == {**settings, "holdout": 0.1, "labels": "folders", "column": None}
        assert about.keys() == {
            "format",
            "format_version",
            "source",
            "created_by",
            "source_sha256",
            "classes",
            "settings",
        }
        assert set(file) == {"train", "holdout"}
        for part, count in (("train", 27), ("holdout", 3)):  # 2 of 20 cats, 1 of 10 dogs
            images, labels, names = (file[part][name] for name in ("images", "labels", "names"))
            assert (images.shape, images.dtype, images.chunks) == ((count, 2, 2, 3), np.uint8, None)
            assert (labels.shape, labels.dtype) == ((count,), np.int64)
            assert names.shape == (count,)
            assert h5py.check_string_dtype(names.dtype) == ("utf-8", None)
            raw = np.memmap(tmp_path / "new" / "t.h5", np.uint8, "r", images.id.get_offset(), images.shape)
            assert (raw == images[()]).all()
            numbers = [int(name.split("/")[1].removesuffix(".png")) for name in names.asstr()[()]]
            assert numbers == sorted(numbers, key=lambda n: (n % 3 == 0, n)), "in natural order, cats before dogs"
    packed = content(tmp_path / "new" / "t.h5")
    assert {name: value for name, (_, value, _) in packed.items()} == {name: n for n, name in enumerate(IMAGES)}
    assert all(name.startswith(f"{of}/") for name, (_, _, of) in packed.items())
    cats, dogs = (sorted(filter(lambda name: of in name, IMAGES), key=_hash) for of in ("cat", "dog"))
    assert {name for name, (part, _, _) in packed.items() if part == "holdout"} == {*cats[:2], dogs[0]}
    assert "Packed 30 of 30 images" in report
    assert "27 to train on, 3 held out" in report
    assert "2 (cat 20, dog 10)" in report
    assert f"python train.py dataset=images data.path={tmp_path}/new/t.h5" in report
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["t.h5"]


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


@pytest.mark.parametrize("labels", ["none", "folders"])
def test_the_same_whatever_the_source_and_the_workers(tmp_path, labels):
    sources = [make_zip(tmp_path / "z.zip", IMAGES), make_folder(tmp_path / "f", IMAGES)]
    backwards = dict(reversed(IMAGES.items()))
    sources += [make_tar(tmp_path / "t.tgz", backwards, "w:gz"), make_tar(tmp_path / "t.tar", IMAGES)]
    contents = []
    for source in sources:
        targets = [tmp_path / f"{source.name}{workers}.h5" for workers in (0, 3)]
        for target, workers in zip(targets, (0, 3), strict=True):
            packing(source, target, labels=labels, workers=workers)
        assert targets[0].read_bytes() == targets[1].read_bytes(), "to the byte"
        contents.append(content(targets[0]))
    assert all(images == contents[0] for images in contents)


def test_compressed_it_is_chunked_by_image(tmp_path):
    source = make_zip(tmp_path / "z.zip", IMAGES)
    packing(source, tmp_path / "plain.h5")
    packing(source, tmp_path / "small.h5", compress=True)
    assert content(tmp_path / "small.h5") == content(tmp_path / "plain.h5")
    with h5py.File(tmp_path / "small.h5") as file:
        assert (file["train/images"].chunks, file["train/images"].compression) == ((1, 2, 2, 3), "gzip")
        assert file["train"].keys() == {"images", "names"}, "no labels are known"
        assert json.loads(file.attrs["classes"]) == []


def test_limit_takes_the_first_by_name(tmp_path):
    source = make_zip(tmp_path / "z.zip", {f"{n}.png": png(n) for n in range(29, -1, -1)})
    assert "leaves out 27" in packing(source, tmp_path / "t.h5", limit=3)
    assert sorted(content(tmp_path / "t.h5")) == ["0.png", "1.png", "2.png"]
    report = packing(make_zip(tmp_path / "y.zip", IMAGES), tmp_path / "u.h5", limit=20, labels="folders")
    assert "leaves out 10 images, all of dog among them" in report


def test_limit_takes_the_first_by_name_in_either_unicode_form(tmp_path):
    """As bytes, a decomposed ä comes before b, and a composed one behind z."""
    images = {f"{letter}.png": png(number) for number, letter in enumerate("abzä")}
    decomposed = {unicodedata.normalize("NFD", name): image for name, image in images.items()}
    packing(make_zip(tmp_path / "nfc.zip", images), tmp_path / "nfc.h5", limit=3)
    packing(make_tar(tmp_path / "nfd.tar", decomposed), tmp_path / "nfd.h5", limit=3)
    assert content(tmp_path / "nfc.h5") == content(tmp_path / "nfd.h5")


def test_paths_from_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    make_zip(tmp_path / "z.zip", IMAGES)
    (tmp_path / "l.csv").write_text("".join(f"{n}.png,{n % 2}\n" for n in range(30)))
    packing(Path("~/z.zip"), Path("~/t.h5"), labels="~/l.csv")
    assert len(content(tmp_path / "t.h5")) == 30


def test_labels_by_csv(tmp_path):
    (tmp_path / "l.csv").write_text("name,kind\n" + "".join(f"{n}.png,{n % 2}\n" for n in range(20)))
    report = packing(make_zip(tmp_path / "z.zip", IMAGES), tmp_path / "t.h5", labels=str(tmp_path / "l.csv"))
    packed = content(tmp_path / "t.h5")
    assert len(packed) == 20
    assert all(of == str(value % 2) for _, value, of in packed.values())
    assert "10 without a label" in report
    with h5py.File(tmp_path / "t.h5") as file:
        assert json.loads(file.attrs["settings"])["labels"] == "l.csv"


def test_the_books_own_file(tmp_path):
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (4, 218, 178, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "celeba.h5", "w") as file:
        for number, face in enumerate(faces):
            name = f"img_align_celeba/{number}.jpg"
            file.create_dataset(name, data=face, compression="gzip", compression_opts=9)
    packing(tmp_path / "celeba.h5", tmp_path / "t.h5", size=None, crop="128x128", holdout=0.25, workers=2)
    with h5py.File(tmp_path / "t.h5") as file:
        for part, count in (("train", 3), ("holdout", 1)):
            numbers = [int(name[len("img_align_celeba/") : -len(".jpg")]) for name in file[part]["names"].asstr()]
            assert len(numbers) == count
            assert (file[part]["images"][()] == faces[numbers, 45:173, 25:153]).all()  # (218 - 128)/2, (178 - 128)/2


def test_thousands_of_classes_and_more_images_than_a_block(tmp_path, monkeypatch):
    """5,000 names are more than an HDF5 attribute of the oldest kind holds; blocks of two images are copied."""
    monkeypatch.setattr(hdf5_writer, "BLOCK_BYTES", 2 * 12)
    values = np.arange(5000) % 256
    numbers = np.arange(5000)
    is_heldout = numbers % 7 == 3
    names = [str(n) for n in range(5000)]
    classes = [f"class {n}" for n in range(5000)]
    with ImageBuffer(tmp_path / "t.h5", 5000) as buffer:
        for place in reversed(range(5000)):
            buffer.put(place, np.full((2, 2, 3), values[place], np.uint8))
        write_packed(buffer, numbers, is_heldout, names, numbers, classes, Origin("", "", {}), compress=False)
    with h5py.File(tmp_path / "t.h5") as file:
        assert json.loads(file.attrs["classes"])[4999] == "class 4999"
        assert (file["train/images"][:, 0, 0, 0] == values[~is_heldout]).all()
        assert (file["holdout/images"][:, 1, 1, 2] == values[is_heldout]).all()
        assert (file["holdout/labels"][()] == np.flatnonzero(is_heldout)).all()


def gray16(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((2, 3), value, np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def test_16_bit_gray_has_one_white_whatever_the_workers(tmp_path):
    """12 bits, most of them dark: not each image by itself, and whichever is decoded first."""
    images = {f"{n}.png": gray16(10 * n) for n in range(70)} | {"70.png": gray16(4095), "8bit.png": png(7)}
    bad = {"cut.png": gray16(9)[:50]}
    for source in (make_zip(tmp_path / "z.zip", images | bad), make_tar(tmp_path / "t.tgz", images | bad, "w:gz")):
        reports = [
            packing(source, tmp_path / f"{source.name}{workers}.h5", workers=workers, color="gray", max_bad=0.1)
            for workers in (0, 3)
        ]
        first, second = ((tmp_path / f"{source.name}{workers}.h5").read_bytes() for workers in (0, 3))
        assert first == second
        assert all("71 images are 16-bit gray, with values of 12 bits: 4,095 becomes white" in text for text in reports)
        assert all("Packed 72 of 73" in text for text in reports)
    values = {}
    with h5py.File(tmp_path / "z.zip0.h5") as file:
        for part in ("train", "holdout"):
            for name, pixels in zip(file[part]["names"].asstr()[()], file[part]["images"][()], strict=True):
                values[name] = int(pixels[0, 0, 0])
    assert values["70.png"] == 255
    assert all(values[f"{n}.png"] == round(10 * n * 255 / 4095) for n in range(70))
    report = packing(tmp_path / "z.zip", tmp_path / "l.h5", limit=60, color="gray")
    assert "values of 10 bits" in report, "of the images that are packed"


def test_a_school_in_seoul(tmp_path):
    """A zip by Windows' Explorer, with what Windows and a NAS leave behind, and 16 bits nowhere."""
    names = [f"사진\\{word}\\{n}.png" for word in ("고양이", "강아지") for n in range(10)]
    source = tmp_path / "사진.zip"
    raw = {name.encode("cp949"): png(number) for number, name in enumerate(names)}
    with zipfile.ZipFile(source, "w") as archive:
        for name, image in raw.items():
            entry = zipfile.ZipInfo(name.decode("cp437"))
            entry.create_system = 0
            # Of one length with the name that is put in its place: zipfile would set the flag for UTF-8.
            entry.filename = entry.orig_filename = "x" * (len(name) - 2) + f"{len(archive.infolist()):02}"
            archive.writestr(entry, image)
        archive.writestr("@eaDir/1.png", png(1))
    content_of_zip = source.read_bytes()
    for number, name in enumerate(raw):
        content_of_zip = content_of_zip.replace(b"x" * (len(name) - 2) + b"%02d" % number, name)
    source.write_bytes(content_of_zip)
    report = packing(source, tmp_path / "t.h5", labels="folders")
    assert "Classes: 2 (강아지 10, 고양이 10)" in report
    assert "Korean (cp949)" in report
    assert "1 in @eaDir" in report
    assert {label for _, _, label in content(tmp_path / "t.h5").values()} == {"고양이", "강아지"}


def test_celebas_attributes(tmp_path):
    source = make_zip(tmp_path / "z.zip", {f"img_align_celeba/{n:06}.jpg": png(n) for n in range(1, 21)})
    lines = [f"{n:06}.jpg {-1 if n % 2 else 1:2} {1:2}" for n in range(1, 21)]
    (tmp_path / "list_attr_celeba.txt").write_text("20\nSmiling Young\n" + "\n".join(lines) + "\n")
    table = str(tmp_path / "list_attr_celeba.txt")
    report = packing(source, tmp_path / "t.h5", labels=table, column="Smiling")
    assert "Classes: 2 (Smiling 10, not Smiling 10)" in report
    with refused("missing", "column"):
        packing(source, tmp_path / "u.h5", labels=table)
    assert not (tmp_path / "u.h5").exists()


def test_any_tool_opens_it(tmp_path):
    if not shutil.which("h5ls"):
        pytest.skip("no h5ls here")
    packing(make_zip(tmp_path / "z.zip", IMAGES), tmp_path / "t.h5", labels="folders")
    listed = subprocess.run(["h5ls", "-r", str(tmp_path / "t.h5")], capture_output=True, text=True, check=True).stdout
    assert "/train/images            Dataset {27, 2, 2, 3}" in listed


# What won't do.


def test_bad_images_are_counted_and_named(tmp_path):
    bad = {"cat/zero.png": b"", "cat/text\n.png": b"hello", "cat/cut.png": IMAGES["dog/0.png"][:-40]}
    source = make_zip(tmp_path / "z.zip", {**IMAGES, **bad, "in.zip": b"", "about.txt": b""})
    report = packing(source, tmp_path / "t.h5", max_bad=0.1, workers=2)  # 3 of 33
    assert "Packed 30 of 33" in report
    assert "Can't be read: 3." in report
    assert "cat/zero.png: it is empty" in report
    assert "cat/text\\n.png: it is no image" in report
    assert "1 archives inside" in report
    assert ".txt" in report
    assert content(tmp_path / "t.h5").keys() == IMAGES.keys()
    source = make_zip(tmp_path / "z.zip", {**IMAGES, **bad, "ape/0.png": b""})
    packing(source, tmp_path / "v.h5", max_bad=0.2, labels="folders")
    with h5py.File(tmp_path / "v.h5") as file:
        assert json.loads(file.attrs["classes"]) == ["cat", "dog"], "no class without an image"
    assert content(tmp_path / "v.h5")["dog/0.png"][1:] == (0, "dog")
    source = make_zip(tmp_path / "z.zip", {**IMAGES, **bad})
    for labels in ("none", "folders"):
        with refused("damaged", "max_bad"):
            packing(source, tmp_path / "u" / "v" / "t.h5", max_bad=0.09, labels=labels)
    assert not (tmp_path / "u").exists(), "nor a folder for it"


@pytest.mark.parametrize(
    ("contents", "keys", "code", "key"),
    [
        ({"a.txt": b""}, {}, "missing", "source"),
        ({}, {}, "missing", "source"),
        ({"a.png": b"x"}, {"max_bad": 1.0}, "damaged", "source"),
        ({"a.png": png(1), "b.png": png(1, (3, 3))}, {"size": None, "crop": "none"}, "conflict", "size"),
        ({"a.png": png(1)}, {}, "conflict", "holdout"),
        ({"a/a.png": png(1), "b/b.png": png(1)}, {"labels": "folders"}, "conflict", "holdout"),
        ({"a.png": png(1)}, {"crop": "3x3"}, "damaged", "source"),
        ({"a.png": png(1)}, {"crop": "round"}, "invalid", "crop"),
        ({"a.png": png(1)}, {"background": "whitish"}, "invalid", "background"),
        ({"a.png": png(1)}, {"labels": "nowhere.csv"}, "missing", "labels"),
    ],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_what_cannot_be_packed_is_refused_and_leaves_nothing(tmp_path, contents, keys, code, key, workers):
    source = make_zip(tmp_path / "z.zip", contents)
    with refused(code, key):
        packing(source, tmp_path / "t.h5", workers=workers, **keys)
    assert [entry.name for entry in tmp_path.iterdir()] == ["z.zip"]


def test_a_target_that_is_there_stays(tmp_path):
    source = make_zip(tmp_path / "z.zip", IMAGES)
    (tmp_path / "t.h5").write_text("mine")
    (tmp_path / "u.h5").symlink_to(tmp_path / "elsewhere")
    for name in ("t.h5", "u.h5", "."):
        with refused("exists", "target"):
            packing(source, tmp_path / name)
    assert (tmp_path / "t.h5").read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_a_target_that_cannot_be_written(tmp_path, small_disk):
    source = make_zip(tmp_path / "z.zip", IMAGES)
    folder = small_disk(100, "ro")
    for place in (folder, folder / "new"):
        with refused("storage", "target") as error:
            packing(source, place / "t.h5")
        assert "Read-only file system" in str(error.value)


def test_too_little_room_is_noticed_beforehand(tmp_path, small_disk):
    source = make_zip(tmp_path / "z.zip", IMAGES)
    folder = small_disk(500)
    with refused("storage", "target") as error:
        packing(source, folder / "new" / "t.h5", size=128)
    # 2 · 30 · 128² · 3 bytes
    assert "has 0.5 MB free, but 30 images take 3.0 MB" in str(error.value)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kib", [300, 1600, 2300])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path, small_disk, monkeypatch, kib):
    """Others write as well: while images are decoded (1.5 MB), or while the file is made of them."""
    source = make_zip(tmp_path / "z.zip", IMAGES)
    folder = small_disk(kib)
    monkeypatch.setattr(hdf5_writer.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    with refused("storage", "target") as error:
        packing(source, folder / "t.h5", size=128)
    assert "No space left on device" in str(error.value)
    assert list(folder.iterdir()) == []
    packing(source, folder / "t.h5", size=2)


@pytest.mark.skipif(sys.platform != "linux" or sys.version_info >= (3, 14), reason="a fork inherits what is patched")
def test_a_worker_that_is_killed_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "decode_all", _die)
    with refused("failed", "workers"):
        packing(make_zip(tmp_path / "z.zip", IMAGES), tmp_path / "t.h5", workers=2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["z.zip"]


def _die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    def cut(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageBuffer, "copy_to", cut)
    with pytest.raises(KeyboardInterrupt):
        packing(make_zip(tmp_path / "z.zip", IMAGES), tmp_path / "new" / "t.h5", workers=2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["z.zip"]


@pytest.mark.parametrize("moment", ["decode", "write"])
def test_a_target_folder_that_vanishes_is_not_made_again(tmp_path, monkeypatch, moment):
    source = make_zip(tmp_path / "a.zip", IMAGES)
    folder = tmp_path / "new"
    method = {"decode": "put", "write": "copy_to"}[moment]
    original = getattr(ImageBuffer, method)

    def vanish(*arguments):
        shutil.rmtree(folder, ignore_errors=True)
        return original(*arguments)

    monkeypatch.setattr(ImageBuffer, method, vanish)
    with refused("missing", "new") as error:
        packing(source, folder / "packed.h5")
    assert error.value.status == 1
    assert not folder.exists()


def test_a_disk_that_breaks_while_reading_is_an_image_that_cannot_be_read(tmp_path, monkeypatch):
    class Broken(zipfile.ZipFile):
        def open(self, entry, *arguments):
            if entry.filename == "cat/1.png":
                raise OSError(errno.EIO, "Input/output error")
            return super().open(entry, *arguments)

    source = make_zip(tmp_path / "z.zip", IMAGES)
    monkeypatch.setattr(zipfile, "ZipFile", Broken)
    assert "cat/1.png: [Errno 5] Input/output error" in packing(source, tmp_path / "t.h5", max_bad=0.1)
    assert len(content(tmp_path / "t.h5")) == 29


# As a user.


@pytest.fixture
def main():
    return command_main("scripts/pack.py")


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        ("", "source is missing"),
        ("source=z.zip", "target is missing"),
        ("source=nowhere.zip target=t.h5", "source=nowhere.zip is no file and no folder"),
        ("source=bad.zip target=t.h5", "source=bad.zip can't be read: File is not a zip file"),
        ("source=z.zip target=bad.zip", "target=bad.zip is there already"),
        ("source=z.zip target=bad.zip/t.h5", "bad.zip"),
        ("source=z.zip target=t.h5 size=0", "size has to be a whole number ≥ 1 and ≤ 4,096 or null"),
        ("source=z.zip target=t.h5 holdout=0", "holdout has to be a number ≥ 0.01 and ≤ 0.9"),
        ("source=z.zip target=t.h5 color=red", "one of rgb, gray"),
        ("source=z.zip target=t.h5 crop=128", "crop"),
        ("source=z.zip target=t.h5 workers=-1", "workers has to be"),
        ("source=z.zip target=t.h5 labels=folder", "labels=folder is no file"),
        ("source=z.zip target=t.h5 colour=gray", "Did you mean 'color'?"),
        ("source=z.zip target=t.h5 -m", "Only train.py makes sweeps"),
    ],
)
def test_mistakes(main, tmp_path, monkeypatch, capsys, arguments, phrase):
    make_zip(tmp_path / "z.zip", IMAGES)
    (tmp_path / "bad.zip").write_bytes((tmp_path / "z.zip").read_bytes()[:-30])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pack.py", *arguments.split()])
    with pytest.raises(SystemExit) as stop:
        main()
    err = capsys.readouterr().err
    assert stop.value.code == 2, err
    assert phrase in err
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.zip", "z.zip"]


def test_as_a_user(main, tmp_path, monkeypatch, capsys):
    make_zip(tmp_path / "z.zip", IMAGES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pack.py", "source=z.zip", "target=data/t.h5", "crop=2x2", "size=2"])
    main()
    assert "Packed 30 of 30 images from z.zip, 2 × 2 × 3 each" in capsys.readouterr().out
    assert content(tmp_path / "data" / "t.h5").keys() == IMAGES.keys()


@pytest.mark.parametrize("column", ["3", "5_o_Clock_Shadow", "'a b, c'"])
def test_a_column_by_number_or_title(main, tmp_path, monkeypatch, capsys, column):
    make_zip(tmp_path / "z.zip", IMAGES)
    rows = "".join(f"{n}.png,{n % 2},{n % 3},{n % 5}\n" for n in range(30))
    (tmp_path / "l.csv").write_text(f'file,5_o_Clock_Shadow,third,"a b, c"\n{rows}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pack.py", "source=z.zip", "target=t.h5", "labels=l.csv", f"column={column}"])
    main()
    out = capsys.readouterr().out
    assert f"Classes: {({'3': 3, '5': 2}).get(column[0], 5)} (" in out


def test_the_keys_of_the_command_are_the_settings_of_the_packer():
    assert KEYS.keys() == set(PackSettings._fields)
