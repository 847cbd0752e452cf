"""`make torture`, small: real processes, killed by SIGKILL at random moments; and that a difference would be seen."""

import json
import shutil
import subprocess
import sys
import tempfile

import pytest
import torch
from conftest import training
from torture import CONFIGURATIONS, Torture, Trainer, differences, main

from gan_lab.commands.train import fit
from gan_lab.core.run_folder import Run

pytestmark = pytest.mark.xdist_group("torture")  # its uninterrupted run is made once


# The 1010 pattern, which needs no label classifier, with fewer steps.
(PATTERN,) = (overrides for overrides in CONFIGURATIONS if "dataset=pattern1010" in overrides)
SHORT = ("steps=150", *PATTERN[1:])


@pytest.fixture(scope="module")
def torture(tmp_path_factory) -> Torture:
    torture = Torture(tmp_path_factory.mktemp("torture"), configurations=(SHORT,))
    torture.prepare(0)
    return torture


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    job, run = training(tmp_path_factory.mktemp("trained") / "run", *SHORT)
    fit(job, run)
    return run


@pytest.mark.slow
def test_a_run_killed_at_a_random_moment_ends_as_if_nothing_had_happened(torture):
    trial = torture.trial(0, earliest=0.6)
    assert trial["differences"] == []
    assert len(trial["kills"]) == 1


def _change_weight(run: Run) -> None:
    checkpoint = torch.load(run.checkpoint, weights_only=True)
    next(iter(checkpoint["state_dict"].values())).view(-1)[0] *= 1 + 1e-7
    torch.save(checkpoint, run.checkpoint)


def _change_moment(run: Run) -> None:
    checkpoint = torch.load(run.checkpoint, weights_only=True)
    checkpoint["optimizer_states"][1]["state"][0]["square_avg"].view(-1)[0] += 1e-7
    torch.save(checkpoint, run.checkpoint)


def _change_table(run: Run) -> None:
    run.metrics.write_text(run.metrics.read_text().replace("0.", "0.0", 1))


def _change_summary(run: Run) -> None:
    run.write_summary({**run.read_summary(), "steps": 149})


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (_change_weight, "/state_dict/"),
        (_change_moment, "/optimizer_states/1/state/0/square_avg"),
        (_change_table, "metrics.csv"),
        (_change_summary, "/summary.json/steps"),
        (lambda run: (run.plots / "losses.png").write_bytes(b""), "plots/losses.png"),
        (lambda run: (run.images / "heatmap.png").unlink(), "images/heatmap.png: only in one"),
        (lambda run: (run.folder / ".half.config.yaml").touch(), ".half.config.yaml: left behind"),
    ],
)
@pytest.mark.slow
def test_a_difference_is_seen(trained, tmp_path, change, name):
    other = Run(shutil.copytree(trained.folder, tmp_path / "other"))
    assert differences(other, trained) == []
    change(other)
    (difference,) = differences(other, trained)
    assert difference.startswith(name)


@pytest.mark.slow
def test_a_trial_whose_training_fails_is_lost_and_its_folder_kept(torture, monkeypatch):
    def fail(self):
        self.run.folder.mkdir(parents=True)
        self.log.write_text("out of luck")
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])

    monkeypatch.setattr(Trainer, "start", fail)
    trial = torture.trial(2, earliest=1)
    assert trial["differences"] == ["RuntimeError: train.py ended with status 3:\nout of luck"]
    assert (torture.folder / "trial_2").is_dir()


@pytest.mark.parametrize("names", [[], ["metrics.csv"]])
def test_the_command_reports_where_kills_fell_and_fails_if_a_trial_differs(tmp_path, monkeypatch, capsys, names):
    def trial(self, number):
        kills = [{"after": 1.0, "where": "between two checkpoints", "step": 7}]
        return {"number": number, "configuration": 0, "kills": kills, "differences": names if number == 1 else []}

    monkeypatch.setattr(Torture, "prepare", lambda *_: None)
    monkeypatch.setattr(Torture, "trial", trial)
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **_: str(tmp_path / "kept"))
    (tmp_path / "kept").mkdir()
    out = tmp_path / "report.json"
    monkeypatch.setattr(sys, "argv", ["torture.py", "--kills", "3", "--out", str(out)])
    differs = bool(names)
    assert main() == int(differs)
    text = capsys.readouterr().out
    report = json.loads(out.read_text())
    assert ("Trial 1 differs" in text, "metrics.csv" in text) == (differs, differs)
    same = 2 if differs else 3
    assert f"{same} of 3 trials ended as if nothing had happened (3 kills)." in text
    assert report["differing"] == ([1] if differs else [])
    assert report["where"] == {"between two checkpoints": 3}
    assert (tmp_path / "kept").exists() == differs
