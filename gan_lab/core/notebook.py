"""A progress bar in a notebook."""

import io
from typing import Any

from IPython.display import display
from tqdm import tqdm

WIDTH = 100  # characters


class NotebookBar(tqdm):
    """Shows itself as a line of text that is replaced in place.

    tqdm's own bar for notebooks needs ipywidgets and is lost when a notebook is stored or converted; its bar of text
    goes to stderr, which notebooks colour as errors, and leaves a line for each change in a stored notebook.

    Args:
        settings: of `tqdm`.
    """

    def __init__(self, **settings: Any):
        self._line = display(_as_text(""), raw=True, display_id=True)
        super().__init__(**settings, file=io.StringIO(), ncols=WIDTH, ascii=False)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Replaces the line; see `tqdm.display`."""
        self._line.update(_as_text(str(self) if msg is None else msg), raw=True)
        return True


def _as_text(line: str) -> dict[str, str]:
    return {"text/plain": line}
