"""Colour images with labels: patches of scikit-learn's two photographs, and CIFAR-10."""

import os
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path
from urllib.error import URLError

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import check_integrity, download_url

from gan_lab.core.errors import LabError
from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import Dataset, Part

PHOTOS = ["china", "flower"]  # 427 × 640 pixels each
WINDOW = 96  # pixels of a photograph at most that a patch shows along a side: a roof, a few petals
HELDOUT = 4_000


def patches(size: int = 32, samples: int = 20_000) -> Dataset:
    """Square patches of scikit-learn's two photographs, a temple in China and a dahlia; nothing is downloaded.

    Patches are cut at fixed random places, no place twice, half of them from each photograph, and shrunk by averaging
    so that one shows up to 96 pixels of it: 32 × 32 is a third of its scale. Labels say which photograph: two modes
    that a generator can miss. The held-out ones are of other places, but overlap those trained on: two photographs have
    no second part that looks like the first. So a copy is what lies nearer to a patch than its neighbours do.

    Args:
        size: of a side, 8 to 96 pixels.
        samples: how many the train part has.

    Raises:
        LabError: if there aren't so many places.
    """
    from sklearn.datasets import load_sample_images

    shrink = max(1, WINDOW // size)
    counts = torch.tensor([[samples - samples // 2, HELDOUT - HELDOUT // 2], [samples // 2, HELDOUT // 2]])
    photos = [torch.tensor(photo).movedim(-1, 0) for photo in load_sample_images().images]
    cut = [_cut(*each, size, shrink) for each in zip(photos, PHOTOS, counts.tolist(), strict=True)]

    def part(which: int) -> Part:
        return Part(torch.cat([each[which] for each in cut]), torch.tensor([0, 1]).repeat_interleave(counts[:, which]))

    return Dataset(part(0), part(1), classes=PHOTOS)


def _cut(photo: Tensor, name: str, counts: list[int], size: int, shrink: int) -> list[Tensor]:
    """Patches `(n, 3, size, size)`, uint8, for each of the counts; each of their pixels is the mean of shrink² ones."""
    smooth = F.avg_pool2d(photo.float(), shrink, stride=1).round().to(torch.uint8)
    span = (size - 1) * shrink + 1
    view = smooth.unfold(1, span, 1).unfold(2, span, 1)[..., ::shrink, ::shrink]  # every patch, without copying
    rows, columns = view.shape[1:3]
    if sum(counts) > rows * columns:
        most = 2 * rows * columns - HELDOUT
        raise LabError(f"dataset.samples: the photographs have only {most:,} places.", "Take fewer samples.")
    places = torch.randperm(rows * columns, generator=make_generator(0, f"patches/{name}"))[: sum(counts)]
    found = view[:, places // columns, places % columns].movedim(0, 1).contiguous()
    return list(found.split(counts))


def cifar10(data_dir: str) -> Dataset:
    """CIFAR-10 (Krizhevsky 2009): 60,000 32×32 photographs of ten classes, 10,000 of them held out.

    Read from `<data_dir>/cifar-10-batches-py`, or `cifar-10-python.tar.gz` beside it, else downloaded.

    Raises:
        LabError: if it can't be had, or a file isn't what its checksum says.
    """
    return _cifar_like(datasets.CIFAR10, Path(data_dir))


def _cifar_like(source: type[datasets.CIFAR10], data_dir: Path) -> Dataset:
    folder = data_dir / source.base_folder
    names = [source.meta["filename"], *(name for name, _ in (*source.train_list, *source.test_list))]
    if not folder.is_dir():
        _unpack(_archive(source, data_dir), folder, names)
    try:  # the files are pickles, which could do anything: torchvision reads none whose checksum is wrong
        train, heldout = (source(data_dir, train=which) for which in (True, False))
    except (RuntimeError, OSError) as error:
        raise LabError(
            f"{folder} doesn't hold CIFAR-10 as it is shipped: a file of {', '.join(names)} is missing or damaged.",
            "Delete the folder, and it is got anew.",
        ) from error

    def part(read: datasets.CIFAR10) -> Part:
        return Part(torch.from_numpy(read.data).movedim(-1, 1).contiguous(), torch.tensor(read.targets))

    return Dataset(part(train), part(heldout), classes=list(train.classes))


def _archive(source: type[datasets.CIFAR10], data_dir: Path) -> Path:
    """The archive as it is shipped; downloaded under a temporary name, then renamed."""
    path = data_dir / source.filename
    if path.is_file():
        if not check_integrity(str(path), source.tgz_md5):
            raise LabError(f"{path} is damaged: its checksum is wrong.", "Delete it and get it anew.")
        return path
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=data_dir) as half:
            download_url(source.url, half, md5=source.tgz_md5)
            os.replace(Path(half) / source.url.rpartition("/")[2], path)
    except (URLError, RuntimeError, OSError) as error:
        raise LabError(
            f"CIFAR-10 is not in {data_dir} and could not be downloaded:\n  {source.url}: {error}",
            f"Put {source.filename} there as it is shipped, or name the folder that holds it with data_dir=…",
        ) from error
    return path


def _unpack(archive: Path, folder: Path, names: list[str]) -> None:
    """The named files of an archive, put into a folder that is there when all are."""
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent) as half, tarfile.open(archive) as content:
            whole = Path(half) / folder.name
            whole.mkdir()
            for name in names:
                packed = content.extractfile(f"{folder.name}/{name}")
                assert packed is not None  # the archive's checksum was right
                with packed, (whole / name).open("wb") as file:
                    shutil.copyfileobj(packed, file)
            os.replace(whole, folder)
    except (tarfile.TarError, zlib.error, EOFError, KeyError) as error:
        raise LabError(f"{archive} can't be unpacked: {error}", "Delete it and get it anew.") from error
