"""Remedies in the step: each alone, many together, and what they do there against an independent computation."""

import random

import pytest
import torch
import yaml
from conftest import CONFLICTING_REMEDIES, OPTIONS, REMEDIES, compose, refusal, training
from hydra.errors import HydraException
from omegaconf import OmegaConf

from gan_lab.assembly.instantiate import build_data_and_gan
from gan_lab.commands.summary import announce, summarise
from gan_lab.commands.train import fit
from gan_lab.config.arguments import refuse_arguments
from gan_lab.config.declarations import declared, settings_of
from gan_lab.config.refusals import explain
from gan_lab.config.targets import CONF
from gan_lab.core.errors import LabError
from gan_lab.gan.losses import BCE, Relativistic, RelativisticAverage
from gan_lab.gan.remedies import Remedies
from gan_lab.gan.remedies.averaging import EMA, HistoricalAveraging
from gan_lab.gan.remedies.generator_losses import ModeSeeking, TopK
from gan_lab.gan.remedies.input_transforms import Pack
from gan_lab.gan.remedies.learning_rates import TTUR
from gan_lab.gan.remedies.penalties import DRAGAN, R1, R2, WGANGP, LeCam
from gan_lab.gan.remedies.unrolled import Unrolled
from gan_lab.gan.remedies.update_gate import UpdateGate
from gan_lab.training.callbacks.loggers import TensorBoard
from gan_lab.training.settings import GANSettings

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
    """Returns whether a combination isn't one of those that are refused."""
    if any(set(pair) <= set(remedies) for pair in CONFLICTING_REMEDIES):
        return False
    if ONLY_IMAGES & set(remedies) and data == "plane":
        return False
    return not ONLY_PROBABILITY & set(remedies) or loss in ("bce", "mse", "saturating")


def _random_combinations(number):
    """Returns pairs and triples of remedies with a loss, a norm and data, the same each time."""
    rng = random.Random(0)
    combinations = []
    while len(combinations) < number:
        remedies = tuple(sorted(rng.sample(REMEDIES, rng.choice((2, 3)))))
        loss = rng.choice(LOSSES)
        norm = rng.choice(NORMS)
        data = rng.choice(list(DATA))
        combination = (remedies, loss, norm, data)
        if _fits(remedies, loss, data) and combination not in combinations:
            combinations.append(combination)
    return combinations


COMBINATIONS = _random_combinations(48)
SINGLE = [
    pytest.param((name,), "bce", "layer", data, marks=() if data == "images" else pytest.mark.slow)
    for name in REMEDIES
    for data in DATA
    if _fits((name,), "bce", data)
]


@pytest.mark.parametrize(
    ("remedies", "loss", "norm", "data"),
    [*SINGLE, *COMBINATIONS[:12], *(pytest.param(*other, marks=pytest.mark.slow) for other in COMBINATIONS[12:])],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else value,
)
def test_any_of_them_trains(tmp_path, remedies, loss, norm, data):
    overrides = [*DATA[data], *TINY, f"remedy=[{','.join(remedies)}]", f"loss={loss}", f"norm={norm}"]
    generated, run = training(tmp_path / "run", *overrides)
    before = {name: p.detach().clone() for name, p in generated.module.named_parameters()}
    fit(generated, run)
    assert generated.module.step == 3
    assert all(torch.tensor(value).isfinite() for value in generated.module.step_log.last_row.values())
    moved = {
        name.partition(".")[0] for name, p in generated.module.named_parameters() if not torch.equal(p, before[name])
    }
    assert {"generator", "discriminator"} <= moved


@pytest.mark.parametrize("pair", CONFLICTING_REMEDIES, ids="+".join)
def test_pairs_that_exclude_each_other(pair):
    error = refusal(f"remedy=[{','.join(reversed(pair))}]")
    assert error.code == "conflict"
    assert error.key in {f"remedy.{name}" for name in pair}
    assert all(f"remedy=[{name}]" in str(error) for name in pair)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ("remedy=[balance] replicas=2", "remedy.balance"),
        ("remedy=[pac] conditional=true", "remedy.pac"),
        ("remedy=[mode_seeking] latent=constant", "remedy.mode_seeking"),
        ("remedy=[mode_seeking] batch_size=1", "remedy.mode_seeking"),
        ("remedy=[minibatch_stddev] model=conv_book dataset=images data.path=x.h5", "remedy.minibatch_stddev"),
        (
            "remedy=[minibatch_discrimination] model=conv_book dataset=images data.path=x.h5",
            "remedy.minibatch_discrimination",
        ),
        ("remedy=[dragan] trainer=ddp devices=2", "remedy.dragan"),
    ],
)
def test_what_a_remedy_cannot_be_combined_with_is_refused(overrides, key):
    error = refusal(*overrides.split())
    assert (error.code, error.key) == ("conflict", key), error
    compose(*(override for override in overrides.split() if not override.startswith("remedy")))


