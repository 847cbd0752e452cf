"""Packed files, read against what was put into them; good ones, bad ones, and large ones."""

import os
import pickle
import signal
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from multiprocessing.reduction import ForkingPickler
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from conftest import BARE, ROOT, compose, make_packed_file, refused, small, training
from hydra.errors import InstantiationException
from torch.utils.data import DataLoader

from gan_lab.assembly.build import load
from gan_lab.commands.train import _explain_foreign
from gan_lab.core.errors import LabError, RunError, worker_died
from gan_lab.data import datamodule, synthetic
from gan_lab.data.datamodule import BatchStream
from gan_lab.data.dataset import FlippedPart, Part
from gan_lab.data.hdf5 import PackedPart, celeba, images
from gan_lab.data.layout import FORMAT, VERSION

IMAGES = np.random.default_rng(0).integers(256, size=(7, 5, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2, 2])
GZIP = dict(chunks=(1, 5, 4, 3), compression="gzip")


@pytest.mark.parametrize("memory", [1000, 0], ids=["held", "read as needed"])
@pytest.mark.parametrize("options", [{}, GZIP], ids=["plain", "gzip"])
def test_images_come_back_as_they_were_packed(tmp_path, options, memory):
    path = make_packed_file(tmp_path / "a.h5", IMAGES, IMAGES[:2], labels=None, **options)
    dataset = images(str(path), memory=memory)
    assert isinstance(dataset.train, PackedPart) == (memory == 0)
    assert (dataset.shape, len(dataset.train), len(dataset.heldout)) == ((3, 5, 4), 7, 2)
    batch = dataset.train[torch.tensor([6, 0, 6, 3])]
    assert batch.dtype == torch.float32
    for row, index in zip(batch, [6, 0, 6, 3], strict=True):
        for c, y, x in ((0, 0, 0), (1, 4, 3), (2, 2, 1)):
            assert row[c, y, x].item() == pytest.approx(IMAGES[index, y, x, c] / 255)
    assert dataset.heldout[torch.tensor([1])][0, 2, 1, 0].item() == pytest.approx(IMAGES[1, 1, 0, 2] / 255)
    assert (dataset.classes, dataset.train.labels, dataset.bounded) == ([], None, True)


def test_what_is_held_and_what_is_read_are_the_same_bits(tmp_path):
    path = make_packed_file(tmp_path / "a.h5", IMAGES)
    from_memory = images(str(path), memory=1).train[torch.arange(7)]
    from_file = images(str(path), memory=0).train[torch.arange(7)]
    assert torch.equal(from_memory, from_file)
    assert from_memory.is_contiguous()
    assert from_file.is_contiguous()


def test_as_much_as_memory_allows_is_held(tmp_path):
    """10 + 10 images of 100,000 bytes are 2 MB."""
    path = make_packed_file(tmp_path / "a.h5", np.zeros((10, 100, 1000, 1), np.uint8))
    assert isinstance(images(str(path), memory=2).train, Part)
    assert isinstance(images(str(path), memory=1).train, PackedPart)


def test_grey_images(tmp_path):
    path = make_packed_file(tmp_path / "a.h5", IMAGES[..., :1])
    assert images(str(path), memory=0).train[torch.tensor([2])][0, 0, 4, 3].item() == pytest.approx(
        IMAGES[2, 4, 3, 0] / 255
    )


@pytest.mark.parametrize("memory", [1000, 0])
def test_labels_and_the_names_of_classes(tmp_path, memory):
    path = make_packed_file(tmp_path / "a.h5", IMAGES, labels=LABELS, classes=["cat", "dog", "Käfer"])
    dataset = images(str(path), memory=memory)
    assert dataset.classes == ["cat", "dog", "Käfer"]
    assert dataset.train.labels_of(torch.tensor([6, 1])).tolist() == [2, 1]
    assert dataset.train.label_counts(3).tolist() == [2, 2, 3]


