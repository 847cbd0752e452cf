"""The proof is one permutation test, and its sentence says no more."""

import pytest

from gan_lab.cure.proof import prove


def test_complete_separation_helps():
    proof = prove([0.1, 0.2, 0.15, 0.12], [0.8, 0.7, 0.75, 0.9])
    # Two of the 70 ways to split eight numbers into four and four are as extreme.
    assert proof.p == pytest.approx(2 / 70)
    assert proof.helped
    assert proof.difference == pytest.approx(0.645)
    assert (
        proof.sentence("R1") == "R1 helped (coverage 0.14 → 0.79, +0.65 [0.52, 0.77], p = 0.029, 4 fresh seeds each)."
    )


def test_worse_is_never_called_help():
    proof = prove([0.8, 0.7, 0.75, 0.9], [0.1, 0.2, 0.15, 0.12])
    assert proof.harmed
    assert not proof.helped
    assert proof.sentence("R1").startswith("Nothing within the budget helped")


def test_no_difference_is_not_called_help():
    proof = prove([0.1, 0.2, 0.15, 0.12], [0.1, 0.22, 0.15, 0.19])
    assert not proof.helped
    assert proof.sentence("R1").startswith("Nothing within the budget was shown to help; the best try was R1")


def test_equal_values_have_no_interval():
    proof = prove([0.0] * 4, [0.0] * 4)
    assert proof.p == 1
    assert "[" not in proof.sentence("R1")
