"""The number of threads: by the work of a step, by trials, and kept by the run."""

import runpy
import sys
from types import SimpleNamespace

import joblib
import pytest
import torch
import yaml
from conftest import BARE, OPTIONS, PARTNERS, ROOT, compose, refused, small, training
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf
from torch import nn

from gan_lab.assembly import build
from gan_lab.commands.summary import announce
from gan_lab.commands.train import fit
from gan_lab.config import launchers
from gan_lab.config.types import ValueSpec
from gan_lab.core.run_folder import Run
from gan_lab.training import cpu_threads

pytestmark = pytest.mark.usefixtures("undrawn", "quick_verdict")


def test_the_typical_product_is_the_mean_weighted_by_its_operations():
    networks = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))
    first, second = 2 * 64 * 10 * 20, 2 * 64 * 20 * 5
    expected = (first**2 + second**2) / (first + second)
    assert cpu_threads.typical_product(networks, torch.zeros(2, 10), 64) == pytest.approx(expected)
    kernel = nn.Conv2d(3, 8, 4, stride=2, padding=1)  # 14 × 14 places, each 3·4·4 products for 8 outputs
    images = nn.Sequential(nn.Unflatten(1, (3, 28, 28)), kernel)
    assert cpu_threads.typical_product(images, torch.zeros(2, 3 * 28 * 28), 64) == 2 * 64 * 14 * 14 * 3 * 4 * 4 * 8
    assert cpu_threads.typical_product(nn.ReLU(), torch.zeros(2, 10), 64) == 0


@pytest.mark.parametrize(
    ("flops", "cores", "expected"),
    [(0, 8, 1), (1.9e9, 8, 1), (2e9, 8, 2), (3.9e9, 8, 2), (4e9, 8, 4), (4e9, 3, 2), (1e12, 1, 1), (1e12, 6, 4)],
)
def test_a_thread_for_each_thousand_million_operations_as_far_as_there_are_cores(flops, cores, expected):
    assert cpu_threads.threads_for(flops, lambda: cores) == expected


@pytest.mark.parametrize("option", ["default", *(option for group, option in OPTIONS if group == "experiment")])
def test_small_networks_get_one(little_images, monkeypatch, option):
    monkeypatch.setattr(build, "cores", lambda: 64)
    cfg = compose(f"experiment={option}", *PARTNERS.get(option, ())) if option != "default" else compose()
    build.DryRun(cfg)
    assert cfg.threads == 1


