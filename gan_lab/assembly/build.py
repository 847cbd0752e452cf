"""From a configuration to a training, or to what is left of one; by the parts of `parts`."""

import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.nn.modules.conv import _ConvNd

from gan_lab.assembly.instantiate import build_module, check_targets, gan_and_data, made_of, own_metrics
from gan_lab.config.launchers import cores
from gan_lab.config.resume import load_config
from gan_lab.config.schema import is_hyperparameter, leaves
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import say
from gan_lab.data.datamodule import GANDataModule
from gan_lab.data.dataset import Dataset
from gan_lab.data.digest import digest_of, refuse_other_data
from gan_lab.training import cpu_threads
from gan_lab.training.callbacks.checkpoints import Checkpoint, CheckpointFile, StopOnSignal, check_form, fill
from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.callbacks.loggers import silence_writer_thread
from gan_lab.training.callbacks.nan_guard import NaNGuard
from gan_lab.training.ddp import ProcessGroup
from gan_lab.training.gan_module import GANModule


@dataclass
class Training:
    """The parts of a run, ready for `gan_lab.commands.train.fit`.

    Attributes:
        callbacks: those of the configuration.
        timer: Lightning's, counts over all parts of an interrupted run.
        stop: knows which signal stopped the training, if one did.
        team: the processes that train it.
        about: what the configuration says of the run, for its summary: seed, dataset and other parts, remedies,
            overrides.
        remedies: their settings by name, in the order in which they were named.
        resumed: where the checkpoint lies from which it goes on, which was read already; None if it begins.
    """

    module: GANModule
    datamodule: GANDataModule
    trainer: pl.Trainer
    callbacks: list[pl.Callback]
    timer: Timer
    stop: StopOnSignal
    about: dict[str, Any]
    remedies: dict[str, dict[str, Any]]
    team: ProcessGroup
    resumed: Path | None = None


def prepare_libraries() -> None:
    """Sets up torch and Lightning for this process: a command calls it once, before anything else of this room."""
    # Lightning reports at every start which accelerators are missing, and more that doesn't concern the user.
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", module="pytorch_lightning")
    # Where Slurm is installed, Lightning advises every run outside of it to use it.
    warnings.filterwarnings("ignore", message="The `srun` command is available")
    # Lightning sets it at import; torch then looks for a driver at every optimiser step, 100 µs where there is none.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    # Until the threads of a configuration are known.
    torch.set_num_threads(1)
    silence_writer_thread()


def build(cfg: DictConfig, run: Run) -> Training:
    """Makes data, networks, callbacks, loggers and trainer as the configuration says.

    Args:
        cfg: resolved and checked, as `gan_lab.config.check.check` returns it; gets the number of threads that
            `threads=auto` and `threads=tune` stand for.

    Raises:
        LabError: if parts don't fit together, data are missing, the device isn't there, or all steps are done.
    """
    checkpoint = run.load_checkpoint() if run.whole_checkpoint() else None
    done = checkpoint["gan_lab"]["step"] if checkpoint else 0
    if done > cfg.steps or (done == cfg.steps and run.finished(done)):  # else killed between last step and summary
        raise LabError(f"{run.folder} is finished: it has {done} steps.", f"Train on with steps={2 * done}, say.")
    dataset, module = gan_and_data(cfg)
    digest = digest_of(dataset)
    own = own_metrics(cfg, dataset)
    team = ProcessGroup(cfg.trainer.get("devices", 1), cfg.trainer.get("num_nodes", 1), list(cfg.trust))
    if checkpoint and team.leads and not cfg.force:
        mend = "Put those back, or start a new run. force=true makes it go on with the new ones."
        refuse_other_data(checkpoint, digest, run.folder, mend)
    _settle_threads(cfg, dataset, module)
    if checkpoint:
        fill(module, checkpoint, run)
    if cfg.get("compile", False):
        for network in (module.generator, module.discriminator):
            network.compile()
    callbacks = [made_of(f"callbacks.{name}", node, pl.Callback, run=run) for name, node in cfg.callbacks.items()]
    for verdict in (callback for callback in callbacks if isinstance(callback, Evaluation)):
        verdict.user_metrics = own
    boundaries = [cfg.log_every, *(callback.every for callback in callbacks if hasattr(callback, "every"))]
    workers = cfg.get("workers", 0)  # runs of older versions have none
    datamodule = GANDataModule(dataset, cfg.batch_size, cfg.seed, cfg.steps, boundaries, workers, digest)
    timer, stop = Timer(), StopOnSignal()
    if not team.leads:  # one process shows and writes; keeping is done together
        callbacks = [callback for callback in callbacks if isinstance(callback, Checkpoint)]
    asked = cfg.logger.items() if team.leads else ()
    loggers = [made_of(f"logger.{name}", node, Logger, run=run) for name, node in asked]
    trainer = _trainer(cfg, [timer, stop, NaNGuard(), *callbacks], loggers, run, checkpoint)
    device = trainer.strategy.root_device
    if module.replicas > 1 and device.type == "cpu" and any(isinstance(each, _ConvNd) for each in module.modules()):
        say("Convolutions on a CPU gain little from replicas; -m seed=… hydra/launcher=local is as fast.")
    if checkpoint:
        try:
            check_form(checkpoint, module, [timer, *callbacks], (*module.replica_dims, *dataset.shape), device)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}" if not isinstance(error, LabError) else str(error)
            raise LabError(
                f"{run.folder}: its checkpoint can't be gone on with: {reason}", "Name another run."
            ) from error
    chosen: dict[str, Any] = OmegaConf.to_container(cfg.remedy, resolve=True)  # type: ignore[assignment]
    remedies = {name: dict(leaves(node)) for name, node in chosen.items()}
    about = {"seed": cfg.seed, **_parts(cfg), "remedy": list(remedies), "overrides": run.overrides()}
    for logger in trainer.loggers:
        logger.log_hyperparams({**_parts(cfg), "remedy": ", ".join(remedies) or "none", **_settings(cfg)})
    resumed = run.checkpoint if checkpoint else None
    return Training(module, datamodule, trainer, callbacks, timer, stop, about, remedies, team, resumed)


