"""Sweeps: every job a fate of its own, one answer at the end, and nothing lost when they are stopped."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import hydra
import pandas as pd
import pytest
import yaml
from conftest import REMEDIES, ROOT, STRENGTHS, classifier_cache, command, command_here, compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Transformer
from omegaconf import OmegaConf

from gan_lab.config.declarations import declared
from gan_lab.config.folders import job_folder
from gan_lab.config.sweep import Current
from gan_lab.config.targets import CONF

pytestmark = pytest.mark.xdist_group("sweep")  # its sweeps are made once

TINY = (
    "model.depth=1",
    "model.width=16",
    "batch_size=8",
    "callbacks.verdict.samples=300",
    "callbacks.pictures.images=9",
    "logger=table",
    f"cache_dir={classifier_cache()}",
)


def _jobs(folder: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/job.json"))}


@pytest.mark.parametrize(
    ("dirname", "name"),
    [
        ("loss=mse,seed=0", "loss-mse_seed-0"),
        ("optim.lr=0.001,experiment/ladder=1_mse", "optim.lr-0.001_experiment-ladder-1_mse"),
        ("experiment=book/pattern", "experiment-book-pattern"),
        ("", "job"),
        ("optim.lr=-1", "optim.lr--1"),
        ("remedy=[r1],seed=0", "remedy-r1_seed-0_ea4f86"),
        ("remedy=[],seed=0", "remedy_seed-0_aa75c1"),
    ],
)
def test_a_jobs_folder_is_named_by_what_varies(dirname, name):
    assert job_folder(dirname) == name


def test_folder_names_stay_short_plain_and_apart():
    values = ["[16,16]", "[1616]", "[16.16]", "['a b']", "x" * 300, "x" * 299 + "y"]
    names = [job_folder(f"model.generator.hidden={value},seed=0") for value in values]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 80
    assert not any(set(name) & set("=,[]{}' /") for name in names)


def test_the_ladder_adds_one_remedy_at_each_rung():
    """The notes' order: MSE, sigmoid, SGD and no norm; then BCE, LeakyReLU, Adam, LayerNorm."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        ladder = hydra.compose("train", ["experiment=sweep/ladder"], return_hydra_config=True).hydra
    params = ladder.sweeper.params
    assert ladder.mode.name == "MULTIRUN"
    assert len(params.seed.split(",")) == 5
    found = []
    for rung in params["experiment/ladder"].split(","):
        cfg = compose("experiment=sweep/ladder", f"experiment/ladder={rung}")
        assert cfg == compose(f"experiment=ladder/{rung}")
        parts = ("loss", "activation", "optim", "norm")
        found.append([cfg[part]._target_.rpartition(".")[2] for part in parts])
        assert cfg.dataset._target_.endswith("digits")
    assert found == [
        ["MSE", "Sigmoid", "SGD", "NoNorm"],
        ["BCE", "Sigmoid", "SGD", "NoNorm"],
        ["BCE", "LeakyReLU", "SGD", "NoNorm"],
        ["BCE", "LeakyReLU", "Adam", "NoNorm"],
        ["BCE", "LeakyReLU", "Adam", "LayerNorm"],
    ]


