"""Penalties against gradients worked by hand."""

import math

import pytest
import torch
from conftest import refused
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from gan_lab.core.rng import StepRNG
from gan_lab.gan.losses import BCE, RelativisticAverage
from gan_lab.gan.networks import conv, mlp, norms
from gan_lab.gan.networks.minibatch_layers import MinibatchDiscrimination, MinibatchStddev
from gan_lab.gan.networks.replicated import Replicated
from gan_lab.gan.remedies import Remedies
from gan_lab.gan.remedies.input_transforms import DiffAugment, InputTransform, InstanceNoise, Pack
from gan_lab.gan.remedies.penalties import DRAGAN, R1, R2, WGANGP, LeCam
from gan_lab.gan.remedies.unrolled import Unrolled

ALL = [R1(10), R2(10), WGANGP(10), DRAGAN(10), LeCam(0.3, warmup_steps=0)]
NAMES = [type(penalty).__name__ for penalty in ALL]


class Linear(nn.Module):
    """w·x, summed over a sample of any shape."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(weight))

    def forward(self, x):
        return (x * self.weight).flatten(-self.weight.ndim).sum(-1)


class Recorder:
    """A linear D that keeps the input at which it was called."""

    def __init__(self, sample_ndim):
        self.sample_ndim = sample_ndim

    def __call__(self, x):
        self.inputs = x.detach()
        return x.flatten(-self.sample_ndim).sum(-1)


def half_square(x):
    """½‖x‖², whose slope is x."""
    return x.square().sum(-1) / 2


def step_rng(seed=0):
    return StepRNG([seed], (), "test", 0, torch.device("cpu"))


def penalise(penalty, discriminator, real, fake, remedies=None, seed=0, differentiable=True):
    """The penalty for samples that D has scored."""
    remedies = remedies or Remedies()
    batches = [remedies.score(discriminator, samples, 0, step_rng(), differentiable) for samples in (real, fake)]
    return penalty(discriminator, *batches, step_rng(seed))


def test_r1_and_r2_are_half_gamma_times_the_squared_slope():
    real, fake = torch.tensor([[3.0, 4], [0, 1]]), torch.tensor([[1.0, 2], [0, 0]])
    assert penalise(R1(10), half_square, real, fake).tolist() == pytest.approx([10 / 2 * 25, 10 / 2 * 1])
    assert penalise(R2(0.5), half_square, real, fake).tolist() == pytest.approx([0.5 / 2 * 5, 0])


def test_gamma_falls_to_its_end_and_stays_there():
    penalty = R2(gamma=0.02, end=0.0002, steps=100)
    assert [penalty.gamma_at(step) for step in (0, 50, 100, 150)] == pytest.approx([0.02, 0.002, 0.0002, 0.0002])
    real, fake = torch.tensor([[3.0, 4]]), torch.tensor([[1.0, 0]])
    penalty.start_step(50)
    assert penalise(penalty, half_square, real, fake).item() == pytest.approx(0.002 / 2)
    assert [R1(2.5).gamma_at(step) for step in (0, 10**6)] == [2.5, 2.5]
    for values in (dict(end=0.0), dict(gamma=0.0, end=1.0), dict(end=1.0, steps=0)):
        with refused("invalid", "remedy.r1.end"):
            R1(**values)


def test_a_published_gamma_is_four_times_that_for_pixels_between_0_and_1():
    """The same D, on y = 2x − 1: γ/2 ‖∇D(y)‖² with StyleGAN2's γ = 10, and R1 and R2 as they are by default here."""
    pixels = torch.rand(6, 5, dtype=torch.float64)
    scaled = (2 * pixels - 1).requires_grad_()
    (gradient,) = torch.autograd.grad(scaled.pow(3).sum(), scaled)
    published = 10 / 2 * gradient.square().sum(1)
    for penalty in (R1(), R2()):
        values = penalise(penalty, lambda x: (2 * x - 1).pow(3).sum(-1), pixels, pixels)
        torch.testing.assert_close(values, published)


class Threefold(InputTransform):
    """3x, plus a random number for each sample."""

    def __call__(self, samples, step, rng):
        return 3 * samples + rng.uniform((len(samples), 1), samples.dtype)


def test_r1_and_r2_are_taken_at_samples_before_the_transforms():
    """As in StyleGAN2-ADA and R3GAN, through the transform: d/dx w·(3x + u) = 3w. WGAN-GP is D's own slope, ‖w‖ = 5."""
    remedies = Remedies(input_transforms=(Threefold(),))
    real, fake = torch.randn(2, 6, 2)
    linear = Linear([3.0, 4.0])
    for penalty, value in ((R1(2), 9 * 25), (R2(2), 9 * 25), (WGANGP(10), 10 * 16), (DRAGAN(10), 10 * 16)):
        values = penalise(penalty, linear, real, fake, remedies)
        assert values.tolist() == pytest.approx([value] * 6), type(penalty).__name__


