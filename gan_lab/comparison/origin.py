"""Where runs come from: the command lines that made them, and what they ran on."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from gan_lab.comparison.collect import Record
from gan_lab.config.schema import scope_of
from gan_lab.core.command_line import command, quote
from gan_lab.core.terminal import escape_texts


def overrides(record: Record) -> list[str]:
    """Returns a run's command line without what concerns one machine; [] where it is unknown."""
    recorded = record.summary.get("overrides")
    if isinstance(recorded, list):
        arguments = [str(argument) for argument in recorded]
    else:
        # A run without a summary still has the file that Hydra wrote.
        arguments = escape_texts(record.run.overrides())
    return without_places(arguments)


def without_places(arguments: Iterable[str]) -> list[str]:
    """Leaves out the overrides that say where files of one machine lie, and how it reads them."""
    return [argument for argument in arguments if scope_of(_key(argument)) != "place"]


def experiment(record: Record) -> str | None:
    """Returns the run's experiment (`experiment=…`), else its name; None where it has neither."""
    for argument in reversed(overrides(record)):
        if argument.startswith("experiment=") and argument != "experiment=":
            return argument.removeprefix("experiment=")
    name = record.settings.get("name")
    if not name:
        return None
    return str(name)


def commands(records: Iterable[Record]) -> list[str]:
    """Returns the command line of the sweep that makes these runs; where no single one does, one for each run."""
    argument_lists: list[list[str]] = []
    for record in records:
        arguments = overrides(record)
        if arguments and arguments not in argument_lists:
            argument_lists.append(arguments)
    # By key: its values in the order in which they appear. Dictionaries are sets that keep their order.
    values_by_key: dict[str, dict[str, None]] = {}
    for arguments in argument_lists:
        for argument in arguments:
            key, _, value = argument.partition("=")
            values_by_key.setdefault(key, {})[value] = None
    # A sweep makes all combinations of values: there must be as many command lines, each with every key.
    combinations = math.prod(map(len, values_by_key.values()))
    is_complete = all(len(arguments) == len(values_by_key) for arguments in argument_lists)
    if len(argument_lists) < 2 or combinations != len(argument_lists) or not is_complete:
        return [training_command(arguments) for arguments in argument_lists]
    swept_arguments = []
    for key, values in values_by_key.items():
        if list(values) == [""]:
            # An argument without a value, such as '~callbacks.curves'.
            swept_arguments.append(key)
        else:
            swept_arguments.append(f"{key}={','.join(values)}")
    return [training_command(swept_arguments, "-m")]


def environment(summaries: Iterable[Mapping[str, Any]]) -> str:
    """Returns what the runs ran on and with, 'python 3.11.7; torch 2.14; …', all values where they differ."""
    values_by_name: dict[str, dict[str, None]] = {}
    for summary in summaries:
        recorded = summary.get("environment")
        if not isinstance(recorded, dict):
            continue
        for name, value in recorded.items():
            if value is not None:
                values_by_name.setdefault(name, {})[str(value)] = None
    entries = []
    for name, values in values_by_name.items():
        entries.append(f"{name} {' or '.join(values)}")
    return "; ".join(entries)


def days_of_end(records: Iterable[Record]) -> str:
    """Returns the day or days on which the runs ended, by their files' times in UTC: 'ended 2026-01-31'."""
    days = set()
    for record in records:
        if record.run.summary.is_file():
            time = datetime.fromtimestamp(record.run.summary.stat().st_mtime, timezone.utc)
            days.add(f"{time:%Y-%m-%d}")
    if not days:
        return ""
    # ISO dates sort as text.
    if len(days) == 1:
        return f"ended {days.pop()}"
    return f"ended {min(days)} to {max(days)}"


def _key(argument: str) -> str:
    """Returns the key of an override, `optim.lr` of `+optim.lr=0.1`."""
    return argument.partition("=")[0].lstrip("+~")


def training_command(arguments: Sequence[str], *multirun: str) -> str:
    """Returns the command line of a training, the experiment first."""
    ordered = sorted(arguments, key=lambda argument: not argument.startswith("experiment="))
    return command("train.py", *multirun, *map(quote, ordered))
