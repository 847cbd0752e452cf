"""A search: a sweep whose sweeper chooses the values itself (hydra/sweeper=optuna) to optimise one metric."""

import math
import sys
from typing import Any

from omegaconf import DictConfig

from gan_lab.core.errors import LabError


def settings_of_search(config: DictConfig, continues: bool) -> list[str]:
    """Returns the settings of a sweeper that searches, as overrides; [] for one that doesn't search.

    Args:
        config: composed, with Hydra's own part.
        continues: whether the sweep was interrupted and continues.

    Raises:
        LabError: if the search can't work for one metric; if it continues, but would try other values.
    """
    sweeper = config.hydra.sweeper
    if "n_trials" not in sweeper:
        return []
    if sweeper.direction not in ("maximize", "minimize"):
        raise LabError(
            f"hydra.sweeper.direction={sweeper.direction} is not allowed: it has to be maximize or minimize.",
            key="hydra.sweeper.direction",
        )
    if continues and sweeper.storage:
        raise LabError(
            "A search in a hydra.sweeper.storage continues in a new folder.",
            "Leave hydra.sweep.dir=… out.",
            code="conflict",
            key="hydra.sweeper.storage",
        )
    if continues and sweeper.sampler.get("seed") is None:
        raise LabError(
            "A search without a seed can't be continued: it would try other values.",
            "Start a new one.",
            code="unsupported",
            key="hydra.sweeper.sampler.seed",
        )
    if not isinstance(sweeper.n_trials, int) or sweeper.n_trials < 1:
        raise LabError(
            f"hydra.sweeper.n_trials={sweeper.n_trials} is not allowed: it has to be a whole number ≥ 1.",
            key="hydra.sweeper.n_trials",
        )
    settings = {"direction": sweeper.direction, "n_jobs": sweeper.n_jobs}
    for key, value in sweeper.sampler.items():
        if value is not None:
            settings[f"sampler.{key}"] = value
    return [f"hydra.sweeper.{key}={value}" for key, value in settings.items()]


def objective(name: str, direction: str, summary: dict[str, Any], error: Any = None) -> tuple[float, str | None]:
    """Returns the number that a search gets for a job: the metric, or the worst finite number if there is none.

    Args:
        name: of the metric.
        direction: maximize or minimize.
        summary: the job's summary.json.
        error: what made the job fail.

    Returns:
        The number, and why it isn't the metric; None if it is.
    """
    value = (summary.get("metrics") or {}).get(name)
    if error is None and isinstance(value, (int, float)) and math.isfinite(value):
        return float(value), None
    # A finite number, because NaN or infinity would end the search.
    worst = sys.float_info.max
    if direction == "maximize":
        worst = -worst
    if error:
        return worst, str(error)
    reason = (summary.get("undefined") or {}).get(name, "the run has no such metric")
    return worst, f"{name} isn't known: {reason}"
