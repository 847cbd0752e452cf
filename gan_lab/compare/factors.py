"""What differs between configurations, the factors of a comparison: from flat settings, `{"optim.lr": 0.001, …}`.

A *part* is what has a `_target_`: its class is chosen in a group (`optim=adam`), and it has settings of its own
(`optim.lr`). A *column* is a key's value in each configuration, as text; None where the configuration has no such key.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gan_lab.config.schema import is_factor

Settings = Mapping[str, Any]
Column = list[str | None]

# The word before a key in the value of a factor that a configuration does not set.
DEFAULT = "default"
# What remedies replace: a factor begins with these values.
BASELINE_VALUES = {"MSE", "Sigmoid", "SGD", "none"}
# The setting that names a run's remedies, 'ema + r1'; their own settings are below it, `remedy.r1.gamma`.
REMEDY = "remedy"


@dataclass
class Factor:
    """Something that differs between configurations.

    Attributes:
        name: the key or keys that differ.
        values: its value in each configuration.
        comes_with: by value, settings that always change together with it; empty where there are none.
        is_part: whether its values are classes.
    """

    name: str
    values: list[str]
    comes_with: dict[str, str] = field(default_factory=dict)
    is_part: bool = False

    @property
    def partition(self) -> tuple[int, ...]:
        """Which configurations share a value: factors that always change together have the same partition."""
        return tuple(self.values.index(value) for value in self.values)


def resolve(settings: Settings, key: str) -> Any:
    """Returns a setting's value, following references such as `${optim.lr}`; None for a missing one."""
    value = settings.get(key)
    # References could go in a circle: no chain is longer than the number of settings.
    for _ in settings:
        reference = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
        if reference is None or reference[1] not in settings:
            break
        value = settings[reference[1]]
    return value


def value_text(value: Any) -> str:
    """Returns a value as a configuration writes it; equal numbers give equal texts."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, list):
        return f"[{', '.join(map(value_text, value))}]"
    return "null" if value is None else str(value)


def part_name(target: str) -> str:
    """Returns a class in a word: torch.optim.Adam is Adam, NoNorm none, gan_lab.gan.networks.mlp.Generator mlp."""
    *modules, name = target.split(".")
    if name in ("Generator", "Discriminator") and modules:
        return modules[-1]
    return "none" if name == "NoNorm" else name


def label_value(factor: str, value: str) -> str:
    """Returns a value that explains itself: after its factor's name where it says too little (0.1, none, true)."""
    says_too_little = re.fullmatch(r"[\W\d]*|[\d.]+e[+-]?\d+|none|null|true|false", value, re.IGNORECASE)
    return f"{factor} {value}" if says_too_little else value


def ordered_levels(values: Sequence[str]) -> list[str]:
    """Returns a factor's distinct values: numbers by size, else what remedies replace first, the rest as they come."""
    distinct = list(dict.fromkeys(values))
    try:
        return sorted(distinct, key=float)
    except ValueError:
        return sorted(distinct, key=lambda value: -_baseline_words(value))


def factors(configs: Sequence[Settings]) -> list[Factor]:
    """Returns what differs between configurations, in their order.

    A part is one factor: its class is the value, with all of its settings that the class decides. A setting that only
    one of the classes has is written after that class (LeakyReLU 0.2), one that several have is a factor of its own.
    The remedies are one factor, see `_remedy_factors`. What always changes together is one factor that names all of it.
    """
    columns = _differing_columns(configs)
    remedies, remedy_keys = _remedy_factors(columns, configs)
    columns = {key: column for key, column in columns.items() if key not in remedy_keys}
    groups: dict[tuple[int, ...], list[Factor]] = {}
    for factor in (*_setting_factors(columns, configs), *remedies):
        if len(set(factor.values)) > 1:
            groups.setdefault(factor.partition, []).append(factor)
    return [_merge(members) for members in groups.values()]


def _baseline_words(value: str) -> int:
    """Counts the words of a value that are names of what remedies replace."""
    return len(BASELINE_VALUES & set(re.split(r"[\s+]+", value)))


