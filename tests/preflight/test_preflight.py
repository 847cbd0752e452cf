"""The four checks before a training (S4, S6–S10): good configurations pass, a broken one fails the right check."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from conftest import compose, run_here
from matplotlib.image import imread
from torch import nn

from gan_lab.assembly import build
from gan_lab.assembly.build import DryRun
from gan_lab.core.errors import LabError
from gan_lab.core.rng import make_generator
from gan_lab.core.run_folder import Run
from gan_lab.data.dataset import Dataset, Part
from gan_lab.gan.losses import BCE
from gan_lab.preflight import Check, run_checks, separation
from gan_lab.preflight import run as preflight_run
from gan_lab.preflight.inspection import auc, check_data, check_generator, collect_statistics, uniform_noise
from gan_lab.preflight.objective import NETWORKS, OptimizerProbe, Update, check_objective

TINY = ("model.depth=1", "model.width=16", "latent_dim=3", "optim.lr=0.005")
CHECKS = ["data", "noise", "generator", "objective"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(separation, "MIN_STEPS", 100)
    monkeypatch.setattr(separation, "MAX_STEPS", 150)


def checks_of(*overrides: str) -> dict[str, Check]:
    return {check.name: check for check, _ in run_checks(DryRun(compose(*overrides)))}


def statuses(checks: dict[str, Check]) -> dict[str, str]:
    return {name: check.status for name, check in checks.items()}


# Good configurations


def test_digits_pass_with_the_expected_numbers():
    checks = checks_of(*TINY)
    assert statuses(checks) == dict.fromkeys(CHECKS, "pass")
    data, against, generator, objective = (checks[name].numbers for name in CHECKS)
    assert (data["samples"], data["heldout"], data["shape"], data["classes"]) == (1437, 360, [1, 8, 8], 10)
    assert (data["low"], data["high"], data["not_finite"], data["constant"]) == (0, 1, 0, 0)
    assert against["steps"] == 100
    assert against["auc"] > 0.99
    assert against["real_after"] > 0.9 > 0.1 > against["noise_after"]
    assert 0 < generator["low"] < 0.5 < generator["high"] < 1, "a sigmoid's"
    assert generator["reachable_low"] < 0.01
    assert generator["reachable_high"] > 0.99
    assert objective["weights"] == {
        "D": (64 * 16 + 16) + 2 * 16 + (16 + 1),
        "G": (3 * 16 + 16) + 2 * 16 + (16 * 64 + 64),
    }
    turn = {"reached": 6, "tensors": 6, "leaked": 0, "moved": 6, "other_moved": 0}
    assert objective["phases"] == {"(1) D on real": turn, "(2) D on fakes": turn, "(3) G": turn}
    assert [objective[name] for name in ("d_real", "d_fake", "equilibrium")] == pytest.approx([math.log(2)] * 3)
    assert objective["d_output"] == 0.5
    assert checks["objective"].facts["remedies"] == (
        "BCE instead of MSE, LeakyReLU instead of Sigmoid, Adam instead of SGD, LayerNorm instead of no normalisation"
    )


@pytest.mark.parametrize("overrides", [("dataset=ring", "dataset.samples=3000"), ("experiment=book/pattern_fast",)])
def test_the_plane_and_the_pattern_pass(overrides):
    checks = checks_of(*overrides)
    assert statuses(checks) == dict.fromkeys(CHECKS, "pass")
    if "dataset=ring" in overrides:
        assert "uniform over the data's range" in checks["noise"].facts["training"]
    else:
        assert checks["generator"].numbers["constant_latent"]
        assert checks["generator"].facts["output"].startswith("for 0.5: 0.")
        assert checks["objective"].numbers["equilibrium"] == 0.25
        assert "none; as in the book's first GAN: MSE, Sigmoid, SGD" in checks["objective"].facts["remedies"]


def test_mnist_passes(mnist_dir):
    checks = checks_of("dataset=mnist", f"data_dir={mnist_dir}", *TINY)
    assert statuses(checks) == dict.fromkeys(CHECKS, "pass")
    assert checks["data"].numbers["shape"] == [1, 28, 28]


@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_one_update_for_both_phases_and_norms_with_memory(norm):
    checks = checks_of(*TINY, "joint_d_update=true", f"norm={norm}")
    assert all(check.status == "pass" for check in checks.values())
    assert list(checks["objective"].numbers["phases"]) == ["(1+2) D on real and fakes", "(3) G"]


@pytest.mark.parametrize(
    ("chosen", "phases"),
    [
        ("loss=relativistic remedy=[r1,r2,ema]", ["(1+2) D on real and fakes", "(3) G"]),
        (
            "loss=wasserstein remedy=[wgan_gp,pac] n_critic=2 n_generator=2 norm=none",
            ["(1+2) D on real and fakes", "(1+2) D on real and fakes, turn 2", "(3) G", "(3) G, turn 2"],
        ),
        ("remedy=[balance,lecam] remedy.balance.max_auc=0.5", ["(1+2) D on real and fakes", "(3) G"]),
        ("remedy=[unrolled,minibatch_stddev] conditional=true", ["(1) D on real", "(2) D on fakes", "(3) G"]),
    ],
)
def test_remedies_pass_and_each_phase_moves_its_own_network(chosen, phases):
    """Gated updates of D, biases that only shift paired scores, scores of packs and of classes must not fail."""
    checks = checks_of(*TINY, *chosen.split())
    assert statuses(checks) == dict.fromkeys(CHECKS, "pass")
    numbers_by_phase = checks["objective"].numbers["phases"]
    assert list(numbers_by_phase) == phases
    for numbers in numbers_by_phase.values():
        assert (numbers["other_moved"], numbers["leaked"]) == (0, 0)
        assert 0 < numbers["moved"] <= numbers["tensors"]


# Broken configurations


def equal_samples() -> Dataset:
    part = Part(torch.full((100, 1, 8, 8), 0.5) + torch.eye(8) / 4)
    return Dataset(part, part)


def samples_with_nan() -> Dataset:
    values = torch.rand(100, 1, 8, 8, generator=make_generator(0, "torn"))
    values[7, 0, 3, 3] = torch.nan
    return Dataset(Part(values), Part(values[50:]))


class IgnoringDiscriminator(nn.Module):
    """A discriminator that has weights, but doesn't use its input."""

    def __init__(self, **_):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.bias.expand(len(x))


