"""cure.json: what a cure has done, so that the same command goes on where it was stopped; and the time that it took."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gan_lab.core.errors import LabError
from gan_lab.core.io import TMP_PREFIX, atomic, read_text
from gan_lab.core.run_folder import remove_empty
from gan_lab.core.terminal import printable
from gan_lab.cure.page import write_page

FORMAT = 1
RECORD = "cure.json"
LOCK = ".lock"
# A patient whose training was interrupted may lie in the folder before cure.json does.
BEFORE_RECORD = (LOCK, "patient")


@dataclass
class State:
    """What a cure has done.

    Attributes:
        folder: of the cure.
        content: of cure.json; docs/cure.md says what it holds.
        started: when this process began, as `time.monotonic()` counts.
        spent_before: seconds that earlier processes took.
    """

    folder: Path
    content: dict[str, Any]
    started: float = field(default_factory=time.monotonic)
    spent_before: float = 0.0

    def spent(self) -> float:
        """Returns the seconds that the cure has taken; what a killed process had not noted is lost."""
        return self.spent_before + time.monotonic() - self.started

    def time_at(self, seconds: float) -> float:
        """Returns when so many seconds will be spent, as `time.monotonic()` counts."""
        return self.started + seconds - self.spent_before

    def keep(self, **parts: Any) -> None:
        """Writes further parts into cure.json, and the page.

        Raises:
            OSError: if they can't be written.
        """
        self.content |= parts
        self.content["spent_seconds"] = round(self.spent(), 1)
        with atomic(self.folder / RECORD) as path:
            text = json.dumps(self.content, indent=2, ensure_ascii=False, allow_nan=False)
            path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")
        write_page(self.content, self.folder)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keeps a cure's folder for this process; it is removed again if nothing was written into it.

    Raises:
        LabError: if another process works there, something in it is a link, or it can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # What is written into a link would go somewhere else.
        links = [entry.name for entry in folder.iterdir() if entry.is_symlink()]
        if links:
            raise LabError(f"{folder / links[0]} is a link.", "Remove it, or name another folder with target=…")
        with FileLock(folder / LOCK, timeout=0):
            try:
                yield
            finally:
                if [entry.name for entry in folder.iterdir()] == [LOCK]:
                    (folder / LOCK).unlink()
                    remove_empty(folder)
    except Timeout:
        raise LabError(f"Another process works in {folder}.", "Wait for it, or stop it.", code="busy") from None
    except OSError as error:
        raise LabError(
            f"{error.filename or folder}: {error.strerror}.",
            "Once that is solved, the same command goes on.",
            code="storage",
        ) from error


def read_state(folder: Path, arguments: Sequence[str], seconds: float) -> State:
    """Reads what an earlier process with the same command has done.

    Args:
        folder: of the cure.
        arguments: of the command.
        seconds: the budget.

    Raises:
        LabError: if the folder holds anything else, or cure.json is damaged.
    """
    path = folder / RECORD
    for half in folder.glob(f"{TMP_PREFIX}*"):
        half.unlink()
    if not path.is_file():
        if any(entry.name not in BEFORE_RECORD for entry in folder.iterdir()):
            raise LabError(f"{folder} holds other files.", "Name another folder with target=…", code="exists")
        return State(folder, {"format": FORMAT, "command": list(arguments), "budget_seconds": seconds})
    try:
        content = json.loads(read_text(path))
        spent = float(content["spent_seconds"])
        is_whole = content["format"] == FORMAT and isinstance(content["command"], list) and 0 <= spent < 1e9
    except (ValueError, RecursionError, KeyError, TypeError):
        is_whole = False
    if not is_whole:
        raise damaged(folder)
    if content["command"] != list(arguments):
        recorded = printable(" ".join(map(str, content["command"])))
        raise LabError(f"{folder} holds another cure: {recorded}", "Name another folder with target=…", code="exists")
    return State(folder, content, spent_before=spent)


def damaged(folder: Path) -> LabError:
    """Returns the refusal of a cure.json that holds anything else than what is written there."""
    return LabError(
        f"{folder / RECORD} is damaged.",
        "Remove the folder, or name another one with target=…",
        code="damaged",
        key=RECORD,
    )
