"""The words of the verdict: its thresholds, and the sentences that say what the numbers mean.

A word is used only if the number passes its threshold by `ERRORS` standard errors; between them likeness is
'borderline', and of two words for collapse the milder one holds. docs/verdict.md shows how often each failure is found
against how bad it is, and how often fresh real data are taken for a failure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gan_lab.evaluation.metrics.modes import NO_MODE_JUNK, missed_by_chance, robust, samples_needed
from gan_lab.evaluation.metrics.registry import MetricValues

# Passed by less than so many standard errors, a threshold decides nothing: a chance of 1 in 200 for each word.
ERRORS = 2.6

# At most this share of the modes is made: whoever looks at the samples misses more than is there.
COLLAPSED_MODES = 0.5
# KL divergence in nats, less what chance gives. A class that is made 5 to 6 times too often among ten has 0.2; of 200
# draws of 180 real digits none had more than 0.013.
UNEVEN_KL = 0.2
# Of data without modes, the coverage relative to real data's. A generator that makes one of two photographs has
# 0.65, one that makes a tenth of each class of MNIST 0.36; of 23 draws of 2,500 real images none had less than 0.99.
COVERED_COVERAGE = 0.75
COLLAPSED_COVERAGE = 0.25
MIN_COVERAGE_SAMPLES = 20  # held-out samples, without which nothing can be said

# Variety within the modes relative to real data's: the factor by which a generator shrinks them. Half of it is seen at
# a glance; 0.8 is 5 standard deviations from real digits (200 draws of 180: none below 0.87; MNIST none below 0.96).
COLLAPSED_VARIETY = 0.5
NARROW_VARIETY = 0.8
# Coverage within the modes: 0.74 for half of each mode and 0.36 for a tenth, of real digits none below 0.90.
COLLAPSED_COVERAGE_WITHIN = 0.25
NARROW_COVERAGE_WITHIN = 0.75
# The width of Gaussians: 500 draws of 2,500 real points had at least 0.92 (ring) and 0.89 (grid).
COLLAPSED_WIDTH = 0.55
NARROW_WIDTH = 0.85
# A single mode with so little variety repeats its samples; of real digits none had less than 0.61 (18 of a class).
REPEATED_VARIETY = 0.25

# The two-sample test: blur of 0.7 pixels, 2 grey levels or JPEG at quality 5 have more than 0.93; blur of 0.3 pixels or
# 5 grey levels have less than 0.6. Of 200 draws of real digits none had more than 0.57.
UNLIKE_AUC = 0.9
# This much less is 'good' whatever its error: that of a few samples.
LIKE_AUC = 0.8
# Junk is 2 % of real images; where that limit lies is itself estimated, so real data have 0 to 10 % of it.
SAID_JUNK = 0.1
MIN_JUNK_SAMPLES = 20  # of which three quarters are not junk by chance
MUCH_JUNK = 0.25
# Of Gaussians: the share within 3σ relative to real data's 98.9 %, and the share beyond 5σ (real data: 0.0004 %).
GOOD_HIGH_QUALITY = 0.75
SAID_BEYOND = 0.005
# Relative to the 39.3 % of real points within 1σ (500 draws: 37 to 42 %). Modes that are shifted by 1σ have 27 %, modes
# half as wide again 20 %, circles none; that a mode is too narrow, its width says.
GOOD_WITHIN_1_SIGMA = 0.75

# Copies: one verdict in a thousand is wrong by chance, and less than 1 % of copies are not worth a word.
COPIES_P = 0.001
COPIES_SHARE = 0.01

REPEATS = 0.05  # variety below this: the sentence counts the different samples
MAX_NAMED_MODES = 25  # of more modes the sentence gives numbers, not names
WITHOUT_MODES = {
    "covered": "it makes every kind of sample",
    "partial": "it makes a part of what the data contain",
    "collapsed": "it makes hardly anything of what the data contain",
}
NUMBER_WORDS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass
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


def collapse_word(metrics: MetricValues, shares: Tensor, valid_counts: Tensor) -> str:
    """Says how much of the data a generator makes: covered, partial, collapsed or unknown.

    Args:
        metrics: of its samples.
        shares: the data's share of each mode, `(M,)`; empty for data without modes.
        valid_counts: samples of each mode that are one, `(M,)`.
    """
    junk = metrics.get("junk")
    samples = metrics["samples"] or 0
    is_junk = junk is not None and junk > NO_MODE_JUNK and samples >= MIN_JUNK_SAMPLES
    if not metrics["finite"] or (is_junk and not metrics.get("modes_valid")):
        return "collapsed"
    if not len(shares):
        return _collapse_by_coverage(metrics)
    made = int(metrics["modes_valid"] or 0)
    return _collapse_by_modes(metrics, shares, int(valid_counts.sum()), made)


def _collapse_by_coverage(metrics: MetricValues) -> str:
    coverage = metrics.get("coverage_within")
    if coverage is None:
        return "unknown"
    error = metrics.get("coverage_error")
    if _is_below(coverage, error, COLLAPSED_COVERAGE):
        return "collapsed"
    if _is_below(coverage, error, COVERED_COVERAGE):
        return "partial"
    return "covered"


def _collapse_by_modes(metrics: MetricValues, shares: Tensor, valid: int, made: int) -> str:
    total = len(shares)
    is_missing = bool(metrics["modes_missed"]) or total - made > missed_by_chance(shares, valid)
    if (metrics["samples"] or 0) < samples_needed(total) and not is_missing:
        return "unknown"
    if made <= COLLAPSED_MODES * total:
        return "collapsed"
    kl = metrics.get("kl_excess")
    if is_missing or kl is None or kl > UNEVEN_KL:
        return "partial"
    return "covered"


def within_word(metrics: MetricValues) -> str:
    """Says how much of the variety within the modes a generator makes: varied, narrow, collapsed or unknown."""
    numbers = (
        ("variety_within", "variety_error", COLLAPSED_VARIETY, NARROW_VARIETY),
        ("coverage_within", "coverage_error", COLLAPSED_COVERAGE_WITHIN, NARROW_COVERAGE_WITHIN),
        ("mode_width", "", COLLAPSED_WIDTH, NARROW_WIDTH),
    )
    words = set()
    if metrics.get("modes_valid") == 0:
        return "unknown"
    for name, error_name, collapsed, narrow in numbers:
        value = metrics.get(name)
        if value is None:
            continue
        error = metrics.get(error_name)
        if _is_below(value, error, collapsed):
            words.add("collapsed")
        elif _is_below(value, error, narrow):
            words.add("narrow")
        else:
            words.add("varied")
    if not words:
        return "unknown"
    lowest = metrics.get("variety_lowest")
    if lowest is not None and lowest < REPEATED_VARIETY:
        words.add("narrow")
    return next(word for word in ("collapsed", "narrow", "varied") if word in words)


def likeness_word(metrics: MetricValues, real: MetricValues) -> str:
    """Says whether the samples look like the data: good, borderline, poor or unknown."""
    high_quality = metrics.get("high_quality")
    if high_quality is not None:
        return _likeness_of_gaussians(high_quality, metrics, real)
    junk = metrics.get("junk")
    if junk is not None and junk - ERRORS * (metrics.get("junk_error") or 0) > MUCH_JUNK:
        return "poor"
    auc = metrics.get("two_sample_auc")
    if auc is None:
        return "unknown"
    margin = ERRORS * (metrics.get("two_sample_error") or 0)
    if auc - margin > UNLIKE_AUC:
        return "poor"
    is_junk_borderline = junk is not None and junk + ERRORS * (metrics.get("junk_error") or 0) > MUCH_JUNK
    if (auc + margin < UNLIKE_AUC or auc < LIKE_AUC) and not is_junk_borderline:
        return "good"
    return "borderline"


def _likeness_of_gaussians(high_quality: float, metrics: MetricValues, real: MetricValues) -> str:
    if high_quality < GOOD_HIGH_QUALITY * (real.get("high_quality") or 1):
        return "poor"
    within = metrics.get("within_1_sigma")
    usual = real.get("within_1_sigma")
    if within is None or usual is None:
        return "good"
    error = (within * (1 - within) / (metrics["samples"] or 1)) ** 0.5
    return "borderline" if _is_below(within, error, GOOD_WITHIN_1_SIGMA * usual) else "good"


def copies_word(metrics: MetricValues) -> bool | None:
    """Says whether the samples copy the training data; None if that cannot be said."""
    share = metrics.get("copy_share")
    p = metrics.get("copy_p")
    if share is None or p is None:
        return None
    return p < COPIES_P and share > COPIES_SHARE


def remedy_for(
    verdict: dict[str, Any], junk: float | None, remedies: Sequence[str], has_images: bool
) -> tuple[str, str, str]:
    """Returns what to try next.

    A gradient penalty comes first: in the sweep of remedies (docs/results.md) r1, r2 and feature_matching are those
    that help beyond doubt. Then the relativistic loss, which all of the best experiments have (Huang et al. 2024).

    Args:
        verdict: the words, with `balance` where it is known.
        junk: the share of samples outside the data.
        remedies: those that the run has.
        has_images: whether the samples are images.

    Returns:
        The symptom and what answers it, a kind of step, and its value: `remedy` adds one, `loss` replaces it, `longer`
        trains on, `shorter` trains less. Empty strings if nothing is wrong.
    """
    is_collapsed = verdict["collapse"] in ("collapsed", "partial") or verdict["within_modes"] in ("collapsed", "narrow")
    if verdict["copies"] and has_images and "diffaugment" not in remedies:
        return "G copies the training data, which augmentation makes harder", "remedy", "diffaugment"
    if verdict["copies"]:
        return "G copies the training data: stop earlier", "shorter", ""
    if is_collapsed and junk is not None and junk > NO_MODE_JUNK:
        return "nearly all samples still lie outside the data: train longer", "longer", ""
    if is_collapsed and "r1" not in remedies:
        symptom = "a gradient penalty on D is what helps most often"
        if verdict.get("balance") == "D is winning":
            symptom = "D is winning, so its gradient tells G little: a gradient penalty keeps it smooth"
        return symptom, "remedy", "r1"
    if is_collapsed:
        return "a relativistic loss compares each fake with a real sample, so that G gains by covering more", "loss", ""
    if verdict["likeness"] in ("poor", "borderline"):
        return "the modes are there, but not yet like the data: train longer", "longer", ""
    return "", "", ""


def sentence(
    words: dict[str, Any],
    metrics: MetricValues,
    real: MetricValues,
    shares: Tensor,
    valid_counts: Tensor,
    modes: ModeNames,
    readers_disagree: bool,
) -> str:
    """Returns the verdict in plain words, and in a second line the numbers behind it.

    Args:
        words: collapse, within_modes, likeness, copies.
        metrics: of the samples.
        real: of fresh real data.
        shares: the data's share of each mode, `(M,)`.
        valid_counts: samples of each mode that are one, `(M,)`.
        modes: what the modes are called.
        readers_disagree: whether the word for collapse depends on the reader.
    """
    parts = [_headline(words, metrics, shares, valid_counts, modes)]
    if readers_disagree:
        parts.append(
            f"But the label classifier sees {metrics['modes_first_reader']:,} {modes.noun} made, the nearest training"
            f" image {metrics['modes_second_reader']:,}."
        )
    parts += _about_samples(words, metrics)
    numbers = _numbers(metrics, real, len(shares), modes)
    return "\n".join([" ".join(parts), numbers]) if numbers else " ".join(parts)


def _headline(
    words: dict[str, Any], metrics: MetricValues, shares: Tensor, valid_counts: Tensor, modes: ModeNames
) -> str:
    collapse = words["collapse"]
    if not metrics["finite"]:
        return "Collapsed: all samples are NaN or infinite."
    if collapse == "unknown":
        return f"Unknown: {_why_unknown(metrics, len(shares), modes)}."
    what = _modes_made(metrics, shares, valid_counts, modes) if len(shares) else WITHOUT_MODES[collapse]
    within = words["within_modes"]
    if collapse == "partial" and within == "collapsed":
        return f"Partial: {what}. Within them it is collapsed: {_of_each(metrics, modes, len(shares))}."
    if collapse != "covered":
        return f"{collapse.capitalize()}: {what}."
    return _covered(within, what, metrics, len(shares), modes)


def _covered(within: str, what: str, metrics: MetricValues, total: int, modes: ModeNames) -> str:
    """Returns the headline of a generator that makes all modes."""
    if total == 1:
        # The book's pattern: to make it is the aim, to vary it is not.
        variety = {"collapsed": ", always nearly the same", "narrow": ", with less variety than the data"}
        return f"Covered: it makes the {modes.names[0]}{variety.get(within, '')}."
    everything = f"all {_number(total, total)} {modes.noun}" if total else "it makes every kind of sample"
    if within == "collapsed":
        return f"Collapsed within its modes: {everything}, but {_of_each(metrics, modes, total)}."
    if within == "narrow":
        return f"Covered, but narrow: {everything}, with less variety within them than the data."
    if within == "unknown":
        return f"Covered: {what}; how varied they are cannot be said from so few."
    return f"Covered: {what}, as varied as the data."


def _why_unknown(metrics: MetricValues, total: int, modes: ModeNames) -> str:
    samples = metrics["samples"] or 0
    if total:
        one = "image" if modes.sample == "image" else "point"
        noun = modes.noun.removesuffix("es") if modes.noun == "classes" else modes.noun.removesuffix("s")
        return (
            f"{samples:,} {one}{'s' if samples != 1 else ''} are too few to tell a missing {noun} from bad luck;"
            f" {samples_needed(total):,} are needed"
        )
    return f"what it makes cannot be compared, for which {MIN_COVERAGE_SAMPLES} held-out samples are needed"


def _modes_made(metrics: MetricValues, shares: Tensor, valid_counts: Tensor, modes: ModeNames) -> str:
    """Returns 'it makes only the 8', 'it makes 8 of the ten digits; missing or rare: 4, 9'."""
    total = len(shares)
    is_made = robust(valid_counts, shares)
    made = int(metrics["modes_valid"] or 0)
    names_made = [modes.names[i] for i in is_made.nonzero().flatten().tolist()]
    if made == total:
        what = f"it makes all {_number(total, total)} {modes.noun}"
        kl = metrics.get("kl_excess")
        if kl is not None and kl > UNEVEN_KL:
            ratios = valid_counts / valid_counts.sum() / shares
            often = int(ratios.argmax())
            what += f", but unevenly: {modes.names[often]} {ratios[often]:.1f} times too often"
        return what
    if made == 0 or not names_made:
        return f"it makes none of the {_number(total, total)} {modes.noun}"
    if made == 1 and total <= MAX_NAMED_MODES:
        article = "the " if modes.noun == "digits" else ""
        return f"it makes only {article}{names_made[0]}"
    what = f"it makes {_number(made, total)} of the {_number(total, total)} {modes.noun}"
    if total > MAX_NAMED_MODES:
        return what
    if made <= total / 2:
        return f"{what}: {', '.join(names_made)}"
    missing = [name for name, is_here in zip(modes.names, is_made.tolist(), strict=True) if not is_here]
    return f"{what}; missing or rare: {', '.join(missing)}"


def _of_each(metrics: MetricValues, modes: ModeNames, total: int) -> str:
    """Returns 'one image of each', 'about 3 different images of each' or 'with a tenth of the variety'."""
    of_each = " of each" if total > 1 else ""
    distinct = metrics.get("distinct")
    variety = metrics.get("variety_within")
    width = metrics.get("mode_width")
    if variety is not None and variety < REPEATS and distinct is not None and round(distinct) <= 1:
        return f"one {modes.sample}{of_each}"
    if width is not None and width < COLLAPSED_WIDTH:
        return f"only {width:.0%} as wide as the data's"
    if variety is not None and variety < REPEATS and distinct is not None:
        return f"about {distinct:,.0f} different {modes.sample}s{of_each}"
    if variety is not None and variety < COLLAPSED_VARIETY:
        return f"with {variety:.0%} of the variety within them"
    return "little of what each of them contains"


def _about_samples(words: dict[str, Any], metrics: MetricValues) -> list[str]:
    """Returns the sentences on likeness, junk, requested classes and copies."""
    if not metrics["finite"]:
        return []
    sentences = []
    class_accuracy = metrics.get("class_accuracy")
    if class_accuracy is not None:
        sentences.append(f"{class_accuracy:.0%} of the samples belong to the requested class.")
    sentences.append(
        {
            "good": "The samples look like the data.",
            "borderline": "Whether the samples look like the data is borderline.",
            "poor": "The samples do not look like the data.",
            "unknown": "Whether the samples look like the data cannot be determined.",
        }[words["likeness"]]
    )
    junk = metrics.get("junk")
    if junk is not None and junk > SAID_JUNK:
        sentences.append(f"{junk:.0%} of them are junk: they lie outside the data.")
    beyond = metrics.get("beyond_5_sigma")
    if beyond is not None and beyond > SAID_BEYOND:
        sentences.append(f"{beyond:.1%} of them lie beyond 5σ of every mode.")
    sentences.append(
        {
            True: f"They copy the training data: {metrics.get('copy_share') or 0:.0%} of them are copies.",
            False: "They do not copy the training data.",
            None: "Whether they copy the training data cannot be determined.",
        }[words["copies"]]
    )
    return sentences


def _numbers(metrics: MetricValues, real: MetricValues, total: int, modes: ModeNames) -> str:
    """Returns the numbers behind the words in one line."""
    numbers = []
    if total > 1:
        numbers.append(f"{metrics['modes_valid']:,} of {total:,} {modes.noun} in {metrics['samples']:,} samples")
        if metrics.get("modes") is not None:
            numbers[0] += f" ({metrics['modes']:,} occur)"
    for name, label, number_format in (
        ("junk", "junk", ".0%"),
        ("agreement", "readers agree on", ".0%"),
        ("kl_excess", "KL divergence", ".3f"),
        ("high_quality", "within 3σ", ".1%"),
        ("within_1_sigma", "within 1σ", ".1%"),
        ("beyond_5_sigma", "beyond 5σ", ".1%"),
        ("mode_width", "width", ".2f"),
        ("variety_within", "variety", ".2f"),
        ("coverage_within", "coverage", ".2f"),
        ("two_sample_auc", "two-sample AUC", ".2f"),
        ("copy_share", "copies", ".1%"),
    ):
        value = metrics.get(name)
        # In the plane junk is what is not within 3σ, and a linear classifier sees little.
        if value is None or ("high_quality" in metrics and name in ("junk", "two_sample_auc")):
            continue
        text = f"{label} {value:{number_format}}"
        usual = real.get(name)
        if usual is not None and name in ("agreement", "within_1_sigma", "mode_width", "high_quality"):
            text += f" (real {usual:{number_format}})"
        numbers.append(text)
    return f"{'; '.join(numbers)}." if numbers else ""


def _is_below(value: float, error: float | None, threshold: float) -> bool:
    """Returns whether a value is below a threshold by more than its error explains."""
    return value + ERRORS * (error or 0) < threshold


def _number(number: int, total: int) -> str:
    """Returns a number as a word if it counts modes of at most ten, else in figures."""
    if number == 0 or total < len(NUMBER_WORDS):
        return NUMBER_WORDS[number]
    return f"{number:,}"