def _build(arguments):
    refuse_arguments(arguments)
    build_data_and_gan(compose(*arguments))


@pytest.mark.parametrize(
    ("overrides", "code", "key"),
    [
        ("remedy=[nope]", "unknown", "remedy"),
        ("remedy=", "unknown", "remedy"),
        ("remedy=3", "invalid", "remedy"),
        ("remedy=null", "invalid", "remedy"),
        ("~remedy", "invalid", "remedy"),
        ("remedy.r1.gamma=1", "unknown", "remedy.r1.gamma"),
        ("remedy.foo=1", "unknown", "remedy.foo"),
        ("+remedy.foo=1", "invalid", "remedy.foo"),
        ("remedy=[r1] remedy.r1=3", "invalid", "remedy.r1"),
        ("remedy=[r1] ~remedy.r1._target_", "invalid", "remedy.r1"),
        ("remedy=[r1] remedy.r1.gamma=-1", "invalid", "remedy.r1.gamma"),
        ("remedy=[r1] remedy.r1.end=0", "invalid", "remedy.r1.end"),
        ("remedy=[r2] remedy.r2.gamma=0 remedy.r2.end=1", "invalid", "remedy.r2.end"),
        ("remedy=[r1] remedy.r1.gama=1", "unknown", "remedy.r1.gama"),
        ("remedy=[r1] +remedy.r1.foo=1", "invalid", "remedy.r1"),
        ("remedy=[r1] +remedy.r1._partial_=true", "invalid", "remedy.r1._partial_"),
        ("remedy=[r1] remedy.r1._target_=gan_lab.gan.remedies.penalties.R3", "foreign", "remedy.r1"),
        ("+remedy.x._target_=os.system", "foreign", "remedy.x"),
        ("remedy=[pac] remedy.pac.m=100 batch_size=200", "invalid", "remedy.pac.m"),
        ("+remedy.x._target_=gan_lab.gan.losses.BCE", "invalid", "remedy"),
        ("+remedy.x._target_=torch.nn.Linear", "invalid", "remedy.x"),
        (
            "+remedy.x._target_=gan_lab.gan.remedies.penalties.R1 +remedy.x._partial_=true",
            "invalid",
            "remedy.x._partial_",
        ),
        ("remedy=[n_critic] remedy.n_critic.n=3", "unknown", "remedy.n_critic.n"),
        ("remedy=[n_critic] n_critic=0", "invalid", "n_critic"),
        ("remedy=[ema] remedy.ema.decay=1", "invalid", "remedy.ema.decay"),
        ("remedy=[decay] remedy.decay.fraction=0", "invalid", "remedy.decay.fraction"),
        ("remedy=[exponential_decay] remedy.exponential_decay.end=0", "invalid", "remedy.exponential_decay.end"),
        ("remedy=[decay,exponential_decay]", "conflict", "remedy.exponential_decay"),
        ("remedy=[diffaugment] remedy.diffaugment.policy=color", "invalid", "remedy.diffaugment.policy"),
        ("remedy=[diffaugment] dataset=ring", "conflict", "remedy.diffaugment"),
        ("remedy=[label_smoothing] loss=hinge", "conflict", "remedy.label_smoothing"),
        ("remedy=[label_smoothing] loss=relativistic", "conflict", "remedy.label_smoothing"),
        (
            "remedy=[minibatch_discrimination] model=conv dataset=mnist",
            "conflict",
            "remedy.minibatch_discrimination",
        ),
    ],
)
def test_a_mistake_is_one_short_message(little_images, overrides, code, key):
    arguments = overrides.split()
    with pytest.raises((LabError, HydraException)) as error:
        _build(arguments)
    explanation = explain(error.value, "train", arguments)
    assert explanation is not None
    assert (explanation.code, explanation.key) == (code, key)
    assert "Traceback" not in str(explanation)
    assert len(str(explanation).splitlines()) <= 4


@pytest.mark.parametrize("override", ["remedy=r1", "remedy=[r1]", "remedy=[r1,r1]", "+remedy=[r1]"])
def test_one_may_be_named_without_a_list_and_twice_is_once(override):
    remedy = OmegaConf.to_container(compose(override).remedy)
    assert remedy == OmegaConf.to_container(compose("remedy=[r1]").remedy)