def _differing_columns(configs: Sequence[Settings]) -> dict[str, Column]:
    """Returns the columns of the keys that matter and differ, in the order of the first configuration."""
    keys = dict.fromkeys(configs[0])
    for config in configs:
        keys |= dict.fromkeys(config)
    columns = {}
    for key in keys:
        # A reference that is the same everywhere changes nothing that is not seen at the key that it refers to.
        if not is_factor(key) or all(config.get(key) == configs[0].get(key) for config in configs):
            continue
        column = [value_text(resolve(config, key)) if key in config else None for config in configs]
        if len(set(column)) > 1:
            columns[key] = column
    return columns


def _setting_factors(columns: dict[str, Column], configs: Sequence[Settings]) -> list[Factor]:
    """Returns a factor for each part that differs and for each setting that is not within one of these."""
    factors_by_key: dict[str, Factor] = {}
    keys_in_parts: set[str] = set()
    for key, column in columns.items():
        part = key.removesuffix("._target_") if key.endswith("._target_") else key.rpartition(".")[0]
        # The only setting of a part needs no name of its own: LeakyReLU 0.2.
        is_one_factor = f"{part}._target_" in columns or all(_has_one_setting(config, part) for config in configs)
        if part and is_one_factor and part not in factors_by_key:
            factor, keys = _part_factor(part, columns, configs)
            factors_by_key[part] = factor
            keys_in_parts |= keys
        if key not in keys_in_parts and not (is_one_factor and key.endswith("._target_")):
            values = [f"{DEFAULT} {key}" if value is None else value for value in column]
            factors_by_key[key] = Factor(key, values)
    return list(factors_by_key.values())


def _remedy_factors(columns: Mapping[str, Column], configs: Sequence[Settings]) -> tuple[list[Factor], set[str]]:
    """Returns one factor for all of the remedies, 'none', 'ema + r1', and the keys that belong to remedies.

    A remedy's own setting matters where runs that have the remedy differ in it: it is written after the remedy's name
    ('r1 gamma 10') or, where all runs have the remedy, is a factor of its own.
    """
    labels: list[dict[str, str]] = []
    for config in configs:
        names = value_text(config.get(REMEDY, "none")).split(" + ")
        labels.append({name: name for name in names})
    setting_factors = []
    keys = {REMEDY}
    for key, column in columns.items():
        if not key.startswith(f"{REMEDY}."):
            continue
        keys.add(key)
        if len(set(column) - {None}) < 2:
            continue
        if None not in column:
            setting_factors.append(Factor(key, [str(value) for value in column]))
            continue
        name, _, setting = key.removeprefix(f"{REMEDY}.").partition(".")
        for label, value in zip(labels, column, strict=True):
            if name in label and value is not None:
                label[name] += f" {setting} {value}"
    values = [" + ".join(label.values()) for label in labels]
    return [Factor(REMEDY, values, is_part=True), *setting_factors], keys


def _settings_of(config: Settings, part: str) -> list[str]:
    """Returns the keys of a part's settings."""
    private = ("_target_", "_partial_")
    return [key for key in config if key.startswith(f"{part}.") and key.rpartition(".")[2] not in private]


def _has_one_setting(config: Settings, part: str) -> bool:
    """Whether a part has exactly one setting, which then needs no name."""
    return f"{part}._target_" in config and len(_settings_of(config, part)) == 1


def _part_factor(part: str, columns: dict[str, Column], configs: Sequence[Settings]) -> tuple[Factor, set[str]]:
    """Returns a part's factor, and the keys whose differences it tells."""
    targets = [config.get(f"{part}._target_") for config in configs]
    names = _class_names(part, targets, configs)
    values = [names[target] for target in targets]
    comes_with = [""] * len(targets)
    keys = {f"{part}._target_"}
    for key, column in columns.items():
        setting = key.removeprefix(f"{part}.")
        if not key.startswith(f"{part}.") or "." in setting or setting == "_target_":
            continue
        pairs = set(zip(targets, column, strict=True))
        class_decides_value = len(pairs) == len(names)
        classes_with_setting = {target for target, value in pairs if value is not None}
        if class_decides_value:
            keys.add(key)
            # A setting that only some classes have, always with the same value, says nothing more than the class.
            if len({value for _, value in pairs} - {None}) > 1:
                comes_with = [f"{more} {key} {value}".strip() for more, value in zip(comes_with, column, strict=True)]
        elif len(classes_with_setting) == 1:
            keys.add(key)
            for i, value in enumerate(column):
                if value is None:
                    continue
                if not _has_one_setting(configs[i], part):
                    values[i] += f" {setting}"
                values[i] += f" {value}"
    comes_with_value = {value: more for value, more in zip(values, comes_with, strict=True) if more}
    return Factor(part, values, comes_with_value, is_part=True), keys


