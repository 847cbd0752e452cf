"""The training step, four ways: ours, the best loop by hand, Lightning's usual pattern, the book's code per sample.

All train the networks, loss and optimisers of the same configuration. Each function builds its training, plays WARM_UP
steps and then gives the seconds that the steps after those took. Call them in turns: a machine's load comes and goes.
"""

import io
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from gan_lab.assembly.build import build
from gan_lab.assembly.instantiate import gan_and_data
from gan_lab.benchmark.contest import Contest
from gan_lab.core.run_folder import Run
from gan_lab.training.gan_module import GANModule

WARM_UP = 40
MANY = 256  # samples in a batch, where one may choose

# The networks, by overrides of train.yaml. Pictures and verdict are left out: they cost so much a look, not a step.
BARE = ("~callbacks.pictures", "~callbacks.verdict")
ONE_HIDDEN = ("latent_dim=100", "model.generator.hidden=[200]", "model.discriminator.hidden=[200]")
NETWORKS = {
    "ring": (
        "dataset=ring",
        "latent_dim=2",
        "model.generator.hidden=[128,128]",
        "model.discriminator.hidden=[128,128]",
    ),
    "digits": ("dataset=digits", *ONE_HIDDEN),
    "book": ("dataset=mnist", *ONE_HIDDEN),
    "dcgan": ("dataset=mnist", "latent_dim=100", "model=conv", "model.channels=16", "norm=batch"),
}


BY_HAND, OURS, USUAL, BOOK = "by hand", "gan_lab", "Lightning's usual pattern", "the book's, per sample"


def contests(
    _: Path, asked: Any, training: Callable[..., DictConfig]
) -> tuple[list[Contest], dict[str, dict[str, float]]]:
    """For each of `asked.nets` a contest against a loop by hand, and one against Lightning's usual pattern, both with
    one D update a step; for `book` one against the book's own code, with D's updates in turn and a batch of `MANY`.

    The latter two differ by more than a turn's scatter: a quarter of `asked.seconds` is enough for them.
    """
    held, few = [], asked.seconds / 4
    for net in asked.nets:
        cfg = training(*NETWORKS[net], *BARE, f"data_dir={asked.data_dir}", f"threads={asked.threads}")
        joint, steps = cfg.copy(), f"{net}: steps of {cfg.batch_size}, D updated"
        joint.joint_d_update = True
        held.append(_contest(f"{steps} once", joint, {BY_HAND: by_hand, OURS: ours}, asked.seconds))
        held.append(_contest(f"{steps} once", joint, {USUAL: usual, OURS: ours}, few))
        if net == "book":
            cfg.batch_size = MANY
            held.append(_contest(f"book: steps of {MANY}, D updated in turn", cfg, {BOOK: per_sample, OURS: ours}, few))
    return held, {}


def _contest(
    title: str, cfg: DictConfig, ways: Mapping[str, Callable[[DictConfig, int], float]], seconds: float
) -> Contest:
    play = {name: partial(way, cfg) for name, way in ways.items()}
    return Contest(title, "steps", play, [name for name in ways if name != OURS], cfg.log_every, seconds)


class _Screen(io.StringIO):
    """A terminal for progress bars."""

    def isatty(self) -> bool:
        return True


class _Watch(pl.Callback):
    """Times some steps of a training behind the first, and ends it."""

    def __init__(self, steps: int, count: Callable[[Any], int]):
        self.steps, self.count = steps, count
        self._start = self.seconds = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        done = self.count(module)
        if done == WARM_UP:
            self._start = time.perf_counter()
        elif done >= WARM_UP + self.steps:
            self.seconds = time.perf_counter() - self._start
            trainer.should_stop = True


def ours(cfg: DictConfig, steps: int) -> float:
    """`python train.py` as it is, in this process: TensorBoard, metrics.csv, checkpoints, progress bar.

    Args:
        cfg: a configuration of train.yaml, checked.
        steps: how many are timed; with WARM_UP a multiple of `log_every`.
    """
    cfg = cfg.copy()
    cfg.steps = 10**9
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(_Screen()):
        run = Run.new(f"{folder}/run", "")
        training, watch = build(cfg, run), _Watch(steps, lambda module: module.step)
        training.datamodule.boundaries = [*training.datamodule.boundaries, WARM_UP]
        training.trainer.callbacks.append(watch)  # type: ignore[attr-defined]
        training.trainer.fit(training.module, training.datamodule)
        run.release()
    return watch.seconds


