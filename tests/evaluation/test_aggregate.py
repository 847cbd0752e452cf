"""Verdicts, metrics and spread of several members."""

import pytest
import torch

from gan_lab.evaluation import aggregate
from gan_lab.evaluation.verdict import EvaluationResult


def _result(
    collapse: str,
    modes: int,
    copies: bool | None = False,
    likeness: str = "good",
    within_modes: str = "varied",
    **metrics,
) -> EvaluationResult:
    words = {"collapse": collapse, "within_modes": within_modes, "copies": copies, "likeness": likeness}
    verdict = {**words, "sentence": "…"}
    return EvaluationResult(
        {"modes_valid": modes, **metrics}, {}, {}, torch.tensor([modes] * 8), verdict, "their own values"
    )


def test_the_combined_verdict_is_the_worst_and_its_count():
    results = {
        0: _result("covered", 8, kl_data=0.5),
        1: _result("collapsed", 2, likeness="poor", within_modes="narrow", kl_data=None),
        2: _result("covered", 8, copies=True, kl_data=0.1),
        4: _result("partial", 6, kl_data=None),
    }
    combined = aggregate.combine(results, replicas=5, seed=10)
    assert {key: combined.verdict[key] for key in ("collapse", "within_modes", "copies", "likeness")} == {
        "collapse": "collapsed",
        "within_modes": "narrow",
        "copies": True,
        "likeness": "poor",
    }
    assert combined.verdict["sentence"] == (
        "Covered in 2 of 5 members, partial in 1 (seed 14), collapsed in 1 (seed 11), "
        "failed with NaN or infinity in 1 (seed 13). "
        "Modes made: 6 of 8 on average, 2 to 8. Within their modes narrow in 1 of 4 members. "
        "The samples look like the data in 3 of 4 members. They copy the training data in 1 of 4 members."
    )
    assert combined.metrics == {"modes_valid": 6, "kl_data": pytest.approx(0.3)}
    assert combined.counts.tolist() == [24] * 8
    assert aggregate.balance(["balanced", "G is winning", "balanced"]) == "G is winning"
    assert aggregate.balance(["balanced", "balanced"]) == "balanced"
    assert aggregate.spread([{"a": 1, "b": 2}, {"a": 4, "b": None}]) == {"a": pytest.approx(4.5**0.5), "b": None}


def test_what_cannot_be_determined_counts_only_if_nothing_else_is_known():
    known = {
        0: _result("unknown", 8, copies=None, likeness="unknown", within_modes="unknown"),
        1: _result("covered", 8),
    }
    verdict = aggregate.combine(known, replicas=2, seed=0).verdict
    assert (verdict["collapse"], verdict["within_modes"], verdict["copies"]) == ("covered", "varied", False)
    unknown = {0: known[0]}
    verdict = aggregate.combine(unknown, replicas=1, seed=0).verdict
    assert (verdict["collapse"], verdict["likeness"], verdict["copies"]) == ("unknown", "unknown", None)
