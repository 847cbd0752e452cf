"""What the tests with random arguments and files share: the commands' contract, the strategies, and damage.

Whatever comes from a user or a stranger ends in a run or in one message: never a traceback, a hang, a changed file, or
somebody else's code. The commands run in this process, to be quick.
"""

import contextlib
import hashlib
import io
import os
import pickle
import signal
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from conftest import TRACKERS, classifier_cache, command_main, compose
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from gan_lab.config.schema import leaves
from gan_lab.config.targets import CONF, groups

# How long a case may take.
SECONDS = 60
needs_alarm = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="cases are timed by SIGALRM")

TINY = [
    "steps=2",
    "batch_size=4",
    "latent_dim=2",
    "model.generator.hidden=[4]",
    "model.discriminator.hidden=[4]",
    "dataset=pattern1010",
    "dataset.samples=64",
    "logger=table",
    "callbacks.verdict.samples=50",
    "seed=1",
    "~callbacks.pictures",
    "~callbacks.curves",
    "~callbacks.progress",
    f"cache_dir={classifier_cache()}",
]
# Cases per fast test. `MORE` times as many of some kinds are slow.
CASES = {
    "values": 10,
    "arguments": 10,
    "targets": 7,
    "harmful": 6,
    "cut": 45,
    "flipped": 45,
    "foreign": 6,
    "config": 6,
    "overrides": 3,
    "remedies": 4,
    "records": 25,
    "cache": 4,
    "idx": 80,
}
MORE = {"values": 20, "arguments": 20, "targets": 10}


def cases(kind: str, times: int = 1) -> settings:
    """Returns hypothesis' settings for a test of this kind: the same cases each time, without a time limit."""
    quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(
        max_examples=times * CASES[kind],
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=quiet,
    )


# Commands.


class Hang(BaseException):
    """A case took longer than `SECONDS`."""


def _raise_hang(*_: object) -> None:
    raise Hang(f"more than {SECONDS} s")


class Outcome(NamedTuple):
    """What a command returned and printed."""

    status: int
    stdout: str
    stderr: str


def _main(script: str) -> Callable[[], None]:
    # A command leaves this variable behind; with it tracebacks are shown.
    os.environ.pop("HYDRA_FULL_ERROR", None)
    return command_main(script)


MAIN = {script: _main(script) for script in ("train.py", "scripts/evaluate.py")}


