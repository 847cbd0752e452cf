"""The spaces in which images are compared: what each one sees, and which data allow which."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from conftest import classifier_cache, refused

from gan_lab.data import color, images, synthetic
from gan_lab.data.dataset import Dataset, Part
from gan_lab.evaluation.feature_spaces import PrincipalComponents, RandomNetwork, classifier_for, features_of
from gan_lab.evaluation.verdict import evaluator_for


@pytest.fixture(scope="module")
def unlabelled() -> Dataset:
    """Patches of photographs whose labels nobody knows."""
    dataset = color.patches(samples=1_500)
    return Dataset(Part(dataset.train.values), Part(dataset.heldout.values[::4]))


@pytest.fixture(scope="module")
def evaluator(unlabelled):
    return evaluator_for(unlabelled, classifier_cache())


def test_the_random_network_is_a_convolution_by_hand():
    """One 4x4 image of one channel: each filter's response at a quarter is a sum of products, negative ones cut off."""
    network, image = RandomNetwork((1, 4, 4)), torch.arange(16.0).reshape(1, 1, 4, 4) / 15
    padded = F.pad(image - 0.5, (1, 1, 1, 1))[0, 0]
    by_hand = [
        max(0.0, (padded[2 * y : 2 * y + 4, 2 * x : 2 * x + 4] * weights[0]).sum().item())
        for weights in network.filters[0]
        for y in (0, 1)
        for x in (0, 1)
    ]
    assert network(image)[0].tolist() == pytest.approx(by_hand, abs=1e-6)


def test_the_random_network_is_always_the_same_and_sees_every_scale():
    torch.manual_seed(7)
    first = RandomNetwork((3, 64, 64))
    assert [filters.shape[0] for filters in first.filters] == [16] * 4, "64, 32, 16, 8 pixels"
    x = torch.rand(250, 3, 64, 64)
    assert torch.equal(first(x), RandomNetwork((3, 64, 64))(x))
    assert first(x).shape == (250, 4 * 16 * 4)


def test_principal_components_find_the_direction_that_varies():
    """Images that are dark or bright as a whole: the first component tells which, and nothing else differs."""
    bright = torch.rand(300, generator=torch.Generator().manual_seed(1))
    dataset = Dataset(*2 * [Part(bright[:, None, None, None].expand(300, 1, 4, 4).clone())])
    space = PrincipalComponents(dataset)
    component = space(dataset.train[torch.arange(300)])[:, 0]
    assert torch.allclose(component.abs(), 4 * (bright - bright.mean()).abs(), atol=1e-4), (
        "√16 pixels that move together"
    )
    assert "16 principal components of 300" in space.name


def test_images_without_labels_get_a_verdict(evaluator, unlabelled):
    real = unlabelled.heldout[torch.arange(1_000)]
    fresh = evaluator.evaluate(real)
    assert (fresh.verdict["collapse"], fresh.verdict["likeness"], fresh.verdict["copies"]) == ("covered", "good", False)
    assert "random convolutional network" in fresh.features
    assert "evaluator_accuracy" not in fresh.metrics
    assert fresh.metrics["ndb"] < 0.3, "few samples in many bins"


SLOW = [pytest.param(case, marks=pytest.mark.slow) for case in ("plain colours", "blends", "stripes")]


@pytest.mark.parametrize("case", ["few", "one photograph", "noise", *SLOW])
def test_what_is_wrong_with_images_without_labels_is_seen(evaluator, unlabelled, case):
    real = unlabelled.heldout[torch.arange(len(unlabelled.heldout))]
    flowers = real[500:]
    generator = torch.Generator().manual_seed(0)
    stripes = torch.tensor([0.1, -0.1]).repeat(16)
    samples = {
        "few": real[torch.randint(0, 1_000, (10,), generator=generator)].repeat(100, 1, 1, 1),
        "one photograph": flowers,
        "noise": torch.rand(1_000, 3, 32, 32, generator=generator),
        "plain colours": real.mean((2, 3), keepdim=True).expand_as(real),
        "blends": (real[:500] + flowers) / 2,
        "stripes": (real + stripes).clamp(0, 1),
    }[case]
    result = evaluator.evaluate(samples)
    words = (result.verdict["collapse"], result.verdict["likeness"])
    assert words != ("covered", "good"), result.verdict["sentence"]
    if case == "few":
        assert result.verdict["collapse"] == "collapsed"


def test_which_data_allow_which_space(unlabelled):
    digits = images.digits()
    network = classifier_for(digits, classifier_cache())
    assert "label classifier" in features_of(digits, network, None).name
    assert "random" in features_of(digits, network, "random").name
    with refused("unsupported", "features"):
        features_of(unlabelled, None, "evaluator")
    with refused("unsupported", "features"):
        features_of(synthetic.ring(samples=10), None, "pca")


def test_the_label_classifier_gives_the_labels_in_every_space():
    evaluator = evaluator_for(images.digits(), classifier_cache(), "pca")
    result = evaluator.evaluate(evaluator.dataset.heldout[torch.arange(300)])
    assert result.metrics["modes"] == 10
    assert "principal components" in result.features