def test_labels_without_names_are_called_by_their_numbers(tmp_path):
    path = make_packed_file(tmp_path / "a.h5", IMAGES, labels=LABELS.astype(np.uint8))
    assert images(str(path)).classes == ["0", "1", "2"]


# Mirror images.


@pytest.mark.parametrize("memory", [1000, 0])
def test_flipping_adds_the_mirror_image_of_each_only_to_the_train_part(tmp_path, memory):
    path = make_packed_file(tmp_path / "a.h5", IMAGES, labels=LABELS)
    dataset = images(str(path), flip=True, memory=memory)
    assert (len(dataset.train), len(dataset.heldout), dataset.shape) == (14, 7, (3, 5, 4))
    batch = dataset.train[torch.tensor([2, 9, 2])]
    assert torch.equal(batch[0], batch[2])
    assert torch.equal(batch[1], batch[0].flip(2))
    assert batch[1, 0, 0, 3].item() == pytest.approx(IMAGES[2, 0, 0, 0] / 255)
    assert dataset.train.labels.tolist() == [*LABELS, *LABELS]
    assert dataset.train.labels_of(torch.tensor([6, 13])).tolist() == [2, 2]
    assert dataset.train.label_counts(3).tolist() == [4, 4, 6]


def test_flips_depend_only_on_seed_and_step_and_an_epoch_has_both():
    numbers = FlippedPart(Part(torch.arange(16.0).reshape(8, 1, 1, 2)))
    whole = torch.cat(list(BatchStream(numbers, 4, seed=0, steps=20)))
    assert torch.equal(torch.cat(list(BatchStream(numbers, 4, seed=0, steps=20, start=7))), whole[7:])
    seen = whole[:4].reshape(16, 2).tolist()  # an epoch: 16 samples in 4 steps
    assert sorted(seen) == sorted([[i, i + 1] for i in range(0, 16, 2)] + [[i + 1, i] for i in range(0, 16, 2)])


# Processes.


@pytest.mark.parametrize("options", [{}, GZIP], ids=["plain", "gzip"])
def test_a_part_survives_pickling(tmp_path, options):
    part = images(str(make_packed_file(tmp_path / "a.h5", IMAGES, **options)), memory=0).train
    copy = pickle.loads(pickle.dumps(part))
    assert torch.equal(copy[torch.arange(7)], part[torch.arange(7)])


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.parametrize("options", [{}, GZIP], ids=["plain", "gzip"])
def test_workers_give_the_same_batches(tmp_path, monkeypatch, start, options):
    """Also from the middle, and with a part that the parent process has read from before."""
    part = images(str(make_packed_file(tmp_path / "a.h5", IMAGES, **options)), memory=0).train
    monkeypatch.setattr(datamodule, "DataLoader", partial(DataLoader, multiprocessing_context=start))
    state = torch.random.get_rng_state()
    expected = list(BatchStream(part, 3, seed=1, steps=43, start=4, boundaries=[20]))
    blocks = list(BatchStream(part, 3, seed=1, steps=43, start=4, boundaries=[20], workers=2))
    assert [len(block) for block in blocks] == [16, 20, 3]
    assert all(torch.equal(a, b) for a, b in zip(blocks, expected, strict=True))
    assert torch.equal(torch.random.get_rng_state(), state), "nothing else's random numbers change"


def test_data_in_memory_take_workers_too():
    part = synthetic.ring(samples=50).train
    blocks = list(BatchStream(part, 8, seed=0, steps=12, workers=1))
    assert all(torch.equal(a, b) for a, b in zip(blocks, BatchStream(part, 8, seed=0, steps=12), strict=True))


