"""The step with remedies, beside a plain loop that knows nothing of them: float64, SGD, tiny networks."""

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch
from conftest import compose, training
from torch.nn.functional import leaky_relu, linear, relu, softplus

from gan_lab.assembly.instantiate import build_module
from gan_lab.core.rng import StepRNG, make_generator
from gan_lab.gan.remedies.input_transforms import DiffAugment
from gan_lab.training.step_context import step_optimizer

SEED, B, LR, STEPS, SLOPE = 3, 8, 0.1, 4, 0.3
TINY = (
    *(f"seed={SEED}", f"batch_size={B}", "latent_dim=3", "norm=none"),
    *("model.generator.hidden=[6]", "model.discriminator.hidden=[5]", "optim=sgd", f"optim.lr={LR}", "log_every=1"),
    f"activation.negative_slope={SLOPE}",
    *("logger=table", "~callbacks.verdict", "~callbacks.pictures", "~callbacks.curves", "~callbacks.checkpoint"),
    # tests/training/compiled compares the other engine with it.
    "engine=autograd",
)
PLAIN = ("dataset=ring", "dataset.samples=40", *TINY)


@pytest.fixture(autouse=True)
def doubles():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _trained(folder, *overrides, steps=STEPS):
    """A training with overrides: as it was before, and as it is now."""
    job, _ = training(folder, *PLAIN, f"steps={steps}", *overrides)
    before = copy.deepcopy(job.module)
    job.trainer.fit(job.module, job.datamodule)
    return job, before


class Loop:
    """GAN training in a few lines: batches in the order of the stream, latent vectors one after the other, SGD."""

    def __init__(self, job, before, pack=1):
        self.d, self.g = before.discriminator, before.generator
        part, order = job.datamodule.dataset.train, torch.randperm(40, generator=make_generator(SEED, "order", 0))
        epochs = [order, *(torch.randperm(40, generator=make_generator(SEED, "order", epoch)) for epoch in (1, 2, 3))]
        self.batches = part[torch.cat(epochs)].split(B * pack)
        self.latents, self.rows, self.lr = make_generator(SEED, "latent"), [], LR

    def z(self):
        return torch.randn(len(self.batches[0]), 3, generator=self.latents)

    def descend(self, network, loss):
        slopes = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for p, slope in zip(network.parameters(), slopes, strict=True):
                p -= self.lr * slope

    def play(self, of_d, of_g, steps=STEPS, n_critic=1, n_generator=1, joint=True, show=lambda x, t, turn: x, pay=None):
        """`of_d(real, fake)` gives D's two terms, `of_g(z, samples, fake, real)` G's, `pay(real, fake)` what D pays."""
        numbers = itertools.count()
        for t in range(steps):
            for turn in range(n_critic):
                real = show(self.batches[next(numbers)], t, turn)
                if not joint:
                    self.descend(self.d, d_real := of_d(real, real)[0])
                fake = show(self.g(self.z()).detach(), t, turn)
                if joint:
                    d_real, d_fake = of_d(real, fake)
                    self.descend(self.d, d_real + d_fake + (pay(real, fake) if pay else 0))
                else:
                    self.descend(self.d, d_fake := of_d(real, fake)[1])
            for _ in range(n_generator):
                z = self.z()
                samples = self.g(z)
                g = of_g(z, samples, show(samples, t, turn), real)
                self.descend(self.g, g)
            self.rows.append([d_real.item(), d_fake.item(), g.item()])

    def equals(self, job):
        for network, trained in ((self.d, job.module.discriminator), (self.g, job.module.generator)):
            for (name, expected), value in zip(network.named_parameters(), trained.parameters(), strict=True):
                torch.testing.assert_close(value, expected, rtol=0, atol=1e-12, msg=name)
        names = ("loss/d_real", "loss/d_fake", "loss/g")
        table = job.trainer.loggers[0].rows
        for step, row in enumerate(self.rows, 1):
            assert [table[step][name] for name in names] == pytest.approx(row, rel=1e-12)

    # BCE, and what the networks are made of.

    def of_d(self, real, fake):
        return softplus(-self.d(real)).mean(), softplus(self.d(fake)).mean()

    def of_g(self, z, samples, fake, real):
        return softplus(-self.d(fake)).mean()

    def slopes(self, x):
        """‖∇D‖² of each sample `(B,)`, one sample after the other."""
        norms = []
        for one in x.detach():
            one = one[None].requires_grad_()
            (slope,) = torch.autograd.grad(self.d(one).squeeze(), one, create_graph=True)
            norms.append((slope**2).sum())
        return torch.stack(norms)

    def features(self, x):
        return self.hidden(x, *self.d.parameters())

    @staticmethod
    def hidden(x, weight, bias, *_):
        return leaky_relu(linear(x, weight, bias), SLOPE)


