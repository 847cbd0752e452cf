"""A run that was stopped, killed or damaged goes on as if nothing had happened: on the CPU, to the bit."""

import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import (
    CONFLICTING_REMEDIES,
    OPTIONS,
    PARTNERS,
    REMEDIES,
    ROOT,
    TRACKERS,
    classifier_cache,
    command_here,
    refused,
    run_here,
    small,
    training,
)
from matplotlib.quiver import Quiver
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pytorch_lightning import Callback
from torture import differences

from gan_lab.commands.train import fit
from gan_lab.config.targets import CONF
from gan_lab.core.run_folder import Run
from gan_lab.plotting.style import Figure
from gan_lab.training.callbacks import evaluation
from gan_lab.training.callbacks.checkpoints import Checkpoint

SHORT = (
    "logger=table",
    "steps=13",
    "log_every=2",
    "latent_dim=3",
    "callbacks.checkpoint.every=5",
    "callbacks.pictures.every=4",
    "callbacks.verdict.every=3",
)
TRAIN = yaml.safe_load((CONF / "train.yaml").read_text(encoding="utf-8"))
DEFAULTS = {(group, str(option)) for each in TRAIN["defaults"] if each != "_self_" for group, option in each.items()}


def _presets(group: str, option: str) -> bool:
    """Whether an option only chooses others."""
    return "@package _global_" in (CONF / group / f"{option}.yaml").read_text(encoding="utf-8")


def _other(key: str) -> list[str]:
    """A top-level key with another value, where it is a switch or a number."""
    value = TRAIN[key]
    if isinstance(value, bool):
        return [f"{key}={str(not value).lower()}"]
    return [f"{key}={value + 1}"] if isinstance(value, int) else []


def _groups_of_remedies(most: int = 5) -> list[list[str]]:
    """The remedies, as many at once as go together."""
    gathered: list[list[str]] = []
    for remedy in REMEDIES:
        for group in gathered:
            if len(group) < most and not any({remedy, other} in map(set, CONFLICTING_REMEDIES) for other in group):
                group.append(remedy)
                break
        else:
            gathered.append([remedy])
    return gathered


# Groups whose options go together: a case has one of each of them. An option that needs a partner stays alone.
COMBINED = ("dataset", "loss", "activation", "norm", "optim", "optim_d", "optim_g", "latent")


def _combined(groups: tuple[str, ...]) -> dict[str, list[str]]:
    """The i-th case has the i-th option of each of the groups, as far as they have so many."""
    columns = []
    for name in groups:
        options = [option for group, option in OPTIONS if group == name and option not in PARTNERS]
        columns.append([f"{name}={option}" for option in options if (name, option) not in DEFAULTS])
    rows = [[part for part in row if part] for row in itertools.zip_longest(*columns)]
    return {" ".join(row): [*small(*row[0].split("=")), *row[1:]] for row in rows}


# The default with all loggers, every other option of every group, every key that is a switch or a number: new ones
# join by themselves.
CASES = {"default": small("logger", "default")}
CASES |= _combined(COMBINED)
CASES |= {
    "=".join(case): small(*case)
    for case in OPTIONS
    if case not in DEFAULTS and case[0] != "remedy" and case[1] not in TRACKERS and not _presets(*case)
    if case[0] not in COMBINED or case[1] in PARTNERS
}
CASES |= {each: small("remedy", each) for each in (f"[{','.join(together)}]" for together in _groups_of_remedies())}
SOON = {"lecam": "remedy.lecam.warmup_steps=3", "ema": "remedy.ema.decay=0.8", "balance": "remedy.balance.max_auc=0.5"}
CASES = {case: [*settings, *(soon for name, soon in SOON.items() if name in case)] for case, settings in CASES.items()}
SWITCHES = [
    other
    for key in sorted(TRAIN.keys() - {"format", "steps", "force", "threads", "devices", "num_nodes"})
    for other in _other(key)
]
# Numbers go together; a switch may exclude others.
NUMBERS = [other for other in SWITCHES if other.rpartition("=")[2].isdecimal() and not other.startswith("replicas")]
CASES |= {other: [*small("loss", "mse"), other] for other in SWITCHES if other not in NUMBERS}
CASES[" ".join(NUMBERS)] = [*small("loss", "mse"), *NUMBERS]
DRAWN = ("default", "dataset", "latent", "model", "conditional", "replicas")  # what pictures depend on
for case, settings in CASES.items():
    if not case.startswith(DRAWN):
        settings.append("~callbacks.pictures")
    # Curves depend on metrics.csv, which is compared.
    if case != "default":
        settings.append("~callbacks.curves")
