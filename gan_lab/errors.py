"""The one exception for everything that a user can get wrong."""


class LabError(Exception):
    """A user's mistake: what is wrong, in which key or file, and how to mend it.

    Commands print it as one message without a traceback and exit with status 2.
    """

    def __init__(self, what: str, mend: str = ""):
        super().__init__(f"{what}\n{mend}" if mend else what)
