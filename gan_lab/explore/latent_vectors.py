"""Latent vectors by their seeds, and by the label that is predicted for their samples."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gan_lab.core.errors import LabError
from gan_lab.core.rng import make_generator
from gan_lab.explore.predictions import LabelPredictor
from gan_lab.gan.latent import set_labels
from gan_lab.training.gan_module import GANModule

# Latent vectors that G gets in one call.
BATCH = 500


class LatentSpec(NamedTuple):
    """Specifies a latent vector: either by its seed, or by the label that is predicted for its sample.

    In a conditional GAN, a vector specified by its seed has the target class that was drawn with it; a vector specified
    by its label has this label as target class.

    Attributes:
        seed: seed of the random number generator that draws the vector, or None.
        label: predicted label of the sample, or None.
    """

    seed: int | None = None
    label: int | None = None

    def successor(self, steps: int, classes: int) -> "LatentSpec":
        """Returns the spec whose seed or label is this many steps further; the first class follows the last one."""
        if self.seed is not None:
            return LatentSpec(seed=self.seed + steps)
        assert self.label is not None
        return LatentSpec(label=(self.label + steps) % classes)

    def __str__(self) -> str:
        """Returns the part of a file name that stands for this vector."""
        if self.seed is not None:
            return str(self.seed)
        return f"class{self.label}"


@dataclass
class SeededSampler:
    """Draws latent vectors by their seeds, generates their samples, and searches for vectors by predicted label."""

    module: GANModule
    predictor: LabelPredictor

    def draw(self, seeds: Sequence[int], target_labels: Sequence[int | None]) -> Tensor:
        """Draws the latent vectors of these seeds, `(n, latent_dim)`.

        Args:
            seeds: n seeds.
            target_labels: the target class for each vector of a conditional GAN; None leaves the class that was drawn.
        """
        shape = (1, self.module.latent_dim)
        vectors = []
        for seed, label in zip(seeds, target_labels, strict=True):
            z = self.module.latent(shape, make_generator(seed, "explore"))
            vectors.append(self.with_target_label(z, label))
        return torch.cat(vectors)

    def with_target_label(self, z: Tensor, label: int | None) -> Tensor:
        """Returns latent vectors `(n, latent_dim)` with this target class; unchanged for None or without classes."""
        if not self.module.classes or label is None:
            return z
        return set_labels(z, torch.full(z.shape[:-1], label), self.module.classes)

    def sample(self, z: Tensor) -> Tensor:
        """Generates the samples `(n, *shape)` of latent vectors `(n, latent_dim)`, on the CPU."""
        samples = []
        for batch in z.split(BATCH):
            samples.append(self.module.sample(batch).float().cpu())
        return torch.cat(samples)

    def find_seeds(self, specs: Sequence[LatentSpec], confidence: float, first_seed: int, tries: int) -> list[int]:
        """Returns one seed per spec; specs by label get different seeds.

        Args:
            specs: the latent vectors to find.
            confidence: the least confidence of a predicted label, in [0, 1].
            first_seed: the seed at which the search begins; the following ones are tried in order.
            tries: the largest number of seeds to try.

        Raises:
            LabError: if there are not enough vectors of some label among the seeds tried.
        """
        # By position in `specs`.
        seeds: dict[int, int] = {}
        # By label: the positions that still need a seed.
        unfilled: dict[int, deque[int]] = {}
        for position, spec in enumerate(specs):
            if spec.seed is not None:
                seeds[position] = spec.seed
            elif spec.label is not None:
                unfilled.setdefault(spec.label, deque()).append(position)
        frequencies: Counter[int] = Counter()
        end = first_seed + tries
        for start in range(first_seed, end, BATCH):
            missing = [label for label, positions in unfilled.items() if positions]
            if not missing:
                break
            candidates = range(start, min(start + BATCH, end))
            matches = self._find_matches(candidates, missing, confidence, frequencies)
            for seed in candidates:
                # A seed serves one position only, even if it matches several labels (of a conditional GAN).
                usable = [label for label in missing if unfilled[label] and (seed, label) in matches]
                if usable:
                    seeds[unfilled[usable[0]].popleft()] = seed
        for label, positions in unfilled.items():
            if positions:
                requested = sum(spec.label == label for spec in specs)
                raise self._not_found(label, requested, len(positions), confidence, tries, frequencies)
        return [seeds[position] for position in range(len(specs))]

    def _find_matches(
        self, candidates: Sequence[int], labels: Sequence[int], confidence: float, frequencies: Counter[int]
    ) -> set[tuple[int, int]]:
        """Returns pairs of a seed and the label predicted for its sample, and adds all predictions to `frequencies`.

        A conditional GAN samples each candidate once per label, with this label as target class; the prediction has to
        agree with it.
        """
        matches = set()
        target_labels: list[int | None] = [None]
        if self.module.classes:
            target_labels = list(labels)
        for target_label in target_labels:
            z = self.draw(candidates, [target_label] * len(candidates))
            predicted, confidences = self.predictor(self.sample(z))
            frequencies.update(predicted.tolist())
            for seed, label, certainty in zip(candidates, predicted.tolist(), confidences.tolist(), strict=True):
                if certainty >= confidence and target_label in (None, label):
                    matches.add((seed, label))
        return matches

    def _not_found(
        self, label: int, requested: int, lacking: int, confidence: float, tries: int, frequencies: Counter[int]
    ) -> LabError:
        """Returns the error for a label of which too few vectors were found.

        Args:
            label: the label.
            requested: the number of vectors that were to be found.
            lacking: how many of them were not.
            confidence: the least confidence.
            tries: the number of seeds tried.
            frequencies: how often each label was predicted.
        """
        most_frequent = []
        for predicted, times in frequencies.most_common(3):
            most_frequent.append(f"{self.predictor.class_name(predicted)} ({times:,} times)")
        return LabError(
            f"Of the {tries:,} latent vectors tried, {requested - lacking:,} generate "
            f"{self.predictor.class_name(label)} with confidence ≥ {confidence:g}; {requested:,} are needed.\n"
            f"This run most often generates: {', '.join(most_frequent)}.",
            f"Try more vectors (tries={10 * tries}), require less confidence (confidence={confidence / 2:g}), or name "
            "another class.",
            code="failed",
            key="tries",
        )
