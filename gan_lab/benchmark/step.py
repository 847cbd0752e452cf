"""The training step in several implementations: gan_lab's two engines, a hand-written loop, JAX, Lightning's usual
pattern, the book's code. And its limit: nothing but its matrix products.

All of them train the networks with the loss and the optimizers of the same configuration. Each function builds its
training, usually plays `WARM_UP` steps, and returns the seconds for the steps after those.
"""

import io
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from gan_lab.assembly.build import build
from gan_lab.assembly.instantiate import build_data_and_gan
from gan_lab.benchmark.timing import Benchmark, Facts
from gan_lab.core.command_line import hydra_text
from gan_lab.core.run_folder import Run
from gan_lab.training.cpu_threads import ProductCounter
from gan_lab.training.gan_module import GANModule

# Steps that are not timed.
WARM_UP = 40
# For the comparison with the book's code, which takes samples one by one.
LARGE_BATCH = 256

# Pictures and the verdict are left out: their cost does not depend on the step.
WITHOUT_EVALUATION = ("~callbacks.pictures", "~callbacks.verdict")
ONE_HIDDEN_LAYER = ("latent_dim=100", "model.depth=1", "model.width=200")
# Overrides of train.yaml, by the names in the key `nets`.
NETWORKS = {
    "default": (),
    "ring": ("dataset=ring", "latent_dim=2", "model.depth=2", "model.width=128"),
    "digits": ("dataset=digits", *ONE_HIDDEN_LAYER),
    "book": ("dataset=mnist", *ONE_HIDDEN_LAYER),
    "dcgan": ("dataset=mnist", "latent_dim=100", "model=conv", "model.channels=16", "norm=batch"),
}

COMPILED = "gan_lab, compiled"
AUTOGRAD = "gan_lab, autograd"
HAND_WRITTEN = "by hand"
JAX = "JAX, jit and scan"
LIMIT = "its products alone"
LIGHTNING = "Lightning's usual pattern"
BOOK = "the book's, per sample"

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
# Rows and columns of the matrices whose product shows how fast this machine multiplies.
LARGE_MATRIX = 512

Implementation = Callable[[DictConfig, int], float]


def benchmarks(_: Path, cfg: DictConfig, compose: Callable[..., DictConfig]) -> tuple[list[Benchmark], Facts]:
    """Returns for each of `cfg.nets` a benchmark of gan_lab's engines and one against Lightning's usual pattern.

    The first compares with a hand-written loop, with JAX where it is installed, and with the time that the step's
    matrix products would take at the speed of a large one. In the second D is updated once per step. For the network
    `book` there is a third, against the book's own code, with a batch of `LARGE_BATCH`.
    """
    cases = []
    flops = {}
    # The last two differ by more than measurements scatter, so shorter turns are enough.
    short = cfg.seconds / 4
    for net in cfg.nets:
        machine = (f"data_dir={hydra_text(cfg.data_dir)}", f"threads={cfg.threads}")
        separate = compose(*NETWORKS[net], *WITHOUT_EVALUATION, *machine)
        joint = separate.copy()
        joint.joint_d_update = True
        is_covered = net != "dcgan"
        implementations: dict[str, Implementation] = {HAND_WRITTEN: time_hand_written, AUTOGRAD: time_autograd}
        if is_covered:
            implementations[COMPILED] = time_gan_lab
        if is_covered and find_spec("jax"):
            # XLA reads this when JAX is imported: as many threads as the others have.
            os.environ.setdefault("XLA_FLAGS", ONE_THREAD if cfg.threads == 1 else "")
            from gan_lab.benchmark.step_jax import time_jax

            implementations[JAX] = time_jax
        implementations[LIMIT] = time_products
        title = f"{net}: steps of {separate.batch_size}"
        cases.append(_benchmark(title, separate, implementations, (HAND_WRITTEN, LIMIT), cfg.seconds))
        title = f"{net}: steps of {joint.batch_size}, D updated once"
        gan_lab = {COMPILED if is_covered else AUTOGRAD: time_gan_lab}
        cases.append(_benchmark(title, joint, {LIGHTNING: time_lightning, **gan_lab}, (LIGHTNING,), short))
        if net == "book":
            large = separate.copy()
            large.batch_size = LARGE_BATCH
            title = f"book: steps of {LARGE_BATCH}"
            cases.append(_benchmark(title, large, {BOOK: time_per_sample, **gan_lab}, (BOOK,), short))
        flops[net] = product_flops(separate) / 1e6
    return cases, {"MFLOP in the matrix products of a step": flops}