def _class_names(part: str, targets: Sequence[Any], configs: Sequence[Settings]) -> dict[Any, str]:
    """Returns a distinct name for each `_target_` of a part; None is a configuration that does not choose the part."""
    absent = "none"
    for config in configs:
        if f"{part}._target_" not in config and _settings_of(config, part):
            absent = f"{DEFAULT} {part}"
    names = {}
    for target in targets:
        names[target] = absent if target is None else part_name(str(target))
    if len(set(names.values())) == len(names):
        return names
    # Two classes of one name: their modules tell them apart.
    return {target: absent if target is None else str(target) for target in targets}


def _is_unset(value: str) -> bool:
    return value.startswith(f"{DEFAULT} ")


def _merge(members: list[Factor]) -> Factor:
    """Returns one factor for those that always change together, parts first."""
    if len(members) == 1:
        return members[0]
    members = _without_settings_of_parts(sorted(members, key=lambda factor: not factor.is_part))
    groups = {factor.name.partition(".")[0] for factor in members}
    prefix = f"{groups.pop()}." if len(groups) == 1 else ""
    columns = [_labels_in_merged(factor, members, prefix) for factor in members]
    values = []
    for labels in zip(*columns, strict=True):
        values.append(" + ".join(dict.fromkeys(labels)))
    comes_with: dict[str, str] = {}
    for factor in members:
        for value, factor_value in zip(values, factor.values, strict=True):
            more = factor.comes_with.get(factor_value)
            if more is not None and more not in comes_with.get(value, ""):
                comes_with[value] = f"{comes_with.get(value, '')} {more}".strip()
    name = prefix.rstrip(".")
    if not name:
        name = " + ".join(dict.fromkeys(_name_in_merged(factor, members) for factor in members))
    return Factor(name, values, comes_with, members[0].is_part)


def _without_settings_of_parts(members: list[Factor]) -> list[Factor]:
    """Leaves out settings that only one class of a group's parts has: they come with that class."""
    part_groups = tuple(f"{factor.name.partition('.')[0]}." for factor in members if factor.is_part)
    remaining = []
    for factor in members:
        is_unset_somewhere = any(map(_is_unset, factor.values))
        if factor.is_part or not factor.name.startswith(part_groups) or not is_unset_somewhere:
            remaining.append(factor)
    return remaining


def _labels_in_merged(factor: Factor, members: Sequence[Factor], prefix: str) -> list[str]:
    """Returns a factor's values as parts of the merged factor's values.

    Args:
        factor: one of `members`.
        members: the factors that are merged.
        prefix: the group that they share with a dot, `model.`; empty where they share none.
    """
    name = factor.name.removeprefix(prefix)
    # G's and D's widths are said once where they are equal: hidden [8].
    last = name.rpartition(".")[2] if prefix else name
    if all(other.values == factor.values and other.name.endswith(f".{last}") for other in members):
        name = last
    labels = []
    for value in factor.values:
        if factor.is_part or _is_unset(value):
            labels.append(label_value(name, value))
        else:
            labels.append(f"{name} {value}")
    return labels


def _name_in_merged(factor: Factor, members: Sequence[Factor]) -> str:
    """Returns a factor's name, or its group's where all members of the group have the same values (G and D)."""
    group = factor.name.partition(".")[0]
    in_group = [member for member in members if member.name.startswith(f"{group}.")]
    if len(in_group) > 1 and all(member.values == factor.values for member in in_group):
        return group
    return factor.name
