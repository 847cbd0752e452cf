"""From a configuration to the parts of a run. Only this file, `config` and `command` know Hydra."""

import inspect
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from gan_lab.callbacks.checkpoints import CheckpointFile, StopOnSignal, check_form
from gan_lab.callbacks.finite import Finite
from gan_lab.config import stored
from gan_lab.data import Dataset
from gan_lab.data.datamodule import GANDataModule
from gan_lab.errors import LabError, out_of_memory
from gan_lab.gan import GANModule, memory_of_a_step
from gan_lab.rules import leaves, refuse_foreign, rule_of, targets, within
from gan_lab.runs import Run
from gan_lab.streams import stream

ASIDE = ("callbacks", "logger", "trainer", "name", "resume", "force", "trust", "objective", "threads", "log_every")


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
    checkpoint = run.load_checkpoint() if run.whole_checkpoint() else None
    done = checkpoint["gan_lab"]["step"] if checkpoint else 0
    if done > cfg.steps or (done == cfg.steps and run.finished(done)):  # else killed between last step and summary
        raise LabError(f"{run.folder} is finished: it has {done} steps.", f"Train on with steps={2 * done}, say.")
    torch.set_num_threads(cfg.threads)
    dataset, module = _gan(cfg)
    if checkpoint:
        _fill(module, checkpoint, run)
    callbacks = [_made(f"callbacks.{name}", node, pl.Callback, run=run) for name, node in cfg.callbacks.items()]
    marks = [cfg.log_every, *(callback.every for callback in callbacks if hasattr(callback, "every"))]
    datamodule = GANDataModule(dataset, cfg.batch_size, cfg.seed, cfg.steps, marks)
    timer, stop = Timer(), StopOnSignal()
    loggers = [_made(f"logger.{name}", node, Logger, run=run) for name, node in cfg.logger.items()]
    trainer = _trainer(cfg, [timer, stop, Finite(), *callbacks], loggers, run)
    if checkpoint:
        try:
            check_form(checkpoint, module, [timer, *callbacks], dataset.shape, trainer.strategy.root_device)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}" if not isinstance(error, LabError) else str(error)
            raise LabError(
                f"{run.folder}: its checkpoint can't be gone on with: {reason}", "Name another run."
            ) from error
    about = {"seed": cfg.seed, **_parts(cfg), "overrides": run.overrides()}
    for logger in trainer.loggers:
        logger.log_hyperparams({**_parts(cfg), **_settings(cfg)})
    return Training(module, datamodule, trainer, callbacks, timer, stop, about)


class Rehearsal:
    """What a training by this configuration would be made of, for trials before it: the training itself is untouched.

    Attributes:
        dataset: its data.
        parts: what was chosen in each group, e.g. `{"loss": "BCE", …}`.

    Raises:
        LabError: if parts don't fit together, or data are missing.
    """

    def __init__(self, cfg: DictConfig):
        torch.set_num_threads(cfg.threads)
        self.seed, self.batch_size, self.parts = cfg.seed, cfg.batch_size, _parts(cfg)
        self._cfg = cfg
        self.dataset, _ = _gan(cfg)

    def module(self) -> GANModule:
        """The GAN before its first step, a new one each time."""
        return build_module(self._cfg, self.dataset)

    def play(self, module: GANModule, steps: int, *callbacks: pl.Callback) -> None:
        """Lets a module train for so many steps, as the training would begin; a row of its log is due at every step."""
        module.steps, module.log_every = steps, 1
        data = GANDataModule(self.dataset, self.batch_size, self.seed, steps, marks=[1])
        try:
            _trainer(self._cfg, callbacks, []).fit(module, data)
        except SystemExit:  # Lightning's answer to a KeyboardInterrupt
            raise KeyboardInterrupt from None


