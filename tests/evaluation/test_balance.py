"""The plain word for D's and G's level (S5)."""

import pytest

from gan_lab.evaluation.metrics.balance import balance


@pytest.mark.parametrize(
    ("real", "fake", "word"),
    [
        (0.5, 0.5, "balanced"),
        (0.6, 0.4, "balanced"),
        (0.98, 0.03, "D is winning"),
        (0.62, 0.32, "D is winning"),
        (0.66, 0.16, "D is winning"),
        (0.007, 0.001, "D is winning"),
        (1.0, 0.0, "D is winning"),
        (0.3, 0.7, "G is winning"),
        (0.5, 0.55, "balanced"),
        (0.0, 0.0, "balanced"),
    ],
)
def test_words(real, fake, word):
    assert balance(real, fake) == word


def test_means_that_a_few_samples_move_are_not_enough():
    assert balance(0.7, 0.3, auc_of_d=0.95) == "D is winning"
    assert balance(0.7, 0.3, auc_of_d=0.7) == "balanced"
