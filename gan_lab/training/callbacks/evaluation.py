"""The verdict in every run: how many modes G makes while it trains, and everything at the end."""

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic
from gan_lab.core.rng import make_generator
from gan_lab.core.run_folder import Run
from gan_lab.evaluation import aggregate
from gan_lab.evaluation.metrics.balance import balance
from gan_lab.evaluation.metrics.custom import UserMetric
from gan_lab.evaluation.metrics.registry import compute
from gan_lab.evaluation.verdict import EvaluationResult, evaluator_for, protocol_samples
from gan_lab.plotting import plots
from gan_lab.training.gan_module import GANModule

SHOWN = 12  # samples above their nearest originals
GLANCE = 1_000  # samples of a look during training, 2,500 in the plane: quick, and its own column says how many
BATCH = 1_000  # samples that are made at once


def latents(module: GANModule, number: int, purpose: str, index: int = 0) -> Iterator[Tensor]:
    """`number` latent vectors in batches `(n, latent_dim)`, from a stream of their own."""
    generator = make_generator(module.seed, purpose, index)
    sizes = [min(BATCH, number - start) for start in range(0, number, BATCH)]
    return (module.latent((n, module.latent_dim), generator) for n in sizes)


def draw(module: GANModule, number: int, purpose: str, index: int = 0) -> Tensor:
    """Samples `(number, *shape)` on the CPU of these latent vectors."""
    return torch.cat([module.sample(z).float().cpu() for z in latents(module, number, purpose, index)])


def asked(module: GANModule, number: int, purpose: str, index: int = 0) -> Tensor | None:
    """The classes `(number,)` that these latent vectors ask for; None without classes."""
    if not module.classes:
        return None
    return torch.cat([module.labels_of(z) for z in latents(module, number, purpose, index)])  # type: ignore[misc]


