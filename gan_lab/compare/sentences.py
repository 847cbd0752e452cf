"""What was found, in words that are no surer than the numbers."""

import math

from gan_lab.compare.effects import Effect, Summary
from gan_lab.compare.factors import named
from gan_lab.compare.questions import Change
from gan_lab.evaluation.metrics.registry import Metric

ONE_SEED = "nothing can be concluded from one seed"


COLLAPSED = Metric("collapsed", label="share of collapsed runs", higher_is_better=False)


def helped(effect: Effect, metric: Metric) -> bool | None:
    """Whether a shown difference is for the better; None where none is shown, or more is neither better nor worse.

    Nor is it better or worse if two changes add up to more than each alone: None for an interaction.
    """
    if not effect.shown or metric.higher_is_better is None or effect.compared.kind == "interaction":
        return None
    return (effect.difference > 0) == metric.higher_is_better


def sentence(effect: Effect, metric: Metric) -> str:
    """The effect in words: 'r1 raised the modes captured by 2.4 of 10 …'.

    Its p is `p_holm`, with 'corrected for m comparisons' where there are more than one.

    Values stand as they are, behind their factor's name where they alone say too little (0.1, none, true).
    """
    topic = f"the {metric.label}"
    what = _two_effects(effect, topic) if effect.parts else change(effect)
    if not effect.shown:
        told, preposition = ("no difference shown", "in") if effect.p_holm is not None else (ONE_SEED, "on")
        told += "" if effect.parts else f" {preposition} {topic}"
        size = amount(effect.difference, effect.low, effect.high, digits=2, signed=True)
        return f"{what}: {told} ({', '.join([size, *_context(effect)])})"
    up = effect.difference > 0
    sign = 1 if up else -1
    low, high = (None if end is None else sign * end for end in (effect.low, effect.high)[::sign])
    more = f"{metric.unit} {'more' if up else 'less'}" if effect.parts else metric.unit
    size = amount(abs(effect.difference), low, high, digits=2, unit=more.strip())
    did = ": " if effect.parts else f" {'raised' if up else 'lowered'} {topic} by "
    return f"{what}{did}{size} ({', '.join(_context(effect))})"


def change(effect: Effect) -> str:
    """What was changed: 'Adam instead of SGD'; of a remedy, which takes no other's place, its name."""
    changes = effect.compared.changes
    return changes[0].after if effect.compared.kind == "remedy" else instead(*changes)


def instead(*changes: Change) -> str:
    """'Adam instead of SGD and BCE instead of MSE'."""
    return " and ".join(f"{named(factor, after)} instead of {before}" for factor, before, after in changes)


def amount(
    number: float | None,
    low: float | None = None,
    high: float | None = None,
    digits: int = 3,
    signed: bool = False,
    unit: str = "",
) -> str:
    """'9.6 [8.4, 10.0]': so many digits of the largest, the others as fine; whole numbers as they are; '–' for none."""
    if number is None or not math.isfinite(number):
        return "–"
    numbers = [number] if low is None or high is None else [number, low, high]
    largest = max(map(abs, numbers))
    whole = all(each == round(each) for each in numbers)
    places = 0 if whole else min(12, max(0, digits - 1 - math.floor(math.log10(largest))))
    size, *ends = (round(each, places) + 0.0 for each in numbers)  # + 0.0: no '-0'
    bounds = f" [{', '.join(f'{end:,.{places}f}' for end in ends)}]" if ends else ""
    return f"{size:{'+' * signed},.{places}f}{unit and ' ' + unit}{bounds}"


def mean(summary: Summary | None) -> str:
    """'9.6 [8.4, 10.0]', and of how many runs where some have no number."""
    if summary is None or not summary.n:
        return "–"
    of = f" ({summary.n} of {summary.n + summary.missing} runs)" if summary.missing else ""
    return amount(summary.mean, summary.low, summary.high) + of


def share(summary: Summary | None) -> str:
    """'3 of 5 [15%, 95%]': the runs of which it is true."""
    if summary is None or summary.low is None or summary.high is None:
        return "–"
    return f"{sum(summary.values):.0f} of {summary.n} [{summary.low:.0%}, {summary.high:.0%}]"


def _two_effects(effect: Effect, topic: str) -> str:
    """What an interaction is of: the first change's effect before the second change, and after it."""
    assert effect.parts
    first, second = effect.compared.changes
    before, after = (amount(part, digits=2, signed=True) for part in effect.parts)
    return (
        f"{instead(first)} changed {topic} by {before} with {named(second.factor, second.before)}"
        f" and by {after} with {named(second.factor, second.after)}"
    )


def _context(effect: Effect) -> list[str]:
    """Where the comparison was made, what it lacks, of how many runs it is, and how sure that makes it."""
    context = []
    if effect.compared.kind == "remedy":
        context.append("against none")
    if effect.compared.held:
        context.append("with " + " and ".join(named(*setting) for setting in effect.compared.held))
    if (settings := len(effect.compared.strata)) > 1:
        had = f"{settings}" if effect.settings == settings else f"{effect.settings} of {settings}"
        context.append(f"mean over {had} settings")
    if effect.missing:
        context.append(f"{effect.missing} run{'s'[: effect.missing > 1]} without a number")
    if effect.p_holm is None:
        return context
    few, many = effect.seeds
    seeds = (f"{few} seeds" if few == many else f"{few} to {many} seeds") + " each" * (effect.settings > 1)
    if effect.shown:
        p = "p < 0.001" if effect.p_holm < 0.001 else f"p = {effect.p_holm:.3f}"
        return [*context, seeds, p + (f" corrected for {effect.family} comparisons" if effect.family > 1 else "")]
    if effect.seeds_needed:
        needed = f"about {effect.seeds_needed:,}" if effect.seeds_needed <= 1000 else "more than 1,000"
        seeds += f"; {needed} seeds would be needed at this spread"
    return [*context, seeds]
