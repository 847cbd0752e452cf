"""What the benchmark of start-up and memory measures is what it says."""

import pytest
from conftest import classifier_cache

from gan_lab.benchmark.startup import measure_memory, measure_startup

HERE = (f"cache_dir={classifier_cache()}", "logger=table")


@pytest.mark.slow
def test_seconds_are_told_for_each_and_the_first_step_needs_the_imports():
    taken = measure_startup(rounds=1, overrides=("dataset=ring", *HERE))
    assert taken.keys() == {"typo", "imports", "first_step", "beyond"}
    assert all(taken[name] > 0 for name in ("typo", "imports", "first_step"))
    assert taken["beyond"] == pytest.approx(taken["first_step"] - taken["imports"])


@pytest.mark.slow
def test_digits_train_in_150_mib_beside_torch_and_lightning():
    used = measure_memory(("steps=200", f"cache_dir={classifier_cache()}"))
    assert used["training"] - used["imports"] == pytest.approx(used["beyond"])
    assert 0 < used["beyond"] <= 150
