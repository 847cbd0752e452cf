"""What runs the jobs of a sweep: this process, the cores of this machine (joblib), Slurm (submitit), or Ray.

The launchers are plugins of Hydra; see docs/clusters.md. This module has what they need besides their presets in
conf/hydra/.
"""

import os
import signal
import socket
import subprocess
import sys
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
from gan_lab.core.errors import LabError

# Presets of conf/hydra/ that have the name of a config that their plugin brings along.
NAMESAKES = {"launcher": "ray", "sweeper": "optuna"}

RAY_ADDRESS = "hydra.launcher.ray.init.address"
CONNECT_SECONDS = 10.0  # how long a cluster may take to answer


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

    Raises:
        LabError: if the Ray cluster that the configuration names can't be joined from here.
    """
    launcher = config.hydra.launcher._target_
    if "Slurm" in launcher:
        interrupts.at_end(partial(cancel, sweep))
    elif "Joblib" in launcher:
        _start_resource_trackers()
        interrupts.relay()
    elif "Ray" in launcher:
        _prepare_ray(config.hydra.launcher.ray.init)


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


def end_jobs(config: DictConfig) -> bool:
    """Ends the jobs that a sweep has left running, and returns whether none of them writes its status any more.

    Those in Slurm do: they outlive this process, or are cancelled and end in good order.

    Args:
        config: composed, with Hydra's own part.
    """
    if "Slurm" in config.hydra.launcher._target_:
        return False
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()
    return True


def _prepare_ray(init: DictConfig) -> None:
    """Prepares this process for Ray, which must not have been imported before, because it reads the environment then.

    Args:
        init: what `ray.init` will get.

    Raises:
        LabError: see `_refuse_unless_node`.
    """
    # Otherwise Ray would send statistics to its authors.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Where there is a token, Ray starts clusters that require it, but doesn't send it to one with an explicit address.
    if _has_ray_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    address = init.get("address") or os.environ.get("RAY_ADDRESS")
    # Without a host the cluster is one on this machine, and Ray's client (ray://) runs on any machine.
    if not address or address in ("auto", "local") or "://" in address:
        return
    for name in ("num_cpus", "num_gpus", "object_store_memory"):
        if init.get(name) is not None:
            raise LabError(
                f"{name} is a setting of a new Ray cluster, but {address} is to be joined.",
                f"Leave hydra.launcher.ray.init.{name} out; hydra.launcher.ray.remote.num_cpus gives CPUs to each job.",
                code="conflict",
                key=f"hydra.launcher.ray.init.{name}",
            )
    _refuse_unless_node(address)


def _has_ray_token() -> bool:
    """Returns whether there is a token in one of the places where Ray looks for it."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return True
    return os.path.isfile(os.path.expanduser("~/.ray/auth_token"))


def _refuse_unless_node(address: str) -> None:
    """Refuses a Ray cluster that this machine is no node of: Ray would look for a minute, abort, or hang after one job.

    Args:
        address: `<host>:<port>` of the cluster's head.

    Raises:
        LabError: if no cluster answers there, if it requires another token, or if this machine is no node of it.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise LabError(f"{address} is no address of a Ray cluster.", f"Say {RAY_ADDRESS}=<host>:6379", key=RAY_ADDRESS)
    try:
        # Ray itself would wait for 40 s.
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise LabError(
            f"No Ray cluster answers at {address}: {getattr(error, 'strerror', None) or error}.",
            f"Is one running there? {RAY_ADDRESS}=null starts one here.",
            code="failed",
            key=RAY_ADDRESS,
        ) from error
    if not any(_is_of_this_machine(node) for node in _addresses_of_nodes(address)):
        raise LabError(
            f"This machine is no node of the Ray cluster at {address}, so it can't run sweeps there.",
            f"Start the command on a node, or make this machine one: ray start --address={address}",
            code="unsupported",
            key=RAY_ADDRESS,
        )


def _addresses_of_nodes(address: str) -> list[str]:
    """Returns the IP addresses of the nodes of a Ray cluster that are alive.

    Raises:
        LabError: if the cluster requires another token, or doesn't answer as one.
    """
    from ray._raylet import GcsClient
    from ray.core.generated.gcs_pb2 import GcsNodeInfo
    from ray.exceptions import AuthenticationError, RayError

    try:
        # `ray.init` asks in the same way, but only after it has looked for a node on this machine.
        nodes = GcsClient(address=address).get_all_node_info(
            timeout=CONNECT_SECONDS, state_filter=GcsNodeInfo.GcsNodeState.ALIVE
        )
    except AuthenticationError as error:
        raise LabError(
            f"The Ray cluster at {address} refuses this machine's token, or there is none here.",
            "Write what `ray get-auth-token` prints on the cluster's head into ~/.ray/auth_token here, and leave "
            "RAY_AUTH_MODE, RAY_AUTH_TOKEN and RAY_AUTH_TOKEN_PATH unset.",
            code="failed",
            key=RAY_ADDRESS,
        ) from error
    except RayError as error:
        raise LabError(
            f"What answers at {address} is no Ray cluster of this version: {error}",
            "Name the address that `ray start --head` printed.",
            code="failed",
            key=RAY_ADDRESS,
        ) from error
    return [node.node_manager_address for node in nodes.values()]


def _is_of_this_machine(address: str) -> bool:
    """Returns whether an IP address belongs to this machine: only then can a socket have it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def available_cores() -> int:
    """Returns how many cores this process may use (affinity and the container's quota count), at least 1."""
    from joblib import cpu_count

    available: int = cpu_count(only_physical_cores=True)
    return available


def cores() -> int:
    """Returns how many cores this job may use, at least 1: those of the process, see `available_cores`, or its share.

    A job of a sweep has what its launcher gives it: what it requested, or one of `n_jobs` equal shares.
    """
    available = available_cores()
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