def test_r1_of_a_pack_is_that_of_all_its_samples():
    """½‖x‖² of a pack has the slope x: (3² + 4² + 1²), for one pack of two samples; with replicas as well."""
    remedies = Remedies(input_transforms=(Pack(2),))
    real = torch.tensor([[3.0, 4], [0, 1], [1, 0], [0, 0]])
    packs = remedies.transform(real, 0, step_rng())
    values = penalise(R1(2), half_square, real, real, remedies)
    assert values.tolist() == [26, 1]
    assert penalise(R1(2), half_square, packs, packs).tolist() == [26, 1]
    stacked = torch.stack([real, 2 * real])
    values = penalise(R1(2), half_square, stacked, stacked, remedies)
    assert values.tolist() == [[26, 1], [104, 4]]


def test_gradient_penalties_of_a_linear_d_are_those_of_its_weights():
    """Its slope is w everywhere: (5 − 1)² and 25/2, whatever the place. d/dw of γ/2·‖w‖² is γ·w."""
    linear = Linear([3.0, 4.0])
    real, fake = torch.randn(2, 6, 2)
    for penalty in (WGANGP(10), DRAGAN(10)):
        assert penalise(penalty, linear, real, fake).tolist() == pytest.approx([10 * 16] * 6)
    values = penalise(R1(2), linear, real, fake)
    (gradient,) = torch.autograd.grad(values.mean(), linear.weight)
    assert gradient.tolist() == pytest.approx([2 * 3, 2 * 4])


def test_wgan_gp_looks_between_pairs():
    """The slope of ½‖x‖² is x: √(1 + value/10) is its length, between the pair's own."""
    real, fake = torch.full((500, 1), 2.0), torch.full((500, 1), 6.0)
    lengths = 1 + (penalise(WGANGP(10), half_square, real, fake) / 10).sqrt()
    assert lengths.min() >= 2
    assert lengths.max() <= 6
    assert lengths.mean().item() == pytest.approx(4, abs=3 * 4 / math.sqrt(12 * 500))
    assert lengths.std().item() == pytest.approx(4 / math.sqrt(12), rel=0.1), "a share of its own for each pair"


def test_wgan_gp_takes_one_share_for_a_whole_sample():
    real, fake = torch.zeros(50, 1, 4, 5), torch.ones(50, 1, 4, 5)
    discriminator = Recorder(sample_ndim=3)
    penalise(WGANGP(), discriminator, real, fake)
    numbers = discriminator.inputs.flatten(1)
    assert (numbers.std(1) < 1e-6).all()
    assert numbers.mean(1).std() > 0.2


def test_dragan_looks_around_real_samples():
    """Standard deviation 1 (values 9 and 11): moved by α · ½ · u, with u for each number and α for each sample.

    As the authors' code: E(α u)/2 = 1/8; a product of two uniform numbers has the variance 1/9 − 1/16; two numbers of a
    sample share α, so that their covariance is that of E(u)² Var(α) = ¼ · 1/12.
    """
    real = torch.tensor([9.0, 11]).repeat(2000)[:, None].expand(-1, 2)
    discriminator = Recorder(sample_ndim=1)
    penalise(DRAGAN(), discriminator, real, torch.full_like(real, 99))
    moved = discriminator.inputs - real
    assert moved.min() >= 0
    assert 0.45 < moved.max() <= 0.5
    assert moved.mean().item() == pytest.approx(1 / 8, abs=0.005)
    covariance = moved.T.cov()
    assert covariance[0, 0].item() == pytest.approx((1 / 9 - 1 / 16) / 4, rel=0.1)
    assert covariance[0, 1].item() == pytest.approx(1 / 48 / 4, rel=0.15)


def test_dragan_measures_each_replicas_spread():
    real = torch.tensor([9.0, 11]).repeat(2000)[:, None]
    real = torch.stack([real, 100 * real])
    discriminator = Recorder(sample_ndim=1)
    penalise(DRAGAN(), discriminator, real, real)
    moved = (discriminator.inputs - real).mean((1, 2))
    assert moved.tolist() == pytest.approx([1 / 8, 100 / 8], rel=0.05)


