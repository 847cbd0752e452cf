"""Checks a composed configuration before torch is imported: known keys, allowed values, parts that go together."""

import functools
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gan_lab.config.compatibility import check_compatibility, check_metrics
from gan_lab.config.declarations import declared, settings_of
from gan_lab.config.references import refuse_unresolved
from gan_lab.config.schema import nodes, recipes, spec_of, top_level_names
from gan_lab.config.targets import groups, is_known, refuse_foreign, targets, within
from gan_lab.config.types import ValueSpec
from gan_lab.core.errors import LabError
from gan_lab.core.installation import CONF

# The parts of a training, and whether each is `_partial_`: built later, when the others are there.
PARTS = {
    **dict.fromkeys(("dataset", "loss", "latent", "norm"), False),
    **dict.fromkeys(("activation", "optim", "model.generator", "model.discriminator"), True),
}

# What may be set of Lightning's trainer.
TRAINER = {"accelerator", "devices", "num_nodes", "strategy", "precision"}

# Python refuses to write numbers of more than 4,300 digits.
MAX_BITS = 1_000

PRIVATE_KEYS = ("_partial_", "_target_")

# Keys that only the commands other than training have.
KEYS_OF_COMMANDS = {"folder", "run", "runs", "source", "what"}


def check(cfg: DictConfig) -> DictConfig:
    """Refuses keys that nothing reads, values of the wrong type or out of bounds, and combinations that can't work.

    Args:
        cfg: the configuration of any command, composed.

    Returns:
        The same configuration with its references resolved, once and for all. Whatever is built must be built from
        this one: a reference that is resolved again could give a value that was never checked.

    Raises:
        LabError: naming each key, its value and what it has to be.
    """
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    refuse_unresolved(values)
    is_training = not values.keys() & KEYS_OF_COMMANDS
    _check_keys(values, is_training)
    written = OmegaConf.to_container(cfg)
    _check_values(values, written)
    for key, node in targets(values):
        refuse_foreign(key, node["_target_"], values["trust"])
    # Only now: what parts declare is read from their source, also from that of a user's own.
    _check_declared_settings(values, written)
    _check_private_keys(values)
    check_metrics(values)
    if is_training:
        _check_parts(values)
        check_compatibility(values)
    return OmegaConf.create(values)


def check_evaluation(cfg: DictConfig) -> None:
    """Refuses keys of scripts/evaluate.py that don't go together.

    Args:
        cfg: its configuration, checked.

    Raises:
        LabError: naming the keys.
    """
    if cfg.get("seeds") == "auto":
        raise LabError("seeds=auto: evaluations are counted.", "Say seeds=5.", key="seeds")
    has_dataset = cfg.get("dataset") is not None
    if cfg.generated is None:
        if cfg.run is None:
            raise LabError(
                "run is missing.",
                "Say run=<run folder>, or generated=<samples of any program> with dataset=… or real=…",
                code="missing",
                key="run",
            )
        unused = {"real": cfg.real is not None, "dataset": has_dataset, "size": cfg.size is not None}
        unused["labels"] = cfg.labels != "auto"
        needed = "generated=…; a run has its own data"
    else:
        if cfg.real is None and not has_dataset:
            raise LabError(
                "generated= needs real data to compare with.",
                "Say dataset=digits, for example, or real=<folder, archive or array>.",
                code="missing",
                key="dataset",
            )
        if cfg.real is not None and has_dataset:
            raise LabError("dataset and real are both data.", "Leave one of them out.", code="conflict", key="real")
        unused = {"run": cfg.run is not None, "member": cfg.member is not None, "ema": not cfg.ema}
        needed = "a run; leave generated=… out"
    if cfg.labels not in ("auto", "none", "folders"):
        raise LabError(
            f"labels={cfg.labels} is none of auto, none, folders.",
            "Images with a table of labels can be packed: scripts/pack.py labels=…, then real=<file.h5>.",
            key="labels",
        )
    for key, is_given in unused.items():
        if is_given:
            raise LabError(f"{key} goes with {needed}.", f"Leave {key} out.", code="conflict", key=key)


def _check_keys(values: dict[str, Any], is_training: bool) -> None:
    """Refuses a configuration in which a key is missing, or that has a key which nothing reads."""
    missing = [key for key, value in nodes(values) if value == "???"]
    if missing:
        raise LabError(
            f"{missing[0]} is missing.", f"Say {missing[0]}=…; --help lists the keys.", code="missing", key=missing[0]
        )
    left_out: list[str] = []
    if is_training:
        left_out = sorted(_keys_of_training() - values.keys())
    if left_out:
        raise LabError(
            f"{', '.join(left_out)}: left out, but a training needs it.",
            "--help lists groups and keys.",
            code="missing",
            key=left_out[0],
        )
    unknown = sorted(map(str, values.keys() - top_level_names() - groups()))
    if unknown:
        raise LabError(
            f"Nothing reads the key {', '.join(unknown)}.", "--help lists the keys.", code="unknown", key=unknown[0]
        )
    if not isinstance(values.get("data", {}), dict):
        raise LabError(
            f"data={values['data']} is not allowed.",
            "dataset=… chooses the data, data.path=… names a packed file.",
            key="data",
        )


