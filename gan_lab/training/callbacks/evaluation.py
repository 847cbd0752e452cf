"""The verdict in every run: how many modes G makes while it trains, and all metrics at the end."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from gan_lab.core.errors import LabError
from gan_lab.core.rng import make_generator
from gan_lab.core.run_folder import Run
from gan_lab.evaluation import aggregate
from gan_lab.evaluation.metrics.balance import balance
from gan_lab.evaluation.metrics.custom import UserMetric
from gan_lab.evaluation.metrics.registry import MetricInputs, compute
from gan_lab.evaluation.verdict import EvaluationResult, evaluator_for, protocol_samples
from gan_lab.plotting.samples import mode_frequencies, nearest_neighbours
from gan_lab.plotting.style import Figure
from gan_lab.training.callbacks.base import GANCallback, datamodule_of, early_steps, log_picture, save_figure
from gan_lab.training.gan_module import GANModule
from gan_lab.training.sampling import fresh_labels, fresh_samples, score_samples

NEIGHBOURS_SHOWN = 12  # samples drawn above their nearest training samples
MAX_SCORED = 2_500  # held-out samples, and fakes, that D scores
QUICK_SAMPLES = 1_000  # images of a quick evaluation during training


class Evaluation(GANCallback):
    """Measures G's samples: the modes every so many steps, everything when training ends.

    It uses random streams of its own: with or without it, training is the same to the bit. Numbers go to the loggers
    (columns `metric/…`), pictures to `plots/` and TensorBoard, the result to `summary.json`.

    Each of several replicas is evaluated as a single GAN. Rows hold the mean, followed by a column
    `metric/<name>/<i>` for each.

    Args:
        every: steps between two quick evaluations; there are also a few early ones, see `base.early_steps`.
        samples: number of samples for the verdict; None: as many as papers use, see
            `gan_lab.evaluation.verdict.protocol_samples`.
        cache_dir: where the label classifier is stored.
        features: the space in which samples are compared, see `gan_lab.evaluation.feature_spaces.features_of`.
        quick_samples: number of samples of a quick evaluation; None: 1,000 images; in the plane as many as for the
            verdict.

    Attributes:
        user_metrics: metrics that the configuration adds, by name; `build` sets them.
        result: of the end of training, None before; of replicas combined.
        balance: D's accuracy and mean output on held-out data and fresh fakes, and a word for them; of replicas
            combined.
        members: result and balance of each member that has not failed.
        seconds: spent on evaluating, without the setup.
    """

    def __init__(
        self,
        run: Run,
        every: int,
        samples: int | None,
        cache_dir: str,
        features: str | None = None,
        quick_samples: int | None = None,
    ):
        self.run = run
        self.every: int = every
        self.early_steps = early_steps(every)
        self.samples = samples
        self.quick_samples = quick_samples
        self.cache_dir = Path(cache_dir)
        self.features = features
        self.user_metrics: Mapping[str, UserMetric] = {}
        self.result: EvaluationResult | None = None
        self.balance: dict[str, Any] = {}
        self.members: dict[int, tuple[EvaluationResult, dict[str, Any]]] = {}
        self.seconds = 0.0
        self._modes: dict[int, list[int]] = {}  # by step: modes made, per member

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Prepares the evaluator before the clock starts: training a label classifier is not training the GAN."""
        dataset = datamodule_of(trainer).dataset
        self.evaluator = evaluator_for(dataset, self.cache_dir, self.features, self.user_metrics)

    def on_block_end(self, trainer: pl.Trainer, module: GANModule) -> None:
        # The last step is evaluated fully, see `on_training_end`.
        is_due = module.step % self.every == 0 or module.step in self.early_steps
        if not is_due or module.step == module.steps:
            return
        started = time.monotonic()
        dataset = self.evaluator.dataset
        usual = QUICK_SAMPLES if len(dataset.shape) == 3 else protocol_samples(dataset)
        number = self.quick_samples or usual
        metrics: dict[int, Any] = {}
        modes = [0] * module.replicas
        for i, member in module.members():
            samples = fresh_samples(member, number, "verdict/glance", module.step)
            labels = fresh_labels(member, number, "verdict/glance", module.step)
            metrics[i] = self.evaluator.mode_metrics(samples, labels)[0]
            modes[i] = int(metrics[i].get("modes_valid") or 0)
        if len(self.evaluator.shares):
            self._modes[module.step] = modes
        self._log(trainer, module, metrics)
        self.seconds += time.monotonic() - started

    def on_training_end(self, trainer: pl.Trainer, module: GANModule) -> None:
        started = time.monotonic()
        examples = [self.evaluate_member(member, i)[:NEIGHBOURS_SHOWN] for i, member in module.members()]
        results = {i: result for i, (result, _) in self.members.items()}
        balances = [balance for _, balance in self.members.values()]
        self.result, self.balance = next(iter(self.members.values()))
        if module.replica_dims:
            self.result = aggregate.combine(results, module.replicas, module.seed)
            self.balance = {**aggregate.mean(balances)}
            words = [values["balance"] for values in balances if "balance" in values]
            if words:
                self.balance["balance"] = aggregate.balance(words)
        # The table of an interrupted run continues as if it had not been interrupted.
        if module.step == module.steps:
            self._log(trainer, module, {i: result.metrics for i, result in results.items()})
        self._draw(trainer, module, examples[0])
        self.seconds += time.monotonic() - started

    def evaluate_member(self, module: GANModule, i: int) -> Tensor:
        """Evaluates one GAN, which is member i; returns the samples that it was evaluated on."""
        number = self.samples or protocol_samples(self.evaluator.dataset)
        samples = fresh_samples(module, number, "verdict/end")
        labels = fresh_labels(module, number, "verdict/end")
        result = self.evaluator.evaluate(samples, labels)
        # The numbers are in a line of their own, the last.
        statement, _, numbers = result.verdict["sentence"].partition("\n")
        statement += self._loss_of_modes(i, int(result.metrics.get("modes_valid") or 0))
        statement += _warning_of_constant_latent(module)
        result.verdict["sentence"] = f"{statement}\n{numbers}" if numbers else statement
        self.members[i] = result, self.measure_balance(module, samples, labels)
        return samples

    def measure_balance(self, module: GANModule, samples: Tensor, labels: Tensor | None) -> dict[str, Any]:
        """Measures how well D tells held-out data from fresh fakes.

        Args:
            samples: fakes `(n, *shape)`.
            labels: the labels `(n,)` in their latent vectors; None without classes.

        Returns:
            The AUC of D's scores; of a loss whose outputs are probabilities also D's accuracy and mean output on both,
            and a word for the balance. Empty if scores are not finite, or if there are fewer than two packs.
        """
        real = self.evaluator.heldout_samples[:MAX_SCORED]
        fake = samples[: len(real)]
        real_labels = None if labels is None else self.evaluator.heldout_labels[:MAX_SCORED]
        fake_labels = None if labels is None else labels[: len(real)]
        pack_size = module.remedies.pack_size
        if pack_size > 1 and min(len(real), len(fake)) < 2 * pack_size:
            return {}
        real_scores = score_samples(module, real, real_labels)
        fake_scores = score_samples(module, fake, fake_labels)
        if not (torch.isfinite(real_scores).all() and torch.isfinite(fake_scores).all()):
            return {}
        inputs: MetricInputs = {"d_real_scores": real_scores, "d_fake_scores": fake_scores}
        if not module.loss.d_output_is_probability:
            return compute(inputs)[0]
        inputs["d_on_real"] = module.loss.d_output(real_scores)
        inputs["d_on_fake"] = module.loss.d_output(fake_scores)
        metrics, _ = compute(inputs)
        word = balance(inputs["d_on_real"].mean().item(), inputs["d_on_fake"].mean().item(), metrics["d_auc"])
        return {"balance": word, **metrics}

    def _loss_of_modes(self, i: int, final: int) -> str:
        """Says when member i had more modes than at the end, if it had clearly more; otherwise ""."""
        modes_by_step = {step: modes[i] for step, modes in self._modes.items() if i < len(modes)}
        if not modes_by_step:
            return ""
        most = max(modes_by_step.values())
        if most <= final + len(self.evaluator.shares) / 10:
            return ""
        last_step = max(step for step, modes in modes_by_step.items() if modes == most)
        return f" At step {last_step:,} it made {most:,} modes, and lost some later."

    def _log(self, trainer: pl.Trainer, module: GANModule, metrics: dict[int, Any]) -> None:
        """Logs the mean over the members, and with replicas the metrics of each."""
        metrics_by_suffix = {"": aggregate.mean(list(metrics.values()))}
        if module.replica_dims:
            for i, member_metrics in metrics.items():
                metrics_by_suffix[f"/{i}"] = member_metrics
        row = {}
        for suffix, values in metrics_by_suffix.items():
            for name, value in values.items():
                if value is not None:
                    row[f"metric/{name}{suffix}"] = float(value)
        for logger in trainer.loggers:
            logger.log_metrics(row, module.step)

    def _draw(self, trainer: pl.Trainer, module: GANModule, samples: Tensor) -> None:
        assert self.result is not None
        dataset = self.evaluator.dataset
        figures: dict[str, Figure] = {}
        if len(self.result.counts):
            of_members = f" of each of {len(self.members)} members" if module.replica_dims else ""
            title = f"Modes in {self.result.metrics['samples']:,} samples{of_members}, step {module.step:,}"
            figures["labels"] = mode_frequencies(self.result.counts, self.evaluator.shares, dataset.classes, title)
        if len(dataset.shape) == 3 and torch.isfinite(samples).all():
            figures["neighbours"] = nearest_neighbours(samples, self.evaluator.nearest_originals(samples))
        for name, figure in figures.items():
            picture = self.run.plots / f"{name}.png"
            save_figure(self.run, figure, picture)
            log_picture(trainer, f"samples/{name}", picture, module.step)

    def state_dict(self) -> dict[str, Any]:
        return {"modes": self._modes, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._modes = {int(step): [int(number) for number in modes] for step, modes in state["modes"].items()}
        self.seconds = float(state["seconds"])
        if not 0 <= self.seconds < math.inf:
            raise LabError("its evaluation took no valid time", code="damaged", key="last.ckpt")


def _warning_of_constant_latent(module: GANModule) -> str:
    """Says so if all latent vectors are equal, apart from the label; otherwise ""."""
    z = module.latent((2, module.latent_dim), make_generator(module.seed, "verdict/end"))
    first, second = z[:, : module.latent_dim - module.classes]
    if not torch.equal(first, second):
        return ""
    if module.classes:
        return " Its latent vectors differ only in the class, so it can make only one sample of each class."
    return " Its latent vectors are all the same, so it can make only one sample."
