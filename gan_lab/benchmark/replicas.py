"""Replicas: K GANs in one process and a single GAN, each trained as `python train.py` trains it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from gan_lab.benchmark.step import NETWORKS, WITHOUT_EVALUATION, time_gan_lab
from gan_lab.benchmark.timing import Benchmark, Candidate, Facts
from gan_lab.core.command_line import hydra_text

REPLICAS = {"default": (4, 16), "ring": (4, 16), "digits": (4, 16), "book": (4, 8), "dcgan": (4,)}
SINGLE = "one alone"


def benchmarks(_: Path, cfg: DictConfig, compose: Callable[..., DictConfig]) -> tuple[list[Benchmark], Facts]:
    """Returns a benchmark for each of `cfg.nets`.

    A unit is one step of one GAN, so that ratios are speed-ups per GAN.
    """
    cases = []
    for net in cfg.nets:
        machine = (f"data_dir={hydra_text(cfg.data_dir)}", f"threads={cfg.threads}")
        single = compose(*NETWORKS[net], *WITHOUT_EVALUATION, *machine)
        candidates: dict[str, Candidate] = {SINGLE: partial(time_gan_lab, single)}
        for number in REPLICAS[net]:
            several = single.copy()
            several.replicas = number
            candidates[f"replicas={number}"] = partial(_time_replicas, several)
        title = f"{net}: one GAN's steps of {single.batch_size}"
        multiple = single.log_every * max(REPLICAS[net])
        cases.append(Benchmark(title, "steps", candidates, (SINGLE,), multiple, cfg.seconds))
    return cases, {}


def _time_replicas(cfg: DictConfig, steps: int) -> float:
    """Returns the seconds for this many steps of one GAN, which the K replicas share."""
    return time_gan_lab(cfg, steps // cfg.replicas)
