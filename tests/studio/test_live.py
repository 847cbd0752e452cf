"""A training under the page's orders is the training that it would be without: bit for bit."""

import multiprocessing
import threading
from typing import Any

import numpy as np
import pytest
import torch
from conftest import training

from gan_lab.core.run_folder import Run
from gan_lab.studio.live import Live, Rows
from gan_lab.studio.messages import Glance, Opened, Order, Paused, PhaseReport
from gan_lab.training.phases import PHASE_D_FAKE, PHASE_D_JOINT, PHASE_D_REAL, PHASE_G

STEPS = 30
TINY = ("dataset=ring", "dataset.samples=200", f"steps={STEPS}", "batch_size=8", "latent_dim=2", "log_every=5")
TINY += ("model.generator.hidden=[6]", "model.discriminator.hidden=[5]", "logger=table")
TINY += ("callbacks.verdict.every=10", "callbacks.verdict.samples=110", "~callbacks.pictures", "~callbacks.curves")
RATE = 0.01
AUTOGRAD = ("engine=autograd", "norm=none", f"optim.lr={RATE}")


class _Page:
    """Takes a training's reports in a thread and answers them as a page would.

    Args:
        training: as `conftest.training` builds it.
        phases: so many phases are played one by one in the first pause, before the training goes on.
    """

    def __init__(self, training, run: Run, phases: int, speed: float | None = None):
        self.messages: list[Any] = []
        self._phases = phases
        self._mine, theirs = multiprocessing.Pipe()
        rows = Rows()
        training.trainer.callbacks.insert(0, Live(run, rows, theirs, training.clock, training.stop))
        training.trainer.loggers.append(rows)
        if phases:
            self._mine.send(Order("pause"))
        if speed:
            self._mine.send(Order("speed", speed))
        self._theirs = theirs
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    def _answer(self) -> None:
        left = self._phases
        while True:
            try:
                message = self._mine.recv()
            except EOFError:
                return
            self.messages.append(message)
            if isinstance(message, Paused) and message.is_paused:
                self._mine.send(Order("phase" if left else "go"))
                left -= 1

    def end(self) -> None:
        self._theirs.close()
        self._thread.join()

    def of(self, kind: type) -> list:
        return [message for message in self.messages if isinstance(message, kind)]


def _train(folder, *overrides: str, phases: int = 0, speed: float | None = None):
    job, run = training(folder, *TINY, *overrides)
    page = _Page(job, run, phases, speed)
    job.trainer.fit(job.module, job.datamodule)
    page.end()
    run.release()
    return job, page


def _same(one, other) -> bool:
    pairs = zip(one.module.state_dict().values(), other.module.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def _alone(folder, *overrides: str):
    job, run = training(folder, *TINY, *overrides)
    job.trainer.fit(job.module, job.datamodule)
    run.release()
    return job


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A training that was paused before its first step and played for four phases, and the same without a page."""
    folder = tmp_path_factory.mktemp("live")
    job, page = _train(folder / "watched", *AUTOGRAD, phases=4)
    return job, page, _alone(folder / "alone", *AUTOGRAD), folder


def test_phase_by_phase_trains_the_same(watched):
    """It went on in the middle of the second step."""
    job, page, alone, folder = watched
    assert _same(job, alone)
    reports = page.of(PhaseReport)
    assert [(report.step, report.name) for report in reports] == [
        (1, PHASE_D_REAL),
        (1, PHASE_D_FAKE),
        (1, PHASE_G),
        (2, PHASE_D_REAL),
    ]
    tables = [(folder / name / "metrics.csv").read_bytes() for name in ("watched", "alone")]
    assert tables[0] == tables[1]


def test_a_report_says_which_network_a_phase_moved(watched):
    """S4: phases 1 and 2 update D alone, phase 3 G alone; after phases 1 and 2 D is closer to its target."""
    on_real, on_fakes, of_g, _ = watched[1].of(PhaseReport)
    assert on_real.moved_g == on_fakes.moved_g == of_g.moved_d == 0
    assert of_g.moved_g > 0
    assert on_real.real_after > on_real.real_before
    assert on_fakes.fake_after < on_fakes.fake_before
    # What one phase leaves, the next one finds.
    assert (on_fakes.real_before, on_fakes.fake_before) == (on_real.real_after, on_real.fake_after)


def test_moved_is_the_length_of_the_change_of_the_weights(watched):
    """The first step of Adam moves each weight by its learning rate."""
    job, page, _, _ = watched
    weights = sum(parameter.numel() for parameter in job.module.discriminator.parameters())
    assert page.of(PhaseReport)[0].moved_d == pytest.approx(RATE * weights**0.5, rel=0.02)


def test_glances_show_what_is_trained(watched):
    page = watched[1]
    (opened,) = page.of(Opened)
    assert (opened.kind, opened.modes, opened.steps) == ("points", 8, STEPS)
    assert opened.ideal_d == pytest.approx(np.log(2))
    glances = page.of(Glance)
    assert (glances[0].step, glances[-1].step) == (0, STEPS)
    assert glances[-1].fake.shape == (500, 2)
    assert glances[-1].surface.startswith(b"\x89PNG")
    assert glances[-1].arrows.shape[1] == 4
    steps = [step for glance in glances for step, _ in glance.rows]
    assert steps == list(range(5, STEPS + 1, 5))


@pytest.mark.slow
@pytest.mark.parametrize("phases", [0, 2, 3, 7])
def test_wherever_it_goes_on_it_trains_the_same(tmp_path, watched, phases):
    job, page = _train(tmp_path, *AUTOGRAD, phases=phases)
    assert _same(job, watched[2])
    assert len(page.of(PhaseReport)) == phases


@pytest.mark.slow
def test_with_one_update_of_d_a_step_has_two_phases(tmp_path):
    _, page = _train(tmp_path, *AUTOGRAD, "joint_d_update=true", phases=3)
    assert [report.name for report in page.of(PhaseReport)] == [PHASE_D_JOINT, PHASE_G, PHASE_D_JOINT]


@pytest.mark.slow
def test_the_compiled_step_goes_on_as_if_nobody_had_paused_or_slowed_it(tmp_path):
    job, _ = _train(tmp_path / "watched", "engine=compiled", speed=500.0)
    assert job.module.engine == "compiled"
    assert _same(job, _alone(tmp_path / "alone", "engine=compiled"))


@pytest.mark.slow
def test_single_phases_of_a_compiled_training_are_the_same_up_to_rounding(tmp_path):
    job, page = _train(tmp_path / "watched", "engine=compiled", phases=3)
    alone = _alone(tmp_path / "alone", "engine=compiled")
    assert len(page.of(PhaseReport)) == 3
    for name, value in job.module.state_dict().items():
        torch.testing.assert_close(value, alone.module.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_a_training_stops_when_its_server_has_gone(tmp_path):
    job, run = training(tmp_path, *TINY, "steps=100000")
    mine, theirs = multiprocessing.Pipe()
    mine.close()
    job.trainer.callbacks.insert(0, Live(run, Rows(), theirs, job.clock, job.stop))
    job.trainer.fit(job.module, job.datamodule)
    run.release()
    assert job.module.step < 100000
    assert run.checkpoint.is_file()
