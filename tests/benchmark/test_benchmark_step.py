"""The contestants of the benchmark train what they say: the same networks, phase by phase."""

import pytest
import torch
from conftest import compose, small

from gan_lab.benchmark import step
from gan_lab.training.gan_module import GANModule

PLAIN = [each for each in small("optim", "sgd") if not each.startswith("callbacks.")]


@pytest.fixture
def cfg(monkeypatch):
    monkeypatch.setattr(step, "WARM_UP", 4)
    return compose(*PLAIN, *step.BARE, "log_every=2", "callbacks.checkpoint.every=4")


@pytest.mark.parametrize("contestant", [step.ours, step.by_hand, step.usual, step.per_sample])
def test_each_takes_time_and_moves_both_networks(cfg, monkeypatch, contestant):
    made, before = [], []
    parts = step.build if contestant is step.ours else step.gan_and_data

    def watched(*arguments):
        found = parts(*arguments)
        module = found.module if contestant is step.ours else found[1]
        made.append(module)
        before.extend(p.detach().clone() for p in module.parameters())
        return found

    monkeypatch.setattr(step, parts.__name__, watched)
    assert contestant(cfg, 4) > 0
    (module,) = made
    assert isinstance(module, GANModule)
    moved = [not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True)]
    assert sum(moved) > len(moved) * 0.8
    if contestant is step.ours:
        assert module.step == 8


def test_by_hand_is_our_step(cfg, monkeypatch):
    """From the same batches and latent vectors the loop by hand comes to the weights that ours comes to, to the bit."""
    vectors, batches = torch.randn(16, 4, cfg.latent_dim), torch.arange(32).view(8, 4)
    parts, kept = step.gan_and_data, []

    def gan_and_data(cfg):
        dataset, module = parts(cfg)
        drawn, chosen = iter(vectors), iter(batches)
        monkeypatch.setattr(torch, "randn", lambda *_: next(drawn))
        monkeypatch.setattr(torch, "randint", lambda *_: next(chosen))
        kept.append(module)
        return dataset, module

    monkeypatch.setattr(step, "gan_and_data", gan_and_data)
    step.by_hand(cfg, 4)
    monkeypatch.undo()

    dataset, module = parts(cfg)
    optimisers, _ = module.configure_optimizers()
    again = iter(vectors)
    monkeypatch.setattr(module, "optimizers", lambda **_: optimisers)
    monkeypatch.setattr(module, "manual_backward", lambda loss: loss.backward())
    monkeypatch.setattr(module, "draw", lambda *_: next(again))
    monkeypatch.setattr(module, "end_chunk", lambda steps: None)
    module.training_step(dataset.train[batches.flatten()].unflatten(0, batches.shape))
    by_hand = kept[0].state_dict()
    assert all(torch.equal(by_hand[name], value) for name, value in module.state_dict().items())
