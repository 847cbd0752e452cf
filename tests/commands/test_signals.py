"""Signals to commands at any moment: exit status, one line, nothing half-made."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, classifier_cache, command_here
from PIL import Image

from gan_lab.core import interrupts

SMALL = ("dataset=ring", "model.generator.hidden=[4]", "model.discriminator.hidden=[4]", "logger=table")
SMALL += (f"cache_dir={classifier_cache()}", "steps=1000000")
# The first ones are in the imports; a fast machine trains after the last ones.
MOMENTS = (0.15, 0.3, 0.6, 1, 1.5, 2, 3, 4, 6)


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(300):
        Image.fromarray(np.full((64, 64, 3), number % 256, dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def _signalled(script: str, *arguments: str, cwd: Path, moment: float, numbers: tuple[int, ...], group: bool = False):
    """Starts a command, and sends signals to it, 50 ms apart, or to its whole group as a terminal does."""
    cwd.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(moment)
    for number in numbers:
        if process.poll() is None:
            (os.killpg if group else os.kill)(process.pid, number)
        time.sleep(0.05)
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


def _assert_ended(ended, cwd: Path, number: int) -> None:
    status, stdout, stderr = ended
    # Before the first line of Python's own the system ends it.
    assert status in (128 + number, -number), (stdout, stderr)
    assert "Traceback" not in stderr
    assert not list(cwd.rglob(".half.*"))
    runs = {path.parent for path in cwd.rglob("config.yaml") if path.parent.name != ".hydra"}
    for run in runs:
        assert (run / "summary.json").is_file(), "a run that began has said how it ended"
    if not runs:
        assert len(stderr.splitlines()) <= 1, stderr
        assert not list(cwd.rglob("*")), "nothing is left"


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [(signal.SIGINT,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM,) * 2])
def test_a_training_at_any_moment(tmp_path, numbers):
    for number, moment in enumerate(MOMENTS):
        cwd = tmp_path / str(number)
        ended = _signalled("train.py", "preflight=true", *SMALL, cwd=cwd, moment=moment, numbers=numbers)
        _assert_ended(ended, cwd, numbers[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("scripts/check.py", SMALL),
        ("scripts/evaluate.py", ("run=nowhere", "samples=100")),
        ("scripts/compare.py", ("runs=nowhere",)),
        ("scripts/backquery.py", ("label=3", "dataset=digits", "cache_dir=cache")),
    ],
)
def test_other_commands_at_any_moment(tmp_path, script, arguments):
    for number, moment in enumerate((0.15, 0.4, 1)):
        cwd = tmp_path / str(number)
        status, _, stderr = _signalled(script, *arguments, cwd=cwd, moment=moment, numbers=(signal.SIGTERM,))
        if "nowhere" not in stderr:  # it had ended before
            _assert_ended((status, "", stderr), cwd, signal.SIGTERM)


@pytest.mark.slow
def test_packing_with_workers(tmp_path, images):
    for number, moment in enumerate((0.5, 1, 1.5, 2, 2.5)):
        cwd = tmp_path / str(number)
        arguments = (f"source={images}", "target=new/file.h5", "size=512", "workers=4")
        ended = _signalled(
            "scripts/pack.py", *arguments, cwd=cwd, moment=moment, numbers=(signal.SIGINT,) * 2, group=True
        )
        if ended[0]:
            _assert_ended(ended, cwd, signal.SIGINT)


@pytest.mark.slow
def test_a_sweep_with_workers_prints_no_traceback(tmp_path):
    for number, moment in enumerate((1, 2, 3, 4, 5)):
        cwd = tmp_path / str(number)
        arguments = ("-m", "seed=0,1", "hydra/launcher=local", *SMALL)
        ended = _signalled("train.py", *arguments, cwd=cwd, moment=moment, numbers=(signal.SIGINT,), group=True)
        assert ended[0] in (130, -2), ended
        assert "Traceback" not in ended[2]
        assert ended[2].splitlines()[-1] == "Interrupted."


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("place", ["gan_lab.config.resume.check", "gan_lab.assembly.build.build_data_and_gan"])
def test_a_run_that_never_began_is_discarded(tmp_path, monkeypatch, number, place):
    monkeypatch.setattr(place, lambda *_: signal.raise_signal(number))
    done = command_here("train.py", *SMALL, cwd=tmp_path)
    assert done.returncode == 128 + number
    name = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    assert done.stderr == f"Interrupted{name}.\n"
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_a_library_turned_into_an_error_is_none(tmp_path, monkeypatch):
    def fail(*_):
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:
            raise ImportError("numpy.core.multiarray failed to import") from None

    monkeypatch.setattr("gan_lab.config.resume.check", fail)
    done = command_here("train.py", *SMALL, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (143, "Interrupted by SIGTERM.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_hydra_has_made_goes_too(tmp_path, monkeypatch):
    monkeypatch.setattr("gan_lab.config.hydra_app._Job.__call__", lambda *_: signal.raise_signal(signal.SIGTERM))
    done = command_here("train.py", *SMALL, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (143, "Interrupted by SIGTERM.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_never_began_is_discarded(tmp_path, monkeypatch):
    monkeypatch.setattr("gan_lab.config.sweep.run_job", lambda *_: signal.raise_signal(signal.SIGTERM))
    done = command_here("train.py", "-m", "seed=0,1", *SMALL, cwd=tmp_path)
    assert done.returncode == 143
    assert done.stderr == "Interrupted by SIGTERM.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_signal_between_the_build_and_the_first_step_lets_the_run_end_in_good_order(tmp_path, monkeypatch):
    monkeypatch.setattr("gan_lab.training.ddp.ProcessGroup.start", lambda *_: signal.raise_signal(signal.SIGTERM))
    done = command_here("train.py", "~callbacks.verdict", *SMALL, cwd=tmp_path)
    assert done.returncode == 143, done.stderr
    assert "Stopping after this step" in done.stderr
    assert "resume with" in done.stdout
    assert len(list(tmp_path.glob("outputs/*/*/checkpoints/last.ckpt"))) == 1


def test_commands_import_nothing_heavy_before_they_watch_for_signals():
    heavy = {"hydra", "omegaconf", "torch", "numpy", "yaml", "filelock", "traceback"}
    scripts = [ROOT / "train.py", *sorted((ROOT / "scripts").glob("*.py"))]
    probe = "import runpy, sys; [runpy.run_path(path) for path in sys.argv[1:]]; print(sorted(set(sys.modules)))"
    arguments = [sys.executable, "-S", "-c", probe, *map(str, scripts)]
    done = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert not heavy & set(eval(done.stdout))


def test_ending_takes_a_bounded_time():
    assert interrupts.GRACE_SECONDS + 2 * interrupts.LAST_SECONDS < 10
