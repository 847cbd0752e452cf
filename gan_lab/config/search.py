"""A search: a sweeper that tries values of its own (hydra/sweeper=optuna) to make one metric best."""

import math
import sys
from typing import Any

from omegaconf import DictConfig

from gan_lab.core.errors import LabError


def asked(config: DictConfig, again: bool) -> list[str]:
    """What a sweeper that searches was told, as overrides; [] for one that doesn't.

    Raises:
        LabError: if it can't search for one metric; if it is to go on (`again`), but would try other values.
    """
    sweeper = config.hydra.sweeper
    if "n_trials" not in sweeper:
        return []
    if sweeper.direction not in ("maximize", "minimize"):
        raise LabError(f"hydra.sweeper.direction={sweeper.direction} won't do: it has to be maximize or minimize.")
    if again and sweeper.storage:
        raise LabError("A search in a hydra.sweeper.storage goes on in a new folder.", "Leave hydra.sweep.dir=… out.")
    if again and sweeper.sampler.get("seed") is None:
        raise LabError("A search without a seed can't be gone on with: it would try other values.", "Start a new one.")
    if not isinstance(sweeper.n_trials, int) or sweeper.n_trials < 1:
        raise LabError(f"hydra.sweeper.n_trials={sweeper.n_trials} won't do: it has to be a whole number ≥ 1.")
    told = {"direction": sweeper.direction, "n_jobs": sweeper.n_jobs}
    told |= {f"sampler.{key}": value for key, value in sweeper.sampler.items() if value is not None}
    return [f"hydra.sweeper.{key}={value}" for key, value in told.items()]


def objective(name: str, direction: str, summary: dict[str, Any], error: Any = None) -> tuple[float, str | None]:
    """What a search gets for a job, and if that isn't the metric, why: the worst finite number, for NaN ends a search.

    Args:
        direction: maximize or minimize.
        error: what made the job fail.
    """
    value = summary.get("metrics", {}).get(name)
    if error is None and isinstance(value, (int, float)) and math.isfinite(value):
        return float(value), None
    undefined = summary.get("undefined", {}).get(name, "the run has no such metric")
    worst = sys.float_info.max
    return -worst if direction == "maximize" else worst, str(error or f"{name} isn't known: {undefined}")
