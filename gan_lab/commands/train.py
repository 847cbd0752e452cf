"""One training, from its first step to its summary and its page, however it ends."""

import signal
from collections.abc import Sequence
from typing import Any

from gan_lab.assembly.build import Training
from gan_lab.commands.summary import summarise
from gan_lab.comparison.films import write_film
from gan_lab.comparison.run_page import write_run_page
from gan_lab.core.errors import Code, LabError, RunError, out_of_memory, refused_by_storage, worker_died
from gan_lab.core.run_folder import RemovedError, Run, resume_command
from gan_lab.core.terminal import say
from gan_lab.data.datamodule import WITHOUT_WORKERS
from gan_lab.data.dataset import Dataset
from gan_lab.evaluation.verdict import modes_noun
from gan_lab.training import resume_state
from gan_lab.training.callbacks.trackers import end_trackers
from gan_lab.training.step_log import NotFiniteError


def fit(training: Training, run: Run) -> tuple[dict[str, Any], int]:
    """Trains, from the run's newest whole checkpoint if it has one, and writes `summary.json` and `index.html`.

    Where the run's folder was removed, nothing is written.

    Returns:
        The summary, and the exit status: 0 when all steps were trained, 128 + the signal's number when one stopped it.

    Raises:
        RunError: after NaN or infinity, or when disk or memory are full, once the summary says so.
        RemovedError: if the run folder was removed; then nothing is written.
        Exception: whatever else training raised, once the summary says so.
    """
    status = "failed"
    error = None
    exit_status = 1
    training.stop.start()
    try:
        training.process_group.start(run.folder)
        training.trainer.fit(training.module, training.datamodule, ckpt_path=training.resumed_from, weights_only=True)
        if training.module.step >= training.module.steps:
            status = "finished"
            exit_status = 0
        else:
            status = "interrupted"
            exit_status = 128 + (training.stop.signal or signal.SIGINT)
    except (SystemExit, KeyboardInterrupt):
        # Lightning turns the KeyboardInterrupt of a second signal into SystemExit.
        status = "interrupted"
        exit_status = 128 + (training.stop.signal or signal.SIGINT)
    except Exception as problem:
        failure = _explain(problem, training, run)
        if failure is None:
            error = f"{type(problem).__name__}: {problem}"
            raise
        error = str(failure)
        raise failure from problem
    finally:
        training.process_group.end()
        summary = summarise(training, status, error)
        try:
            run.write_summary(summary)
            write_film(run, summary, _counted(training.datamodule.dataset))
            write_run_page(run)
        except RemovedError:
            if status != "failed":
                raise
        except OSError as problem:
            # A full disk shouldn't hide what happened.
            say(refused_by_storage(problem) or problem, stderr=True)
        finally:
            end_trackers(training.trainer.loggers, summary)
            run.release()
            training.stop.end()
    return summary, exit_status


def _counted(dataset: Dataset) -> str:
    """Returns what a film counts, in words: points beside a mode look as if they were on it."""
    noun = modes_noun(dataset)
    return noun if dataset.centres is None else f"{noun}, counted within 3σ"


def _explain(problem: Exception, training: Training, run: Run) -> LabError | None:
    """Returns what to tell the user of a problem that is not a bug; None for a bug."""
    code: Code
    key = ""
    changes: tuple[str, ...] = ()
    try:
        run.refuse_if_removed()
    except RemovedError as removed:
        # Whatever failed, it failed because of that.
        return removed
    if isinstance(problem, NotFiniteError):
        # The callback has looked for the cause.
        description = training.nan_guard.explanation or str(problem)
        code = problem.code
        key = problem.key
        # With the same settings it would end there again.
        changes = ("force=true", "optim.lr=…")
    elif isinstance(problem, LabError) and not isinstance(problem, RunError):
        return problem
    elif isinstance(problem, RunError):
        description = str(problem)
        code = problem.code
        key = problem.key
    else:
        code, description = _explain_foreign(problem, training)
        if not description:
            return None
    return RunError(f"{description}\n{_how_to_continue(run, changes)}", code=code, key=key)


def _explain_foreign(problem: Exception, training: Training) -> tuple[Code, str]:
    """Returns code and description of a problem that torch or the system has raised; "" if it is a bug."""
    refusal = refused_by_storage(problem)
    if refusal:
        return "storage", refusal
    if out_of_memory(problem):
        advice = "Smaller networks or a smaller batch_size need less."
        return "memory", f"There wasn't enough memory: {problem}\n{advice}"
    if worker_died(problem):
        advice = f"The system ends processes when memory is short. {WITHOUT_WORKERS}"
        return "memory", f"A worker process has died. torch: {str(problem).strip()}\n{advice}"
    if isinstance(problem, RuntimeError):
        # Perhaps another process has died, which only shows after a while.
        return "failed", training.process_group.failure(wait=5.0) or ""
    return "failed", ""


def _how_to_continue(run: Run, changes: Sequence[str]) -> str:
    """Says which checkpoint is left, and the command that continues from it, with the settings to change."""
    try:
        step = run.load_checkpoint()[resume_state.KEY]["step"]
    except LabError:
        return "It ended before its first checkpoint."
    except OSError as problem:
        return f"Its checkpoint can't be read: {problem}."
    return f"The checkpoint of step {step:,} is kept. To continue from there: {resume_command(run.folder, *changes)}"
