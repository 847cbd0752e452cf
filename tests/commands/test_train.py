"""train.py as a user runs it: in a process of its own, judged by what it prints and leaves."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import OPTIONS, ROOT, classifier_cache, command, command_here

from gan_lab.commands.summary import describe
from gan_lab.core.run_folder import Run
from gan_lab.data import images
from gan_lab.evaluation.classifier import label_classifier

QUICK = (
    "model.depth=1",
    "model.width=16",
    "batch_size=8",
    "callbacks.pictures.images=9",
    "callbacks.verdict.samples=500",
    f"cache_dir={classifier_cache()}",
)


def _runs(cwd: Path) -> list[Path]:
    return sorted(p.parent for p in cwd.glob("outputs/**/config.yaml") if p.parent.name != ".hydra")


pytestmark = pytest.mark.xdist_group("train")  # its run is made once


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, its process and its folder."""
    label_classifier(
        images.digits(), classifier_cache()
    )  # here: the command would say that it waits for another worker's
    cwd = tmp_path_factory.mktemp("train")
    done = command("train.py", "loss=bce", "optim=adam", "steps=60", *QUICK, cwd=cwd)
    assert done.returncode == 0, done.stderr
    (folder,) = _runs(cwd)
    return done, folder, cwd


def test_everything_that_a_run_leaves(finished):
    _, folder, cwd = finished
    assert re.fullmatch(r"outputs/digits/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\w{6}", str(folder.relative_to(cwd)))
    for name in (
        "config.yaml",
        ".hydra/overrides.yaml",
        "metrics.csv",
        "summary.json",
        "plots/losses.png",
        "plots/scores.png",
        "images/samples_0000000.png",
        "images/samples_0000060.png",
        "checkpoints/last.ckpt",
    ):
        assert (folder / name).is_file(), name
    assert list(folder.glob("events.out.tfevents.*"))
    assert not list(folder.rglob(".*tmp*")), "nothing half-made"


def test_the_summary_and_the_table_agree(finished):
    _, folder, _ = finished
    summary = json.loads((folder / "summary.json").read_text())
    last = pd.read_csv(folder / "metrics.csv").iloc[-1]
    assert (summary["status"], summary["error"], summary["steps"]) == ("finished", None, 60)
    assert (summary["seed"], summary["dataset"]) == (0, "digits")
    assert summary["overrides"][:3] == ["loss=bce", "optim=adam", "steps=60"]
    assert summary["losses"]["equilibrium"] == pytest.approx(0.693147)
    for name in ("d_real", "d_fake", "g"):
        assert summary["losses"][name] == pytest.approx(last[f"loss/{name}"], rel=1e-5)
    assert summary["verdict"]["balance"] in {"balanced", "D is winning", "G is winning"}
    # Milliseconds: so few steps take a few hundredths of a second.
    assert summary["seconds"] == pytest.approx(60 / summary["steps_per_second"], abs=6e-4)
    assert {"python", "torch", "device", "threads", "git"} <= summary["environment"].keys()


def test_what_is_printed(finished):
    done, folder, cwd = finished
    assert done.stderr == ""
    for part in ("Finished: 60 steps", "ideal", "0.6931", "balance:", str(folder.relative_to(cwd))):
        assert part in done.stdout
    line = next(line for line in done.stdout.splitlines() if "TensorBoard:" in line)
    opened = line.partition(":")[2].split()
    assert opened[1:3] == ["-m", "tensorboard.main"]
    assert (cwd / opened[-1]).samefile(folder)
    version = subprocess.run([*opened[:3], "--version"], cwd=cwd, capture_output=True, text=True, timeout=60)
    assert version.returncode == 0, version.stderr