def load(run: Run, data_dir: str | None = None, trust: Sequence[str] = ()) -> tuple[GANModule, Dataset]:
    """A run's GAN as its newest whole checkpoint has it, ready to sample, and its data.

    Args:
        data_dir: where the data lie, if not where the run had them.
        trust: packages beside gan_lab, torch and Lightning whose code its configuration may name.

    Raises:
        LabError: if configuration or checkpoint are missing or damaged, or the data are missing.
    """
    cfg = stored(run, trust)
    if data_dir is not None:
        cfg.data_dir = data_dir
    checkpoint = run.load_checkpoint()
    dataset, module = _gan(cfg)
    _fill(module, checkpoint, run)
    module.step = checkpoint["gan_lab"]["step"]
    return module, dataset


def load_data(cfg: DictConfig) -> tuple[Dataset, GANModule | None]:
    """The data that a command names, and the GAN of its `run`, if it names one, which must be of the same data.

    Raises:
        LabError: if it is of others; see `load`.
    """
    if cfg.run is None:
        _check_targets(cfg)
        return _made("dataset", cfg.dataset, Dataset), None
    run = Run.existing(cfg.run)
    asked, own = _data_named(cfg), _data_named(stored(run, cfg.trust))
    if asked != own:
        raise LabError(
            f"{run.folder} is a run of {own}, not of {asked}.", "Say dataset=… as the run has it, or name another run."
        )
    module, dataset = load(run, cfg.data_dir, cfg.trust)
    return dataset, module


def _data_named(cfg: DictConfig) -> str:
    """A dataset and its settings, wherever its files lie, e.g. `digits(heldout=0.2)`."""
    settings = ((key, value) for key, value in cfg.dataset.items() if key not in ("_target_", "data_dir"))
    said = ", ".join(f"{key}={value}" for key, value in settings)
    return f"{cfg.dataset._target_.rpartition('.')[2]}{f'({said})' if said else ''}"


def _fill(module: GANModule, checkpoint: dict[str, Any], run: Run) -> None:
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except (RuntimeError, TypeError, AttributeError) as error:
        first = str(error).splitlines()[:2][-1].strip()
        raise LabError(
            f"{run.folder}: its checkpoint is of other networks than its {run.config.name}: {first}"
        ) from error


def _gan(cfg: DictConfig) -> tuple[Dataset, GANModule]:
    _check_targets(cfg)
    dataset = _made("dataset", cfg.dataset, Dataset)
    return dataset, build_module(cfg, dataset)


def build_module(cfg: DictConfig, dataset: Dataset) -> GANModule:
    """The GAN for that data, freshly initialised: the same for the same seed, whatever was drawn before.

    Raises:
        LabError: if a part can't be made, or doesn't fit the others.
    """
    pl.seed_everything(cfg.seed, verbose=False)
    asked_of_g = {"shape": dataset.shape, "latent_dim": cfg.latent_dim, "bounded": dataset.bounded}
    module = GANModule(
        _made("model.generator", cfg.model.generator, nn.Module, **asked_of_g),
        _made("model.discriminator", cfg.model.discriminator, nn.Module, shape=dataset.shape),
        loss=_made("loss", cfg.loss),
        latent=_made("latent", cfg.latent),
        latent_dim=cfg.latent_dim,
        optim_d=_optimiser(cfg, "optim_d"),
        optim_g=_optimiser(cfg, "optim_g"),
        steps=cfg.steps,
        seed=cfg.seed,
        log_every=cfg.log_every,
        joint_d_update=cfg.joint_d_update,
    )
    _try_out(module, dataset)
    return module


def _made(key: str, node: Any, kind: type | None = None, **known: Any) -> Any:
    """What a node of the configuration names; one that is `_partial_` has waited for what is `known` by now.

    Raises:
        LabError: if making it fails, or it isn't of its `kind`.
    """
    try:
        made = instantiate(node)
        made = made(**known) if isinstance(made, partial) and known else made
    except Exception as error:
        causes = [error, error.__cause__]
        if any(isinstance(each, (LabError, OSError)) or (each and out_of_memory(each)) for each in causes):
            raise
        raise LabError(f"{key}: {node._target_} can't be made: {error.__cause__ or error}") from error
    if kind and not isinstance(made, kind):
        raise LabError(f"{key}: {node._target_} makes a {type(made).__name__}, which can't be used there.")
    return made


