"""Replicas: K GANs in one process, each of them the one that its seed gives alone."""

import json
import re
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import OPTIONS, classifier_cache, compose, refused, training, use_loss
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from gan_lab.assembly.build import DryRun, Training, load
from gan_lab.assembly.instantiate import build_module
from gan_lab.commands.evaluate import describe, evaluate
from gan_lab.commands.train import fit
from gan_lab.compare import compare, panels, snapshots
from gan_lab.core.errors import LabError, RunError
from gan_lab.core.rng import make_generator
from gan_lab.core.run_folder import Run
from gan_lab.data import images
from gan_lab.data.datamodule import BatchStream
from gan_lab.data.dataset import Dataset, Part
from gan_lab.evaluation import aggregate
from gan_lab.evaluation.verdict import EvaluationResult
from gan_lab.explore import Request, explore
from gan_lab.gan.losses import BCE
from gan_lab.gan.networks.replicated import Replicated
from gan_lab.plotting.curves import loss_curves
from gan_lab.plotting.samples import compare_members
from gan_lab.training.callbacks import sample_grids
from gan_lab.training.sampling import fresh_samples

BARE = (
    "logger=table",
    "~callbacks.verdict",
    "~callbacks.pictures",
    "~callbacks.curves",
    "batch_size=4",
    "latent_dim=3",
)
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
    job, _ = training(folder, *BARE, *overrides)
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
TOGETHER = {  # several a case: each costs some trainings
    "loss=hinge": ("remedy=[r1,ema,decay]",),
    "loss=wasserstein": ("remedy=[wgan_gp,n_critic,historical_averaging]", "n_critic=2", "dataset.samples=60"),
    "loss=relativistic": ("remedy=[dragan,lecam,ttur,instance_noise]", "remedy.lecam.warmup_steps=5", "n_generator=2"),
    "loss=relativistic_average": ("remedy=[unrolled,mode_seeking,pac,r2]", "remedy.unrolled.k=2"),
    "loss=lsgan": ("remedy=[feature_matching,gdpp]", "latent_dim=2"),
    "loss=saturating": ("remedy=[label_smoothing,top_k]", "conditional=true"),
    "loss=mse": ("remedy=[minibatch_discrimination,lecam]", "remedy.lecam.warmup_steps=0"),
    "loss=bce": ("remedy=[minibatch_stddev,dragan,historical_averaging]", "conditional=true"),
}
EXACT |= {case: (*MLP, case, *others) for case, others in TOGETHER.items()}
EXACT |= {
    "conv remedies": (*CONV, "norm=batch", "remedy=[diffaugment,ema,r1]", "remedy.ema.decay=0.8"),
    "conv views": (*CONV, "norm=layer", "loss=hinge", "remedy=[pac,instance_noise,wgan_gp,feature_matching,lecam]"),
}
ALLOWED = [f"{group}={option}" for group, option in OPTIONS if group == "loss"]
ALLOWED += [option for group, option in OPTIONS if group == "remedy" and option != "balance"]
SEEN = {word for case in EXACT.values() for each in case for word in (each, *re.findall(r"\w+", each))}
EXACT |= {each: (*MLP, each if "=" in each else f"remedy=[{each}]") for each in ALLOWED if each not in SEEN}  # new ones


@pytest.mark.parametrize("case", EXACT)
def test_each_member_is_the_gan_that_its_seed_gives_alone(tmp_path, doubles, case):
    """20 steps: weights, batch statistics and recorded losses, over the ends of epochs, rows and chunks."""
    members = 2 if case in TOGETHER else 3
    settings = (*EXACT[case], "steps=20", "log_every=7")
    together = _fitted(tmp_path / "together", *settings, f"seed={SEED}", f"replicas={members}")
    table = together.trainer.loggers[0].rows
    for i in range(members):
        alone = _fitted(tmp_path / f"{i}", *settings, f"seed={SEED + i}")
        member = together.module.member(i)
        assert (member.seed, member.step) == (alone.module.seed, 20)
        for name, expected in alone.module.state_dict().items():
            torch.testing.assert_close(member.state_dict()[name], expected, rtol=0, atol=1e-8, msg=f"{i}: {name}")
        for step, row in alone.trainer.loggers[0].rows.items():
            for name, expected in row.items():
                assert table[step][f"{name}/{i}"] == pytest.approx(expected, abs=1e-8)
    mean = sum(table[14][f"loss/g/{i}"] for i in range(members)) / members
    assert table[14]["loss/g"] == pytest.approx(mean, abs=1e-12)
    assert together.module.generator.batched == (
        case not in ("rmsprop batch", "mse adamw group") and "conv" not in case
    )
    assert together.module.discriminator.batched == (
        together.module.generator.batched and "minibatch" not in str(EXACT[case])
    )


