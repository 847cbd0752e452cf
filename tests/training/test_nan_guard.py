"""Numbers that blow up stop the run at that step, and the message says where."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from conftest import classifier_cache, command_here, training, use_loss

from gan_lab.commands.train import fit
from gan_lab.core.errors import RunError
from gan_lab.gan.losses import BCE, Relativistic
from gan_lab.training.callbacks import nan_guard

pytestmark = pytest.mark.usefixtures("undrawn", "quick_verdict")

TINY = (
    "model.depth=1",
    "model.width=16",
    "batch_size=4",
    "latent_dim=3",
    "steps=40",
    "log_every=4",
    "callbacks.checkpoint.every=5",
    "callbacks.verdict.samples=100",
    "callbacks.pictures.images=9",
    # Losses and optimizers that go wrong on purpose are put into the finished GAN.
    "engine=autograd",
)
AT = 18  # the step in which it happens: between two rows, two checkpoints and two chunks


class Faulty(BCE):
    """BCE whose term in one phase goes wrong in step AT."""

    def __init__(self, phase: str, what: str):
        self.phase, self.what = phase, what

    def d_real(self, scores):
        return self.spoil("d_real", super().d_real(scores), scores)

    def d_fake(self, scores):
        return self.spoil("d_fake", super().d_fake(scores), scores)

    def g(self, fake_scores, real_scores=None):
        return self.spoil("g", super().g(fake_scores), fake_scores)

    def spoil(self, phase, values, scores):
        if phase == self.phase and self.module.step == AT - 1 and scores.requires_grad:
            if self.what == "loss":
                return values * float("inf")
            scores.register_hook(lambda gradient: gradient * float("nan"))
        return values


def _fails(tmp_path, *overrides, loss=None, prepare=lambda job: None):
    job, run = training(tmp_path / "run", *TINY, *overrides)
    if loss:
        loss.module = job.module
        use_loss(job.module, loss)
    prepare(job)
    with pytest.raises(RunError) as error:
        fit(job, run)
    return job, run, str(error.value)


PHASES = {"d_real": "phase (1), D on real data", "d_fake": "phase (2), D on fakes", "g": "phase (3), G"}
COSTS = {"d_real": "the loss on real data", "d_fake": "the loss on fakes", "g": "the adversarial loss"}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_the_message_names_step_phase_and_tensor(tmp_path, phase, what):
    _, run, message = _fails(tmp_path, loss=Faulty(phase, what))
    network = "generator" if phase == "g" else "discriminator"
    tensor = f"the gradient of {network}.layers.0.weight holds nan"
    if what == "loss":
        tensor = f"{COSTS[phase]} holds inf"
    assert f"NaN or infinity at step {AT}: in {PHASES[phase]}, {tensor}" in message
    assert "optim.lr" in message, "what usually helps"
    summary = run.read_summary()
    assert (summary["status"], summary["steps"]) == ("failed", AT - 1)
    assert summary["error"] == message
    assert run.load_checkpoint()["gan_lab"]["step"] == 15, "the last good checkpoint"
    assert "The checkpoint of step 15 is kept" in message
    assert all(torch.isfinite(t).all() for t in run.load_checkpoint()["state_dict"].values())
    table = pd.read_csv(run.metrics)
    assert table["loss/g"].notna().all()
    assert (run.plots / "losses.png").is_file(), "how it came to that"
    run.claim()  # is free again


def test_the_last_finite_values_are_those_of_the_step_before(tmp_path):
    _, _, message = _fails(tmp_path, loss=Faulty("d_fake", "gradient"))
    sound, run = training(tmp_path / "sound", *TINY, "log_every=1", f"steps={AT}")
    fit(sound, run)
    row = pd.read_csv(run.metrics).set_index("step").loc[AT - 1]
    values = ", ".join(f"{name} {row[name]:.4g}" for name in ("loss/d_real", "loss/d_fake", "loss/g"))
    assert f"At step {AT - 1} all values were finite: {values}" in message


def test_a_weight_that_overflows_is_found_although_its_gradient_is_finite(tmp_path):
    def overflow(job):
        make = job.module.settings.optim_g

        def optimiser(parameters):
            make_watched = make(parameters)

            def spoil(optimiser, *_):
                if job.module.step == AT - 1:
                    optimiser.param_groups[0]["params"][2].data[1] = float("-inf")

            make_watched.register_step_post_hook(spoil)
            return make_watched

        job.module.apply_settings(replace(job.module.settings, optim_g=optimiser))

    job, _, message = _fails(tmp_path, prepare=overflow)
    name = [name for name, _ in job.module.generator.named_parameters()][2]
    assert f"at step {AT}: in phase (3), G, generator.{name} holds -inf (1 of 16 values)" in message


def test_weights_that_blew_up_in_a_checkpoints_own_step_are_not_kept(tmp_path, monkeypatch):
    """G's last update before a checkpoint shows in no loss as yet."""
    monkeypatch.setattr("test_nan_guard.AT", 20)
    _, run, message = _fails(tmp_path, loss=Faulty("g", "gradient"))
    assert "at step 20: in phase (3), G" in message
    assert run.load_checkpoint()["gan_lab"]["step"] == 15


