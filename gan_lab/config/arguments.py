"""The command line before Hydra sees it: what it names, and a refusal of what Hydra would not do as it says."""

import os
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from gan_lab.config.schema import spec_of, takes_one
from gan_lab.config.targets import groups
from gan_lab.core.command_line import hydra_text
from gan_lab.core.errors import LabError
from gan_lab.core.installation import CONF, install_extra

# Hydra's flags that are followed by a value.
_FLAGS_WITH_VALUE = {"--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--package", "-p"}
_FLAGS_WITH_VALUE |= {"--cfg", "-c", "--info", "-i"}

# Hydra's flags that say what to do; it takes one of them.
_MODES = {"--run", "-r", "--multirun", "-m", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc"}

# Hydra's keys that name folders.
FOLDER_KEYS = ("hydra.run.dir", "hydra.sweep.dir")

# A ~ at the start of a value or of an entry, with all up to the next entry; a backslash escapes what follows it.
_TILDE = re.compile(r"""(?<![^\[,])~(?:[^,\]\\"']|\\.)*""")


class Plugin(NamedTuple):
    """The plugin of Hydra that a preset in conf/hydra/ needs, and the extra of pyproject.toml that installs it."""

    module: str
    extra: str


PLUGINS = {
    "hydra/launcher=slurm": Plugin("hydra_submitit_launcher", "slurm"),
    "hydra/launcher=ray": Plugin("hydra_ray_launcher", "ray"),
    "hydra/sweeper=optuna": Plugin("hydra_optuna_sweeper", "optuna"),
}


def quote_texts(arguments: Sequence[str]) -> list[str]:
    """Puts into quotes what Hydra's grammar has no place for: a `~`, and texts such as `사진.zip` or `a (1).h5`.

    A text is quoted where the key takes one and Hydra can't read the argument. What begins with a quotation mark or a
    bracket is left to Hydra's refusal. `gan_lab.config.folders.expand_home` puts the user's home in the place of `~`
    where the key names a path. The folder of `--config-dir=~/…`, which Hydra reads by itself, is expanded here.
    """
    parser = OverridesParser.create()
    quoted = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key in ("--config-dir", "-cd"):
            value = os.path.expanduser(value)
        elif equals and not key.startswith("-"):
            value = _TILDE.sub(_quoted, value)
            if _takes_text(key.lstrip("+")) and not value.startswith(("'", '"', "[", "{")):
                try:
                    parser.parse_override(f"{key}={value}")
                except HydraException:
                    value = hydra_text(value)
        quoted.append(f"{key}{equals}{value}")
    return quoted


def _takes_text(key: str) -> bool:
    """Returns whether the values of a key are any texts, or a list of them."""
    if key in FOLDER_KEYS:
        return True
    spec = spec_of(key)
    if spec is None or spec.among:
        return False
    return spec.kind is str or (spec.kind is list and spec.entries is str)


def _quoted(match: re.Match[str]) -> str:
    unescaped = re.sub(r"\\(.)", r"\1", match[0])
    return f'"{unescaped}"'


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """Returns the overrides of a command line: what is neither a flag nor a flag's value."""
    overrides = []
    is_value = False
    for argument in arguments:
        if not is_value and not argument.startswith("-"):
            overrides.append(argument)
        is_value = argument in _FLAGS_WITH_VALUE
    return overrides


def collect(arguments: Sequence[str], config: str, key: str) -> list[str]:
    """Returns the arguments of a command with those that name no key of it in a list of their own.

    Args:
        arguments: the command line without the command.
        config: the name of the command's file in conf/.
        key: of that list.
    """
    content = yaml.safe_load((CONF / f"{config}.yaml").read_text(encoding="utf-8"))
    own = content.keys() - {"hydra", "defaults"}
    overrides = overrides_of(arguments)
    others = [override for override in overrides if override.partition("=")[0].lstrip("+~") not in own]
    kept = [argument for argument in arguments if argument not in others]
    if others:
        kept.append(f"{key}={hydra_text(others)}")
    return kept


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with flags, and their values, before overrides: Hydra takes no override after a flag."""
    flags = []
    overrides = []
    is_value = False
    for argument in arguments:
        if is_value or argument.startswith("-"):
            flags.append(argument)
        else:
            overrides.append(argument)
        is_value = argument in _FLAGS_WITH_VALUE
    return [*flags, *overrides]


def config_folders(arguments: Sequence[str]) -> list[Path]:
    """Returns the folders that the command line adds to conf/ (`--config-dir`)."""
    folders = []
    for index, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag not in ("--config-dir", "-cd"):
            continue
        if equals:
            folders.append(Path(value).absolute())
        elif index + 1 < len(arguments):
            folders.append(Path(arguments[index + 1]).absolute())
    return folders


def options_of(group: str, folders: Sequence[Path] = ()) -> list[str]:
    """Returns the names of a group's options.

    Args:
        group: a folder of conf/.
        folders: more folders that are laid out like conf/.
    """
    options: set[str] = set()
    for folder in (CONF, *folders):
        files = (folder / group).rglob("*.yaml")
        options.update(file.relative_to(folder / group).with_suffix("").as_posix() for file in files)
    return sorted(options)


def refuse_arguments(arguments: Sequence[str]) -> None:
    """Refuses arguments that Hydra would accept in silence, or refuse without saying why.

    Args:
        arguments: the command line without the command.

    Raises:
        LabError: for `=value`; for `<group>={}`, which changes nothing; for anything but names of options as the value
            of a group, and for several where one counts; for a path without a name; for a preset without its plugin;
            for two flags of which one is possible.
    """
    flags = [argument.partition("=")[0] for argument in arguments]
    modes = [flag for flag in flags if flag in _MODES]
    if len(modes) > 1:
        raise LabError(f"{modes[0]} and {modes[1]} can't be combined.", f"Leave {modes[1]} out.", code="conflict")
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and not name.strip("+~ ").partition("@")[0]:
            raise LabError(f"{argument} names no key.", "Say key=value; --help lists the keys.")
        group = name.strip("+~ ").partition("@")[0]
        # Hydra's own groups too: it raises a ValueError for hydra=3.
        if equals and (group in groups() or group.partition("/")[0] == "hydra"):
            _refuse_options(argument, group, value)
        if equals and _names_path(group) and not value.strip(" '\""):
            raise LabError(
                f"{argument} names no file or folder.",
                "A variable of the shell may be empty. Leave the argument out for the default.",
                key=group,
            )
        if argument in PLUGINS:
            _refuse_without_plugin(argument)


def _names_path(key: str) -> bool:
    spec = spec_of(key)
    return key in FOLDER_KEYS or (spec is not None and spec.path)


def _refuse_options(argument: str, group: str, value: str) -> None:
    """Refuses `<group>={}`, anything but names of options as the value of a group, and several where one counts."""
    if re.fullmatch(r"\{\s*\}", value):
        raise LabError(f"{argument} changes nothing.", f"Leave single entries out, as in ~{group}.<name>.", key=group)
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException:
        # Hydra itself refuses what can't be parsed.
        return
    names = override.value()
    # ~group=null is the same as ~group.
    if override.is_sweep_override() or (override.is_delete() and names is None):
        return
    if not isinstance(names, list):
        names = [names]
    if not all(isinstance(name, str) for name in names):
        raise wrong_option(group, argument)
    if len(names) > 1 and takes_one(group):
        raise LabError(
            f"{argument}: a training takes one {group}.",
            f"-m {group}={','.join(names)} trains with each.",
            code="conflict",
            key=group,
        )
    if group == "remedy" and {"weak", "strong"} <= set(names):
        raise LabError(
            f"{argument}: the remedies are either weak or strong.", "Keep one of the two.", code="conflict", key=group
        )


def wrong_option(group: str, argument: str) -> LabError:
    """Returns the refusal of an argument that gives a group anything but the names of options."""
    return LabError(f"{argument}: a group takes one of its options, by name.", "--help lists them.", key=group)


def _refuse_without_plugin(argument: str) -> None:
    """Refuses a preset whose plugin of Hydra isn't installed."""
    plugin = PLUGINS[argument]
    if find_spec("hydra_plugins") is None or find_spec(f"hydra_plugins.{plugin.module}") is None:
        raise LabError(
            "The plugin that this needs isn't installed.",
            f"It comes with: {install_extra(plugin.extra)}",
            code="unsupported",
            key=argument.partition("=")[0],
        )
