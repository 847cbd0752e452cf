"""The verdict in sentences: a line of plain words, and a line of the numbers behind them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gan_lab.evaluation.metrics.modes import NO_MODE_JUNK, robust, samples_needed
from gan_lab.evaluation.metrics.registry import MetricValues
from gan_lab.evaluation.words import (
    COLLAPSED_VARIETY,
    COLLAPSED_WIDTH,
    MIN_COVERAGE_SAMPLES,
    SAID_BEYOND,
    SAID_JUNK,
    is_uneven,
    outside_as_single,
)

REPEATS = 0.05  # variety below this: the sentence counts the different samples
MAX_NAMED_MODES = 25  # of more modes the sentence gives numbers, not names
NUMBER_WORDS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
WITHOUT_MODES = {
    "covered": "it makes every kind of sample",
    "partial": "it makes a part of what the data contain",
    "collapsed": "it makes hardly anything of what the data contain",
}
LIKENESS = {
    "good": "The samples look like the data.",
    "borderline": "Whether the samples look like the data is borderline.",
    "poor": "The samples do not look like the data.",
}
# Name, what the line of numbers calls it, its format, and whether real data's stands beside it.
NUMBERS = (
    ("junk", "junk", ".0%", False),
    ("agreement", "readers agree on", ".0%", True),
    ("kl_excess", "KL divergence", ".3f", False),
    ("high_quality", "within 3σ", ".1%", True),
    ("within_1_sigma", "within 1σ", ".1%", True),
    ("beyond_5_sigma", "beyond 5σ", ".1%", False),
    ("mode_width", "width", ".2f", False),
    ("variety_within", "variety", ".2f", False),
    ("coverage_within", "coverage", ".2f", False),
    ("two_sample_auc", "two-sample AUC", ".2f", False),
    ("copy_share", "copies", ".1%", False),
)
# In the plane junk is what is not within 3σ, and the test decides nothing.
NOT_OF_GAUSSIANS = ("junk", "two_sample_auc")


@dataclass(frozen=True)
class ModeNames:
    """What the modes of a dataset are called.

    Attributes:
        names: of each mode; empty for data without modes.
        noun: in the plural: digits, classes, modes.
        sample: what a sample is called: image, point.
    """

    names: list[str]
    noun: str
    sample: str


@dataclass(frozen=True)
class Measured:
    """What was measured of a generator's samples.

    Attributes:
        metrics: the values by name.
        undefined: the reasons for those that are None.
        real: the values of fresh real data.
        shares: the data's share of each mode, `(M,)`; empty for data without modes.
        valid_counts: samples of each mode that are one, `(M,)`.
        modes: what the modes are called.
        channels: how many single images a sample is a stack of.
    """

    metrics: MetricValues
    undefined: dict[str, str]
    real: MetricValues
    shares: Tensor
    valid_counts: Tensor
    modes: ModeNames
    channels: int = 1

    @property
    def total(self) -> int:
        """The number of modes; 0 for data without modes."""
        return len(self.shares)


def sentence(words: dict[str, Any], measured: Measured, readers: Sequence[tuple[str, str]]) -> str:
    """Returns the verdict in plain words, and in a second line the numbers behind it.

    Args:
        words: collapse, within_modes, likeness, copies.
        measured: what they are about.
        readers: the words for collapse and likeness if the first or the second reader alone read the samples; empty
            if there is only one.
    """
    parts = [_headline(words, measured), *_about_readers(words, measured, readers), *_about_samples(words, measured)]
    numbers = _numbers(measured)
    if not numbers:
        return " ".join(parts)
    return f"{' '.join(parts)}\n{numbers}"


def _headline(words: dict[str, Any], measured: Measured) -> str:
    """Returns the sentence on the modes and the variety within them."""
    collapse = words["collapse"]
    within = words["within_modes"]
    if not measured.metrics["finite"]:
        return "Collapsed: all samples are NaN or infinite."
    if collapse == "unknown":
        return f"Unknown: {_why_unknown(measured)}."
    if _is_all_junk(words, measured):
        none = ""
        if measured.total:
            none = f", so it makes none of the {_number(measured.total, measured.total)} {measured.modes.noun}"
        return f"Junk: {measured.metrics['junk']:.0%} of the samples lie outside the data{none}."
    what = _modes_made(measured) if measured.total else WITHOUT_MODES[collapse]
    if collapse == "partial" and within == "collapsed":
        return f"Partial: {what}. Within them it is collapsed: {_of_each(measured)}."
    if collapse != "covered":
        return f"{collapse.capitalize()}: {what}."
    return _covered(within, what, measured)


def _is_all_junk(words: dict[str, Any], measured: Measured) -> bool:
    """Says whether so many samples are junk that they make no mode, which looks like no collapse."""
    junk = measured.metrics.get("junk") or 0
    return words["collapse"] == "collapsed" and junk > NO_MODE_JUNK and not measured.metrics.get("modes_valid")


def _covered(within: str, what: str, measured: Measured) -> str:
    """Returns the headline of a generator that makes all modes."""
    if measured.total == 1:
        # The book's pattern: to make it is the aim, to vary it is not.
        variety = {"collapsed": ", always nearly the same", "narrow": ", with less variety than the data"}
        return f"Covered: it makes the {measured.modes.names[0]}{variety.get(within, '')}."
    everything = what.removeprefix("it makes ") if measured.total else what
    if within == "collapsed":
        return f"Collapsed within its modes: {everything}, but {_of_each(measured)}."
    if within == "narrow":
        return f"Covered, but narrow: {everything}, with less variety within them than the data."
    if within == "unknown":
        return f"Covered: {what}; how varied they are cannot be said from so few."
    return f"Covered: {what}, as varied as the data."


def _why_unknown(measured: Measured) -> str:
    """Returns why nothing can be said about the modes, and what it would take."""
    samples = measured.metrics["samples"] or 0
    if measured.total:
        noun = measured.modes.noun
        one_mode = noun.removesuffix("es") if noun == "classes" else noun.removesuffix("s")
        plural = "" if samples == 1 else "s"
        return (
            f"{samples:,} {measured.modes.sample}{plural} are too few to tell a missing {one_mode} from bad luck;"
            f" {samples_needed(measured.total):,} are needed"
        )
    reason = measured.undefined.get("coverage_within")
    return reason or f"to compare what it makes, {MIN_COVERAGE_SAMPLES} held-out samples are needed"


def _modes_made(measured: Measured) -> str:
    """Returns 'it makes only the 8', 'it makes eight of the ten digits; missing or rare: 4, 9'."""
    total = measured.total
    noun = measured.modes.noun
    is_made = robust(measured.valid_counts, measured.shares)
    made = int(measured.metrics["modes_valid"] or 0)
    if made == total:
        return f"it makes all {_number(total, total)} {noun}{_unevenness(measured)}"
    if made == 0 or not is_made.any():
        return f"it makes none of the {_number(total, total)} {noun}"
    names_made = _names(measured, is_made)
    if made == 1 and total <= MAX_NAMED_MODES:
        article = "the " if noun == "digits" else ""
        return f"it makes only {article}{names_made[0]}"
    what = f"it makes {_number(made, total)} of the {_number(total, total)} {noun}"
    if total > MAX_NAMED_MODES:
        return what
    if made <= total / 2:
        return f"{what}: {', '.join(names_made)}"
    return f"{what}; missing or rare: {', '.join(_names(measured, ~is_made))}"


def _names(measured: Measured, which: Tensor) -> list[str]:
    """Returns the names of some modes, by flags `(M,)`."""
    return [measured.modes.names[i] for i in which.nonzero().flatten().tolist()]


def _unevenness(measured: Measured) -> str:
    """Returns which mode is made too often, if the proportions are clearly other than the data's."""
    if not is_uneven(measured.metrics):
        return ""
    counts = measured.valid_counts
    ratios = counts / counts.sum() / measured.shares
    most = int(ratios.argmax())
    return f", but unevenly: {measured.modes.names[most]} {ratios[most]:.1f} times too often"


