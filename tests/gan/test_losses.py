"""Losses against numbers worked by hand. σ(ln 3) = 3/4, σ(−ln 4) = 1/5."""

import math

import pytest
import torch
from matplotlib.figure import Figure

from gan_lab.gan.losses import BCE, LSGAN, MSE, Hinge, Relativistic, RelativisticAverage, Saturating, Wasserstein
from gan_lab.preflight import Check, figures
from gan_lab.preflight.objective import check_optimum

LN2, LN3, LN4 = math.log(2), math.log(3), math.log(4)
SCORES = torch.tensor([LN3, -LN4])  # probabilities 3/4 and 1/5
SINGLE = [MSE(), BCE(), Saturating(), LSGAN(), Hinge(), Wasserstein()]
PAIRED = [Relativistic(), RelativisticAverage()]


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
    assert loss.d_output(SCORES).tolist() == pytest.approx([3 / 4, 1 / 5])


@pytest.mark.parametrize(
    ("loss", "d_real", "d_fake", "g"),
    [
        (LSGAN(), [2, 1 / 8, 2], [1 / 2, 1 / 8, 9 / 2], [2, 1 / 8, 2]),
        (Hinge(), [2, 1 / 2, 0], [0, 3 / 2, 4], [1, -1 / 2, -3]),
        (Wasserstein(), [1, -1 / 2, -3], [-1, 1 / 2, 3], [1, -1 / 2, -3]),
    ],
)
def test_terms_of_losses_without_a_sigmoid(loss, d_real, d_fake, g):
    scores = torch.tensor([-1, 0.5, 3])
    assert loss.d_real(scores).tolist() == pytest.approx(d_real)
    assert loss.d_fake(scores).tolist() == pytest.approx(d_fake)
    assert loss.g(scores).tolist() == pytest.approx(g)
    assert loss.d_output(scores).tolist() == scores.tolist()


def test_the_saturating_g_learns_nothing_where_d_is_sure():
    loss, scores = Saturating(), torch.tensor([LN3, -LN4], requires_grad=True)
    assert loss.d_real(scores).tolist() == BCE().d_real(scores).tolist()
    assert loss.g(scores).tolist() == pytest.approx([math.log(1 / 4), math.log(4 / 5)])  # ln(1 − σ)
    sure = torch.tensor([-8.0], requires_grad=True)
    slopes = {}
    for g_loss in (loss, BCE()):
        (slopes[type(g_loss)],) = torch.autograd.grad(g_loss.g(sure).sum(), sure)
    assert slopes[Saturating].item() == pytest.approx(-1 / (1 + math.exp(8)))  # −σ(−8) = −0.000335
    assert slopes[BCE].item() == pytest.approx(-1 / (1 + math.exp(-8)))


def test_relativistic_terms_are_of_pairs():
    """r − f = ln 3 and −ln 4: in the right order with probability 3/4 and 1/5."""
    fake = torch.tensor([2.0, -1])
    real = fake + SCORES
    d_real, d_fake = Relativistic().d(real, fake)
    assert (d_real + d_fake).tolist() == pytest.approx([math.log(4 / 3), math.log(5)]), "the published loss"
    assert d_real.tolist() == d_fake.tolist()
    assert Relativistic().g(fake, real).tolist() == pytest.approx([math.log(4), math.log(5 / 4)])


def test_relativistic_average_terms_are_of_samples_and_means():
    real, fake = torch.tensor([LN3, LN3 + 2]), torch.tensor([1 - LN4, 1 + LN4])  # means LN3 + 1 and 1
    d_real, d_fake = RelativisticAverage().d(real, fake)
    logistic = [math.log1p(math.exp(1 - LN3)), math.log1p(math.exp(-1 - LN3))]
    assert d_real.tolist() == pytest.approx(logistic)
    assert d_fake.tolist() == pytest.approx([math.log(1 + 1 / 12), math.log(1 + 4 / 3)])
    fake_terms = [math.log(1 + 12), math.log(1 + 3 / 4)]
    real_terms = [math.log1p(math.exp(LN3 - 1)), math.log1p(math.exp(LN3 + 1))]
    expected = [fake_terms[0] + real_terms[0], fake_terms[1] + real_terms[1]]
    assert RelativisticAverage().g(fake, real).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("loss", PAIRED)
def test_paired_losses_refuse_scores_of_one_side_only(loss):
    for call in (loss.d_real, loss.d_fake, loss.g):
        with pytest.raises(NotImplementedError, match=f"{type(loss).__name__} compares .* both scores"):
            call(SCORES)


@pytest.mark.parametrize(
    ("loss", "ideal", "neutral"), [(MSE(), 1 / 4, 0), (BCE(), LN2, 0), (Saturating(), LN2, 0), (LSGAN(), 1 / 8, 0.5)]
)
def test_equilibrium_is_the_loss_of_an_undecided_discriminator(loss, ideal, neutral):
    """S10. The optimum of D for equal densities is 1/2 everywhere: no other constant answer has a lower loss."""
    assert loss.loss_at_optimum == pytest.approx(ideal)
    scores = torch.linspace(-4, 4, 801, dtype=torch.float64)
    total = loss.d_real(scores) + loss.d_fake(scores)
    best = scores[total.argmin()]
    assert best.item() == pytest.approx(neutral, abs=1e-9)
    assert total.min().item() == pytest.approx(2 * ideal)
    assert loss.d_output(best).item() == pytest.approx(loss.d_output_at_optimum)
    assert loss.d_output_at_optimum == 0.5
    assert loss.g(best).item() == pytest.approx(loss.g_loss_at_optimum)
    assert loss.g_loss_at_optimum == pytest.approx(-LN2 if isinstance(loss, Saturating) else ideal)


