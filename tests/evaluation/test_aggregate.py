"""Verdicts, metrics and spread of several members."""

import pytest
import torch

from gan_lab.evaluation import aggregate
from gan_lab.evaluation.verdict import EvaluationResult


def _result(collapse: str, modes: int, copies: bool = False, likeness: str = "good", **metrics) -> EvaluationResult:
    verdict = {"collapse": collapse, "copies": copies, "likeness": likeness, "sentence": "…"}
    return EvaluationResult(
        {"modes_robust": modes, **metrics}, {}, {}, torch.tensor([modes] * 8), verdict, "their own values"
    )


def test_the_combined_verdict_is_the_worst_and_its_count():
    results = {
        0: _result("covered", 8, kl_data=0.5),
        1: _result("collapsed", 2, likeness="poor", kl_data=None),
        2: _result("covered", 8, copies=True, kl_data=0.1),
        4: _result("partial", 6, kl_data=None),
    }
    combined = aggregate.combine(results, replicas=5, seed=10)
    assert {key: combined.verdict[key] for key in ("collapse", "copies", "likeness")} == {
        "collapse": "collapsed",
        "copies": True,
        "likeness": "poor",
    }
    assert combined.verdict["sentence"] == (
        "Covered in 2 of 5 members, partial in 1 (seed 14), collapsed in 1 (seed 11), "
        "failed with NaN or infinity in 1 (seed 13). "
        "Modes with at least half of their expected count: 6 of 8 on average, 2 to 8. "
        "The samples look like the data in 3 of 4 members and copy the training data in 1."
    )
    assert combined.metrics == {"modes_robust": 6, "kl_data": pytest.approx(0.3)}
    assert combined.counts.tolist() == [24] * 8
    assert aggregate.balance(["balanced", "G is winning", "balanced"]) == "G is winning"
    assert aggregate.balance(["balanced", "balanced"]) == "balanced"
    assert aggregate.spread([{"a": 1, "b": 2}, {"a": 4, "b": None}]) == {"a": pytest.approx(4.5**0.5), "b": None}
