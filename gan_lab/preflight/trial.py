"""Short trainings for the checks, by the training's own code."""

import copy
import dataclasses

import pytorch_lightning as pl
import torch

from gan_lab.assembly.build import DryRun
from gan_lab.training.gan_module import GANModule
from gan_lab.training.sampling import score_batch
from gan_lab.training.step_log import NotFiniteError


def trainable_module(dry_run: DryRun) -> GANModule:
    """Returns a fresh GAN whose D is updated in every step, even while it wins: the checks want to see it learn."""
    module = dry_run.module()
    remedies = dataclasses.replace(module.remedies, update_gate=None)
    module.apply_settings(dataclasses.replace(module.settings, remedies=remedies))
    return module


def play_steps(dry_run: DryRun, module: GANModule, steps: int, *callbacks: pl.Callback) -> str | None:
    """Trains a module for some steps.

    Returns:
        None, or the fault of the configuration that stopped the training, in words.
    """
    try:
        dry_run.play(module, steps, *callbacks)
    except NotFiniteError as error:
        return f"{error} Look at check 1; a smaller optim.lr or norm=layer help against growing numbers."
    except RuntimeError:
        # torch refuses to differentiate a loss that depends on no trainable weight.
        if _depends_on_input(dry_run, module):
            raise
        return "The gradient cannot reach G: D's output doesn't depend on its input. Does D's forward use it?"
    return None


def _depends_on_input(dry_run: DryRun, module: GANModule) -> bool:
    """Whether D's scores are connected with its input in the autograd graph; tried on a copy of D."""
    train = dry_run.dataset.train
    indices = torch.arange(dry_run.batch_size) % len(train)
    labels = None
    if module.classes:
        labels = train.labels_of(indices)
    samples = train[indices].to(module.device).requires_grad_()
    discriminator = copy.deepcopy(module.discriminator).requires_grad_(False)
    return score_batch(module, samples, labels, discriminator).requires_grad
