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

# Learning rates and an ε at which rounding isn't amplified, so that the bounds below are fair ones for float32, too.
# Some gradients are 0 but for rounding: that of D's last bias with a loss of differences of scores, and with the
# Wasserstein loss that of the last normalisation's shift. With ε = 1e-8 Adam and RMSprop turn them into whole steps to
# this side or that, and autograd's own result in float32 is then as far from its result in float64 as ours.
RATE = "optim.lr=1e-4"
EPSILON = "+optim.eps=1e-3"

# Each is a choice among options; an option is one or several overrides, "" the default.
DATASETS = (
    "dataset=ring dataset.samples=300",
    "dataset=grid dataset.samples=300",
    "dataset=digits",
    "dataset=stacked_digits dataset.samples=300",
)
CHOICES: dict[str, tuple[str, ...]] = {
    "loss": tuple(
        f"loss={name}"
        for name in ("mse", "bce", "saturating", "lsgan", "hinge", "wasserstein", "relativistic", "relativistic_average")
    ),
    "activation": tuple(
        f"activation={name}" for name in ("leaky_relu", "leaky_relu_dcgan", "relu", "sigmoid", "tanh", "silu")
    ),
    "norm": ("norm=none", "norm=layer"),
    "optimizer": (
        f"optim=adam {RATE} {EPSILON}",
        f"optim=adam {RATE} {EPSILON} optim.betas=[0.9,0.99] optim.weight_decay=0.1",
        f"optim=adamw {RATE} {EPSILON} optim.weight_decay=0.5",
        "optim=sgd optim.lr=1e-2",
        "optim=sgd optim.lr=1e-3 optim.momentum=0.9",
        "optim=sgd optim.lr=1e-2 optim.weight_decay=0.1",
        f"optim=rmsprop {RATE} {EPSILON}",
        f"optim=rmsprop {RATE} {EPSILON} optim.weight_decay=0.1",
        "optim_d=sgd optim_d.lr=1e-2 optim_g=adam optim_g.lr=1e-4",
    ),
    "joint": ("", "joint_d_update=true"),
    "n_critic": ("", "", "n_critic=2", "n_critic=3"),
    "n_generator": ("", "", "n_generator=2", "n_generator=3"),
    "replicas": ("", "replicas=2", "replicas=3"),
    "depth": ("", "model.depth=0", "model.depth=1", "model.depth=2", "model.depth=3"),
    "conditional": ("", "", "", "conditional=true"),
}
# Settings with which each remedy acts within 50 steps.
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
    "r1": "",
    "r2": "",
}
OPTIONS = {option for option in chain(DATASETS, *CHOICES.values(), REMEDIES) if option}


class Case:
    """A combination of options.

    Args:
        options: those of `OPTIONS`.
        sizes: overrides for the sizes of networks and batches.
    """

    def __init__(self, options: Sequence[str], sizes: str):
        self.options = options
        remedies = [option for option in options if option in REMEDIES]
        parts = [option for option in options if option not in REMEDIES]
        parts += [REMEDIES[name] for name in remedies]
        self.overrides = [*" ".join(parts).split(), f"remedy=[{','.join(remedies)}]", *sizes.split()]

    def is_possible(self) -> bool:
        """Tells whether a training can have all of these options, and the compiled step covers it."""
        try:
            _, module = built(compose(*self.overrides))
        except LabError:
            return False
        return not not_covered(module)


def _random_case(chance: random.Random) -> Case:
    dataset = chance.choice(DATASETS)
    options = [dataset]
    for name, choice in CHOICES.items():
        # A thousand classes would make the networks large.
        if name != "conditional" or "stacked" not in dataset:
            options.append(chance.choice(choice))
    options += [name for name in REMEDIES if chance.random() < 0.2]
    width = chance.randint(7, 16)
    batch_size = chance.randint(5, 16)
    latent_dim = chance.randint(2, 7)
    seed = chance.randint(0, 99)
    return Case(
        [option for option in options if option],
        f"model.width={width} batch_size={batch_size} latent_dim={latent_dim} seed={seed}",
    )


def _random_cases(count: int) -> list[Case]:
    chance = random.Random(0)
    cases: list[Case] = []
    while len(cases) < count:
        case = _random_case(chance)
        if case.is_possible():
            cases.append(case)
    return cases


def _assert_equal_losses(ours: Trained, reference: Trained, bound: float) -> None:
    """Compares the losses of all steps; near 0 the difference is relative to 0.01.

    Scores are about 1, so that in float32 a mean of scores has an error of about 1e-7, also where it crosses 0.
    """
    torch.testing.assert_close(ours.values[:, :LOSSES], reference.values[:, :LOSSES], rtol=bound, atol=bound / 100)


def _assert_equal_states(ours: Trained, reference: Trained, bound: float) -> None:
    """Compares weights, moments, averages and counters, relative to the largest number of the same kind."""
    state = dict(ours.state())
    expected = dict(reference.state())
    assert state.keys() == expected.keys()
    largest: dict[str, float] = {}
    for name, tensor in expected.items():
        kind = re.sub(r"\d+", "", name)
        largest[kind] = max(largest.get(kind, 0.0), float(tensor.abs().max()))
    for name, tensor in expected.items():
        assert state[name].dtype == tensor.dtype
        exact = not tensor.is_floating_point() or " step " in name
        atol = 0.0 if exact else bound * largest[re.sub(r"\d+", "", name)]
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=atol, msg=lambda text, name=name: f"{name}: {text}")


def _assert_parity(case: Case, dtype: torch.dtype, bound: float) -> None:
    ours = train(case.overrides, "compiled", dtype)
    reference = train(case.overrides, "autograd", dtype)
    _assert_equal_losses(ours, reference, bound)
    _assert_equal_states(ours, reference, 10 * bound)
