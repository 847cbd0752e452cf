"""The configuration: every YAML composes, every option trains, every value is bounded, every mistake is told."""

import inspect
import itertools
import sys
from collections.abc import Sequence

import hydra
import pytest
import torch
from conftest import OPTIONS, PARTNERS, compose, refusal, refused, small, training
from hydra.utils import get_object
from omegaconf import OmegaConf

from gan_lab.assembly.instantiate import build_module, check_targets
from gan_lab.config import hydra_app
from gan_lab.config.declarations import declared, settings_of
from gan_lab.config.refusals import explain
from gan_lab.config.schema import KEYS, key_of, leaves
from gan_lab.config.targets import CONF, own_parts
from gan_lab.config.types import ValueSpec
from gan_lab.core.declare import Declaration, declaration_of
from gan_lab.core.errors import LabError
from gan_lab.data import images, synthetic
from gan_lab.data.dataset import Dataset, Part


@pytest.mark.parametrize(
    ("group", "option"), [case for case in OPTIONS if case[0] in ("experiment", "debug", "trainer")]
)
def test_every_recipe_trains_a_step(tmp_path, little_images, group, option):
    if (group, option) == ("trainer", "gpu") and not torch.cuda.is_available():
        pytest.skip("no GPU")
    if (group, option) == ("trainer", "mps") and not torch.backends.mps.is_available():
        pytest.skip("no Apple GPU")
    experiment = [f"experiment={option}", *PARTNERS.get(option, ()), "callbacks.verdict.samples=50"]  # its own networks
    overrides = experiment if group == "experiment" else small(group, option)
    job, run = training(tmp_path / "run", *overrides, "steps=2")
    job.trainer.callbacks.clear()  # pictures and verdicts have tests of their own, and take most of the time
    before = [p.detach().clone() for p in job.module.parameters()]
    job.trainer.fit(job.module, job.datamodule)
    after = list(job.module.parameters())
    assert job.module.step == 2
    assert all(torch.isfinite(p).all() for p in after)
    assert sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True)) > len(before) / 2
    assert run.metrics.is_file()


SAME = {"auto", "leaky_relu_dcgan"}  # another option's class once more
NORMS, ACTIVATIONS = (
    [option for group, option in OPTIONS if group == name and option not in SAME] for name in ("norm", "activation")
)
PAIRS = [
    pytest.param(norm, activation, "conv", "2", marks=() if (row + column) % 3 == 0 else pytest.mark.slow)
    for row, norm in enumerate(NORMS)
    for column, activation in enumerate(ACTIVATIONS)
]
PAIRS += [(norm, ACTIVATIONS[place % len(ACTIVATIONS)], "mlp", "2") for place, norm in enumerate(NORMS)]
# A norm, not an activation, can fail on a batch of one.
PAIRS += [(norm, "relu", model, "1") for norm in NORMS for model in ("mlp", "conv")]


@pytest.mark.parametrize(("norm", "activation", "model", "batch_size"), PAIRS)
def test_any_combination_trains_or_is_refused_with_a_reason(little_images, norm, activation, model, batch_size):
    size = "model.channels=8" if model == "conv" else "model.generator.hidden=[16] model.discriminator.hidden=[16]"
    choices = f"dataset=mnist norm={norm} activation={activation} model={model} {size} batch_size={batch_size}"
    try:
        cfg = compose(*choices.split())
        module = build_module(cfg, images.mnist(""))
    except LabError as error:
        assert (norm, batch_size) == ("batch", "1") or (norm, model) == ("instance", "mlp")
        assert f"norm={norm}" in str(error)
        return
    scores = module.discriminator(module.generator(torch.randn(int(batch_size), cfg.latent_dim)))
    module.loss.g(scores).mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


