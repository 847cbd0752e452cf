"""Runs in W&B, MLflow and Trackio: what is sent, what a failure changes, and the programs themselves, offline."""

import json
import sqlite3
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import BARE, TRACKERS, command, refused, training
from PIL import Image

from gan_lab.commands.train import fit
from gan_lab.core.run_folder import Run
from gan_lab.training.callbacks import trackers
from gan_lab.training.callbacks.trackers import MLflow, Tracker, Trackio, WeightsAndBiases

pytestmark = pytest.mark.usefixtures("undrawn")

TINY = (
    *BARE[4:],
    *("model.generator.hidden=[6]", "model.discriminator.hidden=[6]", "dataset=ring", "dataset.samples=300"),
    *("log_every=1", "callbacks.pictures.every=2", "callbacks.pictures.points=20", "callbacks.verdict.samples=200"),
)


class Recorder(Tracker):
    """A program that only remembers what it was sent; it refuses what `refused` names."""

    package = "json"  # which is always there

    def __init__(self, run: Run, refused: str = ""):
        self.refused = refused
        self.sent: list[tuple] = []
        super().__init__(run)

    def _connect(self, stored):
        self.sent.append(("connect", stored))
        return stored or "run-1"

    def _receive(self, *what):
        if what[0] == self.refused:
            raise ConnectionError("no route to host\nand more")
        self.sent.append(what)

    def _send_settings(self, settings):
        self._receive("settings", settings)

    def _send_row(self, row, step):
        self._receive("row", row, step)

    def _send_picture(self, name, picture, step):
        self._receive("picture", name, picture.name, step)

    def _send_film(self, film, step):
        self._receive("film", film.name, step)

    def _send_end(self, summary):
        self._receive("end", trackers._words(summary), trackers._results(summary))


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run.new(tmp_path / "run", "format: 3\n")
    run.plots.mkdir()
    return run


SUMMARY = {
    "status": "finished",
    "steps": 4,
    "verdict": {"collapse": "covered", "next_step": None},
    "metrics": {"modes": 8, "recall": None},
}


def test_a_tracker_gets_means_each_picture_once_the_film_and_the_verdict(run):
    tracker = Recorder(run)
    tracker.log_hyperparams({"steps": 4})
    tracker.log_metrics({"loss/g": 0.5, "loss/g/0": 0.4, "loss/g/1": 0.6, "metric/modes": 7.0}, 2)
    for name in ("labels", "losses"):
        (run.plots / f"{name}.png").touch()
    (run.folder / "training.gif").touch()
    tracker.log_picture("labels", run.plots / "labels.png", 4)
    tracker.end(SUMMARY)
    assert tracker.sent == [
        ("connect", None),
        ("settings", {"steps": 4}),
        ("row", {"loss/g": 0.5, "metric/modes": 7.0}, 2),
        ("picture", "labels", "labels.png", 4),
        ("picture", "losses", "losses.png", 4),
        ("film", "training.gif", 4),
        ("end", {"status": "finished", "verdict/collapse": "covered"}, {"metric/modes": 8.0}),
    ]


def test_a_program_that_fails_is_named_once_and_gets_nothing_more(run, capsys):
    tracker = Recorder(run, refused="row")
    for step in (1, 2):
        tracker.log_metrics({"loss/g": 0.5}, step)
    tracker.end(SUMMARY)
    assert tracker.sent == [("connect", None)]
    assert capsys.readouterr().err == ("logger=json has failed and gets nothing more of this run: no route to host\n")


def test_a_program_that_cannot_be_reached_is_refused_before_the_training(run, monkeypatch):
    def fail(*_):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(Recorder, "_connect", fail)
    with refused("unsupported", "logger"):
        Recorder(run)
    assert not run.trackers.exists()


def test_a_resumed_run_continues_that_of_the_program(run):
    Recorder(run)
    assert json.loads(run.trackers.read_text()) == {"json": "run-1"}
    assert Recorder(run).sent == [("connect", "run-1")]


@pytest.mark.parametrize("text", ['{"json": "../x"}', '{"json": 3}', "[]", "{", '{"json": "a\\nb"}'])
def test_what_is_no_name_of_a_run_is_ignored(run, text):
    run.trackers.write_text(text)
    assert Recorder(run).sent == [("connect", None)]


