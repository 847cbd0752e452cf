"""Replicas: K GANs in one process, each the same as a single GAN with its seed."""

import re
from pathlib import Path

import pytest
import torch
from conftest import BARE, OPTIONS, REMEDIES, compose, refused, training
from torch import nn

from gan_lab.assembly.build import DryRun, Training
from gan_lab.assembly.instantiate import build_module
from gan_lab.data import images
from gan_lab.data.datamodule import BatchStream
from gan_lab.data.dataset import Dataset, Part
from gan_lab.gan.networks.replicated import Replicated

pytestmark = pytest.mark.usefixtures("undrawn", "quick_verdict")

SEED = 5


@pytest.fixture
def doubles(monkeypatch):
    """Everything in float64: in float32 an optimiser makes round-off large, as between any two ways of computing."""
    torch.set_default_dtype(torch.float64)
    pixels = torch.rand(30, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    part = Part(pixels, torch.arange(30) % 10)
    monkeypatch.setattr(images, "mnist_like", lambda *_: Dataset(part, part, classes=list("0123456789")))
    yield
    torch.set_default_dtype(torch.float32)


def _fitted(folder: Path, *overrides: str) -> Training:
    # The compiled step trains one member after the other.
    job, _ = training(folder, *BARE, *overrides, "engine=autograd")
    job.trainer.fit(job.module, job.datamodule)
    return job


MLP = ("dataset=ring", "dataset.samples=50", "model.generator.hidden=[16]", "model.discriminator.hidden=[16,8]")
CONV = ("dataset=mnist", "model=conv", "model.channels=4")
EXACT = {
    "bce adam layer": MLP,
    "mse sgd none": (*MLP, "loss=mse", "optim=sgd", "norm=none", "activation=sigmoid"),
    "rmsprop batch": (*MLP, "optim=rmsprop", "norm=batch", "joint_d_update=true"),
    "mse adamw group": (*MLP, "loss=mse", "optim=adamw", "norm=group", "norm.groups=4", "activation=gelu"),
    "two optimisers, uniform": (*MLP, "optim_d=sgd", "optim_d.momentum=0.5", "latent=uniform", "activation=tanh"),
    "images, bounded": ("dataset=mnist", *MLP[2:], "optim.weight_decay=0.1"),
    "conditional": ("dataset=mnist", *MLP[2:], "conditional=true", "n_generator=2"),
    "conv conditional": (*CONV, "norm=layer", "conditional=true"),
    "conv layer": (*CONV, "norm=layer"),
    "conv batch": (*CONV, "norm=batch", "loss=mse"),
    "conv instance": (*CONV, "norm=instance", "optim=rmsprop"),
}
# Several remedies a case: each case costs some trainings.
COMBINED = {
    "loss=hinge": ("remedy=[r1,ema,decay]",),
    "loss=wasserstein": ("remedy=[wgan_gp,n_critic,historical_averaging]", "n_critic=2", "dataset.samples=60"),
    "loss=relativistic": ("remedy=[dragan,lecam,ttur,instance_noise]", "remedy.lecam.warmup_steps=5", "n_generator=2"),
    "loss=relativistic_average": ("remedy=[unrolled,mode_seeking,pac,r2]", "remedy.unrolled.k=2"),
    "loss=lsgan": ("remedy=[feature_matching,gdpp]", "latent_dim=2"),
    "loss=saturating": ("remedy=[label_smoothing,top_k]", "conditional=true"),
    "loss=mse": ("remedy=[minibatch_discrimination,lecam]", "remedy.lecam.warmup_steps=0"),
    "loss=bce": ("remedy=[minibatch_stddev,dragan,historical_averaging]", "conditional=true"),
}
EXACT |= {case: (*MLP, case, *others) for case, others in COMBINED.items()}
EXACT |= {
    "conv remedies": (*CONV, "norm=batch", "remedy=[diffaugment,ema,r1]", "remedy.ema.decay=0.8"),
    "conv views": (*CONV, "norm=layer", "loss=hinge", "remedy=[pac,instance_noise,wgan_gp,feature_matching,lecam]"),
}
ALLOWED = [f"{group}={option}" for group, option in OPTIONS if group == "loss"]
ALLOWED += [remedy for remedy in REMEDIES if remedy != "balance"]


def _untested() -> dict[str, tuple[str, ...]]:
    """Returns a case for each loss and remedy that no case above names, such as new ones."""
    words = set()
    for overrides in EXACT.values():
        for override in overrides:
            words |= {override, *re.findall(r"\w+", override)}
    untested = {}
    for option in ALLOWED:
        if option not in words:
            untested[option] = (*MLP, option if "=" in option else f"remedy=[{option}]")
    return untested


UNTESTED = _untested()
EXACT |= UNTESTED
# Together these have each kind of layer, of batch statistics, and of remedy.
FAST = {*COMBINED, *UNTESTED, "two optimisers, uniform", "conditional", "conv batch", "conv views"}


@pytest.mark.parametrize("case", [pytest.param(case, marks=() if case in FAST else pytest.mark.slow) for case in EXACT])
def test_each_member_equals_the_single_gan_of_its_seed(tmp_path, doubles, case):
    """20 steps: weights, batch statistics and recorded losses, over the ends of epochs, rows and chunks."""
    members = 2 if case in COMBINED else 3
    settings = (*EXACT[case], "steps=20", "log_every=7")
    replicas = _fitted(tmp_path / "together", *settings, f"seed={SEED}", f"replicas={members}")
    table = replicas.trainer.loggers[0].rows
    for i in range(members):
        single = _fitted(tmp_path / f"{i}", *settings, f"seed={SEED + i}")
        member = replicas.module.member(i)
        assert (member.seed, member.step) == (single.module.seed, 20)
        for name, expected in single.module.state_dict().items():
            torch.testing.assert_close(member.state_dict()[name], expected, rtol=0, atol=1e-8, msg=f"{i}: {name}")
        for step, row in single.trainer.loggers[0].rows.items():
            for name, expected in row.items():
                assert table[step][f"{name}/{i}"] == pytest.approx(expected, abs=1e-8)
    mean = sum(table[14][f"loss/g/{i}"] for i in range(members)) / members
    assert table[14]["loss/g"] == pytest.approx(mean, abs=1e-12)
    assert replicas.module.generator.batched == (
        case not in ("rmsprop batch", "mse adamw group") and "conv" not in case
    )
    assert replicas.module.discriminator.batched == (
        replicas.module.generator.batched and "minibatch" not in str(EXACT[case])
    )


def test_members_differ_from_the_start():
    module = build_module(compose(*BARE, *MLP, "replicas=3"), Dataset(Part(torch.zeros(9, 2)), Part(torch.zeros(9, 2))))
    weights = module.generator.state_dict()["networks.layers.0.weight"]
    assert weights.shape == (3, 16, 3)
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize("with_replacement", [False, True])
def test_each_member_gets_the_batches_of_its_seed_from_any_start(monkeypatch, with_replacement):
    if with_replacement:
        monkeypatch.setattr("gan_lab.data.datamodule.MAX_SHUFFLED", 5)
    part = Part(torch.arange(7.0)[:, None])  # an epoch ends in the middle of a batch
    batches = torch.cat(list(BatchStream(part, 3, SEED, 25, boundaries=[4], replicas=2)))
    assert batches.shape == (25, 2, 3, 1)
    for i in range(2):
        assert torch.equal(batches[:, i], torch.cat(list(BatchStream(part, 3, SEED + i, 25))))
    rest = torch.cat(list(BatchStream(part, 3, SEED, 25, start=13, boundaries=[5], replicas=2)))
    assert torch.equal(rest, batches[13:])


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (lambda: nn.Sequential(nn.Linear(6, 5), nn.LeakyReLU(0.2), nn.LayerNorm(5), nn.Linear(5, 2, bias=False)), (6,)),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Unflatten(1, (2, 2))), (3, 2)),
        (lambda: nn.Sequential(nn.Linear(2, 4), nn.LayerNorm((3, 4)), nn.Flatten(-2), nn.PReLU(12)), (3, 2)),
    ],
)
def test_replicated_networks_compute_what_single_ones_do(network, shape):
    networks = [network().double() for _ in range(3)]
    replicated, x = Replicated(networks), torch.randn(3, 7, *shape, dtype=torch.float64)
    output = replicated(x)
    output.square().sum().backward()
    for i, single in enumerate(networks):
        expected = single(x[i])
        torch.testing.assert_close(output[i], expected)
        expected.square().sum().backward()
        for name, parameter in single.named_parameters():
            torch.testing.assert_close(replicated.networks.get_parameter(name).grad[i], parameter.grad)
        member = replicated.member(i)
        assert type(member) is type(single)
        for name, value in single.state_dict().items():
            torch.testing.assert_close(member.state_dict()[name], value, msg=name)
        with torch.no_grad():
            next(member.parameters()).zero_()
    assert next(replicated.parameters()).abs().min() > 0, "a member is a copy"


