"""Kills trainings at random moments, resumes them, and compares what they leave with uninterrupted ones.

    python tests/torture.py --kills 50 --jobs 2

A trial starts the real train.py in a process of its own, ends it by SIGKILL at a random moment of its life (start-up,
training, the writing of a checkpoint, the evaluation at the end; in every third trial the resumed process as well, once
or twice), continues with `resume=` until the run ends by itself, and compares bit for bit.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from conftest import ROOT, classifier_cache
from tqdm import tqdm

from gan_lab.core.io import TMP_PREFIX
from gan_lab.core.run_folder import Run
from gan_lab.data import images
from gan_lab.evaluation.classifier import label_classifier

# Tiny networks and a checkpoint every few steps, so that many kills fall into what lies between two of them.
COMMON = (
    "batch_size=16",
    "latent_dim=4",
    "log_every=5",
    "callbacks.checkpoint.every=7",
    "callbacks.pictures.every=40",
    "callbacks.pictures.images=9",
    "callbacks.pictures.points=50",
    "callbacks.verdict.every=50",
    "callbacks.verdict.samples=2500",
)
MLP = ("model.generator.hidden=[16]", "model.discriminator.hidden=[16]")
CONV = ("dataset=patches", "dataset.samples=400", "model=conv", "model.channels=4", "callbacks.verdict.samples=300")
CONFIGURATIONS = (
    ("steps=500", *MLP),  # digits, BCE, Adam, layer norm, leaky ReLU
    ("steps=500", *MLP, "dataset=ring", "loss=mse", "optim=sgd", "norm=none", "activation=sigmoid"),
    ("steps=500", *MLP, "dataset=pattern1010", "optim=rmsprop", "norm=spectral", "latent=uniform"),
    ("steps=400", *MLP, "dataset=stacked_digits", "dataset.samples=1000", "optim=adamw", "norm=batch"),
    ("steps=500", *MLP, "dataset=grid", "optim_d=sgd", "norm=group", "activation=gelu", "joint_d_update=true"),
    ("steps=300", *MLP, "replicas=3", "remedy=[ema,lecam]", "remedy.lecam.warmup_steps=50"),
    ("steps=400", *MLP, "remedy=[ema,historical_averaging,balance]", "remedy.balance.max_auc=0.8"),
    ("steps=400", *MLP, "conditional=true", "remedy=[instance_noise]"),
    ("steps=300", *MLP, "dataset=stacked_digits", "dataset.samples=1000", "remedy=[pac]", "workers=2"),
    ("steps=100", *CONV, "norm=batch", "remedy=[diffaugment]"),
    ("steps=200", *MLP, "dataset=ring", "n_critic=2", "remedy=[unrolled]"),
    ("steps=200", *MLP, "dataset=ring", "trainer=ddp", "devices=2"),
    ("steps=300", *MLP, "remedy=[dragan,minibatch_discrimination]", "norm=none"),
)
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
# In summary.json, these differ from run to run.
CLOCKS = {"seconds", "processor_seconds", "steps_per_second", "measuring_seconds", "environment"}
TIMEOUT = 300  # seconds for one process


def differences(run: Run, expected: Run) -> list[str]:
    """Compares two ended runs.

    Returns:
        The names of what has to be equal to the bit, but isn't; and of temporary files that were left behind.
    """
    names = list(_differing_places(_comparable(run), _comparable(expected)))
    files = _files(run)
    expected_files = _files(expected)
    for name in sorted(files.keys() ^ expected_files.keys()):
        names.append(f"{name}: only in one")
    for name in sorted(files.keys() & expected_files.keys()):
        if files[name] != expected_files[name]:
            names.append(name)
    for path in run.folder.rglob(f"{TMP_PREFIX}*"):
        names.append(f"{path.name}: left behind")
    return names


def _files(run: Run) -> dict[str, bytes]:
    """Returns the table and the pictures by name."""
    contents = {}
    for path in (run.metrics, *sorted(run.images.glob("*")), *sorted(run.plots.glob("*"))):
        contents[str(path.relative_to(run.folder))] = path.read_bytes()
    return contents


def _comparable(run: Run) -> dict[str, Any]:
    """Returns the summary and the last checkpoint without what depends on the clock."""
    summary = {key: value for key, value in run.read_summary().items() if key not in CLOCKS}
    checkpoint = run.load_checkpoint()
    callbacks = {name: state for name, state in checkpoint["callbacks"].items() if name != "Timer"}
    for state in callbacks.values():
        state.pop("seconds", None)
    return {
        "summary.json": summary,
        "state_dict": checkpoint["state_dict"],
        "optimizer_states": checkpoint["optimizer_states"],
        "gan_lab": checkpoint["gan_lab"],
        "callbacks": callbacks,
    }


def _differing_places(a: Any, b: Any, place: str = "") -> Iterator[str]:
    """Names the places at which two nested structures differ; tensors to the bit, NaN and the sign of 0 included."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key in a:
            yield from _differing_places(a[key], b[key], f"{place}/{key}")
    elif isinstance(a, (list, tuple)) and type(a) is type(b) and len(a) == len(b):
        for index, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from _differing_places(one, other, f"{place}/{index}")
    elif isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if (a.dtype, a.shape) != (b.dtype, b.shape) or a.numpy().tobytes() != b.numpy().tobytes():
            yield place
    elif type(a) is not type(b) or a != b:
        yield place