def test_r1_r2_and_label_smoothing_in_one_update(tmp_path):
    chosen = ("remedy=[r2,label_smoothing,r1]", "remedy.r1.gamma=3", "remedy.r2.gamma=0.5")
    job, before = _trained(tmp_path / "run", *chosen)
    loop = Loop(job, before)

    def of_d(real, fake):
        on_real = 0.9 * softplus(-loop.d(real)) + 0.1 * softplus(loop.d(real))
        return on_real.mean(), softplus(loop.d(fake)).mean()

    loop.play(of_d, loop.of_g, pay=lambda r, f: 1.5 * loop.slopes(r).mean() + 0.25 * loop.slopes(f).mean())
    loop.equals(job)


@pytest.mark.parametrize("engine", ["autograd", "compiled"])
def test_gamma_falls_by_the_same_factor_in_each_step(tmp_path, engine):
    """From 8 to 0.5 over the training: 8 · 16^(−t / steps). R2's stays."""
    chosen = (f"engine={engine}", "remedy=[r1,r2]", "remedy.r1.gamma=8", "remedy.r1.end=0.5", "remedy.r2.gamma=0.5")
    job, before = _trained(tmp_path / "run", *chosen)
    loop = Loop(job, before)

    def pay(real, fake):
        gamma = 8 * 16 ** (-len(loop.rows) / STEPS)
        return gamma / 2 * loop.slopes(real).mean() + 0.25 * loop.slopes(fake).mean()

    def of_d(real, fake):
        return softplus(-loop.d(real)).mean(), softplus(loop.d(fake)).mean()

    loop.play(of_d, loop.of_g, pay=pay)
    loop.equals(job)


@pytest.mark.parametrize(("setting", "calls"), [("norm=layer", 3), ("norm=batch", 5), ("remedy=[r1,r2,lecam,pac]", 3)])
def test_d_scores_a_batch_once_where_that_gives_what_a_second_time_would(tmp_path, setting, calls):
    """Real samples, fakes and G's samples; running statistics would count a batch twice, and do."""
    job, _ = training(tmp_path / "run", *PLAIN, "engine=autograd", "steps=1", "remedy=[r1,r2]", setting)
    shapes = []
    job.module.discriminator.register_forward_hook(lambda _, args, scores: shapes.append(tuple(scores.shape)))
    job.trainer.fit(job.module, job.datamodule)
    assert shapes == [(B,)] * calls


def test_wgan_gp_and_dragan_draw_one_after_the_other(tmp_path):
    job, before = _trained(tmp_path / "run", "loss=wasserstein", "remedy=[wgan_gp,dragan]", "remedy.dragan.weight=2")
    loop = Loop(job, before)

    def pay(real, fake):
        drawn = make_generator(SEED, "remedies", len(loop.rows))
        share = torch.rand(B, 1, generator=drawn)
        noise = real.std(correction=0) / 2 * torch.rand(B, 2, generator=drawn)
        around = real + torch.rand(B, 1, generator=drawn) * noise
        between = share * real + (1 - share) * fake
        slopes = [loop.slopes(x).sqrt() - 1 for x in (between, around)]
        return 10 * slopes[0].square().mean() + 2 * slopes[1].square().mean()

    loop.play(
        lambda r, f: (-loop.d(r).mean(), loop.d(f).mean()), lambda z, samples, fake, r: -loop.d(fake).mean(), pay=pay
    )
    loop.equals(job)


def test_a_relativistic_g_sees_the_real_scores(tmp_path):
    job, before = _trained(tmp_path / "run", "loss=relativistic")
    loop = Loop(job, before)

    def of_d(real, fake):
        half = softplus(loop.d(fake) - loop.d(real)).mean() / 2
        return half, half

    loop.play(of_d, lambda z, samples, fake, real: softplus(loop.d(real) - loop.d(fake)).mean())
    loop.equals(job)


