"""What was found, in words that are no surer than the numbers."""

import math
import re
from dataclasses import dataclass

from gan_lab.effects import Change, Effect


@dataclass(frozen=True)
class Measure:
    """How a metric reads: 'raised the <words> by 6.2 <unit>'; whether more is better (None: neither)."""

    name: str
    words: str
    unit: str = ""
    more_is_better: bool | None = True


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("modes", "modes captured"),
        Measure("modes_robust", "modes made at half their due or more"),
        Measure("kl_data", "KL divergence from the data's shares", "nats", more_is_better=False),
        Measure("high_quality", "share of high-quality samples"),
        Measure("frechet_distance", "Fréchet distance", more_is_better=False),
        Measure("precision", "precision"),
        Measure("recall", "recall"),
        Measure("density", "density"),
        Measure("coverage", "coverage"),
        Measure("pairwise_ratio", "variety relative to the data's", more_is_better=None),
        Measure("collapsed", "share of collapsed runs", more_is_better=False),
    )
}


def helped(effect: Effect, measure: Measure) -> bool | None:
    """Whether a shown difference is for the better; None where none is shown, or more is neither better nor worse."""
    if not effect.shown or measure.more_is_better is None:
        return None
    return (effect.difference > 0) == measure.more_is_better


def sentence(effect: Effect, measure: Measure) -> str:
    """The effect in words; its p is `p_holm`, with 'corrected for m comparisons' where there are more than one.

    Values stand as they are, behind their factor's name where they alone say too little (0.1, none, true).
    """
    changes, topic = effect.compared.changes, f"the {measure.words}"
    what = _instead(*changes)
    if effect.compared.kind == "interaction":
        what, topic = f"with {_instead(changes[1])}", f"the effect of {_instead(changes[0])} on {topic}"
    size, bounds = _amounts(effect)
    counts = _context(effect)
    if effect.p_holm is None:
        return f"{what}: nothing can be concluded from one seed on {topic} ({', '.join([size, *counts])})"
    counts.append(_seeds(effect))
    if not effect.shown:
        if effect.seeds_needed:
            number = f"about {effect.seeds_needed:,}" if effect.seeds_needed <= 1000 else "more than 1,000"
            counts[-1] += f"; {number} seeds would be needed at this spread"
        return f"{what}: no difference shown in {topic} ({', '.join([size + bounds, *counts])})"
    p = "p < 0.001" if effect.p_holm < 0.001 else f"p = {effect.p_holm:.3f}"
    counts.append(p + (f" corrected for {effect.family} comparisons" if effect.family > 1 else ""))
    amount = f"{size} {measure.unit}".strip() + f"{bounds} ({', '.join(counts)})"
    up = effect.difference > 0
    if effect.compared.kind == "interaction":
        return f"{what}, {topic} is {'higher' if up else 'lower'} by {amount}"
    return f"{what} {'raised' if up else 'lowered'} {topic} by {amount}"


def _amounts(effect: Effect) -> tuple[str, str]:
    """The difference and its interval, two digits of the largest: '+0.4', ' [-0.8, 1.5]'; where shown, of its size."""
    sign = -1 if effect.shown and effect.difference < 0 else 1
    bounds = [] if effect.low is None or effect.high is None else sorted((sign * effect.low, sign * effect.high))
    numbers = [sign * effect.difference, *bounds]
    largest = max(map(abs, numbers))
    places = max(0, 1 - math.floor(math.log10(largest))) if largest else 0
    size, *ends = (round(number, places) + 0.0 for number in numbers)  # + 0.0: no '-0'
    plus = "" if effect.shown else "+"
    return f"{size:{plus}.{places}f}", f" [{', '.join(f'{end:.{places}f}' for end in ends)}]" if ends else ""


def _context(effect: Effect) -> list[str]:
    """Where the comparison was made, and what it lacks."""
    context = []
    if effect.compared.held:
        context.append("with " + " and ".join(_value(*setting) for setting in effect.compared.held))
    if effect.settings > 1:
        context.append(f"mean over {effect.settings} settings")
    if effect.missing:
        context.append(f"{effect.missing} run{'s'[: effect.missing > 1]} without a number")
    return context


def _seeds(effect: Effect) -> str:
    few, many = effect.seeds
    number = f"{few} seeds" if few == many else f"{few} to {many} seeds"
    return f"{number} each" if effect.settings > 1 else number


def _instead(*changes: Change) -> str:
    return " and ".join(f"{_value(factor, after)} instead of {before}" for factor, before, after in changes)


def _value(factor: str, value: str) -> str:
    bare = re.fullmatch(r"[\W\d]*|[\d.]+e[+-]?\d+|none|null|true|false", value, re.IGNORECASE)
    return f"{factor} {value}" if bare else value
