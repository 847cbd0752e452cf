"""The time of a training, over the parts of an interrupted one."""

import time

import pytest

from gan_lab.training.callbacks.clock import Clock


@pytest.fixture
def processor(monkeypatch):
    """Lets the processor's clock show what the test says."""
    shown = {"seconds": 100.0}
    monkeypatch.setattr(time, "process_time", lambda: shown["seconds"])
    return shown


def test_processor_time_is_counted_over_all_parts_and_not_in_between(processor):
    first = Clock()
    assert first.processor_seconds() == 0
    first.on_train_start(None, None)
    processor["seconds"] = 107.0
    checkpoint = first.state_dict()
    assert checkpoint["processor_seconds"] == 7
    processor["seconds"] = 108.0
    first.on_train_end(None, None)
    processor["seconds"] = 150.0
    assert first.processor_seconds() == 8, "what comes after the last step is no training"

    # Another process goes on from the checkpoint; its own clock begins anew.
    processor["seconds"] = 3.0
    second = Clock()
    second.load_state_dict(checkpoint)
    second.on_train_start(None, None)
    processor["seconds"] = 5.5
    assert second.processor_seconds() == 9.5


def test_a_pause_is_left_out_and_processor_time_stays(processor):
    clock = Clock()
    clock.load_state_dict({"time_elapsed": {"train": 2.0}, "processor_seconds": 4.0})
    clock.leave_out(0.5)
    assert (clock.time_elapsed("train"), clock.processor_seconds()) == (1.5, 4)


def test_processor_time_is_unknown_after_a_checkpoint_of_an_earlier_version(processor):
    clock = Clock()
    clock.load_state_dict({"time_elapsed": {"train": 2.0}})
    clock.on_train_start(None, None)
    assert clock.processor_seconds() is None
    assert clock.is_valid()
    assert clock.state_dict()["processor_seconds"] is None


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["train", "processor"])
def test_a_damaged_clock_is_noticed(name, seconds):
    clock = Clock()
    assert clock.is_valid()
    times = {"train": 1.0, "processor": 1.0, name: seconds}
    clock.load_state_dict({"time_elapsed": {"train": times["train"]}, "processor_seconds": times["processor"]})
    assert not clock.is_valid()
