"""What each treatment of the atlas costs: its steps against those of the same GAN without it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from gan_lab.atlas.plan import DATASETS, UNTREATED, Place, Treatment, overrides_of, treatments
from gan_lab.benchmark.step import WITHOUT_EVALUATION, time_autograd
from gan_lab.benchmark.timing import Benchmark, Candidate, Facts

# On which base a treatment is timed; of those that only another base has, on that one.
BASES = ("short", "notes")


def benchmarks(_: Path, cfg: DictConfig, compose: Callable[..., DictConfig]) -> tuple[list[Benchmark], Facts]:
    """Returns a benchmark for each of the atlas' data in `cfg.datasets`: its treatments.

    All of them are timed by autograd: what the compiled step has would otherwise seem cheaper than what it lacks.
    """
    cases = []
    for dataset in cfg.datasets:
        if dataset not in DATASETS:
            continue
        timed = set()
        for base in BASES:
            place = Place(dataset, base)
            candidates: dict[str, Candidate] = {}
            for treatment in (UNTREATED, *treatments(place)):
                name = name_of(treatment)
                if name not in timed or treatment is UNTREATED:
                    timed.add(name)
                    training = compose(*overrides_of(place, treatment), "threads=1", *WITHOUT_EVALUATION)
                    candidates[name] = partial(time_autograd, training)
            baseline = name_of(UNTREATED)
            cases.append(Benchmark(dataset, "steps", candidates, (baseline,), training.log_every, cfg.seconds))
    return cases, {}


def name_of(treatment: Treatment) -> str:
    """Returns the name of a treatment as `gan_lab.atlas.table.read_costs` reads it."""
    return f"{treatment.name}, {treatment.strength}"
