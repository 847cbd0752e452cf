"""The server's side of trainings: starts their processes, passes orders to them, and remembers what they report."""

import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from gan_lab.core.errors import LabError
from gan_lab.core.interrupts import blocked
from gan_lab.core.run_folder import resume_command
from gan_lab.studio.messages import Ended, Glance, Message, Opened, Order, Paused, PhaseReport, Said
from gan_lab.studio.worker import work

MAX_POINTS = 400  # of a curve; a longer one keeps every second point
MAX_LINES = 200  # of what a training said
MAX_PHASES = 12
END_SECONDS = 60.0  # for a training to reach its verdict and write its summary when it is stopped


class Curve(NamedTuple):
    """A point of the curves of a training.

    Attributes:
        step: of the row.
        row: losses and D's answers, by column.
    """

    step: int
    row: dict[str, float]


class LiveTraining:
    """A process that trains, and what it has reported.

    Attributes:
        name: for people, "A" or "B".
        arguments: the command line of train.py.
        state: starting, training, paused or ended.
        version: grows with each report, so that a page knows whether there is news.
        opened, glance, ended: the newest of these reports; None before the first.
        curves: points of the curves.
        modes: steps and modes made.
        phases: reports of single phases, the newest last.
        lines: what it has said.
        problem: why it did not train to its end, in words; "" if it did.
    """

    def __init__(self, name: str, process: "_Process", arguments: Sequence[str], at_change: Callable[[], None]):
        self.name = name
        self.arguments = list(arguments)
        self.state = "starting"
        self.version = 0
        self.opened: Opened | None = None
        self.glance: Glance | None = None
        self.ended: Ended | None = None
        self.curves: list[Curve] = []
        self.modes: list[tuple[int, int]] = []
        self.phases: deque[PhaseReport] = deque(maxlen=MAX_PHASES)
        self.lines: deque[Said] = deque(maxlen=MAX_LINES)
        self.problem = ""
        self._process = process
        self._at_change = at_change
        process.send(self.arguments)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def order(self, action: Any, steps_per_second: float | None = None) -> None:
        """Sends an order; nothing happens if the training has ended."""
        self._process.send(Order(action, steps_per_second))

    def wait(self, seconds: float) -> bool:
        """Waits until the process has ended, and returns whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def kill(self) -> None:
        """Ends the process at once; its run keeps the last checkpoint."""
        self._process.kill()

    def _listen(self) -> None:
        """Takes over the reports until the process ends."""
        with suppress(EOFError, OSError):
            while True:
                self.take(self._process.receive())
        number = self._process.exit_code()
        if self.ended is None:
            self.problem = self._cause_of_death(number)
        self.state = "ended"
        self.version += 1
        self._at_change()

    def take(self, message: Message) -> None:
        """Remembers a report."""
        if isinstance(message, Opened):
            self.opened = message
            self.state = "training"
            self._at_change()
        elif isinstance(message, Glance):
            self._take_glance(message)
        elif isinstance(message, PhaseReport):
            self.phases.append(message)
        elif isinstance(message, Paused):
            self.state = "paused" if message.is_paused else "training"
        elif isinstance(message, Said):
            self.lines.append(message)
        elif isinstance(message, Ended):
            self.ended = message
            errors = [line.text for line in self.lines if line.is_error]
            if message.exit_status and message.status != "interrupted" and errors:
                self.problem = errors[-1]
        self.version += 1

    def _take_glance(self, glance: Glance) -> None:
        self.glance = glance
        self.curves += [Curve(step, row) for step, row in glance.rows]
        if glance.modes_made is not None and (not self.modes or glance.step > self.modes[-1][0]):
            self.modes.append((glance.step, glance.modes_made))
        while len(self.curves) > MAX_POINTS:
            self.curves = _thinned(self.curves)
        if len(self.modes) > MAX_POINTS:
            self.modes = _thinned(self.modes)

    def _cause_of_death(self, exit_code: int | None) -> str:
        """Says why the process has ended without a word."""
        cause = f"with exit status {exit_code}"
        if exit_code is not None and exit_code < 0:
            cause = f"by signal {signal.Signals(-exit_code).name}"
        text = f"The process of this training was ended {cause}; the system does so when memory is short."
        if self.opened is None:
            return text
        folder = Path(self.opened.folder)
        return f"{text}\nIts run keeps the last checkpoint. To continue from there: {resume_command(folder)}"


def _thinned(points: list[Any]) -> list[Any]:
    """Returns every second point, and the last."""
    kept = points[:-1:2]
    return [*kept, points[-1]]


class _Process:
    """A worker process, started, and the server's end of its pipe."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection: Connection
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs,))
        # Starting this helper of multiprocessing would unblock the signals.
        resource_tracker.ensure_running()
        with blocked():
            self._process.start()
        # Thus the end of the process is the end of the pipe.
        theirs.close()
        self._lock = threading.Lock()

    def send(self, message: object) -> None:
        """Sends something; if the process has ended, it is lost."""
        with suppress(OSError), self._lock:
            self._connection.send(message)

    def receive(self) -> Message:
        """Returns the next message.

        Raises:
            EOFError: if the process has ended.
        """
        return self._connection.recv()

    def exit_code(self) -> int | None:
        """Waits for the end of the process, and returns its exit status."""
        self._process.join(END_SECONDS)
        return self._process.exitcode

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        """Ends the process at once."""
        self._process.kill()
        self._process.join()

    def dismiss(self) -> None:
        """Ends a process that was given nothing to do, and so has nothing to lose."""
        self.kill()
        self._connection.close()