def test_a_relativistic_average_is_of_the_batch(tmp_path):
    job, before = _trained(tmp_path / "run", "loss=relativistic_average")
    loop = Loop(job, before)

    def terms(real, fake):
        r, f = loop.d(real), loop.d(fake)
        return softplus(f.mean() - r).mean(), softplus(f - r.mean()).mean()

    loop.play(terms, lambda z, samples, fake, real: sum(terms(fake, real)))
    loop.equals(job)


@pytest.mark.parametrize("joint", ["false", "true"])
@pytest.mark.parametrize("turns", [(3, 1), (1, 2), (2, 3)])
def test_each_turn_of_d_has_its_own_batch_and_each_of_g_its_own_latent_vectors(tmp_path, turns, joint):
    n_critic, n_generator = turns
    numbers = f"n_critic={n_critic}", f"n_generator={n_generator}", f"joint_d_update={joint}"
    job, before = _trained(tmp_path / "run", *numbers, steps=6)  # over the end of an epoch, 5 batches
    loop = Loop(job, before)
    loop.play(loop.of_d, loop.of_g, 6, n_critic, n_generator, joint == "true")
    loop.equals(job)
    assert job.module.step == 6


def test_random_remedies_draw_again_in_every_turn(tmp_path):
    job, before = _trained(tmp_path / "run", "remedy=[wgan_gp]", "n_critic=2", "log_every=4")
    loop, turns = Loop(job, before), itertools.count(1)

    def pay(real, fake):
        turn = next(turns)  # each step's last turn has its first number: 1, 0; 3, 2; …
        share = torch.rand(B, 1, generator=make_generator(SEED, "remedies", turn if turn % 2 else turn - 2))
        return 10 * (loop.slopes(share * real + (1 - share) * fake).sqrt() - 1).square().mean()

    loop.play(loop.of_d, loop.of_g, n_critic=2, pay=pay)
    loop.rows = []
    loop.equals(job)


def test_g_is_scored_by_the_unrolled_discriminator(tmp_path):
    job, before = _trained(tmp_path / "run", "remedy=[unrolled]", "remedy.unrolled.k=2", "remedy.unrolled.lr=0.3")
    loop = Loop(job, before)

    def of_g(z, samples, fake, real):
        weights = [p.detach().clone().requires_grad_() for p in loop.d.parameters()]

        def scores(x):
            return linear(loop.hidden(x, *weights), *weights[2:]).squeeze(-1)

        for _ in range(2):
            error = softplus(-scores(real)).mean() + softplus(scores(fake)).mean()
            slopes = torch.autograd.grad(error, weights, create_graph=True)
            weights = [w - 0.3 * slope for w, slope in zip(weights, slopes, strict=True)]
        return softplus(-scores(fake)).mean()

    loop.play(loop.of_d, of_g, joint=False)
    loop.equals(job)


def test_feature_matching_takes_the_place_of_gs_loss(tmp_path):
    job, before = _trained(tmp_path / "run", "remedy=[feature_matching]", "remedy.feature_matching.weight=0.5")
    loop = Loop(job, before)

    def of_g(z, samples, fake, real):
        return 0.5 * (loop.features(real).mean(0).detach() - loop.features(fake).mean(0)).square().sum()

    loop.play(loop.of_d, of_g, joint=False)
    loop.equals(job)


