"""Replicas: K GANs in one process and a single GAN, each trained as `python train.py` trains it."""

from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

from omegaconf import DictConfig

from gan_lab.benchmark.step import NETWORKS, WITHOUT_EVALUATION, time_gan_lab
from gan_lab.benchmark.timing import Benchmark, Candidate, Facts
from gan_lab.core.command_line import hydra_text

REPLICAS = {"default": (2, 5, 16), "ring": (2, 5, 16), "digits": (2, 5, 16), "book": (2, 5), "dcgan": (4,)}
SINGLE = "one alone"


def benchmarks(_: Path, cfg: DictConfig, compose: Callable[..., DictConfig]) -> tuple[list[Benchmark], Facts]:
    """Returns a benchmark for each of `cfg.nets`.

    A unit is one step of one GAN, so that ratios are speed-ups per GAN. The single GAN has one thread;
    replicas have one or `cfg.threads`.
    """
    cases = []
    for net in cfg.nets:
        machine = (f"data_dir={hydra_text(cfg.data_dir)}", "threads=1")
        single = compose(*NETWORKS[net], *WITHOUT_EVALUATION, *machine)
        candidates: dict[str, Candidate] = {SINGLE: partial(time_gan_lab, single)}
        for number, threads in product(REPLICAS[net], sorted({1, cfg.threads})):
            several = single.copy()
            several.replicas = number
            several.threads = threads
            candidates[f"replicas={number} threads={threads}"] = partial(_time_replicas, several)
        title = f"{net}: one GAN's steps of {single.batch_size}"
        multiple = single.log_every * max(REPLICAS[net])
        cases.append(Benchmark(title, "steps", candidates, (SINGLE,), multiple, cfg.seconds))
    return cases, {}


def _time_replicas(cfg: DictConfig, steps: int) -> float:
    """Returns the seconds for this many steps of one GAN, which the K replicas share."""
    return time_gan_lab(cfg, steps // cfg.replicas)
