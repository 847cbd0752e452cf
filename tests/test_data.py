"""Datasets against their definitions, MNIST files good and bad, and the stream of batches."""

import gzip
import hashlib
import http.server
import math
import shutil
import struct
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets import MNIST

from gan_lab.data import Part, images, synthetic
from gan_lab.data.datamodule import CHUNK, Stream
from gan_lab.errors import LabError


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
    whole, content = file.read_bytes(), gzip.decompress(file.read_bytes())
    file.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "not gzip": b"<html>404</html>",
            "wrong magic": gzip.compress(b"\0\0\x0d\3" + content[4:]),
            "empty": b"",
            "too long": gzip.compress(content + b"\0"),
        }[damage]
    )
    with pytest.raises(LabError, match="t10k-images-idx3-ubyte"):
        images.mnist(str(tmp_path))


def test_as_many_labels_as_images(tmp_path):
    _little_mnist(tmp_path / "MNIST" / "raw", labels=5)
    with pytest.raises(LabError, match="6 train images, but 5 labels"):
        images.mnist(str(tmp_path))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this machine in the place of MNIST's mirrors; the folder that it serves."""
    served = _little_mnist(tmp_path / "served")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{httpd.server_port}/"])
        sums = [(p.name, hashlib.md5(p.read_bytes()).hexdigest()) for p in sorted(served.iterdir())]
        monkeypatch.setattr(MNIST, "resources", sums)
        yield served
        httpd.shutdown()


def test_download(server, tmp_path):
    dataset = images.mnist(str(tmp_path / "data"))
    assert dataset.heldout.labels.tolist() == [0, 1, 2, 3, 4, 5]
    raw = tmp_path / "data" / "MNIST" / "raw"
    assert sorted(p.name for p in raw.iterdir()) == sorted(p.name for p in server.iterdir()), "and nothing half-made"
    shutil.rmtree(server)
    images.mnist(str(tmp_path / "data"))  # no network the second time


def test_a_download_that_fails_says_what_to_put_where(server, tmp_path):
    (server / "t10k-labels-idx1-ubyte.gz").write_bytes(b"not what its checksum says")
    with pytest.raises(LabError) as error:
        images.mnist(str(tmp_path / "data"))
    raw = tmp_path / "data" / "MNIST" / "raw"
    for part in (str(raw), "t10k-labels-idx1-ubyte.gz", "train-images-idx3-ubyte.gz", "data_dir"):
        assert part in str(error.value)
    assert sorted(p.name for p in raw.iterdir()) == [
        "t10k-images-idx3-ubyte.gz",
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
    ]


# The stream. Samples are their own numbers, so that batches tell which samples they hold.

NUMBERS = Part(torch.arange(10, dtype=torch.float32)[:, None])


def _batches(stream: Stream) -> list[list[int]]:
    return [batch.flatten().int().tolist() for chunk in stream for batch in chunk]


def test_every_epoch_sees_every_sample_once_in_a_new_order():
    batches = _batches(Stream(NUMBERS, batch_size=4, seed=0, steps=10))  # 40 samples: 4 epochs
    assert [len(batch) for batch in batches] == [4] * 10
    seen = [number for batch in batches for number in batch]
    epochs = [seen[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_stream_that_starts_in_the_middle_goes_on_as_the_whole_one():
    whole = _batches(Stream(NUMBERS, 4, seed=3, steps=25))
    for start in (1, 7, 13, 24):
        assert _batches(Stream(NUMBERS, 4, seed=3, steps=25, start=start)) == whole[start:]
    assert _batches(Stream(NUMBERS, 4, seed=4, steps=25)) != whole


def test_batches_larger_than_the_data():
    batches = _batches(Stream(NUMBERS, 25, seed=0, steps=2))
    assert torch.tensor(batches).flatten().bincount().tolist() == [5] * 10


def test_chunks_end_at_marks_and_at_the_end():
    ends, step = [], 0
    for chunk in Stream(NUMBERS, 1, seed=0, steps=47, marks=[20, 15]):
        step += len(chunk)
        assert len(chunk) <= CHUNK
        ends.append(step)
    assert {15, 20, 30, 40, 45, 47} <= set(ends)
