"""The three phases (S4) and what a step leaves."""

from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pytest
import torch
from conftest import compose, training

from gan_lab.assembly.instantiate import build_module
from gan_lab.data import images

pytestmark = pytest.mark.usefixtures("undrawn", "quick_verdict")

WITHOUT_PICTURES = "~callbacks.pictures"  # they ask a copy of D, which has its hooks
TINY = (
    "dataset=digits",
    "model.depth=1",
    "model.width=8",
    "batch_size=4",
    "latent_dim=3",
    "logger=table",
    # These tests watch the optimizers and the networks' inputs.
    "engine=autograd",
    "~callbacks.verdict",
)


def _changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(before[name], after[name]) for name in before)


def _fit(job) -> None:
    job.trainer.fit(job.module, job.datamodule)


@pytest.mark.parametrize("norm", ["none", "layer", "batch", "spectral"])
@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_each_phase_moves_its_own_network_and_no_other(tmp_path, optimiser_steps, loss, norm):
    job, _ = training(tmp_path / "run", *TINY, f"loss={loss}", f"norm={norm}", "steps=2")
    updates = optimiser_steps(job)
    _fit(job)
    assert [name for name, *_ in updates] == ["start", "D", "D", "G", "D", "D", "G"], "real, fakes, G: in this order"
    for (_, d_before, g_before), (name, d_after, g_after) in pairwise(updates):
        assert _changed(d_before, d_after) == (name == "D")
        assert _changed(g_before, g_after) == (name == "G")


def test_joint_d_update_steps_d_once_on_the_sum(tmp_path, optimiser_steps):
    job, _ = training(
        tmp_path / "run", *TINY, WITHOUT_PICTURES, "steps=1", "joint_d_update=true", "optim=sgd", "optim.lr=0.1"
    )
    module, inputs = job.module, []
    reference = build_module(compose(*TINY), job.datamodule.dataset).discriminator
    module.discriminator.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach().clone()))
    updates = optimiser_steps(job)
    _fit(job)
    assert [name for name, *_ in updates] == ["start", "D", "G"]
    real, fake, _ = inputs  # by hand: one SGD step on the sum of both terms at the starting weights
    (module.loss.d_real(reference(real)).mean() + module.loss.d_fake(reference(fake)).mean()).backward()
    for name, p in reference.named_parameters():
        torch.testing.assert_close(updates[1][1][name], (p - 0.1 * p.grad).detach())


def test_phase_1_sees_data_and_phases_2_and_3_fresh_fakes(tmp_path):
    job, _ = training(tmp_path / "run", *TINY, WITHOUT_PICTURES, "steps=1")
    inputs = []
    job.module.discriminator.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    _fit(job)
    real, fake, last_fake = inputs
    everything = job.datamodule.dataset.train.values.flatten(1)
    assert all((everything == sample).all(1).any() for sample in real.flatten(1))
    assert not fake.requires_grad, "phase 2: no path from D's error to G"
    assert last_fake.requires_grad, "phase 3: G is reached through D"
    assert not torch.equal(fake, last_fake.detach())


def test_gradients_are_absent_outside_their_phase(tmp_path):
    """After phase 2 G has no gradient; after phase 3 D has none, although the error passed through it."""
    job, _ = training(tmp_path / "run", *TINY, "steps=1")
    module, updates = job.module, []

    def present(network):
        return any(p.grad is not None for p in network.parameters())

    def watch(make, name):
        def make_watched(parameters):
            optimiser = make(parameters)
            optimiser.register_step_pre_hook(
                lambda *_: updates.append((name, present(module.discriminator), present(module.generator)))
            )
            return optimiser

        return make_watched

    optim_d = watch(module.settings.optim_d, "D")
    optim_g = watch(module.settings.optim_g, "G")
    module.apply_settings(replace(module.settings, optim_d=optim_d, optim_g=optim_g))
    _fit(job)
    assert updates == [("D", True, False), ("D", True, False), ("G", False, True)]
    assert all(p.requires_grad for p in module.discriminator.parameters()), "thawed again"


