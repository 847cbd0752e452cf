"""What counts as a sample of a mode."""

import pytest
import torch
from conftest import classifier_cache

from gan_lab.core.rng import make_generator
from gan_lab.data import images, synthetic
from gan_lab.data.dataset import Dataset, Part
from gan_lab.evaluation.classifier import label_classifier
from gan_lab.evaluation.readers import RangeReader, Reader, reader_for


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return images.digits()


@pytest.fixture(scope="module")
def reader(digits) -> Reader:
    return reader_for(digits, label_classifier(digits, classifier_cache()))


def noise(number: int) -> torch.Tensor:
    return torch.rand(number, 1, 8, 8, generator=make_generator(0, "test/noise"))


def test_points_count_within_three_standard_deviations():
    ring = synthetic.ring(samples=10)
    points = ring.centres[[2, 2, 5]] + torch.tensor([[0.0, 0.0], [0.0, 0.031], [0.029, 0.0]])
    reading = reader_for(ring, None)(points)
    assert reading.modes.tolist() == [2, 2, 5]
    assert reading.in_range.tolist() == [True, False, True]
    assert reading.junk == pytest.approx(1 / 3)


def test_the_limit_lets_98_percent_of_held_out_images_pass(digits, reader):
    reading = reader(digits.heldout[torch.arange(360)])
    assert reading.in_range.double().mean().item() == pytest.approx(0.98, abs=0.005)
    assert (reading.second_modes == digits.heldout.labels).double().mean() > 0.97
    assert (reading.modes == digits.heldout.labels).double().mean() > 0.97


def test_training_images_are_their_own_neighbours(digits, reader):
    reading = reader(digits.train[torch.arange(200)])
    assert torch.equal(reading.second_modes, digits.train.labels[:200])
    assert reading.in_range.all()


@pytest.mark.parametrize("case", ["noise", "shuffled pixels", "inverted", "rotated"])
def test_what_is_no_digit_is_out_of_range(digits, reader, case):
    real = digits.heldout[torch.arange(360)]
    order = torch.rand(360, 64, generator=make_generator(0, "test/order")).argsort(1)
    samples = {
        "noise": noise(360),
        "shuffled pixels": real.flatten(1).gather(1, order).view_as(real),
        "inverted": 1 - real,
        "rotated": real.rot90(1, (2, 3)),
    }[case]
    assert reader(samples).in_range.double().mean() < 0.1


def test_noise_that_the_components_do_not_see_is_out_of_range(digits):
    """The residual: an image plus what is orthogonal to all components has the components of the image."""
    reader = RangeReader(digits, None)
    real = digits.heldout[torch.arange(100)]
    added = 0.3 * (noise(100) - 0.5)
    hidden = added.flatten(1) - added.flatten(1) @ reader.components.axes.T @ reader.components.axes
    changed = real + 20 * hidden.view_as(real)
    torch.testing.assert_close(reader.points(changed), reader.points(real), atol=1e-4, rtol=0)
    assert reader(changed).in_range.double().mean() < 0.1


def test_of_few_held_out_images_nobody_can_say_where_the_data_end(digits):
    part = Part(digits.train.values[:100])
    reading = RangeReader(Dataset(part, Part(digits.heldout.values[:19])), None)(noise(5))
    assert not reading.has_limit
    assert reading.in_range.all()
    assert reading.modes.tolist() == [0] * 5


def test_stacked_images_are_read_channel_by_channel(digits):
    stacked = images.stacked_digits(samples=2_000)
    reader = reader_for(stacked, label_classifier(stacked, classifier_cache()))
    samples = stacked.heldout[torch.arange(500)]
    reading = reader(samples)
    assert (reading.modes == stacked.heldout.labels[:500]).double().mean() > 0.9
    assert reading.in_range.double().mean() > 0.94
    samples[:, 1] = noise(500)[:, 0]
    spoilt = reader(samples)
    assert not spoilt.in_range.any(), "one channel of noise is enough"
    assert spoilt.junk == pytest.approx(1 / 3, abs=0.03)
    assert reading.points.shape == (500, 120)
