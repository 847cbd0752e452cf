"""The wording of a comparison: sentences and notes say what the numbers say, and no more."""

import dataclasses
import itertools
from pathlib import Path

import pandas as pd
import pytest
from test_compare import ADAM as ADAM_MODES
from test_compare import SGD as SGD_MODES
from test_compare import made_up, repeated

from gan_lab.comparison.comparison import compare as compare_runs
from gan_lab.comparison.effects import Effect, compare
from gan_lab.comparison.questions import Change, Comparison
from gan_lab.comparison.sentences import COLLAPSED, is_improvement, reason, sentence
from gan_lab.evaluation.metrics.registry import METRICS, metric_of

MODES = dataclasses.replace(METRICS["modes"], unit="out of 10")
ADAM, BCE, NORM = Change("optim", "SGD", "Adam"), Change("loss", "MSE", "BCE"), Change("norm", "none", "LayerNorm")


def effect(*changes: Change, kind="pair", held=(), **numbers) -> Effect:
    strata = ((),) * numbers.pop("of", numbers.get("settings", 1))
    defaults = dict(metric="modes", difference=6.2, low=5.1, high=7.4, g=3.04, constant=None, n_before=5, n_after=5)
    defaults |= dict(seeds=(5, 5), missing=0, settings=1, simple_effects=None, p=0.0079, p_holm=0.0079, family=1)
    defaults |= dict(conclusion="difference", seeds_needed=(3, 4))
    return Effect(Comparison(kind, changes, held, strata), **defaults | numbers)


