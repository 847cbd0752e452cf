"""A run's config.yaml as flat settings, `{"optim.lr": 0.001, …}`: read, never instantiated."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from gan_lab.compare.factors import REMEDY, resolved, text
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

    `remedy` names the remedies, 'ema + r1', or 'none'. What one of them sets elsewhere (ttur: optim_d.lr) stands below
    it (remedy.ttur.optim_d.lr), and is referred to where it was.

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
    names = escape_texts(names)
    for name in names:
        for key in sorted(_set_elsewhere(name) & settings.keys()):
            settings[f"{REMEDY}.{name}.{key}"] = settings[key]
            settings[key] = f"${{{REMEDY}.{name}.{key}}}"
    return settings | {REMEDY: " + ".join(names)}


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
def _set_elsewhere(remedy: str) -> frozenset[str]:
    """The keys of other groups that a remedy sets; none for an unknown one."""
    for path in (CONF / REMEDY).glob("*.yaml"):
        content = yaml.load(path.read_text(encoding="utf-8"), LOADER)
        if path.stem == remedy and REMEDY in content:  # of the package _global_
            return frozenset(key for key, _ in _flat(content) if not key.startswith(f"{REMEDY}."))
    return frozenset()
