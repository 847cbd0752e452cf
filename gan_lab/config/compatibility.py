"""Refuses parts that can't go together, by what they declare about themselves; imports no torch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gan_lab.config.declarations import declared
from gan_lab.config.schema import SEED
from gan_lab.config.targets import option_of, targets
from gan_lab.core.declare import SITUATIONS, Declaration
from gan_lab.core.errors import LabError
from gan_lab.evaluation.metrics.registry import METRICS
from gan_lab.gan.networks.shape_checks import CHECKS, check_norm

# Optimisers of torch that update each number by itself: the members of a replicated GAN don't influence each other.
ELEMENTWISE_OPTIMIZERS = {
    f"torch.optim.{name}"
    for name in ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")
}

# The parts that may declare what they can't be combined with, besides remedies.
DECLARING_PARTS = ("dataset", "model.generator", "model.discriminator", "latent", "loss", "norm")

ONE_BY_ONE = "Train seeds one by one instead: -m seed=0,1,2"
HOW_TO_ADD_A_METRIC = (
    "Say '+metrics.<name>={_target_: your_module.your_function, _partial_: true}'; docs/architecture.md has one."
)

# Columns of comparison.csv besides settings and metrics.
COLUMNS = {"run", "variant", "member", "status", "reason", "error", "seconds", "collapsed"}
COLUMNS |= {"collapse", "within_modes", "copies", "likeness", "balance"}


@dataclass(frozen=True)
class Part:
    """A part of a configuration.

    Attributes:
        key: where it is in the configuration, `norm` or `remedy.r1`.
        target: its class or function.
        settings: its node in the configuration.
        declaration: what it declares.
    """

    key: str
    target: str
    settings: dict[str, Any]
    declaration: Declaration

    @property
    def label(self) -> str:
        """What the user chose: `norm=batch`, `remedy=[r1]`, or its class where no option has it."""
        group, _, name = self.key.partition(".")
        if group == "remedy":
            return f"remedy=[{name}]"
        return option_of(group, self.target) or f"{self.key}={self.target}"

    def is_called(self, name: str) -> bool:
        """Tells whether its class has this name, with as much of the module's as the name has."""
        return f".{self.target}".endswith(f".{name}")


def check_compatibility(values: dict[str, Any]) -> None:
    """Refuses parts that can't go together, whatever the data's values.

    Args:
        values: a training's configuration, each value and each part good by itself.

    Raises:
        LabError: naming what doesn't fit, and the way out.
    """
    parts = []
    for key, node in targets(values):
        group, _, name = key.partition(".")
        is_remedy = group == "remedy" and "." not in name
        if key in DECLARING_PARTS or is_remedy:
            parts.append(Part(key, node["_target_"], node, declared(node["_target_"])))
    _check_processes(values, parts)
    _check_replicas(values)
    situations = _situations(values, parts)
    for part in sorted(parts, key=lambda part: part.key):
        _check_conflicts(part, parts, situations)
    low = values["latent"].get("low", 0)
    high = values["latent"].get("high", 1)
    if low >= high:
        raise LabError(f"latent.low={low} has to be below latent.high={high}.", code="conflict", key="latent.low")
    _check_shapes(values, parts)


def _situations(values: dict[str, Any], parts: list[Part]) -> dict[str, str]:
    """Returns which of `SITUATIONS` hold, each with the settings that it comes from."""
    batch_size = values["batch_size"]
    has_vectors = any(part.declaration.vectors for part in parts)
    # Vectors have one value of each feature per sample, so statistics over a batch need several samples.
    holds = {
        "batch_of_one": batch_size == 1,
        "one_vector": batch_size == 1 and has_vectors,
        "replicas": values["replicas"] > 1,
        "ddp": _processes(values) > 1,
        "conditional": values["conditional"],
    }
    texts = {
        **SITUATIONS,
        "one_vector": "batch_size=1",
        "replicas": f"replicas={values['replicas']}",
        "ddp": "trainer=ddp",
    }
    return {name: texts[name] for name in holds if holds[name]}


def _check_conflicts(part: Part, parts: list[Part], situations: dict[str, str]) -> None:
    """Refuses a part together with another part, or in a situation, that it declares a conflict with."""
    for name, (reason, hint) in part.declaration.conflicts.items():
        others = [other.label for other in parts if other.is_called(name)]
        if name in situations:
            others.append(situations[name])
        if others:
            raise LabError(
                f"{part.label} can't be combined with {others[0]}: {reason}.", hint, code="conflict", key=part.key
            )


def _next_multiple(number: int, of: int) -> int:
    """Returns the smallest multiple that is at least the number."""
    return math.ceil(number / of) * of


