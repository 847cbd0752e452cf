"""Latent vectors, and the independence of streams."""

import math

import pytest
import torch
from conftest import refused

from gan_lab.core.rng import make_generator
from gan_lab.gan import latent

SHAPE = (4000, 3)


def test_normal():
    z = latent.Normal()(SHAPE, make_generator(0, "test"))
    assert z.shape == SHAPE
    assert z.mean().item() == pytest.approx(0, abs=4 / 12000**0.5)
    assert z.std().item() == pytest.approx(1, abs=0.03)


def test_a_mixture_has_all_corners_and_nothing_between_them():
    """Each of 2³ corners gets an eighth; around it the components have the standard deviation 0.1."""
    z = latent.Mixture(0.1)((8000, 3), make_generator(0, "test"))
    corners = z.sign()
    numbers = ((corners + 1) / 2 @ torch.tensor([1.0, 2, 4])).long()
    assert torch.bincount(numbers).tolist() == pytest.approx([1000] * 8, abs=120)
    assert (z - corners).std().item() == pytest.approx(0.1, rel=0.02)
    assert (z - corners).mean().item() == pytest.approx(0, abs=0.003)
    assert z.abs().min() > 0.5
    assert z.square().mean().item() == pytest.approx(latent.Mixture(0.1).mean_square, rel=0.01)


def test_truncation_keeps_a_mixture_near_its_corners():
    """At most 0.5 standard deviations of 0.2 from −1 or 1; the components of a normal distribution that is cut at ±0.5
    have the variance 1 − 2 · 0.5 · φ(0.5) / (2 Φ(0.5) − 1) = 0.0806."""
    z = latent.Truncated(latent.Mixture(0.2), 0.5)(SHAPE, make_generator(0, "test"))
    offsets = z - z.sign()
    assert offsets.abs().max() <= 0.1 + 1e-6
    assert offsets.var().item() == pytest.approx(0.0806 * 0.04, rel=0.05)
    assert (z.sign() == 1).double().mean().item() == pytest.approx(0.5, abs=0.03)


def test_uniform_fills_its_interval():
    z = latent.Uniform(-2, 3)(SHAPE, make_generator(0, "test"))
    assert z.min().item() == pytest.approx(-2, abs=0.01)
    assert z.max().item() == pytest.approx(3, abs=0.01)
    assert z.mean().item() == pytest.approx(0.5, abs=4 * (25 / 12 / 12000) ** 0.5)


def test_constant():
    assert latent.Constant(0.5)((2, 1), make_generator(0, "test")).tolist() == [[0.5], [0.5]]


def test_streams_depend_only_on_seed_purpose_and_index():
    torch.manual_seed(1)
    first = torch.rand(5, generator=make_generator(7, "a", 2))
    torch.rand(99)
    assert torch.equal(first, torch.rand(5, generator=make_generator(7, "a", 2)))
    for other in (make_generator(8, "a", 2), make_generator(7, "b", 2), make_generator(7, "a", 3)):
        assert not torch.equal(first, torch.rand(5, generator=other))


def test_drawing_does_not_change_the_global_stream():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    latent.Normal()((10, 2), make_generator(0, "x"))
    latent.Uniform()((10, 2), make_generator(0, "x"))
    assert torch.equal(torch.rand(3), expected)


def vectors(*rows):
    return [torch.tensor(row, dtype=torch.float32) for row in rows]


def test_the_straight_line():
    a, b, t = vectors([0, 2, -4], [4, 0, 0], [0, 0.25, 0.5, 1])
    assert latent.linear(a, b, t).tolist() == [[0, 2, -4], [1, 1.5, -3], [2, 1, -2], [4, 0, 0]]


def test_the_arc_between_orthogonal_vectors():
    a, b, t = vectors([1, 0, 0], [0, 1, 0], [0, 1 / 3, 0.5, 1])
    points = latent.slerp(a, b, t)
    assert points[0].tolist() == [1, 0, 0]
    assert points[3].tolist() == [0, 1, 0]
    assert points[1].tolist() == pytest.approx([math.cos(math.pi / 6), 0.5, 0], abs=1e-6), "a third of 90° is 30°"
    assert points[2].tolist() == pytest.approx([1 / math.sqrt(2), 1 / math.sqrt(2), 0], abs=1e-6)


