"""Datasets against their definitions, MNIST files good and bad, and the stream of batches."""

import gzip
import hashlib
import math
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import refused, web_server
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torchvision.datasets import MNIST

from gan_lab.data import images, synthetic
from gan_lab.data.datamodule import MAX_BLOCK_STEPS, MAX_SHUFFLED, BatchStream
from gan_lab.data.dataset import Dataset, Part, StackedPart


def test_pattern1010_is_high_low_high_low():
    dataset = synthetic.pattern1010(5000)
    high, low = dataset.train.values[:, [0, 2]], dataset.train.values[:, [1, 3]]
    assert dataset.shape == (4,)
    assert dataset.bounded
    assert 0.8 <= high.min() < 0.801 < 0.999 < high.max() <= 1
    assert 0 <= low.min() < 0.001 < 0.199 < low.max() <= 0.2


def test_ring_has_eight_different_centres_on_the_unit_circle():
    """reference: `linspace(0, 2π, 8)` with its end point would give 7."""
    dataset = synthetic.ring(samples=20_000)
    centres = dataset.centres
    assert centres.shape == (8, 2)
    torch.testing.assert_close(centres.norm(dim=1), torch.ones(8))
    assert torch.pdist(centres).min().item() == pytest.approx(2 * math.sin(math.pi / 8), abs=1e-6)
    torch.testing.assert_close(centres[[0, 2]], torch.tensor([[1.0, 0], [0, 1]]), atol=1e-6, rtol=0)


def test_grid_is_pacgans():
    centres = synthetic.grid(samples=100).centres
    assert sorted(map(tuple, centres.tolist())) == [(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)]


@pytest.mark.parametrize(("make", "modes", "std"), [(synthetic.ring, 8, 0.01), (synthetic.grid, 25, 0.05)])
def test_mixtures_are_balanced_and_of_the_stated_width(make, modes, std):
    dataset = make()
    assert len(dataset.train) == 100_000
    assert dataset.std == std
    assert not dataset.bounded
    for part in (dataset.train, dataset.heldout):
        counts = torch.bincount(part.labels, minlength=modes)
        expected = len(part) / modes
        assert (counts - expected).abs().max() < 5 * expected**0.5
        offsets = part.values - dataset.centres[part.labels]
        assert offsets.std().item() == pytest.approx(std, rel=0.02)
        within = (offsets.norm(dim=1) < 3 * std).float().mean().item()
        assert within == pytest.approx(1 - math.exp(-4.5), abs=0.005)  # 98.9 %, the ceiling of 'high quality'


def test_data_do_not_depend_on_the_global_stream():
    torch.manual_seed(1)
    first = synthetic.ring(samples=10).train.values
    torch.manual_seed(2)
    assert torch.equal(first, synthetic.ring(samples=10).train.values)


def test_digits_are_scikit_learns_split_without_loss_or_overlap():
    dataset = images.digits()
    assert dataset.shape == (1, 8, 8)
    assert (len(dataset.train), len(dataset.heldout)) == (1437, 360)
    everything = torch.cat([dataset.train.values, dataset.heldout.values])
    assert everything.min() == 0
    assert everything.max() == 1
    ours = torch.cat(
        [everything.flatten(1) * 16, torch.cat([dataset.train.labels, dataset.heldout.labels])[:, None]], 1
    )
    bunch = load_digits()
    theirs = torch.cat([torch.tensor(bunch.data), torch.tensor(bunch.target)[:, None]], 1)
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))
    assert torch.bincount(dataset.heldout.labels).min() >= 34, "stratified"


@pytest.mark.parametrize("heldout", [0.006, 0.2, 0.25, 1 / 3, 0.994])
def test_digits_and_their_split_are_scikit_learns_bit_for_bit(heldout):
    bunch = load_digits()
    train, rest = train_test_split(np.arange(1797), test_size=heldout, random_state=0, stratify=bunch.target)
    dataset = images.digits(heldout)
    for part, indices in ((dataset.train, train), (dataset.heldout, rest)):
        assert torch.equal(part.values[:, 0] * 16, torch.tensor(bunch.images[indices], dtype=torch.float32))
        assert torch.equal(part.labels, torch.tensor(bunch.target[indices]))


