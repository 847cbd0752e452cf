"""Several processes train the GAN that one would have trained, and stop together, however it comes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import BARE, ROOT, command, compose, refused, small, training
from omegaconf import OmegaConf
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_only

from gan_lab.commands.train import fit
from gan_lab.core.errors import RunError
from gan_lab.training.ddp import RANK_VARIABLES, ProcessGroup

QUIET = ("~callbacks.verdict", "~callbacks.pictures", "~callbacks.curves")
CHOICES = [each for each in small("optim", "sgd") if not each.startswith("callbacks.")]
DDP = (*CHOICES, *QUIET, "trainer=ddp", "batch_size=8", "log_every=2", "logger=table", "threads=1")


def _weights_apart(one, other) -> float:
    pairs = zip(one.module.state_dict().values(), other.module.state_dict().values(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


REMEDIES = ("remedy=[r1,r2,ema,label_smoothing,historical_averaging,decay]", "remedy.ema.decay=0.6", "n_critic=2")


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen",
    [
        (),
        pytest.param(REMEDIES, marks=pytest.mark.slow),
        pytest.param(("conditional=true",), marks=pytest.mark.slow),
    ],
    ids=["plain", "remedies", "conditional"],
)
def test_two_processes_train_what_one_does(tmp_path, chosen):
    alone, run = training(tmp_path / "one", *DDP, "steps=5", *chosen)
    start = [p.clone() for p in alone.module.parameters()]
    fit(alone, run)
    job, run = training(tmp_path / "two", *DDP, "steps=5", "devices=2", *chosen)
    summary, code = fit(job, run)
    assert (summary["status"], summary["environment"]["processes"], code) == ("finished", 2, 0)
    assert any(not torch.equal(a, b) for a, b in zip(start, alone.module.parameters(), strict=True))
    assert _weights_apart(alone, job) < 1e-6
    tables = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("one", "two")]
    assert tables[0][0] == tables[1][0]
    for one, two in zip(*(table[1:] for table in tables), strict=True):
        assert [float(value) for value in two.split(",")] == pytest.approx([float(v) for v in one.split(",")], abs=1e-5)
    assert not {"RANK", *RANK_VARIABLES} & os.environ.keys()
    assert {path.name for path in run.folder.iterdir()} == {
        *(".lock", "config.yaml", "metrics.csv", "summary.json", "checkpoints")
    }


@pytest.mark.parametrize(
    ("overrides", "code", "key"),
    [
        ("devices=2", "conflict", "trainer"),
        ("num_nodes=3 trainer=gpu", "conflict", "trainer"),
        ("trainer.devices=2", "conflict", "trainer"),
        ("trainer=ddp devices=3", "conflict", "batch_size"),
        ("trainer=ddp devices=2 norm=batch", "conflict", "norm"),
        ("trainer=ddp trainer.strategy=ddp_spawn", "invalid", "trainer.strategy"),
        ("trainer=ddp devices=2 remedy=[r1,gdpp]", "conflict", "remedy.gdpp"),
        ("trainer=ddp devices=2 remedy=[instance_noise]", "conflict", "remedy.instance_noise"),
        ("trainer=ddp devices=2 loss=relativistic_average", "conflict", "loss"),
        ("trainer=ddp devices=2 replicas=2", "conflict", "replicas"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(overrides, code, key):
    with refused(code, key):
        compose(*overrides.split())


def test_who_starts_processes(monkeypatch):
    with refused("missing", "MASTER_ADDR"):
        ProcessGroup(2, nodes=2)
    monkeypatch.setenv("NODE_RANK", "1")
    with refused("conflict", "NODE_RANK"):
        ProcessGroup(2)
    monkeypatch.delenv("NODE_RANK")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with refused("conflict", "devices"):
        ProcessGroup(2)
    assert ProcessGroup().is_leader
    assert "LOCAL_RANK" not in os.environ


@pytest.mark.parametrize("variable", ["SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
def test_processes_that_srun_or_mpirun_started_are_refused(monkeypatch, variable):
    monkeypatch.setenv(variable, "4")
    with refused("conflict", "devices"):
        ProcessGroup(2)
    monkeypatch.setenv(variable, "1")
    ProcessGroup(2).end()


def test_what_other_programs_left_in_the_environment_does_not_mislead_the_processes(monkeypatch):
    left = {"LOCAL_RANK": "2", "MASTER_ADDR": "pod-0.nowhere", "MASTER_PORT": "1", "SLURM_NTASKS": "4(x2)"}
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    group = ProcessGroup(2)
    assert (os.environ["LOCAL_RANK"], os.environ["MASTER_ADDR"]) == ("0", "127.0.0.1")
    assert os.environ["MASTER_PORT"] != "1"
    group.end()
    assert {name: os.environ[name] for name in left} == left


ENVIRONMENTS = {
    "salloc": {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train"},
    "sbatch": {
        **{"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "2"},
        **{"SLURM_NODEID": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NNODES": "2"},
    },
    "Slurm with words for numbers": {"SLURM_NTASKS": "4(x2)", "SLURM_PROCID": "0"},
    "torchrun": {
        **{"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1"},
        **{"MASTER_ADDR": "nowhere", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "x"},
    },
    "LSF": {"LSB_JOBID": "7", "LSB_DJOB_RANKFILE": "/nowhere", "JSM_NAMESPACE_SIZE": "4", "JSM_NAMESPACE_RANK": "2"},
    "Open MPI": {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "2"},
    "Kubeflow": {"MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456", "WORLD_SIZE": "2", "RANK": "1"},
    "a node rank": {"NODE_RANK": "1"},
}


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_one_process_trains_in_every_environment(tmp_path, monkeypatch, environment):
    """Also where Lightning took another rank from it, when it was imported."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", 2)
    job, run = training(tmp_path / "run", *BARE, "dataset=ring", "steps=4", "log_every=2")
    summary, status = fit(job, run)
    assert (summary["status"], status, job.trainer.world_size, job.trainer.global_rank) == ("finished", 0, 1, 0)
    assert len(run.metrics.read_text().splitlines()) == 3
    assert run.checkpoint.is_file()


