"""Where a command's files go: what `hydra.run.dir` and its kin in conf/ call by these names."""

import datetime
import secrets
from pathlib import Path

from omegaconf import OmegaConf

from gan_lab.config.sweep import job_folder
from gan_lab.core.run_folder import OUTPUTS, Run

_STARTED = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S") + "_" + secrets.token_hex(3)  # unique in any second


def _label(name: str | None, experiment: str | None, dataset: str) -> Path:
    return Path(OUTPUTS) / str(name or experiment or dataset)


def _run_folder(resume: str | None, name: str | None, experiment: str | None, dataset: str) -> str:
    return str(Run.existing(resume).folder if resume else _label(name, experiment, dataset) / _STARTED)


def _check_folder(name: str | None, experiment: str | None, dataset: str) -> str:
    return str(_label(name, experiment, dataset) / f"check_{_STARTED}")


def _sweep_folder(name: str | None, experiment: str | None, dataset: str) -> str:
    return str(_label(name, experiment, dataset) / f"sweep_{_STARTED}")


def _command_folder(command: str, run: str | None, dataset: str) -> str:
    return str(Run.existing(run).folder / command if run else Path(OUTPUTS) / dataset / f"{command}_{_STARTED}")


# Made at import, so that a worker process of a sweep, which imports this, has them too.
OmegaConf.register_new_resolver("run_folder", _run_folder, replace=True)
OmegaConf.register_new_resolver("check_folder", _check_folder, replace=True)
OmegaConf.register_new_resolver("sweep_folder", _sweep_folder, replace=True)
OmegaConf.register_new_resolver("command_folder", _command_folder, replace=True)
OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
OmegaConf.register_new_resolver("config_folder", lambda resume: None if resume else ".hydra", replace=True)
