"""What differs between configurations, the factors of a comparison: from flat settings, `{"optim.lr": 0.001, …}`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gan_lab.config.schema import is_factor

Settings = Mapping[str, Any]

DEFAULT = "default"  # of what a configuration doesn't set
PLAIN = {"MSE", "Sigmoid", "SGD", "none"}  # what remedies take the place of: the first value of a factor
REMEDY = "remedy"  # the setting that names a run's remedies, 'ema + r1'; their own settings stand below it


@dataclass
class Factor:
    """Something that differs: its value in each run, and for values that stand for more, what came with them."""

    name: str
    values: list[str]
    with_it: dict[str, str] = field(default_factory=dict)
    part: bool = False


def resolved(settings: Settings, key: str) -> Any:
    """A setting's value, that of another one where it refers to it; None for those that are missing, too."""
    value = settings.get(key)
    for _ in settings:  # references can go in a circle
        named = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
        if not named or named[1] not in settings:
            break
        value = settings[named[1]]
    return value


def text(value: Any) -> str:
    """A value as a configuration has it; equal numbers alike."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, list):
        return f"[{', '.join(map(text, value))}]"
    return "null" if value is None else str(value)


def part_name(target: str) -> str:
    """A class in a word: torch.optim.Adam is Adam, NoNorm none, gan_lab.gan.networks.mlp.Generator mlp."""
    *modules, name = target.split(".")
    if name in ("Generator", "Discriminator") and modules:
        return modules[-1]
    return "none" if name == "NoNorm" else name


def named(factor: str, value: str) -> str:
    """A value that says what it is: behind its factor's name where alone it says too little (0.1, none, true)."""
    bare = re.fullmatch(r"[\W\d]*|[\d.]+e[+-]?\d+|none|null|true|false", value, re.IGNORECASE)
    return f"{factor} {value}" if bare else value


def levels(values: Sequence[str]) -> list[str]:
    """A factor's values in order: what remedies replace first, numbers by size, else as they come."""
    distinct = list(dict.fromkeys(values))
    try:
        distinct.sort(key=float)
    except ValueError:
        distinct.sort(key=lambda value: -len(PLAIN & set(re.split(r"[\s+]+", value))))
    return distinct


def factors(configs: Sequence[Settings]) -> list[Factor]:
    """What differs between configurations, in their order.

    A part (what has a `_target_`) is one factor, its class the value, with all of its settings that the class decides;
    a setting that only one of the classes has stands behind it (LeakyReLU 0.2), one that several have is a factor of
    its own. The remedies are one factor, see `_remedies`. What always changes together is one factor, which names all
    of it.
    """
    keys = dict.fromkeys(key for config in configs for key in config if is_factor(key))
    # A reference that is the same everywhere changes nothing that isn't seen elsewhere.
    keys = {key: None for key in keys if any(config.get(key) != configs[0].get(key) for config in configs)}
    columns = {
        key: [text(resolved(config, key)) if key in config else None for config in configs]
        for key in sorted(keys, key=list(configs[0] | dict.fromkeys(keys)).index)  # type: ignore[operator]
    }
    columns = {key: column for key, column in columns.items() if len(set(column)) > 1}
    remedies, theirs = _remedies(columns, configs)
    columns = {key: column for key, column in columns.items() if key not in theirs}
    found: dict[str, Factor] = {}
    taken: set[str] = set()
    for key in columns:
        part = key.removesuffix("._target_") if key.endswith("._target_") else key.rpartition(".")[0]
        whole = f"{part}._target_" in columns or all(_lone(config, part) for config in configs)
        if part and whole and part not in found:
            found[part], more = _part(part, columns, configs)
            taken |= more
        if key not in taken and not (whole and key.endswith("._target_")):
            found[key] = Factor(key, [f"{DEFAULT} {key}" if value is None else value for value in columns[key]])
    together: dict[tuple[int, ...], list[Factor]] = {}
    for factor in (*found.values(), *remedies):
        if len(set(factor.values)) > 1:
            together.setdefault(tuple(map(factor.values.index, factor.values)), []).append(factor)
    return [_merged(members) for members in together.values()]