class Evaluation(pl.Callback):
    """Measures G's samples: the modes every so many steps, everything when training ends.

    Its own random streams: with or without it, training is the same to the bit. The numbers go to the loggers (columns
    `metric/…`), the pictures to `plots/` and TensorBoard, the judgement to `summary.json`.

    Args:
        every: steps between two looks.
        samples: how many the judgement is made on; None: as papers do, see `gan_lab.evaluation.verdict.protocol_samples`.
        cache_dir: where the evaluator network is kept.
        features: in which space samples are compared, see `gan_lab.evaluation.feature_spaces.features_of`.

    Replicas are judged one by one; rows have their mean, and behind it a column `metric/<name>/<i>` for each.

    Attributes:
        user_metrics: the user's own metrics by name; `build` sets them.
        judgement: of the end of training, None before; of replicas what theirs say together.
        balance: D's accuracy and mean answers on held-out data and fresh fakes, and the word for them; likewise.
        members: judgement and balance of each member, without those that blew up.
        seconds: spent on looking and judging; setting up aside.
    """

    def __init__(self, run: Run, every: int, samples: int | None, cache_dir: str, features: str | None = None):
        self.run, self.every, self.samples = run, every, samples
        self.cache_dir, self.features = Path(cache_dir), features
        self.user_metrics: Mapping[str, UserMetric] = {}
        self.result: EvaluationResult | None = None
        self.balance: dict[str, Any] = {}
        self.members: dict[int, tuple[EvaluationResult, dict[str, Any]]] = {}
        self.seconds = 0.0
        self._modes: dict[
            int, list[int]
        ] = {}  # step → modes with at least half of their expected count, of each member

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Before the clock starts: training an evaluator isn't training the GAN."""
        dataset = trainer.datamodule.dataset  # type: ignore[attr-defined]
        self.evaluator = evaluator_for(dataset, self.cache_dir, self.features, self.user_metrics)

    def on_train_batch_end(self, trainer: pl.Trainer, module: GANModule, *_: Any) -> None:  # type: ignore[override]
        if module.step % self.every == 0 and module.step < module.steps:
            started = time.monotonic()
            number = GLANCE if len(self.evaluator.dataset.shape) == 3 else protocol_samples(self.evaluator.dataset)
            metrics, modes = dict[int, Any](), [0] * module.replicas
            for i, member in module.members():
                samples = draw(member, number, "verdict/glance", module.step)
                wanted = asked(member, number, "verdict/glance", module.step)
                metrics[i] = self.evaluator.mode_metrics(samples, wanted)[0]
                modes[i] = int(metrics[i].get("modes_robust") or 0)
            if len(self.evaluator.shares):
                self._modes[module.step] = modes
            self._log(trainer, module, metrics)
            self.seconds += time.monotonic() - started

    def on_train_end(self, trainer: pl.Trainer, module: GANModule) -> None:  # type: ignore[override]
        started = time.monotonic()
        samples = {i: self._judge(member, i)[:SHOWN] for i, member in module.members()}
        judgements = {i: result for i, (result, _) in self.members.items()}
        balances = [balance for _, balance in self.members.values()]
        self.result, self.balance = next(iter(self.members.values()))
        if module.replica_dims:
            self.result = aggregate.combine(judgements, module.replicas, module.seed)
            if all(balances):
                self.balance = aggregate.mean(balances) | {
                    "balance": aggregate.balance([b["balance"] for b in balances])
                }
        if module.step == module.steps:  # an interrupted run's table goes on as if it had not been
            self._log(trainer, module, {i: result.metrics for i, result in judgements.items()})
        self._draw(trainer, module, next(iter(samples.values())))
        self.seconds += time.monotonic() - started

    def _judge(self, module: GANModule, i: int) -> Tensor:
        """Judges member i; the samples that it was judged on."""
        number = self.samples or protocol_samples(self.evaluator.dataset)
        samples, wanted = draw(module, number, "verdict/end"), asked(module, number, "verdict/end")
        result = self.evaluator.evaluate(samples, wanted)
        result.verdict["sentence"] += self._history(i, int(result.metrics.get("modes_robust") or 0))
        two = module.latent((2, module.latent_dim), make_generator(module.seed, "verdict/end"))
        first, second = two[:, : module.latent_dim - module.classes]
        if torch.equal(first, second):
            reason = " Its latent vectors are all the same, so it can make only one sample."
            if module.classes:
                reason = " Its latent vectors differ only in the class, so it can make only one sample of each class."
            result.verdict["sentence"] += reason
        self.members[i] = result, self._balance(module, samples, wanted)
        return samples

    def _balance(self, module: GANModule, samples: Tensor, wanted: Tensor | None) -> dict[str, Any]:
        """S5, on held-out data and fresh fakes, which were to be of the classes `wanted`; {} where D's answers are no
        probabilities, or no numbers, or where there aren't two packs."""
        heldout = self.evaluator.heldout_samples
        own, told = (None, None) if wanted is None else (self.evaluator.heldout_labels, wanted[: len(heldout)])
        sets = ((heldout, own), (samples[: len(heldout)], told))
        if not module.loss.d_output_is_probability or min(len(x) for x, _ in sets) < 2 * module.remedies.pack_size > 2:
            return {}
        real, fake = (module.loss.d_output(module.scores(*each)) for each in sets)
        if not (torch.isfinite(real).all() and torch.isfinite(fake).all()):
            return {}
        metrics, _ = compute({"d_on_real": real, "d_on_fake": fake})
        return {"balance": balance(real.mean().item(), fake.mean().item()), **metrics}

    def _history(self, i: int, final: int) -> str:
        """When member i collapsed: the last look at the most modes before they were lost, in words."""
        seen = {step: modes[i] for step, modes in self._modes.items() if i < len(modes)}
        if not seen or max(seen.values()) <= final + len(self.evaluator.shares) / 10:
            return ""
        most = max(seen.values())
        step = max(step for step, modes in seen.items() if modes == most)
        return f" At step {step:,} it made {most:,} of them, and lost some later."

    def _log(self, trainer: pl.Trainer, module: GANModule, metrics: dict[int, Any]) -> None:
        """Logs the members' metrics."""
        rows = {"": aggregate.mean(list(metrics.values()))}
        rows |= {f"/{i}": own for i, own in metrics.items()} if module.replica_dims else {}
        row = {
            f"metric/{name}{member}": float(value)
            for member, own in rows.items()
            for name, value in own.items()
            if value is not None
        }
        for logger in trainer.loggers:
            logger.log_metrics(row, module.step)

    def _draw(self, trainer: pl.Trainer, module: GANModule, samples: Tensor) -> None:
        assert self.result is not None
        dataset, figures = self.evaluator.dataset, {}
        if len(self.result.counts):
            of = f" of each of {len(self.members)} members" if module.replica_dims else ""
            title = f"Modes in {self.result.metrics['samples']:,} samples{of}, step {module.step:,}"
            figures["labels"] = plots.labels(self.result.counts, self.evaluator.shares, dataset.classes, title)
        if len(dataset.shape) == 3 and torch.isfinite(samples).all():
            figures["neighbours"] = plots.neighbours(samples, self.evaluator.nearest_originals(samples))
        for name, figure in figures.items():
            with atomic(self.run.plots / f"{name}.png") as path:
                figure.savefig(path)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_figure(name, figure, module.step)

    def state_dict(self) -> dict[str, Any]:
        return {"modes": self._modes, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        lists = {int(step): made if isinstance(made, list) else [made] for step, made in state["modes"].items()}
        self._modes = {step: [int(each) for each in made] for step, made in lists.items()}
        self.seconds = float(state["seconds"])
        if not 0 <= self.seconds < math.inf:
            raise LabError("its clock says nothing")
