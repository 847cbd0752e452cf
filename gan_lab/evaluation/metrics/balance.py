"""Whether D and G are at a similar level (S5)."""

from torch import Tensor

D_WINS = 0.5  # the gap of D's mean outputs above which D is ahead
G_WINS = -0.1  # and below which G is


def balance(real_output: float, fake_output: float) -> str:
    """Says who is ahead, from D's mean outputs (probabilities of 'real') on real samples and on fakes.

    Their gap is 0 when D cannot tell them apart, as it should be at the end, and 1 when D recognises every sample.

    Args:
        real_output: the mean over real samples, in [0, 1].
        fake_output: the mean over fakes, in [0, 1].

    Returns:
        'D is winning' at a gap above 0.5 (outputs that sharp would be right 3 times out of 4); 'G is winning' below
        −0.1, where D takes fakes for real more readily than real samples; else 'balanced'.
    """
    gap = real_output - fake_output
    if gap > D_WINS:
        return "D is winning"
    if gap < G_WINS:
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
