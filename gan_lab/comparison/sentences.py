"""Effects in words that never say more than their test allows."""

from collections.abc import Sequence

from gan_lab.comparison.effects import Effect, Summary
from gan_lab.comparison.factors import label_value
from gan_lab.comparison.numbers import NO_NUMBER, format_estimate, format_p
from gan_lab.comparison.questions import Change
from gan_lab.evaluation.metrics.registry import Metric

COLLAPSED = Metric("collapsed", label="share of collapsed runs", higher_is_better=False)

# A larger estimate of the seeds needed is too rough to be written as a number.
MAX_SEEDS_NEEDED = 1_000


def is_improvement(effect: Effect, metric: Metric) -> bool | None:
    """Returns whether a significant difference is for the better.

    None if the difference is not significant, if more of the metric is neither better nor worse, and for an
    interaction: two effects that differ from each other are neither.
    """
    if not effect.significant or metric.higher_is_better is None or effect.comparison.kind == "interaction":
        return None
    return (effect.difference > 0) == metric.higher_is_better


def sentence(effect: Effect, metric: Metric, strengths: int = 1) -> str:
    """Returns the effect as a sentence without its full stop.

    For example 'r1 added 2.4 captured modes out of 10 on average [1.1, 3.6] (…, p = 0.008)'. The p is `p_holm`, with
    'corrected for m comparisons' where there are several. Only a significant difference gets a verb. Of the others each
    has its own words: too few seeds to tell, not shown, and no difference larger than what the data leave possible.

    Args:
        effect: the effect.
        metric: its metric.
        strengths: the number of strengths of the same remedy of which this one is the best.
    """
    subject = describe_change(effect)
    about = topic(metric).removeprefix("the ")
    if effect.simple_effects:
        subject = _simple_effects(effect, metric)
        about = "difference between these two effects"
    context = _context(effect)
    if strengths > 1:
        context.insert(0, f"the best of {strengths} strengths")
    if effect.significant:
        return f"{subject}{_shown(effect, metric)} ({', '.join(context)})"
    if effect.constant is not None:
        return f"{subject}, {about}: {_all_equal(effect.constant, metric)} ({', '.join(context)})"
    if effect.conclusion == "too few seeds":
        difference = format_estimate(effect.difference, digits=2, signed=True)
        answer = f"too few seeds to tell: {difference}; {format_seeds(effect)} would do"
        return f"{subject}, {about}: {answer} ({', '.join(context)})"
    size = format_estimate(effect.difference, effect.low, effect.high, digits=2, signed=True)
    if effect.conclusion == "not shown":
        answer = f"not shown; {format_seeds(effect)} would do"
    else:
        answer = f"no difference{_largest(effect)}"
    return f"{subject}, {about}: {answer} ({', '.join([size, *context])})"


def reason(effect: Effect) -> str:
    """Returns in a few words why a difference was not shown; '' if it was."""
    if effect.significant:
        return ""
    if effect.constant is not None:
        return "all runs have the same value"
    if effect.conclusion == "too few seeds":
        return f"too few seeds to tell; {format_seeds(effect)} would do"
    assert effect.p_holm is not None
    p = format_p(effect.p_holm)
    if effect.family > 1:
        p += f" for {effect.family} comparisons"
    if effect.conclusion == "not shown":
        return f"not shown: {p}"
    return f"no difference: {p}"


def format_seeds(effect: Effect) -> str:
    """Returns how many seeds would show the difference: '5 seeds', '8 to 60 seeds' or '9 seeds or more'."""
    fewest, most = effect.seeds_needed
    if fewest > MAX_SEEDS_NEEDED:
        return f"more than {MAX_SEEDS_NEEDED:,} seeds"
    if most is None:
        return f"{fewest:,} seeds or more"
    if most > MAX_SEEDS_NEEDED:
        return f"{fewest:,} to more than {MAX_SEEDS_NEEDED:,} seeds"
    if fewest == most:
        return f"{fewest:,} seeds"
    return f"{fewest:,} to {most:,} seeds"


def topic(metric: Metric) -> str:
    """Returns what a sentence is about: 'the number of captured modes', 'the coverage'."""
    if is_count(metric):
        return f"the number of {metric.label}"
    return f"the {metric.label}"


def is_count(metric: Metric) -> bool:
    """Whether the metric counts things, so many out of a total."""
    return metric.unit.startswith("out of")


def describe_change(effect: Effect) -> str:
    """Returns what was changed: 'Adam instead of SGD'; of a remedy, which replaces no other one, its name."""
    changes = effect.comparison.changes
    if effect.comparison.kind == "remedy":
        return changes[0].after
    return describe_changes(changes)


def describe_changes(changes: Sequence[Change]) -> str:
    """Returns 'Adam instead of SGD and BCE instead of MSE'."""
    descriptions = []
    for factor, before, after in changes:
        descriptions.append(f"{label_value(factor, after)} instead of {before}")
    return " and ".join(descriptions)


