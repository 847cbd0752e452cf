"""The measurements of start-up and memory."""

import pytest
from conftest import classifier_cache

from gan_lab.benchmark.startup import measure_memory, measure_startup

MACHINE = (f"cache_dir={classifier_cache()}", "logger=table")


@pytest.mark.slow
def test_seconds_are_measured_and_the_first_step_is_compared_with_the_imports():
    seconds = measure_startup(rounds=1, overrides=("dataset=ring", *MACHINE))
    assert seconds.keys() == {"typo", "imports", "first_step", "beyond"}
    assert all(seconds[name] > 0 for name in ("typo", "imports", "first_step"))
    assert seconds["beyond"] == pytest.approx(seconds["first_step"] - seconds["imports"])


@pytest.mark.slow
def test_digits_need_at_most_100_mib_more_than_torch_and_lightning():
    memory = measure_memory(("steps=200", f"cache_dir={classifier_cache()}"))
    assert memory["training"] - memory["imports"] == pytest.approx(memory["beyond"])
    assert 0 < memory["beyond"] <= 100
