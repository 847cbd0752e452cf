"""Several processes that train one GAN (`trainer=ddp devices=N num_nodes=M`), each on its share of every batch.

The process that the user starts is rank 0 and the only one that writes. It starts the others of its node, each of which
reads only the run's config.yaml: `python -m gan_lab.commands.ddp_worker <run folder>`. On other nodes the user gives
that command.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

from gan_lab.core.errors import LabError
from gan_lab.core.interrupts import blocked
from gan_lab.core.terminal import say

POLL_SECONDS = 0.5  # between two checks of the other processes
GRACE_SECONDS = 20.0  # in which the others may end by themselves after one has died
OUTPUT_LINES = 6  # lines of a dead process's output that are shown

LEADER_PID = "GAN_LAB_LEADER_PID"  # environment of a worker: the process with which it ends
RANK_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")  # tell Lightning who is who
# How many processes srun and mpirun have started. SLURM_NTASKS only says how many an allocation has room for.
SIZE_VARIABLES = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


class Worker(NamedTuple):
    """Another process of this node, and the file that its output goes to."""

    rank: int
    process: subprocess.Popen[bytes]
    output: IO[bytes]


class ProcessGroup:
    """The processes of one training on this node. The present one is the first of them, or the only one.

    Args:
        devices: processes on each node.
        nodes: number of nodes.
        trust: packages that the command line trusts, see SECURITY.md; the others have to trust them, too.

    Attributes:
        size: processes on all nodes together.
        is_leader: whether this process is rank 0.
        workers: the other processes of this node.

    Raises:
        LabError: if something else has started several processes already, or several nodes cannot find each other.
    """

    def __init__(self, devices: int = 1, nodes: int = 1, trust: Sequence[str] = ()):
        self.devices = devices
        self.nodes = nodes
        self.size = devices * nodes
        self.trust = trust
        self.is_leader = self.size == 1 or LEADER_PID not in os.environ
        self.workers: list[Worker] = []
        self._ended = threading.Event()
        self._environment_before = {name: os.environ.get(name) for name in RANK_VARIABLES}
        if self.size == 1 or not self.is_leader:
            return
        _check_environment(nodes)
        # What another program has left in these variables would make the processes wait for each other in vain.
        os.environ.update({"LOCAL_RANK": "0", "NODE_RANK": "0"})
        if nodes == 1:
            os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()})

    def start(self, folder: Path) -> None:
        """Starts this node's other processes, and a thread that watches them."""
        if self.size == 1 or os.environ["LOCAL_RANK"] != "0":
            return
        paths = [str(Path(__file__).parents[2])]
        if os.environ.get("PYTHONPATH"):
            paths.append(os.environ["PYTHONPATH"])
        for rank in range(1, self.devices):
            output = tempfile.TemporaryFile()  # noqa: SIM115, closed in `end`
            environment = {
                **os.environ,
                "LOCAL_RANK": str(rank),
                LEADER_PID: str(os.getpid()),
                "PYTHONPATH": os.pathsep.join(paths),
            }
            command = [sys.executable, "-m", "gan_lab.commands.ddp_worker", str(folder), *self.trust]
            with blocked():
                process = subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )
            self.workers.append(Worker(rank, process, output))
        threading.Thread(target=self._watch, daemon=True).start()

    def failure(self, wait: float = 0.0) -> str | None:
        """Describes a worker that has ended too early, with its last output; None if none does so in `wait` seconds."""
        deadline = time.monotonic() + wait
        while True:
            for worker in self.workers:
                if worker.process.poll():
                    return self._describe_failure(worker)
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.1)

    def _describe_failure(self, worker: Worker) -> str:
        status = worker.process.returncode
        reason = f"failed (exit {status})" if status > 0 else f"was killed by {signal.Signals(-status).name}"
        worker.output.seek(0)
        output = worker.output.read().decode(errors="replace").strip().splitlines()
        heading = f"Process {worker.rank} of {self.devices} {reason}, so the training stopped."
        return "\n  ".join([heading, *output[-OUTPUT_LINES:]])

    def end(self) -> None:
        """Waits for the workers, kills those that do not end, and restores this process's environment."""
        self._ended.set()
        if self.size == 1:
            return
        import torch.distributed

        deadline = time.monotonic() + GRACE_SECONDS
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for worker in self.workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.output.close()
        self.workers.clear()
        for name, value in self._environment_before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    def _watch(self) -> None:
        """Aborts this process if it waits forever for a worker that has died; not every backend notices that."""
        while not self._ended.wait(POLL_SECONDS):
            if self.failure() is None:
                continue
            if self._ended.wait(GRACE_SECONDS):
                return
            description = self.failure()
            if description is not None:
                say(f"\n{description}", stderr=True, flush=True)
                for worker in self.workers:
                    worker.process.kill()
                os._exit(1)


def end_with(leader: int) -> None:
    """Ends this process soon after the one that started it has ended, for whatever reason."""

    def watch() -> None:
        while os.getppid() == leader:
            time.sleep(POLL_SECONDS)
        time.sleep(GRACE_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _check_environment(nodes: int) -> None:
    """Raises LabError if this process was started in a way that cannot work."""
    if os.environ.get("NODE_RANK", "0") != "0":
        raise LabError(
            "train.py is for node 0.",
            "On the others: python -m gan_lab.commands.ddp_worker <run folder that node 0 prints>",
            code="conflict",
            key="NODE_RANK",
        )
    started = {os.environ.get(name, "1") for name in SIZE_VARIABLES}
    if "TORCHELASTIC_RUN_ID" in os.environ or started != {"1"}:
        raise LabError(
            "train.py starts its processes itself.",
            "Give the command once per node, without torchrun, srun --ntasks=… or mpirun.",
            code="conflict",
            key="devices",
        )
    if nodes > 1 and not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        raise LabError(
            f"num_nodes={nodes}: the nodes have to find each other.",
            "Set MASTER_ADDR (this machine's name) and MASTER_PORT (a free port) in the environment.",
            code="missing",
            key="MASTER_ADDR",
        )


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
