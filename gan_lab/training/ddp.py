"""Several processes that train one GAN (`trainer=ddp devices=N num_nodes=M`), each on its share of every batch.

The process that was started is rank 0 and alone writes. It starts the others of its node, each of which reads the
run's config.yaml and nothing else: `python -m gan_lab.commands.ddp_worker <run folder>`, which is given by hand on other nodes.
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
from typing import IO

from gan_lab.core.errors import LabError
from gan_lab.core.terminal import say

LOOK_EVERY = 0.5  # seconds between two looks at the other processes
GRACE = 20.0  # seconds in which the others end by themselves once one has fallen
SHOWN = 6  # lines of what a fallen process said

LEADER = "GAN_LAB_COMPANION"  # in the environment of a process that helps: the process id of the one it ends with
PLACE = ("LOCAL_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")  # by which Lightning knows who is who


class ProcessGroup:
    """The processes of one training on this node; this one is the first of them, or the only one there is.

    Args:
        devices: processes on each node.
        nodes: how many there are.
        trust: what the command line trusts, see SECURITY.md; the others have to as well.

    Attributes:
        size: processes on all nodes together.
        leads: whether this process is rank 0.

    Raises:
        LabError: where something else has started several processes already, or several nodes don't know each other.
    """

    def __init__(self, devices: int = 1, nodes: int = 1, trust: Sequence[str] = ()):
        self.devices, self.size, self.trust = devices, devices * nodes, trust
        self.leads = self.size == 1 or LEADER not in os.environ
        self._others: list[tuple[int, subprocess.Popen[bytes], IO[bytes]]] = []
        self._over = threading.Event()
        self._before = {name: os.environ.get(name) for name in PLACE}
        if self.size == 1 or not self.leads:
            return
        if os.environ.get("NODE_RANK", "0") != "0":
            raise LabError(
                "train.py is for node 0.",
                "On the others: python -m gan_lab.commands.ddp_worker <run folder that node 0 tells>",
            )
        if "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS") or 1) > 1:
            raise LabError("train.py starts its processes itself.", "Give the command once a node, without torchrun.")
        if nodes > 1 and not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
            raise LabError(
                f"num_nodes={nodes}: the nodes have to find each other.",
                "Set MASTER_ADDR (this machine's name) and MASTER_PORT (a free port) in the environment.",
            )
        place = {"LOCAL_RANK": "0", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()}
        os.environ.update({name: os.environ.get(name, value) for name, value in place.items()})

    def start(self, folder: Path) -> None:
        """Starts this node's other processes, and watches them."""
        if self.size == 1 or os.environ["LOCAL_RANK"] != "0":
            return
        package = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        for rank in range(1, self.devices):
            said = tempfile.TemporaryFile()  # noqa: SIM115, closed at the end
            own = {**os.environ, "LOCAL_RANK": str(rank), LEADER: str(os.getpid()), "PYTHONPATH": path}
            command = [sys.executable, "-m", "gan_lab.commands.ddp_worker", str(folder), *self.trust]
            process = subprocess.Popen(command, env=own, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            self._others.append((rank, process, said))
        threading.Thread(target=self._watch, daemon=True).start()

    def fallen(self, wait: float = 0.0) -> str | None:
        """Which other process has ended too early, and its last words; None if none does within `wait` seconds."""
        until = time.monotonic() + wait
        while True:
            for rank, process, said in self._others:
                if status := process.poll():
                    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"failed (exit {status})"
                    said.seek(0)
                    words = said.read().decode(errors="replace").strip().splitlines()[-SHOWN:]
                    return "\n  ".join([f"Process {rank} of {self.devices} {how}, so the training stopped.", *words])
            if time.monotonic() >= until:
                return None
            time.sleep(0.1)

    def end(self) -> None:
        """Waits for the other processes, ends those that don't, and leaves this one as it was alone."""
        self._over.set()
        if self.size == 1:
            return
        import torch.distributed

        until = time.monotonic() + GRACE
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for _, process, said in self._others:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            said.close()
        self._others.clear()
        for name, value in self._before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    def _watch(self) -> None:
        """Ends this process where it waits forever for one that has fallen: not every backend notices."""
        while not self._over.wait(LOOK_EVERY):
            if self.fallen() and not self._over.wait(GRACE) and (what := self.fallen()):
                say(f"\n{what}", stderr=True, flush=True)
                for _, process, _said in self._others:
                    process.kill()
                os._exit(1)


def follow(leader: int) -> None:
    """Ends this process soon after the one that started it has ended, however that came."""

    def watch() -> None:
        while os.getppid() == leader:
            time.sleep(LOOK_EVERY)
        time.sleep(GRACE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _free_port() -> str:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return str(tried.getsockname()[1])
