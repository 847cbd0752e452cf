"""What the phases of a step share: D with its labels, random numbers, the optimizer's step; and a step's batches."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.optim import Adam, AdamW, Optimizer

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


def step_optimizer(optimizer: Optimizer) -> None:
    """Does what `optimizer.step()` does, to the bit, in half the time for fused Adam and AdamW.

    Their kernel is called directly. Whatever is out of the ordinary, such as a hook, a weight without a gradient, or
    the first step, which creates the state, is left to `optimizer.step()`.
    """
    is_adam = type(optimizer) in (Adam, AdamW)
    has_hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    if not is_adam or has_hooks or not all(_is_plain(group, optimizer.state) for group in optimizer.param_groups):
        optimizer.step()
        return
    with torch.no_grad():
        for group in optimizer.param_groups:
            weights = group["params"]
            states = [optimizer.state[weight] for weight in weights]
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
            kernel(
                weights,
                [weight.grad for weight in weights],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=group["maximize"],
            )


def _is_plain(group: Mapping[str, Any], states: Mapping[Tensor, Any]) -> bool:
    """Returns whether the fused kernel of Adam takes all weights of a parameter group at once."""
    if not group["fused"] or group["amsgrad"] or isinstance(group["lr"], Tensor):
        return False
    dtype = group["params"][0].dtype
    return all(w.grad is not None and w.dtype == dtype and w in states for w in group["params"])
