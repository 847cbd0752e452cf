"""What D answers for a sample at any place, and where G's loss falls: the numbers behind pictures of D's surface.

D is asked as it is now, with no random input transform (no instance noise, no augmentation). G's samples are made as
everywhere, with averaged weights if there are some. Nothing here changes training: D is copied, and no random stream is
touched.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.nn.modules.batchnorm import _BatchNorm

from gan_lab.core.errors import LabError
from gan_lab.core.rng import make_generator
from gan_lab.gan.networks.conditional import ConditionalDiscriminator
from gan_lab.gan.networks.minibatch_layers import MinibatchDiscrimination, MinibatchStddev
from gan_lab.plotting.surfaces import AnswerScale, Landscape, SampleAnswers, Window
from gan_lab.training.gan_state import GANState

RESOLUTION = 64  # points along a side of the grid of D's answers
ARROWS = 60  # samples of G with an arrow
LATENT_LINES = 9  # lines of the latent grid in each direction
LATENT_LINE_POINTS = 60  # points of a line
# The latent grid reaches from this quantile of a latent vector's components to the opposite one.
LATENT_QUANTILE = 0.02
LATENT_DRAWS = 1_000  # latent vectors from which the quantiles are taken


def refusal(module: GANState) -> str:
    """Returns why D's answer for a single sample doesn't exist, in a clause; "" if it does."""
    if module.remedies.pack_size > 1:
        return f"D scores packs of {module.remedies.pack_size} samples together (remedy=[pac]), never a single one"
    for layer in module.discriminator.modules():
        if isinstance(layer, (MinibatchStddev, MinibatchDiscrimination)):
            return f"D compares the samples of a batch with each other ({type(layer).__name__})"
        if isinstance(layer, _BatchNorm):
            return "D normalises over the samples of a batch (norm=batch)"
    return ""


def compute_landscape(module: GANState, window: Window, z: Tensor, real: Tensor) -> Landscape:
    """Computes D's answers in a window of the plane, and what G does there.

    Of a conditional GAN, the answer at a place is that for the class for which D finds it most real.

    Args:
        module: one GAN, not several replicas, whose samples have the shape `(2,)`.
        window: left, right, bottom and top.
        z: latent vectors of G's samples, `(m, latent_dim)`; the first ARROWS of them get an arrow.
        real: real samples, `(n, 2)`.

    Raises:
        LabError: if D scores no single samples, see `refusal`.
    """
    discriminator = frozen_discriminator(module)
    left, right, bottom, top = window
    x, y = torch.meshgrid(
        torch.linspace(left, right, RESOLUTION), torch.linspace(bottom, top, RESOLUTION), indexing="xy"
    )
    places = torch.stack([x, y], -1).flatten(0, 1)  # row by row from below
    fakes = module.sample(z).float().cpu()
    labels = module.target_labels(z)
    answers = _answers_everywhere(module, discriminator, places)
    fake_answers = d_answers(module, discriminator, fakes, labels)
    real_answers = _answers_everywhere(module, discriminator, real)
    starts = fakes[:ARROWS] if pays_for_answer(module) else fakes[:0]
    start_labels = None if labels is None else labels[: len(starts)]
    return Landscape(
        window=window,
        answers=answers.view(RESOLUTION, RESOLUTION),
        scale=answer_scale(module, real_answers, fake_answers),
        real=real,
        fakes=fakes,
        starts=starts,
        pulls=pulls(module, discriminator, starts, start_labels, real),
        latent_lines=_latent_lines(module),
    )


def compute_answers(module: GANState, z: Tensor, real: Tensor, real_labels: Tensor | None) -> SampleAnswers:
    """Computes D's answers for samples of G and as many real ones, and where G's loss falls.

    Args:
        module: one GAN, not several replicas.
        z: latent vectors of G's samples, `(n, latent_dim)`.
        real: real samples, `(n, *shape)`.
        real_labels: their labels `(n,)`, for a conditional GAN.

    Raises:
        LabError: if D scores no single samples, see `refusal`.
    """
    discriminator = frozen_discriminator(module)
    fakes = module.sample(z).float().cpu()
    labels = module.target_labels(z)
    fake_answers = d_answers(module, discriminator, fakes, labels)
    real_answers = d_answers(module, discriminator, real, real_labels)
    if pays_for_answer(module):
        changes = pulls(module, discriminator, fakes, labels, real)
    else:
        changes = torch.zeros(0, *fakes.shape[1:])
    scale = answer_scale(module, real_answers, fake_answers)
    return SampleAnswers(fakes, fake_answers, changes, real, real_answers, scale)


def pays_for_answer(module: GANState) -> bool:
    """Returns whether G pays for D's answer: not with a loss that replaces the adversarial one (feature matching)."""
    return not any(loss.replaces_adversarial for loss in module.remedies.generator_losses)


