"""Ends a process on Ctrl-C, SIGTERM and SIGHUP: soon, with one line, and with nothing half-made left.

The first signal raises KeyboardInterrupt, so that each `with` and `finally` cleans up; meanwhile further signals are
ignored. But a library may swallow the exception or turn it into another one, and C code may run on for long. So after
GRACE_SECONDS the process ends here, after the actions that `undoing` and `at_end` have registered. While a module is
being imported it ends so at once.

This module imports little: a command watches for signals before it imports anything else.
"""

import os
import signal
import sys
import threading
import time
from _thread import interrupt_main, start_new_thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = [signal.SIGINT, signal.SIGTERM]
# Sent when a terminal is closed; Windows has none.
if hasattr(signal, "SIGHUP"):
    SIGNALS.append(signal.SIGHUP)

GRACE_SECONDS = 5.0  # for cleaning up
LAST_SECONDS = 2.0  # for the actions that are left then

Handler = Callable[[int, FrameType | None], None]
# What `signal.signal` takes and returns.
AnyHandler = Callable[[int, FrameType | None], Any] | int | None


class _State:
    """What this process knows of its end.

    Attributes:
        is_watching: whether `watch` was called; otherwise nothing but exceptions end the process.
        received: the first signal, whoever handled it; None if there was none.
        is_ending: whether KeyboardInterrupt has been raised.
        has_clock: whether the time for cleaning up runs.
        is_overdue: whether the time for cleaning up is over.
        is_done: whether the command has done its work.
        is_worker: whether the process works for another one, and only jobs are interrupted.
        in_job: whether a worker runs a job now.
        actions: what is left to do at the end, in the order in which it was registered.
    """

    is_watching = False
    received: signal.Signals | None = None
    is_ending = False
    has_clock = False
    is_overdue = False
    is_done = False
    is_worker = False
    in_job = False

    def __init__(self) -> None:
        self.actions: list[Callable[[], object]] = []


_state = _State()


def watch(as_worker: bool = False) -> None:
    """Handles signals from now on. Those that this process ignores, as under nohup, stay ignored.

    Args:
        as_worker: True if this process runs jobs for another one. A signal interrupts its job, or ends it in silence.
    """
    global _state
    _state = _State()
    _state.is_watching = True
    _state.is_worker = as_worker
    _set_handlers(_on_signal)
    if hasattr(signal, "pthread_sigmask"):
        # See `blocked` and `relay`.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def forget() -> None:
    """Undoes `watch`: Python's own handlers count again, and nothing ends the process any more."""
    global _state
    _state = _State()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in SIGNALS[1:]:
        signal.signal(number, signal.SIG_DFL)


def done() -> None:
    """Notes that the command has done its work: a signal ends the process at once, or is ignored after another one."""
    _state.is_done = True
    if _state.is_ending:
        _set_handlers(signal.SIG_IGN)


def received() -> signal.Signals | None:
    """Returns the first signal that this process received; None if there was none."""
    return _state.received


def is_ending() -> bool:
    """Returns whether a signal has raised KeyboardInterrupt, which libraries may have turned into something else."""
    return _state.is_ending


def exit_status() -> int:
    """Returns 128 + the number of the signal that ends this process, as shells do."""
    return 128 + (_state.received or signal.SIGINT)


def message() -> str:
    """Returns the line that says why the process ends."""
    if _state.received in (None, signal.SIGINT):
        return "Interrupted."
    return f"Interrupted by {_state.received.name}."


def at_end(action: Callable[[], object]) -> None:
    """Registers what to do if a signal ends the process."""
    _state.actions.append(action)


@contextmanager
def undoing(action: Callable[[], object]) -> Iterator[None]:
    """Does something if a signal ends the process within this context in spite of what is written here."""
    state = _state
    state.actions.append(action)
    try:
        yield
    finally:
        state.actions.remove(action)


def clean_up() -> None:
    """Does what is registered for the end, the last first."""
    while _state.actions:
        with suppress(Exception):
            _state.actions.pop()()


@contextmanager
def job() -> Iterator[None]:
    """Lets signals interrupt this job of a worker, not the worker."""
    _state.in_job = True
    try:
        yield
    finally:
        _state.in_job = False