def test_only_what_was_written_is_announced(finished, tmp_path):
    done, folder, cwd = finished
    summary = json.loads((folder / "summary.json").read_text())
    assert f"pictures:    {(folder / 'images').relative_to(cwd)}, {(folder / 'plots').relative_to(cwd)}" in done.stdout
    # Without event files and pictures, as after logger=table callbacks=none.
    run = Run(tmp_path)
    message = describe(summary, run)
    assert "run folder:" in message
    assert "pictures:" not in message
    assert "TensorBoard:" not in message
    run.plots.mkdir()
    run.images.mkdir()
    (run.plots / "losses.png").touch()
    (picture_line,) = [line for line in describe(summary, run).splitlines() if "pictures:" in line]
    assert picture_line.endswith("plots")
    assert "images" not in picture_line.replace(str(tmp_path), "")


def test_config_is_the_composed_one(finished):
    _, folder, _ = finished
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["steps"] == 60
    assert config["loss"]["_target_"] == "gan_lab.gan.losses.BCE"


@pytest.mark.slow  # test_resume has its parts in this process
def test_a_finished_run_can_go_on_with_more_steps_but_not_as_another(finished):
    _, folder, cwd = finished
    again = command_here("train.py", f"resume={folder}", cwd=cwd)
    assert again.returncode == 2
    assert "is finished" in again.stderr
    other = command_here("train.py", f"resume={folder}", "loss=mse", cwd=cwd)
    assert other.returncode == 2
    assert "loss._target_: gan_lab.gan.losses.BCE → gan_lab.gan.losses.MSE" in other.stderr
    assert "force=true" in other.stderr
    more = command_here("train.py", f"resume={folder}", "steps=80", cwd=cwd)
    assert more.returncode == 0, more.stderr
    assert json.loads((folder / "summary.json").read_text())["steps"] == 80
    assert pd.read_csv(folder / "metrics.csv")["step"].tolist() == [20, 40, 60, 80]
    assert yaml.safe_load((folder / "config.yaml").read_text())["steps"] == 80
    assert yaml.safe_load((folder / ".hydra/overrides.yaml").read_text())[0] == "loss=bce", "as it was started"
    assert _runs(cwd) == [folder], "no second folder"


def test_a_folder_that_holds_a_run_is_left_as_it_is(finished):
    _, folder, cwd = finished
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for mistake in ("steps=10", "steps=-1"):
        done = command_here("train.py", f"hydra.run.dir={folder}", mistake, cwd=cwd)
        assert done.returncode == 2
        assert "already holds a run" in done.stderr
    refused = command_here("train.py", f"resume={folder}", "steps=5", cwd=cwd)
    assert "is finished" in refused.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        ("loss=bse", "Choose from: bce, hinge"),
        ("stepz=10", "Did you mean 'steps'?"),
        ("steps=-1", "steps has to be a whole number ≥ 1"),
        ("activation.negative_slope=steep", "has to be a number"),
        ("resume=nowhere", "nowhere is not a run folder"),
        ("model=conv", "model=conv takes square images"),
        ("+trainer.foo=3", "foo"),
        ("norm=null", "norm=null: a group takes one of its options"),
        ("norm", "Can't read 'norm': a setting is key=value"),
        ("name=5", "name=5 is not allowed: name has to be text (where it looks like a number in quotes"),
        ("hydra.run.dir=/proc/nowhere", "/proc/nowhere"),
        ("dataset=mnist", "could not be downloaded"),
    ],
)
def test_mistakes_leave_a_message_and_nothing_else(tmp_path, mistake, told):
    offline = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = command_here("train.py", mistake, "data_dir=nothing_here", cwd=tmp_path, **offline)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.glob("outputs")), "no half-made run folder"


def test_typos_are_answered_before_torch_is_imported():
    """So that they are answered at once. Asserts the cause, not the seconds."""
    heavy = {"torch", "pytorch_lightning", "matplotlib", "pandas", "numpy"}
    probe = f"import sys, gan_lab.config.cli, gan_lab.config.resume; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


COMMANDS = ["train.py", *(f"scripts/{path.name}" for path in sorted((ROOT / "scripts").glob("*.py")))]