def test_the_default_is_the_improved_recipe():
    cfg = compose()
    parts = {
        group: cfg[group]._target_.rpartition(".")[2] for group in ("loss", "activation", "optim", "norm", "dataset")
    }
    assert parts == dict(loss="BCE", activation="LeakyReLU", optim="Adam", norm="LayerNorm", dataset="digits")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pattern", dict(steps=10_000, batch_size=1, latent_dim=1, lr=0.01, layers=(1, 3), optim="SGD", loss="MSE")),
        (
            "mnist_first",
            dict(steps=60_000, batch_size=1, latent_dim=1, lr=0.01, layers=(1, 200), optim="SGD", loss="MSE"),
        ),
        (
            "mnist_improved",
            dict(steps=240_000, batch_size=1, latent_dim=100, lr=1e-4, layers=(1, 200), optim="Adam", loss="BCE"),
        ),
        (
            "conditional",
            dict(steps=720_000, batch_size=1, latent_dim=100, lr=1e-4, layers=(1, 200), optim="Adam", loss="BCE"),
        ),
    ],
)
def test_the_books_numbers(name, expected):
    cfg = compose(f"experiment=book/{name}")
    matches = dict(
        steps=cfg.steps,
        batch_size=cfg.batch_size,
        latent_dim=cfg.latent_dim,
        lr=cfg.optim.lr,
        layers=(cfg.model.generator.depth, cfg.model.generator.width),
        optim=cfg.optim._target_.rpartition(".")[2],
        loss=cfg.loss._target_.rpartition(".")[2],
    )
    assert matches == expected
    for network in (cfg.model.generator, cfg.model.discriminator):
        assert (network.depth, network.width, network.hidden) == (*expected["layers"], None)
    if name in ("mnist_improved", "conditional"):
        assert cfg.activation.negative_slope == 0.02
        assert cfg.optim.betas == [0.9, 0.999], "PyTorch's defaults, which the book leaves alone"
    else:
        assert cfg.activation._target_ == "torch.nn.Sigmoid"
        assert cfg.norm._target_.endswith("NoNorm")
    shapes = {"pattern": (4,)}.get(name, (1, 28, 28))
    part = Part(torch.zeros(1, *shapes), torch.zeros(1, dtype=torch.int64))
    module = build_module(cfg, Dataset(part, part, classes=list("0123456789")))
    count = {
        "pattern": (4 * 3 + 3 + 3 + 1) + (3 + 3 + 3 * 4 + 4),
        "mnist_first": (784 * 200 + 200 + 201) + (400 + 201 * 784),
        "conditional": (794 * 200 + 200 + 2 * 200 + 201) + (110 * 200 + 200 + 2 * 200 + 201 * 784),
    }
    if name in count:
        assert sum(p.numel() for p in module.parameters()) == count[name]


EXPERIMENTS = [option for group, option in OPTIONS if group == "experiment" and not option.startswith("sweep/")]


def _every_third_fast(number: int) -> list:
    """Returns the numbers below this one; two of three are slow."""
    return [pytest.param(i, marks=pytest.mark.slow if i % 3 else ()) for i in range(number)]


# Groups that any experiment can swap, and so all at once; and those that may not fit to the rest of it.
FREE_GROUPS = ("activation", "callbacks", "latent", "logger", "optim", "optim_d", "optim_g")
OTHER_GROUPS = ("loss", "remedy", "dataset", "model")


@pytest.mark.parametrize("number", _every_third_fast(len(EXPERIMENTS)))
def test_an_experiment_takes_any_other_part(number):
    """What an experiment sets must not stick to a group that the user has swapped: that is what an ablation does."""
    assert {*FREE_GROUPS, *OTHER_GROUPS} == {group for group, _ in OPTIONS} - {"experiment", "debug", "trainer", "norm"}
    _swap(number, FREE_GROUPS)
    _swap(number, (OTHER_GROUPS[number % len(OTHER_GROUPS)],))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(EXPERIMENTS)))
def test_an_experiment_takes_every_other_part(number):
    for group in OTHER_GROUPS:
        _swap(number, (group,))


def _swap(number: int, groups: Sequence[str]) -> None:
    """Composes an experiment with other options of some groups."""
    choices = [f"{group}={_option_in_turn(group, number)}" for group in groups]
    try:
        check_targets(compose(f"experiment={EXPERIMENTS[number]}", *choices))
    except LabError as error:
        if error.key == "strength":
            # It sets other remedies, and here are none.
            return
        assert groups[0] in ("model", "dataset"), error
        assert "this dataset's samples have the shape" in str(error) or "norm=batch" in str(error)


def _option_in_turn(group: str, number: int) -> str:
    """Returns another option for each number: trying all of them would take too long."""
    options = [option for of, option in OPTIONS if of == group]
    return options[number % len(options)]


