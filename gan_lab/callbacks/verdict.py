"""The verdict in every run: how many modes G makes while it trains, and everything at the end."""

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from gan_lab import plots
from gan_lab.files import atomic
from gan_lab.gan import GANModule
from gan_lab.judge import Judgement, judge_for, protocol_samples
from gan_lab.metrics.balance import accuracy, balance
from gan_lab.runs import Run
from gan_lab.streams import stream

GLANCE = 1_000  # samples of a look during training, 2,500 in the plane: quick, and its own column says how many
BATCH = 1_000  # samples that are made at once


def draw(module: GANModule, number: int, purpose: str, index: int = 0) -> Tensor:
    """`number` samples `(number, *shape)` on the CPU, from a stream of latent vectors of their own."""
    generator = stream(module.seed, purpose, index)
    sizes = [min(BATCH, number - start) for start in range(0, number, BATCH)]
    return torch.cat([module.sample(module.latent((n, module.latent_dim), generator)).float().cpu() for n in sizes])


class Verdict(pl.Callback):
    """Measures G's samples: the modes every so many steps, everything when training ends.

    Its own random streams: with or without it, training is the same to the bit. The numbers go to the loggers (columns
    `metric/…`), the pictures to `plots/` and TensorBoard, the judgement to `summary.json`.

    Args:
        every: steps between two looks.
        samples: how many the judgement is made on; None: as papers do, see `gan_lab.judge.protocol_samples`.
        cache_dir: where the evaluator network is kept.
        features: in which space samples are compared, see `gan_lab.features.features_of`.

    Attributes:
        judgement: of the end of training, None before.
        seconds: spent on looking and judging; setting up aside.
        balance: D's accuracy and mean answers on held-out data and fresh fakes, and the word for them.
    """

    def __init__(self, run: Run, every: int, samples: int | None, cache_dir: str, features: str | None = None):
        self.run, self.every, self.samples = run, every, samples
        self.cache_dir, self.features = Path(cache_dir), features
        self.judgement: Judgement | None = None
        self.balance: dict[str, Any] = {}
        self.seconds = 0.0
        self._modes: dict[int, int] = {}  # step → modes made at half their due or more

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Before the clock starts: training an evaluator isn't training the GAN."""
        self.judge = judge_for(trainer.datamodule.dataset, self.cache_dir, self.features)  # type: ignore[attr-defined]

    def on_train_batch_end(self, trainer: pl.Trainer, module: GANModule, *_: Any) -> None:  # type: ignore[override]
        if module.step % self.every == 0 and module.step < module.steps:
            started = time.monotonic()
            number = GLANCE if len(self.judge.dataset.shape) == 3 else protocol_samples(self.judge.dataset)
            metrics, _undefined, counts = self.judge.count_modes(draw(module, number, "verdict/glance", module.step))
            if len(counts):
                self._modes[module.step] = int(metrics["modes_robust"] or 0)
            self._log(trainer, module, metrics)
            self.seconds += time.monotonic() - started

    def on_train_end(self, trainer: pl.Trainer, module: GANModule) -> None:  # type: ignore[override]
        started = time.monotonic()
        samples = draw(module, self.samples or protocol_samples(self.judge.dataset), "verdict/end")
        self.judgement = self.judge.judge(samples)
        self.judgement.verdict["sentence"] += self._history(int(self.judgement.metrics.get("modes_robust") or 0))
        first, second = module.latent((2, module.latent_dim), stream(module.seed, "verdict/end"))
        if torch.equal(first, second):
            self.judgement.verdict["sentence"] += " Its latent vectors are all the same: it could make nothing else."
        self.balance = self._balance(module, samples)
        if module.step == module.steps:  # an interrupted run's table goes on as if it had not been
            self._log(trainer, module, self.judgement.metrics)
        self._draw(trainer, module, samples)
        self.seconds += time.monotonic() - started

    def _balance(self, module: GANModule, samples: Tensor) -> dict[str, Any]:
        """S5, on held-out data and fresh fakes; {} where D's answers are no probabilities, or no numbers."""
        if module.loss.neutral_answer != 0.5:
            return {}
        heldout = self.judge.heldout_samples
        module.discriminator.eval()
        with torch.no_grad():
            sets = (heldout, samples[: len(heldout)])
            real, fake = (module.loss.answer(module.discriminator(x.to(module.device))).float().cpu() for x in sets)
        module.discriminator.train()
        if not (torch.isfinite(real).all() and torch.isfinite(fake).all()):
            return {}
        on_real, on_fake = accuracy(real, fake)
        answers = {"d_answer_real": real.mean().item(), "d_answer_fake": fake.mean().item()}
        return {
            "balance": balance(answers["d_answer_real"], answers["d_answer_fake"]),
            "d_accuracy_real": on_real,
            "d_accuracy_fake": on_fake,
            **answers,
        }

    def _history(self, final: int) -> str:
        """When a collapse happened: the last look at the most modes before they were lost, in words."""
        if not self._modes or max(self._modes.values()) <= final + len(self.judge.shares) / 10:
            return ""
        most = max(self._modes.values())
        step = max(step for step, modes in self._modes.items() if modes == most)
        return f" It made {most:,} of them at step {step:,} and lost some after that."

    def _log(self, trainer: pl.Trainer, module: GANModule, metrics: dict[str, Any]) -> None:
        row = {f"metric/{name}": float(value) for name, value in metrics.items() if value is not None}
        for logger in trainer.loggers:
            logger.log_metrics(row, module.step)

    def _draw(self, trainer: pl.Trainer, module: GANModule, samples: Tensor) -> None:
        assert self.judgement is not None
        dataset, figures = self.judge.dataset, {}
        if len(self.judgement.counts):
            title = f"Modes in {self.judgement.metrics['samples']:,} samples, step {module.step:,}"
            figures["labels"] = plots.labels(self.judgement.counts, self.judge.shares, dataset.classes, title)
        if len(dataset.shape) == 3 and torch.isfinite(samples[:12]).all():
            figures["neighbours"] = plots.neighbours(samples[:12], self.judge.nearest_originals(samples[:12]))
        for name, figure in figures.items():
            with atomic(self.run.plots / f"{name}.png") as path:
                figure.savefig(path)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_figure(name, figure, module.step)

    def state_dict(self) -> dict[str, Any]:
        return {"modes": self._modes, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._modes = {int(step): int(modes) for step, modes in state["modes"].items()}
        self.seconds = float(state["seconds"])
