"""What a configuration names, made and tried: data, networks, loss, optimisers, whatever has a `_target_`."""

import copy
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gan_lab.config.references import refuse_unresolved
from gan_lab.config.targets import is_known, refuse_foreign, refuse_foreign_object, targets
from gan_lab.core.errors import LabError, out_of_memory
from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import Dataset
from gan_lab.evaluation.metrics.custom import Failed, UserMetric, measure
from gan_lab.evaluation.metrics.registry import Undefined
from gan_lab.gan.latent import LabelledLatent
from gan_lab.gan.losses import LabelSmoothing, Loss
from gan_lab.gan.networks import mlp
from gan_lab.gan.networks.conditional import ConditionalDiscriminator, shape_with_labels
from gan_lab.gan.networks.minibatch_layers import MinibatchDiscrimination, MinibatchStddev
from gan_lab.gan.networks.replicated import Replicated
from gan_lab.gan.remedies import Remedies
from gan_lab.gan.remedies.generator_losses import GeneratorLoss
from gan_lab.gan.remedies.input_transforms import InputTransform
from gan_lab.gan.remedies.penalties import LeCam, Penalty
from gan_lab.training.callbacks.checkpoints import memory_of_a_step
from gan_lab.training.gan_module import GANModule

TRIED = 100  # samples on which a user's own metric is tried


def gan_and_data(cfg: DictConfig) -> tuple[Dataset, GANModule]:
    """The data, and the GAN for them. Raises LabError as `build_module` and `check_targets` do."""
    check_targets(cfg)
    dataset = made_of("dataset", cfg.dataset, Dataset)
    return dataset, build_module(cfg, dataset)


def own_metrics(cfg: DictConfig, dataset: Dataset) -> dict[str, UserMetric]:
    """The metrics that a configuration adds, by name, each tried on a few samples: no training is lost to a bad one.

    Raises:
        LabError: as `check_targets` does; if one fails, or gives no number.
    """
    check_targets(cfg)
    made = {str(name): made_of(f"metrics.{name}", node) for name, node in cfg.metrics.items()}
    for name, metric in made.items():
        fresh, real = (part[torch.arange(min(len(part), TRIED))] for part in (dataset.heldout, dataset.train))
        try:
            measure(metric, fresh, real)
        except Failed as error:
            raise LabError(
                f"metrics.{name}, tried on {len(fresh)} samples of the shape {tuple(dataset.shape)}: {error}.",
                "It is called with samples and real ones, and returns a number or raises gan_lab.evaluation.metrics.registry.Undefined.",
            ) from error
        except Undefined:  # of so few
            pass
    return made


def build_module(cfg: DictConfig, dataset: Dataset) -> GANModule:
    """The GAN for that data, freshly initialised: the same for the same seed, whatever was drawn before.

    Raises:
        LabError: if a part can't be made, or doesn't fit the others.
    """
    latent, classes = made_of("latent", cfg.latent), 0
    if cfg.conditional:
        if not dataset.classes:
            raise LabError(
                "conditional=true needs data with labels.", "digits, mnist and ring, for example, have some."
            )
        counts = dataset.train.label_counts(len(dataset.classes))
        classes, latent = len(dataset.classes), LabelledLatent(latent, tuple((counts.double() / counts.sum()).tolist()))
    flat = len(dataset.shape) == 1 or _is(cfg.model.discriminator, mlp.Discriminator)
    input_transforms = [
        made_of(f"remedy.{name}", node, InputTransform) for name, node in _remedies(cfg) if _is(node, InputTransform)
    ]
    rest: dict[str, Any] = {
        "latent": latent,
        "latent_dim": cfg.latent_dim + classes,
        "optim_d": _optimiser(cfg, "optim_d"),
        "optim_g": _optimiser(cfg, "optim_g"),
        "classes": classes,
        "flat": flat,
        **{key: cfg[key] for key in ("steps", "seed", "log_every", "joint_d_update", "n_critic", "n_generator")},
    }
    shown = dataset.shape
    for view in sorted(input_transforms, key=lambda view: view.order):
        shown = view.output_shape(shown)
    asked = {"shape": dataset.shape, "latent_dim": cfg.latent_dim + classes, "bounded": dataset.bounded}
    judged = shape_with_labels(shown, classes, flat) if classes else shown
    pairs = [_networks(cfg, asked, judged, seed) for seed in range(cfg.seed, cfg.seed + cfg.replicas)]
    module = GANModule(*pairs[0], loss=_loss(cfg), remedies=_made_remedies(cfg, ()), **rest)
    _try_out(module, dataset)
    if cfg.replicas > 1:
        generators, discriminators = map(Replicated, zip(*pairs, strict=True))
        remedies = _made_remedies(cfg, (cfg.replicas,))
        module = GANModule(generators, discriminators, loss=_loss(cfg), remedies=remedies, **rest)
        _try_together(module)
    return module


