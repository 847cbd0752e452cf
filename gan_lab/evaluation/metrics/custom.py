"""Metrics of a user's own, which a configuration names: functions that may fail without any other loss."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gan_lab.evaluation.metrics.registry import Undefined

UserMetric = Callable[[Tensor, Tensor], Any]
"""Takes samples `(n, *shape)` and real ones `(m, *shape)`, copies on the CPU; returns a number or raises Undefined."""


class Failed(Undefined):
    """The function raised another error than Undefined, or did not return a number."""


def measure(metric: UserMetric, samples: Tensor, real: Tensor) -> float:
    """Computes a user's metric.

    The function's random numbers from torch are the same in every call, and torch's own stream is left as it was.

    Args:
        metric: the function.
        samples: `(n, *shape)`.
        real: real samples, `(m, *shape)`.

    Returns:
        A finite number.

    Raises:
        Undefined: if the function raises it, there are no samples, or the number is NaN or infinite.
        Failed: if the function does not work.
    """
    if not len(samples):
        raise Undefined("there is no finite sample")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        try:
            # Copies: the function may change its arguments.
            number = _number(metric(samples.clone(), real.clone()))
        except Undefined:
            raise
        except Exception as error:
            raise Failed(f"{type(error).__name__}: {error}") from error
    if not math.isfinite(number):
        raise Undefined(f"it gives {number}")
    return number


def _number(value: Any) -> float:
    """Returns a number, or a tensor or array with one element, as a float."""
    number = value.item() if hasattr(value, "item") else value
    if not isinstance(number, int | float):
        raise Failed(f"it returns {type(value).__name__}, not a number")
    return float(number)
