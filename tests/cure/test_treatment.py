"""Race and proof with sweeps that are made up: the proof has seeds, and as many runs in both arms, of its own."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from gan_lab.comparison.collect import Record
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run
from gan_lab.cure.patient import Patient
from gan_lab.cure.request import Request
from gan_lab.cure.state import State
from gan_lab.cure.trainings import Job, Trainings, ended_jobs
from gan_lab.cure.treatment import Treatment

CURES = 200
COVERED = {"collapse": "covered", "within_modes": "varied", "copies": False}


@pytest.fixture(autouse=True)
def no_page(monkeypatch):
    """The page has tests of its own, and takes longer than a made-up race."""
    monkeypatch.setattr("gan_lab.cure.state.write_page", lambda record, folder: None)


class MadeUp:
    """Trainings whose coverage `draw(recipe, seed)` returns; None is a training without a value."""

    def __init__(self, folder, draw, verdict):
        self.folder = folder
        self.draw = draw
        self.verdict = verdict
        self.asked = {}

    def sweep(self, name, recipes, steps, seeds, until, extra=()):
        self.asked[name] = (dict(recipes), steps, list(seeds))
        jobs = []
        for seed in seeds:
            for recipe in recipes:
                value = self.draw(recipe, seed)
                failure = "" if value is not None else "it can't be trained"
                jobs.append(Job(recipe, seed, value, failure, self.folder, self.verdict, 2.0))
        return jobs


def treat(folder, draw, content=None, verdict=COVERED):
    """Runs race and proof, from the beginning or from what cure.json holds."""
    settings = {"steps": 1000, "seed": 0, "model.width": 64, "batch_size": 64}
    summary = {"remedy": [], "seconds": 2.0, "measuring_seconds": 1.0, "steps": 1000, "metrics": {"compared": 18}}
    patient = Patient(Record(Run(folder / "run"), settings, summary, "finished"), ["loss=mse"], 1000)
    trainings = MadeUp(folder, draw, verdict)
    state = State(folder, content or {"format": 1, "command": []})
    request = Request(None, ["loss=mse"], "10m", None, str(folder))
    Treatment(request, patient, ["one mode"], trainings, state).run()
    return state.content, trainings.asked


def test_best_candidate_is_proved_on_seeds_of_its_own(tmp_path):
    content, asked = treat(tmp_path, lambda recipe, seed: 0.9 if recipe == "r1" else 0.1 + seed % 7 / 100)
    recipes, steps, seeds = asked["proof"]
    assert set(recipes) == {"unchanged", "r1"}
    assert recipes["r1"] == ["loss=mse", "remedy=[r1]"]
    assert steps == 1000
    raced = {seed for name, (_, _, used) in asked.items() if name != "proof" for seed in used}
    assert not raced & set(seeds)
    assert content["proof"]["helped"]
    assert content["prescription"]["command"].endswith("train.py loss=mse 'remedy=[r1]' steps=1000")
    assert "/loss: mse" in (tmp_path / "prescription.yaml").read_text()
    assert json.loads((tmp_path / "cure.json").read_text())["answer"].startswith("R1 helped")


@pytest.mark.parametrize(
    ("verdict", "shortcoming"),
    [
        ({"collapse": "partial"}, "It is no full cure: of 10 runs, 10 still collapsed or partial."),
        ({**COVERED, "within_modes": "collapsed"}, "of 10 runs, 10 collapsed within modes."),
        ({**COVERED, "copies": True}, "of 10 runs, 10 copying training data."),
        (COVERED, None),
    ],
)
def test_answer_says_what_is_still_wrong(tmp_path, verdict, shortcoming):
    content, _ = treat(tmp_path, lambda recipe, seed: 0.9 if recipe == "r1" else 0.1, verdict=verdict)
    assert content["proof"]["helped"]
    if shortcoming is None:
        assert "no full cure" not in content["answer"]
    else:
        assert content["answer"].endswith(shortcoming)


def test_proof_compares_only_seeds_that_ended_in_both_arms(tmp_path):
    def draw(recipe, seed):
        if recipe == "r1":
            return None if seed % 1000 == 6 else 0.9
        return 0.1 + seed % 7 / 100

    content, asked = treat(tmp_path, draw)
    seeds = asked["proof"][2]
    # The seventh seed is missing in one arm; what comes after it could have been chosen by how fast it was.
    assert content["proof"]["seeds"] == seeds[:6]
    assert len(content["proof"]["patient"]) == len(content["proof"]["winner"]) == 6


@pytest.mark.parametrize("number", [1, 20, 45, 60])
def test_cure_that_was_stopped_ends_with_the_same_prescription(tmp_path, number):
    """It stops at a training of the first stage, of a later one or of the proof, and goes on in a new process."""
    rng = np.random.default_rng(0)
    values = {}
    trained = []

    def draw(recipe, seed):
        if number and len(trained) == number:
            raise KeyboardInterrupt
        trained.append(recipe)
        if (recipe, seed) not in values:
            values[recipe, seed] = 0.9 if recipe == "r1-strong" else float(rng.beta(2, 5))
        return values[recipe, seed]

    (tmp_path / "stopped").mkdir()
    with pytest.raises(KeyboardInterrupt):
        treat(tmp_path / "stopped", draw)
    number = 0
    resumed = json.loads((tmp_path / "stopped" / "cure.json").read_text())
    resumed, _ = treat(tmp_path / "stopped", draw, resumed)
    (tmp_path / "whole").mkdir()
    whole, _ = treat(tmp_path / "whole", draw)
    assert resumed["prescription"] == whole["prescription"] is not None
    assert resumed["proof"]["seeds"] == whole["proof"]["seeds"]
    assert resumed["proof"]["p"] == whole["proof"]["p"]


def test_nothing_shown_of_few_heldout_samples_says_so(tmp_path):
    content, _ = treat(tmp_path, lambda recipe, seed: 0.9 + seed % 7 / 100 + (recipe == "r1") / 1000)
    assert "18 held-out samples only" in content["answer"]
    assert content["prescription"] is None
    assert not (tmp_path / "prescription.yaml").exists()


def test_patient_that_cannot_be_trained_is_no_result(tmp_path):
    with pytest.raises(LabError, match="can't be trained"):
        treat(tmp_path, lambda recipe, seed: None if recipe == "unchanged" else 0.5)
    assert "answer" not in json.loads((tmp_path / "cure.json").read_text())


@pytest.mark.slow
def test_equals_are_seldom_said_to_help(tmp_path):
    """The whole treatment, 200 times, of a patient that no candidate differs from: 5 % is ten."""
    rng = np.random.default_rng(0)
    helped = 0
    for number in range(CURES):
        folder = tmp_path / str(number)
        folder.mkdir()
        content, _ = treat(folder, lambda recipe, seed: float(rng.beta(2, 5)))
        helped += bool(content.get("proof", {}).get("helped"))
    assert helped <= 0.05 * CURES


def write_job(folder: Path, status, overrides, error=None, summary=None, code=None):
    folder.mkdir()
    record = {"status": status, "error": error, "code": code, "overrides": overrides}
    (folder / "job.json").write_text(json.dumps(record))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))


def test_jobs_are_read_whatever_state_they_are_in(tmp_path):
    good = {"metrics": {"coverage": 0.5, "finite": 1.0}, "verdict": {"collapse": "covered"}, "seconds": 3}
    write_job(tmp_path / "a", "finished", ["experiment=cure/r1", "seed=1"], summary=good)
    write_job(tmp_path / "b", "failed", ["experiment=cure/r1", "seed=2"], "At step 3: x.", code="not_finite")
    write_job(tmp_path / "c", "failed", ["experiment=cure/r1", "seed=3"], "no such key")
    write_job(tmp_path / "d", "running", ["experiment=cure/r1", "seed=4"])
    write_job(tmp_path / "e", "finished", ["experiment=cure/r1", "seed=x"], summary=good)
    write_job(tmp_path / "f", "finished", None, summary=good)
    write_job(tmp_path / "g", "finished", ["experiment=cure/r1", "seed=5"], summary={"metrics": [1]})
    # That the disk was full says nothing of the recipe.
    write_job(tmp_path / "h", "failed", ["experiment=cure/r1", "seed=6"], "No space left", code="storage")
    jobs = ended_jobs(tmp_path)
    assert {key: job.value for key, job in jobs.items()} == {
        ("r1", 1): 0.5,
        # Nothing of the data is made after NaN; a summary that can't be read says nothing.
        ("r1", 2): 0.0,
        ("r1", 3): None,
        ("r1", 5): None,
    }


FULL = {
    "status": "failed",
    "error": "a.ckpt: No space left on device.",
    "code": "storage",
    "overrides": ["seed=1", "experiment=cure/r1"],
}


@pytest.mark.parametrize("is_solved", [False, True])
def test_full_disk_ends_a_stage_and_is_no_failure_of_a_candidate(tmp_path, monkeypatch, is_solved):
    """Only a full disk that this process meets ends the stage, not one that an earlier process met."""
    path = tmp_path / "race" / "1" / "r1" / "job.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(FULL))
    os.utime(path, (1, 1))
    train = tmp_path / "train.py"
    train.write_text("" if is_solved else f"from pathlib import Path\nPath({str(path)!r}).touch()")
    monkeypatch.setattr("gan_lab.cure.trainings.script", lambda name: train)
    message = "ended before all" if is_solved else "a.ckpt: No space left on device.\nOnce that is solved"
    with pytest.raises(LabError, match=message) as refusal:
        Trainings(tmp_path, []).sweep("race/1", {"r1": ["loss=bce"]}, 10, [1], time.monotonic() + 60)
    assert refusal.value.code == ("failed" if is_solved else "storage")
