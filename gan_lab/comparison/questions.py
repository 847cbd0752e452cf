"""The questions that a set of variants can answer, which depend on the design of the experiment.

They are what each rung of a ladder adds, the effects in a factorial design, what each remedy does, or all pairs.

A frame has a row per run and columns of short strings for the *factors*, what differs between the runs'
configurations. A *variant* is a combination of their values. A factor's *levels* are its values in order.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

Variant = tuple[str, ...]
Design = Literal["factorial", "ladder", "control", "pairs"]
Kind = Literal["rung", "remedy", "pair", "main", "interaction"]

# The factor whose values are compared with one of them, the control, and that value.
CONTROL_FACTOR = "remedy"
CONTROL_VALUE = "none"


class Change(NamedTuple):
    """A factor's step from one value to another."""

    factor: str
    before: str
    after: str


@dataclass(frozen=True)
class Comparison:
    """A question to the runs.

    Attributes:
        kind: 'rung', 'remedy' and 'pair' compare two variants (of a 'remedy' the one before has none); 'main' is the
            effect of one change over all settings of the other factors, 'interaction' what the second of two changes
            does to the effect of the first.
        changes: all that differs between before and after.
        held_constant: of a comparison of two variants, the values of the factors that do not change.
        strata: one for each setting of the other factors, with or without runs. A stratum names its two variants,
            before and after, or its four: neither change, the second, the first, both.
    """

    kind: Kind
    changes: tuple[Change, ...]
    held_constant: tuple[tuple[str, str], ...]
    strata: tuple[tuple[Variant, ...], ...]


def variant_of_rows(frame: "pd.DataFrame", factors: Sequence[str]) -> list[Variant]:
    """Returns the variant of every row."""
    return list(frame[list(factors)].astype(str).itertuples(index=False, name=None))


def design(frame: "pd.DataFrame", factors: Sequence[str], order: Sequence[Variant] | None = None) -> Design:
    """Recognises what the variants can answer.

    - 'control': nothing but the remedy differs, and one variant, the control, has none.
    - 'factorial': two factors or more differ, and there are runs of all combinations of their values, or of so many
      that each change can be seen in more than half of the settings of the other factors.
    - 'ladder': otherwise, if in the given order every rung changes one factor, none goes back to a value that it left,
      and more than one factor changes on the way.
    - 'pairs': everything else.

    Args:
        frame: a row per run.
        factors: columns of `frame`; factors that always change together must come as one.
        order: the variants in order, those without a run included; without it nothing is a ladder.

    Raises:
        ValueError: if a variant with runs is not in `order`.
    """
    variants = _variants_with_runs(frame, factors, order)
    levels = _levels(variants, order or variants)
    if _is_control(factors, levels):
        return "control"
    if _is_factorial(variants, factors, levels):
        return "factorial"
    if order and _is_ladder(order):
        return "ladder"
    return "pairs"


def comparisons(
    frame: "pd.DataFrame", factors: Sequence[str], order: Sequence[Variant] | None = None
) -> list[Comparison]:
    """Returns the questions that the design asks.

    A ladder compares each rung with the one before, a control design each remedy with none. A factorial design asks for
    main effects, of each value of a factor against its first one, then for interactions of two factors. Otherwise all
    pairs of variants are compared. The first value is the first one in `order`, or else in the frame. For the arguments
    see `design`.
    """
    kind = design(frame, factors, order)
    variants = _variants_with_runs(frame, factors, order)
    levels = _levels(variants, order or variants)
    questions = []
    if kind == "ladder":
        for before, after in itertools.pairwise(variants):
            questions.append(_compare_two("rung", factors, levels, before, after))
        return questions
    if kind == "control":
        position = list(factors).index(CONTROL_FACTOR)
        # Only the remedy differs, so exactly one variant has none.
        control = next(variant for variant in variants if variant[position] == CONTROL_VALUE)
        for variant in variants:
            if variant != control:
                questions.append(_compare_two("remedy", factors, levels, control, variant))
        return questions
    if kind == "pairs":
        for before, after in itertools.combinations(variants, 2):
            questions.append(_compare_two("pair", factors, levels, before, after))
        return questions
    questions = _main_effects(factors, levels)
    for first, second in itertools.combinations(_changes_from_first(factors, levels), 2):
        if first.factor != second.factor:
            questions.append(_compare_crossed("interaction", factors, levels, (first, second)))
    return questions


def _is_control(factors: Sequence[str], levels: list[Variant]) -> bool:
    """Whether only the remedy differs, and one of its values is none."""
    varied = {}
    for factor, values in zip(factors, levels, strict=True):
        if len(values) > 1:
            varied[factor] = values
    return list(varied) == [CONTROL_FACTOR] and CONTROL_VALUE in varied[CONTROL_FACTOR]


