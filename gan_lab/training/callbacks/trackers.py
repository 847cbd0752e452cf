"""Programs that keep the runs of many projects, with curves, settings, pictures and verdicts: W&B, MLflow, Trackio.

Where they keep them, and as whom, is for their own variables of the environment to say (`WANDB_MODE=offline`,
`MLFLOW_TRACKING_URI`, `TRACKIO_DIR`), never for a configuration, which may come from a stranger.
"""

import json
import logging
import re
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image
from pytorch_lightning.loggers import Logger, MLFlowLogger

from gan_lab.core.errors import LabError
from gan_lab.core.io import MAX_YAML, read_text
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import printable, say
from gan_lab.training.callbacks.loggers import is_of_one_member

# What these programs call a run: nothing else is taken for one.
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")

# Numbers that MLflow takes at once.
MLFLOW_BATCH = 1_000


class Tracker(Logger):
    """Sends a run to such a program: rows of metrics.csv, settings, pictures, and how the run ended.

    With replicas it sends the means only. A run that is resumed continues the run of the program, whose name is kept in
    `trackers.json`. If the program fails during the training, this is said once, and the training goes on without it.

    Attributes:
        package: what has to be installed; also the option's name.
        advice: what a user can do if the program can't be reached.
    """

    package = ""
    advice = ""

    def __init__(self, run: Run):
        super().__init__()
        self._run = run
        self._has_failed = False
        self._sent: set[Path] = set()
        if find_spec(self.package) is None:
            raise LabError(
                f"logger={self.package} needs {self.package}: pip install {self.package}", code="missing", key="logger"
            )
        stored = self._stored_ids().get(self.package)
        try:
            tracked_id = self._connect(stored)
        except Exception as error:  # errors of many types, among them those of its web client
            raise LabError(
                f"logger={self.package}: {_in_one_line(error)}", self.advice, code="unsupported", key="logger"
            ) from error
        if tracked_id != stored:
            self._store_id(tracked_id)

    @property
    def name(self) -> str:
        return self.package

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Sends the settings."""
        self._try(lambda: self._send_settings(dict(params)))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Sends a row of metrics.csv, without the columns of single members."""
        assert step is not None
        row = {printable(name): value for name, value in metrics.items() if not is_of_one_member(name)}
        self._try(lambda: self._send_row(row, step))

    def log_picture(self, name: str, picture: Path, step: int) -> None:
        """Sends a PNG file."""
        self._sent.add(picture)
        self._try(lambda: self._send_picture(name, picture, step))

    def finalize(self, status: str) -> None:
        """Does nothing: the verdict comes after Lightning's end; see `end`."""

    def end(self, summary: Mapping[str, Any]) -> None:
        """Sends what the run folder holds at the end: the plots, the film and the verdict; then closes the run.

        Args:
            summary: what summary.json holds.
        """
        step = summary["steps"]
        for picture in sorted(self._run.plots.glob("*.png")):
            if picture not in self._sent:
                self.log_picture(picture.stem, picture, step)
        if self._run.film.is_file():
            self._try(lambda: self._send_film(self._run.film, step))
        self._try(lambda: self._send_end(summary))

    def _try(self, send: Callable[[], None]) -> None:
        if self._has_failed:
            return
        try:
            send()
        except Exception as error:  # see __init__
            self._has_failed = True
            say(f"logger={self.package} has failed and gets nothing more of this run: {_in_one_line(error)}", True)

    def _stored_ids(self) -> dict[str, str]:
        """Returns what the programs call this run, by package."""
        try:
            ids = json.loads(read_text(self._run.trackers, MAX_YAML))
        except (OSError, ValueError, LabError, RecursionError):
            return {}
        if not isinstance(ids, dict):
            return {}
        return {name: value for name, value in ids.items() if isinstance(value, str) and _ID.fullmatch(value)}

    def _store_id(self, tracked_id: str) -> None:
        ids = {**self._stored_ids(), self.package: tracked_id}
        with self._run.atomic(self._run.trackers) as path:
            path.write_text(json.dumps(ids), encoding="utf-8")

    def _connect(self, stored: str | None) -> str:
        """Starts a run of the program, or continues the stored one, and returns what the program calls it."""
        raise NotImplementedError

    def _send_settings(self, settings: dict[str, Any]) -> None:
        raise NotImplementedError

    def _send_row(self, row: dict[str, float], step: int) -> None:
        raise NotImplementedError

    def _send_picture(self, name: str, picture: Path, step: int) -> None:
        raise NotImplementedError

    def _send_film(self, film: Path, step: int) -> None:
        raise NotImplementedError

    def _send_end(self, summary: Mapping[str, Any]) -> None:
        raise NotImplementedError


