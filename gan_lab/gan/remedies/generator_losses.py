"""Further losses of the generator, and the choice of the samples it learns from.

A generator loss returns one value for each replica, `(…)`, already a mean over the batch. It is added to the mean of
G's adversarial loss, or replaces it (`replaces_adversarial`). D is frozen meanwhile; the gradient reaches G through its
samples.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gan_lab.core.declare import declares
from gan_lab.core.errors import LabError
from gan_lab.gan.networks.conditional import FeatureDiscriminator


class GeneratorLoss:
    """Base of losses that are added to G's adversarial loss.

    Attributes:
        replaces_adversarial: whether it replaces the adversarial loss instead.
    """

    replaces_adversarial = False

    def __call__(
        self, discriminator: FeatureDiscriminator, z: Tensor, fake: Tensor, fake_d_input: Tensor, real_d_input: Tensor
    ) -> Tensor:
        """Returns the loss of each replica, `(…)`.

        Args:
            discriminator: D, frozen.
            z: latent vectors `(…, B, latent_dim)`.
            fake: G's samples for them, `(…, B, *shape)`.
            fake_d_input: D's input for these samples: `fake` after the input transforms.
            real_d_input: D's input for real samples.
        """
        raise NotImplementedError


@declares(
    conflicts={
        "latent.Constant": ("it needs different latent vectors", "Take latent=normal."),
        "batch_of_one": ("it compares pairs of a batch", "Take batch_size=2."),
    },
    settings={"weight": {"type": "float", "low": 0, "help": "weight in the loss"}},
    weak={"weight": 0.025},
    strong={"weight": 2.5},
)
class ModeSeeking(GeneratorLoss):
    """Rewards G for different samples from different latent vectors (MSGAN, Mao et al. 2019, arXiv:1903.05628).

    weight / (‖G(z₁) − G(z₂)‖₁ / ‖z₁ − z₂‖₁ + ½ · 10⁻⁵)

    As in the authors' code, both norms are means over pairs and components. The pairs are samples of the first half of
    the batch with those of the second half; of an odd batch the last sample is left out. The latent vectors have to
    differ: for a constant latent the value is NaN.

    The weight ¼ is 1 in the authors' code. There pixels are in [-1, 1], so that their distances are twice those in
    [0, 1]: 1 / (2r + 10⁻⁵) is ½ / (r + ½ · 10⁻⁵). And there G's adversarial loss is a sum of two means, one for each
    half of the batch; here it is the mean over the whole batch, half of that sum.

    Args:
        weight: ¼, the authors' 1. For points in the plane only the second reason holds, and ½ is the authors' 1.
    """

    def __init__(self, weight: float = 0.25):
        self.weight = weight

    def __call__(
        self, discriminator: FeatureDiscriminator, z: Tensor, fake: Tensor, fake_d_input: Tensor, real_d_input: Tensor
    ) -> Tensor:
        pairs = z.shape[-2] // 2
        if pairs == 0:
            raise LabError(
                "mode_seeking compares pairs of samples.",
                "Choose batch_size=2 or more.",
                code="conflict",
                key="remedy.mode_seeking",
            )
        sample_distance = _mean_distance(fake.flatten(z.ndim - 1), pairs)
        latent_distance = _mean_distance(z, pairs)
        return self.weight / (sample_distance / latent_distance + 0.5e-5)


def _mean_distance(vectors: Tensor, pairs: int) -> Tensor:
    """Returns the mean absolute difference between vectors i and i + pairs of `(…, B, d)`, for each replica."""
    first = vectors.narrow(-2, 0, pairs)
    second = vectors.narrow(-2, pairs, pairs)
    return (first - second).abs().mean((-2, -1))


@declares(
    conflicts={
        "TopK": ("it replaces the loss whose best samples top_k selects", "Leave one of them out."),
        "Unrolled": ("it replaces the loss that is unrolled", "Leave one of them out."),
    },
    settings={"weight": {"type": "float", "low": 0, "help": "weight in the loss"}},
)
class FeatureMatching(GeneratorLoss):
    """Matches the mean of D's features on real samples, instead of fooling D.

    weight · ‖E f(x) − E f(G(z))‖₂², where f are D's last hidden features (Salimans et al. 2016, arXiv:1606.03498,
    section 3.1). This is the formula of the paper. The authors' code takes means over the features, of squares for
    MNIST and of absolute values for CIFAR-10.

    Args:
        weight: makes no difference with Adam, as there is no other loss.
    """

    replaces_adversarial = True

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(
        self, discriminator: FeatureDiscriminator, z: Tensor, fake: Tensor, fake_d_input: Tensor, real_d_input: Tensor
    ) -> Tensor:
        fake_mean = discriminator.features(fake_d_input).mean(-2)
        real_mean = discriminator.features(real_d_input).detach().mean(-2)
        return self.weight * (real_mean - fake_mean).square().sum(-1)


@declares(
    settings={"weight": {"type": "float", "low": 0, "help": "weight in the loss"}},
    weak={"weight": 0.1},
    strong={"weight": 10.0},
)
class GDPP(GeneratorLoss):
    """Makes batches of fakes as diverse as batches of real samples (Elfeki et al. 2019, arXiv:1812.00068).

    weight · (10⁻⁴ · mean(λᵢ(real) − λᵢ(fake))² − Σᵢ λ̂ᵢ |cos(vᵢ(real), vᵢ(fake))|)

    φ are D's last hidden features, scaled to length 1 for each sample; λᵢ and vᵢ are the eigenvalues and eigenvectors
    of the kernel φφᵀ, `(B, B)`; λ̂ are the λ(real), scaled linearly to [0, 1].

    This is the authors' code except for the absolute value of the cosine, which makes the result independent of the
    arbitrary signs of eigenvectors. Eigenvectors of (nearly) equal eigenvalues have no derivative; theirs is damped by
    x/(x² + 10⁻⁶) instead of 1/x (Liao et al. 2019, arXiv:1903.09650).

    Args:
        weight: 1; the authors halve the sum of this loss and the adversarial one.
    """

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(
        self, discriminator: FeatureDiscriminator, z: Tensor, fake: Tensor, fake_d_input: Tensor, real_d_input: Tensor
    ) -> Tensor:
        fake_values, fake_vectors = self.spectrum(discriminator.features(fake_d_input))
        real_values, real_vectors = self.spectrum(discriminator.features(real_d_input).detach())
        magnitude = (real_values - fake_values).square().mean(-1)
        # Eigenvalues come in ascending order.
        smallest = real_values[..., :1]
        largest = real_values[..., -1:]
        scaled_values = (real_values - smallest) / (largest - smallest).clamp_min(1e-12)
        cosines = (fake_vectors * real_vectors).sum(-2).abs()
        structure = (scaled_values * cosines).sum(-1)
        return self.weight * (1e-4 * magnitude - structure)

    @staticmethod
    def spectrum(features: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the spectrum of the kernel of features `(…, B, F)`, with damped derivatives.

        Returns:
            The eigenvalues `(…, B)` in ascending order, and the eigenvectors `(…, B, B)`, one in each column.
        """
        unit_features = normalize(features, dim=-1)
        kernel = unit_features @ unit_features.mT
        values, vectors = torch.linalg.eigh(kernel.detach())
        # The derivatives are added by hand, from perturbation theory: dλⱼ = vⱼ·dK vⱼ and
        # dvⱼ = Σᵢ vᵢ (vᵢ·dK vⱼ) / (λⱼ − λᵢ). `coefficients` is VᵀKV: its value is diag(λ), its derivative Vᵀ dK V.
        coefficients = vectors.mT @ kernel @ vectors
        gaps = values[..., None, :] - values[..., :, None]
        # 0 in value, so that only the derivative of the eigenvectors changes.
        rotation = (coefficients - coefficients.detach()) * gaps / (gaps.square() + 1e-6)
        return coefficients.diagonal(dim1=-2, dim2=-1), vectors + vectors @ rotation


