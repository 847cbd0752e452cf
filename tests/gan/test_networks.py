"""Networks: shapes, ranges, layers as the book draws them, and what they refuse."""

import math
from functools import partial

import pytest
import torch
from conftest import compose, refused
from torch import nn

from gan_lab.assembly.instantiate import build_module
from gan_lab.data import synthetic
from gan_lab.gan.networks import conv, conv_book, mlp, norms, pacgan, resnet
from gan_lab.gan.networks.minibatch_layers import MinibatchDiscrimination, MinibatchStddev
from gan_lab.gan.networks.replicated import Replicated


def _mlp(norm=None, bounded=True, shape=(1, 4, 5), hidden=(6, 7)):
    norm = norm or norms.NoNorm()
    return (
        mlp.Generator(shape, 3, bounded, hidden, nn.ReLU, norm),
        mlp.Discriminator(shape, hidden, nn.ReLU, norm),
    )


def test_mlp_is_the_books_order_of_layers():
    generator, discriminator = _mlp(norms.LayerNorm(), shape=(1, 28, 28), hidden=(200,))
    assert [type(m) for m in generator.layers] == [nn.Linear, nn.ReLU, nn.LayerNorm, nn.Linear, nn.Sigmoid]
    assert [type(m) for m in discriminator.layers] == [nn.Linear, nn.ReLU, nn.LayerNorm, nn.Linear]
    assert [m.in_features for m in discriminator.layers if isinstance(m, nn.Linear)] == [784, 200]


def test_he_init_reaches_both_networks_through_the_configuration():
    settings = ("dataset=ring", "model.width=64", "latent_dim=64")
    plain = build_module(compose(*settings), synthetic.ring())
    larger = build_module(compose(*settings, "model.he_init=true"), synthetic.ring())
    for name in ("generator", "discriminator"):
        before, after = (getattr(module, name).layers[0].weight.std().item() for module in (plain, larger))
        assert after / before == pytest.approx(math.sqrt(6), rel=0.1)


@pytest.mark.parametrize(("he_init", "variance"), [(True, 2 / 100), (False, 1 / 300)])
def test_mlps_start_with_hes_variance_or_torchs(he_init, variance):
    """2 / inputs (He et al. 2015), or a sixth of that: torch draws from ±1/√inputs. The last layer is torch's."""
    torch.manual_seed(0)
    sizes = dict(hidden=[100, 200], activation=nn.ReLU, norm=norms.NoNorm(), he_init=he_init)
    for network in (mlp.Generator((50,), 100, False, **sizes), mlp.Discriminator((100,), **sizes)):
        first, second, last = [layer for layer in network.layers if isinstance(layer, nn.Linear)]
        for layer in (first, second):
            assert layer.weight.var().item() == pytest.approx(variance, rel=0.03)
        assert last.weight.abs().max() <= 1 / math.sqrt(200)


def test_mlp_takes_replicas_before_the_batch():
    generator, discriminator = _mlp(norms.LayerNorm())
    z = torch.randn(2, 5, 3)  # K = 2, B = 5
    fake = generator(z)
    assert fake.shape == (2, 5, 1, 4, 5)
    assert discriminator(fake).shape == (2, 5)
    torch.testing.assert_close(discriminator(fake)[1], discriminator(generator(z[1])))


def test_bounded_generators_stay_in_the_unit_interval_and_others_do_not():
    z = 100 * torch.randn(200, 3)
    bounded, _ = _mlp(bounded=True)
    free, _ = _mlp(bounded=False)
    assert bounded(z).min() >= 0
    assert bounded(z).max() <= 1
    assert free(z).min() < -1


