"""Processes that a command starts: ended in good order."""

import subprocess

GRACE_SECONDS = 10.0  # for a process that is told to stop


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process that is still running, in good order if it can."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
