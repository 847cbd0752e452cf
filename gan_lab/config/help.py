"""The text of `--help`: from the schema, the declarations of parts and the YAML files, without Hydra and torch."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gan_lab.config.declarations import declared, settings_of
from gan_lab.config.schema import GROUPS, Group, key_of, leaves
from gan_lab.config.targets import is_known, option_of, own_parts, targets
from gan_lab.config.types import ValueSpec
from gan_lab.core.declare import SITUATIONS
from gan_lab.core.errors import LabError
from gan_lab.core.installation import CONF, program
from gan_lab.core.io import MAX_YAML, read_text
from gan_lab.core.terminal import printable

# Columns of the terminal that the text fills.
WIDTH = 80
# Columns for the name of a key or option; a longer one has a line for itself.
NAME_WIDTH = 28
# What OmegaConf writes for a value that has to be given.
REQUIRED = "???"
# A space at which no line breaks.
UNBROKEN = "\u00a0"


class Option(NamedTuple):
    """An option of a group.

    Attributes:
        name: of the option.
        help: the first comment of its file.
        settings: what it sets, by dotted key.
        targets: the classes and functions that it names, by dotted key.
    """

    name: str
    help: str
    settings: dict[str, Any]
    targets: dict[str, Any]


class Setting(NamedTuple):
    """A key with what `--help` says of it."""

    name: str
    default: str
    help: str
    values: str


# What else there is to say about a command: a text, and the meaning of the words that a key may have.
DETAILS = {
    "check": (
        "Four checks, each ends with pass, warning or failure:",
        {
            "1 data": "their number, shape, range and classes, and flaws",
            "2 separation": "can a fresh D learn to tell real samples from noise?",
            "3 generator": "has the untrained G's output the data's shape and range, and does it vary with z?",
            "4 objective": "does each phase of a step update its own network, and no other?",
        },
    ),
    "explore": (
        "What op= does with the latent vectors a and b:",
        {
            "grid": "n samples, from vector a on",
            "interpolate": "n samples on the way from a to b, also as a GIF",
            "add": "a + b",
            "subtract": "a - b",
            "multiply": "a * b, component by component",
            "walk": "a closed path through n vectors, from a on, as a GIF",
            "surface": "what D answers, and where it pulls G's samples: over the plane, or under n samples",
        },
    ),
    "backquery": (
        "What method= does:",
        {
            "inverse": "runs a network of sigmoid layers backwards, through its transposed weights",
            "gradient": "climbs to the image that the classifier is surest of",
        },
    ),
    "benchmark": (
        "What what= measures:",
        {
            "step": "a training step: gan_lab, a loop by hand, Lightning's usual pattern, the book's code",
            "replicas": "K GANs in one process compared with one",
            "storage": "random images from PNGs, zip, HDF5 and memory; packing",
            "startup": "seconds to an answer and to the first step; memory",
            "sweep": "eight seeds one by one, at the same time, as replicas",
            "verdict": "how often the verdict finds fault with real data, and which fabricated failures it notices",
            "statistics": "false alarms, power and coverage of comparisons of made-up runs",
        },
    ),
}
FLAGS = {
    "-m": "a sweep: one run for each combination of values, as in loss=mse,bce",
    "--cfg job": "show the configuration and do nothing else",
    "--config-dir <folder>": "add options of your own, in a folder that is laid out like conf/",
    "--hydra-help": "all flags",
}


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Tells whether a command line asks for help; `--hydra-help` is Hydra's own."""
    return bool({"--help", "-h"} & set(arguments))


def help_text(command: str, folders: Sequence[Path] = ()) -> str:
    """Returns what `--help` prints.

    The comments at the start of the command's file say how it is called and what it does (`# python
    scripts/<command>.py <arguments>: <description>`), what it writes (`# Writes: …`), and give examples
    (`# Example: python …`).

    Args:
        command: the command's file in conf/, without its ending.
        folders: further folders with options, laid out like conf/ (`--config-dir`).
    """
    path = CONF / f"{command}.yaml"
    usage, _, _ = _first_comment(path).partition(": ")
    chosen, values = defaults_of(command)
    groups = list(_group_lines(chosen, folders))
    lines = [*_wrapped(f"usage: {_as_called(usage)} [key=value …]"), "", *_wrapped(description(command))]
    if command in DETAILS:
        title, meanings = DETAILS[command]
        lines += ["", title]
        for word, text in meanings.items():
            lines += _columns(word, text, "  ")
    lines += _section("Writes:", _wrapped(" ".join(_comments_after("Writes: ", path)), "  "))
    lines += _section("Groups, each with its options (* is the default) and their settings:", groups)
    lines += ["", "Keys:"]
    for key, value in leaves(values):
        declaration = key_of(key)
        if declaration and key != "format":
            text = declaration.help_for.get(command, declaration.help)
            lines += _setting_lines(Setting(key, _yaml(value), text, declaration.spec.brief()), "  ")
    lines += _section("Examples:", [f"  {_as_called(example)}" for example in _comments_after("Example: ", path)])
    lines += ["", "Flags of Hydra:"]
    for flag, text in FLAGS.items():
        if flag == "-m" and command != "train":
            continue
        lines += _columns(flag, text, "  ")
    return "\n".join(printable(line) for line in lines)