class Trainer:
    """Starts train.py on one configuration in one folder, and again with `resume=` where there is a run already."""

    def __init__(self, folder: Path, overrides: tuple[str, ...]):
        self.run = Run(folder / "run")
        self.overrides = overrides
        self.log = folder / "output.txt"

    def start(self) -> subprocess.Popen[bytes]:
        """Starts the process; what it prints is appended to `log`."""
        arguments = [f"hydra.run.dir={self.run.folder}", *COMMON, *self.overrides]
        if self.run.config.is_file():
            arguments = [f"resume={self.run.folder}"]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), *arguments],
                cwd=self.log.parent,
                stdout=log,
                stderr=log,
                env={**os.environ, **ONE_THREAD},
                start_new_session=True,
            )

    def finish(self) -> None:
        """Trains until the run ends by itself.

        Raises:
            RuntimeError: if it doesn't, or fails.
        """
        where = self.kill(TIMEOUT)
        if where is not None:
            raise RuntimeError(f"train.py was still running after {TIMEOUT} s, {where}:\n{self._last_output()}")

    def kill(self, after: float) -> str | None:
        """Starts the process, and kills it and its children after so many seconds.

        Returns:
            What it was doing; None if the run had ended by itself.

        Raises:
            RuntimeError: if it failed by itself.
        """
        process = self.start()
        try:
            status = process.wait(timeout=after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return self._where()
        if status:
            raise RuntimeError(f"train.py ended with status {status}:\n{self._last_output()}")
        return None

    def finished(self) -> bool:
        """Returns whether the run ended and wrote its summary."""
        return self.run.finished(self.step())

    def _where(self) -> str:
        run = self.run
        (steps_override,) = (override for override in self.overrides if override.startswith("steps="))
        steps = int(steps_override.removeprefix("steps="))
        folders_being_written = {path.parent.name for path in run.folder.rglob(f"{TMP_PREFIX}*")}
        if not run.config.is_file():
            return "start-up, before there was a run"
        if run.checkpoint.parent.name in folders_being_written:
            return "while a checkpoint was written"
        if self.finished():
            return "after the summary"
        if self.step() == steps:
            return "after the last step, before the summary"
        if self.step() == 0:
            return "before the first checkpoint"
        return "between two checkpoints"

    def step(self) -> int:
        """Returns the step from which `resume=` will continue."""
        if self.run.whole_checkpoint() is None:
            return 0
        return self.run.load_checkpoint()["gan_lab"]["step"]

    def _last_output(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-15:])


