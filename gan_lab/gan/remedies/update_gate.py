"""Holding the discriminator back while it wins."""

from torch import Tensor


class UpdateGate:
    """D doesn't learn in a step in which it tells more than a share of all pairs, one real sample and one fake, apart:
    both should stay at a similar level (S5; the idea of Goodfellow's and others' schedules, with a stated margin).

    The share of pairs in which the real sample has the higher score, ties counting half, is ½ when D can't tell and 1
    when it knows every one, whatever the loss (the area under the ROC curve, Hanley & McNeil 1982).

    Args:
        max_auc: that share, in [0.5, 1].
    """

    def __init__(self, max_auc: float = 0.9):
        self.max_auc = max_auc

    def should_update(self, real_scores: Tensor, fake_scores: Tensor) -> bool:
        """Whether D, which gave these scores `(B,)`, may learn from them."""
        gaps = real_scores.detach()[:, None] - fake_scores.detach()
        return bool(((gaps.sign() + 1) / 2).mean() <= self.max_auc)
