"""Where the files of a command go: the resolvers that `hydra.run.dir` and its kin in conf/ call.

Hydra makes the folder before it calls the command; `OutputFolder` removes it if a signal comes in between.
"""

import datetime
import secrets
from functools import partial
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from gan_lab.config.sweep import job_folder
from gan_lab.core.interrupts import at_end
from gan_lab.core.run_folder import OUTPUTS, Run


def register_resolvers() -> None:
    """Makes the resolvers known to OmegaConf, with the time of this call in the folders' names."""
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    started = f"{now}_{secrets.token_hex(3)}"  # unique, even if several runs start within a second

    def run_folder(resume: str | None, name: str | None, experiment: str | None, dataset: str) -> str:
        if resume:
            return str(Run.existing(resume).folder)
        return str(_label(name, experiment, dataset) / started)

    def check_folder(name: str | None, experiment: str | None, dataset: str) -> str:
        return str(_label(name, experiment, dataset) / f"check_{started}")

    def sweep_folder(name: str | None, experiment: str | None, dataset: str) -> str:
        return str(_label(name, experiment, dataset) / f"sweep_{started}")

    def command_folder(command: str, run: str | None, dataset: str) -> str:
        if run:
            return str(Run.existing(run).folder / command)
        return str(Path(OUTPUTS) / dataset / f"{command}_{started}")

    def config_folder(resume: str | None) -> str | None:
        return None if resume else ".hydra"

    resolvers = (run_folder, check_folder, sweep_folder, command_folder, config_folder, job_folder)
    for resolver in resolvers:
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


class OutputFolder(Callback):
    """Removes the folder that Hydra makes for a command if a signal ends the command before it writes into it."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        folder = Path(config.hydra.run.dir)
        if not folder.exists():
            at_end(partial(_discard_unused, Run(folder)))


def _discard_unused(run: Run) -> None:
    # With a configuration it is the folder of a run that has begun.
    if not run.config.exists():
        run.discard()


def _label(name: str | None, experiment: str | None, dataset: str) -> Path:
    return Path(OUTPUTS) / str(name or experiment or dataset)
