"""What G wants besides, against numbers worked by hand."""

import math

import numpy as np
import pytest
import torch
from conftest import refused
from torch import nn

from gan_lab.gan.losses import BCE, LSGAN, Relativistic
from gan_lab.gan.networks import mlp, norms
from gan_lab.gan.remedies.generator_losses import GDPP, FeatureMatching, ModeSeeking, TopK


class Plain:
    """Its features are its input's numbers."""

    def features(self, x):
        return x


def evaluate(generator_loss, fake, real=None, z=None):
    return generator_loss(Plain(), z, fake, fake, real)


def test_mode_seeking_is_the_ratio_of_mean_distances():
    """Pairs (0, 2) and (1, 3): samples 4 and 2 apart, of 2 numbers (4 + 2 + 2 + 0) / 4 = 2; z 1 and 3 apart, 2."""
    z = torch.tensor([[0.0], [0], [1], [3], [99]])
    fake = torch.tensor([[0.0, 0], [5, 5], [4, 2], [7, 5], [99, 99]])
    assert evaluate(ModeSeeking(1), fake, z=z).item() == pytest.approx(1 / (2 / 2 + 0.5e-5))
    assert evaluate(ModeSeeking(3), fake, z=2 * z).item() == pytest.approx(3 / (2 / 4 + 0.5e-5))


@pytest.mark.parametrize("spread", [0.5, 1e-6])
def test_mode_seeking_has_the_authors_share_in_gs_loss(spread):
    """MSGAN: pixels in [-1, 1], two means of BCE, one for each latent vector of the pairs, and 1 / (ratio + 1e-5).

    Our G's loss is half of theirs in all, a factor that Adam ignores; also where samples are nearly equal.
    """
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(8, 3, generator=rng, dtype=torch.float64)
    fake = 0.5 + spread * (torch.rand(8, 5, generator=rng, dtype=torch.float64) - 0.5)
    scores = torch.randn(8, generator=rng, dtype=torch.float64)
    pixels = 2 * fake.numpy() - 1
    ratio = np.abs(pixels[4:] - pixels[:4]).mean() / np.abs((z[4:] - z[:4]).numpy()).mean()
    fooling = np.log1p(np.exp(-scores.numpy()))
    authors = fooling[:4].mean() + fooling[4:].mean() + 1 / (ratio + 1e-5)
    ours = BCE().g(scores).mean() + evaluate(ModeSeeking(), fake, z=z)
    assert ours.item() == pytest.approx(authors / 2, rel=1e-12)


def test_mode_seeking_of_a_collapsed_g_is_finite():
    z, fake = torch.randn(4, 3), torch.zeros(4, 2, requires_grad=True)
    value = evaluate(ModeSeeking(), fake, z=z)
    assert value.item() == pytest.approx(0.25 / 0.5e-5)
    (gradient,) = torch.autograd.grad(value, fake)
    assert gradient.isfinite().all()
    with refused("conflict", "remedy.mode_seeking"):
        evaluate(ModeSeeking(), fake[:1], z=z[:1])


def test_mode_seeking_compares_gs_samples_not_ds_inputs():
    z, fake = torch.tensor([[0.0], [1]]), torch.tensor([[0.0], [1]])
    d_inputs = torch.full((1, 2), 9.0)  # a pack
    assert ModeSeeking(1)(Plain(), z, fake, d_inputs, d_inputs).item() == pytest.approx(1 / (1 + 0.5e-5))


def test_feature_matching_is_the_squared_distance_of_means():
    fake, real = torch.tensor([[0.0, 0], [2, 4]]), torch.tensor([[4.0, 0], [4, 2], [4, 1]])
    assert evaluate(FeatureMatching(2), fake, real).item() == pytest.approx(2 * (3**2 + 1**2))
    assert FeatureMatching.replaces_adversarial
    assert not any(generator_loss.replaces_adversarial for generator_loss in (ModeSeeking, GDPP))


def _kernel(c, pair):
    """Three samples of length 1, of which a pair has the cosine c and the third stands apart."""
    rows = torch.eye(3, dtype=torch.float64)
    rows[pair[1]] = 0
    rows[pair[1], pair[0]], rows[pair[1], pair[1]] = c, math.sqrt(1 - c * c)
    return rows


def test_gdpp_of_the_same_pair():
    """Eigenvalues 1 − c, 1 and 1 + c: λ̂ = 0, ½ and 1; all directions agree."""
    value = evaluate(GDPP(), 3 * _kernel(0.2, (0, 1)), _kernel(0.5, (0, 1)))
    assert value.item() == pytest.approx(1e-4 * (0.3**2 + 0.3**2) / 3 - (1 / 2 + 1), abs=1e-12)


def test_gdpp_of_another_pair():
    """(1, 1, 0)/√2 and (0, 1, 1)/√2 have the cosine ½, as have those of the smallest, weighted 0; e₃ and e₁ have 0."""
    value = evaluate(GDPP(2), _kernel(0.2, (1, 2)), _kernel(0.5, (0, 1)))
    assert value.item() == pytest.approx(2 * (1e-4 * 2 * 0.3**2 / 3 - 1 / 2), abs=1e-12)