def _remedies(cfg: DictConfig) -> list[tuple[str, DictConfig]]:
    """The chosen ones that are parts, by name; others only set what other groups have."""
    return [(name, node) for name, node in cfg.remedy.items() if "_target_" in node]


def _is(node: DictConfig, *kinds: type) -> bool:
    made = get_object(node._target_)
    return isinstance(made, type) and issubclass(made, kinds)


def _made_remedies(cfg: DictConfig, replica_dims: Sequence[int]) -> Remedies:
    """What the step plays: the loss and the networks have taken theirs."""
    taken = (LabelSmoothing, MinibatchStddev, MinibatchDiscrimination)
    known: dict[str, Any] = {"replica_dims": replica_dims}
    own = [(f"remedy.{name}", node) for name, node in _remedies(cfg) if not _is(node, *taken)]
    return Remedies.from_list(made_of(key, node, **(known if _is(node, LeCam) else {})) for key, node in own)


def _loss(cfg: DictConfig) -> Loss:
    loss = made_of("loss", cfg.loss)
    asked = [*Loss.__annotations__, *(name for name in vars(Loss) if not name.startswith("_"))]
    if lacking := [name for name in asked if not hasattr(loss, name)]:
        raise LabError(
            f"loss: {cfg.loss._target_} has no {lacking[0]}, which a step asks for.", "--help lists the options."
        )
    for name, node in _remedies(cfg):
        if _is(node, LabelSmoothing):
            loss = made_of(f"remedy.{name}", node, loss=loss)
    return loss


