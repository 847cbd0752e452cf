"""Where the files of a command go: the resolvers that conf/ calls, and the folders in which no file may be written.

Hydra makes the folder before it calls the command; `Guard` removes it if a signal comes in between.
"""

import datetime
import hashlib
import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from gan_lab.config.schema import leaves, spec_of
from gan_lab.core.errors import LabError
from gan_lab.core.interrupts import at_end
from gan_lab.core.run_folder import OUTPUTS, RUN_SUBFOLDERS, Run, refuse_links, refuse_other_encoding
from gan_lab.core.terminal import format_traceback, say

# Characters of the name of a job's folder, at most.
NAME_LENGTH = 80
# As conf/train.yaml has them. What a run folder holds, and how the jobs of a sweep lie in it, can't be changed.
OUTPUT_SUBDIR = "${config_folder:}"
JOB_SUBDIR = "${job_folder:${hydra.job.override_dirname}}"


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

    def evaluation_folder(generated: str | None, dataset: str | None) -> str:
        # The evaluation of a run stays in its folder, whatever the current one is.
        if not generated:
            return "."
        return str(Path(OUTPUTS) / (dataset or "real") / f"evaluate_{started}")

    resolvers = (run_folder, check_folder, sweep_folder, command_folder, evaluation_folder, config_folder, job_folder)
    for resolver in resolvers:
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


def config_folder() -> str | None:
    """Returns the subfolder for Hydra's own files; None in the folder of an earlier run, which keeps its own."""
    runtime = HydraConfig.get().runtime
    # It is not known yet where the configuration is only shown (`--cfg`).
    if not OmegaConf.is_missing(runtime, "output_dir") and Run(runtime.output_dir).is_taken():
        return None
    return ".hydra"


def job_folder(*parts: str) -> str:
    """Returns the name of a job's folder: 'loss=mse,seed=0' → 'loss-mse_seed-0'.

    What a name can't have is left out, and a hash tells it apart: 'remedy=[r1],seed=0' → 'remedy-r1_seed-0_ea4f86'.

    Args:
        parts: Hydra's `override_dirname`, split at its commas.
    """
    dirname = ",".join(parts)
    name = re.sub(r"[^\w.-]+", "-", dirname.replace(",", "_").replace("=", "-")).strip("-")
    if len(name) <= NAME_LENGTH and not re.search(r"[^\w.,=/-]", dirname):
        return name or "job"
    name = re.sub(r"-+(?=[_-]|$)", "", name)
    digest = hashlib.sha256(dirname.encode()).hexdigest()[:6]
    return f"{name[: NAME_LENGTH - 7]}_{digest}"


def expand_home(cfg: DictConfig) -> None:
    """Puts the user's home in place of the ~ at the start of every path; a shell does so only after a space.

    `~name` without such a user stays as it is, and so does `./~`.

    Args:
        cfg: composed; it is changed.
    """
    raw: Any = OmegaConf.to_container(cfg, resolve=False)
    raw.pop("hydra", None)
    for key, value in leaves(raw):
        spec = spec_of(key)
        if spec is None or not spec.path:
            continue
        expanded = value
        if isinstance(value, str):
            expanded = os.path.expanduser(value)
        elif isinstance(value, list):
            expanded = [os.path.expanduser(entry) if isinstance(entry, str) else entry for entry in value]
        if expanded != value:
            OmegaConf.update(cfg, key, expanded)


