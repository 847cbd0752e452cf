"""Writes samples of a run as files that other programs read."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gan_lab.commands.run_generator import choose_gan, describe_gan, refuse_existing, refuse_not_finite
from gan_lab.core.command_line import setting
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic, atomic_folder
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import join_lines, printable, progress_bar
from gan_lab.data.dataset import Dataset
from gan_lab.data.hdf5_writer import ImageBuffer, Origin, write_packed
from gan_lab.gan.latent import Truncated, set_labels
from gan_lab.pack.sample_request import MAX_VALUES
from gan_lab.training.gan_module import GANModule
from gan_lab.training.sampling import fresh_latents


class SampleSettings(NamedTuple):
    """What is written: the keys of conf/sample.yaml, whose bounds gan_lab.config.schema checks."""

    to: str
    n: int
    seed: int
    classes: list[str] | None
    truncation: float | None
    member: int | None
    ema: bool


class SampleBatch(NamedTuple):
    """Some of the samples.

    Attributes:
        first: number of the first one.
        values: `(b, *shape)`: images as uint8, 0 to 255, vectors as float32.
        labels: the classes that a conditional GAN was asked for, `(b,)` int64; None without classes.
    """

    first: int
    values: np.ndarray
    labels: np.ndarray | None


def write_samples(module: GANModule, dataset: Dataset, run: Run, settings: SampleSettings) -> str:
    """Writes samples as `to` says, whole or not at all: a folder of PNG files, an .npz file, or a packed .h5 file.

    The folder is what torch-fidelity, pytorch-fid and clean-fid read; that of a conditional GAN has a `labels.csv` as
    well. An .npz file has the images as `x` `(n, C, H, W)`, uint8, and their labels as `y`, like those of BigGAN and
    StudioGAN. An .h5 file is what `scripts/pack.py` writes.

    Args:
        module: the run's GAN, as `gan_lab.assembly.build.load` gives it.
        dataset: its data.
        run: where it comes from.
        settings: what is written.

    Returns:
        A report for the user.

    Raises:
        LabError: if settings don't go together or with the GAN, the target exists, or samples aren't finite.
        OSError: if the disk is full, read-only or broken; then there is no target.
    """
    target = Path(settings.to).expanduser()
    refuse_existing(target)
    single = choose_gan(module, run, settings.member, settings.ema)
    are_images = len(dataset.shape) == 3
    suffix = target.suffix.lower()
    if not are_images and suffix != ".npz":
        raise LabError(
            f"to={target}: samples of these data are vectors, not images.",
            f"Write them into an .npz file: {setting('to', target.with_suffix('.npz'))}",
            code="unsupported",
            key="to",
        )
    batches = _sample_batches(single, dataset, settings)
    if suffix == ".npz":
        form = _write_npz(target, batches, settings.n, dataset.shape)
    elif suffix in (".h5", ".hdf5"):
        form = _write_hdf5(target, batches, dataset, run, settings)
    else:
        form = _write_folder(target, batches, dataset)
    return join_lines([f"{settings.n:,} samples of {describe_gan(module, run, settings.member)}.", f"{target}: {form}"])


def latent_batches(module: GANModule, dataset: Dataset, settings: SampleSettings) -> Iterator[Tensor]:
    """Yields the latent vectors of the samples in batches `(b, latent_dim)`.

    Args:
        module: a single GAN.
        dataset: its data.
        settings: `n`, `seed`, `classes` and `truncation` count.

    Raises:
        LabError: if classes or truncation don't go with the GAN.
    """
    labels = _target_labels(module, dataset, settings)
    latent = module.latent
    if settings.truncation is not None:
        latent = Truncated(latent, settings.truncation)
    first = 0
    for z in fresh_latents(module, settings.n, "sample", settings.seed, latent):
        if labels is not None:
            z = set_labels(z, labels[first : first + len(z)], module.classes)
        yield z
        first += len(z)


def _target_labels(module: GANModule, dataset: Dataset, settings: SampleSettings) -> Tensor | None:
    """Returns the class of each sample that `classes` asks for, `(n,)`, one class after another; None without."""
    if settings.classes is None:
        return None
    if not module.classes:
        raise LabError(
            "classes: this GAN isn't conditional, so it can't be asked for a class.",
            "Train with conditional=true, or leave classes out.",
            code="unsupported",
            key="classes",
        )
    numbers = []
    for word in settings.classes:
        numbers.append(dataset.class_number("classes", word, "Name some of them: classes=[…]"))
    if not numbers:
        raise LabError("classes names none.", "Name some, or leave it out.", code="invalid", key="classes")
    return torch.tensor(numbers)[torch.arange(settings.n) * len(numbers) // settings.n]


def _sample_batches(module: GANModule, dataset: Dataset, settings: SampleSettings) -> Iterator[SampleBatch]:
    """Yields the samples in batches, and shows progress.

    Raises:
        LabError: for samples that aren't finite; see `latent_batches`.
    """
    first = 0
    with progress_bar("sampling", settings.n, " samples") as bar:
        for z in latent_batches(module, dataset, settings):
            samples = module.sample(z).float().cpu()
            refuse_not_finite(samples)
            labels = module.target_labels(z)
            numbers = None if labels is None else labels.cpu().numpy()
            if samples.dim() == 4:
                samples = (samples.clamp(0, 1) * 255).round().byte()
            yield SampleBatch(first, samples.numpy(), numbers)
            first += len(z)
            bar.update(len(z))


def _write_npz(target: Path, batches: Iterator[SampleBatch], n: int, shape: tuple[int, ...]) -> str:
    """Writes arrays `x` and, with classes, `y`; returns what is in the file."""
    if n * math.prod(shape) > MAX_VALUES:
        raise LabError(
            f"{n:,} samples are too many for an .npz file, which is made in memory.",
            "Write a folder or an .h5 file, or take fewer.",
            code="conflict",
            key="to",
        )
    values = []
    labels = []
    for batch in batches:
        values.append(batch.values)
        if batch.labels is not None:
            labels.append(batch.labels)
    x = np.concatenate(values)
    form = f"x {x.shape} {x.dtype}"
    with atomic(target) as temporary, temporary.open("wb") as file:
        if labels:
            y = np.concatenate(labels)
            np.savez(file, x=x, y=y)
            form += f", y {y.shape} {y.dtype}"
        else:
            np.savez(file, x=x)
    return form


def _write_hdf5(
    target: Path, batches: Iterator[SampleBatch], dataset: Dataset, run: Run, settings: SampleSettings
) -> str:
    """Writes a packed file, its last tenth held out; returns what is in it."""
    n = settings.n
    if n < 2:
        raise LabError("An .h5 file needs 2 images, one to hold out.", "Take more: n=…", code="conflict", key="n")
    target.parent.mkdir(parents=True, exist_ok=True)
    is_heldout = np.arange(n) >= n - max(1, n // 10)
    labels: list[np.ndarray] = []
    with ImageBuffer(target, n) as images:
        for batch in batches:
            for i, image in enumerate(batch.values):
                images.put(batch.first + i, image.transpose(1, 2, 0))
            if batch.labels is not None:
                labels.append(batch.labels)
        names = [_file_name(i) for i in range(n)]
        numbers = np.concatenate(labels) if labels else None
        origin = Origin(printable(run.folder.absolute().name), "", settings._replace(to=target.name)._asdict())
        classes = dataset.classes if labels else []
        write_packed(images, np.arange(n), is_heldout, names, numbers, classes, origin, compress=False)
    heldout = int(is_heldout.sum())
    return f"{n - heldout:,} images in train/images, {heldout:,} in holdout/images"


def _write_folder(target: Path, batches: Iterator[SampleBatch], dataset: Dataset) -> str:
    """Writes a PNG file for each sample and, with classes, labels.csv; returns what is in the folder."""
    n = 0
    rows: list[tuple[str, str]] = []
    with atomic_folder(target) as folder:
        for batch in batches:
            for i, image in enumerate(batch.values):
                name = _file_name(batch.first + i)
                pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
                Image.fromarray(pixels).save(folder / name)
                if batch.labels is not None:
                    rows.append((name, dataset.classes[batch.labels[i]]))
            n += len(batch.values)
        if rows:
            with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("file", "class"), *rows])
    return f"{n:,} PNG files" + (" and labels.csv" if rows else "")


def _file_name(number: int) -> str:
    return f"{number:07d}.png"