@pytest.mark.parametrize("norm", [norms.NoNorm(), norms.LayerNorm(), norms.BatchNorm(), norms.GroupNorm(2)])
def test_d_can_tell_batches_apart(norm):
    """Batch norm right before the last linear layer would give every batch the same mean score: D would be blind."""
    torch.manual_seed(0)
    discriminator = mlp.Discriminator((6,), (8,), nn.LeakyReLU, norm)
    batches = [torch.randn(64, 6), torch.rand(64, 6) ** 3, torch.randn(64, 1).expand(64, 6)]
    means = [discriminator(batch).mean().item() for batch in batches]
    assert max(means) - min(means) > 1e-3  # a blind one: 1e-8


def test_layer_norm_over_one_feature_is_refused():
    with refused("conflict", "norm"):
        _mlp(norms.LayerNorm(), hidden=(1,))


def test_mlp_without_hidden_layers_is_linear():
    generator, discriminator = _mlp(hidden=())
    assert len(list(generator.parameters())) == len(list(discriminator.parameters())) == 2


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3), (48, 3), (64, 3), (128, 3)])
def test_conv_generates_and_scores_images(side, channels):
    shape = (channels, side, side)
    generator = conv.Generator(shape, 5, True, 4, nn.ReLU, norms.BatchNorm())
    discriminator = conv.Discriminator(shape, 4, nn.ReLU, norms.BatchNorm())
    images = generator(torch.randn(3, 5))
    assert images.shape == (3, *shape)
    assert images.min() >= 0
    assert images.max() <= 1
    assert discriminator(images).shape == (3,)


@pytest.mark.parametrize("shape", [(2,), (4,), (1, 8, 8), (1, 26, 26), (1, 30, 30), (1, 28, 32), (1, 66, 66)])
def test_conv_refuses_what_it_cannot_make(shape):
    with refused("conflict", "model"):
        conv.Generator(shape, 5, True, 4, nn.ReLU, norms.NoNorm())
    with refused("conflict", "model"):
        conv.Discriminator(shape, 4, nn.ReLU, norms.NoNorm())