def interrupt(number: int) -> None:
    """Raises KeyboardInterrupt for a signal, and sees to it that the process ends soon.

    Raises:
        KeyboardInterrupt: unless the process is ending already.
    """
    if _state.received is None:
        _state.received = signal.Signals(number)
    if _state.is_done or _state.is_overdue or (_state.is_worker and not _state.in_job):
        _end_now()
    if _state.is_ending:
        return
    if _state.is_watching:
        _state.is_ending = True
    if _state.is_watching and not _state.is_worker:
        _start_clock()
    raise KeyboardInterrupt


class Handling:
    """Leaves signals to a handler for a while; those before and after are handled as they were."""

    def __init__(self, handler: Handler):
        self.handler = handler
        self._before: dict[int, AnyHandler] | None = None

    def start(self) -> None:
        """Sets the handler; again, if something else has replaced it."""
        # Handlers can only be set in the main thread.
        if threading.current_thread() is not threading.main_thread():
            return
        before = _set_handlers(self._on_signal)
        if self._before is None:
            self._before = before

    def end(self) -> None:
        """Puts the handlers back that were there at the first `start`."""
        if self._before is None:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if _state.received is None:
            _state.received = signal.Signals(number)
        self.handler(number, frame)


@contextmanager
def blocked() -> Iterator[None]:
    """Lets processes that are started within receive no signals until they call `watch` or `leave_to_parent`.

    Otherwise a signal in their first moments would end them with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def relay() -> None:
    """Does what `blocked` does for all processes that a library starts from now on, at times of its own.

    A thread receives this process's signals and passes them on, but for those that the process ignores.
    """
    # An ignored signal that is blocked would reach the thread all the same.
    numbers = [number for number in SIGNALS if not _is_ignored(number)]
    if not numbers or not hasattr(signal, "pthread_sigmask"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def pass_on() -> None:
        while True:
            number = signal.Signals(signal.sigwait(numbers))
            # The main thread may wait for something that no signal interrupts, and then not handle it in time.
            if _state.received is None:
                _state.received = number
            _start_clock()
            interrupt_main(number)

    threading.Thread(target=pass_on, daemon=True).start()


def leave_to_parent() -> None:
    """Makes a worker process ignore Ctrl-C, which reaches all processes but is for its parent, and end by SIGTERM.

    What the parent ignores, as SIGHUP under nohup, stays ignored.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in SIGNALS[1:]:
        if not _is_ignored(number):
            signal.signal(number, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _set_handlers(
    handler: Handler | signal.Handlers,
) -> dict[int, AnyHandler]:
    """Sets a handler for each signal that isn't ignored, and returns those before."""
    before: dict[int, AnyHandler] = {}
    if threading.current_thread() is not threading.main_thread():
        return before
    for number in SIGNALS:
        if not _is_ignored(number):
            before[number] = signal.signal(number, handler)
    return before


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN


def _on_signal(number: int, frame: FrameType | None) -> None:
    if not _state.is_worker and _is_importing(frame):
        # An exception in the middle of an extension module's initialisation, such as torch's, aborts the process.
        if _state.received is None:
            _state.received = signal.Signals(number)
        _end_now()
    interrupt(number)


def _is_importing(frame: FrameType | None) -> bool:
    """Returns whether a module is being imported at this point of the program."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _start_clock() -> None:
    """Sees to it that the process ends in time; once is enough."""
    if _state.has_clock:
        return
    _state.has_clock = True
    # Not `threading.Thread`: the main thread may hold a lock that starting one takes.
    start_new_thread(_end_in_time, (_state,))


def _end_in_time(state: _State) -> None:
    """Ends the process if cleaning up takes too long."""
    time.sleep(GRACE_SECONDS)
    if state is not _state:
        return
    state.is_overdue = True
    # The main thread is the best place, since nothing goes on there meanwhile. It may not listen, though.
    interrupt_main(_state.received or signal.SIGINT)
    time.sleep(LAST_SECONDS)
    start_new_thread(_end_anyway, (state,))
    _end_now()


def _end_anyway(state: _State) -> None:
    time.sleep(LAST_SECONDS)
    os._exit(exit_status())


def _end_now() -> None:
    """Does what is left to do and ends the process, whatever it is doing."""
    if not _state.is_worker:
        clean_up()
        _kill_children()
        # Not `say`: the main thread may be in the middle of printing.
        if not _state.is_done:
            with suppress(OSError):
                os.write(2, f"{message()}\n".encode())
    os._exit(exit_status())


def _kill_children() -> None:
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is None:
        return
    with suppress(Exception):
        for child in multiprocessing.active_children():
            child.kill()
