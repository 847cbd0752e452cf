"""The four checks before a training (S4, S6–S10): good configurations pass, a broken one fails where it is broken."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from conftest import compose, run_here
from matplotlib.image import imread
from torch import nn

from gan_lab import preflight
from gan_lab.assembly import build
from gan_lab.assembly.build import DryRun
from gan_lab.core.errors import LabError
from gan_lab.core.rng import make_generator
from gan_lab.core.run_folder import Run
from gan_lab.data.dataset import Dataset, Part
from gan_lab.gan.losses import BCE
from gan_lab.preflight.inspection import check_data, check_generator, noise, right_order, survey
from gan_lab.preflight.objective import PLAYERS, Update, check_objective

TINY = ("model.generator.hidden=[16]", "model.discriminator.hidden=[16]", "latent_dim=3", "optim.lr=0.005")
CHECKS = ["data", "noise", "generator", "objective"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(preflight, "LEAST_STEPS", 100)
    monkeypatch.setattr(preflight, "MOST_STEPS", 300)


def _checks(*overrides: str) -> dict[str, preflight.Check]:
    return {check.name: check for check, _ in preflight.run_checks(DryRun(compose(*overrides)))}


# Good configurations


def test_digits_pass_with_numbers_known_beforehand():
    checks = _checks(*TINY)
    assert {name: check.status for name, check in checks.items()} == dict.fromkeys(CHECKS, "pass")
    data, against, generator, objective = (checks[name].numbers for name in CHECKS)
    assert (data["samples"], data["heldout"], data["shape"], data["classes"]) == (1437, 360, [1, 8, 8], 10)
    assert (data["low"], data["high"], data["not_finite"], data["constant"]) == (0, 1, 0, 0)
    assert against["steps"] == 100
    assert against["right_order"] > 0.99
    assert against["real_after"] > 0.9 > 0.1 > against["noise_after"]
    assert 0 < generator["low"] < 0.5 < generator["high"] < 1, "a sigmoid's"
    assert generator["reach_low"] < 0.01
    assert generator["reach_high"] > 0.99
    assert objective["weights"] == {
        "D": (64 * 16 + 16) + 2 * 16 + (16 + 1),
        "G": (3 * 16 + 16) + 2 * 16 + (16 * 64 + 64),
    }
    turn = {"reached": 6, "of": 6, "leaked": 0, "moved": 6, "moved_other": 0}
    assert objective["phases"] == {"(1) D on real": turn, "(2) D on fakes": turn, "(3) G": turn}
    assert [objective[name] for name in ("d_real", "d_fake", "equilibrium")] == pytest.approx([math.log(2)] * 3)
    assert objective["answer"] == 0.5
    assert (
        "BCE for MSE, LeakyReLU for Sigmoid, Adam for SGD, LayerNorm for no norm"
        in checks["objective"].facts["remedies"]
    )


@pytest.mark.parametrize("overrides", [("dataset=ring", "dataset.samples=3000"), ("experiment=book/pattern_fast",)])
def test_the_plane_and_the_pattern_pass(overrides):
    checks = _checks(*overrides)
    assert {name: check.status for name, check in checks.items()} == dict.fromkeys(CHECKS, "pass")
    if "dataset=ring" in overrides:
        assert "uniform over the data's range" in checks["noise"].facts["training"]
    else:
        assert checks["generator"].numbers["constant_latent"]
        assert checks["generator"].facts["answer"].startswith("to 0.5: 0.")
        assert checks["objective"].numbers["equilibrium"] == 0.25
        assert "in force: none; as in the first recipe: MSE, Sigmoid, SGD" in checks["objective"].facts["remedies"]


def test_mnist_passes(mnist_dir):
    checks = _checks("dataset=mnist", f"data_dir={mnist_dir}", *TINY)
    assert {name: check.status for name, check in checks.items()} == dict.fromkeys(CHECKS, "pass")
    assert checks["data"].numbers["shape"] == [1, 28, 28]


@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_one_update_for_both_phases_and_norms_with_memory(norm):
    checks = _checks(*TINY, "joint_d_update=true", f"norm={norm}")
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
def test_remedies_pass_and_each_phase_moves_its_own(chosen, phases):
    """A D that waits, biases that only shift paired scores, scores of packs and of classes: no reason to fail."""
    checks = _checks(*TINY, *chosen.split())
    assert {name: check.status for name, check in checks.items()} == dict.fromkeys(CHECKS, "pass")
    found = checks["objective"].numbers["phases"]
    assert list(found) == phases
    for turn in found.values():
        assert (turn["moved_other"], turn["leaked"]) == (0, 0)
        assert 0 < turn["moved"] <= turn["of"]


# Broken ones


def same() -> Dataset:
    part = Part(torch.full((100, 1, 8, 8), 0.5) + torch.eye(8) / 4)
    return Dataset(part, part)


def torn() -> Dataset:
    values = torch.rand(100, 1, 8, 8, generator=make_generator(0, "torn"))
    values[7, 0, 3, 3] = torch.nan
    return Dataset(Part(values), Part(values[50:]))


class Deaf(nn.Module):
    """A discriminator that has weights, but doesn't look at its input."""

    def __init__(self, **_):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.bias.expand(len(x))


