"""What the discriminator and the generator minimise.

A loss takes raw scores `(…, B)` and gives per-sample values `(…, B)`; whoever calls it averages over `B`. It owns its
sigmoid: discriminators end in a plain linear layer, so a loss can never meet a missing sigmoid or a second one (S12).
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus


class Loss(Protocol):
    """What the training step and the charts ask of a loss."""

    equilibrium: float | None
    """The value of `d_real`, and of `d_fake`, when D can't tell real from fake; None where there is none."""
    ceiling: float | None
    """The largest value the terms can take, None where they are unbounded: the top of the loss chart."""
    neutral_answer: float | None
    """D's answer when it can't tell real from fake; None where there is none."""

    def answer(self, scores: Tensor) -> Tensor:
        """What D says in this loss's own scale, for charts: here 1 is 'real' and 0 is 'fake'."""

    def d_real(self, scores: Tensor) -> Tensor:
        """D's error on real samples (phase 1)."""

    def d_fake(self, scores: Tensor) -> Tensor:
        """D's error on fakes (phase 2)."""

    def g(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        """G's error: how far its fakes are from being called real (phase 3)."""


class _SigmoidLoss:
    """Losses whose D answers with a probability. Target 1 for real, 0 for fake; G wants its fakes called real.

    At the optimum D answers 0.5 everywhere (Goodfellow et al. 2014, proposition 1), which is score 0: the ideal value
    of every term follows from that instead of being typed in (S10).
    """

    neutral_answer = 0.5

    @property
    def equilibrium(self) -> float:
        return self.d_real(torch.zeros(())).item()

    def answer(self, scores: Tensor) -> Tensor:
        return scores.sigmoid()

    def d_real(self, scores: Tensor) -> Tensor:
        raise NotImplementedError

    def g(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return self.d_real(fake_scores)


class MSE(_SigmoidLoss):
    """Mean squared error of the probability: (σ(s) − target)², ideal value 0.25. The book's first loss."""

    ceiling = 1.0

    def d_real(self, scores: Tensor) -> Tensor:
        return (scores.sigmoid() - 1) ** 2

    def d_fake(self, scores: Tensor) -> Tensor:
        return scores.sigmoid() ** 2


class BCE(_SigmoidLoss):
    """Binary cross-entropy: −ln σ(s) on real, −ln(1 − σ(s)) on fakes, ideal value ln 2 ≈ 0.693.

    G's term is the non-saturating one, −ln σ(D(G(z))) (Goodfellow et al. 2014, section 3). Written with softplus, which
    stays finite, with a gradient, for scores of any size.
    """

    ceiling = None

    def d_real(self, scores: Tensor) -> Tensor:
        return softplus(-scores)

    def d_fake(self, scores: Tensor) -> Tensor:
        return softplus(scores)
