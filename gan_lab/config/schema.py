"""What a configuration may hold: known keys, typed and bounded values, parts that fit together; all without torch."""

import fnmatch
import functools
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gan_lab.config.compatibility import COUNT, SEED, check_fit, check_metrics
from gan_lab.config.references import refuse_unresolved
from gan_lab.config.targets import CONF, groups, is_known, refuse_foreign, targets, within
from gan_lab.config.types import ValueSpec
from gan_lab.core.errors import LabError

SHARE = ValueSpec(float, low=0, below=1)
WIDTHS = ValueSpec(list, low=1, high=10**6)

# The parts of a training, and whether each waits (`_partial_`) for what only building the others tells.
PARTS = {
    **dict.fromkeys(("dataset", "loss", "latent", "norm"), False),
    **dict.fromkeys(("activation", "optim", "model.generator", "model.discriminator"), True),
}
WAITING = {"label_smoothing", "lecam", "minibatch_discrimination", "minibatch_stddev"}  # of the remedies

TRAINER = {"accelerator", "devices", "num_nodes", "strategy", "precision"}  # what of Lightning's trainer is set

RECIPES = {"experiment", "rung"}  # groups that only choose among the others

# Every value of conf/ finds its first matching pattern here (a test sees to it); other parts' keys pass.
RULES = {
    "*_target_": ValueSpec(str),
    "*_partial_": ValueSpec(bool),
    "steps": COUNT,
    "batch_size": ValueSpec(int, low=1, high=10**6),
    "seed": SEED,
    "replicas": ValueSpec(int, low=1, high=1024),
    "member": ValueSpec(int, low=0, high=1023, none=True),
    "latent_dim": ValueSpec(int, low=1, high=10**6),
    "log_every": COUNT,
    "joint_d_update": ValueSpec(bool),
    "n_critic": ValueSpec(int, low=1, high=1000),
    "n_generator": ValueSpec(int, low=1, high=1000),
    "conditional": ValueSpec(bool),
    "remedy.*.gamma": ValueSpec(float, low=0),
    "remedy.*.weight": ValueSpec(float, low=0),
    "remedy.*.decay": SHARE,
    "remedy.lecam.warmup_steps": ValueSpec(int, low=0, high=10**9),
    "remedy.label_smoothing.real": ValueSpec(float, low=0.5, high=1),
    "remedy.instance_noise.std": ValueSpec(float, low=0),
    "remedy.*.steps": COUNT,
    "remedy.diffaugment.policy": ValueSpec(list, entries=str, among=("color", "translation", "cutout")),
    "remedy.pac.m": ValueSpec(int, low=1, high=64),
    "remedy.minibatch_stddev.group": ValueSpec(int, low=2, high=10**6),
    **dict.fromkeys(("remedy.*.kernels", "remedy.*.dims"), ValueSpec(int, low=1, high=10**4)),
    "remedy.unrolled.k": ValueSpec(int, low=0, high=100),
    "remedy.unrolled.lr": ValueSpec(float, low=1e-12),
    "remedy.*.fraction": ValueSpec(float, low=1e-6, high=1),
    "remedy.balance.max_auc": ValueSpec(float, low=0.5, high=1),
    "threads": ValueSpec(int, low=1, high=1024, among=("auto", "tune")),
    **dict.fromkeys(("devices", "num_nodes"), ValueSpec(int, low=1, high=1024)),
    "data_dir": ValueSpec(str),
    "data.path": ValueSpec(str, none=True),
    "cache_dir": ValueSpec(str),
    "name": ValueSpec(str, none=True),
    "resume": ValueSpec(str, none=True),
    "force": ValueSpec(bool),
    "preflight": ValueSpec(bool),
    "objective": ValueSpec(str),
    **dict.fromkeys(
        ("features", "callbacks.verdict.features"), ValueSpec(str, among=("evaluator", "random", "pca"), none=True)
    ),
    "trust": ValueSpec(list, entries=str),
    "run": ValueSpec(str, none=True),
    "runs": ValueSpec(list, entries=str),
    "target": ValueSpec(str, none=True),
    "label": ValueSpec(str),
    "method": ValueSpec(str, among=("both", "inverse", "gradient")),
    "ema": ValueSpec(bool),
    "samples": ValueSpec(int, low=1, high=10**9, none=True),
    "seeds": COUNT,
    "op": ValueSpec(str, among=("grid", "interpolate", "add", "subtract", "multiply", "walk")),
    **dict.fromkeys(("a", "b"), ValueSpec(str)),
    "by": ValueSpec(str, among=("seed", "class")),
    "n": ValueSpec(int, low=2, high=1000),
    "mode": ValueSpec(str, among=("linear", "slerp")),
    "normalize": ValueSpec(str, among=("false", "true", "both")),
    "pairs": ValueSpec(int, low=1, high=10**5),
    "confidence": ValueSpec(float, low=0, high=1),
    "what": ValueSpec(str, among=("step", "replicas", "storage", "startup", "sweep", "all")),
    "seconds": ValueSpec(float, low=0.01),
    "nets": ValueSpec(list, entries=str, among=("ring", "digits", "book", "dcgan")),
    "rounds": ValueSpec(int, low=1, high=1000),
    "images": ValueSpec(int, low=100, high=10**5),
    "tries": ValueSpec(int, low=1, high=10**7),
    "source": ValueSpec(str),
    "size": ValueSpec(int, low=1, high=4096, none=True),
    "crop": ValueSpec(str),
    "limit": ValueSpec(int, low=1, high=10**9, none=True),
    "color": ValueSpec(str, among=("rgb", "gray")),
    "background": ValueSpec(str),
    "labels": ValueSpec(str),
    "holdout": ValueSpec(float, low=0.01, high=0.9),
    "compile": ValueSpec(bool),
    "workers": ValueSpec(int, low=0, high=1024),
    "max_bad": ValueSpec(float, low=0, high=1),
    "compress": ValueSpec(bool),
    "dataset.samples": ValueSpec(int, low=1, high=10**9, none=True),
    "dataset.modes": ValueSpec(int, low=1, high=10**6),
    "dataset.side": ValueSpec(int, low=1, high=1000),
    "dataset.heldout": ValueSpec(float, low=0.01, high=0.9),
    "dataset.std": ValueSpec(float, low=1e-9),
    "dataset.radius": ValueSpec(float, low=0),
    "dataset.spacing": ValueSpec(float, low=0),
    "dataset.data_dir": ValueSpec(str),
    "dataset.path": ValueSpec(str, none=True),
    "dataset.flip": ValueSpec(bool),
    "dataset.memory": ValueSpec(int, low=0, high=10**6),
    "dataset.size": ValueSpec(int, low=8, high=96),
    "model.auto_norm": ValueSpec(str),
    "model.channels": ValueSpec(int, low=1, high=10**4),
    "model.*.hidden": WIDTHS,
    "model.*.channels": ValueSpec(int, low=1, high=10**4),
    "model*.stages": ValueSpec(int, low=1, high=6, none=True),
    "model*.blocks": ValueSpec(int, low=1, high=100),
    "model.*.pieces": ValueSpec(int, low=1, high=1000),
    "latent.*": ValueSpec(float),
    "*negative_slope": ValueSpec(float, low=0, high=1),
    "*norm.groups": COUNT,
    "optim*.lr": ValueSpec(float, low=0),
    "optim*.betas": ValueSpec(list, low=0, below=1, length=2, entries=float),
    "optim*.momentum": SHARE,
    "optim*.alpha": SHARE,
    "optim*.weight_decay": ValueSpec(float, low=0),
    "optim*.fused": ValueSpec(bool),
    "trainer.accelerator": ValueSpec(str, among=("cpu", "gpu", "cuda", "mps")),
    **dict.fromkeys(("trainer.devices", "trainer.num_nodes"), ValueSpec(int, low=1, high=1024)),
    "trainer.strategy": ValueSpec(str, among=("ddp_find_unused_parameters_true",)),
    "trainer.precision": ValueSpec(str, among=("32-true", "bf16-mixed")),
    "callbacks.*.every": COUNT,
    "callbacks.*.images": COUNT,
    "callbacks.verdict.samples": ValueSpec(int, low=1, high=10**9, none=True),
    "callbacks.verdict.cache_dir": ValueSpec(str),
    "callbacks.*.points": COUNT,
}


