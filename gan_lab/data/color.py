"""Colour images with labels: patches of scikit-learn's two photographs, and CIFAR-10."""

import os
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from gan_lab.core.declare import declares
from gan_lab.core.errors import LabError
from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import Dataset, Part

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

PHOTOS = ["china", "flower"]  # 427 × 640 pixels each
WINDOW = 96  # pixels of a photograph that a patch shows along a side, at most: a roof, a few petals
HELDOUT = 4_000  # patches


@declares(licence="CC BY 2.0 (the photographs of scikit-learn: danielbuechele and vultilion)")
def patches(size: int = 32, samples: int = 20_000) -> Dataset:
    """Makes square patches of scikit-learn's two photographs, a temple in China and a dahlia; nothing is downloaded.

    Patches are cut out at fixed random places, each place once, half of them from each photograph. They are shrunk by
    averaging, so that one shows up to 96 pixels of the photograph: 32 × 32 is a third of its scale. Labels say which
    photograph it is: two modes that a generator can miss. Held-out patches are from other places, but overlap those of
    the train part, since the photographs have no second part that looks like the first. So a generated image counts as
    a copy only if it is nearer to a patch than the patch's neighbours are.

    Args:
        size: pixels of a side, 8 to 96.
        samples: number of patches in the train part.

    Raises:
        LabError: if there aren't so many places.
    """
    from sklearn.datasets import load_sample_images

    shrink = max(1, WINDOW // size)
    # Patches of each photograph: for the train part and for the held-out part.
    counts = [
        [samples - samples // 2, HELDOUT - HELDOUT // 2],
        [samples // 2, HELDOUT // 2],
    ]
    cut_patches = []
    for photo, name, photo_counts in zip(load_sample_images().images, PHOTOS, counts, strict=True):
        pixels = torch.tensor(photo).movedim(-1, 0)  # (3, 427, 640)
        cut_patches.append(_cut(pixels, name, photo_counts, size, shrink))
    parts = []
    for part_number in (0, 1):
        values = torch.cat([photo_patches[part_number] for photo_patches in cut_patches])
        labels_per_photo = torch.tensor([photo_counts[part_number] for photo_counts in counts])
        parts.append(Part(values, torch.tensor([0, 1]).repeat_interleave(labels_per_photo)))
    return Dataset(parts[0], parts[1], classes=PHOTOS)


def _cut(photo: Tensor, name: str, counts: list[int], size: int, shrink: int) -> list[Tensor]:
    """Cuts patches out of a photograph.

    Args:
        photo: `(3, H, W)` uint8.
        name: of the photograph; its places are drawn from a generator of its own.
        counts: how many patches of each part.
        size: pixels of a patch's side.
        shrink: each pixel of a patch is the mean of shrink² pixels of the photograph.

    Returns:
        For each of the counts, patches `(n, 3, size, size)`, uint8.

    Raises:
        LabError: if there aren't so many places.
    """
    smooth = F.avg_pool2d(photo.float(), shrink, stride=1).round().to(torch.uint8)
    span = (size - 1) * shrink + 1
    # A view of every patch, (3, rows, columns, size, size), without copying one.
    every_patch = smooth.unfold(1, span, 1).unfold(2, span, 1)[..., ::shrink, ::shrink]
    rows, columns = every_patch.shape[1:3]
    if sum(counts) > rows * columns:
        max_samples = 2 * rows * columns - HELDOUT
        raise LabError(
            f"dataset.samples: the photographs have only {max_samples:,} places.",
            "Take fewer samples.",
            code="invalid",
            key="dataset.samples",
        )
    order = torch.randperm(rows * columns, generator=make_generator(0, f"patches/{name}"))
    places = order[: sum(counts)]
    patches_of_photo = every_patch[:, places // columns, places % columns].movedim(0, 1).contiguous()
    return list(patches_of_photo.split(counts))


@declares(sample_shape=(3, 32, 32), licence="its authors state none (Krizhevsky 2009)")
def cifar10(data_dir: str) -> Dataset:
    """Reads CIFAR-10 (Krizhevsky 2009): 60,000 32×32 photographs of ten classes, 10,000 of them held out.

    It is looked for in `<data_dir>/cifar-10-batches-py`, then in `<data_dir>/cifar-10-python.tar.gz`, else downloaded.

    Raises:
        LabError: if it can't be had, or a file has the wrong checksum.
    """
    from torchvision.datasets import CIFAR10

    return cifar_like(CIFAR10, Path(data_dir))


def cifar_like(source: "type[CIFAR10]", data_dir: Path) -> Dataset:
    """Reads a dataset that is shipped as CIFAR-10 is; see `cifar10`."""
    folder = data_dir / source.base_folder
    names = [source.meta["filename"]]
    for name, _checksum in (*source.train_list, *source.test_list):
        names.append(name)
    if not folder.is_dir():
        _unpack(_archive(source, data_dir), folder, names)
    try:
        # The files are pickles, which could run any code: torchvision reads none whose checksum is wrong.
        train = source(data_dir, train=True)
        heldout = source(data_dir, train=False)
    except (RuntimeError, OSError) as error:
        raise LabError(
            f"{folder} doesn't hold CIFAR-10 as it is shipped: a file of {', '.join(names)} is missing or damaged.",
            "Delete the folder; then CIFAR-10 is unpacked or downloaded again.",
            code="damaged",
            key=folder.name,
        ) from error
    return Dataset(_part(train), _part(heldout), classes=list(train.classes))


def _part(source: "CIFAR10") -> Part:
    images = torch.from_numpy(source.data).movedim(-1, 1).contiguous()
    return Part(images, torch.tensor(source.targets))


def _archive(source: "type[CIFAR10]", data_dir: Path) -> Path:
    """Returns the archive as it is shipped; downloads it, under a temporary name that is then changed.

    Raises:
        LabError: if it is damaged, or there is none and it can't be downloaded.
    """
    from torchvision.datasets.utils import check_integrity, download_url

    path = data_dir / source.filename
    if path.is_file():
        if not check_integrity(str(path), source.tgz_md5):
            raise LabError(
                f"{path} is damaged: its checksum is wrong.",
                "Delete it, and download it again.",
                code="damaged",
                key=path.name,
            )
        return path
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=data_dir) as temporary:
            download_url(source.url, temporary, md5=source.tgz_md5)
            os.replace(Path(temporary) / source.url.rpartition("/")[2], path)
    except (URLError, RuntimeError, OSError) as error:
        raise LabError(
            f"CIFAR-10 is not in {data_dir} and could not be downloaded:\n  {source.url}: {error}",
            f"Put {source.filename} there as it is shipped, or name the folder that holds it with data_dir=…",
            code="missing",
            key="data_dir",
        ) from error
    return path


def _unpack(archive: Path, folder: Path, names: list[str]) -> None:
    """Unpacks the named files, and no others, into a folder that appears when all are there.

    Raises:
        LabError: if the archive can't be unpacked.
    """
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary, tarfile.open(archive) as content:
            complete = Path(temporary) / folder.name
            complete.mkdir()
            for name in names:
                packed = content.extractfile(f"{folder.name}/{name}")
                assert packed is not None  # the archive's checksum was right
                with packed, (complete / name).open("wb") as file:
                    shutil.copyfileobj(packed, file)
            os.replace(complete, folder)
    except (tarfile.TarError, zlib.error, EOFError, KeyError) as error:
        raise LabError(
            f"{archive} can't be unpacked: {error}",
            "Delete it, and download it again.",
            code="damaged",
            key=archive.name,
        ) from error
