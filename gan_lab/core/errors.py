"""Errors that are no bugs: a user's mistake, and what can happen to a run."""

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

STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}
STORAGE |= {errno.ESTALE, errno.EMFILE, errno.ENFILE}


class LabError(Exception):
    """A user's mistake: what is wrong, in which key or file, and how to mend it.

    Commands print it as one message without a traceback and exit with `status`.

    Args:
        what: one sentence that names the problem.
        mend: one sentence that says how to solve it; empty if there is no way.
        code: the kind of problem.
        key: the configuration key, metric or file that it concerns; empty if there is none.
    """

    status = 2

    def __init__(self, what: str, mend: str = "", *, code: Code = "invalid", key: str = ""):
        super().__init__(f"{what}\n{mend}" if mend else what)
        self.code = code
        self.key = key


class RunError(LabError):
    """Numbers that blew up, a full disk, too little memory: the run ends here, what it kept stays."""

    status = 1


def refused_by_storage(problem: BaseException) -> str | None:
    """What a full, read-only or broken disk said, in words; None for another problem."""
    if not isinstance(problem, OSError) or problem.errno not in STORAGE:
        return None
    return f"{problem.filename}: {problem.strerror}." if problem.filename else f"Writing failed: {problem.strerror}."


def out_of_memory(problem: BaseException) -> bool:
    """Whether the memory of the CPU or the GPU didn't suffice: torch says so in words."""
    signs = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(problem, MemoryError) or (
        isinstance(problem, RuntimeError) and any(sign in str(problem) for sign in signs)
    )
