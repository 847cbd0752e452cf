"""What isn't a bug: a user's mistake, and what a training can meet on its way."""

import errno

STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}
STORAGE |= {errno.ESTALE, errno.EMFILE, errno.ENFILE}


class LabError(Exception):
    """A user's mistake: what is wrong, in which key or file, and how to mend it.

    Commands print it as one message without a traceback and exit with `status`.
    """

    status = 2

    def __init__(self, what: str, mend: str = ""):
        super().__init__(f"{what}\n{mend}" if mend else what)


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
