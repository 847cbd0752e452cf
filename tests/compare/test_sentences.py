"""Sentences say what the numbers say, and no more."""

import dataclasses
import itertools

import pandas as pd
import pytest

from gan_lab.compare.effects import Effect, compare
from gan_lab.compare.questions import Change, Comparison
from gan_lab.compare.sentences import COLLAPSED, helped, sentence
from gan_lab.evaluation.metrics.registry import METRICS, metric_of

MODES = dataclasses.replace(METRICS["modes"], unit="of 10")
ADAM, BCE, NORM = Change("optim", "SGD", "Adam"), Change("loss", "MSE", "BCE"), Change("norm", "none", "LayerNorm")


def effect(*changes: Change, kind="pair", held=(), **numbers) -> Effect:
    strata = ((),) * numbers.pop("of", numbers.get("settings", 1))
    usual = dict(metric="modes", difference=6.2, low=5.1, high=7.4, n_before=5, n_after=5, seeds=(5, 5), missing=0)
    usual |= dict(settings=1, parts=None, p=0.0079, p_holm=0.0079, family=1, shown=True, seeds_needed=3)
    return Effect(Comparison(kind, changes, held, strata), **usual | numbers)


NOTHING = dict(difference=0.4, low=-0.8, high=1.5, p=0.5, p_holm=1.0, shown=False, seeds_needed=23)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (effect(ADAM), "Adam instead of SGD raised the modes captured by 6.2 of 10 [5.1, 7.4] (5 seeds, p = 0.008)"),
        (
            effect(ADAM, difference=-6.2, low=-7.4, high=-5.1),
            "Adam instead of SGD lowered the modes captured by 6.2 of 10 [5.1, 7.4] (5 seeds, p = 0.008)",
        ),
        (
            effect(NORM, **NOTHING),
            "LayerNorm instead of none: no difference shown in the modes captured"
            " (+0.4 [-0.8, 1.5], 5 seeds; about 23 seeds would be needed at this spread)",
        ),
        (
            effect(ADAM, BCE, held=(("norm", "none"), ("activation", "ReLU")), p_holm=0.0316, family=4, seeds=(3, 5)),
            "Adam instead of SGD and BCE instead of MSE raised the modes captured by 6.2 of 10 [5.1, 7.4]"
            " (with norm none and ReLU, 3 to 5 seeds, p = 0.032 corrected for 4 comparisons)",
        ),
        (
            effect(ADAM, kind="main", settings=8, p_holm=0.0004, family=10, missing=2),
            "Adam instead of SGD raised the modes captured by 6.2 of 10 [5.1, 7.4]"
            " (mean over 8 settings, 2 runs without a number, 5 seeds each, p < 0.001 corrected for 10 comparisons)",
        ),
        (
            effect(ADAM, kind="main", settings=7, of=8),
            "Adam instead of SGD raised the modes captured by 6.2 of 10 [5.1, 7.4] (mean over 7 of 8 settings,"
            " 5 seeds each, p = 0.008)",
        ),
        (
            effect(ADAM, BCE, kind="interaction", parts=(1.1, 7.3)),
            "Adam instead of SGD changed the modes captured by +1.1 with MSE and by +7.3 with BCE:"
            " 6.2 of 10 more [5.1, 7.4] (5 seeds, p = 0.008)",
        ),
        (
            effect(ADAM, NORM, kind="interaction", parts=(5, -1.2), difference=-6.2, low=-7.4, high=-5.1),
            "Adam instead of SGD changed the modes captured by +5 with norm none and by -1.2 with LayerNorm:"
            " 6.2 of 10 less [5.1, 7.4] (5 seeds, p = 0.008)",
        ),
        (
            effect(
                ADAM, BCE, kind="interaction", **NOTHING | dict(parts=(3, 2.6), difference=-0.4, low=-1.5, high=0.8)
            ),
            "Adam instead of SGD changed the modes captured by +3 with MSE and by +2.6 with BCE: no difference shown"
            " (-0.4 [-1.5, 0.8], 5 seeds; about 23 seeds would be needed at this spread)",
        ),
        (
            effect(ADAM, BCE, kind="interaction", parts=(1, 7.2), low=None, high=None, p_holm=None, shown=False),
            "Adam instead of SGD changed the modes captured by +1 with MSE and by +7.2 with BCE:"
            " nothing can be concluded from one seed (+6.2)",
        ),
        (
            effect(ADAM, low=None, high=None, p=None, p_holm=None, shown=False, seeds_needed=None, seeds=(1, 1)),
            "Adam instead of SGD: nothing can be concluded from one seed on the modes captured (+6.2)",
        ),
        (
            effect(Change("lr", "0.1", "1e-3"), **NOTHING | dict(seeds_needed=12_345, missing=1)),
            "lr 1e-3 instead of 0.1: no difference shown in the modes captured (+0.4 [-0.8, 1.5],"
            " 1 run without a number, 5 seeds; more than 1,000 seeds would be needed at this spread)",
        ),
        (
            effect(Change("norm", "batch", "none"), difference=0, low=None, high=None, shown=False, seeds_needed=None),
            "norm none instead of batch: no difference shown in the modes captured (+0, 5 seeds)",
        ),
    ],
)
def test_sentences(found, expected):
    assert sentence(found, MODES) == expected


