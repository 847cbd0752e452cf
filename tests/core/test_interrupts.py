"""How a process ends by a signal: in time, whatever its libraries do, and with nothing half-made left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from gan_lab.core import interrupts

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]

# A process that watches for signals, says so, and then does what the test wants.
START = """
import os, sys, time
from pathlib import Path
from gan_lab.core import interrupts
interrupts.GRACE_SECONDS = 0.3
interrupts.LAST_SECONDS = 0.3
interrupts.watch()


def sleep():
    print("ready", flush=True)
    time.sleep(60)


"""

SWALLOWED = """
while True:
    try:
        sleep()
    except BaseException:
        pass
"""
HANGING_CLEAN_UP = """
try:
    sleep()
finally:
    time.sleep(60)
"""
HALF_A_FILE = """
from gan_lab.core.io import atomic
with atomic(Path(sys.argv[1]) / "file.txt") as path:
    path.write_text("half")
    while True:
        try:
            sleep()
        except BaseException:
            pass
"""
# A module that raises something else in place of what a signal raises, as an extension module would abort.
IMPORTED = """
import __main__
try:
    __main__.sleep()
except BaseException:
    raise RuntimeError("aborted")
"""
IMPORTING = f"""
from gan_lab.core.io import atomic
(Path(sys.argv[1]) / "imported.py").write_text({IMPORTED!r})
sys.path.insert(0, sys.argv[1])
with atomic(Path(sys.argv[1]) / "file.txt") as path:
    path.write_text("half")
    import imported
"""


def _end(code: str, *numbers: int, folder: Path = Path()) -> tuple[int, str, float]:
    """Sends signals, 50 ms apart, to a process; its exit status, what it wrote to stderr, and seconds."""
    process = subprocess.Popen(
        [sys.executable, "-c", START + code, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if numbers:
        process.stdout.readline()
    started = time.monotonic()
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.05)
    _, stderr = process.communicate(timeout=30)
    return process.returncode, stderr, time.monotonic() - started


@pytest.mark.parametrize("number", SIGNALS)
def test_a_swallowed_signal_ends_the_process_all_the_same(number):
    status, stderr, seconds = _end(SWALLOWED, number, number)
    assert status == 128 + number
    assert len(stderr.splitlines()) == 1
    assert seconds < 10


def test_a_clean_up_that_hangs_is_not_waited_for():
    assert _end(HANGING_CLEAN_UP, signal.SIGTERM)[0] == 143


def test_what_is_half_written_is_removed_even_then(tmp_path):
    assert _end(HALF_A_FILE, signal.SIGTERM, folder=tmp_path)[0] == 143
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", SIGNALS)
def test_no_exception_is_raised_in_the_middle_of_an_import(tmp_path, number):
    status, stderr, _ = _end(IMPORTING, number, folder=tmp_path)
    assert status == 128 + number
    assert "aborted" not in stderr
    assert len(stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["imported.py"]


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        interrupts.watch()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        interrupts.forget()
        signal.signal(signal.SIGHUP, before)


def test_an_exception_that_took_the_signals_place_is_known():
    def fail() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:
            raise ImportError("numpy.core.multiarray failed to import") from None

    try:
        interrupts.watch()
        with pytest.raises(ImportError):
            fail()
        assert interrupts.is_ending()
        # Further ones don't disturb the clean-up.
        signal.raise_signal(signal.SIGINT)
        assert interrupts.exit_status() == 143
        assert interrupts.message() == "Interrupted by SIGTERM."
    finally:
        interrupts.forget()


def test_a_child_gets_no_signal_before_it_is_ready():
    code = f"""
with interrupts.blocked():
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), {int(signal.SIGINT)})
        time.sleep(0.1)
        interrupts.leave_to_parent()
        os._exit(7)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert _end(code)[:2] == (7, "")


def test_a_relayed_signal_arrives():
    status, stderr, _ = _end("interrupts.relay()\n" + SWALLOWED, signal.SIGTERM)
    assert (status, stderr) == (143, "Interrupted by SIGTERM.\n")


def test_what_is_ignored_is_not_relayed():
    """As under nohup, when the terminal is closed."""
    code = """
signal.signal(signal.SIGHUP, signal.SIG_IGN)
interrupts.watch()
interrupts.relay()
os.kill(os.getpid(), signal.SIGHUP)
time.sleep(0.9)
"""
    assert _end("import signal\n" + code)[:2] == (0, "")


def test_a_worker_ignores_what_its_parent_ignores():
    code = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
interrupts.leave_to_parent()
os.kill(os.getpid(), signal.SIGHUP)
os.kill(os.getpid(), signal.SIGINT)
os.kill(os.getpid(), signal.SIGTERM)
"""
    assert _end(code)[:2] == (-signal.SIGTERM, "")
