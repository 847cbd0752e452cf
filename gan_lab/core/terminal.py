"""Prints for all commands, so that texts of strangers can neither steer a terminal nor deceive a reader.

Names, settings and errors that quote them may come from files of other people. This is the only module that prints;
ruff's rule T20 refuses `print` in all others.

Printing never fails: characters that a terminal's encoding lacks are escaped, and what can't be written is lost; a full
disk or a closed terminal shouldn't end a training.
"""

import io
import os
import sys
import unicodedata
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

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


def prepare_streams() -> None:
    """Makes stdout and stderr of this process accept any text, whether or not it can be written."""
    _open_closed_descriptors()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open_log(Path(os.devnull)))
        # Not one that tests or a notebook have put in its place.
        elif stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _forgiving(stream))


def open_log(path: Path) -> TextIO:
    """Opens a file for what a job prints, which is appended; see `prepare_streams`."""
    return _text_writer(_ForgivingFile(path, "a"), "utf-8")


def _open_closed_descriptors() -> None:
    """Opens the null device in the place of stdin, stdout and stderr where they are closed.

    Otherwise the next files that are opened, a checkpoint for example, would be the stdout of libraries and of other
    processes.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The system gives the lowest number that is free.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _forgiving(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Returns a stream to the same file that never raises, neither for a character nor for the system's errors."""
    raw = getattr(stream.buffer, "raw", stream.buffer)
    if type(raw) is not io.FileIO:
        # A console of Windows, which takes all characters.
        stream.reconfigure(errors="backslashreplace")
        return stream
    return _text_writer(_ForgivingFile(stream.fileno(), "w", closefd=False), stream.encoding)


def _text_writer(raw: io.FileIO, encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=True)


class _ForgivingFile(io.FileIO):
    """A file whose content is lost, without an error, from the moment when it can't be written any more."""

    def write(self, data: Any, /) -> int:
        try:
            written = super().write(data)
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            # What libraries and other processes write is lost, too.
            os.dup2(null, self.fileno())
            os.close(null)
            return len(data)
        # None: a pipe that doesn't block is full.
        return len(data) if written is None else written


def say(text: object, stderr: bool = False, flush: bool = False) -> None:
    """Prints a message, `printable` except for its newlines and tabs.

    That of a signal's handler is lost if the signal comes in the middle of printing: a stream refuses both at once.
    """
    with suppress(RuntimeError):
        print(printable(str(text), lines=True), file=sys.stderr if stderr else None, flush=flush)


def in_notebook() -> bool:
    """Returns whether what is printed goes to a notebook; not while it goes to a job's log.txt."""
    return type(sys.stderr).__module__ == "ipykernel.iostream"


def progress_bar(description: str, total: int, unit: str, start: int = 0) -> "tqdm[Any]":
    """Returns a progress bar for a terminal or a notebook; elsewhere it shows nothing.

    Args:
        description: what is being done.
        total: how many units there are.
        unit: what is counted.
        start: how many are done already.
    """
    settings: dict[str, Any] = {"desc": description, "total": total, "initial": start, "unit": unit, "mininterval": 0.5}
    if in_notebook():
        from gan_lab.core.notebook import NotebookBar

        return NotebookBar(**settings)
    from tqdm import tqdm

    return tqdm(**settings, disable=None)


def escape_tracebacks() -> None:
    """Makes Python's own tracebacks and warnings `printable`, too: they quote names as they are."""
    sys.excepthook = _print_exception
    warnings.showwarning = _print_warning


def format_traceback(error: BaseException) -> str:
    """Returns an error with its traceback, `printable`."""
    # Imported here: a command has to start fast, see `gan_lab.config.cli`.
    import traceback

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