class Wiped(Deaf):
    """One that multiplies its input by 0."""

    def forward(self, x):
        return 0 * x.flatten(1).sum(1) + self.bias


class Maker(nn.Module):
    """A generator with any last layer."""

    def __init__(self, shape, latent_dim, bounded, end, deaf=False, **_):
        super().__init__()
        self.layers, self.end, self.shape, self.deaf = nn.Linear(latent_dim, math.prod(shape)), end, shape, deaf

    def forward(self, z):
        out = self.layers.bias.expand(len(z), -1) if self.deaf else self.layers(z)
        return getattr(torch, self.end)(out).unflatten(1, self.shape)


class Deafened(Maker):
    def __init__(self, shape, latent_dim, bounded, **_):
        super().__init__(shape, latent_dim, bounded, "sigmoid", deaf=True)
        self.layers.weight = None


SHARED = nn.Parameter(torch.zeros(()))


class Sharing(Maker):
    def __init__(self, shape, latent_dim, bounded, **_):
        super().__init__(shape, latent_dim, bounded, "sigmoid")
        self.bias = SHARED

    def forward(self, z):
        return super().forward(z + self.bias)


class Shared(nn.Module):
    def __init__(self, shape, **_):
        super().__init__()
        self.layers, self.bias = nn.Linear(math.prod(shape), 1), SHARED

    def forward(self, x):
        return self.layers(x.flatten(1)).squeeze(-1) + self.bias


class Skewed(BCE):
    """Its ideal isn't what it states."""

    def d_fake(self, scores):
        return super().d_fake(scores) + 1


HERE = "trust=[test_preflight]"
OURS = "_target_=test_preflight"
D_IGNORES = "ignores its input|doesn't depend on its input"