NOTHING = dict(difference=0.4, low=-0.8, high=1.5, g=0.2, p=0.5, p_holm=1.0)
NOTHING |= dict(conclusion="no difference", seeds_needed=(14, None))
NOT_SHOWN = dict(difference=3.0, low=0.2, high=5.8, g=1.21, p=0.04, p_holm=0.16, family=4)
NOT_SHOWN |= dict(conclusion="not shown", seeds_needed=(8, 60))
TOO_FEW = dict(difference=7.7, low=7.0, high=8.4, g=9.0, p=0.1, p_holm=0.4, family=4, seeds=(3, 3))
TOO_FEW |= dict(conclusion="too few seeds", seeds_needed=(5, 5))
ONE_SEED = dict(low=None, high=None, g=None, p=None, p_holm=None, seeds=(1, 1), conclusion="too few seeds")
EQUAL = dict(difference=0, low=None, high=None, g=None, p=1.0, p_holm=1.0, conclusion="no difference")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            effect(ADAM),
            "Adam instead of SGD added 6.2 captured modes out of 10 on average [5.1, 7.4]"
            " (5 seeds, g = 3.0, p = 0.008)",
        ),
        (
            effect(ADAM, difference=-6.2, low=-7.4, high=-5.1, g=-3.04),
            "Adam instead of SGD cost 6.2 captured modes out of 10 on average [5.1, 7.4]"
            " (5 seeds, g = -3.0, p = 0.008)",
        ),
        (
            effect(ADAM, low=-0.1),
            "Adam instead of SGD added 6.2 captured modes out of 10 on average [-0.1, 7.4]"
            " (5 seeds, g = 3.0, p = 0.008; the test supposes no normal values, the interval does)",
        ),
        (
            effect(NORM, **TOO_FEW),
            "LayerNorm instead of none, number of captured modes: too few seeds to tell: +7.7; 5 seeds would do"
            " (3 seeds)",
        ),
        (
            effect(ADAM, **ONE_SEED, seeds_needed=(4, None)),
            "Adam instead of SGD, number of captured modes: too few seeds to tell: +6.2; 4 seeds or more would do"
            " (1 seed)",
        ),
        (
            effect(NORM, **NOT_SHOWN),
            "LayerNorm instead of none, number of captured modes: not shown; 8 to 60 seeds would do"
            " (+3.0 [0.2, 5.8], 5 seeds, g = 1.2, p = 0.160 corrected for 4 comparisons)",
        ),
        (
            effect(NORM, **NOT_SHOWN | dict(seeds_needed=(8, 12_345))),
            "LayerNorm instead of none, number of captured modes: not shown; 8 to more than 1,000 seeds would do"
            " (+3.0 [0.2, 5.8], 5 seeds, g = 1.2, p = 0.160 corrected for 4 comparisons)",
        ),
        (
            effect(NORM, **NOTHING),
            "LayerNorm instead of none, number of captured modes: no difference larger than 1.5"
            " (+0.4 [-0.8, 1.5], 5 seeds, g = 0.2, p = 1.000)",
        ),
        (
            effect(NORM, **EQUAL, constant=10),
            "LayerNorm instead of none, number of captured modes: every run reached 10 of 10:"
            " this count can't tell them apart (5 seeds)",
        ),
        (
            effect(Change("norm", "batch", "none"), **EQUAL, constant=0),
            "norm none instead of batch, number of captured modes: every run has the same value, 0 (5 seeds)",
        ),
        (
            effect(ADAM, BCE, held=(("norm", "none"), ("activation", "ReLU")), p_holm=0.0316, family=4, seeds=(3, 5)),
            "Adam instead of SGD and BCE instead of MSE added 6.2 captured modes out of 10 on average [5.1, 7.4]"
            " (with norm none and ReLU, 3 to 5 seeds, g = 3.0, p = 0.032 corrected for 4 comparisons)",
        ),
        (
            effect(BCE, held=(("norm", "none"), ("activation", "ReLU"), ("optim", "Adam"))),
            "BCE instead of MSE added 6.2 captured modes out of 10 on average [5.1, 7.4]"
            " (with norm none, ReLU and Adam, 5 seeds, g = 3.0, p = 0.008)",
        ),
        (
            effect(Change("remedy", "none", "r1"), kind="remedy"),
            "r1 added 6.2 captured modes out of 10 on average [5.1, 7.4] (compared with no remedy, 5 seeds, g = 3.0,"
            " p = 0.008)",
        ),
        (
            effect(ADAM, kind="main", settings=8, p_holm=0.0004, family=10, missing=2),
            "Adam instead of SGD added 6.2 captured modes out of 10 on average [5.1, 7.4] (mean over 8 settings,"
            " 2 runs without a value, 5 seeds each, g = 3.0, p < 0.001 corrected for 10 comparisons)",
        ),
        (
            effect(ADAM, kind="main", settings=7, of=8, missing=1),
            "Adam instead of SGD added 6.2 captured modes out of 10 on average [5.1, 7.4]"
            " (mean over 7 of 8 settings, 1 run without a value, 5 seeds each, g = 3.0, p = 0.008)",
        ),
        (
            effect(ADAM, BCE, kind="interaction", simple_effects=(1.1, 7.3)),
            "Adam instead of SGD changed the number of captured modes by +1.1 with MSE and by +7.3 with BCE:"
            " these two effects differ by 6.2 captured modes out of 10 [5.1, 7.4] (5 seeds, g = 3.0, p = 0.008)",
        ),
        (
            effect(ADAM, NORM, kind="interaction", simple_effects=(5, -1.2), difference=-6.2, low=-7.4, high=-5.1),
            "Adam instead of SGD changed the number of captured modes by +5 with norm none and by -1.2 with LayerNorm:"
            " these two effects differ by 6.2 captured modes out of 10 [5.1, 7.4] (5 seeds, g = 3.0, p = 0.008)",
        ),
        (
            effect(ADAM, BCE, kind="interaction", **NOTHING | dict(simple_effects=(3, 3.4))),
            "Adam instead of SGD changed the number of captured modes by +3 with MSE and by +3.4 with BCE,"
            " difference between these two effects: no difference larger than 1.5"
            " (+0.4 [-0.8, 1.5], 5 seeds, g = 0.2, p = 1.000)",
        ),
        (
            effect(ADAM, BCE, kind="interaction", **ONE_SEED, simple_effects=(1, 7.2), seeds_needed=(3, None)),
            "Adam instead of SGD changed the number of captured modes by +1 with MSE and by +7.2 with BCE,"
            " difference between these two effects: too few seeds to tell: +6.2; 3 seeds or more would do (1 seed)",
        ),
    ],
)
def test_sentences(answer, expected):
    assert sentence(answer, MODES) == expected


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (
            "coverage",
            "Adam instead of SGD raised the coverage by 6.2 on average [5.1, 7.4] (5 seeds, g = 3.0, p = 0.008)",
        ),
        (
            "kl_data",
            "Adam instead of SGD raised the KL divergence from the data's shares by 6.2 nats on average [5.1, 7.4]"
            " (5 seeds, g = 3.0, p = 0.008)",
        ),
        (
            "my_metric",
            "Adam instead of SGD raised the my metric by 6.2 on average [5.1, 7.4] (5 seeds, g = 3.0, p = 0.008)",
        ),
    ],
)
def test_sentences_about_what_is_not_counted(metric, expected):
    assert sentence(effect(ADAM), metric_of(metric)) == expected
    lowered = effect(ADAM, difference=-6.2, low=-7.4, high=-5.1)
    assert sentence(lowered, metric_of(metric)) == expected.replace("raised", "lowered")


