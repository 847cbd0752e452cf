"""A key is declared in one place, from which checks, resuming, comparisons and --help follow; so is a remedy."""

import shutil
import sys

import pytest
from conftest import compose, refusal, training

from gan_lab.comparison.factors import factors
from gan_lab.config import help as help_module
from gan_lab.config import schema
from gan_lab.config.help import help_text
from gan_lab.config.schema import Key, is_hyperparameter, is_resumable, scope_of
from gan_lab.config.targets import CONF
from gan_lab.config.types import ValueSpec


def declare(monkeypatch, key):
    """Adds a declaration to the schema, as a line in `gan_lab.config.schema` would."""
    monkeypatch.setattr(schema, "KEYS", (*schema.KEYS, key))
    schema.top_level_names.cache_clear()


@pytest.fixture(autouse=True)
def forget():
    yield
    schema.top_level_names.cache_clear()


CASES = {
    "of the experiment": (Key("warmth", ValueSpec(int, low=1), "how warm it is"), False, True, True),
    "of the machine": (Key("warmth", ValueSpec(int, low=1), "how warm it is", "machine", True), True, False, False),
    "a repetition": (Key("warmth", ValueSpec(int, low=1), "how warm it is", "repetition"), False, False, True),
}


@pytest.mark.parametrize("case", CASES)
def test_a_key_is_declared_in_one_place(monkeypatch, tmp_path, case):
    key, resumable, factor, hyperparameter = CASES[case]
    assert refusal("+warmth=2").code == "unknown"
    declare(monkeypatch, key)
    assert compose("+warmth=3").warmth == 3
    error = refusal("+warmth=0")
    assert (error.code, error.key) == ("invalid", "warmth")
    assert is_resumable("warmth") == resumable
    assert is_hyperparameter("warmth") == hyperparameter
    runs = [{"warmth": 1, "steps": 5}, {"warmth": 2, "steps": 5}]
    assert [found.name for found in factors(runs)] == (["warmth"] if factor else [])
    shutil.copytree(CONF, tmp_path / "conf")
    with (tmp_path / "conf" / "train.yaml").open("a", encoding="utf-8") as file:
        file.write("\nwarmth: 7\n")
    monkeypatch.setattr(help_module, "CONF", tmp_path / "conf")
    lines = [line for line in help_text("train").splitlines() if line.startswith("  warmth=")]
    assert [" ".join(line.split()) for line in lines] == ["warmth=7 how warm it is [≥ 1]"]


def test_each_key_belongs_to_what_its_group_or_its_declaration_says():
    expected = {
        "steps": "experiment",
        "loss._target_": "experiment",
        "optim.lr": "experiment",
        "remedy.r1.gamma": "experiment",
        "dataset.path": "place",
        "seed": "repetition",
        "replicas": "repetition",
        "devices": "machine",
        "compile": "machine",
        "trainer.precision": "machine",
        "optim_d.fused": "machine",
        "threads": "place",
        "name": "place",
        "dataset.data_dir": "place",
        "dataset.memory": "place",
        "data.path": "place",
        "log_every": "record",
        "callbacks.verdict.every": "record",
        "callbacks.mine.anything": "record",
        "metrics.radius._target_": "record",
        "activation._partial_": "record",
    }
    assert {key: scope_of(key) for key in expected} == expected


def test_what_may_change_when_a_run_is_resumed():
    keys = ("steps", "threads", "devices", "num_nodes", "workers", "compile", "objective", "preflight", "data_dir")
    for key in (*keys, "data.path", "dataset.memory", "cache_dir", "metrics", "metrics.radius._target_"):
        assert is_resumable(key), key
    for key in (
        "seed",
        "optim.lr",
        "loss._target_",
        "trainer.devices",
        "features",
        "log_every",
        "mine",
    ):
        assert not is_resumable(key), key


