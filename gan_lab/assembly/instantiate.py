"""Instantiates what a configuration names: data, networks, loss, optimizers, whatever has a `_target_`."""

import inspect
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from gan_lab.assembly.smoke_tests import smoke_test, smoke_test_replicas
from gan_lab.config.references import refuse_unresolved
from gan_lab.config.targets import is_known, refuse_foreign, refuse_foreign_object, targets
from gan_lab.core.errors import LabError, out_of_memory
from gan_lab.data.dataset import Dataset
from gan_lab.evaluation.metrics.custom import Failed, UserMetric, measure
from gan_lab.evaluation.metrics.registry import Undefined
from gan_lab.gan.latent import LabelledLatent, Latent
from gan_lab.gan.losses import LabelSmoothing, Loss
from gan_lab.gan.networks import mlp
from gan_lab.gan.networks.conditional import shape_with_labels
from gan_lab.gan.networks.minibatch_layers import MinibatchDiscrimination, MinibatchStddev
from gan_lab.gan.networks.replicated import Replicated
from gan_lab.gan.remedies import Remedies
from gan_lab.gan.remedies.input_transforms import InputTransform
from gan_lab.gan.remedies.penalties import LeCam
from gan_lab.training.compiled.coverage import not_covered
from gan_lab.training.gan_module import GANModule
from gan_lab.training.settings import GANSettings, MakeOptimizer

TRIAL_SAMPLES = 100  # samples on which a user's metric is tried


def build_data_and_gan(cfg: DictConfig) -> tuple[Dataset, GANModule]:
    """Builds the data and the GAN for them.

    Raises:
        LabError: as `check_targets` and `build_module` do.
    """
    check_targets(cfg)
    dataset = instantiate_part("dataset", cfg.dataset, Dataset)
    return dataset, build_module(cfg, dataset)


def build_user_metrics(cfg: DictConfig, dataset: Dataset) -> dict[str, UserMetric]:
    """Builds the metrics that a configuration adds, by name, and tries each on a few samples before the training.

    Raises:
        LabError: as `check_targets` does; if a metric fails or returns no number.
    """
    check_targets(cfg)
    metrics: dict[str, UserMetric] = {}
    for name, node in cfg.metrics.items():
        metrics[str(name)] = instantiate_part(f"metrics.{name}", node)
    samples = dataset.heldout[torch.arange(min(len(dataset.heldout), TRIAL_SAMPLES))]
    real = dataset.train[torch.arange(min(len(dataset.train), TRIAL_SAMPLES))]
    for name, metric in metrics.items():
        try:
            measure(metric, samples, real)
        except Failed as error:
            raise LabError(
                f"metrics.{name}, tried on {len(samples)} samples of the shape {tuple(dataset.shape)}: {error}.",
                "It is called with samples and real ones, and returns a number or raises "
                "gan_lab.evaluation.metrics.registry.Undefined.",
                code="failed",
                key=f"metrics.{name}",
            ) from error
        except Undefined:
            # More samples may define it.
            pass
    return metrics


def build_module(cfg: DictConfig, dataset: Dataset) -> GANModule:
    """Builds the GAN for a dataset, freshly initialised, and smoke-tests its parts.

    The weights depend on nothing but the configuration; random numbers drawn earlier do not change them.

    Raises:
        LabError: if a part cannot be instantiated or does not fit the others.
    """
    latent, classes = _build_latent(cfg, dataset)
    flat = len(dataset.shape) == 1 or _makes(cfg.model.discriminator, mlp.Discriminator)
    latent_dim = cfg.latent_dim + classes
    optim_d = _build_optimizer(cfg, "optim_d")
    optim_g = _build_optimizer(cfg, "optim_g")
    d_shape = _d_input_shape(cfg, dataset, classes, flat)
    seeds = range(cfg.seed, cfg.seed + cfg.replicas)
    pairs = [_build_networks(cfg, dataset, latent_dim, d_shape, seed) for seed in seeds]

    def settings(replica_dims: Sequence[int]) -> GANSettings:
        return GANSettings(
            loss=_build_loss(cfg),
            latent=latent,
            latent_dim=latent_dim,
            optim_d=optim_d,
            optim_g=optim_g,
            steps=cfg.steps,
            seed=cfg.seed,
            log_every=cfg.log_every,
            joint_d_update=cfg.joint_d_update,
            n_critic=cfg.n_critic,
            n_generator=cfg.n_generator,
            remedies=_build_remedies(cfg, replica_dims),
            classes=classes,
            flat=flat,
        )

    generators, discriminators = zip(*pairs, strict=True)
    module = GANModule(generators[0], discriminators[0], settings(replica_dims=()))
    smoke_test(module, dataset)
    if cfg.replicas > 1:
        module = GANModule(Replicated(generators), Replicated(discriminators), settings(replica_dims=(cfg.replicas,)))
        smoke_test_replicas(module)
    module.engine = _engine(cfg, module)
    return module


