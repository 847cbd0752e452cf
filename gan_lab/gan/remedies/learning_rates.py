"""The learning rates of D and G: their ratio, and how they fall."""

import math

from torch.optim import Optimizer

from gan_lab.core.declare import declares
from gan_lab.core.errors import LabError


class RateDecay:
    """Base of remedies that lower both learning rates in the course of the training."""

    def factor(self, step: int) -> float:
        """Returns the factor in [0, 1] by which the initial learning rates are multiplied in a step, counted from 0."""
        raise NotImplementedError

    def apply(self, step: int, *optimizers: Optimizer) -> None:
        """Sets the learning rates of the optimisers for a step."""
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                initial_lr = group.setdefault("initial_lr", group["lr"])
                group["lr"] = initial_lr * self.factor(step)


@declares(
    per_sample=True,
    settings={
        "fraction": {
            "type": "float",
            "low": 1e-6,
            "high": 1,
            "help": "share of the training with falling rates, its last part",
        },
        "steps": {"type": "int", "low": 1, "high": 1_000_000_000, "help": "steps of the training"},
    },
    weak={"fraction": 0.25},
)
class CosineDecay(RateDecay):
    """Lowers both learning rates to 0 along half a cosine, over the last part of the training.

    After Loshchilov & Hutter 2017 (arXiv:1608.03983), without restarts. With constant learning rates D and G circle
    around the optimum instead of reaching it.

    Args:
        fraction: length of that last part as a fraction of the training, in (0, 1].
        steps: length of the training.

    Raises:
        LabError: if a value is out of bounds.
    """

    def __init__(self, fraction: float = 1.0, steps: int = 10_000):
        if not 0 < fraction <= 1 or steps <= 0:
            raise LabError(
                f"The learning rates can't decay over fraction={fraction} of steps={steps}.",
                "Choose 0 < fraction ≤ 1 and steps > 0.",
                code="invalid",
                key="remedy.decay",
            )
        self.fraction = fraction
        self.steps = steps

    def factor(self, step: int) -> float:
        # 1 until the decay begins, then falling linearly to 0.
        remaining = (self.steps - step) / (self.fraction * self.steps)
        remaining = min(1.0, max(0.0, remaining))
        return (1 - math.cos(math.pi * remaining)) / 2


@declares(
    conflicts={
        "CosineDecay": ("both lower the learning rates", "Leave out one of them."),
    },
    per_sample=True,
    settings={
        "end": {"type": "float", "low": 1e-9, "high": 1, "help": "factor of the learning rates after the last step"},
        "steps": {"type": "int", "low": 1, "high": 1_000_000_000, "help": "steps of the training"},
    },
    weak={"end": 0.1},
    strong={"end": 0.001},
)
class ExponentialDecay(RateDecay):
    """Lowers both learning rates by the same factor in each step, to `end` times their initial values.

    Each order of magnitude gets equally many steps, so that D and G settle at each before they go on to a lower one.
    (Along a cosine the rates are high most of the time, and below a hundredth only during the last 6 % of the steps.)

    Args:
        end: factor of the rates after the last step, in (0, 1].
        steps: length of the training.

    Raises:
        LabError: if a value is out of bounds.
    """

    def __init__(self, end: float = 0.01, steps: int = 10_000):
        if not 0 < end <= 1 or steps <= 0:
            raise LabError(
                f"The learning rates can't decay to end={end} over steps={steps}.",
                "Choose 0 < end ≤ 1 and steps > 0.",
                code="invalid",
                key="remedy.exponential_decay",
            )
        self.end = end
        self.steps = steps

    def factor(self, step: int) -> float:
        return self.end ** min(1.0, step / self.steps)


@declares(
    per_sample=True,
    settings={"ratio": {"type": "float", "low": 1e-6, "high": 1e6, "help": "factor of D's learning rate"}},
    weak={"ratio": 2.0},
    strong={"ratio": 8.0},
)
class TTUR:
    """Multiplies D's learning rate by a ratio; G keeps its rate (two time-scale update rule, Heusel et al. 2017).

    The theory of the paper (arXiv:1706.08500) asks for two time scales and not for particular rates. What is published
    are pairs: 4e-4 for D and 1e-4 for G, a ratio of 4, in SAGAN (Zhang et al. 2019, arXiv:1805.08318); 3e-4 and 1e-4
    for WGAN-GP on images in the authors' code, a ratio of 3. As a ratio this can be added to any recipe without making
    its G slower as well.

    Args:
        ratio: of D's learning rate to the one that D has without this remedy, > 0.

    Raises:
        LabError: if the ratio is not positive.
    """

    def __init__(self, ratio: float = 4.0):
        if ratio <= 0:
            raise LabError(
                f"D's learning rate can't be multiplied by ratio={ratio}.",
                "Choose ratio > 0, for example 4.",
                code="invalid",
                key="remedy.ttur.ratio",
            )
        self.ratio = ratio

    def apply(self, optimizer_d: Optimizer) -> None:
        """Multiplies the learning rate of D's new optimizer."""
        for group in optimizer_d.param_groups:
            group["lr"] *= self.ratio