def test_members_differ_from_the_start():
    module = build_module(compose(*BARE, *MLP, "replicas=3"), Dataset(Part(torch.zeros(9, 2)), Part(torch.zeros(9, 2))))
    weights = module.generator.state_dict()["networks.layers.0.weight"]
    assert weights.shape == (3, 16, 3)
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize("drawn", [False, True])
def test_the_stream_gives_each_member_its_own_order_wherever_it_starts(monkeypatch, drawn):
    if drawn:
        monkeypatch.setattr("gan_lab.data.datamodule.MAX_SHUFFLED", 5)
    part = Part(torch.arange(7.0)[:, None])  # an epoch ends in the middle of a batch
    together = torch.cat(list(BatchStream(part, 3, SEED, 25, boundaries=[4], replicas=2)))
    assert together.shape == (25, 2, 3, 1)
    for i in range(2):
        assert torch.equal(together[:, i], torch.cat(list(BatchStream(part, 3, SEED + i, 25))))
    late = torch.cat(list(BatchStream(part, 3, SEED, 25, start=13, boundaries=[5], replicas=2)))
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
    output = together(x)
    output.square().sum().backward()
    for i, alone in enumerate(networks):
        expected = alone(x[i])
        torch.testing.assert_close(output[i], expected)
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
    with refused("unknown", "member"):
        module.member(2)
    alone = build_module(compose(*BARE, *MLP), Dataset(Part(torch.zeros(9, 2)), Part(torch.zeros(9, 2))))
    assert alone.member(0) is alone
    with refused("unknown", "member"):
        alone.member(1)


# A member that blows up.

AT = 18  # the step in which it does: between two rows, two checkpoints and two chunks
SMALL = (*BARE, *MLP, "steps=40", "log_every=4", "callbacks.checkpoint.every=5", "replicas=3", f"seed={SEED}")


class Faulty(BCE):
    """BCE that goes wrong for some members: by its value in phase 2 from step AT on, or by G's gradient in it."""

    def __init__(self, job: Training, *members: int, by: str = "value"):
        self.module, self.members, self.by = job.module, list(members), by

    def d_fake(self, scores):
        return self.spoil(super().d_fake(scores), scores, "value")

    def g(self, fake_scores, real_scores=None):
        return self.spoil(super().g(fake_scores), fake_scores, "gradient")

    def spoil(self, values, scores, by):
        due = self.module.step >= AT - 1 if by == "value" else self.module.step == AT - 1
        if by != self.by or not due or not scores.requires_grad:
            return values
        spoil = torch.ones(3, 1).index_fill(0, torch.tensor(self.members), torch.nan)
        if by == "value":
            return values * spoil
        scores.register_hook(lambda gradient: gradient * spoil)
        return values


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Training:
    """The training that nothing goes wrong in."""
    job, run = training(tmp_path_factory.mktemp("sound") / "run", *SMALL)
    fit(job, run)
    return job


def _same(member, other) -> bool:
    pairs = zip(member.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("by", ["value", "gradient"])
def test_a_member_that_blows_up_is_told_and_frozen_and_the_others_go_on(tmp_path, capsys, sound, by):
    job, run = training(tmp_path / "run", *SMALL)
    use_loss(job.module, Faulty(job, 1, by=by))
    fresh = job.module.member(1)
    summary, code = fit(job, run)
    assert (summary["status"], summary["steps"], code) == ("finished", 40, 0)
    step = AT if by == "value" else AT + 1  # G's broken weights show in the next step's fakes
    error = f"The numbers blew up at step {step}: loss/d_fake is nan."
    assert [metrics.get("error") for metrics in summary["replica_metrics"]] == [None, error, None]
    assert f"Member 1 (seed 6) blew up at step {step}" in capsys.readouterr().err
    for i in (0, 2):
        assert _same(job.module.member(i), sound.module.member(i)), "to the bit as if nothing had happened"
    assert _same(job.module.member(1), fresh), "back at the last copy, of step 0"
    checkpoint = run.load_checkpoint()
    assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())
    table = pd.read_csv(run.metrics).set_index("step")
    assert table["loss/g/1"].notna().tolist() == [True] * 4 + [False] * 6
    assert table.loc[24, "loss/g"] == pytest.approx(table.loc[24, ["loss/g/0", "loss/g/2"]].mean(), rel=1e-6)
    assert table["loss/g"].notna().all()