def digests(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file of a folder, except the lock of a run, which may come and go."""
    result = {}
    for path in folder.rglob("*"):
        if path.name == ".lock":
            continue
        name = str(path.relative_to(folder))
        if path.is_file():
            result[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            result[name] = "folder"
    return result


def launch(script: str, *arguments: str, cwd: Path) -> Outcome:
    """Runs a command as a user would and holds it to its contract, whatever the arguments."""
    before = digests(cwd)
    stdout = io.StringIO()
    stderr = io.StringIO()
    status = 0
    previous_argv = sys.argv
    previous_folder = os.getcwd()
    previous_handler = signal.signal(signal.SIGALRM, _raise_hang)
    sys.argv = [script, *arguments]
    os.chdir(cwd)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            MAIN[script]()
    except SystemExit as stop:
        status = stop.code or 0
    finally:
        signal.alarm(0)
        sys.argv = previous_argv
        os.chdir(previous_folder)
        signal.signal(signal.SIGALRM, previous_handler)
    message = stderr.getvalue()
    assert status in (0, 1, 2), (status, arguments)
    assert "Traceback" not in message
    assert not list(cwd.rglob("canary*")), f"{arguments} ran somebody else's code"
    if status:
        assert message.strip(), f"{arguments} are refused without a word"
    if status == 2:
        assert digests(cwd) == before, f"{arguments} are refused, but something is left or changed"
    return Outcome(status, stdout.getvalue(), message)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Gives a new folder to each case: pytest's would be the same for all cases of a test."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def train_in_new_folder(*overrides: str) -> None:
    """Runs train.py with a tiny training and these overrides in a new folder."""
    with temporary_folder() as cwd:
        launch("train.py", *TINY, *overrides, cwd=cwd)


# Arguments. Sizes are tiny or far out of bounds; what goes to other folders or starts a shell's completion is left out.

CFG = OmegaConf.to_container(compose(*TINY))
KEYS = sorted(key for key, _ in leaves(CFG, private=True))
NODES = sorted({key.rpartition(".")[0] for key in KEYS if "." in key})
LARGE = ("mnist", "digits", "gpu", "mps", *TRACKERS)


def _small_options() -> list[str]:
    options = []
    for group in sorted(groups()):
        for file in sorted((CONF / group).rglob("*.yaml")):
            option = f"{group}={file.stem}"
            if not any(word in option for word in LARGE):
                options.append(option)
    return options


OPTIONS = _small_options()
PLAIN = [
    "1",
    "2",
    "3",
    "8",
    "0",
    "-1",
    "0.5",
    "1.5",
    "1e-9",
    "-0.0",
    "1e308",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "null",
    "true",
    "False",
    "???",
    "''",
    '""',
    "[]",
    "{}",
    "[1,2]",
    "[8]",
    "[0.5,0.9]",
    "[[1]]",
    "{a:1}",
    "{a:{b:2}}",
    "{_target_:x}",
    "${seed}",
    "${oc.env:HOME}",
    "${oc.env:NO_SUCH}",
    "${nope}",
    "${steps}",
    "${.}",
    "${..steps}",
    "${steps",
    "${loss}",
    "${callbacks}",
    "${optim.lr}",
    "${oc.create:{a:1}}",
    "${oc.decode:3}",
    "${nope:3}",
    "${hydra:run.dir}",
    "${run_folder:1}",
    "é",
    "😀",
    "1_000",
    "0x10",
    "12345678901234567890",
    "1,2",
    "range(1,3)",
    "choice(1,2)",
    "glob(*)",
    "a=b",
    "a:b",
    "[",
    "]",
    "{",
    "}",
    "\\",
    "\\'",
    "'",
    "@",
    "#",
    "%",
    "&",
    "*",
    "~",
    "=",
    ",",
    ":",
]
# Without Hydra's own switches, which come one by one, below.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/."), max_size=12).filter(
    lambda text: not text.startswith("-")
)
VALUES = st.one_of(
    st.sampled_from(PLAIN),
    st.integers(10**12, 10**30).map(str),
    st.integers(-(10**20), 3).map(str),
    st.floats().map(str),
    TEXT,
)
SETTINGS = st.builds("{}={}".format, st.one_of(st.sampled_from(KEYS), st.sampled_from(NODES)), VALUES)
SWITCHES = [
    "--nope",
    "-x",
    "--steps=3",
    "--config-name=nope",
    "--config-dir=nowhere",
    "--cfg=job",
    "--info=x",
    "--hydra-help",
    "--package=a",
    "hydra.verbose=x",
    "hydra/launcher=nope",
    "hydra.run.dir=",
    "hydra=3",
    "hydra.job=null",
]
ARGUMENTS = st.one_of(
    st.sampled_from(OPTIONS),
    st.builds("{}={}".format, st.sampled_from(sorted(groups())), VALUES),
    st.builds(
        "{}{}={}".format, st.sampled_from(["+", "++", "~"]), st.one_of(st.sampled_from(KEYS + NODES), TEXT), VALUES
    ),
    st.builds("~{}".format, st.sampled_from(KEYS + NODES + sorted(groups()))),
    st.builds(
        "+{}.{}={}".format,
        st.sampled_from(NODES),
        st.sampled_from(["foo", "_partial_", "_recursive_", "_convert_", "_args_", "0", ""]),
        VALUES,
    ),
    st.builds("{}={}".format, TEXT, VALUES),
    st.sampled_from(SWITCHES),
    TEXT,
)


# Damaged and hostile files.

BITS = st.lists(st.integers(0, 2**40), min_size=1, max_size=4)


def flip(content: bytes, bits: list[int]) -> bytes:
    """Flips bits, which are counted modulo the length of the content."""
    changed = bytearray(content)
    for bit in bits:
        changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    return bytes(changed)


class Bomb:
    """Leaves a canary where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("canary",)


def zipped(**members: bytes) -> bytes:
    """Returns a zip archive; `data_pkl=…` becomes archive/data.pkl, as in a file of `torch.save`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"archive/{name.replace('_', '.')}", content)
    return buffer.getvalue()


def saved(content: object) -> bytes:
    """Returns what `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


BOMBS = [
    pickle.dumps(Bomb()),
    zipped(data_pkl=pickle.dumps(Bomb()), version=b"3", byteorder=b"little"),
    saved(Bomb()),
    saved({"gan_lab": {"step": 2}, "state_dict": Bomb()}),
]