class DryRun:
    """What a training by this configuration would be made of, for trials before it: the training itself is untouched.

    Attributes:
        dataset: its data.
        parts: what was chosen in each group, e.g. `{"loss": "BCE", …}`.

    Raises:
        LabError: if parts don't fit together, or data are missing.
    """

    def __init__(self, cfg: DictConfig):
        self.seed, self.batch_size, self.parts = cfg.seed, cfg.batch_size, _parts(cfg)
        if cfg.get("replicas", 1) > 1:
            cfg = OmegaConf.merge(cfg, {"replicas": 1})  # type: ignore[assignment]  # the first member stands for all
        self._cfg = cfg
        self.dataset, module = gan_and_data(cfg)
        own_metrics(cfg, self.dataset)
        _settle_threads(cfg, self.dataset, module)

    def module(self) -> GANModule:
        """The GAN before its first step, a new one each time."""
        return build_module(self._cfg, self.dataset)

    def play(self, module: GANModule, steps: int, *callbacks: pl.Callback) -> None:
        """Lets a module train for so many steps, as the training would begin; a row of its log is due at every step."""
        module.steps, module.log_every = steps, 1
        _play(self._cfg, self.dataset, module, *callbacks, boundaries=[1])


def _play(
    cfg: DictConfig, dataset: Dataset, module: GANModule, *callbacks: pl.Callback, boundaries: Sequence[int]
) -> None:
    data = GANDataModule(dataset, cfg.batch_size, cfg.seed, module.steps, boundaries)
    try:
        _trainer(cfg, callbacks, []).fit(module, data)
    except SystemExit:  # Lightning's answer to a KeyboardInterrupt
        raise KeyboardInterrupt from None


