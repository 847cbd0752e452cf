"""What a set of variants can answer: a ladder's rungs, a crossing's effects, what each remedy does, or all pairs.

A frame has a row per run and columns of short strings for the *factors*, what differs between the runs'
configurations. A *variant* is a combination of their values.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pandas as pd

Variant = tuple[str, ...]
Design = Literal["factorial", "ladder", "control", "pairs"]
CONTROL = ("remedy", "none")  # the factor that is asked against one of its values, and that value


class Change(NamedTuple):
    """A factor's step from one value to another."""

    factor: str
    before: str
    after: str


@dataclass(frozen=True)
class Comparison:
    """A question to the runs.

    A 'rung', 'remedy' or 'pair' is of two variants: `changes` are all that differs, `held` the settings of the other
    factors; before a 'remedy' there is none. A 'main' effect is that of one change; an 'interaction' what its second
    change does to the effect of the first; both are means over `strata`, one for each setting of the other factors,
    with or without runs. A stratum names its two variants, before and after, or its four: neither change, the second,
    the first, both.
    """

    kind: Literal["rung", "remedy", "pair", "main", "interaction"]
    changes: tuple[Change, ...]
    held: tuple[tuple[str, str], ...]
    strata: tuple[tuple[Variant, ...], ...]


def design(frame: pd.DataFrame, factors: Sequence[str], order: Sequence[Variant] | None = None) -> Design:
    """What the variants can answer; factors that always change together must come as one.

    'control': nothing but the remedy differs, and one variant, the control, has none. 'factorial': two factors or more
    differ, and the combinations of their values are there, or so many that each change can be seen in more than half of
    the settings of the others. 'ladder': else, in the given order of variants (those without a run included), every
    rung changes one factor, none goes back to a value that it left, and more than one changes on the way. 'pairs': all
    else.
    """
    variants = _variants(frame, factors, order)
    levels = _levels(variants, order or variants)
    varied = {factor: values for factor, values in zip(factors, levels, strict=True) if len(values) > 1}
    if varied.keys() == {CONTROL[0]} and CONTROL[1] in varied[CONTROL[0]]:
        return "control"
    if len(varied) > 1 and math.prod(map(len, levels)) < 2 * len(variants):
        there = set(variants)
        seen = [[there.issuperset(stratum) for stratum in main.strata] for main in _mains(factors, levels)]
        if all(2 * sum(strata) > len(strata) for strata in seen):
            return "factorial"
    rungs = list(order or [])
    steps = [[a != b for a, b in zip(*two, strict=True)] for two in itertools.pairwise(rungs)]
    single = all(sum(step) == 1 for step in steps)
    onward = all(len(list(itertools.groupby(values))) == len(set(values)) for values in zip(*rungs, strict=True))
    return "ladder" if single and onward and len({step.index(True) for step in steps}) > 1 else "pairs"


def comparisons(
    frame: pd.DataFrame, factors: Sequence[str], order: Sequence[Variant] | None = None
) -> list[Comparison]:
    """The design's questions: each rung against the one before; each remedy against none; main effects, of each value
    of a factor against its first, then interactions of two factors; or all pairs. First is what is so in `order`, else
    in the frame.
    """
    variants, kind = _variants(frame, factors, order), design(frame, factors, order)
    levels = _levels(variants, order or variants)
    if kind == "ladder":
        return [_against("rung", factors, levels, *two) for two in itertools.pairwise(variants)]
    if kind == "control":
        control = next(variant for variant in variants if CONTROL in zip(factors, variant, strict=True))
        return [_against("remedy", factors, levels, control, each) for each in variants if each != control]
    if kind == "pairs":
        return [_against("pair", factors, levels, *two) for two in itertools.combinations(variants, 2)]
    squares = [two for two in itertools.combinations(_steps(factors, levels), 2) if two[0][0] != two[1][0]]
    return _mains(factors, levels) + [_crossed("interaction", levels, *two) for two in squares]


def _variants(frame: pd.DataFrame, factors: Sequence[str], order: Sequence[Variant] | None) -> list[Variant]:
    """The variants that have runs."""
    variants = list(dict.fromkeys(keys(frame, factors)))
    if order is None:
        return variants
    if unknown := set(variants) - set(order):
        raise ValueError(f"variants that the order lacks: {sorted(unknown)}")
    return [variant for variant in order if variant in variants]


def _levels(variants: list[Variant], order: Sequence[Variant]) -> list[Variant]:
    """Each factor's values that have runs, in order."""
    there = [set(values) for values in zip(*variants, strict=True)]
    return [
        tuple(value for value in dict.fromkeys(values) if value in present)
        for values, present in zip(zip(*order, strict=True), there, strict=True)
    ]


def _steps(factors: Sequence[str], levels: list[Variant]) -> list[tuple[int, Change]]:
    """Each factor's number, and its change from its first value to each other one."""
    return [
        (i, Change(factor, values[0], after))
        for i, (factor, values) in enumerate(zip(factors, levels, strict=True))
        for after in values[1:]
    ]


def _mains(factors: Sequence[str], levels: list[Variant]) -> list[Comparison]:
    return [_crossed("main", levels, step) for step in _steps(factors, levels)]


def keys(frame: pd.DataFrame, factors: Sequence[str]) -> list[Variant]:
    """Every row's variant."""
    return list(frame[list(factors)].astype(str).itertuples(index=False, name=None))


def _against(
    kind: Literal["rung", "remedy", "pair"],
    factors: Sequence[str],
    levels: list[Variant],
    before: Variant,
    after: Variant,
) -> Comparison:
    steps = [Change(*step) for step in zip(factors, before, after, strict=True)]
    varied = [step for step, values in zip(steps, levels, strict=True) if len(values) > 1]
    changes = tuple(step for step in varied if step.before != step.after)
    held = tuple((step.factor, step.after) for step in varied if step.before == step.after)
    return Comparison(kind, changes, held, ((before, after),))


def _crossed(kind: Literal["main", "interaction"], levels: list[Variant], *steps: tuple[int, Change]) -> Comparison:
    """A comparison over all settings of the factors that don't change; steps are a factor's number and its change."""
    moving = dict(steps)
    strata = []
    for setting in itertools.product(*(("",) if i in moving else values for i, values in enumerate(levels))):
        choices = [(moving[i].before, moving[i].after) if i in moving else (value,) for i, value in enumerate(setting)]
        strata.append(tuple(itertools.product(*choices)))
    return Comparison(kind, tuple(moving.values()), (), tuple(strata))
