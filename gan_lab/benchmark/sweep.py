"""Several seeds of one GAN: one after the other, in parallel processes, and as replicas of one process."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from gan_lab.benchmark.timing import Benchmark, Candidate, Facts
from gan_lab.core.command_line import hydra_text
from gan_lab.core.installation import script

TRAIN = script("train")
SEEDS = 8
STEPS = 3_000
QUIET = ("~callbacks.pictures", "~callbacks.verdict", "~callbacks.progress")
SEQUENTIAL = "-m seed=0,…"
PARALLEL = "-m seed=0,… hydra/launcher=local"


def benchmarks(folder: Path, cfg: DictConfig, _: Callable[..., DictConfig]) -> tuple[list[Benchmark], Facts]:
    """Returns one benchmark of whole commands; a unit is a trained GAN."""
    seeds = f"seed={','.join(map(str, range(SEEDS)))}"
    common = (f"cache_dir={hydra_text(Path(cfg.cache_dir).absolute())}", f"steps={STEPS}", *QUIET)
    candidates: dict[str, Candidate] = {
        SEQUENTIAL: partial(_train, folder, ("-m", seeds, *common)),
        PARALLEL: partial(_train, folder, ("-m", seeds, "hydra/launcher=local", *common)),
        f"replicas={SEEDS}": partial(_train, folder, (f"replicas={SEEDS}", *common)),
    }
    title = f"{SEEDS} GANs on digits, {STEPS:,} steps each, from the command to its end"
    return [Benchmark(title, "GANs", candidates, (SEQUENTIAL,), multiple=SEEDS)], {}


def _train(folder: Path, arguments: tuple[str, ...], gans: int) -> None:
    """Runs train.py with these arguments, which train `SEEDS` GANs, as often as this many GANs need."""
    for _ in range(gans // SEEDS):
        subprocess.run([sys.executable, str(TRAIN), *arguments], cwd=folder, check=True, capture_output=True)