@pytest.mark.parametrize(
    ("overrides", "failing"),
    [
        (
            ["optim.lr=0"],
            {"noise": "No weight of D has moved.*optim.lr", "objective": "no weight of G moves.*optim.lr"},
        ),
        (["optim_d.lr=0"], {"noise": "optim_d.lr", "objective": "no weight of D moves.*optim_d.lr"}),
        (["optim_g.lr=0"], {"objective": "In \\(3\\) G, no weight of G moves.*optim_g.lr"}),
        ([f"model.discriminator.{OURS}.Deaf"], {"noise": D_IGNORES, "objective": D_IGNORES}),
        (
            [f"model.discriminator.{OURS}.Wiped"],
            {"noise": D_IGNORES, "objective": "D's answer doesn't depend on what G"},
        ),
        ([f"dataset.{OURS}.same", "~dataset.heldout"], {"data": "All samples are the same"}),
        (
            [f"dataset.{OURS}.torn", "~dataset.heldout"],
            {"data": "NaN", "noise": "numbers blew up.*check 1", "objective": "numbers blew up"},
        ),
        ([f"model.generator.{OURS}.Maker", "+model.generator.end=tanh"], {"generator": "between 0 and 1"}),
        (
            [f"model.generator.{OURS}.Maker", "+model.generator.end=sigmoid", "dataset=ring", "dataset.samples=3000"],
            {"generator": "can't make values outside"},
        ),
        ([f"model.generator.{OURS}.Deafened"], {"generator": "same output for every z"}),
        (
            [f"model.generator.{OURS}.Sharing", f"model.discriminator.{OURS}.Shared"],
            {"objective": "share weights \\(D's bias is G's bias\\)"},
        ),
        ([f"loss.{OURS}.Skewed"], {"objective": "1.6931 on fakes, 0.6931 for G, but it states 0.6931"}),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[0],
)
def test_what_is_broken_fails_the_right_check_and_no_other(overrides, failing):
    checks = _checks(*TINY, HERE, *overrides)
    found = {name: " ".join(check.failures) for name, check in checks.items() if check.failures}
    assert found.keys() == failing.keys(), found
    for name, words in failing.items():
        assert re.search(words, found[name]), found[name]


def test_the_other_network_reached_in_a_turn_that_is_not_its_own_fails():
    """As a G that phase (2) reaches: by hand, for the step that this project has doesn't do it."""
    stage = DryRun(compose(*TINY, "model.generator.hidden=[]", "model.discriminator.hidden=[]"))
    module = stage.module()
    weights = {player: [f"{player}.layers.0.{name}" for name in ("weight", "bias")] for player in PLAYERS.values()}
    d, g = weights["discriminator"], weights["generator"]
    right = [
        Update("D", {**dict.fromkeys(d, 1.0), **dict.fromkeys(g)}, set(d)),
        Update("D", {**dict.fromkeys(d, 1.0), **dict.fromkeys(g)}, set(d)),
        Update("G", {**dict.fromkeys(g, 1.0), **dict.fromkeys(d)}, set(g)),
    ]
    assert check_objective(module, right, None, stage.parts).status == "pass"
    leaking = [right[0], Update("D", dict.fromkeys(d + g, 1.0), set(d)), right[2]]
    (failure,) = check_objective(module, leaking, None, stage.parts).failures
    assert "In (2) D on fakes, G, whose turn it isn't, is reached" in failure
    moving = [*right[:2], Update("G", right[2].gradients, set(g + d))]
    (failure,) = check_objective(module, moving, None, stage.parts).failures
    assert "In (3) G, D, whose turn it isn't" in failure
    unused = [*right[:2], Update("G", {**right[2].gradients, g[1]: None}, {g[0]})]
    (failure,) = check_objective(module, unused, None, stage.parts).failures
    assert "generator.layers.0.bias get no gradient" in failure


# Numbers by hand


def test_right_order_by_hand():
    real, fake = torch.tensor([0.9, 0.5]), torch.tensor([0.5, 0.1])
    assert right_order(real, fake) == (1 + 1 + 0.5 + 1) / 4
    assert right_order(fake, real) == 0.5 / 4
    assert math.isnan(right_order(torch.tensor([torch.nan]), fake))


def test_a_survey_by_hand():
    values = torch.tensor([[0.0, 4.0], [2.0, 4.0], [2.0, 4.0], [2.0, 2.0], [torch.nan, 9.0]])
    seen = survey(Part(values), seed=0)
    assert (seen.looked, seen.broken, seen.repeated, seen.constant) == (5, 1, 1, 1)
    assert (seen.low.tolist(), seen.high.tolist()) == ([0, 2], [2, 4])
    assert seen.mean == (0 + 2 + 2 + 2 + 4 + 4 + 4 + 2) / 8
    assert seen.spread == pytest.approx(math.sqrt(0.75)), "both positions: three of one value, one 2 away from it"
    assert not seen.alike


def test_flaws_of_data_are_told():
    values = torch.rand(200, 1, 4, 4, generator=make_generator(0, "flaws"))
    values[:20] = values[20]
    values[30:33] = 0.0
    labels = torch.tensor([0] * 190 + [1] * 10)
    dataset = Dataset(Part(values, labels), Part(values[100:150]), classes=["a", "b", "c"])
    check = check_data(dataset, survey(dataset.train, 0), batch_size=300, seed=0)
    told = " ".join(check.warnings)
    assert check.status == "warning"
    assert check.numbers["repeated"] == 20 + 2
    assert check.numbers["leaked"] == 50
    for part in ("11% of the samples", "3 images are one colour", "50 held-out", "1 classes have no sample (c)", "300"):
        assert part in told, part
    scaled = Dataset(Part(values * 255), Part(values[:9]))
    assert "go from 0 to 25" in check_data(scaled, survey(scaled.train, 0), 8, 0).failures[0]
    twice = Dataset(Part(values / 255), Part(values[:9]))
    assert "scaled down twice" in " ".join(check_data(twice, survey(twice.train, 0), 8, 0).warnings)
    uneven = Dataset(Part(values, labels), Part(values[:9]), classes=["a", "b"])
    assert "19 times as many" in " ".join(check_data(uneven, survey(uneven.train, 0), 8, 0).warnings)


def test_a_generator_that_hardly_looks_at_z_is_a_warning():
    dataset = same_but_varied()
    generator = Maker((1, 8, 8), 3, True, "sigmoid")
    z = torch.randn(100, 3, generator=make_generator(0, "z"))
    train = survey(dataset.train, 0)
    with torch.no_grad():
        assert check_generator(generator, generator(z), z, dataset, train, 0).status == "pass"
        generator.layers.weight.mul_(1e-3)
        check = check_generator(generator, generator(z), z, dataset, train, 0)
    assert "hardly varies with z" in check.warnings[0]


def same_but_varied() -> Dataset:
    part = Part(torch.rand(100, 1, 8, 8, generator=make_generator(0, "varied")))
    return Dataset(part, part)


def test_noise_fills_the_range():
    train = survey(Part(torch.tensor([[-2.0, 5.0], [2.0, 6.0]])), 0)
    drawn = noise(5000, train, False, make_generator(0, "test"))
    assert drawn.min(0).values.tolist() == pytest.approx([-2, 5], abs=0.01)
    assert drawn.max(0).values.tolist() == pytest.approx([2, 6], abs=0.01)
    assert drawn.mean(0).tolist() == pytest.approx([0, 5.5], abs=0.05)
    assert noise(5000, train, True, make_generator(0, "test")).aminmax() == pytest.approx((0, 1), abs=0.01)


# The commands


def test_check_writes_what_it_saw(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_here("scripts/check.py", *TINY) == 0
    (folder,) = Path("outputs/digits").glob("check_*")
    names = [f"{number}_{name}.png" for number, name in enumerate(CHECKS, start=1)]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "checks.json"]
    for name in names:
        assert imread(folder / name).std() > 0.05
    kept = json.loads((folder / "checks.json").read_text())
    assert kept["status"] == "pass"
    assert [(check["name"], check["status"], check["picture"]) for check in kept["checks"]] == [
        (name, "pass", picture) for name, picture in zip(CHECKS, names, strict=True)
    ]
    told = capsys.readouterr().out
    for part in ("✓ 1 the data: pass", "1,437 to train on, 360 held out", "360 held-out samples", "4 checks: 4 × pass"):
        assert part in told
    assert all(str(folder / name) in told for name in names)
    assert all(len(line) <= 120 for line in told.splitlines())


def test_check_ends_with_1_for_a_failure_and_2_for_a_mistake(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_here("scripts/check.py", *TINY, "optim.lr=0", "name=still") == 1
    assert "✗ 2 D against noise: failure" in capsys.readouterr().out
    assert list(Path("outputs/still").glob("check_*/checks.json"))
    for mistake, told in (
        ("optim.lr=-1", "optim.lr=-1 won't do"),
        ("optim.lrr=1", "There is no key 'optim.lrr'. Did you mean 'optim.lr'?"),
        ("resume=outputs/still", "resume goes with train.py only"),
        ("force=true", "force=true goes with resume"),
    ):
        assert run_here("scripts/check.py", "name=mistaken", mistake) == 2
        assert told in capsys.readouterr().err
    assert [path.name for path in Path("outputs").iterdir()] == ["still"], "nothing half-made"


def test_help_names_the_checks(capsys):
    assert run_here("scripts/check.py", "--help") == 0
    told = capsys.readouterr().out
    for part in ("1 the data", "2 D against noise", "3 the untrained G", "4 the objective", "preflight=true"):
        assert part in told
    assert run_here("train.py", "--help") == 0
    assert "preflight        true: the checks of scripts/check.py first" in capsys.readouterr().out


RUN = (
    *TINY,
    "steps=12",
    "log_every=3",
    "~callbacks.progress",
    "~callbacks.pictures",
    "~callbacks.verdict",
    "logger=table",
)


def test_preflight_stops_a_training_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_here("train.py", *RUN, "optim_g.lr=0", "preflight=true") == 2
    told = capsys.readouterr().err
    assert told.startswith("Pre-flight check failed (the objective")
    assert "no weight of G moves" in told
    assert "optim_g.lr" in told
    assert list(tmp_path.iterdir()) == []

    def full(*_):
        raise LabError("The disk is full.")

    monkeypatch.setattr(build, "build", full)
    assert run_here("train.py", *RUN, "preflight=true") == 2
    assert "The disk is full." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [], "neither do checks that passed"


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
    ours, theirs = (run.load_checkpoint() for run in runs.values())
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    assert all(torch.equal(ours["state_dict"][key], theirs["state_dict"][key]) for key in ours["state_dict"])
    assert torch.equal(ours["gan_lab"]["torch_rng"], theirs["gan_lab"]["torch_rng"])
    # what goes on was checked before it began
    monkeypatch.setattr(preflight, "run_checks", lambda _: pytest.fail("checked again"))
    assert run_here("train.py", f"resume={runs['without'].folder}", "steps=15", "preflight=true") == 0
    assert runs["without"].read_summary()["steps"] == 15