def test_numbers_have_two_digits_of_the_largest():
    def amount(difference: float, low: float, high: float) -> str:
        text = sentence(effect(ADAM, difference=difference, low=low, high=high), metric_of("x"))
        return text.split(" by ")[1].split(" (")[0].replace(" on average", "")

    assert amount(0.0312, 0.0101, 0.0523) == "0.031 [0.010, 0.052]"
    assert amount(123.4, 98.7, 150.2) == "123 [99, 150]"
    assert amount(-0.5, -1.0, 0.001) == "0.5 [0.0, 1.0]", "no -0.0"


def test_a_dot_without_a_difference_has_its_reason():
    """Also where the interval leaves 0 out."""
    assert reason(effect(ADAM)) == ""
    assert reason(effect(ADAM, **TOO_FEW)) == "too few seeds to tell; 5 seeds would do"
    assert reason(effect(ADAM, **NOT_SHOWN)) == "not shown: p = 0.160 for 4 comparisons"
    assert reason(effect(ADAM, **NOTHING)) == "no difference: p = 1.000"
    assert reason(effect(ADAM, **EQUAL, constant=10)) == "all runs have the same value"


def test_improvement_knows_what_is_better():
    assert is_improvement(effect(ADAM), MODES) is True
    assert is_improvement(effect(ADAM), METRICS["frechet_distance"]) is False
    assert is_improvement(effect(ADAM, difference=-1.0), METRICS["kl_data"]) is True
    assert is_improvement(effect(ADAM, difference=-1.0), COLLAPSED) is True
    assert is_improvement(effect(ADAM), METRICS["pairwise_ratio"]) is None
    assert is_improvement(effect(ADAM, **NOTHING), MODES) is None
    assert is_improvement(effect(ADAM, BCE, kind="interaction"), MODES) is None


def test_from_runs_to_the_sentence():
    """5 against 5, apart: 2 of 252 splits. Means 2 and 8.2; in a factorial design the same again, for 3 comparisons."""
    rows = [("SGD", value) for value in (1, 2, 2, 3, 2)] + [("Adam", value) for value in (8, 8, 7, 9, 9)]
    (answer,) = compare(pd.DataFrame(rows, columns=["optim", "modes"]), ["optim"], ["modes"])
    text = sentence(answer, MODES)
    assert text.startswith("Adam instead of SGD added 6.2 captured modes out of 10 on average [5.")
    assert text.endswith("] (5 seeds, g = 7.2, p = 0.008)")
    crossed = [(*row, loss) for row, loss in itertools.product(rows, ("MSE", "BCE"))]
    main, nothing, both = compare(
        pd.DataFrame(crossed, columns=["optim", "modes", "loss"]), ["optim", "loss"], ["modes"]
    )
    assert "(mean over 2 settings, 5 seeds each, g = 7.6, p < 0.001 corrected for 3 comparisons)" in sentence(
        main, MODES
    )
    assert "BCE instead of MSE, number of captured modes: no difference larger than 0.74 (+0.00" in sentence(
        nothing, MODES
    )
    assert sentence(both, MODES).startswith(
        "Adam instead of SGD changed the number of captured modes by +6.2 with MSE and by +6.2 with BCE,"
        " difference between these two effects: no difference larger than 1.5 (+0.0 ["
    )


