"""Kills trainings at random moments, resumes them, and compares what they leave with uninterrupted ones.

    python tests/torture.py --kills 50 --jobs 2

A trial starts the real train.py in a process of its own, ends it by SIGKILL at a random moment of its life (start-up,
training, the writing of a checkpoint, the judgement at the end; in every third trial the resumed process as well, once
or twice), goes on with `resume=` until the run ends by itself, and compares bit for bit.
"""

import argparse
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
CLOCKS = {"seconds", "steps_per_second", "measuring_seconds", "environment"}  # of summary.json: differ from run to run
TIMEOUT = 300  # seconds for one process


def differences(run: Run, expected: Run) -> list[str]:
    """What two ended runs don't have in common, of what has to be equal to the bit; [] if nothing."""
    ours, theirs = ({"summary.json": _timeless(each), **_checkpoint(each)} for each in (run, expected))
    found = list(_unlike(ours, theirs))
    pictures, others = (
        {str(path.relative_to(each.folder)): path.read_bytes() for path in _files(each)} for each in (run, expected)
    )
    found += [f"{name}: only in one" for name in sorted(pictures.keys() ^ others.keys())]
    found += [name for name in sorted(pictures.keys() & others.keys()) if pictures[name] != others[name]]
    return found + [f"{path.name}: left behind" for path in run.folder.rglob(f"{TMP_PREFIX}*")]


def _files(run: Run) -> list[Path]:
    return [run.metrics, *sorted(run.images.glob("*")), *sorted(run.plots.glob("*"))]


def _timeless(run: Run) -> dict[str, Any]:
    return {key: value for key, value in run.read_summary().items() if key not in CLOCKS}


def _checkpoint(run: Run) -> dict[str, Any]:
    checkpoint = run.load_checkpoint()
    callbacks = {name: state for name, state in checkpoint["callbacks"].items() if name != "Timer"}
    for state in callbacks.values():
        state.pop("seconds", None)
    return {**{key: checkpoint[key] for key in ("state_dict", "optimizer_states", "gan_lab")}, "callbacks": callbacks}


