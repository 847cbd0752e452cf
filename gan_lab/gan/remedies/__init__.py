"""Remedies against mode collapse, sorted by what they do in a training step.

Two kinds of remedies are not here, as the step doesn't see them: layers of D (`gan_lab.gan.networks.minibatch_layers`)
and changes of the loss (`gan_lab.gan.losses.LabelSmoothing`).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from gan_lab.core.errors import LabError
from gan_lab.core.rng import StepRNG
from gan_lab.gan.remedies.averaging import EMA, HistoricalAveraging
from gan_lab.gan.remedies.generator_losses import GeneratorLoss, TopK
from gan_lab.gan.remedies.input_transforms import InputTransform, Pack
from gan_lab.gan.remedies.learning_rates import TTUR, RateDecay
from gan_lab.gan.remedies.penalties import Discriminator, Penalty, ScoredBatch
from gan_lab.gan.remedies.unrolled import Unrolled
from gan_lab.gan.remedies.update_gate import UpdateGate

T = TypeVar("T")

# The classes that a remedy can be derived from. A training can have several of the first three, one of each other.
KINDS = (
    InputTransform,
    Penalty,
    GeneratorLoss,
    TopK,
    Unrolled,
    UpdateGate,
    EMA,
    HistoricalAveraging,
    RateDecay,
    TTUR,
)


@dataclass(frozen=True)
class Remedies:
    """The remedies of one training; without any of them it is the plain GAN.

    Attributes:
        input_transforms: change the samples that D sees, real ones and fakes, one after the other.
        penalties: are added to D's loss.
        generator_losses: are added to G's adversarial loss or replace it.
        top_k: restricts G's adversarial loss to its best samples.
        unrolled: gives G the loss under D as it will be some steps later.
        update_gate: skips D's update while D is winning.
        ema: averages G's weights; samples are made with the average.
        historical_averaging: keeps the weights of both networks near the mean of their past.
        lr_decay: lowers the learning rates in the course of the training.
        ttur: multiplies D's learning rate.
    """

    input_transforms: tuple[InputTransform, ...] = ()
    penalties: tuple[Penalty, ...] = ()
    generator_losses: tuple[GeneratorLoss, ...] = ()
    top_k: TopK | None = None
    unrolled: Unrolled | None = None
    update_gate: UpdateGate | None = None
    ema: EMA | None = None
    historical_averaging: HistoricalAveraging | None = None
    lr_decay: RateDecay | None = None
    ttur: TTUR | None = None

    @classmethod
    def from_list(cls, remedies: Iterable[Any]) -> "Remedies":
        """Sorts remedies by their kind.

        Args:
            remedies: in any order. If two are of a kind of which there can be only one, the later one is used.
                Remedies that declare a conflict were refused before (`gan_lab.config.compatibility`).

        Raises:
            LabError: for an object that is no remedy.
        """
        remedies = list(remedies)
        for remedy in remedies:
            if not isinstance(remedy, KINDS):
                names = ", ".join(kind.__name__ for kind in KINDS)
                raise LabError(
                    f"{type(remedy).__name__} is no remedy.",
                    f"Derive it from one of these classes: {names}.",
                    code="invalid",
                    key="remedy",
                )
        input_transforms = _all_of(InputTransform, remedies)
        generator_losses = _all_of(GeneratorLoss, remedies)
        # A loss that replaces the adversarial one comes first, so that it doesn't replace the other losses as well.
        replacing = [loss for loss in generator_losses if loss.replaces_adversarial]
        adding = [loss for loss in generator_losses if not loss.replaces_adversarial]
        return cls(
            input_transforms=tuple(sorted(input_transforms, key=lambda transform: transform.order)),
            penalties=tuple(_all_of(Penalty, remedies)),
            generator_losses=(*replacing, *adding),
            top_k=_last_of(TopK, remedies),
            unrolled=_last_of(Unrolled, remedies),
            update_gate=_last_of(UpdateGate, remedies),
            ema=_last_of(EMA, remedies),
            historical_averaging=_last_of(HistoricalAveraging, remedies),
            lr_decay=_last_of(RateDecay, remedies),
            ttur=_last_of(TTUR, remedies),
        )

    @property
    def pack_size(self) -> int:
        """How many samples D scores together: m with `Pack`, else 1; the product of several."""
        return math.prod(transform.m for transform in self.input_transforms if isinstance(transform, Pack))

    def transform(self, samples: Tensor, step: int, rng: StepRNG) -> Tensor:
        """Applies all input transforms to samples `(…, B, *shape)`; the result is D's input."""
        for transform in self.input_transforms:
            samples = transform(samples, step, rng)
        return samples

    def share_scores(self, discriminator: nn.Module) -> bool:
        """Returns whether penalties can take their gradient from the scores of which D's loss is computed.

        Else D scores the samples again for them, because that gives other scores: with random transforms, and with a D
        whose buffers change in every call, the running statistics of batch normalisation or the vectors of spectral
        normalisation. Also False if no penalty takes a gradient.
        """
        if not any(penalty.uses_gradient for penalty in self.penalties):
            return False
        has_buffers = any(True for _ in discriminator.buffers())
        return not has_buffers and not any(transform.random for transform in self.input_transforms)

    def score(
        self, discriminator: Discriminator, samples: Tensor, step: int, rng: StepRNG, differentiable: bool = False
    ) -> ScoredBatch:
        """Lets D score samples, after the input transforms.

        Args:
            discriminator: D.
            samples: real samples or fakes `(…, B, *shape)`; no gradient reaches G through them.
            step: counted from 0.
            rng: random numbers for this step.
            differentiable: whether the scores can be differentiated with respect to the samples.
        """

        def score_again(samples: Tensor) -> Tensor:
            return discriminator(self.transform(samples, step, rng))

        samples = samples.detach().requires_grad_(differentiable)
        inputs = self.transform(samples, step, rng)
        return ScoredBatch(samples, inputs, discriminator(inputs), score_again)


def _all_of(kind: type[T], remedies: list[Any]) -> list[T]:
    return [remedy for remedy in remedies if isinstance(remedy, kind)]


def _last_of(kind: type[T], remedies: list[Any]) -> T | None:
    matches = _all_of(kind, remedies)
    return matches[-1] if matches else None