def _check_shapes(values: dict[str, Any], parts: list[Part]) -> None:
    """Refuses networks that can't make the data's samples, and normalisations that can't work in them."""
    shape = declared(values["dataset"]["_target_"]).sample_shape
    norm = values["norm"]["_target_"].rpartition(".")[2]
    for part in parts:
        check = part.declaration.shape_check
        if check and shape:
            CHECKS[check](shape, part.settings)
    for role in ("generator", "discriminator"):
        for width in _widths(values["model"][role]):
            check_norm(norm, (width,), values["norm"].get("groups", 1))


def _widths(network: dict[str, Any]) -> list[int]:
    """Returns the different widths of a fully connected network's hidden layers; [] for other networks."""
    hidden = network.get("hidden")
    if hidden is not None:
        return list(dict.fromkeys(hidden))
    has_hidden_layers = "width" in network and network.get("depth") != 0
    if not has_hidden_layers:
        return []
    return [network["width"]]


def _check_replicas(values: dict[str, Any]) -> None:
    """Refuses what would mix the members of a replicated GAN."""
    replicas = values["replicas"]
    if replicas == 1:
        return
    # Member i has the seed `seed + i`.
    last = values["seed"] + replicas - 1
    if not SEED.fits(last):
        raise LabError(
            f"replicas={replicas} would need the seeds up to {last}: seed has to be {SEED}.",
            code="conflict",
            key="seed",
        )
    for role in ("optim", "optim_d", "optim_g"):
        target = values[role].get("_target_")
        if target and target not in ELEMENTWISE_OPTIMIZERS:
            raise LabError(
                f"{role}: {target} would mix the members of replicas={replicas}.", ONE_BY_ONE, code="conflict", key=role
            )
    if _processes(values) > 1:
        raise LabError(
            "replicas are for one process.",
            "Leave trainer=ddp out, or train one GAN, replicas=1.",
            code="conflict",
            key="replicas",
        )


def _processes(values: dict[str, Any]) -> int:
    """Returns how many processes train one GAN."""
    trainer = values["trainer"]
    processes: int = trainer.get("devices", 1) * trainer.get("num_nodes", 1)
    return processes


def _check_processes(values: dict[str, Any], parts: list[Part]) -> None:
    """Refuses what several processes that train one GAN can't do."""
    trainer = values["trainer"]
    for key in ("devices", "num_nodes"):
        number = max(values[key], trainer.get(key, 1))
        if number > 1 and "strategy" not in trainer:
            raise LabError(
                f"{key}={number}: several processes train one GAN with trainer=ddp.",
                "Say trainer=ddp.",
                code="conflict",
                key="trainer",
            )
    processes = _processes(values)
    if processes == 1:
        return
    batch_size = values["batch_size"]
    if batch_size % processes:
        raise LabError(
            f"batch_size={batch_size} can't be shared by {processes} processes.",
            f"Take a multiple of {processes}, for example batch_size={_next_multiple(batch_size, processes)}.",
            code="conflict",
            key="batch_size",
        )
    for part in _remedies(parts):
        if not part.declaration.per_sample:
            raise LabError(
                f"{part.label} can't be combined with trainer=ddp: each process would see only its share of a batch.",
                "Leave one of them out. A remedy that treats each sample independently declares per_sample=True.",
                code="conflict",
                key=part.key,
            )


def _remedies(parts: list[Part]) -> Iterator[Part]:
    """Yields the parts that are remedies."""
    for part in parts:
        if part.key.startswith("remedy."):
            yield part


def check_metrics(values: dict[str, Any]) -> None:
    """Refuses metrics of the user that can't be called, or whose name has another meaning.

    Args:
        values: the configuration of any command.

    Raises:
        LabError: naming the metric.
    """
    metrics = values.get("metrics", {})
    if not isinstance(metrics, dict):
        raise LabError(
            f"metrics={metrics} is not allowed: gan_lab's own are always measured, yours need a name.",
            HOW_TO_ADD_A_METRIC,
            key="metrics",
        )
    # Names of settings as well: comparison.csv has a column for each setting that varies.
    taken = METRICS.keys() | COLUMNS | values.keys()
    for name, node in metrics.items():
        key = f"metrics.{name}"
        if not isinstance(node, dict) or "_target_" not in node or node.get("_partial_") is not True:
            raise LabError(f"{key} names no function that can be called with samples.", HOW_TO_ADD_A_METRIC, key=key)
        if not str(name).isidentifier():
            raise LabError(
                f"{key}: the name of a metric has only letters, digits and _.", "Choose another one.", key=key
            )
        if name in taken:
            raise LabError(
                f"{key}: that name has another meaning already.", "Choose another one.", code="conflict", key=key
            )