def _benchmark(
    title: str,
    cfg: DictConfig,
    implementations: Mapping[str, Implementation],
    baselines: Sequence[str],
    seconds: float,
) -> Benchmark:
    """Returns a benchmark of implementations of the step."""
    candidates = {name: partial(implementation, cfg) for name, implementation in implementations.items()}
    return Benchmark(title, "steps", candidates, baselines, cfg.log_every, seconds)


class _FakeTerminal(io.StringIO):
    """A stream on which progress bars are drawn as on a terminal."""

    def isatty(self) -> bool:
        return True


class _Stopwatch(pl.Callback):
    """Times a number of steps after the first `WARM_UP` ones, then stops the training.

    Works with any module that counts its steps in `step`.
    """

    def __init__(self, steps: int):
        self.steps = steps
        self.seconds = 0.0
        self._start = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        if module.step == WARM_UP:
            self._start = time.perf_counter()
        elif module.step >= WARM_UP + self.steps:
            seconds = time.perf_counter() - self._start
            # A block may end later.
            self.seconds = seconds * self.steps / (module.step - WARM_UP)
            trainer.should_stop = True


def time_gan_lab(cfg: DictConfig, steps: int) -> float:
    """Times `python train.py` in this process, with TensorBoard, metrics.csv, checkpoints and progress bar.

    Args:
        cfg: a checked configuration of train.yaml.
        steps: how many to time.
    """
    cfg = cfg.copy()
    # The stopwatch ends the training, not the number of steps.
    cfg.steps = 10**9
    stopwatch = _Stopwatch(steps)
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(_FakeTerminal()):
        run = Run.new(f"{folder}/run", "")
        training = build(cfg, run)
        training.datamodule.boundaries = [*training.datamodule.boundaries, WARM_UP]
        cast(Any, training.trainer).callbacks.append(stopwatch)
        training.trainer.fit(training.module, training.datamodule)
        run.release()
    return stopwatch.seconds


def time_autograd(cfg: DictConfig, steps: int) -> float:
    """Times `python train.py engine=autograd`, as `time_gan_lab` does."""
    cfg = cfg.copy()
    cfg.engine = "autograd"
    return time_gan_lab(cfg, steps)


def time_hand_written(cfg: DictConfig, steps: int) -> float:
    """Times the same three phases in a plain loop.

    Data are in memory, fakes for D are generated without a graph, D is frozen while G learns, nothing is logged.
    """
    play_step = _hand_written_step(cfg)
    for _ in range(WARM_UP):
        play_step()
    start = time.perf_counter()
    for _ in range(steps):
        play_step()
    return time.perf_counter() - start


def _hand_written_step(cfg: DictConfig) -> Callable[[], None]:
    """Builds the training of `time_hand_written`; returns a function that plays one step."""
    module, data = _gan_and_samples(cfg)
    generator = module.generator
    discriminator = module.discriminator
    loss = module.loss
    (opt_d, opt_g), _ = module.configure_optimizers()
    batch_size = cfg.batch_size
    latent_dim = module.latent_dim
    joint = cfg.joint_d_update

    def play_step() -> None:
        # (1) D on real data.
        real = data.index_select(0, torch.randint(len(data), (batch_size,)))
        loss.d_real(discriminator(real)).mean().backward()
        if not joint:
            opt_d.step()
            opt_d.zero_grad()

        # (2) D on fakes.
        with torch.no_grad():
            fake = generator(torch.randn(batch_size, latent_dim))
        loss.d_fake(discriminator(fake)).mean().backward()
        opt_d.step()
        opt_d.zero_grad()

        # (3) G.
        discriminator.requires_grad_(False)
        loss.g(discriminator(generator(torch.randn(batch_size, latent_dim)))).mean().backward()
        opt_g.step()
        opt_g.zero_grad()
        discriminator.requires_grad_(True)

    return play_step


