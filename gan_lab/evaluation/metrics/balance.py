"""Whether D and G are at a similar level (S5)."""

import math

from torch import Tensor

# D is winning above this logarithm of the odds ratio, if it also ranks samples well, and G is below the other one. D at
# 0.62 on real samples and 0.32 on fakes has 1.2, at 0.66 and 0.16 2.3, and at 0.007 and 0.001 2.0. The difference of
# the means (0.30, 0.50, 0.006) would not see the last one.
D_WINS = 1.0
D_WINS_AUC = 0.8
G_WINS = -0.4
LEAST = 1e-6  # outputs are kept this far from 0 and 1, whose odds are infinite


def balance(real_output: float, fake_output: float, auc_of_d: float | None = None) -> str:
    """Says who is ahead, from D's mean outputs (probabilities of 'real') on real samples and on fakes.

    The logarithm of their odds ratio, logit(real) − logit(fake), is 0 when D cannot tell them apart, as it should be at
    the end. It also sees a D whose outputs are all small, or all large, but differ by a factor.

    Args:
        real_output: the mean over real samples, in [0, 1].
        fake_output: the mean over fakes, in [0, 1].
        auc_of_d: the probability that D's output on a real sample exceeds that on a fake; None if it is not known.

    Returns:
        'D is winning' above `D_WINS` if D ranks a real sample above a fake in more than `D_WINS_AUC` of all pairs;
        'G is winning' below `G_WINS`, where D takes fakes for real more readily than real samples; else 'balanced'.
    """
    odds = _logit(real_output) - _logit(fake_output)
    if odds > D_WINS and (auc_of_d is None or auc_of_d > D_WINS_AUC):
        return "D is winning"
    if odds < G_WINS:
        return "G is winning"
    return "balanced"


def mean_output(probabilities: Tensor) -> float:
    """Returns the mean of D's probabilities of 'real', `(n,)` in [0, 1]."""
    return probabilities.mean().item()


def accuracy(d_on_real: Tensor, d_on_fake: Tensor) -> tuple[float, float]:
    """Returns the shares of real samples and of fakes that D classifies correctly, each in [0, 1].

    An output of exactly 0.5 counts as half correct: a D that always gives 0.5 has 0.5 on both.

    Args:
        d_on_real: D's probabilities of 'real' for real samples, `(n,)` in [0, 1]; correct above 0.5.
        d_on_fake: the same for fakes, `(m,)`; correct below 0.5.
    """
    on_real = ((d_on_real > 0.5).double() + (d_on_real == 0.5) / 2).mean().item()
    on_fake = ((d_on_fake < 0.5).double() + (d_on_fake == 0.5) / 2).mean().item()
    return on_real, on_fake


def _logit(probability: float) -> float:
    clipped = min(max(probability, LEAST), 1 - LEAST)
    return math.log(clipped / (1 - clipped))
