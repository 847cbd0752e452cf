"""What D answers everywhere and where G's loss falls: by hand for a linear D, and refused where there is no answer."""

import math

import pytest
import torch
from conftest import compose, refused
from torch import nn

from gan_lab.assembly.instantiate import build_data_and_gan
from gan_lab.training.landscape import ARROWS, compute_answers, compute_landscape, refusal

SMALL = ("dataset=ring", "dataset.samples=200", "model.depth=1", "model.width=8", "latent_dim=2")
WINDOW = (-1.0, 3.0, 0.0, 2.0)


class Linear(nn.Module):
    """D(x, y) = 2x − y + ½, whatever the batch."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, -1.0]))

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return samples @ self.weight + 0.5


def _gan(*overrides: str):
    """A GAN on a ring, latent vectors and real samples."""
    dataset, module = build_data_and_gan(compose(*SMALL, *overrides))
    rng = torch.Generator().manual_seed(1)
    return module, module.latent((70, module.latent_dim), rng), dataset.train[torch.arange(20)]


def _sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score))


def test_answers_and_pulls_of_a_linear_discriminator():
    module, z, real = _gan("loss=bce")
    module.discriminator = Linear()
    landscape = compute_landscape(module, WINDOW, z, real)
    # Corners, row by row from below: (−1, 0), (3, 0), (−1, 2), (3, 2).
    corners = [landscape.answers[0, 0], landscape.answers[0, -1], landscape.answers[-1, 0], landscape.answers[-1, -1]]
    assert [corner.item() for corner in corners] == pytest.approx([_sigmoid(s) for s in (-1.5, 6.5, -3.5, 4.5)])
    assert torch.equal(landscape.fakes, module.sample(z))
    assert len(landscape.starts) == ARROWS == 60
    # BCE: G pays softplus(−s), whose slope in s is −σ(−s); s falls along (2, −1).
    for start, pull in zip(landscape.starts[:5].tolist(), landscape.pulls[:5].tolist(), strict=True):
        slope = _sigmoid(-(2 * start[0] - start[1] + 0.5))
        assert pull == pytest.approx([2 * slope, -slope], rel=1e-4)


def test_the_pull_of_other_losses():
    for loss, expected in (("wasserstein", [2.0, -1.0]), ("hinge", [2.0, -1.0])):
        module, z, real = _gan(f"loss={loss}")
        module.discriminator = Linear()
        landscape = compute_landscape(module, WINDOW, z, real)
        assert landscape.pulls[3].tolist() == pytest.approx(expected)
        # Raw scores; neutral is the middle between the mean scores of real samples and of fakes.
        assert landscape.answers[0, 0].item() == pytest.approx(-1.5)
        means = [(points @ torch.tensor([2.0, -1.0]) + 0.5).mean().item() for points in (real, landscape.fakes)]
        assert landscape.scale.neutral == pytest.approx(sum(means) / 2, rel=1e-4)
    module, z, real = _gan("loss=relativistic")
    module.discriminator = Linear()
    landscape = compute_landscape(module, WINDOW, z, real)
    # Sample 21 is paired with real sample 1: G pays softplus(r − f).
    score = (landscape.starts[21] @ module.discriminator.weight + 0.5).item()
    real_score = (real[1] @ module.discriminator.weight + 0.5).item()
    slope = _sigmoid(real_score - score)
    assert landscape.pulls[21].tolist() == pytest.approx([2 * slope, -slope], rel=1e-4)


def test_samples_are_those_of_the_averaged_weights():
    module, z, real = _gan("remedy=[ema]")
    with torch.no_grad():
        for parameter in module.generator.parameters():
            parameter += 1
    landscape = compute_landscape(module, WINDOW, z, real)
    assert torch.equal(landscape.fakes, module.averaged.network(z))
    assert not torch.equal(landscape.fakes, module.generator(z))


def test_latent_lines_are_images_of_a_grid():
    for overrides, lines in ((("latent_dim=1",), 1), ((), 18), (("latent_dim=3",), 0)):
        module, z, real = _gan(*overrides)
        landscape = compute_landscape(module, WINDOW, z, real)
        assert landscape.latent_lines.shape[0] == lines


@pytest.mark.parametrize("overrides", [("norm=spectral",), ("norm=layer", "remedy=[instance_noise]"), ("replicas=2",)])
def test_nothing_is_changed(overrides):
    module, z, real = _gan(*overrides)
    module.discriminator.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    random_state = torch.get_rng_state()
    single = module.member(module.replicas - 1)
    first = compute_landscape(single, WINDOW, z, real)
    second = compute_landscape(single, WINDOW, z, real)
    assert torch.equal(first.answers, second.answers)
    assert torch.equal(first.pulls, second.pulls)
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not module.discriminator.training
    assert module.generator.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in single.discriminator.parameters())


def test_a_conditional_gan_answers_for_the_class_that_fits_best():
    module, z, real = _gan("conditional=true")

    class ByClass(nn.Module):
        """D(x, y; class k) = k."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.arange(8.0))

        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            return samples[:, 2:] @ self.weight

    module.discriminator = ByClass()
    landscape = compute_landscape(module, WINDOW, z, real)
    assert landscape.answers.unique().tolist() == pytest.approx([_sigmoid(7)])


def test_a_loss_that_does_not_pay_for_the_answer_has_no_arrows():
    module, z, real = _gan("remedy=[feature_matching]")
    assert len(compute_landscape(module, WINDOW, z, real).starts) == 0
    assert len(compute_answers(module, z[:5], real[:5], None).pulls) == 0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("remedy=[pac]", "packs of 2 samples"),
        ("remedy=[minibatch_stddev]", "MinibatchStddev"),
        ("remedy=[minibatch_discrimination]", "MinibatchDiscrimination"),
        ("norm=batch", "norm=batch"),
    ],
)
def test_a_discriminator_that_looks_at_a_batch_is_refused_in_words(override, words):
    module, z, real = _gan(override)
    assert words in refusal(module)
    with refused("unsupported", "op"):
        compute_landscape(module, WINDOW, z, real)