def _of_each(measured: Measured) -> str:
    """Returns 'one image of each', 'about 3 different images of each' or 'with 30% of the variety within them'."""
    metrics = measured.metrics
    sample = measured.modes.sample
    of_each = " of each" if measured.total > 1 else ""
    variety = metrics.get("variety_within")
    distinct = metrics.get("distinct")
    width = metrics.get("mode_width")
    repeats = variety is not None and variety < REPEATS and distinct is not None
    if repeats and round(distinct or 0) <= 1:
        return f"one {sample}{of_each}"
    if width is not None and width < COLLAPSED_WIDTH:
        return f"only {width:.0%} as wide as the data's"
    if repeats:
        return f"about {distinct:,.0f} different {sample}s{of_each}"
    if variety is not None and variety < COLLAPSED_VARIETY:
        return f"with {variety:.0%} of the variety within them"
    return "little of what each of them contains"


def _about_readers(words: dict[str, Any], measured: Measured, readers: Sequence[tuple[str, str]]) -> list[str]:
    """Returns what each reader alone would say, where the words depend on it."""
    if all(reader == (words["collapse"], words["likeness"]) for reader in readers):
        return []
    metrics = measured.metrics
    views = []
    names = ("the label classifier", "the nearest training image")
    counts = (metrics.get("modes_first_reader"), metrics.get("modes_second_reader"))
    shares_of_junk = (metrics.get("junk"), metrics.get("junk_second_reader"))
    for name, (collapse, likeness), made, junk in zip(names, readers, counts, shares_of_junk, strict=True):
        seen = f"{made or 0:,} {measured.modes.noun}"
        if junk is not None:
            seen += f" and {junk:.0%} junk"
        views.append(f"{name} alone sees {seen}, {collapse} and {likeness}")
    return [f"But this depends on who reads the samples: {'; '.join(views)}."]


