"""Where Hydra writes: never into the folder of a run that is there already, however that folder is named."""

import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, command_here
from omegaconf import OmegaConf

from gan_lab.config.folders import expand_home
from gan_lab.config.schema import KEYS

pytestmark = pytest.mark.usefixtures("undrawn", "quick_verdict")

SHORT = ("steps=4", "dataset=ring", "dataset.samples=300", "logger=table", "callbacks=none", "threads=1")


@pytest.fixture
def cwd(tmp_path) -> Path:
    """A working directory with a finished run, `runs/a b`, and configurations that lead there."""
    run = tmp_path / "runs" / "a b"
    for name in (".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "config.yaml", "summary.json"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("as it was")
    for name in ("checkpoints/last.ckpt", "images/samples_1.png", ".lock"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).touch()
    conf = tmp_path / "conf"
    (conf / "experiment").mkdir(parents=True)
    lead = "hydra: {run: {dir: runs/a b}, sweep: {dir: runs/a b}}\n"
    (conf / "experiment" / "lead.yaml").write_text(f"# @package _global_\n{lead}")
    (conf / "mine.yaml").write_text(f"defaults: [train, _self_]\n{lead}")
    (tmp_path / "link").symlink_to(run)
    return tmp_path


def state_of(folder: Path) -> dict[str, tuple]:
    """Returns the contents, times and names of everything in and below a folder."""
    state = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        state[str(path)] = (content, about.st_mtime_ns, about.st_ino)
    return state


LEADING = (
    ('hydra.run.dir="runs/a b"',),
    ("++hydra.run.dir='runs/a b'",),
    ("hydra.run.dir=runs/a\\ b",),
    ("hydra.run.dir=runs/${name}", "name='a b'"),
    ("hydra.run.dir=runs/${oc.env:RUN_NAME}",),
    ("hydra.run.dir=${hydra:job.config_name}",),
    ("hydra.run.dir=link",),
    ("hydra.run.dir=~/runs/a\\ b",),
    ("hydra.run.dir='runs/a b/checkpoints'",),
    ("hydra.run.dir=runs", "hydra.output_subdir='a b/.hydra'"),
    ("hydra.run.dir=new", "hydra.output_subdir='../runs/a b/.hydra'"),
    ("--config-dir", "conf", "experiment=lead"),
    ("--config-dir=conf", "--config-name=mine"),
    ("-m", "seed=0,1", "hydra.sweep.dir='runs/a b'"),
    ("-m", "seed=0,1", "hydra.sweep.dir=~/runs/a\\ b"),
    ("-m", "seed=0,1", "hydra.sweep.dir=sweep", "hydra.sweep.subdir='../runs/a b'"),
    ("-m", "seed=0,1", "hydra.sweep.dir=runs", "hydra.sweep.subdir='a b'"),
    ("-m", "seed=0,1", "hydra.sweep.dir=sweep", "hydra.output_subdir='../../runs/a b/.hydra'"),
    ("-m", "--config-dir", "conf", "experiment=lead", "seed=0,1"),
)


@pytest.mark.parametrize("arguments", LEADING, ids=" ".join)
def test_nothing_of_a_finished_run_changes(cwd, arguments):
    shutil.copytree(cwd / "runs" / "a b", cwd / "train")
    before = state_of(cwd)
    done = command_here("train.py", *arguments, *SHORT, cwd=cwd, HOME=str(cwd), RUN_NAME="a b")
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert "Can't read" not in done.stderr
    assert "usage:" not in done.stderr
    assert state_of(cwd) == before


COMMANDS = (
    ("check", *SHORT),
    ("backquery", "dataset=digits"),
    ("benchmark", "what=storage"),
    ("evaluate", "run=nowhere"),
    ("explore", "run=nowhere"),
    ("pack", "source=nowhere", "target=x.h5"),
    ("compare", "runs=nowhere"),
    ("results", "runs=nowhere"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("arguments", [LEADING[0], ("hydra.run.dir=new", "hydra.output_subdir='../runs/a b/.hydra'")])
def test_no_other_command_writes_there_either(cwd, command, arguments):
    script, *settings = command
    before = state_of(cwd)
    done = command_here(f"scripts/{script}.py", *settings, *arguments, cwd=cwd)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert "Can't read" not in done.stderr
    assert "usage:" not in done.stderr
    assert state_of(cwd) == before


def test_a_command_that_writes_nothing_there_runs_in_the_folder_of_a_run(cwd):
    run = cwd / "runs" / "a b"
    before = state_of(run)
    done = command_here("scripts/compare.py", "runs=nowhere", cwd=run)
    assert "There is no folder nowhere" in done.stderr
    assert state_of(run) == before


def test_only_train_makes_sweeps(cwd):
    done = command_here("scripts/compare.py", "runs=nowhere", "hydra.mode=MULTIRUN", cwd=cwd)
    assert done.returncode == 2
    assert "Only train.py makes sweeps" in done.stderr
    assert not (cwd / "multirun").exists()


def test_a_foreign_folder_may_be_used(cwd):
    (cwd / "diary").mkdir()
    (cwd / "diary" / "today.txt").write_text("keep")
    done = command_here("train.py", *SHORT, "hydra.run.dir=${name}", "name=diary", cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((cwd / "diary/.hydra/overrides.yaml").read_text()) == [*SHORT, "name=diary"]
    # What Hydra keeps of a run is from its start, also when it is named again.
    before = state_of(cwd / "diary" / ".hydra")
    assert command_here("train.py", "resume=diary", "steps=6", cwd=cwd).returncode == 0
    assert state_of(cwd / "diary" / ".hydra") == before
    same = ("resume=diary", "steps=8", f"hydra.run.dir={cwd}/diary")
    assert command_here("train.py", *same, cwd=cwd).returncode == 0
    assert command_here("train.py", "resume=diary", "steps=9", "hydra.run.dir=x", cwd=cwd).returncode == 2
    assert not (cwd / "x").exists()
    assert state_of(cwd / "diary" / ".hydra") == before


@pytest.mark.parametrize("file", sorted(ROOT.glob("conf/*.yaml")), ids=lambda file: file.stem)
def test_every_command_looks_before_hydra_writes(file):
    callbacks = yaml.safe_load(file.read_text())["hydra"]["callbacks"]
    assert {"gan_lab.config.folders.Guard", "gan_lab.config.sweep.Sweep"} & {
        callback["_target_"] for callback in callbacks.values()
    }


def test_a_tilde_is_the_users_home_in_every_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/kim")
    paths = {key.name: "~/x" for key in KEYS if key.spec.path}
    assert {"data_dir", "data.path", "cache_dir", "resume", "run", "runs", "source", "target", "labels"} < paths.keys()
    cfg = OmegaConf.create({"name": "~/x", "a": "~"})
    for key, value in paths.items():
        OmegaConf.update(cfg, key, value, force_add=True)
    cfg.runs = ["~", "~/a b", "./~/x", "~nobody_of_this_name/x", "a~"]
    OmegaConf.set_struct(cfg, True)
    expand_home(cfg)
    for key in paths.keys() - {"runs"}:
        assert OmegaConf.select(cfg, key) == "/home/kim/x", key
    assert cfg.runs == ["/home/kim", "/home/kim/a b", "./~/x", "~nobody_of_this_name/x", "a~"]
    assert cfg.name == cfg.a + "/x" == "~/x"


HOME_ARGUMENTS = (
    ("train.py", "dataset=images", "data.path=~/x.h5"),
    ("train.py", "resume=~/x.h5"),
    ("scripts/backquery.py", "dataset=images", "data.path=~/x.h5", "run=~/x.h5"),
    ("scripts/evaluate.py", "run=~/x.h5"),
    ("scripts/explore.py", "run=~/x.h5"),
    ("scripts/compare.py", "runs=~/x.h5"),
    ("scripts/results.py", "runs=[~/x.h5]"),
    ("scripts/results.py", "runs=[~/x.h5,~/y.h5]"),
    ("scripts/results.py", "runs='~/x.h5'"),
    ("scripts/pack.py", "source=~/x.h5", "target=~/y.h5"),
    ("train.py", "resume=~/${name}", "name=x.h5"),
    ("train.py", "+experiment.x=1", "--config-dir=~/x.h5"),
)


@pytest.mark.parametrize("arguments", HOME_ARGUMENTS, ids=" ".join)
def test_a_tilde_is_the_users_home_on_every_command_line(tmp_path, arguments):
    done = command_here(*arguments, cwd=tmp_path, HOME="/home/kim")
    assert done.returncode == 2, done
    assert "/home/kim/x.h5" in done.stderr
    assert not (tmp_path / "~").exists()


def test_a_run_and_a_sweep_go_to_the_users_home(tmp_path):
    home = tmp_path / "home"
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    settings = (*SHORT, "cache_dir=~/cache")
    assert command_here("train.py", *settings, "hydra.run.dir=~/run", cwd=cwd, HOME=str(home)).returncode == 0
    assert command_here("train.py", "resume=~/run", "steps=5", cwd=cwd, HOME=str(home)).returncode == 0
    command_here("train.py", "-m", "seed=0", *settings, "hydra.sweep.dir=~/sweep", cwd=cwd, HOME=str(home))
    for config in (home / "run/config.yaml", *home.glob("sweep/*/config.yaml")):
        assert yaml.safe_load(config.read_text())["cache_dir"] == f"{home}/cache"
    assert not list(cwd.iterdir())


@pytest.mark.parametrize(
    "arguments", [("hydra.run.dir=${name}",), ("resume=${name}",), ("-m", "seed=0,1", "hydra.sweep.dir=${name}")]
)
def test_a_folder_whose_name_is_not_utf8_is_refused_before_hydra_writes(tmp_path, arguments):
    if arguments[0].startswith("resume"):
        (tmp_path / "caf\udce9").mkdir()
        (tmp_path / "caf\udce9" / "config.yaml").touch()
    before = state_of(tmp_path)
    done = command_here("train.py", *arguments, *SHORT, "name='caf\udce9'", cwd=tmp_path)
    assert (done.returncode, "caf\\udce9 is no UTF-8." in done.stderr) == (2, True), done.stderr
    assert state_of(tmp_path) == before
