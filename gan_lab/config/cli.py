"""How a command starts: Hydra composes its configuration, and each mistake of a user ends in one message."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from gan_lab.config import folders, launchers, sweep
from gan_lab.config.arguments import config_folders, refuse_arguments
from gan_lab.config.help import asks_for_help, help_text
from gan_lab.config.refusals import explain
from gan_lab.config.targets import CONF
from gan_lab.core.errors import LabError
from gan_lab.core.terminal import escape_tracebacks, say

Main = Callable[[DictConfig], None]

# With this in the environment Hydra raises its exceptions. Without, it prints them in its own way.
FULL_ERROR = "HYDRA_FULL_ERROR"


def command(config: str, after_sweep: Callable[[Path], None] | None = None) -> Callable[[Main], Callable[[], None]]:
    """Turns `main(cfg)` into a command that reads its configuration from `conf/<config>.yaml` and the command line.

    A mistake of the user (a LabError, or what Hydra and OmegaConf refuse) is printed as one message, and the exit
    status is 2. With HYDRA_FULL_ERROR=1 in the environment the traceback is shown instead.

    Args:
        config: the name of the file in conf/.
        after_sweep: gets the folder of a sweep (`-m`) when all of its jobs have ended. None: there are no sweeps.
    """

    def decorate(main: Main) -> Callable[[], None]:
        return _Command(main, config, after_sweep)

    return decorate


def prepare_process() -> None:
    """Prepares a process to compose a configuration: a command, or a worker that runs jobs of a sweep."""
    escape_tracebacks()
    # Commands draw into files. The backend of a notebook, which `!python train.py` inherits, may not even be installed.
    os.environ["MPLBACKEND"] = "agg"
    folders.register_resolvers()
    launchers.prefer_presets()


@dataclass(frozen=True)
class _Command:
    main: Main
    config: str
    after_sweep: Callable[[Path], None] | None

    def __call__(self) -> None:
        arguments = sys.argv[1:]
        if asks_for_help(arguments):
            _print_help(self.config, arguments)
            return
        prepare_process()
        with _raised_by_hydra() as is_debugging:
            try:
                self._compose_and_call(arguments, is_debugging)
            except BrokenPipeError:
                _end_quietly()
            except Exception as error:
                if sweep.current:
                    sweep.current.abandon()
                _refuse(error, self.config, arguments, is_debugging)
            except KeyboardInterrupt:
                _end_interrupted()
        if sweep.current and self.after_sweep:
            sys.exit(sweep.current.finish(self.after_sweep))

    def _compose_and_call(self, arguments: list[str], is_debugging: bool) -> None:
        refuse_arguments(arguments)
        if self.after_sweep is None and {"-m", "--multirun"} & set(arguments):
            raise LabError("Only train.py makes sweeps.", "Leave -m out.", code="unsupported")
        job = _Job(self.main, self.config, tuple(arguments), is_debugging)
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=self.config)(job)()
        sys.stdout.flush()


@dataclass
class _Job:
    """What Hydra calls with the composed configuration: here or, in a sweep, in a worker process."""

    main: Main
    config: str
    arguments: tuple[str, ...]
    is_debugging: bool

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Receives the job in a worker process, where nothing has been prepared."""
        self.__dict__.update(state)
        prepare_process()

    def __call__(self, cfg: DictConfig) -> float | None:
        try:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                return sweep.run_job(self.main, cfg, self._explain)
            self.main(cfg)
        except BrokenPipeError:
            _end_quietly()
        except Exception as error:
            _refuse(error, self.config, self.arguments, self.is_debugging)
        return None

    def _explain(self, error: Exception) -> str | None:
        explanation = explain(error, self.config, self.arguments)
        return str(explanation) if explanation else None


@contextmanager
def _raised_by_hydra() -> Iterator[bool]:
    """Lets Hydra raise its exceptions, and tells whether the user wants to see their tracebacks."""
    is_debugging = os.environ.get(FULL_ERROR) == "1"
    os.environ[FULL_ERROR] = "1"
    try:
        yield is_debugging
    finally:
        if not is_debugging:
            del os.environ[FULL_ERROR]


def _print_help(config: str, arguments: list[str]) -> None:
    try:
        say(help_text(config, config_folders(arguments)), flush=True)
    except BrokenPipeError:
        _end_quietly()


def _end_quietly() -> NoReturn:
    """Ends where the reader of a pipe has ended, as in `… | head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


def _end_interrupted() -> NoReturn:
    if sweep.current:
        sweep.current.watch.end()
        sweep.current.say_how_to_continue()
    say("Interrupted.", stderr=True)
    sys.exit(130)


def _refuse(error: Exception, config: str, arguments: tuple[str, ...] | list[str], is_debugging: bool) -> NoReturn:
    """Prints a user's mistake and exits with its status; raises any other error again."""
    explanation = None if is_debugging else explain(error, config, arguments)
    if explanation is None:
        raise error
    say(explanation, stderr=True)
    sys.exit(explanation.status)