def _networks(
    cfg: DictConfig, asked_of_g: dict[str, Any], judged: Sequence[int], seed: int
) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator of one GAN; D takes samples of the shape `judged`."""
    pl.seed_everything(seed, verbose=False)
    of_d: dict[str, Any] = {"shape": judged}
    for name, node in _remedies(cfg):
        if _is(node, MinibatchStddev, MinibatchDiscrimination):
            of_d["minibatch_layer"] = made_of(f"remedy.{name}", node)
    return (
        made_of("model.generator", cfg.model.generator, nn.Module, **asked_of_g),
        made_of("model.discriminator", cfg.model.discriminator, nn.Module, **of_d),
    )


def made_of(key: str, node: Any, kind: type | None = None, **known: Any) -> Any:
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
    """Uses each part once, on few samples, without training: what can't do its part is told by name.

    Raises:
        LabError: for a part that fails, or gives what has another shape than the step needs.
    """
    module.eval()  # changes nothing: no statistics, no dropout
    loss, scores, n = module.loss, torch.zeros(2), 2 * module.remedies.pack_size
    first = torch.zeros(n, dtype=torch.int64)
    labels = dataset.train.labels_of(first) if module.classes else None
    d = [lambda: loss.d(scores, scores)[0], lambda: loss.d(scores, scores)[1]]
    trials: list[tuple[str, Callable[[], Tensor], tuple[int, ...]]] = [
        ("latent", lambda: module.latent((2, module.latent_dim), make_generator(0, "trial")), (2, module.latent_dim)),
        ("model.generator", lambda: module.generator(torch.zeros(2, module.latent_dim)), (2, *dataset.shape)),
        ("model.discriminator", lambda: module.judged(dataset.train[first], labels), (2,)),
        *((f"loss.{term}", trial, (2,)) for term, trial in zip(("d_real", "d_fake"), d, strict=True)),
        ("loss.g", lambda: loss.g(scores, scores), (2,)),
        ("loss.d_output", lambda: loss.d_output(scores), (2,)),
        *_trials_of_remedies(module, dataset.train[first], labels),
    ]
    for key, trial, shape in trials:
        try:
            found = tuple(trial().shape)
        except Exception as error:
            if isinstance(error, LabError) or out_of_memory(error):
                raise
            raise LabError(f"{key} doesn't work as it is configured: {error}", "--help lists the options.") from error
        if found != shape:
            mend = "Activations must keep it." if key.startswith("model") else ""
            raise LabError(f"{key} gives the shape {found}, where a step needs {shape}.", mend)
    for role in ("optim_d", "optim_g"):
        try:
            memory_of_a_step(getattr(module, role), [nn.Parameter(torch.zeros(2, 2))])
        except Exception as error:
            raise LabError(f"{role} doesn't work as it is configured: {error}", "--help lists the options.") from error
    module.train()


def _trials_of_remedies(
    module: GANModule, real: Tensor, labels: Tensor | None
) -> Iterator[tuple[str, Callable[[], Tensor], tuple[int, ...]]]:
    """Each penalty and aim asked once, as a step asks it; a penalty gives a value for each score, an aim one."""
    remedies, critic, draws = module.remedies, module.discriminator, module.draws(0, "trial")
    if labels is not None:
        critic = ConditionalDiscriminator(critic, one_hot(labels, module.classes).to(real.dtype), module.flat)

    @torch.enable_grad()
    def asked(remedy: Penalty | GeneratorLoss) -> Tensor:
        z = torch.zeros(len(real), module.latent_dim)
        made = module.generator(z)
        shown_fake, shown_real = (remedies.transform(samples, 0, draws) for samples in (made, real))
        if isinstance(remedy, Penalty):
            return remedy(critic, shown_real, shown_fake.detach(), draws)
        return remedy(critic, z, made, shown_fake, shown_real)  # type: ignore[arg-type]

    several: tuple[Penalty | GeneratorLoss, ...] = (*remedies.penalties, *remedies.generator_losses)
    for each in several:
        shape = (len(real) // remedies.pack_size,) if isinstance(each, Penalty) else ()
        yield f"remedy: {type(each).__name__}", partial(asked, each), shape


@torch.no_grad()
def _try_together(module: GANModule) -> None:
    """Plays copies of replicated networks as training does.

    Raises:
        LabError: for networks that can't be played together: random layers, say, or such that look at their values.
    """
    trial = copy.deepcopy(module)
    n = 2 * module.remedies.pack_size
    z = torch.zeros(*module.replica_dims, n, module.latent_dim)
    try:
        trial.judged(trial.generator(z), module.labels_of(z))
    except Exception as error:
        if out_of_memory(error):
            raise
        raise LabError(
            f"model: these networks can't be trained with replicas={module.replicas}: {error}",
            "Train seeds one by one instead: -m seed=0,1,2",
        ) from error


def check_targets(cfg: DictConfig) -> None:
    """Refuses, by name, what is to be made but isn't there, comes from elsewhere, or doesn't take its settings.

    What is trusted may lie in the current folder.

    Args:
        cfg: with its references resolved, as `gan_lab.config.check.check` returns it.
    """
    values: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    refuse_unresolved(values)
    if cfg.trust and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for key, node in targets(values):
        target = node["_target_"]
        refuse_foreign(key, target, cfg.trust)
        settings = {name: None for name in node if not name.startswith("_")}
        if key.partition(".")[0] in ("callbacks", "logger") and node.get("_partial_"):
            settings["run"] = None
        try:
            found = get_object(target)
        except (TypeError, ValueError, ImportError, InstantiationException) as error:
            lost = "A module of your own has to lie in the current folder or beside train.py, or be installed."
            raise LabError(f"{key}: {target} can't be made: {error}", "" if is_known(target) else lost) from error
        refuse_foreign_object(key, target, found, cfg.trust)
        try:
            signature = inspect.signature(found)
            bind = signature.bind_partial if node.get("_partial_") else signature.bind
            bind(**settings)
        except (TypeError, ValueError) as error:
            raise LabError(f"{key}: {target} can't be made: {error}") from error


def _optimiser(cfg: DictConfig, role: str) -> Any:
    """A network's optimiser: its own group, or `optim` with the values that its own group sets."""
    own = cfg[role]
    return made_of(role, own if "_target_" in own else OmegaConf.merge(cfg.optim, own))
