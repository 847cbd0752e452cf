"""From a configuration to a training, or to the GAN of a finished or interrupted run."""

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.nn.modules.conv import _ConvNd

from gan_lab.assembly.instantiate import (
    build_data_and_gan,
    build_module,
    build_user_metrics,
    check_targets,
    instantiate_part,
)
from gan_lab.config.launchers import cores
from gan_lab.config.resume import load_config
from gan_lab.config.schema import is_hyperparameter, leaves, scope_of
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run, resume_command
from gan_lab.core.terminal import say
from gan_lab.data.datamodule import GANDataModule
from gan_lab.data.dataset import Dataset
from gan_lab.data.digest import digest_of, refuse_other_data
from gan_lab.evaluation.metrics.custom import UserMetric
from gan_lab.evaluation.verdict import too_few_samples
from gan_lab.gan.remedies.penalties import LeCam
from gan_lab.training import cpu_threads, resume_state
from gan_lab.training.callbacks.base import GANCallback
from gan_lab.training.callbacks.checkpoints import Checkpoint, CheckpointFile, StopOnSignal, check_form, load_weights
from gan_lab.training.callbacks.clock import Clock
from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.callbacks.loggers import silence_writer_thread
from gan_lab.training.callbacks.nan_guard import NaNGuard
from gan_lab.training.ddp import ProcessGroup
from gan_lab.training.gan_module import GANModule
from gan_lab.training.sampling import score_batch

Parameters = dict[str, dict[str, Any]]  # of the remedies, by name
StoredCheckpoint = dict[str, Any]


@dataclass
class Training:
    """The parts of a run, ready for `gan_lab.commands.train.fit`.

    Attributes:
        callbacks: those of the configuration.
        nan_guard: explains where NaN or infinity arose.
        clock: counts the time over all parts of an interrupted run.
        stop: knows which signal stopped the training, if one did.
        description: what the configuration says about the run, for its summary: seed, dataset and other parts,
            remedies, overrides.
        remedies: their settings by name, in the order in which they were named.
        process_group: the processes that train it.
        resumed_from: the checkpoint, already read, from which it is resumed; None if it starts anew.
    """

    module: GANModule
    datamodule: GANDataModule
    trainer: pl.Trainer
    callbacks: list[pl.Callback]
    nan_guard: NaNGuard
    clock: Clock
    stop: StopOnSignal
    description: dict[str, Any]
    remedies: Parameters
    process_group: ProcessGroup
    resumed_from: Path | None = None


def prepare_libraries() -> None:
    """Sets up torch and Lightning for this process: a command calls it once, before anything else of this package."""
    # Lightning reports at every start which accelerators are missing, and more that doesn't concern the user.
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", module="pytorch_lightning")
    # Where Slurm is installed, Lightning advises every run outside of it to use it.
    warnings.filterwarnings("ignore", message="The `srun` command is available")
    # torch warns twice of more workers than cores, which are the user's choice.
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    # Lightning sets it at import; torch then looks for a driver at every optimiser step, 100 µs where there is none.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    # Until the threads of a configuration are known.
    torch.set_num_threads(1)
    silence_writer_thread()