class Torture:
    """Trials in one folder, against one uninterrupted run of each configuration.

    Args:
        folder: where runs go; those of trials without a difference are removed.
        seed: of the moments. How far a process comes in a time isn't reproducible, so neither is where a kill falls.
        configurations: overrides of each.

    Attributes:
        expected: by number of the configuration, the uninterrupted run.
        life: the seconds it took from start to end.
    """

    def __init__(self, folder: Path, seed: int = 0, configurations: tuple[tuple[str, ...], ...] = CONFIGURATIONS):
        self.folder = folder
        self.seed = seed
        self.configurations = configurations
        self.expected: dict[int, Run] = {}
        self.life: dict[int, float] = {}

    def prepare(self, configuration: int) -> None:
        """Trains a configuration without interruption."""
        # The time of training the classifier, which only the first run would need, must not count.
        label_classifier(images.digits(), classifier_cache())
        trainer = Trainer(self.folder / f"whole_{configuration}", self._overrides(configuration))
        started = time.monotonic()
        trainer.finish()
        self.life[configuration] = time.monotonic() - started
        self.expected[configuration] = trainer.run

    def trial(self, number: int, earliest: float = 0) -> dict[str, Any]:
        """Kills, resumes, compares.

        Args:
            number: chooses the configuration and, with the seed, the moments.
            earliest: the fraction of a life, 0 to 1, before which nothing is killed.

        Returns:
            number, configuration, kills (for each when, where and the step from which training continued), differences.
        """
        chance = random.Random(f"{self.seed}/{number}")
        configuration = number % len(self.configurations)
        trainer = Trainer(self.folder / f"trial_{number}", self._overrides(configuration))
        kills: list[dict[str, Any]] = []
        planned = chance.choice((1, 1, 1, 1, 2, 3))
        try:
            while len(kills) < planned and not trainer.finished():
                after = chance.uniform(earliest, 1) * self.life[configuration]
                where = trainer.kill(after)
                if where:
                    kills.append({"after": round(after, 2), "where": where, "step": trainer.step()})
                elif not kills:
                    # It was faster than the uninterrupted run: again, until a kill meets it.
                    shutil.rmtree(trainer.run)
            if not trainer.finished():
                trainer.finish()
            names = differences(trainer.run, self.expected[configuration])
        except Exception as error:  # this trial is lost, the others continue
            names = [f"{type(error).__name__}: {error}"]
        if not names:
            shutil.rmtree(trainer.log.parent)
        return {"number": number, "configuration": configuration, "kills": kills, "differences": names}

    def _overrides(self, configuration: int) -> tuple[str, ...]:
        return (*self.configurations[configuration], f"cache_dir={classifier_cache()}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="trials; each kills once to three times")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="trials at once")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write every trial as JSON")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gan_lab_torture_"))
    torture = Torture(folder, arguments.seed)
    started = time.monotonic()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        needed = range(min(arguments.kills, len(CONFIGURATIONS)))
        for _ in tqdm(pool.map(torture.prepare, needed), total=len(needed), desc="uninterrupted runs"):
            pass
        futures = [pool.submit(torture.trial, number) for number in range(arguments.kills)]
        trials = [future.result() for future in tqdm(as_completed(futures), total=len(futures), desc="kills")]
    trials.sort(key=lambda trial: trial["number"])
    report = _report(trials, time.monotonic() - started)
    print(_describe(report, folder))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if not report["differing"]:
        shutil.rmtree(folder)
    return 1 if report["differing"] else 0


def _report(trials: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    kills = list(itertools.chain.from_iterable(trial["kills"] for trial in trials))
    return {
        "trials": len(trials),
        "differing": [trial["number"] for trial in trials if trial["differences"]],
        "kills": len(kills),
        "where": dict(Counter(kill["where"] for kill in kills).most_common()),
        "seconds": round(seconds),
        "details": trials,
    }


def _describe(report: dict[str, Any], folder: Path) -> str:
    lines = [f"{'the kill fell':<44}{'times':>6}"]
    for where, times in report["where"].items():
        lines.append(f"  {where:<42}{times:>6}")
    for trial in report["details"]:
        if trial["differences"]:
            trial_folder = folder / f"trial_{trial['number']}"
            lines.append(f"Trial {trial['number']} differs; its folder is {trial_folder}:")
            lines += [f"  {name}" for name in trial["differences"][:10]]
    same = report["trials"] - len(report["differing"])
    lines.append(f"{same} of {report['trials']} trials ended as if nothing had happened ({report['kills']} kills).")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