@pytest.mark.parametrize("script", COMMANDS)
def test_help_names_each_key_with_its_default_and_each_option_with_what_it_is(script, tmp_path):
    done = command_here(script, "--help", cwd=tmp_path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines) <= 80
    text = " ".join(done.stdout.split())
    assert text.startswith(f"usage: python {script}")
    assert 2 <= len(re.findall(r"^  python \S+\.py", done.stdout, re.MULTILINE)) <= 4
    name = Path(script).stem
    config = yaml.safe_load((ROOT / "conf" / f"{name}.yaml").read_text())
    if name == "check":
        config = yaml.safe_load((ROOT / "conf" / "train.yaml").read_text())
    defaults = [entry for entry in config["defaults"] if isinstance(entry, dict)]
    chosen = {
        group: option for entry in defaults for group, option in entry.items() if not group.startswith("override")
    }
    for key in config.keys() - {"defaults", "format", "hydra", "data", *chosen}:
        (line,) = (line for line in lines if line.startswith(f"  {key}="))
        default = line.removeprefix(f"  {key}=").split(" ")[0]
        if config[key] == "???":
            assert default == "required"
        else:
            assert yaml.safe_load(line.removeprefix(f"  {key}=").split("   ")[0]) == config[key]
    for group, option in [case for case in OPTIONS if case[0] in chosen]:
        mark = "*" if chosen[group] == option else " "
        assert re.search(rf"^  {re.escape(mark)} {re.escape(option)}( |$)", done.stdout, re.MULTILINE), option
        comments = re.findall(
            r"^# (?!@package)(.*)$", (ROOT / "conf" / group / f"{option}.yaml").read_text(), re.MULTILINE
        )
        assert " ".join(comments[0].split()) in text, option


def test_help_has_the_options_of_the_user_and_imports_no_torch(tmp_path):
    folder = tmp_path / "mine" / "loss"
    folder.mkdir(parents=True)
    (folder / "quartic.yaml").write_text("# The fourth power\n_target_: mine.Quartic\npower: 4\n")
    (folder / "broken.yaml").write_text("# Odd\x1b[2J\n- [")
    probe = "import sys, runpy; sys.argv[0] = 'train.py'; runpy.run_path(sys.argv[1], run_name='__main__');"
    probe += " print(sorted({'torch', 'pytorch_lightning', 'pandas', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    arguments = [str(ROOT / "train.py"), "--config-dir", str(tmp_path / "mine"), "--help"]
    done = subprocess.run([sys.executable, "-c", probe, *arguments], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"
    assert re.search(r"^    quartic +The fourth power$", done.stdout, re.MULTILINE)
    assert re.search(r"^      loss\.power=4$", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("arguments", [["--cfg", "job"], ["--hydra-help"]])
def test_flags_of_hydra_work(tmp_path, arguments):
    done = command_here("train.py", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ("steps: 15000" if arguments[0] == "--cfg" else "--multirun") in done.stdout


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_from_which_the_run_goes_on(tmp_path):
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "steps=100000", "callbacks.checkpoint.every=50", *QUICK],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 90
    while not list(tmp_path.glob("outputs/**/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    (folder,) = _runs(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert 50 <= summary["steps"] < 100_000
    assert "Interrupted" in stdout
    (resume,) = re.findall(r"resume=\S+", stdout)
    goal = summary["steps"] + 30
    done = command("train.py", resume, f"steps={goal}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "summary.json").read_text())["steps"] == goal


@pytest.mark.slow
def test_runs_started_in_the_same_second_keep_apart(tmp_path):
    arguments = [sys.executable, str(ROOT / "train.py"), "steps=2", "logger=table", *QUICK]
    processes = [subprocess.Popen(arguments, cwd=tmp_path, env=os.environ) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert len(_runs(tmp_path)) == 2


@pytest.mark.slow
def test_mnist(tmp_path, mnist_dir):
    small = (
        "model=conv",
        "model.channels=8",
        "steps=3",
        "callbacks.verdict.samples=500",
        f"cache_dir={classifier_cache()}",
    )
    done = command("train.py", "dataset=mnist", f"data_dir={mnist_dir}", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((_runs(tmp_path)[0] / "summary.json").read_text())["dataset"] == "mnist"
