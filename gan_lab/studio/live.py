"""The callback with which a training obeys the page and reports to it."""

import math
import time
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn

from gan_lab.core.io import relative_path
from gan_lab.core.rng import make_generator
from gan_lab.core.run_folder import Run
from gan_lab.data.datamodule import BatchStream
from gan_lab.data.dataset import Dataset, choose
from gan_lab.evaluation.verdict import VerdictEvaluator
from gan_lab.plotting.samples import image_grid, window_of
from gan_lab.plotting.surfaces import ANSWER_COLOURS, Window, arrow_lengths, colour_limits
from gan_lab.studio.drawing import png_file
from gan_lab.studio.messages import Array, Glance, Message, Opened, Order, Paused, PhaseReport
from gan_lab.training.callbacks.base import GANCallback, datamodule_of, find_callback
from gan_lab.training.callbacks.checkpoints import StopOnSignal
from gan_lab.training.callbacks.clock import Clock
from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.gan_module import GANModule
from gan_lab.training.landscape import compute_landscape, refusal
from gan_lab.training.sampling import score_samples
from gan_lab.training.step_log import RECORDED

PERIOD = 0.22  # seconds between two glances, at least
MAX_SHARE = 0.06  # of the training's time that glances take, at most
POLL_SECONDS = 0.1  # after which a paused training looks for signals
BLOCK_SECONDS = 0.1  # of a block of steps where the speed is limited

MAX_ROWS = 10  # of the log in a glance
COUNTED = 1_000  # samples in which modes are counted
SHOWN_POINTS = 500
SHOWN_ARROWS = 60
SHOWN_IMAGES = 64
SHOWN_VECTORS = 16
SCORED = 256  # samples of each side that D answers, before and after a phase


