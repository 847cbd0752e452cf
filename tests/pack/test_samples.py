"""Samples of any program are read into the form that a dataset has, or refused with how to mend them."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import make_packed_file, refused
from PIL import Image

from gan_lab.pack import sample_request
from gan_lab.pack.sample_request import SampleRequest, SampleSet
from gan_lab.pack.samples import class_numbers_of, read_real, read_samples

N = 24
IMAGES = np.random.default_rng(0).integers(256, size=(N, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(N) % 3
SHAPE = (3, 6, 5)


def png(pixels: np.ndarray, **settings: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **settings)
    return buffer.getvalue()


def write_folder(path: Path, images: np.ndarray = IMAGES, name: str = "{i:03d}.png") -> Path:
    for i, image in enumerate(images):
        file = path / name.format(i=i, label=f"class {LABELS[i]}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(image))
    return path


def write_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for i, image in enumerate(IMAGES):
            archive.writestr(f"{i:03d}.png", png(image))
    return path


def write_tar(path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for i, image in enumerate(IMAGES):
            content = png(image)
            entry = tarfile.TarInfo(f"{i:03d}.png")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def write_book(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        for i, image in enumerate(IMAGES):
            file[f"faces/{i:03d}.jpg"] = image
    return path


def write_array(values: np.ndarray) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        np.save(path, values)
        return path.with_name(f"{path.name}.npy")

    return write


def write_arrays(**arrays: np.ndarray) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        np.savez(path, **arrays)
        return path.with_name(f"{path.name}.npz")

    return write


UNIT = IMAGES.astype(np.float32) / 255
FORMS = {
    "folder": write_folder,
    "zip": write_zip,
    "tar": write_tar,
    "the book's": write_book,
    "packed": lambda path: make_packed_file(path, IMAGES[:20], IMAGES[20:]),
    "NHWC": write_array(IMAGES),
    "NCHW": write_array(IMAGES.transpose(0, 3, 1, 2)),
    "whole numbers": write_array(IMAGES.astype(np.int64)),
    "from 0 to 1": write_array(UNIT),
    "from -1 to 1": write_array((2 * UNIT - 1).transpose(0, 3, 1, 2)),
    "half precision": write_array(UNIT.astype(np.float16)),
    "guided-diffusion": write_arrays(arr_0=IMAGES, arr_1=LABELS),
    "BigGAN": write_arrays(x=IMAGES.transpose(0, 3, 1, 2), y=LABELS),
    "StyleGAN": write_arrays(images=IMAGES, labels=np.eye(3, dtype=np.float32)[LABELS]),
    "a reference batch": write_arrays(mu=np.zeros(7), sigma=np.zeros((7, 7)), arr_0=IMAGES),
    "another name": write_arrays(fakes=IMAGES, seconds=np.array(3.5)),
}


def read(path: Path, *settings: object, **more: object) -> SampleSet:
    return read_samples(SampleRequest(path, "generated", *settings, **more))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images(tmp_path, form):
    samples = read(FORMS[form](tmp_path / "a"), shape=SHAPE)
    values = samples.values.float()
    if samples.values.dtype == torch.uint8:
        values /= 255
    expected = torch.from_numpy(UNIT).movedim(-1, 1)
    torch.testing.assert_close(values, expected, atol=1e-3 if form == "half precision" else 1e-6, rtol=0)
    assert samples.total == N
    has_labels = form in ("guided-diffusion", "BigGAN", "StyleGAN")
    assert samples.labels == ([str(label) for label in LABELS] if has_labels else None)


def test_what_is_in_float32_stays_the_same_to_the_bit(tmp_path):
    values = np.random.default_rng(0).random((50, 1, 8, 8), dtype=np.float32)
    points = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    for kind, stored in (("images", values), ("points", points)):
        assert torch.equal(read(write_array(stored)(tmp_path / kind)).values, torch.from_numpy(stored))


def test_a_generator_without_a_last_sigmoid_goes_a_little_beyond(tmp_path):
    values = np.linspace(-0.04, 1.03, 128, dtype=np.float32).reshape(2, 1, 8, 8)
    assert torch.equal(read(write_array(values)(tmp_path / "a")).values, torch.from_numpy(values))


def test_gray_images_become_what_the_data_are(tmp_path):
    gray = np.repeat(IMAGES[..., :1], 3, axis=-1)
    folder = write_folder(tmp_path / "folder", gray)
    array = write_array(gray)(tmp_path / "array")
    no_channels = write_array(gray[..., 0])(tmp_path / "no channels")
    for path in (folder, array, no_channels):
        assert read(path, shape=(1, 6, 5)).values.shape == (N, 1, 6, 5)
        assert read(path, shape=SHAPE).values.shape == (N, *SHAPE)
        assert read(path).values.shape == (N, 1, 6, 5), "one channel tells it all"


def test_images_of_three_pixels_whose_channels_could_be_on_either_axis(tmp_path):
    path = write_array(np.zeros((N, 3, 8, 3), np.uint8))(tmp_path / "a")
    assert read(path, shape=(3, 8, 3)).values.shape == (N, 3, 8, 3)
    assert read(path, shape=(3, 3, 8)).values.shape == (N, 3, 3, 8)


@pytest.mark.parametrize("form", ["folder", "zip", "the book's", "NHWC", "from 0 to 1"])
def test_sizes_are_refused_or_changed_when_asked(tmp_path, form):
    path = FORMS[form](tmp_path / "a")
    with refused("conflict", "size") as error:
        read(path, shape=(3, 4, 4))
    assert "size=4" in str(error.value)
    values = read(path, 4, shape=(3, 4, 4)).values
    assert values.shape == (N, 3, 4, 4)
    expected = np.asarray(Image.fromarray(IMAGES[3]).crop((0, 0, 5, 5)).resize((4, 4), Image.Resampling.BICUBIC))
    actual = values[3].float() * (1 if values.dtype == torch.uint8 else 255)
    assert (actual.movedim(0, -1) - torch.from_numpy(expected.astype(np.float32))).abs().max() <= 12


def test_a_packed_file_keeps_its_size(tmp_path):
    with refused("conflict", "size"):
        read(FORMS["packed"](tmp_path / "a"), 4)


REFUSED = {
    "values of no range": (write_array(UNIT * 7), SHAPE, "invalid", "generated"),
    "values between two ranges": (write_array(UNIT - 0.2), SHAPE, "invalid", "generated"),
    "numbers beyond bytes": (write_array(IMAGES.astype(np.int32) * 9), SHAPE, "damaged", "generated"),
    "colour where the data are gray": (write_folder, (1, 6, 5), "conflict", "generated"),
    "colour in an array": (write_array(IMAGES), (1, 6, 5), "conflict", "generated"),
    "images where the data are points": (write_folder, (2,), "conflict", "generated"),
    "images in an array": (write_array(IMAGES), (2,), "conflict", "generated"),
    "points of more dimensions": (write_array(np.zeros((9, 3))), (2,), "conflict", "generated"),
    "points where the data are images": (write_array(np.zeros((9, 3))), SHAPE, "conflict", "generated"),
    "four channels": (write_array(np.zeros((9, 6, 5, 4))), SHAPE, "unsupported", "generated"),
    "no sample": (write_array(np.zeros((0, 6, 5, 3))), SHAPE, "missing", "generated"),
    "two arrays of samples": (write_arrays(a=IMAGES, b=IMAGES), SHAPE, "unsupported", "generated"),
    "only labels": (write_arrays(y=LABELS), SHAPE, "unsupported", "generated"),
    "labels of other samples": (write_arrays(x=IMAGES, y=LABELS[1:]), SHAPE, "conflict", "labels"),
    "labels that are no numbers": (write_arrays(x=IMAGES, y=LABELS / 3), SHAPE, "damaged", "generated"),
    "labels below 0": (write_arrays(x=IMAGES, y=LABELS - 1), SHAPE, "damaged", "generated"),
    "labels that are NaN": (write_arrays(x=IMAGES, y=np.full(N, np.nan)), SHAPE, "damaged", "generated"),
    "labels that are no one-hot": (write_arrays(x=IMAGES, y=np.ones((N, 3))), SHAPE, "damaged", "generated"),
    "an empty folder": (lambda path: path.mkdir() or path, SHAPE, "missing", "generated"),
    "nothing": (lambda path: path, SHAPE, "missing", "generated"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_the_data_is_refused(tmp_path, case):
    write, shape, code, key = REFUSED[case]
    with refused(code, key):
        read(write(tmp_path / "a"), shape=shape)


def test_unusable_labels_can_be_left_out(tmp_path):
    path = write_arrays(x=IMAGES, y=LABELS / 3)(tmp_path / "a")
    assert read(path, None, "none", shape=SHAPE).labels is None


def test_a_pipe_a_link_and_a_web_page_are_no_samples(tmp_path):
    (tmp_path / "page.npz").write_text("<!DOCTYPE html>")
    with refused("damaged", "generated"):
        read(tmp_path / "page.npz")
    folder = write_folder(tmp_path / "folder")
    (folder / "link.png").symlink_to(folder / "000.png")
    assert read(folder, shape=SHAPE).total == N


def test_images_of_different_sizes_and_damaged_ones(tmp_path):
    folder = write_folder(tmp_path / "a")
    (folder / "500.png").write_bytes(png(IMAGES[0, :4]))
    with refused("conflict", "size"):
        read(folder)
    (folder / "500.png").write_bytes(b"")
    with refused("damaged", "max_bad"):
        read(folder)
    samples = read(folder, max_bad=0.1)
    assert len(samples.values) == N
    assert len(samples.names) == N
    assert any("500.png: it is empty" in note for note in samples.notes)


def test_what_is_transparent_is_white_and_sixteen_bits_are_scaled(tmp_path):
    clear = np.zeros((6, 5, 4), np.uint8)
    (tmp_path / "clear").mkdir()
    (tmp_path / "clear" / "1.png").write_bytes(png(clear))
    assert (read(tmp_path / "clear").values == 255).all()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "1.png").write_bytes(png(np.full((6, 5), 65535, np.uint16)))
    assert (read(tmp_path / "deep").values == 255).all()


@pytest.mark.parametrize("form", ["folder", "packed", "guided-diffusion", "NCHW"])
def test_some_are_chosen_from_the_whole_file(tmp_path, form):
    """A file that is sorted by class has only the first class in front."""
    path = FORMS[form](tmp_path / "a")
    every = read(path).values
    samples = read(path, limit=8)
    assert (len(samples.values), samples.total) == (8, N)
    chosen = torch.randperm(N, generator=sample_request.make_generator(0, "samples/chosen"))[:8]
    assert torch.equal(samples.values, every[chosen])
    if samples.labels:
        assert samples.labels == [str(LABELS[i]) for i in chosen]
    assert torch.equal(read(path, limit=8).values, samples.values), "the same each time"
    assert torch.equal(read(path, limit=N).values, every), "all in their order"


@pytest.mark.parametrize("form", ["folder", "packed", "NCHW"])
def test_more_than_fit_into_memory_are_refused(tmp_path, monkeypatch, form):
    path = FORMS[form](tmp_path / "a")
    monkeypatch.setattr(sample_request, "MAX_VALUES", 10 * 6 * 5 * 3)
    with refused("unsupported", "generated"):
        read(path)
    assert len(read(path, limit=10).values) == 10


def test_folders_are_classes_where_all_images_lie_in_one(tmp_path):
    folder = write_folder(tmp_path / "a", name="{label}/{i}.png")
    samples = read(folder)
    assert sorted(set(samples.labels)) == ["class 0", "class 1", "class 2"]
    assert any("labels=none" in note for note in samples.notes)
    assert read(folder, None, "none").labels is None
    (folder / "999.png").write_bytes(png(IMAGES[0]))
    assert read(folder).labels is None
    assert len(read(folder).values) == N + 1
    assert len(read(folder, None, "folders").values) == N
    with refused("conflict", "labels"):
        read(write_folder(tmp_path / "b"), None, "folders")
    with refused("conflict", "labels"):
        read(FORMS["NHWC"](tmp_path / "c"), None, "folders")


def test_real_samples_become_a_dataset(tmp_path):
    folder = write_folder(tmp_path / "a", name="{label}/{i}.png")
    dataset, notes = read_real(SampleRequest(folder, "real"))
    assert dataset.classes == ["class 0", "class 1", "class 2"]
    assert (dataset.shape, dataset.bounded) == (SHAPE, True)
    assert (len(dataset.train), len(dataset.heldout)) == (18, 6)
    assert dataset.heldout.label_counts(3).tolist() == [2, 2, 2]
    assert "6 are held out" in notes[-1]
    again, _ = read_real(SampleRequest(folder, "real"))
    assert torch.equal(again.heldout.values, dataset.heldout.values)


def test_real_samples_of_one_class_have_no_classes(tmp_path):
    write_folder(tmp_path / "a" / "cats")
    packed = make_packed_file(tmp_path / "p.h5", IMAGES, labels=np.zeros(N, np.int64), classes=["cats"])
    labelled = write_arrays(arr_0=IMAGES, arr_1=np.zeros(N, int))(tmp_path / "z")
    for path in (tmp_path / "a", packed, labelled):
        dataset, _ = read_real(SampleRequest(path, "real"))
        assert not dataset.has_modes


def test_a_packed_file_has_its_own_held_out_part(tmp_path):
    path = make_packed_file(tmp_path / "p.h5", IMAGES[:20], IMAGES[20:])
    dataset, _ = read_real(SampleRequest(path, "real"))
    assert (len(dataset.train), len(dataset.heldout)) == (20, 4)
    labels = {"labels": LABELS, "classes": ["a", "b", "c"]}
    labelled = make_packed_file(tmp_path / "l.h5", IMAGES, **labels)
    assert read_real(SampleRequest(labelled, "real"))[0].has_modes
    assert not read_real(SampleRequest(labelled, "real", labels="none"))[0].has_modes
    assert read(labelled).labels == 2 * [labels["classes"][label] for label in LABELS]


def test_real_points_and_what_can_not_be_real(tmp_path):
    points = np.random.default_rng(0).normal(size=(100, 3))
    dataset, _ = read_real(SampleRequest(write_array(points)(tmp_path / "a"), "real"))
    assert (dataset.shape, dataset.bounded, len(dataset.heldout)) == ((3,), False, 20)
    with refused("unsupported", "real"):
        read_real(SampleRequest(write_array(points[:9])(tmp_path / "few"), "real"))
    points[7, 1] = np.inf
    with refused("invalid", "real"):
        read_real(SampleRequest(write_array(points)(tmp_path / "inf"), "real"))


def labelled(*labels: str) -> SampleSet:
    return SampleSet(torch.zeros(len(labels), 2), list(labels), list(labels), len(labels), [])


def test_labels_are_matched_with_the_classes_of_the_data():
    names = ["T-shirt", "Bag", "Boot"]
    assert class_numbers_of(labelled("bag", "2", "T-SHIRT"), names, False)[0].tolist() == [1, 2, 0]
    assert class_numbers_of(labelled("10", "20"), ["10", "20"], False)[0].tolist() == [0, 1]
    for labels, classes in ((labelled("3"), names), (labelled("0"), []), (labelled("9" * 9999), names)):
        numbers, notes = class_numbers_of(labels, classes, False)
        assert numbers is None
        assert "aren't used" in notes[0]
        with refused("conflict", "labels"):
            class_numbers_of(labels, classes, True)