# From made-up runs to the answers and notes.


def remedies(folder: Path) -> None:
    """r1 is better than none by 6.4 modes, fully separate: p = 2 of binom(10, 5) = 252, times 2 comparisons."""
    for remedy, modes in {"": SGD_MODES, "remedy=[r1]": ADAM_MODES, "remedy=[ttur]": SGD_MODES}.items():
        repeated(folder, f"optim=adam {remedy}", modes, remedy or "none")


def pair(folder: Path) -> None:
    """Adam is better than SGD by 6.4 modes, fully separate."""
    repeated(folder, "optim=sgd", SGD_MODES, "a")
    repeated(folder, "optim=adam", ADAM_MODES, "b")


def pair_without_a_value(folder: Path) -> None:
    pair(folder)
    made_up(folder / "c", "optim=adam", 9, modes="ten")


def one_seed(folder: Path) -> None:
    made_up(folder / "a", "optim=sgd", modes=1)
    made_up(folder / "b", "optim=adam", modes=10)


def interaction(folder: Path) -> None:
    """Means 1.33, 9.33, 9.33, 2.33."""
    for loss, optim, modes in (("mse", "sgd", 1), ("mse", "adam", 9), ("bce", "sgd", 9), ("bce", "adam", 2)):
        repeated(folder, f"loss={loss} optim={optim}", [modes, modes, modes + 1], f"{loss}_{optim}")


def factorial_design_without_a_corner(folder: Path) -> None:
    cells = list(itertools.product(("mse", "bce"), ("sgd", "adam"), ("none", "layer")))
    for number, (loss, optim, norm) in enumerate(cells):
        state = dict(_status="failed", _error="NaN") if number == 0 else {}
        repeated(folder, f"loss={loss} optim={optim} norm={norm}", [1, 2], str(number), **state)


def replicas(folder: Path) -> None:
    for overrides, modes in (("", [1, 3]), ("remedy=[n_critic]", [8, 10]), ("remedy=[ttur]", [4, 6])):
        members = [dict(samples=10_000, modes=number, modes_total=10) for number in modes]
        made_up(folder / f"x{overrides}", overrides, modes=99, _replicas=2, _replica_metrics=members)


def ladder(folder: Path) -> None:
    rungs = ("loss=mse norm=none", "loss=bce norm=none", "loss=bce norm=layer")
    for number, overrides in enumerate(rungs):
        repeated(folder, overrides, [number, number + 1], f"rung-{number}")


def lost_runs(folder: Path) -> None:
    pair(folder)
    made_up(folder / "c", "optim=adam", 9, _status="failed", _error="NaN")


def several_machines(folder: Path) -> None:
    pair(folder)
    made_up(folder / "c", "optim=adam", 9, _environment=dict(device="cuda", threads=1, torch="2.11.0"))


def many_pairs(folder: Path) -> None:
    for number in range(1, 7):
        repeated(folder, f"batch_size={number}", [1, 1, 1, 2, 2, 2, 2, 2] if number < 6 else [9] * 8, f"{number}")


def unequal(folder: Path) -> None:
    repeated(folder, "optim=sgd", [1, 1, 1], "a")
    repeated(folder, "optim=adam", [10, 10, 10, 9], "b")


def too_few(folder: Path) -> None:
    unequal(folder)
    made_up(folder / "c", "optim=rmsprop", 0)


NO_ANSWER = "no difference can be shown, however large it is"