def _settle_threads(cfg: DictConfig, dataset: Dataset, module: GANModule) -> None:
    """Puts a number in the place of `threads=auto` or `tune`, for a run keeps to it, and lets torch use so many."""
    if cfg.threads == "auto":
        z = torch.zeros(*module.replica_dims, 2 * module.remedies.pack_size, module.latent_dim)
        module.eval()  # changes nothing: no statistics, no dropout
        share = cfg.batch_size // (cfg.trainer.get("devices", 1) * cfg.trainer.get("num_nodes", 1))
        product = cpu_threads.typical_product(
            lambda z: module.judged(module.generator(z), module.labels_of(z)), z, share
        )
        module.train()
        cfg.threads = cpu_threads.for_product(product, lambda: max(1, cores() // cfg.trainer.get("devices", 1)))
    elif cfg.threads == "tune":
        with torch.random.fork_rng():  # the training's own course stays as it is
            cfg.threads = _tuned(cfg, dataset)
    torch.set_num_threads(cfg.threads)


def _tuned(cfg: DictConfig, dataset: Dataset) -> int:
    """The fastest number of threads in trials with GANs that are thrown away."""

    def seconds() -> float:
        module, watch = build_module(cfg, dataset), cpu_threads.Stopwatch()
        module.steps = module.log_every = cpu_threads.TRIAL_STEPS
        _play(cfg, dataset, module, watch, boundaries=[1])
        return watch.seconds / watch.steps

    return cpu_threads.fastest(seconds, cpu_threads.candidates(cores()))


def load(
    run: Run,
    data_dir: str | None = None,
    trust: Sequence[str] = (),
    path: str | None = None,
    computing_with: int | str = "auto",
) -> tuple[GANModule, Dataset]:
    """A run's GAN as its newest whole checkpoint has it, ready to sample, and its data.

    Args:
        data_dir, path: where the data lie (`path`: a packed file), if not where the run had them.
        trust: packages beside gan_lab, torch and Lightning whose code its configuration may name.
        computing_with: how many threads; auto: as many as the run had.

    Raises:
        LabError: if configuration or checkpoint are missing or damaged, or the data are missing.
    """
    cfg = load_config(run, trust, data_dir, path)
    cpu_threads.use(cfg.threads if computing_with == "auto" else computing_with)
    checkpoint = run.load_checkpoint()
    dataset, module = gan_and_data(cfg)
    mend = "Put those back, or say where they lie: data.path=… for a packed file, data_dir=… for the others."
    refuse_other_data(checkpoint, digest_of(dataset), run.folder, mend)
    fill(module, checkpoint, run)
    module.step = checkpoint["gan_lab"]["step"]
    return module, dataset


def load_data(cfg: DictConfig) -> tuple[Dataset, GANModule | None]:
    """The data that a command names, and the (first) GAN of its `run`, if it names one, which must be of the same data.

    Raises:
        LabError: if it is of others; see `load`.
    """
    if cfg.run is None:
        cpu_threads.use(cfg.threads)
        check_targets(cfg)
        return made_of("dataset", cfg.dataset, Dataset), None
    run = Run.existing(cfg.run)
    asked, own = _data_named(cfg), _data_named(load_config(run, cfg.trust))
    if asked != own:
        raise LabError(
            f"{run.folder} is a run of {own}, not of {asked}.", "Say dataset=… as the run has it, or name another run."
        )
    module, dataset = load(run, cfg.data_dir, cfg.trust, cfg.data.path, cfg.threads)
    return dataset, module.member(0)


def _data_named(cfg: DictConfig) -> str:
    """A dataset and its settings, wherever its files lie, e.g. `digits(heldout=0.2)`."""
    settings = ((key, value) for key, value in cfg.dataset.items() if key not in ("_target_", "data_dir", "memory"))
    said = ", ".join(f"{key}={value}" for key, value in settings)
    return f"{cfg.dataset._target_.rpartition('.')[2]}{f'({said})' if said else ''}"


def _parts(cfg: DictConfig) -> dict[str, str]:
    """What was chosen in each group that is one part, e.g. `{"dataset": "digits", "loss": "BCE", …}`."""
    chosen = ((group, node) for group, node in cfg.items() if OmegaConf.is_dict(node) and "_target_" in node)
    return {str(group): node._target_.rpartition(".")[2] for group, node in chosen}


def _settings(cfg: DictConfig) -> dict[str, Any]:
    """Returns the hyperparameters by dotted key: neither what computes the training nor what is shown of it."""
    values = leaves(OmegaConf.to_container(cfg))
    return {key: value for key, value in values if is_hyperparameter(key)}


def _trainer(
    cfg: DictConfig,
    callbacks: Sequence[pl.Callback],
    loggers: list[Logger],
    run: Run | None = None,
    checkpoint: dict[str, Any] | None = None,
) -> pl.Trainer:
    options: dict[str, Any] = OmegaConf.to_container(cfg.trainer, resolve=True)  # type: ignore[assignment]
    plugins: list[Any] = [CheckpointFile(checkpoint), LightningEnvironment()]  # not Slurm's: see `gan_lab.training.ddp`
    if not run or options.get("devices", 1) * options.get("num_nodes", 1) == 1:  # a rehearsal needs no others
        options |= {"devices": 1, "num_nodes": 1, "strategy": "auto"}
        plugins.pop()
    try:
        return pl.Trainer(
            **options,
            max_epochs=1,  # the stream ends after `steps` steps
            callbacks=list(callbacks),
            plugins=plugins,
            use_distributed_sampler=False,
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