def test_lecam_holds_scores_to_moving_averages():
    """First call: averages are the means, 2 and −1. Second: ½·2 + ½·4 = 3, ½·(−1) + ½·1 = 0."""
    lecam = LeCam(weight=0.1, decay=0.5, warmup_steps=1)
    first = (torch.tensor([[1.0], [3.0]]), torch.tensor([[-2.0], [0.0]]))
    second = (torch.tensor([[4.0], [4.0]]), torch.tensor([[5.0], [-3.0]]))
    linear = Linear([1.0])
    assert penalise(lecam, linear, *first).tolist() == [0, 0]
    assert (lecam.real_mean.item(), lecam.fake_mean.item()) == (2, -1)
    values = penalise(lecam, linear, *second)
    assert (lecam.real_mean.item(), lecam.fake_mean.item()) == (3, 0)
    assert values.tolist() == pytest.approx([0.1 * (4**2 + 0), 0.1 * (4**2 + 6**2)])
    penalise(lecam.eval(), linear, *first)
    assert lecam.real_mean.item() == 3


def test_lecam_goes_on_from_a_checkpoint():
    real, fake = torch.randn(2, 3, 4, 2)  # three replicas
    lecam, linear = LeCam(warmup_steps=1, replica_dims=(3,)), Linear([1.0, 2.0])
    for _ in range(3):
        penalise(lecam, linear, real, fake)
    resumed = LeCam(warmup_steps=1, replica_dims=(3,))
    resumed.load_state_dict(lecam.state_dict())
    assert torch.equal(penalise(resumed, linear, 2 * real, fake), penalise(lecam, linear, 2 * real, fake))
    assert resumed.real_mean.shape == (3,)
    assert (resumed.real_mean != resumed.real_mean[0]).any()


