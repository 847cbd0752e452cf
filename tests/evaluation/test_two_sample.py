"""The two-sample test, against numbers worked by hand and fabricated failures."""

import pytest
import torch
from scipy.stats import mannwhitneyu

from gan_lab.data import images
from gan_lab.evaluation.feature_spaces import PrincipalComponents, RandomNetwork
from gan_lab.evaluation.metrics.registry import Undefined
from gan_lab.evaluation.metrics.two_sample import GlanceFeatures, PointFeatures, auc, auc_error, shrink, two_sample_auc


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_the_auc_is_mann_whitneys_u():
    high, low = normal(50, 1, 0)[:, 0] + 0.5, normal(40, 1, 1)[:, 0]
    high[:5] = low[:5]
    assert auc(high, low) == pytest.approx(mannwhitneyu(high, low).statistic / (50 * 40))
    assert auc(torch.tensor([1.0]), torch.tensor([1.0])) == 0.5


def test_the_error_of_an_auc_by_hand():
    """Hanley & McNeil at 0.5 and n = m: Q₁ = 0.5 / 1.5 = 1/3, Q₂ = 0.5 / 1.5 = 1/3, so (1/4 + (2n − 2)/12) / n²."""
    assert auc_error(0.5, 100, 100) == pytest.approx(((0.25 + 198 / 12) / 10_000) ** 0.5)
    assert auc_error(1.0, 100, 100) == 0


def test_equal_and_different_distributions():
    real, more = normal(1_000, 5, 0), normal(1_000, 5, 1)
    fake, other = normal(1_000, 5, 2), normal(1_000, 5, 3)
    value, error = two_sample_auc((real, fake), (more, other))
    assert value == pytest.approx(0.5, abs=4 * error)
    shift = torch.tensor([2.0, 0, 0, 0, 0])
    value, error = two_sample_auc((real, fake + shift), (more, other + shift))
    # Two Gaussians at 2 standard deviations: Φ(2 / √2) = 0.921.
    assert value == pytest.approx(0.921, abs=4 * error)
    with pytest.raises(Undefined):
        two_sample_auc((real, fake), (more[:19], other))


def test_people_and_the_test_agree_on_digits():
    dataset = images.digits()
    train = dataset.train[torch.arange(700)]
    heldout = dataset.heldout[torch.arange(360)]
    fresh = dataset.train[torch.arange(700, 1_400)]
    network = RandomNetwork(tuple(shrink(train[:1]).shape[1:]))

    def auc_of(fakes: torch.Tensor) -> float:
        features = GlanceFeatures(network, PrincipalComponents(dataset, 40))
        learn = features(train[:350]), features(fakes[:350])
        return two_sample_auc(learn, (features(heldout), features(fakes[350:])))[0]

    assert auc_of(fresh) < 0.6
    assert auc_of((fresh * 8).round() / 8) < 0.7, "nine grey levels"
    assert auc_of((fresh > 0.5).float()) > 0.95, "black and white"
    blurred = torch.nn.functional.avg_pool2d(fresh, 3, 1, 1)
    assert auc_of(blurred) > 0.95


def test_points_on_a_circle_and_in_a_disc_differ():
    angle = 6.283 * torch.rand(4_000, generator=torch.Generator().manual_seed(0))
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    features = PointFeatures(circle)
    disc = circle * torch.rand(4_000, 1, generator=torch.Generator().manual_seed(1)).sqrt()
    parts = [features(part) for part in (circle[:1_000], disc[:1_000], circle[1_000:2_000], disc[1_000:2_000])]
    assert two_sample_auc((parts[0], parts[1]), (parts[2], parts[3]))[0] > 0.85
    same = [features(part) for part in circle.split(1_000)]
    assert two_sample_auc((same[0], same[1]), (same[2], same[3]))[0] < 0.56


def test_images_shrink_to_a_glance():
    assert shrink(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 32, 32)
    assert shrink(torch.zeros(1, 1, 28, 28)).shape == (1, 1, 28, 28)
    assert shrink(torch.zeros(1, 1, 8, 8)).shape == (1, 1, 8, 8)