@pytest.mark.parametrize("kind", [WeightsAndBiases, MLflow, Trackio])
def test_a_missing_package_is_named_with_the_command_that_installs_it(kind, run, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with refused("missing", "logger") as error:
        kind(run, "gan_lab")
    assert kind.package in TRACKERS
    assert str(error.value) == f"logger={kind.package} needs {kind.package}: pip install {kind.package}"


def _train_and_resume(folder: Path, name: str) -> tuple[dict, str]:
    """Trains 4 steps, adds a film, and resumes to 6; returns the summary and what the program calls the run."""
    built, run = training(folder, *TINY, f"logger={name}", "steps=4")
    _add_film(run.folder)
    fit(built, run)
    built, run = training(folder, *TINY, f"logger={name}", "steps=6")
    summary, _ = fit(built, run)
    (tracked_id,) = json.loads(run.trackers.read_text()).values()
    return summary, tracked_id


def _add_film(folder: Path) -> None:
    images = [Image.new("L", (4, 4), grey) for grey in (0, 9)]
    images[0].save(folder / "training.gif", save_all=True, append_images=images[1:])


def _skip_without(name: str) -> None:
    if find_spec(name) is None:
        pytest.skip(f"needs the package {name}")


@pytest.mark.slow
def test_mlflow_has_both_parts_of_a_run(tmp_path, monkeypatch):
    _skip_without("mlflow")
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    summary, run_id = _train_and_resume(tmp_path / "run", "mlflow")
    client = MlflowClient(uri)
    tracked = client.get_run(run_id)
    assert tracked.info.status == "FINISHED"
    assert client.get_experiment(tracked.info.experiment_id).name == "gan_lab"
    assert (tracked.data.params["steps"], tracked.data.params["loss"]) == ("4", "BCE")
    assert tracked.data.tags["verdict/collapse"] == summary["verdict"]["collapse"]
    assert tracked.data.tags["mlflow.note.content"] == summary["verdict"]["sentence"]
    assert [point.step for point in client.get_metric_history(run_id, "loss/g")] == [1, 2, 3, 4, 5, 6]
    assert tracked.data.metrics["loss/g"] == pytest.approx(summary["losses"]["g"])
    assert tracked.data.metrics["metric/modes"] == summary["metrics"]["modes"]
    assert [file.path for file in client.list_artifacts(run_id)] == ["images", "training.gif"]
    pictures = {Path(file.path).name.partition("+")[0] for file in client.list_artifacts(run_id, "images")}
    assert pictures == {"samples", "labels", "losses", "scores"}
    assert len(client.search_runs([tracked.info.experiment_id])) == 1


@pytest.mark.slow
def test_wandb_offline_has_both_parts_of_a_run(tmp_path, monkeypatch):
    _skip_without("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    summary, run_id = _train_and_resume(tmp_path / "run", "wandb")
    folders = list((tmp_path / "wandb").glob(f"offline-run-*-{run_id}"))
    content = b""
    names = set()
    for folder in folders:
        (file,) = folder.glob("*.wandb")
        content += file.read_bytes()
        names |= {path.name.partition("_")[0] for path in (folder / "files" / "media").rglob("*.*")}
    assert {"samples", "labels", "losses", "scores", "training"} <= names
    for text in (f'"{summary["verdict"]["collapse"]}"', "loss/g", "metric/modes", "dataset.samples", "gan_lab"):
        assert text.encode() in content, text


@pytest.mark.slow
def test_trackio_has_both_parts_of_a_run(tmp_path, monkeypatch):
    _skip_without("trackio")
    folder = tmp_path / "run"
    # Where it keeps runs is read at import.
    place = {"TRACKIO_DIR": str(tmp_path / "trackio")}
    steps = ("logger=trackio", "steps=4", f"hydra.run.dir={folder}")
    assert command("train.py", *TINY, *steps, cwd=tmp_path, **place).returncode == 0
    _add_film(folder)
    assert command("train.py", f"resume={folder}", "steps=6", cwd=tmp_path, **place).returncode == 0
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    (name,) = json.loads((folder / "trackers.json").read_text(encoding="utf-8")).values()
    (database,) = (tmp_path / "trackio").glob("gan_lab.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("select run_name, step, metrics from metrics").fetchall()
    assert {row[0] for row in rows} == {name}
    values = [(step, json.loads(metrics)) for _, step, metrics in rows]
    assert sorted({step for step, row in values if "loss/g" in row}) == [1, 2, 3, 4, 5, 6]
    (text,) = (row["verdict"]["_value"] for step, row in values if step == 6 and "verdict" in row)
    assert f"verdict/collapse: {summary['verdict']['collapse']}" in text
    assert {"samples", "labels", "losses", "scores", "training"} <= {name for _, row in values for name in row}