def test_conv_with_stages_is_dcgan_as_papers_have_it():
    """gf = df = 64 on 28×28: Linear 100 → 2·2·512, 5×5 kernels, sides 2, 4, 7, 14, 28; D ends in Linear 2·2·512 → 1."""
    generator = conv.Generator((3, 28, 28), 100, True, 64, nn.ReLU, norms.NoNorm(), stages=4)
    discriminator = conv.Discriminator((3, 28, 28), 64, nn.LeakyReLU, norms.NoNorm(), stages=4)
    kernels = 25 * (512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
    biases = 256 + 128 + 64
    assert _weights(generator) == (100 * 2048 + 2048) + kernels + biases + 3
    assert _weights(discriminator) == kernels + 64 + biases - 64 + 512 + (2048 + 1)
    sides, x = [], torch.randn(2, 100)
    for layer in generator.layers:
        x = layer(x)
        sides += [x.shape[-1]] if isinstance(layer, (nn.Unflatten, nn.ConvTranspose2d)) else []
    assert sides == [2, 4, 7, 14, 28]
    assert discriminator(x).shape == (2,)


@pytest.mark.parametrize("shape", [(2,), (1, 16, 16), (1, 28, 32), (1, 130, 130)])
def test_conv_with_stages_refuses_what_it_cannot_make(shape):
    with refused("conflict", "model.stages"):
        conv.Generator(shape, 5, True, 4, nn.ReLU, norms.NoNorm(), stages=4)
    with refused("conflict", "model.stages"):
        conv.Discriminator(shape, 4, nn.ReLU, norms.NoNorm(), stages=4)


def _weights(network):
    return sum(p.numel() for p in network.parameters())


def _resnet(shape=(1, 8, 8), channels=4, blocks_=1, norm=None, **options):
    torch.manual_seed(0)
    rest = channels, blocks_, partial(nn.LeakyReLU, 0.2), norm or norms.NoNorm()
    return resnet.Generator(shape, 5, True, *rest), resnet.Discriminator(shape, *rest, **options)


@pytest.mark.parametrize(("side", "smallest"), [(8, 4), (28, 7), (32, 4), (48, 6), (64, 4)])
def test_resnet_generates_and_scores_images(side, smallest):
    generator, discriminator = _resnet((3, side, side))
    images = generator(100 * torch.randn(3, 5))
    assert images.shape == (3, 3, side, side)
    assert images.min() >= 0
    assert images.max() <= 1
    assert discriminator(images).shape == (3,)
    assert generator.layers[0].patterns.shape[-2:] == (smallest, smallest)


@pytest.mark.parametrize("shape", [(2,), (1, 7, 7), (1, 30, 30), (1, 28, 32), (1, 66, 66), (1, 256, 256)])
def test_resnet_refuses_what_it_cannot_make(shape):
    with refused("conflict", "model"):
        resnet.Generator(shape, 5, True, 4, 1, nn.ReLU, norms.NoNorm())
    with refused("conflict", "model"):
        resnet.Discriminator(shape, 4, 1, nn.ReLU, norms.NoNorm())


def test_resnet_of_r3gans_size_is_r3gans():
    """32×32: eight blocks of 768 → 1536 → 1536 in groups of 16 → 768; table 9 says 20.7 million for each network."""
    with torch.device("meta"):
        generator = resnet.Generator((3, 32, 32), 64, False, 768, 2, nn.ReLU, norms.NoNorm())
        discriminator = resnet.Discriminator((3, 32, 32), 768, 2, nn.ReLU, norms.NoNorm())
    block = 768 * 1536 + 1536 + 1536 * 16 * 9 + 1536 + 1536 * 768
    assert _weights(generator) == 8 * block + 64 * 768 + 768 * 16 + 3 * 768
    assert _weights(discriminator) == 8 * block + 3 * 768 + 768 * 16 + 768
    assert [round(_weights(network) / 1e6, 1) for network in (generator, discriminator)] == [20.7, 20.7]


def test_resnet_starts_as_if_it_had_no_blocks():
    """Fix-up: each block is the identity, and its first layers are He's, smaller by L^(−1/4), L = 6 blocks."""
    generator, discriminator = _resnet((3, 28, 28), channels=32, blocks_=2)
    x = torch.randn(4, 3, 28, 28)
    for network, inputs in ((generator, torch.randn(4, 5)), (discriminator, x)):
        blocks = [layer for layer in network.layers if isinstance(layer, resnet.Block)]
        assert len(blocks) == 6
        without_blocks = nn.Sequential(*(layer for layer in network.layers if layer not in blocks))
        assert torch.equal(without_blocks(inputs).flatten(), network(inputs).flatten())
        for block in blocks:
            first, second, last = (layer for layer in block.layers if isinstance(layer, nn.Conv2d))
            for layer in (first, second):
                variance = 2 / 1.04 / layer.weight[0].numel() * 6**-0.5
                assert layer.weight.var().item() == pytest.approx(variance, rel=0.15)
            assert not last.weight.any()
    small = discriminator.layers[0](x)
    for layer in discriminator.layers:
        if isinstance(layer, resnet.Resample):
            halved = nn.functional.avg_pool2d(small, 2)
            small = layer(small)
            torch.testing.assert_close(small, layer.channels(halved))


@pytest.mark.parametrize("norm", [None, norms.LayerNorm(), norms.BatchNorm(), norms.GroupNorm(8)])
def test_gradients_reach_all_of_a_resnet(norm):
    """The last layer of a block moves first; once it has, all that comes before it does."""
    generator, discriminator = _resnet((2, 28, 28), norm=norm, minibatch_layer=MinibatchStddev)
    for network in (generator, discriminator):
        for layer in network.modules():
            if isinstance(layer, resnet.Block):
                nn.init.normal_(layer.layers[-1].weight, std=0.1)
    discriminator(generator(torch.randn(6, 5))).square().sum().backward()
    for network in (generator, discriminator):
        for name, p in network.named_parameters():
            assert p.grad.isfinite().all(), name
            biases_before_a_norm = norm and name.endswith("bias")
            assert p.grad.any() or biases_before_a_norm, name


def test_a_resnet_with_spectral_norm_starts_finite():
    generator, discriminator = _resnet(norm=norms.SpectralNorm())
    assert discriminator(generator(torch.randn(4, 5))).isfinite().all()


def test_a_pacgan_is_the_papers():
    """G: four layers of 400 with batch norm and no bias, then a linear one; D: three of 200 maxout units of 5."""
    generator = pacgan.Generator((2,), 2, False, [400] * 4, nn.ReLU, norms.BatchNorm())
    discriminator = pacgan.Discriminator((4,), [200] * 3, 5)  # packs of 2
    assert _weights(generator) == (2 + 3 * 400) * 400 + 4 * 2 * 400 + 400 * 2 + 2
    assert _weights(discriminator) == (4 + 1) * 1000 + 2 * (200 + 1) * 1000 + 200 + 1
    weights = torch.cat([p.flatten() for p in discriminator.parameters() if p.ndim == 2])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    assert not any(p.any() for p in discriminator.parameters() if p.ndim == 1)
    assert generator(torch.randn(3, 2)).shape == (3, 2)


def test_maxout_takes_the_greatest_piece():
    x = torch.tensor([[1.0, 3, 2, -4, -6, -5]])
    assert pacgan.Maxout(3)(x).tolist() == [[3, -4]]


@pytest.mark.parametrize("kind", ["resnet", "pacgan"])
def test_replicas_of_networks_that_vmap_plays(kind):
    """Scores, R1's inner gradient and its gradient in the weights: each member's are those that it has alone."""

    def make_discriminator(seed):
        if kind == "resnet":
            _, network = _resnet((2, 8, 8), minibatch_layer=MinibatchStddev)
        else:
            network = pacgan.Discriminator((2, 8, 8), [6, 5], 3, minibatch_layer=MinibatchStddev)
        torch.manual_seed(seed)
        for p in network.parameters():
            nn.init.normal_(p, std=0.3)
        return network

    def play(network, x):
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
        slope.square().sum().backward()
        return slope.detach(), {name: p.grad for name, p in network.named_parameters() if p.grad is not None}

    members, x = [make_discriminator(seed) for seed in range(3)], torch.randn(3, 8, 2, 8, 8)
    replicated = Replicated(members)
    assert not replicated.batched
    slopes, gradients = play(replicated, x)
    for i, member in enumerate(members):
        slope, member_gradients = play(member, x[i])
        torch.testing.assert_close(slopes[i], slope, rtol=1e-4, atol=1e-5)
        for name, gradient in member_gradients.items():
            torch.testing.assert_close(gradients[f"networks.{name}"][i], gradient, rtol=1e-3, atol=1e-4)


def test_the_books_networks_for_faces_are_the_books():
    """Notebook 14: Linear 100 → 3·11·11, 8×8 kernels of stride 2, 256 channels; D ends in Linear 3·10·10 → 1."""
    generator = conv_book.Generator((3, 128, 128), 100, True, 256, nn.GELU, norms.BatchNorm())
    discriminator = conv_book.Discriminator((3, 128, 128), 256, nn.GELU, norms.BatchNorm())
    kernel = 8 * 8
    of_g = (100 * 363 + 363) + (3 * 256 * kernel + 256) + (256 * 256 * kernel + 256) + (256 * 3 * kernel + 3)
    of_d = (3 * 256 * kernel + 256) + (256 * 256 * kernel + 256) + (256 * 3 * kernel + 3) + (300 + 1)
    norms_of_g, norms_of_d = 2 * (256 + 256 + 3), 2 * (256 + 256)
    assert sum(p.numel() for p in generator.parameters()) == of_g + norms_of_g
    assert sum(p.numel() for p in discriminator.parameters()) == of_d + norms_of_d
    assert [type(layer).__name__ for layer in generator.layers][-3:] == ["ConvTranspose2d", "BatchNorm2d", "Sigmoid"]
    assert [type(layer).__name__ for layer in discriminator.layers][-4:] == ["Conv2d", "GELU", "Flatten", "Linear"]


@pytest.mark.parametrize("sides", [(50, 50), (64, 64), (128, 128), (218, 178)])
def test_the_books_networks_generate_and_score_images(sides):
    shape = (3, *sides)
    images = conv_book.Generator(shape, 5, True, 2, nn.ReLU, norms.LayerNorm())(torch.randn(1, 5))
    assert images.shape == (1, *shape)
    assert conv_book.Discriminator(shape, 2, nn.ReLU, norms.LayerNorm())(images).shape == (1,)


@pytest.mark.parametrize("shape", [(2,), (3, 48, 48), (3, 129, 128)])
def test_the_books_networks_refuse_what_they_cannot_make(shape):
    with refused("conflict", "model"):
        conv_book.Generator(shape, 5, True, 4, nn.ReLU, norms.NoNorm())
    with refused("conflict", "model"):
        conv_book.Discriminator(shape, 4, nn.ReLU, norms.NoNorm())


@pytest.mark.parametrize("shape", [(16,), (16, 6, 6)])
@pytest.mark.parametrize("norm", [norms.LayerNorm(), norms.BatchNorm(), norms.GroupNorm(4)])
def test_norms_centre_and_scale(norm, shape):
    x = 5 + 3 * torch.randn(64, *shape, generator=torch.Generator().manual_seed(0))
    y = norm.after_layer(shape)(x)
    assert y.shape == x.shape
    assert y.mean().item() == pytest.approx(0, abs=1e-5)
    assert y.std().item() == pytest.approx(1, abs=0.02)


def test_layer_and_instance_norm_differ_in_what_they_average():
    x = torch.randn(2, 3, 8, 8) + torch.tensor([0.0, 10, 20]).view(1, 3, 1, 1)
    per_channel = norms.InstanceNorm().after_layer((3, 8, 8))(x).mean((2, 3))
    per_sample = norms.LayerNorm().after_layer((3, 8, 8))(x).mean((2, 3))
    torch.testing.assert_close(per_channel, torch.zeros(2, 3), atol=1e-5, rtol=0)
    assert (per_sample[:, 2] > 1).all(), "layer norm keeps differences between channels"


def test_instance_norm_refuses_vectors():
    with refused("conflict", "norm"):
        norms.InstanceNorm().after_layer((10,))


def test_group_norm_refuses_groups_that_do_not_fit():
    with refused("conflict", "norm.groups"):
        norms.GroupNorm(3).after_layer((10,))
    with refused("conflict", "norm.groups"):
        norms.GroupNorm(10).after_layer((10,))


@pytest.mark.parametrize(
    ("kind", "sizes"), [(nn.Linear, (8, 6)), (nn.Conv2d, (3, 5, 4)), (nn.ConvTranspose2d, (3, 5, 4))]
)
def test_spectral_norm_brings_the_largest_singular_value_to_one(kind, sizes):
    torch.manual_seed(0)  # where the two largest are nearly equal it takes longer
    layer = kind(*sizes)
    with torch.no_grad():
        layer.weight.mul_(30)
    layer = norms.SpectralNorm().wrap_layer(layer)
    for _ in range(100):  # power iterations
        weight = layer.weight
    matrix = weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight
    assert torch.linalg.matrix_norm(matrix.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)


def _discriminators(**options):
    torch.manual_seed(0)
    yield mlp.Discriminator((2,), (6, 7), nn.LeakyReLU, norms.LayerNorm(), **options), (2,)
    yield conv.Discriminator((1, 28, 28), 4, nn.LeakyReLU, norms.SpectralNorm(), **options), (1, 28, 28)
    yield resnet.Discriminator((3, 8, 8), 4, 1, nn.LeakyReLU, norms.NoNorm(), **options), (3, 8, 8)
    yield pacgan.Discriminator((2,), (6, 7), 3, **options), (2,)


def test_d_scores_what_its_features_tell():
    for discriminator, shape in _discriminators():
        discriminator.eval()  # spectral norm's power iteration rests
        x = torch.randn(5, *shape)
        features = discriminator.features(x)
        assert features.shape == (5, discriminator.layers[-1].in_features)
        assert torch.equal(discriminator.layers[-1](features).squeeze(-1), discriminator(x))


def test_without_a_batch_layer_nothing_changes():
    """Drawn in the same order, under the same names: checkpoints of before can be read."""
    torch.manual_seed(0)
    first, last = nn.Linear(2, 3), nn.Linear(3, 1)
    torch.manual_seed(0)
    state = mlp.Discriminator((2,), (3,), nn.ReLU, norms.NoNorm()).state_dict()
    assert list(state) == ["layers.0.weight", "layers.0.bias", "layers.3.weight", "layers.3.bias"]
    assert torch.equal(state["layers.0.weight"], first.weight)
    assert torch.equal(state["layers.3.weight"], last.weight)
    keys = list(conv.Discriminator((1, 28, 28), 4, nn.ReLU, norms.NoNorm()).state_dict())
    assert keys == [f"layers.{i}.{name}" for i in (0, 2, 6) for name in ("weight", "bias")]


def test_stddev_of_a_group():
    """Groups {0, 2} and {1, 3}: deviations 1 and 3, and 0 and 2 (of two numbers a, b: |a − b| / 2)."""
    x = torch.tensor([[0.0, 10], [5, 1], [2, 4], [5, 5]], dtype=torch.float64)
    layer = MinibatchStddev((2,), group=2)
    output = layer(x)
    assert torch.equal(output[:, :2], x)
    assert output[:, 2].tolist() == pytest.approx([2, 1, 2, 1], abs=1e-4)
    maps = x.view(4, 2, 1, 1).expand(4, 2, 3, 5)
    on_maps = MinibatchStddev((2, 3, 5), group=2)(maps)
    assert on_maps.shape == (4, 3, 3, 5)
    torch.testing.assert_close(on_maps[:, 2], output[:, 2, None, None].expand(4, 3, 5))


def test_stddev_is_progans_where_the_group_divides_the_batch():
    """An independent computation: (group, B / group) as the authors' code lays the batch out."""
    x = torch.randn(12, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = x.view(4, 3, 5, 3, 3).std(0, correction=0).flatten(1).mean(1).repeat(4)
    torch.testing.assert_close(MinibatchStddev((5, 3, 3))(x)[:, 5, 1, 2], expected)


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1]), (3, [3]), (7, [7]), (9, [5, 4]), (14, [5, 5, 4])])
def test_stddev_takes_any_batch(batch, sizes):
    x = torch.randn(batch, 6)
    groups = len(sizes)
    stddev = MinibatchStddev((6,))(x)[:, 6]
    expected = [x[i::groups].std(0, correction=0).mean() for i in range(groups)]
    torch.testing.assert_close(stddev[:groups], torch.stack(expected), atol=2e-4, rtol=0)
    assert [stddev.eq(value).sum().item() for value in stddev[:groups]] == sizes


