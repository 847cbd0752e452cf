"""One training, from its first step to its summary, however it ends."""

import signal
from typing import Any

from gan_lab.assembly.build import Training
from gan_lab.commands.summary import summarise
from gan_lab.core.errors import LabError, RunError, out_of_memory, refused_by_storage
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import say
from gan_lab.training.step_log import NotFiniteError


def fit(training: Training, run: Run) -> tuple[dict[str, Any], int]:
    """Trains, from the run's newest whole checkpoint if it has one, and writes `summary.json` in any case.

    Returns:
        The summary, and the exit status: 0 when all steps were trained, 128 + the signal's number when one stopped it.

    Raises:
        RunError: when the numbers blew up, or disk or memory are full, once the summary says so.
        Exception: whatever else training raised, once the summary says so.
    """
    status, error, code = "failed", None, 1
    try:
        training.process_group.start(run.folder)
        training.trainer.fit(training.module, training.datamodule, ckpt_path=training.resumed_from, weights_only=True)
        finished = training.module.step >= training.module.steps
        status, code = ("finished", 0) if finished else ("interrupted", 128 + (training.stop.signal or signal.SIGINT))
    except SystemExit:  # Lightning's answer to a KeyboardInterrupt, here the second Ctrl-C
        status, code = "interrupted", 128 + signal.SIGINT
    except Exception as problem:
        failure = _explained(problem, training, run)
        error = str(failure) if failure else f"{type(problem).__name__}: {problem}"
        if failure:
            raise failure from problem
        raise
    finally:
        training.process_group.end()
        summary = summarise(training, status, error)
        try:
            run.write_summary(summary)
        except OSError as problem:  # a full disk must not hide what happened
            say(refused_by_storage(problem) or problem, stderr=True)
        run.release()
    return summary, code


def _explained(problem: Exception, training: Training, run: Run) -> LabError | None:
    """What to tell of a problem that isn't a bug; None for one that is."""
    if isinstance(problem, RunError):
        # Of a NotFiniteError the callback knows more than the error.
        what = training.nan_guard.explanation or str(problem)
    elif isinstance(problem, LabError):
        return problem
    elif refusal := refused_by_storage(problem):
        what = refusal
    elif out_of_memory(problem):
        what = f"There wasn't enough memory: {problem}\nSmaller networks or a smaller batch_size need less."
    elif isinstance(problem, RuntimeError) and (fallen := training.process_group.failure(wait=5.0)):
        what = fallen
    else:
        return None
    force = (
        " force=true optim.lr=…" if isinstance(problem, NotFiniteError) else ""
    )  # unchanged, it would end there again
    return RunError(f"{what}\n{_kept(run, force)}")


def _kept(run: Run, force: str) -> str:
    try:
        step = run.load_checkpoint()["gan_lab"]["step"]
    except LabError:
        return "It ended before its first checkpoint."
    except OSError as problem:
        return f"Its checkpoint can't be read: {problem}."
    return f"The checkpoint of step {step:,} is kept; python train.py resume={run.folder}{force} goes on from there."
