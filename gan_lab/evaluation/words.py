"""The words of the verdict, and their thresholds.

A word is used only if the number passes its threshold by `ERRORS` standard errors; between them likeness is
'borderline', and of two words for collapse the milder one holds. docs/verdict.md shows how often each failure is found
against how bad it is, and how often fresh real data are taken for a failure.
"""

from torch import Tensor

from gan_lab.evaluation.metrics.modes import NO_MODE_JUNK, missed_by_chance, samples_needed
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
# The width of Gaussians: real points have 1, with a standard error of 0.014 in 2,500 points.
COLLAPSED_WIDTH = 0.55
NARROW_WIDTH = 0.9
# A single mode with so little variety repeats its samples. The least varied of ten real digits had at least 0.61 (18
# images of each), that of the grid's 25 modes at least 0.20 (60 points in each, 200 draws).
REPEATED_VARIETY = 0.1

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
GOOD_WITHIN_1_SIGMA = 0.85

# Copies: one verdict in a thousand is wrong by chance, and less than 1 % of copies are not worth a word.
COPIES_P = 0.001
COPIES_SHARE = 0.01


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
    if is_missing or metrics.get("kl_excess") is None or is_uneven(metrics):
        return "partial"
    return "covered"


def is_uneven(metrics: MetricValues) -> bool:
    """Says whether the modes are made in clearly other proportions than the data's."""
    kl = metrics.get("kl_excess")
    return kl is not None and kl - ERRORS * (metrics.get("kl_error") or 0) > UNEVEN_KL


def within_word(metrics: MetricValues) -> str:
    """Says how much of the variety within the modes a generator makes: varied, narrow, collapsed or unknown."""
    numbers = (
        ("variety_within", "variety_error", COLLAPSED_VARIETY, NARROW_VARIETY),
        ("coverage_within", "coverage_error", COLLAPSED_COVERAGE_WITHIN, NARROW_COVERAGE_WITHIN),
        ("mode_width", "mode_width_error", COLLAPSED_WIDTH, NARROW_WIDTH),
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


def outside_as_single(junk: float, channels: int) -> float:
    """Returns the share of single images that are junk, if a stack of so many is junk as soon as one of them is."""
    return 1 - (1 - junk) ** (1 / channels)


def likeness_word(metrics: MetricValues, real: MetricValues, channels: int = 1) -> str:
    """Says whether the samples look like the data: good, borderline, poor or unknown.

    Args:
        metrics: of the samples.
        real: of fresh real data.
        channels: how many single images a sample is a stack of.
    """
    high_quality = metrics.get("high_quality")
    if high_quality is not None:
        return _likeness_of_gaussians(high_quality, metrics, real)
    junk = metrics.get("junk") or 0
    junk_margin = ERRORS * (metrics.get("junk_error") or 0)
    if outside_as_single(max(0, junk - junk_margin), channels) > MUCH_JUNK:
        return "poor"
    auc = metrics.get("two_sample_auc")
    if auc is None:
        return "unknown"
    margin = ERRORS * (metrics.get("two_sample_error") or 0)
    if auc - margin > UNLIKE_AUC:
        return "poor"
    is_junk_borderline = outside_as_single(min(1, junk + junk_margin), channels) > MUCH_JUNK
    if (auc + margin < UNLIKE_AUC or auc < LIKE_AUC) and not is_junk_borderline:
        return "good"
    return "borderline"


def _likeness_of_gaussians(high_quality: float, metrics: MetricValues, real: MetricValues) -> str:
    if high_quality < GOOD_HIGH_QUALITY * (real.get("high_quality") or 1):
        return "poor"
    within = metrics.get("within_1_sigma")
    usual = real.get("within_1_sigma")
    # A single mode, the book's pattern, is one point at any distance from the centre when it is learnt.
    if within is None or usual is None or metrics.get("modes_total") == 1:
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


def _is_below(value: float, error: float | None, threshold: float) -> bool:
    """Returns whether a value is below a threshold by more than its error explains."""
    return value + ERRORS * (error or 0) < threshold