@pytest.mark.parametrize(
    ("build", "phrases"),
    [
        (
            pair,
            ["Adam instead of SGD added 6.4 captured modes out of 10 on average [", "] (5 seeds, g = 4.9, p = 0.008)"],
        ),
        (pair_without_a_value, ["1 run without a value"]),
        (
            remedies,
            [
                "r1 added 6.4 captured modes out of 10 on average [",
                "] (compared with no remedy, 5 seeds, g = 4.9, p = 0.016 corrected for 2 comparisons)",
                "ttur, number of captured modes: no difference larger than 1.8 (+0.0 [-1.8, 1.8], compared",
            ],
        ),
        (
            interaction,
            [
                "BCE instead of MSE changed the number of captured modes by +8 with SGD and by -7 with Adam:"
                " these two effects differ by 15 captured modes out of 10 [",
            ],
        ),
        (factorial_design_without_a_corner, ["mean over 3 of 4 settings"]),
        (one_seed, ["Adam instead of SGD, number of captured modes: too few seeds to tell: +9; 4 seeds or more would"]),
    ],
)
def test_answers(tmp_path, build, phrases):
    build(tmp_path)
    answers = "\n".join(text for _, text in compare_runs([tmp_path]).answers)
    for phrase in phrases:
        assert phrase in answers


@pytest.mark.parametrize(
    ("build", "phrases"),
    [
        (
            pair,
            [
                "optim: SGD with optim.lr 0.01, Adam with optim.lr 0.0005; their effects can't be separated.",
                "The sentences are about the number of captured modes. p comes from a permutation test of the runs,",
                "with Holm's correction for all comparisons of the same metric. The primary metric was chosen before",
                "all others are secondary, effects.csv has 3 more, and false alarms add up over them.",
                "[Brackets] are 95 % intervals: Welch's t intervals for means and their differences, Clopper and",
            ],
        ),
        (remedies, ["Each remedy is compared with no remedy; remedies are not compared with each other."]),
        (interaction, ["The effects of these factors depend on each other: loss and optim."]),
        (interaction, ["All 4 combinations of loss, optim have runs. The effect of a change is averaged over all"]),
        (
            factorial_design_without_a_corner,
            [
                "7 of 8 combinations of loss, norm, optim have runs. The effect of a change is averaged over the"
                " settings of the other factors that have runs before and after the change.",
                "MSE, norm none, SGD: 2 of 2 runs are not compared (failed, interrupted or damaged).",
            ],
        ),
        (replicas, ["Replicas count as repetitions;", f"{NO_ANSWER}, in 2 comparisons: that takes at least 5 seeds"]),
        (ladder, ["in the order of their folders: MSE, norm none → BCE, norm none → BCE, LayerNorm."]),
        (lost_runs, ["Adam: 1 of 6 runs are not compared (failed, interrupted or damaged); the numbers are those of"]),
        (several_machines, ["The runs differ in device (cpu, cuda), so their seconds can't be compared."]),
        (many_pairs, ["5 more comparisons of the number of captured modes are in effects.csv."]),
        (
            one_seed,
            ["the effect of a change can't be distinguished from that of the seed, so nothing can be concluded"],
        ),
        (unequal, ["The variants have 3 to 4 runs."]),
        (too_few, [f"{NO_ANSWER}, in 3 comparisons: that takes at least 5 seeds per variant (replicas=5)."]),
        (lambda folder: made_up(folder / "run"), ["there is nothing to compare", "There is only one run, so the"]),
    ],
)
def test_notes(tmp_path, build, phrases):
    build(tmp_path)
    notes = "\n".join(compare_runs([tmp_path]).notes)
    for phrase in phrases:
        assert phrase in notes


def test_enough_seeds_have_no_note_on_too_few(tmp_path):
    """The p of 3 against 4 runs that are fully separate is 1 / binom(7, 3)."""
    unequal(tmp_path)
    assert NO_ANSWER not in "\n".join(compare_runs([tmp_path]).notes)