def test_large_ones_get_more_whatever_was_drawn_before(little_images, monkeypatch):
    monkeypatch.setattr(build, "cores", lambda: 64)
    wide = [
        "dataset=mnist",
        "batch_size=512",
        *(f"model.{g}.hidden=[2048,2048]" for g in ("generator", "discriminator")),
    ]
    cfg = compose(*wide)
    try:
        build.DryRun(cfg)
        assert (cfg.threads, torch.get_num_threads()) == (2, 2)  # most of it in products of 2·512·2048² = 4.3e9
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("members", "cores", "limit", "expected"),
    [
        (5, 2, None, 2),
        (2, 64, None, 2),
        (5, 64, "3", 3),
        (5, 64, "3,1", 3),
        (5, 2, "8", 2),
        (5, 64, "1", 1),
        (5, 64, "many", 5),
        (5, 64, "0", 5),
    ],
)
def test_a_thread_for_each_member_as_far_as_there_are_cores_and_the_environment_allows(
    monkeypatch, members, cores, limit, expected
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if limit is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert cpu_threads.threads_for_members(members, lambda: cores) == expected


def test_a_run_with_replicas_says_how_many_threads_share_the_members(tmp_path, monkeypatch):
    """The run keeps `auto`, so that it may go on with another number; torch itself computes with one thread."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(build, "cores", lambda: 2)
    tiny = [*BARE, "dataset=ring", "dataset.samples=50", "model.width=8", "steps=2", "replicas=3"]
    job, run = training(tmp_path / "auto", *tiny)
    assert "compiled step, 2 threads, 3 replicas" in announce(job, run)
    summary, _ = fit(job, run)
    assert summary["environment"]["threads"] == 2
    assert torch.get_num_threads() == 1
    assert yaml.safe_load(run.config.read_text())["threads"] == "auto"
    job, run = training(tmp_path / "number", *tiny, "threads=8")
    assert "compiled step, 3 threads, 3 replicas" in announce(job, run)
    job, run = training(tmp_path / "autograd", *tiny, "engine=autograd")
    assert "autograd step, 1 thread, 3 replicas" in announce(job, run)


def test_trials_find_the_fastest_and_one_slow_moment_changes_nothing():
    seconds = {1: [3, 3, 3], 2: [2, 9, 2], 4: [2, 2, 2.5], 8: [1, 4, 4]}
    tried = []

    def trial(number: int) -> float:
        tried.append(number)
        return seconds[number].pop(0)

    assert cpu_threads.fastest(trial, [4, 1, 8, 2]) == 2
    assert tried == [1, 2, 4, 8] * 3
    assert cpu_threads.candidates(1) == [1]
    assert cpu_threads.candidates(11) == [1, 2, 4, 8]


def test_trials_leave_the_training_as_it_is(tmp_path, monkeypatch):
    overrides = [*small("logger", "table"), "steps=5", "+activation.inplace=false", "log_every=1"]
    fit(*training(tmp_path / "plain", *overrides, "threads=1"))
    tried = []

    def fastest(seconds, numbers):
        tried.extend([seconds(1), seconds(1), *numbers])
        return 1

    monkeypatch.setattr(cpu_threads, "fastest", fastest)
    monkeypatch.setattr(cpu_threads, "TRIAL_SECONDS", 0.01)
    monkeypatch.setattr(build, "cores", lambda: 3)
    fit(*training(tmp_path / "tuned", *overrides, "threads=tune"))
    assert tried[2:] == [1, 2]
    assert all(second > 0 for second in tried[:2])
    assert (tmp_path / "tuned" / "metrics.csv").read_bytes() == (tmp_path / "plain" / "metrics.csv").read_bytes()


def _train(monkeypatch, *overrides: str) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *overrides])
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")


@pytest.mark.slow
def test_a_run_keeps_to_its_number_on_any_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cpu_threads, "FLOPS_PER_THREAD", 1e3)
    monkeypatch.setattr(build, "cores", lambda: 2)
    try:
        run = Run(tmp_path / "run")
        bare = [*small("logger", "table"), "~callbacks.verdict", "~callbacks.pictures", "~callbacks.curves"]
        short = [value for value in bare if "callbacks.verdict." not in value and "callbacks.pictures." not in value]
        _train(monkeypatch, *short, "steps=2", f"hydra.run.dir={run.folder}")
        assert ", 2 threads" in capsys.readouterr().out
        assert yaml.safe_load(run.config.read_text())["threads"] == 2
        monkeypatch.setattr(build, "cores", lambda: 1)
        _train(monkeypatch, f"resume={run.folder}", "steps=4")
        assert run.read_summary()["environment"]["threads"] == 2
        assert yaml.safe_load(run.config.read_text())["threads"] == 2
        build.load(run)
        assert torch.get_num_threads() == 2
        with refused("conflict", "threads"):
            build.load(run, threads="tune")
        _train(monkeypatch, f"resume={run.folder}", "steps=5", "threads=auto")
        assert run.read_summary()["environment"]["threads"] == 1
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        ({"n_jobs": -1}, 1),
        ({"n_jobs": 4}, 3),
        ({"n_jobs": 99}, 1),
        ({"n_jobs": -3}, 1),
        ({"cpus_per_task": 5}, 5),
        ({"ray": {"remote": {"num_cpus": 2}}}, 2),
        ({}, 12),
    ],
)
def test_jobs_side_by_side_share_the_cores(monkeypatch, launcher, expected):
    monkeypatch.setattr(joblib, "cpu_count", lambda **_: 12)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", OmegaConf.create({"hydra": {}}))
    job = SimpleNamespace(mode=RunMode.MULTIRUN, launcher=OmegaConf.create(launcher))
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: job))
    assert launchers.cores() == expected
    job.mode = RunMode.RUN
    assert launchers.cores() == 12


def test_what_threads_may_be():
    rule = ValueSpec(int, low=1, high=8, among=("auto", "tune"))
    assert [rule.fits(value) for value in (1, "auto", "tune", 0, "fast", 9, True, None, 1.5)] == [True] * 3 + [
        False
    ] * 6
    assert str(rule) == "a whole number ≥ 1 and ≤ 8 or auto or tune"
