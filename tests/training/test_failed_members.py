"""A member of several GANs with NaN or infinity is reported and frozen; the others continue."""

import pandas as pd
import pytest
import torch
from conftest import BARE, training, use_loss

from gan_lab.assembly.build import Training, load
from gan_lab.commands.train import fit
from gan_lab.core.errors import RunError
from gan_lab.gan.losses import BCE

pytestmark = pytest.mark.usefixtures("undrawn", "quick_verdict")

SEED = 5


MLP = ("dataset=ring", "dataset.samples=50", "model.generator.hidden=[16]", "model.discriminator.hidden=[16,8]")
# The step in which a member blows up: between two rows, two checkpoints and two blocks of steps.
FAULTY_STEP = 18
SMALL = (*BARE, *MLP, "steps=40", "log_every=4", "callbacks.checkpoint.every=5", "replicas=3", f"seed={SEED}")
# A loss that goes wrong on purpose is put into the finished GAN.
SMALL = (*SMALL, "engine=autograd")


class Faulty(BCE):
    """BCE that goes wrong for some members: by its value in phase 2 from step AT on, or by G's gradient in it."""

    def __init__(self, job: Training, *members: int, by: str = "value"):
        self.module = job.module
        self.members = list(members)
        self.by = by

    def d_fake(self, scores):
        return self.spoil(super().d_fake(scores), scores, "value")

    def g(self, fake_scores, real_scores=None):
        return self.spoil(super().g(fake_scores), fake_scores, "gradient")

    def spoil(self, values, scores, by):
        is_due = self.module.step == FAULTY_STEP - 1
        if by == "value":
            is_due = self.module.step >= FAULTY_STEP - 1
        if by != self.by or not is_due or not scores.requires_grad:
            return values
        factors = torch.ones(3, 1).index_fill(0, torch.tensor(self.members), torch.nan)
        if by == "value":
            return values * factors
        scores.register_hook(lambda gradient: gradient * factors)
        return values


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Training:
    """A training in which no member blows up."""
    job, run = training(tmp_path_factory.mktemp("sound") / "run", *SMALL)
    fit(job, run)
    return job


def _same(member, other) -> bool:
    pairs = zip(member.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("by", ["value", "gradient"])
def test_a_member_that_blows_up_is_reported_and_frozen_and_the_others_continue(tmp_path, capsys, sound, by):
    job, run = training(tmp_path / "run", *SMALL)
    use_loss(job.module, Faulty(job, 1, by=by))
    fresh = job.module.member(1)
    summary, code = fit(job, run)
    assert (summary["status"], summary["steps"], code) == ("finished", 40, 0)
    # G's broken weights show in the fakes of the next step.
    step = FAULTY_STEP if by == "value" else FAULTY_STEP + 1
    error = f"NaN or infinity at step {step}: loss/d_fake is nan."
    assert [metrics.get("error") for metrics in summary["replica_metrics"]] == [None, error, None]
    assert f"Member 1 (seed 6) produced NaN or infinity at step {step}" in capsys.readouterr().err
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
def test_a_member_that_blows_up_does_not_change_the_averages_of_others(tmp_path, by):
    remedies = ("remedy=[ema,lecam,historical_averaging]", "remedy.ema.decay=0.8", "remedy.lecam.warmup_steps=5")
    modules = []
    for name in ("sound", "broken"):
        job, run = training(tmp_path / name, *SMALL, *remedies)
        fresh = job.module.member(1)
        if name == "broken":
            use_loss(job.module, Faulty(job, 1, by=by))
        fit(job, run)
        modules.append(job.module)
    assert list(modules[1].step_log.failed) == [1]
    for i in (0, 2):
        assert _same(*(module.member(i) for module in modules)), "averages included"
    state = modules[1].member(1).state_dict()
    names = [name for name in state if not name.endswith(".calls")]
    assert len([name for name in names if not name.startswith(("generator", "discriminator"))]) > 20
    assert all(torch.equal(state[name], fresh.state_dict()[name]) for name in names if "stateful_penalties" not in name)
    assert all(tensor.isfinite().all() for tensor in run.load_checkpoint()["state_dict"].values())


def test_broken_weights_that_no_loss_has_seen_yet_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("test_failed_members.FAULTY_STEP", 40)
    job, run = training(tmp_path / "run", *SMALL)
    use_loss(job.module, Faulty(job, 0, 2, by="gradient"))
    summary, _ = fit(job, run)
    assert summary["status"] == "finished"
    assert "at step 40: generator.networks.layers.0.weight holds nan" in summary["replica_metrics"][0]["error"]
    assert run.load_checkpoint()["gan_lab"]["step"] == 40
    assert all(tensor.isfinite().all() for tensor in run.load_checkpoint()["state_dict"].values())


def test_a_frozen_member_stays_frozen_when_the_run_is_resumed(tmp_path, capsys, sound):
    job, run = training(tmp_path / "run", *SMALL, "steps=25")
    use_loss(job.module, Faulty(job, 1))
    fresh = job.module.member(1)
    fit(job, run)
    resumed, run = training(tmp_path / "run", *SMALL)
    capsys.readouterr()
    summary, _ = fit(resumed, run)
    assert "NaN or infinity" not in capsys.readouterr().err, "that was reported before"
    assert summary["steps"] == 40
    assert _same(resumed.module.member(1), fresh)
    assert _same(resumed.module.member(2), sound.module.member(2))
    assert f"step {FAULTY_STEP}: loss/d_fake" in summary["replica_metrics"][1]["error"]
    module, _ = load(run)
    assert [i for i, _ in module.members()] == [0, 2]


def test_when_all_members_have_blown_up_the_run_fails(tmp_path):
    job, run = training(tmp_path / "run", *SMALL)
    use_loss(job.module, Faulty(job, 0, 1, 2))
    with pytest.raises(
        RunError, match=f"NaN or infinity at step {FAULTY_STEP}: loss/d_fake is nan, in the last of the replicas"
    ) as error:
        fit(job, run)
    assert all(f"Member {i}, step {FAULTY_STEP}: loss/d_fake is nan." in str(error.value) for i in range(3))
    assert "optim.lr" in str(error.value)
    summary = run.read_summary()
    assert (summary["status"], summary["steps"]) == ("failed", FAULTY_STEP - 1)
    assert all(f"step {FAULTY_STEP}" in metrics["error"] for metrics in summary["replica_metrics"])
