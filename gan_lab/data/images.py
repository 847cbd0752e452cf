"""Real images with labels: scikit-learn's digits, MNIST and Fashion-MNIST, and digits stacked in three colours."""

import gzip
import math
import os
import tempfile
import zlib
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from torchvision import datasets
from torchvision.datasets.utils import download_url

from gan_lab.core.errors import LabError
from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import Dataset, Part, Samples, StackedPart

STACKED_HELDOUT = 10_000
MOST = 10**6  # images in a file: more than any of MNIST's kind has


def digits(heldout: float = 0.2) -> Dataset:
    """The 1,797 8×8 digits (17 grey levels) that come with scikit-learn; a fixed, stratified share is held out."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16  # (1797, 1, 8, 8)
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    train, held = train_test_split(np.arange(len(labels)), test_size=heldout, random_state=0, stratify=bunch.target)
    return Dataset(
        Part(images[train], labels[train]), Part(images[held], labels[held]), classes=[str(n) for n in range(10)]
    )


def mnist(data_dir: str) -> Dataset:
    """The 70,000 28×28 handwritten digits (LeCun et al. 1998), from `<data_dir>/MNIST/raw`, else downloaded."""
    return _mnist_like(datasets.MNIST, data_dir, [str(n) for n in range(10)])


def fashion_mnist(data_dir: str) -> Dataset:
    """The 70,000 28×28 pictures of clothes (Xiao et al. 2017), from `<data_dir>/FashionMNIST/raw`, else downloaded."""
    return _mnist_like(datasets.FashionMNIST, data_dir, datasets.FashionMNIST.classes)


def stacked_digits(samples: int | None = 128_000) -> Dataset:
    """Three of scikit-learn's digits as red, green and blue: 8×8, 1,000 modes; see `stacked_mnist`.

    Args:
        samples: how many fixed triples the train part has; None for all n³ of them.
    """
    return _stacked(digits(), samples, "stacked_digits")


def stacked_mnist(data_dir: str, samples: int | None = 128_000) -> Dataset:
    """Three MNIST digits as red, green and blue: 1,000 modes, their labels 100 r + 10 g + b (Metz et al. 2017).

    Fixed triples are drawn once, whatever the run's seed, as in VEEGAN and PacGAN (Srivastava et al. 2017, Lin et al.
    2018), but from MNIST's train part alone, where those mix in its test part; None is the protocol of Unrolled GAN,
    triples drawn on the fly. The 10,000 held-out triples are of held-out digits.

    Args:
        samples: how many fixed triples the train part has; None for all n³ of them.
    """
    return _stacked(mnist(data_dir), samples, "stacked_mnist")


def _stacked(base: Dataset, samples: int | None, name: str) -> Dataset:
    def part(source: Samples, n: int | None, purpose: str) -> StackedPart:
        assert isinstance(source, Part)
        if n is None:
            return StackedPart(source)
        return StackedPart(source, torch.randint(len(source), (n, 3), generator=make_generator(0, f"{name}/{purpose}")))

    train, heldout = part(base.train, samples, "train"), part(base.heldout, STACKED_HELDOUT, "heldout")
    return Dataset(train, heldout, classes=[f"{n:03d}" for n in range(1000)], base=base)


def _mnist_like(source: type[datasets.MNIST], data_dir: str, classes: list[str]) -> Dataset:
    folder = Path(data_dir) / source.__name__ / "raw"

    def part(kind: str) -> Part:
        images = _read_idx(_file(source, folder, f"{kind}-images-idx3-ubyte"), (28, 28))
        file = _file(source, folder, f"{kind}-labels-idx1-ubyte")
        labels = _read_idx(file, ())
        if len(images) != len(labels):
            raise LabError(f"{folder}: {len(images)} {kind} images, but {len(labels)} labels.", "Get all files anew.")
        if (most := int(labels.max())) >= len(classes):
            raise LabError(f"{file} has a label {most}, but {len(classes)} classes.", "Delete it and get it anew.")
        return Part(images.unsqueeze(1), labels.long())

    return Dataset(part("train"), part("t10k"), classes=classes)


def _file(source: type[datasets.MNIST], folder: Path, name: str) -> Path:
    """The file of that name, plain or .gz as it is shipped; downloaded under a temporary name, then renamed."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    md5 = dict(source.resources)[f"{name}.gz"]
    errors = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as half:
            for mirror in source.mirrors:
                try:
                    download_url(mirror + f"{name}.gz", half, md5=md5)
                    os.replace(Path(half) / f"{name}.gz", folder / f"{name}.gz")
                    return folder / f"{name}.gz"
                except (URLError, RuntimeError, OSError) as error:
                    errors.append(f"  {mirror}: {error}")
    except OSError as error:
        errors.append(f"  {error}")
    names = ", ".join(f"{n}" for n, _ in source.resources)
    raise LabError(
        f"{source.__name__} is not in {folder} and could not be downloaded:\n" + "\n".join(errors),
        f"Put these files there (.gz as they are shipped): {names};\nor name the folder that holds "
        f"{source.__name__}/raw with data_dir=…",
    )


def _read_idx(path: Path, sample: tuple[int, ...]) -> torch.Tensor:
    """An IDX file of unsigned bytes (the format of MNIST: http://yann.lecun.com/exdb/mnist), `(N, *sample)` uint8.

    No more is read, or unpacked, than its header says.

    Raises:
        LabError: if the file is damaged, or holds samples of another shape, none, or more than `MOST`.
    """
    axes = 1 + len(sample)
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            header = file.read(4 + 4 * axes)
            shape = np.frombuffer(header[4:], dtype=">u4").tolist() if len(header) == 4 + 4 * axes else []
            known = header[:4] == bytes([0, 0, 8, axes]) and tuple(shape[1:]) == sample and 0 < shape[0] <= MOST
            raw = file.read(math.prod(shape) + 1) if known else b""  # one more: is this the end?
    except (OSError, EOFError, zlib.error) as error:
        raise LabError(f"{path} can't be read: {error}.", "Delete it and get it anew.") from error
    if not known or len(raw) != math.prod(shape):
        of = " × ".join(map(str, ("N", *sample)))
        raise LabError(f"{path} is not a whole IDX file of {of} bytes.", "Delete it and get it anew.")
    return torch.from_numpy(np.frombuffer(raw, dtype=np.uint8).reshape(shape).copy())