def end_trackers(loggers: Sequence[Logger], summary: Mapping[str, Any]) -> None:
    """Ends those of the loggers that are trackers; see `Tracker.end`."""
    for logger in loggers:
        if isinstance(logger, Tracker):
            logger.end(summary)


def _in_one_line(error: BaseException) -> str:
    """Returns the first line of an error, `printable`, at most 300 characters of it in whole words."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return textwrap.shorten(printable(lines[0]), 300, placeholder=" …")


def _words(summary: Mapping[str, Any]) -> dict[str, str]:
    """Returns the words of the verdict, and how the run ended."""
    words = {"status": str(summary["status"])}
    for name, word in summary.get("verdict", {}).items():
        if isinstance(word, str):
            words[f"verdict/{name}"] = word
    return words


def _results(summary: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics at the end, named as in metrics.csv."""
    results = {}
    for name, value in summary.get("metrics", {}).items():
        if isinstance(value, int | float):
            results[f"metric/{name}"] = float(value)
    return results


class WeightsAndBiases(Tracker):
    """Sends a run to Weights & Biases (https://wandb.ai); `WANDB_MODE=offline` keeps it on this machine.

    Args:
        project: the project that it belongs to.
    """

    package = "wandb"
    advice = "WANDB_MODE=offline keeps the run on this machine; wandb sync sends it later."

    def __init__(self, run: Run, project: str):
        self._project = project
        super().__init__(run)

    def _connect(self, stored: str | None) -> str:
        import wandb

        # The terminal stays gan_lab's, and a run of the user's own, in a notebook for example, goes on beside it.
        settings = wandb.Settings(console="off", quiet=True, reinit="create_new")
        self._tracked: Any = wandb.init(
            project=self._project, name=self._run.folder.name, id=stored, resume="allow", settings=settings
        )
        self._tracked.define_metric("step")
        self._tracked.define_metric("*", step_metric="step", step_sync=True)
        return self._tracked.id

    def _send_settings(self, settings: dict[str, Any]) -> None:
        self._tracked.config.update(settings, allow_val_change=True)

    def _send_row(self, row: dict[str, float], step: int) -> None:
        self._tracked.log({**row, "step": step})

    def _send_picture(self, name: str, picture: Path, step: int) -> None:
        import wandb

        self._tracked.log({name: wandb.Image(str(picture)), "step": step})

    def _send_film(self, film: Path, step: int) -> None:
        import wandb

        self._tracked.log({film.stem: wandb.Video(str(film), format="gif"), "step": step})

    def _send_end(self, summary: Mapping[str, Any]) -> None:
        self._tracked.summary.update({**_words(summary), **_results(summary)})
        self._tracked.finish(exit_code=0 if summary["status"] == "finished" else 1)