def _engine(cfg: DictConfig, module: GANModule) -> str:
    """Returns what plays the steps: with engine=auto the compiled step wherever it can.

    Raises:
        LabError: if engine=compiled can't.
    """
    if cfg.engine == "autograd":
        return "autograd"
    obstacles = []
    trainer = cfg.trainer
    processes = trainer.get("devices", 1) * trainer.get("num_nodes", 1)
    if trainer.accelerator != "cpu" or trainer.precision != "32-true" or processes > 1:
        obstacles.append("anything but trainer=cpu with trainer.precision=32-true")
    if cfg.compile:
        obstacles.append("compile=true")
    obstacles += not_covered(module)
    if not obstacles:
        return "compiled"
    if cfg.engine == "compiled":
        raise LabError(
            f"The compiled step does not cover {'; '.join(obstacles)}.",
            "engine=auto takes autograd for such a training.",
            code="conflict",
            key="engine",
        )
    return "autograd"


def _build_latent(cfg: DictConfig, dataset: Dataset) -> tuple[Latent, int]:
    """Returns the distribution of latent vectors, and the number of classes, 0 if the GAN is not conditional."""
    latent: Latent = instantiate_part("latent", cfg.latent)
    if not cfg.conditional:
        return latent, 0
    classes = len(dataset.classes)
    if classes == 0:
        raise LabError(
            "conditional=true needs data with labels.",
            "digits, mnist and ring, for example, have labels.",
            code="conflict",
            key="conditional",
        )
    counts = dataset.train.label_counts(classes)
    shares = (counts.double() / counts.sum()).tolist()
    return LabelledLatent(latent, tuple(shares)), classes


def _d_input_shape(cfg: DictConfig, dataset: Dataset, classes: int, flat: bool) -> Sequence[int]:
    """Returns the shape of what D gets for one sample, after the input transforms and with the label."""
    transforms: list[InputTransform] = []
    for name, node in cfg.remedy.items():
        if _makes(node, InputTransform):
            transforms.append(instantiate_part(f"remedy.{name}", node, InputTransform))
    shape = tuple(dataset.shape)
    for transform in sorted(transforms, key=lambda transform: transform.order):
        shape = transform.output_shape(shape)
    return shape_with_labels(shape, classes, flat) if classes else shape


def _makes(node: DictConfig, *kinds: type) -> bool:
    """Tells whether a node names one of these classes or a subclass."""
    target = get_object(node._target_)
    return isinstance(target, type) and issubclass(target, kinds)


def _build_remedies(cfg: DictConfig, replica_dims: Sequence[int]) -> Remedies:
    """Builds the remedies that the step uses; those of the loss and the networks are built with these."""
    remedies = []
    for name, node in cfg.remedy.items():
        if _makes(node, LabelSmoothing, MinibatchStddev, MinibatchDiscrimination):
            continue
        arguments: dict[str, Any] = {"replica_dims": replica_dims} if _makes(node, LeCam) else {}
        remedies.append(instantiate_part(f"remedy.{name}", node, **arguments))
    return Remedies.from_list(remedies)


