"""Averages of weights, against sums worked by hand."""

import math

import pytest
import torch
from torch import nn

from gan_lab.gan.remedies.averaging import EMA, HistoricalAveraging


def _set(network, *values):
    with torch.no_grad():
        for p, value in zip(network.parameters(), values, strict=True):
            p.fill_(value)


def test_an_ema_is_a_weighted_sum_of_the_past():
    """From 1, then 3 and 7 with decay ¾: ¾ + ¾ = 1.5, then 1.125 + 1.75."""
    network = nn.Linear(1, 1, bias=False)
    _set(network, 1)
    averaged = EMA().make_average(network)
    for value, average in ((3, 1.5), (7, 2.875)):
        _set(network, value)
        averaged.update(0.75)
        assert averaged.network.weight.item() == average
    assert network.weight.item() == 7
    assert not averaged.network.weight.requires_grad
    assert set(averaged.state_dict()) == {"network.weight"}


def test_the_first_averages_forget_the_initial_weights():
    """decay 0.9 keeps 2/11 after the first step, (1 + t)/(10 + t) after t steps, and 0.9 from step 80 on.

    After 30 steps with the weight 1, what is left of an initial 0 is the product of these shares, 31! · 10! / 40!.
    """
    ema = EMA(0.9)
    assert [ema.decay_at(step) for step in (0, 1, 79, 80, 10_000)] == [2 / 11, 3 / 12, 81 / 90, 0.9, 0.9]
    network = nn.Linear(1, 1, bias=False)
    _set(network, 0)
    averaged = ema.make_average(network)
    _set(network, 1)
    for step in range(30):
        averaged.update(ema.decay_at(step))
    left = math.factorial(31) * math.factorial(10) / math.factorial(40)
    assert averaged.network.weight.item() == pytest.approx(1 - left, rel=1e-6)
    assert left < 1e-7 < 0.9**30


def test_an_average_has_its_own_batch_statistics():
    """G's are of G's weights; counted anew they are those of all batches together, to the bit where each is alike."""
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    _set(network, 1, 1, 0)
    averaged = EMA().make_average(network)
    _set(network, 5, 1, 0)
    network(torch.tensor([[100.0], [300.0]]))  # G's running statistics go far away
    averaged.update(0.5)  # the weight is 3
    assert averaged.network[1].running_mean.item() == network[1].running_mean.item() > 50
    batches = torch.tensor([[[i], [i + 2.0]] for i in range(16)])  # means 1 … 16, variances 2
    averaged.recalibrate_batch_norm(lambda i: batches[i])
    assert averaged.network[1].running_mean.item() == pytest.approx(3 * 8.5)
    assert averaged.network[1].running_var.item() == pytest.approx(9 * 2)
    assert averaged.network[1].momentum == 0.1
    assert not averaged.network.training
    averaged.recalibrate_batch_norm(lambda i: 1 / 0)  # once a step is enough
    averaged.update(0.5)
    with pytest.raises(ZeroDivisionError):
        averaged.recalibrate_batch_norm(lambda i: 1 / 0)


def test_an_average_has_its_own_spectral_norm():
    """G's vectors are those of [[3, 1], [0, 0]], the average, 0.2 of that and 0.8 of [[0, 0], [0, 4]], stretches most
    along another axis: by G's it would be far more than 1."""
    network = nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2, bias=False))
    weight = network.parametrizations.weight.original
    with torch.no_grad():
        weight.copy_(torch.tensor([[0.0, 0], [0, 4]]))
    averaged = EMA().make_average(network)
    with torch.no_grad():
        weight.copy_(torch.tensor([[3.0, 1], [0, 0]]))
    for _ in range(30):
        network(torch.ones(1, 2))
    before = network.weight.detach().clone()
    averaged.update(0.8)
    assert torch.linalg.matrix_norm(averaged.network.eval().weight, 2) > 2
    averaged.recalibrate_batch_norm(lambda i: torch.ones(1, 2))
    assert torch.linalg.matrix_norm(averaged.network.weight, 2).item() == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(network.eval().weight, before, msg="G's is as it was")


def test_historical_averaging_holds_to_the_mean_of_all_steps():
    """Weight 2, 4, 9 and bias 0, 0, 3: means 5 and 1 at the third step; the slope is 2 · 10 · (9 − 5) and of 3 − 1."""
    network = nn.Linear(1, 1)
    history = HistoricalAveraging(weight=10).make_anchor(network, ())
    penalties = []
    for weights in ((2, 0), (4, 0), (9, 3)):
        _set(network, *weights)
        penalty = history()
        penalties.append(penalty.item())
    assert penalties == pytest.approx([0, 10 * 1, 10 * (16 + 4)])
    assert (history.mean_0.item(), history.mean_1.item()) == (5, 1)
    penalty.backward()
    assert [p.grad.item() for p in network.parameters()] == pytest.approx([2 * 10 * 4, 2 * 10 * 2])


def test_replicas_are_held_to_their_own_past():
    """Two members in one tensor, and a scalar for each: (2, 2 → 4, 2) and (0, 0 → 2, 4); means 3, 2 and 1, 2."""
    network = nn.Module()
    network.weight = nn.Parameter(torch.tensor([[2.0, 2.0], [0.0, 0.0]]))
    network.slope = nn.Parameter(torch.tensor([1.0, 1.0]))
    history = HistoricalAveraging(weight=1).make_anchor(network, (2,))
    assert history().tolist() == [0, 0]
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[4.0, 2.0], [2.0, 4.0]]))
        network.slope.copy_(torch.tensor([1.0, 7.0]))
    assert history().tolist() == [1 + 0 + 0, 1 + 4 + 9]


def test_historical_averaging_continues_from_its_checkpoint():
    network = nn.Linear(2, 2)
    history = HistoricalAveraging().make_anchor(network, ())
    assert not list(history.parameters()), "the network's weights aren't its own"
    history()
    _set(network, 1, 2)
    history()
    resumed = HistoricalAveraging().make_anchor(network, ())
    resumed.load_state_dict(history.state_dict())
    _set(network, 3, 5)
    assert resumed().item() == history().item() > 0