def test_gdpp_of_any_batches_whatever_the_eigenvectors_signs():
    """An independent computation: squared cosines are traces of products of projections."""
    fake, real = torch.randn(2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy()
    spectra = []
    for rows in (fake, real):
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        left, singular, _ = np.linalg.svd(rows)
        spectra.append((singular**2, [np.outer(v, v) for v in left.T]))
    (fake_values, fake_projections), (real_values, real_projections) = spectra
    cosines = np.array([np.trace(p @ q) ** 0.5 for p, q in zip(fake_projections, real_projections, strict=True)])
    scaled_values = (real_values - real_values.min()) / (real_values.max() - real_values.min())
    value = evaluate(GDPP(), torch.from_numpy(fake), torch.from_numpy(real))
    assert value.item() == pytest.approx(1e-4 * ((fake_values - real_values) ** 2).mean() - scaled_values @ cosines)


def test_gdpps_gradient_is_that_of_differences():
    generator = torch.Generator().manual_seed(0)
    fake, real = torch.randn(2, 4, 6, dtype=torch.float64, generator=generator)
    generator_loss = GDPP(1e4)  # so that both terms count
    fake.requires_grad_()
    (gradient,) = torch.autograd.grad(evaluate(generator_loss, fake, real), fake)
    for place in ((0, 0), (1, 3), (3, 5)):
        step = torch.zeros_like(fake)
        step[place] = 1e-5
        with torch.no_grad():
            difference = (
                evaluate(generator_loss, fake + step, real) - evaluate(generator_loss, fake - step, real)
            ) / 2e-5
        assert gradient[place].item() == pytest.approx(difference.item(), rel=1e-3)


@pytest.mark.parametrize("kind", ["few features", "collapsed", "dead"])
def test_gdpp_survives_equal_eigenvalues(kind):
    """A batch of 32 in 5 dimensions has 27 eigenvalues that are 0; a collapsed one has 31."""
    torch.manual_seed(0)
    fake, real = torch.randn(2, 32, 5)
    if kind == "collapsed":
        fake = fake[:1].expand(32, 5).clone()
    if kind == "dead":
        fake, real = torch.zeros(2, 32, 5)
    fake.requires_grad_()
    value = evaluate(GDPP(), fake, real)
    (gradient,) = torch.autograd.grad(value, fake)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e3


@pytest.mark.parametrize("generator_loss", [ModeSeeking(), FeatureMatching(), GDPP()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_value_for_each_replica(generator_loss, dtype):
    torch.manual_seed(0)
    z, fake, real = torch.randn(3, 4, 6, 5, dtype=dtype)
    values = generator_loss(Plain(), z, fake, fake, real)
    assert values.shape == (4,)
    assert values.dtype == dtype
    one_by_one = torch.stack([generator_loss(Plain(), z[i], fake[i], fake[i], real[i]) for i in range(4)])
    torch.testing.assert_close(values, one_by_one)


def test_mode_seeking_takes_images():
    z, images = torch.randn(2, 4, 3), torch.rand(2, 4, 1, 8, 8)
    flat = evaluate(ModeSeeking(), images.flatten(2), z=z)
    torch.testing.assert_close(evaluate(ModeSeeking(), images, z=z), flat)


@pytest.mark.parametrize("generator_loss", [ModeSeeking(), FeatureMatching(), GDPP()])
def test_gradients_reach_g_and_are_finite(generator_loss):
    torch.manual_seed(0)
    generator = mlp.Generator((2,), 3, False, (8,), nn.Tanh, norms.NoNorm())
    discriminator = mlp.Discriminator((2,), (8, 8), nn.LeakyReLU, norms.LayerNorm()).requires_grad_(False)
    z = torch.randn(6, 3)
    fake = generator(z)
    generator_loss(discriminator, z, fake, fake, torch.randn(6, 2)).backward()
    for p in list(generator.parameters())[:-1]:  # moving all samples alike changes no distance
        assert p.grad.isfinite().all()
        assert p.grad.any()


def test_top_k_keeps_what_d_scores_highest():
    scores = torch.tensor([[4.0, 1, 3, 2], [5, 8, 7, 6]], requires_grad=True)
    top = TopK(fraction=0.25, steps=100)
    assert torch.equal(top.select(scores, None, 0)[0], scores)
    assert sorted(top.select(scores, None, 50)[0][0].tolist()) == [3, 4], "4 · 0.25^½ = 2"
    for step in (100, 10_000):
        best, real = top.select(scores, None, step)
        assert best.tolist() == [[4], [8]]
        assert real is None
    (gradient,) = torch.autograd.grad(top.select(scores, None, 100)[0].sum(), scores)
    assert gradient.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]


def test_top_k_ranks_by_ds_score_whatever_the_loss():
    """Pairs (fake 3, real 9) and (fake 1, real 0): the loss of the second is smaller, the score of the first larger.

    Least squares are smallest at a score of 1, and a score of 3 is still the highest.
    """
    fake, real = torch.tensor([3.0, 1]), torch.tensor([9.0, 0])
    top = TopK(fraction=0.5, steps=1)
    best = top.select(fake, real, 1)
    assert [scores.tolist() for scores in best] == [[3], [9]]
    assert Relativistic().g(fake, real).argmin() == 1
    assert Relativistic().g(*best).tolist() == pytest.approx([math.log1p(math.exp(9 - 3))])
    assert LSGAN().g(fake).argmin() == 1
    assert LSGAN().g(best[0]).tolist() == [(3 - 1) ** 2 / 2]


def test_top_k_falls_as_the_papers():
    """0.99 an epoch for 69 epochs is 0.4998."""
    top, values = TopK(0.5, steps=69), torch.zeros(1000)
    for epoch in (1, 20, 60):
        assert len(top.select(values, None, epoch)[0]) == pytest.approx(1000 * 0.99**epoch, abs=1.5)
    assert len(top.select(values, None, 500)[0]) == 500
    for fraction, steps in ((0, 5), (1.1, 5), (0.5, 0)):
        with refused("invalid", "remedy.top_k"):
            TopK(fraction, steps)