@pytest.mark.parametrize("matching", [False, True])
def test_mode_seeking_and_gdpp_are_added(tmp_path, matching):
    """To G's loss, or to what takes its place, whatever their order."""
    chosen = "remedy=[mode_seeking,gdpp,feature_matching]" if matching else "remedy=[gdpp,mode_seeking]"
    settings = ("remedy.mode_seeking.weight=0.1", "remedy.gdpp.weight=0.2", "model.discriminator.hidden=[20]")
    job, before = _trained(tmp_path / "run", chosen, *settings, steps=2)
    loop = Loop(job, before)

    def spectrum(x):
        rows = loop.features(x)
        rows = rows / rows.norm(dim=1, keepdim=True)
        return torch.linalg.eigh(rows @ rows.T)

    def of_g(z, samples, fake, real):
        fool = loop.of_g(z, samples, fake, real)
        if matching:
            fool = (loop.features(real).mean(0).detach() - loop.features(fake).mean(0)).square().sum()
        ratio = (samples[:4] - samples[4:]).abs().mean() / (z[:4] - z[4:]).abs().mean()
        (own, vectors), (wanted, directions) = spectrum(fake), (each.detach() for each in spectrum(real))
        shares = (wanted - wanted.min()) / (wanted.max() - wanted.min())
        same = (vectors * directions).sum(0).abs()
        vary = 1e-4 * (wanted - own).square().mean() - (shares * same).sum()
        return fool + 0.1 / (ratio + 0.5e-5) + 0.2 * vary

    loop.play(loop.of_d, of_g, steps=2, joint=False)
    names = ("loss/d_real", "loss/d_fake", "loss/g")
    for step, row in enumerate(loop.rows, 1):
        found = [job.trainer.loggers[0].rows[step][name] for name in names]
        assert found == pytest.approx(row, rel=1e-9 if step == 1 else 1e-3)  # derivatives of eigenvectors are damped


def test_a_relativistic_g_learns_only_from_what_d_scores_highest(tmp_path):
    job, before = _trained(tmp_path / "run", "loss=relativistic", "remedy=[top_k]", "remedy.top_k.steps=1")
    loop = Loop(job, before)

    def of_d(real, fake):
        half = softplus(loop.d(fake) - loop.d(real)).mean() / 2
        return half, half

    def of_g(z, samples, fake, real):
        k = 8 if len(loop.rows) == 0 else 4
        best = loop.d(fake).argsort(descending=True)[:k]
        return softplus(loop.d(real[best]) - loop.d(fake[best])).mean()

    loop.play(of_d, of_g)
    loop.equals(job)


def test_g_learns_only_from_its_best_samples(tmp_path):
    job, before = _trained(tmp_path / "run", "remedy=[top_k]", "remedy.top_k.fraction=0.25", "remedy.top_k.steps=2")
    loop = Loop(job, before)

    def of_g(z, samples, fake, real):
        k = {0: 8, 1: 4, 2: 2, 3: 2}[len(loop.rows)]
        return softplus(-loop.d(fake)).sort().values[:k].mean()

    loop.play(loop.of_d, of_g, joint=False)
    loop.equals(job)


def test_both_networks_are_held_to_their_past(tmp_path):
    chosen = ("remedy=[historical_averaging]", "remedy.historical_averaging.weight=0.7", "n_critic=2", "n_generator=2")
    job, before = _trained(tmp_path / "run", *chosen)
    loop, past, plain = Loop(job, before), {}, Loop.descend

    def pulled(network, loss):
        seen = past.setdefault(network, [])
        seen.append([p.detach().clone() for p in network.parameters()])
        means = [torch.stack(each).mean(0) for each in zip(*seen, strict=True)]
        away = sum((p - mean).square().sum() for p, mean in zip(network.parameters(), means, strict=True))
        plain(loop, network, loss + 0.7 * away)

    loop.descend = pulled
    loop.play(loop.of_d, loop.of_g, n_critic=2, n_generator=2)
    loop.equals(job)


def test_d_waits_in_exactly_the_turns_in_which_it_wins(tmp_path):
    chosen = ("remedy=[balance,r1]", "remedy.balance.max_auc=0.6", "n_critic=2", "optim_g.lr=1")
    job, before = _trained(tmp_path / "run", *chosen, steps=8)
    loop, waited = Loop(job, before), []

    def fit(network, loss):
        loop.lr = 1 if network is loop.g else LR
        if network is loop.d:
            waited.append(loop.share > 0.6)
        if network is loop.g or not waited[-1]:
            Loop.descend(loop, network, loss)

    def of_d(real, fake):
        pairs = [(r > f) + (r == f) / 2 for r in loop.d(real).tolist() for f in loop.d(fake).tolist()]
        loop.share = sum(pairs) / len(pairs)
        return Loop.of_d(loop, real, fake)

    loop.descend = fit
    loop.play(of_d, loop.of_g, 8, n_critic=2, pay=lambda r, f: 2.5 * loop.slopes(r).mean() / 2)
    assert 0 < sum(waited) < len(waited) == 16, "both were seen"
    loop.equals(job)


