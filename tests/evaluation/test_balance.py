"""The plain word for D's and G's level (S5)."""

import pytest

from gan_lab.evaluation.metrics.balance import balance


@pytest.mark.parametrize(
    ("real", "fake", "word"),
    [
        (0.5, 0.5, "balanced"),
        (0.7, 0.3, "balanced"),
        (0.98, 0.03, "D is winning"),
        (0.8, 0.2, "D is winning"),
        (0.3, 0.7, "G is winning"),
        (0.5, 0.55, "balanced"),
    ],
)
def test_words(real, fake, word):
    assert balance(real, fake) == word
