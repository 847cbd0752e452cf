"""How long a command takes to its answer or its first step, and how much memory a training takes, each in a process of
its own."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import say

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
CLOCK = (
    "+callbacks.clock._target_=gan_lab.benchmark.startup.FirstStep",
    "+callbacks.clock._partial_=true",
    "trust=[gan_lab]",
)
IMPORTS = "import torch, pytorch_lightning"
# In MiB, on Linux: the line "VmHWM: 123 kB"; getrusage would begin with the peak of the process that started this one.
PEAK = "print(next(int(line.split()[1]) / 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')))"


def contests(_: Path, asked: Any, __: Any) -> tuple[list[Any], dict[str, dict[str, float]]]:
    """No contest, but facts: seconds to an answer and to the first step, medians over `asked.rounds`; memory."""
    where = (f"data_dir={Path(asked.data_dir).absolute()}", f"cache_dir={Path(asked.cache_dir).absolute()}")
    seconds, memory = measure_startup(asked.rounds, where), measure_memory(("steps=200", *where))
    return [], {
        "Seconds from the start of the process": {
            "until a typo is answered": seconds["typo"],
            "importing torch and Lightning alone": seconds["imports"],
            "until the first step of train.py": seconds["first_step"],
            "of which beyond the imports": seconds["beyond"],
        },
        "Peak memory, MiB": {
            "importing torch and Lightning alone": memory["imports"],
            "training digits": memory["training"],
            "of which beyond the imports": memory["beyond"],
        },
    }


class FirstStep(pl.Callback):
    """Says when the first step is due, and ends the process there."""

    def __init__(self, run: Run):
        self.run = run

    def on_train_batch_start(self, *_: Any) -> None:
        say(f"\nfirst step at {time.time()}", flush=True)
        os._exit(0)


def measure_startup(rounds: int = 3, overrides: tuple[str, ...] = ()) -> dict[str, float]:
    """Seconds from the start of a process, medians over rounds that take turns.

    Returns:
        `typo`: until `train.py loss=bec` has answered; `imports`: torch and Lightning alone; `first_step`: until
        `train.py` with the overrides begins its first step, an evaluator network being there from earlier; `beyond`:
        the median difference of the two.
    """
    taken: dict[str, list[float]] = {"typo": [], "imports": [], "first_step": []}
    for _ in range(rounds):
        started = time.time()
        _output("train.py", "loss=bec", status=2)
        taken["typo"].append(time.time() - started)
        started = time.time()
        _output("-c", f"{IMPORTS}, os; os._exit(0)")  # as the clock ends the training's process
        taken["imports"].append(time.time() - started)
        started = time.time()
        said = _output("train.py", *overrides, *CLOCK)
        taken["first_step"].append(float(said.rpartition("first step at ")[2]) - started)
    beyond = [first - alone for first, alone in zip(taken["first_step"], taken["imports"], strict=True)]
    return {name: statistics.median(each) for name, each in taken.items()} | {"beyond": statistics.median(beyond)}


def measure_memory(overrides: tuple[str, ...] = ("steps=200",)) -> dict[str, float]:
    """Peak resident memory in MiB (Linux).

    Returns:
        `imports`: of torch and Lightning alone; `training`: of `train.py` with the overrides; `beyond`: the difference.
    """
    imports = float(_output("-c", f"{IMPORTS}; {PEAK}"))
    ran = "import runpy, sys; sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    training = float(_output("-c", f"{ran}; {PEAK}", str(TRAIN), *overrides).split()[-1])
    return {"imports": imports, "training": training, "beyond": training - imports}


def _output(*arguments: str, status: int = 0) -> str:
    """What a Python process with these arguments prints, in a folder of its own with the data and caches of this one.

    Raises:
        RuntimeError: if it ends otherwise.
    """
    if arguments[0] == "train.py":
        arguments = (str(TRAIN), *arguments[1:])
    places = {"data_dir": "data", "cache_dir": ".cache"}
    if str(TRAIN) in arguments and not status:
        arguments += tuple(f"{key}={Path(at).absolute()}" for key, at in places.items() if not _says(arguments, key))
    plain = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}  # ours while it runs
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, *arguments], cwd=folder, env=plain, capture_output=True, text=True)
    if done.returncode != status:
        raise RuntimeError(f"{arguments}: exit {done.returncode}: {done.stderr}")
    return done.stdout


def _says(arguments: tuple[str, ...], key: str) -> bool:
    return any(argument.startswith(f"{key}=") for argument in arguments)
