"""A run folder: where its files lie and how they are written. Nothing else knows the layout.

<run>/config.yaml            the composed configuration
<run>/summary.json           how the run ended, in numbers
<run>/metrics.csv            a row per logged step
<run>/checkpoints/last.ckpt  from which `resume=<run>` goes on
<run>/plots/, <run>/images/  pictures; TensorBoard's event files lie in <run> itself
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from gan_lab.errors import LabError

OUTPUTS = "outputs"  # where runs go unless told otherwise


class Run:
    """The files of one run."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.config = self.folder / "config.yaml"
        self.summary = self.folder / "summary.json"
        self.metrics = self.folder / "metrics.csv"
        self.checkpoint = self.folder / "checkpoints" / "last.ckpt"
        self.plots = self.folder / "plots"
        self.images = self.folder / "images"

    def __fspath__(self) -> str:
        return str(self.folder)

    @classmethod
    def new(cls, folder: str | Path, config: str) -> "Run":
        """Claims a folder for a new run.

        Raises:
            LabError: if it holds a run already.
        """
        run = cls(folder)
        run.refuse_if_taken()
        run.folder.mkdir(parents=True, exist_ok=True)
        with open(run.config, "x", encoding="utf-8") as file:
            file.write(config)
        return run

    def refuse_if_taken(self) -> None:
        if self.config.exists():
            raise LabError(
                f"{self.folder} already holds a run.",
                f"Go on with it by resume={self.folder}, or name another folder with hydra.run.dir=…",
            )

    @classmethod
    def existing(cls, folder: str | Path) -> "Run":
        """The run in a folder.

        Raises:
            LabError: if there is none.
        """
        run = cls(folder)
        if not run.config.is_file():
            raise LabError(
                f"{folder} is not a run folder: it has no {run.config.name}.", "Name a folder below outputs/."
            )
        return run

    def write_config(self, config: str) -> None:
        with atomic(self.config) as path:
            path.write_text(config, encoding="utf-8")

    def overrides(self) -> list[str]:
        """The command line that started the run, as Hydra keeps it; [] where it doesn't."""
        kept = self.folder / ".hydra" / "overrides.yaml"
        return yaml.safe_load(kept.read_text(encoding="utf-8")) if kept.is_file() else []

    def read_summary(self) -> dict[str, Any]:
        """summary.json, or {} where the run was killed before it could write one."""
        return json.loads(self.summary.read_text(encoding="utf-8")) if self.summary.is_file() else {}

    def write_summary(self, summary: dict[str, Any]) -> None:
        self.write_json(self.summary.name, summary)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Writes a JSON file of that name into the folder. NaN isn't JSON: ValueError."""
        with atomic(self.folder / name) as path:
            text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
            path.write_text(text + "\n", encoding="utf-8")

    def load_checkpoint(self) -> dict[str, Any]:
        """The last checkpoint's content; nothing in it is executed.

        Raises:
            LabError: if there is none or it can't be read.
        """
        import pickle

        import torch

        if not self.checkpoint.is_file():
            raise LabError(f"{self.folder} has no checkpoint: it ended before its first one.", "Start it anew.")
        try:
            checkpoint = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            checkpoint["gan_lab"]["step"], checkpoint["state_dict"]
        except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, TypeError) as error:
            reason = str(error) or "it is empty"
            raise LabError(f"{self.checkpoint} can't be read: {reason}", "Start the run anew.") from error
        return checkpoint

    def discard(self) -> None:
        """Removes what starting a run left, and only that, from a folder whose run never began."""
        for path in (self.config, *self.folder.glob(".hydra/*.yaml")):
            path.unlink(missing_ok=True)
        with suppress(OSError, ValueError):  # whatever else lies there isn't ours
            if (self.folder / ".hydra").exists():
                (self.folder / ".hydra").rmdir()
            self.folder.rmdir()
            for parent in self.folder.absolute().relative_to(Path.cwd() / OUTPUTS).parents:
                (Path.cwd() / OUTPUTS / parent).rmdir()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what was written there becomes `path` at once and whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    half = Path(name)
    try:
        yield half
        with open(half, "rb+") as file:
            os.fsync(file.fileno())
        half.chmod(0o666 & ~_umask())
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