def _remedies(columns: Mapping[str, list[str | None]], configs: Sequence[Settings]) -> tuple[list[Factor], set[str]]:
    """One factor for all of the remedies, 'none', 'ema + r1', and the keys that are in it or come with a remedy.

    A remedy's own setting tells runs apart where those that have the remedy differ in it: it stands behind the remedy's
    name ('r1 gamma 10'), or, where all have the remedy, is a factor of its own.
    """
    chosen = [{name: name for name in text(config.get(REMEDY, "none")).split(" + ")} for config in configs]
    own, keys = [], {REMEDY}
    for key, column in columns.items():
        if key.startswith(f"{REMEDY}."):
            keys.add(key)
            name, _, setting = key.removeprefix(f"{REMEDY}.").partition(".")
            if len(set(column) - {None}) < 2:
                continue
            if None not in column:
                own.append(Factor(key, [str(value) for value in column]))
            for words, value in zip(chosen, column, strict=True):
                if name in words and None in column and value is not None:
                    words[name] += f" {setting} {value}"
    return [Factor(REMEDY, [" + ".join(words.values()) for words in chosen], part=True), *own], keys


def _settings_of(config: Settings, part: str) -> list[str]:
    private = ("_target_", "_partial_")
    return [key for key in config if key.startswith(f"{part}.") and key.rpartition(".")[2] not in private]


def _lone(config: Settings, part: str) -> bool:
    """Whether a part has exactly one setting, which then needs no name."""
    return f"{part}._target_" in config and len(_settings_of(config, part)) == 1


def _part(part: str, columns: dict[str, list[str | None]], configs: Sequence[Settings]) -> tuple[Factor, set[str]]:
    """A part's factor, and the keys that are in it."""
    targets = [config.get(f"{part}._target_") for config in configs]
    absent = (
        f"{DEFAULT} {part}"
        if any(_settings_of(config, part) for config in configs if f"{part}._target_" not in config)
        else "none"
    )
    short = {target: absent if target is None else part_name(str(target)) for target in targets}
    if len(set(short.values())) < len(short):  # two classes of one name
        short = {target: absent if target is None else str(target) for target in targets}
    values, with_it, taken = [short[target] for target in targets], [""] * len(targets), {f"{part}._target_"}
    for key, column in columns.items():
        name = key.removeprefix(f"{part}.")
        if not key.startswith(f"{part}.") or "." in name or name == "_target_":
            continue
        pairs = set(zip(targets, column, strict=True))
        having = {target for target, value in pairs if value is not None}
        if len(pairs) == len(short):  # the class decides
            if len({value for _, value in pairs} - {None}) > 1:
                with_it = [f"{old} {key} {value}".strip() for old, value in zip(with_it, column, strict=True)]
        elif len(having) == 1:
            for i, value in enumerate(column):
                if value is not None:
                    values[i] += f" {value}" if _lone(configs[i], part) else f" {name} {value}"
        else:
            continue
        taken.add(key)
    told = {value: more for value, more in zip(values, with_it, strict=True) if more}
    return Factor(part, values, told, part=True), taken


def _unset(value: str) -> bool:
    return value.startswith(f"{DEFAULT} ")


def _merged(members: list[Factor]) -> Factor:
    """One factor of those that always change together, parts first."""
    if len(members) == 1:
        return members[0]
    members = sorted(members, key=lambda factor: not factor.part)
    parts = tuple(f"{factor.name.partition('.')[0]}." for factor in members if factor.part)
    members = [  # what only one of a group's parts has comes with it
        m for m in members if m.part or not m.name.startswith(parts) or not any(map(_unset, m.values))
    ]
    groups = {factor.name.partition(".")[0] for factor in members}
    prefix = f"{groups.pop()}." if len(groups) == 1 else ""
    pieces = []
    for factor in members:
        name = factor.name.removeprefix(prefix)
        last = name.rpartition(".")[2] if prefix else name  # G's and D's widths: once where they are equal
        same = all(other.values == factor.values and other.name.endswith(f".{last}") for other in members)
        shown = last if same else name
        pieces.append([named(shown, v) if factor.part or _unset(v) else f"{shown} {v}" for v in factor.values])
    values = [" + ".join(dict.fromkeys(each)) for each in zip(*pieces, strict=True)]
    with_it: dict[str, str] = {}
    for factor in members:
        for value, own in zip(values, factor.values, strict=True):
            if own in factor.with_it and factor.with_it[own] not in with_it.get(value, ""):
                with_it[value] = f"{with_it.get(value, '')} {factor.with_it[own]}".strip()
    name = prefix.rstrip(".") or " + ".join(dict.fromkeys(_called(factor, members) for factor in members))
    return Factor(name, values, with_it, members[0].part)


def _called(factor: Factor, members: Sequence[Factor]) -> str:
    """Its name; that of its group where all of the group says the same (G and D of one model)."""
    group = factor.name.partition(".")[0]
    others = [member for member in members if member.name.startswith(f"{group}.")]
    return group if len(others) > 1 and all(other.values == factor.values for other in others) else factor.name
