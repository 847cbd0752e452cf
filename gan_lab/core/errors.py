"""Errors that are no bugs: mistakes of a user, and what can happen to a run."""

import errno
from typing import Literal

# What went wrong, for programs and tests; the message is for people.
Code = Literal[
    "unknown",  # no such key, option, metric, class, member or file of this name
    "missing",  # something that is needed was not given or does not exist
    "invalid",  # a value of the wrong type, out of bounds or that cannot be read
    "conflict",  # good by itself, but it does not go together with something else
    "unsupported",  # this machine, this data or this part cannot do it
    "foreign",  # code that the configuration names but the command line does not trust
    "format",  # written by another version of gan_lab
    "damaged",  # a file that is not whole, or does not hold what it should
    "busy",  # another process uses it
    "exists",  # would overwrite something
    "failed",  # a part, a process or a check did not do what it should
    "not_finite",  # NaN or infinity
    "storage",  # a full, read-only or broken disk
    "memory",  # not enough memory
    "undefined",  # a number that cannot be computed for these samples
]

STORAGE_ERRNOS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.EFBIG,
    errno.ESTALE,
    errno.EMFILE,
    errno.ENFILE,
}
# How torch says that memory is short, in errors that have no type of their own.
OUT_OF_MEMORY_PHRASES = ("can't allocate memory", "not enough memory", "out of memory")
# How torch begins the message about a worker process of its loader that has died.
WORKER_DIED = "DataLoader worker"


class LabError(Exception):
    """A user's mistake: what is wrong, in which key or file, and how to solve it.

    Commands print it as one message without a traceback and exit with `status`.

    Args:
        what: one sentence that names the problem.
        hint: one sentence that says how to solve it; empty if there is no way.
        code: the kind of problem.
        key: the configuration key, metric or file name that it concerns; empty if there is none.
    """

    status = 2

    def __init__(self, what: str, hint: str = "", *, code: Code = "invalid", key: str = ""):
        super().__init__(f"{what}\n{hint}" if hint else what)
        self.code = code
        self.key = key


class RunError(LabError):
    """The end of a run by NaN, a full disk or too little memory; its last checkpoint stays."""

    status = 1


def refused_by_storage(problem: BaseException) -> str | None:
    """Returns what a full, read-only or broken disk reported, as a sentence; None for any other problem."""
    if not isinstance(problem, OSError) or problem.errno not in STORAGE_ERRNOS:
        return None
    if problem.filename:
        return f"{problem.filename}: {problem.strerror}."
    return f"Writing failed: {problem.strerror}."


def code_of(problem: BaseException) -> Code | None:
    """Returns what kind of problem an error is; None for a bug."""
    if isinstance(problem, LabError):
        return problem.code
    if refused_by_storage(problem):
        return "storage"
    if out_of_memory(problem):
        return "memory"
    return None


def out_of_memory(problem: BaseException) -> bool:
    """Returns whether an error says that the memory of the CPU or the GPU did not suffice."""
    if isinstance(problem, MemoryError):
        return True
    if not isinstance(problem, RuntimeError):
        return False
    text = str(problem)
    return any(phrase in text for phrase in OUT_OF_MEMORY_PHRASES)


def worker_died(problem: BaseException) -> bool:
    """Returns whether an error says that a worker process that loads data has died."""
    return isinstance(problem, RuntimeError) and str(problem).startswith(WORKER_DIED)
