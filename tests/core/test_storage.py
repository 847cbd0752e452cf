"""Full and read-only disks, too little memory, two processes at once: a clear message; what was whole stays whole."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, classifier_cache, command, command_here, refused, training
from pytorch_lightning import Callback

from gan_lab.commands.train import fit
from gan_lab.core.errors import RunError
from gan_lab.core.io import atomic, corruption
from gan_lab.core.run_folder import Run
from gan_lab.data import images
from gan_lab.evaluation import classifier

pytestmark = pytest.mark.usefixtures("undrawn", "quick_verdict")

SMALL = (
    "model.generator.hidden=[16]",
    "model.discriminator.hidden=[16]",
    "batch_size=8",
    "callbacks.verdict.samples=500",
)
SMALL = (*SMALL, f"cache_dir={classifier_cache()}")


@pytest.mark.parametrize("kib", [76, pytest.param(300, marks=pytest.mark.slow)])
def test_a_full_disk_ends_the_run_and_leaves_what_was_whole(tmp_path, small_disk, kib):
    """76 KiB: TensorBoard's own thread meets it first. 300 KiB: pictures or a checkpoint do, after some were kept."""
    folder = small_disk(kib) / "run"
    often = ("callbacks.checkpoint.every=50", "callbacks.pictures.every=50", "steps=5000")
    completed = command_here("train.py", f"hydra.run.dir={folder}", *often, *SMALL, cwd=tmp_path)
    assert completed.returncode == 1, completed.stderr
    assert "No space left on device" in completed.stderr
    assert str(folder) in completed.stderr
    assert "Traceback" not in completed.stderr
    assert not list(folder.rglob(".half.*"))
    if kib == 300:
        assert "is kept" in completed.stderr
        run = Run(folder)
        step = run.load_checkpoint()["gan_lab"]["step"]
        assert step % 50 == 0
        assert step > 0
        assert f"step {step:,} is kept" in completed.stderr
        if run.summary.exists():  # there may have been room for that much
            assert run.read_summary()["status"] == "failed"
        subprocess.run(["mount", "-o", "remount,size=8m", str(folder.parent)], check=True)
        again = command_here("train.py", f"resume={folder}", f"steps={step + 10}", cwd=tmp_path)
        assert again.returncode == 0, again.stderr


def test_a_disk_that_is_full_from_the_start_leaves_no_run(tmp_path, small_disk):
    folder = small_disk(16)
    completed = command_here("train.py", f"hydra.run.dir={folder}/run", *SMALL, cwd=tmp_path)
    assert completed.returncode == 2, completed.stderr
    assert "No space left on device" in completed.stderr
    assert "Traceback" not in completed.stderr
    assert list(folder.iterdir()) == []


def test_a_read_only_folder_is_reported(tmp_path, small_disk):
    folder = small_disk(8000, "ro")
    completed = command_here("train.py", f"hydra.run.dir={folder}/run", *SMALL, cwd=tmp_path)
    assert completed.returncode == 2
    assert completed.stderr.startswith(f"{folder}/run: Read-only file system.")
    assert "Traceback" not in completed.stderr


def test_a_run_on_a_read_only_disk_is_read_but_not_trained(tmp_path, small_disk):
    folder = small_disk(8000)
    built, run = training(folder / "run", *SMALL, "steps=4", "logger=table")
    fit(built, run)
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    resumed = command_here("train.py", f"resume={folder}/run", "steps=9", cwd=tmp_path)
    assert resumed.returncode == 2
    assert "Read-only file system" in resumed.stderr
    assert "Traceback" not in resumed.stderr
    assert Run(folder / "run").load_checkpoint()["gan_lab"]["step"] == 4


def test_too_little_memory_is_reported_before_training_and_in_it(tmp_path):
    huge = ("latent_dim=1000000", "model.generator.hidden=[1000000]")  # a matrix of 4 TB
    completed = command_here("train.py", *huge, cwd=tmp_path)
    assert completed.returncode == 2, completed.stderr
    assert "There isn't enough memory for this" in completed.stderr
    assert "Traceback" not in completed.stderr
    assert not list(tmp_path.iterdir())

    class Grow(Callback):
        def on_train_batch_end(self, trainer, module, *_):
            if module.step >= 6:
                torch.empty(2**50)

    built, run = training(tmp_path / "run", *SMALL, "steps=9", "callbacks.checkpoint.every=2")
    built.trainer.callbacks.append(Grow())
    with pytest.raises(RunError, match="enough memory") as error:
        fit(built, run)
    assert "The checkpoint of step 6 is kept" in str(error.value)
    assert run.read_summary()["status"] == "failed"


def test_one_process_at_a_time_trains_a_run(tmp_path):
    built, run = training(tmp_path / "run", *SMALL, "steps=4")
    with refused("busy", "run"):
        Run(run.folder).claim()
    other = command("train.py", f"resume={run.folder}", cwd=tmp_path)
    assert other.returncode == 2
    assert "being trained by another process" in other.stderr
    fit(built, run)
    Run(run.folder).claim()


def test_an_evaluator_that_another_process_is_training_is_waited_for(tmp_path, monkeypatch, capsys):
    expected = classifier.label_classifier(images.digits(), classifier_cache())
    (intact,) = Path(classifier_cache()).glob(f"evaluator_{classifier.cache_key(images.digits())}.pt")
    path = tmp_path / intact.name
    other = f"""
import pathlib, shutil, time
from gan_lab.core.io import file_lock
with file_lock(pathlib.Path({str(path)!r}), "making it") as waited:
    print(waited, flush=True)
    time.sleep(1.5)
    shutil.copy({str(intact)!r}, {str(path)!r})
"""
    process = subprocess.Popen([sys.executable, "-c", other], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "False"
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *_: pytest.fail("trained a second time"))
    assert classifier.label_classifier(images.digits(), tmp_path).accuracy == expected.accuracy
    assert "Waiting for another process, which is training the label classifier" in capsys.readouterr().err
    process.wait(timeout=30)


def test_a_read_only_cache_is_no_hindrance(tmp_path, small_disk, monkeypatch, capsys):
    monkeypatch.setattr(classifier, "SAMPLES_SEEN", 2_000)
    monkeypatch.setattr(classifier, "EPOCHS", (1, 1))
    folder = small_disk(100, "ro")
    assert classifier.label_classifier(images.digits(), folder / "cache").accuracy > 0
    assert "cannot be stored" in capsys.readouterr().err


def test_damage_is_found_by_the_checksums(tmp_path):
    file = tmp_path / "file.pt"
    torch.save({"weight": torch.arange(1000.0)}, file)
    assert corruption(file.read_bytes()) is None
    intact = file.read_bytes()
    place = intact.index(torch.arange(1000.0).numpy().tobytes()) + 2000
    file.write_bytes(intact[:place] + bytes([intact[place] ^ 1]) + intact[place + 1 :])
    torch.load(file, weights_only=True)  # torch itself doesn't notice
    assert "checksum" in corruption(file.read_bytes())
    file.write_bytes(intact[:-1])
    assert corruption(file.read_bytes()) is not None


def test_an_error_while_writing_names_the_file_only(tmp_path):
    with pytest.raises(PermissionError) as error, atomic(tmp_path / "a.csv"):
        raise OSError(errno.EACCES, "Permission denied", "somewhere", None, "else")
    assert str(error.value) == f"[Errno {errno.EACCES}] Permission denied: '{tmp_path / 'a.csv'}'"