@pytest.mark.parametrize("by", ["value", "gradient"])
def test_a_member_that_blows_up_keeps_its_averages_to_itself(tmp_path, by):
    chosen = ("remedy=[ema,lecam,historical_averaging]", "remedy.ema.decay=0.8", "remedy.lecam.warmup_steps=5")
    trained = []
    for name in ("sound", "broken"):
        job, run = training(tmp_path / name, *SMALL, *chosen)
        fresh = job.module.member(1)
        if name == "broken":
            use_loss(job.module, Faulty(job, 1, by=by))
        fit(job, run)
        trained.append(job.module)
    assert list(trained[1].step_log.failed) == [1]
    for i in (0, 2):
        assert _same(*(module.member(i) for module in trained)), "averages included"
    state = trained[1].member(1).state_dict()
    names = [name for name in state if not name.endswith(".calls")]
    assert len([name for name in names if not name.startswith(("generator", "discriminator"))]) > 20
    assert all(torch.equal(state[name], fresh.state_dict()[name]) for name in names if "stateful_penalties" not in name)
    assert all(tensor.isfinite().all() for tensor in run.load_checkpoint()["state_dict"].values())


def test_weights_that_no_loss_has_shown_broken_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("test_replicas.AT", 40)
    job, run = training(tmp_path / "run", *SMALL)
    use_loss(job.module, Faulty(job, 0, 2, by="gradient"))
    summary, _ = fit(job, run)
    assert summary["status"] == "finished"
    assert "at step 40: generator.networks.layers.0.weight holds nan" in summary["replica_metrics"][0]["error"]
    assert run.load_checkpoint()["gan_lab"]["step"] == 40
    assert all(tensor.isfinite().all() for tensor in run.load_checkpoint()["state_dict"].values())


def test_a_frozen_member_stays_frozen_when_the_run_goes_on(tmp_path, capsys, sound):
    job, run = training(tmp_path / "run", *SMALL, "steps=25")
    use_loss(job.module, Faulty(job, 1))
    fresh = job.module.member(1)
    fit(job, run)
    again, run = training(tmp_path / "run", *SMALL)
    capsys.readouterr()
    summary, _ = fit(again, run)
    assert "blew up" not in capsys.readouterr().err, "that was told before"
    assert summary["steps"] == 40
    assert _same(again.module.member(1), fresh)
    assert _same(again.module.member(2), sound.module.member(2))
    assert f"step {AT}: loss/d_fake" in summary["replica_metrics"][1]["error"]
    module, _ = load(run)
    assert [i for i, _ in module.members()] == [0, 2]


def test_when_all_members_have_blown_up_the_run_fails(tmp_path):
    job, run = training(tmp_path / "run", *SMALL)
    use_loss(job.module, Faulty(job, 0, 1, 2))
    with pytest.raises(
        RunError, match=f"blew up at step {AT}: loss/d_fake is nan, in the last of the replicas"
    ) as error:
        fit(job, run)
    assert all(f"Member {i}, step {AT}: loss/d_fake is nan." in str(error.value) for i in range(3))
    assert "optim.lr" in str(error.value)
    summary = run.read_summary()
    assert (summary["status"], summary["steps"]) == ("failed", AT - 1)
    assert all(f"step {AT}" in metrics["error"] for metrics in summary["replica_metrics"])


# What a run leaves.

JUDGED = (
    *("dataset=ring", *MLP[2:], "steps=40", "log_every=10", "replicas=3", f"seed={SEED}", "latent_dim=3"),
    *("callbacks.verdict.every=20", "callbacks.verdict.samples=300", "callbacks.pictures.every=40"),
)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Run:
    job, run = training(tmp_path_factory.mktemp("judged") / "run", *JUDGED)
    fit(job, run)
    return run


