"""Knows where a run's files lie, and reads and writes them. Nothing else knows the layout.

<run>/config.yaml            the composed configuration
<run>/summary.json           how the run ended, in numbers
<run>/index.html             how it ended, for a person: one page with its pictures
<run>/metrics.csv            a row per logged step
<run>/checkpoints/last.ckpt  where `resume=<run>` continues; previous.ckpt takes its place if it is damaged
<run>/plots/, <run>/images/  pictures; those of the checks are in <run>/preflight/
<run>/training.gif           a film of the pictures in images/; with an encoder also training.mp4
<run>/events.out.tfevents.*  TensorBoard's event files
<run>/evaluation.json        what scripts/evaluate.py measured of it
<run>/trackers.json          what other programs (logger=wandb, …) call this run
<run>/explore/               experiments with latent vectors, with their own event files
<run>/backquery/             what scripts/backquery.py made of the run
<run>/.lock                  held by the process that trains the run; the system frees it however that process ends
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from gan_lab.core.command_line import command, setting
from gan_lab.core.errors import LabError, RunError
from gan_lab.core.io import MAX_YAML, TMP_PREFIX, atomic, corruption, read_bytes, read_text, sync
from gan_lab.core.terminal import printable, say
from gan_lab.core.version import __version__

OUTPUTS = "outputs"  # the default folder of runs
FORMAT = 3  # of what a run folder holds; config.yaml says it, and gan_lab 0.1 wrote none

# What a run or a sweep writes into: folders, and files that are appended to. See `refuse_links`.
RUN_SUBFOLDERS = ("checkpoints", "plots", "images", "preflight", "explore", "backquery", ".hydra")
APPENDED_FILES = ("log.txt", "multirun.yaml")

# What may be in a folder whose run never began; see `Run.discard`.
STARTED_FILES = ("config.yaml", "trackers.json", ".lock", "preflight/*.png", "preflight/checks.json")


# A run folder may move, so a command that is kept in it doesn't name it; whoever shows the command puts it in, see
# `in_folder`.
THIS_RUN = "run=<run folder>"
RESUME_THIS = "resume=<run folder>"


class RemovedError(RunError):
    """The folder of a run or of a sweep, or its checkpoints, were removed or replaced while they were needed.

    Args:
        path: what is missing.
    """

    def __init__(self, path: Path):
        super().__init__(
            f"{path} was removed or replaced meanwhile, so this stopped; nothing more was written.",
            "Start it again.",
            code="missing",
            key=path.name,
        )
        self.path = path

    def __reduce__(self) -> tuple[type["RemovedError"], tuple[Path]]:
        """Lets worker processes send it."""
        return type(self), (self.path,)


class Run:
    """The files of one run.

    Args:
        folder: the run folder; it need not exist yet.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.config = self.folder / "config.yaml"
        self.summary = self.folder / "summary.json"
        self.evaluation = self.folder / "evaluation.json"
        self.page = self.folder / "index.html"
        self.metrics = self.folder / "metrics.csv"
        self.checkpoint = self.folder / "checkpoints" / "last.ckpt"
        self.previous_checkpoint = self.folder / "checkpoints" / "previous.ckpt"
        self.plots = self.folder / "plots"
        self.images = self.folder / "images"
        self.preflight = self.folder / "preflight"
        self.trackers = self.folder / "trackers.json"
        self.explore = self.folder / "explore"
        self.film = self.folder / "training.gif"
        self._lock = FileLock(self.folder / ".lock", timeout=0)
        self._identity: tuple[int, int] | None = None
        self._has_checkpoint = False

    def __fspath__(self) -> str:
        return str(self.folder)

    @classmethod
    def new(cls, folder: str | Path, config: str) -> "Run":
        """Makes a folder for a new run and locks it for this process.

        Args:
            folder: where; made if it doesn't exist.
            config: the text of config.yaml.

        Raises:
            LabError: if the folder holds a run already, or another process uses it.
            OSError: if it can't be written; then nothing is left of it.
        """
        run = cls(folder)
        run.refuse_if_taken()
        run.claim()
        # Checked again under the lock: between the first check and the lock another process may have made a run.
        run.refuse_if_taken()
        try:
            run.write_config(config)
        except BaseException:
            run.discard()
            raise
        return run

    def is_taken(self) -> bool:
        """Returns whether the folder holds a run, or what is left of one that lost its configuration."""
        return self.config.exists() or self.summary.exists() or self.checkpoint.exists()

    def refuse_if_taken(self) -> None:
        """Raises a LabError if the folder holds a run."""
        if self.is_taken():
            hint = "Name another folder with hydra.run.dir=…"
            if self.config.exists():
                hint += f", or continue it: {resume_command(self.folder)}"
            raise LabError(
                f"{self.folder} already holds a run.",
                hint,
                code="exists",
                key="hydra.run.dir",
            )

    @classmethod
    def existing(cls, folder: str | Path | None) -> "Run":
        """Returns the run in a folder.

        Args:
            folder: as the user names it; None and "" stand for no folder.

        Raises:
            LabError: if there is no run in it, or `refuse_links` refuses it.
        """
        run = cls(folder or "")
        if not folder or not run.config.is_file():
            name = folder or "null"
            raise LabError(
                f"{name} is not a run folder: it has no {run.config.name}.",
                "Name a folder below outputs/.",
                code="missing",
                key=run.folder.name,
            )
        refuse_other_encoding(run.folder)
        refuse_links(run.folder)
        run._identity = identity(run.folder)
        return run

    def claim(self) -> None:
        """Locks the folder against other processes until `release` or the end of this process, however it ends.

        Also removes the temporary files of a process that was killed.

        Raises:
            LabError: if another process has locked it, or `refuse_links` refuses it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        refuse_links(self.folder)
        try:
            self._lock.acquire()
        except Timeout:
            raise LabError(
                f"{self.folder} is being trained by another process.",
                "Wait until that one has ended, or stop it.",
                code="busy",
                key=self.folder.name,
            ) from None
        self._identity = identity(self.folder)
        self._has_checkpoint = self.checkpoint.is_file()
        for temporary in self.folder.rglob(f"{TMP_PREFIX}*"):
            temporary.unlink(missing_ok=True)

    def release(self) -> None:
        """Unlocks the folder."""
        self._lock.release()

    def refuse_if_removed(self) -> None:
        """Checks that the folder is the one that was opened, and that the checkpoints written there are still there.

        Raises:
            RemovedError: otherwise. Writing on would make a folder without a configuration.
        """
        if self._identity is not None and identity(self.folder) != self._identity:
            raise RemovedError(self.folder)
        checkpoints = (self.checkpoint, self.previous_checkpoint)
        if self._has_checkpoint and not any(path.exists() for path in checkpoints):
            raise RemovedError(self.checkpoint.parent)

    @contextmanager
    def atomic(self, path: Path) -> Iterator[Path]:
        """Does the same as `gan_lab.core.io.atomic` for a file of this run, and never makes a run folder anew.

        Raises:
            RemovedError: if the folder was removed; see `refuse_if_removed`.
            OSError: if the disk is full, read-only or broken.
        """
        self.refuse_if_removed()
        try:
            with atomic(path) as temporary:
                yield temporary
        except FileNotFoundError:
            # In the middle of writing.
            self.refuse_if_removed()
            raise

    def picture_folders(self) -> list[Path]:
        """Returns those of the folders `images` and `plots` that hold pictures."""
        return [folder for folder in (self.images, self.plots) if any(folder.glob("*.png"))]

    def has_event_files(self) -> bool:
        """Returns whether TensorBoard's event files of the training are in the folder."""
        return any(self.folder.glob("events.out.tfevents.*"))

    def write_config(self, config: str, keep: bool = False) -> None:
        """Writes config.yaml.

        Args:
            config: its text.
            keep: whether the file that is there stays, as config_until_step_<step of the checkpoint>.yaml.
        """
        if keep:
            has_checkpoint = self.whole_checkpoint() is not None
            step = self.load_checkpoint()["gan_lab"]["step"] if has_checkpoint else 0
            with self.atomic(self.folder / f"config_until_step_{step}.yaml") as path:
                path.write_bytes(self.config.read_bytes())
        with self.atomic(self.config) as path:
            path.write_text(config, encoding="utf-8")

    def overrides(self) -> list[str]:
        """Returns the command line that started the run, as Hydra stored it; [] if it can't be read."""
        file = self.folder / ".hydra" / "overrides.yaml"
        if not file.is_file():
            return []
        try:
            text = read_text(file, MAX_YAML)
            # Aliases can make a short text unfold without end. Hydra writes none.
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
                return []
            lines = yaml.safe_load(text)
        except (LabError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
            return []
        if not isinstance(lines, list):
            return []
        return [str(line) for line in lines]

    def read_summary(self) -> dict[str, Any]:
        """Reads summary.json; {} if there is none, as in a run that was killed before it could write one.

        Raises:
            LabError: if it is damaged.
        """
        return _read_json(self.summary)

    def read_evaluation(self) -> dict[str, Any]:
        """Reads evaluation.json; {} if there is none.

        Raises:
            LabError: if it is damaged.
        """
        return _read_json(self.evaluation)

    def finished(self, steps: int) -> bool:
        """Returns whether the run ended after so many steps and wrote its summary."""
        try:
            summary = self.read_summary()
        except LabError:
            # A damaged summary counts as none: resuming the run writes it again.
            return False
        return summary.get("status") == "finished" and summary.get("steps") == steps

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes summary.json; see `write_json`."""
        self.write_json(self.summary.name, summary)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Writes a JSON file of that name into the folder.

        Raises:
            ValueError: for NaN and infinity, which JSON doesn't have.
            OSError: if the disk is full, read-only or broken.
        """
        with self.atomic(self.folder / name) as path:
            text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
            # A byte of a path that isn't UTF-8 is a surrogate in Python: `\\udcff`, as JSON writes it.
            path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")

    @contextmanager
    def new_checkpoint(self) -> Iterator[Path]:
        """Gives a temporary path to write a checkpoint to, which becomes `checkpoint` when it is whole.

        The checkpoint that was there becomes `previous_checkpoint` if it is whole itself: of the two, one always is.
        """
        with self.atomic(self.checkpoint) as temporary:
            yield temporary
            sync(temporary)
            if self.checkpoint.exists() and corruption(read_bytes(self.checkpoint)) is None:
                os.replace(self.checkpoint, self.previous_checkpoint)
        self._has_checkpoint = True

    def whole_checkpoint(self) -> Path | None:
        """Returns the newest checkpoint that is whole, and prints a note if it isn't the last one; None without any.

        Raises:
            LabError: if there are checkpoints, but all are damaged.
            OSError: if the system can't read one. It may be whole, so no older one is used instead.
        """
        newest = self._newest_whole(corruption)
        return newest[0] if newest else None

    def _newest_whole(self, damage: Callable[[bytes], str | None]) -> tuple[Path, bytes] | None:
        """Returns the path and the content of the newest checkpoint that is whole; see `whole_checkpoint`.

        Args:
            damage: returns what is wrong with the content of a file; None if it is whole.
        """
        reasons: list[str] = []
        for path in (self.checkpoint, self.previous_checkpoint):
            if not _exists(path):
                continue
            content = read_bytes(path)
            reason = damage(content)
            if reason is None:
                if reasons:
                    say(f"{reasons[0]} Going back to {path.name}, the one before it.", stderr=True)
                return path, content
            reasons.append(f"{path} is damaged: {reason}.")
        if reasons:
            raise LabError(
                "\n".join(reasons),
                f"Delete {self.checkpoint.parent} to train the run again from step 0.",
                code="damaged",
                key=self.checkpoint.name,
            )
        return None

    def load_checkpoint(self) -> dict[str, Any]:
        """Loads the newest whole checkpoint; nothing in it is executed.

        Raises:
            LabError: if there is none, or it holds what no checkpoint of gan_lab holds.
            OSError: if the system can't read it.
        """
        # Imported here: it needs torch, which takes seconds, and most commands only look for the folder.
        from gan_lab.core.checkpoint_file import archive_damage, read_checkpoint

        newest = self._newest_whole(archive_damage)
        if newest is None:
            raise LabError(
                f"{self.folder} has no checkpoint: it ended before its first one.",
                f"To start it again from step 0: {resume_command(self.folder)}",
                code="missing",
                key=self.checkpoint.name,
            )
        path, content = newest
        return read_checkpoint(path, content)

    def discard(self) -> None:
        """Removes what starting a run left in a folder whose run never began, and nothing else."""
        self.release()
        if self._identity is not None and identity(self.folder) != self._identity:
            # What has taken its place isn't ours.
            return
        # A TensorBoard file has the number of the process that opened it in its name.
        opened_here = f"events.out.tfevents.*.{os.getpid()}.*"
        for pattern in (*STARTED_FILES, opened_here):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)
        remove_empty(self.preflight)
        hydra = self.folder / ".hydra"
        # What else a command has written, such as pictures, keeps the configuration that it was made with.
        if all(path == hydra for path in self.folder.glob("*")):
            for path in hydra.glob("*.yaml"):
                path.unlink(missing_ok=True)
            remove_empty(hydra)
        remove_empty(self.folder)