def _check_values(values: dict[str, Any], written: Any) -> None:
    """Refuses values that their key in the schema may not have; see `_refuse_wrong`."""
    foreign = []
    for key, node in targets(values):
        target = node["_target_"]
        if within(key, ("dataset", "remedy")) and not (isinstance(target, str) and is_known(target)):
            foreign.append(key)
    specs = {}
    for key, _ in nodes(values):
        # The settings of a user's own data and remedies may be called like ours and mean something else.
        if within(key, foreign) and "._" not in key:
            continue
        spec = spec_of(key)
        if spec:
            specs[key] = spec
    _refuse_wrong(values, written, specs)


def _check_declared_settings(values: dict[str, Any], written: Any) -> None:
    """Refuses values that a part itself says its settings may not have; see `_refuse_wrong`."""
    specs = {}
    for key, node in targets(values):
        for setting, spec in settings_of(node["_target_"]).items():
            specs[f"{key}.{setting}"] = spec
    _refuse_wrong(values, written, specs)


def _refuse_wrong(values: dict[str, Any], written: Any, specs: dict[str, ValueSpec]) -> None:
    """Refuses values that don't fit.

    Args:
        values: the configuration with its references resolved.
        written: the same with its references: a value that others refer to is named once.
        specs: what values may be, by dotted key.
    """
    wrong = {key: value for key, value in nodes(values) if key in specs and not specs[key].fits(value)}
    if not wrong:
        return
    originals = dict(nodes(written))
    # A reference to a wrong value is wrong as well: naming the value itself is enough.
    named = [key for key in wrong if originals.get(key) == wrong[key]] or list(wrong)
    lines = [f"{key}={_yaml(wrong[key])} is not allowed: {key} has to be {specs[key]}." for key in named]
    raise LabError("\n".join(lines), key=named[0])


def _check_private_keys(values: dict[str, Any]) -> None:
    """Refuses Hydra's private keys that change how a part is built, at any depth."""
    keys = [key for key, _ in nodes(values)]
    for key, node in targets(values):
        # Those of nodes in lists, which `nodes` doesn't visit.
        keys += [f"{key}.{name}" for name in node]
    for key in keys:
        name = key.rpartition(".")[2]
        if name == "run" and key.startswith(("callbacks.", "logger.")):
            raise LabError(f"{key} is set by the training itself.", "Leave it out.", key=key)
        if name.startswith("_") and name not in PRIVATE_KEYS:
            raise LabError(
                f"{key} is not allowed in a training.",
                f"Leave it out; only {' and '.join(PRIVATE_KEYS)} are.",
                key=key,
            )


def _yaml(value: Any) -> str:
    """Returns a value as YAML writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        return f"{value:#x}"[:20] + "…"
    return str(value)


@functools.cache
def _keys_of_training() -> set[str]:
    """Returns the keys and groups that every training has."""
    keys = {str(key) for key in OmegaConf.load(CONF / "train.yaml")}
    return (keys - {"defaults", "hydra"}) | (groups() - recipes())


def _check_parts(values: dict[str, Any]) -> None:
    """Refuses groups that are no parts, and parts that aren't built when their place in a training asks for it."""
    _check_groups(values)
    all_nodes = dict(nodes(values))
    for key, partial in _expected_parts(values).items():
        node = all_nodes.get(key)
        if not isinstance(node, dict) or "_target_" not in node:
            raise LabError(f"{key} names nothing that can be built.", _how_to_name(key, partial), key=key)
        if partial is not None and node.get("_partial_", False) != partial:
            expected = _yaml(partial)
            raise LabError(
                f"{key}._partial_ has to be {expected}.",
                f"Write _partial_: {expected}; left out, it is false.",
                key=f"{key}._partial_",
            )


def _check_groups(values: dict[str, Any]) -> None:
    """Refuses a group that is no option's content, a recipe that is no name, and unknown keys of the trainer."""
    trainer = values["trainer"]
    unknown: list[str] = []
    # That it is no group at all is refused below.
    if isinstance(trainer, dict):
        unknown = sorted(map(str, trainer.keys() - TRAINER))
    if unknown:
        raise LabError(
            f"There is no key 'trainer.{unknown[0]}'.",
            f"trainer has: {', '.join(sorted(TRAINER))}.",
            code="unknown",
            key=f"trainer.{unknown[0]}",
        )
    for group in sorted(groups() - recipes()):
        if not isinstance(values.get(group, {}), dict):
            raise LabError(f"{group} has to be one of its options, by name.", "--help lists them.", key=group)
    for group in sorted(recipes()):
        if not isinstance(values.get(group), str | None):
            raise LabError(
                f"{group} has to be the name of one of its options, or null.", "--help lists them.", key=group
            )


def _expected_parts(values: dict[str, Any]) -> dict[str, bool | None]:
    """Returns the keys of all parts, and whether each is `_partial_`; None where both are allowed."""
    parts: dict[str, bool | None] = dict(PARTS)
    for role in ("optim_d", "optim_g"):
        if "_target_" in values[role]:
            parts[role] = True
    for group in ("callbacks", "logger"):
        for name in values[group]:
            parts[f"{group}.{name}"] = None
    for name, node in values["remedy"].items():
        target = None
        if isinstance(node, dict):
            target = node.get("_target_")
        # A remedy says itself when it is built.
        parts[f"remedy.{name}"] = declared(target).partial
    return parts


def _how_to_name(key: str, partial: bool | None) -> str:
    """Returns how to choose a part, or how to do without it."""
    group, _, name = key.partition(".")
    if group == "remedy":
        return f"Say remedy=[{name}], with others if there are any, or leave it out with ~{key}."
    if partial is None:
        return f"Leave it out with ~{key}."
    if key in groups():
        return f"Choose one of its options: {key}=…"
    return f"Leave {key} as its option has it."
