"""Where logged numbers go: `metrics.csv` and TensorBoard."""

from pathlib import Path
from typing import Any

import pandas as pd
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.tensorboard.summary import hparams

from gan_lab.gan import RECORDED
from gan_lab.runs import Run, atomic


class MetricsTable(Logger):
    """Writes `metrics.csv`: a row per logged step, a column per metric; no clock times: equal runs give equal files.

    The file is replaced as a whole, so that it is never half-written. A resumed run goes on with the rows before its
    first new one.
    """

    def __init__(self, run: Run):
        super().__init__()
        self.path: Path = run.metrics
        self._rows: dict[int, dict[str, float]] = {}
        self._kept: dict[int, dict[str, float]] = {}
        if self.path.is_file():
            table = pd.read_csv(self.path)
            self._kept = table.set_index("step").to_dict("index")  # type: ignore[assignment]

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        if self._kept:
            self._rows = {s: row for s, row in self._kept.items() if s < step}
            self._kept = {}
        self._rows.setdefault(step, {}).update(metrics)

    @rank_zero_only
    def save(self) -> None:
        if self._rows:
            table = pd.DataFrame.from_dict(self._rows, orient="index")
            with atomic(self.path) as path:
                table.to_csv(path, index_label="step", float_format="%.7g")

    def finalize(self, status: str) -> None:
        self.save()

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Not for a table."""


class TensorBoard(TensorBoardLogger):
    """Event files in the run folder itself. A resumed run's new file takes over from its checkpoint's step."""

    def __init__(self, run: Run):
        purge = {"purge_step": run.load_checkpoint()["gan_lab"]["step"] + 1} if run.checkpoint.is_file() else {}
        super().__init__(run.folder, name="", version="", default_hp_metric=False, **purge)
        self._run, self._resumed = run, bool(purge)

    @rank_zero_only
    def save(self) -> None:
        """No hparams.yaml beside config.yaml, which says all."""
        self.experiment.flush()

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any], *_: Any, **__: Any) -> None:  # type: ignore[override]
        """The settings, for the HPARAMS tab, whose columns show the last values of losses and scores; the whole
        configuration as text."""
        if self._resumed:
            return
        plain = {key: value if isinstance(value, (bool, int, float)) else str(value) for key, value in params.items()}
        for summary in hparams(plain, dict.fromkeys(RECORDED, 0.0)):
            self.experiment._get_file_writer().add_summary(summary)
        self.experiment.add_text("config", f"```yaml\n{self._run.config.read_text(encoding='utf-8')}\n```")