class MLflow(Tracker):
    """Sends a run to MLflow (https://mlflow.org) by Lightning's logger, to where `MLFLOW_TRACKING_URI` says.

    Without that variable it is what MLflow takes: `mlflow.db` and `mlruns/` in the current folder.

    Args:
        project: the experiment of MLflow that it belongs to.
    """

    package = "mlflow"
    advice = "Where runs are kept: MLFLOW_TRACKING_URI=sqlite:///mlflow.db, for example."

    def __init__(self, run: Run, project: str):
        self._project = project
        # A write to its store takes milliseconds: rows are sent together.
        self._waiting: list[Any] = []
        super().__init__(run)

    def _connect(self, stored: str | None) -> str:
        import mlflow

        # They report each table of a new store, and the new experiment.
        for name in ("alembic", "mlflow", "pytorch_lightning.loggers.mlflow"):
            logging.getLogger(name).setLevel(logging.ERROR)
        uri = mlflow.get_tracking_uri()
        if stored is not None and not self._is_there(uri, stored):
            stored = None
        self._is_continued = stored is not None
        self._logger = MLFlowLogger(self._project, self._run.folder.name, uri, run_id=stored)
        self._client: Any = self._logger.experiment
        run_id = str(self._logger.run_id)
        if self._is_continued:
            self._client.update_run(run_id, status="RUNNING")
        return run_id

    @staticmethod
    def _is_there(uri: str, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        try:
            MlflowClient(uri).get_run(run_id)
        except MlflowException:
            return False
        return True

    def _send_settings(self, settings: dict[str, Any]) -> None:
        # MLflow refuses to change those of a run.
        if not self._is_continued:
            self._logger.log_hyperparams(settings)

    def _send_row(self, row: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for name, value in row.items():
            self._waiting.append(Metric(_mlflow_name(name), value, now, step))
        if len(self._waiting) >= MLFLOW_BATCH:
            self._send_waiting()

    def _send_waiting(self) -> None:
        for start in range(0, len(self._waiting), MLFLOW_BATCH):
            self._client.log_batch(self._logger.run_id, metrics=self._waiting[start : start + MLFLOW_BATCH])
        self._waiting = []

    def _send_picture(self, name: str, picture: Path, step: int) -> None:
        self._send_waiting()
        with Image.open(picture) as image:
            self._client.log_image(self._logger.run_id, image, key=_mlflow_name(name), step=step)

    def _send_film(self, film: Path, step: int) -> None:
        self._client.log_artifact(self._logger.run_id, str(film))

    def _send_end(self, summary: Mapping[str, Any]) -> None:
        run_id = self._logger.run_id
        if summary["status"] != "finished":
            # A training that has its last row has these already.
            self._send_row(_results(summary), summary["steps"])
        self._send_waiting()
        words = _words(summary)
        for name, word in words.items():
            self._client.set_tag(run_id, name, word)
        # Shown as the run's description.
        self._client.set_tag(run_id, "mlflow.note.content", words.get("verdict/sentence", ""))
        status = {"finished": "FINISHED", "interrupted": "KILLED"}.get(summary["status"], "FAILED")
        self._client.set_terminated(run_id, status)


def _mlflow_name(name: str) -> str:
    """Leaves out the characters that MLflow refuses in a name."""
    return re.sub(r"[^\w/. -]", "", name, flags=re.ASCII)


class Trackio(Tracker):
    """Sends a run to Trackio (https://github.com/gradio-app/trackio), which keeps it in a folder of this machine.

    Its variables of the environment can name another folder or a server; `trackio show` shows the runs.

    Args:
        project: the project that it belongs to.
    """

    package = "trackio"
    advice = "TRACKIO_DIR names the folder where runs are kept."

    def __init__(self, run: Run, project: str):
        self._project = project
        super().__init__(run)

    def _connect(self, stored: str | None) -> str:
        import trackio

        # The folder's name may be that of another run, too.
        name = stored or re.sub(r"[^\w.-]", "_", f"{self._run.folder.name}_{time.time_ns():x}", flags=re.ASCII)
        resume = "never" if stored is None else "allow"
        self._tracked: Any = trackio.init(
            self._project, name, resume=resume, embed=False, auto_log_gpu=False, auto_log_cpu=False
        )
        return name

    def _send_settings(self, settings: dict[str, Any]) -> None:
        # Trackio stores them with the first row.
        self._tracked.config.update(settings)

    def _send_row(self, row: dict[str, float], step: int) -> None:
        self._tracked.log(row, step)

    def _send_picture(self, name: str, picture: Path, step: int) -> None:
        import trackio

        self._tracked.log({name: trackio.Image(picture)}, step)

    def _send_film(self, film: Path, step: int) -> None:
        import trackio

        self._tracked.log({film.stem: trackio.Image(film)}, step)

    def _send_end(self, summary: Mapping[str, Any]) -> None:
        import trackio

        lines = [f"- {name}: {word}" for name, word in _words(summary).items()]
        lines += [f"- {name}: {value:.6g}" for name, value in _results(summary).items()]
        self._tracked.log({"verdict": trackio.Markdown("\n".join(lines))}, summary["steps"])
        # Unlike the run's own method, it isn't called again at the end of the process.
        trackio.finish()
