"""What the compiled step does not cover is trained by autograd, or refused with what stands in the way."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from both_engines import TINY, built
from conftest import BARE, command_here, compose, refused
from torch import nn

from gan_lab.gan.losses import BCE, LabelSmoothing
from gan_lab.gan.networks import mlp
from gan_lab.gan.remedies.averaging import EMA, AveragedNetwork, HistoricalAveraging, WeightAnchor
from gan_lab.gan.remedies.generator_losses import TopK
from gan_lab.gan.remedies.input_transforms import Pack
from gan_lab.gan.remedies.learning_rates import TTUR
from gan_lab.gan.remedies.penalties import R1, LeCam
from gan_lab.training.compiled.coverage import not_covered

# Overrides, and what stands in the way. What can be combined is, as composing a configuration takes the most time.
NOT_COVERED = [
    (
        "dataset=mnist model=conv model.channels=8",
        ["G's network conv.Generator", "D's network conv.Discriminator"],
    ),
    (
        "norm=batch activation=gelu remedy=[minibatch_stddev,wgan_gp,gdpp,unrolled,balance] +optim.amsgrad=true",
        [
            "G's layer BatchNorm1d",
            "D's layer BatchNorm1d",
            "G's layer GELU",
            "D's layer GELU",
            "D's layer MinibatchStddev",
            "WGANGP",
            "GDPP",
            "Unrolled",
            "UpdateGate",
            "Adam's amsgrad",
        ],
    ),
    (
        "norm=spectral remedy=[instance_noise,r1,dragan,mode_seeking] +optim.decoupled_weight_decay=true compile=true",
        [
            "G's layer ParametrizedLinear",
            "InstanceNoise together with R1 or R2",
            "DRAGAN",
            "ModeSeeking",
            "Adam's decoupled_weight_decay",
            "compile=true",
        ],
    ),
    (
        "dataset=mnist norm=group norm.groups=2 remedy=[diffaugment,minibatch_discrimination,feature_matching]"
        " optim=sgd optim.momentum=0.9 +optim.nesterov=true trainer.precision=bf16-mixed",
        [
            "G's layer GroupNorm",
            "DiffAugment",
            "D's layer MinibatchDiscrimination",
            "FeatureMatching",
            "SGD's nesterov",
            "trainer.precision=32-true",
        ],
    ),
    (
        "optim_d=rmsprop optim_d.momentum=0.9 +optim_d.centered=true"
        " optim_g=sgd optim_g.momentum=0.9 +optim_g.dampening=0.1 remedy=[instance_noise,r2]",
        ["RMSprop's momentum", "RMSprop's centered", "SGD's dampening", "InstanceNoise together with R1 or R2"],
    ),
    ("optim=rmsprop optim._target_=torch.optim.Adagrad ~optim.alpha ~optim.momentum", ["the optimizer Adagrad"]),
    ("trainer=ddp devices=2", ["trainer=cpu"]),
]


@pytest.mark.parametrize(("overrides", "obstacles"), NOT_COVERED)
def test_what_is_not_covered_is_left_to_autograd_or_refused_by_name(little_images, overrides, obstacles):
    sizes = ["model.width=8", "batch_size=6", "latent_dim=3"]
    if "model=conv" in overrides:
        sizes.remove("model.width=8")
    cfg = compose(*sizes, *overrides.split())
    assert built(cfg)[1].engine == "autograd"
    cfg.engine = "compiled"
    with refused("conflict", "engine") as error:
        built(cfg)
    message = str(error.value)
    assert [obstacle for obstacle in obstacles if obstacle not in message] == []
    assert "engine=auto" in message, "the way out"


def test_what_is_covered_is_compiled_unless_autograd_is_asked_for():
    cfg = compose(*TINY)
    for asked, engine in (("auto", "compiled"), ("compiled", "compiled"), ("autograd", "autograd")):
        cfg.engine = asked
        assert built(cfg)[1].engine == engine


class OwnLoss(BCE):
    pass


class OwnSmoothing(LabelSmoothing):
    pass


class OwnPenalty(R1):
    pass


class OwnLeCam(LeCam):
    pass


class OwnPack(Pack):
    pass


class OwnTopK(TopK):
    pass


class OwnAverage(AveragedNetwork):
    pass


class OwnEMA(EMA):
    def make_average(self, generator: nn.Module) -> AveragedNetwork:
        return OwnAverage(generator)


class OwnAnchor(WeightAnchor):
    pass


class OwnAveraging(HistoricalAveraging):
    def make_anchor(self, network: nn.Module, replica_dims: Sequence[int]) -> WeightAnchor:
        return OwnAnchor(network, self.weight, replica_dims)


class OwnOptimizer(torch.optim.Adam):
    pass


class OwnTTUR(TTUR):
    pass


class OwnGenerator(mlp.Generator):
    pass


class OwnLinear(nn.Linear):
    pass


class OwnActivation(nn.Tanh):
    pass


@pytest.mark.parametrize(
    ("settings", "remedies", "names"),
    [
        ({"loss": OwnLoss()}, {}, ["the loss OwnLoss"]),
        ({"loss": LabelSmoothing(OwnLoss())}, {}, ["the loss OwnLoss"]),
        ({"loss": OwnSmoothing(BCE())}, {}, ["the loss OwnSmoothing"]),
        ({"optim_g": OwnOptimizer}, {}, ["the optimizer OwnOptimizer"]),
        ({}, {"penalties": (OwnPenalty(),)}, ["OwnPenalty"]),
        ({}, {"penalties": (OwnLeCam(),)}, ["OwnLeCam"]),
        ({}, {"penalties": (R1(), R1())}, ["R1 twice"]),
        ({}, {"input_transforms": (OwnPack(),)}, ["OwnPack"]),
        ({}, {"top_k": OwnTopK()}, ["OwnTopK"]),
        ({}, {"ema": OwnEMA()}, ["OwnAverage"]),
        ({}, {"historical_averaging": OwnAveraging()}, ["OwnAnchor"]),
        # It only sets the learning rates of new optimizers.
        ({}, {"ttur": OwnTTUR()}, []),
    ],
)
def test_a_class_derived_from_a_covered_one_is_not_covered(settings, remedies, names):
    _, module = built(compose(*TINY))
    changed = replace(module.settings, **settings)
    changed = replace(changed, remedies=replace(changed.remedies, **remedies))
    assert not_covered(type(module)(module.generator, module.discriminator, changed)) == names


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ([nn.Linear(3, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 1)], []),
        ([nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 1)], []),
        ([nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 1)], ["D's layer Tanh after the LayerNorm"]),
        ([nn.Tanh(), nn.Linear(3, 1)], ["D's layer Tanh after the input"]),
        ([nn.Linear(3, 1, bias=False)], ["D's layer Linear without bias"]),
        ([nn.Linear(3, 4), nn.LayerNorm(4, bias=False), nn.Linear(4, 1)], ["D's layer LayerNorm without bias"]),
        ([OwnLinear(3, 1)], ["D's layer OwnLinear"]),
        ([nn.Linear(3, 1), OwnActivation()], ["D's layer OwnActivation"]),
    ],
)
def test_layers_in_another_order_are_not_covered(layers, names):
    _, module = built(compose(*TINY))
    module.discriminator.layers = nn.Sequential(*layers)
    assert not_covered(module) == names


def test_a_network_derived_from_a_covered_one_is_not_covered():
    _, module = built(compose(*TINY))
    module.generator.__class__ = OwnGenerator
    assert not_covered(module) == ["G's network test_coverage.OwnGenerator"]


def test_a_refusal_is_one_message_with_status_2(tmp_path):
    done = command_here("train.py", *BARE, "engine=compiled", "norm=batch", "remedy=[gdpp]", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("The compiled step does not cover") == 1
    assert "G's layer BatchNorm1d; D's layer BatchNorm1d; GDPP" in done.stderr
    assert not list(tmp_path.glob("**/config.yaml"))


@pytest.mark.parametrize("engine", ["autograd", "compiled"])
def test_the_first_line_and_the_summary_name_the_engine(tmp_path, engine):
    done = command_here("train.py", *BARE, *TINY, "steps=4", f"engine={engine}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{engine} step" in done.stdout.splitlines()[0]
    (summary,) = tmp_path.glob("outputs/**/summary.json")
    assert json.loads(summary.read_text())["environment"]["engine"] == engine