# Worker processes and their shared memory.


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"boundaries": [7]},
        {"replicas": 3, "n_critic": 2},
        {"rank_slice": slice(0, None, 4)},
        {"start": 9},
        {"labels": True},
    ],
    ids=str,
)
def test_the_shared_memory_that_workers_need(options):
    part = synthetic.ring(samples=50).train
    if "labels" in options:
        options = {"labels": part}
    stream = BatchStream(part, 8, seed=0, steps=12, workers=2, **options)
    largest = 0
    for span in stream.spans():
        block = stream.block(span)
        tensors = block if isinstance(block, tuple) else (block,)
        largest = max(largest, sum(tensor.nbytes for tensor in tensors))
    assert stream.shared_bytes() == (2 * 2 + 3) * largest
    stream.workers = 0
    assert stream.shared_bytes() == 0


def test_too_little_shared_memory_is_refused_before_the_training(tmp_path, monkeypatch, small_disk):
    monkeypatch.setattr(datamodule, "SHARED_MEMORY", small_disk(64))
    run = [*BARE, "dataset=ring", "batch_size=64", "steps=20"]
    with refused("memory", "workers"):
        training(tmp_path / "a", *run, "workers=4")
    training(tmp_path / "b", *run, "workers=0")


@pytest.mark.parametrize(
    ("free", "total", "writable", "platform", "is_refused"),
    [
        (999, 2**26, True, "linux", True),
        (1000, 2**26, True, "linux", False),
        (2**30, 2**30, False, "linux", True),
        (0, 0, True, "linux", False),  # a tmpfs without a limit
        (999, 2**26, True, "darwin", False),
    ],
)
def test_shared_memory_of_different_systems(monkeypatch, free, total, writable, platform, is_refused):
    monkeypatch.setattr(datamodule.shutil, "disk_usage", lambda _: SimpleNamespace(free=free, total=total))
    monkeypatch.setattr(datamodule.os, "access", lambda *_: writable)
    monkeypatch.setattr(datamodule.sys, "platform", platform)
    with refused("memory", "workers") if is_refused else nullcontext():
        datamodule.refuse_small_shared_memory(1000)


