"""Where logged numbers go: `metrics.csv` and TensorBoard."""

import io
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import hparams

from gan_lab.core.csv_table import csv_cell, csv_text
from gan_lab.core.errors import LabError
from gan_lab.core.io import MAX_TABLE, atomic, read_bytes, read_text
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import escape_texts, printable
from gan_lab.evaluation.metrics.registry import shown_in
from gan_lab.training.step_log import RECORDED


def read_table(path: Path) -> pd.DataFrame:
    """A run's metrics.csv: column `step`, and floats.

    Raises:
        LabError: if it is damaged.
    """
    try:
        table = pd.read_csv(io.BytesIO(read_bytes(path, MAX_TABLE)), dtype=float)
        if not isinstance(table.index, pd.RangeIndex):
            raise ValueError("its rows are longer than its header")
        steps = table["step"]
        if steps.isna().any() or (steps % 1 != 0).any() or not steps.is_monotonic_increasing or not steps.is_unique:
            raise ValueError("its steps are no rising whole numbers")
        return table.astype({"step": int})
    except (ValueError, LookupError, OverflowError) as error:  # pandas' own errors are ValueErrors
        raise LabError(f"{path} is damaged: {error}.", "Move it away to go on without the rows so far.") from error


class MetricsTable(Logger):
    """Writes `metrics.csv`: a row per logged step, a column per metric; no clock times: equal runs give equal files.

    The file is replaced as a whole, so that it is never half-written. A resumed run goes on with the rows up to its
    checkpoint.
    """

    def __init__(self, run: Run):
        super().__init__()
        self.path: Path = run.metrics
        self._rows: dict[int, dict[str, float]] = {}
        if self.path.is_file() and run.whole_checkpoint():
            rows = read_table(self.path).set_index("step").loc[: run.load_checkpoint()["gan_lab"]["step"]]
            self._rows = rows.to_dict("index")  # type: ignore[assignment]

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        row = {
            csv_cell(name): value for name, value in metrics.items()
        }  # named as in the file that a resumed run reads
        self._rows.setdefault(step, {}).update(row)

    @rank_zero_only
    def save(self) -> None:
        if self._rows:
            table = pd.DataFrame.from_dict(self._rows, orient="index")
            with atomic(self.path) as path:
                path.write_text(csv_text(table, "step", "%.7g"), encoding="utf-8", newline="")

    def finalize(self, status: str) -> None:
        self.save()

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Not for a table."""


def silence_writer_thread() -> None:
    """Lets errors in TensorBoard's writing thread be reported once: the next write raises them again here."""
    report = threading.excepthook

    def report_others(error: threading.ExceptHookArgs) -> None:
        if not type(error.thread).__module__.startswith("tensorboard."):
            report(error)

    threading.excepthook = report_others


class TensorBoard(TensorBoardLogger):
    """Event files in the run folder itself. A resumed run's new file takes over from its checkpoint's step."""

    def __init__(self, run: Run):
        resumed = run.whole_checkpoint() is not None
        purge = {"purge_step": run.load_checkpoint()["gan_lab"]["step"] + 1} if resumed else {}
        super().__init__(run.folder, name="", version="", default_hp_metric=False, **purge)
        self._run, self._resumed = run, resumed

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """A row as one event: each wakes the thread that writes, which training then waits for. Of replicas the mean: a
        curve for each would bury the others."""
        shown = {name: value for name, value in metrics.items() if not name.rpartition("/")[2].isdecimal()}
        values = [Summary.Value(tag=printable(name), simple_value=value) for name, value in shown.items()]
        self.experiment._get_file_writer().add_summary(Summary(value=values), step)

    @rank_zero_only
    def save(self) -> None:
        """No hparams.yaml beside config.yaml, which says all."""
        self.experiment.flush()

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any], *_: Any, **__: Any) -> None:  # type: ignore[override]
        """The settings, for the HPARAMS tab, whose columns show the last values of losses, scores and metrics; the
        whole configuration as text."""
        if self._resumed:
            return
        plain = {key: value if isinstance(value, (bool, int, float)) else str(value) for key, value in params.items()}
        metrics = [f"metric/{metric.name}" for metric in shown_in("hparams")]  # blank where a run has none of that name
        for summary in hparams(escape_texts(plain), dict.fromkeys((*RECORDED, *metrics), 0.0)):
            self.experiment._get_file_writer().add_summary(summary)
        config = printable(read_text(self._run.config), lines=True)
        self.experiment.add_text("config", f"```yaml\n{config}\n```")
