"""A verdict in plain words, and the numbers behind it."""

from typing import Any

import torch

from gan_lab.evaluation.sentences import Measured, ModeNames, sentence

DIGITS = ModeNames(list("0123456789"), "digits", "image")
SHARES = torch.full((10,), 0.1, dtype=torch.float64)
GOOD = {"collapse": "covered", "within_modes": "varied", "likeness": "good", "copies": False}
METRICS = {"samples": 10_000, "finite": 1.0, "modes_valid": 10, "modes": 10, "junk": 0.02, "agreement": 0.97}


def say(words: dict[str, Any], counts: list[int] | None = None, readers=(), undefined=None, **metrics: Any) -> str:
    measured = Measured(
        METRICS | metrics, undefined or {}, {"agreement": 0.99}, SHARES, torch.tensor(counts or [1_000] * 10), DIGITS
    )
    return sentence(GOOD | words, measured, readers)


def test_words_come_first_and_then_the_numbers():
    assert say({}).splitlines() == [
        "Covered: it makes all ten digits, as varied as the data. The samples look like the data."
        " They do not copy the training data.",
        "10 of 10 digits in 10,000 samples (10 occur); junk 2%; readers agree on 97% (real 99%).",
    ]


def test_plain_words():
    one = [0] * 8 + [9_000, 0]
    assert say({"collapse": "collapsed"}, one, modes_valid=1).startswith("Collapsed: it makes only the 8. ")
    repeats = say({"within_modes": "collapsed"}, variety_within=0.0, distinct=1.0)
    assert repeats.startswith("Collapsed within its modes: all ten digits, but one image of each. ")
    assert say({"within_modes": "narrow"}).startswith("Covered, but narrow: all ten digits, ")
    uneven = say({"collapse": "partial"}, [5_000] + [500] * 9, kl_excess=0.5)
    assert uneven.startswith("Partial: it makes all ten digits, but unevenly: 0 5.3 times too often. ")
    copies = say({"copies": True}, copy_share=0.25)
    assert "They copy the training data: 25% of them are copies." in copies


def test_nearly_nothing_but_junk_is_called_junk_and_not_a_collapse():
    junk = say({"collapse": "collapsed", "likeness": "poor"}, [0] * 10, modes_valid=0, junk=0.91)
    assert junk.startswith("Junk: 91% of the samples lie outside the data, so it makes none of the ten digits. The ")
    assert junk.count("lie outside") == 1


def test_what_is_unknown_has_a_reason_and_says_what_is_needed():
    unknown = {"collapse": "unknown", "within_modes": "unknown", "likeness": "unknown", "copies": None}
    undefined = {"two_sample_auc": "40 samples are needed", "copy_share": "20 samples are needed"}
    text = say(unknown, undefined=undefined, samples=10)
    assert text.startswith("Unknown: 10 images are too few to tell a missing digit from bad luck; 139 are needed. ")
    assert "look like the data cannot be determined: 40 samples are needed." in text
    assert "copy the training data cannot be determined: 20 samples are needed." in text


def test_words_that_depend_on_the_reader_say_so():
    readers = [("covered", "good"), ("partial", "poor")]
    seen = {"modes_first_reader": 10, "modes_second_reader": 7, "junk_second_reader": 0.3}
    text = say({}, readers=readers, **seen)
    assert (
        "depends on who reads the samples: the label classifier alone sees 10 digits and 2% junk, covered and" in text
    )
    assert "the nearest training image alone sees 7 digits and 30% junk, partial and poor." in text
    assert "who reads" not in say({}, readers=[("covered", "good")] * 2, **seen)