class Guard(Callback):
    """Refuses a folder in which files of a run would be overwritten, before Hydra makes it or writes into it.

    It looks at the composed configuration, so it doesn't matter where the folder comes from. It ends the process: Hydra
    would turn an error of a callback into a warning. A new folder is removed if a signal ends the command before it
    writes into it.

    Attributes:
        resumes: whether the command can resume a run; check.py has the key, too, and refuses it later.
    """

    resumes = False

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        with _ended_by_errors():
            expand_home(config)
        # For references to Hydra's own values, `${hydra:job.name}`.
        HydraConfig.instance().set_config(config)
        try:
            folder = str(config.hydra.run.dir)
        except OmegaConfBaseException:
            # A reference to nothing: Hydra itself refuses it when it makes the folder.
            return
        with _ended_by_errors():
            with read_write(config.hydra):
                config.hydra.run.dir = os.path.expanduser(folder)
            refuse_changed_layout(config)
            _refuse_folder(config, self.resumes)
        run = Run(config.hydra.run.dir)
        if not run.folder.exists():
            at_end(partial(_discard_unused, run))

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        with _ended_by_errors():
            with read_write(config.hydra):
                config.hydra.sweep.dir = os.path.expanduser(config.hydra.sweep.dir)
            self.prepare_multirun(config)

    def prepare_multirun(self, config: DictConfig) -> None:
        """Prepares a sweep. Most commands make none, not even with `hydra.mode=MULTIRUN`."""
        raise LabError("Only train.py makes sweeps.", "Leave -m out.", code="unsupported", key="hydra.mode")


def refuse_changed_layout(config: DictConfig) -> None:
    """Refuses another place for Hydra's own files, or for the jobs of a sweep, than conf/ gives them.

    Args:
        config: composed, with Hydra's own part.

    Raises:
        LabError: for `hydra.output_subdir` and `hydra.sweep.subdir`.
    """
    raw: Any = OmegaConf.to_container(config.hydra, resolve=False)
    if raw["output_subdir"] not in (None, OUTPUT_SUBDIR):
        raise LabError(
            f"hydra.output_subdir={raw['output_subdir']} is not allowed: a run keeps Hydra's files in .hydra.",
            "Leave it out; hydra.output_subdir=null writes none.",
            key="hydra.output_subdir",
        )
    # Commands without sweeps have Hydra's own value here.
    if "sweep" in raw["callbacks"] and raw["sweep"]["subdir"] != JOB_SUBDIR:
        raise LabError(
            f"hydra.sweep.subdir={raw['sweep']['subdir']} is not allowed: what varies names the folder of a job.",
            "Leave it out; hydra.sweep.dir=… names the folder of the sweep.",
            key="hydra.sweep.subdir",
        )


def is_part_of_run(folder: Path) -> bool:
    """Returns whether a folder is, by its name and place, one that holds files of a run: `<run>/checkpoints`."""
    folder = Path(os.path.abspath(folder))
    return folder.name in RUN_SUBFOLDERS and Run(folder.parent).is_taken()


def _refuse_folder(config: DictConfig, resumes: bool) -> None:
    """Refuses `hydra.run.dir` if it holds a run, or if a run that is resumed lies somewhere else."""
    folder = Path(config.hydra.run.dir)
    resume = config.get("resume")
    if resume and resumes:
        if os.path.realpath(folder) != os.path.realpath(Run.existing(resume).folder):
            raise LabError(
                "A resumed run stays in its folder.", "Leave hydra.run.dir=… out.", code="conflict", key="hydra.run.dir"
            )
        return
    # Commands that write nothing there run in any folder, also in a run's.
    writes_there = config.hydra.run.dir != "." or "resume" in config
    if writes_there:
        run = Run(folder)
        run.refuse_if_taken()
        refuse_other_encoding(run.folder)
        refuse_links(run.folder)
    if "resume" in config and is_part_of_run(folder):
        Run(Path(os.path.abspath(folder)).parent).refuse_if_taken()


@contextmanager
def _ended_by_errors() -> Iterator[None]:
    """Ends the process after an error: Hydra would go on."""
    try:
        yield
    except LabError as error:
        say(error, stderr=True)
        sys.exit(error.status)
    except OSError as error:
        say(f"{error.filename}: {error.strerror}.", stderr=True)
        sys.exit(LabError.status)
    except Exception as error:
        say(format_traceback(error), stderr=True)
        sys.exit(1)


def _discard_unused(run: Run) -> None:
    # With a configuration it is the folder of a run that has begun.
    if not run.config.exists():
        run.discard()


def _label(name: str | None, experiment: str | None, dataset: str) -> Path:
    return Path(OUTPUTS) / str(name or experiment or dataset)