def _about_samples(words: dict[str, Any], measured: Measured) -> list[str]:
    """Returns the sentences on requested classes, likeness, junk and copies."""
    metrics = measured.metrics
    if not metrics["finite"]:
        return []
    sentences = []
    class_accuracy = metrics.get("class_accuracy")
    if class_accuracy is not None:
        sentences.append(f"{class_accuracy:.0%} of the samples belong to the requested class.")
    if words["likeness"] == "unknown":
        reason = measured.undefined.get("two_sample_auc", "there is nothing to compare")
        sentences.append(f"Whether the samples look like the data cannot be determined: {reason}.")
    else:
        sentences.append(LIKENESS[words["likeness"]])
    junk = metrics.get("junk")
    is_said = junk is not None and outside_as_single(junk, measured.channels) > SAID_JUNK
    if is_said and not _is_all_junk(words, measured):
        sentences.append(f"{junk:.0%} of them are junk: they lie outside the data.")
    beyond = metrics.get("beyond_5_sigma")
    if beyond is not None and beyond > SAID_BEYOND:
        sentences.append(f"{beyond:.1%} of them lie beyond 5σ of every mode.")
    sentences.append(_about_copies(words["copies"], measured))
    return sentences


def _about_copies(copies: bool | None, measured: Measured) -> str:
    if copies is None:
        reason = measured.undefined.get("copy_share", "there is nothing to compare")
        return f"Whether they copy the training data cannot be determined: {reason}."
    if copies:
        share = measured.metrics.get("copy_share") or 0
        return f"They copy the training data: {share:.0%} of them are copies."
    return "They do not copy the training data."


def _numbers(measured: Measured) -> str:
    """Returns the numbers behind the words in one line."""
    metrics = measured.metrics
    numbers = []
    if measured.total > 1:
        count = f"{metrics['modes_valid']:,} of {measured.total:,} {measured.modes.noun}"
        occur = ""
        if metrics.get("modes") is not None:
            occur = f" ({metrics['modes']:,} occur)"
        numbers.append(f"{count} in {metrics['samples']:,} samples{occur}")
    for name, label, number_format, has_reference in NUMBERS:
        value = metrics.get(name)
        if value is None or ("high_quality" in metrics and name in NOT_OF_GAUSSIANS):
            continue
        text = f"{label} {value:{number_format}}"
        reference = measured.real.get(name)
        if has_reference and reference is not None:
            text += f" (real {reference:{number_format}})"
        numbers.append(text)
    if not numbers:
        return ""
    return f"{'; '.join(numbers)}."


def _number(number: int, total: int) -> str:
    """Returns a number as a word if it counts modes of at most ten, else in figures."""
    if number == 0 or total < len(NUMBER_WORDS):
        return NUMBER_WORDS[number]
    return f"{number:,}"
