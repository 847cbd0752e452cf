"""Code that was just compiled gives the same bits as code from numba's cache."""

import pytest
from conftest import command

SETTINGS = ("dataset=ring", "steps=60", "log_every=20", "logger=table", "~callbacks.verdict", "~callbacks.pictures")


@pytest.mark.slow
def test_the_first_run_of_a_machine_equals_the_next(tmp_path):
    results = []
    for name in ("first", "next"):
        folder = tmp_path / name
        arguments = ("train.py", *SETTINGS, f"hydra.run.dir={folder}")
        completed = command(*arguments, cwd=tmp_path, timeout=600, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
        assert completed.returncode == 0, completed.stderr
        assert ("Compiling the step" in completed.stderr) == (name == "first")
        results.append((folder / "metrics.csv").read_bytes())
    assert results[0] == results[1]
