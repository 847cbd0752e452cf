"""Whether D and G stay at a similar level (S5)."""

from torch import Tensor

D_WINS, G_WINS = 0.5, -0.1


def balance(real_answer: float, fake_answer: float) -> str:
    """Who is ahead, from D's mean answers (probabilities of 'real') on real samples and on fakes.

    The gap between the two is 0 when D can't tell them apart, as it should be at the end, and 1 when D knows every one.
    At a gap above 0.5 'D is winning' (answers that sharp would be right 3 times out of 4); below −0.1, where D
    takes fakes for real more readily than real samples, 'G is winning'; else 'balanced'.
    """
    gap = real_answer - fake_answer
    return "D is winning" if gap > D_WINS else "G is winning" if gap < G_WINS else "balanced"


def mean_output(probabilities: Tensor) -> float:
    """Returns the mean of D's probabilities of 'real', `(n,)` in [0, 1]."""
    return probabilities.mean().item()


def accuracy(real_answers: Tensor, fake_answers: Tensor) -> tuple[float, float]:
    """The shares of real samples and of fakes that D tells rightly: answers `(n,)` in [0, 1], above and below 0.5.

    An answer of exactly 0.5 counts half: a D that always says so is right half of the time on both.
    """
    on_real = ((real_answers > 0.5).double() + (real_answers == 0.5) / 2).mean().item()
    on_fake = ((fake_answers < 0.5).double() + (fake_answers == 0.5) / 2).mean().item()
    return on_real, on_fake
