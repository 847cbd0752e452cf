"""What each treatment of the atlas costs: its steps against those of the same GAN without it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Transformer
from omegaconf import DictConfig

from gan_lab.benchmark.step import WITHOUT_EVALUATION, time_autograd
from gan_lab.benchmark.timing import Benchmark, Candidate, Facts
from gan_lab.core.installation import CONF

SWEEPS = CONF / "experiment" / "sweep" / "atlas"
# The sweeps that have the treatments, by data; those of the losses and norms are the same for all.
TUNING = {
    "ring": "tuning_points",
    "grid": "tuning_points",
    "digits": "tuning_images",
    "stacked_digits": "tuning_images",
}
OTHERS = {"losses": "loss", "norms": "norm"}
UNTREATED = "remedy=[]"


def benchmarks(_: Path, cfg: DictConfig, compose: Callable[..., DictConfig]) -> tuple[list[Benchmark], Facts]:
    """Returns a benchmark for each of the atlas' data in `cfg.datasets`: its treatments, on the base `short`.

    All of them are timed by autograd: what the compiled step has would otherwise seem cheaper than what it lacks.
    """
    cases = []
    for dataset in cfg.datasets:
        if dataset not in TUNING:
            continue
        candidates: dict[str, Candidate] = {}
        for override in [UNTREATED, *treatments(dataset)]:
            training = compose(
                f"+experiment/atlas/data={dataset}", "+experiment/atlas/base=short", "threads=1", override, *WITHOUT_EVALUATION
            )
            candidates[override] = partial(time_autograd, training)
        cases.append(Benchmark(dataset, "steps", candidates, (UNTREATED,), training.log_every, cfg.seconds))
    return cases, {}


def treatments(dataset: str) -> list[str]:
    """Returns the overrides of the atlas' treatments on some data: every remedy at every strength, losses, norms."""
    overrides = swept(TUNING[dataset], "remedy") + [f"remedy=[{name}]" for name in ("feature_matching", "n_critic")]
    for sweep, group in OTHERS.items():
        overrides += swept(sweep, group)
    return list(dict.fromkeys(overrides))


def swept(sweep: str, key: str) -> list[str]:
    """Returns the overrides that a sweep of conf/experiment/sweep makes of a key."""
    content = yaml.safe_load((SWEEPS / f"{sweep}.yaml").read_text(encoding="utf-8"))
    text = f"{key}={content['hydra']['sweeper']['params'][key]}"
    override = OverridesParser.create().parse_override(text)
    if not override.is_sweep_override():
        return [text]
    return [f"{key}={value}" for value in override.sweep_iterator(Transformer.encode)]