def nodes(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of a nested dict, dicts included, with its dotted key."""
    for key, value in node.items():
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from nodes(value, f"{prefix}{key}.")


def leaves(node: Any, private: bool = False) -> Iterator[tuple[str, Any]]:
    """Those that aren't dicts; Hydra's own keys (`_target_` …) are `private`."""
    for key, value in nodes(node):
        if not isinstance(value, dict) and (private or not key.rpartition(".")[2].startswith("_")):
            yield key, value


def rule_of(key: str) -> ValueSpec | None:
    return next((rule for pattern, rule in RULES.items() if fnmatch.fnmatchcase(key, pattern)), None)


def check(cfg: DictConfig) -> DictConfig:
    """Refuses keys that nobody reads, values of the wrong type or out of bounds, and combinations that can't work.

    Returns:
        The same configuration with its references resolved, once and for all: what is built must be built from this
        one, for a reference that is resolved again could give something that was never checked.

    Raises:
        LabError: naming each key, its value and what it has to be.
    """
    values: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    refuse_unresolved(values)
    if missing := [key for key, value in nodes(values) if value == "???"]:
        raise LabError(f"{missing[0]} is missing.", f"Say {missing[0]}=…; --help lists the keys.")
    training = not values.keys() & {"run", "runs", "source", "what"}
    if training and (left_out := sorted(_needed() - values.keys())):
        raise LabError(f"{', '.join(left_out)}: left out, but a training needs it.", "--help lists groups and keys.")
    if unknown := sorted(map(str, values.keys() - {pattern.partition(".")[0] for pattern in RULES} - groups())):
        raise LabError(f"Nothing reads the key {', '.join(unknown)}.", "--help lists the keys.")
    if not isinstance(values.get("data", {}), dict):
        raise LabError(
            f"data={values['data']} won't do.", "dataset=… chooses the data, data.path=… names a packed file."
        )
    # Data and remedies of a user's own may have settings that are called like ours and mean something else.
    named = [(key, node["_target_"]) for key, node in targets(values) if within(key, ("dataset", "remedy"))]
    theirs = [key for key, target in named if not (isinstance(target, str) and is_known(target))]
    checked = ((key, value) for key, value in nodes(values) if not within(key, theirs) or "._" in key)
    wrong = {key: value for key, value in checked if (rule := rule_of(key)) and not rule.fits(value)}
    own = dict(nodes(OmegaConf.to_container(cfg)))
    said = [key for key in wrong if own.get(key) == wrong[key]] or wrong  # not once more where others refer to it
    if wrong:
        raise LabError(
            "\n".join(f"{key}={_shown(wrong[key])} won't do: {key} has to be {rule_of(key)}." for key in said)
        )
    for key, node in targets(values):
        refuse_foreign(key, node["_target_"], values["trust"])
    _check_private_keys(values)
    check_metrics(values)
    if training:
        _check_parts(values)
        check_fit(values)
    return OmegaConf.create(values)


def _check_private_keys(values: dict[str, Any]) -> None:
    """Refuses Hydra's private keys that change how a part is made, wherever they stand."""
    known = {"_target_", "_partial_"}
    in_lists = [f"{key}.{name}" for key, node in targets(values) for name in node]
    for key in [*(key for key, _ in nodes(values)), *in_lists]:
        name = key.rpartition(".")[2]
        if name == "run" and key.startswith(("callbacks.", "logger.")):
            raise LabError(f"{key} is the training's own.", "Leave it out.")
        if name.startswith("_") and name not in known:
            raise LabError(f"{key} isn't for a training.", f"Leave it out; {' and '.join(sorted(known))} are known.")


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


# What older runs don't have.
LATER = {"objective", "preflight", "compile", "devices", "num_nodes", "workers", "data", "features", "replicas"}
LATER |= {"n_critic", "n_generator", "conditional", "remedy"}


@functools.cache
def _needed() -> set[str]:
    """The keys and groups that every training has; runs of older versions know not all of the keys."""
    own = {str(key) for key in OmegaConf.load(CONF / "train.yaml")} - {"defaults", "hydra", *LATER}
    return own | groups() - RECIPES - LATER


def _check_parts(values: dict[str, Any]) -> None:
    """Every group of a training is there, and names what can be made as its place in a training asks for."""
    if unknown := sorted(map(str, values["trainer"].keys() - TRAINER)) if isinstance(values["trainer"], dict) else []:
        raise LabError(f"There is no key 'trainer.{unknown[0]}'.", f"trainer has: {', '.join(sorted(TRAINER))}.")
    for group in sorted(groups() - RECIPES):
        if not isinstance(values.get(group, {}), dict):
            raise LabError(f"{group} has to be one of its options, by name.", "--help lists them.")
    for group in sorted(RECIPES):
        if not isinstance(values.get(group), str | None):
            raise LabError(f"{group} has to be the name of one of its options, or null.", "--help lists them.")
    own = {role: True for role in ("optim_d", "optim_g") if "_target_" in values[role]}
    asked: dict[str, bool | None] = {**PARTS, **own}
    asked |= {f"{group}.{name}": None for group in ("callbacks", "logger") for name in values[group]}
    asked |= {f"remedy.{name}": name in WAITING for name, node in values.get("remedy", {}).items() if node != {}}
    found = dict(nodes(values))
    for key, waits in asked.items():
        node = found.get(key)
        if not isinstance(node, dict) or "_target_" not in node:
            mend = f"Choose one of its options: {key}=…" if key in groups() else f"Leave {key} as its option has it."
            raise LabError(
                f"{key} names nothing that can be made.",
                f"Leave it out with ~{key}." if waits is None or key.startswith("remedy.") else mend,
            )
        if waits is not None and node.get("_partial_", False) != waits:
            has = str(waits).lower()
            raise LabError(f"{key}._partial_ has to be {has}.", f"Say _partial_: {has}; left out, it is false.")