@pytest.mark.parametrize("heldout", [0.005, 0.995])
def test_a_part_with_fewer_digits_than_classes_is_refused(heldout):
    with refused("invalid", "dataset.heldout"):
        images.digits(heldout)


def test_mnist_is_read_as_it_is_shipped(mnist_dir):
    dataset = images.mnist(mnist_dir)
    assert dataset.shape == (1, 28, 28)
    assert len(dataset.heldout) == 10_000
    assert torch.bincount(dataset.heldout.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    batch = dataset.train[torch.tensor([3, 5])]
    assert batch.dtype == torch.float32
    assert batch.min() == 0
    assert batch.max() == 1
    assert dataset.heldout.labels[:5].tolist() == [7, 2, 1, 0, 4]


def _idx(path: Path, array: torch.Tensor) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    (gzip.open if path.suffix == ".gz" else open)(path, "wb").write(header + array.numpy().tobytes())


def _little_mnist(folder: Path, suffix: str = ".gz", labels: int = 6) -> Path:
    pixels = torch.arange(6 * 28 * 28).reshape(6, 28, 28).to(torch.uint8)
    for kind in ("train", "t10k"):
        _idx(folder / f"{kind}-images-idx3-ubyte{suffix}", pixels)
        _idx(folder / f"{kind}-labels-idx1-ubyte{suffix}", torch.arange(labels).to(torch.uint8))
    return folder


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_plain_or_gzipped(tmp_path, suffix):
    _little_mnist(tmp_path / "MNIST" / "raw", suffix)
    dataset = images.mnist(str(tmp_path))
    assert dataset.train.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert dataset.train.values[1, 0, 0, :3].tolist() == [784 % 256, 785 % 256, 786 % 256]
    assert dataset.train[torch.tensor([1])][0, 0, 0, 1].item() == pytest.approx((785 % 256) / 255)


@pytest.mark.parametrize("damage", ["cut", "not gzip", "wrong magic", "empty", "too long"])
def test_damaged_idx_files_are_named(tmp_path, damage):
    raw = _little_mnist(tmp_path / "MNIST" / "raw")
    file = raw / "t10k-images-idx3-ubyte.gz"
    packed = file.read_bytes()
    content = gzip.decompress(packed)
    damaged = {
        "cut": packed[: len(packed) // 2],
        "not gzip": b"<html>404</html>",
        "wrong magic": gzip.compress(b"\0\0\x0d\3" + content[4:]),
        "empty": b"",
        "too long": gzip.compress(content + b"\0"),
    }
    file.write_bytes(damaged[damage])
    with refused("damaged", file.name):
        images.mnist(str(tmp_path))


def test_as_many_labels_as_images(tmp_path):
    _little_mnist(tmp_path / "MNIST" / "raw", labels=5)
    with refused("damaged", "train-labels-idx1-ubyte.gz"):
        images.mnist(str(tmp_path))


def test_labels_that_are_no_classes(tmp_path):
    _little_mnist(tmp_path / "MNIST" / "raw")
    pixels = torch.zeros(6, 28, 28, dtype=torch.uint8)
    _idx(tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz", pixels)
    _idx(tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz", torch.tensor([0, 1, 2, 3, 4, 10]).to(torch.uint8))
    with refused("damaged", "t10k-labels-idx1-ubyte.gz"):
        images.mnist(str(tmp_path))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this machine that replaces MNIST's mirrors; the folder that it serves."""
    served = _little_mnist(tmp_path / "served")
    checksums = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in sorted(served.iterdir())]
    monkeypatch.setattr(MNIST, "resources", checksums)
    with web_server(served) as address:
        monkeypatch.setattr(MNIST, "mirrors", [address])
        yield served


def test_download(server, tmp_path):
    dataset = images.mnist(str(tmp_path / "data"))
    assert dataset.heldout.labels.tolist() == [0, 1, 2, 3, 4, 5]
    raw = tmp_path / "data" / "MNIST" / "raw"
    assert sorted(p.name for p in raw.iterdir()) == sorted(p.name for p in server.iterdir()), "and nothing half-made"
    shutil.rmtree(server)
    images.mnist(str(tmp_path / "data"))  # no network the second time


def test_a_download_that_fails_says_what_to_put_where(server, tmp_path):
    (server / "t10k-labels-idx1-ubyte.gz").write_bytes(b"not what its checksum says")
    with refused("missing", "data_dir") as error:
        images.mnist(str(tmp_path / "data"))
    raw = tmp_path / "data" / "MNIST" / "raw"
    for name in (str(raw), "t10k-labels-idx1-ubyte.gz", "train-images-idx3-ubyte.gz", "data_dir"):
        assert name in str(error.value)
    assert sorted(p.name for p in raw.iterdir()) == [
        "t10k-images-idx3-ubyte.gz",
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
    ]


# The stream. Samples are their own numbers, so that batches tell which samples they hold.

NUMBERS = Part(torch.arange(10, dtype=torch.float32)[:, None])


def batches_of(stream: BatchStream) -> list[list[int]]:
    """The numbers of the samples in each batch of a stream."""
    batches = []
    for block in stream:
        for batch in block:
            batches.append(batch.flatten().int().tolist())
    return batches


def test_every_epoch_sees_every_sample_once_in_a_new_order():
    batches = batches_of(BatchStream(NUMBERS, batch_size=4, seed=0, steps=10))  # 40 samples: 4 epochs
    assert [len(batch) for batch in batches] == [4] * 10
    numbers = torch.tensor(batches).flatten().tolist()
    epochs = [numbers[start : start + 10] for start in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_an_epoch_of_many_samples_sees_each_once_too():
    numbers = Part(torch.arange(100_000, dtype=torch.int32)[:, None])
    assert torch.cat(list(BatchStream(numbers, 1000, seed=0, steps=100))).unique().numel() == 100_000


def test_a_stream_that_starts_in_the_middle_goes_on_as_the_whole_one():
    whole = batches_of(BatchStream(NUMBERS, 4, seed=3, steps=25))
    for start in (1, 7, 13, 24):
        assert batches_of(BatchStream(NUMBERS, 4, seed=3, steps=25, start=start)) == whole[start:]
    assert batches_of(BatchStream(NUMBERS, 4, seed=4, steps=25)) != whole


def test_batches_larger_than_the_data():
    batches = batches_of(BatchStream(NUMBERS, 25, seed=0, steps=2))
    assert torch.tensor(batches).flatten().bincount().tolist() == [5] * 10


def test_blocks_end_at_boundaries_and_at_the_end():
    ends = []
    step = 0
    for block in BatchStream(NUMBERS, 1, seed=0, steps=47, boundaries=[20, 15]):
        step += len(block)
        assert len(block) <= MAX_BLOCK_STEPS
        ends.append(step)
    assert {15, 20, 30, 40, 45, 47} <= set(ends)


def test_blocks_end_at_single_stops_as_well():
    blocks = list(BatchStream(NUMBERS, 1, seed=0, steps=30, boundaries=[12], stops=[3, 5, 100]))
    assert [len(block) for block in blocks] == [3, 2, 7, 12, 6], "after 3, 5, 12, 24 and 30 steps"
    whole = torch.cat(list(BatchStream(NUMBERS, 1, seed=0, steps=30)))
    assert torch.equal(torch.cat(blocks), whole), "the same batches"
    resumed = BatchStream(NUMBERS, 1, seed=0, steps=30, start=4, boundaries=[12], stops=[3, 5])
    assert [size for _, size in resumed.spans()] == [1, 7, 12, 6]


# Stacked datasets.


@pytest.fixture(scope="module", params=[128_000, None], ids=["fixed triples", "all triples"])
def stacked(request) -> Dataset:
    return images.stacked_digits(request.param)


def _some(part, n: int) -> torch.Tensor:
    return torch.randint(len(part), (n,), generator=torch.Generator().manual_seed(0))


def test_stacked_digits_have_a_thousand_modes(stacked):
    assert stacked.shape == stacked.heldout.shape == (3, 8, 8)
    assert (len(stacked.classes), stacked.classes[0], stacked.classes[407]) == (1000, "000", "407")
    assert len(stacked.train) in (128_000, 1437**3)
    assert len(stacked.heldout) == 10_000
    assert stacked.bounded
    batch = stacked.train[torch.tensor([5, 0, 5])]
    assert batch.dtype == torch.float32
    assert torch.equal(batch[0], batch[2])
    assert not torch.equal(batch[0], batch[1])


@pytest.mark.parametrize("name", ["train", "heldout"])
def test_stacked_labels_are_those_of_the_channels(stacked, name):
    part = {"train": stacked.train, "heldout": stacked.heldout}[name]
    base = part.base
    label_of = {}
    for image, label in zip(base.values, base.labels.tolist(), strict=True):
        label_of[image.numpy().tobytes()] = label
    indices = _some(part, 300)
    samples = part[indices]
    for sample, expected in zip(samples, part.labels_of(indices).tolist(), strict=True):
        red, green, blue = (label_of[channel[None].numpy().tobytes()] for channel in sample)
        assert 100 * red + 10 * green + blue == expected
    assert len({channel.numpy().tobytes() for channel in samples.flatten(0, 1)}) > 250, "many images take part"


def test_stacked_modes_are_near_uniform(stacked):
    labels = stacked.train.labels_of(_some(stacked.train, 128_000))
    counts = torch.bincount(labels, minlength=1000)
    assert counts.min() > 60
    assert counts.max() < 220
    all_counts = stacked.train.label_counts(1000)
    assert all_counts.sum() == len(stacked.train)
    torch.testing.assert_close(all_counts / len(stacked.train), torch.full((1000,), 1e-3), rtol=0.5, atol=0)


def test_stacked_labels_of_everything():
    fixed, virtual = images.stacked_digits(1000).train, images.stacked_digits(None).train
    assert torch.equal(fixed.labels, fixed.labels_of(torch.arange(1000)))
    assert torch.equal(fixed.label_counts(1000), torch.bincount(fixed.labels, minlength=1000))
    assert virtual.labels is None
    base = Part(torch.zeros(4, 1, 2, 2), torch.tensor([3, 3, 0, 9]))
    little = StackedPart(base)
    assert little.label_counts(1000).tolist() == little.labels_of(torch.arange(64)).bincount(minlength=1000).tolist()


def test_all_triples_are_each_there_once():
    part = StackedPart(Part(torch.arange(3.0).reshape(3, 1, 1, 1), torch.arange(3)))
    triples = [tuple(sample.flatten().int().tolist()) for sample in part[torch.arange(len(part))]]
    assert sorted(triples) == [(r, g, b) for r in range(3) for g in range(3) for b in range(3)]
    assert part.labels_of(torch.tensor([5])).item() == 12  # 5 = 0·9 + 1·3 + 2


def test_stacked_triples_are_always_the_same():
    torch.manual_seed(1)
    first = images.stacked_digits(50)
    torch.manual_seed(2)
    second = images.stacked_digits(50)
    assert torch.equal(first.train.triples, second.train.triples)
    assert torch.equal(first.heldout.triples, second.heldout.triples)
    assert first.train.triples.max() < 1437
    assert first.heldout.triples.max() < 360


def test_stacked_images_are_not_kept_in_memory(stacked):
    for part in (stacked.train, stacked.heldout):
        tensors = [part.base.values, part.base.labels, *([] if part.triples is None else [part.triples])]
        assert set(vars(part)) == {"base", "triples"}
        assert sum(tensor.nbytes for tensor in tensors) < 5e6  # 128,000 samples would take 98 MB


def test_stacked_mnist_is_read_as_mnist(mnist_dir):
    dataset = images.stacked_mnist(mnist_dir, 100)
    assert dataset.shape == (3, 28, 28)
    batch = dataset.heldout[torch.arange(20)]
    assert batch.min() == 0
    assert batch.max() == 1
    digits = dataset.base.heldout.labels[dataset.heldout.triples[:20]]
    assert torch.equal(dataset.heldout.labels[:20], digits @ torch.tensor([100, 10, 1]))


@pytest.mark.parametrize(
    "fields",
    [
        {"centres": torch.zeros(2, 3), "std": 1.0},
        {"centres": torch.zeros(2, 3), "classes": ["a", "b"]},
        {"std": 1.0, "classes": ["a", "b"]},
        {"centres": torch.zeros(3, 3), "std": 1.0, "classes": ["a", "b"]},
        {"centres": torch.zeros(2, 2), "std": 1.0, "classes": ["a", "b"]},
        {"classes": []},
    ],
    ids=["no classes", "no std", "no centres", "a centre too many", "centres in the plane", "labels only"],
)
def test_labels_classes_and_centres_of_points_fit_together(fields):
    part = Part(torch.rand(6, 3), torch.arange(6) % 2)
    with refused("invalid", "dataset"):
        Dataset(part, part, **fields)


@pytest.mark.parametrize("unlabelled", ["train", "heldout"])
@pytest.mark.parametrize("fields", [{}, {"centres": torch.zeros(2, 3), "std": 1.0}], ids=["classes", "centres"])
def test_classes_of_points_need_labels_in_both_parts(unlabelled, fields):
    labelled = Part(torch.rand(6, 3), torch.arange(6) % 2)
    parts = {"train": labelled, "heldout": labelled, unlabelled: Part(torch.rand(6, 3))}
    with refused("invalid", "dataset"):
        Dataset(**parts, classes=["a", "b"], **fields)


def test_data_with_modes():
    """Images with labels and mixtures of Gaussians have them; points with labels only have none."""
    points = Part(torch.rand(6, 3), torch.arange(6) % 2)
    pictures = Part(torch.rand(6, 1, 2, 2), torch.arange(6) % 2)
    assert Dataset(pictures, pictures, classes=["a", "b"]).has_modes
    assert not Dataset(pictures, pictures).has_modes
    assert synthetic.ring(samples=10).has_modes
    assert not Dataset(points, points, classes=["a", "b"]).has_modes


def test_parts_without_labels_say_so():
    for part in (Part(torch.zeros(3, 2)), StackedPart(Part(torch.zeros(3, 1, 2, 2)))):
        with refused("unsupported", "dataset"):
            part.labels_of(torch.tensor([0]))


class Endless:
    """A part of very many samples: sample i is the number i."""

    shape = (1,)

    def __len__(self) -> int:
        return 60_000**3

    def __getitem__(self, indices: torch.Tensor) -> torch.Tensor:
        return indices[:, None]


def test_a_stream_of_very_many_samples_draws_them():
    assert len(Endless()) > MAX_SHUFFLED
    whole = torch.cat(list(BatchStream(Endless(), 4, seed=3, steps=2500)))
    for start in (1, 7, 13):
        part = torch.cat(list(BatchStream(Endless(), 4, seed=3, steps=40, start=start, boundaries=[6])))
        assert torch.equal(part, whole[start:40])
    assert not torch.equal(whole[:40], torch.cat(list(BatchStream(Endless(), 4, seed=4, steps=40))))
    places = whole.flatten().double() / len(Endless())
    counts = torch.histc(places, 10, 0, 1)
    assert (counts - 1000).abs().max() < 150, "uniform"
    assert whole.flatten().unique().numel() == 10_000


def test_blocks_of_large_batches_have_few_steps():
    """A batch of 64 images of 3×64×64 is 3.1 MB as float32: one a block; of 3×32×32 five fit into 4 MiB."""
    for side, steps in ((64, 1), (32, 5), (8, MAX_BLOCK_STEPS)):
        part = Part(torch.zeros(100, 3, side, side, dtype=torch.uint8))
        first = next(iter(BatchStream(part, 64, seed=0, steps=40).spans()))
        assert first == (0, steps)


def test_a_stream_of_all_triples():
    block = next(iter(BatchStream(images.stacked_digits(None).train, 16, seed=0, steps=20)))
    assert block.shape == (MAX_BLOCK_STEPS, 16, 3, 8, 8)


def test_samples_on_a_device_are_indexed_there():
    """`meta` is a device that every machine has: tensors of it have a place and a shape, but no values."""
    meta = torch.device("meta")
    indices = torch.tensor([2, 0])
    plain = Part(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1, 0]))
    for part, shape in (
        (plain, (2, 1, 4, 4)),
        (StackedPart(plain), (2, 3, 4, 4)),
        (StackedPart(plain, torch.tensor([[0, 1, 2], [2, 2, 2], [1, 0, 0]])), (2, 3, 4, 4)),
    ):
        samples = part.to(meta)[indices]
        assert (samples.device, tuple(samples.shape)) == (meta, shape)
        assert len(part.to(meta)) == len(part)
        assert torch.equal(part.to(torch.device("cpu"))[indices], part[indices])