def build(cfg: DictConfig, run: Run) -> Training:
    """Builds data, networks, callbacks, loggers and trainer as the configuration says.

    Args:
        cfg: resolved and checked, as `gan_lab.config.check.check` returns it. `threads=auto` and `threads=tune` are
            replaced by a number.
        run: a new run, or one to resume.

    Raises:
        LabError: if parts do not fit together, data are missing, the device is absent, or all steps are done.
    """
    checkpoint = _checkpoint_to_resume(cfg, run)
    dataset, module = build_data_and_gan(cfg)
    digest = digest_of(dataset)
    user_metrics = build_user_metrics(cfg, dataset)
    process_group = ProcessGroup(cfg.trainer.get("devices", 1), cfg.trainer.get("num_nodes", 1), list(cfg.trust))
    if checkpoint and process_group.is_leader and not cfg.force:
        advice = "Put those back, or start a new run. force=true continues with the new data."
        refuse_other_data(checkpoint, digest, run.folder, advice)
    _settle_threads(cfg, dataset, module)
    if checkpoint:
        load_weights(module, checkpoint, run)
    if cfg.get("compile", False):
        _compile(module, process_group.is_leader)

    callbacks = _build_callbacks(cfg, run, user_metrics)
    datamodule = GANDataModule(
        dataset,
        cfg.batch_size * module.remedies.pack_size,
        cfg.seed,
        cfg.steps,
        _boundaries(callbacks),
        _stops(callbacks),
        cfg.get("workers", 0),
        digest,
    )
    loggers: list[Logger] = []
    if process_group.is_leader:
        datamodule.refuse_small_shared_memory(module, process_group.devices, process_group.nodes)
        for name, node in cfg.logger.items():
            loggers.append(instantiate_part(f"logger.{name}", node, Logger, run=run))
    else:
        # One process shows and writes; all take part in a checkpoint.
        callbacks = [callback for callback in callbacks if isinstance(callback, Checkpoint)]
    clock = Clock()
    stop = StopOnSignal()
    nan_guard = NaNGuard()
    trainer = _build_trainer(cfg, [clock, stop, nan_guard, *callbacks], loggers, run, checkpoint)
    _warn_of_slow_replicas(module, trainer)
    _warn_of_few_samples(callbacks, dataset)
    if checkpoint:
        sample_shape = (*module.replica_dims, *dataset.shape)
        _check_resumable(run, checkpoint, module, [clock, *callbacks], sample_shape, trainer.strategy.root_device)
        if process_group.is_leader and checkpoint[resume_state.KEY].get("engine", module.engine) != module.engine:
            say(f"The {module.engine} step continues what the other engine began: the same steps, rounded differently.")

    remedies = _remedy_settings(cfg)
    for logger in trainer.loggers:
        logger.log_hyperparams({**_parts(cfg), "remedy": ", ".join(remedies) or "none", **_settings(cfg)})
    return Training(
        module=module,
        datamodule=datamodule,
        trainer=trainer,
        callbacks=callbacks,
        nan_guard=nan_guard,
        clock=clock,
        stop=stop,
        description={"seed": cfg.seed, **_parts(cfg), "remedy": list(remedies), "overrides": run.overrides()},
        remedies=remedies,
        process_group=process_group,
        resumed_from=run.checkpoint if checkpoint else None,
    )


def _checkpoint_to_resume(cfg: DictConfig, run: Run) -> StoredCheckpoint | None:
    """Reads the run's newest whole checkpoint; None if it has none.

    Raises:
        LabError: if the run is finished.
    """
    if not run.whole_checkpoint():
        return None
    checkpoint = run.load_checkpoint()
    step = checkpoint[resume_state.KEY]["step"]
    # Without a summary it was killed between the last step and the summary.
    if step > cfg.steps or (step == cfg.steps and run.finished(step)):
        raise LabError(
            f"{run.folder} is finished: it has {step} steps.",
            f"Train on, for example: {resume_command(run.folder, f'steps={2 * step}')}",
            code="conflict",
            key="steps",
        )
    return checkpoint


def _compile(module: GANModule, is_leader: bool) -> None:
    """Compiles both networks with torch.compile, or G only, as the leader says, where a gradient is differentiated."""
    module.generator.compile()
    remedies = module.remedies
    penalties = [penalty for penalty in remedies.penalties if not isinstance(penalty, LeCam)]
    if penalties or remedies.unrolled:
        if is_leader:
            say("torch.compile can't differentiate a gradient, as penalties and unrolling may do: only G is compiled.")
        return
    module.discriminator.compile()


def _build_callbacks(cfg: DictConfig, run: Run, user_metrics: Mapping[str, UserMetric]) -> list[pl.Callback]:
    callbacks: list[pl.Callback] = []
    for name, node in cfg.callbacks.items():
        callback = instantiate_part(f"callbacks.{name}", node, pl.Callback, run=run)
        if isinstance(callback, Evaluation):
            callback.user_metrics = user_metrics
        callbacks.append(callback)
    return callbacks


