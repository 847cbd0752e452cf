"""Where runs come from: the command lines that made them, and what they ran on."""

import itertools
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from gan_lab.compare.collect import Record
from gan_lab.config.schema import scope_of
from gan_lab.core.terminal import escape_texts


def overrides(record: Record) -> list[str]:
    """A run's command line, without what is of one machine; [] where it isn't known."""
    kept = record.summary.get("overrides")
    every = [str(each) for each in kept] if isinstance(kept, list) else escape_texts(record.run.overrides())
    return [each for each in every if scope_of(each.partition("=")[0].lstrip("+~")) != "place"]


def experiment(record: Record) -> str | None:
    """What the run was an experiment of (`experiment=…`), else its name; None where it has neither."""
    asked = dict(each.split("=", 1) for each in overrides(record) if "=" in each)
    name = asked.get("experiment") or record.settings.get("name")
    return str(name) if name else None


def commands(records: Iterable[Record]) -> list[str]:
    """The command line of the sweep that makes these runs; where no single one does, one for each."""
    asked = [list(each) for each in dict.fromkeys(tuple(overrides(record)) for record in records) if each]
    values: dict[str, dict[str, None]] = {}
    for each in itertools.chain(*asked):
        key, _, value = each.partition("=")
        values.setdefault(key, {})[value] = None
    crossed = math.prod(map(len, values.values())) == len(asked) and all(len(each) == len(values) for each in asked)
    if len(asked) > 1 and crossed:
        joined = [f"{key}={','.join(several)}" if several != {"": None} else key for key, several in values.items()]
        return [_command(joined, "-m ")]
    return [_command(each) for each in asked]


def environment(summaries: Iterable[Mapping[str, Any]]) -> str:
    """What the runs ran on and with, 'python 3.11.7; torch 2.14; …', all values where they differ."""
    found: dict[str, dict[str, None]] = {}
    for summary in summaries:
        kept = summary.get("environment")
        for name, value in kept.items() if isinstance(kept, dict) else ():
            if value is not None:
                found.setdefault(name, {})[str(value)] = None
    return "; ".join(f"{name} {' or '.join(values)}" for name, values in found.items())


def ended(records: Iterable[Record]) -> str:
    """On which day the runs ended, or from which to which (UTC, by their files' own times): 'ended 2026-01-31'."""
    files = [record.run.summary for record in records]
    times = [datetime.fromtimestamp(file.stat().st_mtime, timezone.utc) for file in files if file.is_file()]
    days = sorted({f"{time:%Y-%m-%d}" for time in times})
    return f"ended {' to '.join(days[:: max(1, len(days) - 1)])}" if days else ""


def _command(asked: Sequence[str], many: str = "") -> str:
    ordered = sorted(asked, key=lambda each: not each.startswith("experiment="))
    return f"python train.py {many}{shlex.join(ordered)}"
