"""What the discriminator and the generator minimise.

A loss takes raw scores `(…, B)` and gives per-sample values `(…, B)`; whoever calls it averages over `B`. It owns its
sigmoid: discriminators end in a plain linear layer, so a loss can never meet a missing sigmoid or a second one (S12).
"""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from gan_lab.core.errors import LabError


class Loss(Protocol):
    """What the training step and the charts ask of a loss."""

    paired: bool
    """Whether D's terms compare a real batch with a fake one. Then there is only `d`, in one update, and `g` needs
    both scores; `d_real` and `d_fake` alone raise NotImplementedError."""
    loss_at_optimum: float | None
    """The value of D's term on real, and of that on fakes, when D can't tell them apart; None where there is none."""
    g_loss_at_optimum: float | None
    """The value of `g` then; None where there is none."""
    upper_bound: float | None
    """The largest value the terms can take, None where they are unbounded: the top of the loss chart."""
    d_output_at_optimum: float | None
    """D's answer when it can't tell real from fake; None where its level is arbitrary."""
    d_output_is_probability: bool
    """Whether an answer is one: 1 is 'real', 0 is 'fake'."""

    def d_output(self, scores: Tensor) -> Tensor:
        """What D says in this loss's own scale, for charts."""

    def d_real(self, scores: Tensor) -> Tensor:
        """D's error on real samples (phase 1)."""

    def d_fake(self, scores: Tensor) -> Tensor:
        """D's error on fakes (phase 2)."""

    def d(self, real_scores: Tensor, fake_scores: Tensor) -> tuple[Tensor, Tensor]:
        """Both of D's terms (phases 1 and 2 at once)."""

    def g(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        """G's error: how far its fakes are from being called real (phase 3)."""


class UnpairedLoss:
    """Losses that judge each sample alone."""

    paired = False
    upper_bound: float | None = None

    def d_real(self, scores: Tensor) -> Tensor:
        raise NotImplementedError

    def d_fake(self, scores: Tensor) -> Tensor:
        raise NotImplementedError

    def d(self, real_scores: Tensor, fake_scores: Tensor) -> tuple[Tensor, Tensor]:
        return self.d_real(real_scores), self.d_fake(fake_scores)


class ProbabilityLoss(UnpairedLoss):
    """Losses with targets: 1 for real, 0 for fake; G wants its fakes called real.

    At the optimum D answers 0.5 everywhere (Goodfellow et al. 2014, proposition 1): the ideal value of every term
    follows from the score of that answer instead of being typed in (S10).
    """

    d_output_at_optimum = 0.5
    neutral_score = 0.0
    d_output_is_probability = True

    @property
    def loss_at_optimum(self) -> float:
        return self.d_real(torch.tensor(self.neutral_score)).item()

    @property
    def g_loss_at_optimum(self) -> float:
        return self.g(torch.tensor(self.neutral_score)).item()

    def d_output(self, scores: Tensor) -> Tensor:
        return scores.sigmoid()

    def g(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return self.d_real(fake_scores)


class MSE(ProbabilityLoss):
    """Mean squared error of the probability: (σ(s) − target)², ideal value 0.25. The book's first loss."""

    upper_bound = 1.0

    def d_real(self, scores: Tensor) -> Tensor:
        return (scores.sigmoid() - 1) ** 2

    def d_fake(self, scores: Tensor) -> Tensor:
        return scores.sigmoid() ** 2


class BCE(ProbabilityLoss):
    """Binary cross-entropy: −ln σ(s) on real, −ln(1 − σ(s)) on fakes, ideal value ln 2 ≈ 0.693.

    G's term is the non-saturating one, −ln σ(D(G(z))) (Goodfellow et al. 2014, section 3). Written with softplus, which
    stays finite, with a gradient, for scores of any size.
    """

    def d_real(self, scores: Tensor) -> Tensor:
        return softplus(-scores)

    def d_fake(self, scores: Tensor) -> Tensor:
        return softplus(scores)


class Saturating(BCE):
    """The minimax game as first written (Goodfellow et al. 2014, arXiv:1406.2661, equation 1): D as with BCE, G
    minimises ln(1 − σ(D(G(z)))), ideal value −ln 2.

    Nobody uses it: the surer D is of the fakes, the smaller is G's gradient, which is −σ(s) in s. Kept to show that.
    """

    def g(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return -softplus(fake_scores)


class LSGAN(ProbabilityLoss):
    """Least squares on the raw score: ½(r − 1)², ½f², G: ½(f − 1)² (Mao et al. 2017, arXiv:1611.04076, a = 0,
    b = c = 1). No sigmoid: the score is the answer, ideally ½ with the value 1/8; it may leave [0, 1]."""

    neutral_score = 0.5
    d_output_is_probability = False

    def d_output(self, scores: Tensor) -> Tensor:
        return scores

    def d_real(self, scores: Tensor) -> Tensor:
        return (scores - 1) ** 2 / 2

    def d_fake(self, scores: Tensor) -> Tensor:
        return scores**2 / 2


class CriticLoss(UnpairedLoss):
    """Losses whose D says which is more real, not how real: no value of a single term is ideal."""

    d_output_at_optimum = None
    d_output_is_probability = False
    loss_at_optimum: float | None = None
    g_loss_at_optimum: float | None = None

    def d_output(self, scores: Tensor) -> Tensor:
        return scores


class Hinge(CriticLoss):
    """Margins: relu(1 − r), relu(1 + f), G: −f (Lim & Ye 2017, arXiv:1705.02894; Miyato et al. 2018,
    arXiv:1802.05957).

    Where real and fake can't be told apart, every constant score c from −1 to 1 is optimal for D: its terms are 1 − c
    and 1 + c. Only their sum has an ideal, 2; no single term has, nor has G's −c.
    """

    def d_real(self, scores: Tensor) -> Tensor:
        return relu(1 - scores)

    def d_fake(self, scores: Tensor) -> Tensor:
        return relu(1 + scores)

    def g(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return -fake_scores


class Wasserstein(CriticLoss):
    """The critic's: −r, f, G: −f (Arjovsky et al. 2017, arXiv:1701.07875); D must be kept Lipschitz, by `WGANGP` or
    norm=spectral.

    D may add any constant to its scores. The terms' sum ideally is 0 (minus the distance between real and fake), no
    single term has an ideal.
    """

    def d_real(self, scores: Tensor) -> Tensor:
        return -scores

    def d_fake(self, scores: Tensor) -> Tensor:
        return scores

    def g(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return -fake_scores


class PairedLoss:
    """Losses of differences between scores of real samples and of fakes: D's level is arbitrary, the ideals aren't."""

    paired = True
    upper_bound: float | None = None
    d_output_at_optimum = None
    d_output_is_probability = False

    def d_output(self, scores: Tensor) -> Tensor:
        return scores

    def d_real(self, scores: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} compares real samples with fakes: call d with both scores.")

    d_fake = d_real

    def _both(self, real_scores: Tensor | None) -> Tensor:
        if real_scores is None:
            raise NotImplementedError(f"{type(self).__name__} compares fakes with real samples: g needs both scores.")
        return real_scores


class Relativistic(PairedLoss):
    """A pair's probability to be in the right order, σ(r − f): D: softplus(f − r), G: softplus(r − f) (RpGAN,
    Jolicoeur-Martineau 2019, arXiv:1807.00734; with R1 and R2 it is R3GAN, Huang et al. 2024, arXiv:2501.05441).

    The pair's one term is given in halves, so that D's terms add up to the published loss: each is ideally ½ ln 2,
    G's ln 2. Sample i is paired with fake i.
    """

    loss_at_optimum = math.log(2) / 2
    g_loss_at_optimum = math.log(2)

    def d(self, real_scores: Tensor, fake_scores: Tensor) -> tuple[Tensor, Tensor]:
        half = softplus(fake_scores - real_scores) / 2
        return half, half

    def g(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return softplus(self._both(real_scores) - fake_scores)


class RelativisticAverage(PairedLoss):
    """How much more real than the average of the others: with r̄ and f̄ the means over the batch, D: softplus(f̄ − r)
    and softplus(f − r̄), G the same with the roles exchanged, both terms of it (RaSGAN, Jolicoeur-Martineau 2019,
    arXiv:1807.00734). D's terms are ideally ln 2 each, G's sum of two is 2 ln 2."""

    loss_at_optimum = math.log(2)
    g_loss_at_optimum = 2 * math.log(2)

    def d(self, real_scores: Tensor, fake_scores: Tensor) -> tuple[Tensor, Tensor]:
        real_mean, fake_mean = real_scores.mean(-1, keepdim=True), fake_scores.mean(-1, keepdim=True)
        return softplus(fake_mean - real_scores), softplus(fake_scores - real_mean)

    def g(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        on_fake, on_real = self.d(fake_scores, self._both(real_scores))
        return on_fake + on_real


class LabelSmoothing(UnpairedLoss):
    """One-sided label smoothing: D's target on real samples is `real` in the place of 1, on fakes it stays 0 (Salimans
    et al. 2016, arXiv:1606.03498, section 3.4). For losses whose D answers with a probability.

    The term on real samples is real · d_real + (1 − real) · d_fake: BCE's with that target; MSE's but for a constant,
    real · (1 − real). Where D can't tell, it answers real/2. D's two terms then differ, so neither has *the* ideal; G's
    has.

    Args:
        loss: which is smoothed.
        real: 0.9; 0.75 in the authors' code for ImageNet.
    """

    d_output_is_probability = True
    loss_at_optimum = None

    def __init__(self, loss: Loss, real: float = 0.9):
        if not loss.d_output_is_probability:
            raise LabError(
                f"label_smoothing moves the target of D's probability; {type(loss).__name__} has none.",
                "Take loss=bce or loss=mse, or leave label_smoothing out.",
            )
        self.loss, self.real, self.upper_bound = loss, real, loss.upper_bound
        self.d_output_at_optimum = real / 2
        self.g_loss_at_optimum = loss.g(torch.logit(torch.tensor(real / 2))).item()

    def d_output(self, scores: Tensor) -> Tensor:
        return self.loss.d_output(scores)

    def d_real(self, scores: Tensor) -> Tensor:
        return self.real * self.loss.d_real(scores) + (1 - self.real) * self.loss.d_fake(scores)

    def d_fake(self, scores: Tensor) -> Tensor:
        return self.loss.d_fake(scores)

    def g(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return self.loss.g(fake_scores, real_scores)
