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
