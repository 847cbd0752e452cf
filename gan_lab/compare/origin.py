"""Where runs come from: the command lines that made them, and what they ran on."""

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from gan_lab.compare.collect import Record
from gan_lab.config.schema import scope_of
from gan_lab.core.terminal import escape_texts


def overrides(record: Record) -> list[str]:
    """Returns a run's command line without what concerns one machine; [] where it is unknown."""
    recorded = record.summary.get("overrides")
    if isinstance(recorded, list):
        arguments = [str(argument) for argument in recorded]
    else:
        arguments = escape_texts(record.run.overrides())
    return [argument for argument in arguments if scope_of(_key(argument)) != "place"]


def experiment(record: Record) -> str | None:
    """Returns the run's experiment (`experiment=…`), else its name; None where it has neither."""
    for argument in reversed(overrides(record)):
        if argument.startswith("experiment=") and argument != "experiment=":
            return argument.removeprefix("experiment=")
    name = record.settings.get("name")
    return str(name) if name else None


def commands(records: Iterable[Record]) -> list[str]:
    """Returns the command line of the sweep that makes these runs; where no single one does, one for each run."""
    distinct = dict.fromkeys(tuple(overrides(record)) for record in records)
    argument_lists = [list(arguments) for arguments in distinct if arguments]
    values: dict[str, dict[str, None]] = {}
    for arguments in argument_lists:
        for argument in arguments:
            key, _, value = argument.partition("=")
            values.setdefault(key, {})[value] = None
    # A sweep makes all combinations of values: there must be as many command lines, each with every key.
    combinations = math.prod(len(values_of_key) for values_of_key in values.values())
    each_has_all_keys = all(len(arguments) == len(values) for arguments in argument_lists)
    if len(argument_lists) > 1 and combinations == len(argument_lists) and each_has_all_keys:
        swept = []
        for key, values_of_key in values.items():
            # An argument without a value, such as '~callbacks.curves'.
            swept.append(key if values_of_key == {"": None} else f"{key}={','.join(values_of_key)}")
        return [_command(swept, "-m ")]
    return [_command(arguments) for arguments in argument_lists]


def environment(summaries: Iterable[Mapping[str, Any]]) -> str:
    """Returns what the runs ran on and with, 'python 3.11.7; torch 2.14; …', all values where they differ."""
    values: dict[str, dict[str, None]] = {}
    for summary in summaries:
        recorded = summary.get("environment")
        if not isinstance(recorded, dict):
            continue
        for name, value in recorded.items():
            if value is not None:
                values.setdefault(name, {})[str(value)] = None
    return "; ".join(f"{name} {' or '.join(values_of_name)}" for name, values_of_name in values.items())


def days_of_end(records: Iterable[Record]) -> str:
    """Returns the day or days on which the runs ended, by their files' times in UTC: 'ended 2026-01-31'."""
    days = set()
    for record in records:
        if record.run.summary.is_file():
            time = datetime.fromtimestamp(record.run.summary.stat().st_mtime, timezone.utc)
            days.add(f"{time:%Y-%m-%d}")
    if not days:
        return ""
    first = min(days)
    last = max(days)
    return f"ended {first}" if first == last else f"ended {first} to {last}"


def _key(argument: str) -> str:
    """Returns the key of an override, `optim.lr` of `+optim.lr=0.1`."""
    return argument.partition("=")[0].lstrip("+~")


def _command(arguments: Sequence[str], multirun: str = "") -> str:
    """Returns a command line, the experiment first."""
    ordered = sorted(arguments, key=lambda argument: not argument.startswith("experiment="))
    return f"python train.py {multirun}{shlex.join(ordered)}"
