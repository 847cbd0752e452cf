"""Printing where it can't work as usual: other encodings, closed files, a full disk, a pipe that has ended."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from gan_lab.core.terminal import open_log, say

CODE = """
import os, sys, warnings
from gan_lab.core.terminal import escape_tracebacks, prepare_streams, say
prepare_streams()
escape_tracebacks()
from tqdm import tqdm
for _ in range(3):
    say("3σ → 한국 – é")
    print("3σ → 한국", "\\udc80", flush=True)
    say("3σ → 한국 – é", stderr=True)
    warnings.warn("σ", stacklevel=1)
for _ in tqdm(range(3), desc="σ", disable=False):
    pass
os.system("echo from another process")
for descriptor in range(3):
    os.fstat(descriptor)
with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.write("went on")
"""

PYTHON = f'"{sys.executable}" code.py went_on'


def _shell(command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    (cwd / "code.py").write_text(CODE, encoding="utf-8")
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(["bash", "-c", command], cwd=cwd, env=variables, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        (PYTHON, {"PYTHONIOENCODING": "cp1252"}),
        (PYTHON, {"PYTHONIOENCODING": "ascii:strict"}),
        (PYTHON, {"PYTHONIOENCODING": "cp949:strict", "PYTHONUNBUFFERED": "1"}),
        (PYTHON, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}),
        (PYTHON, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "POSIX", "PYTHONUNBUFFERED": "1"}),
        (f"{PYTHON} >&-", {}),
        (f"{PYTHON} 2>&-", {}),
        (f"{PYTHON} <&- >&- 2>&-", {}),
        (f"{PYTHON} > /dev/full", {}),
        (f"{PYTHON} > /dev/full 2> /dev/full", {}),
        (f"set -o pipefail; {PYTHON} | true", {}),
        (f"set -o pipefail; {PYTHON} 2>&1 | head -n 1", {"PYTHONUNBUFFERED": "1"}),
    ],
)
def test_what_cant_be_printed_stops_nothing(command, environment, tmp_path):
    done = _shell(command, tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "went_on").read_text() == "went on"
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


def test_other_characters_are_escaped_not_lost(tmp_path):
    done = _shell(PYTHON, tmp_path, PYTHONIOENCODING="cp1252")
    assert done.stdout.splitlines()[0] == "3\\u03c3 \\u2192 \\ud55c\\uad6d – é".encode("cp1252")


def test_a_log_takes_any_text_and_survives_a_full_disk(tmp_path):
    with open_log(tmp_path / "log.txt") as log:
        print("한국 \udc80", file=log)
    with open_log(tmp_path / "log.txt") as log:
        print("more", file=log)
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == "한국 \\udc80\nmore\n"
    if Path("/dev/full").exists():
        with open_log(Path("/dev/full")) as log:
            print("lost", file=log, flush=True)
            print("lost", file=log, flush=True)


def test_a_signal_in_the_middle_of_printing_stops_nothing(monkeypatch):
    class Interrupted(io.RawIOBase):
        """A terminal that is slow: meanwhile a signal comes, whose handler prints, too."""

        content = b""

        def writable(self) -> bool:
            return True

        def write(self, data) -> int:
            say("of the handler", stderr=True)
            self.content += bytes(data)
            return len(data)

    raw = Interrupted()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True))
    say("first", stderr=True)
    say("second", stderr=True)
    assert raw.content == b"first\nsecond\n"