def test_every_remedy_is_compared_with_none_at_all_of_its_strengths_by_enough_seeds():
    """Of n and n runs, fully separate, the smallest p is 2 of binom(2n, n): Holm's first level has to be in reach."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        made = hydra.compose("train", ["experiment=sweep/remedies"], return_hydra_config=True)
    params = made.hydra.sweeper.params
    asked = OverridesParser.create().parse_overrides([f"remedy={params.remedy}", f"seed={params.seed}"])
    remedies, seeds = (list(each.sweep_iterator(Transformer.encode)) for each in asked)
    expected = ["[]"]
    for name in REMEDIES:
        expected.append(f"[{name}]")
        target = yaml.safe_load((CONF / "remedy" / f"{name}.yaml").read_text(encoding="utf-8")).get("_target_", "")
        expected += [f"[{name},{strength}]" for strength in STRENGTHS if getattr(declared(target), strength)]
    # A training that is cut short says nothing about a rate that falls until its end, nor about a long average.
    falling = {"[decay]", "[decay,weak]"}
    falling |= {f"[exponential_decay{strength}]" for strength in ("", ",weak", ",strong")}
    assert sorted(remedies) == sorted(set(expected) - falling - {"[ema,strong]"})
    assert 2 / math.comb(2 * len(seeds), len(seeds)) <= 0.05 / (len(remedies) - 1)
    first_line = (CONF / "experiment/sweep/remedies.yaml").read_text(encoding="utf-8").splitlines()[1]
    assert first_line.endswith(f"{len(remedies)} variants × {len(seeds)} seeds, {len(remedies) * len(seeds)} runs")
    assert made.hydra.mode.name == "MULTIRUN"
    # Some remedies need one update of D on real samples and fakes together, which must not be what is compared.
    base = compose("experiment=ladder/4_adam", "steps=1", "joint_d_update=true")
    assert compose("experiment=sweep/remedies", "steps=1") == base
    assert made.dataset._target_.endswith("digits")


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    """A sweep of three normalisations, one of which can't work with these networks."""
    cwd = tmp_path_factory.mktemp("failing")
    return cwd, command_here("train.py", "-m", "norm=layer,instance,none", "seed=0,1", *ARGUMENTS, cwd=cwd)


ARGUMENTS = ("steps=40", "~callbacks.curves", "hydra.sweep.dir=sweep", *TINY)


@pytest.mark.slow
def test_a_job_that_fails_is_named_and_the_others_go_on(failing):
    cwd, done = failing
    assert done.returncode == 1, done.stderr
    fates = {name: job["status"] for name, job in _jobs(cwd / "sweep").items()}
    assert fates == {
        "norm-instance_seed-0": "failed",
        "norm-instance_seed-1": "failed",
        **{f"norm-{norm}_seed-{seed}": "finished" for norm in ("layer", "none") for seed in (0, 1)},
    }
    *_, first, last = done.stderr.splitlines()
    assert first.startswith("failed: norm-instance_seed-0: norm=instance needs feature maps")
    assert last.startswith("failed: norm-instance_seed-1: norm=instance needs feature maps")
    assert "Traceback" not in done.stderr + done.stdout
    assert "LabError" in (cwd / "sweep" / "norm-instance_seed-0" / "log.txt").read_text(), "the whole story"


def test_a_sweep_ends_with_its_comparison(failing):
    cwd, done = failing
    table = pd.read_csv(cwd / "sweep" / "comparison.csv")
    compared = table[table["modes"].notna()]
    assert sorted(zip(compared["norm"], compared["seed"], strict=True)) == [
        ("LayerNorm", 0),
        ("LayerNorm", 1),
        ("none", 0),
        ("none", 1),
    ]
    assert (cwd / "sweep" / "effects.csv").is_file()
    assert (cwd / "sweep" / "report.html").is_file()
    # Said before the first job starts: the p of 2 against 2 runs that are apart is 2 / 6.
    assert done.stdout.startswith(
        "3 variants × 2 seeds, 3 comparisons: too few seeds to tell, however large a difference is; 5 seeds would do:"
        " seed=0 replicas=5\n"
    )
    assert "LayerNorm" in done.stdout
    assert str(Path("sweep") / "report.html") in done.stdout


def test_the_same_command_again_trains_nothing_twice_and_another_is_refused(failing):
    cwd, _ = failing
    files = [path for path in (cwd / "sweep").rglob("*") if path.name in ("last.ckpt", "metrics.csv", "summary.json")]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert len(before) == 12
    again = command_here("train.py", "-m", "norm=layer,instance,none", "seed=0,1", *ARGUMENTS, cwd=cwd)
    assert again.returncode == 1
    assert {path: path.stat().st_mtime_ns for path in files} == before
    other = command_here("train.py", "-m", "norm=layer,none", "seed=0,1", *ARGUMENTS, cwd=cwd)
    assert other.returncode == 2
    assert "holds another sweep" in other.stderr