def frozen_discriminator(module: GANState) -> nn.Module:
    """Returns a copy of D that changes neither itself nor the training when it is asked.

    Raises:
        LabError: if D scores no single samples, see `refusal`.
    """
    reason = refusal(module)
    if reason:
        raise LabError(
            f"D's answer can't be drawn as a surface: {reason}.",
            "Take a run without it.",
            code="unsupported",
            key="op",
        )
    return copy.deepcopy(module.discriminator).eval().requires_grad_(False)


def d_answers(module: GANState, discriminator: nn.Module, samples: Tensor, labels: Tensor | None) -> Tensor:
    """Returns D's answers `(n,)` in the unit of `score/real`, on the CPU: probabilities, or a critic's raw scores.

    Args:
        discriminator: from `frozen_discriminator`.
        samples: `(n, *shape)`.
        labels: `(n,)`, for a conditional GAN.
    """
    with torch.no_grad():
        scores = _scores(module, discriminator, samples, labels)
        return module.loss.d_output(scores).float().cpu()


def pulls(module: GANState, discriminator: nn.Module, samples: Tensor, labels: Tensor | None, real: Tensor) -> Tensor:
    """Returns −∂(G's loss)/∂x for each sample x, `(n, *shape)` on the CPU: the direction in which G's loss falls.

    It is the loss that G pays for D's scores; losses that remedies add to it are left out. A loss that pairs fakes with
    real samples takes the given ones, again from the first if there are too few.

    Args:
        discriminator: from `frozen_discriminator`.
        samples: G's samples, `(n, *shape)`.
        labels: `(n,)`, for a conditional GAN.
        real: real samples, `(m, *shape)`.
    """
    with torch.enable_grad():
        leaf = samples.detach().to(module.device).clone().requires_grad_()
        fake_scores = _scores(module, discriminator, leaf, labels)
        real_scores = None
        if module.loss.paired:
            partners = real[torch.arange(len(samples)) % len(real)]
            real_scores = _scores(module, discriminator, partners, labels)
        loss = module.loss.g(fake_scores, real_scores).sum()
        (gradient,) = torch.autograd.grad(loss, leaf)
    return -gradient.float().cpu()


def answer_scale(module: GANState, real_answers: Tensor, fake_answers: Tensor) -> AnswerScale:
    """Returns what D's answers mean: of a critic, neutral is the middle between its mean answers on both."""
    neutral = module.loss.d_output_at_optimum
    if neutral is not None:
        return AnswerScale(module.loss.d_output_is_probability, neutral, is_absolute=True)
    middle = (real_answers.mean().item() + fake_answers.mean().item()) / 2
    return AnswerScale(is_probability=False, neutral=middle, is_absolute=False)


def _scores(module: GANState, discriminator: nn.Module, samples: Tensor, labels: Tensor | None) -> Tensor:
    """Returns raw scores `(n,)` of samples `(n, *shape)`."""
    dtype = next(discriminator.parameters()).dtype
    samples = samples.to(module.device, dtype)
    if module.classes and labels is not None:
        labels_onehot = one_hot(labels.to(module.device), module.classes).to(dtype)
        discriminator = ConditionalDiscriminator(discriminator, labels_onehot, module.settings.flat)
    return discriminator(samples)


def _answers_everywhere(module: GANState, discriminator: nn.Module, places: Tensor) -> Tensor:
    """Returns D's answers `(n,)` at places `(n, 2)`; of a conditional GAN the highest over all classes."""
    if not module.classes:
        return d_answers(module, discriminator, places, None)
    answers = []
    for label in range(module.classes):
        labels = torch.full((len(places),), label)
        answers.append(d_answers(module, discriminator, places, labels))
    return torch.stack(answers).amax(0)


def _latent_lines(module: GANState) -> Tensor:
    """Returns G's samples along the lines of a regular grid of latent vectors, `(lines, points, 2)`.

    With more than two latent dimensions there are none: a flat slice through so many dimensions goes through their
    middle, where hardly any latent vector is, and so shows nothing of what G makes.
    """
    if module.classes or module.latent_dim > 2:
        return torch.zeros(0, LATENT_LINE_POINTS, 2)
    draws = module.latent((LATENT_DRAWS, module.latent_dim), make_generator(module.seed, "pictures/latent grid"))
    low = draws.quantile(LATENT_QUANTILE, 0)
    high = draws.quantile(1 - LATENT_QUANTILE, 0)
    along = torch.linspace(0, 1, LATENT_LINE_POINTS)
    if module.latent_dim == 1:
        lines = along.view(1, -1, 1)
    else:
        across = torch.linspace(0, 1, LATENT_LINES)
        grid = torch.cartesian_prod(across, along).view(LATENT_LINES, LATENT_LINE_POINTS, 2)
        lines = torch.cat([grid, grid.flip(-1)])
    z = low + (high - low) * lines
    return module.sample(z.flatten(0, 1)).float().cpu().view(*z.shape[:2], 2)