@pytest.mark.parametrize("snapshot_every", [1, 200])
def test_the_place_is_found_however_long_ago_the_copy_was_made(tmp_path, monkeypatch, snapshot_every):
    monkeypatch.setattr(nan_guard, "SNAPSHOT_EVERY", snapshot_every)
    for joint in ("true", "false"):
        _, _, message = _fails(tmp_path / joint, f"joint_d_update={joint}", loss=Faulty("d_fake", "gradient"))
        phase = "phases (1) and (2), D on real data and on fakes" if joint == "true" else "phase (2), D on fakes"
        assert f"at step {AT}: in {phase}, the gradient of discriminator" in message


@pytest.mark.parametrize(
    ("overrides", "phrase"),
    [
        ("remedy=[r1] remedy.r1.gamma=1e39", "in phases (1) and (2), D on real data and on fakes, R1 holds inf"),
        ("remedy=[unrolled] remedy.unrolled.lr=1e39", "in phase (3), G, the score of the unrolled D holds"),
        ("remedy=[feature_matching] remedy.feature_matching.weight=1e39", "in phase (3), G, FeatureMatching holds inf"),
        (
            "remedy=[lecam] remedy.lecam.weight=1e39 remedy.lecam.warmup_steps=0",
            "in phases (1) and (2), D on real data and on fakes, LeCam holds nan",
        ),
    ],
)
def test_what_a_remedy_breaks_is_found_in_its_phase(tmp_path, overrides, phrase):
    _, _, message = _fails(tmp_path, *overrides.split(), "~callbacks.verdict", "~callbacks.pictures")
    assert f"at step 1: {phrase}" in message


class FaultyPair(Relativistic):
    """Compares pairs, wrongly in step AT."""

    def __init__(self, term: str):
        self.term = term

    def d(self, real_scores, fake_scores):
        return tuple(self.spoil("d", values) for values in super().d(real_scores, fake_scores))

    def g(self, fake_scores, real_scores=None):
        return self.spoil("g", super().g(fake_scores, real_scores))

    def spoil(self, term, values):
        return values * float("inf") if term == self.term and self.module.step == AT - 1 else values


@pytest.mark.parametrize("term", ["d", "g"])
def test_a_loss_of_pairs_is_played_again_as_well(tmp_path, term):
    phase = "phases (1) and (2), D on real data and on fakes" if term == "d" else PHASES["g"]
    chosen = ("loss=relativistic", "remedy=[r1,ema,lecam,historical_averaging,decay,instance_noise]", "n_critic=2")
    _, run, message = _fails(tmp_path, *chosen, loss=FaultyPair(term))
    cost = "the loss on real data" if term == "d" else "the adversarial loss"
    assert f"NaN or infinity at step {AT}: in {phase}, {cost} holds inf" in message
    assert run.load_checkpoint()["gan_lab"]["step"] == 15


def test_data_that_hold_nan_are_blamed(tmp_path):
    def spoil(job):
        job.datamodule.dataset.train.values[:] = float("nan")

    _, _, message = _fails(tmp_path, "~callbacks.verdict", "~callbacks.pictures", prepare=spoil)
    assert "at step 1: the batch of real data holds nan" in message


def test_a_blow_up_ends_the_command_with_status_1_and_a_message(tmp_path):
    overrides = ("steps=300", "optim=sgd", "optim.lr=1e30", "loss=mse")
    done = command_here("train.py", *overrides, *TINY[:2], f"cache_dir={classifier_cache()}", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "NaN or infinity at step" in done.stderr
    assert "Traceback" not in done.stderr
    (summary,) = tmp_path.glob("outputs/**/summary.json")
    assert json.loads(summary.read_text())["status"] == "failed"