@torch.no_grad()
def _try_out(module: GANModule, dataset: Dataset) -> None:
    """Uses each part once, on two samples, without training: what can't do its part is told by name.

    Raises:
        LabError: for a part that fails, or gives what has another shape than the step needs.
    """
    module.eval()  # changes nothing: no statistics, no dropout
    loss, scores = module.loss, torch.zeros(2)
    trials: list[tuple[str, Callable[[], Tensor], tuple[int, ...]]] = [
        ("latent", lambda: module.latent((2, module.latent_dim), stream(0, "trial")), (2, module.latent_dim)),
        ("model.generator", lambda: module.generator(torch.zeros(2, module.latent_dim)), (2, *dataset.shape)),
        ("model.discriminator", lambda: module.discriminator(dataset.train[torch.tensor([0, 0])]), (2,)),
        *((f"loss.{term}", lambda term=term: getattr(loss, term)(scores), (2,)) for term in ("d_real", "d_fake", "g")),
        ("loss.answer", lambda: loss.answer(scores), (2,)),
    ]
    for key, trial, shape in trials:
        try:
            found = tuple(trial().shape)
        except Exception as error:
            if out_of_memory(error):
                raise
            raise LabError(f"{key} doesn't work as it is configured: {error}", "--help lists the options.") from error
        if found != shape:
            raise LabError(f"{key} gives the shape {found}, where a step needs {shape}.", "Activations must keep it.")
    for role in ("optim_d", "optim_g"):
        try:
            memory_of_a_step(getattr(module, role), [nn.Parameter(torch.zeros(2, 2))])
        except Exception as error:
            raise LabError(f"{role} doesn't work as it is configured: {error}", "--help lists the options.") from error
    module.train()


def _check_targets(cfg: DictConfig) -> None:
    """Refuses, by name, what is to be made but isn't there, comes from elsewhere, or doesn't take its settings."""
    for key, node in targets(OmegaConf.to_container(cfg, resolve=True)):
        settings = {name: None for name in node if not name.startswith("_")}
        if key.partition(".")[0] in ("callbacks", "logger") and node.get("_partial_"):
            settings["run"] = None
        try:
            made = get_object(node["_target_"])
            bind = inspect.signature(made).bind_partial if node.get("_partial_") else inspect.signature(made).bind
            bind(**settings)
        except (TypeError, ValueError, ImportError, InstantiationException) as error:
            raise LabError(f"{key}: {node['_target_']} can't be made: {error}") from error
        if not within(node["_target_"], cfg.trust):  # what one of our modules imports isn't ours
            refuse_foreign(key, f"{made.__module__}.{made.__qualname__}", cfg.trust)


def _parts(cfg: DictConfig) -> dict[str, str]:
    """What was chosen in each group that is one part, e.g. `{"dataset": "digits", "loss": "BCE", …}`."""
    chosen = ((group, node) for group, node in cfg.items() if OmegaConf.is_dict(node) and "_target_" in node)
    return {str(group): node._target_.rpartition(".")[2] for group, node in chosen}


def _settings(cfg: DictConfig) -> dict[str, Any]:
    """The values that make a training what it is, by dotted key: not where things lie, nor how it is shown."""
    values = leaves(OmegaConf.to_container(cfg))
    return {key: value for key, value in values if rule_of(key) and not within(key, ASIDE) and "_dir" not in key}


def _optimiser(cfg: DictConfig, role: str) -> Any:
    """A network's optimiser: its own group, or `optim` with the values that its own group sets."""
    own = cfg[role]
    return _made(role, own if "_target_" in own else OmegaConf.merge(cfg.optim, own))


def _trainer(
    cfg: DictConfig, callbacks: Sequence[pl.Callback], loggers: list[Logger], run: Run | None = None
) -> pl.Trainer:
    try:
        return pl.Trainer(
            **OmegaConf.to_container(cfg.trainer, resolve=True),  # type: ignore[arg-type]
            max_epochs=1,  # the stream ends after `steps` steps
            callbacks=list(callbacks),
            plugins=[CheckpointFile()],
            logger=loggers,
            default_root_dir=run.folder if run else None,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise LabError(
            f"This machine can't do what trainer asks for: {error}", "trainer=cpu works anywhere."
        ) from error