def test_numbers_have_two_digits_of_the_largest():
    def amount(difference: float, low: float, high: float) -> str:
        text = sentence(effect(ADAM, difference=difference, low=low, high=high), metric_of("x"))
        return text.split(" by ")[1].split(" (")[0]

    assert amount(0.0312, 0.0101, 0.0523) == "0.031 [0.010, 0.052]"
    assert amount(123.4, 98.7, 150.2) == "123 [99, 150]"
    assert amount(-0.5, -1.0, 0.001) == "0.5 [0.0, 1.0]", "no -0.0"


def test_helped_knows_what_is_better():
    assert helped(effect(ADAM), MODES) is True
    assert helped(effect(ADAM), METRICS["frechet_distance"]) is False
    assert helped(effect(ADAM, difference=-1.0), METRICS["kl_data"]) is True
    assert helped(effect(ADAM, difference=-1.0), COLLAPSED) is True
    assert helped(effect(ADAM), METRICS["pairwise_ratio"]) is None
    assert helped(effect(ADAM, **NOTHING), MODES) is None
    assert helped(effect(ADAM, BCE, kind="interaction"), MODES) is None


def test_from_runs_to_the_sentence():
    """5 against 5, apart: 2 of 252 splits. Means 2 and 8.2; in a crossing the same again, for 3 comparisons."""
    rows = [("SGD", value) for value in (1, 2, 2, 3, 2)] + [("Adam", value) for value in (8, 8, 7, 9, 9)]
    (found,) = compare(pd.DataFrame(rows, columns=["optim", "modes"]), ["optim"], ["modes"])
    text = sentence(found, MODES)
    assert text.startswith("Adam instead of SGD raised the modes captured by 6.2 of 10 [5.")
    assert text.endswith("] (5 seeds, p = 0.008)")
    crossed = [(*row, loss) for row, loss in itertools.product(rows, ("MSE", "BCE"))]
    main, nothing, both = compare(
        pd.DataFrame(crossed, columns=["optim", "modes", "loss"]), ["optim", "loss"], ["modes"]
    )
    assert "(mean over 2 settings, 5 seeds each, p < 0.001 corrected for 3 comparisons)" in sentence(main, MODES)
    assert "BCE instead of MSE: no difference shown" in sentence(nothing, MODES)
    assert sentence(both, MODES).startswith(
        "Adam instead of SGD changed the modes captured by +6.2 with MSE and by +6.2 with BCE: no difference shown (+0"
    )
