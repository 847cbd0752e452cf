"""Replicas: K GANs in one process against one alone, each as `python train.py` trains it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gan_lab.benchmark.contest import Contest
from gan_lab.benchmark.step import BARE, NETWORKS, ours

MEMBERS = {"ring": (4, 16), "digits": (4, 16), "book": (4, 8), "dcgan": (4,)}
ALONE = "one alone"


def contests(_: Path, asked: Any, training: Callable[..., Any]) -> tuple[list[Contest], dict[str, dict[str, float]]]:
    """For each of `asked.nets` a contest; a unit is one step of one GAN, so that ratios are speed-ups per GAN."""
    held = []
    for net in asked.nets:
        cfg = training(*NETWORKS[net], *BARE, f"data_dir={asked.data_dir}", f"threads={asked.threads}")
        play: dict[str, Any] = {ALONE: partial(ours, cfg)}
        for many in MEMBERS[net]:
            several = cfg.copy()
            several.replicas = many
            play[f"replicas={many}"] = partial(_steps_of_each, several)
        title = f"{net}: one GAN's steps of {cfg.batch_size}"
        held.append(Contest(title, "steps", play, (ALONE,), cfg.log_every * max(MEMBERS[net]), asked.seconds))
    return held, {}


def _steps_of_each(cfg: Any, steps: int) -> float:
    """Seconds for so many steps, shared by the members."""
    return ours(cfg, steps // cfg.replicas)