@pytest.mark.parametrize(("loss", "ideal", "ideal_g"), [(PAIRED[0], LN2 / 2, LN2), (PAIRED[1], LN2, 2 * LN2)])
def test_equilibrium_of_paired_losses_is_that_of_equal_scores_of_any_level(loss, ideal, ideal_g):
    for level in (-3.0, 0.0, 2.0):
        scores = torch.full((4,), level)
        for term in loss.d(scores, scores):
            assert term.tolist() == pytest.approx([ideal] * 4)
        assert loss.g(scores, scores).tolist() == pytest.approx([ideal_g] * 4)
    assert (loss.loss_at_optimum, loss.g_loss_at_optimum) == pytest.approx((ideal, ideal_g))
    assert loss.d_output_at_optimum is None


@pytest.mark.parametrize(("loss", "total", "where"), [(Hinge(), 2, 1), (Wasserstein(), 0, 4)])
def test_hinge_and_wasserstein_have_an_ideal_sum_but_no_ideal_terms(loss, total, where):
    """All constant scores up to `where` are as good for D: their terms differ, their sum doesn't."""
    scores = torch.linspace(-where, where, 9)
    terms = torch.stack(loss.d(scores, scores))
    assert terms.sum(0).tolist() == pytest.approx([total] * 9)
    assert terms[0].max() - terms[0].min() == 2 * where
    assert loss.loss_at_optimum is loss.g_loss_at_optimum is loss.d_output_at_optimum is None


@pytest.mark.parametrize("loss", SINGLE)
def test_d_is_both_terms(loss):
    real, fake = torch.randn(2, 5)
    d_real, d_fake = loss.d(real, fake)
    assert torch.equal(d_real, loss.d_real(real))
    assert torch.equal(d_fake, loss.d_fake(fake))
    assert not loss.paired


@pytest.mark.parametrize("loss", SINGLE + PAIRED, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_leading_axes(loss, dtype):
    real, fake = torch.randn(2, 3, 2, 5, dtype=dtype)
    terms = (lambda r, f: loss.d(r, f)[0], lambda r, f: loss.d(r, f)[1], lambda r, f: loss.g(f, r))
    for term in (*terms, lambda r, f: loss.d_output(r)):
        assert term(real, fake).shape == real.shape
        assert term(real, fake).dtype == dtype
        torch.testing.assert_close(term(real, fake)[1, 0], term(real[1, 0], fake[1, 0]))


@pytest.mark.parametrize("loss", SINGLE + PAIRED, ids=lambda loss: type(loss).__name__)
def test_saturated_scores_leave_finite_values_and_gradients(loss):
    """S12: computed from a probability, the logarithm of 0 would be infinite and its gradient lost."""
    scores = torch.tensor([[-500.0, 500.0], [500.0, -500.0]], requires_grad=True)
    values = torch.stack([*loss.d(*scores), loss.g(*scores)])
    assert values.isfinite().all()
    (gradient,) = torch.autograd.grad(values.sum(), scores)
    assert gradient.isfinite().all()


def test_bce_survives_saturated_scores():
    scores = torch.tensor([-500.0, 500.0], requires_grad=True)
    values = BCE().d_real(scores)
    assert values.tolist() == pytest.approx([500, 0])
    values.sum().backward()
    assert scores.grad.tolist() == pytest.approx([-1, 0])


def test_only_mse_is_bounded():
    far = torch.tensor([-80.0, 80.0])
    assert max(MSE().d_real(far).max(), MSE().d_fake(far).max()) <= MSE().upper_bound
    for loss in (*SINGLE[1:], *PAIRED):
        assert loss.upper_bound is None
        assert max(term.max() for term in loss.d(far, -far)) > 35


@pytest.mark.parametrize("loss", SINGLE + PAIRED, ids=lambda loss: type(loss).__name__)
def test_the_preflight_checks_and_draws_every_loss(loss):
    check = Check("objective", "the loss")
    check_optimum(check, loss)
    assert not check.failures
    assert check.facts["optimum"].startswith(
        "this loss has none"
        if loss.loss_at_optimum is None
        else "at D = 0.5"
        if not loss.paired
        else "for any equal scores"
    )
    axes = Figure().subplots()
    figures.draw_loss(axes, loss)
    curves = [line.get_ydata() for line in axes.get_lines()]
    if loss.paired:  # in the middle both scores are 0
        assert curves[0][100] == pytest.approx(2 * loss.loss_at_optimum)
    else:
        assert len(curves) == 2 + (loss.loss_at_optimum is not None)


class Misstated(Relativistic):
    g_loss_at_optimum = 0.5


def test_the_preflight_finds_a_misstated_optimum():
    check = Check("objective", "the loss")
    check_optimum(check, Misstated())
    assert "0.6931 for G, but it states 0.3466 for D, 0.5000 for G" in check.failures[0]
