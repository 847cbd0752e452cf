"""The command as a user calls it: what is refused, what a healthy run gives, and a whole cure that is killed once."""

import json
import signal
import subprocess
import sys
import time

import pytest

from gan_lab.core.errors import LabError
from gan_lab.core.installation import script
from gan_lab.cure.command import cure
from gan_lab.cure.request import Request
from gan_lab.cure.state import claimed, read_state

SMALL = ["model.width=16", "optim=sgd", "norm=none", "steps=200", "callbacks.verdict.samples=2500"]


BROKEN = ({"command": 5}, {"spent_seconds": "x"}, {"spent_seconds": 1e300}, {"spent_seconds": None}, {"format": 2})


def request(*overrides, run=None, budget="90s", seeds=None, target=None):
    return Request(run, list(overrides), budget, seeds, target)


@pytest.mark.parametrize("budget", ["", "10", "0m", "ten minutes", "-5m"])
def test_budget_that_is_no_time_is_refused(budget):
    with pytest.raises(LabError, match="10m"):
        request(budget=budget)


@pytest.mark.parametrize(("budget", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400)])
def test_units_of_the_budget(budget, seconds):
    assert request(budget=budget).seconds == seconds


@pytest.mark.parametrize(
    ("overrides", "workers"),
    [
        ([], 4),
        (["hydra.launcher.n_jobs=3"], 3),
        (["hydra/launcher=basic"], 1),
        (["hydra/launcher=ray"], 4),
        (["hydra/launcher=ray", "hydra.launcher.ray.init.address=node:6379"], 32),
        (["hydra/launcher=slurm"], 32),
    ],
)
def test_number_of_trainings_at_the_same_time(monkeypatch, overrides, workers):
    monkeypatch.setattr("gan_lab.cure.request.available_cores", lambda: 4)
    assert request(*overrides).workers == workers


def test_seeds_that_can_prove_nothing_are_refused():
    # Three and three can be split in 20 ways: p is at least 2/20.
    with pytest.raises(LabError, match="seeds=4"):
        request(seeds=3)


@pytest.mark.parametrize("override", ["replicas=3", "name=x", "hydra.run.dir=x", "resume=x", "hydra/sweeper=optuna"])
def test_what_the_cure_decides_is_refused(override):
    with pytest.raises(LabError, match="decides"):
        request(override)


def test_run_has_its_own_settings():
    with pytest.raises(LabError, match="own settings"):
        request("loss=bce", run="x")
    request("data.path=x.h5", "hydra/launcher=slurm", "trainer=gpu", run="x")


def test_deletion_is_refused_before_anything_is_trained():
    with pytest.raises(LabError, match="Leave it out"):
        request("~remedy.ema")


def test_same_command_finds_the_same_folder_and_another_one_another(tmp_path):
    assert request("loss=mse").folder == request("loss=mse").folder
    assert request("loss=mse").folder != request("loss=bce").folder
    assert request("loss=mse").folder != request("loss=mse", budget="10m").folder
    run = tmp_path / "run"
    assert request(run=str(run)).folder.parent == tmp_path


def test_folder_of_another_cure_or_of_anything_else_is_refused(tmp_path):
    content = {"format": 1, "command": ["loss=bce"], "spent_seconds": 1.5}
    (tmp_path / "cure.json").write_text(json.dumps(content))
    (tmp_path / ".half.cure.x").touch()
    with pytest.raises(LabError, match="another cure: loss=bce"):
        read_state(tmp_path, ["loss=mse"], 90)
    for broken in ("[", "[]", "{}", *(json.dumps(content | part) for part in BROKEN)):
        (tmp_path / "cure.json").write_text(broken)
        with pytest.raises(LabError, match="damaged"):
            read_state(tmp_path, ["loss=bce"], 90)
    (tmp_path / "cure.json").rename(tmp_path / "thesis.txt")
    with pytest.raises(LabError, match="other files"):
        read_state(tmp_path, ["loss=mse"], 90)


def test_healthy_run_gets_no_treatment_and_no_file(tmp_path):
    run = tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra" / "overrides.yaml").write_text("[]\n")
    parts = "loss: {_target_: x}\noptim: {_target_: x}\ndataset: {_target_: x}\n"
    (run / "config.yaml").write_text(f"{parts}format: 3\nsteps: 100\nseed: 0\n")
    verdict = {
        "collapse": "covered",
        "within_modes": "varied",
        "likeness": "good",
        "sentence": "Covered: all.\nNumbers.",
    }
    summary = {"status": "finished", "steps": 100, "verdict": verdict, "metrics": {"modes_total": 10}}
    (run / "summary.json").write_text(json.dumps(summary))
    assert cure(request(run=str(run))) == "Nothing is wrong: Covered: all.\nNumbers."
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    # Of which nothing else may be cured than what was trained.
    (run / ".hydra" / "overrides.yaml").write_text("- loss=mse\n- data.path=faces (1).h5\n")
    with pytest.raises(LabError, match="how it was started"):
        cure(request(run=str(run)))


def test_links_are_refused(tmp_path):
    (tmp_path / "cure").mkdir()
    (tmp_path / "cure" / "race").symlink_to(tmp_path)
    with pytest.raises(LabError, match="is a link"), claimed(tmp_path / "cure"):
        pass


def test_folder_in_which_nothing_was_written_is_removed(tmp_path):
    with pytest.raises(LabError, match="budget"), claimed(tmp_path / "cure"):
        raise LabError("budget")
    assert not list(tmp_path.iterdir())


def start(folder, *arguments):
    command = [sys.executable, str(script("cure")), *SMALL, *arguments, "budget=100s"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_killed_cure_goes_on_to_a_proof_and_two_at_once_do_not_meet(tmp_path):
    first = start(tmp_path)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("outputs/digits/cure_*/race/1/*/job.json")):
        assert first.poll() is None, first.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    second = start(tmp_path)
    assert second.wait(60) == 2
    assert "Another process works in" in second.stdout.read()
    first.send_signal(signal.SIGKILL)
    first.wait()
    (folder,) = tmp_path.glob("outputs/digits/cure_*")
    planned = json.loads((folder / "cure.json").read_text())["plan"]
    again = start(tmp_path)
    output, _ = again.communicate(timeout=600)
    assert again.returncode == 0, output
    content = json.loads((folder / "cure.json").read_text())
    assert content["plan"] == planned
    assert content["answer"] in output
    assert "Traceback" not in output
    # The proof's seeds are none of the race's.
    raced = {seed for stage in content["race"] for seed in stage["seeds"]}
    assert not raced & set(content["plan"]["proof_seeds"])
    # Once more, it only says what it found.
    started = time.monotonic()
    repeated = start(tmp_path)
    assert content["answer"] in repeated.communicate(timeout=60)[0]
    assert time.monotonic() - started < 30