def test_lecam_moves_its_averages_before_it_counts(tmp_path):
    chosen = ("remedy=[lecam]", "remedy.lecam.warmup_steps=2", "remedy.lecam.decay=0.6", "remedy.lecam.weight=2")
    job, before = _trained(tmp_path / "run", *chosen, steps=5)
    loop, means = Loop(job, before), [0.0, 0.0]

    def pay(real, fake):
        r, f = loop.d(real), loop.d(fake)
        decay = 0.6 if len(loop.rows) >= 2 else 0
        means[:] = [decay * mean + (1 - decay) * now.mean().item() for mean, now in zip(means, (r, f), strict=True)]
        value = 2 * (relu(r - means[1]) ** 2 + relu(means[0] - f) ** 2).mean()
        return value if len(loop.rows) >= 2 else 0 * value

    loop.play(loop.of_d, loop.of_g, 5, pay=pay)
    loop.equals(job)
    (lecam,) = job.module.stateful_penalties
    assert [lecam.real_mean.item(), lecam.fake_mean.item()] == pytest.approx(means, rel=1e-12)


# The optimizer's step.

ADAM = {"lr": 0.1, "betas": (0.5, 0.9), "fused": True}


@pytest.mark.parametrize(
    ("make", "settings", "steps_by_torch"),
    [
        (torch.optim.Adam, ADAM, 1),
        (torch.optim.Adam, {**ADAM, "weight_decay": 0.3, "maximize": True}, 1),
        (torch.optim.AdamW, {**ADAM, "weight_decay": 0.3}, 1),
        (torch.optim.Adam, {**ADAM, "amsgrad": True}, 5),
        (torch.optim.Adam, {"lr": 0.1}, 5),
        (torch.optim.RMSprop, {"lr": 0.1}, 5),
    ],
)
def test_the_optimizers_step_is_torchs_to_the_bit(make, settings, steps_by_torch):
    """Adam's fused kernel, called directly once there is a state; a changed learning rate counts at once."""
    torch.manual_seed(0)
    weights = [[torch.nn.Parameter(w) for w in (torch.ones(3, 4), torch.ones(4))] for _ in range(2)]
    ours, torchs = (make(each, **settings) for each in weights)
    calls, step = [], ours.step
    ours.step = lambda: (calls.append(1), step())
    for t in range(5):
        for mine, theirs in zip(*weights, strict=True):
            mine.grad = torch.randn_like(mine)
            theirs.grad = mine.grad.clone()
        ours.param_groups[0]["lr"] = torchs.param_groups[0]["lr"] = 0.1 / (t + 1)
        step_optimizer(ours)
        torchs.step()
    assert len(calls) == steps_by_torch
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*weights, strict=True))
    states = [optimizer.state_dict()["state"] for optimizer in (ours, torchs)]
    for number, state in states[0].items():
        assert state.keys() == states[1][number].keys()
        assert all(torch.equal(value, states[1][number][name]) for name, value in state.items())


def test_hooks_of_an_optimizer_are_called_and_a_weight_without_a_gradient_stays():
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizer = torch.optim.Adam(weights, **ADAM)
    for gradients in ((1, 1), (1, 2), (1, None)):
        before = weights[1].detach().clone()
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = None if gradient is None else torch.full((2,), float(gradient))
        step_optimizer(optimizer)
    assert torch.equal(weights[1], before)
    assert not torch.equal(weights[0], weights[1])
    weights[1].grad = torch.ones(2)
    called = []
    optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    optimizer.register_step_post_hook(lambda *_: called.append("after"))
    step_optimizer(optimizer)
    assert called == ["before", "after"]


# The average that makes the samples.