def test_every_value_of_conf_is_declared_and_every_key_has_a_value():
    keys = set()
    settings_of_remedies = set()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        for name in (
            "evaluate",
            "compare",
            "explore",
            "backquery",
            "pack",
            "benchmark",
            "results",
            "sample",
            "export",
            "studio",
            "cure",
            "atlas",
        ):
            keys |= {key for key, _ in leaves(OmegaConf.to_container(hydra.compose(name)), private=True)}
        for choices in _every_option_once():
            content = OmegaConf.to_container(hydra.compose("train", choices))
            keys |= {key for key, value in leaves(content, private=True) if value not in ("${activation}", "${norm}")}
            for name, node in content["remedy"].items():
                if "_target_" in node:
                    settings_of_remedies |= {f"remedy.{name}.{setting}" for setting in settings_of(node["_target_"])}
    assert {key for key in keys if key_of(key) is None} == settings_of_remedies
    used = [key_of(key) for key in keys]
    assert [key.name for key in KEYS if key not in used] == []


PARTS = sorted(own_parts())


@pytest.mark.parametrize("target", PARTS)
def test_a_declaration_is_read_as_the_part_itself_has_it(target):
    """Reading finds every class and function, and evaluates the same literals that importing it does."""
    part = get_object(target)
    assert declared(target) == declaration_of(part)
    parameters = inspect.signature(part).parameters
    assert set(declared(target).settings) <= set(parameters)
    for setting, spec in settings_of(target).items():
        default = parameters[setting].default
        assert spec.fits(list(default) if isinstance(default, tuple) else default), setting
        assert declared(target).settings[setting]["help"]


def test_parts_declare_something():
    assert sum(declared(target) != Declaration() for target in PARTS) >= 40


@pytest.mark.parametrize(
    ("decorator", "message"),
    [
        ("@declares(per_sample=1 + some())", "can't be read"),
        ("@declares(colour='red')", "colour"),
        ("@declares(settings={'a': 3})", "declares its setting a"),
        ("@declares(settings={'a': {'type': 'complex'}})", "declares its setting a"),
    ],
)
def test_a_declaration_that_cannot_be_read_is_refused(tmp_path, monkeypatch, decorator, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd_part.py").write_text(f"{decorator}\nclass Remedy:\n    pass\n")
    with refused("invalid", "declares") as error:
        settings_of("odd_part.Remedy")
    assert message in str(error.value)


def test_what_declares_nothing_or_is_not_there_is_unrestricted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd_part.py").write_text("class Remedy:\n    pass\n")
    (tmp_path / "broken_part.py").write_text("class Remedy(:\n")
    targets = (
        "odd_part.Remedy",
        "odd_part.Other",
        "broken_part.Remedy",
        "nowhere.Remedy",
        "sys.exit",
        "x",
        "",
        3,
        None,
    )
    for target in targets:
        assert declared(target) == Declaration()


QUIET_PART = """
open('canary', 'w')
from gan_lab.core.declare import declares

@declares(per_sample=True)
class Remedy:
    pass
"""


def test_declarations_are_read_without_running_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quiet_part.py").write_text(QUIET_PART)
    assert declared("quiet_part.Remedy").per_sample
    assert not (tmp_path / "canary").exists()
    assert "quiet_part" not in sys.modules


def _every_option_once() -> list[list[str]]:
    """Overrides in which each option comes up; those that choose for other groups, alone."""
    groups: dict[str, list[str]] = {}
    for group, option in OPTIONS:
        groups.setdefault(group, []).append(f"{group}={option}")
    single = [[option] for group in ("experiment", "debug") for option in groups.pop(group)]
    remedies = ",".join(option.removeprefix("remedy=") for option in groups.pop("remedy"))
    several = itertools.zip_longest(*groups.values())
    return [*single, [f"remedy=[{remedies}]"], *([option for option in row if option] for row in several)]


def test_every_option_comes_up_once():
    said = [option for choices in _every_option_once() for option in choices]
    assert sum(option.count(",") + 1 for option in said) == len(OPTIONS)


def test_every_option_begins_with_a_line_that_says_what_it_is():
    """--help shows that line, so it has to be a short one."""
    for group, option in OPTIONS:
        lines = (CONF / group / f"{option}.yaml").read_text(encoding="utf-8").splitlines()
        comments = [line for line in lines[:2] if line.startswith("# ") and not line.startswith("# @package")]
        assert comments, f"{group}={option}"
        assert len(comments[0]) <= 120, f"{group}={option}"


def test_callbacks_none_leaves_out_what_others_set_of_them():
    assert compose("callbacks=none").callbacks == {}
    assert compose("callbacks=none", "experiment=book/mnist_first").callbacks == {}
    assert compose("callbacks=none", "debug=fast").callbacks == {}
    with refused("invalid", "callbacks.pictures"):
        compose("callbacks=none", "experiment=book/mnist_first", "callbacks.pictures.every=3")


@pytest.mark.parametrize("choice", ["dataset=digits", "experiment=book/conditional", "experiment=sweep/remedies"])
def test_debug_fast_shortens_any_experiment(choice):
    cfg = compose(choice, "debug=fast")
    assert (cfg.steps, cfg.name, list(cfg.logger)) == (20, "debug", ["table"])
    assert {cfg.callbacks[name].every for name in ("pictures", "verdict", "checkpoint")} == {20}
    assert compose(choice, "debug=fast", "steps=7").steps == 7


@pytest.mark.parametrize(
    ("overrides", "widths_g", "widths_d"),
    [
        ([], [256, 256], [256]),
        (["model.depth=3", "model.width=128"], [128] * 3, [128] * 3),
        (["model.width=8"], [8, 8], [8]),
        (["model.depth=0"], [], []),
        (["model.discriminator.depth=2", "model.generator.width=7"], [7, 7], [256, 256]),
        (["model.depth=3", "model.generator.hidden=[4,5]"], [4, 5], [256] * 3),
        (["model=mlp_faces"], [300], [100]),
    ],
)
def test_sizes_of_fully_connected_networks_are_keys(overrides, widths_g, widths_d):
    module = build_module(compose("dataset=ring", *overrides), synthetic.ring(samples=10))
    for network, widths in ((module.generator, widths_g), (module.discriminator, widths_d)):
        linear = [layer for layer in network.layers if isinstance(layer, torch.nn.Linear)]
        assert [layer.out_features for layer in linear[:-1]] == widths


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (ValueSpec(int, low=1), [1, 10**9], [0, -1, 1.0, "1", True, None, [1]]),
        (ValueSpec(float, low=0, below=1), [0, 0.0, 0.999], [1, -0.1, "0.5", False, None, float("nan")]),
        (ValueSpec(bool), [True, False], [0, 1, "true", None]),
        (ValueSpec(str, none=True), ["", "x", None], [1, False, ["x"]]),
        (ValueSpec(list, low=1), [[], [3], [200, 100]], [[0], [1.5], 200, "[1]", None]),
        (
            ValueSpec(list, low=0, below=1, length=2, entries=float),
            [[0.5, 0.999], [0, 0]],
            [[0.5], [0.5, 1], [0.1, 0.2, 0.3]],
        ),
    ],
)
def test_rules(rule, good, bad):
    assert [value for value in good if not rule.fits(value)] == []
    assert [value for value in bad if rule.fits(value)] == []


