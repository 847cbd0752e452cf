"""What D is shown: shapes, sizes and places worked by hand; gradients that go through."""

import pytest
import torch
from conftest import refused

from gan_lab.core.rng import StepRNG
from gan_lab.gan.remedies.input_transforms import DiffAugment, InstanceNoise, Pack, sample_ndim


def step_rng(seed=0):
    return StepRNG([seed], (), "test", 0, torch.device("cpu"))


@pytest.mark.parametrize(("shape", "axes"), [((7, 2), 1), ((3, 7, 2), 1), ((7, 1, 28, 28), 3), ((3, 7, 1, 28, 28), 3)])
def test_sample_ndim(shape, axes):
    assert sample_ndim(torch.empty(shape)) == axes


def test_instance_noise_falls_to_nothing():
    noise, samples = InstanceNoise(std=0.4, steps=100), torch.zeros(40, 25)
    for step, std in ((0, 0.4), (50, 0.2), (75, 0.1)):
        d_input = noise(samples, step, step_rng())
        assert d_input.std().item() == pytest.approx(std, rel=0.1)
        assert d_input.mean().item() == pytest.approx(0, abs=4 * std / 1000**0.5)
    for step in (100, 5000):
        assert torch.equal(noise(samples, step, step_rng()), samples)
    assert noise.output_shape([1, 28, 28]) == (1, 28, 28)


def test_pack_puts_neighbours_side_by_side():
    points = torch.arange(12.0).view(6, 2)
    assert Pack(3)(points, 0, step_rng()).tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert Pack(3).output_shape((2,)) == (6,)
    assert torch.equal(Pack(1)(points, 0, step_rng()), points)


def test_pack_stacks_images_as_channels():
    images = torch.randn(2, 6, 3, 4, 5)  # two replicas
    packs = Pack(2)(images, 0, step_rng())
    assert packs.shape == (2, 3, *Pack(2).output_shape((3, 4, 5))) == (2, 3, 6, 4, 5)
    assert torch.equal(packs[1, 2, :3], images[1, 4])
    assert torch.equal(packs[1, 2, 3:], images[1, 5])
    assert Pack(2)(torch.randn(2, 6, 7), 0, step_rng()).shape == (2, 3, 14)


def test_pack_refuses_what_it_cannot_divide():
    with refused("conflict", "remedy.pac.m") as error:
        Pack(3)(torch.zeros(7, 2), 0, step_rng())
    assert "such as 9." in str(error.value)
    with refused("invalid", "remedy.pac.m"):
        Pack(0)


def test_instance_noise_refuses_nonsense():
    for std, steps in ((-0.1, 10), (0.1, 0)):
        with refused("invalid", "remedy.instance_noise"):
            InstanceNoise(std, steps)


def test_diff_augment_is_for_images():
    with refused("conflict", "remedy.diffaugment"):
        DiffAugment().output_shape((2,))
    with refused("conflict", "remedy.diffaugment"):
        DiffAugment()(torch.zeros(3, 5, 2), 0, step_rng())
    with refused("unknown", "remedy.diffaugment.policy"):
        DiffAugment(["color", "flip"])
    assert DiffAugment().output_shape((3, 32, 32)) == (3, 32, 32)


def test_translation_moves_by_up_to_an_eighth():
    """One bright pixel in the middle of 16×16: it lands within 2 of it, each place about as often; grey enters."""
    images = torch.zeros(2000, 1, 16, 16)
    images[:, 0, 8, 8] = 1
    d_input = DiffAugment(["translation"])(images, 0, step_rng())
    counts = (d_input[:, 0] == 1).sum(0)
    assert counts.sum() == 2000
    assert counts[6:11, 6:11].sum() == 2000
    assert counts[6:11, 6:11].min() > 40, "25 places, 80 images each"
    assert set(d_input.unique().tolist()) == {0, 0.5, 1}
    rows = (d_input[:, 0, :, 8] == 0.5).all(1)  # none: at most 2 rows entered
    assert not rows.any()
    assert (d_input[:, 0] == 0.5).flatten(1).sum(1).max() == 16 * 16 - 14 * 14


def test_cutout_blanks_a_square_of_half_the_side():
    """Of 8×8 at most 4×4, all 16 where its middle is at 2 to 6 of 0 to 8; medium grey."""
    d_input = DiffAugment(["cutout"])(torch.ones(900, 3, 8, 8), 0, step_rng())
    assert torch.equal(d_input[:, 0], d_input[:, 2])
    assert set(d_input.unique().tolist()) == {0.5, 1}
    blank = d_input[:, 0] == 0.5
    sizes = blank.flatten(1).sum(1)
    assert sizes.max() == 16
    assert sizes.min() == 4, "in a corner"
    assert (sizes == 16).float().mean().item() == pytest.approx(25 / 81, abs=0.06)
    heights, widths = blank.any(2).sum(1), blank.any(1).sum(1)
    assert torch.equal(heights * widths, sizes), "a rectangle"


def test_color_changes_brightness_saturation_and_contrast():
    """In [−1, 1] the mean moves by up to ½, so in [0, 1] by a quarter; differences within a pixel by a factor up to
    2 · 3/2, those between pixels of grey by ½ to 3/2."""
    grey = torch.tensor([0.25, 0.75]).view(1, 1, 1, 2).expand(2000, 3, 1, 2)
    d_input = DiffAugment(["color"])(grey, 0, step_rng())
    moved = d_input.mean((1, 2, 3)) - 0.5
    assert 0.24 < moved.max() <= 0.25
    assert -0.25 <= moved.min() < -0.24
    contrast = (d_input[:, 0, 0, 1] - d_input[:, 0, 0, 0]) / 0.5
    assert 0.5 <= contrast.min() < 0.51
    assert 1.49 < contrast.max() <= 1.5
    coloured = torch.tensor([0.0, 0.5, 1]).view(1, 3, 1, 1).expand(2000, 3, 1, 1)
    d_input = DiffAugment(["color"])(coloured, 0, step_rng())
    spread = d_input[:, 2, 0, 0] - d_input[:, 0, 0, 0]
    assert spread.min() < 0.05
    assert 2.5 < spread.max() <= 3


@pytest.mark.parametrize("transform", [InstanceNoise(), DiffAugment(), Pack(2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("leading", [(4,), (3, 4)])
def test_gradients_go_through_and_samples_stay_apart(transform, dtype, leading):
    samples = torch.rand(*leading, 1, 8, 8, dtype=dtype, requires_grad=True)
    d_input = transform(samples, 0, step_rng())
    assert d_input.dtype == dtype
    assert d_input.shape[-3:] == transform.output_shape((1, 8, 8))
    first = d_input[(0,) * len(leading)]
    (gradient,) = torch.autograd.grad(first.sum(), samples)
    assert gradient.isfinite().all()
    reached = gradient.flatten(-3).any(-1).flatten().nonzero().flatten().tolist()
    assert reached == list(range(transform.m if isinstance(transform, Pack) else 1)), (
        "what D sees first is of the first samples"
    )
    again = transform(samples, 0, step_rng())
    assert torch.equal(d_input, again)
    if not isinstance(transform, Pack):
        assert not torch.equal(d_input, transform(samples, 0, step_rng(1)))
        flat = d_input.flatten(0, -4) - samples.flatten(0, -4)
        assert not torch.allclose(flat[0], flat[1]), "each sample has its own draws"