def test_the_summary_has_each_members_metrics_their_mean_and_spread(evaluated):
    summary = evaluated.read_summary()
    assert (summary["replicas"], summary["seed"]) == (3, SEED)
    members = summary["replica_metrics"]
    assert [member["seed"] for member in members] == [5, 6, 7]
    for name in ("coverage", "frechet_distance", "d_answer_real"):
        values = [member[name] for member in members]
        assert summary["metrics"][name] == pytest.approx(statistics.fmean(values))
        assert summary["replica_spread"][name] == pytest.approx(statistics.stdev(values))
    assert summary["metrics"]["samples"] == 300
    assert all(words["collapse"] in words["sentence"].lower() for words in summary["replica_verdicts"])
    row = pd.read_csv(evaluated.metrics).set_index("step").loc[40]
    assert [row[f"metric/coverage/{i}"] for i in range(3)] == pytest.approx([m["coverage"] for m in members], rel=1e-6)
    assert row["metric/coverage"] == pytest.approx(summary["metrics"]["coverage"], rel=1e-6)


def test_a_member_is_judged_as_it_would_be_alone(evaluated, tmp_path):
    """On the same samples, up to round-off in 40 steps of float32; the other way of judging gives other samples."""
    job, run = training(tmp_path / "run", *JUDGED, "replicas=1", f"seed={SEED + 1}", "~callbacks.pictures")
    alone, _ = fit(job, run)
    module, _ = load(evaluated)
    ours, theirs = (fresh_samples(each, 300, "verdict/end") for each in (module.member(1), job.module))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)
    assert not torch.allclose(ours, fresh_samples(module.member(0), 300, "verdict/end"), atol=0.1)
    member = evaluated.read_summary()["replica_metrics"][1]
    assert member["frechet_distance"] == pytest.approx(alone["metrics"]["frechet_distance"], abs=0.01)


def test_tensorboard_shows_the_mean_alone(evaluated):
    board = EventAccumulator(str(evaluated.folder)).Reload()
    assert "loss/g" in board.Tags()["scalars"]
    assert not [tag for tag in board.Tags()["scalars"] if tag.rpartition("/")[2].isdecimal()]
    row = pd.read_csv(evaluated.metrics).set_index("step").loc[20]
    (value,) = (event.value for event in board.Scalars("loss/g") if event.step == 20)
    assert value == pytest.approx(row[["loss/g/0", "loss/g/1", "loss/g/2"]].mean(), rel=1e-5)


def _judgement(collapse: str, modes: int, copies: bool = False, likeness: str = "good", **metrics) -> EvaluationResult:
    verdict = {"collapse": collapse, "copies": copies, "likeness": likeness, "sentence": "…"}
    return EvaluationResult(
        {"modes_robust": modes, **metrics}, {}, {}, torch.tensor([modes] * 8), verdict, "their own values"
    )


def test_the_verdict_of_all_is_the_worst_and_says_how_many():
    judgements = {
        0: _judgement("covered", 8, kl_data=0.5),
        1: _judgement("collapsed", 2, likeness="poor", kl_data=None),
        2: _judgement("covered", 8, copies=True, kl_data=0.1),
        4: _judgement("partial", 6, kl_data=None),
    }
    whole = aggregate.combine(judgements, replicas=5, seed=10)
    assert {key: whole.verdict[key] for key in ("collapse", "copies", "likeness")} == {
        "collapse": "collapsed",
        "copies": True,
        "likeness": "poor",
    }
    assert whole.verdict["sentence"] == (
        "Covered in 2 of 5 members, partial in 1 (seed 14), collapsed in 1 (seed 11), "
        "failed with NaN or infinity in 1 (seed 13). "
        "Modes with at least half of their expected count: 6 of 8 on average, 2 to 8. "
        "The samples look like the data in 3 of 4 members and copy the training data in 1."
    )
    assert whole.metrics == {"modes_robust": 6, "kl_data": pytest.approx(0.3)}
    assert whole.counts.tolist() == [24] * 8
    assert aggregate.balance(["balanced", "G is winning", "balanced"]) == "G is winning"
    assert aggregate.balance(["balanced", "balanced"]) == "balanced"
    assert aggregate.spread([{"a": 1, "b": 2}, {"a": 4, "b": None}]) == {"a": pytest.approx(4.5**0.5), "b": None}


