"""Prints for all commands, so that texts of strangers can neither steer a terminal nor deceive a reader.

Names, settings and errors that quote them may come from files of other people. This is the only module that prints;
ruff's rule T20 refuses `print` in all others.
"""

import sys
import traceback
import unicodedata
import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import Any, TextIO

# Unicode categories: control characters, invisible format characters (bidirectional overrides among them), halves of
# surrogate pairs, private use, unassigned, and Unicode's own line and paragraph separators.
ESCAPED_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Format characters that words are written with: the joiners of scripts and emoji, and Arabic and Kaithi number signs.
ALLOWED = set("\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
MAX_DEPTH = 50  # no configuration and no summary is nested deeper


def printable(text: str, lines: bool = False) -> str:
    """Escapes all characters that would steer a terminal or deceive a reader, in the notation of Python's literals.

    Letters of all scripts, combining marks and emoji stay. Escaping twice gives the same as escaping once.

    Args:
        text: any text.
        lines: whether newlines and tabs stay, too. True for whole messages; a name has neither.
    """
    if text.isprintable():
        return text
    allowed = ALLOWED | {"\n", "\t"} if lines else ALLOWED
    escaped = []
    for letter in text:
        if unicodedata.category(letter) in ESCAPED_CATEGORIES and letter not in allowed:
            letter = letter.encode("unicode_escape").decode()
        escaped.append(letter)
    return "".join(escaped)


def join_lines(lines: Iterable[str]) -> str:
    """Joins lines to one message; a newline within a line is escaped, so that it can't fake a further line."""
    return "\n".join(map(printable, lines))


def escape_texts(value: Any, max_depth: int = MAX_DEPTH) -> Any:
    """Returns a value as JSON or YAML gives it with all its texts and keys `printable`.

    Args:
        value: dicts and lists of texts, numbers, booleans and None.
        max_depth: deeper dicts and lists are replaced by "…", so that nesting without end can't exhaust the stack.
    """
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict | list) and not max_depth:
        return "…"
    if isinstance(value, dict):
        return {escape_texts(key): escape_texts(content, max_depth - 1) for key, content in value.items()}
    if isinstance(value, list):
        return [escape_texts(content, max_depth - 1) for content in value]
    return value


def say(text: object, stderr: bool = False, flush: bool = False) -> None:
    """Prints a message, `printable` except for its newlines and tabs."""
    print(printable(str(text), lines=True), file=sys.stderr if stderr else None, flush=flush)


def escape_tracebacks() -> None:
    """Makes Python's own tracebacks and warnings `printable`, too: they quote names as they are."""
    sys.excepthook = _print_exception
    warnings.showwarning = _print_warning


def format_traceback(error: BaseException) -> str:
    """Returns an error with its traceback, `printable`."""
    return printable("".join(traceback.format_exception(error)), lines=True)


def _print_exception(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    say(format_traceback(error).rstrip("\n"), stderr=True)


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    text = printable(warnings.formatwarning(str(message), category, filename, lineno, line), lines=True)
    (file or sys.stderr).write(text)