def test_the_arc_keeps_the_length_and_its_ends_are_exact():
    a, b = latent.Normal()((2, 50), make_generator(0, "test"))
    b = b * (a.norm() / b.norm())
    points = latent.slerp(a, b, torch.linspace(0, 1, 7))
    assert torch.equal(points[[0, -1]], torch.stack([a, b]))
    assert points.norm(dim=1).tolist() == pytest.approx([a.norm().item()] * 7, rel=1e-5)
    turns = torch.nn.functional.cosine_similarity(points[:-1], points[1:]).acos().tolist()
    assert turns == pytest.approx([turns[0]] * 6, rel=1e-3), "equal steps are equal angles"
    assert latent.linear(a, b, torch.tensor([0.5])).norm() < 0.9 * a.norm(), "which the line doesn't"


def test_the_arc_between_vectors_of_unequal_length():
    """Far off the line, and nearly opposite, where the formula for unit vectors would go far out."""
    a, b, t = vectors([3, 0], [-math.cos(0.1), math.sin(0.1)], [0, 0.25, 0.5, 0.75, 1])
    points = latent.slerp(a, b, t)
    assert torch.equal(points[[0, -1]], torch.stack([a, b]))
    assert points.norm(dim=1).tolist() == pytest.approx([3, 2.5, 2, 1.5, 1], rel=1e-5)
    angles = torch.atan2(points[:, 1], points[:, 0]).tolist()
    assert angles == pytest.approx([0.25 * k * (math.pi - 0.1) for k in range(5)], abs=1e-5)


@pytest.mark.parametrize("b", [[2.0, 0, 0], [1, 1e-7, 0], [1 + 1e-7, 0, 0], [0, 0, 0], [1, 0, 0]])
def test_between_parallel_vectors_the_arc_is_the_line(b):
    a, b, t = vectors([1, 0, 0], b, [0, 0.5, 1])
    assert torch.allclose(latent.slerp(a, b, t), latent.linear(a, b, t), atol=1e-7)
    assert torch.allclose(latent.slerp(b, a, t), latent.linear(b, a, t), atol=1e-7)


@pytest.mark.parametrize("a", [[1.0, 0, 0], [0, -3, 0], [1, 1, 1], [0.1, 2, -5]])
def test_between_opposite_vectors_the_arc_goes_around(a):
    a, t = vectors(a, [0, 0.25, 0.5, 0.75, 1])
    points = latent.slerp(a, -a, t)
    assert torch.equal(points[[0, -1]], torch.stack([a, -a]))
    assert points.norm(dim=1).tolist() == pytest.approx([a.norm().item()] * 5, rel=1e-5)
    assert (points @ a / (a @ a)).tolist() == pytest.approx([1, math.sqrt(0.5), 0, -math.sqrt(0.5), -1], abs=1e-5)


def test_in_one_dimension_there_is_no_way_around():
    a, b, t = vectors([1], [-1], [0, 0.5, 1])
    assert latent.slerp(a, b, t).tolist() == [[1], [0], [-1]]


def test_normalised_vectors_have_the_length_and_keep_the_direction():
    z = torch.tensor([[3.0, 4.0], [-0.3, 0.4], [0.0, 0.0]])
    assert latent.normalise(z, 10).tolist() == [pytest.approx([6, 8]), pytest.approx([-6, 8]), [0, 0]]
    many = latent.normalise(latent.Normal()((200, 32), make_generator(0, "test")), math.sqrt(32)).double().norm(dim=1)
    assert many.tolist() == pytest.approx([math.sqrt(32)] * 200, rel=1e-6)


@pytest.mark.parametrize(
    ("distribution", "length"),
    [
        (latent.Normal(), math.sqrt(12)),
        (latent.Uniform(-1, 1), 2.0),
        (latent.Uniform(0, 1), 2.0),
        (latent.Constant(-0.5), math.sqrt(3)),
    ],
)
def test_the_typical_norm(distribution, length):
    assert latent.typical_norm(distribution, 12) == pytest.approx(length)
    drawn = distribution((20_000, 12), make_generator(0, "test"))
    assert drawn.norm(dim=1).square().mean().sqrt().item() == pytest.approx(length, rel=0.01)


def test_a_foreign_distribution_has_no_typical_norm():
    with refused("unsupported", "latent"):
        latent.typical_norm(lambda shape, generator: torch.zeros(*shape), 3)


def test_a_closed_walk():
    corners = torch.tensor([[0.0, 0.0], [4.0, 0.0], [4.0, 2.0]])
    points = latent.closed_walk(corners, 2, latent.linear)
    assert points.tolist() == [[0, 0], [2, 0], [4, 0], [4, 1], [4, 2], [2, 1]], "the last leads back to the first"
