"""One training, from its first step to its summary, however it ends."""

import signal
from typing import Any

from gan_lab.build import Training
from gan_lab.runs import Run
from gan_lab.summary import summarise


def fit(training: Training, run: Run) -> tuple[dict[str, Any], int]:
    """Trains, from the run's checkpoint if it has one, and writes `summary.json` in any case.

    Returns:
        The summary, and the exit status: 0 when all steps were trained, 128 + the signal's number when one stopped it.

    Raises:
        Exception: whatever training raised, once the summary says so.
    """
    resumed = run.checkpoint.is_file()
    status, error, code = "failed", None, 1
    try:
        training.trainer.fit(
            training.module, training.datamodule, ckpt_path=run.checkpoint if resumed else None, weights_only=True
        )
        finished = training.module.step >= training.module.steps
        status, code = ("finished", 0) if finished else ("interrupted", 128 + (training.stop.signal or signal.SIGINT))
    except SystemExit:  # Lightning's answer to a KeyboardInterrupt, here the second Ctrl-C
        status, code = "interrupted", 128 + signal.SIGINT
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
        raise
    finally:
        summary = summarise(training, status, error)
        run.write_summary(summary)
    return summary, code
