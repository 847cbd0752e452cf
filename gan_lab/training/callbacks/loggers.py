"""Where logged numbers go: `metrics.csv` and TensorBoard."""

import io
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import hparams

from gan_lab.core.csv_table import csv_cell, step_table_text
from gan_lab.core.errors import LabError
from gan_lab.core.io import MAX_TABLE, read_bytes, read_text
from gan_lab.core.run_folder import RemovedError, Run
from gan_lab.core.terminal import escape_texts, printable
from gan_lab.evaluation.metrics.registry import METRICS, shown_in
from gan_lab.training import resume_state
from gan_lab.training.step_log import RECORDED

if TYPE_CHECKING:
    import pandas as pd


# TensorBoard sorts charts by their names, and opens the groups before the first slash in that order: loss, metric,
# samples, score. What a run ends with besides its chief metrics comes last.
METRIC = "metric/"
FURTHER_METRIC = "verdict/"
# The first columns of the HPARAMS tab, of which it shows few: settings, and metrics.
SETTINGS = ("dataset", "loss", "activation", "norm", "optim", "remedy", "seed")
CHIEF_METRICS = ("modes_valid", "coverage", "variety_within", "coverage_within")


def tag_of(column: str) -> str:
    """Returns the name of a chart in TensorBoard for a column of metrics.csv."""
    name = column.removeprefix(METRIC)
    # The user's own metrics are chief ones.
    if name == column or name not in METRICS or "terminal" in METRICS[name].shown:
        return printable(column)
    return f"{FURTHER_METRIC}{name}"


def read_table(path: Path) -> "pd.DataFrame":
    """Reads a run's metrics.csv: a column `step` of int, and columns of float.

    Raises:
        LabError: if it is damaged.
    """
    # Only a resumed run reads a table.
    import pandas as pd

    try:
        table = pd.read_csv(io.BytesIO(read_bytes(path, MAX_TABLE)), dtype=float)
        if not isinstance(table.index, pd.RangeIndex):
            raise ValueError("its rows are longer than its header")
        steps = table["step"]
        if steps.isna().any() or (steps % 1 != 0).any() or not steps.is_monotonic_increasing or not steps.is_unique:
            raise ValueError("its steps are not rising whole numbers")
        return table.astype({"step": int})
    except (ValueError, LookupError, OverflowError) as error:  # pandas' own errors are ValueErrors
        raise LabError(
            f"{path} is damaged: {error}.",
            "Move it away to continue without the rows so far.",
            code="damaged",
            key=path.name,
        ) from error


class MetricsTable(Logger):
    """Writes `metrics.csv`: a row per logged step, a column per metric. It has no clock times: equal runs give equal
    files.

    The file is replaced as a whole, so that it is never half-written. A resumed run continues the rows up to its
    checkpoint.

    Attributes:
        rows: the values by step and column.
    """

    def __init__(self, run: Run):
        super().__init__()
        self.run = run
        self.path: Path = run.metrics
        self.rows: dict[int, dict[str, float]] = {}
        if self.path.is_file() and run.whole_checkpoint():
            step = run.load_checkpoint()[resume_state.KEY]["step"]
            table = read_table(self.path).set_index("step").loc[:step]
            self.rows = cast(dict[int, dict[str, float]], table.to_dict("index"))

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        # Named as in the file that a resumed run reads.
        row = {csv_cell(name): value for name, value in metrics.items()}
        self.rows.setdefault(step, {}).update(row)

    @rank_zero_only
    def save(self) -> None:
        if self.rows:
            with self.run.atomic(self.path) as path:
                path.write_text(step_table_text(self.rows), encoding="utf-8", newline="")

    def finalize(self, status: str) -> None:
        self.save()

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Does nothing: settings have no place in a table of steps."""


def is_of_one_member(column: str) -> bool:
    """Tells whether a column is of one of several replicas, such as `metric/modes/3`."""
    return column.rpartition("/")[2].isdecimal()


def silence_writer_thread() -> None:
    """Lets errors in TensorBoard's writing thread be reported once: the next write raises them again here."""
    report = threading.excepthook

    def report_others(error: threading.ExceptHookArgs) -> None:
        if not type(error.thread).__module__.startswith("tensorboard."):
            report(error)

    threading.excepthook = report_others


class TensorBoard(TensorBoardLogger):
    """Writes event files into the run folder itself. The new file of a resumed run continues from its checkpoint."""

    def __init__(self, run: Run):
        self._run = run
        self._resumed = run.whole_checkpoint() is not None
        options: dict[str, Any] = {"default_hp_metric": False}
        if self._resumed:
            # TensorBoard drops the events of earlier files from this step on.
            options["purge_step"] = run.load_checkpoint()[resume_state.KEY]["step"] + 1
        super().__init__(run.folder, name="", version="", **options)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Writes a row as one event, because each event wakes the writing thread and makes training wait for it.

        With replicas it writes the means only; a curve for each member would hide the others.
        """
        values = []
        for name, value in metrics.items():
            if not is_of_one_member(name):
                values.append(Summary.Value(tag=tag_of(name), simple_value=value))
        self.experiment._get_file_writer().add_summary(Summary(value=values), step)

    @rank_zero_only
    def save(self) -> None:
        """Writes what is buffered. Lightning would also write a hparams.yaml, which repeats config.yaml."""
        self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        try:
            self._run.refuse_if_removed()
        except RemovedError:
            # TensorBoard would write what is buffered into a new file in whatever has taken the folder's place.
            return
        super().finalize(status)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Writes the settings that may vary for the HPARAMS tab, which shows them next to the last values of metrics,
        losses and scores, and the whole configuration as text.

        These are the parts of a GAN and what the command line names: in a sweep, all that is swept. The tab has no
        room for all.
        """
        if self._resumed:
            return
        named = [argument.partition("=")[0].lstrip("+~") for argument in self._run.overrides()]
        plain = {}
        for key in [*SETTINGS, *(key for key in params if key not in SETTINGS and key in named)]:
            if key in params:
                value = params[key]
                plain[key] = value if isinstance(value, (bool, int, float)) else str(value)
        shown = [metric.name for metric in shown_in("hparams")]
        metrics = [*CHIEF_METRICS, *(name for name in shown if name not in CHIEF_METRICS)]
        # A column stays blank if the run has no metric of that name.
        columns = [*(tag_of(f"{METRIC}{name}") for name in metrics), *RECORDED]
        for summary in hparams(escape_texts(plain), dict.fromkeys(columns, 0.0)):
            self.experiment._get_file_writer().add_summary(summary)
        config = printable(read_text(self._run.config), lines=True)
        self.experiment.add_text("config", f"```yaml\n{config}\n```")
