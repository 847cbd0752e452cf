"""Remedies in the step: each alone, many together, and what they do there against an independent computation."""

import random

import pytest
import torch
from conftest import OPTIONS, compose, training

from gan_lab.fit import EXCLUSIVE
from gan_lab.training import fit

NAMES = [option for group, option in OPTIONS if group == "remedy"]
LOSSES = [option for group, option in OPTIONS if group == "loss"]
NORMS = ["none", "layer", "batch", "spectral"]
DATA = {
    "plane": ["dataset=ring", "batch_size=8"],
    "images": ["dataset=digits", "batch_size=8"],
}
TINY = [
    "steps=3",
    "log_every=1",
    "latent_dim=3",
    "model.generator.hidden=[8]",
    "model.discriminator.hidden=[8]",
    "logger=table",
    "~callbacks.verdict",
    "~callbacks.pictures",
    "~callbacks.curves",
    "~callbacks.checkpoint",
]
ONLY_IMAGES = {"diffaugment"}
ONLY_PROBABILITY = {"label_smoothing"}


def _fits(remedies, loss, data):
    """Whether a combination isn't one of those that are refused."""
    return not (
        any(set(pair) <= set(remedies) for pair in EXCLUSIVE)
        or (ONLY_IMAGES & set(remedies) and data == "plane")
        or (ONLY_PROBABILITY & set(remedies) and loss not in ("bce", "mse", "saturating"))
    )


def _drawn(number):
    """So many pairs and triples of remedies with a loss, a norm and data, the same each time."""
    chance, found = random.Random(0), []
    while len(found) < number:
        remedies = tuple(sorted(chance.sample(NAMES, chance.choice((2, 3)))))
        case = (remedies, chance.choice(LOSSES), chance.choice(NORMS), chance.choice(list(DATA)))
        if _fits(case[0], case[1], case[3]) and case not in found:
            found.append(case)
    return found


ALONE = [((name,), "bce", "layer", data) for name in NAMES for data in DATA if _fits((name,), "bce", data)]


@pytest.mark.parametrize(
    ("remedies", "loss", "norm", "data"),
    [*ALONE, *_drawn(48)],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else value,
)
def test_any_of_them_trains(tmp_path, remedies, loss, norm, data):
    overrides = [*DATA[data], *TINY, f"remedy=[{','.join(remedies)}]", f"loss={loss}", f"norm={norm}"]
    made, run = training(tmp_path / "run", *overrides)
    before = {name: p.detach().clone() for name, p in made.module.named_parameters()}
    fit(made, run)
    assert made.module.step == 3
    assert all(torch.tensor(value).isfinite() for value in made.module.last_row.values())
    moved = {name.partition(".")[0] for name, p in made.module.named_parameters() if not torch.equal(p, before[name])}
    assert {"generator", "discriminator"} <= moved


def test_every_file_is_a_remedy():
    for name in NAMES:
        assert name in compose(f"remedy=[{name}]", "dataset=mnist", "model=mlp").remedy, name