def test_minibatch_discrimination_sums_kernels_over_the_batch():
    """One kernel of 2 numbers, T = identity: L1 distances of the samples are 1, 3 and 4."""
    layer = MinibatchDiscrimination((2,), kernels=1, dims=2)
    layer.project.weight.data = torch.eye(2)
    x = torch.tensor([[0.0, 0], [1, 0], [1, 3]])
    e = [math.exp(-d) for d in range(5)]
    output = layer(x)
    assert torch.equal(output[:, :2], x)
    assert output[:, 2].tolist() == pytest.approx([1 + e[1] + e[4], 1 + e[1] + e[3], 1 + e[4] + e[3]])


def test_minibatch_discrimination_compares_each_kernel_separately():
    layer = MinibatchDiscrimination((2,), kernels=2, dims=1)
    layer.project.weight.data = torch.eye(2)
    closeness = layer(torch.tensor([[0.0, 0], [1, 3]]))[:, 2:]
    assert closeness[0].tolist() == pytest.approx([1 + math.exp(-1), 1 + math.exp(-3)])
    assert layer.extra_features == 2


@pytest.mark.parametrize("make", [MinibatchStddev, partial(MinibatchDiscrimination, kernels=3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_layers_take_replicas_and_give_finite_gradients(make, dtype):
    layer = make((6,)).to(dtype)
    x = torch.randn(3, 8, 6, dtype=dtype)
    x[0] = x[0, 0]  # one replica has collapsed
    x.requires_grad_()
    output = layer(x)
    assert output.shape == (3, 8, 6 + layer.extra_features)
    assert output.dtype == dtype
    torch.testing.assert_close(output[1], layer(x[1]))
    torch.testing.assert_close(output, torch.func.vmap(layer)(x))
    (slope,) = torch.autograd.grad(output[..., 6:].sum(), x, create_graph=True)
    (gradient,) = torch.autograd.grad(slope.square().sum(), x)  # as R1 does
    assert slope.isfinite().all()
    assert gradient.isfinite().all()
    assert (output[0, :, 6:] - output[1, :, 6:]).abs().min() > 0.1, "a collapsed batch shows"


@pytest.mark.parametrize("make", [MinibatchStddev, MinibatchDiscrimination])
def test_discriminators_take_a_batch_layer(make):
    options = {"minibatch_layer": make}
    if make is MinibatchDiscrimination:
        with refused("conflict", "remedy.minibatch_discrimination"):
            list(_discriminators(**options))
    for discriminator, shape in _discriminators(**options) if make is MinibatchStddev else []:
        assert discriminator(torch.randn(5, *shape)).shape == (5,)
    discriminator = mlp.Discriminator((2,), (6, 7), nn.LeakyReLU, norms.LayerNorm(), **options)
    behind = discriminator.layers[-1].in_features - 7
    assert behind == (100 if make is MinibatchDiscrimination else 0)
    discriminator(torch.randn(5, 2)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in discriminator.parameters())


@pytest.mark.parametrize("kind", ["mlp", "one hidden layer", "conv", "resnet", "pacgan"])
def test_a_hidden_layer_of_d_follows_the_stddev(kind):
    """As in ProGAN's D: minibatch stddev, convolution, linear, linear.

    Three samples stay, and the fourth of their group changes. A value that meets only the output layer, which is
    linear, would change the scores of the three alike.
    """
    torch.manual_seed(0)
    if kind == "one hidden layer":
        discriminator, shape = mlp.Discriminator((2,), (6,), nn.LeakyReLU, norms.NoNorm(), MinibatchStddev), (2,)
    else:
        kinds = ["mlp", "conv", "resnet", "pacgan"]
        discriminator, shape = list(_discriminators(minibatch_layer=MinibatchStddev))[kinds.index(kind)]
    discriminator.double().eval()
    for p in discriminator.parameters():
        nn.init.normal_(p)
    samples, others = torch.randn(2, 3, *shape, dtype=torch.float64)
    near = discriminator(torch.cat([samples, others[:1]]))
    far = discriminator(torch.cat([samples, 9 * others[:1]]))
    changes = (far - near)[:3]
    assert changes.abs().min() > 1e-6, "the group's value reaches the scores"
    assert changes.max() - changes.min() > 1e-6


def test_stddev_refuses_groups_of_one():
    with refused("invalid", "remedy.minibatch_stddev.group"):
        MinibatchStddev((4,), group=1)
