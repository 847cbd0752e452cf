"""What is shown to people: texts of strangers (names, settings, errors that quote them) neither steer nor deceive.

The only place that prints; ruff's T20 refuses `print` elsewhere.
"""

import sys
import traceback
import unicodedata
import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import Any, TextIO

# Control characters, invisible format characters (bidirectional overrides among them), halves of surrogate pairs,
# private use, unassigned, and Unicode's own line and paragraph separators.
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Format characters that words are written with: the joiners of scripts and emoji, and Arabic and Kaithi number signs.
WRITTEN = set("\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
DEEPEST = 50  # no configuration and no summary is nested deeper


def printable(text: str, lines: bool = False) -> str:
    """Escapes, as Python writes them, all characters that would steer a terminal or deceive a reader.

    Letters of all scripts, combining marks and emoji stay. What was escaped before stays as it is.

    Args:
        lines: newlines and tabs stay, too: for whole messages. A name has neither.
    """
    if text.isprintable():
        return text
    own = WRITTEN | {"\n", "\t"} if lines else WRITTEN
    shown = []
    for letter in text:
        if unicodedata.category(letter) in UNSEEN and letter not in own:
            letter = letter.encode("unicode_escape").decode()
        shown.append(letter)
    return "".join(shown)


def join_lines(lines: Iterable[str]) -> str:
    """A message of these lines: a newline within one makes no other."""
    return "\n".join(map(printable, lines))


def escape_texts(value: Any, deepest: int = DEEPEST) -> Any:
    """A value as JSON or YAML gives it, all texts in it `printable`, keys as well; deeper than `deepest` it is cut."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict | list) and not deepest:
        return "…"
    if isinstance(value, dict):
        return {escape_texts(key): escape_texts(content, deepest - 1) for key, content in value.items()}
    if isinstance(value, list):
        return [escape_texts(content, deepest - 1) for content in value]
    return value


def say(text: object, stderr: bool = False, flush: bool = False) -> None:
    """Prints a message, `printable` but for its newlines and tabs."""
    print(printable(str(text), lines=True), file=sys.stderr if stderr else None, flush=flush)


def escape_tracebacks() -> None:
    """Lets what Python itself prints of errors and warnings be `printable`, too: they quote names as they are."""
    sys.excepthook = _show_bug
    warnings.showwarning = _show_warning


def format_traceback(error: BaseException) -> str:
    """An error with its traceback, `printable`."""
    return printable("".join(traceback.format_exception(error)), lines=True)


def _show_bug(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    say(format_traceback(error).rstrip("\n"), stderr=True)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    text = printable(warnings.formatwarning(str(message), category, filename, lineno, line), lines=True)
    (file or sys.stderr).write(text)
