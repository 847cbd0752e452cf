"""YAML files of a user: what Hydra would take for nothing is refused by file and line; what is harmless works."""

import pytest
from conftest import command_here, refused

from gan_lab.config.config_files import ConfigFiles
from gan_lab.config.targets import CONF

HEADER = "# @package _global_\n"


def load(folder, option, content):
    """Returns what Hydra gets from a file with this content, and its package."""
    path = folder / f"{option}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = ConfigFiles("test", str(folder)).load_config(option)
    return result.config, result.header["package"]


@pytest.mark.parametrize(
    "content",
    [
        f"{HEADER}steps: 7\n",
        f"{HEADER}steps: 7\n".replace("\n", "\r\n"),
        f"\ufeff{HEADER}steps: 7\n",
        f"\ufeff{HEADER}steps: 7\n".replace("\n", "\r\n"),
        "#@package _global_\nsteps: 7",
        "\n\n  #  @package   _global_  \n# Ours\nsteps: 7\n",
        f"{HEADER}# needs the package torchvision, see @kim's package\n# @author kim\nsteps: 7  # 단계\n",
        f"{HEADER}# {'licence ' * 200}\nsteps: 7\n",
    ],
)
def test_a_harmless_file_is_read(tmp_path, content):
    assert load(tmp_path, "experiment/mine", content) == ({"steps": 7}, "_global_")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("steps: 7\n", 1),
        ("# steps\nsteps: 7\n", 1),
        ("# @package: _global_\nsteps: 7\n", 1),
        ("# @package=_global_\nsteps: 7\n", 1),
        ("# @package_global_\nsteps: 7\n", 1),
        ("# @Package _global_\nsteps: 7\n", 1),
        ("# @pakage _global_\nsteps: 7\n", 1),
        ("# @packages _global_\nsteps: 7\n", 1),
        ("## @ package _global_\nsteps: 7\n", 1),
        ("# package _global_\nsteps: 7\n", 1),
        ("# @package\nsteps: 7\n", 1),
        ("# @package _global_  # everything\nsteps: 7\n", 1),
        ("# @package _globl_\nsteps: 7\n", 1),
        ("# @package experiment\nsteps: 7\n", 1),
        ("# My experiment\n# @package _global_\nsteps: 7\n", 2),
        ("steps: 7\n# @package _global_\n", 2),
        ("", 1),
        ("# nothing\n\n", 1),
        (HEADER, 1),
        (f"{HEADER}steps\n", 1),
        (f"{HEADER}- steps\n", 1),
        (f"{HEADER}\tsteps: 7\n", 2),
        (f"{HEADER}optim:\n\tlr: 1\n", 3),
        (f"{HEADER}steps: 7\nseed: 1\nsteps: 8\n", 4),
        (f"{HEADER}optim:\n  lr: 1\n  lr: 2\n", 4),
        (f"{HEADER}steps: [7\n", 3),
        (f"{HEADER}steps: 7\n seed: 1\n", 3),
        (f"{HEADER}steps: 7\n".encode("utf-16"), 1),
        (f"{HEADER}steps: 7\n".encode("utf-16-be"), 1),
        (f"{HEADER}steps: 7\n".encode("utf-32"), 1),
        (f"{HEADER}steps: 7\n# 한국어\n".encode("cp949"), 3),
        (f"{HEADER}# café\nsteps: 7\n".encode("latin-1"), 2),
        (f"{HEADER}steps: 7\x07\n", 1),
    ],
)
def test_a_file_without_effect_is_refused_by_its_line(tmp_path, content, line):
    with refused("invalid", "mine.yaml") as error:
        load(tmp_path, "experiment/mine", content)
    assert f"mine.yaml, line {line}: " in str(error.value)


@pytest.mark.parametrize("option", ["experiment/ours/mine", "debug/mine", "remedy/mine", "metrics/mine"])
def test_in_these_groups_a_file_needs_a_header(tmp_path, option):
    with refused("invalid", "mine.yaml"):
        load(tmp_path, option, "steps: 7\n")


def test_in_others_it_needs_none(tmp_path):
    assert load(tmp_path, "loss/mine", "_target_: mine.Loss\n") == ({"_target_": "mine.Loss"}, None)
    assert load(tmp_path, "mine", "steps: 7\n") == ({"steps": 7}, None)
    assert load(tmp_path, "experiment/mine", "defaults:\n- override /loss: mse\n")[1] is None
    assert load(tmp_path, "experiment/fast", "# @package optim\nlr: 1\n") == ({"lr": 1}, "optim")


def test_every_file_of_conf_is_good():
    for file in CONF.rglob("*.yaml"):
        ConfigFiles("test", str(CONF)).load_config(file.relative_to(CONF).with_suffix("").as_posix())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("steps: 7\n", "mine.yaml, line 1: 'steps' would have no effect."),
        (f"{HEADER}remedy: {{r1: {{gamma: 7}}}}\n", "remedy=[r1]"),
        (f"{HEADER}callbacks: {{verdikt: {{samples: 7}}}}\n", "callbacks.verdikt"),
        (f"{HEADER}stepz: 7\n", "stepz"),
        (f"{HEADER}optim: {{lrr: 7}}\n", "lrr"),
        (f"{HEADER}steps: 7\n".encode("utf-16"), "Save it as UTF-8."),
    ],
)
def test_an_experiment_without_effect_is_not_trained(tmp_path, content, message):
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    done = command_here("train.py", "--config-dir", "conf", "experiment=mine", cwd=tmp_path)
    assert done.returncode == 2, done
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()