class At(Callback):
    """Does something to the other process at a step."""

    def __init__(self, step, job, number):
        self.step, self.job, self.number = step, job, number

    def on_train_batch_end(self, trainer, module, *_):
        if module.step == self.step:
            self.job.process_group.workers[0].process.send_signal(self.number)


@pytest.mark.slow
def test_going_on(tmp_path):
    alone, run = training(tmp_path / "one", *DDP, "steps=9")
    fit(alone, run)
    job, run = training(tmp_path / "two", *DDP, "steps=5", "devices=2")
    fit(job, run)
    run.write_config(OmegaConf.to_yaml(compose(*DDP, "steps=9", "devices=2")))  # as train.py does before it goes on
    job, run = training(tmp_path / "two", *DDP, "steps=9", "devices=2")
    summary, _ = fit(job, run)
    assert summary["steps"] == 9
    assert _weights_apart(alone, job) < 1e-6


@pytest.mark.slow
def test_one_that_is_killed_ends_all_with_a_message(tmp_path):
    job, run = training(tmp_path / "run", *DDP, "steps=100000", "devices=2", "callbacks.checkpoint.every=10")
    job.trainer.callbacks.append(At(20, job, signal.SIGKILL))
    started = time.monotonic()
    with pytest.raises(RunError, match=r"Process 1 of 2 was killed by SIGKILL(.|\n)*checkpoint of step 20 is kept"):
        fit(job, run)
    assert time.monotonic() - started < 60
    assert run.read_summary()["status"] == "failed"


@pytest.mark.slow
def test_a_signal_to_any_stops_all_after_the_same_step(tmp_path):
    job, run = training(tmp_path / "run", *DDP, "steps=100000", "devices=2")
    job.trainer.callbacks.append(At(20, job, signal.SIGTERM))
    others = job.process_group.workers
    summary, code = fit(job, run)
    assert summary["status"] == "interrupted"
    assert code > 128
    assert run.load_checkpoint()["gan_lab"]["step"] == summary["steps"] < 100000
    assert others == []


@pytest.mark.slow
def test_numbers_that_blow_up_stop_all(tmp_path):
    job, run = training(tmp_path / "run", *DDP, "steps=1000", "devices=2", "optim.lr=1e30", "norm=none")
    with pytest.raises(RunError, match="NaN or infinity"):
        fit(job, run)
    assert run.read_summary()["status"] == "failed"


@pytest.mark.slow
def test_two_nodes_are_two_commands(tmp_path):
    port = "29511"
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": str(ROOT)}
    settings = [*DDP, "steps=5", "num_nodes=2", f"hydra.run.dir={tmp_path / 'run'}"]
    train = [sys.executable, str(ROOT / "train.py"), *settings]
    first = subprocess.Popen(train, cwd=tmp_path, env={**os.environ, **place}, stdout=subprocess.PIPE)
    while not (tmp_path / "run" / "config.yaml").exists():
        time.sleep(0.2)
    node = {**os.environ, **place, "NODE_RANK": "1"}
    second = subprocess.run(
        [sys.executable, "-m", "gan_lab.commands.ddp_worker", str(tmp_path / "run")], env=node, timeout=100
    )
    assert (first.wait(60), second.returncode) == (0, 0)
    assert b"in each of 2 processes" in first.stdout.read()
    alone, run = training(tmp_path / "one", *DDP, "steps=5")
    fit(alone, run)
    weights = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert max((a - weights[name]).abs().max() for name, a in alone.module.state_dict().items()) < 1e-6


@pytest.mark.slow
def test_jobs_of_a_sweep_each_have_their_processes(tmp_path):
    judged = [each for each in DDP if each != "~callbacks.verdict"] + ["dataset=ring", "callbacks.verdict.samples=200"]
    settings = (*judged, "steps=4", "devices=2", "seed=0,1", "hydra.sweep.dir=sweep")
    done = command("train.py", "-m", *settings, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    jobs = sorted((tmp_path / "sweep").glob("*/summary.json"))
    assert len(jobs) == 2
    assert len(list(tmp_path.rglob("config.yaml"))) == 2 + len(list(tmp_path.rglob(".hydra/config.yaml")))


@pytest.mark.slow
def test_helpers_end_when_the_one_that_started_them_is_killed(tmp_path):
    settings = [
        *DDP,
        "steps=1000000",
        "devices=2",
        f"hydra.run.dir={tmp_path / 'run'}",
        "callbacks.checkpoint.every=10",
    ]
    first = subprocess.Popen([sys.executable, str(ROOT / "train.py"), *settings], cwd=tmp_path)
    while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.2)
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    assert children
    first.kill()
    first.wait()
    until = time.monotonic() + 40
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < until:
        time.sleep(0.5)
    assert not any(Path(f"/proc/{child}").exists() for child in children)