def format_mean(summary: Summary | None) -> str:
    """Returns a mean with its interval, '9.6 [8.4, 10.0]', and of how many runs it is where some have no value."""
    if summary is None or not summary.n:
        return NO_NUMBER
    mean = format_estimate(summary.mean, summary.low, summary.high)
    if summary.missing:
        mean += f" ({summary.n} of {summary.n + summary.missing} runs)"
    return mean


def format_share(summary: Summary | None) -> str:
    """Returns the number of runs of which something is true, with the interval of their share: '3 of 5 [15%, 95%]'."""
    if summary is None or summary.low is None or summary.high is None:
        return NO_NUMBER
    return f"{sum(summary.values):.0f} of {summary.n} [{summary.low:.0%}, {summary.high:.0%}]"


def _simple_effects(effect: Effect, metric: Metric) -> str:
    """Returns both effects of an interaction's first change, without and with its second one."""
    assert effect.simple_effects
    first, second = effect.comparison.changes
    without_second = format_estimate(effect.simple_effects[0], digits=2, signed=True)
    with_second = format_estimate(effect.simple_effects[1], digits=2, signed=True)
    return (
        f"{describe_changes([first])} changed {topic(metric)} by {without_second}"
        f" with {label_value(second.factor, second.before)} and by {with_second}"
        f" with {label_value(second.factor, second.after)}"
    )


def _shown(effect: Effect, metric: Metric) -> str:
    """Returns a significant difference, to be read after what was changed."""
    if not effect.simple_effects:
        return f" {_change_of_mean(effect, metric)}"
    unit = metric.unit
    if is_count(metric):
        unit = f"{metric.label} {metric.unit}"
    return f": these two effects differ by {_format_size(effect, unit)}"


def _change_of_mean(effect: Effect, metric: Metric) -> str:
    """Returns 'added 6.2 captured modes out of 10 on average [5.1, 7.4]' or 'raised the coverage by 0.1 on average'."""
    rises = effect.difference > 0
    if is_count(metric):
        verb = "added" if rises else "cost"
        return f"{verb} {_format_size(effect, f'{metric.label} {metric.unit} on average')}"
    verb = "raised" if rises else "lowered"
    return f"{verb} {topic(metric)} by {_format_size(effect, f'{metric.unit} on average'.strip())}"


def _format_size(effect: Effect, words: str) -> str:
    """Returns the size of a difference, whatever its sign, with its interval."""
    low = effect.low
    high = effect.high
    if effect.difference < 0 and low is not None and high is not None:
        low, high = -high, -low
    return format_estimate(abs(effect.difference), low, high, digits=2, words=words)


def _all_equal(constant: float, metric: Metric) -> str:
    """Returns what it means that all runs have the same value."""
    if metric.unit == f"out of {constant:g}":
        return f"every run reached {constant:g} of {constant:g}: this count can't tell them apart"
    return f"every run has the same value, {format_estimate(constant)}"


def _largest(effect: Effect) -> str:
    """Returns the largest difference that the data leave possible, at 95 %: ' larger than 1.5'."""
    if effect.low is None or effect.high is None:
        return ""
    return f" larger than {format_estimate(max(abs(effect.low), abs(effect.high)), digits=2)}"


def _context(effect: Effect) -> list[str]:
    """Returns where the comparison was made, what it lacks, of how many runs it is, and how sure that makes it."""
    context = []
    if effect.comparison.kind == "remedy":
        context.append("compared with no remedy")
    if effect.comparison.held_constant:
        held_constant = [label_value(factor, value) for factor, value in effect.comparison.held_constant]
        context.append(f"with {_enumerate(held_constant)}")
    settings = len(effect.comparison.strata)
    if settings > 1 and effect.settings == settings:
        context.append(f"mean over {settings} settings")
    elif settings > 1:
        context.append(f"mean over {effect.settings} of {settings} settings")
    if effect.missing:
        runs = "1 run" if effect.missing == 1 else f"{effect.missing} runs"
        context.append(f"{runs} without a value")
    context.append(_seeds(effect))
    if effect.p_holm is None or effect.constant is not None or effect.conclusion == "too few seeds":
        return context
    if effect.g is not None:
        # Adding 0.0 turns the −0.0 of a rounded negative number into 0.0.
        context.append(f"g = {round(effect.g, 1) + 0.0:.1f}")
    p = format_p(effect.p_holm)
    if effect.family > 1:
        p += f" corrected for {effect.family} comparisons"
    if effect.significant and effect.low is not None and effect.high is not None and effect.low <= 0 <= effect.high:
        p += "; the test supposes no normal values, the interval does"
    context.append(p)
    return context


def _enumerate(words: Sequence[str]) -> str:
    """Returns 'a, b and c'."""
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _seeds(effect: Effect) -> str:
    """Returns how many runs a variant has, '5 seeds' or '4 to 5 seeds each'."""
    smallest, largest = effect.seeds
    seeds = f"{largest} seeds" if largest > 1 else "1 seed"
    if smallest != largest:
        seeds = f"{smallest} to {largest} seeds"
    if effect.settings > 1:
        seeds += " each"
    return seeds
