"""Steps of D seen ahead, against a D of one weight worked by hand."""

import copy

import pytest
import torch
from conftest import refused
from torch import nn

from gan_lab.gan.losses import BCE, LSGAN, Relativistic, Wasserstein
from gan_lab.gan.networks import mlp, norms
from gan_lab.gan.remedies.unrolled import Unrolled


class Weight(nn.Module):
    """D(x) = w·x; with several weights, one for each replica."""

    def __init__(self, *weights):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weights, dtype=torch.float64))

    def forward(self, x):
        return (x * self.weight.view(*self.weight.shape, 1, 1)).squeeze(-1)


@pytest.mark.parametrize(("k", "weight", "slope"), [(1, 0.45, -0.1), (2, 0.425, -0.14)])
def test_steps_of_least_squares(k, weight, slope):
    """L = ½(wr − 1)² + ½(wf)² at r = 2, f = 1, from w = 0.5 by 0.1: w₁ = 0.5 − 0.1(0 + 0.5) = 0.45,
    w₂ = 0.45 − 0.1(2(0.9 − 1) + 0.45) = 0.425. dw₁/df = −0.1 · 2 · 0.5, dw₂/df = dw₁/df (1 − 0.1 · 5) − 0.1 · 2 · 0.45.
    """
    discriminator, loss = Weight(0.5), LSGAN()
    real = torch.tensor([[[2.0]]], dtype=torch.float64)
    fake = torch.ones_like(real, requires_grad=True)
    unrolled_critic = Unrolled(k, lr=0.1)(discriminator, loss, real, fake)
    assert unrolled_critic(torch.ones_like(real)).item() == pytest.approx(weight)
    (gradient,) = torch.autograd.grad(loss.g(unrolled_critic(fake)).sum(), fake)
    assert gradient.item() == pytest.approx((weight - 1) * (weight + slope))
    assert discriminator.weight.item() == 0.5
    assert discriminator.weight.grad is None


def test_k_0_is_the_present_d():
    torch.manual_seed(0)
    discriminator = mlp.Discriminator((2,), (8,), nn.Tanh, norms.NoNorm())
    real, fake = torch.randn(2, 5, 2)
    assert torch.equal(Unrolled(0)(discriminator, BCE(), real, fake)(fake), discriminator(fake))


def test_a_step_is_the_optimisers():
    """Three steps of torch's own SGD on a copy lead to the same D."""
    torch.manual_seed(0)
    discriminator = mlp.Discriminator((2,), (8, 8), nn.Tanh, norms.LayerNorm())
    real, fake = torch.randn(2, 5, 2)
    unrolled_critic = Unrolled(3, lr=0.3)(discriminator, Relativistic(), real, fake)
    trained = copy.deepcopy(discriminator)
    sgd = torch.optim.SGD(trained.parameters(), lr=0.3)
    for _ in range(3):
        sum(term.mean() for term in Relativistic().d(trained(real), trained(fake))).backward()
        sgd.step()
        sgd.zero_grad()
    torch.testing.assert_close(unrolled_critic(fake), trained(fake))
    assert (unrolled_critic(fake) - discriminator(fake)).abs().max() > 1e-3


def test_replicas_step_by_themselves():
    """The critic's w moves by lr · (mean r − mean f), whatever stands beside it."""
    real = torch.tensor([[[1.0], [3]], [[5], [7]]], dtype=torch.float64)
    unrolled_critic = Unrolled(2, lr=0.1)(Weight(0.5, -1.0), Wasserstein(), real, torch.zeros_like(real))
    assert unrolled_critic(torch.ones_like(real)).tolist() == [pytest.approx([0.9, 0.9]), pytest.approx([0.2, 0.2])]


@pytest.mark.parametrize("norm", [norms.BatchNorm(), norms.SpectralNorm(), norms.LayerNorm()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_frozen_d_stays_as_it_is_and_g_learns(norm, dtype):
    torch.manual_seed(0)
    generator = mlp.Generator((2,), 3, False, (8,), nn.Tanh, norms.NoNorm()).to(dtype)
    discriminator = mlp.Discriminator((2,), (8, 8), nn.Tanh, norm).to(dtype).requires_grad_(False)
    before = copy.deepcopy(discriminator.state_dict())
    fake = generator(torch.randn(6, 3, dtype=dtype))
    unrolled_critic = Unrolled(5, lr=0.1)(discriminator, BCE(), torch.randn(6, 2, dtype=dtype), fake)
    BCE().g(unrolled_critic(fake)).mean().backward()
    for p in generator.parameters():
        assert p.grad.isfinite().all()
        assert p.grad.any()
    assert all(torch.equal(before[name], value) for name, value in discriminator.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in discriminator.parameters())


def test_nonsense_is_refused():
    for k, lr in ((-1, 0.1), (5, 0)):
        with refused("invalid", "remedy.unrolled"):
            Unrolled(k, lr)