class _Fails:
    """A part of which a worker process can't hand over anything."""

    shape = (2,)

    def __init__(self, failure):
        self.failure = failure

    def __len__(self):
        return 10

    def __getitem__(self, indices):
        if isinstance(self.failure, int):
            os.kill(os.getpid(), self.failure)
        return torch.zeros(len(indices), 2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_dies_ends_the_training(number):
    with pytest.raises(RuntimeError) as error:
        list(BatchStream(_Fails(number), 4, seed=0, steps=100, workers=2))
    assert worker_died(error.value)
    code, _ = _explain_foreign(error.value, training=None)
    assert code == "memory"


@pytest.mark.parametrize("direction", ["dumps", "loads"])
@pytest.mark.parametrize("failure", [RuntimeError("no space left"), OSError(24, "Too many open files")], ids=str)
def test_a_block_that_is_lost_ends_the_training(monkeypatch, direction, failure):
    """torch would wait forever for a block that its worker can't put into shared memory."""

    def fail(_):
        raise failure

    functions = {"dumps": ForkingPickler.dumps, "loads": ForkingPickler.loads, direction: fail}
    monkeypatch.setattr(datamodule, "ForkingPickler", SimpleNamespace(**functions))
    with refused("memory", "workers") as error:
        list(BatchStream(_Fails(None), 4, seed=0, steps=100, workers=1))
    assert isinstance(error.value, RunError)


def test_workers_that_cannot_start_end_the_training(monkeypatch):
    def fail(_):
        raise FileNotFoundError(2, "No such file or directory")  # no /dev/shm for their semaphores

    monkeypatch.setattr(datamodule.DataLoader, "__iter__", fail)
    with refused("unsupported", "workers"):
        list(BatchStream(_Fails(None), 4, seed=0, steps=100, workers=1))


# What can be wrong with a file.


def _edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def _replace(name, values):
    def change(file):
        del file[name]
        file[name] = values

    return change


def _attribute(name, value):
    return lambda file: file.attrs.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_attribute("format", "something else"), "not as gan_lab packs images.*scripts/pack.py source="),
        (lambda file: file.attrs.__delitem__("format"), "not as gan_lab packs images"),
        (_attribute("format_version", 3), "newer gan_lab.*version 3"),
        (_attribute("format_version", 1), "older gan_lab.*version 1, not 2.*Pack it anew: python scripts/pack.py"),
        (_attribute("format_version", "one"), "format_version isn't one whole number"),
        (lambda file: file.attrs.__delitem__("format_version"), "which version"),
        (lambda file: file.__delitem__("holdout"), "no holdout/images"),
        (_replace("train/images", IMAGES.astype(np.float32)), "train/images is float32 of 7 × 5 × 4 × 3, not uint8"),
        (_replace("train/images", IMAGES[..., :2]), "7 × 5 × 4 × 2, not uint8 of N × H × W × 1 or 3"),
        (_replace("train/images", IMAGES[0]), "5 × 4 × 3, not uint8"),
        (_replace("train/images", IMAGES[:0]), "nothing in train/images"),
        (_replace("holdout/images", IMAGES[:0]), "nothing in holdout/images.*holdout=0.1"),
        (_replace("train/images", h5py.ExternalLink("b.h5", "train/images")), "images in /train is a link"),
        (_replace("holdout/images", IMAGES[:, :4]), "train images are 3 × 5 × 4, holdout images 3 × 4 × 4"),
        (_replace("train/labels", LABELS[:6]), "train/labels is int64 of 6, not int64 of 7, one for each image"),
        (_replace("train/labels", LABELS / 2), "train/labels is float64"),
        (_replace("holdout/labels", LABELS + 1), "holdout/labels go from 1 to 3, but there are 3 classes"),
        (_replace("holdout/labels", LABELS - 1), "holdout/labels go from -1 to 1"),
        (lambda file: file.__delitem__("train/labels"), "only one of train and holdout has labels"),
    ],
)
def test_each_fault_of_a_file_is_found(tmp_path, change, reason):
    """One code stands for all damage, so the reason shows which check it was."""
    path = make_packed_file(tmp_path / "a.h5", IMAGES, labels=LABELS, classes=["a", "b", "c"])
    make_packed_file(tmp_path / "b.h5", IMAGES)
    images(str(path))
    _edit(path, change)
    with pytest.raises(LabError, match=f"(?s:{reason})") as error:
        images(str(path))
    assert str(path) in str(error.value)
    assert error.value.key == "a.h5"
    assert error.value.code == ("format" if "gan_lab" in reason else "damaged")
    assert error.value.status == 2


def test_the_books_layout_is_to_be_packed(tmp_path):
    """A group with a dataset per image (Rashid 2020)."""
    with h5py.File(tmp_path / "book.h5", "w") as file:
        for n, image in enumerate(IMAGES):
            file.create_dataset(f"img_align_celeba/{n}.jpg", data=image, compression="gzip", compression_opts=9)
    with refused("format", "book.h5"):
        images(str(tmp_path / "book.h5"))


