"""Uses each part of a GAN once, on few samples and without training, so that a part that cannot work is refused by name
before a training begins."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gan_lab.core.errors import LabError, out_of_memory
from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import Dataset
from gan_lab.gan.networks.conditional import ConditionalDiscriminator
from gan_lab.gan.remedies.generator_losses import GeneratorLoss
from gan_lab.gan.remedies.penalties import Penalty
from gan_lab.training.callbacks.checkpoints import state_after_one_step
from gan_lab.training.gan_module import GANModule
from gan_lab.training.sampling import score_batch


class Trial(NamedTuple):
    """One use of a part.

    Attributes:
        key: of the part in the configuration.
        name: of the part or the method, for messages.
        run: uses it.
        shape: that the result must have.
    """

    key: str
    name: str
    run: Callable[[], Tensor]
    shape: tuple[int, ...]


@torch.no_grad()
def smoke_test(module: GANModule, dataset: Dataset) -> None:
    """Uses each part of a single GAN once.

    Raises:
        LabError: for a part that fails, or whose result has another shape than the step needs.
    """
    # In evaluation mode nothing changes: no statistics are collected.
    module.eval()
    indices = torch.zeros(2 * module.remedies.pack_size, dtype=torch.int64)
    real = dataset.train[indices]
    labels = dataset.train.labels_of(indices) if module.classes else None
    for trial in (*_trials_of_networks(module, real, labels), *_trials_of_loss(module)):
        _check(trial)
    for trial in _trials_of_remedies(module, real, labels):
        _check(trial)
    for role, make_optimizer in (("optim_d", module.settings.optim_d), ("optim_g", module.settings.optim_g)):
        try:
            state_after_one_step(make_optimizer, [nn.Parameter(torch.zeros(2, 2))])
        except Exception as error:
            raise LabError(
                f"{role} doesn't work as it is configured: {error}",
                "--help lists the options.",
                code="failed",
                key=role,
            ) from error
    module.train()


def _check(trial: Trial) -> None:
    try:
        shape = tuple(trial.run().shape)
    except Exception as error:
        if isinstance(error, LabError) or out_of_memory(error):
            raise
        raise LabError(
            f"{trial.name} doesn't work as it is configured: {error}",
            "--help lists the options.",
            code="failed",
            key=trial.key,
        ) from error
    if shape != trial.shape:
        raise LabError(
            f"{trial.name} gives the shape {shape}, where a step needs {trial.shape}.",
            "Activations must keep the shape." if trial.key.startswith("model") else "",
            code="failed",
            key=trial.key,
        )


def _trials_of_networks(module: GANModule, real: Tensor, labels: Tensor | None) -> Iterator[Trial]:
    latent_dim = module.latent_dim
    shape = tuple(real.shape[1:])
    draw = partial(module.latent, (2, latent_dim), make_generator(0, "trial"))
    yield Trial("latent", "latent", draw, (2, latent_dim))
    generate = partial(module.generator, torch.zeros(2, latent_dim))
    yield Trial("model.generator", "model.generator", generate, (2, *shape))
    score = partial(score_batch, module, real, labels)
    yield Trial("model.discriminator", "model.discriminator", score, (2,))


def _trials_of_loss(module: GANModule) -> Iterator[Trial]:
    loss = module.loss
    scores = torch.zeros(2)
    yield Trial("loss", "loss.d_real", lambda: loss.d(scores, scores)[0], (2,))
    yield Trial("loss", "loss.d_fake", lambda: loss.d(scores, scores)[1], (2,))
    yield Trial("loss", "loss.g", partial(loss.g, scores, scores), (2,))
    yield Trial("loss", "loss.d_output", partial(loss.d_output, scores), (2,))


def _trials_of_remedies(module: GANModule, real: Tensor, labels: Tensor | None) -> Iterator[Trial]:
    """Yields a trial of each penalty, which gives a value for each score, and each generator loss, which gives one."""
    remedies = module.remedies
    rng = module.step_rng(0, "trial")
    critic: Any = module.discriminator
    if labels is not None:
        labels_onehot = one_hot(labels, module.classes).to(real.dtype)
        critic = ConditionalDiscriminator(critic, labels_onehot, module.settings.flat)

    @torch.enable_grad()
    def run_penalty(penalty: Penalty) -> Tensor:
        samples = module.generator(torch.zeros(len(real), module.latent_dim))
        fake = remedies.score(critic, samples, 0, rng, module.share_scores)
        return penalty(critic, remedies.score(critic, real, 0, rng, module.share_scores), fake, rng)

    @torch.enable_grad()
    def run_generator_loss(generator_loss: GeneratorLoss) -> Tensor:
        z = torch.zeros(len(real), module.latent_dim)
        fake = module.generator(z)
        d_fake = remedies.transform(fake, 0, rng)
        d_real = remedies.transform(real, 0, rng)
        return generator_loss(critic, z, fake, d_fake, d_real)

    for penalty in remedies.penalties:
        scores = len(real) // remedies.pack_size
        yield Trial("remedy", f"remedy: {type(penalty).__name__}", partial(run_penalty, penalty), (scores,))
    for generator_loss in remedies.generator_losses:
        name = f"remedy: {type(generator_loss).__name__}"
        yield Trial("remedy", name, partial(run_generator_loss, generator_loss), ())


@torch.no_grad()
def smoke_test_replicas(module: GANModule) -> None:
    """Uses copies of replicated networks as training does.

    Raises:
        LabError: for networks that cannot be trained together, such as those with random layers, or with layers that
            look at their values.
    """
    trial = copy.deepcopy(module)
    z = torch.zeros(*module.replica_dims, 2 * module.remedies.pack_size, module.latent_dim)
    try:
        score_batch(trial, trial.generator(z), module.target_labels(z))
    except Exception as error:
        if out_of_memory(error):
            raise
        raise LabError(
            f"model: these networks can't be trained with replicas={module.replicas}: {error}",
            "Train seeds one by one instead: -m seed=0,1,2",
            code="unsupported",
            key="replicas",
        ) from error
