"""The command line before Hydra sees it."""

import pytest
from conftest import refused
from hydra.core.override_parser.overrides_parser import OverridesParser

from gan_lab.config.arguments import flags_first, quote_texts, refuse_arguments

NAMES = (
    "사진.zip",
    "photos (1).zip",
    "a=b.h5",
    "données.h5",
    "50% off!.zip",
    "猫/犬.tar",
    "#1.zip",
    "[brackets].zip"[1:],
)
KEYS = ("source", "data.path", "resume", "runs", "name", "labels", "hydra.run.dir", "++data.path", "+column")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", NAMES)
def test_a_text_that_hydra_cannot_read_is_taken_as_it_stands(key, name):
    (argument,) = quote_texts([f"{key}={name}"])
    assert OverridesParser.create().parse_override(argument).value() == name


@pytest.mark.parametrize(
    "argument",
    [
        "source=a.zip",
        "runs=[a,b]",
        "seed=1,2",
        "name=a b",
        'source="a, b"',
        "steps=사진",
        "optim.lr=사진",
        "remedy=[사진]",
        "name='a",
        "runs=[사진]",
        "--config-dir=사진",
        "-m",
        "data.path=${name}",
        "source=a,b",
    ],
)
def test_everything_else_is_left_to_hydra(argument):
    assert quote_texts([argument]) == [argument]


def test_flags_may_stand_anywhere():
    arguments = ["loss=mse", "-m", "seed=0,1", "--config-dir", "mine", "--cfg=job", "steps=3"]
    expected = ["-m", "--config-dir", "mine", "--cfg=job", "loss=mse", "seed=0,1", "steps=3"]
    assert flags_first(arguments) == expected


def test_two_things_to_do_are_refused():
    with refused("conflict"):
        refuse_arguments(["-m", "--cfg=job", "seed=0,1"])
    refuse_arguments(["--cfg", "job", "--config-dir", "-m.d"])


@pytest.mark.parametrize(
    "argument", ["loss=[mse,bce]", "optim_d=[sgd,adam]", "+dataset=[ring,grid]", "trainer=[cpu,gpu]"]
)
def test_several_options_where_one_counts_are_refused(argument):
    with refused("conflict", argument.lstrip("+").partition("=")[0]):
        refuse_arguments([argument])


def test_several_options_where_all_count_are_taken():
    refuse_arguments(
        ["remedy=[r1,ema]", "callbacks=[default,mine]", "experiment=[mine,ours]", "loss=[mse]", "loss=mse,bce"]
    )


@pytest.mark.parametrize(
    "argument",
    ["resume=", "hydra.run.dir=", "++data.path=", "source=''", 'target=""', "hydra.sweep.dir= ", "runs=", "data_dir="],
)
def test_an_empty_path_is_refused(argument):
    """As of an empty variable of the shell: it would be the working directory, or a new training."""
    with refused("invalid", argument.lstrip("+").partition("=")[0]):
        refuse_arguments([argument])