def resume_command(folder: Path, *arguments: str, python: str = "python") -> str:
    """Returns the command line that continues a run.

    Args:
        folder: of the run.
        arguments, python: further ones, and the program; see `gan_lab.core.command_line.command`.
    """
    return command("train.py", setting("resume", folder), *arguments, python=python)


def in_folder(text: str, folder: Path) -> str:
    """Returns a text with commands that can be pasted, for a run in this folder; see `THIS_RUN`."""
    return text.replace(THIS_RUN, setting("run", folder)).replace(RESUME_THIS, setting("resume", folder))


def refuse_other_format(path: Path, config: Mapping[Any, Any]) -> None:
    """Refuses the configuration of a run that another version of gan_lab wrote.

    Args:
        path: of the config.yaml.
        config: what it holds.

    Raises:
        LabError: naming both versions.
    """
    number = config.get("format")
    if number == FORMAT and not isinstance(number, bool):
        return
    author = "gan_lab 0.1, which wrote no format number"
    if "format" in config:
        author = f"another version of gan_lab, which wrote format {printable(str(number))[:20]}"
    raise LabError(
        f"{path} is of {author}; this is gan_lab {__version__}, which reads format {FORMAT} only.",
        code="format",
        key="format",
    )


def refuse_other_encoding(folder: Path) -> None:
    """Refuses a folder whose path isn't UTF-8, as names from old archives aren't: TensorBoard can't write there.

    Raises:
        LabError: with the path, its other bytes escaped.
    """
    path = os.path.abspath(folder)
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LabError(
            f"{printable(path)} is no UTF-8.", "Rename that folder.", code="unsupported", key=folder.name
        ) from error


