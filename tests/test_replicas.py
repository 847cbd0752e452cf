"""Replicas: K GANs in one process, each of them the one that its seed gives alone."""

from pathlib import Path

import pytest
import torch
from conftest import compose, training
from torch import nn

from gan_lab.build import Training
from gan_lab.data import Dataset, Part, images
from gan_lab.data.datamodule import Stream
from gan_lab.errors import LabError
from gan_lab.models.replicated import Replicated
from gan_lab.parts import build_module

BARE = ("logger=table", "~callbacks.verdict", "~callbacks.pictures", "~callbacks.curves", "batch_size=4", "latent_dim=3")
SEED = 5


@pytest.fixture
def doubles(monkeypatch):
    """Everything in float64: in float32 an optimiser makes round-off large, as between any two ways of computing."""
    torch.set_default_dtype(torch.float64)
    pixels = torch.rand(30, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    part = Part(pixels, torch.arange(30) % 10)
    monkeypatch.setattr(images, "_mnist_like", lambda *_: Dataset(part, part, classes=list("0123456789")))
    yield
    torch.set_default_dtype(torch.float32)


def _fitted(folder: Path, *overrides: str) -> Training:
    made, _ = training(folder, *BARE, *overrides)
    made.trainer.fit(made.module, made.datamodule)
    return made


MLP = ("dataset=ring", "dataset.samples=50", "model.generator.hidden=[16]", "model.discriminator.hidden=[16,8]")
CONV = ("dataset=mnist", "model=conv", "model.channels=4")
EXACT = {
    "bce adam layer": MLP,
    "mse sgd none": (*MLP, "loss=mse", "optim=sgd", "norm=none", "activation=sigmoid"),
    "rmsprop batch": (*MLP, "optim=rmsprop", "norm=batch", "joint_d_update=true"),
    "mse adamw group": (*MLP, "loss=mse", "optim=adamw", "norm=group", "norm.groups=4", "activation=gelu"),
    "two optimisers, uniform": (*MLP, "optim_d=sgd", "optim_d.momentum=0.5", "latent=uniform", "activation=tanh"),
    "images, bounded": ("dataset=mnist", *MLP[2:], "optim.weight_decay=0.1"),
    "conv layer": (*CONV, "norm=layer"),
    "conv batch": (*CONV, "norm=batch", "loss=mse"),
    "conv instance": (*CONV, "norm=instance", "optim=rmsprop"),
}


@pytest.mark.parametrize("case", EXACT)
def test_each_member_is_the_gan_that_its_seed_gives_alone(tmp_path, doubles, case):
    """20 steps: weights, batch statistics and recorded losses, over the ends of epochs, rows and chunks."""
    settings = (*EXACT[case], "steps=20", "log_every=7")
    together = _fitted(tmp_path / "together", *settings, f"seed={SEED}", "replicas=3")
    table = together.trainer.loggers[0]._rows
    for i in range(3):
        alone = _fitted(tmp_path / f"{i}", *settings, f"seed={SEED + i}")
        member = together.module.member(i)
        assert (member.seed, member.step) == (alone.module.seed, 20)
        for name, expected in alone.module.state_dict().items():
            torch.testing.assert_close(member.state_dict()[name], expected, rtol=0, atol=1e-8, msg=f"{i}: {name}")
        for step, row in alone.trainer.loggers[0]._rows.items():
            for name, expected in row.items():
                assert table[step][f"{name}/{i}"] == pytest.approx(expected, abs=1e-8)
    mean = sum(table[14][f"loss/g/{i}"] for i in range(3)) / 3
    assert table[14]["loss/g"] == pytest.approx(mean, abs=1e-12)
    assert together.module.generator.batched == (case not in ("rmsprop batch", "mse adamw group") and "conv" not in case)


def test_members_differ_from_the_start():
    module = build_module(compose(*BARE, *MLP, "replicas=3"), Dataset(Part(torch.zeros(9, 2)), Part(torch.zeros(9, 2))))
    weights = module.generator.state_dict()["networks.layers.0.weight"]
    assert weights.shape == (3, 16, 3)
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize("drawn", [False, True])
def test_the_stream_gives_each_member_its_own_order_wherever_it_starts(monkeypatch, drawn):
    if drawn:
        monkeypatch.setattr("gan_lab.data.datamodule.SHUFFLED", 5)
    part = Part(torch.arange(7.0)[:, None])  # an epoch ends in the middle of a batch
    together = torch.cat(list(Stream(part, 3, SEED, 25, marks=[4], replicas=2)))
    assert together.shape == (25, 2, 3, 1)
    for i in range(2):
        assert torch.equal(together[:, i], torch.cat(list(Stream(part, 3, SEED + i, 25))))
    late = torch.cat(list(Stream(part, 3, SEED, 25, start=13, marks=[5], replicas=2)))
    assert torch.equal(late, together[13:])


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (lambda: nn.Sequential(nn.Linear(6, 5), nn.LeakyReLU(0.2), nn.LayerNorm(5), nn.Linear(5, 2, bias=False)), (6,)),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Unflatten(1, (2, 2))), (3, 2)),
        (lambda: nn.Sequential(nn.Linear(2, 4), nn.LayerNorm((3, 4)), nn.Flatten(-2), nn.PReLU(12)), (3, 2)),
    ],
)
def test_stacked_networks_give_what_each_gives_alone(network, shape):
    networks = [network().double() for _ in range(3)]
    together, x = Replicated(networks), torch.randn(3, 7, *shape, dtype=torch.float64)
    made = together(x)
    made.square().sum().backward()
    for i, alone in enumerate(networks):
        expected = alone(x[i])
        torch.testing.assert_close(made[i], expected)
        expected.square().sum().backward()
        for name, parameter in alone.named_parameters():
            torch.testing.assert_close(together.networks.get_parameter(name).grad[i], parameter.grad)
        member = together.member(i)
        assert type(member) is type(alone)
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(member.state_dict()[name], value, msg=name)
        with torch.no_grad():
            next(member.parameters()).zero_()
    assert next(together.parameters()).abs().min() > 0, "a member is a copy"


def test_no_member_beyond_the_last():
    module = build_module(compose(*BARE, *MLP, "replicas=2"), Dataset(Part(torch.zeros(9, 2)), Part(torch.zeros(9, 2))))
    with pytest.raises(LabError, match=r"no member 2: the run has replicas=2.\nName one of 0 to 1"):
        module.member(2)
    alone = build_module(compose(*BARE, *MLP), Dataset(Part(torch.zeros(9, 2)), Part(torch.zeros(9, 2))))
    assert alone.member(0) is alone
    with pytest.raises(LabError, match="no member 1"):
        alone.member(1)
