"""Learning rates that fall."""

import math

from torch.optim import Optimizer

from gan_lab.core.errors import LabError


class CosineDecay:
    """Both learning rates fall to 0 over the last part of the training, along half a cosine (Loshchilov & Hutter 2017,
    arXiv:1608.03983, without restarts): with constant ones the players circle around what they look for.

    Args:
        fraction: of the training, its last part, in (0, 1].
        steps: of the training.
    """

    def __init__(self, fraction: float = 1.0, steps: int = 10_000):
        if not 0 < fraction <= 1 or steps <= 0:
            raise LabError(
                f"A decay over fraction={fraction} of steps={steps} makes no sense.", "0 < fraction ≤ 1, steps > 0."
            )
        self.fraction, self.steps = fraction, steps

    def factor(self, step: int) -> float:
        """What the learning rates are multiplied by in the step after `step` others."""
        left = (self.steps - step) / (self.fraction * self.steps)
        return (1 - math.cos(math.pi * min(1.0, max(0.0, left)))) / 2

    def apply(self, step: int, *optimizers: Optimizer) -> None:
        """Sets the learning rates of that step."""
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * self.factor(step)