@pytest.mark.parametrize(
    ("overrides", "code", "key"),
    [
        ("steps=-1", "invalid", "steps"),
        ("steps=1.5", "invalid", "steps"),
        ("steps=abc", "invalid", "steps"),
        ("steps=null", "invalid", "steps"),
        ("activation.negative_slope=steep", "invalid", "activation.negative_slope"),
        ("optim.betas=[0.5,1.5]", "invalid", "optim.betas"),
        ("model.generator.hidden=[200,0]", "invalid", "model.generator.hidden"),
        ("+typo=1", "unknown", "typo"),
        ("+steps=1", "invalid", "steps"),
        ("batch_size=1 norm=batch", "conflict", "norm"),
        ("latent=uniform latent.low=2", "conflict", "latent.low"),
        ("loss=bse", "unknown", "loss"),
        ("loss=null", "invalid", "loss"),
        ("loss={a:1}", "invalid", "loss"),
        ("remedy={}", "invalid", "remedy"),
        ("stepz=10", "unknown", "stepz"),
        ("~stepz", "unknown", "stepz"),
        ("opttim=adam", "unknown", "opttim"),
        ("optim/adam=adam", "unknown", "optim/adam"),
        ("activation.negative_slop=1", "unknown", "activation.negative_slop"),
        ("activation=gelu activation.negative_slope=0.2", "unknown", "activation.negative_slope"),
        ("experiment=book/patern", "unknown", "experiment"),
        ("hydra/launcher=locl", "unknown", "hydra/launcher"),
        ("hydra.foo=1", "unknown", "hydra.foo"),
        ("x=[1", "invalid", "x"),
        ("norm", "invalid", "norm"),
        ("=3", "invalid", ""),
        ("~loss", "missing", "loss"),
        ("~seed", "missing", "seed"),
        ("callbacks.pictures=null", "invalid", "callbacks.pictures"),
        ("callbacks.pictures.run=3", "unknown", "callbacks.pictures.run"),
        ("+callbacks.pictures.run=3", "invalid", "callbacks.pictures.run"),
        ("+loss._recursive_=false", "invalid", "loss._recursive_"),
        ("trainer.precision=16-mixed", "invalid", "trainer.precision"),
        ("+trainer.foo=3", "unknown", "trainer.foo"),
        ("trainer.devices=2", "conflict", "trainer"),
        ("dataset=ring dataset.std=0", "invalid", "dataset.std"),
        ("data=mnist", "invalid", "data"),
        ("dataset=images data.path=3", "invalid", "data.path"),
        ("dataset=images dataset.flip=1", "invalid", "dataset.flip"),
        ("workers=-1", "invalid", "workers"),
        ("name=5", "invalid", "name"),
        ("format=1", "invalid", "format"),
        ("loss._partial_=true", "unknown", "loss._partial_"),
        ("+loss._partial_=true", "invalid", "loss._partial_"),
    ],
)
def test_a_mistake_is_refused_with_its_key(overrides, code, key):
    error = refusal(*overrides.split())
    assert (error.code, error.key) == (code, key), error
    assert "Traceback" not in str(error)
    assert len(str(error).splitlines()) <= 4


