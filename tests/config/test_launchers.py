"""The engines of sweeps for real: a Slurm on this machine, a Ray of its own and one of two nodes, an Optuna search.

Each runs in an environment of its own below .cache/, which has the extra's plugin and sees everything else here.
"""

import json
import os
import pickle
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
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT, command
from filelock import FileLock
from omegaconf import OmegaConf
from test_sweep import TINY, _wait_for

from gan_lab.config import launchers
from gan_lab.config.hydra_app import _Job
from gan_lab.config.refusals import explain
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import RemovedError, Run

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
    assert done.stderr == f'The plugin that this needs isn\'t installed.\nIt comes with: pip install -e ".[{extra}]"\n'
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


@pytest.fixture
def without_ray_settings(tmp_path, monkeypatch) -> Path:
    """An empty home, which it returns, and no environment variable of Ray."""
    for name in [*os.environ, "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED"]:
        if name.startswith("RAY_"):
            # Set first, so that what the test itself sets is removed afterwards.
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


def _prepare_ray(**init) -> None:
    launchers._prepare_ray(OmegaConf.create({"address": None, "num_cpus": None, "object_store_memory": None, **init}))


@pytest.mark.parametrize("place", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token"])
def test_ray_sends_its_token_wherever_that_lies(without_ray_settings, monkeypatch, place):
    if place.startswith("~"):
        (without_ray_settings / ".ray").mkdir()
        (without_ray_settings / ".ray" / "auth_token").write_text("secret")
    else:
        monkeypatch.setenv(place, "secret")
    _prepare_ray()
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_ray_sends_no_token_without_one_or_against_the_users_setting(without_ray_settings, monkeypatch):
    _prepare_ray()
    assert "RAY_AUTH_MODE" not in os.environ
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    _prepare_ray()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


@pytest.mark.parametrize("by", ["setting", "environment"])
def test_a_sweep_on_ray_starts_on_a_node_only(without_ray_settings, monkeypatch, by):
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        init = {"address": address} if by == "setting" else {}
        if by == "environment":
            monkeypatch.setenv("RAY_ADDRESS", address)
        # Addresses that are reserved for documents (RFC 5737), so no machine has them.
        elsewhere = ["203.0.113.1", "203.0.113.2"]
        monkeypatch.setattr(launchers, "_addresses_of_nodes", lambda _: elsewhere)
        with pytest.raises(LabError, match=f"no node of the Ray cluster at {address}") as refused:
            _prepare_ray(**init)
        assert f"ray start --address={address}" in str(refused.value)
        monkeypatch.setattr(launchers, "_addresses_of_nodes", lambda _: [*elsewhere, "127.0.0.1"])
        _prepare_ray(**init)


def test_a_ray_cluster_that_cannot_be_joined_is_refused_at_once(without_ray_settings):
    with pytest.raises(LabError, match="No Ray cluster answers at 127.0.0.1:"):
        _prepare_ray(address=f"127.0.0.1:{_port()}")
    for address in ("head", "head:", ":6379", "head:port"):
        with pytest.raises(LabError, match=f"{address} is no address of a Ray cluster"):
            _prepare_ray(address=address)
    with pytest.raises(LabError, match="num_cpus is a setting of a new Ray cluster") as refused:
        _prepare_ray(address="head:6379", num_cpus=2)
    assert refused.value.key == "hydra.launcher.ray.init.num_cpus"


def test_a_worker_without_the_commands_folder_refuses_the_job(tmp_path):
    state = vars(_Job(print, "train", (), False)) | {"working_directory": str(tmp_path / "gone")}
    with pytest.raises(LabError, match=f"{tmp_path / 'gone'} can't be entered on .*: No such file or directory"):
        _Job.__new__(_Job).__setstate__(state)


def test_a_removed_folder_is_reported_from_a_worker_process(tmp_path):
    error = RemovedError(tmp_path / "sweep")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.key, copy.code) == (str(error), "sweep", "missing")


def test_what_ray_wraps_is_explained():
    wrapper = type("RaySystemError", (Exception,), {"__module__": "ray.exceptions"})
    outer = wrapper("outer")
    inner = wrapper("inner")
    outer.cause = inner
    inner.client_exc = LabError("The folder isn't there.")
    assert explain(outer, "train", []) is inner.client_exc
    killed = type("WorkerCrashedError", (Exception,), {"__module__": "ray.exceptions"})
    assert "process was killed" in str(explain(killed(), "train", []))
    assert explain(wrapper("a bug"), "train", []) is None


