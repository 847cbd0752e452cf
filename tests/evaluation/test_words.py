"""The words of a verdict wait for the error of their number."""

import pytest
import torch

from gan_lab.evaluation import words

SHARES = torch.full((10,), 0.1, dtype=torch.float64)
COUNTS = torch.full((10,), 1_000)
COVERED = {"samples": 10_000, "finite": 1.0, "junk": 0.02, "modes_valid": 10, "modes_missed": 0, "kl_excess": 0.0}


def collapse(**metrics) -> str:
    return words.collapse_word(COVERED | metrics, SHARES, COUNTS)


def test_collapse_by_the_modes_that_are_made():
    assert collapse() == "covered"
    assert collapse(modes_valid=9, modes_missed=1) == "partial"
    assert collapse(modes_valid=5, modes_missed=5) == "collapsed"
    assert collapse(finite=0.0) == "collapsed"
    assert collapse(junk=0.8, modes_valid=0, modes_missed=10) == "collapsed"


def test_uneven_shares_have_to_exceed_their_error():
    assert collapse(kl_excess=0.25) == "partial"
    assert collapse(kl_excess=0.25, kl_error=0.03) == "covered"


def test_too_few_samples_say_nothing_unless_a_mode_is_clearly_missing():
    assert collapse(samples=100) == "unknown"
    assert collapse(samples=100, modes_valid=1, modes_missed=9) == "collapsed"


@pytest.mark.parametrize(
    ("metrics", "word"),
    [
        ({"variety_within": 0.95, "coverage_within": 0.95}, "varied"),
        ({"variety_within": 0.7, "variety_error": 0.01, "coverage_within": 0.95}, "narrow"),
        ({"variety_within": 0.7, "variety_error": 0.05, "coverage_within": 0.95}, "varied"),
        ({"variety_within": 0.4, "variety_error": 0.01}, "collapsed"),
        ({"variety_within": 0.4, "variety_error": 0.05}, "narrow"),
        ({"mode_width": 0.85, "mode_width_error": 0.01}, "narrow"),
        ({"mode_width": 0.88, "mode_width_error": 0.01}, "varied"),
        ({"variety_within": 0.95, "variety_lowest": 0.05}, "narrow"),
        ({"variety_within": 0.95, "variety_lowest": 0.2}, "varied"),
        ({"variety_within": 0.95, "modes_valid": 0}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_variety_within_the_modes(metrics, word):
    assert words.within_word(metrics) == word


@pytest.mark.parametrize(
    ("metrics", "word"),
    [
        ({"two_sample_auc": 0.6, "two_sample_error": 0.2}, "good"),
        ({"two_sample_auc": 0.89, "two_sample_error": 0.01}, "borderline"),
        ({"two_sample_auc": 0.95, "two_sample_error": 0.01}, "poor"),
        ({"two_sample_auc": 0.6, "junk": 0.5}, "poor"),
        ({"two_sample_auc": 0.6, "junk": 0.24, "junk_error": 0.02}, "borderline"),
        ({"two_sample_auc": None}, "unknown"),
    ],
)
def test_likeness_of_images(metrics, word):
    assert words.likeness_word(metrics, {}) == word


def test_junk_of_stacked_images_counts_by_channels():
    """A stack is junk if one of its three images is: 39 % of junk are 15 % of the single images."""
    metrics = {"two_sample_auc": 0.7, "junk": 0.39}
    assert words.likeness_word(metrics, {}) == "poor"
    assert words.likeness_word(metrics, {}, channels=3) == "good"
    assert words.likeness_word(metrics | {"junk": 0.7}, {}, channels=3) == "poor"


def test_likeness_of_gaussians():
    real = {"high_quality": 0.99, "within_1_sigma": 0.39}
    usual = {"samples": 2_500, "modes_total": 8, "high_quality": 0.98, "within_1_sigma": 0.39}
    assert words.likeness_word(usual, real) == "good"
    assert words.likeness_word(usual | {"high_quality": 0.5}, real) == "poor"
    shifted = usual | {"within_1_sigma": 0.27}
    assert words.likeness_word(shifted, real) == "borderline"
    assert words.likeness_word(shifted | {"modes_total": 1}, real) == "good", "the book's pattern, learnt as one point"


def test_copies_are_beyond_chance_and_worth_a_word():
    assert words.copies_word({"copy_share": 0.05, "copy_p": 1e-6}) is True
    assert words.copies_word({"copy_share": 0.05, "copy_p": 0.01}) is False
    assert words.copies_word({"copy_share": 0.005, "copy_p": 1e-6}) is False
    assert words.copies_word({"copy_share": None, "copy_p": None}) is None