@pytest.mark.parametrize("norm", ["layer", "batch", "spectral"])
def test_the_average_makes_the_samples_and_training_never_sees_it(tmp_path, optimiser_steps, norm):
    chosen = [f"norm={norm}", "n_generator=2"]
    plain, _ = training(tmp_path / "plain", *PLAIN, f"steps={STEPS}", *chosen)
    seen = optimiser_steps(plain)
    plain.trainer.fit(plain.module, plain.datamodule)
    job, before = _trained(tmp_path / "run", *chosen, "remedy=[ema]", "remedy.ema.decay=0.7")
    for network in ("discriminator", "generator"):
        found, expected = (getattr(each.module, network).state_dict() for each in (job, plain))
        assert all(torch.equal(found[name], expected[name]) for name in expected), "batch statistics as well"
    assert job.trainer.loggers[0].rows == plain.trainer.loggers[0].rows
    average = [p.detach().clone() for p in before.generator.parameters()]
    for t, (_, _, weights) in enumerate([each for each in seen if each[0] == "G"][1::2], 1):
        decay = min(0.7, (1 + t) / (10 + t))
        average = [decay * mean + (1 - decay) * p for mean, p in zip(average, weights.values(), strict=True)]
    z = torch.randn(6, 3)
    fake, own = job.module.sample(z), plain.module.sample(z)
    for p, mean in zip(job.module.averaged.network.parameters(), average, strict=True):
        torch.testing.assert_close(p, mean, rtol=0, atol=1e-12)
    assert not torch.allclose(fake, own, atol=1e-4)
    if norm == "layer":
        with torch.no_grad():
            for p, mean in zip(plain.module.generator.parameters(), average, strict=True):
                p.copy_(mean)
        torch.testing.assert_close(fake, plain.module.sample(z))
    if norm == "spectral":
        layer = job.module.averaged.network.layers[0]
        assert torch.linalg.matrix_norm(layer.weight, 2) == pytest.approx(1, abs=0.01), "its own largest stretch"


# What D is fake.


def test_real_samples_fakes_and_gs_samples_are_shown_with_noise_and_in_packs(tmp_path):
    """Noise first, then packs; three draws a turn; less from step to step. As in PacGAN, a batch is B packs of 4."""
    chosen = ("remedy=[pac,instance_noise]", "remedy.pac.m=4", "remedy.instance_noise.std=0.5")
    job, before = _trained(tmp_path / "run", *chosen, "remedy.instance_noise.steps=3", "joint_d_update=true")
    loop, drawn = Loop(job, before, pack=4), {}

    def show(x, t, turn):
        std = max(0.0, 0.5 * (1 - t / 3))
        noise = torch.randn(4 * B, 2, generator=drawn.setdefault(t, make_generator(SEED, "remedies", t)))
        noisy = x + std * noise
        return torch.stack([noisy[4 * i : 4 * i + 4].flatten() for i in range(B)])

    loop.play(loop.of_d, loop.of_g, show=show)
    loop.equals(job)
    assert job.module.discriminator.layers[0].weight.shape == (5, 8)


def test_images_are_changed_alike_wherever_d_sees_them(tmp_path):
    torch.set_default_dtype(torch.float32)
    job, _ = training(tmp_path / "run", "dataset=digits", "steps=1", *TINY, "remedy=[diffaugment]", "n_generator=2")
    seen, generated = [], []
    job.module.discriminator.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    job.module.generator.register_forward_hook(lambda *args: generated.append(args[2].detach().clone()))
    job.trainer.fit(job.module, job.datamodule)
    order = torch.randperm(1437, generator=make_generator(SEED, "order", 0))
    plain = [job.datamodule.dataset.train[order[:B]], *generated]
    draws = StepRNG([SEED], (), "remedies", 0, torch.device("cpu"))
    assert len(seen) == len(plain) == 4
    for fake, samples in zip(seen, plain, strict=True):
        torch.testing.assert_close(fake, DiffAugment()(samples, 0, draws))
        assert not torch.allclose(fake, samples, atol=0.1)


# Learning rates.


def _rates(job):
    """The learning rates of D's and G's updates, as they come."""
    rates, module = {"D": [], "G": []}, job.module

    def watched(make, own):
        def make_watched(parameters):
            optimiser = make(parameters)
            optimiser.register_step_pre_hook(lambda o, *_: own.append(o.param_groups[0]["lr"]))
            return optimiser

        return make_watched

    optim_d = watched(module.settings.optim_d, rates["D"])
    optim_g = watched(module.settings.optim_g, rates["G"])
    module.apply_settings(replace(module.settings, optim_d=optim_d, optim_g=optim_g))
    return rates


def _half_a_cosine(share: float) -> list[float]:
    left = [min(1, (8 - t) / (8 * share)) for t in range(8)]
    factors = [(1 - math.cos(math.pi * each)) / 2 for each in left]
    assert factors[0] == 1
    assert factors[4] == pytest.approx(0.5 if share == 1 else 1)
    return factors