class Machine:
    """A machine of a network of its own: it has an address, processes and a /tmp/ray that no other machine sees.

    It shares all other files with this machine. Whatever runs on it ends with it, and it ends with this process.

    Args:
        number: last part of its address, 10.77.0.<number>.
        switch: the machine to which it is wired; None for the first one.
    """

    def __init__(self, number: int, switch: "Machine | None" = None):
        self.address = f"10.77.0.{number}"
        script = "ip link set lo up && mkdir -p /tmp/ray && mount -t tmpfs none /tmp/ray && echo up"
        script += "; while :; do sleep 1; done"
        apart = ["unshare", "--net", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child", "sh", "-c", script]
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *apart], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        if self.process.stdout.readline() != "up\n":
            self.end()
            pytest.skip("machines with processes and networks of their own can't be made here")
        self.first = _children(self.process.pid)[0]
        port = f"port{number}"
        if switch is None:
            self._ip("link", "add", port, "type", "bridge")
        else:
            switch._ip("link", "add", f"to{number}", "type", "veth", "peer", "name", port, "netns", str(self.first))
            switch._ip("link", "set", f"to{number}", "master", "port1", "up")
        self._ip("address", "add", f"{self.address}/24", "dev", port)
        self._ip("link", "set", port, "up")

    def _ip(self, *arguments: str) -> None:
        # With the files of this machine, but in that network.
        subprocess.run(["nsenter", f"--target={self.first}", "--net", "ip", *arguments], check=True)

    def words(self, *command: str | Path, cwd: Path) -> list[str]:
        enter = ["nsenter", f"--target={self.first}", "--pid", "--net", "--mount", f"--wdns={cwd}"]
        return [*enter, *map(str, command)]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class RayCluster:
    """A Ray of two nodes with one CPU each, and a machine that is no node of it.

    Args:
        folder: the home of its user; `ray start` runs there.
    """

    ADDRESS = "10.77.0.1:6379"

    def __init__(self, folder: Path):
        self.python = _environment("ray")
        self.folder = folder
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment = {**inherited, **ONE_THREAD, "HOME": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}
        self.machines: list[Machine] = []

    def start(self, has_token: bool) -> None:
        """Starts the machines and Ray; with a token, its nodes require it."""
        self.head = self._machine()
        self.node = self._machine()
        self.stranger = self._machine()
        mode = {}
        if has_token:
            self._ray(self.head, "get-auth-token", "--generate")
            mode = {"RAY_AUTH_MODE": "token"}
        start = ("start", "--num-cpus=1", "--object-store-memory=100000000")
        self._ray(self.head, *start, "--head", "--port=6379", "--include-dashboard=false", **mode)
        self._ray(self.node, *start, f"--address={self.ADDRESS}", **mode)

    def _machine(self) -> Machine:
        machine = Machine(len(self.machines) + 1, self.machines[0] if self.machines else None)
        self.machines.append(machine)
        return machine

    def _ray(self, machine: Machine, command: str, *arguments: str, **environment: str) -> None:
        if command == "start":
            arguments = (f"--node-ip-address={machine.address}", *arguments)
        words = machine.words(self.python.parent / "ray", command, *arguments, cwd=self.folder)
        done = _run(*words, env={**self.environment, **environment})
        assert done.returncode == 0, done.stderr

    def start_sweep(self, machine: Machine, cwd: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        join = ("hydra/launcher=ray", f"hydra.launcher.ray.init.address={self.ADDRESS}", "hydra.sweep.dir=sweep")
        words = machine.words(self.python, ROOT / "train.py", "-m", *join, *arguments, *TINY, cwd=cwd)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(words, env={**self.environment, **environment}, **pipes)

    def end(self) -> None:
        for machine in reversed(self.machines):
            machine.end()


@contextmanager
def _ray_cluster(folder: Path, has_token: bool) -> Iterator[RayCluster]:
    for program in ("ip", "nsenter", "setpriv", "unshare"):
        if not shutil.which(program):
            pytest.skip(f"{program} is needed to simulate several machines")
    if os.geteuid() != 0:
        pytest.skip("several machines can be simulated by root only")
    cluster = RayCluster(folder)
    try:
        cluster.start(has_token)
        yield cluster
    finally:
        cluster.end()


def _ray_workers(cwd: Path) -> dict[int, str]:
    """The processes of Ray's jobs that work in a folder, and the network each is in."""
    workers = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::_run_job") and (folder / "cwd").readlink() == cwd:
                workers[int(folder.name)] = str((folder / "ns" / "net").readlink())
        except OSError:
            # It has ended.
            continue
    return workers


def _has_checkpoints(cwd: Path, process: subprocess.Popen[str]) -> bool:
    return len(list(cwd.glob("sweep/*/checkpoints/last.ckpt"))) >= 2 or process.poll() is not None


@pytest.mark.slow
@pytest.mark.parametrize("has_token", [True, False], ids=["token", "no-token"])
def test_a_sweep_joins_a_running_ray_from_another_folder(tmp_path, has_token):
    cwd = tmp_path / "elsewhere"
    nobody = tmp_path / "nobody"
    home = tmp_path / "home"
    for folder in (cwd, nobody, home):
        folder.mkdir()
    with _ray_cluster(home, has_token) as cluster:
        refused = cluster.start_sweep(cluster.stranger, cwd, "seed=0,1")
        _, message = refused.communicate(timeout=60)
        assert refused.returncode == 2, message
        assert message.startswith(f"This machine is no node of the Ray cluster at {cluster.ADDRESS}")
        if has_token:
            refused = cluster.start_sweep(cluster.head, cwd, "seed=0,1", HOME=str(nobody))
            _, message = refused.communicate(timeout=60)
            assert refused.returncode == 2, message
            assert f"\nThe Ray cluster at {cluster.ADDRESS} refuses this machine's token" in f"\n{message}"
        assert not list(cwd.iterdir()), "nothing is left of what was refused"

        jobs = ("seed=0,1,2", "steps=6000", "callbacks.checkpoint.every=100")
        process = cluster.start_sweep(cluster.head, cwd, *jobs)
        _wait_for(lambda: _has_checkpoints(cwd, process))
        workers = _ray_workers(cwd)
        assert len(set(workers.values())) == 2, "each node runs a job, in the folder of the command"
        network = str(Path(f"/proc/{cluster.node.first}/ns/net").readlink())
        killed = next(pid for pid, own in workers.items() if own == network)
        os.kill(killed, signal.SIGKILL)
        shown, message = process.communicate(timeout=240)
        assert process.returncode == 0, message
        assert "Task _run_job failed" in shown, "Ray noticed it"
        assert _fates(cwd) == dict.fromkeys(("seed-0", "seed-1", "seed-2"), "finished")
        table = pd.read_csv(cwd / "sweep" / "comparison.csv")
        assert table["steps"].tolist() == [6000, 6000, 6000]
        assert {path.name for path in home.iterdir()} <= {".ray", ".cache", ".config"}, (
            "no job worked where Ray started"
        )


@pytest.mark.slow
def test_jobs_that_end_with_their_sweep_on_ray_are_interrupted(tmp_path):
    jobs = ("seed=0,1,2", "steps=100000000", "callbacks.checkpoint.every=1000")
    with _ray_cluster(tmp_path, has_token=False) as cluster:
        (tmp_path / "stopped").mkdir()
        process = cluster.start_sweep(cluster.head, tmp_path / "stopped", *jobs)
        _wait_for(lambda: _has_checkpoints(tmp_path / "stopped", process))
        os.kill(_children(process.pid)[0], signal.SIGINT)
        _, message = process.communicate(timeout=30)
        assert process.returncode == 130, message
        assert "Continue with the same command and hydra.sweep.dir=sweep" in message
        assert "Traceback" not in message
        assert _fates(tmp_path / "stopped") == {"seed-0": "interrupted", "seed-1": "interrupted"}
        _wait_for(lambda: not _ray_workers(tmp_path / "stopped"))

        cwd = tmp_path / "killed"
        cwd.mkdir()
        process = cluster.start_sweep(cluster.head, cwd, *jobs, "+hydra.launcher.ray.remote.max_retries=0")
        _wait_for(lambda: _has_checkpoints(cwd, process))
        os.kill(next(iter(_ray_workers(cwd))), signal.SIGKILL)
        _, message = process.communicate(timeout=60)
        assert process.returncode == 2, message
        assert "Ray gave up a job: its process was killed" in message
        assert "Traceback" not in message
        assert _fates(cwd) == {"seed-0": "interrupted", "seed-1": "interrupted"}

        cwd = tmp_path / "hidden"
        cwd.mkdir()
        subprocess.run(cluster.node.words("mount", "-t", "tmpfs", "none", tmp_path, cwd=Path("/")), check=True)
        process = cluster.start_sweep(cluster.head, cwd, "seed=0,1", "steps=40")
        _, message = process.communicate(timeout=120)
        assert process.returncode == 2, message
        assert f"{cwd} can't be entered on" in message
        assert "Traceback" not in message


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