def test_a_mistyped_sweep_leaves_nothing(tmp_path):
    done = command_here("train.py", "-m", "loss=mse,bse", *ARGUMENTS, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("There is no loss=bse.")
    assert not list(tmp_path.iterdir())
    done = command_here("scripts/evaluate.py", "-m", "run=a,b", cwd=tmp_path)
    assert done.returncode == 2
    assert "Only train.py makes sweeps" in done.stderr


def _start(cwd: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "-m", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _wait_for(what, seconds=90):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


CUT = ("loss=mse,bce", "seed=0,1", "steps=400", "callbacks.checkpoint.every=50", "hydra.sweep.dir=sweep", *TINY)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A sweep of four jobs that nothing has stopped."""
    cwd = tmp_path_factory.mktemp("whole")
    done = command("train.py", "-m", *CUT, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd


def _cut(cwd: Path, number: signal.Signals) -> tuple[int, str]:
    """Starts the sweep and stops it in its second job; exit status and what it said."""
    process = _start(cwd, *CUT)
    _wait_for(lambda: list(cwd.glob("sweep/loss-mse_seed-1/checkpoints/last.ckpt")))
    os.killpg(process.pid, number)
    _, told = process.communicate(timeout=60)
    assert (cwd / "sweep/loss-mse_seed-0/summary.json").is_file(), "the first was finished"
    assert not (cwd / "sweep/loss-bce_seed-1").exists(), "the last was not begun"
    return process.returncode, told


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on_to_the_same_comparison(tmp_path, whole):
    status, told = _cut(tmp_path, signal.SIGKILL)
    assert status == -9, told
    done = command("train.py", "-m", *CUT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("comparison.csv", "effects.csv"):
        mine, theirs = (pd.read_csv(folder / "sweep" / name) for folder in (tmp_path, whole))
        clocks = [column for column in mine if "seconds" in column]
        pd.testing.assert_frame_equal(mine.drop(columns=clocks), theirs.drop(columns=clocks), rtol=0, atol=0)
    for table in whole.glob("sweep/*/metrics.csv"):
        assert table.read_bytes() == (tmp_path / table.relative_to(whole)).read_bytes()


@pytest.mark.parametrize(("launcher", "left"), [("RayLauncher", "interrupted"), ("SlurmLauncher", "running")])
def test_jobs_that_end_with_their_sweep_are_interrupted(tmp_path, launcher, left):
    statuses = {"a": "running", "b": "finished", "c": "failed"}
    for name, status in statuses.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "job.json").write_text(
            json.dumps({"status": status, "error": None, "overrides": ["seed=0"]})
        )
    abandoned = Current.__new__(Current)
    abandoned.folder = tmp_path
    abandoned.config = OmegaConf.create({"hydra": {"launcher": {"_target_": launcher}}})
    abandoned._mark_interrupted()
    jobs = _jobs(tmp_path)
    assert {name: job["status"] for name, job in jobs.items()} == statuses | {"a": left}
    assert {job["overrides"][0] for job in jobs.values()} == {"seed=0"}, "what else it says is kept"


@pytest.mark.slow
def test_ctrl_c_stops_a_sweep_in_good_order(tmp_path):
    status, told = _cut(tmp_path, signal.SIGINT)
    assert status == 130, told
    assert "Continue with the same command and hydra.sweep.dir=sweep" in told
    assert "Traceback" not in told
    fates = {name: job["status"] for name, job in _jobs(tmp_path / "sweep").items()}
    assert fates == {"loss-mse_seed-0": "finished", "loss-mse_seed-1": "interrupted"}
    summary = json.loads((tmp_path / "sweep/loss-mse_seed-1/summary.json").read_text())
    assert summary["status"] == "interrupted"


@pytest.mark.slow
def test_jobs_run_in_parallel_and_after_a_killed_worker_the_sweep_continues(tmp_path):
    sweep = ("seed=0,1", "hydra/launcher=local", "steps=3000", "callbacks.checkpoint.every=50", *ARGUMENTS[1:])
    process = _start(tmp_path, *sweep)
    _wait_for(lambda: len(list(tmp_path.glob("sweep/*/checkpoints/last.ckpt"))) == 2)  # both train
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("can't tell the worker processes here")
    workers = [int(pid) for pid in children.read_text().split() if b"loky" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(max(workers), signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2, told
    assert "A worker process was killed" in told
    assert "hydra.sweep.dir=sweep" in told
    assert "Traceback" not in told
    assert "running" not in {job["status"] for job in _jobs(tmp_path / "sweep").values()}
    again = command("train.py", "-m", *sweep, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert [job["status"] for job in _jobs(tmp_path / "sweep").values()] == ["finished"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"], "one sweep folder, whatever the clock says"