def test_curves_have_a_band_from_the_lowest_to_the_highest_member():
    table = pd.DataFrame({"step": [1, 2], "loss/d_real": [1.0, 2], "loss/d_fake": [1.0, 2], "loss/g": [2.0, 3]})
    assert not loss_curves(table, BCE()).axes[0].collections
    for i, values in enumerate(([0.5, 2.5], [1.5, np.nan], [1.0, 1.5])):
        for name in ("loss/d_real", "loss/d_fake", "loss/g"):
            table[f"{name}/{i}"] = values
    band = loss_curves(table, BCE()).axes[1].collections[0]
    ends = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert ends == {(1, 0.5), (1, 1.5), (2, 1.5), (2, 2.5)}
    assert band.get_label() == "lowest to highest of 3 members"


@pytest.mark.parametrize(("shape", "panels"), [((1, 8, 8), 3), ((2,), 3), ((4,), 3)])
def test_a_picture_has_a_place_for_each_member_and_for_real_samples(shape, panels):
    part = Part(torch.rand(9, *shape))
    figure = compare_members(
        [torch.rand(6, *shape)] * 2, ["member 0", "member 1"], part.values, Dataset(part, part), "t"
    )
    assert len(figure.axes) == panels
    names = [axes.get_ylabel() if len(shape) == 3 else axes.get_title() for axes in figure.axes]
    assert names == ["member 0", "member 1", "real"]


def test_pictures_show_each_member_with_the_latent_vectors_that_it_would_have_alone(tmp_path, monkeypatch):
    drawn = []

    def keep(fakes, *arguments):
        drawn.append(fakes)
        return compare_members(fakes, *arguments)

    monkeypatch.setattr(sample_grids, "compare_members", keep)
    settings = (
        "dataset=pattern1010",
        *MLP[2:],
        "latent_dim=3",
        "batch_size=4",
        "steps=2",
        "callbacks.pictures.images=6",
    )
    job, run = training(tmp_path / "run", *settings, "replicas=2", "~callbacks.verdict", f"seed={SEED}")
    fit(job, run)
    alone = build_module(compose(*settings, f"seed={SEED + 1}"), job.datamodule.dataset)
    z = alone.latent((6, 3), make_generator(SEED + 1, "pictures/latent"))
    torch.testing.assert_close(drawn[0][1], alone.sample(z))
    assert sorted(path.name for path in run.images.glob("*map*")) == ["heatmap_0.png", "heatmap_1.png"]


def test_a_report_shows_members_as_runs(evaluated):
    tables = panels.read_curves(evaluated.metrics)
    assert len(tables) == 3
    row = pd.read_csv(evaluated.metrics).set_index("step").loc[20]
    assert tables[2].loc[20, "loss/g"] == row["loss/g/2"]
    picture = snapshots.last_picture(evaluated)
    assert picture.real is None
    assert picture.generated.width > 1.5 * picture.generated.height, "a wide one, not cut into halves"


@pytest.mark.parametrize("model", [MLP, (*CONV, "norm=batch")])
def test_mixed_precision(tmp_path, little_images, model, capsys):
    job = _fitted(tmp_path / "run", *model, "replicas=2", "steps=2", "trainer.precision=bf16-mixed")
    before = build_module(compose(*BARE, *model, "replicas=2"), job.datamodule.dataset)
    pairs = zip(before.parameters(), job.module.parameters(), strict=True)
    assert all(parameter.isfinite().all() and not torch.equal(old, parameter) for old, parameter in pairs)
    warned = "Convolutions on a CPU gain little from replicas" in capsys.readouterr().out
    assert warned == ("model=conv" in model)


# Commands over a run.


