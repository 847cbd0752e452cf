"""What the generator wants besides fooling the discriminator, and ways to choose or steady what is learnt from.

An *aim* gives one value per replica, `(…)`, already a mean over the batch, which is added to the mean of the loss's own
term for G, or stands in its place (`replaces`). D is frozen; gradients reach G through its samples.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gan_lab.core.errors import LabError


class Discriminator(Protocol):
    """What aims ask of D: `features` of its input, `(…, B, F)`."""

    def features(self, x: Tensor) -> Tensor: ...


class GeneratorLoss:
    """What the training step asks of an aim.

    Attributes:
        replaces: whether it stands in the place of the loss's own term for G.
    """

    replaces_adversarial = False

    def __call__(
        self, discriminator: Discriminator, z: Tensor, fake: Tensor, shown_fake: Tensor, shown_real: Tensor
    ) -> Tensor:
        """What G pays, `(…)`.

        Args:
            z: latent vectors `(…, B, latent_dim)`.
            fake: G's samples for them `(…, B, *shape)`.
            shown_fake, shown_real: these, and real samples, as D is shown them (after any view).
        """
        raise NotImplementedError


class ModeSeeking(GeneratorLoss):
    """weight / (‖G(z₁) − G(z₂)‖₁ / ‖z₁ − z₂‖₁ + 10⁻⁵): different latent vectors shall give different samples (Mao et
    al. 2019, arXiv:1903.05628). As in the authors' code the norms are means, over pairs and numbers.

    The pairs are of the batch's first half with its second; of an odd batch the last sample is left out. Latent vectors
    must differ: with a constant latent the value is NaN.

    Args:
        weight: 1 in the authors' code.
    """

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(
        self, discriminator: Discriminator, z: Tensor, fake: Tensor, shown_fake: Tensor, shown_real: Tensor
    ) -> Tensor:
        half = z.shape[-2] // 2
        if half == 0:
            raise LabError("Mode seeking compares pairs of samples.", "Choose batch_size=2 or more.")
        apart = [
            (values.narrow(-2, 0, half) - values.narrow(-2, half, half)).abs().mean((-2, -1))
            for values in (fake.flatten(z.ndim - 1), z)
        ]
        return self.weight / (apart[0] / apart[1] + 1e-5)


class FeatureMatching(GeneratorLoss):
    """weight · ‖E f(x) − E f(G(z))‖₂²: G matches the mean of D's last hidden features f on real samples, in the place
    of fooling D (Salimans et al. 2016, arXiv:1606.03498, section 3.1).

    The paper's formula; the authors' code takes means over the features, of squares for MNIST, of absolute values for
    CIFAR-10.

    Args:
        weight: of no importance with Adam, as it stands alone.
    """

    replaces_adversarial = True

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(
        self, discriminator: Discriminator, z: Tensor, fake: Tensor, shown_fake: Tensor, shown_real: Tensor
    ) -> Tensor:
        made, wanted = discriminator.features(shown_fake), discriminator.features(shown_real).detach()
        return self.weight * (wanted.mean(-2) - made.mean(-2)).square().sum(-1)


class GDPP(GeneratorLoss):
    """G's batches shall vary as real ones do (Elfeki et al. 2019, arXiv:1812.00068). With φ D's last hidden features,
    each sample's scaled to length 1, λᵢ and vᵢ are eigenvalues and eigenvectors of the kernel φφᵀ, `(B, B)`:

    weight · (10⁻⁴ · mean(λᵢ(real) − λᵢ(fake))² − Σᵢ λ̂ᵢ |cos(vᵢ(real), vᵢ(fake))|), λ̂ being λ(real) brought to [0, 1].

    As in the authors' code, but for |cos|: an eigenvector's sign is arbitrary. Eigenvectors of (nearly) equal
    eigenvalues have no derivative; theirs is damped, x/(x² + 10⁻⁶) for 1/x (Liao et al. 2019, arXiv:1903.09650).

    Args:
        weight: 1; the authors halve the sum of this and G's own term.
    """

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(
        self, discriminator: Discriminator, z: Tensor, fake: Tensor, shown_fake: Tensor, shown_real: Tensor
    ) -> Tensor:
        values, vectors = self.spectrum(discriminator.features(shown_fake))
        wanted, directions = self.spectrum(discriminator.features(shown_real).detach())
        magnitude = (wanted - values).square().mean(-1)
        low, high = wanted[..., :1], wanted[..., -1:]
        shares = (wanted - low) / (high - low).clamp_min(1e-12)
        structure = (shares * (vectors * directions).sum(-2).abs()).sum(-1)
        return self.weight * (1e-4 * magnitude - structure)

    @staticmethod
    def spectrum(features: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvalues `(…, B)`, the smallest first, and eigenvectors `(…, B, B)`, in columns, of the kernel."""
        rows = normalize(features, dim=-1)
        kernel = rows @ rows.mT
        values, vectors = torch.linalg.eigh(kernel.detach())
        # Perturbation theory: dλⱼ = vⱼ·dK vⱼ and dvⱼ = Σᵢ vᵢ (vᵢ·dK vⱼ) / (λⱼ − λᵢ).
        turned = vectors.mT @ kernel @ vectors
        gaps = values[..., None, :] - values[..., :, None]
        mixed = (turned - turned.detach()) * gaps / (gaps.square() + 1e-6)
        return turned.diagonal(dim1=-2, dim2=-1), vectors + vectors @ mixed


class TopK:
    """G learns from its k best samples alone (Sinha et al. 2020, arXiv:2002.06224): k = B · fraction^(step/steps), from
    the whole batch B down to fraction · B, where it stays. The paper multiplies k by 0.99 each epoch, down to 0.5 · B,
    which takes 69 epochs.

    Args:
        fraction: of the batch that is left, in (0, 1].
        steps: until then, > 0.
    """

    def __init__(self, fraction: float = 0.5, steps: int = 10_000):
        if not 0 < fraction <= 1 or steps <= 0:
            raise LabError(
                f"Top-k with fraction={fraction} over steps={steps} makes no sense.", "0 < fraction ≤ 1, steps > 0."
            )
        self.fraction, self.steps = fraction, steps

    def select(self, values: Tensor, step: int) -> Tensor:
        """The `(…, k)` smallest of G's values `(…, B)`, per replica: those that fool D best; step counts from 0."""
        batch = values.shape[-1]
        k = max(1, round(batch * self.fraction ** min(1.0, step / self.steps)))
        return values if k == batch else values.topk(k, largest=False).values
