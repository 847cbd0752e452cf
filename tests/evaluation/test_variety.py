"""Variety and coverage within modes, against numbers worked by hand and fabricated failures."""

import math

import pytest
import torch

from gan_lab.evaluation.metrics.registry import Undefined
from gan_lab.evaluation.metrics.variety import coverage_within, variety_summary, variety_within


def normal(n: int, seed: int, d: int = 4) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def zeros(points: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(points), dtype=torch.int64)


def two_modes(points: torch.Tensor) -> torch.Tensor:
    return torch.arange(len(points)) % 2


def test_variety_is_the_ratio_of_near_pair_distances():
    """The numbers 0 … 14 have 105 pairs, 14 of them at distance 1: the nearest 5 of them, 5 / 105, are at 1."""
    real = torch.arange(15.0)[:, None]
    modes = torch.zeros(15, dtype=torch.int64)
    assert variety_within(3 * real, modes, real, modes, 1).tolist() == [3]
    assert variety_within(real / 4, modes, real, modes, 1).tolist() == [0.25]
    assert variety_within(real[:9], modes[:9], real, modes, 1).isnan().all(), "36 pairs: 5 of them are no near ones"


@pytest.mark.parametrize("factor", [0.1, 0.5, 0.9])
def test_variety_is_the_factor_by_which_modes_shrink(factor):
    fresh, real = normal(2_000, 0), normal(4_000, 1)
    median, lowest, error, _ = variety_summary(factor * fresh, two_modes(fresh), real, two_modes(real), 2)
    assert median == pytest.approx(factor, rel=0.08)
    assert lowest <= median
    assert 0 < error < 0.05


def test_repeated_samples_have_no_variety_and_are_counted():
    real = normal(4_000, 1)
    repeated = normal(30, 0).repeat(40, 1)
    assert variety_within(repeated, zeros(repeated), real, zeros(real), 1).tolist() == [0]
    assert variety_summary(repeated, zeros(repeated), real, zeros(real), 1)[3] == pytest.approx(30, rel=0.1)
    one = normal(1, 0).repeat(100, 1)
    assert variety_summary(one, zeros(one), real, zeros(real), 1)[3] == 1


def test_one_mode_that_repeats_its_samples_is_the_lowest():
    fakes, real = normal(900, 0), normal(900, 1)
    modes = torch.arange(900) % 3
    fakes[modes == 2] = fakes[2].clone()
    median, lowest, _, _ = variety_summary(fakes, modes, real, modes, 3)
    assert median == pytest.approx(1, abs=0.25)
    assert lowest == 0


def test_of_many_modes_all_pairs_are_pooled():
    real, fakes = normal(6_000, 0), normal(6_000, 1)
    modes = torch.arange(6_000) % 100
    value = variety_within(fakes, modes, real, modes, 100)
    assert value.shape == (1,)
    assert value.item() == pytest.approx(1, abs=0.1)
    assert variety_within(fakes[:100].repeat(60, 1), modes, real, modes, 100).tolist() == [0]


def test_coverage_by_hand():
    """Training points 0 … 19, k = 5: the ball about 9.5 reaches to 7 and 12, and all other balls are as empty.

    20 fakes at 9.5 are in every ball about a held-out 9.5: found / expected = 20 / (20 · 5 / 21) > 1, so each counts 1;
    20 fakes at 100 are in none.
    """
    train = torch.arange(20.0)[:, None]
    heldout = torch.full((6, 1), 9.5)
    labels = torch.zeros(20, dtype=torch.int64)
    inside = torch.full((100, 1), 9.5)
    arguments = (train, labels, heldout, labels[:6], 1)
    value, error = coverage_within(inside, zeros(inside), *arguments)
    # The expectation of min(1, found / expected) of real samples is below 1.
    assert 1 < value < 1.3
    assert error == 0
    outside = torch.full((100, 1), 100.0)
    assert coverage_within(outside, zeros(outside), *arguments) == (0, 0)


def test_coverage_of_real_data_is_one_and_of_a_half_clearly_less():
    train, heldout, fresh = normal(2_000, 0), normal(500, 1), normal(2_000, 2)
    arguments = (train, zeros(train), heldout, zeros(heldout), 1)
    value, error = coverage_within(fresh, zeros(fresh), *arguments)
    assert value == pytest.approx(1, abs=4 * error)
    half = fresh[fresh[:, 0] > 0]
    value, error = coverage_within(half, zeros(half), *arguments)
    assert value + 2.6 * error < 0.8


def test_too_few_samples_are_undefined():
    few, real = normal(9, 0), normal(100, 1)
    with pytest.raises(Undefined):
        variety_summary(few, zeros(few), real, zeros(real), 1)
    with pytest.raises(Undefined):
        coverage_within(few, zeros(few), real, zeros(real), real, zeros(real), 1)
    with pytest.raises(Undefined, match="too few to say"):
        coverage_within(real[:20], zeros(real[:20]), normal(2_000, 3), torch.zeros(2_000).long(), real, zeros(real), 1)
    assert math.isnan(variety_within(real[:0], zeros(real[:0]), real, zeros(real), 1).item())