@pytest.mark.parametrize("penalty", [R1(), R2(), WGANGP(), DRAGAN()])
@pytest.mark.parametrize("shape", [(2,), (10,), (3, 4, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_rank_type_and_replicas(penalty, shape, dtype):
    linear = Linear(torch.randn(shape, dtype=dtype))
    norm = linear.weight.square().sum().sqrt()
    expected = 2.5 / 2 * norm**2 if isinstance(penalty, R1 | R2) else 10 * (norm - 1) ** 2
    for leading in ((6,), (3, 6)):
        real, fake = torch.randn(2, *leading, *shape, dtype=dtype)
        values = penalise(penalty, linear, real, fake)
        assert values.dtype == dtype
        torch.testing.assert_close(values, expected.expand(leading))


@pytest.mark.parametrize("penalty", [R1(), R2()])
def test_replicas_pay_for_themselves(penalty):
    real, fake = torch.randn(2, 3, 4, 2, dtype=torch.float64)
    combined = penalise(penalty, half_square, real, fake)
    alone = torch.stack([penalise(penalty, half_square, *pair) for pair in zip(real, fake, strict=True)])
    torch.testing.assert_close(combined, alone)


@pytest.mark.parametrize("penalty", ALL, ids=NAMES)
def test_gradients_reach_only_d_and_are_finite(penalty):
    torch.manual_seed(0)
    discriminator = mlp.Discriminator((2,), (8, 8), nn.SiLU, norms.LayerNorm())
    real, fake = torch.randn(6, 2), torch.randn(6, 2, requires_grad=True)
    scores = discriminator(real), discriminator(fake.detach())
    loss = sum(term.mean() for term in BCE().d(*scores)) + penalise(penalty, discriminator, real, fake).mean()
    loss.backward()
    gradients = [p.grad for p in discriminator.parameters()]
    assert all(each is not None and each.isfinite().all() for each in gradients)
    assert fake.grad is None


@pytest.mark.parametrize("penalty", ALL, ids=NAMES)
def test_a_flat_d_gets_finite_gradients(penalty):
    """The length of a zero slope has no derivative: it must be 0, not NaN. A D that ignores its input is as flat."""
    linear, bias = Linear([0.0, 0.0]), nn.Parameter(torch.zeros(()))
    values = penalise(penalty, linear, torch.ones(4, 2), torch.zeros(4, 2))
    (gradient,) = torch.autograd.grad(values.sum(), linear.weight)
    assert gradient.isfinite().all()
    assert penalise(penalty, lambda x: bias + torch.zeros(len(x)), torch.ones(4, 2), torch.zeros(4, 2)).isfinite().all()


@pytest.mark.parametrize("penalty", [WGANGP(), DRAGAN()])
def test_draws_are_the_streams(penalty):
    real, fake = torch.randn(2, 5, 2)
    values = penalise(penalty, half_square, real, fake)
    assert torch.equal(values, penalise(penalty, half_square, real, fake))
    assert not torch.equal(values, penalise(penalty, half_square, real, fake, seed=1))


def small_d(kind):
    """A D in float64, and the shape of its input."""
    if kind == "conv":
        return conv.Discriminator((1, 28, 28), 2, nn.LeakyReLU, norms.GroupNorm(2)).double(), (6, 1, 28, 28)
    if kind == "replicas":
        networks = [mlp.Discriminator((5,), (7, 6), nn.Tanh, norms.LayerNorm()) for _ in range(3)]
        return Replicated(networks).double(), (3, 6, 5)
    minibatch_layer = MinibatchStddev if kind == "minibatch" else None
    return mlp.Discriminator((5,), (7, 6), nn.SiLU, norms.LayerNorm(), minibatch_layer).double(), (6, 5)


@pytest.mark.parametrize("kind", ["mlp", "minibatch", "conv", "replicas"])
def test_one_pass_of_d_gives_the_gradients_of_two(kind):
    """The loss with r1 and r2, against a second pass of D for the penalties, by hand."""
    torch.manual_seed(0)
    discriminator, shape = small_d(kind)
    real, fake = torch.randn(2, *shape, dtype=torch.float64)
    weights = list(discriminator.parameters())
    calls = []
    handle = discriminator.register_forward_hook(lambda *_: calls.append(1))
    remedies = Remedies(penalties=(R1(3), R2(0.7)))
    assert remedies.share_scores(discriminator)
    batches = [remedies.score(discriminator, x, 0, step_rng(), differentiable=True) for x in (real, fake)]
    loss = sum(term.mean(-1).sum() for term in BCE().d(*(batch.scores for batch in batches)))
    for penalty in remedies.penalties:
        loss = loss + penalty(discriminator, *batches, step_rng()).mean(-1).sum()
    loss.backward(inputs=weights)
    handle.remove()
    assert len(calls) == 2

    expected = sum(term.mean(-1).sum() for term in BCE().d(discriminator(real), discriminator(fake)))
    for x, gamma in ((real, 3), (fake, 0.7)):
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
        expected = expected + gamma / 2 * slope.square().sum() / 6
    for weight, gradient in zip(weights, torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-12, atol=1e-12)


def test_d_scores_again_for_penalties_where_its_scores_would_change():
    def shares(norm, *transforms, penalty=R1):
        discriminator = mlp.Discriminator((5,), (7, 6), nn.SiLU, norm)
        return Remedies(penalties=(penalty(),), input_transforms=transforms).share_scores(discriminator)

    assert shares(norms.NoNorm())
    assert shares(norms.LayerNorm(), Pack(2))
    assert not shares(norms.BatchNorm()), "running statistics"
    assert not shares(norms.SpectralNorm()), "vectors of the power iteration"
    assert not shares(norms.NoNorm(), InstanceNoise())
    assert not shares(norms.NoNorm(), Pack(2), DiffAugment())
    assert not shares(norms.NoNorm(), Threefold()), "of one's own, which declares nothing"
    assert not shares(norms.NoNorm(), penalty=LeCam), "it takes no gradient"


class Replicas(nn.Module):
    """Several networks as one, under vmap."""

    def __init__(self, networks):
        super().__init__()
        stacked, _ = stack_module_state(networks)
        self.names, self.weights = list(stacked), nn.ParameterList(stacked.values())
        self.__dict__["first"] = networks[0]

    def forward(self, x):
        weights = dict(zip(self.names, self.weights, strict=True))
        return vmap(lambda member, x: functional_call(self.first, member, (x,)))(weights, x)


@pytest.mark.parametrize("minibatch_layer", [None, MinibatchStddev, MinibatchDiscrimination])
def test_replicas_under_vmap_get_the_penalties_and_unrolling_of_single_gans(minibatch_layer):
    """In float64, in which round-off can't hide a mistake."""
    torch.manual_seed(0)
    networks = [mlp.Discriminator((2,), (6,), nn.Tanh, norms.LayerNorm(), minibatch_layer).double() for _ in range(3)]
    replicas = Replicas(networks)
    real, fake = torch.randn(2, 3, 8, 2, dtype=torch.float64)
    for penalty in (R1(), R2(), LeCam(warmup_steps=0, replica_dims=(3,)).double()):
        values = penalise(penalty, replicas, real, fake)
        for i, network in enumerate(networks):
            single = LeCam(warmup_steps=0).double() if isinstance(penalty, LeCam) else penalty
            torch.testing.assert_close(values[i], penalise(single, network, real[i], fake[i]))
    for loss in (BCE(), RelativisticAverage()):
        scores = Unrolled(3, lr=0.2)(replicas, loss, real, fake)(fake)
        for i, network in enumerate(networks):
            unrolled_critic = Unrolled(3, lr=0.2)(network, loss, real[i], fake[i])
            torch.testing.assert_close(scores[i], unrolled_critic(fake[i]))