# The factors of 8 steps: after 4 of them half of a cosine is at 1/2, and 0.0625^(t/8) at 1/4.
FALLING = {
    "remedy=[decay]": _half_a_cosine(1.0),
    "remedy=[decay] remedy.decay.fraction=0.5": _half_a_cosine(0.5),
    "remedy=[exponential_decay] remedy.exponential_decay.end=0.0625": [2 ** -(t / 2) for t in range(8)],
}


@pytest.mark.parametrize("remedy", FALLING)
def test_learning_rates_fall_and_go_on_falling_when_a_run_is_resumed(tmp_path, remedy):
    keep = [each for each in PLAIN if each != "~callbacks.checkpoint"]
    settings = [*keep, "optim_g.lr=0.02", *remedy.split(), "joint_d_update=true"]
    job, run = training(tmp_path / "run", *settings, "steps=8", "callbacks.checkpoint.every=3")
    job.datamodule.steps, first = 5, _rates(job)  # its data end early: it is stopped at step 5
    job.trainer.fit(job.module, job.datamodule)
    run.release()
    again, run = training(tmp_path / "run", *settings, "steps=8")
    rest = _rates(again)
    again.trainer.fit(again.module, again.datamodule, ckpt_path=run.whole_checkpoint(), weights_only=True)
    factors = FALLING[remedy]
    for name, base in (("D", 0.1), ("G", 0.02)):
        assert first[name] == pytest.approx([base * factor for factor in factors[:5]])
        assert rest[name] == pytest.approx([base * factor for factor in factors[3:]]), "from the checkpoint of step 3"


def test_the_rates_of_two_time_scales(tmp_path):
    """A ratio to the recipe's rate, which G keeps; SAGAN's 4, and 3 as in the authors' WGAN-GP. With decay, of both."""
    job, _ = training(tmp_path / "run", *PLAIN, "steps=2", "remedy=[ttur,n_critic]")
    rates = _rates(job)
    job.trainer.fit(job.module, job.datamodule)
    assert (rates["D"], rates["G"]) == ([4 * LR] * 20, [LR] * 2), "five times two updates of D a step"
    settings = ("remedy=[ttur,decay]", "remedy.ttur.ratio=3", "optim_g.lr=0.02", "joint_d_update=true")
    job, _ = training(tmp_path / "decay", *PLAIN, "steps=2", *settings)
    rates = _rates(job)
    job.trainer.fit(job.module, job.datamodule)
    assert rates["D"] == pytest.approx([3 * LR, 3 * LR / 2])
    assert rates["G"] == pytest.approx([0.02, 0.01])


def test_d_gets_the_class_with_every_sample(tmp_path):
    """A conditional GAN with a penalty: real samples, fakes and G's samples have the classes of the batch."""
    job, before = _trained(tmp_path / "run", "conditional=true", "remedy=[r1]", "dataset.modes=8")
    loop = Loop(job, before)
    assert build_module(compose(*PLAIN, "conditional=true"), job.datamodule.dataset).latent_dim == 3 + 8
    part = job.datamodule.dataset.train
    order = torch.randperm(40, generator=make_generator(SEED, "order", 0))
    for t in range(STEPS):
        chosen = order[t * B : t * B + B]
        real, told = part[chosen], torch.eye(8)[part.labels[chosen]]
        shares = torch.bincount(part.labels, minlength=8).double() / 40

        def z(told=told, shares=shares):
            noise = torch.randn(B, 3, generator=loop.latents)
            torch.multinomial(shares, B, replacement=True, generator=loop.latents)  # replaced by the batch's
            return torch.cat([noise, told], 1)

        def d(x, told=told):
            return loop.d(torch.cat([x, told], 1))

        places = real.clone().requires_grad_()
        (slope,) = torch.autograd.grad(d(places).sum(), places, create_graph=True)
        fake = loop.g(z()).detach()
        error = softplus(-d(real)).mean() + softplus(d(fake)).mean() + 2.5 * slope.square().sum(1).mean() / 2
        loop.descend(loop.d, error)
        loop.descend(loop.g, softplus(-d(loop.g(z()))).mean())
    loop.equals(job)
