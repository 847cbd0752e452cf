"""Losses against numbers worked by hand. σ(ln 3) = 3/4, σ(−ln 4) = 1/5."""

import math

import pytest
import torch

from gan_lab.losses import BCE, MSE

LN3, LN4 = math.log(3), math.log(4)
SCORES = torch.tensor([LN3, -LN4])  # probabilities 3/4 and 1/5


@pytest.mark.parametrize(
    ("loss", "d_real", "d_fake"),
    [
        (MSE(), [1 / 16, 16 / 25], [9 / 16, 1 / 25]),
        (BCE(), [math.log(4 / 3), math.log(5)], [math.log(4), math.log(5 / 4)]),
    ],
)
def test_terms_per_sample(loss, d_real, d_fake):
    assert loss.d_real(SCORES).tolist() == pytest.approx(d_real)
    assert loss.d_fake(SCORES).tolist() == pytest.approx(d_fake)
    assert loss.g(SCORES).tolist() == pytest.approx(d_real), "G wants its fakes called real (S4, phase 3)"
    assert loss.answer(SCORES).tolist() == pytest.approx([3 / 4, 1 / 5])


@pytest.mark.parametrize(("loss", "ideal"), [(MSE(), 1 / 4), (BCE(), math.log(2))])
def test_equilibrium_is_the_loss_of_an_undecided_discriminator(loss, ideal):
    """S10. The optimum of D for equal densities is 1/2 everywhere: no other constant answer has a lower loss."""
    assert loss.equilibrium == pytest.approx(ideal)
    scores = torch.linspace(-4, 4, 801, dtype=torch.float64)
    total = loss.d_real(scores) + loss.d_fake(scores)
    assert scores[total.argmin()].item() == pytest.approx(0, abs=1e-9)
    assert total.min().item() == pytest.approx(2 * ideal)


@pytest.mark.parametrize("loss", [MSE(), BCE()])
def test_any_leading_axes(loss):
    scores = torch.randn(3, 2, 5)
    for term in (loss.d_real, loss.d_fake, loss.g, loss.answer):
        assert term(scores).shape == scores.shape
        torch.testing.assert_close(term(scores)[1, 0], term(scores[1, 0]))


def test_bce_survives_saturated_scores():
    """S12: computed from a probability, the logarithm of 0 would be infinite and its gradient lost."""
    scores = torch.tensor([-500.0, 500.0], requires_grad=True)
    values = BCE().d_real(scores)
    assert values.tolist() == pytest.approx([500, 0])
    values.sum().backward()
    assert scores.grad.tolist() == pytest.approx([-1, 0])


def test_only_mse_is_bounded():
    far = torch.tensor([-80.0, 80.0])
    assert max(MSE().d_real(far).max(), MSE().d_fake(far).max()) <= MSE().ceiling
    assert BCE().ceiling is None
    assert BCE().d_real(far).max() > 79
