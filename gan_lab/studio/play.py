"""A finished run to play with: its samples for latent vectors, their labels, D's answers, the nearest training samples.

Everything is computed by `gan_lab.explore`, `gan_lab.evaluation` and `gan_lab.training.landscape`.
"""

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_lab.assembly.build import load, prepare_libraries
from gan_lab.config.help import defaults_of
from gan_lab.core.run_folder import Run
from gan_lab.evaluation.verdict import VerdictEvaluator, evaluator_for
from gan_lab.explore.command import parse_spec
from gan_lab.explore.experiments import run_experiment
from gan_lab.explore.figures import as_images
from gan_lab.explore.latent_vectors import SeededSampler
from gan_lab.explore.predictions import LabelPredictor
from gan_lab.explore.request import Request, check
from gan_lab.plotting.samples import window_of
from gan_lab.studio.drawing import png_file
from gan_lab.training.landscape import d_answers, frozen_discriminator, refusal

FRAMES = 41  # samples on the way from a to b
REAL_POINTS = 500  # drawn in the plane


@dataclass(frozen=True)
class Shown:
    """Samples for a page.

    Attributes:
        names: of the samples, `a`, `0.50`, `a + b` …
        pictures: a PNG file of each; none for points.
        points: of the samples, `(n, 2)`; None for other data.
        labels: in words; "" where labels can't be predicted.
        answers: D's answers; None where D scores no single samples.
        lengths: of the latent vectors.
        z: the latent vectors `(n, latent_dim)`.
        samples: `(n, *shape)`.
    """

    names: list[str]
    pictures: list[bytes]
    points: np.ndarray | None
    labels: list[str]
    answers: list[float] | None
    lengths: list[float]
    z: Tensor
    samples: Tensor


class Player:
    """The GAN of a run; its methods may be called from several threads.

    Of a run with replicas it is the first.

    Args:
        run: with a checkpoint.
        cache_dir: the folder of trained label classifiers.

    Raises:
        LabError: if the run can't be loaded.
    """

    def __init__(self, run: Run, cache_dir: Path):
        prepare_libraries()
        loaded, self.dataset = load(run)
        self.run = run
        self.module = loaded.member(0)
        self.predictor = LabelPredictor(self.dataset, cache_dir)
        self.are_points = self.dataset.shape == (2,)
        self.are_images = len(self.dataset.shape) == 3
        self.window = window_of(self.dataset) if self.are_points else ()
        self.real = np.zeros((0, 2))
        if self.are_points:
            self.real = self.dataset.train[torch.arange(min(REAL_POINTS, len(self.dataset.train)))].numpy()
        self.no_answer = refusal(self.module)
        self._sampler = SeededSampler(self.module, self.predictor)
        self._cache_dir = cache_dir
        self._lock = threading.Lock()

    @property
    def noise_dim(self) -> int:
        """How many numbers of a latent vector are free: all but the target class."""
        return self.module.latent_dim - self.module.classes

    @functools.cached_property
    def _evaluator(self) -> VerdictEvaluator:
        return evaluator_for(self.dataset, self._cache_dir)

    def experiment(self, op: str, a: str, b: str) -> Shown:
        """Makes an experiment of `scripts/explore.py` with two latent vectors.

        Args:
            op: interpolate, in FRAMES steps, or add, subtract, multiply, as it is and normalised.
            a, b: a vector's number, or a class that its sample shows.

        Raises:
            LabError: as explore does.
        """
        _, defaults = defaults_of("explore")
        settings = {key: defaults[key] for key in Request.__annotations__}
        settings |= {"op": op, "a": a, "b": b, "normalize": str(settings["normalize"]).lower()}
        if op == "interpolate":
            settings["n"] = FRAMES
        else:
            settings["normalize"] = "both"
        request = Request(**settings)
        check(request)
        with self._lock:
            spec_a = parse_spec("a", a, request.by, self.predictor)
            spec_b = parse_spec("b", b, request.by, self.predictor)
            result, _ = run_experiment(request, spec_a, spec_b, self._sampler)
            return self._shown(result.names, result.z, result.samples, result.labels)

    def sample(self, z: Tensor) -> Shown:
        """Makes the samples of latent vectors `(n, latent_dim)`."""
        with self._lock:
            samples = self._sampler.sample(z)
            labels, _ = self.predictor(samples)
            return self._shown([""] * len(z), z, samples, labels)

    def nearest(self, samples: Tensor) -> list[bytes]:
        """Returns PNG files of the training images that are nearest to samples `(n, C, H, W)`."""
        with self._lock:
            return _pictures(self._evaluator.nearest_originals(samples))

    def _shown(self, names: Sequence[str], z: Tensor, samples: Tensor, labels: Tensor) -> Shown:
        answers = None
        if not self.no_answer:
            discriminator = frozen_discriminator(self.module)
            answers = d_answers(self.module, discriminator, samples, self.module.target_labels(z)).tolist()
        words = [""] * len(samples)
        if self.predictor.can_predict:
            words = [self.predictor.class_name(label) for label in labels.tolist()]
        return Shown(
            names=list(names),
            pictures=[] if self.are_points else _pictures(samples),
            points=samples.numpy() if self.are_points else None,
            labels=words,
            answers=answers,
            lengths=z[:, : self.noise_dim].norm(dim=1).tolist(),
            z=z,
            samples=samples,
        )


def _pictures(samples: Tensor) -> list[bytes]:
    """Returns a PNG file of each sample: images, or vectors as a row of cells."""
    files = []
    for picture in as_images(samples):
        pixels: Any = (picture * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        files.append(png_file(pixels))
    return files
