"""A run's config.yaml as flat settings, `{"optim.lr": 0.001, …}`: read, never instantiated."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from gan_lab.compare.factors import REMEDY, Settings, resolved, text
from gan_lab.core.errors import LabError
from gan_lab.core.io import MAX_YAML, read_text
from gan_lab.core.run_folder import refuse_other_format
from gan_lab.core.terminal import escape_texts

CONF = Path(__file__).resolve().parents[2] / "conf"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DEPTH = 50  # no configuration is nested deeper


class ForeignError(LabError):
    """A config.yaml that isn't of a training."""


def read_settings(path: Path) -> dict[str, Any]:
    """A config.yaml's values by dotted key, what is to be made included; references such as `${optim.lr}` unresolved,
    but for what `norm=auto` stands for. Texts are `printable`: they become names and sentences.

    `remedy` names the remedies, 'ema + r1', or 'none'.

    Nothing is instantiated or looked up.

    Raises:
        LabError: if it is no configuration of a training, or one of another version of gan_lab.
    """
    try:
        content = read_text(path, MAX_YAML)
        depth = 0
        for event in yaml.parse(content, LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH or isinstance(event, yaml.AliasEvent):  # could unfold without end
                raise LabError(f"{path.name} is nested or refers to itself as no configuration does")
        node = yaml.load(content, LOADER)
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = "is missing" if isinstance(error, FileNotFoundError) else f"can't be read: {error}"
        raise LabError(f"{path.name} {why}") from error
    if not isinstance(node, dict) or not {"loss", "optim", "dataset"} <= node.keys():
        raise ForeignError(f"{path.name} is no configuration of a training")
    refuse_other_format(path, node)
    settings = escape_texts(dict(_flat(node)))
    settings["norm._target_"] = resolved(settings, "norm._target_")  # norm=auto says what the model says,
    settings.pop("model.auto_norm", None)  # which is no question of its own
    remedies = node.get(REMEDY) or "none"
    names = sorted(map(str, remedies)) if isinstance(remedies, dict) else [text(remedies)]
    return settings | {REMEDY: " + ".join(escape_texts(names))}


def name_presets(configs: Sequence[Settings]) -> list[Settings]:
    """Names what a preset of the group `remedy` sets (n_critic, ttur) as a remedy, where it tells configurations apart.

    A preset only sets keys of other groups, which the configurations then differ in. It is named where some of them
    have its values and all others have one and the same; their factor would otherwise be `n_critic`, or two rates.

    Args:
        configs: flat settings, as `read_settings` returns them.

    Returns:
        The configurations in their order; those with a preset have its name in `remedy`, and not its values.
    """
    named = [dict(config) for config in configs]
    for preset, values in sorted(_presets().items()):
        others: list[dict[str, Any]] = []
        with_preset: list[dict[str, Any]] = []
        for config in named:
            if all(config.get(key) == value for key, value in values.items()):
                with_preset.append(config)
            else:
                others.append(config)
        usual = {tuple(text(config.get(key)) for key in values) for config in others}
        if len(usual) != 1:
            continue
        for config in with_preset:
            names = [name for name in text(config.get(REMEDY, "none")).split(" + ") if name != "none"]
            config[REMEDY] = " + ".join(sorted([*names, preset]))
            config.update({key: others[0].get(key) for key in values})
    return list(named)


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value with its dotted key; lists are values unless something in them is to be made."""
    if isinstance(node, list) and any(isinstance(each, dict) for each in node):
        node = dict(enumerate(node))
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node


@functools.cache
def _presets() -> dict[str, dict[str, Any]]:
    """Returns the options of the group `remedy` that only set keys of other groups, with these keys and values."""
    presets = {}
    for path in (CONF / REMEDY).glob("*.yaml"):
        content = path.read_text(encoding="utf-8")
        if content.startswith("# @package _global_"):
            presets[path.stem] = dict(_flat(yaml.load(content, LOADER)))
    return presets