def refuse_links(folder: Path) -> None:
    """Refuses a run's or a sweep's folder in which writing would lead somewhere else.

    Args:
        folder: of a run or a sweep, perhaps of a stranger. Each of `RUN_SUBFOLDERS` in it may not be a link, and each
            of `APPENDED_FILES` has to be a regular file.

    Raises:
        LabError: naming the first link or pipe.
    """
    for name in (*RUN_SUBFOLDERS, *APPENDED_FILES):
        path = folder / name
        is_no_file = name in APPENDED_FILES and path.exists() and not path.is_file()
        if path.is_symlink() or is_no_file:
            raise LabError(
                f"{path} is a link or a pipe: writing into it would overwrite something elsewhere.",
                "Put the folder or file itself there, or remove it.",
                code="invalid",
                key=name,
            )


def _read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds a dict; {} if there is none.

    Raises:
        LabError: if it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(content, dict):
        raise _damaged(path, f"it holds no {path.stem}")
    return content


def _damaged(path: Path, reason: str) -> LabError:
    return LabError(f"{path} is damaged: {reason}.", code="damaged", key=path.name)


def _exists(path: Path) -> bool:
    """Returns whether a file exists; unlike `Path.is_file`, it raises if the system can't tell."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def identity(folder: Path) -> tuple[int, int] | None:
    """Returns what tells a folder from another one of the same name; None if there is none."""
    try:
        about = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return about.st_dev, about.st_ino


def remove_empty(folder: Path) -> None:
    """Removes a folder, and its parents up to outputs/, as far as they are empty. What lies above belongs to others."""
    with suppress(OSError, ValueError):
        folder.rmdir()
        outputs = Path.cwd() / OUTPUTS
        for parent in folder.absolute().relative_to(outputs).parents:
            (outputs / parent).rmdir()