MODULE = """
from gan_lab.core.declare import declares
from gan_lab.gan.remedies.penalties import Penalty


@declares(
    per_sample=True,
    conflicts={"R1": ("both are penalties at real samples", "Leave one of them out.")},
    settings={"strength": {"type": "float", "low": 0, "high": 5, "help": "how strong it is"}},
)
class Drift(Penalty):
    def __init__(self, strength: float = 1.0):
        self.strength = strength

    def __call__(self, discriminator, real, fake, rng):
        return self.strength * real.scores.square()
"""


def test_a_remedy_is_declared_in_its_own_file(monkeypatch, tmp_path):
    (tmp_path / "declared_drift.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    drift = ["trust=[declared_drift]", "+remedy.drift={_target_: declared_drift.Drift}"]
    error = refusal(*drift, "+remedy.drift.strength=6")
    assert (error.code, error.key) == ("invalid", "remedy.drift.strength")
    assert "remedy.drift.strength has to be a number ≥ 0 and ≤ 5" in str(error)
    error = refusal(*drift, "remedy=[r1]")
    assert (error.code, error.key) == ("conflict", "remedy.drift")
    assert "can't be combined with remedy=[r1]: both are penalties at real samples" in str(error)
    compose(*drift, "trainer=ddp", "devices=2")
    assert "declared_drift" not in sys.modules, "all of that is known without importing it"
    made, _ = training(tmp_path / "run", *drift, "+remedy.drift.strength=2", "logger=table", "steps=1")
    assert made.module.remedies.penalties[0].strength == 2
    sys.modules.pop("declared_drift")


def test_a_remedy_that_declares_nothing_is_unrestricted_but_for_several_processes(monkeypatch, tmp_path):
    (tmp_path / "undeclared_drift.py").write_text("class Drift:\n    pass\n")
    monkeypatch.chdir(tmp_path)
    drift = ["trust=[undeclared_drift]", "+remedy.drift={_target_: undeclared_drift.Drift, decay: 7}"]
    compose(*drift, "remedy=[r1]")
    error = refusal(*drift, "trainer=ddp", "devices=2")
    assert (error.code, error.key) == ("conflict", "remedy.drift")
    assert "declares per_sample=True" in str(error)


def test_a_new_command_has_help_from_its_file_only(monkeypatch, tmp_path):
    """Without comments about results and examples there are no such sections."""
    shutil.copytree(CONF, tmp_path / "conf")
    monkeypatch.setattr(help_module, "CONF", tmp_path / "conf")
    path = tmp_path / "conf" / "anneal.yaml"
    path.write_text("# python scripts/anneal.py run=<run>: cools a run\ndefaults: [_self_]\nsteps: 7\n")
    text = help_text("anneal")
    assert text.startswith("usage: python scripts/anneal.py run=<run> [key=value …]\n\nCools a run.\n")
    assert "\n  steps=7 " in text
    assert "Writes:" not in text
    assert "Examples:" not in text
    comments = "# Writes: anneal.csv.\n# Example: python scripts/anneal.py run=a  # one\n"
    path.write_text(f"# python scripts/anneal.py: cools a run\n{comments}defaults: [_self_]\n")
    text = help_text("anneal")
    assert "\n\nWrites:\n  anneal.csv.\n\n" in text
    assert "\n\nExamples:\n  python scripts/anneal.py run=a  # one\n\n" in text


def test_help_says_what_a_part_cannot_be_combined_with():
    """As it is chosen: a situation by its settings, another part by its option."""
    text = " ".join(help_text("train").split())
    assert "not with latent=constant; batch_size=1 " in text
    assert "not with remedy=[top_k]; remedy=[unrolled] " in text
    assert "not with conditional=true " in text


def test_help_lists_the_settings_of_one_network_that_follow_those_of_both():
    """Nothing that only repeats a key of the top: `dataset.data_dir` is `data_dir`."""
    text = help_text("train")
    for setting in ("model.generator.depth", "model.discriminator.depth", "model.generator.width"):
        assert f"      {setting}=${{model." in text, setting
    assert "dataset.data_dir" not in text
    assert "remedy.decay.steps" not in text