def test_a_run_names_its_remedies(tmp_path, monkeypatch):
    """In summary.json by name, in the line at its start with their settings, in TensorBoard's hparams with both."""
    logged = []
    monkeypatch.setattr(TensorBoard, "log_hyperparams", lambda _, params: logged.append(params))
    remedies = ("remedy=[ttur,r1,ema,n_critic,decay]", "remedy.r1.gamma=0.5")
    generated, run = training(tmp_path / "run", *DATA["plane"], *TINY, *remedies, "logger=default")
    line = announce(generated, run)
    assert "ring (BCE, LeakyReLU, LayerNorm, Adam) with ttur(ratio=4.0), r1(gamma=0.5), ema(decay=0.999), " in line
    assert "decay(fraction=1.0), 3 steps of 8, compiled step, 1 thread, n_critic=5, " in line, "the steps are said once"
    assert ", D updated on real samples and fakes together (as with joint_d_update=true, for R1) →" in line
    summary, _ = fit(generated, run)
    assert summary["remedy"] == ["ttur", "r1", "ema", "decay"]
    assert logged[0]["remedy"] == "ttur, r1, ema, decay"
    assert logged[0]["remedy.r1.gamma"] == 0.5
    plain, run = training(tmp_path / "plain", *DATA["plane"], *TINY)
    assert "Adam), 3 steps of 8, compiled step, 1 thread →" in announce(plain, run)
    assert plain.description["remedy"] == []


@pytest.mark.parametrize(
    ("overrides", "is_joint"),
    [("remedy=[ttur,unrolled,pac,ema]", False), ("joint_d_update=true", True), ("remedy=[r1]", True)],
)
def test_a_run_says_how_d_was_updated(tmp_path, overrides, is_joint):
    """The summary, as it was; the line at the start, where it is not as it was asked for."""
    generated, run = training(tmp_path / "run", *DATA["plane"], *TINY, *overrides.split())
    asked = "joint_d_update=true" in overrides
    assert ("D updated on real samples and fakes together" in announce(generated, run)) == (is_joint and not asked)
    assert summarise(generated, "finished", None)["joint_d_update"] is is_joint


def test_what_needs_real_samples_and_fakes_in_one_update_of_d():
    remedies = [R1(), R2(), WGANGP(), DRAGAN(), LeCam(), UpdateGate(), HistoricalAveraging()]
    others = [Pack(), TTUR(), TopK(), Unrolled(), EMA(), ModeSeeking()]
    parts = dict(latent=None, latent_dim=1, optim_d=None, optim_g=None, steps=1, seed=0, log_every=1)
    for remedy in remedies:
        settings = GANSettings(BCE(), remedies=Remedies.from_list([*others, remedy]), **parts)
        assert settings.joint_causes == [type(remedy).__name__]
        assert settings.updates_d_jointly
    for loss in (Relativistic(), RelativisticAverage()):
        assert GANSettings(loss, **parts).joint_causes == [type(loss).__name__]
    settings = GANSettings(BCE(), remedies=Remedies.from_list(others), **parts)
    assert not settings.updates_d_jointly


def test_published_settings_are_between_weak_and_strong():
    for name in REMEDIES:
        published = yaml.safe_load((CONF / "remedy" / f"{name}.yaml").read_text(encoding="utf-8"))
        declaration = declared(published.get("_target_"))
        for key, value in (*declaration.weak.items(), *declaration.strong.items()):
            assert value != published[key], name
            assert settings_of(published["_target_"])[key].fits(value), name
        for key in declaration.weak.keys() & declaration.strong.keys():
            values = [declaration.weak[key], published[key], declaration.strong[key]]
            assert values in (sorted(values), sorted(values, reverse=True)), name


def test_a_value_on_the_command_line_goes_before_the_strength():
    remedy = compose("remedy=[r1,ema,weak]", "remedy.r1.gamma=7").remedy
    assert (remedy.r1.gamma, remedy.ema.decay) == (7, 0.99)
    strong = compose("remedy=[r1,strong]")
    assert (strong.remedy.r1.gamma, strong.strength) == (25, None)
    for refused in (("strength=mild", "remedy=[r1]"), ("strength=weak",), ("remedy=[feature_matching,weak]",)):
        assert refusal(*refused).key == "strength"


# Options that only set keys of other groups.
PRESETS = {"n_critic": {"n_critic": 5}}


def test_every_file_is_a_remedy_or_a_preset():
    for name in REMEDIES:
        cfg = compose(f"remedy=[{name}]", "dataset=mnist", "model=mlp")
        preset = PRESETS.get(name, {})
        assert {key: OmegaConf.select(cfg, key) for key in preset} == preset, name
        assert (name in cfg.remedy) == (name not in PRESETS), name