@pytest.mark.parametrize("share", [0.999, 0.5, 0.05])
@pytest.mark.parametrize("options", [{}, dict(chunks=(1, 50, 40, 3), compression="gzip")], ids=["plain", "gzip"])
def test_a_file_that_is_cut_short_is_refused(tmp_path, share, options):
    noise = np.random.default_rng(0).integers(256, size=(20, 50, 40, 3), dtype=np.uint8)
    path = make_packed_file(tmp_path / "a.h5", noise, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with refused("damaged", "a.h5") as error:
        images(str(path))
    assert "cut short" in str(error.value)


def test_a_file_whose_compressed_images_are_damaged_is_refused(tmp_path):
    path = make_packed_file(tmp_path / "a.h5", IMAGES, **GZIP)
    with h5py.File(path) as file:
        place = file["train/images"].id.get_chunk_info(0)
    with path.open("r+b") as file:
        file.seek(place.byte_offset)
        file.write(b"\xff" * place.size)
    with refused("damaged", "a.h5") as error:
        images(str(path))
    assert "train/images can't be read" in str(error.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_shrinks_while_it_is_read_ends_the_run(tmp_path, workers):
    path = make_packed_file(tmp_path / "a.h5", IMAGES)
    part = images(str(path), memory=0).train
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with refused("damaged", "a.h5") as error:
        list(BatchStream(part, 7, seed=0, steps=1, workers=workers))
    assert isinstance(error.value, RunError)
    assert str(error.value) == f"{path}: train/images can't be read: it is cut short."


def test_files_that_are_none(tmp_path):
    with refused("missing", "nowhere.h5"):
        images("nowhere.h5")
    (tmp_path / "a.h5").write_bytes(b"PK\3\4 a zip")
    with refused("damaged", "a.h5"):
        images(str(tmp_path / "a.h5"))
    with refused("missing", tmp_path.name):
        images(str(tmp_path))
    with refused("missing", "data.path"):
        images(None)


def test_celeba_lies_in_data_dir_unless_a_path_is_named(tmp_path):
    with refused("missing", "data.path"):
        celeba(str(tmp_path))
    make_packed_file(tmp_path / "celeba.h5", IMAGES)
    assert len(celeba(str(tmp_path)).train) == 7
    assert len(celeba("nowhere", str(tmp_path / "celeba.h5"), flip=True).train) == 14
    cfg = compose("dataset=celeba", f"data_dir={tmp_path}")
    assert (cfg.dataset.data_dir, cfg.dataset.path) == (str(tmp_path), None)


def test_a_run_is_loaded_with_its_file_in_another_place(tmp_path):
    path = make_packed_file(tmp_path / "a.h5", IMAGES)
    built, run = training(tmp_path / "run", *small("dataset", "images"), f"data.path={path}", "steps=1")
    built.trainer.callbacks.clear()
    built.trainer.fit(built.module, built.datamodule)
    with run.new_checkpoint() as file:
        built.trainer.save_checkpoint(file)
    run.release()
    path.rename(tmp_path / "b.h5")
    with pytest.raises(InstantiationException, match="no file"):  # commands show the LabError in it
        load(run)
    assert len(load(run, path=str(tmp_path / "b.h5"))[1].train) == 7


# A file of 4 GB.

PEAK = """
import sys, torch
from conftest import compose
from gan_lab.assembly.build import DryRun
dry_run = DryRun(compose("dataset=images", f"data.path={sys.argv[1]}", "model.generator.hidden=[8]",
                              "model.discriminator.hidden=[8]", "batch_size=64"))
dry_run.play(dry_run.module(), 300)
print(len(dry_run.dataset.train), [l.split()[1] for l in open("/proc/self/status") if l.startswith("VmHWM")][0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_four_gigabytes_are_trained_on_in_less_than_one_more_than_a_tiny_file_needs(tmp_path):
    """300 steps see 19,200 images at random places: as pages of a memory map they alone would be over 1 GB."""

    def peak(n: int) -> float:
        path = tmp_path / f"{n}.h5"
        with h5py.File(path, "w") as file:
            file.attrs.update({"format": FORMAT, "format_version": VERSION})
            file["holdout/images"] = np.zeros((10, 64, 64, 3), np.uint8)
            shape = (n, 64, 64, 3)
            values = file.create_dataset("train/images", shape, np.uint8)
            for start in range(0, n, 10_000):
                values[start : start + 10_000] = np.full(
                    (min(n - start, 10_000), *shape[1:]), start // 10_000, np.uint8
                )
        completed = subprocess.run(
            [sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True, cwd=ROOT / "tests"
        )
        path.unlink()
        images_read, kilobytes = completed.stdout.split()[-2:]
        assert int(images_read) == n
        return int(kilobytes) / 1e6

    large, tiny = peak(330_000), peak(100)
    assert large - tiny < 1, f"{large:.2f} GB against {tiny:.2f} GB"
