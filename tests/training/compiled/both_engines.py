"""What the tests of the compiled step share: the same GAN trained by either engine, without Lightning's loop."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from conftest import compose
from omegaconf import DictConfig
from torch import Tensor

from gan_lab.assembly.instantiate import build_data_and_gan, build_module
from gan_lab.core.rng import StepRNG
from gan_lab.data.datamodule import BatchStream
from gan_lab.data.dataset import Dataset
from gan_lab.training.gan_module import GANModule

# Tiny networks, and enough samples for a few epochs.
TINY = ("dataset=ring", "dataset.samples=300", "model.width=8", "batch_size=6", "latent_dim=3")


class Trained:
    """A GAN after some steps by one engine.

    Attributes:
        module: the GAN.
        values: the RECORDED values of each step, `(steps, 5, …)`.
    """

    def __init__(self, cfg: DictConfig, dataset: Dataset, module: GANModule, steps: int, block: int):
        self.module = module
        double = next(module.parameters()).dtype == torch.float64
        strategy = SimpleNamespace(pre_backward=lambda _: None, reduce=lambda values, reduce_op: values)
        trainer: Any = SimpleNamespace(
            optimizers=module.configure_optimizers()[0], strategy=strategy, loggers=[], world_size=1, global_rank=0
        )
        self.optimizers = trainer.optimizers
        module._trainer = trainer
        # No row is due, so that the values of all steps are kept.
        module.apply_settings(replace(module.settings, log_every=steps + 1, steps=steps + 1))
        module.on_train_start()
        labels = dataset.train if module.classes else None
        batch_size = cfg.batch_size * module.remedies.pack_size
        stream = BatchStream(
            dataset.train,
            batch_size,
            cfg.seed,
            steps,
            boundaries=[block],
            replicas=module.replicas,
            n_critic=module.n_critic,
            labels=labels,
        )
        for batches in stream:
            module.training_step(_double(batches) if double else batches)
        self.values = torch.stack(module.step_log.unlogged)

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Yields everything that a checkpoint stores of networks, averages, penalties and optimizers, by name."""
        yield from self.module.state_dict().items()
        for role, optimizer in zip("DG", self.optimizers, strict=True):
            for i, state in optimizer.state_dict()["state"].items():
                for name, value in state.items():
                    if value is not None:
                        yield f"{role}'s {name} {i}", value


def _double(batches: Any) -> Any:
    if isinstance(batches, Tensor):
        return batches.double()
    return batches[0].double(), batches[1]


def train(
    overrides: Sequence[str],
    engine: str,
    dtype: torch.dtype = torch.float32,
    steps: int = 50,
    block: int = 7,
    prepare: Callable[[GANModule], None] = lambda _: None,
) -> Trained:
    """Trains the GAN of a configuration.

    Args:
        overrides: of train.yaml.
        engine: autograd or compiled.
        dtype: of the weights: float32 or float64.
        steps: how many.
        block: steps in a block, which the compiled step plays at once.
        prepare: changes the GAN before the first step.
    """
    cfg = compose(*overrides)
    dataset, module = built(cfg)
    module.engine = engine
    prepare(module)
    if dtype == torch.float64:
        module.double()
        # The same random numbers as in float32.
        sample = module.latents.sample
        module.latents.sample = lambda *arguments: sample(*arguments).double()
        step_rng = module.step_rng
        module.step_rng = lambda *arguments: _SingleRNG(step_rng(*arguments))
    return Trained(cfg, dataset, module, steps, block)


class _SingleRNG:
    """Draws the remedies' random numbers in float32, and returns them as another type."""

    def __init__(self, rng: StepRNG):
        self.rng = rng

    def normal(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return self.rng.normal(shape, torch.float32).to(dtype)


_DATASETS: dict[str, Dataset] = {}


def built(cfg: DictConfig) -> tuple[Dataset, GANModule]:
    """Builds data and GAN; the data only once."""
    key = str(cfg.dataset)
    if key not in _DATASETS:
        _DATASETS[key], module = build_data_and_gan(cfg)
        return _DATASETS[key], module
    return _DATASETS[key], build_module(cfg, _DATASETS[key])


def difference(values: Tensor, others: Tensor) -> float:
    """Returns the largest relative difference."""
    same = values == others
    return float(((values - others).abs() / values.abs()).masked_fill(same, 0).max())
