"""What runs the jobs of a sweep: this process, the cores of this machine (joblib), Slurm (submitit), or Ray.

The launchers are plugins of Hydra; see docs/clusters.md. This module has what they need besides their presets in
conf/hydra/.
"""

import os
import signal
import subprocess
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gan_lab.core import interrupts

# Presets of conf/hydra/ that have the name of a config that their plugin brings along.
NAMESAKES = {"launcher": "ray", "sweeper": "optuna"}


def prefer_presets() -> None:
    """Lets the presets of conf/hydra/ replace the plugins' own configs of the same name.

    Otherwise Hydra would check the presets against those configs, and refuse them.
    """
    # This stores the configs of all plugins that are installed.
    Plugins.instance()
    for group, name in NAMESAKES.items():
        ConfigStore.instance().repo["hydra"].get(group, {}).pop(f"{name}.yaml", None)


def prepare(config: DictConfig, sweep: Path) -> None:
    """Prepares this process for starting a sweep with the launcher that the configuration names.

    Args:
        config: composed, with Hydra's own part.
        sweep: the folder of the sweep.
    """
    # Otherwise Ray would send statistics to its authors.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    launcher = config.hydra.launcher._target_
    if "Slurm" in launcher:
        interrupts.at_end(partial(cancel, sweep))
    elif "Joblib" in launcher:
        _start_resource_trackers()
        interrupts.relay()


def _start_resource_trackers() -> None:
    """Starts the processes that remove what workers share, Python's and joblib's.

    Python's would let this thread, and so the workers, receive signals again if it were started after `relay`. Of what
    killed workers have left, both would print warnings, which concern no user.
    """
    from joblib.externals.loky.backend import resource_tracker as resource_tracker_of_joblib

    filters = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    resource_tracker.ensure_running()
    resource_tracker_of_joblib.ensure_running()
    del os.environ["PYTHONWARNINGS"]
    if filters is not None:
        os.environ["PYTHONWARNINGS"] = filters


def cancel(sweep: Path) -> None:
    """Cancels the jobs of a sweep in Slurm, which would run them even if no process waits for them any more."""
    jobs = {folder.name.partition("_")[0] for folder in (sweep / ".submitit").glob("[0-9]*")}
    if jobs:
        # scancel complains about jobs that have ended, which is no problem.
        subprocess.run(["scancel", *sorted(jobs)], stderr=subprocess.DEVNULL)


def cores() -> int:
    """Returns how many cores this process may use (affinity and the container's quota count), at least 1.

    A job of a sweep has what its launcher gives it: what it requested, or one of `n_jobs` equal shares.
    """
    from joblib import cpu_count

    available: int = cpu_count(only_physical_cores=True)
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return available
    launcher = HydraConfig.get().launcher
    requested = OmegaConf.select(launcher, "cpus_per_task") or OmegaConf.select(launcher, "ray.remote.num_cpus")
    if requested:
        return max(1, int(requested))
    jobs = OmegaConf.select(launcher, "n_jobs") or 1
    # In joblib -1 means as many as there are cores, and -2 one less.
    if jobs < 0:
        jobs = max(1, available + 1 + jobs)
    return max(1, available // jobs)


def heed_time_limit() -> None:
    """Lets a Slurm job stop in good order when its time is up, so that it can be resumed from its checkpoint.

    Slurm sends SIGUSR2 before and SIGTERM at the limit, and SIGTERM when the job is cancelled. During training both
    mean a last checkpoint (see `StopOnSignal`), otherwise an immediate end. Submitit's own handlers, which requeue the
    job or ignore the signal, don't keep what was trained.
    """
    if "SUBMITIT_FOLDER" in os.environ:
        signal.signal(signal.SIGUSR2, _send_sigterm)
        signal.signal(signal.SIGTERM, _stop)


def _send_sigterm(*_: int | FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _stop(number: int, _: FrameType | None) -> None:
    interrupts.interrupt(number)
