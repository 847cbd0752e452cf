"""What a training can be made of, as conf/ has it, and the command line that a choice stands for."""

import functools
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gan_lab.config.help import defaults_of, group_options
from gan_lab.config.schema import GROUPS, key_of
from gan_lab.core.command_line import command, quote
from gan_lab.core.errors import LabError

# The groups that the page offers, in its order.
OFFERED = ("experiment", "dataset", "model", "loss", "activation", "optim", "norm", "remedy")
# Keys that stand in fields of their own.
FIELDS = ("steps", "seed", "replicas")
# What a page may not say: code that it would run, and where Hydra writes.
REFUSED = ("hydra", "trust", "resume", "force")

Choice = Mapping[str, str | int | Sequence[str] | None]  # by group or key; None and empty: as it is without


class Offer(NamedTuple):
    """A group of conf/ as the page offers it.

    Attributes:
        name: of the group.
        help: one line.
        default: the option that train.py takes; "" if it takes none.
        options: what each option is, by name.
        several: whether options can be combined.
    """

    name: str
    help: str
    default: str
    options: dict[str, str]
    several: bool


@functools.cache
def offers() -> dict[str, Offer]:
    """Returns the offered groups by name; conf/ is read once."""
    defaults, _ = _defaults()
    found = {}
    for group in GROUPS:
        if group.name not in OFFERED:
            continue
        default = defaults[group.name]
        options = {option.name: option.help for option in group_options(group)}
        is_several = group.several and not group.recipe
        found[group.name] = Offer(
            group.name, group.help, default if isinstance(default, str) else "", options, is_several
        )
    return {name: found[name] for name in OFFERED}


def default_of(key: str) -> int:
    """Returns the value of one of FIELDS in conf/train.yaml."""
    _, values = _defaults()
    return int(values[key])


@functools.cache
def _defaults() -> tuple[dict[str, Any], dict[str, Any]]:
    return defaults_of("train")


def help_of(key: str) -> str:
    """Returns what `--help` says of a key."""
    declared = key_of(key)
    return declared.help if declared else ""


def arguments_of(choice: Choice, more: str = "") -> list[str]:
    """Returns the arguments of train.py for a choice: only what differs from its defaults.

    Args:
        choice: options by group, and values by key.
        more: further settings as on the command line, `optim.lr=0.01 'remedy=[r1]'`.

    Raises:
        LabError: if `more` can't be split, holds a flag, or a key of REFUSED.
    """
    arguments = []
    for name in (*OFFERED, *FIELDS):
        value = choice.get(name)
        if value is None or value == "" or value == []:
            continue
        if isinstance(value, str | int):
            arguments.append(f"{name}={value}")
        else:
            arguments.append(f"{name}=[{','.join(value)}]")
    return [*arguments, *_split(more)]


def _split(more: str) -> list[str]:
    """Splits further settings as a shell would."""
    try:
        settings = shlex.split(more)
    except ValueError as error:
        raise LabError(f"More settings: {error}.", "Write them as on the command line: optim.lr=0.01") from error
    for setting in settings:
        key = setting.partition("=")[0].lstrip("+~")
        head = key.partition(".")[0].partition("/")[0].partition("@")[0]
        if setting.startswith("-") or head in REFUSED:
            raise LabError(
                f"{setting} can't be said on this page.", "Say it on the command line.", code="unsupported", key=head
            )
    return settings


def variant_of(arguments: Sequence[str], changes: Sequence[str]) -> list[str]:
    """Returns the arguments of a second variant: those of the first, with others in place of the same keys."""
    changed = {change.partition("=")[0] for change in changes}
    kept = [argument for argument in arguments if argument.partition("=")[0] not in changed]
    return [*kept, *changes]


def command_line(arguments: Sequence[str]) -> str:
    """Returns the command line that trains the same, for a shell."""
    return command("train.py", *[quote(argument) for argument in arguments])
