"""A run folder: where its files lie and how they are written. Nothing else knows the layout.

<run>/config.yaml            the composed configuration
<run>/summary.json           how the run ended, in numbers
<run>/metrics.csv            a row per logged step
<run>/checkpoints/last.ckpt  from which `resume=<run>` goes on; previous.ckpt, should that one be damaged
<run>/plots/, <run>/images/  pictures; <run>/preflight/ has the checks', TensorBoard's event files lie in <run> itself
<run>/explore/               latent vector experiments, with event files of their own
<run>/.lock                  held by the process that trains the run, and free again however that one ends
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from gan_lab.core.errors import LabError
from gan_lab.core.io import MAX_YAML, TMP_PREFIX, atomic, corruption, read_bytes, read_text, sync
from gan_lab.core.terminal import say

OUTPUTS = "outputs"  # where runs go unless told otherwise


class Run:
    """The files of one run."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.config = self.folder / "config.yaml"
        self.summary = self.folder / "summary.json"
        self.metrics = self.folder / "metrics.csv"
        self.checkpoint = self.folder / "checkpoints" / "last.ckpt"
        self.previous_checkpoint = self.folder / "checkpoints" / "previous.ckpt"
        self.plots = self.folder / "plots"
        self.images = self.folder / "images"
        self.preflight = self.folder / "preflight"
        self.explore = self.folder / "explore"
        self._lock = FileLock(self.folder / ".lock", timeout=0)

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
        run.claim()
        try:
            run.refuse_if_taken()  # since the first look another process may have come and gone
            run.write_config(config)
        except OSError:
            run.discard()
            raise
        return run

    def refuse_if_taken(self) -> None:
        if self.config.exists():
            raise LabError(
                f"{self.folder} already holds a run.",
                f"Go on with it by resume={self.folder}, or name another folder with hydra.run.dir=…",
            )

    @classmethod
    def existing(cls, folder: str | Path | None) -> "Run":
        """The run in a folder.

        Raises:
            LabError: if there is none.
        """
        run = cls(folder or "")
        if not folder or not run.config.is_file():
            name = folder or "null"
            raise LabError(f"{name} is not a run folder: no {run.config.name}.", "Name a folder below outputs/.")
        refuse_links(run.folder)
        return run

    def claim(self) -> None:
        """Keeps other processes from training this run, until `release` or the end of this process, however it ends.

        Raises:
            LabError: if another process has it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        refuse_links(self.folder)
        try:
            self._lock.acquire()
        except Timeout:
            raise LabError(
                f"{self.folder} is being trained by another process.", "Wait until that has ended, or stop it."
            ) from None
        for half in self.folder.rglob(f"{TMP_PREFIX}*"):  # of a process that was killed
            half.unlink(missing_ok=True)

    def release(self) -> None:
        self._lock.release()

    def write_config(self, config: str, keep: bool = False) -> None:
        """Writes config.yaml; with `keep` the one before it stays, as config_until_step_<n>.yaml."""
        if keep:
            step = self.load_checkpoint()["gan_lab"]["step"] if self.whole_checkpoint() else 0
            with atomic(self.folder / f"config_until_step_{step}.yaml") as path:
                path.write_bytes(self.config.read_bytes())
        with atomic(self.config) as path:
            path.write_text(config, encoding="utf-8")

    def overrides(self) -> list[str]:
        """The command line that started the run, as Hydra keeps it; [] where it doesn't."""
        kept = self.folder / ".hydra" / "overrides.yaml"
        if not kept.is_file():
            return []
        try:
            text = read_text(kept, MAX_YAML)
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
                return []  # Hydra writes none; they can unfold without end
            lines = yaml.safe_load(text)
        except (LabError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
            return []
        return [str(line) for line in lines] if isinstance(lines, list) else []

    def read_summary(self) -> dict[str, Any]:
        """summary.json, or {} where the run was killed before it could write one.

        Raises:
            LabError: if it is damaged.
        """
        if not self.summary.is_file():
            return {}
        try:
            summary = json.loads(read_text(self.summary))
        except (ValueError, RecursionError) as error:
            raise LabError(f"{self.summary} is damaged: {error}.") from error
        if not isinstance(summary, dict):
            raise LabError(f"{self.summary} is damaged: it holds no summary.")
        return summary

    def finished(self, steps: int) -> bool:
        """Whether the run came to its end after so many steps, its summary included."""
        try:
            summary = self.read_summary()
        except LabError:  # going on writes it anew
            return False
        return summary.get("status") == "finished" and summary.get("steps") == steps

    def write_summary(self, summary: dict[str, Any]) -> None:
        self.write_json(self.summary.name, summary)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Writes a JSON file of that name into the folder. NaN isn't JSON: ValueError."""
        with atomic(self.folder / name) as path:
            text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
            path.write_text(text + "\n", encoding="utf-8")

    @contextmanager
    def new_checkpoint(self) -> Iterator[Path]:
        """Gives a path to write a checkpoint to; the one before it, if whole, stays as `previous_checkpoint`."""
        with atomic(self.checkpoint) as half:
            yield half
            sync(half)
            if self.checkpoint.exists() and corruption(read_bytes(self.checkpoint)) is None:
                os.replace(self.checkpoint, self.previous_checkpoint)

    def whole_checkpoint(self) -> Path | None:
        """Returns the newest checkpoint that is whole; None if there is none yet. Says so where it isn't the last one.

        Raises:
            LabError: if there are some, but all are damaged.
            OSError: if the system can't read one: it may be whole, so none is taken in its place.
        """
        found = self._newest_whole()
        return found[0] if found else None

    def _newest_whole(self) -> tuple[Path, bytes] | None:
        """Returns the newest checkpoint that is whole, and its content; see `whole_checkpoint`."""
        reasons: list[str] = []
        for path in (self.checkpoint, self.previous_checkpoint):
            if not _is_there(path):
                continue
            content = read_bytes(path)
            reason = corruption(content)
            if reason is None:
                if reasons:
                    say(f"{reasons[0]} Going back to {path.name}, the one before it.", stderr=True)
                return path, content
            reasons.append(f"{path} is damaged: {reason}.")
        if reasons:
            raise LabError("\n".join(reasons), f"Delete {self.checkpoint.parent} to train the run again from step 0.")
        return None

    def load_checkpoint(self) -> dict[str, Any]:
        """Loads the newest whole checkpoint; nothing in it is executed.

        Raises:
            LabError: if there is none, or it holds what no checkpoint of gan_lab's does.
            OSError: if the system can't read it.
        """
        from gan_lab.core.checkpoint_file import read_checkpoint

        found = self._newest_whole()
        if found is None:
            raise LabError(
                f"{self.folder} has no checkpoint: it ended before its first one.",
                f"python train.py resume={self.folder} starts it again from step 0.",
            )
        return read_checkpoint(*found)

    def discard(self) -> None:
        """Removes what starting a run left, and only that, from a folder whose run never began."""
        self.release()
        for pattern in ("config.yaml", ".lock", ".hydra/*.yaml", "preflight/*.png", "preflight/checks.json"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)
        for folder in (self.folder / ".hydra", self.preflight, self.folder):
            remove_empty(folder)


RUN_SUBFOLDERS = ("checkpoints", "plots", "images", "preflight", "explore", "backquery", ".hydra")
APPENDED_FILES = ("log.txt", "multirun.yaml")


def refuse_links(folder: Path) -> None:
    """Refuses a run's or a sweep's folder in which something that is written into leads somewhere else.

    Raises:
        LabError: naming the first one.
    """
    for path in (folder / name for name in (*RUN_SUBFOLDERS, *APPENDED_FILES)):
        odd = path.name in APPENDED_FILES and path.exists() and not path.is_file()
        if path.is_symlink() or odd:
            raise LabError(
                f"{path} is a link or a pipe: what it leads to would be written over.",
                "Put the folder or file itself there, or remove it.",
            )


def _is_there(path: Path) -> bool:
    """Tells whether there is a file; unlike `Path.is_file`, an error of the system isn't taken for a missing file."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def remove_empty(folder: Path) -> None:
    """Removes a folder and those above it, outputs/ included, as far as they are empty: the rest isn't ours."""
    with suppress(OSError, ValueError):
        folder.rmdir()
        top = Path.cwd() / OUTPUTS
        for parent in folder.absolute().relative_to(top).parents:
            (top / parent).rmdir()
