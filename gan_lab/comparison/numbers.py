"""Numbers as texts, with their intervals and p values. No pandas."""

import math
from typing import Any

from gan_lab.comparison.collect import as_number

# What stands for a number that does not exist.
NO_NUMBER = "–"


def format_number(value: Any, places: int | None = None) -> str:
    """Returns a number that a file may hold: whole ones with commas, others with four digits; '–' for what is none."""
    number = as_number(value)
    if number != number:
        return NO_NUMBER
    if places is not None:
        return f"{number:,.{places}f}"
    if number == round(number):
        return f"{number:,.0f}"
    return f"{number:,.4g}"


def format_estimate(
    number: float | None,
    low: float | None = None,
    high: float | None = None,
    digits: int = 3,
    signed: bool = False,
    words: str = "",
) -> str:
    """Returns a number with its interval, '9.6 [8.4, 10.0]'.

    The largest of the numbers has so many significant digits and the others as many decimal places. If all are whole
    numbers, none has any.

    Args:
        number: '–' is returned for None and for what is not finite.
        low: lower end of the interval; without one there are no brackets.
        high: upper end.
        digits: significant digits of the largest number.
        signed: whether a positive number has a sign.
        words: written between the number and its interval.
    """
    if number is None or not math.isfinite(number):
        return NO_NUMBER
    numbers = [number]
    if low is not None and high is not None:
        numbers += [low, high]
    places = 0
    if any(value != round(value) for value in numbers):
        largest = max(map(abs, numbers))
        places = min(12, max(0, digits - 1 - math.floor(math.log10(largest))))
    # Adding 0.0 turns the −0.0 of a rounded negative number into 0.0.
    rounded, *ends = [round(value, places) + 0.0 for value in numbers]
    sign = "+" if signed else ""
    text = f"{rounded:{sign},.{places}f}"
    if words:
        text += f" {words}"
    if ends:
        end_texts = [f"{end:,.{places}f}" for end in ends]
        text += f" [{', '.join(end_texts)}]"
    return text


def format_p(p: float) -> str:
    """Returns 'p = 0.032', or 'p < 0.001'."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
