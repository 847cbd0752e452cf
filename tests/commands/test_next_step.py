"""Which symptom of a verdict points to which remedy, as a command that can be pasted."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, compose

from gan_lab.commands.next_step import after_training, for_other_generators
from gan_lab.core.run_folder import in_folder

FOLDER = Path("outputs/my ring")
GOOD = {"collapse": "covered", "within_modes": "varied", "likeness": "good", "copies": False, "balance": "balanced"}
METRICS = {"samples": 2_500, "modes_total": 8, "junk": 0.01}
SUMMARY = {
    "status": "finished",
    "steps": 1_000,
    "loss": "BCE",
    "activation": "LeakyReLU",
    "optim": "Adam",
    "latent": "Normal",
    "remedy": [],
    "overrides": ["dataset=ring", "steps=1000", "run.folder=x", "hydra/launcher=local", "name=my run"],
}
COLLAPSED = {"collapse": "collapsed"}
D_WINS = {"balance": "D is winning"}


def step(verdict: dict[str, Any], are_images: bool = False, metrics: dict[str, Any] = METRICS, **summary: Any):
    line = after_training(GOOD | verdict, metrics, SUMMARY | summary, are_images)
    return line and in_folder(line, FOLDER)


def test_nothing_is_to_be_tried_if_nothing_is_wrong():
    assert step({}) is None
    assert step(D_WINS) is None, "it makes everything: then the balance is no symptom"
    assert step(COLLAPSED, status="interrupted") is None, "first it has to go on"
    assert step({"within_modes": "collapsed"}, metrics=METRICS | {"modes_total": 1}) is None, "the book's pattern"


@pytest.mark.parametrize(
    ("verdict", "summary", "change"),
    [
        (COLLAPSED, {}, "remedy=[r1]"),
        ({"within_modes": "narrow"}, {"remedy": ["ema"]}, "remedy=[ema,r1]"),
        (COLLAPSED | D_WINS, {"loss": "Saturating"}, "loss=bce"),
        ({"likeness": "poor"} | D_WINS, {}, "remedy=[r1]"),
        (COLLAPSED | {"balance": "G is winning"}, {}, "remedy=[n_critic]"),
        (COLLAPSED, {"activation": "Sigmoid"}, "activation=leaky_relu"),
        (COLLAPSED, {"optim": "SGD"}, "optim=adam optim.lr=0.0005"),
        ({"likeness": "poor"}, {"optim": "SGD"}, "optim=adam optim.lr=0.0005"),
        (COLLAPSED, {"latent": "Constant"}, "latent=normal"),
        (COLLAPSED, {"remedy": ["r1"]}, "loss=relativistic"),
        ({"copies": True}, {}, "steps=500"),
    ],
)
def test_a_symptom_points_to_a_remedy(verdict, summary, change):
    line = step(verdict, **summary)
    arguments = shlex.split(line.partition(": python ")[2])
    expected = ["train.py", "dataset=ring", "steps=1000", "name=my run", *change.split()]
    if change.startswith("steps"):
        expected.remove("steps=1000")
    assert arguments == expected


def test_augmentation_is_for_images():
    assert step({"copies": True}, are_images=True).endswith("'remedy=[diffaugment]'")


def test_what_is_not_yet_like_the_data_trains_on():
    resumed = "python train.py 'resume=\"outputs/my ring\"' steps=2000"
    assert step({"likeness": "poor"}).endswith(resumed)
    assert step(COLLAPSED | {"likeness": "poor"}, metrics=METRICS | {"junk": 0.9}).endswith(resumed)
    assert step(COLLAPSED, remedy=["r1"], loss="Relativistic").endswith(resumed)


def test_too_few_samples_are_evaluated_again():
    line = step({"collapse": "unknown"}, metrics={"samples": 100, "modes_total": 1_000})
    assert line.endswith("python scripts/evaluate.py 'run=\"outputs/my ring\"' samples=23026")


def test_a_remedy_without_an_option_keeps_its_override():
    overrides = ["+remedy.drift={_target_: mine.Drift}", "remedy=[ema]", "trust=[mine]"]
    line = step(COLLAPSED, remedy=["ema", "drift"], overrides=overrides)
    arguments = shlex.split(line.partition("python train.py ")[2])
    assert arguments == ["+remedy.drift={_target_: mine.Drift}", "trust=[mine]", "remedy=[ema,r1]"]


RECIPES = sorted(f"{path.parent.name}/{path.stem}" for path in (ROOT / "conf/experiment").glob("*/*.yaml"))
FAST_RECIPES = ("best/ring", "book/pattern", "ladder/1_mse_sigmoid_sgd", "paper/pacgan_grid")


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(recipe, marks=() if recipe in FAST_RECIPES else pytest.mark.slow) for recipe in RECIPES],
)
def test_the_command_composes_for_every_recipe(recipe):
    """Whatever the verdict says of it, the command is one that passes the checks of a configuration."""
    overrides = [f"experiment={recipe}"]
    cfg = compose(*overrides)
    summary = {**SUMMARY, "overrides": overrides, "remedy": list(cfg.remedy)}
    for group in ("loss", "activation", "optim", "latent"):
        summary[group] = cfg[group]._target_.rpartition(".")[2]
    for verdict in (COLLAPSED, COLLAPSED | D_WINS, COLLAPSED | {"balance": "G is winning"}, {"copies": True}):
        line = step(verdict, are_images=True, **summary)
        arguments = shlex.split(line.partition(": python train.py ")[2])
        if not arguments[0].startswith("resume="):
            compose(*arguments)


def test_of_other_generators_no_command_is_known():
    assert for_other_generators(GOOD, METRICS) is None
    for verdict in (COLLAPSED, {"likeness": "poor"}, {"copies": True}, {"collapse": "unknown"}):
        line = for_other_generators(GOOD | verdict, METRICS | {"samples": 100})
        assert line
        assert "python" not in line