def test_evaluate_judges_all_members_or_one(evaluated):
    every = evaluate(evaluated, 200, 2, 1, None, classifier_cache())
    ones = [evaluate(evaluated, 200, 2, 1, None, classifier_cache(), member=i) for i in range(3)]
    assert (every["members"], ones[2]["members"]) == ([0, 1, 2], [2])
    values = [one["mean"]["coverage"] for one in ones]
    assert every["mean"]["coverage"] == pytest.approx(statistics.fmean(values))
    assert every["spread"]["coverage"] == pytest.approx(statistics.stdev(values))
    assert len(every["verdicts"]) == 6
    assert "member 2: " in describe(every)
    with refused("unknown", "member"):
        evaluate(evaluated, 200, 1, 1, None, classifier_cache(), member=3)


def test_explore_looks_at_the_member_that_is_named(evaluated):
    ask = {"op": "grid", "a": "1", "b": "2", "by": "seed", "n": 4, "mode": "linear", "normalize": "false"}
    ask |= {"pairs": 1, "confidence": 0.9, "seed": 0, "tries": 10}
    first, third = (explore(evaluated, Request(**ask, member=m), 1, None, classifier_cache()) for m in (None, 2))
    assert "member 0" in first
    assert "member 2" in third
    tables = [pd.read_csv(path) for path in sorted(evaluated.explore.glob("*.csv"))]
    assert len(tables) == 2, "neither overwrites the other"
    with refused("unknown", "member"):
        explore(evaluated, Request(**ask, member=3), 1, None, classifier_cache())


def test_a_comparison_counts_members_as_runs_of_their_seeds(evaluated, tmp_path):
    folder = tmp_path / "runs"
    for name, seed in (("a", 5), ("b", 7), ("c", 8)):
        (folder / name).mkdir(parents=True)
        config = evaluated.config.read_text().replace(f"seed: {SEED}", f"seed: {seed}")
        summary = evaluated.read_summary() | {"seed": seed}
        if name == "c":
            summary["replica_metrics"][1] = {"seed": 9, "error": "The numbers blew up at step 3: loss/g is nan."}
        (folder / name / "config.yaml").write_text(config)
        (folder / name / "summary.json").write_text(json.dumps(summary))
    findings = compare([folder])
    rows = findings.runs[["run", "seed", "member"]].to_numpy().tolist()
    assert rows == [["a", "5", 0], ["a", "6", 1], ["a", "7", 2], ["c", "8", 0], ["c", "10", 2]]
    reasons = dict(findings.excluded[["seed", "reason"]].to_numpy().tolist())
    assert "no independent repetition: settings and some seed are those of a" in reasons["7"]
    assert reasons["9"] == "failed: member 1: The numbers blew up at step 3: loss/g is nan."
    assert findings.runs["coverage"][0] == evaluated.read_summary()["replica_metrics"][0]["coverage"]


def test_the_checks_before_a_training_look_at_the_first_member():
    stage = DryRun(compose(*BARE, *MLP, "replicas=3", f"seed={SEED}"))
    alone = build_module(compose(*BARE, *MLP, f"seed={SEED}"), stage.dataset)
    assert _same(stage.module(), alone)


# What can't be.


@pytest.mark.parametrize(
    ("overrides", "phrase"),
    [
        ("replicas=0", "replicas=0 is not allowed: replicas has to be a whole number ≥ 1 and ≤ 1,024"),
        ("replicas=2 norm=spectral", "norm=spectral can't be combined with replicas=2.*\n.*-m seed=0,1,2"),
        ("replicas=2 optim._target_=torch.optim.Adafactor", "optim: torch.optim.Adafactor would mix.*\n.*-m seed"),
        ("replicas=2 seed=4294967295", "replicas=2 would need the seeds up to 4294967296"),
    ],
)
def test_what_only_one_gan_can_have_is_refused_by_name(overrides, phrase):
    with pytest.raises(LabError, match=phrase):
        compose(*overrides.split())
    compose(*overrides.replace("replicas=2", "replicas=1").replace("replicas=0", "").split())


def test_networks_that_cannot_be_played_together_are_refused_by_name():
    data = Dataset(Part(torch.zeros(9, 2)), Part(torch.zeros(9, 2)))
    build_module(compose(*BARE, *MLP, "activation._target_=torch.nn.RReLU", "~activation.negative_slope"), data)
    with refused("unsupported", "replicas"):
        build_module(
            compose(*BARE, *MLP, "activation._target_=torch.nn.RReLU", "~activation.negative_slope", "replicas=2"), data
        )