def test_no_member_beyond_the_last():
    module = build_module(compose(*BARE, *MLP, "replicas=2"), Dataset(Part(torch.zeros(9, 2)), Part(torch.zeros(9, 2))))
    with refused("unknown", "member"):
        module.member(2)
    single = build_module(compose(*BARE, *MLP), Dataset(Part(torch.zeros(9, 2)), Part(torch.zeros(9, 2))))
    assert single.member(0) is single
    with refused("unknown", "member"):
        single.member(1)


@pytest.mark.parametrize("model", [MLP, (*CONV, "norm=batch")])
def test_mixed_precision(tmp_path, little_images, model, capsys):
    job = _fitted(tmp_path / "run", *model, "replicas=2", "steps=2", "trainer.precision=bf16-mixed")
    before = build_module(compose(*BARE, *model, "replicas=2"), job.datamodule.dataset)
    pairs = zip(before.parameters(), job.module.parameters(), strict=True)
    assert all(parameter.isfinite().all() and not torch.equal(old, parameter) for old, parameter in pairs)
    warned = "Convolutions on a CPU gain little from replicas" in capsys.readouterr().out
    assert warned == ("model=conv" in model)


def test_the_checks_before_a_training_look_at_the_first_member():
    stage = DryRun(compose(*BARE, *MLP, "replicas=3", f"seed={SEED}"))
    single = build_module(compose(*BARE, *MLP, f"seed={SEED}"), stage.dataset)
    for name, expected in single.state_dict().items():
        assert torch.equal(stage.module().state_dict()[name], expected), name


# Settings that only a single GAN can have.


@pytest.mark.parametrize(
    ("overrides", "code", "key"),
    [
        ("replicas=0", "invalid", "replicas"),
        ("replicas=2 norm=spectral", "conflict", "norm"),
        ("replicas=2 optim._target_=torch.optim.Adafactor", "conflict", "optim"),
        ("replicas=2 seed=4294967295", "conflict", "seed"),
    ],
)
def test_settings_that_only_a_single_gan_can_have_are_refused(overrides, code, key):
    with refused(code, key):
        compose(*overrides.split())
    compose(*overrides.replace("replicas=2", "replicas=1").replace("replicas=0", "").split())


def test_networks_that_cannot_be_replicated_are_refused():
    data = Dataset(Part(torch.zeros(9, 2)), Part(torch.zeros(9, 2)))
    build_module(compose(*BARE, *MLP, "activation._target_=torch.nn.RReLU", "~activation.negative_slope"), data)
    with refused("unsupported", "replicas"):
        build_module(
            compose(*BARE, *MLP, "activation._target_=torch.nn.RReLU", "~activation.negative_slope", "replicas=2"), data
        )