def test_losses_of_the_first_step_by_hand(tmp_path):
    """The row of step 1, recomputed from the networks, the batch and the latent vectors, phase by phase."""
    job, _ = training(tmp_path / "run", *TINY, WITHOUT_PICTURES, "steps=1", "loss=mse", "optim=sgd", "optim.lr=0.5")
    module, inputs = job.module, []
    reference = build_module(compose(*TINY, "loss=mse"), job.datamodule.dataset)
    assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), module.parameters(), strict=True))
    module.discriminator.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach().clone()))
    _fit(job)
    d, (real, fake, last_fake) = reference.discriminator, inputs

    def descend(error):
        d.zero_grad()
        error.backward()
        with torch.no_grad():
            for p in d.parameters():
                p -= 0.5 * p.grad

    d_real = ((d(real).sigmoid() - 1) ** 2).mean()
    descend(d_real)
    d_fake = (d(fake).sigmoid() ** 2).mean()
    descend(d_fake)
    g = ((d(last_fake).sigmoid() - 1) ** 2).mean()
    row = module.step_log.last_row
    assert row["loss/d_real"] == pytest.approx(d_real.item(), rel=1e-5)
    assert row["loss/d_fake"] == pytest.approx(d_fake.item(), rel=1e-5)
    assert row["loss/g"] == pytest.approx(g.item(), rel=1e-5)


def test_rows_are_means_over_log_every_steps_and_the_last_is_never_lost(tmp_path):
    every_step, run = training(tmp_path / "every_step", *TINY, "steps=7", "log_every=1")
    _fit(every_step)
    some, other = training(tmp_path / "some", *TINY, "steps=7", "log_every=3")
    _fit(some)
    rows, means = pd.read_csv(run.metrics).set_index("step"), pd.read_csv(other.metrics).set_index("step")
    assert list(rows.index) == [1, 2, 3, 4, 5, 6, 7]
    assert list(means.index) == [3, 6, 7]
    assert list(rows.columns) == ["loss/d_real", "loss/d_fake", "loss/g", "score/real", "score/fake"]
    pd.testing.assert_series_equal(means.loc[3], rows.loc[1:3].mean(), check_names=False, rtol=1e-5)
    pd.testing.assert_series_equal(means.loc[7], rows.loc[7], check_names=False, rtol=1e-5)


def test_equal_seeds_give_equal_runs_and_others_do_not(tmp_path):
    texts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        job, run = training(tmp_path / name, *TINY, "steps=5", "log_every=1", f"seed={seed}")
        _fit(job)
        texts.append(run.metrics.read_text())
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    "overrides",
    [
        ("norm=batch",),
        # Over the plane, pictures ask D and take the gradient of G's loss.
        ("dataset=ring", "dataset.samples=500", "norm=spectral"),
        ("dataset=ring", "dataset.samples=500", "norm=layer", "remedy=[ema]", "engine=compiled"),
        ("dataset=ring", "dataset.samples=500", "norm=layer", "replicas=2", "loss=relativistic"),
    ],
    ids=["images", "plane", "compiled", "replicas"],
)
def test_looking_does_not_change_training(tmp_path, overrides):
    """Pictures, logs and measurements have streams of their own: with or without them, the same weights to the bit."""
    plain, _ = training(tmp_path / "plain", *TINY, "steps=6", "~callbacks.pictures", "log_every=6", *overrides)
    _fit(plain)
    looks = ("callbacks.pictures.every=2", "callbacks.verdict.every=1", "callbacks.verdict.samples=500", "log_every=1")
    watched, _ = training(tmp_path / "watched", *TINY[:-1], "steps=6", *looks, *overrides)
    _fit(watched)
    pairs = zip(plain.module.state_dict().values(), watched.module.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_sampling_does_not_change_batch_statistics(tmp_path):
    module = build_module(compose(*TINY, "norm=batch"), images.digits())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    samples = module.sample(torch.randn(9, 3))
    assert samples.shape == (9, 1, 8, 8)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert module.generator.training


@pytest.mark.slow
@pytest.mark.parametrize("remedies", ["[]", "[r1,wgan_gp]", "[unrolled]"])
def test_compiled_networks_take_the_same_steps_to_round_off(tmp_path, capsys, remedies):
    small = (*TINY, "steps=4", "log_every=2", "optim=sgd", "~callbacks.pictures", f"remedy={remedies}")
    rows = []
    for name in ("false", "true"):
        job, _ = training(tmp_path / name, *small, "engine=autograd", f"compile={name}")
        job.trainer.fit(job.module, job.datamodule)
        rows.append(job.module.step_log.last_row)
    assert rows[0] == pytest.approx(rows[1], abs=1e-5)
    assert ("only G is compiled" in capsys.readouterr().out) == (remedies != "[]")
