"""Latent vectors, and the independence of streams."""

import pytest
import torch

from gan_lab import latent
from gan_lab.streams import stream

SHAPE = (4000, 3)


def test_normal():
    z = latent.Normal()(SHAPE, stream(0, "test"))
    assert z.shape == SHAPE
    assert z.mean().item() == pytest.approx(0, abs=4 / 12000**0.5)
    assert z.std().item() == pytest.approx(1, abs=0.03)


def test_uniform_fills_its_interval():
    z = latent.Uniform(-2, 3)(SHAPE, stream(0, "test"))
    assert z.min().item() == pytest.approx(-2, abs=0.01)
    assert z.max().item() == pytest.approx(3, abs=0.01)
    assert z.mean().item() == pytest.approx(0.5, abs=4 * (25 / 12 / 12000) ** 0.5)


def test_constant():
    assert latent.Constant(0.5)((2, 1), stream(0, "test")).tolist() == [[0.5], [0.5]]


def test_streams_depend_on_seed_purpose_and_index_and_on_nothing_else():
    torch.manual_seed(1)
    first = torch.rand(5, generator=stream(7, "a", 2))
    torch.rand(99)
    assert torch.equal(first, torch.rand(5, generator=stream(7, "a", 2)))
    for other in (stream(8, "a", 2), stream(7, "b", 2), stream(7, "a", 3)):
        assert not torch.equal(first, torch.rand(5, generator=other))


def test_drawing_leaves_the_global_stream_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    latent.Normal()((10, 2), stream(0, "x"))
    latent.Uniform()((10, 2), stream(0, "x"))
    assert torch.equal(torch.rand(3), expected)
