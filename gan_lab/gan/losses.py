"""Losses: what the discriminator and the generator minimise.

A loss takes raw scores, one for each sample, and returns one value for each sample, both of shape `(…, B)`; the caller
takes the mean over the batch axis `B`. Here `…` is nothing, or `K` if K replicas are trained together.

A loss applies its own sigmoid. Discriminators end in a linear layer, so a sigmoid can neither be missing nor be applied
twice (course notes, S12).

In formulas, r is D's raw score of a real sample, f its raw score of a fake, and σ the logistic sigmoid.
"""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from gan_lab.core.declare import declares
from gan_lab.core.errors import LabError


class Loss(Protocol):
    """The interface of a loss, which the training step and the charts use.

    A loss of your own can derive from `UnpairedLoss`, `ProbabilityLoss`, `CriticLoss` or `PairedLoss`, each of which
    implements part of this.
    """

    paired: bool
    """Whether D's terms compare real samples with fakes.

    If so, D is updated once on both: only `d` exists, `d_real` and `d_fake` raise NotImplementedError, and `g` needs
    the scores of real samples as well.
    """

    loss_at_optimum: float | None
    """Value of each of D's two terms once D can't tell real from fake; None if that is not one number."""

    g_loss_at_optimum: float | None
    """Value of G's term at that point; None if that is not one number."""

    upper_bound: float | None
    """Largest value that a term can take, which is the top of the loss chart; None if terms are unbounded."""

    d_output_at_optimum: float | None
    """D's output once it can't tell real from fake; None if the level of D's scores is arbitrary."""

    d_output_is_probability: bool
    """Whether D's output is the probability that a sample is real: 1 means real, 0 means fake."""

    def d_output(self, scores: Tensor) -> Tensor:
        """Converts raw scores `(…, B)` into D's output on the scale of this loss, `(…, B)`; used by charts."""

    def d_real(self, scores: Tensor) -> Tensor:
        """Returns D's loss on real samples (phase 1) for their raw scores `(…, B)`."""

    def d_fake(self, scores: Tensor) -> Tensor:
        """Returns D's loss on fakes (phase 2) for their raw scores `(…, B)`."""

    def d(self, real_scores: Tensor, fake_scores: Tensor) -> tuple[Tensor, Tensor]:
        """Returns both of D's terms, the one on real samples and the one on fakes (phases 1 and 2 in one update)."""

    def g(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        """Returns G's loss (phase 3): the less D takes the fakes for real, the larger it is.

        Args:
            fake_scores: D's raw scores of G's samples, `(…, B)`.
            real_scores: D's raw scores of real samples; only paired losses use them.
        """


class UnpairedLoss:
    """Base of losses that score each sample by itself: D's two terms can be minimised one after the other."""

    paired = False
    upper_bound: float | None = None

    def d_real(self, scores: Tensor) -> Tensor:
        raise NotImplementedError

    def d_fake(self, scores: Tensor) -> Tensor:
        raise NotImplementedError

    def d(self, real_scores: Tensor, fake_scores: Tensor) -> tuple[Tensor, Tensor]:
        return self.d_real(real_scores), self.d_fake(fake_scores)


class ProbabilityLoss(UnpairedLoss):
    """Base of losses with targets: D's output should be 1 for real samples and 0 for fakes.

    G's term is D's term on real samples applied to the fakes: G wants D to output 1 for them.

    At the optimum D outputs ½ everywhere (Goodfellow et al. 2014, arXiv:1406.2661, proposition 1). The value of each
    term at the optimum is computed from the score that gives this output (course notes, S10).

    Attributes:
        score_at_optimum: the raw score for which D's output is ½.
    """

    d_output_at_optimum = 0.5
    d_output_is_probability = True
    score_at_optimum = 0.0

    @property
    def loss_at_optimum(self) -> float:
        return self.d_real(torch.tensor(self.score_at_optimum)).item()

    @property
    def g_loss_at_optimum(self) -> float:
        return self.g(torch.tensor(self.score_at_optimum)).item()

    def d_output(self, scores: Tensor) -> Tensor:
        return scores.sigmoid()

    def g(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return self.d_real(fake_scores)


class MSE(ProbabilityLoss):
    """Mean squared error of the probability, the first loss in the book.

    D: (σ(r) − 1)² and σ(f)². G: (σ(f) − 1)². Each term is ¼ at the optimum and at most 1.
    """

    upper_bound = 1.0

    def d_real(self, scores: Tensor) -> Tensor:
        return (scores.sigmoid() - 1) ** 2

    def d_fake(self, scores: Tensor) -> Tensor:
        return scores.sigmoid() ** 2


class BCE(ProbabilityLoss):
    """Binary cross-entropy with the non-saturating loss for G (Goodfellow et al. 2014, arXiv:1406.2661, section 3).

    D: −ln σ(r) and −ln(1 − σ(f)). G: −ln σ(f). Each term is ln 2 ≈ 0.693 at the optimum.
    """

    # softplus(x) = ln(1 + eˣ): −ln σ(s) = softplus(−s) and −ln(1 − σ(s)) = softplus(s). In this form value and gradient
    # stay finite for scores of any size; the logarithm of a rounded probability would not.

    def d_real(self, scores: Tensor) -> Tensor:
        return softplus(-scores)

    def d_fake(self, scores: Tensor) -> Tensor:
        return softplus(scores)


class Saturating(BCE):
    """The original minimax game (Goodfellow et al. 2014, arXiv:1406.2661, equation 1).

    D: as in `BCE`. G: ln(1 − σ(f)), which is −ln 2 at the optimum.

    Not used in practice, and included to show why: the gradient of G's term with respect to f is −σ(f), so the more
    certain D is that a sample is fake, the less G learns from it.
    """

    def g(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return -softplus(fake_scores)


class LSGAN(ProbabilityLoss):
    """Least squares on the raw score (Mao et al. 2017, arXiv:1611.04076, with a = 0 and b = c = 1).

    D: ½(r − 1)² and ½f². G: ½(f − 1)². Each term is ⅛ at the optimum.

    There is no sigmoid: D's output is the raw score, ½ at the optimum, and may leave [0, 1].
    """

    d_output_is_probability = False
    score_at_optimum = 0.5

    def d_output(self, scores: Tensor) -> Tensor:
        return scores

    def d_real(self, scores: Tensor) -> Tensor:
        return (scores - 1) ** 2 / 2

    def d_fake(self, scores: Tensor) -> Tensor:
        return scores**2 / 2


class CriticLoss(UnpairedLoss):
    """Base of losses whose D, the critic, only ranks samples: a higher score means more real, on no fixed scale.

    D's output is the raw score. Neither it nor a single term has one value at the optimum.
    """

    d_output_at_optimum = None
    d_output_is_probability = False
    loss_at_optimum: float | None = None
    g_loss_at_optimum: float | None = None

    def d_output(self, scores: Tensor) -> Tensor:
        return scores

    def g(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return -fake_scores


class Hinge(CriticLoss):
    """Hinge loss (Lim & Ye 2017, arXiv:1705.02894; Miyato et al. 2018, arXiv:1802.05957).

    D: max(0, 1 − r) and max(0, 1 + f). G: −f.

    If D can't distinguish real samples from fakes, every constant score c in [−1, 1] is optimal for D. Its terms are
    then 1 − c and 1 + c and G's is −c: only the sum of D's terms, 2, is the same for every c.
    """

    def d_real(self, scores: Tensor) -> Tensor:
        return relu(1 - scores)

    def d_fake(self, scores: Tensor) -> Tensor:
        return relu(1 + scores)


class Wasserstein(CriticLoss):
    """The loss of WGAN (Arjovsky et al. 2017, arXiv:1701.07875).

    D: −r and f. G: −f.

    D has to be Lipschitz continuous, which `gan_lab.gan.remedies.penalties.WGANGP` or norm=spectral ensures. The sum
    of D's terms estimates minus the distance between real data and fakes, 0 at the optimum. D may add any constant to
    its scores, so a single term has no value at the optimum.
    """

    def d_real(self, scores: Tensor) -> Tensor:
        return -scores

    def d_fake(self, scores: Tensor) -> Tensor:
        return scores


class PairedLoss:
    """Base of losses of differences between scores of real samples and of fakes.

    Adding a constant to all scores changes nothing, so D's output has no value at the optimum; the terms do have one.
    """

    paired = True
    upper_bound: float | None = None
    d_output_at_optimum = None
    d_output_is_probability = False

    def d_output(self, scores: Tensor) -> Tensor:
        return scores

    def d_real(self, scores: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} compares real samples with fakes: call d with both scores.")

    def d_fake(self, scores: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} compares real samples with fakes: call d with both scores.")

    def require_real_scores(self, real_scores: Tensor | None) -> Tensor:
        """Returns the scores of real samples.

        Raises:
            NotImplementedError: if `g` was called without them.
        """
        if real_scores is None:
            raise NotImplementedError(f"{type(self).__name__} compares fakes with real samples: g needs both scores.")
        return real_scores


class Relativistic(PairedLoss):
    """RpGAN, the relativistic pairing loss (Jolicoeur-Martineau 2019, arXiv:1807.00734).

    With the penalties R1 and R2 it is the loss of R3GAN (Huang et al. 2024, arXiv:2501.05441).

    D: −ln σ(r − f). G: −ln σ(f − r). σ(r − f) is the probability with which D ranks a pair of a real sample and a fake
    correctly; real sample i is paired with fake i.

    The paper has one term for D. Here each of D's two terms is one half of it, so that they add up to the published
    loss. At the optimum each of them is ½ ln 2 and G's term is ln 2.
    """

    loss_at_optimum = math.log(2) / 2
    g_loss_at_optimum = math.log(2)

    def d(self, real_scores: Tensor, fake_scores: Tensor) -> tuple[Tensor, Tensor]:
        half = softplus(fake_scores - real_scores) / 2
        return half, half

    def g(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return softplus(self.require_real_scores(real_scores) - fake_scores)


@declares(
    conflicts={
        "ddp": (
            "each process would have the averages of its share of a batch",
            "loss=relativistic compares sample with sample.",
        ),
    },
)
class RelativisticAverage(PairedLoss):
    """RaSGAN, the relativistic average loss (Jolicoeur-Martineau 2019, arXiv:1807.00734).

    With r̄ and f̄ the mean scores over the batch, D: −ln σ(r − f̄) and −ln(1 − σ(f − r̄)): real samples should score
    higher than the average fake, fakes lower than the average real sample. G: the sum of both terms with the roles of
    real and fake exchanged.

    At the optimum each of D's terms is ln 2 and G's sum is 2 ln 2.
    """

    loss_at_optimum = math.log(2)
    g_loss_at_optimum = 2 * math.log(2)

    def d(self, real_scores: Tensor, fake_scores: Tensor) -> tuple[Tensor, Tensor]:
        real_mean = real_scores.mean(-1, keepdim=True)
        fake_mean = fake_scores.mean(-1, keepdim=True)
        return softplus(fake_mean - real_scores), softplus(fake_scores - real_mean)

    def g(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        fake_term, real_term = self.d(fake_scores, self.require_real_scores(real_scores))
        return fake_term + real_term


@declares(
    per_sample=True,
    partial=True,
    settings={"real": {"type": "float", "low": 0.5, "high": 1, "help": "D's target on real samples"}},
    weak={"real": 0.97},
    strong={"real": 0.75},
)
class LabelSmoothing(UnpairedLoss):
    """One-sided label smoothing of another loss (Salimans et al. 2016, arXiv:1606.03498, section 3.4).

    D's target on real samples is `real` instead of 1; its target on fakes stays 0. The term on real samples becomes
    real · d_real(r) + (1 − real) · d_fake(r). For BCE this is the cross-entropy with that target; for MSE it is the
    squared error up to the constant real · (1 − real).

    D's output at the optimum is real/2. D's two terms then differ, so there is no single value of D's loss at the
    optimum; G's term has one.

    Args:
        loss: the loss to smooth; its D has to output probabilities.
        real: target on real samples: 0.9, or 0.75 in the authors' code for ImageNet.

    Raises:
        LabError: if D's output is no probability under `loss`.
    """

    d_output_is_probability = True
    loss_at_optimum = None

    def __init__(self, loss: Loss, real: float = 0.9):
        if not loss.d_output_is_probability:
            raise LabError(
                f"label_smoothing changes the target of D's probability, but with {type(loss).__name__} D's output is "
                "no probability.",
                "Use loss=bce or loss=mse, or leave label_smoothing out.",
                code="conflict",
                key="remedy.label_smoothing",
            )
        self.loss = loss
        self.real = real
        self.upper_bound = loss.upper_bound
        self.d_output_at_optimum = real / 2
        score_at_optimum = torch.logit(torch.tensor(real / 2))
        self.g_loss_at_optimum = loss.g(score_at_optimum).item()

    def d_output(self, scores: Tensor) -> Tensor:
        return self.loss.d_output(scores)

    def d_real(self, scores: Tensor) -> Tensor:
        return self.real * self.loss.d_real(scores) + (1 - self.real) * self.loss.d_fake(scores)

    def d_fake(self, scores: Tensor) -> Tensor:
        return self.loss.d_fake(scores)

    def g(self, fake_scores: Tensor, real_scores: Tensor | None = None) -> Tensor:
        return self.loss.g(fake_scores, real_scores)
