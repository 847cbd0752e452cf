"""From a configuration to the parts of a run. Only this file, `config` and `command` know Hydra."""

import inspect
import logging
import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from gan_lab.callbacks.checkpoints import StopOnSignal
from gan_lab.config import leaves, rule_of
from gan_lab.data import Dataset
from gan_lab.data.datamodule import GANDataModule
from gan_lab.errors import LabError
from gan_lab.gan import GANModule
from gan_lab.runs import Run


@dataclass
class Training:
    """The parts of a run, ready for `gan_lab.training.fit`.

    Attributes:
        callbacks: those of the configuration.
        timer: Lightning's, counts over all parts of an interrupted run.
        stop: knows which signal stopped the training, if one did.
        about: what the configuration says of the run, for its summary: seed, dataset and other parts, overrides.
    """

    module: GANModule
    datamodule: GANDataModule
    trainer: pl.Trainer
    callbacks: list[pl.Callback]
    timer: Timer
    stop: StopOnSignal
    about: dict[str, Any]


# Lightning tells at every start which accelerators there are not, and more that isn't the user's concern.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message=".*LeafSpec.*", module="pytorch_lightning")


def build(cfg: DictConfig, run: Run) -> Training:
    """Makes data, networks, callbacks, loggers and trainer as the configuration says.

    Raises:
        LabError: if parts don't fit together, data are missing, the device isn't there, or all steps are done.
    """
    if run.checkpoint.is_file() and (done := run.load_checkpoint()["gan_lab"]["step"]) >= cfg.steps:
        raise LabError(f"{run.folder} is finished: it has {done} steps.", f"Train on with steps={2 * done}, say.")
    torch.set_num_threads(cfg.threads)
    _check_targets(cfg)
    dataset: Dataset = instantiate(cfg.dataset)
    module = build_module(cfg, dataset)
    callbacks = [_with_run(instantiate(node), run) for node in cfg.callbacks.values()]
    marks = [cfg.log_every, *(callback.every for callback in callbacks if hasattr(callback, "every"))]
    datamodule = GANDataModule(dataset, cfg.batch_size, cfg.seed, cfg.steps, marks)
    timer, stop = Timer(), StopOnSignal()
    trainer = _trainer(cfg, run, [timer, stop, *callbacks])
    about = {"seed": cfg.seed, **_parts(cfg), "overrides": run.overrides()}
    settings = {key: value for key, value in leaves(OmegaConf.to_container(cfg)) if rule_of(key)}
    for logger in trainer.loggers:
        logger.log_hyperparams({**_parts(cfg), **settings})
    return Training(module, datamodule, trainer, callbacks, timer, stop, about)


def load(run: Run, data_dir: str | None = None) -> tuple[GANModule, Dataset]:
    """A run's GAN as its last checkpoint has it, ready to sample, and its data.

    Args:
        data_dir: where the data lie, if not where the run had them.

    Raises:
        LabError: if the checkpoint is missing or damaged, or the data are missing.
    """
    cfg = OmegaConf.load(run.config)
    assert isinstance(cfg, DictConfig)
    if data_dir is not None:
        cfg.data_dir = data_dir
    checkpoint = run.load_checkpoint()
    dataset: Dataset = instantiate(cfg.dataset)
    module = build_module(cfg, dataset)
    module.load_state_dict(checkpoint["state_dict"])
    module.step = checkpoint["gan_lab"]["step"]
    return module, dataset


def build_module(cfg: DictConfig, dataset: Dataset) -> GANModule:
    """The GAN for that data, freshly initialised: the same for the same seed, whatever was drawn before."""
    pl.seed_everything(cfg.seed, verbose=False)
    generator = instantiate(cfg.model.generator)(
        shape=dataset.shape, latent_dim=cfg.latent_dim, bounded=dataset.bounded
    )
    discriminator = instantiate(cfg.model.discriminator)(shape=dataset.shape)
    return GANModule(
        generator,
        discriminator,
        loss=instantiate(cfg.loss),
        latent=instantiate(cfg.latent),
        latent_dim=cfg.latent_dim,
        optim_d=_optimiser(cfg, "optim_d"),
        optim_g=_optimiser(cfg, "optim_g"),
        steps=cfg.steps,
        seed=cfg.seed,
        log_every=cfg.log_every,
        joint_d_update=cfg.joint_d_update,
    )


def _check_targets(node: DictConfig, key: str = "") -> None:
    """Refuses, by name, a `_target_` that isn't there and settings that it doesn't take."""
    for name in map(str, node):
        if OmegaConf.is_dict(node._get_node(name)):
            _check_targets(node[name], f"{key}{name}.")
    if "_target_" in node:
        settings = {name: None for name in map(str, node) if not name.startswith("_")}
        try:
            inspect.signature(get_object(node._target_)).bind_partial(**settings)
        except (TypeError, ValueError, ImportError, InstantiationException) as error:
            raise LabError(f"{key.rstrip('.')}: {node._target_} can't be made: " + str(error)) from error


def _parts(cfg: DictConfig) -> dict[str, str]:
    """What was chosen in each group that is one part, e.g. `{"dataset": "digits", "loss": "BCE", …}`."""
    chosen = ((group, node) for group, node in cfg.items() if OmegaConf.is_dict(node) and "_target_" in node)
    return {str(group): node._target_.rpartition(".")[2] for group, node in chosen}


def _optimiser(cfg: DictConfig, role: str) -> Any:
    """A network's optimiser: its own group, or `optim` with the values that its own group sets."""
    own = cfg[role]
    return instantiate(own if "_target_" in own else OmegaConf.merge(cfg.optim, own))


def _with_run(part: Any, run: Run) -> Any:
    """Parts that write files are `_partial_` in conf/: they wait for the run that they write into."""
    return part(run) if isinstance(part, partial) else part


def _trainer(cfg: DictConfig, run: Run, callbacks: list[pl.Callback]) -> pl.Trainer:
    loggers = [_with_run(instantiate(node), run) for node in cfg.logger.values()]
    try:
        return pl.Trainer(
            **OmegaConf.to_container(cfg.trainer, resolve=True),  # type: ignore[arg-type]
            max_epochs=1,  # the stream ends after `steps` steps
            callbacks=callbacks,
            logger=loggers,
            default_root_dir=run.folder,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise LabError(
            f"This machine can't do what trainer asks for: {error}", "trainer=cpu works anywhere."
        ) from error