def product_flops(cfg: DictConfig) -> float:
    """Returns the floating point operations of all matrix products and convolutions of a step."""
    play_step = _hand_written_step(cfg)
    with ProductCounter() as counter:
        play_step()
    return sum(counter.flops)


def time_products(cfg: DictConfig, steps: int) -> float:
    """Times as many operations as the products of the steps have, in products of large square matrices."""
    matrix = torch.rand(LARGE_MATRIX, LARGE_MATRIX)
    products = steps * product_flops(cfg) / (2 * LARGE_MATRIX**3)
    torch.mm(matrix, matrix)
    start = time.perf_counter()
    for _ in range(math.ceil(products)):
        torch.mm(matrix, matrix)
    # What was rounded up is taken off again.
    return (time.perf_counter() - start) * products / math.ceil(products)


class _LightningGAN(pl.LightningModule):
    """A GAN as in Lightning's examples."""

    def __init__(self, gan: GANModule):
        super().__init__()
        self.automatic_optimization = False
        self.generator = gan.generator
        self.discriminator = gan.discriminator
        self.loss = gan.loss
        self.latent_dim = gan.latent_dim
        self.configured_optimizers, _ = gan.configure_optimizers()
        self.step = 0

    def configure_optimizers(self) -> Any:
        return self.configured_optimizers, []

    def training_step(self, batch: list[Tensor]) -> None:
        (real,) = batch
        opt_d, opt_g = cast(Any, self.optimizers())
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


def time_lightning(cfg: DictConfig, steps: int) -> float:
    """Times Lightning's usual pattern: DataLoader, `log_dict` every step, toggled optimizers, one D update per step."""
    gan, data = _gan_and_samples(cfg)
    stopwatch = _Stopwatch(steps)
    loader = DataLoader(TensorDataset(data), cfg.batch_size, shuffle=True, drop_last=True)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(_FakeTerminal()):
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=-1,
            callbacks=[ModelCheckpoint(every_n_train_steps=2000), stopwatch],
            logger=[TensorBoardLogger(folder), CSVLogger(folder)],
            default_root_dir=folder,
            enable_model_summary=False,
        )
        trainer.fit(_LightningGAN(gan), loader)
    return stopwatch.seconds


def time_per_sample(cfg: DictConfig, steps: int) -> float:
    """Times the book's code: sample by sample, and D's updates build G's graph as well.

    A step is `cfg.batch_size` samples. There is no warm-up.
    """
    module, data = _gan_and_samples(cfg)
    generator = module.generator
    discriminator = module.discriminator
    loss = module.loss
    (opt_d, opt_g), _ = module.configure_optimizers()

    def update(optimizer: torch.optim.Optimizer, loss_value: Tensor) -> None:
        optimizer.zero_grad()
        loss_value.mean().backward()
        optimizer.step()

    def samples() -> Iterator[Tensor]:
        for index in torch.randint(len(data), (steps * cfg.batch_size,)).tolist():
            yield data[index : index + 1]

    start = time.perf_counter()
    for real in samples():
        update(opt_d, loss.d_real(discriminator(real)))
        update(opt_d, loss.d_fake(discriminator(generator(torch.randn(1, module.latent_dim)).detach())))
        update(opt_g, loss.g(discriminator(generator(torch.randn(1, module.latent_dim)))))
    return time.perf_counter() - start


def _gan_and_samples(cfg: DictConfig) -> tuple[GANModule, Tensor]:
    """Returns the GAN and all training samples `(N, *shape)`."""
    dataset, module = build_data_and_gan(cfg)
    return module, dataset.train[torch.arange(len(dataset.train))]
