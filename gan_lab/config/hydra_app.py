"""A command under Hydra, which composes its configuration; each mistake of a user ends in one message."""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from gan_lab.config import config_files, folders, launchers, sweep
from gan_lab.config.arguments import config_folders, flags_first, quote_texts, refuse_arguments
from gan_lab.config.help import asks_for_help, help_text
from gan_lab.config.refusals import explain
from gan_lab.core import interrupts
from gan_lab.core.errors import LabError
from gan_lab.core.installation import CONF
from gan_lab.core.terminal import escape_tracebacks, say

Main = Callable[[DictConfig], None]

# With this in the environment Hydra raises its exceptions. Without, it prints them in its own way.
FULL_ERROR = "HYDRA_FULL_ERROR"


def prepare_process() -> None:
    """Prepares a process to compose a configuration: a command, or a worker that runs jobs of a sweep."""
    escape_tracebacks()
    # Commands draw into files. The backend of a notebook, which `!python train.py` inherits, may not even be installed.
    os.environ["MPLBACKEND"] = "agg"
    folders.register_resolvers()
    config_files.register_config_files()
    launchers.prefer_presets()


class Outcome(NamedTuple):
    """How a command ended.

    Attributes:
        status: the exit status: 0, or 1 for a sweep with failed jobs.
        folder: of the run or the sweep, or for the command's files; None if there is none.
    """

    status: int = 0
    folder: Path | None = None


class _Refusal(SystemExit):
    """Carries a user's mistake out of Hydra, which would print a line about every other exception.

    Args:
        mistake: what to tell the user.
    """

    def __init__(self, mistake: LabError):
        super().__init__(mistake.status)
        self.mistake = mistake


def run(
    main: Main,
    config: str,
    arguments: list[str],
    after_sweep: Callable[[Path], None] | None,
    before_sweep: Callable[[dict[str, list[str]], list[int], int], str] | None = None,
) -> None:
    """Runs a command of a terminal; see `gan_lab.config.cli.command`.

    Args:
        main, config, after_sweep, before_sweep: of the command.
        arguments: the command line without the command.

    Raises:
        SystemExit: if the exit status isn't 0; a user's mistake has been printed then.
    """
    try:
        status = call(main, config, arguments, after_sweep, before_sweep).status
    except LabError as mistake:
        if os.environ.get(FULL_ERROR) == "1":
            raise
        say(mistake, stderr=True)
        status = mistake.status
    if status:
        sys.exit(status)


def call(
    main: Main,
    config: str,
    arguments: list[str],
    after_sweep: Callable[[Path], None] | None,
    before_sweep: Callable[[dict[str, list[str]], list[int], int], str] | None = None,
) -> Outcome:
    """Runs a command, and raises a user's mistake as an exception.

    Args:
        main, config, after_sweep, before_sweep: of the command.
        arguments: the command line without the command.

    Raises:
        LabError: for a user's mistake.
        SystemExit: with another exit status, by `main` itself.
    """
    # Of an earlier command in this process.
    sweep.current = None
    sweep.before_jobs = before_sweep
    arguments = flags_first(quote_texts(arguments))
    # Hydra reads them there.
    sys.argv[1:] = arguments
    if asks_for_help(arguments):
        say(help_text(config, config_folders(arguments)))
        return Outcome()
    prepare_process()
    with _raised_by_hydra() as is_debugging:
        try:
            _refuse_deleted_directory()
            refuse_arguments(arguments)
            if after_sweep is None and {"-m", "--multirun"} & set(arguments):
                raise LabError("Only train.py makes sweeps.", "Leave -m out.", code="unsupported")
            job = _Job(main, config, tuple(arguments), is_debugging)
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=config)(job)()
        except _Refusal as refusal:
            raise refusal.mistake from None
        except Exception as error:
            # Imports and libraries turn the exception of a signal into others.
            if interrupts.is_ending():
                raise KeyboardInterrupt from None
            if sweep.current:
                sweep.current.abandon()
            mistake = None if is_debugging else explain(error, config, arguments)
            if mistake is None:
                raise
            raise mistake from None
    if sweep.current and after_sweep:
        return Outcome(sweep.current.finish(after_sweep), sweep.current.folder)
    return Outcome(folder=job.folder)


def _refuse_deleted_directory() -> None:
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise LabError(
            "The working directory has been deleted.", "cd to another one; cd . if it is there again.", code="missing"
        ) from error


@dataclass
class _Job:
    """What Hydra calls with the composed configuration: here or, in a sweep, in a worker process.

    Attributes:
        main, config, arguments: see `run`.
        is_debugging: whether the user wants to see tracebacks.
        folder: of the run, or for the command's files; None until it is known, and in a sweep.
        working_directory: of the command, an absolute path. Paths such as `outputs` are relative to it.
    """

    main: Main
    config: str
    arguments: tuple[str, ...]
    is_debugging: bool
    folder: Path | None = None
    working_directory: str = field(default_factory=os.getcwd)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Receives the job in a worker process, where nothing has been prepared.

        Raises:
            LabError: if the command's folder can't be entered on the machine of the worker.
        """
        self.__dict__.update(state)
        # Ray's workers start where `ray start` ran. This comes before Hydra makes the folder of the job.
        try:
            os.chdir(self.working_directory)
        except OSError as error:
            raise LabError(
                f"{self.working_directory} can't be entered on {socket.gethostname()}: {error.strerror}.",
                "All nodes need the command's folder, under the same path.",
                code="missing",
            ) from error
        interrupts.watch(as_worker=True)
        prepare_process()

    def __call__(self, cfg: DictConfig) -> float | None:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            folders.expand_home(cfg)
            # Hydra keeps what it raises until the other jobs have ended.
            return sweep.run_job(self.main, cfg, self._explain)
        self.folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            self.main(cfg)
        except Exception as error:
            if interrupts.is_ending():
                raise KeyboardInterrupt from None
            mistake = None if self.is_debugging else explain(error, self.config, self.arguments)
            if mistake is None:
                raise
            raise _Refusal(mistake) from None
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
