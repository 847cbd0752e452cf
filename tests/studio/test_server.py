"""The live page as a process: its command line, trainings in processes of their own, and how all of it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT, classifier_cache, command_here

from gan_lab.core.errors import LabError
from gan_lab.studio.trainings import LiveTraining, Trainings

SMALL = ["dataset=ring", "model.generator.hidden=[4]", "model.discriminator.hidden=[4]", "logger=table"]
SMALL += [f"cache_dir={classifier_cache()}", "callbacks.verdict.samples=200"]
SECONDS = 120.0  # for what takes one or two on a machine without other work


def wait_for(condition, seconds: float = SECONDS) -> None:
    """Waits until something is true; fails if it never is."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def free_port() -> int:
    """Returns a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_server(cwd: Path, port: int) -> subprocess.Popen[str]:
    """Starts scripts/studio.py, and waits until it answers."""
    # NiceGUI takes a process with this variable for a test of its own.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "studio.py"), "open=false", f"port={port}"],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    wait_for(lambda: _answers(port) or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return process


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/compare", timeout=5):
            return True
    except OSError:
        return False


def test_without_the_extra_it_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = command_here("scripts/studio.py", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == (
        'The live page needs NiceGUI, which isn\'t installed.\nIt comes with: pip install -e ".[studio]"\n'
    )
    assert not list(tmp_path.iterdir())


def test_help_is_that_of_every_command(tmp_path):
    result = command_here("scripts/studio.py", "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert "port=8230" in result.stdout


@pytest.mark.parametrize("argument", ["host=0.0.0.0", "port=0", "open=perhaps", "trust=[os]"])
def test_other_settings_are_refused(tmp_path, argument):
    result = command_here("scripts/studio.py", argument, cwd=tmp_path)
    assert result.returncode == 2
    assert argument.partition("=")[0] in result.stderr
    assert "Traceback" not in result.stderr


def test_a_busy_port_is_named(tmp_path):
    pytest.importorskip("nicegui", reason="needs the extra studio")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = command_here("scripts/studio.py", f"port={port}", "open=false", cwd=tmp_path)
    assert result.returncode == 2
    assert f"Port {port} is used by another program" in result.stderr
    assert f"port={port + 1}" in result.stderr


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    every = Trainings()
    yield every
    every.close()


def _started(trainings: Trainings, *command_lines: list[str]) -> list[LiveTraining]:
    trainings.start(command_lines)
    return trainings.current


def _summary(training: LiveTraining) -> dict:
    assert training.opened is not None
    return json.loads((Path(training.opened.folder) / "summary.json").read_text())


@pytest.mark.slow
def test_a_training_leaves_an_ordinary_run(trainings):
    """Also after its page was closed: nothing but the server's memory knows of pages."""
    (training,) = _started(trainings, [*SMALL, "steps=300"])
    with pytest.raises(LabError, match="running"):
        trainings.start([SMALL])
    wait_for(lambda: training.state == "ended")
    assert training.problem == ""
    assert training.ended.exit_status == 0
    assert training.glance.step == 300
    assert [point.step for point in training.curves][-1] == 300
    summary = _summary(training)
    assert (summary["status"], summary["steps"], summary["overrides"]) == ("finished", 300, [*SMALL, "steps=300"])
    assert training.ended.verdict["sentence"] == summary["verdict"]["sentence"]


@pytest.mark.slow
def test_a_pair_begins_together_and_a_reset_leaves_checkpoints(trainings):
    first, second = _started(trainings, [*SMALL, "steps=1000000"], [*SMALL, "steps=1000000", "remedy=[r1]"])
    wait_for(lambda: first.glance and second.glance and first.glance.step and second.glance.step)
    trainings.order("pause")
    wait_for(lambda: first.state == second.state == "paused")
    step = first.glance.step
    trainings.order("phase")
    wait_for(lambda: first.phases and second.phases)
    assert first.phases[0].step == step + 1
    trainings.reset()
    assert trainings.current == []
    for training in (first, second):
        summary = _summary(training)
        assert summary["status"] == "interrupted"
        assert summary["seed"] == 0
        assert (Path(training.opened.folder) / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.slow
def test_a_mistake_is_told_in_the_words_of_the_command_line(trainings, tmp_path):
    arguments = ["dataset=ring", "loss=mse", "optim.lr=-1"]
    (training,) = _started(trainings, arguments)
    wait_for(lambda: training.state == "ended")
    told = command_here("train.py", *arguments, cwd=tmp_path)
    assert (training.problem, training.ended.exit_status) == (told.stderr.strip(), told.returncode)
    assert training.opened is None
    assert not list(tmp_path.rglob("config.yaml"))


@pytest.mark.slow
def test_a_killed_process_is_told(trainings):
    (training,) = _started(trainings, [*SMALL, "steps=1000000"])
    wait_for(lambda: training.glance is not None and training.glance.step > 0)
    training.kill()
    wait_for(lambda: training.state == "ended")
    assert "SIGKILL" in training.problem
    assert f"resume={training.opened.folder}" in training.problem


@pytest.mark.slow
def test_the_server_refuses_other_hosts_and_ends_on_ctrl_c(tmp_path):
    """As a terminal sends it: to all processes of the group, one of which still imports its libraries."""
    pytest.importorskip("nicegui", reason="needs the extra studio")
    port = free_port()
    server = start_server(tmp_path, port)
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request)
    assert refusal.value.code == 403
    os.killpg(server.pid, signal.SIGINT)
    output, _ = server.communicate(timeout=SECONDS)
    assert server.returncode == 128 + signal.SIGINT
    assert "Traceback" not in output
    assert output.endswith("Interrupted.\n")