class ZeroingDiscriminator(IgnoringDiscriminator):
    """A discriminator that multiplies its input by 0."""

    def forward(self, x):
        return 0 * x.flatten(1).sum(1) + self.bias


class LinearGenerator(nn.Module):
    """A linear layer and a sigmoid or tanh."""

    def __init__(self, shape, latent_dim, bounded, last="sigmoid", **_):
        super().__init__()
        self.shape = shape
        self.layers = nn.Linear(latent_dim, math.prod(shape))
        self.last = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}[last]

    def forward(self, z):
        return self.last(self.layers(z)).unflatten(1, self.shape)


class IgnoringGenerator(LinearGenerator):
    """A generator that doesn't use its latent vector."""

    def __init__(self, shape, latent_dim, bounded, **_):
        super().__init__(shape, latent_dim, bounded)
        self.layers.weight = None

    def forward(self, z):
        return self.last(self.layers.bias.expand(len(z), -1)).unflatten(1, self.shape)


SHARED_BIAS = nn.Parameter(torch.zeros(()))


class SharingGenerator(LinearGenerator):
    """A generator whose bias is the discriminator's as well."""

    def __init__(self, shape, latent_dim, bounded, **_):
        super().__init__(shape, latent_dim, bounded)
        self.bias = SHARED_BIAS

    def forward(self, z):
        return super().forward(z + self.bias)


class SharingDiscriminator(nn.Module):
    def __init__(self, shape, **_):
        super().__init__()
        self.layers = nn.Linear(math.prod(shape), 1)
        self.bias = SHARED_BIAS

    def forward(self, x):
        return self.layers(x.flatten(1)).squeeze(-1) + self.bias


class MisstatedBCE(BCE):
    """A loss that states another optimum than it has."""

    def d_fake(self, scores):
        return super().d_fake(scores) + 1


TRUST = "trust=[test_preflight]"
TARGET = "_target_=test_preflight"
D_IGNORES = "ignores its input|doesn't depend on its input"