@declares(
    settings={
        "fraction": {"type": "float", "low": 1e-6, "high": 1, "help": "share of the batch that is used in the end"},
        "steps": {"type": "int", "low": 1, "high": 1_000_000_000, "help": "steps until then"},
    },
    weak={"fraction": 0.75},
    strong={"fraction": 0.25},
)
class TopK:
    """Trains G only on the k samples of a batch that D scores highest (Sinha et al. 2020, arXiv:2002.06224).

    Whatever the loss, samples are ranked by D's score. A loss that compares fakes with real samples gets the k fakes
    and the k real samples that they are paired with; a loss that is smallest for another score than the highest
    (least squares) still gets the k highest.

    k = B · fraction^(step/steps) falls from the whole batch B to fraction · B, where it stays. The paper multiplies k
    by 0.99 after each epoch, down to 0.5 · B, which it reaches after 69 epochs. There are no epochs here; `steps` of
    conf/remedy/top_k.yaml is the whole training.

    Args:
        fraction: of the batch that remains in the end, in (0, 1].
        steps: number of steps until then, > 0.

    Raises:
        LabError: if a value is out of bounds.
    """

    def __init__(self, fraction: float = 0.5, steps: int = 10_000):
        if not 0 < fraction <= 1 or steps <= 0:
            raise LabError(
                f"top_k can't go down to fraction={fraction} of the batch over steps={steps}.",
                "Choose 0 < fraction ≤ 1 and steps > 0.",
                code="invalid",
                key="remedy.top_k",
            )
        self.fraction = fraction
        self.steps = steps

    def k(self, batch_size: int, step: int) -> int:
        """Returns how many samples of a batch are used in a step, counted from 0."""
        progress = min(1.0, step / self.steps)
        return max(1, round(batch_size * self.fraction**progress))

    def select(self, fake_scores: Tensor, real_scores: Tensor | None, step: int) -> tuple[Tensor, Tensor | None]:
        """Selects the k fakes with the highest scores, of each replica its own.

        Args:
            fake_scores: D's raw scores of G's samples, `(…, B)`.
            real_scores: those of the real samples that these are paired with, `(…, B)`, if the loss compares them.
            step: of the training, counted from 0.

        Returns:
            Both for the selected samples, `(…, k)`.
        """
        batch_size = fake_scores.shape[-1]
        k = self.k(batch_size, step)
        if k == batch_size:
            return fake_scores, real_scores
        top = fake_scores.topk(k)
        if real_scores is not None:
            real_scores = real_scores.gather(-1, top.indices)
        return top.values, real_scores