def _boundaries(callbacks: Sequence[pl.Callback]) -> list[int]:
    """Returns the periods, in steps, at whose multiples a block of steps ends."""
    periods = []
    for callback in callbacks:
        if isinstance(callback, GANCallback) and callback.every is not None:
            periods.append(callback.every)
    return periods


def _stops(callbacks: Sequence[pl.Callback]) -> list[int]:
    """Returns the steps, besides those multiples, at which a block of steps ends."""
    steps: set[int] = set()
    for callback in callbacks:
        if isinstance(callback, GANCallback):
            steps.update(callback.early_steps)
    return sorted(steps)


def _warn_of_few_samples(callbacks: Sequence[pl.Callback], dataset: Dataset) -> None:
    for callback in callbacks:
        if isinstance(callback, Evaluation):
            warning = too_few_samples(callback.samples, dataset)
            if warning:
                say(f"callbacks.verdict.{warning}")


def _warn_of_slow_replicas(module: GANModule, trainer: pl.Trainer) -> None:
    has_convolutions = any(isinstance(layer, _ConvNd) for layer in module.modules())
    if module.replicas > 1 and has_convolutions and trainer.strategy.root_device.type == "cpu":
        say("Convolutions on a CPU gain little from replicas; -m seed=… hydra/launcher=local is as fast.")


def _check_resumable(
    run: Run,
    checkpoint: StoredCheckpoint,
    module: GANModule,
    callbacks: Sequence[pl.Callback],
    sample_shape: Sequence[int],
    device: torch.device,
) -> None:
    try:
        check_form(checkpoint, module, callbacks, sample_shape, device)
    except Exception as error:
        reason = str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
        raise LabError(
            f"{run.folder} can't be resumed from its checkpoint: {reason}",
            "Name another run.",
            code="damaged",
            key=run.checkpoint.name,
        ) from error


class DryRun:
    """The GAN and the data of a configuration, for trials before a training, which they do not change.

    Attributes:
        dataset: its data.
        batch_size: samples in a batch: those of `batch_size` packs if D scores packs.
        parts: what was chosen in each group, e.g. `{"loss": "BCE", …}`.
        evaluated_samples: how many samples the verdict will be about; None: as many as papers take.

    Raises:
        LabError: if parts do not fit together, or data are missing.
    """

    def __init__(self, cfg: DictConfig):
        self.seed: int = cfg.seed
        self.parts = _parts(cfg)
        self.evaluated_samples: int | None = OmegaConf.select(cfg, "callbacks.verdict.samples")
        self._cfg = cfg
        if cfg.get("replicas", 1) > 1:
            # The members have the same architecture: one is enough.
            self._cfg = cfg.copy()
            self._cfg.replicas = 1
        self.dataset, module = build_data_and_gan(self._cfg)
        self.batch_size: int = cfg.batch_size * module.remedies.pack_size
        build_user_metrics(self._cfg, self.dataset)
        _settle_threads(self._cfg, self.dataset, module)

    def module(self) -> GANModule:
        """Builds the GAN as it is before its first step; autograd plays it, as trials look into single operations."""
        module = build_module(self._cfg, self.dataset)
        module.engine = "autograd"
        return module

    def play(self, module: GANModule, steps: int, *callbacks: pl.Callback) -> None:
        """Trains a module for some steps, as the training would begin; a row of its log is due at every step."""
        module.apply_settings(replace(module.settings, steps=steps, log_every=1))
        _play(self._cfg, self.dataset, module, *callbacks)


def _play(cfg: DictConfig, dataset: Dataset, module: GANModule, *callbacks: pl.Callback) -> None:
    """Trains a module without a run; each block has one step."""
    batch_size = cfg.batch_size * module.remedies.pack_size
    data = GANDataModule(dataset, batch_size, cfg.seed, module.steps, boundaries=[1])
    try:
        _build_trainer(cfg, callbacks, []).fit(module, data)
    except SystemExit:
        # What Lightning turns a KeyboardInterrupt into.
        raise KeyboardInterrupt from None


