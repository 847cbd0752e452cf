"""Puts errors of Hydra, of OmegaConf and of the system into one message for the user."""

import difflib
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import hydra
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lab.config.arguments import config_folders, options_of, overrides_of, wrong_option
from gan_lab.config.synonyms import advice, advice_on_word
from gan_lab.config.targets import groups
from gan_lab.core.errors import LabError, out_of_memory, refused_by_storage
from gan_lab.core.installation import CONF

# What Ray raises when it has started a job again as often as it may.
KILLED_IN_RAY = ("WorkerCrashedError", "OutOfMemoryError", "NodeDiedError", "LocalRayletDiedError")


def explain(error: BaseException, config: str, arguments: Sequence[str]) -> LabError | None:
    """Returns what to tell the user, or None for an error that isn't the user's.

    Args:
        error: what a command raised.
        config: the command's file in conf/, without its ending.
        arguments: the command line without the command.
    """
    # Ray wraps what a job raised, and what was raised when a worker received a job.
    wrapped: BaseException | None = error
    while wrapped is not None and _is_from_ray(wrapped):
        error = wrapped
        wrapped = getattr(error, "cause", None) or getattr(error, "client_exc", None)
    error = wrapped or error
    chain = _chain(error)
    for link in chain:
        if isinstance(link, LabError):
            return link
    if isinstance(error, OSError) and error.filename:
        return LabError(f"{error.filename}: {error.strerror}.", code="storage", key=str(error.filename))
    if isinstance(error, yaml.YAMLError):
        return LabError(f"A configuration can't be read: {error}", code="damaged")
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _explain_composition(error, chain, config, arguments)
    return _explain_system(error, chain)


def _is_from_ray(error: BaseException) -> bool:
    # It may not be installed, so its classes can't be imported here.
    return type(error).__module__ == "ray.exceptions"


def _chain(error: BaseException) -> list[BaseException]:
    """Returns an error and those that led to it, the last one first."""
    chain = [error]
    while True:
        cause = chain[-1].__cause__ or chain[-1].__context__
        if cause is None or cause in chain:
            return chain
        chain.append(cause)


def _explain_system(error: BaseException, chain: Sequence[BaseException]) -> LabError | None:
    """Explains what disk, memory and the launchers of sweeps raise."""
    # submitit may not be installed, so its classes can't be imported here.
    if type(error).__name__ in ("UncompletedJobError", "FailedJobError"):
        return LabError(
            "A Slurm job ended without a result: killed, perhaps for want of memory.",
            "Request more memory: hydra.launcher.mem_gb=…",
            code="failed",
            key="hydra.launcher",
        )
    if isinstance(error, ConnectionError) and "ray" in sys.modules:
        return LabError(
            str(error),
            "Is a cluster running there? hydra.launcher.ray.init.address=null starts one here.",
            code="failed",
            key="hydra.launcher.ray.init.address",
        )
    if _is_from_ray(error) and type(error).__name__ in KILLED_IN_RAY:
        return LabError(
            "Ray gave up a job: its process was killed, by hand or for want of memory, or its node went down.",
            "hydra.launcher.ray.remote.num_cpus=2 runs fewer jobs at the same time.",
            code="failed",
            key="hydra.launcher",
        )
    refusal = refused_by_storage(error)
    if refusal:
        return LabError(refusal, code="storage")
    if isinstance(error, BrokenProcessPool):
        return LabError(
            "A worker process was killed, by hand or for want of memory.",
            "Run fewer jobs at the same time: hydra.launcher.n_jobs=1",
            code="failed",
            key="hydra.launcher.n_jobs",
        )
    if any(out_of_memory(link) for link in chain):
        return LabError(
            f"There isn't enough memory for this: {chain[-1]}",
            "Smaller networks, a smaller batch_size or fewer samples need less.",
            code="memory",
        )
    return None


