"""The implementations that the benchmark compares train the same networks, phase by phase."""

from types import SimpleNamespace

import pytest
import torch
from conftest import compose, small

from gan_lab.benchmark import step
from gan_lab.training.gan_module import GANModule

PLAIN = [override for override in small("optim", "sgd") if not override.startswith("callbacks.")]
IMPLEMENTATIONS = [step.time_gan_lab, step.time_hand_written, step.time_lightning, step.time_per_sample]


@pytest.fixture
def cfg(monkeypatch):
    monkeypatch.setattr(step, "WARM_UP", 4)
    return compose(*PLAIN, *step.WITHOUT_EVALUATION, "log_every=2", "callbacks.checkpoint.every=4")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_each_takes_time_and_moves_both_networks(cfg, monkeypatch, implementation):
    modules, before = [], []
    of_gan_lab = implementation is step.time_gan_lab
    build = step.build if of_gan_lab else step.build_data_and_gan

    def build_and_record(*arguments):
        built = build(*arguments)
        module = built.module if of_gan_lab else built[1]
        modules.append(module)
        before.extend(p.detach().clone() for p in module.parameters())
        return built

    monkeypatch.setattr(step, build.__name__, build_and_record)
    assert implementation(cfg, 4) > 0
    (module,) = modules
    assert isinstance(module, GANModule)
    moved = [not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True)]
    assert sum(moved) > len(moved) * 0.8
    if of_gan_lab:
        assert module.step == 8


def test_the_hand_written_loop_is_our_step(cfg, monkeypatch):
    """From the same batches and latent vectors, the hand-written loop gets the same weights as ours, bit for bit."""
    vectors = torch.randn(16, 4, cfg.latent_dim)
    batches = torch.arange(32).view(8, 4)
    build = step.build_data_and_gan
    modules = []

    def build_without_randomness(cfg):
        dataset, module = build(cfg)
        remaining_vectors, remaining_batches = iter(vectors), iter(batches)
        monkeypatch.setattr(torch, "randn", lambda *_: next(remaining_vectors))
        monkeypatch.setattr(torch, "randint", lambda *_: next(remaining_batches))
        modules.append(module)
        return dataset, module

    monkeypatch.setattr(step, "build_data_and_gan", build_without_randomness)
    step.time_hand_written(cfg, 4)
    monkeypatch.undo()

    dataset, module = build(cfg)
    optimizers, _ = module.configure_optimizers()
    remaining_vectors = iter(vectors)
    module.trainer = SimpleNamespace(optimizers=optimizers, strategy=SimpleNamespace(pre_backward=lambda loss: None))
    monkeypatch.setattr(module.latents, "sample", lambda *_: next(remaining_vectors))
    monkeypatch.setattr(module.step_log, "end_block", lambda *_: None)
    module.training_step(dataset.train[batches.flatten()].unflatten(0, batches.shape))
    hand_written = modules[0].state_dict()
    assert all(torch.equal(hand_written[name], value) for name, value in module.state_dict().items())