def by_hand(cfg: DictConfig, steps: int) -> float:
    """The same three phases in a plain loop: data in memory, fakes without a graph, D frozen for G, nothing logged."""
    module, values = _parts(cfg)
    generator, discriminator, loss = module.generator, module.discriminator, module.loss
    (opt_d, opt_g), _ = module.configure_optimizers()
    size, latent_dim, joint = cfg.batch_size, module.latent_dim, cfg.joint_d_update
    start = 0.0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            start = time.perf_counter()
        real = values.index_select(0, torch.randint(len(values), (size,)))
        loss.d_real(discriminator(real)).mean().backward()
        if not joint:
            opt_d.step()
            opt_d.zero_grad()
        with torch.no_grad():
            fake = generator(torch.randn(size, latent_dim))
        loss.d_fake(discriminator(fake)).mean().backward()
        opt_d.step()
        opt_d.zero_grad()
        discriminator.requires_grad_(False)
        loss.g(discriminator(generator(torch.randn(size, latent_dim)))).mean().backward()
        opt_g.step()
        opt_g.zero_grad()
        discriminator.requires_grad_(True)
    return time.perf_counter() - start


class _Usual(pl.LightningModule):
    """A GAN as Lightning's examples have it."""

    def __init__(self, gan: GANModule):
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = gan.generator, gan.discriminator
        self.loss, self.latent_dim, self.optimisers = gan.loss, gan.latent_dim, gan.configure_optimizers()[0]
        self.step = 0

    def configure_optimizers(self) -> Any:
        return self.optimisers, []

    def training_step(self, batch: list[Tensor]) -> None:
        (real,) = batch
        opt_d, opt_g = self.optimizers()  # type: ignore[attr-defined]
        fake = self.generator(torch.randn(len(real), self.latent_dim))
        self.toggle_optimizer(opt_d)
        d_real = self.loss.d_real(self.discriminator(real)).mean()
        d_fake = self.loss.d_fake(self.discriminator(fake.detach())).mean()
        self.manual_backward(d_real + d_fake)
        opt_d.step()
        opt_d.zero_grad()
        self.untoggle_optimizer(opt_d)
        self.toggle_optimizer(opt_g)
        g = self.loss.g(self.discriminator(fake)).mean()
        self.manual_backward(g)
        opt_g.step()
        opt_g.zero_grad()
        self.untoggle_optimizer(opt_g)
        self.log_dict({"d_real": d_real, "d_fake": d_fake, "g": g}, prog_bar=True)
        self.step += 1


def usual(cfg: DictConfig, steps: int) -> float:
    """Lightning's usual pattern: DataLoader, `log_dict` every step, toggled optimisers; one D update a step."""
    gan, values = _parts(cfg)
    watch = _Watch(steps, lambda module: module.step)
    loader = DataLoader(TensorDataset(values), cfg.batch_size, shuffle=True, drop_last=True)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(_Screen()):
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=-1,
            callbacks=[ModelCheckpoint(every_n_train_steps=2000), watch],
            logger=[TensorBoardLogger(folder), CSVLogger(folder)],
            default_root_dir=folder,
            enable_model_summary=False,
        )
        trainer.fit(_Usual(gan), loader)
    return watch.seconds


def per_sample(cfg: DictConfig, steps: int) -> float:
    """As the book's code does it: sample after sample, and fakes carry G's graph into D's update.

    A step is as many samples as the others' batch.
    """
    module, values = _parts(cfg)
    generator, discriminator, loss = module.generator, module.discriminator, module.loss
    (opt_d, opt_g), _ = module.configure_optimizers()

    def train(optimiser: torch.optim.Optimizer, value: Tensor) -> None:
        optimiser.zero_grad()
        value.mean().backward()
        optimiser.step()

    def samples() -> Iterator[Tensor]:
        for index in torch.randint(len(values), (steps * cfg.batch_size,)).tolist():
            yield values[index : index + 1]

    start = time.perf_counter()
    for real in samples():
        train(opt_d, loss.d_real(discriminator(real)))
        train(opt_d, loss.d_fake(discriminator(generator(torch.randn(1, module.latent_dim)).detach())))
        train(opt_g, loss.g(discriminator(generator(torch.randn(1, module.latent_dim)))))
    return time.perf_counter() - start


def _parts(cfg: DictConfig) -> tuple[GANModule, Tensor]:
    """The GAN, and the data as they go into D, `(N, *shape)`."""
    dataset, module = gan_and_data(cfg)
    return module, dataset.train[torch.arange(len(dataset.train))]