def _unlike(a: Any, b: Any, place: str = "") -> Iterator[str]:
    """Names the places at which two nested structures differ; tensors to the bit, NaN and the sign of 0 included."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key in a:
            yield from _unlike(a[key], b[key], f"{place}/{key}")
    elif isinstance(a, (list, tuple)) and type(a) is type(b) and len(a) == len(b):
        for index, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from _unlike(one, other, f"{place}/{index}")
    elif isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if (a.dtype, a.shape) != (b.dtype, b.shape) or a.numpy().tobytes() != b.numpy().tobytes():
            yield place
    elif type(a) is not type(b) or a != b:
        yield place


class Trainer:
    """Starts train.py on one configuration in one folder, and again with `resume=` where there is a run already."""

    def __init__(self, folder: Path, overrides: tuple[str, ...]):
        self.run, self.overrides = Run(folder / "run"), overrides
        self.log = folder / "output.txt"

    def start(self) -> subprocess.Popen[bytes]:
        new = (f"hydra.run.dir={self.run.folder}", *COMMON, *self.overrides)
        arguments = [f"resume={self.run.folder}"] if self.run.config.is_file() else new
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
        if (where := self.kill(TIMEOUT)) is not None:
            raise RuntimeError(f"train.py was still running after {TIMEOUT} s, {where}:\n{self._said()}")

    def kill(self, after: float) -> str | None:
        """Starts, kills the process and its children after so many seconds, and tells where that fell.

        Returns:
            None if the run had ended by itself.
        """
        process = self.start()
        try:
            status = process.wait(timeout=after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return self._where()
        if status:
            raise RuntimeError(f"train.py ended with status {status}:\n{self._said()}")
        return None

    def finished(self) -> bool:
        return self.run.finished(self.step())

    def _where(self) -> str:
        run, steps = self.run, int(next(each for each in self.overrides if each.startswith("steps="))[6:])
        halves = {path.parent.name for path in run.folder.rglob(f"{TMP_PREFIX}*")}
        if not run.config.is_file():
            return "start-up, before there was a run"
        if run.checkpoint.parent.name in halves:
            return "while a checkpoint was written"
        if self.finished():
            return "after the summary"
        if self.step() == steps:
            return "after the last step, before the summary"
        if self.step() == 0:
            return "before the first checkpoint"
        return "between two checkpoints"

    def step(self) -> int:
        """The step from which `resume=` will go on."""
        return self.run.load_checkpoint()["gan_lab"]["step"] if self.run.whole_checkpoint() else 0

    def _said(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


class Torture:
    """Trials in one folder, against one uninterrupted run of each configuration.

    Args:
        folder: where runs go; those of trials that came out well are removed.
        seed: of the moments. When a process comes how far isn't reproducible, so neither is what a kill meets.
    """

    def __init__(self, folder: Path, seed: int = 0, configurations: tuple[tuple[str, ...], ...] = CONFIGURATIONS):
        self.folder, self.seed, self.configurations = folder, seed, configurations
        self.expected: dict[int, Run] = {}
        self.life: dict[int, float] = {}  # seconds from start to end

    def prepare(self, which: int) -> None:
        """Trains a configuration without interruption."""
        label_classifier(images.digits(), classifier_cache())  # its training isn't part of a life
        trainer = Trainer(self.folder / f"whole_{which}", self._overrides(which))
        started = time.monotonic()
        trainer.finish()
        self.life[which], self.expected[which] = time.monotonic() - started, trainer.run

    def trial(self, number: int, earliest: float = 0) -> dict[str, Any]:
        """Kills, resumes, compares.

        Args:
            number: chooses the configuration and, with the seed, the moments.
            earliest: the part of a life that is spared.

        Returns:
            number, configuration, kills (what each met, and the step from which training went on), differences.
        """
        chance = random.Random(f"{self.seed}/{number}")
        which = number % len(self.configurations)
        trainer = Trainer(self.folder / f"trial_{number}", self._overrides(which))
        kills: list[dict[str, Any]] = []
        found: list[str] = []
        planned = chance.choice((1, 1, 1, 1, 2, 3))
        try:
            while len(kills) < planned and not trainer.finished():
                after = chance.uniform(earliest, 1) * self.life[which]
                if where := trainer.kill(after):
                    kills.append({"after": round(after, 2), "where": where, "step": trainer.step()})
                elif not kills:  # it was faster than its model
                    shutil.rmtree(trainer.run)
            if not trainer.finished():
                trainer.finish()
            found = differences(trainer.run, self.expected[which])
        except Exception as error:  # a trial that can't be ended is a trial lost, and the others go on
            found = [f"{type(error).__name__}: {error}"]
        if not found:
            shutil.rmtree(trainer.log.parent)
        return {"number": number, "configuration": which, "kills": kills, "differences": found}

    def _overrides(self, which: int) -> tuple[str, ...]:
        return (*self.configurations[which], f"cache_dir={classifier_cache()}")


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
        list(tqdm(pool.map(torture.prepare, needed), total=len(needed), desc="uninterrupted runs"))
        futures = [pool.submit(torture.trial, number) for number in range(arguments.kills)]
        done = [future.result() for future in tqdm(as_completed(futures), total=len(futures), desc="kills")]
    trials = sorted(done, key=lambda trial: trial["number"])
    report = _report(trials, time.monotonic() - started)
    print(_words(report, folder))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if not report["differing"]:
        shutil.rmtree(folder)
    return 1 if report["differing"] else 0


def _report(trials: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    kills = [kill for trial in trials for kill in trial["kills"]]
    return {
        "trials": len(trials),
        "differing": [trial["number"] for trial in trials if trial["differences"]],
        "kills": len(kills),
        "where": dict(Counter(kill["where"] for kill in kills).most_common()),
        "seconds": round(seconds),
        "each": trials,
    }


def _words(report: dict[str, Any], folder: Path) -> str:
    lines = [f"{'the kill fell':<44}{'times':>6}"]
    lines += [f"  {where:<42}{times:>6}" for where, times in report["where"].items()]
    for trial in report["each"]:
        if trial["differences"]:
            lines += [f"Trial {trial['number']} differs; its folder is {folder / 'trial_'}{trial['number']}:"]
            lines += [f"  {each}" for each in trial["differences"][:10]]
    same = report["trials"] - len(report["differing"])
    lines += [f"{same} of {report['trials']} trials ended as if nothing had happened ({report['kills']} kills)."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