PATTERN = [*small("dataset", "pattern1010"), "dataset.samples=300"]


@pytest.fixture(autouse=True)
def quick(monkeypatch, little_images, quick_verdict):
    """Few samples, and pictures in words: what is compared is whether they are equal."""
    monkeypatch.setattr(evaluation, "QUICK_SAMPLES", 100)
    monkeypatch.setattr(Figure, "savefig", _describe)


def _describe(figure: Figure, path: Path) -> None:
    """Writes the numbers and texts that a figure shows; drawing it would take most of these tests' time."""
    content = [figure.get_suptitle()]
    for axes in figure.axes:
        content += [axes.get_title(), *(text.get_text() for text in axes.texts)]
        content += [line.get_xydata() for line in axes.lines] + [patch.get_extents() for patch in axes.patches]
        content += [image.get_array() for image in axes.images]
        content += [points.get_offsets() for points in axes.collections]
        content += [part for arrows in axes.collections if isinstance(arrows, Quiver) for part in (arrows.U, arrows.V)]
    description = PngInfo()
    description.add_text(
        "content", hashlib.sha256(b"".join(np.ma.getdata(part).tobytes() for part in content)).hexdigest()
    )
    Image.new("L", (1, 1)).save(path, "png", pnginfo=description)


class SnapshotAt(Callback):
    """Copies the run's folder as it lies on the disk after a step: what SIGKILL leaves at that moment."""

    def __init__(self, step: int, run: Run, to: Path):
        self.step, self.run, self.to = step, run, to

    def on_train_batch_end(self, trainer, module, *_):
        if module.step == self.step:
            shutil.copytree(self.run, self.to)


def _killed(folder: Path, at: int, *overrides: str) -> tuple[Run, Run]:
    """A run as a kill at that step left it, and the same run that nothing has interrupted."""
    job, whole = training(folder / "whole", *SHORT, *overrides)
    job.datamodule.boundaries = [*job.datamodule.boundaries, at]
    job.trainer.callbacks.append(SnapshotAt(at, whole, folder / "killed"))
    fit(job, whole)
    return Run(folder / "killed"), whole


def _go_on(run: Run, *overrides: str) -> None:
    torch.manual_seed(99)
    job, run = training(run.folder, *SHORT, *overrides)
    summary, code = fit(job, run)
    assert (summary["status"], summary["steps"], code) == ("finished", 13, 0)


# Compiling takes most of its time; other networks have the same layers; other data pass through the same stream.
SLOW = {"compile=true", "dataset=stacked_mnist", "dataset=patches", "model=dcgan", "model=conv_book", "model=mlp_faces"}
SLOW |= {"dataset=stacked_digits", "dataset=grid", "dataset=celeba", "dataset=fashion_mnist"}
SLOW |= {"dataset=pattern1010", "model=pacgan", "model=resnet"}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow if SLOW.intersection(case.split()) else ()) for case in sorted(CASES)],
)
def test_whatever_is_trained_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, case):
    """Killed at step 7: past the checkpoint of step 5, between the rows of steps 6 and 8."""
    if case == "trainer=mps" and not torch.backends.mps.is_available():
        pytest.skip("no Apple GPU")
    if case == "trainer=gpu" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    killed, whole = _killed(tmp_path, 7, *CASES[case])
    assert killed.load_checkpoint()["gan_lab"]["step"] == 5
    _go_on(killed, *CASES[case])
    assert differences(killed, whole) == []
    # The film also shows what came before the kill.
    if case == "default":
        assert killed.film.read_bytes() == whole.film.read_bytes()


