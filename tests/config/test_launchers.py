"""The engines of sweeps for real: a Slurm on this machine, a Ray of its own, an Optuna search.

Each runs in an environment of its own below .cache/, which has the extra's plugin and sees everything else here.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT, command
from filelock import FileLock
from test_sweep import TINY, _wait_for

from gan_lab.core.run_folder import Run

EXTRAS = {"slurm": "hydra/launcher=slurm", "ray": "hydra/launcher=ray", "optuna": "hydra/sweeper=optuna"}
SLURM = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}
FAILING = "norm=layer,instance,none"  # instance can't work with these networks
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def _environment(extra: str) -> Path:
    """The python of an environment with one of the extras, made once for each state of pyproject.toml."""
    folder = ROOT / ".cache" / "engines" / extra
    python, ready = folder / "bin" / "python", folder / "ready.txt"
    wanted = (ROOT / "pyproject.toml").read_text() + sys.version + sys.prefix
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / ".lock"):
        if ready.exists() and ready.read_text() == wanted:
            return python
        venv.create(folder, clear=True, with_pip=True)
        here, there = (sysconfig.get_path("purelib", vars=paths) for paths in ({}, {"base": str(folder)}))
        Path(there, "parent.pth").write_text(f"{here}\n")  # torch isn't installed twice
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint"]
        done = _run(*pip, ROOT / "constraints.txt", "--editable", f"{ROOT}[{extra}]", timeout=600)
        if done.returncode:
            pytest.skip(f"pip can't install the extra {extra} here: {done.stderr.strip().splitlines()[-1]}")
        ready.write_text(wanted)
    return python


def _run(*arguments: str | Path, timeout: float = 240, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, arguments)], capture_output=True, text=True, timeout=timeout, **options)


def _sweep(python: Path, cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = (python, ROOT / "train.py", "-m", *arguments, "hydra.sweep.dir=sweep", *TINY)
    return _run(*words, cwd=cwd, env={**os.environ, **ONE_THREAD, **environment})


def _fates(cwd: Path) -> dict[str, str]:
    return {path.parent.name: json.loads(path.read_text())["status"] for path in cwd.glob("sweep/*/job.json")}


def _checks_a_sweep(python: Path, cwd: Path, engine: str) -> None:
    """Six jobs of which two must fail: they are named, the others compared, and the same command does nothing twice."""
    done = _sweep(python, cwd, engine, FAILING, "seed=0,1", "steps=40")
    assert done.returncode == 1, done.stderr
    finished = {f"norm-{norm}_seed-{seed}" for norm in ("layer", "none") for seed in (0, 1)}
    failed = {f"norm-instance_seed-{seed}" for seed in (0, 1)}
    assert _fates(cwd) == dict.fromkeys(finished, "finished") | dict.fromkeys(failed, "failed")
    *_, first, last = done.stderr.splitlines()
    assert first.startswith("failed: norm-instance_seed-0: norm=instance needs feature maps")
    assert last.startswith("failed: norm-instance_seed-1: norm=instance needs feature maps")
    assert "Traceback" not in done.stderr + done.stdout
    table = pd.read_csv(cwd / "sweep" / "comparison.csv")
    assert set(table.loc[table["modes"].notna(), "run"]) == finished
    assert set(table.loc[table["modes"].isna(), "run"]) == failed
    for log in cwd.glob("sweep/*/log.txt"):
        assert "srun" not in log.read_text(), "no advice on how jobs are started"

    files = [path for path in (cwd / "sweep").rglob("*") if path.name in ("last.ckpt", "metrics.csv", "summary.json")]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert len(before) == 12
    again = _sweep(python, cwd, engine, FAILING, "seed=0,1", "steps=40")
    assert again.returncode == 1, again.stderr
    assert {path: path.stat().st_mtime_ns for path in files} == before
    other = _sweep(python, cwd, engine, "seed=0,1", "steps=40")
    assert other.returncode == 2
    assert "holds another sweep" in other.stderr


@pytest.mark.parametrize(("extra", "preset"), EXTRAS.items())
def test_without_its_plugin_a_preset_says_which_extra_has_it(tmp_path, extra, preset):
    plugin = {"slurm": "hydra_submitit_launcher", "ray": "hydra_ray_launcher", "optuna": "hydra_optuna_sweeper"}[extra]
    if _run(sys.executable, "-c", f"import hydra_plugins.{plugin}").returncode == 0:
        pytest.skip(f"{plugin} is installed here")
    done = _sweep(Path(sys.executable), tmp_path, preset, "seed=0,1")
    assert done.returncode == 2
    assert done.stderr == f"The plugin that this needs isn't installed.\nIt comes with: pip install -e '.[{extra}]'\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_installed_slurm_does_not_affect_other_runs(tmp_path):
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    path = f"{srun.parent}{os.pathsep}{os.environ['PATH']}"
    done = command("train.py", "steps=3", *TINY, cwd=tmp_path, PATH=path)
    assert done.returncode == 0
    assert "srun" not in done.stderr


@pytest.mark.slow
def test_a_sweep_on_ray(tmp_path):
    _checks_a_sweep(_environment("ray"), tmp_path, "hydra/launcher=ray")


SEARCH = ("hydra/sweeper=optuna", "objective=coverage", "optim.lr=tag(log,interval(1e-4,1e-2))", "steps=40")


@pytest.mark.slow
def test_a_search_by_optuna_goes_on_where_it_was_and_names_the_best(tmp_path):
    python = _environment("optuna")
    done = _sweep(python, tmp_path, *SEARCH, "hydra.sweeper.n_trials=2")
    assert done.returncode == 0, done.stderr
    assert set(_fates(tmp_path).values()) == {"finished"}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/*/summary.json")}
    more = _sweep(python, tmp_path, *SEARCH, "hydra.sweeper.n_trials=4")
    assert more.returncode == 0, more.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before, "the first trials are those from before"
    jobs = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("sweep/*/job.json")}
    assert len(jobs) == 4
    values = {name: job["objective"]["value"] for name, job in jobs.items()}
    for name, value in values.items():
        summary = json.loads((tmp_path / "sweep" / name / "summary.json").read_text())
        assert value == summary["metrics"]["coverage"]
        assert 1e-4 <= float(name.partition("lr-")[2]) <= 1e-2
    best = re.search(r"best coverage: (\S+) \((\S+)\)", more.stdout)
    assert best, more.stdout
    assert values[best[2]] == max(values.values())
    assert len(pd.read_csv(tmp_path / "sweep" / "comparison.csv")) == 4


@pytest.mark.slow
def test_a_search_counts_a_trial_that_fails_as_the_worst(tmp_path):
    search = ("hydra/sweeper=optuna", "norm=instance,none", "steps=40", "hydra.sweeper.n_trials=4")
    done = _sweep(_environment("optuna"), tmp_path, *search)
    assert done.returncode == 1, done.stderr
    jobs = [json.loads(path.read_text()) for path in tmp_path.glob("sweep/*/job.json")]
    assert len(jobs) == 4, "it went on"
    failed = [job["objective"] for job in jobs if job["status"] == "failed"]
    assert 0 < len(failed) < 4
    assert all(each["value"] == -sys.float_info.max and "feature maps" in each["instead_of"] for each in failed)
    assert "norm-instance: norm=instance needs feature maps" in done.stderr.splitlines()[-1]
    assert re.search(r"best coverage: \S+ \(trial-\d_norm-none\)", done.stdout)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[dict[str, str]]:
    """A Slurm of this machine alone; gives the environment variables by which its commands find it."""
    _install_slurm()
    folder = tmp_path_factory.mktemp("slurm")
    host = socket.gethostname().partition(".")[0]
    (folder / "state").mkdir()
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    (folder / "slurm.conf").write_text(SLURM_CONF.format(folder=folder, host=host, ports=[_port(), _port()]))
    variables = {"SLURM_CONF": str(folder / "slurm.conf")}
    munge = [f"--{what}-file={folder / what}" for what in ("key", "pid", "log", "seed")]
    commands = [
        ["munged", "--foreground", "--force", f"--socket={folder / 'munge'}", *munge],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", host],
    ]
    daemons: list[subprocess.Popen] = []
    try:
        for words in commands:
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
            daemons.append(subprocess.Popen(words, env={**os.environ, **variables}, start_new_session=True, **quiet))
            time.sleep(1)
        deadline = time.monotonic() + 60
        while "idle" not in (told := _run("sinfo", "-h", "-o", "%T", env={**os.environ, **variables})).stdout:
            if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in daemons):
                logs = "\n".join(log.read_text()[-1500:] for log in folder.glob("*.log"))
                pytest.skip(f"Slurm doesn't start here: {told.stdout or told.stderr}\n{logs}")
            time.sleep(0.5)
        yield variables
    finally:
        _end_all_jobs({**os.environ, **variables})
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()


def _end_all_jobs(environment: dict[str, str]) -> None:
    """Whatever a test that failed has left in Slurm, which without its daemons nobody would end."""
    deadline = time.monotonic() + 60
    while jobs := _run("squeue", "-h", "-o", "%A", env=environment).stdout.split():
        if time.monotonic() > deadline:
            return
        _run("scancel", "--signal=KILL", *jobs, env=environment)
        _run("scancel", *jobs, env=environment)
        time.sleep(1)


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _install_slurm() -> None:
    missing = [package for program, package in SLURM.items() if not shutil.which(program)]
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        pytest.skip("a Slurm on this machine has to be started by root")
    if missing and not shutil.which("apt-get"):
        pytest.skip(f"there is no apt-get to install {', '.join(missing)} with")
    if missing:
        apt = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        _run("apt-get", "update", env=apt, timeout=300)
        done = _run("apt-get", "install", "-y", "--no-install-recommends", *missing, env=apt, timeout=300)
        if done.returncode:
            pytest.skip(f"apt-get can't install {', '.join(missing)}: {done.stderr.strip()[-300:]}")


SLURM_CONF = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.mark.slow
def test_a_sweep_on_slurm(tmp_path, slurm, monkeypatch):
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    _checks_a_sweep(_environment("slurm"), tmp_path, "hydra/launcher=slurm")


ENDLESS = ("hydra/launcher=slurm", "seed=0,1", "steps=100000000", "callbacks.checkpoint.every=1000")


def _start(python: Path, cwd: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Starts a sweep and waits until its two jobs have a checkpoint each."""
    words = (python, ROOT / "train.py", "-m", *arguments, "hydra.sweep.dir=sweep", *TINY)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*map(str, words)], cwd=cwd, env={**os.environ, **ONE_THREAD, **environment}, **pipes)
    _wait_for(lambda: len(list(cwd.glob("sweep/*/checkpoints/last.ckpt"))) == 2 or process.poll() is not None)
    return process


