"""Many seeds of one GAN: one after the other, in processes side by side, as replicas of one process."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from gan_lab.benchmark.contest import Contest

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
SEEDS, STEPS = 8, 3_000
QUIET = ("~callbacks.pictures", "~callbacks.verdict", "~callbacks.progress")
ONE_BY_ONE = "-m seed=0,…"


def contests(folder: Path, asked: Any, _: Any) -> tuple[list[Contest], dict[str, dict[str, float]]]:
    """One contest, of whole commands; a unit is a trained GAN."""
    seeds = f"seed={','.join(map(str, range(SEEDS)))}"
    ways = {
        ONE_BY_ONE: ("-m", seeds),
        "-m seed=0,… hydra/launcher=local": ("-m", seeds, "hydra/launcher=local"),
        f"replicas={SEEDS}": (f"replicas={SEEDS}",),
    }
    where = (f"cache_dir={Path(asked.cache_dir).absolute()}", f"steps={STEPS}", *QUIET)
    play = {name: partial(_trained, folder, (*way, *where)) for name, way in ways.items()}
    title = f"{SEEDS} GANs on digits, {STEPS:,} steps each, from the command to its end"
    return [Contest(title, "GANs", play, (ONE_BY_ONE,), step=SEEDS)], {}


def _trained(folder: Path, arguments: tuple[str, ...], number: int) -> None:
    for _ in range(number // SEEDS):
        subprocess.run([sys.executable, str(TRAIN), *arguments], cwd=folder, check=True, capture_output=True)
