"""Command lines for messages: whoever pastes one into a shell gets exactly the values that it was made of.

A value is quoted twice: for Hydra, whose grammar gives a meaning to spaces, commas, brackets, `=` and `$`, and then for
the shell. `tests/core/test_command_line.py` pastes every command of gan_lab's messages back.
"""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from gan_lab.core.installation import program
from gan_lab.core.terminal import printable

Value = str | int | float | bool | Path | None

# What Hydra takes for a text as it stands: it begins with a letter or like a path, and has no special character.
_PLAIN = re.compile(r"(?:[A-Za-z_]|\.{0,2}/)[\w./-]*", re.ASCII)
_WORDS_WITH_A_MEANING = {"null", "true", "false", "nan", "inf"}


def command(script: str, *arguments: str, python: str = "python") -> str:
    """Returns a command line to paste into a shell.

    Args:
        script: `train.py`, or the name of a file in scripts/.
        arguments: as `setting` returns them, or fixed texts that need no quotes, such as `force=true`.
        python: the interpreter that a clone uses, already quoted for the shell.
    """
    start = program(script.removesuffix(".py"))
    if start.startswith("python "):
        start = python + start.removeprefix("python")
    return " ".join([start, *arguments])


def setting(key: str, value: Value | Iterable[Value]) -> str:
    """Returns `key=value` as one argument, quoted for Hydra and then for the shell.

    Args:
        key: of the configuration.
        value: a single value, or several for a list.
    """
    return quote(f"{key}={hydra_text(value)}")


def hydra_text(value: Value | Iterable[Value]) -> str:
    """Returns a value as Hydra reads it on a command line, in quotes where it needs them."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Path):
        return _hydra_path(value)
    if isinstance(value, str):
        return _hydra_string(value)
    return f"[{','.join(map(hydra_text, value))}]"


def quote(argument: str) -> str:
    """Returns an argument as a shell reads it.

    What a terminal can't show, such as a newline or a byte of a name that isn't UTF-8, is written in the notation of
    bash and zsh: `$'a\\nb'`.
    """
    if printable(argument) == argument:
        return shlex.quote(argument)
    letters = []
    for letter in argument:
        if letter in "'\\":
            letters.append(f"\\{letter}")
        elif printable(letter) == letter:
            letters.append(letter)
        else:
            letters.extend(f"\\x{byte:02x}" for byte in _bytes_of(letter))
    return f"$'{''.join(letters)}'"


def _hydra_path(path: Path) -> str:
    text = str(path)
    # Neither the shell nor gan_lab may take the name of a folder for somebody's home.
    if text.startswith("~"):
        text = f"./{text}"
    return _hydra_string(text)


def _hydra_string(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS_WITH_A_MEANING:
        return text
    # OmegaConf: `\${` is no reference, and each backslash before it counts double.
    escaped = re.sub(r"(\\*)\$\{", lambda match: rf"{match[1] * 2}\${{", text)
    # Hydra: backslashes count double before a quotation mark, and the one at the end is one.
    escaped = re.sub(r'(\\*)"', lambda match: rf"{match[1] * 2}\"", escaped)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f'"{escaped}{trailing * chr(92)}"'


def _bytes_of(letter: str) -> bytes:
    """Returns a letter's bytes in UTF-8; a surrogate stands for a byte of a file's name that isn't UTF-8."""
    try:
        return letter.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return letter.encode("utf-8", "surrogatepass")
