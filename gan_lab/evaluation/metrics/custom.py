"""Metrics of a user's own, which a configuration names: functions that may fail, and lose nothing when they do."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gan_lab.evaluation.metrics.registry import Undefined

Metric = Callable[[Tensor, Tensor], Any]
"""Samples `(n, *shape)` and real ones `(m, *shape)`, on the CPU and free to be changed, to a number; or Undefined."""


class Failed(Undefined):
    """The function raised something else than Undefined, or gave no number."""


def measure(metric: Metric, samples: Tensor, real: Tensor) -> float:
    """The metric of samples `(n, *shape)` beside real ones `(m, *shape)`, as a finite number.

    What it draws from torch is the same each time, and takes nothing from the training's own stream.

    Raises:
        Undefined: if it says so, there are no samples, or the number is NaN or infinite.
        Failed: if it can't do its part.
    """
    if not len(samples):
        raise Undefined("there is no sample without NaN or infinite numbers")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        try:
            value = metric(samples.clone(), real.clone())
            number = value.item() if hasattr(value, "item") else value
            if not isinstance(number, int | float):
                raise Failed(f"it gives {type(value).__name__}, no number")
            number = float(number)
        except Undefined:
            raise
        except Exception as error:
            raise Failed(f"{type(error).__name__}: {error}") from error
    if not math.isfinite(number):
        raise Undefined(f"it gives {number}")
    return number
