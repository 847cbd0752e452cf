"""The process that trains: it composes a configuration as train.py does, and trains with one more callback, `Live`."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from gan_lab.core import interrupts
from gan_lab.studio.messages import Ended, Said

CRASHED = 1  # exit status after an error that is no mistake of the user


def work(connection: Connection) -> None:
    """Imports what takes long, waits for a command line, and trains as train.py does; the process' main function.

    Ctrl-C, which reaches the server too, is left to it; after SIGTERM, or when the server has gone, the training stops
    with a checkpoint.

    Args:
        connection: to the server, which first sends the arguments of train.py, a list of texts.
    """
    interrupts.leave_to_parent()
    # The server's command has set it for itself; the page shows messages, no tracebacks.
    os.environ.pop("HYDRA_FULL_ERROR", None)
    _import_libraries()
    try:
        arguments = connection.recv()
    except (EOFError, OSError):
        return
    sys.stdout = _Lines(connection, is_error=False)
    sys.stderr = _Lines(connection, is_error=True)
    _train(connection, arguments)


def _import_libraries() -> None:
    """Imports torch, Lightning and the compiled step before they are needed, so that a training starts at once."""
    from gan_lab.core.imports import quick_imports

    with quick_imports():
        import torch

        import gan_lab.commands.train
        import gan_lab.studio.live  # noqa: F401
        from gan_lab.training.compiled.engine import compile_step
    compile_step(torch.float32)


def _train(connection: Connection, arguments: Sequence[str]) -> None:
    """Trains, and tells the server how it ended."""
    outcome: dict[str, Any] = {}

    def main(cfg: Any) -> None:
        from gan_lab.config.resume import open_run
        from gan_lab.core.imports import quick_imports
        from gan_lab.core.terminal import say

        with open_run(cfg) as (cfg, run):
            with quick_imports():
                from gan_lab.assembly.build import build, prepare_libraries
                from gan_lab.commands.summary import announce, describe
                from gan_lab.commands.train import fit
                from gan_lab.studio.live import Live, Rows

            prepare_libraries()
            training = build(cfg, run)
            say(announce(training, run))
            # Before the checkpoint's callback, which has to know that the training stops.
            callbacks: list[Any] = training.trainer.callbacks  # type: ignore[attr-defined]
            rows = Rows()
            callbacks.insert(0, Live(run, rows, connection, training.clock, training.stop))
            training.trainer.loggers.append(rows)
            training.stop.start()

        summary, code = fit(training, run)
        say(describe(summary, run))
        outcome.update(summary)
        sys.exit(code)

    exit_status = CRASHED
    try:
        from gan_lab.config.hydra_app import run as run_command

        run_command(main, "train", list(arguments), None)
    except SystemExit as end:
        exit_status = end.code if isinstance(end.code, int) else CRASHED
    except BaseException as error:
        from gan_lab.core.terminal import format_traceback, say

        say(format_traceback(error), stderr=True)
    with suppress(OSError):
        connection.send(
            Ended(
                exit_status=exit_status,
                status=outcome.get("status", ""),
                verdict=outcome.get("verdict", {}),
                metrics=outcome.get("metrics", {}),
            )
        )
        connection.close()


class _Lines:
    """A stream that sends what is printed to the server, line by line."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, connection: Connection, is_error: bool):
        self.connection = connection
        self.is_error = is_error
        self._rest = ""

    def write(self, text: str) -> int:
        self._rest += text
        message, newline, rest = self._rest.rpartition("\n")
        if newline:
            self._rest = rest
            with suppress(OSError):
                self.connection.send(Said(message, self.is_error))
        return len(text)

    def flush(self) -> None:
        """Does nothing: a line is sent when it ends."""

    def isatty(self) -> bool:
        return False
