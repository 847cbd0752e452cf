"""The results of checks: as lines for the terminal, as pictures, and as checks.json."""

import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gan_lab.core.io import atomic
from gan_lab.core.terminal import join_lines
from gan_lab.plotting.style import Figure

Status = Literal["failure", "warning", "pass"]

# The worst one first.
STATUSES: tuple[Status, ...] = ("failure", "warning", "pass")
SYMBOLS = {"pass": "✓", "warning": "!", "failure": "✗"}
COLOURS = {"pass": "C2", "warning": "darkorange", "failure": "C3"}
LINE_WIDTH = 112
TITLE_WIDTH = 150


@dataclass
class Check:
    """The result of one check.

    Attributes:
        name: one word, which is also the name of its picture's file.
        title: the subject of the check.
        facts: observations in words, by label.
        numbers: the same observations for programs.
        warnings, failures: each says in a sentence or two what is wrong and how to mend it.
    """

    name: str
    title: str
    facts: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """The worst thing that the check found."""
        if self.failures:
            return "failure"
        if self.warnings:
            return "warning"
        return "pass"


CheckResult = tuple[Check, Figure]


def worst_status(results: Sequence[CheckResult]) -> Status:
    """Returns `failure` if any check failed, else `warning` if any check warns, else `pass`."""
    statuses = {check.status for check, _ in results}
    for status in STATUSES:
        if status in statuses:
            return status
    return "pass"


def write(results: Sequence[CheckResult], folder: Path) -> None:
    """Writes one picture per check, and checks.json."""
    checks = []
    for number, (check, figure) in enumerate(results, start=1):
        picture = _picture_name(number, check)
        title = " ".join([f"Check {number}, {check.title}: {check.status}.", *check.failures, *check.warnings])
        figure.suptitle(textwrap.fill(title, TITLE_WIDTH), color=COLOURS[check.status], weight="bold")
        with atomic(folder / picture) as path:
            figure.savefig(path, dpi=90)
        checks.append(
            {
                "name": check.name,
                "status": check.status,
                "failures": check.failures,
                "warnings": check.warnings,
                "numbers": _without_nan(check.numbers),
                "picture": picture,
            }
        )
    content = {"status": worst_status(results), "checks": checks}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic(folder / "checks.json") as path:
        path.write_text(text + "\n", encoding="utf-8")


def describe(results: Sequence[CheckResult], folder: Path) -> str:
    """Describes each check in a block of lines, then counts the statuses.

    Args:
        results: all checks, in order.
        folder: where `write` puts the pictures.
    """
    lines = []
    for number, (check, _) in enumerate(results, start=1):
        lines += ["", f"{SYMBOLS[check.status]} {number} {check.title}: {check.status}"]
        entries = [*check.facts.items()]
        for text in check.failures:
            entries.append(("failure", text))
        for text in check.warnings:
            entries.append(("warning", text))
        entries.append(("picture", str(folder / _picture_name(number, check))))
        width = max(len(label) for label, _ in entries) + 2
        # The texts begin in one column, also their further lines.
        indent = " " * (4 + width)
        for label, text in entries:
            first = f"    {label:<{width}}"
            lines += textwrap.wrap(text, LINE_WIDTH, initial_indent=first, subsequent_indent=indent)
    counts = []
    for status in reversed(STATUSES):
        count = sum(check.status == status for check, _ in results)
        if count:
            counts.append(f"{count} × {status}")
    return join_lines([*lines, "", f"{len(results)} checks: {', '.join(counts)} ({folder / 'checks.json'})"])


def _picture_name(number: int, check: Check) -> str:
    """Returns the file name of a check's picture."""
    return f"{number}_{check.name}.png"


def _without_nan(value: Any) -> Any:
    """Replaces NaN and infinity by None, for JSON has neither."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