class Trainings:
    """The one training, or pair of trainings, of a server.

    Attributes:
        current: the trainings, none, one or two.
        steps_per_second: the speed of all; None: as fast as possible.
    """

    def __init__(self) -> None:
        self.current: list[LiveTraining] = []
        self.steps_per_second: float | None = None
        self._ready: list[_Process] = []
        self._are_waiting = False
        self._is_closed = False
        self._lock = threading.Lock()

    @property
    def version(self) -> tuple[int, ...]:
        """Changes with every report."""
        return tuple(id(training) + training.version for training in self.current)

    @property
    def is_running(self) -> bool:
        """Whether a training has not ended."""
        return any(training.state != "ended" for training in self.current)

    def prepare(self, number: int) -> None:
        """Starts so many processes in advance: importing torch takes seconds."""
        with self._lock:
            self._ready = [process for process in self._ready if process.is_alive()]
            while len(self._ready) < number:
                self._ready.append(_Process())

    def start(self, command_lines: Sequence[Sequence[str]]) -> None:
        """Starts trainings.

        Args:
            command_lines: the arguments of each; one or two.

        Raises:
            LabError: if one is running.
        """
        if self.is_running:
            raise LabError(
                "A training is running.", "Reset ends it; it keeps its checkpoint.", code="busy", key="studio"
            )
        self.prepare(len(command_lines))
        with self._lock:
            processes = [self._ready.pop(0) for _ in command_lines]
        trainings = []
        for name, process, arguments in zip("AB", processes, command_lines, strict=False):
            training = LiveTraining(name, process, arguments, self._on_change)
            training.order("speed", self.steps_per_second)
            if len(command_lines) > 1:
                # They begin together; see `_on_change`.
                training.order("pause")
            trainings.append(training)
        self._are_waiting = len(trainings) > 1
        self.current = trainings
        self._on_change()

    def order(self, action: Any) -> None:
        """Sends an order to all trainings."""
        for training in self.current:
            training.order(action)

    def set_speed(self, steps_per_second: float | None) -> None:
        """Changes the speed of these trainings and of later ones."""
        self.steps_per_second = steps_per_second
        for training in self.current:
            training.order("speed", steps_per_second)

    def reset(self) -> None:
        """Ends the trainings, each with its checkpoint and summary, and forgets them."""
        self._end_all()
        self.current = []

    def close(self) -> None:
        """Ends all processes: the trainings with checkpoint and summary."""
        self._is_closed = True
        self._end_all()
        with self._lock:
            while self._ready:
                self._ready.pop().dismiss()

    def _on_change(self) -> None:
        """Lets a pair go on once both can, and starts processes for the next trainings once these have ended."""
        if self._are_waiting and all(training.opened or training.state == "ended" for training in self.current):
            self._are_waiting = False
            self.order("go")
        if self.current and not self.is_running and not self._is_closed:
            self.prepare(len(self.current))

    def _end_all(self) -> None:
        self.order("stop")
        deadline = time.monotonic() + END_SECONDS
        for training in self.current:
            if not training.wait(max(0.0, deadline - time.monotonic())):
                training.kill()
