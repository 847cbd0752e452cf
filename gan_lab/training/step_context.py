"""What the phases of a step share, and the batches that a step is played with."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor
from torch.nn.functional import one_hot

from gan_lab.core.rng import StepRNG
from gan_lab.data.datamodule import StepBlock
from gan_lab.gan.networks.conditional import ConditionalDiscriminator

if TYPE_CHECKING:
    from gan_lab.training.gan_state import GANState

Cost = tuple[str, Tensor]  # a part of what a network pays, by name: one value for each member, `(…)`


class StepContext(NamedTuple):
    """What the phases of a step share.

    Attributes:
        critic: D; of a conditional GAN, D with the labels of the batch filled in. A module with a method `features`.
        labels_onehot: the labels of the batch `(…, B, classes)`; None without classes.
        batch_size: B.
        rng: random numbers of the remedies.
    """

    critic: Any
    labels_onehot: Tensor | None
    batch_size: int
    rng: StepRNG


def step_context(module: "GANState", turn: int, batch: Tensor, labels: Tensor | None) -> StepContext:
    """Prepares one turn of D: phases 1 and 2, and after the last turn of a step phase 3.

    Args:
        turn: 1 to `n_critic`.
        batch: real samples `(…, B, *shape)`.
        labels: their labels `(…, B)`; None without classes.
    """
    rng = step_rng(module, turn, module.step)
    batch_size = batch.shape[len(module.replica_dims)]
    if labels is None:
        return StepContext(module.discriminator, None, batch_size, rng)
    labels_onehot = one_hot(labels, module.classes).to(batch.dtype)
    critic = ConditionalDiscriminator(module.discriminator, labels_onehot, module.settings.flat)
    return StepContext(critic, labels_onehot, batch_size, rng)


def step_rng(module: "GANState", turn: int, step: int) -> StepRNG:
    """Returns the random numbers of the remedies for one turn of D, 1 to `n_critic`, in a step counted from 0."""
    # Turns are numbered through the training. The last turn of a step, which phase 3 belongs to, has the step's first
    # number, so that with n_critic=1 the number is that of the step.
    first_number = step * module.n_critic
    return module.step_rng(first_number if turn == module.n_critic else first_number + turn)


def batches_by_step(block: StepBlock, n_critic: int) -> list[list[tuple[Tensor, Tensor | None]]]:
    """Splits a block into steps: for each step its `n_critic` batches, each with its labels or None."""
    if isinstance(block, Tensor):
        batches: list[tuple[Tensor, Tensor | None]] = [(batch, None) for batch in block]
    else:
        batches = list(zip(*block, strict=True))
    return [batches[start : start + n_critic] for start in range(0, len(batches), n_critic)]


def sum_of(costs: Sequence[Cost]) -> Tensor:
    """Returns the sum of at least one cost, added up in their order."""
    total = costs[0][1]
    for _, cost in costs[1:]:
        total = total + cost
    return total
