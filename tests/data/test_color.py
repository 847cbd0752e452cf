"""Patches of photographs against the photographs, and CIFAR-10's files good and bad."""

import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import refused, web_server
from sklearn.datasets import load_sample_images
from torchvision.datasets import CIFAR10

from gan_lab.data import color

PHOTOS = [photo.astype(np.float64) for photo in load_sample_images().images]


@pytest.fixture(scope="module")
def few():
    return color.patches(samples=61)


def _places(patch: np.ndarray, photo: np.ndarray, shrink: int) -> list[tuple[int, int]]:
    """Returns where in a photograph a patch `(3, s, s)` may have been cut out: rows and columns of its first pixel."""
    side = patch.shape[-1] * shrink
    # The mean of every window of shrink × shrink pixels, by differences of cumulative sums.
    sums = np.pad(photo, ((1, 0), (1, 0), (0, 0))).cumsum(0).cumsum(1)
    means = sums[shrink:, shrink:] - sums[:-shrink, shrink:] - sums[shrink:, :-shrink] + sums[:-shrink, :-shrink]
    means /= shrink**2
    candidates = np.argwhere((np.abs(means - patch[:, 0, 0]) <= 0.51).all(-1))
    places = []
    for y, x in candidates.tolist():
        is_inside = y + side <= photo.shape[0] + shrink - 1 and x + side <= photo.shape[1] + shrink - 1
        if not is_inside:
            continue
        cut = means[y : y + side : shrink, x : x + side : shrink].transpose(2, 0, 1)
        if np.abs(cut - patch).max() < 0.51:
            places.append((y, x))
    return places


def test_patches_are_cut_out_of_the_photographs_at_a_third_of_their_scale(few):
    """Each is found in the photograph that its label names."""
    for part in (few.train, few.heldout):
        for index in (0, 1, len(part) // 2 + 1, len(part) - 1):
            assert _places(part.values[index].numpy(), PHOTOS[part.labels[index]], 3)


def test_half_the_patches_are_of_each_photograph_and_no_two_are_equal(few):
    assert few.classes == ["china", "flower"]
    assert (few.shape, few.train.values.dtype) == ((3, 32, 32), torch.uint8)
    assert few.train.label_counts(2).tolist() == [31, 30]
    assert few.heldout.label_counts(2).tolist() == [2000, 2000]
    every = torch.cat([few.train.values, few.heldout.values])
    assert len({patch.numpy().tobytes() for patch in every}) > 0.999 * len(every), "but for the plain sky"


@pytest.mark.parametrize(("size", "shrink"), [(8, 12), (28, 3), (64, 1), (96, 1)])
def test_patches_of_other_sizes(size, shrink):
    dataset = color.patches(size, samples=4)
    assert dataset.shape == (3, size, size)
    assert _places(dataset.train.values[3].numpy(), PHOTOS[1], shrink)


def test_patches_do_not_depend_on_the_global_stream(few):
    torch.manual_seed(5)
    assert torch.equal(color.patches(samples=61).train.values, few.train.values)


def test_one_patch_more_than_places_are_refused():
    # Each photograph has 332 × 545 places for 94 × 94 pixels (32, each the mean of 3 × 3), less 2,000 held-out patches.
    assert 332 * 545 - 2_000 == 357_880 // 2
    with refused("invalid", "dataset.samples"):
        color.patches(samples=357_882)


# CIFAR-10. Two images a file; image n of a file has the red value 10 n in its first row.

NAMES = ["data_batch_1", "data_batch_2", "test_batch"]


def _batch(labels: list[int]) -> bytes:
    data = np.zeros((len(labels), 3, 32, 32), np.uint8)
    data[:, 0, 0, :] = 10 * np.arange(1, len(labels) + 1)[:, None]
    return pickle.dumps({"data": data.reshape(len(labels), -1), "labels": labels})


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A web server with CIFAR-10's archive, a little one; the folder that it serves."""
    contents = {name: _batch([n, 9 - n]) for n, name in enumerate(NAMES)}
    contents["batches.meta"] = pickle.dumps({"label_names": list("abcdefghij")})
    sums = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    served = tmp_path / "served"
    served.mkdir()
    with tarfile.open(served / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    with web_server(served) as address:
        monkeypatch.setattr(CIFAR10, "url", f"{address}cifar-10-python.tar.gz")
        monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5((served / CIFAR10.filename).read_bytes()).hexdigest())
        monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name in NAMES[:2]])
        monkeypatch.setattr(CIFAR10, "test_list", [[name, sums[name]] for name in NAMES[2:]])
        meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
        monkeypatch.setattr(CIFAR10, "meta", meta)
        yield served


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_cifar10_is_downloaded_once_and_read(shipped, tmp_path):
    dataset = color.cifar10(str(tmp_path / "data"))
    assert (dataset.shape, dataset.classes) == ((3, 32, 32), list("abcdefghij"))
    assert dataset.train.labels.tolist() == [0, 9, 1, 8]
    assert dataset.heldout.labels.tolist() == [2, 7]
    image = dataset.train[torch.tensor([1])][0]
    assert image[0, 0, 5].item() == pytest.approx(20 / 255)
    assert image[0, 1:].max() == image[1:].max() == 0
    assert _names(tmp_path / "data") == ["cifar-10-batches-py", "cifar-10-python.tar.gz"], "and nothing half-made"
    assert _names(tmp_path / "data" / "cifar-10-batches-py") == ["batches.meta", *NAMES]
    (shipped / CIFAR10.filename).unlink()
    color.cifar10(str(tmp_path / "data"))  # no network the second time


def test_an_archive_that_lies_there_is_used(shipped, tmp_path):
    (shipped / CIFAR10.filename).rename(tmp_path / CIFAR10.filename)
    assert len(color.cifar10(str(tmp_path)).train) == 4


def test_a_download_that_fails_says_what_to_put_where(shipped, tmp_path):
    (shipped / CIFAR10.filename).write_bytes(b"not what its checksum says")
    with refused("missing", "data_dir") as error:
        color.cifar10(str(tmp_path / "data"))
    for part in (str(tmp_path / "data"), CIFAR10.filename, "data_dir=", CIFAR10.url):
        assert part in str(error.value)
    assert _names(tmp_path / "data") == []


def test_a_damaged_archive_is_named(shipped, tmp_path):
    whole = (shipped / CIFAR10.filename).read_bytes()
    (tmp_path / CIFAR10.filename).write_bytes(whole[:100])
    with refused("damaged", CIFAR10.filename):
        color.cifar10(str(tmp_path))


@pytest.mark.parametrize("change", ["missing", "a stranger's pickle"])
def test_files_that_are_not_as_shipped_are_never_unpickled(shipped, tmp_path, change):
    color.cifar10(str(tmp_path))
    file, mark = tmp_path / "cifar-10-batches-py" / "data_batch_2", tmp_path / "was here"
    file.unlink()
    if change != "missing":
        file.write_bytes(pickle.dumps(_Evil(mark)))
        pickle.loads(file.read_bytes())
        assert mark.exists(), "it would do it"
        mark.rmdir()
    with refused("damaged", "cifar-10-batches-py"):
        color.cifar10(str(tmp_path))
    assert not mark.exists()


class _Evil:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.mkdir, (self.mark,)
