"""Check 2 (S7): whether a fresh D learns to separate real samples from uniform noise.

D is trained by the training's own step, with noise instead of G's samples.
"""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from gan_lab.assembly.build import DryRun
from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import choose
from gan_lab.preflight import figures
from gan_lab.preflight.inspection import SampleStatistics, auc, uniform_noise
from gan_lab.preflight.report import Check, CheckResult
from gan_lab.preflight.trial import play_steps, trainable_module
from gan_lab.training.callbacks.base import GANCallback
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.gan_module import GANModule
from gan_lab.training.sampling import score_samples

# For how long D is trained. These numbers and the thresholds below are this project's own choice.
MIN_STEPS = 300
MAX_STEPS = 3_000
# With small batches D may train for more steps, until it has seen as many samples as in the book.
MIN_SAMPLES = 10_000
TEST_EVERY = 100
# Of each kind.
TEST_SAMPLES = 1_000

# D's training ends early when both are reached; the gap is that between the mean outputs on real samples and on noise,
# where outputs are probabilities.
CLEAR_AUC = 0.95
CLEAR_GAP = 0.25

# Below them the check warns, or fails; chance is 0.5.
WARNING_AUC = 0.75
FAILURE_AUC = 0.6

PROGRESS_COLUMNS = {"on real": "loss/d_real", "on noise": "loss/d_fake"}
ADVICE = "a larger optim.lr, optim=adam, or a wider model.discriminator"


class NoiseGenerator(nn.Module):
    """Replaces G: gives uniform noise, whatever the latent vectors.

    Its only weight has no effect; phase 3 needs something to train.
    """

    def __init__(self, statistics: SampleStatistics, bounded: bool, seed: int):
        super().__init__()
        self.statistics = statistics
        self.bounded = bounded
        self.rng = make_generator(seed, "preflight/noise")
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        """Draws noise `(B, *shape)` for latent vectors `(B, latent_dim)`."""
        return uniform_noise(len(z), self.statistics, self.bounded, self.rng).to(z.device) + 0 * self.weight


class DiscriminatorProbe(GANCallback):
    """Records D's losses in every step, and stops the training when D clearly separates real samples from noise.

    Args:
        real, noise: test samples `(n, *shape)`, on which D is not trained.
        labels: the classes `(n,)` of a conditional GAN's test samples, the same for both kinds.

    Attributes:
        rows: the log's row of each step.
    """

    def __init__(self, real: Tensor, noise: Tensor, labels: Tensor | None = None):
        self.real = real
        self.noise = noise
        self.labels = labels
        self.rows: list[dict[str, float]] = []
        self._initial_weights: dict[str, Tensor] = {}

    def on_training_start(self, trainer: pl.Trainer, module: GANModule) -> None:
        for name, parameter in module.discriminator.named_parameters():
            self._initial_weights[name] = parameter.detach().clone()

    def on_block_end(self, trainer: pl.Trainer, module: GANModule) -> None:
        self.rows.append(module.step_log.last_row)
        if module.step >= MIN_STEPS and module.step % TEST_EVERY == 0:
            real_outputs, noise_outputs, test_auc = self.test(module)
            is_separated = test_auc >= CLEAR_AUC
            if module.loss.d_output_is_probability:
                gap = real_outputs.mean() - noise_outputs.mean()
                is_separated = is_separated and bool(gap >= CLEAR_GAP)
            # A D that has not moved by now never will.
            trainer.should_stop = is_separated or self.moved_tensors(module) == 0

    def moved_tensors(self, module: GANModule) -> int:
        """Returns how many of D's weight tensors have changed since the start of the training."""
        weights = dict(module.discriminator.named_parameters())
        moved = 0
        for name, initial_weight in self._initial_weights.items():
            if not torch.equal(initial_weight.cpu(), weights[name].cpu()):
                moved += 1
        return moved

    @torch.no_grad()
    def test(self, module: GANModule) -> tuple[Tensor, Tensor, float]:
        """Returns D's outputs on the real test samples `(n,)` and on the noise `(n,)`, and the AUC of its scores.

        The batches are all real or all noise, as in training, where batch normalisation sees the same.
        """
        real_scores = score_samples(module, self.real, self.labels)
        noise_scores = score_samples(module, self.noise, self.labels)
        return module.loss.d_output(real_scores), module.loss.d_output(noise_scores), auc(real_scores, noise_scores)


