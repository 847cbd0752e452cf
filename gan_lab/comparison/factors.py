"""What differs between configurations, the factors of a comparison: from flat settings, `{"optim.lr": 0.001, …}`.

A *component* has a `_target_`: its class is chosen in a group (`optim=adam`), and it has settings that belong to it
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
        is_component: whether its values are classes.
    """

    name: str
    values: list[str]
    comes_with: dict[str, str] = field(default_factory=dict)
    is_component: bool = False

    @property
    def partition(self) -> tuple[int, ...]:
        """Which configurations share a value: factors that always change together have the same partition."""
        return tuple(self.values.index(value) for value in self.values)


def resolve(settings: Settings, key: str) -> Any:
    """Returns a setting's value, following references such as `${optim.lr}`; None for a missing one."""
    value = settings.get(key)
    # References could go in a circle: no chain is longer than the number of settings.
    for _ in settings:
        if not isinstance(value, str):
            break
        reference = re.fullmatch(r"\$\{([\w.]+)\}", value)
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
    if value is None:
        return "null"
    return str(value)


def class_name(target: str) -> str:
    """Returns a class in a word: torch.optim.Adam is Adam, NoNorm none, gan_lab.gan.networks.mlp.Generator mlp."""
    *modules, name = target.split(".")
    if name in ("Generator", "Discriminator") and modules:
        # Networks are told apart by their modules: every one has a class of this name.
        return modules[-1]
    if name == "NoNorm":
        return "none"
    return name


def label_value(factor: str, value: str) -> str:
    """Returns a value that explains itself: after its factor's name where it says too little (0.1, none, true)."""
    says_too_little = re.fullmatch(r"[\W\d]*|[\d.]+e[+-]?\d+|none|null|true|false", value, re.IGNORECASE)
    if says_too_little:
        return f"{factor} {value}"
    return value


def ordered_levels(values: Sequence[str]) -> list[str]:
    """Returns a factor's distinct values: numbers by size, else what remedies replace first, then as they come."""
    distinct = list(dict.fromkeys(values))
    try:
        return sorted(distinct, key=float)
    except ValueError:
        return sorted(distinct, key=lambda value: -_baseline_words(value))


def factors(configs: Sequence[Settings]) -> list[Factor]:
    """Returns what differs between configurations, in their order.

    A component is one factor: its class is the value, with all of its settings that the class decides. A setting that
    only one of the classes has is written after that class (LeakyReLU 0.2); one that several have is a separate factor.
    The remedies are one factor, see `_remedy_factors`. What always changes together is one factor that names all of it.
    """
    columns = _differing_columns(configs)
    remedies, remedy_keys = _remedy_factors(columns, configs)
    for key in remedy_keys & columns.keys():
        del columns[key]
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
        is_equal = all(config.get(key) == configs[0].get(key) for config in configs)
        if is_equal or not is_factor(key):
            continue
        column: Column = []
        for config in configs:
            if key in config:
                column.append(value_text(resolve(config, key)))
            else:
                column.append(None)
        # Different references may lead to the same value.
        if len(set(column)) > 1:
            columns[key] = column
    return columns


def _setting_factors(columns: dict[str, Column], configs: Sequence[Settings]) -> list[Factor]:
    """Returns a factor for each component that differs and for each setting that is not part of one of these."""
    factors_by_key: dict[str, Factor] = {}
    keys_in_components: set[str] = set()
    for key, column in columns.items():
        component, _, setting = key.rpartition(".")
        # The only setting of a component is written without its name: LeakyReLU 0.2.
        has_one_setting = all(_has_one_setting(config, component) for config in configs)
        is_one_factor = has_one_setting or f"{component}._target_" in columns
        if component and is_one_factor and component not in factors_by_key:
            factor, keys = _component_factor(component, columns, configs)
            factors_by_key[component] = factor
            keys_in_components |= keys
        is_class = is_one_factor and setting == "_target_"
        if key not in keys_in_components and not is_class:
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
        # A setting with one value says nothing more than the remedy's name.
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
    return [Factor(REMEDY, values, is_component=True), *setting_factors], keys


def remedy_names(value: str) -> str:
    """Returns a value of the factor of remedies without their settings: 'ema + r1' of 'ema + r1 gamma 10'."""
    return " + ".join(remedy.partition(" ")[0] for remedy in value.split(" + "))


def _settings_of(config: Settings, component: str) -> list[str]:
    """Returns the keys of a component's settings."""
    private = ("_target_", "_partial_")
    return [key for key in config if key.startswith(f"{component}.") and key.rpartition(".")[2] not in private]


def _has_one_setting(config: Settings, component: str) -> bool:
    """Whether a component has exactly one setting, which then needs no name."""
    return f"{component}._target_" in config and len(_settings_of(config, component)) == 1