@pytest.mark.parametrize(
    ("overrides", "failing"),
    [
        (
            ["optim.lr=0"],
            {"noise": "No weight of D has changed.*optim.lr", "objective": "no weight of G moves.*optim.lr"},
        ),
        (["optim_d.lr=0"], {"noise": "optim_d.lr", "objective": "no weight of D moves.*optim_d.lr"}),
        (["optim_g.lr=0"], {"objective": "In \\(3\\) G, no weight of G moves.*optim_g.lr"}),
        ([f"model.discriminator.{TARGET}.IgnoringDiscriminator"], {"noise": D_IGNORES, "objective": D_IGNORES}),
        (
            [f"model.discriminator.{TARGET}.ZeroingDiscriminator"],
            {"noise": D_IGNORES, "objective": "D's output doesn't depend on what G"},
        ),
        ([f"dataset.{TARGET}.equal_samples", "~dataset.heldout"], {"data": "All samples are the same"}),
        (
            [f"dataset.{TARGET}.samples_with_nan", "~dataset.heldout"],
            {"data": "NaN", "noise": "NaN or infinity.*check 1", "objective": "NaN or infinity"},
        ),
        ([f"model.generator.{TARGET}.LinearGenerator", "+model.generator.last=tanh"], {"generator": "between 0 and 1"}),
        (
            [f"model.generator.{TARGET}.LinearGenerator", "dataset=ring", "dataset.samples=3000"],
            {"generator": "cannot generate values outside"},
        ),
        ([f"model.generator.{TARGET}.IgnoringGenerator"], {"generator": "same sample for every z"}),
        (
            [f"model.generator.{TARGET}.SharingGenerator", f"model.discriminator.{TARGET}.SharingDiscriminator"],
            {"objective": "share weights \\(D's bias is G's bias\\)"},
        ),
        ([f"loss.{TARGET}.MisstatedBCE"], {"objective": "1.6931 on fakes, 0.6931 for G, but it states 0.6931"}),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[0],
)
def test_what_is_broken_fails_the_right_check_and_no_other(overrides, failing):
    checks = checks_of(*TINY, TRUST, *overrides)
    failures = {name: " ".join(check.failures) for name, check in checks.items() if check.failures}
    assert failures.keys() == failing.keys(), failures
    for name, pattern in failing.items():
        assert re.search(pattern, failures[name]), failures[name]


def test_a_phase_that_reaches_the_other_network_fails():
    """Such as a phase (2) that reaches G: made up here, because this project's step doesn't do it."""
    stage = DryRun(compose(*TINY, "model.generator.hidden=[]", "model.discriminator.hidden=[]"))
    module = stage.module()
    d = [f"{NETWORKS['D']}.layers.0.{name}" for name in ("weight", "bias")]
    g = [f"{NETWORKS['G']}.layers.0.{name}" for name in ("weight", "bias")]
    right = [
        Update("D", {**dict.fromkeys(d, 1.0), **dict.fromkeys(g)}, set(d)),
        Update("D", {**dict.fromkeys(d, 1.0), **dict.fromkeys(g)}, set(d)),
        Update("G", {**dict.fromkeys(g, 1.0), **dict.fromkeys(d)}, set(g)),
    ]
    assert check_objective(module, right, None, stage.parts).status == "pass"
    leaking = [right[0], Update("D", dict.fromkeys(d + g, 1.0), set(d)), right[2]]
    (failure,) = check_objective(module, leaking, None, stage.parts).failures
    assert "In (2) D on fakes, the update also reaches G" in failure
    moving = [*right[:2], Update("G", right[2].gradients, set(g + d))]
    (failure,) = check_objective(module, moving, None, stage.parts).failures
    assert "In (3) G, the update also reaches D" in failure
    unused = [*right[:2], Update("G", {**right[2].gradients, g[1]: None}, {g[0]})]
    (failure,) = check_objective(module, unused, None, stage.parts).failures
    assert "generator.layers.0.bias have no gradient" in failure


def test_the_probe_records_every_optimizer_step():
    dry_run = DryRun(compose(*TINY, "n_generator=2"))
    module, probe = dry_run.module(), OptimizerProbe()
    dry_run.play(module, 2, probe)
    assert [update.network for update in probe.updates] == ["D", "D", "G", "G"] * 2
    for update in probe.updates:
        prefix = NETWORKS[update.network]
        with_gradient = {name for name, size in update.gradients.items() if size is not None}
        assert with_gradient == update.moved
        assert update.moved == {name for name in update.gradients if name.startswith(prefix)}


# Numbers by hand


def test_auc_by_hand():
    real, fake = torch.tensor([0.9, 0.5]), torch.tensor([0.5, 0.1])
    assert auc(real, fake) == (1 + 1 + 0.5 + 1) / 4
    assert auc(fake, real) == 0.5 / 4
    assert math.isnan(auc(torch.tensor([torch.nan]), fake))


def test_statistics_by_hand():
    values = torch.tensor([[0.0, 4.0], [2.0, 4.0], [2.0, 4.0], [2.0, 2.0], [torch.nan, 9.0]])
    statistics = collect_statistics(Part(values), seed=0)
    assert (statistics.inspected, statistics.not_finite) == (5, 1)
    assert (statistics.duplicates, statistics.constant) == (1, 1)
    assert (statistics.low.tolist(), statistics.high.tolist()) == ([0, 2], [2, 4])
    assert statistics.mean == (0 + 2 + 2 + 2 + 4 + 4 + 4 + 2) / 8
    assert statistics.std == pytest.approx(math.sqrt(0.75)), "both positions: three of one value, one 2 away from it"
    assert not statistics.all_equal


def test_defects_of_data_are_reported():
    values = torch.rand(200, 1, 4, 4, generator=make_generator(0, "flaws"))
    values[:20] = values[20]
    values[30:33] = 0.0
    labels = torch.tensor([0] * 190 + [1] * 10)
    dataset = Dataset(Part(values, labels), Part(values[100:150]), classes=["a", "b", "c"])
    check = check_data(dataset, collect_statistics(dataset.train, 0), batch_size=300, seed=0)
    warnings = " ".join(check.warnings)
    assert check.status == "warning"
    assert check.numbers["duplicates"] == 20 + 2
    assert check.numbers["leaked"] == 50
    phrases = [
        "11% of the samples",
        "3 images are of a single colour",
        "50 held-out",
        "classes have no sample (c)",
        "300",
    ]
    for phrase in phrases:
        assert phrase in warnings, phrase
    scaled = Dataset(Part(values * 255), Part(values[:9]))
    assert "go from 0 to 25" in check_data(scaled, collect_statistics(scaled.train, 0), 8, 0).failures[0]
    twice = Dataset(Part(values / 255), Part(values[:9]))
    assert "scaled down twice" in " ".join(check_data(twice, collect_statistics(twice.train, 0), 8, 0).warnings)
    uneven = Dataset(Part(values, labels), Part(values[:9]), classes=["a", "b"])
    assert "19 times as many" in " ".join(check_data(uneven, collect_statistics(uneven.train, 0), 8, 0).warnings)


def test_a_generator_whose_samples_hardly_depend_on_z_is_a_warning():
    dataset = varied_samples()
    generator = LinearGenerator((1, 8, 8), 3, True)
    z = torch.randn(100, 3, generator=make_generator(0, "z"))
    train = collect_statistics(dataset.train, 0)
    with torch.no_grad():
        assert check_generator(generator, generator(z), z, dataset, train, 0).status == "pass"
        generator.layers.weight.mul_(1e-3)
        check = check_generator(generator, generator(z), z, dataset, train, 0)
    assert "hardly depend on z" in check.warnings[0]


def varied_samples() -> Dataset:
    part = Part(torch.rand(100, 1, 8, 8, generator=make_generator(0, "varied")))
    return Dataset(part, part)


def test_noise_fills_the_range():
    train = collect_statistics(Part(torch.tensor([[-2.0, 5.0], [2.0, 6.0]])), 0)
    noise = uniform_noise(5000, train, False, make_generator(0, "test"))
    assert noise.min(0).values.tolist() == pytest.approx([-2, 5], abs=0.01)
    assert noise.max(0).values.tolist() == pytest.approx([2, 6], abs=0.01)
    assert noise.mean(0).tolist() == pytest.approx([0, 5.5], abs=0.05)
    assert uniform_noise(5000, train, True, make_generator(0, "test")).aminmax() == pytest.approx((0, 1), abs=0.01)


# The commands


def test_check_writes_pictures_and_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_here("scripts/check.py", *TINY) == 0
    (folder,) = Path("outputs/digits").glob("check_*")
    names = [f"{number}_{name}.png" for number, name in enumerate(CHECKS, start=1)]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "checks.json"]
    for name in names:
        assert imread(folder / name).std() > 0.05
    content = json.loads((folder / "checks.json").read_text())
    assert content["status"] == "pass"
    assert [(check["name"], check["status"], check["picture"]) for check in content["checks"]] == [
        (name, "pass", picture) for name, picture in zip(CHECKS, names, strict=True)
    ]
    out = capsys.readouterr().out
    for phrase in (
        "✓ 1 the data: pass",
        "1,437 for training, 360 held out",
        "360 held-out samples",
        "4 checks: 4 × pass",
    ):
        assert phrase in out
    assert all(str(folder / name) in out for name in names)
    assert all(len(line) <= 120 for line in out.splitlines())