@pytest.mark.parametrize("at", [3, *(pytest.param(at, marks=pytest.mark.slow) for at in (5, 12))])
def test_whenever_it_is_killed_it_goes_on_as_if_nothing_had_happened(tmp_path, at):
    """Before the first checkpoint; right after one that pictures and looks at the modes share its step with; late."""
    every = [*PATTERN, "callbacks.pictures.every=5", "callbacks.verdict.every=5"]
    killed, whole = _killed(tmp_path, at, *every)
    assert killed.whole_checkpoint() is None if at == 3 else killed.whole_checkpoint()
    _go_on(killed, *every)
    assert differences(killed, whole) == []


@pytest.mark.slow
@pytest.mark.parametrize("nth", [3, 1])
def test_killed_between_any_two_changes_of_files_it_goes_on_as_if_nothing_had_happened(tmp_path, monkeypatch, nth):
    """Every file that a run writes becomes itself by a rename: the folder as it is before each is gone on from.

    Each nth folder, that is.
    """
    snapshots: list[Path] = []
    replace = os.replace

    def watched(source, target):
        if whole.folder in Path(target).parents:
            snapshots.append(tmp_path / f"{len(snapshots)} before {Path(target).name}")
            shutil.copytree(whole, snapshots[-1])
        replace(source, target)

    whole, settings = Run(tmp_path / "whole"), [*PATTERN, "callbacks.pictures.every=100"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", watched)
        job, whole = training(whole.folder, *SHORT, *settings)
        fit(job, whole)
    assert {path.name.partition(" before ")[2] for path in snapshots} >= {
        "config.yaml",
        "previous.ckpt",
        "last.ckpt",
        "metrics.csv",
        "heatmap.png",
        "losses.png",
        "summary.json",
    }
    differing = {}
    for snapshot in snapshots[::nth]:
        _go_on(Run(snapshot), *settings)
        differing[snapshot.name] = differences(Run(snapshot), whole)
    assert {name: files for name, files in differing.items() if files} == {}


class RaiseAt(Callback):
    """Sends this process a signal in the middle of a training, as a user or a scheduler would."""

    def __init__(self, step: int, number: signal.Signals):
        self.step, self.number = step, number

    def on_train_batch_end(self, trainer, module, *_):
        if module.step == self.step:
            signal.raise_signal(self.number)


@pytest.mark.parametrize(
    ("number", "overrides"),
    [
        pytest.param(signal.SIGINT, small("optim", "adam"), id="SIGINT"),
        pytest.param(
            signal.SIGTERM,
            [*small("loss", "mse"), "optim=sgd", "norm=batch", "joint_d_update=true"],
            id="SIGTERM",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            signal.SIGTERM,
            [*small("dataset", "ring"), "latent=uniform", "norm=spectral", "dataset.samples=30"],
            id="SIGTERM in the plane",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_signal_stops_a_run_in_good_order_and_it_goes_on_as_if_nothing_had_happened(tmp_path, number, overrides):
    job, whole = training(tmp_path / "whole", *SHORT, *overrides)
    fit(job, whole)
    before = signal.getsignal(number)
    job, stopped = training(tmp_path / "stopped", *SHORT, *overrides)
    job.datamodule.boundaries = [*job.datamodule.boundaries, 7]
    job.trainer.callbacks.insert(0, RaiseAt(7, number))
    summary, code = fit(job, stopped)
    assert (summary["status"], summary["steps"], code) == ("interrupted", 7, 128 + number)
    assert signal.getsignal(number) is before, "the handlers are put back"
    _go_on(stopped, *overrides)
    assert differences(stopped, whole) == []


def _cut(checkpoint: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])


def _flip(checkpoint: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]["generator.layers.0.weight"]
    content[content.index(weights.numpy().tobytes()) + 5] ^= 1
    checkpoint.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_cut, id="cut short"),
        pytest.param(_flip, id="a bit flipped", marks=pytest.mark.slow),
        pytest.param(Path.unlink, id="missing", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_used(tmp_path, capsys, damage):
    """Missing: killed between the two renames that make a new last.ckpt."""
    run, whole = _killed(tmp_path, 12, *PATTERN)
    damage(run.checkpoint)
    capsys.readouterr()
    assert run.load_checkpoint()["gan_lab"]["step"] == 5
    message = capsys.readouterr().err
    assert (
        message == ""
        if damage is Path.unlink
        else "last.ckpt is damaged" in message and "back to previous.ckpt" in message
    )
    _go_on(run, *PATTERN)
    assert differences(run, whole) == []


@pytest.mark.slow
def test_killed_soon_after_a_damaged_checkpoint_was_left_behind_it_still_goes_on(tmp_path, monkeypatch):
    """Between the two renames of the next checkpoint: the damaged one must not have taken the whole one's place."""
    run, whole = _killed(tmp_path, 12, *PATTERN)
    _flip(run.checkpoint)
    replace, snapshots = os.replace, []

    def watched(source, target):
        if target == run.checkpoint and not snapshots:
            snapshots.append(shutil.copytree(run, tmp_path / "again"))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", watched)
        _go_on(run, *PATTERN)
    again = Run(snapshots[0])
    _go_on(again, *PATTERN)
    assert differences(again, whole) == []


@pytest.mark.slow
def test_two_damaged_checkpoints_are_refused_with_a_way_out(tmp_path):
    run, whole = _killed(tmp_path, 12, *PATTERN)
    _cut(run.checkpoint)
    _flip(run.previous_checkpoint)
    with refused("damaged", "last.ckpt") as error:
        run.load_checkpoint()
    for part in ("last.ckpt is damaged", "previous.ckpt is damaged", f"Delete {run.checkpoint.parent}", "step 0"):
        assert part in str(error.value)
    shutil.rmtree(run.checkpoint.parent)
    _go_on(run, *PATTERN)
    assert differences(run, whole) == []


# With other settings, by train.py itself: it alone knows what was said on the command line.

STARTED = (*SHORT, *PATTERN, "optim.lr=0.01", f"cache_dir={classifier_cache()}", "callbacks.pictures.every=100")


@contextmanager
def _stopping_after(step: int) -> Iterator[None]:
    """SIGTERM comes right after the checkpoint of that step."""
    save = Checkpoint.save

    def save_and_stop(self, trainer, module):
        save(self, trainer, module)
        if module.step == step:
            signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_stop)
        yield


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Run:
    """A run that was started by train.py and stopped at step 6."""
    run = Run(tmp_path_factory.mktemp("stopped") / "run")
    with _stopping_after(5):
        assert run_here("train.py", f"hydra.run.dir={run.folder}", *STARTED) == 128 + signal.SIGTERM
    assert run.load_checkpoint()["gan_lab"]["step"] == 6
    return run


@pytest.fixture
def copied(stopped, tmp_path) -> Run:
    """That run, to go on with."""
    return Run(shutil.copytree(stopped, tmp_path / "run"))


def _bytes(run: Run) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}


def test_other_settings_are_refused_with_what_differs(copied, capsys):
    before = _bytes(copied)
    assert run_here("train.py", f"resume={copied.folder}", "loss=mse", "optim.lr=0.5", "steps=20") == 2
    message = capsys.readouterr().err.splitlines()
    assert "was trained with other settings:" in message[0]
    assert "  optim.lr: 0.01 → 0.5" in message
    assert "  loss._target_: gan_lab.gan.losses.BCE → gan_lab.gan.losses.MSE" in message
    assert "force=true" in message[-1]
    assert _bytes(copied) == before


@pytest.mark.slow
def test_another_remedy_is_refused_with_what_differs_or_forced_where_the_checkpoint_allows_it(copied, capsys):
    before = _bytes(copied)
    assert run_here("train.py", f"resume={copied.folder}", "remedy=[r1,ema]") == 2
    message = capsys.readouterr().err.splitlines()
    assert "  remedy.r1._target_: not set → gan_lab.gan.remedies.penalties.R1" in message
    assert "  remedy.ema.decay: not set → 0.999" in message
    assert run_here("train.py", f"resume={copied.folder}", "remedy=[ema]", "force=true") == 2, (
        "there is no average to go on with"
    )
    assert "its checkpoint is of other networks" in capsys.readouterr().err
    assert _bytes(copied) == before
    assert run_here("train.py", f"resume={copied.folder}", "remedy=[r1]", "force=true") == 0
    assert copied.read_summary()["remedy"] == ["r1"]
    assert "  remedy.r1" not in capsys.readouterr().err


def test_the_original_settings_may_be_repeated_and_steps_and_threads_changed(copied):
    assert run_here("train.py", f"resume={copied.folder}", *STARTED, "steps=15", "threads=1") == 0
    assert copied.read_summary()["steps"] == 15
    config = yaml.safe_load(copied.config.read_text())
    assert (config["steps"], config["optim"]["lr"]) == (15, 0.01)
    assert not list(copied.folder.glob("config_until_step_*")), "nothing was forced"


def _rates(run: Run) -> list[float]:
    return [group["lr"] for state in run.load_checkpoint()["optimizer_states"] for group in state["param_groups"]]


@pytest.mark.slow
def test_force_makes_a_new_learning_rate_count(copied):
    """Loading an optimiser's state brings its old learning rate back, unless something is done about it."""
    before, settings = copied.load_checkpoint(), copied.config.read_text()
    assert _rates(copied) == [0.01, 0.01]
    assert run_here("train.py", f"resume={copied.folder}", "optim.lr=1e-30", "force=true") == 0
    after = copied.load_checkpoint()
    assert _rates(copied) == [1e-30, 1e-30]
    assert all(torch.equal(after["state_dict"][name], w) for name, w in before["state_dict"].items()), (
        "too small a step"
    )
    moments = [state["optimizer_states"][0]["state"][0] for state in (before, after)]
    assert [int(each["step"]) for each in moments] == [12, 26], (
        "what the optimiser remembers goes on: two steps of D a step"
    )
    assert (copied.folder / "config_until_step_6.yaml").read_text() == settings
    assert yaml.safe_load(copied.config.read_text())["optim"]["lr"] == 1e-30


@pytest.mark.slow
def test_force_with_another_optimiser_starts_with_an_empty_memory(copied):
    assert run_here("train.py", f"resume={copied.folder}", "optim=rmsprop", "optim.lr=0.02", "force=true") == 0
    state = copied.load_checkpoint()
    assert state["gan_lab"]["optimizers"] == ["RMSprop", "RMSprop"]
    remembered = state["optimizer_states"][0]["state"][0]
    assert (int(remembered["step"]), "exp_avg" in remembered) == (2 * (13 - 6), False)
    assert _rates(copied) == [0.02, 0.02]


@pytest.mark.slow
def test_a_forced_change_that_is_stopped_again_stays_in_force(copied):
    with _stopping_after(10):
        assert run_here("train.py", f"resume={copied.folder}", "optim.lr=0.3", "force=true") == 128 + signal.SIGTERM
    assert run_here("train.py", f"resume={copied.folder}") == 0
    assert _rates(copied) == [0.3, 0.3]


def test_other_networks_are_refused_even_if_forced(copied, capsys):
    before = _bytes(copied)
    assert run_here("train.py", f"resume={copied.folder}", "model.generator.hidden=[20]", "force=true") == 2
    assert "its checkpoint is of other networks" in capsys.readouterr().err
    assert _bytes(copied) == before


@pytest.mark.slow
def test_two_processes_do_not_resume_one_run(copied, tmp_path):
    arguments = [sys.executable, str(ROOT / "train.py"), f"resume={copied.folder}", "steps=1000000"]
    first = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert first.stdout is not None
        assert "Resuming training on" in first.stdout.readline()
        second = command_here("train.py", f"resume={copied.folder}", cwd=tmp_path)
        assert second.returncode == 2
        assert "is being trained by another process" in second.stderr
        assert "Traceback" not in second.stderr
    finally:
        first.kill()
        first.wait()
    Run.existing(copied.folder).claim()  # the lock is gone with the process that held it
