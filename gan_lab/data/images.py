"""Real images with labels: scikit-learn's digits, MNIST and Fashion-MNIST, and digits stacked in three colours."""

import gzip
import math
import os
import tempfile
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

import numpy as np
import torch

from gan_lab.core.declare import declares
from gan_lab.core.errors import LabError
from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import Dataset, Part, Samples, StackedPart

if TYPE_CHECKING:
    from torchvision.datasets import MNIST

STACKED_HELDOUT = 10_000
MAX_IMAGES = 10**6  # in an IDX file: more than any dataset of MNIST's kind has
IDX_UINT8 = 8  # the code of unsigned bytes in an IDX header
GET_AGAIN = "Delete it, and download it again."


@declares(
    sample_shape=(1, 8, 8),
    licence="CC BY 4.0, see archive.ics.uci.edu/dataset/80 (Optical Recognition of Handwritten Digits)",
)
def digits(heldout: float = 0.2) -> Dataset:
    """Makes the 1,797 8×8 digits, with 17 grey levels, that come with scikit-learn.

    Args:
        heldout: the fraction, between 0 and 1, that is held out; the split is fixed and stratified by class.
    """
    # A row is 64 grey levels, 0 to 16, and the digit. scikit-learn itself takes a second to import.
    package = find_spec("sklearn")
    assert package is not None
    assert package.submodule_search_locations is not None
    folder = Path(package.submodule_search_locations[0])
    table = np.loadtxt(folder / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    images = torch.tensor(table[:, :-1], dtype=torch.float32).view(-1, 1, 8, 8) / 16  # (1797, 1, 8, 8)
    labels = table[:, -1].astype(np.int64)
    parts = []
    for indices in stratified_split(labels, heldout):
        parts.append(Part(images[indices], torch.from_numpy(labels[indices])))
    return Dataset(parts[0], parts[1], classes=[str(digit) for digit in range(10)])


def stratified_split(labels: np.ndarray, heldout: float) -> tuple[np.ndarray, np.ndarray]:
    """Splits samples at random so that each class has its share in both parts, always in the same way.

    It is scikit-learn's `train_test_split(…, test_size=heldout, random_state=0, stratify=labels)`.

    Args:
        labels: class numbers `(N,)` from 0, each at least twice.
        heldout: the fraction that is held out, between 0 and 1.

    Returns:
        The indices of the train part and of the held-out part.

    Raises:
        LabError: if one of them would have fewer samples than there are classes.
    """
    counts = np.bincount(labels)
    heldout_size = math.ceil(heldout * len(labels))
    train_size = len(labels) - heldout_size
    if min(train_size, heldout_size) < len(counts):
        raise LabError(
            f"dataset.heldout={heldout}: of {len(labels):,} samples {heldout_size:,} would be held out, and "
            f"{train_size:,} trained on, but there are {len(counts)} classes.",
            "Take a fraction nearer to 0.2.",
            code="invalid",
            key="dataset.heldout",
        )
    rng = np.random.RandomState(0)
    train_counts = _allot(counts, train_size, rng)
    heldout_counts = _allot(counts - train_counts, heldout_size, rng)
    train = []
    rest = []
    for label in range(len(counts)):
        (members,) = np.where(labels == label)
        shuffled = members[rng.permutation(counts[label])]
        stop = train_counts[label] + heldout_counts[label]
        train.append(shuffled[: train_counts[label]])
        rest.append(shuffled[train_counts[label] : stop])
    return rng.permutation(np.concatenate(train)), rng.permutation(np.concatenate(rest))


def _allot(counts: np.ndarray, total: int, rng: np.random.RandomState) -> np.ndarray:
    """Returns how many of `total` samples each class gets, in proportion to its count `(classes,)`.

    What is left after rounding down goes to the largest remainders; ties are broken at random.
    """
    exact = counts / counts.sum() * total
    allotted = np.floor(exact)
    remainders = exact - allotted
    missing = int(total - allotted.sum())
    for remainder in np.unique(remainders)[::-1]:
        if missing == 0:
            break
        (tied,) = np.where(remainders == remainder)
        chosen = rng.choice(tied, size=min(len(tied), missing), replace=False)
        allotted[chosen] += 1
        missing -= len(chosen)
    return allotted.astype(int)


@declares(
    sample_shape=(1, 28, 28),
    licence="CC BY-SA 3.0, as keras.io/api/datasets/mnist states; Yann LeCun and Corinna Cortes hold the copyright",
)
def mnist(data_dir: str) -> Dataset:
    """Reads the 70,000 28×28 handwritten digits (LeCun et al. 1998) from `<data_dir>/MNIST/raw`, or downloads them.

    Raises:
        LabError: if they can't be had, or a file is damaged.
    """
    from torchvision.datasets import MNIST

    return mnist_like(MNIST, data_dir, [str(digit) for digit in range(10)])


@declares(sample_shape=(1, 28, 28), licence="MIT (github.com/zalandoresearch/fashion-mnist, Zalando SE)")
def fashion_mnist(data_dir: str) -> Dataset:
    """Reads the 70,000 28×28 pictures of clothes (Xiao et al. 2017) from `<data_dir>/FashionMNIST/raw`; see `mnist`.

    Raises:
        LabError: if they can't be had, or a file is damaged.
    """
    from torchvision.datasets import FashionMNIST

    return mnist_like(FashionMNIST, data_dir, FashionMNIST.classes)


@declares(
    sample_shape=(3, 8, 8),
    licence="CC BY 4.0, see archive.ics.uci.edu/dataset/80 (Optical Recognition of Handwritten Digits)",
)
def stacked_digits(samples: int | None = 128_000) -> Dataset:
    """Stacks three of scikit-learn's digits as red, green and blue: 8×8, 1,000 modes; see `stacked_mnist`.

    Args:
        samples: how many fixed triples the train part has; None for all n³ of them.
    """
    return _stacked(digits(), samples, "stacked_digits")


@declares(
    sample_shape=(3, 28, 28),
    licence="CC BY-SA 3.0, as keras.io/api/datasets/mnist states; Yann LeCun and Corinna Cortes hold the copyright",
)
def stacked_mnist(data_dir: str, samples: int | None = 128_000) -> Dataset:
    """Stacks three MNIST digits as red, green and blue: 1,000 modes with labels 100 r + 10 g + b (Metz et al. 2017).

    Fixed triples are drawn once, whatever the run's seed, as in VEEGAN and PacGAN (Srivastava et al. 2017, Lin et al.
    2018), but only from MNIST's train part, where those mix in its test part. With `samples=None` triples are drawn in
    each step, as in Unrolled GAN (Metz et al. 2017). The 10,000 held-out triples are of held-out digits.

    Args:
        data_dir: see `mnist`.
        samples: how many fixed triples the train part has; None for all n³ of them.

    Raises:
        LabError: see `mnist`.
    """
    return _stacked(mnist(data_dir), samples, "stacked_mnist")


def _stacked(base: Dataset, samples: int | None, name: str) -> Dataset:
    train = _stacked_part(base.train, samples, f"{name}/train")
    heldout = _stacked_part(base.heldout, STACKED_HELDOUT, f"{name}/heldout")
    return Dataset(train, heldout, classes=[f"{number:03d}" for number in range(1000)], base=base)


def _stacked_part(source: Samples, count: int | None, purpose: str) -> StackedPart:
    """Stacks fixed triples of single-channel images, or all of them if `count` is None."""
    assert isinstance(source, Part)
    if count is None:
        return StackedPart(source)
    triples = torch.randint(len(source), (count, 3), generator=make_generator(0, purpose))
    return StackedPart(source, triples)


def mnist_like(source: "type[MNIST]", data_dir: str, classes: list[str]) -> Dataset:
    """Reads a dataset of 28×28 images that is shipped as MNIST is, from `<data_dir>/<its name>/raw`, or downloads it.

    Raises:
        LabError: if it can't be had, or a file is damaged.
    """
    folder = Path(data_dir) / source.__name__ / "raw"
    train = _read_part(source, folder, "train", classes)
    heldout = _read_part(source, folder, "t10k", classes)
    return Dataset(train, heldout, classes=classes)


def _read_part(source: "type[MNIST]", folder: Path, kind: str, classes: list[str]) -> Part:
    """Reads the images and labels of a part, `kind` being `train` or `t10k`."""
    images = _read_idx(_file(source, folder, f"{kind}-images-idx3-ubyte"), (28, 28))
    label_file = _file(source, folder, f"{kind}-labels-idx1-ubyte")
    labels = _read_idx(label_file, ())
    if len(images) != len(labels):
        raise LabError(
            f"{folder}: {len(images)} {kind} images, but {len(labels)} labels.",
            "Delete its files, and download them again.",
            code="damaged",
            key=label_file.name,
        )
    highest = int(labels.max())
    if highest >= len(classes):
        raise LabError(
            f"{label_file} has a label {highest}, but {len(classes)} classes.",
            GET_AGAIN,
            code="damaged",
            key=label_file.name,
        )
    return Part(images.unsqueeze(1), labels.long())


def _file(source: "type[MNIST]", folder: Path, name: str) -> Path:
    """Returns the file of that name, plain or as .gz; downloads it, under a temporary name that is then changed.

    Raises:
        LabError: if there is none and it can't be downloaded.
    """
    from torchvision.datasets.utils import download_url

    packed_name = f"{name}.gz"
    for path in (folder / name, folder / packed_name):
        if path.is_file():
            return path
    checksum = dict(source.resources)[packed_name]
    failures = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            for mirror in source.mirrors:
                try:
                    download_url(mirror + packed_name, temporary, md5=checksum)
                    os.replace(Path(temporary) / packed_name, folder / packed_name)
                    return folder / packed_name
                except (URLError, RuntimeError, OSError) as error:
                    failures.append(f"  {mirror}: {error}")
    except OSError as error:
        failures.append(f"  {error}")
    names = ", ".join(file_name for file_name, _checksum in source.resources)
    raise LabError(
        f"{source.__name__} is not in {folder} and could not be downloaded:\n" + "\n".join(failures),
        f"Put these files there (.gz as they are shipped): {names};\nor name the folder that holds "
        f"{source.__name__}/raw with data_dir=…",
        code="missing",
        key="data_dir",
    )


def _read_idx(path: Path, sample_shape: tuple[int, ...]) -> torch.Tensor:
    """Reads an IDX file of unsigned bytes, the format of MNIST (http://yann.lecun.com/exdb/mnist).

    No more is read, or unpacked, than its header says.

    Args:
        path: the file, plain or .gz.
        sample_shape: what the header has to say about a sample.

    Returns:
        `(N, *sample_shape)` uint8.

    Raises:
        LabError: if the file is damaged, or holds samples of another shape, none, or more than `MAX_IMAGES`.
    """
    axes = 1 + len(sample_shape)
    open_file = gzip.open if path.suffix == ".gz" else open
    raw = None
    try:
        with open_file(path, "rb") as file:
            shape = _idx_shape(file.read(4 + 4 * axes), sample_shape)
            if shape:
                # One byte more shows whether the file ends there.
                raw = file.read(math.prod(shape) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise LabError(f"{path} can't be read: {error}.", GET_AGAIN, code="damaged", key=path.name) from error
    if raw is None or len(raw) != math.prod(shape):
        expected = " × ".join(map(str, ("N", *sample_shape)))
        raise LabError(f"{path} is not a whole IDX file of {expected} bytes.", GET_AGAIN, code="damaged", key=path.name)
    return torch.from_numpy(np.frombuffer(raw, dtype=np.uint8).reshape(shape).copy())


def _idx_shape(header: bytes, sample_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape `(N, *sample_shape)` that an IDX header says; () if it says anything else."""
    axes = 1 + len(sample_shape)
    if len(header) != 4 + 4 * axes or header[:4] != bytes([0, 0, IDX_UINT8, axes]):
        return ()
    shape = tuple(np.frombuffer(header[4:], dtype=">u4").tolist())
    if shape[1:] != sample_shape or not 0 < shape[0] <= MAX_IMAGES:
        return ()
    return shape