def _settle_threads(cfg: DictConfig, dataset: Dataset, module: GANModule) -> None:
    """Replaces `threads=auto` and `threads=tune` by a number, which the run keeps, and uses so many threads.

    Where threads share the members no bit depends on their number: `auto` stays, and each machine uses what it has.
    """
    if cfg.threads == "auto" and not module.trains_members_apart:
        cfg.threads = _threads_by_work(cfg, module)
    elif cfg.threads == "tune":
        # The training's own random numbers stay as they are.
        with torch.random.fork_rng():
            cfg.threads = _threads_by_trials(cfg, dataset)
    _use_threads(cfg.threads, module)


def _use_threads(number: int | str, module: GANModule) -> None:
    """Uses a number of threads for a training: for its members where they are trained apart, else in torch.

    Args:
        number: may be `auto` for members.
    """
    if module.trains_members_apart:
        if isinstance(number, str):
            number = cpu_threads.threads_for_members(module.replicas, cores)
        module.member_threads = min(number, module.replicas)
        number = 1
    cpu_threads.set_threads(number)


def _threads_by_work(cfg: DictConfig, module: GANModule) -> int:
    """Returns the number of threads for the size of the networks and of a process's share of the batch."""
    processes = cfg.trainer.get("devices", 1)
    samples = cfg.batch_size * module.remedies.pack_size
    share = samples // (processes * cfg.trainer.get("num_nodes", 1))

    def score_fakes(z: torch.Tensor) -> torch.Tensor:
        return score_batch(module, module.generator(z), module.target_labels(z))

    # In evaluation mode nothing changes: no statistics are collected.
    module.eval()
    z = torch.zeros(*module.replica_dims, 2 * module.remedies.pack_size, module.latent_dim)
    product = cpu_threads.typical_product(score_fakes, z, share)
    module.train()
    return cpu_threads.threads_for(product, lambda: max(1, cores() // processes))


def _threads_by_trials(cfg: DictConfig, dataset: Dataset) -> int:
    """Returns the fastest number of threads in trials with GANs that are thrown away."""

    def seconds_per_step(number: int) -> float:
        module = build_module(cfg, dataset)
        _use_threads(number, module)
        steps = cpu_threads.TRIAL_STEPS
        module.apply_settings(replace(module.settings, steps=steps, log_every=steps))
        stopwatch = cpu_threads.Stopwatch()
        _play(cfg, dataset, module, stopwatch)
        return stopwatch.seconds / stopwatch.steps

    return cpu_threads.fastest(seconds_per_step, cpu_threads.candidates(cores()))


def load(
    run: Run,
    data_dir: str | None = None,
    trust: Sequence[str] = (),
    path: str | None = None,
    threads: int | str = "auto",
) -> tuple[GANModule, Dataset]:
    """Loads a run's GAN from its newest whole checkpoint, ready to sample, and its data.

    Args:
        data_dir, path: where the data are (`path`: a packed file), if not where the run had them.
        trust: packages besides gan_lab, torch and Lightning whose code its configuration may name.
        threads: `auto`: as many as the run had.

    Raises:
        LabError: if configuration or checkpoint are missing or damaged, or the data are missing.
    """
    cfg = load_config(run, trust, data_dir, path)
    cpu_threads.set_threads(cfg.threads if threads == "auto" else threads)
    checkpoint = run.load_checkpoint()
    dataset, module = build_data_and_gan(cfg)
    if module.trains_members_apart and threads == "auto":
        # The run's threads were for its members, and torch had one.
        cpu_threads.set_threads(1)
    advice = "Put those back, or say where they are: data.path=… for a packed file, data_dir=… for the others."
    refuse_other_data(checkpoint, digest_of(dataset), run.folder, advice)
    load_weights(module, checkpoint, run)
    module.step = checkpoint[resume_state.KEY]["step"]
    return module, dataset


def load_run(cfg: DictConfig) -> tuple[Run, GANModule, Dataset]:
    """Loads the run that a command names by `run`, from the places that it names; see `load`."""
    run = Run.existing(cfg.run)
    return run, *load(run, cfg.data_dir or None, cfg.trust, cfg.data.path, cfg.threads)


def load_data(cfg: DictConfig) -> tuple[Dataset, GANModule | None]:
    """Loads the data that a command names and, if it names a `run`, the run's (first) GAN.

    Raises:
        LabError: if the run was trained on other data; see `load`.
    """
    if cfg.run is None:
        cpu_threads.set_threads(cfg.threads)
        check_targets(cfg)
        return instantiate_part("dataset", cfg.dataset, Dataset), None
    run = Run.existing(cfg.run)
    dataset_of_command = dataset_name(cfg)
    dataset_of_run = dataset_name(load_config(run, cfg.trust))
    if dataset_of_command != dataset_of_run:
        raise LabError(
            f"{run.folder} is a run of {dataset_of_run}, not of {dataset_of_command}.",
            "Give dataset=… as the run has it, or name another run.",
            code="conflict",
            key="dataset",
        )
    module, dataset = load(run, cfg.data_dir, cfg.trust, cfg.data.path, cfg.threads)
    return dataset, module.member(0)


def dataset_name(cfg: DictConfig) -> str:
    """Returns a dataset's name and settings, but not where its files are, e.g. `digits(heldout=0.2)`."""
    name = cfg.dataset._target_.rpartition(".")[2]
    settings = []
    for key, value in cfg.dataset.items():
        if key != "_target_" and scope_of(f"dataset.{key}") != "place":
            settings.append(f"{key}={value}")
    return f"{name}({', '.join(settings)})" if settings else name


def _parts(cfg: DictConfig) -> dict[str, str]:
    """Returns what was chosen in each group that is one part, e.g. `{"dataset": "digits", "loss": "BCE", …}`."""
    parts = {}
    for group, node in cfg.items():
        if OmegaConf.is_dict(node) and "_target_" in node:
            parts[str(group)] = node._target_.rpartition(".")[2]
    return parts


def _remedy_settings(cfg: DictConfig) -> Parameters:
    """Returns the settings of each remedy by name."""
    remedies: Any = OmegaConf.to_container(cfg.remedy, resolve=True)
    return {name: dict(leaves(node)) for name, node in remedies.items()}


def _settings(cfg: DictConfig) -> dict[str, Any]:
    """Returns the hyperparameters by dotted key: neither what computes the training nor what is shown of it."""
    values = leaves(OmegaConf.to_container(cfg))
    return {key: value for key, value in values if is_hyperparameter(key)}


def _build_trainer(
    cfg: DictConfig,
    callbacks: Sequence[pl.Callback],
    loggers: list[Logger],
    run: Run | None = None,
    checkpoint: StoredCheckpoint | None = None,
) -> pl.Trainer:
    """Builds Lightning's trainer; without a run one for trials in this process only."""
    options: Any = OmegaConf.to_container(cfg.trainer, resolve=True)
    # Otherwise Lightning would follow the variables of Slurm, torchrun, LSF or MPI, whatever `devices` says. They are
    # in the environment of every shell in an allocation, also where nothing was started by srun.
    environment = LightningEnvironment()
    processes = options.get("devices", 1) * options.get("num_nodes", 1)
    if run is None or processes == 1:
        options |= {"devices": 1, "num_nodes": 1, "strategy": "auto"}
        # A rank in those variables counts from Lightning's import on: with another than 0 nothing would be written.
        environment.set_global_rank(0)
    try:
        return pl.Trainer(
            **options,
            max_epochs=1,  # the stream of batches ends after `steps` steps
            callbacks=list(callbacks),
            plugins=[CheckpointFile(checkpoint), environment],
            use_distributed_sampler=False,
            logger=loggers,
            default_root_dir=run.folder if run else None,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise LabError(
            f"This machine can't do what trainer asks for: {error}",
            "trainer=cpu works anywhere.",
            code="unsupported",
            key="trainer",
        ) from error
