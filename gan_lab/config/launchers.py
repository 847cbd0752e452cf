"""What runs a sweep's jobs: this process, this machine's cores (joblib), Slurm (submitit), Ray; see docs/clusters.md.

The engines are Hydra's plugins. Here stands what they need beside their presets in conf/hydra/.
"""

import os
import signal
import subprocess
import warnings
from pathlib import Path
from types import FrameType

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

NAMESAKES = {"launcher": "ray", "sweeper": "optuna"}


def prefer_presets() -> None:
    """Lets our presets stand in the place of the plugins' own configs of the same name.

    Else Hydra would check ours against those, and refuse them.
    """
    Plugins.instance()  # the plugins that are installed store their configs
    for group, name in NAMESAKES.items():
        ConfigStore.instance().repo["hydra"].get(group, {}).pop(f"{name}.yaml", None)


# Where Slurm is installed, Lightning advises every run that isn't Slurm's to use it.
warnings.filterwarnings("ignore", message="The `srun` command is available")

prefer_presets()  # at import, for Hydra composes before it calls anything of ours


def prepare(config: DictConfig, sweep: Path) -> None:
    """Makes this process, which is about to start a sweep, ready for its engine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report home
    if "Slurm" in config.hydra.launcher._target_:

        def stop(*_: object) -> None:
            cancel(sweep)
            raise KeyboardInterrupt

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)


def cancel(sweep: Path) -> None:
    """Takes a sweep's jobs back from Slurm, which would run them whether or not somebody still waits."""
    jobs = {folder.name.partition("_")[0] for folder in (sweep / ".submitit").glob("[0-9]*")}
    if jobs:
        subprocess.run(["scancel", *sorted(jobs)], stderr=subprocess.DEVNULL)  # it complains of those that have ended


def cores() -> int:
    """The cores of this machine that this process may use (affinity and container's quota count), at least 1.

    A job of a sweep has what its engine gives it: its request, or one of `n_jobs` equal shares.
    """
    from joblib import cpu_count

    every: int = cpu_count(only_physical_cores=True)
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return every
    launcher = HydraConfig.get().launcher
    asked = OmegaConf.select(launcher, "cpus_per_task") or OmegaConf.select(launcher, "ray.remote.num_cpus")
    if asked:
        return max(1, int(asked))
    jobs = OmegaConf.select(launcher, "n_jobs") or 1
    return max(1, every // (jobs if jobs > 0 else max(1, every + 1 + jobs)))


def heed_time_limit() -> None:
    """Lets a Slurm job stop in good order when its time is up: from its checkpoint it can be gone on with.

    Slurm sends SIGUSR2 before and SIGTERM at the limit, and SIGTERM when the job is cancelled. While training both mean
    a last checkpoint (see `StopOnSignal`), else the end at once. Submitit's own answers, to queue the job again and to
    ignore it, don't keep what was trained.
    """
    if "SUBMITIT_FOLDER" in os.environ:
        signal.signal(signal.SIGUSR2, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        signal.signal(signal.SIGTERM, _stop)


def _stop(*_: int | FrameType | None) -> None:
    raise KeyboardInterrupt
