"""The remedies against mode collapse that the step plays, by what they do in it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gan_lab.core.errors import LabError
from gan_lab.core.rng import StepRNG
from gan_lab.gan.remedies.averaging import EMA, HistoricalAveraging
from gan_lab.gan.remedies.generator_losses import GeneratorLoss, TopK
from gan_lab.gan.remedies.input_transforms import InputTransform, Pack
from gan_lab.gan.remedies.lr_decay import CosineDecay
from gan_lab.gan.remedies.penalties import Penalty
from gan_lab.gan.remedies.unrolled import Unrolled
from gan_lab.gan.remedies.update_gate import UpdateGate


@dataclass(frozen=True)
class Remedies:
    """What a training has of them; without any it is the plain GAN.

    Attributes:
        views: what D is shown in the place of plain samples, applied one after the other.
        penalties: what D pays beside its loss.
        aims: what G wants beside fooling D, or in its place.
        top_k: G learns from its best samples alone.
        unrolled: G is judged by a D of later.
        balance: D waits while it wins.
        ema: samples are made by an average of G's weights.
        historical: both networks are held to the mean of their past.
        decay: learning rates fall.
    """

    input_transforms: tuple[InputTransform, ...] = ()
    penalties: tuple[Penalty, ...] = ()
    generator_losses: tuple[GeneratorLoss, ...] = ()
    top_k: TopK | None = None
    unrolled: Unrolled | None = None
    update_gate: UpdateGate | None = None
    ema: EMA | None = None
    historical_averaging: HistoricalAveraging | None = None
    lr_decay: CosineDecay | None = None

    @classmethod
    def from_list(cls, remedies: Iterable[Any]) -> "Remedies":
        """Each in its place, whatever their order.

        Raises:
            LabError: for what is none.
        """
        several: dict[type, list[Any]] = {InputTransform: [], Penalty: [], GeneratorLoss: []}
        single = {TopK: "top_k", Unrolled: "unrolled", UpdateGate: "update_gate", EMA: "ema", CosineDecay: "lr_decay"}
        single[HistoricalAveraging] = "historical_averaging"
        own: dict[str, Any] = {}
        for remedy in remedies:
            if kind := next((kind for kind in several if isinstance(remedy, kind)), None):
                several[kind].append(remedy)
            elif kind := next((kind for kind in single if isinstance(remedy, kind)), None):
                own[single[kind]] = remedy
            else:
                names = ", ".join(kind.__name__ for kind in (*several, *single))
                raise LabError(f"{type(remedy).__name__} is no remedy.", f"It has to be derived from one: {names}.")
        input_transforms, penalties, generator_losses = map(tuple, several.values())
        generator_losses = tuple(
            sorted(generator_losses, key=lambda loss: not loss.replaces_adversarial)
        )  # what replaces must not take the others away
        return cls(tuple(sorted(input_transforms, key=lambda view: view.order)), penalties, generator_losses, **own)

    @property
    def pack_size(self) -> int:
        """How many samples D judges by one score."""
        return next((view.m for view in self.input_transforms if isinstance(view, Pack)), 1)

    def transform(self, samples: Tensor, step: int, rng: StepRNG) -> Tensor:
        """What D is shown of samples `(…, B, *shape)`."""
        for view in self.input_transforms:
            samples = view(samples, step, rng)
        return samples