def check_separation(dry_run: DryRun, statistics: SampleStatistics) -> CheckResult:
    """Trains D on real samples and noise, and tests it on held-out samples and fresh noise.

    Args:
        dry_run: builds and trains the GAN.
        statistics: those of the training data.
    """
    dataset = dry_run.dataset
    seed = dry_run.seed
    check = Check("noise", "D against noise")
    module = trainable_module(dry_run)
    indices = choose(dataset.heldout, TEST_SAMPLES, make_generator(seed, "preflight/heldout"))
    real = dataset.heldout[indices]
    labels = None
    if module.classes:
        labels = dataset.heldout.labels_of(indices)
    noise = uniform_noise(len(real), statistics, dataset.bounded, make_generator(seed, "preflight/heldout noise"))
    probe = DiscriminatorProbe(real, noise, labels)
    module.generator = NoiseGenerator(statistics, dataset.bounded, seed)

    real_before, noise_before, _ = probe.test(module)
    max_steps = max(MAX_STEPS, MIN_SAMPLES // dry_run.batch_size)
    progress = Progress(f"{check.title}, at most", PROGRESS_COLUMNS)
    problem = play_steps(dry_run, module, max_steps, probe, progress)
    real_after, noise_after, test_auc = probe.test(module)

    steps = len(probe.rows)
    moved = probe.moved_tensors(module)
    kind_of_noise = "uniform over the data's range"
    if dataset.bounded:
        kind_of_noise = "torch.rand, 0 to 1"
    numbers = {
        "steps": steps,
        "samples": len(real),
        "auc": test_auc,
        "tensors_moved": moved,
        "real_before": real_before.mean().item(),
        "noise_before": noise_before.mean().item(),
        "real_after": real_after.mean().item(),
        "noise_after": noise_after.mean().item(),
    }
    check.numbers = numbers
    check.facts = {
        "training": f"{steps:,} steps with batch_size {dry_run.batch_size}, on real samples and noise: {kind_of_noise}",
        "on real": f"{numbers['real_before']:.3f} → {numbers['real_after']:.3f}, D's mean output on {len(real):,} "
        "held-out samples",
        "on noise": f"{numbers['noise_before']:.3f} → {numbers['noise_after']:.3f}, D's mean output on {len(noise):,} "
        "fresh samples",
        "separation": f"D ranks the real sample above the noise in {test_auc:.1%} of all pairs (AUC; chance: 50%)",
    }
    constant = bool(torch.cat([real_after, noise_after]).unique().numel() == 1)
    _evaluate(check, problem, moved, test_auc, constant)
    figure = figures.discriminator_against_noise(
        probe.rows, [(real_before, noise_before), (real_after, noise_after)], module.loss, kind_of_noise
    )
    return check, figure


def _evaluate(check: Check, problem: str | None, moved: int, test_auc: float, constant: bool) -> None:
    """Adds a failure or a warning: the first cause that applies, for it explains the others.

    Args:
        check: gets the failure or warning.
        problem: what stopped D's training, if anything did.
        moved: how many of D's weight tensors changed.
        test_auc: the AUC after the training, or NaN.
        constant: whether D's outputs are all the same.
    """
    if problem:
        check.failures.append(problem)
    elif moved == 0:
        check.failures.append(
            "No weight of D has changed: it learns nothing. Is the learning rate 0? Set optim.lr (or optim_d.lr) above"
            " 0, for example optim.lr=0.0005."
        )
    elif constant:
        check.failures.append(
            "D gives every sample the same output, real or noise: it ignores its input. Does its forward use it, or"
            " does a layer remove it?"
        )
    # Also if it is NaN.
    elif not test_auc >= FAILURE_AUC:
        check.failures.append(
            f"D cannot separate real samples from noise (it ranks the real sample above the noise in {test_auc:.0%} of"
            f" all pairs), so G could learn nothing from it. D learns too slowly or is too small: try {ADVICE}."
        )
    elif test_auc < WARNING_AUC:
        check.warnings.append(
            f"D hardly separates real samples from noise (it ranks the real sample above the noise in {test_auc:.0%} of"
            f" all pairs), so G will learn little from it. What helps: {ADVICE}."
        )