class Live(GANCallback):
    """Sends glances of a training at a limited rate, and pauses, slows or stops it as the page orders.

    It draws random numbers from streams of its own, and stops only between blocks of steps, so training is the same to
    the bit with or without it. One phase at a time is played by autograd, which the compiled step equals up to
    rounding.

    Of several replicas it shows the first.

    Args:
        run: the run.
        rows: collects the rows of the log.
        connection: to the server. If the server has gone, the training stops with a checkpoint.
        clock: of the training, which pauses don't count for.
        stop: knows whether a signal is to stop the training.
    """

    def __init__(self, run: Run, rows: "Rows", connection: Connection, clock: Clock, stop: StopOnSignal):
        self.run = run
        self.rows = rows
        self.connection = connection
        self.clock = clock
        self.stop = stop
        self._is_paused = False
        self._is_stopped = False
        self._phases_due = 0
        self._steps_per_second: float | None = None
        self._next_glance = 0.0

    def on_training_start(self, trainer: pl.Trainer, module: GANModule) -> None:
        self._stream = cast(BatchStream, trainer.train_dataloader)
        self._max_steps: int = self._stream.max_steps
        self.dataset: Dataset = datamodule_of(trainer).dataset
        evaluation = find_callback(trainer, Evaluation)
        self.evaluator: VerdictEvaluator | None = evaluation.evaluator if evaluation else None
        self.kind = _kind_of(self.dataset)
        self.window = window_of(self.dataset) if self.kind == "points" else None
        self.z = module.latent((COUNTED, module.latent_dim), make_generator(module.seed, "studio/latent"))
        indices = choose(self.dataset.train, SHOWN_POINTS, make_generator(module.seed, "studio/real"))
        self.real = self.dataset.train[indices]
        self.real_labels = self.dataset.train.labels_of(indices) if module.classes else None
        loss = module.loss
        self._send(
            Opened(
                folder=str(relative_path(self.run.folder)),
                step=module.step,
                steps=module.steps,
                kind=self.kind,
                modes=len(self.evaluator.shares) if self.evaluator else 0,
                real=self._shown(self.real),
                window=self.window or (),
                ideal_d=loss.loss_at_optimum,
                ideal_g=loss.g_loss_at_optimum,
                ideal_answer=loss.d_output_at_optimum,
                is_probability=loss.d_output_is_probability,
            )
        )
        self._send_glance(module)
        self._obey(module)

    def on_block_start(self, trainer: pl.Trainer, module: GANModule) -> None:
        self._block_started = time.monotonic()
        self._step_at_start = module.step

    def on_block_end(self, trainer: pl.Trainer, module: GANModule) -> None:
        module.phase_hooks.clear()
        self._slow_down(trainer, module)
        now = time.monotonic()
        if now >= self._next_glance:
            self._send_glance(module)
            cost = time.monotonic() - now
            self._next_glance = now + max(PERIOD, cost / MAX_SHARE)
        self._obey(module)
        if self._is_stopped:
            trainer.should_stop = True

    def on_training_end(self, trainer: pl.Trainer, module: GANModule) -> None:
        self._send_glance(module)

    def _obey(self, module: GANModule) -> None:
        """Carries out the orders that have come; while paused it waits here.

        A training that is to stop before its first block of steps plays that one, as after a signal: there is no
        checkpoint without.
        """
        self._receive()
        if self._is_paused and not self._is_stopped:
            self._send_glance(module)
            self._wait()
        if self._phases_due:
            watch = _PhaseWatch(module, self.z[:SCORED], self.real[:SCORED], self.real_labels)
            module.phase_hooks.append(lambda name: self._end_phase(module, watch, name))

    def _end_phase(self, module: GANModule, watch: "_PhaseWatch", name: str) -> None:
        """Reports a phase that was played, and waits in the middle of the step for what comes next."""
        if not self._is_paused or self._is_stopped:
            # The rest of the block.
            return
        self._send(watch.report(name))
        self._send_glance(module)
        self._phases_due -= 1
        if self._phases_due < 1:
            self._wait()

    def _wait(self) -> None:
        """Waits until the training is to go on, to play a phase or to stop."""
        paused_at = time.monotonic()
        self._send(Paused(True))
        while self._is_paused and not self._phases_due and not self._is_stopped and self.stop.signal is None:
            self._receive(POLL_SECONDS)
        if not self._is_paused:
            self._send(Paused(False))
        # A pause is no time of training.
        self.clock.leave_out(time.monotonic() - paused_at)

    def _slow_down(self, trainer: pl.Trainer, module: GANModule) -> None:
        """Waits after a block of steps as long as the speed asks for."""
        if self._steps_per_second is None:
            return
        due = self._block_started + (module.step - self._step_at_start) / self._steps_per_second
        while time.monotonic() < due and self._steps_per_second is not None and not self._is_paused:
            if self._is_stopped or self.stop.signal is not None:
                return
            self._receive(min(POLL_SECONDS, max(0.0, due - time.monotonic())))

    def _receive(self, timeout: float = 0.0) -> None:
        """Takes over the orders that have come, and waits for the first so many seconds."""
        try:
            while self.connection.poll(timeout):
                timeout = 0.0
                self._take(self.connection.recv())
        except (EOFError, OSError):
            # The server has gone.
            self._is_stopped = True

    def _take(self, order: Order) -> None:
        if order.action == "pause":
            self._is_paused = True
        elif order.action == "go":
            self._is_paused = False
            self._phases_due = 0
        elif order.action == "phase" and self._is_paused:
            self._phases_due += 1
        elif order.action == "stop":
            self._is_stopped = True
        elif order.action == "speed":
            self._set_speed(order.steps_per_second)

    def _set_speed(self, steps_per_second: float | None) -> None:
        """Limits the speed, and makes blocks of steps so short that a slow training moves evenly."""
        self._steps_per_second = steps_per_second
        self._stream.max_steps = self._max_steps
        if steps_per_second is not None:
            self._stream.max_steps = max(1, min(self._max_steps, int(steps_per_second * BLOCK_SECONDS)))

    def _send(self, message: Message) -> None:
        # Without a server the next poll stops the training.
        with suppress(OSError):
            self.connection.send(message)

    def _send_glance(self, module: GANModule) -> None:
        """Sends how the training stands."""
        member = module.member(0)
        samples = member.sample(self.z).float().cpu()
        modes_made = None
        collapse = "unknown"
        if self.evaluator is not None:
            metrics, collapse = self.evaluator.glance(samples)
            if len(self.evaluator.shares):
                modes_made = int(metrics.get("modes_valid") or 0)
        glance = Glance(
            step=module.step,
            rows=self.rows.take(),
            fake=self._shown(samples),
            modes_made=modes_made,
            collapse=collapse,
            seconds=self.clock.time_elapsed("train"),
        )
        if self.window and not refusal(member):
            glance = self._with_surface(glance, member, self.window)
        self._send(glance)

    def _with_surface(self, glance: Glance, member: GANModule, window: Window) -> Glance:
        """Adds D's answers over the plane, and arrows."""
        landscape = compute_landscape(member, window, self.z[:SHOWN_ARROWS], self.real)
        answers = landscape.answers.numpy()
        if not landscape.scale.is_absolute:
            answers = answers - landscape.scale.neutral
        colours = ANSWER_COLOURS(colour_limits(landscape.scale)(answers), bytes=True)
        left, right, _, _ = landscape.window
        arrows = torch.cat([landscape.starts, arrow_lengths(landscape.pulls, right - left)], 1)
        # Rows of a picture begin at the top.
        return replace(glance, surface=png_file(colours[::-1, :, :3]), arrows=arrows.numpy())

    def _shown(self, samples: Tensor) -> "Array | bytes":
        """Returns what the page shows of samples `(n, *shape)`; see `Glance.fake`."""
        if self.kind == "points":
            return samples[:SHOWN_POINTS].numpy()
        if self.kind == "vectors":
            return samples[:SHOWN_VECTORS].numpy()
        grid = image_grid(samples[:SHOWN_IMAGES])
        return png_file((grid * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


class Rows(Logger):
    """Collects the rows of a training's log until they are sent."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[tuple[int, dict[str, float]]] = []

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        # Of an evaluation, which has a row of its own, the page counts modes itself.
        if step is not None and RECORDED[0] in metrics:
            self._rows.append((step, {name: metrics[name] for name in RECORDED}))

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Does nothing: the page knows the settings."""

    def take(self) -> list[tuple[int, dict[str, float]]]:
        """Returns steps and rows since the last time, at most MAX_ROWS, evenly spread, and the newest."""
        rows = self._rows
        self._rows = []
        stride = max(1, math.ceil(len(rows) / MAX_ROWS))
        return rows[::-1][::stride][::-1]


class _PhaseWatch:
    """Measures what each phase changes.

    Args:
        module: the GAN; of several replicas the first is asked for its answers, and all count as moved.
        z: latent vectors `(n, latent_dim)` of the fakes that D is asked about.
        real: real samples `(m, *shape)`.
        real_labels: their labels, for a conditional GAN.
    """

    def __init__(self, module: GANModule, z: Tensor, real: Tensor, real_labels: Tensor | None):
        self.module = module
        self.z = z
        self.real = real
        self.real_labels = None if real_labels is None else real_labels[: len(real)]
        self._remember()

    def report(self, name: str) -> PhaseReport:
        """Returns what has changed since the last phase."""
        weights_d = self._weights_d
        weights_g = self._weights_g
        real = self._real
        fake = self._fake
        self._remember()
        return PhaseReport(
            step=self.module.step + 1,
            name=name,
            moved_d=(self._weights_d - weights_d).norm().item(),
            moved_g=(self._weights_g - weights_g).norm().item(),
            real_before=real,
            real_after=self._real,
            fake_before=fake,
            fake_after=self._fake,
        )

    def _remember(self) -> None:
        self._weights_d = _weights_of(self.module.discriminator)
        self._weights_g = _weights_of(self.module.generator)
        member = self.module.member(0)
        self._real = self._answer(member, self.real, self.real_labels)
        self._fake = self._answer(member, _raw_samples(member, self.z), member.target_labels(self.z))

    @staticmethod
    def _answer(member: GANModule, samples: Tensor, labels: Tensor | None) -> float:
        """Returns D's mean answer to samples."""
        scores = score_samples(member, samples, labels)
        return member.loss.d_output(scores).mean().item()


@torch.no_grad()
def _weights_of(network: nn.Module) -> Tensor:
    """Returns a copy of all weights in one vector."""
    return torch.cat([parameter.flatten() for parameter in network.parameters()])


@torch.no_grad()
def _raw_samples(member: GANModule, z: Tensor) -> Tensor:
    """Returns the samples of G itself, even where an average of its weights makes the samples of the run."""
    was_training = member.generator.training
    member.generator.eval()
    try:
        return member.generator(z.to(member.device))
    finally:
        member.generator.train(was_training)


def _kind_of(dataset: Dataset) -> Literal["points", "images", "vectors"]:
    if len(dataset.shape) == 3:
        return "images"
    return "points" if dataset.shape == (2,) else "vectors"
