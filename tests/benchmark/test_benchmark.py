"""The frame against a clock that is known, storage's contestants against the images; what is written."""

import json
import os
import runpy
import sys

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, compose
from omegaconf import OmegaConf

from gan_lab.benchmark import contest, replicas, step, storage
from gan_lab.benchmark.contest import Contest
from gan_lab.data.color import patches


class Clock:
    """Stands for `time`: it goes on by what the contestants say they took, from some turn on by twice that."""

    def __init__(self, slow_from: int = 10**6):
        self.now, self.turns, self.slow_from = 0.0, [], slow_from

    def perf_counter(self) -> float:
        return self.now

    def contestant(self, name: str, each: float):
        def play(n: int) -> None:
            self.turns.append((name, n))
            self.now += n * each * (2 if len(self.turns) > self.slow_from else 1)

        return play


def _held(monkeypatch, clock: Clock, rounds: int, step: int = 1):
    monkeypatch.setattr(contest, "time", clock)
    play = {"slow": clock.contestant("slow", 4e-3), "quick": clock.contestant("quick", 1e-3)}
    (result,) = contest.hold([Contest("reading", "images", play, ["slow"], step)], rounds)
    return result


def test_rates_and_ratios_are_those_of_the_clock(monkeypatch):
    result = _held(monkeypatch, Clock(), 3)
    assert result.rates == {"slow": pytest.approx([250] * 3), "quick": pytest.approx([1000] * 3)}
    assert result.ratios("quick", "slow") == pytest.approx([4] * 3)
    assert result.ratios("slow", "slow") == [1] * 3


def test_contestants_take_turns_every_other_round_backwards(monkeypatch):
    clock = Clock()
    _held(monkeypatch, clock, 4, step=64)
    names = [name for name, _ in clock.turns]
    assert names[-8:] == ["slow", "quick", "quick", "slow", "slow", "quick", "quick", "slow"]
    assert all(n % 64 == 0 for _, n in clock.turns)
    assert {name: n * each for (name, n), each in zip(clock.turns[-2:], (1e-3, 4e-3), strict=True)} == {
        "quick": pytest.approx(0.1, abs=0.064),
        "slow": pytest.approx(0.256),
    }


def test_ratios_hold_when_the_machine_slows_down_in_between(monkeypatch):
    clock = Clock()
    _held(monkeypatch, clock, 5)
    warming = len(clock.turns) - 10
    result = _held(monkeypatch, Clock(slow_from=warming + 4), 5)
    assert result.rates["quick"] == pytest.approx([1000, 1000, 500, 500, 500])
    assert result.ratios("quick", "slow") == pytest.approx([4] * 5)


def test_the_table_has_medians_ranges_and_ratios():
    play = {"a": print, "b": print}
    result = contest.Result(Contest("reading", "images", play, ["a"]), {"a": [100, 300, 200], "b": [1000, 1500, 2600]})
    lines = contest.describe([result], {"Size, MB": {"a": 12.34}}).splitlines()
    assert lines[1] == "reading, median of 3 rounds"
    assert lines[3].split() == ["a", "200", "100", "–", "300", "1"]
    assert lines[4].split() == ["b", "1,500", "1,000", "–", "2,600", "10"], "the rounds' ratios are 10, 5 and 13"
    assert lines[-1].split() == ["a", "12.3"]


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """The images, and for each way to read them its layouts' functions."""
    folder = tmp_path_factory.mktemp("storage")
    pixels = patches(64, 20).train.values.movedim(1, -1).contiguous().numpy()
    sizes = storage._written(folder, pixels)
    return pixels, storage._readers(folder, pixels), sizes, folder


def _bytes(found) -> np.ndarray:
    """As (…, H, W, 3); the part that is held in memory has channels first."""
    found = np.asarray(found)
    return found if found.shape[-1] == 3 else np.moveaxis(found, -3, -1)


def test_all_contestants_read_the_same_images(read):
    pixels, (one, many, floats), *_ = read
    assert one.keys() == many.keys() == floats.keys()
    assert len(one) == 10
    batch = torch.tensor([19, 3, 3, 0])
    parts = (storage.GZIP, storage.STREAMED, storage.HELD)
    for name in one:
        single = _bytes(one[name](batch[1:2] if name in parts else 3)).reshape(64, 64, 3)
        assert single.dtype == np.uint8
        assert np.array_equal(single, pixels[3]), name
        several = _bytes(many[name](batch))
        assert several.dtype == np.uint8
        assert np.array_equal(several, pixels[batch.numpy()]), name
        for_training = floats[name](batch)
        assert (for_training.dtype, for_training.is_contiguous()) == (torch.float32, True)
        expected = torch.tensor(pixels[batch.numpy()].transpose(0, 3, 1, 2) / 255, dtype=torch.float32)
        torch.testing.assert_close(for_training, expected, msg=name)


