"""Overrides of a training: with others in their place, and as the text of an experiment of conf/experiment/."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString

from gan_lab.config.schema import leaves, recipes
from gan_lab.config.targets import groups
from gan_lab.core.command_line import hydra_text
from gan_lab.core.errors import LabError
from gan_lab.core.installation import CONF
from gan_lab.core.terminal import printable

# Whoever chooses one of these groups means both networks: what was said of a single one is dropped.
_PARTS = {"optim": ("optim_d", "optim_g")}
STRENGTHS = ("weak", "strong")


def key_of_override(override: str) -> str:
    """Returns the key, or the group, of an override: `loss` of `loss=bce`, `optim.lr` of `+optim.lr=1`."""
    return override.partition("=")[0].strip("+~ ")


def with_changes(overrides: Sequence[str], changes: Sequence[str], remedies: Sequence[str]) -> list[str]:
    """Returns overrides with others in their place.

    Args:
        overrides: of a training.
        changes: overrides that count more. Another option of a group drops what was said of the group's values, also
            what an experiment among the overrides says. Remedies are added to those of the training.
        remedies: of the training, by the names of their options.
    """
    merged = list(overrides)
    has_experiment = any(key_of_override(override) in recipes() for override in overrides)
    for change in changes:
        key, _, value = change.partition("=")
        if key == "remedy":
            change = f"remedy=[{','.join(_union(remedies, entries_of(value)))}]"
            merged = [override for override in merged if key_of_override(override) not in (key, "strength")]
            merged.append(change)
            continue
        dropped = {key, *_PARTS.get(key, ())} if key in groups() else {key}
        merged = [override for override in merged if not _is_said_of(override, dropped)]
        merged.append(change)
        if key in groups() and has_experiment:
            # The values of an experiment would stay, and those of the option would not count.
            merged += [f"{part}=shared" for part in _PARTS.get(key, ())]
            for name, setting in values_of_option(key, value).items():
                merged.append(f"{key}.{name}={hydra_text(setting)}")
    return merged


def values_of_option(group: str, option: str) -> dict[str, Any]:
    """Returns what an option of conf/ sets, by dotted key; without targets and references; {} if there is none.

    Args:
        group: a folder of conf/.
        option: a file in it. Options of the same group that it builds on count, too.
    """
    path = CONF / group / f"{option}.yaml"
    if not path.is_file():
        return {}
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    values: dict[str, Any] = {}
    for base in content.pop("defaults", []):
        if isinstance(base, str) and base != "_self_":
            values |= values_of_option(group, base)
    for name, value in leaves(content):
        if not str(value).startswith("${"):
            values[name] = value
    return values


def entries_of(value: str) -> list[str]:
    """Returns the entries of a list as an override writes it: `[r1,ema]`."""
    return [entry.strip() for entry in value.strip("[] ").split(",") if entry.strip()]


def _union(remedies: Sequence[str], added: Sequence[str]) -> list[str]:
    names = dict.fromkeys([*remedies, *added])
    # The remedies of a training are either weak or strong.
    strengths = [name for name in names if name in STRENGTHS]
    return [name for name in names if name not in strengths[:-1]]


def _is_said_of(override: str, keys: set[str]) -> bool:
    """Returns whether an override chooses one of these groups, or sets one of these keys or a value below it."""
    key = key_of_override(override)
    return any(key == other or key.startswith(f"{other}.") for other in keys)


def experiment_text(overrides: Sequence[str], title: str) -> str:
    """Returns the text of an experiment that does what the overrides do.

    Args:
        overrides: choices of groups, and values.
        title: what the experiment is, for its first line of comment.

    Raises:
        LabError: for an override that only a command line can have: one that deletes something, or sweeps.
    """
    defaults: list[Any] = []
    # As on a command line the last choice of a group counts; in a file it would be the first.
    chosen: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        if override.is_delete() or override.is_sweep_override() or override.package is not None:
            raise LabError(f"{override.input_line} can't be part of an experiment.", "Leave it out.", key=key)
        value = _plain(override.value())
        if key in recipes():
            names = value if isinstance(value, list) else [value]
            defaults += [f"/{key}/{name}" for name in names if name is not None]
        elif key in groups() and _is_choice(value):
            chosen[f"override /{key}"] = value
        else:
            _set(values, override, value)
    choices = [{group: option} for group, option in chosen.items()]
    content: dict[str, Any] = {"defaults": [*defaults, *choices, "_self_"], **values}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=1000)
    return f"# @package _global_\n# {printable(title)}\n{text}"


def _is_choice(value: Any) -> bool:
    """Returns whether a value chooses options of a group: one by its name, or several."""
    return isinstance(value, str | list)


def _set(values: dict[str, Any], override: Override, value: Any) -> None:
    """Sets a value below its dotted key."""
    *path, last = override.key_or_group.split(".")
    node = values
    for name in path:
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            raise LabError(f"{override.input_line} sets a value below another one.", "Leave one of the two out.")
    node[last] = value


def _plain(value: Any) -> Any:
    """Returns a value of Hydra's parser as YAML can write it."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(entry) for key, entry in value.items()}
    return value
