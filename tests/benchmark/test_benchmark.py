"""Timing with a simulated clock, storage's readers against the images, and what the command writes."""

import json
import os
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, compose
from omegaconf import OmegaConf

from gan_lab.benchmark import replicas, step, storage, timing
from gan_lab.benchmark.timing import Benchmark


class Clock:
    """Replaces the module `time`: only candidates advance it, from a certain turn on at half speed."""

    def __init__(self, slow_from: int = 10**6):
        self.now = 0.0
        self.turns = []
        self.slow_from = slow_from

    def perf_counter(self) -> float:
        return self.now

    def candidate(self, name: str, seconds_per_unit: float):
        def work(n: int) -> None:
            self.turns.append((name, n))
            slowdown = 2 if len(self.turns) > self.slow_from else 1
            self.now += n * seconds_per_unit * slowdown

        return work


def measure(monkeypatch, clock: Clock, rounds: int, multiple: int = 1):
    monkeypatch.setattr(timing, "time", clock)
    candidates = {"slow": clock.candidate("slow", 4e-3), "quick": clock.candidate("quick", 1e-3)}
    (result,) = timing.run_benchmarks([Benchmark("reading", "images", candidates, ["slow"], multiple)], rounds)
    return result


def test_rates_and_ratios_are_those_of_the_clock(monkeypatch):
    result = measure(monkeypatch, Clock(), 3)
    assert result.rates == {"slow": pytest.approx([250] * 3), "quick": pytest.approx([1000] * 3)}
    assert result.ratios("quick", "slow") == pytest.approx([4] * 3)
    assert result.ratios("slow", "slow") == [1] * 3


def test_candidates_take_turns_every_other_round_backwards(monkeypatch):
    clock = Clock()
    measure(monkeypatch, clock, 4, multiple=64)
    names = [name for name, _ in clock.turns]
    assert names[-8:] == ["slow", "quick", "quick", "slow", "slow", "quick", "quick", "slow"]
    assert all(n % 64 == 0 for _, n in clock.turns)
    (quick, quick_units), (slow, slow_units) = clock.turns[-2:]
    assert (quick, slow) == ("quick", "slow")
    assert quick_units * 1e-3 == pytest.approx(0.1, abs=0.064)
    assert slow_units * 4e-3 == pytest.approx(0.256)


def test_ratios_hold_when_the_machine_slows_down_in_between(monkeypatch):
    clock = Clock()
    measure(monkeypatch, clock, 5)
    warming = len(clock.turns) - 10
    result = measure(monkeypatch, Clock(slow_from=warming + 4), 5)
    assert result.rates["quick"] == pytest.approx([1000, 1000, 500, 500, 500])
    assert result.ratios("quick", "slow") == pytest.approx([4] * 5)


def test_the_table_has_medians_ranges_and_ratios():
    benchmark = Benchmark("reading", "images", {"a": print, "b": print}, ["a"])
    result = timing.BenchmarkResult(benchmark, {"a": [100, 300, 200], "b": [1000, 1500, 2600]})
    lines = timing.describe([result], {"Size, MB": {"a": 12.34}}).splitlines()
    assert lines[1] == "reading, median of 3 rounds"
    assert lines[3].split() == ["a", "200", "100", "–", "300", "1"]
    assert lines[4].split() == ["b", "1,500", "1,000", "–", "2,600", "10"], "the rounds' ratios are 10, 5 and 13"
    assert lines[-1].split() == ["a", "12.3"]


def test_the_chart_has_dots_and_ranges_and_no_bars_on_its_logarithmic_axis():
    benchmark = Benchmark("reading", "images", {"a": print, "b": print}, ["a"])
    (axes,) = timing.chart([timing.BenchmarkResult(benchmark, {"a": [100, 300, 200], "b": [1000, 1500, 2600]})]).axes
    (dots,) = axes.get_lines()
    assert dots.get_xydata().tolist() == [[200, 0], [1500, 1]]
    assert [segment[:, 0].tolist() for segment in axes.collections[0].get_segments()] == [[100, 300], [1000, 2600]]
    assert not axes.patches
    assert axes.get_xscale() == "log"


@dataclass
class Layouts:
    """Images in all layouts: the pixels `(N, H, W, 3)`, their files, the sizes of these, and the readers."""

    pixels: np.ndarray
    folder: Path
    sizes: dict[str, int]
    readers: storage.Readers


@pytest.fixture(scope="module")
def layouts(tmp_path_factory) -> Layouts:
    folder = tmp_path_factory.mktemp("storage")
    pixels = storage.example_images(20)
    sizes = storage.write_layouts(folder, pixels)
    return Layouts(pixels, folder, sizes, storage.open_readers(folder, pixels))


def channels_last(images) -> np.ndarray:
    """As (…, H, W, 3); the part that is held in memory has channels first."""
    images = np.asarray(images)
    return images if images.shape[-1] == 3 else np.moveaxis(images, -3, -1)