def test_a_value_that_others_refer_to_is_named_once():
    assert len(str(refusal("activation.negative_slope=-1")).splitlines()) == 1


def test_a_bug_is_not_explained_as_a_mistake_of_the_user():
    assert explain(ZeroDivisionError("division by zero"), "train", []) is None
    bug = ZeroDivisionError("division by zero")
    bug.__context__ = FileNotFoundError(2, "No such file or directory", "data")
    assert explain(bug, "train", []) is None, "although it came up while a missing file was handled"


def test_settings_that_a_part_does_not_take_are_refused_by_name(tmp_path):
    with pytest.raises(LabError, match="activation: torch.nn.LeakyReLU can't be made.*'foo'"):
        training(tmp_path / "a", "+activation.foo=1")
    with pytest.raises(LabError, match="loss would run gan_lab.gan.losses.Nothing, which is none of gan_lab's parts"):
        training(tmp_path / "b", "loss._target_=gan_lab.gan.losses.Nothing")


def test_optim_d_and_optim_g_follow_optim_by_default():
    def optimisers(*overrides):
        module = build_module(
            compose(*overrides, "model.generator.hidden=[8]", "model.discriminator.hidden=[8]"),
            synthetic.ring(samples=10),
        )
        return module.configure_optimizers()[0]

    d, g = optimisers("optim=sgd", "optim.lr=0.3", "optim.momentum=0.5")
    assert (type(d), d.defaults["lr"], d.defaults["momentum"]) == (torch.optim.SGD, 0.3, 0.5)
    assert (type(g), g.defaults["lr"], g.defaults["momentum"]) == (torch.optim.SGD, 0.3, 0.5)
    d, g = optimisers("optim=adam", "optim.lr=0.1", "optim_d.lr=0.4")
    assert (d.defaults["lr"], g.defaults["lr"]) == (0.4, 0.1)
    d, g = optimisers("optim_d=sgd", "optim=adam", "optim.lr=0.1", "optim_d.lr=0.2")
    assert (type(d), type(g), d.defaults["lr"]) == (torch.optim.SGD, torch.optim.Adam, 0.2)


def test_initial_weights_depend_only_on_the_seed():
    torch.rand(5)
    a, b, c = (
        build_module(
            compose(f"seed={seed}", "model.generator.hidden=[8]", "model.discriminator.hidden=[8]"), images.digits()
        ).state_dict()
        for seed in (4, 4, 5)
    )
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not any(torch.equal(a[name], c[name]) for name in a if name.endswith("0.weight"))


def test_a_trainer_that_names_no_devices_is_one_process(tmp_path):
    job, _ = training(tmp_path / "run", *small("loss", "bce"), "~trainer.devices")
    assert (job.trainer.num_devices, job.process_group.size) == (1, 1)


def test_a_working_directory_that_was_deleted_is_refused(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "a"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(SystemExit) as end:
        hydra_app.run(lambda _: None, "train", [], None)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("The working directory has been deleted.\n")