def _build_loss(cfg: DictConfig) -> Loss:
    loss: Loss = instantiate_part("loss", cfg.loss)
    public_methods = [name for name in vars(Loss) if not name.startswith("_")]
    for name in (*Loss.__annotations__, *public_methods):
        if not hasattr(loss, name):
            raise LabError(
                f"loss: {cfg.loss._target_} has no {name}, which the step needs.",
                "--help lists the options.",
                key="loss",
            )
    for name, node in cfg.remedy.items():
        if _makes(node, LabelSmoothing):
            loss = instantiate_part(f"remedy.{name}", node, loss=loss)
    return loss


def _build_networks(
    cfg: DictConfig, dataset: Dataset, latent_dim: int, d_shape: Sequence[int], seed: int
) -> tuple[nn.Module, nn.Module]:
    """Builds generator and discriminator of one GAN, with weights from a seed."""
    pl.seed_everything(seed, verbose=False)
    d_arguments: dict[str, Any] = {"shape": d_shape}
    for name, node in cfg.remedy.items():
        if _makes(node, MinibatchStddev, MinibatchDiscrimination):
            d_arguments["minibatch_layer"] = instantiate_part(f"remedy.{name}", node)
    generator = instantiate_part(
        "model.generator",
        cfg.model.generator,
        nn.Module,
        shape=dataset.shape,
        latent_dim=latent_dim,
        bounded=dataset.bounded,
    )
    discriminator = instantiate_part("model.discriminator", cfg.model.discriminator, nn.Module, **d_arguments)
    return generator, discriminator


def _build_optimizer(cfg: DictConfig, role: str) -> MakeOptimizer:
    """Builds the optimizer factory of D or G: its own group, or `optim` with the values that its group sets."""
    group = cfg[role]
    node = group if "_target_" in group else OmegaConf.merge(cfg.optim, group)
    return instantiate_part(role, node)


def instantiate_part(key: str, node: Any, kind: type | None = None, **arguments: Any) -> Any:
    """Instantiates what a node of the configuration names.

    Args:
        key: of the node, for messages.
        kind: the class that the part must have; None: any.
        arguments: what a `_partial_` node still needs.

    Raises:
        LabError: if that fails, or the part has another class.
    """
    try:
        part = instantiate(node)
        if isinstance(part, partial) and arguments:
            part = part(**arguments)
    except Exception as error:
        # Hydra wraps what the part itself raises.
        cause = error.__cause__ or error
        for problem in (error, cause):
            if isinstance(problem, (LabError, OSError)) or out_of_memory(problem):
                raise
        raise LabError(f"{key}: {node._target_} can't be made: {cause}", key=key) from error
    if kind is not None and not isinstance(part, kind):
        raise LabError(f"{key}: {node._target_} makes a {type(part).__name__}, which can't be used there.", key=key)
    return part


def check_targets(cfg: DictConfig) -> None:
    """Checks that everything with a `_target_` exists, may be used, and takes its settings.

    Trusted modules may lie in the current folder.

    Args:
        cfg: with its references resolved, as `gan_lab.config.check.check` returns it.

    Raises:
        LabError: for the first that does not.
    """
    values: Any = OmegaConf.to_container(cfg)
    refuse_unresolved(values)
    if cfg.trust and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for key, node in targets(values):
        _check_target(key, node, cfg.trust)


def _check_target(key: str, node: dict[str, Any], trust: Sequence[str]) -> None:
    target = node["_target_"]
    refuse_foreign(key, target, trust)
    try:
        part = get_object(target)
    except (TypeError, ValueError, ImportError, InstantiationException) as error:
        advice = "Your own module must lie in the current folder or next to train.py, or be installed."
        raise LabError(
            f"{key}: {target} can't be made: {error}", "" if is_known(target) else advice, code="unknown", key=key
        ) from error
    refuse_foreign_object(key, target, part, trust)
    is_partial = node.get("_partial_")
    settings = {name: None for name in node if not name.startswith("_")}
    # `build` passes the run.
    if is_partial and key.partition(".")[0] in ("callbacks", "logger"):
        settings["run"] = None
    try:
        signature = inspect.signature(part)
        if is_partial:
            signature.bind_partial(**settings)
        else:
            signature.bind(**settings)
    except (TypeError, ValueError) as error:
        raise LabError(f"{key}: {target} can't be made: {error}", key=key) from error
