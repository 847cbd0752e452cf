"""The compiled step computes what autograd computes: losses, weights, the optimizers' moments and all averages."""

import random
import re
from collections.abc import Sequence
from itertools import chain

import pytest
import torch
from both_engines import Trained, built, train
from conftest import compose

from gan_lab.core.errors import LabError
from gan_lab.training.compiled.coverage import not_covered
from gan_lab.training.step_log import LOSSES

# Settings with which rounding isn't amplified, so that the bounds are fair ones for float32, too: a run that circles
# ever faster, or has losses in the hundreds, ends elsewhere after the smallest change. Some gradients are 0 but for
# rounding: that of D's last bias with a loss of differences of scores, and with the Wasserstein loss that of the last
# normalisation's shift. With ε = 1e-8 Adam and RMSprop turn them into whole steps to this side or that, and autograd's
# own results in float32 and float64 then differ by as much. So ε is larger here.
RATE = "optim.lr=1e-4 +optim.eps=1e-3"
OPTIMIZERS = {
    "adam": f"optim=adam {RATE}",
    "adam with decay": f"optim=adam {RATE} optim.betas=[0.9,0.99] optim.weight_decay=0.1",
    "adamw": f"optim=adamw {RATE} optim.weight_decay=0.5",
    "sgd": "optim=sgd optim.lr=2e-3",
    "sgd with momentum": "optim=sgd optim.lr=2e-4 optim.momentum=0.9",
    "sgd with decay": "optim=sgd optim.lr=2e-3 optim.weight_decay=0.1",
    "rmsprop": f"optim=rmsprop {RATE}",
    "rmsprop with decay": f"optim=rmsprop {RATE} optim.weight_decay=0.1",
    "two kinds": "optim_d=sgd optim_d.lr=2e-3 optim_g=adam optim_g.lr=1e-4",
}
# So that each remedy acts within 50 steps.
REMEDIES = {
    "ema": "remedy.ema.decay=0.8",
    "decay": "remedy.decay.steps=40",
    "ttur": "",
    "label_smoothing": "",
    "instance_noise": "remedy.instance_noise.steps=30",
    "top_k": "remedy.top_k.steps=20",
    "lecam": "remedy.lecam.warmup_steps=8",
    "historical_averaging": "remedy.historical_averaging.weight=0.1",
    "pac": "",
    "r1": "remedy.r1.gamma=0.5",
    "r2": "remedy.r2.gamma=0.5",
}
DATASETS = {f"dataset={name}": f"dataset={name} dataset.samples=300" for name in ("ring", "grid", "stacked_digits")}
DATASETS["dataset=digits"] = "dataset=digits"
# One of each is chosen; "" is the default.
CHOICES = (
    tuple(DATASETS),
    tuple(f"loss={name}" for name in ("mse", "bce", "saturating", "lsgan", "hinge", "wasserstein")),
    ("loss=relativistic", "loss=relativistic_average", "", ""),
    tuple(f"activation={name}" for name in ("leaky_relu", "leaky_relu_dcgan", "relu", "sigmoid", "tanh", "silu")),
    ("norm=none", "norm=layer"),
    tuple(OPTIMIZERS),
    ("", "joint_d_update=true"),
    ("", "", "n_critic=2", "n_critic=3"),
    ("", "", "n_generator=2", "n_generator=3"),
    ("", "replicas=2", "replicas=3"),
    ("", "model.depth=0", "model.depth=1", "model.depth=2", "model.depth=3"),
    ("", "", "", "conditional=true"),
)
OPTIONS = {*chain(*CHOICES), *REMEDIES} - {""}

# Each option occurs at least once.
FEW = (
    ("dataset=ring", "loss=mse", "activation=leaky_relu", "norm=none", "adam", "n_critic=2", "ema", "label_smoothing"),
    (
        *("dataset=grid", "loss=bce", "activation=leaky_relu_dcgan", "norm=layer", "adam with decay"),
        *("replicas=2", "conditional=true", "decay", "instance_noise"),
    ),
    (
        *("dataset=digits", "loss=saturating", "activation=relu", "norm=none", "adamw"),
        *("joint_d_update=true", "n_generator=2", "model.depth=1", "top_k", "pac"),
    ),
    (
        *("dataset=stacked_digits", "loss=lsgan", "activation=sigmoid", "norm=layer", "sgd"),
        *("n_critic=3", "lecam", "ttur"),
    ),
    (
        *("dataset=ring", "loss=hinge", "activation=tanh", "norm=none", "sgd with momentum"),
        *("model.depth=0", "historical_averaging"),
    ),
    (
        *("dataset=grid", "loss=wasserstein", "activation=silu", "norm=layer", "sgd with decay"),
        *("n_generator=3", "model.depth=2", "r2"),
    ),
    (
        *("dataset=digits", "loss=relativistic", "activation=tanh", "norm=layer", "rmsprop"),
        *("replicas=3", "model.depth=3", "r1", "r2"),
    ),
    (
        *("dataset=stacked_digits", "loss=relativistic_average", "activation=silu", "norm=none", "rmsprop with decay"),
        *("ema", "top_k", "r1"),
    ),
    ("dataset=ring", "loss=relativistic", "activation=sigmoid", "norm=layer", "two kinds", "pac", "r2"),
    (
        *("dataset=ring", "loss=bce", "activation=leaky_relu", "norm=layer", "adam"),
        *("conditional=true", "replicas=2", "lecam", "r1"),
    ),
    (
        *("dataset=digits", "loss=relativistic_average", "activation=relu", "norm=layer", "adam"),
        *("n_generator=2", "top_k", "instance_noise"),
    ),
    (
        *("dataset=ring", "loss=bce", "activation=silu", "norm=layer", "sgd", "n_critic=2", "replicas=2"),
        *("model.depth=2", "ema", "decay", "lecam", "historical_averaging", "r1", "r2"),
    ),
)


