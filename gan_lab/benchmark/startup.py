"""How long a command takes to its answer or to its first step, and how much memory a training takes.

Each measurement starts a process of its own.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig

from gan_lab.benchmark.timing import Benchmark, Facts
from gan_lab.core.command_line import hydra_text
from gan_lab.core.installation import script
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import say

TRAIN = script("train")
# Overrides that end a training before its first step.
STOP_AT_FIRST_STEP = (
    "+callbacks.clock._target_=gan_lab.benchmark.startup.StopAtFirstStep",
    "+callbacks.clock._partial_=true",
    "trust=[gan_lab]",
)
IMPORTS = "import torch, pytorch_lightning"
# Code that prints the peak memory in MiB, on Linux: the line "VmHWM: 123 kB". The peak of getrusage would include that
# of the process that started this one.
PEAK = "print(next(int(line.split()[1]) / 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')))"


def benchmarks(_: Path, cfg: DictConfig, __: Callable[..., DictConfig]) -> tuple[list[Benchmark], Facts]:
    """Returns no benchmark but facts: medians over `cfg.rounds` of the seconds to answer and first step; memory."""
    folders = tuple(f"{key}={hydra_text(Path(cfg[key]).absolute())}" for key in ("data_dir", "cache_dir"))
    seconds = measure_startup(cfg.rounds, folders)
    memory = measure_memory(("steps=200", *folders))
    return [], {
        "Seconds from the start of the process": {
            "until the answer to a typo": seconds["typo"],
            "importing only torch and Lightning": seconds["imports"],
            "until the first step of train.py": seconds["first_step"],
            "of which not for the imports": seconds["beyond"],
        },
        "Peak memory, MiB": {
            "importing only torch and Lightning": memory["imports"],
            "training digits": memory["training"],
            "of which not for the imports": memory["beyond"],
        },
    }


class StopAtFirstStep(pl.Callback):
    """Prints the time when the first step begins, and ends the process there."""

    def __init__(self, run: Run):
        self.run = run

    def on_train_batch_start(self, *_: Any) -> None:
        say(f"\nfirst step at {time.time()}", flush=True)
        os._exit(0)


def measure_startup(rounds: int = 3, overrides: tuple[str, ...] = ()) -> dict[str, float]:
    """Measures seconds from the start of a process: medians over rounds, in which the measurements take turns.

    Args:
        rounds: how often each is measured.
        overrides: for train.py.

    Returns:
        `typo`: until `train.py loss=bec` has answered; `imports`: for importing only torch and Lightning; `first_step`:
        until `train.py` with the overrides begins its first step, with a label classifier from an earlier run;
        `beyond`: the median difference between the two.
    """
    seconds: dict[str, list[float]] = {"typo": [], "imports": [], "first_step": [], "beyond": []}
    for _ in range(rounds):
        start = time.time()
        _run_python(str(TRAIN), "loss=bec", status=2)
        seconds["typo"].append(time.time() - start)

        start = time.time()
        # It ends as abruptly as StopAtFirstStep does.
        _run_python("-c", f"{IMPORTS}, os; os._exit(0)")
        imports = time.time() - start

        start = time.time()
        output = _run_training(*overrides, *STOP_AT_FIRST_STEP)
        first_step = float(output.rpartition("first step at ")[2]) - start

        seconds["imports"].append(imports)
        seconds["first_step"].append(first_step)
        seconds["beyond"].append(first_step - imports)
    return {name: statistics.median(values) for name, values in seconds.items()}


def measure_memory(overrides: tuple[str, ...] = ("steps=200",)) -> dict[str, float]:
    """Measures the peak resident memory in MiB (Linux).

    Args:
        overrides: for train.py.

    Returns:
        `imports`: for importing only torch and Lightning; `training`: of `train.py` with the overrides; `beyond`: the
        difference.
    """
    imports = float(_run_python("-c", f"{IMPORTS}; {PEAK}"))
    run_script = "import runpy, sys; sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    output = _run_python("-c", f"{run_script}; {PEAK}", str(TRAIN), *_with_folders(overrides))
    training = float(output.split()[-1])
    return {"imports": imports, "training": training, "beyond": training - imports}


def _run_training(*overrides: str) -> str:
    """Runs train.py with these overrides and returns what it prints."""
    return _run_python(str(TRAIN), *_with_folders(overrides))


def _with_folders(overrides: tuple[str, ...]) -> tuple[str, ...]:
    """Adds the data and cache folders of the working directory, unless the overrides name others."""
    for key, folder in (("data_dir", "data"), ("cache_dir", ".cache")):
        if not any(override.startswith(f"{key}=") for override in overrides):
            overrides += (f"{key}={Path(folder).absolute()}",)
    return overrides


def _run_python(*arguments: str, status: int = 0) -> str:
    """Runs Python with these arguments in an empty folder.

    Returns:
        What it prints to stdout.

    Raises:
        RuntimeError: if it ends with another exit status.
    """
    # The command that measures has set HYDRA_FULL_ERROR for itself.
    variables = dict(os.environ)
    variables.pop("HYDRA_FULL_ERROR", None)
    command = [sys.executable, *arguments]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.run(command, cwd=folder, env=variables, capture_output=True, encoding="utf-8")
    if process.returncode != status:
        raise RuntimeError(f"{arguments}: exit {process.returncode}: {process.stderr}")
    return process.stdout