def test_all_readers_read_the_same_images(layouts):
    pixels, readers = layouts.pixels, layouts.readers
    assert readers.single.keys() == readers.batch.keys() == readers.training_batch.keys()
    assert len(readers.single) == 10
    indices = torch.tensor([19, 3, 3, 0])
    for name in readers.single:
        index = indices[1:2] if name in readers.by_tensor else 3
        single = channels_last(readers.single[name](index)).reshape(64, 64, 3)
        assert single.dtype == np.uint8
        assert np.array_equal(single, pixels[3]), name
        batch = channels_last(readers.batch[name](indices))
        assert batch.dtype == np.uint8
        assert np.array_equal(batch, pixels[indices.numpy()]), name
        training_batch = readers.training_batch[name](indices)
        assert (training_batch.dtype, training_batch.is_contiguous()) == (torch.float32, True)
        expected = torch.tensor(pixels[indices.numpy()].transpose(0, 3, 1, 2) / 255, dtype=torch.float32)
        torch.testing.assert_close(training_batch, expected, msg=name)


def test_readers_return_copies(layouts):
    """A view of a memory map has read nothing."""
    for name in (storage.MAPPED, storage.NPY, storage.ARRAY):
        single = layouts.readers.single[name](3)
        batch = layouts.readers.batch[name](torch.tensor([1, 2]))
        for array in (single, batch):
            assert not np.shares_memory(array, layouts.pixels)
            while array.base is not None:
                array = array.base
            assert isinstance(array, np.ndarray), f"{name}: not a file's pages"


def test_sizes_are_those_on_disk(layouts):
    pixels, sizes, folder = layouts.pixels, layouts.sizes, layouts.folder
    assert sizes[storage.ZIP] == os.path.getsize(folder / "png.zip")
    assert sizes[storage.FOLDER] == sum(os.path.getsize(folder / "png" / f"{n}.png") for n in range(20))
    raw = pixels.nbytes * 21 / 20  # one of them is held out as well
    assert raw < sizes[storage.PACKED] < raw + 20_000
    assert sizes[storage.GZIP] < pixels.nbytes


@pytest.mark.slow
def test_the_command_leaves_table_chart_and_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timing, "SECONDS", 0)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "rounds=2", "images=100"])
    runpy.run_path(str(ROOT / "scripts" / "benchmark.py"), run_name="__main__")
    (folder,) = (tmp_path / "outputs" / "benchmark").iterdir()
    assert folder.name.startswith("storage_")
    assert {path.name for path in folder.iterdir()} == {"storage.txt", "storage.png", "storage.json"}
    content = json.loads((folder / "storage.json").read_text())
    assert (folder / "storage.txt").read_text().strip() in capsys.readouterr().out
    assert content["environment"].keys() >= {"python", "torch", "numpy", "h5py", "cores", "load", "git", "threads"}
    for benchmark in content["benchmarks"][:3]:
        rates = benchmark["rates"][storage.IN_MEMORY]
        assert len(rates) == 2
        expected = np.median(np.divide(rates, benchmark["rates"][storage.FOLDER]))
        assert benchmark["ratios"][storage.FOLDER][storage.IN_MEMORY] == pytest.approx(expected)


def table_of(tmp_path, monkeypatch, *arguments: str) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "rounds=1", "seconds=0.01", "nets=[ring]", *arguments])
    runpy.run_path(str(ROOT / "scripts" / "benchmark.py"), run_name="__main__")
    (table,) = (tmp_path / "outputs" / "benchmark").glob("*/*.txt")
    return table.read_text()


@pytest.mark.slow
def test_the_step_against_a_hand_written_loop_and_lightnings(tmp_path, monkeypatch):
    table = table_of(tmp_path, monkeypatch, "what=step")
    names = (step.HAND_WRITTEN, step.AUTOGRAD, step.COMPILED, step.LIMIT, step.LIGHTNING)
    assert all(f"\n  {name} " in table for name in names)


def test_replicas_count_every_members_steps(tmp_path, monkeypatch):
    """If every training takes a second, 16 replicas do 16 times the work in it."""
    trainings = []

    def time_training(cfg, steps: int) -> float:
        trainings.append((cfg.replicas, cfg.threads, steps))
        return 1.0

    monkeypatch.setattr(replicas, "time_gan_lab", time_training)
    cfg = OmegaConf.load(ROOT / "conf" / "benchmark.yaml")
    cfg.nets = ["ring"]
    cfg.threads = 2
    (benchmark,), _ = replicas.benchmarks(tmp_path, cfg, compose)
    assert [work(320) for work in benchmark.candidates.values()] == [1.0] * 7
    assert list(benchmark.candidates)[:3] == [replicas.SINGLE, "replicas=2 threads=1", "replicas=2 threads=2"]
    numbers = [(2, 160), (5, 64), (16, 20)]
    assert trainings == [(1, 1, 320), *((k, threads, steps) for k, steps in numbers for threads in (1, 2))]


@pytest.mark.slow
def test_startup_and_memory(tmp_path, monkeypatch):
    table = table_of(tmp_path, monkeypatch, "what=startup", f"cache_dir={ROOT / '.cache' / 'tests'}")
    assert "until the first step of train.py" in table
    assert "training digits" in table
