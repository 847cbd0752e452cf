"""A run's config.yaml as flat settings, `{"optim.lr": 0.001, …}`: read, never instantiated."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gan_lab.comparison.factors import REMEDY, Settings, resolve, value_text
from gan_lab.core.errors import LabError
from gan_lab.core.installation import CONF
from gan_lab.core.io import MAX_YAML, read_text
from gan_lab.core.run_folder import refuse_other_format
from gan_lab.core.terminal import escape_texts

LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
# No configuration is nested deeper.
MAX_DEPTH = 50


class ForeignError(LabError):
    """A config.yaml that is not the configuration of a training."""


def read_settings(path: Path) -> dict[str, Any]:
    """Reads a config.yaml as values by dotted key.

    What is to be instantiated is included, as `_target_`. References such as `${optim.lr}` stay unresolved, except for
    what `norm=auto` stands for. Texts are printable: they become names and sentences. Nothing is instantiated or looked
    up.

    `remedy` names the remedies, 'ema + r1', or 'none'.

    Raises:
        LabError: if the file is missing, cannot be read, or is not the configuration of a training, or that of
            another version of gan_lab.
    """
    node = _load(path)
    if not isinstance(node, dict) or not {"loss", "optim", "dataset"} <= node.keys():
        raise ForeignError(f"{path.name} is not the configuration of a training", code="damaged", key=path.name)
    refuse_other_format(path, node)
    return _settings_of(node)


@functools.cache
def default_settings() -> dict[str, Any]:
    """Returns the settings of a training without arguments, as `read_settings` reads them from its config.yaml."""
    node = yaml.load((CONF / "train.yaml").read_text(encoding="utf-8"), LOADER)
    del node["hydra"]
    for entry in node.pop("defaults"):
        if not isinstance(entry, dict):
            continue
        for group, option in entry.items():
            path = CONF / group / f"{option}.yaml"
            # Neither what Hydra uses itself nor a group of which nothing is chosen.
            if path.is_file():
                node[group] = yaml.load(path.read_text(encoding="utf-8"), LOADER)
    return _settings_of(node)


def name_presets(configs: Sequence[Settings]) -> list[Settings]:
    """Names what a preset of the group `remedy` sets (n_critic) as a remedy, where runs differ by the preset.

    A preset only sets keys of other groups, in which the configurations then differ. It is named where some of them
    have its values and all others share one and the same; else their factor would be called by its key.

    Args:
        configs: flat settings, as `read_settings` returns them.

    Returns:
        The configurations in their order. Those with a preset have its name in `remedy` and the others' values.
    """
    settings = [dict(config) for config in configs]
    for preset, values in sorted(_presets().items()):
        with_preset: list[dict[str, Any]] = []
        without_preset: list[dict[str, Any]] = []
        # The distinct values of the preset's keys in the configurations without it, as text.
        baselines: set[tuple[str, ...]] = set()
        for config in settings:
            if all(config.get(key) == value for key, value in values.items()):
                with_preset.append(config)
            else:
                without_preset.append(config)
                baselines.add(tuple(value_text(config.get(key)) for key in values))
        if len(baselines) != 1:
            continue
        for config in with_preset:
            remedies = set(value_text(config.get(REMEDY, "none")).split(" + ")) - {"none"}
            config[REMEDY] = " + ".join(sorted(remedies | {preset}))
            # The name says what these keys did, so they must not differ a second time.
            for key in values:
                config[key] = without_preset[0].get(key)
    return list(settings)


def _settings_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a configuration as values by dotted key; see `read_settings`."""
    settings: dict[str, Any] = escape_texts(dict(_flatten(node)))
    # norm=auto is what the model says, which is not a question by itself.
    settings["norm._target_"] = resolve(settings, "norm._target_")
    settings.pop("model.auto_norm", None)
    settings[REMEDY] = " + ".join(escape_texts(_remedy_names(node.get(REMEDY))))
    return settings


def _load(path: Path) -> Any:
    """Reads a YAML file that a stranger may have written.

    Raises:
        LabError: if it is missing, cannot be read, is nested too deeply, or uses aliases.
    """
    try:
        content = read_text(path, MAX_YAML)
        _refuse_unusual_nesting(content, path.name)
        return yaml.load(content, LOADER)
    except FileNotFoundError as error:
        raise LabError(f"{path.name} is missing", code="missing", key=path.name) from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise LabError(f"{path.name} can't be read: {error}", code="damaged", key=path.name) from error


def _refuse_unusual_nesting(content: str, name: str) -> None:
    """Refuses what no configuration has: deep nesting, and aliases, which can unfold to any size."""
    depth = 0
    for event in yaml.parse(content, LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH or isinstance(event, yaml.AliasEvent):
            raise LabError(f"{name} is nested or refers to itself as no configuration does", code="damaged", key=name)


def _flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields each value with its dotted key; a list is a value unless something in it is to be instantiated."""
    if isinstance(node, list) and any(isinstance(entry, dict) for entry in node):
        node = dict(enumerate(node))
    if not isinstance(node, dict):
        yield prefix, node
        return
    for key, value in node.items():
        dotted_key = f"{prefix}.{key}" if prefix else str(key)
        yield from _flatten(value, dotted_key)


def _remedy_names(node: Any) -> list[str]:
    """Returns the sorted names of a configuration's remedies; ['none'] for an empty node."""
    if not node:
        return ["none"]
    if isinstance(node, dict):
        return sorted(map(str, node))
    return [value_text(node)]


@functools.cache
def _presets() -> dict[str, dict[str, Any]]:
    """Returns the options of the group `remedy` that only set keys of other groups, with these keys and values."""
    presets = {}
    for path in (CONF / REMEDY).glob("*.yaml"):
        content = path.read_text(encoding="utf-8")
        if content.startswith("# @package _global_"):
            presets[path.stem] = dict(_flatten(yaml.load(content, LOADER)))
    return presets
