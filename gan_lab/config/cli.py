"""How a command starts: what it needs takes a second to import, and by then signals must be handled.

So this module imports next to nothing, and neither do the scripts; see `gan_lab.config.hydra_app`.
"""

import atexit
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from gan_lab.core import interrupts
from gan_lab.core.terminal import prepare_streams, say

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from gan_lab.config.hydra_app import Outcome

Main = Callable[["DictConfig"], None]


def command(
    config: str,
    after_sweep: Callable[[Path], None] | None = None,
    before_sweep: Callable[[dict[str, list[str]], list[int], int], str] | None = None,
    collects: str = "",
) -> Callable[[Main], "Command"]:
    """Turns `main(cfg)` into a command that reads its configuration from `conf/<config>.yaml` and the command line.

    Args:
        config: the name of the file in conf/.
        after_sweep: gets the folder of a sweep (`-m`) when all of its jobs have ended. None: there are no sweeps.
        before_sweep: gets the values of each swept key, the seeds and the number of replicas, and returns what to print
            before the first job starts.
        collects: a key of the command that is a list, into which all arguments go that name no key of it.
    """

    def decorate(main: Main) -> Command:
        return Command(main, config, after_sweep, before_sweep, collects)

    return decorate


class Command:
    """A command, to be called from a terminal or from Python.

    Args:
        main: gets the composed configuration.
        config, after_sweep, before_sweep, collects: see `command`.
    """

    def __init__(
        self,
        main: Main,
        config: str,
        after_sweep: Callable[[Path], None] | None,
        before_sweep: Callable[[dict[str, list[str]], list[int], int], str] | None,
        collects: str = "",
    ):
        self.main = main
        self.config = config
        self.after_sweep = after_sweep
        self.before_sweep = before_sweep
        self.collects = collects

    def __call__(self) -> None:
        """Runs the command with the arguments of the process, and prints a user's mistake.

        A mistake of the user (a LabError, or what Hydra and OmegaConf refuse) is printed as one message, and the exit
        status is 2. With HYDRA_FULL_ERROR=1 in the environment the traceback is shown instead. Ctrl-C, SIGTERM and
        SIGHUP end the command in one line, with 128 + the signal's number.
        """
        end = _QuickEnd()
        if self.main.__module__ == "__main__":
            # Registered first, it is called last.
            atexit.register(end)
        try:
            self._run_guarded()
            end.status = 0
        except SystemExit as problem:
            if isinstance(problem.code, int):
                end.status = problem.code
            raise

    def call(self, arguments: Sequence[str]) -> "Outcome":
        """Runs the command with these arguments; see `gan_lab.config.hydra_app.call`."""
        from gan_lab.config.hydra_app import call

        return call(self.main, self.config, self._collected(arguments), self.after_sweep, self.before_sweep)

    def _collected(self, arguments: Sequence[str]) -> list[str]:
        if not self.collects:
            return list(arguments)
        from gan_lab.config.arguments import collect

        return collect(arguments, self.config, self.collects)

    def _run_guarded(self) -> None:
        interrupts.watch()
        prepare_streams()
        try:
            from gan_lab.config.hydra_app import run

            run(self.main, self.config, self._collected(sys.argv[1:]), self.after_sweep, self.before_sweep)
        except BaseException as problem:
            if not interrupts.is_ending() and not isinstance(problem, KeyboardInterrupt):
                raise
            _end_interrupted(problem)
        finally:
            interrupts.done()


class _QuickEnd:
    """Ends the process without taking torch's modules apart first, for which Python needs half a second.

    Attributes:
        status: of the exit; None lets Python end the process.
    """

    status: int | None = None

    def __call__(self) -> None:
        if self.status is None:
            return
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            # Python will say what is wrong with them.
            return
        os._exit(self.status)


def _end_interrupted(problem: BaseException) -> NoReturn:
    """Ends a command that a signal has stopped, whatever that led to."""
    interrupts.clean_up()
    # A training has said already how it ended.
    if not isinstance(problem, SystemExit) or problem.code != interrupts.exit_status():
        say(interrupts.message(), stderr=True)
    sys.exit(interrupts.exit_status())