def test_what_is_read_is_no_view(read):
    """A memory map that is only pointed to has read nothing."""
    pixels, (one, many, _), *_ = read
    for name in (storage.MAPPED, storage.NPY, storage.ARRAY):
        for found in (one[name](3), many[name](torch.tensor([1, 2]))):
            assert not np.shares_memory(found, pixels)
            while found.base is not None:
                found = found.base
            assert isinstance(found, np.ndarray), f"{name}: not a file's pages"


def test_sizes_are_those_on_disk(read):
    pixels, _, sizes, folder = read
    assert sizes[storage.ZIP] == os.path.getsize(folder / "png.zip")
    assert sizes[storage.FOLDER] == sum(os.path.getsize(folder / "png" / f"{n}.png") for n in range(20))
    alone = pixels.nbytes * 21 / 20  # one of them is held out, too
    assert alone < sizes["HDF5 packed"] < alone + 20_000
    assert sizes[storage.GZIP] < pixels.nbytes


def test_the_command_leaves_table_chart_and_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(contest, "SECONDS", 0)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "rounds=2", "images=100"])
    runpy.run_path(str(ROOT / "scripts" / "benchmark.py"), run_name="__main__")
    (folder,) = (tmp_path / "outputs" / "benchmark").iterdir()
    assert folder.name.startswith("storage_")
    assert {path.name for path in folder.iterdir()} == {"storage.txt", "storage.png", "storage.json"}
    content = json.loads((folder / "storage.json").read_text())
    assert (folder / "storage.txt").read_text().strip() in capsys.readouterr().out
    assert content["environment"].keys() >= {"python", "torch", "numpy", "h5py", "cores", "load", "git", "threads"}
    for each in content["contests"][:3]:
        rates = each["rates"][storage.HELD]
        assert len(rates) == 2
        expected = np.median(np.divide(rates, each["rates"][storage.FOLDER]))
        assert each["ratios"][storage.FOLDER][storage.HELD] == pytest.approx(expected)


def _table(tmp_path, monkeypatch, *arguments: str) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "rounds=1", "seconds=0.01", "nets=[ring]", *arguments])
    runpy.run_path(str(ROOT / "scripts" / "benchmark.py"), run_name="__main__")
    (table,) = (tmp_path / "outputs" / "benchmark").glob("*/*.txt")
    return table.read_text()


def test_the_step_against_loops_by_hand_and_lightnings(tmp_path, monkeypatch):
    table = _table(tmp_path, monkeypatch, "what=step")
    assert all(f"\n  {name} " in table for name in (step.BY_HAND, step.OURS, step.USUAL))


def test_replicas_against_one_alone_count_every_members_steps(tmp_path, monkeypatch):
    """A clock that stands still but for a second a training: 16 members do 16 times the work."""
    made = []
    monkeypatch.setattr(replicas, "ours", lambda cfg, steps: made.append((cfg.replicas, steps)) or 1.0)
    asked = OmegaConf.load(ROOT / "conf" / "benchmark.yaml")
    asked.nets = ["ring"]
    (race,), _ = replicas.contests(tmp_path, asked, compose)
    assert [race.play[name](320) for name in (replicas.ALONE, "replicas=4", "replicas=16")] == [1.0] * 3
    assert made == [(1, 320), (4, 80), (16, 20)]


@pytest.mark.slow
def test_startup_and_memory(tmp_path, monkeypatch):
    table = _table(tmp_path, monkeypatch, "what=startup", f"cache_dir={ROOT / '.cache' / 'tests'}")
    assert "until the first step of train.py" in table
    assert "training digits" in table


def test_help_names_every_key():
    text = (ROOT / "conf" / "hydra" / "help" / "benchmark.yaml").read_text()
    for key in yaml.safe_load((ROOT / "conf" / "benchmark.yaml").read_text()).keys() - {"defaults", "hydra"}:
        assert f"    {key} " in text