def _component_factor(
    component: str, columns: dict[str, Column], configs: Sequence[Settings]
) -> tuple[Factor, set[str]]:
    """Returns a component's factor, and the keys of the settings that it covers."""
    targets = [config.get(f"{component}._target_") for config in configs]
    names = _class_names(component, targets, configs)
    values = [names[target] for target in targets]
    # By configuration: the settings that its class brings along, as text.
    companions = [""] * len(targets)
    keys = {f"{component}._target_"}
    for key, column in columns.items():
        setting = key.removeprefix(f"{component}.")
        if not key.startswith(f"{component}.") or "." in setting or setting == "_target_":
            continue
        pairs = set(zip(targets, column, strict=True))
        class_decides_value = len(pairs) == len(names)
        classes_with_setting = {target for target, value in pairs if value is not None}
        if class_decides_value:
            keys.add(key)
            # A setting that only some classes have, always with the same value, says nothing more than the class.
            if len(set(column) - {None}) > 1:
                for i, value in enumerate(column):
                    companions[i] = f"{companions[i]} {key} {value}".strip()
        elif len(classes_with_setting) == 1:
            keys.add(key)
            for i, text in enumerate(_setting_texts(component, setting, column, configs)):
                values[i] += text
    comes_with = {}
    for value, settings in zip(values, companions, strict=True):
        if settings:
            comes_with[value] = settings
    return Factor(component, values, comes_with, is_component=True), keys


def _setting_texts(component: str, setting: str, column: Column, configs: Sequence[Settings]) -> list[str]:
    """Returns what is written after each configuration's class: ' lr 0.1', ' 0.1' for an only setting, '' for none."""
    texts = []
    for config, value in zip(configs, column, strict=True):
        if value is None:
            texts.append("")
        elif _has_one_setting(config, component):
            texts.append(f" {value}")
        else:
            texts.append(f" {setting} {value}")
    return texts


def _class_names(component: str, targets: Sequence[Any], configs: Sequence[Settings]) -> dict[Any, str]:
    """Returns a distinct name for each `_target_` of a component; None is a configuration that does not choose one."""
    absent = "none"
    for config in configs:
        # It sets the component but leaves the class as it is by default.
        if f"{component}._target_" not in config and _settings_of(config, component):
            absent = f"{DEFAULT} {component}"
    short_names = {}
    full_names = {}
    for target in targets:
        short_names[target] = absent
        full_names[target] = absent
        if target is not None:
            short_names[target] = class_name(str(target))
            full_names[target] = str(target)
    # Two classes may have one name: then their modules tell them apart.
    is_distinct = len(set(short_names.values())) == len(short_names)
    return short_names if is_distinct else full_names


def _is_unset(value: str) -> bool:
    """Whether a factor's value stands for a key that a configuration does not have."""
    return value.startswith(f"{DEFAULT} ")


def _merge(members: list[Factor]) -> Factor:
    """Returns one factor for those that always change together, components first."""
    if len(members) == 1:
        return members[0]
    members = _without_settings_of_classes(sorted(members, key=lambda factor: not factor.is_component))
    groups = {_group(factor) for factor in members}
    # A merged factor within one group is named after the group.
    shared_group = groups.pop() if len(groups) == 1 else ""
    columns = [_labels_in_merged(factor, members, shared_group) for factor in members]
    values = []
    for labels in zip(*columns, strict=True):
        # G and D often have the same label, which is written once.
        values.append(" + ".join(dict.fromkeys(labels)))
    name = shared_group
    if not shared_group:
        names = [_name_in_merged(factor, members) for factor in members]
        name = " + ".join(dict.fromkeys(names))
    return Factor(name, values, _merged_companions(members, values), members[0].is_component)


def _merged_companions(members: Sequence[Factor], values: Sequence[str]) -> dict[str, str]:
    """Returns by value of the merged factor the settings that come with it."""
    comes_with: dict[str, str] = {}
    for factor in members:
        for value, factor_value in zip(values, factor.values, strict=True):
            settings = factor.comes_with.get(factor_value)
            present = comes_with.get(value, "")
            if settings is not None and settings not in present:
                comes_with[value] = f"{present} {settings}".strip()
    return comes_with


def _group(factor: Factor) -> str:
    """Returns the first word of a factor's key: model of model.generator.hidden."""
    return factor.name.partition(".")[0]


def _without_settings_of_classes(members: list[Factor]) -> list[Factor]:
    """Leaves out settings that only one class of a component in the same group has: they come with that class."""
    component_groups = [_group(factor) for factor in members if factor.is_component]
    remaining = []
    for factor in members:
        is_setting_of_class = (
            not factor.is_component
            and "." in factor.name
            and _group(factor) in component_groups
            and any(map(_is_unset, factor.values))
        )
        if not is_setting_of_class:
            remaining.append(factor)
    return remaining


def _labels_in_merged(factor: Factor, members: Sequence[Factor], shared_group: str) -> list[str]:
    """Returns a factor's values as they appear in the merged factor's values.

    Args:
        factor: one of `members`.
        members: the factors that are merged.
        shared_group: the group that all of them belong to; empty where they belong to several.
    """
    name = factor.name
    if shared_group:
        name = name.removeprefix(f"{shared_group}.")
        setting = name.rpartition(".")[2]
        # G's and D's widths are written once where they are equal: hidden [8].
        if all(member.values == factor.values and member.name.endswith(f".{setting}") for member in members):
            name = setting
    labels = []
    for value in factor.values:
        if factor.is_component or _is_unset(value):
            labels.append(label_value(name, value))
        else:
            labels.append(f"{name} {value}")
    return labels


def _name_in_merged(factor: Factor, members: Sequence[Factor]) -> str:
    """Returns a factor's name, or its group's where all members of the group have the same values (G and D)."""
    group = _group(factor)
    in_group = [member for member in members if member.name.startswith(f"{group}.")]
    if len(in_group) > 1 and all(member.values == factor.values for member in in_group):
        return group
    return factor.name