def _explain_composition(
    error: Exception, chain: Sequence[BaseException], config: str, arguments: Sequence[str]
) -> LabError:
    """Explains what Hydra and OmegaConf refuse, by looking which argument it is about."""
    if isinstance(error, OverrideParseException):
        return _explain_syntax(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _explain_missing_option(error.missing_cfg_file, error.options or (), arguments)
    if isinstance(error, ConfigCompositionException):
        explanation = _explain_arguments(config, arguments)
        if explanation:
            return explanation
    text = str(error)
    if not text:
        # Some errors say nothing, but those that led to them do.
        texts = [str(link) for link in chain if str(link)]
        texts.append(type(error).__name__)
        text = f"A value can't be read: {texts[0]}"
    lines = [line for line in text.splitlines() if not line.startswith("See https://hydra")]
    return LabError("\n".join(lines))


def _explain_syntax(error: OverrideParseException) -> LabError:
    """Explains an argument that Hydra can't parse."""
    text = str(error.override)
    key, equals, _ = text.partition("=")
    if not equals:
        message = f"Can't read '{text}': a setting is key=value, for example steps=3000."
        return LabError(message, advice_on_word(text), key=key)
    return LabError(f"Can't read '{text}': {error}.", "Quote values with special characters: 'key=\"a, b\"'.", key=key)


def _explain_missing_option(file: str, known: Sequence[str], arguments: Sequence[str]) -> LabError:
    """Names the options of a group that has no such one.

    Args:
        file: what Hydra looked for, `loss/bse`.
        known: the options that Hydra knows.
        arguments: the command line, which may add folders.
    """
    group, _, option = file.partition("/")
    options = options_of(group, config_folders(arguments))
    # Hydra's groups have two names, and options that aren't gan_lab's.
    if group == "hydra":
        group, _, option = file.rpartition("/")
        options = list(known)
    meant = advice(f"{group}={option}") or _nearest(option, options)
    return LabError(
        f"There is no {group}={option}. {meant}".rstrip(),
        f"Choose from: {', '.join(options)}.",
        code="unknown",
        key=group,
    )


def _explain_arguments(config: str, arguments: Sequence[str]) -> LabError | None:
    """Looks for the argument that Hydra can't apply: one about a key that isn't there, or that is there already."""
    overrides = [override for override in _parsed(arguments) if not override.is_sweep_override()]
    names_metrics = any(override.key_or_group == "metrics" for override in overrides)
    if names_metrics and not options_of("metrics", config_folders(arguments)):
        return LabError(
            "gan_lab has no options of metrics.",
            "--config-dir=<folder> adds those of yours: docs/architecture.md.",
            code="unknown",
            key="metrics",
        )
    composed = _composed_choices(config, arguments)
    for override in overrides:
        key = override.key_or_group
        if "/" in key and not key.startswith("hydra/"):
            return _unknown_group(key)
        if "/" in key or key in groups():
            continue
        exists = _exists(composed, key)
        if not exists and not override.is_add() and not override.is_force_add():
            return _unknown_key(key, composed)
        if exists and override.is_add():
            return LabError(f"There is a key '{key}' already.", f"Say {key}=…, without the +.", key=key)
    return _explain_choices([override for override in overrides if override.key_or_group in groups()])


def _explain_choices(overrides: Sequence[Override]) -> LabError | None:
    """Looks for a choice of options that Hydra can't apply; None if a file is wrong, of which Hydra says how."""
    for override in overrides:
        group = override.key_or_group
        if override.is_add():
            return LabError(f"One of {group} is chosen already.", f"Say {group}=…, without the +.", key=group)
        if not isinstance(override.value(), str):
            return wrong_option(group, override.input_line or "")
    return None


def _parsed(arguments: Sequence[str]) -> list[Override]:
    """Returns the overrides of a command line, as Hydra parses them."""
    return OverridesParser.create().parse_overrides(overrides_of(arguments))


def _composed_choices(config: str, arguments: Sequence[str]) -> DictConfig:
    """Composes a command's configuration with nothing but the options that the command line chose and left out."""
    folders = [f"file://{folder}" for folder in config_folders(arguments)]
    search_path = []
    if folders:
        search_path.append(f"hydra.searchpath=[{','.join(folders)}]")
    choices = []
    for argument in overrides_of(arguments):
        if argument.partition("=")[0] in groups() or argument.startswith("~"):
            choices.append(argument)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            return hydra.compose(config, [*search_path, *choices], return_hydra_config=True)
        except HydraException:
            return hydra.compose(config, return_hydra_config=True)


def _exists(cfg: DictConfig, key: str) -> bool:
    """Tells whether a dotted key is in a configuration."""
    parent, _, name = key.rpartition(".")
    node = _select(cfg, parent)
    # Not `name in node`: that is False for a value that still has to be given (???).
    return isinstance(node, DictConfig) and name in list(node)


def _select(cfg: DictConfig, key: str) -> Any:
    """Returns the node of a dotted key; None where there is none, or where it refers to one that isn't there."""
    if not key:
        return cfg
    try:
        return OmegaConf.select(cfg, key)
    except OmegaConfBaseException:
        return None


def _unknown_key(key: str, cfg: DictConfig) -> LabError:
    """Returns the refusal of a key that isn't there, with the names that exist there."""
    parent = key.rpartition(".")[0]
    while parent and not isinstance(_select(cfg, parent), DictConfig):
        parent = parent.rpartition(".")[0]
    name = key.removeprefix(f"{parent}.").partition(".")[0]
    names = sorted(str(child) for child in _select(cfg, parent))
    names = [child for child in names if not child.startswith("_") and (parent or child != "hydra")]
    place = "Keys and groups"
    if parent:
        place = f"{parent} has"
    meant = advice(key)
    if meant:
        # It says all; the keys would fill half of a terminal.
        return LabError(f"There is no key '{key}'.", meant, code="unknown", key=key)
    return LabError(
        f"There is no key '{key}'. {_nearest(name, names, parent)}".rstrip(),
        f"{place}: {', '.join(names) or 'nothing to set'}.",
        code="unknown",
        key=key,
    )


def _unknown_group(group: str) -> LabError:
    """Returns the refusal of a group that isn't there."""
    names = sorted(groups())
    return LabError(
        f"There is no group '{group}'. {_nearest(group, names)}".rstrip(),
        f"Groups: {', '.join(names)}.",
        code="unknown",
        key=group,
    )


def _nearest(name: str, names: Sequence[str], parent: str = "") -> str:
    """Returns the question whether a similar name was meant; empty if there is none. `parent` is put before it."""
    matches = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    if not matches:
        return ""
    suggestion = matches[0]
    if parent:
        suggestion = f"{parent}.{suggestion}"
    return f"Did you mean '{suggestion}'?"
