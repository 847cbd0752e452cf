"""What the page offers is what conf/ has, and a choice is a command line of train.py."""

import shlex

import pytest
from conftest import compose, refused

from gan_lab.config.targets import CONF
from gan_lab.core.command_line import quote
from gan_lab.studio.choices import FIELDS, OFFERED, arguments_of, command_line, default_of, offers, variant_of


def test_the_offers_are_the_options_in_conf():
    found = offers()
    assert tuple(found) == OFFERED
    for name, offer in found.items():
        files = {path.relative_to(CONF / name).with_suffix("").as_posix() for path in (CONF / name).rglob("*.yaml")}
        assert offer.options.keys() == files
        assert offer.default in (*files, "")
        assert all(offer.options.values()), "each says what it is"


def test_a_choice_is_what_the_command_line_says():
    choice = {"dataset": "ring", "loss": None, "remedy": ["r1", "weak"], "norm": "", "optim": "adam", "seed": 0}
    arguments = arguments_of(choice, "optim.lr=0.01 latent_dim=2")
    assert arguments == ["dataset=ring", "optim=adam", "remedy=[r1,weak]", "seed=0", "optim.lr=0.01", "latent_dim=2"]
    line = command_line(arguments)
    assert shlex.split(line) == ["python", "train.py", *arguments]
    cfg = compose(*arguments)
    assert (cfg.dataset._target_, cfg.optim.lr, list(cfg.remedy)) == ("gan_lab.data.synthetic.ring", 0.01, ["r1"])


def test_nothing_chosen_is_the_default():
    assert arguments_of({"remedy": [], "dataset": None}) == []
    assert {name: default_of(name) for name in FIELDS} == {"steps": 15000, "seed": 0, "replicas": 1}


def test_a_second_variant_replaces_settings():
    first = ["dataset=ring", "loss=bce", "remedy=[r1]"]
    assert variant_of(first, ["remedy=[]", "loss=mse"]) == ["dataset=ring", "remedy=[]", "loss=mse"]


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ("trust=[mine]", "trust"),
        ("+trust=[mine]", "trust"),
        ("hydra.run.dir=/tmp/x", "hydra"),
        ("hydra/launcher=ray", "hydra"),
        ("resume=outputs/x", "resume"),
        ("-m", "-m"),
        ("--config-dir=/tmp", "--config-dir"),
    ],
)
def test_the_page_refuses_code_and_other_folders(more, key):
    with refused("unsupported", key):
        arguments_of({}, more)


def test_an_open_quote_is_refused_in_words():
    with refused("invalid"):
        arguments_of({}, "name='x")
    assert arguments_of({}, f"name={quote('a b')}") == ["name=a b"]