def _is_factorial(variants: list[Variant], factors: Sequence[str], levels: list[Variant]) -> bool:
    """Whether two factors or more are crossed, and each change is seen in more than half of its strata."""
    sizes = [len(values) for values in levels]
    varied = sum(size > 1 for size in sizes)
    combinations = math.prod(sizes)
    # With half of the combinations or fewer, no change can be seen in more than half of its strata.
    if varied < 2 or combinations >= 2 * len(variants):
        return False
    with_runs = set(variants)
    for comparison in _main_effects(factors, levels):
        complete = sum(with_runs.issuperset(stratum) for stratum in comparison.strata)
        if 2 * complete <= len(comparison.strata):
            return False
    return True


def _is_ladder(rungs: Sequence[Variant]) -> bool:
    """Whether each rung changes one factor, none returns to a value that it left, and several factors change."""
    changed_factors = set()
    for before, after in itertools.pairwise(rungs):
        changed = []
        for factor, (value_before, value_after) in enumerate(zip(before, after, strict=True)):
            if value_before != value_after:
                changed.append(factor)
        if len(changed) != 1:
            return False
        changed_factors.add(changed[0])
    for values in zip(*rungs, strict=True):
        # Consecutive equal values are one entry: a value that occurs twice was left and came back.
        successive_values = [value for value, _ in itertools.groupby(values)]
        if len(successive_values) > len(set(successive_values)):
            return False
    # A ladder of a single factor is a comparison of its values: all pairs say more.
    return len(changed_factors) > 1


def _variants_with_runs(
    frame: "pd.DataFrame", factors: Sequence[str], order: Sequence[Variant] | None
) -> list[Variant]:
    """Returns the variants that have runs, in the given order or else as they appear."""
    variants = list(dict.fromkeys(variant_of_rows(frame, factors)))
    if order is None:
        return variants
    unknown = set(variants) - set(order)
    if unknown:
        raise ValueError(f"variants that the order lacks: {sorted(unknown)}")
    return [variant for variant in order if variant in variants]


def _levels(variants: list[Variant], order: Sequence[Variant]) -> list[Variant]:
    """Returns each factor's values that have runs, in order."""
    levels = []
    ordered_columns = zip(*order, strict=True)
    columns_with_runs = zip(*variants, strict=True)
    for ordered_values, values_with_runs in zip(ordered_columns, columns_with_runs, strict=True):
        distinct = dict.fromkeys(ordered_values)
        levels.append(tuple(value for value in distinct if value in values_with_runs))
    return levels


def _changes_from_first(factors: Sequence[str], levels: list[Variant]) -> list[Change]:
    """Returns each factor's changes from its first value to each other one."""
    changes = []
    for factor, values in zip(factors, levels, strict=True):
        for after in values[1:]:
            changes.append(Change(factor, values[0], after))
    return changes


def _main_effects(factors: Sequence[str], levels: list[Variant]) -> list[Comparison]:
    """Returns the comparison of each factor's first value with each other one."""
    changes = _changes_from_first(factors, levels)
    return [_compare_crossed("main", factors, levels, (change,)) for change in changes]


def _compare_two(
    kind: Kind, factors: Sequence[str], levels: list[Variant], before: Variant, after: Variant
) -> Comparison:
    """Returns the comparison of two variants."""
    changes = []
    held_constant = []
    for factor, values, value_before, value_after in zip(factors, levels, before, after, strict=True):
        if value_before != value_after:
            changes.append(Change(factor, value_before, value_after))
        elif len(values) > 1:
            held_constant.append((factor, value_after))
    return Comparison(kind, tuple(changes), tuple(held_constant), ((before, after),))


def _compare_crossed(
    kind: Kind, factors: Sequence[str], levels: list[Variant], changes: tuple[Change, ...]
) -> Comparison:
    """Returns the comparison of one change, or the interaction of two, with a stratum for each setting of the others.

    A setting is a combination of values of the factors that do not change.
    """
    changes_by_factor = {change.factor: change for change in changes}
    # A changing factor adds nothing to the settings, and both of its values to each stratum.
    values_of_setting: list[tuple[str, ...]] = []
    for factor, values in zip(factors, levels, strict=True):
        if factor in changes_by_factor:
            values_of_setting.append(("",))
        else:
            values_of_setting.append(values)
    strata = []
    for setting in itertools.product(*values_of_setting):
        choices: list[tuple[str, ...]] = []
        for factor, value in zip(factors, setting, strict=True):
            if factor in changes_by_factor:
                change = changes_by_factor[factor]
                choices.append((change.before, change.after))
            else:
                choices.append((value,))
        # The last factor changes fastest: of two changes this gives neither, the second, the first, both.
        strata.append(tuple(itertools.product(*choices)))
    return Comparison(kind, changes, (), tuple(strata))
