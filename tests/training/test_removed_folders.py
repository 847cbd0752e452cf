"""A run folder that is removed or replaced while the run is trained: the training stops and makes nothing."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import BARE, command_here, refused, training
from pytorch_lightning import Callback

from gan_lab.commands.train import fit
from gan_lab.core.run_folder import RemovedError, Run
from gan_lab.training.callbacks.loggers import TensorBoard

TINY = ("dataset=ring", "model.generator.hidden=[4]", "model.discriminator.hidden=[4]", "log_every=5", *BARE)
QUICK = (*TINY, "callbacks.checkpoint.every=20", "steps=2000")


class At(Callback):
    """Does something after a step, before the other callbacks act."""

    def __init__(self, step, action):
        self.step = step
        self.action = action

    def on_train_batch_end(self, trainer, module, *_):
        if module.step == self.step:
            # TensorBoard's thread may still have to write what was logged before.
            for logger in trainer.loggers:
                logger.save()
            self.action()


def _remove(folder: Path) -> None:
    # At once: while its files are removed one by one, TensorBoard's thread might write another one.
    folder.rename(folder.parent / "removed")
    shutil.rmtree(folder.parent / "removed", ignore_errors=True)


def _replace(folder: Path) -> None:
    folder.rename(folder.parent / "moved")
    folder.mkdir()
    (folder / "config.yaml").write_text("of another run")


def _link(folder: Path) -> None:
    folder.rename(folder.parent / "moved")
    folder.parent.joinpath("other").mkdir()
    folder.symlink_to(folder.parent / "other")


def _put_file(folder: Path) -> None:
    _remove(folder)
    folder.write_text("a file")


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("action", "missing", "left"),
    [
        (_remove, "run", ["above"]),
        (lambda folder: _remove(folder.parent), "run", []),
        (lambda folder: _remove(folder / "checkpoints"), "checkpoints", None),
        (_replace, "run", ["above", "above/moved", "above/run", "above/run/config.yaml"]),
        (_link, "run", ["above", "above/moved", "above/other", "above/run"]),
        (_put_file, "run", ["above", "above/run"]),
    ],
    ids=["folder", "above", "checkpoints", "replaced", "link", "file"],
)
def test_a_training_stops_and_makes_nothing(tmp_path, action, missing, left):
    folder = tmp_path / "above" / "run"
    built, run = training(folder, *QUICK, "logger=default")
    built.trainer.callbacks.insert(0, At(45, lambda: action(folder)))
    built.datamodule.boundaries = [*built.datamodule.boundaries, 5]
    with refused("missing", missing) as error:
        fit(built, run)
    assert error.value.status == 1
    assert built.module.step == 45, "at the next time when it would write"
    files = [name for name in _files(tmp_path) if not name.startswith("above/moved/")]
    if left is None:
        assert not (folder / "checkpoints").exists()
        assert not run.summary.exists()
    else:
        assert files == left


def test_a_removed_folder_of_pictures_is_made_again(tmp_path):
    folder = tmp_path / "run"
    built, run = training(folder, *TINY, "steps=50")
    run.plots.mkdir()
    built.trainer.callbacks.insert(0, At(25, lambda: shutil.rmtree(run.plots)))
    summary, _ = fit(built, run)
    assert summary["status"] == "finished"


def test_a_folder_removed_after_the_last_step_is_told_too(tmp_path):
    built, run = training(tmp_path / "run", *TINY, "steps=20")

    class AtTheEnd(Callback):
        def teardown(self, *_, **__):
            shutil.rmtree(run.folder)

    built.trainer.callbacks.append(AtTheEnd())
    with refused("missing", "run"):
        fit(built, run)
    assert _files(tmp_path) == []


def test_discarding_spares_what_has_taken_the_folders_place(tmp_path):
    run = Run.new(tmp_path / "run", "format: 3\n")
    _replace(run.folder)
    run.discard()
    assert (run.folder / "config.yaml").read_text() == "of another run"


def test_tensorboard_writes_nothing_into_it(tmp_path):
    run = Run.new(tmp_path / "run", "format: 3\n")
    board = TensorBoard(run)
    board.log_metrics({"loss/g": 1.0}, 1)
    # TensorBoard's thread writes the first event at once, and the next one with others.
    board.save()
    board.log_metrics({"loss/g": 1.0}, 2)
    _replace(run.folder)
    board.finalize("failed")
    assert _files(run.folder) == ["config.yaml"]


def test_a_resumed_run_and_a_table_of_an_opened_one(tmp_path):
    built, run = training(tmp_path / "run", *TINY, "steps=20")
    fit(built, run)
    opened = Run.existing(run.folder)
    shutil.rmtree(run.folder)
    with pytest.raises(RemovedError):
        opened.write_json("evaluation.json", {})
    assert _files(tmp_path) == []


@pytest.mark.parametrize("what", ["sweep", "job"])
def test_a_sweep_stops_too(tmp_path, monkeypatch, what):
    folders = {"sweep": tmp_path / "sweep", "job": tmp_path / "sweep" / "seed-0"}
    (tmp_path / f"remover_{what}.py").write_text(
        "import shutil\nfrom pytorch_lightning import Callback\n\n\n"
        "class Remover(Callback):\n    def on_train_start(self, *_):\n"
        f"        shutil.rmtree({str(folders[what])!r}, ignore_errors=True)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    remover = (f"+callbacks.remover={{_target_: remover_{what}.Remover}}", f"trust=[remover_{what}]")
    sweep = ("-m", "seed=0,1", "hydra.sweep.dir=sweep", *TINY, "steps=20", *remover)
    done = command_here("train.py", *sweep, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("was removed") == 1
    assert "Traceback" not in done.stderr
    if what == "sweep":
        assert not folders["sweep"].exists()
    else:
        assert not folders["job"].exists()
        job = json.loads((tmp_path / "sweep" / "seed-1" / "job.json").read_text())
        assert job["status"] == "finished"