def _all_stopped(cwd: Path, slurm: dict[str, str]) -> bool:
    return set(_fates(cwd).values()) == {"interrupted"} and not _run("squeue", "-h", env={**os.environ, **slurm}).stdout


def _assert_kept_to_the_last_step(cwd: Path) -> None:
    runs = [Run(path.parent) for path in cwd.glob("sweep/*/summary.json")]
    assert len(runs) == 2
    for run in runs:
        assert run.read_summary()["status"] == "interrupted"
        assert run.load_checkpoint()["gan_lab"]["step"] == run.read_summary()["steps"]


@pytest.mark.slow
def test_slurms_time_limit_leaves_jobs_that_can_be_gone_on_with(tmp_path, slurm):
    limit = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=40")
    done = _sweep(_environment("slurm"), tmp_path, *ENDLESS, *limit, **slurm)
    assert done.returncode == 1, done.stderr
    told, last = done.stderr.splitlines()[-2:]
    assert told == "interrupted: seed-0, seed-1"
    assert last == "Continue with the same command and hydra.sweep.dir=sweep"
    assert "Traceback" not in done.stderr + done.stdout
    _assert_kept_to_the_last_step(tmp_path)


@pytest.mark.slow
def test_ctrl_c_takes_the_jobs_back_from_slurm(tmp_path, slurm):
    process = _start(_environment("slurm"), tmp_path, *ENDLESS, **slurm)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130, told
    assert "Continue with the same command and hydra.sweep.dir=sweep" in told
    assert "Traceback" not in told
    _wait_for(lambda: _all_stopped(tmp_path, slurm))
    _assert_kept_to_the_last_step(tmp_path)


@pytest.mark.slow
def test_a_job_that_was_cancelled_in_slurm_is_reported_and_the_same_command_finishes_it(tmp_path, slurm):
    sweep = (_environment("slurm"), tmp_path, "hydra/launcher=slurm", "seed=0,1", "steps=6000")
    sweep += ("callbacks.checkpoint.every=100",)
    process = _start(*sweep, **slurm)
    array = next(path.name for path in tmp_path.glob("sweep/.submitit/*") if path.name.isdigit())
    _run("scancel", f"{array}_1", env={**os.environ, **slurm})
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1, told
    assert "interrupted: seed-1\n" in told
    assert _fates(tmp_path) == {"seed-0": "finished", "seed-1": "interrupted"}
    again = _sweep(*sweep, **slurm)
    assert again.returncode == 0, again.stderr
    assert set(_fates(tmp_path).values()) == {"finished"}
    table = pd.read_csv(tmp_path / "sweep" / "comparison.csv")
    assert table["steps"].tolist() == [6000, 6000]
