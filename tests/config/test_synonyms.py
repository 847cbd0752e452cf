"""Names that people type get the advice that mends them."""

import re

import pytest
from conftest import PARTNERS, compose, groups

from gan_lab.config.arguments import options_of
from gan_lab.config.synonyms import KEYS, OPTIONS, advice

SETTING = re.compile(r"[a-z_.]+=[^\s,<]+(?:,[\d.]+\])?")
TEXTS = sorted({*KEYS.values(), *OPTIONS.values()})


@pytest.mark.parametrize("text", TEXTS)
def test_advice_can_be_followed(text):
    settings = [setting.rstrip(".,:") for setting in SETTING.findall(text) if "resume=" not in setting]
    settings = [setting for setting in settings if not setting.startswith("name=")]
    needed = [partner for setting in settings for partner in PARTNERS.get(setting.partition("=")[2], ())]
    compose(*settings, *needed)


def test_no_real_name_is_taken_for_a_mistake():
    assert not set(KEYS) & {*map(str, compose()), *groups()}
    for name in OPTIONS:
        group, _, option = name.partition("=")
        assert option not in options_of(group)


def test_case_does_not_matter():
    assert advice("EPOCHS") == advice("epochs") != ""
    assert advice("loss=WGAN") == "Say loss=wasserstein."
    assert advice("nothing of the kind") == ""