@pytest.mark.slow
def test_check_ends_with_1_for_a_failure_and_2_for_a_mistake(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_here("scripts/check.py", *TINY, "optim.lr=0", "name=still") == 1
    assert "✗ 2 D against noise: failure" in capsys.readouterr().out
    assert list(Path("outputs/still").glob("check_*/checks.json"))
    for mistake, phrase in (
        ("optim.lr=-1", "optim.lr=-1"),
        ("optim.lrr=1", "'optim.lrr'"),
        ("resume=outputs/still", "resume"),
        ("force=true", "force=true"),
    ):
        assert run_here("scripts/check.py", "name=mistaken", mistake) == 2
        err = capsys.readouterr().err
        assert phrase in err
        assert "Traceback" not in err
    assert [path.name for path in Path("outputs").iterdir()] == ["still"], "nothing half-made"


def test_help_names_the_checks(capsys):
    assert run_here("scripts/check.py", "--help") == 0
    out = capsys.readouterr().out
    for phrase in ("1 data", "2 separation", "3 generator", "4 objective", "train.py preflight=true"):
        assert phrase in out
    assert run_here("train.py", "--help") == 0
    assert "preflight=false             true: run the checks of scripts/check.py first" in capsys.readouterr().out


RUN = (
    *TINY,
    "steps=12",
    "log_every=3",
    "~callbacks.progress",
    "~callbacks.pictures",
    "~callbacks.verdict",
    "logger=table",
)


@pytest.mark.slow
@pytest.mark.slow
def test_preflight_stops_a_training_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_here("train.py", *RUN, "optim_g.lr=0", "preflight=true") == 2
    err = capsys.readouterr().err
    assert err.startswith("Pre-flight check failed (the objective")
    assert "no weight of G moves" in err
    assert "optim_g.lr" in err
    assert list(tmp_path.iterdir()) == []

    def build_on_full_disk(*_):
        raise LabError("The disk is full.", code="storage")

    monkeypatch.setattr(build, "build", build_on_full_disk)
    assert run_here("train.py", *RUN, "preflight=true") == 2
    assert "The disk is full." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [], "neither do checks that passed"


@pytest.mark.slow
def test_a_training_is_the_same_to_the_bit_with_and_without(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs = {}
    for name, preflight_first in (("without", "false"), ("with", "true")):
        overrides = (*RUN, f"preflight={preflight_first}", f"name={name}")
        assert run_here("train.py", *overrides) == 0
        (runs[name],) = (Run(path) for path in Path("outputs", name).iterdir())
    assert not runs["without"].preflight.exists()
    assert len(list(runs["with"].preflight.iterdir())) == 5
    assert runs["with"].metrics.read_bytes() == runs["without"].metrics.read_bytes()
    without, checked = runs["without"].load_checkpoint(), runs["with"].load_checkpoint()
    assert without["state_dict"].keys() == checked["state_dict"].keys()
    assert all(torch.equal(without["state_dict"][key], checked["state_dict"][key]) for key in without["state_dict"])
    assert torch.equal(without["gan_lab"]["torch_rng"], checked["gan_lab"]["torch_rng"])
    # A resumed run was checked before it began.
    monkeypatch.setattr(preflight_run, "run_checks", lambda _: pytest.fail("checked again"))
    assert run_here("train.py", f"resume={runs['without'].folder}", "steps=15", "preflight=true") == 0
    assert runs["without"].read_summary()["steps"] == 15