def _overrides(options: Sequence[str], sizes: str = "model.width=9 batch_size=7 latent_dim=3") -> tuple[str, ...]:
    """Returns the overrides for a combination of options, and for the sizes of networks and batches."""
    remedies = [option for option in options if option in REMEDIES]
    settings = DATASETS | OPTIMIZERS | REMEDIES
    parts = [settings.get(option, option) for option in options]
    return *" ".join(parts).split(), f"remedy=[{','.join(remedies)}]", *sizes.split()


def _is_possible(overrides: Sequence[str]) -> bool:
    """Tells whether a training can have all of these options, and the compiled step covers it."""
    try:
        _, module = built(compose(*overrides))
    except LabError:
        return False
    return not not_covered(module)


def _sample(count: int) -> tuple[list[tuple[str, ...]], set[str]]:
    """Draws possible combinations; returns their overrides, and the options that occur in them."""
    chance = random.Random(0)
    cases: list[tuple[str, ...]] = []
    occurring: set[str] = set()
    while len(cases) < count:
        options = [chance.choice(choice) for choice in CHOICES]
        options += [name for name in REMEDIES if chance.random() < 0.2]
        sizes = f"model.width={chance.randint(7, 16)} batch_size={chance.randint(5, 16)}"
        sizes += f" latent_dim={chance.randint(2, 7)} seed={chance.randint(0, 99)}"
        # A thousand classes would make the networks large.
        if "conditional=true" in options and "dataset=stacked_digits" in options:
            continue
        overrides = _overrides([option for option in options if option], sizes)
        if _is_possible(overrides):
            cases.append(overrides)
            occurring.update(options)
    return cases, occurring


def _assert_equal_losses(ours: Trained, reference: Trained, bound: float) -> None:
    """Compares the losses of all steps; near 0 the difference is relative to 0.01.

    Scores are about 1, so that in float32 a mean of scores has an error of about 1e-7, also where it crosses 0.
    """
    torch.testing.assert_close(ours.values[:, :LOSSES], reference.values[:, :LOSSES], rtol=bound, atol=bound / 100)


def _assert_equal_states(ours: Trained, reference: Trained, bound: float) -> None:
    """Compares weights, moments, averages and counters, relative to the largest number of the same kind, or to 0.01."""
    state = dict(ours.state())
    expected = dict(reference.state())
    assert state.keys() == expected.keys()
    largest: dict[str, float] = {}
    for name, tensor in expected.items():
        kind = re.sub(r"\d+", "", name)
        largest[kind] = max(largest.get(kind, 0.01), float(tensor.abs().max()))
    for name, tensor in expected.items():
        assert (state[name].dtype, state[name].shape) == (tensor.dtype, tensor.shape)
        counts = not tensor.is_floating_point() or " step " in name
        error = float((state[name] - tensor).abs().max())
        assert error <= (0 if counts else bound * largest[re.sub(r"\d+", "", name)]), name


def _assert_parity(overrides: Sequence[str], dtype: torch.dtype, bound: float) -> None:
    ours = train(overrides, "compiled", dtype)
    reference = train(overrides, "autograd", dtype)
    _assert_equal_losses(ours, reference, bound)
    # Gradients are less precise than losses: layer normalisation of nearly equal numbers amplifies rounding.
    _assert_equal_states(ours, reference, 10 * bound)


def test_each_option_is_among_the_few():
    assert set(chain(*FEW)) == OPTIONS


@pytest.mark.parametrize("options", FEW, ids=" ".join)
def test_both_engines_agree(options):
    _assert_parity(_overrides(options), torch.float32, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("options", FEW, ids=" ".join)
def test_both_engines_agree_in_float64(options):
    _assert_parity(_overrides(options), torch.float64, 1e-10)


@pytest.mark.slow
def test_both_engines_agree_whatever_is_combined():
    cases, occurring = _sample(200)
    assert occurring - {""} == OPTIONS
    failures = []
    for overrides in cases:
        for dtype, bound in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
            try:
                _assert_parity(overrides, dtype, bound)
            except AssertionError as error:
                failures.append(f"{' '.join(overrides)} in {dtype}: {' '.join(str(error).split())}")
    assert failures == []