def description(command: str) -> str:
    """Returns what a command does, in a sentence."""
    _, _, text = _first_comment(CONF / f"{command}.yaml").partition(": ")
    return _sentence(text)


def about_option(group: str, name: str) -> str:
    """Returns what an option of conf/ says about itself; '' if there is no such option."""
    return _first_comment(CONF / group / f"{name}.yaml")


def _as_called(line: str) -> str:
    """Returns a command line of a clone, `python scripts/check.py …`, as the user calls it; see `program`."""
    match = re.match(r"python (?:scripts/)?(\w+)\.py", line)
    return line if match is None else program(match[1]) + line[match.end() :]


def _section(title: str, lines: Sequence[str]) -> list[str]:
    """Returns an empty line, a title and the lines below it; nothing if there are no lines."""
    if not lines:
        return []
    return ["", title, *lines]


def defaults_of(command: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the default options of a command by group, and its keys with their default values.

    A command that begins with another one's file (`defaults: [train]`) has those of both.
    """
    content = _content(CONF / f"{command}.yaml")
    chosen: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for default in content.pop("defaults", []):
        if isinstance(default, str) and default != "_self_":
            base_chosen, base_values = defaults_of(default)
            chosen |= base_chosen
            values |= base_values
        elif isinstance(default, dict):
            chosen |= {name: option for name, option in default.items() if not name.startswith("override ")}
    content.pop("hydra", None)
    values |= {key: value for key, value in content.items() if key not in chosen}
    return chosen, values


def _group_lines(chosen: dict[str, Any], folders: Sequence[Path]) -> Iterator[str]:
    """Yields the lines about the groups of a command, in the order of the schema."""
    for group in GROUPS:
        if group.name not in chosen:
            continue
        options = list(group_options(group, folders))
        default = str(chosen[group.name])
        yield ""
        yield from _wrapped(f"{group.name}: {group.help}")
        if not options:
            yield "    (gan_lab has none; --config-dir <folder> adds yours)"
        for option in options:
            mark = " "
            if option.name == default:
                mark = "*"
            yield from _columns(f"{mark} {option.name}", option.help, "  ")
            conflicts = _conflicts_of(option)
            if conflicts:
                yield from _columns("", f"not with {'; '.join(conflicts)}", "  ")
        # What a recipe sets is listed with the group that it belongs to.
        if group.recipe:
            continue
        settings = list(_settings(options, default))
        if settings:
            yield "    settings:"
        for setting in settings:
            yield from _setting_lines(setting, "      ")


def group_options(group: Group, folders: Sequence[Path] = ()) -> Iterator[Option]:
    """Yields the options of a group by name, those of further folders among them."""
    files = {}
    for folder in (CONF, *folders):
        for file in (folder / group.name).rglob("*.yaml"):
            files[file.relative_to(folder / group.name).with_suffix("").as_posix()] = file
    for name, file in sorted(files.items()):
        content = _content(file)
        content.pop("defaults", None)
        package = _package(file, group.name)
        nested: dict[str, Any] = {}
        if package:
            nested = content
            for level in reversed(package.split(".")):
                nested = {level: nested}
        settings = dict(leaves(nested))
        classes = {key: node["_target_"] for key, node in targets(nested)}
        yield Option(name, _first_comment(file), settings, classes)


def _conflicts_of(option: Option) -> list[str]:
    """Returns what the parts of an option declare that they can't be combined with, as it is chosen."""
    conflicts: list[str] = []
    for target in option.targets.values():
        if isinstance(target, str) and is_known(target):
            conflicts += declared(target).conflicts
    return [SITUATIONS.get(name) or _option_called(name) for name in conflicts]


def _option_called(name: str) -> str:
    """Returns the option with a class of this name, `norm=batch`; the name itself where gan_lab has no such option."""
    for target in sorted(own_parts()):
        if not f".{target}".endswith(f".{name}"):
            continue
        for group in GROUPS:
            choice = option_of(group.name, target)
            if choice and group.name == "remedy":
                return f"remedy=[{choice.removeprefix('remedy=')}]"
            if choice:
                return choice
    return name


def _settings(options: Sequence[Option], default: str) -> Iterator[Setting]:
    """Yields the settings of a group's options by key, each with its values by option where they differ."""
    by_key: dict[str, dict[str, Any]] = {}
    for option in options:
        for key, value in option.settings.items():
            by_key.setdefault(key, {})[option.name] = value
    specs, helps = _declared(options)
    for key, values in sorted(by_key.items()):
        if all(_refers_outside(value, key) for value in values.values()):
            continue
        declaration = key_of(key)
        if declaration:
            spec = declaration.spec
            text = declaration.help
        else:
            # A setting of a user's part that declares nothing may have any value.
            spec = specs.get(key, ValueSpec(str))
            text = helps.get(key, "")
        distinct = {_yaml(value) for value in values.values()}
        default_text = "by option"
        if default in values:
            default_text = _yaml(values[default])
        elif len(distinct) == 1:
            default_text = distinct.pop()
        yield Setting(key, default_text, text, spec.brief())


def _refers_outside(value: Any, key: str) -> bool:
    """Tells whether a value refers to a key outside of this key's group.

    Such a setting is set by the other key: `dataset.data_dir` is `${data_dir}`. One that refers to a key of its group
    is worth a line of its own: `model.generator.depth` is `${model.depth}` unless it is set for G only.
    """
    group = key.partition(".")[0]
    text = str(value)
    return text.startswith("${") and not text.startswith(f"${{{group}.")


def _declared(options: Sequence[Option]) -> tuple[dict[str, ValueSpec], dict[str, str]]:
    """Returns the values and the help of the settings that gan_lab's own parts declare, by dotted key."""
    specs: dict[str, ValueSpec] = {}
    helps: dict[str, str] = {}
    for option in options:
        for key, target in option.targets.items():
            if not isinstance(target, str) or not is_known(target):
                continue
            for name, spec in settings_of(target).items():
                specs[f"{key}.{name}"] = spec
                helps[f"{key}.{name}"] = str(declared(target).settings[name].get("help", ""))
    return specs, helps


def _content(path: Path) -> dict[str, Any]:
    """Returns what a YAML file holds; {} for one that can't be read, which composing it will say."""
    try:
        content = yaml.safe_load(read_text(path, MAX_YAML))
    except (OSError, LabError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    if not isinstance(content, dict):
        return {}
    return content


def _comments(path: Path) -> Iterator[str]:
    """Yields the comments at the start of a file, without their signs."""
    try:
        lines = read_text(path, MAX_YAML).splitlines()
    except (OSError, LabError, ValueError):
        return
    for line in lines:
        if not line.startswith("#"):
            return
        yield line.lstrip("# ").rstrip()


def _first_comment(path: Path) -> str:
    """Returns what a file says about itself: its first comment that isn't for Hydra."""
    for comment in _comments(path):
        if not comment.startswith("@package"):
            return comment
    return ""


def _comments_after(prefix: str, path: Path) -> list[str]:
    """Returns the comments at the start of a file that begin with a prefix, without it."""
    return [comment.removeprefix(prefix) for comment in _comments(path) if comment.startswith(prefix)]


def _package(path: Path, group: str) -> str:
    """Returns where an option's content goes in the configuration; empty for the top."""
    for comment in _comments(path):
        if comment.startswith("@package "):
            package = comment.removeprefix("@package ").strip()
            if package == "_global_":
                return ""
            return package.removeprefix("_global_.")
    return group


def _yaml(value: Any) -> str:
    """Returns a default value as it is written on the command line."""
    if value == REQUIRED:
        return "required"
    if value == "":
        return "''"
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).strip()
    return text.removesuffix("\n...").strip()


def _sentence(text: str) -> str:
    """Returns a text with a capital at its beginning and a full stop at its end."""
    text = text[:1].upper() + text[1:]
    return text.removesuffix(".") + "."


def _setting_lines(setting: Setting, indent: str) -> list[str]:
    """Returns the lines about one setting: `key=default`, its help, and its values in brackets."""
    values = ""
    if setting.values:
        values = f"[{setting.values}]"
        if len(values) <= WIDTH - NAME_WIDTH - len(indent):
            # In one piece: a line breaks before the brackets, not within.
            values = values.replace(" ", UNBROKEN)
    lines = _columns(f"{setting.name}={setting.default}", f"{setting.help} {values}", indent)
    return [line.replace(UNBROKEN, " ") for line in lines]


def _columns(name: str, text: str, indent: str) -> list[str]:
    """Returns a name and a text next to it, wrapped; a long name has a line for itself."""
    margin = indent + " " * NAME_WIDTH
    lines = _wrapped(text, margin) or [""]
    if len(name) > NAME_WIDTH - 2:
        return [f"{indent}{name}", *lines]
    lines[0] = f"{indent}{name}".ljust(len(margin)) + lines[0][len(margin) :]
    return [line.rstrip() for line in lines]


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
